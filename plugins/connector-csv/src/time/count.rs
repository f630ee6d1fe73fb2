//! Times that are one number: since 1970, or days of a spreadsheet.

use kith_plugin_sdk::Timestamp;
use kith_plugin_sdk::time::days_from_civil;

use crate::zone::Local;

/// From here on a number of seconds is one of milliseconds: seconds reach the year 5138, milliseconds begin in 1973.
const FIRST_MILLISECONDS: f64 = 1e11;
const FIRST_MICROSECONDS: f64 = 1e14;
const FIRST_NANOSECONDS: f64 = 1e17;

/// The last millisecond of the year 9999, after which RFC 3339 writes no time.
const LAST_MS: f64 = 253_402_300_799_999.0;

/// A decimal number, digits alone on both sides of the point, with an exponent where it has one, as in `1.79E+12`.
pub(crate) fn decimal(text: &str) -> Option<f64> {
    let unsigned = text.strip_prefix('-').unwrap_or(text);
    let (mantissa, exponent) = unsigned.split_once(['e', 'E']).unwrap_or((unsigned, "0"));
    let exponent = exponent.strip_prefix(['+', '-']).unwrap_or(exponent);
    let (whole, fraction) = mantissa.split_once(['.', ',']).unwrap_or((mantissa, "0"));
    let are_digits = |text: &str| !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_digit());
    let is_number = are_digits(whole) && are_digits(fraction) && are_digits(exponent) && exponent.len() <= 2;
    is_number.then(|| text.replace(',', ".").parse().ok())?
}

/// Whether a number is written as digits alone, so that it is read exactly.
fn is_whole(text: &str) -> bool {
    !text.contains(['.', ',', 'e', 'E'])
}

/// Seconds since 1970, or milliseconds, microseconds or nanoseconds where the number is so large.
pub(crate) fn unix(text: &str) -> Option<Timestamp> {
    let number = decimal(text)?;
    let per_ms = match number.abs() {
        size if size < FIRST_MILLISECONDS => 0.001,
        size if size < FIRST_MICROSECONDS => 1.0,
        size if size < FIRST_NANOSECONDS => 1e3,
        _ => 1e6,
    };
    if is_whole(text) {
        let number: i64 = text.parse().ok()?;
        // Whole numbers beyond 2^53 stay exact.
        return bounded(match per_ms {
            size if size < 1.0 => number.checked_mul(1000)?,
            size => number.div_euclid(size as i64),
        });
    }
    bounded_float((number / per_ms).round())
}

/// Milliseconds since 1970.
pub(crate) fn unix_ms(text: &str) -> Option<Timestamp> {
    if !is_whole(text) {
        return bounded_float(decimal(text)?.floor());
    }
    text.parse().ok().and_then(bounded)
}

fn bounded(ms: i64) -> Option<Timestamp> {
    bounded_float(ms as f64).map(|_| ms)
}

fn bounded_float(ms: f64) -> Option<Timestamp> {
    (ms.abs() <= LAST_MS).then_some(ms as i64)
}

/// The first day beyond Excel's calendar, 1 January 10000.
const EXCEL_END: f64 = 2_958_466.0;

/// Days since the last of 1899. Excel took 1900 for a leap year, as Lotus 1-2-3 did, so that all from day 60 on is a day late.
pub(crate) fn excel(text: &str) -> Option<Local> {
    let number = decimal(text).filter(|number| (1.0..EXCEL_END).contains(number))?;
    // Day 60 is a 29 February that never was.
    let base = match number.floor() {
        60.0 => return None,
        day if day < 60.0 => days_from_civil(1899, 12, 31)?,
        _ => days_from_civil(1899, 12, 30)?,
    };
    days(base, number)
}

/// Days since the first of 1904.
pub(crate) fn excel_1904(text: &str) -> Option<Local> {
    let number = decimal(text).filter(|number| (0.0..EXCEL_END - 1462.0).contains(number))?;
    days(days_from_civil(1904, 1, 1)?, number)
}

/// A day's part is a double of some eleven digits, so that the millisecond is rounded.
fn days(base: i64, number: f64) -> Option<Local> {
    Local::from_utc(base * 86_400_000 + (number * 86_400_000.0).round() as i64)
}
