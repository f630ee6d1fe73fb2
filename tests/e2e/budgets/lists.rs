//! Lists that callers take out, search and bring.

use std::net::TcpStream;

use kith_tests::{ADMIN_KEY, Client, wait_until};
use serde_json::{Value, json};

use super::{Attack, Ground, first, is_exhausted, walk};

pub(super) const ATTACKS: &[Attack] =
    &[("exports-at-once", exports_at_once), ("search-traits", search_traits), ("suppressions-sent", suppressions_sent)];

#[test]
fn lists_have_a_number_and_a_length() {
    let ground = Ground::of_process(&[]);
    ground.install("kith/segment", json!({ "name": "segment" })).is(201);
    walk(&ground, ATTACKS);
}

/// Four readers who do not read, of more than the machine takes in for them; another workspace's list is taken out meanwhile, and once
/// they are gone there is room again.
fn exports_at_once(ground: &Ground) {
    let names: Vec<String> = (0..5).map(|number| format!("t{number}")).collect();
    let traits: Value =
        names.iter().map(|name| (name.clone(), json!("x".repeat(4_000)))).collect::<serde_json::Map<_, _>>().into();
    let person = |number| json!({ "type": "identify", "userId": format!("p{number}"), "traits": traits });
    let batch = json!({ "batch": (0..100).map(person).collect::<Vec<_>>() });
    assert_eq!(ground.sender().post("/v1/batch", &batch).is(200)["accepted"], 100);
    let columns: Vec<String> = (0..60).map(|column| format!("traits.{}", names[column % names.len()])).collect();
    let path = format!("/api/v1/profiles/export?columns={}", columns.join(","));
    let head = format!("GET {path} HTTP/1.1\r\nhost: x\r\nauthorization: Bearer {ADMIN_KEY}\r\n\r\n");
    let mut held: Vec<TcpStream> = (0..4).map(|_| ground.connection(head.as_bytes())).collect();
    for reader in &mut held {
        let answer = first(std::slice::from_mut(reader));
        assert!(answer.starts_with("HTTP/1.1 200 "), "{answer}");
    }
    is_exhausted(&ground.admin.get(&path), 429, "exports-at-once");
    is_exhausted(&ground.admin.get("/api/v1/audit/export"), 429, "exports-at-once");
    let wanted = json!({ "name": "other", "time_zone": "UTC" });
    let made = ground.admin.post("/api/v1/workspaces", &wanted).is(201);
    let other = Client::new(&ground.url, made["key"].as_str());
    assert_eq!(other.get("/api/v1/profiles/export").status, 200);
    drop(held);
    wait_until("there is room again", || ground.admin.get("/api/v1/profiles/export?columns=id").status == 200);
}

fn search_traits(ground: &Ground) {
    let search = |traits: usize| {
        let traits: Vec<String> = (0..traits).map(|number| format!("trait.a{number}={number}")).collect();
        traits.join("&")
    };
    for list in ["/api/v1/profiles", "/api/v1/profiles/export"] {
        is_exhausted(&ground.admin.get(&format!("{list}?{}", search(33))), 413, "search-traits");
        assert_eq!(ground.admin.get(&format!("{list}?{}", search(32))).status, 200);
    }
}

fn suppressions_sent(ground: &Ground) {
    let of = |count: usize| json!({ "identifiers": (0..count).map(|number| format!("email:p{number}@shop.example")).collect::<Vec<_>>() });
    for path in ["", "/check", "/remove"] {
        let path = format!("/api/v1/suppressions{path}");
        is_exhausted(&ground.admin.post(&path, &of(10_001)), 413, "suppressions-sent");
        ground.admin.post(&path, &of(10_000)).is(200);
    }
    assert_eq!(ground.admin.get("/api/v1/suppressions").is(200)["items"], json!([]));
}
