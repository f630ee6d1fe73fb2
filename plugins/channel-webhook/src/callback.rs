//! Receipts: what the receiver reports about earlier messages, as events.
//!
//! The form is ours and documented in the README: one object or a list of them. Who may call is the kernel's to check, and so is whether
//! a message of that id was ever sent.

use jiff::Timestamp;
use kith_plugin_sdk::{Callback, Event, Receipt, Rejection};
use serde::Deserialize;
use serde_json::value::RawValue;

/// The facts that can be reported; the same as `emits` in `plugin.toml`.
const EVENTS: [&str; 6] = [
    "Message Delivered",
    "Message Opened",
    "Message Clicked",
    "Message Bounced",
    "Message Unsubscribed",
    "Message Complained",
];

/// Receipts of one call. A list this long is a megabyte of JSON already; a receiver with more sends it in parts.
const MAX_RECEIPTS: usize = 1_000;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Reported<'a> {
    message_id: String,
    event: String,
    /// RFC 3339; absent means now.
    time: Option<String>,
    /// The receiver's key against doubles; absent means that each fact is reported once for a message.
    id: Option<String>,
    #[serde(borrow)]
    properties: Option<&'a RawValue>,
}

/// The receipts of a call. All or nothing: where one is wrong, the receiver learns which, and repeats the call.
pub(crate) fn read(callback: &Callback) -> Result<Vec<Receipt>, Rejection> {
    if callback.method != "POST" {
        return Err(Rejection::new(
            405,
            "method-not-allowed",
            format!("receipts are sent with POST, not {}", callback.method),
        ));
    }
    let invalid =
        |error: serde_json::Error| Rejection::new(400, "invalid-json", format!("the body does not read: {error}"));
    let is_list = callback.body.iter().find(|byte| !byte.is_ascii_whitespace()) == Some(&b'[');
    let reported: Vec<Reported<'_>> = if is_list {
        serde_json::from_slice(&callback.body).map_err(invalid)?
    } else {
        vec![serde_json::from_slice(&callback.body).map_err(invalid)?]
    };
    if reported.len() > MAX_RECEIPTS {
        let message = format!(
            "the body has {} receipts, at most {MAX_RECEIPTS} are taken at once; send them in parts",
            reported.len()
        );
        return Err(Rejection::new(413, "too-many-receipts", message));
    }
    reported.into_iter().enumerate().map(|(index, reported)| receipt(index, reported)).collect()
}

/// One receipt; `index` is its place in the call.
fn receipt(index: usize, reported: Reported<'_>) -> Result<Receipt, Rejection> {
    let invalid = |reason: String| Rejection::new(400, "invalid-receipt", format!("receipt {index}: {reason}"));
    if reported.message_id.is_empty() {
        return Err(invalid("`message_id` is empty; write the `webhook-id` of the message".into()));
    }
    if !EVENTS.contains(&reported.event.as_str()) {
        let known = EVENTS.join(", ");
        return Err(invalid(format!("`event` is `{:.100}`; write one of {known}", reported.event)));
    }
    let time = reported.time.as_ref().map(|time| {
        let read = time.parse::<Timestamp>();
        read.map(Timestamp::as_millisecond)
            .map_err(|_| invalid(format!("`time` is `{time:.100}`; write RFC 3339, e.g. 2026-01-31T12:00:00Z")))
    });
    let properties = reported.properties.map_or("{}", RawValue::get);
    if !properties.starts_with('{') {
        return Err(invalid("`properties` is not an object".into()));
    }
    let id = reported.id.unwrap_or_else(|| format!("{}:{}", reported.message_id, reported.event));
    let event = Event::track(reported.event).with_message_id(id).with_properties(properties);
    // Without a time it is when it came: written down here, that would make another report of the same one that comes again.
    let event = Event { time: time.transpose()?, ..event };
    Ok(Receipt { message_id: reported.message_id, event })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn call(body: &str) -> Result<Vec<Receipt>, Rejection> {
        read(&Callback {
            method: "POST".into(),
            path: "/".into(),
            query: String::new(),
            headers: Vec::new(),
            body: body.as_bytes().to_vec(),
            received_at: 1_700_000_000_000,
            attributes: Vec::new(),
        })
    }

    #[test]
    fn one_receipt() {
        let receipts = call(
            r#"{"message_id":"msg_1","event":"Message Opened","time":"2023-11-14T22:13:20.5Z","properties":{"client":"mail"}}"#,
        );
        let expected = Event::track("Message Opened")
            .with_time(1_700_000_000_500)
            .with_message_id("msg_1:Message Opened")
            .with_properties(r#"{"client":"mail"}"#);
        assert_eq!(receipts, Ok(vec![Receipt { message_id: "msg_1".into(), event: expected }]));
    }

    #[test]
    fn a_list_with_the_least() {
        let receipts = call(
            r#" [{"message_id":"a","event":"Message Clicked","id":"click-1"},{"message_id":"a","event":"Message Clicked","id":"click-2"}]"#,
        )
        .unwrap();
        let ids: Vec<_> = receipts.iter().map(|receipt| receipt.event.message_id.as_deref().unwrap()).collect();
        assert_eq!(ids, ["click-1", "click-2"]);
        assert_eq!(receipts[0].event.time, None);
        assert_eq!(receipts[0].event.properties, "{}");
        assert_eq!(call("[]"), Ok(vec![]));
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (body, code, words) in [
            ("", "invalid-json", "EOF"),
            ("{", "invalid-json", "line 1"),
            (r#"{"message_id":"a"}"#, "invalid-json", "event"),
            (r#"{"message_id":"a","event":"Message Opened","tiem":"x"}"#, "invalid-json", "tiem"),
            (r#"{"message_id":"","event":"Message Opened"}"#, "invalid-receipt", "webhook-id"),
            (
                r#"[{"message_id":"a","event":"Message Opened"},{"message_id":"a","event":"Order Completed"}]"#,
                "invalid-receipt",
                "receipt 1: `event`",
            ),
            (r#"{"message_id":"a","event":"Message Opened","time":"yesterday"}"#, "invalid-receipt", "RFC 3339"),
            (r#"{"message_id":"a","event":"Message Opened","properties":[1]}"#, "invalid-receipt", "not an object"),
        ] {
            let rejection = call(body).unwrap_err();
            assert_eq!((rejection.status, rejection.code.as_str()), (400, code), "{body}");
            assert!(rejection.message.contains(words), "{body}: {rejection}");
        }
        let many = format!("[{}]", vec![r#"{"message_id":"a","event":"Message Opened"}"#; MAX_RECEIPTS + 1].join(","));
        assert_eq!(call(&many).unwrap_err().status, 413);
    }

    #[test]
    fn only_post() {
        let callback = Callback {
            method: "GET".into(),
            path: "/".into(),
            query: String::new(),
            headers: Vec::new(),
            body: Vec::new(),
            received_at: 0,
            attributes: Vec::new(),
        };
        assert_eq!(read(&callback).unwrap_err().status, 405);
    }

    #[test]
    fn the_manifest_may_emit_every_event() {
        let manifest = include_str!("../plugin.toml");
        for event in EVENTS {
            assert!(manifest.contains(&format!("\"{event}\"")), "{event} is not in plugin.toml");
        }
    }
}
