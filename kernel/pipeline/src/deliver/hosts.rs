//! The hosts that channels send to and polls fetch from: how many requests each may have at once, and whether it is tried at all.
//!
//! A host that fails again and again is left alone for a while, and its messages wait in the outbox without using up attempts.
//! That is the host's matter alone: other hosts go on, and the plugin is not to blame.

mod table;

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::sending::{InboundResponse, SendFailure, Sent};
use kith_model::time::Timestamp;
use parking_lot::Mutex;
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use crate::views::{HostState, HostView};
use table::Table;

/// So many failures in a row open the circuit.
const MAX_FAILURES: u32 = 5;

/// How long an opened circuit stays open the first time; it doubles with each failure after.
const FIRST_BACK_OFF_MS: i64 = 1_000;

/// No back-off is longer.
const MAX_BACK_OFF_MS: i64 = 300_000;

/// Beside a request that tries a host out, others wait this long before they ask again.
const TRIAL_MS: i64 = 1_000;

/// A message that finds a host's line full comes back after this long, and a second later for each line of messages that were
/// sent away before it: what waits for one slow host must not be looked at again and again.
const SENT_AWAY_MS: i64 = 2_000;

/// But not later than this.
const MAX_SENT_AWAY_MS: i64 = 60_000;

/// Whether a host is tried.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Circuit {
    /// It is; so many failures in a row came last.
    Closed { failures: u32 },
    /// It is left alone.
    Open { until: Timestamp, failures: u32 },
    /// One request tries it out.
    HalfOpen { failures: u32 },
}

/// What can happen to a circuit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Signal {
    /// A request wants to leave.
    Asked,
    /// The host answered.
    Answered,
    /// It did not, or it said that it cannot; `pause_ms` if it named a pause.
    Failed { pause_ms: Option<i64> },
    /// The request that tried it out did not leave after all.
    Abandoned,
}

/// What a request that asks is told.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Admission {
    Go,
    Wait { until: Timestamp },
}

/// A circuit after a signal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Transition {
    pub circuit: Circuit,
    /// Of interest to who asked.
    pub admission: Admission,
}

/// The circuit after `signal` at `now`.
pub(super) fn step(circuit: Circuit, signal: Signal, now: Timestamp) -> Transition {
    let go = |circuit| Transition { circuit, admission: Admission::Go };
    match (circuit, signal) {
        (Circuit::Open { until, failures }, Signal::Asked) if now >= until => go(Circuit::HalfOpen { failures }),
        (Circuit::Open { until, .. }, Signal::Asked) => Transition { circuit, admission: Admission::Wait { until } },
        (Circuit::HalfOpen { .. }, Signal::Asked) => {
            Transition { circuit, admission: Admission::Wait { until: now.plus_ms(TRIAL_MS) } }
        }
        (Circuit::Closed { .. }, Signal::Asked | Signal::Abandoned) => go(circuit),
        // An answer to a request that had left before the circuit opened shows as well that the host is there.
        (_, Signal::Answered) => go(Circuit::Closed { failures: 0 }),
        (Circuit::Closed { failures }, Signal::Failed { pause_ms }) => {
            let failures = failures.saturating_add(1);
            match pause_ms {
                None if failures < MAX_FAILURES => go(Circuit::Closed { failures }),
                _ => go(opened(failures, pause_ms, now)),
            }
        }
        (Circuit::HalfOpen { failures }, Signal::Failed { pause_ms }) => {
            go(opened(failures.saturating_add(1), pause_ms, now))
        }
        // Requests that left before the circuit opened fail one by one: they say nothing new.
        (Circuit::Open { .. }, Signal::Failed { .. } | Signal::Abandoned) => go(circuit),
        (Circuit::HalfOpen { failures }, Signal::Abandoned) => go(Circuit::Open { until: now, failures }),
    }
}

fn opened(failures: u32, pause_ms: Option<i64>, now: Timestamp) -> Circuit {
    let doublings = failures.saturating_sub(MAX_FAILURES).min(16);
    let back_off = (FIRST_BACK_OFF_MS << doublings).max(pause_ms.unwrap_or(0)).min(MAX_BACK_OFF_MS);
    Circuit::Open { until: now.plus_ms(back_off), failures }
}

/// What the end of a request says about its host; `None` if nothing.
pub(super) fn signal(result: &Result<InboundResponse, SendFailure>) -> Option<Signal> {
    match result {
        Ok(response) if response.status == 429 || response.status >= 500 => {
            Some(Signal::Failed { pause_ms: retry_after_ms(response) })
        }
        Ok(_) => Some(Signal::Answered),
        Err(failure) => signal_of_failure(failure),
    }
}

/// The same of what may be a mail: a relay that refuses one mail has answered, and one that closes its doors has not.
pub(super) fn signal_of(sent: &Sent) -> Option<Signal> {
    match sent {
        Sent::Request(result) => signal(result),
        Sent::Mail(Ok(reply)) if reply.is_closing() => Some(Signal::Failed { pause_ms: None }),
        Sent::Mail(Ok(_)) => Some(Signal::Answered),
        Sent::Mail(Err(failure)) => signal_of_failure(failure),
    }
}

fn signal_of_failure(failure: &SendFailure) -> Option<Signal> {
    match failure {
        SendFailure::Timeout(_) | SendFailure::Connection(_) | SendFailure::Unknown(_) => {
            Some(Signal::Failed { pause_ms: None })
        }
        SendFailure::Denied(_) | SendFailure::Busy(_) => None,
        // The head was too large to read, so a host was there to send it.
        SendFailure::TooLarge(_) => Some(Signal::Answered),
    }
}

/// `Retry-After` in seconds. Its other form, a date, is by the other side's clock; the back-off serves for it.
fn retry_after_ms(response: &InboundResponse) -> Option<i64> {
    let (_, value) = response.headers.iter().find(|(name, _)| name == "retry-after")?;
    let seconds: u32 = value.trim().parse().ok()?;
    Some(i64::from(seconds) * 1000)
}

/// One host of one workspace.
struct Host {
    circuit: Circuit,
    /// Why the circuit opened last.
    reason: Option<String>,
    /// Of all channels together. Its limit is the highest of theirs, so that many channels to one host are no more than one.
    all: Traffic,
    /// Of each channel that sends to it.
    channels: BTreeMap<InstallationId, Traffic>,
    /// When a request last got in line for it.
    used_at: Timestamp,
}

/// Requests to a host, and how many there may be.
struct Traffic {
    /// As many permits as requests may be under way.
    slots: Arc<Semaphore>,
    /// What is wanted of `slots`.
    limit: usize,
    /// Permits that are still out since the limit was lowered. They are taken back as their requests end.
    surplus: usize,
    under_way: usize,
    waiting: usize,
    /// About how many messages in the outbox were sent away from here.
    sent_away: usize,
}

/// Where a request goes.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Target {
    pub workspace: WorkspaceId,
    pub host: String,
}

/// The hosts that requests went to.
#[derive(Default)]
pub(crate) struct Hosts {
    table: Mutex<Table>,
}

/// A request's place in the line for its host.
pub(super) enum Place {
    /// Wait for `slots`, then ask [`Hosts::depart`].
    InLine { slots: Slots, line: Line },
    /// The host is not tried now, or as many wait as may.
    Away { until: Timestamp },
}

/// How many wait for a host.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Line {
    Short,
    /// As many as may be under way, so that more have time.
    Long,
}

impl Hosts {
    /// Get in line for a host, at which the channel may have `limit` requests. Every [`Place::InLine`] is to be followed by
    /// [`Hosts::depart`] or [`Hosts::leave_line`].
    pub(super) fn line_up(&self, target: &Target, channel: InstallationId, limit: usize, now: Timestamp) -> Place {
        let mut table = self.table.lock();
        let host = table.entry(target, || Host::new(limit), now);
        host.limit(channel, limit);
        let Host { circuit, all, channels, .. } = host;
        let own = channels.entry(channel).or_insert_with(|| Traffic::new(limit));
        own.sent_away = own.sent_away.saturating_sub(1);
        match *circuit {
            Circuit::Open { until, .. } if now < until => return own.send_away(until),
            Circuit::HalfOpen { .. } => return own.send_away(now.plus_ms(TRIAL_MS)),
            _ if own.lines() >= 3 || all.lines() >= 3 => return own.send_away(now.plus_ms(SENT_AWAY_MS)),
            Circuit::Open { .. } | Circuit::Closed { .. } => {}
        }
        own.waiting += 1;
        all.waiting += 1;
        let line = if own.lines() < 2 && all.lines() < 2 { Line::Short } else { Line::Long };
        Place::InLine { slots: Slots { channel, own: Arc::clone(&own.slots), all: Arc::clone(&all.slots) }, line }
    }

    /// A channel may have another number of requests at each of its hosts. Those who wait there are let go, or wait for it.
    pub(super) fn limit(&self, workspace: WorkspaceId, channel: InstallationId, limit: usize) {
        let mut table = self.table.lock();
        let used = table.of_workspace_mut(workspace).filter(|host| host.channels.contains_key(&channel));
        used.for_each(|host| host.limit(channel, limit));
    }

    /// A channel, or a source that polls, was removed.
    pub(crate) fn forget_channel(&self, workspace: WorkspaceId, channel: InstallationId) {
        self.table.lock().forget_channel(workspace, channel);
    }

    /// The workspace is no longer run.
    pub(super) fn forget_workspace(&self, workspace: WorkspaceId) {
        self.table.lock().forget_workspace(workspace);
    }

    /// Give up a place in line.
    pub(super) fn leave_line(&self, target: &Target, channel: InstallationId) {
        if let Some(host) = self.table.lock().get_mut(target) {
            host.traffic(channel).for_each(|traffic| traffic.waiting = traffic.waiting.saturating_sub(1));
        }
    }

    /// Until when a host is left alone, if it is.
    pub(super) fn paused_until(&self, target: &Target, now: Timestamp) -> Option<Timestamp> {
        self.table.lock().get(target)?.paused_until(now)
    }

    /// A request has its slot: may it go? Its place in line ends either way.
    pub(super) fn depart(&self, target: &Target, slot: &Slot, now: Timestamp) -> Admission {
        let mut table = self.table.lock();
        let Some(host) = table.get_mut(target) else { return Admission::Go };
        let Transition { circuit, admission } = step(host.circuit, Signal::Asked, now);
        for traffic in host.traffic(slot.channel) {
            traffic.waiting = traffic.waiting.saturating_sub(1);
            traffic.under_way += usize::from(admission == Admission::Go);
        }
        table.set_circuit(target, circuit);
        admission
    }

    /// A request that went has ended, or `Abandoned`, and gives its slot back.
    pub(super) fn arrive(&self, target: &Target, slot: Slot, signal: Option<Signal>, reason: &str, now: Timestamp) {
        let mut table = self.table.lock();
        let Some(host) = table.get_mut(target) else { return };
        for (traffic, permit) in host.traffic(slot.channel).zip([slot.all, slot.own]) {
            debug_assert!(traffic.under_way > 0, "only what departed arrives");
            traffic.under_way = traffic.under_way.saturating_sub(1);
            traffic.end(permit);
        }
        // A trial that says nothing about the host must not leave it half open for good.
        let signal = signal.unwrap_or(Signal::Abandoned);
        let before = host.circuit;
        let circuit = step(before, signal, now).circuit;
        match (before, circuit) {
            (Circuit::Closed { .. } | Circuit::HalfOpen { .. }, Circuit::Open { until, failures }) => {
                tracing::warn!(workspace = target.workspace.0, host = target.host, %until, failures, reason, "a receiving host is left alone");
                host.reason = Some(reason.to_owned());
                // Who waits in line is sent away at once: the requests before it may hang for as long as their time-outs.
                host.all.send_line_away();
                host.channels.values_mut().for_each(Traffic::send_line_away);
            }
            (Circuit::Open { .. } | Circuit::HalfOpen { .. }, Circuit::Closed { .. }) => {
                tracing::info!(workspace = target.workspace.0, host = target.host, "a receiving host answers again");
                host.reason = None;
            }
            _ => {}
        }
        let open = table.set_circuit(target, circuit);
        #[allow(clippy::cast_precision_loss, reason = "a metric")]
        metrics::gauge!("kith_sending_open_circuits").set(open as f64);
    }

    /// Whether so many wait for one of a channel's hosts that claiming more would find no room in the line.
    pub(super) fn is_crowded(&self, workspace: WorkspaceId, channel: InstallationId) -> bool {
        let table = self.table.lock();
        let mut of_workspace = table.of_workspace(workspace);
        of_workspace
            .any(|(_, host)| host.channels.get(&channel).is_some_and(|own| own.lines() >= 2 || host.all.lines() >= 2))
    }

    /// Every host of a workspace, once for each channel that sends to it.
    pub(crate) fn views(&self, workspace: WorkspaceId) -> Vec<HostView> {
        let table = self.table.lock();
        let of_workspace = table.of_workspace(workspace);
        of_workspace
            .flat_map(|(target, host)| host.channels.iter().map(|(channel, own)| host.view(target, *channel, own)))
            .collect()
    }
}

impl Host {
    fn new(limit: usize) -> Host {
        Host {
            circuit: Circuit::Closed { failures: 0 },
            reason: None,
            all: Traffic::new(limit),
            channels: BTreeMap::new(),
            used_at: Timestamp(0),
        }
    }

    /// Whether no request is under way to it or waits to be.
    fn is_idle(&self) -> bool {
        self.all.load() == 0
    }

    /// Until when it is left alone, if it is.
    fn paused_until(&self, now: Timestamp) -> Option<Timestamp> {
        match self.circuit {
            Circuit::Open { until, .. } if now < until => Some(until),
            _ => None,
        }
    }

    /// A channel sends nothing any more.
    fn forget(&mut self, channel: InstallationId) {
        self.channels.remove(&channel);
        if let Some(highest) = self.channels.values().map(|own| own.limit).max() {
            self.all.resize(highest);
        }
    }

    fn limit(&mut self, channel: InstallationId, limit: usize) {
        self.channels.entry(channel).or_insert_with(|| Traffic::new(limit)).resize(limit);
        self.all.resize(self.channels.values().map(|own| own.limit).max().unwrap_or(limit));
    }

    /// What a request of `channel` counts for, all first.
    fn traffic(&mut self, channel: InstallationId) -> impl Iterator<Item = &mut Traffic> {
        std::iter::once(&mut self.all).chain(self.channels.get_mut(&channel))
    }

    fn view(&self, target: &Target, channel: InstallationId, own: &Traffic) -> HostView {
        let (state, failures, paused_until) = match self.circuit {
            Circuit::Closed { failures } => (HostState::Closed, failures, None),
            Circuit::Open { until, failures } => (HostState::Open, failures, Some(until)),
            Circuit::HalfOpen { failures } => (HostState::HalfOpen, failures, None),
        };
        HostView {
            channel,
            host: target.host.clone(),
            under_way: own.under_way as u64,
            state,
            failures,
            paused_until,
            reason: self.reason.clone(),
        }
    }
}

impl Traffic {
    fn new(limit: usize) -> Traffic {
        Traffic { slots: Arc::new(Semaphore::new(limit)), limit, surplus: 0, under_way: 0, waiting: 0, sent_away: 0 }
    }

    /// Requests that are under way or wait to be: one that has just come counts before it has taken its permit.
    fn load(&self) -> usize {
        self.under_way + self.waiting
    }

    /// The load in multiples of what may be under way.
    fn lines(&self) -> usize {
        self.load() / self.limit.max(1)
    }

    fn send_away(&mut self, until: Timestamp) -> Place {
        let lines = i64::try_from(self.sent_away / self.limit.max(1)).unwrap_or(i64::MAX);
        self.sent_away += 1;
        Place::Away { until: until.plus_ms(lines.saturating_mul(1_000).min(MAX_SENT_AWAY_MS)) }
    }

    /// Take over a changed limit. Of a lower one, permits that are out are taken back as their requests end: those who wait
    /// would otherwise get them, one after the other, and the old limit stay in force for as long as there is a line.
    fn resize(&mut self, limit: usize) {
        if limit > self.limit {
            let more = limit - self.limit;
            let kept = more.min(self.surplus);
            self.surplus -= kept;
            self.slots.add_permits(more - kept);
        } else {
            let fewer = self.limit - limit;
            self.surplus += fewer - self.slots.forget_permits(fewer);
        }
        self.limit = limit;
    }

    /// A request has ended: its permit goes to the next, unless there are more than the limit.
    fn end(&mut self, permit: OwnedSemaphorePermit) {
        // One from before the circuit opened is of slots that nobody uses any more.
        if self.surplus > 0 && Arc::ptr_eq(permit.semaphore(), &self.slots) {
            self.surplus -= 1;
            permit.forget();
        }
    }

    /// Tell those who wait that they wait for nothing.
    fn send_line_away(&mut self) {
        self.slots.close();
        self.slots = Arc::new(Semaphore::new(self.limit));
        self.surplus = 0;
    }
}

/// What a request waits for. They are closed when the host's circuit opens.
pub(super) struct Slots {
    channel: InstallationId,
    own: Arc<Semaphore>,
    all: Arc<Semaphore>,
}

impl Slots {
    /// Wait for a slot; `None` where the host's circuit opened meanwhile. The channel's own comes first, so that what waits
    /// for that holds nothing that another channel could use.
    pub(super) async fn acquire(&self) -> Option<Slot> {
        let own = Arc::clone(&self.own).acquire_owned().await.ok()?;
        let all = Arc::clone(&self.all).acquire_owned().await.ok()?;
        Some(Slot { channel: self.channel, own, all })
    }

    /// A slot that is free now and that nobody waits for.
    pub(super) fn try_acquire(&self) -> Option<Slot> {
        let own = Arc::clone(&self.own).try_acquire_owned().ok()?;
        let all = Arc::clone(&self.all).try_acquire_owned().ok()?;
        Some(Slot { channel: self.channel, own, all })
    }
}

/// A request's permits. Dropping them lets the next one go.
pub(super) struct Slot {
    channel: InstallationId,
    own: OwnedSemaphorePermit,
    all: OwnedSemaphorePermit,
}

#[cfg(test)]
mod tests;
