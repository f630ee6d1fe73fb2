//! Small state of the installation: durable, bounded by its quota, seen by nobody else. Connectors only: a channel is pure.
//!
//! A key has 1 to 256 bytes, a value at most 64 KiB. What is kept for a time ([`set_for`]) is absent once that is over by the
//! server's clock. Several calls may run at once: [`compare_and_set`] changes a value only if nobody else has meanwhile.
//!
//! ```
//! use std::time::Duration;
//! use kith_plugin_sdk::{kv, testing};
//!
//! let (first, _) = testing::Host::new().run(|| {
//!     // Whoever sets it does the work; who dies over it holds the others up for a minute at most.
//!     kv::compare_and_set_for("lock", None, b"mine", Duration::from_secs(60))
//! });
//! assert_eq!(first, Ok(true));
//! ```

use std::fmt;
use std::time::Duration;

use crate::{Failure, platform};

/// Why the state could not be read or written.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Over the quota in bytes.
    Quota(String),
    /// The store does not answer now.
    Unavailable(String),
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Quota(reason) => write!(f, "over the key-value quota: {reason}"),
            Error::Unavailable(reason) => write!(f, "key-value state is unavailable: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        match error {
            Error::Quota(_) => Failure::permanent(error.to_string()),
            Error::Unavailable(_) => Failure::transient(error.to_string()),
        }
    }
}

/// The value at `key`, if there is one.
pub fn get(key: &str) -> Result<Option<Vec<u8>>, Error> {
    platform::kv_get(key)
}

/// Put `value` at `key`, in the place of what was there, for good.
pub fn set(key: &str, value: &[u8]) -> Result<(), Error> {
    platform::kv_set(key, value, None)
}

/// The same, and nothing is at `key` any more once `time_to_live` is over. It is counted in whole milliseconds.
pub fn set_for(key: &str, value: &[u8], time_to_live: Duration) -> Result<(), Error> {
    platform::kv_set(key, value, Some(milliseconds(time_to_live)))
}

/// Put `value` at `key` if `expected` is there, or nothing where that is `None`; whether it was. Of calls at the same time that
/// expect the same, one finds it.
pub fn compare_and_set(key: &str, expected: Option<&[u8]>, value: &[u8]) -> Result<bool, Error> {
    platform::kv_compare_and_set(key, expected, value, None)
}

/// The same for a time, as [`set_for`] has it.
pub fn compare_and_set_for(
    key: &str,
    expected: Option<&[u8]>,
    value: &[u8],
    time_to_live: Duration,
) -> Result<bool, Error> {
    platform::kv_compare_and_set(key, expected, value, Some(milliseconds(time_to_live)))
}

/// Remove what is at `key`; nothing there is no error.
pub fn delete(key: &str) -> Result<(), Error> {
    platform::kv_delete(key)
}

/// A part of the keys, in the order of their bytes.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct KeyPage {
    /// The keys.
    pub keys: Vec<String>,
    /// What to give as `after` for the next part; `None` at the end. A part may have few keys, or none, and not be the last.
    pub next: Option<String>,
}

/// The keys that begin with `prefix` and come after `after`: `limit` of them at most, and 256 whatever it says.
pub fn list_keys(prefix: &str, after: Option<&str>, limit: u32) -> Result<KeyPage, Error> {
    platform::kv_list_keys(prefix, after, limit)
}

/// All keys that begin with `prefix`, asked for part by part as they are taken. What changes meanwhile may be among them or not.
pub fn keys(prefix: &str) -> impl Iterator<Item = Result<String, Error>> {
    let mut page = KeyPage::default();
    let mut more = true;
    let mut taken = Vec::new().into_iter();
    std::iter::from_fn(move || {
        loop {
            if let Some(key) = taken.next() {
                return Some(Ok(key));
            }
            if !more {
                return None;
            }
            match list_keys(prefix, page.next.as_deref(), u32::MAX) {
                Ok(listed) => page = listed,
                Err(error) => {
                    more = false;
                    return Some(Err(error));
                }
            }
            more = page.next.is_some();
            taken = std::mem::take(&mut page.keys).into_iter();
        }
    })
}

fn milliseconds(time: Duration) -> u64 {
    u64::try_from(time.as_millis()).unwrap_or(u64::MAX)
}
