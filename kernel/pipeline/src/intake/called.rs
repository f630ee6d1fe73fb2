//! One call of a connector, and what its shadow makes of the same request.

use std::sync::Arc;

use kith_model::plugin::{PluginFault, ReceiveError, Received, SourceRequest};

use super::gather::{Answered, PAUSE, SMALL_BYTES};
use super::{Intake, IntakeError, WithoutRoom, stopped};
use crate::guests::{Caller, GuestClass, Guests};
use crate::shadow;
use crate::shadow::report::SeenCall;
use crate::shadow::requests::AnsweredRequest;

/// A call of the connector: the request, what came of it, and how it went.
pub(super) struct Called {
    pub(super) request: SourceRequest,
    pub(super) received: Result<Received, ReceiveError>,
    /// `None` where the call was for other requests too.
    pub(super) seen: Option<SeenCall>,
}

impl Intake {
    /// Run the connector on the guests' threads, maybe together with other requests of the source. The request comes back with
    /// what was received.
    pub(super) async fn call(&self, request: SourceRequest, without_room: WithoutRoom) -> Result<Called, IntakeError> {
        let caller = Caller {
            workspace: self.workspace,
            installation: self.source,
            class: GuestClass::Request,
            bytes: request.body.len(),
            memory_bytes: self.call_memory_bytes,
        };
        let request = Arc::new(request);
        // A stream of which nothing was taken yet can come again as well as a whole request.
        let without_room = if self.has_begun { without_room } else { WithoutRoom::Refuse };
        let (guests, gathering) = (&self.shared.guests, &self.shared.gathering);
        loop {
            // Registered before the try, so that room which comes in between is not missed.
            let room = guests.room(caller.class);
            let asked = gathering.ask((self.workspace, self.source), &self.connector, &request);
            if caller.bytes <= SMALL_BYTES && self.connector.takes_several() {
                self.shared.accept.pause(self.workspace, PAUSE).await;
            }
            let ended = match (asked.come(guests, caller), without_room) {
                (Ok(()), WithoutRoom::Wait) => asked.finish().await,
                (Ok(()), WithoutRoom::Refuse) => {
                    asked.finish_soon(Guests::patience()).await.map_err(IntakeError::Exhausted)?
                }
                (Err(_), WithoutRoom::Wait) => {
                    room.await;
                    continue;
                }
                (Err(exhausted), WithoutRoom::Refuse) => return Err(IntakeError::Exhausted(exhausted)),
            };
            drop(request);
            let Answered { request, received, seen, fault_of_none } = ended.map_err(|_| stopped())?;
            fault_of_none.iter().for_each(|fault| self.failed_together(fault));
            // The call has given back the only other handle.
            return Ok(Called { request: Arc::unwrap_or_clone(request), received, seen });
        }
    }

    /// A call of the connector for several requests failed, and none of them did alone. Once may be that they were too much
    /// together; from then on it is a strike, which the next request that the connector answers well takes back like any other.
    fn failed_together(&self, fault: &PluginFault) {
        let times = self.shared.gathering.fails_together((self.workspace, self.source), self.asked.version);
        if times > 1 {
            self.shared.strike_call(self.workspace, self.source, fault);
        }
    }

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
