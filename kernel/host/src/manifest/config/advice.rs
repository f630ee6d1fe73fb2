//! Responsible for the words of a mistake in a configuration: which keys there are and which one was meant, and what the schema says to
//! people of the value.

use jsonschema::ValidationError;
use jsonschema::error::ValidationErrorKind;
use serde_json::Value;

use super::super::reader::nearest;
use super::cut;

/// How many keys of one object are told of.
const MAX_KEYS: usize = 4;

/// The longest key, in bytes, that is held against the others: how long that takes grows with both.
const MAX_MEANT: usize = 64;

/// What is wrong, and what the schema has to say to it. `is_shown` tells whether the value may be quoted.
pub(super) fn words(schema: &Value, error: &ValidationError<'_>, is_shown: bool) -> String {
    // The schema that the keyword stands in, wherever that is.
    let keyword = error.schema_path().as_str();
    let around = keyword.rsplit_once('/').and_then(|(around, _)| schema.pointer(around));
    match error.kind() {
        ValidationErrorKind::AdditionalProperties { unexpected } => {
            let told = unexpected.iter().take(MAX_KEYS).map(|key| unknown(around, key));
            told.collect::<Vec<_>>().join("; ")
        }
        // Of an object that takes none at all the key is not told.
        ValidationErrorKind::FalseSchema if keyword.ends_with("/additionalProperties") => {
            "no key is taken here".to_owned()
        }
        ValidationErrorKind::Required { property: Value::String(key) } => {
            let of_key = around.and_then(|around| around.get("properties")?.get(key));
            with_description(format!("`{key}` is missing"), of_key)
        }
        _ => {
            let what = if is_shown { error.to_string() } else { error.masked().to_string() };
            with_description(cut(what), around)
        }
    }
}

/// What a key that the schema does not have is told with.
fn unknown(schema: Option<&Value>, key: &str) -> String {
    let properties = schema.and_then(|schema| schema.get("properties")).and_then(Value::as_object);
    let known: Vec<&str> = properties.into_iter().flatten().map(|(name, _)| name.as_str()).collect();
    let near = if key.len() <= MAX_MEANT { nearest(key, &known) } else { None };
    let key = cut(key.to_owned());
    match near {
        Some(near) => format!("unknown key `{key}`; did you mean `{near}`?"),
        None if known.is_empty() => format!("unknown key `{key}`"),
        None => format!("unknown key `{key}`; known here: {}", known.join(", ")),
    }
}

fn with_description(what: String, schema: Option<&Value>) -> String {
    match schema.and_then(|schema| schema.get("description")).and_then(Value::as_str) {
        Some(description) => format!("{what}: {}", cut(description.to_owned())),
        None => what,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::super::validator;
    use super::*;

    fn said(config: &Value, is_shown: bool) -> Vec<String> {
        let schema = json!({
            "type": "object",
            "description": "All of it",
            "additionalProperties": false,
            "required": ["url"],
            "properties": {
                "url": { "type": "string", "description": "Where it is" },
                "window": { "type": "string", "pattern": "^[0-9]+d$", "description": "How far back, e.g. 90d" },
                "threshold": { "type": "number", "minimum": 1 },
                "mail": { "$ref": "#/$defs/mail" },
                "nothing": { "type": "object", "additionalProperties": false },
            },
            "$defs": { "mail": {
                "type": "object", "additionalProperties": false, "properties": { "sender": { "type": "string" } },
            } },
        });
        let validator = validator(&schema).unwrap();
        validator.iter_errors(config).map(|error| words(&schema, &error, is_shown)).collect()
    }

    #[test]
    fn a_key_that_there_is_not_is_told_with_those_that_there_are() {
        let with = |key: &str, value: Value| said(&json!({ "url": "x", key: value }), true);
        assert_eq!(with("treshold", json!(1)), ["unknown key `treshold`; did you mean `threshold`?"]);
        let all = "unknown key `colour`; known here: ";
        assert!(with("colour", json!(1))[0].starts_with(all), "{:?}", with("colour", json!(1)));
        assert_eq!(
            with("mail", json!({ "sendr": "a" })),
            ["unknown key `sendr`; did you mean `sender`?"],
            "behind a $ref"
        );
        assert_eq!(with("nothing", json!({ "a": 1 })), ["no key is taken here"]);
        assert_eq!(said(&json!({}), true), ["`url` is missing: Where it is"]);
    }

    #[test]
    fn a_value_that_is_not_taken_is_told_with_what_the_schema_says_of_it() {
        let with = |is_shown| said(&json!({ "url": "x", "window": "90" }), is_shown);
        assert_eq!(with(true), ["\"90\" does not match \"^[0-9]+d$\": How far back, e.g. 90d"]);
        assert!(!with(false)[0].contains("\"90\"") && with(false)[0].ends_with(": How far back, e.g. 90d"));
        assert_eq!(said(&json!({ "url": "x", "threshold": 0 }), true), ["0 is less than the minimum of 1"]);
    }
}
