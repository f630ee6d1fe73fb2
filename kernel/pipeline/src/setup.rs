//! What a workspace runs: the installations with their roles, and the audiences. The server reads it from the catalogue and
//! hands it over whole; the pipeline finds out what changed.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_features::Zone;
use kith_model::audience::Audience;
use kith_model::id::{InstallationId, InstallationName, WorkspaceId};
use kith_model::identity::IdentityRules;
use kith_model::plugin::{Channel, ComputeModel, Connector, InputSpec, OutputSpec, PluginId, PluginKind};
use kith_model::time::Timestamp;

/// The part that an installation plays.
#[derive(Clone)]
pub enum Role {
    Connector(Arc<dyn Connector>),
    TagModel(Arc<dyn ComputeModel>),
    Scorer(Arc<dyn ComputeModel>),
    Channel(Arc<dyn Channel>),
}

/// A fitted state in use.
#[derive(Clone, PartialEq, Eq)]
pub struct FittedState {
    /// From 1, one more with each fit of the installation.
    pub version: u32,
    pub bytes: Arc<[u8]>,
}

/// Whether an installation runs. It exists until it is removed, and what it wrote counts as long as it exists.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    Running,
    /// It computes, sends and takes nothing.
    Held {
        since: Timestamp,
        /// For people.
        why: String,
    },
}

impl Activity {
    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        matches!(self, Activity::Running)
    }
}

/// Whether the other side of a channel takes a repeat of a message id as the same message.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Idempotence {
    Idempotent,
    /// An attempt that a crash cuts off is not repeated without an admin.
    NotIdempotent,
}

/// One installation, ready to run.
#[derive(Clone)]
pub struct Installed {
    pub id: InstallationId,
    pub name: InstallationName,
    pub plugin: PluginId,
    pub plugin_version: semver::Version,
    pub kind: PluginKind,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
    pub activity: Activity,
    /// Changes whenever the configuration does; results of another value are stale.
    pub config_hash: u64,
    /// Expressions with the configuration's values already in place.
    pub inputs: Vec<InputSpec>,
    pub outputs: Vec<OutputSpec>,
    pub fitted: Option<FittedState>,
    /// The types of identifiers that a channel is given; absent for any.
    pub recipients: Option<Vec<String>>,
    pub idempotence: Idempotence,
    pub role: Role,
}

/// All that one workspace runs.
#[derive(Clone)]
pub struct Setup {
    pub workspace: WorkspaceId,
    /// The key of the alias keys' HMAC: no identifier can be guessed from the store without it.
    pub realm_key: [u8; 32],
    /// Where calendar days begin.
    pub zone: Zone,
    pub identity_rules: IdentityRules,
    pub installations: Vec<Installed>,
    /// What conditions call an installation as the source of its events; removed ones too, for their events stay.
    pub source_names: BTreeMap<InstallationId, String>,
    pub audiences: Vec<Audience>,
}

/// What the pipeline tells the server about, so that it can write it down.
pub trait Observer: Send + Sync {
    /// Three strikes: the installation no longer runs, and should be kept as quarantined.
    fn held(&self, workspace: WorkspaceId, installation: InstallationId, reason: &str);
}
