//! The people for whom a condition passes the budget of one evaluation: told of with its audience for as long as there are any,
//! whatever stops meanwhile.

use kith_model::event::DraftEvent;
use kith_model::id::AudienceId;
use kith_store::{Key, Operation, Unit};

use super::delivery::watched::Watched;
use super::harness::*;
use crate::ConditionFault;

/// Holds every two of a person's items together: 800 of them are too many.
const PAIRS: &str = "traits.items.exists(a, traits.items.exists(b, a + b == 'x'))";

/// As many as are too many, and as few as are not.
const MANY: usize = 800;
const FEW: usize = 2;

/// Doubles a text until that is too much, and reads nothing of anybody.
fn constant() -> String {
    format!("['{}']{}.exists(v, v == 'nowhere')", "x".repeat(50), ".map(v, v + v)".repeat(24))
}

fn items(user: &str, message: &str, count: usize, at: i64) -> DraftEvent {
    let items: Vec<String> = (0..count).map(|number| format!("\"i{number}\"")).collect();
    identify(message, &[("user_id", user)], &format!(r#"{{"items":[{}]}}"#, items.join(",")), START.plus_ms(at))
}

fn seen(message: &str, identifiers: &[(&str, &str)]) -> DraftEvent {
    event(message, identifiers, "Seen", START)
}

fn fault(bench: &Bench, audience: u32) -> Option<ConditionFault> {
    bench.kernel.audience(WORKSPACE, AudienceId(audience)).unwrap().fault
}

fn people(bench: &Bench, audience: u32) -> u64 {
    bench.settle();
    fault(bench, audience).map_or(0, |fault| fault.people)
}

/// The audiences whose faults have rows.
fn rows(bench: &Bench) -> Vec<u32> {
    let page = bench.store.scan(&Key::faults(WORKSPACE).range(), 1_000).unwrap();
    page.rows.iter().map(|(key, _)| key.as_fault().unwrap().0.0).collect()
}

/// Whether a unit puts a row of a fault.
fn puts(unit: &Unit) -> bool {
    unit.operations.iter().any(|operation| matches!(operation, Operation::Put(key, _) if key.as_fault().is_some()))
}

/// A restart forgot them, until these people changed.
#[test]
fn a_fault_outlives_a_restart() {
    let mut bench = Bench::new(vec![audience(1, PAIRS, None), audience(2, "has(traits.items)", None)]);
    bench.send(vec![items("ada", "m1", MANY, 0), items("bob", "m2", FEW, 0)]);
    bench.settle();
    bench.clock.advance_ms(1_000);
    bench.send(vec![items("cid", "m3", MANY, 1_000)]);
    bench.settle();
    let before = fault(&bench, 1).unwrap();
    assert_eq!((before.since, before.people), (START, 2));
    assert_eq!(before.example, bench.profile("user_id", "cid").map(|cid| cid.id));
    assert_eq!(rows(&bench), [1, 1], "a head and a chunk, and nothing of the other audience");
    bench.clock.advance_ms(1_000);
    bench.restart();
    assert_eq!(fault(&bench, 1), Some(before.clone()), "as soon as it is open");
    bench.settle();
    assert_eq!(fault(&bench, 1), Some(before));
    // It goes on from there.
    bench.send(vec![items("cid", "m4", FEW, 2_000)]);
    bench.settle();
    let after = fault(&bench, 1).unwrap();
    assert_eq!((after.since, after.people), (START, 1));
    assert_eq!(after.example, bench.profile("user_id", "ada").map(|ada| ada.id), "one of those who are left");
    bench.restart();
    bench.send(vec![items("ada", "m5", FEW, 2_000)]);
    bench.settle();
    assert_eq!((fault(&bench, 1), rows(&bench)), (None, vec![]));
}

#[test]
fn a_condition_that_is_edited_or_deleted_leaves_no_rows() {
    let mut bench = Bench::new(vec![audience(1, PAIRS, None), audience(2, PAIRS, None)]);
    bench.send(vec![items("ada", "m1", MANY, 0)]);
    assert_eq!((people(&bench, 1), people(&bench, 2), rows(&bench)), (1, 1, vec![1, 1, 2, 2]));
    bench.configure(|setup| setup.audiences[0].condition = "has(traits.items)".into());
    assert_eq!(fault(&bench, 1), None, "at once, of the other condition");
    bench.wait_until("the edited one's are gone", || rows(&bench) == [2, 2]);
    bench.configure(|setup| drop(setup.audiences.remove(1)));
    bench.wait_until("the deleted one's are gone", || rows(&bench).is_empty());
    // Edited to what passes the budget as well: the rows are those of the new condition alone.
    bench.configure(|setup| setup.audiences[0].condition = PAIRS.into());
    bench.wait_until("it is computed", || bench.size(1).is_some());
    let first = bench.store.scan(&Key::faults(WORKSPACE).range(), 10).unwrap().rows;
    bench.configure(|setup| setup.audiences[0].condition = PAIRS.replace("'x'", "'y'"));
    bench.wait_until("it is computed anew", || bench.size(1).is_some());
    assert_eq!((people(&bench, 1), rows(&bench)), (1, vec![1, 1]));
    let keys = |rows: Vec<(Key, _)>| rows.into_iter().map(|(key, _)| key.as_fault().unwrap().1).collect::<Vec<_>>();
    let second = bench.store.scan(&Key::faults(WORKSPACE).range(), 10).unwrap().rows;
    assert!(keys(first).iter().all(|token| !keys(second.clone()).contains(token)), "the token is another");
    // While nobody computes.
    bench.setup.lock().audiences[0].condition = "has(traits.items)".into();
    bench.restart();
    assert_eq!(fault(&bench, 1), None);
    bench.wait_until("they go with the next commit", || rows(&bench).is_empty());
}

/// Whoever was merged away or objected to profiling was counted for good.
#[test]
fn people_who_leave_are_not_counted() {
    let bench = Bench::new(vec![audience(1, &constant(), None)]);
    bench.send(["ada", "bob", "cid"].map(|user| seen(user, &[("user_id", user)])).into());
    bench.send(vec![seen("device", &[("anonymous_id", "d1")])]);
    assert_eq!(people(&bench, 1), 4);
    bench.send(vec![seen("tie", &[("user_id", "ada"), ("anonymous_id", "d1")])]);
    assert_eq!(people(&bench, 1), 3, "two are one");
    let says = |user: &str, what: &str, at: i64| {
        let traits = format!(r#"{{"consent":{{"profiling":{what}}}}}"#);
        identify(&format!("{user}-{at}"), &[("user_id", user)], &traits, START.plus_ms(at))
    };
    bench.send(vec![says("bob", "false", 0)]);
    assert_eq!(people(&bench, 1), 2, "nothing is evaluated of whoever objects");
    let example = fault(&bench, 1).unwrap().example.unwrap();
    let left = ["ada", "cid"].map(|user| bench.profile("user_id", user).unwrap().id);
    assert!(left.contains(&example), "the example is one of those who are left");
    bench.clock.advance_ms(2_000);
    bench.send(vec![says("bob", "true", 1_000)]);
    assert_eq!(people(&bench, 1), 3);
    bench.send(["ada", "bob", "cid"].map(|user| says(user, "false", 2_000)).into());
    assert_eq!((people(&bench, 1), rows(&bench)), (0, vec![]));
}

/// A set that was held apart from the passes kept what an abandoned one had found.
#[test]
fn an_abandoned_pass_leaves_nothing() {
    let store = Watched::new();
    let mut bench = Bench::over(store.clone(), vec![audience(1, PAIRS, None)], |_| {});
    bench.send(vec![items("ada", "m1", FEW, 0)]);
    bench.settle();
    *store.refuse.lock() = Some(Box::new(puts));
    bench.send(vec![items("ada", "m2", MANY, 1)]);
    bench.wait_until("a pass is abandoned", || !store.refused.lock().is_empty());
    assert_eq!((fault(&bench, 1), rows(&bench)), (None, vec![]), "nothing of it is durable");
    // She changes before any pass succeeds.
    bench.send(vec![items("ada", "m3", FEW, 2)]);
    bench.settle();
    assert_eq!((fault(&bench, 1), rows(&bench)), (None, vec![]));
    assert!(!store.committed.lock().iter().any(puts));
    // And the other way: whoever is taken out by an abandoned pass is still in the set.
    *store.refuse.lock() = None;
    bench.send(vec![items("ada", "m4", MANY, 3)]);
    assert_eq!(people(&bench, 1), 1);
    let deletes = |operation: &Operation| matches!(operation, Operation::Delete(key) if key.as_fault().is_some());
    *store.refuse.lock() = Some(Box::new(move |unit| unit.operations.iter().any(deletes)));
    store.refused.lock().clear();
    bench.send(vec![items("ada", "m5", FEW, 4)]);
    bench.wait_until("a pass is abandoned", || !store.refused.lock().is_empty());
    let held = fault(&bench, 1);
    assert_eq!((held.as_ref().map(|fault| fault.people), rows(&bench)), (Some(1), vec![1, 1]));
    bench.restart();
    assert_eq!(fault(&bench, 1), held, "the rows say the same");
    *store.refuse.lock() = None;
    assert_eq!((people(&bench, 1), rows(&bench)), (0, vec![]));
}

/// A pass that has somebody left out goes on from what is durable: what an abandoned one had found of them was part of the next
/// commit.
#[test]
fn somebody_who_is_left_out_is_in_no_set() {
    let store = Watched::new();
    let mut bench = Bench::over(store.clone(), vec![audience(1, PAIRS, None)], |_| {});
    *store.too_large.lock() = Some(Box::new(puts));
    bench.send(vec![items("ada", "m1", MANY, 0), items("bob", "m2", FEW, 0)]);
    assert_eq!((people(&bench, 1), rows(&bench)), (0, vec![]));
    *store.too_large.lock() = None;
    bench.send(vec![items("cid", "m3", MANY, 0)]);
    assert_eq!((people(&bench, 1), rows(&bench)), (1, vec![1, 1]));
    bench.restart();
    assert_eq!(people(&bench, 1), 1);
}

/// A condition that reads nothing of a person was evaluated for those whom its first computation met, and for nobody who came
/// later.
#[test]
fn newcomers_to_a_condition_that_reads_nothing_are_counted() {
    let partly = format!("has(traits.city) || {}", constant());
    let mut bench = Bench::new(vec![audience(1, "has(traits.city)", None), audience(3, &partly, None)]);
    bench.send(vec![seen("m1", &[("user_id", "ada")]), seen("m2", &[("user_id", "bob")])]);
    bench.settle();
    bench.configure(|setup| setup.audiences.push(audience(2, &constant(), None)));
    bench.wait_until("it is computed", || bench.size(2).is_some());
    let agree = |bench: &Bench, people: [u64; 2]| {
        bench.settle();
        for (audience, condition, people) in [(2, &constant(), people[0]), (3, &partly, people[1])] {
            let counted = bench.kernel.count(WORKSPACE, condition).unwrap();
            let told = fault(bench, audience).map_or(0, |fault| fault.people);
            assert_eq!((told, counted.pending), (people, people), "audience {audience}");
        }
    };
    agree(&bench, [2, 2]);
    bench.send(vec![seen("m3", &[("user_id", "cid")])]);
    agree(&bench, [3, 3]);
    // Somebody comes of whom something is known, somebody as two at once, and somebody is tied to one who is there.
    bench.send(vec![identify("m4", &[("user_id", "dot")], r#"{"city":"Rome"}"#, START)]);
    bench.send(vec![seen("m5", &[("user_id", "eve"), ("anonymous_id", "e1")])]);
    bench.send(vec![seen("m6", &[("user_id", "cid"), ("anonymous_id", "c1")])]);
    agree(&bench, [5, 4]);
    bench.restart();
    bench.send(vec![seen("m7", &[("user_id", "fay")])]);
    agree(&bench, [6, 5]);
}

#[test]
fn a_workspace_without_faults_has_no_rows_of_them() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![audience(1, PAIRS, None)], |_| {});
    bench.send((0..50).map(|user| items(&format!("u{user}"), &format!("m{user}"), FEW, 0)).collect());
    assert_eq!((people(&bench, 1), rows(&bench)), (0, vec![]));
    assert!(!store.committed.lock().iter().any(puts));
}
