//! Many units in one call, on every store: each is judged alone, as of those before it, and they share a sync.

use crate::conformance::{on_every_store, value};
use crate::support::{append, key, put, unit};
use kith_model::id::{InstallationId, Position, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{
    CommitError, Committed, Embedded, Fence, Key, MAX_UNIT_BYTES, Operation, Precondition, QueueId, Store, Unit,
};

/// What a verdict comes to.
#[derive(Debug, PartialEq)]
enum Outcome {
    At(u64),
    Conflict(Vec<Key>),
    TooLarge,
    Fenced,
}

fn outcomes(verdicts: Vec<Result<Committed, CommitError>>) -> Vec<Outcome> {
    let outcome = |verdict| match verdict {
        Ok(Committed { first, .. }) => Outcome::At(first.0),
        Err(CommitError::Conflict(keys)) => Outcome::Conflict(keys),
        Err(CommitError::TooLarge { .. }) => Outcome::TooLarge,
        Err(CommitError::Fenced { .. }) => Outcome::Fenced,
        Err(error) => panic!("{error}"),
    };
    verdicts.into_iter().map(outcome).collect()
}

fn when(preconditions: impl IntoIterator<Item = Precondition>, operations: Vec<Operation>) -> Unit {
    Unit { preconditions: preconditions.into_iter().collect(), ..unit(operations) }
}

fn too_large() -> Unit {
    unit([put(key(99), &vec![0; MAX_UNIT_BYTES])])
}

#[test]
fn a_unit_that_is_refused_refuses_itself_only() {
    on_every_store(|store| {
        store.commit(unit([put(key(1), b"one")])).unwrap();
        let stale = Fence { name: "node".to_owned(), epoch: 7 };
        let verdicts = store.commit_all(vec![
            when([Precondition::Absent(key(1))], vec![put(key(10), b"conflict")]),
            unit([put(key(11), b"a"), append(b"a")]),
            too_large(),
            Unit { fence: Some(stale), ..unit([put(key(12), b"fenced"), append(b"fenced")]) },
            when([Precondition::Absent(key(1))], vec![put(key(13), b"conflict"), append(b"conflict")]),
            unit([put(key(14), b"b"), append(b"b")]),
        ]);
        let conflict = || Outcome::Conflict(vec![key(1)]);
        let expected = [conflict(), Outcome::At(1), Outcome::TooLarge, Outcome::Fenced, conflict(), Outcome::At(2)];
        assert_eq!(outcomes(verdicts), expected);
        let values: Vec<_> = [10, 11, 12, 13, 14, 99].map(|number| value(store, &key(number))).into();
        assert_eq!(values, [None, Some(b"a".to_vec()), None, None, Some(b"b".to_vec()), None]);
        assert_eq!(store.head(), Position(2));
        assert_eq!(outcomes(store.commit_all(Vec::new())), []);
    });
}

#[test]
fn a_unit_sees_those_before_it_in_the_list() {
    on_every_store(|store| {
        store.commit(unit([put(key(1), b"0")])).unwrap();
        let holds = |text: &[u8]| Precondition::Holds(key(1), text.to_vec());
        let list = |store: &Embedded| {
            store.commit_all(vec![
                when([holds(b"0")], vec![put(key(1), b"1")]),
                when([holds(b"0")], vec![put(key(2), b"never")]),
                when([holds(b"1")], vec![Operation::Delete(key(1))]),
                when([holds(b"1")], vec![put(key(2), b"never")]),
                when([Precondition::Absent(key(1))], vec![put(key(1), b"0")]),
            ])
        };
        let conflict = || Outcome::Conflict(vec![key(1)]);
        let expected = || [Outcome::At(0), conflict(), Outcome::At(0), conflict(), Outcome::At(0)];
        assert_eq!(outcomes(list(store)), expected());
        // The same where the rows are in the engine only.
        store.settle();
        assert_eq!(outcomes(list(store)), expected());
        assert_eq!((value(store, &key(1)), value(store, &key(2))), (Some(b"0".to_vec()), None));
        // What does not hold and is in the engine only is seen by the writer as well.
        store.settle();
        let verdicts =
            store.commit_all(vec![unit([put(key(5), b"")]), when([holds(b"9")], vec![put(key(2), b"never")])]);
        assert_eq!(outcomes(verdicts), [Outcome::At(0), conflict()]);
    });
}

#[test]
fn positions_follow_the_list() {
    on_every_store(|store| {
        let records = |count: u8| unit((0..count).map(|number| append(&[number])));
        let verdicts = store.commit_all(vec![records(2), records(0), too_large(), records(3), records(1)]);
        assert_eq!(
            outcomes(verdicts),
            [Outcome::At(1), Outcome::At(2), Outcome::TooLarge, Outcome::At(3), Outcome::At(6)]
        );
        assert_eq!(store.head(), Position(6));
    });
}

#[test]
fn a_list_larger_than_a_group_is_committed_in_order() {
    on_every_store(|store| {
        // 24 MiB in units of 3 MiB, then more units than one group takes.
        let large = (0..8_u8).map(|number| unit([put(key(1), &vec![number; 3 << 20]), append(&[number])]));
        let many = (0..5_000_u32).map(|number| unit([put(key(2), &number.to_be_bytes()), append(b"")]));
        let verdicts = store.commit_all(large.chain(many).collect());
        let expected: Vec<Outcome> = (1..=5_008).map(Outcome::At).collect();
        assert_eq!(outcomes(verdicts), expected);
        assert_eq!(value(store, &key(1)), Some(vec![7; 3 << 20]));
        assert_eq!(value(store, &key(2)), Some(4_999_u32.to_be_bytes().to_vec()));
    });
}

#[test]
fn of_many_lists_that_want_to_be_first_each_row_has_one_winner() {
    on_every_store(|store| {
        let rows = 60;
        let claim =
            |number, who: u8| when([Precondition::Absent(key(number))], vec![put(key(number), &[who]), append(&[who])]);
        let wins: Vec<Vec<bool>> = std::thread::scope(|scope| {
            let attempt = |who| {
                move || {
                    let list = (0..rows).map(|number| claim(number, who)).collect();
                    store.commit_all(list).iter().map(Result::is_ok).collect()
                }
            };
            let threads: Vec<_> = (0..6).map(|who| scope.spawn(attempt(who))).collect();
            threads.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        for number in 0..rows {
            let winners: Vec<u8> = (0..6).filter(|who| wins[usize::from(*who)][number as usize]).collect();
            assert_eq!(winners.len(), 1, "row {number}");
            assert_eq!(value(store, &key(number)), Some(winners));
        }
        assert_eq!(store.head(), Position(u64::from(rows)));
    });
}

#[test]
fn a_unit_is_judged_by_the_size_that_it_says() {
    on_every_store(|store| {
        let of = |bytes: usize| unit([put(key(1), &vec![0; bytes]), append(b"record"), Operation::Delete(key(2))]);
        let room = MAX_UNIT_BYTES - of(0).size_bytes();
        assert_eq!(of(room).size_bytes(), MAX_UNIT_BYTES);
        store.commit(of(room)).unwrap();
        let verdict = store.commit(of(room + 1));
        let Err(CommitError::TooLarge { bytes, limit }) = verdict else { panic!("{verdict:?}") };
        assert_eq!((bytes, limit), (of(room + 1).size_bytes(), MAX_UNIT_BYTES));
        let long = Key::plugin_state(WorkspaceId(1), InstallationId(1), &"k".repeat(5_000));
        assert!(matches!(store.commit(unit([put(long, b"")])), Err(CommitError::TooLarge { .. })));
    });
}

#[test]
fn a_store_that_is_closed_says_so_of_each_unit_that_it_would_take() {
    on_every_store(|store| {
        store.close();
        let verdicts = store.commit_all(vec![unit([put(key(2), b"")]), too_large()]);
        assert!(matches!(verdicts.as_slice(), [Err(CommitError::Closed), Err(CommitError::TooLarge { .. })]));
    });
}

#[test]
fn a_lease_that_changes_hands_within_a_group_fences_the_rest() {
    on_every_store(|store| {
        let lease = |owner: &str, now| store.lease("node", owner, Timestamp(now), 100).unwrap().unwrap();
        let fenced = |fence: &Fence, number| Unit { fence: Some(fence.clone()), ..unit([put(key(number), b"x")]) };
        let first = lease("a", 0);
        assert_eq!(
            outcomes(store.commit_all(vec![fenced(&first, 1), fenced(&first, 2)])),
            [Outcome::At(0), Outcome::At(0)]
        );
        let second = lease("b", 100);
        let verdicts = store.commit_all(vec![fenced(&first, 3), fenced(&second, 4), fenced(&first, 5)]);
        assert_eq!(outcomes(verdicts), [Outcome::Fenced, Outcome::At(0), Outcome::Fenced]);
        // More leases than the writer remembers: the forgotten ones are read again.
        for number in 0..300 {
            store.lease(&format!("other {number}"), "b", Timestamp(0), 1).unwrap();
        }
        assert_eq!(
            outcomes(store.commit_all(vec![fenced(&first, 6), fenced(&second, 7)])),
            [Outcome::Fenced, Outcome::At(0)]
        );
        let present: Vec<bool> = (1..8).map(|number| value(store, &key(number)).is_some()).collect();
        assert_eq!(present, [true, true, false, true, false, false, true]);
    });
}

#[test]
fn jobs_of_a_list_follow_each_other() {
    on_every_store(|store| {
        let queue = QueueId { workspace: WorkspaceId(2), queue: 1 };
        let enqueue = |due_at| Operation::Enqueue { queue, id: [1; 16], due_at: Timestamp(due_at), body: vec![] };
        let acknowledge = Operation::Acknowledge { queue, id: [1; 16] };
        let list = vec![unit([enqueue(5)]), unit([acknowledge]), unit([enqueue(9)]), unit([enqueue(7)])];
        assert!(store.commit_all(list).iter().all(Result::is_ok));
        assert_eq!(store.next_due(queue).unwrap(), Some(Timestamp(7)));
        assert_eq!(store.claim(queue, Timestamp(10), 10, 100).unwrap().len(), 1);
    });
}
