//! Counts while models have yet to see people: whom they tell of, and when they call themselves exact.

use std::sync::Arc;

use kith_model::id::{AudienceId, InstallationId};
use kith_model::plugin::*;
use kith_model::table::{Cell, ColumnBuilder, ColumnType, Table};
use kith_model::time::Clock as _;
use kith_store::Key;
use parking_lot::{Condvar, Mutex};

use super::delivery::watched::Watched;
use super::harness::*;
use crate::{Count, Installed, Role};

const FIRST: InstallationId = InstallationId(4);
const SECOND: InstallationId = InstallationId(5);

/// What the index cannot answer: its column of identifiers knows who has one, not how many.
const WITHOUT_INDEX: &str = "tags.first == 'yes' && profile.identifiers.user_id.size() == 1";

/// A model that says `yes` of everybody, and waits for that until its gate is open.
struct Gated {
    output: &'static str,
    is_open: Mutex<bool>,
    moved: Condvar,
}

impl Gated {
    fn new(output: &'static str) -> Arc<Gated> {
        Arc::new(Gated { output, is_open: Mutex::new(true), moved: Condvar::new() })
    }

    fn set_open(&self, is_open: bool) {
        *self.is_open.lock() = is_open;
        self.moved.notify_all();
    }
}

impl ComputeModel for Gated {
    fn fit(&self, _: Box<dyn Dataset>, _: &Cancellation) -> Result<Fitted, PluginFault> {
        Err(PluginFault::Permanent("does not fit".into()))
    }

    fn compute(&self, _: &[u8], rows: Table) -> Result<Table, PluginFault> {
        self.moved.wait_while(&mut self.is_open.lock(), |is_open| !*is_open);
        let mut answer = ColumnBuilder::new(self.output, &ColumnType::Text);
        (0..rows.rows).for_each(|_| answer.push(Cell::Text("yes".into())).unwrap());
        Ok(Table { rows: rows.rows, columns: vec![answer.finish()] })
    }
}

/// An installation of the model, which reads one text.
fn gated(id: InstallationId, model: &Arc<Gated>, reads: &str) -> Installed {
    let mut installed = installed(id.0, model.output, PluginKind::TagModel, Role::TagModel(model.clone()));
    installed.inputs = vec![InputSpec {
        name: "input".into(),
        expression: reads.into(),
        column_type: ColumnType::Text,
        reason: String::new(),
    }];
    installed.outputs = vec![OutputSpec {
        name: model.output.into(),
        column_type: ColumnType::Text,
        values: vec![],
        description: String::new(),
        category: String::new(),
    }];
    installed
}

/// A bench with two models, of which the second reads what the first says.
struct Chain {
    first: Arc<Gated>,
    second: Arc<Gated>,
    bench: Bench,
}

impl Chain {
    fn new(audience_conditions: &[&str]) -> Chain {
        let (first, second) = (Gated::new("first"), Gated::new("second"));
        let audiences = (1..).zip(audience_conditions).map(|(id, condition)| audience(id, condition, None));
        let bench = Bench::over(Arc::new(kith_store::memory()), audiences.collect(), |setup| {
            setup.installations.push(gated(FIRST, &first, "traits.city"));
            setup.installations.push(gated(SECOND, &second, "tags.first"));
        });
        Chain { first, second, bench }
    }

    fn send_people(&self, count: usize) {
        let person = |n: usize| {
            let user = format!("u{n}");
            identify(&format!("i{n}"), &[("user_id", &user)], r#"{"city":"Oslo"}"#, START)
        };
        self.bench.send((0..count).map(person).collect());
    }

    /// Wait until everything is computed but what the models have yet to say of so many.
    fn wait_for_outdated(&self, model: InstallationId, people: u64) {
        let workspace = self.bench.kernel.shared.workspace(WORKSPACE).unwrap();
        self.bench.wait_until("everybody waits for the model", || {
            let projection = workspace.projection.read();
            projection.generation == workspace.compiled.load().generation
                && projection.advance.is_none()
                && projection.outdated.get(&model).map_or(0, roaring::RoaringBitmap::len) == people
        });
    }

    /// The count, how many are pending, and whether it is exact.
    fn counted(&self, condition: &str) -> (u64, u64, bool) {
        let Count { count, pending, exact, .. } = self.bench.kernel.count(WORKSPACE, condition).unwrap();
        (count, pending, exact)
    }
}

/// Somebody whom a model has never seen was pending twice: once as unknown, and once as waiting for the model.
#[test]
fn who_is_new_to_a_slow_model_is_pending_once() {
    let chain = Chain::new(&["tags.first == 'yes'", WITHOUT_INDEX]);
    chain.first.set_open(false);
    chain.send_people(100);
    chain.wait_for_outdated(FIRST, 100);
    for condition in ["tags.first == 'yes'", WITHOUT_INDEX, "tags.second == 'yes'"] {
        assert_eq!(chain.counted(condition), (0, 100, false), "{condition}");
    }
    let pending = |audience| chain.bench.kernel.audience(WORKSPACE, AudienceId(audience)).unwrap().pending;
    assert_eq!((pending(1), pending(2)), (Some(100), None), "the index cannot tell of the second");
    chain.first.set_open(true);
    chain.bench.settle();
    for condition in ["tags.first == 'yes'", WITHOUT_INDEX, "tags.second == 'yes'"] {
        assert_eq!(chain.counted(condition), (100, 0, true), "{condition}");
    }
    assert_eq!((pending(1), chain.bench.size(2)), (Some(0), Some(100)));
}

/// While a new version had yet to say of anybody what it thinks, a count that looked at people called itself exact, and so did
/// one of another model's values that are made from the first one's.
#[test]
fn old_values_of_a_model_and_of_those_that_read_it_are_not_exact() {
    let chain = Chain::new(&[]);
    chain.send_people(20);
    chain.bench.settle();
    chain.first.set_open(false);
    chain.bench.configure(|setup| {
        setup.installations.iter_mut().filter(|one| one.id == FIRST).for_each(|one| one.config_hash += 1);
    });
    chain.wait_for_outdated(FIRST, 20);
    for condition in ["tags.first == 'yes'", WITHOUT_INDEX, "tags.second == 'yes'"] {
        assert_eq!(chain.counted(condition), (20, 20, false), "{condition}");
    }
    assert_eq!(chain.counted("traits.city == 'Oslo'"), (20, 0, true), "no model decides it");
    // One that is held is asked about nobody: what it wrote counts, whatever becomes of what it reads.
    chain.bench.configure(|setup| {
        let held = crate::Activity::Held { since: START, why: "off".into() };
        setup.installations.iter_mut().filter(|one| one.id == SECOND).for_each(|one| one.activity = held.clone());
    });
    chain.wait_for_outdated(FIRST, 20);
    assert_eq!(chain.counted("tags.second == 'yes'"), (20, 0, true));
    chain.first.set_open(true);
    chain.bench.settle();
    assert_eq!(chain.counted(WITHOUT_INDEX), (20, 0, true));
    assert!(*chain.second.is_open.lock(), "it was never in the way");
}

/// A count that reads history called itself inexact, and nobody pending, whenever the reactor had looked at the clock
/// meanwhile; and exact where an event came in meanwhile that the reactor had yet to read.
#[test]
fn a_count_from_history_is_exact_unless_something_is_written_meanwhile() {
    let store = Watched::new();
    let bench =
        Arc::new(Bench::over(store.clone(), vec![audience(1, "events('view', '3d').size() > 0", None)], |_| {}));
    bench.send(vec![event("m1", &[("user_id", "u1")], "view", START)]);
    bench.settle();
    let counted_with = |interrupt: fn(&Bench)| {
        let meanwhile = bench.clone();
        let from = Key::derived_rows(WORKSPACE).range().from;
        *store.interruption.lock() = Some((from, Box::new(move || interrupt(&meanwhile))));
        let count = bench.kernel.count(WORKSPACE, "events('other', '3d').size() == 0").unwrap();
        assert!(store.interruption.lock().is_none(), "it was in the middle of the count");
        (count.count, count.pending, count.exact)
    };
    let let_time_pass = |bench: &Bench| {
        bench.clock.advance_ms(1);
        let workspace = bench.kernel.shared.workspace(WORKSPACE).unwrap();
        bench.kernel.shared.wake_reactor(WORKSPACE);
        bench.wait_until("the reactor has seen the time", || {
            workspace.projection.read().as_of.time == bench.clock.now()
        });
    };
    assert_eq!(counted_with(let_time_pass), (1, 0, true));
    let (_, _, is_exact) = counted_with(|bench| {
        bench.send(vec![event("m2", &[("user_id", "u2")], "view", START)]);
    });
    assert!(!is_exact);
}

/// While the reactor stood still, a count said that it was exact and nothing of what it had left out: for a position that it
/// named, and that nobody compared.
#[test]
fn a_count_says_whether_all_that_came_is_in_it() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |_| {});
    let identified =
        |n: usize| identify(&format!("i{n}"), &[("user_id", &format!("u{n}"))], r#"{"city":"Oslo"}"#, START);
    let counted = |condition: &str| bench.kernel.count(WORKSPACE, condition).unwrap();
    // The index answers the first; for the second everybody is looked at.
    let conditions = ["traits.city == 'Oslo'", "profile.identifiers.user_id.size() == 1"];
    bench.send((0..3).map(identified).collect());
    bench.settle();
    for condition in conditions {
        let Count { count, exact, current, .. } = counted(condition);
        assert_eq!((count, exact, current), (3, true, true), "{condition}");
    }
    let before = counted(conditions[0]).as_of;
    let is_cursor = |one: &kith_store::Operation| matches!(one, kith_store::Operation::Put(key, _) if *key == Key::progress(WORKSPACE, "cursor"));
    *store.refuse.lock() = Some(Box::new(move |unit| unit.operations.iter().any(is_cursor)));
    bench.send((3..5).map(identified).collect());
    let Count { count, exact, current, as_of, .. } = counted(conditions[0]);
    assert_eq!(
        (count, exact, current, as_of),
        (3, true, false, before),
        "exact for a position that says nothing of now"
    );
    let looked_at = counted(conditions[1]);
    assert_eq!((looked_at.exact, looked_at.current), (false, false), "rows may be newer than the position");
    *store.refuse.lock() = None;
    bench.settle();
    for condition in conditions {
        let Count { count, exact, current, .. } = counted(condition);
        assert_eq!((count, exact, current), (5, true, true), "{condition}");
    }
}

/// A part that an audience and a model both read was forgotten with the first of them that went, and counted as null for
/// everybody, which called itself exact.
#[test]
fn a_part_that_an_audience_and_a_model_share_stays_with_either() {
    const SHARED: &str = "events('Order Completed').size() >= 1";
    let counted = |bench: &Bench, what: &str| {
        bench.settle();
        for (condition, people) in [(SHARED, 3), ("events('Order Completed').size() == 0", 1)] {
            let Count { count, exact, .. } = bench.kernel.count(WORKSPACE, condition).unwrap();
            assert_eq!((count, exact), (people, true), "{what}: {condition}");
        }
    };
    let held = crate::Activity::Held { since: START, why: "off".into() };
    for model_first in [true, false] {
        let bench = Bench::new(vec![audience(1, SHARED, None)]);
        bench.send((0..3).flat_map(|user| orders(&format!("u{user}"), 0, 1)).collect());
        bench.send(vec![event("m1", &[("user_id", "other")], "view", START)]);
        counted(&bench, "both are there");
        let drop_model = |bench: &Bench| {
            bench.configure(|setup| {
                setup
                    .installations
                    .iter_mut()
                    .filter(|one| one.id == LEVEL)
                    .for_each(|one| one.activity = held.clone());
            });
            counted(bench, "the model is switched off");
            bench.configure(|setup| setup.installations.retain(|one| one.id != LEVEL));
        };
        let drop_audience = |bench: &Bench| bench.configure(|setup| setup.audiences.clear());
        if model_first {
            drop_model(&bench);
            counted(&bench, "the model is gone");
            drop_audience(&bench);
        } else {
            drop_audience(&bench);
            counted(&bench, "the audience is gone");
            drop_model(&bench);
        }
        counted(&bench, "both are gone");
        bench.configure(|setup| setup.audiences.push(audience(2, SHARED, None)));
        counted(&bench, "an audience is there again");
        assert_eq!(bench.size(2), Some(3));
    }
}

/// A setup that came while the reactor took over another one was called complete with it: what was new in it had a size before
/// anybody was looked at, and kept it.
#[test]
fn a_setup_that_comes_while_another_is_taken_over_is_computed_too() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |_| {});
    bench.send(
        (0..50).map(|user| event(&format!("m{user}"), &[("user_id", &format!("u{user}"))], "view", START)).collect(),
    );
    bench.settle();
    let of = |id: u32| audience(id, &format!("events('view', '{id}d').size() >= 1"), None);
    for first in [1, 3, 5] {
        let mut next = bench.setup.lock().clone();
        next.audiences.extend([of(first), of(first + 1)]);
        let (kernel, meanwhile) = (Arc::clone(&bench.kernel), Mutex::new(Some(next.clone())));
        *store.refuse.lock() = Some(Box::new(move |unit| {
            let is_of_reactor = unit.operations.iter().any(|one| {
                matches!(one, kith_store::Operation::Put(key, _) if *key == Key::progress(WORKSPACE, "readiness"))
            });
            if is_of_reactor && let Some(next) = meanwhile.lock().take() {
                kernel.configure(next).unwrap();
            }
            false
        }));
        bench.configure(|setup| setup.audiences.push(of(first)));
        let size = |id: u32| bench.kernel.audience(WORKSPACE, AudienceId(id)).ok().map(|shown| shown.size);
        bench.wait_until("both are computed", || {
            let shown = [size(first).flatten(), size(first + 1).flatten()];
            assert!(shown.iter().flatten().all(|size| *size == 50), "{shown:?}");
            shown == [Some(50), Some(50)]
        });
        *store.refuse.lock() = None;
        *bench.setup.lock() = next;
        bench.settle();
    }
}

/// Conditions that are refused now were defined before they were: a start takes them, they mean what they meant, and the warnings
/// of each say what is wrong.
#[test]
fn a_condition_that_would_be_refused_now_goes_on_with_a_warning() {
    let before = [
        ("profile.identifiers.email == 'a@shop.example'", "`'a@shop.example' in profile.identifiers.email`", 0),
        ("!profile.identifiers.email.endsWith('@shop.example')", "exists(i, i.endsWith('@shop.example'))", 1),
        ("events('view').map(e, e.total) > 5", "sum()", 0),
    ];
    let audiences = (1..).zip(before).map(|(id, (condition, ..))| audience(id, condition, None));
    let bench = Bench::new(audiences.collect());
    bench.send(vec![event("m", &[("user_id", "u"), ("email", "a@shop.example")], "view", START)]);
    bench.settle();
    for (id, (condition, told, size)) in (1..).zip(before) {
        let shown = bench.kernel.audience(WORKSPACE, AudienceId(id)).unwrap();
        assert_eq!(shown.size, Some(size), "{condition}");
        let warned = bench.kernel.doubts(WORKSPACE, condition, false).unwrap();
        assert!(warned[0].contains(told), "{condition}: {warned:?}");
        assert!(bench.kernel.count(WORKSPACE, condition).is_err(), "{condition} is counted");
    }
}
