//! Responsible for the interface `http` of both versions of the contract: a guest that waits for its answer, and the time
//! that this may take. What may be sent where, and sending it, is `egress.rs`.

use std::time::Duration;

use kith_model::sending::{InboundResponse, OutboundRequest, SendFailure, Signature};
use kith_model::slot;

use crate::bindings::current::{http, http_types};
use crate::bindings::v0_1;
use crate::convert;
use crate::egress::{BodyRule, admit, log_denial};
use crate::state::CallState;

/// The whole exchange. What is left of the call may be less.
const MAX_TOTAL: Duration = Duration::from_secs(30);

impl CallState {
    /// Send a request and wait for its answer. The outer error stops the guest.
    fn exchange(&mut self, request: OutboundRequest) -> wasmtime::Result<Result<InboundResponse, SendFailure>> {
        self.count_host_call()?;
        if self.is_pure {
            let reason = "a poll sends nothing itself; give the request back".to_owned();
            return Ok(Err(SendFailure::Denied(reason)));
        }
        let installed = self.installed.clone();
        let method = request.method.clone();
        let exchange = match admit(&installed, request, BodyRule::Whole) {
            Ok(exchange) => exchange,
            Err(reason) => {
                log_denial(&installed, &reason);
                return Ok(Err(SendFailure::Denied(reason)));
            }
        };
        if let Err(busy) = installed.gate.count(installed.clock.now()) {
            return Ok(Err(busy));
        }
        let host = exchange.host().to_owned();
        let remaining = self.remaining_wall();
        let before = self.elapsed();
        let wait = || {
            let answer = installed.network.handle().block_on(async {
                tokio::time::timeout(remaining.min(MAX_TOTAL), installed.gate.exchange_for_guest(exchange)).await
            });
            (answer, self.elapsed())
        };
        // Others compute while the peer takes its time.
        let (answer, answered) = slot::without(wait);
        // The wait for a slot is the host's doing, and no time of the guest's.
        self.pause(self.elapsed().saturating_sub(answered));
        let took = answered.saturating_sub(before);
        self.waited(took);
        let took_ms = u64::try_from(took.as_millis()).unwrap_or(u64::MAX);
        let answer = match answer {
            Err(_) if remaining <= MAX_TOTAL => return Err(self.stop_for_wall()),
            Err(_) => Err(SendFailure::Timeout(format!("the exchange took more than {} s", MAX_TOTAL.as_secs()))),
            Ok(answer) => answer,
        };
        installed.observed.answered(&answer);
        let (installation, plugin) = (&installed.installation, &installed.plugin);
        let status = answer.as_ref().map_or(0, |answer| answer.status);
        tracing::debug!(installation, plugin, method, host, status, took_ms, "an outgoing request");
        Ok(answer)
    }
}

impl http::Host for CallState {
    fn send(
        &mut self,
        request: http_types::Request,
    ) -> wasmtime::Result<Result<http_types::Response, http_types::Error>> {
        let answer = self.exchange(convert::outbound_from_wit(request))?;
        Ok(answer.map(convert::response_to_wit).map_err(convert::send_failure_to_wit))
    }
}

impl v0_1::http::Host for CallState {
    fn send(
        &mut self,
        request: v0_1::http::Request,
    ) -> wasmtime::Result<Result<v0_1::http::Response, v0_1::http::Error>> {
        use v0_1::http::{Error, Response};
        let sign = request.sign.map(|v0_1::http::Signature::StandardWebhooks(wanted)| Signature::StandardWebhooks {
            secret: wanted.secret,
            message_id: wanted.message_id,
        });
        let answer = self.exchange(OutboundRequest {
            method: request.method,
            url: request.url,
            headers: request.headers,
            body: request.body,
            sign,
            ..OutboundRequest::default()
        })?;
        Ok(answer.map(|InboundResponse { status, headers, body, .. }| Response { status, headers, body }).map_err(
            |failure| match failure {
                SendFailure::Denied(text) => Error::Denied(text),
                SendFailure::Timeout(text) => Error::Timeout(text),
                SendFailure::Connection(text) | SendFailure::Busy(text) | SendFailure::Unknown(text) => {
                    Error::Connection(text)
                }
                SendFailure::TooLarge(text) => Error::TooLarge(text),
            },
        ))
    }
}
