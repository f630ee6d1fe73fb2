//! The laws: incremental equals naive, timers miss nothing, texts never panic.
//!
//! Expressions, histories, clocks, late and early events, splits over identities and their merges are random. Times lie
//! around nights in which clocks change, and many fall exactly on the edge of a window or a day.

use std::collections::BTreeMap;

use kith_model::event::{Event, EventOrigin};
use kith_model::time::{DAY_MS, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use super::{Someone, at, event};
use crate::{EventFacts, Expression, Leaf, LeafId, LeafState, LeafStates, Program, Value, Zone, naive};

const HOUR_MS: i64 = 3_600_000;
const IDENTITIES: usize = 4;

/// One event on its way: what happened and when the kernel hears of it.
#[derive(Debug, Clone)]
struct Delivery {
    event: Event,
    identity: usize,
    heard_at: Timestamp,
}

#[derive(Debug, Clone)]
struct Story {
    zone: &'static str,
    deliveries: Vec<Delivery>,
    /// When somebody looks, ascending.
    looks: Vec<Timestamp>,
}

/// A moment within some days around `middle`, often on an edge.
fn moment(middle: Timestamp) -> impl Strategy<Value = Timestamp> {
    let days = 6;
    prop_oneof![
        3 => (-days * DAY_MS..days * DAY_MS).prop_map(move |offset| middle.plus_ms(offset)),
        // Whole hours, half hours and a millisecond beside them.
        3 => (-days * 48..days * 48, -1i64..=1).prop_map(move |(half, beside)| middle.plus_ms(half * HOUR_MS / 2 + beside)),
    ]
}

fn properties() -> impl Strategy<Value = String> {
    let revenue = select(vec![
        "",
        r#""revenue":1"#,
        r#""revenue":2.5"#,
        r#""revenue":0.1"#,
        r#""revenue":1e16"#,
        r#""revenue":-3"#,
        r#""revenue":"4""#,
        r#""revenue":"19.90""#,
        r#""revenue":"04""#,
        r#""revenue":[2,"3"]"#,
        r#""revenue":null"#,
        r#""revenue":9007199254740993"#,
    ]);
    let coupon = select(vec![
        "",
        r#""coupon":"X""#,
        r#""coupon":"Y""#,
        r#""coupon":7"#,
        r#""coupon":7.0"#,
        r#""coupon":"7.0""#,
        r#""coupon":"2026-11-21""#,
    ]);
    let items = select(vec!["", r#""items":[1,2]"#, r#""items":[{"price":3}]"#, r#""items":[]"#]);
    (revenue, coupon, items).prop_map(|parts| {
        let fields: Vec<&str> = [parts.0, parts.1, parts.2].into_iter().filter(|part| !part.is_empty()).collect();
        if fields.is_empty() { String::new() } else { format!("{{{}}}", fields.join(",")) }
    })
}

fn story() -> impl Strategy<Value = Story> {
    let places = select(vec![
        ("UTC", "2026-11-21T00:00:00Z"),
        ("Europe/Berlin", "2026-03-28T23:00:00Z"),
        ("Europe/Berlin", "2026-10-24T22:00:00Z"),
        ("America/Sao_Paulo", "2018-11-04T03:00:00Z"),
        ("America/St_Johns", "2006-10-29T02:30:00Z"),
        ("Asia/Kolkata", "2026-05-01T18:30:00Z"),
    ]);
    places.prop_flat_map(|(zone, middle)| {
        let middle = at(middle);
        let delivery = (
            select(vec!["order", "view", "it's"]),
            moment(middle),
            // Most events are heard of at once, some late, some before they happen.
            prop_oneof![4 => Just(0), 2 => 0..4 * DAY_MS, 1 => -3 * DAY_MS..0],
            properties(),
            0..IDENTITIES,
            0..3u8,
        );
        let deliveries = prop::collection::vec(delivery, 0..24).prop_map(|drafts| {
            let one = |(index, (name, time, delay, properties, identity, shared)): (
                usize,
                (&str, Timestamp, i64, String, usize, u8),
            )| {
                // Some events share their time, so that only the tie-break orders them.
                let time = if shared == 0 { Timestamp(time.0 / DAY_MS * DAY_MS) } else { time };
                let origin = if name == "it's" { EventOrigin::Kernel } else { EventOrigin::Client };
                Delivery {
                    event: Event { origin, ..event(name, time, &format!("m{index}"), &properties) },
                    identity,
                    heard_at: time.plus_ms(delay),
                }
            };
            let mut deliveries: Vec<Delivery> = drafts.into_iter().enumerate().map(one).collect();
            deliveries.sort_by_key(|delivery| delivery.heard_at);
            deliveries
        });
        let looks = prop::collection::vec(moment(middle.plus_ms(2 * DAY_MS)), 1..5).prop_map(|mut looks| {
            looks.sort();
            looks
        });
        (Just(zone), deliveries, looks).prop_map(|(zone, deliveries, looks)| Story { zone, deliveries, looks })
    })
}

fn event_condition() -> impl Strategy<Value = String> {
    let atom = select(vec![
        "e.revenue > 1",
        "e.revenue <= 2.5",
        "e.coupon == 'X'",
        "e.coupon != null",
        "has(e.coupon)",
        "e.source == 'shop'",
        "e.items.exists(i, i == 2)",
        "e.name == 'order'",
        "e.time > timestamp('2026-03-29')",
        "e.coupon in ['X', 7]",
        "7 == e.coupon",
        "e.properties.coupon == 'Y'",
        "e.time == '2026-11-21'",
        "e.name in ['order', 'view']",
        "e.revenue * 2 - 1 > e.items.size()",
        "e.coupon.startsWith('X')",
        "double(e.revenue) > 3.0",
        "e.items",
        "true",
        "e.revenue == '4'",
        "e.revenue > '1'",
        "4.0 <= e.revenue",
        "e.coupon in ['7', 'X']",
        "e.coupon in e.items",
        "e.items.all(i, i > 1)",
        "e.coupon.exists(c, c == 'X')",
        "e.coupon.matches('^[XY]$')",
        "e.time.hour() >= 12",
        "e.time.weekday() == 6",
        "e.time > timestamp('2026-10-25')",
        "e.coupon >= timestamp('2026-11-21')",
        "has(e.revenue + 1)",
        "!(e.revenue < 3)",
        "!e.coupon.contains('X')",
    ]);
    let atom = atom.prop_map(str::to_owned);
    prop_oneof![
        3 => atom.clone(),
        1 => atom.clone().prop_map(|a| format!("!({a})")),
        1 => (atom.clone(), atom.clone()).prop_map(|(a, b)| format!("{a} && {b}")),
        1 => (atom.clone(), atom).prop_map(|(a, b)| format!("({a} || {b})")),
    ]
}

/// An aggregate over events.
fn aggregate() -> impl Strategy<Value = String> {
    let name = select(vec!["order", "view", "it\\'s", "*", ""]);
    let window = select(vec![
        "",
        "",
        "45s",
        "30m",
        "90m",
        "24h",
        "1d",
        "36h",
        "2d",
        "3d",
        "5d",
        "9d",
        "1w",
        "100h",
        "2d rolling",
        "1mo",
        "2mo",
        "1y",
    ]);
    let item = select(vec![
        "e.revenue",
        "e.coupon",
        "e.time",
        "e.items",
        "e.revenue * 0.1",
        "e.items.sum()",
        "e.nothing",
        "e.time.day()",
        "e.revenue - 1",
        "1",
        "{'time': e.time, 'revenue': e.revenue, 'coupon': e.coupon}",
        "{'items': e.items, 'twice': e.revenue * 2, 'nothing': e.nothing}",
    ]);
    let method =
        select(vec![".sum()", ".min()", ".max()", ".avg()", ".first()", ".last()", ".distinct()", ".size()", ""]);
    let tail = prop_oneof![
        2 => Just(".size()".to_owned()),
        1 => event_condition().prop_map(|condition| format!(".exists(e, {condition})")),
        1 => event_condition().prop_map(|condition| format!(".all(e, {condition})")),
        1 => event_condition().prop_map(|condition| format!(".exists_one(e, {condition})")),
        1 => select(vec![".first().revenue", ".last().coupon", ".last().items", ".first().time"]).prop_map(str::to_owned),
        4 => (item, method).prop_map(|(item, method)| format!(".map(e, {item}){method}")),
        1 => (event_condition(), item_of_event()).prop_map(|(condition, item)| format!(".map(e, {condition}, {item}).sum()")),
    ];
    let filter = prop::option::of(event_condition());
    (name, window, filter, tail).prop_map(|(name, window, filter, tail)| {
        let window = if window.is_empty() { String::new() } else { format!(", '{window}'") };
        let filter = filter.map(|condition| format!(".filter(e, {condition})")).unwrap_or_default();
        format!("events('{name}'{window}){filter}{tail}")
    })
}

fn item_of_event() -> impl Strategy<Value = String> {
    select(vec!["e.revenue", "e.items.size()", "-e.revenue"]).prop_map(str::to_owned)
}

/// Any expression that does not drift with time.
fn steady_expression() -> impl Strategy<Value = String> {
    let atom = prop_oneof![
        5 => aggregate(),
        2 => (aggregate(), select(vec![">", ">=", "==", "!=", "<", "<="]), select(vec!["0", "1", "2.5", "null", "'X'"]))
            .prop_map(|(a, sign, b)| format!("({a} {sign} {b})")),
        1 => select(vec![
            "traits.city == 'Rome'", "traits.nothing < 2", "now - traits.renewed > duration('2d')",
            "traits.renewed + duration('1d') <= now", "now < traits.soon", "timestamp(traits.soon) == now",
            "-(now - traits.soon) >= duration('90m')", "now - profile.created_at < duration('3d')",
            "now - events('order').map(e, e.time).max() > duration('36h')",
            "events('order').map(e, e.time).exists(t, now - t < duration('1d'))",
            "now.hour() >= 12", "now.weekday() < 6", "traits.renewed.month() == now.month()", "now.day() == 29",
            "(now - duration('7h')).hour() == 3", "traits.renewed > '2026-11-20'", "traits.day < now", "now < traits.day",
            "traits.day == timestamp('2026-03-29')", "traits.paid > 10", "10 < traits.paid", "!(traits.nothing < 2)",
            "!traits.nothing", "traits.nothing.all(x, false)", "'a' in traits.nothing", "'7' in [7.0]", "traits.paid * 2",
            "has(events('order'))", "has(events('order', '1mo').last())", "!('x' in traits.city)",
            "events('*', '3d').map(e, e.time).filter(t, t > now - duration('30h')).size()",
        ]).prop_map(str::to_owned),
    ];
    atom.prop_recursive(3, 12, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} == {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) < ({b}))")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("(({a}) in ({b}))")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

fn someone(middle: Timestamp) -> Someone {
    let mut someone = Someone::default();
    someone.traits.insert("city".into(), Value::text("Rome"));
    someone.traits.insert("paid".into(), Value::text("19.90"));
    someone.traits.insert("day".into(), Value::text(&middle.plus_ms(DAY_MS).to_string()[..10]));
    someone.traits.insert("renewed".into(), Value::text(middle.plus_ms(-DAY_MS).to_string()));
    someone.traits.insert("soon".into(), Value::Time(middle.plus_ms(3 * DAY_MS + 1)));
    someone.created_at = Some(middle);
    someone
}

/// What the kernel keeps: for each source identity its row of leaf states, and the chunks that were sealed away.
struct Kept {
    zone: Zone,
    program: Program,
    rows: [LeafStates; IDENTITIES],
    chunks: BTreeMap<(usize, LeafId), Vec<LeafState>>,
}

impl Kept {
    fn new(zone: &Zone, program: Program) -> Kept {
        Kept { zone: zone.clone(), program, rows: Default::default(), chunks: BTreeMap::new() }
    }

    fn take(&mut self, event: &EventFacts<'_>, identity: usize, now: Timestamp) {
        let row = &mut self.rows[identity];
        for leaf in self.program.leaves_for(event) {
            let before = row.encode().into_owned();
            if !row.apply(leaf, event, now, &self.zone).unwrap() {
                assert_eq!(row.encode(), before, "an unchanged row is unchanged");
            }
        }
        // Cut somewhere, stored, and read again in between.
        if event.tie().is_multiple_of(3) {
            for chunk in row.seal_where(|state| !state.is_empty()) {
                let chunks = self.chunks.entry((identity, chunk.leaf)).or_default();
                assert_eq!(chunks.len(), chunk.number as usize);
                chunks.push(chunk.state);
            }
        }
        match event.tie() % 5 {
            0 => row.compact(),
            1 => {}
            _ => {
                let written = row.encode().into_owned();
                *row = LeafStates::decode(&written).unwrap();
            }
        }
    }

    /// What is made of the leaf's states for a profile of these identities.
    fn with_states<T>(&self, leaf: &Leaf, identities: &[usize], make: impl Fn(&[&LeafState]) -> T) -> T {
        let rows: Vec<_> = identities.iter().filter_map(|id| self.rows[*id].read(leaf.id()).unwrap()).collect();
        let chunks = identities.iter().filter_map(|id| self.chunks.get(&(*id, leaf.id()))).flatten();
        let states: Vec<&LeafState> = rows.iter().map(AsRef::as_ref).chain(chunks).collect();
        make(&states)
    }

    fn leaf_value(&self, id: LeafId, identities: &[usize], now: Timestamp) -> Value {
        let leaf = self.program.leaf(id).unwrap();
        self.with_states(leaf, identities, |states| {
            let value = leaf.value_of(states, now, &self.zone);
            assert_eq!(value, leaf.value(&leaf.merge(states), now, &self.zone), "{} of chunks", leaf.text());
            value
        })
    }

    fn leaf_change(&self, leaf: &Leaf, identities: &[usize], now: Timestamp) -> Option<Timestamp> {
        self.with_states(leaf, identities, |states| {
            let next = leaf.next_change_of(states, now, &self.zone);
            assert_eq!(next, leaf.next_change_at(&leaf.merge(states), now, &self.zone), "{} of chunks", leaf.text());
            next
        })
    }

    fn value(&self, expression: &Expression, identities: &[usize], facts: &Someone, now: Timestamp) -> Value {
        let value_of = |id: LeafId| self.leaf_value(id, identities, now);
        expression.evaluate(facts, &value_of, now)
    }

    fn next_change_at(
        &self,
        expression: &Expression,
        identities: &[usize],
        facts: &Someone,
        now: Timestamp,
    ) -> Option<Timestamp> {
        let value_of = |id: LeafId| self.leaf_value(id, identities, now);
        let own = expression.next_change_at(facts, &value_of, now, &self.zone);
        let of_leaf = |leaf: &std::sync::Arc<Leaf>| self.leaf_change(leaf, identities, now);
        expression.leaves().map(of_leaf).chain([own]).flatten().min()
    }
}

/// The identities of a profile, as bits.
fn members(bits: u8) -> Vec<usize> {
    (0..IDENTITIES).filter(|identity| bits & (1 << identity) != 0).collect()
}

fn heard<'a>(story: &'a Story, identities: &[usize], now: Timestamp) -> Vec<EventFacts<'a>> {
    let heard =
        story.deliveries.iter().filter(|delivery| delivery.heard_at <= now && identities.contains(&delivery.identity));
    heard.map(|delivery| EventFacts::new(&delivery.event, "shop")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1_000, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    /// Whatever happens in whatever order, and whichever identities are tied together at the moment of looking, the kept
    /// value is the one that a fresh evaluation of all events gives, bit for bit, and of a kind that the expression can give.
    #[test]
    fn incremental_equals_naive(
        story in story(),
        texts in prop::collection::vec(steady_expression(), 1..4),
        profiles in prop::collection::vec(0u8..16, 4),
    ) {
        let expressions: Vec<Expression> = texts.iter().map(|text| Expression::parse_in(text, story.zone).unwrap()).collect();
        let zone = Zone::parse(story.zone).unwrap();
        let mut kept = Kept::new(&zone, Program::new(&expressions));
        let facts = someone(story.looks[0]);
        let mut deliveries = story.deliveries.iter().peekable();
        for (now, bits) in story.looks.iter().zip(profiles) {
            while let Some(delivery) = deliveries.next_if(|delivery| delivery.heard_at <= *now) {
                kept.take(&EventFacts::new(&delivery.event, "shop"), delivery.identity, delivery.heard_at);
            }
            for identities in [members(bits), members(15)] {
                let events = heard(&story, &identities, *now);
                for expression in &expressions {
                    let naive = naive::evaluate(expression, &facts, &events, *now, &zone);
                    let fast = kept.value(expression, &identities, &facts, *now);
                    prop_assert_eq!(&fast, &naive, "{} at {}", expression, now);
                    prop_assert!(expression.kinds().include(&fast), "{} gives {}, never {:?}", expression, expression.kinds(), fast);
                }
            }
        }
    }

    /// From one timer to the next the value stays what it was, and timers run out.
    #[test]
    fn between_timers_nothing_changes(
        story in story(),
        text in steady_expression(),
        probes in prop::collection::vec(0.0f64..1.0, 3),
    ) {
        let expression = Expression::parse_in(&text, story.zone).unwrap();
        prop_assert!(!expression.reads().drifts);
        let zone = Zone::parse(story.zone).unwrap();
        let mut kept = Kept::new(&zone, Program::new([&expression]));
        let mut now = story.looks[0];
        let facts = someone(now);
        for delivery in story.deliveries.iter().filter(|delivery| delivery.heard_at <= now) {
            kept.take(&EventFacts::new(&delivery.event, "shop"), delivery.identity, delivery.heard_at);
        }
        let everybody = members(15);
        let events = heard(&story, &everybody, now);
        let value_at = |moment| naive::evaluate(&expression, &facts, &events, moment, &zone);
        let mut timers = 0;
        loop {
            let value = kept.value(&expression, &everybody, &facts, now);
            prop_assert_eq!(&value, &value_at(now), "{} at {}", text, now);
            let next = kept.next_change_at(&expression, &everybody, &facts, now);
            prop_assert!(next.is_none_or(|next| next > now), "{} at {}", text, now);
            let last = next.map_or(now.0 + 40 * DAY_MS, |next| next.0 - 1);
            #[allow(clippy::cast_possible_truncation, clippy::cast_precision_loss, reason = "a probe may be anywhere between")]
            let between = probes.iter().map(|share| now.0 + ((last - now.0) as f64 * share) as i64);
            for moment in between.chain([last]) {
                prop_assert_eq!(&value_at(Timestamp(moment)), &value, "{} between {} and {:?}", text, now, next);
            }
            let Some(next) = next else { break };
            // Hours and days come without end.
            if timers > 40 && (text.contains("now.") || text.contains(")).hour()")) {
                break;
            }
            now = next;
            timers += 1;
            // An event comes and goes at most once for each leaf; a comparison with now turns at most twice for each event.
            prop_assert!(timers < 400, "{}: timers do not run out", text);
        }
    }

    /// An event changes no leaf but those that the program finds for it.
    #[test]
    fn an_event_reaches_every_leaf_that_it_changes(
        story in story(),
        texts in prop::collection::vec(aggregate(), 1..12),
    ) {
        let expressions: Vec<Expression> = texts.iter().map(|text| Expression::parse_in(text, story.zone).unwrap()).collect();
        let zone = Zone::parse(story.zone).unwrap();
        let program = Program::new(&expressions);
        for delivery in &story.deliveries {
            let facts = EventFacts::new(&delivery.event, "shop");
            let found: Vec<LeafId> = program.leaves_for(&facts).map(|leaf| leaf.id()).collect();
            let mut once = found.clone();
            once.sort();
            once.dedup();
            prop_assert_eq!(once.len(), found.len(), "a leaf is found twice");
            for leaf in program.leaves().filter(|leaf| !found.contains(&leaf.id())) {
                let changed = leaf.apply(&mut LeafState::default(), &facts, delivery.event.time, &zone);
                prop_assert!(!changed, "{} is changed by {:?}", leaf.text(), delivery.event);
            }
        }
    }

    /// Settling early or late, and how often, changes no value.
    #[test]
    fn settling_changes_no_value(story in story(), text in aggregate(), at_each in any::<bool>()) {
        let expression = Expression::parse_in(&text, story.zone).unwrap();
        let zone = Zone::parse(story.zone).unwrap();
        let program = Program::new([&expression]);
        for leaf in program.leaves() {
            let (mut plain, mut settled) = (LeafState::default(), LeafState::default());
            for delivery in &story.deliveries {
                let facts = EventFacts::new(&delivery.event, "shop");
                leaf.apply(&mut plain, &facts, delivery.heard_at, &zone);
                leaf.apply(&mut settled, &facts, delivery.heard_at, &zone);
                if at_each {
                    leaf.settle(&mut settled, delivery.heard_at, &zone);
                }
            }
            let end = story.deliveries.last().map_or(Timestamp(0), |delivery| delivery.heard_at);
            for now in story.looks.iter().filter(|now| **now >= end) {
                leaf.settle(&mut settled, *now, &zone);
                prop_assert_eq!(leaf.value(&plain, *now, &zone), leaf.value(&settled, *now, &zone), "{}", leaf.text());
                prop_assert_eq!(
                    leaf.next_change_at(&plain, *now, &zone), leaf.next_change_at(&settled, *now, &zone), "{}", leaf.text()
                );
            }
        }
    }

    /// The canonical text of a leaf reads back as the same leaf.
    #[test]
    fn canonical_texts_read_back(text in aggregate()) {
        for leaf in Expression::parse(&text).unwrap().leaves() {
            let again = Expression::parse(leaf.text()).unwrap();
            prop_assert_eq!(again.reads().leaves.clone(), vec![leaf.id()], "{} from {}", leaf.text(), text);
        }
    }

    /// No text panics, whether it is an expression or not.
    #[test]
    fn no_text_panics(
        text in "\\PC{0,40}",
        soup in prop::collection::vec(select(vec![
            "traits", ".", "x", "(", ")", "[", "]", "events", "'a'", ",", "&&", "||", "!", "-", "1", "2.5", "==", "<", "in",
            "now", "filter", "e", "?", ":", "size", "null", "{", "}", "\"", "\n", "é", "has", "`", "0x", "map", "@", "1u", "\\",
        ]), 0..14),
    ) {
        for text in [text, soup.concat(), soup.join(" ")] {
            if let Err(error) = Expression::parse(&text) {
                prop_assert!(error.line >= 1 && error.column >= 1 && !error.message.is_empty());
            }
        }
    }
}

#[test]
fn what_is_never_true_or_false_is_no_condition() {
    let is_one = |text: &str| Expression::parse(text).unwrap().check_condition().is_ok();
    for text in [
        "1 + 1",
        "'abc'",
        "now",
        "null",
        "-traits.age",
        "[true]",
        "events('A').size()",
        "traits.a ? 1 : 'x'",
        "traits.list.map(x, x)",
        "events('A').map(e, e.total).sum()",
        "events('A').map(e, {'total': e.total})",
        "events('A').map(e, {'total': e.total}).last()",
    ] {
        assert!(!is_one(text), "{text}");
    }
    for text in [
        "true",
        "traits.vip",
        "!traits.vip",
        "events('A').size() > 1",
        "traits.a ? true : 1",
        "traits.list.exists(x, x == 1)",
        "tags.level in ['few']",
        "traits.name.contains('a')",
        "has(traits.a) && 1 == 1",
        "events('A').map(e, e.paid).last()",
    ] {
        assert!(is_one(text), "{text}");
    }
}
