//! The arguments of the commands that run a server: `kith serve` and `kith demo`.

use std::net::SocketAddr;
use std::path::PathBuf;

use clap::builder::RangedU64ValueParser;
use clap::{Args, ValueEnum};
use kith_model::sending::{MAX_SENDING, SendingLimits};
use kith_model::time::Timestamp;

const MESSAGES_PER_CHANNEL: u64 = SendingLimits::DEFAULT.messages_at_once as u64;
const REQUESTS_PER_HOST: u64 = SendingLimits::DEFAULT.requests_per_host as u64;
const WORKSPACES: u64 = kith_model::budget::table::WORKSPACES_KEPT.default;

fn sending_limit() -> RangedU64ValueParser<u64> {
    RangedU64ValueParser::new().range(1..=MAX_SENDING)
}

#[derive(Debug, Args)]
pub(crate) struct ServeArgs {
    /// Where everything is kept; made where it is missing
    #[arg(long, env = "KITH_DATA", default_value = "kith-data", value_name = "DIR")]
    pub(crate) data: PathBuf,
    /// The address to listen on; port 0 takes a free one
    #[arg(long, env = "KITH_LISTEN", default_value = "127.0.0.1:7700", value_name = "ADDRESS")]
    pub(crate) listen: SocketAddr,
    /// The storage engine behind the journal
    #[arg(long, value_enum, default_value_t = Engine::Sled)]
    pub(crate) engine: Engine,
    /// Stand still at this time in place of the machine's clock, e.g. 2026-11-21T10:00:00Z
    #[arg(long, value_name = "RFC3339")]
    pub(crate) clock: Option<Timestamp>,
    /// Let plugins reach granted addresses on this machine
    #[arg(long)]
    pub(crate) allow_loopback: bool,
    /// Let plugins reach granted addresses without TLS
    #[arg(long)]
    pub(crate) allow_plain_http: bool,
    /// Messages of one channel that are under way at once, at most; an installation's grant may say less
    #[arg(long, env = "KITH_MESSAGES_PER_CHANNEL", value_name = "N", default_value_t = MESSAGES_PER_CHANNEL, value_parser = sending_limit())]
    pub(crate) messages_per_channel: u64,
    /// Requests of one channel that are under way to one host at once, at most; an installation's grant may say less
    #[arg(long, env = "KITH_REQUESTS_PER_HOST", value_name = "N", default_value_t = REQUESTS_PER_HOST, value_parser = sending_limit())]
    pub(crate) requests_per_host: u64,
    /// Workspaces that there may be, at most
    #[arg(long, env = "KITH_MAX_WORKSPACES", value_name = "N", default_value_t = WORKSPACES, value_parser = clap::value_parser!(u64).range(1..=1_000_000))]
    pub(crate) max_workspaces: u64,
    /// Where calendar days begin in a new data directory, an IANA name
    #[arg(long, default_value = "UTC", value_name = "ZONE")]
    pub(crate) time_zone: String,
    /// What is logged, e.g. `info` or `kith=debug,warn`
    #[arg(long, env = "KITH_LOG", default_value = "info", value_name = "FILTER")]
    pub(crate) log: String,
    /// How it is logged
    #[arg(long, env = "KITH_LOG_FORMAT", value_enum, default_value_t = LogFormat::Text)]
    pub(crate) log_format: LogFormat,
    /// The admin key of a new data directory, in place of a made one
    #[arg(long, env = "KITH_ADMIN_KEY", hide_env_values = true, value_name = "KEY")]
    pub(crate) admin_key: Option<String>,
}

/// A storage engine.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Engine {
    Sled,
    Redb,
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
