//! Who objects to profiling: nothing is computed of them until they say otherwise, whoever they are merged with.

use kith_model::audience::ConsentBasis;

use super::harness::*;
use crate::DeliveryFilter;

const YES: &str = r#"{"consent":{"profiling":true}}"#;
const NO: &str = r#"{"consent":{"Profiling":false}}"#;

#[test]
fn who_objects_is_in_no_audience_and_no_model_looks_at_them_until_they_agree() {
    let bench = Bench::new(vec![audience(1, "true", None), audience(2, "tags.level == 'many'", None)]);
    bench.send(orders("u1", 0, 3));
    let sizes = || {
        bench.settle();
        (bench.size(1), bench.size(2))
    };
    assert_eq!(sizes(), (Some(1), Some(1)));
    bench.send(vec![identify("no", &[("user_id", "u1")], NO, START)]);
    assert_eq!(sizes(), (Some(0), Some(0)));
    let tags = || bench.profile("user_id", "u1").unwrap().tags.len();
    assert_eq!(tags(), 0, "what a model said before is taken back");
    let asked = *bench.level.rows.lock();
    bench.send(orders("u1", 3, 5));
    assert_eq!((sizes(), *bench.level.rows.lock()), ((Some(0), Some(0)), asked));
    let counted = bench.kernel.count(WORKSPACE, "tags.level == 'many'").unwrap();
    assert_eq!((counted.count, counted.pending), (0, 0), "nobody waits for a value that no model will give");
    // Messages are another matter.
    bench.clock.advance_ms(1_000);
    let now = START.plus_ms(1_000);
    bench.send(vec![identify("news", &[("user_id", "u1")], r#"{"consent":{"news":true,"*":true}}"#, now)]);
    assert_eq!(sizes(), (Some(0), Some(0)));
    bench.send(vec![identify("yes", &[("user_id", "u1")], YES, now)]);
    assert_eq!((sizes(), tags()), ((Some(1), Some(1)), 1));
}

/// Whoever takes an objection back comes into audiences because all is computed again. Nobody is written to for that, neither again
/// nor for what was history or came meanwhile; and what comes afterwards is news.
#[test]
fn nobody_is_written_to_because_an_objection_is_taken_back() {
    for restarts in [false, true] {
        let has = |name: &str| format!("events('{name}').size() >= 1");
        let basis = Some(ConsentBasis::NotRefused);
        let mut bench = Bench::new(vec![audience(1, &has("Go"), basis), audience(2, &has("Later"), basis)]);
        let deliveries = |bench: &Bench| {
            bench.settle();
            bench.kernel.deliveries(WORKSPACE, &DeliveryFilter::default(), PageRequest::first(100)).unwrap().items.len()
        };
        let go = |user: &str, id: &str| event(id, &[("user_id", user)], "Go", START);
        let say = |bench: &Bench, user: &str, id: &str, said: &str| {
            bench.clock.advance_ms(1_000);
            let at = kith_model::time::Clock::now(&bench.clock);
            bench.send(vec![identify(id, &[("user_id", user)], said, at)]);
            bench.settle();
        };
        bench.send(vec![go("mia", "live")]);
        bench.try_import(vec![go("kim", "history")]).unwrap();
        assert_eq!(deliveries(&bench), 1, "the event, and not the history");
        for user in ["mia", "kim"] {
            say(&bench, user, &format!("{user}-no"), NO);
        }
        bench.send(vec![event("meanwhile", &[("user_id", "mia")], "Later", START)]);
        assert_eq!((deliveries(&bench), bench.size(1), bench.size(2)), (1, Some(0), Some(0)));
        if restarts {
            bench.restart();
        }
        for user in ["mia", "kim"] {
            say(&bench, user, &format!("{user}-yes"), YES);
        }
        assert_eq!((deliveries(&bench), bench.size(1), bench.size(2)), (1, Some(2), Some(1)), "restarts: {restarts}");
        bench.send(vec![event("news", &[("user_id", "kim")], "Later", START)]);
        assert_eq!(deliveries(&bench), 2, "what she does now is news");
        // Whoever never objected and says so with what she does is written to.
        bench.clock.advance_ms(1_000);
        bench.send(vec![identify("lea-yes", &[("user_id", "lea")], YES, START), go("lea", "lea-goes")]);
        assert_eq!(deliveries(&bench), 3);
    }
}

#[test]
fn an_objection_comes_and_goes_with_the_identity_that_made_it() {
    let mut bench = Bench::new(vec![audience(1, "true", None), audience(2, "tags.level == 'few'", None)]);
    bench.clock.advance_ms(DAY);
    let now = START.plus_ms(DAY);
    bench.send(vec![
        identify("no", &[("anonymous_id", "d1")], NO, now),
        event("o1", &[("user_id", "ada")], "Order Completed", now),
    ]);
    bench.settle();
    assert_eq!((bench.size(1), bench.size(2)), (Some(1), Some(1)), "only the device objects");
    bench.send(vec![event("tie", &[("user_id", "ada"), ("anonymous_id", "d1")], "Seen", now)]);
    bench.settle();
    assert_eq!((bench.size(1), bench.size(2)), (Some(0), Some(0)), "the strictest holds");
    bench.restart();
    bench.settle();
    assert_eq!((bench.size(1), bench.size(2)), (Some(0), Some(0)), "also after a restart");
    // Older evidence says whose the device is.
    bench.send(vec![event("older", &[("user_id", "bob"), ("anonymous_id", "d1")], "Seen", START)]);
    bench.settle();
    assert_eq!((bench.size(1), bench.size(2)), (Some(1), Some(1)), "ada is her own again, bob's device objects");
    assert!(bench.profile("user_id", "bob").unwrap().audiences.is_empty());
    // He answers as one person.
    bench.clock.advance_ms(1_000);
    bench.send(vec![identify("yes", &[("user_id", "bob")], YES, now.plus_ms(1_000))]);
    bench.settle();
    assert_eq!(bench.size(1), Some(2));
}
