//! Running a tag model or a scorer on batches of people: their inputs as columns, its answer as values, and a batch that
//! fails halved until the rows that it cannot take are alone.

pub(crate) mod alone;
mod digest;

use std::collections::{BTreeMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_features::{MAX_PRODUCED_BYTES, MAX_STEPS, Misfit, Value};
use kith_model::id::{InstallationId, ProfileId};
use kith_model::plugin::{ComputeModel, EmittedEvent, InputSpec, ModelPass, PluginFault};
use kith_model::table::{Cell, ColumnBuilder, Table};
use kith_model::time::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use self::digest::row_digest;
use crate::plan::ModelPlan;
use crate::profiles::evaluation::Profile;
use crate::rows::derived::{ModelVersion, OutputValue};
use crate::rows::{ComputationSubject, MAX_NAMED_PEOPLE, RowDigest};
use crate::shadow::report::SeenCall;

/// Rows in one call of a compute plugin: enough that the call's own cost vanishes, few enough to stay within its limits.
pub(crate) const MAX_BATCH_ROWS: usize = 4_096;

/// Bytes of lists and texts in one call. A plugin holds its input and its own copies in 64 MiB, and a few profiles with long
/// histories must not make a batch that no plugin can take.
pub(crate) const MAX_BATCH_BYTES: usize = 8 << 20;

/// Rows in one job: some batches of a model that is quick, in which one instance serves all of them.
pub(crate) const MAX_JOB_ROWS: usize = 3 * MAX_BATCH_ROWS;

/// How long a job has lasted when it begins no other batch. Others wait for its thread, and the reactor for its answers.
pub(crate) const BRIEF: Duration = Duration::from_millis(10);

/// When a job goes on to its next batch.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Further {
    /// Where everybody in the one before was answered for and the job is [`BRIEF`]; the others wait for another job.
    WhileBrief,
    Always,
}

/// Calls that one batch may take while a job looks for the rows that a model cannot take: enough to ask about each of 64 people
/// alone. What is left then is tried again later, because a model that fails on everybody must not be asked for each of them.
const MAX_CALLS: usize = 128;

/// Events that a model may emit of one row, and their bytes: each row's wait with its answer.
const MAX_ROW_EVENTS: usize = 64;
const MAX_ROW_EVENT_BYTES: usize = 16 << 10;

/// How long a job looks for somebody whom a model answers for, once it has failed on somebody alone. What it failed on is told then:
/// a model that takes all its time for each call would be looked at for minutes before anybody hears of it.
const FRUITLESS: Duration = Duration::from_secs(10);

/// One profile's inputs to one model.
#[derive(Debug, Clone)]
pub(crate) struct InputRow {
    pub profile: ProfileId,
    pub ordinal: u32,
    /// Hash of what the model depends on.
    pub inputs: u64,
    pub cells: Vec<Cell>,
    /// Why the model is not asked about it: a value that its column cannot say.
    pub misfit: Option<PluginFault>,
}

/// People for one model, in batches.
pub(crate) struct Job {
    pub installation: InstallationId,
    /// The plugin and its version, for people.
    pub plugin: String,
    /// Which model version's values these will be.
    pub version: ModelVersion,
    pub model: Arc<dyn ComputeModel>,
    pub state: Option<Arc<[u8]>>,
    pub columns: Vec<InputSpec>,
    pub rows: Vec<InputRow>,
    /// Calls that each of its batches may take while it looks for the rows that the model cannot take.
    pub max_calls: usize,
    pub further: Further,
}

/// Rows that a job is done with, and the calls that it made for them.
#[derive(Default)]
struct Asked {
    rows: Vec<(InputRow, RowOutcome)>,
    calls: Vec<SeenCall>,
}

/// What a model said of one row.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct RowAnswer {
    /// In the order of the model's outputs.
    pub values: Vec<OutputValue>,
    /// Events that it emitted of the row's person.
    pub events: Vec<EmittedEvent>,
}

/// What came of one row.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum RowOutcome {
    Values(RowAnswer),
    /// The model cannot take this row, about which it was asked alone: the same inputs are not tried again.
    Faulted(PluginFault),
    /// Something passing, a state that cannot be read, or too many failures beside it: try again later.
    Later(PluginFault),
}

impl RowOutcome {
    /// Why there are no values.
    pub(crate) fn fault(&self) -> Option<&PluginFault> {
        match self {
            RowOutcome::Values(_) => None,
            RowOutcome::Faulted(fault) | RowOutcome::Later(fault) => Some(fault),
        }
    }
}

/// What came of a job.
pub(crate) struct JobResult {
    pub installation: InstallationId,
    pub version: ModelVersion,
    /// The plugin that was asked, and by which columns; nobody is named in it.
    pub about: ComputationSubject,
    /// Each row without its cells, which are not needed any more, and what came of it.
    pub rows: Vec<(InputRow, RowOutcome)>,
    /// What the model was given of the people on whom it failed and whom a dead letter may name.
    pub digests: BTreeMap<ProfileId, RowDigest>,
    pub took: Duration,
    /// How its calls went.
    pub calls: Vec<SeenCall>,
}

impl Job {
    /// A job for `model` over these rows.
    pub(crate) fn new(model: &ModelPlan, rows: Vec<InputRow>) -> Job {
        Job {
            installation: model.installed.id,
            plugin: format!("{}@{}", model.installed.plugin, model.installed.plugin_version),
            version: model.version(),
            model: Arc::clone(&model.model),
            state: model.installed.fitted.as_ref().map(|fitted| Arc::clone(&fitted.bytes)),
            columns: model.inputs.iter().map(|(spec, _)| spec.clone()).collect(),
            rows,
            max_calls: MAX_CALLS,
            further: Further::WhileBrief,
        }
    }

    /// Bytes that the job holds while it waits.
    pub(crate) fn size_bytes(&self) -> usize {
        self.rows.iter().map(row_bytes).sum()
    }

    /// Run the model, batch by batch in one pass of it; one outcome for each row that was asked about.
    ///
    /// Nobody is asked about any more where the answers are not `wanted`: the version was replaced, switched off or removed, or the
    /// kernel stops. Who is left without an outcome waits as before.
    pub(crate) fn run(self, wanted: impl Fn(&Job) -> bool) -> JobResult {
        self.run_whole(wanted).0
    }

    /// The same, with the cells of each of the result's rows; none of a row that was not asked about.
    pub(crate) fn run_whole(self, wanted: impl Fn(&Job) -> bool) -> (JobResult, Vec<Vec<Cell>>) {
        let (model, state) = (Arc::clone(&self.model), self.state.clone());
        let mut pass = model.pass(state.as_deref().unwrap_or_default());
        self.run_in(&mut *pass, wanted)
    }

    /// The same over a pass that others share.
    fn run_in(mut self, pass: &mut dyn ModelPass, wanted: impl Fn(&Job) -> bool) -> (JobResult, Vec<Vec<Cell>>) {
        let (started, mut asked) = (Instant::now(), Asked::default());
        let mut rest = self.rows_to_ask(&mut asked.rows);
        let unasked = asked.rows.len();
        while !rest.is_empty() {
            let behind = rest.split_off(rest.len().min(MAX_BATCH_ROWS));
            let batch = std::mem::replace(&mut rest, behind);
            let (begun, end) = (asked.rows.len(), asked.rows.len() + batch.len());
            self.search(pass, batch, &wanted, &mut asked);
            let goes_on = match self.further {
                Further::Always => true,
                Further::WhileBrief => {
                    let is_answered = |(_, outcome): &(InputRow, RowOutcome)| outcome.fault().is_none();
                    started.elapsed() < BRIEF && asked.rows[begun..].iter().all(is_answered)
                }
            };
            if !goes_on || asked.rows.len() < end {
                break;
            }
        }
        let Asked { rows: mut done, calls } = asked;
        let digests = digests(&self.columns, &done[unasked..]);
        let Job { installation, plugin, version, columns, .. } = self;
        let inputs = columns.into_iter().map(|column| column.name).collect();
        let about = ComputationSubject { plugin, inputs, people: Vec::new() };
        let cells = done.iter_mut().map(|(row, _)| std::mem::take(&mut row.cells)).collect();
        let result = JobResult { installation, version, about, rows: done, digests, took: started.elapsed(), calls };
        (result, cells)
    }

    /// Ask about a batch. One that fails is halved until a row is alone. While nobody has succeeded, the search goes on in the
    /// largest batch that is left: where those who came first all fail, because one sender made them, the others are heard none the
    /// less.
    fn search(
        &self,
        pass: &mut dyn ModelPass,
        batch: Vec<InputRow>,
        wanted: &impl Fn(&Job) -> bool,
        asked: &mut Asked,
    ) {
        let Asked { rows: done, calls: seen } = asked;
        let (started, mut waiting) = (Instant::now(), VecDeque::from([batch]));
        let (mut calls, mut is_any_good, mut is_alone, mut has_failed_alone) = (0, false, false, false);
        while let Some(mut batch) = if is_alone && !is_any_good { waiting.pop_front() } else { waiting.pop_back() } {
            if !wanted(self) || (!is_any_good && has_failed_alone && started.elapsed() > FRUITLESS) {
                break;
            }
            calls += 1;
            is_alone = batch.len() == 1;
            let (call, answer) = SeenCall::of(|| self.call(pass, &batch));
            seen.push(call);
            match answer {
                Ok(answers) => {
                    is_any_good = true;
                    done.extend(batch.into_iter().zip(answers).map(|(row, answer)| (row, RowOutcome::Values(answer))));
                }
                // No row can do anything about either, so there is none to look for.
                Err(fault) if is_passing(&fault) || needs_fit(&fault) => {
                    done.extend(each(batch, &RowOutcome::Later(fault)))
                }
                Err(fault) if is_alone => {
                    has_failed_alone = true;
                    done.extend(each(batch, &RowOutcome::Faulted(fault)));
                }
                // One of these is at fault, and the others were never asked about alone.
                Err(fault) if calls + waiting.len() + 2 > self.max_calls => {
                    done.extend(each(batch, &RowOutcome::Later(fault)));
                }
                Err(_) => {
                    let rest = batch.split_off(batch.len() / 2);
                    waiting.extend([rest, batch]);
                }
            }
        }
    }

    /// The rows that the model is asked about; the others are `done`.
    fn rows_to_ask(&mut self, done: &mut Vec<(InputRow, RowOutcome)>) -> Vec<InputRow> {
        let mut rows = Vec::with_capacity(self.rows.len());
        for mut row in std::mem::take(&mut self.rows) {
            match row.misfit.take() {
                Some(fault) => done.push((bare(row), RowOutcome::Faulted(fault))),
                None => rows.push(row),
            }
        }
        rows
    }

    fn call(&self, pass: &mut dyn ModelPass, batch: &[InputRow]) -> Result<Vec<RowAnswer>, PluginFault> {
        let input = table(&self.columns, batch.iter().map(|row| row.cells.as_slice()))?;
        // A panic of the host is of this batch alone; the reactor waits for an answer to each job.
        let computed = catch_unwind(AssertUnwindSafe(|| pass.answer(input)));
        let answer = computed.unwrap_or_else(|_| {
            let message = "the host panicked; the log says where".to_owned();
            Err(PluginFault::Trapped { message, backtrace: Vec::new() })
        })?;
        let values = outputs(&self.version.outputs, &answer.table, batch.len())?;
        let events = events(answer.events, batch.len())?;
        Ok(values.into_iter().zip(events).map(|(values, events)| RowAnswer { values, events }).collect())
    }
}

/// The digests of the rows that a model was given and could not take, and of the first of those who wait for the end of something
/// passing: a letter names no more of them, and hashing thousands of rows would delay the answers of the others.
fn digests(columns: &[InputSpec], asked: &[(InputRow, RowOutcome)]) -> BTreeMap<ProfileId, RowDigest> {
    let passing = asked.iter().filter(|(_, outcome)| matches!(outcome, RowOutcome::Later(fault) if is_passing(fault)));
    let faulted = asked.iter().filter(|(_, outcome)| matches!(outcome, RowOutcome::Faulted(_)));
    let failed = faulted.chain(passing.take(MAX_NAMED_PEOPLE));
    failed.filter_map(|(row, _)| Some((row.profile, row_digest(columns, &row.cells)?))).collect()
}

/// The row without its cells.
fn bare(row: InputRow) -> InputRow {
    InputRow { cells: Vec::new(), ..row }
}

fn each(rows: Vec<InputRow>, outcome: &RowOutcome) -> impl Iterator<Item = (InputRow, RowOutcome)> {
    rows.into_iter().map(move |row| (row, outcome.clone()))
}

/// Whether the same call may succeed later without anybody changing anything.
pub(crate) fn is_passing(fault: &PluginFault) -> bool {
    matches!(fault, PluginFault::Transient(_) | PluginFault::Unavailable(_))
}

/// Whether every call will fail like this until the model has been fitted.
pub(crate) fn needs_fit(fault: &PluginFault) -> bool {
    matches!(fault, PluginFault::UnreadableState(_))
}

/// What a row takes in memory beyond its places in the columns.
pub(crate) fn row_bytes(row: &InputRow) -> usize {
    row.cells.iter().map(variable_bytes).sum::<usize>() + size_of::<InputRow>()
}

/// What the cells of a row take in memory.
pub(crate) fn cells_bytes(cells: &[Cell]) -> usize {
    cells.iter().map(|cell| variable_bytes(cell) + size_of::<Cell>()).sum()
}

/// What a cell takes beyond its place in the column.
fn variable_bytes(cell: &Cell) -> usize {
    match cell {
        Cell::Null | Cell::Boolean(_) | Cell::Int64(_) | Cell::Float64(_) | Cell::Timestamp(_) => 0,
        Cell::Text(text) => text.len(),
        Cell::Int64List(items) | Cell::TimestampList(items) => 8 * items.len(),
        Cell::Float64List(items) => 8 * items.len(),
        Cell::TextList(items) => items.iter().map(|item| item.len() + size_of::<i32>()).sum(),
        Cell::Records(records) => records.iter().map(|record| size_of::<Vec<Cell>>() + cells_bytes(record)).sum(),
    }
}

/// A profile's inputs to a model, with why it is not asked about them where one of them is no cell of its column; `None` while
/// one of them is unknown, and for a person who objects to profiling.
///
/// Where an input reads `now`, its hash counts it as of the day's beginning: such a model runs again every day, not at every
/// moment.
pub(crate) fn inputs(model: &ModelPlan, profile: &Profile<'_>, today: Timestamp) -> Option<InputRow> {
    if profile.objects() {
        return None;
    }
    let mut hash = Xxh3::new();
    hash.update(&model.token.to_be_bytes());
    let mut cells = Vec::with_capacity(model.inputs.len());
    let mut misfit = None;
    for (spec, input) in &model.inputs {
        let Some(value) = profile.evaluate_within(input) else {
            // Apart from a value that is there or absent, so that the model is asked as soon as there is one.
            hash.update(&[3]);
            misfit.get_or_insert_with(|| out_of_budget(spec));
            cells.push(Cell::Null);
            continue;
        };
        if matches!(value, Value::Unknown) {
            return None;
        }
        let cell = value.to_cell(&spec.column_type, profile.view.zone);
        if input.reads().uses_now {
            update_input(&mut hash, &profile.evaluate_at(input, today).to_cell(&spec.column_type, profile.view.zone));
        } else {
            update_input(&mut hash, &cell);
        }
        cells.push(cell_or_null(spec, cell, &mut misfit));
    }
    let root = profile.root();
    Some(InputRow { profile: ProfileId(root.id), ordinal: root.ordinal, inputs: hash.digest(), cells, misfit })
}

/// A cell of a row. What is none is null, and the row has the first of these for its misfit.
pub(crate) fn cell_or_null(spec: &InputSpec, cell: Result<Cell, Misfit>, misfit: &mut Option<PluginFault>) -> Cell {
    cell.unwrap_or_else(|problem| {
        misfit.get_or_insert_with(|| refusal_of(spec, problem));
        Cell::Null
    })
}

/// Why a model is not asked about somebody for whom one of its inputs is too dear.
fn out_of_budget(spec: &InputSpec) -> PluginFault {
    PluginFault::BadInput(format!(
        "the input `{}` takes more than one evaluation may ({MAX_STEPS} steps, {} MiB of texts and lists): what it goes over is too long",
        spec.name,
        MAX_PRODUCED_BYTES >> 20
    ))
}

/// Why a model is not asked about somebody. The value itself is not told: it is a person's.
fn refusal_of(spec: &InputSpec, problem: Misfit) -> PluginFault {
    PluginFault::BadInput(format!(
        "the input `{}` is declared int64-list, and {problem}; a version of the plugin that declares float64-list, or cuts fractions \
         off with `.map(x, int(x))`, can take it",
        spec.name
    ))
}

fn update_input(hash: &mut Xxh3, cell: &Result<Cell, Misfit>) {
    match cell {
        Ok(cell) => update(hash, cell),
        // Apart from a cell that is null and one that is there.
        Err(_) => hash.update(&[2]),
    }
}

fn update(hash: &mut Xxh3, cell: &Cell) {
    let text = |hash: &mut Xxh3, text: &str| {
        hash.update(&(text.len() as u64).to_be_bytes());
        hash.update(text.as_bytes());
    };
    let numbers = |hash: &mut Xxh3, numbers: &[i64]| {
        hash.update(&(numbers.len() as u64).to_be_bytes());
        numbers.iter().for_each(|number| hash.update(&number.to_be_bytes()));
    };
    // A cell that is absent must not read like the one beside it.
    hash.update(&[u8::from(*cell != Cell::Null)]);
    match cell {
        Cell::Null => {}
        Cell::Boolean(value) => hash.update(&[u8::from(*value)]),
        Cell::Int64(value) | Cell::Timestamp(value) => hash.update(&value.to_be_bytes()),
        Cell::Float64(value) => hash.update(&value.to_bits().to_be_bytes()),
        Cell::Text(value) => text(hash, value),
        Cell::Int64List(values) | Cell::TimestampList(values) => numbers(hash, values),
        Cell::Float64List(values) => {
            let bits: Vec<i64> = values.iter().map(|value| value.to_bits().cast_signed()).collect();
            numbers(hash, &bits);
        }
        Cell::TextList(values) => {
            hash.update(&(values.len() as u64).to_be_bytes());
            values.iter().for_each(|value| text(hash, value));
        }
        Cell::Records(records) => {
            hash.update(&(records.len() as u64).to_be_bytes());
            records.iter().flatten().for_each(|cell| update(hash, cell));
        }
    }
}

/// The input table of a batch.
pub(crate) fn table<'a>(columns: &[InputSpec], rows: impl Iterator<Item = &'a [Cell]>) -> Result<Table, PluginFault> {
    let mut builders: Vec<ColumnBuilder> =
        columns.iter().map(|spec| ColumnBuilder::new(spec.name.clone(), &spec.column_type)).collect();
    let mut count = 0;
    for row in rows {
        for (column, cell) in builders.iter_mut().zip(row) {
            column.push(cell.clone()).map_err(|wrong| PluginFault::BadInput(wrong.to_string()))?;
        }
        count += 1;
    }
    Ok(Table { rows: count, columns: builders.into_iter().map(ColumnBuilder::finish).collect() })
}

/// The values of each row, in the order of the model's outputs.
fn outputs(names: &[String], table: &Table, rows: usize) -> Result<Vec<Vec<OutputValue>>, PluginFault> {
    let broken = |problem: String| PluginFault::InvalidOutput(problem);
    if table.rows != rows {
        return Err(broken(format!("{} rows for {rows} rows of input", table.rows)));
    }
    let columns: Result<Vec<_>, PluginFault> =
        names.iter().map(|name| table.column(name).ok_or_else(|| broken(format!("no column `{name}`")))).collect();
    let columns = columns?;
    Ok((0..rows).map(|row| columns.iter().map(|column| output(column.cell(row))).collect()).collect())
}

/// The events of each row.
fn events(emitted: Vec<(u32, EmittedEvent)>, rows: usize) -> Result<Vec<Vec<EmittedEvent>>, PluginFault> {
    let mut events: Vec<Vec<EmittedEvent>> = vec![Vec::new(); rows];
    for (row, event) in emitted {
        let of_row = events.get_mut(row as usize).ok_or_else(|| {
            PluginFault::InvalidOutput(format!("an event of row {row} was emitted, and there are {rows}"))
        })?;
        of_row.push(event);
    }
    let bytes = |of_row: &Vec<EmittedEvent>| of_row.iter().map(EmittedEvent::size_bytes).sum::<usize>();
    if events.iter().any(|of_row| of_row.len() > MAX_ROW_EVENTS) {
        return Err(PluginFault::LimitExceeded { what: "events of one row", limit: MAX_ROW_EVENTS as u64 });
    }
    if events.iter().any(|of_row| bytes(of_row) > MAX_ROW_EVENT_BYTES) {
        return Err(PluginFault::LimitExceeded {
            what: "bytes of events of one row",
            limit: MAX_ROW_EVENT_BYTES as u64,
        });
    }
    Ok(events)
}

/// One cell of a model's answer as it is kept.
fn output(cell: Cell) -> OutputValue {
    match cell {
        Cell::Boolean(value) => OutputValue::Bool(value),
        Cell::Int64(value) | Cell::Timestamp(value) => OutputValue::Int(value),
        // What is not a number is no value: it equals nothing, and its bits differ from machine to machine.
        Cell::Float64(value) if value.is_finite() => OutputValue::Float(value),
        Cell::Text(value) => OutputValue::Text(value),
        Cell::Null
        | Cell::Float64(_)
        | Cell::Int64List(_)
        | Cell::Float64List(_)
        | Cell::TimestampList(_)
        | Cell::TextList(_)
        | Cell::Records(_) => OutputValue::Null,
    }
}

#[cfg(test)]
mod tests;
