//! Read sets on every store: what was read counts as unchanged only as long as it is, whatever is committed beside it.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::queues::{enqueue, queue};
use crate::support::{ENGINES, WORKSPACE, append, at_most, config, put, unit};
use kith_model::id::{Position, SourceIdentityId, WorkspaceId};
use kith_model::identity::{EdgeId, Evidence, MustNotLink};
use kith_model::time::Timestamp;
use kith_store::keys::PersonRow;
use kith_store::{Key, KeyRange, Operation, ReadSet, Reading, Store};

/// Run `check` on a fresh store of each kind, which a reading can hold.
fn on_every_store(check: impl Fn(&Arc<dyn Store>)) {
    let memory: Arc<dyn Store> = Arc::new(kith_store::memory());
    check(&memory);
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let store: Arc<dyn Store> = Arc::new(kith_store::open(config(&folder.path().join("store"), engine)).unwrap());
        check(&store);
    }
}

fn id(number: u8) -> SourceIdentityId {
    SourceIdentityId([number; 16])
}

/// What is asked for.
#[derive(Debug)]
enum Question {
    Row(Key),
    Rows(KeyRange),
}

impl Question {
    fn ask(&self, store: &dyn Store) {
        match self {
            Question::Row(key) => drop(store.get(std::slice::from_ref(key)).unwrap()),
            Question::Rows(range) => drop(store.scan(range, 10).unwrap()),
        }
    }
}

/// A question about each kind of row of which changes are noted, and what changes its answer.
fn questions(workspace: WorkspaceId, number: u8) -> Vec<(Question, Operation)> {
    let (low, high) = (id(number), id(number + 100));
    let edge = |end| Key::edge(workspace, end, EdgeId { low, high, evidence: Evidence::SameEvent });
    let of_log = |row| Operation::Append { workspace, record: b"record".to_vec(), row: Some(row) };
    let rows = [
        Key::person(workspace, low, PersonRow::Head),
        Key::contribution(workspace, low, 0),
        Key::contribution(workspace, low, 7),
        Key::alias(workspace, &low.0),
        edge(high),
        Key::veto(workspace, MustNotLink { low, high }),
        Key::suppression(workspace, &low.0),
    ];
    let mut questions: Vec<_> = rows.map(|key| (Question::Row(key.clone()), put(key, b"new"))).into();
    for (of_identity, change) in [
        (Key::identity(workspace, low), put(Key::contribution(workspace, low, 3), b"new")),
        (Key::edges(workspace, low), put(edge(low), b"new")),
        (Key::events(workspace, low), of_log(Key::event(workspace, low, Timestamp(5)))),
        (Key::superseded_of(workspace, low), of_log(Key::superseded(workspace, low, Timestamp(5)))),
    ] {
        questions.push((Question::Rows(of_identity.range()), change));
    }
    questions
}

/// What is noted of these questions.
fn noted(store: &Arc<dyn Store>, ask: impl FnOnce(&Reading)) -> ReadSet {
    let reading = Reading::begin(Arc::clone(store));
    ask(&reading);
    reading.end()
}

#[test]
fn what_was_read_has_changed_once_a_unit_that_changes_it_was_answered() {
    on_every_store(|store| {
        for (question, change) in questions(WORKSPACE, 1) {
            let read = noted(store, |reading| question.ask(reading));
            assert!(store.is_unchanged(&read), "{question:?}: nothing happened");
            // Rows of all kinds of somebody else, of the same identity in another workspace, and what queues and leases write.
            let beside = questions(WORKSPACE, 2).into_iter().chain(questions(WorkspaceId(9), 1));
            let beside = beside.map(|(_, change)| change).chain([append(b"record"), enqueue(1, 0, b"body")]);
            store.commit(unit(beside)).unwrap();
            assert_eq!(store.claim(queue(1), Timestamp(0), 10, 0).unwrap().len(), 1);
            store.lease("node", "owner", Timestamp(0), 1_000).unwrap().unwrap();
            assert!(store.is_unchanged(&read), "{question:?}: nothing of it changed");
            store.commit(unit([change.clone()])).unwrap();
            assert!(!store.is_unchanged(&read), "{question:?} after {change:?}");
            let read = noted(store, |reading| question.ask(reading));
            assert!(store.is_unchanged(&read), "{question:?}: it was asked again");
            if let Operation::Put(key, _) = change {
                store.commit(unit([Operation::Delete(key)])).unwrap();
                assert!(!store.is_unchanged(&read), "{question:?}: it is gone");
            }
        }
    });
}

/// The reader may have seen it, or one part of it before and another behind it.
#[test]
fn what_changes_while_it_is_read_has_changed() {
    on_every_store(|store| {
        for (question, change) in questions(WORKSPACE, 1) {
            let before = noted(store, |reading| {
                store.commit(unit([change.clone()])).unwrap();
                question.ask(reading);
            });
            let between = noted(store, |reading| {
                question.ask(reading);
                store.commit(unit([change.clone()])).unwrap();
            });
            assert!(!store.is_unchanged(&before) && !store.is_unchanged(&between), "{question:?}");
        }
    });
}

#[test]
fn of_what_is_not_noted_nobody_can_tell_that_it_is_unchanged() {
    let store: Arc<dyn Store> = Arc::new(kith_store::memory());
    assert!(store.is_unchanged(&noted(&store, |_| ())), "nothing was read");
    assert!(!store.is_unchanged(&ReadSet::default()));
    let row = |key: Key| noted(&store, |reading| drop(reading.get(&[key]).unwrap()));
    assert!(!store.is_unchanged(&row(Key::derived(WORKSPACE, id(1)))), "another space");
    let scan = |range: KeyRange| noted(&store, |reading| drop(reading.scan(&range, 10).unwrap()));
    assert!(!store.is_unchanged(&scan(Key::people(WORKSPACE).range())), "a whole space");
    let two = KeyRange { from: Key::identity(WORKSPACE, id(1)), to: Key::identity(WORKSPACE, id(2)).range().to };
    assert!(!store.is_unchanged(&scan(two)), "more than one identity");
    let keys = |number: u16| -> Vec<Key> {
        let of = |number: u16| SourceIdentityId([number.to_be_bytes(); 8].concat().try_into().unwrap());
        (0..number).map(|number| Key::identity(WORKSPACE, of(number))).collect()
    };
    let many = |number| noted(&store, |reading| drop(reading.get(&keys(number)).unwrap()));
    assert!(store.is_unchanged(&many(1_024)) && many(1_024).size_bytes() <= 4_096);
    assert!(!store.is_unchanged(&many(1_025)), "more keys than are noted");
    let others: [&dyn Fn(&Reading); 8] = [
        &|reading| drop(reading.changes(WORKSPACE, Position(0), at_most(1)).unwrap()),
        &|reading| assert_eq!(reading.head_of(WORKSPACE), Position(0)),
        &|reading| assert_eq!(reading.head(), Position(0)),
        &|reading| assert_eq!(reading.disk().unwrap(), None),
        &|reading| drop(reading.claim(queue(1), Timestamp(0), 1, 0).unwrap()),
        &|reading| drop(reading.claimed(queue(1), 1).unwrap()),
        &|reading| assert_eq!(reading.next_due(queue(1)).unwrap(), None),
        &|reading| assert_eq!(reading.commit(unit([])).unwrap().head, Position(0)),
    ];
    for (number, ask) in others.into_iter().enumerate() {
        assert!(!store.is_unchanged(&noted(&store, |reading| ask(reading))), "question {number}");
    }
}

/// A writer counts up in rows of one person and says so once it is answered; beside it, whoever is told that what he has read is
/// unchanged has read what had been said by then.
#[test]
fn nothing_that_was_answered_is_taken_for_unchanged_whatever_runs_beside_it() {
    const UNITS: u64 = 2_000;
    let store: Arc<dyn Store> = Arc::new(kith_store::memory());
    let rows = [Key::contribution(WORKSPACE, id(1), 0), Key::suppression(WORKSPACE, &id(1).0)];
    let answered = AtomicU64::new(0);
    let number = |row: Option<kith_store::Value>| row.map_or(0, |row| u64::from_be_bytes(row[..].try_into().unwrap()));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            for count in 1..=UNITS {
                let row = rows[usize::from(count % 2 == 0)].clone();
                store.commit(unit([put(row, &count.to_be_bytes())])).unwrap();
                answered.store(count, Ordering::SeqCst);
            }
        });
        let mut unchanged = 0;
        while answered.load(Ordering::SeqCst) < UNITS {
            let mut found = 0;
            let read = noted(&store, |reading| {
                // Two looks, between which units may come.
                let rows = rows.iter().flat_map(|row| reading.get(std::slice::from_ref(row)).unwrap());
                found = rows.map(number).max().unwrap_or_default();
            });
            let said = answered.load(Ordering::SeqCst);
            if store.is_unchanged(&read) {
                unchanged += 1;
                assert!(found >= said, "{found} was read, {said} were answered");
            }
        }
        let read = noted(&store, |reading| drop(reading.get(&rows).unwrap()));
        assert!(store.is_unchanged(&read), "after {unchanged} that were unchanged");
    });
}
