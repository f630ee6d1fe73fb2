//! Workspaces that come and go while the kernel runs.

use std::collections::btree_map::Entry;
use std::sync::{Arc, Weak};
use std::time::{Duration, Instant};

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::Timestamp;

use crate::plan::SetupError;
use crate::setup::Setup;
use crate::shared::{KernelState, Workspace};
use crate::workers::{Phase, TaskScope};
use crate::{CheckedSetup, Kernel, backtest, deliver, fit, offload, poll};

/// The name of the task that begins trials and writes what shadows have come to.
const TRIALS: &str = "trials";

/// How often it is looked for installations whose trial is due, and for counts of shadows; the kernel's clock may be a test's.
const TRIALS_PERIOD: Duration = Duration::from_secs(1);

/// How long a workspace that is taken out waits for a trial that begins.
const TRIAL_ENDS: Duration = Duration::from_secs(10);

/// Try installations of a workspace again that were stopped, until it stops.
pub(crate) fn begin_trials(shared: &Arc<KernelState>, workspace: &Arc<Workspace>) {
    shared.workers.task(TRIALS, workspace.id, try_again(Arc::downgrade(shared), Arc::clone(workspace)));
}

/// Put on trial what was stopped long enough ago, and write what shadows have come to where nothing else has it written.
async fn try_again(shared: Weak<KernelState>, workspace: Arc<Workspace>) {
    let mut phase = workspace.phase();
    loop {
        let wait = phase.wait_for(|phase| *phase != Phase::Running);
        if tokio::time::timeout(TRIALS_PERIOD, wait).await.is_ok() {
            return;
        }
        let Some(shared) = shared.upgrade() else { return };
        let (trying, tried) = (Arc::clone(&shared), Arc::clone(&workspace));
        // Another setup is compiled where one begins.
        let begun = offload::run(move || {
            trying.shadows.keep_due(&trying, tried.id, Instant::now());
            trying.begin_trials(&tried)
        });
        if begun.await {
            shared.wake_reactor(workspace.id);
            deliver::start_senders(&shared, workspace.id);
        }
    }
}

/// Whether a workspace was begun.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WorkspaceStart {
    Now,
    Already,
}

impl Kernel {
    /// Run a workspace that does not run: a new one, or one that was taken out with [`Kernel::remove`]. It goes on as after a
    /// restart: what was due meanwhile passes the gate as things are now. Where it runs already, nothing happens: what it runs
    /// is at least as new. Blocks until its index stands.
    ///
    /// # Errors
    /// [`SetupError`] as for [`Kernel::configure`].
    pub fn add(&self, setup: Setup) -> Result<(), SetupError> {
        let id = setup.workspace;
        if self.begin(self.check(setup, None)?) == WorkspaceStart::Already {
            return Ok(());
        }
        if let Some(workspace) = self.shared.workspace(id) {
            self.shared.accept.set_rules(&workspace.compiled.load().setup);
        }
        self.shared.wake_reactor(id);
        deliver::start_senders(&self.shared, id);
        poll::start(&self.shared, id);
        if let Some(workspace) = self.shared.workspace(id) {
            backtest::follow(&self.shared, &workspace);
        }
        Ok(())
    }

    /// Put a workspace into the table and open its reactor, unless it is there.
    pub(crate) fn begin(&self, checked: CheckedSetup) -> WorkspaceStart {
        let workspace = Arc::new(Workspace::of(checked));
        match self.shared.workspaces.write().entry(workspace.id) {
            Entry::Occupied(_) => return WorkspaceStart::Already,
            Entry::Vacant(free) => drop(free.insert(Arc::clone(&workspace))),
        }
        // A stop tells those whom it finds in the table, and has begun before it looks.
        if self.shared.is_closing() {
            workspace.begin_stop();
        }
        if let Err(error) = self.reactors.open(&workspace) {
            tracing::error!(workspace = workspace.id.0, %error, "nothing can be read; the workspace's reactor tries again");
        }
        begin_trials(&self.shared, &workspace);
        WorkspaceStart::Now
    }

    /// When an installation that the kernel stopped is tried again; `None` for one that is not.
    pub fn next_trial(&self, workspace: WorkspaceId, installation: InstallationId) -> Option<Timestamp> {
        let known = self.shared.workspace(workspace)?;
        let compiled = known.compiled.load();
        known.trials.due_at(installation, &compiled.setup.installation(installation)?.activity)
    }

    /// Whether a workspace is run.
    pub fn runs(&self, workspace: WorkspaceId) -> bool {
        self.shared.workspace(workspace).is_some_and(|known| !known.is_stopping())
    }

    /// Begin to take a workspace out: from this call on nothing of it is taken in, no message begins to leave and no pass is
    /// begun. Ends at once; [`Kernel::remove`] does the rest.
    pub fn begin_removal(&self, workspace: WorkspaceId) {
        if let Some(known) = self.shared.workspace(workspace) {
            known.begin_stop();
        }
    }

    /// Take a workspace out of what runs, in the order of a stop, and free what it held. What it has in the store stays, its
    /// outboxes too. Blocks until nothing of it is under way: when this returns, nothing of it leaves or is computed any more,
    /// but for a guest's call under way, which ends within its limits and of which nothing is kept. To be called for one
    /// workspace by one caller at a time, and to have ended before the workspace is added again.
    pub fn remove(&self, workspace: WorkspaceId) {
        self.begin_removal(workspace);
        // One that begins would start senders again.
        self.shared.workers.wait_for_tasks(TRIALS, TaskScope::Workspace(workspace), TRIAL_ENDS);
        poll::close(&self.shared, workspace);
        deliver::close(&self.shared, workspace);
        fit::stop(&self.shared, TaskScope::Workspace(workspace));
        backtest::stop(&self.shared, TaskScope::Workspace(workspace));
        self.shared.guests.forget_workspace(workspace);
        self.shared.shadows.keep(&self.shared, Some(workspace));
        self.shared.shadows.forget_workspace(workspace);
        self.shared.backtests.forget_workspace(workspace);
        self.shared.accept.close(workspace);
        self.reactors.close(workspace);
        self.shared.input_faults.forget_workspace(workspace);
        self.shared.gathering.forget_workspace(workspace);
        self.shared.workspaces.write().remove(&workspace);
    }
}
