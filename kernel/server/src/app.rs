//! What every handler can reach, and the two things that all of them need: who is asking, and how a change of the
//! catalogue takes effect in the running kernel.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use kith_model::budget::{Exhausted, Permits, table};
use kith_model::id::WorkspaceId;
use kith_model::time::Clock;
use kith_pipeline::{Asker, CheckedSetup, Kernel, Patience, Setup, aside, offload};
use parking_lot::Mutex;
use zeroize::Zeroizing;

use crate::api::InVain;
use crate::auth::{self, Caller, KeyId, Scope};
use crate::catalogue::artifacts::ArtifactError;
use crate::catalogue::{Actor, Catalogue, CatalogueError, Draft, HostChange, Tables, WorkspaceState};
use crate::config::Config;
use crate::error::ApiError;
use crate::memory::ProcessMemory;
use crate::metrics::Metrics;
use crate::processor::{self, ProcessorShares};
use crate::reads::{Reads, RefusedKey};
use crate::serve::FIRST_WORKSPACE;
use crate::shares::Shares;
use crate::watch::Watch;
use crate::wiring::{LoadedPlugin, Loading, Source, Wiring};

/// Senders to a suspended workspace are asked to come back after so many seconds, the longest that clients heed.
const SUSPENDED_RETRY_S: u32 = 300;

/// The running server.
pub struct App {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub catalogue: Catalogue,
    pub kernel: Arc<Kernel>,
    pub wiring: Wiring,
    pub metrics: Metrics,
    /// Authenticates the tokens of previews.
    pub(crate) preview_key: Zeroizing<[u8; 32]>,
    /// Decides where numbers of people are rounded.
    pub(crate) mask_key: Zeroizing<[u8; 32]>,
    /// Who read people, until it is in the audit log.
    pub(crate) reads: Reads,
    /// Dropped with the server, it ends the thread that writes them down.
    pub(crate) _writing_down: Sender<()>,
    /// The same of the one that forgets dead letters.
    pub(crate) _forgetting: Sender<()>,
    /// The same of the one that begins fits which are due.
    pub(crate) _scheduling: Sender<()>,
    pub(crate) watch: Watch,
    /// What the process takes in memory.
    pub(crate) memory: Arc<ProcessMemory>,
    /// What bodies of requests take in memory.
    pub(crate) ingest_memory: Arc<Permits>,
    /// The same for those whose head does not say who they are.
    pub(crate) stranger_memory: Arc<Permits>,
    /// The same by key.
    pub(crate) credential_memory: Shares<KeyId>,
    /// Requests under way by key.
    pub(crate) credential_requests: Shares<KeyId>,
    /// Requests under way by the address that a proxy names.
    pub(crate) peer_requests: Shares<IpAddr>,
    /// What requests compute, by workspace.
    pub(crate) processor: ProcessorShares,
    /// Exports under way by workspace.
    pub(crate) exports: Shares<WorkspaceId>,
    pub(crate) failures: InVain,
    /// What each address is refused.
    pub(crate) refusals: InVain,
    pub(crate) closing: AtomicBool,
    /// Held while a workspace is made, suspended, resumed or deleted: these take effect in the order in which they are durable.
    pub(crate) tenancy: Mutex<()>,
}

const UNKNOWN: ApiError = ApiError::Unauthenticated { message: "no such key" };

/// A refusal as senders of events get it. Clients drop what is answered 403 and keep what is answered 503, and what is sent to a
/// workspace that is suspended is wanted once it goes on.
fn to_sender(error: ApiError) -> ApiError {
    match error {
        ApiError::Suspended => ApiError::Unavailable {
            code: "workspace-suspended",
            message: "the workspace is suspended; keep what it is to be sent".to_owned(),
            retry_after_s: SUSPENDED_RETRY_S,
        },
        error => error,
    }
}

impl App {
    /// Who holds the key `text`, with a request of theirs under way.
    pub(crate) fn authenticate(&self, text: &str) -> Result<Caller, ApiError> {
        let Some(id) = auth::id_of(text) else {
            self.reads.refused(FIRST_WORKSPACE, &KeyId::named(""), RefusedKey::Unknown);
            return Err(ApiError::Unauthenticated { message: "the key is mistyped or cut" });
        };
        let tables = self.catalogue.tables();
        let row = tables.credentials.get(&id);
        // An unknown id costs as much as a wrong secret.
        let kept_hash = row.map_or("", |row| row.hash.as_str());
        let fits = auth::matches(kept_hash, text);
        let Some(row) = row else {
            // Nobody's key is refused where the operator sees it.
            self.reads.refused(FIRST_WORKSPACE, &id, RefusedKey::Unknown);
            return Err(UNKNOWN);
        };
        if !fits || !row.is_good(self.clock.now()) {
            let why = if fits { RefusedKey::Ended } else { RefusedKey::WrongSecret };
            self.reads.refused(row.workspace, &id, why);
            return Err(UNKNOWN);
        }
        let _under_way = Arc::new(self.credential_requests.take(id, 1)?);
        let (workspace, key, source) = (row.workspace, row.id.clone(), row.source);
        match self.standing(&tables, workspace) {
            Ok(()) => Ok(Caller { workspace, key, scopes: row.scopes.clone(), source, _under_way }),
            // A host key outlives its workspace, in which it may do nothing meanwhile.
            Err(_) if row.is_host() => {
                Ok(Caller { workspace, key, scopes: [Scope::WorkspacesAdmin].into(), source, _under_way })
            }
            Err(error) => Err(error),
        }
    }

    /// Whether a workspace takes requests.
    fn standing(&self, tables: &Tables, workspace: WorkspaceId) -> Result<(), ApiError> {
        match tables.workspaces.get(&workspace).map(|tables| tables.row.state) {
            Some(WorkspaceState::Active) if self.kernel.runs(workspace) => Ok(()),
            Some(WorkspaceState::Active) => Err(ApiError::Unavailable {
                code: "workspace-starting",
                message: "the workspace is being started; come back in a moment".to_owned(),
                retry_after_s: 1,
            }),
            Some(WorkspaceState::Suspended { .. }) => Err(ApiError::Suspended),
            Some(WorkspaceState::Deleted { .. }) | None => Err(UNKNOWN),
        }
    }

    /// Insist that the key of a request that began is good as before: keys are taken away and workspaces suspended while a body
    /// comes, which may take as long as its sender likes.
    pub(crate) fn insist_on_standing(&self, key: &KeyId) -> Result<(), ApiError> {
        let tables = self.catalogue.tables();
        let row = tables.credentials.get(key).filter(|row| row.is_good(self.clock.now())).ok_or(UNKNOWN)?;
        if row.is_host() { Ok(()) } else { self.standing(&tables, row.workspace) }
    }

    /// The same for somebody who sends events.
    pub(crate) fn insist_on_standing_of_sender(&self, key: &KeyId) -> Result<(), ApiError> {
        self.insist_on_standing(key).map_err(to_sender)
    }

    /// [`App::authenticate`] for somebody who sends events.
    pub(crate) fn authenticate_sender(&self, text: &str) -> Result<Caller, ApiError> {
        self.authenticate(text).map_err(to_sender)
    }

    /// Do blocking work on a thread made for it. Within a request it counts for the workspace of the request.
    pub(crate) async fn offload<T: Send + 'static>(
        self: &Arc<App>,
        work: impl FnOnce(&Arc<App>) -> T + Send + 'static,
    ) -> T {
        let app = Arc::clone(self);
        let computes = processor::computes();
        let Some(workspace) = computes.workspace else { return offload::run(move || work(&app)).await };
        let piece = self.processor.piece(workspace).await;
        let is_large = computes.is_large;
        let yields = is_large || self.processor.is_eager(workspace);
        offload::run(move || {
            let charged = || app.processor.charged(workspace, is_large, || work(&app));
            let done = if yields { aside(charged) } else { charged() };
            // Also where the request is gone meanwhile.
            drop(piece);
            done
        })
        .await
    }

    /// The same for a question that is given up when its asker goes: when the request is dropped, this is.
    pub(crate) async fn ask<T: Send + 'static>(
        self: &Arc<App>,
        work: impl FnOnce(&Arc<App>, &Patience) -> T + Send + 'static,
    ) -> T {
        let asker = Asker::default();
        let patience = asker.patience();
        let answer = self.offload(move |app| work(app, &patience)).await;
        drop(asker);
        answer
    }

    /// Change the catalogue, and then what runs: nothing runs that is not durable, and nothing is durable that could not
    /// run. Blocking; a change under way holds up all others of its workspace, so a plugin that it needs must be loaded already.
    pub(crate) fn change<T>(
        &self,
        workspace: WorkspaceId,
        actor: Actor,
        edit: impl FnOnce(&mut Draft<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        self.change_as_rehearsed(workspace, actor, None, edit)
    }

    /// [`App::change`], with what its rehearsal has parsed and loaded.
    pub(crate) fn change_as_rehearsed<T>(
        &self,
        workspace: WorkspaceId,
        actor: Actor,
        rehearsed: Option<&RehearsedSetup>,
        edit: impl FnOnce(&mut Draft<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let key = actor.key.clone();
        let mut change = self.catalogue.begin(workspace, actor)?;
        // No key of the workspace is taken away from here on, and it is not suspended, until the change is made.
        if key != KeyId::kernel() {
            self.insist_on_standing(&key)?;
        }
        let answer = edit(&mut change)?;
        // What does not run takes its setup from the catalogue when it is resumed.
        if !change.alters_setup() || !change.tables().row.state.is_active() {
            drop(change.commit()?);
            return Ok(answer);
        }
        let setup = self.setup(&change, Loading::Done)?;
        let checked = self.kernel.check(setup, rehearsed.map(|rehearsed| &rehearsed.checked))?;
        self.insist_on_aggregates(&change, &checked)?;
        let loaded = self.wiring.loaded(change.tables());
        let _committed = change.commit()?;
        self.kernel.put_in_force(checked);
        self.wiring.keep_loaded(workspace, loaded);
        Ok(answer)
    }

    /// Make anew what a workspace runs, where something has changed that it is made of and that is not in the catalogue.
    pub(crate) fn make_anew(&self, workspace: WorkspaceId) -> Result<(), ApiError> {
        // Held until it is in force: nobody changes the workspace meanwhile.
        let change = self.catalogue.begin(workspace, Actor::kernel())?;
        if change.tables().row.state.is_active() {
            let checked = self.kernel.check(self.setup(&change, Loading::Done)?, None)?;
            let loaded = self.wiring.loaded(change.tables());
            self.kernel.put_in_force(checked);
            self.wiring.keep_loaded(workspace, loaded);
        }
        Ok(())
    }

    /// A change that may need a plugin that is not loaded: it is made on paper first and what it needs is loaded, because a
    /// component may take half a minute to compile, and no other change of the workspace can be made meanwhile.
    pub(crate) fn change_after_loading<T>(
        &self,
        workspace: WorkspaceId,
        actor: Actor,
        patience: &Patience,
        edit: impl Fn(&mut Draft<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut draft = self.catalogue.rehearse(workspace, actor.clone())?;
        edit(&mut draft)?;
        let rehearsed = self.rehearsed(&draft, patience)?;
        self.change_as_rehearsed(workspace, actor, Some(&rehearsed), edit)
    }

    /// Begin a change of the workspaces themselves.
    pub(crate) fn begin_host(&self, actor: Actor) -> Result<HostChange<'_>, ApiError> {
        let key = actor.key.clone();
        let change = self.catalogue.begin_host(actor);
        self.insist_on_standing(&key)?;
        Ok(change)
    }

    /// Load and check what a draft would run.
    pub(crate) fn rehearsed(&self, draft: &Draft<'_>, patience: &Patience) -> Result<RehearsedSetup, ApiError> {
        let setup = self.setup(draft, Loading::Allowed(patience))?;
        let _loaded = self.wiring.loaded(draft.tables());
        Ok(RehearsedSetup { checked: self.kernel.check(setup, None)?, _loaded })
    }

    /// Insist that a change leaves no more aggregates than the workspace may have. Whatever makes them no more is taken, or one that
    /// has too many could not be put in order.
    fn insist_on_aggregates(&self, draft: &Draft<'_>, checked: &CheckedSetup) -> Result<(), Exhausted> {
        let (tables, aggregates) = (draft.tables(), checked.aggregates());
        if aggregates <= self.kernel.aggregates(tables.row.id) {
            return Ok(());
        }
        tables.insist_on_room(&table::AGGREGATES_KEPT, aggregates - 1)
    }

    /// Load and check what a draft would run of which nothing will come, and refuse what the change itself would be refused for.
    pub(crate) fn tried_on_paper(&self, draft: &Draft<'_>, patience: &Patience) -> Result<(), ApiError> {
        let setup = self.setup(draft, Loading::OnPaper(patience))?;
        let checked = self.kernel.check(setup, None)?;
        self.insist_on_aggregates(draft, &checked)?;
        Ok(draft.insist_on_writing()?)
    }

    /// Take a component from the disk that no workspace has, or none any more.
    pub(crate) fn sweep(&self, digest: &str, component: Option<&[u8]>) {
        let is_used = || {
            // Read here, where no upload of it can begin.
            let tables = self.catalogue.tables();
            let mut plugins = tables.workspaces.values().flat_map(|tables| tables.plugins.values());
            plugins.any(|row| row.digest == digest)
        };
        self.wiring.components().sweep(digest, component, is_used);
    }

    /// Take all components from the disk that no workspace has: a process that ended between the file and the row leaves one.
    pub(crate) fn sweep_all(&self) -> Result<(), ArtifactError> {
        let tables = self.catalogue.tables();
        let plugins = tables.workspaces.values().flat_map(|tables| tables.plugins.values());
        let named: BTreeSet<&str> = plugins.map(|row| row.digest.as_str()).collect();
        let on_disk = self.wiring.components().on_disk()?;
        on_disk.iter().filter(|digest| !named.contains(digest.as_str())).for_each(|digest| self.sweep(digest, None));
        Ok(())
    }

    fn setup(&self, draft: &Draft<'_>, loading: Loading<'_>) -> Result<Setup, ApiError> {
        let (tables, must_run, sealer) = (draft.tables(), draft.touched(), self.catalogue.sealer());
        Ok(self.wiring.setup(Source { tables, must_run, sealer, now: draft.now() }, loading)?)
    }

    /// Whether the server is about to stop.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

/// What the rehearsal of a change has parsed and loaded. Loaded plugins stay so while this is held.
pub(crate) struct RehearsedSetup {
    checked: CheckedSetup,
    _loaded: Vec<LoadedPlugin>,
}

impl From<CatalogueError> for ApiError {
    fn from(error: CatalogueError) -> ApiError {
        match error {
            CatalogueError::Commit(error) => error.into(),
            CatalogueError::Exhausted(exhausted) => exhausted.into(),
            // Its keys are no one's: the request came before the deletion and its work after it.
            CatalogueError::NoWorkspace(_) => ApiError::Unauthenticated { message: "no such key" },
            error => ApiError::internal("using the catalogue", error),
        }
    }
}

impl From<kith_store::CommitError> for ApiError {
    fn from(error: kith_store::CommitError) -> ApiError {
        use kith_store::CommitError;
        match error {
            CommitError::DiskFull { .. } => {
                tracing::error!(%error, "nothing is stored");
                ApiError::disk_full()
            }
            CommitError::Closed => {
                let message = "the server is shutting down".to_owned();
                ApiError::Unavailable { code: "closing", message, retry_after_s: 2 }
            }
            CommitError::Conflict(_) | CommitError::Fenced { .. } | CommitError::TooLarge { .. } => {
                ApiError::internal("committing", error)
            }
            CommitError::Read(error) => ApiError::internal("reading the store", error),
        }
    }
}
