//! The time column: formats as the configuration writes them, tried in order, and what a time means that reads in two ways.
//!
//! `free` reads times without a pattern, `pattern` with one in the style of `strptime`, `count` numbers of seconds or days; `zone`
//! (beside this) makes a moment of what a clock shows.

mod count;
mod era;
mod free;
mod pattern;
mod reason;

use kith_plugin_sdk::time::{Form, parse_rfc3339};
use kith_plugin_sdk::{Failure, Timestamp};

use self::free::{Clarity, Free, Need};
use self::pattern::Item;
pub(crate) use self::reason::reason;
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

/// Which of three numbers stands first. The year, where it has two digits; one of four digits shows itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum DateOrder {
    Day,
    Month,
    Year,
}

impl DateOrder {
    pub(crate) const ALL: [DateOrder; 3] = [DateOrder::Day, DateOrder::Month, DateOrder::Year];

    /// What the configuration calls it.
    pub(crate) fn name(self) -> &'static str {
        match self {
            DateOrder::Day => "day-first",
            DateOrder::Month => "month-first",
            DateOrder::Year => "year-first",
        }
    }

    /// How a message says it.
    pub(crate) fn words(self) -> &'static str {
        match self {
            DateOrder::Day => "day first",
            DateOrder::Month => "month first",
            DateOrder::Year => "year first",
        }
    }
}

/// Some of the three orders.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Orders(pub(crate) [bool; 3]);

impl Orders {
    pub(crate) const ALL: Orders = Orders([true; 3]);

    pub(crate) fn has(self, order: DateOrder) -> bool {
        self.0[order as usize]
    }

    pub(crate) fn iter(self) -> impl Iterator<Item = DateOrder> {
        DateOrder::ALL.into_iter().filter(move |order| self.has(*order))
    }

    /// The one that there is.
    pub(crate) fn only(self) -> Option<DateOrder> {
        let mut orders = self.iter();
        orders.next().filter(|_| orders.next().is_none())
    }
}

/// What is known of the order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Order {
    /// Those that all values of the column so far could have; none where they contradict one another.
    Auto(Orders),
    /// The configuration says it.
    Set(DateOrder),
}

/// A time that was read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Time {
    pub(crate) at: Timestamp,
    /// The orders in which the text is a date; all where its own is clear, since it shows none of others then.
    pub(crate) orders: Orders,
    /// The day was taken to stand first because of points, and nothing else says so.
    pub(crate) is_assumed: bool,
}

/// The moments that a text is with the day, the month and the year first.
pub(crate) type Moments = [Option<Timestamp>; 3];

/// Why a text is no time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TimeError {
    /// It has none of the formats.
    NotATime,
    /// It is written like a date, of a day that there is not.
    NoSuchDay,
    /// It is a date in these orders, and the configuration says another.
    OtherOrder(Orders),
    /// It is another day in each of several orders.
    Ambiguous(Moments),
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
        let plain = |at: Option<Timestamp>| at.map(clear).ok_or(TimeError::NotATime);
        match self {
            TimeFormat::Auto => {
                if let Some(at) = rfc3339(text, zone).or_else(|| iso8601(text, zone)) {
                    return Ok(clear(at));
                }
                match decide(free::read(&era::years(text), Need::Anything), zone, order) {
                    Err(TimeError::NotATime) => wrapped(text, zone, order),
                    read => read,
                }
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
            Err(other) => error = other,
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
    if text.trim_matches(['"', '\'', '@', '/']).bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let reading =
        kith_plugin_sdk::time::read(text).filter(|reading| matches!(reading.form, Form::Rfc3339 | Form::Iso8601))?;
    match reading.offset_ms {
        Some(_) => Some(reading.time()),
        None => zone.moment(Local::from_utc(reading.local_ms)?),
    }
}

/// A time whose order is clear.
fn clear(at: Timestamp) -> Time {
    Time { at, orders: Orders::ALL, is_assumed: false }
}

/// What clients and databases wrap times in: `/Date(1790000000000)/`, `{"$date": …}`, quotes, `@` before a count, `:Z`.
fn wrapped(text: &str, zone: &Zone, order: Order) -> Result<Time, TimeError> {
    if text.starts_with('{') {
        let object = serde_json::from_str(text).map_err(|_| TimeError::NotATime)?;
        let inner = crate::json::dated(&object).filter(|inner| !inner.starts_with('{')).ok_or(TimeError::NotATime)?;
        return TimeFormat::Auto.read(inner.trim(), zone, order);
    }
    let bare = text.trim_matches(['"', '\'']).trim();
    if bare.len() < text.len() {
        return TimeFormat::Auto.read(bare, zone, order);
    }
    // Digits alone were looked at: few of them are a year, a row's number, anything.
    let has_more = bare.bytes().any(|byte| !matches!(byte, b'0'..=b'9' | b'.' | b',' | b'+' | b'-'));
    let reading = has_more.then(|| kith_plugin_sdk::time::read(bare)).flatten().ok_or(TimeError::NotATime)?;
    let at = match reading.offset_ms {
        Some(_) => Some(reading.time()),
        None => Local::from_utc(reading.local_ms).and_then(|local| zone.moment(local)),
    };
    let at = at.filter(|at| Local::from_utc(*at).is_some());
    // Of a small number with an exponent, `1e3`, the same is true as of digits.
    let is_count = reading.form != Form::Epoch || bare.contains(['(', '@']);
    at.filter(|_| is_count).map(clear).ok_or(TimeError::NotATime)
}

fn decide(free: Option<Free>, zone: &Zone, order: Order) -> Result<Time, TimeError> {
    let Some(Free { readings, zone: own, clarity }) = free else { return Err(TimeError::NotATime) };
    let moments: Moments = readings.map(|local| own.as_ref().unwrap_or(zone).moment(local?));
    let orders = Orders(moments.map(|moment| moment.is_some()));
    let at = |order: DateOrder| moments[order as usize];
    let found = |at, is_assumed| Time { at, orders, is_assumed };
    let Some(first) = orders.iter().find_map(at) else { return Err(TimeError::NoSuchDay) };
    if clarity == Clarity::Sure {
        return Ok(clear(first));
    }
    let known = match order {
        Order::Auto(known) => known,
        // Points say that the month is not first.
        Order::Set(DateOrder::Month) if clarity == Clarity::Points => {
            return at(DateOrder::Day).map(clear).ok_or(TimeError::OtherOrder(orders));
        }
        Order::Set(set) => return at(set).map(clear).ok_or(TimeError::OtherOrder(orders)),
    };
    let is_one = |orders: Orders| {
        let mut moments = orders.iter().filter_map(at);
        moments.next().filter(|first| moments.all(|moment| moment == *first))
    };
    if let Some(at) = is_one(orders) {
        return Ok(found(at, false));
    }
    let kept = Orders(DateOrder::ALL.map(|order| orders.has(order) && known.has(order)));
    match (is_one(kept), clarity) {
        (Some(at), _) => Ok(found(at, false)),
        // What points show is no evidence for other values.
        (None, Clarity::Points) => Ok(Time { at: first, orders: Orders::ALL, is_assumed: true }),
        (None, _) => Err(TimeError::Ambiguous(moments)),
    }
}

#[cfg(test)]
mod tests;
