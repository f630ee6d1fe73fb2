//! One feature of all profiles.

use std::borrow::Cow;

use kith_model::time::Timestamp;
use roaring::RoaringBitmap;

use super::numbers::{KeyRange, Numbers};
use super::texts::Texts;
use crate::value::{Comparison, Moment, Value, compare_exactly, parse_moment};
use crate::zone::Zone;

/// One feature of all profiles. Every ordinal has one value: the one that was set, which is stored, or the default.
#[derive(Debug, Clone, Default)]
pub(super) struct Column {
    /// The value of those of whom none is stored.
    pub(super) default: Value,
    /// The stored that are in none of `ints`, `floats`, `times` and `durations`. Those are in no bitmap as well: most columns hold
    /// numbers alone, and each value that is set would be looked for twice.
    unnumbered: RoaringBitmap,
    /// Of the unnumbered: those whose value is pending. No comparison and no negation of one holds for them.
    pub(super) unknown: RoaringBitmap,
    /// Of the unnumbered: those that have null, false or true.
    pub(super) nulls: RoaringBitmap,
    pub(super) bools: [RoaringBitmap; 2],
    pub(super) texts: Texts,
    pub(super) ints: Numbers,
    pub(super) floats: Numbers,
    pub(super) times: Numbers,
    /// The moments that texts name.
    pub(super) text_times: Numbers,
    /// The days that texts name.
    pub(super) text_days: Numbers,
    /// The clocks that texts name.
    pub(super) text_clocks: Numbers,
    /// The numbers that texts are.
    pub(super) text_ints: Numbers,
    pub(super) text_floats: Numbers,
    pub(super) durations: Numbers,
    /// Lists and maps: known to be there, not what is in them.
    pub(super) others: RoaringBitmap,
}

/// The parts of a column that a condition picks; the profiles in them are different ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts<'a> {
    pub(super) bitmaps: Vec<&'a RoaringBitmap>,
    /// Single profiles, where a bitmap for one would be a waste.
    pub(super) singles: Vec<u32>,
    pub(super) ranges: Vec<(&'a Numbers, KeyRange)>,
}

impl Column {
    pub(super) fn new(default: Value) -> Column {
        Column { default, ..Column::default() }
    }

    pub(super) fn those_true(&self) -> &RoaringBitmap {
        &self.bools[1]
    }

    /// In the order of [`number_key`].
    fn numbered(&self) -> [&Numbers; 4] {
        [&self.ints, &self.floats, &self.times, &self.durations]
    }

    fn numbered_mut(&mut self) -> [&mut Numbers; 4] {
        [&mut self.ints, &mut self.floats, &mut self.times, &mut self.durations]
    }

    /// Whether nobody's value differs from the default.
    pub(super) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// How many profiles have a value that is stored.
    pub(super) fn len(&self) -> u64 {
        self.unnumbered.len() + self.numbered().iter().map(|numbers| numbers.len()).sum::<u64>()
    }

    /// Whether a profile's value is stored.
    pub(super) fn has(&self, ordinal: u32) -> bool {
        self.unnumbered.contains(ordinal) || self.numbered().iter().any(|numbers| numbers.has(ordinal))
    }

    /// The profiles whose value is stored.
    pub(super) fn stored(&self) -> Parts<'_> {
        let mut stored = Parts::default();
        if !self.unnumbered.is_empty() {
            stored.bitmaps.push(&self.unnumbered);
        }
        for numbers in self.numbered() {
            stored.range(numbers, Some(KeyRange::ALL));
        }
        stored
    }

    pub(super) fn set(&mut self, ordinal: u32, value: &Value) {
        // Floats that no expression can yield would break the order of keys.
        let clean = match value {
            Value::Float(number) => &Value::float(*number),
            value => value,
        };
        if *clean == self.default {
            self.clear(ordinal);
            return;
        }
        let Some((kind, key)) = number_key(clean) else { return self.set_unnumbered(ordinal, clean) };
        if !self.numbered_mut()[kind].set(ordinal, key) {
            return;
        }
        for (other, numbers) in self.numbered_mut().into_iter().enumerate() {
            if other != kind {
                numbers.clear(ordinal);
            }
        }
        self.clear_unnumbered(ordinal);
    }

    fn set_unnumbered(&mut self, ordinal: u32, value: &Value) {
        let is_there = match value {
            Value::Text(text) => self.texts.has(ordinal, text),
            Value::Bool(truth) => self.bools[usize::from(*truth)].contains(ordinal),
            _ => false,
        };
        if is_there {
            return;
        }
        self.clear(ordinal);
        self.unnumbered.insert(ordinal);
        match value {
            Value::Unknown => {
                self.unknown.insert(ordinal);
            }
            Value::Null => {
                self.nulls.insert(ordinal);
            }
            Value::Bool(truth) => {
                self.bools[usize::from(*truth)].insert(ordinal);
            }
            Value::Text(text) => {
                self.texts.set(ordinal, text);
                let named = match (parse_moment(text), value.as_number()) {
                    (Some(Moment::At(time)), _) => Some((&mut self.text_times, int_key(time.0))),
                    (Some(Moment::On(day)), _) => Some((&mut self.text_days, int_key(day.into()))),
                    (Some(Moment::Clock(local_ms)), _) => Some((&mut self.text_clocks, int_key(local_ms))),
                    (None, Some(Value::Int(number))) => Some((&mut self.text_ints, int_key(number))),
                    (None, Some(Value::Float(number))) => Some((&mut self.text_floats, float_key(number))),
                    (None, _) => None,
                };
                if let Some((numbers, key)) = named {
                    numbers.set(ordinal, key);
                }
            }
            _ => {
                self.others.insert(ordinal);
            }
        }
    }

    pub(super) fn clear(&mut self, ordinal: u32) {
        if !self.clear_unnumbered(ordinal) {
            self.numbered_mut().into_iter().for_each(|numbers| numbers.clear(ordinal));
        }
    }

    /// Whether there was one.
    fn clear_unnumbered(&mut self, ordinal: u32) -> bool {
        if !self.unnumbered.remove(ordinal) {
            return false;
        }
        if self.texts.clear(ordinal) {
            let times = [&mut self.text_times, &mut self.text_days, &mut self.text_clocks];
            for named in times.into_iter().chain([&mut self.text_ints, &mut self.text_floats]) {
                named.clear(ordinal);
            }
            return true;
        }
        self.unknown.remove(ordinal);
        self.nulls.remove(ordinal);
        self.others.remove(ordinal);
        for bitmap in &mut self.bools {
            bitmap.remove(ordinal);
        }
        true
    }

    /// The stored profiles whose value compares so with the literal; `None` when the index cannot tell.
    pub(super) fn compared(&self, comparison: Comparison, literal: &Value, zone: &Zone) -> Option<Parts<'_>> {
        let mut parts = Parts::default();
        match literal {
            Value::Null if comparison == Comparison::Equal => parts.bitmaps.push(&self.nulls),
            Value::Bool(truth) if comparison == Comparison::Equal => {
                parts.bitmaps.push(&self.bools[usize::from(*truth)])
            }
            Value::List(_) | Value::Map(_) if comparison == Comparison::Equal && !self.others.is_empty() => {
                return None;
            }
            Value::Null | Value::Bool(_) | Value::List(_) | Value::Map(_) | Value::Unknown => {}
            Value::Int(_) | Value::Float(_) => {
                for ints in [&self.ints, &self.text_ints] {
                    parts.range(ints, int_range(comparison, literal));
                }
                for floats in [&self.floats, &self.text_floats] {
                    parts.range(floats, float_range(comparison, literal));
                }
            }
            Value::Duration(length) => parts.range(&self.durations, key_range(comparison, int_key(*length))),
            Value::Time(time) => {
                let range = key_range(comparison, int_key(time.0));
                parts.range(&self.times, range);
                parts.range(&self.text_times, range);
                parts.range(&self.text_days, day_range(comparison, *time, zone));
                if self.text_clocks.len() > 0 {
                    parts.range(&self.text_clocks, clock_range(comparison, *time, zone));
                }
            }
            Value::Text(text) => {
                self.texts.compared(comparison, text, &mut parts)?;
                if let Some(time) = literal.as_time(zone) {
                    parts.range(&self.times, key_range(comparison, int_key(time.0)));
                }
                if let Some(number) = literal.as_number() {
                    parts.range(&self.ints, int_range(comparison, &number));
                    parts.range(&self.floats, float_range(comparison, &number));
                }
            }
        }
        Some(parts)
    }

    /// How many have a text that is no number.
    pub(super) fn wordy(&self) -> u64 {
        let numbers = self.text_ints.len() + self.text_floats.len();
        self.texts.len().saturating_sub(numbers)
    }

    /// How many have a text that names no time.
    pub(super) fn timeless(&self) -> u64 {
        let times = self.text_times.len() + self.text_days.len() + self.text_clocks.len();
        self.texts.len().saturating_sub(times)
    }

    /// How many have a number.
    pub(super) fn numeric(&self) -> u64 {
        self.ints.len() + self.floats.len()
    }

    /// The texts and truth values with how many profiles have each; `None` where there are too many texts.
    pub(super) fn listed(&self, most: usize) -> Option<Vec<(Value, u64)>> {
        if self.texts.are_more_than(most) {
            return None;
        }
        let texts = self.texts.values()?.map(|(value, bitmap)| (value, bitmap.len()));
        let truths =
            [false, true].into_iter().zip(&self.bools).map(|(truth, bitmap)| (Value::Bool(truth), bitmap.len()));
        Some(texts.chain(truths.filter(|(_, people)| *people > 0)).collect())
    }

    /// All stored values and the profiles that have each, where these are few: texts, truth values, null and unknown, and
    /// nothing else.
    pub(super) fn values(&self) -> Option<Vec<(Value, &RoaringBitmap)>> {
        if !self.others.is_empty() || self.numbered().iter().any(|numbers| numbers.len() > 0) {
            return None;
        }
        let mut values: Vec<(Value, &RoaringBitmap)> = self.texts.values()?.collect();
        values.push((Value::Unknown, &self.unknown));
        values.push((Value::Null, &self.nulls));
        values.push((Value::Bool(false), &self.bools[0]));
        values.push((Value::Bool(true), &self.bools[1]));
        Some(values)
    }
}

impl<'a> Parts<'a> {
    pub(super) fn is_empty(&self) -> bool {
        self.bitmaps.is_empty() && self.singles.is_empty() && self.ranges.is_empty()
    }

    /// The profiles, of those within.
    pub(super) fn select(&self, within: Option<&RoaringBitmap>) -> Cow<'a, RoaringBitmap> {
        if let ([bitmap], [], [], None) = (&*self.bitmaps, &*self.singles, &*self.ranges, within) {
            return Cow::Borrowed(bitmap);
        }
        let mut selected = RoaringBitmap::new();
        for bitmap in &self.bitmaps {
            match within {
                Some(within) => selected |= *bitmap & within,
                None => selected |= *bitmap,
            }
        }
        selected.extend(self.singles.iter().filter(|single| within.is_none_or(|within| within.contains(**single))));
        for (numbers, range) in &self.ranges {
            selected |= numbers.select(*range, within);
        }
        Cow::Owned(selected)
    }

    fn range(&mut self, numbers: &'a Numbers, range: Option<KeyRange>) {
        if let Some(range) = range.filter(|_| numbers.len() > 0) {
            self.ranges.push((numbers, range));
        }
    }
}

const SIGN: u64 = 1 << 63;

/// Among which of [`Column::numbered`] a value lies, and its key there; `None` where it is no number of any of these kinds.
fn number_key(value: &Value) -> Option<(usize, u64)> {
    match value {
        Value::Int(number) => Some((0, int_key(*number))),
        Value::Float(number) => Some((1, float_key(*number))),
        Value::Time(time) => Some((2, int_key(time.0))),
        Value::Duration(length) => Some((3, int_key(*length))),
        Value::Unknown | Value::Null | Value::Bool(_) | Value::Text(_) | Value::List(_) | Value::Map(_) => None,
    }
}

/// A key that sorts as the number does.
fn int_key(number: i64) -> u64 {
    number.cast_unsigned() ^ SIGN
}

/// A key that sorts as the number does; it is finite and not −0.0.
fn float_key(number: f64) -> u64 {
    let bits = number.to_bits();
    if bits & SIGN == 0 { bits ^ SIGN } else { !bits }
}

/// The keys that compare so with `key`.
fn key_range(comparison: Comparison, key: u64) -> Option<KeyRange> {
    let range = |first, last| Some(KeyRange { first, last });
    match comparison {
        Comparison::Equal => range(key, key),
        Comparison::Less => range(0, key.checked_sub(1)?),
        Comparison::LessOrEqual => range(0, key),
        Comparison::Greater => range(key.checked_add(1)?, u64::MAX),
        Comparison::GreaterOrEqual => range(key, u64::MAX),
        // Asked for as the complement of equality.
        Comparison::NotEqual => None,
    }
}

/// The days whose first moments compare so with a time.
fn day_range(comparison: Comparison, time: Timestamp, zone: &Zone) -> Option<KeyRange> {
    let last = zone.day(time);
    let begins = |day: i32| zone.start_of_day(day) == time;
    // A day that a zone left out begins with the one after it.
    let first = if begins(last.saturating_sub(1)) { last.saturating_sub(1) } else { last };
    let key = |day: i32| int_key(day.into());
    match (comparison, begins(last)) {
        (Comparison::Equal, true) => Some(KeyRange { first: key(first), last: key(last) }),
        (Comparison::Less, true) => key_range(Comparison::Less, key(first)),
        (Comparison::GreaterOrEqual, true) => key_range(Comparison::GreaterOrEqual, key(first)),
        (Comparison::Less | Comparison::LessOrEqual, _) => key_range(Comparison::LessOrEqual, key(last)),
        (Comparison::Greater | Comparison::GreaterOrEqual, _) => key_range(Comparison::Greater, key(last)),
        (Comparison::Equal | Comparison::NotEqual, _) => None,
    }
}

/// The clocks whose moments compare so with a time.
fn clock_range(comparison: Comparison, time: Timestamp, zone: &Zone) -> Option<KeyRange> {
    let (first, later) = (int_key(zone.first_clock_at(time)), int_key(zone.first_clock_after(time)));
    match comparison {
        Comparison::Equal if first < later => Some(KeyRange { first, last: later - 1 }),
        Comparison::Less => key_range(Comparison::Less, first),
        Comparison::LessOrEqual => key_range(Comparison::Less, later),
        Comparison::Greater => key_range(Comparison::GreaterOrEqual, later),
        Comparison::GreaterOrEqual => key_range(Comparison::GreaterOrEqual, first),
        Comparison::Equal | Comparison::NotEqual => None,
    }
}

/// The whole numbers that compare so with a number.
#[allow(clippy::cast_possible_truncation, reason = "casts of floats beyond range saturate, which is what is meant")]
fn int_range(comparison: Comparison, literal: &Value) -> Option<KeyRange> {
    let number = match literal {
        Value::Int(number) => return key_range(comparison, int_key(*number)),
        Value::Float(number) => *number,
        _ => return None,
    };
    let (floor, ceil) = (number.floor() as i128, number.ceil() as i128);
    let (low, high) = (i128::from(i64::MIN), i128::from(i64::MAX));
    let (first, last) = match comparison {
        Comparison::Equal if floor == ceil => (floor, floor),
        Comparison::Less => (low, ceil.saturating_sub(1)),
        Comparison::LessOrEqual => (low, floor),
        Comparison::Greater => (floor.saturating_add(1), high),
        Comparison::GreaterOrEqual => (ceil, high),
        _ => return None,
    };
    let (first, last) = (first.max(low), last.min(high));
    if first > last {
        return None;
    }
    Some(KeyRange { first: int_key(i64::try_from(first).ok()?), last: int_key(i64::try_from(last).ok()?) })
}

/// The floats that compare so with a number.
#[allow(clippy::cast_precision_loss, reason = "what the cast loses is looked at")]
fn float_range(comparison: Comparison, literal: &Value) -> Option<KeyRange> {
    let (number, rounded) = match literal {
        Value::Float(number) => (*number, std::cmp::Ordering::Equal),
        Value::Int(number) => (*number as f64, compare_exactly(*number, *number as f64)),
        _ => return None,
    };
    // Where the whole number lies beside the float, no float equals it, and the float itself is on one side of it.
    let comparison = match (rounded, comparison) {
        (std::cmp::Ordering::Equal, comparison) => comparison,
        (_, Comparison::Equal | Comparison::NotEqual) => return None,
        (std::cmp::Ordering::Less, Comparison::Less | Comparison::LessOrEqual) => Comparison::Less,
        (std::cmp::Ordering::Less, _) => Comparison::GreaterOrEqual,
        (std::cmp::Ordering::Greater, Comparison::Less | Comparison::LessOrEqual) => Comparison::LessOrEqual,
        (std::cmp::Ordering::Greater, _) => Comparison::Greater,
    };
    key_range(comparison, float_key(number))
}
