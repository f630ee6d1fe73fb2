//! Rows of leaf states: what one event costs, what is copied, what is dropped, what cannot be read.

use std::sync::Arc;

use kith_model::event::Event;
use kith_model::time::{DAY_MS, Timestamp};

use super::{at, event};
use crate::{
    EventFacts, Expression, Leaf, LeafGroups, LeafState, LeafStates, MAX_STATE_BYTES, UnreadableState, Value, Zone,
};

fn leaf(text: &str) -> Arc<Leaf> {
    Expression::parse(text).unwrap().leaves().next().unwrap().clone()
}

fn start() -> Timestamp {
    at("2026-11-01T00:00:00Z")
}

/// The `number`th order, a second after the one before.
fn order(number: i64) -> Event {
    let properties = format!(r#"{{"sku":"article {}","revenue":{number}}}"#, number * 7_919 % 1_000_003);
    event("order", start().plus_ms(number * 1_000), &format!("m{number}"), &properties)
}

fn take(row: &mut LeafStates, leaf: &Leaf, order: &Event) -> bool {
    row.apply(leaf, &EventFacts::new(order, "shop"), order.time, &Zone::utc()).unwrap()
}

#[test]
fn one_more_event_never_rewrites_a_history() {
    let (events, zone) = (50_000_i64, Zone::utc());
    for (text, size) in [
        ("events('order').map(e, e.revenue)", 50_000),
        ("events('order').map(e, e.sku).distinct()", 50_000),
        ("events('order').map(e, {'time': e.time, 'sku': e.sku})", 50_000),
        ("events('order', '3d').map(e, e.sku).distinct()", 50_000),
        ("events('order', '36h').size()", 50_000),
    ] {
        let (leaf, mut row, mut chunks) = (leaf(text), LeafStates::default(), Vec::new());
        let mut largest = 0;
        for number in 0..events {
            take(&mut row, &leaf, &order(number));
            for chunk in row.seal_large() {
                assert_eq!((chunk.leaf, chunk.number as usize), (leaf.id(), chunks.len()));
                chunks.push(chunk.state);
            }
            let written = row.encode().into_owned();
            largest = largest.max(written.len());
            row = LeafStates::decode(&written).unwrap();
        }
        assert!(largest < 8_192, "{text}: a row of {largest} bytes was written for one event");
        assert_eq!(row.sealed(leaf.id()), 0..u32::try_from(chunks.len()).unwrap());
        assert!(chunks.len() > 50, "{text}: {} chunks", chunks.len());
        let live = row.get(leaf.id()).unwrap().cloned();
        let states: Vec<&LeafState> = chunks.iter().chain(&live).collect();
        let value = leaf.value_of(&states, order(events).time, &zone);
        match &value {
            Value::List(items) => assert_eq!(items.len(), size, "{text}"),
            value => assert_eq!(*value, Value::Int(size as i64), "{text}"),
        }
        if text.ends_with("revenue)") {
            assert_eq!(value, Value::List((0..events).map(Value::Int).collect()));
        }
    }
}

/// However many events a day has, a window of days keeps a number of it.
#[test]
fn a_window_of_days_keeps_a_number_for_a_day_and_not_its_events() {
    for text in [
        "events('order', '30d').size()",
        "events('order', '30d').map(e, e.revenue).sum()",
        "events('order', '30d').map(e, e.revenue).max()",
    ] {
        let leaf = leaf(text);
        let written = |orders: i64| {
            let mut row = LeafStates::default();
            for number in 0..orders {
                take(&mut row, &leaf, &order(number));
            }
            assert!(row.seal_large().is_empty(), "{text}");
            row.encode().len()
        };
        let (few, many) = (written(100), written(20_000));
        assert!(many <= few + 64, "{text}: {few} bytes for a hundred orders of a day and {many} for 20,000");
    }
}

#[test]
fn a_state_is_sealed_when_it_is_large() {
    let leaf = leaf("events('order').map(e, e.sku)");
    let (mut state, mut number) = (LeafState::default(), 0);
    assert!(!state.is_large());
    while !state.is_large() {
        let order = order(number);
        leaf.apply(&mut state, &EventFacts::new(&order, "shop"), order.time, &Zone::utc());
        number += 1;
    }
    let encoded = postcard::to_allocvec(&state).unwrap().len();
    assert!((MAX_STATE_BYTES + 1..MAX_STATE_BYTES + 64).contains(&encoded), "{encoded}");
    let chunk = state.seal();
    assert!(state.is_empty() && !chunk.is_empty());
}

#[test]
fn only_what_changed_is_decoded_and_encoded() {
    let (list, sum) = (leaf("events('order').map(e, e.revenue)"), leaf("events('order').map(e, e.revenue).sum()"));
    let (low, high) = if list.id() < sum.id() { (&list, &sum) } else { (&sum, &list) };
    let mut row = LeafStates::default();
    assert!(take(&mut row, low, &order(1)) && take(&mut row, high, &order(1)) && row.is_changed());
    assert!(
        !row.apply(low, &EventFacts::new(&event("view", start(), "m", ""), "shop"), start(), &Zone::utc()).unwrap()
    );
    let mut bytes = row.encode().into_owned();
    // The last state is no state any more; the other one can be read, changed and written all the same.
    *bytes.last_mut().unwrap() = 0xff;
    let mut row = LeafStates::decode(&bytes).unwrap();
    let tail = |row: &LeafStates| row.encode().last_chunk::<4>().copied();
    let broken = tail(&row);
    assert!(!row.is_changed() && row.encode() == bytes, "what is not asked for is copied");
    assert_eq!(row.ids().collect::<Vec<_>>(), [low.id(), high.id()]);
    let before = row.get(low.id()).unwrap().cloned().unwrap();
    assert!(!row.is_changed(), "looking is not changing");
    assert!(take(&mut row, low, &order(2)) && row.is_changed());
    assert_eq!(tail(&row), broken);
    let again = LeafStates::decode(&row.encode()).unwrap();
    assert_ne!(again.read(low.id()).unwrap().unwrap().as_ref(), &before);
    let error = row.get(high.id()).unwrap_err();
    assert!(matches!(error, UnreadableState::Leaf { leaf, .. } if leaf == high.id()), "{error}");
    assert_eq!(row.read(high.id()).unwrap_err(), error);
    // Dropping it needs no reading.
    assert_eq!(row.remove(high.id()), 0..0);
    assert_eq!(LeafStates::decode(&row.encode()).unwrap().ids().collect::<Vec<_>>(), [low.id()]);
}

#[test]
fn an_event_changes_the_group_of_its_name_and_no_other() {
    let names = ["order", "view", "cart"];
    let leaves: Vec<Arc<Leaf>> = names
        .into_iter()
        .flat_map(|name| {
            [format!("events('{name}').size()"), format!("events('{name}', '30d').map(e, e.revenue).sum()")]
        })
        .map(|text| leaf(&text))
        .collect();
    for pair in leaves.chunks(2) {
        assert_eq!(pair[0].id().group(), pair[1].id().group(), "{} {}", pair[0].text(), pair[1].text());
    }
    let mut groups = LeafGroups::default();
    let take = |groups: &mut LeafGroups, name: &str, number: i64| {
        let event = event(name, start().plus_ms(number), &format!("m{number}"), r#"{"revenue":3}"#);
        let facts = EventFacts::new(&event, "shop");
        leaves.iter().filter(|leaf| groups.apply(leaf, &facts, event.time, &Zone::utc()).unwrap()).count()
    };
    assert!(groups.is_empty() && names.iter().all(|name| take(&mut groups, name, 1) == 2));
    assert_eq!(groups.changed().count(), 3);
    assert_eq!(groups.ids().collect::<Vec<_>>().len(), 6);
    groups.compact();
    assert_eq!(groups.changed().count(), 0);
    assert_eq!(take(&mut groups, "view", 2), 2);
    let changed: Vec<u16> = groups.changed().collect();
    assert_eq!(changed, [leaves[2].id().group()]);
    // Written, dropped and read again, a group is what it was.
    let mut written = groups.take(changed[0]);
    let row = written.encode();
    assert_eq!(groups.ids().count(), 4);
    groups.insert(changed[0], LeafStates::decode(&row).unwrap());
    written.compact();
    let state = groups.read(leaves[2].id()).unwrap().map(std::borrow::Cow::into_owned);
    let packed = |leaf: usize| written.read(leaves[leaf].id()).unwrap().map(std::borrow::Cow::into_owned);
    assert!(state.is_some() && packed(2) == state, "without opening it");
    assert!(packed(3).is_some() && packed(0).is_none());
    assert_eq!(state.as_ref(), written.get(leaves[2].id()).unwrap());
    // What is dropped is no state any more, and its group has to be written.
    assert_eq!(groups.retain(|leaf| leaf != leaves[0].id()).len(), 1);
    assert!(groups.changed().eq([leaves[0].id().group()]) && groups.read(leaves[0].id()).unwrap().is_none());
}

#[test]
fn rows_that_are_none_are_refused() {
    let mut row = LeafStates::default();
    take(&mut row, &leaf("events('order').size()"), &order(1));
    let bytes = row.encode().into_owned();
    for cut in 1..bytes.len() {
        assert!(matches!(LeafStates::decode(&bytes[..cut]), Err(UnreadableState::Row(_))), "{cut} bytes");
    }
    assert!(LeafStates::decode(&[bytes.as_slice(), &[0]].concat()).is_err());
    assert_eq!(LeafStates::decode(&[]).unwrap().ids().count(), 0);
    assert_eq!(LeafStates::decode(&LeafStates::default().encode()).unwrap().ids().count(), 0);
}

#[test]
fn what_is_compacted_takes_no_more_than_its_row() {
    let leaves: Vec<Arc<Leaf>> =
        (0..40).map(|n| leaf(&format!("events('order').filter(e, e.revenue > {n}).map(e, e.sku)"))).collect();
    let mut row = LeafStates::default();
    for number in 0..50 {
        leaves.iter().for_each(|leaf| assert!(take(&mut row, leaf, &order(100 + number))));
    }
    let encoded = row.encode().into_owned();
    assert!(row.size_bytes() > 2 * encoded.len(), "decoded states are counted");
    row.compact();
    assert!(row.size_bytes() < encoded.len() + 128, "{} for {}", row.size_bytes(), encoded.len());
    assert!(row.encode() == encoded && !row.is_changed());
    // Looking at one leaf of many decodes that one.
    assert!(row.get(leaves[3].id()).unwrap().is_some_and(|state| !state.is_empty()));
    assert!(row.size_bytes() < encoded.len() * 2, "{} for {}", row.size_bytes(), encoded.len());
    let kept = leaves[3].id();
    assert_eq!(row.retain(|leaf| leaf == kept).len(), 39);
    assert!(row.is_changed());
    assert_eq!(LeafStates::decode(&row.encode()).unwrap().ids().collect::<Vec<_>>(), [kept]);
    row.state_mut(kept).unwrap().seal();
    assert_eq!(LeafStates::decode(&row.encode()).unwrap().ids().count(), 0, "an empty state is not kept");
}

#[test]
fn chunks_that_no_window_reaches_are_dropped() {
    let zone = Zone::parse("Europe/Berlin").unwrap();
    for text in ["events('order', '36h').map(e, e.sku)", "events('order', '3d').map(e, e.sku).distinct()"] {
        let (leaf, mut row, mut chunks) = (leaf(text), LeafStates::default(), Vec::new());
        // An order every hour, a chunk every day.
        for hour in 0..240_i64 {
            let order = Event { time: start().plus_ms(hour * 3_600_000), ..order(hour) };
            row.apply(&leaf, &EventFacts::new(&order, "shop"), order.time, &zone).unwrap();
            if hour % 24 == 23 {
                chunks.extend(row.seal_where(|_| true));
            }
        }
        let now = start().plus_ms(10 * DAY_MS - 1);
        let states: Vec<&LeafState> = chunks.iter().map(|chunk| &chunk.state).collect();
        let value = leaf.value_of(&states, now, &zone);
        let expired = states.iter().take_while(|state| leaf.is_expired(state, now, &zone)).count();
        assert!((5..9).contains(&expired), "{text}: {expired}");
        assert_eq!(leaf.value_of(&states[expired..], now, &zone), value, "{text}");
        assert_ne!(leaf.value_of(&states[expired + 1..], now, &zone), value, "{text}: one more still counts");
        let before = u32::try_from(expired).unwrap();
        row.forget_sealed(leaf.id(), before).unwrap();
        let mut row = LeafStates::decode(&row.encode()).unwrap();
        assert_eq!(row.sealed(leaf.id()), before..10);
        assert_eq!(row.remove(leaf.id()), before..10);
    }
    let forever = leaf("events('order').map(e, e.sku)");
    let mut state = LeafState::default();
    forever.apply(&mut state, &EventFacts::new(&order(1), "shop"), start().plus_ms(DAY_MS), &zone);
    assert!(!forever.is_expired(&state, Timestamp(i64::MAX), &zone));
}
