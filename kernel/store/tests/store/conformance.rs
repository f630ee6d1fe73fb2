//! One suite for every store: the same promises hold on memory, sled and redb. What only a store with files promises, such as
//! recovery, is in `recovery` and `kill`.

use std::collections::{BTreeMap, HashSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::queues::{enqueue, queue};
use crate::support::{ENGINES, Opened, WORKSPACE, append, at_most, key, put, unit};
use kith_model::id::{InstallationId, Position, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{
    Changes, CommitError, Embedded, Key, KeyRange, LogRecord, Operation, Precondition, Store, StoreConfig, Unit,
};
use proptest::prelude::*;

/// Run `check` on a fresh store of each kind.
pub(crate) fn on_every_store(check: impl Fn(&Embedded)) {
    check(&kith_store::memory());
    for engine in ENGINES {
        let opened = Opened::new(engine);
        check(opened.store());
    }
}

pub(crate) fn value(store: &Embedded, key: &Key) -> Option<Vec<u8>> {
    let values = store.get(std::slice::from_ref(key)).unwrap();
    values[0].as_ref().map(|value| value.to_vec())
}

pub(crate) fn all(store: &Embedded, range: &KeyRange, limit: usize) -> Vec<(Key, Vec<u8>)> {
    let mut rows = Vec::new();
    let mut range = range.clone();
    loop {
        let page = store.scan(&range, limit).unwrap();
        assert!(page.rows.len() <= limit);
        rows.extend(page.rows.into_iter().map(|(key, value)| (key, value.to_vec())));
        let Some(next) = page.next else { return rows };
        assert!(rows.last().is_none_or(|(last, _)| *last < next), "a page goes on behind its last row");
        range.from = next;
    }
}

#[test]
fn a_unit_is_seen_whole_or_not_at_all() {
    on_every_store(|store| {
        store.commit(unit([put(key(1), b"old")])).unwrap();
        let mut refused = unit([put(key(1), b"new"), put(key(2), b"new"), append(b"record")]);
        refused.preconditions = vec![Precondition::Absent(key(9)), Precondition::Absent(key(1))];
        let error = store.commit(refused).unwrap_err();
        assert!(matches!(error, CommitError::Conflict(keys) if keys == [key(1)]));
        assert_eq!(value(store, &key(1)), Some(b"old".to_vec()));
        assert_eq!(value(store, &key(2)), None);
        assert_eq!(store.head(), Position(0));
        assert_eq!(store.changes(WORKSPACE, Position(0), at_most(10)).unwrap(), Changes::default());
    });
}

#[test]
fn preconditions_hold_or_refuse() {
    on_every_store(|store| {
        store.commit(unit([put(key(1), b"one"), put(key(2), b"")])).unwrap();
        let holds = |number, bytes: &[u8]| Precondition::Holds(key(number), bytes.to_vec());
        let table = [
            (Precondition::Absent(key(1)), false),
            (Precondition::Absent(key(2)), false),
            (Precondition::Absent(key(3)), true),
            (holds(1, b"one"), true),
            (holds(1, b"on"), false),
            (holds(1, b""), false),
            (holds(2, b""), true),
            (holds(3, b""), false),
        ];
        for (precondition, expected) in &table {
            let unit = Unit { preconditions: vec![precondition.clone()], ..unit([put(key(50), b"x")]) };
            assert_eq!(store.commit(unit).is_ok(), *expected, "{precondition:?}");
        }
        let preconditions = table.iter().map(|(precondition, _)| precondition.clone()).collect();
        let error = store.commit(Unit { preconditions, ..unit([put(key(51), b"x")]) }).unwrap_err();
        let broken = [key(1), key(2), key(1), key(1), key(3)];
        assert!(matches!(error, CommitError::Conflict(keys) if keys == broken));
        assert_eq!(value(store, &key(51)), None);
    });
}

#[test]
fn of_many_who_want_to_be_first_one_is() {
    on_every_store(|store| {
        for round in 0..20 {
            let winners: usize = std::thread::scope(|scope| {
                let attempt = move |who: u8| {
                    let mut unit = unit([put(key(round), &[who]), append(&[who])]);
                    unit.preconditions = vec![Precondition::Absent(key(round))];
                    usize::from(store.commit(unit).is_ok())
                };
                let threads: Vec<_> = (0..8).map(|who| scope.spawn(move || attempt(who))).collect();
                threads.into_iter().map(|thread| thread.join().unwrap()).sum()
            });
            assert_eq!(winners, 1);
        }
        assert_eq!(store.head(), Position(20));
    });
}

#[test]
fn a_counter_loses_no_increment() {
    on_every_store(|store| {
        store.commit(unit([put(key(1), &0u64.to_be_bytes())])).unwrap();
        std::thread::scope(|scope| {
            for _ in 0..4 {
                scope.spawn(|| {
                    for _ in 0..50 {
                        loop {
                            let old = value(store, &key(1)).unwrap();
                            let count = u64::from_be_bytes(old.clone().try_into().unwrap());
                            let mut unit = unit([put(key(1), &(count + 1).to_be_bytes())]);
                            unit.preconditions = vec![Precondition::Holds(key(1), old)];
                            if store.commit(unit).is_ok() {
                                break;
                            }
                        }
                    }
                });
            }
        });
        assert_eq!(value(store, &key(1)), Some(200u64.to_be_bytes().to_vec()));
    });
}

#[test]
fn several_rows_are_read_as_of_one_moment() {
    on_every_store(|store| {
        let rows: Vec<Key> = (0..600).map(key).collect();
        // A row in the middle is set alone as well, so that it is often in a newer layer than the others.
        let set = |number: u32| unit(rows.iter().map(|row| put(row.clone(), &number.to_be_bytes())));
        let set_one = |number: u32| unit([put(rows[300].clone(), &number.to_be_bytes())]);
        store.commit(set(0)).unwrap();
        let finished = AtomicBool::new(false);
        std::thread::scope(|scope| {
            let reading = || {
                let mut seen = HashSet::new();
                while !finished.load(Ordering::SeqCst) {
                    let values = store.get(&[rows[0].clone(), rows[300].clone(), rows[599].clone()]).unwrap();
                    let values: HashSet<_> = values.into_iter().map(Option::unwrap).collect();
                    assert_eq!(values.len(), 1, "{values:?}");
                    seen.extend(values);
                }
                seen.len()
            };
            let readers = [scope.spawn(reading), scope.spawn(reading)];
            let applying = scope.spawn(|| {
                while !finished.load(Ordering::SeqCst) {
                    store.settle();
                }
            });
            for number in 0..40 {
                store.commit(set(number)).unwrap();
                store.commit(set_one(number)).unwrap();
            }
            finished.store(true, Ordering::SeqCst);
            applying.join().unwrap();
            assert!(readers.into_iter().all(|reader| reader.join().unwrap() > 1), "readers read while rows changed");
        });
    });
}

#[test]
fn the_feed_has_no_gaps_under_concurrent_commits() {
    on_every_store(|store| {
        let finished = AtomicBool::new(false);
        let (writers, per_writer) = (4u32, 100u32);
        std::thread::scope(|scope| {
            let reader = scope.spawn(|| {
                let mut seen = Vec::new();
                while !(finished.load(Ordering::SeqCst) && seen.len() as u64 == store.head().0) {
                    let after = Position(seen.len() as u64);
                    let head = store.wait_for_change(after, Duration::from_millis(20));
                    let changes = store.changes(WORKSPACE, after, at_most(7)).unwrap();
                    assert_eq!(changes.records.is_empty(), head <= after, "what the head shows can be read");
                    seen.extend(changes.records);
                }
                seen
            });
            let threads: Vec<_> = (0..writers)
                .map(|writer| {
                    scope.spawn(move || {
                        for number in 0..per_writer {
                            let records = (0..=number % 3).map(|part| {
                                append(&[writer.to_be_bytes(), number.to_be_bytes(), part.to_be_bytes()].concat())
                            });
                            let committed = store.commit(unit(records)).unwrap();
                            let before = Position(committed.first.0 - 1);
                            let own = store.changes(WORKSPACE, before, at_most(1)).unwrap();
                            assert_eq!(
                                own.records[0].bytes[..8],
                                [writer.to_be_bytes(), number.to_be_bytes()].concat()
                            );
                            assert!(committed.head.0 >= committed.first.0 + u64::from(number % 3));
                        }
                    })
                })
                .collect();
            threads.into_iter().for_each(|thread| thread.join().unwrap());
            finished.store(true, Ordering::SeqCst);
            let seen = reader.join().unwrap();
            let expected = u64::from((0..per_writer).map(|number| number % 3 + 1).sum::<u32>() * writers);
            assert_eq!(seen.len() as u64, expected);
            assert!(seen.iter().zip(1..).all(|(record, position)| record.position == Position(position)));
            let mut unique = HashSet::new();
            assert!(seen.iter().all(|record| unique.insert(record.bytes.clone())));
            // The parts of one unit lie together and in order.
            for pair in seen.windows(2) {
                let (left, right) = (&pair[0].bytes, &pair[1].bytes);
                let part = |bytes: &[u8]| u32::from_be_bytes(bytes[8..].try_into().unwrap());
                assert!(part(right) == 0 || (left[..8] == right[..8] && part(right) == part(left) + 1));
            }
        });
    });
}

#[test]
fn an_appended_record_can_also_be_a_row() {
    on_every_store(|store| {
        let row = key(7);
        let workspace = WorkspaceId(4);
        let event = |bytes: &[u8]| Operation::Append { workspace, record: bytes.to_vec(), row: Some(row.clone()) };
        let committed = store.commit(unit([event(b"a"), append(b"b"), event(b"c")])).unwrap();
        assert_eq!((committed.first, committed.head), (Position(1), Position(3)));
        let rows = all(store, &row.range(), 10);
        let expected = [(1u64, b"a"), (3, b"c")];
        let expected = expected.map(|(position, bytes)| (row.followed_by(&position.to_be_bytes()), bytes.to_vec()));
        assert_eq!(rows, expected);
        let own = store.changes(workspace, Position(1), at_most(10)).unwrap();
        let record = LogRecord { position: Position(3), workspace, bytes: b"c".as_slice().into() };
        assert_eq!(own, Changes { records: vec![record], up_to: Position(3) });
        let nothing = store.commit(unit([put(key(8), b"")])).unwrap();
        assert_eq!((nothing.first, nothing.head), (Position(3), Position(3)));
    });
}

#[test]
fn values_of_every_size_come_back() {
    let sizes = [0, 1, 4094, 4095, 4096, 4097, 8192, 12_289, 102_400];
    let bytes = |size: usize, seed: u8| -> Vec<u8> { (0..size).map(|at| (at % 251) as u8 ^ seed).collect() };
    on_every_store(|store| {
        // Each size is written over each other one, so that parts of an old value would show in a new one.
        for (round, shift) in (0..sizes.len()).enumerate() {
            let seed = round as u8;
            let of = |number: usize| bytes(sizes[(number + shift) % sizes.len()], seed);
            let rows = (0..sizes.len()).map(|number| put(key(number as u32), &of(number)));
            store.commit(unit(rows)).unwrap();
            store.settle();
            let expected: Vec<_> = (0..sizes.len()).map(|number| (key(number as u32), of(number))).collect();
            assert_eq!(all(store, &crate::support::keys(), 2), expected);
        }
        store.commit(unit((0..sizes.len()).map(|number| Operation::Delete(key(number as u32))))).unwrap();
        store.settle();
        assert_eq!(all(store, &crate::support::keys(), 2), []);
    });
}

#[test]
fn a_unit_too_large_is_refused() {
    on_every_store(|store| {
        let error = store.commit(unit([put(key(1), &vec![0; 33 << 20])])).unwrap_err();
        assert!(matches!(error, CommitError::TooLarge { limit, .. } if limit == 32 << 20));
        let long = Key::plugin_state(WorkspaceId(1), InstallationId(1), &"k".repeat(5000));
        assert!(matches!(store.commit(unit([put(long, b"")])), Err(CommitError::TooLarge { limit: 4096, .. })));
        store.commit(unit([put(key(1), &vec![7; 3 << 20])])).unwrap();
        store.settle();
        assert_eq!(value(store, &key(1)), Some(vec![7; 3 << 20]));
    });
}

#[test]
fn waiting_ends_with_the_change_or_the_time() {
    on_every_store(|store| {
        assert_eq!(store.wait_for_change(Position(0), Duration::from_millis(1)), Position(0));
        std::thread::scope(|scope| {
            let waiting = scope.spawn(|| store.wait_for_change(Position(0), Duration::from_secs(60)));
            store.commit(unit([append(b"x")])).unwrap();
            assert_eq!(waiting.join().unwrap(), Position(1));
        });
        assert_eq!(store.wait_for_change(Position(0), Duration::from_secs(60)), Position(1));
    });
}

#[test]
fn a_closed_store_refuses_commits_and_still_reads() {
    on_every_store(|store| {
        store.commit(unit([put(key(1), b"x"), append(b"y")])).unwrap();
        store.close();
        assert!(matches!(store.commit(unit([put(key(2), b"")])), Err(CommitError::Closed)));
        assert!(matches!(store.lease("a", "b", Timestamp(0), 1), Err(CommitError::Closed)));
        assert_eq!(value(store, &key(1)), Some(b"x".to_vec()));
        let status = store.status();
        assert_eq!((status.units, status.applied_units, status.overlay_bytes), (1, 1, 0));
        assert_eq!((status.head, status.applied), (Position(1), Position(1)));
    });
}

#[test]
fn a_full_disk_refuses_before_anything_is_written() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        opened.store().commit(unit([put(key(1), b"x"), enqueue(1, 0, b"")])).unwrap();
        let opened = opened.reopen_with(|config| StoreConfig { disk_reserve_bytes: u64::MAX, ..config });
        let store = opened.store();
        let before = store.status();
        assert!(matches!(store.commit(unit([put(key(1), b"y")])), Err(CommitError::DiskFull { .. })));
        assert!(matches!(store.claim(queue(1), Timestamp(9), 1, 1), Err(CommitError::DiskFull { .. })));
        assert_eq!(store.status().journal_bytes, before.journal_bytes);
        assert_eq!(value(store, &key(1)), Some(b"x".to_vec()));
        assert!(store.disk().unwrap().unwrap().is_full());
        store.lease("node", "a", Timestamp(0), 1).unwrap().expect("a start needs it to read");
        assert!(matches!(store.commit(unit([put(key(1), b"y")])), Err(CommitError::DiskFull { .. })));
        let opened = opened.reopen_with(|config| StoreConfig { disk_reserve_bytes: 0, ..config });
        assert!(!opened.store().disk().unwrap().unwrap().is_full());
        opened.store().commit(unit([put(key(1), b"y")])).unwrap();
    }
}

/// A step of the model test.
#[derive(Debug, Clone)]
enum Step {
    Commit(Vec<(u32, Option<Vec<u8>>)>),
    Scan {
        from: u32,
        to: u32,
        limit: usize,
    },
    /// Let the applier catch up, so that rows are read from the engine and not from the overlay.
    Settle,
}

fn steps() -> impl Strategy<Value = Vec<Step>> {
    let bytes = prop_oneof![
        8 => proptest::collection::vec(any::<u8>(), 0..20),
        1 => (4090usize..4100, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]),
        1 => (9_000usize..20_000, any::<u8>()).prop_map(|(size, byte)| vec![byte; size]),
    ];
    let change = (0u32..40, proptest::option::weighted(0.7, bytes));
    let step = prop_oneof![
        6 => proptest::collection::vec(change, 1..8).prop_map(Step::Commit),
        3 => (0u32..40, 0u32..41, 1usize..9).prop_map(|(from, to, limit)| Step::Scan { from, to, limit }),
        1 => Just(Step::Settle),
    ];
    proptest::collection::vec(step, 1..25)
}

fn follow_model(store: &Embedded, steps: &[Step]) -> Result<(), TestCaseError> {
    let mut model: BTreeMap<Key, Vec<u8>> = BTreeMap::new();
    for step in steps {
        match step {
            Step::Commit(changes) => {
                let operations = changes.iter().map(|(number, bytes)| match bytes {
                    Some(bytes) => put(key(*number), bytes),
                    None => Operation::Delete(key(*number)),
                });
                store.commit(unit(operations)).unwrap();
                for (number, bytes) in changes {
                    match bytes {
                        Some(bytes) => drop(model.insert(key(*number), bytes.clone())),
                        None => drop(model.remove(&key(*number))),
                    }
                }
            }
            Step::Scan { from, to, limit } => {
                let range = KeyRange { from: key(*from), to: key(*to) };
                let expected: Vec<_> = model
                    .iter()
                    .filter(|(key, _)| range.from <= **key && **key < range.to)
                    .map(|(key, bytes)| (key.clone(), bytes.clone()))
                    .collect();
                prop_assert_eq!(all(store, &range, *limit), expected);
            }
            Step::Settle => store.settle(),
        }
    }
    let keys: Vec<Key> = (0..40).map(key).collect();
    let values: Vec<_> = store.get(&keys).unwrap().into_iter().map(|value| value.map(|value| value.to_vec())).collect();
    let expected: Vec<_> = keys.iter().map(|key| model.get(key).cloned()).collect();
    prop_assert_eq!(values, expected);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn rows_follow_an_ordered_map(steps in steps()) {
        follow_model(&kith_store::memory(), &steps)?;
        for engine in ENGINES {
            follow_model(Opened::new(engine).store(), &steps)?;
        }
    }
}
