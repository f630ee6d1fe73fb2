//! How an installation that the kernel stopped after faults comes back by itself: after a back-off it is on trial, and what
//! comes of its next call decides. A good answer puts it back for good; a fault stops it for twice as long, up to an hour.
//!
//! Nothing of this is stored. After a restart the back-off begins again at its shortest, counted from when the installation
//! was stopped.

use std::collections::HashMap;

use kith_model::id::InstallationId;
use kith_model::time::Timestamp;
use parking_lot::Mutex;

use crate::setup::{Activity, Setup};

/// The first back-off, and the longest.
const FIRST_MS: i64 = 60_000;
const LONGEST_MS: i64 = 3_600_000;

/// How the reason goes on for which an installation was stopped that comes back by itself. One whose receiver is gone, or
/// that refused everybody, needs an admin or a fit.
pub(crate) const FAULTS: &str = " faults over different data";

/// Whether whoever was stopped for that reason is tried again.
fn is_tried_again(why: &str) -> bool {
    why.contains(FAULTS)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Until it is due.
    Waiting,
    UnderWay,
}

#[derive(Debug, Clone, Copy)]
struct Trial {
    /// Trials that ended in a fault since it last worked.
    failed: u32,
    due_at: Timestamp,
    stage: Stage,
}

impl Trial {
    fn new(since: Timestamp, failed: u32) -> Trial {
        let wait = FIRST_MS.saturating_mul(1_i64.checked_shl(failed).unwrap_or(i64::MAX)).min(LONGEST_MS);
        Trial { failed, due_at: since.plus_ms(wait), stage: Stage::Waiting }
    }
}

/// The installations of a workspace that were stopped after faults.
#[derive(Default)]
pub(crate) struct Trials(Mutex<HashMap<InstallationId, Trial>>);

impl Trials {
    /// When the next trial of an installation may begin; `None` for one that is not tried again.
    pub(crate) fn due_at(&self, installation: InstallationId, activity: &Activity) -> Option<Timestamp> {
        let Activity::Quarantined { since, why } = activity else { return None };
        let known = self.0.lock().get(&installation).copied();
        is_tried_again(why).then(|| known.unwrap_or_else(|| Trial::new(*since, 0)).due_at)
    }

    /// Begin a trial, if one is due and none is under way.
    pub(crate) fn begin(&self, installation: InstallationId, activity: &Activity, now: Timestamp) -> bool {
        let Activity::Quarantined { since, why } = activity else { return false };
        if !is_tried_again(why) {
            return false;
        }
        let mut trials = self.0.lock();
        let trial = trials.entry(installation).or_insert_with(|| Trial::new(*since, 0));
        let begins = trial.stage == Stage::Waiting && now >= trial.due_at;
        if begins {
            trial.stage = Stage::UnderWay;
        }
        begins
    }

    pub(crate) fn is_under_way(&self, installation: InstallationId) -> bool {
        self.0.lock().get(&installation).is_some_and(|trial| trial.stage == Stage::UnderWay)
    }

    /// It is stopped from now on: at first, or again because its trial ended in a fault.
    pub(crate) fn stopped(&self, installation: InstallationId, now: Timestamp) {
        let mut trials = self.0.lock();
        let failed = match trials.get(&installation) {
            Some(trial) if trial.stage == Stage::UnderWay => trial.failed.saturating_add(1),
            Some(_) | None => 0,
        };
        trials.insert(installation, Trial::new(now, failed));
    }

    /// The trial said nothing: the next call may be one.
    pub(crate) fn said_nothing(&self, installation: InstallationId) {
        if let Some(trial) = self.0.lock().get_mut(&installation) {
            trial.stage = Stage::Waiting;
        }
    }

    /// It did its work; whether that was its trial.
    pub(crate) fn passed(&self, installation: InstallationId) -> bool {
        let mut trials = self.0.lock();
        let passed = trials.get(&installation).is_some_and(|trial| trial.stage == Stage::UnderWay);
        if passed {
            trials.remove(&installation);
        }
        passed
    }

    /// Another setup is in force: a trial goes on by the setup's word, which may be an admin's.
    pub(crate) fn follow(&self, setup: &Setup) {
        self.0.lock().retain(|installation, trial| {
            trial.stage = Stage::Waiting;
            setup
                .installation(*installation)
                .is_some_and(|installed| matches!(installed.activity, Activity::Quarantined { .. }))
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ONE: InstallationId = InstallationId(1);

    #[test]
    fn a_back_off_doubles_up_to_an_hour_and_one_call_is_the_trial() {
        let trials = Trials::default();
        let stopped = |why: &str| Activity::Quarantined { since: Timestamp(0), why: why.to_owned() };
        let faults = stopped(&format!("3{FAULTS}"));
        assert_eq!(trials.due_at(ONE, &faults), Some(Timestamp(FIRST_MS)), "also where nothing is known but the row");
        let mut now = Timestamp(0);
        trials.stopped(ONE, now);
        for minutes in [1, 2, 4, 8, 16, 32, 60, 60] {
            let due_at = now.plus_ms(minutes * 60_000);
            assert_eq!(trials.due_at(ONE, &faults), Some(due_at));
            assert!(!trials.begin(ONE, &faults, due_at.plus_ms(-1)));
            assert!(trials.begin(ONE, &faults, due_at) && !trials.begin(ONE, &faults, due_at), "one at a time");
            now = due_at;
            trials.stopped(ONE, now);
        }
        let later = now.plus_ms(LONGEST_MS);
        assert!(trials.begin(ONE, &faults, later));
        trials.said_nothing(ONE);
        assert!(trials.begin(ONE, &faults, later), "what says nothing delays nothing");
        assert!(trials.passed(ONE) && !trials.passed(ONE));
        trials.stopped(ONE, later);
        assert_eq!(trials.due_at(ONE, &faults), Some(later.plus_ms(FIRST_MS)), "it begins again");
        let held = Activity::Held { since: Timestamp(0), why: format!("3{FAULTS}") };
        for never in [held, stopped("the receiving endpoint is gone"), Activity::Running] {
            assert!(!trials.begin(ONE, &never, Timestamp(i64::MAX)), "{never:?}");
        }
    }
}
