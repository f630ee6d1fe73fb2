//! Two workspaces in one server: with one's credential nothing of the other's is reached, over every route that the served
//! description lists, and what is foreign answers exactly as what is missing.

use std::collections::BTreeSet;

use kith_tests::{Answer, Client, Receiver, SIGNING_SECRET, TestKernel, pages, wait_for};
use serde_json::{Value, json};

/// What the first workspace holds; every name of it begins with `ours`, so that a leak shows.
struct Ours {
    profile: String,
    key: String,
    letter: String,
    write_key: String,
}

/// A first workspace with something of every kind, and the key of an empty second one.
fn two_workspaces() -> (TestKernel, Ours, String) {
    let kernel = TestKernel::start();
    let theirs = kernel.second_workspace();
    let source = kernel.install("kith/segment", json!({ "name": "ours-segment" }));
    let write_key = source["write_key"].as_str().unwrap().to_owned();
    kernel.install("kith/lifecycle", json!({ "name": "ours-lifecycle" }));
    let receiver = Receiver::start();
    receiver.will_answer(410, &[]);
    let host = receiver.host();
    let webhook = json!({
        "name": "ours-webhook", "config": { "url": format!("http://{host}/") },
        "grants": { "http": [host], "secrets": { "signing": [host] } },
        "secrets": { "signing": SIGNING_SECRET },
    });
    kernel.install("kith/webhook", webhook);
    let audience = json!({
        "name": "ours-audience", "condition": "traits.city == 'Oslo'",
        "on_enter": { "channel": "ours-webhook", "purpose": "x", "basis": "not_refused", "payload": {} },
    });
    kernel.admin().post("/api/v1/audiences", &audience).is(201);
    let put = |path: &str, body: Value| {
        let json = [("content-type", "application/json")];
        assert!(kernel.admin().send("PUT", path, &json, body.to_string()).status < 300, "{path}");
    };
    put("/api/v1/dictionary/event/ours-event", json!({ "meaning": "ours-meaning" }));
    put("/api/v1/tracking-plans/ours-plan", json!({ "events": { "ours-event": {} } }));
    put("/api/v1/publishers/ours-publisher", json!({ "namespaces": ["ours-vendor/*"] }));
    // Who enters before the first computation has ended is not written to.
    kernel.settle();
    let ada = json!({ "type": "identify", "userId": "ours-ada", "messageId": "i", "traits": { "city": "Oslo" } });
    kernel.source(&source).batch(&[ada]);
    kernel.settle();
    let letter = wait_for("there is a dead letter", || {
        let letters = pages(&kernel.admin(), "/api/v1/dead-letters", 50);
        Some(letters.first()?["id"].as_str().unwrap().to_owned())
    });
    let keys = kernel.admin().get("/api/v1/keys").is(200);
    let ours = Ours {
        profile: kernel.profile("user_id:ours-ada")["id"].as_str().unwrap().to_owned(),
        key: keys["items"][0]["id"].as_str().unwrap().to_owned(),
        letter,
        write_key,
    };
    (kernel, ours, theirs)
}

/// Every operation of the served description.
fn operations(kernel: &TestKernel) -> BTreeSet<(String, String)> {
    let document = Client::new(kernel.url(), None).get("/api/v1/openapi.json").is(200);
    let paths = document["paths"].as_object().unwrap().clone();
    let all = paths.into_iter().flat_map(|(path, item)| {
        let methods: Vec<String> = item.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(move |method| (method.to_uppercase(), path.clone()))
    });
    all.collect()
}

/// A public key of minisign.
const PUBLIC_KEY: &str = "RWQf6LRCGA9i53mlYecO4IzT51TGPpvWucNSCh1CBM0QTaLn73Y7GFO3";

/// A body with which the route would do its work.
fn body_for(method: &str, path: &str) -> Option<Value> {
    match (method, path) {
        ("PATCH", "/api/v1/installations/{id}") => Some(json!({ "mode": "disabled" })),
        ("PATCH", "/api/v1/workspaces/{name}") => Some(json!({ "state": "suspended" })),
        ("PATCH", "/api/v1/audiences/{id}") => Some(json!({ "title": "taken over" })),
        ("POST", "/api/v1/installations/{id}/fit" | "/api/v1/installations/{id}/poll") => Some(json!({})),
        ("POST", "/api/v1/dead-letters/{id}/replay") => Some(json!({})),
        ("PUT", "/api/v1/tracking-plans/{id}") => Some(json!({ "events": {} })),
        ("PUT", "/api/v1/installations/{id}/shadow") => Some(json!({ "version": "0.1.0" })),
        ("PUT", "/api/v1/publishers/{name}") => Some(json!({ "namespaces": ["acme/*"] })),
        ("POST", "/api/v1/publishers/{name}/keys") => Some(json!({ "public_key": PUBLIC_KEY })),
        ("POST", "/api/v1/publishers/{name}/keys/{key_id}/revoke") => Some(json!({ "why": "lost" })),
        ("PUT", _) | ("PATCH", "/api/v1/dictionary/{kind}/{name}" | "/api/v1/tracking-plans/{id}") => Some(json!({})),
        ("POST", path) if path.ends_with("/yank") || path.ends_with("/unyank") => Some(json!({ "reason": "none" })),
        ("POST", "/api/v1/tracking-plans/{id}/check") => Some(json!({ "records": [{ "name": "Seen" }] })),
        ("POST", "/api/v1/profiles/{id}/split") => Some(json!({ "apart": ["user_id:ada", "anonymous_id:none"] })),
        ("POST", "/api/v1/identity/merges") => Some(json!({ "winner": "user_id:none", "loser": "user_id:nobody" })),
        ("PATCH", "/api/v1/dead-letters/{id}") => Some(json!({ "raw": "{}" })),
        ("POST", path) if path.ends_with("/backtest") => Some(json!({ "version": "0.1.0" })),
        ("POST", _) => Some(json!({ "batch": [] })),
        _ => None,
    }
}

fn call(caller: &Client, method: &str, path: &str, body: Option<&Value>) -> Answer {
    match body {
        Some(body) => caller.send(method, path, &[("content-type", "application/json")], body.to_string()),
        None => caller.empty(method, path),
    }
}

/// What stands in the path for something of ours, and for something that is nowhere.
fn fillings(path: &str, ours: &Ours) -> Option<(String, String)> {
    let pair = |ours: &str, missing: &str| Some((ours.to_owned(), missing.to_owned()));
    let part = path.strip_prefix("/api/v1/")?.split('/').next()?;
    match part {
        "sources" => pair("ours-segment", "none"),
        "installations" if path.ends_with("/fit") || path.ends_with("/fits") => pair("ours-lifecycle", "none"),
        "installations" => pair("ours-segment", "none"),
        "audiences" => pair("ours-audience", "none"),
        "profiles" => pair(&ours.profile, &"0".repeat(32)),
        "dictionary" => pair("event/ours-event", "event/none"),
        "tracking-plans" => pair("ours-plan", "none"),
        "keys" => pair(&ours.key, "0123456789abcdef"),
        "dead-letters" => pair(&ours.letter, &format!("msg_{}", "0".repeat(32))),
        "publishers" | "host" => pair("ours-publisher", "none"),
        "workspaces" => pair("default", "none"),
        "plugins" => pair("kith/lifecycle", "kith/none"),
        _ => None,
    }
}

fn filled(path: &str, filling: &str, ours: &Ours) -> String {
    let path = path.replace("{vendor}/{name}", filling).replace("{version}", "0.1.0").replace("{id}", filling);
    let path = path.replace("{kind}/{name}", filling).replace("{name}", filling).replace("{number}", "1");
    let path = path.replace("{key_id}", "E7620F1842B4E81F").replace("{digest}", &"0".repeat(64));
    match path.rsplit('/').next() {
        Some("explain") => format!("{path}?profile={}", ours.profile),
        Some("why") => format!("{path}?with=user_id:ada"),
        Some("provenance") => format!("{path}?tag=stage"),
        _ => path,
    }
}

#[test]
fn what_is_foreign_answers_exactly_as_what_is_missing() {
    let (kernel, ours, theirs) = two_workspaces();
    let theirs = kernel.caller(&theirs);
    let mut looked_at = 0;
    for (method, path) in operations(&kernel).into_iter().filter(|(_, path)| path.contains('{')) {
        if path == "/v1/projects/{writeKey}/settings" {
            // The write key in the path is the credential itself.
            Client::new(kernel.url(), None).get("/v1/projects/none/settings").is_problem(404, "not-found");
            continue;
        }
        if path.contains("{call}") || path.contains("{key}") {
            // A kind of event, which is nobody's, or the credential itself.
            continue;
        }
        let (foreign, missing) =
            fillings(&path, &ours).unwrap_or_else(|| panic!("{method} {path} is new; say what to put into it"));
        let body = body_for(&method, &path);
        if path.starts_with("/api/v1/workspaces/") || path.starts_with("/api/v1/host/") {
            // The host's: whether there is one of that name is not said to others, nor of their own.
            for name in [foreign.as_str(), "other", &missing] {
                let asked = filled(&path, name, &ours);
                call(&theirs, &method, &asked, body.as_ref()).is_problem(403, "denied");
            }
            continue;
        }
        if method == "PUT" && !path.ends_with("/shadow") {
            // It makes something of the caller's own, whatever others have of that name.
            let asked = filled(&path, &foreign, &ours);
            assert!(call(&theirs, &method, &asked, body.as_ref()).status < 300, "{method} {path}");
            assert_eq!(theirs.delete(&asked).status, 204, "{path}");
            continue;
        }
        let shape = |filling: &str| {
            let answer = call(&theirs, &method, &filled(&path, filling, &ours), body.as_ref());
            let mut body = answer.is_problem(404, "not-found");
            body["request_id"] = Value::Null;
            // Of a filling of two parts a message may name the second alone.
            let last = filling.rsplit('/').next().unwrap();
            body.to_string().replace(filling, "ID").replace(&format!("'{last}'"), "'ID'")
        };
        assert_eq!(shape(&foreign), shape(&missing), "{method} {path}");
        looked_at += 1;
    }
    assert!(looked_at >= 15, "only {looked_at} routes with something in their path");
    // Nothing of all this did anything.
    let admin = kernel.admin();
    assert_eq!(admin.get("/api/v1/installations").is(200)["items"].as_array().unwrap().len(), 3);
    assert_eq!(admin.get("/api/v1/installations/ours-segment").is(200)["mode"], "live");
    assert_eq!(admin.get("/api/v1/audiences/ours-audience").is(200)["size"], 1);
    assert_eq!(admin.get("/api/v1/dictionary/event/ours-event").is(200)["meaning"], "ours-meaning");
    admin.get("/api/v1/tracking-plans/ours-plan").is(200);
    assert_eq!(admin.get("/api/v1/publishers/ours-publisher").is(200)["keys"], json!([]));
    kernel.profile("user_id:ours-ada");
}

#[test]
fn lists_and_counts_show_nothing_of_the_other_workspace() {
    let (kernel, ours, theirs) = two_workspaces();
    let theirs = kernel.caller(&theirs);
    for (method, path) in operations(&kernel).into_iter().filter(|(_, path)| !path.contains('{')) {
        if method != "GET" || path == "/api/v1/openapi.json" {
            continue;
        }
        let asked = if path == "/api/v1/profiles" { format!("{path}?identifier=user_id:ours-ada") } else { path };
        let text = theirs.get(&asked).text();
        // Names that a caller put into the question may come back in the refusal; what answers them may not.
        let secret = |known: &str| !asked.contains(known) && text.contains(known);
        let leaked: Vec<&str> =
            ["ours-", &ours.profile, &ours.key, &ours.letter].into_iter().filter(|known| secret(known)).collect();
        assert!(leaked.is_empty(), "{asked} shows {leaked:?}: {text}");
    }
    theirs.get("/api/v1/profiles?identifier=user_id:ours-ada").is_problem(404, "not-found");
    let figures = theirs.get("/metrics").text();
    assert!(!figures.contains("kith_http_requests_total"), "of the process it sees nothing: {figures}");
    assert!(figures.contains("# TYPE kith_installation_call_seconds summary"), "{figures}");
    let counted = theirs.post("/api/v1/audiences/count", &json!({ "condition": "true" })).is(200);
    assert_eq!((&counted["count"], &counted["population"]), (&json!(0), &json!(0)));
    let totals = theirs.get("/api/v1/workspace").is(200)["totals"].clone();
    assert_eq!((&totals["profiles"], &totals["events"]), (&json!(0), &json!(0)));
}

#[test]
fn the_same_names_and_people_live_side_by_side() {
    let (kernel, ours, theirs) = two_workspaces();
    let theirs = kernel.caller(&theirs);
    let installed = kernel.install_as(&theirs, "kith/segment", json!({ "name": "ours-segment" }));
    let sender = kernel.source(&installed);
    // The same person with the same message id, at the same moment, is another person there.
    let ada = json!({ "type": "identify", "userId": "ours-ada", "messageId": "i", "traits": { "city": "Rome" } });
    assert_eq!(sender.batch(&[ada])["accepted"], 1);
    let found = theirs.get("/api/v1/profiles?identifier=user_id:ours-ada").is(200);
    assert_ne!(found["id"], ours.profile.as_str());
    assert_eq!(found["traits"]["city"]["value"], "Rome");
    assert_eq!(kernel.profile("user_id:ours-ada")["traits"]["city"]["value"], "Oslo");
    // A foreign profile in one's own audience is nobody.
    theirs.post("/api/v1/audiences", &json!({ "name": "ours-audience", "condition": "true" })).is(201);
    let explain = |profile: &str| theirs.get(&format!("/api/v1/audiences/ours-audience/explain?profile={profile}"));
    explain(&ours.profile).is_problem(404, "not-found");
    explain(found["id"].as_str().unwrap()).is(200);
    // A foreign channel cannot be sent through.
    let on_enter = json!({ "channel": "ours-webhook", "purpose": "x", "payload": {} });
    let refused = theirs.patch("/api/v1/audiences/ours-audience", &json!({ "on_enter": on_enter }));
    assert_eq!(refused.is_problem(400, "bad-input")["errors"][0]["path"], "on_enter.channel");
    // Removing theirs leaves ours.
    theirs.delete("/api/v1/installations/ours-segment").is(204);
    kernel.admin().get("/api/v1/installations/ours-segment").is(200);
}

#[test]
fn a_write_key_can_do_nothing_but_write_to_its_source() {
    let (kernel, ours, _) = two_workspaces();
    let csv =
        json!({ "name": "ours-csv", "config": { "identifiers": { "user_id": "id" }, "event": { "name": "Seen" } } });
    kernel.install("kith/csv", csv);
    let writer = kernel.caller(&ours.write_key);
    let public = ["/healthz", "/readyz", "/api/v1/openapi.json", "/api/v1/abi"];
    for (method, path) in operations(&kernel) {
        let of_senders =
            ["/v1/", "/beacon/", "/pixel/", "/sourceConfig", "/hooks/", "/callbacks/", "/api/v1/sources/{id}/"];
        let is_own = of_senders.iter().any(|prefix| path.starts_with(prefix));
        if is_own || public.contains(&path.as_str()) {
            continue;
        }
        let filling = fillings(&path, &ours).map(|(ours, _)| ours).unwrap_or_default();
        let answer = call(&writer, &method, &filled(&path, &filling, &ours), body_for(&method, &path).as_ref());
        answer.is_problem(403, "denied");
    }
    let other = writer.send("POST", "/api/v1/sources/ours-csv/records", &[], "id\n1\n");
    other.is_problem(404, "not-found");
    let own = writer.send("POST", "/api/v1/sources/ours-segment/records", &[], json!({ "batch": [] }).to_string());
    own.is(200);
}

#[test]
fn a_key_does_what_its_scopes_say_and_no_more() {
    let (kernel, ours, _) = two_workspaces();
    let document = kernel.admin().get("/api/v1/openapi.json").is(200);
    let all = [
        "ingest",
        "profiles:read",
        "identity:write",
        "plugins:admin",
        "audiences:read",
        "audiences:write",
        "deliveries:read",
        "deliveries:write",
        "keys:admin",
        "metrics:read",
        "audit:read",
        "dictionary:write",
        "sensitive:read",
        "workspaces:admin",
    ];
    for (method, path) in operations(&kernel) {
        let security = document["paths"][&path][method.to_lowercase()]["security"][0]["key"].as_array();
        let scopes: Vec<&str> = security.into_iter().flatten().filter_map(Value::as_str).collect();
        if scopes.is_empty() {
            continue;
        }
        assert!(scopes.iter().all(|scope| all.contains(scope)), "{method} {path} asks for {scopes:?}");
        let filling = fillings(&path, &ours).map(|(_, missing)| missing).unwrap_or_default();
        let asked = filled(&path, &filling, &ours);
        let body = body_for(&method, &path);
        for scope in &scopes {
            // The figures are the host's, too.
            let opens = |other: &&str| other == scope || (path == "/metrics" && *other == "workspaces:admin");
            let others: Vec<&str> = all.into_iter().filter(|other| !opens(other)).collect();
            let without = kernel.caller(&kernel.key(&others));
            call(&without, &method, &asked, body.as_ref()).is_problem(403, "denied");
        }
        let nobody = Client::new(kernel.url(), None);
        call(&nobody, &method, &asked, body.as_ref()).is_problem(401, "unauthenticated");
        let with = call(&kernel.caller(&kernel.key(&scopes)), &method, &asked, body.as_ref());
        assert!(!matches!(with.status, 401 | 403 | 500), "{method} {asked}: {}", with.text());
    }
}
