//! Where a channel's messages wait, and the names of their dead letters: known to the stage that makes messages, to the one
//! that sends them, and to those who ask about them.

use kith_model::delivery::DeliveryState;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{Key, QueueId};

use super::DeliveryRow;

/// The queue of a channel's outbox.
pub(crate) fn outbox(workspace: WorkspaceId, channel: InstallationId) -> QueueId {
    QueueId { workspace, queue: channel.0 }
}

/// The key of the dead letter of something that a channel could not deliver.
pub(crate) fn dead_key(workspace: WorkspaceId, channel: InstallationId, at: Timestamp, id: &[u8; 16]) -> Key {
    Key::set_aside(workspace, Some(channel)).followed_by(&at.0.to_be_bytes()).followed_by(id)
}

/// The key of the dead letter that lists a delivery, where its state is one that waits for an admin. It follows from the
/// delivery's row alone, so that a replay finds it.
pub(crate) fn letter_of(workspace: WorkspaceId, id: &[u8; 16], row: &DeliveryRow) -> Option<Key> {
    match row.state {
        DeliveryState::Dead { at, .. } | DeliveryState::Unknown { since: at, .. } => {
            Some(dead_key(workspace, row.channel, at, id))
        }
        DeliveryState::Pending { .. }
        | DeliveryState::Delivered { .. }
        | DeliveryState::Accepted { .. }
        | DeliveryState::Skipped { .. }
        | DeliveryState::Sending { .. } => None,
    }
}
