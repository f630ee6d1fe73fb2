//! The change feed: what the log holds, in commit order.

use serde::{Deserialize, Serialize};

use crate::event::Event;
use crate::id::{AudienceId, ProfileId, SourceIdentityId};
use crate::identity::{Edge, EdgeId, MustNotLink};
use crate::time::Timestamp;

/// One record of the log.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub enum Change {
    /// An event was accepted.
    Recorded(Event),
    /// Evidence was added, retracted or forbidden, and profiles were recomputed: each of `profiles` now has these members.
    Identified(Identified),
    /// A profile entered or left an audience.
    Membership { audience: AudienceId, profile: ProfileId, entered: bool, at: Timestamp },
}

/// How profiles changed.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Identified {
    pub added: Vec<Edge>,
    pub retracted: Vec<EdgeId>,
    pub forbidden: Vec<MustNotLink>,
    /// Profile → its members after the change, for each profile whose members changed.
    pub profiles: Vec<(ProfileId, Vec<SourceIdentityId>)>,
    /// Profiles that are no more, with the one that holds their identity now.
    pub merged: Vec<(ProfileId, ProfileId)>,
}
