//! The pipeline's own rows. `kith_store::row` has the codec and the rows of the model's types, `kernel/store/FORMAT.md` lists
//! all of them.

pub(crate) mod derived;

use kith_model::audience::ConsentBasis;
use kith_model::delivery::DeliveryState;
use kith_model::event::RejectedRecord;
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId};
use kith_model::time::Timestamp;
use kith_store::ReadError;
use kith_store::row::{self, Row};
use serde::{Deserialize, Serialize};

/// The bytes of a row.
pub(crate) fn encode<R: Row>(row: &R) -> Vec<u8> {
    row::encode(row)
}

/// The row that `bytes` hold. Errors have the name that the row gives itself; `_what` is what the caller calls it.
pub(crate) fn decode<R: Row>(_what: &str, bytes: &[u8]) -> Result<R, ReadError> {
    row::decode(bytes)
}

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
    DeliveryRow: "a delivery", Deliver, 1;
    Aside: "what was kept aside", Accept, 1;
}

/// A delivery in the outbox and after.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct DeliveryRow {
    pub channel: InstallationId,
    pub audience: AudienceId,
    pub profile: ProfileId,
    pub purpose: String,
    pub basis: ConsentBasis,
    pub payload: String,
    pub created_at: Timestamp,
    pub state: DeliveryState,
}

/// Something kept aside.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum Aside {
    /// A part of an input that could not become an event.
    Record { at: Timestamp, record: RejectedRecord },
    /// People on whom a compute plugin failed, by the kind of fault.
    Computation { at: Timestamp, code: String, message: String, profiles: u64 },
    /// A delivery that was given up, or whose fate is unknown: its own row has the rest.
    Delivery { id: [u8; 16] },
    /// Something stored that cannot be read, or whose consequences are larger than a commit.
    Unreadable { at: Timestamp, position: Position, problem: String, raw: Vec<u8> },
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::accept::counts::Counts;
    use crate::profiles::facts::FactsRow;
    use crate::react::readiness::Readiness;
    use crate::rows::derived::{Cursor, Derived, Entries, LeafRow, ModelVersion, SealedLeaf};

    #[test]
    fn the_format_describes_the_rows() {
        fn line<R: Row>() -> String {
            format!("| {} | {} | {} | postcard |", R::WHAT, R::OWNER.name(), R::VERSION)
        }
        let format = include_str!("../../store/FORMAT.md");
        let accepted = [line::<FactsRow>(), line::<Counts>(), line::<Aside>()];
        let sent = [line::<DeliveryRow>()];
        let computed =
            [line::<Cursor>(), line::<Readiness>(), line::<Derived>(), line::<LeafRow>(), line::<SealedLeaf>()];
        let lasting = [line::<Entries>(), line::<ModelVersion>()];
        for line in accepted.into_iter().chain(sent).chain(computed).chain(lasting) {
            assert!(format.contains(&line), "FORMAT.md lacks {line}");
        }
    }
}
