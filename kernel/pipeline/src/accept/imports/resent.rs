//! The rows that come twice because a process ended between two units of a piece: what is durable of the piece is taken, the piece is not,
//! and so all of it comes again. They are counted as what they were, not as repeats.

use kith_model::id::WorkspaceId;
use kith_store::{CommitError, Key, KeyRange, Operation, Store, Unit, row};

use super::{MAX_DELETED, PieceRow};
use crate::views::Acceptance;

/// The part of a piece that tells what of it had been taken before it came again.
pub(super) const RESENT: u32 = u32::MAX;

/// Records that were taken and come again.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Resent {
    taken: PieceRow,
    /// Those of them that are still to come, whatever became of them.
    records: u64,
}

impl Resent {
    /// With what a part's row tells of.
    pub(super) fn add(&mut self, row: PieceRow) {
        self.records += row.records();
        self.taken.accepted += row.accepted;
        self.taken.corrected += row.corrected;
        self.taken.not_followed += row.not_followed;
        self.taken.identifiers_left_out += row.identifiers_left_out;
        for (code, count) in row.flagged {
            *self.taken.flagged.entry(code).or_default() += count;
        }
    }

    /// With those of the piece behind.
    pub(crate) fn extend(&mut self, behind: Resent) {
        self.add(behind.row());
    }

    /// Count the records of a piece that were taken already as what they were.
    pub(crate) fn restore(&mut self, piece: &mut Acceptance) {
        if self.records == 0 {
            return;
        }
        self.records = self.records.saturating_sub(piece.records());
        let mut moved = |owed: &mut u64| {
            let moved = (*owed).min(piece.duplicate);
            *owed -= moved;
            piece.duplicate -= moved;
            moved
        };
        let accepted = moved(&mut self.taken.accepted);
        let corrected = moved(&mut self.taken.corrected);
        piece.accepted += accepted;
        piece.corrected += corrected;
        piece.not_followed += std::mem::take(&mut self.taken.not_followed);
        piece.identifiers_left_out += std::mem::take(&mut self.taken.identifiers_left_out);
        let flagged = std::mem::take(&mut self.taken.flagged);
        piece.add_flagged(flagged.iter().map(|(code, count)| (kith_model::flag::counted(code), *count)));
    }

    /// The row of a piece of which so much was taken. The other records of its beginning count as repeats in it.
    fn row(self) -> PieceRow {
        let PieceRow { accepted, corrected, .. } = self.taken;
        PieceRow { duplicate: self.records.saturating_sub(accepted + corrected), ..self.taken }
    }
}

/// Make one row of what is durable of the piece behind `after`, whose end is not, and forget all that would come after it.
pub(crate) fn cut_off(
    store: &dyn Store,
    workspace: WorkspaceId,
    import: u128,
    after: u32,
) -> Result<Resent, CommitError> {
    let piece = after.saturating_add(1);
    super::forget(store, workspace, import, piece)?;
    let (mut before, mut cut) = (Resent::default(), Resent::default());
    let mut operations = Vec::new();
    let mut range = KeyRange {
        from: Key::import(workspace, import, piece, 0),
        to: Key::import(workspace, import, piece.saturating_add(1), 0),
    };
    loop {
        let page = store.scan(&range, MAX_DELETED)?;
        for (key, value) in page.rows {
            // Only counts hang on a row that cannot be read.
            let part = row::decode::<PieceRow>(&value).unwrap_or_default();
            if key.as_import(workspace, import) == Some((piece, RESENT)) {
                before.add(part);
            } else {
                cut.add(part);
                operations.push(Operation::Delete(key));
            }
        }
        match page.next {
            Some(next) => range.from = next,
            None => break,
        }
    }
    if operations.is_empty() {
        return Ok(before);
    }
    if after == 0 {
        // How far it had come, where not all pieces of that are there.
        operations.push(Operation::Delete(Key::import(workspace, import, 0, 0)));
    }
    // Both are beginnings of the same piece.
    let records = before.records.max(cut.records);
    cut.add(before.row());
    cut.records = records;
    let row = row::encode(&cut.clone().row());
    operations.push(Operation::Put(Key::import(workspace, import, piece, RESENT), row));
    store.commit(Unit { operations, ..Unit::default() })?;
    Ok(cut)
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: WorkspaceId = WorkspaceId(3);

    fn part(accepted: u64, duplicate: u64, rejected_count: u64) -> PieceRow {
        PieceRow { accepted, duplicate, rejected_count, ..PieceRow::default() }
    }

    fn write(store: &dyn Store, part: u32, row: &PieceRow) {
        let operations = vec![Operation::Put(Key::import(WORKSPACE, 7, 1, part), row::encode(row))];
        store.commit(Unit { operations, ..Unit::default() }).unwrap();
    }

    /// What had been taken comes again as repeats, in pieces of other sizes too; a row that the file has twice stays a repeat.
    #[test]
    fn rows_that_come_again_count_as_what_they_were() {
        let mut resent = Resent::default();
        resent.add(PieceRow { corrected: 2, flagged: [("late".to_owned(), 4)].into(), ..part(7, 1, 1) });
        let mut piece = Acceptance { duplicate: 5, rejected_count: 1, ..Acceptance::default() };
        resent.restore(&mut piece);
        assert_eq!((piece.accepted, piece.corrected, piece.duplicate, piece.records()), (5, 0, 0, 6));
        let mut next = Acceptance { accepted: 3, duplicate: 9, ..Acceptance::default() };
        resent.restore(&mut next);
        assert_eq!((next.accepted, next.corrected, next.duplicate, next.records()), (5, 2, 5, 12));
        let mut last = Acceptance { duplicate: 4, ..Acceptance::default() };
        resent.restore(&mut last);
        assert_eq!((last.accepted, last.duplicate), (0, 4));
    }

    /// A process that ends in the same piece again loses nothing of what the first one took.
    #[test]
    fn a_piece_that_is_cut_off_twice_is_counted_once() {
        let store = kith_store::memory();
        write(&store, 0, &part(900, 100, 0));
        write(&store, 1_000, &part(1_000, 0, 0));
        let first = cut_off(&store, WORKSPACE, 7, 0).unwrap();
        assert_eq!((first.taken.accepted, first.records), (1_900, 2_000));
        assert_eq!(cut_off(&store, WORKSPACE, 7, 0).unwrap(), cut_off(&store, WORKSPACE, 7, 0).unwrap());
        // Of the second one there are three units, the third of which is new.
        write(&store, 0, &part(0, 1_000, 0));
        write(&store, 1_000, &part(0, 1_000, 0));
        write(&store, 2_000, &part(990, 10, 0));
        let mut second = cut_off(&store, WORKSPACE, 7, 0).unwrap();
        assert_eq!((second.taken.accepted, second.records), (2_890, 3_000));
        let mut piece = Acceptance { accepted: 500, duplicate: 3_000, ..Acceptance::default() };
        second.restore(&mut piece);
        assert_eq!((piece.accepted, piece.duplicate), (3_390, 110));
    }
}
