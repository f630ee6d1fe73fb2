//! How an installation that the kernel stopped after faults comes back by itself: after a back-off it is on trial, and what
//! comes of its next call decides. A good answer puts it back for good; a fault stops it for twice as long, up to an hour.
//!
//! A version of a model that was stopped because it failed on many people answers others well, so that no call decides about it:
//! it is asked again about those people, and the rule that stopped it (`react/uncomputed.rs`) says what came of the trial.
//!
//! Nothing of this is stored. After a restart the back-off begins again at its shortest, counted from when the installation
//! was stopped.

use std::collections::HashMap;
use std::sync::Arc;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::PluginKind;
use kith_model::time::Timestamp;
use parking_lot::Mutex;

use crate::setup::{Activity, Setup};
use crate::shared::{KernelState, Workspace};

/// The first back-off, and the longest.
const FIRST_MS: i64 = 60_000;
const LONGEST_MS: i64 = 3_600_000;

/// How the reason goes on for which an installation was stopped that comes back by itself. One whose receiver is gone, or
/// that refused everybody, needs an admin or a fit.
pub(crate) const FAULTS: &str = " faults over different data";

/// The same of a version of a model that failed on many people.
pub(crate) const LOST: &str = " people for whom the version before it had values";

/// What decides about a trial.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum TrialKind {
    /// What comes of the next call.
    Call,
    /// On how many of the people a version fails again on whom it failed when it was stopped.
    People,
}

/// How whoever was stopped for that reason is tried again, if it is.
fn kind_for(why: &str) -> Option<TrialKind> {
    // The kernel's own words come before the plugin's, which may be the same.
    let found = [(FAULTS, TrialKind::Call), (LOST, TrialKind::People)];
    let found = found.into_iter().filter_map(|(words, kind)| Some((why.find(words)?, kind)));
    found.min_by_key(|(place, _)| *place).map(|(_, kind)| kind)
}

/// What would decide about the next trial of an installation; `None` for one that is not tried again.
pub(crate) fn decided_by(activity: &Activity) -> Option<TrialKind> {
    let Activity::Quarantined { why, .. } = activity else { return None };
    kind_for(why)
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Stage {
    /// Until it is due.
    Waiting,
    UnderWay(TrialKind),
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
        let Activity::Quarantined { since, .. } = activity else { return None };
        let known = self.0.lock().get(&installation).copied();
        decided_by(activity).map(|_| known.unwrap_or_else(|| Trial::new(*since, 0)).due_at)
    }

    /// Begin a trial, if one is due and none is under way.
    pub(crate) fn begin(&self, installation: InstallationId, activity: &Activity, now: Timestamp) -> bool {
        let Activity::Quarantined { since, .. } = activity else { return false };
        let Some(kind) = decided_by(activity) else { return false };
        let mut trials = self.0.lock();
        let trial = trials.entry(installation).or_insert_with(|| Trial::new(*since, 0));
        let begins = trial.stage == Stage::Waiting && now >= trial.due_at;
        if begins {
            trial.stage = Stage::UnderWay(kind);
        }
        begins
    }

    /// The trial that is under way of an installation.
    pub(crate) fn under_way(&self, installation: InstallationId) -> Option<TrialKind> {
        match self.0.lock().get(&installation)?.stage {
            Stage::Waiting => None,
            Stage::UnderWay(kind) => Some(kind),
        }
    }

    /// It is stopped from now on: at first, or again because its trial ended in a fault.
    pub(crate) fn stopped(&self, installation: InstallationId, now: Timestamp) {
        let mut trials = self.0.lock();
        let failed = match trials.get(&installation) {
            Some(Trial { failed, stage: Stage::UnderWay(_), .. }) => failed.saturating_add(1),
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

    /// It did its work, as far as that decides about trials of this kind; whether it was on one.
    pub(crate) fn passed(&self, installation: InstallationId, kind: TrialKind) -> bool {
        let mut trials = self.0.lock();
        let passed = trials.get(&installation).is_some_and(|trial| trial.stage == Stage::UnderWay(kind));
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

impl KernelState {
    /// The installation did its work: earlier strikes are forgotten, and a trial that a call decides is passed.
    pub(crate) fn forgive(&self, workspace: WorkspaceId, installation: InstallationId) {
        let Some(known) = self.workspace(workspace) else { return };
        known.forgive(installation);
        self.pass_trial(&known, installation, TrialKind::Call);
    }

    /// An installation did what a trial of that kind wants; it runs for good from now on, where it was on one.
    pub(crate) fn pass_trial(&self, known: &Workspace, installation: InstallationId, kind: TrialKind) {
        if !known.trials.passed(installation, kind) {
            return;
        }
        if let Err(error) = known.resume(installation) {
            tracing::error!(workspace = known.id.0, installation = installation.0, %error, "what works again stays held");
            return;
        }
        tracing::info!(workspace = known.id.0, installation = installation.0, "an installation works again");
        self.observer.recovered(known.id, installation);
        self.wake_reactor(known.id);
    }

    /// Put the models and channels on trial that were stopped long enough ago; whether there were any. A connector's trial is
    /// the next request.
    pub(crate) fn begin_trials(&self, known: &Workspace) -> bool {
        let (setup, now) = (Arc::clone(&known.compiled.load().setup), self.clock.now());
        let mut has_begun = false;
        for installed in setup.installations.iter().filter(|installed| installed.kind != PluginKind::Connector) {
            match known.begin_trial(installed.id, now) {
                Ok(false) => {}
                Ok(true) => {
                    tracing::info!(
                        workspace = known.id.0,
                        installation = installed.id.0,
                        "an installation is on trial"
                    );
                    has_begun = true;
                }
                // Another writes the same by now; an admin has to choose.
                Err(error) => {
                    tracing::warn!(workspace = known.id.0, installation = installed.id.0, %error, "no trial");
                    known.trials.stopped(installed.id, now);
                }
            }
        }
        has_begun
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
        assert!(trials.passed(ONE, TrialKind::Call) && !trials.passed(ONE, TrialKind::Call));
        trials.stopped(ONE, later);
        assert_eq!(trials.due_at(ONE, &faults), Some(later.plus_ms(FIRST_MS)), "it begins again");
        let held = Activity::Held { since: Timestamp(0), why: format!("3{FAULTS}") };
        for never in [held, stopped("the receiving endpoint is gone"), Activity::Running] {
            assert!(!trials.begin(ONE, &never, Timestamp(i64::MAX)), "{never:?}");
        }
    }

    #[test]
    fn no_call_decides_about_a_version_that_failed_on_many_people() {
        let stopped = |why: String| Activity::Quarantined { since: Timestamp(0), why };
        let lost = stopped(format!("it failed on 3 of 4{LOST}, the last: trap: 3{FAULTS}"));
        let faults = stopped(format!("3{FAULTS}, the last: trap: 3 of 4{LOST}"));
        for (activity, decides, other) in
            [(lost, TrialKind::People, TrialKind::Call), (faults, TrialKind::Call, TrialKind::People)]
        {
            let trials = Trials::default();
            assert_eq!(trials.due_at(ONE, &activity), Some(Timestamp(FIRST_MS)));
            assert!(trials.begin(ONE, &activity, Timestamp(FIRST_MS)), "{activity:?}");
            assert_eq!(trials.under_way(ONE), Some(decides), "whatever words the plugin has: {activity:?}");
            assert!(!trials.passed(ONE, other) && trials.passed(ONE, decides));
        }
    }
}
