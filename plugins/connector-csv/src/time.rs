//! The time column: formats as the configuration writes them, tried in order, and what a time means that reads in two ways.
//!
//! `free` reads times without a pattern, `pattern` with one in the style of `strptime`, `count` numbers of seconds or days; `zone`
//! (beside this) makes a moment of what a clock shows.

mod count;
mod era;
mod free;
mod pattern;

use kith_plugin_sdk::time::{Form, parse_rfc3339};
use kith_plugin_sdk::{Failure, Timestamp};

use self::free::{Free, Need};
use self::pattern::Item;
use crate::zone::{Local, Zone};

/// How a time is written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum TimeFormat {
    /// Every way that `free` knows.
    Auto,
    Rfc3339,
    /// A date with a month's name, as in headers of mails.
    Rfc2822,
    /// Seconds since 1970, or finer units where the number is too large for seconds.
    Unix,
    UnixMilliseconds,
    /// Days as Excel counts them: from 1900, whose 29 February there never was.
    Excel,
    /// Days as Excel for the Macintosh counted them.
    Excel1904,
    Pattern(Vec<Item>),
}

/// Which of two numbers before a year is the day.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DateOrder {
    DayFirst,
    MonthFirst,
}

/// What is known of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Nothing but what other values of the column show.
    Auto(Option<DateOrder>),
    /// The configuration says it.
    Set(DateOrder),
}

/// A time that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) at: Timestamp,
    /// The order that the text shows by itself.
    pub(crate) order: Option<DateOrder>,
}

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeError {
    /// It has none of the formats.
    NotATime,
    /// It is one day with the day first and another with the month first.
    Ambiguous { day_first: Timestamp, month_first: Timestamp },
}

impl TimeFormat {
    /// Read a format's name, or a pattern such as `%Y-%m-%d %H:%M:%S`.
    pub(crate) fn parse(text: &str) -> Result<TimeFormat, Failure> {
        Ok(match text {
            "auto" => TimeFormat::Auto,
            "rfc3339" => TimeFormat::Rfc3339,
            "rfc2822" => TimeFormat::Rfc2822,
            "unix" => TimeFormat::Unix,
            "unix_ms" => TimeFormat::UnixMilliseconds,
            "excel" => TimeFormat::Excel,
            "excel1904" => TimeFormat::Excel1904,
            pattern => TimeFormat::Pattern(pattern::parse(pattern)?),
        })
    }

    fn read(&self, text: &str, zone: &Zone, order: Order) -> Result<Time, TimeError> {
        let plain = |at: Option<Timestamp>| at.map(|at| Time { at, order: None }).ok_or(TimeError::NotATime);
        match self {
            TimeFormat::Auto => {
                if let Some(at) = rfc3339(text, zone).or_else(|| iso8601(text, zone)) {
                    return Ok(Time { at, order: None });
                }
                decide(free::read(&era::years(text), Need::Anything), zone, order)
            }
            TimeFormat::Rfc3339 => plain(rfc3339(text, zone)),
            TimeFormat::Rfc2822 => decide(free::read(text, Need::MonthName), zone, order),
            TimeFormat::Unix => plain(count::unix(text)),
            TimeFormat::UnixMilliseconds => plain(count::unix_ms(text)),
            TimeFormat::Excel => plain(count::excel(text).and_then(|local| zone.moment(local))),
            TimeFormat::Excel1904 => plain(count::excel_1904(text).and_then(|local| zone.moment(local))),
            TimeFormat::Pattern(items) => plain(pattern::read(items, text, zone)),
        }
    }
}

/// Read a time by the first of `formats` that fits. `order` is the column's, where it is known.
pub(crate) fn read(text: &str, formats: &[TimeFormat], zone: &Zone, order: Order) -> Result<Time, TimeError> {
    let plain = plain(text);
    let mut error = TimeError::NotATime;
    for format in formats {
        match format.read(plain.trim(), zone, order) {
            Ok(time) => return Ok(time),
            Err(TimeError::NotATime) => {}
            Err(ambiguous) => error = ambiguous,
        }
    }
    Err(error)
}

/// The same with ASCII's digits and plain spaces; marks of direction left out.
fn plain(text: &str) -> std::borrow::Cow<'_, str> {
    if text.is_ascii() {
        return text.into();
    }
    let mapped = text.chars().filter_map(|letter| match letter {
        '\u{200e}' | '\u{200f}' | '\u{61c}' | '\u{202a}'..='\u{202e}' | '\u{2066}'..='\u{2069}' | '\u{feff}' => None,
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' => Some(' '),
        '−' | '‐' | '‑' | '–' | '－' => Some('-'),
        '：' => Some(':'),
        '／' => Some('/'),
        '．' => Some('.'),
        letter => Some(crate::number::digit(letter).unwrap_or(letter)),
    });
    mapped.collect::<String>().into()
}

/// RFC 3339 as lenient as the SDK reads it; a time that names no offset is one of `zone`.
fn rfc3339(text: &str, zone: &Zone) -> Option<Timestamp> {
    let at = parse_rfc3339(text)?;
    if matches!(zone, Zone::Offset(0)) {
        return Some(at);
    }
    // A time without an offset is one that could still take a `Z`, or a date alone.
    let names_no_offset = text.len() == 10 || parse_rfc3339(&format!("{text}Z")).is_some();
    if names_no_offset { zone.moment(Local::from_utc(at)?) } else { Some(at) }
}

/// The rest of ISO 8601, and what clients make of it. Counts and words are `free`'s, which knows those of spreadsheets and of other
/// languages.
fn iso8601(text: &str, zone: &Zone) -> Option<Timestamp> {
    // `2026` alone is a year to ISO 8601, and in a column of times more often something else.
    if text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let reading =
        kith_plugin_sdk::time::read(text).filter(|reading| matches!(reading.form, Form::Rfc3339 | Form::Iso8601))?;
    match reading.offset_ms {
        Some(_) => Some(reading.time()),
        None => zone.moment(Local::from_utc(reading.local_ms)?),
    }
}

fn decide(free: Option<Free>, zone: &Zone, order: Order) -> Result<Time, TimeError> {
    let Some(Free { day_first, month_first, zone: own, is_named }) = free else { return Err(TimeError::NotATime) };
    let moment = |local: Local| own.as_ref().unwrap_or(zone).moment(local);
    let (mut day_first, mut month_first) = (day_first.and_then(moment), month_first.and_then(moment));
    let known = match order {
        Order::Auto(known) => known,
        Order::Set(set) => {
            let other = if set == DateOrder::DayFirst { &mut month_first } else { &mut day_first };
            // A date with a name or the year first has one order, whatever is set.
            *other = other.filter(|_| is_named);
            Some(set)
        }
    };
    // Only a date of three numbers shows an order.
    let shows = |order: DateOrder| if is_named { None } else { Some(order) };
    match (day_first, month_first, known) {
        (Some(at), Some(other), _) if at == other => Ok(Time { at, order: None }),
        (Some(at), Some(_), Some(DateOrder::DayFirst)) | (Some(_), Some(at), Some(DateOrder::MonthFirst)) => {
            Ok(Time { at, order: None })
        }
        (Some(day_first), Some(month_first), None) => Err(TimeError::Ambiguous { day_first, month_first }),
        (Some(at), None, _) => Ok(Time { at, order: shows(DateOrder::DayFirst) }),
        (None, Some(at), _) => Ok(Time { at, order: shows(DateOrder::MonthFirst) }),
        (None, None, _) => Err(TimeError::NotATime),
    }
}

#[cfg(test)]
mod tests;
