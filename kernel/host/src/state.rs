//! Responsible for what one call knows and may still use: the installation it runs for, its budgets, and why it was
//! stopped. The host's interfaces (`imports/`) read and draw on it; `call.rs` makes it and reads the verdict.

use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_model::budget::{Allowance, Exhausted, table};
use kith_model::plugin::{Cancellation, Dataset, PluginFault, PluginKind, TimesOfCall};
use kith_model::time::{Clock, Timestamp};
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use wasmtime::ResourceLimiter;

use crate::egress::Gate;
use crate::engine::TICK;
use crate::hidden::Hidden;
use crate::imports::emitting::Emitting;
use crate::imports::secrets::Secrets;
use crate::key_value::KeyValue;
use crate::network::Network;
use crate::observed::{LineLevel, Observed};
use crate::package::nesting;
use crate::policy::Policy;

/// Table elements of one call; a table holds a plugin's function pointers.
const MAX_TABLE_ELEMENTS: usize = 10_000;
/// What a store may have is what is admitted, or an installed plugin would fail at every call: of modules, with the adapters
/// between nested components among them.
const MAX_INSTANCES: usize = (nesting::MAX_MODULE_INSTANCES + nesting::MAX_ADAPTERS) as usize;
const MAX_MEMORIES: usize = nesting::MAX_MEMORIES as usize;
const MAX_TABLES: usize = nesting::MAX_TABLES as usize;

/// How long a guest may compute before the host looks whether its call was cancelled. Compiled code stops at its next epoch
/// deadline and cannot be woken before.
const CANCELLATION_LOOK: Duration = Duration::from_millis(50);

/// What all calls of one installation share.
pub(crate) struct InstallationContext {
    pub(crate) installation: String,
    /// `vendor/name@version`.
    pub(crate) plugin: String,
    pub(crate) kind: PluginKind,
    pub(crate) policy: Policy,
    /// The names of the events that it may emit, as its manifest has them; `None` for any.
    pub(crate) emits: Option<Arc<[String]>>,
    /// The configuration as JSON.
    pub(crate) config: String,
    /// What of the configuration nothing that the plugin says may show.
    pub(crate) hidden: Hidden,
    pub(crate) secrets: Secrets,
    pub(crate) gate: Gate,
    pub(crate) state: Arc<dyn KeyValue>,
    pub(crate) clock: Arc<dyn Clock>,
    pub(crate) observed: Arc<Observed>,
    /// The least level of lines that are kept.
    pub(crate) log_level: LineLevel,
    /// Kept for as long as anything of the installation may send.
    pub(crate) network: Arc<Network>,
    /// Fuel of one call, where the installation is metered.
    pub(crate) fuel: Option<u64>,
    /// What all its calls write to its state.
    pub(crate) state_writes: Mutex<StateWrites>,
}

/// What an installation writes to its state in an hour: the journal keeps every write, whatever the state comes to.
pub(crate) struct StateWrites {
    commits: Allowance,
    bytes: Allowance,
}

impl StateWrites {
    pub(crate) fn new(now: Timestamp) -> StateWrites {
        let (commits, bytes) = (&table::KV_COMMITS, &table::KV_WRITTEN);
        StateWrites {
            commits: Allowance::new(commits, commits.default, now),
            bytes: Allowance::new(bytes, bytes.default, now),
        }
    }

    /// Spend one write of so many bytes.
    pub(crate) fn spend(&mut self, bytes: u64, now: Timestamp) -> Result<(), Exhausted> {
        self.commits.spend(1, now)?;
        self.bytes.spend(bytes, now)
    }
}

/// Writes to an installation's state.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct StateWritten {
    pub(crate) writes: u64,
    /// Of keys and values.
    pub(crate) bytes: u64,
}

impl StateWritten {
    /// Count one more.
    pub(crate) fn add(&mut self, bytes: u64) {
        self.writes += 1;
        self.bytes += bytes;
    }
}

/// The time of a call for several requests is that of one so many times at most. An honest request takes a small part of its time,
/// and one that takes more is called alone in the end, so that more would only have its neighbours wait for it.
const MOST_TIMES: u64 = 2;

/// How long a call may take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum CallClass {
    /// Everything but `fit`.
    Plain,
    Fit,
}

/// One call.
pub(crate) struct CallState {
    pub(crate) installed: Arc<InstallationContext>,
    pub(crate) memory: MemoryBudget,
    pub(crate) dataset: Option<Box<dyn Dataset>>,
    /// What a model emits; absent where nothing may be.
    pub(crate) emitting: Option<Arc<Mutex<Emitting>>>,
    /// The panic that the guest reported before it trapped.
    pub(crate) panic: Option<String>,
    /// Why the host stopped the guest.
    pub(crate) stopped: Option<PluginFault>,
    /// Where whoever asked may give up waiting.
    pub(crate) cancellation: Option<Cancellation>,
    /// Whether it may neither send nor use the installation's state.
    pub(crate) is_pure: bool,
    /// For how many requests it is: its limits are so many times those of one.
    pub(crate) requests: u64,
    pub(crate) host_calls: u64,
    log_bytes: u64,
    /// What the call asked to write to the installation's state: its limits hold for what was refused as well.
    pub(crate) kv_asked: StateWritten,
    /// What of that was written.
    pub(crate) kv_written: StateWritten,
    time: TimeBudget,
}

struct TimeBudget {
    started: Instant,
    /// The thread's processor time then.
    processor_before: Duration,
    /// Time since then that is not the call's.
    paused: Duration,
    /// What of the call's time other machines were waited for.
    with_peers: Duration,
    wall_ms: u64,
    cpu_ms: u64,
    /// The thread's processor time when the call began.
    cpu_at_start: Option<Duration>,
    /// Whether whoever runs the call knows that it lasts.
    is_long: bool,
}

impl CallState {
    pub(crate) fn new(installed: Arc<InstallationContext>, class: CallClass) -> CallState {
        let policy = &installed.policy;
        let (cpu_ms, wall_ms) = match class {
            CallClass::Plain => (policy.cpu_ms.value, policy.wall_ms.value),
            CallClass::Fit => (policy.fit_cpu_ms.value, policy.fit_wall_ms.value),
        };
        CallState {
            memory: MemoryBudget { limit_bytes: policy.memory_bytes.value, ..MemoryBudget::default() },
            dataset: None,
            emitting: None,
            panic: None,
            stopped: None,
            cancellation: None,
            is_pure: false,
            requests: 1,
            host_calls: 0,
            log_bytes: 0,
            kv_asked: StateWritten::default(),
            kv_written: StateWritten::default(),
            time: TimeBudget {
                started: Instant::now(),
                processor_before: thread_time(),
                paused: Duration::ZERO,
                with_peers: Duration::ZERO,
                wall_ms,
                cpu_ms,
                cpu_at_start: None,
                is_long: false,
            },
            installed,
        }
    }

    /// Become the state of the next call of the same instance, with the memory that the instance has and all else anew.
    pub(crate) fn renew(&mut self, class: CallClass) {
        let before = std::mem::take(&mut self.memory);
        let memory = MemoryBudget { before_bytes: before.used_bytes, ..before };
        *self = CallState { memory, ..CallState::new(self.installed.clone(), class) };
    }

    /// Give the call what so many requests may use. Memory and output stay those of one call, because the host has set no more
    /// aside for it.
    pub(crate) fn take_requests(&mut self, requests: usize) {
        self.requests = requests.max(1) as u64;
        let times = self.requests.min(MOST_TIMES);
        self.time.cpu_ms = self.time.cpu_ms.saturating_mul(times);
        self.time.wall_ms = self.time.wall_ms.saturating_mul(times);
    }

    /// Stop the guest: the returned error unwinds it, and the call ends with `fault`.
    pub(crate) fn stop(&mut self, fault: PluginFault) -> wasmtime::Error {
        let error = wasmtime::Error::msg(fault.to_string());
        self.stopped.get_or_insert(fault);
        error
    }

    /// Count one host call.
    pub(crate) fn count_host_call(&mut self) -> wasmtime::Result<()> {
        self.host_calls += 1;
        let limit = self.installed.policy.host_calls.value.saturating_mul(self.requests);
        if self.host_calls > limit {
            return Err(self.stop(PluginFault::LimitExceeded { what: "host calls", limit }));
        }
        Ok(())
    }

    /// Count bytes for the log; whether the call may still log them. The first that it may not counts for the budget.
    pub(crate) fn may_log(&mut self, bytes: u64) -> bool {
        let limit = self.installed.policy.log_bytes.value.saturating_mul(self.requests);
        let could = self.log_bytes <= limit;
        self.log_bytes = self.log_bytes.saturating_add(bytes);
        if could && self.log_bytes > limit {
            table::GUEST_LOG.count();
        }
        self.log_bytes <= limit
    }

    pub(crate) fn elapsed(&self) -> Duration {
        self.time.started.elapsed().saturating_sub(self.time.paused)
    }

    /// Processor time that the call has used. It runs on the thread that made this.
    pub(crate) fn processor(&self) -> Duration {
        thread_time().saturating_sub(self.time.processor_before)
    }

    /// This much of the call's time another machine was waited for.
    pub(crate) fn waited(&mut self, time: Duration) {
        self.time.with_peers += time;
    }

    /// This much of the call's time was the host's.
    pub(crate) fn pause(&mut self, time: Duration) {
        self.time.paused += time;
    }

    /// What is left of the call's time; host calls that wait are bounded by it.
    pub(crate) fn remaining_wall(&self) -> Duration {
        Duration::from_millis(self.time.wall_ms).saturating_sub(self.elapsed())
    }

    /// Stop the guest where its time is over: what an import took may have been the last of it.
    pub(crate) fn look_at_wall(&mut self) -> wasmtime::Result<()> {
        if self.remaining_wall().is_zero() { Err(self.stop_for_wall()) } else { Ok(()) }
    }

    /// The call took too long.
    pub(crate) fn stop_for_wall(&mut self) -> wasmtime::Error {
        let times = TimesOfCall {
            elapsed: self.elapsed(),
            with_peers: self.time.with_peers,
            processor: self.processor(),
            processor_limit: Duration::from_millis(self.time.cpu_ms),
        };
        self.stop(PluginFault::DeadlineExceeded { limit_ms: self.time.wall_ms, spent: times.spent() })
    }

    /// Stop the guest where nobody waits for it any more.
    pub(crate) fn look_at_cancellation(&mut self) -> wasmtime::Result<()> {
        match &self.cancellation {
            Some(cancellation) if cancellation.is_cancelled() => Err(self.stop(PluginFault::Cancelled)),
            _ => Ok(()),
        }
    }

    /// Look at both clocks: how many ticks until the next look, or the error that stops the guest.
    ///
    /// Ticks alone would charge a guest for time in which the machine ran something else, so the limit of processor time
    /// is checked against the thread's own clock. Short calls never come here: the first look is one tick after the start,
    /// and what passed until then counts as used.
    pub(crate) fn look_at_clocks(&mut self) -> wasmtime::Result<u64> {
        self.look_at_cancellation()?;
        if !std::mem::replace(&mut self.time.is_long, true) {
            kith_model::slot::lasts();
        }
        let elapsed = self.elapsed();
        let wall = Duration::from_millis(self.time.wall_ms);
        let cpu = Duration::from_millis(self.time.cpu_ms);
        let used = match thread_cpu_time() {
            Some(now) => now.saturating_sub(*self.time.cpu_at_start.get_or_insert(now.saturating_sub(elapsed))),
            None => elapsed,
        };
        if used >= cpu {
            let limit_ms = self.time.cpu_ms;
            return Err(self.stop(PluginFault::CpuExceeded { limit_ms }));
        }
        if elapsed >= wall {
            return Err(self.stop_for_wall());
        }
        let remaining = (cpu - used).min(wall - elapsed);
        let remaining = if self.cancellation.is_some() { remaining.min(CANCELLATION_LOOK) } else { remaining };
        Ok(u64::try_from(remaining.as_millis() / TICK.as_millis()).unwrap_or(u64::MAX).clamp(1, 1_000_000))
    }
}

/// Processor time of the calling thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or_default(), u32::try_from(time.tv_nsec).unwrap_or_default())
}

/// Processor time of the calling thread, where the system tells it (Linux with /proc).
pub(crate) fn thread_cpu_time() -> Option<Duration> {
    let line = std::fs::read_to_string("/proc/thread-self/schedstat").ok()?;
    line.split(' ').next()?.parse().ok().map(Duration::from_nanos)
}

/// The memory of one instance, over all its memories.
#[derive(Default)]
pub(crate) struct MemoryBudget {
    pub(crate) limit_bytes: u64,
    pub(crate) used_bytes: u64,
    /// Of these, what the instance had when the call under way began; 0 of its first.
    before_bytes: u64,
    /// Whether more was asked for than the limit.
    pub(crate) refused: bool,
    /// Whether a table was to be larger than the limit.
    pub(crate) table_refused: bool,
}

impl MemoryBudget {
    /// Whether the call was refused memory that a fresh instance may have for it.
    pub(crate) fn is_crowded(&self) -> bool {
        self.refused && self.before_bytes > 0
    }

    /// Whether the instance has had all that it asked for, and less than half of what it may have.
    pub(crate) fn is_ample(&self) -> bool {
        !self.refused && !self.table_refused && self.used_bytes < self.limit_bytes / 2
    }
}

impl ResourceLimiter for MemoryBudget {
    fn memory_growing(&mut self, current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let wanted = self.used_bytes.saturating_add(desired.saturating_sub(current) as u64);
        if wanted > self.limit_bytes {
            self.refused = true;
            return Ok(false);
        }
        self.used_bytes = wanted;
        Ok(true)
    }

    fn table_growing(&mut self, _current: usize, desired: usize, _maximum: Option<usize>) -> wasmtime::Result<bool> {
        let fits = desired <= MAX_TABLE_ELEMENTS;
        self.table_refused |= !fits;
        Ok(fits)
    }

    fn instances(&self) -> usize {
        MAX_INSTANCES
    }

    fn tables(&self) -> usize {
        MAX_TABLES
    }

    fn memories(&self) -> usize {
        MAX_MEMORIES
    }
}
