//! How a plugin call can end other than well, and who has to change something for it to end well.

/// How one plugin call ended other than well.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PluginFault {
    /// The plugin says that this input can never work.
    #[error("bad input: {0}")]
    BadInput(String),
    /// The plugin says that trying again later may help.
    #[error("transient failure: {0}")]
    Transient(String),
    /// The plugin says that trying again will not help.
    #[error("permanent failure: {0}")]
    Permanent(String),
    /// The plugin says that it cannot read the fitted state, so that no row can work before another fit.
    #[error("the fitted state cannot be read: {0}")]
    UnreadableState(String),
    /// The guest trapped or panicked.
    #[error("trap: {message}")]
    Trapped {
        /// The panic's text where there is one, else the trap's kind.
        message: String,
        /// Function names with module offsets, innermost first.
        backtrace: Vec<String>,
    },
    /// The guest used more processor time than its limit.
    #[error("passed the limit of {limit_ms} ms of processor time")]
    CpuExceeded { limit_ms: u64 },
    /// The call, host calls included, took longer than its limit.
    #[error("passed the limit of {limit_ms} ms")]
    DeadlineExceeded { limit_ms: u64 },
    /// The guest used up its fuel.
    #[error("used up its fuel of {limit}")]
    FuelExhausted { limit: u64 },
    /// The guest asked for more memory than its limit and did not survive the refusal.
    #[error("passed the limit of {limit_bytes} bytes of memory")]
    MemoryExceeded { limit_bytes: u64 },
    /// The guest returned, logged or emitted more than its limit, or called the host too often.
    #[error("passed the limit of {limit} {what}")]
    LimitExceeded { what: &'static str, limit: u64 },
    /// What the guest returned breaks the contract.
    #[error("broke the contract: {0}")]
    InvalidOutput(String),
    /// Whoever asked does not want the answer any more.
    #[error("was cancelled")]
    Cancelled,
    /// The host could not run it.
    #[error("could not be run: {0}")]
    Unavailable(String),
}

impl PluginFault {
    /// A stable code for answers, metrics and dead letters, e.g. `limit.cpu`.
    pub fn code(&self) -> &'static str {
        match self {
            PluginFault::BadInput(_) => "plugin.bad-input",
            PluginFault::Transient(_) => "plugin.transient",
            PluginFault::Permanent(_) => "plugin.permanent",
            PluginFault::UnreadableState(_) => "plugin.unreadable-state",
            PluginFault::Trapped { .. } => "trap",
            PluginFault::CpuExceeded { .. } => "limit.cpu",
            PluginFault::DeadlineExceeded { .. } => "limit.wall",
            PluginFault::FuelExhausted { .. } => "limit.fuel",
            PluginFault::MemoryExceeded { .. } => "limit.memory",
            PluginFault::LimitExceeded { what: "output bytes", .. } => "limit.output",
            PluginFault::LimitExceeded { what, .. } if what.contains("events") => "limit.events",
            PluginFault::LimitExceeded { .. } => "limit.host-calls",
            PluginFault::InvalidOutput(_) => "invalid-output",
            PluginFault::Cancelled => "cancelled",
            PluginFault::Unavailable(_) => "unavailable",
        }
    }

    /// Whether it passed a limit. The words of such a fault are the host's own, and name nobody.
    pub fn is_of_limit(&self) -> bool {
        match self {
            PluginFault::CpuExceeded { .. }
            | PluginFault::DeadlineExceeded { .. }
            | PluginFault::FuelExhausted { .. }
            | PluginFault::MemoryExceeded { .. }
            | PluginFault::LimitExceeded { .. } => true,
            PluginFault::BadInput(_)
            | PluginFault::Transient(_)
            | PluginFault::Permanent(_)
            | PluginFault::UnreadableState(_)
            | PluginFault::Trapped { .. }
            | PluginFault::InvalidOutput(_)
            | PluginFault::Cancelled
            | PluginFault::Unavailable(_) => false,
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn may_retry(&self) -> bool {
        matches!(self, PluginFault::Transient(_) | PluginFault::DeadlineExceeded { .. } | PluginFault::Unavailable(_))
    }

    /// Whose fault it is, as far as the call itself tells. A connector's `receive` that ends at a limit of memory, processor
    /// time or output is judged by its caller, which knows how large an input it had chosen to hand over.
    pub fn owner(&self) -> FaultOwner {
        match self {
            PluginFault::BadInput(_) | PluginFault::Permanent(_) | PluginFault::UnreadableState(_) => {
                FaultOwner::Request
            }
            // Processor time has a limit of its own, so what passed the other one was spent waiting: for another machine, or
            // where there is none for this one's processors, which is as little the plugin's doing.
            PluginFault::Transient(_) | PluginFault::DeadlineExceeded { .. } => FaultOwner::Peer,
            PluginFault::Trapped { .. }
            | PluginFault::CpuExceeded { .. }
            | PluginFault::FuelExhausted { .. }
            | PluginFault::MemoryExceeded { .. }
            | PluginFault::LimitExceeded { .. }
            | PluginFault::InvalidOutput(_) => FaultOwner::Plugin,
            PluginFault::Cancelled | PluginFault::Unavailable(_) => FaultOwner::Host,
        }
    }

    /// Whether the plugin misbehaved: three strikes quarantine an installation, so that only a fault of its own is one.
    pub fn is_strike(&self) -> bool {
        self.owner() == FaultOwner::Plugin
    }
}

/// Who has to change something for a fault to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultOwner {
    /// The input or the configuration: the plugin refuses it in so many words.
    Request,
    /// The machine at the other end of a connection, which failed or was slow.
    Peer,
    /// The plugin: it trapped, passed a limit or broke the contract.
    Plugin,
    /// The kernel, which could not run it.
    Host,
}

impl FaultOwner {
    /// A stable name for metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultOwner::Request => "request",
            FaultOwner::Peer => "peer",
            FaultOwner::Plugin => "plugin",
            FaultOwner::Host => "host",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fault_of_the_plugin_itself_is_a_strike() {
        let text = String::new;
        let table = [
            (PluginFault::BadInput(text()), FaultOwner::Request),
            (PluginFault::Permanent(text()), FaultOwner::Request),
            (PluginFault::UnreadableState(text()), FaultOwner::Request),
            (PluginFault::Transient(text()), FaultOwner::Peer),
            (PluginFault::DeadlineExceeded { limit_ms: 1 }, FaultOwner::Peer),
            (PluginFault::Trapped { message: text(), backtrace: vec![] }, FaultOwner::Plugin),
            (PluginFault::CpuExceeded { limit_ms: 1 }, FaultOwner::Plugin),
            (PluginFault::FuelExhausted { limit: 1 }, FaultOwner::Plugin),
            (PluginFault::MemoryExceeded { limit_bytes: 1 }, FaultOwner::Plugin),
            (PluginFault::LimitExceeded { what: "output bytes", limit: 1 }, FaultOwner::Plugin),
            (PluginFault::InvalidOutput(text()), FaultOwner::Plugin),
            (PluginFault::Cancelled, FaultOwner::Host),
            (PluginFault::Unavailable(text()), FaultOwner::Host),
        ];
        for (fault, owner) in table {
            assert_eq!(fault.owner(), owner, "{fault:?}");
            assert_eq!(fault.is_strike(), owner == FaultOwner::Plugin, "{fault:?}");
        }
    }
}
