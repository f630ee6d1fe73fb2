//! A record of a file that came before and says again what its source has since said otherwise.
//!
//! A row about a person that has neither an id nor a time of its own says what a system holds now. The same words in an earlier
//! file make it no repeat where a file between them said other words: who moved from Rome to Oslo and back lives in Rome, and who
//! refused, agreed and refused again has refused. The same file again, and a row that stays as it is, say nothing new.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kith_model::change::Change;
use kith_model::event::{DraftEvent, Event, EventKind, EventOrigin};
use kith_model::time::Timestamp;
use kith_store::{Key, ReadError, row};
use serde_json::value::RawValue;

use super::Workspace;
use crate::accept::Submission;
use crate::accept::dedupe::MADE_ID;
use crate::accept::validate::{CheckedDraft, Traits};
use crate::profiles::facts::each_row;

impl Workspace {
    /// Whether a record that came before is a statement of its own: its source said something else of one of its facts in an
    /// import since. All of an import is received at one moment, by which it is told from others.
    pub(super) fn returns(
        &mut self,
        submission: &Submission,
        came: &DraftEvent,
        checked: &CheckedDraft<'_>,
        message_id: &str,
    ) -> Result<bool, ReadError> {
        let is_state = submission.origin == EventOrigin::Import
            && submission.again.is_none()
            && came.kind == EventKind::Identify
            && came.time.is_none()
            && message_id.starts_with(MADE_ID);
        if !is_state || checked.traits.is_empty() {
            return Ok(false);
        }
        let Some(identity) = self.people.find(&checked.identifiers[0].spelled)? else { return Ok(false) };
        let held = self.people.held_otherwise(identity, &checked.traits, message_id)?;
        if held.is_empty() {
            return Ok(false);
        }
        let is_own = |source| submission.sender.ids.contains(&source);
        // What is not durable yet is not among the events.
        let mut other: Option<Timestamp> =
            held.into_iter().flatten().filter(|(source, _)| is_own(*source)).map(|(_, received_at)| received_at).max();
        let mut own: Option<Timestamp> = None;
        each_row(self.store.as_ref(), &Key::events(self.id, identity), |_, value| {
            if let Change::Recorded(event) = row::decode(value)?
                && event.origin == EventOrigin::Import
                && is_own(event.source)
            {
                if event.message_id == message_id {
                    own = own.max(Some(event.received_at));
                } else if says_otherwise(&event, &checked.traits) {
                    other = other.max(Some(event.received_at));
                }
            }
            Ok(())
        })?;
        Ok(own.is_some() && other > own)
    }
}

/// Whether an event gave one of these facts another value.
fn says_otherwise(event: &Event, traits: &Traits<'_>) -> bool {
    let Ok(said) = serde_json::from_str::<BTreeMap<Cow<'_, str>, &RawValue>>(&event.traits) else { return false };
    traits.iter().any(|(name, value)| said.get(name.as_ref()).is_some_and(|said| said.get() != value.get()))
}
