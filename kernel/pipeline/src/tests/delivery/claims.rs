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

/// A person's rows are several. One who was merged away between the look at whom there is to ask and the look at what they
/// said had no members, and an empty person has refused nothing.
#[test]
fn a_refusal_counts_that_a_merge_brings_while_the_gate_looks() {
    let store = Watched::new();
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let bench = Arc::new(bench_over(store.clone(), Hook::new(&wire), |channel| {
        channel.activity = Activity::Held { since: START, why: "off".into() };
    }));
    // The older of the two keeps its name, so that the one who is written to is merged into who has refused.
    let refusal = r#"{"consent":{"marketing":false}}"#;
    bench.send(vec![identify("m1", &[("anonymous_id", "phone")], refusal, START)]);
    bench.clock.advance_ms(1);
    bench.send(people("h1", 1));
    bench.wait_until("the message is made", || !deliveries(&bench).is_empty());
    let of_message = deliveries(&bench)[0].profile.0;
    let rows = [
        Key::person(WORKSPACE, of_message, kith_store::keys::PersonRow::Head),
        crate::profiles::facts::facts_key(WORKSPACE, of_message, 0),
    ];
    let meanwhile = Arc::clone(&bench);
    let merge = move || {
        let both = identify("m2", &[("anonymous_id", "phone"), ("user_id", "h1-0")], "", START);
        // Not on the sender's own thread, which may be one that is not to be blocked.
        std::thread::spawn(move || meanwhile.send(vec![both])).join().unwrap();
    };
    *store.look_interruption.lock() = Some((rows.to_vec(), Box::new(merge)));
    bench.configure(switch_on);
    let reason = skipped(&bench);
    assert!(store.look_interruption.lock().is_none(), "the merge came while the gate looked");
    assert!(reason.contains("consent for `marketing` is refused"), "{reason}");
    assert!(wire.left.lock().is_empty());
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
        let channel = channel_of(setup);
        channel.role = Role::PureChannel(Arc::new(hook));
        channel.inputs = vec![greeting("city", "traits.city"), greeting("added", "events('Product Added').size()")];
    });
    bench.send(vec![
        identify("m1", &[("user_id", "h1-0")], r#"{"city":"Bern"}"#, START),
        event("m2", &[("user_id", "h1-0")], "Product Added", START),
    ]);
    bench.settle();
    assert_eq!(*bodies.lock(), [r#"{"text":"Hello Bern: 1"}"#]);
}

fn greeting(name: &str, expression: &str) -> InputSpec {
    InputSpec {
        name: name.into(),
        expression: expression.into(),
        column_type: ColumnType::Text,
        reason: "to greet".into(),
    }
}

/// A message that waits because its channel is held, its payload over an input, and what its body will be.
fn waiting_for_input(store: Arc<Watched>, wire: &Arc<Wire>) -> (Bench, Arc<Mutex<Vec<String>>>) {
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let noting = bodies.clone();
    *wire.as_it_leaves.lock() =
        Some(Box::new(move |request| noting.lock().push(String::from_utf8(request.body.clone()).unwrap())));
    let hook = Hook::new(wire);
    let bench = Bench::over(store, everybody(), |setup| {
        setup.audiences[0].on_enter.as_mut().unwrap().payload = r#"{"text":"{{ count }}"}"#.into();
        let channel = channel_of(setup);
        channel.role = Role::PureChannel(Arc::new(hook));
        channel.activity = Activity::Held { since: START, why: "off".into() };
    });
    let order = |number: u32| event(&format!("o{number}"), &[("user_id", "h1-0")], "Product Viewed", START);
    bench.send((0..3).map(order).chain(people("h1", 1)).collect());
    bench.wait_until("the message is made", || deliveries(&bench).len() == 1);
    bench.wait_until("all is computed", || bench.kernel.progress(WORKSPACE).backlog == 0);
    (bench, bodies)
}

/// After an upgrade that added an input, messages left with a gap until its history had been read.
#[test]
fn a_message_waits_until_the_history_of_its_inputs_has_been_read() {
    const PROGRESS: u8 = 0x33;
    let store = Watched::new();
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let (bench, bodies) = waiting_for_input(store.clone(), &wire);
    let is_progress = |one: &Operation| matches!(one, Operation::Put(key, _) if key.as_bytes()[0] == PROGRESS);
    *store.refuse.lock() = Some(Box::new(move |unit| unit.operations.iter().any(is_progress)));
    bench.configure(|setup| {
        switch_on(setup);
        channel_of(setup).inputs = vec![greeting("count", "events('Product Viewed').size()")];
    });
    bench.wait_until("the walk does not get on", || store.refused.lock().len() >= 2);
    assert_eq!(wire.left.lock().len(), 0);
    *store.refuse.lock() = None;
    bench.wait_until("it is delivered", || delivered(&bench) == 1);
    assert_eq!(*bodies.lock(), [r#"{"text":"3"}"#]);
}

/// A message that was made while a model had not answered left with a gap where its tag belongs.
#[test]
fn a_message_waits_for_the_tag_that_an_input_reads() {
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let bodies = Arc::new(Mutex::new(Vec::new()));
    let noting = bodies.clone();
    *wire.as_it_leaves.lock() =
        Some(Box::new(move |request| noting.lock().push(String::from_utf8(request.body.clone()).unwrap())));
    let hook = Hook::new(&wire);
    let bench = Bench::over(Arc::new(kith_store::memory()), everybody(), |setup| {
        setup.audiences[0].on_enter.as_mut().unwrap().payload = r#"{"text":"{{ level }}"}"#.into();
        // Of a model that is held before it ever answered nothing is known.
        setup.installations[1].activity = Activity::Held { since: START, why: "off".into() };
        let channel = channel_of(setup);
        channel.role = Role::PureChannel(Arc::new(hook));
        channel.inputs = vec![greeting("level", "tags.level")];
    });
    bench.send(people("h1", 1));
    let waits = |delivery: &DeliveryView| match &delivery.state {
        DeliveryState::Pending { attempts: 0, last_reason: Some(why), .. } => why.contains("`level`"),
        _ => false,
    };
    bench.wait_until("it waits and says so", || deliveries(&bench).first().is_some_and(waits));
    assert_eq!(wire.left.lock().len(), 0);
    bench.configure(|setup| setup.installations[1].activity = Activity::Running);
    bench.wait_until("it is delivered", || {
        // It is looked at again once its time has come.
        bench.clock.advance_ms(2_000);
        delivered(&bench) == 1
    });
    assert_eq!(*bodies.lock(), [r#"{"text":"few"}"#]);
}

/// A fault of the disk that passes once skipped every message that was looked at meanwhile, for good.
#[test]
fn a_message_whose_inputs_cannot_be_read_now_is_put_off() {
    const DERIVED: u8 = 0x30;
    let store = Watched::new();
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let (bench, bodies) = waiting_for_input(store.clone(), &wire);
    bench.configure(|setup| channel_of(setup).inputs = vec![greeting("count", "events('Product Viewed').size()")]);
    bench.wait_until("its history has been read", || bench.kernel.progress(WORKSPACE).backlog == 0);
    *store.unreadable.lock() = Some(Box::new(|key| key.as_bytes()[0] == DERIVED));
    bench.configure(switch_on);
    let next_due = || store.next_due(outbox(WORKSPACE, CHANNEL)).unwrap();
    bench.wait_until("it is put off", || next_due() == Some(START.plus_ms(2_000)));
    assert!(!store.unread.lock().is_empty());
    *store.unreadable.lock() = None;
    let is_delivered = || {
        bench.clock.advance_ms(1_000);
        delivered(&bench) == 1
    };
    bench.wait_until("it is delivered", is_delivered);
    assert_eq!(*bodies.lock(), [r#"{"text":"3"}"#]);
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
    let letters = || bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    bench.wait_until("it is a dead letter", || letters().len() == 1);
    assert!(matches!(&letters()[0], DeadLetter::Computation { code, .. } if code == "unreadable-delivery"));
    assert_eq!((store.next_due(queue).unwrap(), totals()), (None, (0, 1)));
    store.commit(Unit { operations: vec![Operation::Delete(key)], ..Unit::default() }).unwrap();
    bench.send(people("h1-next", 1));
    bench.wait_until("the next is delivered", || delivered(&bench) == 1);
}
