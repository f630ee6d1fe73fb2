//! The newest log records in memory, so that a reader who keeps up with the feed never touches the disk.

use std::collections::VecDeque;

use crate::LogRecord;

/// What a record costs beside its bytes.
const OVERHEAD_BYTES: usize = 64;

/// A run of log records without gaps that ends with the newest one.
#[derive(Debug)]
pub(crate) struct Tail {
    records: VecDeque<LogRecord>,
    /// The position that the next record will have.
    next_position: u64,
    bytes: usize,
    max_bytes: usize,
}

impl Tail {
    /// An empty tail of a log whose next record will be at `next_position`.
    pub(crate) fn new(next_position: u64, max_bytes: usize) -> Tail {
        Tail { records: VecDeque::new(), next_position, bytes: 0, max_bytes }
    }

    /// Add the newest records and drop the oldest ones that are too many.
    pub(crate) fn extend(&mut self, records: impl IntoIterator<Item = LogRecord>) {
        for record in records {
            self.next_position = record.position.0 + 1;
            self.bytes += record.bytes.len() + OVERHEAD_BYTES;
            self.records.push_back(record);
        }
        while self.bytes > self.max_bytes {
            let Some(oldest) = self.records.pop_front() else { break };
            self.bytes -= oldest.bytes.len() + OVERHEAD_BYTES;
        }
    }

    /// Up to `limit` records after `after`; `None` if some of them are no longer here.
    pub(crate) fn after(&self, after: u64, limit: usize) -> Option<Vec<LogRecord>> {
        let oldest = self.next_position - self.records.len() as u64;
        let wanted = after.saturating_add(1);
        if wanted >= self.next_position {
            return Some(Vec::new());
        }
        let skipped = usize::try_from(wanted.checked_sub(oldest)?).ok()?;
        let end = skipped.saturating_add(limit).min(self.records.len());
        Some(self.records.range(skipped..end).cloned().collect())
    }
}

#[cfg(test)]
mod tests {
    use kith_model::id::{Position, WorkspaceId};

    use super::*;
    use crate::Value;

    #[test]
    fn a_tail_serves_the_newest_and_says_when_it_cannot() {
        let record = |position| LogRecord {
            position: Position(position),
            workspace: WorkspaceId(1),
            bytes: Value::from([0; 36].as_slice()),
        };
        let mut tail = Tail::new(5, 300);
        assert_eq!(tail.after(4, 10), Some(Vec::new()));
        assert_eq!(tail.after(3, 10), None);
        tail.extend((5..10).map(record));
        assert_eq!(tail.after(7, 1), Some(vec![record(8)]));
        assert_eq!(tail.after(6, 10), Some((7..10).map(record).collect()));
        assert_eq!(tail.after(5, 10), None, "two of five do not fit into 300 bytes");
        assert_eq!(tail.after(99, 10), Some(Vec::new()));
    }
}
