//! The command line as a client of the HTTP API: one blocking agent, credentials, and refusals as readable errors.
//!
//! Which routes exist and what their bodies mean is the callers' business.

use std::fmt;
use std::io::{Read, Write};
use std::time::Duration;

use kith::error::DISK_FULL;
use serde::Deserialize;
use serde_json::{Value, json};
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body, SendBody};

use super::digits;

/// No answer of the management API is larger; ureq's own default of 10 MiB is too small for long lists.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// How many items are asked for at once.
const PAGE_ITEMS: u64 = 200;

/// How long a connection may take. Requests themselves have no limit: a fit or an import takes as long as it takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to one Kith server.
pub(crate) struct Client {
    agent: Agent,
    base_url: String,
    authorization: Option<String>,
}

/// A refusal as the server explains it (RFC 9457, with Kith's `code` and `message`).
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Problem {
    #[serde(skip)]
    pub(crate) http_status: u16,
    pub(crate) code: String,
    pub(crate) message: String,
    pub(crate) detail: Option<String>,
    pub(crate) title: Option<String>,
    pub(crate) request_id: String,
    pub(crate) errors: Vec<Mistake>,
    /// For a stream that broke off: what was durably taken before.
    pub(crate) taken: Option<Value>,
    /// For a change that needs a confirmation: what it touches, and the token that confirms just that.
    #[serde(flatten)]
    pub(crate) details: serde_json::Map<String, Value>,
}

/// One mistake in a request.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Mistake {
    pub(crate) path: String,
    pub(crate) message: String,
}

impl fmt::Display for Problem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = match (&self.detail, &self.title) {
            _ if !self.message.is_empty() => &self.message,
            (Some(detail), _) => detail,
            (None, Some(title)) => title,
            (None, None) => "the server gave no reason",
        };
        write!(f, "{text} ({}", self.http_status)?;
        if !self.code.is_empty() {
            write!(f, " {}", self.code)?;
        }
        write!(f, ")")?;
        // A single mistake is the message already.
        for Mistake { path, message } in self.errors.iter().filter(|_| self.errors.len() > 1) {
            write!(f, "\n  - {path}: {message}")?;
        }
        if self.http_status >= 500 && !self.request_id.is_empty() {
            write!(f, "\n  request id: {}", self.request_id)?;
        }
        Ok(())
    }
}

/// Why a call to the server did not give an answer that can be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ApiError {
    #[error("no Kith server answers at {base_url}")]
    Unreachable { base_url: String, source: Box<ureq::Error> },
    #[error("the connection to {base_url} broke")]
    Broken { base_url: String, source: Box<ureq::Error> },
    #[error("{0}")]
    Refused(Box<Problem>),
    #[error("{url} answered with something that is not JSON; is a Kith server there?")]
    NotJson { url: String, source: serde_json::Error },
}

impl ApiError {
    /// What the person at the keyboard can do about it, where that is known.
    pub(crate) fn advice(&self) -> Option<&'static str> {
        match self {
            ApiError::Unreachable { source, .. } | ApiError::Broken { source, .. } if is_untrusted(source) => Some(
                "where the server's certificate is not of a public authority, give the one that signed it with --ca (KITH_CA)",
            ),
            ApiError::Unreachable { .. } => {
                Some("start one with `kith serve`, or point --url (KITH_URL) at the one you mean")
            }
            ApiError::Broken { .. } => Some(
                "what was acknowledged is kept; run the command again. A large file breaks off when it is refused: `kith status` \
                 says whether the server takes this key",
            ),
            ApiError::Refused(problem) => match problem.http_status {
                401 => Some("give a key of this server with --key or KITH_KEY; `kith serve` printed the first one"),
                403 | 503 if problem.code == "workspace-suspended" => {
                    Some("a host key lets it go on: `kith workspace resume NAME`")
                }
                403 if problem.message.contains("workspaces:admin") => {
                    Some("this needs a host key: the first key of a server, or one of `kith key host`")
                }
                403 => Some(
                    "this key's scopes do not allow it; use one that has the scope, or make one with `kith key create`",
                ),
                503 if problem.code == DISK_FULL => {
                    Some("whoever runs the server has to make room on its disk; /readyz says when there is")
                }
                429 | 503 => Some("the server is busy or closing; try again in a moment"),
                _ => None,
            },
            ApiError::NotJson { .. } => None,
        }
    }
}

/// What became of an answer that was copied.
#[derive(Debug)]
pub(crate) enum CopyOutcome {
    Whole,
    /// Whoever reads has gone, or could not be written to.
    Unwritten(std::io::Error),
}

/// Whether the server shows a certificate that nobody vouches for.
fn is_untrusted(error: &ureq::Error) -> bool {
    let error = match error {
        ureq::Error::Rustls(error) => Some(error),
        ureq::Error::Io(error) => error.get_ref().and_then(|error| error.downcast_ref()),
        _ => None,
    };
    matches!(error, Some(tokio_rustls::rustls::Error::InvalidCertificate(_)))
}

impl Client {
    /// A client of the server at `base_url`, with `key` as its credential.
    pub(crate) fn new(base_url: &str, key: Option<&str>) -> Client {
        Client::trusting(base_url, key, None)
    }

    /// The same, trusting other certificates than the public authorities'.
    pub(crate) fn trusting(base_url: &str, key: Option<&str>, roots: Option<RootCerts>) -> Client {
        Client::with_authorization(base_url, key.map(|key| format!("Bearer {key}")), roots)
    }

    /// A client that speaks like a Segment library: Basic authentication with a source's write key and no password.
    pub(crate) fn with_write_key(base_url: &str, write_key: &str) -> Client {
        use base64::Engine as _;
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{write_key}:"));
        Client::with_authorization(base_url, Some(format!("Basic {encoded}")), None)
    }

    fn with_authorization(base_url: &str, authorization: Option<String>, roots: Option<RootCerts>) -> Client {
        let tls = TlsConfig::builder().root_certs(roots.unwrap_or(RootCerts::WebPki)).build();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .tls_config(tls)
            .user_agent(concat!("kith/", env!("CARGO_PKG_VERSION")))
            .build();
        Client { agent: config.new_agent(), base_url: base_url.trim_end_matches('/').to_owned(), authorization }
    }

    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    pub(crate) fn get(&self, path: &str) -> Result<Value, ApiError> {
        self.call("GET", path, None, SendBody::none())
    }

    /// A whole list, over as many pages as it takes.
    pub(crate) fn whole(&self, path: &str) -> Result<Value, ApiError> {
        let items = self.list(path, u64::MAX)?;
        Ok(json!({ "items": items, "next": null }))
    }

    /// The first `limit` items of a list, over as many pages as it takes.
    pub(crate) fn list(&self, path: &str, limit: u64) -> Result<Vec<Value>, ApiError> {
        Ok(self.list_from(path, &[], limit)?.0)
    }

    /// The same of a list that is asked for with these parameters, and the cursor of what follows.
    pub(crate) fn list_from(
        &self,
        path: &str,
        parameters: &[(&str, &str)],
        limit: u64,
    ) -> Result<(Vec<Value>, Option<String>), ApiError> {
        let (others, cursor): (Vec<_>, Vec<_>) = parameters.iter().partition(|(name, _)| *name != "cursor");
        let others: String = others.iter().map(|(name, value)| format!("&{name}={}", encode(value))).collect();
        let mut cursor = cursor.first().map(|(_, value)| (*value).to_owned());
        let mut items = Vec::new();
        loop {
            let wanted = limit.saturating_sub(items.len() as u64).min(PAGE_ITEMS);
            if wanted == 0 {
                return Ok((items, cursor));
            }
            let from = cursor.map(|cursor| format!("&cursor={}", encode(&cursor))).unwrap_or_default();
            let page = self.get(&format!("{path}?limit={wanted}{others}{from}"))?;
            super::output::warn_of(page.get("warnings"));
            items.extend_from_slice(super::items(&page));
            cursor = page.get("next").and_then(Value::as_str).map(str::to_owned);
            if cursor.is_none() {
                return Ok((items, None));
            }
        }
    }

    /// Copy an answer of any length as it comes.
    pub(crate) fn download(&self, path: &str, sink: &mut dyn Write) -> Result<CopyOutcome, ApiError> {
        let url = format!("{}{path}", self.base_url);
        let mut request = ureq::http::Request::builder().method("GET").uri(&url);
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        let request = request.body(SendBody::none()).map_err(|error| self.broken(ureq::Error::Http(error)))?;
        let response = self.agent.run(request).map_err(|error| self.broken(error))?;
        if !response.status().is_success() {
            return self.read(&url, response).map(|_| CopyOutcome::Whole);
        }
        let warnings: Option<Value> =
            response.headers().get("kith-warnings").and_then(|text| serde_json::from_slice(text.as_bytes()).ok());
        super::output::warn_of(warnings.as_ref());
        let mut body = response.into_body().into_reader();
        let mut piece = vec![0; 64 << 10];
        loop {
            let count = match body.read(&mut piece) {
                Ok(0) => return Ok(CopyOutcome::Whole),
                Ok(count) => count,
                Err(error) => return Err(self.broken(ureq::Error::Io(error))),
            };
            if let Err(error) = sink.write_all(&piece[..count]) {
                return Ok(CopyOutcome::Unwritten(error));
            }
        }
    }

    pub(crate) fn post(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.send_json("POST", path, body)
    }

    pub(crate) fn put(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.send_json("PUT", path, body)
    }

    pub(crate) fn patch(&self, path: &str, body: &Value) -> Result<Value, ApiError> {
        self.send_json("PATCH", path, body)
    }

    /// What is there, and the tag of its version.
    pub(crate) fn get_tagged(&self, path: &str) -> Result<(Value, Option<String>), ApiError> {
        self.call_tagged("GET", path, &[], SendBody::none())
    }

    /// Change what was read, unless somebody else has changed it since.
    pub(crate) fn patch_if(&self, path: &str, body: &Value, tag: Option<&str>) -> Result<Value, ApiError> {
        let bytes = digits::line(body).into_bytes();
        let mut headers = vec![("content-type", "application/json")];
        headers.extend(tag.map(|tag| ("if-match", tag)));
        Ok(self.call_tagged("PATCH", path, &headers, SendBody::from_reader(&mut bytes.as_slice()))?.0)
    }

    pub(crate) fn delete(&self, path: &str) -> Result<Value, ApiError> {
        self.call("DELETE", path, None, SendBody::none())
    }

    /// Stream `body` to the server.
    pub(crate) fn upload(&self, path: &str, content_type: &str, mut body: impl Read) -> Result<Value, ApiError> {
        self.call("POST", path, Some(content_type), SendBody::from_reader(&mut body))
    }

    fn send_json(&self, method: &str, path: &str, body: &Value) -> Result<Value, ApiError> {
        let bytes = digits::line(body).into_bytes();
        self.call(method, path, Some("application/json"), SendBody::from_reader(&mut bytes.as_slice()))
    }

    fn call(
        &self,
        method: &str,
        path: &str,
        content_type: Option<&str>,
        body: SendBody<'_>,
    ) -> Result<Value, ApiError> {
        let headers: Vec<(&str, &str)> = content_type.map(|value| ("content-type", value)).into_iter().collect();
        Ok(self.call_tagged(method, path, &headers, body)?.0)
    }

    /// The answer, and the tag of the version that it shows.
    fn call_tagged(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: SendBody<'_>,
    ) -> Result<(Value, Option<String>), ApiError> {
        let url = format!("{}{path}", self.base_url);
        let mut request = ureq::http::Request::builder().method(method).uri(&url).header("accept", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| self.broken(ureq::Error::Http(error)))?;
        let response = self.agent.run(request).map_err(|error| self.broken(error))?;
        let tag = response.headers().get("etag").and_then(|tag| tag.to_str().ok()).map(str::to_owned);
        Ok((self.read(&url, response)?, tag))
    }

    fn read(&self, url: &str, mut response: ureq::http::Response<Body>) -> Result<Value, ApiError> {
        let status = response.status();
        let text = response
            .body_mut()
            .with_config()
            .limit(MAX_ANSWER_BYTES)
            .read_to_string()
            .map_err(|error| self.broken(error))?;
        if status.is_success() {
            if text.trim().is_empty() {
                return Ok(Value::Null);
            }
            return digits::read(&text).map_err(|source| ApiError::NotJson { url: url.to_owned(), source });
        }
        let mut problem: Problem = serde_json::from_str(&text)
            .unwrap_or_else(|_| Problem { message: text.chars().take(500).collect(), ..Problem::default() });
        problem.http_status = status.as_u16();
        Err(ApiError::Refused(Box::new(problem)))
    }

    fn broken(&self, error: ureq::Error) -> ApiError {
        let base_url = self.base_url.clone();
        let refused = matches!(&error, ureq::Error::Io(io) if io.kind() == std::io::ErrorKind::ConnectionRefused);
        let unreachable = refused
            || matches!(
                error,
                ureq::Error::HostNotFound
                    | ureq::Error::ConnectionFailed
                    | ureq::Error::Timeout(ureq::Timeout::Connect)
            );
        let source = Box::new(error);
        if unreachable { ApiError::Unreachable { base_url, source } } else { ApiError::Broken { base_url, source } }
    }
}

/// Wait between two looks at another process.
#[allow(
    clippy::disallowed_methods,
    reason = "another process offers nothing to wait on; every caller polls with a bound"
)]
pub(crate) fn pause(duration: Duration) {
    std::thread::sleep(duration);
}

/// A text as one part of a URL's path or query.
pub(crate) fn encode(text: &str) -> String {
    let mut encoded = String::with_capacity(text.len());
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_a_url_are_escaped() {
        assert_eq!(encode("email:ada+x@b.c/ü"), "email%3Aada%2Bx%40b.c%2F%C3%BC");
    }

    #[test]
    fn a_problem_is_shown_as_one_message_with_its_mistakes() {
        let mut problem: Problem = serde_json::from_str(
            r#"{"status":400,"code":"bad-config","message":"the configuration is not valid","errors":[
                {"path":"config/columns","message":"missing"},{"path":"config/sepp","message":"unknown"}]}"#,
        )
        .unwrap();
        problem.http_status = 400;
        assert_eq!(
            problem.to_string(),
            "the configuration is not valid (400 bad-config)\n  - config/columns: missing\n  - config/sepp: unknown"
        );
    }

    #[test]
    fn nobody_at_the_address_is_said_with_advice() {
        let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        drop(listener);
        let error = Client::new(&format!("http://{address}"), None).get("/healthz").unwrap_err();
        assert!(matches!(error, ApiError::Unreachable { .. }), "{error:?}");
        assert!(error.advice().unwrap().contains("kith serve"));
    }
}
