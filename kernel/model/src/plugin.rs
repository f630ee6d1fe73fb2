//! Plugins: what a manifest declares, what limits bind a call, how a call can end, and the four roles.
//!
//! The roles are traits in plain types: the host implements them with WebAssembly, tests with closures, and the pipeline
//! cannot tell the difference. All are synchronous; whoever calls them chooses the thread.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

use crate::delivery::{Message, Outcome};
use crate::event::{DraftEvent, RejectedRecord};
use crate::table::{ColumnType, Table};
use crate::time::Timestamp;

/// What a plugin is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum PluginKind {
    Connector,
    TagModel,
    Scorer,
    Channel,
}

impl PluginKind {
    /// The kind's name, which is also its WIT world's.
    pub fn as_str(self) -> &'static str {
        match self {
            PluginKind::Connector => "connector",
            PluginKind::TagModel => "tag-model",
            PluginKind::Scorer => "scorer",
            PluginKind::Channel => "channel",
        }
    }
}

impl fmt::Display for PluginKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// A plugin's name, `vendor/name`: two parts of lower-case letters, digits and `-`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct PluginId {
    vendor: String,
    name: String,
}

/// Why a text is not a plugin id.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is not a plugin id; write `vendor/name` in lower-case letters, digits and `-`, each part beginning with a letter"
)]
pub struct InvalidPluginId(String);

impl PluginId {
    /// The vendor's part.
    pub fn vendor(&self) -> &str {
        &self.vendor
    }

    /// The plugin's own part.
    pub fn name(&self) -> &str {
        &self.name
    }
}

impl fmt::Display for PluginId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}/{}", self.vendor, self.name)
    }
}

impl FromStr for PluginId {
    type Err = InvalidPluginId;

    fn from_str(text: &str) -> Result<PluginId, InvalidPluginId> {
        let is_part = |part: &str| {
            part.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase())
                && part.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-')
                && part.len() <= 64
        };
        match text.split_once('/') {
            Some((vendor, name)) if is_part(vendor) && is_part(name) => {
                Ok(PluginId { vendor: vendor.to_owned(), name: name.to_owned() })
            }
            _ => Err(InvalidPluginId(text.chars().take(128).collect())),
        }
    }
}

impl TryFrom<String> for PluginId {
    type Error = InvalidPluginId;

    fn try_from(text: String) -> Result<PluginId, InvalidPluginId> {
        text.parse()
    }
}

impl From<PluginId> for String {
    fn from(id: PluginId) -> String {
        id.to_string()
    }
}

/// What `plugin.toml` declares. Parsed, with the line of every mistake, by the host crate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Manifest {
    pub id: PluginId,
    pub version: semver::Version,
    pub kind: PluginKind,
    /// The ABI it was built against, e.g. `0.1`.
    pub abi: String,
    /// Which kernel versions it works with.
    pub kernel: semver::VersionReq,
    pub title: String,
    pub description: String,
    pub license: String,
    /// What the plugin sees of a profile, in the manifest's order: the privacy grant, the dependency graph, and a compute
    /// plugin's columns. A channel may have some to fill its content with; a connector has none.
    pub inputs: Vec<InputSpec>,
    /// Compute kinds: the tags or scores it writes.
    pub outputs: Vec<OutputSpec>,
    /// JSON Schema (2020-12) of the installation's configuration; `None` takes no configuration.
    pub config_schema: Option<serde_json::Value>,
    pub capabilities: Capabilities,
    /// Channels: whether the other side takes a repeat of a message id as the same message. Where it does not, an attempt
    /// that a crash cuts off is not repeated without an admin.
    #[serde(default = "idempotent_unless_said")]
    pub idempotent: bool,
    /// Requested limits; an absent one asks for the host's default.
    pub limits: LimitRequest,
}

fn idempotent_unless_said() -> bool {
    true
}

/// One declared input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct InputSpec {
    /// The column's name.
    pub name: String,
    /// A CEL expression over the profile. May hold `${config.key}`, replaced by the installation's configuration value.
    pub expression: String,
    pub column_type: ColumnType,
    /// Why the plugin needs it, shown to the admin.
    pub reason: String,
}

/// One output of a compute plugin: a tag (tag model) or a score (scorer).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct OutputSpec {
    /// The tag's or score's name in the workspace: `tags.<name>`, `scores.<name>`.
    pub name: String,
    pub column_type: ColumnType,
    /// The values that a text tag may take; empty means any.
    pub values: Vec<String>,
    pub description: String,
    pub category: String,
}

/// What a plugin asks for beyond pure computing, each with a reason. An admin grants all, less or none.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct Capabilities {
    pub http: Vec<HttpRequest>,
    pub secrets: Vec<SecretRequest>,
    /// Bytes of key-value state; 0 for none.
    pub kv_bytes: u64,
    /// Names of the events it may emit; `*` for any.
    pub emits: Vec<String>,
    /// Channels: which of a person's identifiers it is given.
    #[serde(default)]
    pub recipients: Vec<RecipientRequest>,
}

/// A type of identifiers that a channel asks to be given.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct RecipientRequest {
    /// `email`, `user_id`, …, or `*` for any.
    pub kind: String,
    pub reason: String,
}

/// Outgoing HTTP that a plugin asks for.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct HttpRequest {
    /// `api.example.com`, `*.example.com`, or `*`: any host that the admin then names in the grant.
    pub host: String,
    pub methods: Vec<String>,
    pub reason: String,
}

/// A secret that a plugin asks to use, never to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRequest {
    pub name: String,
    /// The hosts it may be sent to; the same patterns as [`HttpRequest::host`].
    pub hosts: Vec<String>,
    pub reason: String,
}

/// What an admin allowed. Effective policy = manifest request ∩ grant ∩ host ceiling.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// `host` or `host:port` that may be reached over HTTP, exact names.
    pub http: Vec<String>,
    /// Secret name → hosts it may be sent to.
    pub secrets: BTreeMap<String, Vec<String>>,
    pub kv_bytes: u64,
    /// Mail servers. No kernel sends mail, so a grant that names one is refused.
    pub mail: Vec<String>,
    /// Types of identifiers that a channel is given, of those that its manifest asks for; absent means all of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<Vec<String>>,
    /// Lower limits than the host's.
    pub limits: LimitRequest,
}

/// Limits that a manifest or a grant names; an absent one leaves the next in line to decide. The smallest wins.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct LimitRequest {
    pub memory_bytes: Option<u64>,
    pub cpu_ms: Option<u64>,
    pub wall_ms: Option<u64>,
    pub fuel: Option<u64>,
    pub output_bytes: Option<u64>,
    pub log_bytes: Option<u64>,
    pub host_calls: Option<u64>,
    /// Messages of a channel that are under way at once.
    pub messages_at_once: Option<u64>,
    /// Requests of a channel that are under way to one receiving host at once. A channel of contract 0.1 sends by itself, and
    /// is bounded by its messages alone.
    pub requests_per_host: Option<u64>,
}

/// How one plugin call ended other than well.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum PluginFault {
    /// The plugin says that this input can never work.
    #[error("bad input: {0}")]
    BadInput(String),
    /// The plugin says that trying again later may help.
    #[error("transient failure: {0}")]
    Transient(String),
    /// The plugin says that trying again will not help.
    #[error("permanent failure: {0}")]
    Permanent(String),
    /// The guest trapped or panicked.
    #[error("trap: {message}")]
    Trapped {
        /// The panic's text where there is one, else the trap's kind.
        message: String,
        /// Function names with module offsets, innermost first.
        backtrace: Vec<String>,
    },
    /// The guest used more processor time than its limit.
    #[error("passed the limit of {limit_ms} ms of processor time")]
    CpuExceeded { limit_ms: u64 },
    /// The call, host calls included, took longer than its limit.
    #[error("passed the limit of {limit_ms} ms")]
    DeadlineExceeded { limit_ms: u64 },
    /// The guest used up its fuel.
    #[error("used up its fuel of {limit}")]
    FuelExhausted { limit: u64 },
    /// The guest asked for more memory than its limit and did not survive the refusal.
    #[error("passed the limit of {limit_bytes} bytes of memory")]
    MemoryExceeded { limit_bytes: u64 },
    /// The guest returned or logged more than its limit, or called the host too often.
    #[error("passed the limit of {limit} {what}")]
    LimitExceeded { what: &'static str, limit: u64 },
    /// What the guest returned breaks the contract.
    #[error("broke the contract: {0}")]
    InvalidOutput(String),
    /// The host could not run it.
    #[error("could not be run: {0}")]
    Unavailable(String),
}

impl PluginFault {
    /// A stable code for answers, metrics and dead letters, e.g. `limit.cpu`.
    pub fn code(&self) -> &'static str {
        match self {
            PluginFault::BadInput(_) => "plugin.bad-input",
            PluginFault::Transient(_) => "plugin.transient",
            PluginFault::Permanent(_) => "plugin.permanent",
            PluginFault::Trapped { .. } => "trap",
            PluginFault::CpuExceeded { .. } => "limit.cpu",
            PluginFault::DeadlineExceeded { .. } => "limit.wall",
            PluginFault::FuelExhausted { .. } => "limit.fuel",
            PluginFault::MemoryExceeded { .. } => "limit.memory",
            PluginFault::LimitExceeded { what: "output bytes", .. } => "limit.output",
            PluginFault::LimitExceeded { what: "log bytes", .. } => "limit.log",
            PluginFault::LimitExceeded { .. } => "limit.host-calls",
            PluginFault::InvalidOutput(_) => "invalid-output",
            PluginFault::Unavailable(_) => "unavailable",
        }
    }

    /// Whether the same call may succeed later without anybody changing anything.
    pub fn may_retry(&self) -> bool {
        matches!(self, PluginFault::Transient(_) | PluginFault::DeadlineExceeded { .. } | PluginFault::Unavailable(_))
    }

    /// Whose fault it is, as far as the call itself tells. A connector's `receive` that ends at a limit of memory, processor
    /// time or output is judged by its caller, which knows how large an input it had chosen to hand over.
    pub fn owner(&self) -> FaultOwner {
        match self {
            PluginFault::BadInput(_) | PluginFault::Permanent(_) => FaultOwner::Request,
            // Processor time has a limit of its own, so what passed the other one was spent waiting: for another machine, or
            // where there is none for this one's processors, which is as little the plugin's doing.
            PluginFault::Transient(_) | PluginFault::DeadlineExceeded { .. } => FaultOwner::Peer,
            PluginFault::Trapped { .. }
            | PluginFault::CpuExceeded { .. }
            | PluginFault::FuelExhausted { .. }
            | PluginFault::MemoryExceeded { .. }
            | PluginFault::LimitExceeded { .. }
            | PluginFault::InvalidOutput(_) => FaultOwner::Plugin,
            PluginFault::Unavailable(_) => FaultOwner::Host,
        }
    }

    /// Whether the plugin misbehaved: three strikes quarantine an installation, so that only a fault of its own is one.
    pub fn is_strike(&self) -> bool {
        self.owner() == FaultOwner::Plugin
    }
}

/// Who has to change something for a fault to go away.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FaultOwner {
    /// The input or the configuration: the plugin refuses it in so many words.
    Request,
    /// The machine at the other end of a connection, which failed or was slow.
    Peer,
    /// The plugin: it trapped, passed a limit or broke the contract.
    Plugin,
    /// The kernel, which could not run it.
    Host,
}

impl FaultOwner {
    /// A stable name for metrics and answers.
    pub fn as_str(self) -> &'static str {
        match self {
            FaultOwner::Request => "request",
            FaultOwner::Peer => "peer",
            FaultOwner::Plugin => "plugin",
            FaultOwner::Host => "host",
        }
    }
}

/// A request to a source, or a piece of a file.
#[derive(Debug, Clone, PartialEq)]
pub struct SourceRequest {
    pub method: String,
    pub path: String,
    pub query: String,
    /// Names in lower case; no credentials.
    pub headers: Vec<(String, String)>,
    /// The bytes not yet consumed, decompressed.
    pub body: Vec<u8>,
    /// Whether `body` ends the input.
    pub complete: bool,
    /// What the connector answered as `resume` for the piece before.
    pub resume: Option<Vec<u8>>,
    pub received_at: Timestamp,
}

/// The exact HTTP answer that a client needs.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Answer {
    pub status: u16,
    pub content_type: String,
    pub body: Vec<u8>,
}

/// What a connector made of a request.
#[derive(Debug, Clone, PartialEq)]
pub struct Received {
    pub events: Vec<DraftEvent>,
    pub rejected: Vec<RejectedRecord>,
    /// How many bytes of the body these came from.
    pub consumed: usize,
    pub resume: Option<Vec<u8>>,
    /// `None` means the kernel's own answer with counts and rejected parts.
    pub answer: Option<Answer>,
}

/// A connector refuses a whole request.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Refusal {
    pub status: u16,
    pub code: String,
    pub message: String,
}

/// How a connector's `receive` can end other than well.
#[derive(Debug, Clone, PartialEq)]
pub enum ReceiveError {
    Refused(Refusal),
    Fault(PluginFault),
}

/// One page of a pull.
#[derive(Debug, Clone, PartialEq)]
pub struct PolledPage {
    pub events: Vec<DraftEvent>,
    pub rejected: Vec<RejectedRecord>,
    pub cursor: Vec<u8>,
    pub more: bool,
}

/// What fitting gave.
#[derive(Debug, Clone, PartialEq)]
pub struct Fitted {
    pub state: Vec<u8>,
    pub metrics: Vec<(String, f64)>,
}

/// Bytes in, events out.
pub trait Connector: Send + Sync {
    /// Turn a request, or a piece of a file, into events.
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError>;
    /// Fetch the next page from the other side.
    fn poll(&self, cursor: Option<&[u8]>) -> Result<PolledPage, PluginFault>;
}

/// Columns in, columns out: the shape that tag models and scorers share.
pub trait ComputeModel: Send + Sync {
    /// Learn from the rows of `dataset`.
    fn fit(&self, dataset: Box<dyn Iterator<Item = Table> + Send>) -> Result<Fitted, PluginFault>;
    /// One row of outputs for each row of `rows`, in the same order; one column for each output of the manifest.
    fn compute(&self, state: &[u8], rows: Table) -> Result<Table, PluginFault>;
}

/// A call from a provider about earlier messages.
#[derive(Debug, Clone, PartialEq)]
pub struct Callback {
    pub method: String,
    pub path: String,
    pub query: String,
    pub headers: Vec<(String, String)>,
    pub body: Vec<u8>,
    pub received_at: Timestamp,
}

/// A fact about a message, as an event.
#[derive(Debug, Clone, PartialEq)]
pub struct Receipt {
    pub message_id: String,
    pub event: DraftEvent,
}

/// A channel of contract 0.1, which sends its requests itself. Contract 0.2's is [`crate::sending::PureChannel`].
pub trait Channel: Send + Sync {
    /// Try to deliver; one outcome for each message, in the same order.
    fn send(&self, messages: &[Message]) -> Result<Vec<Outcome>, PluginFault>;
    /// Turn a provider's callback into receipts.
    fn receive(&self, callback: &Callback) -> Result<Vec<Receipt>, ReceiveError>;
}

/// How far an installation takes part.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum InstallationMode {
    /// It runs and its results count.
    Live,
    /// It runs, its results are kept apart and change nothing.
    Shadow,
    /// An admin switched it off.
    Disabled,
    /// The kernel switched it off after repeated faults.
    Quarantined,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_fault_of_the_plugin_itself_is_a_strike() {
        let text = String::new;
        let table = [
            (PluginFault::BadInput(text()), FaultOwner::Request),
            (PluginFault::Permanent(text()), FaultOwner::Request),
            (PluginFault::Transient(text()), FaultOwner::Peer),
            (PluginFault::DeadlineExceeded { limit_ms: 1 }, FaultOwner::Peer),
            (PluginFault::Trapped { message: text(), backtrace: vec![] }, FaultOwner::Plugin),
            (PluginFault::CpuExceeded { limit_ms: 1 }, FaultOwner::Plugin),
            (PluginFault::FuelExhausted { limit: 1 }, FaultOwner::Plugin),
            (PluginFault::MemoryExceeded { limit_bytes: 1 }, FaultOwner::Plugin),
            (PluginFault::LimitExceeded { what: "output bytes", limit: 1 }, FaultOwner::Plugin),
            (PluginFault::InvalidOutput(text()), FaultOwner::Plugin),
            (PluginFault::Unavailable(text()), FaultOwner::Host),
        ];
        for (fault, owner) in table {
            assert_eq!(fault.owner(), owner, "{fault:?}");
            assert_eq!(fault.is_strike(), owner == FaultOwner::Plugin, "{fault:?}");
        }
    }

    #[test]
    fn grants_written_before_recipients_existed_leave_them_to_the_manifest() {
        let grants: Grants = serde_json::from_str(r#"{"http":["a.example"]}"#).unwrap();
        assert_eq!(grants.recipients, None);
        let text = serde_json::to_string(&grants).unwrap();
        assert!(!text.contains("recipients"), "{text}");
    }
}
