//! What every handler can reach, and the two things that all of them need: who is asking, and how a change of the
//! catalogue takes effect in the running kernel.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Sender;

use kith_model::id::WorkspaceId;
use kith_model::time::Clock;
use kith_pipeline::{Asker, Kernel, Patience, Setup, offload};
use tokio::sync::Semaphore;

use crate::api::masks::CrowdCounts;
use crate::auth::{self, Caller, KeyId};
use crate::catalogue::{Actor, Catalogue, CatalogueError, Draft};
use crate::config::Config;
use crate::error::ApiError;
use crate::metrics::Metrics;
use crate::reads::{Reads, RefusedKey};
use crate::serve::FIRST_WORKSPACE;
use crate::watch::Watch;
use crate::wiring::{Loading, Source, Wiring};

/// The running server.
pub struct App {
    pub config: Config,
    pub clock: Arc<dyn Clock>,
    pub catalogue: Catalogue,
    pub kernel: Arc<Kernel>,
    pub wiring: Wiring,
    pub metrics: Metrics,
    /// Authenticates the tokens of previews.
    pub(crate) preview_key: [u8; 32],
    /// Decides where numbers of people are rounded.
    pub(crate) mask_key: [u8; 32],
    /// Of the keys that may not read people.
    pub(crate) crowd_counts: CrowdCounts,
    /// Who read people, until it is in the audit log.
    pub(crate) reads: Reads,
    /// Dropped with the server, it ends the thread that writes them down.
    pub(crate) _writing_down: Sender<()>,
    pub(crate) watch: Watch,
    /// One permit for each KiB that the bodies of client requests may take in memory.
    pub(crate) ingest_memory: Arc<Semaphore>,
    /// The same for those whose head does not say who they are.
    pub(crate) stranger_memory: Arc<Semaphore>,
    pub(crate) closing: AtomicBool,
}

impl App {
    /// Who holds the key `text`.
    pub(crate) fn authenticate(&self, text: &str) -> Result<Caller, ApiError> {
        const UNKNOWN: ApiError = ApiError::Unauthenticated { message: "no such key" };
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
        Ok(Caller { workspace: row.workspace, key: row.id.clone(), scopes: row.scopes.clone(), source: row.source })
    }

    /// Do blocking work on a thread made for it.
    pub(crate) async fn offload<T: Send + 'static>(
        self: &Arc<App>,
        work: impl FnOnce(&Arc<App>) -> T + Send + 'static,
    ) -> T {
        let app = Arc::clone(self);
        offload::run(move || work(&app)).await
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
    /// run. Blocking; a change under way holds up all others, so a plugin that it needs must be loaded already.
    pub(crate) fn change<T>(
        &self,
        workspace: WorkspaceId,
        actor: Actor,
        edit: impl FnOnce(&mut Draft<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut change = self.catalogue.begin(workspace, actor)?;
        let answer = edit(&mut change)?;
        if !change.alters_setup() {
            drop(change.commit()?);
            return Ok(answer);
        }
        let setup = self.setup(&change, Loading::Done)?;
        Kernel::check(&setup)?;
        let _committed = change.commit()?;
        // The check has passed and the change is kept, so that a restart puts it in force whatever happens here.
        self.kernel.configure(setup).map_err(|error| ApiError::internal("putting a change in force", error))?;
        Ok(answer)
    }

    /// A change that may need a plugin that is not loaded: it is made on paper first and what it needs is loaded, because a
    /// component may take half a minute to compile, and no other change can be made meanwhile.
    pub(crate) fn change_after_loading<T>(
        &self,
        workspace: WorkspaceId,
        actor: Actor,
        edit: impl Fn(&mut Draft<'_>) -> Result<T, ApiError>,
    ) -> Result<T, ApiError> {
        let mut draft = self.catalogue.rehearse(workspace, actor.clone())?;
        edit(&mut draft)?;
        Kernel::check(&self.setup(&draft, Loading::Allowed)?)?;
        self.change(workspace, actor, edit)
    }

    fn setup(&self, draft: &Draft<'_>, loading: Loading) -> Result<Setup, ApiError> {
        let (tables, must_run, sealer) = (draft.tables(), draft.touched(), self.catalogue.sealer());
        Ok(self.wiring.setup(Source { tables, must_run, sealer, now: draft.now() }, loading)?)
    }

    /// Whether the server is about to stop.
    pub(crate) fn is_closing(&self) -> bool {
        self.closing.load(Ordering::Relaxed)
    }
}

impl From<CatalogueError> for ApiError {
    fn from(error: CatalogueError) -> ApiError {
        match error {
            CatalogueError::Commit(error) => error.into(),
            error => ApiError::internal("using the catalogue", error),
        }
    }
}

impl From<kith_store::CommitError> for ApiError {
    fn from(error: kith_store::CommitError) -> ApiError {
        use kith_store::CommitError;
        match error {
            CommitError::DiskFull { .. } => {
                tracing::error!(%error, "nothing more is taken");
                let message = "the disk is nearly full; nothing was taken".to_owned();
                ApiError::Unavailable { code: "disk-full", message, retry_after_s: 60 }
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
