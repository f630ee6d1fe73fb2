//! Responsible for the connector's role over a component.

use std::sync::Arc;

use kith_model::plugin::{Connector, PluginFault, ReceiveError, Received, SourceRequest};
use kith_model::polling::{PollAnswer, PollError, PollTurn, WantedPage};
use kith_model::sending::Transport;
use wasmtime::component::{ComponentNamedList, Lower};

use super::BoundPlugin;
use crate::abi::Abi;
use crate::bindings::current::{polling, source, types};
use crate::bindings::v0_1;
use crate::call;
use crate::convert;
use crate::egress::InstallationTransport;
use crate::state::{CallClass, CallState};
use crate::verify;

/// A connector of an installation.
pub(super) struct WasmConnector {
    pub(super) bound: BoundPlugin,
    /// The contract that it was built against.
    pub(super) abi: Abi,
}

impl Connector for WasmConnector {
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError> {
        let answer = match self.abi {
            Abi::V0_1 => {
                let wit = convert::request_to_wit(request);
                let called: Result<Result<v0_1::source::Received, source::Rejection>, _> =
                    self.bound.call(CallClass::Plain, "receive", (&wit,));
                let received = |received| convert::received_from_wit_0_1(&self.bound.installed.hidden, received);
                called.map(|answer| answer.map(received)).map_err(ReceiveError::Fault)?
            }
            // There is one for each request.
            Abi::V0_2 => self.together(&[request]).map_err(ReceiveError::Fault)?.swap_remove(0),
        };
        self.account(request, answer)
    }

    fn receive_all(&self, requests: &[&SourceRequest]) -> Result<Vec<Result<Received, ReceiveError>>, PluginFault> {
        match self.abi {
            Abi::V0_1 => Ok(requests.iter().map(|request| self.receive(request)).collect()),
            Abi::V0_2 => {
                let answers = self.together(requests)?;
                Ok(requests.iter().zip(answers).map(|(request, answer)| self.account(request, answer)).collect())
            }
        }
    }

    fn failed_together(&self, fault: &PluginFault) {
        call::report_call(&self.bound.installed, CallClass::Plain, fault);
    }

    fn takes_several(&self) -> bool {
        let policy = &self.bound.installed.policy;
        self.abi != Abi::V0_1 && policy.http.is_empty() && policy.kv_bytes.value == 0
    }

    fn poll(&self, wanted: &WantedPage) -> Result<PollTurn, PollError> {
        let cursor = wanted.cursor.as_deref();
        match self.abi {
            Abi::V0_1 => {
                let called: Result<v0_1::source::Page, types::Failure> =
                    self.bound.call(CallClass::Plain, "poll", (cursor,))?;
                let hidden = &self.bound.installed.hidden;
                let page = called.map(|page| convert::page_from_wit_0_1(hidden, page));
                let page = page.map_err(|failure| convert::failure_from_wit(hidden, failure));
                self.checked(page.map(PollTurn::Page).map_err(PollError::of_failure))
            }
            Abi::V0_2 => self.turn("poll", (&convert::wanted_to_wit(wanted),)),
        }
    }

    fn polled(&self, wanted: &WantedPage, answers: &[PollAnswer]) -> Result<PollTurn, PollError> {
        let answers: Vec<_> = answers.iter().map(convert::poll_answer_to_wit).collect();
        self.turn("polled", (&convert::wanted_to_wit(wanted), &answers[..]))
    }

    fn transport(&self) -> Option<Arc<dyn Transport>> {
        match self.abi {
            Abi::V0_1 => None,
            Abi::V0_2 => Some(Arc::new(InstallationTransport::of_polls(self.bound.installed.clone()))),
        }
    }
}

impl WasmConnector {
    /// One call of contract 0.2 for these requests: as many answers.
    fn together(&self, requests: &[&SourceRequest]) -> Result<Vec<Result<Received, source::Rejection>>, PluginFault> {
        let wit: Vec<source::Request> = requests.iter().map(|request| convert::request_to_wit(request)).collect();
        let prepare = |state: &mut CallState| state.take_requests(requests.len());
        let answers: Vec<Result<source::Received, source::Rejection>> =
            self.bound.call_with(CallClass::Plain, prepare, "receive", (&wit[..],))?;
        let counted = verify::one_each("answers", requests.len(), answers.len());
        // Of several it is seen again where each is called alone, if it is the plugin's way.
        if requests.len() > 1 { counted } else { self.bound.reported(counted) }?;
        let received = |received| convert::received_from_wit(&self.bound.installed.hidden, received);
        Ok(answers.into_iter().map(|answer| answer.map(received)).collect())
    }

    /// The answer to a request, or the fault that it is none.
    fn account(
        &self,
        request: &SourceRequest,
        answer: Result<Received, source::Rejection>,
    ) -> Result<Received, ReceiveError> {
        match answer {
            Ok(received) => {
                let checked = verify::received(request, &received);
                self.bound.reported(checked).map(|()| received).map_err(ReceiveError::Fault)
            }
            Err(rejection) => Err(self.bound.refused(rejection.status, &rejection.code, &rejection.message)),
        }
    }

    /// One of the two calls of a poll, which have neither network nor state.
    fn turn<P: ComponentNamedList + Lower>(&self, function: &str, params: P) -> Result<PollTurn, PollError> {
        let prepare = |state: &mut CallState| state.is_pure = true;
        let called: Result<polling::Turn, polling::Failure> =
            self.bound.call_with(CallClass::Plain, prepare, function, params)?;
        let hidden = &self.bound.installed.hidden;
        let turn = called.map(|turn| convert::turn_from_wit(hidden, turn));
        self.checked(turn.map_err(|failure| convert::poll_failure_from_wit(hidden, failure)))
    }

    fn checked(&self, turn: Result<PollTurn, PollError>) -> Result<PollTurn, PollError> {
        let turn = turn?;
        self.bound.reported(verify::turn(&turn))?;
        Ok(turn)
    }
}
