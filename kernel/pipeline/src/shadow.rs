//! Versions that run beside the live ones: each is asked what its installation's live version was asked, after that has answered,
//! and the two answers are compared. Nothing of it counts: its values are kept nowhere, its faults are nobody's strikes, and
//! whoever waits for the live version never waits for it.
//!
//! It runs on a thread that yields to all others, one call at a time, within budgets of its own. What comes while it is busy is
//! skipped and counted. Counts are rows, written at most every [`COMMIT_PERIOD`], and that long after what is new at the latest,
//! whatever else comes; examples of people are in memory alone.

pub(crate) mod kept;
pub(crate) mod models;
pub(crate) mod report;
pub(crate) mod requests;

use std::collections::{HashMap, VecDeque};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kith_model::budget::{Permit, Permits, table};
use kith_model::id::{InstallationId, ProfileId, WorkspaceId};
use kith_model::plugin::{InputSpec, OutputSpec, PluginFault};
use kith_model::time::Timestamp;
use kith_store::keys::Definition;
use kith_store::{Key, Store, row};
use parking_lot::Mutex;

use crate::Kernel;
use crate::guests::{Caller, GuestClass};
use crate::profiles::facts::get_one;
use crate::setup::{Installed, Role, Setup};
use crate::shared::{KernelState, Workspace};

use kept::KeptRow;
use report::{ShadowKey, ShadowReport, SkipReason, SkippedCounts};

/// How often what one has come to is written.
pub(crate) const COMMIT_PERIOD: Duration = Duration::from_secs(10);

/// Examples that are kept of one, the newest.
pub(crate) const MAX_EXAMPLES: usize = 20;

/// What is kept of a text in an example, in bytes.
const MAX_SHOWN_BYTES: usize = 512;

/// A shadow that failed on everybody rests so many times as long as that took, so that it never has more than a tenth of its
/// thread for nothing.
const RESTS: u32 = 9;

/// A version that runs beside an installation's live one, or is tried over what is stored.
#[derive(Clone)]
pub struct ShadowVersion {
    pub plugin_version: semver::Version,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    pub config_hash: u64,
    /// Since when it runs beside the live one; when somebody asked for it to be tried.
    pub since: Timestamp,
    /// Beside the live one each is one of that, maybe under another name: see [`shadow_inputs`].
    pub inputs: Vec<InputSpec>,
    pub outputs: Vec<OutputSpec>,
    pub call_memory_bytes: u64,
    /// It writes no state and reaches nobody.
    pub role: Role,
}

/// Where each input of a shadow stands among the live version's: the one of the same expression and type. `None` where one is
/// not there, for a shadow sees what the live version sees and nothing else.
pub fn shadow_inputs(live: &[InputSpec], shadow: &[InputSpec]) -> Option<Vec<usize>> {
    let place = |wanted: &InputSpec| {
        let is_same =
            |input: &InputSpec| input.expression == wanted.expression && input.column_type == wanted.column_type;
        live.iter().position(is_same)
    };
    shadow.iter().map(place).collect()
}

/// Something for which the two gave different answers.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowExample {
    pub at: Timestamp,
    /// Of a model; a request is of nobody in particular.
    pub profile: Option<ProfileId>,
    pub output: String,
    /// As JSON, long texts cut; `None` where it gave nothing.
    pub live: Option<String>,
    pub shadow: Option<String>,
}

/// How a shadow failed.
#[derive(Debug, Clone, PartialEq)]
pub struct ShadowFailure {
    pub at: Timestamp,
    pub code: String,
    pub message: String,
}

/// What came of a shadow.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ShadowView {
    pub report: ShadowReport,
    /// The newest last, since the kernel was started.
    pub examples: Vec<ShadowExample>,
    pub last_failure: Option<ShadowFailure>,
}

/// The shadows of all workspaces.
pub(crate) struct Shadows {
    input: Arc<Permits>,
    runs: Mutex<HashMap<(WorkspaceId, InstallationId), Arc<Run>>>,
}

impl Default for Shadows {
    fn default() -> Shadows {
        let input = Permits::new(&table::SHADOW_INPUT, table::SHADOW_INPUT.default);
        Shadows { input, runs: Mutex::default() }
    }
}

/// One version beside one installation, from its beginning to its end.
pub(crate) struct Run {
    workspace: WorkspaceId,
    installation: InstallationId,
    of: ShadowKey,
    is_busy: AtomicBool,
    waiting: Mutex<Waiting>,
    kept: Mutex<Kept>,
}

/// What is looked at before anything is asked. Never held for long.
#[derive(Default)]
struct Waiting {
    /// Not yet in the report.
    skipped: SkippedCounts,
    rests_until: Option<Instant>,
}

#[derive(Default)]
struct Kept {
    /// Read from its row when it is needed first.
    report: Option<ShadowReport>,
    row: KeptRow,
    examples: VecDeque<ShadowExample>,
    last_failure: Option<ShadowFailure>,
}

impl Kept {
    fn example(&mut self, example: ShadowExample) {
        if self.examples.len() >= MAX_EXAMPLES {
            self.examples.pop_front();
        }
        self.examples.push_back(example);
    }

    /// The report, as far as it was read.
    fn report(&mut self) -> &mut ShadowReport {
        self.report.get_or_insert_default()
    }
}

/// What a comparison holds while it waits and runs.
pub(crate) struct Place {
    run: Arc<Run>,
    _input: Permit,
}

impl Place {
    /// Give it back before what came of the comparison is noted, so that whoever reads that finds it free.
    fn end(self) -> Arc<Run> {
        Arc::clone(&self.run)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        self.run.is_busy.store(false, Ordering::Release);
    }
}

/// What a comparison asks for.
#[derive(Debug, Clone, Copy)]
struct Wanted {
    /// People or requests.
    items: u64,
    /// Of the inputs and of the live answer.
    bytes: usize,
    /// What a call may take.
    memory_bytes: u64,
}

impl ShadowKey {
    /// Which run an installation's shadow is.
    fn of(installed: &Installed) -> Option<ShadowKey> {
        let shadow = installed.shadow.as_ref()?;
        Some(ShadowKey {
            digest: shadow.digest.clone(),
            config_hash: shadow.config_hash,
            since: shadow.since,
            live: (installed.digest.clone(), installed.config_hash),
        })
    }
}

impl Shadows {
    /// The run of an installation's shadow as it is in force.
    fn run_of(&self, workspace: WorkspaceId, installed: &Installed) -> Option<Arc<Run>> {
        let of = ShadowKey::of(installed)?;
        let mut runs = self.runs.lock();
        let known = runs.get(&(workspace, installed.id)).filter(|run| run.of == of);
        if let Some(run) = known {
            return Some(Arc::clone(run));
        }
        let run = Arc::new(Run {
            workspace,
            installation: installed.id,
            of,
            is_busy: AtomicBool::new(false),
            waiting: Mutex::default(),
            kept: Mutex::default(),
        });
        runs.insert((workspace, installed.id), Arc::clone(&run));
        Some(run)
    }

    /// Another setup is in force: forget the runs that have ended.
    pub(crate) fn follow(&self, shared: &KernelState, setup: &Setup) {
        let mut dropped = Vec::new();
        self.runs.lock().retain(|(workspace, id), run| {
            let stays = *workspace != setup.workspace
                || setup.installation(*id).and_then(ShadowKey::of).is_some_and(|of| of == run.of);
            if !stays {
                dropped.push(Arc::clone(run));
            }
            stays
        });
        dropped.iter().for_each(|run| run.forget(shared));
    }

    /// Write what is not yet written, of one workspace or of all.
    pub(crate) fn keep(&self, shared: &KernelState, of: Option<WorkspaceId>) {
        self.keep_where(shared, of, |_| true);
    }

    /// The same of one workspace, but for what was written lately. What is compared last has nothing behind it that would have it
    /// written.
    pub(crate) fn keep_due(&self, shared: &KernelState, of: WorkspaceId, now: Instant) {
        self.keep_where(shared, Some(of), |kept| kept.row.is_due(now));
    }

    fn keep_where(&self, shared: &KernelState, of: Option<WorkspaceId>, is_meant: impl Fn(&Kept) -> bool) {
        let runs: Vec<Arc<Run>> = self.runs.lock().values().cloned().collect();
        for run in runs.into_iter().filter(|run| of.is_none_or(|of| of == run.workspace)) {
            let mut kept = run.kept.lock();
            if (kept.row.has_news || run.has_skipped()) && is_meant(&kept) {
                run.commit(shared, &mut kept);
            }
        }
    }

    /// The workspace is no longer run.
    pub(crate) fn forget_workspace(&self, workspace: WorkspaceId) {
        self.runs.lock().retain(|(of, _), _| *of != workspace);
    }
}

impl Run {
    /// Room for a comparison; without it what was to be compared is counted as skipped.
    fn place(self: &Arc<Run>, input: &Arc<Permits>, wanted: Wanted) -> Option<Place> {
        let rests = self.waiting.lock().rests_until.is_some_and(|until| Instant::now() < until);
        let reason = if rests {
            SkipReason::GivenUp
        } else if wanted.memory_bytes > table::SHADOW_MEMORY.default {
            table::SHADOW_MEMORY.count();
            SkipReason::NoRoom
        } else if self.is_busy.swap(true, Ordering::AcqRel) {
            table::SHADOW_CALLS.count();
            SkipReason::Busy
        } else {
            match input.take(wanted.bytes as u64) {
                Ok(permit) => return Some(Place { run: Arc::clone(self), _input: permit }),
                Err(_) => {
                    self.is_busy.store(false, Ordering::Release);
                    SkipReason::NoRoom
                }
            }
        };
        self.skip(reason, wanted.items);
        None
    }

    fn skip(&self, reason: SkipReason, items: u64) {
        if items > 0 {
            self.waiting.lock().skipped.add(reason, items);
            metrics::counter!("kith_shadow_skipped_total", "reason" => reason.as_str()).increment(items);
        }
    }

    /// Whether something was skipped that is not yet in the report.
    fn has_skipped(&self) -> bool {
        self.waiting.lock().skipped != SkippedCounts::default()
    }

    /// It failed on everybody for so long.
    fn rest(&self, after: Duration) {
        self.waiting.lock().rests_until = Instant::now().checked_add(after.saturating_mul(RESTS));
    }

    /// Whether it is what runs beside the live version now.
    fn is_current(&self, workspace: &Workspace) -> bool {
        let compiled = workspace.compiled.load();
        let installed = compiled.setup.installation(self.installation).filter(|known| known.activity.is_running());
        !workspace.is_stopping() && installed.and_then(ShadowKey::of).is_some_and(|of| of == self.of)
    }

    /// Whether it is the run that the setup in force asks for.
    fn is_in_force(&self, workspace: &Workspace) -> bool {
        let compiled = workspace.compiled.load();
        compiled.setup.installation(self.installation).and_then(ShadowKey::of).is_some_and(|of| of == self.of)
    }

    fn key(&self) -> Key {
        Key::definition(self.workspace, Definition::ShadowReport, &self.installation.0.to_be_bytes())
    }

    /// The row, whichever run it is of.
    fn row(&self, store: &dyn Store) -> Option<Vec<u8>> {
        let read = get_one(store, &self.key()).map(|row| row.map(|row| row.to_vec()));
        read.unwrap_or_else(|error| {
            tracing::warn!(installation = self.installation.0, %error, "what came of a shadow does not read");
            None
        })
    }

    /// The report that a row has, if it is this run's.
    fn own(&self, row: &[u8]) -> Option<ShadowReport> {
        let read = row::decode::<ShadowReport>(row).inspect_err(|error| {
            tracing::warn!(installation = self.installation.0, %error, "what came of a shadow does not read");
        });
        read.ok().filter(|read| read.of == self.of)
    }

    /// What is kept, with the report read and what was skipped in it.
    fn look<'k>(&self, store: &dyn Store, kept: &'k mut Kept) -> &'k mut Kept {
        if kept.report.is_none() {
            let stored = self.row(store);
            let own = stored.as_deref().and_then(|row| self.own(row));
            kept.row.found(stored, own.is_some());
            kept.report = Some(own.unwrap_or_else(|| ShadowReport::new(self.of.clone())));
        }
        let skipped = std::mem::take(&mut self.waiting.lock().skipped);
        kept.report().skipped.add_all(skipped);
        kept
    }

    /// Note what came of a comparison, and write it where it was not written lately.
    fn record(&self, shared: &KernelState, note: impl FnOnce(&mut Kept)) {
        let mut kept = self.kept.lock();
        note(self.look(shared.store.as_ref(), &mut kept));
        kept.row.has_news = true;
        if kept.row.is_due(Instant::now()) {
            self.commit(shared, &mut kept);
        }
    }

    fn commit(&self, shared: &KernelState, kept: &mut Kept) {
        kept.row.tried_at = Some(Instant::now());
        // Of one that runs no longer nothing is kept. The workspace itself may be about to stop.
        if !shared.workspace(self.workspace).is_some_and(|known| self.is_in_force(&known)) {
            return;
        }
        let row = row::encode(self.look(shared.store.as_ref(), kept).report());
        // It is in memory still, and is tried again a while later.
        if let Err(error) = kept.row.write(shared, self.key(), row, || self.row(shared.store.as_ref())) {
            tracing::warn!(installation = self.installation.0, %error, "what came of a shadow was not kept");
        }
    }

    /// It runs no longer.
    fn forget(&self, shared: &KernelState) {
        // A write under way ends before this, and none comes after it.
        let kept = self.kept.lock();
        let read = || self.row(shared.store.as_ref()).filter(|row| self.own(row).is_some());
        if let Err(error) = kept.row.forget(shared, self.key(), read) {
            tracing::warn!(installation = self.installation.0, %error, "what came of a shadow is there still");
        }
    }
}

/// Run a comparison after all that somebody waits for. The place is given back when it has run, or did not begin.
fn begin(shared: &Arc<KernelState>, place: Place, wanted: Wanted, compare: impl FnOnce(Place) + Send + 'static) {
    let run = Arc::clone(&place.run);
    let caller = Caller {
        workspace: run.workspace,
        installation: run.installation,
        class: GuestClass::Shadow,
        bytes: wanted.bytes,
        // There is one call at a time, whose memory is a budget of its own.
        memory_bytes: 0,
    };
    if shared.guests.spawn(caller, move || compare(place)).is_err() {
        run.skip(SkipReason::NoRoom, wanted.items);
    }
}

/// A text as an example shows it.
pub(crate) fn shown(text: &str) -> String {
    let end = text.floor_char_boundary(MAX_SHOWN_BYTES);
    if end < text.len() { format!("{}\u{2026}", &text[..end]) } else { text.to_owned() }
}

pub(crate) fn failure(at: Timestamp, fault: &PluginFault) -> ShadowFailure {
    ShadowFailure { at, code: fault.code().to_owned(), message: shown(&fault.to_string()) }
}

impl Kernel {
    /// What came of the version that runs beside an installation's live one; `None` where none does. Blocks.
    pub fn shadow(&self, workspace: WorkspaceId, installation: InstallationId) -> Option<ShadowView> {
        let known = self.shared.workspace(workspace)?;
        let compiled = known.compiled.load_full();
        let run = self.shared.shadows.run_of(workspace, compiled.setup.installation(installation)?)?;
        let mut kept = run.kept.lock();
        let kept = run.look(self.shared.store.as_ref(), &mut kept);
        let (examples, last_failure) = (kept.examples.iter().cloned().collect(), kept.last_failure.clone());
        Some(ShadowView { report: kept.report().clone(), examples, last_failure })
    }
}

#[cfg(test)]
mod tests;
