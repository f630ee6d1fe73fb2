//! What a record says of consent: a field that says yes or no for each purpose, or the opposite.
//!
//! An agreement is what is surely one. Who has not opted out has agreed to nothing: a field of refusals tells of refusals alone. What
//! refuses and what nobody can read is a refusal, as the kernel takes every answer that is no `true`; only a field with nothing in it
//! says nothing.

use std::collections::BTreeMap;

use kith_plugin_sdk::consent::says_the_opposite;
use serde_json::Value;

use crate::path;
use crate::selection::push_member;

/// The longest answer that is neither yes nor no, as it is kept, in bytes.
const MAX_ANSWER_BYTES: usize = 64;

/// Values that say yes, in lower case.
const YES: [&str; 9] = ["true", "yes", "y", "1", "on", "subscribed", "opted_in", "opted-in", "opted in"];

/// Values that say no.
const NO: [&str; 5] = ["false", "no", "n", "0", "off"];

/// What a yes in a field says.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Sense {
    Agrees,
    Refuses,
}

/// A path by what is written: `!path` for one that refuses.
fn named(written: &str) -> (Sense, &str) {
    match written.strip_prefix('!') {
        Some(path) => (Sense::Refuses, path),
        None => (Sense::Agrees, written),
    }
}

/// Why a path cannot tell of consent.
pub(crate) fn problem(written: &str) -> Option<String> {
    match named(written) {
        (_, "") => Some("names no path".to_owned()),
        (Sense::Agrees, path) if says_the_opposite(path) => {
            Some(format!("is `{path}`, whose name says that a yes in it refuses; write `!{path}`"))
        }
        _ => None,
    }
}

/// The trait `consent` of a record; `None` where it says nothing.
pub(crate) fn of(record: &[u8], consent: &BTreeMap<String, String>) -> Option<String> {
    let mut object = String::new();
    for (purpose, written) in consent {
        let (sense, path) = named(written);
        if let Some(said) = path::find(record, path).and_then(|value| said(value, sense)) {
            push_member(&mut object, purpose, said.to_string().as_bytes());
        }
    }
    (!object.is_empty()).then(|| object + "}")
}

/// What a field says; `None` for one that says nothing.
fn said(value: &[u8], sense: Sense) -> Option<Value> {
    if path::is_nothing(value) {
        return None;
    }
    // Lists and objects are no answer.
    let Some(text) = path::plain(value) else { return Some(Value::Bool(false)) };
    let word = text.trim().to_lowercase();
    match sense {
        Sense::Agrees if YES.contains(&word.as_str()) => Some(Value::Bool(true)),
        Sense::Refuses if NO.contains(&word.as_str()) => None,
        _ if YES.contains(&word.as_str()) || NO.contains(&word.as_str()) => Some(Value::Bool(false)),
        // As it came, so that a person sees why it refuses.
        _ => Some(Value::from(&text[..text.floor_char_boundary(MAX_ANSWER_BYTES)])),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn consent(record: &str, written: &str) -> Option<String> {
        let map = BTreeMap::from([("news".to_owned(), written.to_owned())]);
        of(record.as_bytes(), &map)
    }

    #[test]
    fn an_agreement_is_what_is_surely_one() {
        for (value, agrees, refuses) in [
            ("true", Some("true"), Some("false")),
            ("1", Some("true"), Some("false")),
            ("\"Subscribed\"", Some("true"), Some("false")),
            ("false", Some("false"), None),
            ("\"no\"", Some("false"), None),
            ("null", None, None),
            ("\" \"", None, None),
            ("\"pending\"", Some("\"pending\""), Some("\"pending\"")),
            ("\"2026-11-03\"", Some("\"2026-11-03\""), Some("\"2026-11-03\"")),
            ("{\"a\":true}", Some("false"), Some("false")),
            ("[]", Some("false"), Some("false")),
        ] {
            let record = format!("{{\"a\":{{\"b\":{value}}}}}");
            let expected = |said: Option<&str>| said.map(|said| format!("{{\"news\":{said}}}"));
            assert_eq!(consent(&record, "a.b"), expected(agrees), "{value}");
            assert_eq!(consent(&record, "!a.b"), expected(refuses), "{value}");
        }
        assert_eq!(consent("{}", "a.b"), None);
    }

    #[test]
    fn a_field_whose_name_refuses_is_written_so() {
        assert_eq!(problem("newsletter"), None);
        assert_eq!(problem("!email.opted_out"), None);
        assert!(problem("email.opted_out").is_some_and(|problem| problem.contains("write `!email.opted_out`")));
        assert!(problem("!").is_some() && problem("").is_some());
    }
}
