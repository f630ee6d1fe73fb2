//! A model that is asked about rows which nobody stored, as it would be asked about people: for whoever tries a plugin without a
//! server.

use std::sync::Arc;

use kith_features::{Value, Zone};
use kith_model::id::{InstallationId, ProfileId, SourceIdentityId};
use kith_model::plugin::{Batch, ComputeModel, EmittedEvent, HeldBatches, Manifest, PluginFault};
use kith_model::table::{Cell, ColumnType, Table};
use kith_model::time::Timestamp;

use super::{
    FRUITLESS, Further, InputRow, Job, MAX_BATCH_BYTES, MAX_BATCH_ROWS, MAX_CALLS, ModelVersion, OutputValue,
    RowOutcome, cell_or_null, row_bytes, table,
};
use crate::rows::derived::OutputKind;

/// What a model said of one row.
#[derive(Debug, Clone, PartialEq)]
pub struct AnswerToRow {
    /// A cell for each output of the manifest, in its order.
    pub cells: Vec<Cell>,
    /// Events that it emitted, each of which a server takes once for a person and only where the answer is news.
    pub events: Vec<EmittedEvent>,
}

/// What a model answers about each of these rows, which have a value for each input of the manifest in its order: a cell for each
/// output and the events that it emits, or why there are none. It is asked in one pass, in calls of no more rows than a server's; a
/// row that is none of its columns is not given to it, and a call that fails is halved until the rows that it cannot take are alone.
pub fn answers_to(
    manifest: &Manifest,
    model: &Arc<dyn ComputeModel>,
    state: &[u8],
    rows: &[Vec<Value>],
) -> Vec<Result<AnswerToRow, PluginFault>> {
    answers_cut(manifest, model, state, rows, MAX_BATCH_ROWS)
}

/// The same in calls of so many rows, as far as a call may have as many.
pub fn answers_cut(
    manifest: &Manifest,
    model: &Arc<dyn ComputeModel>,
    state: &[u8],
    rows: &[Vec<Value>],
    size: usize,
) -> Vec<Result<AnswerToRow, PluginFault>> {
    let unasked = format!("not asked about: the model had answered for no row in {} seconds", FRUITLESS.as_secs());
    let mut answers = vec![Err(PluginFault::Unavailable(unasked)); rows.len()];
    let mut pass = model.pass(state);
    for batch in batches(input_rows(manifest, rows), size.clamp(1, MAX_BATCH_ROWS)) {
        for (row, outcome) in job(manifest, model, state, batch).run_in(&mut *pass, |_| true).0.rows {
            let types = manifest.outputs.iter().map(|output| &output.column_type);
            answers[row.ordinal as usize] = match outcome {
                RowOutcome::Values(answer) => {
                    let cells = answer.values.into_iter().zip(types).map(cell_of).collect();
                    Ok(AnswerToRow { cells, events: answer.events })
                }
                RowOutcome::Faulted(fault) | RowOutcome::Later(fault) => Err(fault),
            };
        }
    }
    answers
}

/// The inputs of a model as it is given them, of nobody.
///
/// # Errors
/// Where no table can be made of them.
pub fn no_rows(manifest: &Manifest) -> Result<Table, PluginFault> {
    table(&manifest.inputs, std::iter::empty())
}

/// A row of a fit that nobody stored.
#[derive(Debug, Clone, PartialEq)]
pub struct GivenRow {
    /// A value for each input of the manifest, in its order.
    pub values: Vec<Value>,
    /// Whose it is.
    pub id: u64,
    /// As of when it is, and what came after it; of a model that learns without labels nothing.
    pub past: Option<(Timestamp, Option<f64>)>,
}

/// Such rows as the data set of a fit, and why some are left out of it: one that is none of the model's columns must not keep it
/// from learning of all others.
///
/// # Errors
/// Where no table can be made of them.
pub fn dataset_of(manifest: &Manifest, rows: &[GivenRow]) -> Result<(HeldBatches, Vec<PluginFault>), PluginFault> {
    let (mut usable, mut left_out) = (Vec::new(), Vec::new());
    let values: Vec<Vec<Value>> = rows.iter().map(|row| row.values.clone()).collect();
    for mut row in input_rows(manifest, &values) {
        match row.misfit.take() {
            Some(fault) => left_out.push(fault),
            None => usable.push(row),
        }
    }
    let batch_of = |batch: Vec<InputRow>| {
        let given = || batch.iter().map(|row| &rows[row.ordinal as usize]);
        let past: Option<Vec<_>> = given().map(|row| row.past).collect();
        let (cut_offs, labels) = past.map(|past| past.into_iter().unzip()).unzip();
        let table = table(&manifest.inputs, batch.iter().map(|row| row.cells.as_slice()))?;
        Ok(Batch { rows: table, ids: given().map(|row| row.id).collect(), labels, cut_offs })
    };
    let batches =
        batches(usable, MAX_BATCH_ROWS).into_iter().map(batch_of).collect::<Result<Vec<Batch>, PluginFault>>()?;
    Ok((batches.into(), left_out))
}

fn job(manifest: &Manifest, model: &Arc<dyn ComputeModel>, state: &[u8], rows: Vec<InputRow>) -> Job {
    let installation = InstallationId(0);
    let version = ModelVersion {
        installation,
        digest: String::new(),
        config_hash: 0,
        fit: 0,
        kind: OutputKind::Tags,
        outputs: manifest.outputs.iter().map(|output| output.name.clone()).collect(),
    };
    Job {
        installation,
        plugin: format!("{}@{}", manifest.id, manifest.version),
        version,
        model: Arc::clone(model),
        state: Some(Arc::from(state)),
        columns: manifest.inputs.clone(),
        rows,
        max_calls: MAX_CALLS,
        further: Further::Always,
    }
}

fn input_rows(manifest: &Manifest, rows: &[Vec<Value>]) -> Vec<InputRow> {
    let zone = Zone::utc();
    let row = |(values, ordinal): (&Vec<Value>, u32)| {
        let mut misfit = None;
        let columns = manifest.inputs.iter().zip(values);
        let cells = columns
            .map(|(spec, value)| cell_or_null(spec, value.to_cell(&spec.column_type, &zone), &mut misfit))
            .collect();
        InputRow { profile: ProfileId(SourceIdentityId([0; 16])), ordinal, inputs: 0, cells, misfit }
    };
    rows.iter().zip(0..).map(row).collect()
}

/// Rows in the calls in which a model is given them, `size` in each at most.
fn batches(rows: Vec<InputRow>, size: usize) -> Vec<Vec<InputRow>> {
    let mut batches: Vec<Vec<InputRow>> = Vec::new();
    let mut bytes = 0;
    for row in rows {
        let more = row_bytes(&row);
        match batches.last_mut() {
            Some(batch) if batch.len() < size && bytes + more <= MAX_BATCH_BYTES => {
                bytes += more;
                batch.push(row);
            }
            _ => {
                bytes = more;
                batches.push(vec![row]);
            }
        }
    }
    batches
}

/// What was kept of a value, in its column again.
fn cell_of((value, column): (OutputValue, &ColumnType)) -> Cell {
    match value {
        OutputValue::Null => Cell::Null,
        OutputValue::Bool(value) => Cell::Boolean(value),
        OutputValue::Int(value) if *column == ColumnType::Timestamp => Cell::Timestamp(value),
        OutputValue::Int(value) => Cell::Int64(value),
        OutputValue::Float(value) => Cell::Float64(value),
        OutputValue::Text(value) => Cell::Text(value),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use kith_model::plugin::{
        Cancellation, Capabilities, Dataset, Fitted, InputSpec, LimitRequest, OutputSpec, PluginKind,
    };
    use kith_model::table::{ColumnBuilder, Table};

    use super::*;

    fn manifest() -> Manifest {
        let words = String::new;
        let input =
            InputSpec { name: "n".into(), expression: words(), column_type: ColumnType::Int64List, reason: words() };
        let output = OutputSpec {
            name: "size".into(),
            column_type: ColumnType::Int64,
            values: Vec::new(),
            description: words(),
            category: words(),
        };
        Manifest {
            id: "acme/sizes".parse().unwrap(),
            version: "1.0.0".parse().unwrap(),
            kind: PluginKind::TagModel,
            abi: "0.2".into(),
            kernel: "*".parse().unwrap(),
            title: words(),
            description: words(),
            license: words(),
            inputs: vec![input],
            outputs: vec![output],
            config_schema: None,
            capabilities: Capabilities::default(),
            idempotent: true,
            state_version: None,
            poll: None,
            training: None,
            limits: LimitRequest::default(),
        }
    }

    /// Tells how long each list is, and fails on empty ones. Notes how many rows each of its calls had.
    #[derive(Default)]
    struct Sizes(Mutex<Vec<usize>>);

    impl ComputeModel for Sizes {
        fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
            Err(PluginFault::Permanent("learns nothing".into()))
        }

        fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
            self.0.lock().unwrap().push(rows.rows);
            let mut sizes = ColumnBuilder::new("size", &ColumnType::Int64);
            for row in 0..rows.rows {
                match rows.columns[0].cell(row) {
                    Cell::Int64List(list) if list.is_empty() => return Err(PluginFault::BadInput("empty".into())),
                    Cell::Int64List(list) => sizes.push(Cell::Int64(i64::try_from(list.len()).unwrap())).unwrap(),
                    _ => sizes.push(Cell::Null).unwrap(),
                }
            }
            Ok(Table { rows: rows.rows, columns: vec![sizes.finish()] })
        }
    }

    fn list(numbers: &[f64]) -> Vec<Value> {
        vec![Value::List(numbers.iter().map(|number| Value::Float(*number)).collect())]
    }

    fn given(rows: &[Vec<Value>]) -> Vec<GivenRow> {
        rows.iter().zip(0..).map(|(values, id)| GivenRow { values: values.clone(), id, past: None }).collect()
    }

    /// One such row failed the whole call, and nobody saw what the others become.
    #[test]
    fn a_row_that_cannot_be_taken_is_alone_and_the_others_have_their_values() {
        let model: Arc<dyn ComputeModel> = Arc::new(Sizes::default());
        let rows = [list(&[1.0, 2.5]), list(&[1.0]), list(&[]), list(&[1.0, 2.0]), vec![Value::Null]];
        let answers = answers_to(&manifest(), &model, &[], &rows);
        let code = |answer: &Result<AnswerToRow, PluginFault>| answer.as_ref().err().map(PluginFault::code);
        let cells = |cells| Ok(AnswerToRow { cells, events: Vec::new() });
        assert_eq!(
            answers.iter().map(code).collect::<Vec<_>>(),
            [Some("plugin.bad-input"), None, Some("plugin.bad-input"), None, None]
        );
        assert!(answers[0].as_ref().unwrap_err().to_string().contains("item 1 of the list"), "{answers:?}");
        assert_eq!(answers[3], cells(vec![Cell::Int64(2)]));
        assert_eq!(answers[4], cells(vec![Cell::Null]));
        let (mut dataset, left_out) = dataset_of(&manifest(), &given(&rows)).unwrap();
        let batch = dataset.next_batch().unwrap();
        assert_eq!((batch.rows.rows, left_out.len()), (4, 1), "nothing is learnt of the first");
        assert_eq!((batch.ids, batch.labels, batch.cut_offs), (vec![1, 2, 3, 4], None, None));
        assert_eq!(dataset.next_batch(), None);
    }

    #[test]
    fn no_call_has_more_rows_than_one_of_a_server() {
        let sizes = Arc::new(Sizes::default());
        let model: Arc<dyn ComputeModel> = Arc::clone(&sizes) as Arc<dyn ComputeModel>;
        let rows = vec![list(&[1.0]); 10_000];
        assert!(answers_to(&manifest(), &model, &[], &rows).iter().all(Result::is_ok));
        assert_eq!(*sizes.0.lock().unwrap(), [4_096, 4_096, 1_808]);
        let mut dataset = dataset_of(&manifest(), &given(&rows)).unwrap().0;
        let rows: Vec<usize> = std::iter::from_fn(|| dataset.next_batch()).map(|batch| batch.rows.rows).collect();
        assert_eq!(rows, [4_096, 4_096, 1_808]);
    }
}
