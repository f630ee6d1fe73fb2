//! Responsible for what can be seen of an installation without the operator's log: figures of its calls, its last fault and its
//! latest log lines, all since the process began. Whoever binds an installation gives it an [`Observed`] and reads it.

use std::collections::VecDeque;
use std::str::FromStr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use kith_model::budget::table;
use kith_model::plugin::{FaultOwner, PluginFault};
use kith_model::sending::{InboundResponse, SendFailure};
use kith_model::time::Timestamp;
use parking_lot::Mutex;
use serde::Serialize;

/// What a line costs besides its text.
const LINE_BYTES: usize = 64;

/// What all installations keep of lines together, in bytes. Beyond it one keeps a few of its latest.
const ALL_LINES_BYTES: usize = 64 << 20;

/// What an installation keeps of lines where all together have no room.
const FEW_LINES_BYTES: usize = 4 << 10;

/// Each doubling of a duration is told apart in so many steps.
const STEPS: usize = 4;

/// Durations of up to some hours, in microseconds.
const BUCKETS: usize = 40 * STEPS;

/// What the log lines of all installations of a host take in memory.
#[derive(Debug, Default)]
pub struct LineSpace(AtomicUsize);

/// What is seen of one installation. It outlives changes of the installation, upgrades among them.
pub struct Observed {
    since: Timestamp,
    figures: Figures,
    kept: Mutex<Kept>,
    space: Arc<LineSpace>,
}

#[derive(Default)]
struct Figures {
    calls: AtomicU64,
    rows: AtomicU64,
    faults: [AtomicU64; 4],
    cpu_ns: AtomicU64,
    longest_us: AtomicU64,
    memory_peak_bytes: AtomicU64,
    host_calls: AtomicU64,
    fuel: AtomicU64,
    state_writes: AtomicU64,
    state_written_bytes: AtomicU64,
    requests: AtomicU64,
    sent_bytes: AtomicU64,
    received_bytes: AtomicU64,
    lines: AtomicU64,
    lines_cut: AtomicU64,
    buckets: Buckets,
}

struct Buckets([AtomicU64; BUCKETS]);

impl Default for Buckets {
    fn default() -> Buckets {
        Buckets(std::array::from_fn(|_| AtomicU64::new(0)))
    }
}

#[derive(Default)]
struct Kept {
    last_fault: Option<SeenFault>,
    lines: VecDeque<SeenLine>,
    bytes: usize,
    /// The number of the line that comes next.
    next: u64,
}

/// How important a plugin says that a line is.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum LineLevel {
    #[default]
    Debug,
    Info,
    Warn,
    Error,
}

impl LineLevel {
    /// All of them, the least first.
    const ALL: [LineLevel; 4] = [LineLevel::Debug, LineLevel::Info, LineLevel::Warn, LineLevel::Error];

    /// As it is shown.
    pub fn as_str(self) -> &'static str {
        match self {
            LineLevel::Debug => "debug",
            LineLevel::Info => "info",
            LineLevel::Warn => "warn",
            LineLevel::Error => "error",
        }
    }
}

impl FromStr for LineLevel {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<LineLevel, &'static str> {
        let found = LineLevel::ALL.into_iter().find(|level| level.as_str() == text);
        found.ok_or("write `debug`, `info`, `warn` or `error`")
    }
}

/// A line that a plugin logged.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SeenLine {
    /// From 0, without gaps, in the order in which lines came.
    pub number: u64,
    pub at: Timestamp,
    pub level: LineLevel,
    /// The plugin's own text, without control characters.
    pub text: String,
}

/// A fault and when it was.
#[derive(Debug, Clone, PartialEq)]
pub struct SeenFault {
    pub at: Timestamp,
    /// `vendor/name@version` that it was a fault of.
    pub plugin: String,
    pub fault: PluginFault,
}

/// Some of the lines that are kept.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LinePage {
    pub lines: Vec<SeenLine>,
    /// How many lines were asked for that are kept no more.
    pub gone: u64,
    /// The number of the line behind the last of these.
    pub next: u64,
}

/// Figures of an installation's calls.
#[derive(Debug, Clone, PartialEq)]
pub struct Usage {
    /// When counting began: a start of the server, or the installation.
    pub since: Timestamp,
    /// Calls that ended, well or not. What waited or was refused beforehand is none.
    pub calls: u64,
    /// Rows that a model was given.
    pub rows: u64,
    /// Faults by whose they are.
    pub faults: Vec<(FaultOwner, u64)>,
    pub last_fault: Option<SeenFault>,
    /// Processor time.
    pub cpu: Duration,
    /// How long a call took, from below: half of them no longer, and 99 of a hundred. Up to a quarter more than it was,
    /// and never more than `longest`.
    pub p50: Duration,
    pub p99: Duration,
    pub longest: Duration,
    /// The most linear memory that a call had.
    pub memory_peak_bytes: u64,
    pub host_calls: u64,
    /// Of calls that are metered.
    pub fuel: u64,
    pub state_writes: u64,
    pub state_written_bytes: u64,
    /// Requests over HTTP that were let out, by its calls and for it.
    pub requests: u64,
    /// Their bodies, as the plugin wrote them, and those of the answers.
    pub sent_bytes: u64,
    pub received_bytes: u64,
    /// Log lines that came, and of these the ones that were cut because their call had logged what it may.
    pub lines: u64,
    pub lines_cut: u64,
}

/// What one call came to.
pub(crate) struct SeenCall {
    pub(crate) elapsed: Duration,
    pub(crate) cpu: Duration,
    pub(crate) memory_bytes: u64,
    pub(crate) host_calls: u64,
    pub(crate) fuel: u64,
    pub(crate) state_writes: u64,
    pub(crate) state_written_bytes: u64,
}

const OWNERS: [FaultOwner; 4] = [FaultOwner::Plugin, FaultOwner::Request, FaultOwner::Peer, FaultOwner::Host];

impl Observed {
    /// Nothing is seen yet.
    pub fn new(since: Timestamp, space: Arc<LineSpace>) -> Observed {
        Observed { since, figures: Figures::default(), kept: Mutex::default(), space }
    }

    pub(crate) fn line(&self, level: LineLevel, text: &str, at: Timestamp) {
        self.figures.lines.fetch_add(1, Ordering::Relaxed);
        let mut kept = self.kept.lock();
        let number = kept.next;
        kept.next += 1;
        kept.bytes += text.len() + LINE_BYTES;
        kept.lines.push_back(SeenLine { number, at, level, text: text.to_owned() });
        let all = self.space.0.fetch_add(text.len() + LINE_BYTES, Ordering::Relaxed);
        let own = usize::try_from(table::GUEST_LOG_KEPT.default).unwrap_or(usize::MAX);
        let room = if all > ALL_LINES_BYTES { FEW_LINES_BYTES } else { own };
        if kept.bytes > room {
            table::GUEST_LOG_KEPT.count();
        }
        while kept.bytes > room
            && let Some(oldest) = kept.lines.pop_front()
        {
            let bytes = oldest.text.len() + LINE_BYTES;
            kept.bytes -= bytes;
            self.space.0.fetch_sub(bytes, Ordering::Relaxed);
        }
    }

    /// A line was cut.
    pub(crate) fn line_cut(&self) {
        self.figures.lines.fetch_add(1, Ordering::Relaxed);
        self.figures.lines_cut.fetch_add(1, Ordering::Relaxed);
    }

    /// Take over what was seen logged elsewhere, of calls that count for nothing else here.
    pub fn take_lines(&self, other: &Observed) {
        other.lines(Some(0), usize::MAX).lines.iter().for_each(|line| self.line(line.level, &line.text, line.at));
        (0..other.usage().lines_cut).for_each(|_| self.line_cut());
    }

    pub(crate) fn rows(&self, rows: usize) {
        self.figures.rows.fetch_add(rows as u64, Ordering::Relaxed);
    }

    pub(crate) fn call(&self, call: &SeenCall) {
        let figures = &self.figures;
        let add = |figure: &AtomicU64, much: u64| figure.fetch_add(much, Ordering::Relaxed);
        let micros = u64::try_from(call.elapsed.as_micros()).unwrap_or(u64::MAX);
        add(&figures.calls, 1);
        add(&figures.cpu_ns, u64::try_from(call.cpu.as_nanos()).unwrap_or(u64::MAX));
        add(&figures.host_calls, call.host_calls);
        add(&figures.fuel, call.fuel);
        add(&figures.state_writes, call.state_writes);
        add(&figures.state_written_bytes, call.state_written_bytes);
        add(&figures.buckets.0[bucket(micros)], 1);
        figures.longest_us.fetch_max(micros, Ordering::Relaxed);
        figures.memory_peak_bytes.fetch_max(call.memory_bytes, Ordering::Relaxed);
    }

    /// A request was let out, with so many bytes in its body.
    pub(crate) fn sent(&self, bytes: usize) {
        self.figures.requests.fetch_add(1, Ordering::Relaxed);
        self.figures.sent_bytes.fetch_add(bytes as u64, Ordering::Relaxed);
    }

    /// It was answered, or not.
    pub(crate) fn answered(&self, answer: &Result<InboundResponse, SendFailure>) {
        let bytes = answer.as_ref().map_or(0, |answer| answer.body.len() as u64);
        self.figures.received_bytes.fetch_add(bytes, Ordering::Relaxed);
    }

    pub(crate) fn fault(&self, plugin: &str, fault: &PluginFault, at: Timestamp) {
        let owner = OWNERS.iter().position(|owner| *owner == fault.owner()).unwrap_or_default();
        self.figures.faults[owner].fetch_add(1, Ordering::Relaxed);
        self.kept.lock().last_fault = Some(SeenFault { at, plugin: plugin.to_owned(), fault: fault.clone() });
    }

    /// The figures of now.
    pub fn usage(&self) -> Usage {
        let figures = &self.figures;
        let of = |figure: &AtomicU64| figure.load(Ordering::Relaxed);
        let counts: Vec<u64> = figures.buckets.0.iter().map(of).collect();
        let longest = Duration::from_micros(of(&figures.longest_us));
        Usage {
            since: self.since,
            calls: of(&figures.calls),
            rows: of(&figures.rows),
            faults: OWNERS.into_iter().zip(figures.faults.iter().map(of)).collect(),
            last_fault: self.kept.lock().last_fault.clone(),
            cpu: Duration::from_nanos(of(&figures.cpu_ns)),
            p50: quantile(&counts, 50).min(longest),
            p99: quantile(&counts, 99).min(longest),
            longest,
            memory_peak_bytes: of(&figures.memory_peak_bytes),
            host_calls: of(&figures.host_calls),
            fuel: of(&figures.fuel),
            state_writes: of(&figures.state_writes),
            state_written_bytes: of(&figures.state_written_bytes),
            requests: of(&figures.requests),
            sent_bytes: of(&figures.sent_bytes),
            received_bytes: of(&figures.received_bytes),
            lines: of(&figures.lines),
            lines_cut: of(&figures.lines_cut),
        }
    }

    /// The lines from one number on, `limit` at most; without a number the latest.
    pub fn lines(&self, from: Option<u64>, limit: usize) -> LinePage {
        let kept = self.kept.lock();
        let first = kept.lines.front().map_or(kept.next, |line| line.number);
        let latest = kept.next.saturating_sub(limit as u64).max(first);
        let from = from.unwrap_or(latest).min(kept.next);
        let begin = usize::try_from(from.saturating_sub(first)).unwrap_or(usize::MAX);
        let lines: Vec<SeenLine> = kept.lines.iter().skip(begin).take(limit).cloned().collect();
        let next = lines.last().map_or(from.max(first), |line| line.number + 1);
        LinePage { lines, gone: first.saturating_sub(from), next }
    }
}

/// Of what is no installation of anybody.
impl Default for Observed {
    fn default() -> Observed {
        Observed::new(Timestamp(0), Arc::default())
    }
}

impl Drop for Observed {
    fn drop(&mut self) {
        self.space.0.fetch_sub(self.kept.get_mut().bytes, Ordering::Relaxed);
    }
}

/// Where a duration counts: [`STEPS`] to each doubling.
fn bucket(micros: u64) -> usize {
    let micros = micros.max(1);
    let doublings = micros.ilog2() as usize;
    let step = match doublings {
        0 | 1 => 0,
        more => usize::try_from((micros >> (more - 2)) & 3).unwrap_or_default(),
    };
    (doublings * STEPS + step).min(BUCKETS - 1)
}

/// The end of a bucket.
fn end(bucket: usize) -> Duration {
    let (doublings, step) = (bucket / STEPS, (bucket % STEPS) as u64);
    let micros = match doublings {
        0 | 1 => (2 << doublings) - 1,
        more => ((4 + step + 1) << (more - 2)) - 1,
    };
    Duration::from_micros(micros)
}

/// What so many of a hundred are no longer than.
fn quantile(counts: &[u64], percent: u64) -> Duration {
    let rank = (counts.iter().sum::<u64>() * percent).div_ceil(100).max(1);
    let mut seen = 0;
    let found = counts.iter().position(|count| {
        seen += count;
        seen >= rank
    });
    found.map_or(Duration::ZERO, end)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn call(elapsed: Duration) -> SeenCall {
        SeenCall {
            elapsed,
            cpu: elapsed,
            memory_bytes: 1 << 16,
            host_calls: 2,
            fuel: 0,
            state_writes: 0,
            state_written_bytes: 0,
        }
    }

    #[test]
    fn lines_are_read_on_from_where_one_was_and_what_is_gone_is_counted() {
        let observed = Observed::default();
        let text = "x".repeat(1_000);
        (0..100).for_each(|number| observed.line(LineLevel::Info, &format!("{number} {text}"), Timestamp(number)));
        let all = observed.lines(Some(0), 1_000);
        let kept = usize::try_from(table::GUEST_LOG_KEPT.default).unwrap() / (1_000 + LINE_BYTES);
        assert!(all.lines.len() <= kept && all.lines.len() + 3 > kept, "{}", all.lines.len());
        assert_eq!((all.gone, all.next), (100 - all.lines.len() as u64, 100));
        assert!(all.lines[0].text.starts_with(&format!("{} ", all.gone)));
        let latest = observed.lines(None, 2);
        assert_eq!(latest.lines.iter().map(|line| line.number).collect::<Vec<_>>(), [98, 99]);
        let none = observed.lines(Some(latest.next), 10);
        assert_eq!((none.lines.len(), none.next), (0, 100));
        observed.line(LineLevel::Error, "new", Timestamp(7));
        assert_eq!(observed.lines(Some(none.next), 10).lines[0].text, "new");
        // A number of another life of the server.
        assert_eq!(observed.lines(Some(5_000), 10).next, 101);
    }

    #[test]
    fn lines_of_calls_that_are_not_counted_are_shown_with_the_others() {
        let (own, other) = (Observed::default(), Observed::default());
        own.line(LineLevel::Info, "before", Timestamp(1));
        other.line(LineLevel::Error, "asked", Timestamp(2));
        other.line_cut();
        other.call(&call(Duration::from_millis(1)));
        own.take_lines(&other);
        let seen = own.lines(Some(0), 10).lines;
        assert_eq!(
            seen[1],
            SeenLine { number: 1, at: Timestamp(2), level: LineLevel::Error, text: "asked".to_owned() }
        );
        let usage = own.usage();
        assert_eq!((usage.calls, usage.lines, usage.lines_cut), (0, 3, 1));
    }

    #[test]
    fn all_installations_share_the_room_and_give_it_back() {
        let space = Arc::new(LineSpace::default());
        let text = "x".repeat(8_000);
        let all: Vec<Observed> = (0..1_100).map(|_| Observed::new(Timestamp(0), Arc::clone(&space))).collect();
        for observed in &all {
            (0..10).for_each(|_| observed.line(LineLevel::Info, &text, Timestamp(0)));
        }
        let bytes = space.0.load(Ordering::Relaxed);
        assert!(bytes < ALL_LINES_BYTES + (1 << 20), "{bytes}");
        drop(all);
        assert_eq!(space.0.load(Ordering::Relaxed), 0);
    }

    #[test]
    fn the_last_fault_is_kept_and_each_is_counted_for_its_owner() {
        let observed = Observed::default();
        observed.fault("v/p@1.0.0", &PluginFault::Transient("later".into()), Timestamp(1));
        observed.fault("v/p@1.0.0", &PluginFault::CpuExceeded { limit_ms: 200 }, Timestamp(2));
        let usage = observed.usage();
        let of = |owner| usage.faults.iter().find(|(of, _)| *of == owner).unwrap().1;
        assert_eq!((of(FaultOwner::Plugin), of(FaultOwner::Peer), of(FaultOwner::Request)), (1, 1, 0));
        assert_eq!(usage.last_fault.unwrap().fault, PluginFault::CpuExceeded { limit_ms: 200 });
    }

    proptest! {
        /// A quantile is never below what it stands for, at most a quarter above, and never above the longest.
        #[test]
        fn quantiles_are_near(mut micros in prop::collection::vec(1_u64..100_000_000, 1..200)) {
            let observed = Observed::default();
            micros.iter().for_each(|micros| observed.call(&call(Duration::from_micros(*micros))));
            micros.sort_unstable();
            let usage = observed.usage();
            for (percent, found) in [(50, usage.p50), (99, usage.p99)] {
                let exact = micros[(micros.len() * percent).div_ceil(100).max(1) - 1];
                let found = u64::try_from(found.as_micros()).unwrap();
                prop_assert!(exact <= found && found <= exact + exact / 4 + 2, "{} for {}", found, exact);
                prop_assert!(found <= u64::try_from(usage.longest.as_micros()).unwrap());
            }
            prop_assert_eq!(usage.calls, micros.len() as u64);
            prop_assert_eq!(usage.longest, Duration::from_micros(*micros.last().unwrap()));
        }
    }
}
