//! One row becomes one event, after the mapping of the configuration.
//!
//! Leaves finding rows to `input`. A row is either the fields of a line or a JSON object; the mapping does not notice.

use std::borrow::Cow;

use kith_plugin_sdk::{Event, Identifier, Timestamp};
use serde_json::{Map, Value};

use crate::settings::{ColumnId, Field, Mapping, NameSource, Part, Template, ValueType};

/// Why a row is set aside.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Problem {
    pub(crate) code: &'static str,
    pub(crate) message: String,
}

impl Problem {
    pub(crate) fn new(code: &'static str, message: impl Into<String>) -> Problem {
        Problem { code, message: message.into() }
    }
}

/// A row by the numbers of the mapping's columns.
pub(crate) enum Row<'r> {
    /// The fields of a line, and which of them each column is.
    Fields { fields: &'r [Cow<'r, str>], places: &'r [usize] },
    /// A JSON object.
    Object(&'r Map<String, Value>),
}

/// What stands in a row's column.
enum Cell<'r> {
    Absent,
    Text(&'r str),
    Json(&'r Value),
}

impl<'r> Row<'r> {
    fn cell(&self, mapping: &Mapping, column: ColumnId) -> Cell<'r> {
        match self {
            Row::Fields { fields, places } => match fields.get(places[column]).map(Cow::as_ref) {
                None | Some("") => Cell::Absent,
                Some(text) => Cell::Text(text),
            },
            Row::Object(object) => match find(object, &mapping.columns[column]) {
                None | Some(Value::Null) => Cell::Absent,
                Some(Value::String(text)) if text.is_empty() => Cell::Absent,
                Some(Value::String(text)) => Cell::Text(text),
                Some(value) => Cell::Json(value),
            },
        }
    }

    /// A template's text; `None` where one of its columns is empty.
    fn text(&self, mapping: &Mapping, template: &Template) -> Result<Option<Cow<'r, str>>, Problem> {
        let mut whole = String::new();
        for part in &template.parts {
            match part {
                Part::Constant(text) => whole.push_str(text),
                Part::Column(column) => {
                    let text = match self.cell(mapping, *column) {
                        Cell::Absent => return Ok(None),
                        Cell::Text(text) => Cow::Borrowed(text),
                        Cell::Json(Value::Object(_) | Value::Array(_)) => {
                            let name = &mapping.columns[*column];
                            return Err(Problem::new(
                                "bad-text",
                                format!("`{name}` is an object or a list, not a text"),
                            ));
                        }
                        Cell::Json(value) => Cow::Owned(value.to_string()),
                    };
                    if template.parts.len() == 1 {
                        return Ok(Some(text));
                    }
                    whole.push_str(&text);
                }
            }
        }
        Ok(Some(Cow::Owned(whole)))
    }
}

/// A key of the object, or a path of keys such as `customer.id` into the objects in it.
fn find<'v>(object: &'v Map<String, Value>, path: &str) -> Option<&'v Value> {
    if let Some(value) = object.get(path) {
        return Some(value);
    }
    path.match_indices('.').find_map(|(at, _)| find(object.get(&path[..at])?.as_object()?, &path[at + 1..]))
}

/// Turn a row into an event. Where the configuration names no column for the message id it has none: the kernel knows the row by
/// its content, and by how many equal ones came before it in the file.
pub(crate) fn read(row: &Row<'_>, mapping: &Mapping) -> Result<Event, Problem> {
    let mut event = Event { kind: mapping.kind, ..Event::default() };
    for (kind, template) in &mapping.identifiers {
        if let Some(value) = row.text(mapping, template)?.filter(|value| !value.trim().is_empty()) {
            // An address is one in whatever case it was typed in: a refusal under `Ann@x.io` is one of `ann@x.io`.
            let value = if kind == "email" { Cow::Owned(value.to_lowercase()) } else { value };
            event.identifiers.push(Identifier::new(kind.clone(), value));
        }
    }
    if event.identifiers.is_empty() {
        let kinds: Vec<&str> = mapping.identifiers.iter().map(|(kind, _)| kind.as_str()).collect();
        let message = format!("the row names nobody: the columns of {} are empty", kinds.join(", "));
        return Err(Problem::new("missing-identifier", message));
    }
    event.name = name(row, mapping)?;
    event.time = time(row, mapping)?;
    event.properties = object(row, mapping, &mapping.properties)?;
    event.traits = object(row, mapping, &mapping.traits)?;
    event.message_id = match &mapping.message_id {
        None => None,
        Some(template) => match row.text(mapping, template)? {
            Some(id) if id.len() <= MAX_MESSAGE_ID_BYTES => Some(id.into_owned()),
            Some(id) => {
                let message =
                    format!("the message id has {} bytes, at most {MAX_MESSAGE_ID_BYTES} are taken", id.len());
                return Err(Problem::new("bad-message-id", message));
            }
            None => return Err(Problem::new("missing-message-id", "the column of the message id is empty")),
        },
    };
    Ok(event)
}

/// As long as the ids that the kernel keeps for recognising repeats.
const MAX_MESSAGE_ID_BYTES: usize = 256;

fn name(row: &Row<'_>, mapping: &Mapping) -> Result<String, Problem> {
    match &mapping.name {
        NameSource::Constant(name) => Ok(name.clone()),
        NameSource::Column(template, rename) => match row.text(mapping, template)? {
            Some(name) => Ok(rename.get(name.as_ref()).cloned().unwrap_or_else(|| name.into_owned())),
            None => Err(Problem::new("missing-event-name", "the column of the event's name is empty")),
        },
    }
}

fn time(row: &Row<'_>, mapping: &Mapping) -> Result<Option<Timestamp>, Problem> {
    let Some((template, formats)) = &mapping.time else { return Ok(None) };
    let Some(text) = row.text(mapping, template)? else {
        return Err(Problem::new("missing-time", "the column of the time is empty"));
    };
    let text = text.trim();
    let time = formats.iter().find_map(|format| format.read(text, mapping.zone_ms));
    match time.and_then(|time| time.checked_add(mapping.shift_ms)) {
        Some(time) => Ok(Some(time)),
        None => Err(Problem::new("bad-time", format!("the time `{}` has none of the configured formats", crop(text)))),
    }
}

/// The beginning of a value for a message to a person.
fn crop(text: &str) -> &str {
    &text[..text.floor_char_boundary(64)]
}

/// The chosen columns as a JSON object, empty cells left out; empty for none.
fn object(row: &Row<'_>, mapping: &Mapping, fields: &[Field]) -> Result<String, Problem> {
    let mut object = String::new();
    for field in fields {
        let cell = row.cell(mapping, field.column);
        if matches!(cell, Cell::Absent) {
            continue;
        }
        object.push(if object.is_empty() { '{' } else { ',' });
        object.push_str(&field.key);
        write_value(&mut object, &cell, field.value_type)
            .map_err(|problem| problem_in(&mapping.columns[field.column], problem))?;
    }
    if !object.is_empty() {
        object.push('}');
    }
    Ok(object)
}

fn problem_in(column: &str, (code, what): (&'static str, String)) -> Problem {
    Problem::new(code, format!("column `{column}`: {what}"))
}

fn write_value(
    object: &mut String,
    cell: &Cell<'_>,
    value_type: Option<ValueType>,
) -> Result<(), (&'static str, String)> {
    let text = match (cell, value_type) {
        (Cell::Absent, _) => return Ok(()),
        // Without a type a JSON value stays what it is, and so it does where the type is its own.
        (Cell::Json(value), None) => Cow::Owned(value.to_string()),
        (Cell::Json(value), Some(ValueType::Text)) => json_text(&value.to_string()),
        (Cell::Text(text), None | Some(ValueType::Text)) => json_text(text),
        (Cell::Json(value), Some(value_type)) => typed(&value.to_string(), value_type)?.into_owned().into(),
        (Cell::Text(text), Some(value_type)) => typed(text.trim(), value_type)?,
    };
    object.push_str(&text);
    Ok(())
}

fn json_text(text: &str) -> Cow<'static, str> {
    Cow::Owned(Value::from(text).to_string())
}

/// A number, whole number or truth value as JSON text. A number keeps its digits where JSON writes them the same way.
fn typed(text: &str, value_type: ValueType) -> Result<Cow<'_, str>, (&'static str, String)> {
    match value_type {
        ValueType::Text => Ok(json_text(text)),
        ValueType::Integer => match text.parse::<i64>() {
            Ok(number) => Ok(Cow::Owned(number.to_string())),
            Err(_) => Err(("bad-number", format!("`{}` is not a whole number of 64 bits", crop(text)))),
        },
        ValueType::Number => match text.parse::<f64>() {
            Ok(number) if !number.is_finite() => {
                Err(("bad-number", format!("`{}` is not a finite number", crop(text))))
            }
            Ok(_) if is_json_number(text) => Ok(Cow::Borrowed(text)),
            Ok(number) => Ok(Cow::Owned(Value::from(number).to_string())),
            Err(_) => Err(("bad-number", format!("`{}` is not a number", crop(text)))),
        },
        ValueType::Boolean => match text.to_ascii_lowercase().as_str() {
            "true" | "t" | "yes" | "y" | "1" => Ok(Cow::Borrowed("true")),
            "false" | "f" | "no" | "n" | "0" => Ok(Cow::Borrowed("false")),
            _ => Err(("bad-boolean", format!("`{}` is not true or false, yes or no, 1 or 0", crop(text)))),
        },
    }
}

/// Whether a text that Rust reads as a number is one in JSON too: no `+`, no leading zeros, digits on both sides of the point.
fn is_json_number(text: &str) -> bool {
    let digits = text.strip_prefix('-').unwrap_or(text);
    let is_begun = match digits.as_bytes() {
        [b'0'] => true,
        [b'0', next, ..] => !next.is_ascii_digit(),
        [first, ..] => first.is_ascii_digit(),
        [] => false,
    };
    let point = digits.find('.');
    is_begun && point.is_none_or(|at| digits.as_bytes().get(at + 1).is_some_and(u8::is_ascii_digit))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_keep_their_digits_where_json_allows() {
        for (text, expected) in [
            ("29.33", "29.33"),
            ("-0.10", "-0.10"),
            ("1e3", "1e3"),
            ("0", "0"),
            ("12345678901234567890.5", "12345678901234567890.5"),
            ("00012.50", "12.5"),
            ("+5", "5.0"),
            (".5", "0.5"),
            ("5.", "5.0"),
            ("1.e3", "1000.0"),
        ] {
            let written = typed(text, ValueType::Number).unwrap();
            assert_eq!(written, expected, "{text}");
            assert!(serde_json::from_str::<Value>(&written).unwrap().is_number());
        }
        for text in ["", "-", "1,5", "NaN", "inf", "-infinity", "1e999", "0x10", "1 000"] {
            assert!(typed(text, ValueType::Number).is_err(), "{text}");
        }
        assert_eq!(typed("007", ValueType::Integer).unwrap(), "7");
        assert!(typed("7.0", ValueType::Integer).is_err());
        assert_eq!(typed("Yes", ValueType::Boolean).unwrap(), "true");
        assert!(typed("maybe", ValueType::Boolean).is_err());
    }

    #[test]
    fn a_path_finds_the_longest_key_first() {
        let object: Map<String, Value> =
            serde_json::from_str(r#"{"a.b":1,"a":{"b":2,"c":{"d":3}},"x.y":{"z":4}}"#).unwrap();
        for (path, expected) in
            [("a.b", Some(1)), ("a.c.d", Some(3)), ("x.y.z", Some(4)), ("a.d", None), ("a.b.c", None)]
        {
            assert_eq!(find(&object, path).and_then(Value::as_i64), expected, "{path}");
        }
    }
}
