//! Killed between and inside changes of the configuration: a model is switched off and on and upgraded, conditions are edited
//! and restored, audiences come and go, while people enter and are written to. However it falls, nobody has two message ids
//! for one entry, and no count is wrong afterwards.

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::path::Path;
use std::sync::{Arc, mpsc};

use kith_tests::{
    Client, Neighbour, Process, Random, Receiver, SIGNING_SECRET, cases, component, newest_component, pages, settle,
    wait_for,
};
use serde_json::{Value, json};

/// Kills of the short form.
const KILLS: u64 = 6;
const SEEN: &str = "events('Seen').size() > 0";
const OSLO: &str = "tags.hostile == 'Oslo'";

/// The cities of the people: every second one lives in Oslo, for ever, so that nobody leaves by an event of her own.
fn city(user: u64) -> &'static str {
    if user.is_multiple_of(2) { "Oslo" } else { "Rome" }
}

/// What is sent of one person: who she is, and that she was seen.
fn arrival(user: u64) -> Value {
    json!([
        { "type": "identify", "userId": format!("u{user}"), "messageId": format!("i{user}"), "traits": { "city": city(user) } },
        { "type": "track", "event": "Seen", "userId": format!("u{user}"), "messageId": format!("s{user}") },
    ])
}

/// Serve at so many minutes past ten: each start is later than the one before, so that an id made from the clock shows.
fn serve(neighbour: &Arc<Neighbour>, folder: &Path, engine: &str, minute: u64) -> Process {
    let clock = format!("2026-11-21T{:02}:{:02}:00Z", 10 + minute / 60, minute % 60);
    let flags = ["--engine", engine, "--clock", &clock, "--allow-loopback", "--allow-plain-http"];
    Process::serve_beside(neighbour, folder, &flags)
}

fn action(audience: &str) -> Value {
    json!({ "channel": "webhook", "purpose": "marketing", "basis": "not_refused", "payload": { "audience": audience } })
}

/// Install what the test needs; the write key.
fn install(admin: &Client, receiver: &Receiver) -> String {
    for plugin in ["kith/segment", "kith/webhook", "hostile/tag-model"] {
        admin.send("POST", "/api/v1/plugins", &[], component(plugin).component.clone()).is(201);
    }
    admin.send("POST", "/api/v1/plugins", &[], newest_component("hostile/tag-model").component.clone()).is(201);
    let source = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
    let host = receiver.host();
    let webhook = json!({
        "plugin": "kith/webhook", "name": "webhook", "config": { "url": format!("http://{host}/") },
        "grants": { "http": [host], "secrets": { "signing": [host] } },
        "secrets": { "signing": SIGNING_SECRET },
    });
    admin.post("/api/v1/installations", &webhook).is(201);
    let model =
        json!({ "plugin": "hostile/tag-model", "version": "0.1.0", "name": "model", "config": { "how": "well" } });
    admin.post("/api/v1/installations", &model).is(201);
    for (name, condition) in [("seen", SEEN), ("oslo", OSLO)] {
        let body = json!({ "name": name, "condition": condition, "on_enter": action(name) });
        admin.post("/api/v1/audiences", &body).is(201);
    }
    source["write_key"].as_str().unwrap().to_owned()
}

/// The changes, one after the other; each is sent until the server is gone, and the next round goes on with the next.
fn changes() -> Vec<(&'static str, &'static str, Value)> {
    let (model, seen, oslo) = ("/api/v1/installations/model", "/api/v1/audiences/seen", "/api/v1/audiences/oslo");
    vec![
        ("PATCH", model, json!({ "mode": "disabled" })),
        ("PATCH", model, json!({ "mode": "live" })),
        ("PATCH", seen, json!({ "condition": "events('Seen').size() > 9" })),
        ("PATCH", seen, json!({ "condition": SEEN })),
        ("PATCH", model, json!({ "version": "0.2.0" })),
        ("POST", "/api/v1/audiences", json!({ "name": "extra", "condition": SEEN })),
        ("PATCH", oslo, json!({ "condition": "tags.hostile == 'Rome' && traits.vip == true" })),
        ("PATCH", oslo, json!({ "condition": OSLO })),
        ("DELETE", "/api/v1/audiences/extra", Value::Null),
        ("PATCH", model, json!({ "version": "0.1.0", "allow_downgrade": true })),
        ("PATCH", model, json!({ "config": { "how": "well", "burn_millions": 1 } })),
    ]
}

/// Make changes until the server is gone; how many were answered.
fn change_until_killed(admin: &Client, first: usize, told: &mpsc::Sender<()>) -> usize {
    let changes = changes();
    let mut next = first;
    loop {
        let (method, path, body) = &changes[next % changes.len()];
        let body = if body.is_null() { String::new() } else { body.to_string() };
        match admin.try_send(method, path, &[("content-type", "application/json")], body) {
            // What a kill has cut off may have been done: the same again is then a conflict, or is no longer there.
            Ok(answer) => assert!(answer.status < 500 || answer.status == 503, "{path}: {}", answer.text()),
            Err(_) => return next,
        }
        next += 1;
        // The killer is gone only when it has seen enough.
        told.send(()).ok();
    }
}

/// Send people until the server is gone; the first that was not answered.
fn arrive_until_killed(client: &Client, first: u64, told: &mpsc::Sender<()>) -> u64 {
    let mut next = first;
    loop {
        let body = json!({ "batch": arrival(next) }).to_string();
        let Ok(answer) = client.try_send("POST", "/v1/batch", &[], body) else { return next };
        if answer.status == 200 {
            next += 1;
            told.send(()).ok();
        }
    }
}

/// The last state of the configuration, whatever came of the changes.
fn restore(admin: &Client) {
    let model = json!({ "mode": "live", "version": "0.2.0", "config": { "how": "well" } });
    admin.patch("/api/v1/installations/model", &model).is(200);
    admin.patch("/api/v1/audiences/seen", &json!({ "condition": SEEN })).is(200);
    admin.patch("/api/v1/audiences/oslo", &json!({ "condition": OSLO })).is(200);
}

/// An exact count. What was under way at the kill is sent again after a start, and a count that reads history while its
/// receipts come in says that it is not exact.
fn count(admin: &Client, condition: &str) -> u64 {
    wait_for("the count is exact", || {
        let answer = admin.post("/api/v1/audiences/count", &json!({ "condition": condition })).is(200);
        if answer["exact"] == true { answer["count"].as_u64() } else { None }
    })
}

/// No count differs from the number of people who were taken.
fn check_counts(admin: &Client, people: u64) {
    let from_oslo = people.div_ceil(2);
    for (condition, expected) in [
        (SEEN, people),
        ("events('Seen', '30d').size() > 0", people),
        (OSLO, from_oslo),
        ("traits.city == 'Oslo'", from_oslo),
        ("tags.hostile_version == '0.2.0'", people),
    ] {
        assert_eq!(count(admin, condition), expected, "{condition}");
    }
    for (name, expected) in [("seen", people), ("oslo", from_oslo)] {
        assert_eq!(admin.get(&format!("/api/v1/audiences/{name}")).is(200)["size"], expected, "{name}");
        assert_eq!(pages(admin, &format!("/api/v1/audiences/{name}/members"), 500).len() as u64, expected, "{name}");
    }
}

/// One id for each person and audience, among what is kept and among what arrived.
fn check_messages(admin: &Client, receiver: &Receiver) {
    let mut kept: BTreeMap<(String, String), usize> = BTreeMap::new();
    for delivery in pages(admin, "/api/v1/deliveries", 500) {
        let name = |field: &str| delivery[field].as_str().unwrap().to_owned();
        *kept.entry((name("audience"), name("profile"))).or_default() += 1;
    }
    assert!(!kept.is_empty(), "nobody was written to");
    kept.retain(|_, deliveries| *deliveries > 1);
    assert!(kept.is_empty(), "more than one delivery: {kept:?}");
    let mut arrived: BTreeMap<String, BTreeSet<String>> = BTreeMap::new();
    for message in receiver.arrived() {
        let data = message.json()["data"].clone();
        let whom = format!("{} {}", data["recipient"], data["payload"]);
        arrived.entry(whom).or_default().insert(message.header("webhook-id").to_owned());
    }
    arrived.retain(|_, ids| ids.len() > 1);
    assert!(arrived.is_empty(), "more than one id: {arrived:?}");
}

fn killed_between_changes(engine: &str, seed: u64) {
    let (folder, receiver, neighbour) = (tempfile::tempdir().unwrap(), Receiver::start(), Arc::default());
    let server = serve(&neighbour, folder.path(), engine, 0);
    let write_key = install(&server.admin(), &receiver);
    assert!(server.terminate().success());
    let mut random = Random::new(seed);
    let (mut next_person, mut next_change) = (0, 0);
    for kill in 1..=cases(KILLS) {
        let server = serve(&neighbour, folder.path(), engine, kill);
        let (admin, client) = (server.admin(), Client::with_write_key(server.url(), &write_key));
        let (enough, spin) = (5 + random.below(40), random.below(3_000_000));
        let (told, seen) = mpsc::channel();
        let (first_person, first_change) = (next_person, next_change);
        std::thread::scope(|scope| {
            let (admin, client, of_people) = (&admin, &client, told.clone());
            let people = scope.spawn(move || arrive_until_killed(client, first_person, &of_people));
            let made = scope.spawn(move || change_until_killed(admin, first_change, &told));
            for _ in 0..enough {
                seen.recv().unwrap();
            }
            // A moment between two steps of whatever it is doing.
            for step in 0..spin {
                black_box(step);
            }
            server.kill();
            next_person = people.join().unwrap();
            next_change = made.join().unwrap();
        });
    }
    let server = serve(&neighbour, folder.path(), engine, cases(KILLS) + 1);
    let admin = server.admin();
    // The person whose answer the last kill cut off is sent again, as a client does.
    let client = Client::with_write_key(server.url(), &write_key);
    client.post("/v1/batch", &json!({ "batch": arrival(next_person) })).is(200);
    restore(&admin);
    // Told to stop with all that follows from this still to do: what it leaves undone is done after the next start.
    server.ask_to_stop();
    assert!(server.wait().success());
    let server = serve(&neighbour, folder.path(), engine, cases(KILLS) + 2);
    settle(&server.admin());
    check_counts(&server.admin(), next_person + 1);
    check_messages(&server.admin(), &receiver);
    assert!(server.terminate().success());
    // From the log alone, as after the loss of the engine.
    std::fs::remove_dir_all(folder.path().join("store").join(format!("engine-{engine}"))).unwrap();
    let server = serve(&neighbour, folder.path(), engine, cases(KILLS) + 3);
    settle(&server.admin());
    check_counts(&server.admin(), next_person + 1);
    check_messages(&server.admin(), &receiver);
    assert!(server.terminate().success());
}

#[test]
fn kills_between_changes_on_sled_send_nothing_twice_and_leave_no_wrong_count() {
    killed_between_changes("sled", 3);
}

#[test]
fn kills_between_changes_on_redb_send_nothing_twice_and_leave_no_wrong_count() {
    killed_between_changes("redb", 4);
}
