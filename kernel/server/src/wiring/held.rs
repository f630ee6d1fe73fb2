//! Why an installation does not run, and what that makes of it for those who look.

use kith_model::plugin::InstallationMode;
use kith_model::time::Timestamp;
use kith_pipeline::Activity;

use crate::catalogue::InstallationRow;

/// Why an installation does not run, and since when.
#[derive(Debug, Clone)]
pub(super) struct Hold {
    pub(super) since: Timestamp,
    pub(super) why: String,
}

impl From<Hold> for Activity {
    fn from(held: Hold) -> Activity {
        Activity::Held { since: held.since, why: held.why }
    }
}

/// The activity of an installation that its mode holds.
pub(super) fn held_activity(row: &InstallationRow, held: Hold) -> Activity {
    match row.mode {
        InstallationMode::Quarantined => Activity::Quarantined { since: held.since, why: held.why },
        InstallationMode::Live | InstallationMode::Disabled | InstallationMode::Shadow => held.into(),
    }
}

/// What an installation waits for that could run, but for its fit.
pub(super) fn waiting(row: &InstallationRow) -> Option<Activity> {
    let waits = row.waits_for_fit.as_ref()?;
    Some(Activity::WaitsForFit { since: waits.since, why: waits.why.clone() })
}

/// Why an installation does not run by its mode.
pub(super) fn held_by_mode(row: &InstallationRow) -> Option<Hold> {
    let why = match row.mode {
        InstallationMode::Live => return None,
        InstallationMode::Disabled => "an admin switched it off".to_owned(),
        InstallationMode::Quarantined => {
            row.mode_reason.clone().unwrap_or_else(|| "the kernel switched it off after repeated faults".to_owned())
        }
        // The API refuses this mode, so that no row has it: a shadow is a version beside one that is live.
        InstallationMode::Shadow => "nothing runs in shadow alone".to_owned(),
    };
    Some(Hold { since: row.mode_since, why })
}
