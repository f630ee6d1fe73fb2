//! What a key that steers plugins by their manifests and configurations, and may not read people, learns of single ones: nothing,
//! not even whether there is one.

use std::time::Duration;

use kith_model::plugin::{Grants, InputSpec, InstallationMode, PluginKind};
use kith_model::table::ColumnType;
use serde_json::{Value, json};

use super::installations::{keep, keep_state, plugin_row, with_level_of};
use super::routes::operations;
use super::{FIRST, ask, installation_row, key_with};
use crate::auth::Scope;
use crate::catalogue::{Actor, FitRow, FitStatus, InstallationRow};
use crate::fitting::tests::succeeded;
use crate::serve::tests::{TestServer, server};

const LEVEL: &str = "/api/v1/installations/level";

const CONNECTOR: &[u8] = include_bytes!("../../../../host/tests/fixtures/0.1/connector.wasm");

/// A server with one person of whom a tag model says something, or nothing; an audience reads that.
async fn with_ada(says: Option<&'static str>) -> TestServer {
    let server = server();
    with_level_of(&server, says, "ada").await;
    let is_settled = async {
        loop {
            let fews = ask(&server, "GET", "/api/v1/audiences/fews").admin().empty().await.with(200);
            let progress = ask(&server, "GET", "/api/v1/workspace").admin().empty().await.with(200)["progress"].clone();
            if !fews["size"].is_null() && fews["as_of"] == progress["head"] && progress["reacted"] == progress["head"] {
                break;
            }
            tokio::task::yield_now().await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), is_settled).await.expect("the audience is computed");
    server
}

/// Each documented route that reads, where there is something to read. What holds the ids of keys or a time of the machine is of
/// no two servers the same.
fn reading() -> impl Iterator<Item = String> {
    let read = operations().into_iter().filter(|(method, path, _)| method == "GET" && path.starts_with("/api/v1/"));
    let filled = read.map(|(_, path, _)| {
        let id = match path.split('/').nth(3) {
            Some("audiences") => "fews",
            Some("sources") => "lines",
            _ => "level",
        };
        path.replace("{id}", id)
    });
    let differs = ["/api/v1/keys", "/api/v1/audit", "/api/v1/openapi.json"];
    filled.filter(move |path| !path.contains('{') && !differs.iter().any(|begin| path.starts_with(begin)))
}

/// Leave out how far the log is, which nobody promises to hide: it grows with all that is written.
fn without_positions(value: &mut Value) {
    match value {
        Value::Object(members) => {
            members.retain(|name, _| !["as_of", "head", "reacted"].contains(&name.as_str()));
            members.values_mut().for_each(without_positions);
        }
        Value::Array(items) => items.iter_mut().for_each(without_positions),
        _ => {}
    }
}

/// The status and the body, without positions and what is the request's own.
async fn answer(server: &TestServer, method: &str, path: &str, key: &str) -> (u16, Value) {
    let answer = ask(server, method, path).key(key).empty().await;
    let mut body = answer.body;
    if let Some(request_id) = body.get_mut("request_id") {
        *request_id = Value::Null;
    }
    without_positions(&mut body);
    (answer.status.as_u16(), body)
}

/// A key of `plugins:admin` alone read a number that a person has by seven backtests of a plugin of its own, each of which told
/// whether one person or nobody met a condition.
#[tokio::test(flavor = "multi_thread")]
async fn one_person_is_not_told_from_nobody_without_the_scope_for_people() {
    let worlds = [with_ada(None).await, with_ada(Some("few")).await];
    let without_people = Scope::EACH.into_iter().filter(|scope| *scope != Scope::ProfilesRead).collect::<Vec<_>>();
    let asked: Vec<(&str, String)> =
        reading().map(|path| ("GET", path)).chain([("DELETE", LEVEL.to_owned())]).collect();
    assert!(asked.len() > 40, "{asked:?}");
    for scopes in [vec![Scope::PluginsAdmin], without_people] {
        let keys = worlds.each_ref().map(|world| key_with(world, FIRST, &scopes, None));
        for (method, path) in &asked {
            let nobody = answer(&worlds[0], method, path, &keys[0]).await;
            let somebody = answer(&worlds[1], method, path, &keys[1]).await;
            assert_eq!(nobody, somebody, "{method} {path} with {scopes:?}");
        }
        for (method, part) in
            [("GET", "usage"), ("GET", "shadow"), ("GET", "backtest"), ("POST", "backtest"), ("PUT", "shadow")]
        {
            let refused = ask(&worlds[1], method, &format!("{LEVEL}/{part}")).key(&keys[1]);
            refused.json(json!({ "version": "1.0.0" })).await.problem(403, "denied");
        }
    }
    // There is something to be told, and a removal is confirmed without it.
    for (world, people) in worlds.iter().zip([0, 1]) {
        let seen = ask(world, "DELETE", LEVEL).admin().empty().await.problem(409, "confirmation-required");
        assert_eq!(seen["people"], people);
        let held = ask(world, "GET", "/api/v1/workspace").admin().empty().await.with(200);
        assert_eq!(held["totals"]["tags"], people);
        let key = key_with(world, FIRST, &[Scope::PluginsAdmin], None);
        let unseen = ask(world, "DELETE", LEVEL).key(&key).empty().await.problem(409, "confirmation-required");
        assert_eq!((&unseen["people"], &unseen["audiences"]), (&Value::Null, &json!(["fews"])));
        assert_ne!(unseen["token"], seen["token"], "guesses would find the number");
        let confirmed = format!("{LEVEL}?confirm={}", unseen["token"].as_str().unwrap());
        ask(world, "DELETE", &confirmed).key(&key).empty().await.with(204);
    }
}

/// What nobody holds anything of is not removed at once for a key that is not told so otherwise.
#[tokio::test(flavor = "multi_thread")]
async fn a_removal_that_takes_nothing_is_confirmed_without_the_scope_for_people() {
    let server = server();
    keep(&server, &installation_row(901, "level"), PluginKind::TagModel, &[]);
    let key = key_with(&server, FIRST, &[Scope::PluginsAdmin], None);
    let asked = ask(&server, "DELETE", LEVEL).key(&key).empty().await.problem(409, "confirmation-required");
    assert!(asked["message"].as_str().unwrap().contains("`profiles:read`"), "{asked}");
    let confirmed = format!("{LEVEL}?confirm={}", asked["token"].as_str().unwrap());
    ask(&server, "DELETE", &confirmed).key(&key).empty().await.with(204);
}

/// A plugin says what it likes, also by how much it keeps and what figures its fits have.
#[tokio::test(flavor = "multi_thread")]
async fn words_and_figures_of_a_plugin_need_the_scope_for_people() {
    let server = server();
    let row = InstallationRow {
        mode: InstallationMode::Quarantined,
        mode_reason: Some("3 faults over different data, the last: canary".to_owned()),
        ..installation_row(901, "level")
    };
    keep(&server, &row, PluginKind::TagModel, &[]);
    keep_state(&server, row.id, 3);
    let (status, error) = (FitStatus::Held, Some("canary".to_owned()));
    let fit = FitRow { status, error, metrics: vec![("canary".to_owned(), 1.0)], ..succeeded(1, "1.0.0", None) };
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    change.put_fit(fit);
    drop(change.commit().unwrap());
    let blind = key_with(&server, FIRST, &[Scope::PluginsAdmin], None);
    for path in ["/api/v1/installations", LEVEL, "/api/v1/installations/level/fits"] {
        let seen = ask(&server, "GET", path).key(&blind).empty().await.with(200).to_string();
        assert!(!seen.contains("canary") && seen.contains("needs the scope `profiles:read`"), "{path}: {seen}");
        let whole = ask(&server, "GET", path).admin().empty().await.with(200).to_string();
        assert!(whole.contains("canary"), "{path}: {whole}");
    }
    let shown = ask(&server, "GET", LEVEL).key(&blind).empty().await.with(200);
    assert_eq!((&shown["mode"], &shown["fitting"]["alarm"]["status"]), (&json!("quarantined"), &json!("held")));
    let cleared = ask(&server, "DELETE", &format!("{LEVEL}/kv")).key(&blind).empty().await.with(200);
    assert_eq!(cleared, json!({ "keys": null, "bytes": null }));
}

/// A plugin may be of the caller's own, and tell them what it was granted to see.
#[tokio::test(flavor = "multi_thread")]
async fn nobody_has_a_plugin_read_what_they_may_not_see_themselves() {
    let server = server();
    ask(&server, "POST", "/api/v1/plugins").admin().send(CONNECTOR).await.with(201);
    let blind = key_with(&server, FIRST, &[Scope::PluginsAdmin, Scope::ProfilesRead], None);
    let wanted = json!({ "plugin": "fixture/connector", "name": "lines", "grants": { "sensitive": ["traits.ssn"] } });
    // Also what is sensitive only later.
    let refused = ask(&server, "POST", "/api/v1/installations").key(&blind).json(wanted.clone()).await;
    let message = refused.problem(403, "denied")["message"].clone();
    assert!(
        ["`traits.ssn`", "`sensitive:read`"].iter().all(|part| message.as_str().unwrap().contains(part)),
        "{message}"
    );
    ask(&server, "POST", "/api/v1/installations").admin().json(wanted).await.with(201);
    let more = json!({ "grants": { "sensitive": ["traits.ssn", "traits.pay"] } });
    ask(&server, "PATCH", "/api/v1/installations/lines").key(&blind).json(more).await.problem(403, "denied");

    let mut plugin = plugin_row("level", PluginKind::TagModel);
    let (name, reason) = ("ssn".to_owned(), "to see it".to_owned());
    let column_type = ColumnType::Text;
    plugin.manifest.inputs = vec![InputSpec { name, expression: "traits.ssn".to_owned(), column_type, reason }];
    let grants = Grants { sensitive: vec!["traits.ssn".to_owned()], ..Grants::default() };
    let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
    change.put_plugin(plugin);
    change.put_installation(InstallationRow { grants, ..installation_row(901, "level") });
    drop(change.commit().unwrap());
    let entry = json!({ "sensitivity": "sensitive" });
    ask(&server, "PUT", "/api/v1/dictionary/trait/ssn").admin().json(entry).await.with(200);
    let same = || json!({ "grants": { "sensitive": ["traits.ssn"], "limits": { "fuel": 1_000 } } });
    let refused = ask(&server, "PATCH", LEVEL).key(&blind).json(same()).await.problem(403, "denied");
    assert!(refused["message"].as_str().unwrap().contains("`sensitive:read`"), "{refused}");
    // It can be switched off by whoever sees that it is wrong.
    ask(&server, "PATCH", LEVEL).key(&blind).json(json!({ "mode": "disabled" })).await.with(200);
    let sighted = key_with(&server, FIRST, &[Scope::PluginsAdmin, Scope::SensitiveRead], None);
    ask(&server, "PATCH", LEVEL).key(&sighted).json(same()).await.with(200);
}
