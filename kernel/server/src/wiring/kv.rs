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
    /// Held from the look at the quota to the commit.
    writing: Mutex<()>,
}

impl StoredState {
    pub(super) fn new(store: Arc<dyn Store>, workspace: WorkspaceId, installation: InstallationId) -> StoredState {
        StoredState { store, workspace, installation, writing: Mutex::new(()) }
    }

    fn key(&self, key: &str) -> Key {
        Key::plugin_state(self.workspace, self.installation, key)
    }

    /// Bytes of all keys and values but `except`.
    fn used_bytes(&self, except: &str) -> Result<usize, KeyValueError> {
        let prefix = self.key("");
        let (mut range, mut used) = (prefix.range(), 0);
        loop {
            let page = self.store.scan(&range, SCAN_ROWS).map_err(unreadable)?;
            let others = page.rows.iter().filter_map(|(key, value)| Some((key.strip(&prefix)?, value)));
            used += others
                .filter(|(key, _)| *key != except.as_bytes())
                .map(|(key, value)| key.len() + value.len())
                .sum::<usize>();
            match page.next {
                Some(next) => range.from = next,
                None => return Ok(used),
            }
        }
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
        if key.is_empty() || key.len() > MAX_KEY_BYTES {
            return Err(KeyValueError::Unavailable(format!("a key has 1 to {MAX_KEY_BYTES} bytes")));
        }
        let _writing = self.writing.lock();
        let used = self.used_bytes(key)? + key.len() + value.len();
        if used as u64 > quota_bytes {
            return Err(KeyValueError::Quota { quota_bytes });
        }
        self.commit(Operation::Put(self.key(key), value))
    }

    fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.commit(Operation::Delete(self.key(key)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
        one.delete("a").unwrap();
        assert_eq!(one.get("a").unwrap(), None);
        assert!(one.set(&"k".repeat(300), Vec::new(), 10_000).is_err());
    }
}
