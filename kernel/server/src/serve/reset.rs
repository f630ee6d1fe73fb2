//! Keys that are made where the data lies: a new admin key for a workspace whose keys are lost, and a host key. Whoever can write to
//! the data directory could make one anyhow, and this way it is written down.

use std::io;
use std::sync::Arc;

use kith_model::id::Name;
use kith_store::keys::SYSTEM;
use kith_store::{Embedded, Store, StoreConfig};

use super::ServeError;
use crate::auth::{self, KeyKind, Scope};
use crate::catalogue::sealed::KeyRing;
use crate::catalogue::{Actor, Catalogue, CatalogueError, CredentialRow};
use crate::config::Config;

/// Make a key with every scope for a workspace; its text, which is kept nowhere. The keys that there are go on being good.
///
/// # Errors
/// [`ServeError`] where the directory is none of ours or a server uses it, and where there is no such workspace.
pub fn reset_key(config: &Config, workspace: &Name) -> Result<String, ServeError> {
    let store = open(config)?;
    let made = reset(&store, config, workspace);
    store.close();
    made
}

fn reset(store: &Arc<Embedded>, config: &Config, workspace: &Name) -> Result<String, ServeError> {
    let catalogue = catalogue(store, config)?;
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

/// Make a host key for a data directory that no server runs over: for one that is older than host keys, or where all of them are
/// lost. It belongs to no workspace. Its text.
///
/// # Errors
/// Also where there is no store in the directory: the first key of a new one is a host key.
pub fn make_host_key(config: &Config) -> Result<String, ServeError> {
    let store = open(config)?;
    let made = host_key(&store, config);
    store.close();
    made
}

fn host_key(store: &Arc<Embedded>, config: &Config) -> Result<String, ServeError> {
    let catalogue = catalogue(store, config)?;
    let key = auth::generate(KeyKind::Api).map_err(|error| ServeError::Random(error.to_string()))?;
    let mut change = catalogue.begin_host(Actor::kernel());
    change.audit_host_key("host-key.create", &key.id);
    let now = change.now();
    change.put_credential(CredentialRow::new(&key, SYSTEM, "host key", [Scope::WorkspacesAdmin], now));
    drop(change.commit()?);
    Ok(key.text)
}

/// Insist that there is a store, because opening one makes it.
pub(super) fn insist_on_store(config: &Config) -> Result<(), ServeError> {
    let unusable = |source| ServeError::DataDirectory { path: config.data_directory.clone(), source };
    if config.data_directory.join("store").try_exists().map_err(unusable)? {
        return Ok(());
    }
    Err(unusable(io::Error::new(io::ErrorKind::NotFound, "there is no store in it")))
}

fn open(config: &Config) -> Result<Arc<Embedded>, ServeError> {
    insist_on_store(config)?;
    let settings = StoreConfig { engine: config.engine, ..StoreConfig::new(config.data_directory.join("store")) };
    Ok(Arc::new(kith_store::open(settings)?))
}

/// The catalogue without master keys: nothing is sealed here.
fn catalogue(store: &Arc<Embedded>, config: &Config) -> Result<Catalogue, CatalogueError> {
    Catalogue::open(Arc::clone(store) as Arc<dyn Store>, Arc::clone(&config.clock), KeyRing::default())
}
