//! What answers mean, and what becomes of records.

use super::*;

#[test]
fn a_record_becomes_an_event_digit_by_digit() {
    let config = config(&json!({
        "identifiers": { "user_id": "customer.id", "email": ["email", "customer.emails"] },
        "event": { "path": "status", "rename": { "paid": "Order Completed" } },
        "version": "updated", "time": { "path": "created", "zone": "+01:00" },
        "properties": { "total": "total", "sku": "lines.0.sku" }, "traits": ["customer.vip"],
    }));
    let body = r#"{"items":[{"id":5001.0,"status":"paid","total":129.90000000000000001,"updated":17,"created":"2026-11-03 11:00:00",
        "email":"a@b.c","customer":{"id":12345678901234567890123,"emails":["a@b.c","d@e.f",null],"vip":true},"lines":[{"sku":"x"}]}]}"#;
    let page = page(&config, text(body));
    let [event] = &page.events[..] else { panic!("{page:?}") };
    assert_eq!((event.kind, event.name.as_str()), (EventKind::Track, "Order Completed"));
    assert_eq!(event.message_id.as_deref(), Some("orders/5001@17"));
    assert_eq!(event.time, Some(1_793_700_000_000));
    let expected = [
        Identifier::new("email", "a@b.c"),
        Identifier::new("email", "d@e.f"),
        Identifier::new("user_id", "12345678901234567890123"),
    ];
    assert_eq!(event.identifiers, expected);
    assert_eq!(event.properties, r#"{"sku":"x","total":129.90000000000000001}"#);
    assert_eq!(event.traits, r#"{"vip":true}"#);
    assert_eq!(event.attributes, [("at".to_owned(), "0".to_owned())]);
    assert!(event.flags.is_empty(), "{:?}", event.flags);
}

#[test]
fn all_of_a_person_is_facts_but_what_is_left_out() {
    let config = config(&json!({ "kind": "identify", "event": {}, "omit": ["secret", "address.door"] }));
    let body = r#"{"items":[{"id":1,"customer":"c","secret":"x","big":1e400,"address":{"door":1,"town":"B"}}]}"#;
    let page = page(&config, text(body));
    let [event] = &page.events[..] else { panic!("{page:?}") };
    assert_eq!((event.kind, event.name.as_str(), event.properties.as_str()), (EventKind::Identify, "", ""));
    assert_eq!(event.traits, r#"{"id":1,"customer":"c","big":1e400,"address":{"town":"B"}}"#);
    assert_eq!(event.flags, ["number-too-large:big"]);
}

#[test]
fn consent_is_what_is_mapped_and_nothing_else() {
    let identify =
        json!({ "kind": "identify", "event": {}, "consent": { "news": "letters", "*@phone": "!do_not_call" } });
    let config = config(&identify);
    let body = r#"{"items":[{"id":1,"customer":"c","Consent":"x","letters":true,"do_not_call":true},{"id":2,"customer":"d"},{"id":3}]}"#;
    let page = page(&config, text(body));
    assert_eq!(
        page.events[0].traits,
        r#"{"id":1,"customer":"c","letters":true,"do_not_call":true,"consent":{"*@phone":false,"news":true}}"#
    );
    assert_eq!(page.events[1].traits, r#"{"id":2,"customer":"d"}"#);
    assert!(page.rejected[0].message.ends_with("; what it says of consent was not taken"), "{:?}", page.rejected);
}

#[test]
fn without_a_version_what_a_record_says_is_its_version() {
    let config = config(&json!({}));
    let id = |record: &str| page(&config, text(&format!(r#"{{"items":[{record}]}}"#))).events[0].message_id.clone();
    let first = id(r#"{"id":1,"customer":"c","total":10}"#);
    assert_eq!(id(r#"{ "total": 10.0, "customer": "c", "id": 1 }"#), first, "written in another way");
    assert_ne!(id(r#"{"id":1,"customer":"c","total":11}"#), first);
    assert!(first.unwrap().starts_with("orders/1@"));
}

#[test]
fn records_that_cannot_be_events_are_set_aside_and_the_others_go_on() {
    let config = config(&json!({
        "event": { "path": "what" }, "version": "v", "time": { "path": "at", "format": "unix" },
    }));
    let long = format!(r#"{{"id":1,"x":"{}"}}"#, "x".repeat(300 * 1024));
    for (record, code, words) in [
        ("7", "not-an-object", "JSON object"),
        ("null", "not-an-object", "JSON object"),
        (r#"{"id":1,"customer":"c","what":"W"}"#, "missing-time", "`at`"),
        (r#"{"id":1,"customer":"c","what":"W","at":"soon"}"#, "bad-time", "soon"),
        (r#"{"id":1,"customer":"c","what":"W","at":99999999999999999}"#, "bad-time", "999"),
        (r#"{"id":1,"customer":"c","at":1}"#, "missing-event-name", "`what`"),
        (r#"{"id":1,"customer":null,"what":"W","at":1}"#, "missing-identifier", "customer"),
        (r#"{"id":1,"customer":{"a":1},"what":"W","at":1}"#, "missing-identifier", "customer"),
        (r#"{"id":1,"customer":4.9e12,"what":"W","at":1}"#, "missing-identifier", "customer"),
        (r#"{"customer":"c","what":"W","at":1}"#, "missing-id", "`id`"),
        (r#"{"id":true,"customer":"c","what":"W","at":1}"#, "missing-id", "`id`"),
        (r#"{"id":1 "customer":"c"}"#, "unreadable-json", "cannot be read"),
        (long.as_str(), "record-too-long", "262144"),
    ] {
        let fine = r#"{"id":2,"customer":"c","what":"W","at":1}"#;
        let page = page(&config, text(&format!(r#"{{"items":[{fine},{record},{fine}]}}"#)));
        let shown = &record[..record.len().min(80)];
        assert_eq!(page.events.len(), 1, "{shown}: the same record twice is one event");
        let [rejected] = &page.rejected[..] else { panic!("{shown}: {:?}", page.rejected) };
        assert_eq!((rejected.place, rejected.code.as_str()), (1, code), "{shown}");
        assert!(rejected.message.contains(words), "{shown}: {}", rejected.message);
        assert!(rejected.raw.starts_with(&record[..record.len().min(1_000)]), "{shown}");
    }
}

#[test]
fn an_id_that_comes_twice_with_other_content_is_set_aside() {
    let config = config(&json!({ "version": "v" }));
    let body =
        r#"{"items":[{"id":1,"v":1,"customer":"c"},{"id":1,"v":1,"customer":"d"},{"id":1,"v":2,"customer":"d"}]}"#;
    let page = page(&config, text(body));
    assert_eq!(page.events.len(), 2);
    assert_eq!((page.rejected[0].place, page.rejected[0].code.as_str()), (1, "duplicate-id"));
}

#[test]
fn a_record_that_corrects_an_earlier_one_has_its_id() {
    let mut config = config(&json!({ "since": { "parameter": "since", "field": "v" } }));
    config["upsert"] = json!(true);
    let page = page(&config, text(r#"{"items":[{"id":1,"v":1,"customer":"c"},{"id":1,"v":2,"customer":"c"}]}"#));
    let ids: Vec<_> = page.events.iter().filter_map(|event| event.message_id.as_deref()).collect();
    assert_eq!(ids, ["orders/1", "orders/1"]);
}

#[test]
fn a_bad_status_is_later_or_for_good_with_what_to_do() {
    let config = config(&json!({}));
    for (status, is_later, words) in [
        (301, false, "redirects are not followed (to https://new.example/)"),
        (304, false, "redirects"),
        (400, false, "`query`"),
        (401, false, "--secret token="),
        (403, false, "right to read"),
        (404, false, "correct `url` or `path`"),
        (408, true, "later"),
        (410, false, "gone"),
        (422, false, "`query`"),
        (425, true, "later"),
        (429, true, "later"),
        (500, true, "fails"),
        (503, true, "fails"),
        (199, true, "not the status"),
    ] {
        let response =
            Response::new(status).with_header("location", "https://new.example/?key=k").with_body("no\u{7}pe");
        let failure = failure(&config, response);
        assert_eq!(matches!(failure, PollFailure::Later { .. }), is_later, "{status}");
        let said = failure.to_string();
        assert!(said.contains("`orders`: status") && said.contains(words), "{status}: {said}");
        // Who refuses a key may repeat it.
        assert_eq!(said.ends_with("no pe"), !matches!(status, 401 | 403), "{status}: {said}");
        assert!(!said.contains("key=k"), "{status}: {said}");
    }
}

#[test]
fn retry_after_is_kept_to() {
    let config = config(&json!({}));
    for (status, value, expected) in [
        (429, "30", Some(30)),
        (503, "Fri, 15 Jan 2027 08:01:00 GMT", Some(60)),
        (429, "soon", None),
        (500, "7", Some(7)),
    ] {
        let failure = failure(&config, Response::new(status).with_header("Retry-After", value));
        assert_eq!(failure.after_seconds(), expected, "{status} {value}");
    }
}

#[test]
fn no_answer_is_later_unless_it_is_refused_here() {
    for (error, is_later, words) in [
        (Error::Timeout("10 s".to_owned()), true, "10 s"),
        (Error::Connection("broken".to_owned()), true, "broken"),
        (Error::Denied("not granted".to_owned()), false, "--grant-http"),
        (Error::TooLarge("8 MiB".to_owned()), false, "smaller pages"),
    ] {
        let failure = ask(&config(&json!({})), None, Err(error)).0.unwrap_err();
        assert_eq!(matches!(failure, PollFailure::Later { .. }), is_later, "{failure}");
        assert!(failure.to_string().contains(words), "{failure}");
    }
}

#[test]
fn what_is_no_json_or_ends_too_early_is_asked_for_again() {
    let config = config(&json!({}));
    for (body, words) in [
        ("<html>down for maintenance</html>", "down for maintenance"),
        ("", "is no JSON object or list"),
        ("true", "is no JSON object or list"),
        (r#"{"items":[{"id":1,"customer":"c"},{"id":"#, "no whole JSON document"),
        (r#"{"items":[{"id":1,"customer":"c"}]"#, "no whole JSON document"),
        (r#"{"items":["#, "no whole JSON document"),
        (r#"{"items":[]}{"items":[]}"#, "no whole JSON document"),
        (r#"{"items":[]} <!-- 3 ms -->"#, "no whole JSON document"),
    ] {
        let failure = failure(&config, text(body));
        assert!(matches!(failure, PollFailure::Later { .. }), "{body}: {failure}");
        assert!(failure.to_string().contains(words), "{body}: {failure}");
    }
    let html = Response::new(200).with_header("content-type", "text/html").with_body("<p>");
    assert!(failure(&config, html).to_string().contains("(text/html)"));
    // What is JSON is read, whatever it is called, and with a mark before it.
    let odd = Response::new(200).with_header("content-type", "text/plain").with_body("\u{feff}{\"items\":[]}\n");
    assert_eq!(page(&config, odd).events.len(), 0);
    let cut = PollAnswer { truncated: true, ..PollAnswer::new(Ok(text(r#"{"items":[]}"#))) };
    let wanted = Wanted { now: NOW, ..Wanted::default() };
    let turn = testing::with_config(&config, || HttpPull::polled(&wanted, vec![cut]));
    assert!(matches!(turn, Err(PollFailure::Later { reason, .. }) if reason.contains("smaller pages")));
}

#[test]
fn a_page_without_its_list_is_for_good_and_says_which_lists_there_are() {
    for (records, body, words) in [
        (
            "items",
            r#"{"orders":[],"pages":[1],"total":2}"#,
            "nothing at `items` (`records`); there are lists at `orders`, `pages`",
        ),
        ("items", r#"{"items":{"a":[]},"x":1}"#, "no list at `items`"),
        ("items", r#"{"error":"quota"}"#, "it begins with {\"error\":\"quota\"}"),
        (
            "",
            r#"{"orders":[]}"#,
            "is an object and no list; set `records` to the path of the list; there are lists at `orders`",
        ),
    ] {
        let failure = failure(&config(&json!({ "records": records })), text(body));
        assert!(matches!(&failure, PollFailure::Permanent(why) if why.contains(words)), "{body}: {failure}");
    }
    let pages = config(&json!({ "paging": { "style": "page" } }));
    let (first, _) = ask(&pages, None, Ok(answer(&orders([1]))));
    let (second, _) = ask(&pages, Some(&first.unwrap().cursor), Ok(text(r#"{"error":"quota"}"#)));
    assert!(matches!(second, Err(PollFailure::Later { reason, .. }) if reason.contains("quota")), "it worked before");
    let whole = config(&json!({ "records": "" }));
    assert_eq!(page(&whole, text(r#"[{"id":1,"customer":"c"}]"#)).events.len(), 1);
}

#[test]
fn nothing_is_sent_to_it() {
    let refused = HttpPull::receive(Request::post("/v1/batch", "{}")).unwrap_err();
    assert_eq!((refused.status, refused.code.as_str()), (404, "no-push"));
}

#[test]
fn a_record_that_was_set_aside_is_read_again_where_one_resource_can_be_meant() {
    let mut config = config(&json!({ "version": "v" }));
    let again = |config: &Value, record: &str| {
        let request = Request::post("poll", record).as_replay();
        testing::with_config(config, || HttpPull::receive(request)).unwrap()
    };
    let received = again(&config, r#"{"id":1,"v":2,"customer":"c"}"#);
    assert_eq!(received.events[0].message_id.as_deref(), Some("orders/1@2"));
    let received = again(&config, r#"{"id":1,"v":2}"#);
    assert_eq!((received.events.len(), received.rejected[0].code.as_str()), (0, "missing-identifier"));
    let mut second = config["resources"][0].clone();
    second["name"] = json!("contacts");
    second["identifiers"] = json!({ "email": "email" });
    config["resources"].as_array_mut().unwrap().push(second);
    // An order that lacks its customer is no contact, whoever could read it.
    for record in [r#"{"id":1,"v":2,"email":"a@b.c"}"#, r#"{"id":1,"v":2,"customer":"c"}"#, "7"] {
        let received = again(&config, record);
        assert_eq!((received.events.len(), received.rejected[0].code.as_str()), (0, "several-resources"), "{record}");
        assert!(received.rejected[0].message.contains("--from-start"), "{record}");
    }
}

#[test]
fn a_configuration_that_does_not_read_is_for_good() {
    let (page, _) = testing::Host::new().config(json!({ "url": "https://x" })).poll::<HttpPull>(None);
    assert!(matches!(page, Err(PollFailure::Permanent(why)) if why.contains("resources")));
}
