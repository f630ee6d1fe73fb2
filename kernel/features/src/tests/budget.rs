//! Whoever writes an expression, and whoever sends what it meets, cannot make one evaluation dear.

use std::cell::Cell;

use kith_model::time::Timestamp;
use proptest::prelude::*;

use crate::{Expression, Facts, MAX_STEPS, Value};

/// Somebody with a long list, a long text and a leaf, who counts how often anything is asked for.
#[derive(Default)]
struct Counting {
    asked: Cell<u64>,
    items: usize,
}

impl Counting {
    fn ask(&self) {
        self.asked.set(self.asked.get() + 1);
    }
}

impl Facts for Counting {
    fn trait_value(&self, name: &str) -> Value {
        self.ask();
        match name {
            "list" => Value::List((0..self.items).map(|item| Value::Int(item as i64)).collect()),
            "text" => Value::text("x".repeat(self.items)),
            _ => Value::Null,
        }
    }

    fn tag_value(&self, _: &str) -> Value {
        self.ask();
        Value::Null
    }

    fn score_value(&self, _: &str) -> Value {
        self.ask();
        Value::Float(1.0)
    }

    fn created_at(&self) -> Option<Timestamp> {
        None
    }
}

fn evaluated(text: &str, facts: &Counting) -> Option<Value> {
    let expression = Expression::parse(text).unwrap_or_else(|error| panic!("{text}: {error}"));
    let leaf = |_| {
        facts.ask();
        Value::Int(1)
    };
    expression.evaluate_within(facts, &leaf, Timestamp(0))
}

/// Loops within loops over a list that is written.
fn nested(loops: usize) -> String {
    let open: String = (0..loops).map(|depth| format!("[0,1,2,3,4,5,6,7,8,9].exists(v{depth}, ")).collect();
    format!("{open}scores.x > 5.0{}", ")".repeat(loops))
}

/// A text that doubles with each loop.
fn doubled(loops: usize) -> String {
    let maps: String = (0..loops).map(|depth| format!(".map(v{depth}, v{depth} + v{depth})")).collect();
    format!("['{}']{maps}.size() > 0", "x".repeat(50))
}

#[test]
fn loops_that_are_dear_whatever_they_meet_are_refused() {
    for loops in [5, 14, 40] {
        let error = Expression::parse(&nested(loops)).unwrap_err();
        assert!(error.message.contains("steps for one person"), "{error}");
    }
    let in_an_aggregate = format!("events('Seen').filter(e, {}).size() > 1", nested(14));
    Expression::parse(&in_an_aggregate).unwrap_err();
    assert_eq!(evaluated(&nested(3), &Counting::default()), Some(Value::Bool(false)));
}

#[test]
fn an_evaluation_that_grows_too_large_has_no_value() {
    assert_eq!(evaluated(&doubled(10), &Counting::default()), Some(Value::Bool(true)));
    for loops in [24, 40] {
        assert_eq!(evaluated(&doubled(loops), &Counting::default()), None, "{loops}");
    }
    let lists = "[[1, 2, 3, 4]]".to_owned() + &".map(a, a + a)".repeat(30) + ".size() > 0";
    assert_eq!(evaluated(&lists, &Counting::default()), None);
}

#[test]
fn a_list_is_asked_only_until_the_answer_is_known() {
    let long = Counting { items: 40_000, ..Counting::default() };
    assert_eq!(evaluated("traits.list.exists(i, i == 3)", &long), Some(Value::Bool(true)));
    assert_eq!(evaluated("traits.list.all(i, i < 3)", &long), Some(Value::Bool(false)));
    assert_eq!(evaluated("traits.list.exists_one(i, i < 3)", &long), Some(Value::Bool(false)));
    assert_eq!(evaluated("traits.list.exists(i, i < 0)", &long), None, "every item is asked");
}

#[test]
fn an_explanation_is_bounded_as_a_whole() {
    let long = Counting { items: 90_000, ..Counting::default() };
    let expression = Expression::parse("!(!(!(!(!(!(!(!traits.list.exists(i, i < 0))))))))").unwrap();
    let mut part = &expression.explain(&long, &|_| Value::Null, Timestamp(0));
    assert_eq!(part.value, Value::Bool(false));
    while let [inner] = &part.parts[..] {
        part = inner;
    }
    assert!(part.value.is_unknown(), "the same list was looked at once too often");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    /// Random nests of every macro over every kind of list, of people of every size.
    #[test]
    fn nothing_is_asked_for_more_often_than_the_budget_has_steps(
        layers in prop::collection::vec((0usize..5, 0usize..5), 1..8),
        body in 0usize..4,
        items in 0usize..3_000,
    ) {
        const LISTS: [&str; 5] = ["[1, 2, 3]", "traits.list", "[traits.list, traits.list]", "(traits.list + traits.list)", "[traits.text]"];
        const MACROS: [&str; 5] = ["exists", "all", "exists_one", "filter", "map"];
        const BODIES: [&str; 4] = ["scores.x > 2.0", "traits.text.contains('y')", "traits.list == traits.list", "events('A').size() > 3"];
        let mut text = BODIES[body].to_owned();
        for (depth, (list, kind)) in layers.into_iter().enumerate() {
            text = format!("{}.{}(v{depth}, {text})", LISTS[list], MACROS[kind]);
        }
        let facts = Counting { items, ..Counting::default() };
        if let Ok(expression) = Expression::parse(&text) {
            let leaf = |_| {
                facts.ask();
                Value::Int(1)
            };
            expression.evaluate_within(&facts, &leaf, Timestamp(0));
            prop_assert!(facts.asked.get() <= MAX_STEPS, "{text}: {}", facts.asked.get());
        }
    }
}
