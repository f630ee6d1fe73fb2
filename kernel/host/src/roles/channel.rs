//! Responsible for the channel's role over a component, in both versions of the contract.

use std::sync::Arc;

use kith_model::delivery::{Message, Outcome};
use kith_model::plugin::{Callback, Channel, PluginFault, Receipt, ReceiveError};
use kith_model::sending::{MAX_ROUNDS, PureChannel, SentAnswer, Step, Transport};
use wasmtime::component::{ComponentNamedList, Lift, Lower};

use super::BoundPlugin;
use crate::bindings::current::delivering;
use crate::bindings::v0_1;
use crate::convert;
use crate::egress::InstallationTransport;
use crate::state::CallClass;
use crate::verify;

/// A channel of contract 0.1: its one call sends.
pub(super) struct WasmChannel {
    pub(super) bound: BoundPlugin,
}

impl Channel for WasmChannel {
    fn send(&self, messages: &[Message]) -> Result<Vec<Outcome>, PluginFault> {
        let bound = &self.bound;
        let policy = &bound.installed.policy;
        let wit: Vec<_> = messages.iter().map(|message| convert::message_to_wit_0_1(policy, message)).collect();
        let outcomes: Vec<v0_1::delivering::Outcome> = bound.call(CallClass::Plain, "send", (&wit[..],))?;
        bound.reported(verify::one_each("outcomes", messages.len(), outcomes.len()))?;
        let hidden = &bound.installed.hidden;
        Ok(outcomes.into_iter().map(|outcome| convert::outcome_from_wit_0_1(hidden, outcome)).collect())
    }

    fn receive(&self, callback: &Callback) -> Result<Vec<Receipt>, ReceiveError> {
        receive(&self.bound, convert::callback_to_wit_0_1(callback), convert::receipt_from_wit_0_1)
    }
}

/// A channel of contract 0.2: two pure calls.
pub(super) struct WasmPureChannel {
    pub(super) bound: BoundPlugin,
}

impl PureChannel for WasmPureChannel {
    fn requests(&self, messages: &[Message]) -> Result<Vec<Step>, PluginFault> {
        let bound = &self.bound;
        let policy = &bound.installed.policy;
        let wit: Vec<_> = messages.iter().map(|message| convert::message_to_wit(policy, message)).collect();
        let steps: Vec<delivering::Step> = bound.call(CallClass::Plain, "requests", (&wit[..],))?;
        bound.reported(verify::one_each("steps", messages.len(), steps.len()))?;
        let step = |(step, of): (_, &Message)| convert::step_from_wit(&bound.installed, of, step);
        Ok(steps.into_iter().zip(messages).map(step).collect())
    }

    fn outcomes(&self, answers: &[SentAnswer]) -> Result<Vec<Step>, PluginFault> {
        let bound = &self.bound;
        let policy = &bound.installed.policy;
        let wit: Vec<_> = answers.iter().map(|answer| convert::answer_to_wit(policy, answer)).collect();
        let steps: Vec<delivering::Step> = bound.call(CallClass::Plain, "outcomes", (&wit[..],))?;
        bound.reported(verify::one_each("steps", answers.len(), steps.len()))?;
        let step = |(step, answer): (_, &SentAnswer)| {
            within_rounds((convert::step_from_wit(&bound.installed, &answer.message, step), answer))
        };
        Ok(steps.into_iter().zip(answers).map(step).collect())
    }

    fn receive(&self, callback: &Callback) -> Result<Vec<Receipt>, ReceiveError> {
        receive(&self.bound, convert::callback_to_wit(callback), convert::receipt_from_wit)
    }

    fn transport(&self) -> Arc<dyn Transport> {
        Arc::new(InstallationTransport::new(self.bound.installed.clone()))
    }
}

/// The step after an answer, unless it asks for one request too many. That ends the attempt of its own message and no
/// other's, because the rest of the batch has done nothing wrong.
fn within_rounds((step, answer): (Step, &SentAnswer)) -> Step {
    match step {
        Step::Send(_) | Step::Mail(_) if answer.round >= MAX_ROUNDS => {
            let reason = format!("the channel asked for more than {MAX_ROUNDS} requests in one attempt");
            Step::Done(Outcome::Retry { after_ms: None, reason })
        }
        step => step,
    }
}

fn receive<C, R>(
    bound: &BoundPlugin,
    callback: C,
    receipt_from_wit: fn(R) -> Receipt,
) -> Result<Vec<Receipt>, ReceiveError>
where
    (C,): ComponentNamedList + Lower,
    (Result<Vec<R>, delivering::Rejection>,): ComponentNamedList + Lift,
{
    let called: Result<Result<Vec<R>, delivering::Rejection>, _> = bound.call(CallClass::Plain, "receive", (callback,));
    match called.map_err(ReceiveError::Fault)? {
        Ok(receipts) => {
            let receipts: Vec<Receipt> = receipts.into_iter().map(receipt_from_wit).collect();
            let checked = verify::receipts(
                &bound.installed.hidden,
                &bound.manifest,
                receipts.iter().map(|receipt| &receipt.event),
            );
            bound.reported(checked).map(|()| receipts).map_err(ReceiveError::Fault)
        }
        Err(rejection) => Err(bound.refused(rejection.status, &rejection.code, &rejection.message)),
    }
}
