//! One workspace's part of a pass: leaves, timers, backfill, models, audiences.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kith_features::{EventFacts, FeatureName, LeafId, Value};
use kith_model::audience::Membership;
use kith_model::change::{Change, Identified};
use kith_model::delivery::DeliveryState;
use kith_model::event::Event;
use kith_model::id::{Position, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::profile::TraitValue;
use kith_model::time::Timestamp;
use kith_store::keys::PersonRow;
use kith_store::{Key, Operation, ReadError};
use quick_cache::unsync::Cache;
use serde_json::value::RawValue;

use super::models;
use super::state::{self, Evaluation, Person, ProfileFacts, ProfileState};
use crate::accept::people::each_row;
use crate::deliver::outbox;
use crate::plan::{AudiencePlan, Plan};
use crate::rows::{self, Aside, Computed, DeliveryRow, Derived, ModelVersion};
use crate::setup::Setup;
use crate::shared::{Shared, WorkspaceShared};

/// Source identities whose rows are kept decoded.
const CACHED: usize = 200_000;

/// People, profiles or timers that one pass takes on beside the feed, so that live events never wait long.
const SLICE: usize = 2048;

/// A profile whose model could not run for a passing reason is looked at again after this long.
const RETRY_MS: i64 = 60_000;

/// What has been computed for everybody; a row, so that a restart goes on from it.
#[derive(Debug, Clone, Default, PartialEq, serde::Serialize, serde::Deserialize)]
struct Ready {
    leaves: BTreeSet<LeafId>,
    tokens: BTreeSet<u64>,
    audiences: BTreeSet<kith_model::id::AudienceId>,
}

/// The first computation of something new, going over all people in key order.
enum Backlog {
    /// Leaves from history; identities before `next` are done.
    Leaves { leaves: BTreeSet<LeafId>, next: Key },
    /// Every profile, for models and audiences.
    Profiles { next: Key },
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
    derived: HashMap<ProfileId, Derived>,
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

/// The values that the index shows of a profile.
type Shown = HashMap<FeatureName, Value>;

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
    derived: Cache<ProfileId, Derived>,
    pass: Pass,
}

impl WorkspaceReactor {
    /// Read what was computed before, and build the index from it.
    pub(super) fn open(
        shared: Arc<Shared>,
        id: WorkspaceId,
        known: Arc<WorkspaceShared>,
    ) -> Result<WorkspaceReactor, ReadError> {
        let row = shared.store.get(&[Key::cursor(id, "ready")])?.pop().flatten();
        let ready: Ready = row.map_or(Ok(Ready::default()), |row| rows::decode("the list of what is ready", &row))?;
        let mut versions = Vec::new();
        each_row(shared.store.as_ref(), &Key::definitions(id, kith_store::keys::Definition::ModelVersion), |_, value| {
            versions.push(Arc::new(rows::decode::<ModelVersion>("a model version", value)?));
            Ok(())
        })?;
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
            derived: Cache::new(CACHED),
            pass: Pass::default(),
        };
        reactor.build_index()?;
        reactor.reconcile();
        Ok(reactor)
    }

    fn build_index(&mut self) -> Result<(), ReadError> {
        let now = self.shared.clock.now();
        let plan = Arc::clone(&self.plan);
        let setup = Arc::clone(&self.setup);
        let view = Evaluation { plan: &plan, zone: &setup.zone, now };
        let mut index = kith_features::index::Index::new();
        let mut ordinals = Vec::new();
        let ready = self.ready.clone();
        plan.program.leaves().filter(|leaf| ready.leaves.contains(&leaf.id())).for_each(|leaf| index.track(leaf));
        crate::people_scan::each_profile(&self.shared.store, self.id, &view, |profile| {
            note_ordinal(&mut ordinals, profile.ordinal, profile.id);
            for (feature, value) in shown(&profile, &plan, &ready) {
                index.set(profile.ordinal, &feature, &value);
            }
            Ok(())
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
        for (profile, derived) in pass.derived {
            self.derived.insert(profile, derived);
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
            record_traits(person, event);
            for leaf in plan.program.leaves_for(&event.name) {
                if Self::is_live(&ready, backlog.as_ref(), &key, leaf.id()) {
                    *dirty |= leaf.apply(person.leaves.entry(leaf.id()).or_default(), &facts, now, &zone);
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
        for (gone, kept) in &identified.merged {
            self.pass.touched.remove(gone);
            let old = self.take_derived(*gone)?;
            self.pass.derived.remove(gone);
            self.derived.remove(gone);
            self.shown.remove(gone);
            operations.push(Operation::Delete(Key::person(self.id, gone.0, PersonRow::Derived)));
            if let Some(timer) = old.timer {
                operations.push(Operation::Delete(Key::timer(self.id, timer, gone.0)));
            }
            let ordinals = self.known.ordinals.read();
            self.pass.gone.extend(old.ordinal.filter(|ordinal| {
                ordinals.get(*ordinal as usize).is_some_and(|known| known.is_none_or(|known| known == *gone))
            }));
            drop(ordinals);
            // Who was in an audience stays in it: the merge itself must not send a message again.
            let mut new = self.take_derived(*kept)?;
            for (audience, membership) in old.memberships {
                new.memberships.entry(audience).or_insert(membership);
            }
            self.pass.derived.insert(*kept, new);
            self.touch(*kept, position);
        }
        Ok(())
    }

    fn take_derived(&mut self, profile: ProfileId) -> Result<Derived, ReadError> {
        if let Some(derived) = self.pass.derived.get(&profile).or_else(|| self.derived.get(&profile)) {
            return Ok(derived.clone());
        }
        let row = self.shared.store.get(&[Key::person(self.id, profile.0, PersonRow::Derived)])?.pop().flatten();
        row.map_or(Ok(Derived::default()), |row| rows::decode("a profile's derived row", &row))
    }

    /// Profiles for which time has come.
    fn timers(&mut self, now: Timestamp, cursor: Position, operations: &mut Vec<Operation>) -> Result<(), ReadError> {
        let timers = Key::timers(self.id);
        let mut range = timers.range();
        range.to = Key::timer(self.id, now.plus_ms(1), SourceIdentityId([0; 16]));
        let page = self.shared.store.scan(&range, SLICE)?;
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

    /// A slice of the first computation of what is new.
    fn continue_backlog(&mut self, cursor: Position, operations: &mut Vec<Operation>) -> Result<(), ReadError> {
        match self.backlog.take() {
            None => Ok(()),
            Some(Backlog::Leaves { leaves, next }) => {
                let done = self.backfill_leaves(&leaves, &next, cursor);
                self.backlog = Some(Backlog::Leaves { leaves: leaves.clone(), next });
                self.pass.backlog = Some(match done? {
                    Some(next) => Some(Backlog::Leaves { leaves, next }),
                    None => {
                        let mut ready = self.ready.clone();
                        ready.leaves.extend(leaves);
                        self.set_ready(ready, operations);
                        Some(Backlog::Profiles { next: Key::people(self.id) })
                    }
                });
                Ok(())
            }
            Some(Backlog::Profiles { next }) => {
                let done = self.sweep(&next, cursor);
                self.backlog = Some(Backlog::Profiles { next });
                self.pass.backlog = Some(match done? {
                    Some(next) => Some(Backlog::Profiles { next }),
                    None => {
                        let ready = Ready {
                            leaves: self.ready.leaves.clone(),
                            tokens: self.plan.tokens(),
                            audiences: self.plan.audience_ids(),
                        };
                        self.set_ready(ready, operations);
                        None
                    }
                });
                Ok(())
            }
        }
    }

    fn set_ready(&mut self, ready: Ready, operations: &mut Vec<Operation>) {
        operations.push(Operation::Put(Key::cursor(self.id, "ready"), rows::encode(&ready)));
        self.pass.ready = Some(ready);
    }

    /// The identities of the next slice of people rows, and where the slice after it begins.
    fn slice(&mut self, next: &Key) -> Result<(Vec<SourceIdentityId>, Option<Key>), ReadError> {
        let mut range = Key::people(self.id).range();
        range.from = next.clone();
        let page = self.shared.store.scan(&range, SLICE)?;
        let heads = page.rows.iter().filter_map(|(key, _)| key.as_person());
        let identities =
            heads.filter(|(_, row)| *row == PersonRow::Head as u8).map(|(identity, _)| identity).collect();
        Ok((identities, page.next))
    }

    /// Read the history of a slice of identities into new leaves.
    fn backfill_leaves(
        &mut self,
        leaves: &BTreeSet<LeafId>,
        next: &Key,
        cursor: Position,
    ) -> Result<Option<Key>, ReadError> {
        let (identities, after) = self.slice(next)?;
        let plan = Arc::clone(&self.plan);
        let zone = self.setup.zone.clone();
        let now = self.now;
        for identity in identities {
            let mut history = Vec::new();
            let events = Key::events(self.id, identity);
            each_row(self.shared.store.as_ref(), &events, |key, value| {
                let position = key.as_bytes().last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes));
                if let (true, Change::Recorded(event)) = (position <= cursor.0, rows::decode("an event", value)?) {
                    history.push(event);
                }
                Ok(())
            })?;
            let (person, dirty) = self.person(identity)?;
            let wanted = |leaf: &LeafId| leaves.contains(leaf);
            let before = person.leaves.len();
            person.leaves.retain(|leaf, _| !wanted(leaf) && plan.program.leaf(*leaf).is_some());
            *dirty |= before != person.leaves.len();
            for event in &history {
                let source = plan.source_names.get(&event.source).map_or("", String::as_str);
                let facts = EventFacts::new(event, source);
                for leaf in plan.program.leaves_for(&event.name).filter(|leaf| wanted(&leaf.id())) {
                    *dirty |= leaf.apply(person.leaves.entry(leaf.id()).or_default(), &facts, now, &zone);
                }
            }
        }
        Ok(after)
    }

    /// Look at a slice of profiles.
    fn sweep(&mut self, next: &Key, cursor: Position) -> Result<Option<Key>, ReadError> {
        let (identities, after) = self.slice(next)?;
        for identity in identities {
            if self.is_profile(ProfileId(identity))? {
                self.touch(ProfileId(identity), cursor);
                self.pass.looked += 1;
            }
        }
        Ok(after)
    }

    /// Everything that follows for a slice of profiles.
    fn compute(
        &mut self,
        slice: &[(ProfileId, Touch)],
        now: Timestamp,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        let plan = Arc::clone(&self.plan);
        let setup = Arc::clone(&self.setup);
        let view = Evaluation { plan: &plan, zone: &setup.zone, now };
        let (mut profiles, mut touches) = self.load(slice, &view)?;
        let before: Vec<Derived> = profiles.iter().map(|profile| profile.derived.clone()).collect();
        self.run_models(&mut profiles, &mut touches, &view, operations);
        for ((profile, touch), before) in profiles.iter_mut().zip(&touches).zip(before) {
            profile.derived.ordinal = Some(profile.ordinal);
            self.move_between_audiences(profile, touch.cause, &view, operations);
            self.set_timer(profile, touch.retry, &view, operations)?;
            if profile.derived != before {
                let key = Key::person(self.id, profile.id.0, PersonRow::Derived);
                operations.push(Operation::Put(key, rows::encode(&profile.derived)));
            }
            self.show(profile, &plan);
        }
        for profile in profiles {
            self.pass.derived.insert(profile.id, profile.derived);
        }
        Ok(())
    }

    /// The profiles of a slice; those that are no more are left out.
    fn load(
        &mut self,
        slice: &[(ProfileId, Touch)],
        view: &Evaluation<'_>,
    ) -> Result<(Vec<ProfileState>, Vec<Touch>), ReadError> {
        let (mut profiles, mut touches) = (Vec::with_capacity(slice.len()), Vec::with_capacity(slice.len()));
        for (id, touch) in slice {
            let root = self.person(id.0)?.0.head.root.clone();
            let Some(root) = root else { continue };
            for member in &root.members {
                self.person(*member)?;
            }
            let derived = self.take_derived(*id)?;
            let people: Vec<&Person> =
                root.members.iter().filter_map(|member| self.pass.people.get(member).map(|(person, _)| person)).collect();
            if let Some(profile) = state::assemble(*id, &people, derived, view) {
                profiles.push(profile);
                touches.push(*touch);
            }
        }
        Ok((profiles, touches))
    }

    /// Whether all of an expression's leaves have their history.
    fn is_computable(&self, mut leaves: impl Iterator<Item = LeafId>) -> bool {
        leaves.all(|leaf| self.ready.leaves.contains(&leaf))
    }

    fn run_models(
        &mut self,
        profiles: &mut [ProfileState],
        touches: &mut [Touch],
        view: &Evaluation<'_>,
        operations: &mut Vec<Operation>,
    ) {
        let live: BTreeSet<_> = view.plan.models.iter().map(|model| model.installed.id).collect();
        for profile in profiles.iter_mut() {
            profile.derived.outputs.retain(|installation, _| live.contains(installation));
        }
        for model in &view.plan.models {
            if !self.is_computable(model.leaves.iter().copied()) || self.is_quarantined(model.installed.id) {
                continue;
            }
            let version = self.version(model, operations);
            let causes: Vec<Position> = touches.iter().map(|touch| touch.cause).collect();
            let ran = models::run(model, version, profiles, view.plan, view.zone, view.now, |index| causes[index]);
            if !ran.computed.is_empty() {
                self.shared.forgive(self.id, model.installed.id);
                metrics::counter!("kith_model_rows_total").increment(ran.computed.len() as u64);
            }
            for (fault, indexes) in ran.faults {
                self.shared.strike(self.id, model.installed.id, &fault);
                if fault.may_retry() {
                    indexes.iter().for_each(|index| touches[*index].retry = true);
                }
                let aside = Aside::Computation {
                    at: view.now,
                    code: fault.code().to_owned(),
                    message: fault.to_string(),
                    profiles: indexes.len() as u64,
                };
                let (first, cause) = (profiles[indexes[0]].id, touches[indexes[0]].cause);
                let key = Key::set_aside(self.id, Some(model.installed.id))
                    .followed_by(&view.now.0.to_be_bytes())
                    .followed_by(&cause.0.to_be_bytes())
                    .followed_by(&first.0.0[8..]);
                operations.push(Operation::Put(key, rows::encode(&aside)));
            }
        }
    }

    fn is_quarantined(&self, installation: kith_model::id::InstallationId) -> bool {
        let setup = self.known.setup.load();
        let known = setup.installations.iter().find(|installed| installed.id == installation);
        known.is_some_and(|installed| installed.mode != kith_model::plugin::InstallationMode::Live)
    }

    /// The number of the model as it is now; a new one where it never ran like this.
    fn version(&mut self, model: &crate::plan::ModelPlan, operations: &mut Vec<Operation>) -> u32 {
        let wanted = ModelVersion {
            installation: model.installed.id,
            digest: model.installed.digest.clone(),
            config_hash: model.installed.config_hash,
            fit: model.fit(),
            scores: model.is_scorer,
            outputs: model.installed.outputs.iter().map(|output| output.name.clone()).collect(),
        };
        let known = self.known.versions.read();
        let all = known.iter().map(Arc::as_ref).chain(&self.pass.versions);
        let count = known.len() + self.pass.versions.len();
        let found = all.enumerate().find(|(_, version)| **version == wanted).map(|(number, _)| number);
        drop(known);
        let number = u32::try_from(found.unwrap_or(count)).unwrap_or(u32::MAX);
        if found.is_none() {
            let name = number.to_be_bytes();
            let key = Key::definition(self.id, kith_store::keys::Definition::ModelVersion, &name);
            operations.push(Operation::Put(key, rows::encode(&wanted)));
            self.pass.versions.push(wanted);
        }
        number
    }

    fn move_between_audiences(
        &mut self,
        profile: &mut ProfileState,
        cause: Position,
        view: &Evaluation<'_>,
        operations: &mut Vec<Operation>,
    ) {
        let wanted = view.plan.audience_ids();
        profile.derived.memberships.retain(|audience, _| wanted.contains(audience));
        for plan in &view.plan.audiences {
            if !self.is_computable(plan.condition.reads().leaves.iter().copied()) {
                continue;
            }
            let facts = ProfileFacts { state: profile, plan: view.plan };
            let leaf = |id| profile.leaf_values.get(&id).cloned().unwrap_or_default();
            let belongs = plan.condition.evaluate(&facts, &leaf, view.now).is_true();
            let audience = plan.audience.id;
            let was_member = profile.derived.memberships.contains_key(&audience);
            if belongs == was_member {
                continue;
            }
            if belongs {
                profile.derived.memberships.insert(audience, Membership { since: view.now, cause });
                self.enter(plan, profile, view.now, operations);
            } else {
                profile.derived.memberships.remove(&audience);
            }
            let change = Change::Membership { audience, profile: profile.id, entered: belongs, at: view.now };
            operations.push(Operation::Append { workspace: self.id, record: rows::encode(&change), row: None });
        }
    }

    /// What entering an audience sets off.
    fn enter(&self, plan: &AudiencePlan, profile: &ProfileState, now: Timestamp, operations: &mut Vec<Operation>) {
        let Some(action) = &plan.audience.on_enter else { return };
        let send_key = format!("{} {} {} {}", self.id.0, plan.audience.id.0, profile.id, now.0);
        let id = xxhash_rust::xxh3::xxh3_128(send_key.as_bytes()).to_be_bytes();
        let row = DeliveryRow {
            channel: action.channel,
            audience: plan.audience.id,
            profile: profile.id,
            purpose: action.purpose.clone(),
            basis: action.basis,
            payload: action.payload.clone(),
            created_at: now,
            state: DeliveryState::Pending { attempts: 0, due_at: now, last_reason: None }.into(),
        };
        operations.push(Operation::Put(Key::delivery(self.id, &id), rows::encode(&row)));
        let queue = outbox(self.id, action.channel);
        operations.push(Operation::Enqueue { queue, id, due_at: now, body: Vec::new() });
    }

    fn set_timer(
        &mut self,
        profile: &mut ProfileState,
        retry: bool,
        view: &Evaluation<'_>,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        let mut people = Vec::with_capacity(profile.members.len());
        for member in &profile.members {
            self.person(*member)?;
        }
        people.extend(profile.members.iter().filter_map(|member| self.pass.people.get(member).map(|(person, _)| person)));
        let due = state::next_change(profile, &people, view);
        let due = if retry { Some(due.map_or(view.now.plus_ms(RETRY_MS), |due| due.min(view.now.plus_ms(RETRY_MS)))) } else { due };
        // A timer that fired has had its row deleted; one that stands is moved.
        if profile.derived.timer != due || due.is_some_and(|due| due <= view.now) {
            if let Some(old) = profile.derived.timer {
                operations.push(Operation::Delete(Key::timer(self.id, old, profile.id.0)));
            }
            if let Some(due) = due {
                operations.push(Operation::Put(Key::timer(self.id, due, profile.id.0), Vec::new()));
            }
            profile.derived.timer = due;
        }
        Ok(())
    }

    /// Note for the index what is new about a profile.
    fn show(&mut self, profile: &ProfileState, plan: &Plan) {
        let now = shown(profile, plan, &self.ready);
        let before = self.pass.values.get(&profile.id).or_else(|| self.shown.get(&profile.id));
        match before {
            Some(before) => {
                let changed = now.iter().filter(|(feature, value)| before.get(feature) != Some(value));
                let changed: Vec<_> = changed.map(|(feature, value)| (profile.ordinal, feature.clone(), value.clone())).collect();
                let lost = before.keys().filter(|feature| !now.contains_key(feature)).cloned();
                let lost: Vec<_> = lost.map(|feature| (profile.ordinal, feature, Value::Null)).collect();
                self.pass.index.extend(changed.into_iter().chain(lost));
            }
            // What the index holds is not at hand: begin anew.
            None => {
                self.pass.gone.push(profile.ordinal);
                self.pass.index.extend(now.iter().map(|(feature, value)| (profile.ordinal, feature.clone(), value.clone())));
            }
        }
        self.pass.profiles.push((profile.ordinal, profile.id));
        self.pass.values.insert(profile.id, now);
    }

    fn write_people(&mut self, operations: &mut Vec<Operation>) {
        for (identity, (person, dirty)) in &mut self.pass.people {
            if *dirty {
                let key = Key::person(self.id, *identity, PersonRow::Leaves);
                operations.push(Operation::Put(key, rows::encode(&person.leaves)));
                *dirty = false;
            }
        }
    }
}

/// What the index shows of a profile.
fn shown(profile: &ProfileState, plan: &Plan, ready: &Ready) -> Shown {
    let mut values = Shown::new();
    values.insert(FeatureName::CreatedAt, Value::Time(profile.created_at));
    for (name, value) in &profile.traits {
        values.insert(FeatureName::Trait(name.as_str().into()), value.clone());
    }
    for (feature, (installation, index)) in &plan.outputs {
        let computed: Option<&Computed> = profile.derived.outputs.get(installation);
        if let Some(value) = computed.and_then(|computed| computed.values.get(*index)) {
            values.insert(feature.clone(), state::output_value(value));
        }
    }
    for (leaf, value) in &profile.leaf_values {
        if ready.leaves.contains(leaf) {
            values.insert(FeatureName::Leaf(*leaf), value.clone());
        }
    }
    for audience in profile.derived.memberships.keys() {
        values.insert(FeatureName::Audience(*audience), Value::Bool(true));
    }
    values
}

fn note_ordinal(ordinals: &mut Vec<Option<ProfileId>>, ordinal: u32, profile: ProfileId) {
    let ordinal = ordinal as usize;
    if ordinals.len() <= ordinal {
        ordinals.resize(ordinal + 1, None);
    }
    ordinals[ordinal] = Some(profile);
}

/// The feed's own reading of an event's facts, so that a profile at hand need not be read again.
fn record_traits(person: &mut Person, event: &Event) {
    if event.traits.is_empty() {
        return;
    }
    if let Ok(traits) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&event.traits) {
        for (name, value) in traits {
            let value = TraitValue {
                json: value.get().to_owned(),
                time: event.time,
                source: event.source,
                message_id: event.message_id.clone(),
            };
            person.contribution.record(&name, value);
        }
    }
}

