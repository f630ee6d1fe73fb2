//! Whole files: real shapes, every flaw, every encoding, and pieces cut at every byte.

use kith_plugin_sdk::{Connector, Event, EventKind, Received, Rejected, Rejection, Request, testing};
use serde_json::{Value, json};

use crate::{Csv, MAX_RECORD_BYTES};

mod cells;
mod consents;
mod exports;
mod files;
mod inside;
mod senders;

const BASE: i64 = 1_793_527_200_000; // 2026-11-01T10:00:00Z
const AWKWARD: &str = include_str!("../fixtures/awkward.csv");

fn receive(config: &Value, body: impl Into<Vec<u8>>) -> Result<Received, Rejection> {
    let body = body.into();
    let length = body.len() as u64;
    let received = testing::with_config(config, || Csv::receive(Request::post("/api/v1/sources/in_1/records", body)));
    if let Ok(received) = &received {
        assert_eq!(received.consumed, length);
    }
    received
}

/// Feed the file as the kernel does: a growing buffer, in which what was consumed is cut off.
fn receive_in_pieces(config: &Value, body: &[u8], cuts: &[usize]) -> (Vec<Event>, Vec<Rejected>) {
    testing::with_config(config, || {
        let (mut events, mut rejected, mut resume) = (Vec::new(), Vec::new(), None);
        let mut start = 0;
        for &end in cuts.iter().chain([&body.len()]) {
            let mut request = Request::post("/records", &body[start..end]);
            request.complete = end == body.len();
            request.resume = resume.take();
            let received = Csv::receive(request).unwrap();
            events.extend(received.events.into_iter().map(|event| moved(event, start)));
            start += usize::try_from(received.consumed).unwrap();
            assert!(start <= end);
            rejected.extend(received.rejected);
            resume = received.resume;
        }
        assert_eq!(start, body.len());
        (events, rejected)
    })
}

/// The event with its place in the file in the place of that in a piece which begins there.
fn moved(mut event: Event, start: usize) -> Event {
    for (_, text) in event.attributes.iter_mut().filter(|(name, _)| name == "at") {
        let (line, span) = text.split_once(':').unwrap();
        let (from, to) = span.split_once('-').unwrap();
        let [from, to] = [from, to].map(|place| place.parse::<usize>().unwrap() + start);
        *text = format!("{line}:{from}-{to}");
    }
    event
}

fn ids(event: &Event) -> Vec<(&str, &str)> {
    event.identifiers.iter().map(|id| (id.kind.as_str(), id.value.as_str())).collect()
}

fn codes(rejected: &[Rejected]) -> Vec<(u64, &str)> {
    rejected.iter().map(|rejected| (rejected.place, rejected.code.as_str())).collect()
}

fn note<'r>(received: &'r Received, name: &str) -> Option<&'r str> {
    received.notes.iter().find(|(found, _)| found == name).map(|(_, note)| note.as_str())
}

fn awkward() -> Value {
    json!({
        "event": { "name": "Note Written" },
        "identifiers": { "user_id": "id" },
        "properties": { "note": "note", "amount": { "column": "amount", "type": "number" } },
        "traits": { "first_name": "name" },
        "time": { "column": "when" },
    })
}

#[test]
fn files_that_come_together_are_received_as_if_each_came_alone() {
    let mut requests = [AWKWARD, "", "\"", AWKWARD].map(|body| Request::post("/records", body));
    requests[3].complete = false;
    let (answers, _) = testing::Host::new().config(awkward()).receive_all::<Csv>(&requests);
    assert!(!answers[0].as_ref().unwrap().events.is_empty());
}

#[test]
fn the_clickstream_is_read() {
    let config = json!({
        "event": { "column": "event", "rename": { "home": "Home Viewed", "add_to_cart": "Product Added" } },
        "identifiers": { "user_id": "user_id" },
        "properties": ["session_id", "platform"],
        "traits": { "acquisition_channel": "acquisition_channel", "cohort": "user_cohort" },
        "time": { "column": "timestamp", "formats": ["%Y-%m-%d %H:%M:%S"] },
        "shift_days": 1,
        "shift_ms": -1000,
    });
    let received = receive(&config, include_str!("../fixtures/ecom.csv")).unwrap();
    assert_eq!(received.rejected, []);
    assert_eq!(received.events.len(), 11);
    let first = &received.events[0];
    assert_eq!((first.kind, first.name.as_str()), (EventKind::Track, "Home Viewed"));
    assert_eq!(ids(first), [("user_id", "user_0000")]);
    assert_eq!(first.time, Some(1_710_325_274_000 + 86_400_000 - 1000)); // 2024-03-13T10:21:14Z and the shift
    assert_eq!(first.properties, r#"{"session_id":"sess_000001","platform":"desktop"}"#);
    assert_eq!(first.traits, r#"{"acquisition_channel":"email","cohort":"2024-01"}"#);
    let names: Vec<&str> = received.events.iter().map(|event| event.name.as_str()).collect();
    assert_eq!(names[..4], ["Home Viewed", "promo_page", "product_view", "Product Added"]);
}

#[test]
fn fixed_columns_without_a_header_are_read() {
    let config = json!({
        "delimiter": "whitespace",
        "header": false,
        "columns": ["customer_id", "sample_id", "date", "cds", "dollars"],
        "event": { "name": "Order Completed" },
        "identifiers": { "user_id": "cdnow-{customer_id}" },
        "properties": {
            "quantity": { "column": "cds", "type": "integer" },
            "revenue": { "column": "dollars", "type": "number" },
        },
        "time": { "column": "date", "formats": ["%Y%m%d"] },
    });
    let received = receive(&config, include_str!("../fixtures/cdnow_sample.txt")).unwrap();
    assert_eq!((received.events.len(), received.rejected.len()), (8, 0));
    assert_eq!(ids(&received.events[0]), [("user_id", "cdnow-00004")]);
    assert_eq!(received.events[0].time, Some(852_076_800_000));
    assert_eq!(received.events[0].properties, r#"{"quantity":2,"revenue":29.33}"#);
}

#[test]
fn fixed_columns_with_a_header_are_read() {
    let config = json!({
        "delimiter": "whitespace",
        "event": { "name": "Order Completed" },
        "identifiers": { "user_id": "customer_id" },
        "properties": { "revenue": { "column": "dollar_value", "type": "number" } },
        "time": { "column": "date", "formats": ["%Y%m%d"] },
    });
    let received = receive(&config, include_str!("../fixtures/cdnow_master.txt")).unwrap();
    assert_eq!((received.events.len(), received.rejected.len()), (5, 0));
    assert_eq!(received.events[0].properties, r#"{"revenue":11.77}"#);
}

#[test]
fn bad_rows_are_set_aside_by_line_and_good_ones_go_on() {
    let received = receive(&awkward(), AWKWARD).unwrap();
    let people: Vec<&str> = received.events.iter().map(|event| event.identifiers[0].value.as_str()).collect();
    assert_eq!(people, ["1", "5", "8"], "what stands behind a quote that is never closed may stand inside of a cell");
    assert_eq!(
        codes(&received.rejected),
        [
            (4, "bad-number"),
            (5, "broken-quoting"),
            (7, "wrong-field-count"),
            (9, "missing-identifier"),
            (10, "bad-time"),
            (12, "broken-quoting"),
        ]
    );
    assert_eq!(received.rejected[0].raw, "2,Grace,plain,x,2026-11-01T10:00:00Z");
    assert_eq!(received.rejected[0].message, "column `amount`: `x` is not a number");
    assert_eq!(received.rejected[5].raw, "9,Open,\"never closed,1,2026-11-01\n10,After,fine,1,2026-11-03");
    assert!(
        received.rejected[5].message.contains("lines 12 to 13 are this record"),
        "{}",
        received.rejected[5].message
    );
    let properties: Vec<Value> =
        received.events.iter().map(|event| serde_json::from_str(&event.properties).unwrap()).collect();
    assert_eq!(properties[0], json!({ "note": "two\nlines, one \"field\"", "amount": 1.5 }));
    assert_eq!(properties[1], json!({ "note": "unicode – ☃ 𝄞", "amount": 12.5 }));
    assert_eq!(properties[2], json!({ "amount": 0.5 }), "an empty cell is left out");
    assert_eq!(received.events[1].traits, "{\"first_name\":\"Ædla\"}");
    assert_eq!(received.events[1].time, Some(BASE));
}

#[test]
fn the_result_does_not_depend_on_how_the_file_is_cut() {
    let mut utf16 = vec![0xff, 0xfe];
    utf16.extend(AWKWARD.encode_utf16().flat_map(u16::to_le_bytes));
    let mut with_mark = b"\xef\xbb\xbf".to_vec();
    with_mark.extend_from_slice(AWKWARD.replace('\n', "\r\n").as_bytes());
    let mut damaged = AWKWARD.as_bytes().to_vec();
    damaged[40] = 0xff;
    for (encoding, body) in [("utf-8", with_mark), ("utf-8", damaged), ("utf-16", utf16)] {
        let mut config = awkward();
        config["encoding"] = json!(encoding);
        let whole = receive_in_pieces(&config, &body, &[]);
        assert!(whole.0.len() >= 2 && whole.1.len() >= 6);
        for cut in 0..body.len() {
            assert_eq!(receive_in_pieces(&config, &body, &[cut]), whole, "{encoding} cut at {cut}");
        }
        let every_byte: Vec<usize> = (0..body.len()).collect();
        assert_eq!(receive_in_pieces(&config, &body, &every_byte), whole, "{encoding} byte by byte");
    }
}

#[test]
fn a_row_has_the_id_of_its_column_or_none() {
    let body = "id\n1\n1\n2\n";
    let config = json!({ "event": { "name": "A" }, "identifiers": { "user_id": "id" } });
    assert!(receive(&config, body).unwrap().events.iter().all(|event| event.message_id.is_none()));

    let config = json!({
        "event": { "name": "A" }, "identifiers": { "user_id": "id" }, "message_id": "row-{id}", "upsert": true,
    });
    assert_eq!(receive(&config, body).unwrap().events[2].message_id.as_deref(), Some("row-2"));
}

#[test]
fn encodings_are_read_and_what_is_no_text_is_set_aside() {
    let config =
        |encoding: &str| json!({ "encoding": encoding, "event": { "name": "A" }, "identifiers": { "name": "name" } });
    let names = |encoding: &str, body: &[u8]| -> Vec<String> {
        let received = receive(&config(encoding), body).unwrap();
        assert_eq!(received.rejected, []);
        received.events.into_iter().map(|event| event.identifiers[0].value.clone()).collect()
    };
    assert_eq!(names("utf-8", "\u{feff}name\nZoë\n".as_bytes()), ["Zoë"]);
    assert_eq!(names("windows-1252", b"name\nZo\xeb \x80 \x93x\x94\n"), ["Zoë € “x”"]);
    assert_eq!(names("latin1", b"name\nZo\xeb\n"), ["Zoë"]);
    let text = "name\nZoë 𝄞\n";
    let little: Vec<u8> = text.encode_utf16().flat_map(u16::to_le_bytes).collect();
    let big: Vec<u8> = "\u{feff}".encode_utf16().chain(text.encode_utf16()).flat_map(u16::to_be_bytes).collect();
    assert_eq!(names("utf-16le", &little), ["Zoë 𝄞"]);
    assert_eq!(names("utf-16", &little), ["Zoë 𝄞"], "without a mark it is little-endian");
    assert_eq!(names("utf-16", &big), ["Zoë 𝄞"]);
    assert_eq!(names("utf-16be", &big), ["Zoë 𝄞"]);

    let received = receive(&config("utf-8"), b"name\nAda\nZo\xeb\nJoan\n").unwrap();
    assert_eq!((received.events.len(), codes(&received.rejected)), (2, vec![(3, "undecodable")]));
    assert_eq!(received.rejected[0].raw, "Zo\u{fffd}");
    let mut halves: Vec<u8> = "name\nAda\n".encode_utf16().chain([0xd800, 0x0a]).flat_map(u16::to_le_bytes).collect();
    halves.push(0);
    let received = receive(&config("utf-16le"), halves).unwrap();
    assert_eq!((received.events.len(), codes(&received.rejected)), (1, vec![(3, "undecodable"), (4, "undecodable")]));
}

/// One damaged record makes no other encoding of a file: its neighbours keep their letters and name whom they named.
#[test]
fn a_damaged_record_costs_no_other_its_letters() {
    let config = json!({ "event": { "name": "A" }, "identifiers": { "name": "name" } });
    let names = |body: &[u8]| -> Vec<String> {
        let events = receive(&config, body).unwrap().events;
        events.iter().flat_map(|event| &event.identifiers).map(|identifier| identifier.value.clone()).collect()
    };
    let damaged = b"{\"name\":\"Zo\xc3\xab\"}\n{\"name\":\"cut\xe2\x82\"}\n{\"name\":\"r3\xe2\"}\n{\"name\":\"Ada\"}\n";
    let found = names(damaged);
    assert!(found.contains(&"Zo\u{eb}".to_owned()) && found.contains(&"Ada".to_owned()), "{found:?}");
    let list = [b" [".as_slice(), b"{\"name\":\"caf\xc3\"},{\"name\":\"Ada\"}]"].concat();
    assert!(names(&list).contains(&"Ada".to_owned()));
    assert_eq!(names(b"name\ncaf\xc3\xa9\ncaf\xe9\n"), ["caf\u{e9}"]);
    // Headers of SQL Server begin with a bracket, and are no JSON.
    let bracketed = json!({ "event": { "name": "A" }, "identifiers": { "name": "[name]" } });
    let events = receive(&bracketed, b"[name];[n]\nZo\xeb;1\nCaf\xe9;2\n").unwrap().events;
    assert_eq!(events[0].identifiers[0].value, "Zo\u{eb}");
}

#[test]
fn ndjson_keeps_the_types_it_has() {
    let config = json!({
        "format": "ndjson",
        "kind": "identify",
        "identifiers": { "user_id": "customer.id", "email": "email" },
        "properties": ["tags"],
        "traits": { "age": "age", "plan": "customer.plan", "score": { "column": "score", "type": "number" } },
        "time": { "column": "at", "formats": ["unix", "rfc3339"] },
    });
    let body = concat!(
        r#"{"customer":{"id":7,"plan":"pro"},"email":null,"tags":["a",1],"age":36,"score":"1.5","at":1793527200}"#,
        "\n\n",
        r#"{"email":"a@b.c","at":"2026-11-01T10:00:00Z"}"#,
        "\r\n",
        "[1]\n{\"email\":\n",
        r#"{"email":{"a":1}}"#,
        "\n",
        r#"{"email":"x@y.z"}"#,
    );
    let received = receive(&config, body).unwrap();
    let [first, second] = &received.events[..] else { panic!("{received:?}") };
    assert_eq!((first.kind, first.name.as_str()), (EventKind::Identify, ""));
    assert_eq!(ids(first), [("user_id", "7")]);
    assert_eq!(first.properties, r#"{"tags":["a",1]}"#);
    assert_eq!(first.traits, r#"{"age":36,"plan":"pro","score":1.5}"#);
    assert_eq!((first.time, second.time), (Some(BASE), Some(BASE)));
    assert_eq!(ids(second), [("email", "a@b.c")]);
    let expected = [(4, "invalid-json"), (5, "invalid-json"), (6, "bad-text"), (7, "missing-time")];
    assert_eq!(codes(&received.rejected), expected);
    let every_byte: Vec<usize> = (0..body.len()).collect();
    assert_eq!(
        receive_in_pieces(&config, body.as_bytes(), &every_byte),
        (received.events.clone(), received.rejected.clone())
    );
}

#[test]
fn an_endless_line_costs_no_more_than_itself() {
    let config = json!({ "event": { "name": "A" }, "identifiers": { "user_id": "id" } });
    let endless = format!("id\n1\n{}\n2\n", "x".repeat(3 * MAX_RECORD_BYTES));
    let whole = receive(&config, endless.as_str()).unwrap();
    assert_eq!((whole.events.len(), codes(&whole.rejected)), (2, vec![(3, "record-too-long")]));
    assert!(whole.rejected[0].raw.len() < MAX_RECORD_BYTES, "it is cut");

    let whole = receive_in_pieces(&config, endless.as_bytes(), &[]);
    for step in [40_000, MAX_RECORD_BYTES, MAX_RECORD_BYTES + 1] {
        let cuts: Vec<usize> = (0..endless.len()).step_by(step).collect();
        assert_eq!(receive_in_pieces(&config, endless.as_bytes(), &cuts), whole, "pieces of {step}");
    }
}

#[test]
fn a_file_that_does_not_fit_the_mapping_is_refused_with_what_it_has() {
    let config = json!({ "event": { "name": "A" }, "identifiers": { "user_id": "customer" } });
    let rejection = receive(&config, "id,name\n1,Ada\n").unwrap_err();
    assert_eq!((rejection.status, rejection.code.as_str()), (400, "unknown-column"));
    assert_eq!(rejection.message, "the file has no column `customer`; it has: id, name");
    assert_eq!(receive(&config, "customers\"\"\n").unwrap_err().code, "unknown-column");
    assert_eq!(receive(&config, "\"customer\n1\n").unwrap_err().code, "bad-header");
    let empty = receive(&config, "").unwrap();
    assert_eq!((empty.events.len(), empty.rejected.len()), (0, 0), "an empty file has nothing wrong");
    assert_eq!(note(&empty, "rows"), Some("the file is empty"));
    let header = receive(&config, "customer\n").unwrap();
    assert_eq!(note(&header, "rows"), Some("the file has a header line and no rows"));
}

#[test]
fn given_columns_take_the_place_of_the_header() {
    let config = json!({ "columns": ["id", "x"], "event": { "name": "A" }, "identifiers": { "user_id": "id" } });
    let received = receive(&config, "Kunde;Nr,Wert\n1,2\n").unwrap();
    assert_eq!((received.events.len(), received.rejected.len()), (1, 0));
}

#[test]
fn a_configuration_that_cannot_work_says_why() {
    for (config, words) in [
        (json!({ "identifiers": { "user_id": "id" } }), "`event` needs"),
        (json!({ "identifiers": { "user_id": "id" }, "event": { "name": "A", "column": "b" } }), "`event` needs"),
        (json!({ "identifiers": {}, "event": { "name": "A" } }), "`identifiers` is empty"),
        (json!({ "identifiers": { "user_id": "{id" }, "event": { "name": "A" } }), "has no `}`"),
        (json!({ "identifiers": { "user_id": "id}" }, "event": { "name": "A" } }), "has no `{`"),
        (json!({ "identifiers": { "user_id": "id" }, "event": { "name": "A" }, "delimiter": "ab" }), "delimiter `ab`"),
        (json!({ "identifiers": { "user_id": "id" }, "event": { "name": "A" }, "header": false }), "`columns`"),
        (
            json!({ "identifiers": { "user_id": "id" }, "event": { "name": "A" }, "time": { "column": "t", "formats": ["%Q"] } }),
            "holds `%Q`",
        ),
    ] {
        let rejection = receive(&config, "id\n1\n").unwrap_err();
        assert_eq!(rejection.status, 500, "{config}");
        assert!(rejection.message.contains(words), "{}", rejection.message);
    }
}

#[test]
fn a_row_that_is_set_aside_says_that_its_consent_was_not_taken() {
    let config = json!({
        "kind": "identify", "identifiers": { "user_id": "id" }, "traits": { "Consent": "may", "age": { "column": "age", "type": "number" } },
    });
    let received = receive(&config, "id,may,age\n1,no,x\n").unwrap();
    assert_eq!(
        received.rejected[0].message,
        "column `age`: `x` is not a number; what it says of consent was not taken"
    );
}
