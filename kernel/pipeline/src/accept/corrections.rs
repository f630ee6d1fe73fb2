//! Corrections: a row of a file that came before with other content takes the place of the event that was made of it, where
//! the source says so.
//!
//! The event that it replaces leaves the history of its person, and what it said of the person's facts is found out again from
//! the others; a record of the log keeps it, and tells the reactor. What it said of consent stays, since a refusal ends only
//! by an agreement; and so does the evidence that it was.

use kith_model::change::{Change, SupersededEvent};
use kith_model::consent::is_consent;
use kith_model::event::{DraftEvent, Event, EventOrigin, RejectedRecord};
use kith_model::id::SourceIdentityId;
use kith_model::profile::Contribution;
use kith_store::{Key, Operation, ReadError, row};

use super::dedupe::{MessageOrigin, Recognition};
use super::unit::Workspace;
use super::validate::CheckedDraft;
use super::{MAX_LISTED_OF_FILES, MAX_REPORTED_REJECTIONS, Submission, content};
use crate::profiles::facts::{each_row, record_event};

impl Submission {
    /// From whom its messages come.
    pub(super) fn sent(&self) -> MessageOrigin<'_> {
        MessageOrigin {
            source: self.source,
            name: &self.sender.name,
            origin: self.origin,
            received_at: self.received_at,
        }
    }

    fn corrects(&self) -> bool {
        self.sender.corrects && self.origin == EventOrigin::Import
    }

    /// How many of its rejections are listed: who sends a file corrects the rejected rows and sends them again.
    pub(super) fn most_listed(&self) -> usize {
        match self.origin {
            EventOrigin::Import => MAX_LISTED_OF_FILES,
            EventOrigin::Client | EventOrigin::Kernel => MAX_REPORTED_REJECTIONS,
        }
    }
}

impl Submission {
    /// A rejection as an answer lists it: of a file the sender has the rows, and there can be many.
    pub(super) fn listed(&self, record: &RejectedRecord) -> RejectedRecord {
        match self.origin {
            EventOrigin::Import => {
                let RejectedRecord { place, code, message, .. } = record;
                RejectedRecord { place: *place, code: code.clone(), message: message.clone(), raw: String::new() }
            }
            EventOrigin::Client | EventOrigin::Kernel => record.clone(),
        }
    }
}

impl Workspace {
    /// Whether an event corrects something that is under way, or somebody of whom facts are: both must be durable first.
    pub(super) fn must_wait(&mut self, submission: &Submission, event: &DraftEvent) -> bool {
        let Some(message_id) = event.message_id.as_ref().filter(|_| submission.corrects()) else { return false };
        let (sent, digest) = (submission.sent(), content::digest(&content::cleaned(event)));
        if self.seen.is_under_way(&sent, message_id, digest) {
            return true;
        }
        // What cannot be read is found so when the event is accepted.
        match self.seen.look(&sent, message_id, digest) {
            Ok(Recognition::Other(Some(identity), _)) => self.people.has_pending_facts(identity),
            Ok(Recognition::Other(None, _)) => self.people.has_any_pending_facts(),
            _ => false,
        }
    }

    /// Take the events of this id out of the history of whom they belong to. The operations that do it, for each of them; `None`
    /// where the source corrects nothing, or there is no such event.
    pub(super) fn supersede(
        &mut self,
        submission: &Submission,
        checked: &CheckedDraft<'_>,
        message_id: &str,
        of: Option<SourceIdentityId>,
    ) -> Result<Option<Vec<[Operation; 2]>>, ReadError> {
        if !submission.corrects() {
            return Ok(None);
        }
        let identity = match of {
            Some(identity) => identity,
            None => self.people.identify(&checked.identifiers[0].spelled, submission.received_at)?,
        };
        let mut gone: Vec<(Key, Event)> = Vec::new();
        let mut others = Contribution::default();
        each_row(self.store.as_ref(), &Key::events(self.id, identity), |key, value| {
            if let Change::Recorded(event) = row::decode(value)? {
                if event.message_id == message_id && submission.sender.ids.contains(&event.source) {
                    gone.push((key.clone(), event));
                } else {
                    record_event(&mut others, &event);
                }
            }
            Ok(())
        })?;
        if gone.is_empty() {
            return Ok(None);
        }
        let mut operations = Vec::with_capacity(gone.len());
        for (key, event) in gone {
            // What was said of consent stays said.
            self.people.retract_traits(identity, &event, &others, |name, _| is_consent(name))?;
            let row = Some(Key::superseded(self.id, identity, event.time));
            let superseded = Change::Superseded(SupersededEvent { position: key.position(), event });
            let append = Operation::Append { workspace: self.id, record: row::encode(&superseded), row };
            operations.push([append, Operation::Delete(key)]);
        }
        Ok(Some(operations))
    }
}
