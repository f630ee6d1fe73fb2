//! What strangers' bytes meet first, one function for each format. A function panics where a law of its format does not
//! hold; `.ci/fuzz` looks for inputs on which one does, and a test runs them all on the corpus beside it.

use kith_features::{EventFacts, Expression, Facts, LeafState, Program, Value, Zone, naive};
use kith_model::event::{Event, EventKind, EventOrigin};
use kith_model::id::{InstallationId, SourceIdentityId};
use kith_model::time::Timestamp;
use kith_plugin_sdk::json::{Duplicates, Numbers, read_as};
use kith_plugin_sdk::{Connector, Received, Rejection, Request, testing};
use serde_json::value::RawValue;
use serde_json::{Value as Json, json};

/// A format: its name, which is its corpus' folder, and what is tried with its bytes.
pub type Target = (&'static str, fn(&[u8]));

/// All formats.
pub const TARGETS: [Target; 6] = [
    ("expression", expression),
    ("manifest", manifest),
    ("package", package),
    ("journal", journal),
    ("intake", intake),
    ("csv", csv),
];

const NOW: Timestamp = Timestamp(1_793_527_200_000); // 2026-11-01T10:00:00Z

/// Somebody with a value of each type.
struct Someone;

impl Facts for Someone {
    fn trait_value(&self, name: &str) -> Value {
        match name {
            "list" => Value::List((0..100).map(Value::Int).collect()),
            "text" => Value::text("Ada Lovelace"),
            "number" => Value::Float(1.5),
            "flag" => Value::Bool(true),
            _ => Value::Null,
        }
    }

    fn tag_value(&self, name: &str) -> Value {
        if name == "vip" { Value::Bool(true) } else { Value::Null }
    }

    fn score_value(&self, _: &str) -> Value {
        Value::Float(0.25)
    }

    fn created_at(&self) -> Option<Timestamp> {
        Some(Timestamp(NOW.0 - 86_400_000))
    }
}

fn event(number: i64) -> Event {
    let time = Timestamp(NOW.0 - number * 40_000_000);
    Event {
        message_id: format!("m{number}"),
        kind: EventKind::Track,
        name: if number % 2 == 0 { "Paid" } else { "Seen" }.into(),
        time,
        received_at: time,
        source: InstallationId(1),
        identity: SourceIdentityId([0; 16]),
        identifiers: Vec::new(),
        properties: format!(r#"{{"amount":{number},"text":"t{number}"}}"#),
        traits: String::new(),
        context: String::new(),
        origin: EventOrigin::Client,
        flags: Vec::new(),
        original_time: None,
        place: 0,
        reader: 0,
    }
}

/// An expression never panics and keeps its budget; what its leaves keep gives the same value as the whole history.
pub fn expression(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    let Ok(expression) = Expression::parse(text) else { return };
    let zone = Zone::utc();
    let events: Vec<Event> = (0..12).rev().map(event).collect();
    let facts: Vec<EventFacts<'_>> = events.iter().map(|event| EventFacts::new(event, "shop")).collect();
    let program = Program::new([&expression]);
    let mut states = std::collections::BTreeMap::new();
    for (event, facts) in events.iter().zip(&facts) {
        for leaf in program.leaves_for(facts) {
            leaf.apply(states.entry(leaf.id()).or_insert_with(LeafState::default), facts, event.time, &zone);
        }
    }
    let value = |id| {
        let empty = LeafState::default();
        program.leaf(id).map_or(Value::Null, |leaf| leaf.value(states.get(&id).unwrap_or(&empty), NOW, &zone))
    };
    let kept = expression.evaluate_within(&Someone, &value, NOW);
    let whole = naive::evaluate(&expression, &Someone, &facts, NOW, &zone);
    if let Some(kept) = kept
        && !expression.reads().drifts
        && kept != Value::Unknown
        && whole != Value::Unknown
    {
        // Not a number is not equal to itself.
        assert_eq!(format!("{kept:?}"), format!("{whole:?}"), "{text}");
    }
    drop(expression.explain(&Someone, &value, NOW));
    for leaf in expression.leaves() {
        let again = Expression::parse(leaf.text()).unwrap_or_else(|error| panic!("{text}: {}: {error}", leaf.text()));
        assert_eq!(again.reads().leaves, [leaf.id()], "{text}");
    }
}

/// A manifest never panics, and one that reads has a configuration that is judged.
pub fn manifest(bytes: &[u8]) {
    let Ok(text) = std::str::from_utf8(bytes) else { return };
    match kith_host::parse_manifest(text) {
        Ok(manifest) => drop(kith_host::validate_config(&manifest, json!({}))),
        Err(error) => assert!(!error.mistakes.is_empty(), "{text}"),
    }
}

/// What may be admitted is told without a panic.
pub fn package(bytes: &[u8]) {
    if let Ok(inspected) = kith_host::inspect(bytes) {
        drop(kith_host::validate_config(&inspected.manifest, json!({})));
    }
}

/// A record of the journal is read whole or refused. What follows four bytes of checksum is also tried with the right one.
pub fn journal(bytes: &[u8]) {
    kith_store::check_journal_record(bytes);
}

/// A body in one of a connector's encodings, under each path: every message is taken or set aside with a reason.
pub fn intake(bytes: &[u8]) {
    let receive = |path: &str, body: &[u8]| {
        testing::with_config(json!({}), || plugin_connector_segment::Segment::receive(Request::post(path, body)))
    };
    for path in ["/v1/batch", "/v1/track", "/v1/identify"] {
        check(&receive(path, bytes), bytes);
    }
    // A list of messages beside the other has the parts of the body looked at one by one.
    let Some(rest) = bytes.strip_prefix(b"{") else { return };
    let twice = [b"{\"batch\":[],", rest].concat();
    if let (Ok(once), Ok(twice)) = (receive("/v1/batch", bytes), receive("/v1/batch", &twice)) {
        assert_eq!(without_places(once), without_places(twice), "how it is looked at changes what is read");
    }
}

/// What was received but for where each part lies in the body.
fn without_places(mut received: Received) -> Received {
    received.consumed = 0;
    received.events.iter_mut().for_each(|event| event.attributes.clear());
    received
}

/// A table: the first byte chooses the encoding and where the file is cut; in two pieces it reads as in one.
pub fn csv(bytes: &[u8]) {
    let Some((choice, bytes)) = bytes.split_first() else { return };
    let config = csv_config(*choice);
    let receive = |body: &[u8], complete: bool, resume| {
        let mut request = Request::post("/records", body);
        (request.complete, request.resume) = (complete, resume);
        testing::with_config(&config, || plugin_connector_csv::Csv::receive(request))
    };
    let whole = receive(bytes, true, None);
    check(&whole, bytes);
    let Ok(whole) = whole else { return };
    let cut = bytes.len() * usize::from(choice >> 4) / 16;
    let Ok(first) = receive(&bytes[..cut], false, None) else { return };
    let consumed = usize::try_from(first.consumed).unwrap_or(usize::MAX);
    assert!(consumed <= cut, "more was consumed than there was");
    let Ok(second) = receive(&bytes[consumed..], true, first.resume) else { return };
    assert_eq!(first.events.len() + second.events.len(), whole.events.len(), "a cut changes what is read");
}

fn csv_config(choice: u8) -> Json {
    let format = ["csv", "ndjson"][usize::from(choice & 1)];
    let mut config = json!({
        "event": { "name": "Note Written" },
        "identifiers": { "user_id": "id" },
        "properties": { "note": "note", "amount": { "column": "amount", "type": "number" } },
        "time": { "column": "when" },
    });
    if format == "ndjson" {
        config["format"] = json!("ndjson");
    }
    config
}

/// Objects are objects, and nothing is consumed that was not there.
fn check(received: &Result<Received, Rejection>, bytes: &[u8]) {
    let Ok(received) = received else { return };
    assert!(received.consumed <= bytes.len() as u64, "more was consumed than there was");
    for event in &received.events {
        for text in [&event.properties, &event.traits, &event.context] {
            // A number that no machine's float is near is handed on digit by digit.
            let finite = read_as(text.as_bytes(), Duplicates::LastHolds, Numbers::Finite).map(|document| document.text);
            let is_well_formed = serde_json::from_str::<&RawValue>(text).is_ok();
            let is_object = |text: String| serde_json::from_str::<Json>(&text).is_ok_and(|value| value.is_object());
            assert!(text.is_empty() || (is_well_formed && finite.is_ok_and(is_object)), "{text}");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What was found once, and what each format looks like, runs with every change.
    #[test]
    fn every_target_takes_its_corpus() {
        let corpus = std::path::Path::new(env!("CARGO_MANIFEST_DIR")).join("corpus");
        for (name, target) in TARGETS {
            let mut inputs = 0;
            for entry in std::fs::read_dir(corpus.join(name)).unwrap_or_else(|error| panic!("{name}: {error}")) {
                let bytes = std::fs::read(entry.unwrap().path()).unwrap();
                target(&bytes);
                // Every cut and every flipped bit of a small one, too.
                for cut in (0..bytes.len()).take(512) {
                    target(&bytes[..cut]);
                    let mut flipped = bytes.clone();
                    flipped[cut] ^= 1 << (cut % 8);
                    target(&flipped);
                }
                inputs += 1;
            }
            assert!(inputs > 0, "{name} has no corpus");
        }
    }
}
