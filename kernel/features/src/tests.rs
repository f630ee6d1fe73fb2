//! The language in tables, and the laws that hold for every expression, history and clock.

mod budget;
mod language;
mod laws;
mod parts;
mod reach;
mod reference;
mod states;
mod unknown;

use std::collections::BTreeMap;

use kith_model::event::{Event, EventKind, EventOrigin};
use kith_model::id::{InstallationId, SourceIdentityId};
use kith_model::time::Timestamp;

use crate::{Facts, Value};

/// A profile made of literals.
#[derive(Debug, Clone, Default)]
pub(crate) struct Someone {
    pub(crate) traits: BTreeMap<String, Value>,
    pub(crate) tags: BTreeMap<String, Value>,
    pub(crate) scores: BTreeMap<String, Value>,
    pub(crate) created_at: Option<Timestamp>,
}

impl Facts for Someone {
    fn trait_value(&self, name: &str) -> Value {
        self.traits.get(name).cloned().unwrap_or_default()
    }

    fn tag_value(&self, name: &str) -> Value {
        self.tags.get(name).cloned().unwrap_or_default()
    }

    fn score_value(&self, name: &str) -> Value {
        self.scores.get(name).cloned().unwrap_or_default()
    }

    fn created_at(&self) -> Option<Timestamp> {
        self.created_at
    }

    fn identifiers(&self, kind: &str) -> Value {
        if kind == "email" { Value::List(vec![Value::text("ada@example.org")]) } else { Value::Null }
    }
}

pub(crate) fn at(text: &str) -> Timestamp {
    text.parse().unwrap()
}

pub(crate) fn event(name: &str, time: Timestamp, message_id: &str, properties: &str) -> Event {
    Event {
        message_id: message_id.into(),
        kind: EventKind::Track,
        name: name.into(),
        time,
        received_at: time,
        source: InstallationId(1),
        identity: SourceIdentityId([0; 16]),
        identifiers: Vec::new(),
        properties: properties.into(),
        traits: String::new(),
        context: String::new(),
        origin: EventOrigin::Client,
        flags: Vec::new(),
        original_time: None,
        place: 0,
        reader: 0,
    }
}
