//! Responsible for the interface `dataset`: the rows of a `fit`, batch by batch.

use crate::bindings::current::{columns, dataset};
use crate::convert::table_to_wit;
use crate::state::CallState;

impl dataset::Host for CallState {
    /// Does not count as a host call: the number of batches is the kernel's choice.
    fn next(&mut self) -> wasmtime::Result<Option<columns::Table>> {
        let next = self.dataset.as_mut().and_then(|dataset| dataset.next_batch());
        if next.is_none() {
            self.dataset = None;
        }
        // A data set that ends because the fit was cancelled must not look to the guest like a whole one.
        self.look_at_cancellation()?;
        if self.remaining_wall().is_zero() {
            return Err(self.stop_for_wall());
        }
        Ok(next.map(|batch| table_to_wit(batch.rows)))
    }
}
