//! One-ID over the store: which source identity an identifier names, and which profile that belongs to.
//!
//! The rules are `kith_model::identity`'s; here are the rows, the caches, and (in `evidence`) the shortcuts for the everyday
//! cases, beside the rule itself (in `partition`). Each identifier is a source identity of its own, so that a merge rewrites no event and no fact, and can be undone.

mod apart;
mod caches;
mod consents;
mod evidence;
mod given;
mod held;
mod layers;
mod partition;
mod put_off;
mod retract;
mod stated;
#[cfg(test)]
mod tests;
mod weigh;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::change::IdentityChange;
use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{EdgeId, Identifier, MustNotLink};
use kith_model::profile::{IdentityHead, ProfileRoot};
use kith_model::time::Timestamp;
use kith_store::keys::{PersonRow, alias_digest};
use kith_store::{Key, Operation, ReadError, Store, row};
use quick_cache::unsync::Cache;
use xxhash_rust::xxh3::xxh3_128;

use super::never_seen::{FilterPart, NeverSeen};
use crate::profiles::facts::{FactsRow, each_row, facts_key, read_facts_row, read_head};
use crate::profiles::person::next_ordinal;
use apart::ApartPairs;
use caches::{AliasCache, RowCache, cache};
pub(crate) use consents::EventConsents;
use evidence::HeldEdge;
pub(crate) use evidence::{EvidenceOutcome, Link};
use layers::{Layers, PriorStanding};
pub(crate) use put_off::{PERIOD as PUT_OFF_PERIOD, PutOff};
pub(crate) use retract::hear_again;
pub(crate) use weigh::Standings;

/// Decoded heads that all workspaces together keep in memory, in bytes; each has an equal share.
const HEADS_BYTES: u64 = 48 << 20;

/// The same for identifiers, facts and evidence.
const ALIASES_BYTES: u64 = 24 << 20;
const FACTS_BYTES: u64 = 48 << 20;
const EDGES_BYTES: u64 = 16 << 20;

/// The least that a cache of one workspace may take: the people of some batches.
const LEAST_CACHE_BYTES: u64 = 256 << 10;

/// Identifiers that the largest "never seen" filter holds before the next is begun: 6 MB at one false alarm in a hundred.
const FILTER_ITEMS: usize = 5 << 20;

/// How many pairs are remembered whose evidence was too connected.
const TOO_CONNECTED: usize = 10_000;

/// What identity work has read and looked at; grows only.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Work {
    /// Rows asked for or scanned.
    pub rows_read: u64,
    /// Edges looked at.
    pub edges: u64,
}

/// One workspace's identities. Only its accept lane holds it.
pub(crate) struct People {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    /// Hides identifiers in keys.
    realm_key: [u8; 32],
    aliases: AliasCache,
    heads: RowCache<SourceIdentityId, Arc<IdentityHead>>,
    facts: RowCache<(SourceIdentityId, u8), FactsRow>,
    edges: RowCache<EdgeId, HeldEdge>,
    /// Evidence that was too connected to be weighed: a repeat is not weighed again, and not reported again.
    too_connected: Cache<EdgeId, ()>,
    /// Whose profiles are not yet as their evidence has them.
    pub(crate) put_off: PutOff,
    /// Among how many workspaces the caches' bytes are shared.
    workspaces: u64,
    known: NeverSeen,
    apart: ApartPairs,
    /// The next ordinal that the store does not know of; the layers count on from it.
    next_ordinal: u32,
    layers: Layers,
    /// Whether nothing of it is ever written.
    is_scratch: bool,
    /// Whether profiles may be other than their evidence has them, because a change of the rules is under way. No shortcut over
    /// profiles is exact then: whoever is touched is partitioned with their whole profile.
    pub(crate) is_unsettled: bool,
    work: Work,
}

impl People {
    /// Read what must be at hand: the vetoes and the next ordinal. Which identifiers exist is read beside the work.
    pub(crate) fn open(
        store: Arc<dyn Store>,
        workspace: WorkspaceId,
        realm_key: [u8; 32],
    ) -> Result<People, ReadError> {
        let aliases = Key::aliases(workspace).range();
        let known = NeverSeen::over(Arc::clone(&store), aliases, FILTER_ITEMS, without_workspace);
        let vetoes = Key::vetoes(workspace);
        let mut apart = ApartPairs::default();
        each_row(store.as_ref(), &vetoes, |_, value| {
            apart.insert(row::decode::<MustNotLink>(value)?);
            Ok(())
        })?;
        let next_ordinal = next_ordinal(store.as_ref(), workspace)?;
        Ok(People {
            store,
            workspace,
            realm_key,
            aliases: cache(100_000, ALIASES_BYTES),
            heads: cache(100_000, HEADS_BYTES),
            facts: cache(50_000, FACTS_BYTES),
            edges: cache(100_000, EDGES_BYTES),
            too_connected: Cache::new(TOO_CONNECTED),
            put_off: PutOff::new(BTreeSet::new()),
            workspaces: 1,
            known,
            apart,
            next_ordinal,
            layers: Layers::default(),
            is_scratch: false,
            is_unsettled: false,
            work: Work::default(),
        })
    }

    /// Share what the caches of all workspaces may take with so many others. The least is room for the people of some batches.
    pub(crate) fn share_with(&mut self, workspaces: usize) {
        let workspaces = workspaces.max(1) as u64;
        if workspaces != self.workspaces {
            self.workspaces = workspaces;
            let share = |bytes: u64| (bytes / workspaces).max(LEAST_CACHE_BYTES);
            self.aliases.set_capacity(share(ALIASES_BYTES));
            self.heads.set_capacity(share(HEADS_BYTES));
            self.facts.set_capacity(share(FACTS_BYTES));
            self.edges.set_capacity(share(EDGES_BYTES));
        }
    }

    /// What identity work has read so far.
    #[cfg(test)]
    pub(crate) fn work(&self) -> Work {
        self.work
    }

    /// The source identity that `identifier` names; a new one, and a new profile, where it is unknown.
    pub(crate) fn identify(
        &mut self,
        identifier: &Identifier,
        received_at: Timestamp,
    ) -> Result<SourceIdentityId, ReadError> {
        if let Some(identity) = self.find(identifier)? {
            return Ok(identity);
        }
        // With the workspace, so that ids of one say nothing about who is in another.
        let name = format!("{}\u{0}{}\u{0}{}", self.workspace.0, identifier.kind, identifier.value);
        let identity = SourceIdentityId::new(received_at.0, xxh3_128(name.as_bytes()));
        let root = ProfileRoot {
            members: vec![identity],
            contested: false,
            latest: None,
            kinds: BTreeMap::from([(identifier.kind.clone(), 1)]),
        };
        let head = IdentityHead {
            identifier: identifier.clone(),
            created_at: received_at,
            ordinal: self.next_ordinal + self.layers.ordinals(),
            profile: ProfileId(identity),
            root: Some(root),
            evidence: Vec::new(),
        };
        self.layers.event.ordinals += 1;
        self.layers.event.aliases.insert(identifier.clone(), identity);
        self.layers.event.before.insert(identity, PriorStanding { profile: None, members: vec![identity] });
        self.layers.event.heads.insert(identity, Arc::new(head));
        Ok(identity)
    }

    /// The source identity that `identifier` names, if there is one.
    pub(crate) fn find(&mut self, identifier: &Identifier) -> Result<Option<SourceIdentityId>, ReadError> {
        if let Some(identity) = self.layers.alias(identifier).or_else(|| self.aliases.get(identifier).copied()) {
            return Ok(Some(identity));
        }
        let key = self.alias_key(identifier);
        if !self.known.may_be_stored(&key) {
            return Ok(None);
        }
        self.work.rows_read += 1;
        let Some(value) = self.store.get(std::slice::from_ref(&key))?.pop().flatten() else { return Ok(None) };
        let identity: SourceIdentityId = row::decode(&value)?;
        self.aliases.insert(identifier.clone(), identity);
        Ok(Some(identity))
    }

    /// Whether the event at hand made the identity.
    pub(crate) fn is_of_event(&self, identity: SourceIdentityId) -> bool {
        self.layers.event.before.get(&identity).is_some_and(|before| before.profile.is_none())
    }

    /// Note that an event is this identity's own.
    pub(crate) fn give_event(&mut self, identity: SourceIdentityId) {
        self.layers.event.owners.insert(identity);
    }

    fn alias_key(&self, identifier: &Identifier) -> Key {
        Key::alias(self.workspace, &alias_digest(&self.realm_key, identifier))
    }

    fn head(&mut self, identity: SourceIdentityId) -> Result<Arc<IdentityHead>, ReadError> {
        if let Some(head) = self.layers.head(identity).or_else(|| self.heads.get(&identity)) {
            return Ok(Arc::clone(head));
        }
        self.work.rows_read += 1;
        let head = read_head(self.store.as_ref(), self.workspace, identity)?.ok_or_else(|| ReadError::Corrupt {
            what: format!("source identity {identity}"),
            problem: "other rows name it, but it has no head".into(),
            row: None,
        })?;
        let head = Arc::new(head);
        self.heads.insert(identity, Arc::clone(&head));
        Ok(head)
    }

    /// Change a head in the event's layer, and note once for each unit where the identity stood before.
    fn set_head(&mut self, identity: SourceIdentityId, head: IdentityHead) -> Result<(), ReadError> {
        if !self.layers.has_before(identity) {
            let held = self.head(identity)?;
            let members = held.root.as_ref().map_or(Vec::new(), |root| root.members.clone());
            self.layers.event.before.insert(identity, PriorStanding { profile: Some(held.profile), members });
        }
        self.layers.event.heads.insert(identity, Arc::new(head));
        Ok(())
    }

    /// The head of the identity that names the profile of `identity`.
    fn root(&mut self, identity: SourceIdentityId) -> Result<(ProfileId, ProfileRoot), ReadError> {
        let profile = self.head(identity)?.profile;
        let root = self.head(profile.0)?.root.clone().ok_or_else(|| ReadError::Corrupt {
            what: format!("profile {profile}"),
            problem: format!("identity {identity} belongs to it, but it has no list of members"),
            row: None,
        })?;
        Ok((profile, root))
    }

    /// Whether the identity is of this very group, so that the store has no rows of it.
    fn is_new(&self, identity: SourceIdentityId) -> bool {
        self.layers.head(identity).is_some_and(|head| self.layers.alias(&head.identifier) == Some(identity))
    }

    /// A row of facts, for changing.
    fn facts_row(&mut self, identity: SourceIdentityId, bucket: u8) -> Result<FactsRow, ReadError> {
        if let Some(row) = self.layers.event.facts.remove(&(identity, bucket)) {
            return Ok(row);
        }
        if let Some(row) = self.layers.facts(identity, bucket).or_else(|| self.facts.get(&(identity, bucket))) {
            return Ok(row.clone());
        }
        if self.is_new(identity) {
            return Ok(FactsRow::default());
        }
        self.work.rows_read += 1;
        Ok(read_facts_row(self.store.as_ref(), self.workspace, identity, bucket)?.unwrap_or_default())
    }

    /// The event is part of its unit.
    pub(crate) fn keep_event(&mut self) {
        self.layers.keep_event();
    }

    /// The event was refused: nothing of it stays.
    pub(crate) fn forget_event(&mut self) {
        self.layers.event = Default::default();
    }

    /// How many identities the unit made, and by how many its profiles grew in number.
    pub(crate) fn growth(&self) -> (u64, i64) {
        let unit = &self.layers.unit;
        let names = |identity: &SourceIdentityId| self.layers.head(*identity).is_some_and(|head| head.root.is_some());
        let profiles = unit.before.iter().map(|(identity, before)| {
            let before = before.profile.is_some() && !before.members.is_empty();
            i64::from(names(identity)) - i64::from(before)
        });
        (u64::from(unit.ordinals), profiles.sum())
    }

    /// How the unit changed who belongs to which profile: derived from before and after, so that a merge and a split within
    /// one unit leave no trace. Somebody new without an event is told too: the feed would not name them otherwise, and they
    /// would be in no index.
    pub(crate) fn identified(&self) -> IdentityChange {
        let mut identified = IdentityChange::default();
        let unit = &self.layers.unit;
        for (identity, before) in &unit.before {
            let Some(head) = unit.heads.get(identity) else { continue };
            let is_untold = before.profile.is_none() && !unit.owners.contains(identity);
            match &head.root {
                Some(root) if root.members != before.members || is_untold => {
                    identified.profiles.push((ProfileId(*identity), root.members.clone()));
                }
                None if before.profile.is_some() && !before.members.is_empty() => {
                    identified.gone.push((ProfileId(*identity), head.profile));
                }
                _ => {}
            }
        }
        identified.profiles.sort_unstable();
        identified.gone.sort_unstable();
        identified
    }

    /// The rows of the unit.
    pub(crate) fn write(&self, operations: &mut Vec<Operation>) {
        let (workspace, unit) = (self.workspace, &self.layers.unit);
        for (identifier, identity) in &unit.aliases {
            operations.push(Operation::Put(self.alias_key(identifier), row::encode(identity)));
        }
        for (identity, head) in &unit.heads {
            let key = Key::person(workspace, *identity, PersonRow::Head);
            operations.push(Operation::Put(key, row::encode(head.as_ref())));
        }
        if unit.ordinals > 0 {
            let given = self.next_ordinal + self.layers.ordinals();
            operations.push(Operation::Put(Key::ordinals(workspace), row::encode(&given)));
        }
        for ((identity, bucket), row) in &unit.facts {
            operations.push(Operation::Put(facts_key(workspace, *identity, *bucket), row::encode(row)));
        }
        for (pair, stands) in &unit.vetoes {
            let key = Key::veto(workspace, *pair);
            operations.push(match stands {
                true => Operation::Put(key, row::encode(pair)),
                false => Operation::Delete(key),
            });
        }
        operations.extend(unit.statements.iter().cloned());
        for (end, edges) in &unit.edges {
            for (id, edge) in edges {
                let key = Key::edge(workspace, *end, *id);
                operations.push(match edge {
                    Some(edge) => Operation::Put(key, row::encode(edge)),
                    None => Operation::Delete(key),
                });
            }
        }
    }

    /// The unit is part of the group.
    pub(crate) fn keep_unit(&mut self) {
        self.layers.keep_unit();
    }

    /// The unit was too large or could not be built: nothing of it stays.
    pub(crate) fn forget_unit(&mut self) {
        self.forget_event();
        self.layers.unit = Default::default();
    }

    /// The group is durable: what was pending is what is.
    pub(crate) fn committed(&mut self) {
        let group = std::mem::take(&mut self.layers.group);
        self.next_ordinal += group.ordinals;
        for (pair, stands) in group.vetoes {
            match stands {
                true => self.apart.insert(pair),
                false => self.apart.remove(pair),
            }
        }
        for (identifier, identity) in group.aliases {
            let key = self.alias_key(&identifier);
            self.known.insert(&key);
            self.aliases.insert(identifier, identity);
        }
        group.heads.into_iter().for_each(|(identity, head)| self.heads.insert(identity, head));
        group.facts.into_iter().for_each(|(place, row)| self.facts.insert(place, row));
        for edge in group.edges.into_values().flat_map(BTreeMap::into_keys) {
            self.edges.remove(&edge);
        }
    }

    /// Not all of the group is durable: nobody knows here which rows changed, so what it touched is read from the store again.
    pub(crate) fn committed_in_part(&mut self) -> Result<(), ReadError> {
        self.forget_unit();
        let group = std::mem::take(&mut self.layers.group);
        for identifier in group.aliases.into_keys() {
            // A filter may say "perhaps" of what is not there.
            let key = self.alias_key(&identifier);
            self.known.insert(&key);
        }
        for identity in group.heads.into_keys() {
            self.heads.remove(&identity);
        }
        for place in group.facts.into_keys() {
            self.facts.remove(&place);
        }
        for edge in group.edges.into_values().flat_map(BTreeMap::into_keys) {
            self.edges.remove(&edge);
        }
        for pair in group.vetoes.into_keys() {
            match self.store.get(&[Key::veto(self.workspace, pair)])?.pop().flatten() {
                Some(_) => self.apart.insert(pair),
                None => self.apart.remove(pair),
            }
        }
        self.next_ordinal = next_ordinal(self.store.as_ref(), self.workspace)?;
        Ok(())
    }
}

fn without_workspace(key: &Key) -> FilterPart<'_> {
    FilterPart { group: 0, bytes: &key.as_bytes()[7..] }
}
