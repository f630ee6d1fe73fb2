//! The change feed: what the log holds, in commit order.

use serde::{Deserialize, Serialize};

use crate::audience::Cause;
use crate::event::Event;
use crate::id::{AudienceId, Position, ProfileId, SourceIdentityId};
use crate::time::Timestamp;

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// An event was accepted.
    Recorded(Event),
    /// Profiles were merged or parted.
    Identified(IdentityChange),
    /// A profile entered or left an audience.
    Membership { audience: AudienceId, profile: ProfileId, movement: Movement, cause: Cause, at: Timestamp },
    /// A correction took the place of an event, which is no longer part of anybody's history.
    Superseded(SupersededEvent),
    /// An event was taken back with all that a version of its connector read; it is no longer part of anybody's history, and
    /// nothing of that is news.
    TakenBack(SupersededEvent),
    /// An event is part of its person's history again, where it was recorded: the correction that had taken its place was taken
    /// back. Nothing of that is news.
    Returned(SupersededEvent),
}

/// An event that is no longer part of anybody's history: a correction took its place, which is an event of its own, later in the
/// same commit, or it was taken back. Or one that was, and is again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SupersededEvent {
    /// Where the event was recorded.
    pub position: Position,
    pub event: Event,
}

/// Which way a profile moved.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Movement {
    Entered,
    Left,
}

/// Who belongs to which profile after a commit, for every profile that the commit changed. A source identity that is in no
/// such record is a profile of its own.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityChange {
    /// Profile → its members, sorted, for each profile whose members after the commit differ from those before, and for each
    /// that is new and has no event in the commit.
    pub profiles: Vec<(ProfileId, Vec<SourceIdentityId>)>,
    /// Profiles that were before and are no more, with the one that holds their identity now.
    pub gone: Vec<(ProfileId, ProfileId)>,
}
