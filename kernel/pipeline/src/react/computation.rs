//! What follows from a change of one profile, computed without writing anything: which values the index shows, which models
//! have to run, which audiences it moves between, when time has to be looked at.

use std::collections::BTreeSet;

use kith_features::{FeatureName, LeafId, Value};
use kith_model::audience::Cause;
use kith_model::change::Movement;
use kith_model::id::AudienceId;
use kith_model::time::Timestamp;

use super::models::{self, InputRow};
use super::readiness::Readiness;
use super::touch::{Acquaintance, Models, Profiling, Touch};
use crate::plan::{AudiencePlan, ModelPlan, Task};
use crate::profiles::evaluation::{Profile, output_of};
use crate::rows::derived::{Freshness, Output, Track, Waker};

/// What has to be looked at because of a touch, and what the index shows of it.
#[derive(Default)]
pub(crate) struct Survey {
    pub values: Vec<(FeatureName, Value)>,
    /// Places in the plan's audiences.
    pub audiences: BTreeSet<u32>,
    /// Places in the plan's models.
    pub models: BTreeSet<u32>,
    /// When a waker is to be woken next; `None` for never.
    pub timers: Vec<(Waker, Option<Timestamp>)>,
}

/// Find out what a touch reaches.
pub(crate) fn survey(profile: &Profile<'_>, touch: &Touch) -> Survey {
    let plan = profile.view.plan;
    // A decision of each leaf's audience may come behind its value.
    let (values, timers) = (2 * touch.leaves.len() + touch.features.len(), touch.leaves.len() + touch.wakers.len());
    let mut survey =
        Survey { values: Vec::with_capacity(values), timers: Vec::with_capacity(timers), ..Survey::default() };
    for (leaf, before) in &touch.leaves {
        look_at_leaf(profile, *leaf, before, &mut survey);
    }
    for waker in &touch.wakers {
        match waker {
            Waker::Leaf(leaf) => look_at_leaf(profile, *leaf, &Value::Unknown, &mut survey),
            Waker::Audience(audience) => survey.audiences.extend(plan.audience_place(*audience)),
            Waker::Model(model) => survey.models.extend(plan.model(*model).map(|(place, _)| place)),
        }
    }
    for feature in &touch.features {
        look_at_feature(profile, feature, &mut survey);
    }
    if touch.acquaintance == Acquaintance::New {
        survey.audiences.extend(&plan.of_everybody);
    }
    if profile.objects() {
        let derived = profile.root().derived.as_ref();
        let held = derived.iter().flat_map(|derived| derived.memberships.keys());
        survey.audiences.extend(held.filter_map(|audience| plan.audience_place(*audience)));
    } else if touch.profiling == Profiling::MayHaveChanged {
        survey.audiences.extend((0..).take(plan.audiences.len()));
        survey.models.extend((0..).take(plan.models.len()));
    }
    if touch.models == Models::All || touch.acquaintance == Acquaintance::New {
        survey.models.extend((0..).take(plan.models.len()));
    }
    for task in touch.tasks.iter().flat_map(|tasks| tasks.iter()) {
        match task {
            // Taken back before; the features that it wrote are among those that changed.
            Task::Retract(_) | Task::Undo(_) => {}
            Task::Model(model, _) => survey.models.extend(plan.model(*model).map(|(place, _)| place)),
            Task::Audience(audience, _) => survey.audiences.extend(plan.audience_place(*audience)),
        }
    }
    survey
}

fn look_at_leaf(profile: &Profile<'_>, id: LeafId, before: &Value, survey: &mut Survey) {
    let plan = profile.view.plan;
    let Some(leaf) = plan.program.leaf(id) else {
        survey.timers.push((Waker::Leaf(id), None));
        return;
    };
    let (after, next_change) = profile.look_at(leaf);
    // Time has changed it before the event did: what it was when somebody last looked is not what it was a moment ago, and the
    // timer that would tell is replaced here.
    let timer = profile.root().derived.as_ref().and_then(|derived| derived.timer(Waker::Leaf(id)));
    let is_due = timer.is_some_and(|due| due <= profile.view.now);
    let before = if is_due { &Value::Unknown } else { before };
    survey.timers.push((Waker::Leaf(id), next_change));
    if !profile.view.complete.contains(id) {
        // Its column is filled while its history is read; nobody is told before that has come to its end.
        survey.values.push((FeatureName::Leaf(id), after));
        return;
    }
    if after == *before {
        return;
    }
    plan.audience_reach.for_leaf(id, before, &after, |reader| {
        survey.audiences.insert(reader);
    });
    plan.model_reach.for_leaf(id, before, &after, |reader| {
        survey.models.insert(reader);
    });
    survey.values.push((FeatureName::Leaf(id), after));
}

fn look_at_feature(profile: &Profile<'_>, feature: &FeatureName, survey: &mut Survey) {
    let plan = profile.view.plan;
    plan.audience_reach.for_feature(feature, |reader| {
        survey.audiences.insert(reader);
    });
    plan.model_reach.for_feature(feature, |reader| {
        survey.models.insert(reader);
    });
    // Leaves come with their states, audiences with their decisions.
    if !matches!(feature, FeatureName::Leaf(_) | FeatureName::Audience(_)) {
        survey.values.push((feature.clone(), profile.feature(feature)));
    }
}

/// What a model has to do for a profile.
#[derive(Debug, Clone)]
pub(crate) enum Need {
    /// Nothing: its values are of these inputs, or it cannot take them.
    Nothing,
    /// The inputs are as they were when the values were made, after all.
    Fresh,
    /// To be run on this row; until then the output is this.
    Run { row: InputRow, output: Output },
    /// To be run when an input that is unknown now is known.
    Wait { output: Output },
}

/// How somebody stands to a model who has had no value of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FirstValue {
    /// The model ran when they became known, and has not stopped since: whichever version answers, it is for what made them known.
    Expected,
    /// The model has been asked about everybody as it is now.
    Settled,
    /// The model is being asked about everybody because it changed.
    OfAChange,
}

/// What `model` has to do after a touch.
pub(crate) fn need(
    model: &ModelPlan,
    profile: &Profile<'_>,
    touch: &Touch,
    today: Timestamp,
    first: FirstValue,
) -> Need {
    if profile.objects() {
        return Need::Nothing;
    }
    let derived = profile.root().derived.as_ref();
    let held = derived.and_then(|derived| derived.outputs.get(&(model.installed.id, Track::Live)));
    if model.leaves().any(|leaf| !profile.view.complete.contains(leaf)) {
        // A sweep comes when the history behind its inputs has been read. Of whoever becomes known until then it has to tell
        // that it was not the sweep that made them known.
        let is_news = held.is_none() && touch.acquaintance == Acquaintance::New;
        return if is_news { Need::Wait { output: awaiting(held, model, touch, 0, first) } } else { Need::Nothing };
    }
    let Some(row) = models::inputs(model, profile, today) else {
        return Need::Wait { output: awaiting(held, model, touch, 0, first) };
    };
    match held {
        Some(held) if !held.values.is_empty() && held.inputs == row.inputs => match held.freshness {
            Freshness::Fresh => Need::Nothing,
            _ => Need::Fresh,
        },
        Some(Output { freshness: Freshness::Faulted { inputs }, .. })
            if *inputs == row.inputs && !touch.replayed.contains(&model.installed.id) =>
        {
            Need::Nothing
        }
        held => {
            let output = awaiting(held, model, touch, row.inputs, first);
            Need::Run { row, output }
        }
    }
}

/// The output while the model has yet to see `inputs`.
fn awaiting(held: Option<&Output>, model: &ModelPlan, touch: &Touch, inputs: u64, first: FirstValue) -> Output {
    let Some(held) = held else {
        // Who was known before the model was, is looked at because of the model.
        let is_new = touch.acquaintance == Acquaintance::New;
        let cause = if is_new { touch.cause } else { touch.cause.and(Cause::Change) };
        return Output::never(inputs, cause, touch.position);
    };
    let was = match held.freshness {
        Freshness::Pending { cause, .. } => Some(cause),
        Freshness::Outdated { .. } if held.is_taken_back() => Some(Cause::Undo),
        Freshness::Outdated { .. } => Some(Cause::Change),
        Freshness::Fresh | Freshness::Faulted { .. } => None,
    };
    // What another version will say of the same person, and what a model that does not run would say, is no reason to doubt
    // the value that is there.
    let is_older = !held.values.is_empty() && (touch.cause == Cause::Change || !model.installed.activity.is_running());
    let freshness = match (held.freshness, is_older) {
        (Freshness::Pending { position, .. }, true) if model.installed.activity.is_running() => {
            let cause = if was == Some(Cause::Undo) { Cause::Undo } else { Cause::Change };
            Freshness::Pending { inputs, cause, position }
        }
        (_, true) => Freshness::Outdated { inputs },
        (_, false) => {
            let cause = match (was, first) {
                (Some(was @ (Cause::Event | Cause::Time)), FirstValue::Expected) if touch.cause == Cause::Change => was,
                (was, _) => was.map_or(touch.cause, |was| was.and(touch.cause)),
            };
            let is_of_change = held.values.is_empty() && first == FirstValue::OfAChange;
            let cause = if is_of_change { cause.and(Cause::Change) } else { cause };
            Freshness::Pending { inputs, cause, position: touch.position }
        }
    };
    Output { freshness, ..held.clone() }
}

/// What set an answer off: what its person was waiting for, and while the model `is_settled` not, because it is asked about
/// everybody as it is now, that another version says otherwise than one before.
pub(crate) fn cause_of_answer(before: Option<&Output>, answer: &Output, is_settled: bool) -> Cause {
    let Some(before) = before else { return Cause::Change };
    let cause = match before.freshness {
        // What comes in the place of what was taken back is no news.
        _ if before.is_taken_back() => Cause::Undo,
        Freshness::Pending { cause, .. } => cause,
        Freshness::Outdated { .. } | Freshness::Fresh | Freshness::Faulted { .. } => Cause::Change,
    };
    let is_another = !before.values.is_empty() && before.version != answer.version && before.values != answer.values;
    if is_another && !is_settled { cause.and(Cause::Change) } else { cause }
}

/// The features that an output shows, with their values.
pub(crate) fn shown<'a>(model: &'a ModelPlan, output: &'a Output) -> impl Iterator<Item = (FeatureName, Value)> + 'a {
    let outputs = model.installed.outputs.iter().enumerate();
    outputs.map(move |(index, spec)| (model.feature(&spec.name), output_of(output, index)))
}

/// A profile's membership is to change.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Decision {
    pub audience: AudienceId,
    /// `None` where it stays a member and the sweep of a new definition comes by.
    pub movement: Option<Movement>,
    pub cause: Cause,
}

/// What is decided about a profile.
#[derive(Debug, Default)]
pub(crate) struct Decided {
    pub decisions: Vec<Decision>,
    pub timers: Vec<(Waker, Option<Timestamp>)>,
    /// The places of audiences whose condition passed its budget, ascending.
    pub exhausted: Vec<u32>,
}

/// Decide about the audiences at `places`: only between true and false does a membership move.
pub(crate) fn decide(profile: &Profile<'_>, places: &BTreeSet<u32>, touch: &Touch, readiness: &Readiness) -> Decided {
    let plan = profile.view.plan;
    let memberships = profile.root().derived.as_ref().map(|derived| &derived.memberships);
    let mut decided = Decided::default();
    let objects = profile.objects();
    for place in places {
        let Some(audience) = plan.audiences.get(*place as usize) else { continue };
        let id = audience.audience.id;
        if audience.condition.reads().uses_now {
            let leaf = |leaf| profile.leaf_value(leaf);
            let next = audience.condition.next_change_at(profile, &leaf, profile.view.now, profile.view.zone);
            decided.timers.push((Waker::Audience(id), next));
        }
        // Who objects to profiling is in no audience, whatever its condition says.
        let value = match (!objects).then(|| profile.evaluate_within(&audience.condition)) {
            None => Value::Bool(false),
            Some(Some(value)) => value,
            Some(None) => {
                decided.exhausted.push(*place);
                Value::Unknown
            }
        };
        if matches!(value, Value::Unknown) {
            continue;
        }
        let was_member = memberships.is_some_and(|memberships| memberships.contains_key(&id));
        let movement = match (was_member, value.is_true()) {
            (false, true) => Some(Movement::Entered),
            (true, false) => Some(Movement::Left),
            (true, true) if is_swept(audience, touch) => None,
            _ => continue,
        };
        let cause = touch.cause_for(&audience.models);
        // Before its own definition has been computed for everybody, whoever moves, moves because of it.
        let cause = if readiness.done.contains(&audience.task()) { cause } else { cause.and(Cause::Change) };
        decided.decisions.push(Decision { audience: id, movement, cause });
    }
    decided
}

/// Whether the sweep of the audience's definition comes by.
fn is_swept(audience: &AudiencePlan, touch: &Touch) -> bool {
    touch.tasks.as_ref().is_some_and(|tasks| tasks.contains(&audience.task()))
}
