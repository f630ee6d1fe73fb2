//! Which workspaces had something to do lately: who has much to do yields to the others where there are any, and only then.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use kith_model::id::WorkspaceId;
use parking_lot::Mutex;

/// Whoever sent something within this time may send again.
const LATELY: Duration = Duration::from_secs(1);

/// When each workspace last had a turn.
#[derive(Debug, Default)]
pub(crate) struct AtWork(Mutex<HashMap<WorkspaceId, Instant>>);

impl AtWork {
    /// A workspace has a turn.
    pub(crate) fn note(&self, workspace: WorkspaceId) {
        self.0.lock().insert(workspace, Instant::now());
    }

    /// Whether another workspace had a turn lately. Those that had none are forgotten.
    pub(crate) fn has_others(&self, workspace: WorkspaceId) -> bool {
        let mut turns = self.0.lock();
        turns.retain(|_, at| at.elapsed() < LATELY);
        turns.keys().any(|other| *other != workspace)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn others_are_those_who_had_a_turn_lately() {
        let (at_work, one, other) = (AtWork::default(), WorkspaceId(1), WorkspaceId(2));
        at_work.note(one);
        assert!(!at_work.has_others(one) && at_work.has_others(other));
        at_work.note(other);
        assert!(at_work.has_others(one));
        let long_ago = Instant::now().checked_sub(2 * LATELY).unwrap();
        at_work.0.lock().insert(other, long_ago);
        assert!(!at_work.has_others(one));
        assert_eq!(at_work.0.lock().len(), 1, "who is at rest is forgotten");
    }
}
