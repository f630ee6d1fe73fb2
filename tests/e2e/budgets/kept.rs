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
    ("suppressions-kept", suppressions),
    ("settings-written", settings),
    ("publisher-bytes-kept", publisher_bytes),
    ("publishers-kept", publishers),
    ("tracking-plan-bytes-kept", tracking_plan_bytes),
    ("tracking-plan-places-kept", tracking_plan_places),
    ("tracking-plans-kept", tracking_plans),
    ("workspaces-kept", workspaces),
];

#[test]
fn a_workspace_keeps_so_much_and_no_more() {
    walk(&Ground::of_process(&["--max-workspaces", "8"]), ATTACKS);
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

fn put_publisher(admin: &Client, name: &str, namespaces: &[String]) -> Answer {
    let document = json!({ "namespaces": namespaces }).to_string();
    let headers = [("content-type", "application/json")];
    admin.send("PUT", &format!("/api/v1/publishers/{name}"), &headers, document)
}

/// One that becomes smaller is taken, and one that goes gives its room back.
fn publisher_bytes(ground: &Ground) {
    let long = |place: usize| format!("{}/n{place}{}", "v".repeat(64), "n".repeat(60));
    let namespaces: Vec<String> = (0..64).map(long).collect();
    let name = |number: usize| format!("long-{number}");
    let made = (0..64).find(|number| put_publisher(&ground.admin, &name(*number), &namespaces).status != 200).unwrap();
    assert!((25..40).contains(&made), "{made} publishers");
    is_exhausted(&put_publisher(&ground.admin, "other", &namespaces), 413, "publisher-bytes-kept");
    put_publisher(&ground.admin, "long-0", &namespaces[..1]).is(200);
    put_publisher(&ground.admin, "other", &namespaces[..8]).is(200);
    for name in (0..made).map(name).chain(["other".to_owned()]) {
        ground.admin.delete(&format!("/api/v1/publishers/{name}")).is(204);
    }
}

fn publishers(ground: &Ground) {
    let most = table::PUBLISHERS_KEPT.default;
    let put = |number: u64| put_publisher(&ground.admin, &format!("p{number}"), &["acme/*".to_owned()]);
    for number in 0..most {
        put(number).is(200);
    }
    is_exhausted(&put(most), 409, "publishers-kept");
    put(0).is(200);
    ground.admin.delete("/api/v1/publishers/p0").is(204);
    put(most).is(200);
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

/// Schemas of few bytes and many places.
fn tracking_plan_places(ground: &Ground) {
    let values: Vec<usize> = (0..4_000).collect();
    let plan = |name: &str, schemas: usize| {
        let event = |number: usize| (format!("E{number}"), json!({ "schema": { "enum": values } }));
        let events = (0..schemas).map(event).collect::<serde_json::Map<_, _>>();
        put_plan(&ground.admin, name, &json!({ "sources": [], "events": events }))
    };
    plan("large", 5).is_problem(400, "bad-schema");
    let names = ["a", "b", "c", "d", "e", "f", "g", "h"];
    for name in names {
        plan(name, 4).is(200);
    }
    is_exhausted(&plan("i", 4), 409, "tracking-plan-places-kept");
    plan("a", 3).is(200);
    plan("i", 1).is(200);
    for name in names.iter().chain(&["i"]) {
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

/// One that is on the list already takes no place, and one that is taken off gives its place back.
fn suppressions(ground: &Ground) {
    // Each is kept in two forms.
    let small = small(ground, "suppressions-kept", 4);
    let of = |names: &[&str]| json!({ "identifiers": names.iter().map(|name| format!("email:{name}@shop.example")).collect::<Vec<_>>() });
    small.post("/api/v1/suppressions", &of(&["ada", "bob"])).is(200);
    is_exhausted(&small.post("/api/v1/suppressions", &of(&["eve"])), 409, "suppressions-kept");
    small.post("/api/v1/suppressions", &of(&["bob", "ada"])).is(200);
    small.post("/api/v1/suppressions/remove", &of(&["ada", "zoe"])).is(200);
    small.post("/api/v1/suppressions", &of(&["eve"])).is(200);
    is_exhausted(&small.post("/api/v1/suppressions", &of(&["ada"])), 409, "suppressions-kept");
}

/// The last change may be larger than what was left; then only keys end.
fn settings(ground: &Ground) {
    let small = small(ground, "settings-written", 4_000);
    let key = small.post("/api/v1/keys", &json!({ "title": "t", "scopes": ["audiences:read"] })).is(201);
    let entry = |meaning: &str| {
        let document = json!({ "entries": [{ "kind": "trait", "name": "city", "meaning": meaning }] });
        small.post("/api/v1/dictionary/import", &document)
    };
    let refused = (0..20).find_map(|number| {
        let answer = entry(&format!("{number} {}", "m".repeat(500)));
        (answer.status != 200).then_some(answer)
    });
    is_exhausted(&refused.unwrap(), 429, "settings-written");
    let unchanged = small.get("/api/v1/dictionary/trait/city").is(200);
    entry(unchanged["meaning"].as_str().unwrap()).is(200);
    small.delete(&format!("/api/v1/keys/{}", key["id"].as_str().unwrap())).is(204);
}

/// The first, the neighbour's and those of the attacks before are all that there may be.
fn workspaces(ground: &Ground) {
    let refused = ground.admin.post("/api/v1/workspaces", &json!({ "name": "more", "time_zone": "UTC" }));
    is_exhausted(&refused, 409, "workspaces-kept");
}
