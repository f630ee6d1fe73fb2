//! A channel's declared inputs, computed for the person that a message goes to.

use std::sync::Arc;

use kith_features::Expression;
use kith_model::id::{ProfileId, WorkspaceId};
use kith_model::plugin::InputSpec;
use kith_model::time::Timestamp;

use crate::profiles::evaluation::{Evaluation, Profile};
use crate::profiles::person::{load_sealed, read_profile};
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
    let compiled = known.compiled.load_full();
    let channel = compiled.plan.channels.iter().find(|channel| channel.id == installed.id);
    let channel = channel.ok_or("they are not in force yet")?;
    let complete = Arc::clone(&known.projection.read().complete);
    let mut people = read_profile(shared.store.as_ref(), workspace, profile).map_err(|error| error.to_string())?;
    if people.is_empty() {
        return Err("the person does not exist any more".to_owned());
    }
    let view = Evaluation { plan: &compiled.plan, zone: &compiled.setup.zone, complete: &complete, now };
    for (_, input) in &channel.inputs {
        load_sealed(shared.store.as_ref(), workspace, &mut people, input, view).map_err(|error| error.to_string())?;
    }
    let state = Profile::new(people.iter().collect(), view);
    let value = |(spec, input): &(InputSpec, Expression)| (spec.name.clone(), state.evaluate(input).to_json());
    Ok(channel.inputs.iter().map(value).collect())
}
