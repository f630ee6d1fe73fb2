//! redb: a copy-on-write B-tree in one file; one table holds all rows.
//!
//! Batches are committed with `Durability::None`, which redb keeps in memory until a durable commit follows. That is sound
//! here because the marker is part of each batch: after a crash redb stands at its last durable commit, marker included, and
//! the store applies the later units again from the journal. [`Engine::sync`] makes the durable commits.

use std::path::Path;

use redb::{Database, Durability, ReadableDatabase, TableDefinition};

use super::{Applied, Change, Engine, EngineError, EnginePage, catch};
use crate::{Key, KeyRange, Value, keys};

const NAME: &str = "redb";
const ROWS: TableDefinition<'_, &[u8], &[u8]> = TableDefinition::new("rows");
/// The key of the marker: in the space of engines, so that no row can have it.
const MARKER: &[u8] = &[0xff];

/// A redb file.
pub(crate) struct RedbEngine {
    database: Database,
}

fn failed(error: impl Into<redb::Error>) -> EngineError {
    match error.into() {
        redb::Error::Io(source) => EngineError::of_io(NAME, source),
        // What it says of all that is asked for after an error of the system, and of a file that another process has open.
        error @ (redb::Error::PreviousIo | redb::Error::DatabaseAlreadyOpen) => {
            EngineError::Io { engine: NAME, source: std::io::Error::other(error.to_string()) }
        }
        error => EngineError::Corrupt { engine: NAME, problem: error.to_string() },
    }
}

/// Open or create the engine in `directory`.
pub(crate) fn open(directory: &Path, cache_bytes: u64) -> Result<RedbEngine, EngineError> {
    catch(NAME, || {
        let cache_bytes = usize::try_from(cache_bytes).unwrap_or(usize::MAX);
        let file = directory.join("rows.redb");
        let database = Database::builder().set_cache_size(cache_bytes).create(file).map_err(failed)?;
        let engine = RedbEngine { database };
        // A new file gets its table, so that readers always find one.
        engine.change(&[], None, Durability::Immediate)?;
        Ok(engine)
    })
}

impl RedbEngine {
    fn change(
        &self,
        changes: &[Change<'_>],
        applied: Option<Applied>,
        durability: Durability,
    ) -> Result<(), EngineError> {
        let mut transaction = self.database.begin_write().map_err(failed)?;
        transaction.set_durability(durability).map_err(failed)?;
        {
            let mut table = transaction.open_table(ROWS).map_err(failed)?;
            for (key, value) in changes {
                match value {
                    Some(value) => drop(table.insert(key.as_bytes(), *value).map_err(failed)?),
                    None => drop(table.remove(key.as_bytes()).map_err(failed)?),
                }
            }
            if let Some(applied) = applied {
                table.insert(MARKER, applied.to_bytes().as_slice()).map_err(failed)?;
            }
        }
        transaction.commit().map_err(failed)
    }

    fn table(&self) -> Result<redb::ReadOnlyTable<&'static [u8], &'static [u8]>, EngineError> {
        self.database.begin_read().map_err(failed)?.open_table(ROWS).map_err(failed)
    }
}

impl Engine for RedbEngine {
    fn name(&self) -> &'static str {
        NAME
    }

    fn max_changes(&self) -> usize {
        // A commit rewrites each page that it touches once, so that large batches in key order cost less a row.
        8 * 1024
    }

    fn get(&self, keys: &[&Key]) -> Result<Vec<Option<Value>>, EngineError> {
        catch(NAME, || {
            let table = self.table()?;
            let row = |key: &&Key| {
                let value = table.get(key.as_bytes()).map_err(failed)?;
                Ok(value.map(|value| Value::from(value.value())))
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
            let table = self.table()?;
            let mut bytes = 0;
            for row in table.range(range.from.as_bytes()..end.as_bytes()).map_err(failed)? {
                if page.rows.len() >= max_rows || bytes >= max_bytes {
                    page.more = true;
                    break;
                }
                let (key, value) = row.map_err(failed)?;
                bytes += value.value().len();
                page.rows.push((Key::from_bytes(key.value().to_vec()), Value::from(value.value())));
            }
            Ok(page)
        })
    }

    fn apply(&self, changes: &[Change<'_>], applied: Option<Applied>) -> Result<(), EngineError> {
        catch(NAME, || self.change(changes, applied, Durability::None))
    }

    fn applied(&self) -> Result<Option<Applied>, EngineError> {
        catch(NAME, || {
            let table = self.table()?;
            let Some(value) = table.get(MARKER).map_err(failed)? else { return Ok(None) };
            let unknown = || EngineError::Corrupt { engine: NAME, problem: "its marker cannot be read".to_owned() };
            Applied::from_bytes(value.value()).map(Some).ok_or_else(unknown)
        })
    }

    fn sync(&self) -> Result<(), EngineError> {
        catch(NAME, || self.change(&[], None, Durability::Immediate))
    }
}
