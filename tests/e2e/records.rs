//! Records and times as senders write them: what is odd costs neither the record nor its neighbours, is said, and comes back as it was
//! sent. docs/sending.md has the rules.

use kith_tests::{Answer, Source, TestKernel};
use serde_json::{Value, json};

/// Send a body as it is; the answer.
fn send(sender: &Source, path: &str, body: impl Into<Vec<u8>>) -> Answer {
    sender.client.send("POST", path, &[("content-type", "application/json")], body)
}

/// Send one message of `ada` with further fields, which must be taken; its event.
fn stored(kernel: &TestKernel, sender: &Source, fields: &str) -> Value {
    let id = kernel.find("user_id:ada").map_or(0, |_| kernel.events("user_id:ada").len());
    let body = format!(r#"{{"event":"E","userId":"ada","messageId":"m{id}",{fields}}}"#);
    let counts = send(sender, "/v1/track", body).is(200);
    assert_eq!(counts["accepted"], 1, "{fields}: {counts}");
    let events = kernel.events("user_id:ada");
    events.into_iter().find(|event| event["message_id"] == format!("m{id}")).unwrap()
}

#[test]
fn odd_json_costs_nothing_and_is_said() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    for (fields, properties, flag) in [
        (r#""properties":[]"#, json!({}), "list-for-object:properties"),
        (r#""context":[]"#, json!({}), "list-for-object:context"),
        (r#""traits":[]"#, json!({}), "list-for-object:traits"),
        (r#""traits":["a","b"]"#, json!({}), "not-an-object:traits"),
        (
            r#""properties":{"title":"cut \ud83d"}"#,
            json!({ "title": "cut \u{fffd}" }),
            "half-surrogate:properties.title",
        ),
        (r#""properties":{"a":NaN,"b":[-Infinity]}"#, json!({ "a": null, "b": [null] }), "not-a-number:properties.a"),
        (r#""properties":{"a":undefined,}"#, json!({ "a": null }), "undefined:properties.a"),
        (r#""properties":{"a":1,"a":2}"#, json!({ "a": 2 }), "duplicate-key:properties.a"),
    ] {
        let event = stored(&kernel, &sender, fields);
        assert_eq!(event["properties"], properties, "{fields}");
        assert!(event["flags"].as_array().unwrap().contains(&json!(flag)), "{fields}: {event}");
    }
    // A byte order mark, UTF-16, a NUL behind the end, a key that only the reader of odd JSON finds.
    let plain = r#"{"event":"E","userId":"bob"}"#;
    let utf16: Vec<u8> = format!("\u{feff}{plain}").encode_utf16().flat_map(u16::to_le_bytes).collect();
    for body in [format!("\u{feff}{plain}").into_bytes(), utf16, format!("{plain}\0").into_bytes()] {
        assert_eq!(send(&sender, "/v1/track", body).is(200)["accepted"], 1);
    }
    let nobody = kith_tests::Client::new(kernel.url(), None);
    let keyed =
        format!("\u{feff}{{\"event\":\"E\",\"userId\":\"bob\",\"p\":NaN,\"writeKey\":\"{}\"}}", sender.write_key);
    assert_eq!(nobody.send("POST", "/v1/t", &[], keyed).is(200)["accepted"], 1);
    assert_eq!(kernel.events("user_id:bob").len(), 4);
}

#[test]
fn numbers_come_back_digit_by_digit() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let digits = "9".repeat(400);
    let traits =
        format!(r#"{{"a":123456789012345678901,"b":0.1234567890123456789,"c":{digits},"d":1e400,"e":1.0,"f":7}}"#);
    let body = format!(r#"{{"userId":"big","traits":{traits}}}"#);
    assert_eq!(send(&sender, "/v1/identify", body).is(200)["accepted"], 1);
    let profile = kernel.admin().get("/api/v1/profiles?identifier=user_id%3Abig").text();
    let id = kernel.admin().get("/api/v1/profiles?identifier=user_id%3Abig").text();
    let id = id.split("\"id\":\"").nth(1).unwrap().split('"').next().unwrap().to_owned();
    let events = kernel.admin().get(&format!("/api/v1/profiles/{id}/events")).text();
    // Two that no float is near: many readers refuse a whole answer for such a number, and take a text.
    let (long, huge) = (format!("\"{digits}\""), "\"1e400\"".to_owned());
    for value in ["123456789012345678901", "0.1234567890123456789", &long, &huge, "1.0"] {
        assert!(profile.contains(&format!("\"value\":{value},")), "{value}: {profile}");
    }
    assert!(events.contains(&traits.replace(&digits, &long).replace("1e400", &huge)), "{events}");
    kernel.settle();
    assert_eq!(kernel.count("traits.f == 7 && traits.a > 1e20"), 1, "a number that is too large hides no other");
}

#[test]
fn one_unreadable_message_costs_no_other_and_an_unreadable_request_is_kept_once() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let message = |number: usize, properties: &str| {
        format!(
            r#"{{"type":"track","event":"E","userId":"u{number}","messageId":"m{number}","properties":{properties}}}"#
        )
    };
    let mut batch: Vec<String> = (0..100).map(|number| message(number, r#"{"a":1}"#)).collect();
    batch[41] = message(41, r#"{"score":NaN}"#);
    batch[42] = message(42, r#"{"a":oops}"#);
    let body = send(&sender, "/v1/batch", format!(r#"{{"batch":[{}]}}"#, batch.join(", "))).is(200);
    assert_eq!((&body["accepted"], &body["rejected_count"]), (&json!(99), &json!(1)), "{body}");
    assert_eq!(body["rejected"][0]["index"], 42);
    assert_eq!(body["rejected"][0]["code"], "unreadable-json");
    assert_eq!(body["flagged"], json!({ "not-a-number": 1 }));

    send(&sender, "/v1/batch", r#"{"batch":[{"event":"lost?""#).is_problem(400, "invalid-json");
    let letters = kernel.admin().get("/api/v1/dead-letters").is(200);
    let raws: Vec<&str> =
        letters["items"].as_array().unwrap().iter().filter_map(|letter| letter["raw"].as_str()).collect();
    assert!(raws.contains(&batch[42].as_str()), "{raws:?}");
    assert!(raws.contains(&r#"{"batch":[{"event":"lost?""#), "{raws:?}");
    assert_eq!(raws.len(), 2);
}

#[test]
fn times_are_read_as_clients_write_them() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let receipt = "2026-11-21T10:00:00.000Z";
    for (fields, time, original, flags) in [
        (r#""timestamp":"2026-03-27T09:53Z""#, "2026-03-27T09:53:00.000Z", json!("2026-03-27T09:53Z"), json!([])),
        (
            r#""timestamp":"2021-10-16T16:00:27.029:Z""#,
            "2021-10-16T16:00:27.029Z",
            json!("2021-10-16T16:00:27.029:Z"),
            json!([]),
        ),
        (r#""timestamp":1700000000000"#, "2023-11-14T22:13:20.000Z", json!("1700000000000"), json!([])),
        (r#""timestamp":"1700000000000""#, "2023-11-14T22:13:20.000Z", json!("1700000000000"), json!([])),
        (
            r#""timestamp":"Tue, 03 Nov 2026 10:00:00 GMT""#,
            "2026-11-03T10:00:00.000Z",
            json!("Tue, 03 Nov 2026 10:00:00 GMT"),
            json!([]),
        ),
        (
            r#""timestamp":"2026-11-01T10:00:00 +01:00""#,
            "2026-11-01T09:00:00.000Z",
            json!("2026-11-01T10:00:00 +01:00"),
            json!([]),
        ),
        (r#""timestamp":"2026-11-01T10:00:00.1234567Z""#, "2026-11-01T10:00:00.123Z", Value::Null, json!([])),
        (r#""timestamp":"""#, receipt, json!(""), json!(["time-unreadable:timestamp", "time-from-receipt"])),
        (
            r#""timestamp":"soon","originalTimestamp":"2026-11-01""#,
            "2026-11-01T00:00:00.000Z",
            json!("soon"),
            json!(["time-unreadable:timestamp", "time-from-original"]),
        ),
        // Clocks that are wrong.
        (
            r#""timestamp":"2024-01-02T03:04:05Z","sentAt":"2024-01-02T03:04:06Z""#,
            "2024-01-02T03:04:05.000Z",
            Value::Null,
            json!([]),
        ),
        (
            r#""timestamp":"2026-11-21T00:00:00Z","sentAt":"1970-01-01T00:00:00Z""#,
            "2026-11-21T00:00:00.000Z",
            Value::Null,
            json!([]),
        ),
        (
            r#""timestamp":"2029-11-21T09:59:00Z","sentAt":"2029-11-21T10:00:00Z""#,
            "2026-11-21T09:59:00.000Z",
            json!("2029-11-21T09:59:00.000Z"),
            json!(["clock-corrected"]),
        ),
        (r#""timestamp":"2099-01-01T00:00:00Z""#, receipt, json!("2099-01-01T00:00:00.000Z"), json!(["time-clamped"])),
        (r#""timestamp":"0001-01-01T00:00:00Z""#, receipt, json!("0001-01-01T00:00:00.000Z"), json!(["time-clamped"])),
    ] {
        let event = stored(&kernel, &sender, fields);
        assert_eq!((&event["time"], &event["original_time"]), (&json!(time), &original), "{fields}");
        assert_eq!(event["flags"], flags, "{fields}");
    }
    kernel.settle();
    assert_eq!(kernel.count("events('E', '30d').size() == 9"), 1, "and no wrong clock takes an event out of a window");
}

/// Two calls within a millisecond are ordered by where they stand in their request, whatever their ids are.
#[test]
fn of_two_facts_of_one_time_the_one_further_behind_holds() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let step = |number: usize| {
        json!({
            "type": "identify", "userId": "ada", "messageId": format!("m{}", 90 - number),
            "timestamp": "2026-03-01T10:00:00.000Z", "traits": { "step": number },
        })
    };
    let batch = json!({ "batch": (0..40).map(step).collect::<Vec<_>>() });
    assert_eq!(send(&sender, "/v1/batch", batch.to_string()).is(200)["accepted"], 40);
    kernel.settle();
    assert_eq!(kernel.find("user_id:ada").unwrap()["traits"]["step"]["value"], 39);
    let places: Vec<u64> = kernel.events("user_id:ada").iter().map(|event| event["place"].as_u64().unwrap()).collect();
    assert!((0..40).all(|place| places.contains(&place)), "{places:?}");
}

#[test]
fn an_import_is_not_corrected_and_stays_older_than_what_came_after_it() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let message = |id: &str, time: &str| json!({ "type": "track", "event": "E", "userId": "eve", "messageId": id, "timestamp": time });
    let body = json!({
        "batch": [message("a", "2026-11-21T09:00:00Z"), message("b", "1970-01-01T00:00:00Z")],
        "sentAt": "2026-11-21T09:30:00Z",
    });
    let counts = sender.client.post("/v1/import", &body).is(200);
    assert_eq!((&counts["accepted"], &counts["flagged"]), (&json!(2), &json!({ "time-clamped": 1 })));
    let events = kernel.events("user_id:eve");
    let times: Vec<&str> = events.iter().map(|event| event["time"].as_str().unwrap()).collect();
    assert_eq!(times, ["2026-11-21T09:00:00.000Z", "1990-01-01T00:00:00.000Z"]);
}

#[test]
fn a_retry_is_a_repeat_however_it_is_spelt() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let message = |rest: &str| {
        format!(r#"{{"event":"E","userId":"a","messageId":"m1","timestamp":"2026-11-01T00:00:00Z",{rest}}}"#)
    };
    let first =
        send(&sender, "/v1/track", message(r#""properties":{"b":1,"a":"é"},"_metadata":{"bundled":[]}"#)).is(200);
    assert_eq!(first["accepted"], 1);
    for again in [
        r#""properties":{"b":1,"a":"é"},"_metadata":{"bundled":[],"retryCount":2}"#,
        r#""properties":{ "a":"\u00e9", "b":1 },"sentAt":"2026-11-21T10:00:00Z""#,
    ] {
        let counts = send(&sender, "/v1/track", message(again)).is(200);
        assert_eq!((&counts["duplicate"], &counts["rejected_count"]), (&json!(1), &json!(0)), "{again}: {counts}");
    }
    let other = send(&sender, "/v1/track", message(r#""properties":{"b":2,"a":"é"}"#)).is(200);
    assert_eq!(other["rejected"][0]["code"], "message-id-conflict");
}

#[test]
fn a_refusal_by_the_kernel_names_the_callers_place() {
    let kernel = TestKernel::start();
    let sender = kernel.segment();
    let messages = [("", "a"), ("ok", "a"), ("bad", "null")];
    let batch = messages.map(|(event, user)| json!({ "type": "track", "event": event, "userId": user }));
    let body = sender.batch(&batch);
    let places = |body: &Value, key: &str| -> Vec<u64> {
        body["rejected"].as_array().unwrap().iter().map(|part| part[key].as_u64().unwrap()).collect()
    };
    assert_eq!(places(&body, "index"), [0, 2]);

    kernel.install(
        "kith/csv",
        json!({ "name": "files", "config": { "event": { "name": "Order" }, "identifiers": { "user_id": "id" } } }),
    );
    let file = "id,order\n1,a\n2,b\n3,c\nnull,d\n4,e\n";
    let body = kernel.admin().send("POST", "/api/v1/sources/files/records", &[], file).is(200);
    assert_eq!((&body["accepted"], places(&body, "line")), (&json!(4), vec![5]), "{body}");
}

/// A file whose seconds are milliseconds put a person into the year 55983, and the answer had no time that anybody reads.
#[test]
fn every_time_in_an_answer_is_one() {
    let kernel = TestKernel::start();
    let config = json!({ "event": { "name": "E" }, "identifiers": { "user_id": "id" }, "time": { "column": "t", "formats": ["unix"] } });
    kernel.install("kith/csv", json!({ "name": "files", "config": config }));
    kernel.admin().send("POST", "/api/v1/sources/files/records", &[], "id,t\nb,1704448800000\n").is(200);
    for event in kernel.find("user_id:b").map(|_| kernel.events("user_id:b")).unwrap_or_default() {
        let time = event["time"].as_str().unwrap();
        assert!(time.len() == 24 && time.starts_with("202") && time.ends_with('Z'), "{time}");
    }
}
