//! Fitting a model: the rows of all profiles, streamed through its plugin.

use std::sync::Arc;
use std::time::Duration;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Fitted, PluginFault};
use kith_model::table::Table;
use kith_model::time::Timestamp;

use crate::people_scan::ProfilePages;
use crate::plan::{ModelPlan, Plan};
use crate::react::models;
use crate::react::state::{Evaluation, ProfileFacts, ProfileState};
use crate::setup::{Activity, Setup};
use crate::shared::Shared;

/// Why a fit did not come about.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error("there is no such installation")]
    UnknownInstallation,
    #[error("the installation is held: {why}; make it run before fitting")]
    NotLive { why: String },
    #[error("a {kind} is not fitted; only tag models and scorers are")]
    NotAModel { kind: String },
    #[error("the kernel is shutting down")]
    Stopping,
    #[error("the data set could not be read: {0}")]
    Read(String),
    #[error(transparent)]
    Fault(PluginFault),
}

/// The rows of a fit, made as the plugin asks for them.
struct Dataset {
    pages: ProfilePages,
    plan: Arc<Plan>,
    setup: Arc<Setup>,
    installation: InstallationId,
    now: Timestamp,
    waiting: Vec<ProfileState>,
    /// Where the reader's error is left for the caller: the plugin sees only the data set's end.
    failed: Arc<parking_lot::Mutex<Option<String>>>,
    rows: Arc<std::sync::atomic::AtomicU64>,
}

impl Dataset {
    fn next_table(&mut self) -> Result<Option<Table>, String> {
        let view = Evaluation { plan: &self.plan, zone: &self.setup.zone, now: self.now };
        while self.waiting.len() < models::MAX_BATCH_ROWS {
            match self.pages.next_page(&view).map_err(|error| error.to_string())? {
                Some(profiles) => self.waiting.extend(profiles),
                None => break,
            }
        }
        let count = self.waiting.len().min(models::MAX_BATCH_ROWS);
        if count == 0 {
            return Ok(None);
        }
        let batch: Vec<ProfileState> = self.waiting.drain(..count).collect();
        let Some(model) = model(&self.plan, self.installation) else {
            return Err("the installation was removed while it was being fitted".into());
        };
        let rows = batch.iter().map(|state| models::inputs(model, &ProfileFacts { state, plan: &self.plan }, self.now));
        let table = models::table(model, rows).map_err(|fault| fault.to_string())?;
        self.rows.fetch_add(count as u64, std::sync::atomic::Ordering::Relaxed);
        Ok(Some(table))
    }
}

impl Iterator for Dataset {
    type Item = Table;

    fn next(&mut self) -> Option<Table> {
        match self.next_table() {
            Ok(table) => table,
            Err(problem) => {
                *self.failed.lock() = Some(problem);
                None
            }
        }
    }
}

fn model(plan: &Plan, installation: InstallationId) -> Option<&ModelPlan> {
    plan.models.iter().find(|model| model.installed.id == installation)
}

/// Fit a model on all profiles, on this thread. Waits first until the history behind its inputs has been read.
pub(crate) fn run(
    shared: &Arc<Shared>,
    workspace: WorkspaceId,
    installation: InstallationId,
    rows: Arc<std::sync::atomic::AtomicU64>,
) -> Result<Fitted, FitError> {
    let known = shared.workspace(workspace).ok_or(FitError::UnknownInstallation)?;
    let setup = known.setup.load_full();
    let installed =
        setup.installations.iter().find(|known| known.id == installation).ok_or(FitError::UnknownInstallation)?;
    if let Activity::Held { why, .. } = &installed.activity {
        return Err(FitError::NotLive { why: why.clone() });
    }
    // The history is complete once nothing waits and the feed has been read as far as it went when the fit was asked for.
    let head = shared.store.head();
    while known.outstanding().is_some() || shared.reacted() < head {
        if shared.is_stopping() {
            return Err(FitError::Stopping);
        }
        shared.store.wait_for_change(shared.store.head(), Duration::from_millis(20));
    }
    let plan = known.plan.load_full();
    let Some(found) = model(&plan, installation) else {
        return Err(FitError::NotAModel { kind: installed.kind.to_string() });
    };
    let failed = Arc::new(parking_lot::Mutex::new(None));
    let dataset = Dataset {
        pages: ProfilePages::new(Arc::clone(&shared.store), workspace),
        plan: Arc::clone(&plan),
        setup,
        installation,
        now: shared.clock.now(),
        waiting: Vec::new(),
        failed: Arc::clone(&failed),
        rows,
    };
    let fitted = found.model.fit(Box::new(dataset));
    if let Some(problem) = failed.lock().take() {
        return Err(FitError::Read(problem));
    }
    fitted.map_err(|fault| {
        shared.strike(workspace, installation, &fault);
        FitError::Fault(fault)
    })
}
