//! Merges and their undo, seen from below: after all of it is undone, facts, leaves, audiences, counts, timers and histories are
//! those of a fresh replay of the events alone; every id goes on leading to somebody, no event is lost, and no message leaves.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::audience::ConsentBasis;
use kith_model::event::{DraftEvent, EventOrigin};
use kith_model::id::{AudienceId, ProfileId};
use kith_model::identity::{Identifier, IdentityRules};
use kith_model::time::Timestamp;
use proptest::prelude::*;

use super::harness::*;
use crate::RuleChange;

/// What is done to people, by numbers of identifiers.
#[derive(Debug, Clone)]
enum Deed {
    Join(usize, usize),
    Part(usize, usize),
    /// An identifier ties nobody.
    Untie(usize),
    /// Evidence of one event and an address is not followed.
    Unfollow,
    Restart,
}

const CONDITIONS: [&str; 4] = [
    "events('Order Completed').size() == 1",
    "events('Order Completed', '30d').size() >= 2",
    "has(traits.city) && traits.city == 1",
    "!has(traits.city)",
];

fn arb_deed() -> impl Strategy<Value = Deed> {
    let at = || 0..32usize;
    prop_oneof![
        3 => (at(), at()).prop_map(|(one, other)| Deed::Join(one, other)),
        3 => (at(), at()).prop_map(|(one, other)| Deed::Part(one, other)),
        2 => at().prop_map(Deed::Untie),
        1 => Just(Deed::Unfollow),
        1 => Just(Deed::Restart),
    ]
}

/// Identifiers, days before the start, a city, and whether it is an order.
type EventCase = (Vec<(&'static str, String)>, i64, u8, bool);

fn arb_event() -> impl Strategy<Value = EventCase> {
    let identifier = prop_oneof![
        (0..3u8).prop_map(|n| ("user_id", format!("u{n}"))),
        (0..4u8).prop_map(|n| ("anonymous_id", format!("a{n}"))),
        (0..3u8).prop_map(|n| ("email", format!("e{n}@x.io"))),
    ];
    (proptest::collection::vec(identifier, 1..3), 0..40i64, 0..3u8, any::<bool>())
}

fn drafts(events: &[EventCase]) -> Vec<DraftEvent> {
    let draft = |(number, (identifiers, days, city, is_order)): (usize, &EventCase)| {
        let identifiers: Vec<(&str, &str)> = identifiers.iter().map(|(kind, value)| (*kind, value.as_str())).collect();
        let time = Timestamp(START.0 - days * DAY);
        match is_order {
            true => event(&format!("m{number}"), &identifiers, "Order Completed", time),
            false => identify(&format!("m{number}"), &identifiers, &format!(r#"{{"city":{city}}}"#), time),
        }
    };
    events.iter().enumerate().map(draft).collect()
}

fn bench() -> Bench {
    let audiences = CONDITIONS.iter().zip(1..);
    Bench::new(audiences.map(|(condition, id)| audience(id, condition, Some(ConsentBasis::NotRefused))).collect())
}

fn tied(bench: &Bench) {
    bench.wait_until("history is tied by the rules", || {
        matches!(bench.kernel.rule_change(WORKSPACE), Ok(RuleChange::Done(_)))
    });
    bench.settle();
}

fn change(bench: &Bench, change: impl FnOnce(&mut IdentityRules)) {
    bench.configure(|setup| change(&mut setup.identity_rules));
    tied(bench);
}

/// A person without what names it: identifiers, facts, names of events with their times, and audiences.
type Person = (BTreeSet<Identifier>, BTreeMap<String, String>, Vec<(String, Timestamp)>, BTreeSet<u32>);

/// All people, each size and count, and how many events there are.
fn outcome(bench: &Bench, identifiers: &[Identifier]) -> (Vec<Person>, Vec<Option<u64>>, Vec<u64>, usize) {
    bench.settle();
    let mut people: BTreeMap<ProfileId, Person> = BTreeMap::new();
    let members =
        |id: u32| bench.kernel.audience_members(WORKSPACE, AudienceId(id), PageRequest::first(1_000)).unwrap().members;
    let audiences: Vec<BTreeSet<ProfileId>> = (1..=4).map(|id| members(id).into_iter().collect()).collect();
    let mut all = 0;
    for identifier in identifiers {
        let profile = bench.kernel.profile_by_identifier(WORKSPACE, identifier).unwrap().unwrap();
        if people.contains_key(&profile.id) {
            continue;
        }
        let mut events =
            bench.kernel.profile_events(WORKSPACE, profile.id, PageRequest::first(1_000)).unwrap().unwrap().events;
        // Receipts of messages are events too, which nobody sent.
        events.retain(|recorded| recorded.event.origin == EventOrigin::Client);
        all += events.len();
        let mut events: Vec<(String, Timestamp)> =
            events.into_iter().map(|recorded| (recorded.event.message_id, recorded.event.time)).collect();
        events.sort();
        let facts = profile.traits.into_iter().map(|(name, folded)| (name, folded.value.json)).collect();
        let of = (1..).zip(&audiences).filter(|(_, members)| members.contains(&profile.id)).map(|(id, _)| id);
        let members = profile.members.into_iter().map(|(_, identifier)| identifier).collect();
        people.insert(profile.id, (members, facts, events, of.collect()));
    }
    let mut people: Vec<Person> = people.into_values().collect();
    people.sort();
    let sizes = (1..=4).map(|id| bench.size(id)).collect();
    let counts = ["events('Order Completed').size() >= 1", "traits.city == 2", "!has(traits.city)"];
    (people, sizes, counts.map(|condition| bench.count(condition)).into(), all)
}

/// Do it, and note what undoes it.
fn act(bench: &mut Bench, identifiers: &[Identifier], deed: &Deed, undo: &mut BTreeSet<(Identifier, Identifier)>) {
    let at = |number: &usize| identifiers[number % identifiers.len()].clone();
    match deed {
        Deed::Join(one, other) => {
            let (one, other) = (at(one), at(other));
            if one != other && bench.wait_for(bench.kernel.join(WORKSPACE, &one, &other, "key")).is_ok() {
                undo.insert((one, other));
            }
        }
        Deed::Part(one, other) => {
            let (one, other) = (at(one), at(other));
            if one != other {
                bench.wait_for(bench.kernel.part(WORKSPACE, &one, &other)).unwrap();
                undo.insert((one, other));
            }
        }
        Deed::Untie(one) => {
            let one = at(one).to_string();
            change(bench, |rules| {
                rules.ties_nobody.insert(one);
            });
        }
        Deed::Unfollow => change(bench, |rules| {
            rules.unfollowed.insert("same_event:email".to_owned());
        }),
        Deed::Restart => bench.restart(),
    }
}

proptest! {
    #![proptest_config(super::laws(24))]

    #[test]
    fn after_all_is_undone_everything_is_as_after_a_fresh_replay(
        events in proptest::collection::vec(arb_event(), 2..20),
        deeds in proptest::collection::vec(arb_deed(), 1..7),
    ) {
        let drafts = drafts(&events);
        let identifiers: BTreeSet<Identifier> = drafts.iter().flat_map(|draft| draft.identifiers.clone()).collect();
        let identifiers: Vec<Identifier> = identifiers.into_iter().collect();
        let fresh = bench();
        fresh.send(drafts.clone());
        let expected = outcome(&fresh, &identifiers);
        prop_assert_eq!(expected.3, drafts.len());

        let mut bench = bench();
        bench.send(drafts.clone());
        bench.settle();
        let sent = bench.postbox.sent.lock().len();
        let (mut undo, mut ids) = (BTreeSet::new(), BTreeSet::new());
        for deed in &deeds {
            act(&mut bench, &identifiers, deed, &mut undo);
            bench.settle();
            let found = identifiers.iter().map(|identifier| bench.kernel.profile_by_identifier(WORKSPACE, identifier));
            let found: Vec<_> = found.map(|found| found.unwrap().unwrap()).collect();
            ids.extend(found.iter().map(|profile| profile.id));
            let people: BTreeSet<ProfileId> = found.iter().map(|profile| profile.id).collect();
            prop_assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().profiles, people.len() as u64);
            for profile in &found {
                let users = profile.members.iter().filter(|(_, identifier)| identifier.kind == "user_id").count();
                prop_assert!(users <= 1 || !undo.is_empty(), "two users who nobody joined");
            }
            for split in bench.kernel.splits(WORKSPACE, PageRequest::first(100)).unwrap().items {
                prop_assert_ne!(split.profiles[0], split.profiles[1], "who was parted is two people");
            }
        }
        for (one, other) in undo {
            bench.wait_for(bench.kernel.part(WORKSPACE, &one, &other)).unwrap();
            bench.wait_for(bench.kernel.unpart(WORKSPACE, &one, &other)).unwrap();
        }
        change(&bench, |rules| *rules = IdentityRules::default());
        prop_assert_eq!(outcome(&bench, &identifiers), expected);
        for id in ids {
            prop_assert!(bench.kernel.profile(WORKSPACE, id).unwrap().is_some(), "{} leads nowhere", id);
        }
        prop_assert_eq!(bench.postbox.sent.lock().len(), sent, "a message left because of a merge or an undo");
        // Timers: who has aged out of a window is out of the audience, as in the replay.
        let size = |bench: &Bench| bench.size(2);
        fresh.advance(41 * DAY, || size(&fresh) == Some(0));
        bench.advance(41 * DAY, || size(&bench) == Some(0));
    }
}
