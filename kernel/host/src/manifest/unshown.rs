//! Responsible for what of a configuration is written and never shown: the properties that its schema marks `writeOnly`.

use std::collections::BTreeSet;

use kith_model::plugin::Manifest;
use serde_json::{Map, Value};

use crate::hidden::{self, Haystack, HiddenValue, Names, SHORTEST_HIDDEN, collect_leaves};

/// A configuration in two parts.
#[derive(Debug, Clone, PartialEq)]
pub struct Parted {
    pub shown: Value,
    /// An object in which the rest lies as it lay in the whole.
    pub unshown: Value,
    /// JSON pointers to what is in it.
    pub paths: BTreeSet<String>,
}

/// JSON pointers to the properties that a plugin's schema marks `writeOnly`: of the configuration itself and of objects in it. What
/// an input's expression is filled in with is none of them, because it shows there.
pub fn write_only(manifest: &Manifest) -> BTreeSet<String> {
    let mut found = manifest.config_schema.as_ref().map(marked).unwrap_or_default();
    let expressions = || manifest.inputs.iter().map(|input| input.expression.as_str());
    found.retain(|path| !expressions().any(|expression| fills_in(expression, path)));
    found
}

/// JSON pointers to the properties that a schema marks `writeOnly`.
fn marked(schema: &Value) -> BTreeSet<String> {
    let mut found = BTreeSet::new();
    mark(schema, "", &mut found);
    found
}

fn mark(schema: &Value, at: &str, found: &mut BTreeSet<String>) {
    let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
    for (name, property) in properties {
        let path = format!("{at}/{}", name.replace('~', "~0").replace('/', "~1"));
        if property.get("writeOnly") == Some(&Value::Bool(true)) {
            found.insert(path);
        } else {
            mark(property, &path, found);
        }
    }
}

/// The property marked `writeOnly` that an expression is filled in with as `${config.key}`, as a JSON pointer.
pub fn filled_in_write_only(schema: &Value, expression: &str) -> Option<String> {
    marked(schema).into_iter().find(|path| fills_in(expression, path))
}

fn fills_in(expression: &str, path: &str) -> bool {
    let keys = expression.split("${config.").skip(1).filter_map(|rest| Some(rest.split_once('}')?.0));
    keys.map(|key| format!("/{}", key.replace('.', "/"))).any(|used| is_within(&used, path))
}

/// Whether a JSON pointer leads to where another one does, or further in.
fn is_within(path: &str, outer: &str) -> bool {
    path.strip_prefix(outer).is_some_and(|rest| rest.is_empty() || rest.starts_with('/'))
}

/// Whether the value at a JSON pointer is in one of these places, or holds one of them.
pub(super) fn touches(paths: &BTreeSet<String>, path: &str) -> bool {
    paths.iter().any(|unshown| is_within(path, unshown) || is_within(unshown, path))
}

/// A configuration without what is at these places, and that.
pub fn parted(config: Value, paths: &BTreeSet<String>) -> Parted {
    let mut parted = Parted { shown: config, unshown: Value::Object(Map::new()), paths: BTreeSet::new() };
    for path in paths {
        let Some((parent, name)) = path.rsplit_once('/') else { continue };
        let held = parted.shown.pointer_mut(parent).and_then(Value::as_object_mut);
        if let Some(value) = held.and_then(|object| object.remove(&unescaped(name))) {
            put(&mut parted.unshown, path, value);
            parted.paths.insert(path.clone());
        }
    }
    parted
}

/// Whether a patch says anything of what lies at these JSON pointers, or takes the place of what they lead through.
pub fn writes(patch: &Value, paths: &BTreeSet<String>) -> bool {
    let is_reached = |path: &String| {
        let mut at = patch;
        for name in path.split('/').skip(1) {
            let Some(members) = at.as_object() else { return true };
            let Some(next) = members.get(&unescaped(name)) else { return false };
            at = next;
        }
        true
    };
    paths.iter().any(is_reached)
}

/// Put a value where a JSON pointer leads, through objects that are made where they are missing.
fn put(whole: &mut Value, path: &str, value: Value) {
    let mut at = whole;
    for name in path.split('/').skip(1) {
        if !at.is_object() {
            *at = Value::Object(Map::new());
        }
        let Value::Object(members) = at else { return };
        at = members.entry(unescaped(name)).or_insert(Value::Null);
    }
    *at = value;
}

/// A configuration in one again.
pub fn joined(shown: Value, unshown: Value) -> Value {
    match (shown, unshown) {
        (Value::Object(mut members), Value::Object(others)) => {
            for (name, other) in others {
                let joined = match members.remove(&name) {
                    Some(held) => joined(held, other),
                    None => other,
                };
                members.insert(name, joined);
            }
            Value::Object(members)
        }
        (Value::Null, unshown) => unshown,
        (shown, _) => shown,
    }
}

fn unescaped(name: &str) -> String {
    name.replace("~1", "/").replace("~0", "~")
}

/// A JSON pointer as a place of the configuration is named elsewhere, e.g. `auth.token`.
pub fn dotted(path: &str) -> String {
    path.split('/').skip(1).map(unescaped).collect::<Vec<_>>().join(".")
}

/// Whether what was not shown of a configuration would be shown in another one, where it was not before, in one of the forms in
/// which it is found in what a plugin says.
pub fn would_show(before: &Value, after: &Value, places: &BTreeSet<String>) -> bool {
    let (before, after) = (parted(before.clone(), places), parted(after.clone(), places));
    let (mut unshown, mut known, mut shown) = (Vec::new(), Vec::new(), Vec::new());
    for (value, leaves) in [(&before.shown, &mut known), (&after.shown, &mut shown)] {
        collect_leaves(value, Names::Collected, leaves);
    }
    // The names of properties are the schema's.
    collect_leaves(&before.unshown, Names::LeftOut, &mut unshown);
    shown.retain(|text| !known.contains(text));
    let text = hidden::joined(&shown);
    let haystack = Haystack::new(&text);
    unshown.iter().any(|secret| match secret.chars().count() {
        0..SHORTEST_HIDDEN => shown.contains(secret),
        _ => HiddenValue::new(secret).is_in(&haystack),
    })
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn schema() -> Value {
        json!({ "properties": {
            "url": { "type": "string" },
            "token": { "type": "string", "writeOnly": true },
            "auth": { "properties": { "user": {}, "pass/word": { "writeOnly": true }, "open": { "writeOnly": false } } },
            "keys": { "writeOnly": true, "properties": { "a": { "writeOnly": true } } },
            "list": { "items": { "properties": { "token": { "writeOnly": true } } } },
        } })
    }

    #[test]
    fn a_patch_writes_what_it_names_and_what_it_takes_the_place_of() {
        let paths = BTreeSet::from(["/token".to_owned(), "/a/b~1c".to_owned()]);
        for (patch, expected) in [
            (json!({ "token": "guess" }), true),
            (json!({ "token": null }), true),
            (json!({ "a": { "b/c": 1 } }), true),
            (json!({ "a": null }), true),
            (json!([]), true),
            (json!({ "a": { "b": 1 }, "other": 2 }), false),
            (json!({}), false),
        ] {
            assert_eq!(writes(&patch, &paths), expected, "{patch}");
        }
    }

    #[test]
    fn what_is_marked_is_parted_from_the_rest_and_joined_again() {
        let paths = marked(&schema());
        assert_eq!(paths.iter().map(String::as_str).collect::<Vec<_>>(), ["/auth/pass~1word", "/keys", "/token"]);
        let whole = json!({
            "url": "u", "token": "t", "auth": { "user": "a", "pass/word": null }, "keys": { "a": 1, "b": null }, "list": [1],
        });
        let Parted { shown, unshown, paths } = parted(whole.clone(), &paths);
        assert_eq!(shown, json!({ "url": "u", "auth": { "user": "a" }, "list": [1] }));
        assert_eq!(unshown, json!({ "token": "t", "auth": { "pass/word": null }, "keys": { "a": 1, "b": null } }));
        assert_eq!(paths.iter().map(|path| dotted(path)).collect::<Vec<_>>(), ["auth.pass/word", "keys", "token"]);
        assert_eq!(joined(shown, unshown), whole);
        let nothing = parted(json!({ "url": "u" }), &paths);
        assert_eq!((nothing.shown, nothing.unshown, nothing.paths.len()), (json!({ "url": "u" }), json!({}), 0));
    }

    #[test]
    fn what_an_expression_is_filled_in_with_is_shown_there() {
        let schema = schema();
        let filled_in = |expression: &str| filled_in_write_only(&schema, expression);
        assert_eq!(filled_in("traits.x == '${config.token}'").as_deref(), Some("/token"));
        assert_eq!(filled_in("traits.x == '${config.keys.a}'").as_deref(), Some("/keys"));
        assert_eq!(filled_in("'${config.url}${config.auth.user}${config.tokens}'"), None);
    }

    #[test]
    fn what_would_be_shown_elsewhere_is_seen() {
        let places = BTreeSet::from(["/token".to_owned(), "/pin".to_owned()]);
        let before = json!({ "token": "s3cret", "pin": 1234, "url": "u", "size": 1234 });
        for (after, is_shown) in [
            (json!({ "token": "s3cret", "pin": 1234, "url": "v" }), false),
            (json!({ "token": "other", "size": 1234 }), false),
            (json!({ "api_key": "s3cret" }), true),
            (json!({ "list": [{ "header": "Bearer s3cret" }] }), true),
            (json!({ "s3cret": true }), true),
            (json!({ "text": "1234" }), false),
            (json!({ "text": "is 1234" }), true),
            (json!({ "header": "Basic YWRhOnMzY3JldA==" }), true),
            (json!({ "url": "https://a.example/?t=%733cret" }), true),
        ] {
            assert_eq!(would_show(&before, &after, &places), is_shown, "{after}");
        }
    }

    #[test]
    fn a_place_is_touched_by_what_is_in_it_and_around_it() {
        let paths = ["/auth/token".to_owned()].into();
        for (path, expected) in [
            ("", true),
            ("/auth", true),
            ("/auth/token", true),
            ("/auth/token/0", true),
            ("/auth/tokens", false),
            ("/au", false),
        ] {
            assert_eq!(touches(&paths, path), expected, "{path}");
        }
        assert!(!touches(&BTreeSet::new(), ""));
    }
}
