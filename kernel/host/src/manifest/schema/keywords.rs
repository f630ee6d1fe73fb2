//! Responsible for words of a schema that are meant for others: JSON Schema takes a keyword that it does not know for a remark, so
//! that `typ = "string"` asks for nothing, and says of a type that is none only what all types are not. What people read of a
//! schema may not steer their terminal either.

use serde_json::{Map, Value};

use super::super::words::{self, Lines};
use super::{NAMED, Pointer, SchemaMistake};
use crate::text::bounded;

/// Mistakes that are told of one schema.
const MAX_TOLD: usize = 20;

/// The types of values.
const TYPES: [&str; 7] = ["array", "boolean", "integer", "null", "number", "object", "string"];

/// The formats of 2020-12; any other asks for nothing.
const FORMATS: [&str; 19] = [
    "date",
    "date-time",
    "duration",
    "email",
    "hostname",
    "idn-email",
    "idn-hostname",
    "ipv4",
    "ipv6",
    "iri",
    "iri-reference",
    "json-pointer",
    "regex",
    "relative-json-pointer",
    "time",
    "uri",
    "uri-reference",
    "uri-template",
    "uuid",
];

/// Keywords whose value is one schema.
const SCHEMAS: [&str; 9] =
    ["additionalProperties", "contains", "contentSchema", "else", "if", "items", "not", "propertyNames", "then"];

/// Keywords whose value is a list of schemas.
const LISTS: [&str; 4] = ["allOf", "anyOf", "oneOf", "prefixItems"];

/// Keywords whose value people read.
const TEXTS: [&str; 2] = ["description", "title"];

/// The other keywords of 2020-12, those that are refused elsewhere left out.
const OTHERS: [&str; 34] = [
    "$comment",
    "$ref",
    "$schema",
    "$vocabulary",
    "const",
    "contentEncoding",
    "contentMediaType",
    "default",
    "dependentRequired",
    "deprecated",
    "description",
    "enum",
    "examples",
    "exclusiveMaximum",
    "exclusiveMinimum",
    "format",
    "maxContains",
    "maxItems",
    "maxLength",
    "maxProperties",
    "maximum",
    "minContains",
    "minItems",
    "minLength",
    "minProperties",
    "minimum",
    "multipleOf",
    "pattern",
    "readOnly",
    "required",
    "title",
    "type",
    "uniqueItems",
    WRITE_ONLY,
];

/// The keyword of values that are written and never shown.
const WRITE_ONLY: &str = "writeOnly";

/// The shortest keyword that another word may be taken for: `not` and `if` are near too many.
const SHORTEST: usize = 4;

/// From this length on a word may be two letters off.
const LONG: usize = 8;

/// The words of an admitted schema that are not right by themselves, each with its place: those that seem to be meant for others, and
/// texts for people with control characters.
pub(crate) fn wrong_words(schema: &Value) -> Vec<SchemaMistake> {
    let mut found = Vec::new();
    look(schema, &mut Pointer::default(), &mut found);
    found.truncate(MAX_TOLD);
    found
}

fn look(schema: &Value, at: &mut Pointer, found: &mut Vec<SchemaMistake>) {
    let Value::Object(keywords) = schema else { return };
    for (keyword, value) in keywords {
        at.within(keyword, |at| match value {
            value if keyword == "type" => look_at_type(value, at, found),
            Value::String(name) if keyword == "format" => look_at_format(name, at, found),
            Value::Bool(true) if keyword == WRITE_ONLY => {
                if !is_of_a_property(at) {
                    found.push(at.wrong(
                        "is for properties of the configuration and of objects in it, and what is here would be shown; move it to the \
                         property that holds it",
                    ));
                }
            }
            Value::String(text) if TEXTS.contains(&keyword.as_str()) => {
                if !words::is_readable(text, Lines::Several) {
                    found.push(at.wrong("has control characters; write it without them"));
                }
            }
            Value::Object(named) if NAMED.contains(&keyword.as_str()) => look_at_named(named, at, found),
            Value::Array(schemas) if LISTS.contains(&keyword.as_str()) => {
                for (index, schema) in schemas.iter().enumerate() {
                    at.within(index.to_string(), |at| look(schema, at, found));
                }
            }
            schema if SCHEMAS.contains(&keyword.as_str()) => look(schema, at, found),
            _ => {
                if let Some(meant) = meant_by(keyword, known()) {
                    found.push(at.wrong(format!("is no keyword of JSON Schema; did you mean `{meant}`?")));
                }
            }
        });
    }
}

/// Whether the keyword at a place is one of a property that is reached through objects alone.
fn is_of_a_property(at: &Pointer) -> bool {
    let Some((_, steps)) = at.0.split_last() else { return false };
    let mut pairs = steps.chunks(2);
    !steps.is_empty() && pairs.all(|pair| matches!(pair, [properties, _] if properties == "properties"))
}

fn look_at_named(named: &Map<String, Value>, at: &mut Pointer, found: &mut Vec<SchemaMistake>) {
    for (name, schema) in named {
        at.within(name, |at| look(schema, at, found));
    }
}

/// What is no type at all is left to the check of the whole schema.
fn look_at_type(value: &Value, at: &Pointer, found: &mut Vec<SchemaMistake>) {
    let names = value.as_array().map_or(std::slice::from_ref(value), Vec::as_slice);
    for name in names.iter().filter_map(Value::as_str).filter(|name| !TYPES.contains(name)) {
        let write = match meant_by(name, TYPES.into_iter()) {
            Some(meant) => format!("did you mean `{meant}`?"),
            None => format!("write one of {}", TYPES.join(", ")),
        };
        found.push(at.wrong(format!("names `{name}`, which is no type of JSON; {write}")));
    }
}

fn look_at_format(name: &str, at: &Pointer, found: &mut Vec<SchemaMistake>) {
    if FORMATS.contains(&name) {
        return;
    }
    let write = match meant_by(name, FORMATS.into_iter()) {
        Some(meant) => format!("did you mean `{meant}`?"),
        None => format!("write one of {}", FORMATS.join(", ")),
    };
    found.push(at.wrong(format!("names `{}`, which is no format of JSON Schema; {write}", bounded(name))));
}

fn known() -> impl Iterator<Item = &'static str> + Clone {
    SCHEMAS.into_iter().chain(LISTS).chain(NAMED).chain(OTHERS)
}

/// The word for which another one was probably meant; `None` for itself, and for one that is like none.
fn meant_by(written: &str, known: impl Iterator<Item = &'static str> + Clone) -> Option<&'static str> {
    if known.clone().any(|word| word == written) {
        return None;
    }
    let lower = written.to_ascii_lowercase();
    let distance = |word: &str| strsim::osa_distance(&lower, &word.to_ascii_lowercase());
    let near = known.filter(|word| word.len() >= SHORTEST).map(|word| (distance(word), word)).min()?;
    let may_be_off = if lower.len() >= LONG { 2 } else { 1 };
    (near.0 <= may_be_off).then_some(near.1)
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn found(schema: &Value) -> Vec<String> {
        wrong_words(schema).into_iter().map(|mistake| format!("{} {}", mistake.path, mistake.message)).collect()
    }

    /// Each of these was taken, and asked for nothing.
    #[test]
    fn a_word_that_is_near_a_keyword_is_told_with_that() {
        for (written, meant) in [
            ("typ", "type"),
            ("tpye", "type"),
            ("requred", "required"),
            ("minlength", "minLength"),
            ("max_length", "maxLength"),
            ("additonalProperties", "additionalProperties"),
            ("propertys", "properties"),
            ("defualt", "default"),
        ] {
            let schema = json!({ "properties": { "a": { written: 1 } } });
            let expected = format!("/properties/a/{written} is no keyword of JSON Schema; did you mean `{meant}`?");
            assert_eq!(found(&schema), [expected]);
        }
    }

    /// Where it would be shown all the same, whoever wrote it would rely on it in vain.
    #[test]
    fn what_is_never_shown_is_a_property() {
        let hidden = json!({ "type": "string", "writeOnly": true });
        for schema in [
            json!({ "properties": { "a": hidden } }),
            json!({ "properties": { "properties": { "properties": { "b": hidden } } } }),
            json!({ "properties": { "a": { "type": "array", "writeOnly": true, "items": {} } } }),
            json!({ "properties": { "list": { "items": { "writeOnly": false } } } }),
        ] {
            assert_eq!(found(&schema), [""; 0], "{schema}");
        }
        for (schema, place) in [
            (json!({ "writeOnly": true }), "/writeOnly"),
            (json!({ "properties": { "list": { "items": hidden } } }), "/properties/list/items/writeOnly"),
            (json!({ "additionalProperties": hidden }), "/additionalProperties/writeOnly"),
            (json!({ "allOf": [{ "properties": { "a": hidden } }] }), "/allOf/0/properties/a/writeOnly"),
            (json!({ "$defs": { "a": hidden } }), "/$defs/a/writeOnly"),
        ] {
            let found = found(&schema);
            assert!(found.len() == 1 && found[0].starts_with(&format!("{place} is for properties")), "{found:?}");
        }
    }

    #[test]
    fn what_is_a_remark_or_a_name_is_left_alone() {
        for schema in [
            json!({ "x-order": 1, "unit": "days", "note": "n", "label": "l", "ui": {}, "group": "g", "hint": "h" }),
            json!({ "properties": { "typ": { "type": "string" }, "requred": {} }, "required": ["typ"] }),
            json!({ "default": { "typ": 1 }, "examples": [{ "typ": 1 }], "const": { "typ": 1 }, "enum": [{ "typ": 1 }] }),
            json!({ "x-form": { "typ": 1 }, "dependentRequired": { "typ": ["a"] }, "$defs": { "typ": {} } }),
            json!({ "patternProperties": { "typ": true }, "additionalProperties": false, "items": { "type": "null" } }),
        ] {
            assert_eq!(found(&schema), Vec::<String>::new(), "{schema}");
        }
    }

    #[test]
    fn what_people_read_steers_no_terminal() {
        let schema =
            json!({ "title": "a\nb", "properties": { "a": { "description": "a\u{1b}[31m", "default": "\u{1b}" } } });
        assert_eq!(found(&schema), ["/properties/a/description has control characters; write it without them"]);
    }

    /// It was said to be none of the schemas listed in a keyword that nobody wrote.
    #[test]
    fn a_type_that_is_none_is_told_plainly() {
        assert_eq!(
            found(&json!({ "items": { "type": "strng" } })),
            ["/items/type names `strng`, which is no type of JSON; did you mean `string`?"]
        );
        let listed = found(&json!({ "type": ["null", "float"] }));
        let expected = "/type names `float`, which is no type of JSON; write one of array, boolean, integer, null, number, \
                        object, string";
        assert_eq!(listed, [expected]);
    }
}
