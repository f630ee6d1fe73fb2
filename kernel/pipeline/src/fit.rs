//! Fitting a model: the rows of all profiles, streamed through its plugin.
//!
//! A fit is a task of the workers. It waits for the history behind its inputs without a thread, calls the guest on the guests'
//! threads, and hands what came of it to whoever keeps it. A stop cancels it: it ends within moments and nothing of it is kept.

mod inputs;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kith_features::LeafSet;
use kith_model::budget::Exhausted;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Cancellation, Fitted, PluginFault, PluginKind};
use kith_model::table::Table;
use kith_model::time::Timestamp;
use parking_lot::Mutex;

pub use self::inputs::FitInput;
use self::inputs::InputFigures;
use crate::guests::{Caller, ExecutorStopped, GuestClass};
use crate::offload;
use crate::plan::ModelPlan;
use crate::profiles::evaluation::{Evaluation, Profile};
use crate::profiles::person::Person;
use crate::profiles::scan::ProfilePages;
use crate::react::models::{self, InputRow};
use crate::setup::{Activity, Installed};
use crate::shared::{CompiledSetup, Culprit, KernelState, Workspace};
use crate::workers::{Ending, Phase, TaskScope};

/// The name of the tasks.
const FIT: &str = "fit";

/// The longest wait between two looks at the reactor's progress, where no pass ends meanwhile: a fit that is cancelled and an
/// installation that is held tell nobody.
const LOOK: Duration = Duration::from_millis(50);

/// A fit that was cancelled ends within moments; a machine under load may take this long.
const GRACE: Duration = Duration::from_secs(10);

/// Why a fit did not come about.
#[derive(Debug, thiserror::Error)]
pub enum FitError {
    #[error("there is no such installation")]
    UnknownInstallation,
    #[error("the installation does not run ({why}); switch it on before fitting")]
    Held { why: String },
    #[error("another version was put in its place while it waited to begin; fit again")]
    OtherVersion,
    #[error("a {kind} is not fitted; only tag models and scorers are")]
    NotAModel { kind: String },
    #[error("the server stopped before it was done; fit again")]
    Stopping,
    #[error("too many fits of the installation wait; fit again once they are done")]
    Busy,
    #[error("the data set could not be read: {0}")]
    Read(String),
    #[error(transparent)]
    Fault(PluginFault),
}

impl From<ExecutorStopped> for FitError {
    fn from(_: ExecutorStopped) -> FitError {
        FitError::Stopping
    }
}

impl From<Exhausted> for FitError {
    fn from(_: Exhausted) -> FitError {
        FitError::Busy
    }
}

/// How far a fit is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct FitProgress {
    pub rows_done: u64,
    /// Profiles when it began.
    pub rows_total: u64,
}

/// The fits under way, at most one for an installation.
#[derive(Default)]
pub(crate) struct FitsUnderWay(Mutex<BTreeMap<(WorkspaceId, InstallationId), RowCounts>>);

/// The rows of a fit under way.
struct RowCounts {
    /// Written by the guest's thread.
    done: Arc<AtomicU64>,
    total: u64,
}

impl FitsUnderWay {
    /// How far the installation's fit is, if one is under way.
    pub(crate) fn progress(&self, workspace: WorkspaceId, installation: InstallationId) -> Option<FitProgress> {
        let under_way = self.0.lock();
        let rows = under_way.get(&(workspace, installation))?;
        Some(FitProgress { rows_done: rows.done.load(Ordering::Relaxed), rows_total: rows.total })
    }
}

/// An installation's place among the fits under way. It is free again when this is dropped.
pub struct FitSlot {
    fits: Arc<FitsUnderWay>,
    workspace: WorkspaceId,
    installation: InstallationId,
    rows_done: Arc<AtomicU64>,
    /// Written by the guest's thread, too.
    inputs: Arc<InputFigures>,
}

impl FitSlot {
    /// Take the installation's place; `None` while a fit of it is under way.
    pub(crate) fn take(shared: &KernelState, workspace: WorkspaceId, installation: InstallationId) -> Option<FitSlot> {
        let known = shared.workspace(workspace);
        let population = known.map_or(0, |known| known.projection.read().index.population().len());
        let (fits, rows_done) = (Arc::clone(&shared.fits), Arc::new(AtomicU64::new(0)));
        let mut under_way = fits.0.lock();
        if under_way.contains_key(&(workspace, installation)) {
            return None;
        }
        let rows = RowCounts { done: Arc::clone(&rows_done), total: population };
        under_way.insert((workspace, installation), rows);
        drop(under_way);
        Some(FitSlot { fits, workspace, installation, rows_done, inputs: Arc::default() })
    }
}

impl FitSlot {
    /// How many rows the plugin has taken.
    pub fn rows_done(&self) -> u64 {
        self.rows_done.load(Ordering::Relaxed)
    }

    /// What the plugin has taken of each input.
    pub fn inputs(&self) -> Vec<FitInput> {
        self.inputs.read()
    }
}

impl Drop for FitSlot {
    fn drop(&mut self) {
        self.fits.0.lock().remove(&(self.workspace, self.installation));
    }
}

/// Keeps what came of a fit, and gives its place free together with that: whoever sees the outcome may begin the next one.
/// Blocking.
pub(crate) type Keep = Box<dyn FnOnce(Result<Fitted, FitError>, FitSlot) + Send>;

/// Fit the version with that digest in the background.
pub(crate) fn begin(shared: &Arc<KernelState>, slot: FitSlot, digest: String, keep: Keep) {
    let workspace = slot.workspace;
    let task = run(Arc::clone(shared), slot, digest, keep);
    shared.workers.task(FIT, workspace, task);
}

/// Wait until the fits that were cancelled have said so to whoever keeps what came of them.
pub(crate) fn stop(shared: &KernelState, whose: TaskScope) {
    if let Ending::TimedOut { running } = shared.workers.wait_for_tasks(FIT, whose, GRACE) {
        tracing::warn!(running, "fits did not end in time; after the next start they show as failed");
    }
}

async fn run(shared: Arc<KernelState>, slot: FitSlot, digest: String, keep: Keep) {
    let Some(known) = shared.workspace(slot.workspace) else {
        return offload::run(move || keep(Err(FitError::UnknownInstallation), slot)).await;
    };
    let mut phase = known.phase();
    drop(known);
    let cancellation = Cancellation::default();
    let outcome = {
        let mut fit = std::pin::pin!(fit(&shared, &slot, &digest, &cancellation));
        let ended = tokio::select! {
            outcome = &mut fit => Some(outcome),
            _ = phase.wait_for(|phase| *phase != Phase::Running) => None,
        };
        match ended {
            Some(outcome) => outcome,
            None => {
                cancellation.cancel();
                fit.await
            }
        }
    };
    offload::run(move || keep(outcome, slot)).await;
}

/// One fit, from the wait for its inputs to the guest's answer.
async fn fit(
    shared: &Arc<KernelState>,
    slot: &FitSlot,
    digest: &str,
    cancellation: &Cancellation,
) -> Result<Fitted, FitError> {
    let workspace = shared.workspace(slot.workspace).ok_or(FitError::UnknownInstallation)?;
    let compiled = wait_for_inputs(shared, &workspace, slot.installation, cancellation).await?;
    let (call, memory_bytes) = {
        let installed = compiled.setup.installation(slot.installation).ok_or(FitError::UnknownInstallation)?;
        // Its result is kept as that version's, which reads other bytes, maybe.
        if installed.digest != digest {
            return Err(FitError::OtherVersion);
        }
        let call = Call {
            shared: Arc::clone(shared),
            workspace,
            compiled: Arc::clone(&compiled),
            installation: slot.installation,
            rows: Arc::clone(&slot.rows_done),
            inputs: Arc::clone(&slot.inputs),
            cancellation: cancellation.clone(),
        };
        (call, installed.call_memory_bytes)
    };
    let caller = Caller {
        workspace: slot.workspace,
        installation: slot.installation,
        class: GuestClass::Fit,
        // The rows are made as the guest asks for them.
        bytes: 0,
        memory_bytes,
    };
    shared.guests.run(caller, move || call.run())?.finish().await?
}

/// What the guest's thread needs of a fit.
struct Call {
    shared: Arc<KernelState>,
    workspace: Arc<Workspace>,
    compiled: Arc<CompiledSetup>,
    installation: InstallationId,
    rows: Arc<AtomicU64>,
    inputs: Arc<InputFigures>,
    cancellation: Cancellation,
}

impl Call {
    fn run(self) -> Result<Fitted, FitError> {
        if self.cancellation.is_cancelled() {
            return Err(FitError::Stopping);
        }
        let Some((_, model)) = self.compiled.plan.model(self.installation) else {
            let installed = self.compiled.setup.installation(self.installation);
            return Err(match installed.map(|installed| installed.kind) {
                // The plan leaves out one that is held where another one that is wanted writes the same.
                Some(PluginKind::TagModel | PluginKind::Scorer) => {
                    FitError::Held { why: "another installation writes the same tags or scores".to_owned() }
                }
                kind => FitError::NotAModel { kind: kind.map_or_else(String::new, |kind| kind.to_string()) },
            });
        };
        let failed = Arc::new(Mutex::new(None));
        let (complete, as_of) = {
            let projection = self.workspace.projection.read();
            (Arc::clone(&projection.complete), projection.as_of)
        };
        let dataset = Dataset {
            pages: ProfilePages::new(Arc::clone(&self.shared.store), self.workspace.id),
            shared: Arc::clone(&self.shared),
            workspace: Arc::clone(&self.workspace),
            compiled: Arc::clone(&self.compiled),
            complete,
            installation: self.installation,
            now: as_of.time,
            profiles: Vec::new().into_iter(),
            left_over: None,
            failed: Arc::clone(&failed),
            rows: self.rows,
            inputs: self.inputs,
            cancellation: self.cancellation.clone(),
        };
        let fitted = model.model.fit(Box::new(dataset), &self.cancellation);
        // A data set that was cut off makes a model that looks like a good one.
        if let Some(problem) = failed.lock().take() {
            return Err(problem);
        }
        fitted.map_err(|fault| {
            if fault == PluginFault::Cancelled {
                return FitError::Stopping;
            }
            let culprit = Culprit::Content(as_of.position.0);
            self.shared.strike(&self.workspace, self.installation, &fault, culprit);
            FitError::Fault(fault)
        })
    }
}

/// The rows of a fit, made as the plugin asks for them.
struct Dataset {
    shared: Arc<KernelState>,
    workspace: Arc<Workspace>,
    compiled: Arc<CompiledSetup>,
    complete: Arc<LeafSet>,
    pages: ProfilePages,
    installation: InstallationId,
    now: Timestamp,
    /// The profiles of the page that was read last that are not rows yet.
    profiles: std::vec::IntoIter<Vec<Person>>,
    /// The row that would have made the last table too large.
    left_over: Option<InputRow>,
    /// Where the reader's error is left for the caller: the plugin sees only the data set's end.
    failed: Arc<Mutex<Option<FitError>>>,
    rows: Arc<AtomicU64>,
    inputs: Arc<InputFigures>,
    cancellation: Cancellation,
}

impl Dataset {
    fn next_table(&mut self) -> Result<Option<Table>, FitError> {
        let compiled = Arc::clone(&self.compiled);
        let Some((_, model)) = compiled.plan.model(self.installation) else {
            return Err(FitError::UnknownInstallation);
        };
        let (mut rows, mut bytes) = (Vec::new(), 0);
        while rows.len() < models::MAX_BATCH_ROWS
            && let Some(row) = self.next_row(model)?
        {
            bytes += models::row_bytes(&row);
            if bytes > models::MAX_BATCH_BYTES && !rows.is_empty() {
                self.left_over = Some(row);
                break;
            }
            rows.push(row);
        }
        if rows.is_empty() {
            return Ok(None);
        }
        let columns: Vec<_> = model.inputs.iter().map(|(spec, _)| spec.clone()).collect();
        let table = models::table(&columns, rows.iter().map(|row| row.cells.as_slice())).map_err(FitError::Fault)?;
        self.rows.fetch_add(rows.len() as u64, Ordering::Relaxed);
        self.inputs.add(&table);
        Ok(Some(table))
    }

    /// The next profile's inputs, made when they are asked for: those of a page of profiles may take more than the profiles.
    fn next_row(&mut self, model: &ModelPlan) -> Result<Option<InputRow>, FitError> {
        if let Some(row) = self.left_over.take() {
            return Ok(Some(row));
        }
        loop {
            if self.cancellation.is_cancelled() {
                return Err(FitError::Stopping);
            }
            if let Some(people) = self.profiles.next() {
                if let Some(row) = self.row(model, people)? {
                    return Ok(Some(row));
                }
                continue;
            }
            match self.pages.next_page().map_err(unread)? {
                Some(profiles) => self.profiles = profiles.into_iter(),
                None => return Ok(None),
            }
        }
    }

    /// One profile's inputs; none while one of them is unknown, or where one is no cell of its column: such a person has a dead
    /// letter from the computation, and would keep the model from learning of everybody else.
    fn row(&self, model: &ModelPlan, mut people: Vec<Person>) -> Result<Option<InputRow>, FitError> {
        let compiled = &self.compiled;
        for person in &mut people {
            let leaves = model.leaves().filter_map(|leaf| compiled.plan.program.leaf(leaf));
            person.load_sealed(self.shared.store.as_ref(), self.workspace.id, leaves).map_err(unread)?;
        }
        let zone = &compiled.setup.zone;
        let view = Evaluation { plan: &compiled.plan, zone, complete: &self.complete, now: self.now };
        let profile = Profile::new(people.iter().collect(), view);
        let today = zone.start_of_day(zone.day(self.now));
        Ok(models::inputs(model, &profile, today).filter(|row| row.misfit.is_none()))
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

fn unread(error: kith_store::ReadError) -> FitError {
    FitError::Read(error.to_string())
}

/// Wait until the leaves behind the model's inputs hold their history, up to where the log was when the fit was asked for.
async fn wait_for_inputs(
    shared: &KernelState,
    workspace: &Workspace,
    installation: InstallationId,
    cancellation: &Cancellation,
) -> Result<Arc<CompiledSetup>, FitError> {
    let head = shared.store.head();
    loop {
        // Before the look, so that a pass which ends after it is heard.
        let pass = workspace.pass_done.notified();
        let compiled = workspace.compiled.load_full();
        let installed = compiled.setup.installation(installation).ok_or(FitError::UnknownInstallation)?;
        may_be_fitted(installed)?;
        let is_ready = {
            let projection = workspace.projection.read();
            let leaves = compiled.plan.model(installation).map(|(_, model)| model.leaves());
            let is_complete = leaves.is_none_or(|mut leaves| leaves.all(|leaf| projection.complete.contains(leaf)));
            projection.generation == compiled.generation && is_complete && projection.as_of.position >= head
        };
        if is_ready {
            return Ok(compiled);
        }
        if cancellation.is_cancelled() {
            return Err(FitError::Stopping);
        }
        shared.wake_reactor(workspace.id);
        // Time over is no error: the next look is due.
        tokio::time::timeout(LOOK, pass).await.ok();
    }
}

fn may_be_fitted(installed: &Installed) -> Result<(), FitError> {
    match &installed.activity {
        Activity::Running | Activity::WaitsForFit { .. } | Activity::Quarantined { .. } => Ok(()),
        Activity::Held { why, .. } => Err(FitError::Held { why: why.clone() }),
    }
}
