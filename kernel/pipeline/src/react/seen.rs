//! Which names came: of events, of their properties, of traits, with how often, when, of what kinds and with which values.
//!
//! Counted from the log in its order and committed with how far that was read, so that every count is exact, after a crash and
//! after a computation anew. What is known costs a look-up for each event; rows are written with a pass's other rows, one for
//! each kind of event in it.
//!
//! Senders choose the names, so a workspace keeps a number of them; what comes beyond is counted together. A property's values
//! are kept while they are few and short: an article's number has too many, a plan has not.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_features::Value;
use kith_model::budget::table;
use kith_model::event::Event;
use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use kith_store::{Key, Operation, ReadError, Store, row};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use crate::profiles::facts::each_row;

/// Values of a name that are kept. With one more it has too many, and none is kept.
const MAX_VALUES: usize = 24;

/// A value whose JSON is longer makes its name one with too many.
const MAX_VALUE_BYTES: usize = 48;

/// A name that is longer is counted with the others.
const MAX_NAME_BYTES: usize = 256;

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

/// How often a name came with a value of each kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Kinds {
    pub nulls: u64,
    pub booleans: u64,
    pub numbers: u64,
    /// Texts that are written exactly as numbers, and count as such.
    pub number_texts: u64,
    pub texts: u64,
    pub lists: u64,
    pub objects: u64,
}

/// How a name came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Seen {
    pub count: u64,
    /// When the kernel first and last received it.
    pub first: Timestamp,
    pub last: Timestamp,
    pub kinds: Kinds,
    /// Its values, in JSON, with how often each came.
    pub values: BTreeMap<String, u64>,
    /// Whether it has too many values to keep.
    pub has_many_values: bool,
}

/// What was seen of one subject.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SeenRow {
    pub subject: Subject,
    /// The events themselves.
    pub seen: Seen,
    /// Their properties, or the traits.
    pub names: BTreeMap<String, Seen>,
}

crate::rows::rows! {
    SeenRow: "names that came", React, 1;
}

impl Seen {
    fn note(&mut self, at: Timestamp) {
        self.first = if self.count == 0 { at } else { self.first.min(at) };
        self.last = self.last.max(at);
        self.count += 1;
    }

    fn note_value(&mut self, json: &str, at: Timestamp) {
        self.note(at);
        let kinds = &mut self.kinds;
        *match json.as_bytes().first() {
            Some(b'"') if is_number_text(json) => &mut kinds.number_texts,
            Some(b'"') => &mut kinds.texts,
            Some(b't' | b'f') => &mut kinds.booleans,
            Some(b'[') => &mut kinds.lists,
            Some(b'{') => &mut kinds.objects,
            Some(b'n') | None => &mut kinds.nulls,
            Some(_) => &mut kinds.numbers,
        } += 1;
        match json.as_bytes().first() {
            Some(b'[' | b'{' | b'n') | None => {}
            _ if self.has_many_values => {}
            _ if json.len() > MAX_VALUE_BYTES => self.forget_values(),
            _ => self.keep_value(json),
        }
    }

    fn keep_value(&mut self, json: &str) {
        if let Some(count) = self.values.get_mut(json) {
            *count += 1;
        } else if self.values.len() == MAX_VALUES {
            self.forget_values();
        } else {
            self.values.insert(json.to_owned(), 1);
        }
    }

    fn forget_values(&mut self) {
        self.has_many_values = true;
        self.values.clear();
    }

    /// Add what came after it.
    fn add(&mut self, later: &Seen) {
        if later.count == 0 {
            return;
        }
        self.first = if self.count == 0 { later.first } else { self.first.min(later.first) };
        self.last = self.last.max(later.last);
        self.count += later.count;
        let Kinds { nulls, booleans, numbers, number_texts, texts, lists, objects } = later.kinds;
        self.kinds.nulls += nulls;
        self.kinds.booleans += booleans;
        self.kinds.numbers += numbers;
        self.kinds.number_texts += number_texts;
        self.kinds.texts += texts;
        self.kinds.lists += lists;
        self.kinds.objects += objects;
        for (value, count) in &later.values {
            *self.values.entry(value.clone()).or_default() += count;
        }
        if later.has_many_values || self.has_many_values || self.values.len() > MAX_VALUES {
            self.forget_values();
        }
    }
}

/// Whether a text in quotes is written as a number.
fn is_number_text(json: &str) -> bool {
    let begins_so = matches!(json.as_bytes().get(1), Some(b'0'..=b'9' | b'-'));
    begins_so && Value::from_json_text(json).as_number().is_some()
}

impl SeenRow {
    fn new(subject: Subject) -> SeenRow {
        SeenRow { subject, seen: Seen::default(), names: BTreeMap::new() }
    }
}

/// All that was seen in a workspace.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct SeenBook {
    pub rows: BTreeMap<Subject, Arc<SeenRow>>,
    /// How many names there are.
    names: u64,
}

/// What a pass has seen.
#[derive(Debug, Default)]
pub(crate) struct SeenNow {
    rows: BTreeMap<Subject, SeenRow>,
    new_names: u64,
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
        let names = |row: &SeenRow| u64::from(matches!(row.subject, Subject::Event(_))) + row.names.len() as u64;
        self.names += names(&row);
        if let Some(before) = self.rows.insert(row.subject.clone(), row) {
            self.names -= names(&before);
        }
    }

    fn knows(&self, subject: &Subject, name: Option<&str>) -> bool {
        self.rows.get(subject).is_some_and(|row| name.is_none_or(|name| row.names.contains_key(name)))
    }

    /// The rows that a pass makes of these.
    pub(crate) fn with(&self, now: &SeenNow) -> Vec<Arc<SeenRow>> {
        let merged = now.rows.values().map(|later| {
            let before = self.rows.get(&later.subject);
            let mut row = before.map_or_else(|| SeenRow::new(later.subject.clone()), |row| SeenRow::clone(row));
            row.seen.add(&later.seen);
            for (name, seen) in &later.names {
                row.names.entry(name.clone()).or_default().add(seen);
            }
            Arc::new(row)
        });
        merged.collect()
    }
}

impl SeenNow {
    /// Count an event and the names that it brings.
    pub(crate) fn note(&mut self, book: &SeenBook, event: &Event) {
        let at = event.received_at;
        let subject = Subject::Event(event.name.clone());
        if self.admits(book, &subject, None) {
            self.row(&subject).seen.note(at);
            self.note_names(book, &subject, &event.properties, at);
        } else {
            self.row(&Subject::Others).seen.note(at);
        }
        self.note_names(book, &Subject::Traits, &event.traits, at);
    }

    fn note_names(&mut self, book: &SeenBook, subject: &Subject, json: &str, at: Timestamp) {
        if json.is_empty() {
            return;
        }
        // The text was checked when the event was accepted.
        let Ok(names) = serde_json::from_str::<BTreeMap<String, &RawValue>>(json) else { return };
        for (name, value) in names {
            if self.admits(book, subject, Some(&name)) {
                let names = &mut self.row(subject).names;
                match names.get_mut(&name) {
                    Some(seen) => seen.note_value(value.get(), at),
                    None => names.entry(name).or_default().note_value(value.get(), at),
                }
            } else {
                self.row(&Subject::Others).seen.note(at);
            }
        }
    }

    /// Whether there is a place for a name. Decided in the order of the log, so that a computation anew decides alike.
    fn admits(&mut self, book: &SeenBook, subject: &Subject, name: Option<&str>) -> bool {
        let here = self.rows.get(subject);
        let is_new = here.is_none_or(|row| name.is_some_and(|name| !row.names.contains_key(name)));
        if !is_new || book.knows(subject, name) {
            return true;
        }
        let text = match (subject, name) {
            (_, Some(name)) => name,
            (Subject::Event(event), None) => event,
            _ => return true,
        };
        let has_room = book.names + self.new_names < table::NAMES_KEPT.default;
        if !has_room {
            table::NAMES_KEPT.count();
        }
        let is_admitted = has_room && text.len() <= MAX_NAME_BYTES;
        self.new_names += u64::from(is_admitted);
        is_admitted
    }

    fn row(&mut self, subject: &Subject) -> &mut SeenRow {
        if !self.rows.contains_key(subject) {
            self.rows.insert(subject.clone(), SeenRow::new(subject.clone()));
        }
        self.rows.entry(subject.clone()).or_insert_with(|| SeenRow::new(subject.clone()))
    }
}

/// What was seen, as of the reactor's place in the log, and which rows of it are not written yet.
#[derive(Debug, Default)]
pub(crate) struct SeenState {
    pub book: SeenBook,
    unwritten: BTreeSet<Subject>,
}

impl SeenState {
    pub(crate) fn new(book: SeenBook) -> SeenState {
        SeenState { book, unwritten: BTreeSet::new() }
    }

    /// The operations that write what passes without a commit have seen, and what this one has.
    pub(crate) fn operations(&self, workspace: WorkspaceId, changed: &[Arc<SeenRow>]) -> Vec<Operation> {
        let is_changed = |subject: &Subject| changed.iter().any(|row| row.subject == *subject);
        let earlier = self.unwritten.iter().filter(|subject| !is_changed(subject));
        let earlier = earlier.filter_map(|subject| self.book.rows.get(subject));
        let put = |row: &Arc<SeenRow>| Operation::Put(key(workspace, &row.subject), row::encode(row.as_ref()));
        earlier.chain(changed).map(put).collect()
    }

    /// A pass has come to its end, with a commit or without.
    pub(crate) fn take(&mut self, changed: &[Arc<SeenRow>], is_written: bool) {
        if is_written {
            self.unwritten.clear();
        } else {
            self.unwritten.extend(changed.iter().map(|row| row.subject.clone()));
        }
        changed.iter().for_each(|row| self.book.put(Arc::clone(row)));
    }
}

fn key(workspace: WorkspaceId, subject: &Subject) -> Key {
    let name = match subject {
        Subject::Others => "others".to_owned(),
        Subject::Traits => "traits".to_owned(),
        // A sender's text does not stand in a key.
        Subject::Event(name) => format!("{:032x}", xxh3_128(name.as_bytes())),
    };
    Key::progress(workspace, &format!("{ROWS}{name}"))
}

#[cfg(test)]
mod tests;
