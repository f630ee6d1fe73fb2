//! Fits as tasks of the workers.

use std::time::{Duration, Instant};

use super::harness::*;
use crate::{Activity, FitError, FitProgress};

/// Long enough for anything that does not hang, and shorter than the limit of a fit.
const SOON: Duration = Duration::from_secs(5);

/// A long fit held a stop up until its limits ended it, two minutes later.
#[test]
fn a_stop_ends_a_fit_that_is_under_way() {
    let bench = Bench::new(vec![]);
    bench.send(orders("u1", 0, 1));
    bench.settle();
    *bench.level.fits_until_cancelled.lock() = true;
    let outcome = bench.begin_fit(LEVEL);
    let has_read = || bench.kernel.fit_progress(WORKSPACE, LEVEL).is_some_and(|progress| progress.rows_done == 1);
    bench.wait_until("the fit has read its rows", has_read);
    assert_eq!(bench.kernel.fit_progress(WORKSPACE, LEVEL), Some(FitProgress { rows_done: 1, rows_total: 1 }));
    assert!(bench.kernel.take_fit_slot(WORKSPACE, LEVEL).is_none(), "one fit of an installation at a time");
    let began = Instant::now();
    bench.kernel.stop();
    assert!(began.elapsed() < SOON, "the stop took {:?}", began.elapsed());
    assert!(
        matches!(outcome.recv_timeout(SOON), Ok(Err(FitError::Stopping))),
        "and whoever keeps the outcome knows it"
    );
    assert_eq!(bench.kernel.fit_progress(WORKSPACE, LEVEL), None);
}

#[test]
fn a_fit_is_of_the_version_that_was_asked_for() {
    let bench = Bench::new(vec![]);
    let slot = bench.kernel.take_fit_slot(WORKSPACE, LEVEL).unwrap();
    let (keep, kept) = std::sync::mpsc::channel();
    bench.kernel.fit(slot, "digest-of-another".to_owned(), move |outcome, slot| {
        drop(slot);
        keep.send(outcome).unwrap();
    });
    assert!(matches!(kept.recv_timeout(SOON), Ok(Err(FitError::OtherVersion))));
    bench.configure(|setup| setup.installations[1].activity = Activity::Held { since: START, why: "off".into() });
    assert!(matches!(bench.fit(LEVEL), Err(FitError::Held { why }) if why == "off"));
}
