//! What works beside the reactors, on deliveries and on fits: tasks with a name, on a runtime of their own, one sign to stop and one
//! policy for panics. A task waits; a fit's guest goes to the guests' threads, a sender's guest and what commits to the blocking
//! pool.
//!
//! What a worker commits is under the node's lease: a process that lost it goes on to its end and changes nothing.
//!
//! An idle worker costs nothing: it sleeps until something is due or somebody calls [`Workers::wake`]. A worker that panics
//! ends the process, because a stage that is silently absent looks like a kernel that works and is not: everything committed
//! is safe, and a restart goes on from there.

use std::collections::{BTreeMap, HashMap};
use std::future::Future;
use std::io;
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_model::id::WorkspaceId;
use kith_store::{Operation, QueueId};
use parking_lot::{Condvar, Mutex};
use tokio::runtime::{Builder, Runtime};
use tokio::sync::Notify;

use crate::setup::Observer;

/// Threads of the runtime: tasks wait, they do not compute.
const THREADS: usize = 2;

/// Blocking calls of that runtime at once: reads and commits of workers, and the guests of senders.
const MAX_BLOCKING_THREADS: usize = 16;

/// How far the workers of a workspace are on their way to a stop.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Phase {
    Running,
    /// What is under way ends or is handed back; nothing new begins.
    Stopping,
}

/// All workers of a kernel.
pub(crate) struct Workers {
    observer: Arc<dyn Observer>,
    /// Present until the kernel stops.
    runtime: Mutex<Option<Runtime>>,
    /// Tasks of the runtime that have not ended.
    tasks: Arc<Tasks>,
    /// One for each outbox that somebody sleeps at.
    wakes: Mutex<BTreeMap<QueueId, Arc<Notify>>>,
}

/// How many tasks run, by their names and workspaces. What is not here does not run.
#[derive(Default)]
struct Tasks {
    running: Mutex<HashMap<(&'static str, WorkspaceId), usize>>,
    ended: Condvar,
}

/// The queue that an operation adds to.
pub(crate) fn filled_queue(operation: &Operation) -> Option<QueueId> {
    if let Operation::Enqueue { queue, .. } = operation { Some(*queue) } else { None }
}

impl Workers {
    /// No workers yet.
    pub(crate) fn new(observer: Arc<dyn Observer>) -> io::Result<Workers> {
        let runtime = Builder::new_multi_thread()
            .worker_threads(THREADS)
            .max_blocking_threads(MAX_BLOCKING_THREADS)
            .thread_name("kith-worker")
            .enable_all()
            .build()?;
        Ok(Workers { observer, runtime: Mutex::new(Some(runtime)), tasks: Arc::default(), wakes: Mutex::default() })
    }

    /// Start a task of a workspace. After the stop it is dropped.
    pub(crate) fn task(
        &self,
        name: &'static str,
        workspace: WorkspaceId,
        work: impl Future<Output = ()> + Send + 'static,
    ) {
        let guard = PanicGuard { observer: Arc::clone(&self.observer), name: name.to_owned() };
        let runtime = self.runtime.lock();
        let Some(runtime) = runtime.as_ref() else { return };
        *self.tasks.running.lock().entry((name, workspace)).or_default() += 1;
        let running = Running { tasks: Arc::clone(&self.tasks), name, workspace };
        runtime.spawn(async move {
            let _running = running;
            let _guard = guard;
            work.await;
        });
    }

    /// Wait until every task of that name has ended, or `timeout` is over.
    pub(crate) fn wait_for_tasks(&self, name: &'static str, whose: TaskScope, timeout: Duration) -> Ending {
        let deadline = Instant::now() + timeout;
        let mut all = self.tasks.running.lock();
        loop {
            let is_meant = |of: &(&'static str, WorkspaceId)| match whose {
                TaskScope::All => of.0 == name,
                TaskScope::Workspace(workspace) => *of == (name, workspace),
            };
            let running = all.iter().filter(|(of, _)| is_meant(of)).map(|(_, number)| number).sum();
            if running == 0 {
                return Ending::AllEnded;
            }
            if self.tasks.ended.wait_until(&mut all, deadline).timed_out() {
                return Ending::TimedOut { running };
            }
        }
    }

    /// End the runtime; what still runs on it is dropped at its next wait.
    pub(crate) fn end_tasks(&self) {
        // Apart, because what the runtime drops must not find the lock held.
        let runtime = self.runtime.lock().take();
        if let Some(runtime) = runtime {
            runtime.shutdown_background();
        }
    }

    /// What a sender sleeps at.
    pub(crate) fn bell(&self, queue: QueueId) -> Arc<Notify> {
        Arc::clone(self.wakes.lock().entry(queue).or_default())
    }

    /// Something was put into `queue`, or its channel changed. A bell that rings while nobody sleeps is heard at the next
    /// sleep.
    pub(crate) fn wake(&self, queue: QueueId) {
        if let Some(bell) = self.wakes.lock().get(&queue) {
            bell.notify_one();
        }
    }

    /// Wake everybody who sleeps at an outbox of that workspace.
    pub(crate) fn wake_workspace(&self, workspace: WorkspaceId) {
        let [first, last] = [0, u32::MAX].map(|queue| QueueId { workspace, queue });
        self.wakes.lock().range(first..=last).for_each(|(_, bell)| bell.notify_one());
    }

    /// Nobody will sleep at an outbox of that workspace again.
    pub(crate) fn forget_workspace(&self, workspace: WorkspaceId) {
        self.wakes.lock().retain(|queue, _| queue.workspace != workspace);
    }

    /// Nobody will sleep there again.
    pub(crate) fn forget_bell(&self, queue: QueueId) {
        self.wakes.lock().remove(&queue);
    }
}

impl Drop for Workers {
    /// A kernel that was never stopped may be dropped on an async thread, where a runtime must not wait for its tasks.
    fn drop(&mut self) {
        self.end_tasks();
    }
}

/// Whose tasks are waited for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TaskScope {
    All,
    Workspace(WorkspaceId),
}

/// How a wait for tasks went.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ending {
    AllEnded,
    TimedOut { running: usize },
}

/// Counts a task until it is dropped.
struct Running {
    tasks: Arc<Tasks>,
    name: &'static str,
    workspace: WorkspaceId,
}

impl Drop for Running {
    fn drop(&mut self) {
        let of = (self.name, self.workspace);
        let mut all = self.tasks.running.lock();
        if let Some(running) = all.get_mut(&of) {
            *running -= 1;
            if *running == 0 {
                all.remove(&of);
            }
        }
        drop(all);
        self.tasks.ended.notify_all();
    }
}

/// Reports a panic of the worker that holds it, as it unwinds.
struct PanicGuard {
    observer: Arc<dyn Observer>,
    name: String,
}

impl Drop for PanicGuard {
    fn drop(&mut self) {
        if std::thread::panicking() {
            tracing::error!(worker = self.name, "a worker of the kernel panicked; the process ends");
            self.observer.panicked(&self.name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::setup::Installed;

    #[derive(Default)]
    struct Panics(Mutex<Vec<String>>);

    impl Observer for Panics {
        fn held(&self, _: WorkspaceId, _: &Installed, _: &str) {}

        fn waits_for_fit(&self, _: WorkspaceId, _: &Installed, _: &str) {}

        fn panicked(&self, worker: &str) {
            self.0.lock().push(worker.to_owned());
        }
    }

    #[test]
    fn a_panic_in_a_task_is_reported_with_its_worker() {
        let panics = Arc::new(Panics::default());
        let workers = Workers::new(panics.clone()).unwrap();
        workers.task("sender", WorkspaceId(1), async { panic!("on purpose") });
        assert_eq!(workers.wait_for_tasks("sender", TaskScope::All, Duration::from_secs(20)), Ending::AllEnded);
        assert_eq!(*panics.0.lock(), ["sender"]);
    }

    #[test]
    fn a_bell_that_rings_early_is_heard_later() {
        let workers = Workers::new(Arc::new(Panics::default())).unwrap();
        let queue = QueueId { workspace: WorkspaceId(1), queue: 3 };
        let bell = workers.bell(queue);
        workers.wake(queue);
        workers.task("sleeper", WorkspaceId(1), async move { bell.notified().await });
        assert_eq!(workers.wait_for_tasks("sleeper", TaskScope::All, Duration::from_secs(20)), Ending::AllEnded);
        let bell = workers.bell(queue);
        workers.wake_workspace(WorkspaceId(1));
        workers.task("sleeper", WorkspaceId(1), async move { bell.notified().await });
        assert_eq!(workers.wait_for_tasks("sleeper", TaskScope::All, Duration::from_secs(20)), Ending::AllEnded);
        let silent = workers.bell(queue);
        workers.wake_workspace(WorkspaceId(2));
        workers.task("sleeper", WorkspaceId(1), async move { silent.notified().await });
        let short = Duration::from_millis(1);
        assert_eq!(workers.wait_for_tasks("sleeper", TaskScope::All, short), Ending::TimedOut { running: 1 });
        let of = |number| TaskScope::Workspace(WorkspaceId(number));
        assert_eq!(workers.wait_for_tasks("sleeper", of(1), short), Ending::TimedOut { running: 1 });
        assert_eq!(workers.wait_for_tasks("sleeper", of(2), short), Ending::AllEnded);
    }
}
