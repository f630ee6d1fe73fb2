//! One-ID: identifiers, source identities and the evidence that ties them together.
//!
//! An event's first unseen identifier creates a *source identity*; each identifier belongs to one source identity for
//! ever. An *edge* is one piece of evidence that two source identities are the same person. A profile is a connected
//! component of the edges that the rules accept: [`cluster`] computes it from the *set* of edges, so the order of
//! arrival does not matter, and retracting an edge or adding a veto undoes a merge.
//!
//! # A spelling is evidence
//!
//! An identity is keyed by the value as it came, without the spaces around it ([`Identifier::trimmed`]), and not by its
//! normal form ([`IdentityRules::judge`]). Where the two differ there are two identities, and the rule ties the spelling to
//! the normal form with an edge of its own ([`Evidence::Spelling`]). Were the normal form the key, then an event that came
//! as `Ada@Example.com` would belong to `ada@example.com` for ever: a rule that turned out to be wrong could not be taken
//! back, and a new version of the rule or of its tables would find nobody under the keys of the old
//! one. As an edge it can be retracted like any other evidence, and what came under each spelling comes apart again. It
//! costs one more identity for each spelling that is not the normal form, and their number is bounded by
//! [`MAX_PROFILE_MEMBERS`], as that of a person's devices is.
//!
//! # An alias names its old id without a type
//!
//! `previousId` may be a user id or an anonymous id. It is an identity of its own, of the type [`PREVIOUS_ID`], which the
//! alias ties to the new id, and a rule ties it to the user and the anonymous identity of that value as soon as there are
//! any ([`Evidence::SameId`]), whether they come before the alias or after it. Nobody is shown it: it names no device.

mod clustering;
mod forms;
mod normal;
mod phones;
mod placeholders;
mod rules;
#[cfg(test)]
mod tests;
mod undone;

use std::cmp::Ordering;
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{InstallationId, SourceIdentityId};
use crate::time::Timestamp;

pub use clustering::{BEHIND, Clustering, Component, Counting, Veto, cluster, counting};
pub use forms::Forms;
pub use normal::Unfit;
pub use placeholders::is_missing_id;
pub use rules::{
    AliasRule, Case, EvidenceBound, IdentityRules, MAX_RULED_VALUES, RulesError, SHARED_ABOVE, SPARE_EVIDENCE, Shape,
    TypeRules, is_type,
};
pub use undone::{FORMS, Standing, UnknownEvidence};

/// Something that names a person, e.g. `(email, a@b.c)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identifier {
    /// The type: `user_id`, `anonymous_id`, `email`, …
    pub kind: String,
    pub value: String,
}

/// The longest value that an identifier can have, in bytes: an e-mail address has at most 254, and it is part of a key.
pub const MAX_IDENTIFIER_BYTES: usize = 512;

/// The type of the ids that a sender gives to its users.
pub const USER_ID: &str = "user_id";

/// The type of the ids of devices and browsers.
pub const ANONYMOUS_ID: &str = "anonymous_id";

/// The type of the id that an alias replaces. Only the events of [`EventKind::Alias`](crate::event::EventKind::Alias) have it.
pub const PREVIOUS_ID: &str = "previous_id";

impl Identifier {
    /// The identifier `(kind, value)`.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Identifier {
        Identifier { kind: kind.into(), value: value.into() }
    }

    /// The form that is stored and looked up: as it came, without spaces around the value. There is one place that makes it,
    /// because a look-up in another form than the store keeps would find nobody.
    #[must_use]
    pub fn trimmed(&self) -> Identifier {
        Identifier { kind: self.kind.clone(), value: self.value.trim().to_owned() }
    }

    /// Whether it is the old id of an alias, which is shown to nobody.
    pub fn is_previous(&self) -> bool {
        self.kind == PREVIOUS_ID
    }
}

impl fmt::Display for Identifier {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}", self.kind, self.value)
    }
}

/// Names one piece of evidence. A pair met in a thousand events is still one edge of its kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct EdgeId {
    /// The smaller of the two.
    pub low: SourceIdentityId,
    pub high: SourceIdentityId,
    pub evidence: Evidence,
}

/// One piece of evidence that two source identities are the same person. Edges are only ever appended; of several events
/// that give the same edge, the earliest by event time (then by message id) is kept, whatever the order of arrival.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Edge {
    pub id: EdgeId,
    /// When the event that gave it happened.
    pub time: Timestamp,
    pub source: InstallationId,
    /// The event that gave it.
    pub message_id: String,
}

/// The place of an edge in the order in which [`cluster`] takes edges. No two edges share one.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct EdgeRank {
    pub evidence: Evidence,
    pub time: Timestamp,
    /// The identifiers of its ends, the lesser first.
    pub lesser: Identifier,
    pub greater: Identifier,
}

impl EdgeRank {
    /// The rank of evidence between two identities that stand for `one` and `other`.
    pub fn new(evidence: Evidence, time: Timestamp, one: &Identifier, other: &Identifier) -> EdgeRank {
        let (lesser, greater) = if one <= other { (one, other) } else { (other, one) };
        EdgeRank { evidence, time, lesser: lesser.clone(), greater: greater.clone() }
    }
}

impl Ord for EdgeRank {
    /// Which end is the smaller id comes last: ids are given by the order of arrival, which must decide nothing.
    fn cmp(&self, other: &EdgeRank) -> Ordering {
        let (one, beside) = (self.evidence.priority(), other.evidence.priority());
        (one.0, self.time, &self.lesser, &self.greater, one.1).cmp(&(
            beside.0,
            other.time,
            &other.lesser,
            &other.greater,
            beside.1,
        ))
    }
}

impl PartialOrd for EdgeRank {
    fn partial_cmp(&self, other: &EdgeRank) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

/// One of the two ends of an [`EdgeId`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// The smaller identity.
    Low,
    /// The greater one.
    High,
}

/// What kind of evidence an edge is.
///
/// Those of rules and people name one end that *stands behind* the other: an old id behind the new one, a spelling behind the
/// normal form. What stands behind another is no further value of its type, so the limits do not count it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// An `alias` call names both.
    Alias,
    /// One event carries both.
    SameEvent,
    /// One is a spelling of the other, which is its normal form. The spelling stands behind.
    Spelling(Side),
    /// One is the old id of an alias, the other the user or the device of that id. The user stands behind the one who took
    /// its place.
    SameId(Side),
    /// Somebody with the right to do so said that they are one person. The one that was merged into the other stands behind.
    ByHand(Side),
    /// One was the normal form of the other by earlier rules, and no event names it. It stands behind, so that it is nobody of
    /// its own.
    Former(Side),
}

impl Evidence {
    /// Its place among the kinds: the earlier is joined first.
    fn priority(self) -> (u8, Option<Side>) {
        match self {
            Evidence::ByHand(side) => (0, Some(side)),
            Evidence::Spelling(side) => (1, Some(side)),
            Evidence::Former(side) => (2, Some(side)),
            Evidence::SameId(side) => (3, Some(side)),
            Evidence::Alias => (4, None),
            Evidence::SameEvent => (5, None),
        }
    }

    /// The word for it in answers.
    pub fn as_str(self) -> &'static str {
        match self {
            Evidence::Alias => "alias",
            Evidence::SameEvent => "same_event",
            Evidence::Spelling(_) => "spelling",
            Evidence::SameId(_) => "same_id",
            Evidence::ByHand(_) => "by_hand",
            Evidence::Former(_) => "former_form",
        }
    }

    /// Whether a rule gives it, and no event.
    pub fn is_of_rule(self) -> bool {
        matches!(self, Evidence::Spelling(_) | Evidence::SameId(_) | Evidence::Former(_))
    }
}

impl Ord for Evidence {
    fn cmp(&self, other: &Evidence) -> Ordering {
        self.priority().cmp(&other.priority())
    }
}

impl PartialOrd for Evidence {
    fn partial_cmp(&self, other: &Evidence) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl EdgeId {
    /// The evidence that `one` stands behind `other`; `make` is the kind of it.
    pub fn behind(one: SourceIdentityId, other: SourceIdentityId, make: fn(Side) -> Evidence) -> EdgeId {
        let (low, high) = ordered(one, other);
        EdgeId { low, high, evidence: make(if one == low { Side::Low } else { Side::High }) }
    }

    /// The end that stands behind the other, where one does.
    pub fn stands_behind(&self) -> Option<SourceIdentityId> {
        match self.evidence {
            Evidence::Spelling(side) | Evidence::SameId(side) | Evidence::ByHand(side) | Evidence::Former(side) => {
                Some(match side {
                    Side::Low => self.low,
                    Side::High => self.high,
                })
            }
            Evidence::Alias | Evidence::SameEvent => None,
        }
    }
}

/// Two source identities that must never share a profile. Outranks every edge.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct MustNotLink {
    /// The smaller of the two.
    pub low: SourceIdentityId,
    pub high: SourceIdentityId,
}

/// A pair of source identities in canonical order.
pub fn ordered(a: SourceIdentityId, b: SourceIdentityId) -> (SourceIdentityId, SourceIdentityId) {
    if a <= b { (a, b) } else { (b, a) }
}

/// A component never grows past this many source identities: beyond it is a shared device or a broken sender, not a person.
pub const MAX_PROFILE_MEMBERS: usize = 500;
