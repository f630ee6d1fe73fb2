//! What the server is told at its start: where its data lies, what plugins may do at most, and the limits of its HTTP side.
//! The only place that reads the environment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kith_host::{CompileMode, Limits};
use kith_model::budget::{Budget, table};
use kith_model::secret::Secret;
use kith_model::time::{Clock, SystemClock};
use kith_store::EngineKind;

use crate::front::Proxies;
use crate::public::PublicUrl;
use crate::serve::{KeySource, MasterKeys, TlsFiles};
use crate::signatures::trust::SignaturePolicy;

/// Everything the server is told at its start.
#[derive(Clone)]
pub struct Config {
    /// The one directory that holds everything. Made where it is missing.
    pub data_directory: PathBuf,
    /// The engine behind the journal. It may be changed between two starts.
    pub engine: EngineKind,
    /// The first admin key; `None` makes one. In a data directory that is there it must be one of its keys.
    pub admin_key: Option<Secret>,
    /// The keys that everything secret in the store is sealed with.
    pub master_keys: MasterKeys,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
    /// The first workspace's time zone, an IANA name; UTC without it. A data directory that is there keeps the one it was made with,
    /// because calendar days were computed by it, and another is refused.
    pub time_zone: Option<String>,
    /// What no plugin may pass, whatever its manifest asks and an admin grants.
    pub ceiling: Limits,
    /// What all calls of plugins under way may take in memory together.
    pub guest_memory_bytes: u64,
    /// What the process may take of memory that is no file's, before it refuses bodies.
    pub memory_bytes: u64,
    /// What the disk of the data directory always keeps: writes are refused rather than that less is left.
    pub disk_reserve_bytes: u64,
    /// What one source may bring in an hour.
    pub source_bytes: u64,
    /// What the imports of a workspace under way may remember of their rows.
    pub import_memory_bytes: u64,
    /// How large a component may be that is uploaded. One that is there goes on when less is set.
    pub plugin_bytes: u64,
    /// Where plugins are compiled; a child process for plugins that nobody here wrote.
    pub compile: CompileMode,
    /// Which plugins every workspace takes at most, by the signatures of the host's publishers.
    pub signatures: SignaturePolicy,
    /// Whether versions of the dev channel, whose bytes may change, are neither taken nor installed. What runs goes on.
    pub no_dev_versions: bool,
    /// Whether plugins may be granted hosts on this machine's loopback interface.
    pub allow_loopback: bool,
    /// Whether plugins may be granted hosts over plain HTTP.
    pub allow_plain_http: bool,
    /// Whether a data directory is taken that others may enter, because its volume knows no modes.
    pub shared_data_directory: bool,
    pub http: HttpLimits,
    /// How many workspaces there may be.
    pub max_workspaces: u64,
    /// How long dead letters are kept, and deliveries that were given up or skipped.
    pub keep_dead_letters: Duration,
}

/// What the disk keeps unless told.
pub const DISK_RESERVE_BYTES: u64 = 512 << 20;

/// How many days dead letters are kept unless told.
pub const KEEP_DEAD_LETTERS_DAYS: u64 = 90;

/// The limits of the HTTP side.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections at once; more are closed. Each costs a file descriptor and some 30 KiB.
    pub max_connections: usize,
    /// Connections at once of one address; behind a proxy, requests under way of one address that it names.
    pub max_connections_per_peer: usize,
    /// The proxies that clients come through; `None` where they connect themselves.
    pub proxies: Option<Proxies>,
    /// Under which address browsers reach the server.
    pub public_url: Option<PublicUrl>,
    /// The certificate for TLS of the server's own.
    pub tls: Option<TlsFiles>,
    /// Requests of one address without a valid key in a minute.
    pub max_failed_authentications: u64,
    /// Requests with one key under way.
    pub max_requests_per_key: u64,
    /// What the bodies of requests with one key may take in memory together.
    pub max_bytes_per_key: u64,
    /// What the bodies of requests may take in memory together, as they come; a request for which there is no room is
    /// answered 429. Senders who do not say in the head who they are share a sixteenth of it.
    pub max_ingest_bytes: usize,
    /// The body of a client request, as it comes over the wire and after decompression. RudderStack's Python client makes
    /// batches of about 8 MiB.
    pub max_body_bytes: usize,
    /// One stream to `/api/v1/sources/{id}/records`, after decompression.
    pub max_stream_bytes: u64,
    /// Until a request's head is complete, and until a new connection sends its first byte.
    pub head_timeout: Duration,
    /// How long a body may be waited for, and an answer's reader; each KiB that comes or goes gives a second of it back.
    pub body_timeout: Duration,
    /// For requests under way at shutdown.
    pub drain_timeout: Duration,
}

/// A budget's default as a size in memory.
fn size(budget: &Budget) -> usize {
    usize::try_from(budget.default).unwrap_or(usize::MAX)
}

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            max_connections: size(&table::CONNECTIONS),
            max_connections_per_peer: size(&table::PEER_CONNECTIONS),
            proxies: None,
            public_url: None,
            tls: None,
            max_failed_authentications: table::FAILED_AUTHENTICATIONS.default,
            max_requests_per_key: table::CREDENTIAL_REQUESTS.default,
            max_bytes_per_key: table::CREDENTIAL_MEMORY.default,
            max_ingest_bytes: size(&table::INTAKE_MEMORY),
            max_body_bytes: size(&table::CLIENT_BODY),
            max_stream_bytes: table::STREAM_BODY.default,
            head_timeout: Duration::from_millis(table::HEAD_TIME.default),
            body_timeout: Duration::from_millis(table::BODY_TIME.default),
            drain_timeout: Duration::from_secs(20),
        }
    }
}

impl Config {
    /// The defaults over a data directory.
    pub fn new(data_directory: impl Into<PathBuf>) -> Config {
        Config {
            data_directory: data_directory.into(),
            engine: EngineKind::default(),
            admin_key: None,
            master_keys: MasterKeys::default(),
            clock: Arc::new(SystemClock),
            time_zone: None,
            ceiling: Limits::default(),
            guest_memory_bytes: crate::machine::guest_memory_bytes(),
            disk_reserve_bytes: DISK_RESERVE_BYTES,
            source_bytes: table::SOURCE_BYTES.default,
            import_memory_bytes: table::IMPORT_MEMORY.default,
            plugin_bytes: table::COMPONENT_SIZE.default,
            memory_bytes: crate::machine::process_memory_bytes(),
            compile: CompileMode::InProcess,
            signatures: SignaturePolicy::default(),
            no_dev_versions: false,
            allow_loopback: false,
            allow_plain_http: false,
            shared_data_directory: false,
            http: HttpLimits::default(),
            max_workspaces: table::WORKSPACES_KEPT.default,
            keep_dead_letters: Duration::from_secs(KEEP_DEAD_LETTERS_DAYS * 86_400),
        }
    }

    /// The defaults, with the first admin key from `KITH_ADMIN_KEY` and the master key from `KITH_MASTER_KEY` where they are set.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_environment(data_directory: impl Into<PathBuf>) -> Config {
        let set = |name| std::env::var(name).ok().filter(|key| !key.is_empty()).map(Secret::from);
        let (admin_key, current) = (set("KITH_ADMIN_KEY"), set("KITH_MASTER_KEY").map(KeySource::Text));
        let master_keys = MasterKeys { current, ..MasterKeys::default() };
        Config { admin_key, master_keys, ..Config::new(data_directory) }
    }
}
