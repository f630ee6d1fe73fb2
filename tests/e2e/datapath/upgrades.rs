//! Plugins of three kinds are upgraded and put back while events come: none is lost or taken twice, nobody is written to twice,
//! and what is known of people does not go away meanwhile.

use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};

use kith_tests::{Receiver, Source, TestKernel, cases, component, repacked, wait_until};
use serde_json::{Value, json};

use super::models::lives_in;
use super::stage::{
    SetAtEnd, all_delivered, audiences_of, define_with, each_got_one_message, letters, message_through, send, size,
    tag, track, webhook,
};

/// Who is there from the beginning, and does something in each batch.
const KNOWN: u64 = 19;

/// A batch is these and one new person: so often it is two thousand events a second.
const PERIOD: Duration = Duration::from_millis(10);

/// So many batches are taken between two changes.
const BETWEEN: u64 = 15;

/// The installations and the two versions that each goes between.
const CHANGES: [(&str, &str, &str); 3] =
    [("segment", "0.1.0", "0.2.0"), ("model", "0.1.0", "0.2.0"), ("webhook", "0.1.0", "0.2.0")];

/// The batch of a turn: somebody new in Oslo, and one event of everybody who was there.
fn batch(turn: u64) -> Vec<Value> {
    let newcomer = lives_in(&format!("new{turn}"), "Oslo", turn);
    let seen = (0..KNOWN).map(|number| track(&format!("u{number}"), "Seen", &format!("seen-{turn}-{number}")));
    std::iter::once(newcomer).chain(seen).collect()
}

/// Send at the rate of [`PERIOD`] until it is enough, each batch once and every one taken whole.
fn send_until(enough: &AtomicBool, source: &Source, sent: &AtomicU64) {
    let begun = Instant::now();
    while !enough.load(Ordering::SeqCst) {
        let turn = sent.load(Ordering::SeqCst);
        send(source, &batch(turn));
        sent.store(turn + 1, Ordering::SeqCst);
        let next = PERIOD * u32::try_from(turn + 1).expect("the test ends long before");
        std::thread::park_timeout(next.saturating_sub(begun.elapsed()));
    }
}

/// Look at those who were there from the beginning, until it is enough: each time they are tagged, and members.
fn look_until(enough: &AtomicBool, kernel: &TestKernel) {
    for number in (0..KNOWN).cycle() {
        if enough.load(Ordering::SeqCst) {
            return;
        }
        let user = format!("user_id:u{number}");
        assert_eq!(tag(kernel, &user, "hostile"), "Oslo", "{user}");
        assert_eq!(audiences_of(kernel, &user), ["oslo"], "{user}");
        // While a change is computed a size may not be known.
        assert!(size(&kernel.admin(), "oslo").is_none_or(|size| size >= KNOWN), "members are missing");
        std::thread::park_timeout(PERIOD);
    }
}

fn upload_later_versions(kernel: &TestKernel) {
    kernel.upload_newest("hostile/tag-model");
    for plugin in ["kith/segment", "kith/webhook"] {
        let later =
            repacked(component(plugin), |manifest| manifest.replacen("version = \"0.1.0\"", "version = \"0.2.0\"", 1));
        kernel.admin().send("POST", "/api/v1/plugins", &[], later).is(201);
    }
}

/// Upgrade each installation and put it back, with some batches in between.
fn upgrade_and_put_back(kernel: &TestKernel, sent: &AtomicU64) {
    for (installation, first, later) in CHANGES {
        for version in [later, first] {
            let before = sent.load(Ordering::SeqCst);
            wait_until("batches are taken", || sent.load(Ordering::SeqCst) >= before + BETWEEN);
            let change = json!({ "version": version, "allow_downgrade": true });
            let changed = kernel.admin().patch(&format!("/api/v1/installations/{installation}"), &change).is(200);
            assert_eq!(changed["version"], version, "{changed}");
        }
    }
}

#[test]
fn plugins_are_upgraded_and_put_back_while_two_thousand_events_a_second_come() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let admin = kernel.admin();
    let source = kernel.segment();
    webhook(&kernel, "webhook", &receiver);
    kernel.install("hostile/tag-model", json!({ "name": "model", "version": "0.1.0", "config": { "how": "well" } }));
    upload_later_versions(&kernel);
    define_with(&admin, "oslo", "tags.hostile == 'Oslo'", message_through("webhook"));
    let known: Vec<Value> = (0..KNOWN).map(|number| lives_in(&format!("u{number}"), "Oslo", 0)).collect();
    send(&source, &known);
    kernel.settle();
    all_delivered(&admin, KNOWN as usize);

    let (enough, sent) = (AtomicBool::new(false), AtomicU64::new(0));
    std::thread::scope(|scope| {
        scope.spawn(|| send_until(&enough, &source, &sent));
        scope.spawn(|| look_until(&enough, &kernel));
        let _ends = SetAtEnd(&enough);
        for _ in 0..cases(1) {
            upgrade_and_put_back(&kernel, &sent);
        }
    });

    let turns = sent.into_inner();
    let people = KNOWN + turns;
    kernel.settle();
    assert_eq!(kernel.count(&format!("events('Seen').size() == {turns}")), KNOWN, "each event counts once");
    assert_eq!(kernel.count("tags.hostile == 'Oslo'"), people);
    assert_eq!(size(&admin, "oslo"), Some(people));
    all_delivered(&admin, people as usize);
    each_got_one_message(&receiver, people as usize);
    assert_eq!(letters(&admin, "computation"), Vec::<Value>::new());
}
