//! How one name came: how often, when, of what kinds and since when of each, of how many people, with which values.

use std::collections::{BTreeMap, BTreeSet};

use kith_features::Value;
use kith_model::id::SourceIdentityId;
use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};

/// Values of a name that are kept. With one more it has too many, and none is kept.
pub(super) const MAX_VALUES: usize = 24;

/// A value whose JSON is longer makes its name one with too many.
const MAX_VALUE_BYTES: usize = 48;

/// A name that came of fewer people may name one, and is told to those alone who may read people.
pub(crate) const CROWD: usize = 20;

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

impl Kinds {
    /// Each kind's name and number.
    pub fn each(&self) -> [(Kind, u64); 7] {
        [
            (Kind::Null, self.nulls),
            (Kind::Boolean, self.booleans),
            (Kind::Number, self.numbers),
            (Kind::NumberText, self.number_texts),
            (Kind::Text, self.texts),
            (Kind::List, self.lists),
            (Kind::Object, self.objects),
        ]
    }

    fn of(&mut self, kind: Kind) -> &mut u64 {
        match kind {
            Kind::Null => &mut self.nulls,
            Kind::Boolean => &mut self.booleans,
            Kind::Number => &mut self.numbers,
            Kind::NumberText => &mut self.number_texts,
            Kind::Text => &mut self.texts,
            Kind::List => &mut self.lists,
            Kind::Object => &mut self.objects,
        }
    }
}

/// What a value is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub enum Kind {
    Null,
    Boolean,
    Number,
    NumberText,
    Text,
    List,
    Object,
}

impl Kind {
    /// Its name in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Kind::Null => "null",
            Kind::Boolean => "boolean",
            Kind::Number => "number",
            Kind::NumberText => "number-text",
            Kind::Text => "text",
            Kind::List => "list",
            Kind::Object => "object",
        }
    }

    /// Of a value in JSON.
    fn of_json(json: &str) -> Kind {
        match json.as_bytes().first() {
            Some(b'"') if is_number_text(json) => Kind::NumberText,
            Some(b'"') => Kind::Text,
            Some(b't' | b'f') => Kind::Boolean,
            Some(b'[') => Kind::List,
            Some(b'{') => Kind::Object,
            Some(b'n') | None => Kind::Null,
            Some(_) => Kind::Number,
        }
    }
}

/// How a name came.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct NameUsage {
    pub count: u64,
    /// When the kernel first and last received it.
    pub first: Timestamp,
    pub last: Timestamp,
    pub kinds: Kinds,
    /// Its values, in JSON, with how often each came.
    pub values: BTreeMap<String, u64>,
    /// Whether it has too many values to keep.
    pub has_many_values: bool,
    /// When the kernel first received a value of each kind.
    pub since: BTreeMap<Kind, Timestamp>,
    /// The beginnings of the identities that it came of, until there are [`CROWD`]: an identity is a person, or a device of one.
    pub(crate) people: BTreeSet<u64>,
    /// Whether it came of at least [`CROWD`].
    pub(crate) is_of_many: bool,
}

/// When an event was received, and of whom it is.
#[derive(Debug, Clone, Copy)]
pub(super) struct Sighting {
    pub at: Timestamp,
    pub of: SourceIdentityId,
}

impl NameUsage {
    /// Of how many people it came, up to `CROWD`.
    pub fn people(&self) -> u64 {
        if self.is_of_many { CROWD as u64 } else { self.people.len() as u64 }
    }

    pub(super) fn note(&mut self, came: Sighting) {
        let Sighting { at, of } = came;
        self.first = if self.count == 0 { at } else { self.first.min(at) };
        self.last = self.last.max(at);
        self.count += 1;
        if !self.is_of_many {
            let (beginning, _) = of.0.split_first_chunk().unwrap_or((&[0; 8], &[]));
            self.people.insert(u64::from_be_bytes(*beginning));
            self.close_crowd();
        }
    }

    fn close_crowd(&mut self) {
        self.is_of_many |= self.people.len() >= CROWD;
        if self.is_of_many {
            self.people.clear();
        }
    }

    pub(super) fn note_value(&mut self, json: &str, came: Sighting) {
        self.note(came);
        let kind = Kind::of_json(json);
        *self.kinds.of(kind) += 1;
        self.since.entry(kind).and_modify(|since| *since = came.at.min(*since)).or_insert(came.at);
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

    /// Add what came after it, or from another source.
    pub(crate) fn add(&mut self, later: &NameUsage) {
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
        for (kind, at) in &later.since {
            self.since.entry(*kind).and_modify(|since| *since = (*at).min(*since)).or_insert(*at);
        }
        self.people.extend(&later.people);
        self.is_of_many |= later.is_of_many;
        self.close_crowd();
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
