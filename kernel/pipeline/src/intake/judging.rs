//! What a source's tracking plan says of what its connector found.
//!
//! It is judged here, before the lane: how long it takes is the admin's and the sender's to choose, and the lane is everybody's.
//! What follows is decided in the lane, because a repeat is a repeat whatever a plan says that is newer than it.

use std::sync::Arc;

use kith_model::event::DraftEvent;
use kith_model::tracking::Judgements;

use super::Intake;

impl Intake {
    /// Judge events, on a thread that nobody else waits for.
    pub(super) async fn judge(&self, events: &mut Vec<DraftEvent>) -> Judgements {
        let Some(plan) = self.plan.as_ref().filter(|_| !events.is_empty()) else { return Judgements::default() };
        let (plan, given) = (Arc::clone(plan), std::mem::take(events));
        let (given, judged) = crate::offload::run(move || {
            let judged = plan.judge(&given);
            (given, judged)
        })
        .await;
        *events = given;
        judged
    }
}
