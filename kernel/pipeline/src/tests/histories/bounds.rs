//! How many messages a history lets a kernel send.

use kith_model::identity::Identifier;
use kith_model::time::Timestamp;

use super::life::{Defined, Past};
use super::naive::{Group, Person};
use super::steps::{Model, PlannedEvent, Round, Step};

/// How many messages a round may set off.
pub(super) struct Bounds<'a> {
    pub round: &'a Round,
    pub before: Option<&'a Past>,
    pub defined: &'a [Option<Defined>],
    pub model: Model,
    pub now: Timestamp,
}

impl Bounds<'_> {
    /// Whoever may have been one person with the group at some time of the round.
    fn reach(&self, group: &Group, sends: &[&Vec<PlannedEvent>]) -> Group {
        let mut reach = group.clone();
        let parts = self.before.iter().flat_map(|past| past.people.keys()).cloned();
        let mut ties: Vec<Group> = parts.collect();
        if sends.len() > 1 {
            // One after the other; of a single batch the outcome alone is ever seen.
            ties.extend(sends.iter().copied().flatten().map(|told| told.identifiers.iter().cloned().collect()));
        }
        while let Some(at) = ties.iter().position(|tie| !tie.is_disjoint(&reach)) {
            reach.extend(ties.swap_remove(at));
        }
        reach
    }

    /// The least and the most messages of an audience to a person.
    pub(super) fn of(&self, audience: u32, group: &Group, person: &Person, has_waited: bool) -> (u64, u64) {
        let sends: Vec<&Vec<PlannedEvent>> = self.round.iter().filter_map(Step::told).collect();
        let parts: Vec<&Group> = match self.before {
            Some(past) => past.people.keys().filter(|part| !part.is_disjoint(group)).collect(),
            None => vec![],
        };
        let reach = self.reach(group, &sends);
        let is_of = |told: &&PlannedEvent| told.identifiers.iter().any(|one| reach.contains(one));
        let live = self.round.iter().filter(|step| matches!(step, Step::Send(_))).filter_map(Step::told);
        let own: Vec<&PlannedEvent> = live.flatten().filter(is_of).collect();
        let is_imported = sends.iter().copied().flatten().filter(is_of).count() > own.len();
        let waits = self.round.iter().filter(|step| step.is_wait()).count() as u64;
        let waits = waits + u64::from(has_waited);
        let is_one = parts.len() <= 1 && reach == *group;
        // A tie between people who were known says nothing new about them. Somebody new may be alone for a while, unless it is
        // all in one batch.
        let is_known =
            |one: &Identifier| self.before.is_some_and(|past| past.people.keys().any(|part| part.contains(one)));
        let may_be_new = sends.len() > 1 || parts.is_empty();
        let is_telling = |told: &&&PlannedEvent| {
            told.has_content() || (may_be_new && told.identifiers.iter().any(|one| !is_known(one)))
        };
        let telling = own.iter().filter(is_telling).count();
        let most = telling as u64 + waits;
        let is_calm = !self.round.iter().any(Step::is_change);
        let is_plain = is_calm && is_one && !is_imported && own.len() as u64 + waits <= 1;
        let condition = |defined: &[Option<Defined>]| {
            defined.iter().flatten().find(|one| one.id == audience).map(|one| one.condition)
        };
        let (Some(past), Some(defined)) = (self.before, condition(self.defined)) else { return (0, most) };
        if !is_plain || self.model != past.model {
            return (0, most);
        }
        let was = parts.first().map_or(Some(false), |part| past.people[*part].meets(defined, past.model, past.now));
        match (was, person.meets(defined, self.model, self.now)) {
            (Some(false), Some(true)) => (1, 1),
            (Some(_), Some(_)) => (0, 0),
            _ => (0, most),
        }
    }
}
