//! Responsible for the row of what comes of a version that is tried: it is written now and then while that goes on, and not again
//! once the change that ends it has deleted it.

use std::time::Instant;

use kith_store::{CommitError, Key, Operation, Precondition, Unit};

use super::COMMIT_PERIOD;
use crate::shared::KernelState;

/// The row of a run.
#[derive(Default)]
pub(crate) struct KeptRow {
    /// As it was written last, or read.
    stored: Option<Vec<u8>>,
    /// Whether it was found as it was left, and so was not written behind a change that had deleted it.
    is_confirmed: bool,
    /// When it was last tried to be written.
    pub(crate) tried_at: Option<Instant>,
    /// Whether something has come since it was written.
    pub(crate) has_news: bool,
}

impl KeptRow {
    /// It was looked for, and this was found; whether that is of this run.
    pub(crate) fn found(&mut self, stored: Option<Vec<u8>>, is_own: bool) {
        (self.stored, self.is_confirmed) = (stored, is_own);
    }

    /// Whether it was not written lately.
    pub(crate) fn is_due(&self, now: Instant) -> bool {
        self.tried_at.is_none_or(|at| now.saturating_duration_since(at) >= COMMIT_PERIOD)
    }

    /// Write it, unless another stands there, which is then looked at with `read`. A change that ends the run deletes the row before
    /// its setup is in force, and no other row comes in that place.
    ///
    /// # Errors
    /// It may not have been written, and has news still.
    pub(crate) fn write(
        &mut self,
        shared: &KernelState,
        key: Key,
        row: Vec<u8>,
        read: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Result<(), CommitError> {
        let preconditions = self.stored.iter().map(|stored| Precondition::Holds(key.clone(), stored.clone())).collect();
        let operations = vec![Operation::Put(key, row.clone())];
        match shared.commit(Unit { preconditions, operations, ..Unit::default() }) {
            Ok(_) => {
                self.is_confirmed |= self.stored.is_some();
                (self.stored, self.has_news) = (Some(row), false);
                Ok(())
            }
            // The answer to the last write may have been an error though it was made.
            Err(CommitError::Conflict(_)) => {
                match read() {
                    Some(found) => self.stored = Some(found),
                    None => self.has_news = false,
                }
                Ok(())
            }
            Err(error) => Err(error),
        }
    }

    /// The run has ended. Its first write may have come between the change that ended it, which deleted the row, and this; a later one
    /// finds that there is none.
    ///
    /// # Errors
    /// The row is there still.
    pub(crate) fn forget(
        &self,
        shared: &KernelState,
        key: Key,
        read: impl FnOnce() -> Option<Vec<u8>>,
    ) -> Result<(), CommitError> {
        if self.is_confirmed || self.stored.is_none() {
            return Ok(());
        }
        let Some(found) = read() else { return Ok(()) };
        let preconditions = vec![Precondition::Holds(key.clone(), found)];
        let operations = vec![Operation::Delete(key)];
        shared.commit(Unit { preconditions, operations, ..Unit::default() }).map(drop)
    }
}
