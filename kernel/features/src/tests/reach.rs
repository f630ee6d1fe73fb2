//! The law of reach: a reader that a change does not visit has the same value before and after it.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::time::Timestamp;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use super::{Someone, at};
use crate::{Expression, FeatureName, LeafId, Reach, Value};

const LEAVES: [&str; 3] =
    ["events('order').size()", "events('order', '7d').map(e, e.revenue).sum()", "events('view').map(e, e.x).last()"];

fn now() -> Timestamp {
    at("2026-11-21T10:00:00Z")
}

fn leaf(text: &str) -> LeafId {
    Expression::parse(text).unwrap().reads().leaves[0]
}

fn number() -> impl Strategy<Value = Value> {
    let edges = [(1_i64 << 53) - 1, 1 << 53, (1 << 53) + 1, i64::MAX, i64::MIN];
    prop_oneof![
        4 => (-3i64..8).prop_map(Value::Int),
        2 => (-6i32..16).prop_map(|half| Value::float(f64::from(half) / 2.0)),
        1 => select(edges.to_vec()).prop_map(Value::Int),
        1 => select(vec![9_007_199_254_740_992.0, 9.3e18, -9.3e18, 1e300]).prop_map(Value::float),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    prop_oneof![
        6 => number(),
        1 => select(vec![Value::Null, Value::Unknown, Value::text("3"), Value::Bool(true), Value::Time(now())]),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    let sign = || select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let leaf = || select(LEAVES.to_vec());
    // Literals as the language writes them.
    let literal = || {
        select(vec![
            "0",
            "1",
            "2",
            "3",
            "-1",
            "2.5",
            "3.0",
            "1 + 1",
            "-(2)",
            "9007199254740993",
            "9007199254740992.0",
            "9223372036854775807",
            "9.3e18",
            "-9.3e18",
            "1e300",
            "null",
            "'3'",
        ])
    };
    let other = select(vec![
        "traits.a == 'x'",
        "tags.t > 1",
        "has(scores.s)",
        "profile.created_at < now",
        "traits.b in [1, null]",
        "profile.identifiers.email.size() > 1",
    ]);
    let atom = prop_oneof![
        6 => (leaf(), sign(), literal()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        3 => (literal(), sign(), leaf()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        1 => (leaf(), sign(), leaf()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        1 => (leaf(), literal()).prop_map(|(a, b)| format!("{a} + 1 > {b}")),
        1 => leaf().prop_map(|a| format!("{a} in [1, 2]")),
        1 => leaf().prop_map(|a| format!("has({a}.x)")),
        2 => other.prop_map(str::to_owned),
    ];
    atom.prop_recursive(3, 8, 2, |inner| {
        prop_oneof![
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            inner.clone().prop_map(|a| format!("!({a})")),
            (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

/// A profile: the values of its leaves and of the rest.
#[derive(Debug, Clone, Default)]
struct Profile {
    someone: Someone,
    leaves: BTreeMap<LeafId, Value>,
}

impl Profile {
    fn set(&mut self, feature: &FeatureName, value: Value) {
        match feature {
            FeatureName::Trait(name) => drop(self.someone.traits.insert(name.to_string(), value)),
            FeatureName::Tag(name) => drop(self.someone.tags.insert(name.to_string(), value)),
            FeatureName::Score(name) => drop(self.someone.scores.insert(name.to_string(), value)),
            FeatureName::CreatedAt => self.someone.created_at = value.as_time(&crate::Zone::utc()),
            FeatureName::Leaf(id) => drop(self.leaves.insert(*id, value)),
            _ => {}
        }
    }

    fn values(&self, conditions: &[Expression]) -> Vec<Value> {
        let leaf = |id| self.leaves.get(&id).cloned().unwrap_or_default();
        conditions.iter().map(|condition| condition.evaluate(&self.someone, &leaf, now())).collect()
    }
}

fn features() -> Vec<FeatureName> {
    let [a, b, c] = LEAVES.map(|text| FeatureName::Leaf(leaf(text)));
    vec![
        a,
        b,
        c,
        FeatureName::Trait("a".into()),
        FeatureName::Trait("b".into()),
        FeatureName::Tag("t".into()),
        FeatureName::Score("s".into()),
        FeatureName::CreatedAt,
    ]
}

fn visited(reach: &Reach, leaf: LeafId, before: &Value, after: &Value) -> Vec<u32> {
    let mut visited = Vec::new();
    reach.for_leaf(leaf, before, after, |reader| visited.push(reader));
    visited
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 2_000, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_reader_that_is_not_visited_keeps_its_value(
        texts in prop::collection::vec(condition(), 1..8),
        steps in prop::collection::vec((prop_oneof![6 => 0usize..3, 2 => 0usize..8], value()), 1..12),
    ) {
        let conditions: Vec<Expression> = texts.iter().map(|text| Expression::parse(text).unwrap()).collect();
        let reach = Reach::new((0..).zip(&conditions));
        let features = features();
        let mut profile = Profile::default();
        for (feature, value) in steps {
            let feature = &features[feature];
            let (before, held) = (profile.values(&conditions), profile.clone());
            profile.set(feature, value.clone());
            let mut seen = Vec::new();
            match feature {
                FeatureName::Leaf(id) => {
                    let old = held.leaves.get(id).cloned().unwrap_or_default();
                    reach.for_leaf(*id, &old, &value, |reader| seen.push(reader));
                }
                feature => reach.for_feature(feature, |reader| seen.push(reader)),
            }
            let once: BTreeSet<u32> = seen.iter().copied().collect();
            prop_assert_eq!(once.len(), seen.len(), "a reader is visited twice");
            for (reader, (before, after)) in (0..).zip(before.iter().zip(profile.values(&conditions))) {
                prop_assert!(once.contains(&reader) || *before == after, "{}: {} to {}", texts[reader as usize], before, after);
            }
        }
    }
}

#[test]
fn a_step_visits_the_thresholds_between_its_ends() {
    let signs = [">=", ">", "<", "<=", "==", "!="];
    let text = |leaf: usize, threshold: usize| {
        format!("events('e{leaf}').size() {} {threshold} && traits.a == 1", signs[(leaf + threshold) % signs.len()])
    };
    let texts: Vec<String> = (0..1_000).map(|reader| text(reader / 100, reader % 100)).collect();
    let conditions: Vec<Expression> = texts.iter().map(|text| Expression::parse(text).unwrap()).collect();
    let reach = Reach::new((0..).zip(&conditions));
    for number in 0..10 {
        let leaf = leaf(&format!("events('e{number}').size()"));
        let mut visits = 0;
        for step in 0..100 {
            let seen = visited(&reach, leaf, &Value::Int(step), &Value::Int(step + 1));
            assert!(seen.len() <= 2, "a step from {step} visits {seen:?}");
            assert_eq!(seen, visited(&reach, leaf, &Value::Int(step + 1), &Value::Int(step)));
            visits += seen.len();
        }
        // Each order is crossed once, each equality on the way in and on the way out.
        assert!(visits >= 100, "{visits}");
        assert!(visited(&reach, leaf, &Value::Int(7), &Value::Int(7)).is_empty());
        assert!(visited(&reach, leaf, &Value::Int(7), &Value::Float(7.0)).is_empty());
        assert_eq!(visited(&reach, leaf, &Value::Unknown, &Value::Int(7)).len(), 100);
        // The least step into an equality: the ends of `== 50` and the orders at 50.
        assert!(visited(&reach, leaf, &Value::Float(49.75), &Value::Float(49.875)).is_empty());
    }
}

#[test]
fn readers_are_found_by_what_they_read() {
    let texts = [
        "traits.city == 'Rome' && tags.x",
        "now - profile.created_at > duration('7d') && scores.s > 1",
        "profile.identifiers.email.size() > 1",
        "events('a').exists(e, e.x == 1)",
        "events('a').filter(z, z.x==1).size()   >  0",
        "now - events('b').map(e, e.time).max() > duration('1d')",
    ];
    let conditions: Vec<Expression> = texts.iter().map(|text| Expression::parse(text).unwrap()).collect();
    let reach = Reach::new((0..).zip(&conditions));
    for (feature, readers) in [
        (FeatureName::Trait("city".into()), vec![0]),
        (FeatureName::Tag("x".into()), vec![0]),
        (FeatureName::Score("s".into()), vec![1]),
        (FeatureName::CreatedAt, vec![1]),
        (FeatureName::Identifiers("email".into()), vec![2]),
        (FeatureName::Trait("x".into()), vec![]),
        (FeatureName::Leaf(conditions[3].reads().leaves[0]), vec![3, 4]),
    ] {
        let mut seen = Vec::new();
        reach.for_feature(&feature, |reader| seen.push(reader));
        assert_eq!(seen, readers, "{feature}");
    }
    // A comparison of times with now is looked at whenever the leaf changes.
    let last = conditions[5].reads().leaves[0];
    assert_eq!(visited(&reach, last, &Value::Time(Timestamp(1)), &Value::Time(Timestamp(2))), [5]);
}
