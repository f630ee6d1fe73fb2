//! A change of the identity rules: what was tied comes to be as if the new rules had always held, nobody is written to because
//! of it, and a dry run says before what it does.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::audience::ConsentBasis;
use kith_model::event::DraftEvent;
use kith_model::id::ProfileId;
use kith_model::identity::{AliasRule, Case, Identifier, IdentityRules, Shape, TypeRules};
use kith_model::time::Timestamp;
use proptest::prelude::*;

use super::harness::*;
use crate::{DryRun, RuleChange, RuleEffect, change_token};

/// Change the rules, and wait until history is tied by them.
fn change(bench: &Bench, change: impl FnOnce(&mut IdentityRules)) {
    bench.configure(|setup| change(&mut setup.identity_rules));
    wait(bench);
}

fn wait(bench: &Bench) {
    bench.wait_until("history is tied by the rules", || {
        matches!(bench.kernel.rule_change(WORKSPACE), Ok(RuleChange::Done(_)))
    });
    bench.settle();
}

fn dry_run(bench: &Bench, change: impl FnOnce(&mut IdentityRules)) -> RuleEffect {
    let mut rules = bench.setup.lock().identity_rules.clone();
    change(&mut rules);
    bench.settle();
    let token = change_token(WORKSPACE, &bench.setup.lock().identity_rules, &rules);
    bench.kernel.begin_dry_run(WORKSPACE, rules, token.clone()).unwrap();
    let ended = || match bench.kernel.dry_run(WORKSPACE, &token) {
        Some(DryRun::Done(effect)) => Some(*effect),
        Some(DryRun::Failed(why)) => panic!("{why}"),
        _ => None,
    };
    bench.wait_until("the dry run has ended", || ended().is_some());
    ended().unwrap()
}

fn id(bench: &Bench, kind: &str, value: &str) -> ProfileId {
    bench.kernel.profile_by_identifier(WORKSPACE, &Identifier::new(kind, value)).unwrap().unwrap().id
}

/// A desk's own address came with forty visitors and made them one.
fn desk(bench: &Bench) {
    for n in 0..40 {
        let visitor = format!("a{n}");
        let both =
            [("anonymous_id", visitor.as_str()), ("email", if n % 2 == 0 { "desk@shop.io" } else { "Desk@Shop.io" })];
        bench.send(vec![
            event(&format!("o{n}"), &[("anonymous_id", &visitor)], "Order Completed", START),
            identify(&format!("i{n}"), &both, "{}", Timestamp(START.0 + n)),
        ]);
    }
    bench.settle();
}

fn people(bench: &Bench) -> usize {
    let visitors = (0..40).map(|n| id(bench, "anonymous_id", &format!("a{n}")));
    visitors.collect::<BTreeSet<_>>().len()
}

#[test]
fn all_that_an_identifier_tied_is_undone_and_can_be_taken_back_and_no_message_leaves() {
    let condition = "events('Order Completed').size() == 1";
    let mut bench = Bench::new(vec![audience(1, condition, Some(ConsentBasis::NotRefused))]);
    desk(&bench);
    assert_eq!((people(&bench), bench.size(1)), (1, Some(0)));
    let sent = bench.postbox.sent.lock().len();
    let untie = |rules: &mut IdentityRules| {
        rules.ties_nobody.insert("email:desk@shop.io".to_owned());
    };

    let told = dry_run(&bench, untie);
    assert!(told.is_exact && told.is_complete, "{told:?}");
    assert_eq!((told.people_before, told.parted, told.joined), (1, 1, 0));
    assert_eq!(told.newly_shared, 2, "both spellings of the address tie nobody");
    assert_eq!(told.examples[0].before.len(), 1);
    assert!(told.examples[0].after.len() > 1);
    assert_eq!(people(&bench), 1, "a dry run changes nothing");

    change(&bench, untie);
    assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().profiles, told.people_after);
    assert_eq!((people(&bench), bench.size(1)), (40, Some(40)));
    // The same evidence again, a new visitor and a new spelling tie nobody either, also after a restart.
    bench.restart();
    bench.send(vec![
        identify("j1", &[("anonymous_id", "a1"), ("email", "desk@shop.io")], "{}", START),
        identify("j2", &[("anonymous_id", "a2"), ("email", "DESK@shop.io")], "{}", START),
        identify("j3", &[("anonymous_id", "a3"), ("email", "DESK@shop.io")], "{}", START),
    ]);
    bench.settle();
    assert_eq!(people(&bench), 40);

    change(&bench, |rules| rules.ties_nobody.clear());
    assert_eq!((people(&bench), bench.size(1)), (1, Some(0)));
    assert_eq!(bench.postbox.sent.lock().len(), sent, "no message leaves because of an undo");
}

#[test]
fn all_that_a_rule_made_is_undone() {
    let bench = Bench::new(vec![]);
    bench.send(vec![
        identify("m1", &[("anonymous_id", "a1"), ("phone", "0170 1234567")], "{}", START),
        identify("m2", &[("anonymous_id", "a2"), ("phone", "0170-1234567")], "{}", START),
        identify("m3", &[("anonymous_id", "a3"), ("phone", "+49 170 1234567")], "{}", START),
    ]);
    let of = |bench: &Bench, visitor| id(bench, "anonymous_id", visitor);
    assert_eq!(of(&bench, "a1"), of(&bench, "a2"));
    assert_ne!(of(&bench, "a1"), of(&bench, "a3"));
    let told = dry_run(&bench, |rules| rules.phone_region = Some("DE".to_owned()));
    assert_eq!((told.joined, told.parted), (1, 0), "{told:?}");
    change(&bench, |rules| rules.phone_region = Some("DE".to_owned()));
    assert_eq!(of(&bench, "a1"), of(&bench, "a3"));
    let told = dry_run(&bench, |rules| assert!(rules.unfollowed.insert("spelling:phone".to_owned())));
    assert_eq!((told.joined, told.parted), (0, 1), "{told:?}");
    change(&bench, |rules| assert!(rules.unfollowed.insert("spelling:phone".to_owned())));
    assert_eq!(BTreeSet::from(["a1", "a2", "a3"].map(|visitor| of(&bench, visitor))).len(), 3);
    change(&bench, |rules| rules.unfollowed.clear());
    assert_eq!(BTreeSet::from(["a1", "a2", "a3"].map(|visitor| of(&bench, visitor))).len(), 1);
}

/// What came beside others and named nobody names somebody once the rules say so, and the other way round.
#[test]
fn a_value_that_is_blocked_and_allowed_again_ties_as_before() {
    let bench = Bench::new(vec![]);
    let same = |bench: &Bench| id(bench, "user_id", "u1") == id(bench, "anonymous_id", "a1");
    bench.send(vec![
        identify("m1", &[("user_id", "u1"), ("phone", "guest")], "{}", START),
        identify("m2", &[("user_id", "u1"), ("email", "n/a")], "{}", START),
        identify("m3", &[("user_id", "u1"), ("email", "kiosk@shop.io")], "{}", START),
        identify("m4", &[("anonymous_id", "a1"), ("email", "kiosk@shop.io")], "{}", START),
    ]);
    bench.settle();
    assert!(same(&bench));
    let block = |rules: &mut IdentityRules| {
        rules.blocked_values.insert("KIOSK@shop.io".to_owned());
    };
    let told = dry_run(&bench, block);
    assert_eq!((told.newly_nobody, told.parted), (1, 1), "{told:?}");
    change(&bench, block);
    assert!(!same(&bench));
    // What comes now is kept with its event, and counts once the value is allowed.
    bench.send(vec![identify("m5", &[("anonymous_id", "a2"), ("email", "kiosk@shop.io")], "{}", START)]);
    bench.settle();
    change(&bench, |rules| rules.blocked_values.clear());
    assert!(same(&bench));
    assert_eq!(id(&bench, "anonymous_id", "a2"), id(&bench, "user_id", "u1"));
}

/// An address with more users than the rules allow was shared for good, also under rules that allow more.
#[test]
fn what_was_shared_is_free_under_rules_that_allow_it_and_the_other_way_round() {
    let bench = Bench::new(vec![]);
    bench.configure(|setup| setup.identity_rules.shared_above = 3);
    let with =
        |n: usize| identify(&format!("m{n}"), &[("user_id", &format!("u{n}")), ("email", "till@shop.io")], "{}", START);
    bench.send((0..6).map(with).collect());
    bench.settle();
    let is_tied =
        |bench: &Bench| (0..6).any(|n| id(bench, "user_id", &format!("u{n}")) == id(bench, "email", "till@shop.io"));
    assert!(!is_tied(&bench));
    let told = dry_run(&bench, |rules| rules.shared_above = 6);
    assert_eq!((told.newly_free, told.newly_shared), (1, 0), "{told:?}");
    change(&bench, |rules| rules.shared_above = 6);
    assert!(is_tied(&bench));
    change(&bench, |rules| rules.shared_above = 5);
    assert!(!is_tied(&bench));
}

/// Identifiers, seconds before the start, and a city.
type EventCase = (Vec<(&'static str, String)>, i64, u8, bool);

fn arb_event() -> impl Strategy<Value = EventCase> {
    let identifier = prop_oneof![
        (0..4u8).prop_map(|n| ("user_id", format!("u{n}"))),
        (0..5u8).prop_map(|n| ("anonymous_id", format!("a{n}"))),
        (0..4u8, 0..3usize).prop_map(|(n, of)| (
            "email",
            [format!("e{n}@x.io"), format!("E{n}@x.io"), format!("e{n}@X.io")][of].clone()
        )),
        (0..3u8, 0..3usize).prop_map(|(n, of)| (
            "phone",
            [format!("0170 12345{n}"), format!("0170-12345{n}"), format!("+49 170 12345{n}")][of].clone()
        )),
        Just(("email", "n/a".to_owned())),
    ];
    (proptest::collection::vec(identifier, 1..4), 0..50i64, 0..4u8, proptest::bool::weighted(0.1))
}

fn drafts(events: &[EventCase]) -> Vec<DraftEvent> {
    let draft = |(number, (identifiers, time, city, is_alias)): (usize, &EventCase)| {
        let message = format!("m{number}");
        if *is_alias {
            let (new, old) =
                (format!("u{city}"), if time % 2 == 0 { format!("u{}", time % 4) } else { format!("a{}", time % 5) });
            let both = [("user_id", new.as_str()), ("previous_id", old.as_str())];
            let alias = event(&message, &both, "", Timestamp(START.0 - time * 1000));
            return DraftEvent { kind: kith_model::event::EventKind::Alias, ..alias };
        }
        let identifiers: Vec<(&str, &str)> = identifiers.iter().map(|(kind, value)| (*kind, value.as_str())).collect();
        identify(&message, &identifiers, &format!(r#"{{"city":{city}}}"#), Timestamp(START.0 - time * 1000))
    };
    events.iter().enumerate().map(draft).collect()
}

fn rules_of(number: usize) -> IdentityRules {
    let mut rules = IdentityRules::default();
    let limits = |email, phone| {
        BTreeMap::from(
            [("user_id", 1), ("email", email), ("phone", phone)].map(|(kind, limit)| (kind.to_owned(), limit)),
        )
    };
    match number {
        0 => {}
        1 => rules.phone_region = Some("DE".to_owned()),
        2 => {
            drop(rules.types.insert(
                "email".to_owned(),
                TypeRules { case: Case::Keep, shape: Shape::Email, ..TypeRules::default() },
            ))
        }
        3 => rules.limits = limits(1, 1),
        4 => rules.shared_above = 1,
        5 => rules.max_members = 5,
        6 => rules.alias = AliasRule::Refuse,
        7 => rules.unfollowed = BTreeSet::from(["same_event:phone".to_owned(), "spelling:email".to_owned()]),
        8 => rules.ties_nobody = BTreeSet::from(["email:e1@x.io".to_owned(), "anonymous_id:a2".to_owned()]),
        9 => rules.limits = BTreeMap::from([("user_id".to_owned(), 2)]),
        10 => rules.priority = ["email", "user_id"].map(str::to_owned).into(),
        11 => rules.blocked_values = BTreeSet::from(["e0@x.io".to_owned(), "u3".to_owned()]),
        12 => rules.allowed_values = BTreeSet::from(["n/a".to_owned()]),
        _ => rules.types = BTreeMap::new(),
    }
    rules
}

/// How many [`rules_of`] there are.
const RULES: usize = 14;

/// With whom each identifier is, and the facts that all of them have together.
fn outcome(bench: &Bench, identifiers: &BTreeSet<Identifier>) -> BTreeMap<Identifier, BTreeSet<Identifier>> {
    let mut outcome = BTreeMap::new();
    for identifier in identifiers {
        if let Some(profile) = bench.kernel.profile_by_identifier(WORKSPACE, identifier).unwrap() {
            let members = profile.members.into_iter().map(|(_, identifier)| identifier);
            outcome.insert(identifier.clone(), members.filter(|member| identifiers.contains(member)).collect());
        }
    }
    outcome
}

proptest! {
    #![proptest_config(super::laws(64))]

    /// After a change of rules in the middle, with a restart in the middle of it or not, people are who they are where the new
    /// rules held from the beginning; and the dry run said how many there would be.
    #[test]
    fn a_change_of_rules_is_as_if_they_had_always_held(
        events in proptest::collection::vec(arb_event(), 1..24),
        before in 0..RULES,
        after in 0..RULES,
        at in any::<prop::sample::Index>(),
        restarts in any::<bool>(),
    ) {
        // A form that the earlier rules made stays as a hidden member, and the bound of members counts it.
        prop_assume!(after != 5 || !matches!(before, 1 | 2 | 13));
        let mut drafts = drafts(&events);
        // What the earlier rules refused is a dead letter, and no history.
        let earlier = rules_of(before);
        drafts.retain(|draft| draft.identifiers.iter().any(|identifier| earlier.names_somebody(identifier)));
        let identifiers: BTreeSet<Identifier> = drafts.iter().flat_map(|draft| draft.identifiers.clone()).collect();
        let fresh = Bench::new(vec![]);
        change(&fresh, |rules| *rules = rules_of(after));
        fresh.send(drafts.clone());
        fresh.settle();
        let mut bench = Bench::new(vec![]);
        bench.configure(|setup| setup.identity_rules = rules_of(before));
        let (early, late) = drafts.split_at(at.index(drafts.len() + 1));
        bench.send(early.to_vec());
        let told = (before != after).then(|| dry_run(&bench, |rules| *rules = rules_of(after)));
        bench.configure(|setup| setup.identity_rules = rules_of(after));
        if restarts {
            bench.restart();
        } else if let Some(told) = told {
            wait(&bench);
            prop_assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().profiles, told.people_after);
        }
        bench.send(late.to_vec());
        wait(&bench);
        let expected = outcome(&fresh, &identifiers);
        let mut found = outcome(&bench, &identifiers);
        // Who names somebody under the earlier rules alone is there by himself.
        found.retain(|identifier, members| expected.contains_key(identifier) || members.len() > 1);
        prop_assert_eq!(found, expected);
    }
}
