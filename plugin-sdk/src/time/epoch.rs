//! Counts since 1970, the unit by size.

use super::civil::{DAY_MS, days_from_civil, days_from_ordinal};
use super::clock::{self, value};
use super::{Form, Reading};

/// Years in which digits without anything else are taken for a date.
const YEARS: std::ops::RangeInclusive<i64> = 1900..=2199;

/// The unit of a count below a size, as the power of ten that makes milliseconds of it: seconds, milliseconds, microseconds, nanoseconds.
const UNITS: [(i128, i32); 4] =
    [(100_000_000_000, 3), (100_000_000_000_000, 0), (100_000_000_000_000_000, -3), (100_000_000_000_000_000_000, -6)];

/// A count, or a date of nothing but digits. `None` for a text that is no number.
pub(super) fn read(text: &str) -> Option<Reading> {
    if let Some(local_ms) = digits_of_a_date(text) {
        return Some(Reading { local_ms, offset_ms: None, form: Form::Iso8601 });
    }
    Some(Reading { local_ms: count_ms(text)?, offset_ms: Some(0), form: Form::Epoch })
}

/// `20261103`, `2026307`, `2026`, `20261103100000` and the same with milliseconds. As counts they would be of 1970 or of a far
/// future.
fn digits_of_a_date(text: &str) -> Option<i64> {
    if !matches!(text.len(), 4 | 7 | 8 | 14 | 17) || !text.bytes().all(|byte| byte.is_ascii_digit()) {
        return None;
    }
    let year = value(&text[..4]).filter(|year| YEARS.contains(year))?;
    if text.len() == 4 {
        return Some(days_from_civil(year, 1, 1)? * DAY_MS);
    }
    if text.len() == 7 {
        return Some(days_from_ordinal(year, value(&text[4..])?)? * DAY_MS);
    }
    let day_ms = days_from_civil(year, value(&text[4..6])?, value(&text[6..8])?)? * DAY_MS;
    if text.len() == 8 {
        return Some(day_ms);
    }
    let (clock_ms, _) = clock::read(&text[8..14])?;
    let fraction_ms = if text.len() == 17 { value(&text[14..])? } else { 0 };
    Some(day_ms + clock_ms + fraction_ms)
}

/// Milliseconds since 1970 of a decimal number, which may have a fraction and an exponent.
fn count_ms(text: &str) -> Option<i64> {
    let (sign, unsigned) = match text.strip_prefix('-') {
        Some(rest) => (-1, rest),
        None => (1, text.strip_prefix('+').unwrap_or(text)),
    };
    let (mantissa, exponent) = match unsigned.split_once(['e', 'E']) {
        Some((mantissa, exponent)) => (mantissa, exponent.parse::<i32>().ok()?),
        None => (unsigned, 0),
    };
    let (whole, part) = mantissa.split_once('.').unwrap_or((mantissa, ""));
    let is_number = |digits: &str| digits.bytes().all(|byte| byte.is_ascii_digit());
    if whole.len() + part.len() == 0 || whole.len() + part.len() > 30 || !is_number(whole) || !is_number(part) {
        return None;
    }
    let number: i128 = format!("{whole}{part}").parse().ok()?;
    let exponent = exponent.checked_sub(i32::try_from(part.len()).ok()?)?;
    let size = scaled(number, exponent)?;
    let (_, to_ms) = UNITS.into_iter().find(|(below, _)| size < *below)?;
    i64::try_from(scaled(sign * number, exponent + to_ms)?).ok()
}

/// `number` × 10^`exponent`, rounded down.
fn scaled(number: i128, exponent: i32) -> Option<i128> {
    if number == 0 {
        return Some(0);
    }
    match exponent {
        0..=30 => number.checked_mul(10_i128.checked_pow(exponent.unsigned_abs())?),
        -38..0 => Some(number.div_euclid(10_i128.pow(exponent.unsigned_abs()))),
        _ => None,
    }
}
