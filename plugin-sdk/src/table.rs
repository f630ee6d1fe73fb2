//! Columns in Apache Arrow's physical layout: the table, how to read it and how to build one.
//!
//! Readers borrow the buffers that came over the boundary, so reading a column copies nothing. Offsets and bitmaps stay in here: a
//! plugin sees typed columns of optional values. Leaves the crossing of the boundary to `bindings`.

use std::fmt;

use crate::Failure;

mod build;
mod read;
mod records;

pub use read::{
    BooleanColumn, Float64Column, Float64ListColumn, Int64Column, Int64ListColumn, TextColumn, TextList, TextListColumn,
};
pub use records::{RecordFields, Records, RecordsColumn};

/// What a column holds. Each value may be absent.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnType {
    /// `true` or `false`.
    Boolean,
    /// Whole numbers.
    Int64,
    /// Numbers.
    Float64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    Timestamp,
    /// UTF-8 texts.
    Text,
    /// A list of whole numbers in each row.
    Int64List,
    /// A list of numbers in each row.
    Float64List,
    /// A list of timestamps in each row.
    TimestampList,
    /// A list of texts in each row.
    TextList,
    /// A list of records in each row, whose fields are columns of single values. Of inputs alone.
    Records,
}

impl ColumnType {
    /// The type's name as the manifest writes it.
    pub fn as_str(self) -> &'static str {
        match self {
            ColumnType::Boolean => "boolean",
            ColumnType::Int64 => "int64",
            ColumnType::Float64 => "float64",
            ColumnType::Timestamp => "timestamp",
            ColumnType::Text => "text",
            ColumnType::Int64List => "int64-list",
            ColumnType::Float64List => "float64-list",
            ColumnType::TimestampList => "timestamp-list",
            ColumnType::TextList => "text-list",
            ColumnType::Records => "records",
        }
    }

    /// Whether a row has one value and no list.
    pub(crate) fn is_single(self) -> bool {
        matches!(
            self,
            ColumnType::Boolean | ColumnType::Int64 | ColumnType::Float64 | ColumnType::Timestamp | ColumnType::Text
        )
    }
}

impl fmt::Display for ColumnType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// Why a column could not be read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ColumnError {
    /// The table has no column of this name.
    Missing {
        /// The name that was asked for.
        name: String,
        /// The names that are there.
        present: Vec<String>,
    },
    /// The column is of another type.
    WrongType {
        /// The column's name.
        name: String,
        /// What was asked for.
        expected: ColumnType,
        /// What it is.
        found: ColumnType,
    },
    /// The column's buffers do not fit together.
    Malformed {
        /// The column's name.
        name: String,
        /// What does not fit.
        what: &'static str,
    },
}

impl fmt::Display for ColumnError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            ColumnError::Missing { name, present } => write!(
                f,
                "there is no column `{name}` (there is: {}); declare it as an input in plugin.toml",
                if present.is_empty() { "none".to_owned() } else { present.join(", ") }
            ),
            ColumnError::WrongType { name, expected, found } => {
                write!(f, "the column `{name}` is {found}, not {expected}; its type stands in plugin.toml")
            }
            ColumnError::Malformed { name, what } => write!(f, "the column `{name}` is malformed: {what}"),
        }
    }
}

impl ColumnError {
    /// The same of a field of the records of a column.
    fn in_records(mut self, column: &str) -> ColumnError {
        let (ColumnError::Missing { name, .. }
        | ColumnError::WrongType { name, .. }
        | ColumnError::Malformed { name, .. }) = &mut self;
        *name = format!("{column}.{name}");
        self
    }
}

impl std::error::Error for ColumnError {}

/// The manifest and the code disagree, so trying again does not help.
impl From<ColumnError> for Failure {
    fn from(error: ColumnError) -> Failure {
        Failure::permanent(error.to_string())
    }
}

/// A batch of rows in named, typed columns.
///
/// ```
/// use kith_plugin_sdk::Table;
///
/// let rows = Table::new(2).with_text("city", [Some("Oslo"), None]).with_float64("spent", [Some(1.5), Some(2.0)]);
/// assert_eq!(rows.text("city")?.get(0), Some("Oslo"));
/// assert_eq!(rows.float64("spent")?.iter().flatten().sum::<f64>(), 3.5);
/// # Ok::<(), kith_plugin_sdk::ColumnError>(())
/// ```
#[derive(Debug, Clone, PartialEq)]
pub struct Table {
    pub(crate) rows: usize,
    pub(crate) columns: Vec<Column>,
}

/// A named column. `validity` has one bit a row, least significant bit first, 1 = present; absent when every row is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Column {
    pub(crate) name: String,
    pub(crate) validity: Option<Vec<u8>>,
    pub(crate) values: Values,
}

/// `offsets` has one entry more than there are rows; text `i` is `data[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Texts {
    pub(crate) offsets: Vec<i32>,
    pub(crate) data: Vec<u8>,
}

/// `offsets` has one entry more than there are rows; row `i` holds `items[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Lists<T> {
    pub(crate) offsets: Vec<i32>,
    pub(crate) items: T,
}

/// The values of one column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Values {
    /// One bit a row, least significant bit first.
    Boolean(Vec<u8>),
    Int64(Vec<i64>),
    Float64(Vec<f64>),
    Timestamp(Vec<i64>),
    Text(Texts),
    Int64List(Lists<Vec<i64>>),
    Float64List(Lists<Vec<f64>>),
    TimestampList(Lists<Vec<i64>>),
    TextList(Lists<Texts>),
    /// The records of all rows, with a column for each field.
    Records(Lists<Table>),
}

impl Values {
    pub(crate) fn column_type(&self) -> ColumnType {
        match self {
            Values::Boolean(_) => ColumnType::Boolean,
            Values::Int64(_) => ColumnType::Int64,
            Values::Float64(_) => ColumnType::Float64,
            Values::Timestamp(_) => ColumnType::Timestamp,
            Values::Text(_) => ColumnType::Text,
            Values::Int64List(_) => ColumnType::Int64List,
            Values::Float64List(_) => ColumnType::Float64List,
            Values::TimestampList(_) => ColumnType::TimestampList,
            Values::TextList(_) => ColumnType::TextList,
            Values::Records(_) => ColumnType::Records,
        }
    }
}

impl Table {
    /// A table of this many rows and no columns yet.
    pub fn new(rows: usize) -> Table {
        Table { rows, columns: Vec::new() }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    /// The columns' names and types, in order.
    pub fn columns(&self) -> impl Iterator<Item = (&str, ColumnType)> {
        self.columns.iter().map(|column| (column.name.as_str(), column.values.column_type()))
    }
}

/// Whether the bit of `row` is set.
#[inline]
pub(crate) fn bit(bits: &[u8], row: usize) -> bool {
    bits.get(row / 8).is_some_and(|byte| byte >> (row % 8) & 1 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_every_length_are_kept_whole() {
        let texts: Vec<String> =
            (0..20).map(|length| "aßcdefghijklmnopqrstu"[3..].chars().take(length).collect()).collect();
        let wide: Vec<String> = (0..9).map(|length| "ß€𝄞x".chars().cycle().take(length).collect()).collect();
        let texts = [texts, wide].concat();
        let table = Table::new(texts.len()).with_text("s", texts.iter().map(Some));
        let read: Vec<_> = table.text("s").unwrap().iter().collect();
        assert_eq!(read, texts.iter().map(|text| Some(text.as_str())).collect::<Vec<_>>());
    }

    #[test]
    fn what_was_built_is_read_back_with_its_gaps() {
        let table = Table::new(3)
            .with_boolean("b", [Some(true), None, Some(false)])
            .with_int64("i", [None, Some(-7), Some(i64::MAX)])
            .with_float64("f", [Some(0.5), None, Some(-1.0)])
            .with_timestamp("t", [Some(1_700_000_000_000), None, None])
            .with_text("s", [Some("Zürich"), None, Some("")])
            .with_float64_list("fl", [Some(vec![1.0, 2.0]), None, Some(vec![])])
            .with_int64_list("il", [Some(vec![1]), Some(vec![2, 3]), None])
            .with_timestamp_list("tl", [None, Some(vec![5, 6]), Some(vec![7])])
            .with_text_list("sl", [Some(vec!["a", "bc"]), None, Some(vec!["d"])])
            .with_records("r", [Some(0), None, Some(2)], Table::new(2).with_int64("n", [None, Some(7)]));

        assert_eq!(table.len(), 3);
        assert_eq!(table.boolean("b").unwrap().iter().collect::<Vec<_>>(), [Some(true), None, Some(false)]);
        assert_eq!(table.int64("i").unwrap().iter().collect::<Vec<_>>(), [None, Some(-7), Some(i64::MAX)]);
        assert_eq!(table.float64("f").unwrap().iter().collect::<Vec<_>>(), [Some(0.5), None, Some(-1.0)]);
        assert_eq!(table.timestamp("t").unwrap().iter().collect::<Vec<_>>(), [Some(1_700_000_000_000), None, None]);
        assert_eq!(table.text("s").unwrap().iter().collect::<Vec<_>>(), [Some("Zürich"), None, Some("")]);
        let lists = table.float64_list("fl").unwrap();
        assert_eq!((lists.get(0), lists.get(1), lists.get(2)), (Some(&[1.0, 2.0][..]), None, Some(&[][..])));
        let lists = table.int64_list("il").unwrap();
        assert_eq!(lists.iter().collect::<Vec<_>>(), [Some(&[1][..]), Some(&[2, 3][..]), None]);
        assert_eq!(table.timestamp_list("tl").unwrap().get(1), Some(&[5, 6][..]));
        let lists = table.text_list("sl").unwrap();
        assert_eq!(lists.get(0).unwrap().iter().collect::<Vec<_>>(), ["a", "bc"]);
        assert!(lists.get(1).is_none());
        assert_eq!(lists.get(2).unwrap().get(0), Some("d"));
        assert_eq!(lists.get(2).unwrap().get(1), None);
        let records = table.records("r", |records| records.int64("n")).unwrap();
        assert_eq!((records.places(0), records.places(1), records.places(2)), (Some(0..0), None, Some(0..2)));
        assert_eq!(records.fields().iter().collect::<Vec<_>>(), [None, Some(7)]);
        let missing = table.records("r", |records| records.int64("m")).unwrap_err();
        assert!(missing.to_string().starts_with("there is no column `r.m` (there is: n)"), "{missing}");
    }

    #[test]
    fn a_row_past_the_end_has_no_value() {
        let table =
            Table::new(1).with_float64("f", [Some(1.0)]).with_boolean("b", [Some(true)]).with_text("s", [Some("x")]);
        assert_eq!(table.float64("f").unwrap().get(1), None);
        assert_eq!(table.boolean("b").unwrap().get(1), None);
        assert_eq!(table.text("s").unwrap().get(1), None);
    }

    #[test]
    fn a_full_column_needs_no_bitmap() {
        let table = Table::new(9).with_int64("i", (0..9).map(Some)).with_float64_values("f", vec![0.0; 9]);
        assert_eq!(table.columns[0].validity, None);
        assert_eq!(table.columns[1].validity, None);
        assert_eq!(table.int64("i").unwrap().values(), [0, 1, 2, 3, 4, 5, 6, 7, 8]);
    }

    #[test]
    fn a_bitmap_covers_every_row_past_a_byte() {
        let values: Vec<Option<i64>> = (0..20).map(|row| (row % 3 != 0).then_some(row)).collect();
        let table = Table::new(20).with_int64("i", values.clone());
        assert_eq!(table.columns[0].validity.as_ref().map(Vec::len), Some(3));
        assert_eq!(table.int64("i").unwrap().iter().collect::<Vec<_>>(), values);
    }

    #[test]
    fn a_missing_or_wrongly_typed_column_is_named() {
        let table = Table::new(1).with_int64("orders", [Some(1)]);
        let missing = table.float64("spent").unwrap_err();
        assert_eq!(
            missing.to_string(),
            "there is no column `spent` (there is: orders); declare it as an input in plugin.toml"
        );
        let wrong = table.float64("orders").unwrap_err();
        assert_eq!(wrong.to_string(), "the column `orders` is int64, not float64; its type stands in plugin.toml");
        assert!(matches!(Failure::from(wrong), Failure::Permanent(_)));
    }

    #[test]
    fn buffers_that_do_not_fit_are_refused_not_read() {
        let text = |offsets: Vec<i32>, data: &[u8]| Table {
            rows: 2,
            columns: vec![Column {
                name: "s".to_owned(),
                validity: None,
                values: Values::Text(Texts { offsets, data: data.to_vec() }),
            }],
        };
        assert!(text(vec![0, 1, 2], b"ab").text("s").is_ok());
        for (offsets, data) in [
            (vec![0, 1], &b"ab"[..]),
            (vec![0, 2, 1], b"ab"),
            (vec![0, 1, 3], b"ab"),
            (vec![0, -1, 2], b"ab"),
            (vec![0, 1, 2], b"\xc3\xa4"),
            (vec![0, 1, 2], b"a\xff"),
        ] {
            let table = text(offsets.clone(), data);
            assert!(matches!(table.text("s"), Err(ColumnError::Malformed { .. })), "{offsets:?} {data:?}");
        }
        let short = Table {
            rows: 3,
            columns: vec![Column { name: "f".to_owned(), validity: None, values: Values::Float64(vec![1.0]) }],
        };
        assert!(matches!(short.float64("f"), Err(ColumnError::Malformed { .. })));
    }

    #[test]
    fn a_column_of_another_length_is_the_authors_mistake() {
        let panic = std::panic::catch_unwind(|| Table::new(2).with_int64("i", [Some(1)])).unwrap_err();
        assert_eq!(panic.downcast_ref::<String>().unwrap(), "the column `i` was given 1 values for 2 rows");
    }
}
