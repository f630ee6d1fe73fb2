//! Responsible for the interface `config`.

use crate::bindings::current::config;
use crate::state::CallState;

impl config::Host for CallState {
    fn get(&mut self) -> wasmtime::Result<String> {
        self.count_host_call()?;
        Ok(self.installed.config.clone())
    }
}
