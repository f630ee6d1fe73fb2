//! The law of the index: a selection is what evaluating every profile gives.

use std::collections::BTreeMap;

use kith_model::id::AudienceId;
use kith_model::time::{DAY_MS, Timestamp};
use proptest::prelude::*;
use proptest::sample::select;
use proptest::test_runner::RngSeed;

use super::names::MAX_EXCLUDED_NAMES;
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
        self.get(FeatureName::CreatedAt).as_time(&Zone::utc())
    }

    fn identifiers(&self, kind: &str) -> Value {
        self.get(FeatureName::Identifiers(kind.into()))
    }
}

const ORDERS: &str = "events('order', '14d').size()";
const SPENT: &str = "events('order').map(e, e.revenue).sum()";
const LAST: &str = "events('order').map(e, e.time).max()";

/// In a zone whose days are not those of UTC.
fn parse(text: &str) -> Result<Expression, crate::ExpressionError> {
    Expression::parse_in(text, "Europe/Berlin")
}

fn now() -> Timestamp {
    at("2026-11-21T10:00:00Z")
}

fn leaf(text: &str) -> std::sync::Arc<Leaf> {
    let expression = parse(text).unwrap();
    expression.leaves().next().unwrap().clone()
}

fn features() -> Vec<FeatureName> {
    vec![
        FeatureName::Trait("a".into()),
        FeatureName::Trait("b".into()),
        FeatureName::Tag("t".into()),
        FeatureName::Score("s".into()),
        FeatureName::CreatedAt,
        FeatureName::Identifiers("email".into()),
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
        2 => select(vec!["Rome", "2026-11-20", "2026-11-14T10:00:00Z", "2026-11-21", "2026-11-21 00:00", "2026-11-20T23:59:59.999", ""]).prop_map(Value::text),
        2 => select(vec!["1", "2.50", "1.0", "-5", "007", "1e300", "9007199254740993"]).prop_map(Value::text),
        2 => (-20i64..20).prop_map(|days| Value::Time(now().plus_ms(days * DAY_MS / 2))),
        1 => any::<bool>().prop_map(Value::Bool),
        1 => select(vec![DAY_MS, 0, -1]).prop_map(Value::Duration),
        1 => Just(Value::List(vec![Value::text("v1")])),
        2 => Just(Value::Null),
        2 => Just(Value::Unknown),
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
            "profile.identifiers.email",
            "profile.identifiers.nobody",
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
            "timestamp('2026-11-20T23:00:00Z')",
            "timestamp('2026-11-20T22:59:59.999Z')",
            "'1'",
            "'1.0'",
            "'2.5'",
            "'007'",
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
        1 => (feature(), literal()).prop_map(|(a, b)| format!("{a} in {b}")),
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
        "tags.t.month() == now.month()",
        "tags.t.matches('^v[0-3]$')",
        "tags.t in 'v1'",
        "'v1' in tags.t",
        "tags.t.size() == 0",
        "tags.t * 2 == 2.0",
        "!tags.t.exists(i, i == 'v1')",
        "(tags.t ? traits.a : traits.b) == null",
        "!(tags.t ? traits.a : traits.b)",
    ])
    .prop_map(str::to_owned)
}

type Step = (u32, usize, Value, u8);

fn filled(steps: &[Step]) -> (Index, BTreeMap<u32, Profile>) {
    let features = features();
    let mut index = Index::new();
    let leaves = [leaf(ORDERS), leaf(SPENT), leaf(LAST)];
    leaves.iter().for_each(|leaf| index.track(leaf));
    for output in [FeatureName::Tag("t".into()), FeatureName::Score("s".into())] {
        index.track_output(&output);
    }
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
            index.clear(ordinal, &features);
            index.remove(ordinal);
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

fn evaluated(condition: &Expression, profile: &Profile) -> Value {
    condition.evaluate(profile, &|id: LeafId| profile.get(FeatureName::Leaf(id)), now())
}

/// The ordinals of the profiles that pass the test.
fn those(plain: &BTreeMap<u32, Profile>, test: impl Fn(&Profile) -> bool) -> RoaringBitmap {
    plain.iter().filter(|(_, profile)| test(profile)).map(|(ordinal, _)| *ordinal).collect()
}

fn count_of(index: &Index, text: &str) -> Option<u64> {
    index.count(&parse(text).unwrap(), now()).map(|counted| counted.holds)
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
            let condition = parse(&text).unwrap();
            let Some(selected) = index.select(&condition, now()) else {
                prop_assert!(index.count(&condition, now()).is_none());
                continue;
            };
            let holds = those(&plain, |profile| evaluated(&condition, profile).is_true());
            prop_assert_eq!(&selected.holds, &holds, "{}", text);
            let unknown = those(&plain, |profile| evaluated(&condition, profile).is_unknown());
            prop_assert_eq!(&selected.unknown, &unknown, "{}", text);
            let counted = SelectionCount { holds: holds.len(), unknown: unknown.clone() };
            prop_assert_eq!(index.count(&condition, now()), Some(counted), "{}", text);
        }
    }

    #[test]
    fn comparisons_of_one_feature_are_answered(
        text in condition(),
        steps in prop::collection::vec((0u32..2_000, 0usize..8, value(), 1u8..8), 0..20),
    ) {
        let condition = parse(&text).unwrap();
        prop_assert!(filled(&[]).0.select(&condition, now()).is_some(), "{}", text);
        // Beside pending values all but a choice by a choice is answered.
        let (index, _) = filled(&steps);
        prop_assert!(text.contains('?') || index.select(&condition, now()).is_some(), "{}", text);
    }
}

#[test]
fn texts_that_name_people_are_found_by_their_hash() {
    let mut index = Index::new();
    let email = FeatureName::Trait("email".into());
    let limit = u32::try_from(MAX_TEXT_VALUES).unwrap();
    for ordinal in 0..limit {
        index.set(ordinal, &email, &Value::text(format!("{ordinal}@example.org")));
    }
    assert_eq!(count_of(&index, "traits.email == '7@example.org'"), Some(1));
    assert_eq!(count_of(&index, "traits.email.startsWith('77')"), Some(111));
    // Texts that nobody has any more make room for others.
    index.set(3, &email, &Value::text("x"));
    index.set(3, &email, &Value::text("y"));
    assert_eq!(count_of(&index, "traits.email == 'y'"), Some(1));
    assert_eq!(count_of(&index, "traits.email == 'x'"), Some(0));
    // One more than there are bitmaps for: equality is still answered, other comparisons are not.
    for ordinal in limit..limit + 3 {
        index.set(ordinal, &email, &Value::text("shared"));
    }
    index.set(limit + 3, &email, &Value::text("2026-11-20"));
    index.set(limit + 4, &email, &Value::Unknown);
    index.set(limit + 5, &email, &Value::Bool(true));
    let all = u64::from(limit) + 6;
    assert_eq!(count_of(&index, "traits.email == '7@example.org'"), Some(1));
    assert_eq!(count_of(&index, "traits.email == 'shared'"), Some(3));
    assert_eq!(count_of(&index, "traits.email == 'nobody'"), Some(0));
    assert_eq!(count_of(&index, "traits.email != 'shared'"), Some(all - 4));
    assert_eq!(count_of(&index, "!(traits.email != 'shared')"), Some(3));
    assert_eq!(count_of(&index, "traits.email in ['shared', '8@example.org', 'nobody', null]"), Some(4));
    assert_eq!(count_of(&index, "!(traits.email in ['shared', '8@example.org', 'nobody'])"), Some(all - 5));
    assert_eq!(count_of(&index, "traits.email == timestamp('2026-11-20')"), Some(1));
    assert_eq!(count_of(&index, "has(traits.email)"), Some(all - 1));
    assert_eq!(count_of(&index, "traits.email < 'b'"), None);
    assert_eq!(count_of(&index, "traits.email.startsWith('77')"), None);
    // Setting another text, or none, leaves the old one.
    index.set(limit, &email, &Value::text("7@example.org"));
    index.clear(8, [&email]);
    index.set(9, &email, &Value::Int(1));
    assert_eq!(count_of(&index, "traits.email == 'shared'"), Some(2));
    assert_eq!(count_of(&index, "traits.email == '7@example.org'"), Some(2));
    assert_eq!(count_of(&index, "traits.email in ['8@example.org', '9@example.org']"), Some(0));
    assert_eq!(count_of(&index, "traits.email == null"), Some(1));
    let selected = index.select(&parse("traits.email == '7@example.org'").unwrap(), now()).unwrap();
    assert_eq!(selected.holds.iter().collect::<Vec<_>>(), [7, limit]);
    assert_eq!(selected.unknown.iter().collect::<Vec<_>>(), [limit + 4]);
}

#[test]
fn a_column_exists_exactly_while_it_is_tracked() {
    let mut index = Index::new();
    index.set(1, &FeatureName::Trait("a".into()), &Value::Int(1));
    let audience = FeatureName::Audience(AudienceId(4));
    index.set(1, &audience, &Value::Bool(true));
    assert_eq!(index.members(&audience), None);
    index.track_audience(AudienceId(4));
    for (ordinal, truth) in [(1, true), (2, true), (2, false)] {
        index.set(ordinal, &audience, &Value::Bool(truth));
    }
    assert_eq!(index.members(&audience).map(|members| members.iter().collect()), Some(vec![1]));
    assert_eq!(count_of(&index, "traits.a == 1"), Some(1));
    assert_eq!(count_of(&index, "traits.never_set == null"), Some(2));
    let orders = leaf("events('order').size()");
    let (column, none) = (FeatureName::Leaf(orders.id()), "events('order').size() == 0");
    assert_eq!(count_of(&index, none), None);
    index.track(&orders);
    index.set(1, &column, &Value::Int(4));
    assert_eq!(count_of(&index, none), Some(1));
    // The audience that read it is deleted, and a value comes late: it must not make a column in which all others have
    // none, or every later count is wrong.
    index.forget(&column);
    index.set(2, &column, &Value::Null);
    index.set(1, &column, &Value::Int(4));
    assert_eq!(count_of(&index, none), None);
    index.track(&orders);
    assert_eq!(count_of(&index, none), Some(2));
    let tag = FeatureName::Tag("t".into());
    index.set(1, &tag, &Value::Int(1));
    assert_eq!(count_of(&index, "tags.t == 1"), None);
    index.track_output(&tag);
    index.set(1, &tag, &Value::Unknown);
    let counted = index.count(&parse("tags.t == 1 || traits.a == 2").unwrap(), now());
    assert_eq!(counted, Some(SelectionCount { holds: 0, unknown: [1].into() }));
}

/// A text for which the budget ends is no answer of the index: an evaluation calls that person unknown.
#[test]
fn an_evaluation_that_ends_is_not_counted_as_no() {
    let mut index = Index::new();
    let name = FeatureName::Trait("text".into());
    index.require(&name);
    index.set(1, &name, &Value::text("short"));
    let condition = "[traits.text]".to_owned() + &".map(a, a + a)".repeat(16) + ".size() == 0";
    assert_eq!(count_of(&index, &condition), Some(0));
    index.set(2, &name, &Value::text("x".repeat(1_000)));
    assert_eq!(count_of(&index, &condition), None);
    // The same where nothing of a person is read: as a whole, beside a feature and as one of a list.
    let dear = format!("['{}']", "x".repeat(1_000)) + &".map(a, a + a)".repeat(16);
    for condition in [
        format!("{dear}.size() == 0"),
        format!("traits.text == {dear}[0]"),
        format!("traits.text in {dear}"),
        format!("!({dear}.size() > 0)"),
    ] {
        assert_eq!(count_of(&index, &condition), None, "{condition}");
    }
}

#[test]
fn what_is_cleared_is_what_was_named() {
    let mut index = Index::new();
    let (a, b) = (FeatureName::Trait("a".into()), FeatureName::Trait("b".into()));
    for ordinal in [1, 2] {
        index.set(ordinal, &a, &Value::Int(1));
        index.set(ordinal, &b, &Value::Int(1));
    }
    index.clear(1, [&a, &FeatureName::Trait("never set".into())]);
    assert_eq!((count_of(&index, "traits.a == 1"), count_of(&index, "traits.b == 1")), (Some(1), Some(2)));
    assert_eq!(count_of(&index, "traits.a == null"), Some(1));
    index.clear(1, [&b]);
    index.remove(1);
    assert_eq!(index.population().iter().collect::<Vec<_>>(), [2]);
}

#[test]
fn names_beyond_the_quota_have_no_column() {
    let name = |number: usize| FeatureName::Trait(format!("flag_{number:06}").into());
    let mut index = Index::new();
    assert_eq!(index.require(&FeatureName::Trait("city".into())), Coverage::Complete);
    for number in 0..MAX_TRAIT_COLUMNS + 2 {
        index.set(1, &name(number), &Value::Bool(true));
    }
    index.set(1, &FeatureName::Trait("city".into()), &Value::text("Rome"));
    assert_eq!(index.features().count(), MAX_TRAIT_COLUMNS + 1);
    assert_eq!(count_of(&index, "traits.city == 'Rome'"), Some(1));
    assert_eq!(count_of(&index, "traits.flag_000007"), Some(1));
    assert_eq!(count_of(&index, "traits.flag_002001"), None);
    assert_eq!(count_of(&index, "traits.never_set == null"), Some(1));
    // A name that nobody has any more makes room, but not for one whose values were left out.
    index.set(1, &name(7), &Value::Null);
    index.set(1, &name(2_001), &Value::Bool(true));
    assert_eq!(count_of(&index, "traits.flag_002001"), None);
    index.set(1, &name(9_999), &Value::Bool(true));
    assert_eq!(count_of(&index, "traits.flag_009999"), Some(1));
    // An expression reads it now: it is answered once all values were set again.
    assert_eq!(index.require(&name(2_001)), Coverage::Partial);
    index.set(1, &name(2_001), &Value::Bool(true));
    assert_eq!(count_of(&index, "traits.flag_002001"), None);
    index.complete(&name(2_001));
    assert_eq!(count_of(&index, "traits.flag_002001"), Some(1));
    assert_eq!(index.require(&name(2_001)), Coverage::Complete);
    // Names without end: the list ends, and no name is taken for one that nobody has.
    for number in 10_000..10_002 + MAX_EXCLUDED_NAMES {
        index.set(1, &name(number), &Value::Bool(true));
    }
    assert_eq!(count_of(&index, "traits.another == null"), None);
    assert_eq!(index.features().count(), MAX_TRAIT_COLUMNS + 2);
}

/// Types of identifiers are the sender's choice as names of traits are.
#[test]
fn identifier_types_beyond_the_quota_are_not_answered_and_those_within_are() {
    let has = |kind: usize| parse(&format!("has(profile.identifiers.k{kind})")).unwrap();
    let mut index = Index::new();
    let owned = Value::List(vec![Value::text("v")]);
    let set = |index: &mut Index, ordinal: u32, kind: usize, value: &Value| {
        index.set(ordinal, &FeatureName::Identifiers(format!("k{kind}").as_str().into()), value);
    };
    for kind in 0..MAX_IDENTIFIER_COLUMNS {
        set(&mut index, 0, kind, &owned);
    }
    let holds = |index: &Index, kind: usize| index.count(&has(kind), now()).map(|counted| counted.holds);
    assert_eq!((holds(&index, 3), holds(&index, MAX_IDENTIFIER_COLUMNS)), (Some(1), Some(0)));
    set(&mut index, 0, MAX_IDENTIFIER_COLUMNS, &owned);
    // A place that nobody needs any more is given to nobody else, who would come too late.
    set(&mut index, 0, 3, &Value::Null);
    set(&mut index, 1, MAX_IDENTIFIER_COLUMNS, &owned);
    assert_eq!((holds(&index, 3), holds(&index, 4)), (Some(0), Some(1)));
    assert_eq!((holds(&index, MAX_IDENTIFIER_COLUMNS), holds(&index, MAX_IDENTIFIER_COLUMNS + 1)), (None, None));
}
