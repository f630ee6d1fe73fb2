//! What a workspace runs: the installations with their roles, and the audiences. The server reads it from the catalogue and
//! hands it over whole; the pipeline finds out what changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_features::Zone;
use kith_model::audience::Audience;
use kith_model::consent::Giver;
use kith_model::dictionary::Dictionary;
use kith_model::id::{InstallationId, InstallationName, WorkspaceId};
use kith_model::identity::IdentityRules;
use kith_model::plugin::{
    Channel, ComputeModel, Connector, InputSpec, OutputSpec, PluginId, PluginKind, Purposes, Training,
};
use kith_model::rules::RecordRules;
use kith_model::sending::{PureChannel, SendingLimits};
use kith_model::time::Timestamp;
use kith_model::tracking::TrackingPlan;
use serde::{Deserialize, Serialize};

use crate::shadow::ShadowVersion;
use crate::views::Acceptance;

/// The part that an installation plays.
#[derive(Clone)]
pub enum Role {
    Connector(Arc<dyn Connector>),
    TagModel(Arc<dyn ComputeModel>),
    Scorer(Arc<dyn ComputeModel>),
    /// A channel of contract 0.1, which sends by itself.
    Channel(Arc<dyn Channel>),
    /// A channel of contract 0.2, for which the kernel sends.
    PureChannel(Arc<dyn PureChannel>),
}

/// Whether an installation runs. It exists in all cases: what it wrote stays and counts until it is removed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Activity {
    Running,
    /// Switched off, or not fit to run.
    Held {
        since: Timestamp,
        why: String,
    },
    /// The kernel stopped it. A model is fitted all the same, because a fit that it cannot read may be why it failed: were it
    /// switched on first, it would be asked about that fit again, and stopped before it could have another.
    Quarantined {
        since: Timestamp,
        why: String,
    },
    /// The fitted state is not one that the installed version reads: it is fitted, and asked for nothing else until then.
    WaitsForFit {
        since: Timestamp,
        why: String,
    },
}

impl Activity {
    /// Whether it runs.
    pub fn is_running(&self) -> bool {
        matches!(self, Activity::Running)
    }

    /// Whether it runs or would but for a fit: what it writes belongs to it, and to no other that writes the same.
    pub fn is_wanted(&self) -> bool {
        matches!(self, Activity::Running | Activity::WaitsForFit { .. })
    }
}

/// Whether the other side of a channel takes a repeat of a message id as the same message.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Idempotence {
    #[default]
    Idempotent,
    /// An attempt that a crash cuts off is not repeated without an admin.
    NotIdempotent,
}

/// A fitted state in use.
#[derive(Clone, PartialEq, Eq)]
pub struct FittedState {
    /// From 1, one more with each fit of the installation.
    pub version: u32,
    pub bytes: Arc<[u8]>,
    /// Whether people were held out of the fit, by whom it can be compared with another: of a version with labels.
    pub holds_out: bool,
}

/// How an installation polls.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Polling {
    /// The time between two polls.
    pub interval_ms: u64,
    /// When the installation was changed last: what is to wait for a change waits for another value.
    pub changed_at: Timestamp,
}

/// One installation.
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
    /// Of the version whose values people hold, where it waits for a fit.
    pub outputs: Vec<OutputSpec>,
    /// How it learns from the history, with the configuration's values in place; `None` for what learns from now alone.
    pub training: Option<Training>,
    pub fitted: Option<FittedState>,
    /// The identifier types that a channel may see of a recipient; `None` for all.
    pub recipients: Option<Vec<String>>,
    /// What a channel carries messages for.
    pub purposes: Purposes,
    pub idempotence: Idempotence,
    /// What one call may take in memory at most, what it hands to the kernel included.
    pub call_memory_bytes: u64,
    /// Whether a row of a file that came before with other content corrects it: `upsert` in a source's configuration.
    pub corrects: bool,
    /// How much a channel sends at once.
    pub sending: SendingLimits,
    /// Whether a connector's events may end refusals of consent.
    pub giver: Giver,
    /// The names of the `track` events that a connector may emit; `None` for any.
    pub emits: Option<Arc<[String]>>,
    /// How often a connector polls; `None` for what does not.
    pub poll: Option<Polling>,
    pub role: Role,
    /// Another version that is asked the same, and of which nothing counts.
    pub shadow: Option<Arc<ShadowVersion>>,
    /// Another version that is tried over what is stored, and of which nothing counts either.
    pub backtest: Option<Arc<ShadowVersion>>,
}

/// All that one workspace runs.
#[derive(Clone)]
pub struct Setup {
    pub workspace: WorkspaceId,
    /// The key under which identifiers are hidden in stored keys.
    pub realm_key: [u8; 32],
    /// Where calendar days begin.
    pub zone: Zone,
    pub identity_rules: IdentityRules,
    /// What sources are expected to send, of those of which anything is.
    pub tracking: BTreeMap<InstallationId, Arc<TrackingPlan>>,
    /// What names mean: warnings about conditions tell of it.
    pub dictionary: Arc<Dictionary>,
    /// What is dropped, renamed or hashed of records.
    pub record_rules: Arc<RecordRules>,
    pub installations: Vec<Installed>,
    /// The names of all sources that events may have come from, removed ones too: an event keeps its source's name.
    pub source_names: BTreeMap<InstallationId, String>,
    pub audiences: Vec<Audience>,
    /// Channels that were removed. What waits in their outboxes may never leave.
    pub removed_channels: BTreeSet<InstallationId>,
    /// What versions of plugins wrote and is taken back, once for each number.
    pub undos: Vec<Undo>,
}

/// What one version of a plugin wrote is taken back.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Undo {
    /// Of the workspace's own: the same work again has another.
    pub number: u32,
    pub installation: InstallationId,
    /// The component's, in hexadecimal.
    pub digest: String,
    pub of: Undone,
}

/// What is taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Undone {
    /// The values that people have from a version of a model.
    #[default]
    Values,
    /// The events that a version of a connector read.
    Events,
}

impl Setup {
    /// The installation of that number.
    pub fn installation(&self, id: InstallationId) -> Option<&Installed> {
        self.installations.iter().find(|installed| installed.id == id)
    }
}

/// What the pipeline tells the server about, so that it can write it down.
pub trait Observer: Send + Sync {
    /// The kernel stopped an installation, which no longer runs as it is given here: three strikes, or its receiving endpoint is
    /// gone.
    fn held(&self, workspace: WorkspaceId, installed: &Installed, reason: &str);

    /// The installation cannot read its fitted state, and so waits for another fit.
    fn waits_for_fit(&self, workspace: WorkspaceId, installed: &Installed, reason: &str);

    /// An installation that the kernel had stopped did its work in a trial, and runs again.
    fn recovered(&self, workspace: WorkspaceId, installation: InstallationId) {
        tracing::debug!(
            workspace = workspace.0,
            installation = installation.0,
            "nobody writes down that it runs again"
        );
    }

    /// A backtest has ended, and its version is asked nothing more: see [`backtest_has_ended`](crate::backtest_has_ended).
    fn backtest_ended(&self, workspace: WorkspaceId, installation: InstallationId) {
        tracing::debug!(workspace = workspace.0, installation = installation.0, "nobody lets go of what was tried");
    }

    /// A page that was polled came to this.
    fn polled(&self, acceptance: &Acceptance) {
        tracing::debug!(accepted = acceptance.accepted, "nobody counts what was polled");
    }

    /// A worker of the kernel panicked. The process should end, and its supervisor start it again; an observer that can do
    /// more before that does it here.
    fn panicked(&self, worker: &str) {
        tracing::error!(worker, "ending the process");
        std::process::exit(EXIT_PANICKED);
    }
}

/// The process's exit code after a panic of a worker, the same that a panicking main thread gives.
const EXIT_PANICKED: i32 = 101;
