//! Fits beside the one in use, on people from whom no fit learns.

use std::sync::Arc;
use std::time::Duration;

use kith_model::id::InstallationId;
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use parking_lot::Mutex;

use super::harness::*;
use crate::shared::MAX_STRIKES;
use crate::{Activity, FittedState, HeldOut, Judged, Measure, Role};

const SOON: InstallationId = InstallationId(4);
const PEOPLE: usize = 200;

/// Foretells whether somebody orders again. Its state is what the test has it learn: `good` foretells it of those with two orders and
/// not of others, `bad` the other way round, `old` is of a form that it does not read, and it traps on `trap`. Of each batch of a fit
/// it notes the number of rows.
#[derive(Default)]
struct OrdersAgain {
    learns: Mutex<&'static str>,
    learnt_from: Mutex<usize>,
}

impl ComputeModel for OrdersAgain {
    fn fit(&self, mut dataset: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        *self.learnt_from.lock() = 0;
        while let Some(batch) = dataset.next_batch() {
            *self.learnt_from.lock() += batch.rows.rows;
        }
        Ok(Fitted { state: self.learns.lock().as_bytes().to_vec(), metrics: Vec::new() })
    }

    fn compute(&self, state: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let orders = rows.column("orders").unwrap();
        let mut chance = ColumnBuilder::new("chance", &ColumnType::Float64);
        for row in 0..rows.rows {
            let ordered_twice = matches!(orders.cell(row), Cell::Int64(2..));
            let foretold = match state {
                b"good" => ordered_twice,
                b"bad" => !ordered_twice,
                b"old" => return Err(PluginFault::UnreadableState("it is of another form".into())),
                b"trap" => return Err(PluginFault::Trapped { message: "panicked: no".into(), backtrace: vec![] }),
                _ => {
                    chance.push(Cell::Null).unwrap();
                    continue;
                }
            };
            chance.push(Cell::Float64(if foretold { 0.75 } else { 0.25 })).unwrap();
        }
        Ok(Table { rows: rows.rows, columns: vec![chance.finish()] })
    }
}

/// A shop in which one of two people orders twice and, behind the cut-off, again; the others order once.
fn shop() -> (Bench, Arc<OrdersAgain>) {
    let again = Arc::new(OrdersAgain::default());
    let bench = Bench::over(Arc::new(kith_store::memory()), vec![], |setup| {
        let mut model = installed(SOON.0, "soon", PluginKind::Scorer, Role::Scorer(again.clone()));
        model.inputs.clone_from(&setup.installations[1].inputs);
        model.outputs = vec![OutputSpec {
            name: "chance".into(),
            column_type: ColumnType::Float64,
            values: vec![],
            description: String::new(),
            category: String::new(),
        }];
        model.training = Some(Training {
            label: "events('Order Completed').size() > 0".into(),
            horizon_ms: 10 * DAY as u64,
            every_ms: 10 * DAY as u64,
            cut_offs: 1,
            predicts: "chance".into(),
            timeless: vec![],
        });
        setup.installations.push(model);
    });
    let order = |user: &str, days_ago: i64| {
        let id = format!("{user}-{days_ago}");
        event(&id, &[("user_id", user)], "Order Completed", START.plus_ms(-days_ago * DAY))
    };
    let orders = (0..PEOPLE).flat_map(|number| {
        let user = format!("u{number}");
        let ago: &[i64] = if number % 2 == 0 { &[20, 15, 5] } else { &[20] };
        ago.iter().map(|days| order(&user, *days)).collect::<Vec<_>>()
    });
    bench.send(orders.collect());
    bench.settle();
    (bench, again)
}

/// Fit the model, and see how what it learnt compares with the state in use.
fn compared(bench: &Bench, again: &OrdersAgain, learns: &'static str) -> HeldOut {
    *again.learns.lock() = learns;
    let (keep, kept) = std::sync::mpsc::channel();
    let slot = bench.kernel.take_fit_slot(WORKSPACE, SOON).unwrap();
    let digest = bench.setup.lock().installation(SOON).unwrap().digest.clone();
    bench.kernel.fit(slot, digest, move |outcome, slot| {
        let held_out = slot.held_out();
        drop(slot);
        keep.send(outcome.map(|_| held_out)).unwrap();
    });
    kept.recv_timeout(Duration::from_secs(20)).unwrap().unwrap().unwrap()
}

fn put_to_use(bench: &Bench, version: u32, state: &'static str) {
    bench.configure(|setup| {
        let soon = setup.installations.iter_mut().find(|installed| installed.id == SOON).unwrap();
        soon.fitted = Some(FittedState { version, bytes: state.as_bytes().into(), holds_out: true });
    });
}

fn measures(judged: &Judged) -> Vec<(&'static str, f64)> {
    judged.measures.iter().map(|(measure, figure)| (measure.name(), *figure)).collect()
}

/// What the figures of `good` are, of which every prediction is right by three quarters.
fn right() -> Vec<(&'static str, f64)> {
    vec![("auc", 1.0), ("brier", 0.0625), ("log_loss", -(0.75_f64.ln()))]
}

fn near(seen: &[(&'static str, f64)], wanted: &[(&'static str, f64)]) {
    assert_eq!(seen.len(), wanted.len(), "{seen:?}");
    for ((name, figure), (wanted_name, wanted)) in seen.iter().zip(wanted) {
        assert_eq!(name, wanted_name);
        assert!((figure - wanted).abs() < 1e-9, "{name} is {figure}, not {wanted}");
    }
}

#[test]
fn a_fit_is_compared_with_the_one_in_use_on_people_from_whom_neither_learnt() {
    let (bench, again) = shop();
    let first = compared(&bench, &again, "good");
    assert!(first.has_truths && first.champion.is_none(), "there is none in use");
    assert_eq!(*again.learnt_from.lock() + first.of as usize, PEOPLE, "nobody is on both sides");
    assert!(first.of > 0 && first.rows == first.of && first.drawn == first.of, "{first:?}");
    near(&measures(&first.challenger), &right());

    put_to_use(&bench, 1, "good");
    let worse = compared(&bench, &again, "bad");
    assert_eq!((worse.rows, worse.of), (first.rows, first.of), "the same people");
    let wrong = [("auc", 0.0), ("brier", 0.5625), ("log_loss", -(0.25_f64.ln()))];
    near(&measures(&worse.challenger), &wrong);
    let (version, champion) = worse.champion.as_ref().unwrap();
    assert_eq!((*version, champion.problem.as_deref()), (1, None));
    near(&measures(champion), &right());

    bench.send(orders("u1", 0, 1));
    bench.settle();
    let later = compared(&bench, &again, "good");
    assert_eq!(later.challenger, later.champion.unwrap().1, "a fit like the one in use is as good");
}

#[test]
fn a_fit_is_measured_alone_where_the_one_in_use_cannot_be_read() {
    let (bench, again) = shop();
    put_to_use(&bench, 3, "old");
    let held_out = compared(&bench, &again, "good");
    near(&measures(&held_out.challenger), &right());
    let (version, champion) = held_out.champion.unwrap();
    let why = "the version cannot read it".to_owned();
    assert_eq!((version, champion), (3, Judged { problem: Some(why), ..Judged::default() }));
    assert_eq!(held_out.rows, held_out.of);
}

/// A version without labels learnt from everybody, by heart maybe, and no fit from then on was as good as what it had learnt.
#[test]
fn a_fit_that_learnt_from_everybody_is_no_champion() {
    let (bench, again) = shop();
    bench.configure(|setup| {
        let soon = setup.installations.iter_mut().find(|installed| installed.id == SOON).unwrap();
        soon.fitted = Some(FittedState { version: 2, bytes: b"good".as_slice().into(), holds_out: false });
    });
    let held_out = compared(&bench, &again, "bad");
    let why = "it has learnt from those who are held out, too".to_owned();
    assert_eq!(held_out.champion, Some((2, Judged { problem: Some(why), ..Judged::default() })));
    assert!(held_out.rows == held_out.of && held_out.challenger.measures.len() == 3, "{held_out:?}");
}

/// An installation that waits for a fit has the outputs of the version before, by which the new one was taken for one that answers for
/// nobody, and struck.
#[test]
fn the_first_fit_of_another_version_is_measured_by_its_own_outputs() {
    let (bench, again) = shop();
    put_to_use(&bench, 1, "good");
    bench.configure(|setup| {
        let soon = setup.installations.iter_mut().find(|installed| installed.id == SOON).unwrap();
        soon.activity = Activity::WaitsForFit { since: START, why: "it is of another form".into() };
        soon.outputs[0].name = "chance_before".into();
    });
    let held_out = compared(&bench, &again, "good");
    assert_eq!(held_out.challenger.problem, None);
    near(&measures(&held_out.challenger), &right());
    let (_, champion) = held_out.champion.unwrap();
    assert_eq!(champion.problem.as_deref(), Some("the version cannot read it"));
}

#[test]
fn a_fit_that_answers_for_nobody_went_well_and_says_so() {
    let (bench, again) = shop();
    for (learns, why) in [("trap", "it answers for nobody (trap)"), ("nothing", "it foretells nothing of anybody")] {
        let held_out = compared(&bench, &again, learns);
        assert_eq!(held_out.challenger.problem.as_deref(), Some(why));
        assert_eq!((held_out.challenger.measures.len(), held_out.rows), (0, 0));
        assert!(held_out.of > 0 && held_out.challenger.unanswered == held_out.of);
    }
    assert!(bench.notes.0.lock().is_empty(), "the installation goes on");
}

/// Each of them was a strike of the installation, which had answered for everybody all the while.
#[test]
fn fits_that_answer_for_nobody_are_no_faults_of_the_one_in_use() {
    let (bench, again) = shop();
    put_to_use(&bench, 1, "good");
    bench.settle();
    for number in 0..=MAX_STRIKES {
        // Faults at one place of the log are one; and nobody is asked about because of this, which would take a strike back.
        bench.send(vec![event(&format!("seen-{number}"), &[("user_id", "u1")], "Seen", START)]);
        bench.settle();
        let held_out = compared(&bench, &again, "trap");
        assert_eq!(held_out.challenger.problem.as_deref(), Some("it answers for nobody (trap)"));
        assert_eq!(held_out.champion.unwrap().1.problem, None);
    }
    assert!(bench.notes.0.lock().is_empty(), "the installation goes on");
}

/// Whoever counts has numbers for labels, and is measured by how far off they are.
#[test]
fn labels_that_are_numbers_have_measures_of_their_own() {
    let (bench, again) = shop();
    bench.configure(|setup| {
        let soon = setup.installations.iter_mut().find(|installed| installed.id == SOON).unwrap();
        soon.training.as_mut().unwrap().label = "events('Order Completed').size()".into();
    });
    bench.settle();
    let held_out = compared(&bench, &again, "good");
    assert!(!held_out.has_truths);
    let expected = [("rmse", 0.25), ("mae", 0.25), ("rank_correlation", 1.0)];
    near(&measures(&held_out.challenger), &expected);
    assert_eq!(held_out.challenger.measures.get(&Measure::Auc), None);
}
