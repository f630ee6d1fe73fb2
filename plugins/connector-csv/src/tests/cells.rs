//! Cells that say less than they seem to: errors of formulas, years of two digits, hours that clocks skip or show twice.

use super::*;

/// 2026-11-27T12:00:00Z, when these files are read.
const NOW: i64 = 1_795_780_800_000;

fn receive_now(config: &Value, body: &str) -> Received {
    testing::with_config(config, || {
        let mut request = Request::post("/api/v1/sources/in_1/records", body.as_bytes());
        request.received_at = NOW;
        Csv::receive(request).unwrap()
    })
}

fn traits(event: &Event) -> Value {
    serde_json::from_str(&event.traits).unwrap_or_default()
}

/// The error of a formula is no name, no fact and no part of one, in whatever language the sheet was saved.
#[test]
fn a_cell_with_an_error_is_empty() {
    let config = json!({
        "kind": "identify", "identifiers": { "user_id": "shop-{id}", "email": "mail" },
        "traits": { "city": "city", "n": { "column": "n", "type": "number" }, "born": { "column": "born", "type": "date" } },
    });
    for error in
        ["#N/A", "#NV", "#WERT!", "#BEZUG!", "#REF!", "#DIV/0!", "#NAME?", "#ZAHL!", "#NULL!", "#VALEUR!", "Err:502"]
    {
        let body =
            format!("id,mail,city,n,born\n{error},a@b.example,{error},{error},{error}\n7,{error},Rome,5,1985-11-30\n");
        let received = receive_now(&config, &body);
        assert_eq!(received.rejected, [], "{error}");
        assert_eq!(ids(&received.events[0]), [("email", "a@b.example")], "{error}");
        assert_eq!(received.events[0].traits, "", "{error}");
        assert_eq!(ids(&received.events[1]), [("user_id", "shop-7")], "{error}");
        let told = note(&received, "errors").unwrap();
        assert!(told.starts_with(&format!("5 cells hold the error of a formula, such as `{error}`")), "{told}");
    }
    let of_nobody = receive_now(&config, "id,mail,city,n,born\n#NV,#NV,Rome,,\n");
    assert_eq!(codes(&of_nobody.rejected), [(2, "missing-identifier")]);
    let consent = json!({ "kind": "identify", "identifiers": { "user_id": "id" }, "consent": { "news": "c" } });
    let refuses = receive_now(&consent, "id,c\n1,#REF!\n");
    assert_eq!(traits(&refuses.events[0]), json!({ "consent": { "news": "#REF!" } }), "what cannot be read refuses");
    let words = receive_now(&config, "id,mail,city,n,born\n1,,#VIP!,,\n");
    assert_eq!((traits(&words.events[0]), note(&words, "errors")), (json!({ "city": "#VIP!" }), None));
}

/// Every year of two digits, in every form: none is to come.
#[test]
fn a_year_of_two_digits_is_none_to_come() {
    let config = json!({
        "kind": "identify", "identifiers": { "user_id": "u" },
        "traits": { "born": { "column": "b", "type": "date", "order": "day-first", "formats": ["auto", "%d|%m|%y"] } },
    });
    for year in 0..100_i64 {
        let expected = if year <= 26 { 2000 + year } else { 1900 + year };
        for text in [
            format!("24.12.{year:02}"),
            format!("24/12/{year:02}"),
            format!("24 Dec {year:02}"),
            format!("24|12|{year:02}"),
        ] {
            let received = receive_now(&config, &format!("u;b\n1;{text}\n"));
            assert_eq!(traits(&received.events[0])["born"], json!(format!("{expected}-12-24")), "{text}");
            let told = note(&received, "column b").is_some_and(|note| note.contains("of the century before"));
            assert_eq!(told, (27..69).contains(&year), "{text}: {:?}", received.notes);
        }
    }
    for (text, day) in [("24.12.2045", "2045-12-24"), ("2045-12-24", "2045-12-24"), ("20451224", "2045-12-24")] {
        let received = receive_now(&config, &format!("u;b\n1;{text}\n"));
        assert_eq!(traits(&received.events[0])["born"], json!(day), "{text}");
    }
    let time = json!({ "kind": "identify", "identifiers": { "user_id": "u" }, "time": { "column": "t", "zone": "Europe/Berlin" } });
    let received = receive_now(&time, "u;t\n1;15.06.30 10:00\n");
    assert_eq!(received.events[0].time, kith_plugin_sdk::time::parse_rfc3339("1930-06-15T09:00:00Z"));
    assert!(note(&received, "column t").unwrap().contains("`15.06.30 10:00`, which is 1930"), "{:?}", received.notes);
}

/// An hour that no clock showed, and one that two did, are told; those beside them and times with an offset are not.
#[test]
fn odd_hours_are_told() {
    let config = json!({
        "event": { "name": "A" }, "identifiers": { "user_id": "u" }, "time": { "column": "t", "zone": "Europe/Berlin" },
        "properties": { "due": { "column": "d", "type": "time" }, "day": { "column": "d2", "type": "date" } },
    });
    for (text, skipped, doubled) in [
        ("2026-03-29 01:59", 0, 0),
        ("2026-03-29 02:00", 1, 0),
        ("2026-03-29 02:30", 1, 0),
        ("29.03.2026 02:59:59", 1, 0),
        ("2026-03-29 03:00", 0, 0),
        ("2026-10-25 01:59", 0, 0),
        ("2026-10-25 02:00", 0, 1),
        ("2026-10-25T02:30", 0, 1),
        ("2026-10-25 03:00", 0, 0),
        ("2026-10-25 02:30 +0200", 0, 0),
        ("2026-03-29T02:30Z", 0, 0),
    ] {
        let received = receive_now(&config, &format!("u,t,d,d2\n1,{text},{text},2026-03-29\n"));
        for column in ["t", "d"] {
            let told = note(&received, &format!("column {column}")).unwrap_or_default();
            assert_eq!(told.contains("times that no clock showed"), skipped == 1, "{text}: {told}");
            assert_eq!(told.contains("times that clocks showed twice"), doubled == 1, "{text}: {told}");
        }
        assert_eq!(note(&received, "column d2"), None);
    }
}
