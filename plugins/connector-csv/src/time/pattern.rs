//! Times by a pattern in the style of `strptime`.

use kith_plugin_sdk::time::clock_ms;
use kith_plugin_sdk::{Failure, Timestamp};

use crate::names;
use crate::zone::{Local, Zone, offset_ms, short};

/// A piece of a pattern.
#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(crate) enum Item {
    Literal(char),
    Year,
    ShortYear,
    Month,
    MonthName,
    DayName,
    Day,
    Hour,
    Hour12,
    HalfDay,
    Minute,
    Second,
    Fraction,
    Offset,
    ZoneName,
}

/// Read a pattern.
pub(crate) fn parse(text: &str) -> Result<Vec<Item>, Failure> {
    let mut items = Vec::new();
    let mut letters = text.chars();
    while let Some(letter) = letters.next() {
        if letter != '%' {
            items.push(Item::Literal(letter));
            continue;
        }
        // GNU's `%-d` is a day without leading zero, which `%d` reads as well.
        let letter = letters.next().and_then(|letter| if letter == '-' { letters.next() } else { Some(letter) });
        match letter {
            Some('F') => items.extend(parse("%Y-%m-%d")?),
            Some('T') => items.extend([Item::Hour, Item::Literal(':'), Item::Minute, Item::Literal(':'), Item::Second]),
            Some('R') => items.extend([Item::Hour, Item::Literal(':'), Item::Minute]),
            letter => items.push(item(text, letter)?),
        }
    }
    let has = |item: Item| items.contains(&item);
    let has_date =
        (has(Item::Year) || has(Item::ShortYear)) && (has(Item::Month) || has(Item::MonthName)) && has(Item::Day);
    if !has_date {
        let message = format!("the time format `{text}` names no year, month and day; write e.g. `%Y-%m-%d %H:%M:%S`");
        return Err(Failure::permanent(message));
    }
    Ok(items)
}

fn item(pattern: &str, letter: Option<char>) -> Result<Item, Failure> {
    Ok(match letter {
        Some('Y') => Item::Year,
        Some('y') => Item::ShortYear,
        Some('m') => Item::Month,
        Some('b' | 'B' | 'h') => Item::MonthName,
        Some('a' | 'A') => Item::DayName,
        Some('d' | 'e') => Item::Day,
        Some('H' | 'k') => Item::Hour,
        Some('I' | 'l') => Item::Hour12,
        Some('p' | 'P') => Item::HalfDay,
        Some('M') => Item::Minute,
        Some('S') => Item::Second,
        Some('f') => Item::Fraction,
        Some('z') => Item::Offset,
        Some('Z') => Item::ZoneName,
        Some('%') => Item::Literal('%'),
        other => {
            let other = other.map(String::from).unwrap_or_default();
            return Err(Failure::permanent(format!(
                "the time format `{pattern}` holds `%{other}`; known are %Y %y %m %b %B %d %a %A %H %I %p %M %S %f %z %Z %F %T %R %% and, \
                 in place of a pattern, `auto`, `rfc3339`, `rfc2822`, `unix`, `unix_ms`, `excel` and `excel1904`"
            )));
        }
    })
}

/// What a pattern has read so far.
#[derive(Default)]
struct Parts {
    date: Local,
    hour: i64,
    afternoon: Option<bool>,
    minute: i64,
    second: i64,
    fraction_ms: i64,
    zone: Option<Zone>,
}

/// Read a time; `zone` is that of times that name none.
pub(crate) fn read(items: &[Item], text: &str, zone: &Zone) -> Option<Timestamp> {
    let mut parts = Parts::default();
    let mut rest = text;
    for (at, item) in items.iter().enumerate() {
        rest = read_item(*item, rest, &mut parts)?;
        let is_name = matches!(item, Item::MonthName | Item::DayName);
        // A short name may end with a point of its own.
        if is_name && items.get(at + 1) != Some(&Item::Literal('.')) {
            rest = rest.strip_prefix('.').unwrap_or(rest);
        }
    }
    if !rest.is_empty() {
        return None;
    }
    let hour = match parts.afternoon {
        Some(_) if !(1..=12).contains(&parts.hour) => return None,
        Some(afternoon) => parts.hour % 12 + if afternoon { 12 } else { 0 },
        None => parts.hour,
    };
    let clock_ms = clock_ms(hour, parts.minute, parts.second)? + parts.fraction_ms;
    parts.zone.as_ref().unwrap_or(zone).moment(Local { clock_ms, ..parts.date })
}

/// The letters at the beginning, and the rest.
fn word(text: &str) -> (&str, &str) {
    text.split_at(text.find(|letter: char| !letter.is_alphabetic()).unwrap_or(text.len()))
}

fn read_item<'a>(item: Item, text: &'a str, parts: &mut Parts) -> Option<&'a str> {
    match item {
        Item::Literal(letter) => return text.strip_prefix(letter),
        Item::MonthName => {
            let (name, rest) = word(text);
            parts.date.month = names::month(&names::fold(name))?;
            return Some(rest);
        }
        Item::DayName => {
            let (name, rest) = word(text);
            return names::is_weekday(&names::fold(name)).then_some(rest);
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
            parts.zone = Some(Zone::Offset(offset_ms(&text[..end])?));
            return Some(&text[end..]);
        }
        Item::ZoneName => {
            let end = text.find(|letter: char| !letter.is_alphanumeric() && !matches!(letter, '/' | '_' | '+' | '-'));
            let (name, rest) = text.split_at(end.unwrap_or(text.len()));
            parts.zone = Some(short(&names::fold(name)).or_else(|| Zone::find(name))?);
            return Some(rest);
        }
        _ => {}
    }
    read_number(item, text, parts)
}

fn read_number<'a>(item: Item, text: &'a str, parts: &mut Parts) -> Option<&'a str> {
    let width = if item == Item::Year { 4 } else { 2 };
    // C's `%e` fills up with a space.
    let text = if item == Item::Day { text.strip_prefix(' ').unwrap_or(text) } else { text };
    let end = text.bytes().take(width).take_while(u8::is_ascii_digit).count();
    if end == 0 || (end < 4 && item == Item::Year) {
        return None;
    }
    let number: i64 = text[..end].parse().ok()?;
    match item {
        Item::Year => parts.date.year = number,
        Item::ShortYear => parts.date.year = super::free::century(number),
        Item::Month => parts.date.month = number,
        Item::Day => parts.date.day = number,
        Item::Hour | Item::Hour12 => parts.hour = number,
        Item::Minute => parts.minute = number,
        Item::Second => parts.second = number,
        _ => return None,
    }
    Some(&text[end..])
}
