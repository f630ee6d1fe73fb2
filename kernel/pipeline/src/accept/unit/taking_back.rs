//! A slice of taking events back: what of it leaves the histories, as one unit.

mod rest;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::change::{Change, SupersededEvent};
use kith_model::consent::{is_consent, refusal};
use kith_model::event::{Event, EventOrigin};
use kith_model::id::{InstallationId, Position, SourceIdentityId};
use kith_model::profile::Contribution;
use kith_store::{ChangeLimits, CommitError, Key, Operation, ReadError, Store, Unit, row};
use serde_json::value::RawValue;

use super::Workspace;
use crate::accept::readers::ReadBy;
use crate::accept::taking_back::{EventUndo, Found, LOG, Returning, TakenBack, TakenBackRow, consents, event_key};
use crate::accept::{content, named};
use crate::profiles::consents::forms_of;
use crate::profiles::facts::record_event;
use rest::{Asked, HISTORY, Room, Stays};

/// The events that are to be taken back, and how far each undo has come.
#[derive(Default)]
pub(in crate::accept) struct TakingBack {
    wanted: Arc<[EventUndo]>,
    /// Those that have not come to their end.
    open: Vec<(EventUndo, TakenBackRow)>,
    /// People of whom there is more than is read.
    too_much: BTreeSet<SourceIdentityId>,
}

/// An event that leaves its history, with its position.
type Gone = (Position, Event);

/// What of an identity is taken back.
#[derive(Default)]
struct GoneOfOne {
    events: Vec<Gone>,
    /// What is in no history any more.
    out: Vec<Gone>,
    /// What returns for it, also to the histories of others.
    returning: Vec<Returning>,
    /// How much would return and cannot.
    lost: u64,
}

/// People of whom there is more than is read, remembered at most: each slice would begin to read them again.
const MAX_TOO_MUCH: usize = 10_000;

impl Workspace {
    /// Take over what is to be taken back.
    pub(in crate::accept) fn take_undos(&mut self, wanted: &Arc<[EventUndo]>) -> Result<(), ReadError> {
        if self.taking_back.wanted == *wanted {
            return Ok(());
        }
        let mut open = Vec::new();
        for undo in wanted.iter() {
            // Where it ends stays: what the version writes while the undo waits is no more its business than what comes later.
            let held = self.taking_back.open.iter().find(|(open, _)| open.undo == undo.undo);
            let held = held.map(|(_, row)| row.clone());
            let mut before = TakenBack::default();
            let row = match TakenBackRow::last(self.store.as_ref(), self.id, &undo.undo) {
                Ok(last) => {
                    before = last.as_ref().map(|last| last.taken_back).unwrap_or_default();
                    last.filter(|last| last.number == undo.undo.number).or(held)
                }
                Err(error @ (ReadError::Io { .. } | ReadError::Truncated { .. })) => return Err(error),
                // The others go on.
                Err(error) => {
                    tracing::error!(workspace = self.id.0, source = undo.undo.installation.0, %error, "nothing tells how far events were taken back");
                    held.or_else(|| Some(TakenBackRow::lost(undo.undo.number)))
                }
            };
            let begun = || TakenBackRow::begin(undo.undo.number, self.store.head_of(self.id), before);
            let row = row.unwrap_or_else(begun);
            if !row.is_done {
                open.push((undo.clone(), row));
            }
        }
        self.taking_back = TakingBack { wanted: Arc::clone(wanted), open, too_much: BTreeSet::new() };
        Ok(())
    }

    /// Whether there are events to be taken back.
    pub(in crate::accept) fn has_to_take_back(&self) -> bool {
        !self.taking_back.open.is_empty()
    }

    /// One slice of taking events back, committed, where there are any; whether there was. Where it cannot be committed, e.g.
    /// because the disk is full, a later turn tries again.
    ///
    /// # Errors
    /// The workspace's state is not known.
    pub(in crate::accept) fn take_events_back(&mut self, store: &Arc<dyn Store>) -> Result<bool, ReadError> {
        let Some((undo, row)) = self.taking_back.open.first().cloned() else { return Ok(false) };
        match self.take_slice_back(store, &undo, row) {
            Ok(row) => {
                if row.is_done {
                    tracing::info!(workspace = self.id.0, source = undo.undo.installation.0, taken_back = ?row.taken_back, "events of a version were taken back");
                    self.taking_back.open.remove(0);
                } else if let Some(held) = self.taking_back.open.first_mut() {
                    held.1 = row;
                }
                Ok(true)
            }
            Err(error) => {
                tracing::error!(workspace = self.id.0, source = undo.undo.installation.0, %error, "events of a version wait to be taken back");
                // Another one is not held up by it.
                self.taking_back.open.rotate_left(1);
                self.forget_unit();
                self.committed_in_part()?;
                Ok(false)
            }
        }
    }

    /// Commit a slice, halved until it fits a unit and takes no more reading than it may; how far the undo is with it.
    fn take_slice_back(
        &mut self,
        store: &Arc<dyn Store>,
        undo: &EventUndo,
        before: TakenBackRow,
    ) -> Result<TakenBackRow, CommitError> {
        let mut limits = LOG;
        loop {
            let mut row = before.clone();
            let unit = self.unit_of_taking_back(undo, &mut row, limits)?;
            let bytes = unit.as_ref().map_or(0, Unit::size_bytes);
            if let Some(unit) = unit.filter(|_| bytes <= self.max_unit_bytes) {
                self.keep_unit();
                store.commit(unit)?;
                self.committed();
                return Ok(row);
            }
            self.forget_unit();
            if limits.records == 0 {
                return Err(CommitError::TooLarge { bytes, limit: self.max_unit_bytes });
            }
            limits.records /= 2;
        }
    }

    /// The next slice; `None` where it takes too much reading. One of no records leaves out the next one, which alone is too large.
    fn unit_of_taking_back(
        &mut self,
        undo: &EventUndo,
        row: &mut TakenBackRow,
        limits: ChangeLimits,
    ) -> Result<Option<Unit>, ReadError> {
        let (store, source) = (Arc::clone(&self.store), undo.undo.installation);
        let mut operations = Vec::new();
        let read = ReadBy::find(store.as_ref(), self.id, (source, &undo.undo.digest), row.until)?;
        if row.from.is_none() {
            row.taken_back.unreadable += read.unreadable;
        }
        match row.next(&read) {
            None => row.is_done = true,
            Some(up_to) => {
                let one_at_least = ChangeLimits { records: limits.records.max(1), ..limits };
                let found = read.read(store.as_ref(), self.id, (row.at, up_to), one_at_least)?;
                (row.at, row.taken_back.unreadable) = (found.at, row.taken_back.unreadable + found.unreadable);
                if limits.records == 0 {
                    row.taken_back.unreadable += found.events.len() as u64;
                } else if !self.take_out(undo, row, &read, found, limits.records == 1, &mut operations)? {
                    return Ok(None);
                }
            }
        }
        self.people.write(&mut operations);
        self.seen.write(&mut operations)?;
        operations.extend(self.note_applied());
        let preconditions = self.count_people(&mut operations);
        let waiting = self.taking_back.open.iter().filter(|(open, _)| open != undo).map(|(open, row)| (open, row));
        for (undo, row) in waiting.chain([(undo, &*row)]) {
            let key = TakenBackRow::key(self.id, undo.undo.installation, &undo.undo.digest);
            operations.push(Operation::Put(key, row::encode(row)));
        }
        Ok(Some(Unit { preconditions, operations, ..Unit::default() }))
    }

    /// Take events out of the histories of their people; whether that took no more reading than it may, which is not asked of the
    /// least. What of a person cannot be read stays, and is counted.
    fn take_out(
        &mut self,
        undo: &EventUndo,
        row: &mut TakenBackRow,
        read: &ReadBy,
        found: Found,
        is_least: bool,
        operations: &mut Vec<Operation>,
    ) -> Result<bool, ReadError> {
        let people = self.by_identity(read, found)?;
        let of_returning = people.values().flat_map(|of_one| &of_one.returning);
        let returned_to: BTreeSet<SourceIdentityId> = of_returning.map(|one| one.event.event.identity).collect();
        let (mut left, mut returning) = (HISTORY, Vec::new());
        for (identity, mut of_one) in people {
            if left.is_over() && !is_least {
                return Ok(false);
            }
            let spoken = of_one.out.iter().filter(|(_, event)| !consents(event).is_empty()).count();
            let (count, all) = (of_one.events.len() as u64, (of_one.events.len() + spoken) as u64);
            let returns = std::mem::take(&mut of_one.returning);
            let mut taken_back = row.taken_back;
            taken_back.lost += of_one.lost;
            of_one.events.iter().for_each(|(_, event)| taken_back.count(event));
            let mut room = HISTORY;
            let taken_out = match self.taking_back.too_much.contains(&identity) {
                true => Err(Stays::TooMuch),
                false => self.take_out_of(identity, of_one, (undo, read), &mut room),
            };
            left = left.without(room);
            match taken_out {
                Ok((own, is_empty)) => {
                    self.people.keep_event();
                    operations.extend(own);
                    taken_back.left_empty += u64::from(is_empty && count > 0 && !returned_to.contains(&identity));
                    returning.extend(returns);
                    row.taken_back = taken_back;
                    let counts = self.totals.unit();
                    counts.events = counts.events.saturating_sub(count);
                }
                Err(Stays::Unreadable(error @ (ReadError::Io { .. } | ReadError::Truncated { .. }))) => {
                    return Err(error);
                }
                Err(stays) => {
                    self.people.forget_event();
                    row.taken_back.unreadable += all;
                    self.note_staying(identity, &stays);
                }
            }
        }
        returning.into_iter().try_for_each(|one| self.bring_back(undo, row, one, operations))?;
        Ok(true)
    }

    /// What of each identity is taken back, and what returns for it.
    fn by_identity(&self, read: &ReadBy, mut found: Found) -> Result<BTreeMap<SourceIdentityId, GoneOfOne>, ReadError> {
        let mut people: BTreeMap<SourceIdentityId, GoneOfOne> = BTreeMap::new();
        for gone in std::mem::take(&mut found.events) {
            let replaced = found.replaced(self.store.as_ref(), self.id, read, &gone)?;
            let of_one = people.entry(gone.1.identity).or_default();
            of_one.returning.extend(replaced.returning);
            of_one.lost += replaced.lost;
            of_one.events.push(gone);
        }
        for out in found.out {
            people.entry(out.1.identity).or_default().out.push(out);
        }
        Ok(people)
    }

    /// Put an event back into its history, whose place one had taken that is taken back. What it said of consents was never taken
    /// from it. One whose facts cannot be given again is counted.
    fn bring_back(
        &mut self,
        undo: &EventUndo,
        row: &mut TakenBackRow,
        Returning { row: key, event: returning }: Returning,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        let SupersededEvent { position, event } = &returning;
        let mut facts = Contribution::default();
        record_event(&mut facts, event);
        match self.people.give_again(event.identity, facts) {
            Ok(()) => self.people.keep_event(),
            Err(error @ (ReadError::Io { .. } | ReadError::Truncated { .. })) => return Err(error),
            Err(error) => {
                self.people.forget_event();
                row.taken_back.lost += 1;
                tracing::error!(workspace = self.id.0, identity = %event.identity, %error, "an event does not return to its history, because a row cannot be read");
                return Ok(());
            }
        }
        if event.origin == EventOrigin::Import {
            self.seen.bring_back(&undo.source, event, content::digest_of(event));
        }
        row.taken_back.returned += 1;
        self.totals.unit().events += 1;
        operations.push(Operation::Delete(key));
        let held = row::encode(&Change::Recorded(event.clone()));
        operations.push(Operation::Put(event_key(self.id, event, *position), held));
        let record = row::encode(&Change::Returned(returning));
        operations.push(Operation::Append { workspace: self.id, record, row: None });
        Ok(())
    }

    /// Write down why the events of a person stay.
    fn note_staying(&mut self, identity: SourceIdentityId, stays: &Stays) {
        match stays {
            Stays::Unreadable(error) => {
                tracing::error!(workspace = self.id.0, %identity, %error, "events of a person are not taken back, because a row cannot be read");
            }
            Stays::TooMuch => {
                tracing::warn!(workspace = self.id.0, %identity, "events of a person are not taken back, because there is more of them than is read");
                let too_much = &mut self.taking_back.too_much;
                if too_much.len() >= MAX_TOO_MUCH {
                    too_much.clear();
                }
                too_much.insert(identity);
            }
        }
    }

    /// Take events out of the history of one identity: the operations that do it, and whether none is left.
    fn take_out_of(
        &mut self,
        identity: SourceIdentityId,
        GoneOfOne { events: gone, out, .. }: GoneOfOne,
        (undo, read): (&EventUndo, &ReadBy),
        room: &mut Room,
    ) -> Result<(Vec<Operation>, bool), Stays> {
        let all = gone.iter().chain(&out).map(|(_, event)| event);
        let said: Vec<&Event> = all.filter(|event| !consents(event).is_empty()).collect();
        let asked = Asked { undo, read, gone: &gone, of_consents: !said.is_empty() };
        let rest = self.rest_of(identity, &asked, room)?;
        for (_, event) in gone.iter().filter(|(_, event)| !event.traits.is_empty()) {
            // The trait that refused is the proof of the refusal, which stays.
            let stays = |name: &str, said: &RawValue| is_consent(name) && refusal(said.get()).is_some();
            self.people.retract_traits(identity, event, &rest.facts, stays)?;
        }
        if !rest.facts.traits.is_empty() {
            self.people.fill_up(identity, &rest.facts)?;
        }
        if !said.is_empty() {
            let ids: BTreeSet<&str> = said.iter().map(|event| event.message_id.as_str()).collect();
            let is_gone = |source: InstallationId, id: &str| source == undo.undo.installation && ids.contains(id);
            self.people.retract_agreements(identity, is_gone, &rest.consents)?;
            for form in self.forms_of(identity, &said)? {
                let rest = self.rest_of_form(form, identity, &asked, room)?;
                self.people.retract_agreements(form, is_gone, &rest.consents)?;
            }
        }
        let mut operations = Vec::with_capacity(3 * gone.len());
        self.note_out(&out, room, &mut operations)?;
        for (position, event) in gone {
            // What another event has said as well is known still.
            if !rest.ids.contains(&event.message_id) {
                self.seen.forget(&undo.source, &event, &mut operations);
            }
            operations.push(Operation::Delete(event_key(self.id, &event, position)));
            let row = Some(Key::superseded(self.id, identity, event.time));
            let record = row::encode(&Change::TakenBack(SupersededEvent { position, event }));
            operations.push(Operation::Append { workspace: self.id, record, row });
        }
        Ok((operations, !rest.has_events))
    }

    /// Note of events that were superseded that they are taken back as well: nothing brings them back, and what they agreed to is not
    /// heard again.
    fn note_out(&self, out: &[Gone], room: &mut Room, operations: &mut Vec<Operation>) -> Result<(), Stays> {
        for (position, event) in out {
            let rows = Key::superseded(self.id, event.identity, event.time);
            room.each(self.store.as_ref(), &rows, |key, value| {
                if let Change::Superseded(before) = row::decode(value)?
                    && before.position == *position
                {
                    let held = row::encode(&Change::TakenBack(before));
                    operations.push(Operation::Put(key.clone(), held));
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    /// The normal forms of the identifiers under which these events spoke of consents: what was said under a spelling of an
    /// address was heard under its normal form too, by the rules of then.
    fn forms_of(
        &mut self,
        identity: SourceIdentityId,
        said: &[&Event],
    ) -> Result<BTreeSet<SourceIdentityId>, ReadError> {
        let mut forms = forms_of(self.store.as_ref(), self.id, identity)?;
        for event in said {
            let (named, _) = named::of(event.kind, &event.identifiers, &self.rules);
            let Some(first) = named.first().filter(|first| first.spelled != first.normal) else { continue };
            forms.extend(self.people.find(&first.normal)?);
        }
        forms.remove(&identity);
        Ok(forms)
    }
}
