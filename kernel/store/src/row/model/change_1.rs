//! Records of the log as version 1 has them: their events have no flags and no time as it came.

use kith_model::audience::Cause;
use kith_model::change::{self, Identified, Movement};
use kith_model::event::{self, EventKind, EventOrigin};
use kith_model::id::{AudienceId, InstallationId, ProfileId, SourceIdentityId};
use kith_model::identity::Identifier;
use kith_model::time::Timestamp;
use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) enum Change {
    Recorded(Event),
    Identified(Identified),
    Membership { audience: AudienceId, profile: ProfileId, movement: Movement, cause: Cause, at: Timestamp },
}

#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct Event {
    message_id: String,
    kind: EventKind,
    name: String,
    time: Timestamp,
    received_at: Timestamp,
    source: InstallationId,
    identity: SourceIdentityId,
    identifiers: Vec<Identifier>,
    properties: String,
    traits: String,
    context: String,
    origin: EventOrigin,
}

impl From<Change> for change::Change {
    fn from(before: Change) -> change::Change {
        match before {
            Change::Recorded(event) => change::Change::Recorded(event.into()),
            Change::Identified(identified) => change::Change::Identified(identified),
            Change::Membership { audience, profile, movement, cause, at } => {
                change::Change::Membership { audience, profile, movement, cause, at }
            }
        }
    }
}

impl From<Event> for event::Event {
    fn from(before: Event) -> event::Event {
        event::Event {
            message_id: before.message_id,
            kind: before.kind,
            name: before.name,
            time: before.time,
            received_at: before.received_at,
            source: before.source,
            identity: before.identity,
            identifiers: before.identifiers,
            properties: before.properties,
            traits: before.traits,
            context: before.context,
            origin: before.origin,
            flags: Vec::new(),
            original_time: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row;

    #[test]
    fn a_record_of_version_1_is_read_without_flags() {
        let before = Event {
            message_id: "m1".into(),
            kind: EventKind::Page,
            name: "Home".into(),
            time: Timestamp(5),
            received_at: Timestamp(6),
            source: InstallationId(2),
            identity: SourceIdentityId([7; 16]),
            identifiers: vec![Identifier::new("user_id", "u1")],
            properties: "{\"a\":1}".into(),
            traits: String::new(),
            context: "{}".into(),
            origin: EventOrigin::Import,
        };
        let mut bytes = vec![1];
        row::write_postcard(&Change::Recorded(before), &mut bytes);
        let change::Change::Recorded(event) = row::decode(&bytes).unwrap() else { panic!("it is an event") };
        assert_eq!((event.name.as_str(), event.origin, event.context.as_str()), ("Home", EventOrigin::Import, "{}"));
        assert_eq!((event.flags.len(), event.original_time.as_deref()), (0, None));
        let again: change::Change = row::decode(&row::encode(&change::Change::Recorded(event.clone()))).unwrap();
        assert_eq!(again, change::Change::Recorded(event));
    }
}
