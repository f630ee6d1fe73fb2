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
    let ring = master_keys::read(&config, Sharing::Refused, Missing::Made).unwrap().ring;
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
    let place = Place::ShadowConfig { workspace: WorkspaceId(1), installation: InstallationId(7) };
    let key = Key::definition(WorkspaceId(1), Definition::SealedShadow, &7_u32.to_be_bytes());
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
    opened == 1 + 150 + 3 + 2
}

fn rotated(store: &Arc<Mortal>, config: &Config) -> Result<Rotated, ServeError> {
    let seam = Arc::clone(store) as Arc<dyn Store>;
    rotate(&seam, config, master_keys::read(config, Sharing::Refused, Missing::Left).unwrap(), None)
}

#[test]
fn a_rotation_that_is_stopped_after_any_commit_goes_on_where_it_was() {
    let mut deaths = 0;
    for commits in 0.. {
        let (folder, config, store) = filled();
        let before = master_keys::read(&config, Sharing::Refused, Missing::Made).unwrap();
        let root = HostKey::open(store.as_ref(), &before.ring, None).unwrap().unwrap().derive("test");
        store.left.store(commits, Ordering::SeqCst);
        let first = rotated(&store, &config);
        store.left.store(u64::MAX, Ordering::SeqCst);
        // A server could start now, whatever was done.
        let between = master_keys::read(&config, Sharing::Refused, Missing::Made).unwrap();
        assert!(all_opens(&store, &between.ring), "after {commits} commits");
        insist_on_keys(store.as_ref(), &between.ring).unwrap();
        let is_done = first.is_ok();
        let done = first.or_else(|_| rotated(&store, &config)).unwrap();
        deaths += u32::from(!is_done);

        let after = master_keys::read(&config, Sharing::Refused, Missing::Made).unwrap();
        assert_eq!(after.ring.ids().map(|id| id.to_string()).collect::<Vec<_>>(), std::slice::from_ref(&done.key));
        assert_ne!(after.current, before.current);
        assert!(all_opens(&store, &after.ring), "after {commits} commits");
        assert_eq!(*HostKey::open(store.as_ref(), &after.ring, None).unwrap().unwrap().derive("test"), *root);
        assert!(insist_on_keys(store.as_ref(), &before.ring).is_err(), "nothing is sealed with the old key");
        let retired = master_keys::read_file(&done.retired.unwrap(), Sharing::Refused).unwrap();
        assert_eq!(Some(MasterKey::new(&retired).id()), before.current);
        drop(folder);
        if is_done {
            assert_eq!(done.records, 1 + 150 + 3 + 2);
            break;
        }
    }
    // The root, three pages, the two configurations, the deleted workspace's, and the line in the audit log.
    assert_eq!(deaths, 8);
}

#[test]
fn who_seals_how_much_is_told_and_a_missing_key_by_its_id() {
    let (_folder, config, store) = filled();
    let keys = master_keys::read(&config, Sharing::Refused, Missing::Made).unwrap();
    let used = uses(store.as_ref(), &keys.ring).unwrap();
    let id = keys.current.unwrap().to_string();
    let expected = KeyUse { key: id.clone(), is_there: true, is_current: true, records: 156 };
    assert_eq!(used, KeysInUse { keys: vec![expected], unread: Vec::new() });

    std::fs::write(master_keys::own_path(&config), [5; 32]).unwrap();
    let other = master_keys::read(&config, Sharing::Refused, Missing::Made).unwrap();
    let used = uses(store.as_ref(), &other.ring).unwrap();
    let states: BTreeSet<(&str, bool, bool, u64)> =
        used.keys.iter().map(|key| (key.key.as_str(), key.is_there, key.is_current, key.records)).collect();
    let other_id = other.current.unwrap().to_string();
    assert_eq!(states, [(id.as_str(), false, false, 156), (other_id.as_str(), true, true, 0)].into());
    let refused = rotated(&store, &config).unwrap_err().to_string();
    assert!(refused.contains(&id) && refused.contains("Nothing was changed"), "{refused}");
    assert!(!master_keys::next_path(&config).exists());
}

/// Change a byte of the secret of this name in the first workspace.
fn damage(store: &Mortal, name: &str) {
    let name = [&7_u32.to_be_bytes(), name.as_bytes()].concat();
    let key = Key::definition(WorkspaceId(1), Definition::Secret, &name);
    let mut sealed = store.get(std::slice::from_ref(&key)).unwrap().pop().flatten().unwrap().to_vec();
    *sealed.last_mut().unwrap() ^= 1;
    store.commit(Unit { operations: vec![Operation::Put(key, sealed)], ..Unit::default() }).unwrap();
}

#[test]
fn a_record_that_does_not_open_is_left_behind_and_told_and_stops_nothing() {
    let (_folder, config, store) = filled();
    damage(&store, "s070");
    let bad = ["the secret `s070` of installation 7 in workspace 1".to_owned()];
    for records in [155, 155] {
        let done = rotated(&store, &config).unwrap();
        assert_eq!((done.records, done.left_behind.as_slice()), (records, bad.as_slice()));
        let keys = master_keys::read(&config, Sharing::Refused, Missing::Left).unwrap();
        // The key that it names is there no more, and a server starts all the same.
        insist_on_keys(store.as_ref(), &keys.ring).unwrap();
        seal_unnamed(store.as_ref(), &keys.ring).unwrap();
        let used = uses(store.as_ref(), &keys.ring).unwrap();
        assert_eq!((used.unread.as_slice(), used.keys.len(), used.keys[0].records), (bad.as_slice(), 1, 155));
    }
}

/// A store as a release before left it: secrets that name no key, and no root.
fn of_before() -> (KeyRing, Arc<Mortal>) {
    let (store, key) = (memory(), MasterKey::new(&[7; 32]));
    let workspace = WorkspaceId(1);
    let row = WorkspaceRow::new(workspace, "default".parse().unwrap(), "UTC".to_owned(), Timestamp(0));
    let place = Key::definition(SYSTEM, Definition::Workspace, &1_u32.to_be_bytes());
    let mut operations = vec![Operation::Put(place, row::encode(&row))];
    for number in 0..150 {
        let (name, installation) = (name_of(number), InstallationId(7));
        let sealed = key.sealed_before(Place::Secret { workspace, installation, name: &name }, "value");
        let name = [&7_u32.to_be_bytes(), name.as_bytes()].concat();
        operations.push(Operation::Put(Key::definition(workspace, Definition::Secret, &name), sealed));
    }
    store.commit(Unit { operations, ..Unit::default() }).unwrap();
    (KeyRing::new([key]), Arc::new(Mortal { store, left: AtomicU64::new(u64::MAX) }))
}

#[test]
fn a_key_that_opens_nothing_of_a_release_before_is_refused() {
    let (ring, store) = of_before();
    let other = KeyRing::new([MasterKey::new(&[8; 32])]);
    let refused = insist_on_keys(store.as_ref(), &other).unwrap_err().to_string();
    let given = other.current().unwrap().to_string();
    assert!(refused.contains(&given) && refused.contains("`s000`") && refused.contains("`host.key`"), "{refused}");
    // Who has no key at all is told that instead.
    insist_on_keys(store.as_ref(), &KeyRing::default()).unwrap();
    // One that is damaged among many holds nobody up.
    damage(&store, "s000");
    insist_on_keys(store.as_ref(), &ring).unwrap();
}

#[test]
fn what_a_release_before_sealed_is_sealed_again_and_goes_on_where_it_was_stopped() {
    let (ring, store) = of_before();
    damage(&store, "s003");
    store.left.store(1, Ordering::SeqCst);
    assert!(seal_unnamed(store.as_ref(), &ring).is_err());
    store.left.store(u64::MAX, Ordering::SeqCst);
    insist_on_keys(store.as_ref(), &ring).unwrap();
    let done = seal_again(store.as_ref(), &ring, Which::Unnamed).unwrap();
    let bad = "the secret `s003` of installation 7 in workspace 1".to_owned();
    assert_eq!(done, Resealed { records: 150 - PAGE_ROWS as u64, unread: vec![bad.clone()] });
    // Each names its key now, so that whoever lacks that is told which it is.
    let other = KeyRing::new([MasterKey::new(&[8; 32])]);
    let refused = insist_on_keys(store.as_ref(), &other).unwrap_err().to_string();
    assert!(refused.contains(&ring.current().unwrap().to_string()), "{refused}");
    assert_eq!(seal_again(store.as_ref(), &ring, Which::Unnamed).unwrap(), Resealed { records: 0, unread: vec![bad] });
}

#[test]
fn another_key_that_others_may_read_is_refused_before_anything_is_sealed_with_it() {
    use std::os::unix::fs::PermissionsExt as _;

    let (folder, config, store) = filled();
    let to = folder.path().join("given.key");
    std::fs::write(&to, [5; 32]).unwrap();
    for (mode, is_taken) in [(0o644, false), (0o640, false), (0o600, true)] {
        std::fs::set_permissions(&to, std::fs::Permissions::from_mode(mode)).unwrap();
        let keys = master_keys::read(&config, Sharing::Refused, Missing::Left).unwrap();
        let (seam, before) = (Arc::clone(&store) as Arc<dyn Store>, keys.current);
        match rotate(&seam, &config, keys, Some(&to)) {
            Ok(done) => assert!(is_taken && done.records == 156, "{mode:o}"),
            Err(error) => {
                let told = crate::error::chain(&error);
                assert!(!is_taken && told.contains("chmod 600") && told.contains("given.key"), "{mode:o}: {told}");
                let used =
                    uses(store.as_ref(), &master_keys::read(&config, Sharing::Refused, Missing::Left).unwrap().ring);
                assert_eq!(used.unwrap().keys[0].key, before.unwrap().to_string(), "nothing was changed");
            }
        }
    }
}
