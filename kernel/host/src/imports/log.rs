//! Responsible for the interface `log`: a guest's lines go to the operator's log and to those that are kept of its installation,
//! bounded, harmless, and without what of its configuration is not shown. What a call logs beyond what it may is cut and counted; it is no
//! fault. What is below the level that the host keeps is dropped before anything is done for it.

use crate::bindings::current::log;
use crate::observed::LineLevel;
use crate::state::CallState;

/// What a line costs besides its text, so that empty lines are not free.
const LINE_BYTES: u64 = 32;

/// How the SDK's panic hook begins the line that it writes before the guest traps.
const PANIC_PREFIX: &str = "panicked: ";

impl log::Host for CallState {
    fn write(&mut self, level: log::Level, message: String) -> wasmtime::Result<()> {
        self.count_host_call()?;
        let seen = match level {
            log::Level::Debug => LineLevel::Debug,
            log::Level::Info => LineLevel::Info,
            log::Level::Warn => LineLevel::Warn,
            log::Level::Error => LineLevel::Error,
        };
        if seen < self.installed.log_level {
            return Ok(());
        }
        let text = self.installed.hidden.bounded(&message);
        if let (log::Level::Error, Some(panic)) = (level, text.strip_prefix(PANIC_PREFIX)) {
            self.panic = Some(panic.to_owned());
        }
        if !self.may_log(LINE_BYTES + message.len() as u64) {
            self.installed.observed.line_cut();
            return Ok(());
        }
        self.installed.observed.line(seen, &text, self.installed.clock.now());
        let (installation, plugin) = (&self.installed.installation, &self.installed.plugin);
        match level {
            log::Level::Debug => tracing::debug!(target: "kith_host::plugin", installation, plugin, "{text}"),
            log::Level::Info => tracing::info!(target: "kith_host::plugin", installation, plugin, "{text}"),
            log::Level::Warn => tracing::warn!(target: "kith_host::plugin", installation, plugin, "{text}"),
            log::Level::Error => tracing::error!(target: "kith_host::plugin", installation, plugin, "{text}"),
        }
        Ok(())
    }

    fn least(&mut self) -> wasmtime::Result<log::Level> {
        self.count_host_call()?;
        Ok(match self.installed.log_level {
            LineLevel::Debug => log::Level::Debug,
            LineLevel::Info => log::Level::Info,
            LineLevel::Warn => log::Level::Warn,
            LineLevel::Error => log::Level::Error,
        })
    }
}
