//! Segment's and RudderStack's clients, as the bytes that they send: every call, every body shape, nothing lost and nothing
//! twice. The clients themselves run in `tests/clients`.

use base64::Engine as _;
use kith_tests::{Client, TestKernel, gzip};
use serde_json::{Value, json};

/// The events of a person by their message ids.
fn event(kernel: &TestKernel, identifier: &str, message_id: &str) -> Value {
    let events = kernel.events(identifier);
    let mut found: Vec<Value> = events.into_iter().filter(|event| event["message_id"] == message_id).collect();
    assert_eq!(found.len(), 1, "{message_id} of {identifier} is there once");
    found.remove(0)
}

fn track(id: &str, user: &str) -> Value {
    json!({ "type": "track", "event": "Seen", "userId": user, "messageId": id, "timestamp": "2026-11-21T09:00:00Z" })
}

#[test]
fn every_call_arrives_with_its_fields() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let calls = [
        ("track", json!({ "event": "Order Completed", "properties": { "total": 59.9, "deep": [{ "a": null }] } })),
        ("identify", json!({ "traits": { "email": "ada@example.com", "city": "Oslo" } })),
        ("page", json!({ "name": "Home", "category": "Shop", "properties": { "path": "/" } })),
        ("screen", json!({ "name": "Start", "properties": { "first": true } })),
        ("group", json!({ "groupId": "g1", "traits": { "name": "Initech" } })),
        ("alias", json!({ "previousId": "visitor-1" })),
    ];
    for (kind, fields) in &calls {
        for (form, path) in [("full", format!("/v1/{kind}")), ("short", format!("/v1/{}", &kind[..1]))] {
            let mut message = fields.clone();
            message["userId"] = json!("ada");
            message["messageId"] = json!(format!("{kind}-{form}"));
            message["timestamp"] = json!("2026-11-21T09:59:00.000Z");
            message["context"] = json!({ "library": { "name": "test" } });
            message["integrations"] = json!({ "All": false });
            let body = sender.client.post(&path, &message).is(200);
            assert_eq!((&body["success"], &body["accepted"]), (&json!(true), &json!(1)), "{path}: {body}");
            let stored = event(&kernel, "user_id:ada", &format!("{kind}-{form}"));
            assert_eq!(stored["kind"], *kind);
            assert_eq!(stored["time"], "2026-11-21T09:59:00.000Z");
            assert_eq!(stored["source"], "segment");
            assert_eq!(stored["context"]["library"]["name"], "test", "{stored}");
            assert_eq!(stored["context"]["message"]["integrations"]["All"], false, "unknown fields are kept: {stored}");
        }
    }
    let order = event(&kernel, "user_id:ada", "track-full");
    assert_eq!(order["name"], "Order Completed");
    assert_eq!(order["properties"], json!({ "total": 59.9, "deep": [{ "a": null }] }));
    assert_eq!(event(&kernel, "user_id:ada", "page-short")["name"], "Home");
    assert_eq!(event(&kernel, "user_id:ada", "group-full")["properties"]["groupId"], "g1");
    let ada = kernel.profile("email:ada@example.com");
    assert_eq!(ada["traits"]["city"]["value"], "Oslo");
    assert_eq!(ada["traits"]["city"]["message_id"], "identify-short", "the newest, and where it came from");
    assert_eq!(kernel.profile("anonymous_id:visitor-1")["id"], ada["id"], "an alias ties both together");
}

#[test]
fn every_body_shape_of_the_clients_is_read() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let segment_node = json!({
        "batch": [{ "type": "track", "event": "Order Completed", "userId": "sn", "properties": {},
            "timestamp": "2026-11-21T09:00:00.000Z", "integrations": {}, "context": { "library": {} },
            "messageId": "segment-node", "_metadata": { "nodeVersion": "22.11.0" } }],
        "writeKey": sender.write_key, "sentAt": "2026-11-21T10:00:00.000Z",
    });
    let segment_python = json!({
        "batch": [{ "type": "page", "anonymousId": "sp", "userId": null, "category": null, "name": null, "properties": {},
            "timestamp": "2026-11-21T09:00:00.456+00:00", "context": {}, "messageId": "segment-python" }],
        "sentAt": "2026-11-21T10:00:00+00:00", "writeKey": sender.write_key,
    });
    let rudder_node = json!({
        "batch": [{ "type": "identify", "userId": "rn", "traits": { "email": "rn@example.com" }, "channel": "server",
            "context": { "traits": { "email": "rn@example.com", "city": "Bergen" } },
            "originalTimestamp": "2026-11-21T09:00:00.000Z", "sentAt": "2026-11-21T10:00:00.000Z",
            "messageId": "rudder-node", "_metadata": {} }],
        "timestamp": "2026-11-21T10:00:00.000Z", "sentAt": "2026-11-21T10:00:00.000Z",
    });
    let rudder_python = json!({
        "batch": [{ "type": "identify", "userId": null, "anonymousId": "rp", "channel": "server",
            "timestamp": "2026-11-21T09:00:00.123456+00:00", "context": { "traits": { "city": "Lund" } },
            "messageId": "rudder-python" }],
        "sentAt": "2026-11-21T10:00:00.000001+00:00",
    });
    sender.client.post("/v1/batch", &segment_node).is(200);
    sender.client.post("/v1/batch", &segment_python).is(200);
    // RudderStack's clients compress, and the Node one says that it is a form.
    let form = [("content-type", "application/x-www-form-urlencoded"), ("content-encoding", "gzip")];
    sender.client.send("POST", "/v1/batch", &form, gzip(rudder_node.to_string())).is(200);
    sender.client.send("POST", "/v1/batch", &form[1..], gzip(rudder_python.to_string())).is(200);
    for (identifier, id, time) in [
        ("user_id:sn", "segment-node", "2026-11-21T09:00:00.000Z"),
        ("anonymous_id:sp", "segment-python", "2026-11-21T09:00:00.456Z"),
        ("user_id:rn", "rudder-node", "2026-11-21T09:00:00.000Z"),
        ("anonymous_id:rp", "rudder-python", "2026-11-21T09:00:00.123Z"),
    ] {
        assert_eq!(event(&kernel, identifier, id)["time"], time);
    }
    assert_eq!(kernel.profile("email:rn@example.com")["traits"]["city"]["value"], "Bergen");
    assert_eq!(kernel.profile("anonymous_id:rp")["traits"]["city"]["value"], "Lund");
    // The browser's client: the key in the body alone, plain text.
    let mut browser = track("browser", "br");
    browser["writeKey"] = json!(sender.write_key);
    let nobody = Client::new(kernel.url(), None);
    nobody.send("POST", "/v1/t", &[("content-type", "text/plain")], browser.to_string()).is(200);
    event(&kernel, "user_id:br", "browser");
}

#[test]
fn neither_content_type_nor_compression_matters() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let types = [Some("application/json"), Some("text/plain"), Some("application/x-www-form-urlencoded"), None];
    for (number, content_type) in types.into_iter().enumerate() {
        for (how, encoding, packed) in [("plain", None, false), ("said", Some("gzip"), true), ("unsaid", None, true)] {
            let id = format!("{how}-{number}");
            let body = json!({ "batch": [track(&id, "kim")] }).to_string().into_bytes();
            let headers: Vec<(&str, &str)> = [("content-type", content_type), ("content-encoding", encoding)]
                .into_iter()
                .filter_map(|(name, value)| Some((name, value?)))
                .collect();
            let body = if packed { gzip(&body) } else { body };
            assert_eq!(sender.client.send("POST", "/v1/b", &headers, body).is(200)["accepted"], 1, "{id}");
        }
    }
    assert_eq!(kernel.events("user_id:kim").len(), 12);
}

#[test]
fn a_bad_message_never_costs_the_good_ones() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let mut batch: Vec<Value> = (0..100).map(|number| track(&format!("m{number}"), "ada")).collect();
    batch[41]["properties"] = json!({ "text": "x".repeat(33 << 10) });
    let body = sender.batch(&batch);
    assert_eq!((&body["accepted"], &body["rejected_count"]), (&json!(99), &json!(1)), "{body}");
    assert_eq!((&body["rejected"][0]["index"], &body["rejected"][0]["code"]), (&json!(41), &json!("too-large")));
    assert_eq!(kernel.events("user_id:ada").len(), 99);
    let letters = kernel.admin().get("/api/v1/dead-letters").is(200);
    let letter = &letters["items"][0];
    assert_eq!(
        (&letter["type"], &letter["code"], &letter["source"]),
        (&json!("record"), &json!("too-large"), &json!("segment"))
    );

    let mut nobody = track("nobody", "x");
    nobody["userId"] = Value::Null;
    nobody["anonymousId"] = Value::Null;
    let unknown = json!({ "type": "wave", "userId": "ada" });
    let body = sender.batch(&[nobody, unknown, json!("text"), track("good", "eve")]);
    assert_eq!(body["accepted"], 1);
    let codes: Vec<&str> =
        body["rejected"].as_array().unwrap().iter().map(|part| part["code"].as_str().unwrap()).collect();
    assert_eq!(codes, ["missing-identifier", "unknown-type", "not-an-object"]);
}

#[test]
fn hostile_json_is_refused_message_by_message() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let deep = format!("{}1{}", "[".repeat(300), "]".repeat(300));
    let keys: String = (0..3_000).map(|number| format!("\"k{number}\":1,")).collect();
    let properties = [
        ("deep", format!("{{\"x\":{deep}}}")),
        ("huge-number", "{\"x\":1e309}".to_owned()),
        ("nul", "{\"x\":\"a\\u0000b\"}".to_owned()),
        ("lone-surrogate", "{\"x\":\"\\ud800\"}".to_owned()),
        ("same-key", "{\"x\":1,\"x\":2}".to_owned()),
        ("many-keys", format!("{{{keys}\"end\":1}}")),
    ];
    let mut messages: Vec<String> = properties
        .iter()
        .map(|(name, properties)| {
            format!("{{\"type\":\"track\",\"event\":\"E\",\"userId\":\"h\",\"messageId\":\"{name}\",\"properties\":{properties}}}")
        })
        .collect();
    messages.push(track("good", "good").to_string());
    let body = sender.client.send("POST", "/v1/batch", &[], format!("{{\"batch\":[{}]}}", messages.join(",")));
    let body = body.is(200);
    assert_eq!(
        body["accepted"].as_u64().unwrap() + body["rejected_count"].as_u64().unwrap(),
        7,
        "each has a fate: {body}"
    );
    event(&kernel, "user_id:good", "good");
    // The profile's events still read as JSON, whatever was taken of these.
    if kernel.find("user_id:h").is_some() {
        kernel.events("user_id:h");
    }
    let mut bad_text = json!({ "batch": [track("after", "after"), track("CUT", "cut")] }).to_string().into_bytes();
    let place = bad_text.windows(3).position(|three| three == b"CUT").unwrap();
    bad_text[place] = 0xff;
    let body = sender.client.send("POST", "/v1/batch", &[], bad_text).is(200);
    assert_eq!((&body["accepted"], &body["flagged"]["invalid-utf8"]), (&json!(2), &json!(1)), "{body}");
}

#[test]
fn a_repeat_is_recognised_and_a_conflict_reported() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    sender.batch(&[track("once", "ada"), track("once", "ada")]);
    let mut again = track("once", "ada");
    again["sentAt"] = json!("2026-11-21T10:00:00.000Z");
    let body = sender.batch(&[again]);
    assert_eq!((&body["accepted"], &body["duplicate"]), (&json!(0), &json!(1)), "a retry: {body}");
    assert_eq!(kernel.events("user_id:ada").len(), 1);
    let mut other = track("once", "ada");
    other["event"] = json!("Another");
    let body = sender.batch(&[other, track("next", "ada")]);
    assert_eq!((&body["accepted"], &body["rejected"][0]["code"]), (&json!(1), &json!("message-id-conflict")), "{body}");
    assert_eq!(kernel.events("user_id:ada").len(), 2);
    // Seven days on the id is forgotten, as the documentation says.
    kernel.clock.advance_ms(9 * 24 * 3_600_000);
    assert_eq!(sender.batch(&[track("once", "ada")])["accepted"], 1);
}

#[test]
fn a_wrong_clock_is_corrected_by_sent_at() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    for (id, timestamp, sent_at, expected) in [
        ("behind", "2026-11-21T06:00:00Z", "2026-11-21T06:00:10Z", "2026-11-21T09:59:50.000Z"),
        ("ahead", "2029-11-21T06:00:00Z", "2029-11-21T06:00:10Z", "2026-11-21T09:59:50.000Z"),
        ("archive", "2020-01-01T00:00:00Z", "2020-01-01T00:00:10Z", "2020-01-01T00:00:00.000Z"),
    ] {
        let mut message = track(id, "ada");
        message["timestamp"] = json!(timestamp);
        let body = json!({ "batch": [message], "sentAt": sent_at });
        sender.client.post("/v1/batch", &body).is(200);
        assert_eq!(event(&kernel, "user_id:ada", id)["time"], expected);
    }
}

#[test]
fn wrong_keys_and_bad_bodies_are_told_apart() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let body = json!({ "batch": [track("m", "ada")] });
    let nobody = Client::new(kernel.url(), None);
    nobody.post("/v1/batch", &body).is_problem(401, "unauthenticated");
    Client::with_write_key(kernel.url(), "nonsense").post("/v1/batch", &body).is_problem(401, "unauthenticated");
    kernel.admin().post("/v1/batch", &body).is_problem(401, "unauthenticated");
    let mut differing = body.clone();
    differing["writeKey"] = json!("another");
    sender.client.post("/v1/batch", &differing).is_problem(401, "unauthenticated");
    sender.client.send("POST", "/v1/batch", &[], "{\"batch\":").is_problem(400, "invalid-json");
    sender.client.post("/v1/batch", &json!({})).is_problem(400, "missing-batch");
    sender.client.send("POST", "/v1/batch", &[("content-encoding", "gzip")], "no gzip").is_problem(400, "bad-gzip");
    sender.client.send("POST", "/v1/batch", &[], gzip(vec![b' '; 12 << 20])).is_problem(413, "too-large");
    assert!(kernel.find("user_id:ada").is_none(), "nothing of these was taken");
}

#[test]
fn no_spelling_of_a_path_redirects() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let words = ["batch", "track", "identify", "page", "screen", "group", "alias", "import"];
    let letters = ["b", "t", "i", "p", "s", "g", "a"];
    for word in words.into_iter().chain(letters) {
        for path in [format!("/v1/{word}"), format!("/v1/{word}/"), format!("/V1/{}", word.to_uppercase())] {
            let answer = sender.client.post(&path, &json!({ "batch": [] }));
            assert!(!(300..400).contains(&answer.status), "{path}: {}", answer.status);
            assert!(!matches!(answer.status, 404 | 405), "{path}: {}", answer.status);
            let get = sender.client.get(&path);
            assert!(get.status >= 400, "{path}: {}", get.status);
        }
    }
}

#[test]
fn the_largest_batches_of_the_clients_fit() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let padded = |id: String, bytes: usize| {
        let mut message = track(&id, "ada");
        message["properties"] = json!({ "text": "x".repeat(bytes) });
        message
    };
    let segment: Vec<Value> = (0..100).map(|number| padded(format!("s{number}"), 4_900)).collect();
    assert_eq!(sender.batch(&segment)["accepted"], 100);
    // RudderStack's Python client makes batches of about 8 MiB, compressed.
    let rudder: Vec<Value> = (0..270).map(|number| padded(format!("r{number}"), 31_000)).collect();
    let body = json!({ "batch": rudder }).to_string();
    assert!(body.len() > 8 << 20);
    let answer = sender.client.send("POST", "/v1/batch", &[("content-encoding", "gzip")], gzip(&body)).is(200);
    assert_eq!(answer["accepted"], 270);
}

/// RudderStack's client in a browser: it asks for its configuration, then whether it may send with a header of its own, then
/// sends call by call or, as the page goes, a beacon.
#[test]
fn a_browser_of_rudderstack_starts_and_sends() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let nobody = Client::new(kernel.url(), None);
    let path = format!("/sourceConfig/?p=npm&v=3.34.1&writeKey={}", sender.write_key);
    for client in [&nobody, &sender.client] {
        let config = client.get(&path).is(200);
        assert_eq!((&config["source"]["enabled"], &config["source"]["destinations"]), (&json!(true), &json!([])));
        assert!(config["source"]["config"].is_object() && config["source"]["id"].is_string(), "{config}");
    }
    let answer = nobody.get("/sourceConfig/?writeKey=nothing");
    assert_eq!(answer.header("access-control-allow-origin"), "*", "the page may read why");
    answer.is_problem(401, "unauthenticated");
    for (path, method) in
        [("/sourceConfig/?p=npm", "GET"), ("/v1/track", "POST"), ("/v1/page", "POST"), ("/beacon/v1/batch", "POST")]
    {
        let asked = [
            ("origin", "https://shop.example"),
            ("access-control-request-method", method),
            ("access-control-request-headers", "anonymousid,authorization,content-type"),
        ];
        let answer = nobody.send("OPTIONS", path, &asked, Vec::new());
        assert_eq!(answer.status, 204, "{path}");
        assert_eq!(answer.header("access-control-allow-headers"), "anonymousid,authorization,content-type", "{path}");
        assert_eq!(answer.header("access-control-allow-methods"), method, "{path}");
    }
    let beacon = json!({ "batch": [track("beacon", "kim")], "sentAt": "2026-11-21T10:00:00Z" }).to_string();
    let path = format!("/beacon/v1/batch?writeKey={}", sender.write_key);
    let taken = nobody.send("POST", &path, &[("content-type", "text/plain;charset=UTF-8")], beacon.clone()).is(200);
    assert_eq!(taken["accepted"], 1);
    event(&kernel, "user_id:kim", "beacon");
    nobody.send("POST", "/beacon/v1/batch?writeKey=nothing", &[], beacon.clone()).is_problem(401, "unauthenticated");
    sender.client.send("POST", "/beacon/v1/batch?writeKey=nothing", &[], beacon).is_problem(401, "unauthenticated");
}

#[test]
fn a_picture_of_a_pixel_is_a_call() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let nobody = Client::new(kernel.url(), None);
    let key = &sender.write_key;
    let opened =
        format!("/pixel/v1/track?writeKey={key}&userId=kim&event=Mail%20Opened&messageId=o&properties.campaign=a%26b");
    for _ in 0..2 {
        let answer = nobody.get(&opened);
        assert_eq!((answer.status, answer.header("content-type")), (200, "image/gif"));
        assert!(answer.bytes.starts_with(b"GIF89a"));
    }
    let stored = event(&kernel, "user_id:kim", "o");
    assert_eq!((&stored["name"], &stored["properties"]["campaign"]), (&json!("Mail Opened"), &json!("a&b")));
    assert!(!stored.to_string().contains(key.as_str()), "no event holds a key");
    let call =
        |kind: &str, rest: &str| nobody.get(&format!("/pixel/v1/{kind}?writeKey={key}&anonymousId=v1&{rest}")).status;
    assert_eq!((call("page", "name=Home"), call("identify", "traits.city=Oslo")), (200, 200));
    assert_eq!(kernel.profile("anonymous_id:v1")["traits"]["city"]["value"], "Oslo");
    // Segment's has the message in base64.
    let message = json!({ "writeKey": key, "userId": "eve", "event": "Mail Opened", "messageId": "d" }).to_string();
    let data = kith_tests::encode(&base64::engine::general_purpose::STANDARD.encode(message));
    assert_eq!(nobody.get(&format!("/v1/pixel/track?data={data}")).status, 200);
    event(&kernel, "user_id:eve", "d");
    nobody.get(&format!("/pixel/v1/other?writeKey={key}")).is_problem(404, "no-route");
    nobody.get("/pixel/v1/track?userId=kim&event=x").is_problem(401, "unauthenticated");
    // What is wrong with the data is told to whoever said who he is.
    nobody.get("/v1/pixel/track?data=%25").is_problem(401, "unauthenticated");
    nobody.get(&format!("/v1/pixel/track?writeKey={key}&data=%25")).is_problem(400, "bad-input");
}
