//! Forgets dead letters by age, what plugins have kept for a time that is over, and components that nothing names, on a thread of
//! its own: it looks every second whether an hour has passed by the server's clock.

use std::collections::BTreeSet;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use kith_host::KeyValueError;
use kith_model::budget::table;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::Timestamp;

use crate::app::App;
use crate::catalogue::{Actor, CatalogueError, InstallationRow, WorkspaceTables};

/// How often it looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

/// How much time passes between two rounds, in milliseconds.
const ROUND_MS: i64 = 3_600_000;

/// Start the thread; it ends with the server.
pub(crate) fn begin(app: &Arc<App>, ended: Receiver<()>) -> io::Result<()> {
    let app = Arc::downgrade(app);
    let work = move || {
        let (mut last, mut seen): (Option<Timestamp>, Option<Timestamp>) = (None, None);
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let Some(app) = app.upgrade() else { return };
            let now = app.clock.now();
            if app.is_closing() {
                continue;
            }
            let before = seen.replace(now);
            if let Some(ahead) = before.filter(|before| now < *before) {
                set_back(&app, ahead);
            }
            if last.is_some_and(|last| (0..ROUND_MS).contains(&now.0.saturating_sub(last.0))) {
                continue;
            }
            last = Some(now);
            round(&app, now);
        }
    };
    std::thread::Builder::new().name("kith-retention".to_owned()).spawn(work).map(drop)
}

/// The clock was set back: what ended while it was ahead stays ended, also where nobody has asked for it since.
fn set_back(app: &App, ahead: Timestamp) {
    for (id, tables) in &app.catalogue.tables().workspaces {
        if tables.row.state.is_active() {
            forget_expired(app, *id, tables, ahead);
        }
    }
}

pub(crate) fn round(app: &App, now: Timestamp) {
    if let Err(error) = app.sweep_all() {
        tracing::warn!(%error, "components that no workspace has may be on disk still");
    }
    let kept_ms = i64::try_from(app.config.keep_dead_letters.as_millis()).unwrap_or(i64::MAX);
    let before = now.plus_ms(kept_ms.saturating_neg());
    for (id, tables) in &app.catalogue.tables().workspaces {
        if !tables.row.state.is_active() {
            continue;
        }
        match app.kernel.forget_before(*id, before) {
            Ok(0) => {}
            Ok(rows) => tracing::info!(workspace = id.0, rows, %before, "what failed long ago was forgotten"),
            Err(error) => tracing::warn!(workspace = id.0, %error, "what failed long ago is still there"),
        }
        forget_expired(app, *id, tables, now);
        let cleared = forget_removed(app, *id, tables, now);
        if let Err(error) = note_cleared(app, *id, &cleared) {
            tracing::warn!(workspace = id.0, %error, "installations of which nothing is left are looked through again");
        }
    }
}

/// In one round as much as an installation may write until the next.
fn forget_expired(app: &App, workspace: WorkspaceId, tables: &WorkspaceTables, now: Timestamp) {
    let most = usize::try_from(table::KV_COMMITS.default).unwrap_or(usize::MAX);
    for row in tables.installed() {
        let forgotten = app.wiring.states().of(workspace, row.id).forget_expired(now, most);
        report(row, forgotten.map(|keys| keys as u64));
    }
}

/// Everything that removed installations kept; those of which nothing is left, and of which no call can be under way any more.
fn forget_removed(
    app: &App,
    workspace: WorkspaceId,
    tables: &WorkspaceTables,
    now: Timestamp,
) -> BTreeSet<InstallationId> {
    let mut cleared = BTreeSet::new();
    for row in tables.installations.values().filter(|row| !row.is_cleared) {
        let Some(removed_at) = row.removed_at else { continue };
        let (kept, ended) = app.wiring.states().of(workspace, row.id).clear();
        if ended.is_ok() && kept.keys == 0 && now.0.saturating_sub(removed_at.0) >= ROUND_MS {
            cleared.insert(row.id);
        }
        report(row, ended.map(|()| kept.keys));
    }
    cleared
}

/// Note that nothing is left of these, so that nobody looks through them again.
fn note_cleared(app: &App, workspace: WorkspaceId, cleared: &BTreeSet<InstallationId>) -> Result<(), CatalogueError> {
    if cleared.is_empty() {
        return Ok(());
    }
    let mut change = app.catalogue.begin(workspace, Actor::kernel())?;
    for id in cleared {
        let row = change.tables().installations.get(id).filter(|row| row.removed_at.is_some());
        let row = row.map(|row| InstallationRow { is_cleared: true, ..InstallationRow::clone(row) });
        if let Some(row) = row {
            change.put_installation(row);
        }
    }
    drop(change.commit()?);
    Ok(())
}

fn report(row: &InstallationRow, forgotten: Result<u64, KeyValueError>) {
    match forgotten {
        Ok(0) => {}
        Ok(keys) => tracing::info!(installation = %row.name, keys, "what a plugin kept was forgotten in its time"),
        Err(error) => {
            tracing::warn!(installation = %row.name, %error, "what a plugin kept is there still, though its time is over")
        }
    }
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::PluginKind;

    use super::*;
    use crate::api::tests::installation_row;
    use crate::api::tests::installations::{keep, keep_state, keys_kept};
    use crate::catalogue::InstallationRow;
    use crate::serve::tests::server;

    /// A call that was under way when its installation was removed may write afterwards.
    #[test]
    fn what_a_plugin_writes_after_its_removal_goes_with_the_next_round() {
        let server = server();
        let removed = InstallationRow { removed_at: Some(Timestamp(1)), ..installation_row(901, "gone") };
        let present = installation_row(902, "present");
        for row in [&removed, &present] {
            keep(&server, row, PluginKind::TagModel, &[]);
            keep_state(&server, row.id, 100);
        }
        round(server.app(), server.app().clock.now());
        assert_eq!((keys_kept(&server, removed.id), keys_kept(&server, present.id)), (0, 100));
        server.app().kernel.stop();
    }
}
