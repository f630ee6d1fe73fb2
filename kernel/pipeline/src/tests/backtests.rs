//! Versions that are tried over what is stored: what they would change is what an upgrade then changes, and nothing before it.

use std::ops::ControlFlow;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use kith_model::audience::{ConsentBasis, Reach};
use kith_model::id::AudienceId;
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::Timestamp;
use kith_store::keys::Definition;
use kith_store::{Key, KeyRange, Operation, Unit};
use parking_lot::{Mutex, RwLock};

use super::harness::*;
use crate::profiles::history::history;
use crate::shadow::report::OutputComparison;
use crate::{
    AudienceEffect, BacktestChange, BacktestEnd, BacktestLine, BacktestState, BacktestView, Kernel, MessageCounts,
    MessageVerdict, Role, ShadowVersion,
};

/// A tag model for which so many orders are many.
struct Threshold {
    many: i64,
    /// It fails on whoever has so many.
    fails_on: Option<i64>,
    /// It cannot read the state that it is given.
    is_unfitted: bool,
    asked: AtomicUsize,
    /// A call does not end while this is written to.
    gate: RwLock<()>,
    /// From this call on, a call does not end before the kernel stops.
    holds: Mutex<Option<(usize, Arc<Kernel>)>>,
}

impl Threshold {
    fn of(many: i64) -> Threshold {
        Threshold {
            many,
            fails_on: None,
            is_unfitted: false,
            asked: AtomicUsize::new(0),
            gate: RwLock::default(),
            holds: Mutex::default(),
        }
    }

    fn new(many: i64) -> Arc<Threshold> {
        Arc::new(Threshold::of(many))
    }
}

impl ComputeModel for Threshold {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        let number = self.asked.fetch_add(1, Ordering::SeqCst) + 1;
        let _open = self.gate.read();
        let held = self.holds.lock().take_if(|(from, _)| number >= *from);
        while held.as_ref().is_some_and(|(_, kernel)| kernel.runs(WORKSPACE)) {
            std::thread::park_timeout(Duration::from_millis(1));
        }
        if self.is_unfitted {
            return Err(PluginFault::UnreadableState("it is of another form".into()));
        }
        let orders = rows.column("orders").unwrap();
        let mut level = ColumnBuilder::new("level", ColumnType::Text);
        for row in 0..rows.rows {
            let Cell::Int64(count) = orders.cell(row) else { panic!("it is given what it declares") };
            if self.fails_on == Some(count) {
                return Err(PluginFault::Trapped { message: "panicked: no".into(), backtrace: vec![] });
            }
            level.push(Cell::Text(if count >= self.many { "many" } else { "few" }.into())).unwrap();
        }
        Ok(Table { rows: rows.rows, columns: vec![level.finish()] })
    }
}

/// Have a version tried that reads `orders` by this expression.
fn try_reading(bench: &Bench, model: &Arc<Threshold>, expression: &str, since: i64) {
    bench.configure(|setup| {
        let live = &mut setup.installations[1];
        let inputs = live.inputs.iter().map(|input| InputSpec { expression: expression.to_owned(), ..input.clone() });
        live.backtest = Some(Arc::new(ShadowVersion {
            plugin_version: semver::Version::new(2, 0, 0),
            digest: "digest-of-the-next".into(),
            config_hash: 0,
            since: Timestamp(since),
            inputs: inputs.collect(),
            outputs: live.outputs.clone(),
            call_memory_bytes: 1 << 20,
            role: Role::TagModel(Arc::clone(model) as Arc<dyn ComputeModel>),
        }));
    });
}

fn try_over_history(bench: &Bench, model: &Arc<Threshold>) {
    try_reading(bench, model, "events('Order Completed').size()", 1);
}

fn view(bench: &Bench) -> BacktestView {
    bench.kernel.backtest(WORKSPACE, LEVEL).unwrap()
}

fn is_done(bench: &Bench) -> bool {
    matches!(view(bench).state, BacktestState::Ended(BacktestEnd::Done { .. }))
}

/// Why it was given up.
fn given_up(bench: &Bench) -> Option<String> {
    match view(bench).state {
        BacktestState::Ended(BacktestEnd::GivenUp { code, .. }) => Some(code),
        _ => None,
    }
}

/// Upgrade to the version for good.
fn upgrade(bench: &Bench, model: &Arc<Threshold>) {
    bench.configure(|setup| {
        let live = &mut setup.installations[1];
        live.backtest = None;
        live.role = Role::TagModel(Arc::clone(model) as Arc<dyn ComputeModel>);
        (live.plugin_version, live.digest) = (semver::Version::new(2, 0, 0), "digest-of-the-next".into());
    });
}

/// The key of the report.
fn report_key() -> Key {
    Key::definition(WORKSPACE, Definition::BacktestReport, &LEVEL.0.to_be_bytes())
}

/// Everything that is stored, but for what is counted of backtests.
fn stored(bench: &Bench) -> Vec<(Vec<u8>, Vec<u8>)> {
    let report = report_key();
    let mut range = KeyRange { from: Key::resumed(&[]), to: Key::resumed(&[0xff; 64]) };
    let mut rows = Vec::new();
    loop {
        let page = bench.store.scan(&range, 1_000).unwrap();
        let others = page.rows.into_iter().filter(|(key, _)| *key != report);
        rows.extend(others.map(|(key, value)| (key.as_bytes().to_vec(), value.to_vec())));
        let Some(next) = page.next else { return rows };
        range.from = next;
    }
}

/// People with one to six orders.
fn six_people(bench: &Bench) {
    (1..=6).for_each(|count| drop(bench.send(orders(&format!("u{count}"), 0, count))));
    bench.settle();
}

fn sent(bench: &Bench) -> usize {
    bench.postbox.sent.lock().len()
}

#[test]
fn what_a_version_would_change_is_what_the_upgrade_then_changes() {
    let mut audiences = vec![
        audience(1, "tags.level == 'many'", Some(ConsentBasis::NotRefused)),
        audience(2, "tags.level == 'few'", None),
        audience(3, "events('Order Completed').size() > 1", None),
        audience(4, "tags.level == 'many'", Some(ConsentBasis::OptIn)),
        audience(5, "tags.level == 'many'", Some(ConsentBasis::NotRefused)),
    ];
    for audience in &mut audiences[..4] {
        audience.on_enter.iter_mut().for_each(|action| action.existing = Reach::Send);
    }
    audiences[1].on_exit = audiences[0].on_enter.clone();
    let bench = Bench::new(audiences);
    six_people(&bench);
    let sizes = || [1, 2, 3, 4, 5].map(|id| bench.size(id).unwrap());
    let (before, messages) = (sizes(), sent(&bench));
    assert_eq!(before, [4, 2, 5, 4, 4]);
    let model = Threshold::new(1);
    let closed = model.gate.write();
    try_over_history(&bench, &model);
    bench.wait_until("it is asked", || model.asked.load(Ordering::SeqCst) == 1);
    bench.settle();
    let rows = stored(&bench);
    assert_eq!((view(&bench).state, view(&bench).report.of_all), (BacktestState::Running, 6));
    drop(closed);
    bench.wait_until("everybody was looked at", || is_done(&bench));
    assert!(rows == stored(&bench), "nothing of it is stored");
    assert_eq!((sizes(), sent(&bench)), (before, messages));

    let seen = view(&bench);
    let people = seen.report.people;
    assert_eq!((people.done, people.compared, people.failed, people.pending), (6, 6, 0, 0));
    let differs = OutputComparison { equal: 4, changed: 2, ..OutputComparison::default() };
    assert_eq!(seen.report.outputs["level"], differs);
    let effect = |id| seen.report.audiences[&AudienceId(id)];
    let moved = |effect: AudienceEffect| (effect.entered, effect.left, effect.undecided);
    assert_eq!([1, 2, 4, 5].map(|id| moved(effect(id))), [(2, 0, 0), (0, 2, 0), (2, 0, 0), (2, 0, 0)]);
    assert_eq!(seen.report.audiences.get(&AudienceId(3)), None, "it reads nothing of it");
    let counts = |passes, refused, not_due| MessageCounts { passes, refused, not_due };
    assert_eq!(effect(1).on_enter, counts(2, 0, 0));
    assert_eq!(effect(2).on_exit, counts(0, 0, 2), "an exit that a version causes sends nothing");
    assert_eq!(effect(4).on_enter, counts(0, 2, 0), "nobody has agreed");
    assert_eq!(effect(5).on_enter, counts(0, 0, 2), "it leaves out who was there before");
    let outputs = &seen.examples[&BacktestLine::Output("level".into())];
    let values: Vec<_> = outputs.iter().map(|example| (example.live.as_deref(), example.version.as_deref())).collect();
    assert_eq!(values, [(Some("\"few\""), Some("\"many\"")); 2]);
    let entered = &seen.examples[&BacktestLine::Entered(AudienceId(4))];
    assert!(matches!(entered[0].message, Some(MessageVerdict::Refused { .. })), "{entered:?}");
    let mut who: Vec<_> = entered.iter().map(|example| example.profile).collect();
    let mut expected = ["u1", "u2"].map(|user| bench.profile("user_id", user).unwrap().id);
    who.sort();
    expected.sort();
    assert_eq!(who, expected);

    upgrade(&bench, &model);
    bench.wait_until("everybody has its value", || bench.size(2) == Some(0));
    bench.settle();
    let ids = [1, 2, 4, 5];
    let told = ids.map(|id| before[id as usize - 1] + effect(id).entered - effect(id).left);
    assert_eq!(ids.map(|id| bench.size(id).unwrap()), told);
    assert_eq!(sent(&bench), messages + 2, "as many messages left as were foretold");
    assert_eq!(bench.kernel.backtest(WORKSPACE, LEVEL), None);
}

#[test]
fn inputs_that_nothing_keeps_are_read_from_history() {
    let bench = Bench::new(vec![audience(1, "tags.level == 'many'", None)]);
    let refund = |user: &str| event(&format!("{user}-refund"), &[("user_id", user)], "Order Refunded", START);
    bench.send(vec![refund("u1"), refund("u3")]);
    bench.send(orders("u2", 0, 3));
    bench.settle();
    try_reading(&bench, &Threshold::new(1), "events('Order Refunded').size()", 1);
    bench.wait_until("everybody was looked at", || is_done(&bench));
    let seen = view(&bench).report;
    let differs = OutputComparison { equal: 0, changed: 3, ..OutputComparison::default() };
    assert_eq!((seen.people.compared, seen.outputs["level"]), (3, differs));
    let effect = seen.audiences[&AudienceId(1)];
    assert_eq!((effect.entered, effect.left), (2, 1));
}

#[test]
fn a_version_that_fails_is_counted_and_harms_nobody() {
    let bench = Bench::new(vec![]);
    six_people(&bench);
    let failing = Arc::new(Threshold { fails_on: Some(2), ..Threshold::of(3) });
    try_over_history(&bench, &failing);
    bench.wait_until("everybody was looked at", || is_done(&bench));
    let seen = view(&bench);
    assert_eq!((seen.report.people.compared, seen.report.people.failed), (5, 1));
    assert_eq!(seen.report.outputs["level"].equal, 5, "those beside whom it failed were asked about alone");
    assert_eq!(seen.report.version.failures.values().sum::<u64>(), 1);
    assert_eq!(seen.last_failure.unwrap().message, "trap: panicked: no");
    try_reading(&bench, &Arc::new(Threshold { is_unfitted: true, ..Threshold::of(3) }), "1", 2);
    bench.wait_until("it is given up", || given_up(&bench).as_deref() == Some("plugin.unreadable-state"));
    try_reading(&bench, &Threshold::new(3), "events(", 3);
    bench.wait_until("it is given up", || given_up(&bench).as_deref() == Some("bad-input"));
    assert_eq!(*bench.notes.0.lock(), [], "nobody is held");
    assert_eq!(bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items, []);
    assert_eq!(bench.profile("user_id", "u2").unwrap().tags["level"].json, "\"few\"");
}

/// More people than one batch has room for, and a stop in the middle of the second.
#[test]
fn a_backtest_goes_on_after_a_restart_and_counts_nobody_twice() {
    const PEOPLE: usize = 300;
    let mut bench = Bench::new(vec![audience(1, "tags.level == 'many'", None)]);
    bench.send((0..PEOPLE).flat_map(|user| orders(&format!("u{user}"), 0, 1)).collect());
    bench.wait_until("everybody is known", || bench.count("tags.level == 'few'") == PEOPLE as u64);
    let model = Threshold::new(1);
    *model.holds.lock() = Some((2, Arc::clone(&bench.kernel)));
    try_over_history(&bench, &model);
    bench.wait_until("it is asked about the second batch", || model.asked.load(Ordering::SeqCst) == 2);
    let first = view(&bench).report.people;
    assert!(first.done > 0 && first.done < PEOPLE as u64, "{first:?}");
    bench.restart();
    bench.wait_until("everybody was looked at", || is_done(&bench));
    let seen = view(&bench).report;
    assert_eq!((seen.people.done, seen.people.compared, seen.of_all), (300, 300, 300));
    assert_eq!((seen.outputs["level"].changed, seen.audiences[&AudienceId(1)].entered), (300, 300));
    assert_eq!((seen.version.calls, model.asked.load(Ordering::SeqCst)), (2, 3), "one was cut off");
    bench.restart();
    bench.wait_until("it is there", || is_done(&bench));
    assert_eq!((view(&bench).report, model.asked.load(Ordering::SeqCst)), (seen, 3), "it has ended for good");
}

#[test]
fn a_report_says_what_has_changed_since_and_ends_with_what_it_is_of() {
    let bench = Bench::new(vec![audience(1, "tags.level == 'many'", None)]);
    six_people(&bench);
    let model = Threshold::new(1);
    try_over_history(&bench, &model);
    bench.wait_until("everybody was looked at", || is_done(&bench));
    assert_eq!(view(&bench).changes, []);
    bench.configure(|setup| {
        setup.audiences[0].condition = "tags.level == 'few'".into();
        setup.audiences.push(audience(2, "tags.level != 'few'", None));
        setup.installations[1].config_hash = 7;
    });
    let added = BacktestChange::AudienceAdded(AudienceId(2));
    assert_eq!(view(&bench).changes, [BacktestChange::Config, BacktestChange::Audience(AudienceId(1)), added]);
    bench.settle();
    let closed = model.gate.write();
    try_reading(&bench, &model, "events('Order Completed').size()", 2);
    bench.wait_until("it is asked", || model.asked.load(Ordering::SeqCst) == 2);
    assert_eq!((view(&bench).changes, view(&bench).report.people.done), (vec![], 0), "another run begins anew");
    bench.configure(|setup| setup.installations[1].backtest = None);
    drop(closed);
    bench.settle();
    assert_eq!(bench.kernel.backtest(WORKSPACE, LEVEL), None, "it was cancelled");
}

/// Regression: the values of the version before counted as those of the live one.
#[test]
fn who_waits_for_the_live_version_is_pending() {
    let bench = Bench::new(vec![]);
    six_people(&bench);
    let (live, tried) = (Threshold::new(3), Threshold::new(1));
    let closed = live.gate.write();
    bench.configure(|setup| {
        let installed = &mut setup.installations[1];
        installed.role = Role::TagModel(Arc::clone(&live) as Arc<dyn ComputeModel>);
        installed.digest = "digest-of-the-live-one".into();
    });
    try_over_history(&bench, &tried);
    bench.wait_until("everybody was looked at", || is_done(&bench));
    let people = view(&bench).report.people;
    assert_eq!((people.compared, people.pending), (6, 6));
    drop(closed);
}

/// Regression: a batch that ended between the change that ended its backtest and the new setup put the deleted report back.
#[test]
fn a_report_that_was_deleted_does_not_come_back() {
    let bench = Bench::new(vec![]);
    six_people(&bench);
    let model = Threshold::new(1);
    let closed = model.gate.write();
    try_over_history(&bench, &model);
    bench.wait_until("it is asked", || model.asked.load(Ordering::SeqCst) == 1);
    let is_there = || bench.store.get(&[report_key()]).unwrap()[0].is_some();
    assert!(is_there());
    let operations = vec![Operation::Delete(report_key())];
    bench.store.commit(Unit { operations, ..Unit::default() }).unwrap();
    drop(closed);
    bench.wait_until("everybody was looked at", || is_done(&bench));
    assert!(!is_there());
    bench.configure(|setup| setup.installations[1].backtest = None);
    assert!(!is_there());
}

/// A backtest that is cancelled after its first write leaves no report, whenever that write was made.
#[test]
fn the_first_write_goes_with_the_run() {
    let bench = Bench::new(vec![]);
    six_people(&bench);
    let model = Threshold::new(1);
    let closed = model.gate.write();
    try_over_history(&bench, &model);
    bench.wait_until("it is asked", || model.asked.load(Ordering::SeqCst) == 1);
    bench.configure(|setup| setup.installations[1].backtest = None);
    assert!(bench.store.get(&[report_key()]).unwrap()[0].is_none());
    drop(closed);
}

#[test]
fn a_look_at_a_history_ends_when_it_has_seen_enough() {
    let bench = Bench::new(vec![]);
    bench.send(orders("u1", 0, 3));
    let identity = bench.profile("user_id", "u1").unwrap().id.0;
    let mut seen = 0;
    let read = history(bench.store.as_ref(), WORKSPACE, identity, bench.store.head(), |_| {
        seen += 1;
        if seen == 2 { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    assert_eq!((read.unwrap(), seen), (ControlFlow::Break(()), 2));
}
