//! Taking back the facts of an event that is corrected.

use std::collections::BTreeMap;

use kith_model::consent::is_consent;
use kith_model::event::Event;
use kith_model::id::SourceIdentityId;
use kith_model::profile::Contribution;
use kith_store::ReadError;
use serde_json::value::RawValue;

use super::People;
use crate::profiles::facts::{self, FactTotals};

impl People {
    /// Whether facts of the identity wait to be durable.
    pub(crate) fn has_pending_facts(&self, identity: SourceIdentityId) -> bool {
        self.layers.facts(identity, 0).is_some()
    }

    /// Whether facts of anybody do.
    pub(crate) fn has_any_pending_facts(&self) -> bool {
        !self.layers.unit.facts.is_empty() || !self.layers.group.facts.is_empty()
    }

    /// Facts that `gone` gave are those that the identity's other events gave. Nothing of them is pending.
    pub(crate) fn retract_traits(
        &mut self,
        identity: SourceIdentityId,
        gone: &Event,
        others: &Contribution,
    ) -> Result<(), ReadError> {
        let Ok(traits) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&gone.traits) else { return Ok(()) };
        let mut summary = self.facts_row(identity, 0)?;
        // What was said of consent stays said.
        for name in traits.into_keys().filter(|name| !is_consent(name)) {
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
