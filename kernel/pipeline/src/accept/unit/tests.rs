//! Units one by one: what is in them, how large they are, and what takes nothing else along.

mod counted;

use std::collections::BTreeMap;

use kith_model::event::{EventKind, EventOrigin};
use kith_model::id::{InstallationId, Position};
use kith_model::identity::Identifier;
use kith_model::time::Timestamp;
use kith_store::keys::PersonRow;
use kith_store::{Operation, memory, row};
use proptest::prelude::*;
use tokio::sync::oneshot;

use super::*;
use crate::accept::aside::PartsOf;
use crate::accept::counts::{Counts, read_counts};
use crate::accept::readers::{Reader, ReaderRow, ranges, reader_of};
use crate::accept::{MAX_REPORTED_REJECTIONS, Sender, Submission};
use crate::profiles::facts::{each_row, read_contribution};

const WORKSPACE: WorkspaceId = WorkspaceId(1);
const SOURCE: InstallationId = InstallationId(1);
const NOW: Timestamp = Timestamp(1_768_435_200_000);

fn submission(events: Vec<DraftEvent>) -> Submission {
    Submission {
        workspace: WORKSPACE,
        source: SOURCE,
        sender: Default::default(),
        piece: None,
        received_at: NOW,
        origin: EventOrigin::Client,
        giver: kith_model::consent::Giver::MayAgree,
        events,
        rejected: Vec::new(),
        with: Vec::new(),
        moved: None,
        input: None,
        again: None,
        parts_of: Default::default(),
        reply: oneshot::channel().0,
    }
}

fn event(message_id: &str, user: &str) -> DraftEvent {
    DraftEvent {
        kind: EventKind::Track,
        message_id: Some(message_id.into()),
        name: "Seen".into(),
        time: Some(NOW),
        sent_at: None,
        identifiers: vec![Identifier::new("user_id", user)],
        properties: String::new(),
        traits: String::new(),
        ..DraftEvent::default()
    }
}

fn identify(message_id: &str, user: &str, traits: String) -> DraftEvent {
    DraftEvent { kind: EventKind::Identify, traits, ..event(message_id, user) }
}

fn workspace(store: &Arc<dyn Store>) -> Workspace {
    Workspace::open(store, WORKSPACE, IdentityRules::default(), [7; 32]).unwrap()
}

/// Take a whole submission, each unit as a group; the units' sizes and the answer.
fn take(store: &Arc<dyn Store>, workspace: &mut Workspace, submission: &Submission) -> (Vec<usize>, Acceptance) {
    let (mut progress, mut sizes, mut total) = (Progress::default(), Vec::new(), Acceptance::default());
    loop {
        let built = workspace.build(submission, progress).unwrap();
        assert_eq!(built.bytes, built.unit.size_bytes());
        if !built.unit.operations.is_empty() {
            store.commit(built.unit).unwrap();
        }
        workspace.committed();
        sizes.push(built.bytes);
        total.accepted += built.acceptance.accepted;
        total.duplicate += built.acceptance.duplicate;
        total.rejected_count += built.acceptance.rejected_count;
        total.rejected.extend(built.acceptance.rejected);
        progress = built.progress;
        if built.is_last {
            return (sizes, total);
        }
    }
}

fn codes(acceptance: &Acceptance) -> Vec<(u64, &str)> {
    acceptance.rejected.iter().map(|record| (record.place, record.code.as_str())).collect()
}

fn set_aside(store: &Arc<dyn Store>) -> Vec<RejectedRecord> {
    let mut records = Vec::new();
    each_row(store.as_ref(), &Key::set_aside(WORKSPACE, None), |_, value| {
        let crate::rows::Aside::Record(letter) = row::decode(value)? else { panic!("no record") };
        records.push(letter.record);
        Ok(())
    })
    .unwrap();
    records
}

#[test]
fn h6_a_unit_that_is_too_large_is_halved_until_the_one_event_is_alone() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    workspace.max_unit_bytes = 40_000;
    let mut events: Vec<DraftEvent> = (0..200).map(|n| event(&format!("m{n}"), &format!("u{n}"))).collect();
    events[77].properties = format!(r#"{{"text":"{}"}}"#, "x".repeat(60_000));
    let submission = submission(events);
    let (sizes, acceptance) = take(&store, &mut workspace, &submission);
    assert!(sizes.len() > 2 && sizes.iter().all(|size| *size <= 40_000), "{sizes:?}");
    assert_eq!((acceptance.accepted, codes(&acceptance)), (199, vec![(77, "too-large")]));
    let counts = read_counts(store.as_ref(), WORKSPACE).unwrap();
    assert_eq!((counts.events, counts.identifiers, counts.profiles), (199, 199, 199), "nothing of the 78th stays");
    let (_, again) = take(&store, &mut workspace, &submission);
    assert_eq!((again.accepted, again.duplicate), (0, 199));
}

#[test]
fn s2e_a_damaged_row_sets_aside_the_event_that_needs_it_and_no_other() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut first = workspace(&store);
    take(&store, &mut first, &submission(vec![event("m1", "u1"), event("m2", "u2")]));
    let damaged = first.people.identify(&Identifier::new("user_id", "u1"), NOW).unwrap();
    let key = Key::person(WORKSPACE, damaged, PersonRow::Head);
    store.commit(Unit { operations: vec![Operation::Put(key, vec![1, 255])], ..Unit::default() }).unwrap();
    let mut second = workspace(&store);
    let tied = DraftEvent {
        identifiers: vec![Identifier::new("user_id", "u1"), Identifier::new("email", "a@b.c")],
        ..event("m3", "u1")
    };
    let (_, acceptance) = take(&store, &mut second, &submission(vec![event("m4", "u2"), tied, event("m5", "u3")]));
    assert_eq!((acceptance.accepted, codes(&acceptance)), (2, vec![(1, "unreadable-row")]));
    assert!(acceptance.rejected[0].message.contains("an identity's head"), "{:?}", acceptance.rejected);
    assert_eq!(read_counts(store.as_ref(), WORKSPACE).unwrap().identifiers, 3, "the refused event made no identity");
}

#[test]
fn a_unit_that_was_built_on_a_refused_one_is_refused_too() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    let one = workspace.build(&submission(vec![event("m1", "u1")]), Progress::default()).unwrap();
    let other = workspace.build(&submission(vec![event("m2", "u1")]), Progress::default()).unwrap();
    assert!(matches!(store.commit(other.unit), Err(CommitError::Conflict(_))));
    let results = store.commit_all(vec![one.unit]);
    assert!(results[0].is_ok());
    workspace.committed_in_part().unwrap();
    let (_, acceptance) = take(&store, &mut workspace, &submission(vec![event("m1", "u1"), event("m2", "u1")]));
    assert_eq!((acceptance.accepted, acceptance.duplicate), (1, 1));
    assert_eq!(read_counts(store.as_ref(), WORKSPACE).unwrap().identifiers, 1);
}

#[test]
fn what_goes_with_a_submission_is_in_its_last_unit_alone() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    let with = Operation::Put(Key::meta("with"), b"it".to_vec());
    let events = (0..2 * MAX_UNIT_EVENTS).map(|n| event(&format!("m{n}"), "u1")).collect();
    let submission = Submission { with: vec![with.clone()], ..submission(events) };
    let first = workspace.build(&submission, Progress::default()).unwrap();
    let last = workspace.build(&submission, first.progress).unwrap();
    assert_eq!((first.is_last, first.unit.operations.contains(&with)), (false, false));
    assert_eq!((last.is_last, last.unit.operations.contains(&with)), (true, true));
}

#[test]
fn the_unit_tells_who_belongs_to_whom_before_its_events() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    let tied = DraftEvent {
        identifiers: vec![Identifier::new("user_id", "u1"), Identifier::new("email", "a@b.c")],
        ..event("m1", "u1")
    };
    let built = workspace.build(&submission(vec![tied]), Progress::default()).unwrap();
    let records = built.unit.operations.iter().filter_map(|operation| match operation {
        Operation::Append { record, .. } => Some(row::decode::<Change>(record).unwrap()),
        _ => None,
    });
    let records: Vec<Change> = records.collect();
    assert!(matches!(records.as_slice(), [Change::Identified(_), Change::Recorded(_)]), "{records:?}");
}

/// `{"<prefix>0": <json>, …}`
fn many_traits(prefix: &str, count: usize, json: &str) -> String {
    let traits: Vec<String> = (0..count).map(|n| format!(r#""{prefix}{n}":{json}"#)).collect();
    format!("{{{}}}", traits.join(","))
}

#[test]
fn s15_one_more_trait_of_a_person_with_many_writes_a_few_kilobytes() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    let value = format!("\"{}\"", "x".repeat(200));
    for part in ["a", "b", "c"] {
        let told = identify(&format!("m-{part}"), "u1", many_traits(part, 300, &value));
        take(&store, &mut workspace, &submission(vec![told]));
    }
    let one = submission(vec![identify("one", "u1", r#"{"a7":"new"}"#.into())]);
    let (sizes, _) = take(&store, &mut workspace, &one);
    assert!(sizes[0] < 32 << 10, "{sizes:?} for a person with more than 200 KB of traits");
    let identity = workspace.people.identify(&Identifier::new("user_id", "u1"), NOW).unwrap();
    let (facts, _) = read_contribution(store.as_ref(), WORKSPACE, identity).unwrap();
    assert_eq!((facts.traits.len(), facts.traits["a7"].json.as_str()), (900, "\"new\""));
}

#[test]
fn s15_a_trait_without_room_is_reported_and_the_rest_of_the_event_is_taken() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    for part in ["a", "b", "c"] {
        let told = identify(&format!("m-{part}"), "u1", many_traits(part, 400, "1"));
        let (_, acceptance) = take(&store, &mut workspace, &submission(vec![told]));
        assert_eq!((acceptance.accepted, acceptance.rejected_count), (1, 0));
    }
    let long = format!(r#"{{"{}":1,"a3":2}}"#, "n".repeat(257));
    take(&store, &mut workspace, &submission(vec![identify("z-long", "u1", long)]));
    let identity = workspace.people.identify(&Identifier::new("user_id", "u1"), NOW).unwrap();
    let (facts, _) = read_contribution(store.as_ref(), WORKSPACE, identity).unwrap();
    assert_eq!((facts.traits.len(), facts.traits["a3"].json.as_str()), (1_000, "2"));
    let said: Vec<String> = set_aside(&store).into_iter().map(|record| record.code).collect();
    assert_eq!(said, ["too-many-traits", "too-many-traits"]);
}

#[test]
fn s25_a_fact_of_a_clock_that_is_ahead_holds_for_a_day_and_no_longer() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    let year_2099 =
        DraftEvent { time: Some(Timestamp(4_070_908_800_000)), ..identify("m1", "u1", r#"{"city":"Wrong"}"#.into()) };
    take(&store, &mut workspace, &submission(vec![year_2099]));
    let later = NOW.plus_ms(2 * kith_model::time::DAY_MS);
    let right = DraftEvent { time: Some(later), ..identify("m2", "u1", r#"{"city":"Right"}"#.into()) };
    take(&store, &mut workspace, &Submission { received_at: later, ..submission(vec![right]) });
    let identity = workspace.people.identify(&Identifier::new("user_id", "u1"), NOW).unwrap();
    let (facts, _) = read_contribution(store.as_ref(), WORKSPACE, identity).unwrap();
    assert_eq!(facts.traits["city"].json, "\"Right\"");
}

/// A hundred parts unlike those of other numbers.
fn others(number: i64) -> Vec<RejectedRecord> {
    let mut parts = refused(100);
    parts.iter_mut().for_each(|part| part.raw.push_str(&format!(" of {number}")));
    parts
}

fn refused(count: u64) -> Vec<RejectedRecord> {
    let record = |place: u64| RejectedRecord {
        place,
        code: "not-an-object".into(),
        message: "no".into(),
        raw: place.to_string(),
    };
    (0..count).map(record).collect()
}

#[test]
fn h7_of_one_request_a_hundred_parts_are_kept_and_the_rest_is_one_row() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    let request = Submission { rejected: refused(125_829), ..submission(vec![event("m1", "u1")]) };
    let (sizes, acceptance) = take(&store, &mut workspace, &request);
    assert_eq!((acceptance.accepted, acceptance.rejected_count), (1, 125_829));
    assert_eq!(acceptance.rejected.len(), MAX_REPORTED_REJECTIONS);
    assert!(sizes.iter().sum::<usize>() < 64 << 10, "{sizes:?}");
    let kept = set_aside(&store);
    assert_eq!(kept.len(), 101);
    assert!(
        kept.iter().any(|record| record.code == "more-parts" && record.message.contains("125729")),
        "{:?}",
        kept[100]
    );
}

#[test]
fn h7_of_one_source_the_newest_rows_are_kept_within_the_quota() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    for number in 0..110 {
        let request =
            Submission { received_at: NOW.plus_ms(number), rejected: others(number), ..submission(Vec::new()) };
        take(&store, &mut workspace, &request);
    }
    let kept = set_aside(&store).len() as u64;
    let Counts { set_aside, set_aside_dropped, .. } = read_counts(store.as_ref(), WORKSPACE).unwrap();
    assert_eq!((kept, set_aside[&SOURCE], set_aside_dropped), (10_000, 10_000, 1_000));
}

/// Nobody is answered about a page, and it is not fetched again: of the 101st part on, all were only counted.
#[test]
fn of_a_page_as_many_parts_are_kept_as_of_its_source() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    let page = |number: i64, parts: u64| {
        let mut rejected = refused(parts);
        rejected.iter_mut().for_each(|part| part.raw.push_str(&format!(" of {number}")));
        let (received_at, events) = (NOW.plus_ms(number), vec![event(&format!("m{number}"), "u1")]);
        Submission { received_at, rejected, parts_of: PartsOf::Page, ..submission(events) }
    };
    let (sizes, acceptance) = take(&store, &mut workspace, &page(1, 10_050));
    assert_eq!((sizes.len(), acceptance.accepted, acceptance.rejected_count), (40, 1, 10_050));
    let kept = set_aside(&store);
    let rest: Vec<&str> =
        kept.iter().filter(|record| record.code == "more-parts").map(|record| record.message.as_str()).collect();
    assert_eq!((kept.len(), rest), (10_000, vec!["50 more parts of this page were refused; 10000 are kept"]));

    // All of its units in one group: the source's quota holds there as well.
    let (page, mut progress, mut units) = (page(2, 3_000), Progress::default(), Vec::new());
    loop {
        let built = workspace.build(&page, progress).unwrap();
        units.push(built.unit);
        progress = built.progress;
        if built.is_last {
            break;
        }
    }
    for committed in store.commit_all(units) {
        committed.unwrap();
    }
    workspace.committed();
    let Counts { set_aside: held, set_aside_dropped, .. } = read_counts(store.as_ref(), WORKSPACE).unwrap();
    assert_eq!((set_aside(&store).len(), held[&SOURCE], set_aside_dropped), (10_000, 10_000, 3_001));
}

#[test]
fn the_same_record_again_is_counted_in_its_letter() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    for day in 0..3 {
        let received_at = NOW.plus_ms(day * kith_model::time::DAY_MS);
        let request = Submission { received_at, rejected: refused(50), ..submission(vec![event("", "u1")]) };
        take(&store, &mut workspace, &request);
    }
    assert_eq!((set_aside(&store).len(), read_counts(store.as_ref(), WORKSPACE).unwrap().set_aside[&SOURCE]), (51, 51));
    each_row(store.as_ref(), &Key::set_aside(WORKSPACE, None), |_, value| {
        let crate::rows::Aside::Record(letter) = row::decode(value)? else { panic!("no record") };
        let last_at = NOW.plus_ms(2 * kith_model::time::DAY_MS);
        assert_eq!((letter.at, letter.last_at, letter.times), (NOW, last_at, 3), "{letter:?}");
        Ok(())
    })
    .unwrap();
    // Within one request, too, and for another reason it is another letter.
    let twice = RejectedRecord { place: 7, code: "other".into(), message: "no".into(), raw: "1".into() };
    let request = Submission { rejected: vec![twice.clone(), twice], ..submission(Vec::new()) };
    take(&store, &mut workspace, &request);
    assert_eq!(set_aside(&store).len(), 52);
}

#[test]
fn a_letter_goes_with_the_commit_of_what_it_held() {
    use super::super::aside::{ReplayedLetter, take_out};
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    take(&store, &mut workspace, &Submission { rejected: refused(3), ..submission(Vec::new()) });
    let letters = || {
        let mut letters = Vec::new();
        each_row(store.as_ref(), &Key::set_aside(WORKSPACE, None), |key, value| {
            let crate::rows::Aside::Record(letter) = row::decode(value)? else { panic!("no record") };
            letters.push((key.clone(), *letter));
            Ok(())
        })
        .unwrap();
        letters
    };
    let held = || read_counts(store.as_ref(), WORKSPACE).unwrap().set_aside[&SOURCE];
    let again = |number: usize| {
        let (key, letter) = letters()[number].clone();
        Some(Box::new(ReplayedLetter { key, letter }))
    };
    let refused_again = Submission { again: again(0), ..submission(vec![event("", "u1")]) };
    let (_, acceptance) = take(&store, &mut workspace, &refused_again);
    assert_eq!((acceptance.rejected_count, letters().len(), held()), (1, 3, 3));
    assert_eq!(
        (letters()[0].1.record.code.as_str(), letters()[0].1.times),
        ("bad-message-id", 1),
        "with the newer reason"
    );
    let taken = Submission { again: again(0), ..submission(vec![event("m1", "u1")]) };
    let (_, acceptance) = take(&store, &mut workspace, &taken);
    assert_eq!((acceptance.accepted, letters().len(), held()), (1, 2, 2));
    let (_, acceptance) = take(&store, &mut workspace, &taken);
    assert_eq!((acceptance.duplicate, letters().len(), held()), (1, 2, 2), "it is not counted twice");
    let dismissed = Submission { with: take_out(WORKSPACE, &letters()[0].0), ..submission(Vec::new()) };
    take(&store, &mut workspace, &dismissed);
    assert_eq!((letters().len(), held()), (1, 1));
    // What was dismissed and comes again is a new letter.
    take(&store, &mut workspace, &Submission { rejected: refused(3), ..submission(Vec::new()) });
    assert_eq!((letters().len(), held()), (3, 3));
}

/// What each contributor said of a purpose, by its identifier.
fn answers(store: &Arc<dyn Store>, workspace: &mut Workspace, user: &str, purpose: &str) -> Option<bool> {
    let identity = workspace.people.identify(&Identifier::new("user_id", user), NOW).unwrap();
    let row = crate::profiles::facts::read_facts_row(store.as_ref(), WORKSPACE, identity, 0).unwrap()?;
    let refused = |consent: &kith_model::consent::Consent| consent.refused.is_none();
    row.consents.all.as_ref().or_else(|| row.consents.purposes.get(purpose)).map(refused)
}

#[test]
fn a_consent_that_comes_twice_in_one_event_refuses_if_either_does() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    let said = [
        ("u1", r#"{"consent":{"news":false},"consent":{"news":true}}"#),
        ("u2", r#"{"Consent":{"news":false},"consent":{"news":true}}"#),
        ("u3", r#"{"c\u006fnsent":false,"consent":{"news":true}}"#),
        ("u4", r#"{"consent":{"news":true},"consent":{"ads":true}}"#),
    ];
    let events = said.iter().map(|(user, traits)| identify(user, user, (*traits).to_owned())).collect();
    let (_, acceptance) = take(&store, &mut workspace, &submission(events));
    assert_eq!(acceptance.accepted, 4);
    let heard = ["u1", "u2", "u3", "u4"].map(|user| answers(&store, &mut workspace, user, "news"));
    assert_eq!(heard, [Some(false), Some(false), Some(false), Some(true)]);
}

/// An event that could not be taken took a refusal in it along, and the person was written to.
#[test]
fn a_refusal_in_an_event_that_is_refused_is_heard_and_an_agreement_is_not() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    workspace.max_unit_bytes = 60_000;
    let no = r#"{"consent":{"news":false,"ads":true}}"#.to_owned();
    take(&store, &mut workspace, &submission(vec![identify("used", "u3", "{}".to_owned())]));
    let many: Vec<String> = (0..600).map(|number| format!("\"t{number}\":1")).collect();
    let events = vec![
        identify("m1", "u1", format!("{{{},\"consent\":{{\"news\":false}}}}", many.join(","))),
        DraftEvent { properties: "[1]".into(), ..identify("m2", "u2", no.clone()) },
        identify("used", "u3", no.clone()),
        DraftEvent { properties: format!(r#"{{"a":"{}"}}"#, "x".repeat(90_000)), ..identify("m4", "u4", no.clone()) },
        DraftEvent { properties: "[1]".into(), ..identify("m5", "u5", r#"{"consent":{"news":true}}"#.into()) },
        DraftEvent { identifiers: vec![Identifier::new("user_id", "null")], ..identify("m6", "", no) },
        identify("m7", "u7", r#"{"consent":{"news":}"#.into()),
    ];
    let (_, acceptance) = take(&store, &mut workspace, &submission(events));
    assert_eq!((acceptance.accepted, acceptance.rejected_count), (0, 7));
    let heard = ["u1", "u2", "u3", "u4"].map(|user| answers(&store, &mut workspace, user, "news"));
    assert_eq!(heard, [Some(false); 4]);
    let agreed = [("u2", "ads"), ("u5", "news")].map(|(user, purpose)| answers(&store, &mut workspace, user, purpose));
    assert_eq!(agreed, [None; 2]);
    let words: Vec<bool> = acceptance.rejected.iter().map(|record| record.message.contains("was taken")).collect();
    assert_eq!(words, [true, true, true, true, false, false, false], "{acceptance:?}");
    let lost: Vec<bool> = acceptance.rejected.iter().map(|record| record.message.contains("was not taken")).collect();
    assert_eq!(lost, [false, false, false, false, false, true, true], "{acceptance:?}");
}

#[test]
fn what_a_connector_could_not_read_is_said_to_hold_a_consent() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    let record = |message: &str, raw: &str| RejectedRecord {
        place: 0,
        code: "bad".into(),
        message: message.into(),
        raw: raw.into(),
    };
    let rejected = vec![
        record("bad", "{\"Consent\":"),
        record("bad; the refusal of consent in it was taken", "{\"consent\":"),
        record("bad", "city"),
    ];
    let (_, acceptance) = take(&store, &mut workspace, &Submission { rejected, ..submission(Vec::new()) });
    let messages: Vec<&str> = acceptance.rejected.iter().map(|record| record.message.as_str()).collect();
    let expected = ["bad; what it says of consent was not taken", "bad; the refusal of consent in it was taken", "bad"];
    assert_eq!(messages, expected);
}

#[derive(Debug, Clone)]
enum LetterStep {
    /// Records of these numbers are refused in one request, a number perhaps twice.
    Refuse(Vec<u8>),
    /// The letter of a number is tried again, and taken or not.
    Again(u8, bool),
    Dismiss(u8),
}

fn letter_step() -> impl Strategy<Value = LetterStep> {
    prop_oneof![
        proptest::collection::vec(0..6_u8, 1..5).prop_map(LetterStep::Refuse),
        (0..6_u8, any::<bool>()).prop_map(|(number, is_taken)| LetterStep::Again(number, is_taken)),
        (0..6_u8).prop_map(LetterStep::Dismiss),
    ]
}

proptest! {
    #![proptest_config(crate::tests::laws(64))]

    /// Whatever is refused, tried again and dismissed in whatever order: there is one letter for each content that is not dealt
    /// with, it says how often that came, and the totals say how many letters there are.
    #[test]
    fn letters_are_what_is_not_dealt_with(steps in proptest::collection::vec(letter_step(), 1..24)) {
        use super::super::aside::{ReplayedLetter, take_out};
        let store: Arc<dyn Store> = Arc::new(memory());
        let mut workspace = workspace(&store);
        let mut expected: BTreeMap<String, u64> = BTreeMap::new();
        for (moment, step) in steps.into_iter().enumerate() {
            let received_at = NOW.plus_ms(moment as i64);
            let found = |number: u8| letters_in(&store).into_iter().find(|(_, letter)| letter.record.raw == number.to_string());
            match step {
                LetterStep::Refuse(numbers) => {
                    let record = |number: &u8| RejectedRecord {
                        place: 0, code: "no".into(), message: "no".into(), raw: number.to_string(),
                    };
                    let rejected = numbers.iter().map(record).collect();
                    numbers.iter().for_each(|number| *expected.entry(number.to_string()).or_default() += 1);
                    take(&store, &mut workspace, &Submission { received_at, rejected, ..submission(Vec::new()) });
                }
                LetterStep::Again(number, is_taken) => {
                    let Some((key, letter)) = found(number) else { continue };
                    let id = if is_taken { format!("m{moment}") } else { String::new() };
                    let again = Some(Box::new(ReplayedLetter { key, letter }));
                    take(&store, &mut workspace, &Submission { received_at, again, ..submission(vec![event(&id, "u1")]) });
                    if is_taken {
                        expected.remove(&number.to_string());
                    }
                }
                LetterStep::Dismiss(number) => {
                    let Some((key, _)) = found(number) else { continue };
                    let with = take_out(WORKSPACE, &key);
                    take(&store, &mut workspace, &Submission { received_at, with, ..submission(Vec::new()) });
                    expected.remove(&number.to_string());
                }
            }
            let kept: BTreeMap<String, u64> =
                letters_in(&store).into_iter().map(|(_, letter)| (letter.record.raw, letter.times)).collect();
            prop_assert_eq!(&kept, &expected);
            let counted = read_counts(store.as_ref(), WORKSPACE).unwrap().total_set_aside();
            prop_assert_eq!(counted, expected.len() as u64);
        }
    }
}

/// All letters of records.
fn letters_in(store: &Arc<dyn Store>) -> Vec<(Key, crate::rows::Letter)> {
    let mut letters = Vec::new();
    each_row(store.as_ref(), &Key::set_aside(WORKSPACE, None), |key, value| {
        let crate::rows::Aside::Record(letter) = row::decode(value)? else { panic!("no record") };
        letters.push((key.clone(), *letter));
        Ok(())
    })
    .unwrap();
    letters
}

/// A submission that a version of the source's connector has read.
fn read_by(version: &str, id: &str) -> Submission {
    let reader = Reader { version: version.into(), digest: format!("digest-{version}") };
    let sender = Sender { reader: Some(Arc::new(reader)), ..Sender::default() };
    Submission { sender: Arc::new(sender), ..submission(vec![event(id, "u1")]) }
}

/// The version, where its events end and how many they are, of each row.
fn told(store: &Arc<dyn Store>) -> Vec<(String, Option<Position>, u64)> {
    let found = ranges(store.as_ref(), WORKSPACE, SOURCE).unwrap();
    found.into_iter().map(|range| (range.row.reader.version, range.up_to, range.events)).collect()
}

/// The version that read each event of the log.
fn readers_in_the_log(store: &Arc<dyn Store>) -> Vec<String> {
    let limits = kith_store::ChangeLimits { records: 1_000, bytes: 1 << 20 };
    let changes = store.changes(WORKSPACE, Position(0), limits).unwrap();
    let read = changes.records.iter().filter_map(|record| {
        let Change::Recorded(event) = row::decode::<Change>(&record.bytes).unwrap() else { return None };
        let reader = reader_of(store.as_ref(), WORKSPACE, &event, record.position).unwrap();
        Some(reader.map_or_else(String::new, |row| row.reader.version))
    });
    read.collect()
}

#[test]
fn events_that_one_version_read_behind_another_lie_in_a_range_of_their_own() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    take(&store, &mut workspace, &read_by("1", "a"));
    take(&store, &mut workspace, &read_by("1", "b"));
    let between = store.head();
    take(&store, &mut workspace, &read_by("2", "c"));
    take(&store, &mut workspace, &read_by("2", "d"));
    assert_eq!(told(&store), [("1".to_owned(), Some(between), 2), ("2".to_owned(), None, 2)]);
    let found = ranges(store.as_ref(), WORKSPACE, SOURCE).unwrap();
    assert_eq!(found[1].after, between);
}

/// What two versions of a connector read of one source at the same time comes into one group, and there is a row for each of
/// them, however often they take turns.
#[test]
fn two_versions_at_once_share_groups_and_have_a_row_each() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    for group in 0..3 {
        let units: Vec<Unit> = ["1", "2", "1", "2"]
            .iter()
            .zip(0..)
            .map(|(version, number): (&&str, u32)| {
                let submission = read_by(version, &format!("{group}.{number}"));
                let built = workspace.build(&submission, Progress::default()).unwrap();
                assert_eq!((built.events, built.waits, built.is_last), (1, false, true));
                built.unit
            })
            .collect();
        assert!(store.commit_all(units).iter().all(Result::is_ok));
        workspace.committed();
    }
    assert_eq!(told(&store), [("1".to_owned(), None, 6), ("2".to_owned(), None, 6)]);
    assert_eq!(readers_in_the_log(&store), ["1", "2"].repeat(6));
    let last = store.head();
    take(&store, &mut workspace, &read_by("2", "z"));
    assert_eq!(told(&store), [("1".to_owned(), Some(last), 6), ("2".to_owned(), None, 7)]);
}

/// What is stored of before events named their version is told by its range still.
#[test]
fn events_of_before_versions_had_numbers_are_told_by_their_range() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut workspace = workspace(&store);
    let nobody = Submission { sender: Default::default(), ..read_by("1", "a") };
    take(&store, &mut workspace, &nobody);
    let reader = Reader { version: "0".into(), digest: "digest-0".into() };
    let older = ReaderRow { reader, since: NOW, before: 0, number: 0, events: 0, up_to: None };
    let key = Key::readers(WORKSPACE, SOURCE).followed_by(&0_u64.to_be_bytes());
    let put = Operation::Put(key, row::encode(&older));
    store.commit(Unit { operations: vec![put], ..Unit::default() }).unwrap();
    let head = store.head_of(WORKSPACE);
    take(&store, &mut workspace, &read_by("1", "b"));
    assert_eq!(told(&store), [("0".to_owned(), Some(head), 1), ("1".to_owned(), None, 1)]);
    assert_eq!(readers_in_the_log(&store), ["0", "1"]);
}
