//! Responsible for converting between the generated bindings and the model, by hand and in both directions. Buffers of
//! columns are moved, not copied. A guest's words are bounded, without what its configuration does not show. Whether
//! the content keeps the contract is `verify.rs`'s work.

mod channel;
mod polling;
mod source_0_1;
mod tables;

use kith_model::event::{DraftEvent, EventKind, MAX_RAW_BYTES, RejectedRecord};
use kith_model::identity::Identifier;
use kith_model::plugin::{
    Answer, Batch, Callback, Fitted, PluginFault, Receipt, Received, RecordPlace, Refusal, ReplayScope, SourceRequest,
};
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::Timestamp;

use crate::bindings::current::{columns, dataset, delivering, fitting, source, types};
use crate::hidden::Hidden;
use crate::text::{bounded, cut};

pub(crate) use channel::{
    answer_to_wit, message_to_wit, message_to_wit_0_1, outbound_from_wit, outcome_from_wit_0_1, response_to_wit,
    send_failure_to_wit, step_from_wit,
};
pub(crate) use polling::{page_from_wit, poll_answer_to_wit, poll_failure_from_wit, turn_from_wit, wanted_to_wit};
pub(crate) use source_0_1::{callback_to_wit_0_1, page_from_wit_0_1, receipt_from_wit_0_1, received_from_wit_0_1};
pub(crate) use tables::{table_from_wit, table_from_wit_0_1, table_to_wit, table_to_wit_0_1};

/// What is kept of a time as it came: the longest that is one has less.
const MAX_ORIGINAL_TIME_BYTES: usize = 128;

pub(crate) fn batch_to_wit(batch: Batch) -> dataset::Batch {
    dataset::Batch {
        rows: table_to_wit(batch.rows),
        ids: batch.ids,
        labels: batch.labels.and_then(labels_to_wit),
        cut_offs: batch.cut_offs.map(|times| times.into_iter().map(|time| time.0).collect()),
    }
}

fn labels_to_wit(labels: Vec<Option<f64>>) -> Option<columns::Column> {
    let rows = labels.len();
    let mut column = ColumnBuilder::new("label", &ColumnType::Float64);
    for label in labels {
        column.push(label.map_or(Cell::Null, Cell::Float64)).expect("a column of floats takes floats and nulls");
    }
    table_to_wit(Table { rows, columns: vec![column.finish()] }).columns.pop()
}

pub(crate) fn fitted_from_wit(fitted: fitting::Fitted) -> Fitted {
    Fitted { state: fitted.state, metrics: fitted.metrics }
}

pub(crate) fn failure_from_wit(hidden: &Hidden, failure: types::Failure) -> PluginFault {
    match failure {
        types::Failure::BadInput(text) => PluginFault::BadInput(hidden.bounded(&text)),
        types::Failure::Transient(text) => PluginFault::Transient(hidden.bounded(&text)),
        types::Failure::Permanent(text) => PluginFault::Permanent(hidden.bounded(&text)),
    }
}

pub(crate) fn compute_failure_from_wit(hidden: &Hidden, failure: fitting::ComputeFailure) -> PluginFault {
    match failure {
        fitting::ComputeFailure::BadInput(text) => PluginFault::BadInput(hidden.bounded(&text)),
        fitting::ComputeFailure::Transient(text) => PluginFault::Transient(hidden.bounded(&text)),
        fitting::ComputeFailure::Permanent(text) => PluginFault::Permanent(hidden.bounded(&text)),
        fitting::ComputeFailure::UnreadableState(text) => PluginFault::UnreadableState(hidden.bounded(&text)),
    }
}

fn event_from_wit(event: types::Event) -> DraftEvent {
    let kind = match event.kind {
        types::EventKind::Track => EventKind::Track,
        types::EventKind::Identify => EventKind::Identify,
        types::EventKind::Page => EventKind::Page,
        types::EventKind::Screen => EventKind::Screen,
        types::EventKind::Group => EventKind::Group,
        types::EventKind::Alias => EventKind::Alias,
    };
    let identifier = |found: types::Identifier| Identifier { kind: found.kind, value: found.value };
    DraftEvent {
        kind,
        message_id: event.message_id,
        name: event.name,
        time: event.time.map(Timestamp),
        sent_at: event.sent_at.map(Timestamp),
        identifiers: event.identifiers.into_iter().map(identifier).collect(),
        properties: event.properties,
        traits: event.traits,
        context: event.context,
        flags: kith_model::flag::kept(&event.flags),
        original_time: event.original_time.map(|time| cut(&time, MAX_ORIGINAL_TIME_BYTES).to_owned()),
    }
}

/// Where an event stands, as its attribute `at` says: `PLACE` or `PLACE:FROM-TO`.
fn place_of(attributes: &[types::Attribute]) -> RecordPlace {
    let Some((_, text)) = attributes.iter().find(|(name, _)| name == "at") else { return RecordPlace::default() };
    let (place, span) = text.split_once(':').map_or((text.as_str(), None), |(place, span)| (place, Some(span)));
    let span =
        span.and_then(|span| span.split_once('-')).and_then(|(from, to)| Some(from.parse().ok()?..to.parse().ok()?));
    RecordPlace { place: place.parse().ok(), span }
}

fn rejected_from_wit(hidden: &Hidden, rejected: types::Rejected) -> RejectedRecord {
    RejectedRecord {
        place: rejected.place,
        code: hidden.bounded(&rejected.code),
        message: hidden.bounded(&rejected.message),
        raw: cut(&rejected.raw, MAX_RAW_BYTES).to_owned(),
    }
}

pub(crate) fn request_to_wit(request: &SourceRequest) -> source::Request {
    let replayed = match request.replayed {
        ReplayScope::No => None,
        ReplayScope::Record => Some("replay"),
        ReplayScope::Request => Some("again"),
    };
    source::Request {
        method: request.method.clone(),
        path: request.path.clone(),
        query: request.query.clone(),
        headers: request.headers.clone(),
        body: request.body.clone(),
        complete: request.complete,
        resume: request.resume.clone(),
        received_at: request.received_at.0,
        attributes: replayed.map(|name| (name.to_owned(), String::new())).into_iter().collect(),
    }
}

pub(crate) fn received_from_wit(hidden: &Hidden, received: source::Received) -> Received {
    let answer =
        |answer: source::Answer| Answer { status: answer.status, content_type: answer.content_type, body: answer.body };
    Received {
        places: received.events.iter().map(|event| place_of(&event.attributes)).collect(),
        events: received.events.into_iter().map(event_from_wit).collect(),
        rejected: received.rejected.into_iter().map(|rejected| rejected_from_wit(hidden, rejected)).collect(),
        consumed: usize::try_from(received.consumed).unwrap_or(usize::MAX),
        resume: received.resume,
        answer: received.answer.map(answer),
        notes: notes_from_wit(hidden, received.notes),
    }
}

/// Notes of one call that are kept; a file of more columns that need a word is one that nobody reads the words of.
const MAX_NOTES: usize = 200;

fn notes_from_wit(hidden: &Hidden, notes: Vec<(String, String)>) -> Vec<(String, String)> {
    notes.into_iter().take(MAX_NOTES).map(|(name, note)| (hidden.bounded(&name), hidden.bounded(&note))).collect()
}

pub(crate) fn refusal(hidden: &Hidden, status: u16, code: &str, message: &str) -> Refusal {
    Refusal { status, code: hidden.bounded(code), message: hidden.bounded(message) }
}

pub(crate) fn callback_to_wit(callback: &Callback) -> delivering::Callback {
    delivering::Callback {
        method: callback.method.clone(),
        path: callback.path.clone(),
        query: callback.query.clone(),
        headers: callback.headers.clone(),
        body: callback.body.clone(),
        received_at: callback.received_at.0,
        attributes: Vec::new(),
    }
}

pub(crate) fn receipt_from_wit(receipt: delivering::Receipt) -> Receipt {
    Receipt { message_id: bounded(&receipt.message_id), event: event_from_wit(receipt.event) }
}

#[cfg(test)]
mod tests {
    use data_encoding::BASE64_NOPAD;
    use serde_json::json;

    use super::*;
    use crate::bindings::current::polling;
    use crate::manifest::Parted;
    use crate::text::MAX_TEXT_BYTES;
    use crate::verify;

    const SECRET: &str = "s3cret-of-many-letters";

    /// Regression: a guest's words were cut before a value was looked for in them, so that the part of one before the
    /// cut was kept.
    #[test]
    fn no_part_of_a_value_is_kept_of_words_that_are_cut() {
        let parted = Parted { shown: json!({}), unshown: json!({ "token": SECRET }), paths: Default::default() };
        let hidden = &Hidden::new(&parted);
        // All of it but its last letter would be kept.
        let encoded = BASE64_NOPAD.encode(SECRET.as_bytes());
        let words = || format!("{}{encoded} and more", "x".repeat(MAX_TEXT_BYTES + 1 - encoded.len()));
        let later = || delivering::Retry { after_seconds: None, reason: words() };
        let outcome = |outcome| format!("{:?}", channel::outcome_from_wit(hidden, outcome));
        let rejected = types::Rejected { place: 0, code: words(), message: words(), raw: String::new() };
        let rejected = rejected_from_wit(hidden, rejected);
        let refused = refusal(hidden, 400, &words(), &words());
        let note = notes_from_wit(hidden, vec![(words(), words())]).remove(0);
        let manifest = crate::parse_manifest(crate::guests::CHANNEL).unwrap();
        let event = DraftEvent { name: words(), ..DraftEvent::default() };
        let said = [
            failure_from_wit(hidden, types::Failure::BadInput(words())).to_string(),
            failure_from_wit(hidden, types::Failure::Transient(words())).to_string(),
            failure_from_wit(hidden, types::Failure::Permanent(words())).to_string(),
            compute_failure_from_wit(hidden, fitting::ComputeFailure::BadInput(words())).to_string(),
            compute_failure_from_wit(hidden, fitting::ComputeFailure::Transient(words())).to_string(),
            compute_failure_from_wit(hidden, fitting::ComputeFailure::Permanent(words())).to_string(),
            compute_failure_from_wit(hidden, fitting::ComputeFailure::UnreadableState(words())).to_string(),
            outcome(delivering::Outcome::Retry(later())),
            outcome(delivering::Outcome::Permanent(words())),
            outcome(delivering::Outcome::Stop(words())),
            format!("{:?}", poll_failure_from_wit(hidden, polling::Failure::Permanent(words()))),
            rejected.code,
            rejected.message,
            refused.code,
            refused.message,
            note.0,
            note.1,
            verify::receipts(hidden, &manifest, [&event]).unwrap_err().to_string(),
        ];
        for (number, said) in said.iter().enumerate() {
            assert!(said.contains("xx……"), "{number}: {}", said.len());
            assert!(!said.contains(&encoded[..8]), "{number}");
        }
    }
}
