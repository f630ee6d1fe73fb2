//! Audiences: a condition over features and the set of profiles that meet it.

use serde::{Deserialize, Serialize};

use crate::id::{AudienceId, InstallationId, Name, Position};
use crate::time::Timestamp;

/// A defined audience.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Audience {
    pub id: AudienceId,
    pub name: Name,
    pub title: String,
    /// A CEL expression over features that yields true or false.
    pub condition: String,
    /// What is done for each profile that enters.
    pub on_enter: Option<Action>,
    /// What is done for each profile that leaves.
    #[serde(default)]
    pub on_exit: Option<Action>,
    /// Whether it has or ever had one of the two: from then on entries are counted, because they name messages. An audience that
    /// was kept before this was noted may have had.
    #[serde(default = "maybe")]
    pub has_acted: bool,
    pub created_at: Timestamp,
    /// How often writing to existing members was asked for without another condition. Each time the definition counts as a new
    /// one, because its members are written to when it has been computed.
    #[serde(default)]
    pub waves: u32,
}

impl Audience {
    /// Whether entries into it are counted.
    pub fn counts_entries(&self) -> bool {
        self.has_acted || self.on_enter.is_some() || self.on_exit.is_some()
    }
}

fn maybe() -> bool {
    true
}

/// A message for each profile that enters or leaves an audience.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Action {
    /// The channel's installation.
    pub channel: InstallationId,
    /// What the message is for; the person's consent is kept per purpose, e.g. `marketing`.
    pub purpose: String,
    pub basis: ConsentBasis,
    /// What the message says, a JSON object as text; its texts are templates over the channel's declared inputs.
    pub payload: String,
    /// Whether a person who comes back is written to again.
    #[serde(default)]
    pub re_entry: ReEntry,
    /// Whether those who are members when the definition was first computed are written to.
    #[serde(default)]
    pub existing: Reach,
    /// Whether those who move because of imported history are written to.
    #[serde(default)]
    pub imports: Reach,
}

/// Whether an action fires again for a person for whom it has fired before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ReEntry {
    Never,
    #[default]
    Always,
    /// Only when the last entry that fired is at least so many milliseconds ago.
    After(i64),
}

/// Whether an action reaches a group of people that it leaves out unless asked.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reach {
    #[default]
    Skip,
    Send,
}

/// What set a change of membership off.
///
/// Declared from the one that fires actions to the one that never does: of several causes the last one counts, because a
/// message that should not be sent cannot be taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cause {
    /// A person's own event.
    #[default]
    Event,
    /// Time passed.
    Time,
    /// Imported history.
    Import,
    /// Two profiles became one.
    Merge,
    /// A profile was parted, an objection to profiling was taken back, or what a version of a plugin wrote.
    Undo,
    /// A definition, a plugin version, a fit, a configuration or an activity changed.
    Change,
    /// Derived rows were computed again from the log.
    Rebuild,
}

impl Cause {
    /// Of two causes the one that counts: the later, but that an undo stays one whatever changes meanwhile. A change may send to
    /// those who were there before, an undo to nobody.
    #[must_use]
    pub fn and(self, other: Cause) -> Cause {
        match (self, other) {
            (Cause::Undo, Cause::Change) | (Cause::Change, Cause::Undo) => Cause::Undo,
            _ => self.max(other),
        }
    }
}

/// What a person must have said before a message of a purpose is sent. A refusal always forbids it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentBasis {
    /// The person agreed to the purpose.
    OptIn,
    /// The person did not refuse the purpose.
    NotRefused,
}

/// A profile's membership.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    pub since: Timestamp,
    /// The log position of the event that brought the profile in; the newest seen where only time passed.
    pub cause: Position,
}
