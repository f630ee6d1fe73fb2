//! An installation's own key-value state as rows of the store.

use std::sync::Arc;

use kith_host::{KeyValue, KeyValueError};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::{CommitError, Key, Operation, ReadError, Store, Unit};
use parking_lot::Mutex;

/// Rows that are read at once to add up what an installation uses.
const SCAN_ROWS: usize = 256;

/// No key is longer; the store's keys are bounded.
const MAX_KEY_BYTES: usize = 256;

/// The state of one installation.
pub(super) struct StoredState {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    installation: InstallationId,
    /// Bytes of all keys and values, once they were added up; held from the look at the quota to the commit.
    used: Mutex<Option<u64>>,
}

impl StoredState {
    pub(super) fn new(store: Arc<dyn Store>, workspace: WorkspaceId, installation: InstallationId) -> StoredState {
        StoredState { store, workspace, installation, used: Mutex::new(None) }
    }

    fn key(&self, key: &str) -> Key {
        Key::plugin_state(self.workspace, self.installation, key)
    }

    /// Bytes of all keys and values.
    fn used_bytes(&self) -> Result<u64, KeyValueError> {
        let prefix = self.key("");
        let (mut range, mut used) = (prefix.range(), 0);
        loop {
            let page = self.store.scan(&range, SCAN_ROWS).map_err(unreadable)?;
            let rows = page.rows.iter().filter_map(|(key, value)| Some((key.strip(&prefix)?, value)));
            used += rows.map(|(key, value)| (key.len() + value.len()) as u64).sum::<u64>();
            match page.next {
                Some(next) => range.from = next,
                None => return Ok(used),
            }
        }
    }

    /// Change a key's value, or delete it; nothing is written where nothing changes.
    fn write(&self, key: &str, value: Option<Vec<u8>>, quota_bytes: u64) -> Result<(), KeyValueError> {
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(KeyValueError::Unavailable(format!("a key has 1 to {MAX_KEY_BYTES} bytes")));
        }
        let mut used = self.used.lock();
        let before = match *used {
            Some(used) => used,
            None => self.used_bytes()?,
        };
        *used = Some(before);
        let held = self.get(key)?;
        if held == value {
            return Ok(());
        }
        let size = |value: &Option<Vec<u8>>| value.as_ref().map_or(0, |value| (key.len() + value.len()) as u64);
        let after = before.saturating_sub(size(&held)) + size(&value);
        if after > quota_bytes && value.is_some() {
            return Err(KeyValueError::Quota { quota_bytes });
        }
        let key = self.key(key);
        // Whether a write that failed is there or not is read from the rows.
        *used = None;
        self.commit(value.map_or_else(|| Operation::Delete(key.clone()), |value| Operation::Put(key.clone(), value)))?;
        *used = Some(after);
        Ok(())
    }

    fn commit(&self, operation: Operation) -> Result<(), KeyValueError> {
        let unit = Unit { operations: vec![operation], ..Unit::default() };
        self.store.commit(unit).map(drop).map_err(|error: CommitError| {
            tracing::warn!(%error, "a plugin's state was not kept");
            KeyValueError::Unavailable("the store takes nothing for now".to_owned())
        })
    }
}

fn unreadable(error: ReadError) -> KeyValueError {
    tracing::error!(%error, "a plugin's state does not read");
    KeyValueError::Unavailable("the store does not read for now".to_owned())
}

impl KeyValue for StoredState {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        let mut rows = self.store.get(&[self.key(key)]).map_err(unreadable)?;
        Ok(rows.pop().flatten().map(|value| value.to_vec()))
    }

    fn set(&self, key: &str, value: Vec<u8>, quota_bytes: u64) -> Result<(), KeyValueError> {
        self.write(key, Some(value), quota_bytes)
    }

    fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.write(key, None, 0)
    }
}

/// The state of an installation as the version beside its live one has it: it reads what the live one wrote, and what it writes
/// goes nowhere.
pub(super) struct SeenState(pub(super) StoredState);

impl KeyValue for SeenState {
    fn get(&self, key: &str) -> Result<Option<Vec<u8>>, KeyValueError> {
        self.0.get(key)
    }

    fn set(&self, _: &str, _: Vec<u8>, _: u64) -> Result<(), KeyValueError> {
        Ok(())
    }

    fn delete(&self, _: &str) -> Result<(), KeyValueError> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shadow_reads_the_live_state_and_writes_none() {
        let store: Arc<dyn Store> = Arc::new(kith_store::memory());
        let state = || StoredState::new(Arc::clone(&store), WorkspaceId(1), InstallationId(1));
        state().set("a", b"1".to_vec(), 10).unwrap();
        let (shadow, head) = (SeenState(state()), store.head());
        shadow.set("a", b"2".to_vec(), 10).unwrap();
        shadow.set("b", b"3".to_vec(), 10).unwrap();
        shadow.delete("a").unwrap();
        assert_eq!((shadow.get("a").unwrap(), shadow.get("b").unwrap()), (Some(b"1".to_vec()), None));
        assert_eq!((state().get("a").unwrap(), store.head()), (Some(b"1".to_vec()), head));
    }

    #[test]
    fn each_installation_has_its_own_state_within_its_quota() {
        let store: Arc<dyn Store> = Arc::new(kith_store::memory());
        let one = StoredState::new(Arc::clone(&store), WorkspaceId(1), InstallationId(1));
        let other = StoredState::new(Arc::clone(&store), WorkspaceId(1), InstallationId(2));
        let foreign = StoredState::new(store, WorkspaceId(2), InstallationId(1));
        one.set("a", b"12345".to_vec(), 10).unwrap();
        assert_eq!(one.get("a").unwrap().as_deref(), Some(b"12345".as_slice()));
        assert_eq!((other.get("a").unwrap(), foreign.get("a").unwrap()), (None, None));
        assert_eq!(one.set("b", b"12345".to_vec(), 10), Err(KeyValueError::Quota { quota_bytes: 10 }));
        one.set("a", b"123456789".to_vec(), 10).expect("replacing counts the new value only");
        let written = || one.store.head();
        let head = written();
        one.set("a", b"123456789".to_vec(), 10).unwrap();
        one.delete("b").unwrap();
        assert_eq!(written(), head, "what changes nothing writes nothing");
        one.delete("a").unwrap();
        one.set("b", b"123456789".to_vec(), 10).expect("what was deleted counts no longer");
        assert_eq!(one.get("a").unwrap(), None);
        assert!(one.set(&"k".repeat(300), Vec::new(), 10_000).is_err());
    }
}
