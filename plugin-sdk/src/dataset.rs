//! The data set of a `fit`, batch by batch. Leaves which rows and when to the kernel.

use crate::Table;

/// Some rows of a data set.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The manifest's inputs.
    pub rows: Table,
    /// Of each row's person, to split people into training and test: the same in every pass, fit and version of an installation, and
    /// another in every other installation. Take some digits of it: `id % 10 == 0` is a tenth of the people.
    pub ids: Vec<u64>,
    /// Where the manifest has `[training]`: what came after each row's cut-off, true as 1; `None` of a row whose label has no value.
    pub labels: Option<Vec<Option<f64>>>,
    /// Where the manifest has `[training]`: as of when each row is, in milliseconds since 1970-01-01T00:00:00Z.
    pub cut_offs: Option<Vec<i64>>,
}

impl Batch {
    /// Each row that has a label, by its number, with the label; none without `[training]`.
    pub fn labelled(&self) -> impl Iterator<Item = (usize, f64)> {
        self.labels.iter().flatten().enumerate().filter_map(|(row, label)| Some((row, (*label)?)))
    }
}

/// The data set of a `fit`: batches of rows, one after the other, in memory one at a time, and as often as they are read.
///
/// ```
/// use kith_plugin_sdk::{Dataset, Table};
///
/// fn variance(mut dataset: Dataset) -> f64 {
///     let (mut people, mut sum) = (0.0, 0.0);
///     for batch in &mut dataset {
///         people += batch.rows.len() as f64;
///         sum += batch.rows.float64("spent").unwrap().iter().flatten().sum::<f64>();
///     }
///     let mean = sum / people;
///     dataset.rewind();
///     let squares = |batch: kith_plugin_sdk::Batch| -> f64 {
///         batch.rows.float64("spent").unwrap().iter().flatten().map(|spent| (spent - mean).powi(2)).sum()
///     };
///     dataset.map(squares).sum::<f64>() / people
/// }
///
/// let spent = Table::new(2).with_float64("spent", [Some(1.0), Some(3.0)]);
/// assert_eq!(variance(Dataset::from(spent)), 1.0);
/// ```
#[derive(Debug)]
pub struct Dataset {
    batches: Batches,
}

#[derive(Debug)]
enum Batches {
    Given {
        all: Vec<Batch>,
        next: usize,
    },
    #[cfg(target_arch = "wasm32")]
    Host,
}

impl Dataset {
    /// The batches that the kernel streams.
    #[cfg(target_arch = "wasm32")]
    pub(crate) fn from_host() -> Dataset {
        Dataset { batches: Batches::Host }
    }

    /// Go back to the first row, for another pass. Each has the same rows in the same order, but for what changed meanwhile that has no
    /// history; what bounds the passes is the fit's time.
    pub fn rewind(&mut self) {
        match &mut self.batches {
            Batches::Given { next, .. } => *next = 0,
            #[cfg(target_arch = "wasm32")]
            Batches::Host => crate::bindings::rewind(),
        }
    }
}

/// A data set of these batches, for unit tests.
impl From<Vec<Batch>> for Dataset {
    fn from(all: Vec<Batch>) -> Dataset {
        Dataset { batches: Batches::Given { all, next: 0 } }
    }
}

/// A data set of these tables, for unit tests: each row is of another person, and none has a label.
impl From<Vec<Table>> for Dataset {
    fn from(tables: Vec<Table>) -> Dataset {
        let mut first = 0;
        let batch = |rows: Table| {
            let ids = (first..).take(rows.len()).collect();
            first += rows.len() as u64;
            Batch { rows, ids, labels: None, cut_offs: None }
        };
        Dataset::from(tables.into_iter().map(batch).collect::<Vec<Batch>>())
    }
}

/// A data set of this one table, for unit tests.
impl From<Table> for Dataset {
    fn from(table: Table) -> Dataset {
        Dataset::from(vec![table])
    }
}

impl Iterator for Dataset {
    type Item = Batch;

    fn next(&mut self) -> Option<Batch> {
        match &mut self.batches {
            Batches::Given { all, next } => {
                let batch = all.get(*next).cloned()?;
                *next += 1;
                Some(batch)
            }
            #[cfg(target_arch = "wasm32")]
            Batches::Host => crate::bindings::next_batch(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_data_set_is_read_as_often_as_it_is_rewound() {
        let table = |spent: &[f64]| Table::new(spent.len()).with_float64_values("spent", spent.to_vec());
        let mut dataset = Dataset::from(vec![table(&[1.0, 2.0]), table(&[3.0])]);
        let first: Vec<Batch> = dataset.by_ref().collect();
        assert_eq!(first.iter().map(|batch| batch.ids.as_slice()).collect::<Vec<_>>(), [&[0, 1][..], &[2]]);
        assert_eq!(dataset.next(), None);
        dataset.rewind();
        assert!(dataset.eq(first));
    }

    #[test]
    fn rows_without_a_label_are_not_among_the_labelled() {
        let labels = Some(vec![Some(1.0), None, Some(0.0)]);
        let batch = Batch { rows: Table::new(3), ids: vec![0, 1, 2], labels, cut_offs: None };
        assert!(batch.labelled().eq([(0, 1.0), (2, 0.0)]));
        assert_eq!(Batch { labels: None, ..batch }.labelled().count(), 0);
    }
}
