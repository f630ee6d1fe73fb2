//! Responsible for outgoing HTTP and mail of plugins: what may be sent where, secrets and signatures added on the way, and
//! sending it. Both ways out come through here, the guest's own call (`imports/http.rs`) and the kernel's sending for a channel
//! ([`Transport`](kith_model::sending::Transport)), so that there is one place that lets a request out.
//!
//! Reading the request is `egress/request.rs`, judging addresses `address.rs`, the exchange itself `client.rs`, kept
//! connections `pool.rs`. Mail is `mail.rs` and, on the wire, `smtp.rs`.

mod address;
mod body;
mod client;
mod connection;
mod head;
mod mail;
mod pool;
mod request;
mod resolver;
mod smtp;
mod webhook;

use std::net::IpAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use http_body_util::Full;
use hyper::header::{HOST, HeaderValue, USER_AGENT};
use hyper::{HeaderMap, Request};
use kith_model::budget::{Allowance, table};
use kith_model::network::Network;
use kith_model::sending::{
    AnswerRoom, InboundResponse, OutboundMail, OutboundRequest, SendFailure, Sending, SendingMail, Signature, Transport,
};
use kith_model::time::Timestamp;
use parking_lot::Mutex;
use tokio::sync::Semaphore;
use tokio::task::JoinError;

pub(crate) use body::BodyRule;
pub(crate) use client::Client;
pub(crate) use resolver::MAX_LOOK_UPS;

use self::address::Reach;
use self::client::Exchange;
use self::request::{Permits, Target};
use self::resolver::Share;
use self::webhook::sign;
use crate::host::HostConfig;
use crate::imports::secrets::MAX_STAND_INS;
use crate::policy::Policy;
use crate::state::InstallationContext;

/// The longest wait for an answer's head, connecting included; also of a request that names none.
const MAX_ANSWER_WAIT: Duration = Duration::from_secs(30);
const DEFAULT_ANSWER_WAIT: Duration = Duration::from_secs(15);
/// The whole exchange that the kernel makes: a body that is wanted whole may be long.
const MAX_EXCHANGE: Duration = Duration::from_secs(60);
/// Exchanges that the guests of one installation make themselves, at a time.
const MAX_GUEST_EXCHANGES: usize = 16;

/// What an installation needs to send requests.
pub(crate) struct Gate {
    client: Arc<Client>,
    permits: Permits,
    /// The host's private ranges, of which an address in a URL names itself.
    networks: Vec<Network>,
    slots: Semaphore,
    look_ups: Arc<Share>,
    /// What the installation has sent, however it was sent.
    sent: Mutex<Allowance>,
}

impl Gate {
    pub(crate) fn new(client: Arc<Client>, config: &HostConfig, policy: &Policy) -> Gate {
        let allowance = Allowance::new(&table::PLUGIN_REQUESTS, policy.requests_per_minute.value, config.clock.now());
        let permits = Permits { loopback: config.allow_loopback, plain_http: config.allow_plain_http };
        let (networks, slots) = (config.ceiling.networks.clone(), Semaphore::new(MAX_GUEST_EXCHANGES));
        Gate { client, permits, networks, slots, look_ups: Arc::default(), sent: Mutex::new(allowance) }
    }

    /// Count a request or a mail that is about to leave.
    ///
    /// # Errors
    /// So many have left that it has to wait.
    pub(crate) fn count(&self, now: Timestamp) -> Result<(), SendFailure> {
        self.sent.lock().spend(1, now).map_err(|exhausted| SendFailure::Busy(exhausted.to_string()))
    }

    /// Where beside public addresses a request to `target` may go.
    fn reach(&self, policy: &Policy, loopback: bool, target: &Target) -> Reach {
        let mut networks = policy.networks.clone();
        // A grant of HTTP is exact, so that an address in the URL was granted as such.
        if let Ok(address) = target.bare_host().parse::<IpAddr>() {
            networks.extend(self.networks.iter().filter(|network| network.contains(address)));
        }
        Reach { loopback, networks }
    }

    /// Send for a guest that waits, a bounded number of them at a time.
    pub(crate) async fn exchange_for_guest(&self, exchange: Exchange) -> Result<InboundResponse, SendFailure> {
        let _slot = self.slots.acquire().await;
        self.client.exchange(exchange).await
    }
}

/// Hold a request against the policy, put secrets in their places and sign it.
///
/// # Errors
/// Why it may not leave, without the value of any secret.
pub(crate) fn admit(
    installed: &InstallationContext,
    request: OutboundRequest,
    body: BodyRule,
) -> Result<Exchange, String> {
    let method = request::parse_method(&request.method)?;
    let target = request::parse_target(&request.url)?;
    let permits = installed.gate.permits;
    let loopback_granted = request::check_target(&installed.policy.http, permits, method.as_str(), &target)?;
    let reach = installed.gate.reach(&installed.policy, loopback_granted, &target);
    // What the guest sent is bounded before any work, and refused by its own size alone: a limit on what was filled in
    // would tell how long a secret is.
    request::check_headers(&request.headers)?;
    request::check_body(&request.body)?;
    let mut left = MAX_STAND_INS;
    let mut fill_in = |bytes| installed.secrets.fill_in(bytes, &target.host, target.port, &mut left);
    let headers: Result<Vec<_>, String> =
        request.headers.into_iter().map(|(name, value)| Ok((name, fill_in(value.into_bytes())?))).collect();
    let mut headers = request::parse_headers(headers?)?;
    let written = request.body.len();
    let content = fill_in(request.body)?;
    if let Some(wanted) = request.sign {
        add_signature(installed, &target, &wanted, &content, &mut headers)?;
    }
    let authority = HeaderValue::from_str(&target.authority()).map_err(|_| "the host is malformed".to_owned())?;
    headers.insert(HOST, authority);
    headers.entry(USER_AGENT).or_insert(HeaderValue::from_static(concat!("kith/", env!("CARGO_PKG_VERSION"))));
    let mut sent = Request::new(Full::new(Bytes::from(content)));
    *sent.method_mut() = method;
    *sent.uri_mut() = target.path_and_query.parse().map_err(|_| "the URL's path is malformed".to_owned())?;
    *sent.headers_mut() = headers;
    let asked = request.timeout_ms.map_or(DEFAULT_ANSWER_WAIT, |ms| Duration::from_millis(ms.into()));
    let (answer_wait, look_ups) = (asked.min(MAX_ANSWER_WAIT), Arc::clone(&installed.gate.look_ups));
    // As the plugin wrote it: its length with what was filled in would tell how long a secret is.
    installed.observed.sent(written);
    Ok(Exchange { target, reach, look_ups, request: sent, answer_wait, body, room: None })
}

/// Add the three headers of Standard Webhooks 1.0; a guest's own are replaced.
fn add_signature(
    installed: &InstallationContext,
    target: &Target,
    wanted: &Signature,
    body: &[u8],
    headers: &mut HeaderMap,
) -> Result<(), String> {
    let Signature::StandardWebhooks { secret, message_id } = wanted;
    let secret = installed.secrets.value_for(secret, &target.host, target.port)?;
    let seconds = installed.clock.now().0.div_euclid(1_000);
    let signature = sign(secret, message_id, seconds, body)?;
    let values = [
        ("webhook-id", message_id.clone()),
        ("webhook-timestamp", seconds.to_string()),
        ("webhook-signature", signature),
    ];
    for (name, value) in values {
        let value = HeaderValue::from_str(&value).map_err(|_| "the message id cannot stand in a header".to_owned())?;
        headers.insert(name, value);
    }
    Ok(())
}

/// Say in the operator's log that a request was not let out.
pub(crate) fn log_denial(installed: &InstallationContext, reason: &str) {
    let (installation, plugin) = (&installed.installation, &installed.plugin);
    tracing::warn!(installation, plugin, reason, "an outgoing request was denied");
}

/// Sends for one installation.
pub(crate) struct InstallationTransport {
    installed: Arc<InstallationContext>,
    body: BodyRule,
}

impl InstallationTransport {
    pub(crate) fn new(installed: Arc<InstallationContext>) -> InstallationTransport {
        InstallationTransport { installed, body: BodyRule::StatusDecides }
    }

    /// One whose answers are what is wanted, as those that a guest waits for itself.
    pub(crate) fn of_polls(installed: Arc<InstallationContext>) -> InstallationTransport {
        InstallationTransport { installed, body: BodyRule::Whole }
    }

    fn count(&self) -> Result<(), SendFailure> {
        self.installed.gate.count(self.installed.clock.now())
    }

    fn begin(&self, request: OutboundRequest, room: Option<Arc<dyn AnswerRoom>>) -> Sending {
        match admit(&self.installed, request, self.body) {
            Ok(exchange) => {
                if let Err(busy) = self.count() {
                    return Box::pin(std::future::ready(Err(busy)));
                }
                let client = self.installed.gate.client.clone();
                let (exchange, observed) = (Exchange { room, ..exchange }, Arc::clone(&self.installed.observed));
                // On the host's threads, because the caller's may be busy with more than a peer may disturb.
                let task = self.installed.network.handle().spawn(async move {
                    let answer = tokio::time::timeout(MAX_EXCHANGE, client.exchange(exchange)).await;
                    let answer = answer
                        .unwrap_or_else(|_| Err(SendFailure::Timeout(format!("it took more than {MAX_EXCHANGE:?}"))));
                    observed.answered(&answer);
                    answer
                });
                let lost = |error: &JoinError| SendFailure::Connection(why_lost(error).into());
                Box::pin(SpawnedExchange { task, lost: Box::new(lost) })
            }
            Err(reason) => {
                log_denial(&self.installed, &reason);
                Box::pin(std::future::ready(Err(SendFailure::Denied(reason))))
            }
        }
    }
}

impl Transport for InstallationTransport {
    fn target(&self, request: &OutboundRequest) -> Result<String, SendFailure> {
        let method = request::parse_method(&request.method).map_err(SendFailure::Denied)?;
        let target = request::parse_target(&request.url).map_err(SendFailure::Denied)?;
        let installed = &self.installed;
        request::check_target(&installed.policy.http, installed.gate.permits, method.as_str(), &target)
            .map_err(SendFailure::Denied)?;
        Ok(format!("{}:{}", target.host, target.port))
    }

    fn send(&self, request: OutboundRequest) -> Sending {
        self.begin(request, None)
    }

    fn send_within(&self, request: OutboundRequest, room: Arc<dyn AnswerRoom>) -> Sending {
        self.begin(request, Some(room))
    }

    fn mail_target(&self, mail: &OutboundMail) -> Result<String, SendFailure> {
        let target = mail::check(&self.installed, mail).map_err(SendFailure::Denied)?;
        Ok(format!("{}:{}", target.host, target.port))
    }

    fn send_mail(&self, mail: OutboundMail) -> SendingMail {
        match mail::admit(&self.installed, mail) {
            Ok(exchange) => {
                if let Err(busy) = self.count() {
                    return Box::pin(std::future::ready(Err(busy)));
                }
                let client = self.installed.gate.client.clone();
                let is_whole = Arc::clone(&exchange.is_whole);
                let task = self.installed.network.handle().spawn(async move { client.hand_over(exchange).await });
                let lost = move |error: &JoinError| lost_mail(error, &is_whole);
                Box::pin(SpawnedExchange { task, lost: Box::new(lost) })
            }
            Err(reason) => {
                log_denial(&self.installed, &reason);
                Box::pin(std::future::ready(Err(SendFailure::Denied(reason))))
            }
        }
    }
}

/// An exchange on the host's threads, which ends when nobody waits for it any more.
struct SpawnedExchange<T> {
    task: tokio::task::JoinHandle<Result<T, SendFailure>>,
    /// What came of it where it ends without a word.
    lost: Box<dyn Fn(&JoinError) -> SendFailure + Send>,
}

/// Why an exchange has ended without a word.
fn why_lost(error: &JoinError) -> &'static str {
    if error.is_panic() { "the exchange broke off" } else { "the host is shutting down" }
}

/// What came of a mail whose exchange has ended without a word. How far one had come that a stop ended nobody asks any more.
fn lost_mail(error: &JoinError, is_whole: &AtomicBool) -> SendFailure {
    let why = why_lost(error).to_owned();
    match error.is_panic() && !is_whole.load(Ordering::Relaxed) {
        true => SendFailure::Connection(why),
        false => SendFailure::Unknown(why),
    }
}

impl<T> Future for SpawnedExchange<T> {
    type Output = Result<T, SendFailure>;

    fn poll(mut self: Pin<&mut Self>, context: &mut Context<'_>) -> Poll<Self::Output> {
        let polled = Pin::new(&mut self.task).poll(context);
        polled.map(|joined| joined.unwrap_or_else(|error| Err((self.lost)(&error))))
    }
}

impl<T> Drop for SpawnedExchange<T> {
    fn drop(&mut self) {
        self.task.abort();
    }
}

#[cfg(test)]
mod tests;
