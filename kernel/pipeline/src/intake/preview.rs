//! What an input would become, without storing anything: the first events as they would be stored, and everything that would be
//! refused, counted by its reason.

use std::collections::BTreeMap;

use kith_model::event::{DraftEvent, EventOrigin, RejectedRecord};
use kith_model::identity::IdentityRules;
use kith_model::time::Timestamp;
use kith_model::tracking::{Judgement, PlanMistake, Policy};

use crate::accept::aside::Input;
use crate::accept::rules::RuledDraft;
use crate::accept::{MAX_REPORTED_REJECTIONS, Sender, moment, validate};

/// Events that are shown.
const MAX_SHOWN_EVENTS: usize = 10;

/// Reasons that are counted one by one; a connector's codes are few.
const MAX_CODES: usize = 64;

/// What a dry run found.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct Preview {
    /// The first events, with the identifiers that would be taken.
    pub events: Vec<DraftEvent>,
    /// How many events there would be; repeats of earlier ones are among them.
    pub event_count: u64,
    /// How many events a rule drops.
    pub dropped_count: u64,
    /// The first refused parts.
    pub rejected: Vec<RejectedRecord>,
    pub rejected_count: u64,
    /// How many are refused for each code.
    pub codes: BTreeMap<String, u64>,
    /// Events whose name is not in the source's tracking plan, and those that do not meet its schema, taken or not.
    pub unplanned: u64,
    pub violations: u64,
}

impl Preview {
    /// Take what a connector made of one piece.
    pub(super) fn take(
        &mut self,
        events: Vec<DraftEvent>,
        input: &Input,
        rejected: Vec<RejectedRecord>,
        (identity, sender): (&IdentityRules, &Sender),
        received_at: Timestamp,
    ) {
        for record in rejected {
            self.refuse(record);
        }
        for (index, event) in events.into_iter().enumerate() {
            let ruled = RuledDraft::new(&event, sender.rules.as_deref(), identity);
            if ruled.is_dropped {
                self.dropped_count += 1;
                continue;
            }
            let undeclared = sender.declared.as_ref().and_then(|declared| declared.refusal(&ruled.came));
            let (mut event, of_rules) = (ruled.event.into_owned(), ruled.flags);
            let judged = input.judged.of(index).filter(|_| undeclared.is_none());
            let of_plan = judged.filter(|judged| judged.policy == Policy::Reject).map(|judged| RejectedRecord {
                place: 0,
                code: judged.code().to_owned(),
                message: judged.to_string(),
                raw: String::new(),
            });
            let placed = |record| RejectedRecord { place: index as u64, raw: validate::excerpt(&event), ..record };
            let refused = undeclared.or(of_plan).map(placed);
            let checked = validate::check(&event, identity).map(|checked| checked.identifiers);
            if let (Ok(_), Some(judged)) = (&checked, judged) {
                *match judged.mistake {
                    PlanMistake::Unplanned => &mut self.unplanned,
                    PlanMistake::Violation => &mut self.violations,
                } += 1;
            }
            match checked.and_then(|identifiers| refused.map_or(Ok(identifiers), Err)) {
                Err(record) => {
                    let place = input.places.get(index).and_then(|place| place.place).unwrap_or(record.place);
                    self.refuse(RejectedRecord { place, ..record });
                }
                Ok(identifiers) => {
                    self.event_count += 1;
                    if self.events.len() < MAX_SHOWN_EVENTS {
                        let moment = moment::of(&event, received_at, EventOrigin::Import);
                        event.time = Some(moment.time);
                        event.flags.extend(moment.flags.into_iter().map(str::to_owned));
                        event.flags.extend(of_rules);
                        let flagged = judged.filter(|judged| judged.policy == Policy::Flag);
                        event.flags.extend(flagged.map(Judgement::flag));
                        event.identifiers = identifiers.into_iter().map(|named| named.spelled).collect();
                        self.events.push(event);
                    }
                }
            }
        }
    }

    fn refuse(&mut self, record: RejectedRecord) {
        self.rejected_count += 1;
        if self.codes.len() < MAX_CODES || self.codes.contains_key(&record.code) {
            *self.codes.entry(record.code.clone()).or_default() += 1;
        }
        if self.rejected.len() < MAX_REPORTED_REJECTIONS {
            self.rejected.push(record);
        }
    }
}
