//! Durable state behind one seam, [`Store`]: keyed rows, an append-only log that is also the change feed, queues and leases.
//!
//! **The promise.** When [`Store::commit`] returns `Ok`, the whole unit is on disk: one journal record, written and synced
//! with `fdatasync` before the answer. After a crash a unit is wholly there or wholly absent, in commit order, and every
//! answered one is there. A failed sync stops the process, because what the kernel then holds is unknown.
//!
//! The seam is synchronous; `kith-pipeline` decides which thread waits. Units are prepared bytes: read, compute, then commit
//! with preconditions; no closure runs inside an engine and no iterator lives long.

mod config;
mod directory;
mod embedded;
mod engine;
mod files;
mod journal;
pub mod keys;
mod read_set;
pub mod row;

use std::sync::Arc;
use std::time::Duration;

use kith_model::id::{Position, WorkspaceId};
use kith_model::time::Timestamp;

pub use config::{EngineKind, OpenError, Status, StoreConfig};
pub use embedded::{Embedded, MAX_UNIT_BYTES, memory, open};
pub use keys::Key;
pub use read_set::{ReadSet, Reading};

/// Read `bytes` as a record of the journal with all of its operations, also with the checksum that they would have: for the
/// search for inputs on which that panics.
#[doc(hidden)]
pub fn check_journal_record(bytes: &[u8]) {
    journal::record::check(bytes);
}

/// A stored value.
pub type Value = Arc<[u8]>;

/// All keys from `from` (included) to `to` (excluded).
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeyRange {
    pub from: Key,
    pub to: Key,
}

/// One page of a scan.
#[derive(Debug, Clone, Default)]
pub struct Page {
    pub rows: Vec<(Key, Value)>,
    /// Where to go on; `None` at the end.
    pub next: Option<Key>,
}

/// What must hold for a unit to be committed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Precondition {
    Absent(Key),
    /// The row holds exactly these bytes.
    Holds(Key, Vec<u8>),
}

/// A queue of jobs in a workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct QueueId {
    pub workspace: WorkspaceId,
    pub queue: u32,
}

/// One job's name in its queue.
pub type JobId = [u8; 16];

/// One step of a unit.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Operation {
    Put(Key, Vec<u8>),
    Delete(Key),
    /// Add a record to the log. The store gives it the next position; with `row`, it also becomes a row whose key is
    /// `row` followed by the position as eight big-endian bytes.
    Append {
        workspace: WorkspaceId,
        record: Vec<u8>,
        row: Option<Key>,
    },
    /// Add a job, or move it if the queue has one of that name.
    Enqueue {
        queue: QueueId,
        id: JobId,
        due_at: Timestamp,
        body: Vec<u8>,
    },
    /// Remove a job, claimed or not.
    Acknowledge {
        queue: QueueId,
        id: JobId,
    },
}

/// A unit of work: all of it or nothing.
#[derive(Debug, Clone, Default)]
pub struct Unit {
    pub preconditions: Vec<Precondition>,
    pub operations: Vec<Operation>,
    /// Refuse the unit unless this lease is still held.
    pub fence: Option<Fence>,
}

/// The proof of a commit.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Committed {
    /// The position of the unit's first appended record; the others follow without gaps. Where none was appended, the head.
    pub first: Position,
    /// The newest position of the log after this unit.
    pub head: Position,
}

/// A record of the change feed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct LogRecord {
    pub position: Position,
    pub workspace: WorkspaceId,
    pub bytes: Value,
}

/// How much one call of [`Store::changes`] returns at most. Of a workspace that has a record, one is returned even if it is
/// larger.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct ChangeLimits {
    pub records: usize,
    pub bytes: usize,
}

/// A part of the change feed of one workspace.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Changes {
    /// In commit order, without gaps between the workspace's own.
    pub records: Vec<LogRecord>,
    /// How far the log was looked through: up to here, all of the workspace's records after the asked position are in
    /// `records`. It moves on even where there are none; ask for what is after it next.
    pub up_to: Position,
}

/// A claimed job. It is hidden from other claims until its lease ends; acknowledge it in the unit that holds its effects.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Job {
    pub queue: QueueId,
    pub id: JobId,
    pub due_at: Timestamp,
    pub body: Value,
}

/// A held lease. `epoch` rises whenever the owner changes.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Fence {
    pub name: String,
    pub epoch: u64,
}

/// What the disk of a store has left.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct DiskRoom {
    pub free_bytes: u64,
    /// Commits are refused rather than that less is left.
    pub reserve_bytes: u64,
}

impl DiskRoom {
    /// Whether a unit that is within its limits may be refused for want of room.
    pub fn is_full(self) -> bool {
        self.free_bytes.saturating_sub(MAX_UNIT_BYTES as u64) < self.reserve_bytes
    }
}

/// The first bytes of a row that is there and cannot be read. They are people's data, so that no message and no log shows them.
#[derive(Clone)]
pub struct UnreadRow(Arc<[u8]>);

impl UnreadRow {
    /// How many of them are kept: an error is held in memory, and a row has up to some megabytes.
    pub const MAX_BYTES: usize = 4_096;

    fn of(row: &[u8]) -> UnreadRow {
        UnreadRow(row[..row.len().min(UnreadRow::MAX_BYTES)].into())
    }
}

impl std::fmt::Debug for UnreadRow {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} bytes", self.0.len())
    }
}

/// A read did not succeed.
#[derive(Debug, Clone, thiserror::Error)]
pub enum ReadError {
    #[error("the log before position {oldest} is no longer kept; position {wanted} was asked for")]
    Truncated { wanted: Position, oldest: Position },
    #[error("{what} is damaged: {problem}")]
    Corrupt { what: String, problem: String, row: Option<UnreadRow> },
    /// The row is whole, and another release's.
    #[error(
        "{what} has version {found}, which this release does not read (it writes version {written}); run the release that \
         wrote it"
    )]
    Version { what: &'static str, found: u8, written: u8, row: Option<UnreadRow> },
    #[error("reading {what}")]
    Io { what: String, source: Arc<std::io::Error> },
}

impl ReadError {
    /// The first bytes of the row, where one that is there is what cannot be read.
    pub fn row(&self) -> Option<&[u8]> {
        match self {
            ReadError::Corrupt { row, .. } | ReadError::Version { row, .. } => row.as_ref().map(|row| &*row.0),
            ReadError::Truncated { .. } | ReadError::Io { .. } => None,
        }
    }

    /// The same without the bytes of a row, for where there are very many errors.
    pub fn without_row(mut self) -> ReadError {
        if let ReadError::Corrupt { row, .. } | ReadError::Version { row, .. } = &mut self {
            *row = None;
        }
        self
    }
}

/// A unit was not committed. Nothing of it was written. It can be cloned, so that all submissions of a unit can have it.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CommitError {
    #[error("{} of the unit's preconditions do not hold", .0.len())]
    Conflict(Vec<Key>),
    #[error("lease `{name}` is no longer held at epoch {epoch}")]
    Fenced { name: String, epoch: u64 },
    #[error("the unit is too large: {bytes} bytes where {limit} are allowed")]
    TooLarge { bytes: usize, limit: usize },
    /// The disk is nearly full; try again later.
    #[error(
        "the disk of {path} has {free_bytes} bytes left, and {reserve_bytes} are kept in reserve; free some of it, or keep less \
         in reserve"
    )]
    DiskFull { path: String, free_bytes: u64, reserve_bytes: u64 },
    #[error("the store is shutting down")]
    Closed,
    #[error(transparent)]
    Read(#[from] ReadError),
}

/// The one seam for state.
pub trait Store: Send + Sync + 'static {
    /// The rows of `keys`, in their order.
    fn get(&self, keys: &[Key]) -> Result<Vec<Option<Value>>, ReadError>;

    /// Up to `limit` rows of `range`, in key order. Each row is whole; the page is no snapshot.
    fn scan(&self, range: &KeyRange, limit: usize) -> Result<Page, ReadError>;

    /// A read set of nothing yet, for [`Reading`]: what is committed from here on counts as a change of what is read.
    fn read_set(&self) -> ReadSet {
        ReadSet::default()
    }

    /// Whether nothing that was read has changed since. Every unit counts that was answered before the question; where it cannot
    /// be told, something has changed. It reads no row and waits for nobody.
    fn is_unchanged(&self, _read: &ReadSet) -> bool {
        false
    }

    /// Commit a unit; durable on return.
    fn commit(&self, unit: Unit) -> Result<Committed, CommitError> {
        self.commit_all(vec![unit]).pop().unwrap_or(Err(CommitError::Closed))
    }

    /// Commit many units, which need not belong together; what was committed is durable on return. There is one verdict for
    /// each unit, in their order.
    ///
    /// The units go in together with whatever else waits and share its sync, so that a thread that works for many
    /// workspaces waits once. Each is judged alone and as of those before it: one that is too large, in conflict or fenced
    /// off refuses itself only. A list above 16 MiB is committed in several steps, in order; other callers' units may lie
    /// between them.
    fn commit_all(&self, units: Vec<Unit>) -> Vec<Result<Committed, CommitError>>;

    /// The records of one workspace after `after`, durable ones only. A call looks through a bounded part of the log, so that
    /// one that returns no record has not come to the log's end for that: only `up_to` says how far it has come.
    fn changes(&self, workspace: WorkspaceId, after: Position, limits: ChangeLimits) -> Result<Changes, ReadError>;

    /// The position of a workspace's newest record; 0 if it has none. It costs no read, so that idle workspaces need not be
    /// asked for their changes.
    fn head_of(&self, workspace: WorkspaceId) -> Position;

    /// The newest durable position.
    fn head(&self) -> Position;

    /// Wait until the head is past `after` or `timeout` is over; the head.
    fn wait_for_change(&self, after: Position, timeout: Duration) -> Position;

    /// What the store's disk has left; `None` where it has none.
    fn disk(&self) -> Result<Option<DiskRoom>, ReadError> {
        Ok(None)
    }

    /// Take up to `limit` jobs of `queue` that are due at `now`, the longest due first, and hide them for `lease_ms`.
    fn claim(&self, queue: QueueId, now: Timestamp, limit: usize, lease_ms: i64) -> Result<Vec<Job>, CommitError>;

    /// Up to `limit` jobs of `queue` that were claimed and have neither moved nor been acknowledged since: whoever is alone in
    /// claiming from a queue, and has claimed nothing yet, knows from it what a process that is no more has left. A job that
    /// cannot be read is left out.
    fn claimed(&self, queue: QueueId, limit: usize) -> Result<Vec<Job>, ReadError>;

    /// When the queue's next job is due, claimed ones at the end of their lease.
    fn next_due(&self, queue: QueueId) -> Result<Option<Timestamp>, ReadError>;

    /// Take or renew the lease `name` for `owner` until `now + ttl_ms`; `None` while another holds it.
    fn lease(&self, name: &str, owner: &str, now: Timestamp, ttl_ms: i64) -> Result<Option<Fence>, CommitError>;
}
