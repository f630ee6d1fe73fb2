//! One-ID: identifiers, source identities and the evidence that ties them together.
//!
//! An event's first unseen identifier creates a *source identity*; each identifier belongs to one source identity for
//! ever. An *edge* is one piece of evidence that two source identities are the same person. A profile is a connected
//! component of the edges that the rules accept: [`cluster`] computes it from the *set* of edges, so the order of
//! arrival does not matter, and retracting an edge or adding a veto undoes a merge.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt;

use serde::{Deserialize, Serialize};

use crate::id::{InstallationId, SourceIdentityId};
use crate::time::Timestamp;

/// Something that names a person, e.g. `(email, a@b.c)`.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Identifier {
    /// The type: `user_id`, `anonymous_id`, `email`, …
    pub kind: String,
    pub value: String,
}

/// The longest value that an identifier can have, in bytes: an e-mail address has at most 254, and it is part of a key.
pub const MAX_IDENTIFIER_BYTES: usize = 512;

impl Identifier {
    /// The identifier `(kind, value)`.
    pub fn new(kind: impl Into<String>, value: impl Into<String>) -> Identifier {
        Identifier { kind: kind.into(), value: value.into() }
    }

    /// The form that is judged, stored and looked up: without spaces around the value. There is one place that makes it,
    /// because a rule that looked at another form than the store keeps would let through what the store refuses.
    #[must_use]
    pub fn normal(&self) -> Identifier {
        Identifier { kind: self.kind.clone(), value: self.value.trim().to_owned() }
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
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
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

/// What kind of evidence an edge is. Declared in the order of priority: the earlier is joined first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Evidence {
    /// An `alias` call names both.
    Alias,
    /// One event carries both.
    SameEvent,
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

/// Evidence beyond an identifier type's limit that an identity keeps, so that some of it may be retracted or come from a
/// broken sender without loss. Past it the identity is a shared one, for example a till, and more of it says nothing.
pub const SPARE_EVIDENCE: usize = 16;

/// Which evidence of one identity is counted together, and how much of it is kept.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct EvidenceBound<'a> {
    /// The type of the identities at the other ends; `None` stands for all types without a limit of their own together,
    /// because a sender is free to invent types.
    pub kind: Option<&'a str>,
    /// That many edges are kept, the first by rank.
    pub most: usize,
}

/// What may be joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct IdentityRules {
    /// Identifier type → how many different values of it one profile may hold.
    pub limits: BTreeMap<String, usize>,
    /// Identifier types from the strongest to the weakest; an event belongs to the identity of its strongest identifier.
    /// Types not listed come after these, by name.
    pub priority: Vec<String>,
    /// Values that name nobody, in lower case.
    pub blocked_values: BTreeSet<String>,
    pub max_members: usize,
}

impl Default for IdentityRules {
    /// One `user_id` a profile, five of each contact address, no limit for devices; the blocked values are those
    /// that Segment's and PostHog's documentation list.
    fn default() -> IdentityRules {
        let limits = [("user_id", 1), ("email", 5), ("phone", 5)];
        let blocked = [
            "",
            "-",
            "-1",
            "0",
            "00000000-0000-0000-0000-000000000000",
            "[object object]",
            "anonymous",
            "anonymoususer",
            "distinct_id",
            "email",
            "false",
            "guest",
            "id",
            "nan",
            "nil",
            "none",
            "not_authenticated",
            "null",
            "true",
            "undefined",
            "unknown",
        ];
        IdentityRules {
            limits: limits.map(|(kind, limit)| (kind.to_owned(), limit)).into(),
            priority: ["user_id", "email", "phone"].map(str::to_owned).into(),
            blocked_values: blocked.map(str::to_owned).into(),
            max_members: MAX_PROFILE_MEMBERS,
        }
    }
}

impl IdentityRules {
    /// Whether the identifier, in its normal form, may name a person: its value is not blocked, not all zeros and dashes,
    /// and within [`MAX_IDENTIFIER_BYTES`].
    pub fn admits(&self, identifier: &Identifier) -> bool {
        let value = identifier.value.as_str();
        let is_zeros = value.bytes().all(|byte| byte == b'0' || byte == b'-');
        !is_zeros && value.len() <= MAX_IDENTIFIER_BYTES && !self.blocked_values.contains(&value.to_lowercase())
    }

    /// How much evidence one identity may have that ties it to identities of type `kind`; see [`evidence`].
    pub fn evidence_bound<'a>(&self, kind: &'a str) -> EvidenceBound<'a> {
        match self.limits.get(kind) {
            Some(limit) => EvidenceBound { kind: Some(kind), most: limit.saturating_add(SPARE_EVIDENCE) },
            None => EvidenceBound { kind: None, most: self.max_members.saturating_add(SPARE_EVIDENCE) },
        }
    }

    /// Whether an identifier of that type stands for the person, and not for a device or an address of theirs: it is of the
    /// strongest type, and a person has one of it alone.
    pub fn is_of_person(&self, kind: &str) -> bool {
        self.priority.first().is_some_and(|strongest| strongest == kind) && self.limits.get(kind) == Some(&1)
    }

    /// Sort key of an identifier: the strongest first, the same for any order of input.
    pub fn rank<'a>(&self, identifier: &'a Identifier) -> (usize, &'a str, &'a str) {
        let rank = self.priority.iter().position(|kind| *kind == identifier.kind).unwrap_or(self.priority.len());
        (rank, &identifier.kind, &identifier.value)
    }
}

/// Why an edge was not joined.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Veto {
    /// The profile would hold more values of this identifier type than the rules allow.
    Limit {
        kind: String,
    },
    MustNotLink,
    /// The profile would pass [`IdentityRules::max_members`].
    TooManyMembers,
}

/// The outcome of [`cluster`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clustering {
    /// Each sorted, the whole sorted by first member; a lone identity is a component of one.
    pub components: Vec<Vec<SourceIdentityId>>,
    /// Evidence that was not followed.
    pub vetoed: Vec<(EdgeId, Veto)>,
}

/// The edges that count: those that are within the bound ([`IdentityRules::evidence_bound`]) of both of their ends, where each
/// end keeps its first by rank. What is left out is a function of the set of edges, whatever the order of arrival.
pub fn evidence<'e>(
    identities: &BTreeMap<SourceIdentityId, Identifier>,
    edges: &'e [Edge],
    rules: &IdentityRules,
) -> Vec<&'e Edge> {
    let mut kept: BTreeMap<(SourceIdentityId, Option<&str>), usize> = BTreeMap::new();
    let counts = in_order(identities, edges).into_iter().filter(|edge| {
        let mut is_kept = |end, other: SourceIdentityId| {
            let Some(other) = identities.get(&other) else { return false };
            let bound = rules.evidence_bound(&other.kind);
            let count = kept.entry((end, bound.kind)).or_default();
            *count += 1;
            *count <= bound.most
        };
        // Both ends count it, also where the other leaves it out.
        let (low, high) = (is_kept(edge.id.low, edge.id.high), is_kept(edge.id.high, edge.id.low));
        low && high
    });
    counts.collect()
}

fn in_order<'e>(
    identities: &BTreeMap<SourceIdentityId, Identifier>,
    edges: impl IntoIterator<Item = &'e Edge>,
) -> Vec<&'e Edge> {
    let mut order: Vec<&Edge> = edges.into_iter().collect();
    order.sort_by_key(|edge| {
        let (one, other) = (identities.get(&edge.id.low), identities.get(&edge.id.high));
        (edge.id.evidence, edge.time, one.min(other), one.max(other))
    });
    order
}

/// A component while [`cluster`] works.
struct Component<'a> {
    members: Vec<SourceIdentityId>,
    /// How many members are of each type that has a limit.
    limited: BTreeMap<&'a str, usize>,
}

/// Partition `identities` (each with the identifier it stands for) into profiles.
///
/// Kruskal's algorithm with vetoes: edges are taken by (evidence, time, identifiers) and joined unless that would break a
/// limit, a must-not-link pair or the cap. The result is a function of the sets alone, whatever the order of the
/// arguments and of the identities' creation.
pub fn cluster<'e>(
    identities: &BTreeMap<SourceIdentityId, Identifier>,
    edges: impl IntoIterator<Item = &'e Edge>,
    must_not_link: &BTreeSet<MustNotLink>,
    rules: &IdentityRules,
) -> Clustering {
    // The components so far, by the identity that each member points at.
    let mut root_of: BTreeMap<SourceIdentityId, SourceIdentityId> = identities.keys().map(|id| (*id, *id)).collect();
    let lone = |(id, identifier): (&SourceIdentityId, &Identifier)| {
        let limited = rules.limits.get_key_value(&identifier.kind).map(|(kind, _)| (kind.as_str(), 1));
        (*id, Component { members: vec![*id], limited: limited.into_iter().collect() })
    };
    let mut components: BTreeMap<SourceIdentityId, Component<'_>> = identities.iter().map(lone).collect();
    let mut vetoed = Vec::new();
    for edge in in_order(identities, edges) {
        let (Some(&low), Some(&high)) = (root_of.get(&edge.id.low), root_of.get(&edge.id.high)) else { continue };
        if low == high {
            continue;
        }
        match veto(&components[&low], &components[&high], must_not_link, rules) {
            Some(veto) => vetoed.push((edge.id, veto)),
            None => {
                let low_is_larger = components[&low].members.len() >= components[&high].members.len();
                let (kept, moved) = if low_is_larger { (low, high) } else { (high, low) };
                let Some(joining) = components.remove(&moved) else { continue };
                for member in &joining.members {
                    root_of.insert(*member, kept);
                }
                if let Some(component) = components.get_mut(&kept) {
                    component.members.extend(joining.members);
                    joining.limited.into_iter().for_each(|(kind, count)| {
                        *component.limited.entry(kind).or_default() += count;
                    });
                }
            }
        }
    }
    let mut components: Vec<Vec<SourceIdentityId>> =
        components.into_values().map(|component| component.members).collect();
    components.iter_mut().for_each(|component| component.sort_unstable());
    components.sort_unstable();
    vetoed.sort_by_key(|(id, _)| *id);
    Clustering { components, vetoed }
}

/// What forbids joining two components, if anything does.
fn veto(
    one: &Component<'_>,
    other: &Component<'_>,
    must_not_link: &BTreeSet<MustNotLink>,
    rules: &IdentityRules,
) -> Option<Veto> {
    if one.members.len() + other.members.len() > rules.max_members {
        return Some(Veto::TooManyMembers);
    }
    if !must_not_link.is_empty() {
        let parted = one.members.iter().flat_map(|a| other.members.iter().map(move |b| ordered(*a, *b)));
        if parted.into_iter().any(|(low, high)| must_not_link.contains(&MustNotLink { low, high })) {
            return Some(Veto::MustNotLink);
        }
    }
    let of_kind = |kind: &str| {
        let count = |component: &Component<'_>| component.limited.get(kind).copied().unwrap_or(0);
        count(one) + count(other)
    };
    let passed = rules.limits.iter().find(|(kind, limit)| of_kind(kind) > **limit);
    passed.map(|(kind, _)| Veto::Limit { kind: kind.clone() })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn id(n: u8) -> SourceIdentityId {
        SourceIdentityId([n; 16])
    }

    fn edge(time: i64, a: u8, b: u8) -> Edge {
        let (low, high) = ordered(id(a), id(b));
        let id = EdgeId { low, high, evidence: Evidence::SameEvent };
        Edge { id, time: Timestamp(time), source: InstallationId(1), message_id: format!("m{time}") }
    }

    fn people(kinds: &[(u8, &str)]) -> BTreeMap<SourceIdentityId, Identifier> {
        kinds.iter().map(|(n, kind)| (id(*n), Identifier::new(*kind, format!("v{n}")))).collect()
    }

    #[test]
    fn a_second_user_on_a_shared_device_stays_apart() {
        let people = people(&[(1, "user_id"), (2, "user_id"), (9, "anonymous_id")]);
        let edges = [edge(20, 2, 9), edge(10, 1, 9)];
        let found = cluster(&people, &edges, &BTreeSet::new(), &IdentityRules::default());
        assert_eq!(found.components, vec![vec![id(1), id(9)], vec![id(2)]]);
        assert_eq!(found.vetoed, vec![(edges[0].id, Veto::Limit { kind: "user_id".into() })]);
    }

    #[test]
    fn a_must_not_link_pair_outranks_evidence() {
        let people = people(&[(1, "user_id"), (3, "anonymous_id"), (4, "anonymous_id")]);
        let (low, high) = (id(1), id(4));
        let parted = BTreeSet::from([MustNotLink { low, high }]);
        let found = cluster(&people, &[edge(1, 1, 3), edge(2, 3, 4)], &parted, &IdentityRules::default());
        assert_eq!(found.components, vec![vec![id(1), id(3)], vec![id(4)]]);
    }

    #[test]
    fn blocked_values_name_nobody() {
        let rules = IdentityRules::default();
        for value in ["", "NULL", "undefined", "000-000", " 0 ", &"x".repeat(513), &format!(" {} ", "x".repeat(513))] {
            assert!(!rules.admits(&Identifier::new("user_id", value).normal()), "{value}");
        }
        assert!(
            !rules.admits(&Identifier::new("user_id", format!("u1{}", " ".repeat(5_000)))),
            "its normal form is judged"
        );
        assert!(rules.admits(&Identifier::new("user_id", "00001")));
    }

    #[test]
    fn a_shared_identity_keeps_its_first_evidence_whatever_the_order() {
        let kinds: Vec<(u8, &str)> = (1..=60).map(|n| (n, "user_id")).chain([(99, "anonymous_id")]).collect();
        let people = people(&kinds);
        let mut edges: Vec<Edge> = (1..=60).map(|n| edge(i64::from(n), n, 99)).collect();
        let rules = IdentityRules::default();
        let expected: Vec<EdgeId> = edges.iter().take(1 + SPARE_EVIDENCE).map(|edge| edge.id).collect();
        for _ in 0..4 {
            edges.rotate_left(17);
            edges.swap(3, 40);
            let kept: Vec<EdgeId> = evidence(&people, &edges, &rules).into_iter().map(|edge| edge.id).collect();
            assert_eq!(kept, expected);
        }
    }
}
