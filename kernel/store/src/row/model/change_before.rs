//! Records of the log as the versions before have them. Their events differ: those of version 1 have no flags and no time as it
//! came, those of version 2 no place, those of version 3 no reader. Up to version 3 no event was taken back. Version 4 is as that of
//! today, but that no event returned.

use kith_model::audience::Cause;
use kith_model::change::{Change, IdentityChange, Movement, SupersededEvent};
use kith_model::event::{Event, EventKind, EventOrigin};
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, SourceIdentityId};
use kith_model::identity::Identifier;
use kith_model::time::Timestamp;
use serde::Deserialize;
#[cfg(test)]
use serde::Serialize;

/// A record with the events of a version.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) enum ChangeBefore<E> {
    Recorded(E),
    Identified(IdentityChange),
    Membership { audience: AudienceId, profile: ProfileId, movement: Movement, cause: Cause, at: Timestamp },
    Superseded { position: Position, event: E },
}

/// An event of version 1.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct First {
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

/// An event of version 2.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct Second {
    first: First,
    flags: Vec<String>,
    original_time: Option<String>,
}

/// An event of version 3.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
pub(super) struct Third {
    second: Second,
    place: u64,
}

impl<E: Into<Event>> From<ChangeBefore<E>> for Change {
    fn from(before: ChangeBefore<E>) -> Change {
        match before {
            ChangeBefore::Recorded(event) => Change::Recorded(event.into()),
            ChangeBefore::Identified(identified) => Change::Identified(identified),
            ChangeBefore::Membership { audience, profile, movement, cause, at } => {
                Change::Membership { audience, profile, movement, cause, at }
            }
            ChangeBefore::Superseded { position, event } => {
                Change::Superseded(SupersededEvent { position, event: event.into() })
            }
        }
    }
}

impl From<First> for Event {
    fn from(before: First) -> Event {
        Event {
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
            place: 0,
            reader: 0,
        }
    }
}

impl From<Second> for Event {
    fn from(before: Second) -> Event {
        Event { flags: before.flags, original_time: before.original_time, ..before.first.into() }
    }
}

impl From<Third> for Event {
    fn from(before: Third) -> Event {
        Event { place: before.place, ..before.second.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::row;

    fn first() -> First {
        First {
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
        }
    }

    fn read<E: Serialize>(version: u8, event: E) -> Event {
        let mut bytes = vec![version];
        row::write_postcard(&ChangeBefore::Recorded(event), &mut bytes);
        let Change::Recorded(event) = row::decode(&bytes).unwrap() else { panic!("it is an event") };
        let again: Change = row::decode(&row::encode(&Change::Recorded(event.clone()))).unwrap();
        assert_eq!(again, Change::Recorded(event.clone()));
        event
    }

    #[test]
    fn records_of_the_versions_before_are_read() {
        let event = read(1, first());
        assert_eq!((event.name.as_str(), event.origin, event.context.as_str()), ("Home", EventOrigin::Import, "{}"));
        assert_eq!((event.flags.len(), event.original_time.as_deref(), event.place), (0, None, 0));
        let second = Second { first: first(), flags: vec!["odd".into()], original_time: Some("then".into()) };
        let event = read(2, second);
        assert_eq!((event.name.as_str(), event.place), ("Home", 0));
        assert_eq!((event.flags, event.original_time.as_deref()), (vec!["odd".to_owned()], Some("then")));
        let second = Second { first: first(), flags: vec!["odd".into()], original_time: None };
        let event = read(3, Third { second, place: 7 });
        assert_eq!((event.name.as_str(), event.flags.len(), event.place, event.reader), ("Home", 1, 7, 0));
        let second = Second { first: first(), flags: Vec::new(), original_time: None };
        let mut bytes = vec![2];
        row::write_postcard(&ChangeBefore::Superseded { position: Position(7), event: second }, &mut bytes);
        let Change::Superseded(read) = row::decode(&bytes).unwrap() else { panic!("it is a superseded event") };
        assert_eq!((read.position, read.event.name.as_str()), (Position(7), "Home"));
        let taken_back = Change::TakenBack(SupersededEvent { position: Position(7), event });
        let mut bytes = row::encode(&taken_back);
        assert_eq!(row::decode::<Change>(&bytes).unwrap(), taken_back);
        bytes[0] = 4;
        assert_eq!(row::decode::<Change>(&bytes).unwrap(), taken_back);
    }
}
