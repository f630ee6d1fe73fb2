//! A new admin key for a workspace whose keys are lost, made where the data lies: whoever can write to the data directory could
//! make one anyhow, and this way it is written down.

use std::sync::Arc;

use kith_model::id::Name;
use kith_store::{Store, StoreConfig};

use super::{ServeError, host_key};
use crate::auth::{self, KeyKind, Scope};
use crate::catalogue::sealed::Sealer;
use crate::catalogue::{Actor, Catalogue, CredentialRow};
use crate::config::Config;

/// Make a key with every scope for a workspace; its text, which is kept nowhere. The keys that there are go on being good.
///
/// # Errors
/// [`ServeError`] where the directory is none of ours or a server uses it, and where there is no such workspace.
pub fn reset_key(config: &Config, workspace: &Name) -> Result<String, ServeError> {
    let unusable = |source| ServeError::DataDirectory { path: config.data_directory.clone(), source };
    let key_path = config.data_directory.join("host.key");
    // Opening would make one, and a new data directory with it.
    std::fs::metadata(&key_path).map_err(unusable)?;
    // Whether others may read it is judged where the server starts.
    let host_key = host_key::HostKey::open(&key_path, host_key::Sharing::Taken).map_err(unusable)?;
    let settings = StoreConfig { engine: config.engine, ..StoreConfig::new(config.data_directory.join("store")) };
    let store = Arc::new(kith_store::open(settings)?);
    let made = make(Arc::clone(&store) as Arc<dyn Store>, config, &host_key, workspace);
    store.close();
    made
}

fn make(
    store: Arc<dyn Store>,
    config: &Config,
    host_key: &host_key::HostKey,
    workspace: &Name,
) -> Result<String, ServeError> {
    let sealer = Sealer::new(&host_key.derive("secrets"));
    let catalogue = Catalogue::open(store, Arc::clone(&config.clock), sealer)?;
    let tables = catalogue.tables();
    let found = tables.workspaces.values().find(|tables| tables.row.name == *workspace);
    let id = found.ok_or_else(|| ServeError::NoWorkspace { name: workspace.clone() })?.row.id;
    let key = auth::generate(KeyKind::Api).map_err(|error| ServeError::Random(error.to_string()))?;
    let mut change = catalogue.begin(id, Actor::kernel())?;
    let row = CredentialRow::new(&key, id, "admin key from `kith key reset`", [Scope::All], change.now());
    let after = serde_json::json!({ "title": row.title, "scopes": row.scopes });
    change.audit("key.reset", &row.id, None, Some(after))?;
    change.put_credential(row);
    drop(change.commit()?);
    Ok(key.text)
}
