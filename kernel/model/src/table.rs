//! Column batches in Arrow's physical layout: what compute plugins take and return.
//!
//! Buffers are kept as they cross the plugin boundary, so that a batch costs one copy a buffer, not one a value.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// Most fields of a record.
pub const MAX_RECORD_FIELDS: usize = 16;

/// The type of a column.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum ColumnType {
    Boolean,
    Int64,
    Float64,
    /// Milliseconds since 1970-01-01T00:00:00Z.
    Timestamp,
    Text,
    Int64List,
    Float64List,
    TimestampList,
    TextList,
    /// A list of records of these fields.
    Records(Vec<RecordField>),
}

/// A field of records.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct RecordField {
    pub name: String,
    /// One of single values.
    pub column_type: ColumnType,
}

/// Offsets and bytes of UTF-8 texts: text `i` is `data[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Texts {
    pub offsets: Vec<i32>,
    pub data: Vec<u8>,
}

/// A list in each row: row `i` holds `items[offsets[i]..offsets[i + 1]]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Lists<T> {
    pub offsets: Vec<i32>,
    pub items: T,
}

/// The values of one column.
#[derive(Debug, Clone, PartialEq)]
pub enum Values {
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
    /// The records of all rows, one behind the other, with a column for each field: what is absent keeps its place.
    Records(Lists<Table>),
}

/// A named column. `validity` has one bit a row, least significant bit first, 1 = present; `None` when every row is.
#[derive(Debug, Clone, PartialEq)]
pub struct Column {
    pub name: String,
    pub validity: Option<Vec<u8>>,
    pub values: Values,
}

/// A batch of rows. [`Table::validate`] tells whether the buffers fit together; the host checks it on all that a guest returns.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Table {
    pub rows: usize,
    pub columns: Vec<Column>,
}

/// One value of a column.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    Null,
    Boolean(bool),
    Int64(i64),
    Float64(f64),
    Timestamp(i64),
    Text(String),
    Int64List(Vec<i64>),
    Float64List(Vec<f64>),
    TimestampList(Vec<i64>),
    TextList(Vec<String>),
    /// Of each record a cell for each field, in their order.
    Records(Vec<Vec<Cell>>),
}

/// Why buffers are no table.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum InvalidTable {
    #[error("column `{column}`: {problem}")]
    Column { column: String, problem: String },
    #[error("column `{0}` appears twice")]
    Twice(String),
}

impl Values {
    /// The type of these values.
    pub fn column_type(&self) -> ColumnType {
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
            Values::Records(lists) => {
                let field = |column: &Column| RecordField {
                    name: column.name.clone(),
                    column_type: column.values.column_type(),
                };
                ColumnType::Records(lists.items.columns.iter().map(field).collect())
            }
        }
    }
}

fn bit(bits: &[u8], row: usize) -> bool {
    bits[row / 8] & (1 << (row % 8)) != 0
}

fn check_offsets(offsets: &[i32], rows: usize, end: usize) -> Result<(), String> {
    if offsets.len() != rows + 1 {
        return Err(format!("{} offsets for {rows} rows; there must be {}", offsets.len(), rows + 1));
    }
    // Nearly all are in order, and a look that does not end early goes over several at once.
    let rise = offsets.windows(2).fold(true, |rise, pair| rise & (pair[0] <= pair[1]));
    let in_order = offsets[0] == 0 && rise;
    let ends_right = usize::try_from(offsets[rows]).is_ok_and(|last| last == end);
    match (in_order, ends_right) {
        (true, true) => Ok(()),
        (false, _) => Err("offsets must begin with 0 and never fall".into()),
        (true, false) => Err(format!("the last offset is {}, but there are {end} items", offsets[rows])),
    }
}

fn check_texts(texts: &Texts, rows: usize) -> Result<(), String> {
    check_offsets(&texts.offsets, rows, texts.data.len())?;
    let data = std::str::from_utf8(&texts.data).map_err(|error| format!("text is not UTF-8: {error}"))?;
    let is_boundary = |offset: &i32| data.is_char_boundary(offset.unsigned_abs() as usize);
    let splits = !data.is_ascii() && !texts.offsets.iter().all(is_boundary);
    if splits { Err("an offset splits a character".into()) } else { Ok(()) }
}

impl Column {
    /// Whether the row has a value.
    ///
    /// # Panics
    /// If `row` is outside a validated column.
    pub fn is_valid(&self, row: usize) -> bool {
        self.validity.as_ref().is_none_or(|bits| bit(bits, row))
    }

    fn check(&self, rows: usize) -> Result<(), String> {
        let bytes = rows.div_ceil(8);
        let exactly = |len: usize, wanted: usize, what: &str| {
            if len == wanted { Ok(()) } else { Err(format!("{len} {what} for {rows} rows; there must be {wanted}")) }
        };
        if let Some(bits) = &self.validity {
            exactly(bits.len(), bytes, "validity bytes")?;
        }
        match &self.values {
            Values::Boolean(bits) => exactly(bits.len(), bytes, "bytes of bits"),
            Values::Int64(values) | Values::Timestamp(values) => exactly(values.len(), rows, "values"),
            Values::Float64(values) => exactly(values.len(), rows, "values"),
            Values::Text(texts) => check_texts(texts, rows),
            Values::Int64List(lists) | Values::TimestampList(lists) => {
                check_offsets(&lists.offsets, rows, lists.items.len())
            }
            Values::Float64List(lists) => check_offsets(&lists.offsets, rows, lists.items.len()),
            Values::TextList(lists) => {
                let items = lists.items.offsets.len().saturating_sub(1);
                check_offsets(&lists.offsets, rows, items)?;
                check_texts(&lists.items, items)
            }
            Values::Records(lists) => {
                check_offsets(&lists.offsets, rows, lists.items.rows)?;
                lists.items.validate().map_err(|problem| problem.to_string())
            }
        }
    }

    /// The value in `row`.
    ///
    /// # Panics
    /// If `row` is outside a validated column.
    pub fn cell(&self, row: usize) -> Cell {
        if !self.is_valid(row) {
            return Cell::Null;
        }
        let range = |offsets: &[i32]| offsets[row].unsigned_abs() as usize..offsets[row + 1].unsigned_abs() as usize;
        match &self.values {
            Values::Boolean(bits) => Cell::Boolean(bit(bits, row)),
            Values::Int64(values) => Cell::Int64(values[row]),
            Values::Float64(values) => Cell::Float64(values[row]),
            Values::Timestamp(values) => Cell::Timestamp(values[row]),
            Values::Text(texts) => Cell::Text(texts.get(row)),
            Values::Int64List(lists) => Cell::Int64List(lists.items[range(&lists.offsets)].to_vec()),
            Values::Float64List(lists) => Cell::Float64List(lists.items[range(&lists.offsets)].to_vec()),
            Values::TimestampList(lists) => Cell::TimestampList(lists.items[range(&lists.offsets)].to_vec()),
            Values::TextList(lists) => {
                Cell::TextList(range(&lists.offsets).map(|item| lists.items.get(item)).collect())
            }
            Values::Records(lists) => {
                let record = |place: usize| lists.items.columns.iter().map(|field| field.cell(place)).collect();
                Cell::Records(range(&lists.offsets).map(record).collect())
            }
        }
    }
}

impl Texts {
    /// No texts.
    pub fn empty() -> Texts {
        Texts { offsets: vec![0], data: Vec::new() }
    }

    /// Add one text.
    ///
    /// # Panics
    /// If all texts together pass 2 GiB, the end of Arrow's 32-bit offsets; batches are of some hundred rows.
    pub fn push(&mut self, text: &str) {
        self.data.extend_from_slice(text.as_bytes());
        self.offsets.push(i32::try_from(self.data.len()).expect("a batch's texts stay below 2 GiB"));
    }

    /// Text `index`; bytes that are no UTF-8 are replaced.
    ///
    /// # Panics
    /// If there is no text `index`.
    pub fn get(&self, index: usize) -> String {
        let range = self.offsets[index].unsigned_abs() as usize..self.offsets[index + 1].unsigned_abs() as usize;
        String::from_utf8_lossy(&self.data[range]).into_owned()
    }
}

impl Table {
    /// The column `name`.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Whether all buffers have the right lengths, offsets rise, and texts are UTF-8.
    pub fn validate(&self) -> Result<(), InvalidTable> {
        let mut seen = BTreeMap::new();
        for column in &self.columns {
            if seen.insert(&column.name, ()).is_some() {
                return Err(InvalidTable::Twice(column.name.clone()));
            }
            column.check(self.rows).map_err(|problem| InvalidTable::Column { column: column.name.clone(), problem })?;
        }
        Ok(())
    }
}

/// Builds one column row by row.
#[derive(Debug, Clone)]
pub struct ColumnBuilder {
    name: String,
    rows: usize,
    validity: Vec<u8>,
    nulls: usize,
    values: Values,
    /// Of a column of records one for each field, whose columns are among its values once it is finished.
    fields: Vec<ColumnBuilder>,
}

/// A cell of the wrong type was pushed.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("column `{column}` is of type {expected:?} and takes no {cell:?}")]
pub struct WrongCell {
    column: String,
    expected: ColumnType,
    cell: Cell,
}

fn push_bit(bits: &mut Vec<u8>, row: usize, value: bool) {
    if row.is_multiple_of(8) {
        bits.push(0);
    }
    if value {
        bits[row / 8] |= 1 << (row % 8);
    }
}

fn end(len: usize) -> i32 {
    i32::try_from(len).expect("a batch's list items stay below 2^31")
}

/// Add records to the columns of their fields.
fn push_records(column: &str, fields: &mut [ColumnBuilder], records: Vec<Vec<Cell>>) -> Result<(), WrongCell> {
    for record in records {
        if record.len() != fields.len() {
            let expected = fields.iter().map(ColumnBuilder::field).collect();
            let (column, expected) = (column.to_owned(), ColumnType::Records(expected));
            return Err(WrongCell { column, expected, cell: Cell::Records(vec![record]) });
        }
        for (field, cell) in fields.iter_mut().zip(record) {
            field.push(cell)?;
        }
    }
    Ok(())
}

impl ColumnBuilder {
    /// What a record has of it.
    fn field(&self) -> RecordField {
        RecordField { name: self.name.clone(), column_type: self.values.column_type() }
    }

    /// An empty column of the given type.
    pub fn new(name: impl Into<String>, column_type: &ColumnType) -> ColumnBuilder {
        let mut fields = Vec::new();
        let values = match column_type {
            ColumnType::Boolean => Values::Boolean(Vec::new()),
            ColumnType::Int64 => Values::Int64(Vec::new()),
            ColumnType::Float64 => Values::Float64(Vec::new()),
            ColumnType::Timestamp => Values::Timestamp(Vec::new()),
            ColumnType::Text => Values::Text(Texts::empty()),
            ColumnType::Int64List => Values::Int64List(Lists { offsets: vec![0], items: Vec::new() }),
            ColumnType::Float64List => Values::Float64List(Lists { offsets: vec![0], items: Vec::new() }),
            ColumnType::TimestampList => Values::TimestampList(Lists { offsets: vec![0], items: Vec::new() }),
            ColumnType::TextList => Values::TextList(Lists { offsets: vec![0], items: Texts::empty() }),
            ColumnType::Records(declared) => {
                fields.extend(declared.iter().map(|field| ColumnBuilder::new(&field.name, &field.column_type)));
                Values::Records(Lists { offsets: vec![0], items: Table::default() })
            }
        };
        ColumnBuilder { name: name.into(), rows: 0, validity: Vec::new(), nulls: 0, values, fields }
    }

    /// Add one row. A whole number is taken by a column of floats.
    ///
    /// # Errors
    /// [`WrongCell`] when the cell is neither null nor of the column's type. The column is unchanged, but one of records may have
    /// a part of them, and is of no use any more.
    pub fn push(&mut self, cell: Cell) -> Result<(), WrongCell> {
        let null = cell == Cell::Null;
        match (&mut self.values, cell) {
            (Values::Boolean(bits), Cell::Boolean(value)) => push_bit(bits, self.rows, value),
            (Values::Boolean(bits), Cell::Null) => push_bit(bits, self.rows, false),
            (Values::Int64(values), Cell::Int64(value)) => values.push(value),
            (Values::Timestamp(values), Cell::Timestamp(value)) => values.push(value),
            (Values::Int64(values) | Values::Timestamp(values), Cell::Null) => values.push(0),
            (Values::Float64(values), Cell::Float64(value)) => values.push(value),
            #[allow(clippy::cast_precision_loss, reason = "the column was declared as float")]
            (Values::Float64(values), Cell::Int64(value)) => values.push(value as f64),
            (Values::Float64(values), Cell::Null) => values.push(0.0),
            (Values::Text(texts), Cell::Text(value)) => texts.push(&value),
            (Values::Text(texts), Cell::Null) => texts.push(""),
            (Values::Int64List(lists), Cell::Int64List(value)) => lists.items.extend(value),
            (Values::TimestampList(lists), Cell::TimestampList(value)) => lists.items.extend(value),
            (Values::Float64List(lists), Cell::Float64List(value)) => lists.items.extend(value),
            (Values::TextList(lists), Cell::TextList(value)) => value.iter().for_each(|text| lists.items.push(text)),
            (Values::Records(lists), Cell::Records(records)) => {
                lists.items.rows += records.len();
                push_records(&self.name, &mut self.fields, records)?;
            }
            (
                Values::Int64List(_)
                | Values::TimestampList(_)
                | Values::Float64List(_)
                | Values::TextList(_)
                | Values::Records(_),
                Cell::Null,
            ) => {}
            (values, cell) => {
                return Err(WrongCell { column: self.name.clone(), expected: values.column_type(), cell });
            }
        }
        match &mut self.values {
            Values::Int64List(lists) | Values::TimestampList(lists) => lists.offsets.push(end(lists.items.len())),
            Values::Float64List(lists) => lists.offsets.push(end(lists.items.len())),
            Values::TextList(lists) => lists.offsets.push(end(lists.items.offsets.len() - 1)),
            Values::Records(lists) => lists.offsets.push(end(lists.items.rows)),
            _ => {}
        }
        push_bit(&mut self.validity, self.rows, !null);
        self.nulls += usize::from(null);
        self.rows += 1;
        Ok(())
    }

    /// The finished column.
    pub fn finish(mut self) -> Column {
        if let Values::Records(lists) = &mut self.values {
            lists.items.columns = self.fields.into_iter().map(ColumnBuilder::finish).collect();
        }
        Column { name: self.name, validity: (self.nulls > 0).then_some(self.validity), values: self.values }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Records of a time and a city.
    fn order() -> ColumnType {
        let field = |name: &str, column_type| RecordField { name: name.into(), column_type };
        ColumnType::Records(vec![field("time", ColumnType::Timestamp), field("city", ColumnType::Text)])
    }

    #[test]
    fn what_is_pushed_is_read() {
        let rows = [
            (ColumnType::Boolean, vec![Cell::Boolean(true), Cell::Null, Cell::Boolean(false)]),
            (ColumnType::Int64, vec![Cell::Int64(-1), Cell::Null, Cell::Int64(7)]),
            (ColumnType::Text, vec![Cell::Text("né".into()), Cell::Null, Cell::Text(String::new())]),
            (
                ColumnType::TextList,
                vec![Cell::TextList(vec!["a".into(), "é".into()]), Cell::Null, Cell::TextList(vec![])],
            ),
            (
                ColumnType::Float64List,
                vec![Cell::Float64List(vec![1.5]), Cell::Null, Cell::Float64List(vec![2.0, 3.0])],
            ),
            (
                order(),
                vec![
                    Cell::Records(vec![
                        vec![Cell::Timestamp(5), Cell::Text("é".into())],
                        vec![Cell::Timestamp(7), Cell::Null],
                    ]),
                    Cell::Null,
                    Cell::Records(vec![]),
                    Cell::Records(vec![vec![Cell::Null, Cell::Text(String::new())]]),
                ],
            ),
        ];
        for (column_type, cells) in rows {
            let mut builder = ColumnBuilder::new("x", &column_type);
            cells.iter().for_each(|cell| builder.push(cell.clone()).unwrap());
            let table = Table { rows: cells.len(), columns: vec![builder.finish()] };
            assert_eq!(table.validate(), Ok(()));
            let read: Vec<Cell> = (0..cells.len()).map(|row| table.columns[0].cell(row)).collect();
            assert_eq!(read, cells);
        }
        assert!(ColumnBuilder::new("x", &ColumnType::Int64).push(Cell::Text("1".into())).is_err());
        for record in [vec![Cell::Timestamp(1)], vec![Cell::Text("1".into()), Cell::Null]] {
            assert!(ColumnBuilder::new("x", &order()).push(Cell::Records(vec![record])).is_err());
        }
    }

    #[test]
    fn records_have_a_column_for_each_field_and_absent_values_keep_their_place() {
        let mut builder = ColumnBuilder::new("x", &order());
        let record = |time: i64, city: Option<&str>| {
            vec![Cell::Timestamp(time), city.map_or(Cell::Null, |city| Cell::Text(city.into()))]
        };
        builder.push(Cell::Records(vec![record(1, None), record(2, Some("Oslo"))])).unwrap();
        builder.push(Cell::Records(vec![record(3, None)])).unwrap();
        let column = builder.finish();
        assert_eq!(column.values.column_type(), order());
        let Values::Records(lists) = column.values else { panic!("{column:?}") };
        assert_eq!((lists.offsets, lists.items.rows), (vec![0, 2, 3], 3));
        assert_eq!(lists.items.columns[0].values, Values::Timestamp(vec![1, 2, 3]));
        assert_eq!(lists.items.columns[1].validity, Some(vec![0b010]));
    }

    #[test]
    fn buffers_that_do_not_fit_are_refused() {
        let texts = |offsets: Vec<i32>, data: &str| Values::Text(Texts { offsets, data: data.into() });
        let records = |offsets: Vec<i32>, rows: usize, values: Values| {
            let field = Column { name: "f".into(), validity: None, values };
            Values::Records(Lists { offsets, items: Table { rows, columns: vec![field] } })
        };
        let bad = [
            records(vec![0, 1, 2], 1, Values::Int64(vec![1])),
            records(vec![0, 1, 1], 1, Values::Int64(vec![1, 2])),
            records(vec![0, 0, -1], 0, Values::Int64(vec![])),
            Values::Int64(vec![1]),
            Values::Boolean(vec![]),
            texts(vec![0, 1], "ab"),
            texts(vec![0, 3, 2], "ab"),
            texts(vec![0, 1, 2], "é"),
            texts(vec![0, -1, 2], "ab"),
        ];
        for values in bad {
            let column = Column { name: "x".into(), validity: None, values };
            let table = Table { rows: 2, columns: vec![column] };
            assert!(table.validate().is_err(), "{table:?}");
        }
    }
}
