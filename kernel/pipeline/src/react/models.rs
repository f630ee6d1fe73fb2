//! Running tag models and scorers: exactly where inputs changed, in batches of columns.

use std::sync::Arc;

use kith_features::Zone;
use kith_model::id::Position;
use kith_model::plugin::PluginFault;
use kith_model::table::{Cell, ColumnBuilder, Table};
use kith_model::time::Timestamp;
use xxhash_rust::xxh3::Xxh3;

use super::state::{ProfileFacts, ProfileState};
use crate::plan::{ModelPlan, Plan};
use crate::rows::{Computed, OutputValue};

/// Rows in one call of a compute plugin: enough that the call's own cost vanishes, few enough to stay within its limits.
pub(crate) const MAX_BATCH_ROWS: usize = 10_000;

/// Bytes of lists and texts in one call. A plugin holds its input and its own copies in 64 MiB, and a few profiles with long
/// histories must not make a batch that no plugin can take.
const MAX_BATCH_BYTES: usize = 8 << 20;

/// One profile's inputs to one model.
struct Row {
    /// Where the profile is in the slice that is being computed.
    index: usize,
    cells: Vec<Cell>,
    hash: u64,
}

/// What a run of a model changed.
#[derive(Default)]
pub(crate) struct Ran {
    /// The profiles (by place in the slice) whose values are new.
    pub computed: Vec<usize>,
    /// A batch that failed, and how many profiles were in it.
    pub faults: Vec<(PluginFault, Vec<usize>)>,
}

/// Run `model` on those of `profiles` whose inputs are not what its last values were computed from.
pub(crate) fn run(
    model: &ModelPlan,
    version: u32,
    profiles: &mut [ProfileState],
    plan: &Plan,
    zone: &Zone,
    now: Timestamp,
    cause: impl Fn(usize) -> Position,
) -> Ran {
    let mut stale = Vec::new();
    for (index, profile) in profiles.iter().enumerate() {
        let facts = ProfileFacts { state: profile, plan };
        let cells = inputs(model, &facts, now);
        let hash = hash(model, &facts, &cells, zone.start_of_day(zone.day(now)));
        let held = profile.derived.outputs.get(&model.installed.id);
        if held.is_none_or(|held| held.inputs != hash || held.version != version) {
            stale.push(Row { index, cells, hash });
        }
    }
    let mut ran = Ran::default();
    let state = model.installed.fitted.as_ref().map(|fitted| Arc::clone(&fitted.bytes));
    for batch in batches(stale) {
        let indexes: Vec<usize> = batch.iter().map(|row| row.index).collect();
        let hashes: Vec<u64> = batch.iter().map(|row| row.hash).collect();
        let started = std::time::Instant::now();
        let outcome = table(model, batch.into_iter().map(|row| row.cells))
            .and_then(|table| model.model.compute(state.as_deref().unwrap_or_default(), table))
            .and_then(|table| outputs(model, &table, indexes.len()));
        // Figures are the process's, and whoever may see them belongs to one workspace: no name of another's is in them.
        let kind = model.installed.kind.as_str();
        metrics::histogram!("kith_model_batch_seconds", "kind" => kind).record(started.elapsed().as_secs_f64());
        match outcome {
            Ok(values) => {
                for ((index, inputs), values) in indexes.iter().zip(hashes).zip(values) {
                    let computed = Computed { version, cause: cause(*index), at: now, inputs, values };
                    profiles[*index].derived.outputs.insert(model.installed.id, computed);
                    ran.computed.push(*index);
                }
            }
            Err(fault) => ran.faults.push((fault, indexes)),
        }
    }
    ran
}

/// The rows cut into calls. A row that is larger than a whole call has one of its own.
fn batches(rows: Vec<Row>) -> Vec<Vec<Row>> {
    let mut batches: Vec<Vec<Row>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let row_bytes: usize = row.cells.iter().map(variable_bytes).sum();
        bytes += row_bytes;
        match batches.last_mut() {
            Some(batch) if batch.len() < MAX_BATCH_ROWS && bytes <= MAX_BATCH_BYTES => batch.push(row),
            _ => {
                batches.push(vec![row]);
                bytes = row_bytes;
            }
        }
    }
    batches
}

/// What a cell takes beyond its place in the column.
fn variable_bytes(cell: &Cell) -> usize {
    match cell {
        Cell::Null | Cell::Boolean(_) | Cell::Int64(_) | Cell::Float64(_) | Cell::Timestamp(_) => 0,
        Cell::Text(text) => text.len(),
        Cell::Int64List(items) | Cell::TimestampList(items) => 8 * items.len(),
        Cell::Float64List(items) => 8 * items.len(),
        Cell::TextList(items) => items.iter().map(|item| item.len() + size_of::<i32>()).sum(),
    }
}

/// The cells of one profile's row, in the order of the model's inputs.
pub(crate) fn inputs(model: &ModelPlan, facts: &ProfileFacts<'_>, now: Timestamp) -> Vec<Cell> {
    let leaf = |id| facts.state.leaf_values.get(&id).cloned().unwrap_or_default();
    model.inputs.iter().map(|(spec, input)| input.evaluate(facts, &leaf, now).to_cell(spec.column_type)).collect()
}

/// A hash of what the model depends on. Where an input reads `now` it counts as of the day's beginning: such a model runs
/// again every day, not at every moment.
fn hash(model: &ModelPlan, facts: &ProfileFacts<'_>, cells: &[Cell], today: Timestamp) -> u64 {
    let mut hash = Xxh3::new();
    hash.update(&model.token.to_be_bytes());
    for ((spec, input), cell) in model.inputs.iter().zip(cells) {
        if input.reads().uses_now {
            let leaf = |id| facts.state.leaf_values.get(&id).cloned().unwrap_or_default();
            update(&mut hash, &input.evaluate(facts, &leaf, today).to_cell(spec.column_type));
        } else {
            update(&mut hash, cell);
        }
    }
    hash.digest()
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
    match cell {
        Cell::Null => hash.update(&[0]),
        Cell::Boolean(value) => hash.update(&[1, u8::from(*value)]),
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
    }
}

/// The input table of a batch.
pub(crate) fn table(model: &ModelPlan, rows: impl Iterator<Item = Vec<Cell>>) -> Result<Table, PluginFault> {
    let mut columns: Vec<ColumnBuilder> =
        model.inputs.iter().map(|(spec, _)| ColumnBuilder::new(spec.name.clone(), spec.column_type)).collect();
    let mut count = 0;
    for row in rows {
        for (column, cell) in columns.iter_mut().zip(row) {
            column.push(cell).map_err(|wrong| PluginFault::Unavailable(wrong.to_string()))?;
        }
        count += 1;
    }
    Ok(Table { rows: count, columns: columns.into_iter().map(ColumnBuilder::finish).collect() })
}

/// The values of each row, in the order of the model's outputs.
fn outputs(model: &ModelPlan, table: &Table, rows: usize) -> Result<Vec<Vec<OutputValue>>, PluginFault> {
    let broken = |problem: String| PluginFault::InvalidOutput(problem);
    if table.rows != rows {
        return Err(broken(format!("{} rows for {rows} rows of input", table.rows)));
    }
    let mut columns = Vec::new();
    for output in &model.installed.outputs {
        let column = table.column(&output.name).ok_or_else(|| broken(format!("no column `{}`", output.name)))?;
        columns.push(column);
    }
    Ok((0..rows).map(|row| columns.iter().map(|column| output(column.cell(row))).collect()).collect())
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
        | Cell::TextList(_) => OutputValue::Null,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_not_a_finite_number_is_no_value() {
        assert_eq!(output(Cell::Float64(-0.5)), OutputValue::Float(-0.5));
        for number in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
            assert_eq!(output(Cell::Float64(number)), OutputValue::Null);
        }
    }

    #[test]
    fn a_batch_is_bounded_in_rows_and_in_bytes() {
        let row =
            |index, items| Row { index, cells: vec![Cell::Int64(1), Cell::TimestampList(vec![0; items])], hash: 0 };
        let sizes = |rows: Vec<Row>| batches(rows).iter().map(Vec::len).collect::<Vec<_>>();
        assert_eq!(sizes(Vec::new()), [0; 0]);
        assert_eq!(sizes((0..25_000).map(|index| row(index, 1)).collect()), [10_000, 10_000, 5_000]);
        let huge = MAX_BATCH_BYTES / 8 + 1;
        assert_eq!(sizes(vec![row(0, 1), row(1, huge), row(2, 1), row(3, 1)]), [1, 1, 2]);
        let rows = batches((0..30).map(|index| row(index, MAX_BATCH_BYTES / 8 / 4)).collect());
        assert!(rows.iter().all(|batch| batch.len() <= 4));
        let order: Vec<usize> = rows.iter().flatten().map(|row| row.index).collect();
        assert_eq!(order, (0..30).collect::<Vec<_>>());
    }
}
