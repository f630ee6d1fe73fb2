//! Responsible for the connector's role over a component.

use kith_model::plugin::{Connector, PluginFault, PolledPage, ReceiveError, Received, SourceRequest};

use super::BoundPlugin;
use crate::abi::Abi;
use crate::bindings::current::{source, types};
use crate::bindings::v0_1;
use crate::convert;
use crate::state::CallClass;
use crate::verify;

/// A connector of an installation.
pub(super) struct WasmConnector {
    pub(super) bound: BoundPlugin,
    /// The contract that it was built against.
    pub(super) abi: Abi,
}

impl Connector for WasmConnector {
    fn receive(&self, request: &SourceRequest) -> Result<Received, ReceiveError> {
        let bound = &self.bound;
        let wit = convert::request_to_wit(request);
        let called: Result<Result<Received, source::Rejection>, _> = match self.abi {
            Abi::V0_1 => bound
                .call(CallClass::Plain, "receive", (&wit,))
                .map(|called: Result<_, _>| called.map(convert::received_from_wit_0_1)),
            Abi::V0_2 => bound
                .call(CallClass::Plain, "receive", (&wit,))
                .map(|called: Result<_, _>| called.map(convert::received_from_wit)),
        };
        match called.map_err(ReceiveError::Fault)? {
            Ok(received) => {
                let checked = verify::received(request, &received);
                bound.reported(checked).map(|()| received).map_err(ReceiveError::Fault)
            }
            Err(rejection) => Err(bound.refused(rejection.status, &rejection.code, &rejection.message)),
        }
    }

    fn poll(&self, cursor: Option<&[u8]>) -> Result<PolledPage, PluginFault> {
        let bound = &self.bound;
        let called: Result<PolledPage, types::Failure> = match self.abi {
            Abi::V0_1 => bound
                .call::<_, Result<v0_1::source::Page, _>>(CallClass::Plain, "poll", (cursor,))?
                .map(convert::page_from_wit_0_1),
            Abi::V0_2 => bound
                .call::<_, Result<source::Page, _>>(CallClass::Plain, "poll", (cursor,))?
                .map(convert::page_from_wit),
        };
        called.map_err(convert::failure_from_wit)
    }
}
