//! Workspaces as a resource: made, used, renamed, suspended and resumed, deleted, by a host key and by nobody else.

use std::process::Command;

use kith_tests::{ADMIN_KEY, Client, Receiver, SIGNING_SECRET, TestKernel, kith, pages, wait_for, wait_until};
use serde_json::{Value, json};

/// A workspace, its admin and the sender of its source.
struct Tenant {
    admin: Client,
    key: String,
    write_key: String,
}

impl Tenant {
    fn new(kernel: &TestKernel, name: &str) -> Tenant {
        let key = kernel.workspace(name)["key"].as_str().unwrap().to_owned();
        let admin = kernel.caller(&key);
        let source = kernel.install_as(&admin, "kith/segment", json!({ "name": "segment" }));
        Tenant { admin, key, write_key: source["write_key"].as_str().unwrap().to_owned() }
    }

    /// Write to who is in Oslo through `receiver`.
    fn write_to_oslo(&self, kernel: &TestKernel, receiver: &Receiver) {
        let host = receiver.host();
        let webhook = json!({
            "name": "webhook", "config": { "url": format!("http://{host}/") },
            "grants": { "http": [host], "secrets": { "signing": [host] } }, "secrets": { "signing": SIGNING_SECRET },
        });
        kernel.install_as(&self.admin, "kith/webhook", webhook);
        let audience = json!({
            "name": "oslo", "condition": "traits.city == 'Oslo'",
            "on_enter": { "channel": "webhook", "purpose": "x", "basis": "not_refused", "payload": {} },
        });
        self.admin.post("/api/v1/audiences", &audience).is(201);
        wait_until("the audience is computed", || self.admin.get("/api/v1/audiences/oslo").is(200)["size"].is_u64());
    }

    fn batch(&self, kernel: &TestKernel, user: &str) -> kith_tests::Answer {
        let message = json!({ "type": "identify", "userId": user, "messageId": user, "traits": { "city": "Oslo" } });
        Client::with_write_key(kernel.url(), &self.write_key).post("/v1/batch", &json!({ "batch": [message] }))
    }
}

fn patch(kernel: &TestKernel, name: &str, body: &Value) -> Value {
    kernel.admin().patch(&format!("/api/v1/workspaces/{name}"), body).is(200)
}

/// Delete a workspace as somebody who reads the numbers.
fn delete(kernel: &TestKernel, name: &str) -> Value {
    let path = format!("/api/v1/workspaces/{name}");
    let asked = kernel.admin().delete(&path).is_problem(409, "confirmation-required");
    kernel.admin().delete(&format!("{path}?confirm={}", asked["token"].as_str().unwrap())).is(204);
    asked
}

#[test]
fn a_workspace_is_made_used_renamed_and_listed() {
    let mut kernel = TestKernel::start();
    let admin = kernel.admin();
    let made = admin
        .post("/api/v1/workspaces", &json!({ "name": "shop", "title": "The shop", "time_zone": "Europe/Oslo" }))
        .is(201);
    let key = made["key"].as_str().unwrap().to_owned();
    let own = kernel.caller(&key).get("/api/v1/workspace").is(200);
    assert_eq!((&own["name"], &own["title"], &own["state"]), (&json!("shop"), &json!("The shop"), &json!("active")));
    assert_eq!(own["time_zone"], "Europe/Oslo");
    admin.post("/api/v1/workspaces", &json!({ "name": "shop", "time_zone": "UTC" })).is_problem(409, "name-taken");
    for (body, place) in [
        (json!({ "name": "Shop", "time_zone": "UTC" }), "name"),
        (json!({ "name": "x", "time_zone": "Mars/Base" }), "time_zone"),
        (json!({ "name": "x", "time_zone": "UTC", "budgets": { "people": 1 } }), "budgets"),
        (json!({ "name": "x", "time_zone": "UTC", "budgets": { "keys-kept": 0 } }), "budgets.keys-kept"),
    ] {
        let refused = admin.post("/api/v1/workspaces", &body).is_problem(400, "bad-input");
        assert_eq!(refused["errors"][0]["path"], place, "{body}");
    }
    let titled =
        admin.post("/api/v1/workspaces", &json!({ "name": "x", "time_zone": "UTC", "title": "t".repeat(257) }));
    assert_eq!(titled.is_problem(413, "budget-exhausted")["budget"], "title-text");
    // Another name, and the same workspace.
    patch(&kernel, "shop", &json!({ "name": "store" }));
    admin.get("/api/v1/workspaces/shop").is_problem(404, "not-found");
    admin.patch("/api/v1/workspaces/store", &json!({ "name": "default" })).is_problem(409, "name-taken");
    kernel.restart();
    assert_eq!(kernel.caller(&key).get("/api/v1/workspace").is(200)["name"], "store");
    let names: Vec<Value> = pages(&kernel.admin(), "/api/v1/workspaces", 1)
        .into_iter()
        .map(|workspace| workspace["name"].clone())
        .collect();
    assert_eq!(names, ["default", "neighbour", "store"]);
    // Who did what is written down for both.
    let acts = |log: Vec<Value>| -> Vec<String> {
        log.iter().map(|line| line["action"].as_str().unwrap().to_owned()).collect()
    };
    let host = acts(pages(&kernel.admin(), "/api/v1/host/audit", 50));
    assert_eq!(host, ["workspace.create", "workspace.create", "workspace.change"]);
    let own = pages(&kernel.caller(&key), "/api/v1/audit", 50);
    assert_eq!(acts(own.clone()), ["workspace.create", "workspace.change"]);
    assert_eq!((&own[1]["before"]["name"], &own[1]["after"]["name"]), (&json!("shop"), &json!("store")));
}

#[test]
fn only_a_host_key_manages_workspaces_and_nobody_else_can_make_one() {
    let kernel = TestKernel::start();
    let own = kernel.caller(&kernel.second_workspace());
    own.get("/api/v1/workspaces").is_problem(403, "denied");
    own.post("/api/v1/workspaces", &json!({ "name": "mine", "time_zone": "UTC" })).is_problem(403, "denied");
    own.delete("/api/v1/workspaces/default").is_problem(403, "denied");
    own.get("/api/v1/host/audit").is_problem(403, "denied");
    let host_scope = json!({ "title": "x", "scopes": ["workspaces:admin"] });
    own.post("/api/v1/keys", &host_scope).is_problem(403, "denied");
    // `*` of the first workspace is no more than that of any other.
    let everything = kernel.caller(&kernel.key(&["*"]));
    everything.get("/api/v1/workspaces").is_problem(403, "denied");
    everything.post("/api/v1/keys", &host_scope).is_problem(403, "denied");
    let keys = everything.get("/api/v1/keys").is(200);
    let first = keys["items"].as_array().unwrap().iter().find(|key| key["title"] == "first admin key").unwrap().clone();
    let path = format!("/api/v1/keys/{}", first["id"].as_str().unwrap());
    everything.delete(&path).is_problem(403, "denied");
    // The host hands its own right on, and keeps one key of it.
    kernel.admin().delete(&path).is_problem(409, "last-host-key");
    let other = kernel.admin().post("/api/v1/keys", &host_scope).is(201);
    let other = kernel.caller(other["key"].as_str().unwrap());
    other.get("/api/v1/workspaces").is(200);
    other.get("/api/v1/audiences").is_problem(403, "denied");
}

#[test]
fn a_suspended_workspace_stands_still_and_goes_on() {
    let mut kernel = TestKernel::start();
    let tenant = Tenant::new(&kernel, "shop");
    let receiver = Receiver::start();
    tenant.write_to_oslo(&kernel, &receiver);
    // The other side is down, so that the first message waits.
    receiver.will_answer(503, &[]);
    tenant.batch(&kernel, "ada").is(200);
    wait_until("it was tried", || receiver.arrived().len() == 1);
    wait_until("and waits", || tenant.admin.get("/api/v1/workspace").is(200)["totals"]["deliveries"]["pending"] == 1);
    receiver.will_answer(200, &[]);
    let suspended = patch(&kernel, "shop", &json!({ "state": "suspended" }));
    assert_eq!(suspended["state"], "suspended");

    for round in 0..2 {
        let tenant_now = kernel.caller(&tenant.key);
        for path in ["/api/v1/workspace", "/api/v1/audiences", "/api/v1/keys"] {
            tenant_now.get(path).is_problem(403, "workspace-suspended");
        }
        let refused = tenant.batch(&kernel, "bob");
        refused.is_problem(503, "workspace-suspended");
        assert_eq!(refused.header("retry-after"), "300");
        let records = tenant_now.send("POST", "/api/v1/sources/segment/records", &[], "{}");
        records.is_problem(503, "workspace-suspended");
        // Past every wait between two attempts, nothing is tried.
        kernel.clock.advance_ms(86_400_000);
        kernel.settle();
        assert_eq!(receiver.arrived().len(), 1, "in round {round}");
        assert_eq!(Client::new(kernel.url(), None).get("/readyz").is(200)["status"], "ready");
        if round == 0 {
            kernel.restart();
        }
    }

    assert_eq!(patch(&kernel, "shop", &json!({ "state": "active" }))["state"], "active");
    wait_until("the message is delivered", || receiver.arrived().len() == 2);
    let tenant_now = kernel.caller(&tenant.key);
    wait_until("and known to be", || {
        tenant_now.get("/api/v1/workspace").is(200)["totals"]["deliveries"]["delivered"] == 1
    });
    tenant.batch(&kernel, "bob").is(200);
    wait_until("the next one is written to", || receiver.arrived().len() == 3);
    assert_eq!(tenant_now.get("/api/v1/workspace").is(200)["totals"]["profiles"], 2);
}

#[test]
fn what_was_suspended_and_is_no_longer_wanted_does_not_leave() {
    let kernel = TestKernel::start();
    let tenant = Tenant::new(&kernel, "shop");
    let receiver = Receiver::start();
    tenant.write_to_oslo(&kernel, &receiver);
    receiver.will_answer(503, &[("retry-after", "3600")]);
    tenant.batch(&kernel, "ada").is(200);
    wait_until("it was tried", || receiver.arrived().len() == 1);
    let refusal = json!({
        "type": "identify", "userId": "ada", "messageId": "no", "traits": { "consent": { "x": false } },
    });
    wait_until("and waits", || tenant.admin.get("/api/v1/workspace").is(200)["totals"]["deliveries"]["pending"] == 1);
    // She refuses while it waits, and it falls due while the workspace is suspended.
    let taken =
        Client::with_write_key(kernel.url(), &tenant.write_key).post("/v1/batch", &json!({ "batch": [refusal] }));
    taken.is(200);
    patch(&kernel, "shop", &json!({ "state": "suspended" }));
    receiver.will_answer(200, &[]);
    kernel.clock.advance_ms(86_400_000);
    patch(&kernel, "shop", &json!({ "state": "active" }));
    let delivery = wait_for("it has ended", || {
        let all = pages(&tenant.admin, "/api/v1/deliveries", 50);
        all.into_iter().find(|delivery| delivery["state"] != "pending" && delivery["state"] != "sending")
    });
    assert_eq!((&delivery["state"], receiver.arrived().len()), (&json!("skipped"), 1), "{delivery}");
}

#[test]
fn a_deleted_workspace_is_gone_at_once_and_its_name_is_free() {
    let mut kernel = TestKernel::start();
    let tenant = Tenant::new(&kernel, "shop");
    let receiver = Receiver::start();
    tenant.write_to_oslo(&kernel, &receiver);
    receiver.will_answer(503, &[]);
    for user in ["ada", "bob"] {
        tenant.batch(&kernel, user).is(200);
    }
    wait_until("both wait", || tenant.admin.get("/api/v1/workspace").is(200)["totals"]["deliveries"]["pending"] == 2);
    wait_until("both were tried", || receiver.arrived().len() >= 2);
    kernel.admin().delete("/api/v1/workspaces/shop?confirm=nonsense").is_problem(409, "confirmation-required");
    let asked = delete(&kernel, "shop");
    assert_eq!((&asked["people"], &asked["audiences"], &asked["installations"]), (&json!(2), &json!(1), &json!(2)));
    let arrived = receiver.arrived().len();
    receiver.will_answer(200, &[]);

    for _ in 0..2 {
        kernel.caller(&tenant.key).get("/api/v1/workspace").is_problem(401, "unauthenticated");
        tenant.batch(&kernel, "eve").is_problem(401, "unauthenticated");
        kernel.admin().get("/api/v1/workspaces/shop").is_problem(404, "not-found");
        kernel.clock.advance_ms(86_400_000);
        kernel.settle();
        assert_eq!(receiver.arrived().len(), arrived, "no message leaves");
        kernel.restart();
    }

    let again = kernel.caller(kernel.workspace("shop")["key"].as_str().unwrap());
    let totals = again.get("/api/v1/workspace").is(200)["totals"].clone();
    assert_eq!((&totals["profiles"], &totals["deliveries"]["pending"]), (&json!(0), &json!(0)));
    assert_eq!(again.get("/api/v1/audiences").is(200)["items"], json!([]));
    kernel.caller(&tenant.key).get("/api/v1/workspace").is_problem(401, "unauthenticated");
}

#[test]
fn the_first_workspace_can_be_deleted_and_the_host_key_stays() {
    let kernel = TestKernel::start();
    let tenant = Tenant::new(&kernel, "shop");
    patch(&kernel, "default", &json!({ "state": "suspended" }));
    kernel.admin().get("/api/v1/audiences").is_problem(403, "denied");
    patch(&kernel, "default", &json!({ "state": "active" }));
    kernel.admin().get("/api/v1/audiences").is(200);
    delete(&kernel, "default");
    kernel.admin().get("/api/v1/audiences").is_problem(403, "denied");
    kernel.admin().get("/api/v1/workspaces/shop").is(200);
    tenant.batch(&kernel, "ada").is(200);
    patch(&kernel, "shop", &json!({ "state": "suspended" }));
    patch(&kernel, "shop", &json!({ "state": "active" }));
    kernel.workspace("default");
}

#[test]
fn a_workspace_keeps_as_much_as_its_budgets_say() {
    let kernel = TestKernel::start_with(|config| config.max_workspaces = 3);
    let wanted = json!({
        "name": "small", "time_zone": "UTC",
        "budgets": { "audiences-kept": 1, "installations-kept": 1, "keys-kept": 3 },
    });
    let made = kernel.admin().post("/api/v1/workspaces", &wanted).is(201);
    let small = kernel.caller(made["key"].as_str().unwrap());
    let exhausted = |answer: kith_tests::Answer, budget: &str, limit: u64| {
        let refused = answer.is_problem(409, "budget-exhausted");
        assert_eq!((&refused["budget"], &refused["limit"]), (&json!(budget), &json!(limit)));
    };
    let no_room = kernel.admin().post("/api/v1/workspaces", &json!({ "name": "fourth", "time_zone": "UTC" }));
    exhausted(no_room, "workspaces-kept", 3);
    let audience = |name: &str| small.post("/api/v1/audiences", &json!({ "name": name, "condition": "true" }));
    audience("one").is(201);
    exhausted(audience("two"), "audiences-kept", 1);
    small.delete("/api/v1/audiences/one").is(204);
    audience("two").is(201);
    kernel.install_as(&small, "kith/segment", json!({ "name": "one" }));
    let again = small.post("/api/v1/installations", &json!({ "plugin": "kith/segment", "name": "two" }));
    exhausted(again, "installations-kept", 1);
    // The first key and the source's are two.
    let key = || small.post("/api/v1/keys", &json!({ "title": "t", "scopes": ["audiences:read"] }));
    let third = key().is(201);
    exhausted(key(), "keys-kept", 3);
    let shown = kernel.admin().get("/api/v1/workspaces/small").is(200);
    assert_eq!(shown["budgets"]["keys-kept"], json!({ "kept": 3, "limit": 3 }));
    small.delete(&format!("/api/v1/keys/{}", third["id"].as_str().unwrap())).is(204);
    key().is(201);
    patch(&kernel, "small", &json!({ "budgets": { "keys-kept": 4, "audiences-kept": null } }));
    key().is(201);
    audience("three").is(201);
}

#[test]
fn the_command_line_does_all_of_it() {
    let kernel = TestKernel::start();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(kith());
        command.args(["--url", kernel.url(), "--key", ADMIN_KEY, "workspace"]).args(arguments).output().unwrap()
    };
    let json = |arguments: &[&str]| -> Value {
        let output = run(&[arguments, &["--json"]].concat());
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        serde_json::from_slice(&output.stdout).unwrap()
    };
    let made = json(&["create", "shop", "--time-zone", "UTC", "--title", "Shop", "--budget", "audiences-kept=5"]);
    let key = made["key"].as_str().unwrap().to_owned();
    assert_eq!(made["budgets"]["audiences-kept"]["limit"], 5);
    kernel.caller(&key).get("/api/v1/workspace").is(200);
    assert_eq!(json(&["list"])["items"].as_array().unwrap().len(), 3);
    assert_eq!(json(&["change", "shop", "--budget", "audiences-kept="])["budgets"]["audiences-kept"]["limit"], 1_000);
    assert_eq!(json(&["rename", "shop", "store"])["name"], "store");
    json(&["suspend", "store"]);
    assert_eq!(json(&["show", "store"])["state"], "suspended");
    json(&["resume", "store"]);
    let unasked = run(&["delete", "store"]);
    assert_eq!(unasked.status.code(), Some(2), "{}", String::from_utf8_lossy(&unasked.stderr));
    kernel.caller(&key).get("/api/v1/workspace").is(200);
    // A program is told in the document what would go, and finds no sentence in front of it.
    let unasked = run(&["delete", "store", "--json"]);
    let told: Value = serde_json::from_slice(&unasked.stderr).unwrap();
    assert_eq!((unasked.status.code(), &told["code"]), (Some(2), &Value::from("usage")), "{told}");
    assert!(["people", "--yes"].iter().all(|word| told["message"].as_str().unwrap().contains(word)), "{told}");
    assert!(unasked.stdout.is_empty());
    let deleted = run(&["delete", "store", "--yes", "--json"]);
    assert!(deleted.status.success() && deleted.stderr.is_empty(), "{deleted:?}");
    let deleted: Value = serde_json::from_slice(&deleted.stdout).unwrap();
    assert_eq!(deleted["deleted"], "store");
    kernel.caller(&key).get("/api/v1/workspace").is_problem(401, "unauthenticated");
}

/// With `default` suspended nobody could read the figures, and what became of a host key was in the log of `default` alone.
#[test]
fn the_hosts_log_and_figures_do_not_go_with_the_first_workspace() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let made = admin.post("/api/v1/keys", &json!({ "title": "second", "scopes": ["workspaces:admin"] })).is(201);
    admin.delete(&format!("/api/v1/keys/{}", made["id"].as_str().unwrap())).is(204);
    admin.patch("/api/v1/workspaces/default", &json!({ "state": "suspended" })).is(200);
    assert_eq!(admin.get("/metrics").status, 200);
    let log = admin.get(&format!("/api/v1/host/audit?target={}", made["id"].as_str().unwrap())).is(200);
    let actions: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|row| row["action"].as_str().unwrap()).collect();
    assert_eq!(actions, ["host-key.create", "host-key.revoke"]);
}

#[test]
fn a_deletion_is_confirmed_for_about_as_many_people_as_were_shown() {
    let kernel = TestKernel::start();
    let other = kernel.caller(&kernel.second_workspace());
    let source = kernel.source(&kernel.install_as(&other, "kith/segment", json!({})));
    let people = |from: usize, to: usize| {
        let one = |number: usize| json!({ "type": "identify", "userId": format!("u{number}"), "messageId": format!("m{number}") });
        source.batch(&(from..to).map(one).collect::<Vec<_>>());
    };
    people(0, 20);
    let path = "/api/v1/workspaces/other";
    let shown = kernel.admin().delete(path).is_problem(409, "confirmation-required");
    let confirmed = format!("{path}?confirm={}", shown["token"].as_str().unwrap());
    people(20, 40);
    let again = kernel.admin().delete(&confirmed).is_problem(409, "confirmation-required");
    assert_eq!((&shown["people"], &again["people"]), (&json!(20), &json!(40)));
    let confirmed = format!("{path}?confirm={}", again["token"].as_str().unwrap());
    people(40, 42);
    kernel.admin().delete(&confirmed).is(204);
}
