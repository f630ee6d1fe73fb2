//! Responsible for tables of columns. Both versions of the contract lay them out alike, in types of their own, because 0.1.0 has
//! no records.

use kith_model::table::{Column, Lists, Table, Texts, Values};

use crate::bindings::current::columns as current;
use crate::bindings::v0_1::columns as v0_1;

/// From the model's tables to those of a version and back, with what its columns are beside those of both.
macro_rules! conversions {
    ($wit:ident, $to:ident, $from:ident, { $($records_to:tt)* }, { $($records_from:tt)* }) => {
        pub(crate) fn $to(table: Table) -> $wit::Table {
            let int64s = |lists: Lists<Vec<i64>>| $wit::Int64Lists { offsets: lists.offsets, items: lists.items };
            let texts = |texts: Texts| $wit::Texts { offsets: texts.offsets, data: texts.data };
            let column = |column: Column| {
                let values = match column.values {
                    Values::Boolean(bits) => $wit::Values::Boolean(bits),
                    Values::Int64(values) => $wit::Values::Int64(values),
                    Values::Float64(values) => $wit::Values::Float64(values),
                    Values::Timestamp(values) => $wit::Values::Timestamp(values),
                    Values::Text(values) => $wit::Values::Text(texts(values)),
                    Values::Int64List(lists) => $wit::Values::Int64List(int64s(lists)),
                    Values::TimestampList(lists) => $wit::Values::TimestampList(int64s(lists)),
                    Values::Float64List(lists) => {
                        $wit::Values::Float64List($wit::Float64Lists { offsets: lists.offsets, items: lists.items })
                    }
                    Values::TextList(lists) => {
                        $wit::Values::TextList($wit::TextLists { offsets: lists.offsets, items: texts(lists.items) })
                    }
                    $($records_to)*
                };
                Some($wit::Column { name: column.name, validity: column.validity, values })
            };
            let columns = table.columns.into_iter().filter_map(column).collect();
            // A batch is at most some thousand rows; a table that is not would be refused by the guest's own checks.
            $wit::Table { rows: u32::try_from(table.rows).unwrap_or(u32::MAX), columns }
        }

        pub(crate) fn $from(table: $wit::Table) -> Table {
            let int64s = |lists: $wit::Int64Lists| Lists { offsets: lists.offsets, items: lists.items };
            let texts = |texts: $wit::Texts| Texts { offsets: texts.offsets, data: texts.data };
            let column = |column: $wit::Column| {
                let values = match column.values {
                    $wit::Values::Boolean(bits) => Values::Boolean(bits),
                    $wit::Values::Int64(values) => Values::Int64(values),
                    $wit::Values::Float64(values) => Values::Float64(values),
                    $wit::Values::Timestamp(values) => Values::Timestamp(values),
                    $wit::Values::Text(values) => Values::Text(texts(values)),
                    $wit::Values::Int64List(lists) => Values::Int64List(int64s(lists)),
                    $wit::Values::TimestampList(lists) => Values::TimestampList(int64s(lists)),
                    $wit::Values::Float64List(lists) => {
                        Values::Float64List(Lists { offsets: lists.offsets, items: lists.items })
                    }
                    $wit::Values::TextList(lists) => {
                        Values::TextList(Lists { offsets: lists.offsets, items: texts(lists.items) })
                    }
                    $($records_from)*
                };
                Column { name: column.name, validity: column.validity, values }
            };
            Table { rows: table.rows as usize, columns: table.columns.into_iter().map(column).collect() }
        }
    };
}

conversions! {
    current, table_to_wit, table_from_wit,
    { Values::Records(lists) => current::Values::Records(records_to_wit(lists)), },
    { current::Values::Records(lists) => Values::Records(records_from_wit(lists)), }
}
conversions! {
    v0_1, table_to_wit_0_1, table_from_wit_0_1,
    // No manifest of that version declares any.
    { Values::Records(_) => return None, },
    {}
}

fn records_to_wit(lists: Lists<Table>) -> current::RecordLists {
    let field = |column: Column| {
        let values = match column.values {
            Values::Boolean(bits) => current::Scalars::Boolean(bits),
            Values::Int64(values) => current::Scalars::Int64(values),
            Values::Float64(values) => current::Scalars::Float64(values),
            Values::Timestamp(values) => current::Scalars::Timestamp(values),
            Values::Text(texts) => current::Scalars::Text(current::Texts { offsets: texts.offsets, data: texts.data }),
            // No manifest declares a field that is a list.
            Values::Int64List(_)
            | Values::Float64List(_)
            | Values::TimestampList(_)
            | Values::TextList(_)
            | Values::Records(_) => return None,
        };
        Some(current::Field { name: column.name, validity: column.validity, values })
    };
    current::RecordLists { offsets: lists.offsets, fields: lists.items.columns.into_iter().filter_map(field).collect() }
}

fn records_from_wit(lists: current::RecordLists) -> Lists<Table> {
    let column = |field: current::Field| {
        let values = match field.values {
            current::Scalars::Boolean(bits) => Values::Boolean(bits),
            current::Scalars::Int64(values) => Values::Int64(values),
            current::Scalars::Float64(values) => Values::Float64(values),
            current::Scalars::Timestamp(values) => Values::Timestamp(values),
            current::Scalars::Text(texts) => Values::Text(Texts { offsets: texts.offsets, data: texts.data }),
        };
        Column { name: field.name, validity: field.validity, values }
    };
    // Offsets that never fall end with the number of records; others are refused where the table is held against the contract.
    let rows = lists.offsets.last().map_or(0, |last| last.unsigned_abs() as usize);
    Lists { offsets: lists.offsets, items: Table { rows, columns: lists.fields.into_iter().map(column).collect() } }
}
