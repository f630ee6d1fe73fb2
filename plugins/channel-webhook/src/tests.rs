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
        inputs: Vec::new(),
        created_at: 1_700_000_000_123,
        attributes: Vec::new(),
    }
}

/// The first steps of messages with the configuration above.
fn requests(messages: Vec<Message>) -> Vec<Step> {
    testing::Host::new().config(config()).secret(SECRET).run(|| Webhook::requests(messages)).0
}

#[test]
fn a_message_goes_out_signed_and_with_its_headers() {
    let steps = requests(vec![message("msg_1", 1)]);
    let request = steps[0].request().unwrap();
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
    let steps = requests((1..=3).map(|attempt| message("msg_1", attempt)).collect());
    assert_eq!(steps.len(), 3);
    assert!(steps.iter().all(|step| step.request().is_some() && *step == steps[0]));
}

#[test]
fn each_answer_has_its_own_outcome_in_order() {
    let results = [
        Ok(Response::new(200)),
        Ok(Response::new(429).with_header("retry-after", "Sun, 06 Nov 1994 08:50:37 GMT")),
        Err(Error::Denied("hooks.example.com is not granted".into())),
        Ok(Response::new(410)),
        Err(Error::Timeout("no answer within 15000 ms".into())),
    ];
    let answers = results.map(|result| SentAnswer::new(message("msg_1", 1), result)).to_vec();
    let host = testing::Host::new().config(config()).now(784_111_777_000);
    let steps = host.run(|| Webhook::outcomes(answers)).0;
    let outcomes: Vec<&Outcome> = steps.iter().map(|step| step.outcome().unwrap()).collect();
    assert_eq!(outcomes[0], &Outcome::Delivered(None));
    assert!(matches!(outcomes[1], Outcome::Retry { after_seconds: Some(60), .. }));
    assert!(matches!(outcomes[2], Outcome::Permanent(reason) if reason.contains("not granted")));
    assert!(matches!(outcomes[3], Outcome::Stop(reason) if reason.contains("gone")));
    assert!(matches!(outcomes[4], Outcome::Retry { after_seconds: None, .. }));
}

#[test]
fn a_status_decides_whatever_became_of_the_body() {
    let cut = SentAnswer { truncated: true, ..SentAnswer::new(message("a", 1), Ok(Response::new(200).with_body("o"))) };
    let steps = testing::with_config(config(), || Webhook::outcomes(vec![cut]));
    assert_eq!(steps, [Step::Done(Outcome::Delivered(None))]);
}

#[test]
fn what_cannot_be_sent_is_permanent_and_not_sent() {
    for (payload, words) in [
        (format!("{{\"text\":\"{}\"}}", "x".repeat(body::MAX_BODY_BYTES)), "must stay below 20000"),
        ("{\"open\":".to_owned(), "not JSON"),
    ] {
        let steps = requests(vec![Message { payload, ..message("msg_1", 1) }, message("msg_2", 1)]);
        assert!(matches!(steps[0].outcome(), Some(Outcome::Permanent(reason)) if reason.contains(words)), "{steps:?}");
        assert!(steps[1].request().is_some(), "the next message goes out all the same");
    }
}

#[test]
fn a_configuration_that_does_not_read_is_permanent() {
    let steps = testing::with_config(json!({}), || Webhook::requests(vec![message("a", 1), message("b", 1)]));
    assert_eq!(steps.len(), 2);
    for step in steps {
        assert!(matches!(step.outcome(), Some(Outcome::Permanent(reason)) if reason.contains("url")), "{step:?}");
    }
}

#[test]
fn an_address_to_which_nothing_could_be_posted_is_refused_when_it_is_configured() {
    let check = |url: &str| {
        let config = serde_json::json!({ "url": url, "type": "t", "headers": {} }).to_string();
        Webhook::validate(&config).map_err(|problems| problems[0].key.clone())
    };
    for fine in [
        "https://a.example",
        "https://a.example:8443/x?y={}",
        "http://[::1]:80/",
        "http://[::1]/",
        "http://127.0.0.1:1",
    ] {
        assert_eq!(check(fine), Ok(()), "{fine}");
    }
    for bad in [
        "https:///x",
        "https://?x",
        "https://a.example:0/",
        "https://a.example:70000",
        "https://a.example:x/",
        "https://:80/",
        "https://u:p@a.example/",
        "https://a.example/{{ user_id }}",
    ] {
        assert_eq!(check(bad), Err("url".to_owned()), "{bad}");
    }
}

#[test]
fn reports_are_signed_where_the_configuration_says_so() {
    let mut config = config();
    config["signature"] = json!({ "scheme": "standard-webhooks" });
    let receive = |signature: &str| {
        let header = |name: &str, value: &str| (name.to_owned(), value.to_owned());
        let callback = Callback {
            method: "POST".into(),
            path: "/".into(),
            query: String::new(),
            headers: vec![
                header("webhook-id", "msg_9"),
                header("webhook-timestamp", "1700000000"),
                header("webhook-signature", signature),
            ],
            body: br#"{"message_id":"msg_1","event":"Message Opened"}"#.to_vec(),
            received_at: 1_700_000_000_000,
            attributes: Vec::new(),
        };
        let host = testing::Host::new().config(&config).secret(RECEIPTS_SECRET);
        host.verify_hmac(|key, _, signature| key.secret == "receipts" && signature == "v1,right")
            .run(|| Webhook::receive(callback))
            .0
    };
    assert_eq!(receive("v1,right").map(|receipts| receipts.len()), Ok(1));
    assert_eq!(receive("v1,wrong").unwrap_err().status, 401);
    let without =
        json!({ "url": "https://a.example/", "type": "x", "headers": {}, "signature": { "scheme": "custom" } });
    assert_eq!(Webhook::validate(&without.to_string()).unwrap_err()[0].key, "signature.header");
}
