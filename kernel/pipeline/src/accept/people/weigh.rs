//! Evidence and profiles under rules that have changed: what is stored is looked at again, what was left out is offered again, and
//! whoever is one person is partitioned again.
//!
//! The three are steps of a change ([`crate::accept::reweigh`]), each over everybody before the next begins. The first two write
//! evidence alone, so that nobody is parted or joined before all evidence is as the new rules have it: each profile changes once.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::change::Change;
use kith_model::event::Event;
use kith_model::id::{InstallationId, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Edge, EdgeId, EdgeRank, Evidence, Identifier, IdentityRules, Standing, ordered};
use kith_model::profile::{EvidenceCount, IdentityHead};
use kith_model::time::Timestamp;
use kith_store::{Key, ReadError, Store, row};

use super::evidence::{EdgeEvent, EvidenceOutcome, Link, Proposal, other_end};
use super::{People, read_head};
use crate::accept::named;

/// Events of one moment that are looked through for the one that gave evidence.
const MAX_EVENTS: usize = 64;

/// What the rules say of an identity, before and after.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Standings {
    pub identity: SourceIdentityId,
    /// The profile that it was in; `None` for one that is new.
    pub before: Option<ProfileId>,
    pub after: ProfileId,
    /// The members of the profile that it named before; none where it named none.
    pub members_before: Vec<SourceIdentityId>,
    /// Those of the profile that it names now.
    pub members_after: Vec<SourceIdentityId>,
}

/// Evidence of one bound, in its order.
struct Group {
    most: usize,
    makes_shared: bool,
    edges: BTreeMap<EdgeRank, EdgeId>,
}

impl People {
    /// Opened for a dry run, of which nothing is ever written.
    pub(crate) fn scratch(
        store: Arc<dyn Store>,
        workspace: WorkspaceId,
        realm_key: [u8; 32],
    ) -> Result<People, ReadError> {
        Ok(People { is_scratch: true, ..People::open(store, workspace, realm_key)? })
    }

    pub(crate) fn is_scratch(&self) -> bool {
        self.is_scratch
    }

    /// Weigh all stored evidence of an identity by these rules: what they no longer give goes, the rest is counted again. With
    /// `looks_at_events` the event that gave each piece is asked whether its identifiers are still tied that way.
    pub(crate) fn weigh(
        &mut self,
        identity: SourceIdentityId,
        rules: &IdentityRules,
        looks_at_events: bool,
    ) -> Result<(), ReadError> {
        self.spell(identity, rules)?;
        let held = self.head(identity)?;
        let mut head = IdentityHead::clone(&held);
        let mut groups: BTreeMap<Option<String>, Group> = BTreeMap::new();
        let (mut gone, mut formed) = (Vec::new(), Vec::new());
        for (id, edge) in self.edges_of(identity, &[])? {
            let other = self.head(other_end(id, identity))?;
            let (low, high) = match id.low == identity {
                true => (&held.identifier, &other.identifier),
                false => (&other.identifier, &held.identifier),
            };
            if !rules.gives(id, low, high) || looks_at_events && !self.is_given_by_event(&edge, low, high, rules)? {
                gone.push(id);
                let behind = id.stands_behind().filter(|behind| *behind != identity);
                let is_form = matches!(id.evidence, Evidence::Spelling(_))
                    && rules.form(&other.identifier).as_ref() != Some(&held.identifier);
                formed.extend(behind.filter(|_| is_form && rules.names_somebody(&other.identifier)));
                continue;
            }
            let bound = rules.evidence_bound(id, identity, &held.identifier.kind, &other.identifier.kind);
            let rank = EdgeRank::new(id.evidence, edge.time, &held.identifier, &other.identifier);
            let group = groups.entry(bound.kind.map(str::to_owned));
            let new = || Group { most: bound.most, makes_shared: bound.makes_shared, edges: BTreeMap::new() };
            group.or_insert_with(new).edges.insert(rank, id);
        }
        // What was left out is offered again before anybody is partitioned; until then it is held for shared.
        let is_undecided = rules.is_shared(&held.identifier.kind, &held.evidence) && !held.stands(Standing::TiesNobody);
        let was_reported =
            |kind: &Option<String>| held.evidence.iter().any(|held| held.kind == *kind && held.is_surplus_reported);
        head.evidence.clear();
        for (kind, Group { most, makes_shared, edges }) in groups {
            let surplus: Vec<EdgeId> = edges.values().skip(most).copied().collect();
            let kept = edges.into_keys().take(most);
            let (count, last) = kept.fold((0, None), |(count, _), rank| (count + 1, Some(rank)));
            let is_surplus_reported = if makes_shared { !surplus.is_empty() } else { was_reported(&kind) };
            gone.extend(surplus);
            let count = last.map(|last| EvidenceCount { kind, count, last, is_surplus_reported });
            head.evidence.extend(count);
        }
        for (standing, holds) in
            [(Standing::Undecided, is_undecided), (Standing::TiesNobody, rules.unties(&held.identifier))]
        {
            if holds { head.note_standing(standing) } else { head.clear_standing(standing) }
        }
        let is_same = head.evidence.len() == held.evidence.len()
            && head.evidence.iter().all(|count| held.evidence.contains(count));
        if !is_same {
            self.set_head(identity, head)?;
        }
        for id in gone {
            self.layers.event.edges.entry(identity).or_default().insert(id, None);
        }
        // It was the form of these alone, as far as is known; an event that names it takes that back.
        let is_spelling = self.head(identity)?.is_spelling();
        match formed.into_iter().min().filter(|_| !is_spelling && rules.names_somebody(&held.identifier)) {
            Some(spelled) => self.offer_of_rule(EdgeId::behind(identity, spelled, Evidence::Former), rules),
            None => Ok(()),
        }
    }

    /// An event names an identity: where it was taken for the form of earlier rules alone, it is somebody of its own. Whether
    /// it was.
    pub(crate) fn note_named(&mut self, identity: SourceIdentityId, rules: &IdentityRules) -> Result<bool, ReadError> {
        if !self.head(identity)?.is_spelling() {
            return Ok(false);
        }
        let edges = self.edges_of(identity, &[])?.into_keys();
        let former =
            edges.filter(|edge| matches!(edge.evidence, Evidence::Former(_)) && edge.stands_behind() == Some(identity));
        let former: Vec<EdgeId> = former.collect();
        for id in &former {
            let mut proposal = Proposal::to_partition(id.low, id.high);
            self.retract(*id, rules, &mut proposal)?;
            self.apply(&proposal)?;
        }
        Ok(!former.is_empty())
    }

    /// The same of an event that comes: whoever hangs together with it is partitioned.
    pub(crate) fn name(&mut self, identity: SourceIdentityId, rules: &IdentityRules) -> Result<(), ReadError> {
        if self.note_named(identity, rules)? {
            let proposal = Proposal { whole_profiles: true, ..Proposal::to_partition(identity, identity) };
            self.partition(&proposal, rules)?;
        }
        Ok(())
    }

    /// Tie an identity to its normal form of today. The form of earlier rules is a spelling as well, so nobody is left behind
    /// under a form that no event was sent with.
    fn spell(&mut self, identity: SourceIdentityId, rules: &IdentityRules) -> Result<(), ReadError> {
        let head = self.head(identity)?;
        if head.identifier.is_previous() {
            return Ok(());
        }
        let Ok(normal) = rules.judge(&head.identifier) else { return Ok(()) };
        if normal == head.identifier {
            return Ok(());
        }
        let front = self.identify(&normal, head.created_at)?;
        self.offer_of_rule(EdgeId::behind(identity, front, Evidence::Spelling), rules)
    }

    /// Offer evidence that a rule gives.
    pub(crate) fn offer_of_rule(&mut self, edge: EdgeId, rules: &IdentityRules) -> Result<(), ReadError> {
        let link = Link {
            one: edge.low,
            other: edge.high,
            evidence: edge.evidence,
            time: Timestamp(0),
            source: InstallationId(0),
            message_id: "",
        };
        self.offer(&link, rules)
    }

    /// Take in evidence without bringing profiles up to date: they are partitioned once all of it was offered.
    pub(crate) fn offer(&mut self, link: &Link<'_>, rules: &IdentityRules) -> Result<(), ReadError> {
        let (low, high) = ordered(link.one, link.other);
        if low == high {
            return Ok(());
        }
        let id = EdgeId { low, high, evidence: link.evidence };
        let (one, other) = (self.head(low)?, self.head(high)?);
        if !rules.follows(id.evidence, &one.identifier.kind, &other.identifier.kind) {
            return Ok(());
        }
        let held = self.held_edge(id)?;
        let is_known = |held: &Option<EdgeEvent>| {
            held.as_ref().is_some_and(|(time, message)| (*time, message.as_str()) <= (link.time, link.message_id))
        };
        if is_known(&held.low) && is_known(&held.high) {
            return Ok(());
        }
        let edge = Edge { id, time: link.time, source: link.source, message_id: link.message_id.to_owned() };
        let rank = EdgeRank::new(id.evidence, edge.time, &one.identifier, &other.identifier);
        let mut proposal = Proposal::to_partition(low, high);
        self.place(low, &edge, &rank, (&held.low, is_known(&held.low)), rules, &mut proposal)?;
        self.place(high, &edge, &rank, (&held.high, is_known(&held.high)), rules, &mut proposal)?;
        self.apply(&proposal)
    }

    /// Note of an identity whether the rules say that it ties nobody.
    pub(crate) fn note_standing(&mut self, identity: SourceIdentityId, rules: &IdentityRules) -> Result<(), ReadError> {
        let held = self.head(identity)?;
        let unties = rules.unties(&held.identifier);
        if unties != held.stands(Standing::TiesNobody) {
            let mut head = IdentityHead::clone(&held);
            if unties {
                head.note_standing(Standing::TiesNobody)
            } else {
                head.clear_standing(Standing::TiesNobody)
            }
            self.set_head(identity, head)?;
        }
        Ok(())
    }

    /// Partition what hangs together with the profile that an identity names, by evidence that is as the rules have it.
    pub(crate) fn settle(
        &mut self,
        identity: SourceIdentityId,
        rules: &IdentityRules,
    ) -> Result<EvidenceOutcome, ReadError> {
        let held = self.head(identity)?;
        let is_undecided = held.stands(Standing::Undecided);
        if is_undecided {
            let mut head = IdentityHead::clone(&held);
            head.clear_standing(Standing::Undecided);
            self.set_head(identity, head)?;
        }
        if held.root.is_none() && !is_undecided {
            return Ok(EvidenceOutcome::Quietly);
        }
        let proposal = Proposal { whole_profiles: true, ..Proposal::to_partition(identity, identity) };
        self.partition(&proposal, rules)
    }

    /// An identity, and those that stand behind it as spellings.
    pub(crate) fn spellings(&mut self, identity: SourceIdentityId) -> Result<Vec<SourceIdentityId>, ReadError> {
        let edges = self.edges_of(identity, &[])?.into_keys();
        let behind = edges.filter(|edge| matches!(edge.evidence, Evidence::Spelling(_)));
        let behind = behind.filter_map(|edge| edge.stands_behind()).filter(|behind| *behind != identity);
        Ok([identity].into_iter().chain(behind).collect())
    }

    /// Whether the event that gave a piece of evidence ties the two identifiers under these rules; also where it is not found.
    fn is_given_by_event(
        &mut self,
        edge: &Edge,
        low: &Identifier,
        high: &Identifier,
        rules: &IdentityRules,
    ) -> Result<bool, ReadError> {
        if !matches!(edge.id.evidence, Evidence::SameEvent | Evidence::Alias) {
            return Ok(true);
        }
        let Some(event) = self.event_of(edge)? else { return Ok(true) };
        let (named, _) = named::of(event.kind, &event.identifiers, rules);
        let Some((strongest, others)) = named.split_first() else { return Ok(false) };
        let is_tied = |one: &Identifier, other: &Identifier| {
            strongest.spelled == *one && others.iter().any(|named| named.spelled == *other)
        };
        Ok(is_tied(low, high) || is_tied(high, low))
    }

    fn event_of(&mut self, edge: &Edge) -> Result<Option<Event>, ReadError> {
        for end in [edge.id.low, edge.id.high] {
            let range = Key::event(self.workspace, end, edge.time).range();
            self.work.rows_read += 1;
            for (_, value) in self.store.scan(&range, MAX_EVENTS)?.rows {
                if let Change::Recorded(event) = row::decode(&value)?
                    && event.message_id == edge.message_id
                {
                    return Ok(Some(event));
                }
            }
        }
        Ok(None)
    }

    /// Rows of identities and evidence that wait to be durable.
    pub(crate) fn pending(&self) -> usize {
        let layers = [&self.layers.event, &self.layers.unit];
        layers.iter().map(|layer| layer.heads.len() + layer.edges.values().map(BTreeMap::len).sum::<usize>()).sum()
    }

    /// Where everybody stood whom the unit touched, and where they stand with it.
    pub(crate) fn standings(&self) -> Vec<Standings> {
        let unit = &self.layers.unit;
        let members = |head: &IdentityHead| head.root.as_ref().map_or(Vec::new(), |root| root.members.clone());
        let of = unit.before.iter().filter_map(|(identity, before)| {
            let head = unit.heads.get(identity)?;
            let is_new = before.profile.is_none();
            Some(Standings {
                identity: *identity,
                before: before.profile,
                after: head.profile,
                members_before: if is_new { Vec::new() } else { before.members.clone() },
                members_after: members(head),
            })
        });
        of.collect()
    }

    /// Who an identity is with the unit under way.
    pub(crate) fn current(&mut self, identity: SourceIdentityId) -> Result<IdentityHead, ReadError> {
        Ok(IdentityHead::clone(self.head(identity)?.as_ref()))
    }

    /// Who it is in the store.
    pub(crate) fn stored(&self, identity: SourceIdentityId) -> Result<Option<IdentityHead>, ReadError> {
        read_head(self.store.as_ref(), self.workspace, identity)
    }
}
