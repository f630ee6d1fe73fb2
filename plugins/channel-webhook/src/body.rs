//! The body of a webhook: type, timestamp and data, as Standard Webhooks recommends. Signing and sending are the host's.

use jiff::Timestamp;
use kith_plugin_sdk::{Failure, Identifier, Message};
use serde::Serialize;
use serde_json::value::RawValue;

/// Standard Webhooks asks for payloads below 20 KB, so that receivers can bound what they read before they have verified it.
pub(crate) const MAX_BODY_BYTES: usize = 20_000;

#[derive(Serialize)]
struct Body<'a> {
    #[serde(rename = "type")]
    message_type: &'a str,
    timestamp: String,
    data: Data<'a>,
}

#[derive(Serialize)]
struct Data<'a> {
    profile: &'a str,
    recipient: Vec<Recipient<'a>>,
    /// As the journey wrote it: numbers and the order of keys included.
    payload: &'a RawValue,
}

#[derive(Serialize)]
struct Recipient<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    value: &'a str,
}

/// The bytes of a message's body. Depends on the message alone, not on the attempt.
pub(crate) fn write(message_type: &str, message: &Message) -> Result<Vec<u8>, Failure> {
    let payload: &RawValue = serde_json::from_str(if message.payload.is_empty() { "{}" } else { &message.payload })
        .map_err(|error| Failure::bad_input(format!("the message's payload is not JSON: {error}")))?;
    let timestamp = Timestamp::from_millisecond(message.created_at)
        .map_err(|error| Failure::bad_input(format!("the message's time is out of range: {error}")))?;
    let recipient = message.recipient.iter().map(|Identifier { kind, value }| Recipient { kind, value }).collect();
    let body = Body {
        message_type,
        timestamp: timestamp.to_string(),
        data: Data { profile: &message.profile, recipient, payload },
    };
    let bytes = serde_json::to_vec(&body)
        .map_err(|error| Failure::bad_input(format!("the message does not write as JSON: {error}")))?;
    if bytes.len() < MAX_BODY_BYTES {
        Ok(bytes)
    } else {
        Err(Failure::bad_input(format!(
            "the webhook's body has {} bytes and must stay below {MAX_BODY_BYTES}; send a link in the place of the content",
            bytes.len()
        )))
    }
}
