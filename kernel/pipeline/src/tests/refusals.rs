//! What was refused and what is suppressed holds whatever the rules become: in each form of an identifier, as it came, as rules make
//! it normal, and hashed. And what a file says again after it has said otherwise is said.

use kith_model::event::{DraftEvent, EventKind};
use kith_model::identity::Identifier;
use kith_model::rules::{Act, RecordRules, Rule, Target};
use kith_store::Unit;

use super::harness::*;
use crate::{Column, ProfileSearch, RuleChange, SuppressionChange};

/// How the person with an identifier stands to the purpose.
fn standing(bench: &Bench, kind: &str, value: &str) -> String {
    bench.settle();
    let search = ProfileSearch { identifier: Some(Identifier::new(kind, value)), ..ProfileSearch::default() };
    let columns = [Column::Consent("marketing".to_owned())];
    let (rows, _) = bench.kernel.search(WORKSPACE, &search, &columns, PageRequest::first(10)).unwrap();
    rows[0].cells[0].trim_matches('"').to_owned()
}

fn suppress(bench: &Bench, kind: &str, value: &str, change: SuppressionChange<'_>) {
    let identifiers = [Identifier::new(kind, value)];
    let operations = bench.kernel.suppression_steps(WORKSPACE, &identifiers, change).unwrap();
    bench.store.commit(Unit { operations, ..Unit::default() }).unwrap();
}

const BOUNCED: SuppressionChange<'static> = SuppressionChange::Add { reason: "bounced", at: START };

fn is_suppressed(bench: &Bench, kind: &str, value: &str) -> bool {
    bench.kernel.suppression(WORKSPACE, &Identifier::new(kind, value)).unwrap().is_some()
}

/// Hash identifiers of a type from now on, of the source of the tests or of another.
fn hash(bench: &Bench, kind: &str, sources: &[&str]) {
    let rule = Rule {
        id: "h".to_owned(),
        act: Act::Hash,
        what: Target::Identifier,
        name: kind.to_owned(),
        event: None,
        to: None,
        sources: sources.iter().map(|source| (*source).to_owned()).collect(),
    };
    bench.configure(|setup| {
        let rules = setup.identity_rules.clone().with_hashed_types();
        setup.identity_rules = rules;
        setup.record_rules = RecordRules { version: 1, rules: vec![rule] }.into();
    });
}

fn hash_nothing(bench: &Bench) {
    bench.configure(|setup| setup.record_rules = RecordRules { version: 2, rules: vec![] }.into());
}

/// Somebody who comes with a device and with this identifier, beside a user id where it is none.
fn come(bench: &Bench, message: &str, device: &str, kind: &str, value: &str) {
    let user = format!("user-of-{device}");
    let mut identifiers = vec![("anonymous_id", device), (kind, value)];
    if kind != "user_id" {
        identifiers.push(("user_id", &user));
    }
    bench.send(vec![identify(message, &identifiers, "{}", START)]);
}

fn say(bench: &Bench, message: &str, kind: &str, value: &str, agrees: bool) {
    bench.clock.advance_ms(1_000);
    let traits = format!(r#"{{"consent":{{"marketing":{agrees}}}}}"#);
    let at = kith_model::time::Clock::now(&bench.clock);
    bench.send(vec![identify(message, &[(kind, value)], &traits, at)]);
}

const IDENTIFIERS: [(&str, &str, &str); 3] = [
    ("email", "Carla@Shop.example", "dora@shop.example"),
    ("phone", "+49 170 5556612", "+49 170 5556613"),
    ("user_id", "h1", "h2"),
];

fn with_hashed_types() -> Bench {
    Bench::over(std::sync::Arc::new(kith_store::memory()), vec![], |setup| {
        setup.identity_rules = setup.identity_rules.clone().with_hashed_types();
    })
}

#[test]
fn what_is_suppressed_holds_for_the_value_and_for_its_hash() {
    for (kind, value, other) in IDENTIFIERS {
        for is_before in [true, false] {
            let bench = with_hashed_types();
            if is_before {
                suppress(&bench, kind, value, BOUNCED);
            }
            hash(&bench, kind, &[]);
            come(&bench, "m1", "d1", kind, value);
            come(&bench, "m2", "d2", kind, other);
            if !is_before {
                suppress(&bench, kind, value, BOUNCED);
            }
            assert_eq!(standing(&bench, "anonymous_id", "d1"), "suppressed", "{kind}, before: {is_before}");
            assert_eq!(standing(&bench, "anonymous_id", "d2"), "null", "{kind}, before: {is_before}");
            assert!(is_suppressed(&bench, kind, value) && !is_suppressed(&bench, kind, other));
            hash_nothing(&bench);
            come(&bench, "m3", "d3", kind, value);
            assert_eq!(standing(&bench, "anonymous_id", "d3"), "suppressed", "{kind}");
            suppress(&bench, kind, value, SuppressionChange::Remove);
            for device in ["d1", "d3"] {
                assert_eq!(standing(&bench, "anonymous_id", device), "null", "{kind}, taken off the list");
            }
        }
    }
}

#[test]
fn what_is_refused_under_a_value_is_refused_under_its_hash_and_the_other_way_round() {
    for (kind, value, other) in IDENTIFIERS {
        // Refused before there was a rule.
        let bench = with_hashed_types();
        say(&bench, "no", kind, value, false);
        hash(&bench, kind, &[]);
        come(&bench, "m1", "d1", kind, value);
        come(&bench, "m2", "d2", kind, other);
        assert_eq!(standing(&bench, "anonymous_id", "d1"), "refused", "{kind}");
        assert_eq!(standing(&bench, "anonymous_id", "d2"), "null", "{kind}");
        // Whoever agrees under the same identifier afterwards has agreed.
        say(&bench, "yes", kind, value, true);
        assert_eq!(standing(&bench, "anonymous_id", "d1"), "agreed", "{kind}");

        // Refused by another source, whose values are not hashed.
        let bench = with_hashed_types();
        hash(&bench, kind, &[]);
        come(&bench, "m1", "d1", kind, value);
        hash(&bench, kind, &["elsewhere"]);
        say(&bench, "no", kind, value, false);
        assert_eq!(standing(&bench, "anonymous_id", "d1"), "refused", "{kind}");

        // Refused under the hash by somebody who is known by the value as well.
        let bench = with_hashed_types();
        come(&bench, "m1", "d1", kind, value);
        hash(&bench, kind, &[]);
        say(&bench, "no", kind, value, false);
        assert_eq!(standing(&bench, "anonymous_id", "d1"), "refused", "{kind}");
    }
}

/// A rule that drops identifiers keeps their values out, and loses no refusal: it holds for whoever has the value, by whatever
/// source it came, and nothing ties what is dropped.
#[test]
fn what_is_refused_of_an_identifier_that_a_rule_drops_is_refused() {
    for (kind, value, other) in IDENTIFIERS {
        for is_alone in [false, true] {
            let bench = with_hashed_types();
            come(&bench, "m1", "d1", kind, value);
            come(&bench, "m2", "d2", kind, other);
            let rule = Rule {
                id: "d".to_owned(),
                act: Act::Drop,
                what: Target::Identifier,
                name: kind.to_owned(),
                event: None,
                to: None,
                sources: vec![],
            };
            bench.configure(|setup| setup.record_rules = RecordRules { version: 1, rules: vec![rule] }.into());
            bench.clock.advance_ms(1_000);
            let at = kith_model::time::Clock::now(&bench.clock);
            let mut named = vec![(kind, value)];
            if !is_alone {
                named.push(("anonymous_id", "other-device"));
            }
            bench.send(vec![identify("no", &named, r#"{"consent":{"*":false}}"#, at)]);
            assert_eq!(standing(&bench, "anonymous_id", "d1"), "refused", "{kind}, alone: {is_alone}");
            assert_eq!(standing(&bench, "anonymous_id", "d2"), "null", "{kind}, alone: {is_alone}");
            if !is_alone {
                assert_eq!(standing(&bench, "anonymous_id", "other-device"), "refused", "{kind}");
            }
        }
    }
}

/// A number is suppressed in each spelling, whether or not its country was known when it was put on the list, and whoever has it.
#[test]
fn what_is_suppressed_holds_whichever_country_the_rules_name() {
    let regions = [None, Some("DE"), Some("AT")];
    for (before, after) in regions.iter().flat_map(|before| regions.iter().map(move |after| (before, after))) {
        let bench = Bench::new(vec![]);
        let set = |region: &Option<&str>| {
            bench.configure(|setup| setup.identity_rules.phone_region = region.map(str::to_owned));
            bench.wait_until("history is tied by the rules", || {
                matches!(bench.kernel.rule_change(WORKSPACE), Ok(RuleChange::Done(_)))
            });
        };
        set(before);
        come(&bench, "m0", "known", "phone", "0170 555661");
        suppress(&bench, "phone", "0170 555661", BOUNCED);
        set(after);
        come(&bench, "m1", "same", "phone", "0170 555661");
        come(&bench, "m2", "spelled", "phone", "0170-555 661");
        come(&bench, "m3", "other", "phone", "0170 555662");
        for device in ["known", "same", "spelled"] {
            assert_eq!(standing(&bench, "anonymous_id", device), "suppressed", "{device}: {before:?}, {after:?}");
        }
        assert_eq!(standing(&bench, "anonymous_id", "other"), "null", "{before:?}, {after:?}");
        if *after == Some("DE") {
            come(&bench, "m4", "abroad", "phone", "+49 170 555661");
            assert_eq!(standing(&bench, "anonymous_id", "abroad"), "suppressed", "{before:?}");
        }
    }
}

/// A row about somebody without an id and a time.
fn row(user: &str, traits: String) -> DraftEvent {
    DraftEvent {
        kind: EventKind::Identify,
        identifiers: vec![Identifier::new("user_id", user)],
        traits,
        ..DraftEvent::default()
    }
}

fn import(bench: &Bench, rows: Vec<DraftEvent>) -> (u64, u64) {
    bench.clock.advance_ms(60_000);
    let acceptance = bench.try_import(rows).unwrap().acceptance;
    (acceptance.accepted, acceptance.duplicate)
}

/// All ways in which a value goes through four exports: the last one holds, what stays is a repeat, and so is a file that comes again.
#[test]
fn a_value_that_returns_in_a_later_file_is_taken() {
    let cities = ["Rome", "Oslo", "Bern"];
    let all: Vec<Vec<&str>> = (0..81_usize).map(|n| (0..4).map(|k| cities[n / 3_usize.pow(k) % 3]).collect()).collect();
    let bench = Bench::new(vec![]);
    let file = |week: usize| -> Vec<DraftEvent> {
        all.iter().enumerate().map(|(n, way)| row(&format!("u{n}"), format!(r#"{{"city":"{}"}}"#, way[week]))).collect()
    };
    for week in 0..4 {
        let changed = all.iter().filter(|way| week == 0 || way[week] != way[week - 1]).count() as u64;
        assert_eq!(import(&bench, file(week)), (changed, 81 - changed), "week {week}");
        assert_eq!(import(&bench, file(week)), (0, 81), "the same file again");
    }
    for (n, way) in all.iter().enumerate() {
        let profile = bench.profile("user_id", &format!("u{n}")).unwrap();
        assert_eq!(profile.traits["city"].value.json, format!("\"{}\"", way[3]), "{way:?}");
    }
}

/// Several rows of one file about one person are no states one after the other.
#[test]
fn a_file_with_several_rows_about_one_person_is_a_repeat_as_a_whole() {
    let bench = Bench::new(vec![]);
    let rows = |cities: &[&str]| cities.iter().map(|city| row("u1", format!(r#"{{"city":"{city}"}}"#))).collect();
    assert_eq!(import(&bench, rows(&["Rome", "Oslo"])), (2, 0));
    assert_eq!(import(&bench, rows(&["Rome", "Oslo"])), (0, 2));
    assert_eq!(import(&bench, rows(&["Bern"])), (1, 0));
    assert_eq!(import(&bench, rows(&["Rome", "Oslo"])), (2, 0));
    assert_eq!(import(&bench, rows(&["Rome", "Oslo"])), (0, 2));
    assert_eq!(bench.profile("user_id", "u1").unwrap().traits["city"].value.json, "\"Oslo\"");
}

/// A refusal that a file says again, after it has said otherwise, is heard; what a file has said all the time is not said anew.
#[test]
fn a_refusal_that_returns_is_heard_and_one_that_stays_is_none() {
    let news = |answer: bool| row("u1", format!(r#"{{"consent":{{"marketing":{answer}}}}}"#));
    let bench = Bench::new(vec![]);
    import(&bench, vec![news(false)]);
    say(&bench, "yes", "user_id", "u1", true);
    assert_eq!(standing(&bench, "user_id", "u1"), "agreed");
    assert_eq!(import(&bench, vec![news(false)]), (0, 1), "the export has said so all the time");
    assert_eq!(standing(&bench, "user_id", "u1"), "agreed");
    assert_eq!(import(&bench, vec![news(true)]), (1, 0));
    assert_eq!(import(&bench, vec![news(false)]), (1, 0), "it is said again");
    assert_eq!(standing(&bench, "user_id", "u1"), "refused");
    say(&bench, "yes-again", "user_id", "u1", true);
    assert_eq!(import(&bench, vec![news(false)]), (0, 1));
    assert_eq!(standing(&bench, "user_id", "u1"), "agreed");
    // Also where somebody agreed live behind the file's own word.
    assert_eq!(import(&bench, vec![news(true)]), (1, 0));
    say(&bench, "yes-live", "user_id", "u1", true);
    assert_eq!(import(&bench, vec![news(false)]), (1, 0));
    assert_eq!(standing(&bench, "user_id", "u1"), "refused");
}
