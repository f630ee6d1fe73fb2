//! A workspace that is taken out of the running kernel, and comes again.

use std::time::Duration;

use super::hook::{Hook, Host, Wire};
use super::*;

/// What the store says of one's deliveries, which also reads of a workspace that does not run.
fn queued(bench: &Bench) -> bool {
    bench.store.next_due(outbox(WORKSPACE, CHANNEL)).unwrap().is_some()
}

#[test]
fn what_waits_stays_in_its_outbox_and_leaves_once_when_the_workspace_comes_again() {
    let held = Host::Holds(Box::new(Host::Answers(200)));
    let wire = Wire::new(&[("h1", held)]);
    let bench = bench(Hook::new(&wire));
    limit(&bench, 8, 2);
    bench.send(people("h1", 10));
    bench.wait_until("two are under way", || wire.left.lock().len() == 2);
    std::thread::scope(|scope| {
        let removal = scope.spawn(|| bench.kernel.remove(WORKSPACE));
        bench.wait_until("it is being taken out", || !bench.kernel.runs(WORKSPACE));
        assert!(matches!(bench.try_send(people("h2", 1)), Err(IntakeError::Unavailable { .. })));
        wire.let_go();
        removal.join().unwrap();
    });
    let left = wire.left.lock().len();
    assert_eq!(left, 2, "those that had left");
    assert!(queued(&bench), "the others wait, and none is taken for a message of a removed channel");
    assert!(!bench.kernel.shared.deliveries.has_sender(outbox(WORKSPACE, CHANNEL)));
    assert!(bench.kernel.shared.workspace(WORKSPACE).is_none());
    assert!(matches!(bench.try_send(people("h2", 1)), Err(IntakeError::Unavailable { .. })));
    // Nobody looks into the outbox any more, whatever the clock says.
    bench.clock.advance_ms(86_400_000);
    bench.store.wait_for_change(bench.store.head(), Duration::from_millis(50));
    assert_eq!(wire.left.lock().len(), left);

    bench.kernel.add(bench.setup.lock().clone()).unwrap();
    bench.wait_until("all are delivered", || delivered(&bench) == 10);
    assert_eq!(wire.left.lock().len(), 10, "each left once");
    assert_eq!(receipts(&bench, "h1-7"), ["Message Delivered"]);
}

#[test]
fn a_workspace_comes_and_goes_and_its_neighbour_works_on() {
    let wire = Wire::new(&[("h1", Host::Answers(200))]);
    let bench = bench(Hook::new(&wire));
    let other = WorkspaceId(2);
    let setup = Setup { workspace: other, ..bench.setup.lock().clone() };
    for round in 0..20_u64 {
        bench.kernel.add(setup.clone()).unwrap();
        // Where it runs already, that is nothing.
        bench.kernel.add(setup.clone()).unwrap();
        let user = format!("u{round}");
        let order = |message: &str| vec![event(message, &[("user_id", &user)], "Order Completed", START)];
        bench.try_send_to(other, order(&format!("o{round}"))).unwrap();
        bench.kernel.remove(other);
        bench.kernel.remove(other);
        assert!(!bench.kernel.runs(other));
        assert!(matches!(bench.try_send_to(other, order("late")), Err(IntakeError::Unavailable { .. })));
        assert_eq!(
            bench.kernel.people(other).unwrap(),
            round + 1,
            "nothing that was answered is lost, and nothing late taken"
        );
        bench.send(people("h1", 1));
    }
    bench.kernel.add(setup).unwrap();
    let head = bench.store.head();
    assert!(bench.kernel.wait_until_reacted(other, head, Duration::from_secs(20)));
    assert_eq!(bench.kernel.count(other, "events('Order Completed').size() == 1").unwrap().count, 20);
    bench.wait_until("the neighbour's one person is written to", || delivered(&bench) == 1);
    assert_eq!(bench.kernel.totals(WORKSPACE).unwrap().profiles, 1);
}

#[test]
fn a_fit_of_a_workspace_that_is_taken_out_ends() {
    let bench = Bench::new(vec![]);
    bench.send(orders("ada", 0, 1));
    bench.settle();
    *bench.level.fits_until_cancelled.lock() = true;
    let kept = bench.begin_fit(LEVEL);
    bench.kernel.remove(WORKSPACE);
    let outcome = kept.recv_timeout(Duration::from_secs(20)).unwrap();
    assert!(matches!(outcome, Err(crate::FitError::Stopping)), "{outcome:?}");
    assert!(bench.kernel.fit_progress(WORKSPACE, LEVEL).is_none());
    *bench.level.fits_until_cancelled.lock() = false;
    bench.kernel.add(bench.setup.lock().clone()).unwrap();
    assert!(bench.fit(LEVEL).is_ok());
}
