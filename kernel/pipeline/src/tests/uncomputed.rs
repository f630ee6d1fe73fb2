//! A version of a model that fails on people for whom the one before it had values: what is said of them, what counts, and when
//! it is stopped.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kith_model::plugin::{Cancellation, ComputeModel, Dataset, Fitted, PluginFault};
use kith_model::table::Table;
use kith_model::time::Clock as _;
use parking_lot::Mutex;

use super::harness::*;
use super::models::{Picky, trap};
use crate::setup::Activity;
use crate::{Count, DeadLetter, Role, Setup};

const MINUTE: i64 = 60_000;

/// Everybody with a level: these with many orders, of whom a later version can take none, and these with one.
fn with_levels(many: usize, few: usize) -> Bench {
    let bench = Bench::new(vec![]);
    bench.send((0..many).flat_map(|user| orders(&format!("many-{user}"), 0, 5)).collect());
    bench.send((0..few).flat_map(|user| orders(&format!("few-{user}"), 0, 1)).collect());
    assert_eq!(bench.count("has(tags.level)"), (many + few) as u64);
    bench
}

/// Put a version in the model's place that fails on who has many orders, and wait until it has been asked about everybody.
fn upgrade(bench: &Bench, fault: PluginFault) -> Arc<Picky> {
    let picky = Arc::new(Picky(Mutex::new(Some(fault))));
    bench.configure(|setup| {
        let model = &mut setup.installations[1];
        model.role = Role::TagModel(Arc::clone(&picky) as Arc<dyn ComputeModel>);
        model.digest = "of a version that fails".into();
    });
    everybody_is_asked_about(bench);
    picky
}

/// Wait until so many versions have been stopped, and as many are not on trial.
fn are_stopped(bench: &Bench, count: usize) {
    bench.wait_until("it is stopped", || bench.notes.0.lock().len() == count);
    bench.wait_until("what it wrote is held", || counted(bench, "tags.level == 'many'").exact);
}

/// When the next trial begins, in minutes from now.
fn minutes_to_trial(bench: &Bench) -> Option<i64> {
    let due_at = bench.kernel.next_trial(WORKSPACE, LEVEL)?;
    Some((due_at.0 - bench.clock.now().0) / MINUTE)
}

fn everybody_is_asked_about(bench: &Bench) {
    bench.wait_until("everybody is asked about", || bench.kernel.progress(WORKSPACE).backlog == 0);
    bench.settle();
}

/// Wait until what came is computed, whatever a stopped model has to say of it.
fn everybody_is_computed(bench: &Bench) {
    let head = bench.store.head_of(WORKSPACE);
    assert!(
        bench.kernel.wait_until_reacted(WORKSPACE, head, std::time::Duration::from_secs(20)),
        "not computed in time"
    );
}

fn counted(bench: &Bench, condition: &str) -> Count {
    bench.kernel.count(WORKSPACE, condition).unwrap()
}

fn letters(bench: &Bench) -> Vec<DeadLetter> {
    bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items
}

/// The installation ran and nothing was to be seen of the people whom its version failed on; counts of the values of the one
/// before called themselves exact, and the dead letter stayed when everybody had been answered for.
#[test]
fn whom_a_version_fails_on_is_told_until_they_are_answered_for() {
    let mut bench = with_levels(2, 1);
    let original: Setup = bench.setup.lock().clone();
    upgrade(&bench, trap());
    assert!(bench.notes.0.lock().is_empty(), "two people are too few to take it from everybody");
    let uncomputed = bench.kernel.uncomputed(WORKSPACE, LEVEL).unwrap();
    assert_eq!((uncomputed.people, uncomputed.since, uncomputed.code.as_str()), (2, START, "trap"));
    assert!(uncomputed.message.contains("panicked: five"), "{uncomputed:?}");
    for condition in ["tags.level == 'many'", "tags.level == 'many' && profile.identifiers.user_id.size() == 1"] {
        let many = counted(&bench, condition);
        assert_eq!((many.count, many.pending, many.exact, many.current), (2, 2, false, false), "{condition}");
    }
    let other = counted(&bench, "events('Order Completed').size() >= 5");
    assert_eq!((other.count, other.exact, other.current), (2, true, true), "which reads nothing of it");
    let told = letters(&bench);
    assert_eq!((told.len(), told[0].times(), told[0].first_at()), (1, 2, START));
    assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().set_aside, 1);

    bench.clock.advance_ms(60_000);
    bench.restart();
    everybody_is_asked_about(&bench);
    assert_eq!(bench.kernel.uncomputed(WORKSPACE, LEVEL), Some(uncomputed), "a restart forgets nothing of it");
    assert_eq!(counted(&bench, "tags.level == 'many'").pending, 2);

    bench.configure(|setup| *setup = original);
    everybody_is_asked_about(&bench);
    bench.wait_until("the letter is gone", || letters(&bench).is_empty());
    assert_eq!(bench.kernel.uncomputed(WORKSPACE, LEVEL), None);
    let many = counted(&bench, "tags.level == 'many'");
    assert_eq!((many.count, many.pending, many.exact, many.current), (2, 0, true, true));
    assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().set_aside, 0);
}

/// It failed on most people and ran on, because there was somebody in each job for whom it answered.
#[test]
fn a_version_that_fails_on_a_quarter_of_those_who_had_values_is_stopped_and_these_count() {
    for fault in [trap(), PluginFault::Permanent("five".into())] {
        let bench = with_levels(3, 9);
        upgrade(&bench, fault);
        bench.wait_until("it is held", || *bench.notes.0.lock() == [LEVEL]);
        bench.wait_until("what it wrote is held", || counted(&bench, "tags.level == 'many'").exact);
        let many = counted(&bench, "tags.level == 'many'");
        assert_eq!((many.count, many.pending, many.current), (3, 0, true), "what the version before wrote");
        assert_eq!(bench.kernel.uncomputed(WORKSPACE, LEVEL).map(|uncomputed| uncomputed.people), Some(3));
    }
}

/// It stayed stopped until an admin came, though what made it fail may pass as it does of a version that was stopped for its faults.
#[test]
fn a_version_that_was_stopped_for_whom_it_lost_is_tried_on_them_and_each_trial_that_fails_doubles_the_wait() {
    for fault in [trap(), PluginFault::Permanent("five".into())] {
        let bench = with_levels(3, 9);
        let picky = upgrade(&bench, fault);
        are_stopped(&bench, 1);
        for (trial, minutes) in [(2, 1), (3, 2), (4, 4)] {
            assert_eq!(minutes_to_trial(&bench), Some(minutes));
            bench.clock.advance_ms(minutes * MINUTE);
            are_stopped(&bench, trial);
            let many = counted(&bench, "tags.level == 'many'");
            assert_eq!((many.count, many.pending), (3, 0), "what the version before wrote");
            let uncomputed = bench.kernel.uncomputed(WORKSPACE, LEVEL).unwrap();
            assert_eq!((uncomputed.people, uncomputed.since), (3, START), "since when there are any");
        }
        let reasons = bench.notes.2.reasons.lock().clone();
        let of_all =
            |reason: &String| reason.starts_with("it failed on 3 of 12 people for whom the version before it had");
        assert!(reasons.iter().all(of_all), "those for whom it had answered count: {reasons:?}");
        assert_eq!((letters(&bench).len(), letters(&bench)[0].first_at()), (1, START), "one letter tells of all of it");

        *picky.0.lock() = None;
        bench.clock.advance_ms(8 * MINUTE);
        bench.wait_until("it runs again", || *bench.notes.2.recovered.lock() == [LEVEL]);
        assert_eq!(bench.count("tags.level == 'few'"), 12, "everybody is answered for");
        bench.wait_until("the letter is gone", || letters(&bench).is_empty());
        assert_eq!((minutes_to_trial(&bench), bench.notes.0.lock().len()), (None, 4));
        assert_eq!(bench.kernel.uncomputed(WORKSPACE, LEVEL), None);
    }
}

/// A job of people for whom it answers says nothing of those on whom it failed.
#[test]
fn those_who_are_left_after_a_change_decide_about_a_trial() {
    let bench = with_levels(3, 9);
    upgrade(&bench, trap());
    are_stopped(&bench, 1);
    // Two have another order by now, with which it takes them.
    bench.send((0..2).flat_map(|user| orders(&format!("many-{user}"), 5, 1)).collect());
    everybody_is_computed(&bench);
    bench.clock.advance_ms(MINUTE);
    bench.wait_until("it runs again", || *bench.notes.2.recovered.lock() == [LEVEL]);
    assert_eq!(bench.notes.0.lock().len(), 1, "one is too few");
    everybody_is_asked_about(&bench);
    assert_eq!(bench.kernel.uncomputed(WORKSPACE, LEVEL).map(|uncomputed| uncomputed.people), Some(1));
}

/// What it came to was in memory alone, and the people's rows say it too.
#[test]
fn a_trial_after_a_restart_is_judged_by_all_for_whom_the_version_had_answered() {
    let mut bench = with_levels(3, 9);
    upgrade(&bench, trap());
    are_stopped(&bench, 1);
    let why = bench.notes.2.reasons.lock()[0].clone();
    let since = bench.clock.now();
    // As the server's catalogue has it.
    bench.configure(|setup| setup.installations[1].activity = Activity::Quarantined { since, why: why.clone() });
    bench.restart();
    assert_eq!(minutes_to_trial(&bench), Some(1));
    bench.clock.advance_ms(MINUTE);
    are_stopped(&bench, 2);
    assert_eq!(bench.notes.2.reasons.lock()[1], why);
    assert_eq!(minutes_to_trial(&bench), Some(2));
}

/// Fails on who has many orders, and has so many answers for calls about others; then it has them later.
struct Hesitant {
    picky: Picky,
    answers: AtomicUsize,
}

impl ComputeModel for Hesitant {
    fn fit(&self, dataset: Box<dyn Dataset>, cancellation: &Cancellation) -> Result<Fitted, PluginFault> {
        self.picky.fit(dataset, cancellation)
    }

    fn compute(&self, state: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let answer = self.picky.compute(state, rows)?;
        let one_less = |answers: usize| answers.checked_sub(1);
        match self.answers.fetch_update(Ordering::SeqCst, Ordering::SeqCst, one_less) {
            Ok(_) => Ok(answer),
            Err(_) => Err(PluginFault::Transient("later".into())),
        }
    }
}

/// What the version had come to was in memory alone: it was judged by those who were left when the process began, and ran on though
/// it had failed on a quarter.
#[test]
fn a_version_is_judged_by_all_about_whom_it_was_asked_also_where_the_process_ended_in_between() {
    for (few, is_stopped) in [(9, true), (10, false)] {
        let mut bench = with_levels(3, few);
        let picky = Picky(Mutex::new(Some(trap())));
        let hesitant = Arc::new(Hesitant { picky, answers: AtomicUsize::new(1) });
        let model = Arc::clone(&hesitant);
        bench.configure(|setup| {
            setup.installations[1].role = Role::TagModel(model);
            setup.installations[1].digest = "of a version that fails".into();
        });
        let failed_on = |bench: &Bench| bench.kernel.uncomputed(WORKSPACE, LEVEL).map_or(0, |told| told.people);
        bench.wait_until("it has failed on three", || failed_on(&bench) == 3);
        bench.wait_until("the others wait", || letters(&bench).len() == 2);
        assert!(bench.notes.0.lock().is_empty(), "not all have been asked about");

        // The clock stands still, and so does the pause.
        hesitant.answers.store(usize::MAX, Ordering::SeqCst);
        bench.restart();
        everybody_is_asked_about(&bench);
        if is_stopped {
            are_stopped(&bench, 1);
            let why = bench.notes.2.reasons.lock()[0].clone();
            assert!(why.starts_with("it failed on 3 of 12 people for whom the version before it had values"), "{why}");
        } else {
            bench.wait_until("the others are answered for", || letters(&bench).len() == 1);
            let told = letters(&bench).remove(0);
            assert_eq!((told.about().1, told.times()), ("trap", 3), "the letter of these tells of nobody else");
            assert_eq!(counted(&bench, "tags.level == 'few'").count, few as u64);
            assert!(bench.notes.0.lock().is_empty(), "three of thirteen are not a quarter");
        }
    }
}

/// Nor after a restart, when they do something.
#[test]
fn three_among_many_do_not_take_a_version_from_everybody() {
    let mut bench = with_levels(3, 10);
    upgrade(&bench, trap());
    bench.restart();
    everybody_is_asked_about(&bench);
    bench.send((0..3).flat_map(|user| orders(&format!("many-{user}"), 5, 1)).collect());
    everybody_is_asked_about(&bench);
    assert!(bench.notes.0.lock().is_empty());
    let few = counted(&bench, "tags.level == 'few'");
    assert_eq!((few.count, few.exact), (13, true), "with six orders it takes them");
}

/// The letter of something passing stayed as well.
#[test]
fn the_letter_of_what_passes_goes_when_it_has_passed() {
    let picky = Arc::new(Picky(Mutex::new(Some(PluginFault::Transient("later".into())))));
    let model = Arc::clone(&picky);
    let bench = Bench::over(Arc::new(kith_store::memory()), vec![], |setup| {
        setup.installations[1].role = Role::TagModel(model);
    });
    bench.send(orders("u1", 0, 5));
    bench.wait_until("it is told", || letters(&bench).len() == 1);
    assert_eq!(bench.kernel.uncomputed(WORKSPACE, LEVEL), None, "it is tried again");
    *picky.0.lock() = None;
    bench.advance(60_000, || letters(&bench).is_empty());
    assert_eq!(bench.count("tags.level == 'few'"), 1);
}
