//! What an event, a midnight, a day and a question cost, in rows and bytes, which are the same on every machine.

use std::sync::atomic::Ordering;

use kith_features::Zone;
use kith_model::audience::ConsentBasis;
use kith_model::event::DraftEvent;
use kith_model::id::AudienceId;
use kith_model::time::Timestamp;
use kith_store::{Key, Operation, Unit};

use super::by_hand::part;
use super::delivery::watched::Watched;
use super::harness::*;
use crate::plan::Plan;
use crate::{Column, DeliveryFilter, LetterFilter, Patience, ProfileSearch};

/// Something of each of so many people, in batches.
fn send_people(bench: &Bench, people: usize, draft: impl Fn(usize) -> DraftEvent) {
    for begin in (0..people).step_by(1_000) {
        bench.send((begin..people.min(begin + 1_000)).map(&draft).collect());
    }
    bench.settle();
}

fn added(user: usize) -> DraftEvent {
    event(&format!("m{user}"), &[("user_id", &format!("u{user}"))], "Product Added", START)
}

/// The rows that are handed out for a question.
fn rows_for<T>(store: &Watched, question: impl FnOnce() -> T) -> usize {
    let before = store.rows_read.load(Ordering::SeqCst);
    question();
    store.rows_read.load(Ordering::SeqCst) - before
}

/// The bytes that the reactor commits.
fn reacted_bytes(store: &Watched) -> usize {
    let is_of_reactor = |unit: &&Unit| {
        let is_progress =
            |one: &Operation| matches!(one, Operation::Put(key, _) if *key == Key::progress(WORKSPACE, "cursor"));
        unit.operations.iter().any(is_progress)
    };
    store.committed.lock().iter().filter(is_of_reactor).map(Unit::size_bytes).sum()
}

/// With each audience an event was dearer, whether it could reach it or not, and a person's state of all of them was written
/// with each event.
#[test]
fn an_event_is_written_down_for_what_it_reaches_and_for_nothing_else() {
    let written_with = |audiences: u32| {
        let store = Watched::new();
        let of = |n| audience(n + 1, &format!("events('name {n}').size() > 1000"), None);
        let bench = Bench::over(store.clone(), (0..audiences).map(of).collect(), |_| {});
        let told = |n: u32, turn: u32| {
            event(&format!("m{n}-{turn}"), &[("user_id", "u1")], &format!("name {n}"), START.plus_ms(i64::from(turn)))
        };
        bench.send((0..300).map(|n| told(n, 0)).collect());
        bench.settle();
        store.committed.lock().clear();
        bench.send(vec![told(0, 1)]);
        bench.settle();
        reacted_bytes(&store)
    };
    let (alone, among_many) = (written_with(1), written_with(300));
    assert!(alone > 0);
    assert!(among_many <= alone + 1_000, "{alone} bytes with one audience and {among_many} with 300");
}

/// Whoever a midnight moves was one piece of work, up to 4,096 people with rows of any size.
#[test]
fn a_midnight_that_moves_everybody_is_worked_off_in_slices() {
    const PEOPLE: usize = 5_000;
    const SLICE: usize = 2_048;
    let store = Watched::new();
    let fresh = audience(1, "events('Product Added', '14d').size() >= 1", None);
    let bench = Bench::over(store.clone(), vec![fresh], |_| {});
    send_people(&bench, PEOPLE, added);
    assert_eq!(bench.size(1), Some(PEOPLE as u64));
    store.committed.lock().clear();
    bench.advance(14 * DAY, || bench.size(1) == Some(0));
    let people_of = |unit: &Unit| {
        let is_person = |one: &&Operation| matches!(one, Operation::Put(key, _) if key.as_derived().is_some());
        unit.operations.iter().filter(is_person).count()
    };
    let slices: Vec<usize> = store.committed.lock().iter().map(people_of).filter(|people| *people > 0).collect();
    assert!(slices.iter().sum::<usize>() >= PEOPLE, "{slices:?}");
    assert!(slices.iter().all(|people| *people <= SLICE), "{slices:?}");
}

/// A new day read the messages of the seven before it again, and until it had, looked eight times for each event.
#[test]
fn a_new_day_reads_nothing_of_the_days_before_it() {
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |_| {});
    for day in 0..7 {
        let on_day = |user: usize| event(&format!("d{day}-{user}"), &[("user_id", &format!("u{user}"))], "A", START);
        send_people(&bench, 1_000, on_day);
        bench.clock.advance_ms(DAY);
    }
    let one = |id: &str| bench.send(vec![event(id, &[("user_id", "u1")], "A", START)]);
    let first = rows_for(&store, || one("first"));
    bench.settle();
    let second = rows_for(&store, || one("second"));
    assert!(first <= second + 20, "the first event of a day reads {first} rows, the second {second}");
    bench.settle();
    assert_eq!(one("d0-1").acceptance.duplicate, 1, "a message of seven days ago is known");
}

/// Whoever sends events chooses how large they are. Some of one moment, so that no stretch of time is short enough, and small ones
/// between them.
#[test]
fn a_page_of_large_events_is_bounded_in_bytes_and_none_is_left_out() {
    const LARGE: usize = 12;
    let bench = Bench::new(vec![]);
    let large = |n: usize| DraftEvent {
        properties: format!(r#"{{"text":"{}"}}"#, "x".repeat(1 << 20)),
        ..event(&format!("large{n}"), &[("user_id", "ada")], "Seen", START)
    };
    for n in 0..LARGE {
        bench.send(vec![large(n)]);
        bench.send(vec![event(&format!("small{n}"), &[("user_id", "ada")], "Seen", START.plus_ms(n as i64 % 3))]);
    }
    let id = bench.profile("user_id", "ada").unwrap().id;
    let (mut seen, mut next, mut pages) = (Vec::new(), None, 0);
    loop {
        let page = PageRequest { limit: 500, cursor: next.as_deref() };
        let page = bench.kernel.profile_events(WORKSPACE, id, page).unwrap().unwrap();
        let bytes: usize = page.events.iter().map(|recorded| recorded.event.properties.len()).sum();
        assert!(bytes <= 6 << 20, "{bytes}");
        seen.extend(page.events.into_iter().map(|recorded| recorded.event.message_id));
        pages += 1;
        next = page.next;
        if next.is_none() {
            break;
        }
    }
    assert!(pages > 2, "{pages}");
    assert_eq!(seen.len(), 2 * LARGE);
    seen.sort();
    seen.dedup();
    assert_eq!(seen.len(), 2 * LARGE, "each once");
}

/// Ordinary questions read everything that the workspace, or a person, had.
#[test]
fn questions_read_as_much_as_they_answer() {
    const MANY: usize = 2_000;
    let store = Watched::new();
    let written_to = audience(1, "events('Product Added').size() >= 1", Some(ConsentBasis::NotRefused));
    let bench = Bench::over(store.clone(), vec![written_to], |_| {});
    let of = |user: &'static str, n: usize, time| event(&format!("{user}{n}"), &[("user_id", user)], "Seen", time);
    let later = |n: usize| START.plus_ms(i64::try_from(n).unwrap());
    send_people(&bench, 500, added);
    send_people(&bench, MANY, |n| of("eager", n, later(n)));
    send_people(&bench, MANY, |n| of("batched", n, START));
    bench.clock.advance_ms(DAY);
    send_people(&bench, MANY, |n| of("steady", n, later(1_000 * n)));
    for user in ["steady", "batched", "eager"] {
        let id = bench.profile("user_id", user).unwrap().id;
        let page = |limit, cursor: Option<&str>| {
            bench.kernel.profile_events(WORKSPACE, id, PageRequest { limit, cursor }).unwrap().unwrap()
        };
        let (mut seen, mut next) = (Vec::new(), None);
        for turn in ["newest", "next", "one after it"] {
            let mut shown = None;
            let rows = rows_for(&store, || shown = Some(page(1, next.as_deref())));
            assert!(rows <= 200, "the {turn} event of {user}: {rows} rows of {MANY}");
            let shown = shown.unwrap();
            seen.extend(shown.events.into_iter().map(|recorded| recorded.event.message_id));
            next = shown.next;
        }
        let together = page(3, None).events.into_iter().map(|recorded| recorded.event.message_id);
        assert!(together.eq(seen.iter().cloned()), "{user}: {seen:?}");
        let newest: Vec<String> = (1..=3).map(|back| format!("{user}{}", MANY - back)).collect();
        assert_eq!(seen, newest);
    }
    let questions: [(&str, &dyn Fn()); 2] = [
        ("the totals", &|| assert!(bench.kernel.totals(WORKSPACE).unwrap().events >= MANY as u64)),
        ("the dead letters", &|| {
            assert!(bench.kernel.dead_letters(WORKSPACE, PageRequest::first(10)).unwrap().items.is_empty())
        }),
    ];
    for (what, question) in questions {
        let rows = rows_for(&store, question);
        assert!(rows <= 50, "{what}: {rows} rows");
    }
}

/// A page of the events of somebody with many devices read a page's worth of each of them.
#[test]
fn a_page_of_many_histories_reads_no_more_than_one_of_a_single_one() {
    const DEVICES: usize = 100;
    const EVENTS: usize = 2_000;
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |_| {});
    let device = |number: usize| format!("d{}", number % DEVICES);
    let tied = |n: usize| {
        let identifiers = [("user_id", "ada"), ("anonymous_id", &*device(n))];
        event(&format!("t{n}"), &identifiers, "Tied", START.plus_ms(-1))
    };
    bench.send((0..DEVICES).map(tied).collect());
    // Some days have many events, some few, and several devices have some of the same moment.
    let time = |n: usize| {
        let (day, within) = (n % 13 * (n % 3), n / 7 * 1_000);
        START.plus_ms(i64::try_from(day).unwrap() * DAY + i64::try_from(within).unwrap())
    };
    let of_device = |n: usize| event(&format!("m{n}"), &[("anonymous_id", &device(n))], "Seen", time(n));
    bench.clock.advance_ms(40 * DAY);
    bench.send((0..EVENTS).map(of_device).collect());
    bench.settle();
    let id = bench.profile("user_id", "ada").unwrap().id;
    let page = |limit, cursor: Option<&str>| {
        let mut page = None;
        let rows = rows_for(&store, || {
            page = bench.kernel.profile_events(WORKSPACE, id, PageRequest { limit, cursor }).unwrap()
        });
        (page.unwrap(), rows)
    };
    for (limit, most) in [(1, 200), (50, 1_000)] {
        let (mut places, mut cursor) = (Vec::new(), None);
        loop {
            let (page, rows) = page(limit, cursor.as_deref());
            assert!(rows <= most, "{rows} rows for {limit} events behind {cursor:?}");
            places.extend(page.events.iter().map(|recorded| (recorded.event.time, recorded.position)));
            cursor = page.next;
            if cursor.is_none() || (limit == 1 && places.len() == 100) {
                break;
            }
        }
        assert!(places.is_sorted_by(|one, next| one > next), "newest first, none twice");
        assert_eq!(places.len(), if limit == 1 { 100 } else { EVENTS + DEVICES });
    }
}

/// Nobody but whom a page shows: a page of one read as much as a page of hundreds, or of thousands.
#[test]
fn a_short_page_of_a_list_reads_few_rows() {
    const PEOPLE: usize = 1_000;
    let store = Watched::new();
    let written_to = audience(1, "events('Product Added').size() >= 1", Some(ConsentBasis::NotRefused));
    let bench = Bench::over(store.clone(), vec![written_to], |_| {});
    send_people(&bench, PEOPLE, |n| {
        let (user, address) = (format!("u{n}"), format!("u{n}@example.com"));
        event(&format!("m{n}"), &[("user_id", &user), ("email", &address)], "Product Added", START)
    });
    let bad = |n: usize| event(&format!("b{n}"), &[], "No identifier", START);
    bench.send((0..PEOPLE).map(bad).collect());
    bench.settle();
    let kernel = &bench.kernel;
    let delivered = || DeliveryFilter { state: Some("delivered"), ..DeliveryFilter::default() };
    let letters = || LetterFilter { since: Some(Timestamp(0)), ..LetterFilter::default() };
    let lists: [(&str, &dyn Fn() -> usize); 6] = [
        ("merges", &|| kernel.merges(WORKSPACE, PageRequest::first(1), &Patience::default()).unwrap().items.len()),
        ("people", &|| {
            kernel.search(WORKSPACE, &ProfileSearch::default(), &[Column::Id], PageRequest::first(1)).unwrap().0.len()
        }),
        ("members", &|| {
            kernel.audience_members(WORKSPACE, AudienceId(1), PageRequest::first(1)).unwrap().members.len()
        }),
        ("deliveries", &|| {
            kernel.deliveries(WORKSPACE, &DeliveryFilter::default(), PageRequest::first(1)).unwrap().items.len()
        }),
        ("deliveries that were delivered", &|| {
            kernel.deliveries(WORKSPACE, &delivered(), PageRequest::first(1)).unwrap().items.len()
        }),
        ("letters", &|| kernel.letters(WORKSPACE, &letters(), PageRequest::first(1)).unwrap().items.len()),
    ];
    for (what, list) in lists {
        let mut items = 0;
        let rows = rows_for(&store, || items = list());
        assert_eq!(items, 1, "{what}");
        assert!(rows <= 50, "a page of one of {what} reads {rows} rows");
    }
}

/// Identifiers had no column: a count on them looked at everybody, and in everybody's events where the condition had others.
#[test]
fn a_count_on_identifiers_reads_those_who_have_them() {
    const PEOPLE: usize = 600;
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |_| {});
    send_people(&bench, PEOPLE, |n| {
        let (user, address) = (format!("u{n}"), format!("u{n}@example.com"));
        let identifiers = [("user_id", user.as_str()), ("email", &address)];
        event(&format!("m{n}"), if n % 3 == 0 { &identifiers } else { &identifiers[..1] }, "Seen", START)
    });
    let counts: [(&str, u64); 9] = [
        ("has(profile.identifiers.email)", 200),
        ("!has(profile.identifiers.email)", 400),
        ("profile.identifiers.email != null && has(profile.identifiers.user_id)", 200),
        ("has(profile.identifiers.phone)", 0),
        ("'u3@example.com' in profile.identifiers.email", 1),
        ("'u4@example.com' in profile.identifiers.email", 0),
        ("'u6@example.com' in profile.identifiers.email && events('Seen').size() == 1", 1),
        ("'u6@example.com' in profile.identifiers.email || 'u7' in profile.identifiers.user_id", 2),
        ("profile.identifiers.user_id.exists(id, id in ['u1', 'u2', 'nobody'])", 2),
    ];
    for (condition, wanted) in counts {
        let mut counted = None;
        let rows = rows_for(&store, || counted = Some(bench.kernel.count(WORKSPACE, condition).unwrap()));
        let counted = counted.unwrap();
        assert_eq!((counted.count, counted.population, counted.exact), (wanted, PEOPLE as u64, true), "{condition}");
        assert!(rows <= 50, "{condition}: {rows} rows");
    }
}

/// The column says the same as the people themselves, through merges, splits and a start.
#[test]
fn a_count_on_identifiers_is_what_people_say() {
    let mut bench = Bench::new(vec![]);
    bench.send(vec![
        event("m1", &[("user_id", "ada"), ("email", "Ada@Example.com")], "Seen", START),
        event("m2", &[("user_id", "bob")], "Seen", START),
        event("m3", &[("anonymous_id", "d1"), ("phone", "+491701234567")], "Seen", START),
        event("m4", &[("email", "ada@example.com")], "Seen", START),
        event("m5", &[("user_id", "bob"), ("anonymous_id", "d1")], "Seen", START),
    ]);
    bench.settle();
    let agrees = |bench: &Bench| {
        let people = bench.count("profile.identifiers.user_id.size() >= 0 || true");
        for kind in ["user_id", "anonymous_id", "email", "phone", "loyalty"] {
            let has = bench.count(&format!("has(profile.identifiers.{kind})"));
            assert_eq!(has, bench.count(&format!("profile.identifiers.{kind}.size() > 0")), "{kind}");
            assert_eq!(people - has, bench.count(&format!("!has(profile.identifiers.{kind})")), "{kind}");
        }
        for (kind, value) in [
            ("email", "ada@example.com"),
            ("email", "Ada@Example.com"),
            ("user_id", "bob"),
            ("anonymous_id", "d1"),
            ("phone", "+491701234567"),
            ("phone", "1"),
        ] {
            let has = bench.count(&format!("'{value}' in profile.identifiers.{kind}"));
            let has_not = bench.count(&format!("!('{value}' in profile.identifiers.{kind})"));
            assert_eq!(has, people - has_not, "{value}");
        }
    };
    let both = "has(profile.identifiers.phone) && has(profile.identifiers.user_id)";
    agrees(&bench);
    bench.restart();
    agrees(&bench);
    assert_eq!(bench.count(both), 1);
    part(&bench, "user_id:bob", "anonymous_id:d1").unwrap();
    bench.settle();
    agrees(&bench);
    assert_eq!(bench.count(both), 0);
    bench.restart();
    agrees(&bench);
    assert_eq!(bench.count(both), 0);
}

/// A text with more than 10,000 values left the index for good, and a count on it looked at everybody.
#[test]
fn a_count_on_a_text_of_very_many_values_reads_nobody() {
    const PEOPLE: usize = 11_000;
    let store = Watched::new();
    let bench = Bench::over(store.clone(), vec![], |_| {});
    send_people(&bench, PEOPLE, |n| {
        identify(&format!("m{n}"), &[("user_id", &format!("u{n}"))], &format!(r#"{{"code":"c{n}"}}"#), START)
    });
    let mut counted = 0;
    let rows = rows_for(&store, || counted = bench.kernel.count(WORKSPACE, "traits.code == 'c77'").unwrap().count);
    assert_eq!(counted, 1);
    assert!(rows <= 50, "{rows} rows");
}

/// Regression: each change of one audience parsed all others again, twice, while the next change waited: 63 ms with 300 of them.
#[test]
fn a_change_parses_what_is_new_alone() {
    let bench = Bench::new(vec![audience(5, "traits.plan == 'a'", None)]);
    let mut setup = bench.setup.lock().clone();
    setup.audiences.push(audience(6, "traits.plan == 'b'", None));
    let parsed = |plan: &Plan, id: u32| plan.audience(AudienceId(id)).unwrap().condition.text().as_ptr();
    let running = bench.kernel.shared.workspace(WORKSPACE).unwrap().compiled.load_full();
    let rehearsed = bench.kernel.check(setup.clone(), None).unwrap();
    assert_eq!(parsed(&rehearsed.plan, 5), parsed(&running.plan, 5));
    let changed = bench.kernel.check(setup.clone(), Some(&rehearsed)).unwrap();
    assert_eq!(parsed(&changed.plan, 6), parsed(&rehearsed.plan, 6));
    // Elsewhere calendar days begin at another time.
    setup.zone = Zone::parse("Europe/Berlin").unwrap();
    let moved = bench.kernel.check(setup, Some(&rehearsed)).unwrap();
    assert_ne!(parsed(&moved.plan, 5), parsed(&running.plan, 5));
    assert_ne!(parsed(&moved.plan, 6), parsed(&rehearsed.plan, 6));
}

/// A condition that took too much for somebody left them where they were, and nobody could see it.
#[test]
fn a_condition_that_passes_its_budget_is_a_fault_of_its_audience_until_the_person_changes() {
    let condition = "traits.items.exists(a, traits.items.exists(b, a + b == 'x'))";
    let bench = Bench::new(vec![audience(1, condition, None), audience(2, "has(traits.items)", None)]);
    let items = |count: usize| {
        let items: Vec<String> = (0..count).map(|number| format!("\"i{number}\"")).collect();
        format!(r#"{{"items":[{}]}}"#, items.join(","))
    };
    bench.send(vec![
        identify("m1", &[("user_id", "ada")], &items(800), START),
        identify("m2", &[("user_id", "bob")], &items(2), START),
    ]);
    bench.settle();
    let fault = |audience: u32| bench.kernel.audience(WORKSPACE, AudienceId(audience)).unwrap().fault;
    let of_ada = fault(1).unwrap();
    assert_eq!((of_ada.people, of_ada.since), (1, START));
    assert_eq!(of_ada.example, bench.profile("user_id", "ada").map(|ada| ada.id));
    assert_eq!((fault(2), bench.size(2)), (None, Some(2)), "the others go on");
    bench.send(vec![identify("m3", &[("user_id", "ada")], &items(3), START.plus_ms(1))]);
    bench.settle();
    assert_eq!(fault(1), None);
}
