//! What came of attempts, made durable: a delivery's state, its place in the outbox and its receipt are one commit, so that no
//! crash can leave one without the others.

use std::sync::Arc;
use std::time::Duration;

use kith_model::delivery::{DeliveryInput, DeliveryState, Outcome, step};
use kith_model::event::{DraftEvent, EventKind, EventOrigin};
use kith_model::id::InstallationId;
use kith_model::time::Timestamp;
use kith_store::{CommitError, JobId, Key, Operation, Precondition, QueueId, ReadError, Unit, row};
use tokio::sync::oneshot;
use tokio::time::sleep;

use super::claims;
use super::sending::{HELD_BACK_MS, Outgoing, Sender};
use crate::accept::Submission;
use crate::offload;
use crate::rows::outbox::letter_of;
use crate::rows::{Aside, DeliveryRow, DeliveryTotals};

/// How the reason begins for which a channel was stopped whose receiver is gone, whatever version sends to it.
pub const ENDPOINT_GONE: &str = "the receiving endpoint is gone";

/// A commit that failed is repeated after this long, and twice as long each time.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const MAX_PAUSE: Duration = Duration::from_secs(5);

/// How an attempt ended.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum End {
    Outcome(Outcome),
    /// The kernel stopped before the other side had answered, or nobody can say what the other side did.
    CutOff,
}

/// A message whose attempt ended.
#[derive(Debug, Clone)]
pub(super) struct EndedAttempt {
    pub outgoing: Arc<Outgoing>,
    pub end: End,
    pub at: Timestamp,
}

/// Why outcomes were not committed.
#[derive(Debug, thiserror::Error)]
enum OutcomeError {
    #[error(transparent)]
    Commit(Arc<CommitError>),
    #[error(transparent)]
    Read(#[from] ReadError),
    /// Nobody answered, because the lane that had them failed. They may be durable all the same.
    #[error("nobody said whether they are durable")]
    Unanswered,
    #[error("the kernel takes no more events")]
    Closed,
}

impl OutcomeError {
    /// Whether fewer outcomes at once may be taken.
    fn is_divisible(&self) -> bool {
        matches!(self, OutcomeError::Commit(error) if matches!(error.as_ref(), CommitError::TooLarge { .. }))
    }
}

/// Commit outcomes with their receipts and let the messages go. One that comes after its message was cut off comes too late:
/// the message is back in its outbox, and goes out under the same id.
pub(super) async fn commit(sender: &Arc<Sender>, ended: Vec<EndedAttempt>) {
    let ended = sender.begin_ends(ended);
    write_down(sender, ended).await;
}

/// Commit ends that are the caller's alone ([`Load::begin_end`](super::load::Load::begin_end)). A commit that fails is repeated
/// until it succeeds: an outcome that is dropped is a message sent twice.
pub(super) async fn write_down(sender: &Arc<Sender>, ended: Vec<EndedAttempt>) {
    if ended.is_empty() {
        return;
    }
    for one in &ended {
        metrics::counter!("kith_delivery_attempts_total", "outcome" => name(&one.end)).increment(1);
        if let End::Outcome(Outcome::Stop { reason }) = &one.end {
            let reason = format!("{ENDPOINT_GONE}: {reason}");
            sender.shared.hold(sender.workspace(), sender.channel(), &reason);
        }
    }
    let mut waiting = vec![ended];
    let mut pause = FIRST_PAUSE;
    while let Some(batch) = waiting.pop() {
        match submit(sender, &batch).await {
            Ok(()) => {
                pause = FIRST_PAUSE;
                sender.release(batch.iter().map(|one| one.outgoing.id));
                // What is to be tried again may be due before the sender meant to wake.
                sender.shared.workers.wake(sender.queue);
            }
            Err(OutcomeError::Closed) => {
                tracing::error!(channel = sender.channel().0, messages = batch.len(), "outcomes were not written down");
                return;
            }
            Err(error) if error.is_divisible() && batch.len() > 1 => {
                let (one, other) = batch.split_at(batch.len() / 2);
                waiting.extend([one.to_vec(), other.to_vec()]);
            }
            Err(error) => {
                tracing::error!(channel = sender.channel().0, %error, "outcomes are not written down yet");
                waiting.push(batch);
                sleep(pause).await;
                pause = (2 * pause).min(MAX_PAUSE);
            }
        }
    }
}

async fn submit(sender: &Arc<Sender>, batch: &[EndedAttempt]) -> Result<(), OutcomeError> {
    let building = (Arc::clone(sender), batch.to_vec());
    let OutcomeChanges { events, operations, moved } = offload::run(move || settle(&building.0, &building.1)).await?;
    let (reply, answered) = oneshot::channel();
    let submission = Submission {
        workspace: sender.workspace(),
        source: sender.channel(),
        sender: Arc::default(),
        piece: None,
        received_at: batch.first().map_or_else(|| sender.now(), |one| one.at),
        origin: EventOrigin::Kernel,
        // A receiver may report that somebody unsubscribed, and agrees for nobody.
        giver: kith_model::consent::Giver::RefusesOnly,
        events,
        rejected: Vec::new(),
        with: operations,
        moved: Some(Box::new(moved)),
        input: None,
        again: None,
        parts_of: Default::default(),
        reply,
    };
    sender.shared.accept.submit(submission).await.map_err(|_| OutcomeError::Closed)?;
    match answered.await {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(OutcomeError::Commit(error)),
        Err(_) => Err(OutcomeError::Unanswered),
    }
}

/// What outcomes come to.
struct OutcomeChanges {
    events: Vec<DraftEvent>,
    operations: Vec<Operation>,
    moved: DeliveryTotals,
}

/// The events and operations of a batch. The rows are read again, because a callback may have confirmed a delivery while its
/// answer was on the way, and because this may be a repeat of what has been committed; such a delivery is left as it is.
fn settle(sender: &Sender, batch: &[EndedAttempt]) -> Result<OutcomeChanges, ReadError> {
    let keys: Vec<Key> = batch.iter().map(|one| Key::delivery(sender.workspace(), &one.outgoing.id)).collect();
    let rows = sender.shared.store.get(&keys)?;
    let channel = sender.channel_name();
    let mut settled = OutcomeChanges { events: Vec::new(), operations: Vec::new(), moved: DeliveryTotals::default() };
    for (one, row) in batch.iter().zip(rows) {
        let id = &one.outgoing.id;
        let mut row = match row.map(|row| row::decode::<DeliveryRow>(&row)) {
            Some(Ok(row)) => row,
            Some(Err(_)) | None => one.outgoing.row.clone(),
        };
        if is_counted(&one.outgoing, &row.state) {
            continue;
        }
        let input = match (&one.end, &row.state) {
            (End::Outcome(outcome), _) => DeliveryInput::Attempted(outcome.clone()),
            (End::CutOff, DeliveryState::Sending { .. }) => DeliveryInput::Interrupted,
            // As after a crash: whether it arrived nobody knows, and the next attempt, which has the same id, is due now. Were this
            // one counted, a stop would cost a message more than a crash, and the tenth one its life.
            (End::CutOff, DeliveryState::Pending { due_at, .. }) => {
                let (queue, due_at) = (sender.queue, *due_at);
                settled.operations.push(Operation::Enqueue { queue, id: *id, due_at, body: Vec::new() });
                continue;
            }
            // A callback has settled it, and took it off the outbox.
            (End::CutOff, _) => continue,
        };
        let before = row.state.clone();
        advance(&mut row, input, one.at);
        settled.moved.moved(&before, &row.state);
        settled.operations.extend(operations_of(sender.queue, id, &row));
        settled.events.extend(receipt(one, &channel, &row.state));
    }
    Ok(settled)
}

/// Whether what came of the attempt is in the delivery's state already.
fn is_counted(outgoing: &Outgoing, state: &DeliveryState) -> bool {
    match state {
        DeliveryState::Pending { .. } => *state != outgoing.row.state,
        DeliveryState::Sending { attempts, .. } => *attempts != outgoing.message.attempt,
        // These take no outcome.
        _ => false,
    }
}

/// Begin the attempt of a message that may not leave twice; whether it leaves. What was taken back while the attempt was being
/// written down was answered by then, and holds: nothing has left, and the next claim says why nothing does.
pub(super) async fn begin(sender: &Arc<Sender>, outgoing: &Arc<Outgoing>) -> bool {
    let beginning = (Arc::clone(sender), Arc::clone(outgoing));
    if let Err(error) = offload::run(move || begin_attempt(&beginning.0, &beginning.1)).await {
        tracing::error!(channel = sender.channel().0, %error, "an attempt was not begun");
        sender.hand_back(outgoing.id, sender.now().plus_ms(HELD_BACK_MS));
        return false;
    }
    let leaves = claims::may_still_leave(sender, outgoing).await;
    if !leaves {
        let reason = "its person or its audience changed as the attempt began".to_owned();
        let end = End::Outcome(Outcome::Retry { after_ms: Some(0), reason });
        sender.end(vec![EndedAttempt { outgoing: Arc::clone(outgoing), end, at: sender.now() }]);
    }
    leaves
}

/// Write down that an attempt begins, before its request can leave.
fn begin_attempt(sender: &Sender, outgoing: &Outgoing) -> Result<(), CommitError> {
    let mut row = outgoing.row.clone();
    advance(&mut row, DeliveryInput::Begun, sender.now());
    debug_assert!(matches!(row.state, DeliveryState::Sending { .. }), "only a pending delivery passes the gate");
    let key = Key::delivery(sender.workspace(), &outgoing.id);
    let unit = Unit {
        preconditions: vec![Precondition::Holds(key, row::encode(&outgoing.row))],
        operations: operations_of(sender.queue, &outgoing.id, &row),
        ..Unit::default()
    };
    sender.shared.commit(unit).map(drop)
}

/// Take a step; a delivery that does not take it stays as it is.
pub(super) fn advance(row: &mut DeliveryRow, input: DeliveryInput, now: Timestamp) {
    match step(row.state.clone(), input, now) {
        Ok(state) => row.state = state,
        Err(error) => tracing::warn!(%error, "a delivery was left as it was"),
    }
}

/// All that is written for a delivery's state: its row, its place in the outbox, and the dead letter that lists it.
pub(super) fn operations_of(queue: QueueId, id: &JobId, row: &DeliveryRow) -> Vec<Operation> {
    let mut operations = vec![Operation::Put(Key::delivery(queue.workspace, id), row::encode(row))];
    operations.push(match row.state {
        DeliveryState::Pending { due_at, .. } => Operation::Enqueue { queue, id: *id, due_at, body: Vec::new() },
        // The job of an attempt that has begun is what finds it after a crash.
        DeliveryState::Sending { .. } => return operations,
        DeliveryState::Delivered { .. }
        | DeliveryState::Accepted { .. }
        | DeliveryState::Skipped { .. }
        | DeliveryState::Dead { .. }
        | DeliveryState::Unknown { .. } => Operation::Acknowledge { queue, id: *id },
    });
    if let Some(key) = letter_of(queue.workspace, id, row) {
        operations.push(Operation::Put(key, row::encode(&Aside::Delivery { id: *id })));
    }
    operations
}

fn name(end: &End) -> &'static str {
    match end {
        End::Outcome(Outcome::Accepted { .. }) => "accepted",
        End::Outcome(Outcome::Delivered { .. }) => "delivered",
        End::Outcome(Outcome::Retry { .. }) => "retry",
        End::Outcome(Outcome::Permanent { .. }) => "permanent",
        End::Outcome(Outcome::Stop { .. }) => "stop",
        End::CutOff => "cut-off",
    }
}

/// What came of the delivery, as an event of the person; none where it is not over or not known.
fn receipt(one: &EndedAttempt, channel: &str, state: &DeliveryState) -> Option<DraftEvent> {
    let (event, detail) = match state {
        DeliveryState::Delivered { provider_id, .. } => {
            ("Message Delivered", serde_json::json!({ "provider_id": provider_id }))
        }
        DeliveryState::Accepted { provider_id, .. } => {
            ("Message Accepted", serde_json::json!({ "provider_id": provider_id }))
        }
        DeliveryState::Dead { reason, .. } => ("Message Failed", serde_json::json!({ "reason": reason })),
        DeliveryState::Pending { .. }
        | DeliveryState::Skipped { .. }
        | DeliveryState::Sending { .. }
        | DeliveryState::Unknown { .. } => return None,
    };
    let outgoing = one.outgoing.as_ref();
    let mut properties = serde_json::json!({
        "message": outgoing.message.id,
        "channel": channel,
        "audience": outgoing.row.audience.0,
        "purpose": outgoing.row.purpose,
        "attempt": outgoing.message.attempt,
    });
    if let (Some(properties), serde_json::Value::Object(detail)) = (properties.as_object_mut(), detail) {
        properties.extend(detail);
    }
    // Attempts are counted from 1 again after a replay; when this one was due tells it from its namesake.
    let due_at = match outgoing.row.state {
        DeliveryState::Pending { due_at, .. } => due_at,
        _ => one.at,
    };
    let (message, attempt) = (&outgoing.message.id, outgoing.message.attempt);
    Some(DraftEvent {
        kind: EventKind::Track,
        // One receipt for each attempt, however often its commit is repeated.
        message_id: Some(format!("{message}-{attempt}-{}-{}", name(&one.end), due_at.0)),
        name: event.into(),
        time: Some(one.at),
        sent_at: None,
        identifiers: vec![outgoing.person.clone()],
        properties: properties.to_string(),
        traits: String::new(),
        ..DraftEvent::default()
    })
}

impl Sender {
    /// The channel's name, or its number once it is removed.
    fn channel_name(&self) -> String {
        let workspace = self.shared.workspace(self.workspace());
        let compiled = workspace.map(|workspace| workspace.compiled.load_full());
        let installed = compiled.as_ref().and_then(|compiled| compiled.setup.installation(self.channel()));
        let InstallationId(number) = self.channel();
        installed.map_or_else(|| number.to_string(), |installed| installed.name.to_string())
    }
}
