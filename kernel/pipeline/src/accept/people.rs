//! One-ID over the store: which source identity an identifier names, and which profile that belongs to.
//!
//! The rules are `kith_model::identity`'s; here are the rows, the caches, and the shortcut for the everyday case. Each
//! identifier is a source identity of its own, so that a merge rewrites no event and no fact, and can be undone.

use std::borrow::Cow;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kith_model::change::{Change, Identified};
use kith_model::id::{InstallationId, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Edge, EdgeId, Evidence, Identifier, IdentityRules, MustNotLink, cluster, ordered};
use kith_model::profile::{Contribution, IdentityHead, ProfileRoot, TraitValue};
use kith_model::time::Timestamp;
use kith_store::keys::{PersonRow, UNKEYED_REALM, alias_digest};
use kith_store::{Key, Operation, ReadError, Store};
use quick_cache::unsync::Cache;
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_128;

use super::never_seen::NeverSeen;
use crate::rows;

/// Decoded rows of each kind that are kept at hand. A head has about 150 bytes, so all caches together stay near 100 MB.
const CACHED: usize = 200_000;

/// Identifiers that one "never seen" filter holds before the next is begun: 6 MB at one false alarm in a hundred.
const FILTER_ITEMS: usize = 5 << 20;

/// Evidence that two identifiers are one person.
pub(crate) struct Link<'a> {
    pub one: SourceIdentityId,
    pub other: SourceIdentityId,
    pub evidence: Evidence,
    pub time: Timestamp,
    pub source: InstallationId,
    pub message_id: &'a str,
}

/// Rows as the group under construction would leave them.
#[derive(Default)]
struct Pending {
    aliases: HashMap<Identifier, SourceIdentityId>,
    heads: HashMap<SourceIdentityId, IdentityHead>,
    contributions: HashMap<SourceIdentityId, Contribution>,
    edges: BTreeMap<EdgeId, Edge>,
    identified: Identified,
    ordinals: u32,
}

/// One workspace's identities. Only the accept thread holds it.
pub(crate) struct People {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    aliases: Cache<Identifier, SourceIdentityId>,
    heads: Cache<SourceIdentityId, IdentityHead>,
    contributions: Cache<SourceIdentityId, Contribution>,
    /// Known evidence and the rank of the event that gave it.
    edges: Cache<EdgeId, (Timestamp, String)>,
    known: NeverSeen,
    must_not_link: BTreeSet<MustNotLink>,
    next_ordinal: u32,
    pending: Pending,
}

impl People {
    /// Read what must be at hand: the vetoes and the next ordinal. Which identifiers exist is read beside the work.
    pub(crate) fn open(store: Arc<dyn Store>, workspace: WorkspaceId) -> Result<People, ReadError> {
        let aliases = Key::aliases(workspace).range();
        let known = NeverSeen::over(Arc::clone(&store), aliases, FILTER_ITEMS, without_workspace);
        let given = store.get(&[Key::ordinals(workspace)])?.pop().flatten();
        let next_ordinal = given.map_or(Ok(0), |row| rows::decode("the number of ordinals", &row))?;
        let vetoes = Key::vetoes(workspace);
        let mut must_not_link = BTreeSet::new();
        each_row(store.as_ref(), &vetoes, |_, value| {
            must_not_link.insert(rows::decode::<MustNotLink>("a must-not-link pair", value)?);
            Ok(())
        })?;
        Ok(People {
            store,
            workspace,
            aliases: Cache::new(CACHED),
            heads: Cache::new(CACHED),
            contributions: Cache::new(CACHED),
            edges: Cache::new(CACHED),
            known,
            must_not_link,
            next_ordinal,
            pending: Pending::default(),
        })
    }

    /// The source identity that `identifier` names; a new one, and a new profile, where it is unknown.
    pub(crate) fn identify(
        &mut self,
        identifier: &Identifier,
        received_at: Timestamp,
    ) -> Result<SourceIdentityId, ReadError> {
        if let Some(identity) = self.pending.aliases.get(identifier).or_else(|| self.aliases.get(identifier)) {
            return Ok(*identity);
        }
        let key = Key::alias(self.workspace, &alias_digest(&UNKEYED_REALM, identifier));
        if self.known.may_be_stored(&key)
            && let Some(value) = self.store.get(std::slice::from_ref(&key))?.pop().flatten()
        {
            let identity: SourceIdentityId = rows::decode("an alias", &value)?;
            self.aliases.insert(identifier.clone(), identity);
            return Ok(identity);
        }
        // With the workspace, so that ids of one say nothing about who is in another.
        let name = format!("{}\u{0}{}\u{0}{}", self.workspace.0, identifier.kind, identifier.value);
        let identity = SourceIdentityId::new(received_at.0, xxh3_128(name.as_bytes()));
        let root = ProfileRoot { members: vec![identity], contested: false };
        let head = IdentityHead {
            identifier: identifier.clone(),
            created_at: received_at,
            ordinal: self.take_ordinal(),
            profile: ProfileId(identity),
            root: Some(root),
        };
        self.pending.aliases.insert(identifier.clone(), identity);
        self.pending.heads.insert(identity, head);
        Ok(identity)
    }

    fn take_ordinal(&mut self) -> u32 {
        let ordinal = self.next_ordinal + self.pending.ordinals;
        self.pending.ordinals += 1;
        ordinal
    }

    fn head(&mut self, identity: SourceIdentityId) -> Result<IdentityHead, ReadError> {
        if let Some(head) = self.pending.heads.get(&identity).or_else(|| self.heads.get(&identity)) {
            return Ok(head.clone());
        }
        let head: IdentityHead = read_person(self.store.as_ref(), self.workspace, identity, PersonRow::Head)?
            .ok_or_else(|| ReadError::Corrupt {
                what: format!("source identity {identity}"),
                problem: "other rows name it, but it has no head".into(),
            })?;
        self.heads.insert(identity, head.clone());
        Ok(head)
    }

    fn root(&mut self, identity: SourceIdentityId) -> Result<(ProfileId, ProfileRoot), ReadError> {
        let profile = self.head(identity)?.profile;
        let root = self.head(profile.0)?.root.ok_or_else(|| ReadError::Corrupt {
            what: format!("profile {profile}"),
            problem: format!("identity {identity} belongs to it, but it has no list of members"),
        })?;
        Ok((profile, root))
    }

    /// Take in evidence, and recompute the profiles that it touches.
    pub(crate) fn link(&mut self, link: &Link<'_>, rules: &IdentityRules) -> Result<(), ReadError> {
        let (low, high) = ordered(link.one, link.other);
        if low == high {
            return Ok(());
        }
        let id = EdgeId { low, high, evidence: link.evidence };
        let held = self.edge_rank(id)?;
        if held.as_ref().is_some_and(|(time, message)| (*time, message.as_str()) <= (link.time, link.message_id)) {
            return Ok(());
        }
        let edge = Edge { id, time: link.time, source: link.source, message_id: link.message_id.to_owned() };
        self.pending.edges.insert(id, edge);
        let (low_profile, low_root) = self.root(low)?;
        let (high_profile, high_root) = self.root(high)?;
        if low_root.contested || high_root.contested {
            return self.recompute(low, high, rules);
        }
        // Where nothing was vetoed, the profiles are the plain components of the evidence and its order does not matter.
        if low_profile == high_profile {
            return Ok(());
        }
        if self.may_join(&low_root, &high_root, rules)? {
            self.join((low_profile, low_root), (high_profile, high_root))
        } else {
            self.recompute(low, high, rules)
        }
    }

    fn edge_rank(&mut self, id: EdgeId) -> Result<Option<(Timestamp, String)>, ReadError> {
        if let Some(edge) = self.pending.edges.get(&id) {
            return Ok(Some((edge.time, edge.message_id.clone())));
        }
        if let Some(rank) = self.edges.get(&id) {
            return Ok(Some(rank.clone()));
        }
        // An identity of this very group has no evidence in the store yet.
        if self.is_new(id.low) || self.is_new(id.high) {
            return Ok(None);
        }
        let key = Key::edge(self.workspace, id.low, id);
        match self.store.get(&[key])?.pop().flatten() {
            None => Ok(None),
            Some(value) => {
                let edge: Edge = rows::decode("evidence", &value)?;
                self.edges.insert(id, (edge.time, edge.message_id.clone()));
                Ok(Some((edge.time, edge.message_id)))
            }
        }
    }

    fn is_new(&self, identity: SourceIdentityId) -> bool {
        let head = self.pending.heads.get(&identity);
        head.is_some_and(|head| self.pending.aliases.contains_key(&head.identifier))
    }

    /// Whether the two profiles together break no rule.
    fn may_join(&mut self, one: &ProfileRoot, other: &ProfileRoot, rules: &IdentityRules) -> Result<bool, ReadError> {
        if one.members.len() + other.members.len() > rules.max_members {
            return Ok(false);
        }
        let mut counts: BTreeMap<String, usize> = BTreeMap::new();
        for member in one.members.iter().chain(&other.members) {
            *counts.entry(self.head(*member)?.identifier.kind).or_default() += 1;
        }
        let within = rules.limits.iter().all(|(kind, limit)| counts.get(kind).is_none_or(|count| count <= limit));
        let parted = self.must_not_link.iter().any(|pair| {
            let holds = |root: &ProfileRoot, id| root.members.binary_search(&id).is_ok();
            (holds(one, pair.low) && holds(other, pair.high)) || (holds(one, pair.high) && holds(other, pair.low))
        });
        Ok(within && !parted)
    }

    /// Make one profile of two; the older keeps its name and ordinal.
    fn join(&mut self, one: (ProfileId, ProfileRoot), other: (ProfileId, ProfileRoot)) -> Result<(), ReadError> {
        let (kept, gone) = if one.0 <= other.0 { (one, other) } else { (other, one) };
        for member in &gone.1.members {
            let mut head = self.head(*member)?;
            head.profile = kept.0;
            head.root = None;
            self.pending.heads.insert(*member, head);
        }
        let mut members = [kept.1.members, gone.1.members].concat();
        members.sort_unstable();
        let mut head = self.head(kept.0.0)?;
        head.root = Some(ProfileRoot { members: members.clone(), ..kept.1 });
        self.pending.heads.insert(kept.0.0, head);
        self.pending.identified.gone.push((gone.0, kept.0));
        self.changed(kept.0, members);
        Ok(())
    }

    /// Note a profile's members as they are now; the last note of a group holds.
    fn changed(&mut self, profile: ProfileId, members: Vec<SourceIdentityId>) {
        let profiles = &mut self.pending.identified.profiles;
        match profiles.iter_mut().find(|(known, _)| *known == profile) {
            Some((_, known)) => *known = members,
            None => profiles.push((profile, members)),
        }
    }

    /// Partition anew all identities that evidence connects to these two, vetoed evidence included: the exact rule.
    fn recompute(
        &mut self,
        low: SourceIdentityId,
        high: SourceIdentityId,
        rules: &IdentityRules,
    ) -> Result<(), ReadError> {
        let (identities, edges) = self.connected(&[low, high])?;
        let clustering = cluster(&identities, &edges, &self.must_not_link, rules);
        let contested: BTreeSet<SourceIdentityId> =
            clustering.vetoed.iter().flat_map(|(edge, _)| [edge.low, edge.high]).collect();
        let mut before: BTreeMap<SourceIdentityId, IdentityHead> = BTreeMap::new();
        for identity in identities.keys() {
            before.insert(*identity, self.head(*identity)?);
        }
        for members in clustering.components {
            let name = ProfileId(members[0]);
            let root = before.get(&members[0]).and_then(|head| head.root.clone());
            let is_contested = members.iter().any(|member| contested.contains(member));
            let is_same = root.as_ref().is_some_and(|root| root.members == members && root.contested == is_contested);
            if is_same {
                continue;
            }
            for member in &members {
                let mut head = self.head(*member)?;
                if head.root.is_some() && *member != members[0] {
                    self.pending.identified.gone.push((ProfileId(*member), name));
                }
                head.profile = name;
                head.root =
                    (*member == members[0]).then(|| ProfileRoot { members: members.clone(), contested: is_contested });
                self.pending.heads.insert(*member, head);
            }
            if root.is_none_or(|root| root.members != members) {
                self.changed(name, members);
            }
        }
        Ok(())
    }

    /// All identities that evidence connects to `starts`, with the identifiers they stand for, and that evidence.
    fn connected(
        &mut self,
        starts: &[SourceIdentityId],
    ) -> Result<(BTreeMap<SourceIdentityId, Identifier>, Vec<Edge>), ReadError> {
        let mut identities = BTreeMap::new();
        let mut edges: BTreeMap<EdgeId, Edge> = BTreeMap::new();
        let mut open = starts.to_vec();
        while let Some(identity) = open.pop() {
            if identities.contains_key(&identity) {
                continue;
            }
            identities.insert(identity, self.head(identity)?.identifier);
            if !self.is_new(identity) {
                each_row(self.store.as_ref(), &Key::edges(self.workspace, identity), |_, value| {
                    let edge: Edge = rows::decode("evidence", value)?;
                    edges.entry(edge.id).or_insert(edge);
                    Ok(())
                })?;
            }
            let pending =
                self.pending.edges.values().filter(|edge| edge.id.low == identity || edge.id.high == identity);
            pending.for_each(|edge| {
                edges.insert(edge.id, edge.clone());
            });
            let ends = edges.values().filter(|edge| edge.id.low == identity || edge.id.high == identity);
            open.extend(ends.map(|edge| if edge.id.low == identity { edge.id.high } else { edge.id.low }));
        }
        Ok((identities, edges.into_values().collect()))
    }

    /// Facts that an event gave about its identity.
    pub(crate) fn record_traits(
        &mut self,
        identity: SourceIdentityId,
        traits: BTreeMap<Cow<'_, str>, &RawValue>,
        time: Timestamp,
        source: InstallationId,
        message_id: &str,
    ) -> Result<(), ReadError> {
        let mut contribution = match self.pending.contributions.remove(&identity) {
            Some(contribution) => contribution,
            None => match self.contributions.get(&identity) {
                Some(contribution) => contribution.clone(),
                None if self.is_new(identity) => Contribution::default(),
                None => read_person(self.store.as_ref(), self.workspace, identity, PersonRow::Contribution)?
                    .unwrap_or_default(),
            },
        };
        for (name, value) in traits {
            let value = TraitValue { json: value.get().to_owned(), time, source, message_id: message_id.to_owned() };
            contribution.record(&name, value);
        }
        self.pending.contributions.insert(identity, contribution);
        Ok(())
    }

    /// The rows of the group, and one log record that tells how profiles changed.
    pub(crate) fn write(&mut self, workspace: WorkspaceId, operations: &mut Vec<Operation>) {
        let pending = &mut self.pending;
        for (identifier, identity) in &pending.aliases {
            operations.push(Operation::Put(
                Key::alias(workspace, &alias_digest(&UNKEYED_REALM, identifier)),
                rows::encode(identity),
            ));
        }
        for (identity, head) in &pending.heads {
            operations.push(Operation::Put(Key::person(workspace, *identity, PersonRow::Head), rows::encode(head)));
        }
        if pending.ordinals > 0 {
            let given = self.next_ordinal + pending.ordinals;
            operations.push(Operation::Put(Key::ordinals(workspace), rows::encode(&given)));
        }
        for (identity, contribution) in &pending.contributions {
            let key = Key::person(workspace, *identity, PersonRow::Contribution);
            operations.push(Operation::Put(key, rows::encode(contribution)));
        }
        for edge in pending.edges.values() {
            let row = rows::encode(edge);
            operations.push(Operation::Put(Key::edge(workspace, edge.id.low, edge.id), row.clone()));
            operations.push(Operation::Put(Key::edge(workspace, edge.id.high, edge.id), row));
        }
        let identified = std::mem::take(&mut pending.identified);
        if !identified.profiles.is_empty() || !identified.gone.is_empty() {
            let record = rows::encode(&Change::Identified(identified));
            operations.push(Operation::Append { workspace, record, row: None });
        }
    }

    /// The group is durable: what was pending is what is.
    pub(crate) fn committed(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        self.next_ordinal += pending.ordinals;
        for (identifier, identity) in pending.aliases {
            self.known.insert(&Key::alias(self.workspace, &alias_digest(&UNKEYED_REALM, &identifier)));
            self.aliases.insert(identifier, identity);
        }
        pending.heads.into_iter().for_each(|(identity, head)| self.heads.insert(identity, head));
        pending.contributions.into_iter().for_each(|(identity, row)| self.contributions.insert(identity, row));
        pending.edges.into_values().for_each(|edge| self.edges.insert(edge.id, (edge.time, edge.message_id)));
    }

    /// The group was not committed: the caches, which hold only what is durable, stand.
    pub(crate) fn forget_pending(&mut self) {
        self.pending = Pending::default();
    }
}

fn without_workspace(key: &Key) -> &[u8] {
    &key.as_bytes()[7..]
}

/// One row of a source identity.
pub(crate) fn read_person<T: kith_store::row::Row>(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
    row: PersonRow,
) -> Result<Option<T>, ReadError> {
    let value = store.get(&[Key::person(workspace, identity, row)])?.pop().flatten();
    value.map(|value| rows::decode("a person's row", &value)).transpose()
}

/// Look at every row below `prefix`, a page at a time.
pub(crate) fn each_row(
    store: &dyn Store,
    prefix: &Key,
    mut look: impl FnMut(&Key, &[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut range = prefix.range();
    loop {
        let page = store.scan(&range, 4096)?;
        for (key, value) in &page.rows {
            look(key, value)?;
        }
        match page.next {
            Some(next) => range.from = next,
            None => return Ok(()),
        }
    }
}
