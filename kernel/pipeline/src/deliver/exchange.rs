//! One request of one message: wait for its host, send it, hand over the answer. Each is a task of its own.

use std::sync::Arc;
use std::time::Duration;

use kith_model::budget::table;
use kith_model::delivery::Outcome;
use kith_model::plugin::PluginFault;
use kith_model::sending::{Outbound, OutboundMail, PureChannel, SendFailure, Sent, Step};
use kith_model::time::Timestamp;
use tokio::time::{Instant, timeout_at};

use super::Phase;
use super::answers::AnsweredRequest;
use super::claims;
use super::halving::{self, Verdict, outcome_of};
use super::hosts::{self, Admission, Line, Place, Signal, Slot, Slots, Target};
use super::receipts::{self, End, EndedAttempt};
use super::sending::{HELD_BACK_MS, Outgoing, Progress, Sender};
use crate::guests::{Caller, ExecutorStopped, GuestClass};
use crate::setup::Idempotence;

/// Messages in one call of a guest.
pub(super) const MAX_GUEST_BATCH: usize = 64;

/// An attempt with all its requests may take this long: less than its lease, so that nobody else takes it up meanwhile.
pub(super) const MAX_ATTEMPT: Duration = Duration::from_secs(100);

/// A mail's exchange ends so long before its attempt: it knows whether anything of the mail has left, and who cuts it off does not.
/// Its time begins only after it has waited for the look-up of its relay's name.
const MAIL_ENDS_BEFORE: Duration = Duration::from_secs(5);

/// What a call of a channel counts with that was removed meanwhile.
const CALL_MEMORY_BYTES: u64 = table::GUEST_MEMORY.default + table::GUEST_OUTPUT.default;

/// A message waits this long in line for a busy host before it goes back to the outbox.
const MAX_IN_LINE: Duration = Duration::from_secs(30);

/// What a step of a plugin comes to.
pub(super) enum Wanted {
    Send(Outbound),
    End(Outcome),
}

impl From<Step> for Wanted {
    fn from(step: Step) -> Wanted {
        match step {
            Step::Send(request) => Wanted::Send(Outbound::Request(request)),
            Step::Mail(mail) => Wanted::Send(Outbound::Mail(mail)),
            Step::Done(outcome) => Wanted::End(outcome),
        }
    }
}

/// Everything that a request needs on its way.
pub(super) struct Exchange {
    pub outgoing: Arc<Outgoing>,
    pub channel: Arc<dyn PureChannel>,
    pub idempotence: Idempotence,
    pub outbound: Outbound,
    /// Which request of the attempt it is, from 1.
    pub round: u32,
}

/// Let the plugin say what to send for each message, and start on it.
pub(super) async fn begin(
    sender: &Arc<Sender>,
    channel: &Arc<dyn PureChannel>,
    idempotence: Idempotence,
    passed: Vec<Arc<Outgoing>>,
) -> Progress {
    let mut progress = Progress::Crowded;
    if passed.is_empty() {
        return Progress::Made;
    }
    for batch in passed.chunks(MAX_GUEST_BATCH) {
        if sender.is_full() {
            // Their requests would be made only to wait in memory.
            let due_at = sender.now().plus_ms(HELD_BACK_MS);
            batch.iter().for_each(|outgoing| sender.hand_back(outgoing.id, due_at));
            continue;
        }
        let messages: Vec<_> = batch.iter().map(|outgoing| outgoing.message.clone()).collect();
        let guest = Arc::clone(channel);
        let steps = sender.guest(move || halving::call(&messages, &|messages| guest.requests(messages))).await;
        sender.judge(&steps.verdict);
        let is_broken = matches!(steps.verdict, Verdict::Fails { .. }) && batch.len() > 1;
        let mut ended = Vec::new();
        for (outgoing, step) in batch.iter().zip(steps.steps) {
            let outcome = match step.map(Wanted::from) {
                Ok(Wanted::Send(outbound)) => {
                    let (outgoing, channel) = (Arc::clone(outgoing), Arc::clone(channel));
                    let exchange = Exchange { outgoing, channel, idempotence, outbound, round: 1 };
                    if start(sender, exchange) == Progress::Made {
                        progress = Progress::Made;
                    }
                    continue;
                }
                Ok(Wanted::End(outcome)) => outcome,
                // Nothing was sent, so that a plugin that fails on everybody costs nobody the message.
                Err(fault) if is_broken => Outcome::Retry { after_ms: None, reason: fault.to_string() },
                Err(fault) => outcome_of(&fault),
            };
            progress = Progress::Made;
            ended.push(EndedAttempt { outgoing: Arc::clone(outgoing), end: End::Outcome(outcome), at: sender.now() });
        }
        if !ended.is_empty() {
            sender.end(ended);
        }
    }
    progress
}

/// Start a request: get in line for its host at once, so that the caller knows whether there is room.
pub(super) fn start(sender: &Arc<Sender>, exchange: Exchange) -> Progress {
    sender.weigh(&exchange.outgoing.id, exchange.outbound.bytes());
    let transport = exchange.channel.transport();
    let target = match &exchange.outbound {
        Outbound::Request(request) => transport.target(request),
        Outbound::Mail(mail) => transport.mail_target(mail),
    };
    let host = match target {
        Ok(host) => host,
        Err(failure) => {
            let result = exchange.outbound.failed(failure);
            exchange.answer(sender, result);
            return Progress::Made;
        }
    };
    let target = Target { workspace: sender.workspace(), host };
    let deliveries = &sender.shared.deliveries;
    let limit = sender.limits().requests_per_host;
    match deliveries.hosts.line_up(&target, sender.channel(), limit, sender.now()) {
        Place::InLine { slots, line } => {
            let free = slots.try_acquire();
            // What has to wait takes no place among the messages that are under way, so that more are claimed for other hosts.
            if free.is_none() {
                sender.join_line();
            }
            let sending = Arc::clone(sender);
            sender.shared.workers.task("exchange", sender.workspace(), async move {
                let entry = match free {
                    Some(slot) => enter(&sending, &target, slot),
                    None => wait_in_line(&sending, &exchange, &target, &slots).await,
                };
                match entry {
                    Entry::Go(slot) => depart(&sending, exchange, &target, slot).await,
                    Entry::Back { due_at } => exchange.go_back(&sending, due_at),
                }
            });
            if line == Line::Short { Progress::Made } else { Progress::Crowded }
        }
        Place::Away { until } => {
            exchange.go_back(sender, until);
            Progress::Crowded
        }
    }
}

/// What came of waiting.
enum Entry {
    Go(Slot),
    Back { due_at: Timestamp },
}

async fn wait_in_line(sender: &Sender, exchange: &Exchange, target: &Target, slots: &Slots) -> Entry {
    let mut phase = sender.phase();
    let until = exchange.outgoing.deadline.min(Instant::now() + MAX_IN_LINE);
    let slot = tokio::select! {
        slot = take_turn(sender, slots) => slot,
        _ = phase.wait_for(|phase| *phase != Phase::Running) => None,
        () = tokio::time::sleep_until(until) => None,
    };
    if let Some(slot) = slot {
        return enter(sender, target, slot);
    }
    let now = sender.now();
    let hosts = &sender.shared.deliveries.hosts;
    sender.leave_line();
    hosts.leave_line(target, sender.channel());
    let due_at = match hosts.paused_until(target, now) {
        _ if sender.is_stopping() => now,
        paused_until => paused_until.unwrap_or(now.plus_ms(HELD_BACK_MS)),
    };
    Entry::Back { due_at }
}

/// Wait until the host has a slot and the channel may have another message under way; the message has left its line then.
/// `None` where the host's circuit opened.
async fn take_turn(sender: &Sender, slots: &Slots) -> Option<Slot> {
    loop {
        let slot = slots.acquire().await?;
        let turn = sender.ask_for_turn();
        tokio::pin!(turn);
        if sender.try_leave_line() {
            return Some(slot);
        }
        // Another channel may use the slot meanwhile.
        drop(slot);
        let next_in_turn = sender.note_next_in_turn();
        turn.await;
        if let Some(slot) = slots.try_acquire()
            && sender.try_leave_line()
        {
            return Some(slot);
        }
        drop(next_in_turn);
    }
}

/// A message has its slot. Its channel may have been held, or its endpoint have gone, while it waited; or the kernel is to stop.
fn enter(sender: &Sender, target: &Target, slot: Slot) -> Entry {
    let hosts = &sender.shared.deliveries.hosts;
    let now = sender.now();
    if !sender.may_send() {
        hosts.leave_line(target, sender.channel());
        return Entry::Back { due_at: now };
    }
    match hosts.depart(target, &slot, now) {
        Admission::Go => Entry::Go(slot),
        Admission::Wait { until } => Entry::Back { due_at: until },
    }
}

/// Send a request that has its slot, unless its message may not leave any more. Where something of it has left already, the rest
/// follows.
async fn depart(sender: &Arc<Sender>, exchange: Exchange, target: &Target, slot: Slot) {
    if exchange.round > 1 || claims::may_still_leave(sender, &exchange.outgoing).await {
        send(sender, exchange, target, slot).await;
    } else {
        let now = sender.now();
        sender.shared.deliveries.hosts.arrive(target, slot, Some(Signal::Abandoned), "", now);
        exchange.go_back(sender, now);
    }
}

async fn send(sender: &Arc<Sender>, exchange: Exchange, target: &Target, slot: Slot) {
    let hosts = &sender.shared.deliveries.hosts;
    if exchange.is_told_first() && !receipts::begin(sender, &exchange.outgoing).await {
        hosts.arrive(target, slot, Some(Signal::Abandoned), "", sender.now());
        return;
    }
    let result = exchange.answer_of().await;
    hosts.arrive(target, slot, hosts::signal_of(&result), &result.to_string(), sender.now());
    match result.failure() {
        // Nothing left, and the reason is not the message's own. Of a channel that is not idempotent the attempt is on record.
        Some(SendFailure::Busy(_)) if exchange.idempotence == Idempotence::Idempotent => {
            exchange.go_back(sender, sender.now().plus_ms(HELD_BACK_MS));
        }
        // The plugin is not asked: nobody can know, and a repeat that it asked for could be a second mail.
        Some(SendFailure::Unknown(reason)) => {
            let message = &exchange.outgoing.message.id;
            tracing::warn!(channel = sender.channel().0, message, reason, "whether a mail was taken is unknown");
            sender.end(vec![EndedAttempt { outgoing: exchange.outgoing, end: End::CutOff, at: sender.now() }]);
        }
        _ => exchange.answer(sender, result),
    }
}

impl Exchange {
    /// Whether it is written down that the attempt begins, so that a crash leaves the delivery unknown and not due again.
    fn is_told_first(&self) -> bool {
        self.idempotence == Idempotence::NotIdempotent && self.round == 1
    }

    /// Send it, and wait for what comes of that as long as the attempt may take.
    async fn answer_of(&self) -> Sent {
        let transport = self.channel.transport();
        let late = || format!("the attempt took longer than {} s", MAX_ATTEMPT.as_secs());
        match &self.outbound {
            Outbound::Request(request) => {
                let answer = timeout_at(self.outgoing.deadline, transport.send(request.clone())).await;
                Sent::Request(answer.unwrap_or_else(|_| Err(SendFailure::Timeout(late()))))
            }
            // How far a mail had come is not known here.
            Outbound::Mail(mail) => {
                let left = self.outgoing.deadline.saturating_duration_since(Instant::now());
                let mail =
                    OutboundMail { timeout_ms: Some(mail_time_ms(mail.timeout_ms, left)), ..mail.as_ref().clone() };
                let reply = timeout_at(self.outgoing.deadline, transport.send_mail(mail)).await;
                Sent::Mail(reply.unwrap_or_else(|_| Err(SendFailure::Unknown(late()))))
            }
        }
    }

    fn answer(self, sender: &Sender, result: Sent) {
        let resume = self.outbound.resume().cloned();
        let Exchange { outgoing, channel, idempotence, round, .. } = self;
        sender.answer(AnsweredRequest { outgoing, channel, idempotence, round, resume, result });
    }

    /// The request does not leave now. A message of which nothing has left goes back to the outbox, its attempt not counted; of
    /// another the plugin decides, because its earlier requests would be repeated.
    fn go_back(self, sender: &Sender, due_at: Timestamp) {
        if self.round == 1 {
            sender.hand_back(self.outgoing.id, due_at);
        } else {
            let result = self.outbound.failed(SendFailure::Connection("the host is not tried now".to_owned()));
            self.answer(sender, result);
        }
    }
}

/// How long a mail's exchange may take of which the plugin asks for so much, where so much of its attempt is left.
fn mail_time_ms(asked: Option<u32>, left: Duration) -> u32 {
    let most = u32::try_from(left.saturating_sub(MAIL_ENDS_BEFORE).as_millis()).unwrap_or(u32::MAX);
    asked.map_or(most, |asked| asked.min(most))
}

impl Sender {
    /// Run a guest on the channels' threads, when one is free for it. Tasks that call this are dropped at a stop before the
    /// threads end, so that a call which never begins is waited for by nobody.
    pub(super) async fn guest<T: Send + 'static>(&self, call: impl FnOnce() -> T + Send + 'static) -> T {
        let setup = self.shared.workspace(self.workspace()).map(|known| Arc::clone(&known.compiled.load().setup));
        let installed = setup.as_ref().and_then(|setup| setup.installation(self.channel()));
        let caller = Caller {
            workspace: self.workspace(),
            installation: self.channel(),
            class: GuestClass::Channel,
            // What it sends is counted among the messages under way.
            bytes: 0,
            memory_bytes: installed.map_or(CALL_MEMORY_BYTES, |installed| installed.call_memory_bytes),
        };
        // Senders have fewer calls at once than may wait, so that none is turned away.
        match self.shared.guests.run(caller, call) {
            Ok(call) => match call.finish().await {
                Ok(answer) => answer,
                Err(ExecutorStopped) => std::future::pending().await,
            },
            Err(exhausted) => {
                tracing::error!(%exhausted, channel = self.channel().0, "a sender has too many calls waiting");
                std::future::pending().await
            }
        }
    }

    /// Count what a batch says about the plugin.
    pub(super) fn judge(&self, verdict: &Verdict) {
        match verdict {
            Verdict::Works => self.shared.forgive(self.workspace(), self.channel()),
            Verdict::Fails { fault } => self.strike(fault),
        }
    }

    pub(super) fn strike(&self, fault: &PluginFault) {
        self.shared.strike_call(self.workspace(), self.channel(), fault);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_exchange_of_a_mail_ends_before_its_attempt() {
        let seconds = Duration::from_secs;
        assert_eq!(mail_time_ms(None, seconds(70)), 65_000);
        assert_eq!(mail_time_ms(Some(10_000), seconds(70)), 10_000);
        assert_eq!(mail_time_ms(Some(60_000), seconds(30)), 25_000);
        assert_eq!(mail_time_ms(Some(60_000), seconds(3)), 0);
    }
}
