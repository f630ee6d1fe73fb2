//! Forgets dead letters by age, and what plugins have kept for a time that is over, on a thread of its own: it looks every second
//! whether an hour has passed by the server's clock.

use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::Duration;

use kith_model::budget::table;
use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;

use crate::app::App;
use crate::catalogue::WorkspaceTables;

/// How often it looks at the clock.
const LOOK: Duration = Duration::from_secs(1);

/// How much time passes between two rounds, in milliseconds.
const ROUND_MS: i64 = 3_600_000;

/// Start the thread; it ends with the server.
pub(crate) fn begin(app: &Arc<App>, ended: Receiver<()>) -> io::Result<()> {
    let app = Arc::downgrade(app);
    let work = move || {
        let mut last: Option<Timestamp> = None;
        while ended.recv_timeout(LOOK) == Err(RecvTimeoutError::Timeout) {
            let Some(app) = app.upgrade() else { return };
            let now = app.clock.now();
            if app.is_closing() || last.is_some_and(|last| now.0 - last.0 < ROUND_MS) {
                continue;
            }
            last = Some(now);
            round(&app, now);
        }
    };
    std::thread::Builder::new().name("kith-retention".to_owned()).spawn(work).map(drop)
}

fn round(app: &App, now: Timestamp) {
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
    }
}

/// In one round as much as an installation may write until the next; of one that was removed, everything.
fn forget_expired(app: &App, workspace: WorkspaceId, tables: &WorkspaceTables, now: Timestamp) {
    let most = usize::try_from(table::KV_COMMITS.default).unwrap_or(usize::MAX);
    for row in tables.installations.values() {
        let state = app.wiring.states().of(workspace, row.id);
        let forgotten = match row.removed_at {
            None => state.forget_expired(now, most).map(|keys| keys as u64),
            Some(_) => {
                let (cleared, ended) = state.clear();
                ended.map(|()| cleared.keys)
            }
        };
        match forgotten {
            Ok(0) => {}
            Ok(keys) => tracing::info!(installation = %row.name, keys, "what a plugin kept was forgotten in its time"),
            Err(error) => {
                tracing::warn!(installation = %row.name, %error, "what a plugin kept is there still, though its time is over")
            }
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
