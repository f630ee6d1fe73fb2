//! A few threads for many keyed tasks. A task is whatever its owner does for a key in one turn; the pool knows keys only.
//!
//! Each key runs on at most one thread at a time, so that its owner's state needs no lock of its own, and ready keys take
//! turns in the order in which they were woken, so that a key with endless work delays another by one turn and no more.

use std::collections::{BTreeSet, HashMap, VecDeque};
use std::hash::Hash;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::thread::{Builder, JoinHandle};
use std::time::{Duration, Instant};

use parking_lot::{Condvar, Mutex};

/// After a panic a key that is started again waits this long, so that one which always panics does not fill the log.
const PAUSE_AFTER_PANIC: Duration = Duration::from_secs(1);

/// What a key wants after its turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Turn {
    /// Nothing until it is woken.
    Idle,
    /// Another turn, after every key that is ready now.
    Again,
    /// Another turn when this time has passed, or earlier if it is woken.
    After(Duration),
    /// No turn for so long, even if it is woken: what wakes it meanwhile is taken together. Then as `Idle`, or as `After` the rest
    /// of `most`.
    Rest { least: Duration, most: Option<Duration> },
}

/// The owner of the keys.
pub(crate) trait Tasks<K>: Send + Sync + 'static {
    /// One bounded piece of work for `key`.
    fn turn(&self, key: K) -> Turn;

    /// The turn of `key` panicked; the pool has logged it. The owner puts its state in order, and the key gets another turn after
    /// a pause.
    fn panicked(&self, key: K);
}

/// What a key is doing; a key that is not in the table is idle.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Status {
    Ready,
    Running,
    /// It was woken while it ran, so what woke it may have come too late for that turn.
    RunningAndWoken,
}

struct State<K> {
    ready: VecDeque<K>,
    statuses: HashMap<K, Status>,
    /// Idle keys that want a turn at a time, the earliest first; `due_at` holds the same by key.
    timers: BTreeSet<(Instant, K)>,
    due_at: HashMap<K, Instant>,
    /// Until when idle keys have no turn.
    resting: HashMap<K, Instant>,
    is_stopping: bool,
}

impl<K: Copy + Ord + Hash> State<K> {
    fn make_ready(&mut self, key: K) {
        if let Some(due) = self.due_at.remove(&key) {
            self.timers.remove(&(due, key));
        }
        self.resting.remove(&key);
        self.statuses.insert(key, Status::Ready);
        self.ready.push_back(key);
    }

    /// Have an idle key's turn begin at `due`, or earlier if it was to; whether that changed anything.
    fn begin_at(&mut self, key: K, due: Instant) -> bool {
        if self.due_at.get(&key).is_some_and(|held| *held <= due) {
            return false;
        }
        if let Some(held) = self.due_at.insert(key, due) {
            self.timers.remove(&(held, key));
        }
        self.timers.insert((due, key))
    }

    /// Whether a thread has to hear of it.
    fn wake(&mut self, key: K) -> bool {
        match self.statuses.get(&key) {
            None => match self.resting.get(&key) {
                Some(until) if *until > Instant::now() => self.begin_at(key, *until),
                _ => {
                    self.make_ready(key);
                    true
                }
            },
            Some(Status::Ready | Status::RunningAndWoken) => false,
            Some(Status::Running) => {
                self.statuses.insert(key, Status::RunningAndWoken);
                false
            }
        }
    }

    /// Make those keys ready whose time has come; when the next one's comes.
    fn look_at_timers(&mut self, now: Instant) -> Option<Instant> {
        while let Some((due, key)) = self.timers.first().copied() {
            if due > now {
                return Some(due);
            }
            self.make_ready(key);
        }
        None
    }

    fn after(&mut self, key: K, turn: Turn) {
        let woken = self.statuses.remove(&key) == Some(Status::RunningAndWoken);
        match turn {
            Turn::Again => self.make_ready(key),
            Turn::Rest { least, most } => {
                let now = Instant::now();
                self.resting.insert(key, now + least);
                let pause = if woken { Some(least) } else { most.map(|most| most.max(least)) };
                pause.map(|pause| self.begin_at(key, now + pause));
            }
            _ if woken => self.make_ready(key),
            Turn::After(pause) => {
                self.begin_at(key, Instant::now() + pause);
            }
            Turn::Idle => {}
        }
    }
}

struct PoolCore<K> {
    state: Mutex<State<K>>,
    changed: Condvar,
    tasks: Arc<dyn Tasks<K>>,
}

impl<K: Copy + Ord + Hash + std::fmt::Debug + 'static> PoolCore<K> {
    /// What one thread does: turns, until the pool stops and no key is ready.
    fn work(&self) {
        let mut state = self.state.lock();
        loop {
            let next_timer = state.look_at_timers(Instant::now());
            if let Some(key) = state.ready.pop_front() {
                state.statuses.insert(key, Status::Running);
                drop(state);
                let turn = self.turn(key);
                state = self.state.lock();
                state.after(key, turn);
                // A timer may now be the earliest, and a key may be ready for a thread that sleeps.
                self.changed.notify_one();
            } else if state.is_stopping {
                return;
            } else if let Some(due) = next_timer {
                self.changed.wait_until(&mut state, due);
            } else {
                self.changed.wait(&mut state);
            }
        }
    }

    fn turn(&self, key: K) -> Turn {
        match catch_unwind(AssertUnwindSafe(|| self.tasks.turn(key))) {
            Ok(turn) => turn,
            Err(_) => {
                tracing::error!(?key, "a task panicked");
                self.tasks.panicked(key);
                Turn::After(PAUSE_AFTER_PANIC)
            }
        }
    }
}

/// The threads and what waits for them. Stop it before it is dropped: its threads hold what the tasks hold.
pub(crate) struct Pool<K> {
    shared: Arc<PoolCore<K>>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl<K: Copy + Ord + Hash + std::fmt::Debug + Send + 'static> Pool<K> {
    /// Start `threads` threads, whose names begin with `name`, for the turns of `tasks`.
    pub(crate) fn start(name: &str, threads: usize, tasks: Arc<dyn Tasks<K>>) -> std::io::Result<Pool<K>> {
        let state = State {
            ready: VecDeque::new(),
            statuses: HashMap::new(),
            timers: BTreeSet::new(),
            due_at: HashMap::new(),
            resting: HashMap::new(),
            is_stopping: false,
        };
        let shared = Arc::new(PoolCore { state: Mutex::new(state), changed: Condvar::new(), tasks });
        let pool = Pool { shared: Arc::clone(&shared), threads: Mutex::default() };
        for number in 0..threads.max(1) {
            let shared = Arc::clone(&shared);
            let thread = Builder::new().name(format!("{name}-{number}")).spawn(move || shared.work());
            match thread {
                Ok(thread) => pool.threads.lock().push(thread),
                Err(error) => {
                    pool.stop();
                    return Err(error);
                }
            }
        }
        Ok(pool)
    }

    /// Give `key` a turn that begins after this call.
    pub(crate) fn wake(&self, key: K) {
        let mut state = self.shared.state.lock();
        if !state.is_stopping && state.wake(key) {
            self.shared.changed.notify_one();
        }
    }

    /// Finish the keys that are ready, forget the timers, and end the threads. A task that wants turn after turn must see by
    /// itself that its owner stops.
    pub(crate) fn stop(&self) {
        {
            let mut state = self.shared.state.lock();
            state.is_stopping = true;
            state.timers.clear();
            state.due_at.clear();
            self.shared.changed.notify_all();
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a thread of a pool ended by a panic outside of every task");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};
    use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

    use super::*;

    /// Every turn tells its key and waits until the test lets it go on.
    struct Steps {
        began: SyncSender<u32>,
        go_on: Mutex<Receiver<Turn>>,
    }

    impl Tasks<u32> for Steps {
        fn turn(&self, key: u32) -> Turn {
            self.began.send(key).unwrap();
            self.go_on.lock().recv().unwrap()
        }

        fn panicked(&self, _: u32) {}
    }

    #[test]
    fn a_key_with_endless_work_takes_turns_with_the_others() {
        let (began, turns) = sync_channel(16);
        let (let_go, go_on) = sync_channel(16);
        let pool = Pool::start("test", 1, Arc::new(Steps { began, go_on: Mutex::new(go_on) })).unwrap();
        pool.wake(1);
        assert_eq!(turns.recv().unwrap(), 1);
        pool.wake(2);
        pool.wake(3);
        let mut seen = Vec::new();
        for _ in 0..6 {
            let_go.send(Turn::Again).unwrap();
            seen.push(turns.recv().unwrap());
        }
        assert_eq!(seen, [2, 3, 1, 2, 3, 1]);
        (0..3).for_each(|_| let_go.send(Turn::Idle).unwrap());
        pool.stop();
        assert_eq!(
            turns.try_iter().collect::<Vec<_>>(),
            [2, 3],
            "what is ready is finished, and then nothing more runs"
        );
    }

    #[test]
    fn a_wake_during_a_turn_brings_another_and_a_timer_comes_by_itself() {
        let (began, turns) = sync_channel(16);
        let (let_go, go_on) = sync_channel(16);
        let pool = Pool::start("test", 2, Arc::new(Steps { began, go_on: Mutex::new(go_on) })).unwrap();
        pool.wake(1);
        assert_eq!(turns.recv().unwrap(), 1);
        pool.wake(1);
        assert!(turns.try_recv().is_err(), "a key runs on one thread at a time");
        let_go.send(Turn::Idle).unwrap();
        assert_eq!(turns.recv().unwrap(), 1, "what woke it came too late for the first turn");
        let_go.send(Turn::After(Duration::from_millis(1))).unwrap();
        assert_eq!(turns.recv_timeout(Duration::from_secs(20)).unwrap(), 1);
        let_go.send(Turn::After(Duration::from_secs(3600))).unwrap();
        pool.stop();
    }

    #[test]
    fn what_wakes_a_key_that_rests_is_heard_once_and_then() {
        let (began, turns) = sync_channel(16);
        let (let_go, go_on) = sync_channel(16);
        let pool = Pool::start("test", 1, Arc::new(Steps { began, go_on: Mutex::new(go_on) })).unwrap();
        let rest = |least| Turn::Rest { least: Duration::from_millis(least), most: None };
        pool.wake(1);
        assert_eq!(turns.recv().unwrap(), 1);
        let_go.send(rest(3_600_000)).unwrap();
        // The turn has ended when another key's has begun on the only thread.
        pool.wake(2);
        assert_eq!(turns.recv().unwrap(), 2);
        let_go.send(Turn::Idle).unwrap();
        (0..5).for_each(|_| pool.wake(1));
        pool.wake(3);
        assert_eq!(turns.recv().unwrap(), 3, "who rests has no turn though it was woken");
        let_go.send(rest(20)).unwrap();
        pool.wake(4);
        assert_eq!(turns.recv().unwrap(), 4);
        (0..5).for_each(|_| pool.wake(3));
        let_go.send(Turn::Idle).unwrap();
        assert_eq!(turns.recv_timeout(Duration::from_secs(20)).unwrap(), 3, "it was woken, and has rested");
        let_go.send(Turn::Rest { least: Duration::ZERO, most: Some(Duration::from_millis(1)) }).unwrap();
        assert_eq!(turns.recv_timeout(Duration::from_secs(20)).unwrap(), 3, "a timer comes by itself");
        let_go.send(rest(0)).unwrap();
        pool.wake(5);
        assert_eq!(turns.recv().unwrap(), 5);
        let_go.send(Turn::Idle).unwrap();
        pool.stop();
        assert!(turns.try_recv().is_err(), "five wakes were one");
    }

    /// Panics the first time.
    struct Stumbles {
        turns: AtomicUsize,
        done: SyncSender<()>,
    }

    impl Tasks<u32> for Stumbles {
        fn turn(&self, _: u32) -> Turn {
            assert!(self.turns.fetch_add(1, Ordering::SeqCst) > 0, "the first turn panics");
            self.done.send(()).unwrap();
            Turn::Idle
        }

        fn panicked(&self, _: u32) {}
    }

    #[test]
    fn a_task_that_panicked_runs_again() {
        let (done, finished) = sync_channel(1);
        let pool = Pool::start("test", 1, Arc::new(Stumbles { turns: AtomicUsize::new(0), done })).unwrap();
        pool.wake(1);
        finished.recv_timeout(Duration::from_secs(20)).unwrap();
        pool.stop();
    }
}
