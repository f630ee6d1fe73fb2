//! What a leaf keeps for one source identity.

use std::cmp::Ordering;

use serde::{Deserialize, Serialize};

use super::Aggregate;
use super::tally::Tally;
use crate::value::Value;

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
