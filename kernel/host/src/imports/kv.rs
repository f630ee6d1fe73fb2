//! Responsible for the interface `kv`: an installation's state, within its quota. Where it is kept is behind
//! [`KeyValue`](crate::KeyValue).

use crate::bindings::current::kv;
use crate::state::{CallState, KeyValueError};

/// A key names one thing; a plugin that needs longer ones hashes them.
const MAX_KEY_BYTES: usize = 256;
const MAX_VALUE_BYTES: usize = 64 * 1024;

fn to_wit(error: &KeyValueError) -> kv::Error {
    match error {
        KeyValueError::Quota { .. } => kv::Error::Quota(error.to_string()),
        KeyValueError::Unavailable(_) => kv::Error::Unavailable(error.to_string()),
    }
}

impl kv::Host for CallState {
    fn get(&mut self, key: String) -> wasmtime::Result<Result<Option<Vec<u8>>, kv::Error>> {
        self.count_host_call()?;
        Ok(self.installed.state.get(&key).map_err(|error| to_wit(&error)))
    }

    fn set(&mut self, key: String, value: Vec<u8>) -> wasmtime::Result<Result<(), kv::Error>> {
        self.count_host_call()?;
        let quota_bytes = self.installed.policy.kv_bytes.value;
        if quota_bytes == 0 {
            return Ok(Err(kv::Error::Quota("no state is granted to this installation".into())));
        }
        if key.len() > MAX_KEY_BYTES || value.len() > MAX_VALUE_BYTES {
            let limits = format!("a key has at most {MAX_KEY_BYTES} bytes and a value at most {MAX_VALUE_BYTES}");
            return Ok(Err(kv::Error::Quota(limits)));
        }
        Ok(self.installed.state.set(&key, value, quota_bytes).map_err(|error| to_wit(&error)))
    }

    fn delete(&mut self, key: String) -> wasmtime::Result<Result<(), kv::Error>> {
        self.count_host_call()?;
        Ok(self.installed.state.delete(&key).map_err(|error| to_wit(&error)))
    }
}
