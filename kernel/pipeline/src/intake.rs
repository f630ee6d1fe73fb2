//! From bytes to a commit: a source's connector reads a request or a stream piece by piece, and what it finds is submitted.

use std::sync::Arc;

use kith_model::event::EventOrigin;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Answer, Connector, PluginFault, ReceiveError, Received, Refusal, SourceRequest};
use kith_store::CommitError;
use tokio::sync::oneshot;

use crate::accept::{MAX_REPORTED_REJECTIONS, Request, Submission};
use crate::offload;
use crate::setup::{Activity, Role};
use crate::shared::Shared;
use crate::views::Acceptance;

/// A stream is cut into pieces of about this size: some thousand rows, so that one call's output stays within its limits.
const PIECE_BYTES: usize = 256 << 10;

/// The largest input that a connector may ask to see whole: the client batch routes decode at most this much.
pub const MAX_UNCONSUMED_BYTES: usize = 10 << 20;

/// After this many seconds a client that was turned away should come back.
const RETRY_AFTER_S: u32 = 1;

/// The end of an intake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Receipted {
    pub acceptance: Acceptance,
    /// The connector's own answer to its client, if it has one.
    pub answer: Option<Answer>,
}

/// Why input was not taken. What earlier pieces of a stream brought is durable all the same: see [`Intake::so_far`].
#[derive(Debug, thiserror::Error)]
pub enum IntakeError {
    #[error("there is no such source")]
    UnknownSource,
    #[error("the source is held: {why}")]
    NotLive { why: String },
    /// The connector refuses the input.
    #[error("{}", .0.message)]
    Refused(Refusal),
    /// The connector failed.
    #[error(transparent)]
    Fault(PluginFault),
    #[error("the connector needs more than {limit} bytes at once")]
    TooLarge { limit: usize },
    #[error("too much is waiting; come back in {retry_after_s} s")]
    Overloaded { retry_after_s: u32 },
    #[error("the store takes nothing now: {reason}")]
    Unavailable { reason: String, retry_after_s: u32 },
}

/// A stream of bytes on its way in.
pub struct Intake {
    shared: Arc<Shared>,
    connector: Arc<dyn Connector>,
    workspace: WorkspaceId,
    source: InstallationId,
    /// The request that the bytes came with; its body and progress are filled in for each piece.
    request: SourceRequest,
    buffer: Vec<u8>,
    /// The buffer is offered to the connector from this size on.
    threshold: usize,
    /// Whether the bytes are live traffic or history.
    origin: EventOrigin,
    acceptance: Acceptance,
    answer: Option<Answer>,
}

impl Intake {
    pub(crate) fn new(
        shared: Arc<Shared>,
        workspace: WorkspaceId,
        source: InstallationId,
        request: SourceRequest,
        origin: EventOrigin,
    ) -> Result<Intake, IntakeError> {
        let setup = shared.workspace(workspace).ok_or(IntakeError::UnknownSource)?.setup.load_full();
        let installed =
            setup.installations.iter().find(|known| known.id == source).ok_or(IntakeError::UnknownSource)?;
        let Role::Connector(connector) = &installed.role else { return Err(IntakeError::UnknownSource) };
        if let Activity::Held { why, .. } = &installed.activity {
            return Err(IntakeError::NotLive { why: why.clone() });
        }
        Ok(Intake {
            connector: Arc::clone(connector),
            shared,
            workspace,
            source,
            request,
            buffer: Vec::new(),
            threshold: PIECE_BYTES,
            origin,
            acceptance: Acceptance::default(),
            answer: None,
        })
    }

    /// What has been committed so far.
    pub fn so_far(&self) -> &Acceptance {
        &self.acceptance
    }

    /// Take more bytes; a full piece is read and committed before this returns.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), IntakeError> {
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= self.threshold {
            let consumed = self.piece(false, true).await?;
            if consumed == 0 {
                if self.buffer.len() > MAX_UNCONSUMED_BYTES {
                    return Err(IntakeError::TooLarge { limit: MAX_UNCONSUMED_BYTES });
                }
                self.threshold = (self.buffer.len() * 2).min(MAX_UNCONSUMED_BYTES + 1);
            } else {
                self.threshold = PIECE_BYTES;
            }
        }
        Ok(())
    }

    /// The input ends here.
    pub async fn finish(mut self) -> Result<Receipted, IntakeError> {
        self.end(true).await?;
        Ok(Receipted { acceptance: self.acceptance, answer: self.answer })
    }

    /// A whole request that waits for no room: an overloaded kernel says so at once.
    pub(crate) async fn whole(mut self, body: Vec<u8>) -> Result<Receipted, IntakeError> {
        self.buffer = body;
        self.end(false).await?;
        Ok(Receipted { acceptance: self.acceptance, answer: self.answer })
    }

    async fn end(&mut self, may_wait: bool) -> Result<(), IntakeError> {
        let whole = self.buffer.len();
        let consumed = self.piece(true, may_wait).await?;
        if consumed < whole {
            let problem = format!("the connector consumed {consumed} of the last {whole} bytes; it must take them all");
            return Err(self.fault(PluginFault::InvalidOutput(problem)));
        }
        Ok(())
    }

    /// Let the connector read the buffer, and commit what it found. How many bytes it took.
    async fn piece(&mut self, complete: bool, may_wait: bool) -> Result<usize, IntakeError> {
        let request = SourceRequest { body: std::mem::take(&mut self.buffer), complete, ..self.request.clone() };
        let connector = Arc::clone(&self.connector);
        let (request, received) = offload::run(move || {
            let received = connector.receive(&request);
            (request, received)
        })
        .await;
        let received = match received {
            Ok(received) => received,
            Err(ReceiveError::Refused(refusal)) => return Err(IntakeError::Refused(refusal)),
            Err(ReceiveError::Fault(fault)) => return Err(self.fault(fault)),
        };
        self.shared.forgive(self.workspace, self.source);
        let Received { events, rejected, consumed, resume, answer } = received;
        if consumed > request.body.len() {
            let problem = format!("the connector consumed {consumed} of {} bytes", request.body.len());
            return Err(self.fault(PluginFault::InvalidOutput(problem)));
        }
        self.buffer = request.body;
        self.buffer.drain(..consumed);
        self.request.resume = resume;
        self.answer = answer.or_else(|| self.answer.take());
        if !events.is_empty() || !rejected.is_empty() {
            let (reply, answered) = oneshot::channel();
            let submission = Submission {
                workspace: self.workspace,
                source: self.source,
                received_at: self.request.received_at,
                origin: self.origin,
                events,
                rejected,
                reply,
            };
            self.shared.submit(submission, may_wait).await?;
            self.note(answered.await.map_err(|_| closing())?.map_err(|error| unavailable(&error))?);
        } else if self.acceptance.position.0 == 0 {
            self.acceptance.position = self.shared.store.head();
        }
        Ok(consumed)
    }

    fn note(&mut self, piece: Acceptance) {
        let total = &mut self.acceptance;
        total.accepted += piece.accepted;
        total.duplicate += piece.duplicate;
        total.rejected_count += piece.rejected_count;
        let room = MAX_REPORTED_REJECTIONS.saturating_sub(total.rejected.len());
        total.rejected.extend(piece.rejected.into_iter().take(room));
        total.position = piece.position;
    }

    fn fault(&self, fault: PluginFault) -> IntakeError {
        self.shared.strike(self.workspace, self.source, &fault);
        IntakeError::Fault(fault)
    }
}

impl Shared {
    /// Hand a submission to the accept thread, at once or as soon as there is room.
    pub(crate) async fn submit(&self, submission: Submission, may_wait: bool) -> Result<(), IntakeError> {
        let request = Request::Submit(submission);
        if may_wait {
            return self.accept.send(request).await.map_err(|_| closing());
        }
        self.accept.try_send(request).map_err(|error| match error {
            tokio::sync::mpsc::error::TrySendError::Full(_) => IntakeError::Overloaded { retry_after_s: RETRY_AFTER_S },
            tokio::sync::mpsc::error::TrySendError::Closed(_) => closing(),
        })
    }
}

fn closing() -> IntakeError {
    IntakeError::Unavailable { reason: "the kernel is shutting down".into(), retry_after_s: RETRY_AFTER_S }
}

fn unavailable(error: &Arc<CommitError>) -> IntakeError {
    let retry_after_s = match error.as_ref() {
        CommitError::DiskFull { .. } => 60,
        _ => RETRY_AFTER_S,
    };
    IntakeError::Unavailable { reason: error.to_string(), retry_after_s }
}
