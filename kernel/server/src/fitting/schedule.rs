//! Fits that are due by a schedule: a thread looks every second. When one is due follows from rows and the server's clock alone,
//! so that a restart changes nothing of it, and what was missed while the server or the installation did not run is made up for
//! once.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use kith_model::id::InstallationName;
use kith_model::plugin::InstallationMode;
use kith_model::time::Timestamp;
use kith_pipeline::Activity;

use super::{Wish, alarm, fits_of};
use crate::app::App;
use crate::auth::KeyId;
use crate::catalogue::{Actor, FitStatus, InstallationRow, Tables, WorkspaceTables};
use crate::error::ApiError;
use crate::fitting;

/// How often it looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

/// After a fit that failed the next begins so much later, in milliseconds; it doubles with each that fails, up to the schedule's
/// own time.
const FIRST_BACK_OFF_MS: i64 = 600_000;

/// A fit that seems to have begun more than this after now, in milliseconds, did so by a clock that was wrong.
const MAX_AHEAD_MS: i64 = 300_000;

/// Start the thread; it ends with the server.
pub(crate) fn begin(app: &Arc<App>, ended: Receiver<()>) -> io::Result<()> {
    let app = Arc::downgrade(app);
    let work = move || {
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let Some(app) = app.upgrade() else { return };
            if !app.is_closing() {
                round(&app, app.clock.now());
            }
        }
    };
    std::thread::Builder::new().name("kith-fits".to_owned()).spawn(work).map(drop)
}

/// Begin what is due: in each workspace one fit at a time, that which has been due for longest.
fn round(app: &Arc<App>, now: Timestamp) {
    let tables = app.catalogue.tables();
    show_alarms(&tables);
    for (id, tables) in &tables.workspaces {
        if !tables.row.state.is_active() || !app.kernel.runs(*id) {
            continue;
        }
        if tables.installed().any(|row| app.kernel.fit_progress(*id, row.id).is_some()) {
            continue;
        }
        let Some(name) = longest_due(app, tables, now) else { continue };
        match fitting::begin(app, *id, Actor::kernel(), name.as_str(), Wish::Scheduled) {
            Ok(begun) => fitting::run(app, *id, KeyId::kernel(), begun),
            // Somebody was quicker.
            Err(ApiError::Conflict { .. } | ApiError::NotFound { .. }) => {}
            Err(error) => {
                tracing::warn!(workspace = id.0, installation = %name, ?error, "a fit that is due did not begin")
            }
        }
    }
}

/// Show how many installations somebody has to look at because of their newest fit.
fn show_alarms(tables: &Tables) {
    let running = tables.workspaces.values().filter(|tables| tables.row.state.is_active());
    let alarms = running.flat_map(|tables| tables.installed().filter_map(move |row| alarm(tables, row)));
    let (mut held, mut failed) = (0_u32, 0_u32);
    for fit in alarms {
        match fit.status {
            FitStatus::Held => held += 1,
            FitStatus::Failed | FitStatus::Running | FitStatus::Succeeded => failed += 1,
        }
    }
    for (why, number) in [("held", held), ("failed", failed)] {
        metrics::gauge!("kith_fit_alarms", "why" => why).set(f64::from(number));
    }
}

fn longest_due(app: &App, tables: &WorkspaceTables, now: Timestamp) -> Option<InstallationName> {
    // What an installation is doing takes more to tell than whether it is due, and this is asked every second.
    let due = tables.installed().filter(|row| is_due(tables, row, now));
    let running = due.filter_map(|row| Some((next_at(app, tables, row, now)?, row)));
    running.min_by_key(|(at, row)| (*at, row.id)).map(|(_, row)| row.name.clone())
}

/// When the next fit of an installation is due; `None` without a schedule, and while it is asked for nothing.
pub(crate) fn next_at(app: &App, tables: &WorkspaceTables, row: &InstallationRow, now: Timestamp) -> Option<Timestamp> {
    let at = due_at(tables, row, now)?;
    match app.wiring.activity(tables, row) {
        Activity::Running | Activity::WaitsForFit { .. } => Some(at),
        Activity::Held { .. } | Activity::Quarantined { .. } => None,
    }
}

/// Whether a fit of an installation is due by its rows.
pub(super) fn is_due(tables: &WorkspaceTables, row: &InstallationRow, now: Timestamp) -> bool {
    due_at(tables, row, now).is_some_and(|at| at <= now)
}

fn due_at(tables: &WorkspaceTables, row: &InstallationRow, now: Timestamp) -> Option<Timestamp> {
    let every = row.fitting.every_ms.filter(|_| row.mode == InstallationMode::Live)?;
    let Some(last) = fits_of(tables, row.id).last() else {
        return Some(sane(row.fitting.since, now).map_or(now, |since| since.plus_ms(every)));
    };
    // It would be due when the wrong clock comes to that time, which may be in years.
    let Some(began) = sane(last.started_at, now) else { return Some(now) };
    let failed = failed_in_a_row(tables, row);
    Some(match last.finished_at {
        Some(finished) if failed > 0 => sane(finished, now).unwrap_or(began).plus_ms(back_off(failed, every)),
        _ => began.plus_ms(every),
    })
}

/// A moment of the past, also by a clock that was set back by a little since.
fn sane(at: Timestamp, now: Timestamp) -> Option<Timestamp> {
    (at <= now.plus_ms(MAX_AHEAD_MS)).then_some(at)
}

fn back_off(failed: u32, every: i64) -> i64 {
    let doubled = 1_i64.checked_shl(failed.saturating_sub(1)).filter(|times| *times > 0).unwrap_or(i64::MAX);
    FIRST_BACK_OFF_MS.saturating_mul(doubled).min(every)
}

/// How many fits of an installation have failed since the last that did not.
pub(crate) fn failed_in_a_row(tables: &WorkspaceTables, row: &InstallationRow) -> u32 {
    let ended = fits_of(tables, row.id).rev().skip_while(|fit| fit.status == FitStatus::Running);
    let failed = ended.take_while(|fit| fit.status == FitStatus::Failed).count();
    u32::try_from(failed).unwrap_or(u32::MAX)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::api::tests::{FIRST, installation_row};
    use crate::catalogue::{FitRow, FittingRow, WorkspaceRow};
    use crate::fitting::tests::{LEVEL, succeeded, with_level};

    const MINUTE: i64 = 60_000;
    const HOUR: i64 = 60 * MINUTE;
    const START: Timestamp = Timestamp(1_790_000_000_000);

    fn after(milliseconds: i64) -> Timestamp {
        START.plus_ms(milliseconds)
    }

    /// An installation that is fitted every two hours since the start, with these fits: when each began and ended, and how.
    fn fitted(fits: &[(i64, Option<i64>, FitStatus)]) -> (WorkspaceTables, InstallationRow) {
        let row = WorkspaceRow::new(FIRST, "default".parse().unwrap(), "UTC".to_owned(), START);
        let mut tables = WorkspaceTables::empty(row);
        for (version, (began, ended, status)) in (1_u32..).zip(fits) {
            let (started_at, finished_at) = (after(*began), ended.map(after));
            let fit = FitRow { status: *status, started_at, finished_at, ..succeeded(version, "1.0.0", None) };
            tables.fits.insert((LEVEL, version), Arc::new(fit));
        }
        let fitting = FittingRow { every_ms: Some(2 * HOUR), since: START, ..FittingRow::default() };
        (tables, InstallationRow { fitting, ..installation_row(LEVEL.0, "level") })
    }

    fn due(fits: &[(i64, Option<i64>, FitStatus)], now: i64) -> i64 {
        let (tables, row) = fitted(fits);
        due_at(&tables, &row, after(now)).unwrap().0 - START.0
    }

    #[test]
    fn a_fit_is_due_after_the_last_one_and_what_was_missed_is_due_once() {
        use FitStatus::{Held, Running, Succeeded};
        assert_eq!(due(&[], 0), 2 * HOUR, "the first, from when the schedule was set");
        assert_eq!(due(&[], 9 * HOUR), 2 * HOUR);
        let missed = [(0, Some(MINUTE), Succeeded), (9 * HOUR, None, Running)];
        assert_eq!(due(&missed[..1], 9 * HOUR), 2 * HOUR);
        assert_eq!(due(&missed, 9 * HOUR), 11 * HOUR, "four were missed, and one makes up for them");
        assert_eq!(due(&[(HOUR, Some(HOUR + MINUTE), Held)], 2 * HOUR), 3 * HOUR, "it went well");
        let (tables, row) = fitted(&[]);
        assert!(!is_due(&tables, &row, after(2 * HOUR - 1)) && is_due(&tables, &row, after(2 * HOUR)));
        let never = InstallationRow { fitting: FittingRow::default(), ..row.clone() };
        assert_eq!(due_at(&tables, &never, after(9 * HOUR)), None);
        for mode in [InstallationMode::Disabled, InstallationMode::Quarantined] {
            let stopped = InstallationRow { mode, ..row.clone() };
            assert_eq!(due_at(&tables, &stopped, after(9 * HOUR)), None, "{mode:?}");
        }
    }

    #[test]
    fn after_a_failure_the_next_is_due_sooner_and_sooner_no_more() {
        let mut fits = vec![(0, Some(MINUTE), FitStatus::Succeeded)];
        let mut now = 2 * HOUR;
        for (failed, wait) in (1_u32..).zip([10, 20, 40, 80, 120, 120]) {
            fits.push((now, Some(now + MINUTE), FitStatus::Failed));
            now += MINUTE;
            assert_eq!(due(&fits, now), now + wait * MINUTE, "after {failed}");
            let (tables, row) = fitted(&fits);
            assert_eq!(failed_in_a_row(&tables, &row), failed);
            now += wait * MINUTE;
        }
        fits.push((now, Some(now + MINUTE), FitStatus::Succeeded));
        assert_eq!(due(&fits, now), now + 2 * HOUR);
        assert_eq!((back_off(64, i64::MAX), back_off(u32::MAX, HOUR)), (i64::MAX, HOUR));
    }

    /// A server whose clock was a year ahead would have waited for that year.
    #[test]
    fn a_fit_by_a_clock_that_was_wrong_is_followed_by_one_at_once() {
        let year = 365 * 24 * HOUR;
        assert_eq!(due(&[(year, Some(year), FitStatus::Succeeded)], 0), 0);
        assert_eq!(due(&[(year, Some(year), FitStatus::Failed)], HOUR), HOUR);
        assert_eq!(due(&[(MINUTE, None, FitStatus::Running)], 0), 2 * HOUR + MINUTE, "a little is no matter");
    }

    #[tokio::test(flavor = "multi_thread")]
    async fn what_is_not_due_any_more_does_not_begin() {
        let server = with_level();
        let begin = |wish| fitting::begin(server.app(), FIRST, Actor::kernel(), "level", wish);
        let refused = begin(Wish::Scheduled).map(drop).unwrap_err();
        assert!(matches!(refused, ApiError::Conflict { code: "not-due", .. }), "{refused:?}");
        begin(Wish::Asked).map(drop).unwrap();
    }
}
