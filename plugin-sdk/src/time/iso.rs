//! ISO 8601 in all of its forms of dates, and what is written like it.

use super::civil::{DAY_MS, days_from_civil, days_from_ordinal, days_from_week};
use super::clock::{self, digits, value};
use super::{Form, Reading, zone};

/// Read a date, and the time of day behind it where there is one.
pub(super) fn read(text: &str) -> Option<Reading> {
    let (day, rest) = date(text)?;
    let day_ms = day * DAY_MS;
    let (clock_ms, rest) = match rest.strip_prefix(['T', 't', ' ', '_']) {
        None if rest.is_empty() => return Some(Reading { local_ms: day_ms, offset_ms: None, form: Form::Iso8601 }),
        // A date with a zone: `2026-11-03Z`, `2026-11-03+01:00` of XML.
        None => (0, rest),
        Some(clock) => clock::read(clock.trim_start())?,
    };
    let offset_ms = zone::read(rest)?;
    let form = if is_rfc3339(text) { Form::Rfc3339 } else { Form::Iso8601 };
    Some(Reading { local_ms: day_ms + clock_ms, offset_ms, form })
}

/// Whether a text that was read is written as RFC 3339 has it.
fn is_rfc3339(text: &str) -> bool {
    let shape = |text: &str, shape: &str| {
        text.len() == shape.len()
            && text
                .bytes()
                .zip(shape.bytes())
                .all(|(byte, form)| if form == b'0' { byte.is_ascii_digit() } else { byte.eq_ignore_ascii_case(&form) })
    };
    let Some((clock, rest)) = text.split_at_checked(19) else { return false };
    let rest = rest.strip_prefix('.').map_or(rest, |rest| digits(rest).1);
    shape(clock, "0000-00-00T00:00:00") && (shape(rest, "Z") || shape(rest, "+00:00") || shape(rest, "-00:00"))
}

/// The days from 1970-01-01 to a date, and what follows it.
fn date(text: &str) -> Option<(i64, &str)> {
    // JavaScript writes years outside of four digits with six and a sign.
    let (year, rest) = match text.strip_prefix('+') {
        Some(long) => (long.get(..6)?, long.get(6..)?),
        None => digits(text),
    };
    match year.len() {
        4 | 6 if text.starts_with('+') || year.len() == 4 => of_year(value(year)?, rest),
        7 => Some((days_from_ordinal(value(&year[..4])?, value(&year[4..])?)?, rest)),
        8 => Some((days_from_civil(value(&year[..4])?, value(&year[4..6])?, value(&year[6..])?)?, rest)),
        _ => None,
    }
}

/// What follows a year.
fn of_year(year: i64, rest: &str) -> Option<(i64, &str)> {
    if let Some(week) = rest.strip_prefix(['W', 'w']) {
        let (number, rest) = digits(week);
        return match number.len() {
            2 => Some((days_from_week(year, value(number)?, 1)?, rest)),
            3 => Some((days_from_week(year, value(&number[..2])?, value(&number[2..])?)?, rest)),
            _ => None,
        };
    }
    let separator = rest.chars().next().filter(|letter| matches!(letter, '-' | '/' | '.'))?;
    let rest = &rest[1..];
    if let Some(week) = rest.strip_prefix(['W', 'w']) {
        let week_number = value(week.get(..2)?)?;
        return match week[2..].strip_prefix('-').map(digits) {
            Some((day, rest)) => {
                Some((days_from_week(year, week_number, (day.len() == 1).then(|| value(day))??)?, rest))
            }
            None => Some((days_from_week(year, week_number, 1)?, &week[2..])),
        };
    }
    let (first, rest) = digits(rest);
    match (first.len(), rest.strip_prefix(separator)) {
        (3, _) if separator == '-' => Some((days_from_ordinal(year, value(first)?)?, rest)),
        (1 | 2, Some(day)) => {
            let (day, rest) = digits(day);
            let day = (day.len() <= 2).then(|| value(day))??;
            Some((days_from_civil(year, value(first)?, day)?, rest))
        }
        // A month alone begins with its first day.
        (2, None) if separator == '-' && rest.is_empty() => Some((days_from_civil(year, value(first)?, 1)?, rest)),
        _ => None,
    }
}
