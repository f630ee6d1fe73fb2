//! One workspace's part of a pass: the feed into leaves, merges, timers; then the slices of `backlog` and `compute`.

mod backlog;
mod compute;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;

use kith_features::{EventFacts, FeatureName, LeafId, Value};
use kith_model::change::{Change, Identified};
use kith_model::event::Event;
use kith_model::id::{Position, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::keys::PersonRow;
use kith_store::{Key, Operation, ReadError};
use quick_cache::unsync::Cache;

use super::models;
use super::state::{self, Evaluation, Person, ProfileState};
use crate::people_scan::ProfilePages;
use crate::plan::Plan;
use crate::profiles::facts::{each_row, record_event};
use crate::rows::{self, Derived, ModelVersion};
use crate::setup::Setup;
use crate::shared::{Shared, WorkspaceShared};
use backlog::Backlog;
use compute::shown;

/// Source identities whose rows are kept decoded.
const CACHED: usize = 200_000;

/// Rows of people that one pass takes on beside the feed, so that live events never wait long. A person has two or three.
const SLICE_ROWS: usize = 16_384;

/// Timers that one pass takes on: each is a profile to compute.
const SLICE_TIMERS: usize = 4096;

/// A profile whose model could not run for a passing reason is looked at again after this long.
const RETRY_MS: i64 = 60_000;

/// What has been computed for everybody; a row, so that a restart goes on from it.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Ready {
    leaves: BTreeSet<LeafId>,
    tokens: BTreeSet<u64>,
    audiences: BTreeSet<kith_model::id::AudienceId>,
}

rows::rows! {
    Ready: "the list of what is ready", React, 1;
}

/// Why a profile is looked at.
#[derive(Debug, Clone, Copy, Default)]
struct Touch {
    cause: Position,
    retry: bool,
}

/// What a pass would change.
#[derive(Default)]
struct Pass {
    people: HashMap<SourceIdentityId, (Person, bool)>,
    touched: BTreeMap<ProfileId, Touch>,
    gone: Vec<u32>,
    index: Vec<(u32, FeatureName, Value)>,
    profiles: Vec<(u32, ProfileId)>,
    values: HashMap<ProfileId, Shown>,
    versions: Vec<ModelVersion>,
    ready: Option<Ready>,
    backlog: Option<Option<Backlog>>,
    looked: u64,
}

/// The values that the index shows of a profile, by feature.
type Shown = Vec<(FeatureName, Value)>;

pub(super) struct WorkspaceReactor {
    shared: Arc<Shared>,
    id: WorkspaceId,
    known: Arc<WorkspaceShared>,
    plan: Arc<Plan>,
    setup: Arc<Setup>,
    ready: Ready,
    backlog: Option<Backlog>,
    looked: u64,
    now: Timestamp,
    people: Cache<SourceIdentityId, Person>,
    shown: Cache<ProfileId, Shown>,
    pass: Pass,
}

impl WorkspaceReactor {
    /// Read what was computed before, and build the index from it.
    pub(super) fn open(
        shared: Arc<Shared>,
        id: WorkspaceId,
        known: Arc<WorkspaceShared>,
    ) -> Result<WorkspaceReactor, ReadError> {
        let row = shared.store.get(&[Key::progress(id, "ready")])?.pop().flatten();
        let ready: Ready = row.map_or(Ok(Ready::default()), |row| rows::decode("the list of what is ready", &row))?;
        let mut versions = Vec::new();
        each_row(
            shared.store.as_ref(),
            &Key::definitions(id, kith_store::keys::Definition::ModelVersion),
            |_, value| {
                versions.push(Arc::new(rows::decode::<ModelVersion>("a model version", value)?));
                Ok(())
            },
        )?;
        *known.versions.write() = versions;
        known.computed.write().clone_from(&ready.audiences);
        let mut reactor = WorkspaceReactor {
            plan: known.plan.load_full(),
            setup: known.setup.load_full(),
            shared,
            id,
            known,
            ready,
            backlog: None,
            looked: 0,
            now: Timestamp(0),
            people: Cache::new(CACHED),
            shown: Cache::new(CACHED),
            pass: Pass::default(),
        };
        reactor.build_index()?;
        reactor.reconcile();
        Ok(reactor)
    }

    /// Read all profiles into the index, with a thread for each processor: a start waits for this.
    fn build_index(&mut self) -> Result<(), ReadError> {
        let now = self.shared.clock.now();
        let (plan, setup, ready) = (&*self.plan, &*self.setup, &self.ready);
        let view = Evaluation { plan, zone: &setup.zone, now };
        let mut index = kith_features::index::Index::new();
        let mut ordinals = Vec::new();
        plan.program.leaves().filter(|leaf| ready.leaves.contains(&leaf.id())).for_each(|leaf| index.track(leaf));
        let threads = std::thread::available_parallelism().map_or(1, usize::from);
        std::thread::scope(|scope| {
            let (sender, pages) = sync_channel(4 * threads);
            for mut walk in ProfilePages::parts(&self.shared.store, self.id, threads) {
                let (sender, view) = (sender.clone(), &view);
                scope.spawn(move || {
                    while let Some(page) = walk.next_page(view).transpose() {
                        let row = |profile: ProfileState| (profile.ordinal, profile.id, shown(&profile, plan, ready));
                        let page = page.map(|profiles| profiles.into_iter().map(row).collect::<Vec<_>>());
                        // The receiver is gone after another thread's error.
                        if sender.send(page).is_err() {
                            return;
                        }
                    }
                });
            }
            drop(sender);
            for page in pages {
                for (ordinal, profile, values) in page? {
                    note_ordinal(&mut ordinals, ordinal, profile);
                    for (feature, value) in &values {
                        index.set(ordinal, feature, value);
                    }
                }
            }
            Ok::<(), ReadError>(())
        })?;
        *self.known.index.write() = index;
        *self.known.ordinals.write() = ordinals;
        Ok(())
    }

    /// Compare what the plan needs with what is ready, and begin what is missing.
    fn reconcile(&mut self) {
        let wanted: BTreeSet<LeafId> = self.plan.program.leaves().map(|leaf| leaf.id()).collect();
        // State of a leaf that nobody needs is no longer kept up, so it is not ready if it is wanted again.
        let mut index = self.known.index.write();
        let unwanted: Vec<LeafId> = self.ready.leaves.difference(&wanted).copied().collect();
        for leaf in unwanted {
            self.ready.leaves.remove(&leaf);
            index.forget(&FeatureName::Leaf(leaf));
        }
        drop(index);
        self.ready.audiences.retain(|audience| self.plan.audience_ids().contains(audience));
        let missing: BTreeSet<LeafId> = wanted.difference(&self.ready.leaves).copied().collect();
        let start = Key::people(self.id);
        self.looked = 0;
        self.backlog = if !missing.is_empty() {
            Some(Backlog::Leaves { leaves: missing, next: start })
        } else if self.ready.tokens != self.plan.tokens() {
            Some(Backlog::Profiles { next: start })
        } else {
            None
        };
        *self.known.computed.write() = self.ready.audiences.clone();
        self.show_backlog();
        self.known.pending_plan(false);
    }

    fn show_backlog(&self) {
        let population = self.known.ordinals.read().iter().flatten().count() as u64;
        *self.known.backlog.write() = self.backlog.as_ref().map(|_| (self.looked.min(population), population));
    }

    /// One pass over `changes`, all up to `cursor`; whether anything was done. What it would write is added to `operations`;
    /// [`WorkspaceReactor::committed`] or [`WorkspaceReactor::forget_pass`] must follow.
    pub(super) fn pass(
        &mut self,
        changes: &[(Position, Change)],
        cursor: Position,
        operations: &mut Vec<Operation>,
    ) -> Result<bool, ReadError> {
        let plan = self.known.plan.load_full();
        if !Arc::ptr_eq(&plan, &self.plan) {
            self.plan = plan;
            self.setup = self.known.setup.load_full();
            self.reconcile();
        }
        // A clock that is set back does not take the leaves back with it.
        let now = self.shared.clock.now().max(self.now);
        self.now = now;
        for (position, change) in changes {
            match change {
                Change::Recorded(event) => self.event(*position, event, now)?,
                Change::Identified(identified) => self.identified(*position, identified, operations)?,
                Change::Membership { .. } => {}
            }
        }
        self.timers(now, cursor, operations)?;
        self.continue_backlog(cursor, operations)?;
        let touched: Vec<(ProfileId, Touch)> = std::mem::take(&mut self.pass.touched).into_iter().collect();
        for slice in touched.chunks(models::MAX_BATCH_ROWS) {
            self.compute(slice, now, operations)?;
        }
        self.write_people(operations);
        Ok(!touched.is_empty() || self.pass.backlog.is_some() || !changes.is_empty())
    }

    /// The pass is durable: show it.
    pub(super) fn committed(&mut self) {
        let pass = std::mem::take(&mut self.pass);
        for (identity, (person, _)) in pass.people {
            self.people.insert(identity, person);
        }
        for (profile, values) in pass.values {
            self.shown.insert(profile, values);
        }
        if !pass.index.is_empty() || !pass.gone.is_empty() || !pass.profiles.is_empty() {
            let mut index = self.known.index.write();
            let mut ordinals = self.known.ordinals.write();
            for ordinal in pass.gone {
                index.clear_ordinal(ordinal);
                if let Some(gone) = ordinals.get_mut(ordinal as usize) {
                    *gone = None;
                }
            }
            for (ordinal, profile) in pass.profiles {
                note_ordinal(&mut ordinals, ordinal, profile);
            }
            for (ordinal, feature, value) in &pass.index {
                index.set(*ordinal, feature, value);
            }
        }
        self.known.versions.write().extend(pass.versions.into_iter().map(Arc::new));
        if let Some(ready) = pass.ready {
            let mut index = self.known.index.write();
            let now_kept = self.plan.program.leaves().filter(|leaf| ready.leaves.contains(&leaf.id()));
            now_kept.for_each(|leaf| index.track(leaf));
            drop(index);
            self.ready = ready;
            *self.known.computed.write() = self.ready.audiences.clone();
        }
        self.looked += pass.looked;
        if let Some(backlog) = pass.backlog {
            self.backlog = backlog;
            self.show_backlog();
        }
    }

    /// The pass was not committed: drop it, and read again what it had in hand.
    pub(super) fn forget_pass(&mut self) {
        self.pass = Pass::default();
    }

    /// A source identity, for changing.
    fn person(&mut self, identity: SourceIdentityId) -> Result<&mut (Person, bool), ReadError> {
        if !self.pass.people.contains_key(&identity) {
            let person = match self.people.remove(&identity) {
                Some((_, person)) => person,
                None => state::read_identity(self.shared.store.as_ref(), self.id, identity)?.ok_or_else(|| {
                    ReadError::Corrupt {
                        what: format!("source identity {identity}"),
                        problem: "the log names it, but it has no rows".into(),
                    }
                })?,
            };
            self.pass.people.insert(identity, (person, false));
        }
        Ok(self.pass.people.get_mut(&identity).expect("it was put there above"))
    }

    /// Whether live events count for the leaf on this identity: not while its history is still to be read.
    fn is_live(ready: &Ready, backlog: Option<&Backlog>, key: &Key, leaf: LeafId) -> bool {
        ready.leaves.contains(&leaf)
            || matches!(backlog, Some(Backlog::Leaves { leaves, next }) if leaves.contains(&leaf) && key < next)
    }

    fn event(&mut self, position: Position, event: &Event, now: Timestamp) -> Result<(), ReadError> {
        let plan = Arc::clone(&self.plan);
        let zone = self.setup.zone.clone();
        let ready = std::mem::take(&mut self.ready);
        let backlog = self.backlog.take();
        let key = Key::person(self.id, event.identity, PersonRow::Head);
        let source = plan.source_names.get(&event.source).map_or("", String::as_str);
        let facts = EventFacts::new(event, source);
        let looked = self.person(event.identity).map(|(person, dirty)| {
            record_event(&mut person.contribution, event);
            for leaf in plan.program.leaves_for(&event.name) {
                if Self::is_live(&ready, backlog.as_ref(), &key, leaf.id()) {
                    *dirty |= leaf.apply(person.kept.leaves.entry(leaf.id()).or_default(), &facts, now, &zone);
                }
            }
            person.head.profile
        });
        self.ready = ready;
        self.backlog = backlog;
        self.touch(looked?, position);
        Ok(())
    }

    fn touch(&mut self, profile: ProfileId, cause: Position) {
        let touch = self.pass.touched.entry(profile).or_default();
        touch.cause = touch.cause.max(cause);
    }

    /// Profiles were merged or parted: read their members anew.
    fn identified(
        &mut self,
        position: Position,
        identified: &Identified,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        for (profile, members) in &identified.profiles {
            for member in members {
                let fresh = state::read_identity(self.shared.store.as_ref(), self.id, *member)?;
                let (person, _) = self.person(*member)?;
                if let Some(fresh) = fresh {
                    person.head = fresh.head;
                }
            }
            self.touch(*profile, position);
        }
        for (gone, kept) in &identified.gone {
            self.pass.touched.remove(gone);
            self.shown.remove(gone);
            let (person, dirty) = self.person(gone.0)?;
            let old = std::mem::take(&mut person.kept.derived);
            *dirty |= old != Derived::default();
            if let Some(timer) = old.timer {
                operations.push(Operation::Delete(Key::timer(self.id, timer, gone.0)));
            }
            let ordinals = self.known.ordinals.read();
            self.pass.gone.extend(old.ordinal.filter(|ordinal| {
                ordinals.get(*ordinal as usize).is_some_and(|known| known.is_none_or(|known| known == *gone))
            }));
            drop(ordinals);
            // Who was in an audience stays in it: the merge itself must not send a message again.
            let (person, dirty) = self.person(kept.0)?;
            // Noted here: the computation goes on from this state, and sees no change of its own.
            *dirty |= !old.memberships.is_empty();
            for (audience, membership) in old.memberships {
                person.kept.derived.memberships.entry(audience).or_insert(membership);
            }
            self.touch(*kept, position);
        }
        Ok(())
    }

    /// Profiles for which time has come.
    fn timers(&mut self, now: Timestamp, cursor: Position, operations: &mut Vec<Operation>) -> Result<(), ReadError> {
        let timers = Key::timers(self.id);
        let mut range = timers.range();
        range.to = Key::timer(self.id, now.plus_ms(1), SourceIdentityId([0; 16]));
        let page = self.shared.store.scan(&range, SLICE_TIMERS)?;
        for (key, _) in page.rows {
            if let Some(Ok(identity)) = key.strip(&timers).and_then(|rest| rest.get(8..)).map(<[u8; 16]>::try_from) {
                let profile = ProfileId(SourceIdentityId(identity));
                if self.is_profile(profile)? {
                    self.touch(profile, cursor);
                }
            }
            operations.push(Operation::Delete(key));
        }
        Ok(())
    }

    fn is_profile(&mut self, profile: ProfileId) -> Result<bool, ReadError> {
        let (person, _) = self.person(profile.0)?;
        Ok(person.head.root.is_some())
    }

    fn write_people(&mut self, operations: &mut Vec<Operation>) {
        for (identity, (person, dirty)) in &mut self.pass.people {
            if *dirty {
                let key = Key::person(self.id, *identity, PersonRow::Kept);
                operations.push(Operation::Put(key, rows::encode(&person.kept)));
                *dirty = false;
            }
        }
    }
}

fn note_ordinal(ordinals: &mut Vec<Option<ProfileId>>, ordinal: u32, profile: ProfileId) {
    let ordinal = ordinal as usize;
    if ordinals.len() <= ordinal {
        ordinals.resize(ordinal + 1, None);
    }
    ordinals[ordinal] = Some(profile);
}
