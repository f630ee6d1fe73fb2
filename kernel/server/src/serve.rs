//! Starting and stopping: the data directory, the first key, all parts put together, the accept loop with its timers and
//! caps, and a shutdown that finishes what is under way.

pub(crate) mod host_key;
mod observer;
mod peers;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::Router;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use kith_features::Zone;
use kith_host::{Host, HostConfig, HostError};
use kith_model::id::{Name, WorkspaceId};
use kith_pipeline::{Kernel, StartError, offload};
use kith_store::{Embedded, OpenError, Store, StoreConfig};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use self::peers::Peers;
use crate::api;
use crate::api::masks::CrowdCounts;
use crate::app::App;
use crate::auth::{self, KeyKind, Scope, UnusableKey};
use crate::catalogue::artifacts::{ArtifactError, Artifacts};
use crate::catalogue::sealed::Sealer;
use crate::catalogue::{Catalogue, CatalogueError, CredentialRow, WorkspaceRow};
use crate::config::{Config, HttpLimits};
use crate::metrics::Metrics;
use crate::pace::Paced;
use crate::reads::{self, Due, Reads};
use crate::watch::{self, Watch};
use crate::wiring::{Loading, Source, Wiring, WiringError};

/// Why the server did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the data directory {} cannot be used", .path.display())]
    DataDirectory { path: PathBuf, source: io::Error },
    #[error("the first admin key cannot be used")]
    AdminKey(#[from] UnusableKey),
    #[error("the first workspace's time zone cannot be used: {0}")]
    TimeZone(String),
    #[error("the system gives no random bits: {0}")]
    Random(String),
    #[error("opening the store")]
    Store(#[from] OpenError),
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
    #[error(transparent)]
    Artifacts(#[from] ArtifactError),
    #[error("starting the plugin host")]
    Host(#[from] HostError),
    #[error(transparent)]
    Wiring(#[from] WiringError),
    #[error("starting the kernel")]
    Kernel(#[from] StartError),
    #[error("starting a thread")]
    Thread(#[source] io::Error),
}

/// The first workspace of a data directory; its keys are the operator's.
pub(crate) const FIRST_WORKSPACE: WorkspaceId = WorkspaceId(1);

/// A server that is open and not yet listening.
pub struct Server {
    app: Arc<App>,
    store: Arc<Embedded>,
    first_admin_key: Option<String>,
}

/// Open the data directory and start the kernel. To be called on a thread that may block.
pub fn open(config: Config) -> Result<Server, ServeError> {
    let unusable = |source| ServeError::DataDirectory { path: config.data_directory.clone(), source };
    host_key::private_directory(&config.data_directory).map_err(unusable)?;
    let key = host_key::HostKey::open(&config.data_directory.join("host.key")).map_err(unusable)?;
    let settings = StoreConfig { engine: config.engine, ..StoreConfig::new(config.data_directory.join("store")) };
    start(config, Arc::new(kith_store::open(settings)?), &key)
}

/// Put all parts together over an open store.
fn start(config: Config, store: Arc<Embedded>, key: &host_key::HostKey) -> Result<Server, ServeError> {
    let clock = Arc::clone(&config.clock);
    let seam: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    let catalogue = Catalogue::open(Arc::clone(&seam), Arc::clone(&clock), Sealer::new(&key.derive("secrets")))?;
    let first_admin_key = create_first_workspace(&catalogue, &config)?;
    let host = Host::new(HostConfig {
        cache_directory: Some(config.data_directory.join("cache")),
        mac_key: key.derive("compiled code"),
        ceiling: config.ceiling.clone(),
        allow_loopback: config.allow_loopback,
        allow_plain_http: config.allow_plain_http,
        clock: Arc::clone(&clock),
        compile: config.compile.clone(),
    })?;
    let artifacts = Artifacts::open(config.data_directory.join("artifacts"))?;
    let wiring = Wiring::new(host, config.ceiling.clone(), artifacts, Arc::clone(&seam), key.realms());
    let tables = catalogue.tables();
    let (sealer, now, must_run) = (catalogue.sealer(), clock.now(), BTreeSet::new());
    let setups = tables.workspaces.values().map(|tables| {
        let source = Source { tables: tables.as_ref(), must_run: &must_run, sealer, now };
        wiring.setup(source, Loading::Allowed)
    });
    let setups = setups.collect::<Result<Vec<_>, _>>()?;
    let (observer, quarantines) = observer::channel();
    let kernel = Kernel::start(seam, Arc::clone(&clock), Arc::new(observer), setups)?;
    catalogue.commit_under(kernel.fence());
    let (watch, ended) = Watch::new();
    let (writing_down, reads_ended) = std::sync::mpsc::channel();
    let permits = config.http.max_ingest_bytes / 1024;
    let app = Arc::new(App {
        ingest_memory: Arc::new(Semaphore::new(permits.min(Semaphore::MAX_PERMITS))),
        stranger_memory: Arc::new(Semaphore::new((permits / STRANGERS_SHARE).clamp(1, Semaphore::MAX_PERMITS))),
        config,
        clock,
        catalogue,
        kernel,
        wiring,
        metrics: Metrics::of_process(),
        preview_key: key.derive("previews"),
        mask_key: key.derive("masks"),
        crowd_counts: CrowdCounts::default(),
        reads: Reads::default(),
        _writing_down: writing_down,
        watch,
        closing: AtomicBool::new(false),
    });
    observer::write_down(&app, quarantines).map_err(ServeError::Thread)?;
    watch::begin(&app, ended).map_err(ServeError::Thread)?;
    reads::begin(&app, reads_ended).map_err(ServeError::Thread)?;
    Ok(Server { app, store, first_admin_key })
}

/// Where there is no workspace yet, make `default` with an admin key. Its text, where it was made here.
fn create_first_workspace(catalogue: &Catalogue, config: &Config) -> Result<Option<String>, ServeError> {
    if !catalogue.tables().workspaces.is_empty() {
        return Ok(None);
    }
    Zone::parse(&config.time_zone).map_err(|error| ServeError::TimeZone(error.to_string()))?;
    // An empty one is what an unset variable becomes in many deployment tools.
    let chosen = config.admin_key.as_deref().filter(|key| !key.is_empty());
    let (key, made_here) = match chosen {
        Some(text) => (auth::adopt(text)?, false),
        None => (auth::generate(KeyKind::Api).map_err(|error| ServeError::Random(error.to_string()))?, true),
    };
    let now = config.clock.now();
    let name: Name = "default".parse().expect("`default` is a name");
    let workspace = WorkspaceRow { id: FIRST_WORKSPACE, name, time_zone: config.time_zone.clone(), created_at: now };
    let credential = CredentialRow {
        id: key.id,
        workspace: FIRST_WORKSPACE,
        title: "first admin key".to_owned(),
        hash: key.hash,
        scopes: [Scope::All].into(),
        source: None,
        created_at: now,
        expires_at: None,
        revoked_at: None,
    };
    catalogue.create_workspace(workspace, credential)?;
    Ok(made_here.then_some(key.text))
}

/// Open the data directory, serve on `listener` until `shutdown` is over, then finish what is under way and close.
///
/// # Errors
/// [`ServeError`] when it cannot start. The first admin key, where one is made, is known to nobody then: who wants it calls
/// [`open`] and [`Server::run`].
pub async fn run(config: Config, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
    let server = offload::run(move || open(config)).await?;
    server.run(listener, shutdown).await
}

impl Server {
    /// The admin key that was made for a new data directory. It is kept nowhere else: show it, this once.
    pub fn first_admin_key(&self) -> Option<&str> {
        self.first_admin_key.as_deref()
    }

    /// What every handler can reach.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Serve on `listener` until `shutdown` is over, then finish what is under way and close.
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        let router = api::router(Arc::clone(&self.app));
        accept(&self.app, router, listener, shutdown).await;
        let Server { app, store, .. } = self;
        offload::run(move || {
            reads::write_down(&app, Due::All);
            app.kernel.stop();
            store.close();
        })
        .await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Senders whose head does not say who they are share this part of what all may take.
const STRANGERS_SHARE: usize = 16;

/// How long to wait when the system gives no connection, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often histograms are folded.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// Take connections until `shutdown` is over, then let the ones under way end.
async fn accept(app: &Arc<App>, router: Router, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let slots = Arc::new(Semaphore::new(app.config.http.max_connections));
    let peers = Peers::new(app.config.http.max_connections_per_peer);
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let mut upkeep = tokio::time::interval(UPKEEP_PERIOD);
    let mut shutdown = pin!(shutdown);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
            _ = upkeep.tick() => {
                app.metrics.upkeep();
                continue;
            }
            Some(_) = connections.join_next() => continue,
        };
        let (stream, peer) = match stream {
            Ok((stream, peer)) => (stream, peer.ip()),
            Err(error) => {
                tracing::warn!(%error, "no connection was accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
                continue;
            }
        };
        let (slot, share) = match (Arc::clone(&slots).try_acquire_owned(), peers.take(peer)) {
            (Ok(slot), Some(share)) => (slot, share),
            _ => {
                metrics::counter!("kith_http_connections_refused_total").increment(1);
                continue;
            }
        };
        let serving = connection(stream, router.clone(), app.config.http.clone(), graceful.watcher());
        connections.spawn(async move {
            let _held = (slot, share);
            let open = metrics::gauge!("kith_http_connections");
            open.increment(1);
            serving.await;
            open.decrement(1);
        });
    }
    drop(listener);
    app.closing.store(true, Ordering::Relaxed);
    tracing::info!(connections = connections.len(), "stopping: no new connections");
    let drained = tokio::time::timeout(app.config.http.drain_timeout, graceful.shutdown()).await;
    if drained.is_err() {
        tracing::warn!(connections = connections.len(), "connections are cut: they did not end in time");
    }
    connections.shutdown().await;
}

/// Serve one connection.
async fn connection(
    stream: TcpStream,
    router: Router,
    limits: HttpLimits,
    watcher: hyper_util::server::graceful::Watcher,
) {
    let HttpLimits { head_timeout, body_timeout, .. } = limits;
    // hyper's own timer begins with the first byte; a connection that never sends one would stay for ever.
    match tokio::time::timeout(head_timeout, stream.readable()).await {
        Ok(Ok(())) => {}
        Ok(Err(_)) | Err(_) => return,
    }
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "a connection without nodelay");
    }
    let mut builder = http1::Builder::new();
    builder.timer(TokioTimer::new()).header_read_timeout(head_timeout);
    let serving =
        builder.serve_connection(TokioIo::new(Paced::new(stream, body_timeout)), TowerToHyperService::new(router));
    if let Err(error) = watcher.watch(serving).await {
        tracing::debug!(%error, "a connection broke");
    }
}

#[cfg(test)]
pub(crate) mod tests;
