//! The data dictionary: what names mean; what is sensitive is masked for whoever may not see it and read by plugins where a
//! grant names it; and light rules, which drop, rename or hash what comes in.

use std::process::{Command, Output};

use kith_tests::{Client, SIGNING_SECRET, TestKernel, kith, pages, wait_until};
use serde_json::{Value, json};

const SALARY: &str = "/api/v1/dictionary/trait/salary";
const SSN: &str = "/api/v1/dictionary/property/ssn?event=Applied";

/// What nobody without the scope may find in any answer.
const CANARIES: [&str; 2] = ["77123", "ssn-canary"];

fn put(caller: &Client, path: &str, body: &Value) -> kith_tests::Answer {
    caller.send("PUT", path, &[("content-type", "application/json")], body.to_string())
}

fn run(kernel: &TestKernel, arguments: &[&str]) -> Output {
    let mut command = Command::new(kith());
    command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY]).args(arguments);
    command.output().unwrap()
}

fn said(output: &Output) -> String {
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    String::from_utf8(output.stdout.clone()).unwrap()
}

fn messages() -> Vec<Value> {
    vec![
        json!({ "type": "identify", "userId": "ada", "messageId": "i1", "traits": { "salary": 77123, "city": "Oslo" },
            "context": { "traits": { "salary": 77123 } } }),
        json!({ "type": "track", "userId": "ada", "anonymousId": "dev-1", "messageId": "t1", "event": "Applied",
            "properties": { "ssn": "ssn-canary", "job": "baker" }, "context": { "traits": { "salary": 77123 } } }),
        json!({ "type": "track", "userId": "null", "messageId": "t2", "event": "Applied", "properties": { "ssn": "ssn-canary" } }),
    ]
}

#[test]
fn an_entry_is_edited_by_two_people_and_kept_over_a_restart() {
    let mut kernel = TestKernel::start();
    let admin = kernel.admin();
    let answer = put(&admin, SALARY, &json!({ "meaning": "pay in a year", "owner": "people team", "type": "number" }));
    let tag = answer.header("etag").to_owned();
    let entry = answer.is(200);
    assert_eq!((&entry["written"], &entry["sensitivity"]), (&json!("traits.salary"), &json!("internal")));
    assert_eq!((&entry["came"], &entry["type"]), (&json!(false), &json!("number")));
    let patch = |tag: &str, body: Value| {
        let headers = [("content-type", "application/json"), ("if-match", tag)];
        admin.send("PATCH", SALARY, &headers, body.to_string())
    };
    patch(&tag, json!({ "sensitivity": "personal" })).is(200);
    patch(&tag, json!({ "owner": "somebody else" })).is_problem(412, "changed-meanwhile");
    let patched = admin.patch(SALARY, &json!({ "type": null, "owner": "hr" })).is(200);
    assert_eq!(
        (&patched["owner"], patched.get("type"), &patched["meaning"]),
        (&json!("hr"), None, &json!("pay in a year"))
    );
    // What is wrong is named by its place.
    for (path, body, place) in [
        (SALARY, json!({ "sensitivity": "secret" }), "sensitivity"),
        (SALARY, json!({ "meaning": "x".repeat(2_001) }), "meaning"),
        (SALARY, json!({ "means": "x" }), "means"),
        ("/api/v1/dictionary/event/Applied", json!({ "type": "text" }), "type"),
        ("/api/v1/dictionary/property/ssn", json!({}), "?event"),
        ("/api/v1/dictionary/trait/ssn?event=Applied", json!({}), "?event"),
        ("/api/v1/dictionary/tag/level", json!({}), "?kind"),
    ] {
        let problem = put(&admin, path, &body).is_problem(400, "bad-input");
        assert_eq!(problem["errors"][0]["path"], place, "{path}: {problem}");
    }
    put(&admin, "/api/v1/dictionary/event/Order%20Completed", &json!({ "owner": "shop" })).is(200);
    put(&admin, "/api/v1/dictionary/property/a%2Fb%20%C3%BC?event=Order%20Completed", &json!({})).is(200);
    let written = |kernel: &TestKernel| {
        let all = pages(&kernel.admin(), "/api/v1/dictionary", 2);
        all.iter().map(|entry| entry["written"].as_str().unwrap().to_owned()).collect::<Vec<_>>()
    };
    let order = ["events('Order Completed')", "events('Order Completed').properties['a/b ü']", "traits.salary"];
    assert_eq!(written(&kernel), order);
    kernel.restart();
    assert_eq!(written(&kernel), order);
    let admin = kernel.admin();
    admin.delete("/api/v1/dictionary/event/Order%20Completed").is(204);
    admin.delete("/api/v1/dictionary/event/Order%20Completed").is_problem(404, "not-found");
    let log = admin.get("/api/v1/audit?action=dictionary.").is(200);
    let deeds: Vec<&str> =
        log["items"].as_array().unwrap().iter().map(|line| line["action"].as_str().unwrap()).collect();
    assert_eq!(deeds.len(), 6, "{log}");
    assert_eq!((deeds[0], deeds[1], deeds[5]), ("dictionary.add", "dictionary.change", "dictionary.remove"));
    let reader = kernel.caller(&kernel.key(&["audiences:read"]));
    reader.get(SALARY).is(200);
    put(&reader, SALARY, &json!({})).is_problem(403, "denied");
    kernel.caller(&kernel.key(&["dictionary:write"])).get(SALARY).is_problem(403, "denied");
}

/// A server with Ada, whose pay and number are sensitive for whoever is told so, and a key that may do everything but see that.
struct Stage {
    kernel: TestKernel,
    masked: Client,
    ada: String,
    letter: String,
}

fn stage() -> Stage {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let source = kernel.segment();
    source.batch(&messages());
    kernel.settle();
    admin.post("/api/v1/audiences", &json!({ "name": "rich", "condition": "traits.salary > 5" })).is(201);
    wait_until("it is computed", || admin.get("/api/v1/audiences/rich").is(200)["size"] == 1);
    let ada = kernel.profile("user_id:ada")["id"].as_str().unwrap().to_owned();
    let letters = pages(&admin, "/api/v1/dead-letters", 50);
    let letter = letters[0]["id"].as_str().unwrap().to_owned();
    let key = kernel.key(&[
        "profiles:read",
        "audiences:read",
        "audiences:write",
        "deliveries:read",
        "deliveries:write",
        "identity:write",
        "dictionary:write",
        "plugins:admin",
        "metrics:read",
        "audit:read",
        "ingest",
    ]);
    let masked = kernel.caller(&key);
    Stage { kernel, masked, ada, letter }
}

impl Stage {
    fn declare(&self) {
        for path in [SALARY, SSN] {
            let entry = json!({ "sensitivity": "sensitive", "owner": "people team" });
            put(&self.masked, path, &entry).is(200);
        }
    }
}

/// Every way that a value can leave, with a key that may do everything but see what is sensitive.
#[test]
fn what_is_sensitive_is_seen_by_those_alone_who_may() {
    let stage = stage();
    let Stage { kernel, masked, ada, letter } = &stage;
    let admin = kernel.admin();
    let reads = [
        "/api/v1/profiles?identifier=user_id:ada".to_owned(),
        format!("/api/v1/profiles/{ada}"),
        format!("/api/v1/profiles/{ada}/events"),
        "/api/v1/profiles?prefix=user_id:a&columns=id,traits.salary".to_owned(),
        "/api/v1/profiles?trait.salary=77123&columns=id,traits.salary".to_owned(),
        "/api/v1/profiles/export?columns=traits.salary".to_owned(),
        "/api/v1/audiences/rich/members".to_owned(),
        "/api/v1/audiences/rich/members/export?columns=identifiers.user_id,traits.salary".to_owned(),
        format!("/api/v1/audiences/rich/explain?profile={ada}"),
        "/api/v1/dead-letters".to_owned(),
        "/api/v1/dead-letters?text=ssn-canary".to_owned(),
        format!("/api/v1/dead-letters/{letter}"),
        "/api/v1/catalog".to_owned(),
        "/api/v1/catalog?kind=property&event=Applied".to_owned(),
        format!("/api/v1/profiles/{ada}/why?with=anonymous_id:dev-1"),
    ];
    let has_canary = |text: &str| CANARIES.iter().any(|canary| text.contains(canary));
    let before = reads.iter().filter(|path| has_canary(&masked.get(path).text())).count();
    assert!(before >= 10, "the matrix looks where there is something to see: {before}");
    stage.declare();
    for path in &reads {
        let answer = masked.get(path);
        // What was asked for is no news.
        let text = answer.text().replace("?text=ssn-canary", "").replace("trait.salary=77123", "");
        assert!(!has_canary(&text), "{path}: {text}");
        let refused = ["trait.salary", "columns", "rich", "text="].iter().any(|part| path.contains(part));
        assert_eq!(answer.status == 403, refused, "{path}: {text}");
        assert!(admin.get(path).status == 200, "{path}");
    }
    let person = masked.get(&format!("/api/v1/profiles/{ada}")).is(200);
    assert_eq!(
        (&person["traits"]["salary"]["value"], &person["traits"]["city"]["value"]),
        (&Value::Null, &json!("Oslo"))
    );
    assert_eq!((&person["withheld"], &person["audiences"]), (&json!(["traits.salary", "audiences"]), &json!([])));
    let events = masked.get(&format!("/api/v1/profiles/{ada}/events")).is(200);
    let applied = events["items"].as_array().unwrap().iter().find(|event| event["name"] == "Applied").unwrap();
    assert_eq!(applied["properties"], json!({ "ssn": null, "job": "baker" }));
    assert_eq!(applied["withheld"], json!(["properties.ssn", "traits.salary", "context.traits.salary"]), "{applied}");
    assert_eq!(masked.get(&format!("/api/v1/dead-letters/{letter}")).is(200)["raw"], Value::Null);
}

#[test]
fn conditions_and_edits_are_no_way_around_a_mask() {
    let stage = stage();
    stage.declare();
    let Stage { kernel, masked, ada, .. } = &stage;
    let admin = kernel.admin();
    // Conditions tell what they read.
    for condition in
        ["traits.salary > 5", "events('Applied').exists(e, e.ssn == 'x')", "events('*').exists(e, e.ssn == 'x')"]
    {
        let body = json!({ "condition": condition });
        masked.post("/api/v1/audiences/count", &body).is_problem(403, "denied");
        masked.post("/api/v1/audiences/preview", &body).is_problem(403, "denied");
        masked.post("/api/v1/audiences", &json!({ "name": "x", "condition": condition })).is_problem(403, "denied");
        admin.post("/api/v1/audiences/count", &body).is(200);
    }
    masked.post("/api/v1/audiences/count", &json!({ "condition": "events('Applied').size() > 0" })).is(200);
    // Neither a condition in the place of one that reads it nor another way for its messages tells who met it.
    for patch in
        [json!({ "condition": "traits.salary > 6" }), json!({ "condition": "true" }), json!({ "on_enter": null })]
    {
        masked.patch("/api/v1/audiences/rich", &patch).is_problem(403, "denied");
    }
    masked.patch("/api/v1/audiences/rich", &json!({ "title": "Rich" })).is(200);
    // Nobody gives themselves what they may not have.
    masked.patch(SALARY, &json!({ "sensitivity": "public" })).is_problem(403, "denied");
    masked.delete(SSN).is_problem(403, "denied");
    let lowered = json!({ "entries": [{ "kind": "trait", "name": "salary" }] });
    masked.post("/api/v1/dictionary/import", &lowered).is_problem(403, "denied");
    let renamed = json!({ "rules": [{ "id": "r", "do": "rename", "what": "trait", "name": "salary", "to": "pay" }] });
    put(masked, "/api/v1/rules", &renamed).is_problem(403, "denied");
    // What people agreed to is what the fact `consent` said.
    let (profile, consent) = (format!("/api/v1/profiles/{ada}"), format!("/api/v1/profiles/{ada}/consent"));
    masked.get(&consent).is(200);
    put(&admin, "/api/v1/dictionary/trait/consent", &json!({ "sensitivity": "sensitive" })).is(200);
    let refused = masked.get(&consent).is_problem(403, "denied");
    assert!(refused["message"].as_str().unwrap().contains("traits.consent"), "{refused}");
    let seen = masked.get(&profile).is(200);
    assert!(seen["withheld"].as_array().unwrap().contains(&json!("consents")), "{seen}");
    admin.get(&consent).is(200);
    let both = kernel.caller(&kernel.key(&["profiles:read", "sensitive:read"]));
    assert_eq!(both.get(&format!("/api/v1/profiles/{ada}")).is(200)["traits"]["salary"]["value"], 77123);
}

#[test]
fn a_plugin_reads_what_is_sensitive_where_that_is_granted_by_name() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    let webhook = |grants: Value| {
        let mut body = json!({ "name": "hook", "config": { "url": "http://127.0.0.1:9/" }, "plugin": "kith/webhook",
            "secrets": { "signing": SIGNING_SECRET } });
        body["grants"] = grants;
        admin.post("/api/v1/installations", &body)
    };
    kernel.upload(&admin, "kith/webhook");
    let name = "/api/v1/dictionary/trait/name";
    put(&admin, name, &json!({ "sensitivity": "sensitive" })).is(200);
    let plain = json!({ "http": ["127.0.0.1:9"] });
    let refused = webhook(plain.clone()).is_problem(400, "sensitive-not-granted");
    assert!(refused["message"].as_str().unwrap().contains("`traits.name`"), "{refused}");
    let granted = json!({ "http": ["127.0.0.1:9"], "sensitive": ["traits.name"] });
    let installed = webhook(granted.clone()).is(201);
    assert_eq!(installed["activity"]["state"], "running", "{installed}");
    // What becomes sensitive while it is read holds who reads it, and the answer says so.
    let entry = put(&admin, "/api/v1/dictionary/trait/first_name", &json!({ "sensitivity": "sensitive" })).is(200);
    assert_eq!(entry["readers"], json!([{ "installation": "hook", "granted": false }]));
    let held = admin.get("/api/v1/installations/hook").is(200);
    assert_eq!(held["activity"]["state"], "held", "{held}");
    assert!(held.to_string().contains("traits.first_name"), "{held}");
    admin.patch("/api/v1/installations/hook", &json!({ "grants": plain })).is_problem(400, "sensitive-not-granted");
    let mut all = granted;
    all["sensitive"] = json!(["traits.name", "traits.first_name"]);
    let again = admin.patch("/api/v1/installations/hook", &json!({ "grants": all })).is(200);
    assert_eq!(again["activity"]["state"], "running", "{again}");
    assert_eq!(admin.get(name).is(200)["readers"], json!([{ "installation": "hook", "granted": true }]));
    // What is sensitive no more needs no grant.
    admin.patch("/api/v1/installations/hook", &json!({ "grants": plain })).is_problem(400, "sensitive-not-granted");
    admin.delete(name).is(204);
    admin.delete("/api/v1/dictionary/trait/first_name").is(204);
    admin.patch("/api/v1/installations/hook", &json!({ "grants": plain })).is(200);
}

#[test]
fn rules_hold_for_what_comes_and_repeats_are_known_after_a_change() {
    let mut kernel = TestKernel::start();
    let admin = kernel.admin();
    let source = kernel.segment();
    let taken = source.batch(&messages()[..2]);
    assert_eq!((&taken["accepted"], &taken["dropped"]), (&json!(2), &json!(0)));
    let rules = json!({ "rules": [
        { "id": "no-debug", "do": "drop", "what": "event", "name": "Debug" },
        { "id": "no-ssn", "do": "drop", "what": "property", "name": "ssn", "event": "Applied" },
        { "id": "town", "do": "rename", "what": "trait", "name": "city", "to": "town" },
        { "id": "pay", "do": "hash", "what": "trait", "name": "salary" },
        { "id": "mail", "do": "hash", "what": "identifier", "name": "email" },
        { "id": "mail-fact", "do": "hash", "what": "trait", "name": "email" },
        { "id": "other", "do": "drop", "what": "property", "name": "job", "sources": ["elsewhere"] },
    ] });
    let answer = put(&admin, "/api/v1/rules", &rules);
    let tag = answer.header("etag").to_owned();
    let set = answer.is(200);
    assert_eq!(set["version"], 1);
    assert!(set["warnings"].to_string().contains("elsewhere"), "{set}");
    let stale = [("content-type", "application/json"), ("if-match", "\"x\"")];
    admin.send("PUT", "/api/v1/rules", &stale, rules.to_string()).is_problem(412, "changed-meanwhile");
    assert_eq!(put(&admin, "/api/v1/rules", &rules).header("etag"), tag, "the same again changes nothing");
    // A repeat of before is a repeat, and so is one of afterwards.
    assert_eq!(source.batch(&messages()[..2])["duplicate"], 2);
    let bob = |number: usize| {
        json!({ "type": "track", "userId": "bob", "messageId": format!("b{number}"), "event": "Applied",
            "properties": { "ssn": "ssn-canary", "job": "cook" },
            "context": { "traits": { "salary": 77123, "city": "Rome", "email": "Bob@Example.com" } } })
    };
    let debug = json!({ "type": "track", "userId": "bob", "messageId": "d1", "event": "Debug" });
    let nobody = json!({ "type": "track", "userId": "null", "messageId": "n1", "event": "Applied",
        "properties": { "ssn": "ssn-canary", "job": "cook" } });
    let taken = source.batch(&[bob(1), bob(1), debug.clone(), nobody]);
    assert_eq!(
        (&taken["accepted"], &taken["duplicate"], &taken["dropped"]),
        (&json!(1), &json!(1), &json!(1)),
        "{taken}"
    );
    assert_eq!(taken["flagged"]["rule-dropped"], 1, "{taken}");
    assert_eq!(source.batch(&[debug])["dropped"], 1, "it is dropped again, and nothing is said to be wrong");
    kernel.settle();
    let event = &kernel.events("user_id:bob")[0];
    assert_eq!(event["properties"], json!({ "job": "cook" }));
    assert!(event["flags"].to_string().contains("rule-dropped:no-ssn@1"), "{event}");
    let person = kernel.profile("user_id:bob");
    assert!(!event.to_string().contains("77123") && !person.to_string().contains("77123"), "{event} {person}");
    assert!(!person.to_string().contains("Bob@Example.com"), "{person}");
    assert!(event["context"]["traits"]["salary"].as_str().unwrap().starts_with("hmac-sha256:"), "{event}");
    // Whoever knows the address finds the person.
    assert_eq!(kernel.profile("email:bob@example.com")["id"], person["id"]);
    // What is taken out is in no dead letter either; and tried again, it is not hashed twice.
    let letters = pages(&admin, "/api/v1/dead-letters", 50);
    let letter = letters.iter().find(|letter| letter["code"] == "missing-identifier").unwrap();
    assert!(!letter.to_string().contains("ssn-canary") && letter.to_string().contains("cook"), "{letter}");
    let path = format!("/api/v1/dead-letters/{}", letter["id"].as_str().unwrap());
    let again = admin.post(&format!("{path}/replay"), &json!({})).is(200);
    assert_eq!(again["code"], "missing-identifier", "{again}");
    // What was stored before stays as it was, also over a restart, and the rules stay in force.
    kernel.restart();
    assert!(kernel.events("user_id:ada").iter().any(|event| event["properties"]["ssn"] == "ssn-canary"));
    let source = kernel.source(&json!({ "write_key": source.write_key }));
    source.batch(&[bob(2)]);
    kernel.settle();
    let events = kernel.events("user_id:bob");
    assert!(events.iter().all(|event| event["properties"].get("ssn").is_none()), "{events:?}");
    let hashes: Vec<&Value> = events.iter().map(|event| &event["context"]["traits"]["salary"]).collect();
    assert_eq!(hashes[0], hashes[1], "equal values stay equal");
}

#[test]
fn a_rule_that_cannot_be_is_refused() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    for bad in [
        json!({ "rules": [{ "id": "x", "do": "drop", "what": "trait", "name": "consent" }] }),
        json!({ "rules": [{ "id": "x", "do": "hash", "what": "event", "name": "Buy" }] }),
        json!({ "rules": [{ "id": "x", "do": "burn", "what": "event", "name": "Buy" }] }),
    ] {
        put(&admin, "/api/v1/rules", &bad).is_problem(400, "bad-input");
    }
}

/// A rule never costs a refusal of consent.
#[test]
fn a_dropped_event_is_heard_where_it_refuses() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let rules = json!({ "rules": [
        { "id": "no-exit", "do": "drop", "what": "event", "name": "Left" },
        { "id": "id", "do": "hash", "what": "identifier", "name": "email" },
    ] });
    put(&kernel.admin(), "/api/v1/rules", &rules).is(200);
    let left = json!({ "type": "track", "userId": "ada", "messageId": "l1", "event": "Left",
        "context": { "traits": { "email": "ada@example.com", "consent": { "news": false } } } });
    let taken = source.batch(&[left]);
    assert_eq!((&taken["dropped"], &taken["accepted"]), (&json!(1), &json!(0)), "{taken}");
    kernel.settle();
    let ada = kernel.profile("user_id:ada");
    assert!(ada["consents"].to_string().contains("news"), "{ada}");
    assert!(!ada.to_string().contains("ada@example.com"), "{ada}");
    assert!(kernel.events("user_id:ada").iter().all(|event| event["name"] != "Left"));
}

#[test]
fn the_catalogue_shows_what_names_mean_and_which_have_no_entry() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    kernel.segment().batch(&messages()[..2]);
    kernel.settle();
    put(&admin, SALARY, &json!({ "meaning": "pay in a year" })).is(200);
    put(&admin, "/api/v1/dictionary/event/Hired", &json!({ "owner": "people team" })).is(200);
    let catalog = |query: &str| admin.get(&format!("/api/v1/catalog{query}")).is(200)["items"].clone();
    let described = catalog("?described=true");
    assert_eq!(described.as_array().unwrap().len(), 1, "{described}");
    assert_eq!(described[0]["dictionary"]["meaning"], "pay in a year");
    let others = catalog("?described=false");
    assert!(others.as_array().unwrap().iter().any(|entry| entry["name"] == "city"), "{others}");
    assert!(others.as_array().unwrap().iter().all(|entry| entry["name"] != "salary"));
    let never = admin.get("/api/v1/dictionary?came=false").is(200);
    assert_eq!((&never["items"][0]["name"], never["items"].as_array().unwrap().len()), (&json!("Hired"), 1));
    assert_eq!(admin.get(SALARY).is(200)["came"], true);
    let counted = admin.post("/api/v1/audiences/count", &json!({ "condition": "events('Hired').size() > 0" })).is(200);
    let warned = counted["warnings"].to_string();
    assert!(warned.contains("no event `Hired` came so far") && warned.contains("people team"), "{warned}");
}

#[test]
fn a_dictionary_lives_in_a_repository() {
    let kernel = TestKernel::start();
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("dictionary.toml");
    let path = file.to_str().unwrap();
    let set = ["dictionary", "set", "property", "total", "--event", "Order Completed", "--meaning", "with tax"];
    said(&run(&kernel, &[&set[..], &["--type", "number", "--owner", "shop team"]].concat()));
    said(&run(&kernel, &["dictionary", "set", "trait", "salary", "--sensitivity", "sensitive"]));
    let kept = said(&run(&kernel, &["dictionary", "set", "trait", "salary", "--owner", "people team", "--json"]));
    assert!(kept.contains("\"sensitive\""), "what is not given stays: {kept}");
    let exported = said(&run(&kernel, &["dictionary", "export"]));
    std::fs::write(&file, &exported).unwrap();
    let same = said(&run(&kernel, &["dictionary", "import", path, "--remove-others", "--json"]));
    let same: Value = serde_json::from_str(&same).unwrap();
    assert_eq!((&same["changes"], &same["unchanged"]), (&json!([]), &json!(2)), "{same}");
    std::fs::write(&file, exported.replace("with tax", "without tax").replace("total", "sum")).unwrap();
    let would = said(&run(&kernel, &["dictionary", "import", path, "--remove-others", "--dry-run"]));
    for part in ["would be removed: events('Order Completed').properties.total", "would be added", "1 as they are"] {
        assert!(would.contains(part), "{part}: {would}");
    }
    assert_eq!(said(&run(&kernel, &["dictionary", "export"])), exported, "a dry run changes nothing");
    said(&run(&kernel, &["dictionary", "import", path, "--remove-others"]));
    let now = said(&run(&kernel, &["dictionary", "export"]));
    assert!(now.contains("name = \"sum\"") && now.contains("without tax") && !now.contains("total"), "{now}");
    assert!(said(&run(&kernel, &["dictionary", "list", "--never-came"])).contains("traits.salary"));
    said(&run(&kernel, &["dictionary", "remove", "trait", "salary"]));
    assert!(!run(&kernel, &["dictionary", "show", "trait", "salary"]).status.success());
    let records = r#"[{"name":"Buy","properties":{"ssn":"1-2","total":5}}]"#;
    let rules = r#"{"rules":[{"id":"no-ssn","do":"drop","what":"property","name":"ssn"}]}"#;
    let tried = said(&run(&kernel, &["rules", "try", records, "--rules", rules]));
    assert!(!tried.contains("1-2") && tried.contains("rule-dropped:no-ssn@1"), "{tried}");
    said(&run(&kernel, &["rules", "set", rules]));
    assert!(said(&run(&kernel, &["rules", "show"])).contains("no-ssn"));
    let csv = folder.path().join("orders.csv");
    std::fs::write(&csv, "id,ssn\nada,ssn-canary\n").unwrap();
    let config = json!({ "event": { "name": "Order" }, "identifiers": { "user_id": "id" }, "properties": ["ssn"] });
    kernel.install("kith/csv", json!({ "name": "orders", "config": config }));
    let dry = said(&run(&kernel, &["import", csv.to_str().unwrap(), "--source", "orders", "--dry-run", "--json"]));
    assert!(!dry.contains("ssn-canary") && dry.contains("rule-dropped:no-ssn@1"), "{dry}");
}
