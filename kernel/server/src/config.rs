//! What the server is told at its start: where its data lies, what plugins may do at most, and the limits of its HTTP side.
//! The only place that reads the environment.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use kith_host::{CompileMode, Limits};
use kith_model::time::{Clock, SystemClock};
use kith_store::EngineKind;

/// Everything the server is told at its start.
#[derive(Clone)]
pub struct Config {
    /// The one directory that holds everything. Made where it is missing.
    pub data_directory: PathBuf,
    /// The engine behind the journal. It may be changed between two starts.
    pub engine: EngineKind,
    /// The first admin key; `None` makes one. Heeded only where the data directory is new.
    pub admin_key: Option<String>,
    /// Where "now" comes from.
    pub clock: Arc<dyn Clock>,
    /// The first workspace's time zone, an IANA name. Heeded only where the data directory is new.
    pub time_zone: String,
    /// What no plugin may pass, whatever its manifest asks and an admin grants.
    pub ceiling: Limits,
    /// Where plugins are compiled; a child process for plugins that nobody here wrote.
    pub compile: CompileMode,
    /// Whether plugins may be granted hosts on this machine's loopback interface.
    pub allow_loopback: bool,
    /// Whether plugins may be granted hosts over plain HTTP.
    pub allow_plain_http: bool,
    pub http: HttpLimits,
    /// How many workspaces there may be.
    pub max_workspaces: u64,
}

/// The limits of the HTTP side.
#[derive(Debug, Clone)]
pub struct HttpLimits {
    /// Connections at once; more are closed at once. Each costs a file descriptor and some 30 KiB.
    pub max_connections: usize,
    /// Connections at once of one address. A proxy that all clients come through needs as many as it opens.
    pub max_connections_per_peer: usize,
    /// What the bodies of client requests may take in memory together, as they come; a request for which there is no room is
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

impl Default for HttpLimits {
    fn default() -> HttpLimits {
        HttpLimits {
            max_connections: 4_096,
            max_connections_per_peer: 1_024,
            max_ingest_bytes: 256 << 20,
            max_body_bytes: 10 << 20,
            max_stream_bytes: 64 << 30,
            head_timeout: Duration::from_secs(10),
            body_timeout: Duration::from_secs(30),
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
            clock: Arc::new(SystemClock),
            time_zone: "UTC".to_owned(),
            ceiling: Limits::default(),
            compile: CompileMode::InProcess,
            allow_loopback: false,
            allow_plain_http: false,
            http: HttpLimits::default(),
            max_workspaces: kith_model::budget::table::WORKSPACES_KEPT.default,
        }
    }

    /// The defaults, and the first admin key from `KITH_ADMIN_KEY` where it is set.
    #[allow(clippy::disallowed_methods, reason = "the one place that reads the environment")]
    pub fn from_environment(data_directory: impl Into<PathBuf>) -> Config {
        let admin_key = std::env::var("KITH_ADMIN_KEY").ok().filter(|key| !key.is_empty());
        Config { admin_key, ..Config::new(data_directory) }
    }
}
