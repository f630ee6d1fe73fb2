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
    pub on_enter: Option<EnterAction>,
    pub created_at: Timestamp,
}

/// A message for each profile that enters an audience.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EnterAction {
    /// The channel's installation.
    pub channel: InstallationId,
    /// What the message is for; the person's consent is kept per purpose, e.g. `marketing`.
    pub purpose: String,
    pub basis: ConsentBasis,
    /// What the message says, a JSON object as text.
    pub payload: String,
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
