//! What a version of a connector read is taken back, seen from below: histories, facts, features, tags and audiences are then those
//! of the same history without these events, wherever the process ended meanwhile; and no message leaves because of it.

mod bounds;
mod returning;
mod said;
mod waiting;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use kith_model::audience::ConsentBasis;
use kith_model::event::{DraftEvent, EventOrigin};
use kith_model::time::Timestamp;
use kith_store::keys::Definition;
use kith_store::{Key, Operation, Unit, row};
use proptest::prelude::*;

use super::delivery::watched::Watched;
use super::harness::*;
use crate::accept::taking_back::TakenBackRow;
use crate::{Patience, TakenBack, Undo, UndoProgress, Undone};

const GOOD: &str = "digest-of-source";
const BAD: &str = "digest-of-the-bad-one";

const USERS: [&str; 4] = ["u0", "u1", "u2", "u3"];

const CONDITIONS: [&str; 5] = [
    "events('Order Completed').size() == 1",
    "events('Order Completed', '30d').size() >= 2",
    "has(traits.city) && traits.city == 1",
    "tags.level == 'many'",
    // Whom an undo makes enter.
    "events('Order Completed').size() == 3",
];

/// The number of a user, days before the start, a city, and whether it is an order.
type EventCase = (usize, i64, u8, bool);

/// Events that one version reads after the other, and whether that is the bad one.
type Run = (bool, Vec<EventCase>);

fn arb_run() -> impl Strategy<Value = Run> {
    let event = (0..USERS.len(), 0..40i64, 0..3u8, any::<bool>());
    (any::<bool>(), proptest::collection::vec(event, 1..8))
}

fn drafts(number: usize, events: &[EventCase]) -> Vec<DraftEvent> {
    let draft = |(place, (user, days, city, is_order)): (usize, &EventCase)| {
        let (id, time) = (format!("m{number}-{place}"), Timestamp(START.0 - days * DAY));
        let who = [("user_id", USERS[*user])];
        match is_order {
            true => event(&id, &who, "Order Completed", time),
            false => identify(&id, &who, &format!(r#"{{"city":{city}}}"#), time),
        }
    };
    events.iter().enumerate().map(draft).collect()
}

fn audiences() -> Vec<kith_model::audience::Audience> {
    let conditions = CONDITIONS.iter().zip(1..);
    conditions.map(|(condition, id)| audience(id, condition, Some(ConsentBasis::NotRefused))).collect()
}

/// Another version reads what comes from now on.
fn read_by(bench: &Bench, digest: &str) {
    bench.configure(|setup| setup.installations[0].digest = digest.to_owned());
}

fn undo(number: u32) -> Undo {
    Undo { number, installation: SOURCE, digest: BAD.into(), of: Undone::Events }
}

fn is_done(bench: &Bench, number: u32) -> bool {
    bench.kernel.undo_progress(WORKSPACE, number).unwrap() == UndoProgress::Done
}

/// Take back what the bad version read, and wait until all follows.
fn take_back(bench: &Bench, number: u32) -> TakenBack {
    let taken_back = take_back_beside_messages(bench, number);
    bench.settle();
    taken_back
}

/// The same while messages wait for a channel that does not run.
fn take_back_beside_messages(bench: &Bench, number: u32) -> TakenBack {
    bench.configure(|setup| setup.undos = vec![undo(number)]);
    bench.wait_until("it is taken back", || is_done(bench, number));
    bench.compute();
    bench.kernel.taken_back(WORKSPACE, &undo(number)).unwrap()
}

fn preview(bench: &Bench) -> TakenBack {
    let found = bench.kernel.preview_undo(WORKSPACE, BAD, &[SOURCE].into(), &Patience::default()).unwrap();
    let [found] = found.as_slice() else { panic!("{found:?}") };
    assert!(found.is_all);
    found.takes_back
}

/// What is left of the bad version's events, a page of two at a time.
fn left(bench: &Bench) -> usize {
    let (mut left, mut next) = (0, None);
    loop {
        let page = PageRequest { limit: 2, cursor: next.as_deref() };
        let found = bench.kernel.events_written(WORKSPACE, BAD, &[SOURCE].into(), page).unwrap();
        left += found.items.len();
        next = found.next;
        if next.is_none() {
            return left;
        }
    }
}

/// The events that somebody sent, with their times; facts; the level.
type Person = (Vec<(String, Timestamp)>, BTreeMap<String, String>, Option<String>);

/// Everybody who has an event that somebody sent.
fn people(bench: &Bench) -> BTreeMap<&'static str, Person> {
    let person = |user: &&'static str| {
        let profile = bench.profile("user_id", user)?;
        let page = PageRequest::first(1_000);
        let events = bench.kernel.profile_events(WORKSPACE, profile.id, page).unwrap().unwrap().events;
        // Receipts of messages are events too, which nobody sent.
        let sent = events.into_iter().filter(|recorded| recorded.event.origin != EventOrigin::Kernel);
        let mut sent: Vec<(String, Timestamp)> =
            sent.map(|recorded| (recorded.event.message_id, recorded.event.time)).collect();
        sent.sort();
        let facts = profile.traits.iter().map(|(name, held)| (name.clone(), held.value.json.clone())).collect();
        let level = profile.tags.get("level").map(|tag| tag.json.clone());
        if sent.is_empty() {
            assert_eq!(facts, BTreeMap::new(), "{user} has facts that nobody stated");
            assert_ne!(level.as_deref(), Some("\"many\""), "{user}");
            return None;
        }
        Some((*user, (sent, facts, level)))
    };
    USERS.iter().filter_map(person).collect()
}

fn sizes(bench: &Bench) -> Vec<Option<u64>> {
    (1..).take(CONDITIONS.len()).map(|id| bench.size(id)).collect()
}

/// The counts of an undo that a preview can tell.
fn foretold(taken_back: TakenBack) -> TakenBack {
    TakenBack { left_empty: 0, ..taken_back }
}

proptest! {
    #![proptest_config(super::laws(12))]

    #[test]
    fn what_is_left_is_the_history_without_these_events(
        runs in proptest::collection::vec(arb_run(), 1..6),
        restarts in any::<bool>(),
    ) {
        let (mut bench, fresh) = (Bench::new(audiences()), Bench::new(audiences()));
        let mut bad = 0;
        for (number, (is_bad, events)) in runs.iter().enumerate() {
            read_by(&bench, if *is_bad { BAD } else { GOOD });
            bench.send(drafts(number, events));
            match is_bad {
                true => bad += events.len(),
                false => drop(fresh.send(drafts(number, events))),
            }
        }
        read_by(&bench, GOOD);
        bench.settle();
        let (sent, before) = (bench.postbox.sent.lock().len(), bench.kernel.totals(WORKSPACE).unwrap().events);
        if bad > 0 {
            let foreseen = preview(&bench);
            bench.configure(|setup| setup.undos = vec![undo(1)]);
            if restarts {
                bench.restart();
            }
            let taken_back = take_back(&bench, 1);
            prop_assert_eq!((taken_back.events, foretold(taken_back)), (bad as u64, foreseen));
            let again = take_back(&bench, 2);
            prop_assert_eq!(again, taken_back, "nothing is taken back twice");
        }
        fresh.settle();
        prop_assert_eq!(people(&bench), people(&fresh));
        prop_assert_eq!(sizes(&bench), sizes(&fresh));
        prop_assert_eq!(left(&bench), 0);
        prop_assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().events, before - bad as u64);
        prop_assert_eq!(bench.postbox.sent.lock().len(), sent, "a message left because of it");
        // What changes by time alone is as there, too.
        fresh.advance(41 * DAY, || fresh.size(2) == Some(0));
        bench.advance(41 * DAY, || bench.size(2) == Some(0));
    }
}

/// Whether a unit notes how far events are taken back.
fn is_slice(unit: &Unit) -> bool {
    let rows = Key::definitions(WORKSPACE, Definition::TakenBack);
    unit.operations.iter().any(|operation| matches!(operation, Operation::Put(key, _) if key.strip(&rows).is_some()))
}

/// A bench with three orders of each user that the good version read, and four that the bad one did.
fn with_both(store: Arc<Watched>) -> Bench {
    let bench = Bench::over(store, audiences(), |_| {});
    bench.send(USERS.iter().flat_map(|user| orders(user, 0, 3)).collect());
    read_by(&bench, BAD);
    bench.send(USERS.iter().flat_map(|user| orders(user, 3, 4)).collect());
    read_by(&bench, GOOD);
    bench.settle();
    assert_eq!((left(&bench), bench.kernel.totals(WORKSPACE).unwrap().events >= 28), (16, true));
    bench
}

#[test]
fn it_goes_on_wherever_the_process_ended() {
    let store = Watched::new();
    let mut bench = with_both(store.clone());
    let (sent, before) = (bench.postbox.sent.lock().len(), bench.kernel.totals(WORKSPACE).unwrap().events);
    // Of each process one slice is committed; the next one is not, and the process ends there.
    let allowed = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&allowed);
    let refuse = move |unit: &Unit| is_slice(unit) && counted.swap(0, Ordering::SeqCst) == 0;
    *store.refuse.lock() = Some(Box::new(refuse));
    bench.configure(|setup| setup.undos = vec![undo(1)]);
    let mut ended = 0;
    while !is_done(&bench, 1) {
        ended += 1;
        store.refused.lock().clear();
        allowed.store(1, Ordering::SeqCst);
        bench.restart();
        bench.wait_until("the process came to its end", || !store.refused.lock().is_empty() || is_done(&bench, 1));
    }
    assert!(ended > 2, "{ended}");
    *store.refuse.lock() = None;
    bench.settle();
    let taken_back = bench.kernel.taken_back(WORKSPACE, &undo(1)).unwrap();
    assert_eq!(taken_back, TakenBack { events: 16, ..TakenBack::default() }, "each once");
    assert_eq!((left(&bench), bench.kernel.totals(WORKSPACE).unwrap().events), (0, before - 16));
    let counted = CONDITIONS.map(|condition| bench.count(condition));
    assert_eq!(counted, [0, 4, 0, 4, 4]);
    assert_eq!(bench.postbox.sent.lock().len(), sent);
}

#[test]
fn one_that_is_ended_leaves_the_rest_to_another() {
    let store = Watched::new();
    let bench = with_both(store.clone());
    let inner = Arc::clone(&store.inner);
    let has_begun = move || {
        let rows = inner.scan(&Key::definitions(WORKSPACE, Definition::TakenBack).range(), 10).unwrap().rows;
        rows.iter().any(|(_, value)| row::decode::<TakenBackRow>(value).unwrap().taken_back.events > 0)
    };
    *store.refuse.lock() = Some(Box::new(move |unit| is_slice(unit) && has_begun()));
    bench.configure(|setup| setup.undos = vec![undo(1)]);
    bench.wait_until("a part is done", || !store.refused.lock().is_empty());
    bench.configure(|setup| setup.undos.clear());
    *store.refuse.lock() = None;
    bench.send(orders("u0", 9, 1));
    bench.settle();
    // A part that was under way as it was ended may still come.
    let taken_back = || bench.kernel.taken_back(WORKSPACE, &undo(2)).unwrap().events;
    bench.wait_until("what is gone is what was taken back", || taken_back() + left(&bench) as u64 == 16);
    let rest = left(&bench);
    assert!((1..16).contains(&rest), "{rest}");
    assert_eq!(take_back(&bench, 2).events, 16, "with what the first took back");
    assert_eq!(bench.count("events('Order Completed').size() == 3"), 3);
}

#[test]
fn what_two_versions_of_one_component_read_at_once_is_listed_and_taken_back_once() {
    let bench = Bench::new(vec![]);
    for (number, version) in [1, 2, 1, 2].into_iter().enumerate() {
        bench.configure(|setup| {
            let source = &mut setup.installations[0];
            (source.digest, source.plugin_version) = (BAD.into(), semver::Version::new(version, 0, 0));
        });
        bench.send(orders("u1", number, 1));
    }
    read_by(&bench, GOOD);
    bench.send(orders("u1", 4, 1));
    let (mut ranges, mut next) = (Vec::new(), None);
    loop {
        let page = PageRequest { limit: 1, cursor: next.as_deref() };
        let found = bench.kernel.ranges_written(WORKSPACE, BAD, &[SOURCE].into(), page).unwrap();
        ranges.extend(found.items);
        next = found.next;
        if next.is_none() {
            break;
        }
    }
    let told: Vec<(&str, u64)> = ranges.iter().map(|range| (range.version.as_str(), range.events)).collect();
    assert_eq!(told, [("1.0.0", 2), ("2.0.0", 2)]);
    assert!(ranges.iter().is_sorted_by_key(|range| range.after) && Some(ranges[1].after) < ranges[0].up_to);
    assert_eq!((left(&bench), preview(&bench).events), (4, 4));
    assert_eq!(take_back(&bench, 1).events, 4);
    assert_eq!((left(&bench), bench.count("events('Order Completed').size() == 1")), (0, 1));
}

#[test]
fn agreements_fall_back_and_refusals_stay() {
    let bench = Bench::new(vec![]);
    let says = |id: &str, who: (&str, &str), said: &str| {
        let now = kith_model::time::Clock::now(&bench.clock);
        bench.send(vec![identify(id, &[who], &format!(r#"{{"consent":{said}}}"#), now)]);
        bench.clock.advance_ms(1_000);
    };
    let (ada, spelled) = (("user_id", "u1"), ("email", "Ada@X.io"));
    says("a", ada, r#"{"news":false,"post":true,"calls":true}"#);
    read_by(&bench, BAD);
    says("b", ada, r#"{"news":true,"ads":true,"post":true,"calls":false}"#);
    says("c", ("user_id", "u2"), r#"{"news":true}"#);
    says("d", spelled, r#"{"news":true}"#);
    read_by(&bench, GOOD);
    bench.settle();
    let answers = |(kind, value): (&str, &str)| -> BTreeSet<(String, bool)> {
        let profile = bench.profile(kind, value).unwrap();
        let said = profile.consents.iter().flat_map(|(_, said)| said.answers());
        said.map(|(key, consent)| (key.to_owned(), consent.refused.is_none())).collect()
    };
    let set = |said: &[(&str, bool)]| -> BTreeSet<(String, bool)> {
        said.iter().map(|(key, agrees)| ((*key).to_owned(), *agrees)).collect()
    };
    assert_eq!(answers(ada), set(&[("ads", true), ("calls", false), ("news", true), ("post", true)]));
    let foreseen = preview(&bench);
    let taken_back = take_back(&bench, 1);
    let told = TakenBack { events: 3, with_facts: 3, agreeing: 3, refusing: 1, left_empty: 2, ..TakenBack::default() };
    assert_eq!((taken_back, foreseen), (told, foretold(told)));
    assert_eq!(answers(ada), set(&[("calls", false), ("news", false), ("post", true)]));
    assert_eq!((answers(("user_id", "u2")), answers(spelled)), (BTreeSet::new(), BTreeSet::new()));
    let fact =
        |user: &str| bench.profile("user_id", user).unwrap().traits.get("consent").map(|held| held.value.json.clone());
    assert_eq!(fact("u2"), None);
    assert!(fact("u1").is_some_and(|said| said.contains(r#""calls":false"#)), "the proof of a refusal");
}

/// What is held of consents by each identity of whom an identifier names.
fn held_by_each(bench: &Bench, kind: &str, value: &str) -> Vec<(String, bool)> {
    let profile = bench.profile(kind, value).unwrap();
    let said = profile.consents.iter().flat_map(|(_, said)| said.answers());
    said.map(|(key, consent)| (key.to_owned(), consent.refused.is_some())).collect()
}

/// What was refused under a spelling of an address was forgotten at its normal form, so that whoever is written to there, or under
/// another spelling, might have been.
#[test]
fn what_was_refused_under_a_spelling_stays_refused_at_its_normal_form() {
    let bench = Bench::new(vec![]);
    let says = |id: &str, address: &str, said: &str| {
        let now = kith_model::time::Clock::now(&bench.clock);
        bench.send(vec![identify(id, &[("email", address)], &format!(r#"{{"consent":{said}}}"#), now)]);
        bench.clock.advance_ms(1_000);
    };
    says("a", "Ada@X.io", r#"{"news":false}"#);
    read_by(&bench, BAD);
    says("b", "ADA@x.io", r#"{"news":true}"#);
    says("c", "Ada@X.io", r#"{"news":true}"#);
    read_by(&bench, GOOD);
    bench.settle();
    take_back(&bench, 1);
    let refused = ("news".to_owned(), true);
    assert_eq!(
        held_by_each(&bench, "email", "Ada@X.io"),
        [refused.clone(), refused],
        "under the spelling, and its form"
    );
}

/// What an event had agreed to that was corrected before it was taken back held for good.
#[test]
fn what_a_corrected_event_agreed_to_is_taken_back_as_well() {
    let bench = Bench::new(vec![]);
    let says = |traits: &str| bench.try_import(vec![identify("a", &[("user_id", "u1")], traits, START)]).unwrap();
    read_by(&bench, BAD);
    assert_eq!(says(r#"{"consent":{"news":true}}"#).acceptance.accepted, 1);
    bench.configure(|setup| {
        setup.installations[0].digest = GOOD.into();
        setup.installations[0].corrects = true;
    });
    assert_eq!(says(r#"{"city":"Oslo"}"#).acceptance.corrected, 1);
    bench.settle();
    assert_eq!(held_by_each(&bench, "user_id", "u1"), [("news".to_owned(), false)]);
    assert_eq!(take_back(&bench, 1).events, 0, "the event is another version's now");
    assert_eq!(held_by_each(&bench, "user_id", "u1"), []);
}

/// Where an undo ends moved while it waited: what the version wrote meanwhile was taken back as well.
#[test]
fn an_undo_that_waits_ends_where_it_was_asked_for() {
    let mut bench = Bench::new(vec![]);
    read_by(&bench, BAD);
    bench.send(orders("u1", 0, 2));
    bench.settle();
    let other = Undo { number: 1, installation: SOURCE, digest: "of nobody".into(), of: Undone::Events };
    bench.configure(|setup| setup.undos = vec![other.clone(), undo(2)]);
    bench.wait_until("both are at their ends", || is_done(&bench, 1) && is_done(&bench, 2));
    bench.send(orders("u1", 2, 1));
    bench.settle();
    bench.restart();
    bench.configure(|setup| {
        setup.undos = vec![other, undo(2), Undo { number: 3, digest: "of no other".into(), ..undo(2) }]
    });
    bench.wait_until("all are at their ends", || is_done(&bench, 3));
    bench.settle();
    assert_eq!(bench.count("events('Order Completed').size() == 1"), 1, "what came later stays");
}

#[test]
fn the_same_may_come_again_for_another_version_to_read() {
    let bench = Bench::new(vec![]);
    let rows = || (0..3).map(|n| event(&format!("row-{n}"), &[("user_id", "u1")], "Order Completed", START)).collect();
    read_by(&bench, BAD);
    assert_eq!(bench.send(orders("u0", 0, 2)).acceptance.accepted, 2);
    assert_eq!(bench.try_import(rows()).unwrap().acceptance.accepted, 3);
    read_by(&bench, GOOD);
    assert_eq!(bench.send(orders("u0", 0, 2)).acceptance.duplicate, 2);
    assert_eq!(bench.try_import(rows()).unwrap().acceptance.duplicate, 3);
    assert_eq!(take_back(&bench, 1).events, 5);
    assert_eq!(bench.send(orders("u0", 0, 2)).acceptance.accepted, 2);
    assert_eq!(bench.try_import(rows()).unwrap().acceptance.accepted, 3);
    assert_eq!(bench.send(orders("u0", 0, 2)).acceptance.duplicate, 2);
    assert_eq!(bench.try_import(rows()).unwrap().acceptance.duplicate, 3);
    assert_eq!(take_back(&bench, 2).events, 5, "another version read it since");
    assert_eq!(bench.count("events('Order Completed').size() >= 2"), 2);
}
