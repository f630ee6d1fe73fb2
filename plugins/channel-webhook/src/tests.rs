//! The channel through its role, on the test host.

use kith_plugin_sdk::http::{Error, Response};
use kith_plugin_sdk::{Identifier, testing};
use serde_json::{Value, json};

use super::*;

fn config() -> Value {
    json!({ "url": "https://hooks.example.com/kith", "type": "kith.message", "headers": { "x-team": "growth" } })
}

fn message(id: &str, attempt: u32) -> Message {
    Message {
        id: id.into(),
        attempt,
        recipient: vec![Identifier::new("email", "ada@example.com")],
        profile: "p_42".into(),
        payload: r#"{"zeta":1,"alpha":1.50}"#.into(),
        created_at: 1_700_000_000_123,
        attributes: Vec::new(),
    }
}

#[test]
fn a_message_goes_out_signed_and_with_its_headers() {
    let host = testing::Host::new().config(config()).secret(SECRET).http_answer(Ok(Response::new(204)));
    let (outcomes, record) = host.run(|| Webhook::send(vec![message("msg_1", 1)]));
    assert_eq!(outcomes, [Outcome::Delivered(None)]);
    let request = &record.requests[0];
    assert_eq!((request.method(), request.url()), ("POST", "https://hooks.example.com/kith"));
    let headers: Vec<_> = request.headers().iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    assert_eq!(headers, [("content-type", "application/json"), ("x-team", "growth")]);
    let signature = request.signature().unwrap();
    assert_eq!((signature.secret.as_str(), signature.message_id.as_str()), ("signing", "msg_1"));
    // The payload's bytes are the journey's: neither keys nor numbers are rewritten.
    assert_eq!(
        String::from_utf8_lossy(request.body_bytes()),
        r#"{"type":"kith.message","timestamp":"2023-11-14T22:13:20.123Z","data":{"profile":"p_42","recipient":[{"type":"email","value":"ada@example.com"}],"payload":{"zeta":1,"alpha":1.50}}}"#
    );
}

#[test]
fn every_attempt_is_the_same_request() {
    let host = testing::Host::new().config(config()).secret(SECRET).now(5).http(|_| Ok(Response::new(503)));
    let (_, record) = host.run(|| (1..=3).for_each(|attempt| drop(Webhook::send(vec![message("msg_1", attempt)]))));
    assert_eq!(record.requests.len(), 3);
    assert!(record.requests.iter().all(|request| *request == record.requests[0]));
}

#[test]
fn each_message_has_its_own_outcome_in_order() {
    let host = testing::Host::new()
        .config(config())
        .secret(SECRET)
        .now(784_111_777_000)
        .http_answer(Ok(Response::new(200)))
        .http_answer(Ok(Response::new(429).with_header("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")))
        .http_answer(Err(Error::Denied("hooks.example.com is not granted".into())))
        .http_answer(Ok(Response::new(410)));
    let messages = ["a", "b", "c", "d"].map(|id| message(id, 1)).to_vec();
    let outcomes = host.run(|| Webhook::send(messages)).0;
    assert_eq!(outcomes[0], Outcome::Delivered(None));
    assert!(matches!(outcomes[1], Outcome::Retry { after_seconds: Some(60), .. }));
    assert!(matches!(&outcomes[2], Outcome::Permanent(reason) if reason.contains("not granted")));
    assert!(matches!(&outcomes[3], Outcome::Permanent(reason) if reason.contains("gone")));
}

#[test]
fn what_cannot_be_sent_is_permanent_and_not_sent() {
    for (payload, words) in [
        (format!("{{\"text\":\"{}\"}}", "x".repeat(body::MAX_BODY_BYTES)), "must stay below 20000"),
        ("{\"open\":".to_owned(), "not JSON"),
    ] {
        let host = testing::Host::new().config(config()).secret(SECRET);
        let (outcomes, record) = host.run(|| Webhook::send(vec![Message { payload, ..message("msg_1", 1) }]));
        assert!(matches!(&outcomes[..], [Outcome::Permanent(reason)] if reason.contains(words)), "{outcomes:?}");
        assert!(record.requests.is_empty());
    }
}

#[test]
fn a_configuration_that_does_not_read_is_permanent() {
    let outcomes = testing::with_config(json!({}), || Webhook::send(vec![message("a", 1), message("b", 1)]));
    assert!(matches!(&outcomes[..], [Outcome::Permanent(_), Outcome::Permanent(reason)] if reason.contains("url")));
}
