//! Who is one person by the rules: spellings, what names nobody, aliases between users, shared identifiers, and what is said of
//! evidence that was not followed.

use std::collections::BTreeSet;

use kith_model::consent::fold::ConsentRow;
use kith_model::event::{DraftEvent, EventKind, EventOrigin, RejectedRecord};
use kith_model::identity::{AliasRule, Evidence, Identifier, Veto};
use kith_store::{Key, Operation, Unit, row};
use proptest::prelude::*;

use super::harness::*;
use crate::deliver::gate;
use crate::questions::identity;
use crate::rows::{Aside, Letter, RawForm};
use crate::{Asker, LetterFilter, Patience, PersonRead, ProfileStart, QueryError, TurnError, Whom};

/// The identifiers of the person behind one of them.
fn who(bench: &Bench, kind: &str, value: &str) -> Vec<String> {
    let found = bench.profile(kind, value);
    let mut all: Vec<String> =
        found.into_iter().flat_map(|found| found.members).map(|(_, identifier)| identifier.to_string()).collect();
    all.sort();
    all
}

fn alias(message_id: &str, new: &str, old: &str) -> DraftEvent {
    let identifiers = [("user_id", new), ("previous_id", old)];
    DraftEvent { kind: EventKind::Alias, ..identify(message_id, &identifiers, "", START) }
}

#[test]
fn spellings_of_one_identifier_are_one_person_in_events_and_look_ups() {
    let bench = Bench::new(vec![]);
    bench.configure(|setup| setup.identity_rules.phone_region = Some("DE".to_owned()));
    let pairs = [
        ("user_id", "w1", "w1 \t\n"),
        ("user_id", "w2", "w2\u{200b}"),
        ("user_id", "jos\u{e9}", "jose\u{301}"),
        ("email", "ada@example.com", "Ada@Example.com"),
        ("phone", "+15550100000", "+1 (555) 010-0000"),
        ("phone", "+491701234567", "0170/1234567"),
    ];
    for (number, (kind, normal, spelled)) in pairs.into_iter().enumerate() {
        let (one, other) = (format!("a{number}"), format!("b{number}"));
        bench.send(vec![
            identify(&format!("m{number}"), &[(kind, spelled), ("anonymous_id", &one)], "", START),
            identify(&format!("n{number}"), &[(kind, normal), ("anonymous_id", &other)], "", START),
        ]);
        let person = who(&bench, "anonymous_id", &one);
        assert!(person.contains(&format!("anonymous_id:{other}")), "{spelled:?}: {person:?}");
        assert!(person.contains(&format!("{kind}:{}", spelled.trim())), "the value as it came is kept: {person:?}");
        for asked in [normal.to_owned(), spelled.to_owned(), format!(" {normal} "), format!("\u{feff}{spelled}")] {
            assert_eq!(who(&bench, kind, &asked), person, "{asked:?}");
        }
    }
    assert_eq!(who(&bench, "email", "ADA@EXAMPLE.COM"), who(&bench, "email", "ada@example.com"));
    assert_eq!(bench.count("profile.identifiers.email == ['ada@example.com']"), 1, "a spelling is no second address");
}

#[test]
fn what_names_nobody_ties_nobody_and_is_counted() {
    let bench = Bench::new(vec![]);
    let values = [
        ("user_id", "distinctid"),
        ("user_id", "(not set)"),
        ("email", "n/a"),
        ("email", "x@"),
        ("phone", "0000000000"),
    ];
    for (number, (kind, value)) in values.into_iter().enumerate() {
        let (one, other) = (format!("a{number}"), format!("b{number}"));
        let sent = bench.send(vec![
            identify(&format!("m{number}"), &[(kind, value), ("anonymous_id", &one)], r#"{"email":"n/a"}"#, START),
            identify(&format!("n{number}"), &[(kind, value), ("anonymous_id", &other)], "", START),
        ]);
        assert_eq!((sent.acceptance.accepted, sent.acceptance.identifiers_left_out), (2, 2), "{value}");
        assert_eq!(who(&bench, "anonymous_id", &one), [format!("anonymous_id:{one}")], "{value}");
        assert_eq!(bench.profile(kind, value).map(|found| found.id), None);
    }
    assert_eq!(bench.profile("anonymous_id", "a0").unwrap().traits["email"].value.json, "\"n/a\"", "it stays a trait");
    // The first of each type and reason is kept aside, and not one for each event.
    assert_eq!(bench.kernel.dead_letters(WORKSPACE, PageRequest::first(100)).unwrap().items.len(), values.len());
    let refused = bench.send(vec![identify("r", &[("email", "ada@shop")], "", START)]);
    let rejected = &refused.acceptance.rejected[0];
    assert_eq!(rejected.code, "missing-identifier");
    assert!(rejected.message.contains("`email` \"ada@shop\" is no e-mail address"), "{}", rejected.message);
}

#[test]
fn an_alias_between_users_makes_one_person_before_and_after_their_events() {
    let users =
        |first: &str| vec![event(first, &[("user_id", "old")], "Order Completed", START), alias("al", "new", "old")];
    let device = |id: &str| event(id, &[("user_id", "old"), ("anonymous_id", "d")], "Seen", START);
    for turned in [false, true] {
        let bench = Bench::new(vec![]);
        let mut events = users("m1");
        events.push(device("m2"));
        if turned {
            events.reverse();
        }
        events.into_iter().for_each(|event| drop(bench.send(vec![event])));
        assert_eq!(who(&bench, "user_id", "new"), ["anonymous_id:d", "user_id:new", "user_id:old"], "turned: {turned}");
        assert_eq!(who(&bench, "user_id", "old"), who(&bench, "user_id", "new"));
        assert!(bench.profile("anonymous_id", "old").is_none_or(|found| found.members.len() == 3), "no stray device");
        // The limit of one user stands.
        bench.send(vec![event("m3", &[("user_id", "third"), ("anonymous_id", "d")], "Seen", START)]);
        assert_eq!(who(&bench, "user_id", "third"), ["user_id:third"]);
    }
}

#[test]
fn an_alias_of_a_device_is_the_device_and_two_users_of_it_stay_two() {
    let bench = Bench::new(vec![]);
    bench.send(vec![event("m1", &[("anonymous_id", "an6")], "Seen", START), alias("al", "u6", "an6")]);
    assert_eq!(who(&bench, "user_id", "u6"), ["anonymous_id:an6", "user_id:u6"]);
    let sent = bench.send(vec![alias("am", "u7", "an6")]);
    assert_eq!(sent.acceptance.not_followed, 1);
    assert_eq!(who(&bench, "user_id", "u7"), ["user_id:u7"]);
    // An alias that comes before anything else is found by either type, and once the device is seen it is the device's.
    bench.send(vec![alias("an", "u8", "an8")]);
    assert_eq!(who(&bench, "anonymous_id", "an8"), ["user_id:u8"]);
    bench.send(vec![event("m2", &[("anonymous_id", "an8")], "Seen", START)]);
    assert_eq!(who(&bench, "anonymous_id", "an8"), ["anonymous_id:an8", "user_id:u8"]);
}

#[test]
fn an_alias_moves_neither_the_device_nor_the_address_that_come_with_it() {
    let bench = Bench::new(vec![]);
    bench.configure(|setup| setup.identity_rules.alias = AliasRule::Refuse);
    let mine = [("user_id", "old"), ("anonymous_id", "d"), ("email", "ada@example.com")];
    bench.send(vec![event("m1", &mine, "Order Completed", START)]);
    let with_all = [("user_id", "new"), ("previous_id", "old"), ("anonymous_id", "d"), ("email", "ada@example.com")];
    let sent = bench.send(vec![DraftEvent { kind: EventKind::Alias, ..identify("al", &with_all, "", START) }]);
    assert_eq!(sent.acceptance.not_followed, 1, "the rules refuse it");
    assert_eq!(who(&bench, "user_id", "new"), ["user_id:new"]);
    assert_eq!(who(&bench, "user_id", "old").len(), 3);
    let letters = bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap();
    assert_eq!(letters.items.len(), 1, "{letters:?}");
}

#[test]
fn aliases_in_a_circle_and_onto_itself_end() {
    let bench = Bench::new(vec![]);
    bench.send(vec![alias("1", "la", "lb"), alias("2", "lb", "la"), alias("3", "la", "la")]);
    assert_eq!(who(&bench, "user_id", "la"), ["user_id:la", "user_id:lb"]);
}

#[test]
fn what_is_not_followed_is_said_on_the_profile_and_in_the_list() {
    let bench = Bench::new(vec![]);
    let on_device = |user: &str, minute: i64| {
        let time = kith_model::time::Timestamp(START.0 + minute * 60_000);
        event(&format!("{user}-{minute}"), &[("user_id", user), ("anonymous_id", "tablet")], "Seen", time)
    };
    bench.send(vec![on_device("mum", 0)]);
    let sent = bench.send(vec![on_device("dad", 1)]);
    assert_eq!(sent.acceptance.not_followed, 1);
    let dad = bench.profile("user_id", "dad").unwrap();
    let [told] = &dad.not_followed[..] else { panic!("{:?}", dad.not_followed) };
    assert_eq!(told.veto, Veto::Limit { kind: "user_id".into() });
    assert_eq!(
        (told.evidence.edge.id.evidence, told.evidence.edge.message_id.as_str()),
        (Evidence::SameEvent, "dad-1")
    );
    let mum = bench.profile("user_id", "mum").unwrap();
    assert!(told.evidence.profiles.contains(&mum.id), "whose it is");
    let mut found = Vec::new();
    let mut cursor = None;
    loop {
        let page = bench.kernel.not_followed(WORKSPACE, PageRequest { limit: 1, cursor: cursor.as_deref() }).unwrap();
        found.extend(page.items);
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
    assert_eq!(found, dad.not_followed, "once, though it lies under both of its ends");
    assert_eq!(bench.profile("user_id", "mum").unwrap().not_followed, found);
}

#[test]
fn an_identifier_of_too_many_users_ties_nobody_and_raises_one_alarm() {
    let mut bench = Bench::new(vec![]);
    bench.configure(|setup| setup.identity_rules.shared_above = 3);
    let visit = |number: usize| {
        let (message, user) = (format!("m{number}"), format!("u{number}"));
        event(&message, &[("user_id", &user), ("email", "till@shop.de")], "Seen", START)
    };
    for number in 0..3 {
        bench.send(vec![visit(number)]);
    }
    assert_eq!(who(&bench, "email", "till@shop.de").len(), 2, "one of three has it");
    for number in 3..8 {
        bench.send(vec![visit(number)]);
    }
    assert_eq!(who(&bench, "email", "till@shop.de"), ["email:till@shop.de"]);
    assert_eq!(bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items.len(), 1, "said once");
    let told = bench.profile("user_id", "u0").unwrap().not_followed;
    assert_eq!(told.iter().map(|told| &told.veto).collect::<Vec<_>>(), [&Veto::Shared]);
    bench.restart();
    bench.send(vec![visit(9)]);
    assert_eq!(who(&bench, "email", "till@shop.de").len(), 1, "it stays shared");
}

#[test]
fn merges_are_listed_with_their_evidence_and_the_way_between_two_identifiers_is_told() {
    let bench = Bench::new(vec![]);
    bench.send(vec![
        event("m1", &[("user_id", "u1"), ("anonymous_id", "a1")], "Seen", START),
        event("m2", &[("email", "Ada@Example.com"), ("anonymous_id", "a1")], "Seen", START),
        event("m3", &[("user_id", "lone")], "Seen", START),
    ]);
    let (profile, patience) = (bench.profile("user_id", "u1").unwrap(), Patience::default());
    let merges = bench.kernel.merges(WORKSPACE, PageRequest::first(10), &patience).unwrap().items;
    assert_eq!(merges.len(), profile.members.len() - 1, "each joins two parts: {merges:?}");
    assert!(merges.iter().all(|merge| merge.winner < merge.loser && merge.winner >= profile.id));
    for merge in &merges {
        assert_eq!(
            bench.kernel.profile(WORKSPACE, merge.loser).unwrap().unwrap().id,
            profile.id,
            "a loser's id leads on"
        );
    }
    let (from, with) = (Identifier::new("user_id", "u1"), Identifier::new("email", "ada@example.com"));
    let way = bench.kernel.why(WORKSPACE, profile.id, (Some(&from), &with), &patience).unwrap().unwrap().unwrap();
    assert_eq!(way.next, None);
    let told: Vec<(&str, Option<&str>)> = way
        .steps
        .iter()
        .map(|step| {
            (step.evidence.edge.id.evidence.as_str(), step.event.as_ref().map(|event| event.event.message_id.as_str()))
        })
        .collect();
    assert_eq!(told, [("same_event", Some("m1")), ("same_event", Some("m2")), ("spelling", None)]);
    let lone = Identifier::new("user_id", "lone");
    assert!(bench.kernel.why(WORKSPACE, profile.id, (Some(&from), &lone), &patience).unwrap().unwrap().is_none());
}

/// An address of very many people merges hardly anybody, and pages were empty for all that evidence.
#[test]
fn hardly_a_page_of_merges_but_the_last_is_empty() {
    let bench = Bench::new(vec![]);
    let family = |number: usize| {
        let user = format!("u{number}");
        event(&user, &[("user_id", &user), ("email", "all@example.com")], "Seen", START)
    };
    bench.send((0..600).map(family).collect());
    let (mut cursor, patience) = (None::<String>, Patience::default());
    loop {
        let request = PageRequest { limit: 500, cursor: cursor.as_deref() };
        let page = identity::merges(&bench.kernel.shared, WORKSPACE, request, 100, &patience).unwrap();
        assert!(page.next.is_none() || !page.items.is_empty(), "an empty page has another behind it");
        cursor = page.next;
        if cursor.is_none() {
            break;
        }
    }
}

/// Whoever may send can have any number of users come with an address.
#[test]
fn a_person_with_whose_address_too_many_came_is_sent_nothing() {
    let bench = Bench::new(vec![]);
    let family = |number: usize| {
        let user = format!("u{number}");
        event(&user, &[("user_id", &user), ("email", "all@example.com")], "Seen", START)
    };
    bench.send((0..12).map(family).collect());
    let id = bench.profile("email", "all@example.com").unwrap().id;
    let setup = bench.setup.lock().clone();
    let by = (WORKSPACE, &setup.realm_key, &setup.identity_rules);
    let within = |most| gate::contributors_within(bench.store.as_ref(), by, id, most).unwrap();
    let all = within(1_000);
    assert!(all.len() > 5 && all.iter().all(|said| !matches!(said.row, ConsentRow::Unreadable(_))), "{all:?}");
    assert_eq!(within(all.len()), all);
    let [said] = &within(5)[..] else { panic!("nothing is known of one with more") };
    assert!(matches!(&said.row, ConsentRow::Unreadable(why) if why.contains("more than 5 identities")), "{said:?}");
}

#[test]
fn reasons_of_letters_are_told_apart_up_to_a_number() {
    let bench = Bench::new(vec![]);
    let letter = |number: u16| {
        let code = format!("own-{number}");
        let record = RejectedRecord { place: 0, code, message: "no".into(), raw: "{}".into() };
        let (at, form, origin) = (START, RawForm::Sent, EventOrigin::Client);
        let letter =
            Letter { at, last_at: at, times: 1, record, form, came: None, origin, is_edited: false, reader: None };
        let mut content = [0; 16];
        content[..2].copy_from_slice(&number.to_be_bytes());
        let key = Key::letter(WORKSPACE, SOURCE, at, &content);
        Operation::Put(key, row::encode(&Aside::Record(Box::new(letter))))
    };
    let operations = (0..510).map(letter).collect();
    bench.store.commit(Unit { operations, ..Unit::default() }).unwrap();
    let counts = bench.kernel.letter_counts(WORKSPACE, &LetterFilter::default(), &Patience::default()).unwrap();
    assert_eq!((counts.counts.len(), counts.others, counts.is_whole), (500, 10, true));
}

#[test]
fn work_on_one_persons_answer_ends_with_whoever_asked() {
    let bench = Bench::new(vec![]);
    bench.send(vec![event("m1", &[("user_id", "u1"), ("anonymous_id", "a1")], "Seen", START)]);
    let (kernel, id) = (&bench.kernel, bench.profile("user_id", "u1").unwrap().id);
    let (one, other) = (Identifier::new("user_id", "u1"), Identifier::new("anonymous_id", "a1"));
    let ask = |patience: &Patience| {
        let whole = (&ProfileStart::default(), usize::MAX);
        [
            kernel.profile_within(WORKSPACE, Whom::Id(id), whole, patience).map(drop),
            kernel.consents(WORKSPACE, id, None, patience).map(drop),
            kernel.why(WORKSPACE, id, (Some(&one), &other), patience).map(drop),
            kernel.merges(WORKSPACE, PageRequest::first(10), patience).map(drop),
        ]
    };
    let asker = Asker::default();
    let patience = asker.patience();
    assert!(ask(&patience).iter().all(Result::is_ok));
    drop(asker);
    assert!(ask(&patience).iter().all(|answer| matches!(answer, Err(QueryError::Turn(TurnError::GivenUp)))));
    let few = (&ProfileStart::default(), 1);
    let read = kernel.profile_within(WORKSPACE, Whom::Identifier(&one), few, &Patience::default()).unwrap();
    assert!(
        matches!(read, Some(PersonRead::Large)),
        "one look tells that there is more of a person than is to be read"
    );
}

/// Identifiers in spellings, of which some are placeholders, and aliases.
fn arb_event() -> impl Strategy<Value = (Vec<(&'static str, String)>, i64, bool)> {
    let spelled = |text: String, how: u8| match how {
        0 => text.to_uppercase(),
        1 => format!(" {text}\u{200b}"),
        _ => text,
    };
    let identifier = prop_oneof![
        4 => (0..5u8, 2..6u8).prop_map(move |(n, how)| ("user_id", spelled(format!("u{n}"), how))),
        2 => (0..4u8, 1..6u8).prop_map(move |(n, how)| ("anonymous_id", spelled(format!("a{n}"), how))),
        3 => (0..5u8, 0..4u8).prop_map(move |(n, how)| ("email", spelled(format!("e{n}@x.io"), how))),
        1 => Just(("email", "n/a".to_owned())),
    ];
    let alias = (0..5u8, prop_oneof![(0..5u8).prop_map(|n| format!("u{n}")), (0..4u8).prop_map(|n| format!("a{n}"))]);
    prop_oneof![
        5 => (proptest::collection::vec(identifier, 1..4), 0..50i64).prop_map(|(of, time)| (of, time, false)),
        1 => (alias, 0..50i64).prop_map(|((new, old), time)| {
            (vec![("user_id", format!("u{new}")), ("previous_id", old)], time, true)
        }),
    ]
}

proptest! {
    #![proptest_config(super::laws(32))]

    /// Spellings, placeholders, aliases before and after whom they name, and shared identifiers: the people are the same
    /// whatever the order.
    #[test]
    fn people_are_the_same_in_any_order(
        events in proptest::collection::vec(arb_event(), 1..24),
        seed in any::<u64>(),
    ) {
        let drafts: Vec<DraftEvent> = events.iter().enumerate().map(|(number, (identifiers, time, is_alias))| {
            let identifiers: Vec<(&str, &str)> = identifiers.iter().map(|(kind, value)| (*kind, value.as_str())).collect();
            let time = kith_model::time::Timestamp(START.0 - time * 1000);
            let draft = identify(&format!("m{number}"), &identifiers, "", time);
            if *is_alias { DraftEvent { kind: EventKind::Alias, ..draft } } else { draft }
        }).collect();
        let mut shuffled = drafts.clone();
        let mut state = seed;
        for at in (1..shuffled.len()).rev() {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            shuffled.swap(at, (state >> 33) as usize % (at + 1));
        }
        let people = |drafts: Vec<DraftEvent>, size: usize| {
            let bench = Bench::new(vec![]);
            bench.configure(|setup| setup.identity_rules.shared_above = 3);
            let mut asked: BTreeSet<Identifier> = BTreeSet::new();
            for part in drafts.chunks(size) {
                bench.send(part.to_vec());
                asked.extend(part.iter().flat_map(|draft| draft.identifiers.clone()));
            }
            let asked = asked.into_iter().filter(|identifier| !identifier.is_previous());
            asked.map(|identifier| who(&bench, &identifier.kind, &identifier.value)).collect::<Vec<_>>()
        };
        prop_assert_eq!(people(drafts, 24), people(shuffled, 1 + (seed % 5) as usize));
    }
}
