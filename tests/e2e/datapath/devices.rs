//! Identities that share devices: what one event costs, and that people are the same whatever the order of arrival.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use kith_tests::{Random, Receiver, Source, TestKernel, cases};
use serde_json::{Value, json};

use super::stage::{
    SetAtEnd, all_delivered, arrivals, audiences_of, define, define_with, message_through, send, size, track, webhook,
};

/// Somebody does something on a device, signed in or not, at a minute past ten.
fn on_device(device: &str, user: Option<&str>, minute: u64, id: &str) -> Value {
    json!({ "type": "track", "event": "Seen", "anonymousId": device, "userId": user, "messageId": id,
        "timestamp": format!("2026-11-20T10:{:02}:{:02}Z", minute / 60 % 60, minute % 60) })
}

/// How long each batch of 100 took.
fn timed(source: &Source, batches: u64, message: impl Fn(u64) -> Value) -> Vec<Duration> {
    let send = |batch: u64| {
        let messages: Vec<Value> = (batch * 100..(batch + 1) * 100).map(&message).collect();
        let begun = Instant::now();
        assert_eq!(source.batch(&messages)["accepted"], 100);
        begun.elapsed()
    };
    (0..batches).map(send).collect()
}

/// The best of the first three batches and of the last three: a busy machine makes single ones slow.
#[track_caller]
fn is_level(batches: &[Duration]) {
    let first = batches[..3].iter().min().unwrap();
    let last = batches[batches.len() - 3..].iter().min().unwrap();
    let allowed = *first * 4 + Duration::from_millis(20);
    assert!(*last <= allowed, "100 events took {first:?} at first and {last:?} at last");
}

/// A kiosk where ever new people sign in costs the same for the two-thousandth as for the first, and a client beside it is
/// answered all the while.
#[test]
fn the_two_thousandth_user_of_a_device_costs_what_the_first_did() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let done = AtomicBool::new(false);
    std::thread::scope(|scope| {
        let neighbour = scope.spawn(|| {
            let (mut answered, mut worst) = (0, Duration::ZERO);
            while !done.load(Ordering::SeqCst) {
                let begun = Instant::now();
                source.batch(&[track("neighbour", "Seen", &format!("n{answered}"))]);
                worst = worst.max(begun.elapsed());
                answered += 1;
            }
            (answered, worst)
        });
        let end = SetAtEnd(&done);
        let took =
            timed(&source, 20, |number| on_device("kiosk", Some(&format!("u{number}")), number, &format!("k{number}")));
        drop(end);
        let (answered, worst) = neighbour.join().unwrap();
        is_level(&took);
        // How often depends on how long the others take; it waits for none of them.
        assert!(answered >= 5, "the neighbour was answered {answered} times, at worst after {worst:?}");
        assert!(worst < Duration::from_secs(2), "the neighbour waited {worst:?}");
    });
    kernel.settle();
    assert_eq!(
        kernel.count("events('Seen').size() > 0"),
        2_001,
        "everybody of the kiosk is a person, and the neighbour"
    );
}

/// The mirror of it: one user with 1,500 devices.
#[test]
fn the_fifteen_hundredth_device_of_a_user_costs_what_the_first_did() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let took =
        timed(&source, 15, |number| on_device(&format!("d{number}"), Some("collector"), number, &format!("d{number}")));
    is_level(&took);
    kernel.settle();
    assert!(kernel.find("anonymous_id:d1499").is_some());
}

/// A commit that first joins two people and then parts them leaves each of them computed: in audience, index and explanation.
#[test]
fn who_is_merged_and_parted_in_one_commit_is_still_computed() {
    let kernel = TestKernel::start();
    let (source, receiver) = (kernel.segment(), Receiver::start());
    let admin = kernel.admin();
    webhook(&kernel, "webhook", &receiver);
    define_with(&admin, "seen", "events('Seen').size() > 0", message_through("webhook"));
    send(&source, &[on_device("device", None, 5, "m0")]);
    kernel.settle();
    // The later sign-in stands first in the batch: it joins u2 to the device, the earlier one of u1 parts them again.
    send(&source, &[on_device("device", Some("u2"), 20, "m2"), on_device("device", Some("u1"), 0, "m1")]);
    kernel.settle();
    assert_eq!(kernel.count("events('Seen', '400d').size() > 0"), 2, "from history");
    assert_eq!(kernel.count("events('Seen').size() > 0"), 2, "from the index");
    assert_eq!(size(&admin, "seen"), Some(2));
    for user in ["user_id:u1", "user_id:u2"] {
        assert_eq!(audiences_of(&kernel, user), ["seen"], "{user}");
        let id = kernel.profile(user)["id"].as_str().unwrap().to_owned();
        let explained = admin.get(&format!("/api/v1/audiences/seen/explain?profile={id}")).is(200);
        assert_eq!(explained["explanation"]["truth"], true, "{user}: {explained}");
    }
}

/// The same three events in three orders, one by one and together, make the same people in the same audiences.
#[test]
fn three_orders_of_a_shared_device_end_the_same() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    define(&kernel.admin(), "seen", "events('Seen').size() > 0");
    let mut ends = BTreeSet::new();
    for (order, places) in [[0, 1, 2], [2, 1, 0], [1, 2, 0]].into_iter().enumerate() {
        for (cut, size) in [1, 2, 3].into_iter().enumerate() {
            let name = |what: &str| format!("{what}-{order}{cut}");
            let events = [(None, 5), (Some(name("u2")), 20), (Some(name("u1")), 0)];
            let events: Vec<Value> = places
                .iter()
                .map(|place| {
                    let (user, minute) = &events[*place];
                    on_device(&name("device"), user.as_deref(), *minute, &name(&format!("m{place}")))
                })
                .collect();
            events.chunks(size).for_each(|part| send(&source, part));
            kernel.settle();
            let person = |identifier: String| (audiences_of(&kernel, &identifier), kernel.events(&identifier).len());
            ends.insert((
                person(format!("user_id:{}", name("u1"))),
                person(format!("user_id:{}", name("u2"))),
                person(format!("anonymous_id:{}", name("device"))),
            ));
        }
    }
    assert_eq!(ends.len(), 1, "{ends:?}");
    assert_eq!(kernel.count("events('Seen').size() > 0"), kernel.count("events('Seen', '400d').size() > 0"));
}

/// Somebody who has entered on a device and is parted from it later is not written to again, and neither is the other part.
#[test]
fn being_parted_is_no_entry() {
    let kernel = TestKernel::start();
    let (source, receiver) = (kernel.segment(), Receiver::start());
    webhook(&kernel, "webhook", &receiver);
    define_with(&kernel.admin(), "seen", "events('Seen').size() > 0", message_through("webhook"));
    send(&source, &[on_device("device", None, 5, "m0"), on_device("device", Some("u2"), 20, "m2")]);
    kernel.settle();
    all_delivered(&kernel.admin(), 1);
    send(&source, &[on_device("device", Some("u1"), 0, "m1")]);
    kernel.settle();
    // u1 is new and enters by the event; u2 and the device have had theirs.
    let deliveries = super::stage::deliveries(&kernel.admin()).len();
    assert!(deliveries <= 2, "{deliveries} messages for one entry on the device and at most one of u1");
    all_delivered(&kernel.admin(), deliveries);
    let of_u2 = arrivals(&receiver).get("u2").map_or(0, BTreeMap::len);
    assert!(of_u2 <= 1, "u2 entered once and got {of_u2} messages");
}

/// A random history of a few people on a few devices: each event with who and where.
fn random_history(random: &mut Random) -> Vec<(u64, Option<u64>, u64)> {
    (0..4 + random.below(9))
        .map(|minute| {
            let user = (random.below(4) > 0).then(|| random.below(4));
            (random.below(3), user, minute * 7 % 60)
        })
        .collect()
}

/// Random histories of shared devices, each in three random orders, cut differently; how each ends must be the same.
fn random_orders(kernel: &TestKernel, source: &Source, seed: u64) {
    let mut random = Random::new(seed);
    for trial in 0..cases(20) {
        let history = random_history(&mut random);
        let mut ends = BTreeSet::new();
        for order in 0..3 {
            let name = |what: &str, number: u64| format!("{what}{number}-{trial}-{order}");
            let mut events: Vec<Value> = history
                .iter()
                .enumerate()
                .map(|(place, (device, user, minute))| {
                    let user = user.map(|user| name("u", user));
                    on_device(&name("d", *device), user.as_deref(), *minute, &name("m", place as u64))
                })
                .collect();
            for place in (1..events.len()).rev() {
                events.swap(place, usize::try_from(random.below(place as u64 + 1)).unwrap());
            }
            while !events.is_empty() {
                // One by one, all at once, and cut at random.
                let all = events.len() as u64;
                let end = [1, all, 1 + random.below(all)][order];
                send(source, &events.drain(..usize::try_from(end).unwrap()).collect::<Vec<_>>());
                if random.below(2) == 0 {
                    kernel.settle();
                }
            }
            kernel.settle();
            ends.insert(end_of(kernel, &history, &name));
        }
        assert_eq!(ends.len(), 1, "trial {trial}: {history:?}: {ends:#?}");
    }
}

/// Random histories in random orders and cuts end with the same people in the same audiences, and the index agrees with
/// history.
#[test]
fn random_orders_and_cuts_end_the_same() {
    let mut kernel = TestKernel::start();
    let source = kernel.segment();
    define(&kernel.admin(), "seen", "events('Seen').size() > 0");
    random_orders(&kernel, &source, 11);
    let agrees = |kernel: &TestKernel| {
        let from_history = kernel.count("events('Seen', '400d').size() > 0");
        assert_eq!(kernel.count("events('Seen').size() > 0"), from_history);
        assert_eq!(size(&kernel.admin(), "seen"), Some(from_history));
    };
    agrees(&kernel);
    kernel.restart();
    kernel.settle();
    agrees(&kernel);
}

/// However people are joined and parted, an action that fires once for each person has one message for each entry's person,
/// never two.
#[test]
fn random_joins_and_parts_write_to_nobody_twice() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    let mut action = message_through("webhook");
    action["re_entry"] = json!("never");
    define_with(&kernel.admin(), "seen", "events('Seen').size() > 0", action);
    random_orders(&kernel, &source, 12);
    let mut by_person: BTreeMap<String, usize> = BTreeMap::new();
    for delivery in super::stage::deliveries(&kernel.admin()) {
        *by_person.entry(delivery["profile"].as_str().unwrap().to_owned()).or_default() += 1;
    }
    assert!(!by_person.is_empty());
    by_person.retain(|_, messages| *messages > 1);
    assert!(by_person.is_empty(), "messages by person: {by_person:?}");
}

/// Who belongs together, by the names of the first order, with audiences and number of events.
fn end_of(
    kernel: &TestKernel,
    history: &[(u64, Option<u64>, u64)],
    name: &impl Fn(&str, u64) -> String,
) -> BTreeSet<(BTreeSet<String>, Vec<String>, usize)> {
    let devices = history.iter().map(|(device, _, _)| ("anonymous_id", "d", *device));
    let users = history.iter().filter_map(|(_, user, _)| user.map(|user| ("user_id", "u", user)));
    let mut people: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for (kind, what, number) in devices.chain(users) {
        let id = kernel.profile(&format!("{kind}:{}", name(what, number)))["id"].as_str().unwrap().to_owned();
        people.entry(id).or_default().insert(format!("{what}{number}"));
    }
    let identifier = |member: &String| {
        let (what, number) = member.split_at(1);
        let kind = if what == "d" { "anonymous_id" } else { "user_id" };
        format!("{kind}:{}", name(what, number.parse().unwrap()))
    };
    people
        .into_values()
        .map(|members| {
            let one = identifier(members.first().unwrap());
            // Receipts are events too, and how many there are depends on who was seen apart for a while.
            let seen = kernel.events(&one).iter().filter(|event| event["name"] == "Seen").count();
            (members, audiences_of(kernel, &one), seen)
        })
        .collect()
}
