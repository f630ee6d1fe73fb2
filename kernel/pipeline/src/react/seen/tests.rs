//! Names and values that came: exact under every cut, and bounded.

use kith_model::event::{EventKind, EventOrigin};
use kith_model::id::{InstallationId, SourceIdentityId};
use kith_model::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;

use super::name::MAX_VALUES;
use super::*;

fn event(name: &str, at: i64, properties: &str, traits: &str) -> Event {
    Event {
        message_id: String::new(),
        kind: EventKind::Track,
        name: name.into(),
        time: Timestamp(0),
        received_at: Timestamp(at),
        source: InstallationId(1),
        identity: SourceIdentityId([0; 16]),
        identifiers: Vec::new(),
        properties: properties.into(),
        traits: traits.into(),
        context: String::new(),
        origin: EventOrigin::Client,
        flags: Vec::new(),
        original_time: None,
        place: 0,
        reader: 0,
    }
}

fn of(event: &str) -> SeenKey {
    (Subject::Event(event.into()), InstallationId(1), 0)
}

/// What is kept after passes that end behind these events.
fn kept(events: &[Event], ends: &[usize]) -> SeenBook {
    let mut state = SeenState::default();
    let mut now = SeenNow::default();
    for (place, event) in events.iter().enumerate() {
        now.note(&state.book, event);
        if ends.contains(&place) || place + 1 == events.len() {
            let changed = state.book.with(&std::mem::take(&mut now));
            state.take(&changed, place % 2 == 0);
        }
    }
    state.book
}

proptest! {
    /// However the log is cut into passes, the same is kept.
    #[test]
    fn passes_leave_no_trace_in_what_is_counted(
        events in prop::collection::vec(
            (
                select(vec!["A", "B", ""]),
                0i64..100,
                select(vec!["", "{}", r#"{"a":1,"b":"x"}"#, r#"{"a":"2.5"}"#, r#"{"b":null,"c":[1],"d":{"e":true}}"#]),
                select(vec!["", r#"{"plan":"gold"}"#, r#"{"plan":"free","vip":true}"#]),
                0u32..60,
            ),
            0..60,
        ),
        ends in prop::collection::vec(0usize..60, 0..8),
    ) {
        let events: Vec<Event> = events
            .iter()
            .map(|(name, at, properties, traits, id)| match id {
                // Some bring a value that nobody else has.
                0..20 => event(name, *at, &format!(r#"{{"id":"{id}"}}"#), traits),
                _ => event(name, *at, properties, traits),
            })
            .collect();
        prop_assert_eq!(kept(&events, &ends), kept(&events, &[]));
    }
}

#[test]
fn names_are_counted_with_their_kinds_times_and_values() {
    let book = kept(
        &[
            event("Buy", 5, r#"{"total":"19.90","plan":"gold"}"#, ""),
            event("Buy", 3, r#"{"total":20,"plan":"gold","items":[]}"#, r#"{"city":"Rome"}"#),
            event("Buy", 9, r#"{"total":"19,90","plan":"free","note":null}"#, ""),
        ],
        &[],
    );
    let buy = &book.rows[&of("Buy")];
    assert_eq!((buy.seen.count, buy.seen.first, buy.seen.last), (3, Timestamp(3), Timestamp(9)));
    let total = &buy.names["total"];
    assert_eq!((total.kinds.number_texts, total.kinds.numbers, total.kinds.texts), (1, 1, 1));
    assert_eq!(buy.names["plan"].values, [(r#""gold""#.to_owned(), 2), (r#""free""#.to_owned(), 1)].into());
    assert_eq!((buy.names["items"].kinds.lists, buy.names["note"].kinds.nulls), (1, 1));
    assert_eq!(book.rows[&(Subject::Traits, InstallationId(1), 0)].names["city"].count, 1);
}

#[test]
fn a_name_with_many_values_or_long_ones_keeps_none() {
    let many: Vec<Event> = (0..=MAX_VALUES).map(|id| event("A", 0, &format!(r#"{{"id":{id}}}"#), "")).collect();
    let few = kept(&many[..MAX_VALUES], &[3]);
    let named = |book: &SeenBook, name: &str| book.rows[&of("A")].names[name].clone();
    assert_eq!((named(&few, "id").values.len(), named(&few, "id").has_many_values), (MAX_VALUES, false));
    let all = kept(&many, &[3]);
    assert_eq!((named(&all, "id").values.len(), named(&all, "id").has_many_values), (0, true));
    let long = kept(&[event("A", 0, &format!(r#"{{"text":"{}"}}"#, "x".repeat(60)), "")], &[]);
    assert!(named(&long, "text").has_many_values);
}

#[test]
fn a_workspace_keeps_so_many_names_and_counts_the_others_together() {
    let most = table::NAMES_KEPT.default;
    let wide = |from: u64, to: u64| {
        let names: Vec<String> = (from..to).map(|number| format!(r#""p{number}":1"#)).collect();
        event("A", 0, &format!("{{{}}}", names.join(",")), "")
    };
    // One name is the event's.
    let events =
        [wide(0, 600), wide(600, most - 1), wide(most - 1, most + 9), event("B", 0, r#"{"p0":1}"#, ""), wide(0, 2)];
    let book = kept(&events, &[1]);
    assert_eq!(book.names, most);
    // Ten properties too many, and an event too many, whose properties are not looked at.
    assert_eq!(book.rows[&(Subject::Others, InstallationId(1), 0)].seen.count, 11);
    assert_eq!(book.rows[&of("A")].names["p0"].count, 2, "what is known counts on");
    let long = kept(&[event(&"x".repeat(300), 0, "", "")], &[]);
    assert_eq!((long.names, long.rows[&(Subject::Others, InstallationId(1), 0)].seen.count), (0, 1));
}

#[test]
fn one_source_takes_no_names_of_another() {
    let most = table::NAMES_KEPT.default;
    let of_source = |source: u32, from: u64, to: u64| {
        let names: Vec<String> = (from..to).map(|number| format!(r#""p{number}":1"#)).collect();
        Event { source: InstallationId(source), ..event("A", 0, &format!("{{{}}}", names.join(",")), "") }
    };
    let flood: Vec<Event> = (0..2 * most).step_by(500).map(|from| of_source(1, from, from + 500)).collect();
    let quiet = [of_source(2, 0, 100), of_source(2, 100, SHARE + 50)];
    let book = kept(&[flood, quiet.to_vec()].concat(), &[3, 11]);
    let names = |source: u32| book.of_sources[&InstallationId(source)];
    assert_eq!((names(1), names(2), book.names), (most, SHARE, most + SHARE));
    let many: Vec<Event> = (0..60).map(|source| of_source(source + 1, 0, 400)).collect();
    assert!(kept(&many, &[]).names <= 2 * most, "the shares have an end too");
}

#[test]
fn kinds_have_their_beginnings_and_a_crowd_is_one_of_people() {
    let of = |person: u8, at: i64, properties: &str| Event {
        identity: SourceIdentityId([person; 16]),
        ..event("Buy", at, properties, "")
    };
    let mut events = vec![of(1, 5, r#"{"total":1}"#), of(1, 9, r#"{"total":"1"}"#), of(1, 7, r#"{"total":"one"}"#)];
    events.extend((0..100).map(|at| of(1, at + 10, r#"{"total":2}"#)));
    let book = kept(&events, &[1]);
    let total = &book.rows[&(Subject::Event("Buy".into()), InstallationId(1), 0)].names["total"];
    let since = [(Kind::Number, 5), (Kind::NumberText, 9), (Kind::Text, 7)].map(|(kind, at)| (kind, Timestamp(at)));
    assert_eq!((total.since.clone(), total.people()), (since.into(), 1), "a hundred events of one person are no crowd");
    let crowd: Vec<Event> = (0..CROWD as u8).map(|person| of(person, 0, r#"{"total":1}"#)).collect();
    for (people, ends) in [(CROWD - 1, &[][..]), (CROWD, &[3, 9]), (CROWD, &[])] {
        let book = kept(&crowd[..people], ends);
        assert_eq!(book.property("Buy", "total").unwrap().people(), people as u64);
    }
}

#[test]
fn sources_are_told_apart_and_add_up() {
    let of =
        |source: u32, properties: &str| Event { source: InstallationId(source), ..event("Buy", 5, properties, "") };
    let book = kept(&[of(1, r#"{"total":1}"#), of(2, r#"{"total":"x","plan":"gold"}"#), of(2, r#"{}"#)], &[0]);
    let subject = Subject::Event("Buy".into());
    let counts: Vec<(u32, u64)> = book.of(&subject).map(|row| (row.source.0, row.seen.count)).collect();
    assert_eq!(counts, [(1, 1), (2, 2)]);
    let total = book.property("Buy", "total").unwrap();
    assert_eq!((total.count, total.kinds.numbers, total.kinds.texts), (2, 1, 1));
    assert_eq!((book.event("Buy").unwrap().count, book.event("Sell")), (3, None));
}

proptest! {
    /// Whatever the passes: every name is in one part, none is larger than it may be, what is together is what came, and a pass
    /// rewrites the rows of its own names alone.
    #[test]
    fn a_wide_event_is_kept_in_parts(
        passes in prop::collection::vec(prop::collection::vec(0_u32..400, 1..60), 1..20),
    ) {
        let mut state = SeenState::default();
        let mut naive: BTreeMap<String, u64> = BTreeMap::new();
        for (place, names) in passes.iter().enumerate() {
            let mut now = SeenNow::default();
            let object: BTreeMap<String, u32> = names.iter().map(|name| (format!("p{name}"), 1)).collect();
            now.note(&state.book, &event("A", 0, &serde_json::to_string(&object).unwrap(), ""));
            for name in object.keys() {
                *naive.entry(name.clone()).or_default() += 1;
            }
            let changed = state.book.with(&now);
            let is_new = |name: &&String| state.book.property("A", name).is_none();
            let most = 2 + object.len() - object.keys().filter(is_new).count() + object.keys().filter(is_new).count().div_ceil(PART_NAMES);
            prop_assert!(changed.len() <= most, "{} rows", changed.len());
            state.take(&changed, place % 2 == 0);
        }
        let subject = Subject::Event("A".into());
        let rows: Vec<&SeenRow> = state.book.of(&subject).collect();
        prop_assert!(rows.iter().all(|row| row.names.len() <= PART_NAMES));
        prop_assert_eq!(rows.iter().map(|row| row.names.len()).sum::<usize>(), naive.len());
        let together = state.book.together(&Subject::Event("A".into())).unwrap();
        prop_assert_eq!(together.seen.count, passes.len() as u64);
        let counts: BTreeMap<String, u64> = together.names.iter().map(|(name, seen)| (name.clone(), seen.count)).collect();
        prop_assert_eq!(counts, naive.clone());
        prop_assert_eq!(state.book.names, naive.len() as u64 + 1);
    }
}
