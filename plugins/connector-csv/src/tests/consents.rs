//! What columns say of consent, and what they cannot say.

use super::*;

/// A row of people with one column that tells of the purpose `news`.
fn of_column(column: &str) -> Value {
    json!({ "kind": "identify", "identifiers": { "user_id": "id" }, "consent": { "news": column }, "time": { "column": "t" } })
}

/// What the cell says, as the consent in the event's traits.
fn said(column: &str, header: &str, cell: &str) -> Option<Value> {
    let received = receive(&of_column(column), format!("id,{header},t\n1,{cell},2026-11-01\n")).unwrap();
    assert_eq!(received.rejected, [], "{column} {cell}");
    let traits: Value = serde_json::from_str(&received.events[0].traits).unwrap_or_default();
    traits.get("consent").map(|consent| consent["news"].clone())
}

/// The words of lists of subscribers; whatever is no sure yes refuses, in either sense of the column, and nothing says nothing.
#[test]
fn what_is_no_sure_yes_refuses() {
    for cell in ["subscribed", "SUBSCRIBED", " Subscribed ", "Opted-In", "opt in", "yes", "TRUE", "1", "1.0"] {
        assert_eq!(said("c", "c", cell), Some(json!(true)), "{cell}");
    }
    for cell in [
        "unsubscribed",
        "Unsubscribed",
        "cleaned",
        "pending",
        "non-subscribed",
        "Non subscribed",
        "NEVER_SUBSCRIBED",
        "not_subscribed",
        "opted out",
        "bounced",
        "no",
        "0",
        "FALSE",
    ] {
        assert_eq!(said("c", "c", cell), Some(json!(false)), "{cell}");
    }
    for cell in ["maybe", "2026-01-01", "2", "customer", "subscribed?!no", "\"a \"\"b\"\"\""] {
        let answer = said("c", "c", cell);
        assert!(answer.as_ref().is_some_and(|answer| *answer != json!(true)), "{cell}: {answer:?}");
    }
    for cell in ["", " ", "n/a", "NULL", "\\N"] {
        assert_eq!(said("c", "c", cell), None, "{cell}");
        assert_eq!(said("!c", "c", cell), None, "{cell}");
    }
}

/// `!` in front of a column turns a yes into a refusal; what else stands in it refuses as before.
#[test]
fn a_column_of_refusals_is_inverted() {
    for cell in ["yes", "true", "1", "x", "unsubscribed", "bounced", "subscribed", "2026-01-01", "hard", "3"] {
        let answer = said("!HasOptedOutOfEmail", "HasOptedOutOfEmail", cell);
        assert!(answer.as_ref().is_some_and(|answer| *answer != json!(true)), "{cell}: {answer:?}");
    }
    // Who has not opted out has agreed to nothing.
    for cell in ["no", "false", "0", "0.0", "nein", "FALSE", "n", "falsch", "off"] {
        assert_eq!(said("!HasOptedOutOfEmail", "HasOptedOutOfEmail", cell), None, "{cell}");
    }
    // A name that begins with the sign, and one that says the opposite and does not mean it.
    assert_eq!(said("{!odd}", "!odd", "yes"), Some(json!(true)));
    assert_eq!(said("!{!odd}", "!odd", "yes"), Some(json!(false)));
    assert_eq!(said("{not bounced}", "not bounced", "yes"), Some(json!(true)));
    let json = receive(
        &of_column("!out"),
        "{\"id\":1,\"out\":true,\"t\":\"2026-11-01\"}\n{\"id\":1,\"out\":0,\"t\":\"2026-11-01\"}\n",
    )
    .unwrap();
    let traits: Vec<&str> = json.events.iter().map(|event| event.traits.as_str()).collect();
    assert_eq!(traits, [r#"{"consent":{"news":false}}"#, ""]);
    assert!(
        note(&json, "consent").unwrap().starts_with("1 cells of columns of refusals (`!`) say no"),
        "{:?}",
        json.notes
    );
}

/// Read as an agreement, a list of bounces would be one of subscribers.
#[test]
fn a_column_whose_name_says_the_opposite_is_refused_until_it_is_said() {
    for column in ["HasOptedOutOfEmail", "Unsubscribed from all email", "bounced", "Do Not Email", "email_opt_out"] {
        let problems = Csv::validate(&of_column(column).to_string()).unwrap_err();
        assert_eq!(problems[0].key, "consent", "{column}");
        assert!(problems[0].message.contains(&format!("write `!{column}`")), "{}", problems[0].message);
        assert!(receive(&of_column(column), format!("id,{column},t\n1,yes,2026-11-01\n")).is_err(), "{column}");
        for written in [format!("!{column}"), format!("{{{column}}}")] {
            assert!(Csv::validate(&of_column(&written).to_string()).is_ok(), "{written}");
        }
    }
}

/// Without a time nobody knows what was said last, and that is told wherever the rows can agree.
#[test]
fn rows_without_a_time_are_told_to_end_no_refusal() {
    let mut config = of_column("c");
    let dated = receive(&config, "id,c,t\n1,yes,2026-11-01\n").unwrap();
    assert_eq!(note(&dated, "consent"), None);
    config.as_object_mut().unwrap().remove("time");
    let undated = receive(&config, "id,c,t\n1,yes,2026-11-01\n").unwrap();
    assert_eq!(undated.events[0].time, None);
    assert!(note(&undated, "consent").unwrap().contains("ends no refusal"), "{:?}", undated.notes);
    let of_trait = json!({ "kind": "identify", "identifiers": { "user_id": "id" }, "traits": { "consent": "c" } });
    let undated = receive(&of_trait, "{\"id\":1,\"c\":{\"news\":true}}\n").unwrap();
    assert!(note(&undated, "consent").unwrap().contains("ends no refusal"), "{:?}", undated.notes);
}

/// Consent by its purposes, in every word for yes and no; what says nothing is left out, and what cannot be read refuses.
#[test]
fn consents_are_mapped_by_their_purposes() {
    let config = json!({
        "kind": "identify", "identifiers": { "user_id": "id" }, "traits": { "city": "city" },
        "consent": { "news": "news", "ads@email": "ads" },
    });
    for (row, expected) in [
        ("1,Rome,yes,no", r#"{"city":"Rome","consent":{"ads@email":false,"news":true}}"#),
        ("1,,1,", r#"{"consent":{"news":true}}"#),
        ("1,Rome,,n/a", r#"{"city":"Rome"}"#),
        ("1,,nein,Ja", r#"{"consent":{"ads@email":true,"news":false}}"#),
    ] {
        let received = receive(&config, format!("id,city,news,ads\n{row}\n")).unwrap();
        assert_eq!(received.events[0].traits, expected, "{row}");
    }
    let odd = receive(&config, "id,city,news,ads\n1,Rome,maybe,yes\n").unwrap();
    assert_eq!(odd.events[0].traits, r#"{"city":"Rome","consent":{"ads@email":true,"news":"maybe"}}"#);
    let told: Vec<&String> = odd.notes.iter().filter(|(name, _)| name == "consent").map(|(_, note)| note).collect();
    assert!(
        told[0].starts_with("1 cells that are neither yes nor no are taken as refusals, such as `maybe`"),
        "{told:?}"
    );
}

/// A column that is the trait `consent` refuses everything, because it holds no purposes: who tries it out is told.
#[test]
fn a_consent_that_refuses_everything_is_told() {
    let config = json!({ "kind": "identify", "identifiers": { "user_id": "id" }, "traits": { "Consent": "ok" }, "time": { "column": "t" } });
    for cells in [["yes", "no"], ["true", "x"], ["{}", "1"]] {
        let received =
            receive(&config, format!("id,ok,t\n1,{},2026-11-01\n2,{},2026-11-01\n3,,2026-11-01\n", cells[0], cells[1]))
                .unwrap();
        assert_eq!(received.events.len(), 3);
        let told = note(&received, "consent").unwrap();
        assert!(told.starts_with("2 rows refuse everything") && told.contains("{\"news\": "), "{told}");
    }
    let objects = receive(&config, "{\"id\":1,\"t\":\"2026-11-01\",\"ok\":{\"news\":true}}\n").unwrap();
    assert_eq!((objects.events.len(), note(&objects, "consent")), (1, None));
}
