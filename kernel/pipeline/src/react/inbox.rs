//! What came of models that run beside the reactor, on its way back to it. A model has at most one job under way, so what
//! lies here is bounded by the number of models.

use parking_lot::Mutex;

use super::models::JobResult;

/// Results that the reactor has yet to take.
#[derive(Default)]
pub(crate) struct Inbox(Mutex<Vec<JobResult>>);

impl Inbox {
    /// Leave a result.
    pub(crate) fn put(&self, result: JobResult) {
        self.0.lock().push(result);
    }

    /// Take all results.
    pub(crate) fn take(&self) -> Vec<JobResult> {
        std::mem::take(&mut *self.0.lock())
    }
}
