//! All key layout. A key is `space u8 | workspace u32 | shard u16 | rest`, numbers big-endian, so that rows of one
//! workspace lie together, then rows of one person. There is one constructor for each kind of row and no other way to
//! make a key. FORMAT.md has the table.
//!
//! Keys are bounded whatever a sender chooses: identities are hashes, an identifier enters as a digest, a message id as a
//! hash. The only texts in keys are names that the kernel or an admin gave, and the keys of a plugin's own state, which the
//! store refuses when they are too long.

mod derived;
mod facts;
mod kernel;
mod promises;
mod quality;
mod repeats;

use kith_model::id::{Position, SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;

use crate::KeyRange;

pub use facts::{PersonRow, UNKEYED_REALM, alias_digest};
pub use kernel::Definition;
pub use promises::DeliveryMover;

/// How many shards a workspace's people are spread over; it never changes, since a change would need every key rewritten.
pub const SHARDS: u16 = 1024;

/// An order-preserving key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<u8>);

/// The workspace that holds what belongs to no tenant: the list of workspaces and the index of credentials.
pub const SYSTEM: WorkspaceId = WorkspaceId(0);

/// Declares each space as a constant, and all of them as a table that a test compares with FORMAT.md, so that neither can
/// have one that the other lacks.
macro_rules! spaces {
    ($($name:ident = $byte:literal, $nature:literal;)*) => {
        $(const $name: u8 = $byte;)*
        #[cfg(test)]
        const SPACES: &[(u8, &str, &str)] = &[$(($byte, stringify!($name), $nature),)*];
    };
}

// Facts are the truth. Derived rows can be computed again from them. Promises are neither: a delivery that was made cannot
// be found out from the facts, so they survive when the derived rows are dropped and computed again.
spaces! {
    META = 0x00, "setup";
    PERSON = 0x10, "fact";
    EVENT = 0x11, "fact";
    SUPERSEDED = 0x12, "fact";
    ALIAS = 0x20, "fact";
    EDGE = 0x21, "fact";
    VETO = 0x23, "fact";
    STATEMENT = 0x24, "fact";
    APPLIED = 0x26, "fact";
    DEDUPE = 0x28, "fact";
    ORDINAL = 0x29, "fact";
    COUNTS = 0x2a, "fact";
    SOURCE_COUNTS = 0x2b, "fact";
    READER = 0x2c, "fact";
    FILE_ROW = 0x2d, "fact";
    IMPORT = 0x2e, "fact";
    DERIVED = 0x30, "derived";
    CHUNK = 0x31, "derived";
    TIMER = 0x32, "derived";
    PROGRESS = 0x33, "derived";
    LEAVES = 0x34, "derived";
    FAULT = 0x35, "derived";
    ENTRY = 0x40, "promise";
    DELIVERY = 0x41, "promise";
    ASIDE = 0x42, "promise";
    DELIVERY_TOTALS = 0x43, "promise";
    DELIVERY_TIME = 0x44, "promise";
    ASIDE_CONTENT = 0x45, "promise";
    EMITTED = 0x46, "promise";
    EMISSION = 0x47, "promise";
    DEFINITION = 0x50, "setup";
    PLUGIN_STATE = 0x52, "setup";
    SUPPRESSION = 0x53, "setup";
    POLL = 0x54, "setup";
    PLUGIN_EXPIRY = 0x55, "setup";
    AUDIT = 0x60, "setup";
    JOB_DUE = 0xf0, "store";
    JOB_TIME = 0xf1, "store";
    JOB_BODY = 0xf2, "store";
    LEASE = 0xf3, "store";
    JOB_CLAIMED = 0xf4, "store";
}

/// Spaces from here on belong to the store itself: queues, leases, parts of large values.
pub(crate) const RESERVED: u8 = 0xf0;

/// Spaces from here on belong to the engine that holds the rows; the store never asks for them.
pub(crate) const ENGINE: u8 = 0xf8;

/// The bytes before the shard: what all keys of one space and workspace begin with.
const WORKSPACE_BYTES: usize = 5;
/// The bytes before the rest.
const SHARD_BYTES: usize = 7;
/// The bytes of a key that has an identity or a digest behind its shard and nothing more.
const NOTED_BYTES: usize = SHARD_BYTES + 16;

fn shard_of(bytes: &[u8]) -> u16 {
    #[allow(clippy::cast_possible_truncation, reason = "the remainder is below 1024")]
    let shard = (xxhash_rust::xxh3::xxh3_64(bytes) % u64::from(SHARDS)) as u16;
    shard
}

fn sortable(time: Timestamp) -> [u8; 8] {
    (time.0.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn from_sortable(bytes: [u8; 8]) -> Timestamp {
    Timestamp((u64::from_be_bytes(bytes) ^ (1 << 63)).cast_signed())
}

impl Key {
    fn new(space: u8, workspace: WorkspaceId, shard: u16, rest: &[&[u8]]) -> Key {
        Key::in_shard(space, workspace, shard, &[], rest)
    }

    fn in_shard(space: u8, workspace: WorkspaceId, shard: u16, of: &[u8], rest: &[&[u8]]) -> Key {
        let room = SHARD_BYTES + of.len() + rest.iter().map(|part| part.len()).sum::<usize>();
        let mut bytes = Vec::with_capacity(room);
        bytes.push(space);
        bytes.extend_from_slice(&workspace.0.to_be_bytes());
        bytes.extend_from_slice(&shard.to_be_bytes());
        bytes.extend_from_slice(of);
        rest.iter().for_each(|part| bytes.extend_from_slice(part));
        Key(bytes)
    }

    /// A key that lies with the other rows of `identity`: in its shard, behind its bytes.
    fn of_identity(space: u8, workspace: WorkspaceId, identity: SourceIdentityId, rest: &[&[u8]]) -> Key {
        Key::in_shard(space, workspace, shard_of(&identity.0), &identity.0, rest)
    }

    /// Whether the row's value is a record of the log.
    pub(crate) fn is_of_history(&self) -> bool {
        matches!(self.0.first(), Some(&(EVENT | SUPERSEDED)))
    }

    /// The part of the key by which its changes are noted ([`crate::ReadSet`]), up to the identity or digest, so that the rows of
    /// one identity in a space are noted as one; `None` where they are not noted. Which spaces are is a matter of what it costs:
    /// what is read of another one always counts as changed.
    pub(crate) fn noted(&self) -> Option<&[u8]> {
        match self.0.first() {
            Some(&(PERSON | EVENT | SUPERSEDED | ALIAS | EDGE | VETO | SUPPRESSION)) => self.0.get(..NOTED_BYTES),
            _ => None,
        }
    }

    /// The prefix of all keys of a space in a workspace, whatever their shard.
    fn whole(space: u8, workspace: WorkspaceId) -> Key {
        let mut bytes = Vec::with_capacity(WORKSPACE_BYTES);
        bytes.push(space);
        bytes.extend_from_slice(&workspace.0.to_be_bytes());
        Key(bytes)
    }

    /// The range of [`Key::whole`] cut into `parts` of about the same size at bounds of shards.
    fn parts(space: u8, workspace: WorkspaceId, parts: u16) -> Vec<KeyRange> {
        let all = Key::whole(space, workspace).range();
        let parts = parts.clamp(1, SHARDS);
        let bound = |part: u16| match part {
            0 => all.from.clone(),
            part if part == parts => all.to.clone(),
            part => Key::new(space, workspace, SHARDS / parts * part, &[]),
        };
        (0..parts).map(|part| KeyRange { from: bound(part), to: bound(part + 1) }).collect()
    }

    /// The identity of a key made by [`Key::of_identity`] in this space, and what follows it.
    fn as_identity(&self, space: u8) -> Option<(SourceIdentityId, &[u8])> {
        let rest = self.0.strip_prefix(&[space])?.get(SHARD_BYTES - 1..)?;
        let (identity, rest) = rest.split_first_chunk::<16>()?;
        Some((SourceIdentityId(*identity), rest))
    }

    /// The key that `bytes` spell, as the journal or an engine gave them back.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Key {
        Key(bytes)
    }

    /// The least key whose space is `space`.
    pub(crate) fn least_of(space: u8) -> Key {
        Key(vec![space])
    }

    /// The least key that is greater than this one.
    pub(crate) fn successor(&self) -> Key {
        self.followed_by(&[0])
    }

    /// Put a position behind this key.
    pub(crate) fn push_position(&mut self, position: u64) {
        self.0.extend_from_slice(&position.to_be_bytes());
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// The position that the store has put behind the key of an appended row; 0 for a key too short to have one.
    pub fn position(&self) -> Position {
        Position(self.0.last_chunk::<8>().map_or(0, |bytes| u64::from_be_bytes(*bytes)))
    }

    /// The key where a walk goes on, from the bytes that were noted of it.
    pub fn resumed(bytes: &[u8]) -> Key {
        Key(bytes.to_vec())
    }

    /// The workspace that the key lies in; `None` for the end of a range that is too short to have one.
    pub fn workspace_of(&self) -> Option<WorkspaceId> {
        let bytes: [u8; 4] = self.0.get(1..WORKSPACE_BYTES)?.try_into().ok()?;
        Some(WorkspaceId(u32::from_be_bytes(bytes)))
    }

    /// What follows `prefix`, if the key begins with it.
    pub fn strip(&self, prefix: &Key) -> Option<&[u8]> {
        self.0.strip_prefix(prefix.0.as_slice())
    }

    /// This key with `bytes` behind it.
    #[must_use]
    pub fn followed_by(&self, bytes: &[u8]) -> Key {
        Key([&self.0, bytes].concat())
    }

    /// All keys that begin with this one.
    pub fn range(&self) -> KeyRange {
        let mut to = self.0.clone();
        while let Some(last) = to.pop() {
            if last < u8::MAX {
                to.push(last + 1);
                break;
            }
        }
        KeyRange { from: self.clone(), to: Key(to) }
    }
}

#[cfg(test)]
mod tests;
