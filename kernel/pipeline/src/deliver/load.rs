//! What one channel's sender has in its hands, and how much more it may take.

use std::collections::{HashMap, HashSet};
use std::sync::Arc;

use kith_model::sending::SendingLimits;
use kith_store::JobId;

use super::sending::Outgoing;

/// Messages that wait in line for a host, as a multiple of what may be under way: they hold memory and nothing else.
const LINE_FACTOR: usize = 4;

/// What a sender has in its hands.
#[derive(Default)]
pub(super) struct Load {
    /// Claimed and not yet committed.
    pub under_way: HashMap<JobId, Arc<Outgoing>>,
    /// Of these, the ones whose end is being committed. Each message has one end: a cut-off beside an outcome would put back into
    /// the outbox what has been delivered.
    ending: HashSet<JobId>,
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
    /// Take over the end of a message; `false` where somebody else has, or the message is not under way any more.
    pub(super) fn begin_end(&mut self, id: &JobId) -> bool {
        self.under_way.contains_key(id) && self.ending.insert(*id)
    }

    /// Take over the ends of all messages that nobody else ends.
    pub(super) fn begin_all_ends(&mut self) -> Vec<Arc<Outgoing>> {
        let Load { under_way, ending, .. } = self;
        under_way.values().filter(|one| ending.insert(one.id)).cloned().collect()
    }

    /// A message is in nobody's hands any more.
    pub(super) fn remove(&mut self, id: &JobId) {
        self.under_way.remove(id);
        self.ending.remove(id);
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

    /// How many more messages may be claimed.
    pub(super) fn room(&self, limits: SendingLimits) -> usize {
        let in_memory = (1 + LINE_FACTOR) * limits.messages_at_once;
        let free = limits.messages_at_once.saturating_sub(self.active() + self.next_in_turn);
        free.min(in_memory.saturating_sub(self.under_way.len())).min(limits.requests_per_host)
    }
}
