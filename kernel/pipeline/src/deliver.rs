//! The last stage: the outbox out. One thread for each channel takes what is due, passes it through the gate, hands it to the
//! channel's plugin, and commits what came of it. What was delivered comes back as an event through the front door.
//!
//! A message may be sent twice when the process dies between the other side's answer and the commit; it then carries the
//! same id, which is the receiver's key against doubles.

use std::sync::Arc;
use std::time::Duration;

use kith_model::audience::ConsentBasis;
use kith_model::delivery::{DeliveryInput, DeliveryState, Message, Outcome, step};
use kith_model::event::{DraftEvent, EventKind, EventOrigin};
use kith_model::id::{InstallationId, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::plugin::Channel;
use kith_model::profile::{Contribution, IdentityHead};
use kith_model::time::Timestamp;
use kith_store::keys::PersonRow;
use kith_store::{CommitError, Job, Key, Operation, QueueId, ReadError, Unit};
use tokio::sync::oneshot;

use crate::accept::people::read_person;
use crate::accept::{Request, Submission};
use crate::rows::{self, DeliveryRow};
use crate::setup::{Activity, Installed, Role};
use crate::shared::Shared;

/// Messages in one call of a channel plugin: few, since each may wait for the other side.
const MAX_BATCH: usize = 8;

/// A claimed message comes back after this long if the process died: longer than any call may take.
const LEASE_MS: i64 = 120_000;

/// How often the outbox is looked at when nothing wakes the thread.
const IDLE: Duration = Duration::from_millis(100);

/// The queue of a channel's outbox.
pub(crate) fn outbox(workspace: WorkspaceId, channel: InstallationId) -> QueueId {
    QueueId { workspace, queue: channel.0 }
}

/// What one look at an outbox found.
enum Looked {
    Worked,
    Nothing,
    /// The channel is gone or switched off.
    Idle,
}

/// Deliver for one channel until the kernel stops or the channel is gone.
pub(crate) fn run(shared: &Arc<Shared>, workspace: WorkspaceId, channel: InstallationId) {
    while !shared.is_stopping() {
        let head = shared.store.head();
        match look(shared, workspace, channel) {
            Ok(Looked::Worked) => {}
            Ok(Looked::Nothing | Looked::Idle) => {
                shared.store.wait_for_change(head, IDLE);
            }
            Err(error) => {
                tracing::error!(workspace = workspace.0, channel = channel.0, %error, "the outbox cannot be worked");
                shared.store.wait_for_change(shared.store.head(), IDLE);
            }
        }
        if shared.workspace(workspace).is_none_or(|known| installed(&known.setup.load(), channel).is_none()) {
            return;
        }
    }
}

fn installed(setup: &crate::setup::Setup, channel: InstallationId) -> Option<&Installed> {
    setup.installations.iter().find(|installed| installed.id == channel)
}

/// Why an outbox was not worked.
#[derive(Debug, thiserror::Error)]
enum DeliverError {
    #[error(transparent)]
    Commit(#[from] CommitError),
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error("the receipt was not accepted: {0}")]
    Receipt(String),
}

fn look(shared: &Arc<Shared>, workspace: WorkspaceId, id: InstallationId) -> Result<Looked, DeliverError> {
    let Some(known) = shared.workspace(workspace) else { return Ok(Looked::Idle) };
    let setup = known.setup.load_full();
    let Some(installed) = installed(&setup, id) else { return Ok(Looked::Idle) };
    let (Role::Channel(channel), Activity::Running) = (&installed.role, &installed.activity) else {
        return Ok(Looked::Idle);
    };
    let now = shared.clock.now();
    let queue = outbox(workspace, id);
    if shared.store.next_due(queue)?.is_none_or(|due| due > now) {
        return Ok(Looked::Nothing);
    }
    let jobs = shared.store.claim(queue, now, MAX_BATCH, LEASE_MS)?;
    if jobs.is_empty() {
        return Ok(Looked::Nothing);
    }
    let mut ready = Vec::new();
    for job in &jobs {
        let key = Key::delivery(workspace, &job.id);
        match shared.store.get(&[key])?.pop().flatten() {
            Some(value) => ready.push((job, rows::decode::<DeliveryRow>("a delivery", &value)?)),
            None => settle(shared, job, None)?,
        }
    }
    let passed = gate(shared, workspace, ready)?;
    send(shared, workspace, installed, channel.as_ref(), &passed)?;
    Ok(Looked::Worked)
}

/// A delivery that passed the gate, with whom it goes to.
struct Passed<'j> {
    job: &'j Job,
    row: DeliveryRow,
    message: Message,
}

/// Let through what may be sent; settle what may not, with the reason.
fn gate<'j>(
    shared: &Arc<Shared>,
    workspace: WorkspaceId,
    ready: Vec<(&'j Job, DeliveryRow)>,
) -> Result<Vec<Passed<'j>>, DeliverError> {
    let mut passed = Vec::new();
    for (job, mut row) in ready {
        let DeliveryState::Pending { attempts, .. } = DeliveryState::from(row.state.clone()) else {
            settle(shared, job, None)?;
            continue;
        };
        let people = members(shared, workspace, row.profile)?;
        if let Some(reason) = refusal(&people, &row.purpose, row.basis) {
            let now = shared.clock.now();
            advance(&mut row, DeliveryInput::Refused { reason }, now);
            metrics::counter!("kith_deliveries_skipped_total").increment(1);
            settle(shared, job, Some(&row))?;
            continue;
        }
        let message = Message {
            id: crate::views::delivery_id(&job.id),
            attempt: attempts + 1,
            recipient: people.into_iter().map(|person| person.identifier).collect(),
            profile: row.profile,
            payload: row.payload.clone(),
            created_at: row.created_at,
        };
        passed.push(Passed { job, row, message });
    }
    Ok(passed)
}

struct Person {
    identifier: Identifier,
    contribution: Contribution,
}

/// The source identities that a profile has now; it may have been merged since the message was made.
fn members(shared: &Shared, workspace: WorkspaceId, profile: ProfileId) -> Result<Vec<Person>, ReadError> {
    let store = shared.store.as_ref();
    let head = |identity: SourceIdentityId| read_person::<IdentityHead>(store, workspace, identity, PersonRow::Head);
    let now = head(profile.0)?.map_or(profile, |head| head.profile);
    let members = head(now.0)?.and_then(|head| head.root).map_or(Vec::new(), |root| root.members);
    let mut people = Vec::new();
    for member in members {
        if let Some(head) = head(member)? {
            let contribution = read_person(store, workspace, member, PersonRow::Contribution)?.unwrap_or_default();
            people.push(Person { identifier: head.identifier, contribution });
        }
    }
    Ok(people)
}

/// Why the person may not be written to, if so. Consent is the trait `consent`, an object of purpose → true or false; of
/// several contributors the most restrictive counts.
fn refusal(people: &[Person], purpose: &str, basis: ConsentBasis) -> Option<String> {
    let answers = people.iter().filter_map(|person| {
        let consent = person.contribution.traits.get("consent")?;
        serde_json::from_str::<serde_json::Value>(&consent.json).ok()?.get(purpose)?.as_bool()
    });
    let answers: Vec<bool> = answers.collect();
    match (answers.contains(&false), answers.contains(&true), basis) {
        (true, _, _) => Some(format!("consent for `{purpose}` is refused")),
        (false, false, ConsentBasis::OptIn) => Some(format!("consent for `{purpose}` was not given")),
        _ => None,
    }
}

fn send(
    shared: &Arc<Shared>,
    workspace: WorkspaceId,
    installed: &Installed,
    channel: &dyn Channel,
    passed: &[Passed<'_>],
) -> Result<(), DeliverError> {
    if passed.is_empty() {
        return Ok(());
    }
    let messages: Vec<Message> = passed.iter().map(|one| one.message.clone()).collect();
    let outcomes = match channel.send(&messages) {
        Ok(outcomes) if outcomes.len() == messages.len() => {
            shared.forgive(workspace, installed.id);
            outcomes
        }
        Ok(outcomes) => {
            let problem = format!("{} outcomes for {} messages", outcomes.len(), messages.len());
            let fault = kith_model::plugin::PluginFault::InvalidOutput(problem);
            shared.strike(workspace, installed.id, &fault);
            vec![Outcome::Retry { after_ms: None, reason: fault.to_string() }; messages.len()]
        }
        Err(fault) => {
            shared.strike(workspace, installed.id, &fault);
            vec![Outcome::Retry { after_ms: None, reason: fault.to_string() }; messages.len()]
        }
    };
    for (one, outcome) in passed.iter().zip(outcomes) {
        let now = shared.clock.now();
        metrics::counter!("kith_delivery_attempts_total", "outcome" => outcome_name(&outcome)).increment(1);
        let receipt = receipt(one, installed, &outcome, now);
        let mut row = one.row.clone();
        advance(&mut row, DeliveryInput::Attempted(outcome), now);
        if !matches!(DeliveryState::from(row.state.clone()), DeliveryState::Pending { .. }) {
            accept_receipt(shared, workspace, installed.id, receipt, now)?;
        }
        settle(shared, one.job, Some(&row))?;
    }
    Ok(())
}

fn outcome_name(outcome: &Outcome) -> &'static str {
    match outcome {
        Outcome::Delivered { .. } => "delivered",
        Outcome::Retry { .. } => "retry",
        Outcome::Permanent { .. } => "permanent",
    }
}

/// Only pending deliveries come here, and a pending one takes both inputs.
fn advance(row: &mut DeliveryRow, input: DeliveryInput, now: Timestamp) {
    match step(row.state.clone().into(), input, now) {
        Ok(state) => row.state = state.into(),
        Err(error) => tracing::error!(%error, "a delivery was left as it was"),
    }
}

/// What came of the delivery, as an event of the person.
fn receipt(one: &Passed<'_>, installed: &Installed, outcome: &Outcome, now: Timestamp) -> DraftEvent {
    let (name, detail) = match outcome {
        Outcome::Delivered { provider_id } => ("Message Delivered", serde_json::json!({ "provider_id": provider_id })),
        Outcome::Retry { reason, .. } | Outcome::Permanent { reason } => {
            ("Message Failed", serde_json::json!({ "reason": reason }))
        }
    };
    let mut properties = serde_json::json!({
        "message": one.message.id,
        "channel": installed.name.as_str(),
        "audience": one.row.audience.0,
        "purpose": one.row.purpose,
        "attempt": one.message.attempt,
    });
    if let (Some(properties), serde_json::Value::Object(detail)) = (properties.as_object_mut(), detail) {
        properties.extend(detail);
    }
    // Attempts are counted anew after a replay; when this one was due tells it from its namesake.
    let due_at = match one.row.state.clone().into() {
        DeliveryState::Pending { due_at, .. } => due_at,
        _ => now,
    };
    let receipt_id = format!("{}-{}-{}-{}", one.message.id, one.message.attempt, outcome_name(outcome), due_at.0);
    DraftEvent {
        kind: EventKind::Track,
        // One receipt for each attempt, however often the commit after it is repeated.
        message_id: Some(receipt_id),
        name: name.into(),
        time: Some(now),
        sent_at: None,
        identifiers: one.message.recipient.iter().take(1).cloned().collect(),
        properties: properties.to_string(),
        traits: String::new(),
        context: String::new(),
    }
}

fn accept_receipt(
    shared: &Shared,
    workspace: WorkspaceId,
    source: InstallationId,
    receipt: DraftEvent,
    now: Timestamp,
) -> Result<(), DeliverError> {
    let (reply, answered) = oneshot::channel();
    let submission = Submission {
        workspace,
        source,
        received_at: now,
        origin: EventOrigin::Kernel,
        events: vec![receipt],
        rejected: Vec::new(),
        reply,
    };
    let refused = |problem: &str| DeliverError::Receipt(problem.to_owned());
    shared.accept.blocking_send(Request::Submit(submission)).map_err(|_| refused("the kernel is shutting down"))?;
    match answered.blocking_recv() {
        Ok(Ok(_)) => Ok(()),
        Ok(Err(error)) => Err(refused(&error.to_string())),
        Err(_) => Err(refused("the kernel is shutting down")),
    }
}

/// Write a delivery's state and take the job off the queue, or put it back for when it is due.
fn settle(shared: &Shared, job: &Job, row: Option<&DeliveryRow>) -> Result<(), CommitError> {
    let mut operations = Vec::new();
    let again = row.and_then(|row| match row.state.clone().into() {
        DeliveryState::Pending { due_at, .. } => Some(due_at),
        _ => None,
    });
    if let Some(row) = row {
        operations.push(Operation::Put(Key::delivery(job.queue.workspace, &job.id), rows::encode(row)));
    }
    operations.push(match again {
        Some(due_at) => Operation::Enqueue { queue: job.queue, id: job.id, due_at, body: Vec::new() },
        None => Operation::Acknowledge { queue: job.queue, id: job.id },
    });
    shared.store.commit(Unit { operations, ..Unit::default() }).map(drop)
}

#[cfg(test)]
mod tests {
    use super::*;
    use kith_model::profile::TraitValue;

    fn person(consent: Option<&str>) -> Person {
        let mut contribution = Contribution::default();
        if let Some(json) = consent {
            let value =
                TraitValue { json: json.into(), time: Timestamp(0), source: InstallationId(1), message_id: "m".into() };
            contribution.record("consent", value);
        }
        Person { identifier: Identifier::new("user_id", "u"), contribution }
    }

    #[test]
    fn the_most_restrictive_contributor_decides() {
        let yes = Some(r#"{"marketing":true}"#);
        let no = Some(r#"{"marketing":false}"#);
        let refused = |consents: &[Option<&str>], basis| {
            let people: Vec<Person> = consents.iter().map(|consent| person(*consent)).collect();
            refusal(&people, "marketing", basis).is_some()
        };
        assert!(!refused(&[yes], ConsentBasis::OptIn));
        assert!(refused(&[yes, no], ConsentBasis::OptIn));
        assert!(refused(&[None], ConsentBasis::OptIn));
        assert!(!refused(&[None], ConsentBasis::NotRefused));
        assert!(refused(&[None, no], ConsentBasis::NotRefused));
        assert!(refused(&[Some("\"yes\"")], ConsentBasis::OptIn), "what is no object of purposes is no consent");
    }
}
