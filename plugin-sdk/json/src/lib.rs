//! Reads JSON as senders write it, and gives it back as JSON that every reader takes.
//!
//! [`read`] goes over the bytes once and writes well-formed JSON without white space: keys in the order that they came in, numbers digit
//! by digit. What it had to change, or a reader should know of, is a [`Flag`] with its place. The rules:
//!
//! | in the text | becomes | flag |
//! | --- | --- | --- |
//! | a byte order mark, UTF-16, NUL and blanks behind the end | UTF-8 without them | none: nothing is lost |
//! | half of a surrogate pair | U+FFFD | `half-surrogate` |
//! | bytes that are not UTF-8, in a text | U+FFFD | `invalid-utf8` |
//! | `NaN`, `Infinity`, in any case, with a sign | `null` | `not-a-number` |
//! | `undefined` | `null` | `undefined` |
//! | `True`, `None` | `true`, `null` | `loose-literal` |
//! | `+1`, `.5`, `1.` | `1`, `0.5`, `1` | `number-form` |
//! | `007` | `"007"`: without its zeros it would be another code | `number-form` |
//! | a number beyond 64 bits of floating point, such as `1e400` | itself | `number-too-large` |
//! | a control character in a text | its escape | `control-character` |
//! | an escape that JSON does not have | the character behind it | `bad-escape` |
//! | a comma behind the last entry | nothing | `trailing-comma` |
//! | a key that came before in its object | the last holds | `duplicate-key` |
//! | more than 100 levels | `null` | `too-deep` |
//! | bytes behind the end of the document | nothing | `trailing-bytes` |
//!
//! Anything else is [`Unreadable`], with its place. [`members`] and [`elements`] find the parts of a document without reading them, so
//! that one that cannot be read costs no other.
//!
//! Time is linear in the bytes but for keys, which are sorted to find the ones that came twice; no recursion is deeper than [`MAX_DEPTH`].
//! What the texts mean is left to the callers.
#![deny(missing_docs)]

mod bytes;
mod canonical;
mod depth;
mod fingerprint;
mod flag;
mod outline;
mod parts;
mod plain;
mod scalar;
mod scan;
mod walk;
mod write;

pub use bytes::decoded;
pub use canonical::canonical;
pub use depth::is_deeper_than;
pub use fingerprint::fingerprint;
pub use flag::{Flag, Flags, MAX_FLAGS, Oddity};
pub use outline::{Outline, Record};
pub use parts::{Entry, Member, elements, entries, items, member, members, text};
pub use plain::is_plain_object;

use std::fmt;

/// How deep lists and objects may lie in each other: as deep as readers with the usual bound of 128 take it, wherever it is put.
pub const MAX_DEPTH: usize = 100;

/// What happens to the entries of an object whose key comes again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Duplicates {
    /// All are written in their order, for a caller who must hear each; a reader takes the last.
    Kept,
    /// The last is written.
    LastHolds,
}

/// What happens to numbers that 64 bits of floating point cannot hold.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Numbers {
    /// They are written digit by digit.
    Kept,
    /// They are written as `null`, for a reader that would stumble over them.
    Finite,
    /// They are written as texts, digit by digit, for readers of whom nobody knows whether they would stumble.
    Texts,
}

/// A document that was read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Document {
    /// Well-formed JSON without white space.
    pub text: String,
    /// What was odd.
    pub flags: Flags,
}

/// Why bytes are no JSON by any of the rules.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Unreadable {
    /// Where, in bytes from the beginning of what was read.
    pub at: usize,
    /// What is wrong there.
    pub problem: &'static str,
}

impl fmt::Display for Unreadable {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} at byte {}", self.problem, self.at)
    }
}

impl std::error::Error for Unreadable {}

/// Read a document. Of a key that comes again the last holds, and numbers stay as they are.
///
/// # Errors
/// Where it is no JSON by any of the rules.
///
/// ```
/// let read = kith_json::read(br#"{"title": "cut \ud83d", "n": 123456789012345678901, "a": [1,], "x": NaN}"#).unwrap();
/// assert_eq!(read.text, "{\"title\":\"cut \u{fffd}\",\"n\":123456789012345678901,\"a\":[1],\"x\":null}");
/// let flags: Vec<String> = read.flags.iter().map(ToString::to_string).collect();
/// assert_eq!(flags, ["half-surrogate:title", "trailing-comma:a", "not-a-number:x"]);
/// ```
pub fn read(bytes: &[u8]) -> Result<Document, Unreadable> {
    read_as(bytes, Duplicates::LastHolds, Numbers::Kept)
}

/// Read a document with a choice of what is written.
///
/// # Errors
/// Where it is no JSON by any of the rules.
pub fn read_as(bytes: &[u8], duplicates: Duplicates, numbers: Numbers) -> Result<Document, Unreadable> {
    let bytes = decoded(bytes);
    // Nearly every document that a program wrote is so, and is copied.
    if let Ok(text) = std::str::from_utf8(&bytes)
        && let Some(text) = plain::written(text, MAX_DEPTH)
    {
        return Ok(Document { text: text.into_owned(), flags: Flags::default() });
    }
    write::Writer::new(&bytes, duplicates, numbers).document()
}

#[cfg(test)]
mod tests;
