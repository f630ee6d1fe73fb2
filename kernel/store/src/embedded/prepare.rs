//! From a caller's unit to what the writer needs: checked, encoded and copied on the caller's thread, because all units pass
//! through one writer.

use crate::journal::record::{self, Effect};
use crate::{CommitError, Fence, JobId, Key, Operation, Precondition, QueueId, Unit, Value};

use kith_model::time::Timestamp;

/// The largest unit, by [`Unit::size_bytes`]: an uploaded component fits, and half a journal segment is never one record.
pub const MAX_UNIT_BYTES: usize = 32 * 1024 * 1024;
/// The longest key. Engines keep keys in their inner pages, where long ones cost depth.
pub(crate) const MAX_KEY_BYTES: usize = 4096;

/// What a unit does to a queue; the writer turns it into rows, since it depends on where the job is now.
#[derive(Debug)]
pub(crate) enum JobStep {
    Enqueue { queue: QueueId, id: JobId, due_at: Timestamp, body: Vec<u8> },
    Acknowledge { queue: QueueId, id: JobId },
}

/// A unit on its way to the writer.
#[derive(Debug)]
pub(crate) struct Prepared {
    pub(crate) preconditions: Vec<Precondition>,
    /// The unit up to which the caller has seen the preconditions hold; only later ones can break them. `None` where they did
    /// not hold then, and only the units before this one in its group may have changed that.
    pub(crate) checked: Option<u64>,
    pub(crate) fence: Option<Fence>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) jobs: Vec<JobStep>,
    /// `effects` as a record's operations.
    pub(crate) encoded: Vec<u8>,
    pub(crate) appended: u32,
    /// By [`Unit::size_bytes`].
    pub(crate) size_bytes: usize,
}

fn check(bytes: usize, limit: usize) -> Result<(), CommitError> {
    if bytes <= limit { Ok(()) } else { Err(CommitError::TooLarge { bytes, limit }) }
}

/// What an operation costs beside its key and value: its kind, its lengths, a workspace, a position.
const OPERATION_BYTES: usize = 24;
/// What the rows of a job come to when it is put in or moved, and when it is removed; its body is not part of that.
const ENQUEUE_BYTES: usize = 224;
const ACKNOWLEDGE_BYTES: usize = 144;

impl Operation {
    /// The key that a caller chose.
    fn key(&self) -> Option<&Key> {
        match self {
            Operation::Put(key, _) | Operation::Delete(key) => Some(key),
            Operation::Append { row, .. } => row.as_ref(),
            Operation::Enqueue { .. } | Operation::Acknowledge { .. } => None,
        }
    }

    /// At most how many bytes this adds to the journal, for whoever cuts a long list of operations into units.
    pub fn size_bytes(&self) -> usize {
        let key_bytes = self.key().map_or(0, |key| key.as_bytes().len());
        let rest_bytes = match self {
            Operation::Put(_, value) => value.len(),
            Operation::Delete(_) => 0,
            Operation::Append { record, .. } => record.len(),
            Operation::Enqueue { body, .. } => ENQUEUE_BYTES + body.len(),
            Operation::Acknowledge { .. } => ACKNOWLEDGE_BYTES,
        };
        OPERATION_BYTES + key_bytes + rest_bytes
    }
}

impl Unit {
    /// The size by which a unit is judged: that of its operations. No unit above [`MAX_UNIT_BYTES`] is committed.
    pub fn size_bytes(&self) -> usize {
        self.operations.iter().map(Operation::size_bytes).sum()
    }
}

/// Make `unit` ready for the writer.
pub(crate) fn prepare(unit: Unit) -> Result<Prepared, CommitError> {
    let keys = unit.operations.iter().filter_map(Operation::key);
    let longest = keys.map(|key| key.as_bytes().len()).max();
    check(longest.unwrap_or(0), MAX_KEY_BYTES)?;
    let size_bytes = unit.size_bytes();
    check(size_bytes, MAX_UNIT_BYTES)?;
    let mut prepared = Prepared {
        preconditions: unit.preconditions,
        checked: None,
        fence: unit.fence,
        effects: Vec::with_capacity(unit.operations.len()),
        jobs: Vec::new(),
        encoded: Vec::with_capacity(size_bytes),
        appended: 0,
        size_bytes,
    };
    for operation in unit.operations {
        let effect = match operation {
            Operation::Put(key, value) => Effect::Put(key, Value::from(value)),
            Operation::Delete(key) => Effect::Delete(key),
            Operation::Append { workspace, record, row } => {
                prepared.appended += 1;
                Effect::Append { workspace, record: Value::from(record), row }
            }
            Operation::Enqueue { queue, id, due_at, body } => {
                prepared.jobs.push(JobStep::Enqueue { queue, id, due_at, body });
                continue;
            }
            Operation::Acknowledge { queue, id } => {
                prepared.jobs.push(JobStep::Acknowledge { queue, id });
                continue;
            }
        };
        record::write_operation(&mut prepared.encoded, &effect);
        prepared.effects.push(effect);
    }
    debug_assert!(prepared.encoded.len() <= size_bytes, "the size of an operation is what it comes to at most");
    Ok(prepared)
}
