//! Responsible for which JSON Schemas are admitted: those of which it is known beforehand how much work a check against them
//! can be. The validator follows every reference and tries every branch, so that thirty references to two references each are a
//! thousand million branches in 2 KiB; a schema is therefore measured as if each reference were written out, in one pass
//! that looks at each of its places once.

mod contradictions;
mod keywords;

use std::collections::HashMap;

use kith_model::budget::table;
use serde_json::{Map, Value};

use super::pattern;

pub(crate) use contradictions::contradictions;
pub(crate) use keywords::wrong_words;

/// Why a schema is not admitted.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub(crate) struct SchemaMistake {
    /// A JSON pointer into the schema.
    pub(crate) path: String,
    pub(crate) message: String,
}

/// How deep schemas may lie in each other, references followed. What goes deeper than our own (6) by so much is no form that
/// somebody fills in; the validator goes as deep on its stack.
const MAX_DEPTH: usize = 48;

/// A pattern counts as so many places, and as each of its states where it has more: each is compiled wherever it is referred to.
const PATTERN_SIZE: u64 = 64;

/// Bytes of text that a check looks at for a state of a pattern while it looks at a place otherwise.
const BYTES_A_STEP: u64 = 64;

/// The longest pattern, in bytes.
const MAX_PATTERN_BYTES: usize = 512;

/// Keywords whose value is data and no schema.
const DATA: [&str; 4] = ["const", "default", "enum", "examples"];

/// Keywords that name schemas by keys of their own.
const NAMED: [&str; 5] = ["$defs", "definitions", "dependentSchemas", "patternProperties", "properties"];

/// Keywords that would make it matter where a check comes from, or that check the same places again at each level.
const REFUSED: [&str; 8] = [
    "$anchor",
    "$dynamicAnchor",
    "$dynamicRef",
    "$id",
    "$recursiveAnchor",
    "$recursiveRef",
    "unevaluatedItems",
    "unevaluatedProperties",
];

const DIALECT: &str = "https://json-schema.org/draft/2020-12/schema";

/// The size of a schema with each reference counted as what it stands for.
///
/// # Errors
/// A reference that leads out of the schema, nowhere or back to itself, a keyword that is not read, or more than is admitted.
pub(crate) fn admit(schema: &Value) -> Result<SchemaSize, SchemaMistake> {
    let mut survey = Survey { root: schema, seen: HashMap::new() };
    let measured = survey.measure(schema, &mut Pointer::default(), 0)?;
    Ok(measured.size)
}

/// How large a schema is, each reference counted as what it stands for.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct SchemaSize {
    pub(crate) places: u64,
    /// Of all patterns together: each may be looked at for each byte of each text and name.
    states: u64,
}

impl SchemaSize {
    /// How many steps a check of a value takes at most.
    pub(crate) fn steps(self, value: &Value) -> u64 {
        let of_places = self.places.saturating_mul(places(value));
        // Most schemas have no patterns, and then texts may be of any length.
        let of_texts = if self.states == 0 { 0 } else { self.states.saturating_mul(text_bytes(value)) / BYTES_A_STEP };
        of_places.saturating_add(of_texts)
    }
}

/// What a place of the schema comes to.
#[derive(Debug, Clone, Copy, Default)]
struct Measure {
    size: SchemaSize,
    /// Of the schemas in it, itself included.
    height: usize,
}

impl Measure {
    /// One place, in which there is none other.
    const ONE: Measure = Measure { size: SchemaSize { places: 1, states: 0 }, height: 0 };

    fn add(&mut self, inner: Measure) {
        self.size.places = self.size.places.saturating_add(inner.size.places);
        self.size.states = self.size.states.saturating_add(inner.size.states);
        self.height = self.height.max(inner.height + 1);
    }
}

/// Where in the schema the survey is, for messages.
#[derive(Debug, Clone, Default)]
struct Pointer(Vec<String>);

impl Pointer {
    fn wrong(&self, message: impl Into<String>) -> SchemaMistake {
        let steps = self.0.iter().map(|step| format!("/{}", step.replace('~', "~0").replace('/', "~1")));
        SchemaMistake { path: steps.collect(), message: message.into() }
    }

    /// Do something one step further in.
    fn within<T>(&mut self, step: impl Into<String>, work: impl FnOnce(&mut Pointer) -> T) -> T {
        self.0.push(step.into());
        let done = work(self);
        self.0.pop();
        done
    }
}

/// One pass over a schema.
struct Survey<'s> {
    root: &'s Value,
    /// What each place comes to, by its address in memory; `None` while it is being measured, so that whoever comes back to it
    /// has found a circle.
    seen: HashMap<*const Value, Option<Measure>>,
}

impl<'s> Survey<'s> {
    fn measure(&mut self, schema: &'s Value, at: &mut Pointer, depth: usize) -> Result<Measure, SchemaMistake> {
        let Value::Object(keywords) = schema else { return Ok(Measure::ONE) };
        let address = std::ptr::from_ref(schema);
        match self.seen.get(&address) {
            Some(Some(measured)) => return Ok(*measured),
            Some(None) => {
                return Err(at.wrong("refers to itself; a schema here cannot be recursive, write the levels out"));
            }
            None => {}
        }
        if depth >= MAX_DEPTH {
            return Err(at.wrong(format!("lies {MAX_DEPTH} schemas deep; make the configuration flatter")));
        }
        self.seen.insert(address, None);
        let mut measured = Measure::ONE;
        for (keyword, value) in keywords {
            let part = at.within(keyword, |at| self.keyword(keyword, value, at, depth))?;
            measured.add(part);
        }
        let limit = table::SCHEMA_SIZE.default;
        if measured.size.places > limit {
            table::SCHEMA_SIZE.count();
            let message = format!("has more than {limit} places with its references written out; make it smaller");
            return Err(at.wrong(message));
        }
        if measured.height >= MAX_DEPTH {
            return Err(at.wrong(format!("is {MAX_DEPTH} schemas deep; make the configuration flatter")));
        }
        self.seen.insert(address, Some(measured));
        Ok(measured)
    }

    fn keyword(
        &mut self,
        keyword: &str,
        value: &'s Value,
        at: &mut Pointer,
        depth: usize,
    ) -> Result<Measure, SchemaMistake> {
        match (keyword, value) {
            ("$ref", Value::String(reference)) => self.reference(reference, at, depth),
            ("$schema", Value::String(dialect)) if dialect.trim_end_matches('#') != DIALECT => {
                Err(at.wrong(format!("is another dialect; write \"{DIALECT}\" or leave it out")))
            }
            ("pattern", Value::String(pattern)) => pattern_size(pattern, at),
            (keyword, _) if REFUSED.contains(&keyword) => {
                Err(at.wrong("is not read here; write the schema with `$defs`, `$ref` and `additionalProperties`"))
            }
            (keyword, value) if DATA.contains(&keyword) => data(value, at, depth),
            (keyword, Value::Object(named)) if NAMED.contains(&keyword) => self.named(keyword, named, at, depth),
            (_, Value::Array(schemas)) => {
                let mut all = Measure::default();
                for (index, schema) in schemas.iter().enumerate() {
                    all.add(at.within(index.to_string(), |at| self.measure(schema, at, depth + 1))?);
                }
                Ok(all)
            }
            (_, schema) => self.measure(schema, at, depth + 1),
        }
    }

    fn named(
        &mut self,
        keyword: &str,
        named: &'s Map<String, Value>,
        at: &mut Pointer,
        depth: usize,
    ) -> Result<Measure, SchemaMistake> {
        let mut all = Measure::default();
        for (name, schema) in named {
            let part = at.within(name, |at| {
                let part = self.measure(schema, at, depth + 1)?;
                if keyword == "patternProperties" {
                    all.add(pattern_size(name, at)?)
                }
                Ok(part)
            })?;
            // A definition counts where it is referred to.
            if !matches!(keyword, "$defs" | "definitions") {
                all.add(part);
            }
        }
        Ok(all)
    }

    fn reference(&mut self, reference: &str, at: &mut Pointer, depth: usize) -> Result<Measure, SchemaMistake> {
        let shown: String = reference.chars().take(64).collect();
        let Some(pointer) = reference.strip_prefix('#').filter(|rest| rest.is_empty() || rest.starts_with('/')) else {
            let message = format!("`{shown}` leads out of the schema; refer to a part of it, e.g. `#/$defs/column`");
            return Err(at.wrong(message));
        };
        // A percent sign would be decoded by the validator, which then looks elsewhere than this does.
        let target = (!pointer.contains('%')).then(|| self.root.pointer(pointer)).flatten();
        match target {
            Some(target @ (Value::Object(_) | Value::Bool(_))) => self.measure(target, at, depth + 1),
            Some(_) | None => Err(at.wrong(format!("`{shown}` is no schema in here"))),
        }
    }
}

fn pattern_size(pattern: &str, at: &Pointer) -> Result<Measure, SchemaMistake> {
    if pattern.len() > MAX_PATTERN_BYTES {
        return Err(at.wrong(format!("has {} bytes; a pattern has at most {MAX_PATTERN_BYTES}", pattern.len())));
    }
    let states = pattern::states(pattern);
    Ok(Measure { size: SchemaSize { places: states.max(PATTERN_SIZE), states }, height: 0 })
}

/// The size of what is no schema.
fn data(value: &Value, at: &Pointer, depth: usize) -> Result<Measure, SchemaMistake> {
    if depth >= MAX_DEPTH {
        return Err(at.wrong(format!("lies {MAX_DEPTH} levels deep; make it flatter")));
    }
    let mut all = Measure::ONE;
    let (items, entries) =
        (value.as_array().into_iter().flatten(), value.as_object().into_iter().flat_map(Map::values));
    for inner in items.chain(entries) {
        all.add(data(inner, at, depth + 1)?);
    }
    Ok(all)
}

/// The number of places of a configuration: each list, object, text, number.
pub(crate) fn places(value: &Value) -> u64 {
    match value {
        Value::Array(items) => 1 + items.iter().map(places).sum::<u64>(),
        Value::Object(entries) => 1 + entries.values().map(places).sum::<u64>(),
        _ => 1,
    }
}

/// The bytes of all texts and names of a value.
fn text_bytes(value: &Value) -> u64 {
    match value {
        Value::String(text) => text.len() as u64,
        Value::Array(items) => items.iter().map(text_bytes).sum(),
        Value::Object(entries) => entries.iter().map(|(name, value)| name.len() as u64 + text_bytes(value)).sum(),
        _ => 0,
    }
}

#[cfg(test)]
mod tests;
