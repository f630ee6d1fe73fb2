//! A store that dies like a process: from a chosen commit on nothing is taken any more, and who waits for that commit is not
//! told that it is durable. What was durable is opened again for the next life.

use std::sync::Arc;
use std::time::Duration;

use kith_model::id::{Position, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{
    ChangeLimits, Changes, CommitError, Committed, Embedded, EngineKind, Fence, Job, Key, KeyRange, Page, QueueId,
    ReadError, Store, StoreConfig, Unit, Value,
};
use parking_lot::{Mutex, RwLock};

/// The files of a store, which outlive its lives.
pub(super) struct Disk {
    config: StoreConfig,
    open: RwLock<Option<Embedded>>,
    _folder: tempfile::TempDir,
}

/// What a new life begins with.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Engine {
    Kept,
    /// It is lost, and filled again from the journal.
    Lost,
}

impl Disk {
    pub(super) fn new(engine: EngineKind) -> Arc<Disk> {
        let folder = tempfile::tempdir().unwrap();
        let config = StoreConfig { engine, disk_reserve_bytes: 0, ..StoreConfig::new(folder.path().join("store")) };
        let open = RwLock::new(Some(kith_store::open(config.clone()).unwrap()));
        Arc::new(Disk { config, open, _folder: folder })
    }

    /// Close the files and open them again, for a new life.
    pub(super) fn live(self: &Arc<Disk>, engine: Engine) -> Arc<Life> {
        let mut open = self.open.write();
        drop(open.take());
        if engine == Engine::Lost {
            let folder = self.config.directory.join(format!("engine-{}", self.config.engine));
            std::fs::remove_dir_all(folder).unwrap();
        }
        *open = Some(kith_store::open(self.config.clone()).unwrap());
        Arc::new(Life { disk: Arc::clone(self), fate: Mutex::new(Fate::Lives) })
    }
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Lives,
    /// After so many units more.
    Dies(u64),
    Dead,
}

/// The store as one process sees it.
pub(super) struct Life {
    disk: Arc<Disk>,
    fate: Mutex<Fate>,
}

impl Life {
    /// Die when so many units more are durable.
    pub(super) fn die_after(&self, units: u64) {
        *self.fate.lock() = Fate::Dies(units.max(1));
    }

    /// Take nothing any more.
    pub(super) fn die(&self) {
        *self.fate.lock() = Fate::Dead;
    }

    pub(super) fn is_dead(&self) -> bool {
        *self.fate.lock() == Fate::Dead
    }

    /// How many of `wanted` units are still taken.
    fn admitted(&self, wanted: usize) -> usize {
        let mut fate = self.fate.lock();
        match *fate {
            Fate::Lives => wanted,
            Fate::Dead => 0,
            Fate::Dies(left) => {
                let taken = wanted.min(usize::try_from(left).unwrap());
                let left = left - taken as u64;
                *fate = if left == 0 { Fate::Dead } else { Fate::Dies(left) };
                taken
            }
        }
    }

    fn read<T>(&self, read: impl FnOnce(&Embedded) -> Result<T, ReadError>) -> Result<T, ReadError> {
        let dead =
            || ReadError::Io { what: "a dead store".to_owned(), source: Arc::new(std::io::Error::other("dead")) };
        if self.is_dead() {
            return Err(dead());
        }
        self.disk.open.read().as_ref().map_or_else(|| Err(dead()), read)
    }

    fn write<T>(&self, write: impl FnOnce(&Embedded) -> Result<T, CommitError>) -> Result<T, CommitError> {
        if self.admitted(1) == 0 {
            return Err(CommitError::Closed);
        }
        let written = self.disk.open.read().as_ref().map_or(Err(CommitError::Closed), write);
        if self.is_dead() { Err(CommitError::Closed) } else { written }
    }
}

impl Store for Life {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, ReadError> {
        self.read(|store| store.get(keys))
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.read(|store| store.scan(range, limit))
    }

    fn commit_all(&self, mut units: Vec<Unit>) -> Vec<Result<Committed, CommitError>> {
        let all = units.len();
        units.truncate(self.admitted(all));
        let open = self.disk.open.read();
        let mut answers = open.as_ref().map_or_else(Vec::new, |store| store.commit_all(units));
        if self.is_dead() {
            answers.clear();
        }
        answers.resize_with(all, || Err(CommitError::Closed));
        answers
    }

    fn changes(&self, workspace: WorkspaceId, after: Position, limits: ChangeLimits) -> Result<Changes, ReadError> {
        self.read(|store| store.changes(workspace, after, limits))
    }

    fn head_of(&self, workspace: WorkspaceId) -> Position {
        self.read(|store| Ok(store.head_of(workspace))).unwrap_or_default()
    }

    fn head(&self) -> Position {
        self.read(|store| Ok(store.head())).unwrap_or_default()
    }

    fn wait_for_change(&self, after: Position, timeout: Duration) -> Position {
        let waited = self.read(|store| Ok(store.wait_for_change(after, timeout)));
        waited.unwrap_or_else(|_| {
            std::thread::park_timeout(timeout);
            Position::default()
        })
    }

    fn claim(&self, queue: QueueId, now: Timestamp, limit: usize, lease_ms: i64) -> Result<Vec<Job>, CommitError> {
        self.write(|store| store.claim(queue, now, limit, lease_ms))
    }

    fn claimed(&self, queue: QueueId, limit: usize) -> Result<Vec<Job>, ReadError> {
        self.read(|store| store.claimed(queue, limit))
    }

    fn next_due(&self, queue: QueueId) -> Result<Option<Timestamp>, ReadError> {
        self.read(|store| store.next_due(queue))
    }

    fn lease(&self, name: &str, owner: &str, now: Timestamp, ttl_ms: i64) -> Result<Option<Fence>, CommitError> {
        self.write(|store| store.lease(name, owner, now, ttl_ms))
    }
}
