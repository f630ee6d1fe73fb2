//! Which names came from each source: of events, of their properties, of traits, with how often, when, of what kinds and since when
//! of each, and with which values.
//!
//! Counted from the log in its order and committed with how far that was read, so that every count is exact, after a crash and
//! after a computation anew. What is known costs a look-up for each event; rows are written with a pass's other rows, one for
//! each kind of event in it. A kind with many names has a row for each [`PART_NAMES`] of them, so that an event rewrites the rows
//! of the names that it brings, and not those of every name that its kind ever had.
//!
//! Senders choose the names, so a workspace keeps a number of them; what comes beyond is counted together. A part of that number is
//! each source's own, so that one that makes up names without end takes no other's. A property's values
//! are kept while they are few and short: an article's number has too many, a plan has not.

mod before;
mod name;

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet};
use std::fmt;
use std::sync::Arc;

use kith_model::budget::table;
use kith_model::event::Event;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::{Key, Operation, ReadError, Store, row};
use serde::de::{Deserializer as _, MapAccess, Visitor};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use crate::profiles::facts::each_row;

pub(crate) use name::CROWD;
use name::Sighting;
pub use name::{Kind, Kinds, NameUsage};

/// A name that is longer is counted with the others.
const MAX_NAME_BYTES: usize = 256;

/// Names that a source may have although the workspace has as many as it keeps: those of a site with some dozen events. What all
/// sources have so beyond that number is once more as many at most.
const SHARE: u64 = 250;

/// Names in one row: those of an ordinary event, so that it has one.
const PART_NAMES: usize = 32;

/// What names of before sources were told apart are kept under.
pub(crate) const BEFORE_SOURCES: InstallationId = InstallationId(0);

/// The names of the rows of [`Key::progress`] begin with this.
const ROWS: &str = "seen/";

/// Of what names there are.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Subject {
    /// Events, properties and traits for which there was no room.
    Others,
    /// The traits that events bring.
    Traits,
    /// The properties of events of a name.
    Event(String),
}

/// What was seen of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenRow {
    pub source: InstallationId,
    pub subject: Subject,
    /// Which part of the names this is, from 0.
    pub part: u16,
    /// The events themselves, in the first part.
    pub seen: NameUsage,
    /// Their properties, or the traits.
    pub names: BTreeMap<String, NameUsage>,
}

/// A source's subject.
type SourceSubject = (Subject, InstallationId);

/// A part of it; those of one subject lie side by side.
pub(crate) type SeenKey = (Subject, InstallationId, u16);

impl SeenRow {
    fn new((subject, source): SourceSubject, part: u16) -> SeenRow {
        SeenRow { source, subject, part, seen: NameUsage::default(), names: BTreeMap::new() }
    }

    fn key(&self) -> SeenKey {
        (self.subject.clone(), self.source, self.part)
    }

    /// How many names it has.
    fn size(&self) -> u64 {
        let is_event = self.part == 0 && matches!(self.subject, Subject::Event(_));
        u64::from(is_event) + self.names.len() as u64
    }

    /// Add what came after it, or from another source.
    pub(crate) fn add(&mut self, later: &SeenRow) {
        self.seen.add(&later.seen);
        for (name, seen) in &later.names {
            self.names.entry(name.clone()).or_default().add(seen);
        }
    }
}

/// All that was seen in a workspace.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SeenBook {
    pub rows: BTreeMap<SeenKey, Arc<SeenRow>>,
    /// How many names there are, and of each source.
    names: u64,
    of_sources: BTreeMap<InstallationId, u64>,
}

/// What a pass has seen.
#[derive(Debug, Default)]
pub(crate) struct SeenNow {
    rows: BTreeMap<SourceSubject, SeenRow>,
    new_names: u64,
    new_of_sources: BTreeMap<InstallationId, u64>,
}

impl SeenBook {
    pub(crate) fn read(store: &dyn Store, workspace: WorkspaceId) -> Result<SeenBook, ReadError> {
        let mut book = SeenBook::default();
        each_row(store, &Key::progress(workspace, ROWS), |_, value| {
            let row: SeenRow = row::decode(value)?;
            book.put(Arc::new(row));
            Ok(())
        })?;
        Ok(book)
    }

    /// Put a row in the place of the one before it.
    pub(crate) fn put(&mut self, row: Arc<SeenRow>) {
        let of_source = self.of_sources.entry(row.source).or_default();
        self.names += row.size();
        *of_source += row.size();
        if let Some(before) = self.rows.insert(row.key(), row) {
            self.names -= before.size();
            *of_source -= before.size();
        }
    }

    /// What was seen of a subject, source by source.
    pub(crate) fn of<'b>(&'b self, subject: &'b Subject) -> impl Iterator<Item = &'b SeenRow> {
        let from = (subject.clone(), InstallationId(0), 0);
        self.rows.range(from..).take_while(move |((of, ..), _)| of == subject).map(|(_, row)| row.as_ref())
    }

    /// The same of all sources together; `None` where nothing was.
    pub(crate) fn together(&self, subject: &Subject) -> Option<SeenRow> {
        let mut rows = self.of(subject);
        let mut whole = rows.next()?.clone();
        rows.for_each(|row| whole.add(row));
        Some(whole)
    }

    /// The events of a name, of all sources together.
    pub(crate) fn event(&self, name: &str) -> Option<NameUsage> {
        folded(self.of(&Subject::Event(name.to_owned())).map(|row| &row.seen))
    }

    /// A property of the events of a name, of all sources together.
    pub(crate) fn property(&self, event: &str, property: &str) -> Option<NameUsage> {
        folded(self.of(&Subject::Event(event.to_owned())).filter_map(|row| row.names.get(property)))
    }

    /// The parts of a source's subject, in their order.
    fn parts<'b>(&'b self, (subject, source): &'b SourceSubject) -> impl DoubleEndedIterator<Item = &'b Arc<SeenRow>> {
        let bound = |part: u16| (subject.clone(), *source, part);
        self.rows.range(bound(0)..=bound(u16::MAX)).map(|(_, row)| row)
    }

    fn knows(&self, of: &SourceSubject, name: Option<&str>) -> bool {
        self.parts(of).any(|row| name.is_none_or(|name| row.names.contains_key(name)))
    }

    /// The rows that a pass makes of these.
    pub(crate) fn with(&self, now: &SeenNow) -> Vec<Arc<SeenRow>> {
        now.rows.iter().flat_map(|(of, later)| self.parts_with(of, later)).map(Arc::new).collect()
    }

    /// The parts that change with what came later: those that have its names, and the last for names that are new.
    fn parts_with(&self, of: &SourceSubject, later: &SeenRow) -> impl Iterator<Item = SeenRow> {
        let mut changed: BTreeMap<u16, SeenRow> = BTreeMap::new();
        let held = |part: u16| self.rows.get(&(of.0.clone(), of.1, part));
        let part = |number: u16, changed: &mut BTreeMap<u16, SeenRow>, add: &dyn Fn(&mut SeenRow)| {
            let made = || held(number).map_or_else(|| SeenRow::new(of.clone(), number), |row| SeenRow::clone(row));
            add(changed.entry(number).or_insert_with(made));
        };
        let mut last = self.parts(of).next_back().map_or(0, |row| row.part);
        let mut room = PART_NAMES.saturating_sub(held(last).map_or(0, |row| row.names.len()));
        if later.seen.count > 0 {
            part(0, &mut changed, &|row| row.seen.add(&later.seen));
        }
        for (name, seen) in &later.names {
            let known = self.parts(of).find(|row| row.names.contains_key(name)).map(|row| row.part);
            if known.is_none() && room == 0 {
                (last, room) = (last.saturating_add(1), PART_NAMES);
            }
            room -= usize::from(known.is_none());
            part(known.unwrap_or(last), &mut changed, &|row| row.names.entry(name.clone()).or_default().add(seen));
        }
        changed.into_values()
    }
}

fn folded<'s>(mut all: impl Iterator<Item = &'s NameUsage>) -> Option<NameUsage> {
    let mut whole = all.next()?.clone();
    all.for_each(|seen| whole.add(seen));
    Some(whole)
}

/// Calls for each member of a JSON object, in their order. Nothing is kept of it, and a name without escapes is not copied.
struct Members<F>(F);

impl<'json, F: FnMut(&str, &'json RawValue)> Visitor<'json> for Members<F> {
    type Value = ();

    fn expecting(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        formatter.write_str("an object")
    }

    fn visit_map<A: MapAccess<'json>>(mut self, mut members: A) -> Result<(), A::Error> {
        while let Some((Name(name), value)) = members.next_entry::<Name<'json>, &RawValue>()? {
            (self.0)(&name, value);
        }
        Ok(())
    }
}

/// A name that is borrowed from the text where it has no escapes.
#[derive(Deserialize)]
struct Name<'json>(#[serde(borrow)] Cow<'json, str>);

impl SeenNow {
    /// Count an event and the names that it brings.
    pub(crate) fn note(&mut self, book: &SeenBook, event: &Event) {
        let came = Sighting { at: event.received_at, of: event.identity };
        let key = (Subject::Event(event.name.clone()), event.source);
        if self.admits(book, &key, None) {
            self.row(&key).seen.note(came);
            self.note_names(book, &key, &event.properties, came);
        } else {
            self.row(&(Subject::Others, event.source)).seen.note(came);
        }
        self.note_names(book, &(Subject::Traits, event.source), &event.traits, came);
    }

    fn note_names(&mut self, book: &SeenBook, key: &SourceSubject, json: &str, came: Sighting) {
        if json.is_empty() {
            return;
        }
        let each = Members(|name: &str, value: &RawValue| {
            let known = self.rows.get_mut(key).and_then(|row| row.names.get_mut(name));
            if let Some(seen) = known {
                seen.note_value(value.get(), came);
            } else if self.admits(book, key, Some(name)) {
                self.row(key).names.entry(name.to_owned()).or_default().note_value(value.get(), came);
            } else {
                self.row(&(Subject::Others, key.1)).seen.note(came);
            }
        });
        // The text was checked when the event was accepted.
        let read = serde_json::Deserializer::from_str(json).deserialize_map(each);
        debug_assert!(read.is_ok(), "{json} was accepted as an object");
    }

    /// Whether there is a place for a name. Decided in the order of the log, so that a computation anew decides alike.
    fn admits(&mut self, book: &SeenBook, key: &SourceSubject, name: Option<&str>) -> bool {
        let here = self.rows.get(key);
        let is_new = here.is_none_or(|row| name.is_some_and(|name| !row.names.contains_key(name)));
        if !is_new || book.knows(key, name) {
            return true;
        }
        let (subject, source) = key;
        let text = match (subject, name) {
            (_, Some(name)) => name,
            (Subject::Event(event), None) => event,
            _ => return true,
        };
        let most = table::NAMES_KEPT.default;
        let all = book.names + self.new_names;
        let new_of_source = self.new_of_sources.entry(*source).or_default();
        let own = book.of_sources.get(source).copied().unwrap_or_default() + *new_of_source;
        let has_room = all < most || (own < SHARE && all < 2 * most);
        if !has_room {
            table::NAMES_KEPT.count();
        }
        let is_admitted = has_room && text.len() <= MAX_NAME_BYTES;
        self.new_names += u64::from(is_admitted);
        *new_of_source += u64::from(is_admitted);
        is_admitted
    }

    fn row(&mut self, key: &SourceSubject) -> &mut SeenRow {
        if !self.rows.contains_key(key) {
            self.rows.insert(key.clone(), SeenRow::new(key.clone(), 0));
        }
        self.rows.entry(key.clone()).or_insert_with(|| SeenRow::new(key.clone(), 0))
    }
}

/// What was seen, as of the reactor's place in the log, and which rows of it are not written yet.
#[derive(Debug, Default)]
pub(crate) struct SeenState {
    pub book: SeenBook,
    unwritten: BTreeSet<SeenKey>,
}

impl SeenState {
    pub(crate) fn new(book: SeenBook) -> SeenState {
        SeenState { book, unwritten: BTreeSet::new() }
    }

    /// The operations that write what passes without a commit have seen, and what this one has.
    pub(crate) fn operations(&self, workspace: WorkspaceId, changed: &[Arc<SeenRow>]) -> Vec<Operation> {
        let again: BTreeSet<SeenKey> = changed.iter().map(|row| row.key()).collect();
        let earlier = self.unwritten.difference(&again);
        let earlier = earlier.filter_map(|key| self.book.rows.get(key));
        let put = |row: &Arc<SeenRow>| Operation::Put(key(workspace, row), row::encode(row.as_ref()));
        earlier.chain(changed).map(put).collect()
    }

    /// A pass has come to its end, with a commit or without.
    pub(crate) fn take(&mut self, changed: &[Arc<SeenRow>], is_written: bool) {
        if is_written {
            self.unwritten.clear();
        } else {
            self.unwritten.extend(changed.iter().map(|row| row.key()));
        }
        changed.iter().for_each(|row| self.book.put(Arc::clone(row)));
    }
}

fn key(workspace: WorkspaceId, row: &SeenRow) -> Key {
    let name = match &row.subject {
        Subject::Others => "others".to_owned(),
        Subject::Traits => "traits".to_owned(),
        // A sender's text does not stand in a key.
        Subject::Event(name) => format!("{:032x}", xxh3_128(name.as_bytes())),
    };
    match (row.source, row.part) {
        (BEFORE_SOURCES, _) => Key::progress(workspace, &format!("{ROWS}{name}")),
        (InstallationId(source), 0) => Key::progress(workspace, &format!("{ROWS}{source:08x}/{name}")),
        (InstallationId(source), part) => Key::progress(workspace, &format!("{ROWS}{source:08x}/{name}/{part:04x}")),
    }
}

#[cfg(test)]
mod tests;
