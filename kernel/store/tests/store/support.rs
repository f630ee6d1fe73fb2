//! What the store's tests share: opening stores in temporary folders, and short names for keys and units.

use std::path::Path;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::{ChangeLimits, Embedded, EngineKind, Key, KeyRange, OpenError, Operation, StoreConfig, Unit};

/// The engines with files.
pub(crate) const ENGINES: [EngineKind; 2] = [EngineKind::Sled, EngineKind::Redb];

/// The usual configuration with small bounds, so that segments, tail and overlay overflow within a test.
pub(crate) fn config(directory: &Path, engine: EngineKind) -> StoreConfig {
    StoreConfig {
        engine,
        cache_bytes: 8 << 20,
        disk_reserve_bytes: 0,
        segment_bytes: 64 * 1024,
        tail_bytes: 4 * 1024,
        overlay_bytes: 256 * 1024,
        ..StoreConfig::new(directory)
    }
}

/// A store in a temporary folder.
pub(crate) struct Opened {
    store: Option<Embedded>,
    config: StoreConfig,
    /// Removed with this value.
    folder: tempfile::TempDir,
}

impl Opened {
    pub(crate) fn new(engine: EngineKind) -> Opened {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder.path().join("store"), engine);
        Opened { store: Some(kith_store::open(config.clone()).unwrap()), config, folder }
    }

    pub(crate) fn store(&self) -> &Embedded {
        self.store.as_ref().unwrap()
    }

    pub(crate) fn directory(&self) -> &Path {
        &self.config.directory
    }

    /// Close the store, do something to its files, and open it again.
    pub(crate) fn try_reopen_after(mut self, change: impl FnOnce(&Path)) -> Result<Opened, OpenError> {
        self.store = None;
        change(&self.config.directory);
        let store = kith_store::open(self.config.clone())?;
        Ok(Opened { store: Some(store), ..self })
    }

    /// Close the store, do something to its files, and try to open it again; why that was refused, and the folder around it.
    pub(crate) fn refused_after(mut self, change: impl FnOnce(&Path)) -> (OpenError, tempfile::TempDir) {
        self.store = None;
        change(&self.config.directory);
        match kith_store::open(self.config.clone()) {
            Ok(_) => panic!("{} was opened", self.config.directory.display()),
            Err(error) => (error, self.folder),
        }
    }

    pub(crate) fn reopen(self) -> Opened {
        self.try_reopen_after(|_| ()).unwrap()
    }

    pub(crate) fn reopen_with(mut self, change: impl FnOnce(StoreConfig) -> StoreConfig) -> Opened {
        self.store = None;
        self.config = change(self.config);
        self.reopen()
    }
}

/// The key of row `number`; keys order as numbers do.
pub(crate) fn key(number: u32) -> Key {
    Key::plugin_state(WorkspaceId(1), InstallationId(1), &format!("{number:08}"))
}

/// The keys of all rows.
pub(crate) fn keys() -> KeyRange {
    Key::plugin_state(WorkspaceId(1), InstallationId(1), "").range()
}

pub(crate) fn put(key: Key, bytes: &[u8]) -> Operation {
    Operation::Put(key, bytes.to_vec())
}

/// The workspace of [`append`].
pub(crate) const WORKSPACE: WorkspaceId = WorkspaceId(1);

/// At most so many records.
pub(crate) fn at_most(records: usize) -> ChangeLimits {
    ChangeLimits { records, bytes: usize::MAX }
}

pub(crate) fn append(record: &[u8]) -> Operation {
    Operation::Append { workspace: WORKSPACE, record: record.to_vec(), row: None }
}

pub(crate) fn unit(operations: impl IntoIterator<Item = Operation>) -> Unit {
    Unit { operations: operations.into_iter().collect(), ..Unit::default() }
}
