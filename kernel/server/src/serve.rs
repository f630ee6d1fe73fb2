//! Starting and stopping: the data directory, the first key, all parts put together, the accept loop with its timers and
//! caps, and a shutdown that finishes what is under way.

mod connection;
mod doors;
pub(crate) mod host_key;
mod master_keys;
mod observer;
mod reset;
mod rotation;
mod tls;

use std::collections::BTreeSet;
use std::future::Future;
use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::pin::pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::mpsc::Receiver;
use std::time::Duration;

use hyper_util::server::graceful::GracefulShutdown;
use kith_features::Zone;
use kith_host::{Host, HostConfig, HostError};
use kith_model::budget::{Permits, table};
use kith_model::id::{Name, WorkspaceId};
use kith_model::secret::Secret;
use kith_pipeline::{HostLimits, Kernel, Patience, StartError, offload};
use kith_store::{Embedded, OpenError, Store, StoreConfig};
use parking_lot::Mutex;
use tokio::net::TcpListener;
use tokio::task::JoinSet;

use self::connection::Serving;
use self::doors::Doors;
use self::host_key::{HostKey, Sharing};
pub use self::master_keys::{KeySource, MasterKeys};
use self::master_keys::{Keys, Missing};
pub use self::reset::{make_host_key, reset_key};
pub use self::rotation::{KeyUse, KeysInUse, Rotated, master_keys_in_use, rotate_master_key};
use self::tls::Tls;
pub use self::tls::{TlsError, TlsFiles};
use crate::api::{self, InVain, refusal_delay};
use crate::app::App;
use crate::auth::{self, KeyKind, Scope, UnusableKey};
use crate::catalogue::artifacts::{ArtifactError, Artifacts};
use crate::catalogue::sealed::KeyRing;
use crate::catalogue::{Catalogue, CatalogueError, CredentialRow, WorkspaceRow};
use crate::config::Config;
use crate::fitting::{self, schedule};
use crate::machine;
use crate::memory::ProcessMemory;
use crate::metrics::Metrics;
use crate::processor::ProcessorShares;
use crate::reads::{self, NoteKinds, Reads};
use crate::retention;
use crate::shares::Shares;
use crate::watch::{self, Watch};
use crate::wiring::{Loading, Source, Wiring, WiringError};

/// Why the server did not start, or did not go on.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error("the data directory {} cannot be used", .path.display())]
    DataDirectory { path: PathBuf, source: io::Error },
    #[error("the key in {} cannot be used", .path.display())]
    KeyFile { path: PathBuf, source: io::Error },
    #[error("KITH_MASTER_KEY is no key: write its 32 bytes as 64 hexadecimal digits")]
    MasterKeyText,
    #[error(
        "the data directory {} was sealed with its `host.key`, which is not there: put it back from where you keep it, or give the \
         master key with --master-key-file or KITH_MASTER_KEY. Nothing was changed",
        .path.display()
    )]
    NoMasterKey { path: PathBuf },
    #[error(
        "the master key lies outside of the data directory: say with --new-master-key-file where the new one is, or is to be made"
    )]
    NoPlaceForKey,
    #[error("the first admin key cannot be used")]
    AdminKey(#[from] UnusableKey),
    #[error(
        "the admin key that was given (KITH_ADMIN_KEY, --admin-key) is no key of the data directory {}: a key is taken over only \
         where a new directory is made. Start without it; where the keys are lost, `kith key reset --data {}` makes another",
        .path.display(), .path.display()
    )]
    ForeignAdminKey { path: PathBuf },
    #[error("there is no workspace `{name}` in the data directory")]
    NoWorkspace { name: Name },
    #[error("the first workspace's time zone cannot be used: {0}")]
    TimeZone(String),
    #[error(
        "--time-zone {wanted} cannot take effect: the data directory {} was made with {held}, and its first workspace's calendar days \
         stay there; leave --time-zone out, or make another workspace: `kith workspace create NAME --time-zone {wanted}`", path.display()
    )]
    OtherTimeZone { path: PathBuf, held: String, wanted: String },
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
    #[error(transparent)]
    Tls(#[from] TlsError),
    #[error(
        "{0} is reached from other machines, and keys and people's data would travel there in clear text; give a \
         certificate with --tls-certificate FILE --tls-key FILE, or say --behind-proxy where a proxy in front of the server \
         speaks TLS"
    )]
    ClearText(SocketAddr),
}

/// The first workspace of a data directory; its keys are the operator's.
pub(crate) const FIRST_WORKSPACE: WorkspaceId = WorkspaceId(1);

/// A server that is open and not yet listening.
pub struct Server {
    app: Arc<App>,
    store: Arc<Embedded>,
    first_admin_key: Option<Secret>,
    tls: Option<Arc<Tls>>,
}

/// Open the data directory and start the kernel. To be called on a thread that may block.
pub fn open(config: Config) -> Result<Server, ServeError> {
    check_first(&config)?;
    let unusable = |source| ServeError::DataDirectory { path: config.data_directory.clone(), source };
    let sharing = if config.shared_data_directory { Sharing::Taken } else { Sharing::Refused };
    host_key::private_directory(&config.data_directory, sharing).map_err(unusable)?;
    let settings = StoreConfig {
        engine: config.engine,
        disk_reserve_bytes: config.disk_reserve_bytes,
        ..StoreConfig::new(config.data_directory.join("store"))
    };
    // The store first, which nobody else has open then: a rotation in another process could put other keys in the place of those read.
    let store = Arc::new(kith_store::open(settings)?);
    let missing = Missing::beside(store.as_ref()).map_err(CatalogueError::from)?;
    let Keys { ring, own, current } = master_keys::read(&config, sharing, missing)?;
    // Before anything is written: with other keys the store would hold what half of them opens.
    rotation::insist_on_keys(store.as_ref(), &ring)?;
    let no_key = || ServeError::NoMasterKey { path: config.data_directory.clone() };
    current.ok_or_else(no_key)?;
    let key = HostKey::open(store.as_ref(), &ring, own)?.ok_or_else(no_key)?;
    rotation::seal_unnamed(store.as_ref(), &ring)?;
    if master_keys::next_path(&config).exists() {
        tracing::warn!("a rotation of the master key was stopped before its end; `kith key rotate` finishes it");
    }
    start(config, store, ring, &key)
}

/// Insist on what a new data directory would be made with before anything of it is: a directory that is half made would be taken for
/// one that is there.
fn check_first(config: &Config) -> Result<(), ServeError> {
    if config.data_directory.join("store").exists() {
        return Ok(());
    }
    first_zone(config)?;
    chosen_key(config).map(auth::adopt).transpose()?;
    Ok(())
}

/// The time zone of a first workspace.
fn first_zone(config: &Config) -> Result<&str, ServeError> {
    let zone = config.time_zone.as_deref().unwrap_or("UTC");
    Zone::parse(zone).map_err(|error| ServeError::TimeZone(error.to_string()))?;
    Ok(zone)
}

/// Insist that a chosen time zone is that of the first workspace, where there is one: another would be ignored without a word, and days
/// would be told in a zone that nobody chose.
fn check_chosen_zone(catalogue: &Catalogue, config: &Config) -> Result<(), ServeError> {
    let Some(wanted) = config.time_zone.as_ref() else { return Ok(()) };
    let tables = catalogue.tables();
    match tables.workspaces.get(&FIRST_WORKSPACE) {
        Some(first) if first.row.time_zone != *wanted => Err(ServeError::OtherTimeZone {
            path: config.data_directory.clone(),
            held: first.row.time_zone.clone(),
            wanted: wanted.clone(),
        }),
        _ => Ok(()),
    }
}

/// The admin key that the operator chose. An empty one is what an unset variable becomes in many deployment tools.
fn chosen_key(config: &Config) -> Option<&str> {
    config.admin_key.as_ref().map(Secret::expose).filter(|key| !key.is_empty())
}

/// Insist that a chosen admin key opens a data directory that is there: one that does not would be ignored without a word.
fn check_chosen_key(catalogue: &Catalogue, config: &Config) -> Result<(), ServeError> {
    let Some(text) = chosen_key(config) else { return Ok(()) };
    let tables = catalogue.tables();
    let row = auth::id_of(text).and_then(|id| tables.credentials.get(&id));
    if row.is_some_and(|row| auth::matches(&row.hash, text) && row.is_good(config.clock.now())) {
        return Ok(());
    }
    Err(ServeError::ForeignAdminKey { path: config.data_directory.clone() })
}

/// Put all parts together over an open store.
fn start(config: Config, store: Arc<Embedded>, ring: KeyRing, key: &HostKey) -> Result<Server, ServeError> {
    let clock = Arc::clone(&config.clock);
    let seam: Arc<dyn Store> = Arc::clone(&store) as Arc<dyn Store>;
    let catalogue = Catalogue::open(Arc::clone(&seam), Arc::clone(&clock), ring)?;
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
    let running = tables.workspaces.values().filter(|tables| tables.row.state.is_active());
    let setups = running.map(|tables| {
        let source = Source { tables: tables.as_ref(), must_run: &must_run, sealer, now };
        let setup = wiring.setup(source, Loading::Allowed(&Patience::default()))?;
        wiring.keep_loaded(tables.row.id, wiring.loaded(tables));
        Ok::<_, WiringError>(setup)
    });
    let setups = setups.collect::<Result<Vec<_>, _>>()?;
    let (observer, quarantines) = observer::channel();
    let limits = HostLimits {
        guest_memory_bytes: config.guest_memory_bytes,
        source_bytes: config.source_bytes,
        import_memory_bytes: config.import_memory_bytes,
        process_memory_bytes: config.memory_bytes,
    };
    let kernel = Kernel::start_within(limits, seam, Arc::clone(&clock), Arc::new(observer), setups)?;
    catalogue.commit_under(kernel.fence());
    let (watch, ended) = Watch::new();
    let (writing_down, reads_ended) = std::sync::mpsc::channel();
    let (forgetting, retention_ended) = std::sync::mpsc::channel();
    let (scheduling, fits_ended) = std::sync::mpsc::channel();
    let (http, memory) = (&config.http, config.http.max_ingest_bytes as u64);
    let tls = http.tls.clone().map(Tls::open).transpose()?.map(Arc::new);
    let app = Arc::new(App {
        memory: Arc::new(ProcessMemory::new(config.memory_bytes)),
        ingest_memory: Permits::new(&table::INTAKE_MEMORY, memory),
        stranger_memory: Permits::new(&table::STRANGER_MEMORY, memory / STRANGERS_SHARE),
        credential_memory: Shares::new(&table::CREDENTIAL_MEMORY, http.max_bytes_per_key),
        credential_requests: Shares::new(&table::CREDENTIAL_REQUESTS, http.max_requests_per_key),
        peer_requests: Shares::new(&table::PEER_REQUESTS, http.max_connections_per_peer as u64),
        processor: ProcessorShares::new(),
        exports: Shares::new(&table::EXPORTS_AT_ONCE, table::EXPORTS_AT_ONCE.default),
        failures: InVain::new(&table::FAILED_AUTHENTICATIONS, http.max_failed_authentications),
        refusals: InVain::new(&table::PROMPT_REFUSALS, table::PROMPT_REFUSALS.default),
        config,
        clock,
        catalogue,
        kernel,
        wiring,
        metrics: Metrics::of_process(),
        preview_key: key.derive("previews"),
        mask_key: key.derive("masks"),
        reads: Reads::default(),
        _writing_down: writing_down,
        _forgetting: forgetting,
        _scheduling: scheduling,
        watch,
        closing: AtomicBool::new(false),
        tenancy: Mutex::default(),
    });
    observer::write_down(&app, quarantines).map_err(ServeError::Thread)?;
    begin_threads(&app, [ended, reads_ended, retention_ended, fits_ended]).map_err(ServeError::Thread)?;
    Ok(Server { app, store, first_admin_key, tls })
}

/// Start the threads that look after a running server. Each ends when its sender is dropped, with the server.
fn begin_threads(app: &Arc<App>, ends: [Receiver<()>; 4]) -> io::Result<()> {
    let [ended, reads_ended, retention_ended, fits_ended] = ends;
    watch::begin(app, ended)?;
    reads::begin(app, reads_ended)?;
    retention::begin(app, retention_ended)?;
    fitting::end_interrupted(&app.catalogue);
    schedule::begin(app, fits_ended)
}

/// Where there is no workspace yet, make `default` with an admin key; its text, where it was made here. In those that are there, seal
/// what a release before did not.
fn create_first_workspace(catalogue: &Catalogue, config: &Config) -> Result<Option<Secret>, ServeError> {
    if !catalogue.tables().workspaces.is_empty() {
        check_chosen_zone(catalogue, config)?;
        check_chosen_key(catalogue, config)?;
        catalogue.seal_unshown()?;
        return Ok(None);
    }
    let zone = first_zone(config)?;
    let (key, made_here) = match chosen_key(config) {
        Some(text) => (auth::adopt(text)?, false),
        None => (auth::generate(KeyKind::Api).map_err(|error| ServeError::Random(error.to_string()))?, true),
    };
    let now = config.clock.now();
    let name: Name = "default".parse().expect("`default` is a name");
    let workspace = WorkspaceRow::new(FIRST_WORKSPACE, name, zone.to_owned(), now);
    // Whoever starts the server is its host.
    let scopes = [Scope::All, Scope::WorkspacesAdmin];
    let credential = CredentialRow::new(&key, FIRST_WORKSPACE, "first admin key", scopes, now);
    catalogue.create_workspace(workspace, credential)?;
    let text = Secret::from(key.text);
    Ok(made_here.then_some(text))
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

/// Whether a server with these settings may listen at the address.
///
/// # Errors
/// [`ServeError::ClearText`] where others would reach it without TLS, its own or a proxy's.
pub fn check_listen(config: &Config, address: SocketAddr) -> Result<(), ServeError> {
    let is_private =
        config.http.tls.is_some() || config.http.proxies.is_some() || address.ip().to_canonical().is_loopback();
    if is_private { Ok(()) } else { Err(ServeError::ClearText(address)) }
}

impl Server {
    /// The admin key that was made for a new data directory. It is kept nowhere else: show it, this once.
    pub fn first_admin_key(&self) -> Option<&str> {
        self.first_admin_key.as_ref().map(Secret::expose)
    }

    /// What every handler can reach.
    pub fn app(&self) -> &Arc<App> {
        &self.app
    }

    /// Serve on `listener` until `shutdown` is over, then finish what is under way and close.
    ///
    /// # Errors
    /// [`ServeError::ClearText`], as [`check_listen`].
    pub async fn run(self, listener: TcpListener, shutdown: impl Future<Output = ()>) -> Result<(), ServeError> {
        if let Ok(address) = listener.local_addr() {
            check_listen(&self.app.config, address)?;
        }
        let Server { app, store, tls, .. } = self;
        let router = api::router(Arc::clone(&app));
        accept(&app, Serving { router, limits: app.config.http.clone(), tls }, listener, shutdown).await;
        offload::run(move || {
            reads::write_down(&app, NoteKinds::All);
            app.kernel.stop();
            store.close();
        })
        .await;
        tracing::info!("stopped");
        Ok(())
    }
}

/// Senders whose head does not say who they are share this part of what all may take.
const STRANGERS_SHARE: u64 = 16;

/// How long to wait when the system gives no connection, e.g. for want of file descriptors.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// How often histograms are folded.
const UPKEEP_PERIOD: Duration = Duration::from_secs(5);

/// And of these times, how often freed memory is given back.
const GIVE_BACK_EVERY: u32 = 6;

/// Take connections until `shutdown` is over, then let the ones under way end.
async fn accept(app: &Arc<App>, serving: Serving, listener: TcpListener, shutdown: impl Future<Output = ()>) {
    let doors = Doors::new(&app.config.http, machine::open_files());
    let _follows = serving.tls.clone().map(|tls| AbortOnDrop(tokio::spawn(tls::follow(tls))));
    let graceful = GracefulShutdown::new();
    let mut connections = JoinSet::new();
    let (mut upkeep, mut ticks) = (tokio::time::interval(UPKEEP_PERIOD), 0_u32);
    let mut shutdown = pin!(shutdown);
    loop {
        let stream = tokio::select! {
            accepted = listener.accept() => accepted,
            () = &mut shutdown => break,
            _ = upkeep.tick() => {
                app.metrics.upkeep();
                ticks = ticks.wrapping_add(1);
                if ticks.is_multiple_of(GIVE_BACK_EVERY) {
                    let app = Arc::clone(app);
                    tokio::spawn(offload::run(move || app.memory.upkeep()));
                }
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
        let Ok(place) = doors.let_in(peer) else {
            metrics::counter!("kith_http_connections_refused_total").increment(1);
            if let Some(place) = doors.waiting_place(&app.refusals, peer) {
                connections.spawn(async move {
                    tokio::time::sleep(refusal_delay()).await;
                    drop((stream, place));
                });
            }
            continue;
        };
        let serving = serving.clone().connection(stream, peer, graceful.watcher());
        connections.spawn(async move {
            let _held = place;
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

/// A task that ends with its owner.
struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
pub(crate) mod tests;
