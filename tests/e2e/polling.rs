//! An API that is asked: page by page, past an answer that puts it off, then for what changed, and once more from its start.
//! Whoever asks for a poll is in the audit log before it begins.

use std::process::Command;

use kith_tests::{ADMIN_KEY, Receiver, TestKernel, kith, wait_for};
use serde_json::{Value, json};

/// What a command of `kith plugin` says.
#[track_caller]
fn said(kernel: &TestKernel, arguments: &[&str]) -> String {
    let mut command = Command::new(kith());
    command.env("KITH_URL", kernel.url()).env("KITH_KEY", ADMIN_KEY).arg("plugin").args(arguments);
    let output = command.output().unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

/// The last poll of the shop, when so many have ended.
#[track_caller]
fn ended(kernel: &TestKernel, count: usize) -> Value {
    wait_for("a poll ends", || {
        let told = kernel.admin().get("/api/v1/installations/shop/polls").is(200);
        let polls = told["polls"].as_array().unwrap();
        let has_ended = told["under_way"] == false && polls.len() >= count && polls[0]["outcome"] != "cut-off";
        assert!(polls.len() <= count, "{told}");
        has_ended.then(|| polls[0].clone())
    })
}

/// The outcome of a poll, and what it brought: events, repeats, rejected.
fn brought(poll: &Value) -> (&str, [u64; 3]) {
    let figure = |name: &str| poll[name].as_u64().unwrap();
    (poll["outcome"].as_str().unwrap(), ["events", "repeats", "rejected"].map(figure))
}

fn order(id: u64, updated_at: &str) -> Value {
    json!({ "id": id, "customer": "ada", "total": 10 * id, "updated_at": updated_at })
}

/// The installation `shop`, which asks `host` for orders.
fn installation(host: &str) -> Value {
    json!({
        "name": "shop",
        "config": {
            "url": format!("http://{host}/v1"),
            "headers": { "Authorization": "Bearer {token}" },
            "resources": [{
                "name": "orders", "path": "/orders", "records": "orders", "id": "id",
                "paging": { "style": "link", "size": 2 },
                "since": { "parameter": "updated_since", "field": "updated_at" },
                "event": { "name": "Order Completed" }, "identifiers": { "user_id": "customer" },
                "time": { "path": "updated_at" },
            }],
        },
        "grants": { "http": [host], "secrets": { "token": [host] } },
        "secrets": { "token": "the-key-of-the-shop" },
    })
}

#[test]
fn an_api_is_read_page_by_page_and_then_for_what_changed() {
    let kernel = TestKernel::start();
    let shop = Receiver::start();
    let host = shop.host();
    let [one, two, three] =
        [order(1, "2026-11-20T08:00:00Z"), order(2, "2026-11-20T09:00:00Z"), order(3, "2026-11-20T10:00:00Z")];
    let link = format!("<http://{host}/v1/orders?page=2>; rel=\"next\"");
    let with_next = [("link", link.as_str())];
    shop.will_answer_json(&with_next, &json!({ "orders": [one, two] }));
    shop.will_answer(429, &[("retry-after", "30")]);
    kernel.install("kith/http-pull", installation(&host));
    // The first page is kept, the second is put off, and later only that one is asked for.
    let poll = ended(&kernel, 1);
    assert_eq!(brought(&poll), ("later", [2, 0, 0]), "{poll}");
    assert!(poll["reason"].as_str().unwrap().contains("status 429"), "{poll}");
    shop.will_answer_json(&[], &json!({ "orders": [three] }));
    kernel.clock.advance_ms(120_000);
    let poll = ended(&kernel, 2);
    assert_eq!(brought(&poll), ("complete", [1, 0, 0]), "{poll}");

    // At a person's word: what comes again is no event, what changed is one, and what is no order is set aside.
    let changed = order(1, "2026-11-21T09:00:00Z");
    shop.will_answer_json(&[], &json!({ "orders": [three, 7, changed] }));
    said(&kernel, &["poll", "shop"]);
    let poll = ended(&kernel, 3);
    assert_eq!(brought(&poll), ("complete", [1, 1, 1]), "{poll}");
    // From the start: the same orders are the same events.
    shop.will_answer_json(&with_next, &json!({ "orders": [changed, two] }));
    shop.will_answer_json(&[], &json!({ "orders": [three] }));
    said(&kernel, &["poll", "shop", "--from-start"]);
    let poll = ended(&kernel, 4);
    assert_eq!(brought(&poll), ("complete", [0, 3, 0]), "{poll}");

    let arrived = shop.arrived();
    let asked: Vec<&str> = arrived.iter().map(|request| request.path.as_str()).collect();
    let expected = [
        "/v1/orders?limit=2",
        "/v1/orders?page=2",
        "/v1/orders?page=2",
        "/v1/orders?limit=2&updated_since=2026-11-20T09%3A59%3A00Z",
        "/v1/orders?limit=2",
        "/v1/orders?page=2",
    ];
    assert_eq!(asked, expected);
    assert!(arrived.iter().all(|request| request.header("authorization") == "Bearer the-key-of-the-shop"));
    kernel.settle();
    let mut totals: Vec<u64> =
        kernel.events("user_id:ada").iter().map(|event| event["properties"]["total"].as_u64().unwrap()).collect();
    totals.sort_unstable();
    assert_eq!(totals, [10, 10, 20, 30]);
    let history = said(&kernel, &["polls", "shop"]);
    assert!(history.contains("15m") && history.contains("status 429"), "{history}");
    assert_eq!(history.matches("complete").count(), 3, "{history}");

    // What cannot be written into the audit log is not done.
    let admin = kernel.admin();
    let next_at = || admin.get("/api/v1/installations/shop/polls").is(200)["next_at"].clone();
    let before = next_at();
    admin.patch("/api/v1/workspaces/default", &json!({ "budgets": { "settings-written": 1 } })).is(200);
    // The last change may write more than is left.
    drop(admin.post("/api/v1/keys", &json!({ "title": "last", "scopes": ["audiences:read"] })));
    admin.post("/api/v1/installations/shop/poll", &json!({ "from_start": true })).is(429);
    ended(&kernel, 4);
    assert_eq!(next_at(), before);
}
