//! Building a table column by column.
//!
//! A column of another length than the table is a mistake in the plugin's code, not in its input, so it panics with the column's name.

use super::{Column, Lists, Table, Texts, Values};

/// The bits of a column in the making. The bitmap is made only when the first absent value comes.
struct Bits {
    absent: Option<Vec<u8>>,
    rows: usize,
}

impl Bits {
    fn new() -> Bits {
        Bits { absent: None, rows: 0 }
    }

    /// Inlined, so that a column without absent values only counts.
    #[inline]
    fn push(&mut self, present: bool) {
        if !present || self.absent.is_some() {
            self.push_bit(present);
        }
        self.rows += 1;
    }

    fn push_bit(&mut self, present: bool) {
        let rows = self.rows;
        let bits = self.absent.get_or_insert_with(|| full(rows));
        bits.resize(rows / 8 + 1, 0);
        if present {
            bits[rows / 8] |= 1 << (rows % 8);
        }
    }
}

/// A bitmap whose first `rows` bits are set.
fn full(rows: usize) -> Vec<u8> {
    let mut bits = vec![0xff; rows / 8];
    if !rows.is_multiple_of(8) {
        bits.push((1 << (rows % 8)) - 1);
    }
    bits
}

impl Texts {
    /// Room for `rows` texts; their bytes are not known yet.
    fn with_capacity(rows: usize) -> Texts {
        let mut offsets = Vec::with_capacity(rows + 1);
        offsets.push(0);
        Texts { offsets, data: Vec::with_capacity(rows.saturating_mul(8)) }
    }

    /// Inlined whatever the compiler thinks of it: for a guest it thinks otherwise than for a machine, and every text passes here.
    #[inline(always)]
    fn push(&mut self, name: &str, text: &str) {
        match short(text.as_bytes()) {
            Some(word) => {
                let end = self.data.len() + text.len();
                self.data.extend_from_slice(&word.to_le_bytes());
                self.data.truncate(end);
            }
            None => self.data.extend_from_slice(text.as_bytes()),
        }
        self.offsets.push(offset(name, self.data.len()));
    }
}

/// A text of four to eight bytes as the first bytes of a word. Tags are short, and in a guest a copy of a length that is only
/// known at run time is a call into the host.
#[inline]
fn short(text: &[u8]) -> Option<u64> {
    let (first, last) = (text.first_chunk::<4>()?, text.last_chunk::<4>()?);
    let (first, last) = (u64::from(u32::from_le_bytes(*first)), u64::from(u32::from_le_bytes(*last)));
    // Where the two overlap they have the same bits.
    (text.len() <= 8).then(|| first | last << (8 * (text.len() - 4)))
}

/// Arrow's offsets have 32 bits, so a column holds at most 2 GiB; a table of that size never fits a plugin's memory limit.
#[inline]
fn offset(name: &str, end: usize) -> i32 {
    i32::try_from(end).unwrap_or_else(|_| panic!("the column `{name}` holds more than 2^31 - 1 bytes or items"))
}

impl Table {
    /// The same with one more column of numbers.
    ///
    /// # Panics
    /// When there are more or fewer values than the table has rows; so do its siblings.
    #[must_use]
    pub fn with_float64(self, name: impl Into<String>, values: impl IntoIterator<Item = Option<f64>>) -> Table {
        let (values, bits) = collect(values);
        self.with(name.into(), bits, Values::Float64(values))
    }

    /// The same with one more column of numbers, all present. Takes the vector as it is.
    #[must_use]
    pub fn with_float64_values(self, name: impl Into<String>, values: Vec<f64>) -> Table {
        let bits = Bits { absent: None, rows: values.len() };
        self.with(name.into(), bits, Values::Float64(values))
    }

    /// The same with one more column of whole numbers.
    #[must_use]
    pub fn with_int64(self, name: impl Into<String>, values: impl IntoIterator<Item = Option<i64>>) -> Table {
        let (values, bits) = collect(values);
        self.with(name.into(), bits, Values::Int64(values))
    }

    /// The same with one more column of whole numbers, all present. Takes the vector as it is.
    #[must_use]
    pub fn with_int64_values(self, name: impl Into<String>, values: Vec<i64>) -> Table {
        let bits = Bits { absent: None, rows: values.len() };
        self.with(name.into(), bits, Values::Int64(values))
    }

    /// The same with one more column of timestamps, in milliseconds since 1970-01-01T00:00:00Z.
    #[must_use]
    pub fn with_timestamp(self, name: impl Into<String>, values: impl IntoIterator<Item = Option<i64>>) -> Table {
        let (values, bits) = collect(values);
        self.with(name.into(), bits, Values::Timestamp(values))
    }

    /// The same with one more column of truth values.
    #[must_use]
    pub fn with_boolean(self, name: impl Into<String>, values: impl IntoIterator<Item = Option<bool>>) -> Table {
        let mut bits = Bits::new();
        let mut truth = Vec::with_capacity(self.rows.div_ceil(8));
        for value in values {
            if bits.rows.is_multiple_of(8) {
                truth.push(0);
            }
            if value == Some(true) {
                truth[bits.rows / 8] |= 1u8 << (bits.rows % 8);
            }
            bits.push(value.is_some());
        }
        self.with(name.into(), bits, Values::Boolean(truth))
    }

    /// The same with one more column of texts.
    #[must_use]
    pub fn with_text<T: AsRef<str>>(
        self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = Option<T>>,
    ) -> Table {
        let name = name.into();
        let mut bits = Bits::new();
        let values = values.into_iter();
        let mut texts = Texts::with_capacity(values.size_hint().0);
        for value in values {
            texts.push(&name, value.as_ref().map_or("", T::as_ref));
            bits.push(value.is_some());
        }
        self.with(name, bits, Values::Text(texts))
    }

    /// The same with one more column with a list of numbers in each row.
    #[must_use]
    pub fn with_float64_list<T: AsRef<[f64]>>(
        self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = Option<T>>,
    ) -> Table {
        let name = name.into();
        let (lists, bits) = collect_lists(&name, values);
        self.with(name, bits, Values::Float64List(lists))
    }

    /// The same with one more column with a list of whole numbers in each row.
    #[must_use]
    pub fn with_int64_list<T: AsRef<[i64]>>(
        self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = Option<T>>,
    ) -> Table {
        let name = name.into();
        let (lists, bits) = collect_lists(&name, values);
        self.with(name, bits, Values::Int64List(lists))
    }

    /// The same with one more column with a list of timestamps, in milliseconds since 1970-01-01T00:00:00Z, in each row.
    #[must_use]
    pub fn with_timestamp_list<T: AsRef<[i64]>>(
        self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = Option<T>>,
    ) -> Table {
        let name = name.into();
        let (lists, bits) = collect_lists(&name, values);
        self.with(name, bits, Values::TimestampList(lists))
    }

    /// The same with one more column with a list of texts in each row.
    #[must_use]
    pub fn with_text_list<I: IntoIterator<Item: AsRef<str>>>(
        self,
        name: impl Into<String>,
        values: impl IntoIterator<Item = Option<I>>,
    ) -> Table {
        let name = name.into();
        let mut bits = Bits::new();
        let mut offsets = vec![0];
        let mut items = Texts::with_capacity(0);
        for value in values {
            bits.push(value.is_some());
            for item in value.into_iter().flatten() {
                items.push(&name, item.as_ref());
            }
            offsets.push(offset(&name, items.offsets.len() - 1));
        }
        self.with(name, bits, Values::TextList(Lists { offsets, items }))
    }

    /// The same with one more column with a list of records in each row: so many of those in `records`, whose columns are the fields.
    ///
    /// # Panics
    /// As its siblings, when the rows have more or fewer records than there are, and when a field is a list.
    #[must_use]
    pub fn with_records(
        self,
        name: impl Into<String>,
        counts: impl IntoIterator<Item = Option<usize>>,
        records: Table,
    ) -> Table {
        let name = name.into();
        let (mut bits, mut offsets, mut end) = (Bits::new(), vec![0], 0);
        for count in counts {
            end += count.unwrap_or_default();
            offsets.push(offset(&name, end));
            bits.push(count.is_some());
        }
        assert!(end == records.rows, "the column `{name}` was given {} records for {end}", records.rows);
        let list = records.columns().find(|(_, column_type)| !column_type.is_single());
        assert!(list.is_none(), "the field {list:?} of the column `{name}` is a list");
        self.with(name, bits, Values::Records(Lists { offsets, items: records }))
    }

    fn with(mut self, name: String, bits: Bits, values: Values) -> Table {
        assert!(bits.rows == self.rows, "the column `{name}` was given {} values for {} rows", bits.rows, self.rows);
        assert!(self.columns.iter().all(|column| column.name != name), "there are two columns `{name}`");
        self.columns.push(Column { name, validity: bits.absent, values });
        self
    }
}

fn collect<T: Default>(values: impl IntoIterator<Item = Option<T>>) -> (Vec<T>, Bits) {
    let mut bits = Bits::new();
    let values = values
        .into_iter()
        .map(|value| {
            bits.push(value.is_some());
            value.unwrap_or_default()
        })
        .collect();
    (values, bits)
}

fn collect_lists<T: Clone, L: AsRef<[T]>>(
    name: &str,
    values: impl IntoIterator<Item = Option<L>>,
) -> (Lists<Vec<T>>, Bits) {
    let mut bits = Bits::new();
    let mut lists = Lists { offsets: vec![0], items: Vec::new() };
    for value in values {
        if let Some(list) = &value {
            lists.items.extend_from_slice(list.as_ref());
        }
        lists.offsets.push(offset(name, lists.items.len()));
        bits.push(value.is_some());
    }
    (lists, bits)
}
