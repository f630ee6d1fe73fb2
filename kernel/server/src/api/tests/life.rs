//! Every step of a plugin's life, each taken twice: what is done already is not done again, and the audit log has it once.

use kith_host::{Carried, inspect, pack};
use kith_model::budget::table;
use serde_json::{Value, json};

use super::{Response, ask};
use crate::serve::tests::{TestServer, server};

const CONNECTOR: &[u8] = include_bytes!("../../../../host/tests/fixtures/0.1/connector.wasm");

const PLUGIN: &str = "/api/v1/plugins/fixture/connector";
const LINES: &str = "/api/v1/installations/lines";

/// The connector as 0.2.0.
fn later() -> Vec<u8> {
    let manifest = inspect(CONNECTOR).unwrap().manifest_toml.replace("\"0.1.0\"", "\"0.2.0\"");
    pack(CONNECTOR, &manifest, Carried::Replaced, table::COMPONENT_SIZE.default).unwrap()
}

async fn say(server: &TestServer, method: &str, path: &str, body: Value) -> Response {
    ask(server, method, path).admin().json(body).await
}

async fn delete(server: &TestServer, path: &str) -> Response {
    ask(server, "DELETE", path).admin().empty().await
}

#[tokio::test(flavor = "multi_thread")]
async fn every_step_of_a_plugins_life_is_audited_and_safe_to_repeat() {
    let server = server();
    for component in [CONNECTOR.to_vec(), later()] {
        for status in [201, 200] {
            ask(&server, "POST", "/api/v1/plugins").admin().send(component.clone()).await.with(status);
        }
    }
    let wanted = json!({ "plugin": "fixture/connector", "version": "0.1.0", "name": "lines" });
    say(&server, "POST", "/api/v1/installations", wanted.clone()).await.with(201);
    say(&server, "POST", "/api/v1/installations", wanted).await.problem(409, "name-taken");

    let (beside, shadow) = (json!({ "version": "0.2.0" }), format!("{LINES}/shadow"));
    let begun = say(&server, "PUT", &shadow, beside.clone()).await.with(200);
    assert_eq!(say(&server, "PUT", &shadow, beside).await.with(200)["since"], begun["since"]);
    for _ in 0..2 {
        delete(&server, &shadow).await.with(204);
    }

    for step in [
        json!({ "version": "0.2.0" }),
        json!({ "version": "0.1.0", "allow_downgrade": true }),
        json!({ "mode": "disabled" }),
        json!({ "mode": "live" }),
    ] {
        let first = say(&server, "PATCH", LINES, step.clone()).await.with(200);
        assert_ne!(first["changed"], json!([]), "{step}");
        let again = say(&server, "PATCH", LINES, step.clone()).await.with(200);
        assert_eq!(again["changed"], json!([]), "{step}");
    }
    for step in ["yank", "unyank"] {
        for _ in 0..2 {
            say(&server, "POST", &format!("{PLUGIN}/0.2.0/{step}"), json!({ "reason": "a try" })).await.with(200);
        }
    }

    delete(&server, &format!("{PLUGIN}/0.1.0")).await.problem(409, "in-use");
    for path in [LINES.to_owned(), format!("{PLUGIN}/0.2.0"), format!("{PLUGIN}/0.1.0")] {
        delete(&server, &path).await.with(204);
        delete(&server, &path).await.problem(404, "not-found");
    }

    let audit = ask(&server, "GET", "/api/v1/audit?limit=500").admin().empty().await.with(200);
    let rows = audit["items"].as_array().unwrap();
    for (action, times) in [
        ("plugin.upload", 2),
        ("installation.create", 1),
        ("installation.shadow", 2),
        ("installation.downgrade", 1),
        ("plugin.yank", 1),
        ("plugin.unyank", 1),
        ("installation.remove", 1),
        ("plugin.delete", 2),
    ] {
        assert_eq!(rows.iter().filter(|row| row["action"] == action).count(), times, "{action}");
    }
}
