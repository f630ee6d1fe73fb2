//! Connectors that fetch from the other side: each that polls has a task that sleeps until its next poll is due, and then fetches
//! page after page for as long as more is waiting and its turn lasts.
//!
//! What an installation polled last is a row ([`schedule::PollRow`]), put in the commit of what the page brought, so that a process
//! that ends between a request and its commit begins the same page again. There is one task for an installation and one process
//! that may commit, by the node's lease, so that nobody has to claim a poll.

mod asked;
pub(crate) mod memory;
mod schedule;
mod turn;

use std::collections::BTreeMap;
use std::collections::btree_map::Entry;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use kith_model::budget::table;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::PluginKind;
use kith_model::time::Timestamp;
use kith_store::{CommitError, Key, Operation, ReadError, Unit, row};
use parking_lot::Mutex;
use tokio::sync::{Notify, OwnedSemaphorePermit, Semaphore};

use crate::host_limits::HostLimits;
use crate::offload;
use crate::profiles::facts::get_one;
use crate::setup::{Activity, Installed, Role};
use crate::shared::KernelState;
use crate::workers::{Ending, Phase, TaskScope};
pub use asked::{PollFrom, PollView};
use memory::AnswerMemory;
pub use schedule::PollEntry;
use schedule::{PollRow, PollTerms};

/// The name of the tasks.
const POLL: &str = "poll";

/// Polls at once that compute or keep a page, each of which holds one in memory; and of one workspace, so that none keeps others waiting.
const AT_ONCE: usize = 16;
const OF_WORKSPACE: usize = 4;

/// A poll that is due later is looked at at least so often, because the kernel's clock may be a test's.
const LOOK: Duration = Duration::from_secs(1);

/// After an error of the store the same work is tried again after this long.
const PAUSE: Duration = Duration::from_secs(1);

/// A poll that is stopped ends at its next wait.
const GRACE: Duration = Duration::from_secs(10);

type Whose = (WorkspaceId, InstallationId);

/// The installations that poll.
pub(crate) struct Polls {
    places: Mutex<BTreeMap<Whose, Arc<Place>>>,
    turns: Turns,
    /// Of connectors that send by themselves, whose peers are waited for within their turns.
    sending: Turns,
    /// Of requests that are with their peers.
    pub(crate) requests: Turns,
    pub(crate) answers: Arc<AnswerMemory>,
}

impl Default for Polls {
    fn default() -> Polls {
        let answers = AnswerMemory::beside(HostLimits::default().guest_memory_bytes);
        let [turns, sending] = std::array::from_fn(|_| Turns::of(AT_ONCE, OF_WORKSPACE));
        let requests = usize::try_from(table::POLL_REQUESTS_AT_ONCE.default).unwrap_or(usize::MAX);
        let requests = Turns::of(requests, requests / 4);
        Polls { places: Mutex::default(), turns, sending, requests, answers }
    }
}

/// The turns of all polls of a kind, or of their requests.
pub(crate) struct Turns {
    all: Arc<Semaphore>,
    /// How many a workspace has at once.
    of_workspace: usize,
    of_workspaces: Mutex<BTreeMap<WorkspaceId, Arc<Semaphore>>>,
}

/// A turn, given back when it is dropped.
pub(crate) struct TurnHeld {
    _own: OwnedSemaphorePermit,
    _all: OwnedSemaphorePermit,
}

impl Turns {
    fn of(all: usize, of_workspace: usize) -> Turns {
        Turns { all: Arc::new(Semaphore::new(all)), of_workspace, of_workspaces: Mutex::default() }
    }

    /// Wait for a turn; `None` is never given, because nobody closes them.
    pub(crate) async fn take(&self, workspace: WorkspaceId) -> Option<TurnHeld> {
        let fresh = || Arc::new(Semaphore::new(self.of_workspace));
        let own = Arc::clone(self.of_workspaces.lock().entry(workspace).or_insert_with(fresh));
        let own = own.acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(TurnHeld { _own: own, _all: all })
    }
}

impl Polls {
    fn place(&self, whose: Whose) -> Option<Arc<Place>> {
        self.places.lock().get(&whose).cloned()
    }

    /// What all calls of plugins may take in memory together.
    pub(crate) fn set_guest_memory(&mut self, bytes: u64) {
        self.answers = AnswerMemory::beside(bytes);
    }

    /// Have every task look at the clock.
    #[cfg(test)]
    pub(crate) fn wake_all(&self) {
        self.places.lock().values().for_each(|place| place.bell.notify_one());
    }
}

/// What the task of an installation shares with those who ask for a poll.
#[derive(Default)]
pub(crate) struct Place {
    /// Rings when the installation changed, or somebody wants a poll.
    bell: Notify,
    /// Held while the row is read, changed and committed.
    writing: tokio::sync::Mutex<()>,
    is_under_way: AtomicBool,
    /// What the last poll left, where it could not be committed: the other side is not asked again without a pause because of that.
    uncommitted: Mutex<Option<PollRow>>,
}

impl Place {
    /// How far the installation has polled, of which the store has `held`.
    fn present(&self, held: PollRow) -> PollRow {
        let uncommitted = self.uncommitted.lock();
        uncommitted.as_ref().filter(|row| row.epoch == held.epoch).cloned().unwrap_or(held)
    }
}

/// One installation that polls.
pub(crate) struct Poller {
    shared: Arc<KernelState>,
    workspace: WorkspaceId,
    installation: InstallationId,
    place: Arc<Place>,
}

/// What an installation may do now.
enum Standing {
    Polls(PollTerms),
    /// It is there and does not run.
    Held,
    /// The kernel stopped it, and it is not to be tried now.
    Stopped,
    /// It polls no more, or is there no more.
    Gone,
}

/// How an installation polls, if it does.
fn terms(installed: &Installed) -> Option<PollTerms> {
    let polling = installed.poll.filter(|_| installed.kind == PluginKind::Connector)?;
    Some(PollTerms { interval_ms: polling.interval_ms, changed_at: polling.changed_at })
}

/// See to it that every installation of the workspace that polls has a task, and that the tasks look at what was configured.
pub(crate) fn start(shared: &Arc<KernelState>, workspace: WorkspaceId) {
    let Some(known) = shared.workspace(workspace).filter(|known| !known.is_stopping()) else { return };
    let compiled = known.compiled.load_full();
    for installed in compiled.setup.installations.iter().filter(|installed| terms(installed).is_some()) {
        let place = Arc::new(Place::default());
        match shared.polls.places.lock().entry((workspace, installed.id)) {
            Entry::Occupied(_) => continue,
            Entry::Vacant(free) => drop(free.insert(Arc::clone(&place))),
        }
        let poller = Poller { shared: Arc::clone(shared), workspace, installation: installed.id, place };
        let mut phase = known.phase();
        shared.workers.task(POLL, workspace, async move {
            tokio::select! {
                () = poller.run() => {}
                _ = phase.wait_for(|phase| *phase != Phase::Running) => {}
            }
        });
    }
    let places = shared.polls.places.lock();
    let of_workspace = places.iter().filter(|((of, _), _)| *of == workspace);
    of_workspace.for_each(|(_, place)| place.bell.notify_one());
}

/// Wait until no poll is under way. What was not committed comes again.
pub(crate) fn stop(shared: &KernelState, whose: TaskScope) {
    if let Ending::TimedOut { running } = shared.workers.wait_for_tasks(POLL, whose, GRACE) {
        tracing::warn!(running, "polls did not end in time; their pages are fetched again");
    }
}

/// The same of one workspace, for which nobody polls afterwards.
pub(crate) fn close(shared: &KernelState, workspace: WorkspaceId) {
    stop(shared, TaskScope::Workspace(workspace));
    shared.polls.places.lock().retain(|(of, _), _| *of != workspace);
    for turns in [&shared.polls.turns, &shared.polls.sending, &shared.polls.requests] {
        turns.of_workspaces.lock().remove(&workspace);
    }
}

/// The row of an installation; what never polled has the first.
fn read(shared: &KernelState, whose: Whose) -> Result<PollRow, ReadError> {
    let held = get_one(shared.store.as_ref(), &Key::poll(whose.0, whose.1))?;
    held.map_or(Ok(PollRow::default()), |held| row::decode(&held))
}

/// The operation that keeps a row.
fn put(whose: Whose, row: &PollRow) -> Operation {
    Operation::Put(Key::poll(whose.0, whose.1), row::encode(row))
}

/// What an operation with a row takes in the journal. A source that polls chooses the cursor in it, and how often it is written.
pub(crate) fn operation_bytes(operation: &Operation) -> usize {
    if let Operation::Put(_, row) = operation { row.len() } else { 0 }
}

/// Keep a row by itself, which counts for what the source brings, whoever has it written. Blocks.
fn commit(shared: &KernelState, whose: Whose, row: &PollRow) -> Result<(), CommitError> {
    let operation = put(whose, row);
    shared.volumes.brought(whose, operation_bytes(&operation), shared.clock.now());
    shared.commit(Unit { operations: vec![operation], ..Unit::default() }).map(drop)
}

impl Poller {
    fn whose(&self) -> Whose {
        (self.workspace, self.installation)
    }

    fn now(&self) -> Timestamp {
        self.shared.clock.now()
    }

    /// Where its turns are.
    fn turns(&self) -> &Turns {
        let known = self.shared.workspace(self.workspace);
        let sends = known.is_some_and(|known| {
            let compiled = known.compiled.load();
            let role = compiled.setup.installation(self.installation).map(|installed| &installed.role);
            matches!(role, Some(Role::Connector(connector)) if connector.transport().is_none())
        });
        if sends { &self.shared.polls.sending } else { &self.shared.polls.turns }
    }

    async fn run(self) {
        let mut known: Option<PollRow> = None;
        loop {
            match self.standing() {
                Standing::Gone => {
                    if self.leave().await {
                        return;
                    }
                }
                Standing::Held => {
                    self.place.bell.notified().await;
                    known = None;
                }
                Standing::Stopped => {
                    self.sleep(LOOK).await;
                }
                Standing::Polls(terms) => {
                    let row = match known.take() {
                        Some(row) => row,
                        None => match self.read().await {
                            Ok(row) => self.place.present(row),
                            Err(error) => {
                                tracing::error!(workspace = self.workspace.0, installation = self.installation.0, %error, "how far it has polled cannot be read");
                                self.sleep(PAUSE).await;
                                continue;
                            }
                        },
                    };
                    known = self.look(terms, row).await;
                }
            }
        }
    }

    /// Poll if that is due, or wait until it may be. The row, where nobody can have changed it.
    async fn look(&self, terms: PollTerms, row: PollRow) -> Option<PollRow> {
        let now = self.now();
        let row = row.by_clock(now);
        match row.due_at(terms, now) {
            Some(due) if due <= now => {
                self.turn(terms).await;
                None
            }
            Some(due) => {
                let left = Duration::from_millis(u64::try_from(due.0.saturating_sub(now.0)).unwrap_or(0));
                (!self.sleep(left.min(LOOK)).await).then_some(row)
            }
            None => {
                self.place.bell.notified().await;
                None
            }
        }
    }

    /// Sleep so long, or until the bell rings; whether it rang.
    async fn sleep(&self, time: Duration) -> bool {
        tokio::time::timeout(time, self.place.bell.notified()).await.is_ok()
    }

    fn standing(&self) -> Standing {
        let Some(known) = self.shared.workspace(self.workspace) else { return Standing::Gone };
        let compiled = known.compiled.load_full();
        let Some(installed) = compiled.setup.installation(self.installation) else { return Standing::Gone };
        let Some(terms) = terms(installed) else { return Standing::Gone };
        match &installed.activity {
            Activity::Running | Activity::WaitsForFit { .. } => Standing::Polls(terms),
            Activity::Held { .. } => Standing::Held,
            activity @ Activity::Quarantined { .. } => match known.trials.due_at(self.installation, activity) {
                Some(due) if due <= self.now() => Standing::Polls(terms),
                Some(_) | None => Standing::Stopped,
            },
        }
    }

    /// End the task, unless the installation polls again by now. Of one that was removed nothing is left.
    async fn leave(&self) -> bool {
        {
            let mut places = self.shared.polls.places.lock();
            if !matches!(self.standing(), Standing::Gone) {
                return false;
            }
            places.remove(&self.whose());
        }
        let known = self.shared.workspace(self.workspace);
        let is_removed =
            known.is_some_and(|known| known.compiled.load().setup.installation(self.installation).is_none());
        if is_removed {
            self.shared.deliveries.hosts.forget_channel(self.workspace, self.installation);
            let (shared, whose) = (Arc::clone(&self.shared), self.whose());
            // A page may just have been committed when the installation was removed.
            let deleted = offload::run(move || {
                let operations = vec![Operation::Delete(Key::poll(whose.0, whose.1))];
                shared.commit(Unit { operations, ..Unit::default() })
            });
            if let Err(error) = deleted.await {
                tracing::warn!(workspace = self.workspace.0, installation = self.installation.0, %error, "the row of a removed installation stays");
            }
        }
        true
    }

    async fn read(&self) -> Result<PollRow, ReadError> {
        let (shared, whose) = (Arc::clone(&self.shared), self.whose());
        offload::run(move || read(&shared, whose)).await
    }

    async fn commit(&self, row: &PollRow) -> Result<(), CommitError> {
        let (shared, whose, row) = (Arc::clone(&self.shared), self.whose(), row.clone());
        offload::run(move || commit(&shared, whose, &row)).await
    }
}
