//! The audit log over the API: the chain, the filters, reads of people, refused keys, and damage.

use std::sync::Arc;

use axum::body::Body;
use axum::http::Request;
use http_body_util::BodyExt as _;
use kith_store::{Key, Operation, Unit};
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::{FIRST, ask, key_with, source};
use crate::audit::{AuditEntry, BrokenChain, ChainCheck, ChainStart};
use crate::auth::Scope;
use crate::reads::{NoteKinds, write_down};
use crate::serve::tests::{ADMIN_KEY, TestServer, server};

async fn listed(server: &TestServer, query: &str) -> Vec<Value> {
    let page = ask(server, "GET", &format!("/api/v1/audit{query}")).admin().empty().await.with(200);
    page["items"].as_array().unwrap().clone()
}

fn flush(server: &TestServer, due: NoteKinds) {
    tokio::task::block_in_place(|| write_down(server.app(), due));
}

fn check(items: &[Value]) -> Result<ChainCheck, BrokenChain> {
    let mut check = ChainCheck::new(ChainStart::First);
    for item in items {
        check.next(&serde_json::from_value::<AuditEntry>(item.clone()).unwrap())?;
    }
    Ok(check)
}

async fn with_changes() -> TestServer {
    let server = server();
    for name in ["a", "b", "c"] {
        let body = json!({ "name": name, "condition": "true" });
        let question = ask(&server, "POST", "/api/v1/audiences").admin();
        question.header("x-request-id", "forged id, x").json(body).await.with(201);
    }
    server
}

#[tokio::test(flavor = "multi_thread")]
async fn each_record_follows_from_the_one_before_and_names_who_did_it() {
    let server = with_changes().await;
    let made = listed(&server, "?action=audience.create").await;
    assert_eq!(made.len(), 3);
    for record in &made {
        assert_eq!(record["actor_title"], "first admin key");
        assert_eq!(record["client_request_id"], "forgedid,x", "the visible characters of the caller's");
        assert_eq!(record["request_id"].as_str().unwrap().len(), 16, "the server's own");
    }
    assert_ne!(made[0]["request_id"], made[1]["request_id"]);
    let all = listed(&server, "").await;
    assert!(check(&all).unwrap().head().unwrap().0 >= 3);
    assert_eq!(listed(&server, "?target=b").await.len(), 1);
    assert_eq!(listed(&server, "?action=audience.&target=b").await.len(), 1);
    assert_eq!(listed(&server, "?actor=nobody").await.len(), 0);
    assert_eq!(
        listed(&server, "?action=audience.create&from=2026-09-21T14:13:20Z&to=2026-09-21T14:13:21Z").await.len(),
        3
    );
    assert_eq!(listed(&server, "?from=2027-01-01T00:00:00Z").await.len(), 0);
    ask(&server, "GET", "/api/v1/audit?from=soon").admin().empty().await.problem(400, "bad-input");
    let first = ask(&server, "GET", "/api/v1/audit?action=audience.create&limit=2").admin().empty().await.with(200);
    let next = first["next"].as_str().unwrap();
    assert_eq!(listed(&server, &format!("?action=audience.create&limit=2&cursor={next}")).await, [made[2].clone()]);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_byte_that_is_changed_in_the_store_is_found_in_its_record() {
    let server = with_changes().await;
    flush(&server, NoteKinds::All);
    let rows = server.store().scan(&Key::audit(FIRST, None).range(), 100).unwrap().rows;
    let (key, value) = rows[1].clone();
    let text = String::from_utf8(value[1..].to_vec()).unwrap();
    let changed = text.replacen("\"target\":\"b\"", "\"target\":\"x\"", 1);
    assert_ne!(changed, text);
    let put = |body: Vec<u8>| {
        let operations = vec![Operation::Put(key.clone(), body)];
        let fence = Some(server.app().kernel.fence());
        server.store().commit(Unit { operations, fence, ..Unit::default() }).unwrap();
    };
    put([&value[..1], changed.as_bytes()].concat());
    match check(&listed(&server, "").await).map(drop).unwrap_err() {
        BrokenChain::Changed { number: 2, action, target, .. } => {
            assert_eq!((action.as_str(), target.as_str()), ("audience.create", "x"));
        }
        other => panic!("{other}"),
    }
    // A row that is none any more hides no other.
    put(value[..value.len() - 1].to_vec());
    let broken = check(&listed(&server, "").await).map(drop).unwrap_err();
    assert!(matches!(broken, BrokenChain::Unchained { after: 1, .. }), "{broken}");
    assert!(!listed(&server, "?target=c").await.is_empty());
    put(value.to_vec());
    check(&listed(&server, "").await).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn an_export_is_the_chain_as_lines() {
    let server = with_changes().await;
    let router = crate::api::router(std::sync::Arc::clone(server.app()));
    let request = axum::http::Request::get("/api/v1/audit/export")
        .header("host", "kith.example")
        .header("authorization", format!("Bearer {ADMIN_KEY}"));
    let request = request.body(axum::body::Body::empty()).unwrap();
    let response = tower::ServiceExt::oneshot(router, request).await.unwrap();
    assert_eq!(response.headers()["content-type"], "application/x-ndjson");
    let bytes = axum::body::to_bytes(response.into_body(), usize::MAX).await.unwrap();
    let lines: Vec<Value> = bytes
        .split(|byte| *byte == b'\n')
        .filter(|line| !line.is_empty())
        .map(|line| serde_json::from_slice(line).unwrap())
        .collect();
    assert!(lines.len() >= 3);
    check(&lines).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn reads_of_people_are_one_record_of_a_key_without_their_values() {
    let server = server();
    let write_key = source(&server, FIRST);
    ask(&server, "POST", "/v1/batch").key(&write_key).send("olga").await.with(200);
    let key = key_with(&server, FIRST, &[Scope::ProfilesRead, Scope::AudiencesRead], None);
    let found = ask(&server, "GET", "/api/v1/profiles?identifier=user_id:olga").key(&key).empty().await.with(200);
    ask(&server, "GET", "/api/v1/profiles?identifier=user_id:iris").key(&key).empty().await.with(404);
    let id = found["id"].as_str().unwrap();
    for _ in 0..50 {
        ask(&server, "GET", &format!("/api/v1/profiles/{id}/events")).key(&key).empty().await.with(200);
    }
    let body = json!({ "condition": "profile.identifiers.user_id == ['olga']" });
    ask(&server, "POST", "/api/v1/audiences/count").key(&key).json(body).await.with(200);
    flush(&server, NoteKinds::All);
    let records = listed(&server, &format!("?target=profile:{id}")).await;
    assert!((1..50).contains(&records.len()), "one for each second and not for each read: {records:?}");
    for action in ["profile.", "profile.events", "audience.count"] {
        let of_action = listed(&server, &format!("?action={action}")).await;
        assert!(!of_action.is_empty(), "{action} is found where it was written down with others");
    }
    assert!(listed(&server, "?action=profile.read").await.is_empty());
    let all = listed(&server, "").await;
    let actor = &records[0]["actor"];
    let of_key: Vec<&Value> = all.iter().filter(|record| record["actor"] == *actor).collect();
    let times =
        |action: &str| -> u64 { of_key.iter().filter_map(|record| record["after"]["reads"][action].as_u64()).sum() };
    assert_eq!(["profile.find", "profile.events", "audience.count"].map(times), [2, 50, 1]);
    let text = serde_json::to_string(&of_key).unwrap();
    assert!(!text.contains("olga") && !text.contains("iris"), "no value is in the log: {text}");
    assert!(text.contains("identifier:") && text.contains("condition:"), "{text}");
    check(&all).unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn refused_keys_are_few_records() {
    let server = server();
    let made =
        ask(&server, "POST", "/api/v1/keys").admin().json(json!({ "title": "x", "scopes": ["metrics:read"] })).await;
    let made = made.with(201);
    let (id, key) = (made["id"].as_str().unwrap(), made["key"].as_str().unwrap());
    ask(&server, "DELETE", &format!("/api/v1/keys/{id}")).admin().empty().await.with(204);
    for number in 0..200 {
        let stranger = format!("a-key-that-somebody-made-up-{number:08}");
        ask(&server, "GET", "/api/v1/workspace").key(&stranger).empty().await.with(401);
        ask(&server, "GET", "/api/v1/workspace").key(key).empty().await.with(401);
    }
    flush(&server, NoteKinds::Reads);
    flush(&server, NoteKinds::All);
    let refused = listed(&server, "?action=key.refused").await;
    let told: Vec<(&str, &Value, &Value)> = refused
        .iter()
        .map(|record| (record["target"].as_str().unwrap(), &record["after"]["why"], &record["after"]["attempts"]))
        .collect();
    assert_eq!(told.len(), 2, "{told:?}");
    assert!(told.contains(&(id, &json!("ended"), &json!(200))), "{told:?}");
    assert!(told.contains(&("unknown", &json!("unknown"), &json!(200))), "{told:?}");
}

/// Methods, paths and hosts are a caller's to choose; none of them makes a series.
#[tokio::test(flavor = "multi_thread")]
async fn odd_requests_make_no_series() {
    let server = server();
    let app = std::sync::Arc::clone(server.app());
    let series = || {
        let shown = app.metrics.render();
        shown
            .lines()
            .filter(|line| line.starts_with("kith_http_request"))
            .map(|line| line.rsplit_once(' ').unwrap().0.to_owned())
            .filter(|line| line.contains("unmatched") || line.contains("other"))
            .count()
    };
    let odd = async |number: u32| {
        let question = ask(&server, &format!("M{number}"), &format!("/p{number}/q?x={number}"));
        question.header("host", &format!("h{number}.example")).header("x-request-id", &number.to_string()).empty().await
    };
    odd(0).await;
    let before = series();
    for number in 1..1_000 {
        odd(number).await;
    }
    assert!(series() < before + 500, "{before} series became {}", series());
}

/// An export goes on for as long as its reader likes.
#[tokio::test(flavor = "multi_thread")]
async fn an_export_ends_with_its_key() {
    let server = server();
    for number in 0..40 {
        let schema = json!({ "enum": ["A".repeat(30_000), number] });
        let document = json!({ "sources": [], "events": { "E": { "schema": schema } } });
        ask(&server, "PUT", "/api/v1/tracking-plans/p").admin().json(document).await.with(200);
    }
    let wanted = json!({ "title": "reader", "scopes": ["audit:read"] });
    let made = ask(&server, "POST", "/api/v1/keys").admin().json(wanted).await.with(201);
    let request = Request::get("/api/v1/audit/export")
        .header("host", "kith.example")
        .header("authorization", format!("Bearer {}", made["key"].as_str().unwrap()))
        .body(Body::empty());
    let router = crate::api::router(Arc::clone(server.app()));
    let answer = router.oneshot(request.unwrap()).await.unwrap();
    assert_eq!(answer.status(), 200);
    let mut body = answer.into_body();
    assert!(body.frame().await.unwrap().is_ok(), "it begins while the key is good");
    let path = format!("/api/v1/keys/{}", made["id"].as_str().unwrap());
    ask(&server, "DELETE", &path).admin().empty().await.with(204);
    let mut is_whole = true;
    while let Some(piece) = body.frame().await {
        is_whole &= piece.is_ok();
    }
    assert!(!is_whole, "it breaks off");
}
