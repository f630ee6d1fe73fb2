//! Names and values that came: exact under every cut, and bounded.

use kith_model::event::{EventKind, EventOrigin};
use kith_model::id::{InstallationId, SourceIdentityId};
use proptest::prelude::*;
use proptest::sample::select;

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
    }
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
    let buy = &book.rows[&Subject::Event("Buy".into())];
    assert_eq!((buy.seen.count, buy.seen.first, buy.seen.last), (3, Timestamp(3), Timestamp(9)));
    let total = &buy.names["total"];
    assert_eq!((total.kinds.number_texts, total.kinds.numbers, total.kinds.texts), (1, 1, 1));
    assert_eq!(buy.names["plan"].values, [(r#""gold""#.to_owned(), 2), (r#""free""#.to_owned(), 1)].into());
    assert_eq!((buy.names["items"].kinds.lists, buy.names["note"].kinds.nulls), (1, 1));
    assert_eq!(book.rows[&Subject::Traits].names["city"].count, 1);
}

#[test]
fn a_name_with_many_values_or_long_ones_keeps_none() {
    let many: Vec<Event> = (0..=MAX_VALUES).map(|id| event("A", 0, &format!(r#"{{"id":{id}}}"#), "")).collect();
    let few = kept(&many[..MAX_VALUES], &[3]);
    let of = |book: &SeenBook, name: &str| book.rows[&Subject::Event("A".into())].names[name].clone();
    assert_eq!((of(&few, "id").values.len(), of(&few, "id").has_many_values), (MAX_VALUES, false));
    let all = kept(&many, &[3]);
    assert_eq!((of(&all, "id").values.len(), of(&all, "id").has_many_values), (0, true));
    let long = kept(&[event("A", 0, &format!(r#"{{"text":"{}"}}"#, "x".repeat(60)), "")], &[]);
    assert!(of(&long, "text").has_many_values);
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
    assert_eq!(book.rows[&Subject::Others].seen.count, 11);
    assert_eq!(book.rows[&Subject::Event("A".into())].names["p0"].count, 2, "what is known counts on");
    let long = kept(&[event(&"x".repeat(300), 0, "", "")], &[]);
    assert_eq!((long.names, long.rows[&Subject::Others].seen.count), (0, 1));
}
