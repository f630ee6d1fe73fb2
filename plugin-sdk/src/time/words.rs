//! Dates with the English name of a month: RFC 2822, HTTP's three forms, `asctime`, the dates that Java and JavaScript print.

use super::civil::{DAY_MS, days_from_civil};
use super::clock::{self, value};
use super::{Form, Reading, zone};

const MONTHS: [&str; 12] = [
    "january",
    "february",
    "march",
    "april",
    "may",
    "june",
    "july",
    "august",
    "september",
    "october",
    "november",
    "december",
];

const DAYS: [&str; 7] = ["monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday"];

/// What the words of a date said so far.
#[derive(Default)]
struct Parts {
    month: Option<i64>,
    day: Option<i64>,
    year: Option<i64>,
    clock_ms: Option<i64>,
    offset_ms: Option<i64>,
}

/// Read a date whose month is a word. Its order is free, since the month tells the other parts apart.
pub(super) fn read(text: &str) -> Option<Reading> {
    // What stands in round brackets is a comment in RFC 2822, and the zone for people in JavaScript.
    let text = text.split('(').next().unwrap_or_default();
    let mut parts = Parts::default();
    let mut words = text.split([' ', '\t', ',']).filter(|word| !word.is_empty()).peekable();
    while let Some(word) = words.next() {
        if word.contains(':') && parts.clock_ms.is_none() && word.starts_with(|letter: char| letter.is_ascii_digit()) {
            let half = words.next_if(|next| next.eq_ignore_ascii_case("am") || next.eq_ignore_ascii_case("pm"));
            let clock = format!("{word}{}", half.unwrap_or_default());
            let (clock_ms, rest) = clock::read(&clock)?;
            parts.clock_ms = Some(clock_ms);
            parts.offset_ms = zone::read(rest)?;
        } else if word.starts_with(|letter: char| letter.is_ascii_digit()) && word.contains('-') {
            // `06-Nov-94` of RFC 850.
            for part in word.split('-') {
                parts.take(part)?;
            }
        } else {
            parts.take(word)?;
        }
    }
    parts.reading()
}

impl Parts {
    /// One word or number.
    fn take(&mut self, word: &str) -> Option<()> {
        let name = word.trim_end_matches('.').to_ascii_lowercase();
        if let Some(month) = named(&MONTHS, &name) {
            return put(&mut self.month, month + 1);
        }
        if named(&DAYS, &name).is_some() {
            return Some(());
        }
        if let Some(number) = value(word) {
            return match word.len() {
                1 | 2 if self.day.is_none() => put(&mut self.day, number),
                // As RFC 2822 reads the years of before it.
                2 => put(&mut self.year, if number < 50 { 2000 + number } else { 1900 + number }),
                4 => put(&mut self.year, number),
                _ => None,
            };
        }
        // `3rd`
        if let Some(number) = ["st", "nd", "rd", "th"].into_iter().find_map(|end| value(name.strip_suffix(end)?)) {
            return put(&mut self.day, number);
        }
        put(&mut self.offset_ms, zone::word_offset(word)?)
    }

    fn reading(self) -> Option<Reading> {
        let day_ms = days_from_civil(self.year?, self.month?, self.day?)? * DAY_MS;
        let local_ms = day_ms + self.clock_ms.unwrap_or(0);
        Some(Reading { local_ms, offset_ms: self.offset_ms, form: Form::Words })
    }
}

/// Set a part that is not set yet.
fn put(part: &mut Option<i64>, value: i64) -> Option<()> {
    part.replace(value).is_none().then_some(())
}

/// The place of a name that is written out or with its first three letters (`sept` is usual too).
fn named(names: &[&str], word: &str) -> Option<i64> {
    let place = names
        .iter()
        .position(|name| *name == word || (word.len() >= 3 && word.len() <= 4 && name.starts_with(word)))?;
    i64::try_from(place).ok()
}
