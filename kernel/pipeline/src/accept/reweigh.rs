//! A change of the identity rules, applied to history in bounded slices: what was tied under the earlier rules is tied as if
//! the new ones had always held.
//!
//! 1. **Weigh** each identity: of its stored evidence goes what the rules no longer give, and the rest is counted again.
//! 2. **Replay** the log: each event offers the evidence that the rules give, what the earlier ones had left out among it.
//! 3. **Settle** each profile: it is partitioned with all that its evidence connects.
//!
//! The new rules are in force from the beginning, so that what comes meanwhile is tied by them; the replay reads what came until
//! it begins.
//! Nobody is parted or joined before the third step, when all evidence is as it has to be. A slice is one commit with the place
//! where the next begins, so that a kill costs one slice. The steps are the same for a change and for its dry run, which
//! commits nothing.
//!
//! Where only identifiers that tie nobody were added or taken back, they alone are looked at, in one slice.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::change::Change;
use kith_model::event::{Event, EventKind};
use kith_model::flag;
use kith_model::id::{Position, SourceIdentityId, WorkspaceId};
use kith_model::identity::{
    ANONYMOUS_ID, AliasRule, EdgeId, Evidence, FORMS, Identifier, IdentityRules, PREVIOUS_ID, USER_ID,
};
use kith_model::profile::believed;
use kith_store::row::{Owner, Row, read_postcard};
use kith_store::{ChangeLimits, CommitError, Key, KeyRange, Operation, ReadError, Store, row};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_128;

use super::moment;
use super::named::{self, EventIdentifier};
use super::people::{EvidenceOutcome, Link, People};
use super::unit::Workspace;

mod before;
mod turns;

/// Most rows of people that one slice of the first step reads: the lane does a slice between two groups of events.
const PEOPLE_ROWS: usize = if cfg!(test) { 7 } else { 256 };

/// Most records of the log that one slice of the second step reads.
const LOG: ChangeLimits = ChangeLimits { records: if cfg!(test) { 3 } else { 256 }, bytes: 1 << 20 };

/// A slice of the third step ends when so many rows wait to be written.
const CHANGED_ROWS: usize = if cfg!(test) { 9 } else { 1_000 };

/// More identifiers that begin or cease to tie than this are looked at with everybody.
const FEW: usize = 64;

/// Where a change of rules stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Phase {
    /// History is tied by the rules.
    Done,
    /// These alone are looked at.
    Few(Vec<SourceIdentityId>),
    /// The first step; the key of people where it goes on.
    Weigh(Vec<u8>),
    /// The second step: the position up to which the log was read, and the one where it ends. What comes later is tied by the new
    /// rules to what has been weighed by them, so that a busy workspace does not put the end off.
    Replay { after: Position, until: Position },
    /// The third step, as the first.
    Settle(Vec<u8>),
}

/// What a change has looked at so far.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReweighTotals {
    pub weighed: u64,
    pub events: u64,
    pub settled: u64,
    /// Identities with too much evidence around them to be partitioned; they stay as they were.
    pub too_connected: u64,
    /// Identities and events with a row that cannot be read.
    pub unreadable: u64,
}

/// Whether the store has [`AppliedRules`] as the lane has them.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum RulesDurability {
    Yes,
    /// With the unit under way it does.
    WithUnit,
    No,
}

/// By which rules a workspace's history is tied.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct AppliedRules {
    /// [`digest`] of the rules.
    pub digest: [u8; 16],
    pub phase: Phase,
    /// Whether evidence is looked at with the event that gave it, because who of its identifiers is the strongest may have changed.
    pub looks_at_events: bool,
    pub looked: ReweighTotals,
    /// Whose profiles are not yet as their evidence has them: their turn comes later.
    pub put_off: BTreeSet<SourceIdentityId>,
}

impl Row for AppliedRules {
    const WHAT: &'static str = "the identity rules that history is tied by";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 3;

    fn before(version: u8, body: &[u8]) -> Option<Result<AppliedRules, String>> {
        match version {
            1 => Some(read_postcard::<before::AppliedRules>(body).map(AppliedRules::from)),
            2 => Some(read_postcard::<before::WithoutPutOff>(body).map(AppliedRules::from)),
            _ => None,
        }
    }
}

/// What stands for rules and for the code that reads them.
pub(crate) fn digest(rules: &IdentityRules) -> [u8; 16] {
    let mut text = serde_json::to_vec(rules).unwrap_or_default();
    text.extend_from_slice(&FORMS.to_be_bytes());
    xxh3_128(&text).to_be_bytes()
}

/// By which rules history is tied, as stored.
pub(crate) fn applied(store: &dyn Store, workspace: WorkspaceId) -> Result<Option<AppliedRules>, ReadError> {
    store.get(&[Key::applied_rules(workspace)])?.pop().flatten().map(|value| row::decode(&value)).transpose()
}

/// Whether events name the same people by both rules, and the same one of them as the strongest.
fn names_alike(before: &IdentityRules, after: &IdentityRules) -> bool {
    let as_before = IdentityRules {
        limits: before.limits.clone(),
        shared_above: before.shared_above,
        max_members: before.max_members,
        alias: before.alias,
        unfollowed: before.unfollowed.clone(),
        ties_nobody: before.ties_nobody.clone(),
        ..after.clone()
    };
    as_before == *before
}

impl AppliedRules {
    /// History is tied by these rules.
    pub(crate) fn done(rules: &IdentityRules) -> AppliedRules {
        AppliedRules {
            digest: digest(rules),
            phase: Phase::Done,
            looks_at_events: true,
            looked: ReweighTotals::default(),
            put_off: BTreeSet::new(),
        }
    }

    /// All is to be looked at.
    pub(crate) fn all(workspace: WorkspaceId, rules: &IdentityRules) -> AppliedRules {
        let from = Key::people(workspace).range().from.as_bytes().to_vec();
        AppliedRules { phase: Phase::Weigh(from), ..AppliedRules::done(rules) }
    }

    /// What is to be looked at where rules took the place of others by which all was tied.
    pub(crate) fn change(
        people: &mut People,
        workspace: WorkspaceId,
        before: &IdentityRules,
        after: &IdentityRules,
    ) -> Result<AppliedRules, ReadError> {
        let all = AppliedRules::all(workspace, after);
        let same_but_untied = IdentityRules { ties_nobody: after.ties_nobody.clone(), ..before.clone() };
        let differing: BTreeSet<&String> = before.ties_nobody.symmetric_difference(&after.ties_nobody).collect();
        if same_but_untied != *after || differing.len() > FEW {
            return Ok(AppliedRules { looks_at_events: !names_alike(before, after), ..all });
        }
        let mut few = Vec::new();
        for text in differing {
            let Some((kind, value)) = text.split_once(':') else { continue };
            if let Some(identity) = people.find(&Identifier::new(kind, value))? {
                few.extend(people.spellings(identity)?);
            }
        }
        Ok(AppliedRules { phase: Phase::Few(few), ..all })
    }

    pub(crate) fn is_done(&self) -> bool {
        self.phase == Phase::Done
    }

    /// One slice. What it changes is pending.
    ///
    /// # Errors
    /// The store cannot be read; a damaged row is counted and left as it is.
    pub(crate) fn step(
        &mut self,
        store: &dyn Store,
        workspace: WorkspaceId,
        people: &mut People,
        rules: &IdentityRules,
    ) -> Result<(), ReadError> {
        match self.phase.clone() {
            Phase::Done => {}
            Phase::Few(few) => {
                for identity in &few {
                    let noted = people.note_standing(*identity, rules);
                    self.taken(people, noted)?;
                }
                for identity in few {
                    let profile = people.current(identity)?.profile;
                    let settled = people.settle(profile.0, rules).map(|followed| self.note(&followed));
                    self.taken(people, settled)?;
                    self.looked.settled += 1;
                }
                self.phase = Phase::Done;
            }
            Phase::Weigh(from) => {
                let looks_at_events = self.looks_at_events;
                let next = self.each(store, workspace, people, from, |_, people, identity| {
                    people.weigh(identity, rules, looks_at_events)
                })?;
                let until = store.head_of(workspace);
                self.phase = next.map_or(Phase::Replay { after: Position(0), until }, Phase::Weigh);
            }
            // A replay that a release before began has no end of its own.
            Phase::Replay { after, until } => {
                let until = until.min(store.head_of(workspace));
                self.replay(store, workspace, people, rules, (after, until))?;
            }
            Phase::Settle(from) => {
                let next = self.each(store, workspace, people, from, |this, people, identity| {
                    let followed = people.settle(identity, rules)?;
                    this.note(&followed);
                    Ok(())
                })?;
                self.phase = next.map_or(Phase::Done, Phase::Settle);
            }
        }
        Ok(())
    }

    /// What became of one identity or event: it is kept, or left as it was where a row of it is damaged.
    fn taken(&mut self, people: &mut People, result: Result<(), ReadError>) -> Result<(), ReadError> {
        match result {
            Ok(()) => people.keep_event(),
            Err(error @ (ReadError::Io { .. } | ReadError::Truncated { .. })) => return Err(error),
            Err(error) => {
                people.forget_event();
                self.looked.unreadable += 1;
                tracing::error!(%error, "a person is left as they are under new identity rules, because a row cannot be read");
            }
        }
        Ok(())
    }

    fn note(&mut self, followed: &EvidenceOutcome) {
        self.looked.too_connected += u64::from(*followed == EvidenceOutcome::TooConnected);
    }

    /// Do something with the identities from a key on; where to go on.
    fn each(
        &mut self,
        store: &dyn Store,
        workspace: WorkspaceId,
        people: &mut People,
        from: Vec<u8>,
        work: impl Fn(&mut AppliedRules, &mut People, SourceIdentityId) -> Result<(), ReadError>,
    ) -> Result<Option<Vec<u8>>, ReadError> {
        let range = KeyRange { from: Key::resumed(&from), to: Key::people(workspace).range().to };
        let page = store.scan(&range, PEOPLE_ROWS)?;
        for (key, _) in page.rows {
            if !matches!(key.as_person(), Some((_, 0))) {
                continue;
            }
            if people.pending() >= CHANGED_ROWS && !people.is_scratch() {
                return Ok(Some(key.as_bytes().to_vec()));
            }
            let Some((identity, _)) = key.as_person() else { continue };
            let done = work(self, people, identity);
            self.taken(people, done)?;
            let looked =
                if matches!(self.phase, Phase::Weigh(_)) { &mut self.looked.weighed } else { &mut self.looked.settled };
            *looked += 1;
        }
        Ok(page.next.map(|next| next.as_bytes().to_vec()))
    }

    fn replay(
        &mut self,
        store: &dyn Store,
        workspace: WorkspaceId,
        people: &mut People,
        rules: &IdentityRules,
        (after, until): (Position, Position),
    ) -> Result<(), ReadError> {
        let changes = store.changes(workspace, after, LOG)?;
        let mut up_to = changes.up_to;
        for record in changes.records {
            if people.pending() >= CHANGED_ROWS && !people.is_scratch() {
                break;
            }
            // A record that cannot be read was set aside by whoever computes from the feed.
            if let Ok(Change::Recorded(event)) = row::decode::<Change>(&record.bytes) {
                let offered = offer(people, &event, rules);
                self.taken(people, offered)?;
                self.looked.events += 1;
            }
            up_to = record.position;
        }
        self.phase = match up_to < until {
            true => Phase::Replay { after: up_to, until },
            false => Phase::Settle(Key::people(workspace).range().from.as_bytes().to_vec()),
        };
        Ok(())
    }
}

/// Offer all evidence that an event gives under these rules.
fn offer(people: &mut People, event: &Event, rules: &IdentityRules) -> Result<(), ReadError> {
    let (named, _) = named::of(event.kind, &event.identifiers, rules);
    let Some(strongest) = named.first() else { return Ok(()) };
    let centre = name(people, strongest, event, rules)?;
    offer_previous(people, centre, strongest, rules)?;
    let evidence = match event.kind {
        EventKind::Alias => Evidence::Alias,
        _ => Evidence::SameEvent,
    };
    let is_bounded = event.flags.iter().any(|flag| flag == flag::EVIDENCE_BOUNDED);
    let time = if is_bounded { moment::bounded_evidence(event.time, event.received_at) } else { event.time };
    for other in &named[1..] {
        let beside = name(people, other, event, rules)?;
        let link = Link {
            one: centre,
            other: beside,
            evidence,
            time: believed(time, event.received_at),
            source: event.source,
            message_id: &event.message_id,
        };
        people.offer(&link, rules)?;
        offer_previous(people, beside, other, rules)?;
    }
    Ok(())
}

/// Tie the old id of an alias to those who have it.
fn offer_previous(
    people: &mut People,
    previous: SourceIdentityId,
    named: &EventIdentifier,
    rules: &IdentityRules,
) -> Result<(), ReadError> {
    if !named.normal.is_previous() {
        return Ok(());
    }
    for kind in [USER_ID, ANONYMOUS_ID] {
        if let Some(known) = people.find(&Identifier::new(kind, named.normal.value.as_str()))? {
            offer_same_id(people, previous, known, kind, rules)?;
        }
    }
    Ok(())
}

/// The identity of an identifier, tied to that of its normal form.
fn name(
    people: &mut People,
    named: &EventIdentifier,
    event: &Event,
    rules: &IdentityRules,
) -> Result<SourceIdentityId, ReadError> {
    let spelled = people.identify(&named.spelled, event.received_at)?;
    follow_alias(people, spelled, &named.spelled, rules)?;
    people.note_standing(spelled, rules)?;
    if named.spelled == named.normal {
        people.note_named(spelled, rules)?;
    }
    if named.spelled != named.normal {
        let normal = people.identify(&named.normal, event.received_at)?;
        follow_alias(people, normal, &named.normal, rules)?;
        people.note_standing(normal, rules)?;
        people.note_named(normal, rules)?;
        people.offer_of_rule(EdgeId::behind(spelled, normal, Evidence::Spelling), rules)?;
    }
    Ok(spelled)
}

/// Where an alias named somebody whom no event had named by the earlier rules, it holds from now on.
fn follow_alias(
    people: &mut People,
    identity: SourceIdentityId,
    identifier: &Identifier,
    rules: &IdentityRules,
) -> Result<(), ReadError> {
    if !matches!(identifier.kind.as_str(), USER_ID | ANONYMOUS_ID) || !people.is_of_event(identity) {
        return Ok(());
    }
    match people.find(&Identifier::new(PREVIOUS_ID, identifier.value.as_str()))? {
        Some(previous) => offer_same_id(people, previous, identity, &identifier.kind, rules),
        None => Ok(()),
    }
}

fn offer_same_id(
    people: &mut People,
    previous: SourceIdentityId,
    known: SourceIdentityId,
    kind: &str,
    rules: &IdentityRules,
) -> Result<(), ReadError> {
    let edge = match (kind, rules.alias) {
        (USER_ID, AliasRule::Refuse) => return Ok(()),
        (USER_ID, AliasRule::Merge) => EdgeId::behind(known, previous, Evidence::SameId),
        _ => EdgeId::behind(previous, known, Evidence::SameId),
    };
    people.offer_of_rule(edge, rules)
}

impl Workspace {
    /// Take over rules that were made durable; history follows.
    pub(super) fn take_rules(&mut self, rules: &IdentityRules) -> Result<(), ReadError> {
        if *rules == self.rules {
            return Ok(());
        }
        let before = std::mem::replace(&mut self.rules, rules.clone());
        let id = self.id();
        // Where it cannot be told what is to be looked at, everything is.
        let changed = match self.applied.is_done() {
            true => AppliedRules::change(&mut self.people, id, &before, &self.rules),
            false => Ok(AppliedRules::all(id, &self.rules)),
        };
        let all = AppliedRules::all(id, &self.rules);
        let (applied, outcome) = changed.map_or_else(|error| (all, Err(error)), |applied| (applied, Ok(())));
        self.applied = applied;
        self.applied_noted = RulesDurability::No;
        outcome
    }

    /// Whether history is not yet tied by the rules in force.
    pub(super) fn has_history_to_tie(&self) -> bool {
        !self.applied.is_done()
    }

    /// Note by which rules history is tied, where no row says so.
    pub(super) fn note_applied(&mut self) -> Option<Operation> {
        if self.people.put_off.take_changed() {
            self.applied_noted = RulesDurability::No;
        }
        if self.applied_noted == RulesDurability::Yes {
            return None;
        }
        self.applied.put_off.clone_from(self.people.put_off.waiting());
        self.applied_noted = RulesDurability::WithUnit;
        Some(Operation::Put(Key::applied_rules(self.id()), row::encode(&self.applied)))
    }

    /// One slice of a change of rules, committed, where there is a change; whether there was. Where it cannot be committed, e.g.
    /// because the disk is full, the next turn that something calls for tries again.
    ///
    /// # Errors
    /// The workspace's state is not known.
    fn tie_history(&mut self, store: &Arc<dyn Store>) -> Result<bool, ReadError> {
        if self.applied.is_done() {
            return Ok(false);
        }
        let before = self.applied.clone();
        if let Err(error) = self.tie_slice(store) {
            tracing::error!(workspace = self.id().0, %error, "history waits to be tied by new identity rules");
            self.applied = before;
            self.forget_people();
            self.committed_in_part()?;
            return Ok(false);
        }
        if self.applied.is_done() {
            tracing::info!(workspace = self.id().0, looked = ?self.applied.looked, "history is tied by the identity rules in force");
        }
        Ok(true)
    }

    fn tie_slice(&mut self, store: &Arc<dyn Store>) -> Result<(), CommitError> {
        let mut applied = self.applied.clone();
        applied.step(store.as_ref(), self.id(), &mut self.people, &self.rules)?;
        self.applied = applied;
        self.applied_noted = RulesDurability::No;
        let unit = self.unit_of_people();
        store.commit(unit)?;
        self.committed();
        Ok(())
    }

    /// Nothing that is pending of people stays.
    fn forget_people(&mut self) {
        self.people.forget_unit();
        self.applied_noted = RulesDurability::No;
    }
}
