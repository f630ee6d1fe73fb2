//! The pipeline's own rows. `kith_store::row` has the codec and the rows of the model's types, `kernel/store/FORMAT.md` lists
//! all of them.

mod aside;
pub(crate) mod derived;
pub(crate) mod emitted;
pub(crate) mod faults;
pub(crate) mod hashes;
pub(crate) mod outbox;
pub(crate) mod uncomputed;

pub(crate) use aside::{
    Aside, ComputationSubject, Letter, LetterTime, MAX_NAMED_PEOPLE, NamedPerson, RawForm, RecordOrigin, RowDigest,
    computation_letter, computation_letters,
};

use kith_model::audience::ConsentBasis;
use kith_model::change::Movement;
use kith_model::delivery::DeliveryState;
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId};
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row, read_postcard};
use kith_store::{Key, Operation, ReadError, Store, row};
use serde::{Deserialize, Serialize};

/// Describes rows: `Type: what it is, owner, version`.
macro_rules! rows {
    ($($row:ty: $what:literal, $owner:ident, $version:literal;)*) => {
        $(impl kith_store::row::Row for $row {
            const WHAT: &'static str = $what;
            const OWNER: kith_store::row::Owner = kith_store::row::Owner::$owner;
            const VERSION: u8 = $version;
        })*
    };
}
pub(crate) use rows;

rows! {
    DeliveryTotals: "deliveries by state", Deliver, 1;
}

/// How many deliveries came into each state less those that left it, by one of those who move them. The sum over all of them
/// is how many there are. Each keeps a row of its own, written in the commit of what it moves, because they work beside each
/// other: one row for all would make every commit wait for the one before.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct DeliveryTotals {
    pub pending: i64,
    pub delivered: i64,
    pub skipped: i64,
    pub dead: i64,
}

impl DeliveryTotals {
    fn of(&mut self, state: &DeliveryState) -> &mut i64 {
        match state {
            DeliveryState::Pending { .. } | DeliveryState::Sending { .. } => &mut self.pending,
            DeliveryState::Delivered { .. } | DeliveryState::Accepted { .. } => &mut self.delivered,
            DeliveryState::Skipped { .. } => &mut self.skipped,
            DeliveryState::Dead { .. } | DeliveryState::Unknown { .. } => &mut self.dead,
        }
    }

    /// A delivery is new in this state.
    pub(crate) fn made(&mut self, state: &DeliveryState) {
        *self.of(state) += 1;
    }

    /// A delivery went from one state to another.
    pub(crate) fn moved(&mut self, from: &DeliveryState, to: &DeliveryState) {
        *self.of(from) -= 1;
        *self.of(to) += 1;
    }

    /// These and those of another one together.
    #[must_use]
    pub(crate) fn plus(self, other: DeliveryTotals) -> DeliveryTotals {
        DeliveryTotals {
            pending: self.pending + other.pending,
            delivered: self.delivered + other.delivered,
            skipped: self.skipped + other.skipped,
            dead: self.dead + other.dead,
        }
    }
}

/// The operation that adds to the row of one who moves deliveries; none where nothing was moved. Only for those of whose
/// commits one ends before the next is built.
pub(crate) fn add_deliveries(
    store: &dyn Store,
    key: Key,
    moved: DeliveryTotals,
) -> Result<Option<Operation>, ReadError> {
    if moved == DeliveryTotals::default() {
        return Ok(None);
    }
    let held = store.get(std::slice::from_ref(&key))?.pop().flatten();
    let held = held.map_or(Ok(DeliveryTotals::default()), |held| row::decode(&held))?;
    Ok(Some(Operation::Put(key, row::encode(&held.plus(moved)))))
}

/// A delivery in the outbox and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeliveryRow {
    pub channel: InstallationId,
    pub audience: AudienceId,
    /// What it is sent for.
    pub movement: Movement,
    pub profile: ProfileId,
    pub purpose: String,
    pub basis: ConsentBasis,
    pub payload: String,
    pub created_at: Timestamp,
    pub state: DeliveryState,
    /// The newest position of the log behind the movement; version 2 has none.
    pub cause: Option<Position>,
}

/// [`DeliveryRow`] before it named its cause.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct DeliveryRowV2 {
    channel: InstallationId,
    audience: AudienceId,
    movement: Movement,
    profile: ProfileId,
    purpose: String,
    basis: ConsentBasis,
    payload: String,
    created_at: Timestamp,
    state: DeliveryState,
}

impl Row for DeliveryRow {
    const WHAT: &'static str = "a delivery";
    const OWNER: Owner = Owner::Deliver;
    const VERSION: u8 = 3;

    fn before(version: u8, body: &[u8]) -> Option<Result<DeliveryRow, String>> {
        (version == 2).then(|| {
            let before: DeliveryRowV2 = read_postcard(body)?;
            let DeliveryRowV2 { channel, audience, movement, profile, purpose, basis, payload, created_at, state } =
                before;
            let cause = None;
            Ok(DeliveryRow { channel, audience, movement, profile, purpose, basis, payload, created_at, state, cause })
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::counts::Counts;
    use crate::accept::quality::SourceCounts;
    use crate::accept::readers::ReaderRow;
    use crate::accept::taking_back::TakenBackRow;
    use crate::profiles::consents::StatementRow;
    use crate::profiles::facts::FactsRow;
    use crate::react::readiness::Readiness;
    use crate::react::seen::SeenRow;
    use crate::rows::derived::{Cursor, Derived, Entries, LeafRow, ModelVersion, SealedLeaf};
    use crate::rows::emitted::{Emission, EmittedDay};
    use crate::rows::faults::{FaultChunk, FaultHead};

    #[test]
    fn a_delivery_of_the_release_before_is_read() {
        let state = DeliveryState::Dead { attempts: 2, at: Timestamp(6), reason: "gone".into() };
        let before = DeliveryRowV2 {
            channel: InstallationId(3),
            audience: AudienceId(4),
            movement: Movement::Left,
            profile: ProfileId(kith_model::id::SourceIdentityId([7; 16])),
            purpose: "news".into(),
            basis: ConsentBasis::OptIn,
            payload: "{}".into(),
            created_at: Timestamp(5),
            state: state.clone(),
        };
        let mut bytes = vec![2];
        row::write_postcard(&before, &mut bytes);
        let read: DeliveryRow = row::decode(&bytes).unwrap();
        assert_eq!(
            (read.movement, read.created_at, read.state, read.cause),
            (Movement::Left, Timestamp(5), state, None)
        );
    }

    #[test]
    fn the_format_describes_the_rows() {
        fn line<R: Row>() -> String {
            format!("| {} | {} | {} | postcard |", R::WHAT, R::OWNER.name(), R::VERSION)
        }
        let format = include_str!("../../store/FORMAT.md");
        let accepted = [
            line::<FactsRow>(),
            line::<Counts>(),
            line::<Aside>(),
            line::<LetterTime>(),
            line::<SourceCounts>(),
            line::<ReaderRow>(),
            line::<StatementRow>(),
            line::<TakenBackRow>(),
        ];
        let sent = [line::<DeliveryRow>(), line::<DeliveryTotals>()];
        let computed = [
            line::<SeenRow>(),
            line::<Cursor>(),
            line::<Readiness>(),
            line::<Derived>(),
            line::<LeafRow>(),
            line::<SealedLeaf>(),
            line::<uncomputed::UncomputedRow>(),
            line::<FaultHead>(),
            line::<FaultChunk>(),
        ];
        let lasting = [line::<Entries>(), line::<ModelVersion>(), line::<EmittedDay>(), line::<Emission>()];
        for line in accepted.into_iter().chain(sent).chain(computed).chain(lasting) {
            assert!(format.contains(&line), "FORMAT.md lacks {line}");
        }
    }
}
