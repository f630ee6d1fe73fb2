//! From a caller's unit to what the writer needs: checked, encoded and copied on the caller's thread, because all units pass
//! through one writer.

use crate::journal::record::{self, Effect};
use crate::{CommitError, Fence, JobId, Key, Operation, Precondition, QueueId, Unit, Value};

use kith_model::time::Timestamp;

/// The largest unit: an uploaded component fits, and half a journal segment is never one record.
pub(crate) const MAX_UNIT_BYTES: usize = 32 * 1024 * 1024;
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
    /// The unit up to which the caller has seen the preconditions hold; only later ones can break them.
    pub(crate) checked: u64,
    pub(crate) fence: Option<Fence>,
    pub(crate) effects: Vec<Effect>,
    pub(crate) jobs: Vec<JobStep>,
    /// `effects` as a record's operations.
    pub(crate) encoded: Vec<u8>,
    pub(crate) appended: u32,
}

fn check(bytes: usize, limit: usize) -> Result<(), CommitError> {
    if bytes <= limit { Ok(()) } else { Err(CommitError::TooLarge { bytes, limit }) }
}

fn operation_bytes(operation: &Operation) -> (usize, usize) {
    let key_bytes = |key: &Key| key.as_bytes().len();
    match operation {
        Operation::Put(key, value) => (key_bytes(key), value.len()),
        Operation::Delete(key) => (key_bytes(key), 0),
        Operation::Append { record, row, .. } => (row.as_ref().map_or(0, |row| key_bytes(row) + 8), record.len()),
        Operation::Enqueue { body, .. } => (64, body.len()),
        Operation::Acknowledge { .. } => (64, 0),
    }
}

/// Make `unit` ready for the writer.
pub(crate) fn prepare(unit: Unit) -> Result<Prepared, CommitError> {
    let mut bytes = 0;
    for operation in &unit.operations {
        let (key_bytes, value_bytes) = operation_bytes(operation);
        check(key_bytes, MAX_KEY_BYTES)?;
        bytes += key_bytes + value_bytes + 16;
    }
    check(bytes, MAX_UNIT_BYTES)?;
    let mut prepared = Prepared {
        preconditions: unit.preconditions,
        checked: 0,
        fence: unit.fence,
        effects: Vec::with_capacity(unit.operations.len()),
        jobs: Vec::new(),
        encoded: Vec::with_capacity(bytes),
        appended: 0,
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
    Ok(prepared)
}
