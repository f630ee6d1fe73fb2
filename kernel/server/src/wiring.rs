//! From the catalogue to what runs: loads plugins through the host, puts configuration values into input expressions, and
//! binds each installation to its config, grants, secrets and state. The result is a [`Setup`], which the pipeline takes whole.

mod kv;
mod substitute;
mod unavailable;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kith_features::Zone;
use kith_host::{BindError, Binding, Host, KeyValue, Limits, LoadError, Plugin, Policy, effective_policy};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::identity::IdentityRules;
use kith_model::plugin::{Grants, InputSpec, InstallationMode, Manifest, PluginKind};
use kith_pipeline::{FittedState, Idempotence, Installed, Role, Setup};
use kith_store::Store;
use parking_lot::Mutex;
use sha2::{Digest as _, Sha256};

use crate::catalogue::artifacts::{ArtifactError, Artifacts};
use crate::catalogue::sealed::{Place, SealError, Sealer};
use crate::catalogue::{InstallationRow, PluginRow, WorkspaceTables};

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
    #[error("installation `{installation}` runs {plugin}, which is not in the catalogue")]
    NoPlugin { installation: String, plugin: String },
    #[error(transparent)]
    Secret(#[from] SealError),
    #[error("the workspace's time zone: {0}")]
    Zone(String),
}

/// Makes what runs.
pub struct Wiring {
    host: Host,
    ceiling: Limits,
    artifacts: Artifacts,
    store: Arc<dyn Store>,
    /// Loaded plugins by digest; the same for all workspaces.
    loaded: Mutex<HashMap<String, Arc<Plugin>>>,
}

impl Wiring {
    /// Wiring over a host and a folder of components.
    pub fn new(host: Host, ceiling: Limits, artifacts: Artifacts, store: Arc<dyn Store>) -> Wiring {
        Wiring { host, ceiling, artifacts, store, loaded: Mutex::default() }
    }

    /// Check that a component loads, and keep it; its digest. Blocks while it compiles.
    pub fn admit(&self, component: &[u8]) -> Result<String, WiringError> {
        let plugin = self.host.load(component)?;
        let digest = self.artifacts.keep(component)?;
        self.loaded.lock().insert(digest.clone(), Arc::new(plugin));
        Ok(digest)
    }

    fn load(&self, digest: &str) -> Result<Arc<Plugin>, WiringError> {
        if let Some(plugin) = self.loaded.lock().get(digest) {
            return Ok(Arc::clone(plugin));
        }
        let component = self.artifacts.read(digest)?;
        let plugin = Arc::new(self.host.load(&component)?);
        self.loaded.lock().insert(digest.to_owned(), Arc::clone(&plugin));
        Ok(plugin)
    }

    /// What an installation with these grants may really do.
    pub fn effective_policy(&self, manifest: &Manifest, grants: &Grants) -> Policy {
        effective_policy(manifest, grants, &self.ceiling)
    }

    /// What a workspace runs. Installations of `must_run` have to be fit to run. Any other that is not is logged and stands
    /// in for itself with a role that says so: it must neither stop the rest, nor lose what it wrote by being left out.
    ///
    /// # Errors
    /// [`WiringError`] names the installation of `must_run` that cannot be made to run.
    pub fn setup(
        &self,
        sealer: &Sealer,
        tables: &WorkspaceTables,
        must_run: &BTreeSet<InstallationId>,
    ) -> Result<Setup, WiringError> {
        let mut installations = Vec::new();
        for row in tables.installed() {
            match self.installed(sealer, tables, row) {
                Ok(installed) => installations.push(installed),
                Err(error) if must_run.contains(&row.id) => return Err(error),
                Err(error) => {
                    let error = crate::error::chain(&error);
                    tracing::error!(installation = %row.name, error, "an installation does not run");
                    installations.extend(stand_in(tables, row));
                }
            }
        }
        Ok(Setup {
            workspace: tables.row.id,
            zone: Zone::parse(&tables.row.time_zone).map_err(|error| WiringError::Zone(error.to_string()))?,
            identity_rules: IdentityRules::default(),
            installations,
            audiences: tables.audiences.values().map(|audience| audience.as_ref().clone()).collect(),
        })
    }

    fn installed(
        &self,
        sealer: &Sealer,
        tables: &WorkspaceTables,
        row: &InstallationRow,
    ) -> Result<Installed, WiringError> {
        let plugin = tables.plugin_of(row).ok_or_else(|| WiringError::NoPlugin {
            installation: row.name.to_string(),
            plugin: format!("{} {}", row.plugin, row.version),
        })?;
        let inputs = inputs(row, &plugin.manifest)?;
        let role = match row.mode {
            // What is switched off is not loaded: its code may be the very reason.
            InstallationMode::Disabled | InstallationMode::Quarantined => {
                unavailable::role(plugin.manifest.kind, "the installation is switched off".to_owned())
            }
            InstallationMode::Live | InstallationMode::Shadow => self.role(sealer, tables, row, plugin)?,
        };
        Ok(described(tables, row, plugin, inputs, role))
    }

    fn role(
        &self,
        sealer: &Sealer,
        tables: &WorkspaceTables,
        row: &InstallationRow,
        plugin: &PluginRow,
    ) -> Result<Role, WiringError> {
        let loaded = self.load(&plugin.digest)?;
        let workspace = tables.row.id;
        let binding = Binding {
            installation: row.name.to_string(),
            config: row.config.clone(),
            grants: row.grants.clone(),
            secrets: secrets(sealer, tables, row)?,
            state: self.state(workspace, row),
            fuel: None,
        };
        let role = match plugin.manifest.kind {
            PluginKind::Connector => loaded.connector(binding).map(Role::Connector),
            PluginKind::TagModel => loaded.compute(binding).map(Role::TagModel),
            PluginKind::Scorer => loaded.compute(binding).map(Role::Scorer),
            PluginKind::Channel => loaded.channel(binding).map(Role::Channel),
        };
        role.map_err(|source| WiringError::Bind { installation: row.name.to_string(), source })
    }

    fn state(&self, workspace: WorkspaceId, row: &InstallationRow) -> Arc<dyn KeyValue> {
        Arc::new(kv::StoredState::new(Arc::clone(&self.store), workspace, row.id))
    }
}

/// An installation that cannot be made to run, as far as it can be described.
fn stand_in(tables: &WorkspaceTables, row: &InstallationRow) -> Option<Installed> {
    let plugin = tables.plugin_of(row)?;
    let problem = "it could not be made to run; the server's log says why".to_owned();
    let role = unavailable::role(plugin.manifest.kind, problem);
    let inputs = inputs(row, &plugin.manifest).unwrap_or_default();
    Some(described(tables, row, plugin, inputs, role))
}

fn described(
    tables: &WorkspaceTables,
    row: &InstallationRow,
    plugin: &PluginRow,
    inputs: Vec<InputSpec>,
    role: Role,
) -> Installed {
    let fitted = tables.states.get(&row.id);
    Installed {
        id: row.id,
        name: row.name.clone(),
        plugin: row.plugin.clone(),
        plugin_version: row.version.clone(),
        kind: plugin.manifest.kind,
        digest: plugin.digest.clone(),
        mode: row.mode,
        config_hash: config_hash(&row.config),
        inputs,
        outputs: plugin.manifest.outputs.clone(),
        fitted: fitted.map(|(version, bytes)| FittedState { version: *version, bytes: Arc::clone(bytes) }),
        recipients: recipients(&plugin.manifest, &row.grants),
        idempotence: match plugin.manifest.idempotent {
            true => Idempotence::Idempotent,
            false => Idempotence::NotIdempotent,
        },
        role,
    }
}

/// The first eight bytes of the configuration's SHA-256; its JSON has its keys in order.
fn config_hash(config: &serde_json::Value) -> u64 {
    let digest = Sha256::digest(config.to_string());
    digest.iter().take(8).fold(0, |hash, byte| (hash << 8) | u64::from(*byte))
}

/// The types of identifiers that a channel is given, of those that its manifest asks for; `None` for any. A manifest from before
/// channels could ask names none, and its channel is given what the grant says.
fn recipients(manifest: &Manifest, grants: &Grants) -> Option<Vec<String>> {
    let asked = &manifest.capabilities.recipients;
    let is_any = asked.is_empty() || asked.iter().any(|request| request.kind == "*");
    match (&grants.recipients, is_any) {
        (granted, true) => granted.clone(),
        (granted, false) => {
            let asked = asked.iter().map(|request| request.kind.clone());
            Some(asked.filter(|kind| granted.as_ref().is_none_or(|granted| granted.contains(kind))).collect())
        }
    }
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

fn secrets(
    sealer: &Sealer,
    tables: &WorkspaceTables,
    row: &InstallationRow,
) -> Result<BTreeMap<String, String>, WiringError> {
    let names = tables.secret_names(row.id).into_iter();
    let opened = names.map(|name| {
        let place = Place { workspace: tables.row.id, installation: row.id, name: &name };
        let sealed = tables.secrets.get(&(row.id, name.clone())).map(AsRef::as_ref).unwrap_or_default();
        let value = sealer.open(place, sealed)?;
        Ok((name, value))
    });
    opened.collect()
}
