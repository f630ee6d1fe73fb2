//! How much of the processors the requests with one workspace's keys take. Whoever asks for more than one processor's worth
//! begins later, and what is computed for whoever asks for much yields to everybody else: a neighbour's request, which takes a
//! millisecond, never stands behind hundreds of another's.

use std::cell::Cell;
use std::collections::HashMap;
use std::time::{Duration, Instant};

use kith_model::budget::{Allowance, Exhausted, table};
use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::time::sleep;

tokio::task_local! {
    /// The workspace that the current task computes for, as soon as its key is known.
    static COMPUTES_FOR: Cell<Option<WorkspaceId>>;
}

/// The longest that a request waits until it begins.
const LONGEST_WAIT_MS: i64 = 5_000;

/// What a request is taken to cost before it is known: requests that waited begin one after the other, not all at once.
const FIRST_CHARGE: Duration = Duration::from_millis(1);

/// The most that one piece of work is charged with. Work that takes longer has a budget of its own (turns of questions, the
/// length of an answer), and one export must not keep a workspace from everything else.
const LARGEST_CHARGE: Duration = Duration::from_millis(100);

/// What is charged at most beyond what has come back: hundreds of requests that began together may take 100 ms each, and who
/// comes when they have ended is refused for seconds, not for minutes.
const MAX_SPENT_MS: u64 = table::REQUEST_PROCESSOR.default + 8_000;

/// Work of a workspace that has spent more than this part of its second yields to everybody else.
const EAGER_PART: u64 = 4;

/// Serve a request, whose work counts for the workspace that it turns out to be of.
pub(crate) async fn counted<T>(request: impl Future<Output = T>) -> T {
    COMPUTES_FOR.scope(Cell::new(None), request).await
}

/// The workspace that the current task computes for.
pub(crate) fn workspace() -> Option<WorkspaceId> {
    COMPUTES_FOR.try_with(Cell::get).ok().flatten()
}

/// What each workspace's requests may still compute.
pub(crate) struct ProcessorShares {
    began: Instant,
    by_workspace: Mutex<HashMap<WorkspaceId, Allowance>>,
}

impl ProcessorShares {
    pub(crate) fn new() -> ProcessorShares {
        ProcessorShares { began: Instant::now(), by_workspace: Mutex::default() }
    }

    /// Begin a request, as soon as its workspace may compute; what the current task computes from now on counts for it.
    ///
    /// # Errors
    /// Where that would be too late.
    pub(crate) async fn begin(&self, workspace: WorkspaceId) -> Result<(), Exhausted> {
        let until = self.now().plus_ms(LONGEST_WAIT_MS);
        while let Some(wait) = self.admit(workspace, self.now(), until)? {
            sleep(wait).await;
        }
        self.begin_at_once(workspace);
        Ok(())
    }

    /// Begin a request that does not wait for its workspace's other ones, and counts for it all the same.
    pub(crate) fn begin_at_once(&self, workspace: WorkspaceId) {
        // Outside of a request nobody asks.
        let _ = COMPUTES_FOR.try_with(|computes_for| computes_for.set(Some(workspace)));
    }

    /// How long a request has to wait that begins at `until` at the latest; `None` where it begins now.
    fn admit(&self, workspace: WorkspaceId, now: Timestamp, until: Timestamp) -> Result<Option<Duration>, Exhausted> {
        self.with(workspace, now, |allowance| {
            let Some(wait) = allowance.wait(now) else {
                allowance.charge(millis(FIRST_CHARGE), now);
                return Ok(None);
            };
            let left = u64::try_from(until.0.saturating_sub(now.0)).unwrap_or(0);
            if millis(wait) > left {
                let limit = table::REQUEST_PROCESSOR.default;
                return Err(table::REQUEST_PROCESSOR.exhausted(limit, Some(wait)));
            }
            Ok(Some(wait))
        })
    }

    /// Whether a workspace has its requests compute so much that they should yield.
    pub(crate) fn is_eager(&self, workspace: WorkspaceId) -> bool {
        self.spent(workspace, self.now()) > table::REQUEST_PROCESSOR.default / EAGER_PART
    }

    /// Work on the calling thread, and charge the workspace with the processor time that it took.
    pub(crate) fn charged<T>(&self, workspace: WorkspaceId, work: impl FnOnce() -> T) -> T {
        let before = thread_time();
        let done = work();
        let took = thread_time().saturating_sub(before).min(LARGEST_CHARGE);
        self.charge(workspace, took.saturating_sub(FIRST_CHARGE), self.now());
        done
    }

    fn charge(&self, workspace: WorkspaceId, took: Duration, now: Timestamp) {
        self.with(workspace, now, |allowance| {
            if allowance.spent(now) < MAX_SPENT_MS {
                allowance.charge(millis(took), now);
            }
        });
    }

    fn spent(&self, workspace: WorkspaceId, now: Timestamp) -> u64 {
        self.with(workspace, now, |allowance| allowance.spent(now))
    }

    fn with<T>(&self, workspace: WorkspaceId, now: Timestamp, look: impl FnOnce(&mut Allowance) -> T) -> T {
        let fresh = || Allowance::new(&table::REQUEST_PROCESSOR, table::REQUEST_PROCESSOR.default, now);
        look(self.by_workspace.lock().entry(workspace).or_insert_with(fresh))
    }

    /// The server's own clock may stand still, so time is the machine's.
    fn now(&self) -> Timestamp {
        Timestamp(i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX))
    }

    /// The workspace is no more.
    pub(crate) fn forget(&self, workspace: WorkspaceId) {
        self.by_workspace.lock().remove(&workspace);
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

/// The processor time of the calling thread.
fn thread_time() -> Duration {
    let time = clock_gettime(ClockId::ThreadCPUTime);
    Duration::new(u64::try_from(time.tv_sec).unwrap_or(0), u32::try_from(time.tv_nsec).unwrap_or(0))
}

#[cfg(test)]
mod tests {
    use super::*;

    const ADA: WorkspaceId = WorkspaceId(1);
    const BOB: WorkspaceId = WorkspaceId(2);

    const NOW: Timestamp = Timestamp(1_000);
    const UNTIL: Timestamp = Timestamp(1_000 + LONGEST_WAIT_MS);

    fn spend(shares: &ProcessorShares, times: usize) {
        (0..times).for_each(|_| shares.charge(ADA, LARGEST_CHARGE, NOW));
    }

    #[test]
    fn who_has_much_computed_begins_later_and_others_do_not() {
        let shares = ProcessorShares::new();
        assert_eq!(shares.admit(ADA, NOW, UNTIL), Ok(None));
        spend(&shares, 30);
        assert_eq!(shares.admit(BOB, NOW, UNTIL), Ok(None), "a neighbour waits for nobody");
        let wait = shares.admit(ADA, NOW, UNTIL).unwrap().unwrap();
        assert!((Duration::from_millis(2_000)..Duration::from_millis(2_010)).contains(&wait), "{wait:?}");
        let then = NOW.plus_ms(wait.as_millis().try_into().unwrap());
        assert_eq!(shares.admit(ADA, then, UNTIL), Ok(None));
    }

    #[test]
    fn who_would_begin_too_late_is_refused() {
        let shares = ProcessorShares::new();
        spend(&shares, 61);
        let refused = shares.admit(ADA, NOW, UNTIL).unwrap_err();
        assert_eq!((refused.budget.name, refused.limit), ("request-processor", 1_000));
        assert!(refused.retry_after.is_some_and(|wait| wait > Duration::from_secs(5)));
        assert_eq!(shares.admit(ADA, NOW.plus_ms(5_200), UNTIL.plus_ms(5_200)), Ok(None), "what was spent comes back");
    }

    #[test]
    fn nobody_is_refused_for_long_after_those_who_asked_for_much_have_gone() {
        let shares = ProcessorShares::new();
        spend(&shares, 1_000);
        assert!(shares.admit(ADA, NOW, UNTIL).is_err());
        assert!(shares.admit(ADA, NOW.plus_ms(4_000), UNTIL.plus_ms(4_000)).is_ok_and(|wait| wait.is_some()));
        assert_eq!(shares.admit(ADA, NOW.plus_ms(9_000), UNTIL.plus_ms(9_000)), Ok(None));
    }

    #[test]
    fn those_who_waited_begin_one_after_the_other() {
        let shares = ProcessorShares::new();
        spend(&shares, 10);
        let mut now = NOW;
        for _ in 0..100 {
            while let Some(wait) = shares.admit(ADA, now, UNTIL).unwrap() {
                now = now.plus_ms(wait.as_millis().try_into().unwrap());
            }
        }
        assert!(now.0 - NOW.0 >= 100, "{now:?}");
    }

    #[test]
    fn the_time_of_the_thread_is_charged() {
        let shares = ProcessorShares::new();
        shares.charged(ADA, || {
            let begun = thread_time();
            while thread_time() - begun < Duration::from_millis(30) {
                std::hint::spin_loop();
            }
        });
        // Seen from the beginning, when nothing of it has come back, however long the thread was kept from looking.
        let spent = shares.spent(ADA, Timestamp(0));
        assert!(spent > 0 && spent <= 100, "{spent}");
        shares.forget(ADA);
        assert_eq!(shares.spent(ADA, Timestamp(0)), 0);
    }
}
