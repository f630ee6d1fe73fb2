//! How the data of each source is, counted by day in the commit of what is counted, so that no crash and no repeat makes a
//! figure wrong.
//!
//! A unit has one source and one receipt, so it writes one row, however many records it has. The newest
//! [`KEPT_DAYS`] days of a source have a row each, and what is older is one row; so what all of it takes is bounded, and the
//! total is the sum. A day goes when enough newer ones are there, never because a clock says that it is old.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kith_model::flag;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::DAY_MS;
use kith_store::{Key, Operation, ReadError, Store, row};
use serde::{Deserialize, Serialize};

use crate::profiles::facts::each_row;
use crate::rows;
use crate::views::Acceptance;
use kith_model::tracking::{Judgement, PlanMistake};

/// Days of a source that have a row of their own: a quarter of a year.
pub(crate) const KEPT_DAYS: usize = 92;

/// Live traffic that is so much older than its receipt is late: longer than a network is away or a telephone is in a pocket
/// for most, so that what is late has missed what was computed for its day.
pub(crate) const LATE_AFTER_MS: i64 = DAY_MS;

/// Reasons of a connector's own that one row counts by their names; further ones are counted as [`flag::OTHER`]. A plugin
/// chooses them, and the kernel keeps them.
const MAX_OWN_REASONS: usize = 32;

/// A connector's reason is counted by so many bytes of it.
const MAX_REASON_BYTES: usize = 48;

/// The kernel's own reasons, which no connector's displace.
const REASONS: [&str; 15] = [
    "bad-identifier-type",
    "bad-message-id",
    "identifier-too-long",
    "message-id-conflict",
    "missing-identifier",
    "name-too-long",
    "not-an-object",
    "plan-violation",
    "too-deep",
    "too-large",
    "too-many-identifiers",
    "too-many-traits",
    "undeclared-event",
    "unplanned-event",
    "unreadable-row",
];

/// What came of the records of one source.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct SourceCounts {
    /// Events that are new.
    pub accepted: u64,
    /// What came before as it is.
    pub repeated: u64,
    /// Events that took the place of others with the same id.
    pub corrected: u64,
    /// Records that a rule of the workspace took out.
    pub dropped: u64,
    /// Live events that happened more than a day before they were received, by the corrected clock.
    pub late: u64,
    /// Records of which something lies among the dead letters: those that were rejected, and those that were taken without a
    /// part.
    pub set_aside: u64,
    /// Events whose name is not in the tracking plan, whatever the plan does with them.
    pub unplanned: u64,
    /// Events that do not meet the tracking plan's schema, whatever the plan does with them.
    pub violations: u64,
    /// Events that were taken with a flag, by its code.
    pub flagged: BTreeMap<String, u64>,
    /// Records that were rejected, by the reason's code.
    pub rejected: BTreeMap<String, u64>,
}

rows::rows! {
    SourceCounts: "what came of a source", Accept, 1;
}

impl SourceCounts {
    /// Count a record that is rejected.
    pub(super) fn reject(&mut self, code: &str) {
        self.rejected_so_often(code, 1);
    }

    fn rejected_so_often(&mut self, code: &str, times: u64) {
        let cut = &code[..code.floor_char_boundary(MAX_REASON_BYTES)];
        if let Some(count) = self.rejected.get_mut(cut) {
            *count += times;
            return;
        }
        let own = |code: &str| !REASONS.contains(&code) && code != flag::OTHER;
        let has_room = !own(cut) || self.rejected.keys().filter(|known| own(known)).count() < MAX_OWN_REASONS;
        *self.rejected.entry(if has_room { cut } else { flag::OTHER }.to_owned()).or_default() += times;
    }

    /// Count what a tracking plan says of an event that is no repeat.
    pub(super) fn judge(&mut self, judged: &Judgement) {
        match judged.mistake {
            PlanMistake::Unplanned => self.unplanned += 1,
            PlanMistake::Violation => self.violations += 1,
        }
    }

    /// Take over what the answer counts anyway.
    pub(super) fn complete(&mut self, acceptance: &Acceptance) {
        self.accepted = acceptance.accepted;
        self.repeated = acceptance.duplicate;
        self.corrected = acceptance.corrected;
        self.dropped = acceptance.dropped;
        self.flagged = acceptance.flagged.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect();
    }

    /// All records that were rejected.
    pub fn rejected_count(&self) -> u64 {
        self.rejected.values().sum()
    }

    /// All records.
    pub fn records(&self) -> u64 {
        self.accepted + self.repeated + self.corrected + self.dropped + self.rejected_count()
    }

    /// Count in what came of others.
    pub(crate) fn add(&mut self, more: &SourceCounts) {
        self.accepted += more.accepted;
        self.repeated += more.repeated;
        self.corrected += more.corrected;
        self.dropped += more.dropped;
        self.late += more.late;
        self.set_aside += more.set_aside;
        self.unplanned += more.unplanned;
        self.violations += more.violations;
        for (code, count) in &more.flagged {
            *self.flagged.entry(code.clone()).or_default() += count;
        }
        for (code, count) in &more.rejected {
            self.rejected_so_often(code, *count);
        }
    }
}

/// The days of a source that have a row, and what is older.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct SourceDays {
    /// By the number of the day, 0 being 1970-01-01.
    pub days: BTreeMap<i32, SourceCounts>,
    pub older: SourceCounts,
}

/// What is stored of a source.
pub(crate) fn read_days(
    store: &dyn Store,
    workspace: WorkspaceId,
    source: InstallationId,
) -> Result<SourceDays, ReadError> {
    let mut read = SourceDays::default();
    let prefix = Key::source_counts(workspace, source);
    each_row(store, &prefix, |key, value| {
        let counts = row::decode(value)?;
        match key.as_source_day(&prefix) {
            Some(day) => drop(read.days.insert(day, counts)),
            None => read.older.add(&counts),
        }
        Ok(())
    })?;
    Ok(read)
}

/// Rows that are held after the group that wrote them; more than a source has in use at once for some hundred sources.
const MAX_HELD: usize = 1_024;

/// The counts of one workspace's sources. Only its lane holds it, and it is the only writer of their rows.
pub(super) struct Quality {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    /// Rows as the units of the group leave them; what is in no group is as it is stored. `None` for a day that was deleted.
    rows: HashMap<Key, Option<SourceCounts>>,
    days: HashMap<InstallationId, BTreeSet<i32>>,
    unit: Pending,
}

/// The same of the unit under way.
#[derive(Default)]
struct Pending {
    rows: HashMap<Key, Option<SourceCounts>>,
    days: Option<(InstallationId, BTreeSet<i32>)>,
}

impl Quality {
    pub(super) fn new(store: Arc<dyn Store>, workspace: WorkspaceId) -> Quality {
        Quality { store, workspace, rows: HashMap::new(), days: HashMap::new(), unit: Pending::default() }
    }

    /// Add what a unit brought on a day.
    pub(super) fn write(
        &mut self,
        source: InstallationId,
        day: i32,
        brought: &SourceCounts,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        if *brought == SourceCounts::default() {
            return Ok(());
        }
        let days = self.days_of(source)?;
        let is_known = days.contains(&day);
        let is_beyond = !is_known && days.len() >= KEPT_DAYS && days.first().is_some_and(|first| day < *first);
        let key = match is_beyond {
            true => Key::older_source_counts(self.workspace, source),
            false => Key::source_day(self.workspace, source, day),
        };
        let mut counts = self.read(&key)?.unwrap_or_default();
        counts.add(brought);
        operations.push(Operation::Put(key.clone(), row::encode(&counts)));
        self.unit.rows.insert(key, Some(counts));
        if is_known || is_beyond {
            return Ok(());
        }
        let mut days = self.days_of(source)?.clone();
        days.insert(day);
        while days.len() > KEPT_DAYS {
            // Of a clock that was ahead there may be newer days: the one under way stays all the same.
            let Some(oldest) = days.iter().copied().find(|known| *known != day) else { break };
            days.remove(&oldest);
            self.fold(source, oldest, operations)?;
        }
        self.unit.days = Some((source, days));
        Ok(())
    }

    /// Put a day to what is older.
    fn fold(&mut self, source: InstallationId, day: i32, operations: &mut Vec<Operation>) -> Result<(), ReadError> {
        let (older, gone) =
            (Key::older_source_counts(self.workspace, source), Key::source_day(self.workspace, source, day));
        let mut counts = self.read(&older)?.unwrap_or_default();
        counts.add(&self.read(&gone)?.unwrap_or_default());
        operations.push(Operation::Put(older.clone(), row::encode(&counts)));
        operations.push(Operation::Delete(gone.clone()));
        self.unit.rows.insert(older, Some(counts));
        self.unit.rows.insert(gone, None);
        Ok(())
    }

    fn read(&self, key: &Key) -> Result<Option<SourceCounts>, ReadError> {
        if let Some(held) = self.unit.rows.get(key).or_else(|| self.rows.get(key)) {
            return Ok(held.clone());
        }
        let row = self.store.get(std::slice::from_ref(key))?.pop().flatten();
        row.map(|row| row::decode(&row)).transpose()
    }

    fn days_of(&mut self, source: InstallationId) -> Result<&BTreeSet<i32>, ReadError> {
        if !self.days.contains_key(&source) {
            let read = read_days(self.store.as_ref(), self.workspace, source)?;
            self.days.insert(source, read.days.into_keys().collect());
        }
        Ok(self.days.entry(source).or_default())
    }

    pub(super) fn keep_unit(&mut self) {
        let unit = std::mem::take(&mut self.unit);
        self.rows.extend(unit.rows);
        self.days.extend(unit.days);
    }

    pub(super) fn forget_unit(&mut self) {
        self.unit = Pending::default();
    }

    /// The group is durable: what is held is what is stored.
    pub(super) fn committed(&mut self) {
        self.forget_unit();
        if self.rows.len() > MAX_HELD {
            self.rows.clear();
        }
        if self.days.len() > MAX_HELD {
            self.days.clear();
        }
    }

    /// Not all of the group is durable, so that all is read again.
    pub(super) fn committed_in_part(&mut self) {
        self.forget_unit();
        self.rows.clear();
        self.days.clear();
    }
}

#[cfg(test)]
mod tests;
