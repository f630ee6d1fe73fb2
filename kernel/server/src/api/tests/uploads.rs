//! Plugins that are uploaded, compiled, installed and deleted: whom they hold up, and what they leave.

use std::sync::Arc;

use kith_host::{Expected, KeyValue as _, Setting};
use kith_model::budget::table;
use serde_json::json;

use super::{FIRST, ask, second_workspace};
use crate::serve::tests::{TestServer, server};

const CONNECTOR: &[u8] = include_bytes!("../../../../host/tests/fixtures/0.1/connector.wasm");
const CHANNEL: &[u8] = include_bytes!("../../../../host/tests/fixtures/0.1/channel.wasm");
const VERSION: &str = "/api/v1/plugins/fixture/connector/0.1.0";

/// The connector's code with other bytes: a custom section of its own.
fn other_bytes(mark: u8) -> Vec<u8> {
    [CONNECTOR, &[0, 3, 1, b'x', mark]].concat()
}

/// Files of a folder of the data directory.
fn files(server: &TestServer, folder: &str) -> usize {
    std::fs::read_dir(server.app().config.data_directory.join(folder)).unwrap().count()
}

async fn waiting(server: &TestServer, many: usize) {
    while server.app().wiring.components().waiting(FIRST) != many {
        tokio::task::yield_now().await;
    }
}

/// Regression: whoever uploaded three components that compiled for half a minute each held up every change of every workspace
/// for a minute and a half, because they were compiled one by one under the catalogue's lock.
#[tokio::test(flavor = "multi_thread")]
async fn changes_are_made_while_a_workspace_compiles() {
    let server = Arc::new(server());
    let (_, neighbour) = second_workspace(&server);
    let key = json!({ "title": "x", "scopes": ["metrics:read"] });
    // Stands for a component that compiles for as long as it is held.
    let compiling = {
        let app = Arc::clone(server.app());
        let (begun, has_begun) = std::sync::mpsc::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let thread = std::thread::spawn(move || {
            let _turn = app.wiring.components().hold_compiler(FIRST);
            begun.send(()).unwrap();
            let _ended = ended.recv();
        });
        has_begun.recv().unwrap();
        (end, thread)
    };
    let uploads: Vec<_> = (0..3)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { ask(&server, "POST", "/api/v1/plugins").admin().send(CONNECTOR).await.status })
        })
        .collect();
    waiting(&server, 3).await;
    ask(&server, "POST", "/api/v1/keys").key(&neighbour).json(key.clone()).await.with(201);
    ask(&server, "POST", "/api/v1/keys").admin().json(key).await.with(201);
    waiting(&server, 3).await;
    let (end, thread) = compiling;
    drop(end);
    thread.join().unwrap();
    let mut statuses = Vec::new();
    for upload in uploads {
        statuses.push(upload.await.unwrap().as_u16());
    }
    statuses.sort_unstable();
    assert_eq!(statuses, [200, 200, 201]);
}

#[tokio::test(flavor = "multi_thread")]
async fn few_uploads_of_a_workspace_wait_and_one_whose_caller_left_is_given_up() {
    let server = Arc::new(server());
    let limit = usize::try_from(table::COMPILES_WAITING.default).unwrap();
    let app = Arc::clone(server.app());
    let turn = app.wiring.components().hold_compiler(FIRST);
    let uploads: Vec<_> = (0..limit)
        .map(|_| {
            let server = Arc::clone(&server);
            tokio::spawn(async move { ask(&server, "POST", "/api/v1/plugins").admin().send(CONNECTOR).await.status })
        })
        .collect();
    waiting(&server, limit).await;
    let refused = ask(&server, "POST", "/api/v1/plugins").admin().send(CONNECTOR).await;
    assert!(refused.headers.contains_key("retry-after"));
    assert_eq!(refused.problem(429, "budget-exhausted")["budget"], "compiles-waiting");
    uploads.iter().for_each(tokio::task::JoinHandle::abort);
    waiting(&server, 0).await;
    drop(turn);
    assert_eq!(files(&server, "artifacts"), 0, "nothing was compiled for nobody");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_nobody_has_installed_is_not_in_memory_and_what_is_deleted_not_on_disk() {
    let server = server();
    let components = || server.app().wiring.components();
    ask(&server, "POST", "/api/v1/plugins").admin().send(CONNECTOR).await.with(201);
    assert_eq!(components().loaded_count(), 0);
    assert_eq!((files(&server, "artifacts"), files(&server, "cache")), (1, 1));
    // A version's bytes never change, and what was refused leaves nothing.
    ask(&server, "POST", "/api/v1/plugins").admin().send(other_bytes(1)).await.problem(409, "version-exists");
    assert_eq!((files(&server, "artifacts"), files(&server, "cache")), (1, 1));
    let wanted = json!({ "plugin": "fixture/connector", "name": "lines" });
    ask(&server, "POST", "/api/v1/installations").admin().json(wanted).await.with(201);
    assert_eq!(components().loaded_count(), 1);
    let refused = ask(&server, "DELETE", VERSION).admin().empty().await.problem(409, "in-use");
    assert!(refused["message"].as_str().unwrap().contains("`lines`"), "{refused}");
    ask(&server, "DELETE", "/api/v1/installations/lines").admin().empty().await.with(204);
    assert_eq!(components().loaded_count(), 0);
    ask(&server, "DELETE", VERSION).admin().empty().await.with(204);
    assert_eq!((files(&server, "artifacts"), files(&server, "cache")), (0, 0));
    ask(&server, "DELETE", VERSION).admin().empty().await.problem(404, "not-found");
    ask(&server, "POST", "/api/v1/plugins").admin().send(other_bytes(1)).await.with(201);
}

/// A process that is killed between a component's file and its row leaves the file, or a part of it.
#[tokio::test(flavor = "multi_thread")]
async fn components_that_nothing_names_go_with_the_next_round() {
    let server = server();
    ask(&server, "POST", "/api/v1/plugins").admin().send(CONNECTOR).await.with(201);
    let folder = server.app().config.data_directory.join("artifacts");
    for (name, bytes) in
        [(format!("{}.wasm", "a".repeat(64)), CONNECTOR), (format!("{}.part", "b".repeat(64)), b"half")]
    {
        std::fs::write(folder.join(name), bytes).unwrap();
    }
    std::fs::write(folder.join("README"), "of somebody").unwrap();
    let app = Arc::clone(server.app());
    let round = move || crate::retention::round(&app, app.clock.now());
    tokio::task::spawn_blocking(round).await.unwrap();
    assert_eq!((files(&server, "artifacts"), files(&server, "cache")), (2, 1), "the plugin's, and what is not ours");
    let wanted = json!({ "plugin": "fixture/connector", "name": "lines" });
    ask(&server, "POST", "/api/v1/installations").admin().json(wanted).await.with(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn an_installation_of_which_nothing_is_left_is_looked_through_no_more() {
    let server = server();
    ask(&server, "POST", "/api/v1/plugins").admin().send(CONNECTOR).await.with(201);
    let wanted = json!({ "plugin": "fixture/connector", "name": "lines" });
    ask(&server, "POST", "/api/v1/installations").admin().json(wanted).await.with(201);
    ask(&server, "DELETE", "/api/v1/installations/lines").admin().empty().await.with(204);
    let app = Arc::clone(server.app());
    let looked = move || {
        let tables = || app.catalogue.workspace(FIRST).unwrap();
        let id = *tables().installations.keys().next().unwrap();
        let state = app.wiring.states().of(FIRST, id);
        let now = app.clock.now();
        let keep = || {
            let (value, expected, expires_at) = (b"1".to_vec(), Expected::Anything, None);
            state.set(Setting { key: "k", value, expires_at, expected, quota_bytes: 100 }, now).unwrap();
        };
        let rounds = [0, 2, 4].map(|hours| {
            // A call that was under way at the removal may still write.
            if hours == 0 {
                keep();
            }
            crate::retention::round(&app, now.plus_ms(hours * 3_600_000));
            (state.used().unwrap().keys, tables().installations[&id].is_cleared)
        });
        keep();
        crate::retention::round(&app, now.plus_ms(6 * 3_600_000));
        (rounds, state.used().unwrap().keys)
    };
    let (rounds, kept) = tokio::task::spawn_blocking(looked).await.unwrap();
    assert_eq!(rounds, [(0, false), (0, true), (0, true)]);
    assert_eq!(kept, 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_component_stays_while_another_workspace_has_it() {
    let server = server();
    let (_, neighbour) = second_workspace(&server);
    ask(&server, "POST", "/api/v1/plugins").admin().send(CONNECTOR).await.with(201);
    ask(&server, "POST", "/api/v1/plugins").key(&neighbour).send(CONNECTOR).await.with(201);
    ask(&server, "DELETE", VERSION).admin().empty().await.with(204);
    assert_eq!((files(&server, "artifacts"), files(&server, "cache")), (1, 1));
    let wanted = json!({ "plugin": "fixture/connector" });
    ask(&server, "POST", "/api/v1/installations").key(&neighbour).json(wanted).await.with(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn secrets_that_are_set_and_removed_are_in_the_audit() {
    let server = server();
    ask(&server, "POST", "/api/v1/plugins").admin().send(CHANNEL).await.with(201);
    let wanted = json!({ "plugin": "fixture/channel", "name": "post", "secrets": { "signing": "s3cr3t-value" } });
    ask(&server, "POST", "/api/v1/installations").admin().json(wanted).await.with(201);
    let forget = json!({ "secrets": { "signing": null }, "mode": "disabled" });
    ask(&server, "PATCH", "/api/v1/installations/post").admin().json(forget).await.with(200);
    let audit = ask(&server, "GET", "/api/v1/audit").admin().empty().await.with(200);
    let of_secrets: Vec<(&str, &str)> = (audit["items"].as_array().unwrap().iter())
        .map(|row| (row["action"].as_str().unwrap(), row["target"].as_str().unwrap()))
        .filter(|(action, _)| action.starts_with("secret."))
        .collect();
    assert_eq!(of_secrets, [("secret.set", "post/signing"), ("secret.remove", "post/signing")]);
    assert!(!audit.to_string().contains("s3cr3t"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_configuration_and_a_secret_have_their_sizes() {
    let server = server();
    ask(&server, "POST", "/api/v1/plugins").admin().send(CHANNEL).await.with(201);
    for (budget, part) in [
        ("config-size", json!({ "config": { "url": "x".repeat(70_000) } })),
        ("secret-text", json!({ "secrets": { "signing": "x".repeat(5_000) } })),
    ] {
        let mut wanted = json!({ "plugin": "fixture/channel", "mode": "disabled" });
        wanted.as_object_mut().unwrap().extend(part.as_object().unwrap().clone());
        let refused = ask(&server, "POST", "/api/v1/installations").admin().json(wanted).await;
        assert_eq!(refused.problem(413, "budget-exhausted")["budget"], budget);
    }
    let wanted = json!({ "plugin": "fixture/channel", "mode": "disabled", "config": { "u".repeat(60_000): 1 } });
    let refused = ask(&server, "POST", "/api/v1/installations").admin().json(wanted).await.problem(400, "bad-config");
    assert!(refused.to_string().len() < 2_000, "a mistake quotes little of it: {}", refused.to_string().len());
}
