//! The rows of files that were taken, for ever: a file that comes again years later brings nothing new.
//!
//! What a unit brought is written with it, as fresh blocks. Once there are many, they are sorted into a run: immutable blocks
//! in the order of the ids' hashes, with a filter for each segment that stays in memory. Sixteen runs of a level are merged
//! into one of the next, a step with each turn, so that an id is written three or four times however many there are. The list
//! of runs says what counts: a run is not there before its last step, and what it took the place of is deleted afterwards.
//! All of it goes through the store's commit, so that a crash leaves every step whole or absent, and an engine that is lost
//! is filled again from the journal.

mod blocks;
mod merge;
#[cfg(test)]
mod tests;

use std::collections::HashMap;
use std::sync::Arc;

use kith_model::id::{SourceIdentityId, WorkspaceId};
use kith_store::{CommitError, Key, KeyRange, Operation, ReadError, Store, Unit, row};
use xxhash_rust::xxh3::Xxh3;

pub(crate) use blocks::{Block, FilterRow, RunsRow};
use blocks::{RunRow, block_of};
use merge::{Merge, Writer};

/// How an id is looked for: a hash of the source's name and the id.
pub(crate) type RowHash = u128;

/// What is known of a row.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub(crate) struct RememberedRow {
    /// Of its content.
    pub digest: u64,
    /// Whose event it became, so that a correction finds it; `None` where the id is made of the content, which cannot change.
    pub of: Option<SourceIdentityId>,
}

impl RememberedRow {
    /// Of a row that is as good as never seen: it was taken back. What lies in a run is never taken out of it, only overwritten.
    pub(crate) const FORGOTTEN: RememberedRow = RememberedRow { digest: 0, of: None };
}

/// The hash of a message id of a source. By the source's name, which outlives its installation.
pub(crate) fn hash(source: &str, message_id: &str) -> RowHash {
    let mut hash = Xxh3::new();
    hash.update(&(source.len() as u64).to_be_bytes());
    hash.update(source.as_bytes());
    hash.update(message_id.as_bytes());
    hash.digest128()
}

/// How large the parts are; tests make them small.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Sizes {
    /// Fresh rows that are sorted into a run.
    pub fresh_rows: usize,
    /// Fresh blocks after which they are, whatever they hold.
    pub fresh_blocks: usize,
    /// Runs of a level that are merged into one of the next.
    pub fanout: usize,
    /// Rows of a run that share a filter.
    pub segment_rows: u32,
    /// Bytes that one step of a merge writes.
    pub step_bytes: usize,
}

impl Default for Sizes {
    fn default() -> Sizes {
        Sizes { fresh_rows: 32_768, fresh_blocks: 8_192, fanout: 16, segment_rows: 1 << 18, step_bytes: 1 << 20 }
    }
}

/// Rows of a run that is no more which one step deletes.
const MAX_SWEPT_ROWS: usize = 1_024;

/// A run that counts, with its filters.
struct Run {
    row: RunRow,
    filters: Vec<FilterRow>,
}

/// One workspace's memory of the rows of files.
pub(crate) struct FileRows {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    pub(crate) sizes: Sizes,
    unit: HashMap<RowHash, RememberedRow>,
    group: HashMap<RowHash, RememberedRow>,
    /// Those that are durable and in no run.
    fresh: HashMap<RowHash, RememberedRow>,
    /// Their blocks.
    fresh_keys: Vec<Key>,
    /// Blocks of the group under way.
    group_keys: Vec<Key>,
    next_unit: u64,
    /// The newest first.
    runs: Vec<Run>,
    next_run: u64,
    merge: Option<Merge>,
    /// Numbers of runs that do not count, and of which there may be rows.
    leftovers: Vec<u64>,
}

impl FileRows {
    /// Read what is stored: the list of runs, their filters, and the fresh rows.
    pub(crate) fn open(store: Arc<dyn Store>, workspace: WorkspaceId) -> Result<FileRows, ReadError> {
        let mut rows = FileRows {
            store,
            workspace,
            sizes: Sizes::default(),
            unit: HashMap::new(),
            group: HashMap::new(),
            fresh: HashMap::new(),
            fresh_keys: Vec::new(),
            group_keys: Vec::new(),
            next_unit: 0,
            runs: Vec::new(),
            next_run: 0,
            merge: None,
            leftovers: Vec::new(),
        };
        rows.read_runs()?;
        rows.read_fresh()?;
        Ok(rows)
    }

    fn read_runs(&mut self) -> Result<(), ReadError> {
        let listed = self.store.get(&[Key::file_runs(self.workspace)])?.pop().flatten();
        let listed: RunsRow = listed.map_or(Ok(RunsRow::default()), |row| row::decode(&row))?;
        for run in listed.0 {
            let segments = 0..u32::try_from(run.segments.len()).unwrap_or(u32::MAX);
            let keys: Vec<Key> = segments.map(|number| Key::file_filter(self.workspace, run.number, number)).collect();
            let filters = self.store.get(&keys)?.into_iter().map(|row| {
                row.map(|row| row::decode(&row)).unwrap_or_else(|| {
                    let what = format!("a filter of the rows of files (run {})", run.number);
                    Err(ReadError::Corrupt { what, problem: "it is listed and has no row".into(), row: None })
                })
            });
            let filters = filters.collect::<Result<_, _>>()?;
            self.runs.push(Run { row: run, filters });
        }
        self.order_runs();
        // A seek for each run that there are rows of.
        let mut range = Key::all_file_runs(self.workspace).range();
        while let Some((key, _)) = self.store.scan(&range, 1)?.rows.first() {
            let Some(number) = key.as_file_run(self.workspace) else { break };
            self.next_run = self.next_run.max(number + 1);
            if !self.runs.iter().any(|run| run.row.number == number) {
                self.leftovers.push(number);
            }
            range.from = Key::file_run(self.workspace, number).range().to;
        }
        Ok(())
    }

    fn read_fresh(&mut self) -> Result<(), ReadError> {
        self.fresh.clear();
        self.fresh_keys.clear();
        let mut range = Key::fresh_file_rows(self.workspace).range();
        loop {
            let page = self.store.scan(&range, 4_096)?;
            for (key, value) in page.rows {
                self.next_unit = self.next_unit.max(key.as_fresh_file_block(self.workspace).map_or(0, |unit| unit + 1));
                self.fresh.extend(row::decode::<Block>(&value)?.0);
                self.fresh_keys.push(key);
            }
            match page.next {
                Some(next) => range.from = next,
                None => return Ok(()),
            }
        }
    }

    /// Of one level the greater number is newer; a lower level is newer than a higher one.
    fn order_runs(&mut self) {
        self.runs.sort_by_key(|run| (run.row.level, std::cmp::Reverse(run.row.number)));
    }

    /// What is known of a row.
    pub(crate) fn look(&self, id: RowHash) -> Result<Option<RememberedRow>, ReadError> {
        let at_hand = self.unit.get(&id).or_else(|| self.group.get(&id)).or_else(|| self.fresh.get(&id));
        if let Some(held) = at_hand {
            return Ok(Some(*held));
        }
        for run in &self.runs {
            let segment = run.row.segments.partition_point(|segment| segment.last < id);
            if !run.filters.get(segment).is_some_and(|filter| filter.may_hold(id)) {
                continue;
            }
            // The first block whose greatest hash is not below it.
            let blocks = Key::file_blocks(self.workspace, run.row.number).range();
            let from = Key::file_block(self.workspace, run.row.number, id);
            if let Some((_, block)) = self.store.scan(&KeyRange { from, to: blocks.to }, 1)?.rows.first()
                && let Some(held) = block_of(block)?.get(id)
            {
                return Ok(Some(held));
            }
        }
        Ok(None)
    }

    /// Whether the row is of the work under way, so that its event is not in the store yet.
    pub(crate) fn is_under_way(&self, id: RowHash) -> bool {
        self.unit.contains_key(&id) || self.group.contains_key(&id)
    }

    /// The row is taken, or corrected, with the unit.
    pub(crate) fn remember(&mut self, id: RowHash, held: RememberedRow) {
        self.unit.insert(id, held);
    }

    fn unit_blocks(&self) -> impl Iterator<Item = (Key, Block)> + '_ {
        let mut rows: Vec<(RowHash, RememberedRow)> = self.unit.iter().map(|(id, held)| (*id, *held)).collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        let blocks = Block::cut(rows);
        (0_u32..)
            .zip(blocks)
            .map(|(number, block)| (Key::fresh_file_block(self.workspace, self.next_unit, number), block))
    }

    /// The rows of the unit.
    pub(crate) fn write(&mut self, operations: &mut Vec<Operation>) {
        operations.extend(self.unit_blocks().map(|(key, block)| Operation::Put(key, row::encode(&block))));
    }

    /// The unit is part of the group.
    pub(crate) fn keep_unit(&mut self) {
        if self.unit.is_empty() {
            return;
        }
        let keys: Vec<Key> = self.unit_blocks().map(|(key, _)| key).collect();
        self.group_keys.extend(keys);
        self.group.extend(self.unit.drain());
        self.next_unit += 1;
    }

    /// The unit was too large or could not be built: nothing of it stays.
    pub(crate) fn forget_unit(&mut self) {
        self.unit.clear();
    }

    /// The group is durable.
    pub(crate) fn committed(&mut self) {
        self.unit.clear();
        self.fresh.extend(self.group.drain());
        self.fresh_keys.append(&mut self.group_keys);
    }

    /// Not all of the group is durable.
    pub(crate) fn committed_in_part(&mut self) -> Result<(), ReadError> {
        self.unit.clear();
        self.group.clear();
        self.group_keys.clear();
        self.read_fresh()
    }

    /// One step of the work that keeps look-ups quick. It is a commit of its own between two groups; one that is not
    /// committed is done again from its beginning.
    ///
    /// # Errors
    /// The store takes nothing, or what there is cannot be read: nothing is lost by it.
    pub(crate) fn step(&mut self) -> Result<(), CommitError> {
        if self.fresh.len() >= self.sizes.fresh_rows || self.fresh_keys.len() >= self.sizes.fresh_blocks {
            self.sort_fresh()?;
        }
        if self.merge.is_none() {
            self.merge = self.next_merge()?;
        }
        if let Some(merge) = self.merge.take() {
            let number = merge.number;
            self.merge_on(merge).inspect_err(|_| self.leftovers.push(number))?;
        }
        self.sweep()
    }

    /// Sort the fresh rows into a run of the first level: one unit, so that they are in one place at every moment.
    fn sort_fresh(&mut self) -> Result<(), CommitError> {
        let mut rows: Vec<(RowHash, RememberedRow)> = self.fresh.iter().map(|(id, held)| (*id, *held)).collect();
        rows.sort_unstable_by_key(|(id, _)| *id);
        let number = self.next_run;
        let mut writer = Writer::new(self.workspace, number, self.sizes.segment_rows, rows.len());
        rows.into_iter().for_each(|(id, held)| writer.push(id, held));
        let (mut operations, segments, filters) = writer.end();
        let row = RunRow { number, level: 1, segments };
        let list = self.runs.iter().map(|run| run.row.clone()).chain([row.clone()]).collect();
        operations.push(Operation::Put(Key::file_runs(self.workspace), row::encode(&RunsRow(list))));
        operations.extend(self.fresh_keys.iter().cloned().map(Operation::Delete));
        self.next_run += 1;
        self.store.commit(Unit { operations, ..Unit::default() })?;
        self.runs.push(Run { row, filters });
        self.order_runs();
        self.fresh.clear();
        self.fresh_keys.clear();
        Ok(())
    }

    /// The lowest level that has enough runs.
    fn next_merge(&mut self) -> Result<Option<Merge>, ReadError> {
        let level_of = |run: &Run| run.row.level;
        let full = self.runs.chunk_by(|one, next| level_of(one) == level_of(next));
        let Some(inputs) = full.into_iter().find(|runs| runs.len() >= self.sizes.fanout) else { return Ok(None) };
        let rows: Vec<&RunRow> = inputs.iter().map(|run| &run.row).collect();
        let merge = Merge::begin(self.workspace, self.next_run, &rows, self.sizes.segment_rows);
        self.next_run += 1;
        Ok(Some(merge))
    }

    /// Write a step of the merge; with the last one it takes the place of what it was made from.
    fn merge_on(&mut self, mut merge: Merge) -> Result<(), CommitError> {
        let has_more = merge.step(self.store.as_ref(), self.sizes.step_bytes)?;
        if has_more {
            let operations = merge.take_operations();
            self.store.commit(Unit { operations, ..Unit::default() })?;
            self.merge = Some(merge);
            return Ok(());
        }
        let (row, inputs, mut operations, filters) = merge.end();
        let stays = |run: &&Run| !inputs.contains(&run.row.number);
        let list = self.runs.iter().filter(stays).map(|run| run.row.clone()).chain([row.clone()]).collect();
        operations.push(Operation::Put(Key::file_runs(self.workspace), row::encode(&RunsRow(list))));
        self.store.commit(Unit { operations, ..Unit::default() })?;
        self.runs.retain(|run| !inputs.contains(&run.row.number));
        self.runs.push(Run { row, filters });
        self.order_runs();
        self.leftovers.extend(inputs);
        Ok(())
    }

    /// Delete some rows of a run that does not count.
    fn sweep(&mut self) -> Result<(), CommitError> {
        let Some(number) = self.leftovers.last().copied() else { return Ok(()) };
        let page = self.store.scan(&Key::file_run(self.workspace, number).range(), MAX_SWEPT_ROWS)?;
        if page.rows.is_empty() {
            self.leftovers.pop();
            return Ok(());
        }
        let operations = page.rows.into_iter().map(|(key, _)| Operation::Delete(key)).collect();
        self.store.commit(Unit { operations, ..Unit::default() })?;
        Ok(())
    }
}
