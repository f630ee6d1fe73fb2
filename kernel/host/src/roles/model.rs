//! Responsible for the compute roles over a component: tag models and scorers.

use std::sync::Arc;

use kith_model::plugin::{
    Cancellation, ComputeModel, Dataset, Fitted, ModelAnswer, ModelPass, PluginFault, PluginKind,
};
use kith_model::table::Table;
use parking_lot::Mutex;

use super::BoundPlugin;
use crate::abi::Abi;
use crate::bindings::current::{columns, fitting, types};
use crate::bindings::v0_1;
use crate::call::Sandbox;
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
        self.answer_in(&mut self.bound.sandbox(CallClass::Plain)?, state, rows)
    }

    fn pass<'a>(&'a self, state: &'a [u8]) -> Box<dyn ModelPass + 'a> {
        Box::new(WasmPass { model: self, state, kept: None })
    }
}

impl WasmModel {
    /// Make a call, and make it again in a fresh instance where the calls before it have left it too little memory.
    fn with_room<R>(
        &self,
        sandbox: &mut Sandbox,
        call: impl Fn(&mut Sandbox) -> Result<R, PluginFault>,
    ) -> Result<R, PluginFault> {
        let called = call(sandbox);
        if !sandbox.is_crowded() {
            return called;
        }
        *sandbox = self.bound.sandbox(CallClass::Plain)?;
        call(sandbox)
    }

    fn answer_in(&self, sandbox: &mut Sandbox, state: &[u8], rows: Table) -> Result<ModelAnswer, PluginFault> {
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
                    self.with_room(sandbox, |sandbox| sandbox.call(&bound.compiled, |_| {}, function, (state, &rows)))?;
                called.map(convert::table_from_wit_0_1).map_err(|failure| convert::failure_from_wit(hidden, failure))
            }
            Abi::V0_2 => {
                let rows = convert::table_to_wit(rows);
                let give = |state: &mut CallState| {
                    *emitting.lock() = Emitting::of(count);
                    state.emitting = Some(Arc::clone(&emitting));
                };
                let called: Result<columns::Table, fitting::ComputeFailure> =
                    self.with_room(sandbox, |sandbox| sandbox.call(&bound.compiled, give, function, (state, &rows)))?;
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

/// A pass of a model. One instance answers call after call, as long as all goes well in it; no call of anything else is ever in it.
struct WasmPass<'a> {
    model: &'a WasmModel,
    state: &'a [u8],
    /// Of the call before.
    kept: Option<Sandbox>,
}

impl ModelPass for WasmPass<'_> {
    fn answer(&mut self, rows: Table) -> Result<ModelAnswer, PluginFault> {
        // Taken out before the call, so that what ends it otherwise than well, a panic of the host included, drops the instance.
        let mut sandbox = match self.kept.take() {
            Some(kept) => kept,
            None => self.model.bound.sandbox(CallClass::Plain)?,
        };
        let answer = self.model.answer_in(&mut sandbox, self.state, rows)?;
        self.kept = Some(sandbox).filter(Sandbox::may_go_on);
        Ok(answer)
    }
}

#[cfg(test)]
mod tests {
    use kith_model::budget::table;
    use kith_model::plugin::{Grants, LimitRequest};
    use kith_model::table::Values;

    use super::*;
    use crate::Binding;
    use crate::guests::{ECHO, binding, host, rows, scorer_with};

    /// A global of the guest.
    const CALLS: &str = "(global $calls (mut i32) (i32.const 0))";

    /// A scorer that gives back its only column with the number of calls of its instance in the first row, after it has done
    /// `then` with a row that is less than 0.
    fn counter(then: &str) -> Vec<u8> {
        let body = format!(
            r#"(global.set $calls (i32.add (global.get $calls) (i32.const 1)))
            (if (f64.lt (f64.load (i32.load offset=24 (local.get $columns))) (f64.const 0)) (then {then}))
            (f64.store (i32.load offset=24 (local.get $columns)) (f64.convert_i32_u (global.get $calls)))
            {ECHO}"#
        );
        scorer_with(&body, CALLS, 1)
    }

    /// What the next call of a pass says in its first row, asked about such a row.
    fn next(pass: &mut dyn ModelPass, value: f64) -> Result<f64, PluginFault> {
        let table = pass.answer(rows(&[value, 7.0]))?.table;
        let Values::Float64(values) = &table.columns[0].values else { panic!("{table:?}") };
        assert_eq!((values.len(), values[1]), (2, 7.0));
        Ok(values[0])
    }

    #[test]
    fn an_instance_is_of_one_pass_of_one_installation() {
        let plugin = host().load(&counter("")).unwrap();
        let (one, other) = (plugin.compute(binding()).unwrap(), plugin.compute(binding()).unwrap());
        let (mut first, mut second, mut of_other) = (one.pass(&[]), one.pass(&[]), other.pass(&[]));
        assert_eq!([1, 2, 3].map(|_| next(&mut *first, 0.0).unwrap()), [1.0, 2.0, 3.0]);
        assert_eq!(next(&mut *second, 0.0), Ok(1.0), "another pass");
        assert_eq!(next(&mut *of_other, 0.0), Ok(1.0), "another installation");
        assert_eq!(one.answer(&[], rows(&[0.0])).unwrap().table, rows(&[1.0]), "a call of no pass");
        assert_eq!(next(&mut *first, 0.0), Ok(4.0));
        drop(first);
        assert_eq!(next(&mut *one.pass(&[]), 0.0), Ok(1.0), "the next pass");
    }

    #[test]
    fn an_instance_is_dropped_after_every_fault() {
        let too_many = "(i32.store (i32.const 16) (i32.const 0)) (i32.store (i32.const 20) (i32.const 3))
            (i32.store (i32.const 24) (local.get $columns)) (i32.store (i32.const 28) (local.get $count))
            (return (i32.const 16))";
        let refusal = "(i32.store (i32.const 16) (i32.const 1)) (i32.store (i32.const 20) (i32.const 1))
            (i32.store (i32.const 24) (i32.const 128)) (i32.store (i32.const 28) (i32.const 4)) (return (i32.const 16))";
        let cases =
            [("unreachable", "trap"), ("(loop $on (br $on))", "limit.cpu"), (too_many, "output"), (refusal, "")];
        for (then, code) in cases {
            let model = host().load(&counter(then)).unwrap().compute(binding()).unwrap();
            let mut pass = model.pass(&[]);
            assert_eq!([0.0, 0.0].map(|value| next(&mut *pass, value).unwrap()), [1.0, 2.0]);
            let fault = next(&mut *pass, -1.0).unwrap_err();
            assert!(fault.code().contains(code), "{then}: {fault:?}");
            assert_eq!(next(&mut *pass, 0.0), Ok(1.0), "{then}");
        }
    }

    #[test]
    fn an_instance_is_dropped_after_so_many_calls_and_where_it_has_much_memory() {
        let host = host();
        let model = host.load(&counter("")).unwrap().compute(binding()).unwrap();
        let mut pass = model.pass(&[]);
        let calls: Vec<f64> = (0..130).map(|_| next(&mut *pass, 0.0).unwrap()).collect();
        let fresh = calls.iter().enumerate().filter(|(_, calls)| **calls == 1.0).map(|(place, _)| place);
        assert_eq!(fresh.collect::<Vec<_>>(), [0, 64, 128]);
        // Half of 64 MiB are 512 pages. What is refused is asked for again in a fresh instance, and counts as much there.
        for (pages, of_second, of_third) in [("400", 2.0, 3.0), ("600", 2.0, 1.0), ("60000", 1.0, 1.0)] {
            let grows = format!("(drop (memory.grow (i32.const {pages})))");
            let model = host.load(&counter(&grows)).unwrap().compute(binding()).unwrap();
            let mut pass = model.pass(&[]);
            assert_eq!(
                [0.0, -1.0, 0.0].map(|value| next(&mut *pass, value).unwrap()),
                [1.0, of_second, of_third],
                "{pages}"
            );
        }
    }

    #[test]
    fn the_calls_of_an_instance_have_one_memory_and_all_other_limits_of_their_own() {
        let bound = binding();
        let observed = Arc::clone(&bound.observed);
        // 100 pages, and 6,000 of the 10,000 calls of the host that a call may make, each with an empty line of the log.
        let much = r#"(drop (memory.grow (i32.const 100)))
            (local.set $state (i32.const 6000))
            (loop $on (call $log (i32.const 1) (i32.const 128) (i32.const 0))
                (br_if $on (local.tee $state (i32.sub (local.get $state) (i32.const 1)))))"#;
        let model = host().load(&counter(much)).unwrap().compute(bound).unwrap();
        let mut pass = model.pass(&[]);
        assert_eq!([-1.0; 3].map(|value| next(&mut *pass, value).unwrap()), [1.0, 2.0, 3.0]);
        let usage = observed.usage();
        assert_eq!((usage.calls, usage.rows, usage.host_calls, usage.lines), (3, 6, 18_000, 18_000));
        assert_eq!(
            usage.lines_cut,
            3 * (6_000 - table::GUEST_LOG.default / 32),
            "each call has the whole of what it may log"
        );
        assert_eq!(usage.memory_peak_bytes, (3 * 100 + 1) << 16);
        // The sixth takes the instance beyond half of its memory.
        assert_eq!([-1.0; 4].map(|value| next(&mut *pass, value).unwrap()), [4.0, 5.0, 6.0, 1.0]);
    }

    #[test]
    fn a_call_that_finds_too_little_memory_left_is_made_again_in_a_fresh_instance() {
        let bound = binding();
        let observed = Arc::clone(&bound.observed);
        // As many pages as the row says, or a trap.
        let grows = r#"(if (i32.eq (i32.const -1) (memory.grow (i32.trunc_f64_s (f64.neg
                (f64.load (i32.load offset=24 (local.get $columns))))))) (then unreachable))"#;
        let model = host().load(&counter(grows)).unwrap().compute(bound).unwrap();
        let mut pass = model.pass(&[]);
        assert_eq!([-400.0, -700.0].map(|pages| next(&mut *pass, pages).unwrap()), [1.0, 1.0]);
        let usage = observed.usage();
        assert_eq!((usage.calls, usage.rows, usage.last_fault), (3, 4, None), "the first try is nobody's fault");
        let limit_bytes = 64 << 20;
        assert_eq!(next(&mut *pass, -1_100.0), Err(PluginFault::MemoryExceeded { limit_bytes }));
        assert_eq!(observed.usage().calls, 4, "what a fresh instance refuses is not asked for again");
    }

    #[test]
    fn a_metered_call_has_an_instance_of_its_own() {
        let plugin = host().load(&counter("")).unwrap();
        let grants =
            Grants { limits: LimitRequest { fuel: Some(50_000), ..LimitRequest::default() }, ..Grants::default() };
        let model = plugin.compute(Binding { grants, ..binding() }).unwrap();
        let mut pass = model.pass(&[]);
        assert_eq!([0.0; 3].map(|value| next(&mut *pass, value).unwrap()), [1.0; 3]);
    }
}
