//! What a look at the outbox writes, in pieces that the store takes.

use kith_store::keys::DeliveryMover;
use kith_store::{Key, Operation, Unit};

use super::claims::ClaimError;
use super::sending::Sender;
use crate::rows::{self, DeliveryTotals};

/// A piece is committed when it has come to this: far below the largest unit, and about as much as one sync is worth.
const MAX_PIECE_BYTES: usize = 4 << 20;

/// Operations on their way to the store. In one unit they might be larger than a unit may be, and the same unit would be
/// refused as often as it is tried, so that the channel never sent again.
pub(super) struct Pieces<'a> {
    sender: &'a Sender,
    operations: Vec<Operation>,
    bytes: usize,
    /// What `operations` make of the deliveries.
    moved: DeliveryTotals,
}

impl<'a> Pieces<'a> {
    pub(super) fn new(sender: &'a Sender) -> Pieces<'a> {
        Pieces { sender, operations: Vec::new(), bytes: 0, moved: DeliveryTotals::default() }
    }

    /// Add what is written of one message. It is not parted.
    pub(super) fn add(&mut self, operations: Vec<Operation>, moved: DeliveryTotals) -> Result<(), ClaimError> {
        let bytes: usize = operations.iter().map(Operation::size_bytes).sum();
        if self.bytes + bytes > MAX_PIECE_BYTES {
            self.commit()?;
        }
        self.bytes += bytes;
        self.moved = self.moved.plus(moved);
        self.operations.extend(operations);
        Ok(())
    }

    /// Commit what is left.
    pub(super) fn finish(mut self) -> Result<(), ClaimError> {
        self.commit()
    }

    fn commit(&mut self) -> Result<(), ClaimError> {
        let Pieces { sender, operations, bytes, moved } = self;
        if operations.is_empty() {
            return Ok(());
        }
        // A sender claims and drains one after the other, so that no other commit of its totals is under way.
        let totals = Key::delivery_totals(sender.workspace(), DeliveryMover::Sender(sender.channel()));
        operations.extend(rows::add_deliveries(sender.shared.store.as_ref(), totals, std::mem::take(moved))?);
        *bytes = 0;
        let operations = std::mem::take(operations);
        sender.shared.commit(Unit { operations, ..Unit::default() })?;
        Ok(())
    }
}
