//! Installations' own key-value state as rows of the store: the values, and beside them when those end that are kept for a time.

mod expired;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::atomic::{AtomicI64, Ordering};
use std::sync::{Arc, Weak};

use kith_host::{KeptKey, KeyPage, KeyQuery, KeyValue, KeyValueError, Setting, has_expired};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row, decode, encode};
use kith_store::{CommitError, Key, KeyRange, Operation, ReadError, Store, Unit, Value};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use expired::{AS_THE_CLOCK, NEVER, UNREAD};

/// Rows that are read at once to add up what an installation uses.
const SCAN_ROWS: usize = 256;

/// Rows that are read at once where each may have a value of 64 KiB.
const VALUE_ROWS: usize = 16;

/// Keys that are taken out in one commit; the values of as many are read to count them.
const REMOVED_KEYS: usize = 64;

/// A page of keys ends once it has looked through so much, each key counting as much as a row of the least size that is looked at.
const LOOKED_BYTES: usize = 1 << 20;
const LEAST_LOOKED_BYTES: usize = 1 << 10;

/// No key is longer; the store's keys are bounded.
const MAX_KEY_BYTES: usize = 256;

/// When what a key keeps ends.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
struct ExpiryRow {
    expires_at: Timestamp,
}

impl Row for ExpiryRow {
    const WHAT: &'static str = "the end of what a plugin keeps for a time";
    const OWNER: Owner = Owner::Catalogue;
    const VERSION: u8 = 1;
}

/// The states of all installations. One that is at work is there once, through all versions and configurations and for everybody
/// who asks for it: only so do what is compared and what is counted hold.
pub(crate) struct States {
    store: Arc<dyn Store>,
    at_work: Mutex<HashMap<(WorkspaceId, InstallationId), Weak<StoredState>>>,
}

impl States {
    pub(super) fn new(store: Arc<dyn Store>) -> States {
        States { store, at_work: Mutex::default() }
    }

    /// The state of an installation.
    pub(crate) fn of(&self, workspace: WorkspaceId, installation: InstallationId) -> Arc<StoredState> {
        let mut at_work = self.at_work.lock();
        if let Some(state) = at_work.get(&(workspace, installation)).and_then(Weak::upgrade) {
            return state;
        }
        at_work.retain(|_, state| state.strong_count() > 0);
        let state = Arc::new(StoredState {
            store: Arc::clone(&self.store),
            workspace,
            installation,
            used: Mutex::new(None),
            due: AtomicI64::new(UNREAD),
            passed: AtomicI64::new(AS_THE_CLOCK),
        });
        at_work.insert((workspace, installation), Arc::downgrade(&state));
        state
    }
}

/// What an installation keeps; what has expired counts until it is removed.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Used {
    pub(crate) keys: u64,
    /// Of keys and values.
    pub(crate) bytes: u64,
}

impl Used {
    fn of_one(key: &str, value: &[u8]) -> Used {
        Used { keys: 1, bytes: (key.len() + value.len()) as u64 }
    }

    fn and(self, other: Used) -> Used {
        Used { keys: self.keys + other.keys, bytes: self.bytes + other.bytes }
    }

    fn without(self, other: Used) -> Used {
        Used { keys: self.keys.saturating_sub(other.keys), bytes: self.bytes.saturating_sub(other.bytes) }
    }
}

/// What lies under a key.
struct Held {
    value: Value,
    expires_at: Option<Timestamp>,
}

/// The state of one installation.
pub(crate) struct StoredState {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    installation: InstallationId,
    /// What it uses, once that was added up; held from the look at what there is to the commit of what there shall be.
    used: Mutex<Option<Used>>,
    /// When something that it keeps ends next, or earlier; changed under the lock alone.
    due: AtomicI64,
    /// What [`expired::PassedRow`] says; changed under the lock alone, and before `due`.
    passed: AtomicI64,
}

impl StoredState {
    /// What it keeps.
    pub(crate) fn used(&self) -> Result<Used, KeyValueError> {
        self.counted(&mut self.used.lock())
    }

    /// Take out everything; what it was. Others get their turn between two commits, and what they write meanwhile goes or stays.
    pub(crate) fn clear(&self) -> (Used, Result<(), KeyValueError>) {
        let all = self.key("");
        let (mut range, mut cleared) = (all.range(), Used::default());
        loop {
            match self.clear_part(&all, &range) {
                Ok((part, next)) => {
                    cleared = cleared.and(part);
                    match next {
                        Some(next) => range.from = next,
                        None => return (cleared, Ok(())),
                    }
                }
                Err(error) => return (cleared, Err(error)),
            }
        }
    }

    fn clear_part(&self, all: &Key, range: &KeyRange) -> Result<(Used, Option<Key>), KeyValueError> {
        let mut used = self.used.lock();
        let page = self.store.scan(range, REMOVED_KEYS).map_err(unreadable)?;
        let keys: Vec<&str> = page.rows.iter().filter_map(|(key, _)| named(key, all)).collect();
        self.read_ahead()?;
        let is_over = page.next.is_none() && self.passed.load(Ordering::Acquire) != AS_THE_CLOCK;
        let passed = is_over.then(|| Operation::Delete(self.time_passed()));
        let taken = self.take_out(&mut used, &keys, passed.into_iter().collect())?;
        if is_over {
            self.passed.store(AS_THE_CLOCK, Ordering::Release);
        }
        Ok((taken, page.next))
    }

    fn key(&self, key: &str) -> Key {
        Key::plugin_state(self.workspace, self.installation, key)
    }

    fn expiry(&self, key: &str) -> Key {
        Key::plugin_expiry(self.workspace, self.installation, key)
    }

    fn expiry_at(&self, expires_at: Timestamp, key: &str) -> Key {
        Key::plugin_expiry_at(self.workspace, self.installation, expires_at, key)
    }

    /// What lies under some keys, expired or not.
    fn held(&self, keys: &[&str]) -> Result<Vec<Option<Held>>, KeyValueError> {
        // Read as of one moment, so that no value is judged by the end of another, also where nobody holds the lock.
        let rows: Vec<Key> = keys.iter().flat_map(|key| [self.expiry(key), self.key(key)]).collect();
        let rows = self.store.get(&rows).map_err(unreadable)?;
        let mut held = Vec::with_capacity(keys.len());
        for pair in rows.chunks(2) {
            held.push(match pair {
                [expiry, Some(value)] => {
                    let expires_at = expiry.as_deref().map(expires_at).transpose()?;
                    Some(Held { value: Arc::clone(value), expires_at })
                }
                _ => None,
            });
        }
        Ok(held)
    }

    fn held_by(&self, key: &str) -> Result<Option<Held>, KeyValueError> {
        Ok(self.held(&[key])?.pop().flatten())
    }

    /// What all keys and values come to.
    fn counted(&self, used: &mut Option<Used>) -> Result<Used, KeyValueError> {
        if let Some(used) = *used {
            return Ok(used);
        }
        let all = self.key("");
        let (mut range, mut sum) = (all.range(), Used::default());
        loop {
            let page = self.store.scan(&range, SCAN_ROWS).map_err(unreadable)?;
            let rows = page.rows.iter().filter_map(|(key, value)| Some(Used::of_one(named(key, &all)?, value)));
            sum = rows.fold(sum, Used::and);
            match page.next {
                Some(next) => range.from = next,
                None => break,
            }
        }
        *used = Some(sum);
        Ok(sum)
    }

    /// Take some keys out with what they keep, and do these operations in the same commit; what they kept.
    fn take_out(
        &self,
        used: &mut Option<Used>,
        keys: &[&str],
        mut operations: Vec<Operation>,
    ) -> Result<Used, KeyValueError> {
        let mut taken = Used::default();
        for (key, held) in keys.iter().zip(self.held(keys)?) {
            let Some(held) = held else { continue };
            taken = taken.and(Used::of_one(key, &held.value));
            operations.push(Operation::Delete(self.key(key)));
            operations.extend(self.expiry_moved(key, held.expires_at, None));
        }
        if !operations.is_empty() {
            let after = used.map(|before| before.without(taken));
            self.commit(used, operations, after)?;
        }
        Ok(taken)
    }

    /// What puts a key in its place in the order in which keys expire.
    fn expiry_moved(&self, key: &str, from: Option<Timestamp>, to: Option<Timestamp>) -> Vec<Operation> {
        if from == to {
            return Vec::new();
        }
        let gone = from.map(|from| Operation::Delete(self.expiry_at(from, key)));
        let row = match to {
            Some(expires_at) => Operation::Put(self.expiry(key), encode(&ExpiryRow { expires_at })),
            None => Operation::Delete(self.expiry(key)),
        };
        let placed = to.map(|to| Operation::Put(self.expiry_at(to, key), Vec::new()));
        gone.into_iter().chain([row]).chain(placed).collect()
    }

    fn commit(
        &self,
        used: &mut Option<Used>,
        operations: Vec<Operation>,
        after: Option<Used>,
    ) -> Result<(), KeyValueError> {
        // Whether a write that failed is there or not is read from the rows.
        *used = None;
        let unit = Unit { operations, ..Unit::default() };
        self.store.commit(unit).map_err(|error: CommitError| {
            tracing::warn!(%error, "a plugin's state was not kept");
            KeyValueError::Unavailable("the store takes nothing for now".to_owned())
        })?;
        *used = after;
        Ok(())
    }

    /// What a key keeps now. What has expired is taken out, because it is never to be there again, whatever the clock says then.
    fn present(&self, used: &mut Option<Used>, key: &str, now: Timestamp) -> Result<Option<Held>, KeyValueError> {
        match self.held_by(key)? {
            Some(held) if has_expired(held.expires_at, now) => {
                self.take_out(used, &[key], Vec::new())?;
                Ok(None)
            }
            held => Ok(held),
        }
    }

    /// When what some keys keep ends.
    fn expiries(&self, keys: &[&str]) -> Result<Vec<Option<Timestamp>>, KeyValueError> {
        let rows: Vec<Key> = keys.iter().map(|key| self.expiry(key)).collect();
        let rows = self.store.get(&rows).map_err(unreadable)?;
        rows.into_iter().map(|row| row.as_deref().map(expires_at).transpose()).collect()
    }

    /// A part of the keys.
    fn listed(&self, query: KeyQuery<'_>, now: Timestamp) -> Result<KeyPage, KeyValueError> {
        let all = self.key("");
        let mut range = self.key(query.prefix).range();
        if let Some(after) = query.after {
            range.from = range.from.max(self.key(after).followed_by(&[0]));
        }
        let (mut listed, mut looked, mut last) = (KeyPage::default(), 0, None);
        while range.from < range.to {
            let page = self.store.scan(&range, VALUE_ROWS).map_err(unreadable)?;
            let rows: Vec<(&str, &Value)> =
                page.rows.iter().filter_map(|(row, value)| Some((named(row, &all)?, value))).collect();
            let keys: Vec<&str> = rows.iter().map(|(key, _)| *key).collect();
            for ((key, value), expires_at) in rows.iter().zip(self.expiries(&keys)?) {
                if listed.keys.len() >= query.limit || looked >= LOOKED_BYTES {
                    listed.next = last.take();
                    range.from = range.to.clone();
                    break;
                }
                looked += (key.len() + value.len()).max(LEAST_LOOKED_BYTES);
                last = Some((*key).to_owned());
                if !has_expired(expires_at, now) {
                    let value_bytes = value.len() as u64;
                    listed.keys.push(KeptKey { key: (*key).to_owned(), value_bytes, expires_at });
                }
            }
            match page.next {
                Some(next) => range.from = range.from.max(next),
                None => break,
            }
        }
        Ok(listed)
    }
}

/// The plugin's key of a row among `all` of its state.
fn named<'a>(row: &'a Key, all: &Key) -> Option<&'a str> {
    str::from_utf8(row.strip(all)?).ok()
}

fn expires_at(row: &[u8]) -> Result<Timestamp, KeyValueError> {
    decode::<ExpiryRow>(row).map(|row| row.expires_at).map_err(unreadable)
}

fn check_key(key: &str) -> Result<(), KeyValueError> {
    if key.is_empty() || key.len() > MAX_KEY_BYTES {
        return Err(KeyValueError::Unavailable(format!("a key has 1 to {MAX_KEY_BYTES} bytes")));
    }
    Ok(())
}

fn unreadable(error: ReadError) -> KeyValueError {
    tracing::error!(%error, "a plugin's state does not read");
    KeyValueError::Unavailable("the store does not read for now".to_owned())
}

impl KeyValue for StoredState {
    fn get(&self, key: &str, now: Timestamp) -> Result<Option<Vec<u8>>, KeyValueError> {
        if self.due.load(Ordering::Acquire) <= self.judged(now).0 {
            self.settle(&mut self.used.lock(), now)?;
        }
        let judged = self.judged(now);
        let held = self.held_by(key)?.filter(|held| !has_expired(held.expires_at, judged));
        Ok(held.map(|held| held.value.to_vec()))
    }

    fn set(&self, setting: Setting<'_>, now: Timestamp) -> Result<bool, KeyValueError> {
        let Setting { key, value, expires_at, expected, quota_bytes } = setting;
        check_key(key)?;
        let mut used = self.used.lock();
        // What is kept from now on ends by the clock as it is now: nothing may be left that ended before it was set back.
        while self.settle(&mut used, now)? && now < self.judged(now) {}
        let held = self.present(&mut used, key, now)?;
        if !expected.is_met_by(held.as_ref().map(|held| &*held.value)) {
            return Ok(false);
        }
        // Nothing is written where nothing changes.
        if held.as_ref().is_some_and(|held| *held.value == *value && held.expires_at == expires_at) {
            return Ok(true);
        }
        let before = held.as_ref().map_or_else(Used::default, |held| Used::of_one(key, &held.value));
        let with_it = |used: Used| used.without(before).and(Used::of_one(key, &value));
        let mut after = with_it(self.counted(&mut used)?);
        while after.bytes > quota_bytes && self.take_out_due(&mut used, now)? > 0 {
            after = with_it(self.counted(&mut used)?);
        }
        if after.bytes > quota_bytes {
            return Err(KeyValueError::Quota { quota_bytes });
        }
        let mut operations = self.expiry_moved(key, held.and_then(|held| held.expires_at), expires_at);
        operations.push(Operation::Put(self.key(key), value));
        // Before it is there: one that is there too early is looked for in vain.
        self.due.fetch_min(expires_at.map_or(NEVER, |expires_at| expires_at.0), Ordering::AcqRel);
        self.commit(&mut used, operations, Some(after))?;
        Ok(true)
    }

    fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.take_out(&mut self.used.lock(), &[key], Vec::new()).map(drop)
    }

    fn list(&self, query: KeyQuery<'_>, now: Timestamp) -> Result<KeyPage, KeyValueError> {
        let mut used = self.used.lock();
        self.settle(&mut used, now)?;
        self.listed(query, self.judged(now))
    }
}

/// The state of an installation as the version beside its live one has it: it reads what the live one wrote, and what it writes
/// goes nowhere. Each write is answered as if it were made to what the live one wrote, but for the quota, which it uses nothing of.
pub(super) struct SeenState(pub(super) Arc<StoredState>);

impl SeenState {
    /// The time by which what is there is judged, also before the live one was asked for anything.
    fn judged(&self, now: Timestamp) -> Result<Timestamp, KeyValueError> {
        let is_read = self.0.due.load(Ordering::Acquire) != UNREAD;
        Ok(if is_read { self.0.judged(now) } else { Timestamp(self.0.stored_passed()?.max(now.0)) })
    }
}

impl KeyValue for SeenState {
    fn get(&self, key: &str, now: Timestamp) -> Result<Option<Vec<u8>>, KeyValueError> {
        // What has expired is not taken out: that is a write.
        let judged = self.judged(now)?;
        let held = self.0.held_by(key)?.filter(|held| !has_expired(held.expires_at, judged));
        Ok(held.map(|held| held.value.to_vec()))
    }

    fn set(&self, setting: Setting<'_>, now: Timestamp) -> Result<bool, KeyValueError> {
        check_key(setting.key)?;
        let held = self.get(setting.key, now)?;
        Ok(setting.expected.is_met_by(held.as_deref()))
    }

    fn delete(&self, _: &str) -> Result<(), KeyValueError> {
        Ok(())
    }

    fn list(&self, query: KeyQuery<'_>, now: Timestamp) -> Result<KeyPage, KeyValueError> {
        // Without the lock, for which the live one would wait: what changes meanwhile may be listed as it was or as it is.
        self.0.listed(query, self.judged(now)?)
    }
}
