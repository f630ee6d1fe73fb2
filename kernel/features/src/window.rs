//! Windows over events: which stretch of time an aggregate looks at.
//!
//! | window | at `now` it holds |
//! | --- | --- |
//! | none | every event up to and including `now` |
//! | `'45s'`, `'90m'`, `'36h'`, `'720h'` | exactly `(now − window, now]` |
//! | `'30d rolling'`, `'2w rolling'` | the same: days of 24 hours |
//! | `'1d'`, `'30d'`, `'3w'` | the calendar day of `now` in the workspace's zone and those before it, so many in all, up to `now` |
//! | `'6mo'`, `'1y'` | from the day after the same date so many months ago, up to `now`: `'1mo'` on 26 November begins on 27 October |

use std::fmt;

use jiff::Span as Length;
use jiff::civil::Date;
use kith_model::time::{DAY_MS, Timestamp};

use crate::zone::Zone;

/// The longest window, ten years. Beyond it, day by day bookkeeping costs more than it tells.
pub const MAX_WINDOW_DAYS: i32 = 3_650;

/// The same in months.
const MAX_WINDOW_MONTHS: i32 = 120;

/// Which stretch of time an aggregate looks at.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Window {
    /// All time up to now.
    Always,
    /// This many milliseconds back from now.
    Exact(i64),
    /// This many calendar days, today included.
    Days(i32),
    /// The days since the same date this many months ago, which is not one of them.
    Months(i32),
}

impl fmt::Display for Window {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Window::Always => f.write_str("all time"),
            Window::Exact(length) => {
                // Days would be those of a calendar.
                let units = [(3_600_000, "h"), (60_000, "m"), (1_000, "s")];
                let unit = units.into_iter().find(|(unit, _)| length % unit == 0);
                let (unit, name) = unit.unwrap_or((1, "ms"));
                write!(f, "{}{name}", length / unit)
            }
            Window::Days(days) => write!(f, "{days}d"),
            Window::Months(months) if months % 12 == 0 => write!(f, "{}y", months / 12),
            Window::Months(months) => write!(f, "{months}mo"),
        }
    }
}

/// How a window may be written, for those who wrote it otherwise.
const SPELLINGS: &str = "write a number and `s`, `m`, `h` (to the second), `d`, `w`, `mo` or `y` (whole days of the \
                         calendar), e.g. '90d', or '30d rolling' for 30 times 24 hours";

impl Window {
    /// Read `90m`, `36h`, `30d`, `6mo` or `30d rolling`.
    ///
    /// # Errors
    /// What is wrong and what to write instead.
    pub(crate) fn parse(text: &str) -> Result<Window, String> {
        let malformed = || match respelled(text) {
            Some(spelling) => format!("`{text}` is not a window; write {spelling}"),
            None => format!("`{text}` is not a window; {SPELLINGS}"),
        };
        let too_long = || format!("a window of at most {MAX_WINDOW_DAYS}d; leave the window out for all time");
        let (length, is_rolling) = match text.strip_suffix(" rolling") {
            Some(length) => (length, true),
            None => (text, false),
        };
        let digits = length.find(|letter: char| !letter.is_ascii_digit()).ok_or_else(malformed)?;
        let (number, unit) = length.split_at(digits);
        if number.is_empty() || unit_length(unit).is_none() {
            return Err(malformed());
        }
        let number: i32 = number.parse().map_err(|_| too_long())?;
        if number == 0 {
            return Err("a window must be longer than nothing".into());
        }
        let milliseconds = unit_length(unit).and_then(|unit| i64::from(number).checked_mul(unit));
        if milliseconds.is_none_or(|length| length > i64::from(MAX_WINDOW_DAYS + 10) * DAY_MS) {
            return Err(too_long());
        }
        let window = match (unit, is_rolling) {
            ("mo" | "y", true) => {
                let days = i64::from(number) * if unit == "y" { 365 } else { 30 };
                return Err(format!(
                    "months and years have no length to the second; write '{length}' without `rolling`, or '{days}d rolling'"
                ));
            }
            ("mo", false) => Window::Months(number),
            ("y", false) => Window::Months(number.saturating_mul(12)),
            ("d", false) => Window::Days(number),
            ("w", false) => Window::Days(number.saturating_mul(7)),
            _ => Window::Exact(milliseconds.unwrap_or_default()),
        };
        let is_too_long = match window {
            Window::Always => false,
            Window::Exact(length) => length > i64::from(MAX_WINDOW_DAYS) * DAY_MS,
            Window::Days(days) => days > MAX_WINDOW_DAYS,
            Window::Months(months) => months > MAX_WINDOW_MONTHS,
        };
        if is_too_long { Err(too_long()) } else { Ok(window) }
    }

    /// Whether it is of calendar days, so that what it takes in is kept day by day.
    pub(crate) fn is_of_days(&self) -> bool {
        matches!(self, Window::Days(_) | Window::Months(_))
    }

    /// The first day that it holds at `now`; the least of all where it does not go by days.
    pub(crate) fn first_day(&self, now: Timestamp, zone: &Zone) -> i32 {
        match self {
            Window::Always | Window::Exact(_) => i32::MIN,
            Window::Days(days) => zone.day(now).saturating_sub(days - 1),
            Window::Months(months) => first_day_of_months(zone.day(now), *months),
        }
    }

    /// The first day on which it no longer holds a day.
    pub(crate) fn day_without(&self, day: i32) -> i32 {
        match self {
            Window::Always | Window::Exact(_) => i32::MAX,
            Window::Days(days) => day.saturating_add(*days),
            Window::Months(months) => {
                // Months differ by three days at most, and the first day never goes back.
                let about = moved(day, *months).saturating_sub(4);
                let later = (about..about.saturating_add(10)).find(|today| first_day_of_months(*today, *months) > day);
                later.unwrap_or_else(|| about.saturating_add(10))
            }
        }
    }

    /// Whether an event of this time is in the window at `now`.
    pub(crate) fn holds(&self, time: Timestamp, now: Timestamp, zone: &Zone) -> bool {
        time <= now
            && match self {
                Window::Always => true,
                Window::Exact(length) => time.0 > now.0.saturating_sub(*length),
                Window::Days(_) | Window::Months(_) => time >= zone.start_of_day(self.first_day(now, zone)),
            }
    }
}

/// The length of a unit in milliseconds; of months and years about.
fn unit_length(unit: &str) -> Option<i64> {
    Some(match unit {
        "s" => 1_000,
        "m" => 60_000,
        "h" => 3_600_000,
        "d" => DAY_MS,
        "w" => 7 * DAY_MS,
        "mo" => 30 * DAY_MS,
        "y" => 365 * DAY_MS,
        _ => return None,
    })
}

/// What somebody may have meant who wrote `last 30 days`, `30D` or `1 month`. A capital `M` is a month wherever minutes are
/// told from months by their letter.
fn respelled(text: &str) -> Option<String> {
    let lower = text.to_lowercase();
    let (text, is_rolling) = match lower.strip_suffix("rolling") {
        Some(rest) => (text.get(..rest.len())?, true),
        None => (text, false),
    };
    let digits: String = text.chars().filter(char::is_ascii_digit).collect();
    let letters: String = text.chars().filter(char::is_ascii_alphabetic).collect();
    let lower = letters.to_lowercase();
    let named = lower.trim_start_matches("last").trim_start_matches("past");
    let is_month = named == "m" && letters.ends_with('M');
    let unit = match named {
        "m" if is_month => "mo",
        "s" | "sec" | "secs" | "second" | "seconds" => "s",
        "m" | "min" | "mins" | "minute" | "minutes" => "m",
        "h" | "hr" | "hrs" | "hour" | "hours" => "h",
        "d" | "day" | "days" => "d",
        "w" | "wk" | "week" | "weeks" => "w",
        "mo" | "mon" | "month" | "months" => "mo",
        "y" | "yr" | "year" | "years" => "y",
        _ => return None,
    };
    let is_plain = text.chars().all(|letter| letter.is_ascii_alphanumeric() || letter == ' ' || letter == '_');
    if !is_plain || digits.is_empty() {
        return None;
    }
    // Of months and years there are none that go to the second.
    let days = digits.parse::<u64>().ok()?.checked_mul(if unit == "y" { 365 } else { 30 })?;
    let or_minutes = if is_month { format!(" for months; minutes are '{digits}m'") } else { String::new() };
    Some(match (unit, is_rolling) {
        ("mo" | "y", true) => {
            format!(
                "'{digits}{unit}' for months and years of the calendar, or '{days}d rolling' for so many days of 24 hours"
            )
        }
        (_, true) => format!("'{digits}{unit} rolling'"),
        (_, false) => format!("'{digits}{unit}'{or_minutes}"),
    })
}

/// The day after the date so many months before.
fn first_day_of_months(today: i32, months: i32) -> i32 {
    moved(today, -months).saturating_add(1)
}

/// The same date so many months later, or the last day of a month that is too short for it.
fn moved(day: i32, months: i32) -> i32 {
    let date = |day: i32| Zone::utc().date(Timestamp(i64::from(day) * DAY_MS));
    let moved = date(day).and_then(|date: Date| date.checked_add(Length::new().months(months)).ok());
    moved.map_or_else(|| day.saturating_add(months.saturating_mul(30)), Zone::day_of)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_read() {
        for (text, window, canonical) in [
            ("45s", Window::Exact(45_000), "45s"),
            ("90m", Window::Exact(90 * 60_000), "90m"),
            ("24h", Window::Exact(DAY_MS), "24h"),
            ("720h", Window::Exact(30 * DAY_MS), "720h"),
            ("30d rolling", Window::Exact(30 * DAY_MS), "720h"),
            ("2w rolling", Window::Exact(14 * DAY_MS), "336h"),
            ("120s", Window::Exact(120_000), "2m"),
            ("36h rolling", Window::Exact(36 * 3_600_000), "36h"),
            ("1d", Window::Days(1), "1d"),
            ("2d", Window::Days(2), "2d"),
            ("3w", Window::Days(21), "21d"),
            ("6mo", Window::Months(6), "6mo"),
            ("1y", Window::Months(12), "1y"),
            ("12mo", Window::Months(12), "1y"),
            ("18mo", Window::Months(18), "18mo"),
            ("10y", Window::Months(120), "10y"),
            ("3650d", Window::Days(3_650), "3650d"),
        ] {
            assert_eq!(Window::parse(text), Ok(window), "{text}");
            assert_eq!(window.to_string(), canonical);
            assert_eq!(Window::parse(canonical), Ok(window), "{canonical}");
        }
        for text in [
            "",
            "d",
            "7",
            "-7d",
            "1.5d",
            "0d",
            "0s",
            "3651d",
            "11y",
            "121mo",
            "99999999999d",
            "7 d",
            "é",
            "rolling",
            "30drolling",
            "6mo rolling",
            "1y rolling",
            "30D",
            "5M",
            "1d 2h",
            "1h30m",
        ] {
            assert!(Window::parse(text).is_err(), "{text}");
        }
        for (text, told) in [
            ("30 days", "'30d'"),
            ("last 30 days", "'30d'"),
            ("1 month", "'1mo'"),
            ("30D", "'30d'"),
            ("6 months rolling", "'6mo' for months and years of the calendar, or '180d rolling'"),
            ("2 years rolling", "'2y' for months and years of the calendar, or '730d rolling'"),
            ("30 Days ROLLING", "'30d rolling'"),
            ("1y rolling", "'365d rolling'"),
            ("soon", "'90d'"),
        ] {
            let error = Window::parse(text).unwrap_err();
            assert!(error.contains(told), "{text}: {error}");
        }
    }

    /// The letter that databases and frames write months with was answered with minutes.
    #[test]
    fn a_capital_letter_of_months_is_answered_with_months() {
        for months in [1, 3, 6, 12, 18, 120] {
            for written in [format!("{months}M"), format!("{months} M"), format!("last {months} M")] {
                let error = Window::parse(&written).unwrap_err();
                assert!(error.contains(&format!("write '{months}mo' for months")), "{written}: {error}");
            }
            let rolling = format!("{months}M rolling");
            let error = Window::parse(&rolling).unwrap_err();
            assert!(error.contains(&format!("write '{months}mo' for months")), "{rolling}: {error}");
            assert!(error.contains(&format!("'{}d rolling'", 30 * months)), "{rolling}: {error}");
            assert!(!error.contains(&format!("'{months}m'")), "{rolling}: {error}");
        }
    }

    #[test]
    fn months_are_those_of_the_calendar() {
        let at = |text: &str| -> Timestamp { text.parse().unwrap() };
        let utc = Zone::utc();
        for (window, now, first) in [
            (Window::Months(1), "2026-11-26T10:00:00Z", "2026-10-27"),
            (Window::Months(1), "2026-03-31T10:00:00Z", "2026-03-01"),
            (Window::Months(1), "2026-03-01T00:00:00Z", "2026-02-02"),
            (Window::Months(12), "2024-02-29T10:00:00Z", "2023-03-01"),
            (Window::Months(6), "2026-08-31T23:59:59Z", "2026-03-01"),
            (Window::Days(1), "2026-11-26T10:00:00Z", "2026-11-26"),
        ] {
            let first = at(&format!("{first}T00:00:00Z"));
            assert_eq!(utc.start_of_day(window.first_day(at(now), &utc)), first, "{window} at {now}");
        }
    }

    /// For each day of some years and windows of all lengths: the day on which it is first left out is the one that says so.
    #[test]
    fn a_day_leaves_a_window_once_and_for_good() {
        for months in [1, 2, 3, 6, 11, 12, 13, 24, 120] {
            let window = Window::Months(months);
            for day in 10_950..12_420 {
                let end = window.day_without(day);
                let first = |today: i32| window.first_day(Timestamp(i64::from(today) * DAY_MS), &Zone::utc());
                assert!(first(end) > day && first(end - 1) <= day, "day {day}, {months} months: {end}");
                assert!(first(day) <= day && first(day) <= first(day + 1));
            }
        }
    }
}
