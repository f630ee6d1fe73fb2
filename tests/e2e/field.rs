//! What people reported of the systems that they use today, tried on this one: messages, identities and calls that are told in no other
//! story. Each line has the situation, what is sent, and what has to come of it.

use std::sync::Arc;

use kith_tests::{Client, Receiver, SIGNING_SECRET, Source, TestKernel, encode, wait_until};
use serde_json::{Value, json};

/// Send messages one after another, each as a call of its own, whatever becomes of them.
fn call(sender: &Source, path: &str, body: &Value) -> Value {
    sender.client.post(&format!("/v1/{path}"), body).json()
}

fn accepted(answer: &Value) -> u64 {
    answer["accepted"].as_u64().unwrap_or_else(|| panic!("{answer}"))
}

fn codes(answer: &Value) -> Vec<&str> {
    let rejected = answer["rejected"].as_array().into_iter().flatten();
    rejected.filter_map(|record| record["code"].as_str()).collect()
}

/// What is sent, by which call, and the code where it is refused.
fn situations() -> Vec<(&'static str, &'static str, Value, Option<&'static str>)> {
    let deep = format!("{}{}", "[".repeat(80), "]".repeat(80));
    let deep: Value = serde_json::from_str(&deep).unwrap();
    vec![
        (
            "null in the place of objects, ids and times",
            "track",
            json!({ "event": "E", "userId": "nulls", "anonymousId": null, "messageId": null, "timestamp": null, "properties": null, "context": null }),
            None,
        ),
        ("ids as numbers", "track", json!({ "event": "X", "userId": 12345 }), None),
        ("the same as a text", "track", json!({ "event": "Y", "userId": "12345" }), None),
        ("a number beyond 53 bits", "track", json!({ "event": "X", "userId": 9_007_199_254_740_993_u64 }), None),
        (
            "an id of spaces beside a device",
            "track",
            json!({ "event": "E", "userId": "   ", "anonymousId": "wa" }),
            None,
        ),
        (
            "an id that is a truth value beside a device",
            "track",
            json!({ "event": "E", "userId": true, "anonymousId": "wb" }),
            None,
        ),
        (
            "an id that is an object alone",
            "track",
            json!({ "event": "E", "userId": { "id": 7 } }),
            Some("missing-identifier"),
        ),
        ("a name of 300 bytes", "track", json!({ "event": "n".repeat(300), "userId": "a" }), Some("name-too-long")),
        (
            "a message of 40 KB",
            "track",
            json!({ "event": "E", "userId": "a", "properties": { "x": "y".repeat(40_000) } }),
            Some("too-large"),
        ),
        (
            "nested too deeply",
            "track",
            json!({ "event": "E", "userId": "a", "properties": { "x": deep } }),
            Some("too-deep"),
        ),
        ("a name of nothing but spaces", "track", json!({ "event": "  ", "userId": "a" }), Some("missing-event-name")),
        (
            "quotes, a star, a line break, Cyrillic and an emoji",
            "track",
            json!({ "event": "it's \"*\"\nЗаказ 🛒 & more", "userId": "odd" }),
            None,
        ),
        (
            "facts of a group tell nothing of the person",
            "group",
            json!({ "userId": "g1", "groupId": "acme", "traits": { "email": "office@acme.example" } }),
            None,
        ),
        (
            "external ids of every kind",
            "track",
            json!({ "event": "E", "userId": "ext", "context": { "externalIds": [{ "id": "7", "type": "crm", "collection": "users" }, 5, null, { "id": {} }, "x"] } }),
            None,
        ),
    ]
}

#[test]
fn messages_as_clients_send_them_are_taken_or_told() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    for (situation, path, message, code) in situations() {
        let answer = call(&sender, path, &message);
        assert_eq!(codes(&answer), code.into_iter().collect::<Vec<_>>(), "{situation}: {answer}");
        assert_eq!(accepted(&answer), u64::from(code.is_none()), "{situation}: {answer}");
    }
    kernel.settle();
    let names = |user: &str| -> Vec<String> {
        kernel.events(user).iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect()
    };
    assert_eq!(names("user_id:12345"), ["Y", "X"], "one person");
    assert_eq!(names("user_id:9007199254740993"), ["X"], "digit by digit");
    for device in ["anonymous_id:wa", "anonymous_id:wb"] {
        assert_eq!(kernel.profile(device)["identifiers"].as_array().unwrap().len(), 1, "{device}");
    }
    assert!(kernel.events("anonymous_id:wb")[0]["flags"].as_array().unwrap().contains(&json!("not-an-id:userId")));
    assert_eq!(kernel.count(r#"events("it's \"*\"\nЗаказ 🛒 & more").size() == 1"#), 1);
    assert_eq!(kernel.find("email:office@acme.example"), None, "a group's address is no person's");
    assert!(kernel.find("crm:7").is_some());
}

#[test]
fn one_id_sent_many_times_at_once_is_one_event() {
    let kernel = TestKernel::start();
    let sender = Arc::new(kernel.segment());
    let batch = |ids: &[&str]| {
        let message = |id: &&str| json!({ "type": "track", "event": "E", "userId": "r", "messageId": id, "timestamp": "2026-11-01T00:00:00Z" });
        sender.batch(&ids.iter().map(message).collect::<Vec<_>>())
    };
    let first = batch(&["x", "y", "z", "z"]);
    assert_eq!((accepted(&first), &first["duplicate"]), (3, &json!(1)), "{first}");
    let second = batch(&["x", "w"]);
    assert_eq!((accepted(&second), &second["duplicate"]), (1, &json!(1)), "{second}");
    let message = json!({ "event": "E", "userId": "r", "messageId": "many", "timestamp": "2026-11-01T00:00:00Z" });
    let calls: Vec<_> = (0..40)
        .map(|_| {
            let (sender, message) = (Arc::clone(&sender), message.clone());
            std::thread::spawn(move || accepted(&call(&sender, "track", &message)))
        })
        .collect();
    let taken: u64 = calls.into_iter().map(|call| call.join().unwrap()).sum();
    assert_eq!((taken, kernel.events("user_id:r").len()), (1, 5));
    // Another source has ids of its own.
    let other = kernel.source(&kernel.install("kith/segment", json!({ "name": "other" })));
    assert_eq!(accepted(&call(&other, "track", &message)), 1);
}

#[test]
fn facts_and_histories_outlive_logins_and_merges() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let track = |message: Value| assert_eq!(accepted(&call(&sender, "track", &message)), 1, "{message}");
    let identify = |message: Value| assert_eq!(accepted(&call(&sender, "identify", &message)), 1, "{message}");
    // Two users of one device, logins in turn: each has what came under the own id, and what the device did alone is the first's.
    track(json!({ "event": "before", "anonymousId": "tablet", "messageId": "d1" }));
    identify(json!({ "anonymousId": "tablet", "userId": "alice" }));
    track(json!({ "event": "a1", "anonymousId": "tablet", "userId": "alice" }));
    identify(json!({ "anonymousId": "tablet", "userId": "bob" }));
    track(json!({ "event": "b1", "anonymousId": "tablet", "userId": "bob" }));
    track(json!({ "event": "after", "anonymousId": "tablet" }));
    // A circle of aliases and one onto itself.
    for (user, previous) in [("lb", "la"), ("la", "lb"), ("la", "la")] {
        call(&sender, "alias", &json!({ "userId": user, "previousId": previous }));
    }
    // A fact that is older than the one that is known comes late.
    identify(json!({ "userId": "late", "traits": { "plan": "new" }, "timestamp": "2026-11-20T00:00:00Z" }));
    identify(json!({ "userId": "late", "traits": { "plan": "old" }, "timestamp": "2026-10-01T00:00:00Z" }));
    // A device's facts and history stay when it logs in.
    identify(json!({ "anonymousId": "dm", "traits": { "color": "red" } }));
    track(json!({ "event": "looked", "anonymousId": "dm" }));
    identify(
        json!({ "anonymousId": "dm", "userId": "m12", "traits": { "name": "M", "email": "m12+news@example.com" } }),
    );
    kernel.settle();
    let names = |user: &str| -> Vec<String> {
        let mut names: Vec<String> =
            kernel.events(user).iter().map(|event| event["name"].as_str().unwrap().to_owned()).collect();
        names.retain(|name| !name.is_empty());
        names
    };
    assert_eq!(names("user_id:alice"), ["after", "a1", "before"]);
    assert_eq!(names("user_id:bob"), ["b1"]);
    assert!(kernel.find("user_id:la").is_some(), "no loop");
    assert_eq!(kernel.profile("user_id:late")["traits"]["plan"]["value"], "new");
    let merged = kernel.profile("user_id:m12");
    assert_eq!((&merged["traits"]["color"]["value"], &merged["traits"]["name"]["value"]), (&json!("red"), &json!("M")));
    assert_eq!(names("user_id:m12"), ["looked"]);
    // Signs that mean something in addresses of the web, in look-ups.
    assert_eq!(kernel.profile("email:m12+news@example.com")["id"], merged["id"]);
    track(json!({ "event": "E", "userId": "p+1 &?%:x" }));
    assert!(kernel.find("user_id:p+1 &?%:x").is_some());
}

/// A number has more digits than the machine's; wherever it leaves it is as it came.
#[test]
fn numbers_leave_everywhere_as_they_came() {
    let kernel = TestKernel::start();
    let (sender, admin) = (kernel.segment(), kernel.admin());
    let numbers = ["123456789012345678901", "0.1234567890123456789", "-98765432109876543210.125", "1.10", "1e21"];
    let traits: Vec<String> =
        numbers.iter().enumerate().map(|(place, number)| format!("\"n{place}\":{number}")).collect();
    let traits = format!("{{{},\"all\":[{}]}}", traits.join(","), numbers.join(","));
    let send = |path: &str, body: String| {
        sender.client.send("POST", path, &[("content-type", "application/json")], body).is(200)
    };
    send("/v1/identify", format!(r#"{{"userId":"big","traits":{traits}}}"#));
    for (place, number) in numbers.iter().enumerate() {
        send("/v1/track", format!(r#"{{"userId":"big","event":"E{place}","properties":{{"n":{number}}}}}"#));
    }
    kernel.settle();
    admin.post("/api/v1/audiences", &json!({ "name": "all", "condition": "has(traits.n0)" })).is(201);
    wait_until("it is computed", || admin.get("/api/v1/audiences/all").is(200)["size"] == 1);
    let id = kernel.profile("user_id:big")["id"].as_str().unwrap().to_owned();
    let columns = "traits.n0,traits.n1,traits.n2,traits.n3,traits.n4,traits.all";
    for path in [
        format!("/api/v1/profiles/{id}"),
        format!("/api/v1/profiles/{id}/events"),
        format!("/api/v1/profiles?prefix=user_id:big&columns={columns}"),
        format!("/api/v1/profiles/export?columns={columns}"),
        format!("/api/v1/profiles/export?format=ndjson&columns={columns}"),
        format!("/api/v1/audiences/all/members/export?columns={columns}"),
        format!("/api/v1/audiences/all/members/export?format=ndjson&columns={columns}"),
        "/api/v1/catalog?kind=property".to_owned(),
    ] {
        let text = admin.get(&path).text();
        for number in numbers {
            let is_there = [",", ":", "[", " "].iter().any(|before| text.contains(&format!("{before}{number}")));
            assert!(is_there || text.contains(&format!("\n{number}")), "{path}: {number} in {text}");
        }
    }
    // It is found by its digits, and by no others.
    let found = |wanted: &str| admin.get(&format!("/api/v1/profiles?trait.n0={wanted}&columns=id")).is(200);
    assert_eq!(found(numbers[0])["items"].as_array().unwrap().len(), 1);
    assert_eq!(found("123456789012345678902")["items"].as_array().unwrap().len(), 0);
    assert_eq!(kernel.count("traits.n0 == 123456789012345678901 && traits.n0 > 9223372036854775807"), 1);
    // In a file, as it would be stored.
    kernel.install("kith/csv", json!({ "name": "file", "config": { "kind": "identify", "identifiers": { "user_id": "id" }, "traits": ["n"] } }));
    for number in numbers {
        let line = format!("{{\"id\":\"f\",\"n\":{number}}}\n");
        let text = admin.send("POST", "/api/v1/sources/file/records?dry_run=true", &[], line).text();
        assert!(text.contains(&format!("\"traits\":{{\"n\":{number}}}")), "{text}");
    }
}

/// A payload's own numbers arrive with all their digits, whatever is filled in beside them.
#[test]
fn numbers_of_a_payload_arrive_as_they_were_written() {
    let kernel = TestKernel::start();
    let (sender, admin, receiver) = (kernel.segment(), kernel.admin(), Receiver::start());
    kernel.install(
        "kith/webhook",
        json!({
            "config": { "url": format!("http://{}/", receiver.host()) },
            "grants": { "http": [receiver.host()], "secrets": { "signing": [receiver.host()] } },
            "secrets": { "signing": SIGNING_SECRET },
        }),
    );
    let payload = r#"{"campaign":123456789012345678901,"rate":[0.1234567890123456789,1.10],"text":"Hi {{ name }}"}"#;
    let audience = format!(
        r#"{{"name":"hello","condition":"has(traits.name)","on_enter":{{"channel":"webhook","purpose":"news","basis":"not_refused","payload":{payload}}}}}"#
    );
    let headers = [("content-type", "application/json")];
    admin.send("POST", "/api/v1/audiences", &headers, audience).is(201);
    assert!(admin.get("/api/v1/audiences/hello").text().contains(r#""campaign":123456789012345678901"#));
    // A name that is a number is one digit by digit, too.
    sender
        .client
        .send("POST", "/v1/identify", &headers, r#"{"userId":"a","traits":{"name":99999999999999999999.50}}"#)
        .is(200);
    wait_until("it arrives", || !receiver.arrived().is_empty());
    let body = String::from_utf8(receiver.arrived()[0].body.clone()).unwrap();
    for part in ["123456789012345678901", "0.1234567890123456789", "1.10", "Hi 99999999999999999999.50"] {
        assert!(body.contains(part), "{part} in {body}");
    }
}

#[test]
fn two_admins_and_a_source_that_is_off_are_told_what_happened() {
    let kernel = TestKernel::start();
    let (sender, admin) = (kernel.segment(), kernel.admin());
    // One name made by sixteen at once is made once.
    let made: Vec<_> = (0..16)
        .map(|number| {
            let admin: Client = kernel.admin();
            std::thread::spawn(move || {
                let body = json!({ "name": "same", "title": format!("t{number}"), "condition": "traits.t == 1" });
                admin.post("/api/v1/audiences", &body).status
            })
        })
        .collect();
    let mut statuses: Vec<u16> = made.into_iter().map(|made| made.join().unwrap()).collect();
    statuses.sort_unstable();
    assert_eq!((statuses[0], statuses[1..].iter().all(|status| *status == 409)), (201, true), "{statuses:?}");
    // Changes of different fields at once are both kept.
    let changes = [json!({ "title": "both" }), json!({ "condition": "traits.t == 2" })].map(|body| {
        let admin: Client = kernel.admin();
        std::thread::spawn(move || admin.patch("/api/v1/audiences/same", &body).status)
    });
    assert!(changes.into_iter().all(|change| change.join().unwrap() == 200));
    let kept = admin.get("/api/v1/audiences/same").is(200);
    assert_eq!((&kept["title"], &kept["condition"]), (&json!("both"), &json!("traits.t == 2")));
    // A key that stands twice is no change.
    let twice = r#"{"title":"x","title":"y"}"#;
    admin
        .send("PATCH", "/api/v1/audiences/same", &[("content-type", "application/json")], twice)
        .is_problem(400, "bad-input");
    let config = r#"{"plugin":"kith/csv","config":{"identifiers":{"user_id":"a","user_id":"b"}}}"#;
    kernel.upload(&admin, "kith/csv");
    let refused = admin.send("POST", "/api/v1/installations", &[("content-type", "application/json")], config);
    assert!(refused.is_problem(400, "bad-input").to_string().contains("config.identifiers.user_id"));
    // Of a source that is off nothing is taken, and the sender is told to come back.
    admin.patch("/api/v1/installations/segment", &json!({ "mode": "disabled" })).is(200);
    let answer = sender.client.post("/v1/track", &json!({ "event": "E", "userId": "off" }));
    assert!(answer.status == 503 && !answer.header("retry-after").is_empty(), "{}", answer.text());
    assert_eq!(kernel.find(&format!("user_id:{}", encode("off"))), None);
}
