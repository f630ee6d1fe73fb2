//! The dev channel over the API: other bytes of `0.2.0-dev` for whoever runs it, and for nobody who did not name it.

use kith_host::{Carried, inspect, pack};
use kith_model::budget::table;
use kith_model::plugin::InstallationMode;
use serde_json::{Value, json};

use super::trust::{publish, signed};
use super::{FIRST, Response, ask};
use crate::catalogue::{Actor, InstallationRow};
use crate::serve::tests::{TestServer, server, server_with};
use crate::signatures::SecretKey;

const CONNECTOR: &[u8] = include_bytes!("../../../../host/tests/fixtures/0.1/connector.wasm");

/// The connector as 0.2.0-dev with another title, and something of its manifest replaced.
fn dev(title: &str, from: &str, to: &str) -> Vec<u8> {
    let manifest = inspect(CONNECTOR).unwrap().manifest_toml;
    let manifest = manifest.replace("\"0.1.0\"", "\"0.2.0-dev\"").replace("\"Fixture\"", &format!("\"{title}\""));
    assert!(manifest.contains(from), "{manifest}");
    pack(CONNECTOR, &manifest.replace(from, to), Carried::Replaced, table::COMPONENT_SIZE.default).unwrap()
}

async fn upload(server: &TestServer, query: &str, component: Vec<u8>) -> Response {
    ask(server, "POST", &format!("/api/v1/plugins{query}")).admin().send(component).await
}

async fn install(server: &TestServer, wanted: Value) -> Response {
    ask(server, "POST", "/api/v1/installations").admin().json(wanted).await
}

async fn lines(server: &TestServer) -> Value {
    ask(server, "GET", "/api/v1/installations/lines").admin().empty().await.with(200)
}

fn components(server: &TestServer) -> usize {
    std::fs::read_dir(server.app().config.data_directory.join("artifacts")).unwrap().count()
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_of_a_dev_version_run_wherever_it_is_installed() {
    let server = server();
    upload(&server, "", CONNECTOR.to_vec()).await.with(201);
    let first = upload(&server, "", dev("One", "[plugin]", "[plugin]")).await.with(201);
    assert_eq!((&first["version"], &first["dev"]), (&json!("0.2.0-dev"), &json!(true)));
    let plugin = ask(&server, "GET", "/api/v1/plugins/fixture/connector").admin().empty().await.with(200);
    assert_eq!(plugin["latest"], "0.1.0");
    let unnamed = install(&server, json!({ "plugin": "fixture/connector", "name": "plain" })).await.with(201);
    assert_eq!((&unnamed["version"], &unnamed["dev"]), (&json!("0.1.0"), &json!(false)));
    let wanted = json!({ "plugin": "fixture/connector", "version": "0.2.0-dev", "name": "lines" });
    let installed = install(&server, wanted).await.with(201);
    assert_eq!((&installed["digest"], &installed["dev"]), (&first["digest"], &json!(true)));

    let two = dev("Two", "[plugin]", "[plugin]");
    let second = upload(&server, "", two.clone()).await.with(200);
    assert_eq!(second["upgraded"], json!(["lines"]));
    assert_ne!(second["digest"], first["digest"]);
    let running = lines(&server).await;
    assert_eq!((&running["digest"], &running["activity"]["state"]), (&second["digest"], &json!("running")));
    assert_eq!(components(&server), 2, "what was replaced is gone");
    assert_eq!(upload(&server, "", two).await.with(200)["upgraded"], Value::Null, "the same bytes change nothing");

    // What an upgrade would not be given, nor allowed, is refused, and the present bytes go on.
    let needs = "[config]\nrequired = [\"how\"]\n[config.properties.how]\nenum = [\"well\"]\ndescription = \"How\"\n[capabilities]";
    let refused = upload(&server, "", dev("Three", "[capabilities]", needs)).await.problem(400, "bad-config");
    assert!(refused["message"].as_str().unwrap().starts_with("`lines` cannot run these bytes: "), "{refused}");
    let more = dev("Four", "\"Polled\"", "\"Polled\", \"More\"");
    let refused = upload(&server, "", more.clone()).await.problem(409, "consent-required");
    assert!(
        refused["message"].as_str().unwrap().contains("to emit `More`; upload it with `?consent=true`"),
        "{refused}"
    );
    assert_eq!(lines(&server).await["digest"], second["digest"]);
    assert_eq!(components(&server), 2, "what was refused leaves nothing");
    let fourth = upload(&server, "?consent=true", more).await.with(200);
    assert_eq!(lines(&server).await["digest"], fourth["digest"]);

    let audit = ask(&server, "GET", "/api/v1/audit?limit=500").admin().empty().await.with(200);
    let rows = audit["items"].as_array().unwrap();
    for (action, target) in [("plugin.replace", "fixture/connector@0.2.0-dev"), ("installation.replace", "lines")] {
        let found: Vec<_> = rows.iter().filter(|row| row["action"] == action).collect();
        assert!(found.len() == 2 && found.iter().all(|row| row["target"] == target), "{action}: {found:?}");
        assert_eq!(found[1]["after"]["digest"], fourth["digest"]);
    }
}

/// Whoever gave a stopped installation a version that works found it stopped for what the one before did.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_stopped_runs_with_other_bytes_and_on_the_way_back_is_as_it_was() {
    let server = server();
    upload(&server, "", CONNECTOR.to_vec()).await.with(201);
    upload(&server, "", dev("One", "[plugin]", "[plugin]")).await.with(201);
    let wanted = json!({ "plugin": "fixture/connector", "version": "0.2.0-dev", "name": "lines" });
    install(&server, wanted).await.with(201);
    let stop = || {
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        let row = InstallationRow::clone(change.tables().installation("lines").unwrap());
        let mode_reason = Some("3 faults over different data, the last: trap".to_owned());
        change.put_installation(InstallationRow { mode: InstallationMode::Quarantined, mode_reason, ..row });
        drop(change.commit().unwrap());
    };
    let is = |shown: &Value| (shown["mode"].clone(), shown["mode_reason"].is_null());
    let change = |body: Value| ask(&server, "PATCH", "/api/v1/installations/lines").admin().json(body);
    stop();
    upload(&server, "", dev("Two", "[plugin]", "[plugin]")).await.with(200);
    assert_eq!(is(&lines(&server).await), (json!("live"), true));
    stop();
    let release = json!({ "version": "0.1.0", "allow_downgrade": true });
    let given = change(release).await.with(200);
    assert_eq!((is(&given), &given["activity"]["state"]), ((json!("live"), true), &json!("running")));
    let switched = json!({ "path": "mode", "before": "quarantined", "after": "live" });
    assert!(given["changed"].as_array().unwrap().contains(&switched), "{given}");
    let back = change(json!({ "version": "0.2.0-dev" })).await.with(200);
    assert_eq!(is(&back), (json!("quarantined"), false), "its bytes are those that were stopped");
    assert_eq!(is(&change(json!({ "mode": "live" })).await.with(200)), (json!("live"), true));
    let audit = ask(&server, "GET", "/api/v1/audit?limit=500").admin().empty().await.with(200);
    let lines = |action: &str| audit["items"].as_array().unwrap().iter().filter(|row| row["action"] == action).count();
    assert_eq!((lines("installation.recover"), lines("installation.quarantine")), (2, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_dev_version_is_installed_only_where_it_is_named() {
    let server = server();
    upload(&server, "", dev("One", "[plugin]", "[plugin]")).await.with(201);
    let unnamed = install(&server, json!({ "plugin": "fixture/connector" })).await.problem(400, "bad-input");
    assert!(unnamed["message"].as_str().unwrap().contains("name one, e.g. `0.2.0-dev`"), "{unnamed}");
    let required = json!({ "policy": "required" });
    ask(&server, "PUT", "/api/v1/signature-policy").admin().json(required).await.with(200);
    upload(&server, "", dev("Two", "[plugin]", "[plugin]")).await.problem(400, "signature-refused");
    assert_eq!(components(&server), 1);
}

/// A signature is of bytes: what these had they have again, also when it holds no more.
#[tokio::test(flavor = "multi_thread")]
async fn the_signature_of_earlier_bytes_of_a_dev_version_comes_back_with_them() {
    let server = server();
    let key = SecretKey::generate().unwrap();
    publish(&server, "/api/v1/publishers", &key).await;
    let [one, two] = ["One", "Two"].map(|title| dev(title, "[plugin]", "[plugin]"));
    let question = ask(&server, "POST", "/api/v1/plugins").admin().header("kith-signature", &signed(&key, &one));
    assert_eq!(question.send(one.clone()).await.with(201)["signature"]["state"], "valid");
    let replaced = upload(&server, "", two.clone()).await.with(200);
    assert_eq!(replaced["signature"]["state"], "unsigned", "{replaced}");
    assert_eq!(upload(&server, "", one.clone()).await.with(200)["signature"]["state"], "valid");
    upload(&server, "", two).await.with(200);
    let revoke = format!("/api/v1/publishers/acme/keys/{}/revoke", key.public().number());
    ask(&server, "POST", &revoke).admin().json(json!({ "why": "it was stolen" })).await.with(200);
    upload(&server, "", one).await.problem(400, "signature-refused");
    assert_eq!(components(&server), 1);
}

#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_takes_no_dev_versions_takes_releases() {
    let server = server_with(|config| config.no_dev_versions = true);
    upload(&server, "", dev("One", "[plugin]", "[plugin]")).await.problem(400, "dev-version-refused");
    assert_eq!(components(&server), 0);
    upload(&server, "", CONNECTOR.to_vec()).await.with(201);
}

#[tokio::test(flavor = "multi_thread")]
async fn other_bytes_end_what_runs_beside_them_and_never_run_beside_a_live_version() {
    let server = server();
    upload(&server, "", CONNECTOR.to_vec()).await.with(201);
    upload(&server, "", dev("One", "[plugin]", "[plugin]")).await.with(201);
    let wanted = json!({ "plugin": "fixture/connector", "version": "0.1.0", "name": "lines" });
    install(&server, wanted).await.with(201);
    let shadow = |method| ask(&server, method, "/api/v1/installations/lines/shadow").admin();
    shadow("PUT").json(json!({ "version": "0.2.0-dev" })).await.with(200);
    let two = dev("Two", "[plugin]", "[plugin]");
    let refused = upload(&server, "", two.clone()).await.problem(409, "in-use");
    assert!(refused["message"].as_str().unwrap().contains("runs beside the live version of `lines`"), "{refused}");

    let upgrade = ask(&server, "PATCH", "/api/v1/installations/lines").admin();
    upgrade.json(json!({ "version": "0.2.0-dev" })).await.with(200);
    shadow("GET").empty().await.problem(404, "not-found");
    shadow("PUT").json(json!({ "version": "0.1.0" })).await.with(200);
    assert_eq!(upload(&server, "", two).await.with(200)["upgraded"], json!(["lines"]));
    shadow("GET").empty().await.problem(404, "not-found");
}
