//! An engine that holds of history where it lies in the journal, and not what it is: an event is on the disk once, and what
//! the engine takes in, keeps in its pages and writes again does not grow with what senders put into their events.

use std::borrow::Cow;
use std::sync::Arc;

use super::{Applied, Change, Engine, EngineError, EnginePage};
use crate::journal::{Journal, Spot};
use crate::{Key, KeyRange, Value};

/// The value itself follows: a row of history that no record of the log brought.
const WHOLE_TAG: u8 = 0;
/// `segment u64 | offset u64 | length u32 | crc32c u32` follow.
const SPOT_TAG: u8 = 1;
const SPOT_BYTES: usize = 25;

/// What the engine is given as the value of `key`, for [`History`] to read.
pub(crate) fn stored<'a>(key: &Key, value: &'a [u8], spot: Option<Spot>) -> Cow<'a, [u8]> {
    if !key.is_of_history() {
        return Cow::Borrowed(value);
    }
    match (spot, u32::try_from(value.len())) {
        (Some(spot), Ok(size_bytes)) => {
            let mut bytes = Vec::with_capacity(SPOT_BYTES);
            bytes.push(SPOT_TAG);
            bytes.extend_from_slice(&spot.segment.to_be_bytes());
            bytes.extend_from_slice(&spot.offset.to_be_bytes());
            bytes.extend_from_slice(&size_bytes.to_be_bytes());
            bytes.extend_from_slice(&crc32c::crc32c(value).to_be_bytes());
            Cow::Owned(bytes)
        }
        _ => Cow::Owned([&[WHOLE_TAG], value].concat()),
    }
}

/// The rows of another engine, those of history read from the journal.
pub(crate) struct History {
    rows: Box<dyn Engine>,
    journal: Arc<Journal>,
}

impl History {
    pub(crate) fn new(rows: Box<dyn Engine>, journal: Arc<Journal>) -> History {
        History { rows, journal }
    }

    /// The value of `key`, for which the engine holds `bytes`.
    fn read(&self, key: &Key, bytes: Value) -> Result<Value, EngineError> {
        if !key.is_of_history() {
            return Ok(bytes);
        }
        let engine = self.rows.name();
        let damaged = |problem: &str| EngineError::Corrupt { engine, problem: format!("{problem} (key {key:02x?})") };
        match bytes.split_first() {
            Some((&WHOLE_TAG, value)) => Ok(Value::from(value)),
            Some((&SPOT_TAG, rest)) => {
                let (spot, size_bytes, crc) = read_spot(rest).ok_or_else(|| damaged("an event's place is cut off"))?;
                let value = self.journal.read(spot, size_bytes).map_err(|source| EngineError::of_io(engine, source))?;
                if crc32c::crc32c(&value) == crc {
                    Ok(value)
                } else {
                    Err(damaged("the journal holds something else where an event is said to be"))
                }
            }
            _ => Err(damaged("an event's place has no known tag")),
        }
    }
}

fn read_spot(bytes: &[u8]) -> Option<(Spot, usize, u32)> {
    let (segment, rest) = bytes.split_first_chunk::<8>()?;
    let (offset, rest) = rest.split_first_chunk::<8>()?;
    let (size_bytes, rest) = rest.split_first_chunk::<4>()?;
    let crc: [u8; 4] = rest.try_into().ok()?;
    let spot = Spot { segment: u64::from_be_bytes(*segment), offset: u64::from_be_bytes(*offset) };
    Some((spot, u32::from_be_bytes(*size_bytes) as usize, u32::from_be_bytes(crc)))
}

impl Engine for History {
    fn name(&self) -> &'static str {
        self.rows.name()
    }

    fn max_changes(&self) -> usize {
        self.rows.max_changes()
    }

    fn get(&self, keys: &[&Key]) -> Result<Vec<Option<Value>>, EngineError> {
        let rows = self.rows.get(keys)?;
        keys.iter().zip(rows).map(|(key, row)| row.map(|row| self.read(key, row)).transpose()).collect()
    }

    fn scan(&self, range: &KeyRange, max_rows: usize, max_bytes: usize) -> Result<EnginePage, EngineError> {
        let found = self.rows.scan(range, max_rows, max_bytes)?;
        let mut page = EnginePage { rows: Vec::with_capacity(found.rows.len()), more: found.more };
        let mut bytes = 0;
        for (key, row) in found.rows {
            if bytes >= max_bytes {
                page.more = true;
                break;
            }
            let value = self.read(&key, row)?;
            bytes += value.len();
            page.rows.push((key, value));
        }
        Ok(page)
    }

    fn apply(&self, changes: &[Change<'_>], applied: Option<Applied>) -> Result<(), EngineError> {
        self.rows.apply(changes, applied)
    }

    fn applied(&self) -> Result<Option<Applied>, EngineError> {
        self.rows.applied()
    }

    fn sync(&self) -> Result<(), EngineError> {
        self.rows.sync()
    }
}
