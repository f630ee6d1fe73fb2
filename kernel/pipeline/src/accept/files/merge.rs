//! Writing a run from sorted rows, and merging runs into one.

use std::collections::VecDeque;

use kith_model::id::WorkspaceId;
use kith_store::{Key, KeyRange, Operation, ReadError, Store, row};

use super::blocks::{Block, FilterRow, RunRow, SegmentRow, block_of};
use super::{RememberedRow, RowHash};

/// Blocks of one input that are read at once.
const READ_BLOCKS: usize = 16;

/// Writes the blocks and filters of a run.
pub(super) struct Writer {
    workspace: WorkspaceId,
    number: u64,
    segment_rows: u32,
    /// Rows that are still expected at most.
    expected: usize,
    block: Block,
    block_bytes: usize,
    filter: FilterRow,
    rows: u32,
    last: RowHash,
    segments: Vec<SegmentRow>,
    filters: Vec<FilterRow>,
    operations: Vec<Operation>,
    bytes: usize,
}

impl Writer {
    /// A run of at most `expected` rows.
    pub(super) fn new(workspace: WorkspaceId, number: u64, segment_rows: u32, expected: usize) -> Writer {
        let mut writer = Writer {
            workspace,
            number,
            segment_rows,
            expected,
            block: Block::default(),
            block_bytes: 0,
            filter: FilterRow::default(),
            rows: 0,
            last: 0,
            segments: Vec::new(),
            filters: Vec::new(),
            operations: Vec::new(),
            bytes: 0,
        };
        writer.begin_segment();
        writer
    }

    fn begin_segment(&mut self) {
        self.filter = FilterRow::for_rows(self.expected.min(self.segment_rows as usize));
    }

    /// The next row; its hash is above those before.
    pub(super) fn push(&mut self, id: RowHash, held: RememberedRow) {
        if self.rows == self.segment_rows {
            self.end_segment();
            self.begin_segment();
        }
        if self.block.is_full_for(self.block_bytes, &held) {
            self.end_block();
        }
        self.block_bytes += self.block.push(id, held);
        self.filter.insert(id);
        self.rows += 1;
        self.last = id;
        self.expected = self.expected.saturating_sub(1);
    }

    fn put(&mut self, key: Key, row: Vec<u8>) {
        self.bytes += row.len();
        self.operations.push(Operation::Put(key, row));
    }

    fn end_block(&mut self) {
        let block = std::mem::take(&mut self.block);
        self.block_bytes = 0;
        if let Some((last, _)) = block.0.last() {
            self.put(Key::file_block(self.workspace, self.number, *last), row::encode(&block));
        }
    }

    fn end_segment(&mut self) {
        self.end_block();
        if self.rows == 0 {
            return;
        }
        let number = u32::try_from(self.segments.len()).unwrap_or(u32::MAX);
        let filter = std::mem::take(&mut self.filter);
        self.put(Key::file_filter(self.workspace, self.number, number), row::encode(&filter));
        self.segments.push(SegmentRow { last: self.last, rows: std::mem::take(&mut self.rows) });
        self.filters.push(filter);
    }

    fn take_operations(&mut self) -> Vec<Operation> {
        self.bytes = 0;
        std::mem::take(&mut self.operations)
    }

    /// What is still to be written, and what the run consists of.
    pub(super) fn end(mut self) -> (Vec<Operation>, Vec<SegmentRow>, Vec<FilterRow>) {
        self.end_segment();
        (self.operations, self.segments, self.filters)
    }
}

/// One run that is read.
struct Input {
    range: Option<KeyRange>,
    rows: VecDeque<(RowHash, RememberedRow)>,
}

impl Input {
    /// The next row, read where none is at hand.
    fn peek(&mut self, store: &dyn Store) -> Result<Option<RowHash>, ReadError> {
        while self.rows.is_empty() {
            let Some(range) = &mut self.range else { return Ok(None) };
            let page = store.scan(range, READ_BLOCKS)?;
            for (_, block) in page.rows {
                self.rows.extend(block_of(&block)?.0);
            }
            match page.next {
                Some(next) => range.from = next,
                None => self.range = None,
            }
        }
        Ok(self.rows.front().map(|(id, _)| *id))
    }
}

/// A merge on its way.
pub(super) struct Merge {
    pub(super) number: u64,
    level: u8,
    numbers: Vec<u64>,
    /// The newest first.
    inputs: Vec<Input>,
    writer: Writer,
}

impl Merge {
    /// Merge `runs`, the newest first, into a run of the level above theirs.
    pub(super) fn begin(workspace: WorkspaceId, number: u64, runs: &[&RunRow], segment_rows: u32) -> Merge {
        let blocks = |run: &&RunRow| Key::file_blocks(workspace, run.number).range();
        let inputs = runs.iter().map(|run| Input { range: Some(blocks(run)), rows: VecDeque::new() }).collect();
        let rows: u64 = runs.iter().flat_map(|run| &run.segments).map(|segment| u64::from(segment.rows)).sum();
        let level = runs.iter().map(|run| run.level).max().unwrap_or(0).saturating_add(1);
        let expected = usize::try_from(rows).unwrap_or(usize::MAX);
        let writer = Writer::new(workspace, number, segment_rows, expected);
        Merge { number, level, numbers: runs.iter().map(|run| run.number).collect(), inputs, writer }
    }

    /// Merge until about `bytes` are to be written; whether there is more.
    pub(super) fn step(&mut self, store: &dyn Store, bytes: usize) -> Result<bool, ReadError> {
        while self.writer.bytes < bytes {
            let mut least = None;
            for input in &mut self.inputs {
                if let Some(id) = input.peek(store)? {
                    least = Some(least.map_or(id, |least: RowHash| least.min(id)));
                }
            }
            let Some(id) = least else { return Ok(false) };
            // Of a row that was corrected the newest counts.
            let mut newest = None;
            for input in &mut self.inputs {
                if input.rows.front().is_some_and(|(of, _)| *of == id) {
                    let held = input.rows.pop_front().map(|(_, held)| held);
                    newest = newest.or(held);
                }
            }
            if let Some(held) = newest {
                self.writer.push(id, held);
            }
        }
        Ok(true)
    }

    pub(super) fn take_operations(&mut self) -> Vec<Operation> {
        self.writer.take_operations()
    }

    /// The run, what it was made from, and what is still to be written.
    pub(super) fn end(self) -> (RunRow, Vec<u64>, Vec<Operation>, Vec<FilterRow>) {
        let (operations, segments, filters) = self.writer.end();
        (RunRow { number: self.number, level: self.level, segments }, self.numbers, operations, filters)
    }
}
