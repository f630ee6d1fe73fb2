//! What a source's tracking plan says of what its connector found.
//!
//! It is judged here, before the lane: how long it takes is the admin's and the sender's to choose, and the lane is everybody's.
//! It is judged as it is to be stored, under the rules of its source, so that no message quotes what a rule takes out.
//! What follows is decided in the lane, because a repeat is a repeat whatever a plan says that is newer than it.

use std::sync::Arc;

use kith_model::event::DraftEvent;
use kith_model::tracking::Judgements;

use super::Intake;
use crate::accept::rules::RuledDraft;

impl Intake {
    /// Judge events, on a thread that nobody else waits for.
    pub(super) async fn judge(&self, events: &mut Vec<DraftEvent>) -> Judgements {
        let Some(plan) = self.plan.as_ref().filter(|_| !events.is_empty()) else { return Judgements::default() };
        let workspace = self.shared.workspace(self.workspace);
        let setup = workspace.map(|workspace| Arc::clone(&workspace.compiled.load().setup));
        let (plan, sender, given) = (Arc::clone(plan), Arc::clone(&self.sender), std::mem::take(events));
        let (given, judged) = crate::offload::run(move || {
            let judged = match (sender.rules.as_deref(), setup) {
                (Some(rules), Some(setup)) => {
                    let ruled = |event| RuledDraft::new(event, Some(rules), &setup.identity_rules).event.into_owned();
                    plan.judge(&given.iter().map(ruled).collect::<Vec<DraftEvent>>())
                }
                _ => plan.judge(&given),
            };
            (given, judged)
        })
        .await;
        *events = given;
        judged
    }
}
