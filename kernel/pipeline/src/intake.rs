//! From bytes to a commit: a source's connector reads a request or a stream piece by piece, and what it finds is submitted.

mod faults;

use std::sync::Arc;

use kith_model::budget::Exhausted;
use kith_model::event::{EventOrigin, RejectedRecord};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Answer, Connector, PluginFault, ReceiveError, Received, Refusal, SourceRequest};
use kith_store::CommitError;
use tokio::sync::oneshot;

use crate::accept::{MAX_REPORTED_REJECTIONS, Refused, Submission};
use crate::guests::{Caller, GuestClass, Guests};
use crate::setup::{Activity, Role};
use crate::shared::{Culprit, Shared, Workspace};
use crate::views::Acceptance;

/// A stream is cut into pieces of about this size: some thousand rows, so that one call's output stays within its limits.
const PIECE_BYTES: usize = 256 << 10;

/// The largest input that a connector may ask to see whole: the client batch routes decode at most this much.
pub const MAX_UNCONSUMED_BYTES: usize = 10 << 20;

/// Of a request that nobody can read so much is handed to what is kept aside, which has a bound of its own.
const MAX_KEPT_BODY_BYTES: usize = 64 << 10;

/// After this many seconds a client that was turned away should come back.
const RETRY_AFTER_S: u32 = 1;

pub(crate) use faults::InputFaults;
use faults::{Asked, Blame, beyond_limit};

/// What happens where there is no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithoutRoom {
    Wait,
    /// Say so at once.
    Refuse,
}

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
    #[error("the source does not run: {why}")]
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
    /// The connector's calls have used up a budget.
    #[error(transparent)]
    Exhausted(Exhausted),
    #[error("the store takes nothing now: {reason}")]
    Unavailable { reason: String, retry_after_s: u32 },
}

/// A stream of bytes on its way in.
pub struct Intake {
    shared: Arc<Shared>,
    connector: Arc<dyn Connector>,
    /// Where the source was stopped, and this is its trial.
    trial: Option<Trial>,
    asked: Asked,
    workspace: WorkspaceId,
    source: InstallationId,
    /// What one call of the connector may take.
    call_memory_bytes: u64,
    /// The request that the bytes came with; its body and progress are filled in for each piece.
    request: SourceRequest,
    buffer: Vec<u8>,
    /// The buffer is offered to the connector from this size on.
    threshold: usize,
    /// Whether the bytes are live traffic or history.
    origin: EventOrigin,
    acceptance: Acceptance,
    answer: Option<Answer>,
    /// Whether the connector has read a piece of it.
    has_begun: bool,
}

/// A connector's trial. One of which nothing came says nothing.
struct Trial {
    workspace: Arc<Workspace>,
    source: InstallationId,
}

impl Drop for Trial {
    fn drop(&mut self) {
        self.workspace.trials.said_nothing(self.source);
    }
}

impl Intake {
    pub(crate) fn new(
        shared: Arc<Shared>,
        workspace: WorkspaceId,
        source: InstallationId,
        request: SourceRequest,
        origin: EventOrigin,
    ) -> Result<Intake, IntakeError> {
        if shared.is_closing() {
            return Err(closing());
        }
        let known = shared.workspace(workspace).ok_or_else(stopped)?;
        if known.is_stopping() {
            return Err(stopped());
        }
        let compiled = known.compiled.load_full();
        let installed = compiled.setup.installation(source).ok_or(IntakeError::UnknownSource)?;
        let Role::Connector(connector) = &installed.role else { return Err(IntakeError::UnknownSource) };
        let trial = match &installed.activity {
            Activity::Held { why, .. } => return Err(IntakeError::NotLive { why: why.clone() }),
            Activity::Quarantined { why, .. } => {
                if !known.trials.begin(source, &installed.activity, shared.clock.now()) {
                    return Err(IntakeError::NotLive { why: why.clone() });
                }
                Some(Trial { workspace: Arc::clone(&known), source })
            }
            Activity::Running | Activity::WaitsForFit { .. } => None,
        };
        let version = xxhash_rust::xxh3::xxh3_64(installed.digest.as_bytes()) ^ installed.config_hash;
        Ok(Intake {
            trial,
            asked: Asked { workspace, source, version },
            connector: Arc::clone(connector),
            call_memory_bytes: installed.call_memory_bytes,
            shared,
            workspace,
            source,
            request,
            buffer: Vec::new(),
            threshold: PIECE_BYTES,
            origin,
            acceptance: Acceptance::default(),
            answer: None,
            has_begun: false,
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
            let consumed = self.piece(false, WithoutRoom::Wait).await?;
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
        self.end(WithoutRoom::Wait).await?;
        Ok(Receipted { acceptance: self.acceptance, answer: self.answer })
    }

    /// A whole request that waits for no room: an overloaded kernel says so at once.
    pub(crate) async fn whole(mut self, body: Vec<u8>) -> Result<Receipted, IntakeError> {
        self.buffer = body;
        self.end(WithoutRoom::Refuse).await?;
        Ok(Receipted { acceptance: self.acceptance, answer: self.answer })
    }

    async fn end(&mut self, without_room: WithoutRoom) -> Result<(), IntakeError> {
        let whole = self.buffer.len();
        let consumed = self.piece(true, without_room).await?;
        if consumed < whole {
            let problem = format!("the connector consumed {consumed} of the last {whole} bytes; it must take them all");
            return Err(self.fault(PluginFault::InvalidOutput(problem), &self.buffer));
        }
        Ok(())
    }

    /// Run the connector on the guests' threads. The request comes back with what was received.
    async fn call(
        &self,
        request: SourceRequest,
        without_room: WithoutRoom,
    ) -> Result<(SourceRequest, Result<Received, ReceiveError>), IntakeError> {
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
        loop {
            // Registered before the try, so that room which comes in between is not missed.
            let room = self.shared.guests.room(caller.class);
            let (connector, given) = (Arc::clone(&self.connector), Arc::clone(&request));
            let call = self.shared.guests.run(caller, move || {
                let received = connector.receive(&given);
                (given, received)
            });
            let ended = match (call, without_room) {
                (Ok(call), WithoutRoom::Wait) => call.finish().await,
                (Ok(call), WithoutRoom::Refuse) => {
                    call.finish_soon(Guests::patience()).await.map_err(IntakeError::Exhausted)?
                }
                (Err(_), WithoutRoom::Wait) => {
                    room.await;
                    continue;
                }
                (Err(exhausted), WithoutRoom::Refuse) => return Err(IntakeError::Exhausted(exhausted)),
            };
            drop(request);
            let (request, received) = ended.map_err(|_| stopped())?;
            // The call has given back the only other handle.
            return Ok((Arc::unwrap_or_clone(request), received));
        }
    }

    /// Let the connector read the buffer, and commit what it found. How many bytes it took.
    async fn piece(&mut self, complete: bool, without_room: WithoutRoom) -> Result<usize, IntakeError> {
        let request = SourceRequest { body: std::mem::take(&mut self.buffer), complete, ..self.request.clone() };
        let (request, received) = self.call(request, without_room).await?;
        let received = match received {
            Ok(received) => received,
            Err(ReceiveError::Refused(refusal)) => {
                self.keep_refused(&refusal, &request.body).await;
                return Err(IntakeError::Refused(refusal));
            }
            Err(ReceiveError::Fault(fault)) => return Err(self.fault(fault, &request.body)),
        };
        self.has_begun = true;
        self.shared.forgive(self.workspace, self.source);
        self.trial = None;
        self.shared.input_faults.answered(self.asked, self.shared.clock.now());
        let Received { events, rejected, consumed, resume, answer } = received;
        if consumed > request.body.len() {
            let problem = format!("the connector consumed {consumed} of {} bytes", request.body.len());
            return Err(self.fault(PluginFault::InvalidOutput(problem), &request.body));
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
                with: Vec::new(),
                moved: None,
                reply,
            };
            self.shared.submit(submission, without_room).await?;
            self.note(answered.await.map_err(|_| stopped())?.map_err(|error| not_committed(&error))?);
        } else if self.acceptance.position.0 == 0 {
            self.acceptance.position = self.shared.store.head();
        }
        Ok(consumed)
    }

    /// Keep what the connector cannot read at all. Its client is told, and many clients drop what is refused: so it is kept aside once,
    /// and can be looked at and sent again. Where nothing can be kept the client is told the same.
    async fn keep_refused(&self, refusal: &Refusal, body: &[u8]) {
        if !matches!(refusal.status, 400 | 422) || body.is_empty() {
            return;
        }
        let kept = &body[..body.len().min(MAX_KEPT_BODY_BYTES)];
        let record = RejectedRecord {
            place: 0,
            code: refusal.code.clone(),
            message: refusal.message.clone(),
            raw: String::from_utf8_lossy(kept).into_owned(),
        };
        let (reply, answered) = oneshot::channel();
        let submission = Submission {
            workspace: self.workspace,
            source: self.source,
            received_at: self.request.received_at,
            origin: self.origin,
            events: Vec::new(),
            rejected: vec![record],
            with: Vec::new(),
            moved: None,
            reply,
        };
        let kept = match self.shared.submit(submission, WithoutRoom::Refuse).await {
            Ok(()) => matches!(answered.await, Ok(Ok(_))),
            Err(_) => false,
        };
        if !kept {
            tracing::warn!(
                workspace = self.workspace.0,
                installation = self.source.0,
                "a request that was refused is not kept aside"
            );
        }
    }

    fn note(&mut self, piece: Acceptance) {
        let total = &mut self.acceptance;
        total.accepted += piece.accepted;
        total.duplicate += piece.duplicate;
        total.rejected_count += piece.rejected_count;
        total.add_flagged(piece.flagged);
        let room = MAX_REPORTED_REJECTIONS.saturating_sub(total.rejected.len());
        total.rejected.extend(piece.rejected.into_iter().take(room));
        total.position = piece.position;
    }

    /// The connector failed on `input`: whose fault that is, and what the sender is told.
    fn fault(&self, fault: PluginFault, input: &[u8]) -> IntakeError {
        let now = self.shared.clock.now();
        // What passes a limit is answered as the sender's: who chooses how much there is to do chooses that it is too much.
        let blame = match beyond_limit(&fault) {
            Some(_) => Blame::Request,
            None => self.shared.input_faults.judge(self.asked, input, now),
        };
        match (blame, self.shared.workspace(self.workspace)) {
            (Blame::Installation, Some(workspace)) if self.trial.is_some() && fault.is_strike() => {
                tracing::warn!(workspace = self.workspace.0, installation = self.source.0, code = fault.code(), %fault, "a connector's trial ended in a fault");
                workspace.trials.stopped(self.source, now);
            }
            (Blame::Installation, Some(workspace)) => {
                let culprit = Culprit::Content(xxhash_rust::xxh3::xxh3_64(input));
                self.shared.strike(&workspace, self.source, &fault, culprit);
            }
            (Blame::Request, _) | (Blame::Installation, None) => {
                tracing::warn!(workspace = self.workspace.0, installation = self.source.0, code = fault.code(), %fault, bytes = input.len(), "a connector failed on a request");
            }
        }
        beyond_limit(&fault).map_or(IntakeError::Fault(fault), IntakeError::Refused)
    }
}

impl Shared {
    /// Hand a submission to its lane, at once or as soon as there is room.
    async fn submit(&self, submission: Submission, without_room: WithoutRoom) -> Result<(), IntakeError> {
        let submitted = match without_room {
            WithoutRoom::Wait => self.accept.submit(submission).await,
            WithoutRoom::Refuse => self.accept.try_submit(submission),
        };
        submitted.map_err(|refused| match refused {
            Refused::Full(_) => IntakeError::Overloaded { retry_after_s: RETRY_AFTER_S },
            Refused::Stopping => stopped(),
        })
    }
}

/// The kernel stops, or the workspace was taken out of it: whoever sends keeps what was not taken, and comes again.
fn stopped() -> IntakeError {
    IntakeError::Unavailable { reason: "the workspace takes nothing now".into(), retry_after_s: RETRY_AFTER_S }
}

fn closing() -> IntakeError {
    IntakeError::Unavailable { reason: "the kernel is shutting down".into(), retry_after_s: RETRY_AFTER_S }
}

/// What a sender is told of a submission that was not committed: to come back, unless it never can be.
fn not_committed(error: &Arc<CommitError>) -> IntakeError {
    let retry_after_s = match error.as_ref() {
        CommitError::TooLarge { limit, .. } => return IntakeError::TooLarge { limit: *limit },
        CommitError::DiskFull { .. } => 60,
        CommitError::Conflict(_) | CommitError::Fenced { .. } | CommitError::Closed | CommitError::Read(_) => {
            RETRY_AFTER_S
        }
    };
    IntakeError::Unavailable { reason: error.to_string(), retry_after_s }
}
