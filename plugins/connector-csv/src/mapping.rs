//! The configuration ready for use: which column is which part of an event, and how it is written. Leaves reading the configuration to
//! `settings`.

use std::collections::BTreeMap;

use kith_plugin_sdk::{EventKind, Failure};

use crate::consent::ConsentColumn;
use crate::number::Style;
use crate::settings::{NumberSettings, OrderSetting, Selected, Selection, ValueType};
use crate::time::{DateOrder, TimeFormat};
use crate::zone::Zone;

/// The number of a column among those that the mapping names.
pub(crate) type ColumnId = usize;

/// A text made of constants and columns, e.g. `cdnow-{customer_id}`.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Template {
    pub(crate) parts: Vec<Part>,
}

impl Template {
    /// What a person calls it.
    pub(crate) fn name(&self, columns: &[String]) -> String {
        let names = self.parts.iter().filter_map(|part| match part {
            Part::Column(column) => columns.get(*column).map(String::as_str),
            Part::Constant(_) => None,
        });
        names.collect::<Vec<_>>().join(" ")
    }
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
    pub(crate) style: Style,
    /// Of a date or time.
    pub(crate) time: TimeForm,
}

impl Field {
    /// Whether it is the trait that tells of consents.
    pub(crate) fn is_consent(&self) -> bool {
        self.key.eq_ignore_ascii_case("\"consent\":")
    }
}

/// How a column's dates and times are written.
#[derive(Debug, Clone)]
pub(crate) struct TimeForm {
    pub(crate) formats: Vec<TimeFormat>,
    pub(crate) zone: Zone,
    /// `None`: as the values show.
    pub(crate) order: Option<DateOrder>,
}

impl TimeForm {
    pub(crate) fn new(formats: &[String], zone: &str, order: OrderSetting) -> Result<TimeForm, Failure> {
        let patterns: Vec<&str> = match formats {
            [] => vec!["auto"],
            formats => formats.iter().map(String::as_str).collect(),
        };
        Ok(TimeForm {
            formats: patterns.into_iter().map(TimeFormat::parse).collect::<Result<_, _>>()?,
            zone: Zone::parse(zone)?,
            order: match order {
                OrderSetting::Auto => None,
                OrderSetting::DayFirst => Some(DateOrder::Day),
                OrderSetting::MonthFirst => Some(DateOrder::Month),
                OrderSetting::YearFirst => Some(DateOrder::Year),
            },
        })
    }
}

/// When it happened.
pub(crate) struct TimeColumn {
    pub(crate) template: Template,
    pub(crate) form: TimeForm,
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
    /// What a consent is of, each with the column that tells.
    pub(crate) consent: Vec<ConsentColumn>,
    pub(crate) time: Option<TimeColumn>,
    /// Texts that stand for an empty cell where no quotes are around them.
    pub(crate) nulls: Vec<String>,
    pub(crate) shift_ms: i64,
    pub(crate) message_id: Option<Template>,
}

impl Mapping {
    /// Whether a row can say something of consent.
    pub(crate) fn says_consent(&self) -> bool {
        !self.consent.is_empty() || self.traits.iter().any(Field::is_consent)
    }
}

/// The columns that are used, each once.
pub(crate) struct Columns(pub(crate) Vec<String>);

impl Columns {
    pub(crate) fn id(&mut self, name: &str) -> ColumnId {
        self.0.iter().position(|known| known == name).unwrap_or_else(|| {
            self.0.push(name.to_owned());
            self.0.len() - 1
        })
    }

    /// A text without braces is a column's name.
    pub(crate) fn template(&mut self, text: &str) -> Result<Template, Failure> {
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

    /// `zone` is that of times that name none, unless a column has its own.
    pub(crate) fn fields(
        &mut self,
        selection: &Selection,
        file: &NumberSettings,
        zone: &str,
    ) -> Result<Vec<Field>, Failure> {
        let of_file = (file.style(None)?, TimeForm::new(&[], zone, OrderSetting::Auto)?);
        let mut field = |name: &str, column: &str, value_type: Option<ValueType>, (style, time): (Style, TimeForm)| {
            Field { key: key(name), column: self.id(column), value_type, style, time }
        };
        match selection {
            Selection::List(names) => Ok(names.iter().map(|name| field(name, name, None, of_file.clone())).collect()),
            Selection::Map(map) => map
                .iter()
                .map(|(name, selected)| match selected {
                    Selected::Column(column) => Ok(field(name, column, None, of_file.clone())),
                    Selected::Typed { column, value_type, numbers, formats, zone: own, order } => {
                        let zone = own.as_deref().unwrap_or(zone);
                        let time = TimeForm::new(formats, zone, order.unwrap_or_default())?;
                        Ok(field(name, column, *value_type, (numbers.style(Some(file))?, time)))
                    }
                })
                .collect(),
        }
    }
}

/// A key of an object as JSON text, with its quotes and colon.
pub(crate) fn key(name: &str) -> String {
    format!("{}:", serde_json::Value::from(name))
}
