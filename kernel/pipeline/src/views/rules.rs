//! What a change of the identity rules comes to, before and while it is applied.

use kith_model::id::{AudienceId, Position, ProfileId};
use kith_model::identity::Identifier;

/// How far a change has come, or a dry run of one.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct RuleProgress {
    /// `weigh`, `replay`, `settle`, in this order, then `done`; empty before the first.
    pub step: &'static str,
    /// Identifiers whose evidence was looked at.
    pub weighed: u64,
    /// Events whose evidence was offered.
    pub events: u64,
    /// Identifiers whose profile was looked at.
    pub settled: u64,
    /// Identifiers and events that there are.
    pub identifiers: u64,
    pub events_in_all: u64,
    /// Profiles that stay as they are, because too many others hang together with them.
    pub too_connected: u64,
    /// Identifiers and events with a row that cannot be read.
    pub unreadable: u64,
}

/// Whether history is tied by the rules in force.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum RuleChange {
    /// They are in force for what comes, and nothing of history was looked at.
    Waiting,
    Running(RuleProgress),
    Done(RuleProgress),
}

/// People before and after, who are not the same people.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct RuleExample {
    /// The identifiers of each, a few of them.
    pub before: Vec<Vec<Identifier>>,
    pub after: Vec<Vec<Identifier>>,
}

/// What a change of rules would do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct RuleEffect {
    /// The log's position when the dry run began.
    pub as_of: Position,
    /// Whether all numbers hold for that position: nothing came meanwhile.
    pub is_exact: bool,
    /// Whether everything was looked at; else the numbers are those of a part.
    pub is_complete: bool,
    pub people_before: u64,
    pub people_after: u64,
    /// People who would be several.
    pub parted: u64,
    /// People who would be made of several.
    pub joined: u64,
    /// Identifiers that would tie nobody any more, and such as would tie again.
    pub newly_shared: u64,
    pub newly_free: u64,
    /// Identifiers that would name nobody any more, and such as would name somebody.
    pub newly_nobody: u64,
    pub newly_somebody: u64,
    /// Profiles that would stay as they are, because too many others hang together with them.
    pub too_connected: u64,
    pub unreadable: u64,
    /// Of each audience, how many members would be somebody else: people who come apart, are joined, or are no more.
    pub audiences: Vec<(AudienceId, u64)>,
    pub examples: Vec<RuleExample>,
}

/// A dry run of a change of rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DryRun {
    Running(RuleProgress),
    Done(Box<RuleEffect>),
    /// Why there is no answer.
    Failed(String),
}

/// Two identifiers that somebody parted.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Split {
    pub identifiers: [Identifier; 2],
    pub profiles: [ProfileId; 2],
}
