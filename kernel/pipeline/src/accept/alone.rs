//! What the kernel makes of the events of one request by themselves, before it looks at anything that is stored: for whoever tries a
//! plugin without a server.

use std::collections::HashMap;

use kith_model::event::{DraftEvent, EventOrigin, RejectedRecord};
use kith_model::flag;
use kith_model::identity::{IdentityRules, is_missing_id};
use kith_model::plugin::{Manifest, Received};
use kith_model::time::Timestamp;

use super::aside::draft;
use super::content;
use super::declared::DeclaredEvents;
use super::moment::{self, Moment};
use super::rules::RuledDraft;
use super::validate;

/// The code of a message whose id another one had before it.
pub(super) const MESSAGE_ID_CONFLICT: &str = "message-id-conflict";

/// What the sender of such a message is told.
pub(super) fn conflict_words(message_id: &str) -> String {
    format!("another message came with the id `{message_id}` before; give each message its own id")
}

/// What becomes of an event.
#[derive(Debug, Clone, PartialEq)]
pub enum EventOutcome {
    /// It is taken, as it stands here: with the moment that its time becomes, and flags of what was odd in it.
    Taken(Box<DraftEvent>),
    /// It is the same as one before it, and taken once.
    Repeat { message_id: String },
    /// It is set aside.
    Rejected(RejectedRecord),
}

/// What becomes of the events that a plugin made of a request, each in its place, in a workspace that has neither rules nor plans of
/// its own and to which nothing was sent before.
pub fn outcomes_of(received: &Received, manifest: &Manifest, received_at: Timestamp) -> Vec<EventOutcome> {
    let (identity, declared) = (IdentityRules::default(), DeclaredEvents::of_manifest(manifest));
    let mut seen: HashMap<String, u64> = HashMap::new();
    let outcome = |(index, event): (usize, &DraftEvent)| {
        let place = received.places.get(index).and_then(|place| place.place).unwrap_or(index as u64);
        let rejected = |record: RejectedRecord| EventOutcome::Rejected(RejectedRecord { place, ..record });
        let ruled = RuledDraft::plain(event);
        if let Err(refused) = validate::check(&ruled.event, &identity) {
            return rejected(refused);
        }
        let message_id = ruled.came.message_id.clone().filter(|id| !is_missing_id(id));
        let digest = content::digest(&ruled.came);
        match message_id.as_ref().and_then(|id| Some((id, *seen.get(id)?))) {
            Some((id, held)) if held == digest => return EventOutcome::Repeat { message_id: id.clone() },
            Some((id, _)) => {
                let (code, message) = (MESSAGE_ID_CONFLICT.to_owned(), conflict_words(id));
                return rejected(RejectedRecord { place, code, message, raw: String::new() });
            }
            None => {}
        }
        if let Some(refused) = declared.as_ref().and_then(|declared| declared.refusal(&ruled.came)) {
            return rejected(refused);
        }
        seen.extend(message_id.map(|id| (id, digest)));
        EventOutcome::Taken(Box::new(taken(ruled.event.into_owned(), received_at)))
    };
    received.events.iter().enumerate().map(outcome).collect()
}

/// An event that was sent as it happened, with its moment by the kernel's clock; one that names none happens at its receipt.
fn taken(mut event: DraftEvent, received_at: Timestamp) -> DraftEvent {
    let Moment { time, flags, original } = moment::of(&event, received_at, EventOrigin::Client);
    event.time = event.time.map(|_| time);
    event.original_time = original;
    event.flags = flag::kept(&event.flags);
    event.flags.extend(flags.into_iter().map(str::to_owned));
    event
}

/// An event as JSON, as a dead letter keeps one of which nobody knows what the sender wrote.
pub fn event_text(event: &DraftEvent) -> String {
    draft::write(event)
}
