//! Deliveries and dead letters: what was sent, what did not work, and trying again.

use kith_model::delivery::{DeliveryInput, DeliveryState, step};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::{Key, Operation, Precondition, Unit};

use crate::deliver::outbox;
use crate::query::{self, QueryError};
use crate::rows::{self, Aside, DeliveryRow};
use crate::shared::Shared;
use crate::views::{DeadLetter, DeliveryView, Paged, delivery_id};

fn view(id: &[u8; 16], row: DeliveryRow) -> DeliveryView {
    DeliveryView {
        id: delivery_id(id),
        channel: row.channel,
        audience: row.audience,
        profile: row.profile,
        purpose: row.purpose,
        payload: row.payload,
        created_at: row.created_at,
        state: row.state.into(),
    }
}

/// A page of all deliveries, by id.
pub(crate) fn deliveries(
    shared: &Shared,
    workspace: WorkspaceId,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Paged<DeliveryView>, QueryError> {
    let prefix = Key::deliveries(workspace);
    let (rows, next) = query::page(shared.store.as_ref(), &prefix, limit, cursor)?;
    let mut items = Vec::with_capacity(rows.len());
    for (key, value) in rows {
        if let Some(Ok(id)) = key.strip(&prefix).map(<[u8; 16]>::try_from) {
            items.push(view(&id, rows::decode("a delivery", &value)?));
        }
    }
    Ok(Paged { items, next })
}

/// A page of dead letters: first what was kept aside, then deliveries that were given up.
pub(crate) fn dead_letters(
    shared: &Shared,
    workspace: WorkspaceId,
    limit: usize,
    cursor: Option<&str>,
) -> Result<Paged<DeadLetter>, QueryError> {
    let bad = || QueryError::Cursor(cursor.unwrap_or_default().chars().take(64).collect());
    let (part, rest) = match cursor {
        None => ("a", None),
        Some(cursor) => {
            cursor.split_once('.').map(|(part, rest)| (part, (!rest.is_empty()).then_some(rest))).ok_or_else(bad)?
        }
    };
    match part {
        "a" => {
            let prefix = Key::set_aside(workspace, None);
            let (rows, next) = query::page(shared.store.as_ref(), &prefix, limit, rest)?;
            let mut items = Vec::with_capacity(rows.len());
            for (key, value) in rows {
                if let Some(name) = key.strip(&prefix) {
                    items.push(aside(name, rows::decode("what was kept aside", &value)?));
                }
            }
            Ok(Paged { items, next: Some(next.map_or("d.".to_owned(), |next| format!("a.{next}"))) })
        }
        "d" => {
            let page = deliveries(shared, workspace, limit, rest)?;
            let dead = page.items.into_iter().filter(|delivery| {
                matches!(delivery.state, DeliveryState::Dead { .. } | DeliveryState::Unknown { .. })
            });
            Ok(Paged {
                items: dead.map(DeadLetter::Delivery).collect(),
                next: page.next.map(|next| format!("d.{next}")),
            })
        }
        _ => Err(bad()),
    }
}

fn aside(name: &[u8], aside: Aside) -> DeadLetter {
    let id = format!("aside_{}", query::to_hex(name));
    let source = InstallationId(name.first_chunk::<4>().map_or(0, |bytes| u32::from_be_bytes(*bytes)));
    match aside {
        Aside::Record { at, record } => DeadLetter::Record { id, source, at, record },
        Aside::Computation { at, code, message, profiles } => {
            DeadLetter::Computation { id, installation: source, at, code, message, profiles }
        }
    }
}

/// Try a dead delivery again from the start of the schedule, under the same id; whether there was one.
///
/// What was kept aside has no replay: a refused record must be sent again corrected, and a failed computation is repeated
/// by itself when the installation changes.
pub(crate) fn replay(shared: &Shared, workspace: WorkspaceId, id: &str) -> Result<bool, QueryError> {
    let bytes = id.strip_prefix("msg_").and_then(query::from_hex).and_then(|bytes| <[u8; 16]>::try_from(bytes).ok());
    let Some(name) = bytes else { return Ok(false) };
    let key = Key::delivery(workspace, &name);
    let Some(value) = shared.store.get(std::slice::from_ref(&key))?.pop().flatten() else { return Ok(false) };
    let mut row: DeliveryRow = rows::decode("a delivery", &value)?;
    let now = shared.clock.now();
    let Ok(state) = step(row.state, DeliveryInput::Replay, now) else { return Ok(false) };
    row.state = state;
    let queue = outbox(workspace, row.channel);
    shared.store.commit(Unit {
        preconditions: vec![Precondition::Holds(key.clone(), value.to_vec())],
        operations: vec![
            Operation::Put(key, rows::encode(&row)),
            Operation::Enqueue { queue, id: name, due_at: now, body: Vec::new() },
        ],
        ..Unit::default()
    })?;
    Ok(true)
}
