//! What an expression may cost, and how many questions about everybody there may be.

use std::net::TcpStream;

use kith_tests::{ADMIN_KEY, Answer, Client, settle, wait_for};
use serde_json::{Value, json};

use super::{Attack, Ground, first, names, walk};

pub(super) const ATTACKS: &[Attack] = &[
    ("expression-text", expression_text),
    ("expression-steps", expression_steps),
    ("expression-bytes", expression_bytes),
    ("questions-waiting", questions_waiting),
];

#[test]
fn an_expression_costs_so_much_and_no_more() {
    let ground = Ground::of_process(&[]);
    ground.install("kith/segment", json!({ "name": "segment" })).is(201);
    walk(&ground, ATTACKS);
}

fn count(caller: &Client, condition: &str) -> Answer {
    caller.post("/api/v1/audiences/count", &json!({ "condition": condition }))
}

/// Insist on a refusal that says what is wrong with the condition.
#[track_caller]
fn says(answer: &Answer, what: &str) {
    let problem = answer.is_some_problem();
    assert!(answer.status == 400 && problem["errors"][0]["path"] == "condition", "{problem}");
    assert!(problem.to_string().contains(what), "{problem}");
}

fn expression_text(ground: &Ground) {
    let long = format!("traits.city == '{}'", "x".repeat(8_192));
    says(&count(&ground.admin, &long), "at most 8192 are taken");
}

/// Lists within lists, so often that it is dear whatever it meets.
fn expression_steps(ground: &Ground) {
    says(&count(&ground.admin, &nested(4)), "steps for one person");
}

fn nested(loops: usize) -> String {
    let open: String = (0..loops).map(|depth| format!("traits.list.exists(v{depth}, ")).collect();
    format!("{open}v0 == 'nobody'{}", ")".repeat(loops))
}

/// Send people to the segment source.
fn send(ground: &Ground, people: std::ops::Range<usize>, traits: impl Fn(usize) -> Value) {
    let sender = ground.sender();
    let people: Vec<usize> = people.collect();
    for part in people.chunks(500) {
        let person =
            |number: &usize| json!({ "type": "identify", "userId": format!("p{number}"), "traits": traits(*number) });
        let batch = json!({ "batch": part.iter().map(person).collect::<Vec<_>>() });
        let answer = wait_for("the batch is taken", || {
            Some(sender.post("/v1/batch", &batch)).filter(|answer| answer.status != 429)
        });
        let taken = answer.is(200);
        assert_eq!(taken["accepted"], part.len(), "{}", taken["rejected"]);
    }
}

/// Names of fields are as long as whoever sends them likes, and a copy of a list has all of them.
fn expression_bytes(ground: &Ground) {
    let entry = json!({ "n".repeat(6_000): 1 });
    send(ground, 0..1, |_| json!({ "bag": [entry, entry, entry, entry] }));
    let condition = format!("({}).size() == 7", ["traits.bag"; 40].join(" + "));
    ground.admin.post("/api/v1/audiences", &json!({ "name": "bags", "condition": condition })).is(201);
    let audience = wait_for("the condition is set aside", || {
        Some(ground.admin.get("/api/v1/audiences/bags").is(200)).filter(|audience| audience["fault"].is_object())
    });
    assert_eq!(audience["fault"]["people"], 1, "{audience}");
    ground.admin.delete("/api/v1/audiences/bags").is(204);
}

/// Everybody has a list that takes a while: one question is worked at and eight wait.
fn questions_waiting(ground: &Ground) {
    // Lists that are the same would be looked at once.
    let list = |number: usize| (0..140).map(|item| format!("{number} {item}")).collect::<Vec<_>>();
    send(ground, 0..3_000, |number| json!({ "list": list(number) }));
    settle(&ground.admin);
    let body = json!({ "condition": nested(2) }).to_string();
    let ask = || -> TcpStream {
        let head = format!(
            "POST /api/v1/audiences/count HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n\
             content-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
            body.len()
        );
        ground.connection(head.as_bytes())
    };
    let mut all: Vec<TcpStream> = (0..12).map(|_| ask()).collect();
    names(&first(&mut all), 429, "questions-waiting");
}
