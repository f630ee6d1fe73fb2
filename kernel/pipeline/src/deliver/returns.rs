//! Claimed messages that go back to the outbox, their attempts not counted.

use std::sync::Arc;

use kith_model::time::Timestamp;
use kith_store::{JobId, Operation, Unit};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

use super::sending::{GATHERING, Sender};
use crate::offload;

/// Messages that are handed back in one commit.
const MAX_RETURNS: usize = 256;

/// One of them, and when it is due again.
#[derive(Debug, Clone, Copy)]
pub(super) struct Return {
    pub id: JobId,
    pub due_at: Timestamp,
}

/// Put messages back into the outbox, many in one commit.
pub(super) async fn collect(sender: &Arc<Sender>, mut returned: UnboundedReceiver<Return>) {
    while let Some(first) = returned.recv().await {
        let mut returns = vec![first];
        let until = Instant::now() + GATHERING;
        while returns.len() < MAX_RETURNS {
            match timeout_at(until, returned.recv()).await {
                Ok(Some(next)) => returns.push(next),
                _ => break,
            }
        }
        let returns = sender.give_up(returns);
        let enqueue = |one: &Return| {
            let body = Vec::new();
            Operation::Enqueue { queue: sender.queue, id: one.id, due_at: one.due_at, body }
        };
        let operations: Vec<Operation> = returns.iter().map(enqueue).collect();
        let shared = Arc::clone(&sender.shared);
        let committed = offload::run(move || shared.commit(Unit { operations, ..Unit::default() })).await;
        if let Err(error) = committed {
            tracing::error!(
                channel = sender.channel().0,
                %error,
                "messages were not put back; they come at the end of their lease or with the next start"
            );
        }
        sender.gave_up(&returns);
    }
}
