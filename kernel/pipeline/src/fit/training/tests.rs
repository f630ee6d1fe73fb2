//! Rows of the past, held against the meaning of their expressions.

use kith_features::naive;
use kith_model::event::EventKind;
use kith_model::id::SourceIdentityId;
use proptest::prelude::*;

use super::*;
use crate::tests::laws;

/// 2026-01-15T00:00:00Z.
const START: Timestamp = Timestamp(1_768_435_200_000);
const HOUR_MS: i64 = 3_600_000;
const DAY_MS: i64 = 24 * HOUR_MS;
const ZONE: &str = "Europe/Berlin";

const INPUTS: [(&str, ColumnType); 7] = [
    ("events('Order').size()", ColumnType::Int64),
    ("events('Order', '30d').map(e, e.total).sum()", ColumnType::Float64),
    ("events('*', '36h').size()", ColumnType::Int64),
    ("events('Order').map(e, e.time)", ColumnType::TimestampList),
    ("events('View', '10d').map(e, e.total)", ColumnType::Float64List),
    ("now - events('*').map(e, e.time).max()", ColumnType::Int64),
    ("events('Order').filter(e, e.total > 10).map(e, e.total).avg()", ColumnType::Float64),
];

fn expression(text: &str) -> Expression {
    Expression::parse_in(text, ZONE).unwrap()
}

fn inputs(of: &[(&str, ColumnType)]) -> Vec<(InputSpec, Expression)> {
    let input = |(text, column_type): &(&str, ColumnType)| {
        let (name, reason) = ((*text).to_owned(), String::new());
        (InputSpec { name, expression: (*text).to_owned(), column_type: column_type.clone(), reason }, expression(text))
    };
    of.iter().map(input).collect()
}

/// Six cut-offs, 30 days apart, and a horizon of 45.
fn plan(inputs: &[(InputSpec, Expression)], label: &str, timeless: &[&str]) -> TrainingPlan {
    let training = Training {
        label: label.to_owned(),
        horizon_ms: 45 * DAY_MS.unsigned_abs(),
        every_ms: 30 * DAY_MS.unsigned_abs(),
        cut_offs: 6,
        predicts: String::new(),
        timeless: timeless.iter().map(|name| (*name).to_owned()).collect(),
    };
    TrainingPlan::new(&training, inputs, expression(label))
}

fn event(number: usize, name: &str, time: Timestamp, properties: String) -> Event {
    Event {
        message_id: number.to_string(),
        kind: EventKind::Track,
        name: name.to_owned(),
        time,
        received_at: time,
        source: InstallationId(1),
        identity: SourceIdentityId([0; 16]),
        identifiers: Vec::new(),
        properties,
        traits: String::new(),
        context: String::new(),
        origin: EventOrigin::Client,
        flags: Vec::new(),
        original_time: None,
        place: 0,
        reader: 0,
    }
}

fn rows(
    plan: &TrainingPlan,
    inputs: &[(InputSpec, Expression)],
    person: &dyn Facts,
    events: &[Event],
) -> Vec<(Timestamp, Vec<Cell>, Option<f64>)> {
    let (zone, source_names) = (Zone::parse(ZONE).unwrap(), HashMap::new());
    let view = PastView { zone: &zone, source_names: &source_names };
    let mut past = Past::new(plan, events.to_vec(), START);
    let rows = std::iter::from_fn(|| past.next_row(plan, inputs, person, &view));
    rows.map(|row| (row.cut_off, row.cells, row.label)).collect()
}

/// What an expression means for a person of whom there are these events and nothing else.
fn meaning<'e>(text: &str, events: impl Iterator<Item = &'e Event>, now: Timestamp) -> Value {
    let facts: Vec<EventFacts<'_>> = events.map(|event| EventFacts::new(event, "")).collect();
    naive::evaluate(&expression(text), &NoFacts, &facts, now, &Zone::parse(ZONE).unwrap())
}

fn any_history() -> impl Strategy<Value = Vec<Event>> {
    let name = prop::sample::select(vec!["Order", "View", "Message Sent"]);
    // By the hour, so that some lie just at a cut-off or at the end of a horizon.
    let one = (name, -260_i64 * 24..20 * 24, prop::option::of(-5_i64..50));
    let event = |(number, (name, hours, total)): (usize, (&str, i64, Option<i64>))| {
        let properties = total.map_or_else(String::new, |total| format!("{{\"total\":{total}}}"));
        let origin = if name == "Message Sent" { EventOrigin::Kernel } else { EventOrigin::Client };
        Event { origin, ..event(number, name, START.plus_ms(hours * HOUR_MS), properties) }
    };
    prop::collection::vec(one, 0..40).prop_map(move |all| all.into_iter().enumerate().map(event).collect())
}

proptest! {
    #![proptest_config(laws(64))]

    /// Of any history: a row for each cut-off that something was done before, its inputs as if nothing had come after it, and its
    /// label as if nothing had come before it or behind the horizon.
    #[test]
    fn a_row_of_the_past_sees_what_was_and_its_label_what_came(
        events in any_history(),
        label in prop::sample::select(vec![
            "events('Order').size() > 0",
            "events('Order').map(e, e.total).sum()",
            "events('Order').map(e, e.total).avg()",
            "events('*', '7d').size() - events('View').size()",
        ]),
    ) {
        let inputs = inputs(&INPUTS);
        let zone = Zone::parse(ZONE).unwrap();
        let mut found = rows(&plan(&inputs, label, &[]), &inputs, &NoFacts, &events).into_iter();
        for number in (0..6).rev() {
            let cut_off = START.plus_ms(-(45 + 30 * number) * DAY_MS);
            let end = cut_off.plus_ms(45 * DAY_MS);
            let before = || events.iter().filter(|event| event.time <= cut_off);
            if !before().any(|event| event.origin == EventOrigin::Client) {
                continue;
            }
            let (at, cells, labelled) = found.next().unwrap();
            prop_assert_eq!(at, cut_off);
            for ((text, column_type), cell) in INPUTS.iter().zip(&cells) {
                let expected = meaning(text, before(), cut_off).to_cell(column_type, &zone).unwrap();
                prop_assert_eq!(cell, &expected, "{} at {}", text, cut_off);
            }
            let behind = events.iter().filter(|event| event.time > cut_off && event.time <= end);
            let expected = match meaning(label, behind, end) {
                Value::Bool(holds) => Some(f64::from(u8::from(holds))),
                value => match value.to_cell(&ColumnType::Float64, &zone).unwrap() {
                    Cell::Float64(number) => Some(number),
                    _ => None,
                },
            };
            prop_assert_eq!(labelled, expected, "the label at {}", cut_off);
        }
        prop_assert_eq!(found.next(), None);
    }
}

/// An event at the very cut-off was before it, and one at the very end of the horizon is in it.
#[test]
fn the_moments_of_a_cut_off_and_of_a_horizon_are_before_them() {
    let inputs = inputs(&INPUTS[..1]);
    let plan = plan(&inputs, "events('Order').size()", &[]);
    let last = START.plus_ms(-45 * DAY_MS);
    let orders = |times: [i64; 4]| -> Vec<Event> {
        times.iter().enumerate().map(|(n, ms)| event(n, "Order", last.plus_ms(*ms), String::new())).collect()
    };
    let found = rows(&plan, &inputs, &NoFacts, &orders([0, 1, 45 * DAY_MS, 45 * DAY_MS + 1]));
    assert_eq!(found, [(last, vec![Cell::Int64(1)], Some(2.0))], "at no cut-off before was anything done");
}

/// Somebody of whom a city is known.
struct Resident;

impl Facts for Resident {
    fn trait_value(&self, _: &str) -> Value {
        Value::text("Oslo")
    }

    fn tag_value(&self, _: &str) -> Value {
        Value::Null
    }

    fn score_value(&self, _: &str) -> Value {
        Value::Null
    }

    fn created_at(&self) -> Option<Timestamp> {
        Some(START)
    }
}

/// What has no history is in a row of the past only where the manifest says that it is the same at all times.
#[test]
fn what_people_are_now_is_in_no_row_of_the_past_unless_it_is_timeless() {
    let inputs = inputs(&[("traits.city", ColumnType::Text), ("profile.created_at", ColumnType::Timestamp)]);
    let events = [event(0, "Order", START.plus_ms(-50 * DAY_MS), String::new())];
    let plan = plan(&inputs, "events('Order').size() > 0", &["traits.city"]);
    let found = rows(&plan, &inputs, &Resident, &events);
    let [(_, cells, label)] = &found[..] else { panic!("one row") };
    assert_eq!((cells.as_slice(), *label), (&[Cell::Text("Oslo".to_owned()), Cell::Null][..], Some(0.0)));
}

#[test]
fn ids_are_an_installations_own_and_a_fifth_of_them_is_held_out() {
    let people: Vec<ProfileId> = (0..10_000_u32)
        .map(|number| {
            let mut id = [0; 16];
            id[..4].copy_from_slice(&number.to_be_bytes());
            ProfileId(SourceIdentityId(id))
        })
        .collect();
    let of = |key: u8, installation: u32| -> Vec<u64> {
        let ids = PeopleIds::new(&[key; 32], InstallationId(installation));
        people.iter().map(|person| ids.id(*person)).collect()
    };
    let ids = of(1, 7);
    assert_eq!(ids, of(1, 7));
    for others in [of(1, 8), of(2, 7)] {
        assert!(ids.iter().zip(&others).all(|(id, other)| id != other), "nobody has the same id elsewhere");
    }
    let distinct: std::collections::BTreeSet<&u64> = ids.iter().collect();
    let held_out = ids.iter().filter(|id| Part::of(**id) == Part::HeldOut).count();
    assert!(distinct.len() == people.len() && (1_800..2_200).contains(&held_out), "{held_out}");
    // Who learns tests on a tenth of those from whom it learns, as the SDK advises, and once had nobody of such ids.
    let tested = ids.iter().filter(|id| Part::of(**id) == Part::Learning && id.is_multiple_of(10)).count();
    assert!((650..950).contains(&tested), "{tested}");
}
