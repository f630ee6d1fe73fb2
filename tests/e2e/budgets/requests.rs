//! What one request may bring, and how long it may take.

use kith_tests::{Answer, Client, SIGNING_SECRET, TestKernel, gzip, wait_for, wait_until};
use serde_json::{Value, json};

use super::{Attack, Ground, first, is_exhausted, walk};

pub(super) const ATTACKS: &[Attack] = &[
    ("client-body", client_body),
    ("stranger-body", stranger_body),
    ("json-body", json_body),
    ("title-text", title_text),
    ("purpose-text", purpose_text),
    ("payload-text", payload_text),
    ("secret-text", secret_text),
    ("rejected-parts", rejected_parts),
    ("rejected-kept", rejected_kept),
];

#[test]
fn a_request_brings_so_much_and_no_more() {
    let ground = Ground::of_process(&[]);
    let host = ground.receiver.host();
    let webhook = json!({
        "name": "webhook", "config": { "url": format!("http://{host}/") },
        "grants": { "http": [host], "secrets": { "signing": [host] } }, "secrets": { "signing": SIGNING_SECRET },
    });
    ground.install("kith/webhook", webhook).is(201);
    ground.install("kith/segment", json!({ "name": "segment" })).is(201);
    walk(&ground, ATTACKS);
}

pub(super) const SLOW: &[Attack] = &[("head-time", head_time), ("body-time", body_time), ("fit-time", fit_time)];

#[test]
fn who_is_slow_is_not_waited_for() {
    let kernel = TestKernel::start_with(|config| {
        config.http.head_timeout = std::time::Duration::from_secs(3);
        config.http.body_timeout = std::time::Duration::from_secs(3);
        config.ceiling.fit_wall_ms = 300;
    });
    walk(&Ground::of_kernel(kernel), SLOW);
}

pub(super) const LONG: &[Attack] = &[("stream-body", stream_body), ("fit-processor", fit_processor)];

#[test]
fn a_stream_and_a_fit_have_an_end() {
    let kernel = TestKernel::start_with(|config| {
        config.http.max_stream_bytes = 1 << 20;
        config.ceiling.fit_cpu_ms = 300;
    });
    walk(&Ground::of_kernel(kernel), LONG);
}

/// Insist on the answer to a body that is too large.
#[track_caller]
fn is_too_large(answer: &Answer, budget: &str) {
    let problem = answer.is_problem(413, "too-large");
    assert_eq!(problem["budget"], budget, "{problem}");
}

fn client_body(ground: &Ground) {
    let sender = ground.sender();
    let spaces = vec![b' '; (10 << 20) + 1];
    is_too_large(&sender.send("POST", "/v1/batch", &[], gzip(&spaces)), "client-body");
    is_too_large(&sender.send("POST", "/v1/batch", &[], spaces), "client-body");
}

fn stranger_body(ground: &Ground) {
    let stranger = Client::new(&ground.url, None);
    is_too_large(&stranger.send("POST", "/v1/batch", &[], vec![b' '; (512 << 10) + 1]), "stranger-body");
}

fn json_body(ground: &Ground) {
    let json = [("content-type", "application/json")];
    is_too_large(&ground.admin.send("POST", "/api/v1/keys", &json, vec![b' '; (1 << 20) + 1]), "json-body");
}

fn title_text(ground: &Ground) {
    let title = "t".repeat(257);
    let admin = &ground.admin;
    let key = json!({ "title": title, "scopes": ["ingest"] });
    is_exhausted(&admin.post("/api/v1/keys", &key), 413, "title-text");
    let audience = json!({ "name": "a", "title": title, "condition": "true" });
    is_exhausted(&admin.post("/api/v1/audiences", &audience), 413, "title-text");
    let workspace = json!({ "name": "a", "title": title, "time_zone": "UTC" });
    is_exhausted(&admin.post("/api/v1/workspaces", &workspace), 413, "title-text");
}

/// Define an audience that writes to whoever enters it.
fn writing(ground: &Ground, purpose: &str, payload: &Value) -> Answer {
    let action = json!({ "channel": "webhook", "purpose": purpose, "payload": payload });
    ground.admin.post("/api/v1/audiences", &json!({ "name": "writes", "condition": "true", "on_enter": action }))
}

fn purpose_text(ground: &Ground) {
    is_exhausted(&writing(ground, &"p".repeat(65), &json!({})), 413, "purpose-text");
    // Of two bytes as written and of three in lower case.
    is_exhausted(&writing(ground, &"\u{23a}".repeat(22), &json!({})), 413, "purpose-text");
}

fn payload_text(ground: &Ground) {
    is_exhausted(&writing(ground, "news", &json!({ "text": "x".repeat(64 << 10) })), 413, "payload-text");
}

fn secret_text(ground: &Ground) {
    let secret = json!({ "secrets": { "signing": "x".repeat((4 << 10) + 1) } });
    is_exhausted(&ground.admin.patch("/api/v1/installations/webhook", &secret), 413, "secret-text");
}

/// How many rows are set aside in the workspace.
fn set_aside(ground: &Ground) -> u64 {
    ground.admin.get("/api/v1/workspace").is(200)["totals"]["set_aside"].as_u64().unwrap()
}

/// A batch of parts that are no messages, unlike those of any other batch.
fn junk(sender: &Client, batch: usize, parts: usize) {
    let parts: Vec<Value> =
        (0..parts).map(|number| json!({ "type": "nonsense", "batch": batch, "number": number })).collect();
    let answer = wait_for("the batch is taken", || {
        let answer = sender.post("/v1/batch", &json!({ "batch": parts }));
        (answer.status != 429).then_some(answer)
    });
    assert_eq!(answer.is(200)["rejected_count"], parts.len());
}

fn rejected_parts(ground: &Ground) {
    let before = set_aside(ground);
    junk(&ground.sender(), 0, 1_000);
    wait_until("they are kept", || set_aside(ground) > before);
    // One row more for all the others.
    assert_eq!(set_aside(ground) - before, 101);
}

fn rejected_kept(ground: &Ground) {
    let sender = ground.sender();
    (1..106).for_each(|batch| junk(&sender, batch, 100));
    assert!(set_aside(ground) <= 10_000, "{}", set_aside(ground));
}

/// Neither a connection that says nothing nor one that begins and stops.
fn head_time(ground: &Ground) {
    for sent in ["", "GET /healthz HT"] {
        let mut mute = ground.connection(sent.as_bytes());
        assert_eq!(first(std::slice::from_mut(&mut mute)), "", "its connection ends");
    }
}

fn body_time(ground: &Ground) {
    let mut slow = ground.upload("/api/v1/audiences", 1_000, "", b"{");
    let answer = first(std::slice::from_mut(&mut slow));
    assert!(answer.starts_with("HTTP/1.1 408 ") && answer.contains("\"too-slow\""), "{answer}");
}

/// A fit that would go on for minutes; what is said of its end.
fn endless_fit(ground: &Ground) -> String {
    let config = json!({ "how": "well", "burn_fit_millions": 10_000_000 });
    ground.install("hostile/tag-model", json!({ "name": "model", "config": config })).is(201);
    ground.admin.post("/api/v1/installations/model/fit", &json!({})).is(202);
    let fit = wait_for("the fit ends", || {
        let fits = ground.admin.get("/api/v1/installations/model/fits").is(200);
        Some(fits["items"][0].clone()).filter(|fit| fit["status"] != "running")
    });
    assert_eq!(fit["status"], "failed", "{fit}");
    fit["error"].as_str().unwrap().to_owned()
}

fn fit_processor(ground: &Ground) {
    let said = endless_fit(ground);
    assert!(said.contains("passed the limit of 300 ms of processor time"), "{said}");
}

fn fit_time(ground: &Ground) {
    let said = endless_fit(ground);
    assert!(said.contains("passed the limit of 300 ms") && !said.contains("processor"), "{said}");
}

fn stream_body(ground: &Ground) {
    let send = ground.hostile("stream", json!({}));
    is_too_large(&send(&"x".repeat(2 << 20)), "stream-body");
}
