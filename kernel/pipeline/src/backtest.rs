//! Versions of tag models and scorers that are tried over what is stored: everybody is looked at once, the version is asked about
//! them, its values are compared with those that are live now, and the conditions of audiences are evaluated as if they counted.
//! Nothing of it counts: its values are kept nowhere, its faults are nobody's strikes, nobody moves and nothing is sent.
//!
//! It is a task of the workers that hands one batch of people after the other to the thread of the versions that run beside the
//! live ones, which yields to all others, and so never has more than one call under way. How far it is and what it counted are
//! one row, written now and then ([`KeptRow`]), with examples of people: after a restart it goes on from there. A version of which
//! all is known is let go of.

mod batch;
mod effects;
pub(crate) mod report;

use std::collections::{BTreeMap, HashMap};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_features::{Expression, FeatureName};
use kith_model::id::{AudienceId, InstallationId, WorkspaceId};
use kith_store::keys::Definition;
use kith_store::{Key, ReadError, Store, row};
use parking_lot::Mutex;

use crate::guests::{Caller, GuestClass};
use crate::plan::{AudiencePlan, ModelPlan, Plan};
use crate::profiles::facts::get_one;
use crate::setup::{Installed, Setup};
use crate::shadow::kept::KeptRow;
use crate::shadow::{MAX_EXAMPLES, ShadowFailure};
use crate::shared::{CompiledSetup, KernelState, Workspace};
use crate::workers::{Ending, TaskScope};
use crate::{Kernel, offload};

use report::{
    BacktestChange, BacktestEnd, BacktestExample, BacktestKey, BacktestLine, BacktestReport, LiveKey, changes,
};

/// The name of the tasks.
const BACKTEST: &str = "backtest";

/// What the examples of one backtest take at most: they go with its row.
const MAX_EXAMPLE_BYTES: usize = if cfg!(test) { 4 << 10 } else { 256 << 10 };

/// The longest wait between two looks at what one waits for.
const LOOK: Duration = Duration::from_millis(50);

/// A batch ends within the limits of a call; a machine under load may take this long.
const GRACE: Duration = Duration::from_secs(10);

/// How a backtest stands.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum BacktestState {
    /// Until what is computed is as new as the events that were there when it was asked for.
    Waiting,
    Running,
    Ended(BacktestEnd),
}

/// What came of a backtest.
#[derive(Debug, Clone, PartialEq)]
pub struct BacktestView {
    pub state: BacktestState,
    pub report: BacktestReport,
    /// The first of each line, as far as there is room for them.
    pub examples: BTreeMap<BacktestLine, Vec<BacktestExample>>,
    pub last_failure: Option<ShadowFailure>,
    /// What is not as it was when it began.
    pub changes: Vec<BacktestChange>,
    /// Models that read one of the outputs. What they would say is not computed.
    pub readers: Vec<InstallationId>,
    /// Audiences that those models decide, and so are not looked at as far as they do.
    pub beyond: Vec<AudienceId>,
}

/// The backtests of all workspaces.
#[derive(Default)]
pub(crate) struct Backtests(Mutex<HashMap<(WorkspaceId, InstallationId), Arc<Run>>>);

/// One version tried over what is stored, from its beginning to its end.
pub(crate) struct Run {
    workspace: WorkspaceId,
    installation: InstallationId,
    of: BacktestKey,
    kept: Mutex<Kept>,
}

#[derive(Default)]
struct Kept {
    /// Read from its row when it is needed first.
    report: Option<BacktestReport>,
    row: KeptRow,
    /// What the examples take.
    example_bytes: usize,
    last_failure: Option<ShadowFailure>,
    /// Batches in a row of which it answered for nobody.
    fruitless: u32,
}

impl Kept {
    /// The report, as far as it was read.
    fn report(&mut self) -> &mut BacktestReport {
        self.report.get_or_insert_default()
    }

    fn example(&mut self, line: BacktestLine, example: impl FnOnce() -> BacktestExample) {
        let kept = self.report.get_or_insert_default().examples.entry(line).or_default();
        if kept.len() >= MAX_EXAMPLES {
            return;
        }
        let example = example();
        let bytes = self.example_bytes.saturating_add(example.size_bytes());
        if bytes <= MAX_EXAMPLE_BYTES {
            kept.push(example);
            self.example_bytes = bytes;
        }
    }
}

impl Backtests {
    /// The run of an installation's backtest as it is in force.
    fn run_of(&self, workspace: WorkspaceId, installed: &Installed) -> Option<Arc<Run>> {
        let of = BacktestKey::of(installed.backtest.as_ref()?);
        self.0.lock().get(&(workspace, installed.id)).filter(|run| run.of == of).cloned()
    }

    /// Whether a run is the one of its installation. Another one may be of the same version from the same moment on.
    fn is_known(&self, run: &Run) -> bool {
        let runs = self.0.lock();
        runs.get(&(run.workspace, run.installation)).is_some_and(|known| std::ptr::eq(Arc::as_ptr(known), run))
    }

    /// Write what is not yet written, of one workspace or of all.
    pub(crate) fn keep(&self, shared: &KernelState, of: Option<WorkspaceId>) {
        let runs: Vec<Arc<Run>> = self.0.lock().values().cloned().collect();
        for run in runs.into_iter().filter(|run| of.is_none_or(|of| of == run.workspace)) {
            run.keep(shared);
        }
    }

    /// The workspace is no longer run.
    pub(crate) fn forget_workspace(&self, workspace: WorkspaceId) {
        self.0.lock().retain(|(of, _), _| *of != workspace);
    }
}

/// A setup is in force: begin what it asks for, go on with what had begun, and forget what it asks for no longer.
pub(crate) fn follow(shared: &Arc<KernelState>, workspace: &Arc<Workspace>) {
    let compiled = workspace.compiled.load_full();
    let setup: &Setup = &compiled.setup;
    let (mut begun, mut dropped) = (Vec::new(), Vec::new());
    {
        let mut runs = shared.backtests.0.lock();
        runs.retain(|(of, id), run| {
            let stays = *of != setup.workspace || is_asked_for(setup, *id, &run.of);
            if !stays {
                dropped.push(Arc::clone(run));
            }
            stays
        });
        for installed in &setup.installations {
            let Some(version) = &installed.backtest else { continue };
            let place = (setup.workspace, installed.id);
            if runs.contains_key(&place) {
                continue;
            }
            let run = Arc::new(Run {
                workspace: setup.workspace,
                installation: installed.id,
                of: BacktestKey::of(version),
                kept: Mutex::default(),
            });
            runs.insert(place, Arc::clone(&run));
            begun.push(run);
        }
    }
    dropped.iter().for_each(|run| run.forget(shared));
    for run in begun {
        let task = work(Arc::clone(shared), Arc::clone(workspace), run);
        shared.workers.task(BACKTEST, setup.workspace, task);
    }
}

fn is_asked_for(setup: &Setup, installation: InstallationId, of: &BacktestKey) -> bool {
    let asked = setup.installation(installation).and_then(|installed| installed.backtest.as_ref());
    asked.is_some_and(|version| BacktestKey::of(version) == *of)
}

/// Wait until the batches under way have ended; those that were cut off count as if they had never begun.
pub(crate) fn stop(shared: &KernelState, whose: TaskScope) {
    if let Ending::TimedOut { running } = shared.workers.wait_for_tasks(BACKTEST, whose, GRACE) {
        tracing::warn!(running, "backtests did not end in time; after the next start they go on from what they kept");
    }
}

/// A run, from where it is to its end.
async fn work(shared: Arc<KernelState>, workspace: Arc<Workspace>, run: Arc<Run>) {
    let (state, reading) = (Arc::clone(&shared), Arc::clone(&run));
    if offload::run(move || reading.has_ended(state.store.as_ref())).await {
        return;
    }
    wait_for_reactor(&shared, &workspace, &run).await;
    while run.is_current(&shared, &workspace) {
        let caller = Caller {
            workspace: run.workspace,
            installation: run.installation,
            class: GuestClass::Shadow,
            // People are read when its turn has come, and there is one call at a time, whose memory is a budget of its own.
            bytes: 0,
            memory_bytes: 0,
        };
        let (state, of, asking) = (Arc::clone(&shared), Arc::clone(&workspace), Arc::clone(&run));
        let Ok(call) = shared.guests.run(caller, move || turn(&state, &of, &asking)) else {
            tokio::time::sleep(LOOK).await;
            continue;
        };
        match call.finish().await {
            Ok(batch::Next::Batch) => {}
            Ok(batch::Next::Nothing) | Err(_) => break,
        }
    }
    offload::run(move || run.close(&shared)).await;
}

/// Look at the next people of a run. A panic gives it up: the next turn would meet the same people, after a restart too.
fn turn(shared: &KernelState, workspace: &Workspace, run: &Run) -> batch::Next {
    catch_unwind(AssertUnwindSafe(|| batch::next(shared, workspace, run))).unwrap_or_else(|_| {
        run.give_up(shared, "panicked", "the host panicked; the log says where".to_owned());
        batch::Next::Nothing
    })
}

/// Wait until what is computed is of the setup in force and as new as the log is now.
async fn wait_for_reactor(shared: &KernelState, workspace: &Workspace, run: &Run) {
    let head = shared.store.head_of(workspace.id);
    while run.is_current(shared, workspace) {
        // Before the look, so that a pass which ends after it is heard.
        let pass = workspace.pass_done.notified();
        let is_ready = {
            let projection = workspace.projection.read();
            projection.generation == workspace.compiled.load().generation && projection.as_of.position >= head
        };
        if is_ready {
            return;
        }
        shared.wake_reactor(workspace.id);
        // Time over is no error: the next look is due.
        tokio::time::timeout(LOOK, pass).await.ok();
    }
}

fn key(workspace: WorkspaceId, installation: InstallationId) -> Key {
    Key::definition(workspace, Definition::BacktestReport, &installation.0.to_be_bytes())
}

/// The report of a run as it was written, with its row.
fn read(store: &dyn Store, key: &Key, of: &BacktestKey) -> Option<(BacktestReport, Vec<u8>)> {
    let decoded = |bytes: kith_store::Value| -> Result<(BacktestReport, Vec<u8>), ReadError> {
        Ok((row::decode(&bytes)?, bytes.to_vec()))
    };
    let read = get_one(store, key).and_then(|found| found.map(decoded).transpose());
    let read = read.unwrap_or_else(|error| {
        tracing::warn!(%error, "what came of a backtest does not read");
        None
    });
    read.filter(|(report, _)| report.of == *of)
}

/// Whether a backtest has ended as far as its row says: of one that has, nothing has to be loaded, since it is asked nothing more.
pub fn backtest_has_ended(
    store: &dyn Store,
    workspace: WorkspaceId,
    installation: InstallationId,
    of: &BacktestKey,
) -> bool {
    read(store, &key(workspace, installation), of).is_some_and(|(report, _)| report.ended.is_some())
}

impl Run {
    /// Whether it is still asked for, and its workspace runs.
    fn is_current(&self, shared: &KernelState, workspace: &Workspace) -> bool {
        !workspace.is_stopping() && self.is_in_force(shared, workspace)
    }

    /// Whether it is the run that the setup in force asks for.
    fn is_in_force(&self, shared: &KernelState, workspace: &Workspace) -> bool {
        let is_asked = is_asked_for(&workspace.compiled.load().setup, self.installation, &self.of);
        is_asked && shared.backtests.is_known(self)
    }

    fn key(&self) -> Key {
        key(self.workspace, self.installation)
    }

    /// The report as it was written, with its row; `None` where there is none of this run.
    fn read(&self, store: &dyn Store) -> Option<(BacktestReport, Vec<u8>)> {
        read(store, &self.key(), &self.of)
    }

    /// What is kept, with the report read.
    fn look<'k>(&self, store: &dyn Store, kept: &'k mut Kept) -> &'k mut Kept {
        if kept.report.is_none() {
            let (report, stored) = self.read(store).unzip();
            let report = report.unwrap_or_else(|| BacktestReport::new(self.of.clone()));
            kept.example_bytes = report.examples.values().flatten().map(BacktestExample::size_bytes).sum();
            kept.report = Some(report);
            let is_own = stored.is_some();
            kept.row.found(stored, is_own);
        }
        kept
    }

    fn has_ended(&self, store: &dyn Store) -> bool {
        self.look(store, &mut self.kept.lock()).report().ended.is_some()
    }

    /// Note what came of a batch, and write it where it was not written lately, or where it is the last.
    fn record(&self, shared: &KernelState, note: impl FnOnce(&mut Kept)) {
        let mut kept = self.kept.lock();
        note(self.look(shared.store.as_ref(), &mut kept));
        kept.row.has_news = true;
        let is_last = kept.report().ended.is_some();
        if is_last || kept.row.is_due(Instant::now()) {
            self.commit(shared, &mut kept);
        }
    }

    fn end(&self, shared: &KernelState, end: BacktestEnd) {
        self.record(shared, |kept| kept.report().ended = Some(end));
    }

    fn give_up(&self, shared: &KernelState, code: &str, message: String) {
        tracing::warn!(installation = self.installation.0, code, message, "a backtest was given up");
        self.end(shared, BacktestEnd::GivenUp { at: shared.clock.now(), code: code.to_owned(), message });
    }

    /// Nothing more is asked, for now or for good.
    fn close(&self, shared: &KernelState) {
        self.keep(shared);
        let store = shared.store.as_ref();
        if backtest_has_ended(store, self.workspace, self.installation, &self.of) {
            shared.observer.backtest_ended(self.workspace, self.installation);
        }
    }

    /// Write what is not yet written.
    fn keep(&self, shared: &KernelState) {
        let mut kept = self.kept.lock();
        if kept.row.has_news {
            self.commit(shared, &mut kept);
        }
    }

    fn commit(&self, shared: &KernelState, kept: &mut Kept) {
        kept.row.tried_at = Some(Instant::now());
        // Of one that is asked for no longer nothing is kept. The workspace itself may be about to stop.
        if !shared.workspace(self.workspace).is_some_and(|known| self.is_in_force(shared, &known)) {
            return;
        }
        let row = row::encode(kept.report());
        let read = || self.read(shared.store.as_ref()).map(|(_, found)| found);
        // It is in memory still, and is tried with what comes next.
        if let Err(error) = kept.row.write(shared, self.key(), row, read) {
            tracing::warn!(installation = self.installation.0, %error, "what came of a backtest was not kept");
        }
    }

    /// It is asked for no longer.
    fn forget(&self, shared: &KernelState) {
        // A write under way ends before this, and none comes after it.
        let kept = self.kept.lock();
        let read = || self.read(shared.store.as_ref()).map(|(_, found)| found);
        if let Err(error) = kept.row.forget(shared, self.key(), read) {
            tracing::warn!(installation = self.installation.0, %error, "what came of a backtest is there still");
        }
    }
}

/// The tags or scores that a version writes, or the live one does.
fn features(model: &ModelPlan) -> Vec<FeatureName> {
    let of_version = model.installed.backtest.iter().flat_map(|version| &version.outputs);
    let mut features: Vec<FeatureName> =
        model.installed.outputs.iter().chain(of_version).map(|output| model.feature(&output.name)).collect();
    features.sort();
    features.dedup();
    features
}

fn reads(expression: &Expression, features: &[FeatureName]) -> bool {
    let reads = expression.reads();
    let is_read = |feature: &FeatureName| {
        matches!(feature, FeatureName::Tag(name) if reads.tags.contains(&**name))
            || matches!(feature, FeatureName::Score(name) if reads.scores.contains(&**name))
    };
    features.iter().any(is_read)
}

/// The audiences whose condition reads one of the features.
fn reading<'p>(plan: &'p Plan, features: &'p [FeatureName]) -> impl Iterator<Item = &'p AudiencePlan> {
    plan.audiences.iter().filter(|audience| reads(&audience.condition, features))
}

/// The models that read one of the features, directly or through others.
fn readers(plan: &Plan, model: &ModelPlan, features: &[FeatureName]) -> Vec<InstallationId> {
    let mut all = features.to_vec();
    let mut found = Vec::new();
    // Each comes after those that it reads.
    for other in plan.models.iter().filter(|other| other.installed.id != model.installed.id) {
        if other.inputs.iter().any(|(_, input)| reads(input, &all)) {
            all.extend(other.installed.outputs.iter().map(|output| other.feature(&output.name)));
            found.push(other.installed.id);
        }
    }
    found
}

impl Kernel {
    /// What came of the version of an installation that is tried over what is stored; `None` where none is. Blocks.
    pub fn backtest(&self, workspace: WorkspaceId, installation: InstallationId) -> Option<BacktestView> {
        let known = self.shared.workspace(workspace)?;
        let compiled: Arc<CompiledSetup> = known.compiled.load_full();
        let run = self.shared.backtests.run_of(workspace, compiled.setup.installation(installation)?)?;
        let (mut report, last_failure) = {
            let mut kept = run.kept.lock();
            let kept = run.look(self.shared.store.as_ref(), &mut kept);
            (kept.report().clone(), kept.last_failure.clone())
        };
        let examples = std::mem::take(&mut report.examples);
        let state = match (&report.ended, report.begun_at) {
            (Some(end), _) => BacktestState::Ended(end.clone()),
            (None, Some(_)) => BacktestState::Running,
            (None, None) => BacktestState::Waiting,
        };
        let (mut changed, mut followed, mut beyond) = (Vec::new(), Vec::new(), Vec::new());
        if let Some((_, model)) = compiled.plan.model(installation) {
            let features = features(model);
            let live = LiveKey::of(&compiled, &model.installed);
            changed = changes(&report, &live, reading(&compiled.plan, &features));
            followed = readers(&compiled.plan, model, &features);
            let decides = |audience: &&AudiencePlan| followed.iter().any(|reader| audience.models.contains(reader));
            beyond = compiled.plan.audiences.iter().filter(decides).map(|audience| audience.audience.id).collect();
        }
        Some(BacktestView { state, report, examples, last_failure, changes: changed, readers: followed, beyond })
    }
}

#[cfg(test)]
mod tests {
    use kith_model::id::{ProfileId, SourceIdentityId};

    use super::*;

    #[test]
    fn examples_take_no_more_than_they_may() {
        let mut kept = Kept::default();
        let example = || BacktestExample {
            profile: ProfileId(SourceIdentityId([1; 16])),
            live: None,
            version: None,
            message: None,
        };
        for number in 0..30 * 200 {
            kept.example(BacktestLine::Entered(AudienceId(number / 30)), example);
        }
        let lines = || kept.report.iter().flat_map(|report| report.examples.values());
        assert_eq!(lines().map(Vec::len).max(), Some(MAX_EXAMPLES));
        assert_eq!(lines().flatten().count(), MAX_EXAMPLE_BYTES / example().size_bytes());
    }
}
