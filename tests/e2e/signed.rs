//! Signed webhooks: providers that sign what they send to an address, in their own forms, and whoever does not know the secret.

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use kith_tests::{Answer, Client, Receiver, SIGNING_SECRET, TestKernel, wait_for, wait_until};
use ring::hmac;
use serde_json::{Value, json};

use super::addresses::key_for;
use super::datapath::stage::{arrivals, define_with, deliveries, install_webhook, message_through, send, track};

/// What every scheme but Standard Webhooks takes as it is.
const SECRET: &str = "hush, it's a secret";

/// When a test kernel's clock stands, in seconds.
const NOW: i64 = 1_795_255_200;

fn hmac_of(algorithm: hmac::Algorithm, key: &[u8], message: &[u8]) -> Vec<u8> {
    hmac::sign(&hmac::Key::new(algorithm, key), message).as_ref().to_vec()
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// The headers with which a provider sends a body at a time, written here by its own documentation.
fn signed(scheme: &str, body: &str, at: i64) -> Vec<(String, String)> {
    let header = |name: &str, value: String| (name.to_owned(), value);
    let sha256 = |message: String| hmac_of(hmac::HMAC_SHA256, SECRET.as_bytes(), message.as_bytes());
    match scheme {
        "standard-webhooks" | "svix" => {
            let prefix = if scheme == "svix" { "svix" } else { "webhook" };
            let key = STANDARD.decode(&SIGNING_SECRET["whsec_".len()..]).unwrap();
            let id = format!("msg_{}", hex(&sha256(body.to_owned())[..4]));
            let signature = hmac_of(hmac::HMAC_SHA256, &key, format!("{id}.{at}.{body}").as_bytes());
            vec![
                header(&format!("{prefix}-id"), id),
                header(&format!("{prefix}-timestamp"), at.to_string()),
                header(&format!("{prefix}-signature"), format!("v1,AAAA v1,{}", STANDARD.encode(signature))),
            ]
        }
        "github" => vec![header("X-Hub-Signature-256", format!("sha256={}", hex(&sha256(body.to_owned()))))],
        "shopify" => vec![header("X-Shopify-Hmac-Sha256", STANDARD.encode(sha256(body.to_owned())))],
        "stripe" => {
            vec![header("Stripe-Signature", format!("t={at},v1={},v0=00", hex(&sha256(format!("{at}.{body}")))))]
        }
        "slack" => vec![
            header("X-Slack-Request-Timestamp", at.to_string()),
            header("X-Slack-Signature", format!("v0={}", hex(&sha256(format!("v0:{at}:{body}"))))),
        ],
        "segment" => {
            let signature = hmac_of(hmac::HMAC_SHA1_FOR_LEGACY_USE_ONLY, SECRET.as_bytes(), body.as_bytes());
            vec![header("X-Signature", hex(&signature))]
        }
        other => panic!("no scheme {other}"),
    }
}

/// The schemes, and whether each signs the time.
const SCHEMES: [(&str, bool); 7] = [
    ("standard-webhooks", true),
    ("svix", true),
    ("github", false),
    ("shopify", false),
    ("stripe", true),
    ("slack", true),
    ("segment", false),
];

fn secret_of(scheme: &str) -> &'static str {
    if matches!(scheme, "standard-webhooks" | "svix") { SIGNING_SECRET } else { SECRET }
}

/// Install a connector whose senders sign; the address that they call.
fn address(kernel: &TestKernel, plugin: &str, scheme: &str, config: Value) -> String {
    let mut config = config;
    config["signature"] = json!({ "scheme": scheme });
    let body = json!({
        "name": scheme, "config": config,
        "secrets": { "signing": secret_of(scheme) }, "grants": { "secrets": { "signing": [] } },
    });
    kernel.install(plugin, body);
    format!("/hooks/{}", key_for(kernel, scheme).0)
}

fn call(client: &Client, address: &str, headers: &[(String, String)], body: &str) -> Answer {
    let headers: Vec<(&str, &str)> = headers.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    client.send("POST", address, &headers, body)
}

#[test]
fn who_does_not_know_the_secret_is_answered_401_and_nothing_is_kept_of_it() {
    let kernel = TestKernel::start();
    let nobody = Client::new(kernel.url(), None);
    for (scheme, signs_time) in SCHEMES {
        let address = address(&kernel, "kith/segment", scheme, json!({}));
        let who = format!("of-{scheme}");
        // No id: that of the call is what a repeat is known by.
        let body = json!({ "type": "track", "event": "Paid", "userId": who }).to_string();
        let right = signed(scheme, &body, NOW);
        assert_eq!(call(&nobody, &address, &right, &body).is(200)["accepted"], 1, "{scheme}");
        assert_eq!(call(&nobody, &address, &right, &body).is(200)["duplicate"], 1, "{scheme}: sent again");
        let other = body.replace("Paid", "Forged");
        for forged in 0..8 {
            let headers = if forged == 0 { Vec::new() } else { right.clone() };
            let body = if forged == 0 { &body } else { &other };
            call(&nobody, &address, &headers, body).is_problem(401, "invalid-signature");
        }
        for at in [NOW - 301, NOW + 301].into_iter().filter(|_| signs_time) {
            call(&nobody, &address, &signed(scheme, &body, at), &body).is_problem(401, "signature-too-old");
        }
        let stored = kernel.events(&format!("user_id:{who}"));
        assert_eq!(stored.len(), 1, "{scheme}: {stored:?}");
        let installed = kernel.admin().get(&format!("/api/v1/installations/{scheme}")).is(200);
        assert_eq!(installed["activity"]["state"], "running", "no strike: {installed}");
        // Somebody who has a write key of the source has not the secret.
        let key = address.strip_prefix("/hooks/").unwrap();
        let writer = Client::with_write_key(kernel.url(), key);
        writer.send("POST", "/v1/track", &[], body.clone()).is_problem(401, "invalid-signature");
        writer
            .send("POST", &format!("/api/v1/sources/{scheme}/records"), &[], body)
            .is_problem(401, "invalid-signature");
    }
    assert_eq!(kernel.admin().get("/api/v1/dead-letters").is(200)["items"], json!([]), "nobody who is known sent it");
}

/// A message of a signed batch that was set aside comes again by itself, and so does a body that could not be read: neither can be signed
/// any more, and whoever sent it was checked when it came.
#[test]
fn what_was_set_aside_of_a_signed_call_is_tried_again_without_its_signature() {
    let kernel = TestKernel::start();
    let nobody = Client::new(kernel.url(), None);
    let address = address(&kernel, "kith/segment", "github", json!({}));
    let batch = json!({ "batch": [{ "type": "track", "userId": "kim" }] }).to_string();
    for body in [batch.as_str(), "no JSON"] {
        call(&nobody, &address, &signed("github", body, NOW), body);
    }
    let admin = kernel.admin();
    let letters = admin.get("/api/v1/dead-letters").is(200)["items"].as_array().unwrap().clone();
    assert_eq!(letters.len(), 2, "{letters:?}");
    for letter in letters {
        let id = letter["id"].as_str().unwrap();
        let corrected = json!({ "type": "track", "userId": "kim", "event": "Paid" }).to_string();
        admin.patch(&format!("/api/v1/dead-letters/{id}"), &json!({ "raw": corrected })).is(200);
        let replayed = admin.post(&format!("/api/v1/dead-letters/{id}/replay"), &json!({}));
        assert!(matches!(replayed.status, 200 | 202), "{}", replayed.text());
    }
    assert_eq!(kernel.events("user_id:kim").len(), 2);
}

/// An order as a shop sends it, through a mapping: no connector of its own.
#[test]
fn a_shop_s_signed_order_becomes_an_event_by_a_mapping() {
    let kernel = TestKernel::start();
    let config = json!({
        "format": "json", "event": { "name": "Order Completed" }, "identifiers": { "user_id": "customer_id" },
        "properties": { "total": { "column": "total_price", "type": "number" } },
    });
    let address = address(&kernel, "kith/csv", "shopify", config);
    let body = r#"{"id":7,"customer_id":"ada","total_price":"199.00"}"#;
    let nobody = Client::new(kernel.url(), None);
    for expected in ["accepted", "duplicate"] {
        let answer = call(&nobody, &address, &signed("shopify", body, NOW), body).is(200);
        assert_eq!(answer[expected], 1, "{answer}");
    }
    call(&nobody, &address, &signed("shopify", "{}", NOW), body).is_problem(401, "invalid-signature");
    let events = kernel.events("user_id:ada");
    assert_eq!((events.len(), events[0]["properties"]["total"].as_f64()), (1, Some(199.0)), "{events:?}");
}

#[test]
fn a_secret_or_a_rule_that_could_not_work_is_refused_when_it_is_given() {
    let kernel = TestKernel::start();
    let admin = kernel.admin();
    for plugin in ["kith/webhook", "kith/segment"] {
        kernel.upload(&admin, plugin);
    }
    let mistake = |body: &Value| {
        let refused = admin.post("/api/v1/installations", body).is_some_problem();
        let shown = refused.to_string();
        let first = refused["errors"][0].as_object().cloned().unwrap_or_default();
        let path = first.get("path").and_then(Value::as_str).unwrap_or_default().to_owned();
        (refused["status"].clone(), path, shown)
    };
    for secret in ["whsec_", "whsec_not base64", "whsec_AAAA", "hush", "", " whsec_C2FVsBQIhrscChlQIMV+b5sSYspob7oD"] {
        let body = json!({
            "plugin": "kith/webhook", "config": { "url": "https://a.example/" }, "grants": { "http": ["a.example"] },
            "secrets": { "signing": secret },
        });
        let (status, path, shown) = mistake(&body);
        assert_eq!((status, path.as_str()), (json!(400), "secrets.signing"), "{shown}");
        assert!(secret.len() < 8 || !shown.contains(secret), "no answer shows it: {shown}");
    }
    let custom = json!({ "scheme": "custom", "header": "x-signature", "timestamp_header": "x-time" });
    for (signature, place) in [
        (json!({ "scheme": "github", "header": "x" }), "signature.header"),
        (custom, "signature.timestamp_header"),
        (json!({ "scheme": "mine" }), "signature"),
    ] {
        let body = json!({ "plugin": "kith/segment", "config": { "signature": signature } });
        let shown = admin.post("/api/v1/installations", &body).is_some_problem().to_string();
        assert!(shown.contains(place), "{shown}");
    }
    // One that is installed without its secret turns senders away for now, so that they come again.
    let body = json!({ "plugin": "kith/segment", "name": "early", "config": { "signature": { "scheme": "github" } } });
    admin.post("/api/v1/installations", &body).is(201);
    let address = format!("/hooks/{}", key_for(&kernel, "early").0);
    let nobody = Client::new(kernel.url(), None);
    call(&nobody, &address, &signed("github", "{}", NOW), "{}").is_problem(503, "no-signing-secret");
}

#[test]
fn a_browser_s_question_at_an_address_is_answered_and_is_no_call() {
    let kernel = TestKernel::start();
    kernel.segment();
    let (key, _) = key_for(&kernel, "segment");
    let nobody = Client::new(kernel.url(), None);
    let body = track("kim", "Asked", "q").to_string();
    let asking = [
        ("origin", "https://shop.example"),
        ("access-control-request-method", "POST"),
        ("access-control-request-headers", "x-anything"),
    ];
    for path in [format!("/hooks/{key}"), format!("/hooks/{key}/v1/track"), "/hooks/nothing".to_owned()] {
        let answer = nobody.send("OPTIONS", &path, &asking, body.clone());
        assert_eq!((answer.status, answer.header("access-control-allow-headers")), (204, "x-anything"), "{path}");
        assert_eq!(answer.header("allow"), "GET, POST, PUT, PATCH, DELETE", "{path}");
    }
    let callback = nobody.send("OPTIONS", &format!("/callbacks/{key}"), &asking, body.clone());
    assert_eq!(callback.header("allow"), "GET, POST, PUT, PATCH, DELETE");
    callback.is_problem(405, "method-not-allowed");
    nobody.send("GET", "/v1/pixel/track?data=%7B", &[], Vec::new()).is_problem(401, "unauthenticated");
    assert!(kernel.find("user_id:kim").is_none(), "nothing was stored");
    let taken = nobody.send("POST", &format!("/hooks/{key}"), &[("origin", "https://shop.example")], body);
    assert_eq!((taken.status, taken.header("access-control-allow-origin")), (200, "*"));
}

/// A receiver that answers 404 and has the message all the same: the later fact wins, and the letter that asked an admin for a decision goes.
#[test]
fn a_message_that_was_given_up_and_is_reported_as_delivered_is_delivered() {
    let (kernel, receiver) = (TestKernel::start(), Receiver::start());
    let source = kernel.segment();
    let admin = kernel.admin();
    kernel.upload(&admin, "kith/webhook");
    install_webhook(&admin, "webhook", &receiver);
    let signed_reports = json!({
        "config": { "signature": { "scheme": "standard-webhooks" } }, "secrets": { "receipts": SIGNING_SECRET },
        "grants": { "http": [receiver.host()], "secrets": { "signing": [receiver.host()], "receipts": [] } },
    });
    admin.patch("/api/v1/installations/webhook", &signed_reports).is(200);
    define_with(&admin, "first", "events('first').size() > 0", message_through("webhook"));
    receiver.will_answer(404, &[]);
    send(&source, &[track("ada", "first", "f")]);
    wait_until("it is written to", || arrivals(&receiver).contains_key("ada"));
    let dead =
        wait_for("it is given up", || deliveries(&admin).into_iter().find(|delivery| delivery["state"] == "dead"));
    let message = dead["id"].as_str().unwrap();
    let letters = || admin.get("/api/v1/dead-letters").is(200)["items"].as_array().unwrap().len();
    assert_eq!(letters(), 1);
    let address = format!("/callbacks/{}", key_for(&kernel, "webhook").0);
    let nobody = Client::new(kernel.url(), None);
    let report = json!({ "message_id": message, "event": "Message Delivered" });
    // Said twice in one call, and the call twice.
    let body = json!([report, report]).to_string();
    call(&nobody, &address, &[], &body).is_problem(401, "invalid-signature");
    call(&nobody, &address, &signed("standard-webhooks", "[]", NOW), &body).is_problem(401, "invalid-signature");
    assert_eq!(letters(), 1, "who does not sign reports nothing");
    for _ in 0..2 {
        call(&nobody, &address, &signed("standard-webhooks", &body, NOW), &body).is(200);
    }
    let all = deliveries(&admin);
    assert_eq!((all.len(), &all[0]["state"]), (1, &json!("delivered")), "{all:?}");
    assert_eq!(letters(), 0);
    let totals = admin.get("/api/v1/workspace").is(200);
    assert_eq!(totals["totals"]["deliveries"]["dead"], 0, "{totals}");
    let events = kernel.events("user_id:ada");
    let named = |name: &str| events.iter().filter(|event| event["name"] == name).count();
    assert_eq!((named("Message Delivered"), named("Message Failed")), (1, 1), "history stays: {events:?}");
}
