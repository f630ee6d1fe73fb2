//! What the identities of a person come to: the strictest, until it is answered.

use proptest::prelude::*;

use super::super::{Dating, Giver, Statement};
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
        dating: Dating::Stated,
    };
    consents.record(&statement);
}

fn row(json: &str, at: i64) -> Consents {
    let mut consents = Consents::default();
    record(&mut consents, json, at);
    consents
}

fn under(number: u8, said: Consents) -> Contributor {
    let (kind, row) = ("user_id".to_owned(), ConsentRow::Said(said));
    Contributor { identity: id(number), kind, form: None, row, beside: None }
}

/// A spelling of one address.
fn spelled(number: u8, said: Consents) -> Contributor {
    let form = Some(Identifier::new("email", "eve@shop.example"));
    Contributor { kind: "email".to_owned(), form, ..under(number, said) }
}

/// A refusal under `Eve@Shop.example` outlived the agreement under `eve@shop.example`, and not the other way round: of all
/// spellings of an address the newest word counts, in whatever order they stand and whoever is beside them.
#[test]
fn an_address_is_one_subject_in_every_spelling() {
    for (refused_by, agreed_by) in [(1_u8, 2_u8), (2, 1), (1, 1), (3, 2)] {
        for (refused_at, agreed_at) in [(1, 2), (2, 1)] {
            for (refused, agreed) in
                [("news", "news"), ("*", "news"), ("news@email", "news@email"), ("news", "news@email")]
            {
                let said = [
                    (refused_by, format!(r#"{{"{refused}":false}}"#), refused_at),
                    (agreed_by, format!(r#"{{"{agreed}":true}}"#), agreed_at),
                ];
                let mut rows: Vec<Consents> = vec![Consents::default(); 4];
                for (number, json, at) in &said {
                    record(&mut rows[usize::from(*number)], json, *at);
                }
                let mut person: Vec<Contributor> =
                    (1..=3_u8).map(|number| spelled(number, rows[usize::from(number)].clone())).collect();
                for _ in 0..person.len() {
                    person.rotate_left(1);
                    let became = is_refused(&person, "mailer", &["email"], ConsentBasis::NotRefused);
                    assert_eq!(became, refused_at > agreed_at, "{said:?}");
                }
            }
        }
    }
    // Another address answers for itself alone, and so does one without a form.
    let other = Contributor {
        form: Some(Identifier::new("email", "bob@shop.example")),
        ..spelled(2, row(r#"{"news":true}"#, 9))
    };
    for beside in [other, Contributor { form: None, ..spelled(2, row(r#"{"news":true}"#, 9)) }] {
        let person = [spelled(1, row(r#"{"news":false}"#, 1)), beside];
        assert!(is_refused(&person, "mailer", &["email"], ConsentBasis::NotRefused));
    }
    // The same of profiling.
    let (no, yes) = (row(r#"{"profiling":false}"#, 1), row(r#"{"profiling":true}"#, 2));
    let answer = |number: u8, said: &'static str, consents| ProfilingAnswer {
        identity: id(number),
        form: Some(Identifier::new("email", said)),
        consent: consents,
    };
    let (no, yes) = (&no.purposes["profiling"], &yes.purposes["profiling"]);
    assert!(!objects(&[answer(1, "eve@shop.example", no), answer(2, "eve@shop.example", yes)]));
    assert!(objects(&[answer(1, "eve@shop.example", no), answer(2, "bob@shop.example", yes)]));
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

/// "Consent for `news` was not given" was all that a delivery said where it was given, through a source that may not give it.
#[test]
fn an_agreement_that_does_not_count_is_told_apart_from_silence() {
    let reason = |person: &[Contributor]| {
        let kinds = BTreeSet::from(["email"]);
        let channel = Channel { name: "hook", kinds: &kinds };
        refusal(person, &Question { purpose: "news", channel, basis: ConsentBasis::OptIn }).unwrap()
    };
    assert_eq!(reason(&[under(1, Consents::default())]), "consent for `news` was not given");
    let mut public = Consents::default();
    public.record(&Statement {
        json: r#"{"news":true}"#,
        time: Timestamp(5),
        received_at: Timestamp(5),
        source: InstallationId(1),
        message_id: "m",
        giver: Giver::RefusesOnly,
        dating: Dating::Stated,
    });
    let said = reason(&[under(1, public)]);
    assert!(said.contains("was not given") && said.contains("--grant-consent give"), "{said}");
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
/// Whoever takes a refusal back by its very key has taken it back for all channels that it held for, under which of a person's
/// identities it ever stands; an agreement it is for those alone that its key is about.
#[test]
fn an_agreement_to_the_very_key_ends_its_refusal_for_every_channel() {
    for key in ["news@email", "*@email", "news@mailer", "*@mailer", "news", "*"] {
        let said = |agrees: bool| format!(r#"{{"{key}":{agrees}}}"#);
        let mut one = row(&said(false), 1);
        record(&mut one, &said(true), 2);
        let two = [under(1, row(&said(false), 1)), under(2, answering(row(&said(true), 2), &[1]))];
        for kinds in [&["email"][..], &["email", "phone"], &["user_id", "anonymous_id", "email"]] {
            for person in [&[under(1, one.clone())][..], &two] {
                assert!(!is_refused(person, "mailer", kinds, ConsentBasis::NotRefused), "{key}, {kinds:?}");
            }
        }
    }
}

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
    let unreadable = Contributor {
        form: None,
        identity: id(1),
        kind: String::new(),
        row: ConsentRow::Unreadable("row version 9".into()),
        beside: None,
    };
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
        assert_eq!(
            objects(
                &own.map(|(identity, consent)| ProfilingAnswer { identity, form: None, consent })
                    .into_iter()
                    .collect::<Vec<_>>()
            ),
            objects_to_it,
            "{said}"
        );
    }
    // An agreement to messages ends no objection.
    let mut said = row(r#"{"profiling":false}"#, 1);
    record(&mut said, r#"{"news":true,"*":true}"#, 2);
    assert!(objection(&[under(1, said.clone())]).is_some());
    record(&mut said, r#"{"profiling":true}"#, 3);
    assert!(objection(&[under(1, said)]).is_none());
}

/// A later `*: true` ends the refusal for what comes afterwards, and revives nothing that was agreed to before it.
#[test]
fn the_end_of_a_refusal_of_everything_revives_nothing() {
    let said = |all: &[(&str, i64)]| {
        let mut consents = Consents::default();
        all.iter().for_each(|(json, at)| record(&mut consents, json, *at));
        [under(1, consents)]
    };
    let (news, off, on) = (r#"{"news":true}"#, r#"{"*":false}"#, r#"{"*":true}"#);
    let (mail_off, mail_on) = (r#"{"*@email":false}"#, r#"{"*@email":true}"#);
    type Said<'a> = &'a [(&'a str, i64)];
    let table: [(Said<'_>, bool, bool); 10] = [
        (&[(news, 1), (off, 2)], false, false),
        (&[(news, 1), (off, 2), (on, 3)], false, true),
        (&[(news, 1), (off, 2), (on, 3), (news, 4)], true, true),
        (&[(off, 2), (on, 3), (news, 1)], false, true),
        (&[(off, 1), (news, 2), (on, 3)], true, true),
        (&[(on, 3), (news, 1), (off, 2)], false, true),
        (&[(news, 1), (on, 3)], true, true),
        (&[(news, 1), ("no", 2), (on, 3)], false, true),
        (&[(news, 1), (mail_off, 2), (mail_on, 3)], false, true),
        (&[(news, 1), (mail_off, 2), (mail_on, 3), (r#"{"news@email":true}"#, 4)], true, true),
    ];
    for (all, opt_in, not_refused) in table {
        let person = said(all);
        let allowed = [ConsentBasis::OptIn, ConsentBasis::NotRefused]
            .map(|basis| !is_refused(&person, "mailer", &["email"], basis));
        assert_eq!(allowed, [opt_in, not_refused], "{all:?}");
    }
    // Through e-mail everything was refused, and no other channel has forgotten what was agreed to.
    assert!(!is_refused(&said(&[(news, 1), (mail_off, 2), (mail_on, 3)]), "texter", &["phone"], ConsentBasis::OptIn));
    // A merged identity that refused everything after the agreement has ended it, too; parted, each has its own again.
    let (user, device) = (under(1, row(news, 5)), said(&[(off, 7), (on, 9)])[0].clone());
    let device = Contributor { identity: id(2), ..device };
    let refused = |person: &[Contributor]| is_refused(person, "mailer", &["email"], ConsentBasis::OptIn);
    assert!(refused(&[user.clone(), device.clone()]) && !refused(std::slice::from_ref(&user)));
    assert!(!refused(&[under(1, row(news, 8)), device]));
    let question = Question {
        purpose: "news",
        channel: Channel { name: "mailer", kinds: &["email"].into() },
        basis: ConsentBasis::OptIn,
    };
    let reason = refusal(&said(&[(news, 1), (off, 2), (on, 3)]), &question).unwrap();
    assert!(reason.contains("before everything was refused"), "{reason}");
}

fn beside(number: u8, beside: Bystander, said: Consents) -> Contributor {
    Contributor { beside: Some(beside), ..under(number, said) }
}

/// A message goes to a mailbox: what another user of it refused holds until that user agrees, or this person's user does after it.
#[test]
fn another_user_of_the_address_refuses_for_the_mailbox_and_agrees_for_nobody() {
    let of_email = || Bystander::User { address: "email".to_owned() };
    let (yes, no) = (r#"{"news":true}"#, r#"{"news":false}"#);
    let own = |at| under(1, row(yes, at));
    let refused = |person: &[Contributor], kinds: &[&str]| is_refused(person, "mailer", kinds, ConsentBasis::OptIn);
    assert!(refused(&[own(10), beside(2, of_email(), row(no, 20))], &["email"]));
    assert!(refused(&[own(10), beside(2, of_email(), row(r#"{"*@email":false}"#, 20))], &["email"]));
    assert!(!refused(&[own(10), beside(2, of_email(), row(no, 20))], &["phone"]), "it goes to another address");
    assert!(!refused(&[own(10), beside(2, of_email(), row(r#"{"news@phone":false}"#, 20))], &["email"]));
    assert!(!refused(&[own(30), beside(2, of_email(), row(no, 20))], &["email"]), "the newest word of its users");
    let mut again = row(no, 20);
    record(&mut again, yes, 25);
    assert!(!refused(&[own(10), beside(2, of_email(), again)], &["email"]));
    // Under a device or an address one answers for oneself alone.
    let device = Contributor { kind: "anonymous_id".to_owned(), ..own(30) };
    assert!(refused(&[device, beside(2, of_email(), row(no, 20))], &["email"]));
    for who in [of_email(), Bystander::Address] {
        assert!(refused(&[under(1, Consents::default()), beside(2, who.clone(), row(yes, 20))], &["email"]), "{who:?}");
    }
    // Parted again, a user answers no more for whom he was one with.
    let refuses = under(1, row(no, 10));
    let once_one = answering(row(yes, 20), &[1]);
    assert!(!refused(&[refuses.clone(), under(2, once_one.clone())], &["email"]));
    assert!(refused(&[refuses, beside(2, of_email(), once_one)], &["email"]));
    // Whether something is computed of the person is theirs to say.
    let objects = row(r#"{"profiling":false}"#, 20);
    let person = [own(10), beside(2, of_email(), objects.clone())];
    assert!(objection(&person).is_none());
    assert!(matches!(explained(&person).as_slice(), [(_, Why::Holds)]));
    assert!(objection(&[own(10), beside(2, Bystander::Address, objects)]).is_some());
}

fn explained(person: &[Contributor]) -> Vec<(Answer<'_>, Why<'_>)> {
    let mut explained = Explained::of(person);
    (0..explained.answers().len()).map(|place| (explained.answers()[place], explained.why(place))).collect()
}

/// The naive answer, which looks at all answers for each.
fn naively_explained(person: &[Contributor]) -> Vec<(Answer<'_>, Why<'_>)> {
    let is_of_others = |answer: &Answer<'_>| is_of_another(answer) && answer.key == PROFILING;
    let answers: Vec<Answer<'_>> = answers(person).into_iter().filter(|answer| !is_of_others(answer)).collect();
    let why = |answer: &Answer<'_>| {
        if answer.consent.refused.is_some() {
            let ending: Vec<Answer<'_>> = answers.iter().filter(|other| other.ends(answer)).copied().collect();
            return match ending.iter().find(|other| other.key == answer.key) {
                Some(own) => Why::EndedBy(*own),
                None if ending.is_empty() => Why::Holds,
                None => Why::HoldsBut(ending),
            };
        }
        let is_wider = |key: &str| covers(answer.key, key) && (answer.key != PROFILING || key == PROFILING);
        if let Some(refusal) = unanswered(&answers, is_wider, is_wider) {
            return Why::OverruledBy(*refusal);
        }
        if is_of_everything(answer.key) {
            return Why::AgreesToNothing;
        }
        ender(person, answer, is_wider).map_or(Why::Holds, Why::EndedByEverything)
    };
    answers.iter().map(|answer| (*answer, why(answer))).collect()
}

/// The reasons say the same as the gate: an agreement to a purpose holds exactly where a message for it may leave.
fn check_reasons(person: &[Contributor]) -> Result<(), TestCaseError> {
    let explained = explained(person);
    prop_assert_eq!(&explained, &naively_explained(person));
    let holds = explained.iter().any(|(answer, why)| {
        answer.consent.refused.is_none() && matches!(answer.key, "news" | "news@email") && *why == Why::Holds
    });
    let may_leave = !is_refused(person, "mailer", &["email"], ConsentBasis::OptIn);
    prop_assert!(!may_leave || holds, "{:?}", explained);
    let stands = explained.iter().any(|(answer, why)| {
        answer.consent.refused.is_some() && matches!(answer.key, "news" | "news@email") && *why == Why::Holds
    });
    prop_assert!(!(stands && may_leave), "{:?}", explained);
    Ok(())
}

proptest! {
    /// The naive answer of one identity whose statements have their own time, as those that are imported: in whatever order
    /// they come, a message may leave if every refusal is answered by something newer, and something that names the purpose is
    /// newer than every refusal of everything.
    #[test]
    fn neither_order_nor_the_end_of_a_refusal_revives_an_agreement(
        said in prop::collection::vec((0usize..5, any::<bool>(), 0i64..6), 1..9),
        order in prop::collection::vec(any::<u32>(), 9),
    ) {
        const KEYS: [&str; 5] = ["*", "*@email", "news", "news@email", "ads"];
        let person = |all: &[(usize, bool, i64)]| {
            let mut consents = Consents::default();
            for (key, allows, at) in all {
                record(&mut consents, &format!(r#"{{"{}":{allows}}}"#, KEYS[*key]), *at);
            }
            [under(1, consents)]
        };
        let mut shuffled: Vec<_> = said.iter().copied().zip(order).collect();
        shuffled.sort_by_key(|(_, place)| *place);
        let shuffled: Vec<_> = shuffled.into_iter().map(|(said, _)| said).collect();
        let refused = |all: &[(usize, bool, i64)], basis| is_refused(&person(all), "mailer", &["email"], basis);
        let answers = [ConsentBasis::OptIn, ConsentBasis::NotRefused].map(|basis| refused(&said, basis));
        prop_assert_eq!(answers, [ConsentBasis::OptIn, ConsentBasis::NotRefused].map(|basis| refused(&shuffled, basis)));
        let about: Vec<_> = said.iter().filter(|(key, ..)| *key < 4).collect();
        let stands = about.iter().filter(|(_, allows, _)| !allows).any(|(refused, _, since)| {
            !about.iter().any(|(agreed, allows, at)| *allows && at > since && covers(KEYS[*agreed], KEYS[*refused]))
        });
        let agreed = about.iter().filter(|(key, allows, _)| *allows && *key >= 2).any(|(_, _, at)| {
            about.iter().all(|(key, allows, since)| *allows || *key >= 2 || at > since)
        });
        prop_assert_eq!(answers, [stands || !agreed, stands]);
        check_reasons(&person(&said))?;
    }

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
