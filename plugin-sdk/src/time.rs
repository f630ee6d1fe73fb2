//! Reading times as sources write them. What time it is now is `clock`'s; time zones other than offsets are left to the plugin.

use crate::Timestamp;

const DAY_MS: i64 = 86_400_000;

/// Read a time after RFC 3339, as lenient as ISO 8601 is in the field: `2026-11-01T10:00:00.000Z`, `2026-11-01 10:00:00+01:00`,
/// any number of digits of a second, `,` for the point, an offset without a colon, none (which means UTC), or a date alone (midnight, UTC).
/// `None` for anything else, and for days and times that do not exist.
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
    let day_ms = days_from_civil(number(&date[..4])?, number(&date[5..7])?, number(&date[8..10])?)? * DAY_MS;
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

/// Days from 1970-01-01 to a day of the Gregorian calendar; `None` for a day that does not exist or a year outside of 0..=9999.
pub fn days_from_civil(year: i64, month: i64, day: i64) -> Option<i64> {
    if !(0..=9999).contains(&year) || !(1..=12).contains(&month) || !(1..=days_in_month(year, month)).contains(&day) {
        return None;
    }
    // Howard Hinnant's algorithm: years begin in March, so that the leap day is a year's last.
    let year = if month <= 2 { year - 1 } else { year };
    let era = year.div_euclid(400);
    let year_of_era = year.rem_euclid(400);
    let day_of_year = (153 * ((month + 9) % 12) + 2) / 5 + day - 1;
    let day_of_era = year_of_era * 365 + year_of_era / 4 - year_of_era / 100 + day_of_year;
    Some(era * 146_097 + day_of_era - 719_468)
}

/// Milliseconds from midnight; a leap second (60) counts as the second after. `None` for a time that does not exist.
pub fn clock_ms(hour: i64, minute: i64, second: i64) -> Option<i64> {
    ((0..24).contains(&hour) && (0..60).contains(&minute) && (0..=60).contains(&second))
        .then_some((hour * 3600 + minute * 60 + second) * 1000)
}

fn days_in_month(year: i64, month: i64) -> i64 {
    match month {
        2 if year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) => 29,
        2 => 28,
        4 | 6 | 9 | 11 => 30,
        _ => 31,
    }
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
mod tests {
    use super::*;

    #[test]
    fn times_are_read_as_sources_write_them() {
        let base = 1_793_527_200_000;
        for (text, expected) in [
            ("2026-11-01T10:00:00Z", base),
            ("2026-11-01T10:00:00.000Z", base),
            ("2026-11-01t10:00:00.5z", base + 500),
            ("2026-11-01 10:00:00,25", base + 250),
            ("2026-11-01T10:00:00.123456+00:00", base + 123),
            ("2026-11-01T10:00:00.123456789Z", base + 123),
            ("2026-11-01T12:30:00+02:30", base),
            ("2026-11-01T02:00:00-0800", base),
            ("2026-11-01T11:00:00+01", base),
            ("2026-11-01", base - 10 * 3_600_000),
            ("1969-12-31T23:59:59.999Z", -1),
            ("2024-02-29T00:00:00Z", 1_709_164_800_000),
            ("2016-12-31T23:59:60Z", 1_483_228_800_000),
        ] {
            assert_eq!(parse_rfc3339(text), Some(expected), "{text}");
        }
    }

    #[test]
    fn what_is_no_time_is_refused() {
        for text in [
            "",
            "now",
            "2026",
            "2026-13-01",
            "2026-02-29",
            "1900-02-29",
            "2026-11-31T00:00:00Z",
            "2026-11-01T24:00:00Z",
            "2026-11-01T10:60:00Z",
            "2026-11-01T10:00Z",
            "2026-11-01T10:00:00.Z",
            "2026-11-01T10:00:00 UTC",
            "2026-11-01T10:00:00+1",
            "2026-11-01T10:00:00+25:00",
            "2026-11-01x10:00:00Z",
            "٢٠٢٦-11-01",
            "2026-11-0é",
            "+026-11-01",
        ] {
            assert_eq!(parse_rfc3339(text), None, "{text}");
        }
    }

    #[test]
    fn days_run_without_gaps_through_four_centuries() {
        let mut expected = days_from_civil(1800, 1, 1).unwrap();
        for year in 1800..2200 {
            for month in 1..=12 {
                for day in 1..=days_in_month(year, month) {
                    assert_eq!(days_from_civil(year, month, day), Some(expected), "{year}-{month}-{day}");
                    expected += 1;
                }
            }
        }
        assert_eq!(days_from_civil(1970, 1, 1), Some(0));
    }
}
