//! What a plugin declares of itself, what an admin grants it, and the limits that either names.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{PluginId, PluginKind};
use crate::consent::Giver;
use crate::table::ColumnType;

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
    /// Tag models and scorers: the shape of the bytes that `fit` returns, raised by the vendor whenever it changes. A version
    /// is never asked about a state of another shape. `None` where the vendor declares nothing: the guest is asked, and says
    /// so where it cannot read the state.
    #[serde(default)]
    pub state_version: Option<u32>,
    /// Connectors: that they fetch from the other side, and how often. Without it they are never asked to.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub poll: Option<PollRequest>,
    /// Tag models and scorers: how they learn from the history. Without it they learn from what people are now.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub training: Option<Training>,
    /// Requested limits; an absent one asks for the host's default.
    pub limits: LimitRequest,
}

fn idempotent_unless_said() -> bool {
    true
}

impl Manifest {
    /// The names of the `track` events that the plugin may emit; `None` for any. Events of other kinds have no names that others
    /// build on. A connector exists to emit events, so one that names none is not narrowed; what else names none emits none.
    pub fn emitted_names(&self) -> Option<&[String]> {
        let emits = &self.capabilities.emits;
        let is_any = emits.iter().any(|name| name == "*");
        let says_nothing = emits.is_empty() && self.kind == PluginKind::Connector;
        (!is_any && !says_nothing).then_some(emits.as_slice())
    }
}

/// That a connector wants to fetch from the other side.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct PollRequest {
    /// The time between two polls, unless the installation says another.
    pub interval_ms: u64,
    /// Why the plugin needs it, shown to the admin.
    pub reason: String,
}

/// How a model learns from the history: a row for each person and cut-off, with what came after it.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Training {
    /// An expression over the events of the horizon behind a cut-off and nothing else. May hold `${config.key}`.
    pub label: String,
    /// How far behind a cut-off the label looks. The last cut-off lies so long before the fit.
    pub horizon_ms: u64,
    /// The time between two cut-offs.
    pub every_ms: u64,
    /// How many there are.
    pub cut_offs: u32,
    /// The output that says beforehand what the label says afterwards.
    pub predicts: String,
    /// Inputs that read what has no history, and are taken as it is now.
    pub timeless: Vec<String>,
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
    /// Relays that a channel hands mail to.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub mail: Vec<MailRequest>,
    pub secrets: Vec<SecretRequest>,
    /// Bytes of key-value state; 0 for none.
    pub kv_bytes: u64,
    /// Why the plugin needs that state. Empty without any, and in manifests that were read when it was not kept.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub kv_reason: String,
    /// Names of the `track` events it may emit; `*` for any. See [`Manifest::emitted_names`].
    pub emits: Vec<String>,
    /// Channels: which of a person's identifiers it is given.
    #[serde(default)]
    pub recipients: Vec<RecipientRequest>,
    /// Channels: the purposes that it carries messages for, as consents are kept by them; absent for every one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub purposes: Option<Vec<String>>,
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

/// A relay that a channel asks to hand mail to.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct MailRequest {
    /// As [`HttpRequest::host`], with a port (`smtp.example.com:587`) or without one, for any that the admin then names.
    pub host: String,
    pub reason: String,
}

/// A secret that a plugin asks to use, never to see.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct SecretRequest {
    pub name: String,
    /// The hosts it may be sent to; the same patterns as [`HttpRequest::host`]. None for one that signatures are only checked with.
    pub hosts: Vec<String>,
    pub reason: String,
    /// Whether the plugin does its work without it.
    #[serde(default)]
    pub optional: bool,
    /// How it is written.
    #[serde(default)]
    pub form: SecretForm,
}

/// How a secret is written.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum SecretForm {
    /// Any text.
    #[default]
    Text,
    /// `whsec_` and the base64 of 24 to 64 bytes, after Standard Webhooks.
    StandardWebhooks,
}

/// What an admin allowed. Effective policy = manifest request ∩ grant ∩ host ceiling.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Grants {
    /// `host` or `host:port` that may be reached over HTTP, exact names; with methods before it, `GET,HEAD host`, where it is to have
    /// fewer than the manifest asks for.
    pub http: Vec<String>,
    /// Private ranges of addresses that those hosts may be in, e.g. `10.1.0.0/16`, of those that the server is started with. A
    /// host that is written as an address names itself.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub networks: Vec<String>,
    /// Secret name → hosts it may be sent to.
    pub secrets: BTreeMap<String, Vec<String>>,
    pub kv_bytes: u64,
    /// `host:port` of the relays that mail may be handed to, exact names.
    pub mail: Vec<String>,
    /// Types of identifiers that a channel is given, of those that its manifest asks for; absent means all of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub recipients: Option<Vec<String>>,
    /// Purposes that a channel carries messages for, of those that its manifest names; absent means all of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub purposes: Option<Vec<String>>,
    /// Names of the events that it may emit, of those that its manifest names; absent, or with `*`, means all of these.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub emits: Option<Vec<String>>,
    /// Whether what a connector's events say of consent may end refusals.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub consent: Option<ConsentGrant>,
    /// What the data dictionary calls sensitive and the plugin may read all the same, as conditions write it, e.g. `traits.salary`.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub sensitive: Vec<String>,
    /// Lower limits than the host's.
    pub limits: LimitRequest,
}

impl Grants {
    /// Whether a source with these grants may end refusals of consent.
    pub fn giver(&self) -> Giver {
        match self.consent {
            Some(ConsentGrant::Give) => Giver::MayAgree,
            None => Giver::RefusesOnly,
        }
    }
}

/// What a source may say of consent beside refusals, which are taken from everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ConsentGrant {
    /// An explicit `true` ends a refusal.
    Give,
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
    /// Requests and mails of a connector or a channel in a minute.
    pub requests_per_minute: Option<u64>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn grants_written_before_recipients_existed_leave_them_to_the_manifest() {
        let grants: Grants = serde_json::from_str(r#"{"http":["a.example"]}"#).unwrap();
        assert_eq!(grants.recipients, None);
        let text = serde_json::to_string(&grants).unwrap();
        assert!(!text.contains("recipients") && !text.contains("networks"), "{text}");
    }
}
