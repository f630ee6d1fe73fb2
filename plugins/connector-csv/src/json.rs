//! A line of NDJSON as an object, read as senders write it: what is odd is flagged, and numbers keep their digits. A key that is
//! there twice counts as its last value, but nothing that is said of consent may be taken back by a second word in the same line:
//! `true` takes no other value's place, and objects are joined.
//!
//! A number with more digits than a machine's is held as a text behind a mark until it is written; a text that begins with the mark
//! by itself gets a second one, so that neither is taken for the other.

use kith_plugin_sdk::json::{self, Duplicates, Numbers, Unreadable};
use serde_json::map::Entry;
use serde_json::{Map, Value};

/// A letter of private use, which no sender has reason to write.
const MARK: char = '\u{f0000}';

/// What stands between the mark and the digits.
const DIGITS: char = '#';

/// The digits of a number that is held as a text.
pub(crate) fn digits(text: &str) -> Option<&str> {
    text.strip_prefix(MARK)?.strip_prefix(DIGITS)
}

/// A text of an object as it came.
pub(crate) fn plain(text: &str) -> &str {
    text.strip_prefix(MARK).unwrap_or(text)
}

/// A value of an object as JSON, number for number.
pub(crate) fn written(value: &Value) -> String {
    match value {
        Value::String(text) => digits(text).map_or_else(|| Value::from(plain(text)).to_string(), str::to_owned),
        Value::Array(items) => format!("[{}]", items.iter().map(written).collect::<Vec<_>>().join(",")),
        Value::Object(fields) => {
            let field = |(name, field): (&String, &Value)| format!("{}:{}", Value::from(name.as_str()), written(field));
            format!("{{{}}}", fields.iter().map(field).collect::<Vec<_>>().join(","))
        }
        other => other.to_string(),
    }
}

/// The time in what databases wrap one in: `{"$date": "2026-11-03T10:00:00Z"}`, `{"$date": {"$numberLong": "1793700000000"}}`,
/// `{"_seconds": 1793700000}`.
pub(crate) fn dated(value: &Value) -> Option<String> {
    match value {
        Value::Object(object) => {
            ["$date", "$numberLong", "seconds", "_seconds"].into_iter().find_map(|key| dated(object.get(key)?))
        }
        Value::String(text) => Some(digits(text).unwrap_or(plain(text)).to_owned()),
        Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

/// The object of a line, and what was odd in it.
pub(crate) fn object(line: &str) -> Result<(Map<String, Value>, Vec<String>), Unreadable> {
    let document = json::read_as(line.as_bytes(), Duplicates::Kept, Numbers::Kept)?;
    match joined(document.text.as_bytes()) {
        Value::Object(object) => Ok((object, document.flags.iter().map(ToString::to_string).collect())),
        _ => Err(Unreadable { at: 0, problem: "an object is expected" }),
    }
}

/// A value of a text that was read, and so is well formed and not deep.
fn joined(text: &[u8]) -> Value {
    match text.first() {
        Some(b'{') => {
            let mut object = Map::new();
            for (key, value) in json::members(text).map(|(members, _)| members).unwrap_or_default() {
                note(&mut object, key.into_owned(), joined(value));
            }
            object.into()
        }
        Some(b'[') => json::elements(text).unwrap_or_default().into_iter().map(joined).collect(),
        Some(b'-' | b'0'..=b'9') => number(&String::from_utf8_lossy(text)),
        Some(b'"') => serde_json::from_slice(text).map_or(Value::Null, self::text),
        _ => serde_json::from_slice(text).unwrap_or(Value::Null),
    }
}

/// A number; behind the mark where the machine would write it otherwise: an id of twenty digits is another one when it is rounded.
fn number(text: &str) -> Value {
    let read: Option<Value> = serde_json::from_str(text).ok();
    read.filter(|value| format!("{value}") == text).unwrap_or_else(|| format!("{MARK}{DIGITS}{text}").into())
}

/// A text, with a second mark where it begins with one.
fn text(text: String) -> Value {
    if text.starts_with(MARK) { format!("{MARK}{text}").into() } else { text.into() }
}

/// Note `value` under a key that may be there.
fn note(object: &mut Map<String, Value>, key: String, value: Value) {
    match object.entry(key) {
        Entry::Vacant(place) => drop(place.insert(value)),
        Entry::Occupied(mut place) => match (place.get_mut(), value) {
            (Value::Object(held), Value::Object(second)) => {
                second.into_iter().for_each(|(key, value)| note(held, key, value));
            }
            (Value::Bool(true), second) => drop(place.insert(second)),
            (_, Value::Bool(true) | Value::Object(_)) => {}
            (_, second) => drop(place.insert(second)),
        },
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_key_that_is_there_twice_takes_no_refusal_back() {
        for (line, expected) in [
            (r#"{"consent":{"news":false},"consent":{"news":true}}"#, json!({"consent":{"news":false}})),
            (r#"{"consent":{"news":true},"cons\u0065nt":{"news":false}}"#, json!({"consent":{"news":false}})),
            (r#"{"consent":{"news":false,"news":true}}"#, json!({"consent":{"news":false}})),
            (r#"{"consent":false,"consent":{"news":true}}"#, json!({"consent":false})),
            (r#"{"consent":{"news":true},"consent":false}"#, json!({"consent":false})),
            (r#"{"consent":{"a":true},"consent":{"b":true}}"#, json!({"consent":{"a":true,"b":true}})),
            (r#"{"a":1,"a":"two","b":[1.5,null,{"c":-1}]}"#, json!({"a":"two","b":[1.5,null,{"c":-1}]})),
        ] {
            assert_eq!(Value::Object(object(line).unwrap().0), expected, "{line}");
        }
        assert!(object("[]").is_err() && object("{").is_err() && object("7").is_err());
    }

    #[test]
    fn odd_json_is_taken_and_flagged_and_numbers_keep_their_digits() {
        let (read, flags) = object(
            r#"{"id":123456789012345678901,"a":0.1234567890123456789,"b":1e400,"c":NaN,"d":"cut \ud83d","e":[1,],"f":19.90}"#,
        )
        .unwrap();
        // Keys of an object are held in order.
        assert_eq!(
            written(&Value::Object(read)),
            "{\"a\":0.1234567890123456789,\"b\":1e400,\"c\":null,\"d\":\"cut \u{fffd}\",\"e\":[1],\"f\":19.90,\"id\":123456789012345678901}"
        );
        for flag in ["number-too-large:b", "not-a-number:c", "half-surrogate:d", "trailing-comma:e"] {
            assert!(flags.iter().any(|held| held == flag), "{flag}: {flags:?}");
        }
    }

    /// Whatever the number and the text, they are written as they were read.
    #[test]
    fn numbers_and_texts_are_written_as_they_were_read() {
        let numbers = (1..40).map(|digits| "1234567890".repeat(4)[..digits].to_owned());
        let fractions = (1..40).map(|digits| format!("-0.{}", &"5029384756".repeat(4)[..digits]));
        for number in numbers.chain(fractions).chain(["1.10", "1E5", "-0", "1e400"].map(str::to_owned)) {
            for text in ["\u{f0000}", "\u{f0000}#1", "\u{f0000}\u{f0000}#", "#1"] {
                let line = format!("{{\"a\":{number},\"b\":[{number},\"{text}\"],\"c\":\"{text}\"}}");
                assert_eq!(written(&Value::Object(object(&line).unwrap().0)), line);
            }
        }
    }
}
