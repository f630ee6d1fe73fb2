//! What receivers report of messages: a channel's plugin reads the call, and each fact becomes an event of the person whom the
//! message was for. That somebody unsubscribed or complained is a refusal, heard as every other one.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::consent::{CONSENT, EVERYTHING, Giver};
use kith_model::delivery::DeliveryInput;
use kith_model::event::{DraftEvent, EventOrigin};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Callback, Receipt, ReceiveError, Refusal};
use kith_store::{Key, Operation, ReadError, row};
use serde_json::{Map, Value, json};
use tokio::sync::oneshot;

use super::receipts::{advance, operations_of};
use crate::accept::Submission;
use crate::guests::{Caller, GuestClass, Guests};
use crate::intake::{IntakeError, not_committed, stopped};
use crate::profiles::facts::{get_one, read_head};
use crate::rows::outbox::{letter_of, outbox};
use crate::rows::{DeliveryRow, DeliveryTotals};
use crate::setup::{Activity, Role};
use crate::shared::KernelState;
use crate::views::{Acceptance, delivery_of};
use crate::{Kernel, offload};

/// What the facts of a call come to.
#[derive(Default)]
struct CallbackChanges {
    events: Vec<DraftEvent>,
    operations: Vec<Operation>,
    moved: DeliveryTotals,
}

impl Kernel {
    /// Take what a receiver reports of a channel's messages. Where one fact is wrong none is taken.
    ///
    /// # Errors
    /// Those of an intake: the channel does not run, its plugin refuses or fails, there is no room.
    pub async fn callback(
        self: &Arc<Self>,
        workspace: WorkspaceId,
        channel: InstallationId,
        callback: Callback,
    ) -> Result<Acceptance, IntakeError> {
        let shared = Arc::clone(&self.shared);
        let received_at = callback.received_at;
        let receipts = receive(&shared, workspace, channel, callback).await?;
        let reading = Arc::clone(&shared);
        let reported = offload::run(move || read(&reading, workspace, channel, receipts)).await?;
        if reported.events.is_empty() {
            return Ok(Acceptance { position: shared.store.head(), ..Acceptance::default() });
        }
        let (reply, answered) = oneshot::channel();
        let submission = Submission {
            workspace,
            source: channel,
            sender: Arc::default(),
            piece: None,
            received_at,
            origin: EventOrigin::Kernel,
            giver: Giver::RefusesOnly,
            events: reported.events,
            rejected: Vec::new(),
            with: reported.operations,
            moved: Some(Box::new(reported.moved)),
            input: None,
            again: None,
            parts_of: Default::default(),
            reply,
        };
        shared.accept.submit(submission).await.map_err(|_| stopped())?;
        answered.await.map_err(|_| stopped())?.map_err(|error| not_committed(&error))
    }
}

/// Let the channel's plugin read the call. What it fails on is no strike against it: whoever calls chooses what it reads.
async fn receive(
    shared: &KernelState,
    workspace: WorkspaceId,
    channel: InstallationId,
    callback: Callback,
) -> Result<Vec<Receipt>, IntakeError> {
    let known = shared.workspace(workspace).ok_or_else(stopped)?;
    let compiled = known.compiled.load_full();
    let installed = compiled.setup.installation(channel).ok_or(IntakeError::UnknownSource)?;
    if let Activity::Held { why, .. } | Activity::Quarantined { why, .. } = &installed.activity {
        return Err(IntakeError::NotLive { why: why.clone() });
    }
    let caller = Caller {
        workspace,
        installation: channel,
        class: GuestClass::Request,
        bytes: callback.body.len(),
        memory_bytes: installed.call_memory_bytes,
    };
    let role = installed.role.clone();
    let call = shared.guests.run(caller, move || match role {
        Role::Channel(channel) => Some(channel.receive(&callback)),
        Role::PureChannel(channel) => Some(channel.receive(&callback)),
        Role::Connector(_) | Role::TagModel(_) | Role::Scorer(_) => None,
    });
    let call = call.map_err(IntakeError::Exhausted)?;
    let received = call.finish_soon(Guests::patience()).await.map_err(IntakeError::Exhausted)?;
    match received.map_err(|_| stopped())?.ok_or(IntakeError::UnknownSource)? {
        Ok(receipts) => Ok(receipts),
        Err(ReceiveError::Refused(refusal)) => Err(IntakeError::Refused(refusal)),
        Err(ReceiveError::Fault(fault)) => Err(IntakeError::Fault(fault)),
    }
}

/// The events of these facts, and what they change of deliveries.
fn read(
    shared: &KernelState,
    workspace: WorkspaceId,
    channel: InstallationId,
    receipts: Vec<Receipt>,
) -> Result<CallbackChanges, IntakeError> {
    let unread = |error: ReadError| IntakeError::Unavailable { reason: error.to_string(), retry_after_s: 1 };
    let compiled = shared.workspace(workspace).map(|workspace| workspace.compiled.load_full());
    let name = compiled.and_then(|compiled| Some(compiled.setup.installation(channel)?.name.to_string()));
    let mut reported = CallbackChanges::default();
    let mut confirmed = BTreeSet::new();
    for (place, receipt) in receipts.into_iter().enumerate() {
        let unknown = || {
            let message = format!("receipt {place}: this channel sent no message of that id");
            IntakeError::Refused(Refusal { status: 400, code: "unknown-message".to_owned(), message })
        };
        let id = delivery_of(&receipt.message_id).ok_or_else(unknown)?;
        let held = get_one(shared.store.as_ref(), &Key::delivery(workspace, &id)).map_err(unread)?;
        let mut delivery: DeliveryRow =
            held.map(|held| row::decode(&held)).transpose().map_err(unread)?.ok_or_else(unknown)?;
        if delivery.channel != channel {
            return Err(unknown());
        }
        let read = |id| read_head(shared.store.as_ref(), workspace, id).map_err(unread);
        let head = read(delivery.profile.0)?;
        let head = head.map(|head| read(head.profile.0)).transpose()?.flatten();
        // Whoever is no more has no events.
        let Some(head) = head else { continue };
        let mut event = DraftEvent { identifiers: vec![head.identifier], ..receipt.event };
        describe(&mut event, &receipt.message_id, name.as_deref().unwrap_or_default(), &delivery);
        // Said twice in one call it is one change.
        if event.name == "Message Delivered" && confirmed.insert(id) {
            let (before, letter) = (delivery.state.clone(), letter_of(workspace, &id, &delivery));
            advance(&mut delivery, DeliveryInput::Confirmed { provider_id: None }, shared.clock.now());
            if delivery.state != before {
                reported.moved.moved(&before, &delivery.state);
                reported.operations.extend(operations_of(outbox(workspace, channel), &id, &delivery));
                // It waits for an admin no longer.
                reported.operations.extend(letter.map(Operation::Delete));
            }
        }
        reported.events.push(event);
    }
    Ok(reported)
}

/// Add which message the event is about, and the refusal that it is.
fn describe(event: &mut DraftEvent, message: &str, channel: &str, delivery: &DeliveryRow) {
    let mut properties: Map<String, Value> = serde_json::from_str(&event.properties).unwrap_or_default();
    let about = [
        ("message", json!(message)),
        ("channel", json!(channel)),
        ("audience", json!(delivery.audience.0)),
        ("purpose", json!(delivery.purpose)),
    ];
    properties.extend(about.map(|(name, value)| (name.to_owned(), value)));
    event.properties = Value::Object(properties).to_string();
    let key = match event.name.as_str() {
        "Message Unsubscribed" => format!("{}@{channel}", delivery.purpose),
        "Message Complained" => format!("{EVERYTHING}@{channel}"),
        _ => return,
    };
    let mut traits: Map<String, Value> = serde_json::from_str(&event.traits).unwrap_or_default();
    traits.insert(CONSENT.to_owned(), json!({ key: false }));
    event.traits = Value::Object(traits).to_string();
}
