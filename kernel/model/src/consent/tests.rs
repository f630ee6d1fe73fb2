//! What one identity said: by key, by time, and by who may say it.

use proptest::prelude::*;

use super::*;

/// A statement of a source that may agree.
fn said(json: &str, time: i64, received_at: i64) -> Statement<'_> {
    Statement {
        json,
        time: Timestamp(time),
        received_at: Timestamp(received_at),
        source: InstallationId(1),
        message_id: "m",
        giver: Giver::MayAgree,
        dating: Dating::Stated,
    }
}

fn had_room(heard: &[AnswerOutcome]) -> bool {
    heard.iter().all(|answer| !matches!(answer.outcome, Outcome::NoRoom | Outcome::NameTooLong))
}

fn recorded(all: &[(&str, i64)]) -> Consents {
    let mut consents = Consents::default();
    for (json, at) in all {
        assert!(had_room(&consents.record(&said(json, *at, *at))));
    }
    consents
}

/// The answer that counts for a purpose, as the fold of one identity gives it.
fn is_allowed(consents: &Consents, purpose: &str) -> Option<bool> {
    let (own, all) = (consents.purposes.get(&reading(purpose)), consents.all.as_ref());
    let counts = match (own, all.filter(|all| all.refused.is_some())) {
        (Some(own), Some(all)) if !own.counts_against(all) => Some(all),
        (None, all) => all,
        (own, _) => own,
    };
    counts.map(|consent| consent.refused.is_none())
}

#[test]
fn a_refusal_holds_until_its_own_purpose_is_allowed() {
    let consents = recorded(&[(r#"{"news":false}"#, 1), (r#"{"ads":true}"#, 2), (r#"{"ads":false}"#, 3)]);
    assert_eq!((is_allowed(&consents, "news"), is_allowed(&consents, "ads")), (Some(false), Some(false)));
    let later = recorded(&[(r#"{"news":false,"ads":true}"#, 1), (r#"{"News":true}"#, 2)]);
    assert_eq!((is_allowed(&later, "NEWS"), is_allowed(&later, "ads")), (Some(true), Some(true)));
    assert_eq!(is_allowed(&later, "other"), None);
}

#[test]
fn a_refusal_of_everything_holds_until_a_purpose_is_allowed_by_name() {
    for everything in ["false", "null", r#""no""#, "true", "[]", "{not json", "", r#"{"*":false}"#] {
        let consents = recorded(&[(r#"{"ads":true}"#, 1), (everything, 2), (r#"{"news":true}"#, 3)]);
        let all = ["news", "ads", "other"].map(|purpose| is_allowed(&consents, purpose));
        assert_eq!(all, [Some(true), Some(false), Some(false)], "{everything}");
    }
}

#[test]
fn an_agreement_that_is_older_than_a_refusal_allows_nothing_when_it_comes_late() {
    let record = |all: &[(&str, i64, i64)]| {
        let mut consents = Consents::default();
        all.iter().for_each(|(json, time, received_at)| {
            consents.record(&said(json, *time, *received_at));
        });
        is_allowed(&consents, "news")
    };
    let (yes, no) = (r#"{"news":true}"#, r#"{"news":false}"#);
    assert_eq!(record(&[(no, 20, 21), (yes, 10, 22)]), Some(false));
    assert_eq!(record(&[("false", 20, 21), (yes, 10, 22)]), Some(false));
    assert_eq!(record(&[(no, 20, 21), (no, 5, 22), (yes, 10, 23)]), Some(false));
    assert_eq!(record(&[(no, 20, 21), (yes, 20, 22)]), Some(false));
    assert_eq!(record(&[(no, 20, 21), (yes, 21, 22)]), Some(true));
    // What allowed goes on allowing, whatever old agreement follows.
    assert_eq!(record(&[("false", 20, 21), (yes, 30, 32), (yes, 10, 33)]), Some(true));
    // A refusal that comes late counts: nobody knows what was said last.
    assert_eq!(record(&[(yes, 30, 31), (no, 20, 32)]), Some(false));
}

/// No clock that is ahead decides: the earlier of the event's time and its receipt counts.
#[test]
fn an_agreement_of_the_future_is_one_of_the_moment_in_which_it_came() {
    let mut consents = Consents::default();
    consents.record(&said(r#"{"news":true}"#, 1_000_000, 10));
    assert_eq!(consents.purposes["news"].time, Timestamp(10));
    consents.record(&said(r#"{"news":false}"#, 20, 20));
    assert_eq!(is_allowed(&consents, "news"), Some(false));
    // A refusal whose clock is ahead is answered by what comes after it.
    consents.record(&said(r#"{"news":false}"#, 1_000_000, 30));
    consents.record(&said(r#"{"news":true}"#, 40, 40));
    assert_eq!(is_allowed(&consents, "news"), Some(true));
}

/// Imported by a source that may agree, a statement takes its place by its own time, whichever way it comes.
#[test]
fn history_takes_its_place_by_its_own_time() {
    let (yes, no) = (r#"{"news":true}"#, r#"{"news":false}"#);
    let all = [said(yes, 10, 10), said(no, 20, 20), said(yes, 30, 30)];
    for order in [[0, 1, 2], [0, 2, 1], [1, 0, 2], [1, 2, 0], [2, 0, 1], [2, 1, 0]] {
        let mut consents = Consents::default();
        for index in order {
            consents.record(&all[index]);
        }
        assert_eq!(is_allowed(&consents, "news"), Some(true), "{order:?}");
    }
}

/// A CRM exports "yes" again after somebody unsubscribed by a link: the row has no time, and what it agrees to ends nothing. What it
/// refuses counts, and where nothing was refused its agreement does.
#[test]
fn an_agreement_of_an_unknown_time_ends_no_refusal_whatever_the_order() {
    let undated = |json, received_at| Statement { dating: Dating::Unknown, ..said(json, received_at, received_at) };
    let (yes, no) = (r#"{"news":true}"#, r#"{"news":false}"#);
    for (all, expected) in [
        (vec![undated(yes, 10)], true),
        (vec![undated(yes, 10), undated(yes, 30)], true),
        (vec![undated(yes, 10), said(no, 20, 20), undated(yes, 30)], false),
        (vec![undated(yes, 10), said(r#"{"*":false}"#, 20, 20), undated(yes, 30)], false),
        (vec![undated(yes, 10), said("false", 20, 20), undated(r#"{"*":true,"news":true}"#, 30)], false),
        (vec![undated(no, 10), undated(yes, 30)], false),
        (vec![said(yes, 10, 10), undated(no, 20)], false),
        (vec![undated(no, 10), said(yes, 20, 20), undated(yes, 30)], true),
        (vec![said(no, 10, 10), said(yes, 20, 20), undated(yes, 5)], true),
    ] {
        for turn in 0..all.len() {
            let mut consents = Consents::default();
            for index in 0..all.len() {
                consents.record(&all[(index + turn) % all.len()]);
            }
            assert_eq!(is_allowed(&consents, "news"), Some(expected), "{all:?} from {turn}");
        }
    }
}

#[test]
fn a_source_that_may_not_agree_refuses_and_ends_nothing() {
    let mut consents = Consents::default();
    let public = |json| Statement { giver: Giver::RefusesOnly, ..said(json, 5, 5) };
    let heard = consents.record(&public(r#"{"news":true,"ads":false}"#));
    let outcomes: Vec<Outcome> = heard.iter().map(|answer| answer.outcome).collect();
    assert_eq!(outcomes, [Outcome::SourceMayNotAgree, Outcome::Counted]);
    assert_eq!((is_allowed(&consents, "news"), is_allowed(&consents, "ads")), (None, Some(false)));
    let late = Statement { time: Timestamp(9), received_at: Timestamp(9), ..public(r#"{"ads":true,"*":true}"#) };
    assert!(consents.record(&late).iter().all(|answer| answer.outcome == Outcome::SourceMayNotAgree));
    assert_eq!(is_allowed(&consents, "ads"), Some(false));
}

#[test]
fn a_text_that_names_a_purpose_twice_refuses_it() {
    for json in [
        r#"{"news":false,"news":true}"#,
        r#"{"news":true,"NEWS":0}"#,
        r#"{"n\u0065ws":false,"news":true}"#,
        r#"{" news\t":false,"news":true}"#,
    ] {
        assert_eq!(is_allowed(&recorded(&[(json, 1)]), "news"), Some(false), "{json}");
    }
}

#[test]
fn what_a_text_refuses_is_read_out_of_it() {
    for (json, refused) in [
        (r#"{"news":true}"#, None),
        ("{}", None),
        (r#"{"news":true,"ads":false,"a\"b":"no"}"#, Some(r#"{"ads":false,"a\"b":"no"}"#)),
        (r#"{"news":true,"news":false}"#, Some(r#"{"news":false}"#)),
        ("false", Some("false")),
        ("\"no\"", Some("\"no\"")),
    ] {
        assert_eq!(refusal(json).as_deref(), refused, "{json}");
    }
    let long = format!(r#"{{"news":"{}"}}"#, "x".repeat(70_000));
    assert_eq!(refusal(&long).as_deref(), Some("false"));
}

#[test]
fn what_finds_no_room_allows_nothing() {
    let mut consents = Consents::default();
    for number in 0..MAX_PURPOSES {
        assert!(had_room(&consents.record(&said(&format!(r#"{{"p{number}":true}}"#), 1, 1))));
    }
    assert!(!had_room(&consents.record(&said(r#"{"more":true}"#, 2, 2))));
    assert_eq!((is_allowed(&consents, "more"), is_allowed(&consents, "p1")), (None, Some(true)));
    assert!(!had_room(&consents.record(&said(r#"{"more":false}"#, 3, 3))));
    assert_eq!((is_allowed(&consents, "more"), is_allowed(&consents, "p1")), (Some(false), Some(false)));
    assert!(had_room(&consents.record(&said(r#"{"p1":true}"#, 4, 4))));
    assert_eq!(is_allowed(&consents, "p1"), Some(true));
    let long = format!(r#"{{"{}":{{"a":"{}"}}}}"#, "p".repeat(MAX_PURPOSE_BYTES + 1), "x".repeat(10_000));
    assert!(!had_room(&consents.record(&said(&long, 5, 5))));
    assert!(had_room(&consents.record(&said(&format!("\"{}\"", "é".repeat(10_000)), 6, 6))));
    assert!(consents.size_bytes() < 16 << 10);
    let many: Vec<String> = (0..1_000).map(|number| format!("\"k{number}\":false")).collect();
    assert_eq!(consents.record(&said(&format!("{{{}}}", many.join(",")), 7, 7)).len(), MAX_HEARD);
    assert_eq!(consents.purposes.len(), MAX_PURPOSES);
}

#[test]
fn an_agreement_answers_its_own_key_and_wider_ones() {
    for (agreed, refused, answers) in [
        ("news", "news", true),
        ("news", "*", true),
        ("news@email", "news", true),
        ("news@email", "*", true),
        ("news@email", "*@email", true),
        ("*@email", "*", true),
        ("*", "*", true),
        ("*", "news", false),
        ("news", "news@email", false),
        ("news", "*@email", false),
        ("news@sms", "news@email", false),
        ("ads", "news", false),
        ("*", "profiling", false),
        ("*@email", "news@email", false),
    ] {
        assert_eq!(covers(agreed, refused), answers, "{agreed} and {refused}");
    }
    assert_eq!(reading(" News @ E-Mail "), "news@e-mail");
}

/// Spellings of a key that read as it: one place of each is written otherwise.
fn disguised(key: &str) -> Vec<String> {
    let unseen = [
        '\u{200b}',
        '\u{200c}',
        '\u{200d}',
        '\u{2060}',
        '\u{feff}',
        '\u{ad}',
        '\u{202e}',
        '\u{e0061}',
        '\u{7}',
        '\u{2800}',
        '\u{e000}',
        '\u{fdd0}',
        '\u{10ffff}',
    ];
    let look_alikes: [(char, &[char]); 15] = [
        ('a', &['а', 'α', 'ａ', '𝐚', 'А']),
        ('c', &['с', 'ⅽ', 'ｃ', 'ϲ', 'Ϲ', 'С']),
        ('g', &['ԍ', 'Ԍ', 'ｇ']),
        ('e', &['е', 'ｅ', '𝖾', 'Е', 'Ε']),
        ('i', &['і', 'ι', 'ı', 'İ', 'ⅰ']),
        ('k', &['к', 'κ', 'К']),
        ('m', &['М', 'Μ', 'ｍ', 'ⅿ']),
        ('n', &['ｎ', '𝗇', 'Ν', '𝚴']),
        ('o', &['о', 'ο', 'О', 'ｏ']),
        ('p', &['р', 'ρ', 'Р', 'Ρ']),
        ('s', &['ѕ', 'ｓ', 'ſ']),
        ('t', &['Т', 'τ', 'ｔ', 'Τ']),
        ('y', &['у', 'Υ', 'У', 'Ү']),
        ('*', &['＊', '∗']),
        ('@', &['＠', '﹫']),
    ];
    let mut spellings = Vec::new();
    for (place, letter) in key.char_indices() {
        let (before, after) = (&key[..place], &key[place + letter.len_utf8()..]);
        spellings.extend(unseen.iter().map(|unseen| format!("{before}{unseen}{letter}{after}")));
        let others = look_alikes.iter().find(|(plain, _)| *plain == letter).map_or(&[][..], |(_, others)| *others);
        spellings.extend(others.iter().map(|other| format!("{before}{other}{after}")));
    }
    spellings
}

/// Regression: a refusal of `marketing` with a joiner of no width in it was kept under a name of its own, and messages went on.
/// Whatever a key is written in, a refusal counts for the purpose that it reads as, and an agreement never.
#[test]
fn a_refusal_in_letters_that_look_alike_counts_and_an_agreement_does_not() {
    for key in ["marketing", "news@email", "profiling", "*", "*@email", "sms-tips", "health-y@sms"] {
        for spelling in disguised(key) {
            assert_eq!(reading(&spelling), key, "{}", spelling.escape_unicode());
            assert!(!is_plain(&spelling), "{}", spelling.escape_unicode());
            let text = |answer: bool| serde_json::json!({ (spelling.as_str()): answer }).to_string();
            let mut consents = recorded(&[(serde_json::json!({ (key): true }).to_string().as_str(), 1)]);
            let heard = consents.record(&said(&text(false), 2, 2));
            assert_eq!(
                (heard[0].key.as_str(), heard[0].outcome),
                (key, Outcome::Counted),
                "{}",
                spelling.escape_unicode()
            );
            let refused = consents.answers().find(|(held, _)| *held == key).unwrap().1.refused.is_some();
            assert!(refused, "{}", spelling.escape_unicode());
            let heard = consents.record(&said(&text(true), 3, 3));
            assert_eq!(heard[0].outcome, Outcome::NotPlain, "{}", spelling.escape_unicode());
            let refused = consents.answers().find(|(held, _)| *held == key).unwrap().1.refused.is_some();
            assert!(refused, "{}", spelling.escape_unicode());
        }
        assert!(is_plain(key) && is_plain(&format!(" {} ", key.to_uppercase())));
    }
}

/// Purposes in other scripts are words of their own, with the refusals that are written in Latin look-alikes.
#[test]
fn words_of_other_scripts_stay_what_they_are() {
    for key in ["новости", "смс", "тест", "νέα", "お知らせ", "actualité", "חדשות"] {
        assert_eq!((reading(key).as_str(), is_plain(key)), (key, true), "{key}");
    }
    for (spelling, key) in [
        ("нoвости", "новости"),
        ("нов\u{200d}ости", "новости"),
        ("actualite\u{301}", "actualité"),
        ("СМC", "смс"),
        ("ΝΈA", "νέα"),
        ("ΝEWS@ΕMAIL", "news@email"),
    ] {
        assert_eq!(reading(spelling), key, "{spelling}");
    }
    assert!(is_plain("actualite\u{301}"), "one letter with its accent in two forms is one");
    assert!(!is_plain("нoвости"));
}

/// What an earlier release kept by case and blanks alone is found by what it reads as.
#[test]
fn answers_that_are_kept_under_another_spelling_count_by_what_they_read_as() {
    let mut kept = recorded(&[(r#"{"marketing":true,"news":true}"#, 1)]);
    let refusal = recorded(&[(r#"{"x":false}"#, 2)]).purposes.remove("x").unwrap();
    let agreement = recorded(&[(r#"{"x":true}"#, 2)]).purposes.remove("x").unwrap();
    kept.purposes.insert("market\u{200d}ing".to_owned(), refusal.clone());
    kept.purposes.insert("аds".to_owned(), agreement);
    kept.purposes.insert("tips\u{2060}".to_owned(), refusal);
    let read: Consents = serde_json::from_str(&serde_json::to_string(&kept).unwrap()).unwrap();
    assert_eq!(read.purposes.keys().collect::<Vec<_>>(), ["marketing", "news", "tips"]);
    let all = ["marketing", "news", "tips", "ads"].map(|purpose| is_allowed(&read, purpose));
    assert_eq!(all, [Some(false), Some(true), Some(false), None]);
}

proptest! {
    /// Answers arrive in the order of receipt; those of one request have one time of receipt and any order.
    #[test]
    fn the_order_within_a_request_never_matters(
        all in prop::collection::vec((0usize..12, 0i64..4, 4i64..7), 3..7),
        seed in any::<u64>(),
    ) {
        const TEXTS: [&str; 12] = [
            "false", "{}", r#"{"a":true}"#, r#"{"a":false}"#, r#"{"A":"no"}"#, r#"{"b":true}"#, r#"{"b":false}"#,
            r#"{"a":true,"b":false}"#, r#"{"a":true,"a":false}"#, "\"no\"", r#"{"*@x":false}"#, r#"{"*@x":true}"#,
        ];
        let record = |order: &[(usize, i64, i64)]| {
            let mut consents = Consents::default();
            for (text, time, received_at) in order {
                consents.record(&said(TEXTS[*text], *time, *received_at));
            }
            let revived = consents.everything_refused.clone();
            (["a", "b", "c"].map(|purpose| is_allowed(&consents, purpose)), revived)
        };
        let mut one = all.clone();
        one.sort_by_key(|(_, _, received_at)| *received_at);
        let mut other = all;
        other.sort_by_key(|(text, time, received_at)| {
            (*received_at, seed.wrapping_mul((*text as u64 + 1) * 31 + (*time as u64) * 7 + 1).rotate_left(29))
        });
        prop_assert_eq!(record(&one), record(&other));
        // The naive answer: some agreement is newer than every refusal, of the purpose or of everything, and dated after
        // all that was received before it.
        let answers: Vec<(bool, i64, i64)> = one.iter().filter_map(|(text, time, received_at)| {
            let allows = match TEXTS[*text] {
                r#"{"a":true}"# | r#"{"a":true,"b":false}"# => true,
                "{}" | r#"{"b":true}"# | r#"{"b":false}"# | r#"{"*@x":false}"# | r#"{"*@x":true}"# => return None,
                _ => false,
            };
            Some((allows, *received_at, *time))
        }).collect();
        let beats = |yes: &(bool, i64, i64)| answers.iter().all(|other| {
            (other.0 || (yes.1, yes.2) > (other.1, other.2)) && (other.1 >= yes.1 || yes.2 > other.2)
        });
        let naive = answers.iter().any(|answer| answer.0 && beats(answer));
        prop_assert_eq!(record(&one).0[0] == Some(true), naive);
    }
}
