//! Responsible for the interface `clock`: the kernel's clock, which tests and `--clock` set.

use crate::bindings::current::clock;
use crate::state::CallState;

impl clock::Host for CallState {
    fn now(&mut self) -> wasmtime::Result<i64> {
        self.count_host_call()?;
        Ok(self.installed.clock.now().0)
    }
}
