//! The first computation of what is new, a slice with each pass: histories into new leaves, then every profile once for new
//! models and audiences. A slice is bounded in people and in bytes of history, and one person's history can be cut too.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_features::{EventFacts, FeatureName, Leaf, LeafId};
use kith_model::audience::Cause;
use kith_model::change::Change;
use kith_model::id::{Position, ProfileId, SourceIdentityId};
use kith_store::keys::PersonRow;
use kith_store::{Key, KeyRange, ReadError, row};

use super::effects::Effect;
use super::projection::Advance;
use super::reactor::{PassError, Reactor};
use super::readiness::{Place, Walk, Work, is_undo, share};
use crate::plan::Task;

/// Events of one identity that are read at once.
pub(super) const PAGE_EVENTS: usize = 512;

/// Rows that are read for each person whom a slice of [`Key::people`] takes: one is the head, and beside it there are few.
const PERSON_ROWS: usize = 4;

/// Bytes of a key before the part that a hash of the identity spreads: space and workspace.
const PREFIX_BYTES: usize = 5;

/// How a person's history came along.
enum HistoryExtent {
    Whole,
    /// To be gone on with at this key of its events.
    Until(Vec<u8>),
}

/// Identities with the keys that their rows begin with, and where a walk goes on after them.
type Slice = (Vec<(SourceIdentityId, Key)>, Option<Key>);

impl Reactor {
    /// How far the work under way is.
    pub(super) fn advance(&self) -> Option<Advance> {
        let (walks, finished) = match self.readiness.work() {
            Work::Nothing => return None,
            // A backfill is followed by a sweep of as many people.
            Work::Backfill => (self.readiness.backfills.first().map(|walk| &walk.next), 0.0),
            Work::Sweep => (self.readiness.sweeps.first().map(|walk| &walk.next), 0.5),
        };
        let share = finished + walks.map_or(0.0, |next| share(next, PREFIX_BYTES)) / 2.0;
        let of = self.workspace.projection.read().index.population().len();
        #[allow(
            clippy::cast_precision_loss,
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "a share of people"
        )]
        let done = (of as f64 * share.clamp(0.0, 1.0)) as u64;
        Some(Advance { done, of })
    }

    /// The identities whose keys a range begins with, and where to go on; each has about `rows_of_each` rows there.
    fn slice(&self, prefix: &Key, rows_of_each: usize, next: &Place) -> Result<Slice, ReadError> {
        let all = prefix.range();
        let from = match next {
            Place::Start => all.from,
            Place::At { person, .. } => Key::resumed(person),
        };
        let page = self.shared.store.scan(&KeyRange { from, to: all.to }, rows_of_each * self.budget.people)?;
        let mut people: Vec<(SourceIdentityId, Key)> = Vec::new();
        for (key, _) in page.rows {
            let identity = match (key.as_person(), key.as_derived()) {
                (Some((identity, row)), _) if row == PersonRow::Head as u8 => identity,
                (_, Some(identity)) => identity,
                _ => continue,
            };
            if people.len() >= self.budget.people {
                return Ok((people, Some(key)));
            }
            people.push((identity, key));
        }
        Ok((people, page.next))
    }

    /// Read the histories of a slice of people into the leaves of the oldest backfill.
    pub(super) fn backfill(&mut self) -> Result<(), PassError> {
        let Some(Walk { wanted, next }) = self.readiness.backfills.first().cloned() else { return Ok(()) };
        let (people, after) = self.slice(&Key::people(self.workspace.id), PERSON_ROWS, &next)?;
        let mut resume = match next {
            Place::At { events, .. } => events,
            Place::Start => None,
        };
        let mut bytes = 0;
        let mut place = after.map(|key| Place::At { person: key.as_bytes().to_vec(), events: None });
        for (index, (identity, key)) in people.iter().enumerate() {
            let resume = resume.take();
            if self.leaves_out() {
                self.leave_out(*identity);
                continue;
            }
            let read = self.read_history(*identity, &wanted, resume, &mut bytes);
            match self.readable(*identity, read)? {
                Some(HistoryExtent::Whole) => self.show_past(*identity, &wanted)?,
                Some(HistoryExtent::Until(events)) => {
                    place = Some(Place::At { person: key.as_bytes().to_vec(), events: Some(events) });
                    break;
                }
                None => {}
            }
            if bytes + self.identities.pass_bytes() > self.budget.bytes
                && let Some((_, next)) = people.get(index + 1)
            {
                place = Some(Place::At { person: next.as_bytes().to_vec(), events: None });
                break;
            }
        }
        self.readiness = std::mem::take(&mut self.readiness).backfilled(place);
        self.pass.has_more = true;
        Ok(())
    }

    /// Read a person's history up to the cursor into `wanted` leaves, from `resume` on; a whole one begins from nothing. It is
    /// cut behind the event that passes the budget, since a page of large events alone can make more than a unit holds.
    fn read_history(
        &mut self,
        identity: SourceIdentityId,
        wanted: &BTreeSet<LeafId>,
        resume: Option<Vec<u8>>,
        bytes: &mut usize,
    ) -> Result<HistoryExtent, ReadError> {
        let compiled = Arc::clone(&self.compiled);
        if !self.identities.load(identity)? {
            return Ok(HistoryExtent::Whole);
        }
        let all = Key::events(self.workspace.id, identity).range();
        let from = match &resume {
            Some(from) => Key::resumed(from),
            None => {
                let plan = &compiled.plan;
                let is_kept = |leaf| !wanted.contains(&leaf) && plan.program.leaf(leaf).is_some();
                let keys = self.identities.drop_leaves(identity, is_kept);
                if !keys.is_empty() {
                    self.pass.effects.push(Effect::Dropped { keys });
                }
                all.from
            }
        };
        let mut range = KeyRange { from, to: all.to };
        loop {
            let page = self.shared.store.scan(&range, PAGE_EVENTS)?;
            let mut rows = page.rows.iter().peekable();
            while let Some((key, value)) = rows.next() {
                *bytes += value.len();
                let position = key.position();
                if position <= self.pass.cursor.position
                    && let Change::Recorded(event) = row::decode::<Change>(value)?
                {
                    self.take_past(identity, &event, wanted)?;
                }
                let next = rows.peek().map(|(next, _)| next).or(page.next.as_ref());
                if let Some(next) = next.filter(|_| *bytes > self.budget.bytes) {
                    return Ok(HistoryExtent::Until(next.as_bytes().to_vec()));
                }
            }
            let Some(next) = page.next else { return Ok(HistoryExtent::Whole) };
            range.from = next;
        }
    }

    pub(super) fn take_past(
        &mut self,
        identity: SourceIdentityId,
        event: &kith_model::event::Event,
        wanted: &BTreeSet<LeafId>,
    ) -> Result<(), ReadError> {
        let compiled = Arc::clone(&self.compiled);
        let source = compiled.plan.source_names.get(&event.source).map_or("", String::as_str);
        let facts = EventFacts::new(event, source);
        let (zone, now) = (&compiled.setup.zone, self.now());
        let leaves: Vec<&Arc<Leaf>> =
            compiled.plan.program.leaves_for(&facts).filter(|leaf| wanted.contains(&leaf.id())).collect();
        self.identities.apply(identity, &leaves, &facts, now, zone).map(drop)
    }

    /// Show the new leaves of a person whose history has been read, and set their timers.
    fn show_past(&mut self, identity: SourceIdentityId, wanted: &BTreeSet<LeafId>) -> Result<(), PassError> {
        let Some(person) = self.identities.person(identity) else { return Ok(()) };
        let profile = person.profile();
        let held = person.derived.iter().flat_map(|derived| derived.leaves.ids());
        let leaves: Vec<LeafId> = held.filter(|leaf| wanted.contains(leaf)).collect();
        if leaves.is_empty() {
            return Ok(());
        }
        let touch = self.touch(profile, Cause::Change, self.pass.cursor.position)?;
        leaves.into_iter().for_each(|leaf| touch.leaf(leaf, || kith_features::Value::Unknown));
        Ok(())
    }

    /// Look at a slice of profiles for the work of the oldest sweep.
    pub(super) fn sweep(&mut self) -> Result<(), PassError> {
        let Some(Walk { wanted, next }) = self.readiness.sweeps.first().cloned() else { return Ok(()) };
        let tasks: Arc<BTreeSet<Task>> = Arc::new(wanted);
        let (people, after) = self.slice(&Key::derived_rows(self.workspace.id), 1, &next)?;
        let mut place = after.map(|key| Place::At { person: key.as_bytes().to_vec(), events: None });
        let position = self.pass.cursor.position;
        let partial = self.workspace.projection.read().partial.clone();
        for (index, (identity, _)) in people.iter().enumerate() {
            if self.leaves_out() {
                self.leave_out(*identity);
                continue;
            }
            self.sweep_one(*identity, position, &tasks, &partial)?;
            if self.identities.pass_bytes() > self.budget.bytes
                && let Some((_, next)) = people.get(index + 1)
            {
                place = Some(Place::At { person: next.as_bytes().to_vec(), events: None });
                break;
            }
        }
        self.compute_touched()?;
        self.readiness = std::mem::take(&mut self.readiness).swept(place);
        self.pass.has_more = true;
        Ok(())
    }

    fn sweep_one(
        &mut self,
        identity: SourceIdentityId,
        position: Position,
        tasks: &Arc<BTreeSet<Task>>,
        partial: &BTreeSet<FeatureName>,
    ) -> Result<(), PassError> {
        let is_there = self.identities.load(identity);
        if self.readable(identity, is_there)? != Some(true) {
            return Ok(());
        }
        let is_root = self.identities.person(identity).is_some_and(|person| !person.members().is_empty());
        if !is_root {
            return Ok(());
        }
        let plan = Arc::clone(&self.compiled);
        self.forget_audiences(identity, &plan.plan);
        // What is taken back sets nothing off.
        let cause = if tasks.iter().any(is_undo) { Cause::Undo } else { Cause::Change };
        let touch = self.touch(ProfileId(identity), cause, position)?;
        touch.tasks = Some(Arc::clone(tasks));
        touch.features.extend(partial.iter().cloned());
        Ok(())
    }

    /// Drop memberships of audiences that are no more.
    fn forget_audiences(&mut self, identity: SourceIdentityId, plan: &crate::plan::Plan) {
        let derived = self.identities.person(identity).and_then(|person| person.derived.as_ref());
        let has_lost = derived.is_some_and(|d| d.memberships.keys().any(|id| plan.audience(*id).is_none()));
        if has_lost && let Some(derived) = self.identities.derived_mut(identity) {
            derived.memberships.retain(|id, _| plan.audience(*id).is_some());
        }
    }
}
