//! One-ID through the front door: who is one person, whatever the order in which it becomes known.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::event::DraftEvent;
use kith_model::identity::Identifier;
use proptest::prelude::*;

use super::harness::*;
use crate::Setup;
use crate::accept::queue::MAX_WAITING;
use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;

#[test]
fn an_anonymous_visitor_becomes_the_customer() {
    let bench = Bench::new(vec![]);
    bench.send(vec![event("m1", &[("anonymous_id", "a1")], "Product Viewed", START)]);
    bench.send(vec![
        identify("m2", &[("anonymous_id", "a1"), ("user_id", "u1")], r#"{"city":"Rome"}"#, START),
        event("m3", &[("user_id", "u1")], "Order Completed", START),
    ]);
    let profile = bench.profile("anonymous_id", "a1").unwrap();
    assert_eq!(profile.members.len(), 2);
    assert_eq!(profile.traits["city"].value.json, "\"Rome\"");
    let events = bench.kernel.profile_events(WORKSPACE, profile.id, PageRequest::first(10)).unwrap().unwrap();
    assert_eq!(events.events.len(), 3);
    assert_eq!(bench.count("profile.created_at <= now"), 1, "the merged-away profile is counted no more");
}

#[test]
fn a_repeated_message_changes_nothing_and_another_one_with_its_id_is_kept_aside() {
    let bench = Bench::new(vec![]);
    let first = bench.send(vec![event("m1", &[("user_id", "u1")], "A", START)]);
    let again = bench.send(vec![event("m1", &[("user_id", "u1")], "A", START)]);
    let other = bench.send(vec![event("m1", &[("user_id", "u1")], "B", START), event("m2", &[], "A", START)]);
    assert_eq!((first.acceptance.accepted, first.acceptance.duplicate), (1, 0));
    assert_eq!((again.acceptance.accepted, again.acceptance.duplicate), (0, 1));
    let codes: Vec<&str> = other.acceptance.rejected.iter().map(|rejected| rejected.code.as_str()).collect();
    assert_eq!(codes, ["message-id-conflict", "missing-identifier"]);
    assert_eq!(other.acceptance.rejected[1].place, 1);
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap();
    assert_eq!(letters.items.len(), 2);
    assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().events, 1);
}

#[test]
fn a_repeat_is_recognised_within_seven_days_and_after_a_restart() {
    let mut bench = Bench::new(vec![]);
    bench.send(vec![event("m1", &[("user_id", "u1")], "A", START)]);
    bench.restart();
    bench.clock.advance_ms(6 * DAY);
    assert_eq!(bench.send(vec![event("m1", &[("user_id", "u1")], "A", START)]).acceptance.duplicate, 1);
    bench.clock.advance_ms(3 * DAY);
    assert_eq!(bench.send(vec![event("m1", &[("user_id", "u1")], "A", START)]).acceptance.accepted, 1);
}

/// An address that comes beside others and cannot be tied to them was a profile in no index and in no audience: it had no
/// event of its own, and the feed never named it.
#[test]
fn who_is_only_named_beside_others_is_somebody() {
    let mut bench = Bench::new(vec![audience(1, "!has(traits.city)", None)]);
    bench.configure(|setup| {
        setup.identity_rules.limits.insert("email".to_owned(), 1);
    });
    bench.send(vec![identify("m1", &[("email", "e1@x.io"), ("email", "e2@x.io")], r#"{"city":"Rome"}"#, START)]);
    bench.settle();
    assert_ne!(bench.profile("email", "e1@x.io").unwrap().id, bench.profile("email", "e2@x.io").unwrap().id);
    let population = |bench: &Bench| bench.kernel.count(WORKSPACE, "has(traits.city)").unwrap().population;
    assert_eq!((population(&bench), bench.size(1)), (2, Some(1)));
    bench.restart();
    bench.settle();
    assert_eq!((population(&bench), bench.size(1)), (2, Some(1)));
}

#[test]
fn every_workspace_has_its_own_rules_however_many_there_are() {
    let mut bench = Bench::new(vec![]);
    let last = {
        let mut setup = bench.setup.lock();
        setup.identity_rules.max_members = 1;
        setup.clone()
    };
    // More than a lane lets wait: the one that matters comes last.
    let other = Setup { installations: vec![], ..last.clone() };
    let others = (1..3 * MAX_WAITING as u32)
        .map(|number| Setup { workspace: WorkspaceId(WORKSPACE.0 + number), ..other.clone() });
    bench.restart_with(others.chain([last.clone()]).collect());
    bench.send(vec![event("m1", &[("user_id", "u1"), ("email", "a@b.c")], "A", START)]);
    let (user, email) = (bench.profile("user_id", "u1").unwrap(), bench.profile("email", "a@b.c").unwrap());
    assert_ne!(user.id, email.id, "a profile of two members in a workspace that allows one");
}

/// Who shares a profile with whom, and the facts of each: what must not depend on the order of arrival.
fn outcome(
    bench: &Bench,
    identifiers: &BTreeSet<Identifier>,
) -> BTreeMap<BTreeSet<Identifier>, BTreeMap<String, String>> {
    let mut outcome = BTreeMap::new();
    for identifier in identifiers {
        let profile = bench.profile(&identifier.kind, &identifier.value).expect("every identifier is somebody's");
        let members = profile.members.into_iter().map(|(_, identifier)| identifier).collect();
        let facts = profile.traits.into_iter().map(|(name, folded)| (name, folded.value.json)).collect();
        outcome.insert(members, facts);
    }
    outcome
}

/// Identifiers, seconds before the start, and a city.
type EventCase = (Vec<(&'static str, String)>, i64, u8);

fn arb_event() -> impl Strategy<Value = EventCase> {
    let identifier = prop_oneof![
        (0..4u8).prop_map(|n| ("user_id", format!("u{n}"))),
        (0..5u8).prop_map(|n| ("anonymous_id", format!("a{n}"))),
        (0..7u8).prop_map(|n| ("email", format!("e{n}@x.io"))),
    ];
    (proptest::collection::vec(identifier, 1..4), 0..50i64, 0..4u8)
}

fn drafts(events: &[EventCase]) -> Vec<DraftEvent> {
    let draft = |(number, (identifiers, time, city)): (usize, &EventCase)| {
        let identifiers: Vec<(&str, &str)> = identifiers.iter().map(|(kind, value)| (*kind, value.as_str())).collect();
        let traits = format!(r#"{{"city":{city}}}"#);
        identify(&format!("m{number}"), &identifiers, &traits, Timestamp(START.0 - time * 1000))
    };
    events.iter().enumerate().map(draft).collect()
}

proptest! {
    #![proptest_config(super::laws(48))]

    /// Whatever the order in which events come, however they are cut, and however often each is repeated: the same people with
    /// the same facts, each identifier in one of them, within the limits, and no event lost.
    #[test]
    fn the_order_of_arrival_does_not_matter(
        events in proptest::collection::vec(arb_event(), 1..24),
        seed in any::<u64>(),
        cuts in proptest::collection::vec(1..6usize, 24),
    ) {
        let drafts = drafts(&events);
        let identifiers: BTreeSet<Identifier> = drafts.iter().flat_map(|draft| draft.identifiers.clone()).collect();
        let one = Bench::new(vec![]);
        one.send(drafts.clone());
        let expected = outcome(&one, &identifiers);

        let mut shuffled = drafts.clone();
        let mut state = seed;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        let other = Bench::new(vec![]);
        let mut rest = shuffled.as_slice();
        for cut in cuts {
            let (now, later) = rest.split_at(cut.min(rest.len()));
            other.send(now.to_vec());
            // Duplicate delivery changes nothing.
            other.send(now.to_vec());
            rest = later;
        }
        other.send(rest.to_vec());
        prop_assert_eq!(&outcome(&other, &identifiers), &expected);

        let mut seen = BTreeSet::new();
        let mut events_of_all = 0;
        for members in expected.keys() {
            let users = members.iter().filter(|identifier| identifier.kind == "user_id").count();
            let emails = members.iter().filter(|identifier| identifier.kind == "email").count();
            prop_assert!(users <= 1 && emails <= 5, "{members:?}");
            for identifier in members {
                prop_assert!(seen.insert(identifier.clone()), "{identifier} belongs to two profiles");
            }
            let first = members.first().expect("a profile has members");
            let profile = one.profile(&first.kind, &first.value).expect("it was found before");
            events_of_all += one.kernel.profile_events(WORKSPACE, profile.id, PageRequest::first(100)).unwrap().unwrap().events.len();
        }
        prop_assert_eq!(events_of_all, drafts.len());
    }
}
