//! Whose an event is: its identifiers become identities, and what it is evidence of is followed or said not to be.

use kith_model::event::EventKind;
use kith_model::id::SourceIdentityId;
use kith_model::identity::{ANONYMOUS_ID, AliasRule, EdgeId, Evidence, Identifier, PREVIOUS_ID, Shape, USER_ID};
use kith_model::profile::believed;
use kith_model::rules::HASHED;
use kith_model::time::Timestamp;
use kith_store::ReadError;
use serde_json::value::RawValue;

use super::Workspace;
use super::notes::{Note, not_followed};
use crate::accept::Submission;
use crate::accept::named::EventIdentifier;
use crate::accept::people::{EventConsents, EvidenceOutcome, Link};
use crate::accept::rules::{RuledDraft, SourceRules};
use crate::profiles::facts::EventFacts;

/// What of an event was not followed.
pub(super) struct TyingOutcome {
    pub notes: Vec<Note>,
    /// Pieces of evidence that join nobody.
    pub not_followed: u64,
}

impl Submission {
    /// What one of its events says of consents, with the right that its sender has.
    pub(super) fn spoken<'c>(
        &self,
        said: &'c [&'c RawValue],
        said_time: Option<Timestamp>,
        is_of_person: bool,
    ) -> EventConsents<'c> {
        let (giver, origin) = (self.giver, self.origin);
        EventConsents { said, giver, origin, said_time, is_of_person, form: None }
    }
}

impl Workspace {
    /// Tie the identifiers of an event together, the strongest first. Rules may have hashed some of them.
    pub(super) fn tie_ruled(
        &mut self,
        named: &[EventIdentifier],
        ruled: &RuledDraft<'_>,
        submission: &Submission,
        given: &EventFacts<'_>,
    ) -> Result<(SourceIdentityId, TyingOutcome), ReadError> {
        let tied = self.tie(named, ruled.event.kind, given)?;
        self.note_values(named, ruled, submission.sender.hashing.as_deref())?;
        Ok(tied)
    }

    /// Tie the identifiers of an event together, the strongest first.
    fn tie(
        &mut self,
        named: &[EventIdentifier],
        kind: EventKind,
        given: &EventFacts<'_>,
    ) -> Result<(SourceIdentityId, TyingOutcome), ReadError> {
        let mut tied = TyingOutcome { notes: Vec::new(), not_followed: 0 };
        let identity = self.name(&named[0], given, &mut tied)?;
        self.people.give_event(identity);
        // Where an alias names nobody but the old id, that is still who has it.
        if named[0].normal.is_previous() {
            self.find_previous(identity, &named[0].normal, given, &mut tied)?;
        }
        let evidence = match kind {
            EventKind::Alias => Evidence::Alias,
            _ => Evidence::SameEvent,
        };
        for other in &named[1..] {
            let beside = self.name(other, given, &mut tied)?;
            let link = Link {
                one: identity,
                other: beside,
                evidence,
                time: believed(given.time, given.received_at),
                source: given.source,
                message_id: given.message_id,
            };
            let followed = self.people.link(&link, &self.rules)?;
            tied.note(followed);
            if other.normal.is_previous() {
                self.find_previous(beside, &other.normal, given, &mut tied)?;
            }
        }
        Ok((identity, tied))
    }

    /// The identity of an identifier as it came, tied to that of its normal form.
    fn name(
        &mut self,
        named: &EventIdentifier,
        given: &EventFacts<'_>,
        tied: &mut TyingOutcome,
    ) -> Result<SourceIdentityId, ReadError> {
        let spelled = self.people.identify(&named.spelled, given.received_at)?;
        self.note_standing(spelled)?;
        if named.spelled == named.normal {
            self.people.name(spelled, &self.rules)?;
        }
        self.follow_alias(spelled, &named.spelled, given, tied)?;
        if named.spelled != named.normal {
            let normal = self.people.identify(&named.normal, given.received_at)?;
            self.note_standing(normal)?;
            self.people.name(normal, &self.rules)?;
            self.follow_alias(normal, &named.normal, given, tied)?;
            self.rule(EdgeId::behind(spelled, normal, Evidence::Spelling), given, tied)?;
        }
        Ok(spelled)
    }

    /// What an event said of consents under a spelling of an address is said under its form, too, which comes to it.
    pub(super) fn hear_as_form<'c>(
        &mut self,
        named: &EventIdentifier,
        spoken: EventConsents<'c>,
        given: &EventFacts<'_>,
    ) -> Result<EventConsents<'c>, ReadError> {
        let shape = self.rules.types.get(&named.normal.kind).map_or(Shape::Any, |own| own.shape);
        if spoken.said.is_empty() || shape == Shape::Any || named.spelled == named.normal {
            return Ok(spoken);
        }
        let form = self.people.find(&named.normal)?;
        if let Some(form) = form {
            self.people.hear_as_form(form, spoken, given)?;
        }
        Ok(EventConsents { form, ..spoken })
    }

    /// Note who is named by a value, where an identity is named by the value's hash: a rule that hashes holds from one moment on
    /// and for some sources, and what was refused of the value is refused of both.
    fn note_values(
        &mut self,
        named: &[EventIdentifier],
        ruled: &RuledDraft<'_>,
        hashing: Option<&SourceRules>,
    ) -> Result<(), ReadError> {
        let Some(hashing) = hashing else { return Ok(()) };
        for (came, hashed) in &ruled.hashed {
            if let Ok(normal) = self.rules.judge(came)
                && let Some(value) = self.people.find(&normal)?
            {
                self.people.note_value(hashed, value)?;
            }
        }
        for EventIdentifier { normal, .. } in named.iter().filter(|named| !named.normal.value.starts_with(HASHED)) {
            if hashing.hashes_identifiers(&normal.kind)
                && let Some(hashed) = hashing.hashed_identifier(normal, &self.rules)
                && self.people.find(&hashed)?.is_some()
                && let Some(value) = self.people.find(normal)?
            {
                self.people.note_value(&hashed, value)?;
            }
        }
        Ok(())
    }

    /// Whoever is new ties nobody from the beginning where the rules say so.
    fn note_standing(&mut self, identity: SourceIdentityId) -> Result<(), ReadError> {
        match self.rules.ties_nobody.is_empty() || !self.people.is_of_event(identity) {
            true => Ok(()),
            false => self.people.note_standing(identity, &self.rules),
        }
    }

    /// Where an alias named somebody before there was anybody of that id, it holds from now on.
    fn follow_alias(
        &mut self,
        identity: SourceIdentityId,
        identifier: &Identifier,
        given: &EventFacts<'_>,
        tied: &mut TyingOutcome,
    ) -> Result<(), ReadError> {
        let may_be_old = matches!(identifier.kind.as_str(), USER_ID | ANONYMOUS_ID);
        if !may_be_old || !self.people.is_of_event(identity) {
            return Ok(());
        }
        let previous = Identifier::new(PREVIOUS_ID, identifier.value.as_str());
        match self.people.find(&previous)? {
            Some(previous) => self.same_id(previous, identity, &identifier.kind, given, tied),
            None => Ok(()),
        }
    }

    /// Tie the old id of an alias to those who have it.
    fn find_previous(
        &mut self,
        previous: SourceIdentityId,
        identifier: &Identifier,
        given: &EventFacts<'_>,
        tied: &mut TyingOutcome,
    ) -> Result<(), ReadError> {
        for kind in [USER_ID, ANONYMOUS_ID] {
            if let Some(known) = self.people.find(&Identifier::new(kind, identifier.value.as_str()))? {
                self.same_id(previous, known, kind, given, tied)?;
            }
        }
        Ok(())
    }

    fn same_id(
        &mut self,
        previous: SourceIdentityId,
        known: SourceIdentityId,
        kind: &str,
        given: &EventFacts<'_>,
        tied: &mut TyingOutcome,
    ) -> Result<(), ReadError> {
        let edge = match (kind, self.rules.alias) {
            (USER_ID, AliasRule::Refuse) => {
                let message = "the alias was not followed, because the old id is a user's and the identity rules of this \
                               workspace say `alias: refuse`";
                tied.notes.push(("alias-refused", message.to_owned()));
                tied.not_followed += 1;
                return Ok(());
            }
            (USER_ID, AliasRule::Merge) => EdgeId::behind(known, previous, Evidence::SameId),
            _ => EdgeId::behind(previous, known, Evidence::SameId),
        };
        self.rule(edge, given, tied)
    }

    /// Evidence that a rule gives. It has no time and no message, so that it is the same whichever event called for it.
    fn rule(&mut self, edge: EdgeId, given: &EventFacts<'_>, tied: &mut TyingOutcome) -> Result<(), ReadError> {
        let link = Link {
            one: edge.low,
            other: edge.high,
            evidence: edge.evidence,
            time: Timestamp(0),
            source: given.source,
            message_id: "",
        };
        let followed = self.people.link(&link, &self.rules)?;
        tied.note(followed);
        Ok(())
    }
}

impl TyingOutcome {
    fn note(&mut self, followed: EvidenceOutcome) {
        self.not_followed += u64::from(followed != EvidenceOutcome::Quietly);
        self.notes.extend(not_followed(followed));
    }
}
