//! The people for whom a condition passes the budget of one evaluation. They are unknown to its audience and stay where they
//! are; whoever looks at the audience sees how many they are and since when.
//!
//! A condition with such people has rows: a head, and the people in chunks of ordinals. A pass changes copies, and writes the rows
//! that differ in its commit. So what is in memory is what is durable, also after a pass that was abandoned, and a reactor that is
//! opened again goes on from there.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::id::{AudienceId, ProfileId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{Key, ReadError, Store, row};
use roaring::RoaringBitmap;

use super::effects::Effect;
use crate::plan::{AudiencePlan, Plan};
use crate::profiles::facts::each_row;
use crate::rows::faults::{CHUNK_ORDINALS, FaultChunk, FaultHead, chunks_of};
use crate::views::ConditionFault;

/// Rows that one pass deletes of conditions that are another by now: those of some million people. Where a thousand audiences are
/// changed at once, all of them may be more than a unit holds, and a smaller pass would delete as many.
const MAX_DELETED_ROWS: usize = 10_000;

/// A condition, by its audience and by the token of what it says.
pub(crate) type FaultKey = (AudienceId, u64);

/// The people of each condition that passes its budget for anybody.
pub(crate) type FaultSets = BTreeMap<FaultKey, Arc<FaultSet>>;

/// The key of an audience's condition.
pub(crate) fn key_of(audience: &AudiencePlan) -> FaultKey {
    (audience.audience.id, audience.token)
}

/// The people for whom one condition passes its budget.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct FaultSet {
    /// Present while there is anybody.
    head: Option<FaultHead>,
    /// By ordinal.
    people: RoaringBitmap,
}

impl FaultSet {
    /// Add somebody who is not in it.
    fn insert(&mut self, ordinal: u32, now: Timestamp) {
        self.people.insert(ordinal);
        let since = self.head.map_or(now, |head| head.since);
        self.head = Some(FaultHead { since, example: ordinal });
    }

    /// Take somebody out who is in it.
    fn remove(&mut self, ordinal: u32) {
        self.people.remove(ordinal);
        self.head = self.head.zip(self.people.max()).map(|(head, other)| {
            let example = if head.example == ordinal { other } else { head.example };
            FaultHead { example, ..head }
        });
    }

    /// What is left of it where the rows of its first `chunks` chunks are deleted.
    fn without(&self, chunks: usize) -> FaultSet {
        let Some(first) = chunks_of(&self.people).into_iter().nth(chunks) else { return FaultSet::default() };
        let mut people = self.people.clone();
        people.remove_range(..first * CHUNK_ORDINALS);
        FaultSet { people, ..*self }
    }

    /// What is to be said of it; `profile` tells whose an ordinal is.
    pub(crate) fn present(&self, profile: impl Fn(u32) -> Option<ProfileId>) -> Option<ConditionFault> {
        let head = self.head?;
        Some(ConditionFault { since: head.since, people: self.people.len(), example: profile(head.example) })
    }

    /// The rows in which it differs from `before`.
    fn effects(&self, (audience, token): FaultKey, before: &FaultSet, effects: &mut Vec<Effect>) {
        if self.head != before.head {
            let row = self.head.as_ref().map(row::encode);
            effects.push(Effect::Fault { audience, token, chunk: None, row });
        }
        for chunk in chunks_of(&(&self.people ^ &before.people)) {
            let row = FaultChunk::of(&self.people, chunk).as_ref().map(row::encode);
            effects.push(Effect::Fault { audience, token, chunk: Some(chunk), row });
        }
    }
}

/// The people of all conditions of a workspace.
#[derive(Debug, Default)]
pub(crate) struct Faults {
    /// As of the last commit; none is empty.
    durable: FaultSets,
    /// Those that the pass has changed, as it leaves them.
    pass: BTreeMap<FaultKey, FaultSet>,
}

impl Faults {
    /// What the rows say.
    pub(super) fn read(store: &dyn Store, workspace: WorkspaceId) -> Result<Faults, ReadError> {
        let mut sets: BTreeMap<FaultKey, FaultSet> = BTreeMap::new();
        each_row(store, &Key::faults(workspace), |key, value| {
            let Some((audience, token, chunk)) = key.as_fault() else { return Ok(()) };
            let set = sets.entry((audience, token)).or_default();
            match chunk {
                None => set.head = Some(row::decode(value)?),
                Some(chunk) => set.people.extend(row::decode::<FaultChunk>(value)?.ordinals(chunk)),
            }
            Ok(())
        })?;
        let durable = sets.into_iter().map(|(key, set)| (key, Arc::new(set))).collect();
        Ok(Faults { durable, pass: BTreeMap::new() })
    }

    /// The sets as of the last commit.
    pub(super) fn durable(&self) -> &FaultSets {
        &self.durable
    }

    fn is_empty(&self) -> bool {
        self.durable.is_empty() && self.pass.is_empty()
    }

    fn contains(&self, key: FaultKey, ordinal: u32) -> bool {
        let durable = || self.durable.get(&key).map(Arc::as_ref);
        self.pass.get(&key).or_else(durable).is_some_and(|set| set.people.contains(ordinal))
    }

    /// The set, for changing it in this pass.
    fn change(&mut self, key: FaultKey) -> &mut FaultSet {
        let durable = &self.durable;
        self.pass.entry(key).or_insert_with(|| durable.get(&key).map(|set| FaultSet::clone(set)).unwrap_or_default())
    }

    /// Somebody was looked at for the audiences at `places`, and the conditions of those at `exhausted`, which ascend, passed
    /// their budget.
    pub(super) fn note(
        &mut self,
        plan: &Plan,
        places: &BTreeSet<u32>,
        exhausted: &[u32],
        ordinal: u32,
        now: Timestamp,
    ) {
        // As good as always: an event then costs nothing here.
        if exhausted.is_empty() && self.is_empty() {
            return;
        }
        for place in places {
            let Some(key) = plan.audiences.get(*place as usize).map(key_of) else { continue };
            match exhausted.binary_search(place) {
                Ok(_) => self.exhausted(key, ordinal, now),
                Err(_) => self.passed(key, ordinal),
            }
        }
    }

    /// The condition passed its budget for somebody.
    fn exhausted(&mut self, key: FaultKey, ordinal: u32, now: Timestamp) {
        if !self.contains(key, ordinal) {
            self.change(key).insert(ordinal, now);
        }
    }

    /// The condition was evaluated for somebody, or need not be.
    fn passed(&mut self, key: FaultKey, ordinal: u32) {
        if self.contains(key, ordinal) {
            self.change(key).remove(ordinal);
        }
    }

    /// Somebody is no more, or objects to profiling: no condition is asked about them.
    pub(super) fn leave(&mut self, ordinal: u32) {
        let keys: BTreeSet<FaultKey> = self.durable.keys().chain(self.pass.keys()).copied().collect();
        keys.into_iter().for_each(|key| self.passed(key, ordinal));
    }

    /// The rows that the pass has changed, and whether more are to be deleted than one pass does: those of conditions that are not
    /// `current` any more, because their audience has another one, or is no more.
    pub(super) fn effects(&mut self, current: impl Fn(FaultKey) -> bool, effects: &mut Vec<Effect>) -> bool {
        let (mut room, mut has_more) = (MAX_DELETED_ROWS, false);
        for (key, set) in self.durable.iter().filter(|(key, _)| !current(**key)) {
            let rest = set.without(room);
            room = room.saturating_sub(chunks_of(&(&set.people - &rest.people)).len());
            has_more |= !rest.people.is_empty();
            self.pass.insert(*key, rest);
        }
        let nobody = FaultSet::default();
        for (key, set) in &self.pass {
            let before = self.durable.get(key).map_or(&nobody, Arc::as_ref);
            set.effects(*key, before, effects);
        }
        has_more
    }

    /// The pass is durable; the sets as they are now, where it changed any.
    pub(super) fn committed(&mut self) -> Option<FaultSets> {
        if self.pass.is_empty() {
            return None;
        }
        for (key, set) in std::mem::take(&mut self.pass) {
            if set.people.is_empty() {
                self.durable.remove(&key);
            } else {
                self.durable.insert(key, Arc::new(set));
            }
        }
        Some(self.durable.clone())
    }

    /// The pass was given up.
    pub(super) fn abandon(&mut self) {
        self.pass.clear();
    }
}

#[cfg(test)]
mod tests;
