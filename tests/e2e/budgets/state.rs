//! What an installation writes to its state.

use kith_tests::Answer;
use serde_json::json;

use super::{Attack, Ground, walk};

pub(super) const ATTACKS: &[Attack] = &[
    ("kv-kept", kv_kept),
    ("kv-call-commits", kv_call_commits),
    ("kv-commits", kv_commits),
    ("kv-written", kv_written),
];

#[test]
fn an_installations_state_has_an_end() {
    walk(&Ground::of_process(&[]), ATTACKS);
}

/// Install the hostile connector with so much state; what sends to it.
fn keeper<'a>(ground: &'a Ground, name: &str, kv_bytes: u64) -> impl Fn(&str) -> Answer + use<'a> {
    ground.install("hostile/connector", json!({ "name": name, "grants": { "kv_bytes": kv_bytes } })).is(201);
    let path = format!("/api/v1/sources/{name}/records");
    move |body| ground.admin.send("POST", &path, &[], body)
}

/// How many writes the last call was let make: the connector says so in an event.
fn wrote(ground: &Ground) -> u64 {
    let person = ground.admin.get("/api/v1/profiles?identifier=user_id:writer").is(200);
    let events = format!("/api/v1/profiles/{}/events?limit=1", person["id"].as_str().unwrap());
    let events = ground.admin.get(&events).is(200);
    events["items"][0]["name"].as_str().unwrap().trim_start_matches("Wrote ").parse().unwrap()
}

fn kv_kept(ground: &Ground) {
    let send = keeper(ground, "kept", 100_000);
    send("set 3 40000").is(200);
    assert_eq!(wrote(ground), 2, "the third has no room");
}

fn kv_call_commits(ground: &Ground) {
    let send = keeper(ground, "commits", 1 << 20);
    send("delete 1001 1").is(200);
    assert_eq!(wrote(ground), 1_000);
}

/// A hundred calls with all that one may make use an hour's up.
fn kv_commits(ground: &Ground) {
    let send = keeper(ground, "hour", 1 << 20);
    let before = ground.refusals("kv-commits");
    let used = (0..150).any(|_| {
        send("delete 1000 1").is(200);
        ground.refusals("kv-commits") > before
    });
    assert!(used && wrote(ground) < 1_000, "{}", wrote(ground));
}

/// Sixteen calls with all that one may write use an hour's up.
fn kv_written(ground: &Ground) {
    let send = keeper(ground, "bytes", 16 << 20);
    let before = ground.refusals("kv-written");
    let used = (0..25).any(|_| {
        send("set 250 65000").is(200);
        ground.refusals("kv-written") > before
    });
    assert!(used && wrote(ground) < 250, "{}", wrote(ground));
}
