//! Facts that events give about their identities, as far as there is room for them.

use std::borrow::Cow;
use std::collections::BTreeMap;

use kith_model::consent::CONSENT;
use kith_model::id::SourceIdentityId;
use kith_model::profile::{Contribution, TraitValue};
use kith_store::ReadError;
use serde_json::value::RawValue;

use super::consents::hear;
use super::{EventConsents, People};
use crate::profiles::facts::{self, EventFacts, FactOutcome, FactsRow};

impl People {
    /// Facts that an event gave about its identity, and all that it said of consents; the names of those that found no room.
    pub(crate) fn record_traits<'t>(
        &mut self,
        identity: SourceIdentityId,
        traits: BTreeMap<Cow<'t, str>, &RawValue>,
        spoken: EventConsents<'_>,
        event: &EventFacts<'_>,
    ) -> Result<Vec<Cow<'t, str>>, ReadError> {
        let mut surplus = Vec::new();
        let mut summary = self.facts_row(identity, 0)?;
        let mut heard = hear(&mut summary, spoken, event);
        if !heard.had_room {
            surplus.push(Cow::Borrowed(CONSENT));
        }
        for (name, value) in traits {
            let value = facts::fact(value.get(), event);
            if self.take_fact(identity, &mut summary, &name, value)? == FactOutcome::Surplus {
                surplus.push(name);
            }
        }
        self.layers.event.facts.insert((identity, 0), summary);
        if spoken.is_of_person && !heard.agreed.is_empty() {
            self.note_answered(identity, &mut heard)?;
        }
        self.keep_statements(identity, &heard);
        Ok(surplus)
    }

    /// Give facts of the identity's other events the room that is free again, where they found none before. Nothing of them is
    /// pending.
    pub(crate) fn fill_up(&mut self, identity: SourceIdentityId, others: &Contribution) -> Result<(), ReadError> {
        let mut summary = self.facts_row(identity, 0)?;
        let mut by_bucket: BTreeMap<u8, Vec<(&String, &TraitValue)>> = BTreeMap::new();
        for (name, value) in &others.traits {
            let bucket = if summary.is_split { facts::bucket_of(name) } else { 0 };
            by_bucket.entry(bucket).or_default().push((name, value));
        }
        let mut missing: Vec<(&String, &TraitValue)> = Vec::new();
        for (bucket, given) in by_bucket {
            let row = if bucket == 0 { summary.clone() } else { self.facts_row(identity, bucket)? };
            missing.extend(given.into_iter().filter(|(name, _)| !row.facts.traits.contains_key(*name)));
            if bucket > 0 {
                self.layers.event.facts.insert((identity, bucket), row);
            }
        }
        for (name, value) in missing {
            self.take_fact(identity, &mut summary, name, value.clone())?;
        }
        self.layers.event.facts.insert((identity, 0), summary);
        Ok(())
    }

    /// Give facts of an event that returns to its identity's history. What is newer holds against them.
    pub(crate) fn give_again(&mut self, identity: SourceIdentityId, facts: Contribution) -> Result<(), ReadError> {
        let mut summary = self.facts_row(identity, 0)?;
        for (name, value) in facts.traits {
            self.take_fact(identity, &mut summary, &name, value)?;
        }
        self.layers.event.facts.insert((identity, 0), summary);
        Ok(())
    }

    /// Take a fact into the rows of an identity, whose summary is in hand.
    fn take_fact(
        &mut self,
        identity: SourceIdentityId,
        summary: &mut FactsRow,
        name: &str,
        value: TraitValue,
    ) -> Result<FactOutcome, ReadError> {
        let recorded = if summary.is_split {
            let bucket = facts::bucket_of(name);
            let mut row = self.facts_row(identity, bucket)?;
            let recorded = facts::record(&mut summary.totals, &mut row.facts, name, value);
            self.layers.event.facts.insert((identity, bucket), row);
            recorded
        } else {
            facts::record(&mut summary.totals, &mut summary.facts, name, value)
        };
        for (bucket, row) in summary.split().into_iter().flatten() {
            self.layers.event.facts.insert((identity, bucket), row);
        }
        Ok(recorded)
    }
}
