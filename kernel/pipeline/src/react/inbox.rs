//! What came of models that run beside the reactor, on its way back to it. A model has at most one job under way, so what
//! lies here is bounded by the number of models.

use std::collections::VecDeque;
use std::sync::Arc;

use kith_model::id::InstallationId;
use parking_lot::Mutex;

use super::models::JobResult;

/// What came of a job, as far as it is still to be taken in.
#[derive(Clone)]
pub(crate) struct Incoming {
    pub result: Arc<JobResult>,
    /// The first of its rows that is still to be taken in.
    pub next: usize,
}

/// Results that the reactor has yet to take.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<VecDeque<Incoming>>);

impl Inbox {
    /// Leave a result.
    pub(crate) fn put(&self, result: Arc<JobResult>) {
        self.0.lock().push_back(Incoming { result, next: 0 });
    }

    /// Leave again, before all others, what was taken and is not done with.
    pub(crate) fn put_back(&self, incoming: Vec<Incoming>) {
        let mut held = self.0.lock();
        incoming.into_iter().rev().for_each(|one| held.push_front(one));
    }

    /// Take all results.
    pub(crate) fn take(&self) -> Vec<Incoming> {
        std::mem::take(&mut *self.0.lock()).into()
    }

    /// Take the oldest result of an installation.
    pub(crate) fn take_of(&self, installation: InstallationId) -> Option<Incoming> {
        let mut held = self.0.lock();
        let at = held.iter().position(|incoming| incoming.result.installation == installation)?;
        held.remove(at)
    }
}
