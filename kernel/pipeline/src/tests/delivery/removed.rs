//! What waits for a channel or an audience that is there no more: a crash may come between the commit that removes it and the
//! moment when that takes effect, and no message may wait for good because of that.

use std::sync::Arc;

use kith_model::delivery::DeliveryState;
use kith_store::{EngineKind, Key, Operation, Store, StoreConfig, Unit};

use super::hook::{Hook, Host, Wire};
use super::*;

/// More than are skipped in one commit.
const PEOPLE: usize = 300;

/// A bench with messages that wait because their channel is held.
fn waiting(store: Arc<dyn Store>, wire: &Arc<Wire>, people_waiting: usize) -> Bench {
    let bench = bench_over(store, Hook::new(wire), |channel| {
        channel.activity = Activity::Held { since: START, why: "off".into() };
    });
    bench.send(people("h1", people_waiting));
    bench.wait_until("the messages are made", || deliveries(&bench).len() == people_waiting);
    bench
}

/// The reasons of all deliveries that were skipped.
fn reasons(bench: &Bench) -> Vec<String> {
    let reason = |delivery: DeliveryView| match delivery.state {
        DeliveryState::Skipped { reason, .. } => Some(reason),
        _ => None,
    };
    deliveries(bench).into_iter().filter_map(reason).collect()
}

/// A change that is durable and that this process never heard of, because it died before.
fn change_and_crash(bench: &mut Bench, change: impl FnOnce(&mut Setup)) {
    change(&mut bench.setup.lock());
    bench.restart();
}

/// What a process that died had claimed waited for the end of its lease, and newer messages overtook it.
#[test]
fn what_was_claimed_before_a_crash_leaves_at_once_after_it() {
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let mut bench = waiting(Arc::new(kith_store::memory()), &wire, PEOPLE);
    let queue = outbox(WORKSPACE, CHANNEL);
    let claimed = bench.store.claim(queue, START, 280, 120_000).unwrap();
    assert_eq!(claimed.len(), 280, "more than are given back in one commit");
    change_and_crash(&mut bench, switch_on);
    bench.wait_until("they are delivered", || delivered(&bench) == PEOPLE);
    assert_eq!(bench.store.next_due(queue).unwrap(), None, "each left the outbox once");
}

/// Such an outbox was looked at by nobody after the restart: its messages were pending for ever.
#[test]
fn messages_of_a_channel_that_was_removed_before_a_crash_are_skipped() {
    for engine in [EngineKind::Sled, EngineKind::Redb] {
        let folder = tempfile::tempdir().unwrap();
        let store = kith_store::open(StoreConfig { engine, ..StoreConfig::new(folder.path()) }).unwrap();
        let wire = Wire::new(&[("h1", Host::Answers(200))]);
        let mut bench = waiting(Arc::new(store), &wire, PEOPLE);
        change_and_crash(&mut bench, remove_channel);
        bench.wait_until("all are skipped", || reasons(&bench).len() == PEOPLE);
        assert!(reasons(&bench).iter().all(|reason| reason == "its channel was removed"));
        assert_eq!(bench.store.next_due(outbox(WORKSPACE, CHANNEL)).unwrap(), None, "the outbox is empty");
        bench.restart();
        assert_eq!(reasons(&bench).len(), PEOPLE, "that is durable");
        assert!(wire.left.lock().is_empty());
    }
}

#[test]
fn messages_of_an_audience_that_was_deleted_before_a_crash_are_skipped() {
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let mut bench = waiting(Arc::new(kith_store::memory()), &wire, 3);
    change_and_crash(&mut bench, |setup| {
        setup.audiences.clear();
        switch_on(setup);
    });
    bench.wait_until("all are skipped", || reasons(&bench).len() == 3);
    assert!(reasons(&bench).iter().all(|reason| reason.contains("audience was deleted")));
    assert!(wire.left.lock().is_empty());
}

/// A pass of the reactor that had begun before the removal commits its messages after the outbox was emptied.
#[test]
fn a_message_that_comes_after_the_removal_is_skipped_with_the_next_change() {
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let bench = waiting(Arc::new(kith_store::memory()), &wire, 1);
    let page = bench.store.scan(&Key::deliveries(WORKSPACE).range(), 1).unwrap();
    let (key, pending) = page.rows[0].clone();
    bench.configure(remove_channel);
    bench.wait_until("it is skipped", || reasons(&bench).len() == 1);
    let senders = || bench.kernel.shared.deliveries.has_sender(outbox(WORKSPACE, CHANNEL));
    bench.wait_until("the removal is in force", || !senders());
    let id: [u8; 16] = key.strip(&Key::deliveries(WORKSPACE)).unwrap().try_into().unwrap();
    let queue = outbox(WORKSPACE, CHANNEL);
    let operations = vec![
        Operation::Put(key, pending.to_vec()),
        Operation::Enqueue { queue, id, due_at: START.plus_ms(3_600_000), body: vec![] },
    ];
    bench.store.commit(Unit { operations, ..Unit::default() }).unwrap();
    assert_eq!(reasons(&bench).len(), 0);
    bench.configure(|_| {});
    bench.wait_until("it is skipped again", || reasons(&bench).len() == 1);
    assert!(wire.left.lock().is_empty());
}

#[test]
fn a_dead_letter_of_a_removed_channel_that_is_replayed_says_so() {
    let wire = Wire::new(&[("h1", Host::Answers(410))]);
    let bench = bench(Hook::new(&wire));
    bench.send(people("h1", 1));
    let is_dead = || matches!(deliveries(&bench)[..], [DeliveryView { state: DeliveryState::Dead { .. }, .. }]);
    bench.wait_until("it is given up", is_dead);
    bench.configure(remove_channel);
    let id = deliveries(&bench)[0].id.clone();
    let senders = || bench.kernel.shared.deliveries.has_sender(outbox(WORKSPACE, CHANNEL));
    bench.wait_until("the removal is in force", || !senders());
    assert_eq!(bench.kernel.replay(WORKSPACE, &id).unwrap(), crate::Replay::Begun);
    assert_eq!(skipped(&bench), "its channel was removed");
    assert_eq!(wire.left.lock().len(), 1);
}
