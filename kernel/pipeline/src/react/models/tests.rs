//! A batch with rows that a model cannot take.

use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use kith_model::id::SourceIdentityId;
use kith_model::plugin::{Cancellation, Dataset, Fitted, ModelAnswer};
use kith_model::table::ColumnType;

use super::*;
use crate::rows::derived::OutputKind;

/// Doubles whole numbers and traps on negative ones.
#[derive(Default)]
struct Doubler {
    calls: AtomicUsize,
}

impl ComputeModel for Doubler {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("learns nothing".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        self.calls.fetch_add(1, Ordering::SeqCst);
        let mut doubled = ColumnBuilder::new("twice", &ColumnType::Int64);
        for row in 0..rows.rows {
            match rows.columns[0].cell(row) {
                Cell::Int64(number) if number < 0 => {
                    return Err(PluginFault::Trapped { message: "negative".into(), backtrace: Vec::new() });
                }
                Cell::Int64(number) => doubled.push(Cell::Int64(2 * number)).unwrap(),
                _ => return Err(PluginFault::Transient("not now".into())),
            }
        }
        Ok(Table { rows: rows.rows, columns: vec![doubled.finish()] })
    }
}

/// The same, with the rows of each call noted pass by pass.
#[derive(Default)]
struct Noting {
    passes: Mutex<Vec<Vec<usize>>>,
}

struct NotingPass<'a>(&'a Noting);

impl ComputeModel for Noting {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("learns nothing".into()))
    }

    fn compute(&self, state: &[u8], rows: Table) -> Result<Table, PluginFault> {
        self.pass(state).answer(rows).map(|answer| answer.table)
    }

    fn pass<'a>(&'a self, _: &'a [u8]) -> Box<dyn ModelPass + 'a> {
        self.passes.lock().unwrap().push(Vec::new());
        Box::new(NotingPass(self))
    }
}

impl ModelPass for NotingPass<'_> {
    fn answer(&mut self, rows: Table) -> Result<ModelAnswer, PluginFault> {
        self.0.passes.lock().unwrap().last_mut().unwrap().push(rows.rows);
        Doubler::default().answer(&[], rows)
    }
}

fn job(model: &Arc<impl ComputeModel + 'static>, cells: Vec<Cell>) -> Job {
    let row = |(index, cell)| InputRow {
        profile: ProfileId(SourceIdentityId([0; 16])),
        ordinal: index,
        inputs: 0,
        cells: vec![cell],
        misfit: None,
    };
    Job {
        installation: InstallationId(1),
        plugin: "test/doubler@1.0.0".into(),
        version: ModelVersion {
            installation: InstallationId(1),
            digest: String::new(),
            config_hash: 0,
            fit: 0,
            kind: OutputKind::Scores,
            outputs: vec!["twice".into()],
        },
        model: model.clone(),
        state: None,
        columns: vec![InputSpec {
            name: "n".into(),
            expression: String::new(),
            column_type: ColumnType::Int64,
            reason: String::new(),
        }],
        rows: (0..).zip(cells).map(row).collect(),
        max_calls: MAX_CALLS,
        further: Further::WhileBrief,
    }
}

#[test]
fn nobody_is_asked_about_any_more_where_the_answer_is_not_wanted() {
    let (model, asked) = (Arc::new(Doubler::default()), std::cell::Cell::new(0));
    let result = job(&model, vec![Cell::Int64(-1); 4_000]).run(|_| {
        asked.set(asked.get() + 1);
        asked.get() <= 3
    });
    assert_eq!((asked.get(), result.rows.len()), (4, 0), "those who were not answered for wait as before");
}

#[test]
fn the_batches_of_a_job_are_one_pass() {
    let model = Arc::new(Noting::default());
    let all = Job { further: Further::Always, ..job(&model, (0..10_000).map(Cell::Int64).collect()) };
    let result = all.run(|_| true);
    assert_eq!((result.rows.len(), result.calls.len()), (10_000, 3));
    let is_doubled = |(row, outcome): &(InputRow, RowOutcome)| match outcome {
        RowOutcome::Values(answer) => answer.values == [OutputValue::Int(2 * i64::from(row.ordinal))],
        RowOutcome::Faulted(_) | RowOutcome::Later(_) => false,
    };
    assert!(result.rows.iter().all(is_doubled));
    assert_eq!(*model.passes.lock().unwrap(), [[MAX_BATCH_ROWS, MAX_BATCH_ROWS, 10_000 - 2 * MAX_BATCH_ROWS]]);
}

/// What is behind a batch with somebody whom the model cannot take is another job's, so that each is searched as if it were alone.
#[test]
fn a_job_that_finds_somebody_goes_no_further_where_others_wait() {
    let model = Arc::new(Noting::default());
    let cells = || (0..5_000).map(|number| Cell::Int64(if number == 7 { -1 } else { number })).collect();
    let waits = job(&model, cells()).run(|_| true);
    assert_eq!(waits.rows.len(), MAX_BATCH_ROWS);
    let always = Job { further: Further::Always, ..job(&model, cells()) }.run(|_| true);
    assert_eq!(always.rows.iter().filter(|(_, outcome)| outcome.fault().is_some()).count(), 1);
    assert_eq!(always.rows.len(), 5_000);
    assert_eq!(model.passes.lock().unwrap().len(), 2, "the search is of the same pass");
}

#[test]
fn one_row_that_a_model_cannot_take_costs_the_others_nothing() {
    let model = Arc::new(Doubler::default());
    let mut cells: Vec<Cell> = (0..4_011).map(Cell::Int64).collect();
    cells[1_234] = Cell::Int64(-1);
    let result = job(&model, cells).run(|_| true);
    assert_eq!(result.rows.len(), 4_011);
    for (row, outcome) in &result.rows {
        match outcome {
            RowOutcome::Faulted(PluginFault::Trapped { .. }) => assert_eq!(row.ordinal, 1_234),
            outcome => {
                let values = vec![OutputValue::Int(2 * i64::from(row.ordinal))];
                assert_eq!(*outcome, RowOutcome::Values(RowAnswer { values, events: Vec::new() }));
            }
        }
    }
    assert!(model.calls.load(Ordering::SeqCst) <= 30, "a batch is halved, not tried row by row");
}

#[test]
fn a_model_is_not_asked_about_whom_its_columns_cannot_say() {
    let model = Arc::new(Doubler::default());
    let refused = PluginFault::BadInput("it has a fraction".into());
    let run = |all: bool| {
        let mut job = job(&model, vec![Cell::Int64(1); 3]);
        let misfits = job.rows.iter_mut().filter(|row| all || row.ordinal == 1);
        misfits.for_each(|row| row.misfit = Some(refused.clone()));
        let faulted = |(_, outcome): &&(InputRow, RowOutcome)| *outcome == RowOutcome::Faulted(refused.clone());
        let result = job.run(|_| true);
        (result.rows.len(), result.rows.iter().filter(faulted).count(), model.calls.load(Ordering::SeqCst))
    };
    assert_eq!(run(false), (3, 1, 1));
    assert_eq!(run(true), (3, 3, 1), "with nobody to ask about nothing is asked");
}

#[test]
fn a_model_that_fails_on_everybody_is_not_asked_for_each_of_them() {
    let model = Arc::new(Doubler::default());
    let result = job(&model, vec![Cell::Int64(-1); 4_000]).run(|_| true);
    assert_eq!(result.rows.len(), 4_000);
    assert!(model.calls.load(Ordering::SeqCst) <= MAX_CALLS);
    let faulted = result.rows.iter().filter(|(_, outcome)| matches!(outcome, RowOutcome::Faulted(_))).count();
    let later = result.rows.iter().filter(|(_, outcome)| matches!(outcome, RowOutcome::Later(_))).count();
    assert!((3..MAX_CALLS).contains(&faulted), "those who were asked about alone: {faulted}");
    assert_eq!(faulted + later, 4_000, "nothing is said of those who were not");
}

/// One sender's people came first and filled all calls of a job, and beside some bad rows further on nobody else was heard.
#[test]
fn who_comes_after_many_bad_rows_is_heard() {
    let model = Arc::new(Doubler::default());
    let is_bad = |number: i64| number < 300 || number % 100 == 50;
    let cells = (0..4_000).map(|number| Cell::Int64(if is_bad(number) { -1 } else { number })).collect();
    let result = job(&model, cells).run(|_| true);
    assert!(result.rows.iter().any(|(_, outcome)| matches!(outcome, RowOutcome::Values(_))));
    let is_given_up = |(row, outcome): &(InputRow, RowOutcome)| {
        !is_bad(row.ordinal.into()) && matches!(outcome, RowOutcome::Faulted(_))
    };
    assert!(!result.rows.iter().any(is_given_up));
}

#[test]
fn who_was_not_reached_beside_many_bad_rows_is_tried_again() {
    let model = Arc::new(Doubler::default());
    let cells =
        (0..4_000).map(|number| Cell::Int64(if number < 200 || number % 2 == 0 { number } else { -1 })).collect();
    let result = job(&model, cells).run(|_| true);
    assert_eq!(result.rows.len(), 4_000);
    assert!(model.calls.load(Ordering::SeqCst) <= MAX_CALLS);
    assert!(result.rows.iter().any(|(_, outcome)| matches!(outcome, RowOutcome::Later(_))));
    assert!(result.rows.iter().any(|(_, outcome)| matches!(outcome, RowOutcome::Values(_))));
}

#[test]
fn something_passing_is_tried_later_and_not_halved() {
    let model = Arc::new(Doubler::default());
    let result = job(&model, vec![Cell::Null; 100]).run(|_| true);
    assert_eq!(model.calls.load(Ordering::SeqCst), 1);
    assert!(result.rows.iter().all(|(_, outcome)| matches!(outcome, RowOutcome::Later(_))));
}

#[test]
fn each_row_has_its_own_events_and_so_many() {
    let event = |name: &str| EmittedEvent { name: name.into(), properties: String::new(), key: String::new() };
    let emitted = vec![(2, event("a")), (0, event("b")), (2, event("c"))];
    let of_rows = events(emitted, 3).unwrap();
    assert_eq!(of_rows, [vec![event("b")], vec![], vec![event("a"), event("c")]]);
    assert!(matches!(events(vec![(3, event("a"))], 3), Err(PluginFault::InvalidOutput(_))));
    let many = |count: usize| events(vec![(1, event("a")); count], 2);
    assert!(many(MAX_ROW_EVENTS).is_ok());
    assert_eq!(many(MAX_ROW_EVENTS + 1).unwrap_err().code(), "limit.events");
    let large = EmittedEvent { properties: "x".repeat(MAX_ROW_EVENT_BYTES / 2), ..event("a") };
    assert_eq!(events(vec![(0, large); 2], 1).unwrap_err().code(), "limit.events");
}

#[test]
fn what_is_not_a_finite_number_is_no_value() {
    assert_eq!(output(Cell::Float64(-0.5)), OutputValue::Float(-0.5));
    for number in [f64::NAN, -f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        assert_eq!(output(Cell::Float64(number)), OutputValue::Null);
    }
}

/// A model is asked again where its inputs hash to something else: a value that moves to the field or the record beside it is another.
#[test]
fn a_value_in_another_place_among_records_is_another_input() {
    let hash = |records: &[[Option<i64>; 2]]| {
        let cells = |record: &[Option<i64>; 2]| record.map(|value| value.map_or(Cell::Null, Cell::Int64)).to_vec();
        let mut hash = Xxh3::new();
        update(&mut hash, &Cell::Records(records.iter().map(cells).collect()));
        hash.digest()
    };
    let mut hashes = vec![
        hash(&[]),
        hash(&[[None, None]]),
        hash(&[[Some(0), None]]),
        hash(&[[None, Some(0)]]),
        hash(&[[None, None], [None, None]]),
        hash(&[[Some(0), None], [None, None]]),
        hash(&[[None, None], [None, Some(0)]]),
    ];
    hashes.sort_unstable();
    hashes.dedup();
    assert_eq!(hashes.len(), 7);
}

/// The same holds for one input and the one beside it: a null that read like the zeros of a number hid the change from the model.
#[test]
fn a_value_in_another_input_is_another_input() {
    let hash = |cells: &[Result<Cell, Misfit>]| {
        let mut hash = Xxh3::new();
        cells.iter().for_each(|cell| update_input(&mut hash, cell));
        hash.digest()
    };
    let zeros = [
        Cell::Int64(0),
        Cell::Float64(0.0),
        Cell::Timestamp(0),
        Cell::Boolean(false),
        Cell::Text(String::new()),
        Cell::Int64List(Vec::new()),
    ];
    for zero in zeros {
        let (value, absent) = (|| Ok(zero.clone()), || Ok(Cell::Null));
        assert_ne!(hash(&[value(), absent()]), hash(&[absent(), value()]), "{zero:?}");
        assert_ne!(hash(&[value(), absent(), absent()]), hash(&[absent(), value(), absent()]), "{zero:?}");
        assert_ne!(hash(&[value()]), hash(&[absent()]), "{zero:?}");
    }
}

/// A batch is bounded by what its rows hold.
#[test]
fn records_count_with_all_that_is_in_them() {
    let text = Cell::Text("x".repeat(1_000));
    let records = Cell::Records(vec![vec![Cell::Null, text]; 5]);
    assert!((5_000..6_000).contains(&variable_bytes(&records)), "{}", variable_bytes(&records));
}
