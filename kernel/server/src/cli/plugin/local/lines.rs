//! What a plugin is given and what it makes, as JSON: rows, messages, events, requests, faults.

use std::collections::BTreeMap;

use kith_features::{Value as RowValue, Zone};
use kith_model::delivery::{Message, Outcome};
use kith_model::event::DraftEvent;
use kith_model::id::{ProfileId, SourceIdentityId};
use kith_model::identity::Identifier;
use kith_model::objects::Objects;
use kith_model::plugin::{EmittedEvent, InputSpec, Manifest, PluginFault, Received, Refusal};
use kith_model::sending::{Mailbox, OutboundMail, OutboundRequest, Signature, Step};
use kith_model::table::{Cell, ColumnType};
use kith_model::time::Timestamp;
use kith_pipeline::{AnswerToRow, EventOutcome, GivenRow, event_text, outcomes_of};
use serde::Deserialize;
use serde_json::{Map, Value, json};

use super::answers::{TriedMessage, WrittenAnswer};
use crate::cli::{Failure, digits};

pub(super) fn fault(fault: &PluginFault) -> Value {
    json!({ "fault": { "code": fault.code(), "owner": fault.owner().as_str(), "message": fault.to_string() } })
}

pub(super) fn refused(refusal: &Refusal) -> Value {
    json!({ "refused": { "status": refusal.status, "code": refusal.code, "message": refusal.message } })
}

/// What a connector made of a request: events that would be taken, what would be set aside in the order in which a server tells of
/// it, and what its sender is told.
pub(super) fn received(manifest: &Manifest, received: &Received, received_at: Timestamp) -> Vec<Value> {
    let (mut taken, mut set_aside) = (Vec::new(), Vec::new());
    for ((index, event), outcome) in
        received.events.iter().enumerate().zip(outcomes_of(received, manifest, received_at))
    {
        let place = received.places.get(index).and_then(|place| place.place).unwrap_or(index as u64);
        match outcome {
            EventOutcome::Taken(event) => taken.push(json!({ "event": written(&event) })),
            EventOutcome::Repeat { message_id } => {
                taken.push(json!({ "duplicate": { "place": place, "message_id": message_id } }));
            }
            EventOutcome::Rejected(refused) => set_aside.push(json!({ "rejected":
                { "place": place, "code": refused.code, "message": refused.message, "event": written(event) } })),
        }
    }
    let mut lines = taken;
    lines.extend(received.rejected.iter().map(|record| {
        json!({ "rejected":
            { "place": record.place, "code": record.code, "message": record.message, "raw": record.raw } })
    }));
    lines.extend(set_aside);
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

/// Rows of a model's inputs: a value for each, in the manifest's order, read as the kernel reads what it has stored.
pub(super) fn rows(manifest: &Manifest, rows: &[Value]) -> Result<Vec<Vec<RowValue>>, Failure> {
    let inputs = &manifest.inputs;
    let read = |(row, number): (&Value, u32)| {
        let Some(row) = row.as_object() else {
            return Err(Failure::Usage(format!("row {number} is no JSON object with a member for each input")));
        };
        if let Some(unknown) = row.keys().find(|name| !inputs.iter().any(|input| input.name == **name)) {
            let known: Vec<&str> = inputs.iter().map(|input| input.name.as_str()).collect();
            let message = format!("row {number}: the manifest has no input `{unknown}`; it has {}", known.join(", "));
            return Err(Failure::Usage(message));
        }
        if let Some(problem) = inputs.iter().find_map(|input| strange_field(input, row.get(&input.name)?)) {
            return Err(Failure::Usage(format!("row {number}: {problem}")));
        }
        let value = |name: &String| {
            row.get(name).map_or(RowValue::Null, |value| RowValue::from_json_text(&digits::line(value)))
        };
        Ok(inputs.iter().map(|input| value(&input.name)).collect())
    };
    rows.iter().zip(1..).map(read).collect()
}

/// Where a row of a fit has whose it is, as of when it is, and what came after it; no input has such a name.
const ID: &str = "(id)";
const CUT_OFF: &str = "(cut_off)";
const LABEL: &str = "(label)";

/// Rows that a model learns from: as [`rows`], and each with an id, by default its number, and of a model with labels with a cut-off,
/// by default `now`, and a label, by default none.
pub(super) fn fit_rows(manifest: &Manifest, given: &[Value], now: Timestamp) -> Result<Vec<GivenRow>, Failure> {
    let is_labelled = manifest.training.is_some();
    let (mut of_inputs, mut beside) = (given.to_vec(), Vec::with_capacity(given.len()));
    for (row, number) in of_inputs.iter_mut().zip(1..) {
        let mut take = |key: &str| row.as_object_mut().and_then(|row| row.remove(key));
        let (id, cut_off, label) = (take(ID), take(CUT_OFF), take(LABEL));
        let wrong = |key: &str, write: &str| Failure::Usage(format!("row {number}: `{key}` is {write}"));
        if !is_labelled && (cut_off.is_some() || label.is_some()) {
            let message =
                format!("row {number}: the manifest has no [training], so that no row has `{CUT_OFF}` or `{LABEL}`");
            return Err(Failure::Usage(message));
        }
        let id = match id {
            None => number,
            Some(id) => digits::line(&id).parse().ok().ok_or_else(|| wrong(ID, "a whole number from 0"))?,
        };
        let cut_off = match cut_off {
            None => now,
            Some(time) => time
                .as_str()
                .and_then(|time| time.parse().ok())
                .ok_or_else(|| wrong(CUT_OFF, "a time in RFC 3339, e.g. \"2026-11-21T10:00:00Z\""))?,
        };
        let label = label.map_or(RowValue::Null, |label| RowValue::from_json_text(&digits::line(&label)));
        let label = match label {
            RowValue::Null => None,
            RowValue::Bool(holds) => Some(f64::from(u8::from(holds))),
            label => match label.to_cell(&ColumnType::Float64, &Zone::utc()) {
                Ok(Cell::Float64(number)) => Some(number),
                _ => return Err(wrong(LABEL, "true, false, a number or null")),
            },
        };
        beside.push((id, is_labelled.then_some((cut_off, label))));
    }
    let values = rows(manifest, &of_inputs)?;
    Ok(values.into_iter().zip(beside).map(|(values, (id, past))| GivenRow { values, id, past }).collect())
}

/// What is no field of an input's records, in a row that somebody has written.
fn strange_field(input: &InputSpec, written: &Value) -> Option<String> {
    let ColumnType::Records(fields) = &input.column_type else { return None };
    let mut names = written.as_array()?.iter().filter_map(Value::as_object).flat_map(Map::keys);
    let unknown = names.find(|name| fields.iter().all(|field| field.name != **name))?;
    let known: Vec<&str> = fields.iter().map(|field| field.name.as_str()).collect();
    Some(format!("the records of `{}` have no field `{unknown}`; they have {}", input.name, known.join(", ")))
}

/// Where a row has the events that were emitted of it; no output has such a name.
const EVENTS: &str = "(events)";

/// The tags or scores of one row, and the events that were emitted of it where there are any.
pub(super) fn outputs(manifest: &Manifest, AnswerToRow { cells, events }: AnswerToRow) -> Value {
    let values = manifest.outputs.iter().zip(cells).map(|(output, value)| (output.name.clone(), cell(value)));
    let mut row = values.collect::<Map<String, Value>>();
    if !events.is_empty() {
        row.insert(EVENTS.to_owned(), events.iter().map(emitted).collect());
    }
    Value::Object(row)
}

fn emitted(event: &EmittedEvent) -> Value {
    let mut shown = json!({ "event": event.name });
    if !event.properties.is_empty() {
        shown["properties"] = digits::read(&event.properties).unwrap_or_default();
    }
    if !event.key.is_empty() {
        shown["key"] = json!(event.key);
    }
    shown
}

fn cell(given: Cell) -> Value {
    match given {
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
        Cell::Records(records) => {
            records.into_iter().map(|record| record.into_iter().map(cell).collect::<Value>()).collect()
        }
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
    #[serde(default)]
    answers: Vec<WrittenAnswer>,
}

fn first_id() -> String {
    "message-1".to_owned()
}

fn first_attempt() -> u32 {
    1
}

pub(super) fn messages(written: &[Value], now: Timestamp) -> Result<Vec<TriedMessage>, Failure> {
    let read = |(value, number): (&Value, u32)| {
        let written = WrittenMessage::deserialize(Objects(value))
            .map_err(|error| Failure::Usage(format!("message {number} is none: {error}")))?;
        let message = Message {
            id: written.id,
            attempt: written.attempt,
            recipient: written.recipient.into_iter().map(|(kind, value)| Identifier::new(kind, value)).collect(),
            profile: ProfileId(SourceIdentityId([0; 16])),
            payload: digits::line(&Value::Object(written.payload)),
            inputs: written.inputs.into_iter().map(|(name, value)| (name, digits::line(&value))).collect(),
            created_at: now,
        };
        Ok(TriedMessage { message, answers: written.answers })
    };
    written.iter().zip(1..).map(read).collect()
}

/// What a channel wants for a message: a request or a mail, which stay here, or the end of the attempt.
pub(super) fn step(step: &Step) -> Value {
    match step {
        Step::Send(request) => json!({ "request": outbound(request) }),
        Step::Mail(mail) => json!({ "mail": outbound_mail(mail) }),
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

/// A mail as the plugin wrote it, and whether it goes to the person that its message is for.
fn outbound_mail(mail: &OutboundMail) -> Value {
    let mailbox = |mailbox: &Mailbox| match &mailbox.name {
        Some(name) => json!({ "name": name, "address": mailbox.address }),
        None => json!({ "address": mailbox.address }),
    };
    let mut shown = json!({ "relay": mail.relay, "security": mail.security.as_str(), "sender": mailbox(&mail.sender),
        "to": mail.to, "subject": mail.subject });
    if !mail.may_go_to.contains(&mail.to) {
        shown["refused"] = json!("`to` is no identifier of the message's recipient that the channel is given");
    }
    let texts = [("text", &mail.text), ("html", &mail.html)];
    for (key, text) in texts.into_iter().filter_map(|(key, text)| Some((key, text.as_ref()?))) {
        shown[key] = json!(text);
    }
    if let Some(login) = &mail.login {
        shown["login"] = json!({ "user": login.user, "secret": login.secret });
    }
    if let Some(reply_to) = &mail.reply_to {
        shown["reply_to"] = mailbox(reply_to);
    }
    if !mail.headers.is_empty() {
        shown["headers"] = json!(mail.headers);
    }
    if let Some(timeout_ms) = mail.timeout_ms {
        shown["timeout_ms"] = json!(timeout_ms);
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
    use kith_model::event::RejectedRecord;

    use super::*;

    fn manifest(tables: &str) -> Manifest {
        of_kind("connector", tables)
    }

    fn model(tables: &str) -> Manifest {
        of_kind("tag-model", tables)
    }

    fn of_kind(kind: &str, tables: &str) -> Manifest {
        let text = format!(
            "[plugin]\nid = \"acme/try\"\nversion = \"0.1.0\"\nkind = \"{kind}\"\nabi = \"0.2\"\nkernel = \">=0.1\"\n\
             title = \"Try\"\ndescription = \"To try\"\nlicense = \"Apache-2.0\"\n{tables}"
        );
        kith_host::parse_manifest(&text).unwrap()
    }

    #[test]
    fn a_row_has_the_events_that_were_emitted_of_it() {
        let tables = "[inputs.n]\nexpression = \"traits.n\"\ntype = \"int64\"\nreason = \"to try\"\n\
                      [outputs.level]\ntype = \"text\"\ndescription = \"A level\"\n\
                      [capabilities]\nemits = [\"Level Reached\"]";
        let event = |properties: &str, key: &str| EmittedEvent {
            name: "Level Reached".into(),
            properties: properties.into(),
            key: key.into(),
        };
        let row = |events| outputs(&model(tables), AnswerToRow { cells: vec![Cell::Text("high".into())], events });
        assert_eq!(row(Vec::new()), json!({ "level": "high" }));
        let shown = row(vec![event("", ""), event(r#"{"level":"high"}"#, "2026-01")]);
        let events = json!([
            { "event": "Level Reached" },
            { "event": "Level Reached", "properties": { "level": "high" }, "key": "2026-01" },
        ]);
        assert_eq!(shown, json!({ "level": "high", "(events)": events }));
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
        let lines = received(&manifest("[capabilities]\nemits = [\"A\"]"), &given, Timestamp(5));
        assert_eq!(lines[0]["event"]["name"], "A");
        assert!(digits::line(&lines[0]).contains("12345678901234567890.5"), "digit for digit");
        let codes: Vec<_> =
            lines[1..].iter().map(|line| (&line["rejected"]["place"], &line["rejected"]["code"])).collect();
        assert_eq!(codes, [(&json!(1), &json!("undeclared-event")), (&json!(2), &json!("missing-identifier"))]);
        assert_eq!(
            received(&manifest(""), &given, Timestamp(5))[1]["event"]["name"],
            "B",
            "a connector that names none may emit any"
        );
    }

    /// A time that no server takes was shown as it came, a second message with the id of another as an event, and what a connector
    /// had set aside by itself behind what the kernel had.
    #[test]
    fn what_a_server_tells_of_a_request_is_told_in_its_order() {
        let now: Timestamp = "2026-11-25T12:00:00Z".parse().unwrap();
        let event = |id: &str, properties: &str| DraftEvent {
            name: "A".to_owned(),
            message_id: Some(id.to_owned()),
            identifiers: vec![Identifier::new("user_id", "ada")],
            properties: properties.to_owned(),
            ..DraftEvent::default()
        };
        let late = DraftEvent { time: Some("2099-01-01T00:00:00Z".parse().unwrap()), ..event("m2", "{}") };
        let own = RejectedRecord { place: 9, code: "own".to_owned(), message: String::new(), raw: String::new() };
        let given = Received {
            events: vec![event("m1", r#"{"n":1}"#), event("m1", r#"{"n":2}"#), late, event("m1", r#"{ "n": 1.0 }"#)],
            places: Vec::new(),
            rejected: vec![own],
            consumed: 0,
            resume: None,
            answer: None,
            notes: Vec::new(),
        };
        let lines = received(&manifest(""), &given, now);
        let clamped = &lines[1]["event"];
        assert_eq!(clamped["time"], "2026-11-25T12:00:00.000Z", "{clamped}");
        assert_eq!(clamped["original_time"], "2099-01-01T00:00:00.000Z");
        assert_eq!(clamped["flags"], json!(["time-clamped"]));
        assert_eq!(lines[2], json!({ "duplicate": { "place": 3, "message_id": "m1" } }));
        let set_aside: Vec<_> =
            lines[3..].iter().map(|line| (&line["rejected"]["place"], &line["rejected"]["code"])).collect();
        assert_eq!(set_aside, [(&json!(9), &json!("own")), (&json!(1), &json!("message-id-conflict"))]);
    }

    /// A number that is not written as a machine writes it was a text in a case's row, and absent from its column.
    #[test]
    fn rows_are_read_as_what_is_stored_is_read() {
        let inputs = "[inputs.n]\nexpression = \"traits.n\"\ntype = \"float64\"\nreason = \"To try\"\n\
                      [outputs.o]\ntype = \"float64\"\ndescription = \"To try\"\n";
        let manifest = model(inputs);
        let given = digits::read(r#"[{"n":1.50},{}]"#).unwrap();
        let read = rows(&manifest, given.as_array().unwrap()).unwrap();
        assert_eq!(read, [vec![RowValue::Float(1.5)], vec![RowValue::Null]]);
        let refused = rows(&manifest, &[json!({}), json!({ "m": 1 })]).unwrap_err().to_string();
        assert_eq!(refused, "row 2: the manifest has no input `m`; it has n");
    }

    #[test]
    fn a_row_to_learn_from_may_say_whose_it_is_and_what_came_after() {
        let input = "[inputs.n]\nexpression = \"events('a').size()\"\ntype = \"float64\"\nreason = \"To try\"\n\
                     [outputs.o]\ntype = \"float64\"\ndescription = \"To try\"\n";
        let training = "[training]\nlabel = \"events('a').size()\"\nhorizon = \"1d\"\nevery = \"1d\"\ncut_offs = 1\n\
                        predicts = \"o\"\n";
        let of = |tables: &str, rows: &str| {
            let rows = digits::read(rows).unwrap();
            fit_rows(&model(tables), rows.as_array().unwrap(), Timestamp(5))
        };
        let labelled = format!("{input}{training}");
        let rows = r#"[{"n":1,"(id)":18446744073709551615,"(cut_off)":"1970-01-01T00:00:01Z","(label)":true},
                       {"n":2,"(label)":0.50},{"(label)":null}]"#;
        let read = of(&labelled, rows).unwrap();
        assert_eq!(read.iter().map(|row| row.id).collect::<Vec<u64>>(), [u64::MAX, 2, 3]);
        assert_eq!(read[0].values, [RowValue::Int(1)]);
        let past = [(Timestamp(1_000), Some(1.0)), (Timestamp(5), Some(0.5)), (Timestamp(5), None)];
        assert_eq!(read.iter().map(|row| row.past).collect::<Vec<_>>(), past.map(Some));
        assert_eq!(of(input, r#"[{"n":1}]"#).unwrap()[0].past, None);
        for (tables, rows, expected) in [
            (input, r#"[{"(label)":1}]"#, "row 1: the manifest has no [training]"),
            (labelled.as_str(), r#"[{"(label)":"soon"}]"#, "row 1: `(label)` is true, false, a number or null"),
            (labelled.as_str(), r#"[{},{"(id)":-1}]"#, "row 2: `(id)` is a whole number from 0"),
            (labelled.as_str(), r#"[{"(cut_off)":5}]"#, "row 1: `(cut_off)` is a time in RFC 3339"),
        ] {
            let refused = of(tables, rows).unwrap_err().to_string();
            assert!(refused.starts_with(expected), "{refused}");
        }
    }

    #[test]
    fn records_of_a_row_are_objects_of_the_fields_that_are_declared() {
        let manifest = model(
            "[inputs.orders]\nexpression = \"events('A').map(e, {'time': e.time, 'n': e.n})\"\ntype = \"records\"\n\
             fields = { time = \"timestamp\", n = \"float64\" }\nreason = \"To try\"\n\
             [outputs.o]\ntype = \"float64\"\ndescription = \"To try\"\n",
        );
        let given =
            digits::read(r#"[{"orders":[{"time":"2026-01-01","n":1.50},{"n":null}]},{"orders":null}]"#).unwrap();
        let read = rows(&manifest, given.as_array().unwrap()).unwrap();
        assert_eq!(read[0][0].to_json(), json!([{ "time": "2026-01-01", "n": 1.5 }, { "n": null }]));
        let refused = rows(&manifest, &[json!({ "orders": [{ "m": 1 }] })]).unwrap_err().to_string();
        assert_eq!(refused, "row 1: the records of `orders` have no field `m`; they have time, n");
    }

    #[test]
    fn a_mail_is_shown_and_one_to_somebody_else_is_told_of() {
        let mail = |to: &str| {
            let sender = Mailbox { name: Some("Shop".into()), address: "shop@example.com".into() };
            let may_go_to = vec!["ada@example.com".to_owned()];
            let (relay, to, text) = ("smtp.example.com:587".to_owned(), to.to_owned(), Some("Hello".to_owned()));
            step(&Step::Mail(Box::new(OutboundMail { relay, sender, to, text, may_go_to, ..OutboundMail::default() })))
        };
        let shown = json!({ "mail": { "relay": "smtp.example.com:587", "security": "starttls", "subject": "",
            "sender": { "name": "Shop", "address": "shop@example.com" }, "to": "ada@example.com", "text": "Hello" } });
        assert_eq!(mail("ada@example.com"), shown);
        assert!(mail("eve@example.com")["mail"]["refused"].is_string());
    }

    #[test]
    fn a_message_has_what_was_written_and_no_more() {
        let now = Timestamp(5);
        let written = json!({ "recipient": { "email": "ada@example.com" }, "payload": { "text": "hi" } });
        let [tried]: [TriedMessage; 1] = messages(&[written], now).unwrap().try_into().ok().unwrap();
        let message = &tried.message;
        assert_eq!((message.id.as_str(), message.attempt, message.created_at), ("message-1", 1, now));
        assert_eq!(message.payload, r#"{"text":"hi"}"#);
        let refused = messages(&[json!({}), json!({ "to": "ada" })], now).err().unwrap();
        assert!(refused.to_string().starts_with("message 2 is none: unknown field `to`"), "{refused}");
    }
}
