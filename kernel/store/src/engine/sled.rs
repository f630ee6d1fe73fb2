//! sled 0.34.7 within the bounds in which it is known to behave: one tree, batches of at most 512 operations, values of at
//! most 4 KiB, the background flusher on; no transactions, merge operators, `len`, `generate_id` or `flush_async`.
//!
//! A larger value is kept in parts in the space of engines; its row then holds only their number. sled's iterators see
//! half of a batch, so a lock keeps readers out while a batch goes in; sled holds a lock of its own over the same calls.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::path::Path;

use parking_lot::{Mutex, RwLock};
use xxhash_rust::xxh3::xxh3_64;

use super::{Applied, Change, Engine, EngineError, EnginePage, catch};
use crate::{Key, KeyRange, Value, keys};

const NAME: &str = "sled";
/// Larger batches make sled's memory grow to many times its cache.
const MAX_BATCH: usize = 512;
/// What sled stores as one value, tag included. A page of much larger ones becomes a file that sled never syncs.
const MAX_VALUE_BYTES: usize = 4096;

const PARTS: u8 = keys::ENGINE;
const SPLIT: u8 = keys::ENGINE + 1;
const MARKER: &[u8] = &[0xff];

const WHOLE_TAG: u8 = 0;
const SPLIT_TAG: u8 = 1;

/// A sled directory.
pub(crate) struct SledEngine {
    database: sled::Db,
    /// sled's `flush` does not wait for the disk on Linux; a sync of a second handle on its file does.
    file: File,
    readers: RwLock<()>,
    /// Hashes of the keys whose values are in parts, so that a small put need not look for parts to delete.
    split: Mutex<HashSet<u64>>,
}

fn failed(error: sled::Error) -> EngineError {
    match error {
        sled::Error::Io(source) => EngineError::Io { engine: NAME, source },
        error => EngineError::Corrupt { engine: NAME, problem: error.to_string() },
    }
}

fn damaged(problem: &str, key: &[u8]) -> EngineError {
    EngineError::Corrupt { engine: NAME, problem: format!("{problem} (key {key:02x?})") }
}

/// Open or create the engine in `directory`.
pub(crate) fn open(directory: &Path, cache_bytes: u64) -> Result<SledEngine, EngineError> {
    catch(NAME, || {
        let config = sled::Config::new().path(directory).cache_capacity(cache_bytes).flush_every_ms(Some(500));
        let database = config.open().map_err(failed)?;
        let io = |source| EngineError::Io { engine: NAME, source };
        let file = OpenOptions::new().read(true).write(true).open(directory.join("db")).map_err(io)?;
        let mut split = HashSet::new();
        for row in database.range([SPLIT].as_slice()..[SPLIT + 1].as_slice()) {
            let (key, _) = row.map_err(failed)?;
            split.insert(xxh3_64(&key[1..]));
        }
        Ok(SledEngine { database, file, readers: RwLock::new(()), split: Mutex::new(split) })
    })
}

/// The key of part `number` of the value of `key`. The length keeps parts of different keys apart.
fn part_key(key: &[u8], number: u32) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(key.len() + 9);
    bytes.push(PARTS);
    bytes.extend_from_slice(&u32::try_from(key.len()).unwrap_or(u32::MAX).to_be_bytes());
    bytes.extend_from_slice(key);
    bytes.extend_from_slice(&number.to_be_bytes());
    bytes
}

fn split_key(key: &[u8]) -> Vec<u8> {
    [&[SPLIT], key].concat()
}

/// What a row's bytes say.
enum Row<'a> {
    Whole(&'a [u8]),
    Split { parts: u32, size_bytes: usize },
}

fn read_row<'a>(key: &[u8], bytes: &'a [u8]) -> Result<Row<'a>, EngineError> {
    match bytes.split_first() {
        Some((&WHOLE_TAG, value)) => Ok(Row::Whole(value)),
        Some((&SPLIT_TAG, rest)) => {
            let numbers = rest.split_first_chunk::<4>().and_then(|(parts, size)| Some((*parts, size.try_into().ok()?)));
            let (parts, size) = numbers.ok_or_else(|| damaged("a value's number of parts is cut off", key))?;
            Ok(Row::Split { parts: u32::from_be_bytes(parts), size_bytes: u32::from_be_bytes(size) as usize })
        }
        _ => Err(damaged("a value has no known tag", key)),
    }
}

impl SledEngine {
    fn value(&self, key: &[u8], bytes: &[u8]) -> Result<Value, EngineError> {
        let (parts, size_bytes) = match read_row(key, bytes)? {
            Row::Whole(value) => return Ok(Value::from(value)),
            Row::Split { parts, size_bytes } => (parts, size_bytes),
        };
        let mut value = Vec::with_capacity(size_bytes);
        for number in 0..parts {
            let part = self.database.get(part_key(key, number)).map_err(failed)?;
            value.extend_from_slice(&part.ok_or_else(|| damaged("a part of a value is missing", key))?);
        }
        if value.len() == size_bytes {
            Ok(Value::from(value))
        } else {
            Err(damaged("the parts of a value do not add up", key))
        }
    }

    /// How many parts the value of `key` has now.
    fn parts_of(&self, key: &[u8]) -> Result<u32, EngineError> {
        let Some(bytes) = self.database.get(key).map_err(failed)? else { return Ok(0) };
        match read_row(key, &bytes)? {
            Row::Whole(_) => Ok(0),
            Row::Split { parts, .. } => Ok(parts),
        }
    }

    fn change(&self, batch: &mut Batch<'_>, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        let hash = xxh3_64(key);
        let was_split = self.split.lock().contains(&hash);
        let old_parts = if was_split { self.parts_of(key)? } else { 0 };
        let mut new_parts = 0;
        match value {
            None => batch.remove(key)?,
            Some(value) if value.len() < MAX_VALUE_BYTES => {
                let mut row = Vec::with_capacity(1 + value.len());
                row.push(WHOLE_TAG);
                row.extend_from_slice(value);
                batch.insert(key, row)?;
            }
            Some(value) => {
                let too_large = |_| damaged("a value is larger than 4 GiB", key);
                let size_bytes = u32::try_from(value.len()).map_err(too_large)?;
                for part in value.chunks(MAX_VALUE_BYTES) {
                    batch.insert(&part_key(key, new_parts), part.to_vec())?;
                    new_parts += 1;
                }
                let row = [&[SPLIT_TAG], &new_parts.to_be_bytes()[..], &size_bytes.to_be_bytes()].concat();
                batch.insert(key, row)?;
                batch.insert(&split_key(key), Vec::new())?;
                self.split.lock().insert(hash);
            }
        }
        for number in new_parts..old_parts {
            batch.remove(&part_key(key, number))?;
        }
        if old_parts > 0 && new_parts == 0 {
            batch.remove(&split_key(key))?;
            self.split.lock().remove(&hash);
        }
        Ok(())
    }
}

/// Operations on their way into the tree, never more than sled handles well. A value that needs several batches is safe
/// even so: readers wait for all of them, and after a crash the journal brings the whole value again.
struct Batch<'a> {
    database: &'a sled::Db,
    batch: sled::Batch,
    operations: usize,
}

impl Batch<'_> {
    fn insert(&mut self, key: &[u8], value: Vec<u8>) -> Result<(), EngineError> {
        self.batch.insert(key, value);
        self.count()
    }

    fn remove(&mut self, key: &[u8]) -> Result<(), EngineError> {
        self.batch.remove(key);
        self.count()
    }

    fn count(&mut self) -> Result<(), EngineError> {
        self.operations += 1;
        // One place is left for the marker.
        if self.operations + 1 < MAX_BATCH { Ok(()) } else { self.write() }
    }

    fn write(&mut self) -> Result<(), EngineError> {
        self.operations = 0;
        self.database.apply_batch(std::mem::take(&mut self.batch)).map_err(failed)
    }
}

impl Engine for SledEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn max_changes(&self) -> usize {
        MAX_BATCH / 2
    }

    fn get(&self, keys: &[&Key]) -> Result<Vec<Option<Value>>, EngineError> {
        catch(NAME, || {
            let _reading = self.readers.read();
            let row = |key: &&Key| {
                let bytes = self.database.get(key.as_bytes()).map_err(failed)?;
                bytes.map(|bytes| self.value(key.as_bytes(), &bytes)).transpose()
            };
            keys.iter().map(row).collect()
        })
    }

    fn scan(&self, range: &KeyRange, max_rows: usize, max_bytes: usize) -> Result<EnginePage, EngineError> {
        let mut page = EnginePage::default();
        let end = Key::least_of(keys::ENGINE).min(range.to.clone());
        if range.from >= end {
            return Ok(page);
        }
        catch(NAME, || {
            let _reading = self.readers.read();
            let mut bytes = 0;
            for row in self.database.range(range.from.as_bytes()..end.as_bytes()) {
                if page.rows.len() >= max_rows || bytes >= max_bytes {
                    page.more = true;
                    break;
                }
                let (key, row) = row.map_err(failed)?;
                let value = self.value(&key, &row)?;
                bytes += value.len();
                page.rows.push((Key::from_bytes(key.to_vec()), value));
            }
            Ok(page)
        })
    }

    fn apply(&self, changes: &[Change<'_>], applied: Option<Applied>) -> Result<(), EngineError> {
        catch(NAME, || {
            let _writing = self.readers.write();
            let mut batch = Batch { database: &self.database, batch: sled::Batch::default(), operations: 0 };
            for (key, value) in changes {
                self.change(&mut batch, key.as_bytes(), *value)?;
            }
            if let Some(applied) = applied {
                batch.insert(MARKER, applied.to_bytes().to_vec())?;
            }
            batch.write()
        })
    }

    fn applied(&self) -> Result<Option<Applied>, EngineError> {
        catch(NAME, || {
            let Some(bytes) = self.database.get(MARKER).map_err(failed)? else { return Ok(None) };
            Applied::from_bytes(&bytes).map(Some).ok_or_else(|| damaged("the marker cannot be read", MARKER))
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        catch(NAME, || {
            self.database.flush().map_err(failed)?;
            self.file.sync_data().map_err(|source| EngineError::Io { engine: NAME, source })
        })
    }
}
