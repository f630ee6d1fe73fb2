//! Values as the language writes them, and times and durations as it reads them.

use std::fmt;

use kith_model::time::Timestamp;

use super::{Value, whole};
use crate::zone::Zone;

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

/// A week is written `7d`, and read as `1w` too.
const WEEK: (&str, i64) = ("w", 7 * 86_400_000);

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
        let (_, length) = UNITS.into_iter().chain([WEEK]).find(|(name, _)| *name == &unit[..letters])?;
        #[allow(clippy::cast_precision_loss, reason = "unit lengths are small")]
        let part = number * length as f64;
        total += part;
        rest = &unit[letters..];
    }
    whole(total.round()).map(|total| if negative { -total } else { total })
}

/// What a text names of time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    /// A moment, the same everywhere.
    At(Timestamp),
    /// A day of this number, which begins at its midnight in a zone.
    On(i32),
    /// What a zone's clocks show, in milliseconds as if they were UTC's.
    Clock(i64),
}

impl Moment {
    /// The moment itself, or the first one of the day.
    pub(crate) fn begin(self, zone: &Zone) -> Timestamp {
        match self {
            Moment::At(time) => time,
            Moment::On(day) => zone.start_of_day(day),
            Moment::Clock(local_ms) => zone.at_clock(local_ms),
        }
    }
}

/// What a text names of time: a moment in RFC 3339, a date, or a date and time without a zone.
pub(crate) fn parse_moment(text: &str) -> Option<Moment> {
    let bytes = text.as_bytes();
    // Most texts are no times; say so before a parser is asked.
    if bytes.len() < 10 || !bytes[..4].iter().all(u8::is_ascii_digit) || bytes[4] != b'-' {
        return None;
    }
    if bytes.len() > 10 {
        return text.parse().ok().map(Moment::At).or_else(|| parse_clock(text).map(Moment::Clock));
    }
    let date: jiff::civil::Date = text.parse().ok()?;
    let midnight = jiff::tz::TimeZone::UTC.to_timestamp(date.at(0, 0, 0, 0)).ok()?;
    Some(Moment::On(Zone::utc().day(Timestamp(midnight.as_millisecond()))))
}

/// What a clock shows, as databases and sheets write it: `2026-11-21T10:00`, `2026-11-21 10:00:00.5`.
fn parse_clock(text: &str) -> Option<i64> {
    let bytes = text.as_bytes();
    // The parser would take an offset that does not exist for none.
    let is_clock = |byte: &u8| byte.is_ascii_digit() || matches!(byte, b':' | b'.');
    if bytes.len() < 16 || !matches!(bytes[10], b'T' | b' ') || !bytes[11..].iter().all(is_clock) {
        return None;
    }
    let shown: jiff::civil::DateTime = text.parse().ok()?;
    jiff::tz::TimeZone::UTC.to_timestamp(shown).ok().map(|moment| moment.as_millisecond())
}

/// The number that a text is, written exactly as JSON writes numbers: `19.90`, `-3`, `2e5`; not `007`, `+1`, `1,5` or ` 7`.
pub(crate) fn parse_number(text: &str) -> Option<Value> {
    let bytes = text.as_bytes();
    let digits_from = |at: usize| at + bytes[at..].iter().take_while(|byte| byte.is_ascii_digit()).count();
    let first = usize::from(bytes.first() == Some(&b'-'));
    let mut end = digits_from(first);
    // No digit, or more behind a zero: articles and postcodes are written so.
    if end == first || (bytes[first] == b'0' && end > first + 1) {
        return None;
    }
    let is_whole = end == bytes.len();
    if bytes.get(end) == Some(&b'.') {
        let fraction = digits_from(end + 1);
        if fraction == end + 1 {
            return None;
        }
        end = fraction;
    }
    if matches!(bytes.get(end), Some(b'e' | b'E')) {
        let sign = usize::from(matches!(bytes.get(end + 1), Some(b'+' | b'-')));
        let exponent = (end + 1 + sign).min(bytes.len());
        end = digits_from(exponent);
        if end == exponent {
            return None;
        }
    }
    if end != bytes.len() {
        return None;
    }
    if is_whole && let Ok(number) = text.parse() {
        return Some(Value::Int(number));
    }
    let number = text.parse().ok().map(Value::float)?;
    (!number.is_null()).then_some(number)
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
        assert_eq!(parse_duration("2w"), Some(14 * 86_400_000));
        for text in ["", "-", "7", "d", "7 d", "7y", "1.2.3h"] {
            assert_eq!(parse_duration(text), None, "{text}");
        }
    }

    #[test]
    fn texts_are_numbers_exactly_where_json_writes_them_so() {
        for (text, number) in [
            ("0", Value::Int(0)),
            ("-0", Value::Int(0)),
            ("19.90", Value::Float(19.9)),
            ("-3", Value::Int(-3)),
            ("2e5", Value::Float(200_000.0)),
            ("1.5E-3", Value::Float(0.0015)),
            ("9223372036854775807", Value::Int(i64::MAX)),
            ("9223372036854775808", Value::Float(9_223_372_036_854_775_808.0)),
            ("0.0", Value::Float(0.0)),
        ] {
            assert_eq!(parse_number(text), Some(number), "{text}");
        }
        for text in [
            "",
            "-",
            "+1",
            "007",
            "00",
            "-01",
            ".5",
            "5.",
            "1e",
            "1e+",
            "e5",
            "1,5",
            "1 000",
            " 7",
            "7 ",
            "0x10",
            "NaN",
            "inf",
            "Infinity",
            "1e999",
            "1.2.3",
            "٣",
            "--1",
            "1_000",
            "2026-11-21",
        ] {
            assert_eq!(parse_number(text), None, "{text}");
        }
    }
}
