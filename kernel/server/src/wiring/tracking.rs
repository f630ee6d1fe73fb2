//! From the rows of tracking plans to plans that judge, each source with its own.

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use kith_host::{ConfigMistake, PlannedSchema};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::PluginKind;
use kith_model::tracking::{ExpectedFields, TrackingPlan};
use parking_lot::Mutex;
use serde_json::Value;

use crate::catalogue::WorkspaceTables;
use crate::catalogue::tracking::{ExpectedRow, TrackingPlanRow};

/// The places of all schemas of one plan together: some hundred events with thirty properties each. They are in memory for as
/// long as the plan is, and made ready at each start.
pub(crate) const MAX_PLAN_PLACES: u64 = 16_384;

/// A plan as it is kept, and made ready.
type ReadyPlan = (Arc<TrackingPlanRow>, Arc<TrackingPlan>);

/// Plans that were made ready, with what they were made from: a change of one thing makes no other ready again.
#[derive(Default)]
pub(super) struct TrackingPlans(Mutex<HashMap<(WorkspaceId, String), ReadyPlan>>);

impl TrackingPlans {
    pub(super) fn forget(&self, workspace: WorkspaceId) {
        self.0.lock().retain(|(of, _), _| *of != workspace);
    }

    /// The plan of each source that has one.
    pub(super) fn of_sources(&self, tables: &WorkspaceTables) -> BTreeMap<InstallationId, Arc<TrackingPlan>> {
        let workspace = tables.row.id;
        self.0.lock().retain(|(of, name), _| *of != workspace || tables.tracking.contains_key(name));
        if tables.tracking.is_empty() {
            return BTreeMap::new();
        }
        let sources = tables
            .installed()
            .filter(|row| tables.plugin_of(row).is_some_and(|plugin| plugin.manifest.kind == PluginKind::Connector));
        let plans =
            sources.filter_map(|source| Some((source.id, self.ready(workspace, tables.plan_of(&source.name)?))));
        plans.collect()
    }

    fn ready(&self, workspace: WorkspaceId, row: &Arc<TrackingPlanRow>) -> Arc<TrackingPlan> {
        let key = (workspace, row.name.to_string());
        if let Some((_, plan)) = self.0.lock().get(&key).filter(|(from, _)| judges_alike(from, row)) {
            return Arc::clone(plan);
        }
        let plan = Arc::new(compile(row, |place, mistake| {
            // It was admitted when it was written. Another release may admit less, and then what it was to judge is taken.
            tracing::error!(workspace = workspace.0, plan = %row.name, place, %mistake, "a schema of a tracking plan is left out");
            Ok::<(), std::convert::Infallible>(())
        }).unwrap_or_else(|never| match never {}));
        self.0.lock().insert(key, (Arc::clone(row), Arc::clone(&plan)));
        plan
    }
}

/// Whether two rows make the same plan; when they were written plays no part.
fn judges_alike(one: &TrackingPlanRow, other: &TrackingPlanRow) -> bool {
    one.unplanned == other.unplanned && one.events == other.events && one.traits == other.traits
}

/// A schema of properties: of everything or nothing is none.
fn properties(schema: &Value) -> Result<&Value, ConfigMistake> {
    let message = || "it is an object, e.g. {\"required\": [\"total\"]}".to_owned();
    if schema.is_object() { Ok(schema) } else { Err(ConfigMistake { path: String::new(), message: message() }) }
}

/// Make a plan ready; what is wrong in it is `wrong`'s to refuse, with its place.
pub(crate) fn compile<E>(
    row: &TrackingPlanRow,
    mut wrong: impl FnMut(&str, &ConfigMistake) -> Result<(), E>,
) -> Result<TrackingPlan, E> {
    let mut places = 0_u64;
    let mut expected = |place: String, row: &ExpectedRow| -> Result<ExpectedFields, E> {
        let Some(schema) = &row.schema else { return Ok(ExpectedFields { policy: row.policy, schema: None }) };
        let made = properties(schema).and_then(PlannedSchema::new).and_then(|schema| {
            places = places.saturating_add(schema.size());
            let message =
                format!("the schemas of the plan have more than {MAX_PLAN_PLACES} places together; make two of it");
            if places <= MAX_PLAN_PLACES { Ok(schema) } else { Err(ConfigMistake { path: String::new(), message }) }
        });
        match made {
            Ok(schema) => Ok(ExpectedFields { policy: row.policy, schema: Some(Arc::new(schema)) }),
            Err(mistake) => wrong(&place, &mistake).map(|()| ExpectedFields { policy: row.policy, schema: None }),
        }
    };
    let events = row.events.iter().map(|(name, of)| Ok((name.clone(), expected(format!("events.{name}"), of)?)));
    let events = events.collect::<Result<BTreeMap<String, ExpectedFields>, E>>()?;
    let traits = row.traits.as_ref().map(|of| expected("traits".to_owned(), of)).transpose()?;
    Ok(TrackingPlan { name: row.name.as_str().into(), unplanned: row.unplanned, events, traits })
}
