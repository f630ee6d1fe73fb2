//! Responsible for schemas that contradict themselves, as far as that is cheap to prove: a configuration that no value can be is
//! found when a vendor checks the manifest, and not by whoever installs it. What is proved here is sure; a schema that passes may
//! still ask for what nobody can write.

use std::cell::RefCell;
use std::cmp::Ordering;
use std::collections::HashMap;

use jsonschema::Validator;
use serde_json::{Map, Number, Value};

use super::super::config::validator;
use super::{DATA, NAMED, Pointer, SchemaMistake};

/// Contradictions that are told of one schema.
const MAX_TOLD: usize = 20;

/// Keywords that hold no schema, or one that says when another holds or what must not be: that nothing meets it is no mistake.
const CONDITIONS: [&str; 3] = ["dependentRequired", "if", "not"];

/// Bounds of a size, and what they are of.
const SIZES: [(&str, &str, &str); 4] = [
    ("minLength", "maxLength", "text"),
    ("minItems", "maxItems", "list"),
    ("minProperties", "maxProperties", "object"),
    ("minContains", "maxContains", "list"),
];

/// What contradicts itself in a schema that was admitted, each with its place.
pub(crate) fn contradictions(schema: &Value) -> Vec<SchemaMistake> {
    let mut search = Search { root: schema, types: RefCell::default(), found: Vec::new() };
    search.look(schema, &mut Pointer::default());
    search.found.truncate(MAX_TOLD);
    search.found
}

/// A set of types of values. A whole number is a number, and so is one with a fraction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Types(u8);

impl Types {
    const NONE: Types = Types(0);
    const WHOLE: Types = Types(1);
    const FRACTION: Types = Types(1 << 1);
    const ANY: Types = Types((1 << 7) - 1);

    fn named(name: &str) -> Types {
        match name {
            "integer" => Types::WHOLE,
            "number" => Types(Types::WHOLE.0 | Types::FRACTION.0),
            "string" => Types(1 << 2),
            "boolean" => Types(1 << 3),
            "null" => Types(1 << 4),
            "array" => Types(1 << 5),
            "object" => Types(1 << 6),
            _ => Types::NONE,
        }
    }

    fn of(value: &Value) -> Types {
        match value {
            Value::Number(number) if number.as_f64().is_some_and(|number| number.fract() == 0.0) => Types::WHOLE,
            Value::Number(_) => Types::FRACTION,
            Value::String(_) => Types::named("string"),
            Value::Bool(_) => Types::named("boolean"),
            Value::Null => Types::named("null"),
            Value::Array(_) => Types::named("array"),
            Value::Object(_) => Types::named("object"),
        }
    }

    fn and(self, other: Types) -> Types {
        Types(self.0 & other.0)
    }

    fn any_of(all: impl Iterator<Item = Types>) -> Types {
        all.fold(Types::NONE, |all, one| Types(all.0 | one.0))
    }
}

/// One pass over a schema that was admitted, so that no reference in it leads back to itself.
struct Search<'s> {
    root: &'s Value,
    /// The types of what was looked at, by its address: many may refer to one place.
    types: RefCell<HashMap<*const Value, Types>>,
    found: Vec<SchemaMistake>,
}

impl<'s> Search<'s> {
    fn look(&mut self, schema: &'s Value, at: &mut Pointer) {
        let Value::Object(keywords) = schema else { return };
        if self.found.len() >= MAX_TOLD {
            return;
        }
        self.look_at_bounds(keywords, at);
        self.look_at_types(keywords, at);
        self.look_at_names(keywords, at);
        self.look_at_branches(keywords, at);
        for (keyword, value) in keywords {
            if DATA.contains(&keyword.as_str()) || CONDITIONS.contains(&keyword.as_str()) {
                continue;
            }
            at.within(keyword, |at| match value {
                Value::Object(named) if NAMED.contains(&keyword.as_str()) => {
                    for (name, schema) in named {
                        at.within(name, |at| self.look(schema, at));
                    }
                }
                Value::Array(schemas) => {
                    for (index, schema) in schemas.iter().enumerate() {
                        at.within(index.to_string(), |at| self.look(schema, at));
                    }
                }
                schema => self.look(schema, at),
            });
        }
    }

    fn tell(&mut self, at: &mut Pointer, keyword: &str, message: String) {
        let mistake = at.within(keyword, |at| at.wrong(message));
        self.found.push(mistake);
    }

    /// A least that is more than the most.
    fn look_at_bounds(&mut self, keywords: &Map<String, Value>, at: &mut Pointer) {
        let number = |keyword: &str| keywords.get(keyword).and_then(Value::as_number);
        let is_whole = keywords.get("type").and_then(Value::as_str) == Some("integer");
        for (least, is_least_in) in [("minimum", true), ("exclusiveMinimum", false)] {
            for (most, is_most_in) in [("maximum", true), ("exclusiveMaximum", false)] {
                let (Some(low), Some(high)) = (number(least), number(most)) else { continue };
                let is_empty = match compare(low, high) {
                    Ordering::Less => false,
                    Ordering::Equal => !(is_least_in && is_most_in),
                    Ordering::Greater => true,
                };
                if is_empty {
                    self.tell(at, least, format!("is {low}, and `{most}` is {high}: no number is both"));
                } else if is_whole && first_whole(low, is_least_in) > last_whole(high, is_most_in) {
                    self.tell(at, least, format!("is {low}, and `{most}` is {high}: no whole number is both"));
                }
            }
        }
        for (least, most, what) in SIZES {
            if let (Some(low), Some(high)) = (number(least), number(most))
                && compare(low, high) == Ordering::Greater
            {
                self.tell(at, least, format!("is {low}, and `{most}` is {high}: no {what} is both"));
            }
        }
        let named = keywords.get("required").and_then(Value::as_array).map_or(0, Vec::len);
        if let Some(most) = keywords.get("maxProperties").and_then(Value::as_u64)
            && named as u64 > most
        {
            self.tell(at, "required", format!("names {named} properties, and `maxProperties` is {most}"));
        }
    }

    /// Types of which no value is, because one keyword asks for one and another for another.
    fn look_at_types(&mut self, keywords: &'s Map<String, Value>, at: &mut Pointer) {
        if keywords.get("enum").and_then(Value::as_array).is_some_and(Vec::is_empty) {
            self.tell(at, "enum", "lists nothing, so that it takes no value; write the values".to_owned());
            return;
        }
        let asked = self.asked(keywords);
        let common = asked.iter().fold(Types::ANY, |common, (_, types)| common.and(*types));
        // One that allows nothing by itself is told of where it stands.
        if common == Types::NONE && asked.iter().all(|(_, types)| *types != Types::NONE) {
            let mut names: Vec<String> = asked.iter().map(|(keyword, _)| format!("`{keyword}`")).collect();
            names.dedup();
            let place = asked.first().map_or("type", |(keyword, _)| *keyword);
            let message = format!("takes no value: no type is allowed by all that {} ask for", names.join(" and "));
            self.tell(at, place, message);
        }
        if let (Some(constant), Some(listed)) = (keywords.get("const"), keywords.get("enum").and_then(Value::as_array))
            && !listed.contains(constant)
        {
            self.tell(at, "const", "is not among `enum`, so that no value is both".to_owned());
        }
    }

    /// Properties that must be there and cannot.
    fn look_at_names(&mut self, keywords: &'s Map<String, Value>, at: &mut Pointer) {
        let properties = keywords.get("properties").and_then(Value::as_object);
        let is_closed = self.is_closed(keywords);
        let names = self.names(keywords);
        let required = keywords.get("required").and_then(Value::as_array);
        for (index, name) in required.into_iter().flatten().enumerate() {
            let Some(name) = name.as_str() else { continue };
            if let Some(why) = self.untaken(keywords, names.as_ref(), name) {
                let message = format!("names `{name}`, {why}");
                at.within("required", |at| self.tell(at, &index.to_string(), message));
            }
        }
        let dependent = keywords.get("dependentRequired").and_then(Value::as_object);
        for (name, others) in dependent.into_iter().flatten() {
            // What is never there asks for nothing.
            if self.untaken(keywords, names.as_ref(), name).is_some() {
                continue;
            }
            for (index, other) in others.as_array().into_iter().flatten().enumerate() {
                let Some(other) = other.as_str() else { continue };
                if let Some(why) = self.untaken(keywords, names.as_ref(), other) {
                    let message = format!("asks for `{other}` beside `{name}`, {why}");
                    at.within("dependentRequired", |at| {
                        at.within(name, |at| self.tell(at, &index.to_string(), message));
                    });
                }
            }
        }
        let least = keywords.get("minProperties").and_then(Value::as_u64).unwrap_or(0);
        let possible = properties.map_or(0, Map::len) as u64;
        if is_closed && least > possible {
            let message = format!("is {least}, and there are {possible} properties that are taken");
            self.tell(at, "minProperties", message);
        }
        let prefix = keywords.get("prefixItems").and_then(Value::as_array).map_or(0, Vec::len) as u64;
        let least = keywords.get("minItems").and_then(Value::as_u64).unwrap_or(0);
        if least > prefix && keywords.get("items").is_some_and(|items| self.takes_nothing(items)) {
            self.tell(at, "minItems", format!("is {least}, and `items` takes no more than {prefix}"));
        }
    }

    /// Whether no properties are taken but those that are named. Which other names a pattern takes is not looked into.
    fn is_closed(&self, keywords: &Map<String, Value>) -> bool {
        !keywords.contains_key("patternProperties")
            && keywords.get("additionalProperties").is_some_and(|others| self.takes_nothing(others))
    }

    /// What is asked of names, where that stands by itself and refers to nothing.
    fn names(&self, keywords: &Map<String, Value>) -> Option<Validator> {
        let asked = keywords.get("propertyNames").filter(|asked| !has_reference(asked))?;
        validator(asked).ok()
    }

    /// Why a property cannot be there.
    fn untaken(&self, keywords: &Map<String, Value>, names: Option<&Validator>, name: &str) -> Option<&'static str> {
        let schema = keywords.get("properties").and_then(|properties| properties.get(name));
        match schema {
            // An object that takes nothing is told of where it stands, unless it refers elsewhere.
            Some(schema) if self.takes_nothing(schema) && (schema.is_boolean() || schema.get("$ref").is_some()) => {
                Some("whose schema takes no value; remove it here, or say there what it takes")
            }
            None if self.is_closed(keywords) => {
                Some("which is not in `properties`, and no other property is taken; describe it there")
            }
            _ if names.is_some_and(|names| !names.is_valid(&Value::from(name))) => {
                Some("which `propertyNames` does not take; remove it here, or take the name there")
            }
            _ => None,
        }
    }

    /// Schemas put together of which none, or not all, can be met.
    fn look_at_branches(&mut self, keywords: &'s Map<String, Value>, at: &mut Pointer) {
        let branches = |keyword: &str| keywords.get(keyword).and_then(Value::as_array);
        for keyword in ["anyOf", "oneOf"] {
            if branches(keyword).is_some_and(|all| all.iter().all(|schema| self.takes_nothing(schema))) {
                self.tell(at, keyword, "holds no schema that takes a value".to_owned());
            }
        }
        if keywords.get("not").is_some_and(is_anything) {
            self.tell(
                at,
                "not",
                "is met by every value, so that none is taken; say what must not be, or write false".into(),
            );
        }
        for (index, schema) in branches("allOf").into_iter().flatten().enumerate() {
            if matches!(schema, Value::Bool(false)) {
                let message = "takes no value, and all of `allOf` have to hold".to_owned();
                at.within("allOf", |at| self.tell(at, &index.to_string(), message));
            }
        }
    }

    /// Whether it is sure that no value meets a schema.
    fn takes_nothing(&self, schema: &Value) -> bool {
        self.types(schema) == Types::NONE
    }

    /// The types of values that may meet a schema.
    fn types(&self, schema: &Value) -> Types {
        match schema {
            Value::Bool(false) => Types::NONE,
            Value::Object(keywords) => {
                let address = std::ptr::from_ref(schema);
                if let Some(known) = self.types.borrow().get(&address).copied() {
                    return known;
                }
                let types = self.asked(keywords).iter().fold(Types::ANY, |common, (_, types)| common.and(*types));
                self.types.borrow_mut().insert(address, types);
                types
            }
            _ => Types::ANY,
        }
    }

    /// What each keyword of a schema asks of a value's type, all of which has to hold.
    fn asked(&self, keywords: &Map<String, Value>) -> Vec<(&'static str, Types)> {
        let mut asked = Vec::new();
        match keywords.get("type") {
            Some(Value::String(name)) => asked.push(("type", Types::named(name))),
            Some(Value::Array(names)) => {
                let named = names.iter().filter_map(Value::as_str).map(Types::named);
                asked.push(("type", Types::any_of(named)));
            }
            _ => {}
        }
        if let Some(listed) = keywords.get("enum").and_then(Value::as_array) {
            asked.push(("enum", Types::any_of(listed.iter().map(Types::of))));
        }
        asked.extend(keywords.get("const").map(|constant| ("const", Types::of(constant))));
        let target = keywords.get("$ref").and_then(Value::as_str).and_then(|reference| {
            let pointer = reference.strip_prefix('#')?;
            self.root.pointer(pointer)
        });
        asked.extend(target.map(|target| ("$ref", self.types(target))));
        let all = keywords.get("allOf").and_then(Value::as_array).into_iter().flatten();
        asked.extend(all.map(|schema| ("allOf", self.types(schema))));
        for keyword in ["anyOf", "oneOf"] {
            let branches = keywords.get(keyword).and_then(Value::as_array);
            let types = |all: &Vec<Value>| Types::any_of(all.iter().map(|schema| self.types(schema)));
            asked.extend(branches.map(|all| (keyword, types(all))));
        }
        asked
    }
}

/// Whether a schema asks for nothing.
fn is_anything(schema: &Value) -> bool {
    match schema {
        Value::Bool(truth) => *truth,
        Value::Object(keywords) => keywords.is_empty(),
        _ => false,
    }
}

fn has_reference(schema: &Value) -> bool {
    match schema {
        Value::Object(keywords) => keywords.iter().any(|(keyword, inner)| keyword == "$ref" || has_reference(inner)),
        Value::Array(items) => items.iter().any(has_reference),
        _ => false,
    }
}

/// The first whole number that is not below a bound.
fn first_whole(bound: &Number, is_in: bool) -> i128 {
    let (below, is_exact) = floor(bound);
    if is_exact && is_in { below } else { below.saturating_add(1) }
}

/// The last whole number that is not above a bound.
fn last_whole(bound: &Number, is_in: bool) -> i128 {
    let (below, is_exact) = floor(bound);
    if is_exact && !is_in { below.saturating_sub(1) } else { below }
}

/// The whole number at or below another one, and whether it is the same.
fn floor(number: &Number) -> (i128, bool) {
    match whole(number) {
        Some(whole) => (whole, true),
        None => {
            let float = number.as_f64().unwrap_or_default();
            // What is beyond is cut to the nearest that there is, which is as far beyond.
            (float.floor() as i128, float.fract() == 0.0)
        }
    }
}

fn whole(number: &Number) -> Option<i128> {
    number.as_i64().map(i128::from).or_else(|| number.as_u64().map(i128::from))
}

/// Which of two numbers is the greater, whole ones digit by digit.
fn compare(one: &Number, other: &Number) -> Ordering {
    match (whole(one), whole(other)) {
        (Some(one), Some(other)) => one.cmp(&other),
        _ => {
            let float = |number: &Number| number.as_f64().unwrap_or_default();
            float(one).partial_cmp(&float(other)).unwrap_or(Ordering::Equal)
        }
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::manifest::schema::admit;

    fn found(schema: &Value) -> Vec<String> {
        admit(schema).unwrap();
        contradictions(schema).into_iter().map(|mistake| format!("{} {}", mistake.path, mistake.message)).collect()
    }

    /// Each of these passed the check, and no configuration could be written for it.
    #[test]
    fn what_contradicts_itself_is_found_with_its_place() {
        for (schema, expected) in [
            (
                json!({ "properties": { "n": { "minimum": 5, "maximum": 3 } } }),
                "/properties/n/minimum is 5, and `maximum` is 3",
            ),
            (json!({ "minimum": 5, "exclusiveMaximum": 5 }), "/minimum is 5, and `exclusiveMaximum` is 5"),
            (json!({ "exclusiveMinimum": 0.5, "maximum": 0.5 }), "/exclusiveMinimum is 0.5"),
            (
                json!({ "exclusiveMinimum": 9_007_199_254_740_993_u64, "maximum": 9_007_199_254_740_992_u64 }),
                "/exclusiveMinimum is 9007199254740993",
            ),
            (json!({ "minLength": 3, "maxLength": 2 }), "/minLength is 3, and `maxLength` is 2: no text is both"),
            (json!({ "minItems": 3, "maxItems": 2 }), "/minItems is 3"),
            (json!({ "items": false, "minItems": 1 }), "/minItems is 1, and `items` takes no more than 0"),
            (json!({ "enum": [] }), "/enum lists nothing"),
            (json!({ "type": "integer", "enum": ["1", "2"] }), "/type takes no value"),
            (json!({ "type": ["integer", "null"], "const": 1.5 }), "/type takes no value"),
            (json!({ "const": 1, "enum": [2, 3] }), "/const is not among `enum`"),
            (
                json!({ "allOf": [{ "type": "string" }, { "type": "integer" }] }),
                "/allOf takes no value: no type is allowed by all that `allOf` ask for",
            ),
            (
                json!({ "type": "string", "$ref": "#/$defs/n", "$defs": { "n": { "type": "number" } } }),
                "/type takes no value: no type is allowed by all that `type` and `$ref` ask for",
            ),
            (json!({ "allOf": [{}, false] }), "/allOf/1 takes no value"),
            (json!({ "anyOf": [false, false] }), "/anyOf holds no schema that takes a value"),
            (
                json!({ "required": ["a"], "properties": { "a": false } }),
                "/required/0 names `a`, whose schema takes no value",
            ),
            (
                json!({ "required": ["a"], "properties": { "a": { "$ref": "#/$defs/no" } }, "$defs": { "no": false } }),
                "/required/0 names `a`, whose schema takes no value",
            ),
            (
                json!({ "required": ["a", "b"], "properties": { "a": {} }, "additionalProperties": false }),
                "/required/1 names `b`, which is not in `properties`",
            ),
            (json!({ "required": ["a", "b"], "maxProperties": 1 }), "/required names 2 properties"),
            (
                json!({ "properties": { "a": {} }, "minProperties": 2, "additionalProperties": false }),
                "/minProperties is 2, and there are 1",
            ),
            (json!({ "items": { "items": { "enum": [] } } }), "/items/items/enum lists nothing"),
            (
                json!({ "type": "integer", "minimum": 1.2, "maximum": 1.8 }),
                "/minimum is 1.2, and `maximum` is 1.8: no whole number is both",
            ),
            (
                json!({ "type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 2 }),
                "/exclusiveMinimum is 1, and `exclusiveMaximum` is 2: no whole number is both",
            ),
            (json!({ "properties": { "a": { "not": {} } } }), "/properties/a/not is met by every value"),
            (json!({ "not": true }), "/not is met by every value"),
            (
                json!({ "required": ["a", "xa"], "propertyNames": { "pattern": "^x" } }),
                "/required/0 names `a`, which `propertyNames` does not take",
            ),
            (
                json!({ "properties": { "a": {} }, "dependentRequired": { "a": ["a", "b"] }, "additionalProperties": false }),
                "/dependentRequired/a/1 asks for `b` beside `a`, which is not in `properties`",
            ),
        ] {
            let found = found(&schema);
            assert!(found.len() == 1 && found[0].starts_with(expected), "{schema}: {found:?}");
        }
    }

    #[test]
    fn what_can_be_met_is_left_alone() {
        for schema in [
            json!({ "minimum": 3, "maximum": 3 }),
            json!({ "exclusiveMinimum": 9_007_199_254_740_992_u64, "maximum": 9_007_199_254_740_993_u64 }),
            json!({ "type": "integer", "enum": [1.0, "x"] }),
            json!({ "type": "number", "const": 3 }),
            json!({ "type": "integer", "allOf": [{ "type": "number" }, { "type": ["integer", "string"] }] }),
            json!({ "properties": { "old": false }, "additionalProperties": false }),
            json!({ "required": ["a"] }),
            json!({ "required": ["a"], "additionalProperties": { "type": "string" } }),
            json!({ "required": ["a"], "patternProperties": { "^a": {} }, "additionalProperties": false }),
            json!({ "anyOf": [false, { "type": "string" }] }),
            json!({ "not": { "enum": [] }, "if": { "minimum": 5, "maximum": 3 }, "then": true }),
            json!({ "const": { "minimum": 5, "maximum": 3 }, "default": { "enum": [] } }),
            json!({ "properties": { "enum": {}, "minimum": {}, "required": { "type": "array" } } }),
            json!({ "prefixItems": [{}, {}], "items": false, "minItems": 2 }),
            json!({ "type": "integer", "minimum": 1.2, "maximum": 2 }),
            json!({ "type": "integer", "exclusiveMinimum": 1, "exclusiveMaximum": 3 }),
            json!({ "type": "integer", "minimum": -1e300, "maximum": 1e300 }),
            json!({ "type": ["integer", "null"], "minimum": 1.2, "maximum": 1.8 }),
            json!({ "not": false, "required": ["xa"], "propertyNames": { "pattern": "^x" } }),
            json!({ "properties": { "a": {} }, "dependentRequired": { "b": ["c"] }, "additionalProperties": false }),
            json!({ "required": ["a"], "propertyNames": { "$ref": "#/$defs/n" }, "$defs": { "n": { "pattern": "^a" } } }),
        ] {
            assert_eq!(found(&schema), Vec::<String>::new(), "{schema}");
        }
    }

    #[test]
    fn few_of_many_contradictions_are_told() {
        let many: Map<String, Value> = (0..200).map(|number| (format!("n{number}"), json!({ "enum": [] }))).collect();
        assert_eq!(found(&json!({ "properties": many })).len(), MAX_TOLD);
    }
}
