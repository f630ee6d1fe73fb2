//! The rules of a workspace: what an identifier of each type is, what names nobody, and what may be joined.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{EdgeId, Evidence, Identifier, MAX_IDENTIFIER_BYTES, MAX_PROFILE_MEMBERS, phones};
use crate::id::SourceIdentityId;
use crate::profile::EvidenceCount;

/// Evidence beyond an identifier type's limit that an identity keeps, so that some of it may be retracted or come from a
/// broken sender without loss. More of it says nothing.
pub const SPARE_EVIDENCE: usize = 16;

/// With how many identities of a limited, stronger type an identifier may come before it is *shared* and ties nobody. A family
/// shares an address and a tablet among a handful; a till or a clerk's own address comes with every customer.
pub const SHARED_ABOVE: usize = 10;

/// Most blocked values of one list, and most types that have rules.
pub const MAX_RULED_VALUES: usize = 1_000;

/// How letters of a value are compared.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Case {
    /// `Ada` and `ada` are two values.
    #[default]
    Keep,
    /// They are one.
    Fold,
}

/// What a value of a type looks like. Another is no identifier of that type.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Shape {
    #[default]
    Any,
    /// A name, `@` and a domain with a dot.
    Email,
    /// A telephone number; its normal form is E.164 where it can be told, else its digits.
    Phone,
}

/// What becomes of an alias from one user to another.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum AliasRule {
    /// They are one person; the old id stands behind the new one.
    #[default]
    Merge,
    /// They stay two people, and the alias is said not to have been followed.
    Refuse,
}

/// The rules of one type of identifiers.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct TypeRules {
    pub case: Case,
    pub shape: Shape,
    /// Values that name nobody, beside those of all types.
    pub blocked_values: BTreeSet<String>,
    /// The longest value, in bytes; [`MAX_IDENTIFIER_BYTES`] where it is not said.
    pub max_bytes: Option<usize>,
}

/// Which evidence of one identity is counted together, and how much of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvidenceBound<'a> {
    /// The type of the identities at the other ends, or the name of a rule's own evidence; `None` stands for all types
    /// without a limit of their own together, because a sender is free to invent types.
    pub kind: Option<&'a str>,
    /// That many edges are kept, the first by rank.
    pub most: usize,
    /// Whether one more makes the identity a shared one.
    pub makes_shared: bool,
}

/// Names of the evidence that rules and people give. No type of identifiers has one of them.
const SPELLING_OF: &str = "~spelling";
const BEHIND_OTHER: &str = super::BEHIND;
const IN_FRONT: &str = "~in_front";
/// Under this name a head holds that the rules say of the identity that it ties nobody, and until when it is weighed again.
pub(super) const TIES_NOBODY: &str = "~ties_nobody";
pub(super) const UNDECIDED: &str = "~undecided";

/// What may be joined, and what is an identifier at all.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct IdentityRules {
    /// Identifier type → how many different values of it one profile may hold.
    pub limits: BTreeMap<String, usize>,
    /// Identifier types from the strongest to the weakest; an event belongs to the identity of its strongest identifier.
    /// Types not listed come after these, by name.
    pub priority: Vec<String>,
    /// Values that name nobody, whatever their type, beside the placeholders that Kith knows.
    pub blocked_values: BTreeSet<String>,
    /// Values that name somebody although Kith takes them for placeholders.
    pub allowed_values: BTreeSet<String>,
    pub max_members: usize,
    /// See [`SHARED_ABOVE`].
    pub shared_above: usize,
    pub types: BTreeMap<String, TypeRules>,
    /// The country (ISO 3166, two letters) of telephone numbers that come without one.
    pub phone_region: Option<String>,
    pub alias: AliasRule,
    /// Identifiers that tie nobody, each as `type:value` in its normal form: all that they tied is undone. They go on naming
    /// somebody.
    pub ties_nobody: BTreeSet<String>,
    /// Evidence that is not followed, as [`IdentityRules::follows`] reads it: all that it tied is undone.
    pub unfollowed: BTreeSet<String>,
}

impl Default for IdentityRules {
    /// One `user_id` a profile, five of each contact address, no limit for devices.
    fn default() -> IdentityRules {
        let limits = [("user_id", 1), ("email", 5), ("phone", 5)];
        let of = |case, shape| TypeRules { case, shape, ..TypeRules::default() };
        let types = [("email", of(Case::Fold, Shape::Email)), ("phone", of(Case::Keep, Shape::Phone))];
        IdentityRules {
            limits: limits.map(|(kind, limit)| (kind.to_owned(), limit)).into(),
            priority: ["user_id", "email", "phone"].map(str::to_owned).into(),
            blocked_values: BTreeSet::new(),
            allowed_values: BTreeSet::new(),
            max_members: MAX_PROFILE_MEMBERS,
            shared_above: SHARED_ABOVE,
            types: types.map(|(kind, rules)| (kind.to_owned(), rules)).into(),
            phone_region: None,
            alias: AliasRule::default(),
            ties_nobody: BTreeSet::new(),
            unfollowed: BTreeSet::new(),
        }
    }
}

/// A rule that cannot be.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{field}: {problem}")]
pub struct RulesError {
    /// Where it stands in the document, e.g. `limits.email`.
    pub field: String,
    pub problem: String,
}

impl IdentityRules {
    /// Whether these rules can be in force.
    ///
    /// # Errors
    /// [`RulesError`] names the first field that is wrong.
    pub fn check(&self) -> Result<(), RulesError> {
        let wrong = |field: String, problem: String| Err(RulesError { field, problem });
        let kinds = self.limits.keys().map(|kind| (format!("limits.{kind}"), kind));
        let kinds = kinds.chain(self.priority.iter().enumerate().map(|(at, kind)| (format!("priority[{at}]"), kind)));
        for (field, kind) in kinds.chain(self.types.keys().map(|kind| (format!("types.{kind}"), kind))) {
            if !is_type(kind) || kind == super::PREVIOUS_ID {
                let problem =
                    "a type of identifiers is 1 to 64 lower-case letters, digits and `_`, and not `previous_id`";
                return wrong(field, problem.to_owned());
            }
        }
        for (kind, limit) in &self.limits {
            if !(1..=self.max_members.max(1)).contains(limit) {
                return wrong(
                    format!("limits.{kind}"),
                    format!("from 1 to max_members, which is {}", self.max_members),
                );
            }
        }
        if !(1..=MAX_PROFILE_MEMBERS).contains(&self.max_members) {
            return wrong("max_members".to_owned(), format!("from 1 to {MAX_PROFILE_MEMBERS}"));
        }
        if !(1..=MAX_PROFILE_MEMBERS).contains(&self.shared_above) {
            return wrong("shared_above".to_owned(), format!("from 1 to {MAX_PROFILE_MEMBERS}"));
        }
        let lists = [("blocked_values", &self.blocked_values), ("allowed_values", &self.allowed_values)];
        let lists = lists.into_iter().map(|(name, list)| (name.to_owned(), list));
        let own =
            self.types.iter().map(|(kind, rules)| (format!("types.{kind}.blocked_values"), &rules.blocked_values));
        for (field, list) in lists.chain(own) {
            if list.len() > MAX_RULED_VALUES || list.iter().any(|value| value.len() > MAX_IDENTIFIER_BYTES) {
                let problem = format!("at most {MAX_RULED_VALUES} values of at most {MAX_IDENTIFIER_BYTES} bytes");
                return wrong(field, problem);
            }
        }
        if self.types.len() > MAX_RULED_VALUES
            || self.priority.len() > MAX_RULED_VALUES
            || self.limits.len() > MAX_RULED_VALUES
        {
            return wrong("types".to_owned(), format!("at most {MAX_RULED_VALUES} types"));
        }
        for (kind, rules) in &self.types {
            if rules.max_bytes.is_some_and(|bytes| !(1..=MAX_IDENTIFIER_BYTES).contains(&bytes)) {
                return wrong(format!("types.{kind}.max_bytes"), format!("from 1 to {MAX_IDENTIFIER_BYTES}"));
            }
        }
        self.check_undone()?;
        match &self.phone_region {
            Some(region) if !phones::is_region(region) => wrong(
                "phone_region".to_owned(),
                format!("`{region}` is no country whose dialling plan is known; write two capitals, e.g. DE"),
            ),
            _ => Ok(()),
        }
    }

    /// How much evidence one identity may have of the kind of `edge`, of which `end` is the one; `own` is its type and
    /// `other` that of the other end. See [`counting`](super::counting).
    ///
    /// An identifier is shared when too many of a *stronger* type come with it: an address with very many users. A user with
    /// very many addresses is one user, of whom those beyond the limit are left out.
    pub fn evidence_bound<'a>(
        &self,
        edge: EdgeId,
        end: SourceIdentityId,
        own: &str,
        other: &'a str,
    ) -> EvidenceBound<'a> {
        let of_rule = |kind| EvidenceBound {
            kind: Some(kind),
            most: self.max_members.saturating_add(SPARE_EVIDENCE),
            makes_shared: false,
        };
        match (edge.evidence, edge.stands_behind() == Some(end)) {
            (Evidence::Spelling(_) | Evidence::Former(_), true) => return of_rule(SPELLING_OF),
            (Evidence::SameId(_) | Evidence::ByHand(_), true) => return of_rule(BEHIND_OTHER),
            (Evidence::Spelling(_) | Evidence::SameId(_) | Evidence::ByHand(_) | Evidence::Former(_), false) => {
                return of_rule(IN_FRONT);
            }
            (Evidence::Alias | Evidence::SameEvent, _) => {}
        }
        match self.limits.get(other) {
            Some(_) if self.strength(other) < self.strength(own) => {
                EvidenceBound { kind: Some(other), most: self.shared_above, makes_shared: true }
            }
            Some(limit) => {
                EvidenceBound { kind: Some(other), most: limit.saturating_add(SPARE_EVIDENCE), makes_shared: false }
            }
            None => EvidenceBound { kind: None, ..of_rule(other) },
        }
    }

    /// Whether an identity of type `own` with this evidence ties nobody. One that once had to leave evidence out stays shared,
    /// also under rules that allow more, until its evidence is weighed again: what was left out is known to the log alone.
    pub fn is_shared(&self, own: &str, evidence: &[EvidenceCount]) -> bool {
        evidence.iter().any(|held| {
            if held.kind.as_deref().is_some_and(|kind| kind == TIES_NOBODY || kind == UNDECIDED) {
                return held.count > 0;
            }
            let other = held.kind.as_deref().filter(|kind| self.limits.contains_key(*kind));
            let is_stronger = other.is_some_and(|other| self.strength(other) < self.strength(own));
            is_stronger && (held.is_surplus_reported || held.count as usize > self.shared_above)
        })
    }

    /// Whether an identity with evidence under these names stands behind another.
    pub fn is_behind<'k>(mut kinds: impl Iterator<Item = Option<&'k str>>) -> bool {
        kinds.any(|kind| matches!(kind, Some(SPELLING_OF | BEHIND_OTHER)))
    }

    /// Whether an identity with evidence under these names is a spelling of another.
    pub fn is_spelling<'k>(mut kinds: impl Iterator<Item = Option<&'k str>>) -> bool {
        kinds.any(|kind| kind == Some(SPELLING_OF))
    }

    /// Whether an identifier of that type stands for the person, and not for a device or an address of theirs: it is of the
    /// strongest type, and a person has one of it alone.
    pub fn is_of_person(&self, kind: &str) -> bool {
        self.priority.first().is_some_and(|strongest| strongest == kind) && self.limits.get(kind) == Some(&1)
    }

    /// These rules with types for the hashed values of those types that have a shape: a value that was hashed has its own no
    /// more, and stands for the same as before.
    #[must_use]
    pub fn with_hashed_types(mut self) -> IdentityRules {
        let shaped: Vec<String> =
            self.types.iter().filter(|(_, rules)| rules.shape != Shape::Any).map(|(kind, _)| kind.clone()).collect();
        for kind in shaped {
            let hashed = format!("{}{kind}", crate::rules::HASHED_TYPE);
            if let Some(limit) = self.limits.get(&kind).copied() {
                self.limits.entry(hashed.clone()).or_insert(limit);
            }
            let place = self.priority.iter().position(|known| *known == kind);
            if let Some(place) = place.filter(|_| !self.priority.contains(&hashed)) {
                self.priority.insert(place + 1, hashed);
            }
        }
        self
    }

    /// Place of a type among all: the strongest has the least.
    fn strength(&self, kind: &str) -> usize {
        self.priority.iter().position(|known| known == kind).unwrap_or(self.priority.len())
    }

    /// Sort key of an identifier: the strongest first, the same for any order of input.
    pub fn rank<'a>(&self, identifier: &'a Identifier) -> (usize, &'a str, &'a str) {
        (self.strength(&identifier.kind), &identifier.kind, &identifier.value)
    }
}

/// Whether a text can be a type of identifiers.
pub fn is_type(kind: &str) -> bool {
    (1..=64).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}
