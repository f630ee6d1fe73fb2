//! What of one person cannot be read, cannot be written or makes the reactor panic, and costs nobody else anything.

use std::time::Duration;

use kith_model::id::{AudienceId, SourceIdentityId, WorkspaceId};
use kith_store::{Key, Operation, Store, Unit, row};

use super::delivery::watched::Watched;
use super::harness::*;
use crate::DeadLetter;
use crate::react::effects::READINESS;
use crate::react::readiness::{Place, Readiness};

fn added(user: &str, message: &str) -> kith_model::event::DraftEvent {
    event(message, &[("user_id", user)], "Product Added", START)
}

fn identity(bench: &Bench, user: &str) -> SourceIdentityId {
    bench.profile("user_id", user).unwrap().id.0
}

/// What was kept aside because it could not be read or written: whose it is.
fn unreadable(bench: &Bench) -> Vec<String> {
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(100)).unwrap().items;
    let of = |letter: DeadLetter| match letter {
        DeadLetter::Unreadable { problem, .. } => problem.split(':').next().map(str::to_owned),
        _ => None,
    };
    letters.into_iter().filter_map(of).collect()
}

fn spoil(store: &dyn Store, key: Key) {
    store.commit(Unit { operations: vec![Operation::Put(key, vec![255; 3])], ..Unit::default() }).unwrap();
}

/// A row of entries that cannot be read failed each pass in which its person moved, and so stopped the workspace.
#[test]
fn entries_that_cannot_be_read_stop_their_person_alone() {
    let basis = Some(kith_model::audience::ConsentBasis::NotRefused);
    let bench = Bench::new(vec![audience(1, "events('Product Added').size() >= 1", basis)]);
    bench.send(["u1", "u2"].iter().flat_map(|user| orders(user, 0, 1)).collect());
    let spoilt = ["u1", "u2"].map(|user| identity(&bench, user));
    spoilt.iter().for_each(|id| spoil(bench.store.as_ref(), Key::entries(WORKSPACE, *id)));
    bench.send(vec![added("u1", "m1"), added("u2", "m2"), added("u3", "m3")]);
    bench.settle();
    assert_eq!(bench.size(1), Some(1));
    assert_eq!(bench.count("events('Product Added').size() >= 1"), 3, "what happened is shown of them too");
    let mut letters = unreadable(&bench);
    letters.sort();
    let mut named = spoilt.map(|id| kith_model::id::ProfileId(id).to_string());
    named.sort();
    assert_eq!(letters, named, "one for each, though one pass came across both");
    assert_eq!(raw(&bench), [vec![255; 3], vec![255; 3]], "with the bytes of the row");
    bench.clock.advance_ms(1_000);
    bench.send(vec![added("u1", "m4")]);
    bench.settle();
    assert_eq!(unreadable(&bench).len(), 2, "and no other for what comes later");
}

/// A timer of a person who cannot be read failed each pass from then on.
#[test]
fn a_timer_of_somebody_who_cannot_be_read_is_worked_off() {
    let store = Watched::new();
    let fresh = audience(1, "events('Product Added', '14d').size() >= 1", None);
    let bench = Bench::over(store.clone(), vec![fresh], |_| {});
    bench.send(vec![added("u1", "m1"), added("u2", "m2")]);
    bench.settle();
    let spoilt = identity(&bench, "u1");
    spoil(store.as_ref(), Key::derived(WORKSPACE, spoilt));
    // Whoever was in hand of a pass that failed is read from the store again.
    let refused = std::sync::atomic::AtomicBool::new(false);
    let refuse = move |unit: &Unit| writes(unit, spoilt) && !refused.swap(true, std::sync::atomic::Ordering::SeqCst);
    *store.refuse.lock() = Some(Box::new(refuse));
    bench.send(vec![added("u1", "m3")]);
    bench.settle();
    assert_eq!(store.refused.lock().len(), 1);
    bench.advance(14 * DAY, || bench.size(1) == Some(1));
    bench.wait_until("nothing fails", || bench.kernel.health().iter().all(|health| health.failing.is_none()));
}

/// Whether a unit writes something that is computed of an identity.
fn writes(unit: &Unit, identity: SourceIdentityId) -> bool {
    unit.operations.iter().any(|operation| match operation {
        Operation::Put(key, _) => {
            key.as_derived() == Some(identity) || key.as_leaves().is_some_and(|(of, _)| of == identity)
        }
        _ => false,
    })
}

/// While a walk came to somebody too large, the records of the feed were left out in that person's place.
#[test]
fn somebody_too_large_for_a_walk_is_left_out_and_no_record_of_others() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |_| {});
    bench.send((1..=5).map(|user| added(&format!("u{user}"), &format!("m{user}"))).collect());
    let large = identity(&bench, "u3");
    *store.too_large.lock() = Some(Box::new(move |unit| writes(unit, large)));
    // Until all of it is there for one pass.
    *store.refuse.lock() = Some(Box::new(|unit| unit.fence.is_some() && unit.operations.iter().any(is_progress)));
    bench.configure(|setup| setup.audiences.push(audience(1, "events('Product Added').size() >= 1", None)));
    bench.send((6..=9).map(|user| added(&format!("u{user}"), &format!("m{user}"))).collect());
    *store.refuse.lock() = None;
    bench.settle();
    assert_eq!(unreadable(&bench), [large.to_string()]);
    assert_eq!(bench.size(1), Some(8), "all but the one");
    assert!(bench.kernel.health().iter().all(|health| health.failing.is_none()));
}

/// Whether an operation notes how far a workspace is computed.
fn is_progress(operation: &Operation) -> bool {
    matches!(operation, Operation::Put(key, _) if *key == Key::progress(WORKSPACE, "cursor"))
}

/// A page of a person's events was read whole, however large they were, and what it came to was larger than a commit.
#[test]
fn a_history_is_cut_within_a_page() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |_| {});
    let properties = format!("{{\"text\":\"{}\"}}", "x".repeat(24 << 10));
    for part in 0..10 {
        let large = |number| kith_model::event::DraftEvent {
            properties: properties.clone(),
            ..added("u1", &format!("m{part}-{number}"))
        };
        bench.send((0..30).map(large).collect());
    }
    bench.settle();
    bench.configure(|setup| setup.audiences.push(audience(1, "events('Product Added').size() >= 300", None)));
    bench.settle();
    assert_eq!(bench.size(1), Some(1));
    let is_cut = |operation: &Operation| match operation {
        Operation::Put(key, value) if *key == Key::progress(WORKSPACE, READINESS) => {
            let readiness: Readiness = row::decode(value).unwrap();
            readiness.backfills.iter().any(|walk| matches!(walk.next, Place::At { events: Some(_), .. }))
        }
        _ => false,
    };
    assert!(store.committed.lock().iter().flat_map(|unit| &unit.operations).any(is_cut));
}

/// A record on which the reactor panics made it panic for ever, and health said nothing of it.
#[test]
fn a_record_on_which_the_reactor_panics_is_set_aside() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![audience(1, "events('Product Added').size() >= 1", None)], |_| {});
    bench.send(["u1", "u2"].iter().flat_map(|user| orders(user, 0, 1)).collect());
    let poisoned = identity(&bench, "u1");
    *store.refuse.lock() = Some(Box::new(move |unit| {
        assert!(!writes(unit, poisoned), "the reactor is made to panic");
        false
    }));
    bench.send(vec![added("u1", "m1")]);
    let failing = || bench.kernel.health().iter().any(|health| health.failing.is_some());
    bench.wait_until("health says so", failing);
    bench.send(vec![added("u2", "m2")]);
    bench.settle();
    assert_eq!((bench.size(1), unreadable(&bench).len()), (Some(1), 1));
    bench.wait_until("health is well again", || !failing());
}

/// The bytes of everything that was kept aside because it could not be read.
fn raw(bench: &Bench) -> Vec<Vec<u8>> {
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(100)).unwrap().items;
    let of = |letter: DeadLetter| match letter {
        DeadLetter::Unreadable { raw, .. } => Some(raw),
        _ => None,
    };
    letters.into_iter().filter_map(of).collect()
}

/// A record that did not decode failed the pass of every workspace, each second from then on.
#[test]
fn a_record_of_the_log_that_cannot_be_read_is_kept_aside_with_its_bytes() {
    let mut bench = Bench::new(vec![audience(1, "events('Product Added').size() >= 1", None)]);
    bench.send(vec![added("u1", "m1")]);
    let record = vec![255, 1, 2, 3];
    let append = Operation::Append { workspace: WORKSPACE, record: record.clone(), row: None };
    bench.store.commit(Unit { operations: vec![append], ..Unit::default() }).unwrap();
    bench.send(vec![added("u2", "m2")]);
    bench.settle();
    assert_eq!(bench.size(1), Some(2));
    assert_eq!(raw(&bench).as_slice(), std::slice::from_ref(&record));
    assert!(bench.kernel.health().iter().all(|health| health.failing.is_none()));
    bench.restart();
    bench.settle();
    assert_eq!((bench.size(1), raw(&bench)), (Some(2), vec![record]), "it is behind the cursor, and not read again");
}

const OTHER: WorkspaceId = WorkspaceId(2);

/// Start the kernel anew with a second workspace beside the first, in which somebody is put into an audience.
#[track_caller]
fn restart_beside_another(bench: &mut Bench) {
    let setup = bench.setup.lock().clone();
    bench.restart_with(vec![setup.clone(), crate::Setup { workspace: OTHER, ..setup }]);
    bench.try_send_to(OTHER, vec![added("u1", "m1")]).unwrap();
    let head = bench.store.head_of(OTHER);
    assert!(bench.kernel.wait_until_reacted(OTHER, head, Duration::from_secs(20)), "the other is not computed in time");
    assert_eq!(bench.kernel.audience(OTHER, AudienceId(1)).unwrap().size, Some(1));
}

/// Whether the work of a workspace is said to fail.
fn is_failing(bench: &Bench, workspace: WorkspaceId) -> bool {
    bench.kernel.health().iter().any(|health| health.workspace == workspace && health.failing.is_some())
}

/// How far a workspace had come could not be read, and the server did not start, for nobody.
#[test]
fn a_workspace_whose_progress_cannot_be_read_says_so_and_the_others_start() {
    let mut bench = Bench::new(vec![audience(1, "events('Product Added').size() >= 1", None)]);
    bench.send(vec![added("u1", "m1")]);
    bench.settle();
    let key = Key::progress(WORKSPACE, READINESS);
    let whole = bench.store.get(std::slice::from_ref(&key)).unwrap().pop().flatten().unwrap();
    spoil(bench.store.as_ref(), key.clone());
    restart_beside_another(&mut bench);
    bench.wait_until("it says so", || is_failing(&bench, WORKSPACE));
    assert!(!is_failing(&bench, OTHER));
    let put = Operation::Put(key, whole.to_vec());
    bench.store.commit(Unit { operations: vec![put], ..Unit::default() }).unwrap();
    bench.send(vec![added("u2", "m2")]);
    bench.wait_until("it goes on when it can be read", || bench.size(1) == Some(2));
    bench.wait_until("it is well again", || !is_failing(&bench, WORKSPACE));
}

/// A row of one person that did not decode ended the start of the server, and so every workspace's, and each count that looks
/// at people.
#[test]
fn somebody_who_cannot_be_read_ends_neither_a_start_nor_a_count() {
    let mut bench = Bench::new(vec![audience(1, "events('Product Added').size() >= 1", None)]);
    bench.send((1..=5).map(|user| added(&format!("u{user}"), &format!("m{user}"))).collect());
    let spoilt = identity(&bench, "u3");
    spoil(bench.store.as_ref(), Key::derived(WORKSPACE, spoilt));
    restart_beside_another(&mut bench);
    bench.send(vec![added("u6", "m6")]);
    bench.settle();
    assert_eq!(bench.size(1), Some(5), "all but the one");
    let counted = bench.kernel.count(WORKSPACE, "events('Product Added', '7d').size() >= 1").unwrap();
    assert_eq!((counted.count, counted.exact), (5, false), "of history");
    let counted = bench.kernel.count(WORKSPACE, "events('Product Added').size() >= 1").unwrap();
    assert_eq!((counted.count, counted.exact), (5, false), "from the index");
    assert!(unreadable(&bench).contains(&spoilt.to_string()), "{:?}", unreadable(&bench));
    assert!(raw(&bench).contains(&vec![255; 3]), "{:?}", raw(&bench));
    assert!(!is_failing(&bench, WORKSPACE) && !is_failing(&bench, OTHER));
}
