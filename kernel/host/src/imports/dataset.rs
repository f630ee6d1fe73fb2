//! Responsible for the interface `dataset`: the rows of a `fit`, batch by batch.

use kith_model::table::Table;

use crate::bindings::current::{columns, dataset};
use crate::bindings::v0_1;
use crate::convert::{table_to_wit, table_to_wit_0_1};
use crate::state::CallState;

impl CallState {
    /// Does not count as a host call: the number of batches is the kernel's choice.
    fn next_batch(&mut self) -> wasmtime::Result<Option<Table>> {
        let next = self.dataset.as_mut().and_then(Iterator::next);
        if next.is_none() {
            self.dataset = None;
        }
        // A data set that ends because the fit was cancelled must not look to the guest like a whole one.
        self.look_at_cancellation()?;
        if self.remaining_wall().is_zero() {
            return Err(self.stop_for_wall());
        }
        Ok(next)
    }
}

impl dataset::Host for CallState {
    fn next(&mut self) -> wasmtime::Result<Option<columns::Table>> {
        Ok(self.next_batch()?.map(table_to_wit))
    }
}

impl v0_1::dataset::Host for CallState {
    fn next(&mut self) -> wasmtime::Result<Option<v0_1::columns::Table>> {
        Ok(self.next_batch()?.map(table_to_wit_0_1))
    }
}
