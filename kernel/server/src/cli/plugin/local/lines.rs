//! What a plugin is given and what it makes, as JSON: rows, messages, events, requests, faults.

use std::collections::BTreeMap;

use kith_features::Zone;
use kith_model::delivery::{Message, Outcome};
use kith_model::event::DraftEvent;
use kith_model::id::{ProfileId, SourceIdentityId};
use kith_model::identity::Identifier;
use kith_model::plugin::{Manifest, OutputSpec, PluginFault, Received, Refusal};
use kith_model::sending::{OutboundRequest, Signature, Step};
use kith_model::table::{Cell, ColumnBuilder, Table};
use kith_model::time::Timestamp;
use kith_pipeline::{event_text, refusal_of};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use crate::cli::{Failure, digits};

pub(super) fn fault(fault: &PluginFault) -> Value {
    json!({ "fault": { "code": fault.code(), "owner": fault.owner().as_str(), "message": fault.to_string() } })
}

pub(super) fn refused(refusal: &Refusal) -> Value {
    json!({ "refused": { "status": refusal.status, "code": refusal.code, "message": refusal.message } })
}

/// What a connector made of a request: events that would be taken, what would be set aside, and what its sender is told.
pub(super) fn received(manifest: &Manifest, received: &Received) -> Vec<Value> {
    let mut lines = Vec::new();
    for (index, event) in received.events.iter().enumerate() {
        let place = received.places.get(index).and_then(|place| place.place).unwrap_or(index as u64);
        lines.push(match refusal_of(event, manifest) {
            None => json!({ "event": written(event) }),
            Some(refused) => json!({ "rejected":
                { "place": place, "code": refused.code, "message": refused.message, "event": written(event) } }),
        });
    }
    lines.extend(received.rejected.iter().map(|record| {
        json!({ "rejected":
            { "place": record.place, "code": record.code, "message": record.message, "raw": record.raw } })
    }));
    lines.extend(received.notes.iter().map(|(name, note)| json!({ "note": [name, note] })));
    lines.extend(received.answer.iter().map(|answer| {
        json!({ "answer":
            { "status": answer.status, "content_type": answer.content_type, "body": body(&answer.body) } })
    }));
    lines
}

fn written(event: &DraftEvent) -> Value {
    let mut written = digits::read(&event_text(event)).unwrap_or_default();
    if !event.flags.is_empty() {
        written["flags"] = json!(event.flags);
    }
    written
}

/// A body as JSON where it is a document, else as a text.
fn body(bytes: &[u8]) -> Value {
    let text = String::from_utf8_lossy(bytes);
    let document = digits::read(&text).ok().filter(|document| document.is_object() || document.is_array());
    document.unwrap_or_else(|| json!(text))
}

/// Rows of a model's inputs, each value as the kernel puts it into its column.
pub(super) fn table(manifest: &Manifest, rows: &[Value]) -> Result<Table, Failure> {
    let zone = Zone::utc();
    let inputs = &manifest.inputs;
    let mut columns: Vec<ColumnBuilder> =
        inputs.iter().map(|input| ColumnBuilder::new(input.name.clone(), input.column_type)).collect();
    for (row, number) in rows.iter().zip(1..) {
        let Some(row) = row.as_object() else {
            return Err(Failure::Usage(format!("row {number} is no JSON object with a member for each input")));
        };
        if let Some(unknown) = row.keys().find(|name| !inputs.iter().any(|input| input.name == **name)) {
            let known: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            let message = format!("row {number}: the manifest has no input `{unknown}`; it has {}", known.join(", "));
            return Err(Failure::Usage(message));
        }
        for (input, column) in inputs.iter().zip(&mut columns) {
            let value = row.get(&input.name).map_or(kith_features::Value::Null, kith_features::Value::from_json);
            let failed =
                |problem: String| Failure::Failed(format!("row {number}: the input `{}`: {problem}", input.name));
            let cell = value.to_cell(input.column_type, &zone).map_err(|misfit| failed(misfit.to_string()))?;
            column.push(cell).map_err(|wrong| failed(wrong.to_string()))?;
        }
    }
    Ok(Table { rows: rows.len(), columns: columns.into_iter().map(ColumnBuilder::finish).collect() })
}

/// The tags or scores of each row.
pub(super) fn outputs(manifest: &Manifest, table: &Table) -> Vec<Value> {
    let value =
        |output: &OutputSpec, row| table.column(&output.name).map_or(Value::Null, |column| cell(column.cell(row)));
    let row = |row| {
        let values = manifest.outputs.iter().map(|output| (output.name.clone(), value(output, row)));
        Value::Object(values.collect::<Map<String, Value>>())
    };
    (0..table.rows).map(row).collect()
}

fn cell(cell: Cell) -> Value {
    match cell {
        Cell::Null => Value::Null,
        Cell::Boolean(value) => json!(value),
        Cell::Int64(value) => json!(value),
        Cell::Float64(value) => json!(value),
        Cell::Timestamp(value) => json!(Timestamp(value).to_string()),
        Cell::Text(value) => json!(value),
        Cell::Int64List(values) => json!(values),
        Cell::Float64List(values) => json!(values),
        Cell::TimestampList(values) => values.into_iter().map(|value| json!(Timestamp(value).to_string())).collect(),
        Cell::TextList(values) => json!(values),
    }
}

/// A message as somebody writes it who tries a channel.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct WrittenMessage {
    #[serde(default = "first_id")]
    id: String,
    #[serde(default = "first_attempt")]
    attempt: u32,
    /// Type → value.
    #[serde(default)]
    recipient: BTreeMap<String, String>,
    #[serde(default)]
    payload: Map<String, Value>,
    #[serde(default)]
    inputs: Map<String, Value>,
}

fn first_id() -> String {
    "message-1".to_owned()
}

fn first_attempt() -> u32 {
    1
}

pub(super) fn messages(written: &[Value], now: Timestamp) -> Result<Vec<Message>, Failure> {
    let read = |(value, number): (&Value, u32)| {
        let written: WrittenMessage = serde_json::from_value(value.clone())
            .map_err(|error| Failure::Usage(format!("message {number} is none: {error}")))?;
        Ok(Message {
            id: written.id,
            attempt: written.attempt,
            recipient: written.recipient.into_iter().map(|(kind, value)| Identifier::new(kind, value)).collect(),
            profile: ProfileId(SourceIdentityId([0; 16])),
            payload: digits::line(&Value::Object(written.payload)),
            inputs: written.inputs.into_iter().map(|(name, value)| (name, digits::line(&value))).collect(),
            created_at: now,
        })
    };
    written.iter().zip(1..).map(read).collect()
}

/// What a channel wants for a message: a request, which stays here, or the end of the attempt.
pub(super) fn step(step: &Step) -> Value {
    match step {
        Step::Send(request) => json!({ "request": outbound(request) }),
        Step::Done(outcome) => json!({ "outcome": ended(outcome) }),
    }
}

fn outbound(request: &OutboundRequest) -> Value {
    let mut shown = json!({ "method": request.method, "url": request.url, "headers": request.headers,
        "body": body(&request.body) });
    if let Some(timeout_ms) = request.timeout_ms {
        shown["timeout_ms"] = json!(timeout_ms);
    }
    if let Some(Signature::StandardWebhooks { secret, message_id }) = &request.sign {
        shown["sign"] = json!({ "standard-webhooks": { "secret": secret, "message_id": message_id } });
    }
    shown
}

fn ended(outcome: &Outcome) -> Value {
    match outcome {
        Outcome::Accepted { provider_id } => json!({ "accepted": provider_id }),
        Outcome::Delivered { provider_id } => json!({ "delivered": provider_id }),
        Outcome::Retry { after_ms, reason } => json!({ "retry": { "after_ms": after_ms, "reason": reason } }),
        Outcome::Permanent { reason } => json!({ "permanent": reason }),
        Outcome::Stop { reason } => json!({ "stop": reason }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn manifest(capabilities: &str) -> Manifest {
        let text = format!(
            "[plugin]\nid = \"acme/try\"\nversion = \"0.1.0\"\nkind = \"connector\"\nabi = \"0.2\"\nkernel = \">=0.1\"\n\
             title = \"Try\"\ndescription = \"To try\"\nlicense = \"Apache-2.0\"\n{capabilities}"
        );
        kith_host::parse_manifest(&text).unwrap()
    }

    /// What the kernel would set aside is told of as it would tell it, and not passed for an event.
    #[test]
    fn events_that_would_be_set_aside_are_not_events() {
        let event = |name: &str, identifiers: Vec<Identifier>| DraftEvent {
            name: name.to_owned(),
            identifiers,
            properties: r#"{"total":12345678901234567890.5}"#.to_owned(),
            ..DraftEvent::default()
        };
        let ada = || vec![Identifier::new("user_id", "ada")];
        let events = vec![event("A", ada()), event("B", ada()), event("A", Vec::new())];
        let given = Received {
            events,
            places: Vec::new(),
            rejected: Vec::new(),
            consumed: 0,
            resume: None,
            answer: None,
            notes: Vec::new(),
        };
        let lines = received(&manifest("[capabilities]\nemits = [\"A\"]"), &given);
        assert_eq!(lines[0]["event"]["name"], "A");
        assert!(digits::line(&lines[0]).contains("12345678901234567890.5"), "digit for digit");
        let codes: Vec<_> =
            lines[1..].iter().map(|line| (&line["rejected"]["place"], &line["rejected"]["code"])).collect();
        assert_eq!(codes, [(&json!(1), &json!("undeclared-event")), (&json!(2), &json!("missing-identifier"))]);
        assert_eq!(
            received(&manifest(""), &given)[1]["event"]["name"],
            "B",
            "a connector that names none may emit any"
        );
    }

    #[test]
    fn a_message_has_what_was_written_and_no_more() {
        let now = Timestamp(5);
        let written = json!({ "recipient": { "email": "ada@example.com" }, "payload": { "text": "hi" } });
        let [message]: [Message; 1] = messages(&[written], now).unwrap().try_into().unwrap();
        assert_eq!((message.id.as_str(), message.attempt, message.created_at), ("message-1", 1, now));
        assert_eq!(message.payload, r#"{"text":"hi"}"#);
        let refused = messages(&[json!({}), json!({ "to": "ada" })], now).unwrap_err();
        assert!(refused.to_string().starts_with("message 2 is none: unknown field `to`"), "{refused}");
    }
}
