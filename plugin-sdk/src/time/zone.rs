//! What follows a time of day: an offset, a name with a fixed meaning, annotations in brackets.

use super::clock::{digits, value};

/// Names of zones that mean one offset: those of RFC 2822, and the ones of Central Europe, which nobody else uses.
const NAMES: [(&str, i64); 16] = [
    ("Z", 0),
    ("UTC", 0),
    ("GMT", 0),
    ("UT", 0),
    ("WET", 0),
    ("CET", 1),
    ("CEST", 2),
    ("EET", 2),
    ("EST", -5),
    ("EDT", -4),
    ("CST", -6),
    ("CDT", -5),
    ("MST", -7),
    ("MDT", -6),
    ("PST", -8),
    ("PDT", -7),
];

/// The offset that the whole of `text` says; `Some(None)` where it says none, `None` where it is something else.
pub(super) fn read(text: &str) -> Option<Option<i64>> {
    // Segment's client for Swift wrote a colon between the fraction and the zone.
    let text = text.strip_prefix(':').unwrap_or(text);
    let (said, notes) = text.split_at(text.find(['[', '(']).unwrap_or(text.len()));
    let region = region(notes)?;
    // A plus that went through a form's decoding is a blank.
    let is_blank_plus = said.starts_with(' ') && said.len() == 6 && said.as_bytes()[3] == b':';
    let mut words = said.split_whitespace();
    let offset = match words.next() {
        None => match region {
            None => None,
            Some(region) => Some(of_region(region)?),
        },
        Some(word) if is_blank_plus => Some(clock_offset(word)?),
        Some(word) => Some(word_offset(word)?),
    };
    // Go adds the zone's name and its monotonic clock.
    let is_note = |word: &str| word.starts_with("m=") || word.bytes().all(|byte| byte.is_ascii_alphabetic());
    words.all(is_note).then_some(offset)
}

/// What the first brackets hold; the round ones of JavaScript hold a name for people.
fn region(mut notes: &str) -> Option<Option<&str>> {
    let mut region = None;
    loop {
        notes = notes.trim_start();
        if notes.is_empty() {
            return Some(region);
        }
        let (inner, rest) = match notes.strip_prefix('[') {
            Some(inner) => inner.split_once(']')?,
            None => notes.strip_prefix('(')?.split_once(')')?,
        };
        if notes.starts_with('[') && region.is_none() && !inner.contains('=') {
            region = Some(inner.trim_start_matches('!'));
        }
        notes = rest;
    }
}

/// The offset of a region that needs no database.
fn of_region(region: &str) -> Option<i64> {
    match region {
        "Etc/UTC" | "Etc/GMT" | "Zulu" => Some(0),
        _ => word_offset(region),
    }
}

/// The offset that one word says: `+01:00`, `Z`, `EST`, `GMT+1`.
pub(super) fn word_offset(word: &str) -> Option<i64> {
    let named = |name: &str| NAMES.iter().find(|(known, _)| known.eq_ignore_ascii_case(name)).map(|(_, hours)| hours);
    if let Some(hours) = named(word) {
        return Some(hours * 3_600_000);
    }
    let numeric = match word.get(..3) {
        Some(name) if name.eq_ignore_ascii_case("UTC") || name.eq_ignore_ascii_case("GMT") => &word[3..],
        _ => word,
    };
    let (sign, rest) = match numeric.chars().next()? {
        '+' => (1, &numeric[1..]),
        '-' => (-1, &numeric[1..]),
        // ISO 8601 prefers the minus sign to the hyphen.
        '\u{2212}' => (-1, &numeric['\u{2212}'.len_utf8()..]),
        _ => return None,
    };
    Some(sign * clock_offset(rest)?)
}

/// `01:00`, `0100`, `01`, `1`, `01:00:00`.
fn clock_offset(text: &str) -> Option<i64> {
    let (first, rest) = digits(text);
    let (hours, minutes, rest) = match (first.len(), rest.strip_prefix(':')) {
        (1 | 2, None) => (value(first)?, 0, rest),
        (4, None) => (value(&first[..2])?, value(&first[2..])?, rest),
        (1 | 2, Some(rest)) => {
            let (minutes, rest) = digits(rest);
            (value(first)?, (minutes.len() == 2).then(|| value(minutes))??, rest)
        }
        _ => return None,
    };
    // Seconds of an offset are of the nineteenth century.
    if !matches!(rest, "" | ":00" | "00") || hours >= 24 || minutes >= 60 {
        return None;
    }
    Some((hours * 60 + minutes) * 60_000)
}
