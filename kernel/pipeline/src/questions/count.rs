//! How many profiles meet a condition: from the index where it can answer, else by looking at every profile.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_features::{EventFacts, Expression, FeatureName, LeafId, Value};
use kith_model::event::Event;
use kith_model::id::WorkspaceId;

use super::profile::history;
use super::{QueryError, workspace};
use crate::plan::{Plan, Task};
use crate::profiles::evaluation::{Evaluation, Profile};
use crate::profiles::person::{Person, load_sealed};
use crate::profiles::scan::each_profile;
use crate::react::projection::Projection;
use crate::rows::derived::Cursor;
use crate::shared::{Compiled, Shared, Workspace};
use crate::views::Count;

/// How many profiles meet a condition.
pub(crate) fn count(shared: &Shared, id: WorkspaceId, condition: &str) -> Result<Count, QueryError> {
    let workspace = workspace(shared, id)?;
    let compiled = workspace.compiled.load_full();
    let expression = Expression::parse_in(condition, compiled.setup.zone.name())?;
    if let Some(count) = from_index(shared, &workspace, &compiled, &expression) {
        return Ok(count);
    }
    by_people(shared, &workspace, &compiled, &expression)
}

/// The answer of the index, if it has one.
fn from_index(shared: &Shared, workspace: &Workspace, compiled: &Compiled, expression: &Expression) -> Option<Count> {
    let projection = workspace.projection.read();
    if !expression.reads().leaves.iter().all(|leaf| projection.complete.contains(leaf)) {
        return None;
    }
    let counted = projection.index.count(expression, projection.as_of.time)?;
    let population = projection.index.population().len();
    let pending = counted.unknown + outdated(&projection, &compiled.plan, expression);
    let is_settled = is_settled(&projection, &compiled.plan, expression);
    let as_of = workspace.as_of(shared.store.as_ref(), &projection);
    Some(answer(counted.holds, pending, population, is_settled, as_of))
}

fn answer(count: u64, pending: u64, population: u64, is_settled: bool, as_of: Cursor) -> Count {
    let exact = pending == 0 && is_settled;
    Count { count, pending, population, exact, as_of: as_of.position, as_of_time: as_of.time }
}

/// The models whose outputs an expression reads.
fn models<'a>(plan: &'a Plan, expression: &'a Expression) -> impl Iterator<Item = &'a crate::plan::ModelPlan> {
    let reads = expression.reads();
    let tags = reads.tags.iter().map(|name| FeatureName::Tag(name.as_str().into()));
    let scores = reads.scores.iter().map(|name| FeatureName::Score(name.as_str().into()));
    let makers = tags.chain(scores).filter_map(|feature| plan.outputs.get(&feature).map(|(id, _)| *id));
    let makers: BTreeSet<_> = makers.collect();
    makers.into_iter().filter_map(|id| plan.model(id).map(|(_, model)| model))
}

/// People whose values of the models that the expression reads are of an older version or of older inputs.
fn outdated(projection: &Projection, plan: &Plan, expression: &Expression) -> u64 {
    let running = models(plan, expression).filter(|model| model.installed.activity.is_running());
    running.map(|model| projection.outdated.get(&model.installed.id).copied().unwrap_or(0)).sum()
}

/// Whether the models that the expression reads have been asked about everybody as they are now. One that does not run is
/// asked about nobody: what it wrote counts.
fn is_settled(projection: &Projection, plan: &Plan, expression: &Expression) -> bool {
    models(plan, expression)
        .filter(|model| model.installed.activity.is_running())
        .all(|model| projection.done.contains(&Task::Model(model.installed.id, model.token)))
}

/// What every profile says, one after the other.
fn by_people(
    shared: &Shared,
    workspace: &Workspace,
    compiled: &Compiled,
    expression: &Expression,
) -> Result<Count, QueryError> {
    let (as_of, complete, is_settled) = {
        let projection = workspace.projection.read();
        let is_settled = is_settled(&projection, &compiled.plan, expression);
        (projection.as_of, Arc::clone(&projection.complete), is_settled)
    };
    let view = Evaluation { plan: &compiled.plan, zone: &compiled.setup.zone, complete: &complete, now: as_of.time };
    let wanted: &[LeafId] = &expression.reads().leaves;
    let is_kept = wanted.iter().all(|leaf| complete.contains(leaf) && compiled.plan.program.leaf(*leaf).is_some());
    let (mut count, mut pending, mut population) = (0, 0, 0);
    each_profile(&shared.store, workspace.id, |_, mut people| {
        population += 1;
        if is_kept {
            load_sealed(shared.store.as_ref(), workspace.id, &mut people, expression, view)?;
        }
        let profile = Profile::new(people.iter().collect(), view);
        let value = if is_kept {
            profile.evaluate(expression)
        } else {
            from_history(shared, workspace, &people, &profile, expression, as_of)?
        };
        count += u64::from(value.is_true());
        pending += u64::from(matches!(value, Value::Unknown));
        Ok(())
    })?;
    // Rows are read while the reactor goes on: what it changed meanwhile may be in them.
    let has_stood_still = workspace.projection.read().as_of == as_of;
    Ok(answer(count, pending, population, is_settled && has_stood_still, as_of))
}

/// The meaning of an expression: build the list of events, evaluate.
fn from_history(
    shared: &Shared,
    workspace: &Workspace,
    people: &[Person],
    profile: &Profile<'_>,
    expression: &Expression,
    as_of: Cursor,
) -> Result<Value, kith_store::ReadError> {
    let mut events: Vec<Event> = Vec::new();
    for person in people {
        history(shared.store.as_ref(), workspace.id, person.id, as_of.position, |event| events.push(event))?;
    }
    let names = &profile.view.plan.source_names;
    let source = |event: &Event| names.get(&event.source).map_or("", String::as_str);
    let facts: Vec<EventFacts<'_>> = events.iter().map(|event| EventFacts::new(event, source(event))).collect();
    Ok(kith_features::naive::evaluate(expression, profile, &facts, profile.view.now, profile.view.zone))
}
