//! Dead letters end by age: what nobody dealt with for so long is dealt with by nobody. Deliveries that were given up or skipped
//! go with them, because each is a row for ever that no quota bounds; what was delivered stays.

use std::sync::Arc;

use kith_model::delivery::DeliveryState;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::keys::DeliveryMover;
use kith_store::{Key, KeyRange, Operation, Unit, row};
use tokio::sync::oneshot;

use crate::Kernel;
use crate::accept::Submission;
use crate::accept::aside::{source_of, take_out};
use crate::questions::{self, QueryError};
use crate::rows::outbox::letter_of;
use crate::rows::{self, Aside, DeliveryRow, DeliveryTotals};
use crate::shared::KernelState;

/// Rows that are looked at, and at most deleted, in one step.
const STEP_ROWS: usize = 256;

impl Kernel {
    /// Forget what failed before a moment: letters, and deliveries that were given up or skipped. How many rows went. Blocks, a
    /// while where there is much; ends early where the kernel stops.
    pub fn forget_before(&self, workspace: WorkspaceId, before: Timestamp) -> Result<u64, QueryError> {
        Ok(letters(&self.shared, workspace, before)? + deliveries(&self.shared, workspace, before)?)
    }
}

fn is_over(shared: &Arc<KernelState>, workspace: WorkspaceId) -> bool {
    shared.is_closing() || shared.workspace(workspace).is_none_or(|workspace| workspace.is_stopping())
}

fn letters(shared: &Arc<KernelState>, workspace: WorkspaceId, before: Timestamp) -> Result<u64, QueryError> {
    let mut range = Key::set_aside(workspace, None).range();
    let mut forgotten = 0;
    loop {
        let page = shared.store.scan(&range, STEP_ROWS)?;
        let (mut of_lane, mut of_others) = (Vec::new(), Vec::new());
        for (key, value) in &page.rows {
            match row::decode::<Aside>(value) {
                Ok(Aside::Record(letter)) if letter.last_at < before => of_lane.extend(take_out(workspace, key)),
                Ok(Aside::Computation { at, .. } | Aside::Unreadable { at, .. }) if at < before => {
                    of_others.push(Operation::Delete(key.clone()));
                }
                // A delivery's goes with the delivery; one that cannot be read is the lists' to say.
                Ok(
                    Aside::Record(_) | Aside::Computation { .. } | Aside::Unreadable { .. } | Aside::Delivery { .. },
                )
                | Err(_) => {}
            }
        }
        let of_lane_letters = of_lane.len() as u64 / 2;
        forgotten += of_others.len() as u64;
        if !of_others.is_empty() {
            shared.commit(Unit { operations: of_others, ..Unit::default() })?;
        }
        if !of_lane.is_empty() && through_the_lane(shared, workspace, of_lane) {
            forgotten += of_lane_letters;
        }
        match page.next.filter(|_| !is_over(shared, workspace)) {
            Some(next) => range.from = next,
            None => return Ok(forgotten),
        }
    }
}

/// Whether the lane has taken it; where it has much to do, the next time will.
fn through_the_lane(shared: &KernelState, workspace: WorkspaceId, operations: Vec<Operation>) -> bool {
    let first = operations.iter().find_map(|operation| match operation {
        Operation::Delete(key) => source_of(workspace, key).map(|(source, _)| source),
        _ => None,
    });
    let (reply, answered) = oneshot::channel();
    let source = first.unwrap_or(InstallationId(0));
    let nothing = Submission::of_nothing(workspace, source, shared.clock.now(), reply);
    let submission = Submission { with: operations, ..nothing };
    shared.accept.try_submit(submission).is_ok() && matches!(answered.blocking_recv(), Ok(Ok(_)))
}

fn deliveries(shared: &Arc<KernelState>, workspace: WorkspaceId, before: Timestamp) -> Result<u64, QueryError> {
    let known = questions::workspace(shared, workspace)?;
    let prefix = Key::deliveries_by_time(workspace);
    // The newest come first, so that what is older lies behind.
    let mut range = KeyRange { from: Key::delivery_by_time(workspace, before, &[0; 16]), to: prefix.range().to };
    let mut forgotten = 0;
    loop {
        let page = shared.store.scan(&range, STEP_ROWS)?;
        {
            // Whoever tries one again meanwhile finds it, or finds it gone.
            let _alone = known.replaying.lock();
            forgotten += step(shared, workspace, before, page.rows.iter().map(|(key, _)| key))?;
        }
        match page.next.filter(|_| !is_over(shared, workspace)) {
            Some(next) => range.from = next,
            None => return Ok(forgotten),
        }
    }
}

fn step<'k>(
    shared: &KernelState,
    workspace: WorkspaceId,
    before: Timestamp,
    places: impl Iterator<Item = &'k Key>,
) -> Result<u64, QueryError> {
    let prefix = Key::deliveries_by_time(workspace);
    let named = places.filter_map(|place| Some((place, *place.strip(&prefix)?.last_chunk::<16>()?)));
    let named: Vec<(&Key, [u8; 16])> = named.collect();
    let keys: Vec<Key> = named.iter().map(|(_, id)| Key::delivery(workspace, id)).collect();
    let (mut operations, mut moved, mut forgotten) = (Vec::new(), DeliveryTotals::default(), 0);
    for (((place, id), key), value) in named.into_iter().zip(&keys).zip(shared.store.get(&keys)?) {
        let Some(Ok(row)) = value.map(|value| row::decode::<DeliveryRow>(&value)) else { continue };
        match row.state {
            DeliveryState::Dead { at, .. } if at < before => moved.dead -= 1,
            DeliveryState::Unknown { since, .. } if since < before => moved.dead -= 1,
            DeliveryState::Skipped { at, .. } if at < before => moved.skipped -= 1,
            DeliveryState::Dead { .. }
            | DeliveryState::Unknown { .. }
            | DeliveryState::Skipped { .. }
            | DeliveryState::Pending { .. }
            | DeliveryState::Sending { .. }
            | DeliveryState::Accepted { .. }
            | DeliveryState::Delivered { .. } => continue,
        }
        forgotten += 1;
        operations.extend(letter_of(workspace, &id, &row).map(Operation::Delete));
        operations.extend([Operation::Delete(key.clone()), Operation::Delete(place.clone())]);
    }
    if forgotten > 0 {
        let totals = Key::delivery_totals(workspace, DeliveryMover::Replay);
        operations.extend(rows::add_deliveries(shared.store.as_ref(), totals, moved)?);
        shared.commit(Unit { operations, ..Unit::default() })?;
    }
    Ok(forgotten)
}
