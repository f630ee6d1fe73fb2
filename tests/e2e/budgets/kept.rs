//! What workspaces keep, and how many of them there are.

use kith_tests::Client;
use serde_json::json;

use super::{Attack, Ground, is_exhausted, walk};

pub(super) const ATTACKS: &[Attack] = &[
    ("audiences-kept", audiences),
    ("aggregates-kept", aggregates),
    ("installations-kept", installations),
    ("keys-kept", keys),
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
