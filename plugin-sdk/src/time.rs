//! Reading times as sources write them: ISO 8601 and RFC 3339, the dates of mails and of HTTP, counts since 1970, and the slips of
//! known clients. What time it is now is `clock`'s; zones that need a database are left to the plugin.
//!
//! [`read`] takes all of it. The rules:
//!
//! - A time without a zone is UTC unless the plugin says another ([`Reading::at_offset`]).
//! - Of a second three digits are kept, what is finer is cut off. `:60` is the second after, `24:00` the day after.
//! - A number is a count since 1970 whose unit its size tells: seconds below 10^11, then milliseconds below 10^14, microseconds below
//!   10^17, nanoseconds below 10^20. Digits that are a date as `20261103` or `20261103100000` writes one are that date.
//! - Day and month are never guessed from their size: `03/11/2026` is no time here, since half of the world reads it the other way.

mod civil;
mod clock;
mod epoch;
mod iso;
mod words;
mod zone;

pub use civil::{clock_ms, days_from_civil};

use crate::Timestamp;

/// How a time was written.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Form {
    /// As RFC 3339 has it, so that the instant alone says all there was.
    Rfc3339,
    /// Another way of ISO 8601, or nearly so: `2026-W45-2`, `20261103T1000Z`, `2026-11-03 10:00 +0100`.
    Iso8601,
    /// With the name of a month: RFC 2822, HTTP, `asctime`, the dates that Java and JavaScript print.
    Words,
    /// A count since 1970.
    Epoch,
}

/// A time as it was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Reading {
    /// Date and clock as they were written, as milliseconds since 1970 as if they were UTC.
    pub local_ms: i64,
    /// How far the writer's clock was ahead of UTC, where the text says so.
    pub offset_ms: Option<i64>,
    /// How it was written.
    pub form: Form,
}

impl Reading {
    /// The moment; UTC where the text names no zone.
    pub fn time(&self) -> Timestamp {
        self.at_offset(0)
    }

    /// The moment, where a text without a zone is of a place that is ahead of UTC by `offset_ms`.
    pub fn at_offset(&self, offset_ms: i64) -> Timestamp {
        self.local_ms - self.offset_ms.unwrap_or(offset_ms)
    }
}

/// The longest text that can be a time, in bytes: JavaScript adds the name of the zone in the reader's language.
const MAX_BYTES: usize = 128;

/// Read a time as any known client writes it; see the module's rules. `None` for what is no time, and for days and times that do not
/// exist.
///
/// ```
/// use kith_plugin_sdk::time::read;
///
/// let ten = read("2026-11-03T10:00:00Z").unwrap().time();
/// for text in ["2026-11-03T10:00Z", "20261103T100000Z", "2026-W45-2T10:00Z", "2026-11-03 11:00:00 +0100",
///     "Tue, 03 Nov 2026 10:00:00 GMT", "Tue Nov  3 10:00:00 2026", "1793700000", "1793700000000",
///     "/Date(1793700000000)/", "2026-11-03T10:00:00.000:Z"] {
///     assert_eq!(read(text).map(|time| time.time()), Some(ten), "{text}");
/// }
/// assert_eq!(read("03/11/2026"), None);
/// ```
pub fn read(text: &str) -> Option<Reading> {
    let text = bare(text);
    if text.is_empty() || text.len() > MAX_BYTES {
        return None;
    }
    epoch::read(text).or_else(|| iso::read(text)).or_else(|| words::read(text))
}

/// What [`read`] reads, as a moment.
pub fn parse(text: &str) -> Option<Timestamp> {
    read(text).map(|reading| reading.time())
}

/// A text without what clients wrap times in: blanks, quotes of a value that was written as JSON twice, `/Date(…)/` of .NET, `@` of
/// the command `date`.
fn bare(text: &str) -> &str {
    let text = text.trim();
    let quoted = |quote: char| text.strip_prefix(quote).and_then(|rest| rest.strip_suffix(quote));
    let text = quoted('"').or_else(|| quoted('\'')).unwrap_or(text).trim();
    let text = text.trim_matches(|letter| letter == '/' || letter == '\\');
    let text = text.strip_prefix("new ").unwrap_or(text);
    match text.strip_prefix("Date(").and_then(|rest| rest.strip_suffix(')')) {
        // The count is UTC whatever offset follows it.
        Some(count) => match count.get(1..).and_then(|rest| rest.find(['+', '-'])) {
            Some(offset) => &count[..=offset],
            None => count,
        },
        None => text.strip_prefix('@').unwrap_or(text),
    }
}

/// Read a time after RFC 3339, as lenient as ISO 8601 is in the field: `2026-11-01T10:00:00.000Z`, `2026-11-01 10:00:00+01:00`,
/// any number of digits of a second, `,` for the point, an offset without a colon, none (which means UTC), or a date alone (midnight, UTC).
/// `None` for anything else, and for days and times that do not exist. [`read`] takes far more.
///
/// ```
/// use kith_plugin_sdk::time::parse_rfc3339;
///
/// assert_eq!(parse_rfc3339("1970-01-02T00:00:00.250+00:00"), Some(86_400_250));
/// assert_eq!(parse_rfc3339("2026-02-29"), None);
/// ```
pub fn parse_rfc3339(text: &str) -> Option<Timestamp> {
    let bytes = text.as_bytes();
    let (date, rest) = bytes.split_at_checked(10)?;
    if date[4] != b'-' || date[7] != b'-' {
        return None;
    }
    let day_ms = days_from_civil(number(&date[..4])?, number(&date[5..7])?, number(&date[8..10])?)? * civil::DAY_MS;
    let (separator, rest) = match rest.split_first() {
        None => return Some(day_ms),
        Some((separator, rest)) => (separator, rest),
    };
    if !matches!(separator, b'T' | b't' | b' ') {
        return None;
    }
    let (clock, rest) = rest.split_at_checked(8)?;
    if clock[2] != b':' || clock[5] != b':' {
        return None;
    }
    let clock_ms = clock_ms(number(&clock[..2])?, number(&clock[3..5])?, number(&clock[6..8])?)?;
    let (fraction_ms, rest) = fraction(rest)?;
    Some(day_ms + clock_ms + fraction_ms - offset_ms(rest)?)
}

/// Write a time after RFC 3339, in UTC and in whole seconds, what is finer cut off: `2026-11-01T10:00:00Z`. `None` for a year outside
/// of 0 to 9999.
///
/// ```
/// use kith_plugin_sdk::time::{parse_rfc3339, rfc3339};
///
/// assert_eq!(rfc3339(1_793_700_000_250).as_deref(), Some("2026-11-03T10:00:00Z"));
/// assert_eq!(parse_rfc3339(&rfc3339(-1).unwrap()), Some(-1_000));
/// ```
pub fn rfc3339(at: Timestamp) -> Option<String> {
    let (year, month, day) = civil::civil_from_days(at.div_euclid(civil::DAY_MS));
    let second = at.rem_euclid(civil::DAY_MS) / 1_000;
    let (hour, minute, second) = (second / 3_600, second / 60 % 60, second % 60);
    (0..=9999).contains(&year).then(|| format!("{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}Z"))
}

fn number(digits: &[u8]) -> Option<i64> {
    digits.iter().try_fold(0, |number, digit| digit.is_ascii_digit().then(|| number * 10 + i64::from(digit - b'0')))
}

/// The milliseconds of a fraction of a second, what is finer cut off, and what follows it.
fn fraction(rest: &[u8]) -> Option<(i64, &[u8])> {
    let Some((b'.' | b',', rest)) = rest.split_first() else {
        return Some((0, rest));
    };
    let digits = rest.iter().take_while(|byte| byte.is_ascii_digit()).count();
    if digits == 0 {
        return None;
    }
    let kept = digits.min(3);
    let scale = [100, 10, 1][kept - 1];
    Some((number(&rest[..kept])? * scale, &rest[digits..]))
}

fn offset_ms(rest: &[u8]) -> Option<i64> {
    let (sign, digits) = match rest {
        [] | [b'Z' | b'z'] => return Some(0),
        [b'+', digits @ ..] => (1, digits),
        [b'-', digits @ ..] => (-1, digits),
        _ => return None,
    };
    let (hours, minutes) = match digits {
        [h1, h2, b':', m1, m2] | [h1, h2, m1, m2] => (number(&[*h1, *h2])?, number(&[*m1, *m2])?),
        [h1, h2] => (number(&[*h1, *h2])?, 0),
        _ => return None,
    };
    (hours < 24 && minutes < 60).then_some(sign * (hours * 60 + minutes) * 60_000)
}

#[cfg(test)]
mod tests;
