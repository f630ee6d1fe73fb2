//! Responsible for the interface `http`: what a guest may send where, secrets and signatures added on the way, and the
//! time that a waiting guest may take. Reading the request is `request.rs`, judging addresses `address.rs`, the exchange
//! itself `send.rs`.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Request, Response};
use tokio::sync::Semaphore;
use tokio_rustls::rustls::ClientConfig;

use super::request::{self, Permits, Target};
use super::send::{SendError, exchange};
use super::webhook::sign;
use crate::bindings::shared::http;
use crate::state::{CallState, Installed};

/// The whole exchange. What is left of the call may be less.
const MAX_TOTAL: Duration = Duration::from_secs(30);
/// Exchanges of one installation at a time.
const MAX_CONCURRENT: usize = 16;

/// TLS settings, made once for the host.
pub(crate) fn tls() -> Result<Arc<ClientConfig>, tokio_rustls::rustls::Error> {
    super::send::tls()
}

/// What an installation needs to send requests.
pub(crate) struct HttpGate {
    tls: Arc<ClientConfig>,
    permits: Permits,
    slots: Semaphore,
}

impl HttpGate {
    pub(crate) fn new(tls: Arc<ClientConfig>, loopback: bool, plain_http: bool) -> HttpGate {
        HttpGate { tls, permits: Permits { loopback, plain_http }, slots: Semaphore::new(MAX_CONCURRENT) }
    }
}

/// A request that passed every check but the address.
struct Checked {
    target: Target,
    loopback_granted: bool,
    request: Request<Full<Bytes>>,
}

impl http::Host for CallState {
    fn send(&mut self, request: http::Request) -> wasmtime::Result<Result<http::Response, http::Error>> {
        self.count_host_call()?;
        let installed = self.installed.clone();
        let method = request.method.clone();
        let Checked { target, loopback_granted, request } = match check(&installed, request) {
            Ok(checked) => checked,
            Err(reason) => {
                let (installation, plugin) = (&installed.installation, &installed.plugin);
                tracing::warn!(installation, plugin, reason, "an outgoing request was denied");
                return Ok(Err(http::Error::Denied(reason)));
            }
        };
        let remaining = self.remaining_wall();
        let gate = &installed.http;
        let before = self.elapsed();
        let answer = installed.runtime.block_on(async {
            tokio::time::timeout(remaining.min(MAX_TOTAL), async {
                let _slot = gate.slots.acquire().await;
                exchange(&gate.tls, &target, loopback_granted, request).await
            })
            .await
        });
        let took_ms = u64::try_from((self.elapsed() - before).as_millis()).unwrap_or(u64::MAX);
        let answer = match answer {
            Err(_) if remaining <= MAX_TOTAL => return Err(self.stop_for_wall()),
            Err(_) => Err(SendError::Timeout(format!("the exchange took more than {} s", MAX_TOTAL.as_secs()))),
            Ok(answer) => answer,
        };
        let (installation, plugin) = (&installed.installation, &installed.plugin);
        let status = answer.as_ref().map_or(0, |answer| answer.status().as_u16());
        tracing::debug!(installation, plugin, method, host = target.host, status, took_ms, "an outgoing request");
        Ok(answer.map(response_to_wit).map_err(|error| match error {
            SendError::Denied(text) => http::Error::Denied(text),
            SendError::Timeout(text) => http::Error::Timeout(text),
            SendError::Connection(text) => http::Error::Connection(text),
            SendError::TooLarge(text) => http::Error::TooLarge(text),
        }))
    }
}

/// Hold a request against the policy, put secrets in their places and sign it.
fn check(installed: &Installed, request: http::Request) -> Result<Checked, String> {
    let method = request::parse_method(&request.method)?;
    let target = request::parse_target(&request.url)?;
    let permits = installed.http.permits;
    let loopback_granted = request::check_target(&installed.policy.http, permits, method.as_str(), &target)?;
    let fill_in = |bytes| installed.secrets.fill_in(bytes, &target.host, target.port);
    let headers: Result<Vec<_>, String> =
        request.headers.into_iter().map(|(name, value)| Ok((name, fill_in(value.into_bytes())?))).collect();
    let mut headers = request::parse_headers(headers?)?;
    let body = fill_in(request.body)?;
    request::check_body(&body)?;
    if let Some(http::Signature::StandardWebhooks(wanted)) = request.sign {
        add_signature(installed, &target, &wanted, &body, &mut headers)?;
    }
    let authority = HeaderValue::from_str(&target.authority()).map_err(|_| "the host is malformed".to_owned())?;
    headers.insert(HOST, authority);
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("kith/", env!("CARGO_PKG_VERSION"))));
    let mut sent = Request::new(Full::new(Bytes::from(body)));
    *sent.method_mut() = method;
    *sent.uri_mut() = target.path_and_query.parse().map_err(|_| "the URL's path is malformed".to_owned())?;
    *sent.headers_mut() = headers;
    Ok(Checked { target, loopback_granted, request: sent })
}

/// Add the three headers of Standard Webhooks 1.0; a guest's own are replaced.
fn add_signature(
    installed: &Installed,
    target: &Target,
    wanted: &http::StandardWebhooks,
    body: &[u8],
    headers: &mut HeaderMap,
) -> Result<(), String> {
    let secret = installed.secrets.value_for(&wanted.secret, &target.host, target.port)?;
    let seconds = installed.clock.now().0.div_euclid(1_000);
    let signature = sign(secret, &wanted.message_id, seconds, body)?;
    let values = [
        ("webhook-id", wanted.message_id.clone()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ];
    for (name, value) in values {
        let value = HeaderValue::from_str(&value).map_err(|_| "the message id cannot stand in a header".to_owned())?;
        headers.insert(name, value);
    }
    Ok(())
}

fn response_to_wit(response: Response<Bytes>) -> http::Response {
    let (head, body) = response.into_parts();
    let text = |value: &HeaderValue| String::from_utf8_lossy(value.as_bytes()).into_owned();
    http::Response {
        status: head.status.as_u16(),
        headers: head.headers.iter().map(|(name, value)| (name.as_str().to_owned(), text(value))).collect(),
        body: body.to_vec(),
    }
}
