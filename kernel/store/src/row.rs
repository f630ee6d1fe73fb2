//! The one codec of every row and log record: a version byte, then a body. What a row means is left to its owner; FORMAT.md
//! lists all of them.
//!
//! A release writes one version of a row and may read several, so that a row survives an upgrade without being rewritten.
//! There is no second way to make or read a row's bytes, because a row that bypassed the version byte could not be told
//! from a damaged one after its type has changed.

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::{ReadError, UnreadRow};

mod model;

/// The part of the kernel that writes a row. No other part does.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Owner {
    Accept,
    React,
    Deliver,
    Poll,
    Catalogue,
    Store,
}

impl Owner {
    /// The name that FORMAT.md gives it.
    pub fn name(self) -> &'static str {
        match self {
            Owner::Accept => "accept",
            Owner::React => "react",
            Owner::Deliver => "deliver",
            Owner::Poll => "poll",
            Owner::Catalogue => "catalogue",
            Owner::Store => "store",
        }
    }
}

/// A type whose values are stored as rows or as log records.
///
/// A change of the type's layout raises [`Row::VERSION`] and adds the older layout to [`Row::before`], because rows of the
/// older version stay in the store until something else rewrites them.
pub trait Row: Serialize + DeserializeOwned {
    /// What a row is, in the words of an error message: "an identity's head".
    const WHAT: &'static str;
    /// Who writes it.
    const OWNER: Owner;
    /// The version that this release writes.
    const VERSION: u8;

    /// The row of a version before [`Row::VERSION`]; `None` for a version that this release does not read.
    fn before(version: u8, body: &[u8]) -> Option<Result<Self, String>> {
        let _ = (version, body);
        None
    }

    /// Write the body behind `bytes`.
    fn body(&self, bytes: &mut Vec<u8>) {
        write_postcard(self, bytes);
    }

    /// The row of a body of [`Row::VERSION`].
    fn from_body(body: &[u8]) -> Result<Self, String> {
        read_postcard(body)
    }
}

/// Write `value` behind `bytes` with postcard.
pub fn write_postcard<T: Serialize>(value: &T, bytes: &mut Vec<u8>) {
    *bytes = postcard::to_extend(value, std::mem::take(bytes))
        .expect("rows hold only types that postcard can write, and memory to grow into");
}

/// The value whose postcard is exactly `body`, for [`Row::before`] as well. Bytes behind the value are an error: they would
/// be the fields of another version or of another row.
pub fn read_postcard<T: DeserializeOwned>(body: &[u8]) -> Result<T, String> {
    let (value, rest) = take_postcard(body)?;
    if rest.is_empty() { Ok(value) } else { Err(format!("{} bytes lie behind the row", rest.len())) }
}

/// The value whose postcard is at the beginning of `body`, and the bytes behind it, for a row of several parts.
pub fn take_postcard<T: DeserializeOwned>(body: &[u8]) -> Result<(T, &[u8]), String> {
    postcard::take_from_bytes(body).map_err(|error| error.to_string())
}

/// The bytes of `row`: what is put into the store or appended to the log.
pub fn encode<R: Row>(row: &R) -> Vec<u8> {
    // Most rows are smaller; a row that has to grow is copied each time.
    let mut bytes = Vec::with_capacity(256);
    bytes.push(R::VERSION);
    row.body(&mut bytes);
    bytes
}

/// The row that `bytes` hold.
pub fn decode<R: Row>(bytes: &[u8]) -> Result<R, ReadError> {
    let unread = || Some(UnreadRow::of(bytes));
    let corrupt = |problem: String| ReadError::Corrupt { what: R::WHAT.to_owned(), problem, row: unread() };
    let Some((&version, body)) = bytes.split_first() else {
        return Err(corrupt("an empty row".to_owned()));
    };
    if version == R::VERSION {
        return R::from_body(body).map_err(corrupt);
    }
    let unknown = || ReadError::Version { what: R::WHAT, found: version, written: R::VERSION, row: unread() };
    // A newer version is never offered to `before`: a mistake there must not read fields that do not exist yet.
    let read = if version < R::VERSION { R::before(version, body) } else { None };
    read.map_or_else(|| Err(unknown()), |read| read.map_err(corrupt))
}

#[cfg(test)]
mod tests;
