//! What rules take back: identifiers that tie nobody, kinds of evidence that are not followed, and what of stored evidence the
//! rules of today still give.
//!
//! A rule change is applied to history, so each piece of stored evidence is looked at again under the new rules. All that is
//! needed for that are the identifiers of its ends as they came, because a normal form is evidence and never a key.

use super::rules::{RulesError, TIES_NOBODY, UNDECIDED};
use super::{AliasRule, EdgeId, EdgeRank, Evidence, Identifier, IdentityRules, MAX_RULED_VALUES, PREVIOUS_ID, USER_ID};
use crate::profile::{EvidenceCount, IdentityHead};
use crate::time::Timestamp;

/// The version of what makes a normal form beside the rules of a workspace: code and tables. Whoever changes what
/// [`IdentityRules::judge`] answers raises it, and every workspace's history is tied by the new forms at the next start.
pub const FORMS: u32 = 4;

/// The kinds of evidence that can be left unfollowed.
const KINDS: [&str; 4] = ["same_event", "alias", "spelling", "same_id"];

/// A name in [`IdentityRules::unfollowed`] that stands for no evidence.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error(
    "`{0}` is no kind of evidence; write same_event, alias, spelling or same_id, or one of them with a type, e.g. spelling:phone"
)]
pub struct UnknownEvidence(pub String);

/// What is remembered of an identity beside its evidence.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Standing {
    /// The rules say that it ties nobody.
    TiesNobody,
    /// It was shared, and its evidence is being counted again.
    Undecided,
}

impl Standing {
    fn name(self) -> &'static str {
        match self {
            Standing::TiesNobody => TIES_NOBODY,
            Standing::Undecided => UNDECIDED,
        }
    }
}

impl IdentityHead {
    /// Whether a standing was noted.
    pub fn stands(&self, standing: Standing) -> bool {
        self.evidence.iter().any(|held| held.kind.as_deref() == Some(standing.name()) && held.count > 0)
    }

    /// Note a standing.
    pub fn note_standing(&mut self, standing: Standing) {
        self.clear_standing(standing);
        let last = EdgeRank::new(Evidence::SameEvent, Timestamp(0), &self.identifier, &self.identifier);
        let kind = Some(standing.name().to_owned());
        self.evidence.push(EvidenceCount { kind, count: 1, last, is_surplus_reported: false });
    }

    /// Take a standing back.
    pub fn clear_standing(&mut self, standing: Standing) {
        self.evidence.retain(|held| held.kind.as_deref() != Some(standing.name()));
    }
}

impl IdentityRules {
    pub(super) fn check_undone(&self) -> Result<(), RulesError> {
        let wrong = |field: String, problem: String| Err(RulesError { field, problem });
        for (field, list) in [("ties_nobody", &self.ties_nobody), ("unfollowed", &self.unfollowed)] {
            if list.len() > MAX_RULED_VALUES {
                return wrong(field.to_owned(), format!("at most {MAX_RULED_VALUES} entries"));
            }
        }
        for text in &self.ties_nobody {
            let identifier = text.split_once(':').map(|(kind, value)| Identifier::new(kind, value));
            match identifier.map(|identifier| self.judge(&identifier)) {
                None => {
                    return wrong(
                        "ties_nobody".to_owned(),
                        format!("`{text}`: write TYPE:VALUE, e.g. email:desk@shop.example"),
                    );
                }
                Some(Err(why)) => {
                    return wrong("ties_nobody".to_owned(), format!("`{text}` {}, so it names nobody", why.reason()));
                }
                Some(Ok(normal)) if normal.to_string() != *text => {
                    return wrong("ties_nobody".to_owned(), format!("`{text}`: write the normal form, `{normal}`"));
                }
                Some(Ok(_)) => {}
            }
        }
        for text in &self.unfollowed {
            IdentityRules::check_evidence(text).or_else(|error| wrong("unfollowed".to_owned(), error.to_string()))?;
        }
        Ok(())
    }

    /// Whether a text names evidence: a kind, or a kind and a type, e.g. `spelling:phone`.
    ///
    /// # Errors
    /// [`UnknownEvidence`] says what can be written.
    pub fn check_evidence(text: &str) -> Result<(), UnknownEvidence> {
        let (evidence, kind) = text.split_once(':').map_or((text, None), |(evidence, kind)| (evidence, Some(kind)));
        match KINDS.contains(&evidence) && kind.is_none_or(super::rules::is_type) {
            true => Ok(()),
            false => Err(UnknownEvidence(text.to_owned())),
        }
    }

    /// Whether evidence of a kind between identifiers of two types is followed. `unfollowed` names a kind of evidence, or one
    /// with a type that an end of it has: `same_event:email` is all that came with an address in one event.
    pub fn follows(&self, evidence: Evidence, one: &str, other: &str) -> bool {
        let is_named = |text: &String| {
            let (name, kind) = text.split_once(':').map_or((text.as_str(), None), |(name, kind)| (name, Some(kind)));
            name == evidence.as_str() && kind.is_none_or(|kind| kind == one || kind == other)
        };
        !self.unfollowed.iter().any(is_named)
    }

    /// The normal form of an identifier as events and aliases name it.
    pub fn form(&self, identifier: &Identifier) -> Option<Identifier> {
        match identifier.is_previous() {
            true => {
                let value = self.judge(&Identifier::new(USER_ID, identifier.value.as_str())).ok()?.value;
                Some(Identifier::new(PREVIOUS_ID, value))
            }
            false => self.judge(identifier).ok(),
        }
    }

    /// Whether an identifier may name somebody, the old id of an alias among them.
    pub fn names_somebody(&self, identifier: &Identifier) -> bool {
        self.form(identifier).is_some()
    }

    /// Whether the rules say of an identifier, whatever its spelling, that it ties nobody.
    pub fn unties(&self, identifier: &Identifier) -> bool {
        !self.ties_nobody.is_empty()
            && self.form(identifier).is_some_and(|normal| self.ties_nobody.contains(&normal.to_string()))
    }

    /// Whether these rules give evidence that others gave, between identities that stand for `low` and `high`: both name
    /// somebody, a spelling is one of its normal form of today, an alias is to be followed. What somebody said by hand stands
    /// whatever the rules say.
    pub fn gives(&self, edge: EdgeId, low: &Identifier, high: &Identifier) -> bool {
        if matches!(edge.evidence, Evidence::ByHand(_)) {
            return true;
        }
        let (behind, front) = if edge.stands_behind() == Some(edge.low) { (low, high) } else { (high, low) };
        let is_given = match edge.evidence {
            Evidence::Spelling(_) => self.form(behind).as_ref() == Some(front) && behind != front,
            Evidence::Former(_) => self.form(front).as_ref() != Some(behind),
            Evidence::SameId(_) => self.alias == AliasRule::Merge || ![low, high].iter().any(|end| end.kind == USER_ID),
            Evidence::Alias | Evidence::SameEvent | Evidence::ByHand(_) => true,
        };
        is_given
            && self.follows(edge.evidence, &low.kind, &high.kind)
            && self.names_somebody(low)
            && self.names_somebody(high)
    }
}
