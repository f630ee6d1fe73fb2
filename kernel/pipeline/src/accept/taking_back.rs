//! Taking back what one version of a connector read: its events leave the histories of their people, a slice between two groups
//! of events, as a change of identity rules is applied.
//!
//! A slice reads a part of the log, takes what of it the version read out of the histories, and is one commit with the place where
//! the next begins; so a kill costs one slice, and nothing is taken back twice. Each event leaves a record behind, by which the
//! reactor makes again what the event fed, and so does what it had taken the place of, which counts again. Its facts are what the
//! person's other events say. Its agreements are what everything
//! else that was said comes to; what it refused stays refused, and what it was as evidence stays too. Its message is forgotten, so
//! that the same may come again, read by another version.

mod replaced;

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::change::Change;
use kith_model::consent::{Entries, is_consent, refusal};
use kith_model::event::Event;
use kith_model::id::{InstallationId, Position, WorkspaceId};
use kith_store::keys::Definition;
use kith_store::row::{Owner, Row, read_postcard};
use kith_store::{ChangeLimits, Key, ReadError, Store, row};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

pub(crate) use replaced::Returning;
use replaced::{Corrections, Replaced};

use super::readers::ReadBy;
use super::validate::mentions_consent;
use crate::profiles::facts::get_one;
use crate::setup::{Setup, Undo, Undone};

/// Most records of the log that a slice reads.
pub(super) const LOG: ChangeLimits = ChangeLimits { records: if cfg!(test) { 3 } else { 256 }, bytes: 1 << 20 };

/// What the setup says of events that are taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct EventUndo {
    pub undo: Undo,
    /// The name of the source, under which the rows of its files are remembered.
    pub source: String,
    /// Those that have that name or had it.
    pub sources: BTreeSet<InstallationId>,
}

impl EventUndo {
    /// All of a setup.
    pub(crate) fn of(setup: &Setup) -> Arc<[EventUndo]> {
        let undos = setup.undos.iter().filter(|undo| undo.of == Undone::Events);
        let named = undos.map(|undo| {
            let source = setup.source_names.get(&undo.installation).cloned().unwrap_or_default();
            let of_name = setup.source_names.iter().filter(|(_, name)| **name == source).map(|(id, _)| *id);
            EventUndo { undo: undo.clone(), sources: of_name.chain([undo.installation]).collect(), source }
        });
        named.collect()
    }
}

/// What was taken back, and what of it stays.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct TakenBack {
    /// Events that left the histories of their people.
    pub events: u64,
    /// Those of them that stated facts.
    pub with_facts: u64,
    /// Those of them that agreed to something.
    pub agreeing: u64,
    /// Those of them that refused something, which stays refused.
    pub refusing: u64,
    /// Those of them with more than one identifier, which stays evidence of who is one person.
    pub tying: u64,
    /// Identifiers that have no event since, and stay.
    pub left_empty: u64,
    /// Events that stay, and rows and records of the log that could not be read: with a row that cannot be read, too large for a
    /// commit, or of a person of whom there is more than is read.
    pub unreadable: u64,
    /// Events of other versions that count again, whose place those had taken.
    pub returned: u64,
    /// Events of other versions that would count again, and of which nothing is left that could.
    pub lost: u64,
}

/// [`TakenBack`] as the version before had it, which brought nothing back.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct TakenBackV1 {
    events: u64,
    with_facts: u64,
    agreeing: u64,
    refusing: u64,
    tying: u64,
    left_empty: u64,
    unreadable: u64,
}

impl From<TakenBackV1> for TakenBack {
    fn from(before: TakenBackV1) -> TakenBack {
        let TakenBackV1 { events, with_facts, agreeing, refusing, tying, left_empty, unreadable } = before;
        TakenBack { events, with_facts, agreeing, refusing, tying, left_empty, unreadable, returned: 0, lost: 0 }
    }
}

impl TakenBack {
    /// Count an event in.
    pub(crate) fn count(&mut self, event: &Event) {
        self.events += 1;
        self.with_facts += u64::from(!event.traits.is_empty());
        self.tying += u64::from(event.identifiers.len() > 1);
        let said = consents(event);
        self.refusing += u64::from(said.iter().any(|said| refusal(said.get()).is_some()));
        self.agreeing += u64::from(said.iter().any(|said| agrees(said)));
    }
}

/// What an event says of consents, each as it stands there.
pub(crate) fn consents(event: &Event) -> Vec<&RawValue> {
    // A name may be written with escapes.
    if !mentions_consent(&event.traits) && !event.traits.contains('\\') {
        return Vec::new();
    }
    // The text was checked when the event was accepted.
    let Ok(Entries(traits)) = serde_json::from_str::<Entries<'_>>(&event.traits) else { return Vec::new() };
    traits.into_iter().filter(|(name, _)| is_consent(name)).map(|(_, said)| said).collect()
}

fn agrees(said: &RawValue) -> bool {
    serde_json::from_str(said.get())
        .is_ok_and(|Entries(answers)| answers.iter().any(|(_, answered)| answered.get() == "true"))
}

/// How far the events of a version are taken back.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct TakenBackRow {
    /// Of the [`Undo`].
    pub number: u32,
    /// Where the part of the log begins in which they lie, once it is known.
    pub from: Option<Position>,
    /// Up to where the log was read.
    pub at: Position,
    /// Where it ends. What comes later stays.
    pub until: Position,
    pub is_done: bool,
    /// By this undo and by those of the same version before it; what stays because it cannot be read, by this one.
    pub taken_back: TakenBack,
}

/// [`TakenBackRow`] as the version before had it.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct TakenBackRowV1 {
    number: u32,
    from: Option<Position>,
    at: Position,
    until: Position,
    is_done: bool,
    taken_back: TakenBackV1,
}

impl Row for TakenBackRow {
    const WHAT: &'static str = "how far events are taken back";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 2;

    fn before(version: u8, body: &[u8]) -> Option<Result<TakenBackRow, String>> {
        (version == 1).then(|| {
            let TakenBackRowV1 { number, from, at, until, is_done, taken_back } = read_postcard(body)?;
            Ok(TakenBackRow { number, from, at, until, is_done, taken_back: taken_back.into() })
        })
    }
}

impl TakenBackRow {
    /// Nothing was looked at yet. What undos of the same version took back before it stays counted.
    pub(crate) fn begin(number: u32, until: Position, before: TakenBack) -> TakenBackRow {
        let taken_back = TakenBack { unreadable: 0, ..before };
        TakenBackRow { number, from: None, at: Position(0), until, is_done: false, taken_back }
    }

    /// Nothing tells how far it had come: it ends here, and what is left may be asked for again.
    pub(super) fn lost(number: u32) -> TakenBackRow {
        let taken_back = TakenBack { unreadable: 1, ..TakenBack::default() };
        TakenBackRow { taken_back, ..TakenBackRow::begin(number, Position(0), TakenBack::default()) }
    }

    pub(crate) fn key(workspace: WorkspaceId, source: InstallationId, digest: &str) -> Key {
        let name = [&source.0.to_be_bytes(), digest.as_bytes()].concat();
        Key::definition(workspace, Definition::TakenBack, &name)
    }

    /// How far an undo has come; `None` where nothing of it was done.
    pub(crate) fn read(
        store: &dyn Store,
        workspace: WorkspaceId,
        undo: &Undo,
    ) -> Result<Option<TakenBackRow>, ReadError> {
        Ok(TakenBackRow::last(store, workspace, undo)?.filter(|row| row.number == undo.number))
    }

    /// How far the last undo of the same version has come of which something was done.
    pub(crate) fn last(
        store: &dyn Store,
        workspace: WorkspaceId,
        undo: &Undo,
    ) -> Result<Option<TakenBackRow>, ReadError> {
        let value = get_one(store, &TakenBackRow::key(workspace, undo.installation, &undo.digest))?;
        value.map(|value| row::decode(&value)).transpose()
    }

    /// Find the part of the log that is looked at next, and note where it begins; up to where it goes, or `None` behind the last.
    pub(super) fn next(&mut self, read: &ReadBy) -> Option<Position> {
        let (after, up_to) = read.stretches().into_iter().find(|(_, up_to)| self.at < *up_to)?;
        self.from = self.from.or(Some(after));
        self.at = self.at.max(after);
        Some(up_to)
    }

    /// The records of the log, and how many of how many, that were looked at.
    pub(crate) fn progress(&self) -> (u64, u64) {
        let from = self.from.unwrap_or(self.at).0;
        (self.at.0.saturating_sub(from), self.until.0.saturating_sub(from))
    }
}

/// The key of the row of an event that the log has at a position.
pub(crate) fn event_key(workspace: WorkspaceId, event: &Event, position: Position) -> Key {
    Key::event(workspace, event.identity, event.time).followed_by(&position.0.to_be_bytes())
}

/// What of a component's events a part of the log has.
pub(crate) struct Found {
    /// The events, those among them that are in their person's history.
    pub events: Vec<(Position, Event)>,
    /// Those that are in none any more: what they agreed to may hold still, and they may return.
    pub out: Vec<(Position, Event)>,
    corrections: Corrections,
    /// Up to where the log was read.
    pub at: Position,
    pub unreadable: u64,
    /// Records that were looked at.
    pub looked_at: usize,
}

impl ReadBy {
    /// Read on in the log from a position, up to another. What was taken back or superseded is in no history any more.
    pub(crate) fn read(
        &self,
        store: &dyn Store,
        workspace: WorkspaceId,
        (from, up_to): (Position, Position),
        limits: ChangeLimits,
    ) -> Result<Found, ReadError> {
        let changes = store.changes(workspace, from, limits)?;
        let (events, out, corrections) = (Vec::new(), Vec::new(), Corrections::default());
        let mut found = Found { events, out, corrections, at: from, unreadable: 0, looked_at: 0 };
        for record in changes.records.iter().take_while(|record| record.position <= up_to) {
            found.looked_at += 1;
            // What cannot be read was set aside by whoever computes from the feed.
            let Ok(change) = row::decode::<Change>(&record.bytes) else {
                found.unreadable += 1;
                continue;
            };
            found.corrections.take(record.position, &change);
            if let Change::Recorded(event) = change
                && self.has(&event, record.position)
            {
                found.events.push((record.position, event));
            }
        }
        found.at = changes.up_to.min(up_to).max(from);
        let keys: Vec<Key> =
            found.events.iter().map(|(position, event)| event_key(workspace, event, *position)).collect();
        let held = store.get(&keys)?;
        for (event, held) in std::mem::take(&mut found.events).into_iter().zip(held) {
            match held {
                Some(_) => found.events.push(event),
                None => found.out.push(event),
            }
        }
        Ok(found)
    }
}

impl Found {
    /// What returns where one of the events is taken back.
    pub(crate) fn replaced(
        &self,
        store: &dyn Store,
        workspace: WorkspaceId,
        read: &ReadBy,
        (position, event): &(Position, Event),
    ) -> Result<Replaced, ReadError> {
        read.replaced(store, workspace, (*position, event), &self.corrections)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_release_before_are_read() {
        let counted = |events| TakenBackV1 {
            events,
            with_facts: 1,
            agreeing: 2,
            refusing: 3,
            tying: 4,
            left_empty: 5,
            unreadable: 6,
        };
        let before = TakenBackRowV1 {
            number: 7,
            from: Some(Position(8)),
            at: Position(9),
            until: Position(10),
            is_done: true,
            taken_back: counted(11),
        };
        let mut bytes = vec![1];
        row::write_postcard(&before, &mut bytes);
        let read: TakenBackRow = row::decode(&bytes).unwrap();
        assert_eq!((read.number, read.at, read.taken_back), (7, Position(9), TakenBack::from(counted(11))));
        assert_eq!((read.taken_back.unreadable, read.taken_back.returned), (6, 0));
        assert_eq!(TakenBackRow::begin(8, Position(12), read.taken_back).taken_back.events, 11);
    }
}
