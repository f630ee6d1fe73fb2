//! Another master key takes the place of the present one: every sealed record is sealed again, page by page, and then the old key
//! is put out of use. Both keys open until then, so that a rotation that was stopped goes on where it was. And which key seals
//! how much.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::keys::{Definition, SYSTEM};
use kith_store::{CommitError, Embedded, Key, Operation, Precondition, Store, StoreConfig, Unit, Value};

use super::ServeError;
use super::host_key::{HostKey, Sharing};
use super::master_keys::{self, Form, Keys, Missing};
use super::reset::insist_on_store;
use crate::catalogue::sealed::{self, KeyRing, MasterKey, MasterKeyId, Place, SealError};
use crate::catalogue::{Actor, Catalogue, CatalogueError};
use crate::config::Config;

/// How many rows are read at once, and sealed again in one commit: none has more than a configuration's bytes.
const PAGE_ROWS: usize = 64;

/// What a rotation came to.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Rotated {
    /// The key that seals from now on.
    pub key: String,
    /// How many records were sealed again; less than all where an earlier rotation was stopped.
    pub records: u64,
    /// What did not open: it stays as it was, and is in nobody's way.
    pub left_behind: Vec<String>,
    /// Where the data directory's own key is kept that seals nothing any more.
    pub retired: Option<PathBuf>,
}

/// A master key, and what it seals.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyUse {
    pub key: String,
    /// Whether it was given or lies in the data directory.
    pub is_there: bool,
    /// Whether it seals what is written from now on.
    pub is_current: bool,
    pub records: u64,
}

/// The master keys of a data directory.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeysInUse {
    /// In the order of their ids.
    pub keys: Vec<KeyUse>,
    /// The records that open with none of these, although no key is missing that they name.
    pub unread: Vec<String>,
}

/// Seal everything under another master key: the one in the file `to`, which is made where it is missing, or one that takes the
/// place of `host.key`. May be done again at any time; one that was stopped goes on.
///
/// # Errors
/// [`ServeError`] where the directory is none of ours or a server uses it, and where a key is missing.
pub fn rotate_master_key(config: &Config, to: Option<&Path>) -> Result<Rotated, ServeError> {
    if to.is_none() && config.master_keys.current.is_some() {
        return Err(ServeError::NoPlaceForKey);
    }
    let (store, keys) = open(config)?;
    let seam = Arc::clone(&store) as Arc<dyn Store>;
    let rotated = rotate(&seam, config, keys, to);
    store.close();
    rotated
}

/// All master keys that there are or that a record names.
///
/// # Errors
/// [`ServeError`] where the directory is none of ours or a server uses it.
pub fn master_keys_in_use(config: &Config) -> Result<KeysInUse, ServeError> {
    let (store, keys) = open(config)?;
    let used = uses(store.as_ref(), &keys.ring);
    store.close();
    Ok(used?)
}

fn open(config: &Config) -> Result<(Arc<Embedded>, Keys), ServeError> {
    insist_on_store(config)?;
    let settings = StoreConfig { engine: config.engine, ..StoreConfig::new(config.data_directory.join("store")) };
    // The store first, which nobody else has open then: keys that were read before may be another rotation's old ones.
    let store = Arc::new(kith_store::open(settings)?);
    // Whether others may read a key is judged where the server starts.
    Ok((store, master_keys::read(config, Sharing::Taken, Missing::Left)?))
}

fn rotate(seam: &Arc<dyn Store>, config: &Config, keys: Keys, to: Option<&Path>) -> Result<Rotated, ServeError> {
    let (store, Keys { ring, own, current }) = (seam.as_ref(), keys);
    let next_path = master_keys::next_path(config);
    // One that was given is refused here where the server would refuse it, and not when everything is sealed with it.
    let (to_path, sharing) = to.map_or((next_path.as_path(), Sharing::Taken), |to| (to, Sharing::Refused));
    // A rotation that was stopped has sealed with it already.
    let ring = match master_keys::read_where_there(to_path, sharing)? {
        Some(next) => ring.and(MasterKey::new(&next)),
        None => ring,
    };
    // It says which key is missing where none of them opens a record.
    insist_on_keys(store, &ring)?;
    let root = current.map(|_| HostKey::open(store, &ring, own.clone())).transpose()?.flatten();
    if root.is_none() {
        return Err(ServeError::NoMasterKey { path: config.data_directory.clone() });
    }
    let form = if to.is_some() { Form::Hexadecimal } else { Form::Bytes };
    let next = master_keys::read_or_make(to_path, sharing, form)?;
    let next = MasterKey::new(&next);
    let id = next.id();
    let Resealed { records, unread } = seal_again(store, &ring.led_by(next), Which::All)?;
    // The key that everything is sealed with stays where it is.
    let own = own.filter(|own| MasterKey::new(own).id() != id);
    if records > 0 || own.is_some() {
        let catalogue = Catalogue::open(Arc::clone(seam), Arc::clone(&config.clock), KeyRing::default())?;
        let mut change = catalogue.begin_host(Actor::kernel());
        change.audit_master_key("master-key.rotate", &id.to_string());
        drop(change.commit()?);
    }
    let place = to.is_none().then_some(to_path);
    let retired = own.map(|own| master_keys::retire(config, &own, place)).transpose()?;
    Ok(Rotated { key: id.to_string(), records, left_behind: unread, retired })
}

/// Insist that there is a key for every record that names one. Records of a release before name none: where all that there is was
/// sealed by one, and nothing of it opens, the key is another one too.
pub(super) fn insist_on_keys(store: &dyn Store, ring: &KeyRing) -> Result<(), CatalogueError> {
    let (mut opened, mut unopened) = (0_u64, None);
    each_page(store, &mut |sealed| {
        sealed.iter().try_for_each(|row| {
            row.place(|place| {
                ring.insist_on_key(place, &row.value)?;
                if sealed::names_key(&row.value) || sealed::left_behind(&row.value).is_some() {
                    // Where that is, the first start with the right key was before.
                    opened += u64::from(matches!(place, Place::Root));
                } else if ring.open_bytes(place, &row.value).is_ok() {
                    opened += 1;
                } else {
                    unopened.get_or_insert_with(|| ring.none_opens(place));
                }
                Ok(())
            })
        })
    })?;
    match unopened {
        // Whoever has no key at all is told that.
        Some(refused) if opened == 0 && ring.current().is_some() => Err(refused.into()),
        Some(_) | None => Ok(()),
    }
}

/// Seal again, with the ring's first key, what names none: records of a release before, and what was left behind by a rotation and
/// opens now. One that was stopped goes on at the next start. What opens with no key stays as it is, and is told.
pub(super) fn seal_unnamed(store: &dyn Store, ring: &KeyRing) -> Result<(), CatalogueError> {
    match seal_again(store, ring, Which::Unnamed) {
        Ok(Resealed { records, unread }) => {
            if records > 0 {
                tracing::info!(records, "sealed again what a release before had sealed");
            }
            for record in &unread {
                tracing::warn!(
                    record,
                    "opens with no master key: write it again, or give its key with --old-master-key-file"
                );
            }
            Ok(())
        }
        // They open as they are.
        Err(CatalogueError::Commit(CommitError::DiskFull { .. })) => Ok(()),
        Err(error) => Err(error),
    }
}

/// Which records are sealed again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Which {
    /// Whatever the ring's first key has not sealed. What opens with no key is marked as left behind, so that nobody insists on its.
    All,
    /// Those that do not say with which key they are sealed.
    Unnamed,
}

/// What was sealed again.
#[derive(Debug, Default, PartialEq, Eq)]
struct Resealed {
    records: u64,
    /// What opened with no key.
    unread: Vec<String>,
}

fn seal_again(store: &dyn Store, ring: &KeyRing, which: Which) -> Result<Resealed, CatalogueError> {
    let mut done = Resealed::default();
    each_page(store, &mut |sealed| {
        let (mut unit, mut records) = (Unit::default(), 0);
        let is_wanted = |row: &&SealedRow| which == Which::All || !sealed::names_key(&row.value);
        for row in sealed.iter().filter(is_wanted) {
            let again = row.place(|place| match ring.sealed_again(place, &row.value) {
                // Nothing works without it.
                Err(error) if matches!(place, Place::Root) => Err(error.into()),
                Err(SealError::DoesNotOpen { .. }) => {
                    done.unread.push(place.to_string());
                    let stays = which == Which::Unnamed || sealed::left_behind(&row.value).is_some();
                    Ok((!stays).then(|| sealed::leave_behind(&row.value)))
                }
                again => {
                    let again = again?;
                    records += u64::from(again.is_some());
                    Ok(again)
                }
            })?;
            if let Some(again) = again {
                unit.preconditions.push(Precondition::Holds(row.key.clone(), row.value.to_vec()));
                unit.operations.push(Operation::Put(row.key.clone(), again));
            }
        }
        if unit.operations.is_empty() {
            return Ok(());
        }
        store.commit(unit)?;
        done.records += records;
        Ok(())
    })?;
    Ok(done)
}

fn uses(store: &dyn Store, ring: &KeyRing) -> Result<KeysInUse, CatalogueError> {
    let mut counts: BTreeMap<MasterKeyId, u64> = ring.ids().map(|id| (id, 0)).collect();
    let mut unread = Vec::new();
    each_page(store, &mut |sealed| {
        for row in sealed {
            row.place(|place| {
                match ring.sealed_by(place, &row.value) {
                    Ok(id) | Err(SealError::MissingKey { id, .. }) => *counts.entry(id).or_default() += 1,
                    Err(_) => unread.push(place.to_string()),
                }
                Ok(())
            })?;
        }
        Ok(())
    })?;
    let keys = counts.into_iter().map(|(id, records)| KeyUse {
        key: id.to_string(),
        is_there: ring.ids().any(|given| given == id),
        is_current: ring.current() == Some(id),
        records,
    });
    Ok(KeysInUse { keys: keys.collect(), unread })
}

/// A sealed record of the store.
struct SealedRow {
    workspace: WorkspaceId,
    kind: Definition,
    /// What the key says behind the kind.
    name: Vec<u8>,
    key: Key,
    value: Value,
}

impl SealedRow {
    /// What `work` makes of the row's place.
    fn place<T>(&self, work: impl FnOnce(Place<'_>) -> Result<T, CatalogueError>) -> Result<T, CatalogueError> {
        let workspace = self.workspace;
        if matches!(self.kind, Definition::Root) {
            return work(Place::Root);
        }
        let (number, name) = self.name.split_first_chunk::<4>().ok_or(CatalogueError::Key { what: "sealed record" })?;
        let installation = InstallationId(u32::from_be_bytes(*number));
        match self.kind {
            Definition::SealedConfig => return work(Place::Config { workspace, installation }),
            Definition::SealedShadow => return work(Place::ShadowConfig { workspace, installation }),
            _ => {}
        }
        let name = std::str::from_utf8(name).map_err(|_| CatalogueError::Key { what: "secret" })?;
        work(Place::Secret { workspace, installation, name })
    }
}

/// Every sealed record, in pages; also those of workspaces that are deleted, whose rows are still there.
fn each_page(
    store: &dyn Store,
    work: &mut dyn FnMut(&[SealedRow]) -> Result<(), CatalogueError>,
) -> Result<(), CatalogueError> {
    pages_of(store, SYSTEM, Definition::Root, work)?;
    let prefix = Key::definitions(SYSTEM, Definition::Workspace);
    let mut range = prefix.range();
    loop {
        let page = store.scan(&range, PAGE_ROWS)?;
        for (key, _) in &page.rows {
            let id = key.strip(&prefix).and_then(|name| <[u8; 4]>::try_from(name).ok());
            let workspace = WorkspaceId(u32::from_be_bytes(id.ok_or(CatalogueError::Key { what: "workspace" })?));
            for kind in [Definition::Secret, Definition::SealedConfig, Definition::SealedShadow] {
                pages_of(store, workspace, kind, work)?;
            }
        }
        match page.next {
            Some(next) => range.from = next,
            None => return Ok(()),
        }
    }
}

fn pages_of(
    store: &dyn Store,
    workspace: WorkspaceId,
    kind: Definition,
    work: &mut dyn FnMut(&[SealedRow]) -> Result<(), CatalogueError>,
) -> Result<(), CatalogueError> {
    let prefix = Key::definitions(workspace, kind);
    let mut range = prefix.range();
    loop {
        let page = store.scan(&range, PAGE_ROWS)?;
        let rows = page.rows.into_iter().map(|(key, value)| {
            let name = key.strip(&prefix).unwrap_or_default().to_vec();
            SealedRow { workspace, kind, name, key, value }
        });
        work(&rows.collect::<Vec<SealedRow>>())?;
        match page.next {
            Some(next) => range.from = next,
            None => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests;
