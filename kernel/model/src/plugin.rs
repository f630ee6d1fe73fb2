//! Plugins: what a manifest declares, what limits bind a call, how a call can end, and the four roles.
//!
//! The roles are traits in plain types: the host implements them with WebAssembly, tests with closures, and the pipeline
//! cannot tell the difference. All are synchronous; whoever calls them chooses the thread.

mod dataset;
mod fault;
mod manifest;
mod purposes;
mod roles;

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

pub use dataset::{Batch, Dataset, HeldBatches};
pub use fault::{FaultOwner, PluginFault, TimeSpent, TimesOfCall};
pub use manifest::{
    Capabilities, ConsentGrant, Grants, HttpRequest, InputSpec, LimitRequest, MailRequest, Manifest, OutputSpec,
    PollRequest, RecipientRequest, SecretForm, SecretRequest, Training,
};
pub use purposes::{Purposes, purpose_problem};
pub use roles::{
    Answer, Callback, Cancellation, Channel, ComputeModel, Connector, EmittedEvent, Fitted, ModelAnswer, ModelPass,
    Receipt, ReceiveError, Received, RecordPlace, Refusal, ReplayScope, SourceRequest,
};

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
    "`{0}` is not a plugin id; write `vendor/name` in lower-case letters, digits and `-`, each part beginning with a letter, \
     64 characters at most"
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

/// The pre-release part of the versions of the dev channel.
pub const DEV: &str = "dev";

/// Whether a version is of the dev channel, e.g. `0.2.0-dev`: its bytes may change, and nobody is given it who does not name it.
pub fn is_dev(version: &semver::Version) -> bool {
    version.pre.as_str() == DEV
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
