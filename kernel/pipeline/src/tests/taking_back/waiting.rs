//! Messages that wait while what set them off is taken back, and what is told of agreements that were.

use kith_model::delivery::DeliveryState;

use super::*;
use crate::setup::Activity;

/// How the messages stand.
fn deliveries(bench: &Bench) -> Vec<DeliveryState> {
    let page = bench.kernel.deliveries(WORKSPACE, &crate::DeliveryFilter::default(), PageRequest::first(100)).unwrap();
    page.items.into_iter().map(|delivery| delivery.state).collect()
}

fn waiting(bench: &Bench) -> usize {
    deliveries(bench).iter().filter(|state| matches!(state, DeliveryState::Pending { .. })).count()
}

/// All of them left once the channel ran again, though nothing had set them off any more.
#[test]
fn what_only_events_set_off_that_are_taken_back_does_not_leave() {
    let bench = Bench::new(vec![audience(1, "events('Paid').size() > 0", Some(ConsentBasis::NotRefused))]);
    let paid = |user: &str, time| event(&format!("{user}-paid"), &[("user_id", user)], "Paid", time);
    let hold = |activity: Activity| bench.configure(|setup| setup.installations[2].activity = activity);
    hold(Activity::Held { since: START, why: "off".into() });
    bench.send(vec![paid("u0", START)]);
    bench.compute();
    bench.clock.advance_ms(1_000);
    read_by(&bench, BAD);
    bench.send(["u1", "u2", "u3"].map(|user| paid(user, START)).into());
    bench.compute();
    bench.wait_until("the messages are made", || waiting(&bench) == 4);
    bench.clock.advance_ms(1_000);
    read_by(&bench, GOOD);
    bench.configure(|setup| setup.installations[0].corrects = true);
    let corrected = bench.try_import(vec![paid("u3", Timestamp(START.0 - DAY))]).unwrap();
    assert_eq!(corrected.acceptance.corrected, 1);
    bench.compute();
    let found = bench.kernel.preview_undo(WORKSPACE, BAD, &[SOURCE].into(), &Patience::default()).unwrap();
    assert_eq!((found[0].messages.left, found[0].messages.waiting), (0, 3), "the first was made before");
    assert_eq!((take_back_beside_messages(&bench, 1).events, bench.size(1)), (2, Some(2)));
    bench.clock.advance_ms(1_000);
    bench.send(vec![paid("u2", START)]);
    bench.compute();
    bench.wait_until("one is made again", || waiting(&bench) == 5);
    hold(Activity::Running);
    bench.wait_until("none waits", || waiting(&bench) == 0);
    let told = deliveries(&bench);
    let skipped = told.iter().filter(
        |state| matches!(state, DeliveryState::Skipped { reason, .. } if reason == "what set it off was taken back"),
    );
    assert_eq!((skipped.count(), bench.postbox.sent.lock().len()), (2, 3), "{told:?}");
}

/// What was agreed to was said to count.
#[test]
fn an_agreement_that_is_taken_back_is_told_as_such() {
    let bench = Bench::new(vec![]);
    let says = |id: &str, said: &str| {
        bench.clock.advance_ms(1_000);
        let now = kith_model::time::Clock::now(&bench.clock);
        bench.send(vec![identify(id, &[("user_id", "u1")], &format!(r#"{{"consent":{said}}}"#), now)]);
    };
    says("a", r#"{"news":true}"#);
    read_by(&bench, BAD);
    says("b", r#"{"ads":true,"post":false}"#);
    read_by(&bench, GOOD);
    bench.settle();
    take_back(&bench, 1);
    let profile = bench.profile("user_id", "u1").unwrap().id;
    let view = bench.kernel.consents(WORKSPACE, profile, None, &Patience::default()).unwrap().unwrap();
    let told: Vec<(&str, bool)> =
        view.statements.iter().map(|said| (said.message_id.as_str(), said.is_taken_back)).collect();
    assert_eq!(told, [("a", false), ("b", true)]);
}
