//! A channel's declared inputs, computed for the person that a message goes to.

use std::sync::Arc;

use kith_features::{Expression, LeafSet, Value};
use kith_model::id::{ProfileId, WorkspaceId};
use kith_model::plugin::InputSpec;
use kith_model::table::ColumnType;
use kith_model::time::Timestamp;
use kith_store::ReadError;

use crate::plan::ChannelPlan;
use crate::profiles::evaluation::{Evaluation, Profile};
use crate::profiles::person::{load_sealed, read_profile};
use crate::setup::Installed;
use crate::shared::KernelState;

/// What the inputs of a message come to.
pub(super) enum MessageInputs {
    /// The value of each input, by its name.
    Values(Vec<(String, serde_json::Value)>),
    /// They cannot be told now: their history is still being read, the store has a fault that may pass, or the person is just
    /// being merged.
    Later,
    /// The input of that name reads a tag or score that is being computed, or is held without ever having had a value.
    Pending(String),
    /// They cannot be computed and never will; the reason is for people.
    Never(String),
}

/// Why the inputs have no values.
enum Gap {
    Later,
    Pending(String),
    OutOfBudget(String),
}

/// Whether the history of all that the channel's inputs read has been read. Before that its messages would say nothing where
/// there is something to say.
pub(super) fn are_complete(shared: &KernelState, workspace: WorkspaceId, installed: &Installed) -> bool {
    if installed.inputs.is_empty() {
        return true;
    }
    let Some(known) = shared.workspace(workspace) else { return false };
    let compiled = known.compiled.load_full();
    let complete = Arc::clone(&known.projection.read().complete);
    let channel = compiled.plan.channels.iter().find(|channel| channel.id == installed.id);
    channel.is_some_and(|channel| has_history(channel, &complete))
}

fn has_history(channel: &ChannelPlan, complete: &LeafSet) -> bool {
    let leaves = channel.inputs.iter().flat_map(|(_, input)| input.leaves());
    leaves.map(|leaf| leaf.id()).all(|leaf| complete.contains(leaf))
}

/// The inputs of `installed` for a person.
pub(super) fn fill(
    shared: &KernelState,
    workspace: WorkspaceId,
    installed: &Installed,
    profile: ProfileId,
    now: Timestamp,
) -> MessageInputs {
    match values(shared, workspace, installed, profile, now) {
        Ok(Ok(values)) => MessageInputs::Values(values),
        Ok(Err(Gap::Later)) => MessageInputs::Later,
        Ok(Err(Gap::Pending(input))) => MessageInputs::Pending(input),
        Ok(Err(Gap::OutOfBudget(input))) => {
            MessageInputs::Never(format!("`{input}` takes more of this person than one evaluation may"))
        }
        Err(error) if may_pass(&error) => {
            tracing::error!(channel = installed.id.0, %error, "the inputs of a message cannot be read; it is put off");
            MessageInputs::Later
        }
        Err(error) => MessageInputs::Never(error.to_string()),
    }
}

/// Whether a read may succeed when it is tried again; what is damaged or another release's stays so.
fn may_pass(error: &ReadError) -> bool {
    match error {
        ReadError::Io { .. } => true,
        ReadError::Corrupt { .. } | ReadError::Version { .. } | ReadError::Truncated { .. } => false,
    }
}

fn values(
    shared: &KernelState,
    workspace: WorkspaceId,
    installed: &Installed,
    profile: ProfileId,
    now: Timestamp,
) -> Result<Result<Vec<(String, serde_json::Value)>, Gap>, ReadError> {
    if installed.inputs.is_empty() {
        return Ok(Ok(Vec::new()));
    }
    let Some(known) = shared.workspace(workspace) else { return Ok(Err(Gap::Later)) };
    let compiled = known.compiled.load_full();
    let complete = Arc::clone(&known.projection.read().complete);
    // A change may have come since the claim.
    let Some(channel) = compiled.plan.channels.iter().find(|channel| channel.id == installed.id) else {
        return Ok(Err(Gap::Later));
    };
    if !has_history(channel, &complete) {
        return Ok(Err(Gap::Later));
    }
    let mut people = read_profile(shared.store.as_ref(), workspace, profile)?;
    if people.is_empty() {
        // The gate has just seen it; the next look finds it under its new name, or refuses it.
        return Ok(Err(Gap::Later));
    }
    let view = Evaluation { plan: &compiled.plan, zone: &compiled.setup.zone, complete: &complete, now };
    for (_, input) in &channel.inputs {
        load_sealed(shared.store.as_ref(), workspace, &mut people, input, view)?;
    }
    let state = Profile::new(people.iter().collect(), view);
    let value = |(spec, input): &(InputSpec, Expression)| {
        let name = spec.name.clone();
        match input.evaluate_within(&state, &|leaf| state.leaf_value(leaf), now) {
            None => Err(Gap::OutOfBudget(name)),
            // Null would be filled in as a value that the person does not have.
            Some(value) if value.is_unknown() => Err(Gap::Pending(name)),
            Some(value) => Ok((name, exact(spec, input, &value, &state).unwrap_or_else(|| value.to_json()))),
        }
    };
    Ok(channel.inputs.iter().map(value).collect())
}

/// The digits of a number as they came, where an input of text is a trait and nothing more: the machine's number may have fewer.
fn exact(spec: &InputSpec, input: &Expression, value: &Value, state: &Profile<'_>) -> Option<serde_json::Value> {
    let is_number = matches!(value, Value::Int(_) | Value::Float(_));
    let name = input.bare_trait().filter(|_| is_number && spec.column_type == ColumnType::Text)?;
    Some(state.trait_of(name)?.json.as_str().into())
}
