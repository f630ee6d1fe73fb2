//! Dead letters of models that somebody tries again: exactly the people of the letter are asked about, whatever they come to, and
//! what was promised outlives the process.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kith_model::audience::ConsentBasis;
use kith_model::plugin::{Cancellation, ComputeModel, Dataset, Fitted, PluginFault};
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::Clock as _;
use kith_store::{Operation, Unit, row};
use parking_lot::Mutex;

use super::delivery::watched::Watched;
use super::harness::*;
use super::models::{Picky, is_computed, trap};
use crate::rows::{Aside, ComputationSubject, computation_letter};
use crate::setup::Activity;
use crate::{DeadLetter, Replay, Role, Setup};

const MINUTE: i64 = 60_000;

fn letters(bench: &Bench) -> Vec<DeadLetter> {
    bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items
}

/// The letter of that code.
fn letter(bench: &Bench, code: &str) -> DeadLetter {
    let of_code = || letters(bench).into_iter().find(|letter| letter.about().1 == code);
    bench.wait_until("it is told", || of_code().is_some());
    of_code().unwrap()
}

fn replay(bench: &Bench, letter: &DeadLetter) -> Replay {
    bench.wait_for(bench.kernel.replay_letter(WORKSPACE, letter.id(), None)).unwrap()
}

fn asked_again(code: &'static str, people: u64) -> Replay {
    Replay::AskedAgain { installation: LEVEL, code, people }
}

fn failed_on(bench: &Bench) -> u64 {
    bench.kernel.uncomputed(WORKSPACE, LEVEL).map_or(0, |uncomputed| uncomputed.people)
}

/// Says `few` of everybody, and fails on some.
struct Moody {
    /// On whom, by their number of orders.
    faults: Mutex<Vec<(i64, PluginFault)>>,
    /// The numbers of orders of all rows that it was given.
    given: Mutex<BTreeSet<i64>>,
}

impl Moody {
    fn new(faults: Vec<(i64, PluginFault)>) -> Arc<Moody> {
        Arc::new(Moody { faults: Mutex::new(faults), given: Mutex::default() })
    }
}

impl ComputeModel for Moody {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let orders = rows.column("orders").unwrap();
        let mut level = ColumnBuilder::new("level", &ColumnType::Text);
        let mut fault = None;
        for row in 0..rows.rows {
            let Cell::Int64(orders) = orders.cell(row) else { panic!("a count") };
            self.given.lock().insert(orders);
            let of_row = self.faults.lock().iter().find(|(of, _)| *of == orders).map(|(_, fault)| fault.clone());
            fault = fault.or(of_row);
            level.push(Cell::Text("few".into())).unwrap();
        }
        fault.map_or_else(|| Ok(Table { rows: rows.rows, columns: vec![level.finish()] }), Err)
    }
}

fn moody(model: &Arc<Moody>) -> impl FnOnce(&mut Setup) + use<> {
    let model = Arc::clone(model);
    move |setup| setup.installations[1].role = Role::TagModel(model)
}

fn bad_input() -> PluginFault {
    PluginFault::BadInput("six".into())
}

/// The letter of a model could not be tried again: whatever somebody had mended, its people waited for something about them to change.
#[test]
fn who_is_answered_for_is_told_of_no_more_and_not_written_to() {
    let model = Moody::new(vec![(5, trap())]);
    let audience = audience(1, "tags.level == 'few'", Some(ConsentBasis::NotRefused));
    let bench = Bench::over(Arc::new(kith_store::memory()), vec![audience], moody(&model));
    bench.send(orders("good", 0, 1));
    bench.settle();
    bench.send(orders("bad", 0, 5));
    let told = letter(&bench, "trap");
    bench.settle();
    model.faults.lock().clear();
    assert_eq!((bench.size(1), failed_on(&bench)), (Some(1), 1), "the same inputs are not tried by themselves");
    assert_eq!(replay(&bench, &told), asked_again("trap", 1));
    bench.wait_until("the letter is gone", || letters(&bench).is_empty());
    bench.wait_until("it is a member", || (bench.size(1), failed_on(&bench)) == (Some(2), 0));
    bench.settle();
    assert_eq!(bench.postbox.sent.lock().len(), 1, "what is asked about again is no event of theirs");
    assert_eq!(replay(&bench, &told), Replay::NoLetter);
}

#[test]
fn a_letter_whose_people_fail_again_stays_with_a_later_time() {
    let model = Moody::new(vec![(5, trap())]);
    let bench = Bench::over(Arc::new(kith_store::memory()), vec![], moody(&model));
    bench.send(orders("good", 0, 1));
    bench.settle();
    bench.send((0..3).flat_map(|user| orders(&format!("bad-{user}"), 0, 5)).collect());
    bench.wait_until("all are told of", || letter(&bench, "trap").times() == 3);
    let told = letter(&bench, "trap");
    for turn in 2..6 {
        bench.clock.advance_ms(MINUTE);
        assert_eq!(replay(&bench, &told), asked_again("trap", 3));
        bench.wait_until("they have failed again", || letter(&bench, "trap").times() == 3 * turn);
        let again = letter(&bench, "trap");
        assert_eq!((again.about().2, again.first_at()), (bench.clock.now(), START));
        assert_eq!(again.id(), told.id(), "one letter tells of all of it");
        bench.wait_until("that is shown", || failed_on(&bench) == 3);
        let uncomputed = bench.kernel.uncomputed(WORKSPACE, LEVEL).unwrap();
        assert_eq!((uncomputed.people, uncomputed.since), (3, START), "since when there are any");
    }
    assert!(bench.notes.0.lock().is_empty(), "the model is not blamed for it");
    assert_eq!(bench.count("tags.level == 'few'"), 1);
}

/// The older values count while they are asked about again, and whoever has others is not asked about.
#[test]
fn exactly_the_people_of_a_letter_are_asked_about_also_after_a_restart() {
    for restarts in [false, true] {
        let model = Moody::new(vec![(5, trap()), (6, bad_input())]);
        let mut bench = Bench::over(Arc::new(kith_store::memory()), vec![], moody(&model));
        bench.send(orders("good", 0, 1));
        bench.settle();
        bench.send(orders("five", 0, 5).into_iter().chain(orders("six", 0, 6)).collect());
        bench.wait_until("both are told of", || letters(&bench).len() == 2 && failed_on(&bench) == 2);
        if restarts {
            bench.restart();
            bench.wait_until("both are known", || failed_on(&bench) == 2);
        }
        model.faults.lock().clear();
        model.given.lock().clear();
        assert_eq!(replay(&bench, &letter(&bench, "trap")), asked_again("trap", 1));
        bench.wait_until("its letter is gone", || letters(&bench).len() == 1 && failed_on(&bench) == 1);
        assert_eq!(letters(&bench)[0].about().1, "plugin.bad-input");
        assert_eq!(*model.given.lock(), [5].into());
        assert_eq!(replay(&bench, &letter(&bench, "plugin.bad-input")), asked_again("plugin.bad-input", 1));
        bench.wait_until("no letter is left", || letters(&bench).is_empty());
    }
}

/// Everybody with a value of the version before one that cannot take some of them.
fn upgraded(many: usize, few: usize) -> (Bench, Arc<Picky>) {
    let bench = Bench::new(vec![]);
    bench.send((0..many).flat_map(|user| orders(&format!("many-{user}"), 0, 5)).collect());
    bench.send((0..few).flat_map(|user| orders(&format!("few-{user}"), 0, 1)).collect());
    assert_eq!(bench.count("has(tags.level)"), (many + few) as u64);
    let picky = Arc::new(Picky(Mutex::new(Some(trap()))));
    bench.configure(|setup| {
        setup.installations[1].role = Role::TagModel(Arc::clone(&picky) as Arc<dyn ComputeModel>);
        setup.installations[1].digest = "of a version that fails".into();
    });
    bench.wait_until("everybody is asked about", || bench.kernel.progress(WORKSPACE).backlog == 0);
    bench.settle();
    (bench, picky)
}

/// An admin let a version run that had lost a quarter, tried its letter again, and it was stopped: it had failed on all about whom it
/// was asked since.
#[test]
fn a_replay_does_not_stop_a_version_that_somebody_lets_run() {
    let (bench, picky) = upgraded(3, 9);
    bench.wait_until("it is stopped", || bench.notes.0.lock().len() == 1);
    let told = letter(&bench, "trap");
    assert_eq!(replay(&bench, &told), Replay::NotRunning { installation: LEVEL });
    bench.configure(|setup| setup.installations[1].activity = Activity::Running);
    bench.clock.advance_ms(MINUTE);
    assert_eq!(replay(&bench, &told), asked_again("trap", 3));
    bench.wait_until("it has failed again", || letter(&bench, "trap").about().2 == bench.clock.now());
    bench.wait_until("on all of them", || letter(&bench, "trap").times() == 6);
    bench.settle();
    let many = bench.kernel.count(WORKSPACE, "tags.level == 'many'").unwrap();
    assert_eq!(
        (many.count, many.pending, bench.notes.0.lock().len()),
        (3, 3, 1),
        "what the version before wrote counts"
    );

    *picky.0.lock() = None;
    assert_eq!(replay(&bench, &told), asked_again("trap", 3));
    bench.wait_until("the letter is gone", || letters(&bench).is_empty());
    assert_eq!(bench.count("tags.level == 'few'"), 12);
}

/// Who waits for the end of something passing is asked about at once.
#[test]
fn a_replay_ends_the_pause_after_something_passing() {
    let model = Moody::new(vec![(5, PluginFault::Transient("later".into()))]);
    let bench = Bench::over(Arc::new(kith_store::memory()), vec![], moody(&model));
    bench.send(orders("u1", 0, 5));
    let told = letter(&bench, "plugin.transient");
    model.faults.lock().clear();
    // The clock stands still.
    assert_eq!(replay(&bench, &told), asked_again("plugin.transient", 1));
    bench.wait_until("the letter is gone", || letters(&bench).is_empty());
    assert_eq!(bench.count("tags.level == 'few'"), 1);
}

#[test]
fn what_is_not_there_any_more_is_told() {
    let model = Moody::new(vec![(5, bad_input())]);
    let bench = Bench::over(Arc::new(kith_store::memory()), vec![], moody(&model));
    bench.send(orders("u1", 0, 5));
    let told = letter(&bench, "plugin.bad-input");
    // A letter of which everybody is gone, as one is between the commit that answers for the last of them and a look at it.
    let about = ComputationSubject::default();
    let (code, message) = ("limit.cpu".to_owned(), String::new());
    let aside = Aside::Computation { at: START, since: START, code, message, profiles: 1, about };
    let key = computation_letter(WORKSPACE, LEVEL, "limit.cpu");
    let operations = vec![Operation::Put(key, row::encode(&aside))];
    bench.store.commit(Unit { operations, ..Unit::default() }).unwrap();
    assert_eq!(replay(&bench, &letter(&bench, "limit.cpu")), Replay::NobodyWaits);

    bench.configure(|setup| {
        setup.installations[1].activity = Activity::Held { since: START, why: "switched off".to_owned() };
    });
    assert_eq!(replay(&bench, &told), Replay::NotRunning { installation: LEVEL });
    bench.configure(|setup| setup.installations[1].activity = Activity::Running);
    assert_eq!(replay(&bench, &told), asked_again("plugin.bad-input", 1));
    bench.configure(|setup| drop(setup.installations.remove(1)));
    assert_eq!(replay(&bench, &told), Replay::InstallationRemoved);
    assert!(bench.wait_for(bench.kernel.dismiss_letter(WORKSPACE, told.id())).unwrap());
}

/// The request is answered once its people wait for the model as durably as others: whatever ends right after it, they are asked
/// about.
#[test]
fn a_replay_that_was_answered_outlives_the_process() {
    let store = Watched::new();
    let mut bench = Bench::over(store.clone(), vec![], |_| {});
    *bench.level.fails.lock() = true;
    bench.send(orders("u1", 0, 5));
    let told = letter(&bench, "trap");
    bench.settle();
    *bench.level.fails.lock() = false;
    // No pass waits for the model, and no later one comes to anything.
    *bench.level.takes.lock() = std::time::Duration::from_millis(300);
    let first = AtomicUsize::new(0);
    *store.refuse.lock() = Some(Box::new(move |unit| is_computed(unit) && first.fetch_add(1, Ordering::SeqCst) > 0));
    assert_eq!(replay(&bench, &told), asked_again("trap", 1));
    assert_eq!(letters(&bench).len(), 1, "it has no answer yet");
    bench.restart();
    *store.refuse.lock() = None;
    bench.wait_until("the letter is gone", || letters(&bench).is_empty());
    assert_eq!(bench.count("tags.level == 'many'"), 1);
}

/// Nor does the process have to come to all of a letter's people before it ends, or the pass that comes to the rest to succeed.
#[test]
fn those_for_whom_the_first_pass_has_no_room_are_asked_about_whatever_becomes_of_the_next() {
    const PEOPLE: usize = 1_100;
    for restarts in [false, true] {
        let store = Watched::new();
        let model = Moody::new(vec![(1, bad_input())]);
        let mut bench = Bench::over(store.clone(), vec![], moody(&model));
        bench.send((0..PEOPLE).flat_map(|user| orders(&format!("u{user}"), 0, 1)).collect());
        // Of many people with one fault some are found in each job, with a pause behind it.
        bench.wait_until("all are told of", || {
            bench.clock.advance_ms(5 * MINUTE);
            failed_on(&bench) == PEOPLE as u64
        });
        let told = letter(&bench, "plugin.bad-input");
        model.faults.lock().clear();
        let first = AtomicUsize::new(0);
        *store.refuse.lock() =
            Some(Box::new(move |unit| is_computed(unit) && first.fetch_add(1, Ordering::SeqCst) > 0));
        assert_eq!(replay(&bench, &told), asked_again("plugin.bad-input", PEOPLE as u64));
        bench.wait_until("the next pass fails", || !store.refused.lock().is_empty());
        assert_eq!(letters(&bench).len(), 1);
        if restarts {
            bench.restart();
        }
        *store.refuse.lock() = None;
        bench.wait_until("the letter is gone", || letters(&bench).is_empty());
        assert_eq!(bench.count("tags.level == 'few'"), PEOPLE as u64);
    }
}

/// The pass that took the request failed: it is taken again, and answered once.
#[test]
fn a_request_whose_pass_cannot_be_committed_is_taken_again() {
    let store = Watched::new();
    let model = Moody::new(vec![(5, bad_input())]);
    let bench = Bench::over(store.clone(), vec![], moody(&model));
    bench.send(orders("u1", 0, 5));
    let told = letter(&bench, "plugin.bad-input");
    bench.settle();
    model.faults.lock().clear();
    let first = AtomicUsize::new(0);
    *store.refuse.lock() = Some(Box::new(move |unit| is_computed(unit) && first.fetch_add(1, Ordering::SeqCst) == 0));
    assert_eq!(replay(&bench, &told), asked_again("plugin.bad-input", 1));
    assert_eq!(store.refused.lock().len(), 1);
    bench.wait_until("the letter is gone", || letters(&bench).is_empty());
}
