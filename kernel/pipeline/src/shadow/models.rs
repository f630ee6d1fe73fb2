//! A tag model's or scorer's version beside the live one: asked about the people of a job after the live version has answered.

use std::collections::{BTreeSet, VecDeque};
use std::sync::Arc;

use kith_model::plugin::{EmittedEvent, PluginKind};
use kith_model::table::Cell;

use super::report::{ShadowReport, SkipReason};
use super::{Kept, MAX_EXAMPLES, Run, ShadowExample, ShadowVersion, Wanted, begin, failure, shadow_inputs, shown};
use crate::plan::ModelPlan;
use crate::react::models::{Further, InputRow, Job, JobResult, RowOutcome, cells_bytes};
use crate::rows::derived::{ModelVersion, OutputKind, OutputValue};
use crate::rows::emitted::told_by;
use crate::setup::Role;
use crate::shared::{KernelState, Workspace};

/// Calls about one batch: enough to ask about one person of it alone.
const MAX_CALLS: usize = 32;

/// Where a report counts the people of whom one of the two emitted events; no output has such a name. What the shadow emits goes
/// nowhere.
const EVENTS: &str = "(events)";

/// Compare what the live version answered with what its shadow answers, where it has one and there is room. `cells` are the
/// inputs of each of the live answer's rows; none of a row that it was not asked about.
pub(crate) fn offer(
    shared: &Arc<KernelState>,
    workspace: &Arc<Workspace>,
    live: &Arc<JobResult>,
    cells: Vec<Vec<Cell>>,
) {
    let compiled = workspace.compiled.load_full();
    let Some((_, model)) = compiled.plan.model(live.installation) else { return };
    let Some(shadow) = model.installed.shadow.clone() else { return };
    // An answer of another version or fit than the present one is compared with nothing.
    if model.version() != live.version || !model.installed.activity.is_running() {
        return;
    }
    let Some(run) = shared.shadows.run_of(workspace.id, &model.installed) else { return };
    let wanted = Wanted {
        items: cells.iter().filter(|cells| !cells.is_empty()).count() as u64,
        bytes: cells.iter().map(|cells| cells_bytes(cells)).sum::<usize>() + answer_bytes(live),
        memory_bytes: shadow.call_memory_bytes,
    };
    if wanted.items == 0 {
        return;
    }
    let Some(place) = run.place(&shared.shadows.input, wanted) else { return };
    let Some(job) = job(model, &shadow, live, cells) else { return };
    let (state, workspace, live) = (Arc::clone(shared), Arc::clone(workspace), Arc::clone(live));
    begin(shared, place, wanted, move |place| {
        let result = job.run(|_| place.run.is_current(&workspace));
        let has_answered = result.rows.iter().any(|(_, outcome)| matches!(outcome, RowOutcome::Values(_)));
        if !has_answered {
            place.run.rest(result.took);
        }
        let run = place.end();
        if run.is_current(&workspace) {
            run.skip(SkipReason::GivenUp, wanted.items.saturating_sub(result.rows.len() as u64));
            record(&run, &state, &live, &result);
        }
    });
}

/// About what the live answer holds in memory.
fn answer_bytes(live: &JobResult) -> usize {
    let values = |outcome: &RowOutcome| match outcome {
        RowOutcome::Values(answer) => {
            let events = answer.events.iter().map(EmittedEvent::size_bytes).sum::<usize>();
            answer.values.iter().map(OutputValue::size_bytes).sum::<usize>() + events
        }
        RowOutcome::Faulted(_) | RowOutcome::Later(_) => 0,
    };
    live.rows.iter().map(|(row, outcome)| size_of_val(row) + values(outcome)).sum()
}

/// The same people for the shadow; a row's number is its place in the live answer.
fn job(model: &ModelPlan, shadow: &ShadowVersion, live: &JobResult, cells: Vec<Vec<Cell>>) -> Option<Job> {
    let (Role::TagModel(asked) | Role::Scorer(asked)) = &shadow.role else { return None };
    let places = shadow_inputs(&model.installed.inputs, &shadow.inputs)?;
    let of_shadow =
        |cells: &[Cell]| places.iter().map(|place| cells.get(*place).cloned().unwrap_or(Cell::Null)).collect();
    let rows = (0_u32..).zip(cells).zip(&live.rows).filter(|((_, cells), _)| !cells.is_empty());
    let rows = rows.map(|((ordinal, cells), (row, _))| InputRow {
        profile: row.profile,
        ordinal,
        inputs: row.inputs,
        cells: of_shadow(&cells),
        misfit: None,
    });
    Some(Job {
        installation: live.installation,
        plugin: format!("{}@{}", model.installed.plugin, shadow.plugin_version),
        version: ModelVersion {
            digest: shadow.digest.clone(),
            config_hash: shadow.config_hash,
            outputs: shadow.outputs.iter().map(|output| output.name.clone()).collect(),
            ..live.version.clone()
        },
        model: Arc::clone(asked),
        state: model.installed.fitted.as_ref().map(|fitted| Arc::clone(&fitted.bytes)),
        columns: shadow.inputs.clone(),
        rows: rows.collect(),
        max_calls: MAX_CALLS,
        further: Further::Always,
    })
}

fn record(run: &Run, shared: &KernelState, live: &JobResult, shadow: &JobResult) {
    let (at, kind) = (shared.clock.now(), kind_of(live.version.kind));
    metrics::counter!("kith_shadow_compared_total", "kind" => kind).increment(shadow.rows.len() as u64);
    run.record(shared, |kept| {
        let differing = compare(kept, live, shadow);
        for (row, output) in differing {
            let (live, shadow) = (&live.rows[row.live], &shadow.rows[row.shadow].1);
            kept.example(ShadowExample {
                at,
                profile: Some(live.0.profile),
                output: output.name.to_owned(),
                live: output.live.and_then(|place| value(&live.1, place)).map(json),
                shadow: output.shadow.and_then(|place| value(shadow, place)).map(json),
            });
        }
        let last = shadow.rows.iter().rev().find_map(|(_, outcome)| outcome.fault());
        if let Some(fault) = last {
            kept.last_failure = Some(failure(at, fault));
        }
    });
}

/// As a metric's label.
fn kind_of(outputs: OutputKind) -> &'static str {
    match outputs {
        OutputKind::Tags => PluginKind::TagModel.as_str(),
        OutputKind::Scores => PluginKind::Scorer.as_str(),
    }
}

/// The two answers about one person.
#[derive(Clone, Copy)]
struct RowPair {
    live: usize,
    shadow: usize,
}

/// An output by its name and its places in the two answers.
#[derive(Clone, Copy)]
struct OutputPair<'a> {
    name: &'a str,
    live: Option<usize>,
    shadow: Option<usize>,
}

/// Count what the two came to; where they differ, the last of these.
fn compare<'a>(kept: &mut Kept, live: &'a JobResult, shadow: &'a JobResult) -> VecDeque<(RowPair, OutputPair<'a>)> {
    let report: &mut ShadowReport = kept.report();
    live.calls.iter().for_each(|call| report.live.call(call));
    shadow.calls.iter().for_each(|call| report.shadow.call(call));
    let outputs = output_pairs(&live.version.outputs, &shadow.version.outputs);
    let mut differing = VecDeque::new();
    for (place, (row, given)) in shadow.rows.iter().enumerate() {
        let pair = RowPair { live: row.ordinal as usize, shadow: place };
        let Some((_, had)) = live.rows.get(pair.live) else { continue };
        report.compared += 1;
        let faults = [had.fault(), given.fault()];
        if let [None, None] = faults {
            let [one, other] = [emitted(had), emitted(given)];
            if one.is_some() || other.is_some() {
                report.compare(EVENTS, one.as_ref(), other.as_ref());
            }
            for output in &outputs {
                let [one, other] =
                    [(had, output.live), (given, output.shadow)].map(|(of, place)| place.and_then(|at| value(of, at)));
                if report.compare(output.name, one, other) {
                    if differing.len() >= MAX_EXAMPLES {
                        differing.pop_front();
                    }
                    differing.push_back((pair, *output));
                }
            }
        }
        let [of_live, of_shadow] = faults;
        of_live.into_iter().for_each(|fault| report.live.fault(fault));
        of_shadow.into_iter().for_each(|fault| report.shadow.fault(fault));
    }
    differing
}

/// The outputs of the live version in their order, and then those of the shadow alone.
fn output_pairs<'a>(live: &'a [String], shadow: &'a [String]) -> Vec<OutputPair<'a>> {
    let place = |names: &[String], name: &str| names.iter().position(|other| other == name);
    let of_live = live.iter().enumerate().map(|(at, name)| OutputPair {
        name: name.as_str(),
        live: Some(at),
        shadow: place(shadow, name.as_str()),
    });
    let of_shadow = shadow.iter().enumerate().filter(|(_, name)| !live.contains(name));
    let of_shadow = of_shadow.map(|(at, name)| OutputPair { name: name.as_str(), live: None, shadow: Some(at) });
    of_live.chain(of_shadow).collect()
}

/// The events of an answer by what makes each one, whatever their order; `None` of one that has none.
fn emitted(outcome: &RowOutcome) -> Option<BTreeSet<u64>> {
    let RowOutcome::Values(answer) = outcome else { return None };
    (!answer.events.is_empty()).then(|| answer.events.iter().map(told_by).collect())
}

/// What an answer has at that place, if it has anything.
fn value(outcome: &RowOutcome, place: usize) -> Option<&OutputValue> {
    let RowOutcome::Values(answer) = outcome else { return None };
    answer.values.get(place).filter(|value| **value != OutputValue::Null)
}

fn json(value: &OutputValue) -> String {
    let value = match value {
        OutputValue::Null => serde_json::Value::Null,
        OutputValue::Bool(value) => (*value).into(),
        OutputValue::Int(value) => (*value).into(),
        OutputValue::Float(value) => (*value).into(),
        OutputValue::Text(text) => shown(text).into(),
    };
    value.to_string()
}
