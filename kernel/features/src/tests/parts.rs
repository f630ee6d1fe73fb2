//! What conditions have in common is evaluated once, and nothing else tells that from each of them by itself.

use std::cell::Cell;

use kith_model::time::Timestamp;
use proptest::prelude::*;

use crate::{Expression, Facts, PartValues, SharedParts, Value};

/// Somebody with a list of so many numbers, who counts how often anything is asked for.
struct Asked {
    items: i64,
    asked: Cell<usize>,
}

impl Facts for Asked {
    fn trait_value(&self, name: &str) -> Value {
        self.asked.set(self.asked.get() + 1);
        match name {
            "list" => Value::List((0..self.items).map(Value::Int).collect()),
            "city" => Value::text("Oslo"),
            _ => Value::Null,
        }
    }

    fn tag_value(&self, _: &str) -> Value {
        self.asked.set(self.asked.get() + 1);
        Value::Unknown
    }

    fn score_value(&self, _: &str) -> Value {
        self.asked.set(self.asked.get() + 1);
        Value::Float(1.0)
    }

    fn created_at(&self) -> Option<Timestamp> {
        None
    }
}

fn parsed(texts: &[String]) -> Vec<Expression> {
    texts.iter().map(|text| Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"))).collect()
}

/// The values of these conditions, each by itself and all with what they share, and how often something was asked for.
fn both_ways(conditions: &[Expression], items: i64) -> [(Vec<Option<Value>>, usize); 2] {
    let (leaf, now) = (|_| Value::Int(3), Timestamp(0));
    let shared = SharedParts::among(conditions);
    [None, Some(PartValues::new(&shared))].map(|sharing| {
        let facts = Asked { items, asked: Cell::new(0) };
        let values = conditions.iter().map(|condition| match &sharing {
            None => condition.evaluate_within(&facts, &leaf, now),
            Some(values) => condition.evaluate_sharing(&facts, &leaf, now, values),
        });
        (values.collect(), facts.asked.get())
    })
}

#[test]
fn what_conditions_have_in_common_is_evaluated_once() {
    let conditions = parsed(&[
        "traits.list.size() > 3 && traits.city == 'Rome'".to_owned(),
        "traits.city == 'Rome' || (scores.x > 0.5 && traits.list.size() > 3)".to_owned(),
        "traits.list.size()>3 && traits['city'] == 'Oslo'".to_owned(),
    ]);
    let [(alone, asked_alone), (shared, asked)] = both_ways(&conditions, 5);
    assert_eq!(shared, [Some(Value::Bool(false)), Some(Value::Bool(true)), Some(Value::Bool(true))]);
    assert_eq!(alone, shared);
    // The list, Rome and the score once each, and Oslo, which one condition alone asks for.
    assert_eq!((asked_alone, asked), (7, 4));
}

const PARTS: &[&str] = &[
    "traits.city == 'Oslo'",
    "traits.city == 'Rome'",
    "has(traits.none)",
    "tags.pending == 'a'",
    "scores.x > 0.5",
    "events('Order').size() > 2",
    "traits.list.size() > 100",
    // Dear where the list is long, so that the budget of some conditions ends.
    "traits.list.exists(i, traits.list.exists(j, j < i - i))",
    "!(traits.list.all(i, traits.list.exists(j, i == j)))",
];

fn condition() -> impl Strategy<Value = String> {
    let part = prop::sample::select(PARTS).prop_map(str::to_owned);
    part.prop_recursive(3, 8, 2, |inner| {
        (inner.clone(), any::<bool>(), inner)
            .prop_map(|(a, is_and, b)| format!("({a}) {} ({b})", if is_and { "&&" } else { "||" }))
    })
}

proptest! {
    #[test]
    fn a_condition_has_the_value_and_the_budget_that_it_has_alone(
        texts in prop::collection::vec(condition(), 2..6),
        items in 0_i64..260,
    ) {
        let [(alone, asked_alone), (shared, asked)] = both_ways(&parsed(&texts), items);
        prop_assert_eq!(alone, shared, "{:?} with {} items", texts, items);
        prop_assert!(asked <= asked_alone);
    }
}
