//! The look at a message right before it leaves: what the gate decided by when the message was claimed is read again where it has
//! changed, and only there.

use std::collections::BTreeSet;
use std::sync::atomic::AtomicUsize;

use kith_model::change::{Change, SupersededEvent};
use kith_model::id::Position;
use kith_model::identity::Identifier;
use kith_store::keys::PersonRow;

use super::hook::{Hook, Host, Wire};
use super::watched::Asked;
use super::*;
use crate::SuppressionChange;
use crate::deliver::gate::grounds;

/// A message to `h1-1` that has passed the gate and waits in line for its host, which is busy with one to `h1-0`.
struct Waiting {
    store: Arc<Watched>,
    wire: Arc<Wire>,
    bench: Bench,
}

impl Waiting {
    /// After these events have come.
    fn after(events: Vec<DraftEvent>) -> Waiting {
        let store = Watched::new();
        let wire = Wire::new(&[("h1", Host::Holds(Box::new(Host::Answers(200))))]);
        let bench = bench_over(store.clone(), Hook::new(&wire), |_| {});
        limit(&bench, 8, 1);
        for event in events {
            bench.send(vec![event]);
            // Who came first gives its name to whom it is merged with.
            bench.clock.advance_ms(1);
        }
        let mut both = people("h1", 2);
        let waits = both.split_off(1);
        bench.send(both);
        bench.wait_until("the host is busy", || wire.left.lock().len() == 1);
        bench.send(waits);
        bench.wait_until("the other waits in line", || wire.lined_up.load(Ordering::SeqCst) == 2);
        bench.compute();
        Waiting { store, wire, bench }
    }

    /// The message that waits.
    fn message(&self) -> DeliveryView {
        let left = self.wire.left.lock()[0].1.clone();
        deliveries(&self.bench).into_iter().find(|delivery| delivery.id != left).unwrap()
    }

    /// The first row that is read of its person.
    fn head(&self) -> Key {
        Key::person(WORKSPACE, self.message().profile.0, PersonRow::Head)
    }

    /// Write that row again as it is.
    fn touch(&self) {
        let value = self.store.inner.get(&[self.head()]).unwrap().remove(0).unwrap();
        let operations = vec![Operation::Put(self.head(), value.to_vec())];
        self.store.inner.commit(Unit { operations, ..Unit::default() }).unwrap();
    }

    /// Let the host go on; what becomes of the message.
    fn let_go(&self) -> DeliveryState {
        self.wire.let_go();
        let is_settled = || {
            self.bench.clock.advance_ms(1_000);
            !matches!(self.message().state, DeliveryState::Pending { .. })
        };
        self.bench.wait_until("the message is settled", is_settled);
        self.message().state
    }
}

fn suppress(bench: &Bench, user: &str) {
    let add = SuppressionChange::Add { reason: "asked for", at: START };
    let operations = bench.kernel.suppression_steps(WORKSPACE, &[Identifier::new("user_id", user)], add).unwrap();
    bench.store.commit(Unit { operations, ..Unit::default() }).unwrap();
}

const REFUSAL: &str = r#"{"consent":{"marketing":"no"}}"#;

/// Each way in which a message is forbidden that has passed the gate already: what has to be there for it, what happens, and
/// what is told.
#[test]
fn what_was_taken_back_while_a_message_waited_holds_as_soon_as_it_is_answered() {
    type Way = (&'static str, Vec<DraftEvent>, fn(&Bench), &'static str);
    let says = |id: &str, identifiers: &[(&str, &str)], traits: &str| identify(id, identifiers, traits, START);
    let mailbox = || says("b1", &[("user_id", "h1-1"), ("email", "h1-1@x.io")], "");
    let ways: [Way; 7] = [
        (
            "its person refuses",
            vec![],
            |bench| {
                bench.send(vec![identify("r1", &[("user_id", "h1-1")], REFUSAL, START)]);
            },
            "refus",
        ),
        ("its person is suppressed", vec![], |bench| suppress(bench, "h1-1"), "suppressed"),
        (
            "its person becomes one with who has refused",
            vec![says("b1", &[("anonymous_id", "phone")], REFUSAL)],
            |bench| {
                bench.send(vec![identify("r1", &[("anonymous_id", "phone"), ("user_id", "h1-1")], "", START)]);
            },
            "refus",
        ),
        (
            "another user of its mailbox refuses",
            vec![mailbox(), says("b2", &[("user_id", "u2"), ("email", "h1-1@x.io")], "")],
            |bench| {
                bench.send(vec![identify("r1", &[("user_id", "u2")], REFUSAL, START)]);
            },
            "refus",
        ),
        (
            "who comes with its mailbox refuses",
            vec![mailbox()],
            |bench| {
                bench.send(vec![identify("r1", &[("user_id", "u2"), ("email", "h1-1@x.io")], REFUSAL, START)]);
            },
            "refus",
        ),
        (
            "its audience is deleted",
            vec![],
            |bench| bench.configure(|setup| setup.audiences.clear()),
            "audience was deleted",
        ),
        (
            "its channel is given other identifiers",
            vec![],
            |bench| {
                bench.configure(|setup| channel_of(setup).recipients = Some(vec!["email".into()]));
            },
            "email",
        ),
    ];
    for (way, before, change, told) in ways {
        let waiting = Waiting::after(before);
        change(&waiting.bench);
        let state = waiting.let_go();
        assert!(matches!(&state, DeliveryState::Skipped { reason, .. } if reason.contains(told)), "{way}: {state:?}");
        assert_eq!(waiting.wire.requests_to("h1"), 1, "{way}: the message left");
    }
}

/// Every message cost a reading of its person, on a thread that may block.
#[test]
fn a_message_leaves_without_another_reading_where_nothing_of_its_person_changed() {
    let waiting = Waiting::after(vec![]);
    let (store, bench) = (&waiting.store, &waiting.bench);
    let head = waiting.head();
    *store.unreadable.lock() = Some(Box::new(move |key| *key == head));
    // Others come, change and refuse.
    bench.send(vec![identify("o1", &[("user_id", "o1"), ("email", "o@x.io")], r#"{"city":"Bern"}"#, START)]);
    bench.send(vec![identify("o2", &[("user_id", "h1-0")], REFUSAL, START)]);
    suppress(bench, "o2");
    let asked = Arc::new(AtomicUsize::new(usize::MAX));
    let (noting, reading) = (Arc::clone(&asked), Arc::clone(store));
    *waiting.wire.as_it_leaves.lock() =
        Some(Box::new(move |_| noting.store(reading.unread.lock().len(), Ordering::SeqCst)));
    waiting.wire.let_go();
    bench.wait_until("it leaves", || waiting.wire.requests_to("h1") == 2);
    assert_eq!(asked.load(Ordering::SeqCst), 0, "its person was asked for");
    *store.unreadable.lock() = None;
    bench.wait_until("both are delivered", || delivered(bench) == 2);
}

/// Of a channel whose messages may not leave twice each attempt is written down first, and the look came before that.
#[test]
fn what_is_taken_back_while_an_attempt_is_written_down_holds() {
    let store = Watched::new();
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let idempotence = Idempotence::NotIdempotent;
    let bench = bench_over(store.clone(), Hook::new(&wire), |channel| channel.idempotence = idempotence);
    let add = SuppressionChange::Add { reason: "asked for", at: START };
    let user = [Identifier::new("user_id", "h1-0")];
    let mut operations = bench.kernel.suppression_steps(WORKSPACE, &user, add).unwrap();
    let begins = |operation: &Operation| match operation {
        Operation::Put(_, row) => {
            row::decode::<DeliveryRow>(row).is_ok_and(|row| matches!(row.state, DeliveryState::Sending { .. }))
        }
        _ => false,
    };
    let inner = Arc::clone(&store.inner);
    *store.refuse.lock() = Some(Box::new(move |unit| {
        if unit.operations.iter().any(begins) && !operations.is_empty() {
            inner.commit(Unit { operations: std::mem::take(&mut operations), ..Unit::default() }).unwrap();
        }
        false
    }));
    bench.send(people("h1", 1));
    let is_skipped = || {
        bench.clock.advance_ms(1_000);
        deliveries(&bench).iter().any(|one| matches!(one.state, DeliveryState::Skipped { .. }))
    };
    bench.wait_until("it is skipped", is_skipped);
    let [one] = &deliveries(&bench)[..] else { panic!("one message") };
    assert!(matches!(&one.state, DeliveryState::Skipped { reason, .. } if reason.contains("suppressed")), "{one:?}");
    assert_eq!(wire.requests_to("h1"), 0, "it left");
}

#[test]
fn a_message_whose_person_changed_leaves_where_that_forbids_nothing() {
    let waiting = Waiting::after(vec![]);
    waiting.bench.send(vec![identify("m1", &[("user_id", "h1-1")], r#"{"city":"Bern"}"#, START)]);
    let state = waiting.let_go();
    assert!(matches!(state, DeliveryState::Delivered { attempts: 1, .. }), "{state:?}");
    assert_eq!(waiting.wire.requests_to("h1"), 2);
}

#[test]
fn a_message_whose_person_changed_and_cannot_be_read_again_waits() {
    let waiting = Waiting::after(vec![]);
    let (store, bench) = (&waiting.store, &waiting.bench);
    let head = waiting.head();
    *store.unreadable.lock() = Some(Box::new(move |key| *key == head));
    waiting.touch();
    waiting.wire.let_go();
    bench.wait_until("it was looked at", || !store.unread.lock().is_empty());
    bench.wait_until("the one before it is delivered", || delivered(bench) == 1);
    assert_eq!(waiting.wire.requests_to("h1"), 1);
    *store.unreadable.lock() = None;
    let arrives = || {
        bench.clock.advance_ms(10_000);
        delivered(bench) == 2
    };
    bench.wait_until("it is read again", arrives);
    assert_eq!(waiting.wire.requests_to("h1"), 2);
}

/// Whatever the gate reads of somebody: with a corrected address, and another user of the mailbox.
#[test]
fn every_row_that_the_gate_reads_is_one_by_whose_change_a_message_is_read_again() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |setup| setup.installations[0].corrects = true);
    let row = |address: &str| vec![identify("r1", &[("user_id", "u1"), ("email", address)], "", START)];
    bench.try_import(row("old@x.io")).unwrap();
    assert_eq!(bench.try_import(row("new@x.io")).unwrap().acceptance.corrected, 1);
    bench.send(vec![identify("m1", &[("user_id", "u2"), ("email", "new@x.io")], "", START)]);
    let profile = bench.profile("user_id", "u1").unwrap().id;
    let setup = Arc::clone(&bench.kernel.shared.workspace(WORKSPACE).unwrap().compiled.load().setup);
    let shared: Arc<dyn Store> = store.clone();
    let of_person = || grounds::of_person(&shared, WORKSPACE, &setup, profile);
    let hold = |grounds: &grounds::Grounds| grounds.hold(&*shared, &setup);
    *store.asked.lock() = Some(Vec::new());
    let first = of_person();
    let asked = store.asked.lock().take().unwrap();
    assert!(hold(&first));
    assert!(!first.hold(&*shared, &Arc::new(setup.as_ref().clone())), "another setup, though it says the same");
    // A key, what to write there, and whether there was nothing.
    let change_of = |asked: &Asked| match asked {
        Asked::Rows(range) => (range.from.followed_by(&[1; 9]), vec![9], true),
        Asked::Row(key) => match store.inner.get(std::slice::from_ref(key)).unwrap().remove(0) {
            Some(value) => (key.clone(), value.to_vec(), false),
            None => (key.clone(), vec![9], true),
        },
    };
    let commit = |operation| store.inner.commit(Unit { operations: vec![operation], ..Unit::default() }).unwrap();
    let mut spaces = BTreeSet::new();
    for asked in asked {
        let (key, value, is_new) = change_of(&asked);
        spaces.insert(key.as_bytes()[0]);
        let before = of_person();
        assert!(hold(&before), "{asked:?}");
        commit(Operation::Put(key.clone(), value));
        assert!(!hold(&before), "{asked:?} changed");
        if is_new {
            commit(Operation::Delete(key));
        }
    }
    // People, events, superseded ones, aliases, evidence, vetoes, the list of who is suppressed.
    assert_eq!(spaces, [0x10, 0x11, 0x12, 0x20, 0x21, 0x23, 0x53].into(), "a kind of row that nothing here tries");
    // Of whom an event was taken back it counts how far the reactor has come. That is read again each time.
    let events = bench.kernel.profile_events(WORKSPACE, profile, PageRequest::first(1)).unwrap().unwrap().events;
    let event = events.into_iter().next().unwrap().event;
    let place = Key::superseded(WORKSPACE, event.identity, event.time);
    let record = row::encode(&Change::TakenBack(SupersededEvent { position: Position(1), event }));
    commit(Operation::Append { workspace: WORKSPACE, record, row: Some(place) });
    assert!(!hold(&of_person()));
}
