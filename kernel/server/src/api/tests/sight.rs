//! What keys without `profiles:read` see of people: nothing of one person, whichever route they ask.

use std::collections::BTreeSet;
use std::time::Duration;

use kith_model::delivery::DeliveryState;
use serde_json::{Value, json};

use super::routes::operations;
use super::{FIRST, ask, key_with, source};
use crate::auth::Scope;
use crate::serve::tests::{TestServer, server};

/// A server with 31 people, an audience of one of them and one of all, and a rejected record. Also whatever names that one.
async fn with_people() -> (TestServer, Vec<String>) {
    let server = server();
    let write_key = source(&server, FIRST);
    let crowd: String = (0..30).map(|number| format!("user{number}\n")).collect();
    let lines = format!("canary-ada\n{crowd}bad\n");
    ask(&server, "POST", "/api/v1/sources/lines/records").key(&write_key).send(lines).await.with(200);
    let kernel = &server.app().kernel;
    assert!(kernel.wait_until_reacted(FIRST, kernel.progress(FIRST).head, Duration::from_secs(20)));
    for (name, condition) in [("one", ONE), ("all", "true")] {
        let body = json!({ "name": name, "condition": condition });
        ask(&server, "POST", "/api/v1/audiences").admin().json(body).await.with(201);
        while ask(&server, "GET", &format!("/api/v1/audiences/{name}")).admin().empty().await.with(200)["size"]
            .is_null()
        {
            tokio::task::yield_now().await;
        }
    }
    let profile = ask(&server, "GET", "/api/v1/profiles?identifier=user_id:canary-ada").admin().empty().await.with(200);
    let canaries = vec![profile["id"].as_str().unwrap().to_owned(), "the line says so".to_owned()];
    (server, canaries)
}

/// Holds for one person, whom its text does not name as the list of identifiers would.
const ONE: &str = "'canary-' + 'ada' in profile.identifiers.user_id";

/// With the audience and the person in their places.
fn filled(path: &str, person: &str) -> String {
    let id = if path.contains("/profiles/") { person } else { "one" };
    let path = path.replace("{id}", id);
    if path.ends_with("/explain") { format!("{path}?profile={person}") } else { path }
}

/// Every documented route that reads, with every scope alone and with all but the one for people.
#[tokio::test(flavor = "multi_thread")]
async fn no_route_shows_a_person_without_the_scope_for_people() {
    let (server, canaries) = with_people().await;
    let without = |scope: Scope| Scope::EACH.into_iter().filter(|one| *one != scope).collect::<Vec<_>>();
    let mut keys: Vec<Vec<Scope>> = Scope::EACH.into_iter().map(|scope| vec![scope]).collect();
    keys.push(without(Scope::ProfilesRead));
    keys.push([Scope::AudiencesRead, Scope::DeliveriesRead].into());
    let mut shown_to_readers = BTreeSet::new();
    for (method, path, _) in operations() {
        let is_question = ["/count", "/preview"].iter().any(|end| path.ends_with(end));
        if method != "GET" && !is_question {
            continue;
        }
        let filled = filled(&path, &canaries[0]);
        let answer = async |key: &str| {
            let question = ask(&server, &method, &filled).key(key);
            let answer =
                if is_question { question.json(json!({ "condition": ONE })).await } else { question.empty().await };
            (answer.status.as_u16(), answer.body)
        };
        for scopes in &keys {
            let (status, body) = answer(&key_with(&server, FIRST, scopes, None)).await;
            let asked_for = |canary: &&String| filled.contains(canary.as_str());
            if scopes.contains(&Scope::ProfilesRead) || status != 200 {
                continue;
            }
            let text = body.to_string();
            // The audit log names people by their ids, and says no value of theirs.
            let is_named = |canary: &&String| path.starts_with("/api/v1/audit") && **canary == canaries[0];
            let mut unasked = canaries.iter().filter(|canary| !asked_for(canary) && !is_named(canary));
            let seen = unasked.find(|canary| text.contains(canary.as_str()));
            assert_eq!(seen, None, "{method} {path} with {scopes:?}: {body}");
            assert!(!text.contains("canary-ada"), "{method} {path} with {scopes:?}: {body}");
            if is_question {
                assert_eq!((&body["count"], &body["masked"]), (&Value::Null, &json!("withheld")), "{path}");
            }
        }
        let (status, body) = answer(crate::serve::tests::ADMIN_KEY).await;
        let text = body.to_string();
        if status == 200 && (is_question || canaries.iter().any(|canary| text.contains(canary.as_str()))) {
            shown_to_readers.insert(path);
        }
    }
    // The matrix looks where there is something to see.
    let expected = [
        "/api/v1/audiences/count",
        "/api/v1/audiences/preview",
        "/api/v1/audiences/{id}/explain",
        "/api/v1/audiences/{id}/members",
        "/api/v1/dead-letters",
        "/api/v1/profiles/{id}",
    ];
    for path in expected {
        assert!(shown_to_readers.contains(path), "{path} shows nobody: {shown_to_readers:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn numbers_without_the_scope_for_people_are_tens() {
    let (server, _) = with_people().await;
    let key = key_with(&server, FIRST, &[Scope::AudiencesRead, Scope::AudiencesWrite], None);
    let count = async |condition: &str| {
        let body = json!({ "condition": condition });
        ask(&server, "POST", "/api/v1/audiences/count").key(&key).json(body).await.with(200)
    };
    let all = count("true").await;
    assert_eq!(
        (all["count"].as_u64().unwrap() % 10, &all["masked"], &all["exact"]),
        (0, &json!("rounded"), &json!(false))
    );
    assert_eq!(all, count("true").await, "asking again tells no more");
    for (name, masked) in [("one", "withheld"), ("all", "rounded")] {
        let shown = ask(&server, "GET", &format!("/api/v1/audiences/{name}")).key(&key).empty().await.with(200);
        assert_eq!(shown["masked"], masked, "{shown}");
        assert_eq!(shown["size"], if name == "one" { Value::Null } else { all["count"].clone() });
        let exact = ask(&server, "GET", &format!("/api/v1/audiences/{name}")).admin().empty().await.with(200);
        assert_eq!(exact["size"], if name == "one" { 1 } else { 31 });
        assert!(exact.get("masked").is_none());
    }
    // The place where numbers jump is each condition's own, so nobody can put a condition at the edge.
    let mut shown = BTreeSet::new();
    for other in 0..60 {
        shown.insert(count(&format!("{other} == {other}")).await["count"].as_u64().unwrap());
    }
    assert_eq!(shown, [30, 40].into(), "31 people are rounded both ways");
}

#[tokio::test(flavor = "multi_thread")]
async fn whoever_defines_audiences_cannot_have_them_explained_without_the_scope_for_people() {
    let (server, canaries) = with_people().await;
    let path = format!("/api/v1/audiences/one/explain?profile={}", canaries[0]);
    let reader = key_with(&server, FIRST, &[Scope::AudiencesRead], None);
    let explained = ask(&server, "GET", &path).key(&reader).empty().await.with(200);
    assert_eq!((&explained["explanation"]["truth"], &explained["withheld"]), (&json!(true), &json!(["value"])));
    assert!(!explained.to_string().contains("\"value\":"), "{explained}");
    let whole = ask(&server, "GET", &path).admin().empty().await.with(200);
    assert_eq!(whole["explanation"]["parts"][0]["value"], json!(["canary-ada"]), "{whole}");
    let writer = key_with(&server, FIRST, &[Scope::AudiencesRead, Scope::AudiencesWrite], None);
    ask(&server, "GET", &path).key(&writer).empty().await.problem(403, "denied");
}

#[tokio::test(flavor = "multi_thread")]
async fn an_hours_counts_of_a_key_without_the_scope_for_people_end() {
    let (server, _) = with_people().await;
    let key = key_with(&server, FIRST, &[Scope::AudiencesRead], None);
    let limit = kith_model::budget::table::CROWD_COUNTS.default;
    let body = json!({ "condition": "true" });
    for _ in 0..limit {
        ask(&server, "POST", "/api/v1/audiences/count").key(&key).json(body.clone()).await.with(200);
    }
    let refused = ask(&server, "POST", "/api/v1/audiences/count").key(&key).json(body.clone()).await;
    assert_eq!(refused.problem(429, "budget-exhausted")["budget"], "crowd-counts");
    ask(&server, "POST", "/api/v1/audiences/count").admin().json(body).await.with(200);
}

/// Whether a message goes to somebody is as much about them as what it says.
#[tokio::test(flavor = "multi_thread")]
async fn deliveries_of_one_person_need_the_scope_for_people() {
    let (server, canaries) = with_people().await;
    let key = key_with(&server, FIRST, &[Scope::DeliveriesRead], None);
    for person in [canaries[0].as_str(), "user_id:canary-ada", "user_id:nobody"] {
        let path = format!("/api/v1/deliveries?person={person}");
        ask(&server, "GET", &path).key(&key).empty().await.problem(403, "denied");
        assert_ne!(ask(&server, "GET", &path).admin().empty().await.status, 403);
    }
}

#[test]
fn a_delivery_without_the_scope_for_people_names_nobody() {
    use kith_model::change::Movement;
    use kith_model::id::{AudienceId, InstallationId, ProfileId};
    use kith_model::time::Timestamp;

    let server = server();
    let tables = server.app().catalogue.workspace(FIRST).unwrap();
    let profile: ProfileId = "0190000000007000800000000000abcd".parse().unwrap();
    let at = Timestamp(0);
    let words = || "550 no such user ada@example.com".to_owned();
    let states = [
        (DeliveryState::Dead { attempts: 1, at, reason: words() }, vec!["profile", "reason"]),
        (
            DeliveryState::Pending { attempts: 1, due_at: at, last_reason: Some(words()) },
            vec!["profile", "last_reason"],
        ),
        (DeliveryState::Accepted { attempts: 1, at, provider_id: None }, vec!["profile"]),
    ];
    for (state, withheld) in states {
        let view = || kith_pipeline::DeliveryView {
            id: "msg_1".to_owned(),
            channel: InstallationId(1),
            audience: AudienceId(1),
            movement: Movement::Entered,
            profile,
            purpose: "news".to_owned(),
            payload: String::new(),
            created_at: at,
            state: state.clone(),
        };
        let masked = crate::api::deliveries::shown(&tables, view(), crate::api::masks::Sight::Crowds);
        assert_eq!(masked["withheld"], json!(withheld));
        assert!(!masked.to_string().contains("ada@") && !masked.to_string().contains("abcd"), "{masked}");
        let whole = crate::api::deliveries::shown(&tables, view(), crate::api::masks::Sight::People);
        assert_eq!((&whole["profile"], whole.get("withheld")), (&json!(profile.to_string()), None));
    }
}
