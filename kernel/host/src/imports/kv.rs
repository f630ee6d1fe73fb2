//! Responsible for the interface `kv`: an installation's state, within its quota. Where it is kept is behind
//! [`KeyValue`](crate::KeyValue).

use kith_model::budget::table;
use kith_model::time::Timestamp;

use crate::bindings::current::kv;
use crate::key_value::{Expected, KeyQuery, KeyValueError, Setting};
use crate::state::CallState;

/// A key names one thing; a plugin that needs longer ones hashes them.
const MAX_KEY_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 64 * 1024;
/// Keys of one page, which come to 64 KiB at most.
const MAX_PAGE_KEYS: u32 = 256;

fn to_wit(error: &KeyValueError) -> kv::Error {
    match error {
        KeyValueError::Quota { .. } => {
            table::KV_KEPT.count();
            kv::Error::Quota(error.to_string())
        }
        KeyValueError::Unavailable(_) => kv::Error::Unavailable(error.to_string()),
    }
}

impl CallState {
    /// Why the installation may not use its state now, if it may not: nothing is granted, or the call has written enough.
    /// What one call writes is bounded by the quota, and what all write by the hour, since the journal keeps every write.
    fn state_refusal(&mut self, key: &str, written: Option<usize>) -> Option<kv::Error> {
        if self.is_pure {
            return Some(kv::Error::Unavailable("a poll has no state but its cursor".into()));
        }
        let quota_bytes = self.installed.policy.kv_bytes.value;
        if quota_bytes == 0 {
            return Some(kv::Error::Quota("no state is granted to this installation".into()));
        }
        if key.len() > MAX_KEY_BYTES || written.is_some_and(|bytes| bytes > MAX_VALUE_BYTES) {
            let limits = format!("a key has at most {MAX_KEY_BYTES} bytes and a value at most {MAX_VALUE_BYTES}");
            return Some(kv::Error::Quota(limits));
        }
        let bytes = written?;
        self.kv_asked.add((key.len() + bytes) as u64);
        if self.kv_asked.writes > table::KV_CALL_COMMITS.default {
            let exhausted = table::KV_CALL_COMMITS.exhausted(table::KV_CALL_COMMITS.default, None);
            return Some(kv::Error::Quota(exhausted.to_string()));
        }
        if self.kv_asked.bytes > quota_bytes {
            table::KV_KEPT.count();
            return Some(kv::Error::Quota(format!("one call writes at most {quota_bytes} bytes of state")));
        }
        let now = self.installed.clock.now();
        let spent = self.installed.state_writes.lock().spend((key.len() + bytes) as u64, now);
        spent.err().map(|exhausted| kv::Error::Quota(exhausted.to_string()))
    }

    /// The same for one key, which has a name: to ask again would not give it one.
    fn key_refusal(&mut self, key: &str, written: Option<usize>) -> Option<kv::Error> {
        if key.is_empty() {
            return Some(kv::Error::Quota(format!("a key has 1 to {MAX_KEY_BYTES} bytes; this one is empty")));
        }
        self.state_refusal(key, written)
    }

    /// Keep a value where what is there is what was expected; whether it was.
    fn set_where(
        &mut self,
        key: &str,
        expected: Expected<'_>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> Result<bool, kv::Error> {
        if let Some(refusal) = self.key_refusal(key, Some(value.len())) {
            return Err(refusal);
        }
        let now = self.installed.clock.now();
        let bytes = (key.len() + value.len()) as u64;
        let expires_at = ttl_ms.map(|ttl_ms| end_of(ttl_ms, now));
        let setting = Setting { key, value, expires_at, expected, quota_bytes: self.installed.policy.kv_bytes.value };
        let set = self.installed.state.set(setting, now).map_err(|error| to_wit(&error))?;
        if set {
            self.kv_written.add(bytes);
        }
        Ok(set)
    }
}

/// When a time to live is over.
fn end_of(ttl_ms: u64, now: Timestamp) -> Timestamp {
    now.plus_ms(i64::try_from(ttl_ms).unwrap_or(i64::MAX))
}

impl kv::Host for CallState {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, kv::Error>> {
        self.count_host_call()?;
        if let Some(refusal) = self.key_refusal(&key, None) {
            return Ok(Err(refusal));
        }
        let now = self.installed.clock.now();
        Ok(self.installed.state.get(&key, now).map_err(|error| to_wit(&error)))
    }

    fn set(&mut self, key: String, value: Vec<u8>, ttl_ms: Option<u64>) -> wasmtime::Result<Result<(), kv::Error>> {
        self.count_host_call()?;
        Ok(self.set_where(&key, Expected::Anything, value, ttl_ms).map(drop))
    }

    fn compare_and_set(
        &mut self,
        key: String,
        expected: Option<Vec<u8>>,
        value: Vec<u8>,
        ttl_ms: Option<u64>,
    ) -> wasmtime::Result<Result<bool, kv::Error>> {
        self.count_host_call()?;
        let expected = expected.as_deref().map_or(Expected::Absent, Expected::Value);
        Ok(self.set_where(&key, expected, value, ttl_ms))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), kv::Error>> {
        self.count_host_call()?;
        if let Some(refusal) = self.key_refusal(&key, Some(0)) {
            return Ok(Err(refusal));
        }
        let deleted = self.installed.state.delete(&key).map_err(|error| to_wit(&error));
        Ok(deleted.inspect(|()| self.kv_written.add(key.len() as u64)))
    }

    fn list_keys(
        &mut self,
        prefix: String,
        after: Option<String>,
        limit: u32,
    ) -> wasmtime::Result<Result<kv::KeyPage, kv::Error>> {
        self.count_host_call()?;
        let longest = after.iter().chain([&prefix]).max_by_key(|text| text.len()).unwrap_or(&prefix);
        if let Some(refusal) = self.state_refusal(longest, None) {
            return Ok(Err(refusal));
        }
        let now = self.installed.clock.now();
        let limit = limit.clamp(1, MAX_PAGE_KEYS) as usize;
        let query = KeyQuery { prefix: &prefix, after: after.as_deref(), limit };
        let page = self.installed.state.list(query, now).map_err(|error| to_wit(&error));
        Ok(page.map(|page| kv::KeyPage { keys: page.keys.into_iter().map(|kept| kept.key).collect(), next: page.next }))
    }
}
