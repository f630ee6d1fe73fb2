//! Requests of one source that wait for a call of its connector at the same time go into one call.
//!
//! Each request has its own turn on the guests' threads, and the one whose turn it is takes along those that wait behind it, a
//! bounded number of a bounded size. So how many there are in a call follows from how busy the source is. A small request of a
//! workspace whose lane is committing asks for no turn before that ends, for a moment at most ([`PAUSE`]): what it brings would
//! wait for the commit all the same, and those that come meanwhile share its call and the next commit. A call of several is
//! one turn, so that other sources wait for none longer than for another.
//!
//! A call of several that fails, or in which the host panics, is halved until the request that it fails on is alone,
//! and what that one gets is its own. Where it passed its time each has a turn of its own again, because each half with
//! the request that passes it would spend that once more. For a while behind it the source's requests are called one by
//! one: whoever sends what its connector fails on again and again has its neighbours wait once, and no longer than
//! without gathering after it. A fault that none of them has alone is the connector's: it is counted, and has the source's
//! requests called one by one for longer each time ([`together`]). Only connectors whose calls leave nothing behind are
//! asked about several requests ([`Connector::takes_several`]), since what a call has left would be left once more by each
//! part.

mod together;

use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Duration;

use kith_model::budget::{Exhausted, table};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Connector, PluginFault, ReceiveError, Received, SourceRequest};
use kith_model::time::Clock;
use parking_lot::Mutex;
use tokio::sync::oneshot;

use crate::guests::{Caller, ExecutorStopped, Guests, Place};
use crate::shadow::report::SeenCall;
use together::{Apart, FailedCall};

/// Requests in one call. With as many, making its instance costs each of them little.
fn max_requests() -> usize {
    usize::try_from(table::GUEST_REQUESTS.default).unwrap_or(usize::MAX)
}

/// Bytes of their bodies together, about those of a piece of a file, so that a call of several is no larger than one may be anyway.
fn max_bytes() -> usize {
    usize::try_from(table::GUEST_REQUESTS_SIZE.default).unwrap_or(usize::MAX)
}

/// After this long, whoever gave up may come again.
const RETRY_AFTER: Duration = Duration::from_secs(1);

/// Requests of as many bytes wait for the lane before they are called: what a call costs is to begin it.
pub(super) const SMALL_BYTES: usize = 4 << 10;

/// For so long at most, some times what a sync takes on a usual disk.
pub(super) const PAUSE: Duration = Duration::from_millis(5);

/// A source.
type SourceKey = (WorkspaceId, InstallationId);

/// Requests that wait for connectors.
pub(crate) struct Gathering {
    clock: Arc<dyn Clock>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    next_number: u64,
    sources: HashMap<SourceKey, Source>,
}

#[derive(Default)]
struct Source {
    waiting: VecDeque<Waiting>,
    apart: Apart,
}

/// A request that waits for its call.
struct Waiting {
    of: SourceKey,
    number: u64,
    /// As it ran when the request came.
    connector: Arc<dyn Connector>,
    request: Arc<SourceRequest>,
    reply: oneshot::Sender<Answered>,
    /// Its turn, given up where another takes it along.
    place: Option<Place>,
    /// A call of several with it that failed.
    failed: Option<Arc<FailedCall>>,
}

/// What came of a request.
pub(super) struct Answered {
    pub(super) request: Arc<SourceRequest>,
    pub(super) received: Result<Received, ReceiveError>,
    /// Of a call for this one alone.
    pub(super) seen: Option<SeenCall>,
    /// Of the last request of a call that failed, where none of them failed alone.
    pub(super) fault_of_none: Option<PluginFault>,
}

/// A request that was handed over. Where nobody waits for it any more it is not called.
pub(super) struct Asked {
    gathering: Arc<Gathering>,
    of: SourceKey,
    number: u64,
    answered: oneshot::Receiver<Answered>,
}

/// A request's turn on the guests' threads. One that ends without having come leaves nothing that waits for it.
struct Turn {
    gathering: Arc<Gathering>,
    of: SourceKey,
    number: u64,
}

impl Gathering {
    pub(crate) fn new(clock: Arc<dyn Clock>) -> Gathering {
        Gathering { clock, state: Mutex::default() }
    }

    /// Let a request wait for its call. Another's turn takes it along, and it has none of its own until it comes for it
    /// ([`Asked::come`]).
    pub(super) fn ask(
        self: &Arc<Self>,
        of: SourceKey,
        connector: &Arc<dyn Connector>,
        request: &Arc<SourceRequest>,
    ) -> Asked {
        let (reply, answered) = oneshot::channel();
        let mut state = self.state.lock();
        let number = state.next_number;
        state.next_number += 1;
        let (connector, request) = (Arc::clone(connector), Arc::clone(request));
        let waiting = Waiting { of, number, connector, request, reply, place: None, failed: None };
        state.sources.entry(of).or_default().waiting.push_back(waiting);
        drop(state);
        Asked { gathering: Arc::clone(self), of, number, answered }
    }

    /// Whether a request has yet to be called.
    fn waits(&self, of: SourceKey, number: u64) -> bool {
        let state = self.state.lock();
        let source = state.sources.get(&of);
        source.is_some_and(|source| source.waiting.iter().any(|waiting| waiting.number == number))
    }

    /// Keep the turn of a request that still waits.
    fn keep(&self, of: SourceKey, number: u64, place: Place) {
        let mut state = self.state.lock();
        let source = state.sources.get_mut(&of);
        let waiting = source.and_then(|source| source.waiting.iter_mut().find(|waiting| waiting.number == number));
        match waiting {
            Some(waiting) => waiting.place = Some(place),
            // It was taken along. A turn is given up without this lock, which is taken under the guests' own where a call is dropped.
            None => {
                drop(state);
                drop(place);
            }
        }
    }

    /// Take one request out that still waits. It must be dropped without the lock.
    fn remove(&self, of: SourceKey, number: u64) -> Option<Waiting> {
        let mut state = self.state.lock();
        let source = state.sources.get_mut(&of)?;
        let place = source.waiting.iter().position(|waiting| waiting.number == number)?;
        let removed = source.waiting.remove(place);
        self.tidy(&mut state, of);
        removed
    }

    /// Take the request out whose turn it is, and those that go along with it.
    fn take(&self, of: SourceKey, number: u64) -> Vec<Waiting> {
        let now = self.clock.now();
        let mut state = self.state.lock();
        let Some(source) = state.sources.get_mut(&of) else { return Vec::new() };
        let own = source.waiting.iter().position(|waiting| waiting.number == number);
        let Some(first) = own.and_then(|own| source.waiting.remove(own)) else { return Vec::new() };
        let most = if first.connector.takes_several() && !source.apart.is_on(now) { max_requests() } else { 1 };
        let mut bytes = first.request.body.len();
        let mut taken = vec![first];
        let mut place = 0;
        while taken.len() < most
            && let Some(next) = source.waiting.get(place)
        {
            let together = bytes.saturating_add(next.request.body.len());
            if together <= max_bytes() && Arc::ptr_eq(&next.connector, &taken[0].connector) {
                bytes = together;
                taken.extend(source.waiting.remove(place));
            } else {
                place += 1;
            }
        }
        self.tidy(&mut state, of);
        drop(state);
        for place in taken.iter().filter_map(|waiting| waiting.place.as_ref()) {
            // What it waited for makes no difference to one that is called.
            let _ = place.give_up();
        }
        taken
    }

    /// Call a source's requests one by one for a while.
    fn part(&self, of: SourceKey) {
        let now = self.clock.now();
        self.state.lock().sources.entry(of).or_default().apart.begin(now);
    }

    /// A call of several failed of a connector in this version, though no request did: call its requests one by one for longer
    /// than the time before. How often that was.
    pub(crate) fn fails_together(&self, of: SourceKey, version: u64) -> u32 {
        let now = self.clock.now();
        self.state.lock().sources.entry(of).or_default().apart.again(version, now)
    }

    /// Forget a source of which there is nothing.
    fn tidy(&self, state: &mut State, of: SourceKey) {
        let now = self.clock.now();
        let is_idle = |source: &Source| source.waiting.is_empty() && source.apart.is_over(now);
        if state.sources.get(&of).is_some_and(is_idle) {
            state.sources.remove(&of);
        }
    }

    /// The workspace is no longer run.
    pub(crate) fn forget_workspace(&self, workspace: WorkspaceId) {
        let mut state = self.state.lock();
        let forgotten: Vec<Source> = state.sources.extract_if(|of, _| of.0 == workspace).map(|(_, of)| of).collect();
        drop(state);
        drop(forgotten);
    }

    /// Requests of a source that wait.
    #[cfg(test)]
    pub(crate) fn waiting(&self, workspace: WorkspaceId, source: InstallationId) -> usize {
        self.state.lock().sources.get(&(workspace, source)).map_or(0, |source| source.waiting.len())
    }
}

impl Turn {
    fn come(self) {
        let taken = self.gathering.take(self.of, self.number);
        let Some(connector) = taken.first().map(|waiting| Arc::clone(&waiting.connector)) else { return };
        if call(connector.as_ref(), taken) == Together::Fails {
            self.gathering.part(self.of);
        }
    }
}

impl Drop for Turn {
    fn drop(&mut self) {
        drop(self.gathering.remove(self.of, self.number));
    }
}

impl Asked {
    /// Wait for a turn on the guests' threads, unless another's has taken it along.
    ///
    /// # Errors
    /// The budget for what waits is used up.
    pub(super) fn come(&self, guests: &Guests, caller: Caller) -> Result<(), Exhausted> {
        let (of, number) = (self.of, self.number);
        if !self.gathering.waits(of, number) {
            return Ok(());
        }
        let turn = Turn { gathering: Arc::clone(&self.gathering), of, number };
        let place = guests.place(caller, Box::new(move || turn.come()))?;
        self.gathering.keep(of, number, place);
        Ok(())
    }

    /// What came of it.
    pub(super) async fn finish(mut self) -> Result<Answered, ExecutorStopped> {
        (&mut self.answered).await.map_err(|_| ExecutorStopped)
    }

    /// The same for somebody who waits a while for the call to begin; one that has begun is waited for.
    pub(super) async fn finish_soon(
        mut self,
        patience: Duration,
    ) -> Result<Result<Answered, ExecutorStopped>, Exhausted> {
        if let Ok(answered) = tokio::time::timeout(patience, &mut self.answered).await {
            return Ok(answered.map_err(|_| ExecutorStopped));
        }
        match self.gathering.remove(self.of, self.number) {
            None => Ok((&mut self.answered).await.map_err(|_| ExecutorStopped)),
            Some(waiting) => Err(waiting.place.as_ref().and_then(Place::give_up).unwrap_or_else(|| {
                // Its turn came this very moment.
                table::GUEST_QUEUE_TIME.exhausted(table::GUEST_QUEUE_TIME.default, Some(RETRY_AFTER))
            })),
        }
    }
}

impl Drop for Asked {
    fn drop(&mut self) {
        drop(self.gathering.remove(self.of, self.number));
    }
}

impl Waiting {
    fn answer(self, received: Result<Received, ReceiveError>, seen: Option<SeenCall>) {
        let failed = self.failed.inspect(|failed| failed.answered(&received));
        let fault_of_none = failed.and_then(Arc::into_inner).and_then(FailedCall::of_no_request);
        // Its client may have gone meanwhile.
        drop(self.reply.send(Answered { request: self.request, received, seen, fault_of_none }));
    }

    /// Call the connector for this request alone, if somebody still waits for it. After a panic it is dropped without
    /// an answer, by which whoever waits is told, and those that are called behind it are called all the same.
    fn alone(self) {
        if self.reply.is_closed() {
            return;
        }
        match catch_unwind(AssertUnwindSafe(|| SeenCall::of(|| self.connector.receive(&self.request)))) {
            Ok((seen, received)) => self.answer(received, Some(seen)),
            Err(_) => {
                self.say_panicked(1);
                self.failed.iter().for_each(|failed| failed.fails_alone());
            }
        }
    }

    fn say_panicked(&self, requests: usize) {
        let (workspace, source) = self.of;
        tracing::error!(workspace = workspace.0, installation = source.0, requests, "a call panicked");
    }

    /// The same in a turn of its own, or here where there is no room for one more that waits.
    fn alone_later(mut self) {
        let Some(place) = self.place.take() else { return self.alone() };
        let kept = Arc::new(Mutex::new(Some(self)));
        let later = Arc::clone(&kept);
        let work = move || {
            let waiting = later.lock().take();
            waiting.into_iter().for_each(Waiting::alone);
        };
        if place.again(Box::new(work)).is_err() {
            let waiting = kept.lock().take();
            waiting.into_iter().for_each(Waiting::alone);
        }
    }
}

/// How a connector does with several requests at once.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Together {
    Works,
    Fails,
}

/// Call a connector for requests until each has an answer of its own.
fn call(connector: &dyn Connector, mut taken: Vec<Waiting>) -> Together {
    taken.retain(|waiting| !waiting.reply.is_closed());
    if taken.len() < 2 {
        taken.into_iter().for_each(Waiting::alone);
        return Together::Works;
    }
    let requests: Vec<&SourceRequest> = taken.iter().map(|waiting| waiting.request.as_ref()).collect();
    let fault = match catch_unwind(AssertUnwindSafe(|| connector.receive_all(&requests))) {
        Ok(Ok(answers)) if answers.len() == taken.len() => {
            taken.into_iter().zip(answers).for_each(|(waiting, received)| waiting.answer(received, None));
            return Together::Works;
        }
        Ok(Ok(answers)) => {
            PluginFault::InvalidOutput(format!("{} answers came back for {}", answers.len(), taken.len()))
        }
        Ok(Err(fault)) => fault,
        Err(_) => {
            taken[0].say_panicked(taken.len());
            PluginFault::Unavailable("the host panicked".to_owned())
        }
    };
    tracing::debug!(code = fault.code(), requests = taken.len(), "requests are called apart that failed together");
    if taken[0].failed.is_none() {
        let failed = Arc::new(FailedCall::new(Arc::clone(&taken[0].connector), fault.clone(), taken.len()));
        taken.iter_mut().for_each(|waiting| waiting.failed = Some(Arc::clone(&failed)));
    }
    match fault {
        PluginFault::CpuExceeded { .. } | PluginFault::DeadlineExceeded { .. } => {
            taken.into_iter().for_each(Waiting::alone_later);
        }
        _ => {
            let other = taken.split_off(taken.len() / 2);
            call(connector, taken);
            call(connector, other);
        }
    }
    Together::Fails
}

#[cfg(test)]
mod tests;
