//! What one channel's sender has in its hands, and how much more it may take.

use std::collections::HashMap;
use std::sync::Arc;

use kith_model::sending::SendingLimits;
use kith_store::JobId;

use super::sending::Outgoing;

/// Messages that wait in line for a host, as a multiple of what may be under way: they hold memory and nothing else.
const LINE_FACTOR: usize = 4;

/// Past this many bytes of messages and requests nothing is claimed. One channel's share of the memory, whatever its limits.
const MAX_BYTES: usize = 64 << 20;

/// What a message that is still to be claimed is counted as: its payload as it is stored and filled in.
const EXPECTED_BYTES: usize = 128 << 10;

/// A message in the sender's hands.
struct HeldMessage {
    outgoing: Arc<Outgoing>,
    /// Of the request that it has under way or that waits for its host.
    request_bytes: usize,
    /// Its end is being committed. Each message has one end: a cut-off beside an outcome would put back into the outbox what has
    /// been delivered.
    is_ending: bool,
}

impl Outgoing {
    /// What it takes in memory.
    fn bytes(&self) -> usize {
        let inputs = self.message.inputs.iter().map(|(name, value)| name.len() + value.len()).sum::<usize>();
        let payloads = self.row.payload.len() + self.message.payload.len();
        size_of::<Outgoing>() + payloads + inputs + self.grounds.size_bytes()
    }
}

impl HeldMessage {
    fn bytes(&self) -> usize {
        self.outgoing.bytes() + self.request_bytes
    }
}

/// What a sender has in its hands.
#[derive(Default)]
pub(super) struct Load {
    /// Claimed and not yet committed.
    under_way: HashMap<JobId, HeldMessage>,
    /// Of all of them together.
    bytes: usize,
    /// Of these, how many wait for a host that is busy.
    pub in_line: usize,
    /// Of these, how many have found their host free again and wait until the channel may have another message under way. They
    /// come before what is still in the outbox.
    pub next_in_turn: usize,
    /// On their way back to the outbox. They are no longer under way: as soon as their return is committed they may be claimed
    /// again, and that claim must not take them for messages that are.
    pub returning: usize,
}

impl Load {
    /// A message was claimed and may leave.
    pub(super) fn take(&mut self, outgoing: Arc<Outgoing>) {
        let id = outgoing.id;
        let held = HeldMessage { outgoing, request_bytes: 0, is_ending: false };
        self.bytes += held.bytes();
        let before = self.under_way.insert(id, held);
        debug_assert!(before.is_none(), "what is under way is not claimed again");
        self.bytes -= before.map_or(0, |before| before.bytes());
    }

    /// A message that is under way has a request of that size.
    pub(super) fn weigh(&mut self, id: &JobId, request_bytes: usize) {
        if let Some(held) = self.under_way.get_mut(id) {
            self.bytes = self.bytes + request_bytes - held.request_bytes;
            held.request_bytes = request_bytes;
        }
    }

    /// Take over the end of a message; `false` where somebody else has, or the message is not under way any more.
    pub(super) fn begin_end(&mut self, id: &JobId) -> bool {
        self.under_way.get_mut(id).is_some_and(|held| !std::mem::replace(&mut held.is_ending, true))
    }

    /// Take over the ends of all messages that nobody else ends.
    pub(super) fn begin_all_ends(&mut self) -> Vec<Arc<Outgoing>> {
        let rest = self.under_way.values_mut().filter(|held| !held.is_ending);
        rest.map(|held| {
            held.is_ending = true;
            Arc::clone(&held.outgoing)
        })
        .collect()
    }

    /// A message is in nobody's hands any more.
    pub(super) fn remove(&mut self, id: &JobId) {
        self.bytes -= self.under_way.remove(id).map_or(0, |held| held.bytes());
    }

    pub(super) fn has(&self, id: &JobId) -> bool {
        self.under_way.contains_key(id)
    }

    /// How many messages are claimed and not yet committed.
    pub(super) fn under_way(&self) -> usize {
        self.under_way.len()
    }

    /// Messages that count against the channel's limit. Of a removed channel those in line may have been cut off before they
    /// leave it.
    fn active(&self) -> usize {
        self.under_way.len().saturating_sub(self.in_line)
    }

    /// Whether another message may leave its line and be under way.
    pub(super) fn has_turn(&self, limits: SendingLimits) -> bool {
        self.active() < limits.messages_at_once
    }

    /// Whether no more may be held in memory.
    pub(super) fn is_full(&self) -> bool {
        self.bytes >= MAX_BYTES
    }

    /// How many more messages may be claimed.
    pub(super) fn room(&self, limits: SendingLimits) -> usize {
        let in_memory = (1 + LINE_FACTOR) * limits.messages_at_once;
        let free = limits.messages_at_once.saturating_sub(self.active() + self.next_in_turn);
        let expected = MAX_BYTES.saturating_sub(self.bytes).div_ceil(EXPECTED_BYTES);
        free.min(in_memory.saturating_sub(self.under_way.len())).min(limits.requests_per_host).min(expected)
    }
}
