//! When what is kept for a time has ended: once it has it never comes back, whatever the clock says later, and what is left of it
//! is taken out by and by.

use std::sync::atomic::Ordering;

use kith_host::KeyValueError;
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row, decode, encode};
use kith_store::{Key, KeyRange, Operation};
use serde::{Deserialize, Serialize};

use super::{REMOVED_KEYS, StoredState, Used, unreadable};

/// Up to when time has passed for what a plugin keeps: what ended by then has ended, though it is there still and the clock may be
/// set back. The row is there while there is such a thing.
#[derive(Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(super) struct PassedRow {
    passed: Timestamp,
}

impl Row for PassedRow {
    const WHAT: &'static str = "the time that has passed for what a plugin keeps";
    const OWNER: Owner = Owner::Catalogue;
    const VERSION: u8 = 1;
}

/// [`StoredState::due`] before it was read.
pub(super) const UNREAD: i64 = i64::MIN;

/// [`StoredState::due`] where nothing ends.
pub(super) const NEVER: i64 = i64::MAX;

/// [`StoredState::passed`] without a row.
pub(super) const AS_THE_CLOCK: i64 = i64::MIN;

impl StoredState {
    /// Take out what has expired, so many keys at most and the first to expire first; how many it were. Others get their turn
    /// between two commits.
    pub(crate) fn forget_expired(&self, now: Timestamp, most: usize) -> Result<usize, KeyValueError> {
        let mut forgotten = 0;
        while forgotten < most {
            let mut used = self.used.lock();
            self.read_ahead()?;
            let taken = self.take_out_due(&mut used, self.judged(now))?;
            forgotten += taken;
            if taken < REMOVED_KEYS {
                break;
            }
        }
        Ok(forgotten)
    }

    /// Read up to when time has passed, and when something ends next. Whoever calls it holds the lock.
    pub(super) fn read_ahead(&self) -> Result<(), KeyValueError> {
        if self.due.load(Ordering::Acquire) == UNREAD {
            self.passed.store(self.stored_passed()?, Ordering::Release);
            self.due.store(self.due_from(Timestamp(UNREAD))?, Ordering::Release);
        }
        Ok(())
    }

    pub(super) fn stored_passed(&self) -> Result<i64, KeyValueError> {
        let row = self.store.get(&[self.time_passed()]).map_err(unreadable)?.pop().flatten();
        let row = row.map(|row| decode::<PassedRow>(&row)).transpose().map_err(unreadable)?;
        Ok(row.map_or(AS_THE_CLOCK, |row| row.passed.0))
    }

    /// When something ends next, of what ends at that time or later.
    fn due_from(&self, from: Timestamp) -> Result<i64, KeyValueError> {
        let (workspace, installation) = (self.workspace, self.installation);
        let range = KeyRange {
            from: Key::plugin_expiries_until(workspace, installation, from),
            to: Key::plugin_expiries_until(workspace, installation, Timestamp(NEVER)),
        };
        let page = self.store.scan(&range, 1).map_err(unreadable)?;
        let next = page.rows.first().and_then(|(row, _)| row.as_plugin_expiry_at(workspace, installation));
        Ok(next.map_or(NEVER, |(due, _)| due.0))
    }

    /// The time by which what is there is judged.
    pub(super) fn judged(&self, now: Timestamp) -> Timestamp {
        Timestamp(self.passed.load(Ordering::Acquire).max(now.0))
    }

    /// See to it that what has ended by now has ended for good, whatever the clock says later; whether something of it is still
    /// there, to be taken out by whoever comes next.
    pub(super) fn settle(&self, used: &mut Option<Used>, now: Timestamp) -> Result<bool, KeyValueError> {
        self.read_ahead()?;
        let judged = self.judged(now);
        if self.due.load(Ordering::Acquire) > judged.0 {
            return Ok(false);
        }
        self.take_out_due(used, judged)?;
        Ok(self.due.load(Ordering::Acquire) <= judged.0)
    }

    pub(super) fn time_passed(&self) -> Key {
        Key::plugin_time_passed(self.workspace, self.installation)
    }

    /// Take out what has expired, the first to expire first, up to [`REMOVED_KEYS`]; how many it were. Where some is left, the same
    /// commit notes that its time has passed.
    pub(super) fn take_out_due(&self, used: &mut Option<Used>, now: Timestamp) -> Result<usize, KeyValueError> {
        let (workspace, installation) = (self.workspace, self.installation);
        let range = KeyRange {
            from: Key::plugin_expiries_until(workspace, installation, Timestamp(i64::MIN)),
            to: Key::plugin_expiries_until(workspace, installation, now.plus_ms(1)),
        };
        let page = self.store.scan(&range, REMOVED_KEYS).map_err(unreadable)?;
        let due = page.rows.iter().filter_map(|(row, _)| row.as_plugin_expiry_at(workspace, installation));
        let keys: Vec<&str> = due.map(|(_, key)| key).collect();
        // Those rows go in any case, or one that nothing belongs to would be found for ever.
        let mut found: Vec<Operation> = page.rows.iter().map(|(row, _)| Operation::Delete(row.clone())).collect();
        let before = self.passed.load(Ordering::Acquire);
        let (passed, due) = match page.next {
            Some(_) => (now.0, now.0),
            None => (AS_THE_CLOCK, self.due_from(now.plus_ms(1))?),
        };
        match passed {
            same if same == before => {}
            AS_THE_CLOCK => found.push(Operation::Delete(self.time_passed())),
            _ => found.push(Operation::Put(self.time_passed(), encode(&PassedRow { passed: now }))),
        }
        self.take_out(used, &keys, found)?;
        self.passed.store(passed, Ordering::Release);
        self.due.store(due, Ordering::Release);
        Ok(page.rows.len())
    }
}
