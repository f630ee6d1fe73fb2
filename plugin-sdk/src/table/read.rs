//! Typed, borrowing views of a table's columns. Every view checks its buffers once, when it is taken.

use super::{Column, ColumnError, ColumnType, Lists, Table, Texts, Values, bit};

/// A column of fixed-width values: the values, a bit for each row where some are absent.
macro_rules! number_column {
    ($name:ident, $item:ty, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy)]
        pub struct $name<'a> {
            values: &'a [$item],
            validity: Option<&'a [u8]>,
        }

        impl<'a> $name<'a> {
            /// The value in a row; `None` where it is absent.
            #[inline]
            pub fn get(&self, row: usize) -> Option<$item> {
                if self.validity.is_none_or(|bits| bit(bits, row)) { self.values.get(row).copied() } else { None }
            }

            /// The values of all rows, in order.
            pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<$item>> + use<'a> {
                let column = *self;
                (0..self.values.len()).map(move |row| column.get(row))
            }

            /// The bare values; what stands in a row whose value is absent means nothing.
            pub fn values(&self) -> &'a [$item] {
                self.values
            }

            /// How many rows.
            pub fn len(&self) -> usize {
                self.values.len()
            }

            /// Whether there is no row.
            pub fn is_empty(&self) -> bool {
                self.values.is_empty()
            }
        }
    };
}

number_column!(Float64Column, f64, "A column of numbers.");
number_column!(
    Int64Column,
    i64,
    "A column of whole numbers, or of timestamps in milliseconds since 1970-01-01T00:00:00Z."
);

/// A column of `true` and `false`.
#[derive(Debug, Clone, Copy)]
pub struct BooleanColumn<'a> {
    rows: usize,
    bits: &'a [u8],
    validity: Option<&'a [u8]>,
}

impl<'a> BooleanColumn<'a> {
    /// The value in a row; `None` where it is absent.
    pub fn get(&self, row: usize) -> Option<bool> {
        (row < self.rows && self.validity.is_none_or(|bits| bit(bits, row))).then(|| bit(self.bits, row))
    }

    /// The values of all rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<bool>> + use<'a> {
        let column = *self;
        (0..self.rows).map(move |row| column.get(row))
    }

    /// How many rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    /// Whether there is no row.
    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }
}

/// A column of texts.
#[derive(Debug, Clone, Copy)]
pub struct TextColumn<'a> {
    offsets: &'a [i32],
    data: &'a str,
    validity: Option<&'a [u8]>,
}

impl<'a> TextColumn<'a> {
    /// The text in a row; `None` where it is absent.
    #[inline]
    pub fn get(&self, row: usize) -> Option<&'a str> {
        if self.validity.is_none_or(|bits| bit(bits, row)) { self.data.get(range(self.offsets, row)?) } else { None }
    }

    /// The texts of all rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&'a str>> + use<'a> {
        let column = *self;
        (0..self.len()).map(move |row| column.get(row))
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

/// A column with a list of values in each row.
macro_rules! list_column {
    ($name:ident, $item:ty, $doc:literal) => {
        #[doc = $doc]
        #[derive(Debug, Clone, Copy)]
        pub struct $name<'a> {
            offsets: &'a [i32],
            items: &'a [$item],
            validity: Option<&'a [u8]>,
        }

        impl<'a> $name<'a> {
            /// The list in a row; `None` where it is absent.
            pub fn get(&self, row: usize) -> Option<&'a [$item]> {
                if self.validity.is_none_or(|bits| bit(bits, row)) {
                    self.items.get(range(self.offsets, row)?)
                } else {
                    None
                }
            }

            /// The lists of all rows, in order.
            pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<&'a [$item]>> + use<'a> {
                let column = *self;
                (0..self.len()).map(move |row| column.get(row))
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
    };
}

list_column!(Float64ListColumn, f64, "A column with a list of numbers in each row.");
list_column!(
    Int64ListColumn,
    i64,
    "A column with a list of whole numbers, or of timestamps in milliseconds, in each row."
);

/// A column with a list of texts in each row.
#[derive(Debug, Clone, Copy)]
pub struct TextListColumn<'a> {
    offsets: &'a [i32],
    items: TextColumn<'a>,
    validity: Option<&'a [u8]>,
}

impl<'a> TextListColumn<'a> {
    /// The list in a row; `None` where it is absent.
    pub fn get(&self, row: usize) -> Option<TextList<'a>> {
        if self.validity.is_none_or(|bits| bit(bits, row)) {
            let range = range(self.offsets, row)?;
            Some(TextList { items: self.items, start: range.start, end: range.end })
        } else {
            None
        }
    }

    /// The lists of all rows, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = Option<TextList<'a>>> + use<'a> {
        let column = *self;
        (0..self.len()).map(move |row| column.get(row))
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

/// The texts of one row.
#[derive(Debug, Clone, Copy)]
pub struct TextList<'a> {
    items: TextColumn<'a>,
    start: usize,
    end: usize,
}

impl<'a> TextList<'a> {
    /// The text at a place in the list; `None` past its end.
    pub fn get(&self, index: usize) -> Option<&'a str> {
        if index < self.len() { self.items.get(self.start + index) } else { None }
    }

    /// The texts, in order.
    pub fn iter(&self) -> impl ExactSizeIterator<Item = &'a str> + use<'a> {
        let items = self.items;
        // The offsets were checked when the column was taken, so that every item is there.
        (self.start..self.end).map(move |index| items.get(index).unwrap_or_default())
    }

    /// How many texts.
    pub fn len(&self) -> usize {
        self.end - self.start
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.start == self.end
    }
}

impl Table {
    /// The numbers of a column.
    pub fn float64(&self, name: &str) -> Result<Float64Column<'_>, ColumnError> {
        match self.column(name)? {
            Column { values: Values::Float64(values), validity, .. } => {
                Ok(Float64Column { values: self.whole(name, values)?, validity: self.bits(name, validity)? })
            }
            column => Err(wrong_type(column, ColumnType::Float64)),
        }
    }

    /// The whole numbers of a column.
    pub fn int64(&self, name: &str) -> Result<Int64Column<'_>, ColumnError> {
        match self.column(name)? {
            Column { values: Values::Int64(values), validity, .. } => {
                Ok(Int64Column { values: self.whole(name, values)?, validity: self.bits(name, validity)? })
            }
            column => Err(wrong_type(column, ColumnType::Int64)),
        }
    }

    /// The timestamps of a column, in milliseconds since 1970-01-01T00:00:00Z.
    pub fn timestamp(&self, name: &str) -> Result<Int64Column<'_>, ColumnError> {
        match self.column(name)? {
            Column { values: Values::Timestamp(values), validity, .. } => {
                Ok(Int64Column { values: self.whole(name, values)?, validity: self.bits(name, validity)? })
            }
            column => Err(wrong_type(column, ColumnType::Timestamp)),
        }
    }

    /// The truth values of a column.
    pub fn boolean(&self, name: &str) -> Result<BooleanColumn<'_>, ColumnError> {
        match self.column(name)? {
            Column { values: Values::Boolean(bits), validity, .. } => {
                if bits.len() < self.rows.div_ceil(8) {
                    return Err(malformed(name, "it has fewer bits than the table has rows"));
                }
                Ok(BooleanColumn { rows: self.rows, bits, validity: self.bits(name, validity)? })
            }
            column => Err(wrong_type(column, ColumnType::Boolean)),
        }
    }

    /// The texts of a column.
    pub fn text(&self, name: &str) -> Result<TextColumn<'_>, ColumnError> {
        match self.column(name)? {
            Column { values: Values::Text(texts), validity, .. } => {
                texts_column(name, texts, self.rows, self.bits(name, validity)?)
            }
            column => Err(wrong_type(column, ColumnType::Text)),
        }
    }

    /// The lists of numbers of a column.
    pub fn float64_list(&self, name: &str) -> Result<Float64ListColumn<'_>, ColumnError> {
        match self.column(name)? {
            Column { values: Values::Float64List(Lists { offsets, items }), validity, .. } => {
                check_offsets(name, offsets, self.rows, items.len())?;
                Ok(Float64ListColumn { offsets, items, validity: self.bits(name, validity)? })
            }
            column => Err(wrong_type(column, ColumnType::Float64List)),
        }
    }

    /// The lists of whole numbers of a column.
    pub fn int64_list(&self, name: &str) -> Result<Int64ListColumn<'_>, ColumnError> {
        match self.column(name)? {
            Column { values: Values::Int64List(Lists { offsets, items }), validity, .. } => {
                check_offsets(name, offsets, self.rows, items.len())?;
                Ok(Int64ListColumn { offsets, items, validity: self.bits(name, validity)? })
            }
            column => Err(wrong_type(column, ColumnType::Int64List)),
        }
    }

    /// The lists of timestamps of a column, in milliseconds since 1970-01-01T00:00:00Z.
    pub fn timestamp_list(&self, name: &str) -> Result<Int64ListColumn<'_>, ColumnError> {
        match self.column(name)? {
            Column { values: Values::TimestampList(Lists { offsets, items }), validity, .. } => {
                check_offsets(name, offsets, self.rows, items.len())?;
                Ok(Int64ListColumn { offsets, items, validity: self.bits(name, validity)? })
            }
            column => Err(wrong_type(column, ColumnType::TimestampList)),
        }
    }

    /// The lists of texts of a column.
    pub fn text_list(&self, name: &str) -> Result<TextListColumn<'_>, ColumnError> {
        match self.column(name)? {
            Column { values: Values::TextList(Lists { offsets, items }), validity, .. } => {
                let count = items.offsets.len().saturating_sub(1);
                check_offsets(name, offsets, self.rows, count)?;
                let items = texts_column(name, items, count, None)?;
                Ok(TextListColumn { offsets, items, validity: self.bits(name, validity)? })
            }
            column => Err(wrong_type(column, ColumnType::TextList)),
        }
    }

    pub(super) fn column(&self, name: &str) -> Result<&Column, ColumnError> {
        self.columns.iter().find(|column| column.name == name).ok_or_else(|| ColumnError::Missing {
            name: name.to_owned(),
            present: self.columns.iter().map(|column| column.name.clone()).collect(),
        })
    }

    fn whole<'a, T>(&self, name: &str, values: &'a [T]) -> Result<&'a [T], ColumnError> {
        values.get(..self.rows).ok_or_else(|| malformed(name, "it has fewer values than the table has rows"))
    }

    pub(super) fn bits<'a>(&self, name: &str, validity: &'a Option<Vec<u8>>) -> Result<Option<&'a [u8]>, ColumnError> {
        match validity {
            Some(bits) if bits.len() < self.rows.div_ceil(8) => {
                Err(malformed(name, "its validity has fewer bits than the table has rows"))
            }
            validity => Ok(validity.as_deref()),
        }
    }
}

pub(super) fn wrong_type(column: &Column, expected: ColumnType) -> ColumnError {
    ColumnError::WrongType { name: column.name.clone(), expected, found: column.values.column_type() }
}

fn malformed(name: &str, what: &'static str) -> ColumnError {
    ColumnError::Malformed { name: name.to_owned(), what }
}

fn texts_column<'a>(
    name: &str,
    texts: &'a Texts,
    rows: usize,
    validity: Option<&'a [u8]>,
) -> Result<TextColumn<'a>, ColumnError> {
    check_offsets(name, &texts.offsets, rows, texts.data.len())?;
    let data = std::str::from_utf8(&texts.data).map_err(|_| malformed(name, "its texts are not UTF-8"))?;
    // In ASCII every place is a boundary, and most columns are ASCII.
    if !data.is_ascii() && texts.offsets.iter().any(|&offset| !data.is_char_boundary(offset as usize)) {
        return Err(malformed(name, "an offset falls inside a character"));
    }
    Ok(TextColumn { offsets: &texts.offsets, data, validity })
}

/// `rows + 1` offsets that begin with 0, never fall and end within `count` items; so no offset is negative either.
pub(super) fn check_offsets(name: &str, offsets: &[i32], rows: usize, count: usize) -> Result<(), ColumnError> {
    if offsets.len() != rows + 1 {
        return Err(malformed(name, "it does not have one offset more than the table has rows"));
    }
    // Without an early end the loop is a handful of instructions for each row.
    let falls = offsets.windows(2).fold(false, |falls, pair| falls | (pair[0] > pair[1]));
    if offsets[0] != 0 || falls {
        return Err(malformed(name, "its offsets do not begin with 0 and rise"));
    }
    if offsets[rows] as usize > count {
        return Err(malformed(name, "its offsets end past its items"));
    }
    Ok(())
}

#[inline]
pub(super) fn range(offsets: &[i32], row: usize) -> Option<std::ops::Range<usize>> {
    Some(*offsets.get(row)? as usize..*offsets.get(row + 1)? as usize)
}
