//! What the embedded store asks of a key-value engine. An engine holds a view of the journal: it may lose its newest batches
//! in a crash, and it may be deleted, since the marker of the last applied unit tells which units to apply again. What is
//! durable, and what a reader sees of units that are not applied yet, is the store's affair.

use std::io::{self, ErrorKind};
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
    /// The system refused. Nothing is said of the engine: another time it may be open.
    #[error("the {engine} engine could not read or write its files")]
    Io { engine: &'static str, source: io::Error },
}

impl EngineError {
    /// What an error of a file says of the engine. That something is missing, too short or no place in a file is damage; all
    /// else, a full disk, too many open files, a missing right, is the system's and passes.
    pub(crate) fn of_io(engine: &'static str, source: io::Error) -> EngineError {
        match source.kind() {
            ErrorKind::NotFound
            | ErrorKind::AlreadyExists
            | ErrorKind::UnexpectedEof
            | ErrorKind::InvalidData
            | ErrorKind::InvalidInput
            | ErrorKind::NotADirectory
            | ErrorKind::IsADirectory => EngineError::Corrupt { engine, problem: source.to_string() },
            _ => EngineError::Io { engine, source },
        }
    }

    /// What a panic with this text says of the engine. Both engines unwrap errors of the system in places.
    fn of_panic(engine: &'static str, text: &str) -> EngineError {
        let code = text.split_once("Os { code: ").and_then(|(_, rest)| rest.split_once(',')?.0.parse().ok());
        match code.map(|code| EngineError::of_io(engine, io::Error::from_raw_os_error(code))) {
            Some(error @ EngineError::Io { .. }) => error,
            _ => EngineError::Corrupt { engine, problem: format!("it panicked: {text}") },
        }
    }
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
    /// The journal's fingerprint as of that unit, by which an engine that was filled from another history is known.
    pub(crate) fingerprint: u64,
}

impl Applied {
    fn to_bytes(self) -> [u8; 25] {
        let mut bytes = [0; 25];
        bytes[0] = 2;
        bytes[1..9].copy_from_slice(&self.sequence.to_be_bytes());
        bytes[9..17].copy_from_slice(&self.position.to_be_bytes());
        bytes[17..].copy_from_slice(&self.fingerprint.to_be_bytes());
        bytes
    }

    /// A marker of version 1 has no fingerprint: it shows how far an engine has come, and not of which history.
    fn from_bytes(bytes: &[u8]) -> Option<Applied> {
        let (version, rest) = bytes.split_first()?;
        let (sequence, rest) = rest.split_first_chunk::<8>()?;
        let (position, rest) = rest.split_first_chunk::<8>()?;
        let fingerprint = match (version, rest) {
            (1, []) => 0,
            (2, rest) => u64::from_be_bytes(rest.try_into().ok()?),
            _ => return None,
        };
        let (sequence, position) = (u64::from_be_bytes(*sequence), u64::from_be_bytes(*position));
        Some(Applied { sequence, position, fingerprint })
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
        Err(EngineError::of_panic(engine, &text))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the system refuses now.
    const PASSING: [rustix::io::Errno; 8] = {
        use rustix::io::Errno;
        [Errno::NOSPC, Errno::DQUOT, Errno::MFILE, Errno::NFILE, Errno::ACCESS, Errno::ROFS, Errno::IO, Errno::NOMEM]
    };

    #[test]
    fn what_the_system_refuses_is_no_damage() {
        for errno in PASSING {
            let error = || io::Error::from_raw_os_error(errno.raw_os_error());
            assert!(matches!(EngineError::of_io("sled", error()), EngineError::Io { .. }), "{errno}");
            // As sled does with what its flusher met.
            let cloned = io::Error::new(error().kind(), format!("{:?}", error()));
            assert!(matches!(EngineError::of_io("sled", cloned), EngineError::Io { .. }), "{errno}");
            let panicked: Result<(), EngineError> = catch("sled", || panic!("`Err` unwrapped: {:?}", error()));
            assert!(matches!(panicked, Err(EngineError::Io { .. })), "{errno}: {panicked:?}");
        }
        for kind in [ErrorKind::UnexpectedEof, ErrorKind::InvalidData, ErrorKind::NotFound] {
            assert!(matches!(EngineError::of_io("redb", kind.into()), EngineError::Corrupt { .. }), "{kind}");
        }
        let panicked: Result<(), EngineError> = catch("redb", || panic!("no page 7"));
        assert!(matches!(panicked, Err(EngineError::Corrupt { problem, .. }) if problem.ends_with("no page 7")));
    }

    #[test]
    fn a_marker_reads_back_and_one_of_the_version_before_has_no_fingerprint() {
        let applied = Applied { sequence: 7, position: 12, fingerprint: 99 };
        assert_eq!(Applied::from_bytes(&applied.to_bytes()), Some(applied));
        let before = [&[1], &applied.to_bytes()[1..17]].concat();
        assert_eq!(Applied::from_bytes(&before), Some(Applied { fingerprint: 0, ..applied }));
        for cut in 0..25 {
            assert_eq!(Applied::from_bytes(&applied.to_bytes()[..cut]), None);
        }
    }
}
