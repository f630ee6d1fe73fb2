//! Ids for rows of files that come without one: the content, and how many equal rows came before it in the same file. So a row
//! that is put in front, another order of rows and other line ends change nothing, and two equal rows of one file are two.

use std::collections::{BTreeMap, HashMap};

use kith_model::event::DraftEvent;
use kith_model::identity::is_missing_id;
use kith_model::plugin::Refusal;

use super::remembered::table_bytes;
use crate::accept::content;
use crate::accept::dedupe::MADE_ID;

/// What is remembered of a row: two hashes, as a table lays them out.
const ENTRY_BYTES: usize = size_of::<(u64, u32)>();

/// Ids of rows that are compared with one another within a file, in the memory of its import.
const MAX_IDS: usize = 1 << 20;

/// What one import has seen of ids that its rows have. Two rows of an id are one record for the kernel, which is what a correction is
/// and what lines of one order are not.
#[derive(Debug, Default)]
pub(crate) struct RepeatedIds {
    /// The first content of each id, both by halves of their hashes.
    seen: HashMap<u64, u32>,
    /// Rows with the id of one before them, and other content.
    rows: u64,
    first: Option<String>,
}

impl RepeatedIds {
    /// What it takes in memory with so many rows more.
    pub(crate) fn bytes_with(&self, rows: usize) -> u64 {
        table_bytes((self.seen.len() + rows).min(MAX_IDS), ENTRY_BYTES)
    }

    pub(crate) fn look_at(&mut self, events: &[DraftEvent]) {
        for event in events {
            let Some(id) = event.message_id.as_deref().filter(|id| !is_missing_id(id)) else { continue };
            let key = xxhash_rust::xxh3::xxh3_64(id.as_bytes());
            #[allow(clippy::cast_possible_truncation, reason = "a part of the hash")]
            let content = content::content_hash(event) as u32;
            match self.seen.get(&key) {
                Some(first) if *first != content => {
                    self.rows += 1;
                    self.first.get_or_insert_with(|| id.chars().take(64).collect());
                }
                Some(_) => {}
                None if self.seen.len() < MAX_IDS => {
                    self.seen.insert(key, content);
                }
                None => {}
            }
        }
    }

    pub(crate) fn rows(&self) -> u64 {
        self.rows
    }

    /// What a person is told; `None` where every row has an id of its own.
    pub(crate) fn note(&self, corrects: Corrects) -> Option<(String, String)> {
        let first = self.first.as_ref()?;
        let becomes = match corrects {
            Corrects::Yes => {
                "and by `upsert` only the last row of each id counts: what the others say of amounts is lost"
            }
            Corrects::No => "and only the first of each id is taken; `upsert` would take only the last",
        };
        let note = format!(
            "{} rows have the id of another row of this file and other content, such as `{first}`, {becomes}. Where they are lines of \
             one order and no corrections, set `message_id` to a text that names the line too, e.g. `{{order}}-{{sku}}`",
            self.rows
        );
        Some(("ids that repeat".to_owned(), note))
    }
}

/// Whether a record with the id of an earlier one takes its place.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Corrects {
    Yes,
    No,
}

/// Different rows without an id that one file may have, in the memory of its import.
const MAX_ROWS: usize = 4 << 20;

/// What one import has counted of rows without an id.
#[derive(Debug, Default)]
pub(crate) struct Occurrences {
    /// How often each content came.
    seen: HashMap<u64, u32>,
}

impl Occurrences {
    /// What it takes in memory with so many rows more.
    pub(crate) fn bytes_with(&self, rows: usize) -> u64 {
        table_bytes(self.seen.len() + rows, ENTRY_BYTES)
    }

    /// Go on where an import was left.
    pub(crate) fn go_on(&mut self, seen: BTreeMap<u64, u32>) {
        self.seen.extend(seen);
    }

    /// Give each event without an id one; their contents.
    ///
    /// # Errors
    /// The file has too many different rows without an id.
    pub(crate) fn name(&mut self, events: &mut [DraftEvent]) -> Result<Vec<u64>, Refusal> {
        let mut contents = Vec::new();
        let is_unnamed = |event: &&mut DraftEvent| event.message_id.as_deref().is_none_or(is_missing_id);
        for event in events.iter_mut().filter(is_unnamed) {
            let content = content::content_hash(event);
            #[allow(clippy::cast_possible_truncation, reason = "a half of the hash")]
            let half = content as u64;
            contents.push(half);
            let seen = self.seen.entry(half).or_default();
            *seen += 1;
            event.message_id = Some(format!("{MADE_ID}{content:032x}-{seen}"));
            if self.seen.len() > MAX_ROWS {
                return Err(Refusal {
                    status: 413,
                    code: "too-many-rows-without-id".into(),
                    message: format!(
                        "a file has at most {MAX_ROWS} different rows without an id; what came before is taken: name the \
                         column that holds each row's id in the source's configuration, or cut the file"
                    ),
                });
            }
        }
        Ok(contents)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(id: &str, name: &str) -> DraftEvent {
        DraftEvent { message_id: Some(id.to_owned()), name: name.to_owned(), ..DraftEvent::default() }
    }

    /// Lines of one order have its id, and all but one would be lost as corrections of one another; equal rows are repeats.
    #[test]
    fn rows_with_the_id_of_another_row_of_their_file_are_counted_across_pieces() {
        for (ids, expected) in [
            (vec![("1", "a"), ("2", "b"), ("3", "c")], 0),
            (vec![("1", "a"), ("1", "a"), ("1", "a")], 0),
            (vec![("1", "a"), ("1", "b"), ("2", "b")], 1),
            (vec![("1", "a"), ("2", "b"), ("1", "c"), ("2", "c"), ("1", "a"), ("1", "d")], 3),
            (vec![("null", "a"), ("null", "b"), ("N/A", "c"), ("N/A", "d")], 0),
        ] {
            let events: Vec<DraftEvent> = ids.iter().map(|(id, name)| event(id, name)).collect();
            for cut in 0..events.len() {
                let mut repeated = RepeatedIds::default();
                repeated.look_at(&events[..cut]);
                repeated.look_at(&events[cut..]);
                assert_eq!(repeated.rows(), expected, "{ids:?}");
                for (corrects, word) in [
                    (Corrects::Yes, "only the last row of each id counts"),
                    (Corrects::No, "only the first of each id is taken"),
                ] {
                    let note = repeated.note(corrects).map(|(_, note)| note);
                    assert_eq!(note.as_ref().is_some_and(|note| note.contains(word)), expected > 0, "{note:?}");
                }
            }
        }
    }
}
