//! Audiences over the API: what an action says, and that nobody who is a member already is written to unseen.

use std::time::Duration;

use kith_model::plugin::{Grants, PluginKind};
use serde_json::{Value, json};

use super::installations::keep;
use super::{FIRST, Response, ask, installation_row, source};
use crate::catalogue::InstallationRow;
use crate::serve::tests::{TestServer, server};

/// A server with a channel `post`, and as many people as the text has lines.
async fn with_people(people: &str) -> TestServer {
    let server = server();
    keep(&server, &installation_row(901, "post"), PluginKind::Channel, &[]);
    let write_key = source(&server, FIRST);
    ask(&server, "POST", "/v1/batch").key(&write_key).send(people.to_owned()).await.with(200);
    let kernel = &server.app().kernel;
    let head = kernel.progress(FIRST).head;
    assert!(kernel.wait_until_reacted(FIRST, head, Duration::from_secs(20)), "not computed in time");
    server
}

fn action(more: Value) -> Value {
    let mut action = json!({ "channel": "post", "purpose": "x", "payload": { "text": "Hello" } });
    for (name, value) in more.as_object().unwrap() {
        action[name] = value.clone();
    }
    action
}

async fn create(server: &TestServer, name: &str, more: Value) -> Response {
    let mut body = json!({ "name": name, "condition": "true" });
    for (name, value) in more.as_object().unwrap() {
        body[name] = value.clone();
    }
    ask(server, "POST", "/api/v1/audiences").admin().json(body).await
}

#[tokio::test(flavor = "multi_thread")]
async fn actions_come_back_as_they_were_written_with_their_defaults() {
    let server = with_people("ada").await;
    let on_enter = action(json!({ "re_entry": { "after": "12h" }, "imports": "send", "basis": "not_refused" }));
    let on_exit = action(json!({ "re_entry": "never" }));
    let made = create(&server, "both", json!({ "on_enter": on_enter, "on_exit": on_exit })).await.with(201);
    let full = |re_entry: Value, imports, basis| {
        json!({
            "channel": "post", "purpose": "x", "basis": basis, "payload": { "text": "Hello" },
            "re_entry": re_entry, "imports": imports,
        })
    };
    let mut of_enter = full(json!({ "after": "12h" }), "send", "not_refused");
    of_enter["existing"] = json!("skip");
    assert_eq!(made["on_enter"], of_enter);
    assert_eq!(made["on_exit"], full(json!("never"), "skip", "opt_in"), "nobody has left who could be written to");
    assert_eq!(made["as_of_time"], "2026-09-21T14:13:20.000Z");
    let none = ask(&server, "PATCH", "/api/v1/audiences/both").admin().json(json!({ "on_exit": null })).await.with(200);
    assert_eq!((&none["on_exit"], &none["on_enter"]["imports"]), (&Value::Null, &json!("send")));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_change_of_an_action_keeps_what_it_does_not_name() {
    let server = with_people("ada").await;
    let on_enter = action(json!({ "re_entry": { "after": "12h" }, "imports": "send", "basis": "not_refused" }));
    let mut expected = create(&server, "all", json!({ "on_enter": on_enter })).await.with(201)["on_enter"].take();
    let patch = |body: Value| ask(&server, "PATCH", "/api/v1/audiences/all").admin().json(body);
    for (part, value) in [
        ("purpose", json!("y")),
        ("payload", json!({ "text": "Bye" })),
        ("re_entry", json!("never")),
        ("basis", json!("opt_in")),
        ("imports", json!("skip")),
    ] {
        expected[part] = value.clone();
        let changed = patch(json!({ "on_enter": { part: value } })).await.with(200);
        assert_eq!(changed["on_enter"], expected, "{part}");
    }
    let half = patch(json!({ "on_exit": { "channel": "post", "purpose": "x" } })).await.problem(400, "bad-input");
    assert_eq!(half["errors"][0]["path"], "on_exit.payload");
    let on_exit = action(json!({}));
    let whole = patch(json!({ "on_exit": on_exit })).await.with(200);
    assert_eq!((&whole["on_exit"]["re_entry"], &whole["on_enter"]), (&json!("always"), &expected));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mistake_in_an_action_is_named_by_its_path() {
    let server = with_people("ada").await;
    let deep: Value = serde_json::from_str(&format!("{}{}", "[".repeat(110), "]".repeat(110))).unwrap();
    for (part, value, path) in [
        ("on_exit", json!({ "payload": { "a": deep } }), "on_exit.payload"),
        ("on_enter", json!({ "re_entry": { "after": "soon" } }), "on_enter.re_entry.after"),
        ("on_exit", json!({ "re_entry": { "after": "0d" } }), "on_exit.re_entry.after"),
        ("on_exit", json!({ "existing": "send" }), "on_exit.existing"),
        ("on_exit", json!({ "payload": "Hello" }), "on_exit.payload"),
        ("on_exit", json!({ "channel": "lines" }), "on_exit.channel"),
        ("on_enter", json!({ "purpose": "" }), "on_enter.purpose"),
        ("on_enter", json!({ "existing": "all" }), "on_enter.existing"),
    ] {
        let body = create(&server, "bad", json!({ part: action(value) })).await.problem(400, "bad-input");
        assert_eq!(body["errors"][0]["path"], path, "{body}");
    }
    ask(&server, "GET", "/api/v1/audiences/bad").admin().empty().await.problem(404, "not-found");
}

/// Whoever saves an audience is told at once what the gate would say of each of its messages.
#[tokio::test(flavor = "multi_thread")]
async fn an_action_is_refused_for_a_purpose_that_its_channel_does_not_carry() {
    let server = server();
    let grants = Grants { purposes: Some(vec!["receipts".to_owned(), "service".to_owned()]), ..Grants::default() };
    let row = InstallationRow { grants, ..installation_row(901, "post") };
    keep(&server, &row, PluginKind::Channel, &[]);
    let with = |purpose: &str| action(json!({ "purpose": purpose }));
    for part in ["on_enter", "on_exit"] {
        let body = create(&server, "all", json!({ part: with("marketing") })).await.problem(400, "purpose-not-carried");
        assert_eq!(body["errors"][0]["path"], format!("{part}.purpose"));
        let said = body["message"].as_str().unwrap();
        assert!(["`post`", "`marketing`", "`receipts`, `service`"].iter().all(|name| said.contains(name)), "{said}");
    }
    create(&server, "all", json!({ "on_enter": with("Service") })).await.with(201);
    let patch = |body: Value| ask(&server, "PATCH", "/api/v1/audiences/all").admin().json(body);
    patch(json!({ "on_enter": { "purpose": "marketing" } })).await.problem(400, "purpose-not-carried");
    // What does not touch the action is nobody's question.
    patch(json!({ "title": "Everybody" })).await.with(200);
    let shown = ask(&server, "GET", "/api/v1/installations/post/policy").admin().empty().await.with(200);
    let purposes = shown["items"].as_array().unwrap().iter().find(|item| item["kind"] == "purpose").unwrap();
    assert_eq!(
        (&purposes["effective"], &purposes["decided_by"]),
        (&json!(["receipts", "service"]), &json!("grant")),
        "{purposes}"
    );
    assert!(shown.get("warnings").is_none(), "{shown}");
}

/// Audiences that send for a purpose which an admin took from their channel were named nowhere, and their messages skipped.
#[tokio::test(flavor = "multi_thread")]
async fn whoever_takes_a_purpose_from_a_channel_is_told_which_audiences_send_for_it() {
    let server = server();
    keep(&server, &installation_row(901, "post"), PluginKind::Channel, &[]);
    for (name, purpose) in [("news", "Marketing"), ("bills", "service")] {
        create(&server, name, json!({ "on_enter": action(json!({ "purpose": purpose })) })).await.with(201);
    }
    let patch = |body: Value| ask(&server, "PATCH", "/api/v1/installations/post").admin().json(body);
    let told =
        json!(["audience `news` sends for `Marketing`, which the channel does not carry: its messages are skipped"]);
    for dry_run in [true, false] {
        let grants = json!({ "purposes": ["service"] });
        // What is off need not be loaded.
        let narrowed = patch(json!({ "mode": "disabled", "grants": grants, "dry_run": dry_run })).await.with(200);
        assert_eq!(narrowed["warnings"], told, "{narrowed}");
    }
    let policy = ask(&server, "GET", "/api/v1/installations/post/policy").admin().empty().await.with(200);
    assert_eq!(policy["warnings"], told);
    // What comes of this change alone, and nothing where it gives back what was taken.
    for (purposes, told) in [(json!([]), Some("bills")), (json!(["service", "marketing"]), None)] {
        let answer = patch(json!({ "grants": { "purposes": purposes } })).await.with(200);
        let warnings = answer.get("warnings").map(Value::to_string).unwrap_or_default();
        assert_eq!((warnings.contains("`bills`"), warnings.contains("`news`")), (told.is_some(), false), "{answer}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn existing_members_are_written_to_only_after_a_preview_that_still_holds() {
    let server = with_people("ada\nbob\neve").await;
    let existing = || action(json!({ "existing": "send" }));
    let first = create(&server, "all", json!({ "on_enter": existing() })).await.problem(409, "preview-required");
    assert_eq!((&first["count"], &first["would_send"]), (&json!(3), &json!(3)));
    let preview = ask(&server, "POST", "/api/v1/audiences/preview").admin().json(json!({ "condition": "true" })).await;
    let preview = preview.with(200);
    assert_eq!((&preview["token"], &preview["exact"]), (&first["token"], &json!(true)));
    for previewed in [json!("nonsense"), json!(format!("30{}", preview["token"].as_str().unwrap()))] {
        let wrong = json!({ "on_enter": existing(), "previewed": previewed });
        create(&server, "all", wrong).await.problem(409, "preview-required");
    }
    let other = json!({ "on_enter": existing(), "previewed": preview["token"], "condition": "1 == 1" });
    create(&server, "all", other).await.problem(409, "preview-required");
    let right = json!({ "on_enter": existing(), "previewed": preview["token"] });
    create(&server, "all", right).await.with(201);

    let patch = |body: Value| ask(&server, "PATCH", "/api/v1/audiences/all").admin().json(body);
    patch(json!({ "title": "All" })).await.with(200);
    let changed = patch(json!({ "condition": "2 == 2" })).await.problem(409, "preview-required");
    patch(json!({ "condition": "2 == 2", "previewed": changed["token"] })).await.with(200);
    patch(json!({ "condition": "3 == 3", "on_enter": null })).await.with(200);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_preview_that_holds_no_longer_is_shown_anew() {
    let server = with_people("ada").await;
    let preview = ask(&server, "POST", "/api/v1/audiences/preview").admin().json(json!({ "condition": "true" })).await;
    let token = preview.with(200)["token"].clone();
    let write_key = source(&server, FIRST);
    ask(&server, "POST", "/v1/batch").key(&write_key).send("bob").await.with(200);
    let kernel = &server.app().kernel;
    assert!(kernel.wait_until_reacted(FIRST, kernel.progress(FIRST).head, Duration::from_secs(20)));
    let wanted = json!({ "on_enter": action(json!({ "existing": "send" })), "previewed": token });
    let changed = create(&server, "all", wanted).await.problem(409, "preview-changed");
    assert_eq!(changed["count"], 2);
    let wanted = json!({ "on_enter": action(json!({ "existing": "send" })), "previewed": changed["token"] });
    create(&server, "all", wanted).await.with(201);
}

/// A definition that writes to existing members asked for a preview though there was nobody to write to.
#[tokio::test(flavor = "multi_thread")]
async fn a_definition_that_would_write_to_nobody_needs_no_preview() {
    let server = with_people("ada").await;
    let existing = || action(json!({ "existing": "send" }));
    create(&server, "none", json!({ "on_enter": existing(), "condition": "false" })).await.with(201);
    // Until the new audience is taken over nobody knows for certain that there is nobody.
    let count = || ask(&server, "POST", "/api/v1/audiences/count").admin().json(json!({ "condition": "1 == 2" }));
    while count().await.with(200)["exact"] != true {
        tokio::task::yield_now().await;
    }
    let patch = |body: Value| ask(&server, "PATCH", "/api/v1/audiences/none").admin().json(body);
    patch(json!({ "condition": "1 == 2" })).await.with(200);
    patch(json!({ "condition": "true" })).await.problem(409, "preview-required");
}

/// Members were listed by ids alone, which nobody can tell apart.
#[tokio::test(flavor = "multi_thread")]
async fn members_are_listed_with_their_identifiers_for_whoever_may_see_people() {
    let server = with_people("ada").await;
    create(&server, "all", json!({})).await.with(201);
    let kernel = &server.app().kernel;
    assert!(kernel.wait_until_reacted(FIRST, kernel.progress(FIRST).head, Duration::from_secs(20)));
    let listed = ask(&server, "GET", "/api/v1/audiences/all/members").admin().empty().await.with(200);
    assert_eq!(listed["items"][0]["identifiers"], json!([{ "type": "user_id", "value": "ada" }]), "{listed}");
    let body = json!({ "title": "lists", "scopes": ["audiences:read"] });
    let key = ask(&server, "POST", "/api/v1/keys").admin().json(body).await.with(201)["key"].clone();
    let refused = ask(&server, "GET", "/api/v1/audiences/all/members").key(key.as_str().unwrap()).empty().await;
    refused.problem(403, "denied");
}

/// A tag that nobody writes made an audience of nobody, and nothing said why.
#[tokio::test(flavor = "multi_thread")]
async fn a_condition_on_what_nobody_writes_is_saved_with_a_warning() {
    let server = with_people("ada").await;
    let condition =
        json!({ "condition": "tags.foo != 'a' && scores.bar > 1 && traits.cty == 'Oslo' && events('A').size() > 0" });
    let made = create(&server, "all", condition).await.with(201);
    let expected = json!([
        "no installed plugin writes the tag `foo`, so nobody has it until one does",
        "no installed plugin writes the score `bar`, so nobody has it until one does",
        "nobody has the trait `cty` so far",
        "no event `A` came so far",
    ]);
    assert_eq!(made["warnings"], expected);
    let shown = ask(&server, "GET", "/api/v1/audiences/all").admin().empty().await.with(200);
    assert_eq!(shown["warnings"], expected);
    let patch = |body: Value| ask(&server, "PATCH", "/api/v1/audiences/all").admin().json(body);
    let strict = patch(json!({ "condition": "events('A').size() > 0", "strict": true })).await;
    strict.problem(400, "doubtful-condition");
    let mended = patch(json!({ "condition": "profile.created_at < now", "strict": true })).await.with(200);
    assert_eq!(mended["warnings"], json!([]));
    let listed = ask(&server, "GET", "/api/v1/audiences").admin().empty().await.with(200);
    assert!(listed["items"][0].get("warnings").is_none());
}
