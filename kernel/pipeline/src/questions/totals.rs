//! What a workspace holds, from counters that are kept with what they count and from the index.

use kith_features::{Expression, FeatureName};
use kith_model::delivery::DeliveryState;
use kith_model::id::WorkspaceId;
use kith_store::{Key, row};

use super::{QueryError, workspace};
use crate::accept::counts::read_counts;
use crate::profiles::facts::each_row;
use crate::react::projection::Projection;
use crate::rows::DeliveryRow;
use crate::shared::Shared;
use crate::views::Totals;

/// What a workspace holds.
pub(crate) fn totals(shared: &Shared, id: WorkspaceId) -> Result<Totals, QueryError> {
    let workspace = workspace(shared, id)?;
    let store = shared.store.as_ref();
    let mut totals = Totals::default();
    {
        let compiled = workspace.compiled.load();
        let projection = workspace.projection.read();
        for output in compiled.plan.outputs.keys() {
            let holders = holders(&projection, output);
            match output {
                FeatureName::Score(_) => totals.scores += holders,
                _ => totals.tags += holders,
            }
        }
    }
    let counts = read_counts(store, id)?;
    totals.profiles = counts.profiles;
    totals.identifiers = counts.identifiers;
    totals.events = counts.events;
    totals.set_aside = counts.total_set_aside();
    each_row(store, &Key::deliveries(id), |_, value| {
        match row::decode::<DeliveryRow>(value)?.state {
            DeliveryState::Pending { .. } | DeliveryState::Sending { .. } => totals.pending += 1,
            DeliveryState::Delivered { .. } | DeliveryState::Accepted { .. } => totals.delivered += 1,
            DeliveryState::Skipped { .. } => totals.skipped += 1,
            DeliveryState::Dead { .. } | DeliveryState::Unknown { .. } => totals.dead += 1,
        }
        Ok(())
    })?;
    Ok(totals)
}

/// How many people have a value of an output.
fn holders(projection: &Projection, output: &FeatureName) -> u64 {
    let condition = Expression::parse(&format!("has({output})"));
    let counted = condition.ok().and_then(|condition| projection.index.count(&condition, projection.as_of.time));
    counted.map_or(0, |counted| counted.holds)
}
