//! A batch of people: read, asked about and compared. It is read again from the beginning where it was cut off, because nothing of
//! it is noted before all of it is known.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_features::{EventFacts, Expression, FeatureName, LeafSet, Value};
use kith_model::event::Event;
use kith_model::id::{Position, ProfileId, SourceIdentityId};
use kith_model::plugin::{InputSpec, PluginFault};
use kith_model::time::Timestamp;
use kith_store::ReadError;

use super::effects::{Finding, Lines, note};
use super::report::{AudienceEffect, BacktestEnd, BacktestPeople, BacktestReport, LiveKey, definition};
use super::{BacktestKey, Run, features, reading};
use crate::plan::{ModelPlan, Plan, Task};
use crate::profiles::evaluation::{Evaluation, Profile, output_value};
use crate::profiles::history::whole_history;
use crate::profiles::person::{Person, load_sealed};
use crate::profiles::scan::ProfilePages;
use crate::react::models::{self, Further, InputRow, Job, JobResult, RowOutcome};
use crate::rows::derived::ModelVersion;
use crate::setup::Role;
use crate::shadow::{ShadowVersion, failure};
use crate::shared::{CompiledSetup, KernelState, Workspace};

/// People of one batch. What waits for the thread waits no longer than these take.
const MAX_PEOPLE: usize = 256;

/// How long people are read for one batch.
const READING_TIME: Duration = Duration::from_secs(2);

/// How long the version is asked about one batch; a call that is under way then ends within its own limits.
const ASKING_TIME: Duration = Duration::from_secs(30);

/// Calls of one batch: enough to ask about a few people alone.
const MAX_CALLS: usize = 64;

/// Batches in a row of which the version answers for nobody, before it is given up.
const MAX_FRUITLESS: u32 = 3;

/// What comes after a turn.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Next {
    Batch,
    Nothing,
}

/// Why a run cannot go on.
struct GivenUp {
    code: &'static str,
    message: String,
}

/// What a batch is looked at with.
pub(super) struct Bench<'a> {
    pub shared: &'a KernelState,
    pub workspace: &'a Workspace,
    pub compiled: &'a CompiledSetup,
    pub model: &'a ModelPlan,
    run: &'a Run,
    version: &'a ShadowVersion,
    inputs: Vec<(InputSpec, Expression)>,
    complete: Arc<LeafSet>,
    /// Work that was done for everybody when the batch began.
    pub done: BTreeSet<Task>,
    /// Events up to here are looked at.
    position: Position,
    pub now: Timestamp,
}

/// People who were read.
#[derive(Default)]
struct Batch {
    /// Those who are asked about; the number of a row is a place in it.
    people: Vec<Vec<Person>>,
    rows: Vec<InputRow>,
    counts: BacktestPeople,
    /// The last of them; `None` where there was nobody left.
    last: Option<SourceIdentityId>,
}

/// Why somebody is not asked about.
enum Unasked {
    Objecting,
    Unknown,
    TooLarge,
}

/// Look at the next people of a run.
pub(super) fn next(shared: &KernelState, workspace: &Workspace, run: &Run) -> Next {
    let compiled = workspace.compiled.load_full();
    let report = {
        let mut kept = run.kept.lock();
        run.look(shared.store.as_ref(), &mut kept).report().clone()
    };
    if report.ended.is_some() || !run.is_current(shared, workspace) {
        return Next::Nothing;
    }
    match Bench::new(shared, workspace, &compiled, run, &report) {
        Ok(bench) => bench.look(run, &report).unwrap_or_else(|error| {
            run.give_up(shared, "unreadable", format!("what is stored could not be read: {error}"));
            Next::Nothing
        }),
        Err(GivenUp { code, message }) => {
            run.give_up(shared, code, message);
            Next::Nothing
        }
    }
}

impl<'a> Bench<'a> {
    fn new(
        shared: &'a KernelState,
        workspace: &'a Workspace,
        compiled: &'a CompiledSetup,
        run: &'a Run,
        report: &BacktestReport,
    ) -> Result<Bench<'a>, GivenUp> {
        let given_up = |code, message: String| GivenUp { code, message };
        let plan = &compiled.plan;
        let found = plan.model(run.installation).map(|(_, model)| model);
        let found = found.and_then(|model| Some((model, model.installed.backtest.as_deref()?)));
        let Some((model, version)) = found.filter(|(_, version)| BacktestKey::of(version) == run.of) else {
            let message = "another installation writes the same tags or scores, and this one does not run".to_owned();
            return Err(given_up("not-live", message));
        };
        if report.begun_at.is_some() && report.live != LiveKey::of(compiled, &model.installed) {
            let message = "the live version, its configuration, its fit or the time zone was changed; begin it again";
            return Err(given_up("changed-meanwhile", message.to_owned()));
        }
        let is_others = |feature: &FeatureName| {
            plan.outputs.get(feature).is_some_and(|(installation, _)| *installation != model.installed.id)
        };
        if let Some(feature) = features(model).into_iter().find(is_others) {
            return Err(given_up("same-output", format!("another installation writes `{feature}`")));
        }
        let parsed = version.inputs.iter().map(|spec| {
            let parsed = Expression::parse_in(&spec.expression, compiled.setup.zone.name());
            let bad = |error| given_up("bad-input", format!("the input `{}` does not parse: {error}", spec.name));
            Ok((spec.clone(), parsed.map_err(bad)?))
        });
        let inputs = parsed.collect::<Result<Vec<_>, GivenUp>>()?;
        let (complete, done, position) = {
            let projection = workspace.projection.read();
            (Arc::clone(&projection.complete), projection.done.clone(), projection.as_of.position)
        };
        let now = shared.clock.now();
        Ok(Bench { shared, workspace, compiled, model, run, version, inputs, complete, done, position, now })
    }

    pub(super) fn view(&self) -> Evaluation<'_> {
        let CompiledSetup { plan, setup, .. } = self.compiled;
        Evaluation { plan, zone: &setup.zone, complete: &self.complete, now: self.now }
    }

    fn plan(&self) -> &'a Plan {
        &self.compiled.plan
    }

    /// Whether what comes of the run is wanted still.
    fn is_wanted(&self) -> bool {
        self.run.is_current(self.shared, self.workspace)
    }

    /// Look at the next people, and note what came of it.
    fn look(&self, run: &Run, report: &BacktestReport) -> Result<Next, ReadError> {
        if report.begun_at.is_none() {
            run.record(self.shared, |kept| self.begin(kept.report()));
        }
        let mut batch = self.read(report.last)?;
        let Some(last) = batch.last else {
            run.record(self.shared, |kept| {
                let report = kept.report();
                report.people.add(batch.counts);
                report.ended = Some(BacktestEnd::Done { at: self.shared.clock.now() });
            });
            return Ok(Next::Nothing);
        };
        let asked = batch.rows.len();
        let result = self.ask(std::mem::take(&mut batch.rows));
        if !self.is_wanted() {
            return Ok(Next::Nothing);
        }
        let lines = self.lines(run);
        let findings = self.findings(&mut batch, result.as_ref(), asked, &lines)?;
        if !self.is_wanted() {
            return Ok(Next::Nothing);
        }
        metrics::counter!("kith_backtest_people_total").increment(batch.counts.done);
        self.note(run, &batch, result.as_ref(), &findings, last);
        Ok(self.given_up(run, result.as_ref()))
    }

    /// Note what it is of.
    fn begin(&self, report: &mut BacktestReport) {
        report.begun_at = Some(self.now);
        report.live = LiveKey::of(self.compiled, &self.model.installed);
        report.of_all = self.workspace.projection.read().index.population().len();
        let features = features(self.model);
        let effects = reading(self.plan(), &features).map(|plan| {
            let effect = AudienceEffect { definition: definition(plan), ..AudienceEffect::default() };
            (plan.audience.id, effect)
        });
        report.audiences = effects.collect();
    }

    /// The definitions of the audiences that are looked at.
    fn lines(&self, run: &Run) -> Lines {
        let mut kept = run.kept.lock();
        kept.report().audiences.iter().map(|(id, effect)| (*id, effect.definition)).collect()
    }

    /// The people behind `last`, as many as a batch has room for.
    fn read(&self, last: Option<SourceIdentityId>) -> Result<Batch, ReadError> {
        let (store, workspace) = (Arc::clone(&self.shared.store), self.workspace.id);
        let pages = match last {
            Some(last) => ProfilePages::after(store, workspace, last),
            None => ProfilePages::new(store, workspace),
        };
        let mut pages = pages.beginning_with(MAX_PEOPLE);
        let (started, mut batch, mut bytes) = (Instant::now(), Batch::default(), 0);
        // A page without anybody is one of identities that are others' members.
        let profiles = loop {
            match pages.next_page()? {
                Some(profiles) if profiles.is_empty() => {}
                Some(profiles) => break profiles,
                None => break Vec::new(),
            }
        };
        for people in profiles.into_iter().take(MAX_PEOPLE) {
            batch.last = people.first().map(|root| root.id);
            self.add(people, &mut batch, &mut bytes)?;
            if bytes > models::MAX_BATCH_BYTES || started.elapsed() > READING_TIME || !self.is_wanted() {
                break;
            }
        }
        // Those behind the last one are met again.
        let is_behind = |id: &SourceIdentityId| batch.last.is_some_and(|last| *id > last);
        let unreadable = pages.take_unreadable().into_iter().filter(|(id, _)| !is_behind(id)).count() as u64;
        batch.counts.done += unreadable;
        batch.counts.unreadable += unreadable;
        Ok(batch)
    }

    /// Read one person's inputs into the batch.
    fn add(&self, mut people: Vec<Person>, batch: &mut Batch, bytes: &mut usize) -> Result<(), ReadError> {
        batch.counts.done += 1;
        let ordinal = u32::try_from(batch.people.len()).unwrap_or(u32::MAX);
        match self.row(&mut people, ordinal) {
            Ok(Ok(row)) => {
                *bytes += models::row_bytes(&row);
                batch.rows.push(row);
                batch.people.push(people);
            }
            Ok(Err(Unasked::Objecting)) => batch.counts.objecting += 1,
            Ok(Err(Unasked::Unknown)) => batch.counts.unknown += 1,
            Ok(Err(Unasked::TooLarge)) => batch.counts.too_large += 1,
            Err(error @ ReadError::Io { .. }) => return Err(error),
            Err(error) => {
                tracing::warn!(%error, "somebody cannot be read and is left out of a backtest");
                batch.counts.unreadable += 1;
            }
        }
        Ok(())
    }

    /// One person's inputs. What no aggregate is kept of is computed from the history.
    fn row(&self, people: &mut [Person], ordinal: u32) -> Result<Result<InputRow, Unasked>, ReadError> {
        let view = self.view();
        for (_, input) in self.inputs.iter().filter(|(_, input)| self.is_kept(input)) {
            load_sealed(self.shared.store.as_ref(), self.workspace.id, people, input, view)?;
        }
        let profile = Profile::new(people.iter().collect(), view);
        if profile.objects() {
            return Ok(Err(Unasked::Objecting));
        }
        let events = if self.inputs.iter().all(|(_, input)| self.is_kept(input)) {
            Vec::new()
        } else {
            let Some(events) = self.events(people)? else { return Ok(Err(Unasked::TooLarge)) };
            events
        };
        let names = &self.plan().source_names;
        let source = |event: &Event| names.get(&event.source).map_or("", String::as_str);
        let facts: Vec<EventFacts<'_>> = events.iter().map(|event| EventFacts::new(event, source(event))).collect();
        let (mut cells, mut misfit) = (Vec::with_capacity(self.inputs.len()), None);
        for (spec, input) in &self.inputs {
            let value = if self.is_kept(input) {
                profile.evaluate(input)
            } else {
                kith_features::naive::evaluate(input, &profile, &facts, view.now, view.zone)
            };
            if value.is_unknown() {
                return Ok(Err(Unasked::Unknown));
            }
            cells.push(models::cell_or_null(spec, value.to_cell(&spec.column_type, view.zone), &mut misfit));
        }
        // The hash says what a stored value is of, and nothing of this is stored.
        Ok(Ok(InputRow { profile: ProfileId(profile.root().id), ordinal, inputs: 0, cells, misfit }))
    }

    /// Whether all aggregates that an expression reads are kept, and hold the history of everybody.
    fn is_kept(&self, expression: &Expression) -> bool {
        let mut leaves = expression.reads().leaves.iter();
        leaves.all(|leaf| self.complete.contains(*leaf) && self.plan().program.leaf(*leaf).is_some())
    }

    /// All events of these people; `None` where they are too many, or nobody wants them any more.
    fn events(&self, people: &[Person]) -> Result<Option<Vec<Event>>, ReadError> {
        let store = self.shared.store.as_ref();
        whole_history(store, self.workspace.id, people, self.position, || self.is_wanted())
    }

    /// Ask the version about the rows; nothing where there are none.
    fn ask(&self, rows: Vec<InputRow>) -> Option<JobResult> {
        let (Role::TagModel(asked) | Role::Scorer(asked)) = &self.version.role else { return None };
        if rows.is_empty() {
            return None;
        }
        let ShadowVersion { digest, config_hash, outputs, inputs, plugin_version, .. } = self.version;
        let job = Job {
            installation: self.model.installed.id,
            plugin: format!("{}@{plugin_version}", self.model.installed.plugin),
            version: ModelVersion {
                digest: digest.clone(),
                config_hash: *config_hash,
                outputs: outputs.iter().map(|output| output.name.clone()).collect(),
                ..self.model.version()
            },
            model: Arc::clone(asked),
            state: self.model.installed.fitted.as_ref().map(|fitted| Arc::clone(&fitted.bytes)),
            columns: inputs.clone(),
            rows,
            max_calls: MAX_CALLS,
            further: Further::Always,
        };
        let started = Instant::now();
        Some(job.run(|_| started.elapsed() < ASKING_TIME && self.is_wanted()))
    }

    /// What would change of each who was asked about.
    fn findings(
        &self,
        batch: &mut Batch,
        result: Option<&JobResult>,
        asked: usize,
        lines: &Lines,
    ) -> Result<Vec<Finding>, ReadError> {
        let mut findings = Vec::new();
        let Some(result) = result else { return Ok(findings) };
        batch.counts.given_up += asked.saturating_sub(result.rows.len()) as u64;
        for (row, outcome) in &result.rows {
            let values = match outcome {
                RowOutcome::Values(answer) => &answer.values,
                RowOutcome::Faulted(_) | RowOutcome::Later(_) => {
                    batch.counts.failed += 1;
                    continue;
                }
            };
            let Some(people) = batch.people.get_mut(row.ordinal as usize) else { continue };
            let given = self.version.outputs.iter().zip(values);
            let given = given.map(|(output, value)| (self.model.feature(&output.name), output_value(value)));
            // What the live version alone writes nobody would write.
            let mut instead: BTreeMap<FeatureName, Value> =
                features(self.model).into_iter().map(|feature| (feature, Value::Null)).collect();
            instead.extend(given);
            match self.finding(people, instead, lines) {
                Ok(finding) => {
                    batch.counts.compared += 1;
                    batch.counts.pending += u64::from(finding.is_pending);
                    findings.push(finding);
                }
                Err(error @ ReadError::Io { .. }) => return Err(error),
                Err(error) => {
                    tracing::warn!(%error, "somebody cannot be read and is left out of a backtest");
                    batch.counts.unreadable += 1;
                }
            }
        }
        Ok(findings)
    }

    fn note(&self, run: &Run, batch: &Batch, result: Option<&JobResult>, findings: &[Finding], last: SourceIdentityId) {
        run.record(self.shared, |kept| {
            findings.iter().for_each(|finding| note(kept, finding));
            let faults = || result.iter().flat_map(|result| &result.rows).filter_map(|(_, outcome)| outcome.fault());
            if let Some(fault) = faults().next_back() {
                kept.last_failure = Some(failure(self.now, fault));
            }
            if let Some(result) = result {
                kept.fruitless = fruitless_after(kept.fruitless, result.rows.iter().map(|(_, outcome)| outcome));
            }
            let report = kept.report();
            result.iter().flat_map(|result| &result.calls).for_each(|call| report.version.call(call));
            faults().for_each(|fault| report.version.fault(fault));
            report.people.add(batch.counts);
            report.last = Some(last);
        });
    }

    /// Give a run up whose version answers for nobody.
    fn given_up(&self, run: &Run, result: Option<&JobResult>) -> Next {
        let mut faults = result.iter().flat_map(|result| &result.rows).filter_map(|(_, outcome)| outcome.fault());
        let (fault, fruitless) = (faults.next_back(), run.kept.lock().fruitless);
        if let Some(fault) = fault.filter(|fault| models::needs_fit(fault) && fruitless > 0) {
            let message = "it cannot read the fit in use, and a backtest fits nothing; upgrade to it, and it waits for a fit of its own";
            run.give_up(self.shared, fault.code(), message.to_owned());
            return Next::Nothing;
        }
        if fruitless < MAX_FRUITLESS {
            return Next::Batch;
        }
        let message = format!("it answered for nobody in {fruitless} batches of people, one after the other");
        run.give_up(self.shared, fault.map_or("no-answer", PluginFault::code), message);
        Next::Nothing
    }
}

/// Batches in a row without an answer, after one more about which the version was asked.
fn fruitless_after<'o>(before: u32, mut outcomes: impl Iterator<Item = &'o RowOutcome>) -> u32 {
    if outcomes.any(|outcome| matches!(outcome, RowOutcome::Values(_))) { 0 } else { before + 1 }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::react::models::RowAnswer;

    #[test]
    fn an_answer_for_one_is_fruit_and_none_for_anybody_is_not() {
        let (answered, failed) =
            (RowOutcome::Values(RowAnswer::default()), RowOutcome::Faulted(PluginFault::Transient("later".to_owned())));
        assert_eq!(fruitless_after(2, [&failed, &answered].into_iter()), 0);
        assert_eq!(fruitless_after(1, [&failed].into_iter()), 2);
        assert_eq!(fruitless_after(2, std::iter::empty()), 3, "the time was over before anybody was answered for");
    }
}
