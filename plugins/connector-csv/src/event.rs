//! One row becomes one event, after the mapping of the configuration.
//!
//! Leaves finding rows to `input`. A row is either the fields of a line or a JSON object; the mapping does not notice.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kith_plugin_sdk::{Event, Identifier, Timestamp};
use serde_json::value::RawValue;
use serde_json::{Map, Value};

use crate::column::{Ids, Numbers, Times};
use crate::consent::{self, Unclear};
use crate::errors::{Errors, is_error};
use crate::json;
use crate::settings::{ColumnId, Field, Mapping, NameSource, Part, Template};
use crate::value::{self, is_nothing};
use crate::zone::Local;

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

/// What is seen of the file's columns.
#[derive(Debug, Clone, Default)]
pub(crate) struct Seen {
    /// By the numbers of the mapping's columns.
    pub(crate) numbers: Vec<Numbers>,
    /// Of columns whose dates or times become properties or traits, by the same numbers.
    pub(crate) dates: Vec<Times>,
    /// Of the time at which the row happened.
    pub(crate) times: Times,
    /// Rows whose trait `consent` is no object of purposes, and so refuses everything.
    pub(crate) refusing: u64,
    /// Cells of consents that are neither yes nor no.
    pub(crate) unclear: Unclear,
    /// Cells that hold the error of a formula.
    pub(crate) errors: Errors,
    /// Of columns that are ids, by the same numbers.
    pub(crate) ids: Vec<Ids>,
}

/// A field of a line.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct FieldText<'r> {
    pub(crate) text: Cow<'r, str>,
    pub(crate) is_quoted: bool,
}

/// A row by the numbers of the mapping's columns.
pub(crate) enum Row<'r> {
    /// The fields of a line, and which of them each column is.
    Fields { fields: &'r [FieldText<'r>], places: &'r [usize], exactness: Exactness },
    /// A JSON object.
    Object(&'r Map<String, Value>),
}

/// Whether a field without quotes is a number or truth value as a program wrote it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Exactness {
    /// As people write, whatever is quoted.
    Text,
    /// Fields without quotes are JSON's numbers and truth values.
    Unquoted,
}

/// What stands in a row's column.
pub(crate) enum Cell<'r> {
    Absent,
    Text(&'r str),
    /// A number or truth value as JSON writes it.
    Exact(&'r str),
    Json(&'r Value),
}

impl<'r> Row<'r> {
    /// What is known of a cell: of the error of a formula nothing.
    fn cell(&self, mapping: &Mapping, column: ColumnId) -> Cell<'r> {
        match self.written(mapping, column) {
            Cell::Text(text) if is_error(text) => Cell::Absent,
            cell => cell,
        }
    }

    /// A cell as it is written.
    fn written(&self, mapping: &Mapping, column: ColumnId) -> Cell<'r> {
        match self {
            Row::Fields { fields, places, exactness } => match fields.get(places[column]) {
                None => Cell::Absent,
                Some(field) if field.text.is_empty() => Cell::Absent,
                Some(field) if !field.is_quoted && mapping.nulls.iter().any(|null| *null == field.text) => Cell::Absent,
                // Whoever sends such a file by hand may have left quotes out.
                Some(field) if !field.is_quoted && *exactness == Exactness::Unquoted && is_exact(&field.text) => {
                    Cell::Exact(&field.text)
                }
                Some(field) => Cell::Text(&field.text),
            },
            Row::Object(object) => match find(object, &mapping.columns[column]) {
                None | Some(Value::Null) => Cell::Absent,
                Some(Value::String(text)) if text.is_empty() => Cell::Absent,
                Some(Value::String(text)) => json::digits(text).map_or(Cell::Text(json::plain(text)), Cell::Exact),
                Some(value) => Cell::Json(value),
            },
        }
    }

    /// A template's text; `None` where one of its columns is empty.
    fn text(&self, mapping: &Mapping, template: &Template) -> Result<Option<Cow<'r, str>>, Problem> {
        self.joined(mapping, template, |_, text, _| Ok(text))
    }

    /// The same of a template that names the record: spaces around an id are its sheet's, and no other record.
    fn message_id(
        &self,
        mapping: &Mapping,
        template: &Template,
        seen: &mut [Ids],
    ) -> Result<Option<Cow<'r, str>>, Problem> {
        self.joined(mapping, template, |column, text, exactness| {
            let text = match text {
                Cow::Borrowed(text) => Cow::Borrowed(text.trim()),
                Cow::Owned(text) => Cow::Owned(text.trim().to_owned()),
            };
            if text.is_empty() {
                return Err(missing_message_id());
            }
            read_id(mapping, column, text, seen, exactness)
        })
    }

    /// The same of a template that is an id.
    fn id(&self, mapping: &Mapping, template: &Template, seen: &mut [Ids]) -> Result<Option<Cow<'r, str>>, Problem> {
        self.joined(mapping, template, |column, text, exactness| read_id(mapping, column, text, seen, exactness))
    }

    /// The same of a template that is a time, which a database may have wrapped.
    fn time(&self, mapping: &Mapping, template: &Template) -> Result<Option<Cow<'r, str>>, Problem> {
        if let [Part::Column(column)] = template.parts[..]
            && let Cell::Json(value @ Value::Object(_)) = self.cell(mapping, column)
            && let Some(text) = json::dated(value)
        {
            return Ok(Some(Cow::Owned(text)));
        }
        self.text(mapping, template)
    }

    /// What `read` makes of the text of each column, told whether it is a number of a sheet, and the constants between.
    fn joined(
        &self,
        mapping: &Mapping,
        template: &Template,
        mut read: impl FnMut(ColumnId, Cow<'r, str>, Exactness) -> Result<Cow<'r, str>, Problem>,
    ) -> Result<Option<Cow<'r, str>>, Problem> {
        let mut whole = String::new();
        for part in &template.parts {
            match part {
                Part::Constant(text) => whole.push_str(text),
                Part::Column(column) => {
                    let cell = self.cell(mapping, *column);
                    let exactness = match (self, &cell) {
                        (Row::Fields { .. }, Cell::Exact(_)) => Exactness::Unquoted,
                        _ => Exactness::Text,
                    };
                    let text = match cell {
                        Cell::Absent => return Ok(None),
                        Cell::Text(text) | Cell::Exact(text) => Cow::Borrowed(text),
                        Cell::Json(Value::Object(_) | Value::Array(_)) => {
                            let name = &mapping.columns[*column];
                            return Err(Problem::new(
                                "bad-text",
                                format!("`{name}` is an object or a list, not a text"),
                            ));
                        }
                        Cell::Json(value) => Cow::Owned(value.to_string()),
                    };
                    let text = read(*column, text, exactness)?;
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

/// What spreadsheets make of a text that looks like a number, so that it stays a text: `="00123"`. `None` for another text.
pub(crate) fn text_of_formula(text: &str) -> Option<String> {
    let inner = text.strip_prefix("=\"")?.strip_suffix('"')?;
    let plain = inner.replace("\"\"", "");
    (!plain.contains('"')).then(|| inner.replace("\"\"", "\""))
}

/// What stands behind the apostrophe that spreadsheets, and exports which are to be opened in one, put before a number that is to stay
/// a text, or that they would take for a formula: `'+49 171 1234567`, `'00123`. `None` for another text, which may begin with an
/// apostrophe of its own.
pub(crate) fn text_behind_apostrophe(text: &str) -> Option<String> {
    let inner = text.strip_prefix('\'')?;
    let digits = inner.strip_prefix(['+', '-']).unwrap_or(inner);
    let is_number = digits.bytes().all(|byte| byte.is_ascii_digit() || b" ().-".contains(&byte));
    (is_number && digits.bytes().any(|byte| byte.is_ascii_digit())).then(|| inner.to_owned())
}

/// Whether a field is a number or truth value as JSON writes it.
fn is_exact(text: &str) -> bool {
    serde_json::from_str(text).is_ok_and(|value: &RawValue| !value.get().starts_with(['"', '[', '{', 'n']))
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
pub(crate) fn read(row: &Row<'_>, mapping: &Mapping, seen: &mut Seen) -> Result<Event, Problem> {
    let mut event = Event { kind: mapping.kind, ..Event::default() };
    for column in 0..mapping.columns.len() {
        if let Cell::Text(text) = row.written(mapping, column)
            && is_error(text)
        {
            seen.errors.note_cell(text);
        }
    }
    for (kind, template) in &mapping.identifiers {
        if let Some(value) = row.id(mapping, template, &mut seen.ids)?.filter(|value| !value.trim().is_empty()) {
            event.identifiers.push(Identifier::new(kind.clone(), value));
        }
    }
    if event.identifiers.is_empty() {
        let kinds: Vec<&str> = mapping.identifiers.iter().map(|(kind, _)| kind.as_str()).collect();
        let message = format!("the row names nobody: the columns of {} are empty", kinds.join(", "));
        return Err(Problem::new("missing-identifier", message));
    }
    event.name = name(row, mapping)?;
    event.time = time(row, mapping, &mut seen.times)?;
    event.properties = object(row, mapping, &mapping.properties, seen)?;
    event.traits = traits(row, mapping, seen)?;
    event.message_id = match &mapping.message_id {
        None => None,
        Some(template) => match row.message_id(mapping, template, &mut seen.ids)? {
            Some(id) if id.len() <= MAX_MESSAGE_ID_BYTES => Some(id.into_owned()),
            Some(id) => {
                let message =
                    format!("the message id has {} bytes, at most {MAX_MESSAGE_ID_BYTES} are taken", id.len());
                return Err(Problem::new("bad-message-id", message));
            }
            None => return Err(missing_message_id()),
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

fn time(row: &Row<'_>, mapping: &Mapping, seen: &mut Times) -> Result<Option<Timestamp>, Problem> {
    let Some(column) = &mapping.time else { return Ok(None) };
    let Some(text) = row.time(mapping, &column.template)?.filter(|text| !is_nothing(text.trim())) else {
        return Err(Problem::new("missing-time", "the column of the time is empty"));
    };
    let text = text.trim();
    let form = &column.form;
    let time = seen
        .read(text, &form.formats, &form.zone, form.order)
        .map_err(|problem| problem_in(&column.template.name(&mapping.columns), problem))?;
    // A year that RFC 3339 cannot write is no time.
    let shifted = time.checked_add(mapping.shift_ms).filter(|shifted| Local::from_utc(*shifted).is_some());
    shifted.map(Some).ok_or_else(|| Problem::new("bad-time", format!("the time `{text}` is shifted out of range")))
}

/// The facts of a row, what it says of consent among them.
fn traits(row: &Row<'_>, mapping: &Mapping, seen: &mut Seen) -> Result<String, Problem> {
    let traits = object(row, mapping, &mapping.traits, seen)?;
    if mapping.consent.is_empty() {
        if mapping.traits.iter().any(Field::is_consent) && says_consent_otherwise(&traits) {
            seen.refusing += 1;
        }
        return Ok(traits);
    }
    let mut consent = String::new();
    for column in &mapping.consent {
        // What cannot be read is a refusal.
        let said = consent::said(&row.written(mapping, column.column), column, &mut seen.unclear);
        said.iter().for_each(|said| push_member(&mut consent, &column.key, said));
    }
    if !consent.is_empty() {
        consent.push('}');
    }
    Ok(match (consent.is_empty(), traits.strip_suffix('}')) {
        (true, _) => traits,
        (false, None) => format!("{{\"consent\":{consent}}}"),
        (false, Some(rest)) => format!("{rest},\"consent\":{consent}}}"),
    })
}

/// Whether the trait `consent` of these is there and no object.
fn says_consent_otherwise(traits: &str) -> bool {
    let traits: BTreeMap<String, &RawValue> = serde_json::from_str(traits).unwrap_or_default();
    traits.iter().any(|(name, value)| name.eq_ignore_ascii_case("consent") && !value.get().starts_with('{'))
}

/// The chosen columns as a JSON object, empty cells left out; empty for none.
fn object(row: &Row<'_>, mapping: &Mapping, fields: &[Field], seen: &mut Seen) -> Result<String, Problem> {
    let mut object = String::new();
    for field in fields {
        let cell = row.cell(mapping, field.column);
        let (numbers, dates) = (&mut seen.numbers[field.column], &mut seen.dates[field.column]);
        let written = value::json(&cell, field, numbers, dates)
            .map_err(|problem| problem_in(&mapping.columns[field.column], problem))?;
        let Some(text) = written else { continue };
        push_member(&mut object, &field.key, &text);
    }
    if !object.is_empty() {
        object.push('}');
    }
    Ok(object)
}

fn missing_message_id() -> Problem {
    Problem::new("missing-message-id", "the column of the message id is empty")
}

fn read_id<'r>(
    mapping: &Mapping,
    column: ColumnId,
    text: Cow<'r, str>,
    seen: &mut [Ids],
    exactness: Exactness,
) -> Result<Cow<'r, str>, Problem> {
    seen[column].read(text, exactness).map_err(|problem| problem_in(&mapping.columns[column], problem))
}

fn push_member(object: &mut String, key: &str, value: &str) {
    object.push(if object.is_empty() { '{' } else { ',' });
    object.push_str(key);
    object.push_str(value);
}

fn problem_in(column: &str, Problem { code, message }: Problem) -> Problem {
    Problem { code, message: format!("column `{column}`: {message}") }
}

#[cfg(test)]
mod tests {
    use super::*;

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
