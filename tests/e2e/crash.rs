//! Killed in the middle, again and again: what was acknowledged is there exactly once, nothing is half there, and what is
//! computed from it is what an undisturbed server computes. `changes` does it while the configuration is being changed.

mod changes;

use std::collections::{BTreeMap, BTreeSet};
use std::hint::black_box;
use std::path::Path;
use std::sync::{Arc, mpsc};

use kith_model::time::{DAY_MS, Timestamp};
use kith_tests::{Client, Neighbour, Process, Random, TestKernel, component, encode, pages, settle};
use serde_json::{Value, json};

/// How often the server is killed on each engine.
const KILLS: u64 = 30;
/// Clients that send at the same time.
const CLIENTS: u64 = 4;
/// Messages in a batch.
const BATCH: u64 = 100;
const USERS: u64 = 60;
const NOW: &str = "2026-11-21T10:00:00Z";

/// A batch by the client that sends it and its number there; its messages follow from these.
type BatchId = (u64, u64);

fn message_id(batch: BatchId, index: u64) -> String {
    format!("c{}-b{}-m{index}", batch.0, batch.1)
}

/// The message at `index` of a batch.
fn message(batch: BatchId, index: u64) -> Value {
    let mut random = Random::new(batch.0 << 40 | batch.1 << 16 | index);
    let now: Timestamp = NOW.parse().unwrap();
    let at = now.plus_ms(-i64::try_from(random.below(300 * DAY_MS.unsigned_abs())).unwrap());
    let event = if random.below(4) == 0 { "Order Completed" } else { "Page Seen" };
    json!({
        "type": "track", "event": event, "userId": format!("u{}", random.below(USERS)),
        "messageId": message_id(batch, index), "timestamp": at.to_string(), "properties": { "index": index },
    })
}

fn messages(batch: BatchId) -> Vec<Value> {
    (0..BATCH).map(|index| message(batch, index)).collect()
}

/// One client: sends its batches in order, and a batch without an answer again, as real clients do.
struct Sender {
    number: u64,
    next: u64,
    acknowledged: BTreeSet<BatchId>,
}

impl Sender {
    /// Send until the server is gone; every acknowledged batch is told.
    fn send_until_killed(&mut self, client: &Client, told: &mpsc::Sender<()>) {
        loop {
            let batch = (self.number, self.next);
            let body = json!({ "batch": messages(batch) }).to_string();
            let Ok(answer) = client.try_send("POST", "/v1/batch", &[], body) else { return };
            if answer.status == 200 {
                let counts = answer.json();
                let taken = counts["accepted"].as_u64().unwrap() + counts["duplicate"].as_u64().unwrap();
                assert_eq!(taken, BATCH, "{counts}");
                self.acknowledged.insert(batch);
                self.next += 1;
                // The killer is gone only when it has seen enough.
                told.send(()).ok();
            } else {
                assert!(matches!(answer.status, 429 | 503), "{}", answer.text());
            }
        }
    }
}

fn serve(neighbour: &Arc<Neighbour>, folder: &Path, engine: &str) -> Process {
    Process::serve_beside(neighbour, folder, &["--engine", engine, "--clock", NOW])
}

/// Install what the test needs; the write key.
fn install(admin: &Client) -> String {
    let mut write_key = String::new();
    for plugin in ["kith/segment", "kith/lifecycle"] {
        admin.send("POST", "/api/v1/plugins", &[], component(plugin).component.clone()).is(201);
        let installed = admin.post("/api/v1/installations", &json!({ "plugin": plugin })).is(201);
        if let Some(key) = installed["write_key"].as_str() {
            key.clone_into(&mut write_key);
        }
    }
    write_key
}

/// Serve, let the clients send, and kill after some acknowledgements and a little while.
fn round(
    folder: &Path,
    engine: &str,
    write_key: &str,
    neighbour: &Arc<Neighbour>,
    senders: &mut [Sender],
    random: &mut Random,
) {
    let server = serve(neighbour, folder, engine);
    let client = Client::with_write_key(server.url(), write_key);
    let (enough, spin) = (random.below(12), random.below(2_000_000));
    let (told, acknowledgements) = mpsc::channel();
    std::thread::scope(|scope| {
        for sender in senders.iter_mut() {
            let (client, told) = (&client, told.clone());
            scope.spawn(move || sender.send_until_killed(client, &told));
        }
        for _ in 0..enough {
            acknowledgements.recv().unwrap();
        }
        // A moment between two steps of whatever it is doing.
        for step in 0..spin {
            black_box(step);
        }
        server.kill();
    });
}

/// Every stored event by its message id, with its person.
fn stored(admin: &Client) -> BTreeMap<String, Vec<(u64, Value)>> {
    let mut all: BTreeMap<String, Vec<(u64, Value)>> = BTreeMap::new();
    for user in 0..USERS {
        let found = admin.get(&format!("/api/v1/profiles?identifier={}", encode(&format!("user_id:u{user}"))));
        if found.status == 404 {
            continue;
        }
        let path = format!("/api/v1/profiles/{}/events", found.is(200)["id"].as_str().unwrap());
        for event in pages(admin, &path, 500) {
            let id = event["message_id"].as_str().unwrap().to_owned();
            all.entry(id).or_default().push((user, event));
        }
    }
    all
}

fn lifecycles(admin: &Client) -> BTreeMap<u64, Value> {
    let tag = |user: u64| {
        let found = admin.get(&format!("/api/v1/profiles?identifier=user_id:u{user}"));
        (found.status == 200).then(|| (user, found.json()["tags"]["lifecycle"]["value"].clone()))
    };
    (0..USERS).filter_map(tag).collect()
}

/// Check each batch against what is stored; the batches that are there.
fn check_batches(senders: &[Sender], stored: &BTreeMap<String, Vec<(u64, Value)>>) -> Vec<BatchId> {
    let mut there = Vec::new();
    for sender in senders {
        for number in 0..=sender.next {
            let batch = (sender.number, number);
            let present = (0..BATCH).filter(|index| stored.contains_key(&message_id(batch, *index))).count() as u64;
            if sender.acknowledged.contains(&batch) {
                assert_eq!(present, BATCH, "batch {batch:?} was acknowledged");
            } else {
                assert!(present == 0 || present == BATCH, "batch {batch:?} is half there: {present}");
            }
            if present > 0 {
                there.push(batch);
            }
        }
    }
    for (id, copies) in stored {
        assert_eq!(copies.len(), 1, "{id} is there {} times", copies.len());
    }
    for batch in &there {
        for index in 0..BATCH {
            let (user, event) = &stored[&message_id(*batch, index)][0];
            let sent = message(*batch, index);
            assert_eq!(sent["userId"], format!("u{user}"), "{event}");
            assert_eq!((&event["name"], &event["properties"]), (&sent["event"], &sent["properties"]), "{event}");
        }
    }
    assert_eq!(stored.len() as u64, there.len() as u64 * BATCH, "nothing else is there");
    there
}

fn killed_again_and_again(engine: &str, seed: u64) {
    let (folder, neighbour) = (tempfile::tempdir().unwrap(), Arc::default());
    let server = serve(&neighbour, folder.path(), engine);
    let write_key = install(&server.admin());
    assert!(server.terminate().success());
    let mut random = Random::new(seed);
    let mut senders: Vec<Sender> =
        (0..CLIENTS).map(|number| Sender { number, next: 0, acknowledged: BTreeSet::new() }).collect();
    for _ in 0..KILLS {
        round(folder.path(), engine, &write_key, &neighbour, &mut senders, &mut random);
    }
    let server = serve(&neighbour, folder.path(), engine);
    let admin = server.admin();
    settle(&admin);
    let stored = stored(&admin);
    let there = check_batches(&senders, &stored);
    assert!(there.len() as u64 >= KILLS, "the clients hardly sent anything: {} batches", there.len());
    let totals = admin.get("/api/v1/workspace").is(200)["totals"].clone();
    let users: BTreeSet<u64> = stored.values().map(|copies| copies[0].0).collect();
    assert_eq!((&totals["events"], &totals["profiles"]), (&json!(stored.len()), &json!(users.len())));
    assert_eq!(totals["identifiers"], users.len());

    // The same batches, sent to a server that nobody disturbs.
    let calm = TestKernel::start();
    calm.clock.set(NOW.parse().unwrap());
    let sender = Client::with_write_key(calm.url(), &install(&calm.admin()));
    for batch in there {
        sender.post("/v1/batch", &json!({ "batch": messages(batch) })).is(200);
    }
    calm.settle();
    assert_eq!(lifecycles(&admin), lifecycles(&calm.admin()));
    // Of a tenant that nobody attacks nothing is lost, doubled or shown to the other one either: it is compared first.
    assert!(server.terminate().success());
}

#[test]
fn fifteen_kills_on_sled_lose_nothing_and_double_nothing() {
    killed_again_and_again("sled", 1);
}

#[test]
fn fifteen_kills_on_redb_lose_nothing_and_double_nothing() {
    killed_again_and_again("redb", 2);
}
