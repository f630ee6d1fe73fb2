//! Responsible for walking a TOML document while keeping the place of everything, and for collecting mistakes.

use std::cell::RefCell;
use std::ops::Range;

use kith_model::budget::{Budget, table};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ManifestMistake;
use super::words::{self, Lines};

/// What a manifest is read for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Reading {
    /// To be admitted: its lengths and its schema are held against their budgets, and what contradicts itself is refused.
    New,
    /// It was admitted, perhaps when less was refused, and must go on working.
    Kept,
}

/// Collects mistakes while reading goes on, so that a vendor sees them all at once.
pub(super) struct Notes<'t> {
    text: &'t str,
    reading: Reading,
    found: RefCell<Vec<(usize, String)>>,
}

impl<'t> Notes<'t> {
    pub(super) fn new(text: &'t str, reading: Reading) -> Notes<'t> {
        Notes { text, reading, found: RefCell::new(Vec::new()) }
    }

    /// What the manifest is read for.
    pub(super) fn reading(&self) -> Reading {
        self.reading
    }

    /// Note that something is wrong at the byte `at.start`.
    pub(super) fn add(&self, at: &Range<usize>, message: impl Into<String>) {
        self.found.borrow_mut().push((at.start, message.into()));
    }

    /// The mistakes in the order of the file.
    pub(super) fn into_mistakes(self) -> Vec<ManifestMistake> {
        let mut found = self.found.into_inner();
        found.sort();
        found.dedup();
        found.into_iter().map(|(offset, message)| mistake_at(self.text, offset, message)).collect()
    }
}

fn mistake_at(text: &str, offset: usize, message: String) -> ManifestMistake {
    let before = text.get(..offset).unwrap_or(text);
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    let (line, column) = (before.matches('\n').count() + 1, before[line_start..].chars().count() + 1);
    ManifestMistake { line, column, message }
}

/// A mistake at the value under a path of keys, or at the nearest table around it that is written. For what only others than this
/// crate can judge, such as expressions.
pub fn mistake_in(text: &str, path: &[&str], message: impl Into<String>) -> ManifestMistake {
    let document = DeTable::parse(text).ok();
    let mut at = 0;
    let mut table = document.as_ref().map(Spanned::get_ref);
    for key in path {
        let Some(value) = table.and_then(|table| table.get(*key)) else { break };
        at = value.span().start;
        table = value.get_ref().as_table();
    }
    mistake_at(text, at, message.into())
}

/// One table of the document, its name for messages (`[capabilities.kv]`), and where to note mistakes.
#[derive(Clone, Copy)]
pub(super) struct Section<'n, 'd> {
    pub(super) notes: &'n Notes<'n>,
    pub(super) table: &'d DeTable<'d>,
    name: &'d str,
    /// Where the table begins; the place of what is missing from it.
    start: usize,
}

impl<'n, 'd> Section<'n, 'd> {
    /// Open a table that may hold the keys `known`; every other key is a mistake.
    pub(super) fn open(
        notes: &'n Notes<'n>,
        table: &'d DeTable<'d>,
        name: &'d str,
        start: usize,
        known: &[&str],
    ) -> Section<'n, 'd> {
        Section::open_offering(notes, (table, start), name, known, known)
    }

    /// The same, where some of the known keys are not for this plugin: a mistake is told with those that are `offered`.
    pub(super) fn open_offering(
        notes: &'n Notes<'n>,
        (table, start): (&'d DeTable<'d>, usize),
        name: &'d str,
        known: &[&str],
        offered: &[&str],
    ) -> Section<'n, 'd> {
        for key in table.keys() {
            let written: &str = key.get_ref();
            if !known.contains(&written) {
                let hint = match nearest(written, offered) {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => format!("known here: {}", offered.join(", ")),
                };
                notes.add(&key.span(), format!("unknown key `{written}` in {name}; {hint}"));
            }
        }
        Section { notes, table, name, start }
    }

    /// Note a mistake about `key`: at its value where it is written, at the table where it is missing.
    pub(super) fn wrong(&self, key: &str, message: impl Into<String>) {
        let at = self.table.get(key).map_or(self.start..self.start, Spanned::span);
        self.notes.add(&at, message);
    }

    pub(super) fn missing(&self, key: &str, write: &str) {
        self.wrong(key, format!("{} has no `{key}`; write {write}", self.name));
    }

    fn mistyped(&self, key: &str, value: &DeValue<'_>, expected: &str) {
        self.wrong(key, format!("`{key}` in {} is {}; write {expected}", self.name, kind_of(value)));
    }

    /// Note something about `key` that a manifest which was admitted before may have.
    pub(super) fn wrong_in_new(&self, key: &str, message: impl Into<String>) {
        if self.notes.reading == Reading::New {
            self.wrong(key, message);
        }
    }

    /// The text under `key`, if it is there.
    pub(super) fn text(&self, key: &str) -> Option<&'d str> {
        let value = self.table.get(key)?.get_ref();
        let text = value.as_str();
        if text.is_none() {
            self.mistyped(key, value, "a text in quotes");
        }
        let budget = text_budget(key);
        if self.bound_text(key, budget.default) {
            budget.count();
        }
        if text.is_some_and(|text| !words::is_readable(text, lines_of(key))) {
            self.wrong_in_new(key, format!("`{key}` in {} has control characters; write it without them", self.name));
        }
        text
    }

    /// The text under `key`, which must be there and not be blank; `write` is an example for the message.
    pub(super) fn required_text(&self, key: &str, write: &str) -> Option<&'d str> {
        if !self.table.contains_key(key) {
            self.missing(key, write);
            return None;
        }
        let text = self.text(key)?;
        if text.trim().is_empty() {
            self.wrong(key, format!("`{key}` in {} is empty; write {write}", self.name));
            return None;
        }
        Some(text)
    }

    /// Note that the text under `key` is longer than `limit` bytes, where the manifest is a new one; whether it is.
    pub(super) fn bound_text(&self, key: &str, limit: u64) -> bool {
        let Some(text) = self.table.get(key).and_then(|value| value.get_ref().as_str()) else { return false };
        let is_too_long = self.notes.reading == Reading::New && text.len() as u64 > limit;
        if is_too_long {
            self.wrong(key, format!("`{key}` in {} has {} bytes; write at most {limit}", self.name, text.len()));
        }
        is_too_long
    }

    /// The text under `key`, which must be there, parsed.
    pub(super) fn parsed<T>(&self, key: &str, write: &str, parse: impl Fn(&str) -> Result<T, String>) -> Option<T> {
        let text = self.required_text(key, write)?;
        parse(text).map_err(|problem| self.wrong(key, problem)).ok()
    }

    /// The texts under `key` with their places; empty when absent.
    pub(super) fn texts(&self, key: &str) -> Vec<(&'d str, Range<usize>)> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.mistyped(key, value.get_ref(), "a list of texts, e.g. [\"a\", \"b\"]");
            return Vec::new();
        };
        let text = |item: &'d Spanned<DeValue<'d>>| {
            let text = item.get_ref().as_str();
            if text.is_none() {
                self.notes.add(&item.span(), format!("`{key}` in {} must hold texts only", self.name));
            }
            text.map(|text| (text, item.span()))
        };
        items.iter().filter_map(text).collect()
    }

    /// The texts under `key`, of which there must be one at least.
    pub(super) fn required_texts(&self, key: &str, write: &str) -> Vec<(&'d str, Range<usize>)> {
        let texts = self.texts(key);
        match self.table.get(key).map(|value| value.get_ref().as_array().is_some_and(|items| items.iter().len() == 0)) {
            None => self.missing(key, write),
            Some(true) => self.wrong(key, format!("`{key}` in {} is empty; write {write}", self.name)),
            Some(false) => {}
        }
        texts
    }

    /// The whole number above zero under `key`, if it is there.
    pub(super) fn count(&self, key: &str) -> Option<u64> {
        let value = self.table.get(key)?.get_ref();
        let number = value.as_integer().and_then(|number| u64::from_str_radix(number.as_str(), number.radix()).ok());
        let number = number.filter(|number| *number > 0);
        if number.is_none() {
            self.wrong(key, format!("`{key}` in {} must be a whole number above 0", self.name));
        }
        number
    }

    /// The truth value under `key`, if it is there.
    pub(super) fn truth(&self, key: &str) -> Option<bool> {
        let value = self.table.get(key)?.get_ref();
        let truth = value.as_bool();
        if truth.is_none() {
            self.mistyped(key, value, "true or false");
        }
        truth
    }

    /// The table under `key` and where it begins, if it is there.
    pub(super) fn table(&self, key: &str) -> Option<(&'d DeTable<'d>, usize)> {
        let (written, value) = self.table.get_key_value(key)?;
        let table = value.get_ref().as_table();
        if table.is_none() {
            self.mistyped(key, value.get_ref(), "a table");
        }
        table.map(|table| (table, written.span().start))
    }

    /// The named tables under `key` in the order of the file: `[key.name]`.
    pub(super) fn named_tables(&self, key: &str) -> Vec<(&'d str, usize, &'d DeTable<'d>)> {
        let Some((table, _)) = self.table(key) else { return Vec::new() };
        let mut named: Vec<_> = table
            .iter()
            .filter_map(|(name, value)| {
                let table = value.get_ref().as_table();
                if table.is_none() {
                    let found = kind_of(value.get_ref());
                    self.notes.add(&name.span(), format!("`{key}.{}` is {found}; write a table", name.get_ref()));
                }
                table.map(|table| (name.get_ref().as_ref(), name.span().start, table))
            })
            .collect();
        named.sort_by_key(|(_, start, _)| *start);
        named
    }

    /// The repeated tables under `key`: `[[key]]`.
    pub(super) fn repeated_tables(&self, key: &str) -> Vec<(usize, &'d DeTable<'d>)> {
        let Some(value) = self.table.get(key) else { return Vec::new() };
        let Some(items) = value.get_ref().as_array() else {
            self.mistyped(key, value.get_ref(), &format!("one table each under [[capabilities.{key}]]"));
            return Vec::new();
        };
        let table = |item: &'d Spanned<DeValue<'d>>| {
            let table = item.get_ref().as_table();
            if table.is_none() {
                self.notes.add(&item.span(), format!("an entry of `{key}` must be a table"));
            }
            table.map(|table| (item.span().start, table))
        };
        items.iter().filter_map(table).collect()
    }
}

/// The kind of a value, with its article.
fn kind_of(value: &DeValue<'_>) -> String {
    let kind = value.type_str();
    let article = if kind.starts_with(['a', 'e', 'i', 'o', 'u']) { "an" } else { "a" };
    format!("{article} {kind}")
}

/// How many lines a text under a key may have.
fn lines_of(key: &str) -> Lines {
    if matches!(key, "description" | "expression" | "label" | "reason") { Lines::Several } else { Lines::One }
}

/// What a text under a key is held against.
fn text_budget(key: &str) -> &'static Budget {
    if matches!(key, "expression" | "label") { &table::EXPRESSION_TEXT } else { &table::MANIFEST_WORDS }
}

/// The known word that is at most two edits (a third of the word, if that is more) away from `written`.
pub(super) fn nearest<'k>(written: &str, known: &[&'k str]) -> Option<&'k str> {
    let near = known.iter().map(|word| (strsim::levenshtein(written, word), *word)).min()?;
    (near.0 <= (near.1.len() / 3).max(2)).then_some(near.1)
}
