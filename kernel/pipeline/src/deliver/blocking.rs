//! Channels of contract 0.1, which send their requests themselves and wait. One message per call, on a few threads, so that
//! what became of each is recorded when it happens and a slow receiver costs its neighbours nothing.

use std::sync::Arc;

use kith_model::delivery::{Message, Outcome};
use kith_model::plugin::{Channel, PluginFault};

use super::Phase;
use super::claims;
use super::halving::outcome_of;
use super::receipts::{self, End, EndedAttempt};
use super::sending::{Outgoing, Sender};
use crate::setup::Idempotence;

/// The name of the tasks.
pub(super) const TASK: &str = "blocking-send";

/// Calls of one channel at once, so that one slow receiver leaves threads to the other channels.
const MAX_SENDS_PER_CHANNEL: usize = 3;

/// How many more messages may be claimed while `under_way` are.
pub(super) fn room(under_way: usize) -> usize {
    MAX_SENDS_PER_CHANNEL.saturating_sub(under_way)
}

/// Send each message in a task of its own.
pub(super) fn begin(
    sender: &Arc<Sender>,
    channel: &Arc<dyn Channel>,
    idempotence: Idempotence,
    passed: Vec<Arc<Outgoing>>,
) {
    for outgoing in passed {
        let (sending, channel) = (Arc::clone(sender), Arc::clone(channel));
        sender.shared.workers.task(TASK, sender.workspace(), async move {
            send(&sending, channel, idempotence, outgoing).await;
        });
    }
}

async fn send(sender: &Arc<Sender>, channel: Arc<dyn Channel>, idempotence: Idempotence, outgoing: Arc<Outgoing>) {
    let mut phase = sender.phase();
    let permit = tokio::select! {
        permit = Arc::clone(&sender.shared.deliveries.blocking_sends).acquire_owned() => permit.ok(),
        _ = phase.wait_for(|phase| *phase != Phase::Running) => None,
    };
    if permit.is_none() || !sender.may_send() || !claims::may_still_leave(sender, &outgoing).await {
        sender.hand_back(outgoing.id, sender.now());
        return;
    }
    if idempotence == Idempotence::NotIdempotent && !receipts::begin(sender, &outgoing).await {
        return;
    }
    let message = outgoing.message.clone();
    let result = sender.guest(move || call(channel.as_ref(), message)).await;
    drop(permit);
    let outcome = match result {
        Ok(outcome) => {
            sender.shared.forgive(sender.workspace(), sender.channel());
            outcome
        }
        Err(fault) => {
            sender.strike(&fault);
            outcome_of(&fault)
        }
    };
    let ended = EndedAttempt { outgoing, end: End::Outcome(outcome), at: sender.now() };
    receipts::commit(sender, vec![ended]).await;
}

fn call(channel: &dyn Channel, message: Message) -> Result<Outcome, PluginFault> {
    let mut outcomes = channel.send(std::slice::from_ref(&message))?;
    match (outcomes.pop(), outcomes.len()) {
        (Some(outcome), 0) => Ok(outcome),
        (None, _) => Err(PluginFault::InvalidOutput("no outcome for 1 message".to_owned())),
        (Some(_), more) => Err(PluginFault::InvalidOutput(format!("{} outcomes for 1 message", more + 1))),
    }
}
