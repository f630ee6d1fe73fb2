//! Taking in evidence at a cost that does not grow with what hangs on an identity.
//!
//! An edge is stored under each of its ends that keeps it (`IdentityRules::evidence_bound`), and counts while it is stored
//! under both. The partition is always what `cluster` makes of the edges that count; two shortcuts spare running it:
//!
//! - Where no evidence that touches either profile was vetoed, the profiles are plain components and the order is without
//!   meaning, so a permitted join is a join.
//! - Evidence that ranks after all that touches either profile is taken after it by `cluster` too, so it changes no earlier
//!   decision: it is joined or vetoed as the profiles stand, and what ranks later touches neither of them.
//!
//! Evidence of rules and people changes what the limits count, so both shortcuts are closed to it but for the everyday case: a
//! new spelling, or an id without a limit, that comes to a profile where nothing was vetoed.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::id::{InstallationId, ProfileId, SourceIdentityId};
use kith_model::identity::{BEHIND, Edge, EdgeId, EdgeRank, Evidence, Identifier, IdentityRules, Veto, ordered};
use kith_model::profile::{EvidenceCount, IdentityHead, ProfileRoot};
use kith_model::time::Timestamp;
use kith_store::{Key, ReadError, row};

use super::People;

/// Evidence that two identifiers are one person.
pub(crate) struct Link<'a> {
    pub one: SourceIdentityId,
    pub other: SourceIdentityId,
    pub evidence: Evidence,
    pub time: Timestamp,
    pub source: InstallationId,
    pub message_id: &'a str,
}

/// What became of evidence.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum EvidenceOutcome {
    /// It counts, or was known.
    Quietly,
    /// It is kept, or one like it, and joins nobody.
    Vetoed(Veto),
    /// The identity with this identifier has as much evidence as it can keep; from now on it ties nobody where it is one of
    /// too many stronger ones. Said once for each identity and type.
    Shared(Identifier),
    /// Too many identities and edges hang together for this evidence to be weighed, so it was left out.
    TooConnected,
}

/// The event that gave an edge as it is stored: its time and message.
pub(super) type EdgeEvent = (Timestamp, String);

/// Under which of its ends an edge is stored.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(super) struct HeldEdge {
    pub low: Option<EdgeEvent>,
    pub high: Option<EdgeEvent>,
}

/// What one end of an edge does with it.
pub(super) enum Place {
    /// It is stored there, from this or an earlier event.
    Stays,
    /// It is stored there, and this event is earlier.
    Earlier,
    Added,
    /// It takes the place of the last that was kept.
    Displaces,
    Surplus,
    /// With it the identity is shared.
    Shares,
}

impl Place {
    fn is_kept(&self) -> bool {
        !matches!(self, Place::Surplus | Place::Shares)
    }

    fn changes(&self) -> bool {
        !matches!(self, Place::Stays | Place::Surplus | Place::Shares)
    }
}

/// An end, an edge, and the edge's row under that end from now on.
pub(super) type EndRow = (SourceIdentityId, EdgeId, Option<Edge>);

/// What taking in an edge would change. It is weighed before it is applied, because evidence that is too costly leaves nothing.
pub(super) struct Proposal {
    pub edge: EdgeId,
    pub rows: Vec<EndRow>,
    pub counts: Vec<(SourceIdentityId, EvidenceCount)>,
    /// Where partitioning must begin.
    pub starts: BTreeSet<SourceIdentityId>,
    /// An edge that counted does no longer.
    pub retracts: bool,
    /// Whether partitioning takes in the whole profile of everybody whom it meets, because the profiles as they stand are of
    /// other rules.
    pub whole_profiles: bool,
}

pub(super) fn other_end(id: EdgeId, end: SourceIdentityId) -> SourceIdentityId {
    if id.low == end { id.high } else { id.low }
}

impl People {
    /// Take in evidence, and bring the profiles that it touches up to date.
    pub(crate) fn link(&mut self, link: &Link<'_>, rules: &IdentityRules) -> Result<EvidenceOutcome, ReadError> {
        let (low, high) = ordered(link.one, link.other);
        if low == high {
            return Ok(EvidenceOutcome::Quietly);
        }
        let id = EdgeId { low, high, evidence: link.evidence };
        let held = self.held_edge(id)?;
        let is_known = |held: &Option<EdgeEvent>| {
            held.as_ref().is_some_and(|(time, message)| (*time, message.as_str()) <= (link.time, link.message_id))
        };
        if is_known(&held.low) && is_known(&held.high) {
            return Ok(EvidenceOutcome::Quietly);
        }
        if self.too_connected.get(&id).is_some() {
            return Ok(EvidenceOutcome::Quietly);
        }
        let edge = Edge { id, time: link.time, source: link.source, message_id: link.message_id.to_owned() };
        let identifiers = (self.head(low)?.identifier.clone(), self.head(high)?.identifier.clone());
        if !rules.follows(id.evidence, &identifiers.0.kind, &identifiers.1.kind) {
            return Ok(EvidenceOutcome::Vetoed(Veto::Unfollowed));
        }
        let rank = EdgeRank::new(id.evidence, edge.time, &identifiers.0, &identifiers.1);
        let mut proposal = Proposal {
            edge: id,
            rows: Vec::new(),
            counts: Vec::new(),
            starts: BTreeSet::from([low, high]),
            retracts: false,
            whole_profiles: false,
        };
        let was_shared = self.head(low)?.is_shared(rules) || self.head(high)?.is_shared(rules);
        let at_low = self.place(low, &edge, &rank, (&held.low, is_known(&held.low)), rules, &mut proposal)?;
        let at_high = self.place(high, &edge, &rank, (&held.high, is_known(&held.high)), rules, &mut proposal)?;
        let is_shared =
            self.part_from_shared(low, &mut proposal, rules)? | self.part_from_shared(high, &mut proposal, rules)?;
        let counted = held.low.is_some() && held.high.is_some() && !was_shared;
        let counts = at_low.is_kept() && at_high.is_kept() && !is_shared;
        let followed = if proposal.retracts || self.is_unsettled {
            self.partition_in_turn(&proposal, rules)?
        } else if counts && !counted {
            self.follow(low, high, &rank, &proposal, rules)?
        } else if counts && (at_low.changes() || at_high.changes()) && self.is_contested(low)? {
            // Known evidence moved forward in the order, and where something was vetoed the order has a meaning.
            self.partition_in_turn(&proposal, rules)?
        } else if self.comes_to_stand_behind(low, &proposal)? || self.comes_to_stand_behind(high, &proposal)? {
            // Evidence that ties nobody, but a limit counts one the less, and what it vetoed may hold.
            self.partition_in_turn(&proposal, rules)?
        } else {
            self.apply(&proposal)?;
            EvidenceOutcome::Quietly
        };
        if followed == EvidenceOutcome::TooConnected {
            return Ok(followed);
        }
        let shared = self.report_surplus(low, id, &at_low, &identifiers, rules)?;
        let shared = shared.or(self.report_surplus(high, id, &at_high, &identifiers, rules)?);
        Ok(match (followed, shared) {
            (EvidenceOutcome::Quietly | EvidenceOutcome::Vetoed(_), Some(identifier)) => {
                EvidenceOutcome::Shared(identifier)
            }
            (EvidenceOutcome::Quietly, None) if is_shared => EvidenceOutcome::Vetoed(Veto::Shared),
            (EvidenceOutcome::Quietly, None) if !counts => EvidenceOutcome::Vetoed(Veto::Surplus),
            (followed, _) => followed,
        })
    }

    /// Whether `end` is shared under the proposal; where it is and belongs to somebody, the proposal takes it out: of those that
    /// it ties, the ones of its own profile may come apart. Evidence of others was vetoed, and without it nothing changes.
    fn part_from_shared(
        &mut self,
        end: SourceIdentityId,
        proposal: &mut Proposal,
        rules: &IdentityRules,
    ) -> Result<bool, ReadError> {
        if !self.proposed(end, proposal)?.is_shared(rules) {
            return Ok(false);
        }
        let (profile, root) = self.root(end)?;
        if root.members.len() > 1 {
            proposal.retracts = true;
            let others: Vec<SourceIdentityId> =
                self.edges_of(end, &[])?.into_keys().map(|edge| other_end(edge, end)).collect();
            for other in others {
                if self.head(other)?.profile == profile {
                    proposal.starts.insert(other);
                }
            }
        }
        Ok(true)
    }

    /// Where an edge is stored, as the work under way leaves it.
    pub(super) fn held_edge(&mut self, id: EdgeId) -> Result<HeldEdge, ReadError> {
        let stored = if let Some(held) = self.edges.get(&id) {
            held.clone()
        } else if self.is_new(id.low) || self.is_new(id.high) {
            // An identity of this very group has no evidence in the store yet.
            HeldEdge::default()
        } else {
            self.work.rows_read += 2;
            let keys = [id.low, id.high].map(|end| Key::edge(self.workspace, end, id));
            let mut rows = self.store.get(&keys)?.into_iter().map(|value| {
                let edge: Option<Edge> = value.map(|value| row::decode(&value)).transpose()?;
                Ok::<_, ReadError>(edge.map(|edge| (edge.time, edge.message_id)))
            });
            let held = HeldEdge { low: rows.next().transpose()?.flatten(), high: rows.next().transpose()?.flatten() };
            drop(rows);
            self.edges.insert(id, held.clone());
            held
        };
        let layered = |end, stored: Option<EdgeEvent>| match self.layers.edge(end, id) {
            Some(edge) => edge.as_ref().map(|edge| (edge.time, edge.message_id.clone())),
            None => stored,
        };
        Ok(HeldEdge { low: layered(id.low, stored.low), high: layered(id.high, stored.high) })
    }

    /// What `end` does with an edge of `rank`; its part of the proposal. `held` is how the edge is stored there, and whether
    /// that is no later than the event at hand.
    pub(super) fn place(
        &mut self,
        end: SourceIdentityId,
        edge: &Edge,
        rank: &EdgeRank,
        (held, is_known): (&Option<EdgeEvent>, bool),
        rules: &IdentityRules,
        proposal: &mut Proposal,
    ) -> Result<Place, ReadError> {
        if is_known {
            return Ok(Place::Stays);
        }
        let head = self.head(end)?;
        let other = self.head(other_end(edge.id, end))?;
        let bound = rules.evidence_bound(edge.id, end, &head.identifier.kind, &other.identifier.kind);
        let known = head.evidence.iter().find(|count| count.kind.as_deref() == bound.kind);
        let mut count = known.cloned().unwrap_or_else(|| EvidenceCount {
            kind: bound.kind.map(str::to_owned),
            count: 0,
            last: rank.clone(),
            is_surplus_reported: false,
        });
        let place = if let Some((time, _)) = held {
            // Where it was the last, another is now, and which one is looked for when it matters: `last` is no earlier than it.
            debug_assert!(EdgeRank::new(edge.id.evidence, *time, &head.identifier, &other.identifier) <= count.last);
            Place::Earlier
        } else if (count.count as usize) < bound.most {
            count.count += 1;
            count.last = count.last.max(rank.clone());
            Place::Added
        } else if bound.makes_shared {
            // Which of them are kept has no meaning, because none counts any more.
            if !count.is_surplus_reported {
                proposal.counts.push((end, EvidenceCount { is_surplus_reported: true, ..count }));
                return Ok(Place::Shares);
            }
            return Ok(Place::Surplus);
        } else if *rank > count.last {
            Place::Surplus
        } else {
            let mut ranks = self.ranks(end, &count, rules)?;
            if let Some(last) = ranks.keys().next_back().filter(|last| **last < *rank) {
                proposal.counts.push((end, EvidenceCount { last: last.clone(), ..count }));
                return Ok(Place::Surplus);
            }
            let Some((_, displaced)) = ranks.pop_last() else {
                return Err(ReadError::Corrupt {
                    what: format!("the evidence of source identity {end}"),
                    problem: format!("its head counts {}, but there is none", count.count),
                    row: None,
                });
            };
            ranks.insert(rank.clone(), edge.clone());
            count.last = ranks.into_keys().next_back().unwrap_or_else(|| rank.clone());
            let other = other_end(displaced.id, end);
            let counted = self.held_edge(displaced.id)?;
            if counted.low.is_some() && counted.high.is_some() {
                proposal.retracts = true;
                proposal.starts.insert(other);
            }
            proposal.rows.push((end, displaced.id, None));
            Place::Displaces
        };
        if place.changes() {
            proposal.rows.push((end, edge.id, Some(edge.clone())));
            proposal.counts.push((end, count));
        }
        Ok(place)
    }

    /// The edges under `end` that are counted together, by rank.
    fn ranks(
        &mut self,
        end: SourceIdentityId,
        count: &EvidenceCount,
        rules: &IdentityRules,
    ) -> Result<BTreeMap<EdgeRank, Edge>, ReadError> {
        let identifier = self.head(end)?.identifier.clone();
        let mut ranks = BTreeMap::new();
        for edge in self.edges_of(end, &[])?.into_values() {
            let other = self.head(other_end(edge.id, end))?;
            let bound = rules.evidence_bound(edge.id, end, &identifier.kind, &other.identifier.kind);
            if bound.kind == count.kind.as_deref() {
                ranks.insert(EdgeRank::new(edge.id.evidence, edge.time, &identifier, &other.identifier), edge);
            }
        }
        Ok(ranks)
    }

    /// Say once that an identity keeps no more evidence of a type.
    fn report_surplus(
        &mut self,
        end: SourceIdentityId,
        edge: EdgeId,
        place: &Place,
        identifiers: &(Identifier, Identifier),
        rules: &IdentityRules,
    ) -> Result<Option<Identifier>, ReadError> {
        if place.is_kept() && !matches!(place, Place::Displaces) {
            return Ok(None);
        }
        metrics::counter!("kith_identity_surplus_evidence_total").increment(1);
        let (own, other) = match end == edge.low {
            true => (&identifiers.0, &identifiers.1),
            false => (&identifiers.1, &identifiers.0),
        };
        if matches!(place, Place::Shares) {
            metrics::counter!("kith_identity_shared_total").increment(1);
            tracing::warn!(
                workspace = self.workspace.0, identity = %end, kind = own.kind, others = other.kind, most = rules.shared_above,
                "an identifier came with too many others and ties nobody any more"
            );
            return Ok(Some(own.clone()));
        }
        let mut head = IdentityHead::clone(self.head(end)?.as_ref());
        let bound = rules.evidence_bound(edge, end, &own.kind, &other.kind);
        let Some(count) = head.evidence.iter_mut().find(|count| count.kind.as_deref() == bound.kind) else {
            return Ok(None);
        };
        if std::mem::replace(&mut count.is_surplus_reported, true) {
            return Ok(None);
        }
        self.set_head(end, head)?;
        Ok(Some(own.clone()))
    }

    /// Make a proposal's rows those of the event.
    pub(super) fn apply(&mut self, proposal: &Proposal) -> Result<(), ReadError> {
        for (end, id, edge) in &proposal.rows {
            self.layers.event.edges.entry(*end).or_default().insert(*id, edge.clone());
        }
        for (end, count) in &proposal.counts {
            let mut head = IdentityHead::clone(self.head(*end)?.as_ref());
            head.count_evidence(count.clone());
            self.set_head(*end, head)?;
        }
        Ok(())
    }

    /// New evidence that counts: by a shortcut where one is exact, else by partitioning.
    fn follow(
        &mut self,
        low: SourceIdentityId,
        high: SourceIdentityId,
        rank: &EdgeRank,
        proposal: &Proposal,
        rules: &IdentityRules,
    ) -> Result<EvidenceOutcome, ReadError> {
        let (one, other) = (self.root(low)?, self.root(high)?);
        let has_names = |root: &ProfileRoot| root.kinds.contains_key(BEHIND);
        let counts_names = match rank.evidence {
            Evidence::SameEvent => false,
            Evidence::Alias => has_names(&one.1) || has_names(&other.1),
            Evidence::Spelling(_) | Evidence::SameId(_) | Evidence::ByHand(_) | Evidence::Former(_) => true,
        };
        if counts_names {
            return self.follow_name((low, one), (high, other), rank, proposal, rules);
        }
        let is_free = !one.1.contested && !other.1.contested;
        let is_last = [&one.1, &other.1].into_iter().all(|root| root.latest.as_ref().is_none_or(|last| last < rank));
        let is_same = one.0 == other.0;
        let veto = if is_same { None } else { self.forbids(&one.1, &other.1, rules) };
        if !(is_last || is_free && veto.is_none()) {
            return self.partition_in_turn(proposal, rules);
        }
        self.apply(proposal)?;
        match (is_same, veto) {
            (true, _) => self.change_root(one.0, |root| root.latest = root.latest.take().max(Some(rank.clone())))?,
            (false, None) => self.join(one, other, rank)?,
            (false, Some(veto)) => {
                for profile in [one.0, other.0] {
                    self.change_root(profile, |root| {
                        root.contested = true;
                        root.latest = Some(rank.clone());
                    })?;
                }
                return Ok(EvidenceOutcome::Vetoed(veto));
            }
        }
        Ok(EvidenceOutcome::Quietly)
    }

    /// The same for evidence that says what is counted. A new spelling is one more member and no further value; an id of a
    /// type without a limit is neither. All else is partitioned.
    fn follow_name(
        &mut self,
        (low, mut one): (SourceIdentityId, (ProfileId, ProfileRoot)),
        (high, mut other): (SourceIdentityId, (ProfileId, ProfileRoot)),
        rank: &EdgeRank,
        proposal: &Proposal,
        rules: &IdentityRules,
    ) -> Result<EvidenceOutcome, ReadError> {
        let behind = proposal.edge.stands_behind();
        let ends = [(low, self.head(low)?), (high, self.head(high)?)];
        let is_lone = |root: &ProfileRoot| root.members.len() == 1;
        let is_free = one.0 != other.0 && !one.1.contested && !other.1.contested;
        let is_new_spelling = |lone: usize, root: &ProfileRoot| {
            let ((id, own), (_, front)) = (&ends[lone], &ends[1 - lone]);
            let is_plain = !own.is_behind() && !front.is_behind() && own.identifier.kind == front.identifier.kind;
            is_lone(root) && behind == Some(*id) && is_plain
        };
        let is_unlimited = |lone: usize, root: &ProfileRoot| {
            let own = &ends[lone].1;
            let is_other_counted = behind.is_some_and(|id| id == ends[1 - lone].0);
            is_lone(root) && !own.is_behind() && !rules.limits.contains_key(&own.identifier.kind) && !is_other_counted
        };
        let lone = if is_new_spelling(0, &one.1) || is_unlimited(0, &one.1) {
            &mut one.1
        } else if is_new_spelling(1, &other.1) || is_unlimited(1, &other.1) {
            &mut other.1
        } else {
            return self.partition_in_turn(proposal, rules);
        };
        let own = if lone.members[0] == low { &ends[0].1 } else { &ends[1].1 };
        if behind == Some(lone.members[0]) {
            if rules.limits.contains_key(&own.identifier.kind) {
                lone.kinds.clear();
            }
            lone.kinds.insert(BEHIND.to_owned(), 1);
        }
        if !is_free || self.forbids(&one.1, &other.1, rules).is_some() {
            return self.partition_in_turn(proposal, rules);
        }
        self.apply(proposal)?;
        self.join(one, other, rank)?;
        Ok(EvidenceOutcome::Quietly)
    }

    fn change_root(&mut self, profile: ProfileId, change: impl FnOnce(&mut ProfileRoot)) -> Result<(), ReadError> {
        let held = self.head(profile.0)?;
        let mut head = IdentityHead::clone(held.as_ref());
        if let Some(root) = &mut head.root {
            change(root);
        }
        if head != *held {
            self.set_head(profile.0, head)?;
        }
        Ok(())
    }

    /// Make one profile of two; the older keeps its name and ordinal.
    fn join(
        &mut self,
        one: (ProfileId, ProfileRoot),
        other: (ProfileId, ProfileRoot),
        rank: &EdgeRank,
    ) -> Result<(), ReadError> {
        let (kept, gone) = if one.0 <= other.0 { (one, other) } else { (other, one) };
        for member in &gone.1.members {
            let mut head = IdentityHead::clone(self.head(*member)?.as_ref());
            head.profile = kept.0;
            head.root = None;
            self.set_head(*member, head)?;
        }
        let mut kinds = kept.1.kinds;
        for (kind, count) in gone.1.kinds {
            *kinds.entry(kind).or_default() += count;
        }
        self.change_root(kept.0, |root| {
            root.members.extend(&gone.1.members);
            root.members.sort_unstable();
            root.contested |= gone.1.contested;
            root.latest = root.latest.take().max(gone.1.latest).max(Some(rank.clone()));
            root.kinds = kinds;
        })
    }
}
