//! The time column: patterns as the configuration writes them, in the style of `strptime`, and the zone of times that name none.

use kith_plugin_sdk::time::{clock_ms, days_from_civil, parse_rfc3339};
use kith_plugin_sdk::{Failure, Timestamp};

/// How a time is written.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum TimeFormat {
    Rfc3339,
    UnixSeconds,
    UnixMilliseconds,
    Pattern(Vec<Item>),
}

/// A piece of a pattern.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Item {
    Literal(char),
    Year,
    ShortYear,
    Month,
    MonthName,
    Day,
    Hour,
    Hour12,
    HalfDay,
    Minute,
    Second,
    Fraction,
    Offset,
}

const MONTHS: [&str; 12] = ["jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"];

impl TimeFormat {
    /// Read a format: `rfc3339`, `unix`, `unix_ms`, or a pattern such as `%Y-%m-%d %H:%M:%S`.
    pub(crate) fn parse(text: &str) -> Result<TimeFormat, Failure> {
        match text {
            "rfc3339" => return Ok(TimeFormat::Rfc3339),
            "unix" => return Ok(TimeFormat::UnixSeconds),
            "unix_ms" => return Ok(TimeFormat::UnixMilliseconds),
            _ => {}
        }
        let mut items = Vec::new();
        let mut letters = text.chars();
        while let Some(letter) = letters.next() {
            items.push(if letter == '%' { item(text, letters.next())? } else { Item::Literal(letter) });
        }
        let has = |item: Item| items.contains(&item);
        let has_date =
            (has(Item::Year) || has(Item::ShortYear)) && (has(Item::Month) || has(Item::MonthName)) && has(Item::Day);
        if !has_date {
            let message =
                format!("the time format `{text}` names no year, month and day; write e.g. `%Y-%m-%d %H:%M:%S`");
            return Err(Failure::permanent(message));
        }
        Ok(TimeFormat::Pattern(items))
    }

    /// Read a time; `zone_ms` is the offset of times that name none.
    pub(crate) fn read(&self, text: &str, zone_ms: i64) -> Option<Timestamp> {
        match self {
            TimeFormat::Rfc3339 => {
                let time = parse_rfc3339(text)?;
                // A time without an offset is one that could still take a `Z`, or a date alone.
                let names_no_offset =
                    zone_ms != 0 && (text.len() == 10 || parse_rfc3339(&format!("{text}Z")).is_some());
                Some(if names_no_offset { time - zone_ms } else { time })
            }
            TimeFormat::UnixSeconds => match text.split_once('.') {
                None => text.parse::<i64>().ok()?.checked_mul(1000),
                Some((_, fraction)) if !fraction.bytes().all(|byte| byte.is_ascii_digit()) => None,
                Some(_) => {
                    let ms = (text.parse::<f64>().ok()? * 1000.0).round();
                    // Beyond this an f64 no longer counts single milliseconds, and no calendar goes that far.
                    (ms.abs() < 9e15).then_some(ms as i64)
                }
            },
            TimeFormat::UnixMilliseconds => text.parse().ok(),
            TimeFormat::Pattern(items) => read_pattern(items, text, zone_ms),
        }
    }
}

fn item(pattern: &str, letter: Option<char>) -> Result<Item, Failure> {
    Ok(match letter {
        Some('Y') => Item::Year,
        Some('y') => Item::ShortYear,
        Some('m') => Item::Month,
        Some('b') => Item::MonthName,
        Some('d') => Item::Day,
        Some('H') => Item::Hour,
        Some('I') => Item::Hour12,
        Some('p') => Item::HalfDay,
        Some('M') => Item::Minute,
        Some('S') => Item::Second,
        Some('f') => Item::Fraction,
        Some('z') => Item::Offset,
        Some('%') => Item::Literal('%'),
        other => {
            let other = other.map(String::from).unwrap_or_default();
            return Err(Failure::permanent(format!(
                "the time format `{pattern}` holds `%{other}`; known are %Y %y %m %b %d %H %I %p %M %S %f %z %% and, \
                 in place of a pattern, `rfc3339`, `unix` and `unix_ms`"
            )));
        }
    })
}

/// What a pattern has read so far.
#[derive(Default)]
struct Parts {
    year: i64,
    month: i64,
    day: i64,
    hour: i64,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    fraction_ms: i64,
    offset_ms: Option<i64>,
}

fn read_pattern(items: &[Item], text: &str, zone_ms: i64) -> Option<Timestamp> {
    let mut parts = Parts::default();
    let mut rest = text;
    for item in items {
        rest = read_item(*item, rest, &mut parts)?;
    }
    if !rest.is_empty() {
        return None;
    }
    let hour = match parts.afternoon {
        Some(_) if !(1..=12).contains(&parts.hour) => return None,
        Some(afternoon) => parts.hour % 12 + if afternoon { 12 } else { 0 },
        None => parts.hour,
    };
    let day_ms = days_from_civil(parts.year, parts.month, parts.day)? * 86_400_000;
    let clock_ms = clock_ms(hour, parts.minute, parts.second)?;
    Some(day_ms + clock_ms + parts.fraction_ms - parts.offset_ms.unwrap_or(zone_ms))
}

fn read_item<'a>(item: Item, text: &'a str, parts: &mut Parts) -> Option<&'a str> {
    match item {
        Item::Literal(letter) => return text.strip_prefix(letter),
        Item::MonthName => {
            let (name, rest) = text.split_at_checked(3)?;
            parts.month = MONTHS.iter().position(|month| month.eq_ignore_ascii_case(name))? as i64 + 1;
            return Some(rest);
        }
        Item::HalfDay => {
            let (half, rest) = text.split_at_checked(2)?;
            parts.afternoon = match half.to_ascii_lowercase().as_str() {
                "am" => Some(false),
                "pm" => Some(true),
                _ => return None,
            };
            return Some(rest);
        }
        Item::Fraction => {
            let end = text.bytes().take_while(u8::is_ascii_digit).count();
            let digits = &text[..end];
            parts.fraction_ms = format!("{:0<3.3}", (!digits.is_empty()).then_some(digits)?).parse().ok()?;
            return Some(&text[end..]);
        }
        Item::Offset => {
            let end =
                text.bytes().take_while(|byte| matches!(byte, b'+' | b'-' | b':' | b'Z' | b'z' | b'0'..=b'9')).count();
            parts.offset_ms = Some(offset_ms(&text[..end])?);
            return Some(&text[end..]);
        }
        _ => {}
    }
    let width = if item == Item::Year { 4 } else { 2 };
    let end = text.bytes().take(width).take_while(u8::is_ascii_digit).count();
    if end == 0 || (end < 4 && item == Item::Year) {
        return None;
    }
    let number: i64 = text[..end].parse().ok()?;
    match item {
        Item::Year => parts.year = number,
        // As POSIX has it: 69 to 99 are the twentieth century's.
        Item::ShortYear => parts.year = number + if number >= 69 { 1900 } else { 2000 },
        Item::Month => parts.month = number,
        Item::Day => parts.day = number,
        Item::Hour | Item::Hour12 => parts.hour = number,
        Item::Minute => parts.minute = number,
        Item::Second => parts.second = number,
        Item::Literal(_) | Item::MonthName | Item::HalfDay | Item::Fraction | Item::Offset => return None,
    }
    Some(&text[end..])
}

/// The offset of a zone of the configuration.
pub(crate) fn zone_ms(zone: &str) -> Result<i64, Failure> {
    match zone {
        "UTC" => Ok(0),
        zone => offset_ms(zone).ok_or_else(|| {
            Failure::permanent(format!("the time zone `{zone}` is neither `UTC` nor an offset such as `+01:00`"))
        }),
    }
}

/// An offset has the same forms as in RFC 3339, so a whole time with it tells what it is.
fn offset_ms(offset: &str) -> Option<i64> {
    if offset.is_empty() {
        return None;
    }
    parse_rfc3339(&format!("1970-01-01T00:00:00{offset}")).map(|time| -time)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(format: &str, text: &str) -> Option<Timestamp> {
        TimeFormat::parse(format).unwrap().read(text, 0)
    }

    #[test]
    fn patterns_read_what_they_describe() {
        let expected = 1_793_527_200_000; // 2026-11-01T10:00:00Z
        for (format, text) in [
            ("rfc3339", "2026-11-01T10:00:00Z"),
            ("rfc3339", "2026-11-01 10:00:00"),
            ("unix", "1793527200"),
            ("unix", "1793527200.0"),
            ("unix_ms", "1793527200000"),
            ("%Y-%m-%d %H:%M:%S", "2026-11-01 10:00:00"),
            ("%Y%m%d%H%M", "202611011000"),
            ("%d.%m.%Y %H:%M", "1.11.2026 10:00"),
            ("%d/%b/%Y:%H:%M:%S %z", "01/Nov/2026:11:00:00 +0100"),
            ("%m/%d/%y %I:%M %p", "11/01/26 10:00 AM"),
            ("%Y-%m-%dT%H:%M:%S.%f%z", "2026-11-01T10:00:00.000999Z"),
        ] {
            assert_eq!(read(format, text), Some(expected), "{format} {text}");
        }
        assert_eq!(read("%Y%m%d", "19970101"), Some(852_076_800_000));
        assert_eq!(read("unix", "-1.5"), Some(-1500));
        assert_eq!(read("%Y-%m-%d %I:%M%p", "1970-01-01 12:30am"), Some(30 * 60_000));
        assert_eq!(read("%Y-%m-%d %H:%M:%S.%f", "1970-01-01 00:00:00.5"), Some(500));
    }

    #[test]
    fn patterns_refuse_the_rest() {
        for (format, text) in [
            ("%Y-%m-%d", "2026-02-30"),
            ("%Y-%m-%d", "2026-11-01 "),
            ("%Y-%m-%d", "26-11-01"),
            ("%Y-%m-%d", "2026-11"),
            ("%Y-%m-%d", ""),
            ("%Y%m%d", "1997010"),
            ("%m/%d/%y %I %p", "11/01/26 13 PM"),
            ("%d %b %Y", "01 Növ 2026"),
            ("unix", "1e9"),
            ("unix", "nan"),
            ("unix", "9223372036854775807"),
            ("unix_ms", "12.5"),
        ] {
            assert_eq!(read(format, text), None, "{format} {text}");
        }
        for format in ["%Q", "%", "%H:%M", "yyyy-MM-dd"] {
            assert!(TimeFormat::parse(format).is_err(), "{format}");
        }
    }

    #[test]
    fn the_zone_is_that_of_times_without_one() {
        let zone_ms = zone_ms("+02:00").unwrap();
        for (format, text, expected) in [
            ("rfc3339", "1970-01-01T02:00:00", 0),
            ("rfc3339", "1970-01-01T02:00:00Z", 7_200_000),
            ("rfc3339", "1970-01-02", 79_200_000),
            ("%Y-%m-%d %H:%M", "1970-01-01 02:00", 0),
            ("unix", "0", 0),
        ] {
            assert_eq!(TimeFormat::parse(format).unwrap().read(text, zone_ms), Some(expected), "{format} {text}");
        }
        assert!(super::zone_ms("Europe/Oslo").is_err());
        assert!(super::zone_ms("").is_err());
    }
}
