//! One call of a connector, and what its shadow makes of the same request.

use kith_model::plugin::{ReceiveError, Received, SourceRequest};

use super::Intake;
use crate::shadow;
use crate::shadow::report::SeenCall;
use crate::shadow::requests::AnsweredRequest;

/// A call of the connector: the request, what came of it, and how it went.
pub(super) struct Called {
    pub(super) request: SourceRequest,
    pub(super) received: Result<Received, ReceiveError>,
    pub(super) seen: SeenCall,
}

impl Intake {
    /// Have the connector's shadow make of a request what it can. What is only tried out is none of its inputs.
    pub(super) fn compare_shadow(&self, called: &Called) {
        if self.preview.is_some() {
            return;
        }
        let answered = AnsweredRequest {
            workspace: self.workspace,
            source: self.source,
            connector: &self.connector,
            request: &called.request,
            answer: &called.received,
            seen: called.seen,
        };
        shadow::requests::offer(&self.shared, &answered);
    }
}
