//! Responsible for an installation's configuration: reading its JSON Schema from the manifest, filling in defaults and
//! validating what an admin wrote.

use std::ops::Range;

use kith_model::plugin::Manifest;
use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::reader::Section;

/// One thing wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config{path}: {message}")]
pub struct ConfigMistake {
    /// A JSON pointer to the value, e.g. `/columns/0/name`; empty for the whole.
    pub path: String,
    pub message: String,
}

/// The configuration with the schema's defaults filled in.
///
/// # Errors
/// Every place where it does not meet the manifest's schema. A plugin without a schema takes only an empty object.
pub fn validate_config(manifest: &Manifest, config: Value) -> Result<Value, Vec<ConfigMistake>> {
    let config = if config.is_null() { json!({}) } else { config };
    let at_top = |message: String| vec![ConfigMistake { path: String::new(), message }];
    if !config.is_object() {
        return Err(at_top("the configuration must be a JSON object".into()));
    }
    let Some(schema) = &manifest.config_schema else {
        return match config.as_object().and_then(|object| object.keys().next()) {
            None => Ok(config),
            Some(key) => Err(vec![ConfigMistake {
                path: format!("/{key}"),
                message: format!("{} takes no configuration", manifest.id),
            }]),
        };
    };
    let validator = jsonschema::draft202012::new(schema)
        .map_err(|error| at_top(format!("the plugin's schema cannot be used: {error}")))?;
    let mut config = config;
    fill_defaults(schema, &mut config);
    let mistakes: Vec<ConfigMistake> = validator
        .iter_errors(&config)
        .map(|error| ConfigMistake { path: error.instance_path().as_str().to_owned(), message: error.to_string() })
        .collect();
    if mistakes.is_empty() { Ok(config) } else { Err(mistakes) }
}

/// Put `default` in the place of every absent property, also inside objects and lists that are there.
fn fill_defaults(schema: &Value, value: &mut Value) {
    match value {
        Value::Object(object) => {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return };
            for (name, property) in properties {
                if let (false, Some(default)) = (object.contains_key(name), property.get("default")) {
                    object.insert(name.clone(), default.clone());
                }
                if let Some(inner) = object.get_mut(name) {
                    fill_defaults(property, inner);
                }
            }
        }
        Value::Array(items) => {
            if let Some(schema) = schema.get("items") {
                items.iter_mut().for_each(|item| fill_defaults(schema, item));
            }
        }
        _ => {}
    }
}

/// The schema under `[config]`, checked. A top level that does not say otherwise is an object without further
/// properties, so that an admin's misspelt key is refused and not ignored.
pub(super) fn read_schema(root: &Section<'_, '_>) -> Option<Value> {
    let (_, start) = root.table("config")?;
    let written = root.table.get("config")?;
    let Value::Object(mut schema) = to_json(written.get_ref()) else { return None };
    if schema.entry("type").or_insert_with(|| json!("object")) != "object" {
        root.notes.add(&(start..start), "[config] describes a JSON object; remove its `type` or make it \"object\"");
        return None;
    }
    schema.entry("additionalProperties").or_insert(json!(false));
    let schema = Value::Object(schema);
    let place = |pointer: &str| find(written, pointer).unwrap_or(start..start);
    if let Err(error) = jsonschema::draft202012::meta::validate(&schema) {
        let path = error.instance_path().as_str().to_owned();
        root.notes.add(&place(&path), format!("[config]{} is not valid JSON Schema: {error}", dotted(&path)));
    } else if let Err(error) = jsonschema::draft202012::new(&schema) {
        let path = error.instance_path().as_str().to_owned();
        root.notes.add(&place(&path), format!("[config]{} cannot be used as JSON Schema: {error}", dotted(&path)));
    }
    Some(schema)
}

fn dotted(pointer: &str) -> String {
    pointer.replace('/', ".")
}

/// Where the value at a JSON pointer stands, or its nearest parent that is written.
fn find(from: &Spanned<DeValue<'_>>, pointer: &str) -> Option<Range<usize>> {
    let mut at = from;
    for segment in pointer.split('/').skip(1) {
        let inner = match at.get_ref() {
            DeValue::Table(table) => table.get(segment),
            DeValue::Array(items) => segment.parse::<usize>().ok().and_then(|index| items.get(index)),
            _ => None,
        };
        match inner {
            Some(inner) => at = inner,
            None => break,
        }
    }
    Some(at.span())
}

/// TOML as JSON; dates become texts, and numbers that JSON cannot hold become null.
fn to_json(value: &DeValue<'_>) -> Value {
    match value {
        DeValue::String(text) => json!(text),
        DeValue::Integer(number) => json!(i64::from_str_radix(number.as_str(), number.radix()).ok()),
        DeValue::Float(number) => json!(number.as_str().parse::<f64>().ok()),
        DeValue::Boolean(value) => json!(value),
        DeValue::Datetime(time) => json!(time.to_string()),
        DeValue::Array(items) => Value::Array(items.iter().map(|item| to_json(item.get_ref())).collect()),
        DeValue::Table(table) => {
            let entries = table.iter().map(|(key, value)| (key.get_ref().to_string(), to_json(value.get_ref())));
            Value::Object(entries.collect::<Map<String, Value>>())
        }
    }
}
