//! Changes of tracking plans.

use std::sync::Arc;

use kith_store::keys::Definition;
use kith_store::{Key, Operation};

use super::Draft;
use crate::catalogue::put;
use crate::catalogue::tracking::TrackingPlanRow;

impl Draft<'_> {
    /// Add or replace a tracking plan.
    pub fn put_tracking_plan(&mut self, row: TrackingPlanRow) {
        let name = row.name.as_str().to_owned();
        self.operations.push(put(self.workspace(), Definition::TrackingPlan, name.as_bytes(), &row));
        self.tables.tracking.insert(name, Arc::new(row));
        self.alters_setup = true;
    }

    /// Remove a tracking plan.
    pub fn remove_tracking_plan(&mut self, name: &str) {
        let key = Key::definition(self.workspace(), Definition::TrackingPlan, name.as_bytes());
        self.operations.push(Operation::Delete(key));
        self.tables.tracking.remove(name);
        self.alters_setup = true;
    }
}
