//! The installation's configuration, and what is made of it once per call: names become column numbers, patterns are taken apart.
//!
//! Leaves what the JSON Schema in `plugin.toml` can say (types, known keys) to the kernel, which has already checked it.

use std::collections::BTreeMap;

use kith_plugin_sdk::webhook::Signature;
use kith_plugin_sdk::{EventKind, Failure};
use serde::Deserialize;

use crate::header::Duplicates;
pub(crate) use crate::mapping::{ColumnId, Field, Mapping, NameSource, Part, Template, TimeForm};
use crate::mapping::{Columns, TimeColumn};
use crate::number::{Decimal, Percent, Style, Thousands};
use crate::record::Escape;
use crate::{consent, encoding};

/// The configuration as it is written.
#[derive(Deserialize)]
pub(crate) struct Settings {
    #[serde(default, deserialize_with = "format")]
    pub(crate) format: Option<Format>,
    #[serde(default = "auto")]
    delimiter: String,
    /// Which array of the one object that a JSON file is holds its rows.
    pub(crate) rows: Option<String>,
    #[serde(default = "double_quote")]
    quote: String,
    #[serde(default = "auto")]
    escape: String,
    #[serde(default)]
    pub(crate) trim: bool,
    #[serde(default = "yes")]
    pub(crate) header: bool,
    #[serde(default)]
    pub(crate) columns: Vec<String>,
    #[serde(default)]
    pub(crate) duplicate_columns: Duplicates,
    #[serde(default)]
    pub(crate) short_rows: ShortRows,
    #[serde(default = "nulls")]
    pub(crate) nulls: Vec<String>,
    #[serde(default = "auto")]
    encoding: String,
    #[serde(flatten)]
    numbers: NumberSettings,
    #[serde(default)]
    kind: Kind,
    #[serde(default)]
    event: EventName,
    identifiers: BTreeMap<String, String>,
    #[serde(default)]
    properties: Selection,
    #[serde(default)]
    traits: Selection,
    /// Purposes, or what else a consent is of, each with the column that says yes or no.
    #[serde(default)]
    consent: BTreeMap<String, String>,
    time: Option<TimeSource>,
    message_id: Option<String>,
    /// The kernel's business: what becomes of a record whose id came before.
    #[serde(default, rename = "upsert")]
    _upsert: bool,
    #[serde(default)]
    shift_days: i64,
    #[serde(default)]
    shift_ms: i64,
    /// How whoever sends signs; without it nothing is signed.
    pub(crate) signature: Option<Signature>,
}

#[derive(serde::Serialize, Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Format {
    Csv,
    /// Objects one after another, or in one array.
    Json,
}

/// The format; `None` where the file is to show it.
fn format<'de, D: serde::Deserializer<'de>>(deserializer: D) -> Result<Option<Format>, D::Error> {
    match String::deserialize(deserializer)?.as_str() {
        "auto" => Ok(None),
        "csv" => Ok(Some(Format::Csv)),
        "json" | "ndjson" => Ok(Some(Format::Json)),
        other => {
            Err(serde::de::Error::custom(format!("`format` is `{other}`; write `csv`, `ndjson`, `json` or `auto`")))
        }
    }
}

/// What becomes of a line with fewer fields than there are columns.
#[derive(Deserialize, Default, Clone, Copy, PartialEq, Eq)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ShortRows {
    #[default]
    Refuse,
    /// The missing fields are empty.
    Fill,
}

/// How numbers are written; of the file or of one column.
#[derive(Deserialize, Default, Clone)]
pub(crate) struct NumberSettings {
    decimal: Option<String>,
    thousands: Option<String>,
    #[serde(default)]
    percent: Option<PercentSetting>,
}

#[derive(Deserialize, Clone, Copy)]
#[serde(rename_all = "lowercase")]
enum PercentSetting {
    Refuse,
    Fraction,
    Number,
}

impl NumberSettings {
    /// The style, with that of the file where this is a column's.
    pub(crate) fn style(&self, file: Option<&NumberSettings>) -> Result<Style, Failure> {
        let or_file = |own: &Option<String>, get: fn(&NumberSettings) -> &Option<String>| {
            own.clone().or_else(|| file.and_then(|file| get(file).clone())).unwrap_or_else(auto)
        };
        let decimal = match or_file(&self.decimal, |file| &file.decimal).as_str() {
            "auto" => None,
            "." => Some(Decimal::Point),
            "," => Some(Decimal::Comma),
            other => return Err(Failure::permanent(format!("`decimal` is `{other}`; write `.`, `,` or `auto`"))),
        };
        let thousands = match or_file(&self.thousands, |file| &file.thousands).as_str() {
            "auto" => Thousands::Any,
            "," => Thousands::Comma,
            "." => Thousands::Point,
            "'" => Thousands::Apostrophe,
            " " => Thousands::Space,
            "none" => Thousands::None,
            other => {
                let message = format!("`thousands` is `{other}`; write `,`, `.`, `'`, a space, `none` or `auto`");
                return Err(Failure::permanent(message));
            }
        };
        // What stands between thousands is no decimal sign, so that one setting says both.
        let decimal = match (decimal, thousands) {
            (None, Thousands::Comma) => Some(Decimal::Point),
            (None, Thousands::Point) => Some(Decimal::Comma),
            (Some(Decimal::Point), Thousands::Point) | (Some(Decimal::Comma), Thousands::Comma) => {
                return Err(Failure::permanent("`decimal` and `thousands` are the same sign"));
            }
            (decimal, _) => decimal,
        };
        let percent = match self.percent.or(file.and_then(|file| file.percent)) {
            None | Some(PercentSetting::Refuse) => Percent::Refuse,
            Some(PercentSetting::Fraction) => Percent::Fraction,
            Some(PercentSetting::Number) => Percent::Number,
        };
        Ok(Style { decimal, thousands, percent })
    }
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
pub(crate) enum Selection {
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
pub(crate) enum Selected {
    Column(String),
    Typed {
        column: String,
        #[serde(rename = "type")]
        value_type: Option<ValueType>,
        #[serde(flatten)]
        numbers: NumberSettings,
        #[serde(default)]
        formats: Vec<String>,
        zone: Option<String>,
        order: Option<OrderSetting>,
    },
}

#[derive(Deserialize, Clone, Copy, PartialEq, Eq, Debug)]
#[serde(rename_all = "lowercase")]
pub(crate) enum ValueType {
    Text,
    Number,
    Integer,
    Boolean,
    Date,
    Time,
    /// What a cell of a sheet is: no type of the configuration.
    #[serde(skip)]
    Cell,
}

#[derive(Deserialize)]
struct TimeSource {
    column: String,
    #[serde(default)]
    formats: Vec<String>,
    #[serde(default = "utc")]
    zone: String,
    #[serde(default)]
    order: OrderSetting,
}

#[derive(Deserialize, Default, Clone, Copy)]
#[serde(rename_all = "kebab-case")]
pub(crate) enum OrderSetting {
    #[default]
    Auto,
    DayFirst,
    MonthFirst,
    YearFirst,
}

fn auto() -> String {
    "auto".to_owned()
}

/// What MySQL and its like write for nothing.
fn nulls() -> Vec<String> {
    vec!["\\N".to_owned()]
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

/// A hundred years; who moves times further has another unit in mind.
const MAX_SHIFT_DAYS: i64 = 36_525;

/// What separates the fields of a line.
#[derive(Clone, Copy, PartialEq, Eq, Debug, serde::Serialize, Deserialize)]
pub(crate) enum Delimiter {
    Byte(u8),
    /// Runs of spaces and tabs; also before the first field and after the last.
    Whitespace,
}

impl Settings {
    /// What separates the fields; `None` where the file is to show it.
    pub(crate) fn delimiter(&self) -> Result<Option<Delimiter>, Failure> {
        Ok(Some(match self.delimiter.as_str() {
            "auto" => return Ok(None),
            "whitespace" => Delimiter::Whitespace,
            "tab" => Delimiter::Byte(b'\t'),
            text => match text.as_bytes() {
                [byte] if byte.is_ascii() && !matches!(byte, b'\n' | b'\r') => Delimiter::Byte(*byte),
                _ => {
                    let message =
                        format!("the delimiter `{text}` is not one ASCII character, `tab`, `whitespace` or `auto`");
                    return Err(Failure::permanent(message));
                }
            },
        }))
    }

    /// What of the signs that cut a line is none of its own; each problem with its key.
    pub(crate) fn clashes(&self) -> Vec<(&'static str, String)> {
        let quote = self.quote().ok().flatten();
        let delimiter = self.delimiter().ok().flatten();
        let escape = self.escape().ok().flatten();
        let is_between = |byte: u8| match delimiter {
            Some(Delimiter::Byte(delimiter)) => byte == delimiter,
            Some(Delimiter::Whitespace) => matches!(byte, b' ' | b'\t'),
            None => false,
        };
        let mut clashes = Vec::new();
        if quote.is_some_and(is_between) {
            let message =
                "`quote` and `delimiter` are the same sign; where nothing surrounds fields, leave `quote` empty";
            clashes.push(("quote", message.to_owned()));
        }
        if escape == Some(Escape::Backslash) && (quote == Some(b'\\') || is_between(b'\\')) {
            clashes.push(("escape", "the sign that escapes is the `quote` or the `delimiter` too".to_owned()));
        }
        clashes
    }

    /// What is added to times beyond what a file can need; each problem with its key.
    pub(crate) fn far_shifts(&self) -> Vec<(&'static str, String)> {
        let bounds =
            [("shift_days", self.shift_days, MAX_SHIFT_DAYS), ("shift_ms", self.shift_ms, MAX_SHIFT_DAYS * 86_400_000)];
        let is_far = |(_, shift, most): &(&str, i64, i64)| !(-most..=*most).contains(shift);
        let problem = |(key, shift, most): (&'static str, i64, i64)| {
            (key, format!("`{key}` is {shift}; it is at most {most} and at least -{most}, a hundred years"))
        };
        bounds.into_iter().filter(is_far).map(problem).collect()
    }

    /// Whether backslashes escape; `None` where the file is to show it.
    pub(crate) fn escape(&self) -> Result<Option<Escape>, Failure> {
        match self.escape.as_str() {
            "auto" => Ok(None),
            "none" => Ok(Some(Escape::None)),
            "\\" => Ok(Some(Escape::Backslash)),
            other => Err(Failure::permanent(format!("`escape` is `{other}`; write `\\`, `none` or `auto`"))),
        }
    }

    /// The encoding; `None` where the file is to show it.
    pub(crate) fn encoding(&self) -> Result<Option<crate::charset::Charset>, Failure> {
        if self.encoding == "auto" { Ok(None) } else { encoding::named(&self.encoding).map(Some) }
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
        let mut time = None;
        if let Some(source) = &self.time {
            let form = TimeForm::new(&source.formats, &source.zone, source.order)?;
            time = Some(TimeColumn { template: columns.template(&source.column)?, form });
        }
        let message_id = match &self.message_id {
            Some(template) => Some(columns.template(template)?),
            None => None,
        };
        let zone = self.time.as_ref().map_or("UTC", |source| source.zone.as_str());
        let properties = columns.fields(&self.properties, &self.numbers, zone)?;
        let traits = columns.fields(&self.traits, &self.numbers, zone)?;
        let consent = consent::columns(&self.consent, &mut columns)?;
        if !consent.is_empty() && traits.iter().any(Field::is_consent) {
            let message = "`consent` is mapped and `traits` has a `consent` too; leave the one in `traits` out";
            return Err(Failure::permanent(message));
        }
        Ok(Mapping {
            kind,
            name,
            identifiers,
            properties,
            traits,
            consent,
            time,
            nulls: self.nulls.clone(),
            shift_ms: self.shift_days.saturating_mul(86_400_000).saturating_add(self.shift_ms),
            message_id,
            columns: columns.0,
        })
    }
}
