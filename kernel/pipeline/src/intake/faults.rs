//! Whose fault a connector's fault is. A source's write key may be public, so what one request does to a connector is that
//! request's, and the installation is blamed only when it fails on several unlike small inputs in a row.

use std::collections::{BTreeSet, HashMap};

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{PluginFault, Refusal};
use parking_lot::Mutex;
use xxhash_rust::xxh3::xxh3_64;

/// A connector must take an input below this size; what fails on a larger one says nothing about it.
const SMALL_BYTES: usize = 64 << 10;

/// Inputs that are remembered of one installation. Three strikes are enough, and a strike is forgotten with them.
const MAX_REMEMBERED: usize = 64;

/// The inputs on which connectors failed since they last answered well.
#[derive(Default)]
pub(crate) struct InputFaults(Mutex<HashMap<(WorkspaceId, InstallationId), BTreeSet<u64>>>);

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
    pub(crate) fn judge(&self, workspace: WorkspaceId, source: InstallationId, input: &[u8]) -> Blame {
        if input.len() >= SMALL_BYTES {
            return Blame::Request;
        }
        let mut faults = self.0.lock();
        let inputs = faults.entry((workspace, source)).or_default();
        if inputs.len() < MAX_REMEMBERED && inputs.insert(xxh3_64(input)) {
            Blame::Installation
        } else {
            Blame::Request
        }
    }

    /// The workspace is no longer run.
    pub(crate) fn forget_workspace(&self, workspace: WorkspaceId) {
        self.0.lock().retain(|(of, _), _| *of != workspace);
    }

    /// The connector answered well.
    pub(crate) fn forget(&self, workspace: WorkspaceId, source: InstallationId) {
        self.0.lock().remove(&(workspace, source));
    }
}

/// What a sender is told whose request ran into a limit; `None` for other faults.
pub(crate) fn beyond_limit(fault: &PluginFault) -> Option<Refusal> {
    match fault {
        PluginFault::CpuExceeded { .. }
        | PluginFault::DeadlineExceeded { .. }
        | PluginFault::FuelExhausted { .. }
        | PluginFault::MemoryExceeded { .. }
        | PluginFault::LimitExceeded { .. } => Some(Refusal {
            status: 413,
            code: fault.code().to_owned(),
            message: format!(
                "the request is too much for this source's connector ({fault}); send fewer events in one request"
            ),
        }),
        PluginFault::BadInput(_)
        | PluginFault::Transient(_)
        | PluginFault::Permanent(_)
        | PluginFault::Trapped { .. }
        | PluginFault::InvalidOutput(_)
        | PluginFault::UnreadableState(_)
        | PluginFault::Cancelled
        | PluginFault::Unavailable(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const WORKSPACE: WorkspaceId = WorkspaceId(1);
    const SOURCE: InstallationId = InstallationId(1);

    #[test]
    fn only_unlike_small_inputs_are_strikes_and_an_answer_forgives_them() {
        let faults = InputFaults::default();
        let judge = |input: &[u8]| faults.judge(WORKSPACE, SOURCE, input);
        assert_eq!(judge(&vec![b'x'; SMALL_BYTES]), Blame::Request);
        assert_eq!([judge(b"a"), judge(b"a"), judge(b"b")], [Blame::Installation, Blame::Request, Blame::Installation]);
        faults.forget(WORKSPACE, SOURCE);
        assert_eq!(judge(b"a"), Blame::Installation);
    }
}
