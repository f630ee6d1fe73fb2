//! How much of the processors the requests with one workspace's keys take. Whoever asks for more than one processor's worth
//! begins later, and what is computed for whoever asks for much yields to everybody else: a neighbour's request, which takes a
//! millisecond, never stands behind hundreds of another's.

use std::cell::Cell;
use std::collections::HashMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_model::budget::{Allowance, Exhausted, table};
use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use parking_lot::Mutex;
use rustix::time::{ClockId, clock_gettime};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::sleep;

tokio::task_local! {
    /// What the current task computes for, as soon as its key is known.
    static COMPUTES: Cell<Computes>;
}

/// For whom a task computes, and how.
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct Computes {
    pub(crate) workspace: Option<WorkspaceId>,
    /// Its caller chose that it is much: it yields whatever the workspace has spent, and is charged whole.
    pub(crate) is_large: bool,
    /// It waits for no other work of its workspace.
    at_once: bool,
}

/// The longest that a request waits until it begins.
const LONGEST_WAIT_MS: i64 = 5_000;

/// What a request is taken to cost before it is known: requests that waited begin one after the other, not all at once.
const FIRST_CHARGE: Duration = Duration::from_millis(1);

/// The most that one piece of work is charged with that is not large by its caller's choice. What else takes longer has a budget
/// of its own: turns of questions, the length of an answer.
const LARGEST_CHARGE: Duration = Duration::from_millis(100);

/// What is charged at most beyond what has come back: hundreds of requests may begin together, and who comes when they have ended
/// is refused for seconds, not for minutes.
const MAX_SPENT_MS: u64 = table::REQUEST_PROCESSOR.default + 8_000;

/// Work of a workspace that has spent more than this part of its second yields to everybody else.
const EAGER_PART: u64 = 4;

/// Pieces of work of one workspace on threads at once; further ones wait without a thread. Of threads there are hundreds for all
/// workspaces, and work that yields holds its own for long.
const PIECES_AT_ONCE: usize = 32;

/// Serve a request, whose work counts for the workspace that it turns out to be of.
pub(crate) async fn counted<T>(request: impl Future<Output = T>) -> T {
    COMPUTES.scope(Cell::default(), request).await
}

/// What the current task computes for.
pub(crate) fn computes() -> Computes {
    COMPUTES.try_with(Cell::get).unwrap_or_default()
}

/// What the current task computes from now on is much by its caller's choice.
pub(crate) fn is_large_from_now_on() {
    change(|computes| computes.is_large = true);
}

/// Outside of a request nobody asks.
fn change(change: impl FnOnce(&mut Computes)) {
    let _ = COMPUTES.try_with(|cell| {
        let mut computes = cell.get();
        change(&mut computes);
        cell.set(computes);
    });
}

/// What each workspace's requests may still compute.
pub(crate) struct ProcessorShares {
    began: Instant,
    by_workspace: Mutex<HashMap<WorkspaceId, Computing>>,
}

/// What one workspace's requests compute.
struct Computing {
    allowance: Allowance,
    pieces: Arc<Semaphore>,
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
        change(|computes| computes.workspace = Some(workspace));
        Ok(())
    }

    /// Go on with something long that is under way, as soon as its workspace may compute: it is not refused, and what the current
    /// task computes from now on counts for the workspace.
    pub(crate) async fn go_on(&self, workspace: WorkspaceId) {
        while let Ok(Some(wait)) = self.admit(workspace, self.now(), Timestamp(i64::MAX)) {
            sleep(wait).await;
        }
        change(|computes| computes.workspace = Some(workspace));
    }

    /// Begin a request that does not wait for its workspace's other ones, and counts for it all the same.
    pub(crate) fn begin_at_once(&self, workspace: WorkspaceId) {
        change(|computes| (computes.workspace, computes.at_once) = (Some(workspace), true));
    }

    /// The right to a thread for a piece of work, held until it is done; of what does not wait nobody asks.
    pub(crate) async fn piece(&self, workspace: WorkspaceId) -> Option<OwnedSemaphorePermit> {
        if computes().at_once {
            return None;
        }
        let pieces = self.computing(workspace, self.now(), |computing| Arc::clone(&computing.pieces));
        // It is never closed.
        pieces.acquire_owned().await.ok()
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

    /// Work on the calling thread, and charge the workspace with the processor time that it took: with all of it where the work is
    /// large by its caller's choice.
    pub(crate) fn charged<T>(&self, workspace: WorkspaceId, is_large: bool, work: impl FnOnce() -> T) -> T {
        let before = thread_time();
        let done = work();
        let took = thread_time().saturating_sub(before);
        let took = if is_large { took } else { took.min(LARGEST_CHARGE) };
        self.charge(workspace, took.saturating_sub(FIRST_CHARGE), self.now());
        done
    }

    fn charge(&self, workspace: WorkspaceId, took: Duration, now: Timestamp) {
        self.with(workspace, now, |allowance| {
            let room = MAX_SPENT_MS.saturating_sub(allowance.spent(now));
            allowance.charge(millis(took).min(room), now);
        });
    }

    fn spent(&self, workspace: WorkspaceId, now: Timestamp) -> u64 {
        self.with(workspace, now, |allowance| allowance.spent(now))
    }

    fn with<T>(&self, workspace: WorkspaceId, now: Timestamp, look: impl FnOnce(&mut Allowance) -> T) -> T {
        self.computing(workspace, now, |computing| look(&mut computing.allowance))
    }

    fn computing<T>(&self, workspace: WorkspaceId, now: Timestamp, look: impl FnOnce(&mut Computing) -> T) -> T {
        let fresh = || Computing {
            allowance: Allowance::new(&table::REQUEST_PROCESSOR, table::REQUEST_PROCESSOR.default, now),
            pieces: Arc::new(Semaphore::new(PIECES_AT_ONCE)),
        };
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
        let work = |took: u64| {
            move || {
                let begun = thread_time();
                while thread_time() - begun < Duration::from_millis(took) {
                    std::hint::spin_loop();
                }
            }
        };
        shares.charged(ADA, false, work(30));
        // Seen from the beginning, when nothing of it has come back, however long the thread was kept from looking.
        let spent = shares.spent(ADA, Timestamp(0));
        assert!(spent > 0 && spent <= 100, "{spent}");
        shares.forget(ADA);
        assert_eq!(shares.spent(ADA, Timestamp(0)), 0);
        shares.charged(ADA, false, work(130));
        let spent = shares.spent(ADA, Timestamp(0));
        assert!(spent < 100, "{spent}");
        shares.charged(BOB, true, work(130));
        let spent = shares.spent(BOB, Timestamp(0));
        assert!(spent >= 129, "what is much by its caller's choice is charged whole: {spent}");
    }

    #[tokio::test]
    async fn a_workspace_has_so_many_threads_at_once_and_leaves_the_others_theirs() {
        let shares = ProcessorShares::new();
        let mut held = Vec::new();
        for _ in 0..PIECES_AT_ONCE {
            held.push(shares.piece(ADA).await);
        }
        let mut further = Box::pin(shares.piece(ADA));
        let mut nobody = std::task::Context::from_waker(std::task::Waker::noop());
        assert!(further.as_mut().poll(&mut nobody).is_pending());
        assert!(shares.piece(BOB).await.is_some(), "a neighbour waits for nobody");
        counted(async {
            shares.begin_at_once(ADA);
            assert!(shares.piece(ADA).await.is_none(), "who takes a key away does not wait");
        })
        .await;
        held.pop();
        assert!(further.await.is_some());
    }

    #[tokio::test]
    async fn what_is_under_way_waits_and_is_not_refused() {
        let shares = ProcessorShares::new();
        (0..9).for_each(|_| shares.charge(ADA, LARGEST_CHARGE, shares.now()));
        shares.charge(ADA, Duration::from_millis(150), shares.now());
        let begun = Instant::now();
        counted(async {
            shares.go_on(ADA).await;
            assert_eq!(computes().workspace, Some(ADA));
        })
        .await;
        assert!(begun.elapsed() >= Duration::from_millis(45), "{:?}", begun.elapsed());
    }
}
