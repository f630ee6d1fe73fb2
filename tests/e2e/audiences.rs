//! Audiences: defined, counted, entered by events, left by time alone; each count equals the test's own over what it sent.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::time::{Clock as _, DAY_MS, Timestamp};
use kith_tests::{Random, TestKernel, pages, wait_until};
use serde_json::{Value, json};

/// What the test knows of an event.
struct Sent {
    user: u64,
    name: &'static str,
    at: Timestamp,
    total: f64,
}

const NAMES: [&str; 3] = ["Product Added", "Order Completed", "Page Seen"];
const CITIES: [&str; 3] = ["Berlin", "Oslo", "Rome"];
const USERS: u64 = 120;

/// The days up to today that a window of whole days holds.
fn is_within(sent: &Sent, days: i64, now: Timestamp) -> bool {
    let day = |time: Timestamp| time.0.div_euclid(DAY_MS);
    sent.at <= now && day(now) - day(sent.at) < days
}

/// A condition as the kernel reads it, and the same thing said naively in Rust.
type Case = (&'static str, fn(u64, &[&Sent], Timestamp) -> bool);

const CASES: [Case; 5] = [
    ("events('Order Completed', '30d').size() >= 2", |_, events, now| {
        events.iter().filter(|sent| sent.name == NAMES[1] && is_within(sent, 30, now)).count() >= 2
    }),
    ("events('Product Added', '14d').size() > 0 && events('Order Completed', '14d').size() == 0", |_, events, now| {
        let any = |name| events.iter().any(|sent| sent.name == name && is_within(sent, 14, now));
        any(NAMES[0]) && !any(NAMES[1])
    }),
    ("events('Order Completed').map(e, e.total).sum() > 120.0", |_, events, now| {
        let orders = events.iter().filter(|sent| sent.name == NAMES[1] && sent.at <= now);
        orders.map(|sent| sent.total).sum::<f64>() > 120.0
    }),
    ("traits.city == 'Oslo' || events('*', '3d').size() == 0", |user, events, now| {
        city(user) == "Oslo" || !events.iter().any(|sent| is_within(sent, 3, now))
    }),
    (
        "events('Order Completed', '60d').filter(e, e.total > 50.0).size() >= 1 && traits.city in ['Rome', 'Berlin']",
        |user, events, now| {
            let large = |sent: &&&Sent| sent.name == NAMES[1] && sent.total > 50.0 && is_within(sent, 60, now);
            events.iter().filter(large).count() >= 1 && city(user) != "Oslo"
        },
    ),
];

fn city(user: u64) -> &'static str {
    CITIES[usize::try_from(user % 3).unwrap()]
}

/// Send a made-up history of 90 days; what was sent.
fn history(kernel: &TestKernel, seed: u64) -> Vec<Sent> {
    let source = kernel.segment();
    let mut random = Random::new(seed);
    let now = kernel.clock.now();
    let sent: Vec<Sent> = (0..1_500)
        .map(|_| {
            let name = NAMES[usize::try_from(random.below(3)).unwrap()];
            let at = now.plus_ms(-i64::try_from(random.below(90 * DAY_MS.unsigned_abs())).unwrap());
            #[allow(clippy::cast_precision_loss, reason = "below a hundred")]
            let total = random.below(8_000) as f64 / 100.0;
            Sent { user: random.below(USERS), name, at, total }
        })
        .collect();
    let identify: Vec<Value> = (0..USERS)
        .map(|user| {
            json!({ "type": "identify", "userId": format!("u{user}"), "messageId": format!("i{user}"),
                "traits": { "city": city(user) }, "timestamp": now.plus_ms(-100 * DAY_MS).to_string() })
        })
        .collect();
    source.batch(&identify);
    for (number, part) in sent.chunks(100).enumerate() {
        let messages: Vec<Value> = part
            .iter()
            .enumerate()
            .map(|(index, sent)| {
                json!({ "type": "track", "event": sent.name, "userId": format!("u{}", sent.user),
                    "messageId": format!("e{number}-{index}"), "timestamp": sent.at.to_string(),
                    "properties": { "total": sent.total } })
            })
            .collect();
        assert_eq!(source.batch(&messages)["accepted"], messages.len());
    }
    sent
}

/// The users who meet a case by the naive rule.
fn expected(case: &Case, sent: &[Sent], now: Timestamp) -> BTreeSet<u64> {
    let mut by_user: BTreeMap<u64, Vec<&Sent>> = (0..USERS).map(|user| (user, Vec::new())).collect();
    for sent in sent {
        by_user.entry(sent.user).or_default().push(sent);
    }
    by_user.iter().filter(|(user, events)| case.1(**user, events, now)).map(|(user, _)| *user).collect()
}

#[test]
fn counts_and_members_equal_a_naive_recomputation_today_and_later() {
    let kernel = TestKernel::start();
    let sent = history(&kernel, 7);
    let admin = kernel.admin();
    for (number, (condition, _)) in CASES.iter().enumerate() {
        admin.post("/api/v1/audiences", &json!({ "name": format!("case-{number}"), "condition": condition })).is(201);
    }
    kernel.settle();
    let ids: BTreeMap<String, u64> = (0..USERS)
        .map(|user| (kernel.profile(&format!("user_id:u{user}"))["id"].as_str().unwrap().to_owned(), user))
        .collect();
    assert_eq!(ids.len(), usize::try_from(USERS).unwrap());
    for days in [0, 1, 4, 13, 30, 61] {
        kernel.clock.set("2026-11-21T10:00:00Z".parse::<Timestamp>().unwrap().plus_ms(days * DAY_MS));
        let now = kernel.clock.now();
        for (number, case) in CASES.iter().enumerate() {
            let expected = expected(case, &sent, now);
            let path = format!("/api/v1/audiences/case-{number}");
            wait_until(&format!("{} is {} after {days} days", case.0, expected.len()), || {
                admin.get(&path).is(200)["size"] == expected.len()
            });
            let members = pages(&admin, &format!("{path}/members"), 7);
            let members: BTreeSet<u64> =
                members.iter().map(|member| ids[member["profile"].as_str().unwrap()]).collect();
            assert_eq!(members, expected, "{} after {days} days", case.0);
            assert_eq!(kernel.count(case.0), expected.len() as u64, "{} counted for the asking", case.0);
        }
    }
}

#[test]
fn people_enter_by_events_and_leave_by_time() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let condition = "events('Order Completed', '2d').size() >= 1";
    kernel.admin().post("/api/v1/audiences", &json!({ "name": "fresh", "condition": condition })).is(201);
    let audiences = || -> Vec<String> {
        let profile = kernel.profile("user_id:ada");
        let names = profile["audiences"].as_array().unwrap().iter();
        names.map(|membership| membership["audience"].as_str().unwrap().to_owned()).collect()
    };
    source.batch(&[json!({ "type": "identify", "userId": "ada", "messageId": "i" })]);
    kernel.settle();
    assert!(audiences().is_empty());
    let order = json!({ "type": "track", "event": "Order Completed", "userId": "ada", "messageId": "o" });
    let position = source.batch(&[order])["position"].as_u64().unwrap();
    kernel.settle();
    let membership = kernel.profile("user_id:ada")["audiences"][0].clone();
    assert_eq!(membership["audience"], "fresh");
    assert_eq!(membership["since"], "2026-11-21T10:00:00.000Z");
    assert!(membership["cause"].as_u64().unwrap() <= position, "the event that brought her in: {membership}");
    // Tomorrow the order still counts; the day after it does not, and nobody has to send anything for that.
    kernel.clock.set("2026-11-22T23:59:59Z".parse().unwrap());
    assert_eq!(kernel.count(condition), 1);
    kernel.clock.set("2026-11-23T00:00:00Z".parse().unwrap());
    wait_until("ada leaves as time passes", || audiences().is_empty());
    // The row is durable before the index shows it.
    wait_until("she counts no more", || kernel.count(condition) == 0);
}

#[test]
fn a_membership_is_explained_part_by_part() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let condition = "traits.city == 'Oslo' && events('Order Completed').size() >= 2";
    kernel.admin().post("/api/v1/audiences", &json!({ "name": "oslo", "condition": condition })).is(201);
    source.batch(&[
        json!({ "type": "identify", "userId": "ada", "messageId": "i", "traits": { "city": "Oslo" } }),
        json!({ "type": "track", "event": "Order Completed", "userId": "ada", "messageId": "o" }),
    ]);
    kernel.settle();
    let id = kernel.profile("user_id:ada")["id"].as_str().unwrap().to_owned();
    let explained = kernel.admin().get(&format!("/api/v1/audiences/oslo/explain?profile={id}")).is(200);
    let text = explained["explanation"].to_string();
    assert!(text.contains("traits.city") && text.contains("Order Completed"), "{explained}");
    assert!(text.contains("true") && text.contains("false"), "one part holds, one does not: {explained}");
}

#[test]
fn an_audience_can_be_changed_and_removed() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let admin = kernel.admin();
    source.batch(&[json!({ "type": "identify", "userId": "ada", "messageId": "i", "traits": { "city": "Oslo" } })]);
    admin.post("/api/v1/audiences", &json!({ "name": "a", "condition": "traits.city == 'Rome'" })).is(201);
    kernel.settle();
    assert_eq!(admin.get("/api/v1/audiences/a").is(200)["size"], 0);
    admin.patch("/api/v1/audiences/a", &json!({ "condition": "traits.city == 'Oslo'" })).is(200);
    wait_until("the new condition is computed", || admin.get("/api/v1/audiences/a").is(200)["size"] == 1);
    admin.delete("/api/v1/audiences/a").is(204);
    admin.get("/api/v1/audiences/a").is_problem(404, "not-found");
    wait_until("the profile forgets it", || kernel.profile("user_id:ada")["audiences"] == json!([]));
}
