//! From the catalogue to what runs: loads plugins through the host, puts configuration values into input expressions, and
//! binds each installation to its config, grants, secrets and state. The result is a [`Setup`], which the pipeline takes whole.

mod compiling;
mod components;
mod held;
mod kv;
mod policy;
mod roles;
mod shadow;
pub(crate) mod substitute;
pub(crate) mod tracking;
mod unavailable;

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kith_features::Zone;
use kith_host::{BindError, Host, Limits, LineSpace, LoadError, Observed, Policy, effective_policy};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::identity::IdentityRules;
use kith_model::plugin::{Grants, InputSpec, InstallationMode, Manifest, PluginKind, Training};
use kith_model::time::Timestamp;
use kith_pipeline::{Activity, FittedState, Idempotence, Installed, Patience, Polling, Setup};
use kith_store::Store;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::api::sensitive;
use crate::catalogue::artifacts::{ArtifactError, Artifacts};
use crate::catalogue::sealed::{KeyRing, SealError};
use crate::catalogue::{InstallationRow, PluginRow, WorkspaceTables};
use crate::declared;
use crate::fitting;
use crate::serve::host_key::RealmKeys;
use components::Components;
use held::{Hold, held_activity, held_by_mode, waiting};
use roles::{Part, RoleRecord, fingerprint};

pub(crate) use components::LoadedPlugin;

pub use compiling::CompileRefusal;
pub(crate) use shadow::ShadowProblem;

/// The catalogue cannot be turned into what runs.
#[derive(Debug, thiserror::Error)]
pub enum WiringError {
    #[error(transparent)]
    Load(#[from] LoadError),
    #[error(transparent)]
    Artifact(#[from] ArtifactError),
    #[error("installation `{installation}`")]
    Bind { installation: String, source: BindError },
    #[error("input `{input}` of installation `{installation}`: {problem}")]
    Input { installation: String, input: String, problem: String },
    #[error(transparent)]
    Compile(#[from] CompileRefusal),
    /// It was not loaded before the change began, because something else had changed meanwhile.
    #[error("component {digest} is not loaded")]
    NotLoaded { digest: String },
    #[error(transparent)]
    Secret(#[from] SealError),
    #[error("the workspace's time zone: {0}")]
    Zone(String),
}

impl WiringError {
    /// Whether it is about what others do at the same time.
    fn is_of_the_moment(&self) -> bool {
        matches!(self, WiringError::Compile(_))
    }
}

/// Makes what runs.
pub struct Wiring {
    components: Components,
    ceiling: Limits,
    states: kv::States,
    store: Arc<dyn Store>,
    realms: RealmKeys,
    /// What each installation was last made into, with what it was made from: a change of one installation neither binds
    /// nor compiles another again, whose component may be one that takes half a minute to be refused.
    made: Mutex<HashMap<(WorkspaceId, InstallationId, Part), RoleRecord>>,
    /// What the last change of each workspace has put to work. A rehearsal whose change is never made must not unload it by
    /// taking its place in `made`.
    in_force: Mutex<HashMap<WorkspaceId, Vec<LoadedPlugin>>>,
    plans: tracking::TrackingPlans,
    /// What the calls of each installation do, through all its versions and configurations.
    observed: Mutex<HashMap<(WorkspaceId, InstallationId), Arc<Observed>>>,
    /// What is kept of all their log lines.
    line_space: Arc<LineSpace>,
}

/// Whether making a setup may load components, which compiles those that are new.
#[derive(Debug, Clone, Copy)]
pub enum Loading<'a> {
    /// Takes as long as it takes, while somebody waits for it; nothing that others wait for may be held meanwhile.
    Allowed(&'a Patience),
    /// The same for a change that is never made: what installations were last made into stays as it is.
    OnPaper(&'a Patience),
    /// Only what is loaded already is used.
    Done,
}

impl Loading<'_> {
    fn is_on_paper(self) -> bool {
        matches!(self, Loading::OnPaper(_))
    }
}

/// The part of the catalogue that a setup is made from.
#[derive(Clone, Copy)]
pub struct Source<'a> {
    pub tables: &'a WorkspaceTables,
    /// The installations that must be fit to run, because the change is about them.
    pub must_run: &'a BTreeSet<InstallationId>,
    /// Opens the secrets.
    pub sealer: &'a KeyRing,
    pub now: Timestamp,
}

impl Wiring {
    /// Wiring over a host and a folder of components.
    pub(crate) fn new(
        host: Host,
        ceiling: Limits,
        artifacts: Artifacts,
        store: Arc<dyn Store>,
        realms: RealmKeys,
    ) -> Wiring {
        Wiring {
            components: Components::new(host, artifacts),
            ceiling,
            states: kv::States::new(Arc::clone(&store)),
            store,
            realms,
            made: Mutex::default(),
            in_force: Mutex::default(),
            plans: tracking::TrackingPlans::default(),
            observed: Mutex::default(),
            line_space: Arc::default(),
        }
    }

    /// The workspace is no longer run: what its installations were made into holds their secrets.
    pub(crate) fn forget(&self, workspace: WorkspaceId) {
        self.made.lock().retain(|(of, ..), _| *of != workspace);
        self.observed.lock().retain(|(of, _), _| *of != workspace);
        drop(self.in_force.lock().remove(&workspace));
        self.plans.forget(workspace);
    }

    /// What the calls of an installation do, seen from `now` on where nothing was before.
    pub(crate) fn observed(&self, workspace: WorkspaceId, id: InstallationId, now: Timestamp) -> Arc<Observed> {
        let new = || Arc::new(Observed::new(now, Arc::clone(&self.line_space)));
        Arc::clone(self.observed.lock().entry((workspace, id)).or_insert_with(new))
    }

    /// What calls do that count for no installation.
    pub(crate) fn observed_apart(&self, now: Timestamp) -> Arc<Observed> {
        Arc::new(Observed::new(now, Arc::clone(&self.line_space)))
    }

    /// What installations keep of their own.
    pub(crate) fn states(&self) -> &kv::States {
        &self.states
    }

    /// Where components are kept.
    pub(crate) fn components(&self) -> &Components {
        &self.components
    }

    /// What is loaded for the installations of a workspace, which stays so while it is held.
    pub(crate) fn loaded(&self, tables: &WorkspaceTables) -> Vec<LoadedPlugin> {
        let plugins = tables
            .installed()
            .flat_map(|row| [tables.plugin_of(row), tables.shadow_of(row), self.under_way(tables, row)])
            .flatten();
        plugins.filter_map(|plugin| self.components.loaded(&plugin.digest)).collect()
    }

    /// Keep loaded what a workspace runs from now on, and nothing else for it.
    pub(crate) fn keep_loaded(&self, workspace: WorkspaceId, loaded: Vec<LoadedPlugin>) {
        self.in_force.lock().insert(workspace, loaded);
    }

    /// How many plugins a workspace keeps loaded.
    #[cfg(test)]
    pub(crate) fn kept_loaded(&self, workspace: WorkspaceId) -> Option<usize> {
        self.in_force.lock().get(&workspace).map(Vec::len)
    }

    /// What an installation with these grants may really do.
    pub fn effective_policy(&self, manifest: &Manifest, grants: &Grants) -> Policy {
        effective_policy(manifest, grants, &self.ceiling)
    }

    /// What a workspace runs. An installation that cannot run is held and says why: it must neither stop the rest, nor lose
    /// what it wrote by being left out.
    ///
    /// # Errors
    /// [`WiringError`] names the installation of `must_run` that cannot be made to run.
    pub fn setup(&self, source: Source<'_>, loading: Loading<'_>) -> Result<Setup, WiringError> {
        let tables = source.tables;
        let workspace = tables.row.id;
        let mut installations = Vec::new();
        for row in tables.installed() {
            let Some(plugin) = tables.plugin_of(row) else {
                // A version that is installed is not deleted, so this is a catalogue that something else has written to.
                tracing::error!(installation = %row.name, plugin = %row.plugin, version = %row.version, "not in the catalogue");
                continue;
            };
            installations.push(self.installed(source, row, plugin, loading)?);
        }
        if !loading.is_on_paper() {
            self.made
                .lock()
                .retain(|(of, id, _), _| *of != workspace || installations.iter().any(|installed| installed.id == *id));
            self.observed.lock().retain(|(of, id), _| {
                *of != workspace || tables.installations.get(id).is_some_and(|row| row.removed_at.is_none())
            });
        }
        // One whose plugin is not known any more may have been a channel.
        let was_channel = |row: &&InstallationRow| {
            tables.plugin_of(row).is_none_or(|plugin| plugin.manifest.kind == PluginKind::Channel)
        };
        let removed = tables.installations.values().filter(|row| row.removed_at.is_some());
        let removed_channels = removed.map(AsRef::as_ref).filter(was_channel).map(|row| row.id).collect();
        let names = tables.installations.values().map(|row| (row.id, row.name.to_string()));
        Ok(Setup {
            workspace,
            realm_key: self.realms.of(workspace),
            zone: Zone::parse(&tables.row.time_zone).map_err(|error| WiringError::Zone(error.to_string()))?,
            identity_rules: in_force(&tables.identity_rules()),
            dictionary: Arc::clone(&tables.dictionary),
            record_rules: Arc::clone(&tables.record_rules),
            tracking: self.plans.of_sources(tables),
            installations,
            source_names: names.collect(),
            audiences: tables.audiences.values().map(|audience| audience.as_ref().clone()).collect(),
            removed_channels,
            undos: tables.undos.values().filter(|row| !row.is_ended).map(|row| row.undo()).collect(),
        })
    }

    fn installed(
        &self,
        source: Source<'_>,
        row: &InstallationRow,
        plugin: &PluginRow,
        loading: Loading<'_>,
    ) -> Result<Installed, WiringError> {
        let (inputs, training) = learns_from(source, row, &plugin.manifest)?;
        let kind = plugin.manifest.kind;
        let ungranted = held_by_sensitivity(source.tables, row, plugin);
        let (role, activity) = match held_by_mode(row).or(ungranted.clone()) {
            // It is asked for nothing, a fit neither: both would show it what is not granted.
            Some(held) if ungranted.is_some() => (unavailable::role(kind, held.why.clone()), held.into()),
            // The kernel fits it and tries it again, and asks it for nothing else.
            Some(held) if row.mode == InstallationMode::Quarantined => {
                // Where its role cannot be made now, that is no reason to refuse the change that asks for it.
                let must_run = &BTreeSet::new();
                let role = match self.make(Source { must_run, ..source }, row, (plugin, Part::Live), loading)? {
                    Ok(role) => role,
                    Err(_) => unavailable::role(kind, held.why.clone()),
                };
                (role, held_activity(row, held))
            }
            // What is switched off is not loaded: its code may be the very reason.
            Some(held) => (unavailable::role(kind, held.why.clone()), held_activity(row, held)),
            None => match self.make(source, row, (plugin, Part::Live), loading)? {
                Ok(role) => (role, waiting(row).unwrap_or(Activity::Running)),
                Err(held) => (unavailable::role(kind, held.why.clone()), held.into()),
            },
        };
        let fitted = fitted(source.tables, row);
        debug_assert!(
            row.waits_for_fit.is_some() || fitting::reads_its_fit(source.tables, row, &plugin.manifest),
            "a model is never asked about a state of another form"
        );
        let policy = self.effective_policy(&plugin.manifest, &row.grants);
        let shadow = self.shadow(source, row, &inputs, loading)?;
        let backtest = self.backtest(source, row, loading)?;
        Ok(Installed {
            id: row.id,
            name: row.name.clone(),
            plugin: row.plugin.clone(),
            plugin_version: row.version.clone(),
            kind: plugin.manifest.kind,
            digest: plugin.digest.clone(),
            activity,
            config_hash: config_hash(row),
            inputs,
            outputs: served(source.tables, row, plugin).manifest.outputs.clone(),
            training,
            fitted,
            recipients: policy.recipient_types().map(<[String]>::to_vec),
            sending: policy.sending(),
            purposes: policy.purposes,
            call_memory_bytes: policy.memory_bytes.value.saturating_add(policy.output_bytes.value),
            corrects: row.config.get("upsert").and_then(serde_json::Value::as_bool) == Some(true),
            giver: row.grants.giver(),
            emits: policy.emits.map(Arc::from),
            poll: plugin.manifest.poll.as_ref().map(|asked| Polling {
                interval_ms: row.poll_interval_ms.unwrap_or(asked.interval_ms),
                changed_at: row.updated_at,
            }),
            idempotence: match plugin.manifest.idempotent {
                true => Idempotence::Idempotent,
                false => Idempotence::NotIdempotent,
            },
            role,
            shadow,
            backtest,
        })
    }

    /// Whether an installation runs.
    pub fn activity(&self, tables: &WorkspaceTables, row: &InstallationRow) -> Activity {
        if let Some(held) = held_by_mode(row) {
            return held_activity(row, held);
        }
        let Some(plugin) = tables.plugin_of(row) else {
            return Activity::Held { since: row.updated_at, why: "its plugin is not in the catalogue".to_owned() };
        };
        if let Some(held) = held_by_sensitivity(tables, row, plugin) {
            return held.into();
        }
        let from = fingerprint(tables, row, (plugin, Part::Live));
        match self
            .made
            .lock()
            .get(&(tables.row.id, row.id, Part::Live))
            .filter(|made| made.from == from)
            .map(|made| &made.outcome)
        {
            Some(Err(held)) => held.clone().into(),
            Some(Ok(_)) | None => waiting(row).unwrap_or(Activity::Running),
        }
    }
}

/// Identity rules as they hold: with those of values that rules of records hash, also before there is such a rule, or the first one
/// would be a change of the identity rules, and all history be tied anew.
pub(crate) fn in_force(rules: &IdentityRules) -> IdentityRules {
    rules.clone().with_hashed_types()
}

/// The version whose values people hold. One that waits for a fit has written none.
fn served<'a>(tables: &'a WorkspaceTables, row: &InstallationRow, plugin: &'a PluginRow) -> &'a PluginRow {
    let version = row.waits_for_fit.as_ref().map(|waits| &waits.serves);
    let served = version.and_then(|version| tables.plugins.get(&(row.plugin.clone(), version.clone())));
    served.map_or(plugin, |served| served.as_ref())
}

/// The sensitive things that an installation's inputs and its label may see, as a grant names them, each with since when its entry
/// is as it is.
pub(crate) fn sensitive_inputs(
    tables: &WorkspaceTables,
    row: &InstallationRow,
    plugin: &PluginRow,
) -> Vec<(String, Timestamp)> {
    if !tables.dictionary.has_sensitive() {
        return Vec::new();
    }
    // Inputs that cannot be filled in are refused elsewhere.
    let inputs = inputs(row, &plugin.manifest).unwrap_or_default();
    let training = training(row, &plugin.manifest).unwrap_or_default();
    let label = training.as_ref().map(|training| training.label.as_str());
    let seen = inputs.iter().map(|input| input.expression.as_str()).chain(label);
    sensitive::seen_by(&tables.dictionary, seen)
}

/// Why an installation does not run by what it would see: something sensitive that nobody has granted it by name.
fn held_by_sensitivity(tables: &WorkspaceTables, row: &InstallationRow, plugin: &PluginRow) -> Option<Hold> {
    let seen = sensitive_inputs(tables, row, plugin).into_iter();
    let missing: Vec<(String, Timestamp)> = seen.filter(|(name, _)| !row.grants.sensitive.contains(name)).collect();
    let since = missing.iter().map(|(_, since)| *since).min()?.max(row.updated_at);
    let names: Vec<String> = missing.into_iter().map(|(name, _)| format!("`{name}`")).collect();
    let why = format!("it reads {}, which is sensitive and not granted to it", names.join(", "));
    Some(Hold { since, why })
}

/// The first eight bytes of the SHA-256 of what of a configuration is shown, its keys in order, and of how often the rest became another.
fn config_hash(row: &InstallationRow) -> u64 {
    let mut digest = Sha256::new_with_prefix(row.config.to_string());
    if row.unshown.changes > 0 {
        digest.update(row.unshown.changes.to_be_bytes());
    }
    digest.finalize().iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

fn inputs(row: &InstallationRow, manifest: &Manifest) -> Result<Vec<InputSpec>, WiringError> {
    let filled_in =
        manifest.inputs.iter().map(|input| {
            let expression = substitute::config(&input.expression, &row.config).map_err(|problem| {
                WiringError::Input { installation: row.name.to_string(), input: input.name.clone(), problem }
            })?;
            Ok(InputSpec { expression, ..input.clone() })
        });
    filled_in.collect()
}

/// What an installation sees of people, and how it learns from the history. Of one that must run neither may be what it can never be;
/// what runs already goes on as it did.
fn learns_from(
    source: Source<'_>,
    row: &InstallationRow,
    manifest: &Manifest,
) -> Result<(Vec<InputSpec>, Option<Training>), WiringError> {
    let must_run = source.must_run.contains(&row.id);
    let (inputs, training) = match (inputs(row, manifest), training(row, manifest)) {
        (Ok(inputs), Ok(training)) => (inputs, training),
        (Err(error), _) | (_, Err(error)) if must_run => return Err(error),
        // Making its role fails for the same reason, and says so.
        (Err(_), _) | (_, Err(_)) => return Ok((Vec::new(), None)),
    };
    let unlearnable = || declared::unlearnable(training.as_ref()?, &inputs);
    match declared::mistyped_input(&inputs).or_else(unlearnable) {
        Some((input, problem)) if must_run => {
            Err(WiringError::Input { installation: row.name.to_string(), input, problem })
        }
        _ => Ok((inputs, training)),
    }
}

/// The state of the fit in use.
fn fitted(tables: &WorkspaceTables, row: &InstallationRow) -> Option<FittedState> {
    let (version, bytes) = tables.states.get(&row.id)?;
    let fit = tables.fits.get(&(row.id, *version));
    // Every fit of a version with labels is compared, and no other is.
    let holds_out = fit.is_some_and(|fit| fit.held_out.is_some());
    Some(FittedState { version: *version, bytes: Arc::clone(bytes), holds_out })
}

/// How a model learns from the history, with the configuration's values in its label.
fn training(row: &InstallationRow, manifest: &Manifest) -> Result<Option<Training>, WiringError> {
    let Some(training) = &manifest.training else { return Ok(None) };
    let label = substitute::config(&training.label, &row.config).map_err(|problem| WiringError::Input {
        installation: row.name.to_string(),
        input: "label".to_owned(),
        problem,
    })?;
    Ok(Some(Training { label, ..training.clone() }))
}
