//! Rules over records: the told cases, and whatever record under whatever rules.

use kith_model::event::EventKind;
use kith_model::rules::HASHED;
use proptest::prelude::*;
use serde_json::{Map, Value, json};

use super::*;

const REALM: [u8; 32] = [7; 32];

fn rule(id: &str, act: Act, what: Target, name: &str) -> Rule {
    Rule { id: id.into(), act, what, name: name.into(), event: None, to: None, sources: Vec::new() }
}

fn rename(id: &str, what: Target, name: &str, to: &str) -> Rule {
    Rule { to: Some(to.into()), ..rule(id, Act::Rename, what, name) }
}

fn rules(rules: &[Rule]) -> RecordRules {
    RecordRules { version: 3, rules: rules.to_vec() }
}

/// What the rules make of a draft of the source `web`.
fn applied(draft: &DraftEvent, of: &[Rule]) -> (DraftEvent, Vec<String>, bool) {
    let held = SourceRules::of(&rules(of), "web", &REALM);
    let ruled = RuledDraft::new(draft, held.as_ref(), &IdentityRules::default());
    (ruled.event.into_owned(), ruled.flags, ruled.is_dropped)
}

fn draft(properties: &str, traits: &str) -> DraftEvent {
    DraftEvent {
        kind: EventKind::Track,
        message_id: Some("m".into()),
        name: "Buy".into(),
        identifiers: vec![Identifier::new("user_id", "u1"), Identifier::new("email", "Ada@Example.com")],
        properties: properties.into(),
        traits: traits.into(),
        ..DraftEvent::default()
    }
}

fn object(text: &str) -> Map<String, Value> {
    serde_json::from_str(text).unwrap_or_else(|error| panic!("{text}: {error}"))
}

#[test]
fn each_rule_does_what_it_says() {
    let came = draft(r#"{"ssn":"1-2","total":1.50,"cupon":"X"}"#, r#"{"salary":5,"city":"Oslo"}"#);
    let of = [
        rule("no-ssn", Act::Drop, Target::Property, "ssn"),
        rename("coupon", Target::Property, "cupon", "coupon"),
        rule("salary", Act::Hash, Target::Trait, "salary"),
        rename("order", Target::Event, "Buy", "Order Completed"),
        rule("email", Act::Hash, Target::Identifier, "email"),
    ];
    let (event, flags, is_dropped) = applied(&came, &of);
    assert!(!is_dropped);
    assert_eq!(event.name, "Order Completed");
    assert_eq!(event.properties, r#"{"total":1.50,"coupon":"X"}"#, "numbers stay digit by digit");
    let traits = object(&event.traits);
    assert!(traits["salary"].as_str().unwrap().starts_with(HASHED) && traits["city"] == "Oslo");
    assert_eq!(traits["salary"].as_str().unwrap().len(), HASHED.len() + 64);
    assert_eq!(event.identifiers[0], Identifier::new("user_id", "u1"));
    assert_eq!(event.identifiers[1].kind, "hashed_email");
    let told = [
        "rule-renamed:order@3",
        "rule-dropped:no-ssn@3",
        "rule-renamed:coupon@3",
        "rule-hashed:salary@3",
        "rule-hashed:email@3",
    ];
    let (mut flags, mut told) = (flags, told.map(str::to_owned).to_vec());
    flags.sort();
    told.sort();
    assert_eq!(flags, told);
    let (untouched, flags, _) = applied(&came, &[rule("x", Act::Drop, Target::Property, "SSN")]);
    assert_eq!((untouched, flags.len()), (came.clone(), 0), "upper and lower case differ");
    let elsewhere = Rule { sources: vec!["shop".into()], ..rule("x", Act::Drop, Target::Property, "ssn") };
    assert_eq!(applied(&came, &[elsewhere]).0, came);
    let of_event = |event: &str| Rule { event: Some(event.into()), ..rule("x", Act::Drop, Target::Property, "ssn") };
    assert_eq!(applied(&came, &[of_event("Sell")]).0, came);
    assert!(!applied(&came, &[of_event("Buy")]).0.properties.contains("ssn"));
    assert!(applied(&came, &[rule("x", Act::Drop, Target::Event, "Buy")]).2);
}

#[test]
fn a_rename_carries_nothing_past_a_rule_that_takes_it_out() {
    let came = draft(r#"{"ssn":"1-2"}"#, "{}");
    let to_ssn = draft(r#"{"social":"1-2"}"#, "{}");
    let away = rename("r", Target::Property, "ssn", "number");
    let here = rename("r", Target::Property, "social", "ssn");
    for act in [Act::Drop, Act::Hash] {
        for (came, renamed) in [(&came, &away), (&to_ssn, &here)] {
            for order in [[0, 1], [1, 0]] {
                let pair = [renamed.clone(), rule("d", act, Target::Property, "ssn")];
                let (event, _, _) = applied(came, &order.map(|place: usize| pair[place].clone()));
                assert!(!event.properties.contains("1-2"), "{act:?} {order:?}: {}", event.properties);
            }
        }
    }
    // Under the old and under the new name of the event.
    let renamed = rename("r", Target::Event, "Buy", "Order");
    for event in ["Buy", "Order"] {
        let of = Rule { event: Some(event.into()), ..rule("d", Act::Drop, Target::Property, "ssn") };
        assert_eq!(applied(&came, &[renamed.clone(), of]).0.properties, "{}");
        assert!(applied(&came, &[renamed.clone(), rule("d", Act::Drop, Target::Event, event)]).2);
    }
}

#[test]
fn a_rename_takes_nobodys_place() {
    let of = [rename("one", Target::Property, "a", "c"), rename("two", Target::Property, "b", "c")];
    for (properties, becomes, flags) in [
        (r#"{"a":1}"#, r#"{"c":1}"#, &["rule-renamed:one@3"][..]),
        (r#"{"b":2,"a":1}"#, r#"{"b":2,"c":1}"#, &["rule-renamed:one@3", "rule-not-renamed:two@3"]),
        (r#"{"a":1,"c":3}"#, r#"{"a":1,"c":3}"#, &["rule-not-renamed:one@3"]),
    ] {
        let (event, told, _) = applied(&draft(properties, ""), &of);
        assert_eq!((event.properties.as_str(), told), (becomes, flags.iter().map(|f| (*f).to_owned()).collect()));
    }
    let swap = [rename("one", Target::Property, "a", "b"), rename("two", Target::Property, "b", "a")];
    assert_eq!(applied(&draft(r#"{"a":1,"b":2}"#, ""), &swap).0.properties, r#"{"a":1,"b":2}"#);
    let freed = [rename("one", Target::Property, "a", "c"), rule("two", Act::Drop, Target::Property, "x")];
    assert_eq!(applied(&draft(r#"{"a":1,"x":2}"#, ""), &freed).0.properties, r#"{"c":1}"#);
}

#[test]
fn facts_in_the_context_are_facts_and_an_old_id_is_a_users() {
    let came = DraftEvent {
        kind: EventKind::Alias,
        context: r#"{"ip":"1.2.3.4","traits":{"ssn":"1-2","city":"Oslo"}}"#.into(),
        identifiers: vec![Identifier::new("user_id", " new "), Identifier::new("previous_id", "old")],
        ..draft("", "")
    };
    let (event, _, _) = applied(&came, &[rule("d", Act::Drop, Target::Trait, "ssn")]);
    assert_eq!(event.context, r#"{"ip":"1.2.3.4","traits":{"city":"Oslo"}}"#);
    let of = [rule("h", Act::Hash, Target::Identifier, "user_id")];
    let hashed = |kind: &str, value: &str| {
        let came = DraftEvent { identifiers: vec![Identifier::new(kind, value)], ..came.clone() };
        applied(&came, &of).0.identifiers[0].clone()
    };
    assert_eq!(hashed("user_id", "old").value, hashed("previous_id", "old").value, "an alias finds whom it names");
    assert_eq!(hashed("previous_id", "old").kind, "previous_id");
    assert_eq!(hashed("user_id", " new ").value, hashed("user_id", "new").value);
    let none = DraftEvent { identifiers: vec![Identifier::new("email", "no address")], ..came };
    assert!(applied(&none, &[rule("h", Act::Hash, Target::Identifier, "email")]).0.identifiers.is_empty());
}

#[test]
fn hashed_identifiers_are_told_apart_as_the_addresses_were() {
    let identity = IdentityRules::default().with_hashed_types();
    let of = [rule("h", Act::Hash, Target::Identifier, "email")];
    let hashed = |value: &str| {
        let came = DraftEvent { identifiers: vec![Identifier::new("email", value)], ..draft("", "") };
        applied(&came, &of).0.identifiers
    };
    assert_eq!(hashed("Ada@Example.com"), hashed(" ada@example.com "), "one address however it is spelt");
    assert_ne!(hashed("ada@example.com"), hashed("bob@example.com"));
    assert_eq!(identity.limits.get("hashed_email"), identity.limits.get("email"));
    let place = |kind: &str| identity.priority.iter().position(|known| known == kind);
    assert_eq!(place("hashed_email"), place("email").map(|place| place + 1));
    assert!(identity.judge(&hashed("ada@example.com")[0]).is_ok(), "it names somebody");
    assert_eq!(identity.clone().with_hashed_types(), identity);
}

#[test]
fn the_key_is_the_workspaces_own() {
    let of = rules(&[rule("h", Act::Hash, Target::Property, "ssn")]);
    let hash = |realm: [u8; 32]| SourceRules::of(&of, "web", &realm).unwrap().hash_json("\"1-2\"");
    assert_eq!(hash(REALM), hash(REALM));
    assert_ne!(hash(REALM), hash([8; 32]));
}

const NAMES: [&str; 5] = ["a", "b", "c", "d", "consent"];

fn any_value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        (-3_i64..3).prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    leaf.prop_recursive(2, 6, 3, |inner| {
        prop_oneof![
            proptest::collection::vec(inner.clone(), 0..3).prop_map(Value::from),
            proptest::collection::btree_map("[xy]", inner, 0..3).prop_map(|map| json!(map)),
        ]
    })
}

fn any_object() -> impl Strategy<Value = Vec<(String, Value)>> {
    let name = prop::sample::select(&NAMES[..4]).prop_map(str::to_owned);
    proptest::collection::btree_map(name, any_value(), 0..5)
        .prop_map(|map| map.into_iter().collect::<Vec<_>>())
        .prop_shuffle()
}

fn any_rules() -> impl Strategy<Value = Vec<Rule>> {
    let act = prop::sample::select(vec![Act::Drop, Act::Rename, Act::Hash]);
    let what = prop::sample::select(vec![Target::Event, Target::Property, Target::Trait, Target::Identifier]);
    let (name, to) = (prop::sample::select(&NAMES[..4]), prop::sample::select(&NAMES[..4]));
    let event = prop::option::of(prop::sample::select(&NAMES[..4]));
    let one = (act, what, name, to, event).prop_map(|(act, what, name, to, event)| Rule {
        event: event.filter(|_| what == Target::Property).map(str::to_owned),
        to: (act == Act::Rename).then(|| to.to_owned()),
        ..rule("r", act, what, name)
    });
    proptest::collection::vec(one, 0..6).prop_map(|rules| {
        let named = rules.into_iter().enumerate().map(|(place, rule)| Rule { id: format!("r{place}"), ..rule });
        named.filter(|rule| RecordRules::check(std::slice::from_ref(rule)).is_ok()).collect()
    })
}

fn text(entries: &[(String, Value)]) -> String {
    let entries: Vec<String> = entries.iter().map(|(name, value)| format!("{}:{value}", json!(name))).collect();
    format!("{{{}}}", entries.join(","))
}

fn any_draft() -> impl Strategy<Value = DraftEvent> {
    let kinds = proptest::collection::vec(prop::sample::select(&NAMES[..4]), 0..4);
    (prop::sample::select(&NAMES[..4]), any_object(), any_object(), any_object(), kinds).prop_map(
        |(name, properties, traits, inner, kinds)| DraftEvent {
            name: name.into(),
            identifiers: kinds.into_iter().map(|kind| Identifier::new(kind, format!("value of {kind}"))).collect(),
            properties: text(&properties),
            traits: text(&traits),
            context: format!("{{\"ip\":\"x\",\"traits\":{}}}", text(&inner)),
            ..DraftEvent::default()
        },
    )
}

/// The same draft with its keys in another order.
fn turned(draft: &DraftEvent) -> DraftEvent {
    let turn = |text: &str| {
        let Entries(mut entries) = serde_json::from_str(text).unwrap();
        entries.reverse();
        let entries: Vec<(&str, Cow<'_, str>)> =
            entries.iter().map(|(name, value)| (name.as_ref(), Cow::Borrowed(value.get()))).collect();
        object_of(&entries)
    };
    DraftEvent {
        properties: turn(&draft.properties),
        traits: turn(&draft.traits),
        context: turn(&draft.context),
        ..draft.clone()
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(400))]

    /// What a rule of dropping names does not survive, neither under this name nor under one that a rename gave it; and no key
    /// order changes what comes out.
    #[test]
    fn nothing_survives_that_a_drop_names(draft in any_draft(), of in any_rules()) {
        let (event, flags, is_dropped) = applied(&draft, &of);
        let names = [draft.name.as_str(), event.name.as_str()];
        let drops = |what: Target| {
            let of_event = move |rule: &&Rule| rule.event.as_deref().is_none_or(|event| names.contains(&event));
            of.iter().filter(move |rule| rule.act == Act::Drop && rule.what == what).filter(of_event)
        };
        let context = object(&event.context);
        let inner = context["traits"].as_object().unwrap();
        for rule in drops(Target::Property) {
            prop_assert!(!object(&event.properties).contains_key(&rule.name));
        }
        for rule in drops(Target::Trait) {
            prop_assert!(!object(&event.traits).contains_key(&rule.name) && !inner.contains_key(&rule.name));
        }
        for rule in drops(Target::Identifier) {
            prop_assert!(event.identifiers.iter().all(|identifier| identifier.kind != rule.name));
        }
        for rule in drops(Target::Event) {
            prop_assert!(is_dropped || !names.contains(&rule.name.as_str()));
        }
        prop_assert_eq!(&context["ip"], "x");
        // A record of which nothing was taken out has as many facts as before.
        if flags.iter().all(|flag| !flag.starts_with("rule-dropped")) {
            prop_assert_eq!(object(&event.properties).len(), object(&draft.properties).len());
            prop_assert_eq!(object(&event.traits).len(), object(&draft.traits).len());
        }
        let (other, mut other_flags, _) = applied(&turned(&draft), &of);
        prop_assert_eq!(object(&other.properties), object(&event.properties));
        prop_assert_eq!(object(&other.traits), object(&event.traits));
        prop_assert_eq!(object(&other.context), object(&event.context));
        let mut flags = flags;
        flags.sort();
        other_flags.sort();
        prop_assert_eq!(flags, other_flags);
    }

    /// Two values have one hash if and only if they are equal.
    #[test]
    fn hashes_are_equal_where_values_are(one in any_value(), other in any_value()) {
        let of = [rule("h", Act::Hash, Target::Property, "x")];
        let hash = |value: &Value, spelt: &str| {
            let (event, _, _) = applied(&draft(&format!("{{\"x\":{spelt}}}"), ""), &of);
            let hashed = object(&event.properties)["x"].clone();
            assert_eq!(hashed.is_null(), value.is_null());
            hashed
        };
        prop_assert_eq!(hash(&one, &one.to_string()) == hash(&other, &other.to_string()), one == other);
        prop_assert_eq!(hash(&one, &format!("{one:#}")), hash(&one, &one.to_string()));
    }
}
