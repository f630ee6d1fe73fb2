//! Installing and changing a plugin says at once what it could not work with, and two people who edit the same thing do not
//! undo each other's work unseen.

use std::process::Command;

use kith_tests::{ADMIN_KEY, Client, TestKernel, component, kith, newest_component, repacked};
use serde_json::{Value, json};

fn lifecycle(at_risk_days: u32) -> Value {
    json!({ "plugin": "kith/lifecycle", "name": format!("l{at_risk_days}"), "config": { "at_risk_days": at_risk_days } })
}

#[test]
fn what_a_plugin_could_not_work_with_is_said_when_it_is_installed() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    for plugin in ["kith/csv", "kith/lifecycle", "kith/clv", "kith/webhook"] {
        kernel.upload(&admin, plugin);
    }
    let orders = json!({ "event": { "name": "E" }, "identifiers": { "user_id": "id" } });
    for (change, key) in [
        (json!({ "time": { "column": "t", "zone": "Nowhere/Land" } }), "config.time.zone"),
        (json!({ "time": { "column": "t", "formats": ["%Q"] } }), "config.time.formats"),
        (json!({ "event": {} }), "config.event"),
        (json!({ "header": false }), "config.columns"),
        (json!({ "delimiter": "||" }), "config.delimiter"),
    ] {
        let mut config = orders.clone();
        change.as_object().unwrap().iter().for_each(|(name, value)| config[name] = value.clone());
        let body = json!({ "plugin": "kith/csv", "name": "bad", "config": config });
        let problem = admin.post("/api/v1/installations", &body).is_problem(400, "bad-config");
        assert_eq!(problem["errors"][0]["path"], key, "{problem}");
        assert!(problem["errors"][0]["message"].as_str().unwrap().len() > 10, "{problem}");
    }
    for days in [180, 181, 500] {
        let problem = admin.post("/api/v1/installations", &lifecycle(days)).is_problem(400, "bad-config");
        assert_eq!(problem["errors"][0]["path"], "config.at_risk_days");
    }
    let clv = json!({ "plugin": "kith/clv", "config": { "calibration_end": "2026-02-31" } });
    let problem = admin.post("/api/v1/installations", &clv).is_problem(400, "bad-config");
    assert!(problem["errors"][0]["path"].as_str().unwrap().contains("calibration_end"), "{problem}");
    assert_eq!(admin.get("/api/v1/installations").is(200)["items"], json!([]), "none of them is there");

    // The same when it is changed, of what the change leaves as it is, too.
    admin.post("/api/v1/installations", &lifecycle(90)).is(201);
    let patch = json!({ "config": { "dormant_days": 60 } });
    let problem = admin.patch("/api/v1/installations/l90", &patch).is_problem(400, "bad-config");
    assert_eq!(problem["errors"][0]["path"], "config.at_risk_days");
}

/// The way back to the earlier version, whose schema the newer configuration has to meet.
const BACK: &str = "0.1.0";

#[test]
fn a_later_version_makes_its_own_configuration_of_the_present_one() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.upload(&admin, "hostile/tag-model");
    let next = kernel.upload_newest("hostile/tag-model");
    let config = json!({ "how": "well", "migrate": "change" });
    let body = json!({ "plugin": "hostile/tag-model", "version": BACK, "name": "model", "config": config });
    admin.post("/api/v1/installations", &body).is(201);
    let path = "/api/v1/installations/model";
    let change = |body: Value| admin.patch(path, &body);
    let stands = |version: &str, migrate: &str| {
        let shown = admin.get(path).is(200);
        assert_eq!((&shown["version"], &shown["config"]["migrate"]), (&json!(version), &json!(migrate)), "{shown}");
    };

    // What it would do is told first, and by the command line shown and asked about.
    let seen = change(json!({ "version": next, "dry_run": true })).is(200);
    let migrated = json!({ "path": "config.migrate", "before": "change", "after": "done" });
    let version = json!({ "path": "version", "before": BACK, "after": next });
    assert_eq!(seen["changed"], json!([migrated, version]));
    let upgrade = |more: &[&str]| {
        let mut command = Command::new(kith());
        command.env("KITH_URL", kernel.url()).env("KITH_KEY", ADMIN_KEY).args(["plugin", "upgrade", "model"]);
        command.args(more).stdin(std::process::Stdio::null()).output().unwrap()
    };
    let asked = upgrade(&[]);
    let said = String::from_utf8_lossy(&asked.stderr).into_owned();
    assert_eq!(asked.status.code(), Some(2), "{said}");
    assert!(["config.migrate", "change", "done"].iter().all(|word| said.contains(word)), "{said}");
    stands(BACK, "change");
    let done = upgrade(&["--yes"]);
    assert!(done.status.success(), "{}", String::from_utf8_lossy(&done.stderr));
    stands(&next, "done");
    let rows = kith_tests::pages(&admin, "/api/v1/audit", 500);
    let row = rows.iter().rfind(|row| row["action"] == "installation.change").unwrap();
    assert_eq!(
        (&row["before"]["config"]["migrate"], &row["after"]["config"]["migrate"]),
        (&json!("change"), &json!("done"))
    );

    // On the way back it stays as it is, and so does one that comes with the upgrade.
    change(json!({ "version": BACK, "allow_downgrade": true })).is(200);
    stands(BACK, "done");
    change(json!({ "version": next, "config": { "migrate": "refuse" } })).is(200);
    stands(&next, "refuse");
    change(json!({ "version": BACK, "allow_downgrade": true })).is(200);

    // What it makes nothing of, fails on, or makes into what its schema does not take is no upgrade.
    for (migrate, code, place, said) in [
        ("refuse", "config-not-migrated", "config.how", "went another way"),
        ("trap", "config-not-migrated", "", "trap"),
        ("beyond", "bad-config", "config/migrate", "`migrate` of hostile/tag-model 0.2.0 makes {"),
    ] {
        change(json!({ "config": { "migrate": migrate } })).is(200);
        let refused = change(json!({ "version": next })).is_problem(400, code);
        let found = refused["errors"][0]["path"].as_str().unwrap_or_default();
        assert!(found.contains(place) && found.is_empty() == place.is_empty(), "{migrate}: {refused}");
        assert!(refused["message"].as_str().unwrap().contains(said), "{migrate}: {refused}");
        stands(BACK, migrate);
    }
    // What it logged meanwhile is with what the installation logs.
    let log = admin.get("/api/v1/installations/model/logs").is(200);
    let lines = log["items"].as_array().unwrap();
    assert!(lines.iter().any(|line| line["text"].as_str().unwrap().contains("gives up on 0.1.0")), "{log}");
}

/// Both versions of the model, of which one input is the trait that the configuration names.
fn upload_naming_input(admin: &Client) {
    for built in [component("hostile/tag-model"), newest_component("hostile/tag-model")] {
        let named = repacked(built, |manifest| manifest.replace("\"traits.city\"", "\"traits.${config.migrate}\""));
        admin.send("POST", "/api/v1/plugins", &[], named).is(201);
    }
}

#[test]
fn a_later_version_that_would_see_more_by_its_own_configuration_needs_consent() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    upload_naming_input(&admin);
    let next = newest_component("hostile/tag-model").manifest.version.to_string();
    let config = json!({ "how": "well", "migrate": "change" });
    let body = json!({ "plugin": "hostile/tag-model", "version": BACK, "name": "model", "config": config });
    admin.post("/api/v1/installations", &body).is(201);
    let change = |body: Value| admin.patch("/api/v1/installations/model", &body);

    for dry_run in [true, false] {
        let refused = change(json!({ "version": next, "dry_run": dry_run })).is_problem(409, "consent-required");
        assert!(refused["message"].as_str().unwrap().contains("to see `traits.done`"), "{refused}");
    }
    let shown = admin.get("/api/v1/installations/model").is(200);
    assert_eq!((&shown["version"], &shown["config"]["migrate"]), (&json!(BACK), &json!("change")), "{shown}");
    let upgraded = change(json!({ "version": next, "consent": true })).is(200);
    assert_eq!(upgraded["config"]["migrate"], "done", "{upgraded}");
    // What somebody writes into the configuration is agreed to by that.
    change(json!({ "version": BACK, "allow_downgrade": true, "config": { "migrate": "refuse" } })).is(200);
}

#[test]
fn a_host_that_is_asked_for_is_granted_or_said_to_be_granted_later() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.upload(&admin, "kith/webhook");
    let secret = json!({ "signing": "whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD" });
    let hook = |name: &str, url: &str, grants: Value| {
        let config = json!({ "url": url });
        let body =
            json!({ "plugin": "kith/webhook", "name": name, "config": config, "grants": grants, "secrets": secret });
        admin.post("/api/v1/installations", &body)
    };
    let at_url = |problem: Value| assert_eq!(problem["errors"][0]["path"], "config.url", "{problem}");
    at_url(hook("a", "https://a.example/in", json!({})).is_problem(400, "bad-input"));
    at_url(hook("a", "https://a.example/in", json!({ "http": ["b.example"] })).is_problem(400, "bad-input"));
    at_url(hook("a", "https://a.example:8443/in", json!({ "http": ["a.example"] })).is_problem(400, "bad-input"));
    hook("a", "https://a.example/in", json!({ "http": ["a.example"] })).is(201);
    hook("b", "https://a.example/in", json!("later")).is(201);
    hook("c", "https://a.example/in", json!("never")).is_problem(400, "bad-input");
    for (grants, place) in [
        (json!({ "http": ["a.example", "https://a.example"] }), "grants.http[1]"),
        (json!({ "http": ["a.example"], "secrets": { "signing": ["*"] } }), "grants.secrets.signing[0]"),
    ] {
        let refused = hook("c", "https://a.example/in", grants.clone()).is_problem(400, "bad-input");
        assert_eq!(refused["errors"][0]["path"], place, "{refused}");
        let patch = json!({ "grants": grants });
        let refused = admin.patch("/api/v1/installations/a", &patch).is_problem(400, "bad-input");
        assert_eq!(refused["errors"][0]["path"], place, "{refused}");
    }
    at_url(hook("c", "https://u:p@a.example/in", json!({ "http": ["a.example"] })).is_problem(400, "bad-config"));

    let change = |body: Value| admin.patch("/api/v1/installations/a", &body);
    let moved = json!({ "url": "https://b.example/in" });
    at_url(change(json!({ "config": moved })).is_problem(400, "bad-input"));
    at_url(change(json!({ "grants": {} })).is_problem(400, "bad-input"));
    change(json!({ "config": moved, "grants": { "http": ["b.example"] } })).is(200);
    change(json!({ "config": { "url": "https://c.example/in" }, "grants": "later" })).is(200);
    assert_eq!(admin.get("/api/v1/installations/a").is(200)["grants"]["http"], json!(["b.example"]));
    // What has nothing to do with hosts goes on working, also where the grants are sent back whole.
    change(json!({ "mode": "disabled" })).is(200);
    let mut grants = admin.get("/api/v1/installations/b").is(200)["grants"].clone();
    let change = |grants: &Value| admin.patch("/api/v1/installations/b", &json!({ "grants": grants }));
    grants["limits"]["cpu_ms"] = json!(100);
    grants["kv_bytes"] = json!(10);
    let limited = change(&grants).is(200);
    assert_eq!(limited["grants"]["limits"]["cpu_ms"], 100, "{limited}");
    for (part, other) in
        [("http", json!(["b.example"])), ("networks", json!(["10.1.0.0/16"])), ("secrets", json!({ "signing": [] }))]
    {
        let mut other_hosts = grants.clone();
        other_hosts[part] = other;
        at_url(change(&other_hosts).is_problem(400, "bad-input"));
    }
}

#[test]
fn a_change_is_merged_says_what_it_changed_and_undoes_no_one_elses() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.upload(&admin, "kith/lifecycle");
    admin.post("/api/v1/installations", &lifecycle(90)).is(201);
    let path = "/api/v1/installations/l90";
    let changes = |admin: &kith_tests::Client| {
        let rows = kith_tests::pages(admin, "/api/v1/audit", 500);
        rows.iter().filter(|row| row["action"].as_str().unwrap().ends_with(".change")).count()
    };
    let read = admin.get(path);
    let tag = read.header("etag").to_owned();
    assert!(tag.starts_with('"'), "a strong one: {tag}");
    let changed = admin.patch(path, &json!({ "config": { "new_days": 7 } })).is(200);
    assert_eq!(changed["changed"], json!([{ "path": "config.new_days", "before": 30, "after": 7 }]), "{changed}");
    assert_eq!((&changed["config"]["at_risk_days"], &changed["config"]["new_days"]), (&json!(90), &json!(7)));
    let back = admin.patch(path, &json!({ "config": { "new_days": null } })).is(200);
    assert_eq!(back["config"]["new_days"], 30, "its default");
    assert_eq!(admin.get(path).header("etag"), tag, "it is as it was");
    assert_eq!(changes(&admin), 2);
    let none = admin.patch(path, &json!({ "config": { "new_days": 30 }, "mode": "live" })).is(200);
    assert_eq!((&none["changed"], changes(&admin)), (&json!([]), 2), "what changes nothing is not written down");

    admin.post("/api/v1/audiences", &json!({ "name": "all", "condition": "true" })).is(201);
    let edits = [
        (path, json!({ "config": { "new_days": 8 } }), json!({ "config": { "new_days": 9 } })),
        ("/api/v1/audiences/all", json!({ "title": "One" }), json!({ "title": "Other" })),
        ("/api/v1/workspaces/default", json!({ "title": "One" }), json!({ "title": "Other" })),
    ];
    for (path, one, other) in edits {
        let tag = admin.get(path).header("etag").to_owned();
        let edit = |body: &Value, tag: &str| {
            let headers = [("content-type", "application/json"), ("if-match", tag)];
            admin.send("PATCH", path, &headers, body.to_string())
        };
        let newer = edit(&one, &tag);
        newer.is(200);
        let problem = edit(&other, &tag).is_problem(412, "changed-meanwhile");
        assert!(problem["message"].as_str().unwrap().contains("Read it again"), "{problem}");
        assert_eq!(newer.header("etag"), problem["etag"].as_str().unwrap(), "{path}");
        edit(&other, newer.header("etag")).is(200);
        let before = changes(&admin);
        admin.patch(path, &other).is(200);
        assert_eq!(changes(&admin), before, "{path}: what changes nothing is not written down");
    }
}
