//! Keys of what is remembered of files: their rows, what corrections replaced, and how far an import has come.

use kith_model::id::{SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;

use super::{FILE_ROW, IMPORT, Key, SUPERSEDED, sortable};

/// The parts of [`FILE_ROW`].
const RUNS: &[u8] = &[0];
const FRESH: &[u8] = &[1];
const RUN: &[u8] = &[2];

/// The parts of a run.
const FILTER: &[u8] = &[0];
const BLOCK: &[u8] = &[1];

impl Key {
    /// The list of the runs of file rows that count.
    pub fn file_runs(workspace: WorkspaceId) -> Key {
        Key::new(FILE_ROW, workspace, 0, &[RUNS])
    }

    /// File rows that are in no run yet.
    pub fn fresh_file_rows(workspace: WorkspaceId) -> Key {
        Key::new(FILE_ROW, workspace, 0, &[FRESH])
    }

    /// One block of the file rows that one unit brought.
    pub fn fresh_file_block(workspace: WorkspaceId, unit: u64, block: u32) -> Key {
        Key::new(FILE_ROW, workspace, 0, &[FRESH, &unit.to_be_bytes(), &block.to_be_bytes()])
    }

    /// The unit that a key of [`Key::fresh_file_rows`] names.
    pub fn as_fresh_file_block(&self, workspace: WorkspaceId) -> Option<u64> {
        let (unit, _) = self.strip(&Key::fresh_file_rows(workspace))?.split_first_chunk::<8>()?;
        Some(u64::from_be_bytes(*unit))
    }

    /// All rows of all runs.
    pub fn all_file_runs(workspace: WorkspaceId) -> Key {
        Key::new(FILE_ROW, workspace, 0, &[RUN])
    }

    /// The rows of one run: its filters, then its blocks.
    pub fn file_run(workspace: WorkspaceId, run: u64) -> Key {
        Key::new(FILE_ROW, workspace, 0, &[RUN, &run.to_be_bytes()])
    }

    /// The number of the run that a key of [`Key::all_file_runs`] lies in.
    pub fn as_file_run(&self, workspace: WorkspaceId) -> Option<u64> {
        let (run, _) = self.strip(&Key::all_file_runs(workspace))?.split_first_chunk::<8>()?;
        Some(u64::from_be_bytes(*run))
    }

    /// The filter of one segment of a run.
    pub fn file_filter(workspace: WorkspaceId, run: u64, segment: u32) -> Key {
        Key::file_run(workspace, run).followed_by(FILTER).followed_by(&segment.to_be_bytes())
    }

    /// The blocks of a run, in the order of the hashes in them.
    pub fn file_blocks(workspace: WorkspaceId, run: u64) -> Key {
        Key::file_run(workspace, run).followed_by(BLOCK)
    }

    /// The block of a run whose greatest hash is `last`.
    pub fn file_block(workspace: WorkspaceId, run: u64, last: u128) -> Key {
        Key::file_blocks(workspace, run).followed_by(&last.to_be_bytes())
    }

    /// The events of a source identity that a correction took the place of.
    pub fn superseded_of(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::of_identity(SUPERSEDED, workspace, identity, &[])
    }

    /// One event that a correction took the place of, for [`crate::Operation::Append`].
    pub fn superseded(workspace: WorkspaceId, identity: SourceIdentityId, time: Timestamp) -> Key {
        Key::of_identity(SUPERSEDED, workspace, identity, &[&sortable(time)])
    }

    /// The imports of a workspace that were not ended.
    pub fn imports(workspace: WorkspaceId) -> Key {
        Key::new(IMPORT, workspace, 0, &[])
    }

    /// What is kept of one import: a part of a piece. Piece 0 has one part, how far the import has come.
    pub fn import(workspace: WorkspaceId, import: u128, piece: u32, part: u32) -> Key {
        Key::import_parts(workspace, import).followed_by(&piece.to_be_bytes()).followed_by(&part.to_be_bytes())
    }

    /// The piece and the part of it that a key made by [`Key::import`] names.
    pub fn as_import(&self, workspace: WorkspaceId, import: u128) -> Option<(u32, u32)> {
        let (piece, part) = self.strip(&Key::import_parts(workspace, import))?.split_first_chunk::<4>()?;
        Some((u32::from_be_bytes(*piece), u32::from_be_bytes(part.try_into().ok()?)))
    }

    /// The import that a key of [`Key::imports`] names.
    pub fn as_any_import(&self, workspace: WorkspaceId) -> Option<u128> {
        let (import, _) = self.strip(&Key::imports(workspace))?.split_first_chunk::<16>()?;
        Some(u128::from_be_bytes(*import))
    }

    /// All that is kept of one import.
    pub fn import_parts(workspace: WorkspaceId, import: u128) -> Key {
        Key::imports(workspace).followed_by(&import.to_be_bytes())
    }
}
