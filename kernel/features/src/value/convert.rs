//! Conversions of values: between kinds, from and to JSON, to cells of columns.

use std::collections::BTreeMap;
use std::fmt;

use kith_json::{Duplicates, Numbers, read_as};
use kith_model::table::{Cell, ColumnType, RecordField};
use kith_model::time::Timestamp;
use serde::Deserialize;
use serde::de::{MapAccess, SeqAccess, Visitor};

use super::{Value, whole};
use crate::zone::Zone;

/// Why a value is no cell of a column: an item of a list of whole numbers is a number that is none. A single value that does not
/// fit is null, which whoever reads the column sees; a list has no place for what is absent, and one that is shorter would pass
/// for the whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("item {index} of the list, counted from 0, is no whole number of 64 bits")]
pub struct Misfit {
    /// Where it stands in the list, from 0.
    pub index: usize,
}

impl Value {
    /// As a float: numbers, and texts that are a number; else null.
    pub(crate) fn to_double(&self) -> Value {
        match self {
            Value::Int(_) | Value::Float(_) => Value::float(self.as_float()),
            Value::Text(text) => text.trim().parse().map_or(Value::Null, Value::float),
            Value::Unknown => Value::Unknown,
            _ => Value::Null,
        }
    }

    /// As a whole number: floats are cut towards zero, texts must be a number, times and durations are milliseconds.
    pub(crate) fn to_int(&self) -> Value {
        match self {
            Value::Int(number) | Value::Duration(number) | Value::Time(Timestamp(number)) => Value::Int(*number),
            Value::Float(number) => whole(number.trunc()).map_or(Value::Null, Value::Int),
            Value::Text(text) => match text.trim().parse() {
                Ok(number) => Value::Int(number),
                Err(_) => self.to_double().to_int_from_float(),
            },
            Value::Bool(truth) => Value::Int(i64::from(*truth)),
            Value::Unknown => Value::Unknown,
            _ => Value::Null,
        }
    }

    fn to_int_from_float(&self) -> Value {
        match self {
            Value::Float(number) => whole(number.trunc()).map_or(Value::Null, Value::Int),
            _ => Value::Null,
        }
    }

    /// As text: scalars as they are written in JSON, times in RFC 3339; else null.
    pub(crate) fn to_text(&self) -> Value {
        match self {
            Value::Text(_) | Value::Unknown => self.clone(),
            Value::Bool(truth) => Value::text(truth.to_string()),
            Value::Int(number) => Value::text(number.to_string()),
            Value::Float(number) => Value::text(number.to_string()),
            Value::Time(time) => Value::text(time.to_string()),
            _ => Value::Null,
        }
    }

    /// From JSON. Whole numbers within 64 bits stay whole; times stay texts.
    pub fn from_json(json: &serde_json::Value) -> Value {
        match json {
            serde_json::Value::Null => Value::Null,
            serde_json::Value::Bool(truth) => Value::Bool(*truth),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(whole) => Value::Int(whole),
                None => number.as_f64().map_or(Value::Null, Value::float),
            },
            serde_json::Value::String(text) => Value::text(text.as_str()),
            serde_json::Value::Array(items) => Value::List(items.iter().map(Value::from_json).collect()),
            serde_json::Value::Object(fields) => {
                Value::Map(fields.iter().map(|(name, value)| (name.clone(), Value::from_json(value))).collect())
            }
        }
    }

    /// From JSON text, without a tree in between; null where it is no JSON.
    pub fn from_json_text(json: &str) -> Value {
        match serde_json::from_str(json) {
            Ok(FromJson(value)) => value,
            Err(_) => Value::from_odd_json(json).unwrap_or(Value::Null),
        }
    }

    /// From text in which a number is too large for a machine's, which is kept digit by digit and has no value here: the others have.
    fn from_odd_json(json: &str) -> Option<Value> {
        let document = read_as(json.as_bytes(), Duplicates::LastHolds, Numbers::Finite).ok()?;
        serde_json::from_str(&document.text).ok().map(|FromJson(value)| value)
    }

    /// As JSON: times in RFC 3339, durations in milliseconds, null where it is unknown.
    pub fn to_json(&self) -> serde_json::Value {
        match self {
            Value::Null | Value::Unknown => serde_json::Value::Null,
            Value::Bool(truth) => (*truth).into(),
            Value::Int(number) | Value::Duration(number) => (*number).into(),
            Value::Float(number) => (*number).into(),
            Value::Text(text) => text.as_ref().into(),
            Value::Time(time) => time.to_string().into(),
            Value::List(items) => items.iter().map(Value::to_json).collect(),
            Value::Map(fields) => {
                serde_json::Value::Object(fields.iter().map(|(name, value)| (name.clone(), value.to_json())).collect())
            }
        }
    }

    /// As a cell of a column. What does not fit the column's type is null; of a list's items those that are absent or of another
    /// kind are left out, but a list of records has a place for each of its items, and in it for each field. Scalars fit a text column as text, texts that name a moment fit a timestamp column, texts that are written
    /// as numbers fit a column of numbers, whole floats fit a column of whole numbers, durations fit as milliseconds.
    ///
    /// # Errors
    /// [`Misfit`] for a list of whole numbers in which a number is none.
    pub fn to_cell(&self, column_type: &ColumnType, zone: &Zone) -> Result<Cell, Misfit> {
        Ok(match column_type {
            ColumnType::Boolean => match self {
                Value::Bool(truth) => Cell::Boolean(*truth),
                _ => Cell::Null,
            },
            ColumnType::Int64 => self.exact_int().map_or(Cell::Null, Cell::Int64),
            ColumnType::Float64 => self.number().map_or(Cell::Null, Cell::Float64),
            ColumnType::Timestamp => self.as_time(zone).map_or(Cell::Null, |time| Cell::Timestamp(time.0)),
            ColumnType::Text => self.owned_text().map_or(Cell::Null, Cell::Text),
            ColumnType::Int64List => self.whole_items()?.map_or(Cell::Null, Cell::Int64List),
            ColumnType::Float64List => self.items(Value::number).map_or(Cell::Null, Cell::Float64List),
            ColumnType::TimestampList => {
                self.items(|item| item.as_time(zone).map(|time| time.0)).map_or(Cell::Null, Cell::TimestampList)
            }
            ColumnType::TextList => self.items(Value::owned_text).map_or(Cell::Null, Cell::TextList),
            ColumnType::Records(fields) => self.records(fields, zone)?.map_or(Cell::Null, Cell::Records),
        })
    }

    /// The records that it is a list of: a cell for each field, null where there is none.
    fn records(&self, fields: &[RecordField], zone: &Zone) -> Result<Option<Vec<Vec<Cell>>>, Misfit> {
        let Value::List(items) = self else { return Ok(None) };
        let record = |item: &Value| {
            let cell = |field: &RecordField| match item {
                Value::Map(values) => values.get(&field.name).unwrap_or(&Value::Null).to_cell(&field.column_type, zone),
                _ => Ok(Cell::Null),
            };
            fields.iter().map(cell).collect::<Result<Vec<Cell>, Misfit>>()
        };
        items.iter().map(record).collect::<Result<Vec<Vec<Cell>>, Misfit>>().map(Some)
    }

    fn whole_items(&self) -> Result<Option<Vec<i64>>, Misfit> {
        let Value::List(items) = self else { return Ok(None) };
        let whole = items.iter().enumerate().filter_map(|(index, item)| match (item.exact_int(), item.number()) {
            (Some(whole), _) => Some(Ok(whole)),
            (None, Some(_)) => Some(Err(Misfit { index })),
            (None, None) => None,
        });
        whole.collect::<Result<Vec<i64>, Misfit>>().map(Some)
    }

    fn items<T>(&self, convert: impl Fn(&Value) -> Option<T>) -> Option<Vec<T>> {
        match self {
            Value::List(items) => Some(items.iter().filter_map(convert).collect()),
            _ => None,
        }
    }

    fn exact_int(&self) -> Option<i64> {
        match self {
            Value::Int(number) | Value::Duration(number) => Some(*number),
            Value::Float(number) if number.fract() == 0.0 => whole(*number),
            Value::Text(_) => self.as_number().and_then(|number| number.exact_int()),
            _ => None,
        }
    }

    #[allow(clippy::cast_precision_loss, reason = "the column was declared as float")]
    fn number(&self) -> Option<f64> {
        match self {
            Value::Int(_) | Value::Float(_) => Some(self.as_float()),
            Value::Duration(length) => Some(*length as f64),
            Value::Text(_) => self.as_number().map(|number| number.as_float()),
            _ => None,
        }
    }

    fn owned_text(&self) -> Option<String> {
        match self.to_text() {
            Value::Text(text) => Some(text.as_ref().to_owned()),
            _ => None,
        }
    }
}

/// A value read from JSON text.
struct FromJson(Value);

impl<'de> Deserialize<'de> for FromJson {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<FromJson, D::Error> {
        deserializer.deserialize_any(FromJsonVisitor).map(FromJson)
    }
}

struct FromJsonVisitor;

impl<'de> Visitor<'de> for FromJsonVisitor {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("JSON")
    }

    fn visit_unit<E>(self) -> Result<Value, E> {
        Ok(Value::Null)
    }

    fn visit_bool<E>(self, truth: bool) -> Result<Value, E> {
        Ok(Value::Bool(truth))
    }

    fn visit_i64<E>(self, number: i64) -> Result<Value, E> {
        Ok(Value::Int(number))
    }

    #[allow(clippy::cast_precision_loss, reason = "what is beyond 63 bits becomes the nearest float")]
    fn visit_u64<E>(self, number: u64) -> Result<Value, E> {
        Ok(i64::try_from(number).map_or_else(|_| Value::float(number as f64), Value::Int))
    }

    fn visit_f64<E>(self, number: f64) -> Result<Value, E> {
        Ok(Value::float(number))
    }

    fn visit_str<E>(self, text: &str) -> Result<Value, E> {
        Ok(Value::text(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
        let mut list = Vec::new();
        while let Some(FromJson(item)) = items.next_element()? {
            list.push(item);
        }
        Ok(Value::List(list))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut fields: A) -> Result<Value, A::Error> {
        let mut map = BTreeMap::new();
        while let Some((name, FromJson(value))) = fields.next_entry::<String, FromJson>()? {
            map.insert(name, value);
        }
        Ok(Value::Map(map))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn json_reads_alike_from_text_and_tree() {
        let text = r#"{"a":[1,2.5,-0.0,1e400,null,true,"x"],"b":{"c":18446744073709551615}}"#;
        let text = text.replace("1e400", "1e300");
        let tree: serde_json::Value = serde_json::from_str(&text).unwrap();
        assert_eq!(Value::from_json_text(&text), Value::from_json(&tree));
        assert_eq!(Value::from_json_text("{"), Value::Null);
        assert_eq!(Value::from_json_text("7"), Value::Int(7));
    }

    #[test]
    fn cells_take_what_fits() {
        let list = Value::List(vec![Value::Int(1), Value::Null, Value::Float(2.5)]);
        for (value, column_type, cell) in [
            (Value::Int(3), ColumnType::Float64, Cell::Float64(3.0)),
            (Value::Float(3.0), ColumnType::Int64, Cell::Int64(3)),
            (Value::Float(3.5), ColumnType::Int64, Cell::Null),
            (Value::Int(3), ColumnType::Text, Cell::Text("3".into())),
            (Value::text("1970-01-02"), ColumnType::Timestamp, Cell::Timestamp(86_400_000)),
            (Value::text("x"), ColumnType::Boolean, Cell::Null),
            (Value::text("19.90"), ColumnType::Float64, Cell::Float64(19.9)),
            (Value::text("19.90"), ColumnType::Int64, Cell::Null),
            (Value::text("7.0"), ColumnType::Int64, Cell::Int64(7)),
            (Value::text("19,90"), ColumnType::Float64, Cell::Null),
            (list.clone(), ColumnType::Float64List, Cell::Float64List(vec![1.0, 2.5])),
            (list, ColumnType::TextList, Cell::TextList(vec!["1".into(), "2.5".into()])),
            (Value::Null, ColumnType::TextList, Cell::Null),
            (Value::Unknown, ColumnType::Text, Cell::Null),
            (Value::Unknown, ColumnType::Boolean, Cell::Null),
        ] {
            assert_eq!(value.to_cell(&column_type, &Zone::utc()), Ok(cell), "{value} as {column_type:?}");
        }
    }

    /// A list leaves out what is absent; of records each has its place, and nothing slips to another.
    #[test]
    fn records_keep_what_is_absent_in_its_place() {
        let field = |name: &str, column_type| RecordField { name: name.into(), column_type };
        let order = ColumnType::Records(vec![
            field("time", ColumnType::Timestamp),
            field("amount", ColumnType::Float64),
            field("count", ColumnType::Int64),
        ]);
        let records =
            r#"[{"amount":"19.90","time":"1970-01-02","other":1},{"time":5,"amount":null,"count":1.5},7,{"count":2}]"#;
        let cells = vec![
            vec![Cell::Timestamp(86_400_000), Cell::Float64(19.9), Cell::Null],
            vec![Cell::Null; 3],
            vec![Cell::Null; 3],
            vec![Cell::Null, Cell::Null, Cell::Int64(2)],
        ];
        let cell = |json: &str| Value::from_json_text(json).to_cell(&order, &Zone::utc());
        assert_eq!(cell(records), Ok(Cell::Records(cells)));
        assert_eq!((cell("[]"), cell("{}"), cell("null")), (Ok(Cell::Records(vec![])), Ok(Cell::Null), Ok(Cell::Null)));
    }

    /// 1.7 vanished from a list of whole numbers, and the list passed for the whole.
    #[test]
    fn a_number_that_is_none_of_the_whole_ones_does_not_vanish_from_their_list() {
        let cell = |items: &[Value]| Value::List(items.to_vec()).to_cell(&ColumnType::Int64List, &Zone::utc());
        let whole =
            [Value::Int(1), Value::Null, Value::Float(2.0), Value::text("3"), Value::text("x"), Value::Bool(true)];
        assert_eq!(cell(&whole), Ok(Cell::Int64List(vec![1, 2, 3])));
        for none in [Value::Float(1.7), Value::text("1.7"), Value::Float(1e300)] {
            assert_eq!(cell(&[Value::Int(1), Value::Null, none.clone()]), Err(Misfit { index: 2 }), "{none}");
        }
        assert_eq!(Value::Float(1.7).to_cell(&ColumnType::Int64List, &Zone::utc()), Ok(Cell::Null));
    }
}
