//! Why a text is no time, for the person who has to correct it: what was read in it, and what to do.

use super::{DateOrder, Order, Orders, TimeError, TimeFormat, count, read};
use crate::column::crop;
use crate::zone::{Local, Zone};

/// Why `text` is none, and what to do about it. `error` is what reading it with `formats` came to.
pub(crate) fn reason(text: &str, formats: &[TimeFormat], error: TimeError, set: Option<DateOrder>) -> String {
    let shown = crop(text);
    match error {
        TimeError::NoSuchDay => format!("`{shown}` is written like a date and names a day that does not exist"),
        TimeError::OtherOrder(orders) => {
            let own: Vec<&str> = orders.iter().map(DateOrder::words).collect();
            let set = set.map_or("auto", DateOrder::name);
            format!(
                "`{shown}` is a date with the {} alone, and `order` says `{set}`; correct it, or set `order` to `auto`",
                own.join(" or the ")
            )
        }
        _ if !formats.contains(&TimeFormat::Auto) => match auto(text) {
            Some(day) => format!(
                "`{shown}` has none of the configured `formats`; `auto` would read it as {day}: add it to `formats`"
            ),
            None => {
                format!("`{shown}` has none of the configured `formats`, and none that `auto` reads: {}", what(text))
            }
        },
        _ => format!("`{shown}` is no date or time: {}", what(text)),
    }
}

fn auto(text: &str) -> Option<String> {
    let at = read(text, &[TimeFormat::Auto], &Zone::UTC, Order::Auto(Orders::ALL)).ok()?.at;
    let Local { year, month, day, .. } = Local::from_utc(at)?;
    Some(format!("{year:04}-{month:02}-{day:02}"))
}

/// What a text that nothing reads seems to be.
fn what(text: &str) -> &'static str {
    let text = text.trim();
    if let Some(number) = count::decimal(text) {
        return match number.abs() {
            size if size >= 1e8 => "as a count since 1970 it is beyond the year 9999",
            size if (1000.0..10_000.0).contains(&size) && size.fract() == 0.0 => {
                "it may be a year, which names no day; join it with other columns, as in `{year}-{month}-{day}`"
            }
            _ => {
                "counts since 1970 have nine digits or more and days of a spreadsheet five; where it is one of them, set `formats` to \
                 `unix`, `unix_ms` or `excel`"
            }
        };
    }
    let has_digits = text.chars().any(|letter| crate::number::digit(letter).is_some() || letter.is_ascii_digit());
    if !has_digits {
        return "it has no digits";
    }
    let date = text.split(['T', ' ']).next().unwrap_or_default();
    let reads = |part: &str| read(part, &[TimeFormat::Auto], &Zone::UTC, Order::Set(DateOrder::Day)).is_ok();
    if text.contains(':') && date.len() < text.len() && reads(date) {
        return "its date reads, and the time of day or the zone behind it does not; a zone is an offset such as `+01:00` or a name \
                such as `Europe/Berlin`";
    }
    if text.contains(':') && reads(&format!("2026-01-05 {text}")) {
        return "it is a time of day without a date; join it with the date's column, as in `{date} {time}`";
    }
    if reads(&format!("1 {text}")) || reads(&format!("1/{text}")) || reads(&format!("{text}-01")) {
        return "it names a month and no day; write a day into it, or join columns as in `1 {month}`";
    }
    "it has no form that is read without a pattern; describe it in `formats`, e.g. `%d.%m.%Y %H:%M`"
}
