//! Stopped and started again: everything that was there is there.

use kith_tests::{Client, SIGNING_SECRET, TestKernel};
use serde_json::{Value, json};

/// Leave out how far the log was read.
fn without_positions(seen: &mut Value) {
    match seen {
        Value::Object(fields) => {
            fields.retain(|name, _| !matches!(name.as_str(), "as_of" | "head" | "reacted"));
            fields.values_mut().for_each(without_positions);
        }
        Value::Array(items) => items.iter_mut().for_each(without_positions),
        _ => {}
    }
}

#[test]
fn everything_outlives_a_restart() {
    let mut kernel = TestKernel::start();
    let source = kernel.segment();
    kernel.install("kith/lifecycle", json!({}));
    kernel.install("kith/rfm", json!({}));
    let orders: Vec<Value> = (0..60)
        .map(|number| {
            json!({ "type": "track", "event": "Order Completed", "userId": format!("u{}", number % 20),
                "messageId": format!("m{number}"), "timestamp": format!("2026-{:02}-10T10:00:00Z", number % 11 + 1),
                "properties": { "total": number } })
        })
        .collect();
    source.batch(&orders);
    let audience = json!({ "name": "buyers", "condition": "tags.rfm_monetary >= 4" });
    kernel.admin().post("/api/v1/audiences", &audience).is(201);
    kernel.settle();
    kernel.fit("rfm");
    kernel.settle();
    let reader = kernel.key(&["profiles:read", "audiences:read"]);
    let look = |kernel: &TestKernel| -> Vec<Value> {
        let lists = [
            "plugins",
            "installations",
            "installations/rfm/fits",
            "audiences",
            "keys",
            "audit?action=installation.",
            "workspace",
        ];
        let mut seen: Vec<Value> =
            lists.iter().map(|list| kernel.admin().get(&format!("/api/v1/{list}")).is(200)).collect();
        seen.push(kernel.admin().get("/api/v1/audiences/buyers/members?limit=500").is(200));
        seen.extend((0..20).map(|user| kernel.profile(&format!("user_id:u{user}"))));
        seen.extend((0..20).map(|user| json!(kernel.events(&format!("user_id:u{user}")))));
        seen
    };
    let before = look(&kernel);
    assert!(before[3]["items"][0]["size"].as_u64().unwrap() > 0, "{}", before[3]);
    assert!(before[5].to_string().contains("installation.fitted"), "{}", before[5]);
    kernel.restart();
    kernel.settle();
    for (before, mut after) in before.into_iter().zip(look(&kernel)) {
        let mut before = before;
        // The log is all workspaces' together, and others go on in it.
        for seen in [&mut before, &mut after] {
            without_positions(seen);
        }
        assert_eq!(before, after);
    }
    // Keys work, repeats are recognised, and computing goes on.
    assert_eq!(kernel.caller(&reader).get("/api/v1/audiences").status, 200);
    let sender = Client::with_write_key(kernel.url(), &source.write_key);
    assert_eq!(sender.post("/v1/batch", &json!({ "batch": orders })).is(200)["duplicate"], 60);
    let order = json!({ "type": "track", "event": "Order Completed", "userId": "new", "messageId": "new",
        "properties": { "total": 5_000 } });
    sender.post("/v1/batch", &json!({ "batch": [order] })).is(200);
    kernel.settle();
    let new = kernel.profile("user_id:new");
    assert_eq!(new["tags"]["rfm_monetary"]["value"], 5, "by the bounds that were fitted before: {new}");
    assert_eq!(new["tags"]["lifecycle"]["value"], "new");
}

#[test]
fn secrets_outlive_a_restart_and_are_nowhere_in_the_open() {
    let mut kernel = TestKernel::start();
    let receiver = kith_tests::Receiver::start();
    let host = receiver.host();
    kernel.install(
        "kith/webhook",
        json!({
            "config": { "url": format!("http://{host}/") },
            "grants": { "http": [host], "secrets": { "signing": [host] } },
            "secrets": { "signing": SIGNING_SECRET },
        }),
    );
    let source = kernel.segment();
    let audience = json!({ "name": "all", "condition": "true",
        "on_enter": { "channel": "webhook", "purpose": "x", "basis": "not_refused", "payload": {} } });
    kernel.admin().post("/api/v1/audiences", &audience).is(201);
    kernel.settle();
    kernel.restart();
    let sender = Client::with_write_key(kernel.url(), &source.write_key);
    let ada = json!({ "type": "identify", "userId": "ada", "messageId": "i" });
    sender.post("/v1/batch", &json!({ "batch": [ada] })).is(200);
    let arrived = kith_tests::wait_for("it is delivered", || receiver.arrived().pop());
    assert!(arrived.is_signed_with(SIGNING_SECRET));
    let hidden = [SIGNING_SECRET, kith_tests::ADMIN_KEY, source.write_key.as_str()];
    for file in files(kernel.folder()) {
        let content = std::fs::read(&file).unwrap();
        for text in hidden {
            let is_there = content.windows(text.len()).any(|window| window == text.as_bytes());
            assert!(!is_there, "{} holds a credential in the open", file.display());
        }
    }
}

/// All files below a folder.
fn files(folder: &std::path::Path) -> Vec<std::path::PathBuf> {
    let entries = std::fs::read_dir(folder).unwrap().flatten();
    entries.flat_map(|entry| if entry.path().is_dir() { files(&entry.path()) } else { vec![entry.path()] }).collect()
}
