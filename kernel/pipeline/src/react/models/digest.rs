//! The digest of a row that a model was given, by which a dead letter tells whether the same input came again: SHA-256 over the
//! row as one line of JSON, as `kith plugin run` takes it.

use kith_model::plugin::InputSpec;
use kith_model::table::{Cell, ColumnType};
use kith_model::time::Timestamp;
use serde::ser::{Serialize, SerializeMap, SerializeSeq, Serializer};
use sha2::{Digest as _, Sha256};

use crate::rows::RowDigest;

/// The digest of a row of these columns. `None` where it cannot be written as JSON, which no row
/// of these columns comes to.
pub(super) fn row_digest(columns: &[InputSpec], cells: &[Cell]) -> Option<RowDigest> {
    let text = serde_json::to_vec(&RowJson { columns, cells }).ok()?;
    Some(Sha256::digest(text).into())
}

/// A row as an object with a member for each column, in the manifest's order.
struct RowJson<'a> {
    columns: &'a [InputSpec],
    cells: &'a [Cell],
}

impl Serialize for RowJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut row = serializer.serialize_map(Some(self.columns.len()))?;
        for (spec, cell) in self.columns.iter().zip(self.cells) {
            row.serialize_entry(&spec.name, &CellJson { column_type: &spec.column_type, cell })?;
        }
        row.end()
    }
}

/// A cell as JSON: a time as a text in RFC 3339, a record as an object with a member for each field.
struct CellJson<'a> {
    column_type: &'a ColumnType,
    cell: &'a Cell,
}

impl Serialize for CellJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        match self.cell {
            Cell::Null => serializer.serialize_unit(),
            Cell::Boolean(value) => serializer.serialize_bool(*value),
            Cell::Int64(value) => serializer.serialize_i64(*value),
            Cell::Float64(value) => serializer.serialize_f64(*value),
            Cell::Timestamp(value) => serializer.collect_str(&Timestamp(*value)),
            Cell::Text(value) => serializer.serialize_str(value),
            Cell::Int64List(values) => values.serialize(serializer),
            Cell::Float64List(values) => values.serialize(serializer),
            Cell::TimestampList(values) => {
                serializer.collect_seq(values.iter().map(|value| Timestamp(*value).to_string()))
            }
            Cell::TextList(values) => values.serialize(serializer),
            Cell::Records(records) => {
                let mut list = serializer.serialize_seq(Some(records.len()))?;
                for record in records {
                    list.serialize_element(&RecordJson { column_type: self.column_type, record })?;
                }
                list.end()
            }
        }
    }
}

/// One record of a column of records.
struct RecordJson<'a> {
    column_type: &'a ColumnType,
    record: &'a [Cell],
}

impl Serialize for RecordJson<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let fields = if let ColumnType::Records(fields) = self.column_type { fields.as_slice() } else { &[] };
        let mut object = serializer.serialize_map(Some(fields.len()))?;
        for (field, cell) in fields.iter().zip(self.record) {
            object.serialize_entry(&field.name, &CellJson { column_type: &field.column_type, cell })?;
        }
        object.end()
    }
}

#[cfg(test)]
mod tests {
    use kith_model::table::RecordField;

    use super::*;

    fn column(name: &str, column_type: ColumnType) -> InputSpec {
        InputSpec { name: name.to_owned(), expression: String::new(), column_type, reason: String::new() }
    }

    /// The text stands in docs/dead-letters.md: whoever has the row writes it so and finds the digest.
    #[test]
    fn a_row_is_digested_as_the_line_that_a_plugin_is_tried_with() {
        let field = |name: &str, column_type| RecordField { name: name.to_owned(), column_type };
        let records =
            ColumnType::Records(vec![field("at", ColumnType::Timestamp), field("total", ColumnType::Float64)]);
        let columns = [
            column("orders", ColumnType::Int64),
            column("plan", ColumnType::Text),
            column("seen", ColumnType::TimestampList),
            column("share", ColumnType::Float64),
            column("each", records),
        ];
        let cells = [
            Cell::Int64(5),
            Cell::Null,
            Cell::TimestampList(vec![0]),
            Cell::Float64(0.5),
            Cell::Records(vec![vec![Cell::Timestamp(1), Cell::Null]]),
        ];
        let line = r#"{"orders":5,"plan":null,"seen":["1970-01-01T00:00:00.000Z"],"share":0.5,"each":[{"at":"1970-01-01T00:00:00.001Z","total":null}]}"#;
        assert_eq!(serde_json::to_string(&RowJson { columns: &columns, cells: &cells }).unwrap(), line);
        assert_eq!(row_digest(&columns, &cells), Some(Sha256::digest(line).into()));
        let other = [Cell::Int64(6), Cell::Null, Cell::Null, Cell::Null, Cell::Null];
        assert_ne!(row_digest(&columns, &cells), row_digest(&columns, &other));
    }
}
