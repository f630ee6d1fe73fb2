//! What an undo takes is bounded, what cannot be read of one person or one undo is in no other's way, and nothing comes of an event
//! that is taken back before anybody has looked at it.

use kith_model::id::Position;

use super::*;
use crate::accept::taking_back::TakenBackRow;

/// Histories of any length were read for each slice.
#[test]
fn a_slice_that_would_read_much_is_cut_and_who_has_too_much_stays() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |_| {});
    for user in &USERS[..3] {
        bench.send(orders(user, 0, 150));
    }
    bench.send(orders("u3", 0, 250));
    read_by(&bench, BAD);
    let says = |user: &str| identify(&format!("{user}-says"), &[("user_id", user)], r#"{"city":1}"#, START);
    bench.send(USERS.iter().map(|user| says(user)).collect());
    read_by(&bench, GOOD);
    bench.settle();
    let taken_back = take_back(&bench, 1);
    assert_eq!((taken_back.events, taken_back.with_facts, taken_back.unreadable), (3, 3, 1));
    let cities = USERS.map(|user| bench.profile("user_id", user).unwrap().traits.len());
    assert_eq!(cities, [0, 0, 0, 1]);
    let taken = |unit: &Unit| unit.operations.iter().filter(|one| matches!(one, Operation::Append { .. })).count();
    let most = store.committed.lock().iter().filter(|unit| is_slice(unit)).map(taken).max();
    assert!(most < Some(3), "{most:?} people in one slice");
}

/// A row that could not be read held up every undo of the workspace for good.
#[test]
fn rows_that_cannot_be_read_are_counted_and_hold_nothing_up() {
    let bench = Bench::new(vec![]);
    bench.send(orders("u1", 0, 1));
    read_by(&bench, BAD);
    bench.send(orders("u2", 0, 1));
    read_by(&bench, GOOD);
    bench.settle();
    let other = Undo { number: 1, installation: SOURCE, digest: "of nobody".into(), of: Undone::Events };
    let damaged =
        [Key::reader(WORKSPACE, SOURCE, Position(0), 900), TakenBackRow::key(WORKSPACE, SOURCE, &other.digest)];
    let operations = damaged.map(|key| Operation::Put(key, vec![99])).into();
    bench.store.commit(Unit { operations, ..Unit::default() }).unwrap();
    assert_eq!(preview(&bench).unreadable, 1);
    bench.configure(|setup| setup.undos = vec![other.clone(), undo(2)]);
    let is_over = |number| bench.kernel.undo_progress(WORKSPACE, number).is_ok_and(|known| known == UndoProgress::Done);
    bench.wait_until("both are at their ends", || is_over(1) && is_over(2));
    bench.settle();
    let taken_back = |undo: &Undo| bench.kernel.taken_back(WORKSPACE, undo).unwrap();
    let told = TakenBack { events: 1, left_empty: 1, unreadable: 1, ..TakenBack::default() };
    assert_eq!(taken_back(&undo(2)), told, "a version that nobody knows any more is counted");
    assert_eq!((taken_back(&other).events, left(&bench)), (0, 0));
    assert!(taken_back(&other).unreadable > 0);
}

/// Who came in by an event was written to though it was taken back already, and who came in because it was taken back was not, though
/// another event had brought that about.
#[test]
fn nothing_comes_of_an_event_that_is_taken_back_before_it_was_looked_at() {
    let store = Watched::new();
    let condition = "events('Order Completed').size() == 1";
    let bench = Bench::over(store.clone(), vec![audience(1, condition, Some(ConsentBasis::NotRefused))], |_| {});
    let is_cursor =
        |one: &Operation| matches!(one, Operation::Put(key, _) if *key == Key::progress(WORKSPACE, "cursor"));
    *store.refuse.lock() = Some(Box::new(move |unit| unit.operations.iter().any(is_cursor)));
    bench.send(orders("u1", 0, 1));
    read_by(&bench, BAD);
    bench.send([orders("u1", 1, 1), orders("u2", 0, 1)].concat());
    read_by(&bench, GOOD);
    bench.configure(|setup| setup.undos = vec![undo(1)]);
    bench.wait_until("it is taken back", || is_done(&bench, 1));
    // A look that was under way may have seen less; the one after the next refusal has seen all.
    let refused = || store.refused.lock().len();
    let before = refused();
    bench.wait_until("all is looked at", || refused() >= before + 2);
    *store.refuse.lock() = None;
    bench.settle();
    let sent = || bench.postbox.sent.lock().len();
    assert_eq!((bench.size(1), sent()), (Some(1), 1), "the event that stands");
    bench.send(orders("u2", 1, 1));
    bench.settle();
    assert_eq!((bench.size(1), sent()), (Some(2), 2), "what comes next is news");
}
