//! Merges and splits by hand: for good, whatever evidence says, and without a message.

use std::collections::BTreeSet;

use kith_model::audience::ConsentBasis;
use kith_model::event::DraftEvent;
use kith_model::identity::{Identifier, Veto};
use proptest::prelude::*;

use super::harness::*;
use crate::StatementError;

fn named(text: &str) -> Identifier {
    let (kind, value) = text.split_once(':').unwrap();
    Identifier::new(kind, value)
}

pub(super) fn part(bench: &Bench, one: &str, other: &str) -> Result<(), StatementError> {
    bench.wait_for(bench.kernel.part(WORKSPACE, &named(one), &named(other)))
}

fn join(bench: &Bench, winner: &str, loser: &str) -> Result<(), StatementError> {
    bench.wait_for(bench.kernel.join(WORKSPACE, &named(winner), &named(loser), "key"))
}

fn is_one(bench: &Bench, one: &str, other: &str) -> bool {
    let id = |text: &str| bench.profile(&named(text).kind, &named(text).value).unwrap().id;
    id(one) == id(other)
}

#[test]
fn a_split_holds_against_the_same_evidence_and_a_restart_and_a_merge_takes_it_back() {
    let condition = "events('Order Completed').size() >= 2";
    let mut bench = Bench::new(vec![audience(1, condition, Some(ConsentBasis::NotRefused))]);
    let both = [("user_id", "u1"), ("anonymous_id", "a1")];
    bench.send(vec![
        event("m1", &both, "Order Completed", START),
        event("m2", &[("anonymous_id", "a1")], "Order Completed", START),
    ]);
    bench.settle();
    assert_eq!((bench.size(1), bench.postbox.sent.lock().len()), (Some(1), 1));
    part(&bench, "user_id:u1", "anonymous_id:a1").unwrap();
    bench.settle();
    assert!(!is_one(&bench, "user_id:u1", "anonymous_id:a1"));
    assert_eq!(bench.size(1), Some(0), "each has what came with it");
    let events = |kind: &str, value: &str| {
        let id = bench.profile(kind, value).unwrap().id;
        let events = bench.kernel.profile_events(WORKSPACE, id, PageRequest::first(10)).unwrap().unwrap().events;
        events.iter().filter(|recorded| recorded.event.name == "Order Completed").count()
    };
    assert_eq!((events("user_id", "u1"), events("anonymous_id", "a1")), (1, 1));
    bench.send(vec![event("m3", &both, "Seen", START)]);
    bench.restart();
    bench.send(vec![event("m4", &both, "Seen", START)]);
    assert!(!is_one(&bench, "user_id:u1", "anonymous_id:a1"), "the same evidence again");
    let told = bench.profile("user_id", "u1").unwrap().not_followed;
    assert_eq!(told.iter().map(|told| &told.veto).collect::<Vec<_>>(), [&Veto::MustNotLink]);
    join(&bench, "user_id:u1", "anonymous_id:a1").unwrap();
    bench.settle();
    assert!(is_one(&bench, "user_id:u1", "anonymous_id:a1"));
    assert_eq!(bench.size(1), Some(1));
    assert_eq!(bench.postbox.sent.lock().len(), 1, "no message leaves because of a split or a merge");
}

#[test]
fn two_users_are_merged_by_hand_and_the_loser_counts_no_more() {
    let bench = Bench::new(vec![]);
    bench.send(vec![event("m1", &[("user_id", "a")], "Seen", START), event("m2", &[("user_id", "b")], "Seen", START)]);
    join(&bench, "user_id:a", "user_id:b").unwrap();
    assert!(is_one(&bench, "user_id:a", "user_id:b"));
    assert!(matches!(join(&bench, "user_id:a", "user_id:nobody"), Err(StatementError::Unknown(_))));
    assert!(matches!(part(&bench, "user_id:a", "user_id:a"), Err(StatementError::Same(..))));
    bench.send(vec![event("m3", &[("user_id", "c")], "Seen", START)]);
    part(&bench, "user_id:b", "user_id:c").unwrap();
    assert!(matches!(join(&bench, "user_id:a", "user_id:c"), Err(StatementError::Vetoed(Veto::MustNotLink))));
    assert!(!is_one(&bench, "user_id:a", "user_id:c"));
}

proptest! {
    #![proptest_config(super::laws(24))]

    /// A merge by hand that is undone leaves the people as they would be without it, now and after what comes later.
    #[test]
    fn a_merge_that_is_undone_is_as_if_it_had_never_been(
        events in proptest::collection::vec((0..4u8, 0..4u8, 0..40i64), 2..14),
        one in 0..4u8,
        other in 0..4u8,
        device in 0..4u8,
        at in any::<prop::sample::Index>(),
    ) {
        let drafts: Vec<DraftEvent> = events.iter().enumerate().map(|(number, (user, device, time))| {
            let (user, device) = (format!("u{user}"), format!("a{device}"));
            let time = kith_model::time::Timestamp(START.0 - time * 1000);
            event(&format!("m{number}"), &[("user_id", &user), ("anonymous_id", &device)], "Seen", time)
        }).collect();
        let identifiers: BTreeSet<Identifier> = drafts.iter().flat_map(|draft| draft.identifiers.clone()).collect();
        let people = |bench: &Bench| -> Vec<BTreeSet<Identifier>> {
            identifiers.iter().map(|identifier| {
                let found = bench.profile(&identifier.kind, &identifier.value);
                found.into_iter().flat_map(|found| found.members).map(|(_, identifier)| identifier).collect()
            }).collect()
        };
        let plain = Bench::new(vec![]);
        plain.send(drafts.clone());
        let bench = Bench::new(vec![]);
        let (before, after) = drafts.split_at(1 + at.index(drafts.len() - 1));
        bench.send(before.to_vec());
        let winner = if one == other { format!("anonymous_id:a{device}") } else { format!("user_id:u{other}") };
        // They may be one person by evidence; then the split says something that nobody else said.
        let loser = format!("user_id:u{one}");
        let are_there = [&winner, &loser].iter().all(|text| bench.profile(&named(text).kind, &named(text).value).is_some());
        let are_one = are_there && is_one(&plain, &winner, &loser);
        if are_there && !are_one && !is_one(&bench, &winner, &loser) && join(&bench, &winner, &loser).is_ok() {
            part(&bench, &winner, &loser).unwrap();
        }
        bench.send(after.to_vec());
        let expected = people(&plain);
        prop_assert_eq!(people(&bench), expected);
    }
}
