//! Files as odd senders write them: rows of nothing, ids of data frames, lists in objects, years in front.

use super::*;

fn people(received: &Received) -> Vec<&str> {
    received.events.iter().map(|event| event.identifiers[0].value.as_str()).collect()
}

fn simple(more: Value) -> Value {
    let mut config = json!({ "event": { "name": "E" }, "identifiers": { "user_id": "id" } });
    config.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    config
}

/// The same in one piece and in pieces of every size.
fn in_every_cut(config: &Value, body: &str) -> (Vec<Event>, Vec<Rejected>) {
    let whole = receive_in_pieces(config, body.as_bytes(), &[]);
    for step in [1, 7, 199, 200, 201] {
        let cuts: Vec<usize> = (0..body.len()).step_by(step).collect();
        assert_eq!(receive_in_pieces(config, body.as_bytes(), &cuts), whole, "pieces of {step}: {body}");
    }
    whole
}

/// Rows of which every cell is empty are nothing, wherever they stand and however they are written.
#[test]
fn rows_without_a_value_are_skipped_and_counted() {
    let config = simple(json!({ "properties": ["a", "b"] }));
    for blank in [",,", ",,,,", "\"\",\"\",\"\"", " , ,", "\"\",,", "", "  ", "\t,,"] {
        for end in ["\n", "\r\n"] {
            let body = [blank, "id,a,b", blank, "1,x,y", blank, blank, "2,,", blank].join(end);
            let received = receive(&config, body.as_str()).unwrap();
            assert_eq!(received.rejected, [], "{body:?}");
            assert_eq!(people(&received), ["1", "2"], "{body:?}");
            let told = note(&received, "blank rows").unwrap();
            assert!(told.starts_with(if blank.is_empty() { "3 " } else { "4 " }), "{body:?}: {told}");
            in_every_cut(&config, &body);
        }
    }
    let some = receive(&config, "id,a,b\n,x,\n1,,\n").unwrap();
    assert_eq!((people(&some), codes(&some.rejected)), (vec!["1"], vec![(2, "missing-identifier")]));
    assert_eq!(note(&some, "blank rows"), None);
    let only = receive(&config, "id;a;b\n;;\n;;\n").unwrap();
    assert_eq!((only.events.len(), only.rejected.len()), (0, 0));
    assert_eq!(note(&only, "rows"), Some("the file has a header line and no rows"));
}

/// What spreadsheets write so that a number stays a text is that text.
#[test]
fn a_formula_that_is_a_text_is_the_text() {
    let config = simple(json!({ "properties": { "zip": "zip", "n": { "column": "n", "type": "number" } } }));
    for (cell, expected) in [
        ("=\"00123\"", "00123"),
        ("\"=\"\"00123\"\"\"", "00123"),
        ("=\"a b\"", "a b"),
        ("\"=\"\"say \"\"\"\"hi\"\"\"\"\"\"\"", "say \"hi\""),
        ("=1+1", "=1+1"),
        ("=\"a\"&\"b\"", "=\"a\"&\"b\""),
    ] {
        let body = format!("id,zip,n\n{cell},{cell},=\"12.5\"\n");
        let received = receive(&config, body).unwrap();
        assert_eq!(received.rejected, [], "{cell}");
        assert_eq!(people(&received), [expected], "{cell}");
        let properties: Value = serde_json::from_str(&received.events[0].properties).unwrap();
        assert_eq!(properties, json!({ "zip": expected, "n": 12.5 }), "{cell}");
    }
}

/// `5001` and `5001.0` are one person and one row; an id whose digits a spreadsheet has cut is nobody's.
#[test]
fn an_id_is_the_same_with_and_without_the_point_of_a_data_frame() {
    let config = simple(json!({ "message_id": "row-{row}" }));
    for id in [0_u64, 1, 7, 10, 5001, 123_456_789_012, u64::MAX] {
        for float in [format!("{id}.0"), format!("{id}.00"), format!("\"{id}.0\"")] {
            let received = receive(&config, format!("id,row\n{id},{id}\n{float},{float}\n")).unwrap();
            let plain = id.to_string();
            assert_eq!(people(&received), [&plain, &plain], "{float}");
            assert_eq!(received.events[0].message_id, received.events[1].message_id, "{float}");
            assert!(note(&received, "column id").unwrap().contains("taken as the whole number"), "{float}");
        }
    }
    for other in ["007.0", "1.5", "1.0a", "v1.0", "1.0.0", ".0", "5.", "-5.0", "1e5", "12E5", "5e12", "a.0"] {
        let received = receive(&config, format!("id,row\n{other},1\n")).unwrap();
        assert_eq!((people(&received), received.rejected.len()), (vec![other], 0), "{other}");
    }
    let json =
        receive(&config, "{\"id\":5001.0,\"row\":1.0}\n{\"id\":5001,\"row\":2}\n{\"id\":\"5001.0\",\"row\":3}\n")
            .unwrap();
    assert_eq!(people(&json), ["5001", "5001", "5001"]);
    for cut in ["4.91512E+12", "1.23E+11", "\"4,91512E+12\"", "1E+15", "9.2E+100"] {
        let received = receive(&config, format!("id,row\n{cut},1\n1,{cut}\n")).unwrap();
        assert_eq!(codes(&received.rejected), [(2, "lost-digits"), (3, "lost-digits")], "{cut}");
        assert!(received.rejected[0].message.starts_with("column `id`: "), "{}", received.rejected[0].message);
    }
}

/// Rows end with CR alone, whatever stands inside of quotes.
#[test]
fn carriage_returns_end_rows_that_hold_line_feeds() {
    let config = simple(json!({ "properties": ["note"] }));
    for inside in ["two\nlines", "\n", "a\r\nb", "\n\n", "a \"\"b\"\"\nc"] {
        let body = format!("id,note\r1,\"{inside}\"\r2,plain\r3,\"{inside}\"");
        let (events, rejected) = in_every_cut(&config, &body);
        assert_eq!((events.len(), rejected.len()), (3, 0), "{body:?}");
        let note: Value = serde_json::from_str(&events[0].properties).unwrap();
        assert_eq!(note["note"], json!(inside.replace("\"\"", "\"")), "{body:?}");
    }
    let feeds = receive(&config, "id,note\n1,\"a\rb\"\n2,x\n").unwrap();
    assert_eq!((people(&feeds), feeds.rejected.len()), (vec!["1", "2"], 0));
}

/// An object with one array of objects is that array's rows; with several it says which, and the setting chooses.
#[test]
fn an_object_around_the_rows_is_opened() {
    let config = simple(json!({ "properties": ["x"] }));
    let rows: Vec<String> = (1..=9).map(|id| format!("{{\"id\":{id},\"x\":{{\"l\":[{{\"id\":0}}]}}}}")).collect();
    let list = format!("[{}]", rows.join(",\n "));
    for (name, body) in [
        ("data", format!("{{\"data\":{list}}}")),
        ("records", format!("{{\n  \"records\": {list}\n}}\n")),
        (
            "orders",
            format!(
                "{{\"total\":9,\"next\":null,\"tags\":[\"a\"],\"meta\":{{\"id\":\"q\"}},\"orders\":{list},\"ok\":true,\"errors\":[]}} \n"
            ),
        ),
        ("data.orders", format!("{{\"data\":{{\"n\":1,\"orders\":{list},\"page\":{{\"a\":[1]}}}},\"ok\":\"]}}\"}}")),
        ("a.b.c", format!("\u{feff}{{\"a\":{{\"b\":{{\"c\":{list}}}}}}}")),
    ] {
        let (events, rejected) = in_every_cut(&config, &body);
        assert_eq!((events.len(), &rejected[..]), (9, &[][..]), "{body}");
        let received = receive(&config, body.as_str()).unwrap();
        let told = note(&received, "rows").unwrap();
        assert!(told.contains(&format!("`{name}`")), "{told}");
        // Cut anywhere behind the first row it is said to be cut.
        let first = body.find("\"id\":1").unwrap();
        for end in (first..body.trim_end().len()).step_by(11) {
            let cut = receive(&config, body.as_bytes()[..body.floor_char_boundary(end)].to_vec()).unwrap();
            assert!(!cut.rejected.is_empty(), "{}", &body[..end]);
        }
    }
    for body in [
        format!("{{\"orders\":{list},\"refunds\":{list}}}"),
        format!("{{\"refunds\":[{{\"id\":1}}],\"more\":{{\"orders\":{list}}}}}"),
    ] {
        let rejection = receive(&config, body.as_str()).unwrap_err();
        assert_eq!((rejection.status, rejection.code.as_str()), (400, "several-arrays"));
        assert!(
            rejection.message.contains("orders`") && rejection.message.contains("`refunds`"),
            "{}",
            rejection.message
        );
        let mut chosen = config.clone();
        chosen["rows"] = json!(if body.contains("more") { "more.orders" } else { "orders" });
        assert_eq!(in_every_cut(&chosen, &body).0.len(), 9, "{body}");
        chosen["rows"] = json!("nothing");
        assert_eq!(receive(&chosen, body).unwrap_err().code, "no-rows");
    }
    // An object that names somebody is a record, whatever lists it has; so are lines.
    for body in ["{\"id\":7,\"x\":[{\"id\":1},{\"id\":2}]}", "{\"x\":[{\"id\":1}],\"id\":7}\n"] {
        assert_eq!(people(&receive(&config, body).unwrap()), ["7"], "{body}");
    }
    let lines = receive(&config, "{\"x\":[{\"id\":1}]}\n{\"id\":7}\n").unwrap();
    assert_eq!((people(&lines), codes(&lines.rejected)), (vec!["7"], vec![(1, "missing-identifier")]));
    let none = receive(&config, "{\"data\":[]}").unwrap();
    assert_eq!((none.events.len(), none.rejected.len()), (0, 0));
    let cut = receive(&config, "[{\"id\":1},{\"id\":2}").unwrap();
    assert_eq!((cut.events.len(), codes(&cut.rejected)), (2, vec![(1, "invalid-json")]));
}

/// The second array of a file that is longer than what is looked at first is found all the same.
#[test]
fn a_second_array_far_behind_is_refused() {
    let config = simple(json!({}));
    let rows: Vec<String> = (0..100).map(|id| format!("{{\"id\":{id}}}")).collect();
    let body = format!("{{\"orders\":[{}],\"refunds\":[{{\"id\":1}}]}}", rows.join(","));
    assert!(body.len() > 3 * crate::begin::SAMPLE_BYTES);
    let rejection = receive(&config, body).unwrap_err();
    assert_eq!(rejection.code, "several-arrays");
    assert!(rejection.message.contains("`orders`, `refunds`"), "{}", rejection.message);
}

/// The order of a column is what all of its values can have.
#[test]
fn a_year_in_front_is_read_where_the_column_shows_it() {
    let config = simple(json!({ "time": { "column": "t" } }));
    let read = |values: &[&str], config: &Value| {
        let rows: Vec<String> = values.iter().map(|value| format!("1,{value}\n")).collect();
        receive(config, format!("id,t\n{}", rows.concat())).unwrap()
    };
    let alone = read(&["25-11-20", "25-11-21"], &config);
    assert_eq!(codes(&alone.rejected), [(2, "ambiguous-time"), (3, "ambiguous-time")]);
    let message = &alone.rejected[0].message;
    for words in
        ["column `t`", "2020-11-25 with the day first", "2025-11-20 with the year first", "`day-first` or `year-first`"]
    {
        assert!(message.contains(words), "{words}: {message}");
    }
    assert_eq!(note(&alone, "column t"), Some("2 ambiguous; set its `order` to `day-first` or `year-first`"));
    // One value of another year decides for all.
    let shown = read(&["25-11-20", "99-12-31"], &config);
    assert_eq!(shown.events[0].time, Some(1_763_596_800_000));
    assert_eq!(note(&shown, "column t"), Some("year first, as in `99-12-31`"));
    // Neither of these decides alone, both together do.
    let days = read(&["13/01/26", "01/02/85"], &config);
    assert_eq!((days.events.len(), note(&days, "column t")), (2, Some("day first, as in `13/01/26`")));
    let days = read(&["13/01/26", "31/12/85", "01/02/26"], &config);
    assert_eq!((days.events.len(), note(&days, "column t")), (3, Some("day first, as in `13/01/26`")));
    let mut set = config.clone();
    for (order, day) in [("year-first", 1_763_596_800_000), ("day-first", 1_606_262_400_000)] {
        set["time"]["order"] = json!(order);
        assert_eq!(read(&["25-11-20"], &set).events[0].time, Some(day), "{order}");
    }
    let points = read(&["05.01.26"], &config);
    assert!(note(&points, "column t").unwrap().contains("day first between points, as in `05.01.26`"));
    let korean = read(&["05.01.26", "85.01.26"], &config);
    assert_eq!(korean.events[0].time, Some(1_106_697_600_000), "2005-01-26");
}

#[test]
fn objects_that_are_times_are_read() {
    let config =
        simple(json!({ "time": { "column": "t" }, "properties": { "born": { "column": "b", "type": "date" } } }));
    let body = "{\"id\":1,\"t\":{\"$date\":\"2026-11-01T10:00:00Z\"},\"b\":{\"$date\":{\"$numberLong\":\"1793527200000\"}}}\n{\"id\":1,\"t\":1.7935272E12}\n{\"id\":1,\"t\":{\"x\":1}}\n";
    let received = receive(&config, body).unwrap();
    assert_eq!(codes(&received.rejected), [(3, "bad-text")]);
    assert_eq!((received.events[0].time, received.events[1].time), (Some(BASE), Some(BASE)));
    assert_eq!(received.events[0].properties, "{\"born\":\"2026-11-01\"}");
}

/// Ids with spaces around them are the same records, as their people are the same people.
#[test]
fn a_message_id_is_the_same_with_and_without_spaces() {
    for (template, ids, expected) in
        [("row", ["T1", "T1 ", " T1", "\u{a0}T1\t"], "T1"), ("order-{row}", ["7", "7 ", " 7", "\t7"], "order-7")]
    {
        let rows: String = ids.iter().map(|id| format!("1,\"{id}\"\n")).collect();
        let received = receive(&simple(json!({ "message_id": template })), format!("id,row\n{rows}")).unwrap();
        let found: Vec<Option<&str>> = received.events.iter().map(|event| event.message_id.as_deref()).collect();
        assert_eq!(found, [Some(expected); 4], "{template}");
        let blank = receive(&simple(json!({ "message_id": template })), "id,row\n1,\" \"\n").unwrap();
        assert_eq!(codes(&blank.rejected), [(2, "missing-message-id")], "{template}");
    }
}

/// A spreadsheet keeps fifteen digits of a number, so that two ids that are numbers in a sheet may have become one.
#[test]
fn a_long_id_that_is_a_number_of_a_sheet_has_lost_its_digits() {
    let received = |cell: &str| {
        let config = json!({ "event": { "name": "E" }, "identifiers": { "user_id": "id" }, "message_id": "row" });
        let body = format!("\"id\",\"row\"\n{cell},1\n2,{cell}\n");
        let mut request = Request::post("/records", body);
        request.headers.push(("content-type".to_owned(), "application/vnd.kith.rows+csv".to_owned()));
        testing::with_config(&config, || Csv::receive(request)).unwrap()
    };
    for lost in [
        "1000000000000000",
        "4539578763621486",
        "60300000000000000",
        "-1000000000000000",
        "1234567890123456.5",
        "6.03e16",
    ] {
        assert_eq!(codes(&received(lost).rejected), [(2, "lost-digits"), (3, "lost-digits")], "{lost}");
    }
    for kept in ["999999999999999", "123456789012345", "7", "1234.5", "\"4539578763621486\"", "\"60300000000000001\""] {
        assert_eq!(received(kept).rejected, [], "{kept}");
    }
    let csv = receive(&simple(json!({})), "id\n60300000000000001\n").unwrap();
    assert_eq!(people(&csv), ["60300000000000001"], "a file of text has all of them");
    let json = receive(&simple(json!({})), "{\"id\":60300000000000001}\n").unwrap();
    assert_eq!(people(&json), ["60300000000000001"]);
}

/// What keeps a number from being a formula, or from losing its zeros, is no part of it.
#[test]
fn an_apostrophe_before_a_number_is_the_spreadsheets() {
    let config = simple(json!({ "properties": { "zip": "zip", "n": { "column": "n", "type": "number" } } }));
    for (cell, expected) in [
        ("'+49 171 1234567", "+49 171 1234567"),
        ("'+1 (555) 010-9999", "+1 (555) 010-9999"),
        ("'00123", "00123"),
        ("'-5", "-5"),
        ("\"'+4917\"", "+4917"),
        ("'+", "'+"),
        ("'", "'"),
        ("''5", "''5"),
        ("'90s", "'90s"),
        ("'n Beetje", "'n Beetje"),
        ("5'10", "5'10"),
        ("'=1+1", "'=1+1"),
        ("'+1+2", "'+1+2"),
    ] {
        let received = receive(&config, format!("id,zip,n\n{cell},{cell},'-12.50\n")).unwrap();
        assert_eq!(received.rejected, [], "{cell}");
        assert_eq!(people(&received), [expected], "{cell}");
        let properties: Value = serde_json::from_str(&received.events[0].properties).unwrap();
        assert_eq!((&properties["zip"], &properties["n"]), (&json!(expected), &json!(-12.5)), "{cell}");
    }
}

/// The days between which an ambiguous date stands are those that are written, wherever its clocks are.
#[test]
fn an_ambiguous_date_is_told_by_the_days_that_are_written() {
    for zone in ["UTC", "Europe/Berlin", "America/New_York", "Pacific/Apia", "-11:30"] {
        let config = simple(json!({ "time": { "column": "t", "zone": zone } }));
        let received = receive(&config, "id,t\n1,05/06/2026\n").unwrap();
        let message = &received.rejected[0].message;
        assert!(message.contains("2026-06-05 with") && message.contains("2026-05-06 with"), "{zone}: {message}");
    }
}
