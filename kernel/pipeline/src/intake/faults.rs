//! Whose fault a connector's fault is. A source's write key may be public, so what one request does to a connector is that
//! request's. The installation is blamed only where it has answered nobody well for a while, and then for several unlike
//! small inputs: somebody who sends what it fails on, however much and however unlike, switches it off for nobody whom it
//! serves.

use std::collections::{BTreeMap, HashMap};

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{PluginFault, Refusal};
use kith_model::time::Timestamp;
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

use crate::shared::STRIKE_WINDOW_MS;

/// A connector must take an input below this size; what fails on a larger one says nothing about it.
const SMALL_BYTES: usize = 64 << 10;

/// Inputs that are remembered of one installation. Three strikes are enough.
const MAX_REMEMBERED: usize = 64;

/// What is known of one installation.
#[derive(Default)]
struct Record {
    /// Of the component and the configuration that it is about.
    version: u64,
    answered_at: Option<Timestamp>,
    /// The inputs on which it failed lately.
    failed: BTreeMap<u64, Timestamp>,
}

/// How connectors did lately.
#[derive(Default)]
pub(crate) struct InputFaults(Mutex<HashMap<(WorkspaceId, InstallationId), Record>>);

/// A connector as it runs now: what another version of it answered says nothing about this one.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct RunningConnector {
    pub workspace: WorkspaceId,
    pub source: InstallationId,
    pub version: u64,
}

/// What a fault means for the installation.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Blame {
    /// It is the request's.
    Request,
    /// It is a strike against the installation.
    Installation,
}

impl InputFaults {
    /// Judge a fault on `input`.
    pub(crate) fn judge(&self, asked: RunningConnector, input: &[u8], now: Timestamp) -> Blame {
        if input.len() >= SMALL_BYTES {
            return Blame::Request;
        }
        let is_recent = |at: Timestamp| now.0.saturating_sub(at.0) < STRIKE_WINDOW_MS;
        self.with(asked, |record| {
            record.failed.retain(|_, at| is_recent(*at));
            let is_new = record.failed.len() < MAX_REMEMBERED && record.failed.insert(xxh3_64(input), now).is_none();
            if is_new && !record.answered_at.is_some_and(is_recent) { Blame::Installation } else { Blame::Request }
        })
    }

    /// The workspace is no longer run.
    pub(crate) fn forget_workspace(&self, workspace: WorkspaceId) {
        self.0.lock().retain(|(of, _), _| *of != workspace);
    }

    /// The connector answered well.
    pub(crate) fn answered(&self, asked: RunningConnector, now: Timestamp) {
        self.with(asked, |record| record.answered_at = Some(now));
    }

    fn with<T>(&self, asked: RunningConnector, work: impl FnOnce(&mut Record) -> T) -> T {
        let mut records = self.0.lock();
        let record = records.entry((asked.workspace, asked.source)).or_default();
        if record.version != asked.version {
            *record = Record { version: asked.version, ..Record::default() };
        }
        work(record)
    }
}

/// What a sender is told whose request is too much for the connector; `None` for other faults. Who chooses how much there is to
/// do chooses that it is too much: but a few bytes that make a connector loop, or answer without end, are not too much, and
/// whoever sent them can do nothing about it.
pub(crate) fn beyond_limit(fault: &PluginFault, input: &[u8]) -> Option<Refusal> {
    (fault.is_of_limit() && input.len() >= SMALL_BYTES).then(|| Refusal {
        status: 413,
        code: fault.code().to_owned(),
        message: format!(
            "the request is too much for this source's connector ({fault}); send fewer events in one request"
        ),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_a_large_request_is_too_much() {
        let passed = PluginFault::LimitExceeded { what: "output bytes", limit: 1 };
        let refused = beyond_limit(&passed, &vec![b'x'; SMALL_BYTES]).unwrap();
        assert_eq!((refused.status, refused.code.as_str()), (413, "limit.output"));
        assert_eq!(beyond_limit(&passed, &vec![b'x'; SMALL_BYTES - 1]), None, "it is the connector's");
        assert_eq!(beyond_limit(&PluginFault::Cancelled, &vec![b'x'; SMALL_BYTES]), None);
    }

    const ASKED: RunningConnector =
        RunningConnector { workspace: WorkspaceId(1), source: InstallationId(1), version: 1 };

    #[test]
    fn only_unlike_small_inputs_of_a_connector_that_answers_nobody_are_strikes() {
        let faults = InputFaults::default();
        let judge = |asked, input: &[u8], at| faults.judge(asked, input, Timestamp(at));
        assert_eq!(judge(ASKED, &vec![b'x'; SMALL_BYTES], 0), Blame::Request);
        assert_eq!([judge(ASKED, b"a", 0), judge(ASKED, b"a", 0)], [Blame::Installation, Blame::Request]);
        assert_eq!(judge(ASKED, b"b", 0), Blame::Installation);
        faults.answered(ASKED, Timestamp(1_000));
        assert_eq!(judge(ASKED, b"c", 1_000), Blame::Request, "it serves others");
        assert_eq!(judge(ASKED, b"d", 1_000 + STRIKE_WINDOW_MS), Blame::Installation, "it has served nobody for long");
        assert_eq!(judge(ASKED, b"a", 1_000 + STRIKE_WINDOW_MS), Blame::Installation, "what was long ago is new");
        faults.answered(ASKED, Timestamp(2_000_000));
        let newer = RunningConnector { version: 2, ..ASKED };
        assert_eq!(judge(newer, b"e", 2_000_000), Blame::Installation, "another version has served nobody yet");
    }
}
