//! Deliveries and dead letters: what was sent, what did not work, and trying again.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::ops::Bound;

use kith_model::delivery::{DeliveryInput, step};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::keys::DeliveryMover;
use kith_store::{Key, Operation, Precondition, Unit, row};

use super::QueryError;
use super::page::{self, PageRoom, Portions};
use crate::rows::outbox::{letter_of, outbox};
use crate::rows::{self, Aside, ComputationSubject, DeliveryRow, DeliveryTotals, NamedPerson};
use crate::shared::KernelState;
use crate::turns::{Patience, TurnError};
use crate::views::{
    DeadLetter, DeliveryFilter, DeliveryView, FailedPerson, LetterCount, LetterCounts, LetterFilter, ListPage,
    ListedLetter, PageRequest, RecordLetter, Replay, delivery_id, delivery_of,
};

fn view(id: &[u8; 16], row: DeliveryRow) -> DeliveryView {
    DeliveryView {
        id: delivery_id(id),
        channel: row.channel,
        audience: row.audience,
        movement: row.movement,
        profile: row.profile,
        purpose: row.purpose,
        payload: row.payload,
        created_at: row.created_at,
        state: row.state,
    }
}

impl DeliveryFilter {
    fn admits(&self, row: &DeliveryRow) -> bool {
        fn is_in<T: Ord>(wanted: Option<&BTreeSet<T>>, found: &T) -> bool {
            wanted.is_none_or(|wanted| wanted.contains(found))
        }
        is_in(self.channels.as_ref(), &row.channel)
            && is_in(self.audiences.as_ref(), &row.audience)
            && is_in(self.profiles.as_ref(), &row.profile)
            && self.state.is_none_or(|wanted| wanted == row.state.name())
    }
}

/// Rows after which a page ends, full or not, because a filter may leave out all of them.
const MAX_FILTERED_ROWS: usize = 5_120;

/// Deliveries that are read at once: each has a payload of up to 64 KiB and more.
const READ_AT_ONCE: usize = 32;

/// A page of deliveries, the newest first.
pub(crate) fn deliveries(
    shared: &KernelState,
    workspace: WorkspaceId,
    filter: &DeliveryFilter,
    PageRequest { limit, cursor }: PageRequest<'_>,
) -> Result<ListPage<DeliveryView>, QueryError> {
    let store = shared.store.as_ref();
    let prefix = Key::deliveries_by_time(workspace);
    let (mut items, mut from, mut room) = (Vec::new(), cursor.map(str::to_owned), PageRoom::new(limit));
    for at_once in Portions::new(limit, MAX_FILTERED_ROWS) {
        let (rows, next) = page::rows(store, &prefix, PageRequest { limit: at_once, cursor: from.as_deref() })?;
        let places: Vec<&[u8]> = rows.iter().filter_map(|(key, _)| key.strip(&prefix)).collect();
        for places in places.chunks(READ_AT_ONCE) {
            let ids: Vec<[u8; 16]> = places.iter().filter_map(|place| place.last_chunk().copied()).collect();
            let keys: Vec<Key> = ids.iter().map(|id| Key::delivery(workspace, id)).collect();
            for ((place, id), value) in places.iter().zip(&ids).zip(store.get(&keys)?) {
                if room.is_full() {
                    return Ok(ListPage { items, next: Some(page::to_hex(place)) });
                }
                let Some(value) = value else { continue };
                let row: DeliveryRow = row::decode(&value)?;
                if filter.admits(&row) {
                    room.take(value.len());
                    items.push(view(id, row));
                }
            }
        }
        from = next;
        if from.is_none() || room.is_full() {
            break;
        }
    }
    Ok(ListPage { items, next: from })
}

/// The key of the dead letter of that id, where it is no delivery's.
pub(crate) fn key_of(workspace: WorkspaceId, id: &str) -> Option<Key> {
    let name = id.strip_prefix("aside_").and_then(page::from_hex)?;
    (name.len() > 4).then(|| Key::set_aside(workspace, None).followed_by(&name))
}

/// The key of the dead letter that lists a delivery.
pub(crate) fn letter_of_delivery(
    shared: &KernelState,
    workspace: WorkspaceId,
    id: &str,
) -> Result<Option<Key>, QueryError> {
    let Some(name) = delivery_of(id) else { return Ok(None) };
    let Some(value) = shared.store.get(&[Key::delivery(workspace, &name)])?.pop().flatten() else { return Ok(None) };
    Ok(letter_of(workspace, &name, &row::decode(&value)?))
}

impl LetterFilter {
    fn admits(&self, letter: &DeadLetter) -> bool {
        let (kind, code, at) = letter.about();
        let text = |wanted: &String| letter.texts().into_iter().any(|text| contains(&text, wanted));
        self.kind.is_none_or(|wanted| wanted == kind)
            && self.code.as_ref().is_none_or(|wanted| wanted == code)
            && self.since.is_none_or(|since| at >= since)
            && self.until.is_none_or(|until| at < until)
            && self.text.as_ref().is_none_or(text)
    }
}

/// Whether a text has another one in it, whatever the case of ASCII letters.
fn contains(text: &str, wanted: &str) -> bool {
    let (text, wanted) = (text.as_bytes(), wanted.as_bytes());
    wanted.is_empty() || text.windows(wanted.len()).any(|part| part.eq_ignore_ascii_case(wanted))
}

/// A walk over dead letters, by source and channel, oldest first.
struct Walk<'s> {
    shared: &'s KernelState,
    workspace: WorkspaceId,
    filter: &'s LetterFilter,
    prefix: Key,
}

impl<'s> Walk<'s> {
    fn new(shared: &'s KernelState, workspace: WorkspaceId, filter: &'s LetterFilter) -> Walk<'s> {
        Walk { shared, workspace, filter, prefix: Key::set_aside(workspace, None) }
    }

    /// Letters of at most `at_once` rows from a cursor on, each with its place, and the place behind them. They end early where
    /// they are large.
    fn rows(&self, at_once: usize, cursor: Option<&str>) -> Result<(Vec<ListedLetter>, Option<String>), QueryError> {
        let (rows, next) =
            page::rows(self.shared.store.as_ref(), &self.prefix, PageRequest { limit: at_once, cursor })?;
        let (mut letters, mut room) = (Vec::with_capacity(rows.len()), PageRoom::new(usize::MAX));
        for (key, value) in rows {
            let Some(name) = key.strip(&self.prefix) else { continue };
            let source =
                name.first_chunk::<4>().map_or(InstallationId(0), |id| InstallationId(u32::from_be_bytes(*id)));
            if let Some(sources) = self.filter.sources.as_ref().filter(|sources| !sources.contains(&source)) {
                // Those of others are not read.
                let after = (Bound::Excluded(source), Bound::Unbounded);
                let next = sources.range(after).next().map(|id| page::to_hex(&id.0.to_be_bytes()));
                return Ok((letters, next));
            }
            let place = page::to_hex(name);
            if room.is_full() {
                return Ok((letters, Some(place)));
            }
            let found = letter(self.shared, self.workspace, name, row::decode(&value)?)?;
            let found = found.filter(|found| self.filter.admits(found));
            letters.extend(found.map(|letter| {
                room.take(letter.len_bytes());
                ListedLetter { place, letter }
            }));
        }
        Ok((letters, next))
    }
}

/// A page of dead letters that meet a filter.
pub(crate) fn letters(
    shared: &KernelState,
    workspace: WorkspaceId,
    filter: &LetterFilter,
    PageRequest { limit, cursor }: PageRequest<'_>,
) -> Result<ListPage<ListedLetter>, QueryError> {
    let walk = Walk::new(shared, workspace, filter);
    let (mut items, mut from, mut room) = (Vec::new(), cursor.map(str::to_owned), PageRoom::new(limit));
    for at_once in Portions::new(limit, MAX_FILTERED_ROWS) {
        let (found, next) = walk.rows(at_once, from.as_deref())?;
        for listed in found {
            if room.is_full() {
                return Ok(ListPage { items, next: Some(listed.place) });
            }
            room.take(listed.letter.len_bytes());
            items.push(listed);
        }
        from = next;
        // Letters of deliveries that were tried again meanwhile leave a page empty, which would look like the end.
        if from.is_none() || room.is_full() {
            break;
        }
    }
    Ok(ListPage { items, next: from })
}

/// How many rows are counted at most.
const MAX_COUNTED_ROWS: usize = 200_000;

/// Sources, kinds and reasons that are told apart: a connector may have a code of its own for each record.
pub(crate) const MAX_REASONS: usize = 500;

/// How many of them are read at once.
const COUNTED_ROWS: usize = 512;

/// How many dead letters there are of each source, kind and reason.
pub(crate) fn counts(
    shared: &KernelState,
    workspace: WorkspaceId,
    filter: &LetterFilter,
    patience: &Patience,
) -> Result<LetterCounts, QueryError> {
    let walk = Walk::new(shared, workspace, filter);
    let mut by_reason: BTreeMap<(InstallationId, &'static str, String), LetterCount> = BTreeMap::new();
    let (mut looked_at, mut from, mut others) = (0, None::<String>, 0);
    loop {
        if patience.is_asker_gone() {
            return Err(QueryError::Turn(TurnError::GivenUp));
        }
        let (found, next) = walk.rows(COUNTED_ROWS, from.as_deref())?;
        for ListedLetter { letter, .. } in found {
            let ((kind, code, at), times) = (letter.about(), letter.times());
            let has_room = by_reason.len() < MAX_REASONS;
            let count = match by_reason.entry((letter.source(), kind.as_str(), code.to_owned())) {
                Entry::Occupied(known) => known.into_mut(),
                Entry::Vacant(free) if has_room => free.insert(LetterCount {
                    source: letter.source(),
                    kind,
                    code: code.to_owned(),
                    letters: 0,
                    times: 0,
                    first_at: letter.first_at(),
                    last_at: at,
                }),
                Entry::Vacant(_) => {
                    others += 1;
                    continue;
                }
            };
            count.letters += 1;
            count.times += times;
            count.first_at = count.first_at.min(letter.first_at());
            count.last_at = count.last_at.max(at);
        }
        looked_at += COUNTED_ROWS;
        from = match next {
            Some(next) if looked_at < MAX_COUNTED_ROWS => Some(next),
            next => {
                let counts = by_reason.into_values().collect();
                return Ok(LetterCounts { counts, others, is_whole: next.is_none() });
            }
        };
    }
}

/// One dead letter.
pub(crate) fn one(shared: &KernelState, workspace: WorkspaceId, id: &str) -> Result<Option<DeadLetter>, QueryError> {
    let key = match key_of(workspace, id) {
        Some(key) => key,
        None => match letter_of_delivery(shared, workspace, id)? {
            Some(key) => key,
            None => return Ok(None),
        },
    };
    let Some(value) = shared.store.get(std::slice::from_ref(&key))?.pop().flatten() else { return Ok(None) };
    let prefix = Key::set_aside(workspace, None);
    let Some(name) = key.strip(&prefix) else { return Ok(None) };
    letter(shared, workspace, name, row::decode(&value)?)
}

/// What a row of the dead letters lists; `None` for a delivery that was replayed meanwhile.
fn letter(
    shared: &KernelState,
    workspace: WorkspaceId,
    name: &[u8],
    aside: Aside,
) -> Result<Option<DeadLetter>, QueryError> {
    let id = format!("aside_{}", page::to_hex(name));
    let source = InstallationId(name.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes)));
    Ok(match aside {
        Aside::Record(letter) => Some(DeadLetter::Record(Box::new(RecordLetter {
            id,
            source,
            first_at: letter.at,
            last_at: letter.last_at,
            times: letter.times,
            path: letter.came.as_ref().map(|came| came.path.clone()).filter(|path| !path.is_empty()),
            is_edited: letter.is_edited,
            is_whole: !crate::letters::is_cut(&letter.record.raw),
            obstacle: crate::letters::obstacle(&letter),
            record: letter.record,
        }))),
        Aside::Computation { at, since, code, message, profiles, about } => {
            let ComputationSubject { plugin, inputs, people } = about;
            let shown = |person: NamedPerson| FailedPerson { profile: person.profile, row_sha256: person.row };
            Some(DeadLetter::Computation {
                id,
                installation: source,
                at,
                since: if since.0 == 0 { at } else { since },
                code,
                message,
                profiles,
                plugin,
                inputs,
                people: people.into_iter().map(shown).collect(),
            })
        }
        Aside::Unreadable { at, position, problem, raw } => {
            Some(DeadLetter::Unreadable { id, at, position, problem, raw })
        }
        Aside::Delivery { id } => {
            let Some(value) = shared.store.get(&[Key::delivery(workspace, &id)])?.pop().flatten() else {
                return Ok(None);
            };
            let row: DeliveryRow = row::decode(&value)?;
            let is_listed = letter_of(workspace, &id, &row).is_some();
            is_listed.then(|| DeadLetter::Delivery(view(&id, row)))
        }
    })
}

/// Try a dead delivery, or one whose fate is unknown, again from the start of the schedule, under the same id.
pub(crate) fn replay(shared: &KernelState, workspace: WorkspaceId, id: &str) -> Result<Replay, QueryError> {
    let Some(name) = delivery_of(id) else { return Ok(Replay::NoLetter) };
    let known = super::workspace(shared, workspace)?;
    let _alone = known.replaying.lock();
    let key = Key::delivery(workspace, &name);
    let Some(value) = shared.store.get(std::slice::from_ref(&key))?.pop().flatten() else {
        return Ok(Replay::NoLetter);
    };
    let mut row: DeliveryRow = row::decode(&value)?;
    let letter = letter_of(workspace, &name, &row);
    let now = shared.clock.now();
    let mut moved = DeliveryTotals::default();
    let Ok(state) = step(row.state.clone(), DeliveryInput::Replay, now) else { return Ok(Replay::NoLetter) };
    // The gate would refuse it too, but only after it has said that it is on its way.
    if !known.compiled.load().setup.audiences.iter().any(|audience| audience.id == row.audience) {
        return Ok(Replay::AudienceRemoved);
    }
    moved.moved(&row.state, &state);
    row.state = state;
    let queue = outbox(workspace, row.channel);
    let mut operations = vec![
        Operation::Put(key.clone(), row::encode(&row)),
        Operation::Enqueue { queue, id: name, due_at: now, body: Vec::new() },
    ];
    operations.extend(letter.map(Operation::Delete));
    let totals = Key::delivery_totals(workspace, DeliveryMover::Replay);
    operations.extend(rows::add_deliveries(shared.store.as_ref(), totals, moved)?);
    let preconditions = vec![Precondition::Holds(key, value.to_vec())];
    shared.commit(Unit { preconditions, operations, ..Unit::default() })?;
    Ok(Replay::Begun)
}
