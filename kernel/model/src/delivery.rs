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
    /// Declared inputs by name, each value as JSON text; empty for a channel that declares none.
    pub inputs: Vec<(String, String)>,
    pub created_at: Timestamp,
}

/// What came of an attempt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Outcome {
    /// A provider took it to pass it on, with its id for the message, if it gave one. Whether it arrives is a later fact.
    Accepted { provider_id: Option<String> },
    /// It arrived, with the other side's id for the message, if it gave one.
    Delivered { provider_id: Option<String> },
    /// Try again, not before `after_ms` if given.
    Retry { after_ms: Option<u64>, reason: String },
    /// Will never work for this message.
    Permanent { reason: String },
    /// The endpoint is gone: this message is given up, and no other should be sent there.
    Stop { reason: String },
}

/// Waiting times before attempts 2, 3, … in milliseconds: 5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h.
/// Source: Standard Webhooks 1.0.0, "Deliverability and reliability" (75 h 35 min 5 s in total, then a dead letter).
pub const RETRY_SCHEDULE_MS: [u64; 9] =
    [5_000, 300_000, 1_800_000, 7_200_000, 18_000_000, 36_000_000, 50_400_000, 72_000_000, 86_400_000];

/// No answer of the other side can put an attempt off by more than a day.
pub const MAX_RETRY_AFTER_MS: u64 = 86_400_000;

/// Where a delivery stands.
///
/// Stored with postcard, which knows a variant by its place: new ones go to the end, because another order would turn stored
/// deliveries into others.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub enum DeliveryState {
    /// In the outbox; `attempts` have been made, the next is due.
    Pending { attempts: u32, due_at: Timestamp, last_reason: Option<String> },
    /// It arrived.
    Delivered { attempts: u32, at: Timestamp, provider_id: Option<String> },
    /// The gate refused it, e.g. for lack of consent; nothing was sent.
    Skipped { at: Timestamp, reason: String },
    /// Given up; listed among the dead letters until replayed.
    Dead { attempts: u32, at: Timestamp, reason: String },
    /// A provider took it; whether it arrived is not known yet.
    Accepted { attempts: u32, at: Timestamp, provider_id: Option<String> },
    /// Only of a channel that is not idempotent: attempt number `attempts` was begun, and this was committed before its
    /// request could leave.
    Sending { attempts: u32, since: Timestamp },
    /// Attempt number `attempts` was begun and never ended, because the process did. It may have arrived; a repeat could
    /// double it, so an admin decides.
    Unknown { attempts: u32, since: Timestamp },
}

impl DeliveryState {
    /// The names of all states.
    pub const NAMES: [&str; 7] = ["pending", "sending", "accepted", "delivered", "skipped", "dead", "unknown"];

    /// The state's name, one of [`DeliveryState::NAMES`].
    pub fn name(&self) -> &'static str {
        match self {
            DeliveryState::Pending { .. } => "pending",
            DeliveryState::Delivered { .. } => "delivered",
            DeliveryState::Skipped { .. } => "skipped",
            DeliveryState::Dead { .. } => "dead",
            DeliveryState::Accepted { .. } => "accepted",
            DeliveryState::Sending { .. } => "sending",
            DeliveryState::Unknown { .. } => "unknown",
        }
    }
}

/// What can happen to a delivery.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum DeliveryInput {
    /// An attempt of a channel that is not idempotent is about to leave.
    Begun,
    /// An attempt ended.
    Attempted(Outcome),
    /// The process that had begun an attempt is gone without a word of how it ended.
    Interrupted,
    /// The other side says, in a callback or through an admin, that it arrived.
    Confirmed { provider_id: Option<String> },
    /// The gate refused it.
    Refused { reason: String },
    /// An admin asks for a dead letter, or for one whose fate is unknown, to be tried again from the start of the schedule.
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
/// [`IllegalDeliveryStep`] where the state does not take the input: only a pending delivery is begun or refused, only one
/// that is pending or begun is attempted, only a begun one is interrupted, only a dead or unknown one is replayed, and
/// what was skipped or has arrived is not confirmed.
pub fn step(state: DeliveryState, input: DeliveryInput, now: Timestamp) -> Result<DeliveryState, IllegalDeliveryStep> {
    use DeliveryInput as Input;
    use DeliveryState as State;
    match (state, input) {
        (State::Pending { attempts, .. }, Input::Begun) => {
            Ok(State::Sending { attempts: attempts.saturating_add(1), since: now })
        }
        (State::Pending { attempts, .. }, Input::Attempted(outcome)) => {
            Ok(after_attempt(attempts.saturating_add(1), outcome, now))
        }
        (State::Sending { attempts, .. }, Input::Attempted(outcome)) => Ok(after_attempt(attempts, outcome, now)),
        (State::Sending { attempts, since }, Input::Interrupted) => Ok(State::Unknown { attempts, since }),
        // A callback can overtake the commit of the answer that it follows, so a delivery that is still pending takes it too:
        // were it refused, the fact would be lost. The attempt under way is then the one that arrived.
        (State::Pending { attempts, .. }, Input::Confirmed { provider_id }) => {
            Ok(State::Delivered { attempts: attempts.max(1), at: now, provider_id })
        }
        (State::Sending { attempts, .. } | State::Unknown { attempts, .. }, Input::Confirmed { provider_id }) => {
            Ok(State::Delivered { attempts, at: now, provider_id })
        }
        // What was given up for the answer that came then has arrived all the same, and who reports that knows better.
        (State::Dead { attempts, .. }, Input::Confirmed { provider_id }) => {
            Ok(State::Delivered { attempts, at: now, provider_id })
        }
        (State::Accepted { attempts, provider_id: accepted, .. }, Input::Confirmed { provider_id }) => {
            Ok(State::Delivered { attempts, at: now, provider_id: provider_id.or(accepted) })
        }
        (State::Pending { .. }, Input::Refused { reason }) => Ok(State::Skipped { at: now, reason }),
        (State::Dead { reason, .. }, Input::Replay) => {
            Ok(State::Pending { attempts: 0, due_at: now, last_reason: Some(reason) })
        }
        (State::Unknown { .. }, Input::Replay) => {
            let last_reason = Some("interrupted while it was being sent".to_owned());
            Ok(State::Pending { attempts: 0, due_at: now, last_reason })
        }
        (state, input) => Err(IllegalDeliveryStep { state: Box::new(state), input }),
    }
}

fn after_attempt(attempts: u32, outcome: Outcome, now: Timestamp) -> DeliveryState {
    match outcome {
        Outcome::Accepted { provider_id } => DeliveryState::Accepted { attempts, at: now, provider_id },
        Outcome::Delivered { provider_id } => DeliveryState::Delivered { attempts, at: now, provider_id },
        Outcome::Permanent { reason } | Outcome::Stop { reason } => DeliveryState::Dead { attempts, at: now, reason },
        Outcome::Retry { after_ms, reason } => match RETRY_SCHEDULE_MS.get((attempts as usize).saturating_sub(1)) {
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

    /// One state of each name; `Pending` and `Sending` stand before and in their second attempt.
    fn states() -> Vec<DeliveryState> {
        let (at, since, reason) = (Timestamp(1), Timestamp(1), String::new());
        vec![
            pending(1),
            DeliveryState::Delivered { attempts: 2, at, provider_id: None },
            DeliveryState::Skipped { at, reason: reason.clone() },
            DeliveryState::Dead { attempts: 2, at, reason },
            DeliveryState::Accepted { attempts: 2, at, provider_id: Some("p".into()) },
            DeliveryState::Sending { attempts: 2, since },
            DeliveryState::Unknown { attempts: 2, since },
        ]
    }

    #[test]
    fn every_state_takes_what_the_table_says_and_nothing_else() {
        let attempted = DeliveryInput::Attempted;
        let (provider_id, reason) = (None, String::from("r"));
        let inputs = [
            ("begun", DeliveryInput::Begun),
            ("accepted", attempted(Outcome::Accepted { provider_id: provider_id.clone() })),
            ("delivered", attempted(Outcome::Delivered { provider_id: provider_id.clone() })),
            ("retry", retry(None)),
            ("permanent", attempted(Outcome::Permanent { reason: reason.clone() })),
            ("stop", attempted(Outcome::Stop { reason: reason.clone() })),
            ("interrupted", DeliveryInput::Interrupted),
            ("confirmed", DeliveryInput::Confirmed { provider_id }),
            ("refused", DeliveryInput::Refused { reason }),
            ("replay", DeliveryInput::Replay),
        ];
        let table = "
            pending     begun sending      | accepted accepted | delivered delivered | retry pending | permanent dead | stop dead | confirmed delivered | refused skipped
            delivered
            skipped
            dead        confirmed delivered | replay pending
            accepted    confirmed delivered
            sending     accepted accepted | delivered delivered | retry pending | permanent dead | stop dead | interrupted unknown | confirmed delivered
            unknown     confirmed delivered | replay pending";
        let lines: Vec<&str> = table.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        assert_eq!(lines.len(), states().len());
        for (line, state) in lines.into_iter().zip(states()) {
            let (from, moves) = line.split_once(' ').unwrap_or((line, ""));
            assert_eq!(from, state.name());
            assert!(DeliveryState::NAMES.contains(&from));
            let moves: Vec<(&str, &str)> =
                moves.split('|').filter_map(|one| one.trim().split_once(' ')).map(|(i, to)| (i, to.trim())).collect();
            for (input_name, input) in &inputs {
                let expected = moves.iter().find(|(known, _)| known == input_name).map(|(_, to)| *to);
                let after = step(state.clone(), input.clone(), Timestamp(2)).ok();
                assert_eq!(after.as_ref().map(DeliveryState::name), expected, "{from} + {input_name}");
            }
        }
    }

    #[test]
    fn an_attempt_that_is_begun_counts_once() {
        let begun = step(pending(1), DeliveryInput::Begun, Timestamp(5)).unwrap();
        assert_eq!(begun, DeliveryState::Sending { attempts: 2, since: Timestamp(5) });
        let ended = step(begun.clone(), retry(None), Timestamp(6)).unwrap();
        assert!(matches!(ended, DeliveryState::Pending { attempts: 2, .. }), "{ended:?}");
        let lost = step(begun, DeliveryInput::Interrupted, Timestamp(9)).unwrap();
        assert_eq!(lost, DeliveryState::Unknown { attempts: 2, since: Timestamp(5) });
        let again = step(lost, DeliveryInput::Replay, Timestamp(10)).unwrap();
        assert!(matches!(again, DeliveryState::Pending { attempts: 0, due_at: Timestamp(10), .. }), "{again:?}");
    }

    #[test]
    fn a_confirmation_keeps_the_id_that_the_provider_gave_when_it_accepted() {
        let accepted = step(
            pending(0),
            DeliveryInput::Attempted(Outcome::Accepted { provider_id: Some("p1".into()) }),
            Timestamp(3),
        );
        let confirmed = step(accepted.unwrap(), DeliveryInput::Confirmed { provider_id: None }, Timestamp(4)).unwrap();
        let provider_id = Some("p1".to_owned());
        assert_eq!(confirmed, DeliveryState::Delivered { attempts: 1, at: Timestamp(4), provider_id });
    }

    #[test]
    fn a_stored_state_is_read_back_whole() {
        for state in states() {
            let bytes = postcard::to_allocvec(&state).unwrap();
            assert_eq!(postcard::from_bytes::<DeliveryState>(&bytes).unwrap(), state);
        }
        // Places of the variants in rows that are already stored.
        let places: Vec<u8> = states().iter().map(|state| postcard::to_allocvec(state).unwrap()[0]).collect();
        assert_eq!(places, [0, 1, 2, 3, 4, 5, 6]);
    }
}
