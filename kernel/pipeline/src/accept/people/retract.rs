//! Taking back the facts of an event that is corrected or taken back, and the agreements of the latter.

use std::collections::BTreeMap;

use kith_model::consent::{AnswerOutcome, Consents, Giver};
use kith_model::event::{Event, EventOrigin};
use kith_model::id::{InstallationId, SourceIdentityId};
use kith_model::profile::Contribution;
use kith_store::ReadError;
use serde_json::value::RawValue;

use super::{EventConsents, People};
use crate::profiles::facts::{self, EventFacts, FactTotals};

impl People {
    /// Whether facts of the identity wait to be durable.
    pub(crate) fn has_pending_facts(&self, identity: SourceIdentityId) -> bool {
        self.layers.facts(identity, 0).is_some()
    }

    /// Whether facts of anybody do.
    pub(crate) fn has_any_pending_facts(&self) -> bool {
        !self.layers.unit.facts.is_empty() || !self.layers.group.facts.is_empty()
    }

    /// Facts that `gone` gave are those that the identity's other events gave, but for those that stay. Nothing of them is pending.
    pub(crate) fn retract_traits(
        &mut self,
        identity: SourceIdentityId,
        gone: &Event,
        others: &Contribution,
        stays: impl Fn(&str, &RawValue) -> bool,
    ) -> Result<(), ReadError> {
        let Ok(traits) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&gone.traits) else { return Ok(()) };
        let mut summary = self.facts_row(identity, 0)?;
        for (name, _) in traits.into_iter().filter(|(name, said)| !stays(name, said)) {
            if summary.is_split {
                let bucket = facts::bucket_of(&name);
                let mut row = self.facts_row(identity, bucket)?;
                retract(&mut summary.totals, &mut row.facts, &name, gone, others);
                self.layers.event.facts.insert((identity, bucket), row);
            } else {
                retract(&mut summary.totals, &mut summary.facts, &name, gone, others);
            }
        }
        self.layers.event.facts.insert((identity, 0), summary);
        Ok(())
    }

    /// Agreements of an identity that events gave which are gone are what `rest` has in their place.
    pub(crate) fn retract_agreements(
        &mut self,
        identity: SourceIdentityId,
        is_gone: impl Fn(InstallationId, &str) -> bool,
        rest: &Consents,
    ) -> Result<(), ReadError> {
        let mut summary = self.facts_row(identity, 0)?;
        summary.consents.take_back(is_gone, rest);
        self.layers.event.facts.insert((identity, 0), summary);
        Ok(())
    }
}

/// Take what an event of the log says of consents into `consents`, as it was heard when it came. One that is gone agrees to nothing,
/// and what it refused keeps the date that it had.
pub(crate) fn hear_again(
    consents: &mut Consents,
    event: &Event,
    said: &RawValue,
    giver: Giver,
    is_gone: bool,
) -> Vec<AnswerOutcome> {
    // Of a record of history without a time of its own the log has its receipt, and nobody knows since when it holds.
    let is_dated = event.origin != EventOrigin::Import || event.time != event.received_at;
    let spoken = EventConsents {
        said: &[],
        giver,
        origin: event.origin,
        said_time: is_dated.then_some(event.time),
        is_of_person: false,
        form: None,
    };
    let facts = EventFacts {
        time: event.time,
        received_at: event.received_at,
        source: event.source,
        message_id: &event.message_id,
        place: event.place,
    };
    let mut statement = spoken.statement(said, &facts);
    if is_gone {
        statement.giver = Giver::RefusesOnly;
    }
    consents.record(&statement)
}

fn retract(totals: &mut FactTotals, facts: &mut Contribution, name: &str, gone: &Event, others: &Contribution) {
    let gave =
        facts.traits.get(name).is_some_and(|held| held.source == gone.source && held.message_id == gone.message_id);
    if !gave {
        return;
    }
    facts::forget(totals, facts, name);
    if let Some(value) = others.traits.get(name) {
        facts::record(totals, facts, name, value.clone());
    }
}
