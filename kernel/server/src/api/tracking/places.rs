//! The room for the schemas of a workspace's tracking plans. To measure them takes a while, so that it is done on paper, before anybody
//! has to wait for the change; what was saved meanwhile is measured in the change itself.

use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;

use kith_host::PlannedSchema;
use kith_model::budget::{Exhausted, table};

use crate::catalogue::tracking::TrackingPlanRow;

/// What plans come to that were measured already.
#[derive(Default)]
pub(super) struct MeasuredPlans {
    /// The plan that is to be saved: the same on paper and in the change.
    own: Cell<Option<u64>>,
    others: RefCell<Vec<(Arc<TrackingPlanRow>, u64)>>,
}

fn places(row: &TrackingPlanRow) -> u64 {
    let schemas = row.events.values().chain(&row.traits).filter_map(|expected| expected.schema.as_ref());
    schemas.filter_map(PlannedSchema::measure).sum()
}

impl MeasuredPlans {
    /// Insist that the workspace's schemas, made ready, have room in memory, unless the plan becomes no larger.
    ///
    /// # Errors
    /// [`Exhausted`], where all of them with this one have more places than there may be.
    pub(super) fn insist(
        &self,
        plans: &BTreeMap<String, Arc<TrackingPlanRow>>,
        row: &TrackingPlanRow,
    ) -> Result<(), Exhausted> {
        let is = self.own.get().unwrap_or_else(|| places(row));
        self.own.set(Some(is));
        let was = plans.get(row.name.as_str()).map_or(0, |before| self.of(before));
        let others = plans.values().filter(|other| other.name != row.name);
        let limit = table::TRACKING_PLAN_PLACES_KEPT.default;
        if is > was && others.map(|other| self.of(other)).sum::<u64>().saturating_add(is) > limit {
            return Err(table::TRACKING_PLAN_PLACES_KEPT.exhausted(limit, None));
        }
        Ok(())
    }

    /// The places of a plan that is kept. One that is saved anew is another row.
    fn of(&self, row: &Arc<TrackingPlanRow>) -> u64 {
        let measured =
            self.others.borrow().iter().find(|(known, _)| Arc::ptr_eq(known, row)).map(|(_, places)| *places);
        measured.unwrap_or_else(|| {
            let places = places(row);
            self.others.borrow_mut().push((Arc::clone(row), places));
            places
        })
    }
}

#[cfg(test)]
mod tests {
    use kith_model::time::Timestamp;
    use kith_model::tracking::Policy;
    use serde_json::json;

    use super::*;
    use crate::catalogue::tracking::ExpectedRow;

    /// A plan of one event with so many properties.
    fn plan(name: &str, properties: usize) -> TrackingPlanRow {
        let members: serde_json::Map<String, serde_json::Value> =
            (0..properties).map(|number| (format!("p{number}"), json!({ "type": "string" }))).collect();
        let schema = Some(json!({ "type": "object", "properties": members }));
        TrackingPlanRow {
            name: name.parse().unwrap(),
            title: name.to_owned(),
            sources: None,
            unplanned: Policy::Allow,
            events: BTreeMap::from([("Buy".to_owned(), ExpectedRow { schema, ..ExpectedRow::default() })]),
            traits: None,
            updated_at: Timestamp(0),
        }
    }

    fn kept(plans: impl IntoIterator<Item = TrackingPlanRow>) -> BTreeMap<String, Arc<TrackingPlanRow>> {
        plans.into_iter().map(|plan| (plan.name.to_string(), Arc::new(plan))).collect()
    }

    /// Two plans for which there is room each, and not together: both pass on paper, and the later one is refused in its change.
    #[test]
    fn of_two_plans_saved_at_once_the_later_finds_the_room_taken() {
        let of_one = places(&plan("one", 100));
        assert!(of_one > 0);
        // So many of them fill more than a half of the room.
        let events = table::TRACKING_PLAN_PLACES_KEPT.default / of_one / 2 + 1;
        let large = |name: &str| {
            let mut row = plan(name, 100);
            let expected = row.events["Buy"].clone();
            row.events = (0..events).map(|number| (format!("Buy {number}"), expected.clone())).collect();
            row
        };
        let (one, other) = (large("one"), large("other"));
        let (of_first, of_second) = (MeasuredPlans::default(), MeasuredPlans::default());
        assert!(of_first.insist(&kept([]), &one).is_ok() && of_second.insist(&kept([]), &other).is_ok(), "on paper");
        assert!(of_first.insist(&kept([]), &one).is_ok());
        let present = kept([one.clone()]);
        assert!(of_second.insist(&present, &other).is_err());
        // What becomes no larger is taken, so that a workspace that has too many can be put in order.
        let full = kept([one.clone(), other]);
        assert!(MeasuredPlans::default().insist(&full, &one).is_ok());
    }
}
