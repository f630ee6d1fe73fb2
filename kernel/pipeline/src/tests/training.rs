//! Models that learn from the history: which rows a fit is handed, and who is kept for comparing fits.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Instant;

use kith_model::id::InstallationId;
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::Timestamp;
use kith_store::{Key, Operation, Unit};
use parking_lot::Mutex;

use super::harness::*;
use crate::fit::rows::Source;
use crate::fit::training::{Labelled, LabelledBatches, Part};
use crate::profiles::scan::ProfilePages;
use crate::{FitError, Role};

const LEARNER: InstallationId = InstallationId(4);
const OTHER: InstallationId = InstallationId(5);
const PEOPLE: usize = 40;

/// Notes what it reads in each of two passes; the second begins within a third that is left.
#[derive(Default)]
struct Learner(Mutex<Vec<Vec<Batch>>>);

impl ComputeModel for Learner {
    fn fit(&self, mut dataset: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        let mut passes = vec![std::iter::from_fn(|| dataset.next_batch()).collect()];
        dataset.rewind();
        dataset.next_batch();
        dataset.rewind();
        passes.push(std::iter::from_fn(|| dataset.next_batch()).collect());
        *self.0.lock() = passes;
        Ok(Fitted { state: Vec::new(), metrics: Vec::new() })
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let mut again = ColumnBuilder::new("again", &ColumnType::Float64);
        (0..rows.rows).for_each(|_| again.push(Cell::Null).unwrap());
        Ok(Table { rows: rows.rows, columns: vec![again.finish()] })
    }
}

impl Learner {
    /// The rows of the last fit, of which both passes had the same.
    fn rows(&self) -> Vec<Batch> {
        let passes = self.0.lock();
        assert_eq!(passes[0], passes[1], "a later pass has the rows of the first");
        passes[0].clone()
    }
}

/// A bench with two installations of a model that learns who buys within sixty days.
fn bench(learner: &Arc<Learner>) -> Bench {
    Bench::over(Arc::new(kith_store::memory()), vec![], |setup| {
        for (id, name) in [(LEARNER, "learner"), (OTHER, "other")] {
            let mut model = installed(id.0, name, PluginKind::Scorer, Role::Scorer(learner.clone()));
            let input = |name: &str, expression: &str, column_type| InputSpec {
                name: name.into(),
                expression: expression.into(),
                column_type,
                reason: String::new(),
            };
            model.inputs = vec![
                input("orders", "events('Order Completed').size()", ColumnType::Int64),
                input("city", "traits.city", ColumnType::Text),
            ];
            let day = DAY.unsigned_abs();
            model.training = Some(Training {
                label: "events('Order Completed').size() > 0".into(),
                horizon_ms: 60 * day,
                every_ms: 30 * day,
                cut_offs: 3,
                predicts: "again".into(),
                timeless: vec!["city".into()],
            });
            setup.installations.push(model);
        }
    })
}

fn order(user: &str, number: usize, days_ago: i64) -> kith_model::event::DraftEvent {
    event(&format!("{user}-{number}"), &[("user_id", user)], "Order Completed", START.plus_ms(-days_ago * DAY))
}

fn source(bench: &Bench) -> Source {
    let shared = &bench.kernel.shared;
    let workspace = shared.workspace(WORKSPACE).unwrap();
    let compiled = workspace.compiled.load_full();
    Source::now(shared, &workspace, &compiled, LEARNER, &Cancellation::default())
}

/// All rows of a part, as one batch.
fn part(bench: &Bench, of: Part) -> Labelled {
    let mut batches = LabelledBatches::new(source(bench), of);
    let batch = batches.next().unwrap().unwrap();
    assert!(batches.next().is_none(), "so few people are one batch");
    batch
}

/// A fit was handed people as they are, once, and whoever trained on it trained on what they wanted to foretell.
#[test]
fn a_fit_learns_from_the_past_of_four_fifths_of_the_people() {
    let learner = Arc::new(Learner::default());
    let mut bench = bench(&learner);
    for number in 0..PEOPLE {
        let user = format!("u{number}");
        let traits = r#"{"city":"Oslo"}"#;
        let mut events =
            vec![order(&user, 0, 100), identify(&format!("{user}-i"), &[("user_id", &user)], traits, START)];
        events.extend(number.is_multiple_of(2).then(|| order(&user, 1, 10)));
        bench.send(events);
    }
    let objection = identify("no", &[("user_id", "mia")], r#"{"consent":{"profiling":false}}"#, START);
    bench.send(vec![order("mia", 0, 100), objection]);
    bench.settle();

    let slot = bench.kernel.take_fit_slot(WORKSPACE, LEARNER).unwrap();
    let (keep, kept) = std::sync::mpsc::channel();
    bench.kernel.fit(slot, "digest-of-learner".into(), move |_, slot| {
        keep.send((slot.rows_done(), slot.inputs())).unwrap();
    });
    let (rows_done, inputs) = kept.recv_timeout(std::time::Duration::from_secs(20)).unwrap();
    let rows = learner.rows();
    let [learnt] = &rows[..] else { panic!("so few people are one batch") };
    let held_out = part(&bench, Part::HeldOut);
    assert_eq!(part(&bench, Part::Learning).ids, learnt.ids);

    // Nobody is in both parts, and who objects is in none.
    let people = |ids: &[u64]| ids.iter().copied().collect::<BTreeSet<u64>>();
    let (learning, held) = (people(&learnt.ids), people(&held_out.ids));
    assert!(learning.is_disjoint(&held) && !held.is_empty());
    assert_eq!(learning.len() + held.len(), PEOPLE);

    // Ninety and sixty days ago each had ordered once; at the first of three cut-offs nobody was known.
    assert_eq!(learnt.rows.rows, 2 * learning.len());
    assert_eq!((rows_done, inputs[0].present), (learnt.rows.rows as u64, learnt.rows.rows as u64), "a row counts once");
    let cut_offs = [90, 60].map(|days| START.plus_ms(-days * DAY));
    let of_each = cut_offs.repeat(learning.len());
    assert_eq!(learnt.cut_offs.as_deref(), Some(&of_each[..]));
    let column = |name: &str| {
        let column = learnt.rows.column(name).unwrap();
        (0..learnt.rows.rows).map(|row| column.cell(row)).collect::<Vec<Cell>>()
    };
    assert!(column("orders").iter().all(|cell| *cell == Cell::Int64(1)), "the later order is of the future");
    assert!(column("city").iter().all(|cell| *cell == Cell::Text("Oslo".to_owned())));
    let labels = [learnt.labels.as_deref().unwrap(), &held_out.labels].concat();
    let with = |label: f64| labels.iter().filter(|found| **found == Some(label)).count();
    assert_eq!((with(1.0), with(0.0)), (PEOPLE / 2, PEOPLE + PEOPLE / 2), "who bought, did so behind the last cut-off");

    // The same people have the same ids after a restart, and other ones in another installation.
    bench.restart();
    bench.settle();
    bench.fit(LEARNER).unwrap();
    assert_eq!(&learner.rows()[0], learnt);
    bench.fit(OTHER).unwrap();
    let others = people(&learner.rows()[0].ids);
    assert!(others.is_disjoint(&learning) && others.is_disjoint(&held));
}

/// Where hardly anybody has a row, one batch read the histories of everybody, however long that took.
#[test]
fn rows_are_made_for_as_long_as_a_fit_may_take() {
    let bench = bench(&Arc::new(Learner::default()));
    bench.send(vec![order("ada", 0, 1)]);
    bench.settle();
    let mut source = source(&bench);
    assert!(LabelledBatches::new(source.clone(), Part::Learning).next().is_none(), "at no cut-off was anything done");
    source.until = Instant::now();
    let late = LabelledBatches::new(source, Part::Learning).next();
    assert!(matches!(late, Some(Err(FitError::Fault(PluginFault::DeadlineExceeded { .. })))), "{late:?}");
}

/// One damaged row of one person's history had every fit fail, and those by schedule again and again.
#[test]
fn somebody_whose_history_cannot_be_read_is_left_out() {
    let learner = Arc::new(Learner::default());
    let bench = bench(&learner);
    bench.send((0..PEOPLE).map(|number| order(&format!("u{number}"), 0, 100)).collect());
    bench.settle();
    let people = |of| part(&bench, of).ids.into_iter().collect::<BTreeSet<u64>>();
    let all = || people(Part::Learning).len() + people(Part::HeldOut).len();
    assert_eq!(all(), PEOPLE);
    let page = ProfilePages::new(bench.store.clone(), WORKSPACE).next_page().unwrap().unwrap();
    let range = Key::events(WORKSPACE, page[0][0].id).range();
    let (key, _) = bench.store.scan(&range, 1).unwrap().rows.swap_remove(0);
    let operations = vec![Operation::Put(key, vec![255; 3])];
    bench.store.commit(Unit { operations, ..Unit::default() }).unwrap();
    bench.fit(LEARNER).unwrap();
    assert_eq!(all(), PEOPLE - 1);
}

/// A model that learns from what people are now is handed everybody, each with an id.
#[test]
fn a_fit_without_labels_is_of_everybody_as_they_are() {
    let learner = Arc::new(Learner::default());
    let bench = bench(&learner);
    bench.configure(|setup| setup.installations[3].training = None);
    bench.send((0..PEOPLE).map(|number| order(&format!("u{number}"), 0, 1)).collect());
    bench.settle();
    bench.fit(LEARNER).unwrap();
    let rows = learner.rows();
    let [batch] = &rows[..] else { panic!("so few people are one batch") };
    assert_eq!((batch.rows.rows, batch.ids.len()), (PEOPLE, PEOPLE));
    assert_eq!(batch.ids.iter().collect::<BTreeSet<_>>().len(), PEOPLE, "everybody has an id of their own");
    assert_eq!((&batch.labels, &batch.cut_offs), (&None::<Vec<Option<f64>>>, &None::<Vec<Timestamp>>));
}
