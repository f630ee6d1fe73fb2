//! How a plugin call can end other than well, and who has to change something for it to end well.

use std::time::Duration;

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
    DeadlineExceeded { limit_ms: u64, spent: TimeSpent },
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
    /// What [`PluginFault::code`] may say.
    pub const CODES: [&'static str; 16] = [
        "plugin.bad-input",
        "plugin.transient",
        "plugin.permanent",
        "plugin.unreadable-state",
        "trap",
        "limit.cpu",
        "limit.wall",
        "limit.fuel",
        "limit.memory",
        "limit.output",
        "limit.events",
        "limit.handles",
        "limit.host-calls",
        "invalid-output",
        "cancelled",
        "unavailable",
    ];

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
            PluginFault::LimitExceeded { what: "handles", .. } => "limit.handles",
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
        match self {
            PluginFault::Transient(_) | PluginFault::Unavailable(_) => true,
            PluginFault::DeadlineExceeded { spent, .. } => *spent != TimeSpent::Computing,
            _ => false,
        }
    }

    /// Whose fault it is, as far as the call itself tells. A connector's `receive` that ends at a limit of memory, processor
    /// time or output is judged by its caller, which knows how large an input it had chosen to hand over.
    pub fn owner(&self) -> FaultOwner {
        match self {
            PluginFault::BadInput(_) | PluginFault::Permanent(_) | PluginFault::UnreadableState(_) => {
                FaultOwner::Request
            }
            PluginFault::Transient(_) | PluginFault::DeadlineExceeded { spent: TimeSpent::WaitingForPeers, .. } => {
                FaultOwner::Peer
            }
            PluginFault::Trapped { .. }
            | PluginFault::CpuExceeded { .. }
            | PluginFault::DeadlineExceeded { spent: TimeSpent::Computing, .. }
            | PluginFault::FuelExhausted { .. }
            | PluginFault::MemoryExceeded { .. }
            | PluginFault::LimitExceeded { .. }
            | PluginFault::InvalidOutput(_) => FaultOwner::Plugin,
            PluginFault::Cancelled
            | PluginFault::Unavailable(_)
            | PluginFault::DeadlineExceeded { spent: TimeSpent::HeldUp, .. } => FaultOwner::Host,
        }
    }

    /// Whether the plugin misbehaved: three strikes quarantine an installation, so that only a fault of its own is one.
    pub fn is_strike(&self) -> bool {
        self.owner() == FaultOwner::Plugin
    }
}

/// What a call that took too long did with its time.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum TimeSpent {
    /// It waited for another machine.
    WaitingForPeers,
    /// It computed. On a busy machine a guest that computes without end comes to its limit of time before that of processor time.
    Computing,
    /// Neither: the host kept it waiting, for a processor or in a call that asks no other machine.
    HeldUp,
}

/// The figures of a call that took too long.
#[derive(Debug, Clone, Copy)]
pub struct TimesOfCall {
    /// All of it.
    pub elapsed: Duration,
    /// What of that another machine was waited for.
    pub with_peers: Duration,
    pub processor: Duration,
    /// The processor time that it might have used.
    pub processor_limit: Duration,
}

impl TimesOfCall {
    /// What the time went into. From a quarter on it counts: a peer that is slow takes most of a call's time, and a guest that
    /// loops gets some of its processor time on any machine on which others get theirs.
    pub fn spent(self) -> TimeSpent {
        if !self.with_peers.is_zero() && self.with_peers.saturating_mul(4) >= self.elapsed {
            TimeSpent::WaitingForPeers
        } else if self.processor.saturating_mul(4) >= self.processor_limit {
            TimeSpent::Computing
        } else {
            TimeSpent::HeldUp
        }
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
    /// The kernel, which could not run it, or kept it waiting.
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
            (PluginFault::DeadlineExceeded { limit_ms: 1, spent: TimeSpent::WaitingForPeers }, FaultOwner::Peer),
            (PluginFault::DeadlineExceeded { limit_ms: 1, spent: TimeSpent::Computing }, FaultOwner::Plugin),
            (PluginFault::DeadlineExceeded { limit_ms: 1, spent: TimeSpent::HeldUp }, FaultOwner::Host),
            (PluginFault::Trapped { message: text(), backtrace: vec![] }, FaultOwner::Plugin),
            (PluginFault::CpuExceeded { limit_ms: 1 }, FaultOwner::Plugin),
            (PluginFault::FuelExhausted { limit: 1 }, FaultOwner::Plugin),
            (PluginFault::MemoryExceeded { limit_bytes: 1 }, FaultOwner::Plugin),
            (PluginFault::LimitExceeded { what: "output bytes", limit: 1 }, FaultOwner::Plugin),
            (PluginFault::LimitExceeded { what: "events", limit: 1 }, FaultOwner::Plugin),
            (PluginFault::LimitExceeded { what: "handles", limit: 1 }, FaultOwner::Plugin),
            (PluginFault::LimitExceeded { what: "host calls", limit: 1 }, FaultOwner::Plugin),
            (PluginFault::InvalidOutput(text()), FaultOwner::Plugin),
            (PluginFault::Cancelled, FaultOwner::Host),
            (PluginFault::Unavailable(text()), FaultOwner::Host),
        ];
        for (fault, owner) in table {
            assert_eq!(fault.owner(), owner, "{fault:?}");
            assert_eq!(fault.is_strike(), owner == FaultOwner::Plugin, "{fault:?}");
            assert!(PluginFault::CODES.contains(&fault.code()), "{fault:?}");
        }
    }

    /// A loop on a busy machine was its peer's fault, though it had none.
    #[test]
    fn a_call_that_took_too_long_is_judged_by_what_it_did() {
        let spent = |with_peers, processor_ms| {
            let (elapsed, with_peers) = (Duration::from_secs(30), Duration::from_secs(with_peers));
            let (processor, processor_limit) = (Duration::from_millis(processor_ms), Duration::from_secs(2));
            TimesOfCall { elapsed, with_peers, processor, processor_limit }.spent()
        };
        for (with_peers, processor_ms, expected) in [
            (0, 1_900, TimeSpent::Computing),
            (0, 500, TimeSpent::Computing),
            (0, 499, TimeSpent::HeldUp),
            (1, 499, TimeSpent::HeldUp),
            (7, 500, TimeSpent::Computing),
            (8, 1_900, TimeSpent::WaitingForPeers),
            (30, 0, TimeSpent::WaitingForPeers),
        ] {
            assert_eq!(spent(with_peers, processor_ms), expected, "{with_peers} s, {processor_ms} ms");
        }
        let of = |spent| PluginFault::DeadlineExceeded { limit_ms: 1, spent }.may_retry();
        assert!(of(TimeSpent::WaitingForPeers) && of(TimeSpent::HeldUp) && !of(TimeSpent::Computing));
    }
}
