//! What a plugin may do: granted in a file where no person is asked, and shown item by item with who decided.

use std::process::{Command, Output};

use kith_tests::{TestKernel, kith};
use serde_json::{Value, json};

fn run(kernel: &TestKernel, arguments: &[&str]) -> Output {
    let mut command = Command::new(kith());
    command.env("KITH_URL", kernel.url()).env("KITH_KEY", kith_tests::ADMIN_KEY).args(arguments).output().unwrap()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

/// The item of a policy of this kind and name.
#[track_caller]
fn item<'p>(policy: &'p Value, kind: &str, name: &str) -> &'p Value {
    let found = policy["items"].as_array().unwrap().iter().find(|item| item["kind"] == kind && item["name"] == name);
    found.unwrap_or_else(|| panic!("no {kind} {name} in {policy}"))
}

const DECIDED: &str = r#"
[grants]
http = ["a.example"]
recipients = ["email"]
limits = { cpu_ms = 100, requests_per_minute = 60 }
[grants.secrets]
signing = ["a.example"]
[refused]
recipients = ["user_id", "phone", "anonymous_id"]
secrets = ["receipts"]
[config]
url = "https://a.example/in"
"#;

/// What a grant leaves out of what may be emitted is set aside, and the plugin goes on.
fn narrow_what_may_be_emitted(kernel: &TestKernel) {
    let admin = kernel.admin();
    kernel.install("hostile/connector", json!({ "name": "shop", "grants": { "emits": ["Other"] } }));
    let narrowed = admin.get("/api/v1/installations/shop/policy").is(200);
    let event = item(&narrowed, "event", "*");
    assert_eq!((&event["effective"], &event["decided_by"]), (&json!(["Other"]), &json!("grant")));
    let send = || admin.send("POST", "/api/v1/sources/shop/records", &[], "ada").json();
    let left_out = send();
    assert_eq!(left_out["accepted"], 0, "{left_out}");
    assert!(left_out.to_string().contains("undeclared-event"), "{left_out}");
    admin.patch("/api/v1/installations/shop", &json!({ "grants": { "emits": null } })).is(200);
    assert_eq!(send()["accepted"], 1);
}

#[test]
fn a_file_decides_on_everything_that_a_plugin_asks_for_and_the_policy_shows_it() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.upload(&admin, "kith/webhook");
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("grants.toml");
    let named = file.to_str().unwrap();
    let install = |content: &str| {
        std::fs::write(&file, content).unwrap();
        let secret = "signing=whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
        run(&kernel, &["plugin", "install", "kith/webhook", "--name", "hook", "--grants", named, "--secret", secret])
    };

    // A template names all, but for the hosts of a pattern.
    let template = text(&run(&kernel, &["plugin", "grants", "kith/webhook"]).stdout);
    assert!(template.contains("POST to `*`: Messages are posted to the address in `url`"), "{template}");
    for (content, said) in [
        (template.clone(), "neither grants.http nor refused.http decides on `*`"),
        (DECIDED.replacen("secrets = [\"receipts\"]", "", 1), "decides on `receipts`"),
        (DECIDED.replacen("http =", "htpp =", 1), "line 3"),
        (DECIDED.replacen("[\"email\"]", "[\"email\", \"fax\"]", 1), "the manifest does not ask for `fax`"),
    ] {
        let refused = install(&content);
        let told = text(&refused.stderr);
        assert_eq!(refused.status.code(), Some(2), "{told}");
        assert!(told.contains(said), "{said}: {told}");
    }
    assert_eq!(admin.get("/api/v1/installations").is(200)["items"], json!([]), "none of them asked, nor did anything");
    let installed = install(DECIDED);
    let asked = text(&installed.stderr);
    assert!(installed.status.success(), "{asked}");
    // What was agreed to stands before what came of it, and a program finds it in the answer.
    for line in ["http POST *; granted: POST a.example:443 (Messages are posted", "a recipient's phone; not granted"] {
        assert!(asked.contains(line), "{asked}");
    }
    let config = r#"{"url":"https://a.example/in"}"#;
    let secret = "signing=whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD";
    let plain =
        ["plugin", "install", "kith/webhook", "--name", "plain", "--config", config, "--grant-http", "a.example"];
    let plain = run(&kernel, &[&plain[..], &["--secret", secret, "--json"]].concat());
    let answer: Value = serde_json::from_slice(&plain.stdout).unwrap_or_else(|_| panic!("{}", text(&plain.stderr)));
    assert!(item(&answer["policy"], "http", "a.example")["reason"].as_str().unwrap().starts_with("Messages are"));
    assert!(plain.stderr.is_empty(), "{}", text(&plain.stderr));
    assert_eq!(admin.get("/api/v1/installations/plain").is(200).get("policy"), None);

    let policy = admin.get("/api/v1/installations/hook/policy").is(200);
    let http = item(&policy, "http", "a.example");
    assert_eq!((&http["asked"], &http["granted"]), (&json!(["POST *"]), &json!(["a.example"])));
    assert_eq!((&http["effective"], &http["decided_by"]), (&json!(["POST a.example:443"]), &json!("grant")));
    assert!(http["reason"].as_str().unwrap().starts_with("Messages are posted"), "{http}");
    let refused = item(&policy, "recipient", "phone");
    assert_eq!((&refused["effective"], &refused["decided_by"]), (&json!([]), &json!("grant")));
    assert_eq!(item(&policy, "secret", "receipts")["effective"], Value::Null);
    assert_eq!(item(&policy, "input", "name")["decided_by"], "manifest");
    let limit = item(&policy, "limit", "cpu_ms");
    assert_eq!((&limit["effective"], &limit["decided_by"]), (&json!(100), &json!("grant")));
    let rate = item(&policy, "limit", "requests_per_minute");
    assert_eq!((&rate["effective"], &rate["ceiling"]), (&json!(60), &json!(600_000)));
    assert_eq!(item(&policy, "limit", "host_calls")["decided_by"], "host");
    let shown = text(&run(&kernel, &["plugin", "policy", "hook"]).stdout);
    assert!(shown.contains("POST a.example:443") && shown.contains("decided by"), "{shown}");
    admin.get("/api/v1/installations/none/policy").is_problem(404, "not-found");

    narrow_what_may_be_emitted(&kernel);

    // All grants of a change, in place of those that are there.
    std::fs::write(&file, DECIDED.replacen("cpu_ms = 100", "cpu_ms = 50", 1)).unwrap();
    let changed = run(&kernel, &["plugin", "change", "hook", "--grants", named, "--json"]);
    let changed: Value = serde_json::from_slice(&changed.stdout).unwrap();
    let places: Vec<&Value> = changed["changed"].as_array().unwrap().iter().map(|change| &change["path"]).collect();
    assert_eq!(places, [&json!("grants.limits")]);
}
