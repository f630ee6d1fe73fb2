//! The rows of events that models emit: what was told of a person, and what waits for the accept lane.

use kith_model::event::EventOrigin;
use kith_model::id::{InstallationId, ProfileId};
use kith_model::identity::Identifier;
use kith_model::plugin::EmittedEvent;
use kith_model::time::{DAY_MS, Timestamp};
use kith_store::row::{self, Owner, Row};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::{Xxh3, xxh3_64};

use super::rows;
use crate::accept::readers::Reader;

rows! {
    Emission: "events that a model emitted", React, 1;
}

/// How an id of an emitted event begins.
const ID: &str = "kith-emit-";

/// How much an installation emitted about one person on the last day on which it did. Days are those of UTC.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct EmittedDay {
    pub day: i64,
    /// New events.
    pub events: u64,
    /// Events that were no news, and count as told since.
    pub no_news: u64,
}

impl EmittedDay {
    /// What was emitted on the day of `now`, where this is what is kept of the last one.
    pub(crate) fn at(self, now: Timestamp) -> EmittedDay {
        let day = now.0.div_euclid(DAY_MS);
        if self.day == day { self } else { EmittedDay { day, ..EmittedDay::default() } }
    }
}

impl Row for EmittedDay {
    const WHAT: &'static str = "what a model emitted about a person on a day";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 2;

    /// The version before counted news alone.
    fn before(version: u8, body: &[u8]) -> Option<Result<EmittedDay, String>> {
        (version == 1).then(|| {
            let (day, events) = row::read_postcard(body)?;
            Ok(EmittedDay { day, events, no_news: 0 })
        })
    }
}

/// Events that were emitted with one answer about one person, until the accept lane has taken them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Emission {
    /// The version that emitted them.
    pub by: Reader,
    pub person: Identifier,
    /// When the answer was kept.
    pub at: Timestamp,
    pub events: Vec<WaitingEvent>,
}

/// One of them.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct WaitingEvent {
    pub message_id: String,
    pub name: String,
    pub properties: String,
}

/// What an event's name and key are told by among all of one person: its properties where it has no key.
pub(crate) fn told_by(event: &EmittedEvent) -> u64 {
    let mut bytes = (event.name.len() as u64).to_be_bytes().to_vec();
    bytes.extend_from_slice(event.name.as_bytes());
    if event.key.is_empty() {
        let canonical = kith_json::canonical(&event.properties);
        bytes.push(0);
        bytes.extend_from_slice(canonical.as_deref().unwrap_or(&event.properties).as_bytes());
    } else {
        bytes.push(1);
        bytes.extend_from_slice(event.key.as_bytes());
    }
    xxh3_64(&bytes)
}

/// The id of an event that an installation emits about a person, whatever is computed again, restarted or upgraded.
pub(crate) fn message_id(installation: InstallationId, person: ProfileId, event: &EmittedEvent) -> String {
    let mut hash = Xxh3::new();
    hash.update(&installation.0.to_be_bytes());
    hash.update(&person.0.0);
    hash.update(&told_by(event).to_be_bytes());
    format!("{ID}{:032x}", hash.digest128())
}

/// Whether an id is that of an event that a model emitted.
pub(crate) fn is_emitted(origin: EventOrigin, message_id: &str) -> bool {
    origin == EventOrigin::Kernel && message_id.starts_with(ID)
}

#[cfg(test)]
mod tests {
    use kith_model::id::SourceIdentityId;

    use super::*;

    fn event(name: &str, properties: &str, key: &str) -> EmittedEvent {
        EmittedEvent { name: name.into(), properties: properties.into(), key: key.into() }
    }

    #[test]
    fn an_event_is_one_by_its_name_and_its_key_and_without_one_by_its_properties() {
        let one = told_by(&event("Won", r#"{"a":1}"#, "2026-01"));
        assert_eq!(one, told_by(&event("Won", r#"{"a":2}"#, "2026-01")));
        assert_ne!(one, told_by(&event("Won", r#"{"a":1}"#, "2026-02")));
        assert_ne!(one, told_by(&event("Lost", r#"{"a":1}"#, "2026-01")));
        let bare = told_by(&event("Won", r#"{"a":1,"b":2}"#, ""));
        assert_eq!(bare, told_by(&event("Won", r#"{ "b": 2, "a": 1 }"#, "")), "however it is written");
        assert_ne!(bare, told_by(&event("Won", r#"{"a":1,"b":3}"#, "")));
        assert_ne!(told_by(&event("Won", "x", "")), told_by(&event("Won", "", "x")));
    }

    #[test]
    fn an_id_is_of_installation_person_and_event() {
        let person = |number: u8| ProfileId(SourceIdentityId([number; 16]));
        let won = event("Won", "", "k");
        let id = message_id(InstallationId(1), person(1), &won);
        assert!(id.starts_with("kith-emit-") && id.len() == 42, "{id}");
        assert_eq!(id, message_id(InstallationId(1), person(1), &won));
        assert_ne!(id, message_id(InstallationId(2), person(1), &won));
        assert_ne!(id, message_id(InstallationId(1), person(2), &won));
    }

    #[test]
    fn a_day_begins_anew() {
        let of = EmittedDay { day: 3, events: 7, no_news: 5 };
        assert_eq!(of.at(Timestamp(3 * DAY_MS + 5)), of);
        assert_eq!(of.at(Timestamp(4 * DAY_MS)), EmittedDay { day: 4, events: 0, no_news: 0 });
    }

    #[test]
    fn a_day_of_the_version_before_is_read() {
        let mut before = vec![1];
        row::write_postcard(&(3_i64, 7_u64), &mut before);
        assert_eq!(row::decode::<EmittedDay>(&before).unwrap(), EmittedDay { day: 3, events: 7, no_news: 0 });
        let now = EmittedDay { day: 3, events: 7, no_news: 5 };
        assert_eq!(row::decode::<EmittedDay>(&row::encode(&now)).unwrap(), now);
    }
}
