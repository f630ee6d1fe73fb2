//! The data path of Kith, in the order in which data moves:
//!
//! 1. `intake`: bytes → a source's connector → drafts;
//! 2. `accept`: drafts → validated, deduplicated, tied to people → one durable commit → the answer;
//! 3. `react`: the change feed → leaves → tag models and scorers → audiences → the outbox, committed with the cursor;
//! 4. `deliver`: the outbox → the gate → a channel → a receipt, which is an event again and goes back to 2.
//!
//! The stages know the plugin roles of `kith-model`, the store's seam and the expression language; they know neither
//! WebAssembly nor HTTP. [`Kernel`] starts them and answers questions about what they made.

mod accept;
mod deliver;
mod fit;
mod intake;
mod letters;
pub mod offload;
mod people_scan;
mod plan;
mod query;
mod react;
mod rows;
mod setup;
mod shared;
mod views;

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use kith_features::{Expression, ExpressionError};
use kith_model::event::EventOrigin;
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::plugin::{Fitted, PluginKind, SourceRequest};
use kith_model::time::Clock;
use kith_store::{ReadError, Store};
use parking_lot::Mutex;
use tokio::sync::mpsc;

pub use accept::MAX_REPORTED_REJECTIONS;
pub use fit::FitError;
pub use intake::{Intake, IntakeError, MAX_UNCONSUMED_BYTES, Receipted};
pub use plan::SetupError;
pub use query::QueryError;
pub use setup::{Activity, FittedState, Idempotence, Installed, Observer, Role, Setup};
pub use views::*;

use accept::Request;
use plan::Plan;
use react::Reactor;
use shared::{BlockingOrTry, Shared, WorkspaceShared};

/// Why the kernel did not start.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(transparent)]
    Setup(#[from] SetupError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("starting the {what} thread")]
    Thread { what: String, source: std::io::Error },
}

/// Why a payload cannot be sent as it is written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct TemplateError(String);

/// Whether a payload is a JSON object whose templates read nothing but `inputs`.
///
/// # Errors
/// [`TemplateError`] says what is wrong, for people.
pub fn check_payload(payload: &str, _inputs: &BTreeSet<String>) -> Result<(), TemplateError> {
    match serde_json::from_str::<serde_json::Value>(payload) {
        Ok(serde_json::Value::Object(_)) => Ok(()),
        Ok(_) => Err(TemplateError("write a JSON object".to_owned())),
        Err(error) => Err(TemplateError(error.to_string())),
    }
}

/// The running data path.
pub struct Kernel {
    shared: Arc<Shared>,
    threads: Mutex<Vec<JoinHandle<()>>>,
    delivering: Mutex<BTreeSet<(WorkspaceId, InstallationId)>>,
}

impl Kernel {
    /// Start the stages. `setups` holds one entry for each workspace. Returns when the audience index stands.
    pub fn start(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        observer: Arc<dyn Observer>,
        setups: Vec<Setup>,
    ) -> Result<Arc<Kernel>, StartError> {
        let (accept, requests) = mpsc::channel(accept::MAX_WAITING);
        let shared = Arc::new(Shared::new(Arc::clone(&store), Arc::clone(&clock), observer, accept));
        let kernel =
            Kernel { shared: Arc::clone(&shared), threads: Mutex::new(Vec::new()), delivering: Mutex::default() };
        let mut rules = Vec::new();
        for setup in setups {
            rules.push(Request::Rules(setup.workspace, setup.identity_rules.clone()));
            let plan = Plan::new(&setup)?;
            shared.workspaces.write().insert(setup.workspace, Arc::new(WorkspaceShared::new(setup, plan)));
        }
        kernel.spawn("accept", move || accept::run(store, clock, requests))?;
        let reactor = Reactor::open(Arc::clone(&shared))?;
        for rules in rules {
            // With its rules a workspace begins to read its filters, for which nobody waits: the index had the processors first.
            // The thread was started above and takes requests until it is told to stop.
            let _ = shared.accept.blocking_or_try(rules);
        }
        kernel.spawn("react", move || reactor.run())?;
        kernel.start_deliveries()?;
        Ok(Arc::new(kernel))
    }

    fn spawn(&self, what: &str, work: impl FnOnce() + Send + 'static) -> Result<(), StartError> {
        let thread = std::thread::Builder::new().name(format!("kith-{what}")).spawn(work);
        let thread = thread.map_err(|source| StartError::Thread { what: what.to_owned(), source })?;
        let mut threads = self.threads.lock();
        threads.retain(|thread| !thread.is_finished());
        threads.push(thread);
        Ok(())
    }

    /// One thread for each channel, so that a slow one holds up nobody else.
    fn start_deliveries(&self) -> Result<(), StartError> {
        let known: Vec<_> = self.shared.workspaces.read().iter().map(|(id, known)| (*id, Arc::clone(known))).collect();
        for (workspace, known) in known {
            let setup = known.setup.load_full();
            for channel in setup.installations.iter().filter(|installed| installed.kind == PluginKind::Channel) {
                let channel = channel.id;
                if self.delivering.lock().insert((workspace, channel)) {
                    let shared = Arc::clone(&self.shared);
                    self.spawn("deliver", move || deliver::run(&shared, workspace, channel))?;
                }
            }
            let channels: BTreeSet<InstallationId> = setup.installations.iter().map(|installed| installed.id).collect();
            self.delivering.lock().retain(|(id, channel)| *id != workspace || channels.contains(channel));
        }
        Ok(())
    }

    /// Whether a setup can run. Nothing changes.
    ///
    /// # Errors
    /// [`SetupError`] names the expression or the installations that do not fit.
    pub fn check(setup: &Setup) -> Result<(), SetupError> {
        Plan::new(setup).map(drop)
    }

    /// Replace one workspace's setup, or add a workspace. What is new is computed from history in the background.
    ///
    /// # Errors
    /// [`SetupError`] names the expression or the installations that do not fit; the old setup stays in force.
    pub fn configure(&self, setup: Setup) -> Result<(), SetupError> {
        let plan = Plan::new(&setup)?;
        let (id, rules) = (setup.workspace, setup.identity_rules.clone());
        match self.shared.workspace(id) {
            Some(known) => {
                known.setup.store(Arc::new(setup));
                known.plan.store(Arc::new(plan));
                // Until the react thread has compared the new plan with what is ready, nothing claims to be complete.
                known.pending_plan(true);
            }
            None => {
                let known = Arc::new(WorkspaceShared::new(setup, plan));
                self.shared.workspaces.write().insert(id, known);
            }
        }
        if self.shared.accept.blocking_or_try(Request::Rules(id, rules)).is_err() {
            tracing::warn!(workspace = id.0, "the kernel is shutting down; new identity rules were not taken");
        }
        self.start_deliveries().unwrap_or_else(|error| tracing::error!(%error, "a channel delivers nothing"));
        Ok(())
    }

    /// Check an audience condition or an input expression without installing it.
    pub fn check_expression(text: &str) -> Result<(), ExpressionError> {
        Expression::parse(text).map(drop)
    }

    /// Finish what is under way and stop the threads. Blocks; to be called once, last.
    pub fn stop(&self) {
        self.shared.stopping.store(true, Ordering::SeqCst);
        if self.shared.accept.blocking_or_try(Request::Stop).is_err() {
            tracing::debug!("the accept thread had stopped before");
        }
        for thread in std::mem::take(&mut *self.threads.lock()) {
            if thread.join().is_err() {
                tracing::error!("a kernel thread had panicked");
            }
        }
    }

    /// Take one whole request to a source: run its connector, commit, and answer.
    pub async fn receive(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        source: InstallationId,
        mut request: SourceRequest,
    ) -> Result<Receipted, IntakeError> {
        let body = std::mem::take(&mut request.body);
        Intake::new(Arc::clone(&self.shared), workspace, source, request, EventOrigin::Client)?.whole(body).await
    }

    /// Take a stream; `head` is the request that it came with, its body empty.
    pub fn intake(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        source: InstallationId,
        head: SourceRequest,
    ) -> Result<Intake, IntakeError> {
        Intake::new(Arc::clone(&self.shared), workspace, source, head, EventOrigin::Import)
    }

    /// The profile that an identifier belongs to. Blocks, like all questions below.
    pub fn profile_by_identifier(
        &self,
        workspace: WorkspaceId,
        identifier: &Identifier,
    ) -> Result<Option<ProfileView>, QueryError> {
        match query::find(&self.shared, workspace, identifier)? {
            Some(id) => query::profile(&self.shared, workspace, id),
            None => Ok(None),
        }
    }

    /// A profile by its id, or by the id of one that was merged into it.
    pub fn profile(&self, workspace: WorkspaceId, id: ProfileId) -> Result<Option<ProfileView>, QueryError> {
        query::profile(&self.shared, workspace, id)
    }

    /// A page of a profile's events, newest first.
    pub fn profile_events(
        &self,
        workspace: WorkspaceId,
        id: ProfileId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Option<EventPage>, QueryError> {
        query::events(&self.shared, workspace, id, limit, cursor)
    }

    /// How many profiles meet a condition now, exactly.
    pub fn count(&self, workspace: WorkspaceId, condition: &str) -> Result<Count, QueryError> {
        query::count(&self.shared, workspace, condition)
    }

    /// An audience's size and progress.
    pub fn audience(&self, workspace: WorkspaceId, id: AudienceId) -> Result<AudienceStatus, QueryError> {
        query::audience(&self.shared, workspace, id)
    }

    /// A page of an audience's members.
    pub fn audience_members(
        &self,
        workspace: WorkspaceId,
        id: AudienceId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<MemberPage, QueryError> {
        query::members(&self.shared, workspace, id, limit, cursor)
    }

    /// Why a profile is in an audience or not; `None` if there is no such profile.
    pub fn explain(
        &self,
        workspace: WorkspaceId,
        audience: AudienceId,
        profile: ProfileId,
    ) -> Result<Option<serde_json::Value>, QueryError> {
        query::explain(&self.shared, workspace, audience, profile)
    }

    /// A page of all deliveries.
    pub fn deliveries(
        &self,
        workspace: WorkspaceId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Paged<DeliveryView>, QueryError> {
        letters::deliveries(&self.shared, workspace, limit, cursor)
    }

    /// A page of what did not work. A page may be empty and still have a next one.
    pub fn dead_letters(
        &self,
        workspace: WorkspaceId,
        limit: usize,
        cursor: Option<&str>,
    ) -> Result<Paged<DeadLetter>, QueryError> {
        letters::dead_letters(&self.shared, workspace, limit, cursor)
    }

    /// Try a dead delivery again; `false` if there is none of that id.
    pub fn replay(&self, workspace: WorkspaceId, dead_letter: &str) -> Result<bool, QueryError> {
        letters::replay(&self.shared, workspace, dead_letter)
    }

    /// How far the work behind the log has come.
    pub fn progress(&self, workspace: WorkspaceId) -> Progress {
        let backlog = self.shared.workspace(workspace).and_then(|known| known.outstanding());
        Progress {
            head: self.shared.store.head(),
            reacted: self.shared.reacted(),
            backlog: backlog.map_or(0, |(looked, population)| (population - looked.min(population)).max(1)),
        }
    }

    /// Wait until everything up to `at_least` is computed and nothing new waits for its first computation; whether it came
    /// to that within `timeout`.
    pub fn wait_until_reacted(&self, workspace: WorkspaceId, at_least: Position, timeout: Duration) -> bool {
        let deadline = Instant::now() + timeout;
        loop {
            let progress = self.progress(workspace);
            if progress.reacted >= at_least && progress.backlog == 0 {
                return true;
            }
            if Instant::now() >= deadline {
                return false;
            }
            self.shared.store.wait_for_change(self.shared.store.head(), Duration::from_millis(5));
        }
    }

    /// What would go with an installation if it were removed.
    pub fn removal(&self, workspace: WorkspaceId, installation: InstallationId) -> Result<Removal, QueryError> {
        query::removal(&self.shared, workspace, installation)
    }

    /// How each workspace's work behind the log goes.
    pub fn health(&self) -> Vec<Health> {
        let workspaces = self.shared.workspaces.read();
        workspaces.keys().map(|workspace| Health { workspace: *workspace, failing: None }).collect()
    }

    /// The hosts that a workspace's channels send to.
    pub fn receiving_hosts(&self, _workspace: WorkspaceId) -> Vec<HostView> {
        Vec::new()
    }

    /// What a workspace holds.
    pub fn totals(&self, workspace: WorkspaceId) -> Result<Totals, QueryError> {
        query::totals(&self.shared, workspace)
    }

    /// Fit a model on all profiles, on this blocking thread. `progress` is told rows done and the number of profiles.
    pub fn fit(
        &self,
        workspace: WorkspaceId,
        installation: InstallationId,
        progress: &(dyn Fn(u64, u64) + Sync),
    ) -> Result<Fitted, FitError> {
        let rows = Arc::new(AtomicU64::new(0));
        let population = self.shared.workspace(workspace).map_or(0, |known| known.index.read().population().len());
        std::thread::scope(|scope| {
            let shared = Arc::clone(&self.shared);
            let counter = Arc::clone(&rows);
            let fit = scope.spawn(move || fit::run(&shared, workspace, installation, counter));
            while !fit.is_finished() {
                progress(rows.load(Ordering::Relaxed), population);
                std::thread::park_timeout(Duration::from_millis(20));
            }
            fit.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        })
    }
}

#[cfg(test)]
mod tests;
