//! What an installation is made into: its plugin bound to its configuration, grants, secrets and state, and made again only where
//! one of these has changed. A version that runs beside the live one is made the same way, of less.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_host::{Abi, Binding, KeyValue};
use kith_model::id::WorkspaceId;
use kith_model::plugin::PluginKind;
use kith_model::secret::Secret;
use kith_pipeline::Role;
use sha2::{Digest as _, Sha256};

use super::components::LoadedPlugin;
use super::held::Hold;
use super::kv::SeenState;
use super::{Loading, Source, Wiring, WiringError, inputs, training};
pub(super) use crate::catalogue::draft::unshown::Part;
use crate::catalogue::sealed::{KeyRing, Place};
use crate::catalogue::{InstallationRow, PluginRow, WorkspaceTables};

/// What an installation was made into.
pub(super) struct RoleRecord {
    pub(super) from: Fingerprint,
    pub(super) outcome: Result<Role, Hold>,
    /// What is kept loaded for it, from the rehearsal of a change to the change.
    _loaded: Option<LoadedPlugin>,
}

/// SHA-256 over all that a role is made from.
type Fingerprint = [u8; 32];

impl Wiring {
    /// The role of an installation, from the last time where nothing of it has changed since.
    ///
    /// # Errors
    /// For one that must run; any other is held.
    pub(super) fn make(
        &self,
        source: Source<'_>,
        row: &InstallationRow,
        (plugin, part): (&PluginRow, Part),
        loading: Loading<'_>,
    ) -> Result<Result<Role, Hold>, WiringError> {
        let key = (source.tables.row.id, row.id, part);
        let from = fingerprint(source.tables, row, (plugin, part));
        let must_run = source.must_run.contains(&row.id);
        if let Some(made) = self.made.lock().get(&key).filter(|made| made.from == from) {
            match &made.outcome {
                Ok(role) => return Ok(Ok(role.clone())),
                Err(held) if !must_run => return Ok(Err(held.clone())),
                // Somebody asks for it again, so it is tried again.
                Err(_) => {}
            }
        }
        let (outcome, loaded) = match self.bind(source, row, (plugin, part), loading) {
            Ok((role, loaded)) => (Ok(role), Some(loaded)),
            // What is of the moment says nothing about the installation.
            Err(error) if must_run || error.is_of_the_moment() => return Err(error),
            Err(error) => {
                let error = crate::error::chain(&error);
                tracing::error!(installation = %row.name, ?part, error, "an installation does not run");
                (Err(Hold { since: source.now, why: format!("could not be made to run: {error}") }), None)
            }
        };
        // It tells whether the installation runs as it is, which a change on paper does not touch.
        if !loading.is_on_paper() {
            self.made.lock().insert(key, RoleRecord { from, outcome: outcome.clone(), _loaded: loaded });
        }
        Ok(outcome)
    }

    fn bind(
        &self,
        source: Source<'_>,
        row: &InstallationRow,
        (plugin, part): (&PluginRow, Part),
        loading: Loading<'_>,
    ) -> Result<(Role, LoadedPlugin), WiringError> {
        inputs(row, &plugin.manifest)?;
        training(row, &plugin.manifest)?;
        let workspace = source.tables.row.id;
        let loaded = self.components.load(workspace, &plugin.digest, loading)?;
        let binding = Binding {
            installation: row.name.to_string(),
            config: source.tables.whole_config_of(source.sealer, row, part)?,
            unshown: row.unshown.paths.clone(),
            grants: row.grants.clone(),
            secrets: secrets(source.sealer, source.tables, row)?,
            state: self.state(workspace, row, part),
            observed: match part {
                Part::Live => self.observed(workspace, row.id, source.now),
                Part::Shadow | Part::Backtest => self.observed_apart(source.now),
            },
            fuel: None,
        };
        let _turn = match loaded.compiles_to_bind(&binding) {
            true => Some(self.components.turn(workspace, &plugin.digest, loading)?),
            false => None,
        };
        let role = match plugin.manifest.kind {
            PluginKind::Connector => loaded.connector(binding).map(Role::Connector),
            PluginKind::TagModel => loaded.compute(binding).map(Role::TagModel),
            PluginKind::Scorer => loaded.compute(binding).map(Role::Scorer),
            PluginKind::Channel => match loaded.abi() {
                Abi::V0_1 => loaded.channel(binding).map(Role::Channel),
                Abi::V0_2 => loaded.pure_channel(binding).map(Role::PureChannel),
            },
        };
        let role = role.map_err(|source| WiringError::Bind { installation: row.name.to_string(), source })?;
        Ok((role, loaded))
    }

    fn state(&self, workspace: WorkspaceId, row: &InstallationRow, part: Part) -> Arc<dyn KeyValue> {
        let state = self.states.of(workspace, row.id);
        match part {
            Part::Live => state,
            Part::Shadow | Part::Backtest => Arc::new(SeenState(state)),
        }
    }
}

/// Changes with anything that a role is made from.
pub(super) fn fingerprint(
    tables: &WorkspaceTables,
    row: &InstallationRow,
    (plugin, part): (&PluginRow, Part),
) -> Fingerprint {
    let mut hash = Sha256::new();
    let mut add = |part: &[u8]| {
        hash.update((part.len() as u64).to_be_bytes());
        hash.update(part);
    };
    add(plugin.digest.as_bytes());
    add(row.name.as_str().as_bytes());
    add(row.config.to_string().as_bytes());
    // Grants are texts and numbers, which can always be written.
    add(&serde_json::to_vec(&row.grants).unwrap_or_default());
    add(tables.sealed_config(row.id, part).map(AsRef::as_ref).unwrap_or_default());
    let owned = tables.secrets.range((row.id, String::new())..).take_while(|((owner, _), _)| *owner == row.id);
    for ((_, name), sealed) in owned {
        add(name.as_bytes());
        add(sealed);
    }
    hash.finalize().into()
}

fn secrets(
    sealer: &KeyRing,
    tables: &WorkspaceTables,
    row: &InstallationRow,
) -> Result<BTreeMap<String, Secret>, WiringError> {
    let names = tables.secret_names(row.id).into_iter();
    let opened = names.map(|name| {
        let place = Place::Secret { workspace: tables.row.id, installation: row.id, name: &name };
        let sealed = tables.secrets.get(&(row.id, name.clone())).map(AsRef::as_ref).unwrap_or_default();
        let value = sealer.open(place, sealed)?;
        Ok((name, value))
    });
    opened.collect()
}
