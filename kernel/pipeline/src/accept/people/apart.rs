//! What forbids a merge: limits, and the must-not-link pairs of a workspace, found by either end.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::id::SourceIdentityId;
use kith_model::identity::{Identifier, IdentityRules, MustNotLink, Veto};
use kith_model::profile::ProfileRoot;

use super::People;
use super::layers::Layers;

impl People {
    /// What forbids that the two profiles are one, if anything does.
    pub(super) fn forbids(&self, one: &ProfileRoot, other: &ProfileRoot, rules: &IdentityRules) -> Option<Veto> {
        if one.members.len() + other.members.len() > rules.max_members {
            return Some(Veto::TooManyMembers);
        }
        if self.apart.is_between(&one.members, &other.members, &self.layers) {
            return Some(Veto::MustNotLink);
        }
        let count = |root: &ProfileRoot, kind: &str| root.kinds.get(kind).map_or(0, |count| *count as usize);
        let passed = rules.limits.iter().find(|(kind, limit)| count(one, kind) + count(other, kind) > **limit);
        passed.map(|(kind, _)| Veto::Limit { kind: kind.clone() })
    }
}

/// The pairs that are durable. What the work under way makes or takes back lies in the layers above.
#[derive(Default)]
pub(super) struct ApartPairs(BTreeMap<SourceIdentityId, BTreeSet<SourceIdentityId>>);

impl ApartPairs {
    pub(super) fn insert(&mut self, MustNotLink { low, high }: MustNotLink) {
        self.0.entry(low).or_default().insert(high);
        self.0.entry(high).or_default().insert(low);
    }

    pub(super) fn remove(&mut self, MustNotLink { low, high }: MustNotLink) {
        for (end, other) in [(low, high), (high, low)] {
            if let Some(others) = self.0.get_mut(&end) {
                others.remove(&other);
            }
        }
    }

    /// The identities that must not be one with `identity`.
    fn of(&self, identity: SourceIdentityId, layers: &Layers) -> BTreeSet<SourceIdentityId> {
        let mut others = self.0.get(&identity).cloned().unwrap_or_default();
        for (pair, stands) in layers.vetoes().filter(|(pair, _)| pair.low == identity || pair.high == identity) {
            let other = if pair.low == identity { pair.high } else { pair.low };
            match stands {
                true => others.insert(other),
                false => others.remove(&other),
            };
        }
        others
    }

    fn is_empty(&self, layers: &Layers) -> bool {
        self.0.is_empty() && layers.vetoes().next().is_none()
    }

    /// Whether a pair has an end in each of two profiles, whose members are sorted.
    pub(super) fn is_between(&self, one: &[SourceIdentityId], other: &[SourceIdentityId], layers: &Layers) -> bool {
        let (few, many) = if one.len() <= other.len() { (one, other) } else { (other, one) };
        !self.is_empty(layers)
            && few.iter().any(|id| self.of(*id, layers).iter().any(|apart| many.binary_search(apart).is_ok()))
    }

    /// The pairs with both ends among `identities`.
    pub(super) fn among(
        &self,
        identities: &BTreeMap<SourceIdentityId, Identifier>,
        layers: &Layers,
    ) -> BTreeSet<MustNotLink> {
        if self.is_empty(layers) {
            return BTreeSet::new();
        }
        let pairs = identities.keys().flat_map(|id| self.of(*id, layers).into_iter().map(|other| (*id, other)));
        pairs
            .filter(|(_, other)| identities.contains_key(other))
            .map(|(one, other)| MustNotLink::new(one, other))
            .collect()
    }
}
