//! Responsible for the columns of a manifest: which types there are, and what an input and an output may be.

use kith_model::plugin::{InputSpec, OutputSpec, PluginKind};
use kith_model::table::{ColumnType, MAX_RECORD_FIELDS, RecordField};
use toml::de::DeTable;

use super::keys;
use super::reader::{Reading, Section};
use super::words::{self, Lines};
use crate::abi::Abi;
use crate::text::bounded;

/// The types that need no more than a name, those of single values first.
pub(super) const TYPES: [(&str, ColumnType); 9] = [
    ("boolean", ColumnType::Boolean),
    ("int64", ColumnType::Int64),
    ("float64", ColumnType::Float64),
    ("timestamp", ColumnType::Timestamp),
    ("text", ColumnType::Text),
    ("int64-list", ColumnType::Int64List),
    ("float64-list", ColumnType::Float64List),
    ("timestamp-list", ColumnType::TimestampList),
    ("text-list", ColumnType::TextList),
];

/// How many of the types are of single values; they stand first.
const SINGLE_TYPES: usize = 5;

/// The type of an input that is a list of records, beside `fields`.
pub(super) const RECORDS: &str = "records";

/// What a score may be.
pub(super) const SCORE_TYPES: [ColumnType; 2] = [ColumnType::Float64, ColumnType::Int64];

/// A column's name: usable as a CEL identifier and in a URL.
fn check_column_name(root: &Section<'_, '_>, name: &str, start: usize) {
    let begins_well = name.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
    let goes_on_well = name.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_');
    if !(begins_well && goes_on_well && name.len() <= 64) {
        let message = format!(
            "`{name}` is not a column name; write a lower-case letter, then lower-case letters, digits \
             and `_`, 64 characters at most"
        );
        root.notes.add(&(start..start), message);
    }
}

/// The names of the types of single values.
pub(super) fn single_types() -> Vec<&'static str> {
    TYPES.into_iter().take(SINGLE_TYPES).map(|(name, _)| name).collect()
}

/// The names of the types that an input may have.
pub(super) fn input_types() -> Vec<&'static str> {
    TYPES.map(|(name, _)| name).into_iter().chain([RECORDS]).collect()
}

/// A type of those that need no more than a name; `names` are those that are offered.
fn read_type(section: &Section<'_, '_>, names: &[&str]) -> Option<ColumnType> {
    let names = names.join(", ");
    section.parsed("type", &format!("one of {names}"), |text| {
        let found = TYPES.into_iter().find(|(name, _)| *name == text);
        found.map(|(_, column_type)| column_type).ok_or_else(|| match text {
            RECORDS => "records are for inputs alone: a tag or score is one value; declare several outputs, or a boolean for each"
                .to_owned(),
            _ => format!("`{text}` is not a type; write one of {names}"),
        })
    })
}

fn read_input_type(section: &Section<'_, '_>, abi: Option<Abi>) -> Option<ColumnType> {
    if section.table.get("type").and_then(|value| value.get_ref().as_str()) != Some(RECORDS) {
        if section.table.contains_key("fields") {
            section.wrong("fields", "only records have fields; write `type = \"records\"`, or remove them");
        }
        return read_type(section, &input_types());
    }
    if abi == Some(Abi::V0_1) {
        section.wrong(
            "type",
            "contract 0.1.0 has no records, 0.2.0 has; write `abi = \"0.2\"` and build the plugin for it",
        );
    }
    read_fields(section).map(ColumnType::Records)
}

/// The fields of an input's records, in the order of the file.
fn read_fields(section: &Section<'_, '_>) -> Option<Vec<RecordField>> {
    if !section.table.contains_key("fields") {
        section.missing("fields", "a type for each field, e.g. { time = \"timestamp\", amount = \"float64\" }");
    }
    let (table, _) = section.table("fields")?;
    if table.is_empty() || table.len() > MAX_RECORD_FIELDS {
        let count = table.len();
        section.wrong("fields", format!("records have 1 to {MAX_RECORD_FIELDS} fields, and `fields` declares {count}"));
    }
    let mut fields = Vec::with_capacity(table.len());
    for (name, value) in table {
        let (text, start): (&str, usize) = (name.get_ref(), name.span().start);
        check_column_name(section, text, start);
        let mut single = TYPES.into_iter().take(SINGLE_TYPES);
        match value.get_ref().as_str().and_then(|written| single.find(|(name, _)| *name == written)) {
            Some((_, column_type)) => fields.push((start, RecordField { name: text.to_owned(), column_type })),
            None => {
                let names = single_types().join(", ");
                let message = format!("the field `{text}` has no type of a single value; write one of {names}");
                section.notes.add(&value.span(), message);
            }
        }
    }
    fields.sort_by_key(|(start, _)| *start);
    Some(fields.into_iter().map(|(_, field)| field).collect())
}

pub(super) fn read_inputs(root: &Section<'_, '_>, abi: Option<Abi>) -> Vec<InputSpec> {
    let read = |(name, start, table): (&str, usize, &DeTable<'_>)| {
        check_column_name(root, name, start);
        let title = format!("[inputs.{name}]");
        let section = Section::open(root.notes, table, &title, start, &keys::INPUT);
        let expression = section.required_text("expression", "an expression over the profile, e.g. \"traits.city\"");
        let column_type = read_input_type(&section, abi);
        let reason = section.required_text("reason", "why the plugin needs it; the admin reads this");
        Some(InputSpec {
            name: name.to_owned(),
            expression: expression?.to_owned(),
            column_type: column_type?,
            reason: reason?.to_owned(),
        })
    };
    root.named_tables("inputs").into_iter().filter_map(read).collect()
}

pub(super) fn read_outputs(root: &Section<'_, '_>, kind: Option<PluginKind>) -> Vec<OutputSpec> {
    let read = |(name, start, table): (&str, usize, &DeTable<'_>)| {
        check_column_name(root, name, start);
        let title = format!("[outputs.{name}]");
        let section = Section::open(root.notes, table, &title, start, &keys::OUTPUT);
        // Lists are read, and refused with the reason by whoever holds what is declared against itself.
        let offered = match kind {
            Some(PluginKind::Scorer) => vec!["float64", "int64"],
            _ => single_types(),
        };
        let column_type = read_type(&section, &offered);
        let description = section.required_text("description", "what the value means");
        let values = read_values(&section);
        let category = section.text("category").unwrap_or_default().to_owned();
        let column_type = column_type?;
        if kind == Some(PluginKind::Scorer) && !SCORE_TYPES.contains(&column_type) {
            section.wrong("type", "a score is a number; write float64 or int64");
        }
        if !values.is_empty() && !matches!(column_type, ColumnType::Text | ColumnType::TextList) {
            section.wrong("values", "only texts have declared values; remove `values` or make the type text");
        }
        Some(OutputSpec { name: name.to_owned(), column_type, values, description: description?.to_owned(), category })
    };
    root.named_tables("outputs").into_iter().filter_map(read).collect()
}

/// The values that a text may take; none where it may take any.
fn read_values(section: &Section<'_, '_>) -> Vec<String> {
    let values = section.texts("values");
    if section.notes.reading() == Reading::New {
        let written = section.table.get("values").and_then(|value| value.get_ref().as_array());
        if written.is_some_and(|items| items.iter().len() == 0) {
            section.wrong("values", "`values` lists none, so that no value could be given; leave it out for any");
        }
        for (value, place) in values.iter().filter(|(value, _)| !words::is_readable(value, Lines::One)) {
            let message = format!("`{}` has control characters; write the value without them", bounded(value));
            section.notes.add(place, message);
        }
        words::note_doubles(section, "values", &values);
    }
    values.into_iter().map(|(value, _)| value.to_owned()).collect()
}
