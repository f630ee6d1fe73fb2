//! Files as the world writes them, through the server and the command line: what a dry run shows is what an import stores.

use kith_tests::{TestKernel, kith};
use serde_json::{Value, json};

fn orders() -> Value {
    json!({
        "identifiers": { "user_id": "Kunde", "email": "E-Mail" }, "event": { "name": "Order Completed" },
        "properties": { "total": { "column": "Betrag", "type": "number" }, "note": "Notiz" },
        "time": { "column": "Datum", "zone": "Europe/Berlin" }, "message_id": "Nr",
    })
}

/// As Excel writes it in Germany.
const FILE: &str = "sep=;\r\nNr;Kunde;E-Mail;Betrag;Datum;Notiz\r\n\
    1;ada;Ada@Example.com;1.234;05.01.2026 10:00;Gr\u{fc}\u{df}e aus K\u{f6}ln\r\n\
    2;eve;eve@example.com;1.234,50 \u{20ac};05.07.2026 10:00;\r\n\
    3;bob;;zw\u{f6}lf;05.07.2026 10:00;\r\n\
    4;;;1;05.07.2026 10:00;\r\n";

fn windows_1252(text: &str) -> Vec<u8> {
    text.chars().map(|letter| if letter == '€' { 0x80 } else { u8::try_from(u32::from(letter)).unwrap() }).collect()
}

#[test]
fn a_dry_run_shows_what_an_import_stores_and_stores_nothing() {
    let kernel = TestKernel::start();
    kernel.install("kith/csv", json!({ "name": "shop", "config": orders() }));
    let (admin, body) = (kernel.admin(), windows_1252(FILE));
    let send = |path: &str| admin.send("POST", path, &[("content-type", "text/csv")], body.clone());
    let shown = send("/api/v1/sources/shop/records?dry_run=true").is(200);
    assert_eq!(
        (&shown["dry_run"], &shown["event_count"], &shown["rejected_count"]),
        (&json!(true), &json!(2), &json!(2))
    );
    assert_eq!(shown["rejected_codes"], json!({ "bad-number": 1, "missing-identifier": 1 }));
    assert_eq!(shown["writing_audiences"], json!([]));
    assert_eq!((&shown["rejected"][0]["line"], &shown["rejected"][1]["line"]), (&json!(5), &json!(6)));
    let first = &shown["events"][0];
    assert_eq!(first["time"], "2026-01-05T09:00:00.000Z");
    assert_eq!(first["properties"], json!({ "total": 1234, "note": "Grüße aus Köln" }));
    assert_eq!(shown["events"][1]["time"], "2026-07-05T08:00:00.000Z");
    let note = |answer: &Value, name: &str| -> String {
        let notes = answer["notes"].as_array().unwrap();
        let note =
            notes.iter().find(|note| note["name"] == name).unwrap_or_else(|| panic!("no note `{name}`: {notes:?}"));
        note["note"].as_str().unwrap().to_owned()
    };
    assert!(note(&shown, "encoding").starts_with("windows-1252, a guess"), "{shown}");
    assert_eq!(note(&shown, "delimiter"), "`;`");
    assert!(note(&shown, "column Betrag").starts_with("decimal comma, as in `1.234,50 €`"), "{shown}");
    kernel.settle();
    assert!(kernel.find("user_id:ada").is_none(), "a dry run stores nothing");
    assert!(kith_tests::pages(&admin, "/api/v1/dead-letters", 50).is_empty(), "and keeps nothing aside");

    let stored = send("/api/v1/sources/shop/records").is(200);
    assert_eq!((&stored["accepted"], &stored["rejected_count"]), (&json!(2), &json!(2)));
    assert_eq!(stored["notes"], shown["notes"]);
    let event = &kernel.events("user_id:ada")[0];
    assert_eq!((&event["properties"], &event["time"]), (&first["properties"], &first["time"]));

    send("/api/v1/sources/shop/records?dry_run=ture").is_problem(400, "bad-query");
    let archive = admin.send("POST", "/api/v1/sources/shop/records", &[], b"PK\x03\x04 and so on".as_slice());
    let problem = archive.is_problem(415, "not-text");
    assert!(problem["message"].as_str().unwrap().contains("ZIP"), "{problem}");
}

#[test]
fn the_command_line_shows_a_dry_run_and_fails_where_rows_would_be_rejected() {
    let kernel = TestKernel::start();
    kernel.install("kith/csv", json!({ "name": "shop", "config": orders() }));
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("orders.csv");
    let run = |text: &str| {
        std::fs::write(&file, text).unwrap();
        let mut command = std::process::Command::new(kith());
        command.args(["--url", kernel.url(), "--key", kith_tests::ADMIN_KEY, "import"]);
        command.arg(&file).args(["--source", "shop", "--dry-run"]).output().unwrap()
    };
    let output = run(FILE);
    let said = String::from_utf8(output.stdout).unwrap();
    assert_eq!(output.status.code(), Some(2), "{said}");
    for word in [
        "delimiter: `;`",
        "decimal comma",
        "2026-01-05T09:00:00.000Z",
        "email:Ada@Example.com",
        "bad-number",
        "2 events would be stored",
    ] {
        assert!(said.contains(word), "no `{word}` in {said}");
    }
    let good = FILE.lines().take(4).collect::<Vec<_>>().join("\n");
    assert_eq!(run(&good).status.code(), Some(0));
    let ambiguous = "Nr;Kunde;E-Mail;Betrag;Datum;Notiz\n1;ada;;1.234;05.01.2026;\n";
    let output = run(ambiguous);
    assert_eq!(output.status.code(), Some(2));
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.contains("ambiguous-number") && said.contains("set `decimal`"), "{said}");
    kernel.settle();
    assert!(kernel.find("user_id:ada").is_none(), "nothing of it was stored");
}

/// Days alone tell no order within a day; the rows do, also where the file is read in several pieces.
#[test]
fn of_two_rows_of_one_day_the_lower_one_is_newer() {
    let kernel = TestKernel::start();
    let config = json!({
        "identifiers": { "user_id": "who" }, "event": { "name": "Visited" }, "time": { "column": "day" },
        "traits": { "row": { "column": "row", "type": "number" } },
        "properties": { "row": { "column": "row", "type": "number" }, "note": "note" },
    });
    kernel.install("kith/csv", json!({ "name": "shop", "config": config }));
    let rows = 6_000;
    let note = "x".repeat(90);
    let lines = (0..rows).map(|row| format!("u{},2026-03-01,{row},{note}\n", row % 7));
    let file: String = std::iter::once("who,day,row,note\n".to_owned()).chain(lines).collect();
    let admin = kernel.admin();
    let path = "/api/v1/sources/shop/records";
    assert_eq!(admin.send("POST", path, &[("content-type", "text/csv")], file).is(200)["accepted"], rows);
    kernel.settle();
    for person in 0..7 {
        let last = (0..rows).rev().find(|row| row % 7 == person).unwrap();
        let profile = kernel.find(&format!("user_id:u{person}")).unwrap();
        assert_eq!(profile["traits"]["row"]["value"], last, "{profile}");
        let condition = format!("events('Visited').last().row == {last} && events('Visited').first().row == {person}");
        assert_eq!(kernel.count(&condition), 1, "{condition}");
    }
}
