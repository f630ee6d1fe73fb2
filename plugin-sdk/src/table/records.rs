//! Records: a list of them in each row, and of all together a column for each field, so that what is absent keeps its place.

use std::ops::Range;

use super::read::{check_offsets, range, wrong_type};
use super::{Column, ColumnError, ColumnType, Lists, Table, Values, bit};

/// The fields of records, a column for each, as [`manifest!`](crate::manifest) makes a type of them.
pub trait RecordFields: Copy {
    /// One record.
    type Record;

    /// The record at a place among those of all rows.
    fn record(&self, place: usize) -> Self::Record;
}

/// A column with a list of records in each row.
#[derive(Debug, Clone, Copy)]
pub struct RecordsColumn<'a, F> {
    offsets: &'a [i32],
    validity: Option<&'a [u8]>,
    fields: F,
}

impl<F: Copy> RecordsColumn<'_, F> {
    /// The fields, each with a value for each record of all rows.
    pub fn fields(&self) -> F {
        self.fields
    }

    /// Where a row's records are among those of all rows; `None` where it is absent.
    pub fn places(&self, row: usize) -> Option<Range<usize>> {
        if self.validity.is_none_or(|bits| bit(bits, row)) { range(self.offsets, row) } else { None }
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.offsets.len() - 1
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl<'a, F: RecordFields> RecordsColumn<'a, F> {
    /// The records in a row; `None` where they are absent.
    pub fn get(&self, row: usize) -> Option<Records<F>> {
        self.places(row).map(|Range { start, end }| Records { fields: self.fields, start, end })
    }

    /// The records of all rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<Records<F>>> + use<'a, F> {
        let column = *self;
        (0..self.len()).map(move |row| column.get(row))
    }
}

/// The records of one row.
#[derive(Debug, Clone, Copy)]
pub struct Records<F> {
    fields: F,
    start: usize,
    end: usize,
}

impl<F: RecordFields> Records<F> {
    /// The record at a place in the list; `None` past its end.
    pub fn get(&self, index: usize) -> Option<F::Record> {
        (index < self.len()).then(|| self.fields.record(self.start + index))
    }

    /// The records, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = F::Record> + use<F> {
        let fields = self.fields;
        (self.start..self.end).map(move |place| fields.record(place))
    }

    /// How many records.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl Table {
    /// The lists of records of a column. `read` takes the fields from the table that has a row for each record:
    ///
    /// ```
    /// use kith_plugin_sdk::Table;
    ///
    /// let orders = Table::new(3)
    ///     .with_float64("amount", [Some(1.5), None, Some(2.0)])
    ///     .with_text("category", [Some("tea"), Some("figs"), None]);
    /// let rows = Table::new(2).with_records("orders", [Some(2), Some(1)], orders);
    /// let orders = rows.records("orders", |orders| Ok((orders.float64("amount")?, orders.text("category")?)))?;
    /// let (amount, category) = orders.fields();
    /// let first: Vec<_> = orders.places(0).unwrap().map(|place| (amount.get(place), category.get(place))).collect();
    /// assert_eq!(first, [(Some(1.5), Some("tea")), (None, Some("figs"))]);
    /// # Ok::<(), kith_plugin_sdk::ColumnError>(())
    /// ```
    pub fn records<'a, F>(
        &'a self,
        name: &str,
        read: impl FnOnce(&'a Table) -> Result<F, ColumnError>,
    ) -> Result<RecordsColumn<'a, F>, ColumnError> {
        match self.column(name)? {
            Column { values: Values::Records(Lists { offsets, items }), validity, .. } => {
                check_offsets(name, offsets, self.rows, items.rows)?;
                let fields = read(items).map_err(|error| error.in_records(name))?;
                Ok(RecordsColumn { offsets, validity: self.bits(name, validity)?, fields })
            }
            column => Err(wrong_type(column, ColumnType::Records)),
        }
    }
}
