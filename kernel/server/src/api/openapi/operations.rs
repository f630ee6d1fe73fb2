//! What operations share and no handler writes down: ids of their own, a description of each answer, versions of what is
//! edited (`ETag`, `If-Match`), and the bodies that are no JSON.

use serde_json::{Value, json};

use super::schemas::of_media;

/// Settle every operation of a description whose ids are still the names of handlers.
pub(super) fn settle(document: &mut Value) {
    let schemas = document["components"]["schemas"].clone();
    let Some(paths) = document["paths"].as_object_mut() else { return };
    for (path, item) in paths {
        let Some(operations) = item.as_object_mut() else { continue };
        let is_edited = operations.values().any(|operation| operation["responses"]["412"].is_object());
        for operation in operations.values_mut() {
            let handler = operation["operationId"].as_str().unwrap_or_default();
            operation["operationId"] = id_of(handler, path).into();
            settle_one(operation, &schemas, is_edited);
        }
    }
}

fn settle_one(operation: &mut Value, schemas: &Value, is_edited: bool) {
    if operation["responses"]["412"].is_object() {
        add_parameter(operation, if_match());
    }
    for parameter in operation.get_mut("parameters").and_then(Value::as_array_mut).into_iter().flatten() {
        by_names(parameter);
        never_null(parameter);
    }
    if let Some(contents) = operation.pointer_mut("/requestBody/content").and_then(Value::as_object_mut) {
        contents.iter_mut().for_each(|(media, content)| of_media(media, content));
    }
    for (status, response) in operation["responses"].as_object_mut().into_iter().flatten() {
        if response["description"].as_str().is_none_or(str::is_empty) {
            response["description"] = described(status, response, schemas).into();
        }
        if let Some(contents) = response.get_mut("content").and_then(Value::as_object_mut) {
            contents.iter_mut().for_each(|(media, content)| of_media(media, content));
        }
        if is_edited && matches!(status.as_str(), "200" | "201") {
            response["headers"]["ETag"] = json!({
                "description": "the version that the answer shows; hand it in as `If-Match` with an edit",
                "schema": { "type": "string" },
            });
        }
    }
}

fn add_parameter(operation: &mut Value, parameter: Value) {
    match operation.get_mut("parameters").and_then(Value::as_array_mut) {
        Some(parameters) => parameters.push(parameter),
        None => operation["parameters"] = json!([parameter]),
    }
}

fn if_match() -> Value {
    json!({
        "name": "If-Match", "in": "header", "required": false, "schema": { "type": "string" },
        "description": "the `ETag` of what you read; where it is of another version by now, nothing is changed and the answer is 412",
    })
}

/// What stands in the place of the name in a parameter that there is one of for each name, e.g. `trait.NAME`.
pub(super) const EACH_NAME: &str = ".NAME";

/// A parameter for each name is an object whose members are parameters.
fn by_names(parameter: &mut Value) {
    let Some(prefix) = parameter["name"].as_str().and_then(|name| name.strip_suffix(EACH_NAME)) else { return };
    let pattern = format!("^{prefix}\\..+$");
    parameter["style"] = "form".into();
    parameter["explode"] = true.into();
    parameter["schema"] = json!({
        "type": "object", "propertyNames": { "pattern": pattern }, "additionalProperties": { "type": "string" },
    });
}

/// A parameter that may be absent is never `null`.
fn never_null(parameter: &mut Value) {
    let Some(place) = parameter.pointer_mut("/schema/type") else { return };
    let Some(types) = place.as_array() else { return };
    let other: Vec<Value> = types.iter().filter(|one| *one != "null").cloned().collect();
    *place = if let [one] = other.as_slice() { one.clone() } else { Value::Array(other) };
}

/// The id of an operation: its handler's name and what of its path that does not say yet. Two handlers of one name are of
/// different paths.
fn id_of(handler: &str, path: &str) -> String {
    let mut words: Vec<String> = handler.split('_').map(str::to_owned).collect();
    let fixed =
        path.split('/').filter(|part| !part.is_empty() && !part.starts_with('{') && !matches!(*part, "api" | "v1"));
    for word in fixed.flat_map(|part| part.split(['-', '.'])) {
        let word = word.to_ascii_lowercase();
        let is_said = |said: &String| *said == word || word.strip_suffix('s') == Some(said.as_str());
        if !words.iter().any(is_said) && words.concat() != word {
            words.push(word);
        }
    }
    words.join("_")
}

/// What an answer is that its handler says nothing of.
fn described(status: &str, response: &Value, schemas: &Value) -> String {
    let schema = &response["content"]["application/json"]["schema"];
    let name = schema["$ref"].as_str().and_then(|place| place.rsplit('/').next()).unwrap_or_default();
    let of = |name: &str| {
        let text = schemas[name]["description"].as_str()?;
        let first = text.split_inclusive(['.', '\n']).next()?.trim().trim_end_matches('.');
        (!first.is_empty()).then(|| first.to_owned())
    };
    match (of(name), name.strip_prefix("Page_").and_then(of)) {
        (_, Some(listed)) => format!("One page of a list, of each: {listed}"),
        (Some(text), None) => text,
        (None, None) if status == "204" => "Done; there is nothing more to say".to_owned(),
        (None, None) => "Done".to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_say_what_is_done_to_what() {
        for (handler, path, expected) in [
            ("list", "/api/v1/audiences", "list_audiences"),
            ("read", "/api/v1/audiences/{id}", "read_audiences"),
            ("list", "/api/v1/sources/quality", "list_sources_quality"),
            ("events", "/api/v1/profiles/{id}/events", "events_profiles"),
            ("merge", "/api/v1/identity/merges", "merge_identity"),
            ("not_followed", "/api/v1/identity/not-followed", "not_followed_identity"),
            ("batch", "/v1/batch", "batch"),
            ("batch_short", "/v1/b", "batch_short_b"),
            ("source_config", "/sourceConfig", "source_config"),
            ("describe", "/api/v1/openapi.json", "describe_openapi_json"),
        ] {
            assert_eq!(id_of(handler, path), expected);
        }
    }
}
