//! How the pipeline's rows are written: a version byte, then postcard. `kernel/store/FORMAT.md` lists the rows.

use std::collections::BTreeMap;

use kith_features::{LeafId, LeafState};
use kith_model::audience::{ConsentBasis, Membership};
use kith_model::delivery::DeliveryState;
use kith_model::event::RejectedRecord;
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId};
use kith_model::time::Timestamp;
use kith_store::ReadError;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

/// The version of every row layout of this release.
const VERSION: u8 = 1;

/// The bytes of a row.
pub(crate) fn encode<T: Serialize>(row: &T) -> Vec<u8> {
    postcard::to_extend(row, vec![VERSION])
        .expect("rows hold only types that postcard can write, and memory to grow into")
}

/// The row that `bytes` hold; `what` names it in the error.
pub(crate) fn decode<T: DeserializeOwned>(what: &str, bytes: &[u8]) -> Result<T, ReadError> {
    let corrupt = |problem: String| ReadError::Corrupt { what: what.to_owned(), problem };
    match bytes.split_first() {
        Some((&VERSION, row)) => postcard::from_bytes(row).map_err(|error| corrupt(error.to_string())),
        Some((other, _)) => Err(corrupt(format!("row version {other}; this release reads version {VERSION}"))),
        None => Err(corrupt("an empty row".into())),
    }
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
    /// A delivery that was given up, or whose fate is unknown: its own row has the rest.
    Delivery { id: [u8; 16] },
}
