//! How far an import has come: written in the commits of its pieces, so that one that was killed goes on behind the last piece
//! that is durable, with the connector's state, its counts and what it knows of rows without an id.

mod resent;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::event::RejectedRecord;
use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row, read_postcard};
use kith_store::{CommitError, Key, KeyRange, Operation, ReadError, Store, Unit, row};
use parking_lot::Mutex;
use serde::{Deserialize, Serialize};

use super::MAX_LISTED_OF_FILES;
use crate::profiles::facts::get_one;
use crate::rows::rows;
use crate::views::Acceptance;
use resent::RESENT;
pub(crate) use resent::{Resent, cut_off};

/// Imports of a workspace that were begun and not ended; the oldest is forgotten when another begins, and would begin anew.
const MAX_IMPORTS: usize = 100;

/// Rows that one commit deletes.
const MAX_DELETED: usize = 1_000;

/// How far an import has come.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ImportRow {
    /// Bytes of the file, unpacked, that the connector has taken.
    pub bytes: u64,
    /// The connector's state behind them.
    pub resume: Option<Vec<u8>>,
    /// Pieces that are durable; their numbers begin with 1.
    pub pieces: u32,
    /// Of the connector and its configuration: another one would read the file in another way.
    pub version: u64,
    pub at: Timestamp,
}

/// What a part of a piece came to.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct PieceRow {
    accepted: u64,
    duplicate: u64,
    corrected: u64,
    conflict: u64,
    rejected_count: u64,
    rejected: Vec<RejectedRecord>,
    /// The contents of its rows without an id.
    contents: Vec<u64>,
    not_followed: u64,
    identifiers_left_out: u64,
    /// By the codes of flags.
    flagged: BTreeMap<String, u64>,
    /// Events that a rule dropped.
    dropped: u64,
}

/// The same of version 1, which had neither rules nor counts of what was odd in the accepted records.
#[derive(Serialize, Deserialize)]
struct PieceRowV1 {
    accepted: u64,
    duplicate: u64,
    corrected: u64,
    conflict: u64,
    rejected_count: u64,
    rejected: Vec<RejectedRecord>,
    contents: Vec<u64>,
}

impl From<PieceRowV1> for PieceRow {
    fn from(row: PieceRowV1) -> PieceRow {
        let PieceRowV1 { accepted, duplicate, corrected, conflict, rejected_count, rejected, contents } = row;
        PieceRow { accepted, duplicate, corrected, conflict, rejected_count, rejected, contents, ..PieceRow::default() }
    }
}

impl Row for PieceRow {
    const WHAT: &'static str = "what a part of an import came to";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 2;

    fn before(version: u8, body: &[u8]) -> Option<Result<PieceRow, String>> {
        (version == 1).then(|| read_postcard::<PieceRowV1>(body).map(PieceRow::from))
    }
}

rows! {
    ImportRow: "how far an import has come", Accept, 1;
}

/// Imports that are under way in this process: two at once would each write down how far it is.
pub(crate) type UnderWay = Mutex<BTreeSet<(WorkspaceId, u128)>>;

/// The right to write down how far an import is, as long as it or one of its pieces is under way.
pub(crate) struct Guard {
    under_way: Arc<UnderWay>,
    import: (WorkspaceId, u128),
}

impl Guard {
    /// `None` while another one has it.
    pub(crate) fn take(under_way: &Arc<UnderWay>, workspace: WorkspaceId, import: u128) -> Option<Guard> {
        let import = (workspace, import);
        under_way.lock().insert(import).then(|| Guard { under_way: Arc::clone(under_way), import })
    }
}

impl Drop for Guard {
    fn drop(&mut self) {
        self.under_way.lock().remove(&self.import);
    }
}

/// A piece of an import on its way.
pub(crate) struct Piece {
    pub import: u128,
    /// What holds once the piece is durable.
    pub progress: ImportRow,
    pub contents: Vec<u64>,
    pub _guard: Arc<Guard>,
}

impl Piece {
    /// What one of its units writes down. `event` is the first event of the unit, which names it within the piece.
    pub(super) fn notes(
        &self,
        workspace: WorkspaceId,
        event: usize,
        unit: &Acceptance,
        is_last: bool,
    ) -> Vec<Operation> {
        let contents = if is_last { self.contents.clone() } else { Vec::new() };
        let row = PieceRow {
            accepted: unit.accepted,
            duplicate: unit.duplicate,
            corrected: unit.corrected,
            conflict: unit.conflict,
            rejected_count: unit.rejected_count,
            rejected: unit.rejected.clone(),
            contents,
            not_followed: unit.not_followed,
            identifiers_left_out: unit.identifiers_left_out,
            flagged: unit.flagged.iter().map(|(code, count)| ((*code).to_owned(), *count)).collect(),
            dropped: unit.dropped,
        };
        let part = u32::try_from(event).unwrap_or(u32::MAX);
        let mut notes =
            vec![Operation::Put(Key::import(workspace, self.import, self.progress.pieces, part), row::encode(&row))];
        if is_last {
            notes.push(Operation::Put(Key::import(workspace, self.import, 0, 0), row::encode(&self.progress)));
        }
        notes
    }
}

/// An import as it was left.
pub(crate) struct ImportCheckpoint {
    pub progress: ImportRow,
    pub acceptance: Acceptance,
    /// How often each content of a row without an id came.
    pub contents: BTreeMap<u64, u32>,
    /// What was taken before a process ended and has not come again.
    pub resent: Resent,
}

impl ImportCheckpoint {
    /// Count in a piece that is whole.
    fn end_piece(&mut self, mut piece: Acceptance) {
        self.resent.restore(&mut piece);
        self.acceptance.add(piece, MAX_LISTED_OF_FILES);
    }
}

impl PieceRow {
    fn records(&self) -> u64 {
        self.accepted + self.duplicate + self.corrected + self.dropped + self.rejected_count
    }

    fn into_acceptance(self) -> Acceptance {
        let flagged = self.flagged.iter().map(|(code, count)| (kith_model::flag::counted(code), *count));
        Acceptance {
            accepted: self.accepted,
            duplicate: self.duplicate,
            corrected: self.corrected,
            conflict: self.conflict,
            rejected_count: self.rejected_count,
            flagged: flagged.collect(),
            rejected: self.rejected,
            not_followed: self.not_followed,
            identifiers_left_out: self.identifiers_left_out,
            dropped: self.dropped,
            ..Acceptance::default()
        }
    }
}

/// How far an import had come; `None` where nothing is known of it, or not all.
pub(crate) fn left(
    store: &dyn Store,
    workspace: WorkspaceId,
    import: u128,
) -> Result<Option<ImportCheckpoint>, ReadError> {
    let Some(row) = get_one(store, &Key::import(workspace, import, 0, 0))? else { return Ok(None) };
    let progress: ImportRow = row::decode(&row)?;
    let to = Key::import(workspace, import, progress.pieces.saturating_add(1), 0);
    let mut left = ImportCheckpoint {
        progress,
        acceptance: Acceptance::default(),
        contents: BTreeMap::new(),
        resent: Resent::default(),
    };
    let mut pieces = BTreeSet::new();
    let mut under_way: Option<(u32, Acceptance)> = None;
    let mut range = KeyRange { from: Key::import(workspace, import, 1, 0), to };
    loop {
        let page = store.scan(&range, 1_024)?;
        for (key, value) in page.rows {
            let Some((piece, part)) = key.as_import(workspace, import) else { continue };
            let mut row: PieceRow = row::decode(&value)?;
            if let Some((_, whole)) = under_way.take_if(|(before, _)| *before != piece) {
                left.end_piece(whole);
            }
            if part == RESENT {
                left.resent.add(row);
                continue;
            }
            pieces.insert(piece);
            std::mem::take(&mut row.contents).into_iter().for_each(|it| *left.contents.entry(it).or_default() += 1);
            let (_, whole) = under_way.get_or_insert_with(|| (piece, Acceptance::default()));
            whole.add(row.into_acceptance(), MAX_LISTED_OF_FILES);
        }
        match page.next {
            Some(next) => range.from = next,
            None => break,
        }
    }
    if let Some((_, whole)) = under_way {
        left.end_piece(whole);
    }
    Ok((pieces.len() == left.progress.pieces as usize).then_some(left))
}

/// Forget what is kept of an import behind a piece; behind piece 0 it is the import itself.
pub(crate) fn forget(store: &dyn Store, workspace: WorkspaceId, import: u128, after: u32) -> Result<(), CommitError> {
    let mut range = Key::import_parts(workspace, import).range();
    if after > 0 {
        range.from = Key::import(workspace, import, after.saturating_add(1), 0);
    }
    loop {
        // The progress goes first: without it the rest counts for nothing.
        let page = store.scan(&range, MAX_DELETED)?;
        if page.rows.is_empty() {
            return Ok(());
        }
        let operations = page.rows.into_iter().map(|(key, _)| Operation::Delete(key)).collect();
        store.commit(Unit { operations, ..Unit::default() })?;
    }
}

/// Make room for one more import: forget the oldest ones beyond the number that is kept, but for those under way.
pub(crate) fn make_room(store: &dyn Store, workspace: WorkspaceId, under_way: &UnderWay) -> Result<(), CommitError> {
    let mut imports: Vec<(Timestamp, u128)> = Vec::new();
    let mut range = Key::imports(workspace).range();
    while let Some((key, value)) = store.scan(&range, 1)?.rows.first() {
        let Some(import) = key.as_any_import(workspace) else { break };
        // Of an import whose progress is gone only parts are left.
        let at = row::decode::<ImportRow>(value).map_or(Timestamp(i64::MIN), |row| row.at);
        imports.push((at, import));
        range.from = Key::import_parts(workspace, import).range().to;
    }
    imports.sort_unstable();
    let beyond = (imports.len() + 1).saturating_sub(MAX_IMPORTS);
    for (_, import) in imports.into_iter().take(beyond) {
        if !under_way.lock().contains(&(workspace, import)) {
            forget(store, workspace, import, 0)?;
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_part_of_the_version_before_reads() {
        #[derive(Serialize)]
        struct PieceBefore(u64, u64, u64, u64, u64, Vec<RejectedRecord>, Vec<u64>);
        let mut bytes = vec![1];
        row::write_postcard(&PieceBefore(7, 6, 5, 4, 3, Vec::new(), vec![9]), &mut bytes);
        let read: PieceRow = row::decode(&bytes).unwrap();
        let contents = vec![9];
        let expected = PieceRow {
            accepted: 7,
            duplicate: 6,
            corrected: 5,
            conflict: 4,
            rejected_count: 3,
            contents,
            ..PieceRow::default()
        };
        assert_eq!(read, expected);
        assert_eq!(row::decode::<PieceRow>(&row::encode(&expected)).unwrap(), expected);
    }
}
