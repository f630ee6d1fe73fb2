//! What the stages and the readers share: the seams, and for each workspace what is in force and what readers see.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use kith_model::id::{InstallationId, Position, ProfileId, WorkspaceId};
use kith_model::plugin::PluginFault;
use kith_model::time::{Clock, Timestamp};
use kith_store::{CommitError, Committed, Fence, QueueId, Store, Unit};
use parking_lot::{Condvar, Mutex, RwLock};
use tokio::sync::{Notify, watch};

use crate::CheckedSetup;
use crate::accept::Accept;
use crate::accept::imports::UnderWay;
use crate::backtest::Backtests;
use crate::caches::CacheBytes;
use crate::deliver::Deliveries;
use crate::dry_run::DryRuns;
use crate::fit::FitsUnderWay;
use crate::guests::Guests;
use crate::intake::{Gathering, ImportMemory, InputFaults, Volumes};
use crate::plan::{Plan, SetupError};
use crate::poll::Polls;
use crate::pool::Pool;
use crate::react::inbox::Inbox;
use crate::react::projection::Projection;
use crate::react::replays::ReplayRequests;
use crate::rows::derived::Cursor;
use crate::setup::{Activity, Installed, Observer, Setup};
use crate::shadow::Shadows;
use crate::trials::{FAULTS, TrialKind, Trials};
use crate::turns::Turns;
use crate::workers::{Phase, Workers, filled_queue};

/// This many strikes within [`STRIKE_WINDOW_MS`] and without a good answer between them, each over other people or another
/// request, quarantine an installation.
pub(crate) const MAX_STRIKES: usize = 3;

/// A strike over somebody's request counts for ten minutes.
pub(crate) const STRIKE_WINDOW_MS: i64 = 600_000;

/// A strike over what the kernel asks by itself counts for a day: between two calls of a channel that fails on everybody lie
/// back-offs of hours.
const OWN_STRIKE_WINDOW_MS: i64 = 86_400_000;

/// How the reason begins for which a model is asked for nothing but a fit.
pub const WAITS_FOR_FIT: &str = "waits to be fitted";

/// What is in force in a workspace: one value, so that no reader meets one half of a change.
pub(crate) struct CompiledSetup {
    /// One more with each change. Readers compare it with [`Projection::generation`].
    pub generation: u64,
    pub setup: Arc<Setup>,
    pub plan: Plan,
}

/// Whose data a strike was over: faults over the same person or request are one strike.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Culprit {
    Profile(ProfileId),
    /// A request's hash.
    Content(u64),
    /// A call of a channel, which tells by itself that it is another one.
    Call(u64),
}

impl Culprit {
    fn window_ms(self) -> i64 {
        match self {
            Culprit::Content(_) => STRIKE_WINDOW_MS,
            Culprit::Profile(_) | Culprit::Call(_) => OWN_STRIKE_WINDOW_MS,
        }
    }
}

/// Work that fails again and again at the same place.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Failing {
    pub since: Timestamp,
    /// The position that the work does not get past.
    pub cursor: Position,
    pub problem: String,
}

/// One workspace.
pub(crate) struct Workspace {
    pub id: WorkspaceId,
    pub compiled: ArcSwap<CompiledSetup>,
    /// Written by the workspace's reactor alone, after each commit.
    pub projection: RwLock<Projection>,
    /// What came of models that run beside the reactor.
    pub inbox: Inbox,
    /// Dead letters of models that somebody wants tried again.
    pub replays: ReplayRequests,
    /// Set by the reactor when the same work has failed twice.
    pub failing: Mutex<Option<Failing>>,
    /// Of questions that look at everybody.
    pub turns: Turns,
    /// Held while a dead letter is put back into its outbox.
    pub replaying: Mutex<()>,
    /// Held while what was set aside is corrected, tried again or dismissed.
    pub changing_letters: tokio::sync::Mutex<()>,
    /// Turned to stopping when the kernel stops or the workspace is taken out of it, never back: a workspace that comes again is
    /// another value.
    phase: watch::Sender<Phase>,
    /// Held while the setup is changed.
    changing: Mutex<()>,
    strikes: Mutex<HashMap<InstallationId, BTreeMap<Culprit, Timestamp>>>,
    /// Of installations that were stopped after strikes.
    pub trials: Trials,
    /// Counts what the reactor has finished, so that waiting for it needs no polling of its state.
    passes: Mutex<u64>,
    passed: Condvar,
    /// The same for tasks, which wait without a thread.
    pub pass_done: Notify,
}

impl Workspace {
    pub(crate) fn new(setup: Setup) -> Result<Workspace, SetupError> {
        CheckedSetup::new(setup, &[]).map(Workspace::of)
    }

    pub(crate) fn of(checked: CheckedSetup) -> Workspace {
        let CheckedSetup { setup, plan } = checked;
        Workspace {
            id: setup.workspace,
            compiled: ArcSwap::from_pointee(CompiledSetup { generation: 1, setup: Arc::new(setup), plan }),
            projection: RwLock::default(),
            inbox: Inbox::default(),
            replays: ReplayRequests::default(),
            failing: Mutex::default(),
            turns: Turns::default(),
            replaying: Mutex::default(),
            changing_letters: tokio::sync::Mutex::default(),
            phase: watch::Sender::new(Phase::Running),
            changing: Mutex::default(),
            strikes: Mutex::default(),
            trials: Trials::default(),
            passes: Mutex::default(),
            passed: Condvar::new(),
            pass_done: Notify::new(),
        }
    }

    /// How far what works beside the reactor is on its way to a stop, for those who wait for it.
    pub(crate) fn phase(&self) -> watch::Receiver<Phase> {
        self.phase.subscribe()
    }

    /// Take nothing more in, send nothing more, and compute no further pass.
    pub(crate) fn begin_stop(&self) {
        self.phase.send_replace(Phase::Stopping);
    }

    /// Whether it is being stopped.
    pub(crate) fn is_stopping(&self) -> bool {
        *self.phase.borrow() != Phase::Running
    }

    /// Put another setup in force.
    pub(crate) fn configure(&self, checked: CheckedSetup) {
        let _changing = self.changing.lock();
        self.put_in_force(checked);
        self.trials.follow(&self.compiled.load().setup);
    }

    /// Let an installation run that the kernel stopped; one that an admin switched off stays so.
    pub(crate) fn resume(&self, installation: InstallationId) -> Result<(), SetupError> {
        let _changing = self.changing.lock();
        self.run_again(installation)
    }

    /// Let an installation run for a trial, if one is due. Both in one step: between them another setup could stop it again, and
    /// a trial would be under way of what does not run.
    pub(crate) fn begin_trial(&self, installation: InstallationId, now: Timestamp) -> Result<bool, SetupError> {
        let _changing = self.changing.lock();
        let setup = Arc::clone(&self.compiled.load().setup);
        let activity = setup.installation(installation).map(|installed| &installed.activity);
        if !activity.is_some_and(|activity| self.trials.begin(installation, activity, now)) {
            return Ok(false);
        }
        self.run_again(installation).map(|()| true)
    }

    /// The caller holds `changing`.
    fn run_again(&self, installation: InstallationId) -> Result<(), SetupError> {
        let mut setup = Setup::clone(&self.compiled.load().setup);
        let stopped =
            |known: &&mut Installed| known.id == installation && matches!(known.activity, Activity::Quarantined { .. });
        let Some(installed) = setup.installations.iter_mut().find(stopped) else { return Ok(()) };
        installed.activity = Activity::Running;
        let checked = CheckedSetup::new(setup, &[&self.compiled.load().plan])?;
        self.put_in_force(checked);
        Ok(())
    }

    fn put_in_force(&self, checked: CheckedSetup) {
        let CheckedSetup { setup, plan } = checked;
        let generation = self.compiled.load().generation + 1;
        self.compiled.store(Arc::new(CompiledSetup { generation, setup: Arc::new(setup), plan }));
    }

    /// Stop running an installation, if it runs and is the one that is meant; what it wrote stays. The installation as it ran.
    fn hold(
        &self,
        installation: InstallationId,
        activity: Activity,
        is_meant: impl Fn(&Installed) -> bool,
    ) -> Option<Installed> {
        let _changing = self.changing.lock();
        let mut setup = Setup::clone(&self.compiled.load().setup);
        let is_running = |known: &&mut Installed| known.id == installation && known.activity.is_running();
        let installed = setup.installations.iter_mut().find(|known| is_running(known) && is_meant(known))?;
        let before = installed.clone();
        installed.activity = activity;
        match CheckedSetup::new(setup, &[&self.compiled.load().plan]) {
            Ok(checked) => self.put_in_force(checked),
            Err(error) => {
                tracing::error!(workspace = self.id.0, %error, "an installation that was to be held goes on");
            }
        }
        Some(before)
    }

    /// The position and the time that what readers see is worked off to. Where the newest of the workspace's own records is in
    /// it, it holds for the whole log: the rest is others'.
    pub(crate) fn as_of(&self, store: &dyn Store, projection: &Projection) -> Cursor {
        let head = store.head();
        let as_of = projection.as_of;
        if as_of.position >= store.head_of(self.id) {
            return Cursor { position: as_of.position.max(head), ..as_of };
        }
        as_of
    }

    /// The reactor has finished a pass.
    pub(crate) fn note_pass(&self) {
        *self.passes.lock() += 1;
        self.passed.notify_all();
        self.pass_done.notify_waiters();
    }

    /// How many passes the reactor has finished.
    pub(crate) fn passes(&self) -> u64 {
        *self.passes.lock()
    }

    /// Wait until the reactor has finished more passes than `seen`, or for `timeout`.
    pub(crate) fn wait_for_pass(&self, seen: u64, timeout: std::time::Duration) {
        let mut passes = self.passes.lock();
        self.passed.wait_while_for(&mut passes, |passes| *passes == seen, timeout);
    }

    /// Forget the strikes of an installation: it did its work.
    pub(crate) fn forgive(&self, installation: InstallationId) {
        let mut strikes = self.strikes.lock();
        if !strikes.is_empty() {
            strikes.remove(&installation);
        }
    }

    /// Count a strike; whether the installation has had enough.
    fn strike(&self, installation: InstallationId, culprit: Culprit, now: Timestamp) -> bool {
        let mut strikes = self.strikes.lock();
        let of_installation = strikes.entry(installation).or_default();
        of_installation.retain(|culprit, at| now.0.saturating_sub(at.0) < culprit.window_ms());
        of_installation.insert(culprit, now);
        let enough = of_installation.len() >= MAX_STRIKES;
        if enough {
            strikes.remove(&installation);
        }
        enough
    }
}

/// The pool of reactors, as those see it who have something for one. It is set once the reactors are open; before that they
/// look at everything by themselves. The stop takes it out again, because it holds what holds this.
#[derive(Default)]
pub(crate) struct Wakers(RwLock<Option<Pool<WorkspaceId>>>);

impl Wakers {
    pub(crate) fn set(&self, pool: Pool<WorkspaceId>) {
        *self.0.write() = Some(pool);
    }

    /// Give the workspace's reactor a turn.
    pub(crate) fn wake(&self, workspace: WorkspaceId) {
        if let Some(pool) = self.0.read().as_ref() {
            pool.wake(workspace);
        }
    }

    /// Finish the turns under way and end the threads.
    pub(crate) fn stop(&self) {
        let pool = self.0.write().take();
        if let Some(pool) = pool {
            pool.stop();
        }
    }
}

/// The kernel's shared state.
pub(crate) struct KernelState {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub observer: Arc<dyn Observer>,
    /// The node's lease: no unit is committed after another process has taken over.
    pub fence: Fence,
    pub accept: Accept,
    pub dry_runs: DryRuns,
    pub guests: Guests,
    /// Requests that wait for a connector.
    pub gathering: Arc<Gathering>,
    /// On what connectors failed.
    pub input_faults: InputFaults,
    /// How much each source has brought.
    pub volumes: Volumes,
    /// What imports remember of their rows.
    pub import_memory: ImportMemory,
    /// Imports with a name that are under way.
    pub imports: Arc<UnderWay>,
    pub wakers: Arc<Wakers>,
    pub workspaces: RwLock<BTreeMap<WorkspaceId, Arc<Workspace>>>,
    pub workers: Workers,
    pub deliveries: Deliveries,
    pub fits: Arc<FitsUnderWay>,
    pub polls: Polls,
    pub shadows: Shadows,
    pub backtests: Backtests,
    /// Nothing new is taken in; what is under way in the later stages goes on.
    pub closing: AtomicBool,
    pub stopping: AtomicBool,
    /// Bytes that decoded rows may take in the caches of all workspaces together.
    pub cache_bytes: CacheBytes,
    /// Numbers strikes over nobody's data.
    calls: AtomicU64,
}

impl KernelState {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        fence: Fence,
        accept: Accept,
        guests: Guests,
        wakers: Arc<Wakers>,
    ) -> std::io::Result<KernelState> {
        Ok(KernelState {
            store,
            gathering: Arc::new(Gathering::new(Arc::clone(&clock))),
            clock,
            workers: Workers::new(Arc::clone(&observer))?,
            observer,
            fence,
            accept,
            dry_runs: DryRuns::default(),
            guests,
            input_faults: InputFaults::default(),
            volumes: Volumes::default(),
            import_memory: ImportMemory::default(),
            imports: Arc::default(),
            wakers,
            workspaces: RwLock::default(),
            deliveries: Deliveries::new(),
            fits: Arc::default(),
            polls: Polls::default(),
            shadows: Shadows::default(),
            backtests: Backtests::default(),
            closing: AtomicBool::new(false),
            stopping: AtomicBool::new(false),
            cache_bytes: CacheBytes::default(),
            calls: AtomicU64::new(0),
        })
    }

    pub(crate) fn workspace(&self, id: WorkspaceId) -> Option<Arc<Workspace>> {
        self.workspaces.read().get(&id).cloned()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Commit a unit under the node's lease, and wake the senders of the outboxes that it filled.
    pub(crate) fn commit(&self, unit: Unit) -> Result<Committed, CommitError> {
        let filled: BTreeSet<QueueId> = unit.operations.iter().filter_map(filled_queue).collect();
        let committed = self.store.commit(Unit { fence: Some(self.fence.clone()), ..unit })?;
        filled.into_iter().for_each(|queue| self.workers.wake(queue));
        Ok(committed)
    }

    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::SeqCst)
    }

    /// Let a workspace's reactor look at what is new.
    pub(crate) fn wake_reactor(&self, workspace: WorkspaceId) {
        self.wakers.wake(workspace);
    }

    /// What one workspace's cache may take.
    pub(crate) fn cache_share(&self) -> u64 {
        self.cache_bytes.share(self.workspaces.read().len())
    }

    /// Count a fault against its installation, if it is the plugin's own. Faults over enough different people or requests
    /// quarantine it in this workspace, and so does one in a trial that a call decides: what it wrote stays.
    pub(crate) fn strike(
        &self,
        workspace: &Workspace,
        installation: InstallationId,
        fault: &PluginFault,
        culprit: Culprit,
    ) {
        tracing::warn!(workspace = workspace.id.0, installation = installation.0, code = fault.code(), %fault, "plugin fault");
        let is_on_trial = workspace.trials.under_way(installation) == Some(TrialKind::Call);
        if !fault.is_strike() || !(workspace.strike(installation, culprit, self.clock.now()) || is_on_trial) {
            return;
        }
        let reason = format!("{MAX_STRIKES}{FAULTS}, the last: {fault}");
        self.hold(workspace.id, installation, &reason);
    }

    /// Count a fault of a call that was over nobody's data in particular: each is a strike of its own.
    pub(crate) fn strike_call(&self, workspace: WorkspaceId, installation: InstallationId, fault: &PluginFault) {
        let number = self.calls.fetch_add(1, Ordering::Relaxed);
        if let Some(workspace) = self.workspace(workspace) {
            self.strike(&workspace, installation, fault, Culprit::Call(number));
        }
    }

    /// Stop running an installation at once, and have that written down.
    pub(crate) fn hold(&self, workspace: WorkspaceId, installation: InstallationId, reason: &str) {
        let Some(known) = self.workspace(workspace) else { return };
        let activity = Activity::Quarantined { since: self.clock.now(), why: reason.to_owned() };
        let Some(installed) = known.hold(installation, activity, |_| true) else { return };
        known.trials.stopped(installation, self.clock.now());
        tracing::error!(workspace = workspace.0, installation = installation.0, reason, "an installation is held");
        self.observer.held(workspace, &installed, reason);
        self.wake_reactor(workspace);
    }

    /// Ask a model for nothing but a fit from now on, because it cannot read its state, and have that written down.
    /// `asked` is the installation as it was asked: another fit may have been put to use meanwhile, and must not be held for what
    /// the older one could not do.
    pub(crate) fn wait_for_fit(&self, known: &Workspace, asked: &Installed, fault: &PluginFault) {
        let is_same = |installed: &Installed| installed.digest == asked.digest && installed.fitted == asked.fitted;
        let why = format!("{WAITS_FOR_FIT}: {fault}");
        let activity = Activity::WaitsForFit { since: self.clock.now(), why: why.clone() };
        let Some(installed) = known.hold(asked.id, activity, is_same) else { return };
        tracing::warn!(workspace = known.id.0, installation = asked.id.0, why, "a model waits to be fitted");
        self.observer.waits_for_fit(known.id, &installed, &why);
        self.wake_reactor(known.id);
    }
}
