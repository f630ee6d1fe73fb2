//! Who is one person and why: what was followed, what was not, and the way of evidence between two identifiers.
//!
//! All of it is read from the rows that accept keeps, so that it is never another answer than the partition itself. An edge
//! counts while it is stored under both of its ends and neither is shared; one that counts and whose ends are of two profiles
//! was vetoed, and the profiles as they stand say by what: they only grew since.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::sync::Arc;

use kith_model::change::Change;
use kith_model::event::RecordedEvent;
use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{Edge, EdgeId, EdgeRank, Identifier, IdentityRules, MustNotLink, Veto};
use kith_model::profile::IdentityHead;
use kith_store::keys::PersonRow;
use kith_store::{Key, ReadError, Store, row};

use super::page::{self, PageRoom, Portions};
use super::{QueryError, events, workspace};
use crate::profiles::facts::each_row;
use crate::shared::KernelState;
use crate::turns::Patience;
use crate::views::{EvidenceView, ListPage, MergeView, NotFollowed, PageRequest, Split, Step, Way};

/// Rows of evidence after which a page ends, full or not: most evidence joins somebody and tells nothing else, and of most people
/// nothing was merged.
pub(crate) const MAX_LOOKED_AT: usize = 2_000;

/// Pieces of evidence that a profile shows.
const MAX_SHOWN: usize = 100;

/// Events of one moment that are looked through for the one that gave evidence.
const MAX_EVENTS: usize = 256;

/// A reader of evidence, which keeps the heads that it has read.
struct Reader<'s> {
    store: &'s dyn Store,
    workspace: WorkspaceId,
    rules: IdentityRules,
    heads: BTreeMap<SourceIdentityId, Option<IdentityHead>>,
}

impl<'s> Reader<'s> {
    fn new(shared: &'s KernelState, id: WorkspaceId) -> Result<Reader<'s>, QueryError> {
        let known = workspace(shared, id)?;
        let rules = known.compiled.load().setup.identity_rules.clone();
        Ok(Reader { store: shared.store.as_ref(), workspace: id, rules, heads: BTreeMap::new() })
    }

    fn read_heads(&mut self, ids: impl IntoIterator<Item = SourceIdentityId>) -> Result<(), ReadError> {
        let wanted: BTreeSet<_> = ids.into_iter().filter(|id| !self.heads.contains_key(id)).collect();
        let keys: Vec<Key> = wanted.iter().map(|id| Key::person(self.workspace, *id, PersonRow::Head)).collect();
        for (id, value) in wanted.into_iter().zip(self.store.get(&keys)?) {
            let head = value.map(|value| row::decode(&value)).transpose()?;
            self.heads.insert(id, head);
        }
        Ok(())
    }

    fn head(&mut self, id: SourceIdentityId) -> Result<Option<&IdentityHead>, ReadError> {
        self.read_heads([id])?;
        Ok(self.heads.get(&id).and_then(Option::as_ref))
    }

    /// The members of the profile that an identity belongs to, the one that names it first.
    fn members(&mut self, id: SourceIdentityId) -> Result<Vec<SourceIdentityId>, ReadError> {
        let Some(profile) = self.head(id)?.map(|head| head.profile) else { return Ok(Vec::new()) };
        let root = self.head(profile.0)?.and_then(|head| head.root.as_ref());
        Ok(root.map(|root| root.members.clone()).unwrap_or_default())
    }

    fn edges_of(&self, id: SourceIdentityId) -> Result<Vec<Edge>, ReadError> {
        let mut edges = Vec::new();
        each_row(self.store, &Key::edges(self.workspace, id), |_, value| {
            edges.push(row::decode::<Edge>(value)?);
            Ok(())
        })?;
        Ok(edges)
    }

    fn first_edge(&self, id: SourceIdentityId) -> Result<Option<EdgeId>, ReadError> {
        let first = self.store.scan(&Key::edges(self.workspace, id).range(), 1)?.rows.pop();
        first.map(|(_, value)| row::decode::<Edge>(&value).map(|edge| edge.id)).transpose()
    }

    fn is_stored(&self, end: SourceIdentityId, id: EdgeId) -> Result<bool, ReadError> {
        Ok(self.store.get(&[Key::edge(self.workspace, end, id)])?.pop().flatten().is_some())
    }

    fn is_shared(&mut self, id: SourceIdentityId) -> Result<bool, ReadError> {
        let rules = self.rules.clone();
        Ok(self.head(id)?.is_some_and(|head| head.is_shared(&rules)))
    }

    /// Why an edge joins nobody, if it does not: `at` is the end under which it was found.
    fn veto(&mut self, edge: &Edge, at: SourceIdentityId) -> Result<Option<Veto>, ReadError> {
        let other = other_end(edge.id, at);
        self.read_heads([at, other])?;
        let (one, two) = (self.head(at)?.map(|head| head.profile), self.head(other)?.map(|head| head.profile));
        let (Some(one), Some(two)) = (one, two) else { return Ok(None) };
        if one == two {
            return Ok(None);
        }
        if self.is_shared(at)? || self.is_shared(other)? {
            return Ok(Some(Veto::Shared));
        }
        if !self.is_stored(other, edge.id)? {
            return Ok(Some(Veto::Surplus));
        }
        self.read_heads([one.0, two.0])?;
        let root = |id: ProfileId| self.heads.get(&id.0)?.as_ref()?.root.as_ref();
        let (Some(first), Some(second)) = (root(one), root(two)) else { return Ok(None) };
        if first.members.len() + second.members.len() > self.rules.max_members {
            return Ok(Some(Veto::TooManyMembers));
        }
        let count = |kind: &str| {
            [first, second].into_iter().map(|root| root.kinds.get(kind).copied().unwrap_or(0) as usize).sum::<usize>()
        };
        let passed = self.rules.limits.iter().find(|(kind, limit)| count(kind) > **limit);
        Ok(Some(passed.map_or(Veto::MustNotLink, |(kind, _)| Veto::Limit { kind: kind.clone() })))
    }

    fn view(&mut self, edge: &Edge) -> Result<Option<EvidenceView>, ReadError> {
        self.read_heads([edge.id.low, edge.id.high])?;
        let end = |id: SourceIdentityId| -> Option<(Identifier, ProfileId)> {
            let head = self.heads.get(&id)?.as_ref()?;
            Some((head.identifier.clone(), head.profile))
        };
        let (Some(low), Some(high)) = (end(edge.id.low), end(edge.id.high)) else { return Ok(None) };
        Ok(Some(EvidenceView { edge: edge.clone(), identifiers: [low.0, high.0], profiles: [low.1, high.1] }))
    }

    /// The edges that count between members of one profile, by rank.
    fn counting(&mut self, members: &[SourceIdentityId], patience: &Patience) -> Result<Vec<Edge>, QueryError> {
        self.read_heads(members.iter().copied())?;
        let mut ends: BTreeMap<EdgeId, (Edge, usize)> = BTreeMap::new();
        for member in members {
            patience.go_on()?;
            if self.is_shared(*member)? {
                continue;
            }
            for edge in self.edges_of(*member)? {
                ends.entry(edge.id).or_insert((edge, 0)).1 += 1;
            }
        }
        let both = ends.into_values().filter(|(_, ends)| *ends == 2).map(|(edge, _)| edge);
        let identifier = |id: SourceIdentityId| self.heads.get(&id)?.as_ref().map(|head| &head.identifier);
        let ranked = both.filter_map(|edge| {
            let (low, high) = (identifier(edge.id.low)?, identifier(edge.id.high)?);
            Some((EdgeRank::new(edge.id.evidence, edge.time, low, high), edge))
        });
        let mut ranked: Vec<(EdgeRank, Edge)> = ranked.collect();
        ranked.sort_by(|(one, _), (other, _)| one.cmp(other));
        Ok(ranked.into_iter().map(|(_, edge)| edge).collect())
    }
}

fn other_end(id: EdgeId, end: SourceIdentityId) -> SourceIdentityId {
    if id.low == end { id.high } else { id.low }
}

/// Evidence about a profile's members that joins nobody to it; at most [`MAX_SHOWN`] pieces, and whether there are more.
pub(crate) fn not_followed_of(
    shared: &KernelState,
    id: WorkspaceId,
    members: &[SourceIdentityId],
) -> Result<(Vec<NotFollowed>, bool), QueryError> {
    let mut reader = Reader::new(shared, id)?;
    let mut found = Vec::new();
    for member in members {
        for edge in reader.edges_of(*member)? {
            if let Some(veto) = reader.veto(&edge, *member)?
                && let Some(evidence) = reader.view(&edge)?
            {
                if found.len() == MAX_SHOWN {
                    return Ok((found, true));
                }
                found.push(NotFollowed { evidence, veto });
            }
        }
    }
    Ok((found, false))
}

/// Whether somebody parted the two.
pub(crate) fn is_parted(
    shared: &KernelState,
    id: WorkspaceId,
    one: SourceIdentityId,
    other: SourceIdentityId,
) -> Result<bool, QueryError> {
    Ok(shared.store.get(&[Key::veto(id, MustNotLink::new(one, other))])?.pop().flatten().is_some())
}

/// A page of what somebody parted.
pub(crate) fn splits(
    shared: &KernelState,
    id: WorkspaceId,
    page: PageRequest<'_>,
) -> Result<ListPage<Split>, QueryError> {
    let mut reader = Reader::new(shared, id)?;
    let (rows, next) = page::rows(reader.store, &Key::vetoes(id), page)?;
    let mut items = Vec::with_capacity(rows.len());
    for (_, value) in rows {
        let MustNotLink { low, high } = row::decode(&value)?;
        reader.read_heads([low, high])?;
        let end = |id: SourceIdentityId| reader.heads.get(&id)?.as_ref();
        if let (Some(low), Some(high)) = (end(low), end(high)) {
            let identifiers = [low.identifier.clone(), high.identifier.clone()];
            items.push(Split { identifiers, profiles: [low.profile, high.profile] });
        }
    }
    Ok(ListPage { items, next })
}

/// Rows of evidence, each with its place and the end under which it lies, and the place of the next page.
type EvidencePage = (Vec<(String, SourceIdentityId, Edge)>, Option<String>);

fn evidence_page(reader: &Reader<'_>, rows: usize, cursor: Option<&str>) -> Result<EvidencePage, QueryError> {
    let prefix = Key::all_edges(reader.workspace);
    let (rows, next) = page::rows(reader.store, &prefix, PageRequest { limit: rows, cursor })?;
    let mut edges = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        if let (Some(end), Some(place)) = (key.as_edge_end(), key.strip(&prefix)) {
            edges.push((page::to_hex(place), end, row::decode::<Edge>(&value)?));
        }
    }
    Ok((edges, next))
}

/// A page of all evidence that joins nobody. A page may be short, even empty, and still have a next one.
pub(crate) fn not_followed(
    shared: &KernelState,
    id: WorkspaceId,
    PageRequest { limit, cursor }: PageRequest<'_>,
) -> Result<ListPage<NotFollowed>, QueryError> {
    let mut reader = Reader::new(shared, id)?;
    let (mut items, mut from) = (Vec::new(), cursor.map(str::to_owned));
    for rows in Portions::new(limit, MAX_LOOKED_AT) {
        let (edges, next) = evidence_page(&reader, rows, from.as_deref())?;
        reader.read_heads(edges.iter().flat_map(|(_, _, edge)| [edge.id.low, edge.id.high]))?;
        for (place, end, edge) in edges {
            if items.len() == limit {
                return Ok(ListPage { items, next: Some(place) });
            }
            // It lies under both of its ends and is told once.
            let is_first = end == edge.id.low || !reader.is_stored(edge.id.low, edge.id)?;
            if is_first
                && let Some(veto) = reader.veto(&edge, end)?
                && let Some(evidence) = reader.view(&edge)?
            {
                items.push(NotFollowed { evidence, veto });
            }
        }
        from = next;
        if from.is_none() || items.len() >= limit {
            break;
        }
    }
    Ok(ListPage { items, next: from })
}

/// The merges that made one profile, in the order in which the evidence was taken.
fn merges_among(
    reader: &mut Reader<'_>,
    members: &[SourceIdentityId],
    patience: &Patience,
) -> Result<Vec<MergeView>, QueryError> {
    let mut merges = Vec::new();
    // The oldest member of the part that each belongs to so far: it names the profile.
    let mut oldest: BTreeMap<SourceIdentityId, SourceIdentityId> = members.iter().map(|id| (*id, *id)).collect();
    for edge in reader.counting(members, patience)? {
        let (Some(&low), Some(&high)) = (oldest.get(&edge.id.low), oldest.get(&edge.id.high)) else { continue };
        if low == high {
            continue;
        }
        let (winner, loser) = (low.min(high), low.max(high));
        oldest.values_mut().filter(|part| **part == loser).for_each(|part| *part = winner);
        if let Some(evidence) = reader.view(&edge)? {
            merges.push(MergeView { winner: ProfileId(winner), loser: ProfileId(loser), evidence });
        }
    }
    Ok(merges)
}

/// What a piece of evidence takes in an answer, about.
fn evidence_bytes(view: &EvidenceView) -> usize {
    const OTHER_BYTES: usize = 512;
    view.identifiers.iter().map(|end| end.value.len()).sum::<usize>() + view.edge.message_id.len() + OTHER_BYTES
}

/// Looks at so many rows each that a page of merges takes while it is empty, which is 200,000 rows.
const MAX_EMPTY_LOOKS: usize = 100;

/// A page of all merges that hold, of `limit` profiles at most. Where a look at `most` rows finds only evidence that merged nobody
/// the next one follows, so that hardly a page but the last one is empty.
pub(crate) fn merges(
    shared: &KernelState,
    id: WorkspaceId,
    PageRequest { limit, cursor }: PageRequest<'_>,
    most: usize,
    patience: &Patience,
) -> Result<ListPage<MergeView>, QueryError> {
    let mut page = ListPage { items: Vec::new(), next: cursor.map(str::to_owned) };
    for look in 0..MAX_EMPTY_LOOKS {
        if !page.items.is_empty() || (look > 0 && page.next.is_none()) {
            break;
        }
        patience.go_on()?;
        // What one look has read is not held for the next one.
        page = merges_from(shared, id, (limit, most, page.next), patience)?;
    }
    Ok(page)
}

/// The same of `most` rows, of which none may tell of a merge.
fn merges_from(
    shared: &KernelState,
    id: WorkspaceId,
    (limit, most, mut from): (usize, usize, Option<String>),
    patience: &Patience,
) -> Result<ListPage<MergeView>, QueryError> {
    let mut reader = Reader::new(shared, id)?;
    let (mut items, mut room) = (Vec::new(), PageRoom::new(limit));
    for rows in Portions::new(limit, most) {
        let (edges, next) = evidence_page(&reader, rows, from.as_deref())?;
        reader.read_heads(edges.iter().map(|(_, end, _)| *end))?;
        for (place, end, edge) in edges {
            let root = reader.head(end)?.and_then(|head| head.root.as_ref());
            let members = root.map(|root| root.members.clone()).filter(|members| members.len() > 1);
            let Some(members) = members else { continue };
            // A profile is told with the first evidence of the identity that names it.
            if reader.first_edge(end)? != Some(edge.id) {
                continue;
            }
            if room.is_full() {
                return Ok(ListPage { items, next: Some(place) });
            }
            // The merges of one person come together: of 500 identifiers at most.
            let merges = merges_among(&mut reader, &members, patience)?;
            if merges.is_empty() {
                continue;
            }
            room.take(merges.iter().map(|merge| evidence_bytes(&merge.evidence)).sum());
            items.extend(merges);
        }
        from = next;
        if from.is_none() || room.is_full() {
            break;
        }
    }
    Ok(ListPage { items, next: from })
}

/// The shortest way of evidence from one identity to another of the same profile, with the events that gave it, as far as a page
/// has room; empty where they are the same, `None` where they are two people or one is unknown.
pub(crate) fn why(
    shared: &KernelState,
    id: WorkspaceId,
    (one, other): (SourceIdentityId, SourceIdentityId),
    patience: &Patience,
) -> Result<Option<Way>, QueryError> {
    let mut reader = Reader::new(shared, id)?;
    let members = reader.members(one)?;
    if !members.contains(&other) || !members.contains(&one) {
        return Ok(None);
    }
    let mut beside: BTreeMap<SourceIdentityId, Vec<Arc<Edge>>> = BTreeMap::new();
    for edge in reader.counting(&members, patience)?.into_iter().map(Arc::new) {
        beside.entry(edge.id.low).or_default().push(Arc::clone(&edge));
        beside.entry(edge.id.high).or_default().push(edge);
    }
    let mut came_by: BTreeMap<SourceIdentityId, Arc<Edge>> = BTreeMap::new();
    let mut open = VecDeque::from([one]);
    while let Some(at) = open.pop_front().filter(|at| *at != other) {
        for edge in beside.get(&at).into_iter().flatten() {
            let next = other_end(edge.id, at);
            if next != one && !came_by.contains_key(&next) {
                came_by.insert(next, Arc::clone(edge));
                open.push_back(next);
            }
        }
    }
    let mut way = Vec::new();
    let mut at = other;
    while at != one {
        let Some(edge) = came_by.get(&at) else { return Ok(None) };
        at = other_end(edge.id, at);
        way.push((at, Arc::clone(edge)));
    }
    way.reverse();
    let (mut steps, mut room) = (Vec::with_capacity(way.len()), PageRoom::new(usize::MAX));
    for (begin, edge) in way {
        if room.is_full() {
            // The rest of a shortest way is a shortest way itself.
            let next = reader.head(begin)?.map(|head| head.identifier.clone());
            return Ok(Some(Way { steps, next }));
        }
        if let Some(evidence) = reader.view(&edge)? {
            let event = event_of(&reader, &edge)?;
            let of_event = event.as_ref().map_or(0, |recorded| events::size(&recorded.event));
            room.take(evidence_bytes(&evidence) + of_event);
            steps.push(Step { evidence, event });
        }
    }
    Ok(Some(Way { steps, next: None }))
}

/// The event that gave an edge, where it is found at the time that the edge has: one of the two identities owns it.
fn event_of(reader: &Reader<'_>, edge: &Edge) -> Result<Option<RecordedEvent>, ReadError> {
    for end in [edge.id.low, edge.id.high] {
        let range = Key::event(reader.workspace, end, edge.time).range();
        for (key, value) in reader.store.scan(&range, MAX_EVENTS)?.rows {
            if let Change::Recorded(event) = row::decode(&value)?
                && event.message_id == edge.message_id
            {
                return Ok(Some(RecordedEvent { position: key.position(), event }));
            }
        }
    }
    Ok(None)
}
