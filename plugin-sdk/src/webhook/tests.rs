//! Every scheme over every way in which a request can be wrong. The test host computes no signatures: a signature here is what was
//! signed, written out, so that each test sees which bytes the host would be asked about.

use super::*;
use crate::testing::Host;

/// When the requests here are received.
const NOW: Timestamp = 1_767_225_600_000;
const SECONDS: &str = "1767225600";

fn signature(json: &str) -> Signature {
    serde_json::from_str(json).unwrap()
}

/// A host whose HMAC of a message is `=` and the message itself.
fn host() -> Host {
    Host::new().secret("signing").verify_hmac(|key, message, signature| {
        key.secret == "signing" && signature == format!("={}", String::from_utf8_lossy(message))
    })
}

fn verified(signature: &Signature, headers: &[(&str, &str)], body: &str) -> Result<Verified, Rejection> {
    let mut request = Request::post("/", body);
    request.received_at = NOW;
    request.headers = headers.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())).collect();
    host().run(|| signature.verify("signing", &Call::from(&request))).0
}

/// A scheme, its headers over the body `b`, and the id that events get.
type Known = (&'static str, Vec<(&'static str, String)>, &'static str);

fn known() -> Vec<Known> {
    let at = |text: &str| text.replace('T', SECONDS);
    vec![
        (
            r#"{"scheme":"standard-webhooks"}"#,
            vec![
                ("webhook-signature", at("v1a,x =msg_1.T.b")),
                ("webhook-timestamp", at("T")),
                ("webhook-id", at("msg_1")),
            ],
            "msg_1",
        ),
        (
            r#"{"scheme":"svix"}"#,
            vec![("svix-signature", at("=msg_2.T.b")), ("svix-timestamp", at("T")), ("svix-id", at("msg_2"))],
            "msg_2",
        ),
        (r#"{"scheme":"github"}"#, vec![("x-hub-signature-256", at("=b"))], "=b"),
        (r#"{"scheme":"shopify"}"#, vec![("x-shopify-hmac-sha256", at("=b"))], "=b"),
        (r#"{"scheme":"stripe"}"#, vec![("stripe-signature", at("t=T,v1=old,v0=x, v1==T.b"))], "=1767225600.b"),
        (
            r#"{"scheme":"slack"}"#,
            vec![("x-slack-signature", at("=v0:T:b")), ("x-slack-request-timestamp", at("T"))],
            "=v0:1767225600:b",
        ),
        (r#"{"scheme":"segment"}"#, vec![("x-signature", at("=b"))], "=b"),
        (
            r#"{"scheme":"custom","header":"X-Zendesk-Webhook-Signature","message":"{timestamp}{body}","timestamp_header":"X-Zendesk-Webhook-Signature-Timestamp"}"#,
            vec![
                ("x-zendesk-webhook-signature", "=2026-01-01T00:00:00Zb".to_owned()),
                ("x-zendesk-webhook-signature-timestamp", "2026-01-01T00:00:00Z".to_owned()),
            ],
            "=2026-01-01T00:00:00Zb",
        ),
        (
            r#"{"scheme":"custom","header":"paddle-signature","message":"{timestamp}:{body}","timestamp_field":"ts","signature_field":"h1"}"#,
            vec![("paddle-signature", at("ts=T;h1==T:b"))],
            "=1767225600:b",
        ),
    ]
}

fn lines<'l>(headers: &'l [(&'static str, String)]) -> Vec<(&'l str, &'l str)> {
    headers.iter().map(|(name, value)| (*name, value.as_str())).collect()
}

#[test]
fn every_scheme_is_verified_and_whatever_is_changed_is_not() {
    for (config, headers, id) in known() {
        let signature = signature(config);
        assert_eq!(signature.problems("signature"), [], "{config}");
        let lines = lines(&headers);
        // Where no id is signed, what was signed is one.
        let id =
            id.strip_prefix('=').map_or(id.to_owned(), |signed| format!("signed-{:032x}", fnv1a(signed.as_bytes())));
        assert_eq!(verified(&signature, &lines, "b"), Ok(Verified { id }), "{config}");
        let refused = verified(&signature, &lines, "c").unwrap_err();
        assert_eq!((refused.status, refused.code.as_str()), (401, "invalid-signature"), "{config}: another body");
        for left_out in 0..lines.len() {
            let mut fewer = lines.clone();
            let (name, _) = fewer.remove(left_out);
            let refused = verified(&signature, &fewer, "b").unwrap_err();
            assert!(refused.status == 401 && refused.message.to_lowercase().contains(name), "{config}: {refused}");
            let mut changed = lines.clone();
            let other = format!("{}1", changed[left_out].1);
            changed[left_out].1 = &other;
            assert_eq!(
                verified(&signature, &changed, "b").map_err(|refused| refused.status),
                Err(401),
                "{config}: {name}"
            );
        }
    }
}

#[test]
fn a_signed_time_has_to_be_near_the_receipt() {
    for (tolerance, text, holds) in [
        ("", "1767225600", true),
        ("", "1767225300", true),
        ("", "1767225900", true),
        ("", "1767225299", false),
        ("", "1767225901", false),
        ("", "0", false),
        ("", "-1767225600", false),
        ("", "99999999999999999999", false),
        ("", "soon", false),
        (r#","tolerance_seconds":1"#, "1767225599", true),
        (r#","tolerance_seconds":1"#, "1767225598", false),
        (r#","tolerance_seconds":86400"#, "1767139200", true),
    ] {
        let signature = signature(&format!(r#"{{"scheme":"stripe"{tolerance}}}"#));
        let line = format!("t={text},v1=={text}.b");
        let found = verified(&signature, &[("stripe-signature", line.as_str())], "b");
        assert_eq!(found.is_ok(), holds, "{tolerance} {text}: {found:?}");
    }
}

#[test]
fn a_repeat_of_a_signed_call_names_its_events_alike_and_another_call_otherwise() {
    let named = |id: &str| {
        let mut events = vec![Event::track("a"), Event::track("b").with_message_id("own"), Event::track("c")];
        Verified { id: id.to_owned() }.name(&mut events);
        events.into_iter().map(|event| event.message_id.unwrap()).collect::<Vec<_>>()
    };
    assert_eq!(named("msg_1"), ["msg_1-0", "own", "msg_1-2"]);
    assert_ne!(named("msg_1"), named("msg_2"));
}

/// A captured call came in again for each spelling of its signature.
#[test]
fn a_signature_that_is_spelt_otherwise_is_that_of_the_same_call() {
    // Hosts take hexadecimal in either case, base64 and several beginnings.
    let host = || {
        Host::new().secret("signing").verify_hmac(|_, message, signature| {
            signature.to_lowercase().ends_with(&format!("={}", String::from_utf8_lossy(message)))
        })
    };
    let github = signature(r#"{"scheme":"github"}"#);
    let of = |value: &str, body: &str| {
        let mut request = Request::post("/", body);
        request.received_at = NOW;
        request.headers = vec![("x-hub-signature-256".to_owned(), value.to_owned())];
        host().run(|| github.verify("signing", &Call::from(&request))).0.unwrap()
    };
    for spelt in ["sha256=b", "SHA256=B", "v0=b", "other =b"] {
        assert_eq!(of(spelt, "b"), of("=b", "b"), "{spelt}");
    }
    assert_ne!(of("=b", "b"), of("=c", "c"));
    assert_eq!(fnv1a(b""), 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d);
    assert_eq!(fnv1a(b"a"), 0xd228_cb69_6f1a_8caf_7891_2b70_4e4a_8964, "the draft's own vector");
}

#[test]
fn what_a_sender_writes_is_not_filled_in_again() {
    assert_eq!(message("{id}.{timestamp}.{body}", "{body}", "{timestamp}", b"{id}"), b"{timestamp}.{body}.{id}");
    assert_eq!(message("ä{bod}{body}", "", "", b"\xff"), b"\xc3\xa4{bod}\xff");
}

#[test]
fn without_its_secret_a_source_is_not_there_and_takes_nothing() {
    let signature = signature(r#"{"scheme":"github"}"#);
    let request = Request::post("/", "b");
    let (refused, _) = Host::new().run(|| signature.verify("signing", &Call::from(&request)));
    let refused = refused.unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (503, "no-signing-secret"));
}

#[test]
fn few_signatures_of_a_request_are_tried_and_of_a_signed_header_there_is_one() {
    let github = signature(r#"{"scheme":"github"}"#);
    let line = |wrong: usize| format!("{} =b", "x ".repeat(wrong));
    assert!(verified(&github, &[("x-hub-signature-256", &line(MAX_SIGNATURES - 1))], "b").is_ok());
    assert!(verified(&github, &[("x-hub-signature-256", &line(MAX_SIGNATURES))], "b").is_err());
    assert!(verified(&github, &[("x-hub-signature-256", "x"), ("x-hub-signature-256", "=b")], "b").is_ok());
    let slack = signature(r#"{"scheme":"slack"}"#);
    let right = format!("=v0:{SECONDS}:b");
    let twice = [
        ("x-slack-signature", right.as_str()),
        ("x-slack-request-timestamp", SECONDS),
        ("x-slack-request-timestamp", "1"),
    ];
    assert!(verified(&slack, &twice, "b").unwrap_err().message.contains("twice"));
}

#[test]
fn a_configuration_that_would_prove_nothing_is_refused() {
    for (config, key) in [
        (r#"{"scheme":"github","header":"x-other"}"#, "signature.header"),
        (r#"{"scheme":"custom"}"#, "signature.header"),
        (r#"{"scheme":"custom","header":"x","message":"{timestamp}","timestamp_header":"y"}"#, "signature.message"),
        (r#"{"scheme":"custom","header":"x","message":"{body}{body}"}"#, "signature.message"),
        (r#"{"scheme":"custom","header":"x","timestamp_header":"y"}"#, "signature.timestamp_header"),
        (r#"{"scheme":"custom","header":"x","message":"{timestamp}{body}"}"#, "signature.timestamp_header"),
        (r#"{"scheme":"custom","header":"x","id_header":"y"}"#, "signature.id_header"),
        (
            r#"{"scheme":"custom","header":"x","message":"{timestamp}{body}","timestamp_field":"t"}"#,
            "signature.signature_field",
        ),
        (
            r#"{"scheme":"custom","header":"x","message":"{timestamp}{body}","timestamp_field":"t","timestamp_header":"y","signature_field":"s"}"#,
            "signature.timestamp_field",
        ),
    ] {
        let problems = signature(config).problems("signature");
        assert!(problems.iter().any(|problem| problem.key == key), "{config}: {problems:?}");
    }
    assert!(serde_json::from_str::<Signature>(r#"{"scheme":"github","hedaer":"x"}"#).is_err());
    assert!(serde_json::from_str::<Signature>(r#"{"scheme":"mine"}"#).is_err());
}
