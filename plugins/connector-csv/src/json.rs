//! A line of NDJSON as an object, read as senders write it: what is odd is flagged, and numbers keep their digits. A key that is
//! there twice counts as its last value, but nothing that is said of consent may be taken back by a second word in the same line:
//! `true` takes no other value's place, and objects are joined.

use kith_plugin_sdk::json::{self, Duplicates, Numbers, Unreadable};
use serde_json::map::Entry;
use serde_json::{Map, Value};

/// Digits that 64 bits of floating point keep, whichever they are.
const EXACT_DIGITS: usize = 15;

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
        _ => serde_json::from_slice(text).unwrap_or(Value::Null),
    }
}

/// A number, or its text where it would lose digits: an id of twenty digits is another one when it is rounded.
fn number(text: &str) -> Value {
    let digits = text.split(['e', 'E']).next().unwrap_or_default().bytes().filter(u8::is_ascii_digit);
    let significant = digits.skip_while(|digit| *digit == b'0').count();
    let exact = text.parse::<i64>().map(Value::from).or_else(|_| text.parse::<u64>().map(Value::from));
    match (exact, text.parse::<f64>()) {
        (Ok(exact), _) => exact,
        (_, Ok(float)) if float.is_finite() && significant <= EXACT_DIGITS => float.into(),
        _ => text.into(),
    }
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
        let (read, flags) =
            object(r#"{"id":123456789012345678901,"a":0.1234567890123456789,"b":1e400,"c":NaN,"d":"cut \ud83d","e":[1,],"f":19.90}"#)
                .unwrap();
        let expected = json!({
            "id": "123456789012345678901", "a": "0.1234567890123456789", "b": "1e400", "c": null, "d": "cut \u{fffd}",
            "e": [1], "f": 19.9,
        });
        assert_eq!(Value::Object(read), expected);
        for flag in ["number-too-large:b", "not-a-number:c", "half-surrogate:d", "trailing-comma:e"] {
            assert!(flags.iter().any(|held| held == flag), "{flag}: {flags:?}");
        }
    }
}
