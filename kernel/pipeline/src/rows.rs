//! The pipeline's own rows. `kith_store::row` has the codec and the rows of the model's types, `kernel/store/FORMAT.md` lists
//! all of them.

use std::collections::BTreeMap;

use kith_features::{LeafId, LeafState};
use kith_model::audience::{ConsentBasis, Membership};
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
    ModelVersion: "a model version", React, 1;
    Kept: "what is computed of an identity", React, 1;
    DeliveryRow: "a delivery", Deliver, 1;
    Aside: "what was kept aside", Accept, 1;
}

/// One value that a compute plugin gave.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) enum OutputValue {
    Null,
    Bool(bool),
    Int(i64),
    Float(f64),
    Text(String),
}

/// What one installation computed about a profile, its values in the order of the model version's outputs.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub(crate) struct Computed {
    /// Which [`ModelVersion`] made it.
    pub version: u32,
    /// The newest log position that the computation had seen.
    pub cause: Position,
    pub at: Timestamp,
    /// Hash of the inputs: equal inputs are not computed again.
    pub inputs: u64,
    pub values: Vec<OutputValue>,
}

/// What made a computed value; one row for each combination that ever ran, so that a value needs only its number.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct ModelVersion {
    pub installation: InstallationId,
    pub digest: String,
    pub config_hash: u64,
    pub fit: u32,
    pub scores: bool,
    pub outputs: Vec<String>,
}

/// All that is computed about a profile.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Derived {
    pub outputs: BTreeMap<InstallationId, Computed>,
    pub memberships: BTreeMap<AudienceId, Membership>,
    /// When time alone may change something next.
    pub timer: Option<Timestamp>,
    /// The profile's bit in the index, kept here so that a merged-away profile can be taken out.
    pub ordinal: Option<u32>,
}

/// Incremental state of one source identity.
pub(crate) type Leaves = BTreeMap<LeafId, LeafState>;

/// All that the react stage keeps of one source identity: one row, because most events change both.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    pub leaves: Leaves,
    /// Empty on an identity that names no profile.
    pub derived: Derived,
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
    /// A batch that a compute plugin failed on.
    Computation { at: Timestamp, code: String, message: String, profiles: u64 },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_format_describes_the_rows() {
        fn line<R: Row>() -> String {
            format!("| {} | {} | {} | postcard |", R::WHAT, R::OWNER.name(), R::VERSION)
        }
        let format = include_str!("../../store/FORMAT.md");
        let facts = [line::<crate::profiles::facts::FactsRow>(), line::<crate::accept::counts::Counts>()];
        let rows = [line::<ModelVersion>(), line::<Kept>(), line::<DeliveryRow>(), line::<Aside>()];
        for line in facts.into_iter().chain(rows) {
            assert!(format.contains(&line), "FORMAT.md lacks {line}");
        }
    }
}
