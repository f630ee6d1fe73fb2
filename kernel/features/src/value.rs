//! Values of the expression language: how they compare and calculate.
//!
//! Nothing here fails: an operation without a meaning gives [`Value::Null`]. The table of what null and unknown mean is in
//! the crate's front page.

mod convert;
mod text;

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};

pub use self::convert::Misfit;
pub use self::text::Duration;
use self::text::parse_number;
pub(crate) use self::text::{Moment, parse_duration, parse_moment, write_quoted};
use crate::zone::Zone;

/// A value. `==` between two of them is identity (`Int(1) != Float(1.0)`); the language's equality is [`Value::equals`].
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub enum Value {
    #[default]
    Null,
    Bool(bool),
    Int(i64),
    /// Always finite and never −0.0, where made by [`Value::float`], from JSON or by evaluation.
    Float(f64),
    Text(Arc<str>),
    Time(Timestamp),
    /// Milliseconds.
    Duration(i64),
    /// Never with an unknown item: a list or a map of something unknown is itself unknown.
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
    /// A pending value: it exists or will, but is not computed yet. The last variant, so that stored values keep their
    /// numbers; no state of a leaf ever holds it.
    Unknown,
}

/// An arithmetic operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Arithmetic {
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
}

/// A comparison operator.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Comparison {
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
}

impl Comparison {
    /// The operator that holds between the swapped operands.
    pub(crate) fn swapped(self) -> Comparison {
        match self {
            Comparison::Less => Comparison::Greater,
            Comparison::LessOrEqual => Comparison::GreaterOrEqual,
            Comparison::Greater => Comparison::Less,
            Comparison::GreaterOrEqual => Comparison::LessOrEqual,
            same => same,
        }
    }

    fn holds(self, ordering: Ordering) -> bool {
        match self {
            Comparison::Equal => ordering.is_eq(),
            Comparison::NotEqual => ordering.is_ne(),
            Comparison::Less => ordering.is_lt(),
            Comparison::LessOrEqual => ordering.is_le(),
            Comparison::Greater => ordering.is_gt(),
            Comparison::GreaterOrEqual => ordering.is_ge(),
        }
    }
}

impl Value {
    /// A float, or null where it is not finite.
    pub fn float(number: f64) -> Value {
        // Adding zero turns −0.0 into 0.0.
        if number.is_finite() { Value::Float(number + 0.0) } else { Value::Null }
    }

    /// A text.
    pub fn text(text: impl Into<Arc<str>>) -> Value {
        Value::Text(text.into())
    }

    /// Whether it is null.
    pub fn is_null(&self) -> bool {
        matches!(self, Value::Null)
    }

    /// Whether it is a pending value.
    pub fn is_unknown(&self) -> bool {
        matches!(self, Value::Unknown)
    }

    /// Whether a condition with this value holds: only `true` does; null, unknown and all that is no boolean does not.
    pub fn is_true(&self) -> bool {
        matches!(self, Value::Bool(true))
    }

    /// Whether it holds as an operand of `&&`, `||` and `!`: all but true does not. `None` of a pending value.
    pub(crate) fn holds(&self) -> Option<bool> {
        match self {
            Value::Unknown => None,
            value => Some(value.is_true()),
        }
    }

    /// The moment that it names: a time, or a text in RFC 3339 or of the form `2026-11-21` (midnight in the zone).
    pub fn as_time(&self, zone: &Zone) -> Option<Timestamp> {
        match self {
            Value::Time(time) => Some(*time),
            Value::Text(text) => parse_moment(text).map(|moment| moment.begin(zone)),
            _ => None,
        }
    }

    /// The number that it is: a number, or a text that is written exactly as JSON writes one.
    pub fn as_number(&self) -> Option<Value> {
        match self {
            Value::Int(_) | Value::Float(_) => Some(self.clone()),
            Value::Text(text) => parse_number(text),
            _ => None,
        }
    }

    /// The items that it counts as where a list is asked for: what is absent as none, what is no list as itself alone.
    /// `None` of a pending value.
    pub(crate) fn into_items(self) -> Option<Vec<Value>> {
        match self {
            Value::List(items) => Some(items),
            Value::Null => Some(Vec::new()),
            Value::Unknown => None,
            value => Some(vec![value]),
        }
    }

    /// The text that it counts as where a text is asked for: itself, or a number as it is written.
    pub(crate) fn as_text(&self) -> Option<Cow<'_, str>> {
        match self {
            Value::Text(text) => Some(Cow::Borrowed(text)),
            Value::Int(number) => Some(Cow::Owned(number.to_string())),
            Value::Float(number) => Some(Cow::Owned(number.to_string())),
            _ => None,
        }
    }

    /// The language's equality: numbers of both kinds compare, a text equals the number and the time that it names, null
    /// equals null only.
    pub fn equals(&self, other: &Value, zone: &Zone) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b, zone)),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((ka, va), (kb, vb))| ka == kb && va.equals(vb, zone))
            }
            _ => self.compare(other, zone).is_some_and(Ordering::is_eq),
        }
    }

    /// The language's order: between numbers, texts (by code point), times and durations, and of a text with a number or a
    /// time where it names one; `None` where there is none.
    pub fn compare(&self, other: &Value, zone: &Zone) -> Option<Ordering> {
        match (self, other) {
            (Value::Time(_), _) | (_, Value::Time(_)) => Some(self.as_time(zone)?.cmp(&other.as_time(zone)?)),
            (Value::Int(_) | Value::Float(_), Value::Text(_)) | (Value::Text(_), Value::Int(_) | Value::Float(_)) => {
                self.as_number()?.compare_alike(&other.as_number()?)
            }
            _ => self.compare_alike(other),
        }
    }

    /// The order of two numbers, texts, times or durations.
    pub(crate) fn compare_alike(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
            (Value::Int(a), Value::Float(b)) => Some(compare_exactly(*a, *b)),
            (Value::Float(a), Value::Int(b)) => Some(compare_exactly(*b, *a).reverse()),
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Time(a), Value::Time(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Whether a comparison holds. It never does where the sides do not compare, but for `!=`, which then does.
    pub(crate) fn compared(&self, comparison: Comparison, other: &Value, zone: &Zone) -> Value {
        if self.is_unknown() || other.is_unknown() {
            return Value::Unknown;
        }
        match comparison {
            Comparison::Equal => Value::Bool(self.equals(other, zone)),
            Comparison::NotEqual => Value::Bool(!self.equals(other, zone)),
            _ => Value::Bool(self.compare(other, zone).is_some_and(|ordering| comparison.holds(ordering))),
        }
    }

    /// An order over all values, so that the least, the greatest and the distinct ones never depend on who came first.
    pub(crate) fn order(&self, other: &Value) -> Ordering {
        let rank = |value: &Value| match value {
            Value::Null => 0,
            Value::Bool(_) => 1,
            Value::Int(_) | Value::Float(_) => 2,
            Value::Text(_) => 3,
            Value::Time(_) => 4,
            Value::Duration(_) => 5,
            Value::List(_) => 6,
            Value::Map(_) => 7,
            Value::Unknown => 8,
        };
        match (self, other) {
            (Value::Bool(a), Value::Bool(b)) => a.cmp(b),
            (Value::Int(a), Value::Float(b)) => compare_exactly(*a, *b).then(Ordering::Less),
            (Value::Float(a), Value::Int(b)) => compare_exactly(*b, *a).reverse().then(Ordering::Greater),
            (Value::Float(a), Value::Float(b)) => a.total_cmp(b),
            (Value::List(a), Value::List(b)) => {
                let differ = a.iter().zip(b).map(|(a, b)| a.order(b)).find(|ordering| ordering.is_ne());
                differ.unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            (Value::Map(a), Value::Map(b)) => {
                let pairs = a.iter().zip(b).map(|((ka, va), (kb, vb))| ka.cmp(kb).then_with(|| va.order(vb)));
                pairs.into_iter().find(|ordering| ordering.is_ne()).unwrap_or_else(|| a.len().cmp(&b.len()))
            }
            _ if rank(self) == rank(other) => self.compare_alike(other).unwrap_or(Ordering::Equal),
            _ => rank(self).cmp(&rank(other)),
        }
    }

    pub(crate) fn calculate(&self, operator: Arithmetic, other: &Value, zone: &Zone) -> Value {
        match (self, other) {
            (Value::Unknown, _) | (_, Value::Unknown) => Value::Unknown,
            (Value::Int(a), Value::Int(b)) => calculate_whole(*a, operator, *b),
            (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
                calculate_float(self.as_float(), operator, other.as_float())
            }
            (Value::Text(a), Value::Text(b)) if operator == Arithmetic::Add => Value::text(format!("{a}{b}")),
            (Value::List(a), Value::List(b)) if operator == Arithmetic::Add => {
                Value::List(a.iter().chain(b).cloned().collect())
            }
            (Value::Int(_) | Value::Float(_), Value::Text(_)) | (Value::Text(_), Value::Int(_) | Value::Float(_)) => {
                match (self.as_number(), other.as_number()) {
                    (Some(a), Some(b)) => a.calculate(operator, &b, zone),
                    _ => Value::Null,
                }
            }
            _ => self.calculate_time(operator, other, zone).unwrap_or_default(),
        }
    }

    fn calculate_time(&self, operator: Arithmetic, other: &Value, zone: &Zone) -> Option<Value> {
        match (self, operator, other) {
            (Value::Duration(a), Arithmetic::Add, Value::Duration(b)) => a.checked_add(*b).map(Value::Duration),
            (Value::Duration(a), Arithmetic::Subtract, Value::Duration(b)) => a.checked_sub(*b).map(Value::Duration),
            (Value::Duration(a), Arithmetic::Divide, Value::Duration(b)) => Some(Value::float(*a as f64 / *b as f64)),
            (Value::Duration(by), Arithmetic::Add, time) | (time, Arithmetic::Add, Value::Duration(by)) => {
                time.as_time(zone)?.0.checked_add(*by).map(|time| Value::Time(Timestamp(time)))
            }
            (time, Arithmetic::Subtract, Value::Duration(by)) => {
                time.as_time(zone)?.0.checked_sub(*by).map(|time| Value::Time(Timestamp(time)))
            }
            (Value::Time(_), Arithmetic::Subtract, _) | (_, Arithmetic::Subtract, Value::Time(_)) => {
                self.as_time(zone)?.0.checked_sub(other.as_time(zone)?.0).map(Value::Duration)
            }
            _ => None,
        }
    }

    pub(crate) fn negated(&self) -> Value {
        match self {
            Value::Int(number) => number.checked_neg().map_or(Value::Null, Value::Int),
            Value::Float(number) => Value::float(-number),
            Value::Duration(length) => length.checked_neg().map_or(Value::Null, Value::Duration),
            Value::Text(text) => parse_number(text).map_or(Value::Null, |number| number.negated()),
            Value::Unknown => Value::Unknown,
            _ => Value::Null,
        }
    }

    /// About how many bytes of memory it takes beside itself; a text counts for each place that shares it.
    pub(crate) fn heap_bytes(&self) -> usize {
        match self {
            Value::Text(text) => 2 * size_of::<usize>() + text.len(),
            Value::List(items) => {
                items.capacity() * size_of::<Value>() + items.iter().map(Value::heap_bytes).sum::<usize>()
            }
            Value::Map(fields) => {
                let field = |(name, value): (&String, &Value)| {
                    size_of::<String>() + name.capacity() + size_of::<Value>() + value.heap_bytes()
                };
                fields.iter().map(field).sum()
            }
            _ => 0,
        }
    }

    /// The whole number that a float equals.
    pub(crate) fn as_whole(&self) -> Option<i64> {
        match self {
            Value::Float(number) if number.fract() == 0.0 => whole(*number),
            _ => None,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "a calculation with a float is a calculation in floats")]
    fn as_float(&self) -> f64 {
        match self {
            Value::Int(number) => *number as f64,
            Value::Float(number) => *number,
            _ => f64::NAN,
        }
    }
}

/// The whole number that a float is, if it fits.
fn whole(number: f64) -> Option<i64> {
    // −2⁶³ and 2⁶³ are exact as floats; the upper one does not fit.
    let fits = (-9_223_372_036_854_775_808.0..9_223_372_036_854_775_808.0).contains(&number);
    #[allow(clippy::cast_possible_truncation, reason = "the range was checked")]
    fits.then_some(number as i64)
}

/// Compare without rounding either side. The float must not be NaN.
pub(crate) fn compare_exactly(int: i64, float: f64) -> Ordering {
    match whole(float.trunc()) {
        Some(trunc) => int.cmp(&trunc).then_with(|| 0.0_f64.partial_cmp(&float.fract()).unwrap_or(Ordering::Equal)),
        None if float > 0.0 => Ordering::Less,
        None => Ordering::Greater,
    }
}

fn calculate_whole(a: i64, operator: Arithmetic, b: i64) -> Value {
    let result = match operator {
        Arithmetic::Add => a.checked_add(b),
        Arithmetic::Subtract => a.checked_sub(b),
        Arithmetic::Multiply => a.checked_mul(b),
        Arithmetic::Remainder => a.checked_rem(b),
        Arithmetic::Divide => return Value::float(Value::Int(a).as_float() / Value::Int(b).as_float()),
    };
    result.map_or(Value::Null, Value::Int)
}

fn calculate_float(a: f64, operator: Arithmetic, b: f64) -> Value {
    Value::float(match operator {
        Arithmetic::Add => a + b,
        Arithmetic::Subtract => a - b,
        Arithmetic::Multiply => a * b,
        Arithmetic::Divide => a / b,
        Arithmetic::Remainder => a % b,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_exactly_whatever_their_kind() {
        let utc = &Zone::utc();
        let big = i64::MAX;
        assert!(Value::Int(1).equals(&Value::Float(1.0), utc));
        assert_eq!(Value::Int(big).compare(&Value::Float(9_223_372_036_854_775_808.0), utc), Some(Ordering::Less));
        assert_eq!(
            Value::Int((1 << 53) + 1).compare(&Value::Float(9_007_199_254_740_992.0), utc),
            Some(Ordering::Greater)
        );
        assert_eq!(Value::Float(-1.5).compare(&Value::Int(-1), utc), Some(Ordering::Less));
        assert_eq!(Value::Int(-1).compare(&Value::Float(-1.5), utc), Some(Ordering::Greater));
    }

    #[test]
    fn a_text_compares_with_a_number_as_the_number_that_it_is() {
        let utc = &Zone::utc();
        assert!(Value::Int(1).equals(&Value::text("1.0"), utc));
        assert_eq!(Value::text("20").compare(&Value::Int(10), utc), Some(Ordering::Greater));
        assert_eq!(Value::text("20").compare(&Value::text("100"), utc), Some(Ordering::Greater), "texts as texts");
        assert_eq!(Value::text("x").compare(&Value::Int(1), utc), None);
        assert!(!Value::text("007").equals(&Value::Int(7), utc));
    }

    #[test]
    fn texts_that_name_a_moment_compare_with_times() {
        let utc = &Zone::utc();
        let time = Value::Time("2026-11-21T00:00:00Z".parse().unwrap());
        assert!(Value::text("2026-11-21").equals(&time, utc));
        assert!(time.equals(&Value::text("2026-11-21T01:00:00+01:00"), utc));
        assert_eq!(Value::text("2026-11-20").compare(&time, utc), Some(Ordering::Less));
        assert_eq!(Value::text("tomorrow").compare(&time, utc), None);
        let week = Value::Duration(7 * 86_400_000);
        assert!(Value::text("2026-11-14").calculate(Arithmetic::Add, &week, utc).equals(&time, utc));
        assert!(time.calculate(Arithmetic::Subtract, &Value::text("2026-11-14"), utc).equals(&week, utc));
    }

    #[test]
    fn a_date_is_its_midnight_in_the_zone() {
        let berlin = &Zone::parse("Europe/Berlin").unwrap();
        let midnight = Value::Time("2026-11-20T23:00:00Z".parse().unwrap());
        assert!(Value::text("2026-11-21").equals(&midnight, berlin));
        assert!(Value::text("2026-11-21T00:00:00+01:00").equals(&midnight, berlin));
        assert_eq!(Value::text("2026-11-21").compare(&midnight, &Zone::utc()), Some(Ordering::Greater));
    }
}
