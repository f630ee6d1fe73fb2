//! The identities that a reactor has in hand: a cache of what is durable, and the pass's own edits on top of it. A pass that
//! is given up leaves the cache as it was.

use std::collections::HashMap;
use std::sync::Arc;

use foldhash::fast::RandomState;
use kith_features::{EventFacts, Leaf, LeafId, LeafState, SealedChunk, UnreadableState, Zone};
use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{Key, ReadError, Store, row};
use quick_cache::unsync::Cache;
use quick_cache::{OptionsBuilder, Weighter};

use super::effects::Effect;
use crate::profiles::facts::contribution_bytes;
use crate::profiles::person::{self, Person};
use crate::rows::derived::{Derived, SealedLeaf, Waker};

/// Weighs a person by what it takes in memory.
#[derive(Clone)]
struct ByBytes;

/// What a decoded person takes beside its rows.
const PERSON_BYTES: usize = 600;

impl Weighter<SourceIdentityId, Box<Person>> for ByBytes {
    fn weight(&self, _: &SourceIdentityId, person: &Box<Person>) -> u64 {
        (PERSON_BYTES + person.bytes) as u64
    }
}

/// A person in a pass.
struct Edit {
    /// Boxed, because it goes from the cache into the pass and back.
    person: Box<Person>,
    /// Sealed parts of leaves that no window reaches any more; their rows are deleted with the pass.
    expired: Vec<Key>,
    /// Whether its row has to be written.
    is_dirty: bool,
}

fn unreadable(id: SourceIdentityId, error: &UnreadableState) -> ReadError {
    ReadError::Corrupt {
        what: format!("what is computed of source identity {id}"),
        problem: error.to_string(),
        row: None,
    }
}

/// The identities of one workspace.
pub(crate) struct Identities {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    durable: Cache<SourceIdentityId, Box<Person>, ByBytes, RandomState>,
    pass: HashMap<SourceIdentityId, Edit, RandomState>,
    /// Bytes of the rows that the pass has taken in hand.
    pass_bytes: usize,
    /// The first ordinal of whose identity, and of all behind it, nothing is computed, because nobody has loaded them: those that
    /// were there at the opening have smaller ones.
    first_unmet: u32,
}

/// About how many people of the cache's bytes there may be; only a hint for the cache's tables.
const TYPICAL_BYTES: u64 = 1_500;

impl Identities {
    pub(crate) fn new(store: Arc<dyn Store>, workspace: WorkspaceId, cache_bytes: u64, first_unmet: u32) -> Identities {
        let items = usize::try_from(cache_bytes / TYPICAL_BYTES).unwrap_or(usize::MAX);
        let options = OptionsBuilder::new().estimated_items_capacity(items).weight_capacity(cache_bytes).build();
        let durable = match options {
            Ok(options) => Cache::with_options(options, ByBytes, RandomState::default(), Default::default()),
            Err(_) => Cache::with(items, cache_bytes, ByBytes, RandomState::default(), Default::default()),
        };
        Identities { store, workspace, durable, pass: HashMap::default(), pass_bytes: 0, first_unmet }
    }

    /// Take an identity in hand; whether there is one.
    pub(crate) fn load(&mut self, id: SourceIdentityId) -> Result<bool, ReadError> {
        if self.pass.contains_key(&id) {
            return Ok(true);
        }
        let person = match self.durable.remove(&id) {
            Some((_, person)) => person,
            None => match person::read_known(self.store.as_ref(), self.workspace, id, self.first_unmet)? {
                Some(person) => Box::new(person),
                None => return Ok(false),
            },
        };
        self.first_unmet = self.first_unmet.max(person.ordinal.saturating_add(1));
        self.pass_bytes += PERSON_BYTES + person.bytes;
        self.pass.insert(id, Edit { person, expired: Vec::new(), is_dirty: false });
        Ok(true)
    }

    /// Take a profile and all its members in hand; its members, the one that names it first. Empty where `profile` names
    /// none.
    pub(crate) fn load_profile(&mut self, profile: ProfileId) -> Result<Vec<SourceIdentityId>, ReadError> {
        if !self.load(profile.0)? {
            return Ok(Vec::new());
        }
        let mut members = self.person(profile.0).map_or(Vec::new(), Person::members);
        for member in &members {
            if !self.load(*member)? {
                return Err(ReadError::Corrupt {
                    what: format!("profile {profile}"),
                    problem: format!("its member {member} has no rows"),
                    row: None,
                });
            }
        }
        members.sort_by_key(|member| *member != profile.0);
        Ok(members)
    }

    /// An identity in hand.
    pub(crate) fn person(&self, id: SourceIdentityId) -> Option<&Person> {
        self.pass.get(&id).map(|edit| &*edit.person)
    }

    /// Those of `ids` that are in hand, in their order.
    pub(crate) fn people(&self, ids: &[SourceIdentityId]) -> Vec<&Person> {
        ids.iter().filter_map(|id| self.person(*id)).collect()
    }

    /// What is computed of an identity in hand, for changing: its row is written with the pass.
    pub(crate) fn derived_mut(&mut self, id: SourceIdentityId) -> Option<&mut Derived> {
        let edit = self.pass.get_mut(&id)?;
        edit.is_dirty = true;
        Some(edit.person.derived.get_or_insert_default())
    }

    /// An identity in hand, for reading a leaf's state or noting facts; its row is not written for that.
    pub(crate) fn person_mut(&mut self, id: SourceIdentityId) -> Option<&mut Person> {
        self.pass.get_mut(&id).map(|edit| &mut *edit.person)
    }

    /// Read the states of leaves of an identity in hand and keep them, for who is going to change them. One that cannot be read is
    /// found so by who does.
    pub(crate) fn open_leaves(&mut self, id: SourceIdentityId, leaves: &[&Arc<Leaf>]) {
        let derived = self.pass.get_mut(&id).and_then(|edit| edit.person.derived.as_mut());
        if let Some(derived) = derived {
            leaves.iter().for_each(|leaf| derived.leaves.open(leaf.id()));
        }
    }

    /// Take an event into leaves of an identity in hand; whether that changed each. Only then its row is written.
    pub(crate) fn apply(
        &mut self,
        id: SourceIdentityId,
        leaves: &[&Arc<Leaf>],
        facts: &EventFacts<'_>,
        now: Timestamp,
        zone: &Zone,
    ) -> Result<Vec<bool>, ReadError> {
        let Some(edit) = self.pass.get_mut(&id) else { return Ok(vec![false; leaves.len()]) };
        let is_new = edit.person.derived.is_none();
        let states = &mut edit.person.derived.get_or_insert_default().leaves;
        let applied = leaves.iter().map(|leaf| states.apply(leaf, facts, now, zone));
        let have_changed: Vec<bool> = applied.collect::<Result<_, _>>().map_err(|error| unreadable(id, &error))?;
        match (is_new, have_changed.contains(&true)) {
            // The row that says that there are leaves.
            (true, true) => edit.is_dirty = true,
            (true, false) => edit.person.derived = None,
            (false, _) => {}
        }
        Ok(have_changed)
    }

    /// Set when wakers of an identity in hand are to be woken, and which timer row stands for the earliest; the row before
    /// and the row now, where they differ.
    pub(crate) fn set_timers(
        &mut self,
        id: SourceIdentityId,
        timers: &[(Waker, Option<Timestamp>)],
    ) -> Option<(Option<Timestamp>, Option<Timestamp>)> {
        let edit = self.pass.get_mut(&id)?;
        let derived = edit.person.derived.as_mut()?;
        let before = derived.timer_row;
        let mut earliest = before;
        for (waker, at) in timers {
            let held = derived.set_timer(*waker, *at);
            if held != *at {
                edit.is_dirty |= !matches!(waker, Waker::Leaf(_));
                // The earliest may have been this one.
                earliest = if held == before { None } else { earliest.min(at.or(earliest)) };
            }
        }
        if earliest.is_none() {
            earliest = derived.earliest_timer();
        }
        let now = earliest;
        derived.timer_row = now;
        edit.is_dirty |= before != now;
        (before != now).then_some((before, now))
    }

    /// Read the sealed parts of a leaf of an identity in hand, if there are any and they are not there yet. The oldest ones are
    /// dropped once no window reaches them at `now`: else who is busy and has a leaf over a short window would keep a whole
    /// history, and all of it would be read each time.
    pub(crate) fn load_sealed(
        &mut self,
        id: SourceIdentityId,
        of: &Leaf,
        now: Timestamp,
        zone: &Zone,
    ) -> Result<(), ReadError> {
        let leaf = of.id();
        let Some(edit) = self.pass.get_mut(&id) else { return Ok(()) };
        let parts = edit.person.derived.as_ref().map_or(0..0, |derived| derived.leaves.sealed(leaf));
        if parts.is_empty() || edit.person.sealed.contains_key(&leaf) {
            return Ok(());
        }
        let mut states = person::read_sealed(self.store.as_ref(), self.workspace, id, leaf)?;
        let expired = states.iter().take_while(|state| of.is_expired(state, now, zone)).count();
        if let (1.., Some(derived)) = (expired, &mut edit.person.derived) {
            let numbers = parts.take(expired);
            let after = numbers.clone().next_back().map_or(0, |last| last + 1);
            derived.leaves.forget_sealed(leaf, after).map_err(|error| unreadable(id, &error))?;
            edit.expired.extend(numbers.map(|number| Key::chunk(self.workspace, id, leaf.0, number)));
            states.drain(..expired);
        }
        let merged = of.merge(&states.iter().collect::<Vec<&LeafState>>());
        self.pass_bytes += merged.memory_bytes();
        edit.person.sealed.insert(leaf, merged);
        Ok(())
    }

    /// The pass makes the rows that it has in hand larger by so much, which a plugin chooses.
    pub(crate) fn note_bytes(&mut self, bytes: usize) {
        self.pass_bytes += bytes;
    }

    /// Bytes of the rows that the pass has taken in hand.
    pub(crate) fn pass_bytes(&self) -> usize {
        self.pass_bytes
    }

    /// The identities whose rows the pass writes.
    pub(crate) fn changed(&self) -> impl Iterator<Item = &Person> {
        self.pass.values().filter(|edit| edit.is_dirty).map(|edit| &*edit.person)
    }

    /// The rows that the pass has changed.
    pub(crate) fn effects(&mut self, effects: &mut Vec<Effect>) {
        for (id, edit) in &mut self.pass {
            let Some(derived) = &mut edit.person.derived else { continue };
            if !edit.expired.is_empty() {
                effects.push(Effect::Dropped { keys: std::mem::take(&mut edit.expired) });
            }
            // What grew large is sealed, so that one more event does not rewrite what came before.
            for SealedChunk { leaf, number, state } in derived.leaves.seal_large() {
                edit.person.sealed.remove(&leaf);
                let row = row::encode(&SealedLeaf(state));
                effects.push(Effect::Sealed { identity: *id, leaf: leaf.0, number, row });
            }
            let (groups, is_list_new) = derived.changed_groups();
            for (group, row) in groups {
                effects.push(Effect::Leaves { identity: *id, group, row });
            }
            if edit.is_dirty || is_list_new {
                effects.push(Effect::Kept { identity: *id, row: row::encode(derived) });
            }
        }
    }

    /// Forget an identity's leaves of which `is_wanted` is false; the keys of their sealed parts.
    pub(crate) fn drop_leaves(&mut self, id: SourceIdentityId, is_wanted: impl Fn(LeafId) -> bool) -> Vec<Key> {
        let workspace = self.workspace;
        let has_lost = |edit: &Edit| {
            edit.person.derived.as_ref().is_some_and(|derived| derived.leaves.ids().any(|leaf| !is_wanted(leaf)))
        };
        let Some(edit) = self.pass.get_mut(&id).filter(|edit| has_lost(edit)) else { return Vec::new() };
        edit.person.sealed.retain(|leaf, _| is_wanted(*leaf));
        let dropped = edit.person.derived.as_mut().map(|derived| derived.leaves.retain(&is_wanted)).unwrap_or_default();
        let keys = dropped.into_iter().flat_map(|(leaf, numbers)| numbers.map(move |number| (leaf, number)));
        keys.map(|(leaf, number)| Key::chunk(workspace, id, leaf.0, number)).collect()
    }

    /// The pass is durable: what it had in hand is what is.
    pub(crate) fn committed(&mut self) {
        for (id, mut edit) in self.pass.drain() {
            if let Some(derived) = &mut edit.person.derived {
                derived.leaves.compact();
            }
            // It has grown or lost leaves since it was read.
            edit.person.bytes = size_bytes(&edit.person);
            self.durable.insert(id, edit.person);
        }
        self.pass_bytes = 0;
    }

    /// The pass was given up: its edits are gone, and what it had in hand is read again.
    pub(crate) fn abandon(&mut self) {
        self.pass.clear();
        self.pass_bytes = 0;
    }
}

/// About how many bytes of memory a person takes, beside [`PERSON_BYTES`].
fn size_bytes(person: &Person) -> usize {
    let derived = person.derived.as_ref().map_or(0, Derived::size_bytes);
    let sealed: usize = person.sealed.values().map(LeafState::memory_bytes).sum();
    contribution_bytes(&person.contribution) + derived + sealed
}

#[cfg(test)]
mod tests {
    use kith_features::Expression;
    use kith_model::event::{Event, EventKind, EventOrigin};
    use kith_model::id::InstallationId;
    use kith_model::identity::Identifier;
    use kith_model::profile::IdentityHead;
    use kith_store::keys::PersonRow;
    use kith_store::{Operation, Unit};

    use super::*;

    /// Of somebody whom nobody has met there is nothing computed, and each look for it reads a page of the engine.
    #[test]
    fn what_is_computed_is_looked_for_where_somebody_was_met() {
        let (workspace, id) = (WorkspaceId(1), SourceIdentityId([7; 16]));
        let store = Arc::new(kith_store::memory());
        let head = IdentityHead {
            identifier: Identifier::new("user_id", "u1"),
            created_at: Timestamp(0),
            ordinal: 5,
            profile: ProfileId(id),
            root: None,
            evidence: vec![],
        };
        let operations = vec![
            Operation::Put(Key::person(workspace, id, PersonRow::Head), row::encode(&head)),
            Operation::Put(Key::derived(workspace, id), row::encode(&Derived::default())),
        ];
        store.commit(Unit { operations, ..Unit::default() }).unwrap();
        for (next_ordinal, is_met) in [(6, true), (5, false), (0, false)] {
            let mut identities = Identities::new(store.clone(), workspace, 1 << 20, next_ordinal);
            let mut computed = || {
                assert!(identities.load(id).unwrap());
                let is_there = identities.person(id).unwrap().derived.is_some();
                identities.abandon();
                is_there
            };
            assert_eq!(computed(), is_met, "{next_ordinal}");
            assert!(computed(), "somebody who was loaded may have been computed since");
        }
    }

    /// An event writes one group of a person's leaves, and the cache took the person to weigh as much as that one.
    #[test]
    fn a_person_weighs_as_much_as_all_its_leaves() {
        let (workspace, id) = (WorkspaceId(1), SourceIdentityId([7; 16]));
        let store = Arc::new(kith_store::memory());
        let head = IdentityHead {
            identifier: Identifier::new("user_id", "u1"),
            created_at: Timestamp(0),
            ordinal: 0,
            profile: ProfileId(id),
            root: None,
            evidence: vec![],
        };
        let head = Operation::Put(Key::person(workspace, id, PersonRow::Head), row::encode(&head));
        store.commit(Unit { operations: vec![head], ..Unit::default() }).unwrap();
        let mut identities = Identities::new(store, workspace, 1 << 20, 0);
        let mut written = 0;
        for number in 0..50 {
            let name = format!("event {number}");
            let expression = Expression::parse(&format!("events('{name}', '30d').size()")).unwrap();
            let leaf = expression.leaves().next().unwrap().clone();
            let event = Event {
                message_id: "m".into(),
                kind: EventKind::Track,
                name,
                time: Timestamp(5),
                received_at: Timestamp(5),
                source: InstallationId(1),
                identity: id,
                identifiers: Vec::new(),
                properties: String::new(),
                traits: String::new(),
                context: String::new(),
                origin: EventOrigin::Client,
                flags: Vec::new(),
                original_time: None,
                place: 0,
                reader: 0,
            };
            assert!(identities.load(id).unwrap());
            let facts = EventFacts::new(&event, "shop");
            assert_eq!(identities.apply(id, &[&leaf], &facts, Timestamp(5), &Zone::utc()).unwrap(), [true]);
            let mut effects = Vec::new();
            identities.effects(&mut effects);
            for effect in &effects {
                if let Effect::Leaves { row: Some(row), .. } = effect {
                    written += row.len() as u64;
                }
            }
            identities.committed();
        }
        assert!(identities.durable.weight() >= PERSON_BYTES as u64 + written, "{}", identities.durable.weight());
    }
}
