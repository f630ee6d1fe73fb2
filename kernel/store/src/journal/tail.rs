//! The newest log records in memory, so that a reader who keeps up with the feed never touches the disk, and of every
//! workspace the position of its newest record, so that an idle one is never read for.

use std::collections::{HashMap, VecDeque};

use kith_model::id::{Position, WorkspaceId};

use crate::{ChangeLimits, Changes, LogRecord};

/// What a record costs beside its bytes, its place in its workspace's list included.
const OVERHEAD_BYTES: usize = 80;

/// The newest record of each workspace that has one.
pub(crate) type Heads = HashMap<WorkspaceId, Position>;

/// A run of log records without gaps that ends with the newest one.
#[derive(Debug)]
pub(crate) struct Tail {
    records: VecDeque<LogRecord>,
    /// The positions of `records` by workspace. What it costs to read one workspace does not depend on its neighbours.
    positions: HashMap<WorkspaceId, VecDeque<u64>>,
    /// Over the whole log, not only over `records`.
    heads: Heads,
    /// The position that the next record will have.
    next_position: u64,
    bytes: usize,
    max_bytes: usize,
}

/// Takes records until a limit is reached.
pub(crate) struct Taking {
    pub(crate) records: Vec<LogRecord>,
    bytes: usize,
    limits: ChangeLimits,
}

impl Taking {
    pub(crate) fn new(limits: ChangeLimits) -> Taking {
        Taking { records: Vec::new(), bytes: 0, limits }
    }

    /// Whether a record of `size_bytes` may follow those taken. The first may always, or a large one would never be read.
    pub(crate) fn has_room(&self, size_bytes: usize) -> bool {
        let within = self.records.len() < self.limits.records && self.bytes + size_bytes <= self.limits.bytes;
        within || self.records.is_empty()
    }

    pub(crate) fn push(&mut self, record: LogRecord) {
        self.bytes += record.bytes.len();
        self.records.push(record);
    }
}

impl Tail {
    /// An empty tail of a log whose next record will be at `next_position`, and whose workspaces stand at `heads`.
    pub(crate) fn new(next_position: u64, max_bytes: usize, heads: Heads) -> Tail {
        Tail { records: VecDeque::new(), positions: HashMap::new(), heads, next_position, bytes: 0, max_bytes }
    }

    /// Add the newest records and drop the oldest ones that are too many.
    pub(crate) fn extend(&mut self, records: impl IntoIterator<Item = LogRecord>) {
        for record in records {
            debug_assert_eq!(record.position.0, self.next_position, "the log has no gaps");
            self.next_position = record.position.0 + 1;
            self.bytes += record.bytes.len() + OVERHEAD_BYTES;
            self.positions.entry(record.workspace).or_default().push_back(record.position.0);
            // A replay brings records again that the heads know already.
            let head = self.heads.entry(record.workspace).or_default();
            *head = record.position.max(*head);
            self.records.push_back(record);
        }
        while self.bytes > self.max_bytes {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.bytes.len() + OVERHEAD_BYTES;
            if let Some(positions) = self.positions.get_mut(&oldest.workspace) {
                let first = positions.pop_front();
                debug_assert_eq!(
                    first,
                    Some(oldest.position.0),
                    "a workspace's list begins with its oldest record here"
                );
                if positions.is_empty() {
                    self.positions.remove(&oldest.workspace);
                }
            }
        }
    }

    fn oldest(&self) -> u64 {
        self.next_position - self.records.len() as u64
    }

    /// The newest position of the log.
    pub(crate) fn head(&self) -> Position {
        Position(self.next_position - 1)
    }

    /// The newest position of a workspace's records; 0 if it has none.
    pub(crate) fn head_of(&self, workspace: WorkspaceId) -> Position {
        self.heads.get(&workspace).copied().unwrap_or_default()
    }

    /// A workspace's records after `after`; `None` if some of them may no longer be here.
    pub(crate) fn changes(&self, workspace: WorkspaceId, after: Position, limits: ChangeLimits) -> Option<Changes> {
        let nothing = || Changes { records: Vec::new(), up_to: self.head().max(after) };
        if self.head_of(workspace) <= after {
            return Some(nothing());
        }
        let oldest = self.oldest();
        if after.0.saturating_add(1) < oldest {
            return None;
        }
        let Some(positions) = self.positions.get(&workspace) else { return Some(nothing()) };
        let mut taking = Taking::new(limits);
        for position in positions.range(positions.partition_point(|position| *position <= after.0)..) {
            let index = usize::try_from(position - oldest).ok()?;
            let record = self.records.get(index)?;
            debug_assert_eq!((record.workspace, record.position.0), (workspace, *position));
            if !taking.has_room(record.bytes.len()) {
                let up_to = taking.records.last().map_or(after, |record| record.position);
                return Some(Changes { records: taking.records, up_to });
            }
            taking.push(record.clone());
        }
        Some(Changes { records: taking.records, up_to: self.head() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Value;

    const ALL: ChangeLimits = ChangeLimits { records: usize::MAX, bytes: usize::MAX };

    /// A record of 20 bytes of workspace 1 at odd positions and of workspace 2 at even ones.
    fn record(position: u64) -> LogRecord {
        let workspace = if position % 2 == 1 { WorkspaceId(1) } else { WorkspaceId(2) };
        LogRecord { position: Position(position), workspace, bytes: Value::from([0; 20].as_slice()) }
    }

    fn tail() -> Tail {
        let heads = Heads::from([(WorkspaceId(1), Position(3)), (WorkspaceId(3), Position(4))]);
        let mut tail = Tail::new(5, 400, heads);
        tail.extend((5..11).map(record));
        tail
    }

    fn changes(tail: &Tail, workspace: u32, after: u64, limits: ChangeLimits) -> Option<(Vec<u64>, u64)> {
        let changes = tail.changes(WorkspaceId(workspace), Position(after), limits)?;
        assert!(changes.records.iter().all(|record| record.workspace == WorkspaceId(workspace)));
        Some((changes.records.iter().map(|record| record.position.0).collect(), changes.up_to.0))
    }

    #[test]
    fn a_workspace_gets_its_own_records_and_how_far_they_reach() {
        // Four of six records of 100 bytes stay.
        let tail = tail();
        assert_eq!(changes(&tail, 1, 6, ALL), Some((vec![7, 9], 10)));
        assert_eq!(changes(&tail, 2, 6, ALL), Some((vec![8, 10], 10)));
        assert_eq!(changes(&tail, 2, 8, ALL), Some((vec![10], 10)));
        assert_eq!(changes(&tail, 1, 5, ALL), None, "position 6 is no longer here");
        assert_eq!(changes(&tail, 1, 9, ALL), Some((vec![], 10)));
        assert_eq!(changes(&tail, 1, 99, ALL), Some((vec![], 99)));
    }

    #[test]
    fn limits_cut_behind_the_first_record() {
        let tail = tail();
        let at_most = |records, bytes| changes(&tail, 1, 6, ChangeLimits { records, bytes });
        assert_eq!(at_most(1, usize::MAX), Some((vec![7], 7)));
        assert_eq!(at_most(0, 0), Some((vec![7], 7)));
        assert_eq!(at_most(9, 39), Some((vec![7], 7)));
        assert_eq!(at_most(9, 40), Some((vec![7, 9], 10)));
        assert_eq!(at_most(2, 40), Some((vec![7, 9], 10)));
    }

    #[test]
    fn a_workspace_without_newer_records_is_answered_from_its_head() {
        let tail = tail();
        let heads: Vec<u64> = (1..5).map(|workspace| tail.head_of(WorkspaceId(workspace)).0).collect();
        assert_eq!(heads, [9, 10, 4, 0]);
        // Its newest record is older than the tail, and so is the question.
        assert_eq!(changes(&tail, 3, 4, ALL), Some((vec![], 10)));
        assert_eq!(changes(&tail, 3, 3, ALL), None);
        assert_eq!(changes(&tail, 4, 0, ALL), Some((vec![], 10)));
    }
}
