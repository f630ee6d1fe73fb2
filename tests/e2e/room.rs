//! A disk that is nearly full: whatever would be stored is refused with one code and one true hint, what is there is read, the
//! server says so to whoever watches it, and goes on where there is room again.

use std::path::Path;
use std::sync::Arc;

use kith_tests::{ADMIN_KEY, Answer, Client, Neighbour, Process, wait_until};
use serde_json::{Value, json};

/// More than any disk has, in MiB: it is full from the start.
const ALL_OF_IT: [&str; 2] = ["--disk-reserve", "16777216"];
const LITTLE: [&str; 2] = ["--disk-reserve", "128"];

fn track(id: &str) -> Value {
    json!({ "type": "track", "event": "Called", "userId": "ada", "messageId": id })
}

fn uploaded(admin: &Client, plugin: &str) -> Answer {
    admin.send("POST", "/api/v1/plugins", &[], kith_tests::component(plugin).component.clone())
}

/// A figure of the server.
fn figure(admin: &Client, name: &str) -> f64 {
    let text = admin.get("/metrics").text();
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ')).unwrap_or("no such figure");
    line.parse().unwrap_or_else(|_| panic!("{name}: {line}"))
}

/// A server that was filled with a little of everything, and its write key.
fn filled(data: &Path, neighbour: &Arc<Neighbour>) -> String {
    let process = Process::serve_beside(neighbour, data, &LITTLE);
    let admin = process.admin();
    assert_eq!(uploaded(&admin, "kith/segment").status, 201);
    let installed = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
    let write_key = installed["write_key"].as_str().unwrap().to_owned();
    let sender = Client::with_write_key(process.url(), &write_key);
    sender.post("/v1/batch", &json!({ "batch": [track("m1"), track("m2")] })).is(200);
    sender.post("/v1/identify", &json!({ "userId": "eve", "messageId": "i1" })).is(200);
    admin.post("/api/v1/audiences", &json!({ "name": "all", "condition": "true" })).is(201);
    // Where nothing can be stored nothing is computed, so that it must be before.
    wait_until("it is computed", || admin.get("/api/v1/audiences/all").json()["size"] == 2);
    admin.get("/readyz").is(200);
    assert_eq!(figure(&admin, "kith_disk_full"), 0.0);
    assert_eq!(figure(&admin, "kith_disk_reserve_bytes"), f64::from(128 << 20));
    assert!(process.terminate().success());
    write_key
}

/// Everything that stores something, each in its own way.
fn writes(write_key: &str) -> Vec<(&'static str, String, Value)> {
    let change = |method, path: &str, body| (method, format!("/api/v1/{path}"), body);
    let send = |path: String, body| ("POST", path, body);
    vec![
        send(format!("/hooks/{write_key}"), track("m3")),
        change("POST", "sources/segment/records", track("m3")),
        change("POST", "sources/segment/records?import=file", track("m3")),
        change("POST", "audiences", json!({ "name": "more", "condition": "true" })),
        change("PATCH", "audiences/all", json!({ "condition": "false" })),
        change("DELETE", "audiences/all", Value::Null),
        change("POST", "keys", json!({ "title": "more", "scopes": ["profiles:read"] })),
        change("PATCH", "installations/segment", json!({ "mode": "disabled" })),
        change("POST", "installations", json!({ "plugin": "kith/segment", "name": "more" })),
        change("PUT", "dictionary/event/Called", json!({ "meaning": "somebody called" })),
        change("PUT", "rules", json!({ "rules": [{ "id": "r", "do": "drop", "what": "event", "name": "Called" }] })),
        change("PUT", "tracking-plans/segment", json!({ "events": { "Called": {} } })),
        change("POST", "suppressions", json!({ "identifiers": ["user_id:eve"], "reason": "complained" })),
        change("POST", "identity/merges", json!({ "winner": "user_id:ada", "loser": "user_id:eve" })),
        change("POST", "workspaces", json!({ "name": "shop", "time_zone": "UTC" })),
        change("PATCH", "workspaces/default", json!({ "title": "Another" })),
    ]
}

#[track_caller]
fn is_refused(answer: &Answer, what: &str) {
    assert_eq!(answer.status, 503, "{what}: {}", answer.text());
    let problem = answer.is_problem(503, "disk-full");
    assert!(problem["message"].as_str().unwrap().contains("whoever runs it makes room"), "{what}: {problem}");
    assert_eq!(answer.header("retry-after"), "60", "{what}");
}

/// Readiness stayed 200 while every write was answered 503, the code was `store-unavailable` for senders and `disk-full` for
/// admins, and a restart did not come up.
#[test]
fn a_full_disk_refuses_what_would_be_stored_and_serves_the_rest() {
    let (folder, neighbour) = (tempfile::tempdir().unwrap(), Arc::default());
    let data = folder.path().join("data");
    let write_key = filled(&data, &neighbour);

    let process = Process::serve_beside(&neighbour, &data, &ALL_OF_IT);
    let (admin, sender) = (process.admin(), Client::with_write_key(process.url(), &write_key));
    let stranger = Client::new(process.url(), None);
    let ready = stranger.get("/readyz").is(503);
    assert_eq!(ready["status"], "disk-full", "{ready}");
    assert!(ready["problem"].as_str().unwrap().contains("--disk-reserve"), "{ready}");
    stranger.get("/healthz").is(200);
    assert_eq!(figure(&admin, "kith_disk_full"), 1.0);
    assert!(figure(&admin, "kith_disk_free_bytes") < figure(&admin, "kith_disk_reserve_bytes"));

    is_refused(&sender.post("/v1/batch", &json!({ "batch": [track("m3")] })), "a batch");
    is_refused(&sender.post("/v1/track", &track("m3")), "a call");
    is_refused(&uploaded(&admin, "kith/csv"), "an upload");
    for (method, path, body) in writes(&write_key) {
        let answer = admin.send(method, &path, &[("content-type", "application/json")], body.to_string());
        is_refused(&answer, &format!("{method} {path}"));
    }

    // Nothing was, and all of it is read.
    wait_until("it is computed", || admin.get("/api/v1/audiences/all").json()["size"] == 2);
    assert_eq!(admin.post("/api/v1/audiences/count", &json!({ "condition": "true" })).is(200)["count"], 2);
    let ada = admin.get("/api/v1/profiles?identifier=user_id:ada").is(200);
    let events = admin.get(&format!("/api/v1/profiles/{}/events", ada["id"].as_str().unwrap())).is(200);
    assert_eq!(events["items"].as_array().unwrap().len(), 2, "{events}");
    for list in ["audiences", "keys", "installations", "dead-letters", "audit", "workspace", "catalog"] {
        admin.get(&format!("/api/v1/{list}")).is(200);
    }
    // The neighbour's event waits for room as well, and what was taken before is there.
    neighbour.compare(process.url());
    process.ask_to_stop();
    assert!(process.wait().success());

    let process = Process::serve_beside(&neighbour, &data, &LITTLE);
    let sender = Client::with_write_key(process.url(), &write_key);
    process.admin().get("/readyz").is(200);
    let taken = sender.post("/v1/batch", &json!({ "batch": [track("m1"), track("m3")] })).is(200);
    assert_eq!((&taken["accepted"], &taken["duplicate"]), (&json!(1), &json!(1)), "{taken}");
    assert!(process.terminate().success());
}

/// A new directory has nothing to serve: it is not made, and may be made once there is room.
#[test]
fn a_new_directory_needs_room() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let mut command = std::process::Command::new(kith_tests::kith());
    command.args(["serve", "--listen", "127.0.0.1:0", "--admin-key", ADMIN_KEY, "--data"]).arg(&data).args(ALL_OF_IT);
    let ended = command.output().unwrap();
    let said = String::from_utf8_lossy(&ended.stderr);
    assert!(!ended.status.success() && said.contains("keep less in reserve"), "{said}");
    let neighbour = Arc::new(Neighbour::through("hostile/connector"));
    let process = Process::serve_beside(&neighbour, &data, &LITTLE);
    process.admin().get("/api/v1/workspace").is(200);
    assert!(process.terminate().success());
}
