//! One feature of all profiles.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;

use super::numbers::{KeyRange, Numbers};
use crate::value::{Comparison, Value, compare_exactly};

/// Above this many different texts a feature gets no bitmap per text: it names people rather than groups, and conditions
/// on its texts are evaluated profile by profile. E-mail addresses are found as identifiers, not here.
pub const MAX_TEXT_VALUES: usize = 10_000;

/// Up to this many texts, a profile's present one is found by asking each bitmap; beyond, by a table of 2 bytes for each
/// ordinal.
const MAX_PROBED: usize = 32;

/// One feature of all profiles. Every ordinal has one value: the one that was set, or the default.
#[derive(Debug, Clone, Default)]
pub(super) struct Column {
    /// The value of those who are not in `stored`.
    pub(super) default: Value,
    pub(super) stored: RoaringBitmap,
    /// Of the stored: those whose value is pending. No comparison and no negation of one holds for them.
    pub(super) unknown: RoaringBitmap,
    /// Of the stored: those that have null, false or true.
    pub(super) nulls: RoaringBitmap,
    pub(super) bools: [RoaringBitmap; 2],
    pub(super) texts: Texts,
    pub(super) ints: Numbers,
    pub(super) floats: Numbers,
    pub(super) times: Numbers,
    /// The moments that texts name.
    pub(super) text_times: Numbers,
    pub(super) durations: Numbers,
    /// Lists and maps: known to be there, not what is in them.
    pub(super) others: RoaringBitmap,
}

/// The parts of a column that a condition picks; the profiles in them are different ones.
#[derive(Debug, Clone, Default)]
pub(super) struct Parts<'a> {
    pub(super) bitmaps: Vec<&'a RoaringBitmap>,
    pub(super) ranges: Vec<(&'a Numbers, KeyRange)>,
}

impl Column {
    pub(super) fn new(default: Value) -> Column {
        Column { default, ..Column::default() }
    }

    pub(super) fn those_true(&self) -> &RoaringBitmap {
        &self.bools[1]
    }

    pub(super) fn set(&mut self, ordinal: u32, value: &Value) {
        // Floats that no expression can yield would break the order of keys.
        let clean = match value {
            Value::Float(number) => &Value::float(*number),
            value => value,
        };
        // Most updates set what is there already.
        if matches!(clean, Value::Text(text) if self.texts.has(ordinal, text)) {
            return;
        }
        self.clear(ordinal);
        if *clean == self.default {
            return;
        }
        self.stored.insert(ordinal);
        match clean {
            Value::Unknown => {
                self.unknown.insert(ordinal);
            }
            Value::Null => {
                self.nulls.insert(ordinal);
            }
            Value::Bool(truth) => {
                self.bools[usize::from(*truth)].insert(ordinal);
            }
            Value::Int(number) => self.ints.set(ordinal, int_key(*number)),
            Value::Float(number) => self.floats.set(ordinal, float_key(*number)),
            Value::Time(time) => self.times.set(ordinal, int_key(time.0)),
            Value::Duration(length) => self.durations.set(ordinal, int_key(*length)),
            Value::Text(text) => {
                self.texts.set(ordinal, text);
                if let Some(time) = clean.as_time() {
                    self.text_times.set(ordinal, int_key(time.0));
                }
            }
            Value::List(_) | Value::Map(_) => {
                self.others.insert(ordinal);
            }
        }
    }

    pub(super) fn clear(&mut self, ordinal: u32) {
        if !self.stored.remove(ordinal) {
            return;
        }
        if self.texts.clear(ordinal) {
            self.text_times.clear(ordinal);
            return;
        }
        self.unknown.remove(ordinal);
        self.nulls.remove(ordinal);
        self.others.remove(ordinal);
        for bitmap in &mut self.bools {
            bitmap.remove(ordinal);
        }
        for numbers in [&mut self.ints, &mut self.floats, &mut self.times, &mut self.durations] {
            numbers.clear(ordinal);
        }
    }

    /// The stored profiles whose value compares so with the literal; `None` when the index cannot tell.
    pub(super) fn compared(&self, comparison: Comparison, literal: &Value) -> Option<Parts<'_>> {
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
                parts.range(&self.ints, int_range(comparison, literal));
                parts.range(&self.floats, float_range(comparison, literal));
            }
            Value::Duration(length) => parts.range(&self.durations, key_range(comparison, int_key(*length))),
            Value::Time(time) => {
                let range = key_range(comparison, int_key(time.0));
                parts.range(&self.times, range);
                parts.range(&self.text_times, range);
            }
            Value::Text(text) => {
                parts.bitmaps.extend(self.texts.compared(comparison, text)?);
                if let Some(time) = literal.as_time() {
                    parts.range(&self.times, key_range(comparison, int_key(time.0)));
                }
            }
        }
        Some(parts)
    }

    /// All stored values with who has them, where these are few: texts, truth values and nulls, and nothing else.
    pub(super) fn values(&self) -> Option<Vec<(Value, &RoaringBitmap)>> {
        let numbers = [&self.ints, &self.floats, &self.times, &self.durations];
        if self.texts.too_many || !self.others.is_empty() || numbers.iter().any(|numbers| numbers.len() > 0) {
            return None;
        }
        let mut values: Vec<(Value, &RoaringBitmap)> = self.texts.values().collect();
        values.push((Value::Null, &self.nulls));
        values.push((Value::Bool(false), &self.bools[0]));
        values.push((Value::Bool(true), &self.bools[1]));
        Some(values)
    }
}

impl<'a> Parts<'a> {
    fn range(&mut self, numbers: &'a Numbers, range: Option<KeyRange>) {
        if let Some(range) = range.filter(|_| numbers.len() > 0) {
            self.ranges.push((numbers, range));
        }
    }
}

/// A bitmap for each text.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    any: RoaringBitmap,
    codes: HashMap<Arc<str>, u16>,
    /// By code.
    bitmaps: Vec<RoaringBitmap>,
    names: Vec<Arc<str>>,
    /// Codes whose text nobody has any more.
    free: Vec<u16>,
    /// Ordinal → code + 1, once there are more than [`MAX_PROBED`] texts.
    table: Vec<u16>,
    too_many: bool,
}

impl Texts {
    fn has(&self, ordinal: u32, text: &str) -> bool {
        self.codes.get(text).is_some_and(|code| self.bitmaps[usize::from(*code)].contains(ordinal))
    }

    fn code_of(&self, ordinal: u32) -> Option<u16> {
        if self.table.is_empty() {
            let code = self.bitmaps.iter().position(|bitmap| bitmap.contains(ordinal))?;
            return u16::try_from(code).ok();
        }
        self.table.get(ordinal as usize).and_then(|code| code.checked_sub(1))
    }

    fn set(&mut self, ordinal: u32, text: &Arc<str>) {
        self.any.insert(ordinal);
        if self.too_many {
            return;
        }
        let Some(code) = self.code_for(text) else {
            *self = Texts { any: std::mem::take(&mut self.any), too_many: true, ..Texts::default() };
            return;
        };
        self.bitmaps[usize::from(code)].insert(ordinal);
        if self.table.is_empty() && self.names.len() > MAX_PROBED {
            for (code, bitmap) in (1..).zip(&self.bitmaps) {
                for ordinal in bitmap {
                    note(&mut self.table, ordinal, code);
                }
            }
        } else if !self.table.is_empty() {
            note(&mut self.table, ordinal, code + 1);
        }
    }

    /// The text's code, a new one if need be; `None` when there are too many texts.
    fn code_for(&mut self, text: &Arc<str>) -> Option<u16> {
        if let Some(code) = self.codes.get(text) {
            return Some(*code);
        }
        let code = match self.free.pop() {
            Some(code) => {
                self.names[usize::from(code)] = text.clone();
                code
            }
            None if self.names.len() >= MAX_TEXT_VALUES => return None,
            None => {
                self.names.push(text.clone());
                self.bitmaps.push(RoaringBitmap::new());
                u16::try_from(self.names.len() - 1).ok()?
            }
        };
        self.codes.insert(text.clone(), code);
        Some(code)
    }

    /// Returns whether there was a text.
    fn clear(&mut self, ordinal: u32) -> bool {
        if !self.any.remove(ordinal) {
            return false;
        }
        if let Some(code) = self.code_of(ordinal) {
            let bitmap = &mut self.bitmaps[usize::from(code)];
            bitmap.remove(ordinal);
            if bitmap.is_empty() {
                self.codes.remove(&self.names[usize::from(code)]);
                self.free.push(code);
            }
            if let Some(noted) = self.table.get_mut(ordinal as usize) {
                *noted = 0;
            }
        }
        true
    }

    fn values(&self) -> impl Iterator<Item = (Value, &RoaringBitmap)> {
        self.names
            .iter()
            .zip(&self.bitmaps)
            .filter(|(_, bitmap)| !bitmap.is_empty())
            .map(|(name, bitmap)| (Value::Text(name.clone()), bitmap))
    }

    fn compared(&self, comparison: Comparison, text: &Arc<str>) -> Option<Vec<&RoaringBitmap>> {
        if self.too_many {
            return None;
        }
        if comparison == Comparison::Equal {
            return Some(self.codes.get(text).map(|code| &self.bitmaps[usize::from(*code)]).into_iter().collect());
        }
        let literal = Value::Text(text.clone());
        let meets = |value: &Value| value.compared(comparison, &literal).is_true();
        Some(self.values().filter(|(value, _)| meets(value)).map(|(_, bitmap)| bitmap).collect())
    }
}

fn note(table: &mut Vec<u16>, ordinal: u32, code: u16) {
    let place = ordinal as usize;
    if table.len() <= place {
        table.resize(place + 1, 0);
    }
    table[place] = code;
}

const SIGN: u64 = 1 << 63;

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
