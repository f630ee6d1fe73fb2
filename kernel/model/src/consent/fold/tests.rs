//! What the identities of a person come to: the strictest, until it is answered.

use proptest::prelude::*;

use super::super::{Giver, Statement};
use super::*;
use crate::id::InstallationId;
use crate::time::Timestamp;

fn id(number: u8) -> SourceIdentityId {
    SourceIdentityId([number; 16])
}

/// Statements about the person are told by number of the identity, text and time.
fn record(consents: &mut Consents, json: &str, at: i64) {
    let at = Timestamp(at);
    let statement = Statement {
        json,
        time: at,
        received_at: at,
        source: InstallationId(1),
        message_id: &at.0.to_string(),
        giver: Giver::MayAgree,
    };
    consents.record(&statement);
}

fn row(json: &str, at: i64) -> Consents {
    let mut consents = Consents::default();
    record(&mut consents, json, at);
    consents
}

fn under(number: u8, said: Consents) -> Contributor {
    Contributor { identity: id(number), kind: "user_id".to_owned(), row: ConsentRow::Said(said) }
}

/// An agreement that was given while these others were the same person.
fn answering(mut said: Consents, others: &[u8]) -> Consents {
    for consent in said.all.iter_mut().chain(said.purposes.values_mut()) {
        consent.answers = others.iter().map(|other| id(*other)).collect();
    }
    said
}

fn is_refused(person: &[Contributor], name: &str, kinds: &[&str], basis: ConsentBasis) -> bool {
    let kinds: BTreeSet<&str> = kinds.iter().copied().collect();
    let question = Question { purpose: "news", channel: Channel { name, kinds: &kinds }, basis };
    refusal(person, &question).is_some()
}

#[test]
fn a_key_for_a_channel_is_about_that_channel_alone() {
    for (said, mailer, texter, hook) in [
        (r#"{"news@email":false}"#, true, false, true),
        (r#"{"news@mailer":false}"#, true, false, false),
        (r#"{"*@email":false}"#, true, false, true),
        (r#"{"news@sms":false}"#, false, false, false),
        (r#"{"*":false}"#, true, true, true),
        (r#"{"ads@email":false}"#, false, false, false),
    ] {
        let person = [under(1, row(said, 1))];
        let refused = [("mailer", &["email"][..]), ("texter", &["phone"]), ("hook", &["email", "phone"])]
            .map(|(name, kinds)| is_refused(&person, name, kinds, ConsentBasis::NotRefused));
        assert_eq!(refused, [mailer, texter, hook], "{said}");
    }
    for (said, mailer, texter, hook) in [
        (r#"{"news":true}"#, true, true, true),
        (r#"{"news@email":true}"#, true, false, false),
        (r#"{"news@hook":true}"#, false, false, true),
        (r#"{"*":true}"#, false, false, false),
        (r#"{"*@email":true}"#, false, false, false),
    ] {
        let person = [under(1, row(said, 1))];
        let allowed = [("mailer", &["email"][..]), ("texter", &["phone"]), ("hook", &["email", "phone"])]
            .map(|(name, kinds)| !is_refused(&person, name, kinds, ConsentBasis::OptIn));
        assert_eq!(allowed, [mailer, texter, hook], "{said}");
    }
}

/// Two who said different things become one person: the refusal holds until it is answered as that person, and each has its own
/// answers again when they are parted.
#[test]
fn after_a_merge_the_strictest_holds_until_it_is_answered() {
    let device = under(1, row(r#"{"news":false}"#, 10));
    let before = under(2, row(r#"{"news":true}"#, 20));
    let since = under(2, answering(row(r#"{"news":true}"#, 30), &[1]));
    let refused = |person: &[Contributor]| is_refused(person, "hook", &["email"], ConsentBasis::OptIn);
    assert!(refused(&[device.clone(), before.clone()]), "nobody has answered it as one person");
    assert!(!refused(&[device.clone(), since.clone()]));
    assert!(
        refused(std::slice::from_ref(&device)) && !refused(&[before]) && !refused(std::slice::from_ref(&since)),
        "parted"
    );
    // Another one who refused comes later, or refuses again.
    assert!(refused(&[device, since.clone(), under(3, row(r#"{"news":false}"#, 5))]));
    assert!(refused(&[under(1, row(r#"{"news":false}"#, 40)), since]));
}

#[test]
fn what_cannot_be_read_refuses_and_objects() {
    let unreadable =
        Contributor { identity: id(1), kind: String::new(), row: ConsentRow::Unreadable("row version 9".into()) };
    let person = [unreadable, under(2, answering(row(r#"{"news":true,"profiling":true}"#, 9), &[1]))];
    assert!(is_refused(&person, "hook", &["email"], ConsentBasis::NotRefused));
    assert!(objection(&person).is_some());
}

#[test]
fn only_a_refusal_of_profiling_by_its_name_is_an_objection() {
    for (said, objects_to_it) in [
        (r#"{"profiling":false}"#, true),
        (r#"{"Profiling":"no"}"#, true),
        (r#"{"profiling":true}"#, false),
        (r#"{"*":false}"#, false),
        ("false", false),
        (r#"{"news":false}"#, false),
    ] {
        let person = [under(1, row(said, 1))];
        assert_eq!(objection(&person).is_some(), objects_to_it, "{said}");
        let ConsentRow::Said(consents) = &person[0].row else { panic!("it is readable") };
        let own = consents.purposes.get(PROFILING).map(|consent| (id(1), consent));
        assert_eq!(objects(own.into_iter()), objects_to_it, "{said}");
    }
    // An agreement to messages ends no objection.
    let mut said = row(r#"{"profiling":false}"#, 1);
    record(&mut said, r#"{"news":true,"*":true}"#, 2);
    assert!(objection(&[under(1, said.clone())]).is_some());
    record(&mut said, r#"{"profiling":true}"#, 3);
    assert!(objection(&[under(1, said)]).is_none());
}

proptest! {
    /// The naive answer: a refusal stands unless some agreement to the same or a more definite key of the channel is newer, and
    /// is of the same identity or answers it.
    #[test]
    fn a_refusal_stands_unless_it_is_answered(
        said in prop::collection::vec((0u8..3, 0usize..6, any::<bool>(), any::<bool>()), 1..8),
    ) {
        const KEYS: [&str; 6] = ["*", "*@email", "news", "news@email", "news@sms", "ads"];
        let mut people: Vec<Consents> = vec![Consents::default(); 3];
        for (at, (who, key, allows, answers)) in (1..).zip(&said) {
            let mut given = people[usize::from(*who)].clone();
            record(&mut given, &format!(r#"{{"{}":{allows}}}"#, KEYS[*key]), at);
            if *allows && *answers {
                given.agreement_mut(KEYS[*key]).unwrap().answers = (0..3).filter(|other| other != who).map(id).collect();
            }
            people[usize::from(*who)] = given;
        }
        let person: Vec<Contributor> = (0..).zip(&people).map(|(who, said)| under(who, said.clone())).collect();
        let level = |key: usize| match KEYS[key] { "*" => (0, 0), "*@email" => (0, 1), "news" => (1, 0), _ => (1, 1) };
        let matters = |key: usize| !matches!(KEYS[key], "news@sms" | "ads");
        // Of each identity and key the last alone is there.
        let last = |index: usize| {
            let (who, key, ..) = said[index];
            said[index + 1..].iter().all(|(other, other_key, ..)| (*other, *other_key) != (who, key))
        };
        let here: Vec<usize> = (0..said.len()).filter(|index| last(*index) && matters(said[*index].1)).collect();
        let stands = here.iter().filter(|index| !said[**index].2).any(|refused| {
            let (who, key, ..) = said[*refused];
            !here.iter().any(|index| {
                let (other, other_key, allows, answers) = said[*index];
                let (wide, definite) = (level(key), level(other_key));
                allows && index > refused && (other == who || answers) && definite.0 >= wide.0 && definite.1 >= wide.1
            })
        });
        prop_assert_eq!(is_refused(&person, "mailer", &["email"], ConsentBasis::NotRefused), stands);
    }
}
