//! Answers back to the plugin, in batches: it says what became of each message, or what to send next.

use std::sync::Arc;

use kith_model::delivery::Outcome;
use kith_model::plugin::PluginFault;
use kith_model::sending::{MAX_ROUNDS, PureChannel, Sent, SentAnswer};
use tokio::sync::mpsc::UnboundedReceiver;
use tokio::time::{Instant, timeout_at};

use super::exchange::{self, Exchange, MAX_GUEST_BATCH, Wanted};
use super::halving::{self, outcome_of};
use super::receipts::{self, End, EndedAttempt};
use super::sending::{GATHERING, Outgoing, Sender};
use crate::setup::Idempotence;

/// A request that ended.
pub(super) struct AnsweredRequest {
    pub outgoing: Arc<Outgoing>,
    /// The plugin that asked for it: a newer version could not read its `resume`.
    pub channel: Arc<dyn PureChannel>,
    pub idempotence: Idempotence,
    pub round: u32,
    pub resume: Option<Vec<u8>>,
    pub result: Sent,
}

/// Gather answers and have each batch read and committed. While a batch is at work the next one grows, so that the batches are
/// the larger the more there is to do.
pub(super) async fn collect(sender: &Arc<Sender>, mut answered: UnboundedReceiver<AnsweredRequest>) {
    loop {
        let Ok(permit) = Arc::clone(&sender.batches).acquire_owned().await else { return };
        let Some(first) = answered.recv().await else { return };
        let mut batch = vec![first];
        let until = Instant::now() + GATHERING;
        while batch.len() < MAX_GUEST_BATCH {
            match timeout_at(until, answered.recv()).await {
                Ok(Some(next)) => batch.push(next),
                _ => break,
            }
        }
        let reading = Arc::clone(sender);
        sender.shared.workers.task("answers", sender.workspace(), async move {
            for (channel, batch) in by_channel(batch) {
                read(&reading, &channel, batch).await;
            }
            drop(permit);
        });
    }
}

/// The answers by the plugin that they are for. There is one, but for the moment after a change of the channel.
fn by_channel(batch: Vec<AnsweredRequest>) -> Vec<(Arc<dyn PureChannel>, Vec<AnsweredRequest>)> {
    let mut parts: Vec<(Arc<dyn PureChannel>, Vec<AnsweredRequest>)> = Vec::new();
    for answered in batch {
        match parts.iter_mut().find(|(channel, _)| Arc::ptr_eq(channel, &answered.channel)) {
            Some((_, part)) => part.push(answered),
            None => parts.push((Arc::clone(&answered.channel), vec![answered])),
        }
    }
    parts
}

async fn read(sender: &Arc<Sender>, channel: &Arc<dyn PureChannel>, batch: Vec<AnsweredRequest>) {
    let answers: Vec<SentAnswer> = batch.iter().map(AnsweredRequest::for_plugin).collect();
    let guest = Arc::clone(channel);
    let steps = sender.guest(move || halving::call(&answers, &|answers| guest.outcomes(answers))).await;
    sender.judge(&steps.verdict);
    let mut ended = Vec::new();
    for (answered, step) in batch.into_iter().zip(steps.steps) {
        let outcome = match step.map(Wanted::from) {
            Ok(Wanted::Send(outbound)) if answered.round < MAX_ROUNDS => {
                let AnsweredRequest { outgoing, channel, idempotence, round, .. } = answered;
                exchange::start(sender, Exchange { outgoing, channel, idempotence, outbound, round: round + 1 });
                continue;
            }
            Ok(Wanted::Send(_)) => {
                let fault = PluginFault::InvalidOutput(format!("more than {MAX_ROUNDS} requests for one message"));
                sender.strike(&fault);
                outcome_of(&fault)
            }
            Ok(Wanted::End(outcome)) => outcome,
            // The request has left and nobody can say what its answer means: a repeat could be a second message.
            Err(fault) => match outcome_of(&fault) {
                Outcome::Permanent { reason } => Outcome::Permanent { reason: format!("reading the answer: {reason}") },
                other => other,
            },
        };
        ended.push(EndedAttempt { outgoing: answered.outgoing, end: End::Outcome(outcome), at: sender.now() });
    }
    if !ended.is_empty() {
        receipts::commit(sender, ended).await;
    }
}

impl AnsweredRequest {
    fn for_plugin(&self) -> SentAnswer {
        SentAnswer {
            message: self.outgoing.message.clone(),
            round: self.round,
            resume: self.resume.clone(),
            result: self.result.clone(),
        }
    }
}
