//! Where plugins run: threads of their own, so that a slow or greedy plugin takes no thread that answers requests.
//!
//! Calls are taken in turns, of workspaces and then of a workspace's installations. What is bounded is how many of them
//! compute: a call that waits for a peer gives its slot back and comes into turn again when the peer has answered, because
//! peers that never answer would else hold every slot. One installation computes in all slots but one, has a bounded number
//! of calls under way, and a bounded number waits, beyond which callers are told at once. A call has its share of the host's
//! memory before it begins ([`memory`]).
//!
//! Requests, models, fits and channels, to which polls are counted, have threads each: somebody waits for a request, and a fit takes minutes, so that none
//! of them may hold another's. A workspace has one fit under way. Versions that run beside the live ones have one thread, which
//! yields to all others, and memory of their own. All threads yield to those that answer requests.

mod memory;
mod schedule;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::sync_channel;
use std::thread::{Builder, JoinHandle};
use std::time::Duration;

use kith_model::budget::{Exhausted, table};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::slot::{self, Slot};
use parking_lot::{Condvar, Mutex};
use tokio::sync::futures::Notified;
use tokio::sync::{Notify, oneshot};

use memory::Memory;
use schedule::{ClassLimits, Job, Side, Turn};

use crate::yielding::{ProcessorSet, yield_to_others};

/// Threads of requests, and of channels that send by themselves: most of their calls may wait for peers.
const WAITING_THREADS: usize = 48;

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
    /// Messages that are to go out, and pages that are to be fetched.
    Channel,
    /// Nobody does: it is only compared.
    Shadow,
}

/// How many there are.
const CLASSES: usize = 5;

impl GuestClass {
    const ALL: [GuestClass; CLASSES] =
        [GuestClass::Request, GuestClass::Model, GuestClass::Fit, GuestClass::Channel, GuestClass::Shadow];

    /// Of the threads.
    fn name(self) -> &'static str {
        match self {
            GuestClass::Request => "guest",
            GuestClass::Model => "model",
            GuestClass::Fit => "fit",
            GuestClass::Channel => "channel",
            GuestClass::Shadow => "shadow",
        }
    }

    /// How much the threads yield to all others (a nice value): the kernel's own come first, then requests, for which
    /// somebody waits, then the fits, which last longest and are asked for least, and last what is only compared.
    fn yields(self) -> i32 {
        match self {
            GuestClass::Request => 5,
            GuestClass::Model | GuestClass::Channel => 10,
            GuestClass::Fit => 15,
            GuestClass::Shadow => 19,
        }
    }
}

/// Whose call it is, and what it holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Caller {
    pub workspace: WorkspaceId,
    pub installation: InstallationId,
    pub class: GuestClass,
    /// Of the call's input, while it waits.
    pub bytes: usize,
    /// What the call may take at most, while it is under way.
    pub memory_bytes: u64,
}

/// The executor stopped before the call began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("the kernel is shutting down")]
pub(crate) struct ExecutorStopped;

/// A call that waits or is under way. One that nobody waits for any more does not begin.
pub(crate) struct GuestCall<T> {
    answer: oneshot::Receiver<std::thread::Result<T>>,
    place: Place,
}

/// A call's place among those that wait, which goes with it.
pub(crate) struct Place {
    threads: Arc<Threads>,
    caller: Caller,
    number: u64,
}

impl Place {
    /// Wait no longer; the budget for which it waited, and nothing where the call has begun.
    pub(crate) fn give_up(&self) -> Option<Exhausted> {
        let mut state = self.threads.state.lock();
        let State { sides, memory, .. } = &mut *state;
        let class = self.caller.class as usize;
        let exhausted = sides[class].withdraw(self.caller, self.number, memory);
        drop(state);
        if exhausted.is_some() {
            // Where all that waited have given up, no call that begins tells of it.
            self.threads.room[class].notify_waiters();
        }
        exhausted
    }

    /// Let other work of the same caller wait for its turn, which says by itself what comes of it.
    pub(crate) fn again(&self, work: Box<dyn FnOnce() + Send>) -> Result<(), Exhausted> {
        self.threads.admit(self.caller, work).map(drop)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // Whether it waited still makes no difference to somebody who has gone.
        let _ = self.give_up();
    }
}

impl<T> GuestCall<T> {
    /// What the call gives. A panic in it goes on in the caller.
    pub(crate) async fn finish(self) -> Result<T, ExecutorStopped> {
        done(self.answer.await)
    }

    /// The same for somebody who waits a while for the call to begin; one that has begun is waited for.
    pub(crate) async fn finish_soon(mut self, patience: Duration) -> Result<Result<T, ExecutorStopped>, Exhausted> {
        if let Ok(answer) = tokio::time::timeout(patience, &mut self.answer).await {
            return Ok(done(answer));
        }
        match self.place.give_up() {
            Some(exhausted) => Err(exhausted),
            None => Ok(done((&mut self.answer).await)),
        }
    }

    /// [`GuestCall::finish`] on a thread that may wait.
    pub(crate) fn wait(self) -> Result<T, ExecutorStopped> {
        done(self.answer.blocking_recv())
    }
}

fn done<T>(answer: Result<std::thread::Result<T>, oneshot::error::RecvError>) -> Result<T, ExecutorStopped> {
    match answer {
        Ok(Ok(value)) => Ok(value),
        Ok(Err(panic)) => std::panic::resume_unwind(panic),
        Err(_) => Err(ExecutorStopped),
    }
}

struct State {
    sides: [Side; CLASSES],
    memory: Memory,
    next_number: u64,
    is_stopping: bool,
}

/// What the threads and the callers share.
struct Threads {
    state: Mutex<State>,
    /// For the threads of a class.
    changed: [Condvar; CLASSES],
    /// For those who wait until a call of the class may wait.
    room: [Notify; CLASSES],
}

impl Threads {
    /// Let everything of a class begin or go on that can.
    fn choose(&self, state: &mut State, class: GuestClass) {
        let State { sides, memory, .. } = state;
        let side = &mut sides[class as usize];
        while let Some(turn) = side.next(memory) {
            match turn {
                Turn::Begin(job) => {
                    side.ready.push_back(job);
                    self.changed[class as usize].notify_one();
                    self.room[class as usize].notify_waiters();
                }
                // The call waits for nothing else, and its channel has room for the one word.
                Turn::Resume(told) => drop(told.send(())),
            }
        }
    }

    fn admit(&self, caller: Caller, work: Box<dyn FnOnce() + Send>) -> Result<u64, Exhausted> {
        let mut state = self.state.lock();
        let number = state.next_number;
        state.next_number += 1;
        // Without a thread that will come for it, the call is dropped here and its caller learns that by waiting.
        if !state.is_stopping {
            state.sides[caller.class as usize].admit(Job { number, caller, work })?;
            self.choose(&mut state, caller.class);
        }
        Ok(number)
    }

    fn work(self: &Arc<Threads>, class: GuestClass) {
        let mut state = self.state.lock();
        loop {
            state.sides[class as usize].idle += 1;
            self.choose(&mut state, class);
            let job = loop {
                if let Some(job) = state.sides[class as usize].ready.pop_front() {
                    break job;
                }
                if state.is_stopping {
                    return;
                }
                self.changed[class as usize].wait(&mut state);
            };
            state.sides[class as usize].idle -= 1;
            drop(state);
            let Job { caller, work, .. } = job;
            let slot = Arc::new(CallSlot { threads: Arc::clone(self), caller, aside: Mutex::default() });
            let held = Arc::clone(&slot);
            if catch_unwind(AssertUnwindSafe(|| slot::hold(held, work))).is_err() {
                tracing::error!(
                    workspace = caller.workspace.0,
                    installation = caller.installation.0,
                    "a call panicked"
                );
            }
            slot.aside.lock().take().into_iter().for_each(ProcessorSet::back);
            state = self.state.lock();
            state.sides[class as usize].ended(caller);
            state.memory.give_back(caller.workspace, class, caller.memory_bytes);
            // Its memory may be what another class waits for.
            for other in GuestClass::ALL.into_iter().filter(|other| *other != class) {
                self.choose(&mut state, other);
            }
        }
    }
}

/// The slot of a call under way.
struct CallSlot {
    threads: Arc<Threads>,
    caller: Caller,
    /// Where the call lasts, what its thread returns to behind it.
    aside: Mutex<Option<ProcessorSet>>,
}

impl Slot for CallSlot {
    fn give_back(&self) {
        let mut state = self.threads.state.lock();
        state.sides[self.caller.class as usize].leave(self.caller);
        self.threads.choose(&mut state, self.caller.class);
    }

    fn take_again(&self) {
        let (tell, told) = sync_channel(1);
        let mut state = self.threads.state.lock();
        state.sides[self.caller.class as usize].come_back(self.caller, tell);
        self.threads.choose(&mut state, self.caller.class);
        drop(state);
        // The other end is kept until the word is given, so that this is no error.
        let _ = told.recv();
    }

    fn lasts(&self) {
        // The work may call a plugin several times, and where the thread returns to is what it left first.
        let mut aside = self.aside.lock();
        if aside.is_none() {
            *aside = ProcessorSet::step();
        }
    }
}

/// The executor.
pub(crate) struct Guests {
    shared: Arc<Threads>,
    threads: Mutex<Vec<JoinHandle<()>>>,
}

impl Guests {
    /// Start the threads. Of each class one call more computes than there are processors, since one installation may compute
    /// in all slots but one.
    pub(crate) fn start(memory_bytes: u64) -> std::io::Result<Guests> {
        Guests::with_slots(1 + std::thread::available_parallelism().map_or(1, usize::from), memory_bytes)
    }

    fn with_slots(slots: usize, memory_bytes: u64) -> std::io::Result<Guests> {
        let slots = slots.max(2);
        let most = |class| {
            let (slots, threads, of_workspace) = match class {
                GuestClass::Request | GuestClass::Channel => (slots, WAITING_THREADS.max(slots + 1), usize::MAX),
                GuestClass::Model => (slots, slots, usize::MAX),
                GuestClass::Fit => (slots, slots, MAX_WORKSPACE_FITS),
                // An installation has all slots but one.
                GuestClass::Shadow => (2, 1, usize::MAX),
            };
            ClassLimits { class, slots, threads, of_workspace }
        };
        let sides = GuestClass::ALL.map(|class| Side::new(most(class)));
        let state = State { sides, memory: Memory::new(memory_bytes), next_number: 0, is_stopping: false };
        let (changed, room) = (Default::default(), Default::default());
        let shared = Arc::new(Threads { state: Mutex::new(state), changed, room });
        let guests = Guests { shared, threads: Mutex::default() };
        for class in GuestClass::ALL {
            for number in 0..most(class).threads {
                let shared = Arc::clone(&guests.shared);
                let work = move || {
                    yield_to_others(class.yields());
                    shared.work(class);
                };
                match Builder::new().name(format!("kith-{}-{number}", class.name())).spawn(work) {
                    // A stop waits for senders, and no longer for a peer that does not answer one.
                    Ok(_) if class == GuestClass::Channel => {}
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

    /// Let a call wait for its turn.
    pub(crate) fn run<T: Send + 'static>(
        &self,
        caller: Caller,
        work: impl FnOnce() -> T + Send + 'static,
    ) -> Result<GuestCall<T>, Exhausted> {
        let (tell, answer) = oneshot::channel();
        let work = Box::new(move || {
            // The caller may be gone: nobody waits for what was only asked.
            if !tell.is_closed() {
                drop(tell.send(catch_unwind(AssertUnwindSafe(work))));
            }
        });
        let place = self.place(caller, work)?;
        Ok(GuestCall { answer, place })
    }

    /// The same for work that says by itself what came of it, and does nothing where nobody wants it any more. It waits for as
    /// long as its place is kept.
    pub(crate) fn place(&self, caller: Caller, work: Box<dyn FnOnce() + Send>) -> Result<Place, Exhausted> {
        let number = self.shared.admit(caller, work)?;
        Ok(Place { threads: Arc::clone(&self.shared), caller, number })
    }

    /// Let a call wait for its turn that says by itself what came of it.
    pub(crate) fn spawn(&self, caller: Caller, work: impl FnOnce() + Send + 'static) -> Result<(), Exhausted> {
        self.shared.admit(caller, Box::new(work)).map(drop)
    }

    /// How long a request waits for its turn.
    pub(crate) fn patience() -> Duration {
        Duration::from_millis(table::GUEST_QUEUE_TIME.default)
    }

    /// Ends when a call of the class is taken, from this call on, which may make room for another.
    pub(crate) fn room(&self, class: GuestClass) -> Notified<'_> {
        self.shared.room[class as usize].notified()
    }

    /// Drop what waits of a workspace; its callers are told by that. What is under way ends within its limits.
    pub(crate) fn forget_workspace(&self, workspace: WorkspaceId) {
        let mut state = self.shared.state.lock();
        let dropped: Vec<Job> = state.sides.iter_mut().flat_map(|side| side.forget(workspace)).collect();
        drop(state);
        // Without the lock: what a call holds is its owner's.
        drop(dropped);
        self.shared.room.iter().for_each(Notify::notify_waiters);
    }

    /// Finish what is under way, drop what waits, and end the threads.
    pub(crate) fn stop(&self) {
        let mut state = self.shared.state.lock();
        state.is_stopping = true;
        let dropped: Vec<Job> = state.sides.iter_mut().flat_map(Side::drop_waiting).collect();
        drop(state);
        // Without the lock, as when a workspace is forgotten.
        drop(dropped);
        for changed in &self.shared.changed {
            changed.notify_all();
        }
        self.shared.room.iter().for_each(Notify::notify_waiters);
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a guest thread ended by a panic outside of every call");
            }
        }
    }
}

#[cfg(test)]
mod tests;
