//! What a number of events add up to: commutative, associative, with an empty one that changes nothing.

use serde::{Deserialize, Serialize};

use super::Aggregate;
use super::state::Entry;
use crate::eval::{deduplicate, greatness, mean};
use crate::sum::ExactSum;
use crate::value::Value;

/// What a number of events add up to.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(super) enum Tally {
    Count(u64),
    Sum(ExactSum),
    /// With how many numbers there were.
    Mean(ExactSum, u64),
    Least(Option<Value>),
    Greatest(Option<Value>),
    First(Option<Entry>),
    Last(Option<Entry>),
    /// In the order of values, each once.
    Distinct(Vec<Value>),
}

impl Tally {
    pub(super) fn empty(aggregate: Aggregate) -> Tally {
        match aggregate {
            // Lists are kept entry by entry and have no tallies; a count is the least that could stand here.
            Aggregate::Count | Aggregate::List => Tally::Count(0),
            Aggregate::Sum => Tally::Sum(ExactSum::default()),
            Aggregate::Mean => Tally::Mean(ExactSum::default(), 0),
            Aggregate::Least => Tally::Least(None),
            Aggregate::Greatest => Tally::Greatest(None),
            Aggregate::First => Tally::First(None),
            Aggregate::Last => Tally::Last(None),
            Aggregate::Distinct => Tally::Distinct(Vec::new()),
        }
    }

    pub(super) fn add(&mut self, entry: &Entry) {
        match self {
            Tally::Count(count) => *count += 1,
            Tally::Sum(sum) => sum.add(&entry.value),
            Tally::Mean(sum, numbers) => {
                sum.add(&entry.value);
                *numbers += 1;
            }
            Tally::Least(least) => lower(least, &entry.value),
            Tally::Greatest(greatest) => raise(greatest, &entry.value),
            Tally::First(first) => earlier(first, entry),
            Tally::Last(last) => later(last, entry),
            Tally::Distinct(values) => include(values, &entry.value),
        }
    }

    /// Take in what another tally of the same leaf adds up to.
    pub(super) fn merge(&mut self, other: &Tally) {
        match (self, other) {
            (Tally::Count(count), Tally::Count(other)) => *count += other,
            (Tally::Sum(sum), Tally::Sum(other)) => sum.merge(other),
            (Tally::Mean(sum, numbers), Tally::Mean(other, more)) => {
                sum.merge(other);
                *numbers += more;
            }
            (Tally::Least(least), Tally::Least(Some(other))) => lower(least, other),
            (Tally::Greatest(greatest), Tally::Greatest(Some(other))) => raise(greatest, other),
            (Tally::First(first), Tally::First(Some(other))) => earlier(first, other),
            (Tally::Last(last), Tally::Last(Some(other))) => later(last, other),
            (Tally::Distinct(values), Tally::Distinct(others)) => {
                others.iter().for_each(|other| include(values, other))
            }
            // Empty ones; kinds never differ within a leaf, as the aggregate is part of its hash.
            _ => {}
        }
    }

    /// The values that it holds, of a tally of distinct ones.
    pub(super) fn distinct(&self) -> &[Value] {
        match self {
            Tally::Distinct(values) => values,
            _ => &[],
        }
    }

    /// About how many bytes of memory it takes beside itself.
    pub(super) fn heap_bytes(&self) -> usize {
        match self {
            Tally::Count(_) => 0,
            Tally::Sum(sum) | Tally::Mean(sum, _) => sum.heap_bytes(),
            Tally::Least(value) | Tally::Greatest(value) => value.as_ref().map_or(0, Value::heap_bytes),
            Tally::First(entry) | Tally::Last(entry) => entry.as_ref().map_or(0, |entry| entry.value.heap_bytes()),
            Tally::Distinct(values) => {
                values.capacity() * size_of::<Value>() + values.iter().map(Value::heap_bytes).sum::<usize>()
            }
        }
    }

    pub(super) fn value(&self) -> Value {
        match self {
            Tally::Count(count) => Value::Int(i64::try_from(*count).unwrap_or(i64::MAX)),
            Tally::Sum(sum) => sum.value(),
            Tally::Mean(sum, numbers) => mean(sum, *numbers),
            Tally::Least(value) | Tally::Greatest(value) => value.clone().unwrap_or_default(),
            Tally::First(entry) | Tally::Last(entry) => {
                entry.as_ref().map(|entry| entry.value.clone()).unwrap_or_default()
            }
            Tally::Distinct(values) => {
                let mut values = values.clone();
                deduplicate(&mut values);
                Value::List(values)
            }
        }
    }
}

/// The list of distinct values, of values in any order.
pub(super) fn distinct<'v>(values: impl Iterator<Item = &'v Value>) -> Value {
    // Sorted once: including them one by one would move the greater ones for each.
    let mut values: Vec<&Value> = values.collect();
    values.sort_by(|one, other| one.order(other));
    values.dedup_by(|later, earlier| later.order(earlier).is_eq());
    let mut values: Vec<Value> = values.into_iter().cloned().collect();
    deduplicate(&mut values);
    Value::List(values)
}

fn lower(least: &mut Option<Value>, value: &Value) {
    if least.as_ref().is_none_or(|least| value.order(least).is_lt()) {
        *least = Some(value.clone());
    }
}

fn raise(greatest: &mut Option<Value>, value: &Value) {
    if greatest.as_ref().is_none_or(|greatest| greatness(value, greatest).is_gt()) {
        *greatest = Some(value.clone());
    }
}

fn earlier(first: &mut Option<Entry>, entry: &Entry) {
    if first.as_ref().is_none_or(|first| entry.order(first).is_lt()) {
        *first = Some(entry.clone());
    }
}

fn later(last: &mut Option<Entry>, entry: &Entry) {
    if last.as_ref().is_none_or(|last| entry.order(last).is_gt()) {
        *last = Some(entry.clone());
    }
}

fn include(values: &mut Vec<Value>, value: &Value) {
    if let Err(place) = values.binary_search_by(|held| held.order(value)) {
        values.insert(place, value.clone());
    }
}
