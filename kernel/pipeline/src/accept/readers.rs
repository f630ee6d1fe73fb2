//! Which version of its connector read the events of a source. An event names its source and, by a number, the version that read
//! it; a row for each version that read something says which that was, how many events it read and where in the log they lie.
//!
//! So two versions may be at work at once, as while one takes the other's place, and what each of them brought is told apart
//! event by event. Where only one is at work the ranges end exactly: the row of the other one is closed in the commit of the
//! first events behind it.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use kith_model::event::Event;
use kith_model::id::{InstallationId, Position, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row, read_postcard};
use kith_store::{Key, Operation, ReadError, Store, row};
use serde::{Deserialize, Serialize};

use super::Submission;
use super::quality::{SourceCounts, read_days};
use crate::profiles::facts::each_row;
use crate::rows::RawForm;
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

/// What one version read of a source, from a position of the log on.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ReaderRow {
    pub reader: Reader,
    /// When the first of its events was received.
    pub since: Timestamp,
    /// How many events of the source other versions had brought by then.
    pub before: u64,
    /// What its events call it, from 1. 0 in a row of before events named their version: its events are those of its range.
    pub number: u32,
    /// How many it brought; not counted in a row without a number.
    pub events: u64,
    /// Where its events end, once another version reads alone.
    pub up_to: Option<Position>,
}

/// [`ReaderRow`] before events named their version.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct ReaderRowV1 {
    reader: Reader,
    since: Timestamp,
    before: u64,
}

impl Row for ReaderRow {
    const WHAT: &'static str = "who read the events of a source";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 2;

    fn before(version: u8, body: &[u8]) -> Option<Result<ReaderRow, String>> {
        (version == 1).then(|| {
            let ReaderRowV1 { reader, since, before } = read_postcard(body)?;
            Ok(ReaderRow { reader, since, before, number: 0, events: 0, up_to: None })
        })
    }
}

/// A version and the range of the log in which the events of its source lie that it read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct ReaderRange {
    pub row: ReaderRow,
    /// Its events lie behind this position.
    pub after: Position,
    /// None lies behind this one; `None` where it may still read.
    pub up_to: Option<Position>,
    /// How many it brought.
    pub events: u64,
}

impl ReaderRange {
    /// Whether an event of the source, at a position of the log, is of this version.
    pub(crate) fn has(&self, event: &Event, position: Position) -> bool {
        let is_within = self.after < position && self.up_to.is_none_or(|up_to| position <= up_to);
        event.reader == self.row.number && (self.row.number > 0 || is_within)
    }
}

/// The versions that read a source's events, in the order in which they began. What lies before the first of them was read before
/// this was noted. A row that cannot be read is as good as none.
pub(crate) fn ranges(
    store: &dyn Store,
    workspace: WorkspaceId,
    source: InstallationId,
) -> Result<Vec<ReaderRange>, ReadError> {
    Ok(readable_ranges(store, workspace, source)?.0)
}

/// The same, and how many rows cannot be read.
fn readable_ranges(
    store: &dyn Store,
    workspace: WorkspaceId,
    source: InstallationId,
) -> Result<(Vec<ReaderRange>, u64), ReadError> {
    let (mut ranges, mut unreadable): (Vec<ReaderRange>, u64) = (Vec::new(), 0);
    let prefix = Key::readers(workspace, source);
    each_row(store, &prefix, |key, value| {
        let Some((after, _)) = key.as_reader(&prefix) else { return Ok(()) };
        let last = ranges.last_mut().filter(|last| last.row.number == 0 && last.up_to.is_none());
        let row: ReaderRow = match row::decode(value) {
            Ok(row) => row,
            Err(error) => {
                tracing::error!(workspace = workspace.0, source = source.0, %error, "nobody knows who read some of a source's events");
                unreadable += 1;
                // It ends there all the same.
                last.into_iter().for_each(|last| last.up_to = Some(after));
                return Ok(());
            }
        };
        if let Some(last) = last {
            last.up_to = Some(after);
            last.events = row.before.saturating_sub(last.row.before);
        }
        let (up_to, events) = (row.up_to, row.events);
        ranges.push(ReaderRange { row, after, up_to, events });
        Ok(())
    })?;
    if let Some(last) = ranges.last_mut().filter(|last| last.row.number == 0 && last.up_to.is_none()) {
        last.events = events_of(store, workspace, source)?.saturating_sub(last.row.before);
    }
    Ok((ranges, unreadable))
}

/// What one component read of a source, up to a position of the log: the ranges of its versions.
#[derive(Debug)]
pub(crate) struct ReadBy {
    source: InstallationId,
    pub ranges: Vec<ReaderRange>,
    /// Rows of versions of the source that cannot be read, one of which may have been this.
    pub unreadable: u64,
    up_to: Position,
}

impl ReadBy {
    /// Find what the component of that digest read.
    pub(crate) fn find(
        store: &dyn Store,
        workspace: WorkspaceId,
        (source, digest): (InstallationId, &str),
        up_to: Position,
    ) -> Result<ReadBy, ReadError> {
        let (mut ranges, unreadable) = readable_ranges(store, workspace, source)?;
        ranges.retain(|range| range.row.reader.digest == digest);
        Ok(ReadBy { source, ranges, unreadable, up_to })
    }

    /// Whether an event at a position is one of these.
    pub(crate) fn has(&self, event: &Event, position: Position) -> bool {
        let is_of_range = || self.ranges.iter().any(|range| range.has(event, position));
        event.source == self.source && position <= self.up_to && is_of_range()
    }

    /// Where in the log they lie, behind a position and up to another, in its order and each position once: what two versions read
    /// at the same time lies together. Events of others may lie there, too.
    pub(crate) fn stretches(&self) -> Vec<(Position, Position)> {
        let mut stretches: Vec<(Position, Position)> = Vec::new();
        for range in &self.ranges {
            let up_to = range.up_to.map_or(self.up_to, |up_to| up_to.min(self.up_to));
            match stretches.last_mut() {
                Some(last) if range.after <= last.1 => last.1 = last.1.max(up_to),
                _ if range.after < up_to => stretches.push((range.after, up_to)),
                _ => {}
            }
        }
        stretches
    }

    /// When the first of them was received.
    pub(crate) fn since(&self) -> Option<Timestamp> {
        self.ranges.iter().map(|range| range.row.since).min()
    }
}

/// The version that read a source's event at a position; `None` where that was not noted, or no plugin read it.
pub(crate) fn reader_of(
    store: &dyn Store,
    workspace: WorkspaceId,
    event: &Event,
    position: Position,
) -> Result<Option<ReaderRow>, ReadError> {
    let found = ranges(store, workspace, event.source)?.into_iter().find(|range| range.has(event, position));
    Ok(found.map(|range| range.row))
}

/// How many events of a source were taken, corrections among them.
fn events_of(store: &dyn Store, workspace: WorkspaceId, source: InstallationId) -> Result<u64, ReadError> {
    let counted = read_days(store, workspace, source)?;
    let all = counted.days.values().chain([&counted.older]);
    Ok(all.map(taken).sum())
}

/// How many of these became events.
fn taken(counts: &SourceCounts) -> u64 {
    counts.accepted + counts.corrected
}

/// Rows of one source. For one more the oldest that is closed goes, and then nobody knows any more who read its events.
const MAX_VERSIONS: usize = 1_000;

/// Rows that are held after the group that asked for them.
const MAX_HELD: usize = 4_096;

/// The versions that have read of one source.
#[derive(Default)]
struct SourceReaders {
    rows: BTreeMap<Key, ReaderRow>,
    /// The greatest number that was given.
    last: u32,
}

impl SourceReaders {
    /// What the events are called that a version reads from now on.
    fn number_of(&self, reader: &Reader) -> u32 {
        let mut own = self.rows.values().filter(|row| row.number > 0 && row.reader == *reader);
        own.next().map_or(self.last + 1, |row| row.number)
    }
}

/// What the unit under way changes.
struct UnitReader {
    source: InstallationId,
    number: u32,
    /// `None` for a row that it deletes.
    changed: BTreeMap<Key, Option<ReaderRow>>,
}

/// The versions at work in one workspace. Only its lane holds it, and it is the only writer of their rows.
pub(super) struct Readers {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    /// The rows of each source, as the group leaves them.
    known: HashMap<InstallationId, SourceReaders>,
    /// The sources of which the group has events, and the versions that read them.
    in_group: BTreeSet<(InstallationId, u32)>,
    unit: Option<UnitReader>,
}

impl Readers {
    pub(super) fn new(store: Arc<dyn Store>, workspace: WorkspaceId) -> Readers {
        Readers { store, workspace, known: HashMap::new(), in_group: BTreeSet::new(), unit: None }
    }

    /// What the events of a submission call the version that read them; 0 for none.
    pub(super) fn number_of(&mut self, submission: &Submission) -> Result<u32, ReadError> {
        let Some(reader) = &submission.sender.reader else { return Ok(0) };
        Ok(self.of(submission.source)?.number_of(reader))
    }

    /// Note what the version of a submission read in a unit that brought so much.
    pub(super) fn write(
        &mut self,
        submission: &Submission,
        brought: &SourceCounts,
        operations: &mut Vec<Operation>,
    ) -> Result<(), ReadError> {
        let (source, Some(reader)) = (submission.source, &submission.sender.reader) else { return Ok(()) };
        if !operations.iter().any(|operation| matches!(operation, Operation::Append { .. })) {
            return Ok(());
        }
        let (workspace, head) = (self.workspace, self.store.head_of(self.workspace));
        let known = self.of(source)?;
        let number = known.number_of(reader);
        let own = known.rows.iter().find(|(_, row)| row.number == number);
        let own = own.map(|(key, row)| (key.clone(), row.clone()));
        // What is tried again as the event that a version made of it is of that version, which reads nothing for it: the one that
        // does reads on.
        let is_of_before = submission.again.as_ref().is_some_and(|again| again.letter.form == RawForm::Event);
        let mut changed = if is_of_before { BTreeMap::new() } else { self.closed(source, number, head) };
        let (key, mut row) = match own {
            Some(own) => own,
            None => {
                changed.extend(self.beyond(source).map(|key| (key, None)));
                let before = events_of(self.store.as_ref(), workspace, source)?;
                let (reader, since) = (Reader::clone(reader), submission.received_at);
                let row = ReaderRow { reader, since, before, number, events: 0, up_to: None };
                (Key::reader(workspace, source, head, number), row)
            }
        };
        (row.events, row.up_to) = (row.events + taken(brought), None);
        changed.insert(key, Some(row));
        operations.extend(changed.iter().map(|(key, row)| match row {
            Some(row) => Operation::Put(key.clone(), row::encode(row)),
            None => Operation::Delete(key.clone()),
        }));
        self.unit = Some(UnitReader { source, number, changed });
        Ok(())
    }

    /// The rows of other versions that the group has nothing of: what they read is durable, and ends where the log does now.
    fn closed(&self, source: InstallationId, number: u32, head: Position) -> BTreeMap<Key, Option<ReaderRow>> {
        let known = self.known.get(&source).into_iter().flat_map(|known| &known.rows);
        let open = known.filter(|(_, row)| row.number > 0 && row.number != number && row.up_to.is_none());
        let open = open.filter(|(_, row)| !self.in_group.contains(&(source, row.number)));
        open.map(|(key, row)| (key.clone(), Some(ReaderRow { up_to: Some(head), ..row.clone() }))).collect()
    }

    /// The row that goes for another one.
    fn beyond(&self, source: InstallationId) -> Option<Key> {
        let rows = &self.known.get(&source).filter(|known| known.rows.len() >= MAX_VERSIONS)?.rows;
        let is_over = |row: &ReaderRow| row.number == 0 || row.up_to.is_some();
        rows.iter().find(|(_, row)| is_over(row)).map(|(key, _)| key.clone())
    }

    /// The versions that have read of a source. A row that cannot be read is as good as none, but its number is given.
    fn of(&mut self, source: InstallationId) -> Result<&SourceReaders, ReadError> {
        if !self.known.contains_key(&source) {
            let prefix = Key::readers(self.workspace, source);
            let mut known = SourceReaders::default();
            each_row(self.store.as_ref(), &prefix, |key, value| {
                known.last = known.last.max(key.as_reader(&prefix).map_or(0, |(_, number)| number));
                known.rows.extend(row::decode(value).ok().map(|row| (key.clone(), row)));
                Ok(())
            })?;
            self.known.insert(source, known);
        }
        Ok(self.known.entry(source).or_default())
    }

    pub(super) fn keep_unit(&mut self) {
        let Some(UnitReader { source, number, changed }) = self.unit.take() else { return };
        self.in_group.insert((source, number));
        let known = self.known.entry(source).or_default();
        known.last = known.last.max(number);
        for (key, row) in changed {
            match row {
                Some(row) => known.rows.insert(key, row),
                None => known.rows.remove(&key),
            };
        }
    }

    pub(super) fn forget_unit(&mut self) {
        self.unit = None;
    }

    /// The group is durable.
    pub(super) fn committed(&mut self) {
        self.forget_unit();
        self.in_group.clear();
        if self.known.values().map(|known| known.rows.len() + 1).sum::<usize>() > MAX_HELD {
            self.known.clear();
        }
    }

    /// Not all of the group is durable, so that all is read again.
    pub(super) fn committed_in_part(&mut self) {
        self.committed();
        self.known.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_of_the_release_before_are_read() {
        let reader = Reader { version: "1.0.0".into(), digest: "d".into() };
        let mut bytes = vec![1];
        let before = ReaderRowV1 { reader: reader.clone(), since: Timestamp(5), before: 7 };
        row::write_postcard(&before, &mut bytes);
        let read: ReaderRow = row::decode(&bytes).unwrap();
        let expected = ReaderRow { reader, since: Timestamp(5), before: 7, number: 0, events: 0, up_to: None };
        assert_eq!(read, expected);
    }
}
