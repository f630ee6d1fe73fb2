//! Fitting a model: the rows of all profiles, streamed through its plugin.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kith_features::LeafId;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Fitted, PluginFault};
use kith_model::table::{Cell, Table};
use kith_model::time::Timestamp;

use crate::plan::ModelPlan;
use crate::profiles::evaluation::{Evaluation, Profile};
use crate::profiles::person::{self, Person};
use crate::profiles::scan::ProfilePages;
use crate::react::models;
use crate::setup::Activity;
use crate::shared::{Compiled, Culprit, Shared, Workspace};

/// How long one look at the reactor's progress waits.
const LOOK: Duration = Duration::from_millis(50);

/// Why a fit did not come about.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error("there is no such installation")]
    UnknownInstallation,
    #[error("the installation does not run ({why}); switch it on before fitting")]
    Held { why: String },
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
    shared: Arc<Shared>,
    workspace: Arc<Workspace>,
    compiled: Arc<Compiled>,
    complete: Arc<std::collections::BTreeSet<LeafId>>,
    pages: ProfilePages,
    installation: InstallationId,
    now: Timestamp,
    waiting: Vec<Vec<Cell>>,
    /// Where the reader's error is left for the caller: the plugin sees only the data set's end.
    failed: Arc<parking_lot::Mutex<Option<String>>>,
    rows: Arc<AtomicU64>,
}

impl Dataset {
    fn next_table(&mut self) -> Result<Option<Table>, String> {
        let compiled = Arc::clone(&self.compiled);
        let Some((_, model)) = compiled.plan.model(self.installation) else {
            return Err("the installation was removed while it was being fitted".into());
        };
        while self.waiting.len() < models::MAX_BATCH_ROWS {
            match self.pages.next_page().map_err(|error| error.to_string())? {
                Some(profiles) => {
                    for people in profiles {
                        let row = self.row(model, people)?;
                        self.waiting.extend(row);
                    }
                }
                None => break,
            }
        }
        let count = self.waiting.len().min(models::MAX_BATCH_ROWS);
        if count == 0 {
            return Ok(None);
        }
        let batch: Vec<Vec<Cell>> = self.waiting.drain(..count).collect();
        let columns: Vec<_> = model.inputs.iter().map(|(spec, _)| spec.clone()).collect();
        let table = models::table(&columns, batch.iter().map(Vec::as_slice)).map_err(|fault| fault.to_string())?;
        self.rows.fetch_add(count as u64, Ordering::Relaxed);
        Ok(Some(table))
    }

    /// One profile's inputs; none while one of them is unknown.
    fn row(&self, model: &ModelPlan, mut people: Vec<Person>) -> Result<Option<Vec<Cell>>, String> {
        let compiled = &self.compiled;
        for person in &mut people {
            for leaf in model.leaves().filter_map(|leaf| compiled.plan.program.leaf(leaf)) {
                let sealed = person.derived.as_ref().map_or(0..0, |derived| derived.leaves.sealed(leaf.id()));
                if !sealed.is_empty() {
                    let store = self.shared.store.as_ref();
                    let states = person::read_sealed(store, self.workspace.id, person.id, leaf.id());
                    let states = states.map_err(|error| error.to_string())?;
                    person.sealed.insert(leaf.id(), leaf.merge(&states.iter().collect::<Vec<_>>()));
                }
            }
        }
        let zone = &compiled.setup.zone;
        let view = Evaluation { plan: &compiled.plan, zone, complete: &self.complete, now: self.now };
        let profile = Profile::new(people.iter().collect(), view);
        let today = zone.start_of_day(zone.day(self.now));
        Ok(models::inputs(model, &profile, today).map(|row| row.cells))
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

/// Fit a model on all profiles, on this thread. Waits first until the history behind its inputs has been read.
pub(crate) fn run(
    shared: &Arc<Shared>,
    id: WorkspaceId,
    installation: InstallationId,
    rows: Arc<AtomicU64>,
) -> Result<Fitted, FitError> {
    let workspace = shared.workspace(id).ok_or(FitError::UnknownInstallation)?;
    let compiled = wait_for_inputs(shared, &workspace, installation)?;
    let installed = compiled.setup.installation(installation).ok_or(FitError::UnknownInstallation)?;
    let Some((_, model)) = compiled.plan.model(installation) else {
        return Err(FitError::NotAModel { kind: installed.kind.to_string() });
    };
    let failed = Arc::new(parking_lot::Mutex::new(None));
    let (complete, as_of) = {
        let projection = workspace.projection.read();
        (Arc::clone(&projection.complete), projection.as_of)
    };
    let dataset = Dataset {
        pages: ProfilePages::new(Arc::clone(&shared.store), id),
        shared: Arc::clone(shared),
        workspace: Arc::clone(&workspace),
        compiled: Arc::clone(&compiled),
        complete,
        installation,
        now: as_of.time,
        waiting: Vec::new(),
        failed: Arc::clone(&failed),
        rows,
    };
    let fitted = model.model.fit(Box::new(dataset));
    if let Some(problem) = failed.lock().take() {
        return Err(FitError::Read(problem));
    }
    fitted.map_err(|fault| {
        shared.strike(&workspace, installation, &fault, Culprit::Content(as_of.position.0));
        FitError::Fault(fault)
    })
}

/// Wait until the leaves behind the model's inputs hold their history, up to where the log was when the fit was asked for.
fn wait_for_inputs(
    shared: &Arc<Shared>,
    workspace: &Workspace,
    installation: InstallationId,
) -> Result<Arc<Compiled>, FitError> {
    let head = shared.store.head();
    loop {
        let compiled = workspace.compiled.load_full();
        let installed = compiled.setup.installation(installation).ok_or(FitError::UnknownInstallation)?;
        if let Activity::Held { why, .. } = &installed.activity {
            return Err(FitError::Held { why: why.clone() });
        }
        let is_ready = {
            let projection = workspace.projection.read();
            let leaves = compiled.plan.model(installation).map(|(_, model)| model.leaves());
            let is_complete = leaves.is_none_or(|mut leaves| leaves.all(|leaf| projection.complete.contains(&leaf)));
            projection.generation == compiled.generation && is_complete && projection.as_of.position >= head
        };
        if is_ready {
            return Ok(compiled);
        }
        if shared.is_stopping() {
            return Err(FitError::Stopping);
        }
        shared.wake_reactor(workspace.id);
        workspace.wait_for_pass(LOOK);
    }
}
