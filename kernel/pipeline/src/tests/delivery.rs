//! Messages out: many at once, nobody waits for another, nothing leaves that must not, and nothing leaves twice.

mod claims;
mod hook;
mod listing;
mod removed;
mod second_look;
mod taken_out;
pub(super) mod watched;

use std::sync::Arc;
use std::sync::atomic::Ordering;

use kith_model::audience::{Audience, ConsentBasis};
use kith_model::delivery::{DeliveryState, Message, Outcome};
use kith_model::event::DraftEvent;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::*;
use kith_model::sending::{SendFailure, SendingLimits};
use kith_store::{Key, Operation, Store, Unit, row};
use parking_lot::{Condvar, Mutex};

use super::harness::*;
use crate::rows::DeliveryRow;
use crate::rows::outbox::outbox;
use crate::{Activity, DeadLetter, DeliveryView, HostState, Idempotence, Installed, IntakeError, Role, Setup};
use hook::{Hook, Host, Wire};
use watched::Watched;

const CHANNEL: InstallationId = InstallationId(3);

fn everybody() -> Vec<Audience> {
    vec![audience(1, "events('Product Added').size() >= 1", Some(ConsentBasis::NotRefused))]
}

fn channel_of(setup: &mut Setup) -> &mut Installed {
    setup.installations.iter_mut().find(|installed| installed.id == CHANNEL).unwrap()
}

/// A bench whose channel is `hook`.
fn bench(hook: Hook) -> Bench {
    bench_over(Arc::new(kith_store::memory()), hook, |_| {})
}

fn bench_over(store: Arc<dyn Store>, hook: Hook, change: impl FnOnce(&mut Installed)) -> Bench {
    Bench::over(store, everybody(), |setup| {
        let channel = channel_of(setup);
        channel.role = Role::PureChannel(Arc::new(hook));
        change(channel);
    })
}

fn switch_on(setup: &mut Setup) {
    channel_of(setup).activity = Activity::Running;
}

fn remove_channel(setup: &mut Setup) {
    setup.installations.retain(|installed| installed.id != CHANNEL);
    setup.removed_channels.insert(CHANNEL);
}

/// Change how much the channel sends at once.
fn limit(bench: &Bench, messages_at_once: usize, requests_per_host: usize) {
    bench.configure(|setup| channel_of(setup).sending = SendingLimits { messages_at_once, requests_per_host });
}

/// An event for each of `count` people of a host, whose message goes to that host.
fn people(host: &str, count: usize) -> Vec<DraftEvent> {
    (0..count)
        .map(|number| {
            let id = format!("{host}-{number}");
            event(&format!("m-{id}"), &[("user_id", &id)], "Product Added", START)
        })
        .collect()
}

fn deliveries(bench: &Bench) -> Vec<DeliveryView> {
    let (mut all, mut cursor) = (Vec::new(), None::<String>);
    loop {
        let page = PageRequest { limit: 10_000, cursor: cursor.as_deref() };
        let page = bench.kernel.deliveries(WORKSPACE, &crate::DeliveryFilter::default(), page).unwrap();
        all.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            return all;
        }
    }
}

fn delivered(bench: &Bench) -> usize {
    deliveries(bench).iter().filter(|delivery| matches!(delivery.state, DeliveryState::Delivered { .. })).count()
}

/// The reason of the only delivery, which was skipped.
fn skipped(bench: &Bench) -> String {
    let is_settled = || !matches!(deliveries(bench)[0].state, DeliveryState::Pending { .. });
    bench.wait_until("the message is settled", is_settled);
    match &deliveries(bench)[..] {
        [DeliveryView { state: DeliveryState::Skipped { reason, .. }, .. }] => reason.clone(),
        other => panic!("{other:?}"),
    }
}

fn receipts(bench: &Bench, user: &str) -> Vec<String> {
    let profile = bench.profile("user_id", user).unwrap();
    let events = bench.kernel.profile_events(WORKSPACE, profile.id, PageRequest::first(50)).unwrap().unwrap().events;
    let names = events.into_iter().map(|recorded| recorded.event.name);
    names.filter(|name| name.starts_with("Message")).collect()
}

#[test]
fn three_hundred_messages_are_under_way_as_many_at_once_as_the_channel_may() {
    let together = Host::AnswersTogether(256);
    let wire = Wire::new(&[("h1", together.clone()), ("h2", together.clone()), ("h3", together)]);
    let bench = bench(Hook::new(&wire));
    bench.send(["h1", "h2", "h3"].iter().flat_map(|host| people(host, 100)).collect());
    bench.wait_until("all are delivered", || delivered(&bench) == 300);
    assert_eq!(wire.most.load(Ordering::SeqCst), 256, "never more than the channel's limit");
    assert_eq!(wire.left.lock().len(), 300, "each left once");
    assert_eq!(receipts(&bench, "h2-7"), ["Message Delivered"]);
}

#[test]
fn one_host_takes_as_many_at_once_as_its_limit_and_no_more() {
    let wire = Wire::new(&[("h1", Host::AnswersTogether(128))]);
    let bench = bench(Hook::new(&wire));
    bench.send(people("h1", 300));
    bench.wait_until("all are delivered", || delivered(&bench) == 300);
    assert_eq!(wire.most.load(Ordering::SeqCst), 128);
    assert!(
        deliveries(&bench)
            .iter()
            .all(|delivery| matches!(delivery.state, DeliveryState::Delivered { attempts: 1, .. }))
    );
}

#[test]
fn a_changed_limit_holds_at_once() {
    let wire = Wire::new(&[("h1", Host::Holds(Box::new(Host::Answers(200))))]);
    let bench = bench(Hook::new(&wire));
    limit(&bench, 2, 128);
    bench.send(people("h1", 20));
    bench.wait_until("two are under way", || wire.left.lock().len() == 2);
    limit(&bench, 20, 5);
    bench.wait_until("five are under way", || wire.left.lock().len() == 5);
    limit(&bench, 20, 3);
    wire.let_go();
    let all = || {
        bench.clock.advance_ms(1_000);
        delivered(&bench) == 20
    };
    bench.wait_until("all are delivered", all);
    assert_eq!(wire.most.load(Ordering::SeqCst), 5, "never more than the highest limit");
}

#[test]
fn a_raised_limit_lets_those_go_who_wait_for_their_host() {
    let wire = Wire::new(&[("h1", Host::Holds(Box::new(Host::Answers(200))))]);
    let bench = bench(Hook::new(&wire));
    limit(&bench, 20, 2);
    bench.send(people("h1", 6));
    bench.wait_until("two are under way", || wire.left.lock().len() == 2);
    limit(&bench, 20, 6);
    bench.wait_until("all are under way", || wire.left.lock().len() == 6);
    wire.let_go();
    bench.wait_until("all are delivered", || delivered(&bench) == 6);
}

/// Messages that wait for a busy host do not count as under way; when their hosts were free again, they once left beside those
/// that had been claimed in their place.
#[test]
fn messages_that_waited_for_busy_hosts_do_not_lift_the_limit() {
    let wire = Wire::new(&[]);
    (0..6).for_each(|number| wire.set(&format!("h{number}"), Host::Answers(200)));
    let bench = bench(Hook::new(&wire));
    limit(&bench, 3, 1);
    bench.send((0..6).flat_map(|number| people(&format!("h{number}"), 20)).collect());
    let all = || {
        bench.clock.advance_ms(1_000);
        delivered(&bench) == 120
    };
    bench.wait_until("all are delivered", all);
    assert!(wire.most.load(Ordering::SeqCst) <= 3);
    assert_eq!(wire.left.lock().len(), 120, "each left once");
}

/// One of ten receivers never answers. Its messages fill its own line, and all others arrive while it hangs.
#[test]
fn nobody_waits_for_a_host_that_hangs() {
    let timeout = Host::Fails(SendFailure::Timeout("no answer".into()));
    let wire = Wire::new(&[("h0", Host::Holds(Box::new(timeout)))]);
    (1..10).for_each(|number| wire.set(&format!("h{number}"), Host::Answers(200)));
    let bench = bench(Hook::new(&wire));
    limit(&bench, 8, 4);
    let mut events = people("h0", 60);
    events.extend((1..10).flat_map(|number| people(&format!("h{number}"), 5)));
    bench.send(events);
    bench.wait_until("all others are delivered", || delivered(&bench) == 45);
    assert_eq!(wire.requests_to("h0"), 4, "its limit is under way and no more");
    assert_eq!(bench.kernel.receiving_hosts(WORKSPACE).iter().find(|host| host.host == "h0").unwrap().under_way, 4);
    // A silent receiver is not the plugin's fault, and does not stop the others' next messages.
    bench.send(vec![event("m-late", &[("user_id", "h1-99")], "Product Added", START)]);
    bench.wait_until("a late one is delivered", || delivered(&bench) == 46);
    wire.let_go();
    wire.set("h0", Host::Answers(200));
    let all = || {
        bench.clock.advance_ms(10_000);
        delivered(&bench) == 106
    };
    bench.wait_until("the host's own are delivered once it answers", all);
    assert!(bench.notes.0.lock().is_empty());
}

#[test]
fn a_host_that_fails_is_left_alone_and_its_messages_lose_no_attempt() {
    let wire = Wire::new(&[("h1", Host::Fails(SendFailure::Connection("refused".into())))]);
    let bench = bench(Hook::new(&wire));
    limit(&bench, 256, 1);
    bench.send(people("h1", 20));
    let is_open = || bench.kernel.receiving_hosts(WORKSPACE).iter().any(|host| host.state == HostState::Open);
    bench.wait_until("the circuit opens", is_open);
    let [view] = &bench.kernel.receiving_hosts(WORKSPACE)[..] else { panic!("one host") };
    assert_eq!((view.channel, view.failures, view.paused_until), (CHANNEL, 5, Some(START.plus_ms(1_000))));
    assert!(view.reason.as_ref().unwrap().contains("refused"));
    let tried = |wanted: u32| {
        deliveries(&bench)
            .iter()
            .filter(|one| matches!(one.state, DeliveryState::Pending { attempts, .. } if attempts == wanted))
            .count()
    };
    bench.wait_until("the five are put off", || tried(1) == 5);
    assert_eq!((tried(0), wire.left.lock().len()), (15, 5), "the others were not attempted");
    // One tries it out and fails: the pause doubles.
    bench.clock.advance_ms(1_000);
    bench.wait_until("one tries the host out", || wire.left.lock().len() == 6);
    bench.wait_until("it fails", || bench.kernel.receiving_hosts(WORKSPACE)[0].failures == 6);
    assert_eq!(bench.kernel.receiving_hosts(WORKSPACE)[0].paused_until, Some(START.plus_ms(3_000)));
    wire.set("h1", Host::Answers(200));
    let all = || {
        bench.clock.advance_ms(1_000);
        delivered(&bench) == 20
    };
    bench.wait_until("all are delivered", all);
    assert_eq!(bench.kernel.receiving_hosts(WORKSPACE)[0].state, HostState::Closed);
    assert!(bench.notes.0.lock().is_empty(), "no strike");
}

#[test]
fn an_endpoint_that_is_gone_stops_its_channel_and_no_other_message_leaves() {
    let wire = Wire::new(&[("h1", Host::Answers(410))]);
    let bench = bench(Hook::new(&wire));
    limit(&bench, 1, 1);
    bench.send(people("h1", 10));
    bench.wait_until("the channel is held", || *bench.notes.0.lock() == [CHANNEL]);
    let dead = || deliveries(&bench).iter().filter(|one| matches!(one.state, DeliveryState::Dead { .. })).count();
    bench.wait_until("what had left is given up", || dead() > 0 && dead() == wire.left.lock().len());
    let given_up = dead();
    assert!(given_up < 10, "what is still to leave when the plugin has read the answer does not");
    let is_pending = |one: &DeliveryView| matches!(one.state, DeliveryState::Pending { attempts: 0, .. });
    assert_eq!(deliveries(&bench).iter().filter(|one| is_pending(one)).count(), 10 - given_up);
    wire.set("h1", Host::Answers(200));
    bench.configure(switch_on);
    let rest = || {
        bench.clock.advance_ms(1_000);
        delivered(&bench) == 10 - given_up
    };
    bench.wait_until("an admin switches it on again", rest);
}

#[test]
fn one_message_that_a_plugin_fails_on_costs_its_batch_nothing() {
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let hook =
        Hook { traps_on_request: vec!["h1-13".into()], traps_on_answer: vec!["h1-40".into()], ..Hook::new(&wire) };
    let bench = bench(hook);
    bench.send(people("h1", 64));
    bench.settle();
    assert_eq!(delivered(&bench), 62);
    assert!(bench.notes.0.lock().is_empty(), "a plugin that one person's data breaks goes on for the others");
    assert_eq!(receipts(&bench, "h1-13"), ["Message Failed"]);
    assert_eq!(receipts(&bench, "h1-40"), ["Message Failed"], "it has left, so it is not sent again");
    assert_eq!(wire.left.lock().len(), 63);
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap();
    assert_eq!((letters.items.len(), letters.next), (2, None), "one short page, whatever was delivered");
}

#[test]
fn accepted_by_a_provider_is_not_delivered() {
    let wire = Wire::new(&[("h1", Host::Answers(202))]);
    let bench = bench(Hook::new(&wire));
    bench.send(people("h1", 1));
    bench.settle();
    assert!(matches!(deliveries(&bench)[0].state, DeliveryState::Accepted { attempts: 1, .. }));
    assert_eq!(receipts(&bench, "h1-0"), ["Message Accepted"]);
}

#[test]
fn an_attempt_may_take_four_requests_and_no_fifth() {
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let bench = bench(Hook { rounds: 5, ..Hook::new(&wire) });
    bench.send(people("h1", 1));
    bench.settle();
    assert!(matches!(deliveries(&bench)[0].state, DeliveryState::Dead { .. }));
    assert_eq!(wire.left.lock().len(), 4);
}

/// The kernel once committed a receipt and the state of its delivery apart: a failure between them sent the message again.
#[test]
fn a_receipt_and_the_state_of_its_delivery_are_one_commit_that_is_repeated_until_it_succeeds() {
    let store = Watched::new();
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let bench = bench_over(store.clone(), Hook::new(&wire), |_| {});
    let settles = |unit: &Unit| {
        let is_settled = |operation: &Operation| match operation {
            Operation::Put(key, value) if key.strip(&Key::deliveries(WORKSPACE)).is_some() => {
                let row: DeliveryRow = row::decode(value).unwrap();
                matches!(row.state, DeliveryState::Delivered { .. })
            }
            _ => false,
        };
        unit.operations.iter().any(is_settled)
    };
    *store.refuse.lock() = Some(Box::new(settles));
    bench.send(people("h1", 1));
    bench.wait_until("the commit is refused twice", || store.refused.lock().len() >= 2);
    assert!(
        matches!(deliveries(&bench)[0].state, DeliveryState::Pending { attempts: 0, .. }),
        "nothing of it is written"
    );
    *store.refuse.lock() = None;
    bench.settle();
    assert_eq!((delivered(&bench), wire.left.lock().len()), (1, 1), "it was sent once");
    assert_eq!(receipts(&bench, "h1-0"), ["Message Delivered"]);
    let committed = store.committed.lock();
    let unit = committed.iter().find(|unit| settles(unit)).unwrap();
    let count = |is: fn(&Operation) -> bool| unit.operations.iter().filter(|operation| is(operation)).count();
    assert_eq!(count(|operation| matches!(operation, Operation::Append { .. })), 1, "the receipt");
    assert_eq!(count(|operation| matches!(operation, Operation::Acknowledge { .. })), 1, "the outbox");
}

/// The lane that had the outcomes panicked, and they were given up: the messages counted as under way for good.
#[test]
fn outcomes_that_a_lane_loses_are_committed_again_and_count_once() {
    for committed_first in [false, true] {
        let store = Watched::new();
        let wire = Wire::new(&[("h1", Host::Answers(503))]);
        let bench = bench_over(store.clone(), Hook::new(&wire), |_| {});
        let has_failed = std::sync::atomic::AtomicBool::new(false);
        let inner = store.inner.clone();
        let lose = move |unit: &Unit| {
            let is_delivery = |operation: &Operation| matches!(operation, Operation::Put(key, _) if key.strip(&Key::deliveries(WORKSPACE)).is_some());
            let moves =
                |operation: &Operation| matches!(operation, Operation::Enqueue { due_at, .. } if *due_at > START);
            let is_outcome = unit.operations.iter().any(is_delivery) && unit.operations.iter().any(moves);
            if is_outcome && !has_failed.swap(true, Ordering::SeqCst) {
                if committed_first {
                    inner.commit(unit.clone()).unwrap();
                }
                panic!("on purpose");
            }
            false
        };
        *store.refuse.lock() = Some(Box::new(lose));
        bench.send(people("h1", 1));
        let state = || deliveries(&bench).pop().map(|delivery| delivery.state);
        let is_put_off = || matches!(state(), Some(DeliveryState::Pending { attempts: 1, .. }));
        bench.wait_until("it is put off", is_put_off);
        wire.set("h1", Host::Answers(200));
        let second = || {
            bench.clock.advance_ms(1_000);
            matches!(state(), Some(DeliveryState::Delivered { .. }))
        };
        bench.wait_until("its second attempt arrives", second);
        assert!(matches!(state(), Some(DeliveryState::Delivered { attempts: 2, .. })), "{:?}", state());
    }
}

/// A stop once refused the receipts of what was under way, and every such message was sent again after the restart.
#[test]
fn a_graceful_stop_ends_what_is_under_way_and_hands_back_what_has_not_left() {
    let wire = Wire::new(&[("h1", Host::Holds(Box::new(Host::Answers(200))))]);
    let mut bench = bench(Hook::new(&wire));
    limit(&bench, 256, 2);
    bench.send(people("h1", 5));
    bench.wait_until("two are under way", || wire.left.lock().len() == 2);
    let stopping = {
        let kernel = Arc::clone(&bench.kernel);
        std::thread::spawn(move || kernel.stop())
    };
    bench.wait_until("the kernel stops", || bench.kernel.shared.is_closing());
    wire.let_go();
    stopping.join().unwrap();
    assert_eq!(delivered(&bench), 2, "what was under way is written down");
    let untouched = |one: &DeliveryView| matches!(one.state, DeliveryState::Pending { attempts: 0, .. });
    assert_eq!(deliveries(&bench).iter().filter(|one| untouched(one)).count(), 3);
    bench.restart();
    // Handed back, so that nobody waits for the end of a lease: the clock stands still.
    bench.wait_until("the others are delivered", || delivered(&bench) == 5);
    assert_eq!(wire.left.lock().len(), 5, "none twice");
}

#[test]
fn a_channel_that_is_not_idempotent_says_so_before_anything_leaves() {
    let store: Arc<dyn Store> = Arc::new(kith_store::memory());
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let seen = Arc::new(Mutex::new(Vec::new()));
    let (reading, noting) = (store.clone(), seen.clone());
    *wire.as_it_leaves.lock() = Some(Box::new(move |_| {
        let rows = reading.scan(&Key::deliveries(WORKSPACE).range(), 10).unwrap().rows;
        let row: DeliveryRow = row::decode(&rows[0].1).unwrap();
        noting.lock().push(row.state);
    }));
    let bench = bench_over(store, Hook::new(&wire), |channel| channel.idempotence = Idempotence::NotIdempotent);
    bench.send(people("h1", 1));
    bench.wait_until("it is delivered", || delivered(&bench) == 1);
    assert_eq!(*seen.lock(), [DeliveryState::Sending { attempts: 1, since: START }]);
    assert!(matches!(deliveries(&bench)[0].state, DeliveryState::Delivered { attempts: 1, .. }));
}

#[test]
fn what_was_being_sent_at_a_crash_is_unknown_and_an_admin_decides() {
    let store: Arc<dyn Store> = Arc::new(kith_store::memory());
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let idempotence = Idempotence::NotIdempotent;
    let mut bench = bench_over(store.clone(), Hook::new(&wire), |channel| channel.idempotence = idempotence);
    bench.send(people("h1", 1));
    bench.wait_until("it is delivered", || delivered(&bench) == 1);
    bench.kernel.stop();
    // The rows of a process that died between the commit of `sending` and its outcome, the lease over.
    let page = store.scan(&Key::deliveries(WORKSPACE).range(), 1).unwrap();
    let (key, value) = &page.rows[0];
    let mut row: DeliveryRow = row::decode(value).unwrap();
    row.state = DeliveryState::Sending { attempts: 1, since: START };
    let id: [u8; 16] = key.strip(&Key::deliveries(WORKSPACE)).unwrap().try_into().unwrap();
    let queue = outbox(WORKSPACE, CHANNEL);
    let operations = vec![
        Operation::Put(key.clone(), row::encode(&row)),
        Operation::Enqueue { queue, id, due_at: START, body: vec![] },
    ];
    store.commit(Unit { operations, ..Unit::default() }).unwrap();
    bench.restart();
    let is_unknown = || matches!(deliveries(&bench)[0].state, DeliveryState::Unknown { attempts: 1, since: START });
    bench.wait_until("it is unknown", is_unknown);
    assert_eq!(wire.left.lock().len(), 1, "it was not sent again");
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items;
    let [DeadLetter::Delivery(letter)] = &letters[..] else { panic!("{letters:?}") };
    assert_eq!(bench.kernel.replay(WORKSPACE, &letter.id).unwrap(), crate::Replay::Begun);
    bench.wait_until("it is delivered", || delivered(&bench) == 1);
    assert_eq!(bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items, []);
    let ids: Vec<String> = wire.left.lock().iter().map(|(_, id)| id.clone()).collect();
    assert_eq!(ids, [letter.id.clone(), letter.id.clone()], "under the same id");
}

/// A mail that was handed over whole, and whose relay said nothing more, is nobody's to repeat: not the kernel's and not the plugin's.
#[test]
fn what_the_other_side_may_have_is_unknown_and_not_sent_again() {
    let lost = Host::Fails(SendFailure::Unknown("the connection was closed".to_owned()));
    let wire = Wire::new(&[("h1", lost), ("h2", Host::Answers(200))]);
    let store: Arc<dyn Store> = Arc::new(kith_store::memory());
    let bench = bench_over(store, Hook::new(&wire), |channel| channel.idempotence = Idempotence::NotIdempotent);
    bench.send(people("h1", 1));
    let is_unknown = || deliveries(&bench).iter().all(|one| matches!(one.state, DeliveryState::Unknown { .. }));
    bench.wait_until("it is unknown", || deliveries(&bench).len() == 1 && is_unknown());
    bench.send(people("h2", 1));
    bench.wait_until("the channel goes on", || delivered(&bench) == 1);
    assert_eq!(wire.requests_to("h1"), 1);
}

/// A channel of contract 0.1 whose receiver keeps each call until it is let go.
#[derive(Default)]
struct Slow {
    sizes: Mutex<Vec<usize>>,
    is_let_go: Mutex<bool>,
    let_go: Condvar,
}

impl Channel for Slow {
    fn send(&self, messages: &[Message]) -> Result<Vec<Outcome>, PluginFault> {
        self.sizes.lock().push(messages.len());
        if messages[0].recipient[0].value.starts_with("slow") {
            // As the host does while a guest waits for its peer.
            kith_model::slot::without(|| {
                let mut is_let_go = self.is_let_go.lock();
                while !*is_let_go {
                    self.let_go.wait(&mut is_let_go);
                }
            });
            return Err(PluginFault::DeadlineExceeded { limit_ms: 30_000, spent: TimeSpent::WaitingForPeers });
        }
        Ok(vec![Outcome::Delivered { provider_id: None }; messages.len()])
    }

    fn receive(&self, _: &Callback) -> Result<Vec<Receipt>, ReceiveError> {
        Ok(vec![])
    }
}

/// Eight messages once shared a call and its time-out: the receiver took each, all were sent again, the channel was quarantined.
#[test]
fn a_slow_receiver_of_an_old_channel_costs_neither_its_neighbours_nor_the_plugin() {
    let slow = Arc::new(Slow::default());
    let role = slow.clone();
    let bench = Bench::over(Arc::new(kith_store::memory()), everybody(), |setup| {
        channel_of(setup).role = Role::Channel(role);
    });
    bench.send(people("slow", 2));
    bench.wait_until("two calls wait", || slow.sizes.lock().len() == 2);
    bench.send(people("fast", 10));
    bench.wait_until("the others are delivered while they wait", || delivered(&bench) == 10);
    *slow.is_let_go.lock() = true;
    slow.let_go.notify_all();
    let put_off = |times: u32| {
        let is_put_off =
            |one: &&DeliveryView| matches!(one.state, DeliveryState::Pending { attempts, .. } if attempts >= times);
        // One that is claimed again before its sender was told of its outcome is held back for a while.
        bench.clock.advance_ms(10);
        deliveries(&bench).iter().filter(is_put_off).count()
    };
    for times in 1..4 {
        bench.wait_until("the slow ones are put off", || put_off(times) == 2);
        bench.clock.advance_ms(DAY);
    }
    assert!(slow.sizes.lock().iter().all(|size| *size == 1), "one message per call");
    assert!(bench.notes.0.lock().is_empty(), "time-outs are the receiver's, not strikes");
}

#[test]
fn a_plugin_that_fails_on_everybody_is_held_and_its_messages_wait() {
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let everyone = (0..40).map(|number| format!("h1-{number}")).collect();
    let bench = bench(Hook { traps_on_request: everyone, ..Hook::new(&wire) });
    bench.send(people("h1", 40));
    let held = || {
        bench.clock.advance_ms(30_000);
        // Time passes fast here, so that it may be on trial by now and held again.
        bench.notes.0.lock().first() == Some(&CHANNEL)
    };
    bench.wait_until("it is held", held);
    let is_pending = |one: &DeliveryView| matches!(one.state, DeliveryState::Pending { .. });
    assert_eq!(deliveries(&bench).iter().filter(|one| is_pending(one)).count(), 40);
    assert!(wire.left.lock().is_empty());
}
