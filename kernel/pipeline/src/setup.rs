//! What a workspace runs: the installations with their roles, and the audiences. The server reads it from the catalogue and
//! hands it over whole; the pipeline finds out what changed.

use std::sync::Arc;

use kith_features::Zone;
use kith_model::audience::Audience;
use kith_model::id::{InstallationId, InstallationName, WorkspaceId};
use kith_model::identity::IdentityRules;
use kith_model::plugin::{
    Channel, ComputeModel, Connector, InputSpec, InstallationMode, OutputSpec, PluginId, PluginKind,
};
use kith_model::sending::PureChannel;

/// The part that an installation plays.
#[derive(Clone)]
pub enum Role {
    Connector(Arc<dyn Connector>),
    TagModel(Arc<dyn ComputeModel>),
    Scorer(Arc<dyn ComputeModel>),
    /// Of contract 0.1: it sends its requests itself.
    Channel(Arc<dyn Channel>),
    /// Of contract 0.2: the kernel sends its requests.
    PureChannel(Arc<dyn PureChannel>),
}

/// A fitted state in use.
#[derive(Clone, PartialEq, Eq)]
pub struct FittedState {
    /// From 1, one more with each fit of the installation.
    pub version: u32,
    pub bytes: Arc<[u8]>,
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
    pub mode: InstallationMode,
    /// Changes whenever the configuration does; results of another value are stale.
    pub config_hash: u64,
    /// Expressions with the configuration's values already in place.
    pub inputs: Vec<InputSpec>,
    pub outputs: Vec<OutputSpec>,
    pub fitted: Option<FittedState>,
    pub role: Role,
}

/// All that one workspace runs.
#[derive(Clone)]
pub struct Setup {
    pub workspace: WorkspaceId,
    /// Where calendar days begin.
    pub zone: Zone,
    pub identity_rules: IdentityRules,
    pub installations: Vec<Installed>,
    pub audiences: Vec<Audience>,
}

/// What the pipeline tells the server about, so that it can write it down.
pub trait Observer: Send + Sync {
    /// Three strikes: the installation no longer runs, and should be kept as quarantined.
    fn quarantined(&self, workspace: WorkspaceId, installation: InstallationId, reason: &str);
}
