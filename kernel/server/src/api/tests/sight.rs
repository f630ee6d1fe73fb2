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
            assert!(!is_question, "{path} with {scopes:?}: {body}");
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
async fn sizes_without_the_scope_for_people_are_tens() {
    let (server, _) = with_people().await;
    let reader = key_with(&server, FIRST, &[Scope::AudiencesRead], None);
    let choosing = |scope| key_with(&server, FIRST, &[Scope::AudiencesRead, scope], None);
    let choosers = [choosing(Scope::AudiencesWrite), choosing(Scope::PluginsAdmin)];
    for (name, masked, exact) in [("one", "withheld", 1), ("all", "rounded", 31)] {
        let path = format!("/api/v1/audiences/{name}");
        let shown = ask(&server, "GET", &path).key(&reader).empty().await.with(200);
        assert_eq!(shown["masked"], masked, "{shown}");
        assert!(shown["size"].as_u64().is_none_or(|size| size % 10 == 0 && size.abs_diff(exact) < 10), "{shown}");
        assert_eq!(shown["size"].is_null(), name == "one");
        // Whoever chooses conditions gets no number at all: enough of them tell what each rounded one hides.
        for chooser in &choosers {
            let shown = ask(&server, "GET", &path).key(chooser).empty().await.with(200);
            assert_eq!((&shown["size"], &shown["masked"]), (&Value::Null, &json!("withheld")), "{shown}");
        }
        let shown = ask(&server, "GET", &path).admin().empty().await.with(200);
        assert_eq!((&shown["size"], shown.get("masked")), (&json!(exact), None));
    }
}

/// With 343 counts a key that could read audiences alone read the salary of one person, though the numbers were rounded; and a
/// key that made a reader of audiences had its own conditions explained.
#[tokio::test(flavor = "multi_thread")]
async fn questions_about_a_condition_of_ones_own_need_the_scope_for_people() {
    let (server, canaries) = with_people().await;
    let scopes = [Scope::AudiencesRead, Scope::AudiencesWrite, Scope::KeysAdmin];
    let (minter, reader) = (key_with(&server, FIRST, &scopes, None), key_with(&server, FIRST, &scopes[..1], None));
    for key in [&minter, &reader] {
        for question in ["count", "preview"] {
            let path = format!("/api/v1/audiences/{question}");
            ask(&server, "POST", &path).key(key).json(json!({ "condition": ONE })).await.problem(403, "denied");
        }
        let path = format!("/api/v1/audiences/one/explain?profile={}", canaries[0]);
        ask(&server, "GET", &path).key(key).empty().await.problem(403, "denied");
    }
    let path = format!("/api/v1/audiences/one/explain?profile={}", canaries[0]);
    let whole = ask(&server, "GET", &path).admin().empty().await.with(200);
    assert_eq!(whole["explanation"]["parts"][0]["value"], json!(["canary-ada"]), "{whole}");
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
