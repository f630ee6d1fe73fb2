//! What is secret is in no answer and in no log, outlives its master key, and is told nobody who comes with another.

use std::path::Path;
use std::process::{Command, Output};
use std::sync::Arc;

use kith_tests::{Client, Process, component, kith, newest_component, pages, repacked, settle, wait_until};
use serde_json::{Value, json};

/// A value that no place may show.
const SECRET: &str = "s3cret-of-this-test";

const SHADOW: &str = "/api/v1/installations/model/shadow";

fn ask(arguments: &[&str], data: &Path) -> Output {
    let mut command = Command::new(kith());
    command.env_remove("KITH_MASTER_KEY").env("KITH_DATA", data).args(arguments).output().unwrap()
}

/// The answer of a command as JSON.
#[track_caller]
fn told(arguments: &[&str], data: &Path) -> Value {
    let output = ask(&[arguments, &["--json"]].concat(), data);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    serde_json::from_slice(&output.stdout).unwrap()
}

/// A model whose `how`, without which it fails, is only written.
fn model() -> Vec<u8> {
    repacked(component("hostile/tag-model"), |manifest| {
        manifest.replacen("[config.properties.how]", "[config.properties.how]\nwriteOnly = true", 1)
    })
}

/// Have a version run beside the model that itself would show what the model does not: it is given that, and does not show it.
#[track_caller]
fn run_beside(admin: &Client) {
    let newest = newest_component("hostile/tag-model");
    admin.send("POST", "/api/v1/plugins", &[], newest.component.clone()).is(201);
    let version = json!({ "version": newest.manifest.version }).to_string();
    let beside = admin.send("PUT", SHADOW, &[("content-type", "application/json")], version).is(200);
    assert_eq!((&beside["config"]["how"], &beside["config"]["migrate"]), (&Value::Null, &json!("done")));
}

/// It answers as the model, which it could not without what is not shown.
#[track_caller]
fn is_compared(admin: &Client) {
    wait_until("the version beside the model is compared", || admin.get(SHADOW).is(200)["compared"] == 1);
    let beside = admin.get(SHADOW).is(200);
    assert_eq!((&beside["outputs"][0]["equal"], &beside["shadow"]["failures"]), (&json!(1), &json!({})), "{beside}");
}

#[test]
fn what_is_only_written_is_never_shown_and_outlives_its_master_key() {
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let neighbour = Arc::default();
    let server = Process::serve_beside(&neighbour, &data, &[]);
    let admin = server.admin();
    admin.send("POST", "/api/v1/plugins", &[], model()).is(201);
    admin.send("POST", "/api/v1/plugins", &[], component("kith/webhook").component.clone()).is(201);
    admin.send("POST", "/api/v1/plugins", &[], component("kith/segment").component.clone()).is(201);
    let path = "/api/v1/installations/model";
    let install = |how: &str| {
        let body = json!({ "plugin": "hostile/tag-model", "name": "model", "config": { "how": how } });
        admin.post("/api/v1/installations", &body)
    };

    // What is wrong is told without what was written.
    let refused = install(SECRET).is_problem(400, "bad-config");
    assert_eq!(refused["errors"][0]["path"], "config/how");
    assert!(!refused.to_string().contains(SECRET), "{refused}");
    let installed = install("trap").is(201);
    assert_eq!((&installed["config"]["how"], &installed["config_set"]), (&Value::Null, &json!({ "how": true })));

    // It is changed unseen, and stays where it is left out.
    let seen = admin.patch(path, &json!({ "config": { "how": "well" }, "dry_run": true })).is(200);
    let unseen = json!([{ "path": "config.how", "before": null, "after": null }]);
    assert_eq!(seen["changed"], unseen, "{seen}");
    assert_eq!(admin.patch(path, &json!({ "config": { "how": "well" } })).is(200)["changed"], unseen);
    // Who guesses it is told the same.
    let guessed = admin.patch(path, &json!({ "config": { "how": "well" }, "dry_run": true })).is(200);
    assert_eq!(guessed["changed"], unseen, "{guessed}");
    let other = admin.patch(path, &json!({ "config": { "migrate": "done" } })).is(200);
    assert_eq!(other["changed"], json!([{ "path": "config.migrate", "before": null, "after": "done" }]));
    assert_eq!(admin.get(path).is(200)["config_set"], json!({ "how": true }));
    admin.patch(path, &json!({ "config": { "how": null } })).is_problem(400, "bad-config");
    run_beside(&admin);

    let hook = json!({ "plugin": "kith/webhook", "name": "hook", "mode": "disabled", "grants": "later",
        "config": { "url": "https://crm.example/hook" }, "secrets": { "signing": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD" } });
    admin.post("/api/v1/installations", &hook).is(201);
    let audit = Value::from(pages(&admin, "/api/v1/audit", 500)).to_string();
    assert!(audit.contains("config_set") && !audit.contains("whsec_"), "{audit}");
    for how in ["\"how\":", "\"trap\"", "\"well\"", SECRET] {
        assert!(!audit.contains(how), "{how}: {audit}");
    }
    assert!(server.terminate().success());

    // Another master key takes over; the installations are what they were.
    let ring = told(&["key", "ring"], &data);
    let key = ring["keys"][0]["key"].as_str().unwrap().to_owned();
    assert_eq!(ring["keys"], json!([{ "key": key, "state": "seals", "records": 4 }]));
    let rotated = told(&["key", "rotate"], &data);
    assert_eq!(rotated["records"], 4);
    let retired = data.join(format!("host.key.{key}"));
    assert_eq!(rotated["retired"], retired.display().to_string());
    let expected = json!([{ "key": rotated["key"], "state": "seals", "records": 4 }]);
    assert_eq!(told(&["key", "ring"], &data)["keys"], expected);

    // The old one is refused, by the id of the one that is missing, and nothing is lost by it.
    let (old, own) = (retired.display().to_string(), data.join("host.key"));
    std::fs::rename(&own, folder.path().join("kept")).unwrap();
    let refused = ask(&["serve", "--listen", "127.0.0.1:0", "--master-key-file", &old], &data);
    let said = String::from_utf8_lossy(&refused.stderr).into_owned();
    assert!(!refused.status.success() && said.contains(rotated["key"].as_str().unwrap()), "{said}");
    assert!(!own.exists(), "no key is made beside a store");

    // Out of the directory it is used as well, and the model is given what it was given.
    let kept = folder.path().join("kept").display().to_string();
    let server = Process::serve_beside(&neighbour, &data, &["--master-key-file", &kept]);
    let admin = server.admin();
    assert_eq!(admin.get(path).is(200)["config_set"], json!({ "how": true }));
    assert_eq!(admin.get("/api/v1/installations/hook").is(200)["secrets"], json!(["signing"]));
    let source = admin.post("/api/v1/installations", &json!({ "plugin": "kith/segment" })).is(201);
    let ada =
        json!({ "batch": [{ "type": "identify", "userId": "ada", "messageId": "1", "traits": { "city": "Rome" } }] });
    Client::with_write_key(server.url(), source["write_key"].as_str().unwrap()).post("/v1/batch", &ada).is(200);
    settle(&admin);
    let found = admin.get("/api/v1/profiles?identifier=user_id%3Aada").is(200);
    assert_eq!(found["tags"]["hostile"]["value"], "Rome", "{found}");
    is_compared(&admin);
    assert!(server.terminate().success());
}
