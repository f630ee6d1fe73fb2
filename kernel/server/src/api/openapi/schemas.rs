//! What the generated schemas need to be true of what is sent: parts that were flattened into one object, alternatives to
//! `null`, bytes, and pages by name.
//!
//! The rule of parts: who writes an object in parts writes one object, so it is described as one. A part that takes no more
//! members, as bodies of requests do, would refuse the members of the others, and a part that may be absent would refuse all.

use serde_json::{Map, Value, json};

/// Settle every schema of a description.
pub(super) fn settle(document: &mut Value) {
    visit(document, &mut or_null);
    // Parts are copied from here, so that what is in them is settled before.
    let named = document["components"]["schemas"].clone();
    visit(document, &mut |node| one_object(node, &named));
    pages(&mut document["components"]["schemas"]);
}

/// Every object in a document, the inner ones first.
fn visit(value: &mut Value, change: &mut impl FnMut(&mut Map<String, Value>)) {
    match value {
        Value::Object(members) => {
            members.values_mut().for_each(|member| visit(member, change));
            change(members);
        }
        Value::Array(values) => values.iter_mut().for_each(|value| visit(value, change)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

/// The one schema that stands beside `null`.
fn beside_null(alternatives: &Value) -> Option<&Value> {
    let is_null = |schema: &Value| schema["type"] == "null";
    match alternatives.as_array().map(Vec::as_slice) {
        Some([one, other]) if is_null(other) => Some(one),
        Some([one, other]) if is_null(one) => Some(other),
        _ => None,
    }
}

/// Where a schema takes `null` itself, exactly one of it and `null` never holds.
fn or_null(node: &mut Map<String, Value>) {
    if node.get("oneOf").and_then(beside_null).is_some()
        && let Some(alternatives) = node.remove("oneOf")
    {
        node.insert("anyOf".to_owned(), alternatives);
    }
}

/// An object that is put together of parts.
#[derive(Debug, Clone, Default)]
struct Whole {
    properties: Map<String, Value>,
    required: Vec<Value>,
    /// Whether it has members beside these.
    is_open: bool,
}

impl Whole {
    /// Add a part, if it can be told which members it has.
    fn take(&mut self, part: &Value, named: &Value, is_always: bool) -> bool {
        let mut added = self.clone();
        let is_taken = added.add(part, named, is_always);
        if is_taken {
            *self = added;
        }
        is_taken
    }

    fn add(&mut self, part: &Value, named: &Value, is_always: bool) -> bool {
        if let Some(name) = part["$ref"].as_str().and_then(|place| place.rsplit('/').next()) {
            return self.add(&named[name], named, is_always);
        }
        if let Some(parts) = part["allOf"].as_array() {
            return parts.iter().all(|part| self.add(part, named, is_always));
        }
        if let Some(present) = ["oneOf", "anyOf"].into_iter().find_map(|word| beside_null(&part[word])) {
            return self.add(present, named, false);
        }
        if part["type"] != "object" || part["oneOf"].is_array() || part["anyOf"].is_array() {
            return false;
        }
        match part["properties"].as_object() {
            Some(properties) => self.properties.extend(properties.clone()),
            None => self.is_open = true,
        }
        if is_always && let Some(required) = part["required"].as_array() {
            self.required.extend(required.iter().cloned());
        }
        true
    }
}

/// Put the parts of an object together; those of several forms stay beside them.
fn one_object(node: &mut Map<String, Value>, named: &Value) {
    if !node.get("allOf").is_some_and(Value::is_array) {
        return;
    }
    let Some(Value::Array(parts)) = node.remove("allOf") else { return };
    let mut whole = Whole::default();
    let mut others: Vec<Value> = parts.into_iter().filter(|part| !whole.take(part, named, true)).collect();
    let mut object = Map::from_iter([("type".to_owned(), json!("object"))]);
    object.insert("properties".to_owned(), Value::Object(whole.properties));
    if !whole.required.is_empty() {
        object.insert("required".to_owned(), Value::Array(whole.required));
    }
    if whole.is_open {
        object.insert("additionalProperties".to_owned(), json!(true));
    }
    if others.is_empty() {
        node.extend(object);
    } else {
        others.push(Value::Object(object));
        node.insert("allOf".to_owned(), Value::Array(others));
    }
}

/// Pages name what they list.
fn pages(schemas: &mut Value) {
    let Some(schemas) = schemas.as_object_mut() else { return };
    let names: Vec<String> = schemas.keys().cloned().collect();
    for (name, page) in schemas.iter_mut() {
        let Some(listed) = name.strip_prefix("Page_").filter(|listed| names.iter().any(|name| name == listed)) else {
            continue;
        };
        if page["properties"]["items"]["items"].is_object() {
            page["properties"]["items"]["items"] = json!({ "$ref": format!("#/components/schemas/{listed}") });
        }
    }
}

/// The schema of what is no JSON: bytes, or text as it is.
pub(super) fn of_media(media: &str, content: &mut Value) {
    if media != "application/json" && content["schema"]["type"] == "array" {
        content["schema"] = json!({ "type": "string", "format": "binary" });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settled(schemas: Value) -> Value {
        let mut document = json!({ "components": { "schemas": schemas } });
        settle(&mut document);
        document["components"]["schemas"].take()
    }

    #[test]
    fn parts_become_one_object() {
        let schemas = settled(json!({
            "Closed": {
                "type": "object", "properties": { "a": { "oneOf": [{}, { "type": "null" }] } }, "required": ["a"],
                "additionalProperties": false,
            },
            "Parts": { "allOf": [
                { "$ref": "#/components/schemas/Closed" },
                { "type": "object", "properties": { "b": {} }, "required": ["b"] },
            ], "description": "kept" },
            "Deeper": { "allOf": [
                { "$ref": "#/components/schemas/Parts" },
                { "oneOf": [{ "$ref": "#/components/schemas/Closed" }, { "type": "null" }] },
                { "type": "object" },
            ] },
            "Perhaps": { "allOf": [
                { "oneOf": [{ "$ref": "#/components/schemas/Closed" }, { "type": "null" }] },
                { "type": "object", "properties": { "b": {} } },
            ] },
        }));
        let parts = json!({
            "type": "object", "properties": { "a": { "anyOf": [{}, { "type": "null" }] }, "b": {} },
            "required": ["a", "b"], "description": "kept",
        });
        assert_eq!(schemas["Parts"], parts);
        assert_eq!(schemas["Deeper"]["additionalProperties"], true);
        assert_eq!(schemas["Deeper"]["required"], json!(["a", "b"]));
        let perhaps = &schemas["Perhaps"];
        assert!(perhaps["required"].is_null() && perhaps["properties"]["a"].is_object(), "{perhaps}");
    }

    #[test]
    fn parts_of_several_forms_stay() {
        let forms = json!({ "oneOf": [{ "type": "object", "properties": { "a": {} } }, { "type": "object" }] });
        let schemas = settled(json!({
            "Forms": forms,
            "Parts": { "allOf": [{ "$ref": "#/components/schemas/Forms" }, { "type": "object", "properties": { "b": {} } }] },
            "Null": { "oneOf": [{ "type": "null" }, {}] },
        }));
        assert_eq!(schemas["Forms"], forms);
        assert_eq!(schemas["Parts"]["allOf"].as_array().unwrap().len(), 2);
        assert_eq!(schemas["Null"], json!({ "anyOf": [{ "type": "null" }, {}] }));
    }
}
