//! The rows that a model learns from.

use crate::table::Table;
use crate::time::Timestamp;

/// Rows of a data set that are handed over at once.
#[derive(Debug, Clone, PartialEq)]
pub struct Batch {
    /// The manifest's inputs.
    pub rows: Table,
    /// Of each row's person: the same in every pass and every fit of an installation, another in every other installation.
    pub ids: Vec<u64>,
    /// What each row's person did after its cut-off, true as 1; `None` where the manifest declares no label.
    pub labels: Option<Vec<Option<f64>>>,
    /// As of when each row is; `None` where all are of now.
    pub cut_offs: Option<Vec<Timestamp>>,
}

/// The rows of a fit, made while they are read.
pub trait Dataset: Send {
    /// The next rows; `None` at the end.
    fn next_batch(&mut self) -> Option<Batch>;
    /// Go back to the first row, for another pass.
    fn rewind(&mut self);
}

/// A data set that is in memory as a whole: of whoever tries a model.
#[derive(Debug, Clone, Default)]
pub struct HeldBatches {
    batches: Vec<Batch>,
    next: usize,
}

impl From<Vec<Batch>> for HeldBatches {
    fn from(batches: Vec<Batch>) -> HeldBatches {
        HeldBatches { batches, next: 0 }
    }
}

impl Dataset for HeldBatches {
    fn next_batch(&mut self) -> Option<Batch> {
        let batch = self.batches.get(self.next).cloned()?;
        self.next += 1;
        Some(batch)
    }

    fn rewind(&mut self) {
        self.next = 0;
    }
}
