//! The time of day: `10`, `10:00`, `10.00`, `100000`, `10:00:00.5`, `10,5`, `24:00`, `9:05 pm`.

use super::civil::{DAY_MS, clock_ms};

/// The digits at the beginning, and the rest.
pub(super) fn digits(text: &str) -> (&str, &str) {
    text.split_at(text.bytes().take_while(u8::is_ascii_digit).count())
}

/// The number that a few digits write.
pub(super) fn value(digits: &str) -> Option<i64> {
    if digits.is_empty() || !digits.bytes().all(|byte| byte.is_ascii_digit()) { None } else { digits.parse().ok() }
}

/// A number of one or two digits, and the rest.
fn short(text: &str) -> Option<(i64, &str)> {
    let (number, rest) = digits(text);
    if number.len() > 2 { None } else { Some((value(number)?, rest)) }
}

/// Milliseconds from midnight, and the rest. `24:00` is the midnight after.
pub(super) fn read(text: &str) -> Option<(i64, &str)> {
    let (first, rest) = digits(text);
    let (hour, minute, second, unit_ms, rest) = match (first.len(), rest.strip_prefix(':')) {
        (1 | 2, Some(rest)) => {
            let hour = value(first)?;
            let (minute, rest) = short(rest)?;
            match rest.strip_prefix(':').and_then(short) {
                Some((second, rest)) => (hour, minute, second, 1000, rest),
                None => (hour, minute, 0, 60_000, rest),
            }
        }
        (1 | 2, None) if as_minutes(rest).is_some() => {
            let (minute, rest) = as_minutes(rest)?;
            match as_minutes(rest) {
                Some((second, rest)) => (value(first)?, minute, second, 1000, rest),
                None => (value(first)?, minute, 0, 60_000, rest),
            }
        }
        (2, None) => (value(first)?, 0, 0, 3_600_000, rest),
        (4, None) => (value(&first[..2])?, value(&first[2..])?, 0, 60_000, rest),
        (6, None) => (value(&first[..2])?, value(&first[2..4])?, value(&first[4..])?, 1000, rest),
        _ => return None,
    };
    let (fraction_ms, rest) = fraction(rest, unit_ms)?;
    let (hour, rest) = half_day(hour, rest)?;
    if hour == 24 && (minute, second, fraction_ms) == (0, 0, 0) {
        return Some((DAY_MS, rest));
    }
    Some((clock_ms(hour, minute, second)? + fraction_ms, rest))
}

/// Minutes or seconds behind a point, `14.30`, and the rest: who writes two digits there means these, and a fraction of an hour
/// has a comma, or another number of digits.
fn as_minutes(text: &str) -> Option<(i64, &str)> {
    let (part, rest) = digits(text.strip_prefix('.')?);
    let number = value(part)?;
    (part.len() == 2 && number < 60).then_some((number, rest))
}

/// The milliseconds of a fraction of the last unit. Loggers write a colon before the milliseconds.
fn fraction(text: &str, unit_ms: i64) -> Option<(i64, &str)> {
    let Some(rest) = text.strip_prefix(['.', ',']).or_else(|| {
        let rest = text.strip_prefix(':')?;
        (unit_ms == 1000 && rest.starts_with(|letter: char| letter.is_ascii_digit())).then_some(rest)
    }) else {
        return Some((0, text));
    };
    let (part, rest) = digits(rest);
    let kept = &part[..part.len().min(9)];
    let scale = 10_i64.pow(u32::try_from(kept.len()).ok()?);
    Some((value(if kept.is_empty() { "0" } else { kept })? * unit_ms / scale, rest))
}

/// The hour by `am` or `pm` behind it, and the rest.
fn half_day(hour: i64, text: &str) -> Option<(i64, &str)> {
    let word = text.trim_start();
    let Some((half, rest)) = word.split_at_checked(2) else { return Some((hour, text)) };
    if rest.starts_with(|letter: char| letter.is_alphanumeric()) {
        return Some((hour, text));
    }
    let afternoon = match half.to_ascii_lowercase().as_str() {
        "am" => 0,
        "pm" => 12,
        _ => return Some((hour, text)),
    };
    (1..=12).contains(&hour).then_some((hour % 12 + afternoon, rest))
}
