//! Answers back to the plugin, in batches: it says what became of each message, or what to send next.

use std::sync::Arc;

use kith_model::delivery::Outcome;
use kith_model::plugin::PluginFault;
use kith_model::sending::{MAX_ROUNDS, Outbound, PureChannel, SendFailure, Sent, SentAnswer, Step};
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
        match next(&answered.result, answered.idempotence, answered.round, step) {
            Next::Send(outbound) => {
                let AnsweredRequest { outgoing, channel, idempotence, round, .. } = answered;
                exchange::start(sender, Exchange { outgoing, channel, idempotence, outbound, round: round + 1 });
            }
            Next::End { end, wrong } => {
                wrong.iter().for_each(|fault| sender.strike(fault));
                ended.push(EndedAttempt { outgoing: answered.outgoing, end, at: sender.now() });
            }
        }
    }
    if !ended.is_empty() {
        receipts::commit(sender, ended).await;
    }
}

/// What comes next for a message whose answer the plugin was to read.
#[derive(Debug, PartialEq)]
enum Next {
    Send(Outbound),
    /// The attempt ended. What is `wrong` the plugin may not do, and counts against it.
    End {
        end: End,
        wrong: Option<PluginFault>,
    },
}

impl Next {
    fn end(outcome: Outcome) -> Next {
        Next::End { end: End::Outcome(outcome), wrong: None }
    }

    /// A relay has the mail, and what the plugin wants would send it again.
    fn taken(wrong: Option<PluginFault>) -> Next {
        Next::End { end: End::Outcome(Outcome::Accepted { provider_id: None }), wrong }
    }
}

fn next(result: &Sent, idempotence: Idempotence, round: u32, step: Result<Step, PluginFault>) -> Next {
    let is_taken = matches!(result, Sent::Mail(Ok(reply)) if reply.is_accepted());
    match step.map(Wanted::from) {
        Ok(Wanted::Send(_) | Wanted::End(Outcome::Retry { .. })) if is_taken => {
            let what = "it would go on with a message whose mail a relay has taken".to_owned();
            Next::taken(Some(PluginFault::InvalidOutput(what)))
        }
        Ok(Wanted::Send(outbound)) if round < MAX_ROUNDS => Next::Send(outbound),
        Ok(Wanted::Send(_)) => {
            let fault = PluginFault::InvalidOutput(format!("more than {MAX_ROUNDS} requests for one message"));
            Next::End { end: End::Outcome(outcome_of(&fault)), wrong: Some(fault) }
        }
        Ok(Wanted::End(outcome)) => Next::end(outcome),
        Err(fault) if is_taken => {
            tracing::warn!(%fault, "the answer of a relay that took a mail was not read; the mail counts as accepted");
            Next::taken(None)
        }
        // The request has left and nobody can say what its answer means: a repeat could be a second message.
        Err(fault) => match outcome_of(&fault) {
            Outcome::Permanent { reason } => {
                Next::end(Outcome::Permanent { reason: format!("reading the answer: {reason}") })
            }
            Outcome::Retry { .. } if idempotence == Idempotence::NotIdempotent && !is_mail_refused(result, round) => {
                tracing::warn!(%fault, "an answer was not read; whether its message was taken is unknown");
                Next::End { end: End::CutOff, wrong: None }
            }
            other => Next::end(other),
        },
    }
}

/// Whether a message consists of one mail, and no relay has that: a repeat is the first that arrives.
fn is_mail_refused(result: &Sent, round: u32) -> bool {
    let is_refused = match result {
        Sent::Mail(Ok(reply)) => !reply.is_accepted(),
        Sent::Mail(Err(failure)) => !matches!(failure, SendFailure::Unknown(_)),
        Sent::Request(_) => false,
    };
    is_refused && round == 1
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

#[cfg(test)]
mod tests {
    use kith_model::plugin::TimeSpent;
    use kith_model::sending::{InboundResponse, MailReply, OutboundRequest};

    use super::*;

    fn relay_says(code: u16) -> Sent {
        Sent::Mail(Ok(MailReply { code, enhanced: None, text: String::new() }))
    }

    fn read(result: &Sent, step: Result<Step, PluginFault>) -> Next {
        next(result, Idempotence::NotIdempotent, 1, step)
    }

    fn late() -> PluginFault {
        PluginFault::DeadlineExceeded { limit_ms: 1, spent: TimeSpent::WaitingForPeers }
    }

    fn retry() -> Step {
        Step::Done(Outcome::Retry { after_ms: None, reason: "again".into() })
    }

    /// A mail that a relay had taken was sent again where the plugin's call failed, or the plugin asked for it.
    #[test]
    fn a_mail_that_a_relay_has_taken_is_not_sent_again() {
        let trap = PluginFault::Trapped { message: "panicked".into(), backtrace: vec![] };
        for fault in [late(), PluginFault::Unavailable("busy".into()), trap] {
            assert_eq!(read(&relay_says(250), Err(fault)), Next::taken(None));
        }
        let (mail, request) = (Step::Mail(Box::default()), Step::Send(OutboundRequest::default()));
        for step in [retry(), mail, request] {
            let Next::End { end, wrong } = read(&relay_says(250), Ok(step.clone())) else { panic!("{step:?}") };
            assert_eq!(end, End::Outcome(Outcome::Accepted { provider_id: None }), "{step:?}");
            assert!(matches!(wrong, Some(PluginFault::InvalidOutput(_))), "{step:?}");
        }
        let delivered = Outcome::Delivered { provider_id: Some("7".into()) };
        assert_eq!(read(&relay_says(250), Ok(Step::Done(delivered.clone()))), Next::end(delivered));
    }

    #[test]
    fn an_answer_that_nobody_reads_is_tried_again_only_where_that_doubles_nothing() {
        let response = InboundResponse { status: 200, headers: vec![], body: vec![], truncated: false };
        let answered = Sent::Request(Ok(response));
        let is_retried = |next: &Next| matches!(next, Next::End { end: End::Outcome(Outcome::Retry { .. }), .. });
        assert_eq!(read(&answered, Err(late())), Next::End { end: End::CutOff, wrong: None });
        assert!(is_retried(&next(&answered, Idempotence::Idempotent, 1, Err(late()))));
        let unreachable = Sent::Mail(Err(SendFailure::Connection("refused".into())));
        for refused in [relay_says(451), unreachable] {
            assert!(is_retried(&read(&refused, Err(late()))) && is_retried(&read(&refused, Ok(retry()))), "{refused}");
            // What the first request of the message did is not known any more.
            let second = next(&refused, Idempotence::NotIdempotent, 2, Err(late()));
            assert_eq!(second, Next::End { end: End::CutOff, wrong: None });
        }
    }
}
