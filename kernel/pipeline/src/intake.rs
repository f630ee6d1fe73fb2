//! From bytes to a commit: a source's connector reads a request or a stream piece by piece, and what it finds is submitted.

mod again;
mod called;
mod faults;
mod gather;
mod judging;
pub(crate) mod occurrences;
pub(crate) mod polled;
mod preview;
pub(crate) mod remembered;
pub(crate) mod session;
mod volume;

use std::sync::Arc;
use std::time::Duration;

use kith_model::budget::{Exhausted, Permit};
use kith_model::consent::Giver;
use kith_model::event::EventOrigin;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Answer, Connector, PluginFault, ReceiveError, Received, Refusal, SourceRequest};
use kith_model::tracking::TrackingPlan;
use kith_store::CommitError;
use tokio::sync::oneshot;

use crate::accept::{
    MAX_LISTED_OF_FILES, MAX_REPORTED_REJECTIONS, Sender, Submission, SubmissionRefusal, submission_bytes,
};
use crate::setup::{Activity, Installed, Role};
use crate::shared::{Culprit, KernelState, Workspace};
use crate::views::Acceptance;

/// A stream is cut into pieces of about this size: some thousand rows, so that one call's output stays within its limits.
const PIECE_BYTES: usize = 256 << 10;

/// The largest input that a connector may ask to see whole: the client batch routes decode at most this much.
pub const MAX_UNCONSUMED_BYTES: usize = 10 << 20;

/// After this many seconds a client that was turned away should come back.
const RETRY_AFTER_S: u32 = 1;
const RETRY_AFTER: Duration = Duration::from_secs(RETRY_AFTER_S as u64);

use called::Called;
pub(crate) use faults::InputFaults;
use faults::{Blame, RunningConnector, beyond_limit};
pub(crate) use gather::Gathering;
use occurrences::{Corrects, Occurrences, RepeatedIds};
pub use preview::Preview;
pub(crate) use remembered::ImportMemory;
use session::Session;
pub(crate) use volume::Volumes;

/// What happens where there is no room now.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WithoutRoom {
    Wait,
    /// Say so at once.
    Refuse,
}

/// How much of a body the connector has before it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Portion {
    /// A piece that another may follow.
    Piece,
    /// All that is left.
    Last,
}

/// The end of an intake.
#[derive(Debug, Clone, PartialEq)]
pub struct IntakeReceipt {
    pub acceptance: Acceptance,
    /// The connector's own answer to its client, if it has one.
    pub answer: Option<Answer>,
    /// What the connector assumed about the input, name and text.
    pub notes: Vec<(String, String)>,
    /// Rows of a file with the id of another row before them and other content.
    pub repeated_ids: u64,
    /// What a dry run found.
    pub preview: Option<Preview>,
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
    /// The connector's calls, or what waits to be stored, have used up a budget.
    #[error(transparent)]
    Exhausted(Exhausted),
    /// Nothing is stored until there is room.
    #[error("the server's disk is nearly full")]
    DiskFull,
    #[error("the store takes nothing now: {reason}")]
    Unavailable { reason: String, retry_after_s: u32 },
    #[error("an import of this name is under way")]
    ImportUnderWay { retry_after_s: u32 },
    #[error("the import of this name has come to byte {bytes}")]
    ImportElsewhere { bytes: u64 },
}

/// How input comes in.
#[derive(Debug, Clone, Copy)]
pub struct Arrival {
    /// Whether it is live traffic or history.
    pub origin: EventOrigin,
    /// Whether the sender's key may end refusals of consent; what an admin granted the source comes to it.
    pub giver: Giver,
}

/// A stream of bytes on its way in.
pub struct Intake {
    shared: Arc<KernelState>,
    connector: Arc<dyn Connector>,
    /// Where the source was stopped, and this is its trial.
    trial: Option<Trial>,
    asked: RunningConnector,
    workspace: WorkspaceId,
    source: InstallationId,
    sender: Arc<Sender>,
    /// What the source is expected to send.
    plan: Option<Arc<TrackingPlan>>,
    occurrences: Occurrences,
    repeated_ids: RepeatedIds,
    /// The memory of the two above.
    remembers: Option<Permit>,
    session: Option<Session>,
    /// What one call of the connector may take.
    call_memory_bytes: u64,
    /// The request that the bytes came with; its body and progress are filled in for each piece.
    request: SourceRequest,
    buffer: Vec<u8>,
    /// The buffer is offered to the connector from this size on.
    threshold: usize,
    /// Whether the bytes are live traffic or history.
    origin: EventOrigin,
    /// Whether they may end refusals of consent.
    giver: Giver,
    acceptance: Acceptance,
    answer: Option<Answer>,
    notes: Vec<(String, String)>,
    /// Nothing is stored, and this is noted in its place.
    preview: Option<Preview>,
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
        shared: Arc<KernelState>,
        workspace: WorkspaceId,
        source: InstallationId,
        request: SourceRequest,
        arrival: Arrival,
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
        let version = version_of(installed);
        let sender = Arc::new(Sender::of(&compiled.setup, installed));
        Ok(Intake {
            trial,
            sender,
            plan: compiled.setup.tracking.get(&source).cloned(),
            occurrences: Occurrences::default(),
            repeated_ids: RepeatedIds::default(),
            remembers: None,
            session: None,
            asked: RunningConnector { workspace, source, version },
            connector: Arc::clone(connector),
            call_memory_bytes: installed.call_memory_bytes,
            shared,
            workspace,
            source,
            request,
            buffer: Vec::new(),
            threshold: PIECE_BYTES,
            origin: arrival.origin,
            giver: arrival.giver.max(installed.giver),
            acceptance: Acceptance::default(),
            answer: None,
            notes: Vec::new(),
            preview: None,
            has_begun: false,
        })
    }

    /// The same as a dry run, which stores nothing.
    #[must_use]
    pub fn dry(mut self) -> Intake {
        self.preview = Some(Preview::default());
        self
    }

    /// What has been committed so far.
    pub fn so_far(&self) -> &Acceptance {
        &self.acceptance
    }

    /// Take more bytes; a full piece is read and committed before this returns.
    pub async fn push(&mut self, bytes: &[u8]) -> Result<(), IntakeError> {
        self.buffer.extend_from_slice(bytes);
        while self.buffer.len() >= self.threshold {
            let consumed = self.piece(Portion::Piece, WithoutRoom::Wait).await?;
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
    pub async fn finish(&mut self) -> Result<IntakeReceipt, IntakeError> {
        self.end(WithoutRoom::Wait).await?;
        self.end_session().await;
        Ok(self.receipted())
    }

    /// A whole request that waits for no room: an overloaded kernel says so at once.
    pub(crate) async fn whole(mut self, body: Vec<u8>) -> Result<IntakeReceipt, IntakeError> {
        self.buffer = body;
        self.end(WithoutRoom::Refuse).await?;
        Ok(self.receipted())
    }

    fn receipted(&mut self) -> IntakeReceipt {
        let corrects = if self.sender.corrects { Corrects::Yes } else { Corrects::No };
        let mut notes = std::mem::take(&mut self.notes);
        notes.extend(self.repeated_ids.note(corrects));
        IntakeReceipt {
            acceptance: self.acceptance.clone(),
            answer: self.answer.take(),
            notes,
            repeated_ids: self.repeated_ids.rows(),
            preview: self.preview.take(),
        }
    }

    async fn end(&mut self, without_room: WithoutRoom) -> Result<(), IntakeError> {
        let whole = self.buffer.len();
        let consumed = self.piece(Portion::Last, without_room).await?;
        if consumed < whole {
            let problem = format!("the connector consumed {consumed} of the last {whole} bytes; it must take them all");
            return Err(self.fault(PluginFault::InvalidOutput(problem), &self.buffer));
        }
        Ok(())
    }

    /// Let the connector read the buffer, and commit what it found. How many bytes it took.
    async fn piece(&mut self, portion: Portion, without_room: WithoutRoom) -> Result<usize, IntakeError> {
        let now = self.shared.clock.now();
        self.shared.volumes.check((self.workspace, self.source), now).map_err(IntakeError::Exhausted)?;
        let (body, complete) = (std::mem::take(&mut self.buffer), portion == Portion::Last);
        let request = SourceRequest { body, complete, ..self.request.clone() };
        let called = self.call(request, without_room).await?;
        self.compare_shadow(&called);
        let Called { request, received, .. } = called;
        let received = match received {
            Ok(received) => received,
            Err(ReceiveError::Refused(refusal)) => {
                self.keep_refused(&refusal, &request).await;
                return Err(IntakeError::Refused(refusal));
            }
            Err(ReceiveError::Fault(fault)) => {
                self.keep_request(&fault, &request).await;
                return Err(self.fault(fault, &request.body));
            }
        };
        self.has_begun = true;
        self.shared.forgive(self.workspace, self.source);
        self.trial = None;
        self.shared.input_faults.answered(self.asked, self.shared.clock.now());
        let Received { mut events, places, rejected, consumed, resume, answer, notes } = received;
        if consumed > request.body.len() {
            let problem = format!("the connector consumed {consumed} of {} bytes", request.body.len());
            return Err(self.fault(PluginFault::InvalidOutput(problem), &request.body));
        }
        self.buffer = request.body[consumed..].to_vec();
        let judged = self.judge(&mut events).await;
        let input = self.input(request.body, resume.clone(), places, judged);
        self.request.resume = resume;
        self.answer = answer.or_else(|| self.answer.take());
        self.notes = notes;
        let is_file = self.origin == EventOrigin::Import;
        let contents = if is_file { self.compare(&mut events).await? } else { Vec::new() };
        if let Some(preview) = &mut self.preview {
            let workspace = self.shared.workspace(self.workspace).ok_or_else(stopped)?;
            let setup = Arc::clone(&workspace.compiled.load().setup);
            let sender = (&setup.identity_rules, &*self.sender);
            preview.take(events, &input, rejected, sender, self.request.received_at);
            return Ok(consumed);
        }
        if let Some(session) = &mut self.session {
            session.took(consumed);
        }
        if !events.is_empty() || !rejected.is_empty() {
            let (reply, answered) = oneshot::channel();
            let resume = || self.request.resume.clone();
            let piece = self.session.as_mut().map(|session| session.piece(resume(), contents));
            let submission = Submission {
                sender: Arc::clone(&self.sender),
                piece,
                origin: self.origin,
                giver: self.giver,
                events,
                rejected,
                input: Some(input),
                ..Submission::of_nothing(self.workspace, self.source, self.request.received_at, reply)
            };
            self.submit(submission, without_room).await?;
            self.note(answered.await.map_err(|_| stopped())?.map_err(|error| not_committed(&error))?);
        } else if self.acceptance.position.0 == 0 {
            self.acceptance.position = self.shared.store.head();
        }
        Ok(consumed)
    }

    /// Hand a submission to the lane, and count what it brings.
    async fn submit(&self, submission: Submission, without_room: WithoutRoom) -> Result<(), IntakeError> {
        let bytes = submission_bytes(&submission);
        self.shared.submit(submission, without_room).await?;
        self.shared.volumes.brought((self.workspace, self.source), bytes, self.shared.clock.now());
        Ok(())
    }

    fn note(&mut self, mut piece: Acceptance) {
        if let Some(session) = &mut self.session {
            session.restore(&mut piece);
        }
        self.acceptance.position = piece.position;
        let is_file = self.origin == EventOrigin::Import;
        self.acceptance.add(piece, if is_file { MAX_LISTED_OF_FILES } else { MAX_REPORTED_REJECTIONS });
    }

    /// The connector failed on `input`: whose fault that is, and what the sender is told.
    fn fault(&self, fault: PluginFault, input: &[u8]) -> IntakeError {
        let now = self.shared.clock.now();
        let refusal = beyond_limit(&fault, input);
        let blame = match refusal {
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
        refusal.map_or(IntakeError::Fault(fault), IntakeError::Refused)
    }
}

/// What changes when the connector or its configuration does.
fn version_of(installed: &Installed) -> u64 {
    xxhash_rust::xxh3::xxh3_64(installed.digest.as_bytes()) ^ installed.config_hash
}

impl KernelState {
    /// Hand a submission to its lane, at once or as soon as there is room.
    async fn submit(&self, submission: Submission, without_room: WithoutRoom) -> Result<(), IntakeError> {
        let submitted = match without_room {
            WithoutRoom::Wait => self.accept.submit(submission).await,
            WithoutRoom::Refuse => self.accept.try_submit(submission),
        };
        submitted.map_err(|refused| match refused {
            SubmissionRefusal::Full(_, budget) => {
                IntakeError::Exhausted(budget.exhausted(budget.default, Some(RETRY_AFTER)))
            }
            SubmissionRefusal::Stopping => stopped(),
        })
    }
}

/// The kernel stops, or the workspace was taken out of it: whoever sends keeps what was not taken, and comes again.
pub(crate) fn stopped() -> IntakeError {
    IntakeError::Unavailable { reason: "the workspace takes nothing now".into(), retry_after_s: RETRY_AFTER_S }
}

fn closing() -> IntakeError {
    IntakeError::Unavailable { reason: "the kernel is shutting down".into(), retry_after_s: RETRY_AFTER_S }
}

/// What a sender is told of a submission that was not committed: to come back, unless it never can be.
pub(crate) fn not_committed(error: &Arc<CommitError>) -> IntakeError {
    let retry_after_s = match error.as_ref() {
        CommitError::TooLarge { limit, .. } => return IntakeError::TooLarge { limit: *limit },
        CommitError::DiskFull { .. } => {
            tracing::error!(%error, "nothing is stored");
            return IntakeError::DiskFull;
        }
        CommitError::Conflict(_) | CommitError::Fenced { .. } | CommitError::Closed | CommitError::Read(_) => {
            RETRY_AFTER_S
        }
    };
    IntakeError::Unavailable { reason: error.to_string(), retry_after_s }
}
