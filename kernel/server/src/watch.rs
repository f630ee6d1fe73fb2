//! Watches the running server from a thread of its own: whether the store reads, and whether the work of a workspace fails.
//! The answer that an orchestrator asks for every few seconds is what was seen last, so that no guest and no slow disk that
//! holds up the pools can hold up that answer too.

use std::collections::BTreeMap;
use std::io;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::{Duration, Instant};

use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use kith_pipeline::{Failing, Health};
use kith_store::{DiskRoom, ReadError};
use parking_lot::Mutex;

use crate::app::App;

/// How often it looks.
const PERIOD: Duration = Duration::from_secs(1);

/// A look that is older than this did not come to its end: the store hangs.
const MAX_AGE: Duration = Duration::from_secs(10);

/// What the server's state is, as far as it can be seen.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Condition {
    Ready,
    /// It is about to end.
    Stopping,
    /// The store does not read, or does not answer.
    StoreUnavailable,
    /// Writes are refused for want of room.
    DiskFull,
    /// The work of a workspace fails again and again at the same place, since then.
    Failing {
        since: Timestamp,
    },
}

/// What was seen.
struct Look {
    at: Instant,
    store_reads: Result<(), ReadError>,
    disk: Result<Option<DiskRoom>, ReadError>,
    failing: BTreeMap<WorkspaceId, Failing>,
}

impl Look {
    /// Look at a server.
    fn at(app: &App) -> Look {
        let failing = |health: Health| Some((health.workspace, health.failing?));
        Look {
            at: Instant::now(),
            store_reads: app.catalogue.store_reads(),
            disk: app.catalogue.disk(),
            failing: app.kernel.health().into_iter().filter_map(failing).collect(),
        }
    }

    fn condition(&self, age: Duration) -> Condition {
        if self.store_reads.is_err() || self.disk.is_err() || age > MAX_AGE {
            return Condition::StoreUnavailable;
        }
        // What fails then fails for want of room.
        if self.is_full() {
            return Condition::DiskFull;
        }
        match self.failing.values().map(|failing| failing.since).min() {
            Some(since) => Condition::Failing { since },
            None => Condition::Ready,
        }
    }

    fn is_full(&self) -> bool {
        matches!(&self.disk, Ok(Some(disk)) if disk.is_full())
    }

    /// Say what is new since the look before. The operator reads which workspace it is here and nowhere else: whoever asks
    /// whether the server is ready may be a stranger.
    fn report(&self, before: Option<&Look>) {
        #[allow(clippy::cast_precision_loss, reason = "a number of workspaces")]
        metrics::gauge!("kith_workspaces_failing").set(self.failing.len() as f64);
        for error in [self.store_reads.as_ref().err(), self.disk.as_ref().err()].into_iter().flatten() {
            tracing::error!(%error, "the store does not read");
        }
        self.report_disk(before.is_some_and(Look::is_full));
        let seen = |workspace: &WorkspaceId| before.and_then(|before| before.failing.get(workspace));
        for (workspace, failing) in &self.failing {
            if seen(workspace) != Some(failing) {
                let Failing { since, cursor, problem } = failing;
                tracing::error!(workspace = workspace.0, %since, cursor = cursor.0, problem, "a workspace's work fails");
            }
        }
        for workspace in before.iter().flat_map(|before| before.failing.keys()) {
            if !self.failing.contains_key(workspace) {
                tracing::info!(workspace = workspace.0, "a workspace's work goes on again");
            }
        }
    }

    fn report_disk(&self, was_full: bool) {
        let Ok(Some(disk)) = self.disk else { return };
        let DiskRoom { free_bytes, reserve_bytes } = disk;
        #[allow(clippy::cast_precision_loss, reason = "sizes in a figure")]
        for (gauge, bytes) in [("kith_disk_free_bytes", free_bytes), ("kith_disk_reserve_bytes", reserve_bytes)] {
            metrics::gauge!(gauge).set(bytes as f64);
        }
        metrics::gauge!("kith_disk_full").set(if disk.is_full() { 1.0 } else { 0.0 });
        match (was_full, disk.is_full()) {
            (false, true) => tracing::error!(
                free_bytes,
                reserve_bytes,
                "the disk is nearly full and writes are refused; free some of it, or set a smaller --disk-reserve"
            ),
            (true, false) => tracing::info!(free_bytes, reserve_bytes, "there is room on the disk again"),
            (true, true) | (false, false) => {}
        }
    }
}

/// The last look, and what ends the thread that makes the next one.
pub(crate) struct Watch {
    last: Mutex<Option<Look>>,
    /// Dropped with the server; the thread waits on the other end.
    _alive: Sender<()>,
}

impl Watch {
    /// A watch that has not begun, and the end that its thread waits on.
    pub(crate) fn new() -> (Watch, Receiver<()>) {
        let (alive, ended) = channel();
        (Watch { last: Mutex::new(None), _alive: alive }, ended)
    }

    /// What was seen last.
    pub(crate) fn condition(&self) -> Condition {
        let last = self.last.lock();
        last.as_ref().map_or(Condition::StoreUnavailable, |look| look.condition(look.at.elapsed()))
    }

    fn note(&self, look: Look) {
        let mut last = self.last.lock();
        look.report(last.as_ref());
        *last = Some(look);
    }
}

/// Look once, and go on looking until the server is gone.
pub(crate) fn begin(app: &Arc<App>, ended: Receiver<()>) -> io::Result<()> {
    app.watch.note(Look::at(app));
    let app = Arc::downgrade(app);
    let work = move || {
        while ended.recv_timeout(PERIOD) == Err(RecvTimeoutError::Timeout) {
            let Some(app) = app.upgrade() else { return };
            app.watch.note(Look::at(&app));
        }
    };
    std::thread::Builder::new().name("kith-watch".to_owned()).spawn(work).map(drop)
}

#[cfg(test)]
mod tests {
    use kith_model::id::Position;
    use kith_store::MAX_UNIT_BYTES;

    use super::*;

    fn look(failing: &[(u32, i64)]) -> Look {
        let failing = failing.iter().map(|(workspace, since)| {
            let problem = "a row does not read".to_owned();
            (WorkspaceId(*workspace), Failing { since: Timestamp(*since), cursor: Position(7), problem })
        });
        Look { at: Instant::now(), store_reads: Ok(()), disk: Ok(None), failing: failing.collect() }
    }

    #[test]
    fn a_server_is_ready_again_as_soon_as_the_disk_has_room_for_the_largest_unit() {
        let reserve_bytes = 1 << 30;
        let left = |free_bytes, failing: &[(u32, i64)]| {
            let disk = Ok(Some(DiskRoom { free_bytes, reserve_bytes }));
            Look { disk, ..look(failing) }
        };
        let enough = reserve_bytes + MAX_UNIT_BYTES as u64;
        let (watch, _ended) = Watch::new();
        for (free_bytes, wanted) in [
            (enough, Condition::Ready),
            (enough - 1, Condition::DiskFull),
            (reserve_bytes, Condition::DiskFull),
            (0, Condition::DiskFull),
            (enough, Condition::Ready),
        ] {
            watch.note(left(free_bytes, &[]));
            assert_eq!(watch.condition(), wanted, "{free_bytes}");
        }
        watch.note(left(0, &[(1, 90)]));
        assert_eq!(watch.condition(), Condition::DiskFull, "why the workspace's work fails");
        let error =
            ReadError::Corrupt { what: "the disk".to_owned(), problem: "it says nothing".to_owned(), row: None };
        watch.note(Look { disk: Err(error), ..look(&[]) });
        assert_eq!(watch.condition(), Condition::StoreUnavailable);
    }

    #[test]
    fn a_server_is_ready_while_the_store_reads_and_no_workspace_fails() {
        let now = Duration::ZERO;
        assert_eq!(look(&[]).condition(now), Condition::Ready);
        assert_eq!(look(&[(1, 90), (2, 30)]).condition(now), Condition::Failing { since: Timestamp(30) });
        assert_eq!(look(&[]).condition(MAX_AGE * 2), Condition::StoreUnavailable, "the store hangs");
        let (watch, _ended) = Watch::new();
        assert_eq!(watch.condition(), Condition::StoreUnavailable, "nothing was seen yet");
        watch.note(look(&[(1, 90)]));
        assert_eq!(watch.condition(), Condition::Failing { since: Timestamp(90) });
        watch.note(look(&[]));
        assert_eq!(watch.condition(), Condition::Ready);
    }
}
