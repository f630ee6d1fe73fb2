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
    pub mode: InstallationMode,
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

/// The process's exit code after a panic of a worker, the same that a panicking main thread gives.
const EXIT_PANICKED: i32 = 101;

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
    /// The kernel stopped an installation, which no longer runs: three strikes, or its receiving endpoint is gone.
    fn held(&self, workspace: WorkspaceId, installation: InstallationId, reason: &str);

    /// A worker of the kernel panicked. The process should end, and its supervisor start it again; an observer that can do
    /// more before that does it here.
    fn panicked(&self, worker: &str) {
        tracing::error!(worker, "ending the process");
        std::process::exit(EXIT_PANICKED);
    }
}
