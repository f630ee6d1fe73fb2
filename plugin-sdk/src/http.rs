//! Outgoing HTTP to the hosts that the manifest asks for and an admin granted. Redirects are answers, never followed.
//!
//! A connector sends for itself, with [`Request::send`]; for a channel and for a poll the kernel sends, and the request becomes a
//! [`Step`](crate::Step) or a [`Turn`](crate::Turn).

use std::fmt;

use serde::Serialize;
use serde::de::DeserializeOwned;

use crate::time::{self, Form};
use crate::{Failure, Timestamp, platform};

/// A request, built step by step and then sent.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Request {
    pub(crate) method: String,
    pub(crate) url: String,
    pub(crate) headers: Vec<(String, String)>,
    pub(crate) body: Vec<u8>,
    pub(crate) signature: Option<StandardWebhooks>,
    pub(crate) timeout_ms: Option<u32>,
}

/// Standard Webhooks 1.0: the host adds `webhook-id`, `webhook-timestamp` and `webhook-signature`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct StandardWebhooks {
    /// The name of the secret (`whsec_…`).
    pub secret: String,
    /// Stable over all attempts of one delivery.
    pub message_id: String,
}

impl Request {
    /// A request with any method.
    pub fn new(method: impl Into<String>, url: impl Into<String>) -> Request {
        Request {
            method: method.into(),
            url: url.into(),
            headers: Vec::new(),
            body: Vec::new(),
            signature: None,
            timeout_ms: None,
        }
    }

    /// A `GET`.
    pub fn get(url: impl Into<String>) -> Request {
        Request::new("GET", url)
    }

    /// A `POST`.
    pub fn post(url: impl Into<String>) -> Request {
        Request::new("POST", url)
    }

    /// A `PUT`.
    pub fn put(url: impl Into<String>) -> Request {
        Request::new("PUT", url)
    }

    /// A `DELETE`.
    pub fn delete(url: impl Into<String>) -> Request {
        Request::new("DELETE", url)
    }

    /// The same with one more header.
    #[must_use]
    pub fn header(mut self, name: impl Into<String>, value: impl Into<String>) -> Request {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn body(mut self, body: impl Into<Vec<u8>>) -> Request {
        self.body = body.into();
        self
    }

    /// The same with `value` as a JSON body and the header that says so. Fails where `value` does not write as JSON.
    pub fn json<T: Serialize>(self, value: &T) -> Result<Request, Failure> {
        let body = serde_json::to_vec(value)
            .map_err(|error| Failure::bad_input(format!("the request's body does not write as JSON: {error}")))?;
        Ok(self.header("content-type", "application/json").body(body))
    }

    /// The same, signed by the host after Standard Webhooks 1.0 with the secret of this name. `message_id` is stable over all attempts.
    #[must_use]
    pub fn sign_standard_webhooks(mut self, secret: impl Into<String>, message_id: impl Into<String>) -> Request {
        self.signature = Some(StandardWebhooks { secret: secret.into(), message_id: message_id.into() });
        self
    }

    /// The same with a limit on how long to wait for the answer's head. The host has one of its own, which bounds it.
    #[must_use]
    pub fn timeout_ms(mut self, timeout_ms: u32) -> Request {
        self.timeout_ms = Some(timeout_ms);
        self
    }

    /// Send it and wait for the answer. Any status is an answer. Connectors only, and not in a poll, whose requests the kernel sends.
    pub fn send(self) -> Result<Response, Error> {
        platform::send_http(self)
    }

    /// `GET`, `POST`, …
    pub fn method(&self) -> &str {
        &self.method
    }

    /// Where it goes.
    pub fn url(&self) -> &str {
        &self.url
    }

    /// Its headers, in the order in which they were added.
    pub fn headers(&self) -> &[(String, String)] {
        &self.headers
    }

    /// Its body.
    pub fn body_bytes(&self) -> &[u8] {
        &self.body
    }

    /// How long to wait for the answer's head, where that was said.
    pub fn timeout(&self) -> Option<u32> {
        self.timeout_ms
    }

    /// How the host is asked to sign it.
    pub fn signature(&self) -> Option<&StandardWebhooks> {
        self.signature.as_ref()
    }
}

/// An answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Response {
    /// The HTTP status.
    pub status: u16,
    /// The headers, names in lower case.
    pub headers: Vec<(String, String)>,
    /// The body.
    pub body: Vec<u8>,
}

impl Response {
    /// An empty answer with a status, as a unit test writes it.
    pub fn new(status: u16) -> Response {
        Response { status, headers: Vec::new(), body: Vec::new() }
    }

    /// The same with one more header.
    #[must_use]
    pub fn with_header(mut self, name: impl Into<String>, value: impl Into<String>) -> Response {
        self.headers.push((name.into(), value.into()));
        self
    }

    /// The same with this body.
    #[must_use]
    pub fn with_body(mut self, body: impl Into<Vec<u8>>) -> Response {
        self.body = body.into();
        self
    }

    /// The first header of this name, whatever its case.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.iter().find(|(header, _)| header.eq_ignore_ascii_case(name)).map(|(_, value)| value.as_str())
    }

    /// `Retry-After` in seconds from now: a number of seconds or a date (RFC 9110, 10.2.3). `None` where there is none, or neither.
    pub fn retry_after_seconds(&self, now: Timestamp) -> Option<u32> {
        let value = self.header("retry-after")?.trim();
        if !value.is_empty() && value.bytes().all(|byte| byte.is_ascii_digit()) {
            // More digits than fit say "a very long time"; the kernel has its own ceiling.
            return Some(value.parse().unwrap_or(u32::MAX));
        }
        let date = time::read(value).filter(|reading| reading.form != Form::Epoch)?;
        // Rounded up: a part of a second early is still too early.
        let wait_seconds = date.time().saturating_sub(now).max(0).saturating_add(999) / 1_000;
        Some(u32::try_from(wait_seconds).unwrap_or(u32::MAX))
    }

    /// Whether the status is 2xx.
    pub fn is_success(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as text, with `U+FFFD` in the place of what is not UTF-8.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The body as JSON of a type of the plugin's own.
    pub fn json<T: DeserializeOwned>(&self) -> Result<T, Failure> {
        serde_json::from_slice(&self.body)
            .map_err(|error| Failure::transient(format!("the answer (status {}) does not read: {error}", self.status)))
    }
}

/// Why there was no answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Error {
    /// Not granted, not a public address, or not an address at all; trying again will not help.
    Denied(String),
    /// No answer in time.
    Timeout(String),
    /// The connection failed or broke.
    Connection(String),
    /// The answer is larger than the limit.
    TooLarge(String),
}

impl Error {
    /// Whether trying again later may help.
    pub fn may_retry(&self) -> bool {
        matches!(self, Error::Timeout(_) | Error::Connection(_))
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Error::Denied(reason) => write!(f, "denied: {reason}"),
            Error::Timeout(reason) => write!(f, "no answer in time: {reason}"),
            Error::Connection(reason) => write!(f, "connection failed: {reason}"),
            Error::TooLarge(reason) => write!(f, "the answer is too large: {reason}"),
        }
    }
}

impl std::error::Error for Error {}

impl From<Error> for Failure {
    fn from(error: Error) -> Failure {
        if error.may_retry() { Failure::transient(error.to_string()) } else { Failure::permanent(error.to_string()) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Sun, 06 Nov 1994 08:49:37 GMT, RFC 9110's example.
    const EXAMPLE_MS: i64 = 784_111_777_000;

    #[test]
    fn retry_after_is_seconds_or_a_date() {
        for (value, now, expected) in [
            ("120", 0, Some(120)),
            (" 0 ", 0, Some(0)),
            ("99999999999999", 0, Some(u32::MAX)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE_MS - 90_000, Some(90)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE_MS - 90_001, Some(91)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", EXAMPLE_MS + 5_000, Some(0)),
            ("Sunday, 06-Nov-94 08:49:37 GMT", EXAMPLE_MS - 1_000, Some(1)),
            ("Sun Nov  6 08:49:37 1994", EXAMPLE_MS - 1_000, Some(1)),
            ("soon", 0, None),
            ("-5", 0, None),
            ("1.5", 0, None),
            ("", 0, None),
        ] {
            let response = Response::new(503).with_header("Retry-After", value);
            assert_eq!(response.retry_after_seconds(now), expected, "{value:?}");
        }
        assert_eq!(Response::new(503).retry_after_seconds(0), None);
    }
}
