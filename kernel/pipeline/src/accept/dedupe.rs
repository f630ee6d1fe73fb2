//! Messages seen before: per source and message id, for seven days, recorded in the same commit as the message's effect.

use std::collections::HashMap;

use fastbloom::BloomFilter;
use kith_model::id::WorkspaceId;
use kith_model::time::{DAY_MS, Timestamp};
use kith_store::{Key, Operation, ReadError, Store};
use xxhash_rust::xxh3::xxh3_128;

use super::Submission;

/// For how long a repeat is recognised.
pub(crate) const WINDOW_DAYS: u32 = 7;

/// Messages that one filter holds before the next is begun: 1.2 MB at one false alarm in a hundred.
const FILTER_ITEMS: usize = 1 << 20;

/// Whether a message came before.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Seen {
    Never,
    /// The same message.
    Same,
    /// A different one with the same id.
    Other,
}

/// One workspace's memory of messages. Filters answer most of the "never" without a look into the store.
pub(crate) struct SeenMessages {
    filters: Vec<(BloomFilter, usize)>,
    /// Day, source and hash of the id → digest of the content, of the group under construction.
    pending: HashMap<Key, u64>,
    today: u32,
    expired: Vec<Key>,
}

fn day_of(time: Timestamp) -> u32 {
    u32::try_from(time.0.div_euclid(DAY_MS)).unwrap_or(0)
}

/// What the filters hold of a key: all but the day.
fn without_day(key: &Key) -> &[u8] {
    let bytes = key.as_bytes();
    &bytes[bytes.len().saturating_sub(20)..]
}

impl SeenMessages {
    /// Read the window's messages into filters.
    pub(crate) fn open(store: &dyn Store, workspace: WorkspaceId, now: Timestamp) -> Result<SeenMessages, ReadError> {
        let mut seen =
            SeenMessages { filters: Vec::new(), pending: HashMap::new(), today: day_of(now), expired: Vec::new() };
        let mut range = Key::dedupe_days(workspace, None).range();
        let oldest = Key::dedupe_days(workspace, Some(seen.today.saturating_sub(WINDOW_DAYS)));
        loop {
            let page = store.scan(&range, 4096)?;
            for (key, _) in &page.rows {
                if *key < oldest {
                    seen.expired.push(key.clone());
                } else {
                    seen.remember(key);
                }
            }
            match page.next {
                Some(next) => range.from = next,
                None => return Ok(seen),
            }
        }
    }

    fn remember(&mut self, key: &Key) {
        if self.filters.last().is_none_or(|(_, held)| *held >= FILTER_ITEMS) {
            let filter = BloomFilter::with_false_pos(0.01).seed(&0x6b69_7468).expected_items(FILTER_ITEMS);
            self.filters.push((filter, 0));
        }
        if let Some((filter, held)) = self.filters.last_mut() {
            filter.insert(without_day(key));
            *held += 1;
        }
    }

    /// Whether the source sent this message before; a new one is remembered with the group.
    pub(crate) fn look(
        &mut self,
        store: &dyn Store,
        submission: &Submission,
        message_id: &str,
        digest: u64,
    ) -> Result<Seen, ReadError> {
        let day = day_of(submission.received_at);
        let hash = xxh3_128(message_id.as_bytes());
        let key = |day| Key::dedupe(submission.workspace, day, submission.source, hash);
        let today = key(day);
        let verdict = |held: u64| if held == digest { Seen::Same } else { Seen::Other };
        if let Some(held) = self.pending.get(&today) {
            return Ok(verdict(*held));
        }
        if self.filters.iter().any(|(filter, _)| filter.contains(without_day(&today))) {
            let days: Vec<Key> = (day.saturating_sub(WINDOW_DAYS)..=day).map(key).collect();
            let found = store.get(&days)?.into_iter().flatten().next_back();
            if let Some(value) = found {
                let held = value.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| ReadError::Corrupt {
                    what: format!("the record of message `{message_id}`"),
                    problem: format!("{} bytes where 8 belong", value.len()),
                })?;
                return Ok(verdict(held));
            }
        }
        self.expire(store, submission.workspace, day)?;
        self.pending.insert(today, digest);
        Ok(Seen::Never)
    }

    /// On a new day, forget the day that left the window.
    fn expire(&mut self, store: &dyn Store, workspace: WorkspaceId, day: u32) -> Result<(), ReadError> {
        if day <= self.today {
            return Ok(());
        }
        let now = Timestamp(i64::from(day) * DAY_MS);
        let pending = std::mem::take(&mut self.pending);
        *self = SeenMessages { pending, ..SeenMessages::open(store, workspace, now)? };
        Ok(())
    }

    /// The rows of the group.
    pub(crate) fn write(&mut self, operations: &mut Vec<Operation>) {
        operations
            .extend(self.pending.iter().map(|(key, digest)| Operation::Put(key.clone(), digest.to_be_bytes().into())));
        operations.extend(self.expired.iter().take(4096).cloned().map(Operation::Delete));
    }

    /// The group is durable.
    pub(crate) fn committed(&mut self) {
        let pending = std::mem::take(&mut self.pending);
        pending.keys().for_each(|key| self.remember(key));
        self.expired.drain(..self.expired.len().min(4096));
    }

    /// The group was not committed.
    pub(crate) fn forget_pending(&mut self) {
        self.pending.clear();
    }
}
