//! The value of one cell as JSON, by the type that the mapping gives it.

use std::borrow::Cow;

use serde_json::Value;

use crate::column::{Numbers, Times, crop};
use crate::event::{Cell, Problem};
use crate::settings::{Field, TimeForm, ValueType};
use crate::zone::Local;
use crate::{json, number};

/// What databases, data frames and spreadsheets write where there is nothing. It is that in cells that are no texts; in a text it may
/// be somebody's name.
const NOTHING: [&str; 13] = ["null", "nil", "none", "na", "n/a", "#n/a", "#na", "nan", "<na>", "nat", "\\n", "-", "–"];

/// Whether a cell that is to be a number, truth value or time says that there is none.
pub(crate) fn is_nothing(text: &str) -> bool {
    let trimmed = text.trim();
    trimmed.is_empty() || NOTHING.contains(&trimmed.to_lowercase().as_str())
}

/// The value as JSON; `None` for an empty cell. `seen` and `dates` are what the column's other values show.
pub(crate) fn json<'c>(
    cell: &Cell<'c>,
    field: &Field,
    seen: &mut Numbers,
    dates: &mut Times,
) -> Result<Option<Cow<'c, str>>, Problem> {
    let value_type = match (field.value_type, cell) {
        (Some(ValueType::Cell), Cell::Text(text)) if is_time_of_sheet(text) => Some(ValueType::Time),
        (Some(ValueType::Cell), _) => None,
        (value_type, _) => value_type,
    };
    Ok(match (cell, value_type) {
        (Cell::Absent, _) => None,
        (Cell::Text(text) | Cell::Exact(text), Some(ValueType::Date | ValueType::Time)) => moment(text, field, dates)?,
        (Cell::Json(Value::Number(number)), Some(ValueType::Date | ValueType::Time)) => {
            moment(&number.to_string(), field, dates)?
        }
        (Cell::Json(value @ Value::Object(_)), Some(ValueType::Date | ValueType::Time))
            if json::dated(value).is_some() =>
        {
            moment(&json::dated(value).unwrap_or_default(), field, dates)?
        }
        (Cell::Json(value), Some(ValueType::Date | ValueType::Time)) => {
            let message = format!("`{}` is no date or time", crop(&json::written(value)));
            return Err(Problem::new("bad-time", message));
        }
        // Without a type a JSON value stays what it is, and so it does where the type is its own.
        (Cell::Json(value), None) => Some(Cow::Owned(json::written(value))),
        (Cell::Json(value), Some(ValueType::Text)) => Some(json_text(&json::written(value))),
        (Cell::Exact(text), None) => Some(Cow::Borrowed(*text)),
        (Cell::Text(text) | Cell::Exact(text), None | Some(ValueType::Text)) => Some(json_text(text)),
        (Cell::Json(Value::Number(exact)), Some(value_type)) => {
            Some(typed_exact(&exact.to_string(), value_type)?.into())
        }
        (Cell::Exact(text), Some(value_type)) => Some(typed_exact(text, value_type)?.into()),
        (Cell::Text(text), Some(_)) if is_nothing(text) => None,
        (Cell::Text(text), Some(ValueType::Boolean)) => Some(Cow::Borrowed(boolean(text.trim())?)),
        (Cell::Text(text), Some(value_type)) => {
            let number = seen.read(text, field.style)?;
            Some(typed_exact(&number, value_type)?.into())
        }
        (Cell::Json(value), Some(ValueType::Boolean)) => Some(Cow::Borrowed(boolean(&value.to_string())?)),
        (Cell::Json(value), Some(_)) => {
            let text = value.to_string();
            return Err(Problem::new("bad-number", format!("`{}` is not a number", crop(&text))));
        }
    })
}

/// Whether a text is a date with a time of day, as the program that reads workbooks writes it.
fn is_time_of_sheet(text: &str) -> bool {
    let form = "0000-00-00T00:00:00.000";
    matches!(text.len(), 19 | 23)
        && text
            .bytes()
            .zip(form.bytes())
            .all(|(byte, form)| if form == b'0' { byte.is_ascii_digit() } else { byte == form })
}

/// A date as `2026-11-21`, a time as RFC 3339 in UTC: what conditions and every reader take for one.
fn moment(text: &str, field: &Field, seen: &mut Times) -> Result<Option<Cow<'static, str>>, Problem> {
    let text = text.trim();
    if is_nothing(text) {
        return Ok(None);
    }
    let TimeForm { formats, zone, order } = &field.time;
    let is_date = field.value_type == Some(ValueType::Date);
    let mut at = seen.read(text, formats, zone, *order)?;
    // A day is the one that is written, wherever that was. `Z` says nothing of a place: scripts write midnight anywhere so.
    if is_date && let Some(stated) = without_offset(text) {
        at = seen.read(stated, formats, zone, *order).unwrap_or(at);
    }
    let outside = || Problem::new("bad-time", format!("the time `{}` is outside of the years 0 to 9999", crop(text)));
    let local = Local::from_utc(if is_date { zone.local_ms(at) } else { at }).ok_or_else(outside)?;
    let Local { year, month, day, clock_ms } = local;
    let date = format!("{year:04}-{month:02}-{day:02}");
    if is_date {
        return Ok(Some(format!("\"{date}\"").into()));
    }
    let (hour, minute, second, ms) =
        (clock_ms / 3_600_000, clock_ms / 60_000 % 60, clock_ms / 1_000 % 60, clock_ms % 1_000);
    let fraction = if ms == 0 { String::new() } else { format!(".{ms:03}") };
    Ok(Some(format!("\"{date}T{hour:02}:{minute:02}:{second:02}{fraction}Z\"").into()))
}

/// A time without the difference from UTC that stands behind it: `+01:00`, `-0500`, `GMT+0100 (CET)`.
fn without_offset(text: &str) -> Option<&str> {
    let text = text.trim();
    let text =
        text.strip_suffix(')').and_then(|text| text.rsplit_once('(')).map_or(text, |(before, _)| before).trim_end();
    let (before, offset) = text.rsplit_once(['+', '-'])?;
    let is_offset = matches!(offset.len(), 2 | 4 | 5)
        && offset
            .bytes()
            .enumerate()
            .all(|(at, byte)| byte.is_ascii_digit() || byte == b':' && at == 2 && offset.len() == 5);
    let before = before.trim_end();
    let before = ["GMT", "UTC"].into_iter().find_map(|name| before.strip_suffix(name)).unwrap_or(before).trim_end();
    (is_offset && before.contains(':')).then_some(before)
}

fn json_text(text: &str) -> Cow<'static, str> {
    Cow::Owned(Value::from(text).to_string())
}

/// A number in JSON's spelling as a value of the type. It keeps its digits.
fn typed_exact(number: &str, value_type: ValueType) -> Result<String, Problem> {
    match value_type {
        ValueType::Text => Ok(Value::from(number).to_string()),
        ValueType::Boolean => boolean(number).map(str::to_owned),
        // Those were read before.
        ValueType::Date | ValueType::Time | ValueType::Cell => {
            Err(Problem::new("bad-time", format!("`{}` is no time", crop(number))))
        }
        ValueType::Integer => number::whole(number)
            .map(|whole| whole.to_string())
            .ok_or_else(|| Problem::new("bad-number", format!("`{}` is not a whole number of 64 bits", crop(number)))),
        ValueType::Number => match number.parse::<f64>() {
            Ok(float) if float.is_finite() => Ok(number.to_owned()),
            Ok(_) => Err(Problem::new("bad-number", format!("`{}` is not a finite number", crop(number)))),
            Err(_) => Err(Problem::new("bad-number", format!("`{}` is not a number", crop(number)))),
        },
    }
}

/// Words for yes and no that spreadsheets and shops write, in the languages of `names`, in lower case.
const YES: &str = "true t yes y on 1 wahr ja j vrai oui verdadero si sí vero sim verdadeiro waar prawda tak sant ano kyllä evet da да истина \
    是 はい 真 √ ✓ ✔ x";
const NO: &str = "false f no n off 0 falsch nein faux non falso não nao onwaar nee fałsz nie falskt nej nei ne ei hayır hayir nu нет ложь \
    否 いいえ 假 ✗ ✘";

/// A truth value.
pub(crate) fn boolean(text: &str) -> Result<&'static str, Problem> {
    let lower = text.to_lowercase();
    // A number is one whichever way it is written: `1`, `1.0`, `0,00`.
    let plain = match lower.split_once(['.', ',']) {
        Some((whole @ ("0" | "1"), fraction)) if fraction.bytes().all(|byte| byte == b'0') => whole,
        _ => lower.as_str(),
    };
    let is_in = |words: &str| words.split_ascii_whitespace().any(|word| word == plain);
    if is_in(YES) {
        Ok("true")
    } else if is_in(NO) {
        Ok("false")
    } else {
        let message = format!("`{}` is not true or false, yes or no, on or off, 1 or 0", crop(text));
        Err(Problem::new("bad-boolean", message))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::number::Style;
    use crate::time::TimeFormat;
    use crate::zone::Zone;

    fn typed(text: &str, value_type: ValueType) -> Result<Option<String>, &'static str> {
        typed_in(text, value_type, Zone::UTC)
    }

    fn typed_in(text: &str, value_type: ValueType, zone: Zone) -> Result<Option<String>, &'static str> {
        let time = TimeForm { formats: vec![TimeFormat::Auto], zone, order: None };
        let (value_type, style) = (Some(value_type), Style::default());
        let field = Field { key: String::new(), column: 0, value_type, style, time };
        let written = json(&Cell::Text(text), &field, &mut Numbers::default(), &mut Times::default());
        written.map(|value| value.map(Cow::into_owned)).map_err(|problem| problem.code)
    }

    #[test]
    fn numbers_keep_their_digits_and_are_json() {
        for (text, expected) in [
            ("29.33", "29.33"),
            ("-0.10", "-0.10"),
            ("1e3", "1e3"),
            ("0", "0"),
            ("12345678901234567890.5", "12345678901234567890.5"),
            ("00012.50", "12.50"),
            ("+5", "5"),
            (".5", "0.5"),
            ("5.", "5"),
            ("1.e3", "1e3"),
            ("1,5", "1.5"),
            ("1 000", "1000"),
        ] {
            let written = typed(text, ValueType::Number).unwrap().unwrap();
            assert_eq!(written, expected, "{text}");
            assert!(serde_json::from_str::<Value>(&written).unwrap().is_number());
        }
        for text in ["x", "inf", "-infinity", "1e999", "0x10", "12 %"] {
            assert_eq!(typed(text, ValueType::Number), Err("bad-number"), "{text}");
        }
        for text in ["NaN", "n/a", "NULL", "-", " "] {
            assert_eq!(typed(text, ValueType::Number), Ok(None), "{text}");
        }
        for (text, expected) in
            [("007", "7"), ("12.0", "12"), ("12,00", "12"), ("1e3", "1000"), ("(5)", "-5"), ("-0", "0")]
        {
            assert_eq!(typed(text, ValueType::Integer), Ok(Some(expected.to_owned())), "{text}");
        }
        for text in ["7.5", "1e-1", "9223372036854775808", "1e30"] {
            assert_eq!(typed(text, ValueType::Integer), Err("bad-number"), "{text}");
        }
    }

    #[test]
    fn truth_values_are_those_of_many_languages() {
        for text in ["Yes", "on", "TRUE", "1.0", "1", "Ja", "OUI", "Sí", "tak", "WAHR", "Vrai", "да"] {
            assert_eq!(typed(text, ValueType::Boolean), Ok(Some("true".to_owned())), "{text}");
        }
        for text in ["No", "off", "False", "0.0", "0,00", "Nein", "non", "falsch", "FAUX", "nie", "нет"] {
            assert_eq!(typed(text, ValueType::Boolean), Ok(Some("false".to_owned())), "{text}");
        }
        for text in ["maybe", "2", "1.5", "0.01", "jawohl"] {
            assert_eq!(typed(text, ValueType::Boolean), Err("bad-boolean"), "{text}");
        }
    }

    #[test]
    fn dates_and_times_have_one_form_however_they_are_written() {
        for text in
            ["1985-11-30", "30.11.1985", "30/11/1985", "11/30/1985", "30 Nov 1985", "November 30, 1985", "31381"]
        {
            assert_eq!(typed(text, ValueType::Date), Ok(Some("\"1985-11-30\"".to_owned())), "{text}");
            assert_eq!(typed(text, ValueType::Time), Ok(Some("\"1985-11-30T00:00:00Z\"".to_owned())), "{text}");
        }
        for (text, expected) in [
            ("2026-01-05T10:30:00.250+01:00", "2026-01-05T09:30:00.250Z"),
            ("5 Jan 2026 10:30", "2026-01-05T10:30:00Z"),
            ("1767603600", "2026-01-05T09:00:00Z"),
        ] {
            assert_eq!(typed(text, ValueType::Time), Ok(Some(format!("\"{expected}\""))), "{text}");
        }
        for text in ["", "n/a", "-", "NULL"] {
            assert_eq!(typed(text, ValueType::Date), Ok(None), "{text}");
        }
        for text in [
            "1955-03-04T00:00:00+01:00",
            "1955-03-04T00:00:00.000+0200",
            "1955-03-04 00:00:00-05",
            "1955-03-04T23:30:00-05:00",
            "Fri Mar 04 1955 00:00:00 GMT+0100 (CET)",
            "1955-03-04T00:00:00Z",
        ] {
            assert_eq!(typed(text, ValueType::Date), Ok(Some("\"1955-03-04\"".to_owned())), "{text}");
            let berlin = Zone::parse("Europe/Berlin").unwrap();
            assert_eq!(typed_in(text, ValueType::Date, berlin), Ok(Some("\"1955-03-04\"".to_owned())), "{text}");
        }
        assert_eq!(typed("05/01/2026", ValueType::Date), Err("ambiguous-time"));
        assert_eq!(typed("soon", ValueType::Date), Err("bad-time"));
    }

    /// Every day of some years, in every zone: a date is the day that is written, and its time begins it there.
    #[test]
    fn a_date_is_the_day_that_is_written_in_every_zone() {
        for zone in ["UTC", "+14:00", "-11:30", "Europe/Berlin", "America/Sao_Paulo", "Pacific/Apia"] {
            for day in (-20_000_i64..30_000).step_by(37) {
                let Local { year, month, day, .. } = Local::from_utc(day * 86_400_000).unwrap();
                for text in [format!("{year}-{month:02}-{day:02}"), format!("{day}.{month}.{year}")] {
                    let written = typed_in(&text, ValueType::Date, Zone::parse(zone).unwrap()).unwrap().unwrap();
                    assert_eq!(written, format!("\"{year:04}-{month:02}-{day:02}\""), "{text} in {zone}");
                }
            }
        }
    }
}
