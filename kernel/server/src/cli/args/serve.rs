//! The arguments of the commands that run a server: `kith serve` and `kith demo`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use kith::config::{DISK_RESERVE_BYTES, HttpLimits, KEEP_DEAD_LETTERS_DAYS};
use kith::front::{Proxies, ProxyHeader};
use kith::public::PublicUrl;
use kith::serve::{KeySource, MasterKeys, TlsFiles};
use kith::signatures::trust::SignaturePolicy;
use kith_model::budget::table;
use kith_model::network::{InvalidNetwork, Network};
use kith_model::secret::Secret;
use kith_model::sending::{MAX_SENDING, SendingLimits};
use kith_model::time::Timestamp;
use kith_store::EngineKind;

const MESSAGES_PER_CHANNEL: u64 = SendingLimits::DEFAULT.messages_at_once as u64;
const REQUESTS_PER_HOST: u64 = SendingLimits::DEFAULT.requests_per_host as u64;
const WORKSPACES: u64 = kith_model::budget::table::WORKSPACES_KEPT.default;

fn sending_limit() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..=MAX_SENDING)
}

/// At least what one call needs with the server's limits; each call counts with all that it may take.
fn guest_memory() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(LEAST_GUEST_MEMORY_MIB..=MOST_GUEST_MEMORY_MIB)
}

/// `table::GUEST_MEMORY` and `table::GUEST_OUTPUT`; a test compares.
pub(super) const LEAST_GUEST_MEMORY_MIB: u64 = 80;
/// What a server without people and plugins takes, and a few bodies.
const LEAST_MEMORY_MIB: u64 = 128;
const MOST_GUEST_MEMORY_MIB: u64 = 1 << 24;
/// What the engine may still have to write of what is in the journal.
const LEAST_DISK_RESERVE_MIB: u64 = 128;

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where everything is kept; made where it is missing
    #[arg(long, env = "KITH_DATA", default_value = "kith-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, env = "KITH_LISTEN", default_value = "127.0.0.1:7700", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    #[command(flatten)]
    pub(crate) exposure: ExposureArgs,
    #[command(flatten)]
    pub(crate) budgets: BudgetArgs,
    /// Take a data directory whose mode cannot be changed, on a volume that knows none; others may read what is in it
    #[arg(long)]
    pub(crate) shared_data_dir: bool,
    /// The storage engine behind the journal
    #[arg(long, value_enum, default_value_t = Engine::Sled)]
    pub(crate) engine: Engine,
    /// Stand still at this time in place of the machine's clock, e.g. 2026-11-21T10:00:00Z
    #[arg(long, value_name = "RFC3339")]
    pub(crate) clock: Option<Timestamp>,
    /// Which plugins every workspace takes at most: `any`; those of the host's publishers signed, `known-publisher`; or only what
    /// the host's publishers signed, `required`. A workspace may be stricter
    #[arg(long, env = "KITH_SIGNATURES", value_name = "any|known-publisher|required", default_value_t = SignaturePolicy::Any)]
    pub(crate) signatures: SignaturePolicy,
    /// Take no plugin versions whose bytes may change (`0.2.0-dev`), and install none
    #[arg(long, env = "KITH_NO_DEV_VERSIONS")]
    pub(crate) no_dev_versions: bool,
    /// Let plugins reach granted addresses on this machine
    #[arg(long)]
    pub(crate) allow_loopback: bool,
    /// Let plugins reach addresses of this private range where their grant names it too; may be given again
    #[arg(long, value_name = "CIDR", value_parser = parse_private)]
    pub(crate) allow_network: Vec<Network>,
    /// Let plugins reach granted addresses without TLS
    #[arg(long)]
    pub(crate) allow_plain_http: bool,
    /// Messages of one channel that are under way at once, at most; an installation's grant may say less
    #[arg(long, env = "KITH_MESSAGES_PER_CHANNEL", value_name = "N", default_value_t = MESSAGES_PER_CHANNEL, value_parser = sending_limit())]
    pub(crate) messages_per_channel: u64,
    /// Requests of one channel that are under way to one host at once, at most; an installation's grant may say less
    #[arg(long, env = "KITH_REQUESTS_PER_HOST", value_name = "N", default_value_t = REQUESTS_PER_HOST, value_parser = sending_limit())]
    pub(crate) requests_per_host: u64,
    /// What all calls of plugins under way may take in memory together, in MiB; what polls ask and are answered takes a quarter as
    /// much again [default: a quarter of the machine's or the control group's, at least 256]
    #[arg(long, env = "KITH_GUEST_MEMORY", value_name = "MIB", value_parser = guest_memory())]
    pub(crate) guest_memory: Option<u64>,
    /// What the process may take in memory, in MiB; while it takes more, bodies of requests are refused [default: three quarters
    /// of the machine's or the control group's, at least 512]
    #[arg(long, env = "KITH_MEMORY", value_name = "MIB", value_parser = clap::value_parser!(u64).range(LEAST_MEMORY_MIB..=MOST_GUEST_MEMORY_MIB))]
    pub(crate) memory: Option<u64>,
    /// What the disk of the data directory always keeps, in MiB: writes are refused rather than that less is left
    #[arg(long, env = "KITH_DISK_RESERVE", value_name = "MIB", default_value_t = DISK_RESERVE_BYTES >> 20, value_parser = clap::value_parser!(u64).range(LEAST_DISK_RESERVE_MIB..=MOST_GUEST_MEMORY_MIB))]
    pub(crate) disk_reserve: u64,
    /// Workspaces that there may be, at most
    #[arg(long, env = "KITH_MAX_WORKSPACES", value_name = "N", default_value_t = WORKSPACES, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) max_workspaces: u64,
    /// Days for which dead letters are kept, and messages that were given up or skipped
    #[arg(long, env = "KITH_KEEP_DEAD_LETTERS", value_name = "DAYS", default_value_t = KEEP_DEAD_LETTERS_DAYS, value_parser = clap::value_parser!(u64).range(1..=36_500))]
    pub(crate) keep_dead_letters: u64,
    /// Where calendar days begin in a new data directory, an IANA name; one that is there keeps its own, and another is refused
    /// [default: UTC]
    #[arg(long, value_name = "ZONE")]
    pub(crate) time_zone: Option<String>,
    #[command(flatten)]
    pub(crate) master_key: MasterKeyArgs,
    /// What is logged, e.g. `info` or `kith=debug,warn`
    #[arg(long, env = "KITH_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
    /// How it is logged
    #[arg(long, env = "KITH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// The admin key of a new data directory, in place of a made one
    #[arg(long, env = "KITH_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) admin_key: Option<Secret>,
}

/// Where the keys are that everything secret in the store is sealed with. The key itself is no argument, because others on the machine
/// see those: it is in a file, or in the variable `KITH_MASTER_KEY`.
#[derive(Debug, Args)]
pub(crate) struct MasterKeyArgs {
    /// The master key, in place of `host.key` in the data directory: 32 bytes or 64 hexadecimal digits, which KITH_MASTER_KEY may
    /// hold as well
    #[arg(long, env = "KITH_MASTER_KEY_FILE", value_name = "FILE")]
    master_key_file: Option<PathBuf>,
    /// An older master key, which opens what it sealed until `kith key rotate` has sealed that anew; may be given again
    #[arg(long, env = "KITH_OLD_MASTER_KEY_FILE", value_name = "FILE", value_delimiter = ',')]
    old_master_key_file: Vec<PathBuf>,
}

impl MasterKeyArgs {
    /// # Errors
    /// Where the key is given twice.
    pub(crate) fn keys(&self) -> Result<MasterKeys, String> {
        let text = super::set("KITH_MASTER_KEY").map(|text| KeySource::Text(text.into()));
        let file = self.master_key_file.clone().map(KeySource::File);
        if text.is_some() && file.is_some() {
            return Err(
                "the master key is given twice, by --master-key-file and by KITH_MASTER_KEY; leave one out".to_owned()
            );
        }
        Ok(MasterKeys { current: file.or(text), old: self.old_master_key_file.clone() })
    }
}

/// How the server is reached from other machines: with TLS of its own, or through a proxy that speaks it.
#[derive(Debug, Args)]
pub(crate) struct ExposureArgs {
    /// The server's certificate for TLS, as PEM, with those that lead to its root; read again when it changes and on SIGHUP
    #[arg(long, env = "KITH_TLS_CERTIFICATE", value_name = "FILE", requires = "tls_key")]
    pub(crate) tls_certificate: Option<PathBuf>,
    /// The certificate's private key, as PEM
    #[arg(long, env = "KITH_TLS_KEY", value_name = "FILE", requires = "tls_certificate")]
    pub(crate) tls_key: Option<PathBuf>,
    /// A proxy in front of the server speaks TLS and names each client; without this or a certificate, only addresses of this
    /// machine are listened on
    #[arg(long, env = "KITH_BEHIND_PROXY")]
    pub(crate) behind_proxy: bool,
    /// Where the proxies are, e.g. 10.0.0.0/8; others' headers are ignored. May be given again; without it, whoever connects is
    /// the one proxy
    #[arg(long, value_name = "CIDR", requires = "behind_proxy")]
    pub(crate) trusted_proxy: Vec<Network>,
    /// The address under which browsers reach the server, e.g. https://events.example.com: what Segment's browser client is told to
    /// send to. Without it that is told only to who names the address that it is connected to
    #[arg(long, env = "KITH_PUBLIC_URL", value_name = "URL")]
    pub(crate) public_url: Option<PublicUrl>,
    /// The header in which the proxy names the client
    #[arg(long, value_enum, default_value_t = ForwardedHeader::XForwardedFor, requires = "behind_proxy")]
    pub(crate) proxy_header: ForwardedHeader,
}

impl ExposureArgs {
    /// Both files, or neither.
    pub(crate) fn tls(&self) -> Option<TlsFiles> {
        let (certificate, key) = (self.tls_certificate.clone()?, self.tls_key.clone()?);
        Some(TlsFiles { certificate, key })
    }

    pub(crate) fn proxies(&self) -> Option<Proxies> {
        let header = match self.proxy_header {
            ForwardedHeader::XForwardedFor => ProxyHeader::XForwardedFor,
            ForwardedHeader::Forwarded => ProxyHeader::Forwarded,
        };
        self.behind_proxy.then(|| Proxies { header, trusted: self.trusted_proxy.clone() })
    }
}

/// A header that names a proxy's client.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum ForwardedHeader {
    XForwardedFor,
    Forwarded,
}

/// What callers together and each of them may take.
#[derive(Debug, Args)]
pub(crate) struct BudgetArgs {
    /// Connections at once; more are closed
    #[arg(long, env = "KITH_CONNECTIONS", value_name = "N", default_value_t = table::CONNECTIONS.default, value_parser = budget())]
    pub(crate) connections: u64,
    /// Connections of one address at once; behind a proxy, requests under way of one address that it names
    #[arg(long, env = "KITH_PEER_CONNECTIONS", value_name = "N", default_value_t = table::PEER_CONNECTIONS.default, value_parser = budget())]
    pub(crate) peer_connections: u64,
    /// Requests of one address without a valid key in a minute; more of them are answered 429
    #[arg(long, env = "KITH_FAILED_AUTHENTICATIONS", value_name = "N", default_value_t = table::FAILED_AUTHENTICATIONS.default, value_parser = budget())]
    pub(crate) failed_authentications: u64,
    /// Requests with one key under way
    #[arg(long, env = "KITH_KEY_REQUESTS", value_name = "N", default_value_t = table::CREDENTIAL_REQUESTS.default, value_parser = budget())]
    pub(crate) key_requests: u64,
    /// Bodies of requests with one key in memory together, in bytes
    #[arg(long, env = "KITH_KEY_MEMORY", value_name = "BYTES", default_value_t = table::CREDENTIAL_MEMORY.default, value_parser = memory())]
    pub(crate) key_memory: u64,
    /// Bodies of requests in memory together, in bytes; senders whose head does not name a key share a sixteenth of it
    #[arg(long, env = "KITH_INTAKE_MEMORY", value_name = "BYTES", default_value_t = table::INTAKE_MEMORY.default, value_parser = memory())]
    pub(crate) intake_memory: u64,
    /// What one source may bring in an hour, in bytes
    #[arg(long, env = "KITH_SOURCE_BYTES", value_name = "BYTES", default_value_t = table::SOURCE_BYTES.default, value_parser = budget())]
    pub(crate) source_bytes: u64,
    /// What the imports of a workspace under way may remember of their rows, in bytes
    #[arg(long, env = "KITH_IMPORT_MEMORY", value_name = "BYTES", default_value_t = table::IMPORT_MEMORY.default, value_parser = budget())]
    pub(crate) import_memory: u64,
    /// How large a plugin may be that is uploaded, in bytes; compiling has limits of its own
    #[arg(long, env = "KITH_PLUGIN_BYTES", value_name = "BYTES", default_value_t = table::COMPONENT_SIZE.default, value_parser = plugin_bytes())]
    pub(crate) plugin_bytes: u64,
}

impl BudgetArgs {
    /// The limits of the HTTP side, with what says how the server is reached.
    pub(crate) fn http(&self, exposure: &ExposureArgs) -> HttpLimits {
        let size = |number: u64| usize::try_from(number).unwrap_or(usize::MAX);
        HttpLimits {
            max_connections: size(self.connections),
            max_connections_per_peer: size(self.peer_connections),
            max_failed_authentications: self.failed_authentications,
            max_requests_per_key: self.key_requests,
            max_bytes_per_key: self.key_memory,
            max_ingest_bytes: size(self.intake_memory),
            proxies: exposure.proxies(),
            public_url: exposure.public_url.clone(),
            tls: exposure.tls(),
            ..HttpLimits::default()
        }
    }
}

fn budget() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..)
}

/// A sixteenth of it still takes the largest body of a sender who does not name a key.
fn memory() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(16 << 20..)
}

/// The most that a server can be told to take of a plugin: half of what the bodies of one key's requests may take in memory.
pub(crate) const MOST_PLUGIN_BYTES: u64 = 64 << 20;

pub(crate) fn plugin_bytes() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(64 << 10..=MOST_PLUGIN_BYTES)
}

fn parse_private(text: &str) -> Result<Network, String> {
    let network: Network = text.parse().map_err(|error: InvalidNetwork| error.to_string())?;
    if network.is_private() {
        return Ok(network);
    }
    Err("only private ranges can be allowed (in 10.0.0.0/8, 172.16.0.0/12, 192.168.0.0/16, 100.64.0.0/10 or fc00::/7); public \
         addresses need no permission, and this machine's need --allow-loopback"
        .to_owned())
}

/// A storage engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Sled,
    Redb,
}

impl Engine {
    /// As the store knows it.
    pub(crate) fn kind(self) -> EngineKind {
        match self {
            Engine::Sled => EngineKind::Sled,
            Engine::Redb => EngineKind::Redb,
        }
    }
}

/// A log format.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum LogFormat {
    /// Lines for people
    Text,
    /// One JSON object a line
    Json,
}

#[derive(Debug, Args)]
pub(crate) struct DemoArgs {
    /// End after the table in place of going on serving
    #[arg(long)]
    pub(crate) once: bool,
    /// Keep the data here, in a new or empty folder, in place of a temporary one
    #[arg(long, value_name = "DIR")]
    pub(crate) data: Option<PathBuf>,
    /// The address to listen on; the default is 127.0.0.1:7700, or a free port where that is taken
    #[arg(long, value_name = "ADDRESS")]
    pub(crate) listen: Option<SocketAddr>,
    #[command(flatten)]
    pub(crate) tools: Tools,
}

/// The programs that build plugins.
#[derive(Debug, Clone, Args)]
pub(crate) struct Tools {
    /// The cargo to use
    #[arg(long, env = "CARGO", default_value = "cargo", hide = true)]
    pub(crate) cargo: PathBuf,
}
