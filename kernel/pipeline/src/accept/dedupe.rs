//! Messages seen before: per source and message id, for seven days, recorded in the same commit as the message's effect.

use std::collections::HashMap;
use std::sync::Arc;

use kith_model::id::WorkspaceId;
use kith_model::time::{DAY_MS, Timestamp};
use kith_store::{Key, KeyRange, Operation, ReadError, Store};
use xxhash_rust::xxh3::xxh3_128;

use super::Submission;
use super::never_seen::NeverSeen;

/// For how long a repeat is recognised.
pub(crate) const WINDOW_DAYS: u32 = 7;

/// Messages that one filter holds before the next is begun: 1.2 MB at one false alarm in a hundred.
const FILTER_ITEMS: usize = 1 << 20;

/// Rows out of the window that one commit deletes beside its own.
const MAX_EXPIRED_ROWS: usize = 4096;

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
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    filters: NeverSeen,
    /// Day, source and hash of the id → digest of the content, of the group under construction.
    pending: HashMap<Key, u64>,
    today: u32,
    /// Where rows may lie whose day has left the window.
    expired: Option<KeyRange>,
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
    /// The messages of the window that ends at `now`.
    pub(crate) fn open(store: Arc<dyn Store>, workspace: WorkspaceId, now: Timestamp) -> SeenMessages {
        let today = day_of(now);
        let all = Key::dedupe_days(workspace, None).range();
        let oldest = Key::dedupe_days(workspace, Some(today.saturating_sub(WINDOW_DAYS)));
        let expired = Some(KeyRange { from: all.from, to: oldest.clone() });
        let window = KeyRange { from: oldest, to: all.to };
        let filters = NeverSeen::over(Arc::clone(&store), window, FILTER_ITEMS, without_day);
        SeenMessages { store, workspace, filters, pending: HashMap::new(), today, expired }
    }

    /// Whether the source sent this message before; a new one is remembered with the group.
    pub(crate) fn look(&mut self, submission: &Submission, message_id: &str, digest: u64) -> Result<Seen, ReadError> {
        let day = day_of(submission.received_at);
        let hash = xxh3_128(message_id.as_bytes());
        let key = |day| Key::dedupe(submission.workspace, day, submission.source, hash);
        let today = key(day);
        let verdict = |held: u64| if held == digest { Seen::Same } else { Seen::Other };
        if let Some(held) = self.pending.get(&today) {
            return Ok(verdict(*held));
        }
        if self.filters.may_be_stored(&today) {
            let days: Vec<Key> = (day.saturating_sub(WINDOW_DAYS)..=day).map(key).collect();
            let found = self.store.get(&days)?.into_iter().flatten().next_back();
            if let Some(value) = found {
                let held = value.as_ref().try_into().map(u64::from_be_bytes).map_err(|_| ReadError::Corrupt {
                    what: format!("the record of message `{message_id}`"),
                    problem: format!("{} bytes where 8 belong", value.len()),
                })?;
                return Ok(verdict(held));
            }
        }
        self.expire(day);
        self.pending.insert(today, digest);
        Ok(Seen::Never)
    }

    /// On a new day, forget the day that left the window.
    fn expire(&mut self, day: u32) {
        if day > self.today {
            let now = Timestamp(i64::from(day) * DAY_MS);
            let pending = std::mem::take(&mut self.pending);
            *self = SeenMessages { pending, ..SeenMessages::open(Arc::clone(&self.store), self.workspace, now) };
        }
    }

    /// The rows of the group, and the end of some that have expired.
    pub(crate) fn write(&mut self, operations: &mut Vec<Operation>) -> Result<(), ReadError> {
        operations
            .extend(self.pending.iter().map(|(key, digest)| Operation::Put(key.clone(), digest.to_be_bytes().into())));
        if let Some(range) = &self.expired {
            let page = self.store.scan(range, MAX_EXPIRED_ROWS)?;
            if page.rows.is_empty() {
                self.expired = None;
            }
            operations.extend(page.rows.into_iter().map(|(key, _)| Operation::Delete(key)));
        }
        Ok(())
    }

    /// The group is durable.
    pub(crate) fn committed(&mut self) {
        self.pending.drain().for_each(|(key, _)| self.filters.insert(&key));
    }

    /// The group was not committed.
    pub(crate) fn forget_pending(&mut self) {
        self.pending.clear();
    }
}
