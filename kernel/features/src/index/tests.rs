//! The law of the index: a selection is what evaluating every profile gives.

use std::collections::BTreeMap;

use kith_model::id::AudienceId;
use kith_model::time::{DAY_MS, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use super::*;
use crate::Facts;
use crate::tests::at;
use crate::tree::LeafId;

/// The plain way: every value of every profile.
#[derive(Debug, Default)]
struct Profile(BTreeMap<FeatureName, Value>);

impl Profile {
    fn get(&self, name: FeatureName) -> Value {
        self.0.get(&name).cloned().unwrap_or_default()
    }
}

impl Facts for Profile {
    fn trait_value(&self, name: &str) -> Value {
        self.get(FeatureName::Trait(name.into()))
    }

    fn tag_value(&self, name: &str) -> Value {
        self.get(FeatureName::Tag(name.into()))
    }

    fn score_value(&self, name: &str) -> Value {
        self.get(FeatureName::Score(name.into()))
    }

    fn created_at(&self) -> Option<Timestamp> {
        self.get(FeatureName::CreatedAt).as_time()
    }
}

const ORDERS: &str = "events('order', '14d').size()";
const SPENT: &str = "events('order').map(e, e.revenue).sum()";
const LAST: &str = "events('order').map(e, e.time).max()";

fn now() -> Timestamp {
    at("2026-11-21T10:00:00Z")
}

fn leaf(text: &str) -> std::sync::Arc<Leaf> {
    let expression = Expression::parse(text).unwrap();
    expression.leaves().next().unwrap().clone()
}

fn features() -> Vec<FeatureName> {
    vec![
        FeatureName::Trait("a".into()),
        FeatureName::Trait("b".into()),
        FeatureName::Tag("t".into()),
        FeatureName::Score("s".into()),
        FeatureName::CreatedAt,
        FeatureName::Leaf(leaf(ORDERS).id()),
        FeatureName::Leaf(leaf(SPENT).id()),
        FeatureName::Leaf(leaf(LAST).id()),
    ]
}

fn value() -> impl Strategy<Value = Value> {
    let texts: Vec<String> = (0..40).map(|n| format!("v{n}")).collect();
    prop_oneof![
        2 => select(vec![0, 1, 2, 3, -5, (1 << 53) + 1, i64::MAX, i64::MIN]).prop_map(Value::Int),
        2 => select(vec![0.0, 1.0, 2.5, -5.0, 9_007_199_254_740_992.0, 1e300, -0.0, f64::NAN, 9.3e18]).prop_map(Value::Float),
        3 => select(texts).prop_map(Value::text),
        2 => select(vec!["Rome", "2026-11-20", "2026-11-14T10:00:00Z", ""]).prop_map(Value::text),
        2 => (-20i64..20).prop_map(|days| Value::Time(now().plus_ms(days * DAY_MS / 2))),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => select(vec![DAY_MS, 0, -1]).prop_map(Value::Duration),
        1 => Just(Value::List(vec![Value::text("v1")])),
        2 => Just(Value::Null),
    ]
}

/// A comparison of one feature that the index must answer.
fn answered() -> impl Strategy<Value = String> {
    let feature = || {
        select(vec![
            "traits.a",
            "traits.b",
            "tags.t",
            "scores.s",
            "profile.created_at",
            "traits.nobody",
            ORDERS,
            SPENT,
            LAST,
        ])
    };
    let sign = || select(vec!["==", "!=", "<", "<=", ">", ">="]);
    let literal = || {
        select(vec![
            "0",
            "1",
            "2.5",
            "-5",
            "9007199254740993",
            "9007199254740992.0",
            "9.3e18",
            "1e300",
            "-9.3e18",
            "9223372036854775807",
            "'v1'",
            "'v3'",
            "'Rome'",
            "''",
            "'2026-11-20'",
            "'2026-11-14T10:00:00Z'",
            "timestamp('2026-11-20')",
            "true",
            "false",
            "null",
            "duration('1d')",
            "now",
            "now - duration('7d')",
            "1 + 1",
        ])
    };
    prop_oneof![
        4 => (feature(), sign(), literal()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        1 => (literal(), sign(), feature()).prop_map(|(a, sign, b)| format!("{a} {sign} {b}")),
        1 => (feature(), prop::collection::vec(literal(), 0..4)).prop_map(|(a, list)| format!("{a} in [{}]", list.join(", "))),
        1 => feature().prop_map(str::to_owned),
        1 => select(vec!["has(traits.a)", "has(traits.b)", "has(tags.t)", "has(traits.nobody)", "true", "null", "1 == 1.0"]).prop_map(str::to_owned),
        1 => (feature(), sign(), select(vec!["duration('3d')", "duration('-1d')", "duration('0s')"]))
            .prop_map(|(a, sign, b)| format!("now - {a} {sign} {b}")),
        1 => (feature(), sign()).prop_map(|(a, sign)| format!("{a} + duration('5d') {sign} now")),
        1 => (feature(), sign()).prop_map(|(a, sign)| format!("now {sign} {a} - duration('5d')")),
        1 => (feature(), sign()).prop_map(|(a, sign)| format!("duration('2d') {sign} {a} - now")),
    ]
}

fn condition() -> impl Strategy<Value = String> {
    answered().prop_recursive(4, 16, 2, |inner| {
        prop_oneof![
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} && {b})")),
            3 => (inner.clone(), inner.clone()).prop_map(|(a, b)| format!("({a} || {b})")),
            2 => inner.clone().prop_map(|a| format!("!({a})")),
            1 => (inner.clone(), inner.clone(), inner).prop_map(|(a, b, c)| format!("({a} ? {b} : {c})")),
        ]
    })
}

/// A condition that the index may or may not answer.
fn odd() -> impl Strategy<Value = String> {
    select(vec![
        "tags.t.upper().startsWith('V1')",
        "!tags.t.contains('1')",
        "tags.t in tags.t",
        "size(tags.t) > 2",
        "traits.a < traits.b",
        "'v1' in traits.b",
        "traits.a + 1 > 2",
        "(tags.t == 'v1') == true",
        "tags.t == traits.nobody",
        "tags.t + 'x' == 'v1x'",
        "events('other').size() > 0",
        "scores.s % 2 == 0",
        "has(traits.a.b)",
        "timestamp(tags.t) < now",
        "now - duration('1d') < now",
    ])
    .prop_map(str::to_owned)
}

type Step = (u32, usize, Value, u8);

fn filled(steps: &[Step]) -> (Index, BTreeMap<u32, Profile>) {
    let features = features();
    let mut index = Index::new();
    let leaves = [leaf(ORDERS), leaf(SPENT), leaf(LAST)];
    leaves.iter().for_each(|leaf| index.track(leaf));
    index.set(7, &FeatureName::CreatedAt, &Value::Time(now()));
    let mut plain: BTreeMap<u32, Profile> = BTreeMap::new();
    let fresh = || {
        Profile(
            leaves
                .iter()
                .map(|leaf| (FeatureName::Leaf(leaf.id()), leaf.value(&LeafState::default(), now(), &Zone::utc())))
                .collect(),
        )
    };
    plain.entry(7).or_insert_with(fresh).0.insert(FeatureName::CreatedAt, Value::Time(now()));
    for (number, feature, value, action) in steps {
        // Some ordinals share a block, others lie far away.
        let ordinal = number % 40 + (number % 3) * 70_000;
        if *action == 0 {
            index.clear_ordinal(ordinal);
            plain.remove(&ordinal);
            continue;
        }
        let feature = &features[feature % features.len()];
        // Creation is a time, and times are all that it takes.
        let value = match (feature, value) {
            (FeatureName::CreatedAt, Value::Time(_)) => value.clone(),
            (FeatureName::CreatedAt, _) => continue,
            (_, Value::Float(number)) => Value::float(*number),
            _ => value.clone(),
        };
        index.set(ordinal, feature, &value);
        plain.entry(ordinal).or_insert_with(fresh).0.insert(feature.clone(), value);
    }
    (index, plain)
}

fn meets(condition: &Expression, profile: &Profile) -> bool {
    condition.evaluate(profile, &|id: LeafId| profile.get(FeatureName::Leaf(id)), now()).is_true()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3_000, rng_seed: RngSeed::Fixed(1), failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn a_selection_is_what_evaluating_everybody_gives(
        steps in prop::collection::vec((0u32..2_000, 0usize..8, value(), 0u8..8), 0..120),
        conditions in prop::collection::vec(prop_oneof![6 => condition(), 1 => odd()], 1..5),
    ) {
        let (index, plain) = filled(&steps);
        prop_assert_eq!(index.population().iter().collect::<Vec<_>>(), plain.keys().copied().collect::<Vec<_>>());
        for text in conditions {
            let condition = Expression::parse(&text).unwrap();
            let Some(selected) = index.select(&condition, now()) else {
                prop_assert!(index.count(&condition, now()).is_none());
                continue;
            };
            let expected: RoaringBitmap =
                plain.iter().filter(|(_, profile)| meets(&condition, profile)).map(|(ordinal, _)| *ordinal).collect();
            prop_assert_eq!(&selected, &expected, "{}", text);
            prop_assert_eq!(index.count(&condition, now()), Some(expected.len()), "{}", text);
        }
    }

    #[test]
    fn comparisons_of_one_feature_are_answered(text in condition()) {
        let (index, _) = filled(&[]);
        prop_assert!(index.select(&Expression::parse(&text).unwrap(), now()).is_some(), "{}", text);
    }
}

#[test]
fn texts_that_name_people_are_not_indexed() {
    let mut index = Index::new();
    let email = FeatureName::Trait("email".into());
    let condition = |text: &str| Expression::parse(text).unwrap();
    let limit = u32::try_from(MAX_TEXT_VALUES).unwrap();
    for ordinal in 0..limit {
        index.set(ordinal, &email, &Value::text(format!("{ordinal}@example.org")));
    }
    assert_eq!(index.count(&condition("traits.email == '7@example.org'"), now()), Some(1));
    assert_eq!(index.count(&condition("traits.email.startsWith('77')"), now()), Some(111));
    // Texts that nobody has any more make room for others.
    index.set(3, &email, &Value::text("x"));
    index.set(3, &email, &Value::text("y"));
    assert_eq!(index.count(&condition("traits.email == 'y'"), now()), Some(1));
    assert_eq!(index.count(&condition("traits.email == 'x'"), now()), Some(0));
    index.set(limit, &email, &Value::text("one too many"));
    assert_eq!(index.count(&condition("traits.email == '7@example.org'"), now()), None);
    assert_eq!(index.count(&condition("has(traits.email)"), now()), Some(u64::from(limit) + 1));
    index.clear_ordinal(7);
    assert_eq!(index.count(&condition("traits.email == null"), now()), Some(0));
    assert_eq!(index.count(&condition("traits.email != null"), now()), Some(u64::from(limit)));
}

#[test]
fn what_is_not_fed_is_not_answered() {
    let mut index = Index::new();
    index.set(1, &FeatureName::Trait("a".into()), &Value::Int(1));
    let audience = FeatureName::Audience(AudienceId(4));
    index.set(1, &audience, &Value::Bool(true));
    index.set(2, &audience, &Value::Bool(true));
    index.set(2, &audience, &Value::Bool(false));
    assert_eq!(index.members(&audience).map(|members| members.iter().collect()), Some(vec![1]));
    let condition = |text: &str| Expression::parse(text).unwrap();
    assert_eq!(index.count(&condition("traits.a == 1"), now()), Some(1));
    assert_eq!(index.count(&condition("traits.never_set == null"), now()), Some(2));
    assert_eq!(index.count(&condition("events('order').size() == 0"), now()), None);
    index.track(&leaf("events('order').size()"));
    assert_eq!(index.count(&condition("events('order').size() == 0"), now()), Some(2));
    index.exclude(FeatureName::Trait("a".into()));
    index.set(1, &FeatureName::Trait("a".into()), &Value::Int(1));
    assert_eq!(index.count(&condition("traits.a == 1"), now()), None);
}
