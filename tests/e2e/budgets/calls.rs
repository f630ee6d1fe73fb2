//! What one call of a plugin may take.

use kith_tests::SIGNING_SECRET;
use serde_json::json;

use super::{Attack, Ground, walk};

pub(super) const ATTACKS: &[Attack] = &[
    ("guest-memory", guest_memory),
    ("guest-processor", guest_processor),
    ("guest-time", guest_time),
    ("guest-output", guest_output),
    ("guest-log", guest_log),
    ("guest-log-kept", guest_log_kept),
    ("guest-host-calls", guest_host_calls),
    ("secret-places", secret_places),
];

#[test]
fn a_call_takes_so_much_and_no_more() {
    walk(&Ground::of_process(&[]), ATTACKS);
}

fn guest_memory(ground: &Ground) {
    ground.hostile("memory", json!({ "memory_bytes": 16 << 20 }))("memory").is_problem(500, "limit.memory");
}

fn guest_processor(ground: &Ground) {
    ground.hostile("processor", json!({ "cpu_ms": 300 }))("loop").is_problem(500, "limit.cpu");
}

fn guest_time(ground: &Ground) {
    ground.receiver.hold();
    let body = format!("hold 0 http://{}/", ground.receiver.host());
    ground.hostile("time", json!({ "wall_ms": 500 }))(&body).is_problem(503, "limit.wall");
    ground.receiver.release();
}

fn guest_output(ground: &Ground) {
    ground.hostile("output", json!({ "output_bytes": 1 << 20 }))("texts ada 100 100000")
        .is_problem(500, "limit.output");
}

fn guest_log(ground: &Ground) {
    ground.hostile("log", json!({ "log_bytes": 4_096 }))("log 1000").is(200);
    let usage = ground.admin.get("/api/v1/installations/log/usage").is(200);
    let [came, cut] = ["log_lines", "log_lines_cut"].map(|name| usage[name].as_u64().unwrap());
    assert!(came >= 1_000 && (1..came).contains(&cut), "{usage}");
}

fn guest_log_kept(ground: &Ground) {
    let log = ground.hostile("log-kept", json!({}));
    let logs = || ground.admin.get("/api/v1/installations/log-kept/logs?from=0&limit=500").is(200);
    let mut told = logs();
    for _ in 0..100 {
        log("log 1000").is(200);
        told = logs();
        if told["gone"].as_u64().unwrap() > 0 {
            break;
        }
    }
    assert!(told["gone"].as_u64().unwrap() > 0, "the oldest go: {told}");
    let kept: usize = told["items"].as_array().unwrap().iter().map(|line| line["text"].as_str().unwrap().len()).sum();
    assert!(kept <= 64 << 10, "{kept}");
}

fn guest_host_calls(ground: &Ground) {
    let answer = ground.hostile("host-calls", json!({ "host_calls": 100 }))("delete 1000 1");
    assert_eq!(answer.is_some_problem()["code"], "limit.host-calls");
}

fn secret_places(ground: &Ground) {
    let host = ground.receiver.host();
    let grants = json!({ "http": [host], "secrets": { "token": [host] } });
    let wanted = json!({ "name": "secrets", "grants": grants, "secrets": { "token": SIGNING_SECRET } });
    ground.install("hostile/connector", wanted).is(201);
    let send = |times: usize| {
        let body = format!("secrets {times} http://{host}/");
        ground.admin.send("POST", "/api/v1/sources/secrets/records", &[], body).is(200);
        ground.receiver.arrived().last().map_or(0, |arrived| arrived.body.len())
    };
    assert_eq!(send(16), 16 * SIGNING_SECRET.len());
    let before = ground.receiver.arrived().len();
    send(17);
    assert_eq!(ground.receiver.arrived().len(), before, "it does not leave");
}
