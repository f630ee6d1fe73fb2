//! A rotation that is stopped after each of its commits, and one that is not.

use std::collections::BTreeSet;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use kith_model::id::Position;
use kith_model::time::Timestamp;
use kith_store::{
    ChangeLimits, Changes, CommitError, Committed, Fence, Job, KeyRange, Page, QueueId, ReadError, memory, row,
};

use super::*;
use crate::catalogue::WorkspaceRow;
use crate::catalogue::rows::WorkspaceState;

/// A store that takes so many commits and no more.
struct Mortal {
    store: Embedded,
    left: AtomicU64,
}

impl Store for Mortal {
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, ReadError> {
        self.store.get(keys)
    }

    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError> {
        self.store.scan(range, limit)
    }

    fn commit_all(&self, units: Vec<Unit>) -> Vec<Result<Committed, CommitError>> {
        let take = |unit| {
            let has_left = self.left.fetch_update(Ordering::SeqCst, Ordering::SeqCst, |left| left.checked_sub(1));
            if has_left.is_ok() { self.store.commit(unit) } else { Err(CommitError::Closed) }
        };
        units.into_iter().map(take).collect()
    }

    fn changes(&self, workspace: WorkspaceId, after: Position, limits: ChangeLimits) -> Result<Changes, ReadError> {
        self.store.changes(workspace, after, limits)
    }

    fn head_of(&self, workspace: WorkspaceId) -> Position {
        self.store.head_of(workspace)
    }

    fn head(&self) -> Position {
        self.store.head()
    }

    fn wait_for_change(&self, after: Position, timeout: Duration) -> Position {
        self.store.wait_for_change(after, timeout)
    }

    fn claim(&self, queue: QueueId, now: Timestamp, limit: usize, lease_ms: i64) -> Result<Vec<Job>, CommitError> {
        self.store.claim(queue, now, limit, lease_ms)
    }

    fn claimed(&self, queue: QueueId, limit: usize) -> Result<Vec<Job>, ReadError> {
        self.store.claimed(queue, limit)
    }

    fn next_due(&self, queue: QueueId) -> Result<Option<Timestamp>, ReadError> {
        self.store.next_due(queue)
    }

    fn lease(&self, name: &str, owner: &str, now: Timestamp, ttl_ms: i64) -> Result<Option<Fence>, CommitError> {
        self.store.lease(name, owner, now, ttl_ms)
    }
}

/// More than two pages, in a workspace that runs and in one that is deleted.
const SECRETS: [(u32, u32); 2] = [(1, 150), (2, 3)];

fn name_of(number: u32) -> String {
    format!("s{number:03}")
}

/// A folder with a `host.key`, and a store whose secrets it seals.
fn filled() -> (tempfile::TempDir, Config, Arc<Mortal>) {
    let folder = tempfile::tempdir().unwrap();
    let config = Config::new(folder.path());
    let ring = master_keys::read(&config, Sharing::Refused).unwrap().ring;
    let store = memory();
    HostKey::open(&store, &ring, None).unwrap().unwrap();
    let mut operations = Vec::new();
    for (id, secrets) in SECRETS {
        let workspace = WorkspaceId(id);
        let state = if id == 2 { WorkspaceState::Deleted { at: Timestamp(1) } } else { WorkspaceState::Active };
        let row = WorkspaceRow::new(workspace, format!("w{id}").parse().unwrap(), "UTC".to_owned(), Timestamp(0));
        let row = WorkspaceRow { state, ..row };
        let place = Key::definition(SYSTEM, Definition::Workspace, &id.to_be_bytes());
        operations.push(Operation::Put(place, row::encode(&row)));
        for number in 0..secrets {
            let (name, installation) = (name_of(number), InstallationId(7));
            let place = Place::Secret { workspace, installation, name: &name };
            let sealed = ring.seal(place, format!("value {number}").as_bytes()).unwrap();
            let name = [&7_u32.to_be_bytes(), name.as_bytes()].concat();
            operations.push(Operation::Put(Key::definition(workspace, Definition::Secret, &name), sealed));
        }
    }
    let place = Place::Config { workspace: WorkspaceId(1), installation: InstallationId(7) };
    let key = Key::definition(WorkspaceId(1), Definition::SealedConfig, &7_u32.to_be_bytes());
    operations.push(Operation::Put(key, ring.seal(place, b"{}").unwrap()));
    store.commit(Unit { operations, ..Unit::default() }).unwrap();
    let all = Arc::new(Mortal { store, left: AtomicU64::new(u64::MAX) });
    (folder, config, all)
}

/// What opens with the keys that are there: everything, each in its place.
fn all_opens(store: &Mortal, ring: &KeyRing) -> bool {
    let mut opened = 0;
    each_page(store, &mut |sealed| {
        for row in sealed {
            opened += row.place(|place| Ok(u64::from(ring.open_bytes(place, &row.value).is_ok())))?;
        }
        Ok(())
    })
    .unwrap();
    opened == 1 + 150 + 3 + 1
}

fn rotated(store: &Arc<Mortal>, config: &Config) -> Result<Rotated, ServeError> {
    let seam = Arc::clone(store) as Arc<dyn Store>;
    rotate(&seam, config, master_keys::read(config, Sharing::Refused).unwrap(), None)
}

#[test]
fn a_rotation_that_is_stopped_after_any_commit_goes_on_where_it_was() {
    let mut deaths = 0;
    for commits in 0.. {
        let (folder, config, store) = filled();
        let before = master_keys::read(&config, Sharing::Refused).unwrap();
        let root = HostKey::open(store.as_ref(), &before.ring, None).unwrap().unwrap().derive("test");
        store.left.store(commits, Ordering::SeqCst);
        let first = rotated(&store, &config);
        store.left.store(u64::MAX, Ordering::SeqCst);
        // A server could start now, whatever was done.
        let between = master_keys::read(&config, Sharing::Refused).unwrap();
        assert!(all_opens(&store, &between.ring), "after {commits} commits");
        insist_on_keys(store.as_ref(), &between.ring).unwrap();
        let is_done = first.is_ok();
        let done = first.or_else(|_| rotated(&store, &config)).unwrap();
        deaths += u32::from(!is_done);

        let after = master_keys::read(&config, Sharing::Refused).unwrap();
        assert_eq!(after.ring.ids().map(|id| id.to_string()).collect::<Vec<_>>(), std::slice::from_ref(&done.key));
        assert_ne!(after.current, before.current);
        assert!(all_opens(&store, &after.ring), "after {commits} commits");
        assert_eq!(*HostKey::open(store.as_ref(), &after.ring, None).unwrap().unwrap().derive("test"), *root);
        assert!(insist_on_keys(store.as_ref(), &before.ring).is_err(), "nothing is sealed with the old key");
        let retired = master_keys::read_file(&done.retired.unwrap(), Sharing::Refused).unwrap();
        assert_eq!(Some(MasterKey::new(&retired).id()), before.current);
        drop(folder);
        if is_done {
            assert_eq!(done.records, 1 + 150 + 3 + 1);
            break;
        }
    }
    // The root, three pages, the configuration, the deleted workspace's, and the line in the audit log.
    assert_eq!(deaths, 7);
}

#[test]
fn who_seals_how_much_is_told_and_a_missing_key_by_its_id() {
    let (_folder, config, store) = filled();
    let keys = master_keys::read(&config, Sharing::Refused).unwrap();
    let used = uses(store.as_ref(), &keys.ring).unwrap();
    let id = keys.current.unwrap().to_string();
    let expected = KeyUse { key: id.clone(), is_there: true, is_current: true, records: 155 };
    assert_eq!(used, KeysInUse { keys: vec![expected], unread: 0 });

    std::fs::write(master_keys::own_path(&config), [5; 32]).unwrap();
    let other = master_keys::read(&config, Sharing::Refused).unwrap();
    let used = uses(store.as_ref(), &other.ring).unwrap();
    let states: BTreeSet<(&str, bool, bool, u64)> =
        used.keys.iter().map(|key| (key.key.as_str(), key.is_there, key.is_current, key.records)).collect();
    let other_id = other.current.unwrap().to_string();
    assert_eq!(states, [(id.as_str(), false, false, 155), (other_id.as_str(), true, true, 0)].into());
    let refused = rotated(&store, &config).unwrap_err().to_string();
    assert!(refused.contains(&id) && refused.contains("Nothing was changed"), "{refused}");
    assert!(!master_keys::next_path(&config).exists());
}
