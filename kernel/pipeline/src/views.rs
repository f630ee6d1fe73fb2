//! What the pipeline answers: results and read views in plain types. The server turns them into API bodies.

use std::collections::{BTreeMap, BTreeSet};

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use kith_features::{Part, Truth};
use kith_model::audience::Membership;
use kith_model::change::Movement;
use kith_model::consent::Consents;
use kith_model::delivery::DeliveryState;
use kith_model::event::{RecordedEvent, RejectedRecord};
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Edge, Identifier, Veto};
use kith_model::profile::{FoldedTrait, Score, Tag};
use kith_model::time::Timestamp;

mod letters;
mod rules;

pub use crate::accept::quality::SourceCounts;
pub use crate::questions::profile::LeftOut;
pub use crate::react::seen::{Kind, Kinds, NameUsage};
pub use crate::shared::Failing;
pub use letters::{
    DeadLetter, Edit, FailedPerson, LetterCount, LetterCounts, LetterFilter, LetterKind, ListedLetter, RecordLetter,
    Replay,
};
pub use rules::{DryRun, RuleChange, RuleEffect, RuleExample, RuleProgress, Split};

/// What became of one submitted event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    Accepted,
    /// Another message with the same id came before, and this one takes its place.
    Corrected,
    /// The same message came before; nothing changed.
    Duplicate,
    /// A different message with the same id came before; this one was kept aside.
    Conflict {
        message_id: String,
    },
    /// It cannot be an event; it was kept aside.
    Rejected(RejectedRecord),
    /// A rule of the workspace drops it; nothing of it is kept.
    Dropped,
}

/// What became of a request or a file, or of a piece of one.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Acceptance {
    /// Events that are new.
    pub accepted: u64,
    /// What came before as it is.
    pub duplicate: u64,
    /// Events that took the place of others with the same id.
    pub corrected: u64,
    /// Events that a rule of the workspace dropped.
    pub dropped: u64,
    /// How many of the rejected had the id of another message.
    pub conflict: u64,
    /// What was kept aside, with its place in the input. At most [`crate::MAX_REPORTED_REJECTIONS`]; `rejected_count` counts all.
    pub rejected: Vec<RejectedRecord>,
    pub rejected_count: u64,
    /// Pieces of evidence about who is who that came new and join nobody.
    pub not_followed: u64,
    /// Values that were sent as identifiers and name nobody. Their events were taken.
    pub identifiers_left_out: u64,
    /// How many of the accepted ones have a flag, by its code: those of [`kith_model::flag`], and `other`.
    pub flagged: BTreeMap<&'static str, u64>,
    /// The log's head when all of it was durable.
    pub position: Position,
}

impl Acceptance {
    /// Count an event by its flags, each code once.
    pub(crate) fn flag(&mut self, flags: &[String]) {
        let codes: BTreeSet<&'static str> = flags.iter().map(|flag| kith_model::flag::counted(flag)).collect();
        self.add_flagged(codes.into_iter().map(|code| (code, 1)));
    }

    /// Add counts of another part.
    pub(crate) fn add_flagged(&mut self, counts: impl IntoIterator<Item = (&'static str, u64)>) {
        for (code, count) in counts {
            *self.flagged.entry(code).or_default() += count;
        }
    }

    /// Count in what a part brought; of rejected records as many are listed as find room.
    pub(crate) fn add(&mut self, part: Acceptance, most_listed: usize) {
        self.accepted += part.accepted;
        self.duplicate += part.duplicate;
        self.corrected += part.corrected;
        self.conflict += part.conflict;
        self.dropped += part.dropped;
        self.rejected_count += part.rejected_count;
        self.not_followed += part.not_followed;
        self.identifiers_left_out += part.identifiers_left_out;
        self.add_flagged(part.flagged);
        let room = most_listed.saturating_sub(self.rejected.len());
        self.rejected.extend(part.rejected.into_iter().take(room));
    }

    /// The same without what an earlier state of it tells of; the list stays whole.
    #[must_use]
    pub fn since(&self, before: &Acceptance) -> Acceptance {
        Acceptance {
            accepted: self.accepted.saturating_sub(before.accepted),
            duplicate: self.duplicate.saturating_sub(before.duplicate),
            corrected: self.corrected.saturating_sub(before.corrected),
            conflict: self.conflict.saturating_sub(before.conflict),
            dropped: self.dropped.saturating_sub(before.dropped),
            rejected_count: self.rejected_count.saturating_sub(before.rejected_count),
            not_followed: self.not_followed.saturating_sub(before.not_followed),
            identifiers_left_out: self.identifiers_left_out.saturating_sub(before.identifiers_left_out),
            rejected: self.rejected.clone(),
            flagged: (self.flagged.iter())
                .map(|(code, count)| (*code, count.saturating_sub(before.flagged.get(code).copied().unwrap_or(0))))
                .filter(|(_, count)| *count > 0)
                .collect(),
            position: self.position,
        }
    }

    /// How many records it tells of.
    pub fn records(&self) -> u64 {
        self.accepted + self.duplicate + self.corrected + self.dropped + self.rejected_count
    }
}

/// How far an import with a name has come.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ImportState {
    /// Bytes of the file, unpacked, that are taken and durable.
    pub bytes: u64,
    /// What came of them.
    pub acceptance: Acceptance,
}

/// A profile with everything on it and where it came from.
#[derive(Debug, Clone)]
pub struct ProfileView {
    pub id: ProfileId,
    pub created_at: Timestamp,
    pub members: Vec<(SourceIdentityId, Identifier)>,
    /// What each member said of what the person may be written to for, of those who said anything; a refusal of any of them
    /// decides, unless the user id agreed afterwards.
    pub consents: Vec<(SourceIdentityId, Consents)>,
    /// Evidence about its members that joins nobody to it; some at most.
    pub not_followed: Vec<NotFollowed>,
    /// Whether there may be more of it, which the list of the workspace has.
    pub has_more_not_followed: bool,
    pub traits: BTreeMap<String, FoldedTrait>,
    pub tags: BTreeMap<String, Tag>,
    pub scores: BTreeMap<String, Score>,
    pub audiences: BTreeMap<AudienceId, Membership>,
    /// The log position up to which tags, scores and audiences are computed.
    pub as_of: Position,
    /// What had no room of the parts that have no end of their own.
    pub left_out: Vec<LeftOut>,
}

/// A piece of evidence with the identifiers of its ends, the lower identity first, and whose they are now.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EvidenceView {
    pub edge: Edge,
    pub identifiers: [Identifier; 2],
    pub profiles: [ProfileId; 2],
}

/// Evidence that joins nobody, and by which rule.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NotFollowed {
    pub evidence: EvidenceView,
    pub veto: Veto,
}

/// Why somebody is in an audience or not.
#[derive(Debug, Clone, PartialEq)]
pub struct AudienceExplanation {
    /// Whoever refuses to be profiled is in no audience, whatever its condition says.
    pub refuses_profiling: bool,
    pub condition: Part,
}

impl AudienceExplanation {
    /// Whether the person belongs in the audience; `None` while that hangs on a pending value.
    pub fn holds(&self) -> Option<bool> {
        match self.condition.truth {
            _ if self.refuses_profiling => Some(false),
            Truth::Unknown => None,
            truth => Some(truth == Truth::True),
        }
    }
}

/// Two parts of a profile that a piece of evidence made one. Each is named by its oldest member.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct MergeView {
    pub winner: ProfileId,
    pub loser: ProfileId,
    pub evidence: EvidenceView,
}

/// A step of the way of evidence between two identifiers.
#[derive(Debug, Clone)]
pub struct Step {
    pub evidence: EvidenceView,
    /// The event that gave it; `None` for what a rule or a person gave.
    pub event: Option<RecordedEvent>,
}

/// The way of evidence between two identifiers, as far as an answer has room.
#[derive(Debug, Clone)]
pub struct Way {
    pub steps: Vec<Step>,
    /// Where the rest of it begins; `None` where this is all.
    pub next: Option<Identifier>,
}

/// One page of a profile's events, newest first.
#[derive(Debug, Clone)]
pub struct EventPage {
    pub events: Vec<RecordedEvent>,
    /// Opaque; hand it in to get the next page.
    pub next: Option<String>,
}

/// The size of a condition's set.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Count {
    pub count: u64,
    /// People of whom it is not known yet.
    pub pending: u64,
    pub population: u64,
    /// Whether `count` is the whole truth for `as_of`: nothing is pending, and nothing that it reads is being recomputed.
    pub exact: bool,
    /// Whether all that had come when it was asked is in it: `as_of` is behind none of it, and the work does not fail.
    pub current: bool,
    /// The log position and the time that the count was taken for.
    pub as_of: Position,
    pub as_of_time: Timestamp,
}

/// An audience's present state.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AudienceStatus {
    /// `None` while it is being computed for the first time as it is defined now.
    pub size: Option<u64>,
    /// People of whom it is not known yet whether they belong to it; until then they stay where they are. `None` where the
    /// index cannot tell, and nobody is looked at for it.
    pub pending: Option<u64>,
    /// Present while the condition passes its budget for somebody.
    pub fault: Option<ConditionFault>,
    /// Present while it is being computed.
    pub progress: Option<AudienceProgress>,
    /// The log position and the time that the size is exact for.
    pub as_of: Position,
    pub as_of_time: Timestamp,
}

/// How far the computation of an audience has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct AudienceProgress {
    /// Profiles looked at.
    pub done: u64,
    pub total: u64,
}

/// A condition that passes its budget for people, who stay where they are until it, or they, change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ConditionFault {
    pub since: Timestamp,
    pub people: u64,
    /// One of them: the last who came, while that is one. `None` where the person cannot be read.
    pub example: Option<ProfileId>,
}

/// What a name is of.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum NameKind {
    Event,
    Property,
    Trait,
    Tag,
    Score,
}

/// A name that came, or that a plugin writes.
#[derive(Debug, Clone, PartialEq)]
pub struct CatalogEntry {
    pub kind: NameKind,
    pub name: String,
    /// Of a property: the events that have it.
    pub event: Option<String>,
    /// How it came; `None` of what plugins write, and of what came before names were counted.
    pub seen: Option<NameUsage>,
    /// How many people have a value of it; `None` of events and their properties, and where it is not known.
    pub people: Option<u64>,
    /// Its values in JSON, with how many events brought each, or how many people have it: the most frequent first.
    pub values: Vec<(String, u64)>,
    pub has_many_values: bool,
}

impl CatalogEntry {
    pub(crate) fn seen(kind: NameKind, name: &str, event: Option<&str>, seen: &NameUsage) -> CatalogEntry {
        let mut values: Vec<(String, u64)> = seen.values.iter().map(|(value, count)| (value.clone(), *count)).collect();
        values.sort_by(|(one, of_one), (other, of_other)| of_other.cmp(of_one).then_with(|| one.cmp(other)));
        CatalogEntry {
            kind,
            name: name.to_owned(),
            event: event.map(str::to_owned),
            seen: Some(seen.clone()),
            people: None,
            values,
            has_many_values: seen.has_many_values,
        }
    }

    /// Its place in a list: events, each with its properties behind it, then traits, tags and scores.
    pub fn place(&self) -> (NameKind, &str, &str) {
        match (self.kind, &self.event) {
            (_, Some(event)) => (NameKind::Event, event, &self.name),
            (kind, None) => (kind, &self.name, ""),
        }
    }
}

/// All names of a workspace.
#[derive(Debug, Clone, PartialEq)]
pub struct Catalog {
    pub entries: Vec<CatalogEntry>,
    /// How often a name came for which there was no room.
    pub others: u64,
    pub as_of: Position,
}

/// The people for whom the version of a model in use has no answer: it fails on them, and their older values count.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct UncomputedPeople {
    pub people: u64,
    /// Since when there are any.
    pub since: Timestamp,
    /// The last fault, and when it was.
    pub last_at: Timestamp,
    pub code: String,
    pub message: String,
}

/// What the removal of an installation would take away.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Removal {
    /// People who hold values of it.
    pub people: u64,
    /// Audiences whose condition reads these values.
    pub audiences: Vec<AudienceId>,
}

/// Whether a workspace's computing gets on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Health {
    pub workspace: WorkspaceId,
    /// Present when the same work has failed again.
    pub failing: Option<Failing>,
}

/// One page of an audience's members.
#[derive(Debug, Clone)]
pub struct MemberPage {
    pub members: Vec<ProfileId>,
    pub next: Option<String>,
}

/// A delivery as it stands.
#[derive(Debug, Clone, PartialEq)]
pub struct DeliveryView {
    pub id: String,
    pub channel: InstallationId,
    pub audience: AudienceId,
    /// Whether it is for who entered the audience, or for who left it.
    pub movement: Movement,
    pub profile: ProfileId,
    pub purpose: String,
    pub payload: String,
    pub created_at: Timestamp,
    pub state: DeliveryState,
}

/// Which deliveries a list holds: those that meet all that is given.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct DeliveryFilter {
    pub channels: Option<BTreeSet<InstallationId>>,
    pub audiences: Option<BTreeSet<AudienceId>>,
    /// All names that one person's profile has had.
    pub profiles: Option<BTreeSet<ProfileId>>,
    /// One of [`DeliveryState::NAMES`].
    pub state: Option<&'static str>,
}

/// Whether a receiving host is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum HostState {
    /// It is.
    Closed,
    /// It failed too often and is left alone for a while.
    Open,
    /// One request tries it out.
    HalfOpen,
}

/// A host that a channel sends to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostView {
    pub channel: InstallationId,
    /// With its port.
    pub host: String,
    /// Requests on their way.
    pub under_way: u64,
    pub state: HostState,
    /// Failures in a row.
    pub failures: u32,
    /// Nothing is sent to it before this moment.
    pub paused_until: Option<Timestamp>,
    /// Why nothing is.
    pub reason: Option<String>,
}

/// Which page of a list is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct PageRequest<'c> {
    /// How many items it has at most.
    pub limit: usize,
    /// The `next` of the page before; `None` for the first.
    pub cursor: Option<&'c str>,
}

impl PageRequest<'_> {
    /// The first page.
    pub fn first(limit: usize) -> PageRequest<'static> {
        PageRequest { limit, cursor: None }
    }
}

/// One page of deliveries or of what was kept aside.
#[derive(Debug, Clone)]
pub struct ListPage<T> {
    pub items: Vec<T>,
    pub next: Option<String>,
}

/// How far the work behind the log has come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    pub head: Position,
    /// Up to where features, tags, scores and audiences are computed.
    pub reacted: Position,
    /// Profiles that wait for a first computation of something new in the setup.
    pub backlog: u64,
}

/// A delivery's id as text.
pub(crate) fn delivery_id(id: &[u8; 16]) -> String {
    format!("msg_{}", HEXLOWER.encode(id))
}

/// The delivery that a text names; `None` where it is no such name.
pub(crate) fn delivery_of(text: &str) -> Option<[u8; 16]> {
    let bytes = HEXLOWER_PERMISSIVE.decode(text.strip_prefix("msg_")?.as_bytes()).ok()?;
    bytes.try_into().ok()
}

/// What a workspace holds.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Totals {
    pub profiles: u64,
    pub identifiers: u64,
    pub events: u64,
    /// Tag values over all profiles, nulls left out; the same for scores.
    pub tags: u64,
    pub scores: u64,
    pub delivered: u64,
    pub pending: u64,
    pub skipped: u64,
    pub dead: u64,
    /// Records and computations kept aside.
    pub set_aside: u64,
}
