//! What a leaf keeps for one source identity.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::tally::Tally;
use super::{Aggregate, Span};
use crate::value::Value;

/// A state whose encoding is longer than this is sealed away as a chunk.
///
/// Every further event rewrites what is not sealed, so this bounds what one event costs in the journal; a chunk is a row
/// of its own, and rows much smaller than a page cost more in keys than they hold.
pub const MAX_STATE_BYTES: usize = 4_096;

/// What a leaf keeps for one source identity. Opaque; encode it with any serde format.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct LeafState {
    /// Tallies by day, ascending; of leaves over all time a single one with day 0.
    pub(super) days: Vec<(i32, Tally)>,
    /// Events kept one by one, in the order of lists.
    pub(super) entries: Vec<Entry>,
}

/// One event.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) struct Entry {
    pub(super) time: i64,
    pub(super) tie: u64,
    pub(super) value: Value,
}

impl Entry {
    pub(super) fn order(&self, other: &Entry) -> Ordering {
        (self.time, self.tie).cmp(&(other.time, other.tie)).then_with(|| self.value.order(&other.value))
    }
}

impl LeafState {
    /// Whether it holds nothing, so that it need not be stored.
    pub fn is_empty(&self) -> bool {
        self.days.is_empty() && self.entries.is_empty()
    }

    /// Whether it is to be sealed away: its encoding is longer than [`MAX_STATE_BYTES`].
    pub fn is_large(&self) -> bool {
        // What takes little memory has a short encoding, and is not encoded to find that out.
        self.memory_bytes() > MAX_STATE_BYTES / 2 && self.encoded_bytes() > MAX_STATE_BYTES
    }

    /// Move all of it out, into a chunk that is stored once and never changes. What is left is empty and takes in what
    /// comes; the value is that of both together ([`Leaf::value_of`](super::Leaf::value_of)).
    pub fn seal(&mut self) -> LeafState {
        std::mem::take(self)
    }

    /// How many bytes its encoding has.
    pub(super) fn encoded_bytes(&self) -> usize {
        let size = postcard::serialize_with_flavor(self, postcard::ser_flavors::Size::default());
        size.expect("a state holds only types that postcard can write, and counting has no limit")
    }

    /// About how many bytes of memory it takes.
    pub fn memory_bytes(&self) -> usize {
        let days = self.days.capacity() * size_of::<(i32, Tally)>()
            + self.days.iter().map(|(_, tally)| tally.heap_bytes()).sum::<usize>();
        let entries = self.entries.capacity() * size_of::<Entry>()
            + self.entries.iter().map(|entry| entry.value.heap_bytes()).sum::<usize>();
        size_of::<LeafState>() + days + entries
    }

    /// The entries in a span; they stand in the order of time.
    pub(super) fn entries_in(&self, span: &Span) -> &[Entry] {
        let from = self.entries.partition_point(|entry| entry.time < span.from);
        let to = self.entries.partition_point(|entry| entry.time <= span.to);
        &self.entries[from..to]
    }

    /// The tallies of the days in a span.
    pub(super) fn tallies_in(&self, span: &Span) -> impl Iterator<Item = &Tally> {
        let first_day = span.first_day;
        self.days.iter().filter(move |(day, _)| *day >= first_day).map(|(_, tally)| tally)
    }

    /// The tally of a span that holds one and nothing else.
    pub(super) fn only_tally(&self, span: &Span) -> Option<&Tally> {
        let mut tallies = self.tallies_in(span);
        let only = tallies.next()?;
        (tallies.next().is_none() && self.entries_in(span).is_empty()).then_some(only)
    }

    pub(super) fn insert(&mut self, entry: Entry) {
        let place = self.entries.partition_point(|held| held.order(&entry).is_le());
        self.entries.insert(place, entry);
    }

    /// The tally of a day, made if need be.
    pub(super) fn day(&mut self, day: i32, aggregate: Aggregate) -> &mut Tally {
        let place = match self.days.binary_search_by_key(&day, |(day, _)| *day) {
            Ok(place) => place,
            Err(place) => {
                self.days.insert(place, (day, Tally::empty(aggregate)));
                place
            }
        };
        &mut self.days[place].1
    }
}
