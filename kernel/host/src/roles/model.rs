//! Responsible for the compute roles over a component: tag models and scorers.

use std::sync::Arc;

use kith_model::plugin::{Cancellation, ComputeModel, Dataset, Fitted, ModelAnswer, PluginFault, PluginKind};
use kith_model::table::Table;
use parking_lot::Mutex;

use super::BoundPlugin;
use crate::abi::Abi;
use crate::bindings::current::{columns, fitting, types};
use crate::bindings::v0_1;
use crate::convert;
use crate::imports::emitting::Emitting;
use crate::state::{CallClass, CallState};
use crate::verify;

/// A tag model or a scorer of an installation.
pub(super) struct WasmModel {
    pub(super) bound: BoundPlugin,
    pub(super) abi: Abi,
}

impl ComputeModel for WasmModel {
    fn fit(&self, dataset: Box<dyn Dataset>, cancellation: &Cancellation) -> Result<Fitted, PluginFault> {
        let bound = &self.bound;
        let give = |state: &mut CallState| {
            state.dataset = Some(dataset);
            state.cancellation = Some(cancellation.clone());
        };
        let called: Result<fitting::Fitted, types::Failure> = bound.call_with(CallClass::Fit, give, "fit", ())?;
        let hidden = &bound.installed.hidden;
        let fitted = convert::fitted_from_wit(called.map_err(|failure| convert::failure_from_wit(hidden, failure))?);
        bound.reported(verify::fitted(hidden, &fitted)).map(|()| fitted)
    }

    fn compute(&self, state: &[u8], rows: Table) -> Result<Table, PluginFault> {
        self.answer(state, rows).map(|answer| answer.table)
    }

    fn answer(&self, state: &[u8], rows: Table) -> Result<ModelAnswer, PluginFault> {
        let (bound, hidden) = (&self.bound, &self.bound.installed.hidden);
        let function = if bound.manifest.kind == PluginKind::Scorer { "score" } else { "evaluate" };
        let count = rows.rows;
        bound.installed.observed.rows(count);
        let emitting = Arc::new(Mutex::new(Emitting::of(count)));
        let called: Result<Table, PluginFault> = match self.abi {
            // It has no word for a state that it cannot read, and none for an event.
            Abi::V0_1 => {
                let rows = convert::table_to_wit_0_1(rows);
                let called: Result<v0_1::columns::Table, types::Failure> =
                    bound.call(CallClass::Plain, function, (state, &rows))?;
                called.map(convert::table_from_wit_0_1).map_err(|failure| convert::failure_from_wit(hidden, failure))
            }
            Abi::V0_2 => {
                let rows = convert::table_to_wit(rows);
                let give = |state: &mut CallState| state.emitting = Some(Arc::clone(&emitting));
                let called: Result<columns::Table, fitting::ComputeFailure> =
                    bound.call_with(CallClass::Plain, give, function, (state, &rows))?;
                called
                    .map(convert::table_from_wit)
                    .map_err(|failure| convert::compute_failure_from_wit(hidden, failure))
            }
        };
        let table = called?;
        bound.reported(verify::outputs(hidden, &bound.manifest, count, &table))?;
        let events = std::mem::take(&mut emitting.lock().events);
        Ok(ModelAnswer { table, events })
    }
}
