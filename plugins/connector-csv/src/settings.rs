//! The installation's configuration, and what is made of it once per call: names become column numbers, patterns are taken apart.
//!
//! Leaves what the JSON Schema in `plugin.toml` can say (types, known keys) to the kernel, which has already checked it.

use std::collections::BTreeMap;

use kith_plugin_sdk::{EventKind, Failure};
use serde::Deserialize;

use crate::time::TimeFormat;

/// The configuration as it is written.
#[derive(Deserialize)]
pub(crate) struct Settings {
    #[serde(default)]
    pub(crate) format: Format,
    #[serde(default = "comma")]
    delimiter: String,
    #[serde(default = "double_quote")]
    quote: String,
    #[serde(default)]
    pub(crate) trim: bool,
    #[serde(default = "yes")]
    pub(crate) header: bool,
    #[serde(default)]
    pub(crate) columns: Vec<String>,
    #[serde(default)]
    pub(crate) encoding: Encoding,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    event: EventName,
    identifiers: BTreeMap<String, String>,
    #[serde(default)]
    properties: Selection,
    #[serde(default)]
    traits: Selection,
    time: Option<TimeSource>,
    message_id: Option<String>,
    /// The kernel's business: what becomes of a record whose id came before.
    #[serde(default, rename = "upsert")]
    _upsert: bool,
    #[serde(default)]
    shift_days: i64,
    #[serde(default)]
    shift_ms: i64,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    #[default]
    Csv,
    Ndjson,
}

#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Encoding {
    #[default]
    #[serde(rename = "utf-8")]
    Utf8,
    #[serde(rename = "windows-1252")]
    Windows1252,
    #[serde(rename = "latin1")]
    Latin1,
    /// The byte order mark tells the order; without one, little-endian.
    #[serde(rename = "utf-16")]
    Utf16,
    #[serde(rename = "utf-16le")]
    Utf16Le,
    #[serde(rename = "utf-16be")]
    Utf16Be,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum Kind {
    #[default]
    Track,
    Identify,
}

#[derive(Deserialize, Default)]
struct EventName {
    name: Option<String>,
    column: Option<String>,
    #[serde(default)]
    rename: BTreeMap<String, String>,
}

/// Which columns become properties or traits: a list keeps their names, a map gives new ones.
#[derive(Deserialize)]
#[serde(untagged)]
enum Selection {
    List(Vec<String>),
    Map(BTreeMap<String, Selected>),
}

impl Default for Selection {
    fn default() -> Selection {
        Selection::List(Vec::new())
    }
}

#[derive(Deserialize)]
#[serde(untagged)]
enum Selected {
    Column(String),
    Typed {
        column: String,
        #[serde(rename = "type")]
        value_type: Option<ValueType>,
    },
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ValueType {
    Text,
    Number,
    Integer,
    Boolean,
}

#[derive(Deserialize)]
struct TimeSource {
    column: String,
    #[serde(default)]
    formats: Vec<String>,
    #[serde(default = "utc")]
    zone: String,
}

fn comma() -> String {
    ",".to_owned()
}

fn double_quote() -> String {
    "\"".to_owned()
}

fn utc() -> String {
    "UTC".to_owned()
}

fn yes() -> bool {
    true
}

/// What separates the fields of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Delimiter {
    Byte(u8),
    /// Runs of spaces and tabs; also before the first field and after the last.
    Whitespace,
}

/// The number of a column among those that the mapping names.
pub(crate) type ColumnId = usize;

/// A text made of constants and columns, e.g. `cdnow-{customer_id}`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) parts: Vec<Part>,
}

#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Part {
    Constant(String),
    Column(ColumnId),
}

/// Where an event's name comes from.
pub(crate) enum NameSource {
    Constant(String),
    Column(Template, BTreeMap<String, String>),
}

/// A column that becomes a property or a trait.
pub(crate) struct Field {
    /// The key as JSON text, with its quotes and colon.
    pub(crate) key: String,
    pub(crate) column: ColumnId,
    pub(crate) value_type: Option<ValueType>,
}

/// The configuration, ready for use.
pub(crate) struct Mapping {
    /// The names of all columns that are used.
    pub(crate) columns: Vec<String>,
    pub(crate) kind: EventKind,
    pub(crate) name: NameSource,
    pub(crate) identifiers: Vec<(String, Template)>,
    pub(crate) properties: Vec<Field>,
    pub(crate) traits: Vec<Field>,
    pub(crate) time: Option<(Template, Vec<TimeFormat>)>,
    pub(crate) zone_ms: i64,
    pub(crate) shift_ms: i64,
    pub(crate) message_id: Option<Template>,
}

impl Settings {
    /// What separates the fields.
    pub(crate) fn delimiter(&self) -> Result<Delimiter, Failure> {
        Ok(match self.delimiter.as_str() {
            "whitespace" => Delimiter::Whitespace,
            "tab" => Delimiter::Byte(b'\t'),
            text => match text.as_bytes() {
                [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Delimiter::Byte(*byte),
                _ => {
                    let message = format!("the delimiter `{text}` is not one ASCII character, `tab` or `whitespace`");
                    return Err(Failure::permanent(message));
                }
            },
        })
    }

    /// What surrounds a field that holds delimiters or line ends; `None` where nothing does.
    pub(crate) fn quote(&self) -> Result<Option<u8>, Failure> {
        match self.quote.as_bytes() {
            [] => Ok(None),
            [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Ok(Some(*byte)),
            _ => Err(Failure::permanent(format!("the quote `{}` is not one ASCII character or empty", self.quote))),
        }
    }

    /// Take the patterns apart and number the columns.
    pub(crate) fn mapping(&self) -> Result<Mapping, Failure> {
        let mut columns = Columns(Vec::new());
        let kind = match self.kind {
            Kind::Track => EventKind::Track,
            Kind::Identify => EventKind::Identify,
        };
        let name = match (&self.event.name, &self.event.column) {
            (Some(name), None) => NameSource::Constant(name.clone()),
            (None, Some(column)) => NameSource::Column(columns.template(column)?, self.event.rename.clone()),
            (None, None) if kind == EventKind::Identify => NameSource::Constant(String::new()),
            _ => {
                let message =
                    "`event` needs either `name`, the same for all rows, or `column`, the column that holds it";
                return Err(Failure::permanent(message));
            }
        };
        let mut identifiers = Vec::new();
        for (kind, template) in &self.identifiers {
            identifiers.push((kind.clone(), columns.template(template)?));
        }
        if identifiers.is_empty() {
            return Err(Failure::permanent("`identifiers` is empty; name the column of at least one, e.g. user_id"));
        }
        let (mut time, mut zone_ms) = (None, 0);
        if let Some(source) = &self.time {
            let patterns: Vec<&str> = match source.formats.as_slice() {
                [] => vec!["rfc3339"],
                formats => formats.iter().map(String::as_str).collect(),
            };
            let formats = patterns.into_iter().map(TimeFormat::parse).collect::<Result<_, _>>()?;
            time = Some((columns.template(&source.column)?, formats));
            zone_ms = crate::time::zone_ms(&source.zone)?;
        }
        let message_id = match &self.message_id {
            Some(template) => Some(columns.template(template)?),
            None => None,
        };
        Ok(Mapping {
            kind,
            name,
            identifiers,
            properties: columns.fields(&self.properties),
            traits: columns.fields(&self.traits),
            time,
            zone_ms,
            shift_ms: self.shift_days.saturating_mul(86_400_000).saturating_add(self.shift_ms),
            message_id,
            columns: columns.0,
        })
    }
}

/// The columns that are used, each once.
struct Columns(Vec<String>);

impl Columns {
    fn id(&mut self, name: &str) -> ColumnId {
        self.0.iter().position(|known| known == name).unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        })
    }

    /// A text without braces is a column's name.
    fn template(&mut self, text: &str) -> Result<Template, Failure> {
        if !text.contains(['{', '}']) {
            return Ok(Template { parts: vec![Part::Column(self.id(text))] });
        }
        let mut parts = Vec::new();
        let mut rest = text;
        while let Some((constant, after)) = rest.split_once('{') {
            if !constant.is_empty() {
                parts.push(Part::Constant(constant.to_owned()));
            }
            let (column, after) =
                after.split_once('}').ok_or_else(|| Failure::permanent(format!("in `{text}` a `{{` has no `}}`")))?;
            parts.push(Part::Column(self.id(column)));
            rest = after;
        }
        if rest.contains('}') || !parts.iter().any(|part| matches!(part, Part::Column(_))) {
            return Err(Failure::permanent(format!("in `{text}` a `}}` has no `{{`; write columns as `{{name}}`")));
        }
        if !rest.is_empty() {
            parts.push(Part::Constant(rest.to_owned()));
        }
        Ok(Template { parts })
    }

    fn fields(&mut self, selection: &Selection) -> Vec<Field> {
        let mut field = |name: &str, column: &str, value_type: Option<ValueType>| Field {
            key: format!("{}:", serde_json::Value::from(name)),
            column: self.id(column),
            value_type,
        };
        match selection {
            Selection::List(names) => names.iter().map(|name| field(name, name, None)).collect(),
            Selection::Map(map) => map
                .iter()
                .map(|(name, selected)| match selected {
                    Selected::Column(column) => field(name, column, None),
                    Selected::Typed { column, value_type } => field(name, column, *value_type),
                })
                .collect(),
        }
    }
}
