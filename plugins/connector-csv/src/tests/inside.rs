//! What stands inside of a record is none, however long the record is and whatever is wrong with it: who fills in a form would write
//! rows of a customer list otherwise.

use super::*;

fn config() -> Value {
    json!({
        "kind": "identify", "identifiers": { "email": "email" }, "message_id": "id", "consent": { "news": "consent" },
        "time": { "column": "t" },
    })
}

/// The people of a file in one piece, which it has in every other cut too, and what was refused.
fn people(body: &str) -> (Vec<String>, Vec<(u64, String)>) {
    let whole = receive_in_pieces(&config(), body.as_bytes(), &[]);
    for step in [4_096, 100_000, MAX_RECORD_BYTES, MAX_RECORD_BYTES + 7] {
        let cuts: Vec<usize> = (0..body.len()).step_by(step).collect();
        assert_eq!(receive_in_pieces(&config(), body.as_bytes(), &cuts), whole, "pieces of {step}");
    }
    let people = whole.0.iter().map(|event| event.identifiers[0].value.clone()).collect();
    (people, whole.1.iter().map(|rejected| (rejected.place, rejected.code.clone())).collect())
}

const HEADER: &str = "id,email,consent,t,note\n";
const FORGED: &str = "666,ceo@x.example,yes,2026-11-01,forged";

fn row(number: usize, note: &str) -> String {
    format!("{number},p{number}@x.example,no,2026-11-01,{note}\n")
}

/// Text with a forged row on every line, at least so long.
fn forged(bytes: usize) -> String {
    format!("Dear customer\n{}", format!("{FORGED}\n").repeat(bytes / FORGED.len() + 1))
}

#[test]
fn a_long_cell_is_one_record_and_reading_goes_on_behind_it() {
    for bytes in [MAX_RECORD_BYTES, MAX_RECORD_BYTES + 40, 2 * MAX_RECORD_BYTES, 5 * MAX_RECORD_BYTES] {
        for end in [
            "\"\n",
            "\"\"\"\n",
            "\" \"\"\n",
            "\" and more\n",
            "\",more\n",
            "\" x,\"again\n666,ceo@x.example,yes,2026-11-01,f\"\n",
        ] {
            let body = format!("{HEADER}{}{}", row(1, "fine"), row(2, &format!("\"{}", forged(bytes))).trim_end());
            let body = format!("{body}{end}{}{}", row(3, "\"two\nlines\""), row(4, "fine"));
            let expected = ["p1@x.example", "p3@x.example", "p4@x.example"].map(str::to_owned).to_vec();
            assert_eq!(people(&body), (expected, vec![(3, "record-too-long".to_owned())]), "{bytes} {end:?}");
        }
    }
}

/// A quote that is never closed: the lines behind it stand in its cell or not, which nobody can tell.
#[test]
fn what_follows_a_quote_that_is_never_closed_is_no_record() {
    for bytes in [0, 1_000, MAX_RECORD_BYTES - 1_000, MAX_RECORD_BYTES + 1_000, 3 * MAX_RECORD_BYTES] {
        let body = format!("{HEADER}{}{}", row(1, "fine"), row(2, &format!("\"{}", forged(bytes))));
        let (found, refused) = people(&body);
        assert_eq!(found, ["p1@x.example"], "{bytes}");
        assert_eq!(refused.last(), Some(&(3, "broken-quoting".to_owned())), "{bytes}: {refused:?}");
    }
}

/// A quote inside of a cell that is not doubled: the record is broken, and reaches as far as its quotes do.
#[test]
fn what_stands_before_a_broken_quote_is_no_record() {
    for between in ["", "\n", "\n\n", &forged(10), &forged(100_000)] {
        let body = format!("{HEADER}{}{}", row(1, &format!("\"Hello{between}\" x")), row(2, "fine"));
        let (found, refused) = people(&body);
        assert_eq!(
            (found, refused),
            (vec!["p2@x.example".to_owned()], vec![(2, "broken-quoting".to_owned())]),
            "{between:?}"
        );
    }
    let one = receive(&config(), format!("{HEADER}{}", row(1, "\"a\nb\" c"))).unwrap();
    assert!(one.rejected[0].message.contains("1 lines further on"), "{}", one.rejected[0].message);
    assert!(one.rejected[0].raw.ends_with("\"a\nb\" c"), "the whole of it can be corrected: {}", one.rejected[0].raw);
}

/// The same of objects over several lines with objects inside of them, too long or never closed.
#[test]
fn an_object_inside_of_a_long_object_is_no_record() {
    let item =
        |number: usize| format!("{{\"id\":\"{number}\",\"email\":\"p{number}@x.example\",\"t\":\"2026-11-01\"}}");
    let inner = "  {\"id\":\"666\",\"email\":\"ceo@x.example\",\"consent\":true,\"t\":\"2026-11-01\"},\n";
    for bytes in [MAX_RECORD_BYTES + 100, 3 * MAX_RECORD_BYTES] {
        let inners = inner.repeat(bytes / inner.len() + 1);
        let long = format!("{{\"id\":\"2\",\"items\":[\n{inners}  0]}}");
        for body in [format!("{}\n{long}\n{}\n", item(1), item(3)), format!("[{},\n{long},\n{}]", item(1), item(3))] {
            let expected = ["p1@x.example", "p3@x.example"].map(str::to_owned).to_vec();
            assert_eq!(people(&body), (expected, vec![(2, "record-too-long".to_owned())]), "{bytes}");
        }
    }
    for count in [1, 100, 10_000] {
        let cut = format!("{}\n{{\"id\":\"2\",\"items\":[\n{}", item(1), inner.repeat(count));
        let (found, refused) = people(&cut);
        assert_eq!(found, ["p1@x.example"], "{count}");
        assert_eq!(refused.last(), Some(&(2, "invalid-json".to_owned())), "{count}: {refused:?}");
        let in_list = format!("[{},\n{{\"id\":\"2\",\"items\":[\n{}", item(1), inner.repeat(count));
        assert_eq!(people(&in_list).0, ["p1@x.example"], "{count}");
    }
}
