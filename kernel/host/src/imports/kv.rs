//! Responsible for the interface `kv`: an installation's state, within its quota. Where it is kept is behind
//! [`KeyValue`](crate::KeyValue).

use kith_model::budget::table;

use crate::bindings::current::kv;
use crate::state::{CallState, KeyValueError};

/// A key names one thing; a plugin that needs longer ones hashes them.
const MAX_KEY_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 64 * 1024;

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

    /// Count a write that took place; what the guest is told of it.
    fn note_written(&mut self, bytes: u64, written: Result<(), KeyValueError>) -> Result<(), kv::Error> {
        written.inspect(|()| self.kv_written.add(bytes)).map_err(|error| to_wit(&error))
    }
}

impl kv::Host for CallState {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, kv::Error>> {
        self.count_host_call()?;
        if let Some(refusal) = self.state_refusal(&key, None) {
            return Ok(Err(refusal));
        }
        Ok(self.installed.state.get(&key).map_err(|error| to_wit(&error)))
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), kv::Error>> {
        self.count_host_call()?;
        if let Some(refusal) = self.state_refusal(&key, Some(value.len())) {
            return Ok(Err(refusal));
        }
        let (bytes, quota_bytes) = ((key.len() + value.len()) as u64, self.installed.policy.kv_bytes.value);
        let written = self.installed.state.set(&key, value, quota_bytes);
        Ok(self.note_written(bytes, written))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), kv::Error>> {
        self.count_host_call()?;
        if let Some(refusal) = self.state_refusal(&key, Some(0)) {
            return Ok(Err(refusal));
        }
        let written = self.installed.state.delete(&key);
        Ok(self.note_written(key.len() as u64, written))
    }
}
