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
    /// The work of a workspace fails again and again at the same place, since then.
    Failing {
        since: Timestamp,
    },
}

/// What was seen.
struct Look {
    at: Instant,
    store_reads: Result<(), kith_store::ReadError>,
    failing: BTreeMap<WorkspaceId, Failing>,
}

impl Look {
    /// Look at a server.
    fn at(app: &App) -> Look {
        let failing = |health: Health| Some((health.workspace, health.failing?));
        Look {
            at: Instant::now(),
            store_reads: app.catalogue.store_reads(),
            failing: app.kernel.health().into_iter().filter_map(failing).collect(),
        }
    }

    fn condition(&self, age: Duration) -> Condition {
        if self.store_reads.is_err() || age > MAX_AGE {
            return Condition::StoreUnavailable;
        }
        match self.failing.values().map(|failing| failing.since).min() {
            Some(since) => Condition::Failing { since },
            None => Condition::Ready,
        }
    }

    /// Say what is new since the look before. The operator reads which workspace it is here and nowhere else: whoever asks
    /// whether the server is ready may be a stranger.
    fn report(&self, before: Option<&Look>) {
        #[allow(clippy::cast_precision_loss, reason = "a number of workspaces")]
        metrics::gauge!("kith_workspaces_failing").set(self.failing.len() as f64);
        if let Err(error) = &self.store_reads {
            tracing::error!(%error, "the store does not read");
        }
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

    use super::*;

    fn look(failing: &[(u32, i64)]) -> Look {
        let failing = failing.iter().map(|(workspace, since)| {
            let problem = "a row does not read".to_owned();
            (WorkspaceId(*workspace), Failing { since: Timestamp(*since), cursor: Position(7), problem })
        });
        Look { at: Instant::now(), store_reads: Ok(()), failing: failing.collect() }
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
