//! A call for several requests that failed: whether it was for one of them, which shows where each is called alone, and for how
//! long a source's requests are called one by one behind it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use kith_model::plugin::{Connector, PluginFault, ReceiveError, Received};
use kith_model::time::Timestamp;

/// How long a source's requests are called one by one after a call of several failed. Where none of them failed alone, twice as
/// long with each time.
pub(super) const APART_MS: i64 = 60_000;

/// No longer than this; and how often it happened is forgotten so long after they were called together again.
const LONGEST_APART_MS: i64 = 86_400_000;

/// A call for several requests that failed. Each of them that waits for another call holds it.
pub(super) struct FailedCall {
    connector: Arc<dyn Connector>,
    fault: PluginFault,
    requests: usize,
    /// Requests that were answered afterwards without a fault.
    answered: AtomicUsize,
    /// Whether one of them failed by itself too.
    is_of_one: AtomicBool,
}

impl FailedCall {
    pub(super) fn new(connector: Arc<dyn Connector>, fault: PluginFault, requests: usize) -> FailedCall {
        FailedCall { connector, fault, requests, answered: AtomicUsize::new(0), is_of_one: AtomicBool::new(false) }
    }

    /// A request of the call was answered so.
    pub(super) fn answered(&self, received: &Result<Received, ReceiveError>) {
        match received {
            Err(ReceiveError::Fault(_)) => self.fails_alone(),
            Ok(_) | Err(ReceiveError::Refused(_)) => {
                self.answered.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// A request of the call fails by itself too.
    pub(super) fn fails_alone(&self) {
        self.is_of_one.store(true, Ordering::Relaxed);
    }

    /// The fault, where every request of the call has been answered without one. Whoever has gone was not called, and may have
    /// taken the fault along.
    pub(super) fn of_no_request(self) -> Option<PluginFault> {
        (self.answered.load(Ordering::Relaxed) == self.requests).then(|| self.fault.clone())
    }
}

/// With the last request goes the chance that it shows again.
impl Drop for FailedCall {
    fn drop(&mut self) {
        if !*self.is_of_one.get_mut() {
            self.connector.failed_together(&self.fault);
        }
    }
}

/// Until when a source's requests are called one by one.
#[derive(Debug, Default)]
pub(super) struct Apart {
    until: Option<Timestamp>,
    /// The version of the connector of which calls failed though no request did, and how often.
    of_none: Option<(u64, u32)>,
}

impl Apart {
    /// Whether they are now.
    pub(super) fn is_on(&self, now: Timestamp) -> bool {
        self.until.is_some_and(|until| now < until)
    }

    /// A call of several failed.
    pub(super) fn begin(&mut self, now: Timestamp) {
        self.extend(APART_MS, now);
    }

    /// A call of several failed of this version, though no request did; how often that was.
    pub(super) fn again(&mut self, version: u64, now: Timestamp) -> u32 {
        let is_forgotten = self.is_over(now);
        let known = self.of_none.filter(|(of, _)| *of == version && !is_forgotten);
        let times = known.map_or(1, |(_, times)| times.saturating_add(1));
        self.of_none = Some((version, times));
        self.extend((APART_MS << (times - 1).min(20)).min(LONGEST_APART_MS), now);
        times
    }

    /// Whether nothing of it makes a difference any more.
    pub(super) fn is_over(&self, now: Timestamp) -> bool {
        let remembered_ms = if self.of_none.is_some() { LONGEST_APART_MS } else { 0 };
        self.until.is_none_or(|until| until.plus_ms(remembered_ms) <= now)
    }

    /// For so long from now, and no shorter than it was to be.
    fn extend(&mut self, time_ms: i64, now: Timestamp) {
        self.until = self.until.max(Some(now.plus_ms(time_ms)));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_that_fail_for_no_request_keep_a_source_apart_for_longer_each_time() {
        let mut apart = Apart::default();
        let minute = |minutes: i64| Timestamp(minutes * APART_MS);
        let mut now = 0;
        for (times, minutes) in [(1, 1), (2, 2), (3, 4), (4, 8)] {
            assert_eq!(apart.again(7, minute(now)), times);
            apart.begin(minute(now));
            assert!(apart.is_on(minute(now + minutes - 1)) && !apart.is_on(minute(now + minutes)), "{times}");
            now += minutes;
        }
        assert_eq!(apart.again(8, minute(now)), 1, "another version");
        now += 1;
        for _ in 0..15 {
            apart.again(8, minute(now));
        }
        let day = LONGEST_APART_MS / APART_MS;
        assert!(apart.is_on(minute(now + day - 1)) && !apart.is_on(minute(now + day)));
        assert!(!apart.is_over(minute(now + 2 * day - 1)) && apart.is_over(minute(now + 2 * day)));
        assert_eq!(apart.again(8, minute(now + 2 * day)), 1, "that was long ago");
    }

    #[test]
    fn what_fails_for_a_request_is_forgotten_with_the_time_apart() {
        let mut apart = Apart::default();
        assert!(apart.is_over(Timestamp(0)) && !apart.is_on(Timestamp(0)));
        apart.begin(Timestamp(0));
        apart.begin(Timestamp(1));
        assert!(apart.is_on(Timestamp(APART_MS)), "the later one counts");
        assert!(apart.is_over(Timestamp(APART_MS + 1)));
    }
}
