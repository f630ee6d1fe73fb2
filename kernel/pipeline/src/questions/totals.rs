//! What a workspace holds, from counters that are kept with what they count and from the index.

use kith_features::{Expression, FeatureName};
use kith_model::id::WorkspaceId;
use kith_store::{Key, row};

use super::{QueryError, workspace};
use crate::accept::counts::read_counts;
use crate::profiles::facts::each_row;
use crate::react::projection::Projection;
use crate::rows::{DeliveryTotals, computation_letters};
use crate::shared::KernelState;
use crate::views::Totals;

/// What a workspace holds.
pub(crate) fn totals(shared: &KernelState, id: WorkspaceId) -> Result<Totals, QueryError> {
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
    for model in &workspace.compiled.load().plan.models {
        totals.set_aside += computation_letters(store, id, model.installed.id)?.len() as u64;
    }
    // The first rows are those of the reactor and of replays, then one for each channel that there ever was.
    let mut deliveries = counts.deliveries;
    each_row(store, &Key::all_delivery_totals(id), |_, value| {
        deliveries = deliveries.plus(row::decode(value)?);
        Ok(())
    })?;
    let DeliveryTotals { pending, delivered, skipped, dead } = deliveries;
    // One that moves between two of the reads may be missing in both.
    let [pending, delivered, skipped, dead] =
        [pending, delivered, skipped, dead].map(|total| u64::try_from(total).unwrap_or(0));
    (totals.pending, totals.delivered, totals.skipped, totals.dead) = (pending, delivered, skipped, dead);
    Ok(totals)
}

/// How many people have a value of an output.
fn holders(projection: &Projection, output: &FeatureName) -> u64 {
    let condition = Expression::parse(&format!("has({output})"));
    let counted = condition.ok().and_then(|condition| projection.index.count(&condition, projection.as_of.time));
    counted.map_or(0, |counted| counted.holds)
}
