//! Queues and leases on every store: who has a job, for how long, and who may still commit.

use std::collections::HashSet;

use crate::conformance::{all, on_every_store};
use crate::support::{key, put, unit};
use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use kith_store::{CommitError, Embedded, Fence, Operation, QueueId, Store, Unit};

pub(crate) fn queue(number: u32) -> QueueId {
    QueueId { workspace: WorkspaceId(2), queue: number }
}

pub(crate) fn enqueue(id: u8, due_at: i64, body: &[u8]) -> Operation {
    Operation::Enqueue { queue: queue(1), id: [id; 16], due_at: Timestamp(due_at), body: body.to_vec() }
}

fn claim(store: &Embedded, now: i64, limit: usize) -> Vec<u8> {
    let jobs = store.claim(queue(1), Timestamp(now), limit, 100).unwrap();
    jobs.iter().map(|job| job.id[0]).collect()
}

#[test]
fn a_job_is_claimed_hidden_and_given_again() {
    on_every_store(|store| {
        assert_eq!(store.next_due(queue(1)).unwrap(), None);
        store.commit(unit([enqueue(1, 30, b"a"), enqueue(2, -10, b"b"), enqueue(3, 20, b"c")])).unwrap();
        assert_eq!(store.next_due(queue(1)).unwrap(), Some(Timestamp(-10)));
        assert_eq!(store.next_due(queue(2)).unwrap(), None);
        assert_eq!(claim(store, -11, 10), [0; 0]);
        assert_eq!(claim(store, 25, 0), [0; 0]);
        let jobs = store.claim(queue(1), Timestamp(25), 1, 100).unwrap();
        assert_eq!((jobs[0].id, jobs[0].due_at, &*jobs[0].body), ([2; 16], Timestamp(-10), b"b".as_slice()));
        assert_eq!(claim(store, 25, 10), [3]);
        store.settle();
        assert_eq!(claim(store, 40, 10), [1]);
        assert_eq!(claim(store, 124, 10), [0; 0]);
        assert_eq!(store.next_due(queue(1)).unwrap(), Some(Timestamp(125)));
        // Job 2 was acknowledged in time; 3 was not, and comes again with the time that it was put in for.
        store.commit(unit([Operation::Acknowledge { queue: queue(1), id: [2; 16] }])).unwrap();
        let again = store.claim(queue(1), Timestamp(130), 10, 100).unwrap();
        assert_eq!(again.len(), 1);
        assert_eq!((again[0].id, again[0].due_at, &*again[0].body), ([3; 16], Timestamp(20), b"c".as_slice()));
        let rest = [1, 3, 3, 9].map(|id| Operation::Acknowledge { queue: queue(1), id: [id; 16] });
        store.commit(unit(rest)).unwrap();
        assert_eq!(store.next_due(queue(1)).unwrap(), None);
        assert_eq!(all(store, &crate::support::keys(), 10), [], "jobs do not show among rows");
    });
}

/// What was claimed was found by its time, which a clock that is set back moves out of sight.
#[test]
fn what_is_claimed_is_told_from_what_is_due_later_whatever_the_time() {
    on_every_store(|store| {
        store.commit(unit([enqueue(1, 10, b"a"), enqueue(2, 20, b"b"), enqueue(3, 90, b"c")])).unwrap();
        assert_eq!(claim(store, 30, 10), [1, 2]);
        let claimed = |limit| -> Vec<(u8, i64)> {
            let jobs = store.claimed(queue(1), limit).unwrap();
            jobs.iter().map(|job| (job.id[0], job.due_at.0)).collect()
        };
        assert_eq!(claimed(10), [(1, 10), (2, 20)], "with the time that each was put in for");
        assert_eq!((claimed(1), claimed(0)), (vec![(1, 10)], vec![]));
        store.settle();
        // Put in again for its time, one is no longer claimed and can be had at once.
        store.commit(unit([enqueue(1, 10, b"a")])).unwrap();
        assert_eq!(claimed(10), [(2, 20)]);
        assert_eq!(claim(store, 40, 10), [1]);
        assert!(store.claimed(queue(2), 10).unwrap().is_empty());
        store.settle();
        assert_eq!(claimed(10), [(1, 10), (2, 20)]);
        // A lease that is over changes nothing before somebody claims the job again.
        assert_eq!(claim(store, 500, 10), [3, 2, 1]);
        store.commit(unit([1, 2].map(|id| Operation::Acknowledge { queue: queue(1), id: [id; 16] }))).unwrap();
        assert_eq!(claimed(10), [(3, 90)]);
    });
}

#[test]
fn a_job_of_the_same_name_moves() {
    on_every_store(|store| {
        store.commit(unit([enqueue(1, 10, b"old"), enqueue(1, 50, b"newer")])).unwrap();
        assert_eq!(claim(store, 40, 10), [0; 0]);
        store.commit(unit([enqueue(1, 20, b"newest")])).unwrap();
        let jobs = store.claim(queue(1), Timestamp(40), 10, 100).unwrap();
        assert_eq!((jobs.len(), &*jobs[0].body), (1, b"newest".as_slice()));
        // Put in again while it is claimed: it is due at its new time, and once.
        store.commit(unit([enqueue(1, 41, b"again")])).unwrap();
        assert_eq!(claim(store, 41, 10), [1]);
        assert_eq!(claim(store, 141, 10), [1]);
        let in_and_out = [enqueue(5, 1, b""), Operation::Acknowledge { queue: queue(1), id: [5; 16] }];
        store.commit(unit(in_and_out)).unwrap();
        assert_eq!(claim(store, 200, 10), [0; 0]);
    });
}

#[test]
fn no_job_is_claimed_twice_at_once() {
    on_every_store(|store| {
        let jobs = 200u32;
        let id = |number: u32| -> [u8; 16] { u128::from(number).to_be_bytes() };
        let enqueue = |number| Operation::Enqueue {
            queue: queue(1),
            id: id(number),
            due_at: Timestamp(0),
            body: number.to_be_bytes().to_vec(),
        };
        store.commit(unit((0..jobs).map(enqueue))).unwrap();
        let claimed: Vec<[u8; 16]> = std::thread::scope(|scope| {
            let work = || {
                let mut own = Vec::new();
                loop {
                    let jobs = store.claim(queue(1), Timestamp(1), 7, 1_000).unwrap();
                    if jobs.is_empty() {
                        return own;
                    }
                    own.extend(jobs.iter().map(|job| job.id));
                }
            };
            let threads: Vec<_> = (0..4).map(|_| scope.spawn(work)).collect();
            threads.into_iter().flat_map(|thread| thread.join().unwrap()).collect()
        });
        assert_eq!(claimed.len(), jobs as usize);
        assert_eq!(claimed.iter().collect::<HashSet<_>>().len(), jobs as usize);
    });
}

#[test]
fn a_lease_has_one_holder_and_fences_the_others() {
    on_every_store(|store| {
        let lease = |owner: &str, now| store.lease("react", owner, Timestamp(now), 100).unwrap();
        let fence = |epoch| Fence { name: "react".to_owned(), epoch };
        let commit = |epoch| store.commit(Unit { fence: Some(fence(epoch)), ..unit([put(key(1), b"x")]) });
        assert!(matches!(commit(1), Err(CommitError::Fenced { .. })));
        assert_eq!(lease("a", 0), Some(fence(1)));
        assert_eq!(lease("b", 99), None);
        assert_eq!(lease("a", 50), Some(fence(1)), "renewing keeps the epoch");
        assert_eq!(lease("b", 149), None, "renewing moves the end");
        commit(1).unwrap();
        store.settle();
        assert_eq!(lease("b", 150), Some(fence(2)));
        assert!(matches!(commit(1), Err(CommitError::Fenced { epoch: 1, .. })));
        commit(2).unwrap();
        assert_eq!(lease("a", 250), Some(fence(3)));
        assert_eq!(store.lease("other", "b", Timestamp(0), 1).unwrap().map(|fence| fence.epoch), Some(1));
    });
}
