//! Data quality and tracking plans, as the person who answers for the data has them: what sources send is counted by source and
//! day, judged by a plan, set aside and replayed, and looked at over the API and the command line.

use std::process::{Command, Output};

use kith_tests::{Client, TestKernel, component, kith, pages, repacked, wait_until};
use serde_json::{Value, json};

fn run(kernel: &TestKernel, arguments: &[&str]) -> Output {
    let mut command = Command::new(kith());
    command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY]).args(arguments);
    command.output().unwrap()
}

#[track_caller]
fn told(kernel: &TestKernel, arguments: &[&str], code: i32) -> String {
    let output = run(kernel, arguments);
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    assert_eq!(output.status.code(), Some(code), "{arguments:?}: {}{}", text(&output.stdout), text(&output.stderr));
    text(&output.stdout)
}

fn order(id: &str, event: &str, properties: Value) -> Value {
    json!({ "type": "track", "event": event, "userId": "ada", "messageId": id, "properties": properties })
}

/// A source's sender, and its key.
fn web(kernel: &TestKernel, name: &str) -> (Client, String) {
    let source = kernel.install("kith/segment", json!({ "name": name }));
    let key = source["write_key"].as_str().unwrap().to_owned();
    (Client::with_write_key(kernel.url(), &key), key)
}

fn send(sender: &Client, messages: &[Value]) -> Value {
    sender.post("/v1/batch", &json!({ "batch": messages })).is(200)
}

fn put(admin: &Client, path: &str, headers: &[(&str, &str)], body: &Value) -> kith_tests::Answer {
    let mut headers = headers.to_vec();
    headers.push(("content-type", "application/json"));
    admin.send("PUT", path, &headers, body.to_string())
}

const PLAN: &str = "/api/v1/tracking-plans/shop";

fn plan(policy: &str, unplanned: &str) -> Value {
    let schema = json!({ "type": "object", "required": ["total"], "properties": { "total": { "type": "number" } } });
    json!({ "title": "What the shop sends", "unplanned": unplanned,
        "events": { "Order Completed": { "policy": policy, "schema": schema, "description": "Paid" } } })
}

#[test]
fn an_event_that_the_plan_refuses_is_kept_and_taken_once_the_plan_allows_it() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let (sender, _) = web(&kernel, "web");
    put(&admin, PLAN, &[], &plan("reject", "flag")).is(200);
    let batch = [
        order("o1", "Order Completed", json!({ "total": 5 })),
        order("o2", "Order Completed", json!({ "total": "5,00" })),
        order("o3", "Order Complete", json!({ "total": 5 })),
    ];
    let answer = send(&sender, &batch);
    assert_eq!((&answer["accepted"], &answer["flagged"]["unplanned-event"]), (&json!(2), &json!(1)), "{answer}");
    let refused = &answer["rejected"][0];
    assert_eq!((&refused["index"], &refused["code"]), (&json!(1), &json!("plan-violation")));
    assert!(refused["message"].as_str().unwrap().contains("`shop`: properties.total:"), "{refused}");
    // A repeat is one, whatever the plan says by now.
    put(&admin, PLAN, &[], &plan("reject", "reject")).is(200);
    let again = send(&sender, &batch);
    assert_eq!((&again["accepted"], &again["duplicate"]), (&json!(0), &json!(2)), "{again}");
    assert_eq!(again["rejected"].as_array().map(Vec::len), Some(1), "{again}");

    let letters = pages(&admin, "/api/v1/dead-letters", 50);
    let letter = letters.iter().find(|letter| letter["code"] == "plan-violation").unwrap();
    assert_eq!((&letter["place"], &letter["times"]), (&json!(1), &json!(2)), "{letter}");
    let path = format!("/api/v1/dead-letters/{}/replay", letter["id"].as_str().unwrap());
    assert_eq!(admin.post(&path, &json!({})).is(200)["replayed"], false);
    admin.patch(PLAN, &json!({ "events": { "Order Completed": { "policy": "allow" } } })).is(200);
    let taken = admin.post(&path, &json!({})).is(200);
    assert_eq!((&taken["replayed"], &taken["accepted"]), (&json!(true), &json!(1)), "{taken}");

    let quality = admin.get("/api/v1/sources/web/quality").is(200);
    let total = &quality["total"];
    assert_eq!(
        (&total["accepted"], &total["repeated"], &total["rejected"]),
        (&json!(3), &json!(2), &json!(3)),
        "{quality}"
    );
    assert_eq!((&total["unplanned"], &total["violations"]), (&json!(1), &json!(4)), "{quality}");
    assert_eq!((&total["reasons"]["plan-violation"], &total["flags"]["unplanned-event"]), (&json!(3), &json!(1)));
    assert_eq!((&quality["plan"], &quality["week"]["accepted"]), (&json!("shop"), &json!(3)));
}

/// `emits` was declared and shown, and one event of another name was a fault of the plugin that took the whole batch with it.
#[test]
fn an_event_that_the_manifest_does_not_name_is_kept_alone_and_taken_by_a_version_that_names_it() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let upload = |version: &str, emits: &str| {
        let component = repacked(component("kith/segment"), |manifest| {
            manifest.replacen("version = \"0.1.0\"", &format!("version = \"{version}\""), 1).replacen(
                "[[capabilities",
                &format!("[capabilities]\nemits = {emits}\n\n[[capabilities"),
                1,
            )
        });
        admin.send("POST", "/api/v1/plugins", &[], component).is(201);
    };
    upload("0.8.0", r#"["Order Completed"]"#);
    let body = json!({ "plugin": "kith/segment", "version": "0.8.0", "name": "web" });
    let source = admin.post("/api/v1/installations", &body).is(201);
    let sender = Client::with_write_key(kernel.url(), source["write_key"].as_str().unwrap());
    for round in 0..4 {
        let batch = [
            order(&format!("a{round}"), "Order Completed", json!({})),
            order(&format!("b{round}"), "Order Refunded", json!({})),
        ];
        let answer = send(&sender, &batch);
        assert_eq!(answer["accepted"], 1, "{answer}");
        let refused = &answer["rejected"][0];
        assert_eq!((&refused["index"], &refused["code"]), (&json!(1), &json!("undeclared-event")), "{answer}");
        let message = refused["message"].as_str().unwrap();
        for part in ["kith/segment@0.8.0 may not emit `Order Refunded`", "names `Order Completed`"] {
            assert!(message.contains(part), "{message}");
        }
    }
    let installed = admin.get("/api/v1/installations/web").is(200);
    assert_eq!(installed["mode"], "live", "no strike: {installed}");
    let letters = pages(&admin, "/api/v1/dead-letters", 50);
    assert_eq!(letters.iter().filter(|letter| letter["code"] == "undeclared-event").count(), 4, "{letters:?}");

    upload("0.9.0", r#"["Order Completed", "Order Refunded"]"#);
    let asked = admin.patch("/api/v1/installations/web", &json!({ "version": "0.9.0" }));
    let asked = asked.is_problem(409, "consent-required")["message"].as_str().unwrap().to_owned();
    assert!(asked.contains("to emit `Order Refunded`"), "{asked}");
    told(&kernel, &["plugin", "upgrade", "web", "--yes"], 0);
    told(&kernel, &["dead-letters", "replay", "--source", "web", "--code", "undeclared-event"], 0);
    kernel.settle();
    assert_eq!(kernel.count("events('Order Refunded').size() == 4"), 1);
}

#[test]
fn plans_are_edited_with_care_and_bad_ones_are_refused_with_their_place() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    web(&kernel, "web");
    let made = put(&admin, PLAN, &[], &plan("flag", "allow"));
    let tag = made.header("etag").to_owned();
    assert_eq!(made.is(200)["name"], "shop");
    assert_eq!(admin.get(PLAN).header("etag"), tag);
    // What was changed meanwhile is not overwritten.
    let changed = admin.patch(PLAN, &json!({ "events": { "Signup": { "policy": "reject" } } }));
    let body = changed.is(200);
    assert_eq!(body["events"].as_object().unwrap().len(), 2, "merged: {body}");
    put(&admin, PLAN, &[("if-match", &tag)], &plan("flag", "allow")).is_problem(412, "changed-meanwhile");
    admin.send("DELETE", PLAN, &[("if-match", &tag)], "").is_problem(412, "changed-meanwhile");
    assert_eq!(
        admin.patch(PLAN, &json!({ "events": { "Signup": null } })).is(200)["events"].as_object().unwrap().len(),
        1
    );
    assert_eq!(admin.patch(PLAN, &json!({ "unplanned": "reject" })).is(200)["unplanned"], "reject");
    assert_eq!(admin.patch(PLAN, &json!({ "unplanned": null })).is(200)["unplanned"], "allow", "null has the default");
    for (body, code, place) in [
        (json!({ "unplanned": "drop" }), "bad-input", "unplanned"),
        (json!({ "polices": 1 }), "bad-input", "polices"),
        (json!({ "sources": ["nowhere"] }), "bad-input", "sources[0]"),
        (json!({ "events": { "": {} } }), "bad-input", "events."),
        (json!({ "events": { "A": { "schema": { "type": "nummer" } } } }), "bad-schema", "events.A.schema.type"),
        (json!({ "traits": { "schema": false } }), "bad-schema", "traits.schema"),
        (
            json!({ "events": { "A": { "schema": { "$ref": "https://example.com/a.json" } } } }),
            "bad-schema",
            "events.A.schema.$ref",
        ),
        (
            json!({ "traits": { "schema": { "properties": { "a": { "pattern": "(" } } } } }),
            "bad-schema",
            "traits.schema",
        ),
    ] {
        let mut body = body;
        // Of a source that has no plan yet, so that only the mistake is refused.
        if body.get("sources").is_none() {
            body["sources"] = json!(["web"]);
        }
        let problem = put(&admin, "/api/v1/tracking-plans/other", &[], &body).is_problem(400, code);
        let path = problem["errors"][0]["path"].as_str().unwrap();
        assert!(path.starts_with(place), "{body}: {problem}");
    }
    // A source has one plan.
    put(&admin, "/api/v1/tracking-plans/other", &[], &plan("flag", "allow")).is_problem(409, "plan-taken");
    let mut own = plan("flag", "allow");
    own["sources"] = json!(["web"]);
    put(&admin, "/api/v1/tracking-plans/own", &[], &own).is(200);
    put(&admin, "/api/v1/tracking-plans/other", &[], &own).is_problem(409, "plan-taken");
    assert_eq!(admin.get("/api/v1/sources/web/quality").is(200)["plan"], "own");
    admin.delete("/api/v1/tracking-plans/own").is(204);
    assert_eq!(admin.get("/api/v1/sources/web/quality").is(200)["plan"], "shop");
    let log = admin.get("/api/v1/audit?action=tracking-plan.").is(200);
    let actions: Vec<Value> = log["items"].as_array().unwrap().iter().map(|row| row["action"].clone()).collect();
    assert_eq!(actions.iter().filter(|action| **action == "tracking-plan.remove").count(), 1, "{actions:?}");
    let reader = kernel.caller(&kernel.key(&["audiences:read"]));
    reader.get(PLAN).is(200);
    reader.delete(PLAN).is_problem(403, "denied");
}

/// A file is held against a plan and against one that is not there yet, and nothing of it is stored.
fn a_file_is_tried(kernel: &TestKernel) {
    let file = tempfile::NamedTempFile::new().unwrap();
    let lines = [
        order("n1", "Order Completed", json!({ "total": 1 })),
        order("n2", "Order", json!({})),
        order("n3", "Order Completed", json!({})),
    ];
    std::fs::write(file.path(), lines.map(|line| line.to_string()).join("\n")).unwrap();
    let file = file.path().to_str().unwrap();
    let tried = told(kernel, &["tracking", "check", file, "--plan", "shop"], 2);
    for part in ["unplanned-event", "properties", "\"total\" is a required property"] {
        assert!(tried.contains(part), "{part}: {tried}");
    }
    let draft = plan("allow", "allow").to_string();
    let tried: Value = serde_json::from_str(&told(
        kernel,
        &["tracking", "check", file, "--plan", "next", "--draft", &draft, "--json"],
        0,
    ))
    .unwrap();
    assert_eq!(
        (&tried["records"], &tried["as_planned"], &tried["allowed"]),
        (&json!(3), &json!(1), &json!(2)),
        "{tried}"
    );
}

#[test]
fn counts_and_plans_survive_a_restart_and_the_command_line_shows_them() {
    let mut kernel = TestKernel::start();
    let (sender, key) = web(&kernel, "web");
    let (other, _) = web(&kernel, "app");
    let batch: Vec<Value> = (0..40)
        .map(|number| {
            order(
                &format!("o{number}"),
                "Order Completed",
                json!({ "total": if number < 30 { json!(number) } else { json!(number.to_string()) } }),
            )
        })
        .collect();
    send(&sender, &batch);
    send(&other, &[json!({ "type": "track", "event": "Opened", "userId": "null", "messageId": "x" })]);
    kernel.settle();
    let suggested = told(&kernel, &["tracking", "suggest", "Order Completed"], 0);
    let suggested: Value = serde_json::from_str(&suggested).unwrap();
    let schema = &suggested["events"]["Order Completed"]["schema"];
    assert_eq!(
        (&schema["properties"]["total"]["type"], &schema["required"]),
        (&json!(["number", "string"]), &json!(["total"]))
    );
    told(&kernel, &["tracking", "set", "shop", &plan("flag", "reject").to_string()], 0);
    told(&kernel, &["tracking", "set", "shop", "--merge", r#"{"sources":["web"]}"#], 0);
    a_file_is_tried(&kernel);
    let shown: Value = serde_json::from_str(&told(&kernel, &["tracking", "show", "shop"], 0)).unwrap();
    told(&kernel, &["tracking", "set", "shop", &shown.to_string()], 0);
    assert!(told(&kernel, &["tracking", "list"], 0).contains("shop"));

    let before = told(&kernel, &["source", "quality", "web"], 0);
    kernel.restart();
    kernel.settle();
    wait_until("the names that came", || told(&kernel, &["source", "quality", "web"], 0) == before);
    for part in ["tracking plan `shop`", "in all", "new: event `Order Completed`", "10 values came as texts"] {
        assert!(before.contains(part), "{part}: {before}");
    }
    let all = told(&kernel, &["source", "quality"], 0);
    assert!(all.contains("web") && all.contains("app"), "{all}");
    let app = told(&kernel, &["source", "quality", "app"], 0);
    assert!(app.contains("missing-identifier") && app.contains("100.0 %") && app.contains("no tracking plan"), "{app}");
    let sender = Client::with_write_key(kernel.url(), &key);
    let sent = send(&sender, &[order("n9", "Order", json!({}))]);
    assert_eq!(sent["rejected"][0]["code"], "unplanned-event", "the plan holds after a restart: {sent}");
    // Names by source, and numbers of a stranger's few events for nobody who may not read people.
    let names = told(&kernel, &["catalog", "--source", "web"], 0);
    assert!(names.contains("Order Completed") && !names.contains("Opened"), "{names}");
    let operator = kernel.caller(&kernel.key(&["metrics:read", "audiences:read"]));
    let seen = operator.get("/api/v1/sources/web/quality").is(200);
    assert_eq!(
        (&seen["changes"], &seen["total"]["accepted"]),
        (&json!([]), &json!(40)),
        "forty events of one person are no crowd: {seen}"
    );
    told(&kernel, &["tracking", "remove", "shop"], 0);
    assert_eq!(send(&sender, &[order("n9", "Order", json!({}))])["accepted"], 1);
}

#[test]
fn a_dry_run_of_an_import_says_what_the_plan_says() {
    let kernel = TestKernel::start();
    let config = r#"{"event":{"name":"Order"},"identifiers":{"user_id":"id"},"properties":["order"]}"#;
    kernel.install("kith/csv", json!({ "name": "orders", "config": serde_json::from_str::<Value>(config).unwrap() }));
    let admin = kernel.admin();
    let schema = json!({ "properties": { "order": { "type": "string", "pattern": "^o[0-9]+$" } } });
    put(&admin, PLAN, &[], &json!({ "events": { "Order": { "policy": "reject", "schema": schema } } })).is(200);
    let path = "/api/v1/sources/orders/records?dry_run=true";
    let csv = [("content-type", "text/csv")];
    let preview = admin.send("POST", path, &csv, "id,order\nada,o1\nben,x2\n").is(200);
    assert_eq!(
        (&preview["event_count"], &preview["violations"], &preview["rejected_codes"]["plan-violation"]),
        (&json!(1), &json!(1), &json!(1)),
        "{preview}"
    );
    assert_eq!(preview["rejected"][0]["line"], 3, "{preview}");
    let quality = admin.get("/api/v1/sources/orders/quality").is(200);
    assert_eq!(quality["total"]["rejected"], 0, "nothing was stored: {quality}");
}
