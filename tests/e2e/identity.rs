//! Who is one person, from the clients' bytes to the answers: spellings, placeholders, aliases, what is not followed, and rules
//! of a workspace's own.

use kith_tests::{Client, Source, TestKernel, wait_for, wait_until};
use serde_json::{Value, json};

fn identify(source: &Source, fields: Value) -> Value {
    let mut message = json!({ "type": "identify" });
    message.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
    source.batch(&[message])
}

/// The identifiers of a person, sorted; empty where there is none.
fn who(kernel: &TestKernel, identifier: &str) -> Vec<String> {
    let found = kernel.find(identifier);
    let all = found.iter().flat_map(|profile| profile["identifiers"].as_array().unwrap());
    let mut all: Vec<String> =
        all.map(|item| format!("{}:{}", item["type"].as_str().unwrap(), item["value"].as_str().unwrap())).collect();
    all.sort();
    all
}

#[test]
fn spellings_and_placeholders_of_clients_make_the_people_that_there_are() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    identify(
        &source,
        json!({ "userId": "c1", "traits": { "email": " Ada@Example.com", "phone": "+1 (555) 010-0000" } }),
    );
    identify(&source, json!({ "anonymousId": "c2", "traits": { "email": "ada@example.com" } }));
    identify(&source, json!({ "anonymousId": "c3", "traits": { "phone": "+15550100000" } }));
    let ada = who(&kernel, "user_id:c1");
    assert!(
        ["anonymous_id:c2", "anonymous_id:c3", "email:Ada@Example.com"].iter().all(|id| ada.iter().any(|at| at == id))
    );
    for asked in ["email:ADA@EXAMPLE.COM", "email:Ada@Example.com ", "email: ada@example.com", "phone:001 555 0100000"]
    {
        assert_eq!(who(&kernel, asked), ada, "{asked:?}");
    }
    let email = kernel.profile("user_id:c1")["traits"]["email"]["value"].clone();
    assert!(["ada@example.com", " Ada@Example.com"].iter().any(|as_sent| email == *as_sent), "{email}");
    let answer =
        identify(&source, json!({ "anonymousId": "x1", "userId": "distinctid", "traits": { "email": "n/a" } }));
    assert_eq!((&answer["accepted"], &answer["identifiers_left_out"]), (&json!(1), &json!(2)), "{answer}");
    identify(&source, json!({ "anonymousId": "x2", "userId": "distinctid", "traits": { "email": "n/a" } }));
    assert_eq!(who(&kernel, "anonymous_id:x1"), ["anonymous_id:x1"]);
    assert_eq!(who(&kernel, "email:n/a"), Vec::<String>::new());
    assert_eq!(kernel.profile("anonymous_id:x2")["traits"]["email"]["value"], "n/a", "it stays a trait");
}

#[test]
fn an_alias_of_either_vendor_ties_histories_and_makes_no_stray_device() {
    let kernel = TestKernel::start();
    let source = kernel.segment();
    let seen = |fields: Value| json!({ "type": "track", "event": "Seen", "userId": fields["user"], "anonymousId": fields["device"] });
    source.batch(&[seen(json!({ "user": "old-7" }))]);
    let context = json!({ "traits": { "email": "seven@example.com" } });
    // As RudderStack's clients send it: with the device and the address of the moment.
    let alias =
        json!({ "type": "alias", "userId": "new-7", "previousId": "old-7", "anonymousId": "d7", "context": context });
    source.batch(&[alias]);
    assert_eq!(who(&kernel, "user_id:new-7"), ["user_id:new-7", "user_id:old-7"]);
    assert_eq!(who(&kernel, "user_id:old-7"), who(&kernel, "user_id:new-7"));
    assert_eq!(kernel.events("user_id:new-7").len(), 2, "the history of both");
    assert_eq!(who(&kernel, "anonymous_id:d7"), Vec::<String>::new(), "an alias says nothing of the device");
    source.batch(&[seen(json!({ "device": "an6" })), json!({ "type": "alias", "userId": "u6", "previousId": "an6" })]);
    assert_eq!(who(&kernel, "user_id:u6"), ["anonymous_id:an6", "user_id:u6"]);
}

#[test]
fn what_was_not_followed_is_said_everywhere() {
    let kernel = TestKernel::start();
    let (source, admin) = (kernel.segment(), kernel.admin());
    identify(&source, json!({ "userId": "mum", "anonymousId": "tablet", "timestamp": "2026-11-20T10:00:00Z" }));
    let answer =
        identify(&source, json!({ "userId": "dad", "anonymousId": "tablet", "timestamp": "2026-11-20T11:00:00Z" }));
    assert_eq!(answer["not_followed"], 1, "{answer}");
    let dad = kernel.profile("user_id:dad");
    let told = &dad["not_followed"][0];
    assert_eq!((&told["rule"], &told["evidence"]), (&json!("limit"), &json!("same_event")), "{dad}");
    assert!(told["reason"].as_str().unwrap().contains("user_id"));
    let listed = admin.get("/api/v1/identity/not-followed").is(200);
    assert_eq!(listed["items"], dad["not_followed"]);
    let mum = kernel.profile("user_id:mum")["id"].as_str().unwrap().to_owned();
    let why = admin.get(&format!("/api/v1/profiles/{mum}/why?with=anonymous_id:tablet&from=user_id:mum")).is(200);
    assert_eq!((&why["same"], why["steps"].as_array().unwrap().len()), (&json!(true), 1), "{why}");
    assert_eq!(why["steps"][0]["event"]["kind"], "identify");
    let why = admin.get(&format!("/api/v1/profiles/{mum}/why?with=user_id:dad")).is(200);
    assert_eq!(why["same"], false);
    let merges = admin.get("/api/v1/identity/merges").is(200);
    assert_eq!(merges["items"].as_array().unwrap().len(), 1, "{merges}");
}

#[test]
fn a_workspace_has_rules_of_its_own() {
    let kernel = TestKernel::start();
    let (source, admin) = (kernel.segment(), kernel.admin());
    let put = |body: Value| {
        admin.send("PUT", "/api/v1/identity/rules", &[("content-type", "application/json")], body.to_string())
    };
    let before = admin.get("/api/v1/identity/rules").is(200);
    assert_eq!((&before["limits"]["user_id"], &before["shared_above"]), (&json!(1), &json!(10)));
    put(json!({ "phone_region": "DE", "blocked_values": ["kiosk-1"] })).is(200);
    identify(&source, json!({ "anonymousId": "p1", "traits": { "phone": "0170/1234567" } }));
    identify(&source, json!({ "anonymousId": "p2", "traits": { "phone": "+49 170 1234567" } }));
    assert!(who(&kernel, "anonymous_id:p1").contains(&"anonymous_id:p2".to_owned()));
    identify(&source, json!({ "userId": "Kiosk-1", "anonymousId": "k1" }));
    assert_eq!(who(&kernel, "anonymous_id:k1"), ["anonymous_id:k1"]);
    let refused = put(json!({ "limits": { "email": 0 } }));
    assert!(refused.is_problem(400, "bad-input")["message"].as_str().unwrap().contains("limits.email"));
    put(json!({ "shard": 3 })).is_some_problem();
    let kept = admin.get("/api/v1/identity/rules").is(200);
    assert_eq!(kept["phone_region"], "DE", "what was refused changed nothing");
    let audit = admin.get("/api/v1/audit?action=identity.rules").is(200);
    assert_eq!(audit["items"][0]["after"]["phone_region"], "DE", "{audit}");
    let reader = kernel.caller(&kernel.key(&["profiles:read"]));
    reader.send("PUT", "/api/v1/identity/rules", &[], "{}").is_problem(403, "denied");
}

/// What a change would do, once that is known.
fn looked_at(admin: &Client, path: &str, body: &Value) -> Value {
    let mut answer = admin.post(path, body).is(200);
    wait_for("the dry run to end", || {
        if answer["state"] == "running" {
            let token = answer["token"].as_str().unwrap();
            answer = admin.get(&format!("/api/v1/identity/dry-run?token={token}")).is(200);
        }
        (answer["state"] == "done").then(|| answer.clone())
    })
}

/// Wait until history is tied by the rules in force.
fn tied(kernel: &TestKernel) {
    let state = || kernel.admin().get("/api/v1/identity/rules/change").is(200)["state"].clone();
    wait_until("history is tied by the rules", || state() == "done");
}

#[test]
fn all_that_a_desks_address_tied_is_undone_after_a_look_and_taken_back() {
    let kernel = TestKernel::start();
    let (source, admin) = (kernel.segment(), kernel.admin());
    for n in 0..12 {
        identify(&source, json!({ "anonymousId": format!("v{n}"), "traits": { "email": "Desk@shop.example" } }));
    }
    let is_one = |kernel: &TestKernel| who(kernel, "anonymous_id:v1").contains(&"anonymous_id:v2".to_owned());
    assert!(is_one(&kernel), "the address makes one of twelve visitors");
    let undo = "/api/v1/identity/undo";
    let body = json!({ "identifier": "email:DESK@shop.example" });
    let told = looked_at(&admin, undo, &body);
    let effect = &told["effect"];
    assert_eq!((&effect["people_before"], &effect["parted"]), (&json!(1), &json!(1)), "{told}");
    assert!(effect["people_after"].as_u64().unwrap() > 12 && effect["exact"] == true, "{told}");
    assert!(!effect["examples"].as_array().unwrap().is_empty());
    assert!(is_one(&kernel), "a look changes nothing");
    // Who may not read people does not learn from a look who is one with whom.
    kernel.caller(&kernel.key(&["identity:write"])).post(undo, &body).is_problem(403, "denied");

    let confirmed = |token: &Value| json!({ "identifier": "email:desk@shop.example", "confirm": token });
    admin.post(undo, &confirmed(&json!("0123"))).is_problem(409, "confirmation-stale");
    assert_eq!(admin.post(undo, &confirmed(&told["token"])).is(200)["state"], "applied");
    tied(&kernel);
    wait_until("each visitor is somebody", || who(&kernel, "anonymous_id:v1") == ["anonymous_id:v1"]);
    identify(&source, json!({ "anonymousId": "v1", "traits": { "email": "desk@SHOP.example" } }));
    assert_eq!(who(&kernel, "anonymous_id:v1"), ["anonymous_id:v1"], "also with what comes later");
    admin.post(undo, &body).is_problem(400, "bad-input");
    assert_eq!(admin.get("/api/v1/identity/rules").is(200)["ties_nobody"], json!(["email:desk@shop.example"]));
    let audit = admin.get("/api/v1/audit?action=identity.undo").is(200);
    assert_eq!(audit["items"][0]["after"]["ties_nobody"], json!(["email:desk@shop.example"]), "{audit}");

    let back = json!({ "identifier": "email:desk@shop.example", "back": true });
    let told = looked_at(&admin, undo, &back);
    assert_eq!(told["effect"]["joined"], 1, "{told}");
    let mut confirmed = back.clone();
    confirmed["confirm"] = told["token"].clone();
    admin.post(undo, &confirmed).is(200);
    tied(&kernel);
    wait_until("they are one again", || is_one(&kernel));

    admin.post(undo, &json!({ "identifier": "email:nobody@shop.example" })).is_problem(404, "not-found");
    admin.post(undo, &json!({ "evidence": "guess" })).is_problem(400, "bad-input");
    admin.post(undo, &json!({ "evidence": "alias", "identifier": "user_id:x" })).is_problem(400, "bad-input");
    kernel.caller(&kernel.key(&["profiles:read"])).post(undo, &body).is_problem(403, "denied");
}

#[test]
fn a_change_of_rules_is_tried_out_and_then_history_follows_it() {
    let kernel = TestKernel::start();
    let (source, admin) = (kernel.segment(), kernel.admin());
    identify(&source, json!({ "anonymousId": "p1", "traits": { "phone": "0170/1234567" } }));
    identify(&source, json!({ "anonymousId": "p2", "traits": { "phone": "+49 170 1234567" } }));
    let rules = json!({ "phone_region": "DE" });
    let told = looked_at(&admin, "/api/v1/identity/rules/dry-run", &rules);
    assert_eq!(told["effect"]["joined"], 1, "{told}");
    let put = |path: &str| admin.send("PUT", path, &[("content-type", "application/json")], rules.to_string());
    put("/api/v1/identity/rules?confirm=no").is_problem(409, "confirmation-stale");
    put(&format!("/api/v1/identity/rules?confirm={}", told["token"].as_str().unwrap())).is(200);
    tied(&kernel);
    wait_until("they are one", || who(&kernel, "anonymous_id:p1").contains(&"anonymous_id:p2".to_owned()));
    admin.get("/api/v1/identity/dry-run?token=nothing").is_problem(409, "no-dry-run");
}

/// A limit keeps two users of one device apart as long as it stands. Parted by hand they stay so under another one.
#[test]
fn two_users_whom_a_limit_keeps_apart_can_be_parted_for_good() {
    let kernel = TestKernel::start();
    let (source, admin) = (kernel.segment(), kernel.admin());
    for (device, users) in [("a1", ["u1", "u2"]), ("a2", ["v1", "v2"])] {
        for user in users {
            identify(&source, json!({ "userId": user, "anonymousId": device }));
        }
    }
    let id = |user: &str| kernel.profile(&format!("user_id:{user}"))["id"].as_str().unwrap().to_owned();
    assert_ne!(id("u1"), id("u2"), "the limit of one user");
    let split = |one: &str, other: &str| {
        let path = format!("/api/v1/profiles/{}/split", id("u1"));
        admin.post(&path, &json!({ "apart": [one, other] }))
    };
    let [one, other] = ["user_id:u1", "user_id:u2"];
    let words = split(one, "u2").is_problem(400, "bad-input")["message"].as_str().unwrap().to_owned();
    assert!(words.contains("second of the two") && !words.contains("apart["), "{words}");
    split("user_id:v1", "user_id:v2").is_problem(400, "bad-input");
    split(one, "user_id:nobody").is_problem(404, "not-found");
    let answer = split(one, other).is(200);
    assert_ne!(answer["profiles"][0], answer["profiles"][1]);
    assert_eq!(admin.get("/api/v1/identity/splits").is(200)["items"].as_array().unwrap().len(), 1);
    let rules = json!({ "limits": { "user_id": 2 } });
    admin.send("PUT", "/api/v1/identity/rules", &[("content-type", "application/json")], rules.to_string()).is(200);
    tied(&kernel);
    wait_until("the other two are one", || id("v1") == id("v2"));
    assert_ne!(id("u1"), id("u2"));
}

#[test]
fn what_was_parted_by_hand_is_listed_and_taken_back() {
    let kernel = TestKernel::start();
    let (source, admin) = (kernel.segment(), kernel.admin());
    identify(&source, json!({ "userId": "u1", "anonymousId": "a1" }));
    let id = kernel.profile("user_id:u1")["id"].as_str().unwrap().to_owned();
    let apart = json!({ "apart": ["user_id:u1", "anonymous_id:a1"] });
    admin.post(&format!("/api/v1/profiles/{id}/split"), &apart).is(200);
    let listed = admin.get("/api/v1/identity/splits").is(200);
    let ends = listed["items"][0]["identifiers"].as_array().unwrap();
    assert_eq!((listed["items"].as_array().unwrap().len(), ends.len()), (1, 2), "{listed}");
    assert_ne!(ends[0]["profile"], ends[1]["profile"]);
    let pair = "/api/v1/identity/splits?one=user_id:u1&other=anonymous_id:a1";
    let answer = admin.delete(pair).is(200);
    assert_eq!(answer["profiles"][0], answer["profiles"][1], "evidence makes them one again");
    admin.delete(pair).is_problem(404, "not-found");
    assert_eq!(admin.get("/api/v1/identity/splits").is(200)["items"], json!([]));
    kernel.caller(&kernel.key(&["profiles:read"])).delete(pair).is_problem(403, "denied");
}
