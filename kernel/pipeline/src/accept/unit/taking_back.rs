//! A slice of taking events back: what of it leaves the histories, as one unit.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::change::{Change, SupersededEvent};
use kith_model::consent::{Consents, Giver, is_consent, refusal};
use kith_model::event::Event;
use kith_model::id::{InstallationId, Position, SourceIdentityId};
use kith_model::identity::{Edge, Evidence};
use kith_model::profile::Contribution;
use kith_store::{ChangeLimits, CommitError, Key, Operation, ReadError, Store, Unit, row};
use serde_json::value::RawValue;

use super::Workspace;
use crate::accept::named;
use crate::accept::people::hear_again;
use crate::accept::readers::ReadBy;
use crate::accept::taking_back::{EventUndo, Found, LOG, TakenBackRow, consents, event_key};
use crate::profiles::consents::read_statements;
use crate::profiles::facts::{each_row, record_event};

/// The events that are to be taken back, and how far each undo has come.
#[derive(Default)]
pub(in crate::accept) struct TakingBack {
    wanted: Arc<[EventUndo]>,
    /// Those that have not come to their end.
    open: Vec<(EventUndo, TakenBackRow)>,
}

/// An event that leaves its history, with its position.
type Gone = (Position, Event);

/// What of an identity is taken back.
#[derive(Default)]
struct GoneOfOne {
    events: Vec<Gone>,
    /// What is in no history any more, and said something of consents.
    spoken: Vec<Event>,
}

/// What an identity's history says without what is taken back.
#[derive(Default)]
struct Rest {
    facts: Contribution,
    /// With what was refused by events that are gone.
    consents: Consents,
    has_events: bool,
}

/// Who may agree, by the events of an identity that said something of consents, as far as that is kept.
type Givers = BTreeMap<(InstallationId, String), Giver>;

impl Workspace {
    /// Take over what is to be taken back.
    pub(in crate::accept) fn take_undos(&mut self, wanted: &Arc<[EventUndo]>) -> Result<(), ReadError> {
        if self.taking_back.wanted == *wanted {
            return Ok(());
        }
        let mut open = Vec::new();
        for undo in wanted.iter() {
            // Where it ends stays: what the version writes while the undo waits is no more its business than what comes later.
            let held = self.taking_back.open.iter().find(|(open, _)| open == undo).map(|(_, row)| row.clone());
            let row = TakenBackRow::read(self.store.as_ref(), self.id, &undo.undo)?.or(held);
            let begun = || TakenBackRow::begin(undo.undo.number, self.store.head_of(self.id));
            let row = row.unwrap_or_else(begun);
            if !row.is_done {
                open.push((undo.clone(), row));
            }
        }
        self.taking_back = TakingBack { wanted: Arc::clone(wanted), open };
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
                self.forget_unit();
                self.committed_in_part()?;
                Ok(false)
            }
        }
    }

    /// Commit a slice, halved until it fits a unit; how far the undo is with it.
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
            if unit.size_bytes() <= self.max_unit_bytes {
                self.keep_unit();
                store.commit(unit)?;
                self.committed();
                return Ok(row);
            }
            self.forget_unit();
            if limits.records == 0 {
                return Err(CommitError::TooLarge { bytes: unit.size_bytes(), limit: self.max_unit_bytes });
            }
            limits.records /= 2;
        }
    }

    /// The next slice. One of no records leaves out the next one, which alone is too large.
    fn unit_of_taking_back(
        &mut self,
        undo: &EventUndo,
        row: &mut TakenBackRow,
        limits: ChangeLimits,
    ) -> Result<Unit, ReadError> {
        let (store, source) = (Arc::clone(&self.store), undo.undo.installation);
        let mut operations = Vec::new();
        let read = ReadBy::find(store.as_ref(), self.id, (source, &undo.undo.digest), row.until)?;
        match row.next(&read) {
            None => row.is_done = true,
            Some(up_to) => {
                let one_at_least = ChangeLimits { records: limits.records.max(1), ..limits };
                let found = read.read(store.as_ref(), self.id, (row.at, up_to), one_at_least)?;
                (row.at, row.taken_back.unreadable) = (found.at, row.taken_back.unreadable + found.unreadable);
                if limits.records == 0 {
                    row.taken_back.unreadable += found.events.len() as u64;
                } else {
                    self.take_out(undo, row, &read, found, &mut operations)?;
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
        Ok(Unit { preconditions, operations, ..Unit::default() })
    }

    /// Take events out of the histories of their people. What of a person cannot be read stays, and is counted.
    fn take_out(
        &mut self,
        undo: &EventUndo,
        row: &mut TakenBackRow,
        read: &ReadBy,
        found: Found,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        let mut people: BTreeMap<SourceIdentityId, GoneOfOne> = BTreeMap::new();
        for gone in found.events {
            people.entry(gone.1.identity).or_default().events.push(gone);
        }
        for spoken in found.spoken {
            people.entry(spoken.1.identity).or_default().spoken.push(spoken.1);
        }
        for (identity, GoneOfOne { events: gone, spoken }) in people {
            let count = gone.len() as u64;
            let mut taken_back = row.taken_back;
            gone.iter().for_each(|(_, event)| taken_back.count(event));
            match self.take_out_of(identity, (gone, &spoken), read, undo) {
                Ok((own, is_empty)) => {
                    self.people.keep_event();
                    operations.extend(own);
                    taken_back.left_empty += u64::from(is_empty && count > 0);
                    row.taken_back = taken_back;
                    let counts = self.totals.unit();
                    counts.events = counts.events.saturating_sub(count);
                }
                Err(error @ (ReadError::Io { .. } | ReadError::Truncated { .. })) => return Err(error),
                Err(error) => {
                    self.people.forget_event();
                    row.taken_back.unreadable += count;
                    tracing::error!(workspace = self.id.0, %identity, %error, "events of a person are not taken back, because a row cannot be read");
                }
            }
        }
        Ok(())
    }

    /// Take events out of the history of one identity: the operations that do it, and whether none is left.
    fn take_out_of(
        &mut self,
        identity: SourceIdentityId,
        (gone, spoken): (Vec<Gone>, &[Event]),
        read: &ReadBy,
        undo: &EventUndo,
    ) -> Result<(Vec<Operation>, bool), ReadError> {
        let rest = self.rest_of(&[identity], &gone, !spoken.is_empty(), read)?;
        for (_, event) in gone.iter().filter(|(_, event)| !event.traits.is_empty()) {
            // The trait that refused is the proof of the refusal, which stays.
            let stays = |name: &str, said: &RawValue| is_consent(name) && refusal(said.get()).is_some();
            self.people.retract_traits(identity, event, &rest.facts, stays)?;
        }
        let said: Vec<&Event> =
            gone.iter().map(|(_, event)| event).filter(|event| !consents(event).is_empty()).collect();
        let said: Vec<&Event> = said.into_iter().chain(spoken).collect();
        if !said.is_empty() {
            let ids: BTreeSet<&str> = said.iter().map(|event| event.message_id.as_str()).collect();
            let is_gone = |source: InstallationId, id: &str| source == undo.undo.installation && ids.contains(id);
            self.people.retract_agreements(identity, is_gone, &rest.consents)?;
            for form in self.forms_of(identity, &said)? {
                // What was heard there was said under its spellings, and is in their histories.
                let heard = self.spellings_of(form)?;
                let rest = self.rest_of(&heard, &gone, true, read)?;
                self.people.retract_agreements(form, is_gone, &rest.consents)?;
            }
        }
        let mut operations = Vec::with_capacity(3 * gone.len());
        for (position, event) in gone {
            self.seen.forget(&undo.source, &event, &mut operations);
            operations.push(Operation::Delete(event_key(self.id, &event, position)));
            let row = Some(Key::superseded(self.id, identity, event.time));
            let record = row::encode(&Change::TakenBack(SupersededEvent { position, event }));
            operations.push(Operation::Append { workspace: self.id, record, row });
        }
        Ok((operations, !rest.has_events))
    }

    /// The normal forms of the identifiers under which these events spoke of consents: what was said under a spelling of an
    /// address was heard under its normal form too.
    fn forms_of(
        &mut self,
        identity: SourceIdentityId,
        said: &[&Event],
    ) -> Result<BTreeSet<SourceIdentityId>, ReadError> {
        let mut forms = BTreeSet::new();
        for event in said {
            let (named, _) = named::of(event.kind, &event.identifiers, &self.rules);
            let Some(first) = named.first().filter(|first| first.spelled != first.normal) else { continue };
            forms.extend(self.people.find(&first.normal)?.filter(|form| *form != identity));
        }
        Ok(forms)
    }

    /// A normal form and those that are spellings of it.
    fn spellings_of(&self, form: SourceIdentityId) -> Result<Vec<SourceIdentityId>, ReadError> {
        let mut heard = vec![form];
        each_row(self.store.as_ref(), &Key::edges(self.id, form), |_, value| {
            let Edge { id, .. } = row::decode(value)?;
            if matches!(id.evidence, Evidence::Spelling(_) | Evidence::Former(_)) {
                heard.push(if id.low == form { id.high } else { id.low });
            }
            Ok(())
        })?;
        Ok(heard)
    }

    /// What the history of these identities says without these events, and without the others that were read by the same, whose turn
    /// comes; of consents where `of_consents`, or where these events speak of them.
    fn rest_of(
        &self,
        identities: &[SourceIdentityId],
        gone: &[Gone],
        of_consents: bool,
        read: &ReadBy,
    ) -> Result<Rest, ReadError> {
        let of_consents = of_consents || gone.iter().any(|(_, event)| !consents(event).is_empty());
        let mut rest = Rest::default();
        for identity in identities {
            self.hear_rest(&mut rest, *identity, gone, of_consents, read)?;
        }
        if of_consents {
            gone.iter().for_each(|(_, event)| rest.hear(Some(&Givers::new()), event, true));
        }
        Ok(rest)
    }

    fn hear_rest(
        &self,
        rest: &mut Rest,
        identity: SourceIdentityId,
        gone: &[Gone],
        of_consents: bool,
        read: &ReadBy,
    ) -> Result<(), ReadError> {
        let store = self.store.as_ref();
        let positions: BTreeSet<Position> = gone.iter().map(|(position, _)| *position).collect();
        if !of_consents && gone.iter().all(|(_, event)| event.traits.is_empty()) {
            // Nothing is asked of it but whether it has another one.
            let page = store.scan(&Key::events(self.id, identity).range(), gone.len() + 1)?;
            rest.has_events |= page.rows.iter().any(|(key, _)| !positions.contains(&key.position()));
            return Ok(());
        }
        let givers = of_consents.then(|| self.givers_of(identity)).transpose()?;
        each_row(store, &Key::events(self.id, identity), |key, value| {
            let position = key.position();
            if let Change::Recorded(event) = row::decode(value)?
                && !positions.contains(&position)
            {
                rest.has_events = true;
                let is_gone = read.has(&event, position);
                if !is_gone {
                    record_event(&mut rest.facts, &event);
                }
                rest.hear(givers.as_ref(), &event, is_gone);
            }
            Ok(())
        })?;
        if givers.is_some() {
            each_row(store, &Key::superseded_of(self.id, identity), |_, value| {
                match row::decode::<Change>(value)? {
                    Change::Superseded(before) => {
                        let is_gone = read.has(&before.event, before.position);
                        rest.hear(givers.as_ref(), &before.event, is_gone);
                    }
                    Change::TakenBack(before) => rest.hear(givers.as_ref(), &before.event, true),
                    _ => {}
                }
                Ok(())
            })?;
        }
        Ok(())
    }

    fn givers_of(&self, identity: SourceIdentityId) -> Result<Givers, ReadError> {
        let said = read_statements(self.store.as_ref(), self.id, identity)?;
        Ok(said.into_iter().map(|said| ((said.source, said.message_id), said.giver)).collect())
    }
}

impl Rest {
    /// Take in what an event says of consents. One that is gone agrees to nothing, and so does one of which nobody knows any more
    /// whether it may.
    fn hear(&mut self, givers: Option<&Givers>, event: &Event, is_gone: bool) {
        let Some(givers) = givers else { return };
        for said in consents(event) {
            let giver = match is_gone {
                true => Giver::RefusesOnly,
                false => givers.get(&(event.source, event.message_id.clone())).copied().unwrap_or_default(),
            };
            hear_again(&mut self.consents, event, said, giver);
        }
    }
}
