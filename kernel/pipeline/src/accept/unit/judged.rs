//! What the manifest of the source's plugin and a tracking plan's judgement make of an event, and what else of it its source's
//! counts tell.

use kith_model::event::{DraftEvent, EventOrigin, RejectedRecord};
use kith_model::flag;
use kith_model::time::Timestamp;
use kith_model::tracking::{Judgement, Policy};

use super::{Draft, LATE_AFTER_MS};

impl Draft<'_> {
    fn judged(&self, index: usize) -> Option<&Judgement> {
        self.submission.input.as_ref()?.judged.of(index).filter(|_| !self.is_refusal)
    }

    /// The refusal of an event that is no repeat, where the source's plugin may not emit it, or the plan does not take it; what
    /// the plan says is counted. `came` is the event before the rules.
    pub(super) fn judge(&mut self, index: usize, came: &DraftEvent) -> Option<RejectedRecord> {
        let declared = self.submission.sender.declared.as_ref().filter(|_| !self.is_refusal);
        if let Some(refused) = declared.and_then(|declared| declared.refusal(came)) {
            return Some(refused);
        }
        let judged = self.judged(index)?.clone();
        self.counts.judge(&judged);
        (judged.policy == Policy::Reject).then(|| RejectedRecord {
            place: 0,
            code: judged.code().to_owned(),
            message: judged.to_string(),
            raw: String::new(),
        })
    }

    /// The flag of an event that is taken although the plan says otherwise.
    pub(super) fn flag_of_plan(&self, index: usize) -> Option<String> {
        let judged = self.judged(index).filter(|judged| judged.policy == Policy::Flag)?;
        flag::kept(&[judged.flag()]).pop()
    }

    /// Count an event that happened long before it was received, where it was sent as it happened: history is never late.
    pub(super) fn count_late(&mut self, origin: EventOrigin, time: Timestamp) {
        let behind = self.submission.received_at.0.saturating_sub(time.0);
        let is_live = origin == EventOrigin::Client && self.submission.again.is_none() && !self.is_refusal;
        self.counts.late += u64::from(is_live && behind > LATE_AFTER_MS);
    }
}
