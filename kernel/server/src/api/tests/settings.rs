//! What changes of settings and lists write: what has changed and no more, in commits of bounded size, within what a workspace
//! may write and keep.

use kith_store::Key;
use serde_json::{Value, json};

use super::{FIRST, Response, ask};
use crate::catalogue::Actor;
use crate::serve::tests::{TestServer, server};
use crate::signatures::SecretKey;

async fn post(server: &TestServer, path: &str, body: Value) -> Response {
    ask(server, "POST", path).admin().json(body).await
}

fn identifiers(numbers: std::ops::Range<usize>) -> Value {
    json!({ "identifiers": numbers.map(|number| format!("email:p{number}@shop.example")).collect::<Vec<_>>() })
}

/// How many identifiers are counted; they are as many as there are.
fn suppressed(server: &TestServer) -> u64 {
    let counted = server.app().catalogue.workspace(FIRST).unwrap().suppressions();
    let (mut range, mut rows) = (Key::suppressions(FIRST).range(), 0);
    loop {
        let page = server.store().scan(&range, 1_000).unwrap();
        rows += page.rows.len() as u64;
        match page.next {
            Some(next) => range.from = next,
            None => break,
        }
    }
    assert_eq!(counted, rows);
    counted
}

async fn lines(server: &TestServer, action: &str) -> usize {
    let path = format!("/api/v1/audit?limit=500&action={action}");
    let log = ask(server, "GET", &path).admin().empty().await.with(200);
    log["items"].as_array().unwrap().len()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_list_is_changed_in_pieces_and_counted() {
    let server = server();
    let changed = |range| post(&server, "/api/v1/suppressions", identifiers(range));
    assert_eq!(changed(0..2_500).await.with(200), json!({ "changed": 2_500, "already": 0 }));
    // Each is kept in so many forms.
    let forms = suppressed(&server) / 2_500;
    assert!((1..=5).contains(&forms), "{forms}");
    assert_eq!((suppressed(&server), lines(&server, "suppression.add").await), (2_500 * forms, 3));
    // Those that are on it already are not counted again, nor one that is there twice.
    assert_eq!(changed(2_000..2_600).await.with(200), json!({ "changed": 100, "already": 500 }));
    let twice = json!({ "identifiers": ["email:x@shop.example", "email:x@shop.example"] });
    post(&server, "/api/v1/suppressions", twice).await.with(200);
    assert_eq!(suppressed(&server), 2_601 * forms);
    // One that has another normal form has more rows.
    post(&server, "/api/v1/suppressions", json!({ "identifiers": ["email:ADA@Shop.example"] })).await.with(200);
    let with_spelling = suppressed(&server);
    assert!(with_spelling > 2_602 * forms, "{with_spelling}");
    let left = with_spelling - 1_500 * forms;
    let removed = |range| post(&server, "/api/v1/suppressions/remove", identifiers(range));
    removed(100..1_600).await.with(200);
    assert_eq!((suppressed(&server), lines(&server, "suppression.remove").await), (left, 2));
    let spent = written(&server);
    removed(100..1_600).await.with(200);
    assert_eq!(lines(&server, "suppression.remove").await, 2, "what changes nothing is no change");
    assert!(written(&server) <= spent);
    // One mistake in the last piece, and nothing is changed.
    let mut wrong = identifiers(5_000..7_500);
    wrong["identifiers"][2_400] = json!("nobody");
    post(&server, "/api/v1/suppressions", wrong).await.problem(400, "bad-input");
    assert_eq!(suppressed(&server), left);
}

/// What the workspace has written of its hour.
fn written(server: &TestServer) -> u64 {
    let catalogue = &server.app().catalogue;
    catalogue.written(&catalogue.workspace(FIRST).unwrap())
}

fn dictionary(meaning: impl Fn(usize) -> String, entries: usize) -> Value {
    let entry = |number| json!({ "kind": "trait", "name": format!("t{number}"), "meaning": meaning(number) });
    json!({ "remove_others": true, "entries": (0..entries).map(entry).collect::<Vec<_>>() })
}

/// Regression: each line of the audit log had the end of the log and its counter written with it, and a document that changed
/// nothing was a commit.
#[tokio::test(flavor = "multi_thread")]
async fn a_document_writes_what_it_changes() {
    let server = server();
    let import = |document: Value| post(&server, "/api/v1/dictionary/import", document);
    let text = |number: usize| format!("what {number} means: {}", "a".repeat(400));
    let document = dictionary(text, 1_000);
    let sent = document.to_string().len() as u64;
    import(document.clone()).await.with(200);
    let all = written(&server);
    // The row, and the same once more in a line of the audit log.
    assert!((sent..3 * sent).contains(&all), "{all} bytes for {sent}");
    let log =
        ask(&server, "GET", "/api/v1/audit?action=dictionary.&target=traits.t777").admin().empty().await.with(200);
    let line = &log["items"][0];
    assert_eq!((log["items"].as_array().unwrap().len(), line["action"].as_str()), (1, Some("dictionary.import")));
    assert_eq!(line["after"]["entries"]["traits.t777"]["meaning"], text(777));
    let of = |log: &Value| -> Vec<String> {
        let lines = log["items"].as_array().unwrap().iter();
        lines
            .flat_map(|line| line["after"]["of"].as_array().unwrap())
            .map(|of| of.as_str().unwrap().to_owned())
            .collect()
    };
    let (mut names, mut cursor) = (Vec::new(), String::new());
    loop {
        let path = format!("/api/v1/audit?action=dictionary.import&limit=500{cursor}");
        let log = ask(&server, "GET", &path).admin().empty().await.with(200);
        names.extend(of(&log));
        let Some(next) = log["next"].as_str() else { break };
        cursor = format!("&cursor={next}");
    }
    assert_eq!(names.len(), 1_000, "each once, and no line is too long to be kept");
    let again = import(document).await.with(200);
    assert_eq!((again["unchanged"].as_u64(), again["changes"].as_array().unwrap().len()), (Some(1_000), 0));
    assert!(written(&server) <= all, "nothing is written");
    let before = written(&server);
    let one = |number: usize| if number == 500 { "another".to_owned() } else { text(number) };
    assert_eq!(import(dictionary(one, 1_000)).await.with(200)["changes"].as_array().unwrap().len(), 1);
    assert!(written(&server) < before + 3_000, "{} {before}", written(&server));
    assert_eq!(lines(&server, "dictionary.change").await, 1);
    let before = written(&server);
    import(dictionary(|number| format!("{number} {}", "b".repeat(400)), 1_000)).await.with(200);
    // And what was there before.
    assert!(written(&server) < before + 4 * sent, "{} {before} {sent}", written(&server));
}

/// A key that writes too much is taken away, and what the kernel has to write down is written.
#[tokio::test(flavor = "multi_thread")]
async fn who_has_written_too_much_changes_nothing_but_keys_end() {
    let server = server();
    let key = json!({ "title": "x", "scopes": ["metrics:read"] });
    let made = post(&server, "/api/v1/keys", key.clone()).await.with(201);
    let publisher = "/api/v1/publishers/acme";
    ask(&server, "PUT", publisher).admin().json(json!({ "namespaces": ["acme/*"] })).await.with(200);
    let signing = SecretKey::generate().unwrap().public();
    post(&server, &format!("{publisher}/keys"), json!({ "public_key": signing.file() })).await.with(200);
    let catalogue = &server.app().catalogue;
    catalogue.count_as_written(FIRST, 2 << 30);
    let refused = post(&server, "/api/v1/keys", key).await.problem(429, "budget-exhausted");
    assert_eq!(refused["budget"], "settings-written");
    let path = format!("/api/v1/keys/{}", made["id"].as_str().unwrap());
    ask(&server, "DELETE", &path).admin().empty().await.with(204);
    // A publisher's key that was stolen, too, and nothing else of him.
    let other = json!({ "namespaces": ["acme/*", "beta/*"] });
    let refused = ask(&server, "PUT", publisher).admin().json(other).await.problem(429, "budget-exhausted");
    assert_eq!(refused["budget"], "settings-written");
    let revoke = format!("{publisher}/keys/{}/revoke", signing.number());
    let revoked = post(&server, &revoke, json!({ "why": "it was stolen" })).await.with(200);
    assert_eq!(revoked["keys"][0]["revoked"]["why"], "it was stolen", "{revoked}");
    let mut change = catalogue.begin(FIRST, Actor::kernel()).unwrap();
    change.audit("installation.quarantine", "x", None, None).unwrap();
    drop(change.commit().unwrap());
}
