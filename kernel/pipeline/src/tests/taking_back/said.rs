//! What people said comes to what it would have come to without the events that are taken back, but for what these refused.

use kith_model::consent::Giver;
use kith_model::event::DraftEvent;
use kith_model::time::Clock;

use super::*;
use crate::{Arrival, RuleChange};

/// Say something under an identifier, a second after what was said before.
fn says(bench: &Bench, id: &str, who: (&str, &str), traits: &str) {
    bench.clock.advance_ms(1_000);
    bench.send(vec![identify(id, &[who], traits, bench.clock.now())]);
}

/// The agreements of a person, with the events that gave them and how many others each answers.
fn agreements(bench: &Bench, kind: &str, value: &str) -> Vec<(String, String, usize)> {
    let profile = bench.profile(kind, value).unwrap();
    let said = profile.consents.iter().flat_map(|(_, said)| said.answers());
    let agreed = said.filter(|(_, consent)| consent.refused.is_none());
    agreed.map(|(key, consent)| (key.to_owned(), consent.message_id.clone(), consent.answers.len())).collect()
}

fn fact(bench: &Bench, user: &str, name: &str) -> Option<String> {
    bench.profile("user_id", user)?.traits.get(name).map(|held| held.value.json.clone())
}

/// An agreement that counted again answered nobody any more.
#[test]
fn an_agreement_that_counts_again_answers_whom_it_had_answered() {
    let bench = Bench::new(vec![]);
    says(&bench, "a", ("anonymous_id", "d1"), r#"{"consent":{"news":false}}"#);
    bench.send(vec![event("tie", &[("user_id", "u1"), ("anonymous_id", "d1")], "Seen", START)]);
    says(&bench, "b", ("user_id", "u1"), r#"{"consent":{"news":true}}"#);
    read_by(&bench, BAD);
    says(&bench, "c", ("user_id", "u1"), r#"{"consent":{"news":true}}"#);
    read_by(&bench, GOOD);
    let agreed = |id: &str| vec![("news".to_owned(), id.to_owned(), 1)];
    assert_eq!(agreements(&bench, "user_id", "u1"), agreed("c"));
    take_back(&bench, 1);
    assert_eq!(agreements(&bench, "user_id", "u1"), agreed("b"));
}

/// Who was heard under the normal form of an address, without being one person with it, was counted as before until a restart.
#[test]
fn who_objects_under_the_form_of_an_address_is_known_at_once() {
    let condition = "events('Order Completed').size() == 1";
    let store = Arc::new(kith_store::memory());
    let mut bench = Bench::over(store, vec![audience(1, condition, None)], |setup| {
        setup.identity_rules.unfollowed.insert("spelling:email".to_owned());
    });
    let size = |bench: &Bench| {
        bench.settle();
        bench.size(1)
    };
    bench.send(vec![event("o", &[("email", "ada@x.io")], "Order Completed", START)]);
    assert_eq!(size(&bench), Some(1));
    let spelled = ("email", "Ada@X.io");
    says(&bench, "a", spelled, r#"{"consent":{"profiling":false},"consent":{"news":true}}"#);
    assert_eq!(size(&bench), Some(0));
    read_by(&bench, BAD);
    says(&bench, "b", spelled, r#"{"consent":{"profiling":true}}"#);
    read_by(&bench, GOOD);
    assert_eq!(size(&bench), Some(1));
    take_back(&bench, 1);
    assert_eq!(size(&bench), Some(0), "the objection holds again");
    bench.restart();
    assert_eq!(size(&bench), Some(0));
}

/// What was heard under a form of earlier rules stayed agreed to there.
#[test]
fn an_agreement_is_taken_back_where_it_was_heard_under_the_rules_of_then() {
    let bench = Bench::new(vec![]);
    let spelled = ("email", "Ada@X.io");
    let rules = |bench: &Bench, change: &dyn Fn(&mut kith_model::identity::IdentityRules)| {
        bench.configure(|setup| change(&mut setup.identity_rules));
        let is_tied = || matches!(bench.kernel.rule_change(WORKSPACE), Ok(RuleChange::Done(_)));
        bench.wait_until("history is tied", is_tied);
        bench.settle();
    };
    says(&bench, "a", spelled, r#"{"consent":{"news":false}}"#);
    read_by(&bench, BAD);
    says(&bench, "b", spelled, r#"{"consent":{"news":true}}"#);
    read_by(&bench, GOOD);
    rules(&bench, &|rules| drop(rules.types.remove("email")));
    take_back(&bench, 1);
    rules(&bench, &|rules| *rules = Default::default());
    let refused = ("news".to_owned(), true);
    assert_eq!(held_by_each(&bench, "email", "Ada@X.io"), [refused.clone(), refused]);
}

/// A source that repeats the ids of its messages had what might not agree agree, once another message of that id might.
#[test]
fn a_message_has_no_right_of_another_one_with_its_id() {
    let bench = Bench::new(vec![]);
    // What the source itself was granted comes to what a key may.
    bench.configure(|setup| setup.installations[0].giver = Giver::RefusesOnly);
    let send_as = |giver: Giver, traits: &str| {
        let request = bench.request(vec![identify("x", &[("user_id", "u1")], traits, bench.clock.now())]);
        let sent = bench.kernel.receive(WORKSPACE, SOURCE, request, Arrival { giver, ..LIVE });
        assert_eq!(bench.wait_for(sent).unwrap().acceptance.accepted, 1);
    };
    send_as(Giver::RefusesOnly, r#"{"consent":{"news":true}}"#);
    bench.clock.advance_ms(9 * DAY);
    send_as(Giver::MayAgree, r#"{"consent":{"post":true}}"#);
    read_by(&bench, BAD);
    says(&bench, "b", ("user_id", "u1"), r#"{"consent":{"news":true}}"#);
    read_by(&bench, GOOD);
    bench.settle();
    take_back(&bench, 1);
    assert_eq!(agreements(&bench, "user_id", "u1"), [("post".to_owned(), "x".to_owned(), 0)]);
}

/// A name that was written with escapes was overlooked, and what had refused was no trait any more once something else was said.
#[test]
fn a_consent_is_one_however_it_is_written_and_what_refused_stays_a_trait() {
    let bench = Bench::new(vec![]);
    read_by(&bench, BAD);
    says(&bench, "a", ("user_id", "u1"), r#"{"\u0063onsent":{"news":true}}"#);
    says(&bench, "b", ("user_id", "u2"), r#"{"consent":{"calls":false}}"#);
    says(&bench, "c", ("user_id", "u2"), r#"{"consent":{"news":true}}"#);
    read_by(&bench, GOOD);
    bench.settle();
    assert_eq!(agreements(&bench, "user_id", "u1").len(), 1);
    let taken_back = take_back(&bench, 1);
    assert_eq!((taken_back.events, taken_back.agreeing, taken_back.refusing), (3, 2, 1));
    assert_eq!([agreements(&bench, "user_id", "u1"), agreements(&bench, "user_id", "u2")], [vec![], vec![]]);
    assert_eq!(fact(&bench, "u1", "consent"), None);
    assert_eq!(fact(&bench, "u2", "consent").as_deref(), Some(r#"{"calls":false}"#));
}

/// A refusal of history was dated by its receipt, so that it ended what was agreed to since.
#[test]
fn what_history_refused_keeps_its_time() {
    let bench = Bench::new(vec![]);
    let imports = |version: &str, id: &str, days: i64, said: &str| {
        read_by(&bench, version);
        let traits = format!(r#"{{"consent":{{"news":{said}}}}}"#);
        let time = Timestamp(START.0 - days * DAY);
        assert_eq!(
            bench.try_import(vec![identify(id, &[("user_id", "u1")], &traits, time)]).unwrap().acceptance.accepted,
            1
        );
    };
    imports(BAD, "a", 300, "false");
    imports(GOOD, "b", 200, "true");
    imports(BAD, "c", 100, "true");
    read_by(&bench, GOOD);
    bench.settle();
    take_back(&bench, 1);
    assert_eq!(agreements(&bench, "user_id", "u1"), [("news".to_owned(), "b".to_owned(), 0)]);
}

/// A row of a file that counted because another version read it as well was new when it came again, and counted twice.
#[test]
fn a_row_that_another_version_read_as_well_is_known_still() {
    let bench = Bench::new(vec![]);
    let import = |version: &str, row: &str, city: &str| {
        bench.clock.advance_ms(1_000);
        read_by(&bench, version);
        let traits = format!(r#"{{"city":"{city}"}}"#);
        let row = identify(&format!("kith-row-{row}"), &[("user_id", "u1")], &traits, START);
        let taken = bench.try_import(vec![DraftEvent { time: None, ..row }]).unwrap().acceptance;
        bench.settle();
        (taken.accepted, taken.duplicate)
    };
    assert_eq!(import(BAD, "a", "Rome"), (1, 0));
    assert_eq!(import(BAD, "b", "Oslo"), (1, 0));
    assert_eq!(import(GOOD, "a", "Rome"), (1, 0), "the city was another one meanwhile");
    assert_eq!(take_back(&bench, 1).events, 2);
    assert_eq!(fact(&bench, "u1", "city").as_deref(), Some("\"Rome\""));
    assert_eq!(import(GOOD, "a", "Rome"), (0, 1));
    assert_eq!(import(GOOD, "b", "Oslo"), (1, 0), "what was taken back alone may come again");
}

/// A fact that had found no room was lost, also when those were gone that had taken it.
#[test]
fn facts_find_the_room_that_is_free_again() {
    let bench = Bench::new(vec![audience(1, "has(traits.city)", None)]);
    read_by(&bench, BAD);
    for part in 0..2 {
        let traits: Vec<String> = (0..500).map(|number| format!(r#""t{part}-{number}":1"#)).collect();
        bench.send(vec![identify(
            &format!("b{part}"),
            &[("user_id", "u1")],
            &format!("{{{}}}", traits.join(",")),
            START,
        )]);
    }
    read_by(&bench, GOOD);
    says(&bench, "a", ("user_id", "u1"), r#"{"city":"Oslo"}"#);
    assert_eq!((fact(&bench, "u1", "city"), bench.size(1)), (None, Some(0)));
    assert_eq!(take_back(&bench, 1).events, 2);
    assert_eq!((fact(&bench, "u1", "city").as_deref(), bench.size(1)), (Some("\"Oslo\""), Some(1)));
    assert_eq!(bench.profile("user_id", "u1").unwrap().traits.len(), 1);
}
