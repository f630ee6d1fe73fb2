//! Deliveries: one message to one person, from the outbox to its outcome, as a state machine.

use serde::{Deserialize, Serialize};

use crate::id::ProfileId;
use crate::identity::Identifier;
use crate::time::Timestamp;

/// What a channel is asked to deliver.
#[derive(Debug, Clone, PartialEq)]
pub struct Message {
    /// Stable over all attempts.
    pub id: String,
    /// From 1.
    pub attempt: u32,
    pub recipient: Vec<Identifier>,
    pub profile: ProfileId,
    /// A JSON object as text.
    pub payload: String,
    pub created_at: Timestamp,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// Accepted by the other side, with its id for the message, if it gave one.
    Delivered { provider_id: Option<String> },
    /// Try again, not before `after_ms` if given.
    Retry { after_ms: Option<u64>, reason: String },
    /// Will never work for this message.
    Permanent { reason: String },
}

/// Waiting times before attempts 2, 3, … in milliseconds: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
/// Source: Standard Webhooks 1.0.0, "Deliverability and reliability" (75 h 35 min 5 s in total, then a dead letter).
pub const RETRY_SCHEDULE_MS: [u64; 9] =
    [5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000];

/// No answer of the other side can put an attempt off by more than a day.
pub const MAX_RETRY_AFTER_MS: u64 = 86_400_000;

/// Where a delivery stands.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "state", rename_all = "snake_case")]
pub enum DeliveryState {
    /// In the outbox; `attempts` have been made, the next is due.
    Pending {
        attempts: u32,
        due_at: Timestamp,
        last_reason: Option<String>,
    },
    Delivered {
        attempts: u32,
        at: Timestamp,
        provider_id: Option<String>,
    },
    /// The gate refused it, e.g. for lack of consent; nothing was sent.
    Skipped {
        at: Timestamp,
        reason: String,
    },
    /// Given up; listed among the dead letters until replayed.
    Dead {
        attempts: u32,
        at: Timestamp,
        reason: String,
    },
}

/// What can happen to a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryInput {
    /// An attempt ended.
    Attempted(Outcome),
    /// The gate refused it.
    Refused { reason: String },
    /// An admin asks for a dead letter to be tried again from the start of the schedule.
    Replay,
}

/// The state does not take this input.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("a delivery that is {state:?} takes no {input:?}")]
pub struct IllegalDeliveryStep {
    state: Box<DeliveryState>,
    input: DeliveryInput,
}

/// The state after `input` at `now`.
///
/// # Errors
/// [`IllegalDeliveryStep`] where the state does not take the input: only a pending delivery is attempted or refused, only
/// a dead one is replayed.
pub fn step(state: DeliveryState, input: DeliveryInput, now: Timestamp) -> Result<DeliveryState, IllegalDeliveryStep> {
    match (state, input) {
        (DeliveryState::Pending { attempts, .. }, DeliveryInput::Attempted(outcome)) => {
            Ok(after_attempt(attempts.saturating_add(1), outcome, now))
        }
        (DeliveryState::Pending { .. }, DeliveryInput::Refused { reason }) => {
            Ok(DeliveryState::Skipped { at: now, reason })
        }
        (DeliveryState::Dead { reason, .. }, DeliveryInput::Replay) => {
            Ok(DeliveryState::Pending { attempts: 0, due_at: now, last_reason: Some(reason) })
        }
        (state, input) => Err(IllegalDeliveryStep { state: Box::new(state), input }),
    }
}

fn after_attempt(attempts: u32, outcome: Outcome, now: Timestamp) -> DeliveryState {
    match outcome {
        Outcome::Delivered { provider_id } => DeliveryState::Delivered { attempts, at: now, provider_id },
        Outcome::Permanent { reason } => DeliveryState::Dead { attempts, at: now, reason },
        Outcome::Retry { after_ms, reason } => match RETRY_SCHEDULE_MS.get(attempts as usize - 1) {
            None => DeliveryState::Dead {
                attempts,
                at: now,
                reason: format!("gave up after {attempts} attempts: {reason}"),
            },
            Some(scheduled) => {
                let wait = after_ms.unwrap_or(0).min(MAX_RETRY_AFTER_MS).max(*scheduled);
                let due_at = now.plus_ms(wait.cast_signed());
                DeliveryState::Pending { attempts, due_at, last_reason: Some(reason) }
            }
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn pending(attempts: u32) -> DeliveryState {
        DeliveryState::Pending { attempts, due_at: Timestamp(0), last_reason: None }
    }

    fn retry(after_ms: Option<u64>) -> DeliveryInput {
        DeliveryInput::Attempted(Outcome::Retry { after_ms, reason: "busy".into() })
    }

    #[test]
    fn retries_follow_the_schedule_and_the_other_side() {
        let due = |state| match step(state, retry(Some(60_000)), Timestamp(0)) {
            Ok(DeliveryState::Pending { due_at, .. }) => due_at.0,
            other => panic!("{other:?}"),
        };
        assert_eq!(due(pending(0)), 60_000, "a longer Retry-After is kept");
        assert_eq!(due(pending(1)), 300_000, "a shorter one does not hurry the schedule");
    }

    #[test]
    fn the_tenth_failure_is_the_last_and_can_be_replayed() {
        let dead = step(pending(9), retry(None), Timestamp(7)).unwrap();
        assert!(matches!(dead, DeliveryState::Dead { attempts: 10, .. }), "{dead:?}");
        let again = step(dead, DeliveryInput::Replay, Timestamp(8)).unwrap();
        assert!(matches!(again, DeliveryState::Pending { attempts: 0, due_at: Timestamp(8), .. }));
    }

    #[test]
    fn a_delivered_message_takes_nothing_more() {
        let delivered = DeliveryState::Delivered { attempts: 1, at: Timestamp(0), provider_id: None };
        assert!(step(delivered.clone(), DeliveryInput::Replay, Timestamp(1)).is_err());
        assert!(step(delivered, retry(None), Timestamp(1)).is_err());
    }
}
