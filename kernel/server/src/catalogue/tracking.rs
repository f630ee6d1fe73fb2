//! The rows of tracking plans.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::id::{InstallationName, Name};
use kith_model::time::Timestamp;
use kith_model::tracking::Policy;
use serde::{Deserialize, Serialize};
use serde_json::Value;

/// What sources are expected to send.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct TrackingPlanRow {
    pub name: Name,
    pub title: String,
    /// The sources that it is of, by their names, so that one that is installed again has it again; `None` for all that are in no
    /// other plan.
    pub sources: Option<BTreeSet<InstallationName>>,
    /// What becomes of events of other names.
    pub unplanned: Policy,
    pub events: BTreeMap<String, ExpectedRow>,
    pub traits: Option<ExpectedRow>,
    pub updated_at: Timestamp,
}

/// What is expected of the properties of one event, or of traits.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct ExpectedRow {
    pub policy: Policy,
    /// JSON Schema; `None` where any are as expected.
    pub schema: Option<Value>,
    pub description: String,
}
