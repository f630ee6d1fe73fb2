//! What the stages and the readers share: the seams, and for each workspace its setup and the state that is read while it
//! is written.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

use arc_swap::ArcSwap;
use kith_features::index::Index;
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, WorkspaceId};
use kith_model::plugin::PluginFault;
use kith_model::time::Clock;
use kith_store::Store;
use parking_lot::{Mutex, RwLock};
use tokio::sync::mpsc;

use crate::accept::Request;
use crate::plan::Plan;
use crate::rows::ModelVersion;
use crate::setup::{Activity, Observer, Setup};

/// This many strikes in a row quarantine an installation.
const MAX_STRIKES: u32 = 3;

/// One workspace, as everybody sees it.
pub(crate) struct WorkspaceShared {
    pub setup: ArcSwap<Setup>,
    pub plan: ArcSwap<Plan>,
    /// Written by the react thread alone.
    pub index: RwLock<Index>,
    /// Ordinal → profile, as the index numbers them.
    pub ordinals: RwLock<Vec<Option<ProfileId>>>,
    pub versions: RwLock<Vec<Arc<ModelVersion>>>,
    /// Audiences that have been computed for every profile.
    pub computed: RwLock<std::collections::BTreeSet<AudienceId>>,
    /// Profiles that a first computation has yet to reach, of how many.
    pub backlog: RwLock<Option<(u64, u64)>>,
    /// A new plan waits for the react thread to look at it.
    is_plan_new: AtomicBool,
    strikes: Mutex<HashMap<InstallationId, u32>>,
}

impl WorkspaceShared {
    pub(crate) fn new(setup: Setup, plan: Plan) -> WorkspaceShared {
        WorkspaceShared {
            setup: ArcSwap::from_pointee(setup),
            plan: ArcSwap::from_pointee(plan),
            index: RwLock::new(Index::new()),
            ordinals: RwLock::new(Vec::new()),
            versions: RwLock::new(Vec::new()),
            computed: RwLock::default(),
            backlog: RwLock::new(None),
            is_plan_new: AtomicBool::new(true),
            strikes: Mutex::default(),
        }
    }

    /// Note that a new plan waits to be looked at, or that it has been.
    pub(crate) fn pending_plan(&self, is_new: bool) {
        self.is_plan_new.store(is_new, Ordering::SeqCst);
    }

    /// Profiles looked at, of how many, while something new is computed for the first time.
    pub(crate) fn outstanding(&self) -> Option<(u64, u64)> {
        let is_new = self.is_plan_new.load(Ordering::SeqCst);
        self.backlog.read().or(is_new.then_some((0, 1)))
    }
}

/// The kernel's shared state.
pub(crate) struct Shared {
    pub store: Arc<dyn Store>,
    pub clock: Arc<dyn Clock>,
    pub observer: Arc<dyn Observer>,
    pub accept: mpsc::Sender<Request>,
    pub workspaces: RwLock<HashMap<WorkspaceId, Arc<WorkspaceShared>>>,
    pub stopping: AtomicBool,
    reacted: AtomicU64,
}

impl Shared {
    pub(crate) fn new(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        accept: mpsc::Sender<Request>,
    ) -> Shared {
        Shared {
            store,
            clock,
            observer,
            accept,
            workspaces: RwLock::default(),
            stopping: AtomicBool::new(false),
            reacted: AtomicU64::new(0),
        }
    }

    pub(crate) fn workspace(&self, id: WorkspaceId) -> Option<Arc<WorkspaceShared>> {
        self.workspaces.read().get(&id).cloned()
    }

    pub(crate) fn is_stopping(&self) -> bool {
        self.stopping.load(Ordering::SeqCst)
    }

    /// Up to where everything is computed.
    pub(crate) fn reacted(&self) -> Position {
        Position(self.reacted.load(Ordering::SeqCst))
    }

    pub(crate) fn set_reacted(&self, position: Position) {
        self.reacted.store(position.0, Ordering::SeqCst);
    }

    /// Count a fault against its installation; the third in a row quarantines it.
    pub(crate) fn strike(&self, workspace: WorkspaceId, installation: InstallationId, fault: &PluginFault) {
        metrics::counter!("kith_plugin_faults_total", "code" => fault.code()).increment(1);
        tracing::warn!(workspace = workspace.0, installation = installation.0, code = fault.code(), %fault, "plugin fault");
        let Some(shared) = self.workspace(workspace) else { return };
        if !fault.is_strike() {
            return;
        }
        let strikes = {
            let mut all = shared.strikes.lock();
            let strikes = all.entry(installation).or_default();
            *strikes += 1;
            *strikes
        };
        if strikes < MAX_STRIKES {
            return;
        }
        shared.strikes.lock().remove(&installation);
        let reason = format!("{MAX_STRIKES} faults in a row, the last: {fault}");
        let since = self.clock.now();
        shared.setup.rcu(|setup| {
            let mut setup = Setup::clone(setup);
            for installed in setup.installations.iter_mut().filter(|installed| installed.id == installation) {
                installed.activity = Activity::Held { since, why: reason.clone() };
            }
            setup
        });
        tracing::error!(workspace = workspace.0, installation = installation.0, reason, "quarantined");
        self.observer.held(workspace, installation, &reason);
    }

    /// The installation answered well: earlier strikes are forgotten.
    pub(crate) fn forgive(&self, workspace: WorkspaceId, installation: InstallationId) {
        if let Some(shared) = self.workspace(workspace) {
            shared.strikes.lock().remove(&installation);
        }
    }
}

/// Sending from a thread that may or may not belong to the async runtime.
pub(crate) trait BlockingOrTry {
    /// Send, waiting for room; fails only when the receiver is gone.
    fn blocking_or_try(&self, request: Request) -> Result<(), ()>;
}

impl BlockingOrTry for mpsc::Sender<Request> {
    fn blocking_or_try(&self, mut request: Request) -> Result<(), ()> {
        loop {
            request = match self.try_send(request) {
                Ok(()) => return Ok(()),
                Err(mpsc::error::TrySendError::Closed(_)) => return Err(()),
                Err(mpsc::error::TrySendError::Full(request)) => request,
            };
            std::thread::park_timeout(std::time::Duration::from_millis(1));
        }
    }
}
