//! From the change feed to touches: events into leaves, merges and splits into members.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_features::{EventFacts, FeatureName, Leaf, LeafId, Value};
use kith_model::audience::{Cause, Membership};
use kith_model::change::{Change, IdentityChange};
use kith_model::event::{Event, EventOrigin};
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, SourceIdentityId};
use kith_store::{Key, LogRecord, ReadError, row};
use serde_json::value::RawValue;

use super::aside::left_out;
use super::corrections::is_one_with_next;
use super::effects::Effect;
use super::objections::is_of_profiling;
use super::reactor::{PassError, Reactor};
use super::touch::{Acquaintance, Models, Profiling};
use crate::profiles::evaluation::Profile;
use crate::profiles::facts::record_event;
use crate::profiles::person::Person;
use crate::rows::derived::Waker;
use crate::shared::CompiledSetup;

/// The profile that each identity was in, and its memberships.
type PriorMemberships = BTreeMap<SourceIdentityId, (ProfileId, BTreeMap<AudienceId, Membership>)>;

/// Why a record was not taken in: it alone cannot be read, or nothing can be.
pub(super) enum RecordError {
    Unreadable(ReadError),
    Pass(PassError),
}

/// What was being computed belongs to others than the record, which does not answer for it.
impl From<PassError> for RecordError {
    fn from(error: PassError) -> RecordError {
        RecordError::Pass(error)
    }
}

impl From<ReadError> for RecordError {
    fn from(error: ReadError) -> RecordError {
        match error {
            error @ ReadError::Io { .. } => RecordError::Pass(error.into()),
            error => RecordError::Unreadable(error),
        }
    }
}

impl Reactor {
    /// Take in what the feed has, within the budget.
    pub(super) fn feed(&mut self) -> Result<(), PassError> {
        // What comes behind it is news, and not left over.
        let head = self.shared.store.head_of(self.workspace.id);
        let mut changes =
            self.shared.store.changes(self.workspace.id, self.pass.cursor.position, self.feed_limits())?;
        self.complete(&mut changes.records)?;
        self.pass.rebuilt.clear();
        self.read_bytes = changes.records.iter().map(|record| record.bytes.len()).sum();
        let gone = self.gone_within(&changes.records);
        let mut records = changes.records.iter();
        while let Some(record) = records.next() {
            if self.leaves_out() {
                let error = left_out("a record of the log".to_owned());
                self.set_aside(record.position, &error, &record.bytes);
            } else {
                match self.record(record, records.as_slice(), &gone) {
                    Ok(()) => {}
                    Err(RecordError::Unreadable(error)) => self.set_aside(record.position, &error, &record.bytes),
                    Err(RecordError::Pass(error)) => return Err(error),
                }
            }
            self.pass.cursor.position = record.position;
            if self.identities.pass_bytes() > self.budget.bytes && !is_one_with_next(record) {
                break;
            }
        }
        if records.as_slice().is_empty() {
            self.pass.cursor.position = self.pass.cursor.position.max(changes.up_to);
        }
        self.pass.has_more |= self.pass.cursor.position < head;
        Ok(())
    }

    /// Take in a record; `behind` are those that come after it. Of events in `gone` the store has nothing any more, and nothing
    /// comes of them.
    fn record(
        &mut self,
        record: &LogRecord,
        behind: &[LogRecord],
        gone: &BTreeSet<Position>,
    ) -> Result<(), RecordError> {
        let change = row::decode::<Change>(&record.bytes)?;
        self.pass.has_taken_back |= matches!(change, Change::TakenBack(_));
        match change {
            Change::Recorded(event) => {
                self.pass.seen.note(&self.seen.book, &event);
                if gone.contains(&record.position) { Ok(()) } else { self.event(record.position, &event) }
            }
            Change::Identified(identified) => {
                self.identified(record.position, &identified, self.bringing(record.position, behind, gone))
            }
            // The event in its place is what causes anything, and one look at the person sees both.
            Change::Superseded(before) => {
                self.gone(record.position, &before, self.bringing(record.position, behind, gone))
            }
            // Nobody is told of what was taken back.
            Change::TakenBack(other) | Change::Returned(other) if record.position <= self.promised => {
                self.gone(record.position, &other, Cause::Rebuild)
            }
            // What returns is in the store as well, and found with all that is left.
            Change::TakenBack(other) | Change::Returned(other) => self.gone(record.position, &other, Cause::Undo),
            Change::Membership { .. } => Ok(()),
        }
    }

    /// As what cause the event counts that brought what stands at `position`: it is behind it, of the same commit.
    fn bringing(&self, position: Position, behind: &[LogRecord], gone: &BTreeSet<Position>) -> Cause {
        for record in behind {
            match row::decode::<Change>(&record.bytes) {
                _ if gone.contains(&record.position) => return Cause::Undo,
                Ok(Change::Superseded(_)) => {}
                Ok(Change::Recorded(event)) => return self.cause(position, event.origin),
                // An event that cannot be read is set aside, and counts for nothing.
                _ => return Cause::Merge,
            }
        }
        Cause::Merge
    }

    /// What an event of this position is as a cause.
    pub(super) fn cause(&self, position: Position, origin: EventOrigin) -> Cause {
        if position <= self.promised {
            return Cause::Rebuild;
        }
        match origin {
            EventOrigin::Client | EventOrigin::Kernel => Cause::Event,
            EventOrigin::Import => Cause::Import,
        }
    }

    fn event(&mut self, position: Position, event: &Event) -> Result<(), RecordError> {
        if !self.identities.load(event.identity)? {
            let what = format!("source identity {}", event.identity);
            let problem = "the log names it, but it has no rows".to_owned();
            return Err(ReadError::Corrupt { what, problem, row: None }.into());
        }
        let Some(person) = self.identities.person(event.identity) else { return Ok(()) };
        let (profile, is_new) = (person.profile(), person.derived.is_none());
        let cause = self.cause(position, event.origin);
        self.touch(profile, cause, position)?;
        let members = self.identities.load_profile(profile)?;
        if is_new {
            self.meet(event.identity, profile);
        }
        self.take_traits(event, profile)?;
        self.take_event(position, event, profile, &members)?;
        self.look_at_forms(event, cause, position)
    }

    /// An identity that react sees for the first time: it is a profile of its own until the feed says otherwise.
    fn meet(&mut self, identity: SourceIdentityId, profile: ProfileId) {
        self.identities.derived_mut(identity);
        self.pass.met.insert(profile);
        let Some(person) = self.identities.person(identity) else { return };
        let features = known_of(person);
        self.pass.changes.profiles.push((person.ordinal, profile));
        if let Some(touch) = self.pass.touched.get_mut(&profile) {
            touch.acquaintance = Acquaintance::New;
            touch.features.extend(features);
        }
    }

    /// The feed's own reading of an event's facts, so that a person in hand need not be read again.
    fn take_traits(&mut self, event: &Event, profile: ProfileId) -> Result<(), ReadError> {
        if event.traits.is_empty() {
            return Ok(());
        }
        // The text was checked when the event was accepted.
        let Ok(traits) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&event.traits) else {
            return Ok(());
        };
        let Some(person) = self.identities.person_mut(event.identity) else { return Ok(()) };
        record_event(&mut person.contribution, event);
        if is_of_profiling(event) {
            self.look_at_profiling(event.identity)?;
            if let Some(touch) = self.pass.touched.get_mut(&profile) {
                touch.profiling = Profiling::MayHaveChanged;
            }
        }
        if let Some(touch) = self.pass.touched.get_mut(&profile) {
            touch.features.extend(traits.into_keys().map(|name| FeatureName::Trait(name.as_str().into())));
        }
        Ok(())
    }

    /// Bring the leaves up to date that the event can feed.
    fn take_event(
        &mut self,
        position: Position,
        event: &Event,
        profile: ProfileId,
        members: &[SourceIdentityId],
    ) -> Result<(), RecordError> {
        let compiled = Arc::clone(&self.compiled);
        let source = compiled.plan.source_names.get(&event.source).map_or("", String::as_str);
        let facts = EventFacts::new(event, source);
        let (zone, now) = (&compiled.setup.zone, self.now());
        let identity = event.identity;
        let leaves = self.taking(&compiled, &facts, position, event);
        if leaves.is_empty() {
            return Ok(());
        }
        for member in members {
            if !self.identities.person(*member).is_some_and(Person::has_sealed_leaves) {
                continue;
            }
            for leaf in &leaves {
                self.identities.load_sealed(*member, leaf, now, zone)?;
            }
        }
        self.identities.open_leaves(identity, &leaves);
        let before = self.values_before(&compiled, &leaves, profile, members);
        let have_changed = self.identities.apply(identity, &leaves, &facts, now, zone)?;
        if let Some(touch) = self.pass.touched.get_mut(&profile) {
            for ((leaf, before), _) in
                leaves.iter().zip(before).zip(have_changed).filter(|(_, has_changed)| *has_changed)
            {
                touch.leaf(leaf.id(), || before);
            }
        }
        Ok(())
    }

    /// The leaves that the event feeds and that no walk over histories will bring it to.
    fn taking<'p>(
        &self,
        compiled: &'p CompiledSetup,
        facts: &'p EventFacts<'_>,
        position: Position,
        event: &Event,
    ) -> Vec<&'p Arc<Leaf>> {
        let fed = compiled.plan.program.leaves_for(facts);
        if self.readiness.backfills.is_empty() {
            return fed.filter(|leaf| self.readiness.complete.contains(leaf.id())).collect();
        }
        let person_key = super::readiness::key_of(event.identity, self.workspace.id);
        let mut event_key = Key::event(self.workspace.id, event.identity, event.time).as_bytes().to_vec();
        event_key.extend_from_slice(&position.0.to_be_bytes());
        fed.filter(|leaf| self.readiness.takes(leaf.id(), person_key.as_bytes(), &event_key)).collect()
    }

    /// The values of leaves before an event. The earliest before a pass counts, and a later one is not worth computing: over a
    /// list of many entries it costs as much as all of them.
    fn values_before(
        &self,
        compiled: &CompiledSetup,
        leaves: &[&Arc<Leaf>],
        profile: ProfileId,
        members: &[SourceIdentityId],
    ) -> Vec<Value> {
        let touch = self.pass.touched.get(&profile);
        let is_known = |leaf: &Leaf| touch.is_some_and(|touch| touch.leaves.contains_key(&leaf.id()));
        let view = Reactor::view(compiled, &self.readiness, self.now());
        let profile = Profile::new(self.identities.people(members), view);
        let value = |leaf: &&Arc<Leaf>| {
            let is_wanted = !is_known(leaf) && view.complete.contains(leaf.id());
            if is_wanted { profile.value_so_far(leaf) } else { Value::Unknown }
        };
        leaves.iter().map(value).collect()
    }

    /// Profiles were merged or parted. Memberships belong to people: whoever was in an audience as a part of something stays
    /// in it as a part of something else, so that neither a merge nor a split is an entry.
    fn identified(
        &mut self,
        position: Position,
        identified: &IdentityChange,
        bringing: Cause,
    ) -> Result<(), RecordError> {
        let mut strangers: BTreeSet<ProfileId> = BTreeSet::new();
        let mut held = PriorMemberships::new();
        let mut before: BTreeMap<ProfileId, Vec<SourceIdentityId>> = BTreeMap::new();
        let mut features: BTreeMap<ProfileId, Vec<FeatureName>> = BTreeMap::new();
        let everybody = identified
            .profiles
            .iter()
            .flat_map(|(_, members)| members)
            .chain(identified.gone.iter().map(|(gone, _)| &gone.0));
        let everybody: BTreeSet<SourceIdentityId> = everybody.copied().collect();
        let first_cause = self.first_cause(&everybody)?;
        for member in everybody {
            if !self.identities.load(member)? {
                continue;
            }
            let profile = self.identities.person(member).map_or(ProfileId(member), Person::profile);
            // What was touched before is computed for the profiles as they were.
            if first_cause.is_none() && self.pass.touched.contains_key(&profile) {
                self.compute_touched()?;
            }
            let members = self.identities.load_profile(profile)?;
            features.entry(profile).or_insert_with(|| self.features_of(&members));
            let root = self.identities.person(profile.0).and_then(|root| root.derived.as_ref());
            if root.is_none() {
                strangers.insert(profile);
            }
            let memberships = root.map(|derived| derived.memberships.clone()).unwrap_or_default();
            held.insert(member, (profile, memberships));
            before.insert(profile, members);
        }
        for (gone, _) in &identified.gone {
            self.take_leave(*gone, features.get(gone).cloned().unwrap_or_default());
        }
        for (profile, members) in &identified.profiles {
            let parts = parts_of(members, &held);
            let mut known = parts.difference(&strangers).filter_map(|part| before.get(part));
            let first_cause = match (known.next(), known.next()) {
                // Whoever comes with an identifier that was never seen before is still one person.
                (None, _) => first_cause.or(Some(bringing)),
                (Some(part), None) if !is_parted(part, members) => first_cause.or(Some(bringing)),
                _ => first_cause,
            };
            self.tie((position, first_cause), *profile, members, &held, &features)?;
        }
        for (profile, members) in &identified.profiles {
            // Of these alone, because one batch can bring very many people who have nothing to do with each other.
            let parts = parts_of(members, &held);
            let parts = parts.iter().filter_map(|part| before.get(part));
            for of_part in parts.filter(|of_part| is_parted(of_part, members)) {
                self.remember_all(*profile, of_part)?;
            }
        }
        Ok(())
    }

    /// Where nobody was computed before of those who are tied: what caused them to be there. They enter as what they are tied
    /// to, and not first each alone.
    fn first_cause(&mut self, identities: &BTreeSet<SourceIdentityId>) -> Result<Option<Cause>, RecordError> {
        let mut first = None;
        for identity in identities {
            if !self.identities.load(*identity)? {
                continue;
            }
            let profile = self.identities.person(*identity).map_or(ProfileId(*identity), Person::profile);
            let touch = self.pass.touched.get(&profile).filter(|_| self.pass.met.contains(&profile));
            let Some(touch) = touch else { return Ok(None) };
            first = Some(first.map_or(touch.cause, |cause: Cause| cause.and(touch.cause)));
        }
        Ok(first)
    }

    /// A profile that is no more: what was computed of it is gone, and the index shows it no longer.
    fn take_leave(&mut self, gone: ProfileId, features: Vec<FeatureName>) {
        let Some(person) = self.identities.person(gone.0) else { return };
        let ordinal = person.ordinal;
        let Some(derived) = self.identities.derived_mut(gone.0) else { return };
        derived.members.clear();
        derived.outputs.clear();
        derived.memberships.clear();
        let wakers: Vec<Waker> = derived.timers().map(|(waker, _)| waker).collect();
        for waker in wakers {
            derived.set_timer(waker, None);
        }
        let timer = derived.timer_row.take();
        if timer.is_some() {
            self.pass.effects.push(Effect::Wake { profile: gone.0, from: timer, at: None });
        }
        let models: Vec<InstallationId> = self.queues.keys().copied().collect();
        models.into_iter().for_each(|model| self.unqueue(model, ordinal));
        self.faults.leave(ordinal);
        self.pass.touched.remove(&gone);
        self.pass.changes.forget(ordinal, features);
    }

    /// Make a profile of these members.
    fn tie(
        &mut self,
        (position, first_cause): (Position, Option<Cause>),
        profile: ProfileId,
        members: &[SourceIdentityId],
        held: &PriorMemberships,
        features: &BTreeMap<ProfileId, Vec<FeatureName>>,
    ) -> Result<(), RecordError> {
        let parts = parts_of(members, held);
        let mut memberships = BTreeMap::new();
        for (_, of_part) in members.iter().filter_map(|member| held.get(member)) {
            for (audience, membership) in of_part {
                memberships.entry(*audience).or_insert(*membership);
            }
        }
        for member in members {
            if let Some(derived) = self.identities.derived_mut(*member) {
                derived.profile = (*member != profile.0).then_some(profile);
                derived.members.clear();
            }
        }
        // Each membership that comes along is looked at, whatever of the parts is seen to differ: where a model was removed
        // meanwhile, neither its values nor the walk that takes them back reach the new profile.
        let inherited: Vec<Waker> = memberships.keys().map(|audience| Waker::Audience(*audience)).collect();
        if let Some(root) = self.identities.derived_mut(profile.0) {
            root.members = if members.len() > 1 { members.to_vec() } else { Vec::new() };
            root.memberships = memberships;
        }
        let cause = if position <= self.promised {
            Cause::Rebuild
        } else if let Some(cause) = first_cause {
            cause
        } else if parts.len() > 1 {
            Cause::Merge
        } else {
            Cause::Undo
        };
        let ordinal = self.identities.person(profile.0).map(|root| root.ordinal);
        self.pass.changes.profiles.extend(ordinal.map(|ordinal| (ordinal, profile)));
        // Whoever objected and belongs to another profile now no longer speaks for the others.
        let were_one = held.iter().filter(|(_, (part, _))| parts.contains(part));
        let spoke =
            |id: &SourceIdentityId| self.identities.person(*id).is_some_and(|person| person.profiling.is_some());
        let profiling =
            if were_one.into_iter().any(|(id, _)| spoke(id)) { Profiling::MayHaveChanged } else { Profiling::AsBefore };
        let touch = self.touch(profile, cause, position)?;
        touch.profiling = profiling;
        touch.models = Models::All;
        touch.wakers.extend(inherited);
        touch.acquaintance = Acquaintance::New;
        for feature in parts.iter().filter_map(|part| features.get(part)).flatten() {
            match feature {
                FeatureName::Leaf(leaf) => touch.leaf(*leaf, || Value::Unknown),
                FeatureName::Audience(_) => {}
                feature => {
                    touch.features.insert(feature.clone());
                }
            }
        }
        let kinds: BTreeSet<String> = members
            .iter()
            .filter_map(|member| self.identities.person(*member))
            .map(|person| person.identifier.kind.clone())
            .collect();
        if let Some(touch) = self.pass.touched.get_mut(&profile) {
            touch.features.extend(kinds.into_iter().map(|kind| FeatureName::Identifiers(kind.as_str().into())));
        }
        Ok(())
    }
}

/// All that an identity brings with it.
fn known_of(person: &Person) -> Vec<FeatureName> {
    let traits = person.contribution.traits.keys().map(|name| FeatureName::Trait(name.as_str().into()));
    let own = [FeatureName::CreatedAt, FeatureName::Identifiers(person.identifier.kind.as_str().into())];
    traits.chain(own).collect()
}

/// The leaves of a set of features.
pub(super) fn leaves_of(features: &[FeatureName]) -> impl Iterator<Item = LeafId> {
    features.iter().filter_map(|feature| match feature {
        FeatureName::Leaf(leaf) => Some(*leaf),
        _ => None,
    })
}

/// The profiles that identities come from.
fn parts_of(members: &[SourceIdentityId], held: &PriorMemberships) -> BTreeSet<ProfileId> {
    members.iter().filter_map(|member| Some(held.get(member)?.0)).collect()
}

/// Whether some of `part` are among `members` and some are not.
fn is_parted(part: &[SourceIdentityId], members: &[SourceIdentityId]) -> bool {
    let staying = part.iter().filter(|identity| members.contains(identity)).count();
    0 < staying && staying < part.len()
}
