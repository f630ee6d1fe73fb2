//! Responsible for what the host asks of an installation's own key-value state: the seam behind which it is kept, and a state that
//! lasts as long as the process.

use std::collections::BTreeMap;
use std::ops::Bound;

use kith_model::time::Timestamp;
use parking_lot::Mutex;

/// Why state could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum KeyValueError {
    #[error("over the quota of {quota_bytes} bytes")]
    Quota { quota_bytes: u64 },
    #[error("{0}")]
    Unavailable(String),
}

/// What has to be under a key for its value to be set.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Expected<'a> {
    /// Whatever there is.
    Anything,
    /// Nothing.
    Absent,
    /// Just these bytes.
    Value(&'a [u8]),
}

impl Expected<'_> {
    /// Whether what is there is what was expected.
    pub fn is_met_by(self, held: Option<&[u8]>) -> bool {
        match self {
            Expected::Anything => true,
            Expected::Absent => held.is_none(),
            Expected::Value(value) => held == Some(value),
        }
    }
}

/// A value to be kept under a key.
#[derive(Debug, Clone)]
pub struct Setting<'a> {
    pub key: &'a str,
    pub value: Vec<u8>,
    /// From when on it is absent, if ever.
    pub expires_at: Option<Timestamp>,
    pub expected: Expected<'a>,
    /// What all keys and values together may come to.
    pub quota_bytes: u64,
}

/// Which keys are asked for.
#[derive(Debug, Clone, Copy)]
pub struct KeyQuery<'a> {
    pub prefix: &'a str,
    /// Those that come after this one.
    pub after: Option<&'a str>,
    /// How many at most.
    pub limit: usize,
}

/// A part of the keys, in the order of their bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct KeyPage {
    pub keys: Vec<KeptKey>,
    /// After which key the next part begins; `None` at the end. A part may end with few keys, or none, and have one.
    pub next: Option<String>,
}

/// A key that is there, and what it keeps.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptKey {
    pub key: String,
    /// Of its value.
    pub value_bytes: u64,
    pub expires_at: Option<Timestamp>,
}

/// The durable state of one installation. Blocking; keys and values of one installation are seen by no other.
///
/// What has expired by `now` is absent. What was told to be absent is absent for later calls too, whatever time they have.
pub trait KeyValue: Send + Sync {
    /// The value under `key`.
    fn get(&self, key: &str, now: Timestamp) -> Result<Option<Vec<u8>>, KeyValueError>;
    /// Keep a value if what is there is what was expected, unless all keys and values together would then pass the quota; whether
    /// it was what was expected. Of several at once that expect the same, one finds it.
    fn set(&self, setting: Setting<'_>, now: Timestamp) -> Result<bool, KeyValueError>;
    /// Forget `key`.
    fn delete(&self, key: &str) -> Result<(), KeyValueError>;
    /// A part of the keys.
    fn list(&self, query: KeyQuery<'_>, now: Timestamp) -> Result<KeyPage, KeyValueError>;
}

/// Whether what is kept until then is absent.
pub fn has_expired(expires_at: Option<Timestamp>, now: Timestamp) -> bool {
    expires_at.is_some_and(|expires_at| expires_at <= now)
}

/// State that lasts as long as the process: for checking and trying out plugins.
#[derive(Debug, Default)]
pub struct MemoryKeyValue(Mutex<BTreeMap<String, Kept>>);

/// A value in memory.
#[derive(Debug)]
struct Kept {
    value: Vec<u8>,
    expires_at: Option<Timestamp>,
}

impl KeyValue for MemoryKeyValue {
    fn get(&self, key: &str, now: Timestamp) -> Result<Option<Vec<u8>>, KeyValueError> {
        let mut entries = self.0.lock();
        entries.retain(|_, kept| !has_expired(kept.expires_at, now));
        Ok(entries.get(key).map(|kept| kept.value.clone()))
    }

    fn set(&self, setting: Setting<'_>, now: Timestamp) -> Result<bool, KeyValueError> {
        let Setting { key, value, expires_at, expected, quota_bytes } = setting;
        let mut entries = self.0.lock();
        entries.retain(|_, kept| !has_expired(kept.expires_at, now));
        if !expected.is_met_by(entries.get(key).map(|kept| kept.value.as_slice())) {
            return Ok(false);
        }
        let others = entries.iter().filter(|(other, _)| other.as_str() != key);
        let used: usize = others.map(|(key, kept)| key.len() + kept.value.len()).sum();
        if (used + key.len() + value.len()) as u64 > quota_bytes {
            return Err(KeyValueError::Quota { quota_bytes });
        }
        entries.insert(key.to_owned(), Kept { value, expires_at });
        Ok(true)
    }

    fn delete(&self, key: &str) -> Result<(), KeyValueError> {
        self.0.lock().remove(key);
        Ok(())
    }

    fn list(&self, query: KeyQuery<'_>, now: Timestamp) -> Result<KeyPage, KeyValueError> {
        let mut entries = self.0.lock();
        entries.retain(|_, kept| !has_expired(kept.expires_at, now));
        let from = match query.after {
            Some(after) if after >= query.prefix => Bound::Excluded(after),
            _ => Bound::Included(query.prefix),
        };
        let found = entries.range::<str, _>((from, Bound::Unbounded));
        let mut found = found.take_while(|(key, _)| key.starts_with(query.prefix));
        let keys: Vec<KeptKey> = found
            .by_ref()
            .take(query.limit)
            .map(|(key, kept)| KeptKey {
                key: key.clone(),
                value_bytes: kept.value.len() as u64,
                expires_at: kept.expires_at,
            })
            .collect();
        let next = found.next().and_then(|_| keys.last().map(|last| last.key.clone()));
        Ok(KeyPage { keys, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn setting<'a>(key: &'a str, expires_at: Option<i64>, expected: Expected<'a>) -> Setting<'a> {
        let expires_at = expires_at.map(Timestamp);
        Setting { key, value: b"v".to_vec(), expires_at, expected, quota_bytes: 6 }
    }

    #[test]
    fn what_has_expired_is_absent_for_good_and_uses_nothing() {
        let state = MemoryKeyValue::default();
        let set = |key, expires_at, now| state.set(setting(key, expires_at, Expected::Anything), Timestamp(now));
        assert_eq!((set("a", Some(10), 0), set("b", Some(20), 0), set("c", None, 0)), (Ok(true), Ok(true), Ok(true)));
        assert_eq!(set("d", None, 9), Err(KeyValueError::Quota { quota_bytes: 6 }));
        assert_eq!(state.get("a", Timestamp(9)).unwrap().as_deref(), Some(b"v".as_slice()));
        assert_eq!(state.get("a", Timestamp(10)), Ok(None));
        assert_eq!(state.get("a", Timestamp(0)), Ok(None), "a clock that is set back brings nothing back");
        assert_eq!(set("d", None, 10), Ok(true));
        let absent = |now| state.set(setting("b", None, Expected::Absent), Timestamp(now));
        assert_eq!((absent(19), absent(20), absent(20)), (Ok(false), Ok(true), Ok(false)));
    }

    #[test]
    fn keys_come_in_parts_below_a_prefix() {
        let state = MemoryKeyValue::default();
        for key in ["a", "b/1", "b/2", "c"] {
            state.set(Setting { quota_bytes: 100, ..setting(key, None, Expected::Anything) }, Timestamp(0)).unwrap();
        }
        let list = |prefix, after, limit| {
            let page = state.list(KeyQuery { prefix, after, limit }, Timestamp(0)).unwrap();
            (page.keys.into_iter().map(|kept| kept.key).collect::<Vec<_>>().join(" "), page.next)
        };
        assert_eq!(list("b/", None, 1), ("b/1".to_owned(), Some("b/1".to_owned())));
        assert_eq!(list("b/", Some("b/1"), 1), ("b/2".to_owned(), None));
        assert_eq!(list("b/", Some("a"), 9), ("b/1 b/2".to_owned(), None));
        assert_eq!(list("b/", Some("c"), 9), (String::new(), None));
        assert_eq!(list("", None, 9), ("a b/1 b/2 c".to_owned(), None));
    }
}
