//! Small state of the installation: durable, bounded by its quota, seen by nobody else. Connectors only: a channel is pure.

use std::fmt;

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

/// Put `value` at `key`, in the place of what was there.
pub fn set(key: &str, value: &[u8]) -> Result<(), Error> {
    platform::kv_set(key, value)
}

/// Remove what is at `key`; nothing there is no error.
pub fn delete(key: &str) -> Result<(), Error> {
    platform::kv_delete(key)
}
