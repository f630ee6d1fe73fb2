//! What is counted of a source equals a naive recount of what is stored and of what was answered, whatever is sent, and
//! whatever of it a crash takes away.

use std::collections::BTreeMap;

use kith_model::flag::{CLOCK_CORRECTED, PLAN_VIOLATION, UNPLANNED_EVENT, counted};
use kith_model::time::DAY_MS;
use kith_model::tracking::{ExpectedFields, ObjectSchema, Policy, TrackingPlan};
use serde_json::Value;

use super::*;
use crate::accept::aside::Input;
use crate::accept::quality::{LATE_AFTER_MS, SourceCounts, read_days};

struct HasNumber;

impl ObjectSchema for HasNumber {
    fn steps(&self, _: &Value) -> u64 {
        1
    }

    fn mistake(&self, value: &Value) -> Option<(String, String)> {
        (!value["n"].is_number()).then(|| ("/n".to_owned(), "is no number".to_owned()))
    }
}

fn plan(unplanned: Policy, policy: Policy) -> TrackingPlan {
    let expected = ExpectedFields { policy, schema: Some(Arc::new(HasNumber)) };
    TrackingPlan { name: "plan".into(), unplanned, events: [("Seen".to_owned(), expected)].into(), traits: None }
}

/// One event: its id, user, name, content, how long ago it happened by the sender's clock, and how wrong that is.
type DraftCase = (u8, bool, u8, u8, u8, bool);

fn draft((id, is_named, name, content, ago, is_wrong): DraftCase, received_at: Timestamp) -> DraftEvent {
    let ago = [0, 3_600_000, 3 * DAY_MS, 400 * DAY_MS][usize::from(ago % 4)];
    let error = if is_wrong { 7_200_000 } else { 0 };
    let time = received_at.plus_ms(error - ago);
    DraftEvent {
        name: ["Seen", "Other"][usize::from(name % 2)].to_owned(),
        time: Some(time),
        sent_at: is_wrong.then(|| received_at.plus_ms(error)),
        properties: [r#"{"n":1}"#, r#"{"n":"1"}"#][usize::from(content % 2)].to_owned(),
        ..event(&format!("m{id}"), if is_named { "u1" } else { "null" })
    }
}

fn request(events: Vec<DraftEvent>, received_at: Timestamp, plan: &TrackingPlan) -> Submission {
    let judged = plan.judge(&events);
    let input = Input {
        path: String::new(),
        query: String::new(),
        content_type: String::new(),
        body: Vec::new(),
        resume: None,
        places: Vec::new(),
        judged,
        has_failed: false,
    };
    let refused = RejectedRecord { place: 0, code: "own".into(), message: String::new(), raw: received_at.to_string() };
    let rejected = if received_at.0 % 3 == 0 { vec![refused] } else { Vec::new() };
    Submission { received_at, rejected, input: Some(Arc::new(input)), ..submission(events) }
}

/// What lies in the log of each day.
fn recounted(store: &Arc<dyn Store>) -> BTreeMap<i32, SourceCounts> {
    let mut days: BTreeMap<i32, SourceCounts> = BTreeMap::new();
    each_row(store.as_ref(), &Key::all_events(WORKSPACE), |_, value| {
        let Change::Recorded(event) = row::decode(value)? else { return Ok(()) };
        let counts = days.entry(i32::try_from(event.received_at.0 / DAY_MS).unwrap()).or_default();
        counts.accepted += 1;
        counts.late += u64::from(event.received_at.0 - event.time.0 > LATE_AFTER_MS);
        for flag in &event.flags {
            *counts.flagged.entry(counted(flag).to_owned()).or_default() += 1;
        }
        Ok(())
    })
    .unwrap();
    days
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn counts_equal_a_naive_recount_whatever_is_lost(
        requests in prop::collection::vec(
            (prop::collection::vec(any::<DraftCase>(), 0..6), 0_i64..9, 0_u8..6, any::<bool>()), 1..14),
        unplanned in prop::sample::select(vec![Policy::Allow, Policy::Flag, Policy::Reject]),
        policy in prop::sample::select(vec![Policy::Allow, Policy::Flag, Policy::Reject]),
    ) {
        let store: Arc<dyn Store> = Arc::new(memory());
        let mut lane = workspace(&store);
        let plan = plan(unplanned, policy);
        let mut answered: BTreeMap<i32, Acceptance> = BTreeMap::new();
        let mut group: Vec<(i32, BuiltUnit)> = Vec::new();
        for (sent, later, end, dies) in requests {
            let received_at = NOW.plus_ms(later * DAY_MS / 3 + later);
            let events: Vec<DraftEvent> = sent.into_iter().map(|sent| draft((sent.0 % 12, sent.1, sent.2, sent.3, sent.4, sent.5), received_at)).collect();
            let request = request(events, received_at, &plan);
            let mut progress = Progress::default();
            loop {
                let built = lane.build(&request, progress).unwrap();
                let is_last = built.is_last;
                progress = built.progress;
                group.push((i32::try_from(received_at.0 / DAY_MS).unwrap(), built));
                if is_last { break }
            }
            if end < 2 {
                continue;
            }
            // Of a group so many units are durable, and then the process dies or a unit is refused.
            let durable = if end == 2 { group.len() / 2 } else { group.len() };
            let is_whole = durable == group.len();
            for (day, built) in group.drain(..).take(durable) {
                if !built.unit.operations.is_empty() {
                    store.commit(built.unit).unwrap();
                }
                answered.entry(day).or_default().add(built.acceptance, usize::MAX);
            }
            match (is_whole, dies) {
                (true, false) => lane.committed(),
                (false, false) => lane.committed_in_part().unwrap(),
                (_, true) => lane = workspace(&store),
            }
        }
        let stored = read_days(store.as_ref(), WORKSPACE, SOURCE).unwrap();
        prop_assert_eq!(stored.older, SourceCounts::default());
        let recounted = recounted(&store);
        for (day, answer) in &answered {
            let counts = stored.days.get(day).cloned().unwrap_or_default();
            let recount = recounted.get(day).cloned().unwrap_or_default();
            prop_assert_eq!((counts.accepted, counts.late, &counts.flagged), (recount.accepted, recount.late, &recount.flagged));
            prop_assert_eq!((counts.accepted, counts.repeated, counts.corrected), (answer.accepted, answer.duplicate, answer.corrected));
            let mut reasons: BTreeMap<String, u64> = BTreeMap::new();
            for record in &answer.rejected {
                *reasons.entry(record.code.clone()).or_default() += 1;
            }
            prop_assert_eq!(&counts.rejected, &reasons);
            prop_assert_eq!(counts.records(), answer.records());
            prop_assert_eq!(counts.set_aside, answer.rejected_count + answer.identifiers_left_out.min(counts.set_aside - answer.rejected_count));
            for (policy, code, judged) in [(unplanned, UNPLANNED_EVENT, counts.unplanned), (policy, PLAN_VIOLATION, counts.violations)] {
                match policy {
                    Policy::Allow => prop_assert!(!counts.flagged.contains_key(code) && !counts.rejected.contains_key(code)),
                    Policy::Flag => prop_assert_eq!(counts.flagged.get(code).copied().unwrap_or(0), judged),
                    Policy::Reject => prop_assert_eq!(counts.rejected.get(code).copied().unwrap_or(0), judged),
                }
            }
        }
        prop_assert!(stored.days.keys().all(|day| answered.contains_key(day)), "nothing is counted of what was lost");
        prop_assert!(recounted.values().all(|counts| counts.flagged.keys().all(|code| [CLOCK_CORRECTED, PLAN_VIOLATION, UNPLANNED_EVENT].contains(&code.as_str()))));
    }
}

/// The refusal of consent in an event that the plan refuses is heard, and is no event of the counts.
#[test]
fn a_refusal_in_what_the_plan_refuses_is_heard_and_not_counted() {
    let store: Arc<dyn Store> = Arc::new(memory());
    let mut lane = workspace(&store);
    let plan = plan(Policy::Reject, Policy::Allow);
    let mut refusing = identify("m1", "u1", r#"{"consent":{"marketing":false}}"#.to_owned());
    (refusing.kind, refusing.name) = (EventKind::Track, "Unknown".to_owned());
    let (_, acceptance) = take(&store, &mut lane, &request(vec![refusing], NOW.plus_ms(2), &plan));
    assert_eq!((acceptance.accepted, codes(&acceptance)), (0, vec![(0, UNPLANNED_EVENT)]));
    assert!(acceptance.rejected[0].message.contains("the refusal of consent in it was taken"), "{acceptance:?}");
    let stored = read_days(store.as_ref(), WORKSPACE, SOURCE).unwrap();
    let counts: Vec<&SourceCounts> = stored.days.values().collect();
    assert_eq!((counts.len(), counts[0].accepted, counts[0].unplanned, counts[0].rejected_count()), (1, 0, 1, 1));
}
