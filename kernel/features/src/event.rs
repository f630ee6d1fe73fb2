//! What an expression sees of an event.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::{Arc, OnceLock};

use kith_model::event::{Event, EventOrigin};
use kith_model::time::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use crate::value::Value;

/// The fields of an event that stand for a whole object of its own.
pub(crate) const OBJECTS: [&str; 3] = ["properties", "traits", "context"];

/// An event as expressions see it: `e.name`, `e.kind`, `e.time`, `e.source`, the objects `e.properties`, `e.traits` and
/// `e.context`, and by its bare name every property that is called otherwise.
///
/// Each object is parsed once, when the first condition asks for it.
#[derive(Debug)]
pub struct EventFacts<'a> {
    event: &'a Event,
    source: &'a str,
    tie: u64,
    properties: OnceLock<Value>,
    traits: OnceLock<Value>,
    context: OnceLock<Value>,
}

impl<'a> EventFacts<'a> {
    /// The facts of `event`, which came from the source of this name.
    pub fn new(event: &'a Event, source: &'a str) -> EventFacts<'a> {
        // A message id is unique within its source.
        let mut hash = Xxh3::new();
        hash.update(event.message_id.as_bytes());
        hash.update(&event.source.0.to_le_bytes());
        EventFacts {
            event,
            source,
            tie: event.place.min(u32::MAX.into()) << 32 | hash.digest() >> 32,
            properties: OnceLock::new(),
            traits: OnceLock::new(),
            context: OnceLock::new(),
        }
    }

    /// Its name.
    pub fn name(&self) -> &'a str {
        &self.event.name
    }

    /// When it happened.
    pub fn time(&self) -> Timestamp {
        self.event.time
    }

    /// Orders events of the same time: by where they stood in their file or request, then by a hash of message id and source,
    /// the same on every machine.
    pub fn tie(&self) -> u64 {
        self.tie
    }

    /// The order of events in a list: by time, then by [`EventFacts::tie`].
    pub fn order(&self, other: &EventFacts<'_>) -> Ordering {
        (self.time(), self.tie).cmp(&(other.time(), other.tie))
    }

    /// How it came in.
    pub fn origin(&self) -> EventOrigin {
        self.event.origin
    }

    /// Whether it is one of `events('*')`: what the kernel tells of its own work is no activity of the person.
    pub(crate) fn is_activity(&self) -> bool {
        self.event.origin != EventOrigin::Kernel
    }

    fn properties(&self) -> &Value {
        self.properties.get_or_init(|| object(&self.event.properties))
    }

    fn object(&self, name: &str) -> Option<&Value> {
        match name {
            "properties" => Some(self.properties()),
            "traits" => Some(self.traits.get_or_init(|| object(&self.event.traits))),
            "context" => Some(self.context.get_or_init(|| object(&self.event.context))),
            _ => None,
        }
    }

    /// The value at a path of fields, e.g. `["address", "city"]`; null where there is none.
    pub(crate) fn field(&self, path: &[Arc<str>]) -> Cow<'_, Value> {
        let Some((first, rest)) = path.split_first() else { return Cow::Owned(Value::Null) };
        let own = match first.as_ref() {
            "name" => Value::text(self.event.name.as_str()),
            "kind" => Value::text(self.event.kind.as_str()),
            "time" => Value::Time(self.event.time),
            "source" => Value::text(self.source),
            name => {
                let (object, path) = self.object(name).map_or((self.properties(), path), |object| (object, rest));
                return member(object, path).map_or(Cow::Owned(Value::Null), Cow::Borrowed);
            }
        };
        Cow::Owned(if rest.is_empty() { own } else { Value::Null })
    }

    /// All fields as one value, as the naive evaluation puts it into its list; with the objects only where the expression
    /// names one, because each is a second copy of the event.
    pub(crate) fn to_value(&self, objects: &[&str]) -> Value {
        let mut fields = match self.properties() {
            Value::Map(properties) => properties.clone(),
            _ => BTreeMap::new(),
        };
        for name in ["name", "kind", "time", "source"].iter().chain(objects) {
            fields.insert((*name).to_owned(), self.field(&[(*name).into()]).into_owned());
        }
        Value::Map(fields)
    }
}

/// A JSON object; an empty one where the text is none.
fn object(json: &str) -> Value {
    match Value::from_json_text(json) {
        object @ Value::Map(_) => object,
        _ => Value::Map(BTreeMap::new()),
    }
}

/// The member at a path below a value.
fn member<'v>(value: &'v Value, path: &[Arc<str>]) -> Option<&'v Value> {
    path.iter().try_fold(value, |value, field| match value {
        Value::Map(fields) => fields.get(field.as_ref()),
        _ => None,
    })
}
