//! Partitioning what evidence connects, by the rule itself: the exact way where no shortcut is. It has a bound, beyond which
//! nothing is changed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::id::{ProfileId, SourceIdentityId};
use kith_model::identity::{Component, Edge, EdgeId, EdgeRank, Evidence, Identifier, IdentityRules, cluster};
use kith_model::profile::{EvidenceCount, IdentityHead, ProfileRoot};
use kith_store::{Key, ReadError, row};

use super::People;
use super::evidence::{EndRow, EvidenceOutcome, Proposal, other_end};
use crate::profiles::facts::each_row;

/// Most identities that one piece of evidence may make the kernel partition again: four times the largest profile.
const MAX_RECOMPUTED_IDENTITIES: usize = 2_000;

/// The same for the edges between them.
const MAX_RECOMPUTED_EDGES: usize = 8_000;

/// How many times these a change of the rules may take, of which no event waits for the end.
const OF_A_CHANGE: usize = 4;

/// Identities that evidence connects, with the evidence that counts among them.
struct ConnectedComponent {
    identities: BTreeMap<SourceIdentityId, Identifier>,
    edges: BTreeMap<EdgeId, Edge>,
    /// Those that stand behind another.
    behind: BTreeSet<SourceIdentityId>,
}

impl Proposal {
    /// No evidence: what hangs together with the two is partitioned as it stands.
    pub(super) fn to_partition(one: SourceIdentityId, other: SourceIdentityId) -> Proposal {
        Proposal {
            edge: EdgeId::behind(one, other, Evidence::ByHand),
            rows: Vec::new(),
            counts: Vec::new(),
            starts: BTreeSet::from([one, other]),
            retracts: true,
            whole_profiles: false,
        }
    }
}

impl People {
    /// Let a proposal take back evidence of a rule or a person, if it is there.
    pub(super) fn retract(
        &mut self,
        id: EdgeId,
        rules: &IdentityRules,
        proposal: &mut Proposal,
    ) -> Result<(), ReadError> {
        for end in [id.low, id.high] {
            if !self.edges_of(end, &[])?.contains_key(&id) {
                continue;
            }
            proposal.rows.push((end, id, None));
            let kind = rules.evidence_bound(id, end, "", "").kind;
            let head = self.head(end)?;
            let held = head.evidence.iter().find(|count| count.kind.as_deref() == kind);
            proposal
                .counts
                .extend(held.map(|held| (end, EvidenceCount { count: held.count.saturating_sub(1), ..held.clone() })));
        }
        Ok(())
    }

    /// Partition all identities that evidence connects to where the proposal begins, vetoed evidence included: the rule
    /// itself. Beyond the bounds nothing of the proposal is applied.
    pub(super) fn partition(
        &mut self,
        proposal: &Proposal,
        rules: &IdentityRules,
    ) -> Result<EvidenceOutcome, ReadError> {
        let Some(ConnectedComponent { identities, edges, behind }) = self.connected(proposal, rules)? else {
            self.put_off.spend(MAX_RECOMPUTED_IDENTITIES);
            metrics::counter!("kith_identity_too_connected_total").increment(1);
            self.too_connected.insert(proposal.edge, ());
            return Ok(EvidenceOutcome::TooConnected);
        };
        self.put_off.spend(identities.len());
        self.apply(proposal)?;
        let must_not_link = self.apart.among(&identities, &self.layers);
        let clustering = cluster(&identities, &behind, edges.values(), &must_not_link, rules);
        let contested: BTreeSet<SourceIdentityId> =
            clustering.vetoed.iter().flat_map(|(edge, _)| [edge.low, edge.high]).collect();
        let mut latest: BTreeMap<SourceIdentityId, EdgeRank> = BTreeMap::new();
        for edge in edges.values() {
            let (Some(low), Some(high)) = (identities.get(&edge.id.low), identities.get(&edge.id.high)) else {
                continue;
            };
            let rank = EdgeRank::new(edge.id.evidence, edge.time, low, high);
            for end in [edge.id.low, edge.id.high] {
                if latest.get(&end).is_none_or(|held| *held < rank) {
                    latest.insert(end, rank.clone());
                }
            }
        }
        for Component { members, kinds } in clustering.components {
            let root = ProfileRoot {
                contested: members.iter().any(|member| contested.contains(member)),
                latest: members.iter().filter_map(|member| latest.get(member)).max().cloned(),
                kinds,
                members,
            };
            self.set_profile(root)?;
        }
        let veto = clustering.vetoed.into_iter().find(|(edge, _)| *edge == proposal.edge);
        Ok(veto.map_or(EvidenceOutcome::Quietly, |(_, veto)| EvidenceOutcome::Vetoed(veto)))
    }

    /// Whether `end` stands behind another with the proposal and did not before, where evidence of its profile was vetoed.
    pub(super) fn comes_to_stand_behind(
        &mut self,
        end: SourceIdentityId,
        proposal: &Proposal,
    ) -> Result<bool, ReadError> {
        let comes = !self.head(end)?.is_behind() && self.proposed(end, proposal)?.is_behind();
        Ok(comes && self.is_contested(end)?)
    }

    pub(super) fn is_contested(&mut self, identity: SourceIdentityId) -> Result<bool, ReadError> {
        Ok(self.root(identity)?.1.contested)
    }

    /// Make the members of `root` one profile, named by the first.
    fn set_profile(&mut self, root: ProfileRoot) -> Result<(), ReadError> {
        let name = ProfileId(root.members[0]);
        for (number, member) in root.members.iter().enumerate() {
            let held = self.head(*member)?;
            let names = (number == 0).then(|| root.clone());
            if held.profile != name || held.root != names {
                let mut head = IdentityHead::clone(held.as_ref());
                head.profile = name;
                head.root = names;
                self.set_head(*member, head)?;
            }
        }
        Ok(())
    }

    /// All identities that evidence connects, as it would be under the proposal; `None` if they are too many. What is shared
    /// ties nobody, so that nothing is followed from it or to it.
    fn connected(
        &mut self,
        proposal: &Proposal,
        rules: &IdentityRules,
    ) -> Result<Option<ConnectedComponent>, ReadError> {
        let mut found =
            ConnectedComponent { identities: BTreeMap::new(), edges: BTreeMap::new(), behind: BTreeSet::new() };
        let times = if proposal.whole_profiles || self.is_unsettled { OF_A_CHANGE } else { 1 };
        let mut open: Vec<SourceIdentityId> = proposal.starts.iter().copied().collect();
        while let Some(identity) = open.pop() {
            if found.identities.contains_key(&identity) {
                continue;
            }
            if found.identities.len() == times * MAX_RECOMPUTED_IDENTITIES {
                return Ok(None);
            }
            let head = self.proposed(identity, proposal)?;
            found.identities.insert(identity, head.identifier.clone());
            found.behind.extend(head.is_behind().then_some(identity));
            if proposal.whole_profiles || self.is_unsettled {
                let (_, root) = self.root(identity)?;
                open.extend(root.members.iter().filter(|member| !found.identities.contains_key(member)));
            }
            if head.is_shared(rules) {
                continue;
            }
            let mut edges = self.edges_of(identity, &proposal.rows)?;
            // What came in from the other end was seen to be stored here as well, or it would not have been followed.
            let unsure: Vec<EdgeId> = edges.keys().filter(|id| !found.edges.contains_key(id)).copied().collect();
            for id in self.missing_at_other_end(identity, &unsure, proposal)? {
                edges.remove(&id);
            }
            for (id, edge) in edges {
                let other = other_end(id, identity);
                if found.edges.contains_key(&id) || !self.proposed(other, proposal)?.is_shared(rules) {
                    open.push(other);
                    found.edges.insert(id, edge);
                }
            }
            if found.edges.len() > times * MAX_RECOMPUTED_EDGES {
                return Ok(None);
            }
        }
        Ok(Some(found))
    }

    /// A head as it would be with the proposed counts.
    pub(super) fn proposed(
        &mut self,
        identity: SourceIdentityId,
        proposal: &Proposal,
    ) -> Result<Arc<IdentityHead>, ReadError> {
        let mut head = self.head(identity)?;
        for (_, count) in proposal.counts.iter().filter(|(end, _)| *end == identity) {
            Arc::make_mut(&mut head).count_evidence(count.clone());
        }
        Ok(head)
    }

    /// The edges that are stored under `identity`, as they would be with the proposed rows.
    pub(super) fn edges_of(
        &mut self,
        identity: SourceIdentityId,
        proposed: &[EndRow],
    ) -> Result<BTreeMap<EdgeId, Edge>, ReadError> {
        let mut edges: BTreeMap<EdgeId, Edge> = BTreeMap::new();
        if !self.is_new(identity) {
            each_row(self.store.as_ref(), &Key::edges(self.workspace, identity), |_, value| {
                let edge: Edge = row::decode(value)?;
                edges.insert(edge.id, edge);
                Ok(())
            })?;
        }
        self.work.rows_read += edges.len() as u64;
        let proposed = proposed.iter().filter(|(end, ..)| *end == identity).map(|(_, id, edge)| (id, edge));
        for (id, edge) in self.layers.edges(identity).chain(proposed) {
            match edge {
                Some(edge) => edges.insert(*id, edge.clone()),
                None => edges.remove(id),
            };
        }
        self.work.edges += edges.len() as u64;
        Ok(edges)
    }

    /// Which of the edges under `identity` are not stored under their other end.
    fn missing_at_other_end(
        &mut self,
        identity: SourceIdentityId,
        edges: &[EdgeId],
        proposal: &Proposal,
    ) -> Result<Vec<EdgeId>, ReadError> {
        let mut missing = Vec::new();
        let mut asked = Vec::new();
        for id in edges {
            let other = other_end(*id, identity);
            let proposed = proposal.rows.iter().rfind(|(end, known, _)| *end == other && known == id);
            let known = proposed.map(|(_, _, edge)| edge).or_else(|| self.layers.edge(other, *id));
            match known {
                Some(edge) if edge.is_some() => {}
                None if !self.is_new(other) => asked.push(*id),
                _ => missing.push(*id),
            }
        }
        self.work.rows_read += asked.len() as u64;
        let keys: Vec<Key> = asked.iter().map(|id| Key::edge(self.workspace, other_end(*id, identity), *id)).collect();
        let rows = self.store.get(&keys)?;
        missing.extend(asked.iter().zip(rows).filter(|(_, row)| row.is_none()).map(|(id, _)| *id));
        Ok(missing)
    }
}
