//! sled 0.34.7 within the bounds in which it is known to behave: one tree, values of at most 4 KiB, the background flusher on;
//! no batches, transactions, merge operators, `len`, `generate_id` or `flush_async`.
//!
//! Rows go in one by one. A batch would be atomic, which nobody needs here, and sled keeps every reader out while one goes in.
//! A larger value is kept in parts in the space of engines; its row then holds only their number, and a lock over these values
//! alone keeps readers from seeing parts of two of them.

use std::collections::HashSet;
use std::fs::{File, OpenOptions};
use std::path::Path;

use parking_lot::{Mutex, RwLock};
use xxhash_rust::xxh3::xxh3_64;

use super::{Applied, Change, Engine, EngineError, EnginePage, catch};
use crate::{Key, KeyRange, Value, keys};

const NAME: &str = "sled";
/// So many rows the applier hands over at once; after each time it makes room for who waits.
const MAX_CHANGES: usize = 512;
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
    /// Held while a value in parts is read or replaced.
    parts: RwLock<()>,
    /// Hashes of the keys whose values are in parts, so that a small put need not look for parts to delete.
    split: Mutex<HashSet<u64>>,
}

fn failed(error: sled::Error) -> EngineError {
    match error {
        sled::Error::Io(source) => EngineError::of_io(NAME, source),
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
        let file = OpenOptions::new().read(true).write(true).open(directory.join("db"));
        let file = file.map_err(|source| EngineError::of_io(NAME, source))?;
        let mut split = HashSet::new();
        for row in database.range([SPLIT].as_slice()..[SPLIT + 1].as_slice()) {
            let (key, _) = row.map_err(failed)?;
            split.insert(xxh3_64(&key[1..]));
        }
        Ok(SledEngine { database, file, parts: RwLock::new(()), split: Mutex::new(split) })
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
    /// The value of `key`, whose row holds `bytes`; `None` where it was deleted meanwhile.
    fn value(&self, key: &[u8], bytes: &[u8]) -> Result<Option<Value>, EngineError> {
        if let Row::Whole(value) = read_row(key, bytes)? {
            return Ok(Some(Value::from(value)));
        }
        let _reading = self.parts.read();
        // Before the lock was held the value may have been replaced.
        let Some(bytes) = self.database.get(key).map_err(failed)? else { return Ok(None) };
        match read_row(key, &bytes)? {
            Row::Whole(value) => Ok(Some(Value::from(value))),
            Row::Split { parts, size_bytes } => self.joined(key, parts, size_bytes).map(Some),
        }
    }

    /// The value of `key` that lies in parts.
    fn joined(&self, key: &[u8], parts: u32, size_bytes: usize) -> Result<Value, EngineError> {
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

    fn insert(&self, key: &[u8], value: Vec<u8>) -> Result<(), EngineError> {
        self.database.insert(key, value).map(drop).map_err(failed)
    }

    fn remove(&self, key: &[u8]) -> Result<(), EngineError> {
        self.database.remove(key).map(drop).map_err(failed)
    }

    fn change(&self, key: &[u8], value: Option<&[u8]>) -> Result<(), EngineError> {
        let hash = xxh3_64(key);
        let was_split = self.split.lock().contains(&hash);
        match value {
            None if !was_split => self.remove(key),
            Some(value) if !was_split && value.len() < MAX_VALUE_BYTES => self.insert(key, whole_row(value)),
            value => self.change_split(key, hash, value),
        }
    }

    /// Make a change of a value that was in parts before or is from now on.
    fn change_split(&self, key: &[u8], hash: u64, value: Option<&[u8]>) -> Result<(), EngineError> {
        let _changing = self.parts.write();
        let mut new_parts = 0;
        match value {
            None => self.remove(key)?,
            Some(value) if value.len() < MAX_VALUE_BYTES => self.insert(key, whole_row(value))?,
            Some(value) => {
                let too_large = |_| damaged("a value is larger than 4 GiB", key);
                let size_bytes = u32::try_from(value.len()).map_err(too_large)?;
                // Marked first: whatever is lost in a crash, what is in parts is known to be.
                self.insert(&split_key(key), Vec::new())?;
                self.split.lock().insert(hash);
                for part in value.chunks(MAX_VALUE_BYTES) {
                    self.insert(&part_key(key, new_parts), part.to_vec())?;
                    new_parts += 1;
                }
                let row = [&[SPLIT_TAG], &new_parts.to_be_bytes()[..], &size_bytes.to_be_bytes()].concat();
                self.insert(key, row)?;
            }
        }
        // As the engine has them and not as the row said: a crash may have come between the row and its parts.
        for part in self.database.range(part_key(key, new_parts)..=part_key(key, u32::MAX)).keys() {
            self.remove(&part.map_err(failed)?)?;
        }
        if new_parts == 0 {
            self.remove(&split_key(key))?;
            self.split.lock().remove(&hash);
        }
        Ok(())
    }
}

/// The row of a value that is in it.
fn whole_row(value: &[u8]) -> Vec<u8> {
    let mut row = Vec::with_capacity(1 + value.len());
    row.push(WHOLE_TAG);
    row.extend_from_slice(value);
    row
}

impl Engine for SledEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn max_changes(&self) -> usize {
        MAX_CHANGES
    }

    fn get(&self, keys: &[&Key]) -> Result<Vec<Option<Value>>, EngineError> {
        catch(NAME, || {
            let row = |key: &&Key| match self.database.get(key.as_bytes()).map_err(failed)? {
                Some(bytes) => self.value(key.as_bytes(), &bytes),
                None => Ok(None),
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
            let mut bytes = 0;
            for row in self.database.range(range.from.as_bytes()..end.as_bytes()) {
                if page.rows.len() >= max_rows || bytes >= max_bytes {
                    page.more = true;
                    break;
                }
                let (key, row) = row.map_err(failed)?;
                let Some(value) = self.value(&key, &row)? else { continue };
                bytes += value.len();
                page.rows.push((Key::from_bytes(key.to_vec()), value));
            }
            Ok(page)
        })
    }

    fn apply(&self, changes: &[Change<'_>], applied: Option<Applied>) -> Result<(), EngineError> {
        catch(NAME, || {
            for (key, value) in changes {
                self.change(key.as_bytes(), *value)?;
            }
            applied.map_or(Ok(()), |applied| self.insert(MARKER, applied.to_bytes().to_vec()))
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
            self.file.sync_data().map_err(|source| EngineError::of_io(NAME, source))
        })
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    /// Rows are replaced one by one while others read: each is seen whole, as it was or as it is, in one piece or in parts.
    #[test]
    fn a_value_is_read_whole_while_it_is_replaced() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path(), 16 << 20).unwrap();
        let key = Key::meta("key");
        let values =
            [vec![1; 3 * MAX_VALUE_BYTES + 7], vec![2; 100], vec![3; 9 * MAX_VALUE_BYTES], vec![4; MAX_VALUE_BYTES]];
        engine.apply(&[(&key, Some(&values[3]))], None).unwrap();
        let is_over = AtomicBool::new(false);
        std::thread::scope(|scope| {
            scope.spawn(|| {
                for value in values.iter().cycle().take(1_000) {
                    engine.apply(&[(&key, Some(value))], None).unwrap();
                }
                is_over.store(true, Ordering::Release);
            });
            let range = KeyRange { from: key.clone(), to: key.successor() };
            while !is_over.load(Ordering::Acquire) {
                let got = engine.get(&[&key]).unwrap().pop().flatten().unwrap();
                let scanned = engine.scan(&range, 2, usize::MAX).unwrap().rows;
                let [(_, scanned)] = scanned.as_slice() else { panic!("{} rows", scanned.len()) };
                for value in [&got, scanned] {
                    assert!(values.iter().any(|known| known.as_slice() == value.as_ref()), "{} bytes", value.len());
                }
            }
        });
        engine.apply(&[(&key, None)], None).unwrap();
        assert_eq!(engine.get(&[&key]).unwrap(), [None]);
        assert_eq!(engine.database.iter().count(), 0, "no part is left behind");
    }

    /// A crash between a row and its parts, or the mark of them, leaves nothing for good: the same change made again does all.
    #[test]
    fn parts_that_a_crash_left_behind_go_with_the_next_change() {
        let directory = tempfile::tempdir().unwrap();
        let engine = open(directory.path(), 16 << 20).unwrap();
        let key = Key::meta("key");
        engine.apply(&[(&key, Some(&vec![1; 3 * MAX_VALUE_BYTES]))], None).unwrap();
        engine.database.insert(key.as_bytes(), whole_row(&[2])).unwrap();
        drop(engine);
        let engine = open(directory.path(), 16 << 20).unwrap();
        engine.apply(&[(&key, Some(&[2]))], None).unwrap();
        assert_eq!(engine.get(&[&key]).unwrap(), [Some(Value::from([2]))]);
        assert_eq!(engine.database.iter().count(), 1);
    }
}
