//! Responsible for an installation's configuration: reading its JSON Schema from the manifest, filling in defaults and
//! validating what an admin wrote.

use std::collections::BTreeSet;
use std::ops::Range;

use jsonschema::{PatternOptions, ValidationError, Validator};
use kith_model::budget::{Exhausted, table};
use kith_model::plugin::Manifest;
use serde_json::{Map, Value, json};
use toml::Spanned;
use toml::de::DeValue;

use super::reader::{Reading, Section};
use super::schema::{self, SchemaMistake};
use super::unshown::{touches, write_only};

mod advice;

/// One thing wrong in a configuration.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("config{path}: {message}")]
pub struct ConfigMistake {
    /// A JSON pointer to the value, e.g. `/columns/0/name`; empty for the whole. Cut where it is long.
    pub path: String,
    /// Cut where it is long: it quotes what was written.
    pub message: String,
}

impl ConfigMistake {
    fn new(path: impl Into<String>, message: impl Into<String>) -> ConfigMistake {
        ConfigMistake { path: cut(path.into()), message: cut(message.into()) }
    }
}

/// How much of a path or a message is shown, in characters.
const MAX_SHOWN: usize = 200;

/// How many mistakes are told of one configuration.
const MAX_MISTAKES: usize = 20;

/// How much is shown of a message together with what the schema says to people.
const MAX_TOLD: usize = 3 * MAX_SHOWN;

pub(super) fn cut(text: String) -> String {
    cut_to(text, MAX_SHOWN)
}

fn cut_to(text: String, most: usize) -> String {
    match text.char_indices().nth(most) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text,
    }
}

/// Why a configuration is not taken.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum ConfigError {
    /// Every place where it does not meet the manifest's schema, 20 at most.
    #[error("{}", .0.iter().map(ToString::to_string).collect::<Vec<_>>().join("; "))]
    Mistakes(Vec<ConfigMistake>),
    #[error(transparent)]
    Exhausted(#[from] Exhausted),
}

impl ConfigError {
    fn whole(message: impl Into<String>) -> ConfigError {
        ConfigError::Mistakes(vec![ConfigMistake::new("", message)])
    }
}

/// The configuration with the schema's defaults filled in. The work is bounded by `config-size` and `config-steps`.
///
/// # Errors
/// Every place where it does not meet the manifest's schema. A plugin without a schema takes only an empty object.
pub fn validate_config(manifest: &Manifest, config: Value) -> Result<Value, ConfigError> {
    validate_unshown_config(manifest, config, &write_only(manifest))
}

/// The same for a configuration of which nothing at these places is told, where it is not what the schema asks for either.
///
/// # Errors
/// As [`validate_config`].
pub fn validate_unshown_config(
    manifest: &Manifest,
    config: Value,
    unshown: &BTreeSet<String>,
) -> Result<Value, ConfigError> {
    let mut config = if config.is_null() { json!({}) } else { config };
    let Some(given) = config.as_object() else {
        return Err(ConfigError::whole("the configuration must be a JSON object"));
    };
    let Some(schema) = &manifest.config_schema else {
        return match given.keys().next() {
            None => Ok(config),
            Some(key) => {
                let message = format!("{} takes no configuration", manifest.id);
                Err(ConfigError::Mistakes(vec![ConfigMistake::new(format!("/{key}"), message)]))
            }
        };
    };
    // One that was uploaded before schemas were measured may be of any size.
    let size = schema::admit(schema).map_err(|SchemaMistake { path, message }| {
        ConfigError::whole(format!("the plugin's schema is not admitted any more: at `{path}`, it {message}"))
    })?;
    let mut room = room_for(&config)?;
    fill_defaults(schema, &mut config, &mut room)?;
    if size.steps(&config) > table::CONFIG_STEPS.default {
        return Err(table::CONFIG_STEPS.exhausted(table::CONFIG_STEPS.default, None).into());
    }
    let validator = validator(schema)
        .map_err(|error| ConfigError::whole(format!("the plugin's schema cannot be used: {}", error.masked())))?;
    let told = |error: ValidationError<'_>| {
        let path = error.instance_path().as_str();
        // Of what is never shown a message would quote the value.
        let message = advice::words(schema, &error, !touches(unshown, path));
        ConfigMistake { path: cut(path.to_owned()), message: cut_to(message, MAX_TOLD) }
    };
    let mistakes: Vec<ConfigMistake> = validator.iter_errors(&config).take(MAX_MISTAKES).map(told).collect();
    if mistakes.is_empty() { Ok(config) } else { Err(ConfigError::Mistakes(mistakes)) }
}

/// The largest that a compiled pattern may be, in bytes: some thousand states, each of which is looked at for each character.
const MAX_COMPILED_PATTERN: usize = 256 << 10;

/// A validator that takes time in proportion to a text's length, whatever the pattern, and follows nothing out of the schema.
pub(super) fn validator(schema: &Value) -> Result<Validator, ValidationError<'static>> {
    let patterns = PatternOptions::regex().size_limit(MAX_COMPILED_PATTERN);
    jsonschema::draft202012::options().with_pattern_options(patterns).build(schema)
}

/// How many bytes of defaults have room beside what was given.
fn room_for(config: &Value) -> Result<u64, Exhausted> {
    let limit = table::CONFIG_SIZE.default;
    let given = config.to_string().len() as u64;
    limit.checked_sub(given).ok_or_else(|| table::CONFIG_SIZE.exhausted(limit, None))
}

/// Put `default` in the place of every absent property, also inside objects and lists that are there, as long as there is
/// room: a list of thousands of empty objects would have each filled with the largest default.
fn fill_defaults(schema: &Value, value: &mut Value, room: &mut u64) -> Result<(), Exhausted> {
    match value {
        Value::Object(object) => {
            let Some(properties) = schema.get("properties").and_then(Value::as_object) else { return Ok(()) };
            for (name, property) in properties {
                if let (false, Some(default)) = (object.contains_key(name), property.get("default")) {
                    // With the quotes, the colon and the comma around it.
                    let takes = (name.len() + default.to_string().len() + 4) as u64;
                    *room = room
                        .checked_sub(takes)
                        .ok_or_else(|| table::CONFIG_SIZE.exhausted(table::CONFIG_SIZE.default, None))?;
                    object.insert(name.clone(), default.clone());
                }
                if let Some(inner) = object.get_mut(name) {
                    fill_defaults(property, inner, room)?;
                }
            }
            Ok(())
        }
        Value::Array(items) => match schema.get("items") {
            Some(schema) => items.iter_mut().try_for_each(|item| fill_defaults(schema, item, room)),
            None => Ok(()),
        },
        _ => Ok(()),
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
    if root.notes.reading() == Reading::Kept {
        return Some(schema);
    }
    let place = |pointer: &str| find(written, pointer).unwrap_or(start..start);
    let wrong = |path: &str, what: &str| root.notes.add(&place(path), format!("[config]{} {what}", dotted(path)));
    // Measured first: how long the others take depends on its size.
    if let Err(mistake) = schema::admit(&schema) {
        wrong(&mistake.path, &mistake.message);
        return Some(schema);
    }
    let wrong_words = schema::wrong_words(&schema);
    wrong_words.iter().for_each(|mistake| wrong(&mistake.path, &cut(mistake.message.clone())));
    if !wrong_words.is_empty() {
        return Some(schema);
    }
    if let Err(error) = jsonschema::draft202012::meta::validate(&schema) {
        wrong(error.instance_path().as_str(), &cut(format!("is not valid JSON Schema: {error}")));
    } else if let Err(error) = validator(&schema) {
        wrong(error.instance_path().as_str(), &cut(format!("cannot be used as JSON Schema: {error}")));
    } else {
        for mistake in schema::contradictions(&schema) {
            wrong(&mistake.path, &cut(mistake.message));
        }
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
