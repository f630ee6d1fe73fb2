//! Fits as tasks of the workers, and models that wait for one.

use std::time::{Duration, Instant};

use kith_model::audience::ConsentBasis;
use kith_model::id::InstallationId;
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnType, Table};
use parking_lot::Mutex;

use super::harness::*;
use crate::{Activity, FitError, FitInput, FitProgress, FittedState, Role};

/// Long enough for anything that does not hang, and shorter than the limit of a fit.
const SOON: Duration = Duration::from_secs(5);

fn level_of(bench: &Bench, user: &str) -> String {
    bench.profile("user_id", user).unwrap().tags["level"].json.clone()
}

/// Use what a fit learnt, as the server does once it is durable.
fn put_to_use(bench: &Bench, version: u32, state: &[u8]) {
    bench.configure(|setup| {
        setup.installations[1].fitted = Some(FittedState { version, bytes: state.into(), holds_out: false });
        setup.installations[1].activity = Activity::Running;
    });
}

/// A long fit held a stop up until its limits ended it, two minutes later.
#[test]
fn a_stop_ends_a_fit_that_is_under_way() {
    let bench = Bench::new(vec![]);
    bench.send(orders("u1", 0, 1));
    bench.settle();
    *bench.level.fits_until_cancelled.lock() = true;
    let outcome = bench.begin_fit(LEVEL);
    let has_read = || bench.kernel.fit_progress(WORKSPACE, LEVEL).is_some_and(|progress| progress.rows_done == 1);
    bench.wait_until("the fit has read its rows", has_read);
    assert_eq!(bench.kernel.fit_progress(WORKSPACE, LEVEL), Some(FitProgress { rows_done: 1, rows_total: 1 }));
    assert!(bench.kernel.take_fit_slot(WORKSPACE, LEVEL).is_none(), "one fit of an installation at a time");
    let began = Instant::now();
    bench.kernel.stop();
    assert!(began.elapsed() < SOON, "the stop took {:?}", began.elapsed());
    assert!(
        matches!(outcome.recv_timeout(SOON), Ok(Err(FitError::Stopping))),
        "and whoever keeps the outcome knows it"
    );
    assert_eq!(bench.kernel.fit_progress(WORKSPACE, LEVEL), None);
}

#[test]
fn a_fit_is_of_the_version_that_was_asked_for() {
    let bench = Bench::new(vec![]);
    let slot = bench.kernel.take_fit_slot(WORKSPACE, LEVEL).unwrap();
    let (keep, kept) = std::sync::mpsc::channel();
    bench.kernel.fit(slot, "digest-of-another".to_owned(), move |outcome, slot| {
        drop(slot);
        keep.send(outcome).unwrap();
    });
    assert!(matches!(kept.recv_timeout(SOON), Ok(Err(FitError::OtherVersion))));
    bench.configure(|setup| setup.installations[1].activity = Activity::Held { since: START, why: "off".into() });
    assert!(matches!(bench.fit(LEVEL), Err(FitError::Held { why }) if why == "off"));
}

#[test]
fn a_fit_says_what_it_read_of_how_many_people() {
    let bench = Bench::new(vec![]);
    bench.send((0..3).flat_map(|user| orders(&format!("u{user}"), 0, 1)).collect());
    bench.settle();
    let slot = bench.kernel.take_fit_slot(WORKSPACE, LEVEL).unwrap();
    let digest = bench.setup.lock().installation(LEVEL).unwrap().digest.clone();
    let (keep, kept) = std::sync::mpsc::channel();
    bench.kernel.fit(slot, digest, move |_, slot| keep.send((slot.rows_done(), slot.inputs())).unwrap());
    let (mean, deviation) = (Some(1.0), Some(0.0));
    let orders = FitInput { name: "orders".to_owned(), present: 3, absent: 0, mean, deviation };
    assert_eq!(kept.recv_timeout(SOON), Ok((3, vec![orders])));
}

/// A model that failed on its fit was stopped again between being switched on and being fitted.
#[test]
fn a_model_that_the_kernel_stopped_is_fitted_and_asked_nothing_else() {
    let bench = Bench::new(vec![]);
    bench.send(orders("u1", 0, 1));
    bench.settle();
    let stopped = Activity::Quarantined { since: START, why: "three faults".into() };
    bench.configure(|setup| setup.installations[1].activity = stopped);
    let seen = *bench.level.rows.lock();
    bench.send(orders("u1", 1, 3));
    bench.settle();
    bench.fit(LEVEL).unwrap();
    assert_eq!((level_of(&bench, "u1"), *bench.level.rows.lock()), ("\"few\"".to_owned(), seen));
}

/// A model that says that it cannot read its state is asked no more: what it wrote stays, nobody is written to, and the next
/// fit lets it go on.
#[test]
fn a_model_that_cannot_read_its_state_waits_for_a_fit() {
    let bench = Bench::new(vec![audience(1, "tags.level == 'few'", Some(ConsentBasis::NotRefused))]);
    let everybody: Vec<_> = (0..30).flat_map(|user| orders(&format!("u{user}"), 0, 1)).collect();
    bench.send(everybody);
    bench.settle();
    assert_eq!((bench.size(1), bench.postbox.sent.lock().len()), (Some(30), 30));
    let seen = *bench.level.rows.lock();

    *bench.level.reads.lock() = Some(b"30".to_vec());
    put_to_use(&bench, 1, b"old");
    bench.wait_until("the server is told", || *bench.notes.0.lock() == [LEVEL]);
    bench.send(orders("u1", 1, 3));
    bench.settle();
    assert_eq!((bench.size(1), level_of(&bench, "u1")), (Some(30), "\"few\"".to_owned()), "the old values serve");
    assert_eq!(bench.count("tags.level == 'few'"), 30);
    assert_eq!(*bench.level.rows.lock(), seen, "nothing of it was believed");
    assert!(
        bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items.is_empty(),
        "nobody's data is at fault"
    );

    let fitted = bench.fit(LEVEL).unwrap();
    put_to_use(&bench, 2, &fitted.state);
    bench.settle();
    bench.wait_until("the values are of the new fit", || level_of(&bench, "u1") == "\"many\"");
    assert_eq!(bench.size(1), Some(29));
    assert_eq!(bench.postbox.sent.lock().len(), 30, "neither the wait nor the fit writes to anybody");
}

/// What is held writes what it wrote: while a model waits for a fit, no other may take its outputs over, which would take them
/// from people.
#[test]
fn who_waits_for_a_fit_keeps_its_outputs() {
    let bench = Bench::new(vec![]);
    let mut setup = bench.setup.lock().clone();
    let waits = Activity::WaitsForFit { since: START, why: "waits".into() };
    let mut second = setup.installations[1].clone();
    second.id = InstallationId(4);
    second.name = "second".parse().unwrap();
    setup.installations.push(second);
    setup.installations[1].activity = waits;
    assert!(matches!(bench.kernel.check(setup, None), Err(crate::SetupError::SameOutput { .. })));
}

/// An answer that came late held the installation for a fit that it had just been given.
#[test]
fn a_late_answer_about_an_older_fit_holds_nothing() {
    let bench = Bench::new(vec![]);
    *bench.level.reads.lock() = Some(b"new".to_vec());
    // So long that no pass waits for it.
    *bench.level.takes.lock() = Duration::from_millis(60);
    put_to_use(&bench, 1, b"old");
    *bench.level.asked.lock() = 0;
    bench.send(orders("u1", 0, 3));
    bench.wait_until("the model is asked", || *bench.level.asked.lock() > 0);
    put_to_use(&bench, 2, b"new");
    bench.settle();
    bench.wait_until("the new fit's values are there", || level_of(&bench, "u1") == "\"many\"");
    assert!(bench.notes.0.lock().is_empty(), "nobody waits for a fit");
}

/// Notes of each table of a fit how many rows it has and what their texts take.
#[derive(Default)]
struct Tables(Mutex<Vec<(usize, usize)>>);

impl ComputeModel for Tables {
    fn fit(&self, mut dataset: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        while let Some(Batch { rows: table, .. }) = dataset.next_batch() {
            let column = table.column("bio").unwrap();
            let bytes = (0..table.rows).map(|row| match column.cell(row) {
                Cell::Text(text) => text.len(),
                _ => 0,
            });
            self.0.lock().push((table.rows, bytes.sum()));
        }
        Ok(Fitted { state: Vec::new(), metrics: Vec::new() })
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        Ok(Table { rows: rows.rows, columns: vec![] })
    }
}

/// The rows of a table were bounded and its bytes were not: a few people with long lists made one that no guest's memory holds,
/// and the fit failed each time in the same way.
#[test]
fn a_table_of_a_fit_is_bounded_in_bytes() {
    const PEOPLE: usize = 40;
    const BIO_BYTES: usize = 400 << 10;
    let tables = std::sync::Arc::new(Tables::default());
    let bench = Bench::over(std::sync::Arc::new(kith_store::memory()), vec![], |setup| {
        let mut model = installed(4, "tables", PluginKind::TagModel, Role::TagModel(tables.clone()));
        model.inputs = vec![InputSpec {
            name: "bio".into(),
            expression: "traits.bio".into(),
            column_type: ColumnType::Text,
            reason: String::new(),
        }];
        setup.installations.push(model);
    });
    for number in 0..PEOPLE {
        let (user, bio) = (format!("u{number}"), "x".repeat(BIO_BYTES));
        let traits = serde_json::json!({ "bio": bio }).to_string();
        bench.send(vec![identify(&format!("i{number}"), &[("user_id", &user)], &traits, START)]);
    }
    bench.settle();
    bench.fit(InstallationId(4)).unwrap();
    let tables = tables.0.lock();
    let (rows, bytes) = tables.iter().fold((0, 0), |(rows, bytes), table| (rows + table.0, bytes + table.1));
    assert_eq!((rows, bytes), (PEOPLE, PEOPLE * BIO_BYTES), "every row is in one of {tables:?}");
    assert!(tables.iter().all(|(_, bytes)| *bytes <= 8 << 20), "{tables:?}");
}
