//! What a claimed message comes to before it leaves: it is not wanted any more, it is filled in, or it cannot be read.

use std::sync::Arc;

use kith_model::delivery::DeliveryState;
use kith_model::plugin::*;
use kith_model::table::ColumnType;
use kith_store::{Key, Operation, Store, Unit};
use parking_lot::Mutex;

use super::hook::{Hook, Host, Wire};
use super::watched::Watched;
use super::*;

/// A message that waits because its channel is held, with what happens meanwhile; the reason why it does not leave.
fn reason_after(change: impl FnOnce(&Bench)) -> String {
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let bench = bench_over(Arc::new(kith_store::memory()), Hook::new(&wire), |channel| {
        channel.activity = Activity::Held { since: START, why: "off".into() };
    });
    bench.send(people("h1", 1));
    bench.wait_until("the message is made", || !deliveries(&bench).is_empty());
    assert!(matches!(deliveries(&bench)[0].state, DeliveryState::Pending { .. }), "a held channel's messages wait");
    change(&bench);
    let reason = skipped(&bench);
    assert!(wire.left.lock().is_empty());
    reason
}

#[test]
fn what_must_not_leave_any_more_does_not() {
    let deleted = reason_after(|bench| {
        bench.configure(|setup| {
            setup.audiences.clear();
            switch_on(setup);
        });
    });
    assert!(deleted.contains("audience was deleted"), "{deleted}");
    let removed = reason_after(|bench| {
        bench.configure(remove_channel);
    });
    assert!(removed.contains("channel was removed"), "{removed}");
    let withdrawn = reason_after(|bench| {
        bench.send(vec![identify("m2", &[("user_id", "h1-0")], r#"{"consent":{"Marketing":"no"}}"#, START)]);
        bench.configure(switch_on);
    });
    assert!(withdrawn.contains("counts as a refusal"), "{withdrawn}");
    let out_of_reach = reason_after(|bench| {
        bench.configure(|setup| {
            channel_of(setup).recipients = Some(vec!["email".into()]);
            switch_on(setup);
        });
    });
    assert!(out_of_reach.contains("email"), "{out_of_reach}");
}

/// A claim that found nothing to send was one unit with every payload in it. Past 32 MiB it was refused, and tried again, for good.
#[test]
fn what_must_not_leave_is_written_down_in_pieces() {
    const LARGE: usize = 60_000;
    let store = Watched::new();
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let hook = Hook::new(&wire);
    let bench = Bench::over(store.clone(), everybody(), |setup| {
        let payload = format!(r#"{{"text":"{}"}}"#, "x".repeat(LARGE));
        setup.audiences[0].on_enter.as_mut().unwrap().payload = payload;
        let channel = channel_of(setup);
        channel.role = Role::PureChannel(Arc::new(hook));
        channel.activity = Activity::Held { since: START, why: "off".into() };
    });
    bench.send(people("h1", 120));
    bench.wait_until("the messages are made", || deliveries(&bench).len() == 120);
    store.committed.lock().clear();
    bench.configure(|setup| {
        setup.audiences.clear();
        switch_on(setup);
    });
    let skipped = || deliveries(&bench).iter().filter(|one| matches!(one.state, DeliveryState::Skipped { .. })).count();
    bench.wait_until("all are skipped", || skipped() == 120);
    let committed = store.committed.lock();
    let takes_off = |unit: &&Unit| unit.operations.iter().any(|one| matches!(one, Operation::Acknowledge { .. }));
    let sizes: Vec<usize> = committed.iter().filter(takes_off).map(Unit::size_bytes).collect();
    assert!(sizes.iter().sum::<usize>() > 120 * LARGE);
    assert!(sizes.iter().all(|bytes| *bytes <= (4 << 20) + 2 * LARGE), "{sizes:?}");
    drop(committed);
    assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().pending, 0);
}

#[test]
fn a_message_is_filled_in_from_the_inputs_that_its_channel_declares() {
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let noting = bodies.clone();
    *wire.as_it_leaves.lock() =
        Some(Box::new(move |request| noting.lock().push(String::from_utf8(request.body.clone()).unwrap())));
    let hook = Hook::new(&wire);
    let bench = Bench::over(Arc::new(kith_store::memory()), everybody(), |setup| {
        setup.audiences[0].on_enter.as_mut().unwrap().payload = r#"{"text":"Hello {{ city }}: {{ added }}"}"#.into();
        let input = |name: &str, expression: &str| InputSpec {
            name: name.into(),
            expression: expression.into(),
            column_type: ColumnType::Text,
            reason: "to greet".into(),
        };
        let channel = channel_of(setup);
        channel.role = Role::PureChannel(Arc::new(hook));
        channel.inputs = vec![input("city", "traits.city"), input("added", "events('Product Added').size()")];
    });
    bench.send(vec![
        identify("m1", &[("user_id", "h1-0")], r#"{"city":"Bern"}"#, START),
        event("m2", &[("user_id", "h1-0")], "Product Added", START),
    ]);
    bench.settle();
    assert_eq!(*bodies.lock(), [r#"{"text":"Hello Bern: 1"}"#]);
}

#[test]
fn a_delivery_that_cannot_be_read_is_a_dead_letter_and_the_others_leave() {
    let store: Arc<dyn Store> = Arc::new(kith_store::memory());
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let bench = bench_over(store.clone(), Hook::new(&wire), |channel| {
        channel.activity = Activity::Held { since: START, why: "off".into() };
    });
    bench.send(people("h1", 1));
    bench.wait_until("the message is made", || !deliveries(&bench).is_empty());
    let totals = || {
        let totals = bench.kernel.totals(WORKSPACE).unwrap();
        (totals.pending, totals.dead)
    };
    assert_eq!(totals(), (1, 0));
    let queue = outbox(WORKSPACE, CHANNEL);
    let (key, _) = store.scan(&Key::deliveries(WORKSPACE).range(), 1).unwrap().rows.remove(0);
    store.commit(Unit { operations: vec![Operation::Put(key.clone(), vec![99, 1, 2])], ..Unit::default() }).unwrap();
    bench.configure(switch_on);
    let letters = || bench.kernel.dead_letters(WORKSPACE, 10, None).unwrap().items;
    bench.wait_until("it is a dead letter", || letters().len() == 1);
    assert!(matches!(&letters()[0], DeadLetter::Computation { code, .. } if code == "unreadable-delivery"));
    assert_eq!((store.next_due(queue).unwrap(), totals()), (None, (0, 1)));
    store.commit(Unit { operations: vec![Operation::Delete(key)], ..Unit::default() }).unwrap();
    bench.send(people("h1-next", 1));
    bench.wait_until("the next is delivered", || delivered(&bench) == 1);
}
