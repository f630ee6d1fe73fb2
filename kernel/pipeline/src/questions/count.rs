//! How many profiles meet a condition: from the index where it can answer, else by looking at the holder of an identifier that
//! the condition asks for, or at every profile.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::sync::Arc;

use kith_features::index::SelectionCount;
use kith_features::{EventFacts, Expression, LeafId, RequiredIdentifier, Value};
use kith_model::event::Event;
use kith_model::id::{ProfileId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_store::ReadError;
use roaring::RoaringBitmap;

use super::profile;
use super::{QueryError, workspace};
use crate::plan::Task;
use crate::profiles::evaluation::{Evaluation, Profile};
use crate::profiles::history::history;
use crate::profiles::person::{self, Person, load_sealed};
use crate::profiles::scan::{WalkCoverage, each_profile};
use crate::react::projection::Projection;
use crate::rows::derived::Cursor;
use crate::shared::{CompiledSetup, KernelState, Workspace};
use crate::turns::{Patience, QuestionTurn, TurnError};
use crate::views::Count;
use crate::yielding;

/// How many profiles meet a condition.
pub(crate) fn count(
    shared: &KernelState,
    id: WorkspaceId,
    condition: &str,
    patience: &Patience,
) -> Result<Count, QueryError> {
    let workspace = workspace(shared, id)?;
    let compiled = workspace.compiled.load_full();
    let expression = Expression::parse_in(condition, compiled.setup.zone.name())?;
    expression.check_condition()?;
    if let Some(count) = from_index(shared, &workspace, &compiled, &expression) {
        return Ok(count);
    }
    let turn = workspace.turns.take(patience)?;
    yielding::aside(|| by_people(shared, &workspace, &compiled, &expression, &turn))
}

/// The answer of the index, if it has one.
fn from_index(
    shared: &KernelState,
    workspace: &Workspace,
    compiled: &CompiledSetup,
    expression: &Expression,
) -> Option<Count> {
    let projection = workspace.projection.read();
    let counted = in_index(&projection, expression)?;
    let population = projection.index.population().len();
    let outstanding = Outstanding::behind(expression, compiled, &projection);
    let as_of = workspace.as_of(shared.store.as_ref(), &projection);
    Some(outstanding.answer(counted, population, as_of, is_current(shared, workspace, as_of)))
}

/// Whether what holds for `as_of` holds now: nothing of the workspace's own came after it, and the reactor does not stand still,
/// which would leave out what time alone changes.
fn is_current(shared: &KernelState, workspace: &Workspace, as_of: Cursor) -> bool {
    workspace.failing.lock().is_none() && shared.store.head_of(workspace.id) <= as_of.position
}

/// What the index says of a condition, if it has a column for all that it reads and none of them is still being filled.
pub(super) fn in_index(projection: &Projection, condition: &Expression) -> Option<SelectionCount> {
    let is_complete = condition.reads().leaves.iter().all(|leaf| projection.complete.contains(*leaf));
    if is_complete { projection.index.count(condition, projection.as_of.time) } else { None }
}

/// What is still to be computed of the values that an expression reads.
struct Outstanding {
    /// Profiles whose value of a model behind the expression is pending, or of an older version of it or of its inputs, also where
    /// the version in use cannot take them.
    outdated: RoaringBitmap,
    /// Whether all models behind the expression have been asked about everybody as they are now. One that does not run is
    /// asked about nobody: what it wrote counts.
    is_settled: bool,
    /// Whether one of these models fails on somebody, whose older value is no answer of its version in use.
    fails: bool,
}

impl Outstanding {
    fn behind(expression: &Expression, compiled: &CompiledSetup, projection: &Projection) -> Outstanding {
        // Until the reactor has made a pass under the setup in force, what is shown is of the one before: a model that was
        // switched on since has yet to find out about whom it has to be asked.
        let mut is_settled = projection.generation == compiled.generation && projection.left_out == 0;
        let (reads, mut outdated, mut fails) = (expression.reads(), RoaringBitmap::new(), false);
        // What a version wrote may be among what is shown until it has been taken back of everybody.
        is_settled &= projection.undoing.is_empty() || (reads.tags.is_empty() && reads.scores.is_empty());
        let plan = &compiled.plan;
        for model in plan.asked_for(expression) {
            let task = Task::Model(model.installed.id, model.token);
            // What a removed model wrote may be in this one's inputs until the sweep has come by everybody.
            let reads_removed = projection.is_retracting && plan.reads_unwritten(model);
            is_settled &= projection.done.contains(&task) && !reads_removed;
            if let Some(people) = projection.outdated.get(&model.installed.id) {
                outdated |= people;
            }
            if let Some(uncomputed) = projection.uncomputed.get(&model.installed.id) {
                outdated |= &uncomputed.faulted;
                fails = true;
            }
        }
        Outstanding { outdated, is_settled, fails }
    }

    fn answer(&self, counted: SelectionCount, population: u64, as_of: Cursor, current: bool) -> Count {
        let pending = counted.unknown.union_len(&self.outdated);
        let (exact, current) = (pending == 0 && self.is_settled, current && !self.fails);
        let Cursor { position, time, .. } = as_of;
        Count { count: counted.holds, pending, population, exact, current, as_of: position, as_of_time: time }
    }
}

/// What profiles say, one after the other: those alone who have an identifier that the condition is false without, or else
/// everybody.
fn by_people(
    shared: &KernelState,
    workspace: &Workspace,
    compiled: &CompiledSetup,
    expression: &Expression,
    turn: &QuestionTurn<'_>,
) -> Result<Count, QueryError> {
    let (as_of, complete, mut outstanding, commits, everybody) = {
        let projection = workspace.projection.read();
        let outstanding = Outstanding::behind(expression, compiled, &projection);
        let everybody = projection.index.population().len();
        (projection.as_of, Arc::clone(&projection.complete), outstanding, projection.commits, everybody)
    };
    let view = Evaluation { plan: &compiled.plan, zone: &compiled.setup.zone, complete: &complete, now: as_of.time };
    let wanted: &[LeafId] = &expression.reads().leaves;
    let is_kept = wanted.iter().all(|leaf| complete.contains(*leaf) && compiled.plan.program.leaf(*leaf).is_some());
    let (mut counted, mut population) = (SelectionCount::default(), 0);
    let mut look = |mut people: Vec<Person>| -> Result<ControlFlow<TurnError>, ReadError> {
        if let Err(ended) = turn.go_on() {
            return Ok(ControlFlow::Break(ended));
        }
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
        counted.holds += u64::from(value.is_true());
        if value.is_unknown() {
            counted.unknown.insert(profile.root().ordinal);
        }
        Ok(ControlFlow::Continue(()))
    };
    let required = expression.required_identifiers();
    let seen = match &required {
        Some(required) => each_holder(shared, workspace.id, required, &mut look)?,
        None => each_profile(&shared.store, workspace.id, |_, people| look(people))?,
    };
    let seen = match seen {
        ControlFlow::Continue(seen) => seen,
        ControlFlow::Break(ended) => return Err(ended.into()),
    };
    if required.is_some() {
        population = everybody;
    }
    // Rows are read while the lane and the reactor go on: what they have written since may be in some of them. That the
    // reactor's time goes on changes no row.
    outstanding.is_settled &= seen == WalkCoverage::Everybody
        && workspace.projection.read().commits.none_since(commits)
        && shared.store.head_of(workspace.id) <= as_of.position;
    Ok(outstanding.answer(counted, population, as_of, is_current(shared, workspace, as_of)))
}

/// Look at everybody who has one of these identifiers.
fn each_holder(
    shared: &KernelState,
    id: WorkspaceId,
    identifiers: &[RequiredIdentifier],
    look: &mut impl FnMut(Vec<Person>) -> Result<ControlFlow<TurnError>, ReadError>,
) -> Result<ControlFlow<TurnError, WalkCoverage>, QueryError> {
    let mut holders: BTreeSet<ProfileId> = BTreeSet::new();
    for identifier in identifiers {
        let identifier = Identifier::new(identifier.kind.as_ref(), identifier.value.as_ref());
        if let Some(found) = profile::holder(shared, id, &identifier)? {
            holders.extend(profile::computed(shared, id, found)?);
        }
    }
    let mut seen = WalkCoverage::Everybody;
    for holder in holders {
        let people = match person::read_profile(shared.store.as_ref(), id, holder) {
            Err(error @ ReadError::Io { .. }) => return Err(error.into()),
            // As a walk over everybody, which tells of it too.
            Err(_) => {
                seen = WalkCoverage::NotAll;
                continue;
            }
            Ok(people) => people,
        };
        if people.is_empty() {
            continue;
        }
        if let ControlFlow::Break(ended) = look(people)? {
            return Ok(ControlFlow::Break(ended));
        }
    }
    Ok(ControlFlow::Continue(seen))
}

/// The meaning of an expression: build the list of events, evaluate.
fn from_history(
    shared: &KernelState,
    workspace: &Workspace,
    people: &[Person],
    profile: &Profile<'_>,
    expression: &Expression,
    as_of: Cursor,
) -> Result<Value, ReadError> {
    let mut events: Vec<Event> = Vec::new();
    for person in people {
        let _all = history(shared.store.as_ref(), workspace.id, person.id, as_of.position, |event| {
            events.push(event);
            ControlFlow::Continue(())
        })?;
    }
    let names = &profile.view.plan.source_names;
    let source = |event: &Event| names.get(&event.source).map_or("", String::as_str);
    let facts: Vec<EventFacts<'_>> = events.iter().map(|event| EventFacts::new(event, source(event))).collect();
    Ok(kith_features::naive::evaluate(expression, profile, &facts, profile.view.now, profile.view.zone))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::Role;
    use crate::plan::Plan;
    use crate::tests::harness::{Level, installed, setup_of};
    use kith_model::plugin::{OutputSpec, PluginKind};
    use kith_model::table::ColumnType;

    /// A setup with a model that reads a tag that nothing writes.
    fn compiled() -> CompiledSetup {
        let mut model = installed(2, "level", PluginKind::TagModel, Role::TagModel(Arc::new(Level::default())));
        model.inputs = vec![kith_model::plugin::InputSpec {
            name: "orders".into(),
            expression: "tags.removed".into(),
            column_type: ColumnType::Int64,
            reason: String::new(),
        }];
        model.outputs = vec![OutputSpec {
            name: "level".into(),
            column_type: ColumnType::Text,
            values: Vec::new(),
            description: String::new(),
            category: String::new(),
        }];
        let mut setup = setup_of(Vec::new());
        setup.installations.push(model);
        let plan = Plan::new(&setup).unwrap();
        CompiledSetup { generation: 2, setup: Arc::new(setup), plan }
    }

    /// Between a change of the setup and the reactor's next pass, after a restart, and while values of a removed model are
    /// taken back, what is shown said nothing of the people whom it made wrong, and counts called themselves exact.
    #[test]
    fn what_was_computed_under_another_setup_is_not_settled() {
        let compiled = compiled();
        let condition = Expression::parse("tags.level == 'few'").unwrap();
        let is_settled = |projection: &Projection| Outstanding::behind(&condition, &compiled, projection).is_settled;
        let done: BTreeSet<Task> = compiled.plan.tasks();
        let mut projection = Projection { generation: 2, done, ..Projection::default() };
        assert!(is_settled(&projection));
        for other in [0, 1] {
            projection.generation = other;
            assert!(!is_settled(&projection), "it is of generation {other}");
        }
        projection.generation = 2;
        projection.is_retracting = true;
        assert!(!is_settled(&projection), "the model may have read what is to be taken back");
        projection.is_retracting = false;
        projection.undoing.insert(1);
        assert!(!is_settled(&projection), "what is shown may be taken back");
        projection.undoing.clear();
        projection.left_out = 1;
        assert!(!is_settled(&projection), "somebody is not in the index");
        projection.left_out = 0;
        projection.done.clear();
        assert!(!is_settled(&projection), "the model has not been asked about everybody");
    }
}
