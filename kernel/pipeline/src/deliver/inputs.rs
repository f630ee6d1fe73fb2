//! A channel's declared inputs, computed for the person that a message goes to.

use kith_features::Expression;
use kith_model::id::{ProfileId, WorkspaceId};
use kith_model::time::Timestamp;

use crate::react::state::{Evaluation, ProfileFacts, read_profile};
use crate::setup::Installed;
use crate::shared::Shared;

/// The value of each input of `installed`, by its name.
///
/// # Errors
/// The reason why they cannot be computed, for people.
pub(super) fn values(
    shared: &Shared,
    workspace: WorkspaceId,
    installed: &Installed,
    profile: ProfileId,
    now: Timestamp,
) -> Result<Vec<(String, serde_json::Value)>, String> {
    if installed.inputs.is_empty() {
        return Ok(Vec::new());
    }
    let known = shared.workspace(workspace).ok_or("the workspace is gone")?;
    let (setup, plan) = (known.setup.load_full(), known.plan.load_full());
    let inputs = plan.channels.get(&installed.id).ok_or("they are not in force yet")?;
    let view = Evaluation { plan: &plan, zone: &setup.zone, now };
    let read = read_profile(shared.store.as_ref(), workspace, profile, &view).map_err(|error| error.to_string())?;
    let state = read.ok_or("the person does not exist any more")?;
    let leaf = |id| state.leaf_values.get(&id).cloned().unwrap_or_default();
    let facts = ProfileFacts { state: &state, plan: &plan };
    let value = |(name, input): &(String, Expression)| (name.clone(), input.evaluate(&facts, &leaf, now).to_json());
    Ok(inputs.iter().map(value).collect())
}
