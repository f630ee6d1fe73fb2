//! What events say of consents, on its way into the rows of their identities.

use std::collections::BTreeMap;

use kith_model::consent::{Dating, Giver, MAX_ANSWERED, Outcome, Statement};
use kith_model::event::EventOrigin;
use kith_model::id::SourceIdentityId;
use kith_model::time::Timestamp;
use kith_store::ReadError;
use serde_json::value::RawValue;

use super::People;
use crate::profiles::consents::{self, StatementRow};
use crate::profiles::facts::{EventFacts, FactsRow, read_facts_row};

/// What one event says of consents, and with which right.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventConsents<'a> {
    /// Each as it stands there: of a name that comes twice the traits have the last alone.
    pub said: &'a [&'a RawValue],
    pub giver: Giver,
    pub origin: EventOrigin,
    /// What it says of its own time.
    pub said_time: Option<Timestamp>,
    /// Whether the identity stands for the person, and so answers for the others.
    pub is_of_person: bool,
    /// The normal form of its identifier, where it is heard under that too.
    pub form: Option<SourceIdentityId>,
}

impl EventConsents<'_> {
    pub(super) fn statement<'s>(&self, said: &'s RawValue, event: &EventFacts<'s>) -> Statement<'s> {
        Statement {
            json: said.get(),
            time: event.time.min(event.received_at),
            received_at: self.received_at(event),
            source: event.source,
            message_id: event.message_id,
            giver: self.giver,
            dating: self.dating(),
        }
    }

    /// What is sent as it happens is dated by its receipt; a record of history tells of its time itself, or nobody knows it.
    fn dating(&self) -> Dating {
        match (self.origin, self.said_time) {
            (EventOrigin::Import, None) => Dating::Unknown,
            _ => Dating::Stated,
        }
    }

    /// When it counts as received. History of a source that may agree takes its place by its own time; of any other it must not
    /// slip in before what was refused since.
    fn received_at(&self, event: &EventFacts<'_>) -> Timestamp {
        match (self.giver, self.origin) {
            (Giver::MayAgree, EventOrigin::Import) => event.time.min(event.received_at),
            _ => event.received_at,
        }
    }
}

/// What was heard of an event.
pub(super) struct HeardConsents {
    /// The keys of its agreements that count now.
    pub agreed: Vec<String>,
    /// Whether all that it said found room.
    pub had_room: bool,
    statements: Vec<StatementRow>,
}

/// Take what an event says into the summary of its identity. It has quotas of its own, because a sender that fills those of
/// the facts must not silence a refusal.
pub(super) fn hear(summary: &mut FactsRow, spoken: EventConsents<'_>, event: &EventFacts<'_>) -> HeardConsents {
    let mut taken = HeardConsents { agreed: Vec::new(), had_room: true, statements: Vec::new() };
    for said in spoken.said {
        let statement = spoken.statement(said, event);
        let number = summary.consents.statements;
        let heard = summary.consents.record(&statement);
        taken.had_room &= heard.iter().all(|answer| !matches!(answer.outcome, Outcome::NoRoom | Outcome::NameTooLong));
        let counted = heard.iter().filter(|answer| answer.refused.is_none() && answer.outcome == Outcome::Counted);
        taken.agreed.extend(counted.map(|answer| answer.key.clone()));
        taken.statements.push(StatementRow {
            number,
            time: statement.time,
            received_at: event.received_at,
            source: event.source,
            message_id: event.message_id.to_owned(),
            giver: spoken.giver,
            heard,
            answers: BTreeMap::new(),
            form: spoken.form,
        });
    }
    taken
}

impl People {
    /// Keep what was heard of an identity.
    pub(super) fn keep_statements(&mut self, identity: SourceIdentityId, heard: &HeardConsents) {
        let workspace = self.workspace;
        let rows = heard.statements.iter().map(|row| consents::keep(workspace, identity, row));
        self.layers.event.statements.extend(rows);
    }

    /// Take what was said under a spelling of an address as said under its normal form too: it is one mailbox, also where the two
    /// come to be apart. The proof of it lies with the spelling.
    pub(crate) fn hear_as_form(
        &mut self,
        form: SourceIdentityId,
        spoken: EventConsents<'_>,
        event: &EventFacts<'_>,
    ) -> Result<(), ReadError> {
        let mut summary = self.facts_row(form, 0)?;
        let statements = summary.consents.statements;
        for said in spoken.said {
            summary.consents.record(&spoken.statement(said, event));
        }
        summary.consents.statements = statements;
        self.layers.event.facts.insert((form, 0), summary);
        Ok(())
    }

    /// Note whose refusals the agreements of an event answer: those of the identities that are one person with its own now. Only
    /// who stands for the person answers for the others, because a device may be shared and an address typed in by somebody
    /// else.
    pub(super) fn note_answered(
        &mut self,
        identity: SourceIdentityId,
        heard: &mut HeardConsents,
    ) -> Result<(), ReadError> {
        let HeardConsents { agreed, statements, .. } = heard;
        let (_, root) = self.root(identity)?;
        let mut answered: Vec<Vec<SourceIdentityId>> = vec![Vec::new(); agreed.len()];
        for member in root.members.into_iter().filter(|member| *member != identity) {
            let Some(row) = self.summary_of(member)? else { continue };
            for (key, answered) in agreed.iter().zip(&mut answered) {
                if answered.len() < MAX_ANSWERED && row.consents.refuses_what_is_answered_by(key) {
                    answered.push(member);
                }
            }
        }
        if answered.iter().all(Vec::is_empty) {
            return Ok(());
        }
        let mut summary = self.facts_row(identity, 0)?;
        for (key, answered) in agreed.iter().zip(answered) {
            for statement in statements.iter_mut().filter(|statement| statement.agreed_to(key)) {
                statement.answers.insert(key.clone(), answered.clone());
            }
            if let Some(consent) = summary.consents.agreement_mut(key) {
                consent.answers = answered;
            }
        }
        self.layers.event.facts.insert((identity, 0), summary);
        Ok(())
    }

    /// The summary of an identity's facts, for reading.
    fn summary_of(&mut self, identity: SourceIdentityId) -> Result<Option<FactsRow>, ReadError> {
        if let Some(row) = self.layers.facts(identity, 0).or_else(|| self.facts.get(&(identity, 0))) {
            return Ok(Some(row.clone()));
        }
        if self.is_new(identity) {
            return Ok(None);
        }
        self.work.rows_read += 1;
        read_facts_row(self.store.as_ref(), self.workspace, identity, 0)
    }
}
