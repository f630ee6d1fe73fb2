//! Refusals of consent that stand in what becomes no event, or under identifiers that a rule drops: nobody who refused may be written
//! to because of a mistake elsewhere in the message, or of a rule.

use kith_model::event::DraftEvent;
use kith_store::ReadError;

use super::{Draft, Workspace};
use crate::accept::rules::RuledDraft;
use crate::accept::validate;
use crate::views::Verdict;

/// What is told of a record that is not taken, where its refusal is heard.
pub(super) const REFUSAL_TAKEN: &str = "; the refusal of consent in it was taken";
/// And where it is not.
pub(super) const REFUSAL_LOST: &str = "; the refusal of consent that may be in it was not taken";

impl Workspace {
    /// What a draft that becomes no event refuses is heard all the same: nobody who refused may be written to because of a
    /// mistake elsewhere in the message. What became of it, for people.
    pub(super) fn hear_refusal(
        &mut self,
        draft: &mut Draft<'_>,
        event: &DraftEvent,
        index: usize,
        verdict: &Verdict,
    ) -> Result<&'static str, ReadError> {
        match verdict {
            Verdict::Accepted | Verdict::Corrected | Verdict::Duplicate => return Ok(""),
            Verdict::Conflict { .. } | Verdict::Rejected(_) | Verdict::Dropped => {}
        }
        match validate::refusal(event, &self.rules) {
            validate::Refusal::None => Ok(""),
            validate::Refusal::Lost => Ok(REFUSAL_LOST),
            // The rules have been applied to whom it names.
            validate::Refusal::Readable(refusal) => match self.accept_refusal(draft, &refusal, index)? {
                Verdict::Accepted => Ok(REFUSAL_TAKEN),
                _ => Ok(REFUSAL_LOST),
            },
        }
    }

    /// What a draft refuses is refused of the identifiers as well that a rule drops from it, and is kept under the hash of each:
    /// consent is touched by no rule, and the rule keeps the values out. Each by itself, so that nothing ties them. Whether
    /// anything was heard.
    pub(super) fn hear_of_dropped(
        &mut self,
        draft: &mut Draft<'_>,
        ruled: &RuledDraft<'_>,
        index: usize,
        verdict: &Verdict,
    ) -> Result<bool, ReadError> {
        if ruled.dropped.is_empty() || matches!(verdict, Verdict::Duplicate) {
            return Ok(false);
        }
        let draft_event = &ruled.event;
        let named = DraftEvent {
            identifiers: ruled.dropped.clone(),
            traits: draft_event.traits.clone(),
            time: draft_event.time,
            sent_at: draft_event.sent_at,
            ..DraftEvent::default()
        };
        let validate::Refusal::Readable(mut refusal) = validate::refusal(&named, &self.rules) else {
            return Ok(false);
        };
        let mut is_heard = false;
        for hashed in &ruled.dropped {
            refusal.identifiers = vec![hashed.clone()];
            is_heard |= matches!(self.accept_refusal(draft, &refusal, index)?, Verdict::Accepted);
        }
        Ok(is_heard)
    }

    fn accept_refusal(
        &mut self,
        draft: &mut Draft<'_>,
        refusal: &DraftEvent,
        index: usize,
    ) -> Result<Verdict, ReadError> {
        draft.is_refusal = true;
        let verdict = self.accept_event(draft, &RuledDraft::plain(refusal), index);
        draft.is_refusal = false;
        verdict
    }
}
