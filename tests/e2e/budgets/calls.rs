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
    ("guest-host-calls", guest_host_calls),
    ("secret-places", secret_places),
];

#[test]
fn a_call_takes_so_much_and_no_more() {
    walk(&Ground::of_process(&[]), ATTACKS);
}

fn guest_memory(ground: &Ground) {
    ground.hostile("memory", json!({ "memory_bytes": 16 << 20 }))("memory").is_problem(413, "limit.memory");
}

fn guest_processor(ground: &Ground) {
    ground.hostile("processor", json!({ "cpu_ms": 300 }))("loop").is_problem(413, "limit.cpu");
}

fn guest_time(ground: &Ground) {
    ground.receiver.hold();
    let body = format!("hold 0 http://{}/", ground.receiver.host());
    ground.hostile("time", json!({ "wall_ms": 500 }))(&body).is_problem(413, "limit.wall");
    ground.receiver.release();
}

fn guest_output(ground: &Ground) {
    ground.hostile("output", json!({ "output_bytes": 1 << 20 }))("texts ada 100 100000")
        .is_problem(413, "limit.output");
}

fn guest_log(ground: &Ground) {
    let answer = ground.hostile("log", json!({ "log_bytes": 4_096 }))("log 1000");
    assert_eq!(answer.is_some_problem()["code"], "limit.log");
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
