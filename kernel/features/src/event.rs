//! What an expression sees of an event.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use kith_model::event::Event;
use kith_model::time::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use crate::value::{FromJson, Value};

/// An event as expressions see it: `e.name`, `e.kind`, `e.time`, `e.source`, and every other field out of its properties.
///
/// Properties are parsed once, when the first condition asks for one.
#[derive(Debug)]
pub struct EventFacts<'a> {
    event: &'a Event,
    source: &'a str,
    tie: u64,
    properties: OnceLock<BTreeMap<String, Value>>,
}

impl<'a> EventFacts<'a> {
    /// The facts of `event`, which came from the source of this name.
    pub fn new(event: &'a Event, source: &'a str) -> EventFacts<'a> {
        // A message id is unique within its source.
        let mut hash = Xxh3::new();
        hash.update(event.message_id.as_bytes());
        hash.update(&event.source.0.to_le_bytes());
        EventFacts { event, source, tie: hash.digest(), properties: OnceLock::new() }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.event.name
    }

    /// When it happened.
    pub fn time(&self) -> Timestamp {
        self.event.time
    }

    /// Orders events of the same time: a hash of message id and source, the same on every machine.
    pub fn tie(&self) -> u64 {
        self.tie
    }

    /// The order of events in a list: by time, then by [`EventFacts::tie`].
    pub fn order(&self, other: &EventFacts<'_>) -> Ordering {
        (self.time(), self.tie).cmp(&(other.time(), other.tie))
    }

    fn properties(&self) -> &BTreeMap<String, Value> {
        self.properties.get_or_init(|| match serde_json::from_str(&self.event.properties) {
            Ok(FromJson(Value::Map(properties))) => properties,
            _ => BTreeMap::new(),
        })
    }

    /// The value at a path of fields, e.g. `["address", "city"]`; null where there is none.
    pub(crate) fn field(&self, path: &[Arc<str>]) -> Value {
        let Some((first, rest)) = path.split_first() else { return Value::Null };
        let own = match first.as_ref() {
            "name" => Value::text(self.event.name.as_str()),
            "kind" => Value::text(self.event.kind.as_str()),
            "time" => Value::Time(self.event.time),
            "source" => Value::text(self.source),
            property => {
                let mut value = self.properties().get(property);
                for field in rest {
                    value = match value {
                        Some(Value::Map(fields)) => fields.get(field.as_ref()),
                        _ => None,
                    };
                }
                return value.cloned().unwrap_or_default();
            }
        };
        if rest.is_empty() { own } else { Value::Null }
    }

    /// All fields as one value: what the naive evaluation puts into its list.
    pub(crate) fn to_value(&self) -> Value {
        let mut fields = self.properties().clone();
        for name in ["name", "kind", "time", "source"] {
            fields.insert(name.to_owned(), self.field(&[name.into()]));
        }
        Value::Map(fields)
    }
}
