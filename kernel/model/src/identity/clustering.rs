//! Who is one person: the partition of identities by the evidence that counts. A function of the sets alone, whatever the
//! order of arrival.

use std::collections::{BTreeMap, BTreeSet};

use serde::{Deserialize, Serialize};

use super::{Edge, EdgeId, EdgeRank, Evidence, Identifier, IdentityRules, MustNotLink, ordered};
use crate::id::SourceIdentityId;

/// Under this name a component counts the members that stand behind another identity. No type of identifiers has it.
pub const BEHIND: &str = "~behind";

/// Why evidence was not followed.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(tag = "reason", rename_all = "snake_case")]
pub enum Veto {
    /// The profile would hold more values of this identifier type than the rules allow.
    Limit {
        kind: String,
    },
    MustNotLink,
    /// The profile would pass [`IdentityRules::max_members`].
    TooManyMembers,
    /// One of the ends came with more identities of a limited type than [`IdentityRules::shared_above`]: it ties nobody.
    Shared,
    /// One of the ends has as much evidence as it keeps.
    Surplus,
    /// [`IdentityRules::unfollowed`] says so.
    Unfollowed,
}

/// A profile as [`cluster`] finds it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Component {
    /// Sorted.
    pub members: Vec<SourceIdentityId>,
    /// How many values of each type the limits count, and under [`BEHIND`] how many members they leave out for standing
    /// behind another. Of identities that rules or people gave one name, those that do not stand behind another count, and at
    /// least one.
    pub kinds: BTreeMap<String, u32>,
}

/// The outcome of [`cluster`].
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Clustering {
    /// Sorted by first member; a lone identity is a component of one.
    pub components: Vec<Component>,
    /// Evidence that was not followed.
    pub vetoed: Vec<(EdgeId, Veto)>,
}

/// The evidence that counts, of all that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Counting<'e> {
    pub edges: Vec<&'e Edge>,
    /// Identities that tie nobody, because too many of a limited type came with them.
    pub shared: BTreeSet<SourceIdentityId>,
    /// Identities that stand behind another.
    pub behind: BTreeSet<SourceIdentityId>,
}

/// The edges that count: those that are within the bound ([`IdentityRules::evidence_bound`]) of both of their ends, where each
/// end keeps its first by rank, and of which no end is shared. A function of the set of edges, whatever the order of arrival.
pub fn counting<'e>(
    identities: &BTreeMap<SourceIdentityId, Identifier>,
    edges: &'e [Edge],
    rules: &IdentityRules,
) -> Counting<'e> {
    let mut counts: BTreeMap<(SourceIdentityId, Option<&str>), usize> = BTreeMap::new();
    let (mut shared, mut behind) = (BTreeSet::new(), BTreeSet::new());
    let mut kept = Vec::new();
    for edge in in_order(identities, edges) {
        let mut is_kept = |end, other: SourceIdentityId| {
            let (Some(own), Some(other)) = (identities.get(&end), identities.get(&other)) else { return false };
            let bound = rules.evidence_bound(edge.id, end, &own.kind, &other.kind);
            let count = counts.entry((end, bound.kind)).or_default();
            *count += 1;
            if bound.makes_shared && *count > bound.most {
                shared.insert(end);
            }
            if edge.id.stands_behind() == Some(end) {
                behind.insert(end);
            }
            *count <= bound.most
        };
        // Both ends count it, also where the other leaves it out.
        let (low, high) = (is_kept(edge.id.low, edge.id.high), is_kept(edge.id.high, edge.id.low));
        if low && high {
            kept.push(edge);
        }
    }
    kept.retain(|edge| !shared.contains(&edge.id.low) && !shared.contains(&edge.id.high));
    Counting { edges: kept, shared, behind }
}

fn in_order<'e>(
    identities: &BTreeMap<SourceIdentityId, Identifier>,
    edges: impl IntoIterator<Item = &'e Edge>,
) -> Vec<&'e Edge> {
    let known = edges.into_iter().filter_map(|edge| {
        let (low, high) = (identities.get(&edge.id.low)?, identities.get(&edge.id.high)?);
        Some((EdgeRank::new(edge.id.evidence, edge.time, low, high), edge))
    });
    let mut order: Vec<(EdgeRank, &Edge)> = known.collect();
    order.sort_by(|(one, _), (other, _)| one.cmp(other));
    order.into_iter().map(|(_, edge)| edge).collect()
}

/// How many values of a type a component under construction holds.
#[derive(Debug, Clone, Copy, Default)]
struct ValueCount {
    front: u32,
    behind: u32,
}

impl ValueCount {
    /// As the limits count them, once all names are known.
    fn weight(self) -> u32 {
        self.front.max(self.behind.min(1))
    }
}

/// A component while [`cluster`] works.
struct GrowingComponent<'a> {
    members: Vec<SourceIdentityId>,
    held: BTreeMap<&'a str, ValueCount>,
    behind: u32,
}

impl<'a> GrowingComponent<'a> {
    fn absorb(&mut self, other: GrowingComponent<'a>) {
        self.members.extend(other.members);
        self.behind += other.behind;
        for (kind, held) in other.held {
            let sum = self.held.entry(kind).or_default();
            sum.front += held.front;
            sum.behind += held.behind;
        }
    }

    /// All names are known: from now on each of its values counts as what it weighs.
    fn settle(&mut self) {
        for held in self.held.values_mut() {
            *held = ValueCount { front: held.weight(), behind: 0 };
        }
    }
}

/// The components so far.
struct Growth<'a> {
    /// The one that each identity is of, by the identity that stands for it.
    root_of: BTreeMap<SourceIdentityId, SourceIdentityId>,
    components: BTreeMap<SourceIdentityId, GrowingComponent<'a>>,
    /// The must-not-link pairs among the identities, from both ends.
    parted: BTreeMap<SourceIdentityId, Vec<SourceIdentityId>>,
}

impl<'a> Growth<'a> {
    fn new(
        identities: &'a BTreeMap<SourceIdentityId, Identifier>,
        behind: &BTreeSet<SourceIdentityId>,
        must_not_link: &BTreeSet<MustNotLink>,
    ) -> Growth<'a> {
        let lone = |(id, identifier): (&SourceIdentityId, &'a Identifier)| {
            let is_behind = u32::from(behind.contains(id));
            let held = ValueCount { front: 1 - is_behind, behind: is_behind };
            let held = BTreeMap::from([(identifier.kind.as_str(), held)]);
            (*id, GrowingComponent { members: vec![*id], held, behind: is_behind })
        };
        let mut parted: BTreeMap<SourceIdentityId, Vec<SourceIdentityId>> = BTreeMap::new();
        for MustNotLink { low, high } in must_not_link {
            if identities.contains_key(low) && identities.contains_key(high) {
                parted.entry(*low).or_default().push(*high);
                parted.entry(*high).or_default().push(*low);
            }
        }
        Growth {
            root_of: identities.keys().map(|id| (*id, *id)).collect(),
            components: identities.iter().map(lone).collect(),
            parted,
        }
    }

    /// Join the ends of an edge unless something forbids it; what does.
    fn take(&mut self, edge: &Edge, rules: &IdentityRules) -> Option<Veto> {
        let (Some(&low), Some(&high)) = (self.root_of.get(&edge.id.low), self.root_of.get(&edge.id.high)) else {
            return None;
        };
        if low == high {
            return None;
        }
        if let Some(veto) = self.veto(low, high, rules) {
            return Some(veto);
        }
        let low_is_larger = self.components[&low].members.len() >= self.components[&high].members.len();
        let (kept, moved) = if low_is_larger { (low, high) } else { (high, low) };
        let joining = self.components.remove(&moved)?;
        for member in &joining.members {
            self.root_of.insert(*member, kept);
        }
        if let Some(component) = self.components.get_mut(&kept) {
            component.absorb(joining);
        }
        None
    }

    fn veto(&self, one: SourceIdentityId, other: SourceIdentityId, rules: &IdentityRules) -> Option<Veto> {
        let (first, second) = (&self.components[&one], &self.components[&other]);
        if first.members.len() + second.members.len() > rules.max_members {
            return Some(Veto::TooManyMembers);
        }
        if !self.parted.is_empty() {
            let (few, beside) = if first.members.len() < second.members.len() { (first, other) } else { (second, one) };
            let apart = few.members.iter().filter_map(|member| self.parted.get(member)).flatten();
            if apart.into_iter().any(|end| self.root_of.get(end) == Some(&beside)) {
                return Some(Veto::MustNotLink);
            }
        }
        let front =
            |component: &GrowingComponent<'_>, kind: &str| component.held.get(kind).map_or(0, |held| held.front);
        let passed =
            rules.limits.iter().find(|(kind, limit)| (front(first, kind) + front(second, kind)) as usize > **limit);
        passed.map(|(kind, _)| Veto::Limit { kind: kind.clone() })
    }
}

/// Partition `identities` (each with the identifier it stands for) into profiles; those of `behind` stand behind another.
///
/// Kruskal's algorithm with vetoes: edges are taken by (evidence, time, identifiers) and joined unless that would break a
/// limit, a must-not-link pair or the cap. What rules, people and aliases say comes first and makes the names: an old id
/// behind the new one, or a spelling behind its normal form, is no further value. Of each name as many values count as do not
/// stand behind another, and one at least, so that two users who are each other's old id are not taken for none. The
/// result is a function of the sets alone, whatever the order of the arguments and of the identities' creation.
pub fn cluster<'e>(
    identities: &BTreeMap<SourceIdentityId, Identifier>,
    behind: &BTreeSet<SourceIdentityId>,
    edges: impl IntoIterator<Item = &'e Edge>,
    must_not_link: &BTreeSet<MustNotLink>,
    rules: &IdentityRules,
) -> Clustering {
    let mut growth = Growth::new(identities, behind, must_not_link);
    let order = in_order(identities, edges);
    let names = order.partition_point(|edge| edge.id.evidence != Evidence::SameEvent);
    let mut vetoed: Vec<(EdgeId, Veto)> = Vec::new();
    let mut take = |growth: &mut Growth<'_>, edges: &[&Edge]| {
        for edge in edges {
            vetoed.extend(growth.take(edge, rules).map(|veto| (edge.id, veto)));
        }
    };
    take(&mut growth, &order[..names]);
    growth.components.values_mut().for_each(GrowingComponent::settle);
    take(&mut growth, &order[names..]);
    let whole = growth.components.into_values().map(|mut component| {
        component.members.sort_unstable();
        let mut kinds: BTreeMap<String, u32> =
            component.held.into_iter().map(|(kind, held)| (kind.to_owned(), held.weight())).collect();
        if component.behind > 0 {
            kinds.insert(BEHIND.to_owned(), component.behind);
        }
        Component { members: component.members, kinds }
    });
    let mut components: Vec<Component> = whole.collect();
    components.sort_unstable_by(|one, other| one.members.cmp(&other.members));
    vetoed.sort_by_key(|(id, _)| *id);
    Clustering { components, vetoed }
}

impl MustNotLink {
    /// The pair of `one` and `other`.
    pub fn new(one: SourceIdentityId, other: SourceIdentityId) -> MustNotLink {
        let (low, high) = ordered(one, other);
        MustNotLink { low, high }
    }
}
