//! The data path of Kith, in the order in which data moves:
//!
//! 1. `intake`: bytes → a source's connector → drafts;
//! 2. `accept`: drafts → validated, deduplicated, tied to people → one durable commit → the answer;
//! 3. `react`: the change feed → leaves → tag models and scorers → audiences → effects, committed with the cursor;
//! 4. `deliver`: the outbox → the gate → a channel → a receipt, which is an event again and goes back to 2.
//!
//! `poll` fetches pages for connectors that ask for them, by a schedule, and hands what they make of them to 2.
//!
//! Each workspace owns an accept lane and a reactor; a few threads run those of all workspaces, and guests have threads of
//! their own. `profiles` is the reading floor under the stages, `questions` reads what they made. The stages know the plugin
//! roles of `kith-model`, the store's seam and the expression language; they know neither WebAssembly nor HTTP.

mod accept;
mod at_work;
mod backtest;
mod caches;
mod deliver;
mod dry_run;
mod fit;
mod guests;
mod host_limits;
mod intake;
mod letters;
pub mod offload;
mod plan;
mod poll;
mod pool;
mod profiles;
mod quality;
mod questions;
mod react;
mod rows;
mod setup;
mod shadow;
mod shared;
mod tenancy;
mod trials;
mod turns;
mod views;
mod who;
mod workers;
mod yielding;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::{Duration, Instant};

use kith_features::{Expression, ExpressionError};
use kith_model::consent::Giver;
use kith_model::event::EventOrigin;
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::plugin::{Fitted, SourceRequest};
use kith_model::time::{Clock, Timestamp};
use kith_store::{CommitError, Fence, ReadError, Store};
use roaring::RoaringBitmap;

pub use accept::taking_back::TakenBack;
pub use accept::{EventOutcome, MAX_REPORTED_REJECTIONS, event_text, outcomes_of};
pub use backtest::report::{
    AudienceEffect, BacktestChange, BacktestEnd, BacktestExample, BacktestKey, BacktestLine, BacktestPeople,
    BacktestReport, MessageCounts, MessageVerdict,
};
pub use backtest::{BacktestState, BacktestView, backtest_has_ended};
pub use deliver::content::{TemplateError, check_payload};
pub use deliver::receipts::ENDPOINT_GONE;
pub use dry_run::change_token;
pub use fit::{FitError, FitInput, FitProgress, FitSlot, HeldOut, Judged, Measure};
pub use host_limits::HostLimits;
pub use intake::{Arrival, Intake, IntakeError, IntakeReceipt, MAX_UNCONSUMED_BYTES, Preview};
pub use plan::SetupError;
pub use poll::{PollEntry, PollFrom, PollView};
pub use profiles::suppressions::SuppressionChange;
pub use quality::{NameChange, SourceQuality, WhatChanged};
pub use questions::QueryError;
pub use questions::consents::{ConsentView, StatementView, Suppression};
pub use questions::page::{PAGE_BYTES, PageRoom};
pub use questions::profile::{PersonRead, ProfileStart, Whom};
pub use questions::provenance::{
    ComputedKind, EventProvenance, FactProvenance, InputProvenance, InputState, MAX_INPUT_BYTES, ValueProvenance,
};
pub use questions::rules::RuleTrial;
pub use questions::search::{Column, ProfileRow, ProfileRows, ProfileSearch};
pub use questions::taking_back::{MessagesSince, UndoPreview, UndoProgress};
pub use questions::written::{Written, WrittenEvents, WrittenValue, WrittenValues};
pub use react::models::alone::{AnswerToRow, GivenRow, answers_cut, answers_to, dataset_of, no_rows};
pub use setup::{Activity, FittedState, Idempotence, Installed, Observer, Polling, Role, Setup, Undo, Undone};
pub use shadow::report::{OutputComparison, ShadowReport, ShadowSide, SkippedCounts};
pub use shadow::{ShadowExample, ShadowFailure, ShadowVersion, ShadowView, shadow_inputs};
pub use shared::WAITS_FOR_FIT;
pub use turns::{Asker, Patience, TurnError};
pub use views::*;
pub use who::StatementError;
pub use yielding::{aside, leave_a_processor_to_others};

use accept::Accept;
use guests::Guests;
use plan::Plan;
use pool::Pool;
use questions::{audience, count};
use react::Reactors;
use shared::{KernelState, Wakers, Workspace};
use workers::TaskScope;

/// The lease that every unit of this node is committed under.
const NODE_LEASE: &str = "node";

/// Threads of all reactors.
fn reactor_threads() -> usize {
    std::thread::available_parallelism().map_or(2, usize::from).max(2)
}

/// Why the kernel did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("taking the node's lease")]
    Lease(#[source] CommitError),
    #[error("another process holds the node's lease")]
    LeaseHeld,
    #[error("starting the {what} threads")]
    Thread { what: String, source: std::io::Error },
}

fn no_thread(what: &str) -> impl FnOnce(std::io::Error) -> StartError {
    let what = what.to_owned();
    move |source| StartError::Thread { what, source }
}

/// The running data path.
pub struct Kernel {
    shared: Arc<KernelState>,
    reactors: Arc<Reactors>,
}

/// A setup that can run, compiled.
pub struct CheckedSetup {
    setup: Setup,
    plan: Plan,
}

impl CheckedSetup {
    fn new(setup: Setup, earlier: &[&Plan]) -> Result<CheckedSetup, SetupError> {
        let plan = Plan::after(&setup, earlier)?;
        Ok(CheckedSetup { setup, plan })
    }

    /// The aggregates over events that would be kept, each once.
    pub fn aggregates(&self) -> usize {
        self.plan.program.leaves().count()
    }
}

impl Kernel {
    /// Start the stages with the least memory for plugins that any host has; see [`Kernel::start_within`].
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        setups: Vec<Setup>,
    ) -> Result<Arc<Kernel>, StartError> {
        Kernel::start_within(HostLimits::default(), store, clock, observer, setups)
    }

    /// Start the stages within what the host gives them. `setups` holds one entry for
    /// each workspace. Returns when the audience index stands.
    pub fn start_within(
        limits: HostLimits,
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        setups: Vec<Setup>,
    ) -> Result<Arc<Kernel>, StartError> {
        // Every start takes the lease, and what an older kernel still wants to commit is refused from then on. Time plays no
        // part in it, because clocks are set back.
        let fence = store.lease(NODE_LEASE, &format!("{:x}", clock.now().0), Timestamp(0), 0);
        let fence = fence.map_err(StartError::Lease)?.ok_or(StartError::LeaseHeld)?;
        let wakers = Arc::new(Wakers::default());
        let after_commit = Arc::clone(&wakers);
        let accept = Accept::start(Arc::clone(&store), Arc::new(move |workspace| after_commit.wake(workspace)));
        let accept = accept.map_err(no_thread("accept"))?;
        let guests = Guests::start(limits.guest_memory_bytes).map_err(no_thread("guest"))?;
        let shared = KernelState::new(store, clock, observer, fence, accept, guests, Arc::clone(&wakers));
        let mut shared = shared.map_err(no_thread("sending"))?;
        shared.volumes = intake::Volumes::new(limits.source_bytes);
        shared.import_memory = intake::ImportMemory::new(limits.import_memory_bytes);
        shared.polls.set_guest_memory(limits.guest_memory_bytes);
        shared.cache_bytes.set_process_memory(limits.process_memory_bytes);
        let shared = Arc::new(shared);
        let reactors = Arc::new(Reactors::new(Arc::clone(&shared)));
        let kernel = Kernel { shared: Arc::clone(&shared), reactors: Arc::clone(&reactors) };
        let mut opened = Vec::new();
        for setup in setups {
            let workspace = Arc::new(Workspace::new(setup)?);
            shared.workspaces.write().insert(workspace.id, Arc::clone(&workspace));
            opened.push(workspace);
        }
        for workspace in &opened {
            reactors.open(workspace)?;
        }
        let pool = Pool::start("kith-react", reactor_threads(), reactors).map_err(no_thread("react"))?;
        wakers.set(pool);
        for workspace in opened {
            // With its rules a workspace begins to read its filters, for which nobody waits: the index had the processors first.
            shared.accept.set_rules(&workspace.compiled.load().setup);
            wakers.wake(workspace.id);
        }
        let workspaces: Vec<WorkspaceId> = shared.workspaces.read().keys().copied().collect();
        for workspace in workspaces {
            deliver::start_senders(&shared, workspace);
            poll::start(&shared, workspace);
        }
        shared.workspaces.read().values().for_each(|workspace| {
            tenancy::begin_trials(&shared, workspace);
            backtest::follow(&shared, workspace);
        });
        Ok(Arc::new(kernel))
    }

    /// Whether a setup can run: to be asked before it is made durable. What the running setup and `known` have parsed is not
    /// parsed again.
    ///
    /// # Errors
    /// [`SetupError`] names the expression or the installations that do not fit.
    pub fn check(&self, setup: Setup, known: Option<&CheckedSetup>) -> Result<CheckedSetup, SetupError> {
        let present = self.shared.workspace(setup.workspace).map(|workspace| workspace.compiled.load_full());
        let known = known.map(|known| &known.plan);
        let earlier: Vec<&Plan> = present.iter().map(|compiled| &compiled.plan).chain(known).collect();
        CheckedSetup::new(setup, &earlier)
    }

    /// The aggregates over events that a workspace keeps, each once; none where it does not run.
    pub fn aggregates(&self, workspace: WorkspaceId) -> usize {
        self.shared.workspace(workspace).map_or(0, |workspace| workspace.compiled.load().plan.program.leaves().count())
    }

    /// Replace one workspace's setup, or run another workspace. What is new is computed from history in the background. The setup
    /// has to be durable: what runs is never what a crash could take back.
    ///
    /// # Errors
    /// [`SetupError`] names the expression or the installations that do not fit; the old setup stays in force.
    pub fn configure(&self, setup: Setup) -> Result<(), SetupError> {
        self.check(setup, None).map(|checked| self.put_in_force(checked))
    }

    /// [`Kernel::configure`] for a setup that was checked.
    pub fn put_in_force(&self, checked: CheckedSetup) {
        let id = checked.setup.workspace;
        match self.shared.workspace(id) {
            Some(workspace) => workspace.configure(checked),
            None => drop(self.begin(checked)),
        }
        if let Some(workspace) = self.shared.workspace(id) {
            let setup = Arc::clone(&workspace.compiled.load().setup);
            self.shared.shadows.follow(&self.shared, &setup);
            backtest::follow(&self.shared, &workspace);
            self.shared.accept.set_rules(&setup);
        }
        self.shared.wake_reactor(id);
        deliver::start_senders(&self.shared, id);
        poll::start(&self.shared, id);
    }

    /// Check an audience condition or an input expression without installing it.
    pub fn check_expression(text: &str) -> Result<(), ExpressionError> {
        Expression::parse(text).map(drop)
    }

    /// The same of an expression that is to be the condition of an audience.
    ///
    /// # Errors
    /// Also for what is never true or false.
    pub fn check_condition(text: &str) -> Result<(), ExpressionError> {
        Expression::parse(text)?.check_condition()
    }

    /// Finish what is under way and stop, in the order in which data moves: intake, deliver, react, accept. Deliveries end
    /// before accept does, because what came of them is committed through it. Fits are cancelled. Blocks; to be called once,
    /// last.
    pub fn stop(&self) {
        self.shared.closing.store(true, Ordering::SeqCst);
        self.shared.workspaces.read().values().for_each(|workspace| workspace.begin_stop());
        poll::stop(&self.shared, TaskScope::All);
        deliver::stop(&self.shared, TaskScope::All);
        fit::stop(&self.shared, TaskScope::All);
        backtest::stop(&self.shared, TaskScope::All);
        self.shared.workers.end_tasks();
        self.shared.stopping.store(true, Ordering::SeqCst);
        self.shared.wakers.stop();
        self.shared.guests.stop();
        self.shared.shadows.keep(&self.shared, None);
        self.shared.backtests.keep(&self.shared, None);
        self.shared.accept.stop();
    }

    /// The hosts that a workspace's channels send to.
    pub fn receiving_hosts(&self, workspace: WorkspaceId) -> Vec<HostView> {
        self.shared.deliveries.hosts.views(workspace)
    }

    /// Take one whole request to a source: run its connector, commit, and answer.
    pub async fn receive(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        source: InstallationId,
        mut request: SourceRequest,
        arrival: Arrival,
    ) -> Result<IntakeReceipt, IntakeError> {
        let body = std::mem::take(&mut request.body);
        Intake::new(Arc::clone(&self.shared), workspace, source, request, arrival)?.whole(body).await
    }

    /// Take a stream, whose events tell of the past; `head` is the request that it came with, its body empty.
    pub fn intake(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        source: InstallationId,
        head: SourceRequest,
        giver: Giver,
    ) -> Result<Intake, IntakeError> {
        let arrival = Arrival { origin: EventOrigin::Import, giver };
        Intake::new(Arc::clone(&self.shared), workspace, source, head, arrival)
    }

    /// How far an import with a name has come, see [`Intake::named`]; `None` where there is none to go on with. Blocks.
    pub fn import_state(
        &self,
        workspace: WorkspaceId,
        source: InstallationId,
        name: &str,
    ) -> Result<Option<ImportState>, IntakeError> {
        intake::session::state(&self.shared, workspace, source, name)
    }

    /// A page of a profile's events, newest first. Blocks, like all questions below.
    pub fn profile_events(
        &self,
        workspace: WorkspaceId,
        id: ProfileId,
        page: PageRequest<'_>,
    ) -> Result<Option<EventPage>, QueryError> {
        questions::events::events(&self.shared, workspace, id, page)
    }

    /// How many profiles meet a condition now, exactly.
    pub fn count(&self, workspace: WorkspaceId, condition: &str) -> Result<Count, QueryError> {
        self.count_for(workspace, condition, &Patience::default())
    }

    /// The same for somebody who may leave before it is known.
    pub fn count_for(&self, workspace: WorkspaceId, condition: &str, patience: &Patience) -> Result<Count, QueryError> {
        count::count(&self.shared, workspace, condition, patience)
    }

    /// An audience's size and progress.
    pub fn audience(&self, workspace: WorkspaceId, id: AudienceId) -> Result<AudienceStatus, QueryError> {
        audience::status(&self.shared, workspace, id)
    }

    /// A page of an audience's members.
    pub fn audience_members(
        &self,
        workspace: WorkspaceId,
        id: AudienceId,
        page: PageRequest<'_>,
    ) -> Result<MemberPage, QueryError> {
        audience::members(&self.shared, workspace, id, page)
    }

    /// The identifiers of each of these profiles, the strongest first and some at most; none of one that is no more.
    pub fn identifiers(
        &self,
        workspace: WorkspaceId,
        profiles: &[ProfileId],
        patience: &Patience,
    ) -> Result<Vec<Vec<Identifier>>, QueryError> {
        audience::identifiers(&self.shared, workspace, profiles, patience)
    }

    /// Why a profile is in an audience or not; `None` if there is no such profile.
    pub fn explain(
        &self,
        workspace: WorkspaceId,
        audience: AudienceId,
        profile: ProfileId,
        patience: &Patience,
    ) -> Result<Option<AudienceExplanation>, QueryError> {
        audience::explain(&self.shared, workspace, audience, profile, patience)
    }

    /// A page of deliveries, the newest first. A page may be short, even empty, and still have a next one.
    pub fn deliveries(
        &self,
        workspace: WorkspaceId,
        filter: &DeliveryFilter,
        page: PageRequest<'_>,
    ) -> Result<ListPage<DeliveryView>, QueryError> {
        questions::letters::deliveries(&self.shared, workspace, filter, page)
    }

    /// How far the work behind the log has come.
    pub fn progress(&self, workspace: WorkspaceId) -> Progress {
        let head = self.shared.store.head();
        let Some(workspace) = self.shared.workspace(workspace) else {
            return Progress { head, reacted: head, backlog: 0 };
        };
        let generation = workspace.compiled.load().generation;
        let projection = workspace.projection.read();
        let is_behind = projection.generation != generation;
        let left = projection.advance.map(|advance| (advance.of - advance.done.min(advance.of)).max(1));
        let pending: u64 = projection.outdated.values().map(RoaringBitmap::len).sum();
        Progress {
            head,
            reacted: workspace.as_of(self.shared.store.as_ref(), &projection).position.min(head),
            backlog: left.unwrap_or(0).max(u64::from(is_behind)).max(pending),
        }
    }

    /// Whether every workspace's computing gets on.
    pub fn health(&self) -> Vec<Health> {
        let workspaces = self.shared.workspaces.read();
        let health = workspaces.values().map(|workspace| {
            let failing = workspace.failing.lock().clone();
            Health { workspace: workspace.id, failing }
        });
        health.collect()
    }

    /// What the removal of an installation would take away.
    pub fn removal(&self, workspace: WorkspaceId, installation: InstallationId) -> Result<Removal, QueryError> {
        audience::removal(&self.shared, workspace, installation)
    }

    /// Wait until everything up to `at_least` is computed and nothing new waits for its first computation; whether it came
    /// to that within `timeout`.
    pub fn wait_until_reacted(&self, workspace: WorkspaceId, at_least: Position, timeout: Duration) -> bool {
        /// A workspace that is taken out meanwhile finishes no further pass.
        const LONGEST_WAIT: Duration = Duration::from_secs(1);
        let deadline = Instant::now() + timeout;
        loop {
            // Counted before the look: a pass that ends after it ends the wait at once.
            let running = self.shared.workspace(workspace).map(|running| (running.passes(), running));
            let progress = self.progress(workspace);
            if progress.reacted >= at_least && progress.backlog == 0 {
                return true;
            }
            let left = deadline.saturating_duration_since(Instant::now());
            match running {
                Some((passes, running)) if !left.is_zero() => running.wait_for_pass(passes, left.min(LONGEST_WAIT)),
                _ => return false,
            }
        }
    }

    /// What a workspace holds.
    pub fn totals(&self, workspace: WorkspaceId) -> Result<Totals, QueryError> {
        questions::totals::totals(&self.shared, workspace)
    }

    /// How many people the store has of a workspace, also of one that does not run.
    pub fn people(&self, workspace: WorkspaceId) -> Result<u64, QueryError> {
        Ok(accept::counts::read_counts(self.shared.store.as_ref(), workspace)?.profiles)
    }

    /// Take an installation's place among the fits under way; `None` while a fit of it is.
    pub fn take_fit_slot(&self, workspace: WorkspaceId, installation: InstallationId) -> Option<FitSlot> {
        FitSlot::take(&self.shared, workspace, installation)
    }

    /// Fit the plugin version with that digest on all profiles, in the background. `keep` is told what came of it, on a thread
    /// that may block; it gives the place free when that is kept. After a stop it is not called, and the fit never was.
    pub fn fit(
        &self,
        slot: FitSlot,
        digest: String,
        keep: impl FnOnce(Result<Fitted, FitError>, FitSlot) + Send + 'static,
    ) {
        fit::begin(&self.shared, slot, digest, Box::new(keep));
    }

    /// How far an installation's fit is, if one is under way.
    pub fn fit_progress(&self, workspace: WorkspaceId, installation: InstallationId) -> Option<FitProgress> {
        self.shared.fits.progress(workspace, installation)
    }

    /// The node's lease, under which the kernel commits. What others commit because of what it did belongs under it too.
    pub fn fence(&self) -> Fence {
        self.shared.fence.clone()
    }
}

#[cfg(test)]
mod tests;
