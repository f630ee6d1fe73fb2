//! Versions that run beside the live ones: what they answer is compared, and counts nowhere.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Instant;

use kith_model::audience::ConsentBasis;
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::Timestamp;
use kith_store::keys::Definition;
use kith_store::{Key, Operation, Unit, row};
use parking_lot::{Mutex, RwLock};

use super::harness::*;
use crate::shadow::COMMIT_PERIOD;
use crate::shadow::report::{OutputComparison, ShadowReport, SkippedCounts};
use crate::{Activity, Patience, Role, ShadowVersion, ShadowView};

/// A tag model that answers everybody the same, or fails on everybody.
struct Stubborn {
    answer: Result<&'static str, PluginFault>,
    asked: AtomicUsize,
    /// A call does not end while this is written to.
    gate: RwLock<()>,
}

impl Stubborn {
    fn new(answer: Result<&'static str, PluginFault>) -> Arc<Stubborn> {
        Arc::new(Stubborn { answer, asked: AtomicUsize::new(0), gate: RwLock::default() })
    }
}

impl ComputeModel for Stubborn {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        self.asked.fetch_add(1, Ordering::SeqCst);
        let _open = self.gate.read();
        let answer = self.answer.clone()?;
        assert!(rows.column("count").is_some(), "it is given its inputs under its own names");
        let mut level = ColumnBuilder::new("level", &ColumnType::Text);
        (0..rows.rows).for_each(|_| level.push(Cell::Text(answer.into())).unwrap());
        Ok(Table { rows: rows.rows, columns: vec![level.finish()] })
    }
}

/// Have `role` run beside an installation since `since`.
fn run_beside(bench: &Bench, place: usize, role: Role, since: i64) {
    bench.configure(|setup| {
        let live = &mut setup.installations[place];
        let renamed = live.inputs.iter().map(|input| InputSpec { name: "count".into(), ..input.clone() });
        live.shadow = Some(Arc::new(ShadowVersion {
            plugin_version: semver::Version::new(2, 0, 0),
            digest: "digest-of-the-shadow".into(),
            config_hash: 0,
            since: Timestamp(since),
            inputs: renamed.collect(),
            outputs: live.outputs.clone(),
            call_memory_bytes: 1 << 20,
            role,
        }));
    });
}

fn beside_level(bench: &Bench, model: &Arc<Stubborn>) {
    run_beside(bench, 1, Role::TagModel(Arc::clone(model) as Arc<dyn ComputeModel>), 0);
}

fn view(bench: &Bench) -> ShadowView {
    bench.kernel.shadow(WORKSPACE, LEVEL).unwrap()
}

fn level(bench: &Bench, user: &str) -> String {
    bench.profile("user_id", user).unwrap().tags["level"].json.clone()
}

#[test]
fn what_a_shadow_answers_is_compared_and_counts_nowhere() {
    let audiences = vec![
        audience(1, "tags.level == 'few'", Some(ConsentBasis::NotRefused)),
        audience(2, "tags.level == 'many'", None),
    ];
    let bench = Bench::new(audiences);
    let model = Stubborn::new(Ok("many"));
    beside_level(&bench, &model);
    bench.send(orders("u1", 0, 1));
    bench.wait_until("the first is compared", || view(&bench).report.compared == 1);
    bench.send(orders("u2", 0, 3));
    bench.wait_until("the second is compared", || view(&bench).report.compared == 2);
    assert_eq!((level(&bench, "u1").as_str(), level(&bench, "u2").as_str()), ("\"few\"", "\"many\""));
    assert_eq!((bench.size(1), bench.size(2)), (Some(1), Some(1)));
    let seen = view(&bench);
    let expected = OutputComparison { equal: 1, changed: 1, ..OutputComparison::default() };
    assert_eq!(seen.report.outputs["level"], expected);
    assert_eq!((seen.report.live.calls, seen.report.shadow.calls), (2, 2));
    assert!(seen.report.live.failures.is_empty() && seen.report.shadow.failures.is_empty());
    let [example] = seen.examples.as_slice() else { panic!("{seen:?}") };
    assert_eq!(example.profile, Some(bench.profile("user_id", "u1").unwrap().id));
    let values = (example.output.as_str(), example.live.as_deref(), example.shadow.as_deref());
    assert_eq!(values, ("level", Some("\"few\""), Some("\"many\"")));
    assert_eq!(bench.postbox.sent.lock().len(), 1);
    let installations = BTreeSet::from([SOURCE, LEVEL]);
    let written =
        bench.kernel.written(WORKSPACE, "digest-of-the-shadow", &installations, &Patience::default()).unwrap();
    assert!(written.values.is_empty() && written.events.is_empty(), "nobody has anything of it: {written:?}");
    // It is promoted: now its values count, and nobody is written to again.
    bench.configure(|setup| {
        let live = &mut setup.installations[1];
        live.shadow = None;
        live.role = Role::TagModel(Arc::clone(&model) as Arc<dyn ComputeModel>);
        live.inputs[0].name = "count".into();
        (live.plugin_version, live.digest) = (semver::Version::new(2, 0, 0), "digest-of-the-shadow".into());
    });
    bench.wait_until("everybody has its value", || (bench.size(1), bench.size(2)) == (Some(0), Some(2)));
    assert_eq!(level(&bench, "u1"), "\"many\"");
    assert_eq!(bench.kernel.shadow(WORKSPACE, LEVEL), None);
    bench.settle();
    assert_eq!(bench.postbox.sent.lock().len(), 1, "no message came of a shadow or of its promotion");
}

#[test]
fn the_faults_of_a_shadow_are_nobodys_strikes() {
    let bench = Bench::new(vec![]);
    let trap = PluginFault::Trapped { message: "panicked: no".into(), backtrace: vec![] };
    beside_level(&bench, &Stubborn::new(Err(trap)));
    bench.send(orders("u0", 0, 1));
    bench.wait_until("it has failed", || view(&bench).report.shadow.failures.get("trap") == Some(&1));
    for user in 1..6 {
        let user = format!("u{user}");
        bench.send(orders(&user, 0, 1));
        assert_eq!(level(&bench, &user), "\"few\"");
    }
    let all = |view: &ShadowView| view.report.compared + view.report.skipped.given_up + view.report.skipped.busy;
    bench.wait_until("each was compared or skipped", || all(&view(&bench)) == 6);
    let seen = view(&bench);
    assert_eq!(*bench.notes.0.lock(), [], "nobody is held");
    assert!(seen.report.outputs.is_empty() && seen.report.live.failures.is_empty(), "{seen:?}");
    let last = seen.last_failure.unwrap();
    assert_eq!((last.code.as_str(), last.message.as_str()), ("trap", "trap: panicked: no"));
    assert_eq!(bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items, []);
}

#[test]
fn what_has_no_room_is_skipped_and_counted() {
    let bench = Bench::new(vec![]);
    let model = Stubborn::new(Ok("many"));
    beside_level(&bench, &model);
    let closed = model.gate.write();
    bench.send(orders("u1", 0, 1));
    bench.wait_until("it is asked", || model.asked.load(Ordering::SeqCst) == 1);
    for user in ["u2", "u3"] {
        bench.send(orders(user, 0, 1));
        assert_eq!(level(&bench, user), "\"few\"", "a shadow that does not end delays nobody");
    }
    let skipped = |busy| SkippedCounts { busy, ..SkippedCounts::default() };
    bench.wait_until("both are skipped", || view(&bench).report.skipped == skipped(2));
    assert_eq!(view(&bench).report.compared, 0);
    drop(closed);
    bench.wait_until("the first is compared", || view(&bench).report.compared == 1);
    bench.send(orders("u4", 0, 1));
    bench.wait_until("there is room again", || view(&bench).report.compared == 2);
    assert_eq!((model.asked.load(Ordering::SeqCst), view(&bench).report.skipped), (2, skipped(2)));
}

#[test]
fn the_counts_of_a_shadow_outlive_a_restart_and_end_with_it() {
    let mut bench = Bench::new(vec![]);
    let model = Stubborn::new(Ok("many"));
    beside_level(&bench, &model);
    for (user, compared) in [("u1", 1), ("u2", 2)] {
        bench.send(orders(user, 0, 1));
        bench.wait_until("it is compared", || view(&bench).report.compared == compared);
    }
    let before = view(&bench).report;
    bench.restart();
    assert_eq!((view(&bench).report, view(&bench).examples.len()), (before, 0), "people are in memory alone");
    bench.send(orders("u3", 0, 1));
    bench.wait_until("it goes on", || view(&bench).report.compared == 3);
    run_beside(&bench, 1, Role::TagModel(Arc::clone(&model) as Arc<dyn ComputeModel>), 1);
    assert_eq!(view(&bench).report.compared, 0, "another run begins anew");
    bench.configure(|setup| setup.installations[1].activity = Activity::Held { since: START, why: "off".into() });
    let asked = model.asked.load(Ordering::SeqCst);
    bench.send(orders("u4", 0, 1));
    bench.settle();
    assert_eq!((view(&bench).report.compared, model.asked.load(Ordering::SeqCst)), (0, asked), "it is held as well");
}

/// Regression: what was compared last was written with the next comparison, so that a server that was killed after hours without
/// one had lost it.
#[test]
fn what_was_compared_last_is_written_though_nothing_follows() {
    let bench = Bench::new(vec![]);
    beside_level(&bench, &Stubborn::new(Ok("many")));
    for (user, compared) in [("u1", 1), ("u2", 2), ("u3", 3)] {
        bench.send(orders(user, 0, 1));
        bench.wait_until("it is compared", || view(&bench).report.compared == compared);
    }
    let shared = &bench.kernel.shared;
    shared.shadows.keep_due(shared, WORKSPACE, Instant::now() + COMMIT_PERIOD);
    let key = Key::definition(WORKSPACE, Definition::ShadowReport, &LEVEL.0.to_be_bytes());
    let written = bench.store.get(std::slice::from_ref(&key)).unwrap()[0].clone().unwrap();
    assert_eq!(row::decode::<ShadowReport>(&written).unwrap().compared, 3);
}

/// A connector that names every event otherwise than the live one, or refuses what that takes.
struct Renaming {
    live: Arc<dyn Connector>,
    refuses: Mutex<bool>,
}

impl Connector for Renaming {
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError> {
        if *self.refuses.lock() {
            let (code, message) = ("no-thanks".into(), "not today".into());
            return Err(ReceiveError::Refused(Refusal { status: 400, code, message }));
        }
        let mut received = self.live.receive(request)?;
        received.events.truncate(2);
        received.events[1].name = "Renamed".into();
        Ok(received)
    }
}

#[test]
fn a_connectors_shadow_is_given_the_same_request_and_the_live_one_answers() {
    let bench = Bench::new(vec![]);
    let Role::Connector(live) = bench.setup.lock().installations[0].role.clone() else { panic!("it is a connector") };
    let renaming = Arc::new(Renaming { live, refuses: Mutex::new(false) });
    run_beside(&bench, 0, Role::Connector(Arc::clone(&renaming) as Arc<dyn Connector>), 0);
    let seen = || bench.kernel.shadow(WORKSPACE, SOURCE).unwrap();
    assert_eq!(bench.send(orders("u1", 0, 3)).acceptance.accepted, 3);
    bench.wait_until("it is compared", || seen().report.compared == 1);
    assert_eq!(bench.count("events('Order Completed').size() == 3"), 1, "what the shadow made of it is nowhere");
    let events = OutputComparison { equal: 1, changed: 1, only_live: 1, only_shadow: 0 };
    assert_eq!(seen().report.outputs["events"], events);
    let parts = ["answer", "consumed"].map(|part| seen().report.outputs[part].equal);
    assert_eq!(parts, [1, 1]);
    let examples = seen().examples;
    assert_eq!(examples.len(), 2);
    assert!(examples[0].shadow.as_deref().is_some_and(|event| event.contains("Renamed")), "{examples:?}");
    assert_eq!((examples[1].profile, examples[1].shadow.as_deref()), (None, None));
    *renaming.refuses.lock() = true;
    assert_eq!(bench.send(orders("u2", 0, 1)).acceptance.accepted, 1);
    bench.wait_until("it has refused", || seen().report.shadow.failures.get("refused") == Some(&1));
    assert!(seen().report.live.failures.is_empty());
    assert_eq!(seen().last_failure.map(|failure| failure.message), Some("no-thanks: not today".to_owned()));
    assert_eq!(*bench.notes.0.lock(), []);
}

/// Regression: a comparison that ended between the change that ended its shadow and the new setup put the deleted report back.
#[test]
fn a_report_goes_with_its_shadow_and_does_not_come_back() {
    let mut bench = Bench::new(vec![]);
    let model = Stubborn::new(Ok("many"));
    beside_level(&bench, &model);
    let key = Key::definition(WORKSPACE, Definition::ShadowReport, &LEVEL.0.to_be_bytes());
    let is_there = |bench: &Bench| bench.store.get(std::slice::from_ref(&key)).unwrap()[0].is_some();
    let compare = |bench: &Bench, user: &str| {
        let before = view(bench).report.compared;
        bench.send(orders(user, 0, 1));
        bench.wait_until("it is compared", || view(bench).report.compared > before);
    };
    compare(&bench, "u1");
    assert!(is_there(&bench));
    let operations = vec![Operation::Delete(key.clone())];
    bench.store.commit(Unit { operations, ..Unit::default() }).unwrap();
    compare(&bench, "u2");
    bench.restart();
    assert!(!is_there(&bench), "what is kept at the end is kept of what is there");
    compare(&bench, "u3");
    assert!(is_there(&bench));
    bench.configure(|setup| setup.installations[1].shadow = None);
    assert!(!is_there(&bench), "the first write goes with the run");
}
