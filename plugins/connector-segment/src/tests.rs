//! Every client's shape from its fixture, and what malformed input does to itself and to its neighbours.

use kith_plugin_sdk::json::{Duplicates, Numbers, read_as};
use kith_plugin_sdk::{Connector, Event, EventKind, Received, Rejection, Request, testing};
use serde_json::{Value, json};

use crate::Segment;

const BASE: i64 = 1_793_527_200_000; // 2026-11-01T10:00:00Z

fn receive(path: &str, body: impl Into<Vec<u8>>) -> Result<Received, Rejection> {
    let received = testing::with_config(json!({}), || Segment::receive(Request::post(path, body)));
    if let Ok(received) = &received {
        for event in &received.events {
            for text in [&event.properties, &event.traits, &event.context] {
                assert!(text.is_empty() || object(text).is_object(), "{text}");
            }
        }
    }
    received
}

/// A batch of one message, which must be taken.
fn take(message: Value) -> Event {
    let mut received = receive("/v1/batch", json!({ "batch": [message] }).to_string()).unwrap();
    assert_eq!(received.rejected, []);
    received.events.remove(0)
}

/// A batch of one message, which must be set aside; gives the code.
fn refuse(message: Value) -> String {
    let received = receive("/v1/batch", json!({ "batch": [message] }).to_string()).unwrap();
    assert_eq!(received.events, []);
    received.rejected[0].code.clone()
}

fn object(text: &str) -> Value {
    // A number that no machine's holds is handed on digit by digit.
    let finite = read_as(text.as_bytes(), Duplicates::LastHolds, Numbers::Finite);
    let finite = finite.unwrap_or_else(|error| panic!("{error}: {text}"));
    serde_json::from_str(&finite.text).unwrap_or_else(|error| panic!("{error}: {text}"))
}

fn ids(event: &Event) -> Vec<(&str, &str)> {
    event.identifiers.iter().map(|id| (id.kind.as_str(), id.value.as_str())).collect()
}

#[test]
fn requests_that_come_together_are_received_as_if_each_came_alone() {
    let bodies = [include_str!("../fixtures/segment-node.json"), "", "{", r#"{"batch":[1,{"type":"track"}]}"#, "{}"];
    let requests = bodies.map(|body| Request::post("/v1/batch", body));
    let (answers, _) = testing::Host::new().config(json!({})).receive_all::<Segment>(&requests);
    assert_eq!(answers[0].as_ref().unwrap().events.len(), 6);
    assert_eq!(answers.len(), requests.len());
}

#[test]
fn segment_node_sends_all_six_kinds() {
    let body = include_str!("../fixtures/segment-node.json");
    let received = receive("/v1/batch", body).unwrap();
    assert_eq!((received.rejected.len(), received.consumed, &received.answer), (0, body.len() as u64, &None));
    let [track, identify, group, alias, page, screen] = &received.events[..] else { panic!("{received:?}") };

    assert_eq!((track.kind, track.name.as_str()), (EventKind::Track, "Order Completed"));
    assert_eq!(track.message_id.as_deref(), Some("node-next-1793527200000-4f7f3b52-3d38-4b0f-9a6e-1f2d3c4b5a69"));
    assert_eq!((track.time, track.sent_at), (Some(BASE), Some(BASE + 10_000)));
    assert_eq!(ids(track), [("user_id", "u1")]);
    assert_eq!(
        track.properties, r#"{"order_id":"o-7","revenue":59.9,"products":[{"sku":"A","quantity":2}]}"#,
        "properties are handed on verbatim"
    );
    assert_eq!(track.traits, "");
    assert_eq!(
        object(&track.context),
        json!({
            "library": { "name": "@segment/analytics-node", "version": "3.1.0" },
        })
    );

    assert_eq!(identify.kind, EventKind::Identify);
    assert_eq!(ids(identify), [("user_id", "u1"), ("email", "ada@example.com"), ("phone", "+15550100")]);
    assert_eq!(object(&identify.traits)["city"], "Oslo");
    assert_eq!(object(&identify.context)["message"]["integrations"], json!({ "All": true }));

    assert_eq!(group.kind, EventKind::Group);
    assert_eq!(ids(group), [("user_id", "u1")], "the group's address is not the person's");
    assert_eq!(group.traits, "");
    assert_eq!(
        object(&group.properties),
        json!({ "groupId": "g1", "traits": { "name": "Initech", "email": "office@initech.example" } })
    );

    assert_eq!(ids(alias), [("user_id", "u1"), ("previous_id", "a1")]);
    assert_eq!((page.name.as_str(), screen.name.as_str()), ("Home", "Loaded a Screen"));
    assert_eq!(object(&page.properties), json!({ "path": "/", "name": "Home", "category": "Shop" }));
    assert_eq!((screen.properties.as_str(), screen.context.as_str()), ("", ""));
}

#[test]
fn segment_python_sends_nulls_and_offsets() {
    let received = receive("/v1/batch", include_str!("../fixtures/segment-python.json")).unwrap();
    assert_eq!(received.rejected, []);
    assert_eq!(ids(&received.events[0]), [("user_id", "u2")]);
    assert_eq!(received.events[0].time, Some(BASE + 123));
    assert_eq!(received.events[0].sent_at, Some(BASE + 1000));
    assert_eq!(ids(&received.events[1]), [("anonymous_id", "a2")]);
    assert_eq!(received.events[1].name, "Loaded a Page");
}

#[test]
fn rudder_node_repeats_traits_and_has_no_timestamp() {
    let received = receive("/v1/batch", include_str!("../fixtures/rudder-node.json")).unwrap();
    assert_eq!(received.rejected, []);
    let [identify, track] = &received.events[..] else { panic!("{received:?}") };
    assert_eq!(ids(identify), [("user_id", "u3"), ("email", "grace@example.com")]);
    assert_eq!(object(&identify.traits), json!({ "email": "grace@example.com" }));
    assert_eq!((identify.time, identify.sent_at), (Some(BASE), Some(BASE + 2000)));
    assert_eq!(object(&track.traits), json!({ "city": "Bergen" }));
    assert_eq!(object(&track.context)["message"]["channel"], "server");
}

#[test]
fn rudder_python_has_traits_in_the_context() {
    let received = receive("/v1/batch", include_str!("../fixtures/rudder-python.json")).unwrap();
    assert_eq!(received.rejected, []);
    assert_eq!(ids(&received.events[0]), [("anonymous_id", "a4"), ("email", "joan@example.com")]);
    assert_eq!(received.events[0].time, Some(BASE + 123));
}

#[test]
fn browsers_send_single_calls_to_one_letter() {
    let body = include_str!("../fixtures/browser-track.json");
    for path in ["/v1/t", "/v1/track", "/v1/track/", "/api/v1/sources/in_1/records"] {
        let received = receive(path, body).unwrap();
        assert_eq!(received.rejected, [], "{path}");
        let event = &received.events[0];
        assert_eq!(ids(event), [("anonymous_id", "4a5b"), ("loyalty_card", "lp-1")]);
        assert_eq!(event.sent_at, Some(BASE + 500));
        assert!(!event.context.contains("writeKey"), "a credential is not data: {}", event.context);
    }
    for (path, kind) in [("i", EventKind::Identify), ("p", EventKind::Page), ("s", EventKind::Screen)] {
        let received = receive(&format!("/v1/{path}"), r#"{"anonymousId":"a","traits":{"x":1}}"#).unwrap();
        assert_eq!(received.events[0].kind, kind, "the path says what it is");
    }
    assert_eq!(receive("/v1/g", r#"{"userId":"u","groupId":7}"#).unwrap().events[0].properties, r#"{"groupId":7}"#);
    assert_eq!(receive("/v1/a", r#"{"userId":"u","previousId":"v"}"#).unwrap().events[0].kind, EventKind::Alias);
    for path in ["/v1/b", "/v1/import", "/v1/batch/", "/api/v1/sources/in_1/records"] {
        assert_eq!(receive(path, include_str!("../fixtures/segment-node.json")).unwrap().events.len(), 6, "{path}");
    }
}

#[test]
fn a_batch_shares_its_context_and_integrations() {
    let body = json!({
        "batch": [
            { "type": "track", "event": "A", "userId": "u", "context": { "ip": "10.0.0.1", "app": { "v": 2 } } },
            { "type": "track", "event": "B", "userId": "u", "integrations": { "All": true } },
        ],
        "context": { "app": { "v": 1 }, "locale": "nb", "traits": { "email": "a@b.c" } },
        "integrations": { "All": false },
    });
    let received = receive("/v1/batch", body.to_string()).unwrap();
    assert_eq!(
        object(&received.events[0].context),
        json!({
            "ip": "10.0.0.1", "app": { "v": 2 }, "locale": "nb", "traits": { "email": "a@b.c" },
            "message": { "integrations": { "All": false } },
        })
    );
    assert_eq!(ids(&received.events[0]), [("user_id", "u"), ("email", "a@b.c")]);
    assert_eq!(object(&received.events[1].context)["app"]["v"], 1);
    assert_eq!(object(&received.events[1].context)["message"]["integrations"]["All"], true);
}

#[test]
fn traits_of_the_call_hold_over_those_of_the_context() {
    let event = take(json!({
        "type": "identify", "userId": "u",
        "traits": { "city": "Oslo" },
        "context": { "traits": { "city": "Bergen", "plan": "pro" } },
    }));
    assert_eq!(object(&event.traits), json!({ "city": "Oslo", "plan": "pro" }));
}

#[test]
fn ids_may_be_numbers_null_or_empty() {
    let event = take(json!({ "type": "track", "event": "A", "userId": 42, "anonymousId": "", "messageId": 7 }));
    assert_eq!(ids(&event), [("user_id", "42")]);
    assert_eq!(event.message_id.as_deref(), Some("7"));
    let event = take(json!({ "type": "track", "event": "A", "anonymousId": "a\"\n\u{e9}" }));
    assert_eq!(ids(&event), [("anonymous_id", "a\"\n\u{e9}")]);
    assert_eq!((event.message_id, event.time, event.sent_at), (None, None, None));
}

#[test]
fn a_message_of_its_own_context_key_loses_nothing() {
    let event =
        take(json!({ "type": "track", "event": "A", "userId": "u", "channel": "web", "context": { "message": 1 } }));
    assert_eq!(object(&event.context), json!({ "message": 1, "_message": { "channel": "web" } }));
}

#[test]
fn every_flaw_has_its_code() {
    for (message, code) in [
        (json!(1), "not-an-object"),
        (json!(null), "not-an-object"),
        (json!({ "event": "A", "userId": "u" }), "missing-type"),
        (json!({ "type": "tracks", "event": "A", "userId": "u" }), "unknown-type"),
        (json!({ "type": 1, "event": "A", "userId": "u" }), "unknown-type"),
        (json!({ "type": "track", "userId": "u" }), "missing-event-name"),
        (json!({ "type": "track", "event": " ", "userId": "u" }), "missing-event-name"),
        (json!({ "type": "track", "event": {}, "userId": "u" }), "invalid-field"),
        (json!({ "type": "track", "event": "A" }), "missing-identifier"),
        (json!({ "type": "track", "event": "A", "userId": null, "anonymousId": "" }), "missing-identifier"),
        (json!({ "type": "track", "event": "A", "userId": true }), "missing-identifier"),
        (json!({ "type": "alias", "userId": "u", "previousId": {} }), "missing-previous-id"),
        (json!({ "type": "track", "event": "A", "userId": "u", "messageId": "m".repeat(257) }), "invalid-message-id"),
        (json!({ "type": "alias", "userId": "u" }), "missing-previous-id"),
        (json!({ "type": "group", "userId": "u" }), "missing-group-id"),
        (
            json!({ "type": "track", "event": "A", "userId": "u", "properties": { "x": "y".repeat(33_000) } }),
            "too-large",
        ),
    ] {
        let name = message.to_string();
        assert_eq!(refuse(message), code, "{}", &name[..name.len().min(100)]);
    }
}

/// What is no text and no number is no id, whichever field it stands in: the message is taken by what else names the person.
#[test]
fn what_is_no_id_names_nobody_and_costs_no_message() {
    for odd in ["true", "false", "{}", r#"{"id":7}"#, "[]", r#"["u"]"#, "[[]]"] {
        for (field, other) in [("userId", "anonymousId"), ("anonymousId", "userId"), ("messageId", "userId")] {
            let body = format!(r#"{{"batch":[{{"type":"track","event":"A","{other}":"u","{field}":{odd}}}]}}"#);
            let received = receive("/v1/batch", body).unwrap();
            assert_eq!((received.events.len(), received.rejected.len()), (1, 0), "{field} {odd}");
            let event = &received.events[0];
            assert_eq!(event.identifiers.len(), 1, "{field} {odd}");
            assert!(event.flags.contains(&format!("not-an-id:{field}")), "{field} {odd}: {:?}", event.flags);
            let is_kept = event.context.contains(&format!(r#""{field}":{odd}"#)) || odd == "{}";
            assert!(is_kept && event.message_id.is_none(), "{field} {odd}: {}", event.context);
        }
    }
}

#[test]
fn one_bad_message_never_fails_its_batch() {
    let good = r#"{"type":"track","event":"A","userId":"u"}"#;
    let nested = format!(
        r#"{{"type":"track","event":"A","userId":"u","properties":{{"a":{}{}}}}}"#,
        "[".repeat(200),
        "]".repeat(200)
    );
    for (bad, code) in [
        (r#"{"type":"track","event":"A","userId":"\ud800"}"#, "missing-identifier"),
        (r#"{"type":"track","event":"A","userId":"u","properties":{"a":oops}}"#, "unreadable-json"),
        (r#"{"type":"track","event":"A" "userId":"u"}"#, "unreadable-json"),
        (r#"{"type":"track","event":"A","userId":"u","properties":{"a":[1,{"b":2}}}"#, "unreadable-json"),
        (nested.as_str(), "too-deep"),
        ("[]", "not-an-object"),
        ("oops", "unreadable-json"),
    ] {
        let received = receive("/v1/batch", format!(r#"{{"batch":[{good},{bad},{good}]}}"#)).unwrap();
        assert_eq!(received.events.len(), 2, "{bad}");
        assert_eq!(received.rejected.len(), 1);
        assert_eq!((received.rejected[0].place, received.rejected[0].code.as_str()), (1, code), "{bad}");
        assert_eq!(received.rejected[0].raw, bad);
    }
}

/// What a sender wrote wrongly, how it is stored and what is said of it. Each came with a real client.
#[test]
fn odd_json_is_taken_and_flagged() {
    let good = r#"{"type":"track","event":"A","userId":"u"}"#;
    for (field, properties, flags) in [
        (
            r#""properties":{"title":"cut \ud83d"}"#,
            "{\"title\":\"cut \u{fffd}\"}",
            &["half-surrogate:properties.title"][..],
        ),
        (
            r#""properties":{"a":NaN,"b":-Infinity}"#,
            r#"{"a":null,"b":null}"#,
            &["not-a-number:properties.a", "not-a-number:properties.b"],
        ),
        (r#""properties":{"a":1e400}"#, r#"{"a":1e400}"#, &["number-too-large:properties.a"]),
        (
            r#""properties":{"a":123456789012345678901,"b":0.1234567890123456789}"#,
            r#"{"a":123456789012345678901,"b":0.1234567890123456789}"#,
            &[],
        ),
        (r#""properties":{"a":undefined,}"#, r#"{"a":null}"#, &["undefined:properties.a", "trailing-comma:properties"]),
        (r#""properties":[]"#, "", &["list-for-object:properties"]),
        (r#""properties":[1]"#, "", &["not-an-object:properties"]),
        (r#""traits":["a","b"]"#, "", &["not-an-object:traits"]),
        (r#""context":"x""#, "", &["not-an-object:context"]),
        (r#""event":"B""#, "", &["duplicate-key:event"]),
    ] {
        let odd = format!(r#"{{"type":"track","event":"A","userId":"u",{field}}}"#);
        for body in [format!(r#"{{"batch":[{good},{odd},{good}]}}"#), format!("\u{feff}{{\"batch\":[{odd},],}}\0")] {
            let received = receive("/v1/batch", body).unwrap();
            assert_eq!(received.rejected, [], "{field}");
            let event = received.events.iter().find(|event| !event.flags.is_empty() || flags.is_empty()).unwrap();
            let event = if flags.is_empty() {
                received.events.iter().find(|event| !event.properties.is_empty()).unwrap()
            } else {
                event
            };
            assert_eq!(
                (event.properties.as_str(), &event.flags[..]),
                (properties, &flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>()[..]),
                "{field}"
            );
        }
    }
    let listed = take(json!({ "type": "identify", "userId": "u", "traits": ["a", "b"] }));
    assert_eq!(object(&listed.context)["message"]["traits"], json!(["a", "b"]), "nothing that was sent is lost");
}

#[test]
fn bytes_that_are_not_text_are_replaced() {
    let body = b"{\"batch\":[{\"type\":\"track\",\"event\":\"A\",\"userId\":\"u\"},{\"type\":\"track\",\"event\":\"B\xff\",\"userId\":\"u\",\"anonymousId\":\"\xe9\"}]}";
    let received = receive("/v1/batch", &body[..]).unwrap();
    assert_eq!((received.events.len(), received.consumed), (2, body.len() as u64));
    assert_eq!(received.events[1].name, "B\u{fffd}");
    assert_eq!(received.events[1].flags, ["invalid-utf8:event", "invalid-utf8:anonymousId"]);
    assert_eq!(ids(&received.events[1]), [("user_id", "u")], "people of whom the same letter is lost are not one");
}

#[test]
fn a_message_without_a_time_that_can_be_read_has_another() {
    let sent = BASE + 60_000;
    for (times, time, original, flags) in [
        (r#""timestamp":"2026-11-01T10:00Z""#, Some(BASE), Some("2026-11-01T10:00Z"), &[][..]),
        (r#""timestamp":"2026-11-01T10:00:00.000:Z""#, Some(BASE), Some("2026-11-01T10:00:00.000:Z"), &[]),
        (r#""timestamp":1793527200000"#, Some(BASE), Some("1793527200000"), &[]),
        (r#""timestamp":"1793527200""#, Some(BASE), Some("1793527200"), &[]),
        (r#""timestamp":{"$date":"2026-11-01T10:00:00Z"}"#, Some(BASE), None, &[]),
        (r#""timestamp":"2026-11-01T10:00:00Z","originalTimestamp":"x""#, Some(BASE), None, &[]),
        (
            r#""timestamp":"","originalTimestamp":"Sun, 01 Nov 2026 10:00:00 GMT""#,
            Some(BASE),
            Some(""),
            &["time-unreadable:timestamp", "time-from-original"],
        ),
        (
            r#""timestamp":"yesterday","sentAt":"2026-11-01T10:01:00Z""#,
            Some(sent),
            Some("yesterday"),
            &["time-unreadable:timestamp", "time-from-sent-at"],
        ),
        (
            r#""timestamp":true,"originalTimestamp":[],"sentAt":"x""#,
            None,
            Some("true"),
            &["time-unreadable:timestamp", "time-unreadable:originalTimestamp", "time-from-receipt"],
        ),
        (r#""sentAt":"2026-11-01T10:01:00Z""#, None, None, &[]),
        (r#""timestamp":null"#, None, None, &[]),
    ] {
        let received = receive("/v1/track", format!(r#"{{"event":"A","userId":"u",{times}}}"#)).unwrap();
        let event = &received.events[0];
        assert_eq!((event.time, event.original_time.as_deref()), (time, original), "{times}");
        assert_eq!(event.flags, flags, "{times}");
    }
}

/// What a message says of its way here differs between attempts, so that a retry would be another message.
#[test]
fn a_retry_is_the_same_message() {
    let message = |transport: &str| {
        format!(r#"{{"batch":[{{"type":"track","event":"A","userId":"u","messageId":"m"{transport}}}]}}"#)
    };
    let read = |transport: &str| {
        let event = receive("/v1/batch", message(transport)).unwrap().events.remove(0);
        Event { attributes: Vec::new(), ..event }
    };
    let first = read("");
    for transport in [
        r#","_metadata":{"bundled":[],"retryCount":2}"#,
        r#","writeKey":"k","receivedAt":"2026-11-01T10:00:00Z","retryCount":3"#,
    ] {
        assert_eq!(read(transport), first);
    }
}

#[test]
fn a_place_is_that_of_the_callers_batch() {
    let body = r#"{"batch":[{"type":"track","event":"","userId":"a"},{"type":"track","event":"ok","userId":"a"}],"batch":[{"type":"track","event":"ok","userId":"b"},7]} more"#;
    let received = receive("/v1/batch", body).unwrap();
    let at = |event: &Event| event.attributes[0].1.clone();
    assert_eq!(received.events.iter().map(at).collect::<Vec<_>>(), ["1:51-93", "2:104-146"]);
    let set_aside: Vec<(u64, &str)> = received.rejected.iter().map(|part| (part.place, part.code.as_str())).collect();
    assert_eq!(set_aside, [(0, "missing-event-name"), (3, "not-an-object"), (4, "trailing-bytes")]);
}

#[test]
fn odd_but_readable_json_is_taken() {
    let body = r#" {"batch" : [ { "type":"track", "event":"A", "event":"B", "userId":"\u0041\u0000", "properties":{"a":1,"a":2, "deep":[[[1e3]]]} } ] } "#;
    let received = receive("/v1/batch", body).unwrap();
    assert_eq!(received.rejected, []);
    assert_eq!(received.events[0].name, "B", "of a repeated key the last holds");
    assert_eq!(received.events[0].identifiers[0].value, "A\0");
    assert_eq!(received.events[0].properties, r#"{"a":1,"a":2,"deep":[[[1e3]]]}"#);
}

#[test]
fn a_request_that_can_never_work_is_refused() {
    for (path, body, status, code) in [
        ("/v1/batch", "", 400, "invalid-json"),
        ("/v1/batch", "{", 400, "invalid-json"),
        ("/v1/batch", "[]", 400, "invalid-json"),
        ("/v1/batch", "{}", 400, "missing-batch"),
        ("/v1/batch", "{\"batch\":{}}", 400, "invalid-batch"),
        ("/v1/track", "nope", 400, "invalid-json"),
        ("/v1/merge", "{}", 404, "unknown-path"),
    ] {
        let rejection = receive(path, body).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (status, code), "{path} {body}");
        assert!(!rejection.message.is_empty());
    }
    assert_eq!(receive("/v1/batch", r#"{"batch":[]}"#).unwrap().events, []);
}

#[test]
fn a_shared_context_cannot_be_used_to_flood_the_host() {
    let batch = format!(r#"{{"context":{{"a":"{}"}},"batch":[{}1]}}"#, "x".repeat(20_000), "1,".repeat(1000));
    let rejection = receive("/v1/batch", batch).unwrap_err();
    assert_eq!((rejection.status, rejection.code.as_str()), (413, "too-large"));
}

#[test]
fn the_message_limit_is_configurable() {
    let body = json!({ "event": "A", "userId": "u", "properties": { "x": "y".repeat(2000) } }).to_string();
    let run = |limit: usize| {
        testing::with_config(json!({ "max_message_bytes": limit }), || {
            Segment::receive(Request::post("/v1/t", body.clone()))
        })
    };
    assert_eq!(run(body.len()).unwrap().events.len(), 1);
    assert_eq!(run(body.len() - 1).unwrap().rejected[0].code, "too-large");
}

#[test]
fn a_piece_of_a_body_is_not_enough() {
    let mut request = Request::post("/v1/batch", "{\"batch\":[");
    request.complete = false;
    let received = testing::with_config(json!({}), || Segment::receive(request)).unwrap();
    assert_eq!((received.consumed, received.events.len()), (0, 0));
}

/// A whole number is one id however it is written, and what is a text stays as it is.
#[test]
fn a_whole_number_is_one_id() {
    for (written, id) in [
        ("777", "777"),
        ("777.0", "777"),
        ("777.000", "777"),
        ("777.5", "777.5"),
        ("-1.0", "-1"),
        (r#""777.0""#, "777.0"),
    ] {
        let body = format!(r#"{{"type":"identify","userId":{written},"anonymousId":"a"}}"#);
        let event = receive("/v1/identify", body).unwrap().events.remove(0);
        assert_eq!(event.identifiers[0].value, id, "{written}");
    }
}

/// What a traits text says of the consents, in its order.
fn consents(traits: &str) -> Vec<String> {
    let read = crate::object::Object::read(traits).unwrap();
    let mut said: Vec<String> = read
        .all()
        .filter(|(name, _)| name.eq_ignore_ascii_case("consent"))
        .map(|(_, said)| said.get().to_owned())
        .collect();
    said.sort();
    said
}

/// Of a key that came twice, and of `traits` beside `context.traits`, the last or the nearer one held alone: a refusal in the
/// other was not heard.
#[test]
fn every_consent_of_a_message_reaches_the_kernel() {
    let (yes, no) = (r#"{"news":true}"#, r#"{"news":false}"#);
    for message in [
        format!(r#"{{"type":"identify","userId":"u1","traits":{{"consent":{no},"consent":{yes},"city":"Oslo"}}}}"#),
        format!(
            r#"{{"type":"identify","userId":"u1","traits":{{"consent":{no}}},"traits":{{"consent":{yes},"city":"Oslo"}}}}"#
        ),
        format!(
            r#"{{"type":"identify","userId":"u1","context":{{"traits":{{"consent":{no}}}}},"traits":{{"consent":{yes},"city":"Oslo"}}}}"#
        ),
        format!(
            r#"{{"type":"identify","userId":"u1","context":{{"traits":{{"c\u006fnsent":{no}}}}},"context":{{"a":1}},"traits":{{"consent":{yes},"city":"Oslo"}}}}"#
        ),
    ] {
        let received = receive("/v1/batch", format!(r#"{{"batch":[{message}]}}"#)).unwrap();
        let traits = &received.events[0].traits;
        assert_eq!(consents(traits), [no, yes], "{message}");
        assert_eq!(object(traits), json!({ "consent": { "news": true }, "city": "Oslo" }), "what is shown stays");
    }
    let own = r#"{"type":"track","event":"E","userId":"u1","context":{"traits":{"city":"Oslo"}}}"#.to_owned();
    let body = format!(r#"{{"context":{{"traits":{{"consent":{no}}}}},"batch":[{own}]}}"#);
    assert_eq!(consents(&receive("/v1/batch", body).unwrap().events[0].traits), [no]);
    // What Segment's consent tools send with each message, of any type; what is no object of categories says nothing.
    for kind in [r#""type":"track","event":"E""#, r#""type":"page""#, r#""type":"identify","traits":{"city":"Oslo"}"#] {
        let with = |consent: &str| format!(r#"{{{kind},"userId":"u1","context":{{"consent":{consent}}}}}"#);
        for (consent, expected) in [
            (format!(r#"{{"categoryPreferences":{no}}}"#), vec![no]),
            (format!(r#"{{"categoryPreferences":{no},"categoryPreferences":{yes}}}"#), vec![no, yes]),
            (r#"{"categoryPreferences":null}"#.to_owned(), vec![]),
            ("{}".to_owned(), vec![]),
            ("true".to_owned(), vec![]),
        ] {
            let received = receive("/v1/batch", format!(r#"{{"batch":[{}]}}"#, with(&consent))).unwrap();
            let traits = received.events[0].traits.as_str();
            let said = if traits.is_empty() { Vec::new() } else { consents(traits) };
            assert_eq!(said, expected, "{consent} in {kind}");
        }
    }
    let group = json!({ "type": "group", "userId": "u1", "groupId": "g", "traits": { "consent": { "news": false } } });
    assert_eq!(take(group).traits, "", "a group's consents are not the person's");
}

/// A message that was set aside took a refusal in it along, and the person was written to.
#[test]
fn a_refusal_in_a_message_that_is_set_aside_is_taken() {
    let traits = json!({ "consent": { "news": true, "ads": false }, "email": "ada@example.com" });
    let good = json!({ "type": "identify", "userId": "u1", "traits": traits, "timestamp": "2026-11-01T10:00:00Z" });
    let with = |key: &str, value: Value| {
        let mut message = good.clone();
        message[key] = value;
        message
    };
    for bad in [
        with("bio", json!("x".repeat(40_000))),
        with("type", json!("identified")),
        with("messageId", json!("m".repeat(300))),
    ] {
        let received = receive("/v1/batch", json!({ "batch": [bad, good] }).to_string()).unwrap();
        let [_, refusal] = &received.events[..] else { panic!("{received:?}") };
        assert_eq!(
            (refusal.kind, refusal.time, refusal.message_id.as_deref()),
            (EventKind::Identify, Some(BASE), None)
        );
        assert_eq!(refusal.traits, r#"{"consent":{"ads":false}}"#, "an agreement in it counts for nothing");
        assert_eq!(ids(refusal), [("user_id", "u1"), ("email", "ada@example.com")]);
        assert!(received.rejected[0].message.ends_with("; the refusal of consent in it was taken"));
    }
    for nothing in [with("traits", json!({ "consent": { "news": true } })), with("traits", json!({ "city": "Oslo" }))] {
        let mut nothing = nothing;
        nothing["messageId"] = json!("m".repeat(300));
        assert_eq!(refuse(nothing), "invalid-message-id");
    }
    let nobody = json!({ "type": "identify", "traits": { "consent": false } });
    assert_eq!(refuse(nobody), "missing-identifier");
    let torn = r#"{"batch":[{"type":"identify","userId":"u1","traits":{"consent":{"a":1e999}},"b":oops}]}"#;
    assert_eq!(receive("/v1/batch", torn).unwrap().events[0].traits, r#"{"consent":{"a":1e999}}"#);
}

/// Keys that were spelt with escapes named nobody, and a refusal that came with them was not heard.
#[test]
fn a_key_is_the_same_however_it_is_spelt() {
    let message = |body: &str| receive("/v1/batch", format!(r#"{{"batch":[{{"type":"identify",{body}}}]}}"#)).unwrap();
    let of = |key: &str| -> [String; 3] {
        let first = key.chars().next().unwrap();
        let (rest, code) = (&key[1..], u32::from(first));
        [
            key.to_owned(),
            format!("\\u{code:04x}{rest}"),
            format!("{}\\u{:04X}", &key[..key.len() - 1], key.as_bytes()[key.len() - 1]),
        ]
    };
    let no = r#"{"news":false}"#;
    for (context, traits, email, consent) in (0..81).map(|case| (case / 27, case / 9 % 3, case / 3 % 3, case % 3)) {
        let (context, traits) = (of("context")[context].clone(), of("traits")[traits].clone());
        let own = format!(r#"{{"{}":"ada@example.com","{}":{no}}}"#, of("email")[email], of("consent")[consent]);
        for body in [format!(r#""{traits}":{own}"#), format!(r#""{context}":{{"{traits}":{own}}}"#)] {
            let event = message(&body).events.remove(0);
            assert_eq!(ids(&event), [("email", "ada@example.com")], "{body}");
            assert_eq!(consents(&event.traits), [no], "{body}");
        }
    }
    for external in of("externalIds") {
        let body = format!(r#""context":{{"{external}":[{{"id":"e1","type":"crm"}}]}}"#);
        assert_eq!(ids(&message(&body).events[0]), [("crm", "e1")], "{body}");
    }
}

/// Which bytes are signed, and under which key, is the SDK's to test; here is that nothing is looked at before.
#[test]
fn a_signed_source_looks_at_nothing_that_is_not_signed() {
    let config = json!({ "signature": { "scheme": "github" } });
    let receive = |request: Request| {
        let host = testing::Host::new().config(&config).secret("signing");
        host.verify_hmac(|key, _, signature| key.secret == "signing" && signature == "right")
            .run(|| Segment::receive(request))
            .0
    };
    let track = r#"{"type":"track","event":"Paid","userId":"kim"}"#;
    let with = |body: &str, signature: &str| {
        let mut request = Request::post("/", body);
        request.headers.push(("x-hub-signature-256".to_owned(), signature.to_owned()));
        request
    };
    let id_of = |body: &str| receive(with(body, "right")).unwrap().events[0].message_id.clone().unwrap();
    assert!(id_of(track).starts_with("signed-"), "{}", id_of(track));
    assert_eq!(id_of(track), id_of(track), "a repeat is known by what is signed");
    assert_ne!(id_of(track), id_of(&track.replace("kim", "bob")));
    let own = r#"{"type":"track","event":"Paid","userId":"kim","messageId":"m1"}"#;
    assert_eq!(receive(with(own, "right")).unwrap().events[0].message_id.as_deref(), Some("m1"));
    for body in [track, "no JSON", "{"] {
        assert_eq!(receive(with(body, "wrong")).unwrap_err().status, 401, "{body}");
        assert_eq!(receive(Request::post("/v1/batch", body)).unwrap_err().status, 401, "{body}");
    }
    assert_eq!(receive(Request::post("/", track).as_replay()).unwrap().events.len(), 1);
    assert_eq!(receive(Request::post("/", track).as_again()).unwrap().events.len(), 1);
    let problems = Segment::validate(r#"{"signature":{"scheme":"custom"}}"#).unwrap_err();
    assert_eq!(problems[0].key, "signature.header");
}

/// What each client's library sends at once.
const BATCHES: [&str; 4] = [
    include_str!("../fixtures/segment-node.json"),
    include_str!("../fixtures/segment-python.json"),
    include_str!("../fixtures/rudder-node.json"),
    include_str!("../fixtures/rudder-python.json"),
];

/// A body's messages and what became of them, without where each stands.
fn without_places(body: &str) -> (Vec<Event>, Vec<(String, String)>) {
    let mut received = receive("/v1/batch", body).unwrap();
    received.events.iter_mut().for_each(|event| event.attributes.clear());
    let rejected = received.rejected.into_iter().map(|rejected| (rejected.code, rejected.message));
    (received.events, rejected.collect())
}

#[test]
fn what_is_read_in_one_look_says_what_it_says_part_by_part() {
    for fixture in BATCHES {
        let found = without_places(fixture);
        // A second list has to be looked at part by part.
        let twice = fixture.replacen('{', "{\"batch\":[],", 1);
        assert_eq!(found, without_places(&twice), "{fixture:.60}");
        // Without white space the texts are borrowed, with more of it they are written anew.
        let value: Value = serde_json::from_str(fixture).unwrap();
        for spelt in [value.to_string(), serde_json::to_string_pretty(&value).unwrap()] {
            assert_eq!(
                without_places(&spelt),
                without_places(&spelt.replacen('{', "{\"batch\":[],", 1)),
                "{spelt:.60}"
            );
        }
    }
}

#[test]
fn a_refusal_that_lies_too_deep_refuses_all_the_same() {
    let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
    let long = "z".repeat(40_000);
    let message =
        |traits: String| format!(r#"{{"batch":[{{"type":"identify","userId":"u1","traits":{{{traits}}}}}]}}"#);
    for (traits, kept) in [
        (format!(r#""consent":{{"news":{}}}"#, deep(120)), json!({ "consent": { "news": false } })),
        (format!(r#""consent":{}"#, deep(120)), json!({ "consent": false })),
        (
            format!(r#""a":"{long}","consent":{{"ads":false,"news":{}}}"#, deep(70)),
            json!({ "consent": { "ads": false, "news": false } }),
        ),
    ] {
        let received = receive("/v1/batch", message(traits)).unwrap();
        assert!(received.rejected[0].message.ends_with("the refusal of consent in it was taken"));
        assert_eq!(object(&received.events[0].traits), kept);
    }
}
