//! A version beside the live one, from its beginning by the command line to its promotion, and one that is tried over what is
//! stored before it is put in place.

use std::process::{Command, Output};

use kith_tests::{Client, TestKernel, kith, wait_until};
use serde_json::{Value, json};

const SHADOW: &str = "/api/v1/installations/hostile/shadow";
const BACKTEST: &str = "/api/v1/installations/hostile/backtest";

fn run(kernel: &TestKernel, arguments: &[&str]) -> Output {
    let mut command = Command::new(kith());
    command.env("KITH_URL", kernel.url()).env("KITH_KEY", kith_tests::ADMIN_KEY).args(arguments).output().unwrap()
}

/// What a command says that goes well.
#[track_caller]
fn said(kernel: &TestKernel, arguments: &[&str]) -> String {
    let output = run(kernel, arguments);
    assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout).unwrap()
}

fn put(admin: &Client, version: &str) -> kith_tests::Answer {
    let body = json!({ "version": version }).to_string();
    admin.send("PUT", SHADOW, &[("content-type", "application/json")], body)
}

fn version_of(kernel: &TestKernel) -> Value {
    kernel.profile("user_id:ada")["tags"]["hostile_version"]["value"].clone()
}

/// One version answers and the other is compared with it, through a restart and until it is promoted.
#[test]
fn a_version_beside_the_live_one_is_compared_and_promoted() {
    let mut kernel = TestKernel::start();
    let web = kernel.segment();
    kernel.install("hostile/tag-model", json!({ "name": "hostile", "config": { "how": "well" } }));
    let admin = kernel.admin();
    admin.get(SHADOW).is_problem(404, "not-found");
    put(&admin, "0.2.0").is_problem(400, "bad-input");
    put(&admin, "0.1.0").is_problem(409, "live-version");
    let next = kernel.upload_newest("hostile/tag-model");
    let begun = said(&kernel, &["plugin", "shadow", "hostile", &next, "--json"]);
    let begun: Value = serde_json::from_str(&begun).unwrap();
    assert_eq!((&begun["running"], &begun["compared"], &begun["version"]), (&json!(true), &json!(0), &json!("0.2.0")));
    assert_eq!(put(&admin, &next).is(200)["since"], begun["since"], "it is safe to repeat");
    web.batch(&[json!({ "type": "identify", "userId": "ada", "traits": { "city": "Rome" } })]);
    kernel.settle();
    assert_eq!(version_of(&kernel), "0.1.0");
    wait_until("ada is compared", || admin.get(SHADOW).is(200)["compared"] == 1);
    let report = admin.get(SHADOW).is(200);
    let output = |name: &str, equal: u64| json!({ "name": name, "equal": equal, "changed": 1 - equal, "only_live": 0, "only_shadow": 0 });
    assert_eq!(report["outputs"], json!([output("hostile", 1), output("hostile_version", 0)]));
    assert_eq!((&report["live"]["calls"], &report["shadow"]["failures"]), (&json!(1), &json!({})));
    assert!(report["shadow"]["cpu_seconds"].as_f64().unwrap() > 0.0, "{report}");
    let example = &report["examples"][0];
    assert_eq!((&example["live"], &example["shadow"]), (&json!("0.1.0"), &json!("0.2.0")));
    assert_eq!(example["profile"], kernel.profile("user_id:ada")["id"]);
    let reader = kernel.caller(&kernel.key(&["plugins:admin"]));
    reader.get(SHADOW).is_problem(403, "denied");
    put(&reader, &next).is_problem(403, "denied");
    admin.delete("/api/v1/plugins/hostile/tag-model/0.2.0").is_problem(409, "in-use");
    admin.send("DELETE", SHADOW, &[("if-match", "\"other\"")], "").is_problem(412, "changed-meanwhile");
    kernel.restart();
    let text = said(&kernel, &["plugin", "shadow", "hostile"]);
    assert!(text.contains("0.2.0 runs beside 0.1.0 of hostile") && text.contains("1 people compared"), "{text}");
    said(&kernel, &["plugin", "upgrade", "hostile", "--version", &next]);
    let admin = kernel.admin();
    admin.get(SHADOW).is_problem(404, "not-found");
    wait_until("its values count", || version_of(&kernel) == "0.2.0");
    put(&admin, "0.1.0").is(200);
    for _ in 0..2 {
        said(&kernel, &["plugin", "shadow", "hostile", "--off"]);
    }
    let log = admin.get("/api/v1/audit?action=installation.shadow").is(200);
    let of = |item: &Value| [&item["before"]["shadow"], &item["after"]["shadow"]].map(Clone::clone);
    // Those who were shown are told of as reads are.
    let is_change = |item: &&Value| item["action"] == "installation.shadow";
    let mut changes: Vec<[Value; 2]> = log["items"].as_array().unwrap().iter().filter(is_change).map(of).collect();
    changes.sort_by_key(|change| format!("{change:?}"));
    let expected = [[Value::Null, json!("0.1.0")], [Value::Null, json!("0.2.0")], [json!("0.1.0"), Value::Null]];
    assert_eq!(changes, expected, "what changes nothing writes nothing: {log}");
    tried_before_it_is_put_in_place(&mut kernel);
}

/// What the way back to 0.1.0 would change is told before anything does, and then does.
fn tried_before_it_is_put_in_place(kernel: &mut TestKernel) {
    let admin = kernel.admin();
    let old = json!({ "name": "old", "condition": "tags.hostile_version == '0.1.0'" });
    admin.post("/api/v1/audiences", &old).is(201);
    kernel.settle();
    admin.get(BACKTEST).is_problem(404, "not-found");
    let told = said(kernel, &["plugin", "backtest", "hostile", "--version", "0.1.0", "--wait", "--json"]);
    let told: Value = serde_json::from_str(&told).unwrap();
    assert_eq!((&told["state"], &told["progress"]), (&json!("done"), &json!({ "done": 1, "of": 1 })), "{told}");
    let ada = kernel.profile("user_id:ada")["id"].clone();
    let example = json!({ "profile": ada, "live": "0.2.0", "backtest": "0.1.0" });
    let output = |name: &str, changed: u64, examples: Value| json!({ "name": name, "equal": 1 - changed, "changed": changed, "only_live": 0, "only_backtest": 0, "examples": examples });
    let outputs = json!([output("hostile", 0, json!([])), output("hostile_version", 1, json!([example]))]);
    assert_eq!(told["outputs"], outputs);
    let entering = json!([{ "profile": ada, "message": null, "reason": null }]);
    let audience = json!({ "name": "old", "entered": 1, "left": 0, "undecided": 0, "on_enter": null, "on_exit": null,
        "entering": entering, "leaving": [] });
    assert_eq!(told["audiences"], json!([audience]));
    let size = |admin: &Client| admin.get("/api/v1/audiences/old").is(200)["size"].clone();
    assert_eq!((version_of(kernel).as_str(), size(&admin)), (Some("0.2.0"), json!(0)), "nothing of it counts");
    let reader = kernel.caller(&kernel.key(&["plugins:admin"]));
    reader.get(BACKTEST).is_problem(403, "denied");
    reader.post(BACKTEST, &json!({ "version": "0.1.0" })).is_problem(403, "denied");
    let reader = kernel.caller(&kernel.key(&["plugins:admin", "profiles:read"]));
    let seen = reader.get(BACKTEST).is(200);
    assert_eq!(seen["outputs"], outputs);
    let of_audiences = [&seen["audiences"], &seen["audiences_unmoved"], &seen["not_followed"]["audiences"]];
    assert_eq!(of_audiences, [&Value::Null; 3], "audiences have a scope of their own");
    admin.delete("/api/v1/plugins/hostile/tag-model/0.1.0").is_problem(409, "in-use");
    kernel.restart();
    let text = said(kernel, &["plugin", "backtest", "hostile"]);
    assert!(text.contains("0.1.0 was tried over 1 of 1 people. 0.2.0 of hostile is live"), "{text}");
    assert_eq!(kernel.admin().get(BACKTEST).is(200)["outputs"], outputs, "with its examples");
    said(kernel, &["plugin", "upgrade", "hostile", "--version", "0.1.0", "--allow-downgrade"]);
    let admin = kernel.admin();
    wait_until("it is as it was told", || size(&admin) == 1);
    assert_eq!(admin.get(BACKTEST).is(200)["changed"], json!([{ "what": "version", "audience": null }]));
    for _ in 0..2 {
        said(kernel, &["plugin", "backtest", "hostile", "--cancel"]);
    }
    admin.get(BACKTEST).is_problem(404, "not-found");
    let log = admin.get("/api/v1/audit?action=installation.backtest").is(200);
    let changes = log["items"].as_array().unwrap().iter();
    let changes = changes.filter(|item| item["before"]["backtest"] != item["after"]["backtest"]);
    assert_eq!(changes.count(), 2, "it was begun once and forgotten once: {log}");
}
