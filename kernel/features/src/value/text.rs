//! Values as the language writes them, and times and durations as it reads them.

use std::fmt;

use kith_model::time::Timestamp;

use super::{Value, whole};

impl fmt::Display for Value {
    /// As the language writes it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let separator = |index: usize| if index == 0 { "" } else { ", " };
        match self {
            Value::Null => f.write_str("null"),
            Value::Unknown => f.write_str("unknown"),
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
            // Neither may stand in a text as it is.
            '\n' => f.write_str("\\n")?,
            '\r' => f.write_str("\\r")?,
            letter => f.write_char(letter)?,
        }
    }
    f.write_char('\'')
}

/// A length of time in milliseconds, written with the largest unit that divides it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Duration(pub i64);

impl Duration {
    /// Read `7d`, `36h`, `1h30m`, as expressions write them.
    pub fn parse(text: &str) -> Option<Duration> {
        parse_duration(text).map(Duration)
    }
}

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

/// The moment that a text names: RFC 3339, or a date, which is its midnight in UTC.
pub(super) fn parse_time(text: &str) -> Option<Timestamp> {
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

#[cfg(test)]
mod tests {
    use super::*;

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
}
