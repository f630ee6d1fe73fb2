//! Responsible for the interface `dataset`: the rows of a `fit`, batch by batch and as often as the guest reads them.

use kith_model::plugin::Batch;

use crate::bindings::current::dataset;
use crate::bindings::v0_1;
use crate::convert::{batch_to_wit, table_to_wit_0_1};
use crate::state::CallState;

impl CallState {
    /// Does not count as a host call: the number of batches is the kernel's choice.
    fn next_batch(&mut self) -> wasmtime::Result<Option<Batch>> {
        let next = self.dataset.as_mut().and_then(|dataset| dataset.next_batch());
        // A data set that ends because the fit was cancelled must not look to the guest like a whole one.
        self.look_at_cancellation()?;
        if self.remaining_wall().is_zero() {
            return Err(self.stop_for_wall());
        }
        Ok(next)
    }
}

impl dataset::Host for CallState {
    fn next(&mut self) -> wasmtime::Result<Option<dataset::Batch>> {
        Ok(self.next_batch()?.map(batch_to_wit))
    }

    fn rewind(&mut self) -> wasmtime::Result<()> {
        if let Some(dataset) = &mut self.dataset {
            dataset.rewind();
        }
        self.look_at_cancellation()
    }
}

impl v0_1::dataset::Host for CallState {
    /// Rows alone.
    fn next(&mut self) -> wasmtime::Result<Option<v0_1::columns::Table>> {
        Ok(self.next_batch()?.map(|batch| table_to_wit_0_1(batch.rows)))
    }
}
