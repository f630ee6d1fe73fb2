//! Fitting a model: the rows of all profiles, streamed through its plugin.
//!
//! A fit is a task of the workers. It waits for the history behind its inputs without a thread, calls the guest on the guests'
//! threads, and hands what came of it to whoever keeps it. A stop cancels it: it ends within moments and nothing of it is kept.
//! Of a model with labels, what came of it is compared with the fit in use before that.

mod held_out;
mod inputs;
mod measures;
pub(crate) mod rows;
pub(crate) mod training;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kith_model::budget::Exhausted;
use kith_model::id::{InstallationId, Position, WorkspaceId};
use kith_model::plugin::{Batch, Cancellation, Dataset, Fitted, PluginFault, PluginKind};
use parking_lot::Mutex;

use self::held_out::Comparison;
pub use self::held_out::{HeldOut, Judged};
pub use self::inputs::FitInput;
use self::inputs::InputFigures;
pub use self::measures::Measure;
use self::rows::{Rows, Source};
use self::training::{LabelledBatches, Part};
use crate::guests::{Caller, ExecutorStopped, GuestClass};
use crate::offload;
use crate::plan::ModelPlan;
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
    /// Profiles when it began, and of a model that learns from the history for each cut-off: more rows there are not.
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
    held_out: Arc<Mutex<Option<HeldOut>>>,
}

impl FitSlot {
    /// Take the installation's place; `None` while a fit of it is under way.
    pub(crate) fn take(shared: &KernelState, workspace: WorkspaceId, installation: InstallationId) -> Option<FitSlot> {
        let known = shared.workspace(workspace);
        let rows = known.map_or(0, |known| {
            let people = known.projection.read().index.population().len();
            let compiled = known.compiled.load();
            let training = compiled.setup.installation(installation).and_then(|installed| installed.training.as_ref());
            people * training.map_or(1, |training| u64::from(training.cut_offs))
        });
        let (fits, rows_done) = (Arc::clone(&shared.fits), Arc::new(AtomicU64::new(0)));
        let mut under_way = fits.0.lock();
        if under_way.contains_key(&(workspace, installation)) {
            return None;
        }
        let rows = RowCounts { done: Arc::clone(&rows_done), total: rows };
        under_way.insert((workspace, installation), rows);
        drop(under_way);
        Some(FitSlot { fits, workspace, installation, rows_done, inputs: Arc::default(), held_out: Arc::default() })
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

    /// How the fit and the one in use compare, of a model with labels.
    pub fn held_out(&self) -> Option<HeldOut> {
        self.held_out.lock().clone()
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
            held_out: Arc::clone(&slot.held_out),
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
    held_out: Arc<Mutex<Option<HeldOut>>>,
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
        let Call { shared, workspace, compiled, installation, cancellation, .. } = &self;
        let source = Source::now(shared, workspace, compiled, *installation, cancellation);
        let position = source.position();
        let dataset = FitRows {
            rows: Rows::new(source.clone(), Part::Learning),
            taken: 0,
            done: Arc::clone(&self.rows),
            failed: Arc::clone(&failed),
            inputs: Arc::clone(&self.inputs),
        };
        let fitted = model.model.fit(Box::new(dataset), &self.cancellation);
        // A data set that was cut off makes a model that looks like a good one.
        if let Some(problem) = failed.lock().take() {
            return Err(problem);
        }
        let fitted = fitted.map_err(|fault| {
            if fault == PluginFault::Cancelled {
                return FitError::Stopping;
            }
            self.strike(position, &fault);
            FitError::Fault(fault)
        })?;
        self.compare(model, source, &fitted)?;
        Ok(fitted)
    }

    /// Compare the fit with the one in use, of a model with labels.
    fn compare(&self, model: &ModelPlan, source: Source, fitted: &Fitted) -> Result<(), FitError> {
        let Some(training) = &model.training else { return Ok(()) };
        let (position, cancellation) = (source.position(), &self.cancellation);
        let challenger = fitted.state.as_slice().into();
        let comparison = Comparison { model, challenger, has_truths: training.has_truths(), cancellation };
        let (held_out, fault) = comparison.run(LabelledBatches::new(source.again(), Part::HeldOut))?;
        if let Some(fault) = fault {
            self.strike(position, &fault);
        }
        *self.held_out.lock() = Some(held_out);
        Ok(())
    }

    /// Count a fault, all of one fit as one.
    fn strike(&self, position: Position, fault: &PluginFault) {
        self.shared.strike(&self.workspace, self.installation, fault, Culprit::Content(position.0));
    }
}

/// The rows of a fit, as the plugin asks for them.
struct FitRows {
    rows: Rows,
    /// How many the plugin has taken in this pass.
    taken: u64,
    /// The most that it has taken in one pass.
    done: Arc<AtomicU64>,
    /// Where the reader's error is left for the caller: the plugin sees only the data set's end.
    failed: Arc<Mutex<Option<FitError>>>,
    inputs: Arc<InputFigures>,
}

impl Dataset for FitRows {
    fn next_batch(&mut self) -> Option<Batch> {
        match self.rows.next_batch() {
            Ok(batch) => batch.inspect(|batch| self.note(batch)),
            Err(problem) => {
                *self.failed.lock() = Some(problem);
                None
            }
        }
    }

    fn rewind(&mut self) {
        self.rows.rewind();
        self.taken = 0;
    }
}

impl FitRows {
    /// Count the rows of a batch, those of a later pass not again.
    fn note(&mut self, batch: &Batch) {
        self.taken += batch.rows.rows as u64;
        if self.done.fetch_max(self.taken, Ordering::Relaxed) < self.taken {
            self.inputs.add(&batch.rows);
        }
    }
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
