//! The API as somebody meets it who reads its description: mistakes are named, everything that is no answer is a problem
//! document, and the description lists what there is.

use std::collections::BTreeSet;

use kith_tests::{Client, TestKernel};
use serde_json::{Value, json};

#[test]
fn the_description_lists_the_routes_that_others_build_on() {
    let kernel = TestKernel::start();
    let document = Client::new(kernel.url(), None).get("/api/v1/openapi.json").is(200);
    assert!(document["openapi"].as_str().unwrap().starts_with("3.1"));
    let described: BTreeSet<String> = document["paths"]
        .as_object()
        .unwrap()
        .iter()
        .flat_map(|(path, item)| {
            item.as_object().unwrap().keys().map(move |method| format!("{} {path}", method.to_uppercase()))
        })
        .collect();
    for route in [
        "POST /v1/batch",
        "POST /v1/b",
        "POST /v1/import",
        "POST /v1/track",
        "POST /v1/identify",
        "POST /v1/page",
        "POST /v1/screen",
        "POST /v1/group",
        "POST /v1/alias",
        "POST /api/v1/sources/{id}/records",
        "GET /api/v1/profiles",
        "GET /api/v1/profiles/{id}",
        "GET /api/v1/profiles/{id}/events",
        "POST /api/v1/plugins",
        "GET /api/v1/plugins",
        "GET /api/v1/plugins/{vendor}/{name}",
        "DELETE /api/v1/plugins/{vendor}/{name}/{version}",
        "POST /api/v1/installations",
        "GET /api/v1/installations",
        "GET /api/v1/installations/{id}",
        "PATCH /api/v1/installations/{id}",
        "DELETE /api/v1/installations/{id}",
        "POST /api/v1/installations/{id}/fit",
        "GET /api/v1/installations/{id}/fits",
        "POST /api/v1/installations/{id}/fits/{number}/use",
        "POST /api/v1/audiences",
        "GET /api/v1/audiences/{id}",
        "GET /api/v1/audiences/{id}/members",
        "POST /api/v1/audiences/count",
        "GET /api/v1/deliveries",
        "GET /api/v1/dead-letters",
        "GET /healthz",
        "GET /readyz",
        "GET /metrics",
    ] {
        assert!(described.contains(route), "{route} is not described");
    }
}

#[test]
fn mistakes_are_named_by_their_place() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.upload(&admin, "kith/csv");
    let place = |path: &str, body: Value, code: &str| {
        let problem = admin.post(path, &body).is_problem(400, code);
        problem["errors"][0]["path"].as_str().unwrap().to_owned()
    };
    let audience = json!({ "name": "a", "condition": "true", "colour": "red" });
    assert_eq!(place("/api/v1/audiences", audience, "bad-input"), "colour");
    let expression = json!({ "condition": "events('x').size() >" });
    assert_eq!(place("/api/v1/audiences/count", expression, "bad-expression"), "condition");
    let unknown_config = json!({ "plugin": "kith/csv", "config": { "identifiers": { "user_id": "id" }, "sepp": "," } });
    assert!(place("/api/v1/installations", unknown_config, "bad-config").starts_with("config"));
    let missing_config = json!({ "plugin": "kith/csv", "config": {} });
    assert!(place("/api/v1/installations", missing_config, "bad-config").starts_with("config"));
    let grants =
        json!({ "plugin": "kith/csv", "config": { "identifiers": { "user_id": "id" } }, "grants": { "disk": 1 } });
    assert!(place("/api/v1/installations", grants, "bad-input").starts_with("grants"));
    let secret =
        json!({ "plugin": "kith/csv", "config": { "identifiers": { "user_id": "id" } }, "secrets": { "x": "y" } });
    assert_eq!(place("/api/v1/installations", secret, "bad-input"), "secrets.x");
    assert_eq!(place("/api/v1/installations", json!({ "plugin": "kith/none" }), "bad-input"), "plugin");
    let limit = admin.get("/api/v1/deliveries?limit=501").is_problem(400, "bad-input");
    assert_eq!(limit["errors"][0]["path"], "?limit");
    admin.get("/api/v1/deliveries?cursor=nonsense").is_problem(400, "bad-input");
    assert_eq!(admin.get("/api/v1/installations").is(200)["items"], json!([]), "nothing was installed");
}

#[test]
fn what_is_no_answer_is_a_problem_document() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    admin.get("/api/v1/nothing").is_problem(404, "no-route");
    admin.get("/api/v1/audiences/none").is_problem(404, "not-found");
    let wrong_method = admin.empty("DELETE", "/api/v1/audiences");
    wrong_method.is_problem(405, "method-not-allowed");
    assert!(wrong_method.header("allow").contains("POST"));
    let form = admin.send("POST", "/api/v1/audiences", &[("content-type", "text/plain")], "{}");
    form.is_problem(415, "unsupported-media-type");
    let large = json!({ "condition": " ".repeat(2 << 20) });
    admin.post("/api/v1/audiences/count", &large).is_problem(413, "too-large");
    let id = "a-request-of-mine";
    let answer = admin.send("GET", "/api/v1/nothing", &[("x-request-id", id)], "");
    assert_eq!((answer.header("x-request-id"), answer.json()["request_id"].as_str()), (id, Some(id)));
}

#[test]
fn a_refusal_before_the_body_is_read_reaches_the_client() {
    let kernel = TestKernel::start();
    let nobody = Client::new(kernel.url(), None);
    for _ in 0..50 {
        // A connection that the server had ended, before the body was sent or after, would fail one of these.
        let refused = nobody.post("/api/v1/audiences", &json!({ "name": "x".repeat(100_000) }));
        refused.is_problem(401, "unauthenticated");
        assert_eq!(refused.header("connection"), "", "the connection goes on");
    }
}

#[test]
fn operators_see_life_readiness_and_figures() {
    let kernel = TestKernel::start();
    let nobody = Client::new(kernel.url(), None);
    assert_eq!(nobody.get("/healthz").is(200)["status"], "ok");
    assert_eq!(nobody.get("/readyz").is(200)["status"], "ready");
    let source = kernel.segment();
    source.batch(&[json!({ "type": "track", "event": "E", "userId": "ada", "messageId": "m" })]);
    nobody.get("/metrics").is_problem(401, "unauthenticated");
    let figures = kernel.admin().get("/metrics");
    assert!(figures.header("content-type").starts_with("text/plain"));
    figures.is(200);
    let text = figures.text();
    assert!(text.contains("# TYPE kith_http_requests_total counter"), "{text}");
    assert!(text.contains("kith_events_accepted_total"), "{text}");
}

#[test]
fn files_are_read_with_every_bad_row_reported_by_its_line() {
    let kernel = TestKernel::start();
    let mapping = json!({
        "identifiers": { "user_id": "user" }, "event": { "column": "event" },
        "properties": { "total": { "column": "total", "type": "number" } },
        "time": { "column": "at" }, "message_id": "id",
    });
    kernel.install("kith/csv", json!({ "name": "shop", "config": mapping }));
    let rows = "id,user,event,total,at\n\
        1,ada,\"Order, Completed\",12.5,2026-11-20T10:00:00Z\n\
        2,ada,Order Completed,twelve,2026-11-20T10:00:00Z\n\
        3,,Order Completed,1,2026-11-20T10:00:00Z\n\
        4,eve,Order Completed,7,yesterday\n\
        5,eve,Order Completed,7,2026-11-20T11:00:00Z\n";
    let body =
        kernel.admin().send("POST", "/api/v1/sources/shop/records", &[("content-type", "text/csv")], rows).is(200);
    assert_eq!((&body["accepted"], &body["duplicate"], &body["rejected_count"]), (&json!(2), &json!(0), &json!(3)));
    let reported: Vec<(u64, &str)> = body["rejected"]
        .as_array()
        .unwrap()
        .iter()
        .map(|row| (row["line"].as_u64().unwrap(), row["code"].as_str().unwrap()))
        .collect();
    assert_eq!(reported, [(3, "bad-number"), (4, "missing-identifier"), (5, "bad-time")]);
    let event = &kernel.events("user_id:ada")[0];
    assert_eq!((&event["name"], &event["properties"]["total"]), (&json!("Order, Completed"), &json!(12.5)));
    let letters = kith_tests::pages(&kernel.admin(), "/api/v1/dead-letters", 50);
    assert_eq!(letters.len(), 3);
    assert!(letters.iter().any(|letter| letter["raw"].as_str().unwrap().contains("yesterday")), "{letters:?}");
}

#[test]
fn identities_are_merged_and_a_merged_profile_is_still_found() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let seen = |id: &str, who: Value| {
        let mut message = json!({ "type": "track", "event": "Seen", "messageId": id });
        message.as_object_mut().unwrap().extend(who.as_object().unwrap().clone());
        source.batch(&[message]);
    };
    seen("1", json!({ "anonymousId": "phone" }));
    seen("2", json!({ "userId": "ada" }));
    let before = [kernel.profile("anonymous_id:phone"), kernel.profile("user_id:ada")];
    assert_ne!(before[0]["id"], before[1]["id"]);
    seen("3", json!({ "anonymousId": "phone", "userId": "ada" }));
    let ada = kernel.profile("user_id:ada");
    assert_eq!(kernel.profile("anonymous_id:phone")["id"], ada["id"]);
    assert_eq!(ada["identifiers"].as_array().unwrap().len(), 2);
    assert_eq!(kernel.events("anonymous_id:phone").len(), 3, "all three are hers now");
    for old in &before {
        let found = kernel.admin().get(&format!("/api/v1/profiles/{}", old["id"].as_str().unwrap())).is(200);
        assert_eq!(found["id"], ada["id"], "an old id leads to the one that is left");
    }
    kernel.settle();
    assert_eq!(kernel.count("true"), 1);
}
