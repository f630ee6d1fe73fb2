//! Rows as the work under way would leave them, in three layers: of the event, of its unit and of the group. What fails takes
//! its own layer along and leaves the others as they are.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use foldhash::fast::RandomState;
use kith_model::id::{ProfileId, SourceIdentityId};
use kith_model::identity::{Edge, EdgeId, Identifier, MustNotLink};
use kith_model::profile::IdentityHead;
use kith_store::Operation;

use crate::profiles::facts::FactsRow;

/// Where an identity stood before its unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) struct PriorStanding {
    /// `None` if the unit made it.
    pub profile: Option<ProfileId>,
    /// The members of the profile that it named; empty if it named none. A new identity counts as alone.
    pub members: Vec<SourceIdentityId>,
}

/// One layer of changed rows.
#[derive(Default)]
pub(super) struct Layer {
    /// With the standard library's hash: senders choose these names, and all others are made here.
    pub aliases: HashMap<Identifier, SourceIdentityId>,
    pub heads: HashMap<SourceIdentityId, Arc<IdentityHead>, RandomState>,
    /// Rows of facts, by identity and bucket.
    pub facts: HashMap<(SourceIdentityId, u8), FactsRow, RandomState>,
    /// For each end the edges that are stored under it (`Some`) or no longer (`None`).
    pub edges: HashMap<SourceIdentityId, BTreeMap<EdgeId, Option<Edge>>, RandomState>,
    /// For each identity whose head the unit changed.
    pub before: HashMap<SourceIdentityId, PriorStanding, RandomState>,
    /// Identities that have an event.
    pub owners: HashSet<SourceIdentityId, RandomState>,
    pub ordinals: u32,
    /// Must-not-link pairs that were made (`true`) or taken back.
    pub vetoes: BTreeMap<MustNotLink, bool>,
    /// Rows of what was said of consents.
    pub statements: Vec<Operation>,
}

impl Layer {
    /// Put the changes of a layer above on top of this one's.
    fn absorb(&mut self, upper: Layer) {
        self.aliases.extend(upper.aliases);
        self.heads.extend(upper.heads);
        self.facts.extend(upper.facts);
        for (end, edges) in upper.edges {
            self.edges.entry(end).or_default().extend(edges);
        }
        for (identity, before) in upper.before {
            self.before.entry(identity).or_insert(before);
        }
        self.owners.extend(upper.owners);
        self.ordinals += upper.ordinals;
        self.vetoes.extend(upper.vetoes);
        self.statements.extend(upper.statements);
    }
}

/// The three layers.
#[derive(Default)]
pub(super) struct Layers {
    pub event: Layer,
    pub unit: Layer,
    pub group: Layer,
}

impl Layers {
    /// The layers from the newest to the oldest.
    fn newest_first(&self) -> [&Layer; 3] {
        [&self.event, &self.unit, &self.group]
    }

    pub(super) fn alias(&self, identifier: &Identifier) -> Option<SourceIdentityId> {
        self.newest_first().into_iter().find_map(|layer| layer.aliases.get(identifier)).copied()
    }

    pub(super) fn head(&self, identity: SourceIdentityId) -> Option<&Arc<IdentityHead>> {
        self.newest_first().into_iter().find_map(|layer| layer.heads.get(&identity))
    }

    pub(super) fn facts(&self, identity: SourceIdentityId, bucket: u8) -> Option<&FactsRow> {
        self.newest_first().into_iter().find_map(|layer| layer.facts.get(&(identity, bucket)))
    }

    /// What the layers say of an edge under one of its ends.
    pub(super) fn edge(&self, end: SourceIdentityId, id: EdgeId) -> Option<&Option<Edge>> {
        self.newest_first().into_iter().find_map(|layer| layer.edges.get(&end)?.get(&id))
    }

    /// What the layers change of the edges under `end`, the oldest change first.
    pub(super) fn edges(&self, end: SourceIdentityId) -> impl Iterator<Item = (&EdgeId, &Option<Edge>)> {
        self.newest_first().into_iter().rev().filter_map(move |layer| layer.edges.get(&end)).flatten()
    }

    /// What the layers say of must-not-link pairs, the oldest first.
    pub(super) fn vetoes(&self) -> impl Iterator<Item = (&MustNotLink, bool)> {
        self.newest_first().into_iter().rev().flat_map(|layer| &layer.vetoes).map(|(pair, stands)| (pair, *stands))
    }

    pub(super) fn has_before(&self, identity: SourceIdentityId) -> bool {
        self.event.before.contains_key(&identity) || self.unit.before.contains_key(&identity)
    }

    /// Ordinals given by all layers.
    pub(super) fn ordinals(&self) -> u32 {
        self.newest_first().into_iter().map(|layer| layer.ordinals).sum()
    }

    pub(super) fn keep_event(&mut self) {
        let event = std::mem::take(&mut self.event);
        self.unit.absorb(event);
    }

    pub(super) fn keep_unit(&mut self) {
        let unit = std::mem::take(&mut self.unit);
        self.group.absorb(unit);
        self.group.before.clear();
        self.group.owners.clear();
        self.group.statements.clear();
    }
}
