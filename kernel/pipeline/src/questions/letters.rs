//! Deliveries and dead letters: what was sent, what did not work, and trying again.

use std::collections::BTreeSet;

use kith_model::delivery::{DeliveryInput, step};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::keys::DeliveryMover;
use kith_store::{Key, Operation, Precondition, Unit, row};

use super::{QueryError, page};
use crate::rows::outbox::{letter_of, outbox};
use crate::rows::{self, Aside, DeliveryRow, DeliveryTotals};
use crate::shared::Shared;
use crate::views::{DeadLetter, DeliveryFilter, DeliveryView, Paged, Replay, delivery_id};

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

/// Rows that are read at once where a filter leaves some out.
const FILTERED_ROWS: usize = 512;

/// Rows after which a page ends, full or not, because a filter may leave out all of them.
const MAX_FILTERED_ROWS: usize = 10 * FILTERED_ROWS;

/// A page of deliveries, the newest first.
pub(crate) fn deliveries(
    shared: &Shared,
    workspace: WorkspaceId,
    filter: &DeliveryFilter,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Paged<DeliveryView>, QueryError> {
    let store = shared.store.as_ref();
    let prefix = Key::deliveries_by_time(workspace);
    let at_once = if *filter == DeliveryFilter::default() { limit } else { FILTERED_ROWS };
    let (mut items, mut looked_at, mut from) = (Vec::new(), 0, cursor.map(str::to_owned));
    loop {
        let (rows, next) = page::rows(store, &prefix, at_once, from.as_deref())?;
        let places: Vec<&[u8]> = rows.iter().filter_map(|(key, _)| key.strip(&prefix)).collect();
        let ids: Vec<[u8; 16]> = places.iter().filter_map(|place| place.last_chunk().copied()).collect();
        let keys: Vec<Key> = ids.iter().map(|id| Key::delivery(workspace, id)).collect();
        for ((place, id), value) in places.iter().zip(&ids).zip(store.get(&keys)?) {
            if items.len() == limit {
                return Ok(Paged { items, next: Some(page::to_hex(place)) });
            }
            let row = value.map(|value| row::decode::<DeliveryRow>(&value)).transpose()?;
            items.extend(row.filter(|row| filter.admits(row)).map(|row| view(id, row)));
        }
        looked_at += rows.len();
        from = match next {
            Some(next) if items.len() < limit && looked_at < MAX_FILTERED_ROWS => Some(next),
            next => return Ok(Paged { items, next }),
        };
    }
}

/// A page of dead letters, by source and channel, oldest first.
pub(crate) fn dead_letters(
    shared: &Shared,
    workspace: WorkspaceId,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Paged<DeadLetter>, QueryError> {
    let prefix = Key::set_aside(workspace, None);
    let (rows, next) = page::rows(shared.store.as_ref(), &prefix, limit, cursor)?;
    let mut items = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        if let Some(name) = key.strip(&prefix) {
            items.extend(letter(shared, workspace, name, row::decode(&value)?)?);
        }
    }
    Ok(Paged { items, next })
}

/// What a row of the dead letters lists; `None` for a delivery that was replayed meanwhile.
fn letter(
    shared: &Shared,
    workspace: WorkspaceId,
    name: &[u8],
    aside: Aside,
) -> Result<Option<DeadLetter>, QueryError> {
    let id = format!("aside_{}", page::to_hex(name));
    let source = InstallationId(name.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes)));
    Ok(match aside {
        Aside::Record { at, record } => Some(DeadLetter::Record { id, source, at, record }),
        Aside::Computation { at, code, message, profiles } => {
            Some(DeadLetter::Computation { id, installation: source, at, code, message, profiles })
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
///
/// What was kept aside has no replay: a refused record must be sent again corrected, and a failed computation is repeated
/// by itself when the installation changes.
pub(crate) fn replay(shared: &Shared, workspace: WorkspaceId, id: &str) -> Result<Replay, QueryError> {
    let bytes = id.strip_prefix("msg_").and_then(page::from_hex).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    let Some(name) = bytes else { return Ok(Replay::NoLetter) };
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
