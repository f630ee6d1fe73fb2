//! The change feed of one workspace among others: on every store, from memory and from disk, within its bounds.

use std::collections::BTreeMap;
use std::fs;

use crate::conformance::on_every_store;
use crate::support::{ENGINES, Opened, at_most, key, put, unit};
use kith_model::id::{Position, WorkspaceId};
use kith_store::{ChangeLimits, LogRecord, Operation, ReadError, Store};

const LOUD: WorkspaceId = WorkspaceId(1);
const QUIET: WorkspaceId = WorkspaceId(2);

fn append(workspace: WorkspaceId, record: &[u8]) -> Operation {
    Operation::Append { workspace, record: record.to_vec(), row: None }
}

/// All records of a workspace, in as many calls as it takes; the number of calls as well.
fn read(store: &impl Store, workspace: WorkspaceId, limits: ChangeLimits) -> (Vec<LogRecord>, usize) {
    let (mut after, mut all, mut calls) = (Position(0), Vec::new(), 0);
    loop {
        let changes = store.changes(workspace, after, limits).unwrap();
        calls += 1;
        let positions = changes.records.iter().map(|record| record.position);
        assert!([after].into_iter().chain(positions).is_sorted_by(|left, right| left < right));
        assert!(changes.records.len() <= limits.records);
        let bytes: usize = changes.records.iter().map(|record| record.bytes.len()).sum();
        assert!(bytes <= limits.bytes || changes.records.len() == 1);
        assert!(changes.records.iter().all(|record| record.workspace == workspace && record.position <= changes.up_to));
        let done = changes.records.is_empty() && changes.up_to == store.head();
        assert!(done || changes.up_to > after, "every call gets on: {} after {}", changes.up_to.0, after.0);
        all.extend(changes.records);
        after = changes.up_to;
        if done {
            return (all, calls);
        }
    }
}

/// Commit units of records of several workspaces, a fixed mixture; what each workspace should read.
fn mix(store: &impl Store) -> BTreeMap<WorkspaceId, Vec<(u64, Vec<u8>)>> {
    let (mut expected, mut position) = (BTreeMap::<_, Vec<_>>::new(), 0);
    for round in 0..300_u32 {
        let mut operations = vec![put(key(round % 7), &[0; 50])];
        for part in 0..round % 5 {
            let workspace = WorkspaceId((round * round + part) % 4 + 1);
            let record = vec![round as u8; ((round * 31 + part * 7) % 200) as usize];
            position += 1;
            operations.push(append(workspace, &record));
            expected.entry(workspace).or_default().push((position, record));
        }
        store.commit(unit(operations)).unwrap();
    }
    expected
}

fn check_mix(store: &impl Store, expected: &BTreeMap<WorkspaceId, Vec<(u64, Vec<u8>)>>) {
    let limits = [(1, usize::MAX), (3, usize::MAX), (usize::MAX, 500), (5, 1), (usize::MAX, usize::MAX), (0, 0)];
    for (records, bytes) in limits {
        for (workspace, wanted) in expected {
            let records = records.max(1);
            let (read, _) = read(store, *workspace, ChangeLimits { records, bytes });
            let read: Vec<_> = read.iter().map(|record| (record.position.0, record.bytes.to_vec())).collect();
            assert!(read == *wanted, "{workspace:?} with at most {records} records and {bytes} bytes");
        }
    }
    for (workspace, wanted) in expected {
        assert_eq!(store.head_of(*workspace).0, wanted.last().unwrap().0);
        // From any position, not only from those that an answer named.
        for after in 0..store.head().0 + 2 {
            let changes = store.changes(*workspace, Position(after), at_most(2)).unwrap();
            let read: Vec<u64> = changes.records.iter().map(|record| record.position.0).collect();
            let wanted = wanted.iter().map(|(position, _)| *position).filter(|position| *position > after);
            assert_eq!(read, wanted.take(2).collect::<Vec<_>>(), "after {after}");
        }
    }
    assert_eq!(store.head_of(WorkspaceId(9)), Position(0));
    assert_eq!(store.changes(WorkspaceId(9), Position(0), at_most(1)).unwrap().up_to, store.head());
}

#[test]
fn each_workspace_reads_its_own_records_and_nothing_else() {
    on_every_store(|store| {
        let expected = mix(store);
        assert_eq!(expected.len(), 4);
        check_mix(store, &expected);
        store.settle();
        check_mix(store, &expected);
    });
}

#[test]
fn the_feed_of_a_workspace_is_the_same_after_a_restart() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        let expected = mix(opened.store());
        let opened = opened.reopen();
        check_mix(opened.store(), &expected);
        // With the engine lost, the records come by in the replay once more.
        let folder = format!("engine-{engine}");
        let opened = opened.try_reopen_after(|path| fs::remove_dir_all(path.join(&folder)).unwrap()).unwrap();
        check_mix(opened.store(), &expected);
    }
}

#[test]
fn a_record_above_the_limit_comes_alone() {
    on_every_store(|store| {
        let records = [vec![1; 10_000], vec![2; 10], vec![3; 10]];
        store.commit(unit(records.iter().map(|record| append(QUIET, record)))).unwrap();
        let limits = ChangeLimits { records: 10, bytes: 100 };
        let first = store.changes(QUIET, Position(0), limits).unwrap();
        assert_eq!((first.records.len(), first.up_to), (1, Position(1)));
        let rest = store.changes(QUIET, first.up_to, limits).unwrap();
        assert_eq!((rest.records.len(), rest.up_to), (2, Position(3)));
    });
}

#[test]
fn one_call_looks_through_a_bounded_number_of_records() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        let store = opened.store();
        store.commit(unit([append(QUIET, b"first")])).unwrap();
        for _ in 0..25 {
            store.commit(unit((0..10_000).map(|_| append(LOUD, b"")))).unwrap();
        }
        store.commit(unit([append(QUIET, b"last")])).unwrap();
        let first = store.changes(QUIET, Position(0), at_most(10)).unwrap();
        assert_eq!((first.records.len(), &*first.records[0].bytes), (1, b"first".as_slice()));
        assert!((100_000..=110_000).contains(&first.up_to.0), "{}", first.up_to.0);
        let second = store.changes(QUIET, first.up_to, at_most(10)).unwrap();
        assert!(second.records.is_empty() && second.up_to > first.up_to && second.up_to < store.head());
        let (all, calls) = read(store, QUIET, at_most(10));
        assert_eq!((all.len(), all[1].bytes.to_vec()), (2, b"last".to_vec()));
        assert!((3..=5).contains(&calls), "{calls}");
    }
}

#[test]
fn one_call_looks_through_a_bounded_number_of_bytes() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        let store = opened.store();
        // Between the records lie units that append nothing: no position says how far a look has come in them.
        let filler = || unit([put(key(1), &vec![7; 4 << 20])]);
        store.commit(unit([append(QUIET, b"first")])).unwrap();
        for _ in 0..17 {
            store.commit(filler()).unwrap();
        }
        store.commit(unit([append(LOUD, b"loud")])).unwrap();
        for _ in 0..17 {
            store.commit(filler()).unwrap();
        }
        store.commit(unit([append(QUIET, b"last"), append(LOUD, &[0; 9_000])])).unwrap();
        let first = store.changes(QUIET, Position(0), at_most(10)).unwrap();
        assert_eq!((first.records.len(), first.up_to), (1, Position(1)), "64 MiB were looked through");
        let (all, calls) = read(store, QUIET, at_most(10));
        assert_eq!((all.len(), all[1].position), (2, Position(3)));
        assert!(calls <= 5, "{calls}");
    }
}

#[test]
fn an_idle_workspace_costs_no_read() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        opened.store().commit(unit([append(QUIET, b"once")])).unwrap();
        for _ in 0..300 {
            opened.store().commit(unit([append(LOUD, &[0; 1_000])])).unwrap();
        }
        let opened = opened.reopen();
        let store = opened.store();
        assert_eq!((store.head_of(QUIET), store.head_of(LOUD)), (Position(1), store.head()));
        for _ in 0..100 {
            store.commit(unit([append(LOUD, &[0; 1_000])])).unwrap();
        }
        // Without its files, a look into the log would fail.
        let journal = opened.directory().join("journal");
        fs::rename(&journal, opened.directory().join("hidden")).unwrap();
        let idle = store.changes(QUIET, Position(1), at_most(10)).unwrap();
        assert_eq!((idle.records.len(), idle.up_to), (0, store.head()));
        assert_eq!(store.changes(WorkspaceId(9), Position(0), at_most(10)).unwrap().up_to, store.head());
        assert!(matches!(store.changes(QUIET, Position(0), at_most(10)), Err(ReadError::Io { .. })));
        fs::rename(opened.directory().join("hidden"), &journal).unwrap();
    }
}
