//! What the embedded store asks of a key-value engine. An engine holds a view of the journal: it may lose its newest batches
//! in a crash, and it may be deleted, since the marker of the last applied unit tells which units to apply again. What is
//! durable, and what a reader sees of units that are not applied yet, is the store's affair.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use crate::{Key, KeyRange, ReadError, Value};

pub(crate) mod history;
pub(crate) mod memory;
pub(crate) mod redb;
pub(crate) mod sled;

/// An engine did not do what it was asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum EngineError {
    #[error("the {engine} engine is damaged: {problem}")]
    Corrupt { engine: &'static str, problem: String },
    #[error("the {engine} engine could not read or write its files")]
    Io { engine: &'static str, source: std::io::Error },
}

impl From<EngineError> for ReadError {
    fn from(error: EngineError) -> ReadError {
        match error {
            EngineError::Corrupt { engine, problem } => {
                ReadError::Corrupt { what: format!("the {engine} engine"), problem, row: None }
            }
            EngineError::Io { engine, source } => {
                ReadError::Io { what: format!("the {engine} engine"), source: Arc::new(source) }
            }
        }
    }
}

/// How far an engine has come: all units up to `sequence` are in it.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Applied {
    /// The last applied unit.
    pub(crate) sequence: u64,
    /// The newest log position as of that unit.
    pub(crate) position: u64,
}

impl Applied {
    fn to_bytes(self) -> [u8; 17] {
        let mut bytes = [0; 17];
        bytes[0] = 1;
        bytes[1..9].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[9..].copy_from_slice(&self.position.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Applied> {
        let (version, rest) = bytes.split_first()?;
        let (sequence, position) = rest.split_first_chunk::<8>()?;
        let position: [u8; 8] = position.try_into().ok()?;
        (*version == 1)
            .then(|| Applied { sequence: u64::from_be_bytes(*sequence), position: u64::from_be_bytes(position) })
    }
}

/// A row to put, or with no value a row to delete.
pub(crate) type Change<'a> = (&'a Key, Option<&'a [u8]>);

/// One page of an engine's rows.
#[derive(Debug, Default)]
pub(crate) struct EnginePage {
    pub(crate) rows: Vec<(Key, Value)>,
    /// Whether the range may have rows behind the last one of this page.
    pub(crate) more: bool,
}

/// An ordered key-value engine. Reads come from many threads, changes from one.
pub(crate) trait Engine: Send + Sync {
    /// The name that status and messages show.
    fn name(&self) -> &'static str;

    /// How many changes the applier should hand over at once.
    fn max_changes(&self) -> usize;

    /// The rows of `keys`, in their order.
    fn get(&self, keys: &[&Key]) -> Result<Vec<Option<Value>>, EngineError>;

    /// Rows of `range` in key order until there are `max_rows` of them or `max_bytes` is passed; at least one if there is one.
    fn scan(&self, range: &KeyRange, max_rows: usize, max_bytes: usize) -> Result<EnginePage, EngineError>;

    /// Make `changes`; no reader sees a part of one row. With `applied`, the marker is set no sooner than the last change.
    fn apply(&self, changes: &[Change<'_>], applied: Option<Applied>) -> Result<(), EngineError>;

    /// The marker; `None` in an engine that holds nothing.
    fn applied(&self) -> Result<Option<Applied>, EngineError>;

    /// Bring all that was applied to disk. Only shortens recovery: the journal has it already.
    fn sync(&self) -> Result<(), EngineError>;
}

/// Run `read`, turning a panic inside the engine into an error: both engines panic on some kinds of damage.
fn catch<T>(engine: &'static str, read: impl FnOnce() -> Result<T, EngineError>) -> Result<T, EngineError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|panic| {
        let text = panic.downcast_ref::<&str>().map(|text| (*text).to_owned());
        let text = text.or_else(|| panic.downcast_ref::<String>().cloned()).unwrap_or_default();
        Err(EngineError::Corrupt { engine, problem: format!("it panicked: {text}") })
    })
}
