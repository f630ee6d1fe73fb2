//! The engine of unit tests: an ordered map. It holds nothing after its store is dropped.

use std::collections::BTreeMap;
use std::ops::Bound;

use parking_lot::RwLock;

use super::{Applied, Change, Engine, EngineError, EnginePage};
use crate::{Key, KeyRange, Value};

/// Rows in memory.
#[derive(Debug, Default)]
pub(crate) struct MemoryEngine {
    state: RwLock<State>,
}

#[derive(Debug, Default)]
struct State {
    rows: BTreeMap<Key, Value>,
    applied: Option<Applied>,
}

impl Engine for MemoryEngine {
    fn name(&self) -> &'static str {
        "memory"
    }

    fn max_changes(&self) -> usize {
        usize::MAX
    }

    fn get(&self, keys: &[&Key]) -> Result<Vec<Option<Value>>, EngineError> {
        let state = self.state.read();
        Ok(keys.iter().map(|key| state.rows.get(*key).cloned()).collect())
    }

    fn scan(&self, range: &KeyRange, max_rows: usize, max_bytes: usize) -> Result<EnginePage, EngineError> {
        let mut page = EnginePage::default();
        if range.from >= range.to {
            return Ok(page);
        }
        let state = self.state.read();
        let mut bytes = 0;
        for (key, value) in state.rows.range((Bound::Included(&range.from), Bound::Excluded(&range.to))) {
            if page.rows.len() >= max_rows || bytes >= max_bytes {
                page.more = true;
                break;
            }
            bytes += value.len();
            page.rows.push((key.clone(), value.clone()));
        }
        Ok(page)
    }

    fn apply(&self, changes: &[Change<'_>], applied: Option<Applied>) -> Result<(), EngineError> {
        let mut state = self.state.write();
        for (key, value) in changes {
            match value {
                Some(value) => state.rows.insert((*key).clone(), Value::from(*value)),
                None => state.rows.remove(*key),
            };
        }
        state.applied = applied.or(state.applied);
        Ok(())
    }

    fn applied(&self) -> Result<Option<Applied>, EngineError> {
        Ok(self.state.read().applied)
    }

    fn sync(&self) -> Result<(), EngineError> {
        Ok(())
    }
}
