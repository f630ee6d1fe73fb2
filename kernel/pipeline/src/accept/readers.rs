//! Which version of its connector read the events of a source. An event names its source alone; a row for each change of the
//! version says from which position of the log on it was another one, so that what a version brought is found by its range.
//!
//! The row is written in the commit of the first events that the version read, and before that everything that another version
//! of the same source brought is durable: so ranges end exactly, also where requests of both versions were under way together.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use kith_model::id::{InstallationId, Position, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{Key, KeyRange, Operation, ReadError, Store, row};
use serde::{Deserialize, Serialize};

use super::Submission;
use super::quality::read_days;
use crate::profiles::facts::each_row;
use crate::rows;
use crate::setup::Installed;

/// A version of a plugin, as the events name it that it read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reader {
    pub version: String,
    /// SHA-256 of the component, in hexadecimal.
    pub digest: String,
}

impl Reader {
    pub(crate) fn of(installed: &Installed) -> Reader {
        Reader { version: installed.plugin_version.to_string(), digest: installed.digest.clone() }
    }
}

/// From a position of the log on, which version read a source's events.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReaderRow {
    pub reader: Reader,
    /// When the first of them was received.
    pub since: Timestamp,
    /// How many events of the source other versions had brought by then.
    pub before: u64,
}

rows::rows! {
    ReaderRow: "who read the events of a source", Accept, 1;
}

/// A version and the range of the log in which the events of its source are those that it read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReaderRange {
    pub row: ReaderRow,
    /// Its events lie behind this position.
    pub after: Position,
    /// Where another version begins, behind this position; `None` for the last one.
    pub up_to: Option<Position>,
    /// How many it brought.
    pub events: u64,
}

/// Ranges that are read at once.
pub(crate) const RANGES_AT_ONCE: usize = if cfg!(test) { 2 } else { 256 };

/// Some versions that read a source's events, oldest first, from the one that begins at a position on, and where to go on. What
/// lies before the first of all was read before this was noted.
pub(crate) fn ranges(
    store: &dyn Store,
    workspace: WorkspaceId,
    source: InstallationId,
    from: Position,
) -> Result<(Vec<ReaderRange>, Option<Position>), ReadError> {
    let all = Key::readers(workspace, source).range();
    let from = KeyRange { from: Key::reader(workspace, source, from), to: all.to };
    // One more, which says where the last of them ends.
    let page = store.scan(&from, RANGES_AT_ONCE + 1)?;
    let mut ranges: Vec<ReaderRange> = Vec::new();
    for (key, value) in &page.rows {
        let (row, after): (ReaderRow, _) = (row::decode(value)?, key.position());
        if let Some(last) = ranges.last_mut() {
            last.up_to = Some(after);
            last.events = row.before.saturating_sub(last.row.before);
        }
        if ranges.len() == RANGES_AT_ONCE {
            return Ok((ranges, Some(after)));
        }
        ranges.push(ReaderRange { row, after, up_to: None, events: 0 });
    }
    if let Some(last) = ranges.last_mut() {
        last.events = events_of(store, workspace, source)?.saturating_sub(last.row.before);
    }
    Ok((ranges, None))
}

/// The version that read a source's event at a position; `None` where that was not noted yet.
pub(crate) fn reader_of(
    store: &dyn Store,
    workspace: WorkspaceId,
    source: InstallationId,
    position: Position,
) -> Result<Option<ReaderRow>, ReadError> {
    let mut found = None;
    each_row(store, &Key::readers(workspace, source), |key, value| {
        if key.position() < position {
            found = Some(row::decode(value)?);
        }
        Ok(())
    })?;
    Ok(found)
}

/// How many events of a source were taken, corrections among them.
fn events_of(store: &dyn Store, workspace: WorkspaceId, source: InstallationId) -> Result<u64, ReadError> {
    let counted = read_days(store, workspace, source)?;
    let all = counted.days.values().chain([&counted.older]);
    Ok(all.map(|counts| counts.accepted + counts.corrected).sum())
}

/// Sources whose version is held after the group that asked for it.
const MAX_HELD: usize = 1_024;

/// The versions at work in one workspace. Only its lane holds it, and it is the only writer of their rows.
pub(super) struct Readers {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    /// The version of the last row of each source, as the group leaves it; `None` for one that has none.
    known: HashMap<InstallationId, Option<Reader>>,
    /// The sources of which the group has events.
    in_group: BTreeSet<InstallationId>,
    /// The source of the unit under way, with its version where that is another now.
    unit: Option<(InstallationId, Option<Reader>)>,
}

impl Readers {
    pub(super) fn new(store: Arc<dyn Store>, workspace: WorkspaceId) -> Readers {
        Readers { store, workspace, known: HashMap::new(), in_group: BTreeSet::new(), unit: None }
    }

    /// Whether a submission is of another version than events of its source in the same group.
    pub(super) fn must_wait(&mut self, submission: &Submission) -> Result<bool, ReadError> {
        let Some(reader) = &submission.sender.reader else { return Ok(false) };
        Ok(self.in_group.contains(&submission.source) && self.last_of(submission.source)? != Some(&**reader))
    }

    /// Note the version that read what a unit brings, where that is another than before.
    pub(super) fn write(&mut self, submission: &Submission, operations: &mut Vec<Operation>) -> Result<(), ReadError> {
        let (source, Some(reader)) = (submission.source, &submission.sender.reader) else { return Ok(()) };
        if !operations.iter().any(|operation| matches!(operation, Operation::Append { .. })) {
            return Ok(());
        }
        if self.last_of(source)? == Some(&**reader) {
            self.unit = Some((source, None));
            return Ok(());
        }
        let before = events_of(self.store.as_ref(), self.workspace, source)?;
        let row = ReaderRow { reader: Reader::clone(reader), since: submission.received_at, before };
        let key = Key::reader(self.workspace, source, self.store.head_of(self.workspace));
        operations.push(Operation::Put(key, row::encode(&row)));
        self.unit = Some((source, Some(row.reader)));
        Ok(())
    }

    /// The version of a source's last row. One that cannot be read is as good as none: another follows it.
    fn last_of(&mut self, source: InstallationId) -> Result<Option<&Reader>, ReadError> {
        if !self.known.contains_key(&source) {
            let mut last = None;
            each_row(self.store.as_ref(), &Key::readers(self.workspace, source), |_, value| {
                last = row::decode::<ReaderRow>(value).ok().map(|row| row.reader);
                Ok(())
            })?;
            self.known.insert(source, last);
        }
        Ok(self.known.get(&source).and_then(Option::as_ref))
    }

    pub(super) fn keep_unit(&mut self) {
        let Some((source, changed)) = self.unit.take() else { return };
        self.in_group.insert(source);
        if changed.is_some() {
            self.known.insert(source, changed);
        }
    }

    pub(super) fn forget_unit(&mut self) {
        self.unit = None;
    }

    /// The group is durable.
    pub(super) fn committed(&mut self) {
        self.forget_unit();
        self.in_group.clear();
        if self.known.len() > MAX_HELD {
            self.known.clear();
        }
    }

    /// Not all of the group is durable, so that all is read again.
    pub(super) fn committed_in_part(&mut self) {
        self.committed();
        self.known.clear();
    }
}
