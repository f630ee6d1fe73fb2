//! A line of NDJSON as an object. A key that is there twice counts as its last value, but nothing that is said of consent may
//! be taken back by a second word in the same line: `true` takes no other value's place, and objects are joined.

use std::fmt;

use serde::de::{Deserialize, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use serde_json::map::Entry;
use serde_json::{Map, Value};

/// The object of a line.
pub(crate) fn object(line: &str) -> Result<Map<String, Value>, serde_json::Error> {
    match serde_json::from_str(line)? {
        Joined(Value::Object(object)) => Ok(object),
        Joined(_) => Err(serde_json::Error::custom("it is no object")),
    }
}

struct Joined(Value);

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

impl<'de> Deserialize<'de> for Joined {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Joined, D::Error> {
        struct Any;
        impl<'de> Visitor<'de> for Any {
            type Value = Value;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("a value of JSON")
            }

            fn visit_unit<E: Error>(self) -> Result<Value, E> {
                Ok(Value::Null)
            }

            fn visit_bool<E: Error>(self, value: bool) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_i64<E: Error>(self, value: i64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_u64<E: Error>(self, value: u64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_f64<E: Error>(self, value: f64) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_str<E: Error>(self, value: &str) -> Result<Value, E> {
                Ok(value.into())
            }

            fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<Value, A::Error> {
                let mut list = Vec::new();
                while let Some(Joined(item)) = items.next_element()? {
                    list.push(item);
                }
                Ok(list.into())
            }

            fn visit_map<A: MapAccess<'de>>(self, mut entries: A) -> Result<Value, A::Error> {
                let mut object = Map::new();
                while let Some((key, Joined(value))) = entries.next_entry()? {
                    note(&mut object, key, value);
                }
                Ok(object.into())
            }
        }
        deserializer.deserialize_any(Any).map(Joined)
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
            assert_eq!(Value::Object(object(line).unwrap()), expected, "{line}");
        }
        assert!(object("[]").is_err() && object("{").is_err() && object("{} {}").is_err());
    }
}
