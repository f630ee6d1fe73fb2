//! The bytes of journal records: what FORMAT.md describes, and nothing about files.
//!
//! A record is one unit. Its operations are resolved: a job or a lease is written as the rows it became, so that applying a
//! record again gives the same rows whatever the engine holds.

use kith_model::id::WorkspaceId;

use crate::{Key, Value};

/// `len u32 | crc32c u32 | sequence u64`, before the payload.
pub(crate) const HEADER_BYTES: usize = 16;
/// `version u8 | back u32 | first position u64 | appended u32`, at the beginning of the payload.
const PREFIX_BYTES: usize = 17;
/// A record without operations; none is shorter.
pub(crate) const LEAST_BYTES: usize = HEADER_BYTES + PREFIX_BYTES;
const VERSION: u8 = 1;

const PUT: u8 = 1;
const DELETE: u8 = 2;
const APPEND: u8 = 3;
const APPEND_ROW: u8 = 4;

/// What a unit does, ready to be written and applied.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Put(Key, Value),
    Delete(Key),
    Append { workspace: WorkspaceId, record: Value, row: Option<Key> },
}

/// An operation as it lies in a record.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Operation<'a> {
    Put { key: &'a [u8], value: &'a [u8] },
    Delete { key: &'a [u8] },
    Append { workspace: WorkspaceId, record: &'a [u8], row: Option<&'a [u8]> },
}

impl Operation<'_> {
    /// The operation as an effect of its own.
    pub(crate) fn to_effect(self) -> Effect {
        let key = |bytes: &[u8]| Key::from_bytes(bytes.to_vec());
        match self {
            Operation::Put { key: bytes, value } => Effect::Put(key(bytes), Value::from(value)),
            Operation::Delete { key: bytes } => Effect::Delete(key(bytes)),
            Operation::Append { workspace, record, row } => {
                Effect::Append { workspace, record: Value::from(record), row: row.map(key) }
            }
        }
    }
}

/// Where a unit stands in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Place {
    /// The unit's number; units are numbered from 1 without gaps.
    pub(crate) sequence: u64,
    /// The first unit of the group that was synced together with this one.
    pub(crate) group: u64,
    /// The position of the unit's first appended record, or the one the next appended record will have.
    pub(crate) first_position: u64,
    /// How many records it appends.
    pub(crate) appended: u32,
}

impl Place {
    /// The position that the next unit begins with.
    pub(crate) fn next_position(&self) -> u64 {
        self.first_position + u64::from(self.appended)
    }
}

/// One whole record whose checksum holds.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Record<'a> {
    pub(crate) place: Place,
    operations: &'a [u8],
    pub(crate) size_bytes: usize,
    pub(crate) checksum: u32,
}

fn length(bytes: &[u8]) -> [u8; 4] {
    u32::try_from(bytes.len()).expect("the limits of a unit are far below 4 GiB").to_be_bytes()
}

fn put_bytes(buffer: &mut Vec<u8>, bytes: &[u8]) {
    buffer.extend_from_slice(&length(bytes));
    buffer.extend_from_slice(bytes);
}

/// Write `effect` behind `buffer`, which is to become a record's operations.
pub(crate) fn write_operation(buffer: &mut Vec<u8>, effect: &Effect) {
    match effect {
        Effect::Put(key, value) => {
            buffer.push(PUT);
            put_bytes(buffer, key.as_bytes());
            put_bytes(buffer, value);
        }
        Effect::Delete(key) => {
            buffer.push(DELETE);
            put_bytes(buffer, key.as_bytes());
        }
        Effect::Append { workspace, record, row } => {
            buffer.push(if row.is_some() { APPEND_ROW } else { APPEND });
            buffer.extend_from_slice(&workspace.0.to_be_bytes());
            if let Some(row) = row {
                put_bytes(buffer, row.as_bytes());
            }
            put_bytes(buffer, record);
        }
    }
}

/// How many bytes [`write_operation`] writes for `effect`.
pub(crate) fn operation_bytes(effect: &Effect) -> usize {
    let text = |bytes: usize| size_of::<u32>() + bytes;
    1 + match effect {
        Effect::Put(key, value) => text(key.as_bytes().len()) + text(value.len()),
        Effect::Delete(key) => text(key.as_bytes().len()),
        Effect::Append { record, row, .. } => {
            let row = row.as_ref().map_or(0, |row| text(row.as_bytes().len()));
            size_of::<u32>() + row + text(record.len())
        }
    }
}

/// How many bytes a record with these operations has.
pub(crate) fn record_bytes(operations: &[u8]) -> usize {
    LEAST_BYTES + operations.len()
}

/// Write the record of one unit behind `buffer`; its checksum.
pub(crate) fn write_record(buffer: &mut Vec<u8>, place: Place, operations: &[u8]) -> u32 {
    let start = buffer.len();
    let payload_bytes = PREFIX_BYTES + operations.len();
    let payload_length = u32::try_from(payload_bytes).expect("the limits of a unit are far below 4 GiB");
    let back = u32::try_from(place.sequence - place.group).expect("a group has at most a few thousand units");
    buffer.extend_from_slice(&payload_length.to_be_bytes());
    buffer.extend_from_slice(&[0; 4]);
    buffer.extend_from_slice(&place.sequence.to_be_bytes());
    buffer.push(VERSION);
    buffer.extend_from_slice(&back.to_be_bytes());
    buffer.extend_from_slice(&place.first_position.to_be_bytes());
    buffer.extend_from_slice(&place.appended.to_be_bytes());
    buffer.extend_from_slice(operations);
    let crc = checksum(payload_length, &buffer[start + 8..]);
    buffer[start + 4..start + 8].copy_from_slice(&crc.to_be_bytes());
    crc
}

/// The checksum covers the length as well: a wrong length must not look like another record.
fn checksum(payload_length: u32, rest: &[u8]) -> u32 {
    crc32c::crc32c_append(crc32c::crc32c(&payload_length.to_be_bytes()), rest)
}

fn number<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

/// The size of the record that begins `bytes`, as its length field has it; `None` if the field is cut off or cannot be right.
pub(crate) fn claimed_bytes(bytes: &[u8]) -> Option<usize> {
    let payload_bytes = u32::from_be_bytes(number(bytes, 0)?) as usize;
    (payload_bytes >= PREFIX_BYTES).then_some(HEADER_BYTES + payload_bytes)
}

/// The record that begins `bytes`, or why there is none.
pub(crate) fn read_record(bytes: &[u8]) -> Result<Record<'_>, &'static str> {
    let size_bytes = claimed_bytes(bytes).ok_or("the record's length is missing or wrong")?;
    let record = bytes.get(..size_bytes).ok_or("the record is cut off")?;
    let field = "the record is cut off";
    let payload_length = u32::from_be_bytes(number(record, 0).ok_or(field)?);
    let crc = u32::from_be_bytes(number(record, 4).ok_or(field)?);
    if crc != checksum(payload_length, &record[8..]) {
        return Err("the record's checksum does not match its bytes");
    }
    if record[HEADER_BYTES] != VERSION {
        return Err("the record has a version that this release does not know");
    }
    let sequence = u64::from_be_bytes(number(record, 8).ok_or(field)?);
    let back = u32::from_be_bytes(number(record, HEADER_BYTES + 1).ok_or(field)?);
    let first_position = u64::from_be_bytes(number(record, HEADER_BYTES + 5).ok_or(field)?);
    let appended = u32::from_be_bytes(number(record, HEADER_BYTES + 13).ok_or(field)?);
    let group = sequence.checked_sub(u64::from(back)).ok_or("the record's group is wrong")?;
    let place = Place { sequence, group, first_position, appended };
    Ok(Record { place, operations: &record[LEAST_BYTES..], size_bytes, checksum: crc })
}

/// Read a record of `bytes`, and one of the same bytes with the right length and checksum.
pub(crate) fn check(bytes: &[u8]) {
    let read = |bytes: &[u8]| {
        if let Ok(record) = read_record(bytes) {
            debug_assert!(record.size_bytes <= bytes.len());
            record.operations().for_each(drop);
        }
    };
    read(bytes);
    if bytes.len() >= LEAST_BYTES
        && let Ok(payload_length) = u32::try_from(bytes.len() - HEADER_BYTES)
    {
        let mut sealed = bytes.to_vec();
        sealed[..4].copy_from_slice(&payload_length.to_be_bytes());
        let crc = checksum(payload_length, &sealed[8..]);
        sealed[4..8].copy_from_slice(&crc.to_be_bytes());
        sealed[HEADER_BYTES] = VERSION;
        read(&sealed);
    }
}

impl<'a> Record<'a> {
    /// The unit's operations in their order.
    pub(crate) fn operations(&self) -> impl Iterator<Item = Result<Operation<'a>, &'static str>> + use<'a> {
        let mut rest = self.operations;
        std::iter::from_fn(move || {
            if rest.is_empty() {
                return None;
            }
            let operation = read_operation(&mut rest).ok_or("an operation of the record cannot be read");
            if operation.is_err() {
                rest = &[];
            }
            Some(operation)
        })
    }
}

fn take<'a>(rest: &mut &'a [u8], size_bytes: usize) -> Option<&'a [u8]> {
    let (taken, behind) = rest.split_at_checked(size_bytes)?;
    *rest = behind;
    Some(taken)
}

fn take_u32(rest: &mut &[u8]) -> Option<u32> {
    Some(u32::from_be_bytes(take(rest, 4)?.try_into().ok()?))
}

fn take_bytes<'a>(rest: &mut &'a [u8]) -> Option<&'a [u8]> {
    let size_bytes = take_u32(rest)? as usize;
    take(rest, size_bytes)
}

fn read_operation<'a>(rest: &mut &'a [u8]) -> Option<Operation<'a>> {
    let kind = take(rest, 1)?[0];
    match kind {
        PUT => Some(Operation::Put { key: take_bytes(rest)?, value: take_bytes(rest)? }),
        DELETE => Some(Operation::Delete { key: take_bytes(rest)? }),
        APPEND | APPEND_ROW => {
            let workspace = WorkspaceId(take_u32(rest)?);
            let row = if kind == APPEND_ROW { Some(take_bytes(rest)?) } else { None };
            Some(Operation::Append { workspace, record: take_bytes(rest)?, row })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample() -> (Place, Vec<Effect>, Vec<u8>) {
        let effects = vec![
            Effect::Put(Key::meta("a"), Value::from(b"one".as_slice())),
            Effect::Append { workspace: WorkspaceId(7), record: Value::from(b"event".as_slice()), row: None },
            Effect::Delete(Key::meta("b")),
            Effect::Append {
                workspace: WorkspaceId(8),
                record: Value::from([].as_slice()),
                row: Some(Key::meta("events")),
            },
        ];
        let place = Place { sequence: 12, group: 10, first_position: 99, appended: 2 };
        let mut operations = Vec::new();
        for effect in &effects {
            let before = operations.len();
            write_operation(&mut operations, effect);
            assert_eq!(operations.len() - before, operation_bytes(effect), "{effect:?}");
        }
        let mut bytes = Vec::new();
        let checksum = write_record(&mut bytes, place, &operations);
        assert_eq!(read_record(&bytes).unwrap().checksum, checksum);
        assert_eq!(bytes.len(), record_bytes(&operations));
        (place, effects, bytes)
    }

    #[test]
    fn a_record_reads_back() {
        let (place, effects, bytes) = sample();
        let record = read_record(&bytes).unwrap();
        assert_eq!(record.place, place);
        assert_eq!(record.size_bytes, bytes.len());
        let read: Vec<_> = record.operations().map(|operation| operation.unwrap().to_effect()).collect();
        assert_eq!(read, effects);
    }

    #[test]
    fn no_changed_bit_and_no_cut_goes_unseen() {
        let (_, _, bytes) = sample();
        for at in 0..bytes.len() {
            assert!(read_record(&bytes[..at]).is_err(), "cut at {at}");
            for bit in 0..8 {
                let mut changed = bytes.clone();
                changed[at] ^= 1 << bit;
                assert!(read_record(&changed).is_err(), "bit {bit} of byte {at}");
            }
        }
    }
}
