//! What came of a version that runs beside the live one, as counts: how often their outputs were the same, how each failed, and
//! what each used for it. All of it is about what both were asked about.

use std::collections::BTreeMap;
use std::time::Duration;

use kith_model::plugin::PluginFault;
use kith_model::spent::{self, Spent};
use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::rows::rows;

/// Durations of up to some hours, in microseconds; each doubling is told apart in two steps.
const BUCKETS: usize = 68;

/// Outputs that are told apart. A manifest declares fewer.
const MAX_OUTPUTS: usize = 256;

/// How one call went.
#[derive(Debug, Clone, Copy)]
pub(crate) struct SeenCall {
    took: Duration,
    spent: Spent,
}

impl SeenCall {
    /// Make a call, and see how it goes.
    pub(crate) fn of<T>(call: impl FnOnce() -> T) -> (SeenCall, T) {
        // What others used before it on this thread is not its own.
        spent::take();
        let started = std::time::Instant::now();
        let answer = call();
        (SeenCall { took: started.elapsed(), spent: spent::take() }, answer)
    }

    /// Processor time of the guest.
    pub(crate) fn processor(&self) -> Duration {
        self.spent.processor
    }
}

/// What one of the two versions did.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowSide {
    pub calls: u64,
    /// By the fault's code: people for whom it gave nothing, or requests.
    pub failures: BTreeMap<String, u64>,
    processor_us: u64,
    /// Of calls that are metered.
    pub fuel: u64,
    longest_us: u64,
    /// How many calls took how long.
    durations: Vec<u64>,
}

impl ShadowSide {
    pub(crate) fn call(&mut self, seen: &SeenCall) {
        let us = micros(seen.took);
        self.calls += 1;
        self.processor_us = self.processor_us.saturating_add(micros(seen.spent.processor));
        self.fuel = self.fuel.saturating_add(seen.spent.fuel);
        self.longest_us = self.longest_us.max(us);
        self.durations.resize(BUCKETS, 0);
        self.durations[bucket(us)] += 1;
    }

    pub(super) fn failed(&mut self, code: &str) {
        *self.failures.entry(code.to_owned()).or_default() += 1;
    }

    pub(crate) fn fault(&mut self, fault: &PluginFault) {
        self.failed(fault.code());
    }

    /// Processor time of its calls.
    pub fn processor(&self) -> Duration {
        Duration::from_micros(self.processor_us)
    }

    /// The longest call.
    pub fn longest(&self) -> Duration {
        Duration::from_micros(self.longest_us)
    }

    /// So many of a hundred calls took no longer. Up to a half more than it was, and never more than the longest.
    pub fn quantile(&self, percent: u64) -> Duration {
        let rank = (self.calls * percent).div_ceil(100).max(1);
        let mut seen = 0;
        let reached = self.durations.iter().position(|count| {
            seen += count;
            seen >= rank
        });
        let us = reached.map_or(self.longest_us, upper).min(self.longest_us);
        Duration::from_micros(us)
    }
}

fn micros(duration: Duration) -> u64 {
    u64::try_from(duration.as_micros()).unwrap_or(u64::MAX)
}

fn bucket(us: u64) -> usize {
    let us = us.max(1);
    let doubling = us.ilog2();
    // In the upper half of what lies between two doublings; written so that it cannot overflow.
    let is_upper = us - (1 << doubling) >= (1 << doubling) / 2;
    (2 * doubling as usize + usize::from(is_upper)).min(BUCKETS - 1)
}

/// What nothing in a bucket passes.
fn upper(bucket: usize) -> u64 {
    let doubling = bucket / 2;
    if bucket.is_multiple_of(2) { (3 << doubling) / 2 } else { 2 << doubling }
}

/// How often an output of the two was the same.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct OutputComparison {
    /// Both gave the same, or nothing.
    pub equal: u64,
    /// Both gave something, and not the same.
    pub changed: u64,
    /// The live one alone gave something.
    pub only_live: u64,
    /// The shadow alone did.
    pub only_shadow: u64,
}

/// Why something that the live version was asked about was not compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum SkipReason {
    /// A comparison of the same installation was under way or waiting.
    Busy,
    /// What waits of all had no room for it, or a call may take more memory than there is for one.
    NoRoom,
    /// The shadow had just failed on everybody, and rests; or it had not come to these when its time was over.
    GivenUp,
}

impl SkipReason {
    /// As a metric's label.
    pub(super) fn as_str(self) -> &'static str {
        match self {
            SkipReason::Busy => "busy",
            SkipReason::NoRoom => "no-room",
            SkipReason::GivenUp => "given-up",
        }
    }
}

/// People or requests that were not compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SkippedCounts {
    /// A comparison of the same installation was under way or waiting.
    pub busy: u64,
    /// There was no room for it.
    pub no_room: u64,
    /// The shadow had failed on everybody, and was left alone for a while.
    pub given_up: u64,
}

impl SkippedCounts {
    pub(super) fn add(&mut self, reason: SkipReason, count: u64) {
        let counted = match reason {
            SkipReason::Busy => &mut self.busy,
            SkipReason::NoRoom => &mut self.no_room,
            SkipReason::GivenUp => &mut self.given_up,
        };
        *counted = counted.saturating_add(count);
    }

    pub(super) fn add_all(&mut self, more: SkippedCounts) {
        self.add(SkipReason::Busy, more.busy);
        self.add(SkipReason::NoRoom, more.no_room);
        self.add(SkipReason::GivenUp, more.given_up);
    }
}

/// Which run of which version a report is of. Another configuration or another beginning is another one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ShadowKey {
    pub digest: String,
    pub config_hash: u64,
    pub since: Timestamp,
    /// The live version's digest and configuration.
    pub live: (String, u64),
}

/// What came of a version that runs beside the live one.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ShadowReport {
    pub(super) of: ShadowKey,
    /// People whom both were asked about, or requests.
    pub compared: u64,
    pub skipped: SkippedCounts,
    /// By name, of those for whom both gave something.
    pub outputs: BTreeMap<String, OutputComparison>,
    pub live: ShadowSide,
    pub shadow: ShadowSide,
}

rows! {
    ShadowReport: "what came of a shadow", React, 1;
}

impl ShadowReport {
    pub(super) fn new(of: ShadowKey) -> ShadowReport {
        ShadowReport { of, ..ShadowReport::default() }
    }

    /// Count what the two gave for one output; whether it differs.
    pub(super) fn compare<T: PartialEq>(&mut self, output: &str, live: Option<&T>, shadow: Option<&T>) -> bool {
        compare(&mut self.outputs, output, live, shadow)
    }
}

/// Count what two versions gave for one output; whether it differs.
pub(crate) fn compare<T: PartialEq>(
    outputs: &mut BTreeMap<String, OutputComparison>,
    output: &str,
    live: Option<&T>,
    other: Option<&T>,
) -> bool {
    if !outputs.contains_key(output) {
        if outputs.len() >= MAX_OUTPUTS {
            return false;
        }
        outputs.insert(output.to_owned(), OutputComparison::default());
    }
    let Some(counted) = outputs.get_mut(output) else { return false };
    let count = match (live, other) {
        (Some(live), Some(other)) if live != other => &mut counted.changed,
        (Some(_), None) => &mut counted.only_live,
        (None, Some(_)) => &mut counted.only_shadow,
        (Some(_), Some(_)) | (None, None) => {
            counted.equal += 1;
            return false;
        }
    };
    *count += 1;
    true
}

#[cfg(test)]
mod tests {
    use kith_store::row::Row;

    use super::*;

    #[test]
    fn the_format_describes_the_row() {
        let (what, owner, version) = (ShadowReport::WHAT, ShadowReport::OWNER.name(), ShadowReport::VERSION);
        let line = format!("| `ShadowReport` | {what} | {owner} | {version} | postcard |");
        assert!(include_str!("../../../store/FORMAT.md").contains(&line), "FORMAT.md lacks {line}");
    }

    #[test]
    fn a_quantile_is_never_below_what_it_stands_for() {
        let mut side = ShadowSide::default();
        assert_eq!(side.quantile(50), Duration::ZERO, "of nothing");
        let times: Vec<u64> = (0..100).map(|number| 1 + number * 37).collect();
        for us in &times {
            side.call(&SeenCall { took: Duration::from_micros(*us), spent: Spent::default() });
        }
        for percent in [1, 50, 99, 100] {
            let exact = times[usize::try_from(percent).unwrap() - 1];
            let told = micros(side.quantile(percent));
            assert!(exact <= told && told <= exact + exact / 2 + 2, "{told} for {exact}");
        }
        assert_eq!((side.longest(), side.calls), (Duration::from_micros(times[99]), 100));
        for us in [0, 1, 2, 3, 1 << 33, u64::MAX] {
            assert!(bucket(us) < BUCKETS);
        }
    }

    #[test]
    fn an_output_is_equal_changed_or_given_by_one_of_the_two() {
        let mut report = ShadowReport::default();
        let differs = [(Some(1), Some(1)), (None, None), (Some(1), Some(2)), (Some(1), None), (None, Some(2))]
            .map(|(live, shadow): (Option<i32>, Option<i32>)| report.compare("a", live.as_ref(), shadow.as_ref()));
        assert_eq!(differs, [false, false, true, true, true]);
        let expected = OutputComparison { equal: 2, changed: 1, only_live: 1, only_shadow: 1 };
        assert_eq!(report.outputs["a"], expected);
        for number in 0..2 * MAX_OUTPUTS {
            report.compare(&number.to_string(), Some(&1), None);
        }
        assert_eq!(report.outputs.len(), MAX_OUTPUTS, "what is stored of it is bounded");
    }
}
