//! How a store is opened, why it may not be, and what it says about itself.

use std::fmt;
use std::path::PathBuf;

use kith_model::id::Position;

/// The engine behind the journal. It may be changed between two starts: the other one is then filled from the journal.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum EngineKind {
    #[default]
    Sled,
    Redb,
}

impl fmt::Display for EngineKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            EngineKind::Sled => "sled",
            EngineKind::Redb => "redb",
        })
    }
}

/// Where a store lies and how much it may use.
#[derive(Debug, Clone)]
pub struct StoreConfig {
    /// The store's directory; created if need be. No other process may have it open.
    pub directory: PathBuf,
    pub engine: EngineKind,
    /// What the engine may cache.
    pub cache_bytes: u64,
    /// Commits are refused while the disk has less than this left.
    pub disk_reserve_bytes: u64,
    /// A new journal segment is begun before one grows past this.
    pub segment_bytes: u64,
    /// How much of the newest log is kept in memory for readers of [`crate::Store::changes`].
    pub tail_bytes: usize,
    /// How much may be committed and not yet in the engine. Commits wait while it is more. The layer that is being applied stays
    /// in memory to its end, and may take as much again.
    pub overlay_bytes: usize,
}

const MIB: u64 = 1024 * 1024;

impl StoreConfig {
    /// A store in `directory` with the usual bounds, on sled.
    pub fn new(directory: impl Into<PathBuf>) -> StoreConfig {
        StoreConfig {
            directory: directory.into(),
            engine: EngineKind::default(),
            cache_bytes: 128 * MIB,
            disk_reserve_bytes: 512 * MIB,
            segment_bytes: 64 * MIB,
            tail_bytes: 64 << 20,
            overlay_bytes: 64 << 20,
        }
    }
}

/// A store was not opened. What is refused for its damage is as it was: nothing of it was changed.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    #[error("another process has {path} open; stop it, or use another data directory")]
    Locked { path: PathBuf },
    #[error(
        "{path} has the format `{found}`, which this release does not know; use the release that wrote it, or a newer one"
    )]
    UnknownFormat { path: PathBuf, found: String },
    #[error("{path} is missing although the journal beside it holds units; restore the file from a backup")]
    FormatMissing { path: PathBuf },
    #[error("{path} is damaged at byte {offset}: {problem}; restore the file from a backup")]
    Damaged { path: PathBuf, offset: u64, problem: String },
    #[error(
        "the journal lacks units: {path} should begin with unit {expected} but begins with {found}; restore the missing file \
         from a backup"
    )]
    MissingUnits { path: PathBuf, expected: u64, found: u64 },
    #[error("{path} is missing, up to which the journal had come; restore the file from a backup")]
    SegmentMissing { path: PathBuf },
    #[error("{path} holds no journal although the store was in use; restore the journal from a backup")]
    JournalMissing { path: PathBuf },
    #[error(
        "the journal ends with unit {journal}, at byte {offset} of {segment}, but the {engine} engine has applied unit \
         {applied}: the journal has lost committed units. Restore its files from a backup, and keep {path}, which may be all \
         that is left of these units; to go on without them move it to another place, and the engine is filled again from the \
         journal"
    )]
    EngineAhead { engine: EngineKind, applied: u64, journal: u64, segment: PathBuf, offset: u64, path: PathBuf },
    /// Nothing speaks against the engine's files: the system refused, and may not another time.
    #[error(
        "the {engine} engine in {path} cannot be opened now, and is left as it is; put right what the system says and start \
         again"
    )]
    EngineUnavailable { engine: EngineKind, path: PathBuf, source: std::io::Error },
    #[error("the {engine} engine does not open, not even a new one: {problem}")]
    Engine { engine: EngineKind, problem: String },
    #[error("replaying the journal")]
    Replay(#[source] crate::ReadError),
    #[error("{what}")]
    Io { what: String, source: std::io::Error },
}

/// What a store says about itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Status {
    /// `sled`, `redb` or `memory`.
    pub engine: &'static str,
    /// The newest durable position of the log.
    pub head: Position,
    /// The newest position whose unit is in the engine.
    pub applied: Position,
    /// How many units were committed since the store was made.
    pub units: u64,
    /// How many of them are in the engine.
    pub applied_units: u64,
    pub journal_bytes: u64,
    pub segments: usize,
    /// What is committed and not yet in the engine.
    pub overlay_bytes: usize,
}
