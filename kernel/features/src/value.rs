//! Values of the expression language: how they compare, calculate and convert.
//!
//! Nothing here fails: an operation without a meaning gives [`Value::Null`]. The table of null's meaning is in the
//! crate's front page.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use kith_model::table::{Cell, ColumnType};
use kith_model::time::Timestamp;
use serde::de::{MapAccess, SeqAccess, Visitor};
use serde::{Deserialize, Serialize};

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
    List(Vec<Value>),
    Map(BTreeMap<String, Value>),
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

    /// The operator that holds exactly where this one is false (neither holds where the operands do not compare).
    pub(crate) fn negated(self) -> Comparison {
        match self {
            Comparison::Equal => Comparison::NotEqual,
            Comparison::NotEqual => Comparison::Equal,
            Comparison::Less => Comparison::GreaterOrEqual,
            Comparison::LessOrEqual => Comparison::Greater,
            Comparison::Greater => Comparison::LessOrEqual,
            Comparison::GreaterOrEqual => Comparison::Less,
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

    /// Whether a condition with this value holds: only `true` does; null and all that is no boolean does not.
    pub fn is_true(&self) -> bool {
        matches!(self, Value::Bool(true))
    }

    /// The truth value of an operand of `&&`, `||` and `!`: null for all that is no boolean.
    pub fn truth(&self) -> Option<bool> {
        match self {
            Value::Bool(truth) => Some(*truth),
            _ => None,
        }
    }

    /// The moment that it names: a time, or a text in RFC 3339 or of the form `2026-11-21` (midnight UTC).
    pub fn as_time(&self) -> Option<Timestamp> {
        match self {
            Value::Time(time) => Some(*time),
            Value::Text(text) => parse_time(text),
            _ => None,
        }
    }

    /// The language's equality: numbers of both kinds compare, a text equals the time it names, null equals null only.
    pub fn equals(&self, other: &Value) -> bool {
        match (self, other) {
            (Value::Null, Value::Null) => true,
            (Value::Bool(a), Value::Bool(b)) => a == b,
            (Value::List(a), Value::List(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| a.equals(b)),
            (Value::Map(a), Value::Map(b)) => {
                a.len() == b.len() && a.iter().zip(b).all(|((ka, va), (kb, vb))| ka == kb && va.equals(vb))
            }
            _ => self.compare(other).is_some_and(Ordering::is_eq),
        }
    }

    /// The language's order: between numbers, texts (by code point), times and durations; `None` where there is none.
    pub fn compare(&self, other: &Value) -> Option<Ordering> {
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => Some(a.cmp(b)),
            (Value::Float(a), Value::Float(b)) => a.partial_cmp(b),
            (Value::Int(a), Value::Float(b)) => Some(compare_exactly(*a, *b)),
            (Value::Float(a), Value::Int(b)) => Some(compare_exactly(*b, *a).reverse()),
            (Value::Text(a), Value::Text(b)) => Some(a.cmp(b)),
            (Value::Duration(a), Value::Duration(b)) => Some(a.cmp(b)),
            (Value::Time(_), _) | (_, Value::Time(_)) => Some(self.as_time()?.cmp(&other.as_time()?)),
            _ => None,
        }
    }

    pub(crate) fn compared(&self, comparison: Comparison, other: &Value) -> Value {
        match comparison {
            Comparison::Equal => Value::Bool(self.equals(other)),
            Comparison::NotEqual => Value::Bool(!self.equals(other)),
            _ => self.compare(other).map_or(Value::Null, |ordering| Value::Bool(comparison.holds(ordering))),
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
            _ if rank(self) == rank(other) => self.compare(other).unwrap_or(Ordering::Equal),
            _ => rank(self).cmp(&rank(other)),
        }
    }

    pub(crate) fn calculate(&self, operator: Arithmetic, other: &Value) -> Value {
        match (self, other) {
            (Value::Int(a), Value::Int(b)) => calculate_whole(*a, operator, *b),
            (Value::Int(_) | Value::Float(_), Value::Int(_) | Value::Float(_)) => {
                calculate_float(self.as_float(), operator, other.as_float())
            }
            (Value::Text(a), Value::Text(b)) if operator == Arithmetic::Add => Value::text(format!("{a}{b}")),
            (Value::List(a), Value::List(b)) if operator == Arithmetic::Add => {
                Value::List(a.iter().chain(b).cloned().collect())
            }
            _ => self.calculate_time(operator, other).unwrap_or_default(),
        }
    }

    fn calculate_time(&self, operator: Arithmetic, other: &Value) -> Option<Value> {
        match (self, operator, other) {
            (Value::Duration(a), Arithmetic::Add, Value::Duration(b)) => a.checked_add(*b).map(Value::Duration),
            (Value::Duration(a), Arithmetic::Subtract, Value::Duration(b)) => a.checked_sub(*b).map(Value::Duration),
            (Value::Duration(a), Arithmetic::Divide, Value::Duration(b)) => Some(Value::float(*a as f64 / *b as f64)),
            (Value::Duration(by), Arithmetic::Add, time) | (time, Arithmetic::Add, Value::Duration(by)) => {
                time.as_time()?.0.checked_add(*by).map(|time| Value::Time(Timestamp(time)))
            }
            (time, Arithmetic::Subtract, Value::Duration(by)) => {
                time.as_time()?.0.checked_sub(*by).map(|time| Value::Time(Timestamp(time)))
            }
            (Value::Time(_), Arithmetic::Subtract, _) | (_, Arithmetic::Subtract, Value::Time(_)) => {
                self.as_time()?.0.checked_sub(other.as_time()?.0).map(Value::Duration)
            }
            _ => None,
        }
    }

    pub(crate) fn negated(&self) -> Value {
        match self {
            Value::Int(number) => number.checked_neg().map_or(Value::Null, Value::Int),
            Value::Float(number) => Value::float(-number),
            Value::Duration(length) => length.checked_neg().map_or(Value::Null, Value::Duration),
            _ => Value::Null,
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

    /// As a float: numbers, and texts that are a number; else null.
    pub(crate) fn to_double(&self) -> Value {
        match self {
            Value::Int(_) | Value::Float(_) => Value::float(self.as_float()),
            Value::Text(text) => text.trim().parse().map_or(Value::Null, Value::float),
            _ => Value::Null,
        }
    }

    /// As a whole number: floats are cut towards zero, texts must be a number, times and durations are milliseconds.
    pub(crate) fn to_int(&self) -> Value {
        match self {
            Value::Int(number) | Value::Duration(number) | Value::Time(Timestamp(number)) => Value::Int(*number),
            Value::Float(number) => whole(number.trunc()).map_or(Value::Null, Value::Int),
            Value::Text(text) => match text.trim().parse() {
                Ok(number) => Value::Int(number),
                Err(_) => self.to_double().to_int_from_float(),
            },
            Value::Bool(truth) => Value::Int(i64::from(*truth)),
            _ => Value::Null,
        }
    }

    fn to_int_from_float(&self) -> Value {
        match self {
            Value::Float(number) => whole(number.trunc()).map_or(Value::Null, Value::Int),
            _ => Value::Null,
        }
    }

    /// As text: scalars as they are written in JSON, times in RFC 3339; else null.
    pub(crate) fn to_text(&self) -> Value {
        match self {
            Value::Text(_) => self.clone(),
            Value::Bool(truth) => Value::text(truth.to_string()),
            Value::Int(number) => Value::text(number.to_string()),
            Value::Float(number) => Value::text(number.to_string()),
            Value::Time(time) => Value::text(time.to_string()),
            _ => Value::Null,
        }
    }

    /// From JSON. Whole numbers within 64 bits stay whole; times stay texts.
    pub fn from_json(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(truth) => Value::Bool(*truth),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(whole) => Value::Int(whole),
                None => number.as_f64().map_or(Value::Null, Value::float),
            },
            serde_json::Value::String(text) => Value::text(text.as_str()),
            serde_json::Value::Array(items) => Value::List(items.iter().map(Value::from_json).collect()),
            serde_json::Value::Object(fields) => {
                Value::Map(fields.iter().map(|(name, value)| (name.clone(), Value::from_json(value))).collect())
            }
        }
    }

    /// From JSON text, without a tree in between; null where it is no JSON.
    pub fn from_json_text(json: &str) -> Value {
        serde_json::from_str(json).map_or(Value::Null, |FromJson(value)| value)
    }

    /// As JSON: times in RFC 3339, durations in milliseconds.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null => serde_json::Value::Null,
            Value::Bool(truth) => (*truth).into(),
            Value::Int(number) | Value::Duration(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.as_ref().into(),
            Value::Time(time) => time.to_string().into(),
            Value::List(items) => items.iter().map(Value::to_json).collect(),
            Value::Map(fields) => {
                serde_json::Value::Object(fields.iter().map(|(name, value)| (name.clone(), value.to_json())).collect())
            }
        }
    }

    /// As a cell of a column. What does not fit the column's type is null; of a list's items those that do not fit are
    /// left out. Scalars fit a text column as text, texts that name a moment fit a timestamp column, whole floats fit a
    /// column of whole numbers, durations fit as milliseconds.
    pub fn to_cell(&self, column_type: ColumnType) -> Cell {
        match column_type {
            ColumnType::Boolean => self.truth().map_or(Cell::Null, Cell::Boolean),
            ColumnType::Int64 => self.exact_int().map_or(Cell::Null, Cell::Int64),
            ColumnType::Float64 => self.number().map_or(Cell::Null, Cell::Float64),
            ColumnType::Timestamp => self.as_time().map_or(Cell::Null, |time| Cell::Timestamp(time.0)),
            ColumnType::Text => self.owned_text().map_or(Cell::Null, Cell::Text),
            ColumnType::Int64List => self.items(Value::exact_int).map_or(Cell::Null, Cell::Int64List),
            ColumnType::Float64List => self.items(Value::number).map_or(Cell::Null, Cell::Float64List),
            ColumnType::TimestampList => {
                self.items(|item| item.as_time().map(|time| time.0)).map_or(Cell::Null, Cell::TimestampList)
            }
            ColumnType::TextList => self.items(Value::owned_text).map_or(Cell::Null, Cell::TextList),
        }
    }

    fn items<T>(&self, convert: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
        match self {
            Value::List(items) => Some(items.iter().filter_map(convert).collect()),
            _ => None,
        }
    }

    fn exact_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) | Value::Duration(number) => Some(*number),
            Value::Float(number) if number.fract() == 0.0 => whole(*number),
            _ => None,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "the column was declared as float")]
    fn number(&self) -> Option<f64> {
        match self {
            Value::Int(_) | Value::Float(_) => Some(self.as_float()),
            Value::Duration(length) => Some(*length as f64),
            _ => None,
        }
    }

    fn owned_text(&self) -> Option<String> {
        match self.to_text() {
            Value::Text(text) => Some(text.as_ref().to_owned()),
            _ => None,
        }
    }
}

impl fmt::Display for Value {
    /// As the language writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = |index: usize| if index == 0 { "" } else { ", " };
        match self {
            Value::Null => f.write_str("null"),
            Value::Bool(truth) => truth.fmt(f),
            Value::Int(number) => number.fmt(f),
            Value::Float(number) => write!(f, "{number:?}"),
            Value::Text(text) => write_quoted(f, text),
            Value::Time(time) => write!(f, "timestamp('{time}')"),
            Value::Duration(length) => write!(f, "duration('{}')", Duration(*length)),
            Value::List(items) => {
                f.write_str("[")?;
                items.iter().enumerate().try_for_each(|(index, item)| write!(f, "{}{item}", separator(index)))?;
                f.write_str("]")
            }
            Value::Map(fields) => {
                f.write_str("{")?;
                for (index, (name, value)) in fields.iter().enumerate() {
                    f.write_str(separator(index))?;
                    write_quoted(f, name)?;
                    write!(f, ": {value}")?;
                }
                f.write_str("}")
            }
        }
    }
}

pub(crate) fn write_quoted(f: &mut impl fmt::Write, text: &str) -> fmt::Result {
    f.write_char('\'')?;
    for letter in text.chars() {
        match letter {
            '\'' => f.write_str("\\'")?,
            '\\' => f.write_str("\\\\")?,
            '\n' => f.write_str("\\n")?,
            letter => f.write_char(letter)?,
        }
    }
    f.write_char('\'')
}

/// A length of time in milliseconds, written with the largest unit that divides it.
pub(crate) struct Duration(pub(crate) i64);

/// The units of durations, largest first, with their milliseconds.
const UNITS: [(&str, i64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

impl fmt::Display for Duration {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let unit = UNITS.into_iter().find(|(_, length)| self.0 != 0 && self.0 % length == 0);
        let (name, length) = unit.unwrap_or(("ms", 1));
        write!(f, "{}{name}", self.0 / length)
    }
}

/// Milliseconds of `7d`, `36h`, `1h30m`, `-5s`, `1.5h`.
pub(crate) fn parse_duration(text: &str) -> Option<i64> {
    let (negative, mut rest) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    let mut total = 0.0;
    if rest.is_empty() {
        return None;
    }
    while !rest.is_empty() {
        let digits = rest.find(|letter: char| !letter.is_ascii_digit() && letter != '.')?;
        let number: f64 = rest[..digits].parse().ok()?;
        let unit = &rest[digits..];
        let letters = unit.find(|letter: char| !letter.is_ascii_alphabetic()).unwrap_or(unit.len());
        let (_, length) = UNITS.into_iter().find(|(name, _)| *name == &unit[..letters])?;
        #[allow(clippy::cast_precision_loss, reason = "unit lengths are small")]
        let part = number * length as f64;
        total += part;
        rest = &unit[letters..];
    }
    whole(total.round()).map(|total| if negative { -total } else { total })
}

fn parse_time(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    // Most texts are no times; say so before a parser is asked.
    if bytes.len() < 10 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return None;
    }
    if bytes.len() > 10 {
        return text.parse().ok();
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    let midnight = jiff::tz::TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
    Some(Timestamp(midnight.as_millisecond()))
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

/// A value read from JSON text.
pub(crate) struct FromJson(pub(crate) Value);

impl<'de> Deserialize<'de> for FromJson {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<FromJson, D::Error> {
        deserializer.deserialize_any(FromJsonVisitor).map(FromJson)
    }
}

struct FromJsonVisitor;

impl<'de> Visitor<'de> for FromJsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    #[allow(clippy::cast_precision_loss, reason = "what is beyond 63 bits becomes the nearest float")]
    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or_else(|_| Value::float(number as f64), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(FromJson(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, FromJson(value))) = fields.next_entry::<String, FromJson>()? {
            map.insert(name, value);
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_compare_exactly_whatever_their_kind() {
        let big = i64::MAX;
        assert!(Value::Int(1).equals(&Value::Float(1.0)));
        assert_eq!(Value::Int(big).compare(&Value::Float(9_223_372_036_854_775_808.0)), Some(Ordering::Less));
        assert_eq!(Value::Int((1 << 53) + 1).compare(&Value::Float(9_007_199_254_740_992.0)), Some(Ordering::Greater));
        assert_eq!(Value::Float(-1.5).compare(&Value::Int(-1)), Some(Ordering::Less));
        assert_eq!(Value::Int(-1).compare(&Value::Float(-1.5)), Some(Ordering::Greater));
        assert_eq!(Value::Int(1).compare(&Value::text("1")), None);
        assert!(!Value::Int(1).equals(&Value::text("1")));
    }

    #[test]
    fn texts_that_name_a_moment_compare_with_times() {
        let time = Value::Time("2026-11-21T00:00:00Z".parse().unwrap());
        assert!(Value::text("2026-11-21").equals(&time));
        assert!(time.equals(&Value::text("2026-11-21T01:00:00+01:00")));
        assert_eq!(Value::text("2026-11-20").compare(&time), Some(Ordering::Less));
        assert_eq!(Value::text("tomorrow").compare(&time), None);
        let week = Value::Duration(7 * 86_400_000);
        assert!(Value::text("2026-11-14").calculate(Arithmetic::Add, &week).equals(&time));
        assert!(time.calculate(Arithmetic::Subtract, &Value::text("2026-11-14")).equals(&week));
    }

    #[test]
    fn durations_read_and_print() {
        for (text, length, printed) in [
            ("7d", 604_800_000, "7d"),
            ("36h", 129_600_000, "36h"),
            ("1h30m", 5_400_000, "90m"),
            ("-5s", -5_000, "-5s"),
            ("1.5h", 5_400_000, "90m"),
            ("0s", 0, "0ms"),
        ] {
            assert_eq!(parse_duration(text), Some(length), "{text}");
            assert_eq!(Duration(length).to_string(), printed);
        }
        for text in ["", "-", "7", "d", "7 d", "7w", "1.2.3h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn json_reads_alike_from_text_and_tree() {
        let text = r#"{"a":[1,2.5,-0.0,1e400,null,true,"x"],"b":{"c":18446744073709551615}}"#;
        let text = text.replace("1e400", "1e300");
        let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(Value::from_json_text(&text), Value::from_json(&tree));
        assert_eq!(Value::from_json_text("{"), Value::Null);
        assert_eq!(Value::from_json_text("7"), Value::Int(7));
    }

    #[test]
    fn cells_take_what_fits() {
        let list = Value::List(vec![Value::Int(1), Value::Null, Value::Float(2.5)]);
        for (value, column_type, cell) in [
            (Value::Int(3), ColumnType::Float64, Cell::Float64(3.0)),
            (Value::Float(3.0), ColumnType::Int64, Cell::Int64(3)),
            (Value::Float(3.5), ColumnType::Int64, Cell::Null),
            (Value::Int(3), ColumnType::Text, Cell::Text("3".into())),
            (Value::text("1970-01-02"), ColumnType::Timestamp, Cell::Timestamp(86_400_000)),
            (Value::text("x"), ColumnType::Boolean, Cell::Null),
            (list.clone(), ColumnType::Float64List, Cell::Float64List(vec![1.0, 2.5])),
            (list.clone(), ColumnType::Int64List, Cell::Int64List(vec![1])),
            (list, ColumnType::TextList, Cell::TextList(vec!["1".into(), "2.5".into()])),
            (Value::Null, ColumnType::TextList, Cell::Null),
        ] {
            assert_eq!(value.to_cell(column_type), cell, "{value} as {column_type:?}");
        }
    }
}
