//! The catalogue: who may do what, which plugins there are, what is installed and which audiences are defined, kept as
//! rows of the store and mirrored in memory, so that reading it costs nothing.
//!
//! All changes go through a [`Draft`], one at a time in each workspace. What the changes *mean* to the running kernel is `wiring.rs`'s part.

pub mod artifacts;
mod audited;
mod chain;
pub mod draft;
mod fits;
mod locks;
pub mod publishers;
mod reading;
pub mod rows;
pub mod sealed;
pub mod tracking;
pub mod undo;
mod written;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::{Arc, OnceLock};

use arc_swap::ArcSwap;
use kith_model::audience::Audience;
use kith_model::budget::{Budget, Exhausted, table};
use kith_model::dictionary::Dictionary;
use kith_model::id::{AudienceId, InstallationId, InstallationName, WorkspaceId};
use kith_model::identity::IdentityRules;
use kith_model::plugin::{PluginId, is_dev};
use kith_model::rules::RecordRules;
use kith_model::time::{Clock, Timestamp};
use kith_store::keys::{Definition, SYSTEM};
use kith_store::row::{self, Row};
use kith_store::{CommitError, DiskRoom, Fence, Key, Operation, ReadError, Store, Unit};

pub use audited::AuditFilter;
pub use draft::host::HostChange;
pub use draft::{Actor, Change, CommitGuard, Draft, Rehearsal};
pub use fits::{
    ChampionRow, DriftBounds, FitBound, FitCause, FitInputRow, FitRow, FitStatus, FitUse, FittingRow, HeldOutRow,
    JudgedRow,
};
pub use rows::{
    AudienceRow, AuditHead, AuditRow, BacktestRow, CounterRow, CredentialRow, DictionaryRow, FallbackRow,
    IdentityRulesRow, InstallationRow, PluginRow, RecordRulesRow, ShadowRow, UnshownRow, WaitRow, WorkspaceRow,
    WorkspaceState, YankRow,
};

use self::chain::audit_head;
use self::locks::Locks;
use self::publishers::{LeftSignatureRow, Publishers};
use self::reading::{counters, load, publishers, rows_of, scan_all};
use self::tracking::TrackingPlanRow;
use self::undo::UndoRow;
use self::written::Written;
use crate::auth::KeyId;
use crate::signatures::trust::SignaturePolicy;

/// The catalogue could not be read or changed.
#[derive(Debug, thiserror::Error)]
pub enum CatalogueError {
    #[error("reading the catalogue")]
    Read(#[from] ReadError),
    #[error("changing the catalogue")]
    Commit(#[from] CommitError),
    #[error("a key of the catalogue ({what}) does not read")]
    Key { what: &'static str },
    #[error("workspace {} does not exist", .0.0)]
    NoWorkspace(WorkspaceId),
    #[error(transparent)]
    Seal(#[from] sealed::SealError),
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

/// The counter of workspaces' ids.
const WORKSPACES: &str = "workspace";

/// The counter of identifiers to which nothing is sent. It goes down, too.
const SUPPRESSIONS: &str = "suppression";

/// One workspace's part of the catalogue.
#[derive(Clone)]
pub struct WorkspaceTables {
    pub row: WorkspaceRow,
    pub plugins: BTreeMap<(PluginId, semver::Version), Arc<PluginRow>>,
    /// Removed ones too.
    pub installations: BTreeMap<InstallationId, Arc<InstallationRow>>,
    pub audiences: BTreeMap<AudienceId, Arc<Audience>>,
    /// Those that were, so that what they sent can be named.
    pub removed_audiences: BTreeMap<AudienceId, Arc<Audience>>,
    pub fits: BTreeMap<(InstallationId, u32), Arc<FitRow>>,
    /// The fitted states in use.
    pub states: BTreeMap<InstallationId, (u32, Arc<[u8]>)>,
    /// Sealed secrets by installation and name.
    pub secrets: BTreeMap<(InstallationId, String), Arc<[u8]>>,
    /// The sealed parts of configurations that are not shown.
    pub sealed_configs: BTreeMap<InstallationId, Arc<[u8]>>,
    /// The same of the versions that run beside the live ones.
    pub sealed_shadows: BTreeMap<InstallationId, Arc<[u8]>>,
    /// Tracking plans by their names.
    pub tracking: BTreeMap<String, Arc<TrackingPlanRow>>,
    /// What is taken back of versions of models, by installation and digest.
    pub undos: BTreeMap<(InstallationId, String), Arc<UndoRow>>,
    /// What names mean, and how sensitive they are.
    pub dictionary: Arc<Dictionary>,
    /// What is dropped, renamed or hashed of records.
    pub record_rules: Arc<RecordRules>,
    /// Who may sign its plugins, beside the host's publishers.
    pub publishers: Publishers,
    /// Which plugins it takes.
    pub signature_policy: SignaturePolicy,
    /// The highest version of each plugin that it ever installed.
    highest_versions: BTreeMap<PluginId, semver::Version>,
    /// The signatures of plugin versions that were deleted, by the digests of their components.
    pub left_signatures: BTreeMap<String, Arc<LeftSignatureRow>>,
    /// `None` where the defaults hold.
    identity_rules: Option<Arc<IdentityRules>>,
    counters: BTreeMap<String, u32>,
    audit_head: AuditHead,
}

impl WorkspaceTables {
    /// The identity rules in force.
    pub fn identity_rules(&self) -> Arc<IdentityRules> {
        self.identity_rules.clone().unwrap_or_default()
    }

    /// A workspace in which there is nothing.
    pub(crate) fn empty(row: WorkspaceRow) -> WorkspaceTables {
        WorkspaceTables {
            row,
            plugins: BTreeMap::new(),
            installations: BTreeMap::new(),
            audiences: BTreeMap::new(),
            removed_audiences: BTreeMap::new(),
            fits: BTreeMap::new(),
            states: BTreeMap::new(),
            secrets: BTreeMap::new(),
            sealed_configs: BTreeMap::new(),
            sealed_shadows: BTreeMap::new(),
            tracking: BTreeMap::new(),
            undos: BTreeMap::new(),
            dictionary: Arc::default(),
            record_rules: Arc::default(),
            publishers: Publishers::new(),
            signature_policy: SignaturePolicy::default(),
            highest_versions: BTreeMap::new(),
            left_signatures: BTreeMap::new(),
            identity_rules: None,
            counters: BTreeMap::new(),
            audit_head: AuditHead::default(),
        }
    }

    /// The installations that are not removed.
    pub fn installed(&self) -> impl Iterator<Item = &Arc<InstallationRow>> {
        self.installations.values().filter(|row| row.removed_at.is_none())
    }

    /// The installation of that name.
    pub fn installation(&self, name: &str) -> Option<&Arc<InstallationRow>> {
        self.installed().find(|row| row.name.as_str() == name)
    }

    /// The tracking plan of the source of that name: its own, or the one of all that have none.
    pub fn plan_of(&self, source: &InstallationName) -> Option<&Arc<TrackingPlanRow>> {
        let mut plans = self.tracking.values();
        let own = plans.find(|plan| plan.sources.as_ref().is_some_and(|sources| sources.contains(source)));
        own.or_else(|| self.tracking.values().find(|plan| plan.sources.is_none()))
    }

    /// The audience of that name.
    pub fn audience(&self, name: &str) -> Option<&Arc<Audience>> {
        self.audiences.values().find(|audience| audience.name.as_str() == name)
    }

    /// The versions of one plugin, oldest first.
    pub fn versions<'a>(&'a self, id: &'a PluginId) -> impl DoubleEndedIterator<Item = &'a Arc<PluginRow>> {
        self.plugins.iter().filter(move |((plugin, _), _)| plugin == id).map(|(_, row)| row)
    }

    /// The plugin version that an installation runs.
    pub fn plugin_of(&self, installation: &InstallationRow) -> Option<&Arc<PluginRow>> {
        self.plugins.get(&(installation.plugin.clone(), installation.version.clone()))
    }

    /// The plugin version that runs beside an installation's live one.
    pub fn shadow_of(&self, installation: &InstallationRow) -> Option<&Arc<PluginRow>> {
        let version = installation.shadow.as_ref()?.version.clone();
        self.plugins.get(&(installation.plugin.clone(), version))
    }

    /// The plugin version that is tried over what is stored.
    pub fn backtest_of(&self, installation: &InstallationRow) -> Option<&Arc<PluginRow>> {
        let version = installation.backtest.as_ref()?.version.clone();
        self.plugins.get(&(installation.plugin.clone(), version))
    }

    /// The highest version of a plugin that was ever installed here, but for those of the dev channel.
    pub fn highest_version(&self, plugin: &PluginId) -> Option<&semver::Version> {
        self.highest_versions.get(plugin)
    }

    /// Note that a version of a plugin is installed. One whose bytes may change makes no release an older one.
    fn raise_highest(&mut self, plugin: &PluginId, version: &semver::Version) {
        if !is_dev(version) && self.highest_version(plugin).is_none_or(|highest| highest < version) {
            self.highest_versions.insert(plugin.clone(), version.clone());
        }
    }

    /// The name that people know an installation by; its number where nothing is known of it any more.
    pub fn installation_name(&self, id: InstallationId) -> String {
        self.installations.get(&id).map_or_else(|| id.0.to_string(), |row| row.name.to_string())
    }

    /// The name that people know an audience by, also after its removal; its number where nothing is known of it.
    pub fn audience_name(&self, id: AudienceId) -> String {
        let known = self.audiences.get(&id).or_else(|| self.removed_audiences.get(&id));
        known.map_or_else(|| id.0.to_string(), |audience| audience.name.to_string())
    }

    /// The audiences that have or had that name.
    pub fn audiences_ever_named(&self, name: &str) -> BTreeSet<AudienceId> {
        let all = self.audiences.values().chain(self.removed_audiences.values());
        all.filter(|audience| audience.name.as_str() == name).map(|audience| audience.id).collect()
    }

    /// The installations that have or had that name.
    pub fn installations_ever_named(&self, name: &str) -> BTreeSet<InstallationId> {
        self.installations.values().filter(|row| row.name.as_str() == name).map(|row| row.id).collect()
    }

    /// Insist that one more may be kept, where there are `kept` now.
    ///
    /// # Errors
    /// [`Exhausted`], where the workspace has as many as it may.
    pub fn insist_on_room(&self, budget: &'static Budget, kept: usize) -> Result<(), Exhausted> {
        let limit = self.limit(budget);
        if kept as u64 >= limit { Err(budget.exhausted(limit, None)) } else { Ok(()) }
    }

    /// How many identifiers, in each of their forms, are on the list to which nothing is sent.
    pub fn suppressions(&self) -> u64 {
        self.counters.get(SUPPRESSIONS).copied().map_or(0, u64::from)
    }

    /// What of a budget that a host key may set for a workspace holds for this one.
    pub fn limit(&self, budget: &'static Budget) -> u64 {
        self.row.budgets.get(budget.name).copied().unwrap_or(budget.default)
    }

    /// The names of an installation's secrets that are set.
    pub fn secret_names(&self, id: InstallationId) -> Vec<String> {
        let all = self.secrets.range((id, String::new())..).take_while(|((owner, _), _)| *owner == id);
        all.map(|((_, name), _)| name.clone()).collect()
    }
}

/// The whole catalogue at one moment.
#[derive(Clone, Default)]
pub struct Tables {
    /// Those that are not deleted.
    pub workspaces: BTreeMap<WorkspaceId, Arc<WorkspaceTables>>,
    /// Of these, and the host's.
    pub credentials: BTreeMap<KeyId, Arc<CredentialRow>>,
    /// Those of the host, who sign plugins for every workspace.
    pub publishers: Publishers,
    /// The host's own counters.
    host_counters: BTreeMap<String, u32>,
    host_audit_head: AuditHead,
}

impl Tables {
    /// The workspace of that name.
    pub fn workspace_named(&self, name: &str) -> Option<&Arc<WorkspaceTables>> {
        self.workspaces.values().find(|tables| tables.row.name.as_str() == name)
    }

    /// The good keys of a workspace.
    pub fn good_keys(&self, workspace: WorkspaceId, now: Timestamp) -> usize {
        self.credentials.values().filter(|row| row.workspace == workspace && row.is_good(now)).count()
    }
}

/// The catalogue.
pub struct Catalogue {
    store: Arc<dyn Store>,
    clock: Arc<dyn Clock>,
    sealer: sealed::KeyRing,
    tables: ArcSwap<Tables>,
    /// Held by the drafts under way.
    writing: Locks,
    /// The node's lease, once the kernel has taken it.
    fence: OnceLock<Fence>,
    /// What changes have written of late.
    written: Written,
}

impl Catalogue {
    /// Read the catalogue from the store.
    pub fn open(
        store: Arc<dyn Store>,
        clock: Arc<dyn Clock>,
        sealer: sealed::KeyRing,
    ) -> Result<Catalogue, CatalogueError> {
        let mut tables = Tables {
            host_counters: counters(store.as_ref(), SYSTEM)?,
            host_audit_head: audit_head(store.as_ref(), SYSTEM)?,
            publishers: publishers(store.as_ref(), SYSTEM)?,
            ..Tables::default()
        };
        for (_, row) in rows_of::<WorkspaceRow>(store.as_ref(), SYSTEM, Definition::Workspace)? {
            let id = row.id;
            // Also of a directory in which nobody counted yet.
            let last = tables.host_counters.entry(WORKSPACES.to_owned()).or_default();
            *last = id.0.max(*last);
            if !row.state.is_deleted() {
                tables.workspaces.insert(id, Arc::new(load(store.as_ref(), row)?));
            }
        }
        for (_, row) in rows_of::<CredentialRow>(store.as_ref(), SYSTEM, Definition::Credential)? {
            if row.is_host() || tables.workspaces.contains_key(&row.workspace) {
                tables.credentials.insert(row.id.clone(), Arc::new(row));
            }
        }
        let tables = ArcSwap::from_pointee(tables);
        let (writing, fence, written) = (Locks::default(), OnceLock::new(), Written::new());
        Ok(Catalogue { store, clock, sealer, tables, writing, fence, written })
    }

    /// Commit every change under this lease from now on: what a fit has learnt, say, must not come from a process that another
    /// has taken over from. To be called once.
    pub fn commit_under(&self, fence: Fence) {
        let is_first = self.fence.set(fence).is_ok();
        debug_assert!(is_first, "a process takes the node's lease once");
    }

    /// The catalogue as it is now.
    pub fn tables(&self) -> Arc<Tables> {
        self.tables.load_full()
    }

    /// One workspace as it is now.
    pub fn workspace(&self, id: WorkspaceId) -> Result<Arc<WorkspaceTables>, CatalogueError> {
        self.tables.load().workspaces.get(&id).cloned().ok_or(CatalogueError::NoWorkspace(id))
    }

    /// How many bytes changes of a workspace have written within the hour that are not yet given back to its budget.
    pub fn written(&self, tables: &WorkspaceTables) -> u64 {
        self.written.spent(tables.row.id, tables.limit(&table::SETTINGS_WRITTEN))
    }

    #[cfg(test)]
    pub(crate) fn count_as_written(&self, workspace: WorkspaceId, bytes: u64) {
        self.written.charge(workspace, table::SETTINGS_WRITTEN.default, bytes);
    }

    /// A workspace is no more.
    pub fn forget(&self, workspace: WorkspaceId) {
        self.written.forget(workspace);
    }

    /// Whether the store reads.
    pub fn store_reads(&self) -> Result<(), ReadError> {
        self.store.get(&[Key::meta("ready")]).map(drop)
    }

    /// What the store's disk has left.
    pub fn disk(&self) -> Result<Option<DiskRoom>, ReadError> {
        self.store.disk()
    }

    /// Where secrets are opened.
    pub fn sealer(&self) -> &sealed::KeyRing {
        &self.sealer
    }

    /// Begin a change of one workspace; others of the same wait until it is committed or dropped.
    pub fn begin(&self, workspace: WorkspaceId, actor: Actor) -> Result<Change<'_>, CatalogueError> {
        let writing = self.writing.take(workspace);
        let tables = self.workspace(workspace)?;
        let draft = Draft::new(self, WorkspaceTables::clone(&tables), actor, Rehearsal::No);
        Ok(Change::new(draft, writing))
    }

    /// Begin a change of the workspaces themselves; all others wait until it is committed or dropped.
    pub fn begin_host(&self, actor: Actor) -> HostChange<'_> {
        let writing = self.writing.take_all();
        HostChange::new(self, actor, writing)
    }

    /// A draft of a change that will not be made, to see what it would need; it holds nobody up.
    pub fn rehearse(&self, workspace: WorkspaceId, actor: Actor) -> Result<Draft<'_>, CatalogueError> {
        let tables = self.workspace(workspace)?;
        Ok(Draft::new(self, WorkspaceTables::clone(&tables), actor, Rehearsal::Yes))
    }

    /// Make the first workspace together with its first key.
    pub fn create_workspace(&self, workspace: WorkspaceRow, first_key: CredentialRow) -> Result<(), CatalogueError> {
        let _writing = self.writing.take_all();
        let operations = vec![
            put(SYSTEM, Definition::Workspace, &workspace.id.0.to_be_bytes(), &workspace),
            put(SYSTEM, Definition::Credential, first_key.id.as_str().as_bytes(), &first_key),
        ];
        self.store.commit(Unit { operations, fence: self.fence.get().cloned(), ..Unit::default() })?;
        let mut tables = Tables::clone(&self.tables.load());
        let last = tables.host_counters.entry(WORKSPACES.to_owned()).or_default();
        *last = workspace.id.0.max(*last);
        tables.workspaces.insert(workspace.id, Arc::new(WorkspaceTables::empty(workspace)));
        tables.credentials.insert(first_key.id.clone(), Arc::new(first_key));
        self.tables.store(Arc::new(tables));
        Ok(())
    }

    /// Show a workspace as it is now. Changes of others may come to be shown at the same time.
    fn show(&self, workspace: &Arc<WorkspaceTables>, credentials: &BTreeMap<KeyId, Arc<CredentialRow>>) {
        self.tables.rcu(|tables| {
            let mut tables = Tables::clone(tables);
            tables.workspaces.insert(workspace.row.id, Arc::clone(workspace));
            tables.credentials.extend(credentials.iter().map(|(id, row)| (id.clone(), Arc::clone(row))));
            tables
        });
    }
}

/// A row as an operation.
fn put<R: Row>(workspace: WorkspaceId, kind: Definition, name: &[u8], row: &R) -> Operation {
    Operation::Put(Key::definition(workspace, kind, name), row::encode(row))
}

/// The key of what belongs to an installation: its number, then what distinguishes it.
fn of_installation(id: InstallationId, rest: &[u8]) -> Vec<u8> {
    [&id.0.to_be_bytes(), rest].concat()
}
