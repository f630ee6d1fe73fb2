//! Where connectors, models and fits run: threads of their own, so that a slow or greedy plugin takes no thread that answers
//! requests. Channels run on the workers' blocking pool, where their senders bound them.
//!
//! Calls are taken in turns, of workspaces and then of a workspace's installations. One installation has a bounded number of
//! calls under way, one fewer than there are threads, so that there is always a thread which it cannot hold; and a bounded
//! number waits, beyond which callers are told at once. Requests, models and fits have threads each: somebody waits for a
//! request, and a fit takes minutes, so that none of them may hold another's. A workspace has one fit under way.

use std::collections::{BTreeMap, HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};

use kith_model::id::{InstallationId, WorkspaceId};
use parking_lot::{Condvar, Mutex};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

/// Calls of one installation that may wait.
const MAX_WAITING: usize = 64;

/// Bytes of the calls of one installation that wait.
const MAX_INSTALLATION_BYTES: usize = 128 << 20;

/// Bytes of all calls of one class that wait.
const MAX_WAITING_BYTES: usize = 256 << 20;

/// How much the threads of models yield to all others (a nice value): somebody waits for a request, nobody for a model.
const MODELS_YIELD: i32 = 10;

/// The same for fits, which last longest and are asked for least.
const FITS_YIELD: i32 = 15;

/// Fits of one workspace under way.
const MAX_WORKSPACE_FITS: usize = 1;

/// Who waits for the call.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum GuestClass {
    /// A client does.
    Request,
    /// Nobody does: a model's values are shown when they are there.
    Model,
    /// Nobody does, for minutes.
    Fit,
}

/// Whose call it is, and what it holds while it waits.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub workspace: WorkspaceId,
    pub installation: InstallationId,
    pub class: GuestClass,
    /// Of the call's input.
    pub bytes: usize,
}

/// The installation has as many calls waiting as it may.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the installation has as many calls waiting as it may")]
pub(crate) struct Busy;

/// The executor stopped before the call began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the kernel is shutting down")]
pub(crate) struct Stopped;

/// A call that waits or is under way.
pub(crate) struct GuestCall<T>(oneshot::Receiver<std::thread::Result<T>>);

impl<T> GuestCall<T> {
    /// What the call gives. A panic in it goes on in the caller.
    pub(crate) async fn finish(self) -> Result<T, Stopped> {
        done(self.0.await)
    }

    /// [`GuestCall::finish`] on a thread that may wait.
    #[cfg(test)]
    fn wait(self) -> Result<T, Stopped> {
        done(self.0.blocking_recv())
    }
}

fn done<T>(answer: Result<std::thread::Result<T>, oneshot::error::RecvError>) -> Result<T, Stopped> {
    match answer {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => Err(Stopped),
    }
}

struct Call {
    work: Box<dyn FnOnce() + Send>,
    bytes: usize,
}

/// The calls of one installation.
#[derive(Default)]
struct Calls {
    waiting: VecDeque<Call>,
    waiting_bytes: usize,
    under_way: usize,
}

/// The calls of one workspace.
#[derive(Default)]
struct Tenant {
    installations: HashMap<InstallationId, Calls>,
    /// Installations of which something waits, the next one first; each once.
    turns: VecDeque<InstallationId>,
    under_way: usize,
}

/// How much may be under way at once.
#[derive(Debug, Clone, Copy)]
struct Most {
    of_workspace: usize,
    of_installation: usize,
}

#[derive(Default)]
struct State {
    tenants: BTreeMap<WorkspaceId, Tenant>,
    /// Workspaces of which something waits, the next one first; each once.
    turns: VecDeque<WorkspaceId>,
    waiting_bytes: usize,
    is_stopping: bool,
}

impl State {
    fn admit(&mut self, caller: Caller, call: Call) -> Result<(), Busy> {
        let is_empty = self.waiting_bytes == 0;
        if !is_empty && self.waiting_bytes + call.bytes > MAX_WAITING_BYTES {
            return Err(Busy);
        }
        let tenant = self.tenants.entry(caller.workspace).or_default();
        let calls = tenant.installations.entry(caller.installation).or_default();
        let fits = calls.waiting.is_empty() || calls.waiting_bytes + call.bytes <= MAX_INSTALLATION_BYTES;
        if !fits || calls.waiting.len() >= MAX_WAITING {
            return Err(Busy);
        }
        if calls.waiting.is_empty() {
            if tenant.turns.is_empty() {
                self.turns.push_back(caller.workspace);
            }
            tenant.turns.push_back(caller.installation);
        }
        self.waiting_bytes += call.bytes;
        calls.waiting_bytes += call.bytes;
        calls.waiting.push_back(call);
        Ok(())
    }

    /// The next call of a workspace and an installation that have fewer than `most` under way.
    fn next(&mut self, most: Most) -> Option<(WorkspaceId, InstallationId, Call)> {
        for _ in 0..self.turns.len() {
            let workspace = self.turns.pop_front()?;
            let taken = self.tenants.get_mut(&workspace).and_then(|tenant| tenant.next(most));
            if self.tenants.get(&workspace).is_some_and(|tenant| !tenant.turns.is_empty()) {
                self.turns.push_back(workspace);
            }
            if let Some((installation, call)) = taken {
                self.waiting_bytes -= call.bytes;
                return Some((workspace, installation, call));
            }
        }
        None
    }

    /// Take out what waits of a workspace.
    fn forget(&mut self, workspace: WorkspaceId) -> Vec<Call> {
        self.turns.retain(|of| *of != workspace);
        let Some(tenant) = self.tenants.get_mut(&workspace) else { return Vec::new() };
        tenant.turns.clear();
        let mut dropped = Vec::new();
        for calls in tenant.installations.values_mut() {
            self.waiting_bytes -= std::mem::take(&mut calls.waiting_bytes);
            dropped.extend(calls.waiting.drain(..));
        }
        tenant.installations.retain(|_, calls| calls.under_way > 0);
        if tenant.installations.is_empty() {
            self.tenants.remove(&workspace);
        }
        dropped
    }

    fn ended(&mut self, workspace: WorkspaceId, installation: InstallationId) {
        let Some(tenant) = self.tenants.get_mut(&workspace) else { return };
        if let Some(calls) = tenant.installations.get_mut(&installation) {
            calls.under_way -= 1;
            tenant.under_way -= 1;
            if calls.under_way == 0 && calls.waiting.is_empty() {
                tenant.installations.remove(&installation);
            }
        }
        if tenant.installations.is_empty() {
            self.tenants.remove(&workspace);
        }
    }
}

impl Tenant {
    fn next(&mut self, most: Most) -> Option<(InstallationId, Call)> {
        if self.under_way >= most.of_workspace {
            return None;
        }
        for _ in 0..self.turns.len() {
            let installation = self.turns.pop_front()?;
            let Some(calls) = self.installations.get_mut(&installation) else { continue };
            let call = if calls.under_way < most.of_installation { calls.waiting.pop_front() } else { None };
            if let Some(call) = &call {
                calls.waiting_bytes -= call.bytes;
                calls.under_way += 1;
                self.under_way += 1;
            }
            if !calls.waiting.is_empty() {
                self.turns.push_back(installation);
            }
            if let Some(call) = call {
                return Some((installation, call));
            }
        }
        None
    }
}

/// The threads of one class.
struct Side {
    state: Mutex<State>,
    changed: Condvar,
    /// For those who wait until a call may wait.
    room: Notify,
    most: Most,
}

impl Side {
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            if let Some((workspace, installation, call)) = state.next(self.most) {
                drop(state);
                self.room.notify_waiters();
                (call.work)();
                state = self.state.lock();
                state.ended(workspace, installation);
                // The installation may have calls that waited for this one.
                self.changed.notify_one();
            } else if state.is_stopping {
                return;
            } else {
                self.changed.wait(&mut state);
            }
        }
    }
}

/// The executor.
pub(crate) struct Guests {
    requests: Arc<Side>,
    models: Arc<Side>,
    fits: Arc<Side>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Guests {
    /// Start the threads: of each class one more than there are processors, since one installation may hold all but one.
    pub(crate) fn start() -> std::io::Result<Guests> {
        Guests::with_threads(1 + std::thread::available_parallelism().map_or(1, usize::from))
    }

    fn with_threads(threads: usize) -> std::io::Result<Guests> {
        let threads = threads.max(2);
        let side = |of_workspace| {
            let (state, changed, room) = (Mutex::default(), Condvar::new(), Notify::new());
            Arc::new(Side { state, changed, room, most: Most { of_workspace, of_installation: threads - 1 } })
        };
        let (requests, models, fits) = (side(usize::MAX), side(usize::MAX), side(MAX_WORKSPACE_FITS));
        let guests = Guests { requests, models, fits, threads: Mutex::default() };
        let sides = || {
            let (requests, models) = (("guest", &guests.requests, 0), ("model", &guests.models, MODELS_YIELD));
            [requests, models, ("fit", &guests.fits, FITS_YIELD)]
        };
        for number in 0..threads {
            for (name, side, yields) in sides() {
                let side = Arc::clone(side);
                let work = move || {
                    yield_to_others(yields);
                    side.work();
                };
                match Builder::new().name(format!("kith-{name}-{number}")).spawn(work) {
                    Ok(thread) => guests.threads.lock().push(thread),
                    Err(error) => {
                        guests.stop();
                        return Err(error);
                    }
                }
            }
        }
        Ok(guests)
    }

    fn side(&self, class: GuestClass) -> &Side {
        match class {
            GuestClass::Request => &self.requests,
            GuestClass::Model => &self.models,
            GuestClass::Fit => &self.fits,
        }
    }

    /// Let a call wait for its turn.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        caller: Caller,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<GuestCall<T>, Busy> {
        let (answer, answered) = oneshot::channel();
        let work = Box::new(move || {
            // The caller may be gone: nobody waits for what was only asked.
            if !answer.is_closed() {
                let _ = answer.send(catch_unwind(AssertUnwindSafe(work)));
            }
        });
        self.admit(caller, work)?;
        Ok(GuestCall(answered))
    }

    /// Let a call wait for its turn that says by itself what came of it.
    pub(crate) fn spawn(&self, caller: Caller, work: impl FnOnce() + Send + 'static) -> Result<(), Busy> {
        self.admit(caller, Box::new(work))
    }

    fn admit(&self, caller: Caller, work: Box<dyn FnOnce() + Send>) -> Result<(), Busy> {
        let side = self.side(caller.class);
        let mut state = side.state.lock();
        // Without a thread that will come for it, the call is dropped here and its caller learns that by waiting.
        if !state.is_stopping {
            state.admit(caller, Call { work, bytes: caller.bytes })?;
            side.changed.notify_one();
        }
        Ok(())
    }

    /// Ends when a call of the class is taken, from this call on, which may make room for another.
    pub(crate) fn room(&self, class: GuestClass) -> Notified<'_> {
        self.side(class).room.notified()
    }

    /// Drop what waits of a workspace; its callers are told by that. What is under way ends within its limits.
    pub(crate) fn forget_workspace(&self, workspace: WorkspaceId) {
        for side in [&self.requests, &self.models, &self.fits] {
            // Dropped without the lock: what a call holds is its owner's.
            let dropped = side.state.lock().forget(workspace);
            drop(dropped);
            side.room.notify_waiters();
        }
    }

    /// Finish what is under way, drop what waits, and end the threads.
    pub(crate) fn stop(&self) {
        for side in [&self.requests, &self.models, &self.fits] {
            let mut state = side.state.lock();
            state.is_stopping = true;
            state.turns.clear();
            // What is under way is counted still; what waits is dropped, and its callers are told by that.
            for calls in state.tenants.values_mut().flat_map(|tenant| tenant.installations.values_mut()) {
                calls.waiting.clear();
            }
            side.changed.notify_all();
            side.room.notify_waiters();
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a guest thread ended by a panic outside of every call");
            }
        }
    }
}

/// On Linux the priority is the calling thread's own.
fn yield_to_others(nice: i32) {
    #[cfg(target_os = "linux")]
    if nice != 0
        && let Err(error) = rustix::process::setpriority_process(None, nice)
    {
        tracing::debug!(%error, "the threads of models keep the usual priority");
    }
    #[cfg(not(target_os = "linux"))]
    let _ = nice;
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
    use std::time::Duration;

    use super::*;

    const WAIT: Duration = Duration::from_secs(20);

    fn caller(workspace: u32, installation: u32) -> Caller {
        let (workspace, installation) = (WorkspaceId(workspace), InstallationId(installation));
        Caller { workspace, installation, class: GuestClass::Request, bytes: 1 }
    }

    /// A call that tells that it began, and ends when the test says so.
    fn held(guests: &Guests, caller: Caller) -> (GuestCall<()>, Receiver<()>, SyncSender<()>) {
        let (began, begins) = sync_channel(1);
        let (let_go, go_on) = sync_channel::<()>(1);
        let work = move || {
            began.send(()).unwrap();
            go_on.recv_timeout(WAIT).unwrap();
        };
        (guests.run(caller, work).unwrap(), begins, let_go)
    }

    #[test]
    fn one_installation_cannot_hold_every_thread() {
        let guests = Guests::with_threads(3).unwrap();
        let greedy: Vec<_> = (0..4).map(|_| held(&guests, caller(1, 1))).collect();
        greedy[..2].iter().for_each(|(_, begins, _)| begins.recv_timeout(WAIT).unwrap());
        assert_eq!(guests.run(caller(1, 2), || 7).unwrap().wait(), Ok(7), "of the same workspace");
        assert_eq!(guests.run(caller(2, 1), || 8).unwrap().wait(), Ok(8), "of another");
        assert!(greedy[2..].iter().all(|(_, begins, _)| begins.try_recv().is_err()));
        greedy.iter().for_each(|(_, _, let_go)| let_go.send(()).unwrap());
        greedy.into_iter().for_each(|(call, ..)| assert_eq!(call.wait(), Ok(())));
        guests.stop();
    }

    /// A workspace with two models in long fits left no thread to the fit of another.
    #[test]
    fn a_workspace_has_one_fit_under_way_and_leaves_the_other_threads_to_others() {
        let guests = Guests::with_threads(2).unwrap();
        let fit = |workspace, installation| Caller { class: GuestClass::Fit, ..caller(workspace, installation) };
        let (first, begins, let_go) = held(&guests, fit(1, 1));
        begins.recv_timeout(WAIT).unwrap();
        let (second, second_begins, let_second_go) = held(&guests, fit(1, 2));
        assert_eq!(guests.run(fit(2, 1), || 7).unwrap().wait(), Ok(7), "another workspace's fit");
        let model = Caller { class: GuestClass::Model, ..caller(1, 1) };
        assert_eq!(guests.run(model, || 8).unwrap().wait(), Ok(8), "the same model's values");
        assert!(second_begins.try_recv().is_err(), "the second of the workspace waits for the first");
        let_go.send(()).unwrap();
        second_begins.recv_timeout(WAIT).unwrap();
        let_second_go.send(()).unwrap();
        assert_eq!((first.wait(), second.wait()), (Ok(()), Ok(())));
        guests.stop();
    }

    #[test]
    fn who_has_enough_waiting_is_told_at_once_and_workspaces_take_turns() {
        let guests = Guests::with_threads(2).unwrap();
        let (blocked, begins, let_go) = held(&guests, caller(1, 1));
        begins.recv_timeout(WAIT).unwrap();
        let (other, begins, let_other_go) = held(&guests, caller(3, 1));
        begins.recv_timeout(WAIT).unwrap();
        let (tell, order) = sync_channel(256);
        let call = |workspace| {
            let tell = tell.clone();
            guests.run(caller(workspace, 1), move || tell.send(workspace).unwrap())
        };
        let waiting: Vec<_> = std::iter::from_fn(|| call(1).ok()).take(1_000).collect();
        assert_eq!(waiting.len(), MAX_WAITING);
        let late: Vec<_> = (0..2).map(|_| call(2).unwrap()).collect();
        let large = Caller { bytes: MAX_INSTALLATION_BYTES, ..caller(2, 1) };
        assert!(guests.run(large, || ()).is_err(), "what waits is bounded in bytes");
        let_other_go.send(()).unwrap();
        late.into_iter().for_each(|call| assert_eq!(call.wait(), Ok(())));
        let_go.send(()).unwrap();
        waiting.into_iter().for_each(|call| assert_eq!(call.wait(), Ok(())));
        assert_eq!((blocked.wait(), other.wait()), (Ok(()), Ok(())));
        let order: Vec<u32> = order.try_iter().collect();
        assert!(order.iter().rposition(|workspace| *workspace == 2) <= Some(4), "{order:?}");
        guests.stop();
    }

    #[test]
    fn a_stop_finishes_what_is_under_way_and_tells_those_who_wait() {
        let guests = Arc::new(Guests::with_threads(2).unwrap());
        let (under_way, begins, let_go) = held(&guests, caller(1, 1));
        begins.recv_timeout(WAIT).unwrap();
        let waiting = guests.run(caller(1, 1), || ()).unwrap();
        let stopping = std::thread::spawn({
            let guests = Arc::clone(&guests);
            move || guests.stop()
        });
        assert_eq!(waiting.wait(), Err(Stopped));
        let_go.send(()).unwrap();
        assert_eq!(under_way.wait(), Ok(()));
        stopping.join().unwrap();
        assert_eq!(guests.run(caller(1, 1), || ()).unwrap().wait(), Err(Stopped));
    }
}
