//! What workspaces keep, and how many of them there are.

use kith_model::budget::table;
use kith_tests::{Answer, Client};
use serde_json::{Value, json};

use super::{Attack, Ground, is_exhausted, walk};

pub(super) const ATTACKS: &[Attack] = &[
    ("audiences-kept", audiences),
    ("aggregates-kept", aggregates),
    ("installations-kept", installations),
    ("keys-kept", keys),
    ("tracking-plan-bytes-kept", tracking_plan_bytes),
    ("tracking-plans-kept", tracking_plans),
    ("workspaces-kept", workspaces),
];

#[test]
fn a_workspace_keeps_so_much_and_no_more() {
    walk(&Ground::of_process(&["--max-workspaces", "5"]), ATTACKS);
}

/// A workspace with one budget of its own; its admin.
fn small(ground: &Ground, budget: &str, limit: u64) -> Client {
    let wanted = json!({ "name": budget, "time_zone": "UTC", "budgets": { budget: limit } });
    let made = ground.admin.post("/api/v1/workspaces", &wanted).is(201);
    Client::new(&ground.url, made["key"].as_str())
}

fn audiences(ground: &Ground) {
    let small = small(ground, "audiences-kept", 1);
    let audience = |name: &str| small.post("/api/v1/audiences", &json!({ "name": name, "condition": "true" }));
    audience("one").is(201);
    is_exhausted(&audience("two"), 409, "audiences-kept");
    small.delete("/api/v1/audiences/one").is(204);
    audience("two").is(201);
}

/// What is read twice counts once, and what reads no more than before is taken.
fn aggregates(ground: &Ground) {
    let small = small(ground, "aggregates-kept", 2);
    let audience =
        |name: &str, condition: &str| small.post("/api/v1/audiences", &json!({ "name": name, "condition": condition }));
    audience("two", "events('A').size() > 0 && events('B').size() > 0").is(201);
    audience("same", "events('A').size() > 0").is(201);
    is_exhausted(&audience("third", "events('C').size() > 0"), 409, "aggregates-kept");
    small.patch("/api/v1/audiences/two", &json!({ "condition": "events('C').size() > 0" })).is(200);
}

fn installations(ground: &Ground) {
    let small = small(ground, "installations-kept", 1);
    small.send("POST", "/api/v1/plugins", &[], kith_tests::component("kith/segment").component.clone()).is(201);
    let install = |name: &str| {
        small.post("/api/v1/installations", &json!({ "plugin": "kith/segment", "name": name, "mode": "disabled" }))
    };
    install("one").is(201);
    is_exhausted(&install("two"), 409, "installations-kept");
}

fn put_plan(admin: &Client, name: &str, document: &Value) -> Answer {
    let headers = [("content-type", "application/json")];
    admin.send("PUT", &format!("/api/v1/tracking-plans/{name}"), &headers, document.to_string())
}

fn plan_of_bytes(bytes: usize) -> Value {
    json!({ "sources": [], "events": { "E": { "schema": { "enum": ["A".repeat(bytes)] } } } })
}

fn tracking_plan_bytes(ground: &Ground) {
    let names = ["a", "b", "c", "d"];
    for name in names {
        put_plan(&ground.admin, name, &plan_of_bytes(1_000_000)).is(200);
    }
    is_exhausted(&put_plan(&ground.admin, "e", &plan_of_bytes(1_000_000)), 413, "tracking-plan-bytes-kept");
    put_plan(&ground.admin, "a", &plan_of_bytes(900_000)).is(200);
    // The log keeps nothing of it twice, and its pages have a bound of bytes.
    let records = ground.admin.get("/api/v1/audit?action=tracking-plan.&target=a&limit=500").is(200);
    let left_out = &records["items"][1]["after"]["left_out"];
    assert!(left_out["bytes"].as_u64().unwrap() > 900_000 && left_out["sha256"].is_string(), "{records}");
    for name in names {
        ground.admin.delete(&format!("/api/v1/tracking-plans/{name}")).is(204);
    }
}

fn tracking_plans(ground: &Ground) {
    let plan = |number: u64| put_plan(&ground.admin, &format!("p{number}"), &json!({ "sources": [] }));
    let most = table::TRACKING_PLANS_KEPT.default;
    for number in 0..most {
        plan(number).is(200);
    }
    is_exhausted(&plan(most), 409, "tracking-plans-kept");
    plan(0).is(200);
    ground.admin.delete("/api/v1/tracking-plans/p0").is(204);
    plan(most).is(200);
}

fn keys(ground: &Ground) {
    // The first admin key is one.
    let small = small(ground, "keys-kept", 2);
    let key = || small.post("/api/v1/keys", &json!({ "title": "t", "scopes": ["audiences:read"] }));
    key().is(201);
    is_exhausted(&key(), 409, "keys-kept");
}

/// The first and those of the attacks before are all that there may be.
fn workspaces(ground: &Ground) {
    let refused = ground.admin.post("/api/v1/workspaces", &json!({ "name": "more", "time_zone": "UTC" }));
    is_exhausted(&refused, 409, "workspaces-kept");
}
