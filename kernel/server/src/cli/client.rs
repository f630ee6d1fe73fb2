//! The command line as a client of the HTTP API: one blocking agent, credentials, and refusals as readable errors.
//!
//! Which routes exist and what their bodies mean is the callers' business.

mod early;
mod error;

use std::io::{Read, Write};
use std::time::Duration;

use serde_json::{Value, json};
use ureq::config::Config;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::unversioned::resolver::DefaultResolver;
use ureq::unversioned::transport::{ConnectProxyConnector, Connector as _, RustlsConnector, TcpConnector};
use ureq::{Agent, Body, SendBody};

use super::args::PartArgs;
use super::digits;
use early::EarlyAnswer;
pub(crate) use error::{ApiError, Problem};

/// No answer of the management API is larger; ureq's own default of 10 MiB is too small for long lists.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// How many items are asked for at once.
const PAGE_ITEMS: u64 = 200;

/// How long a connection may take. Requests themselves have no limit: a fit or an import takes as long as it takes.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);

/// A connection to one Kith server.
pub(crate) struct Client {
    agent: Agent,
    /// What `agent` was made with, for the agents of uploads.
    config: Config,
    base_url: String,
    authorization: Option<String>,
}

/// What became of an answer that was copied.
#[derive(Debug)]
pub(crate) enum CopyOutcome {
    Whole,
    /// Whoever reads has gone, or could not be written to.
    Unwritten(std::io::Error),
}

/// Why a text is not the address of a server.
fn problem_of_address(text: &str) -> Option<&'static str> {
    // Slashes at the end are cut.
    if matches!(text, "http:" | "https:") {
        return Some("it names no host");
    }
    let Some((scheme, _)) = text.split_once("://") else { return Some("it has no scheme") };
    if !["http", "https"].contains(&scheme) {
        return Some("its scheme is neither http nor https");
    }
    match text.parse::<ureq::http::Uri>() {
        Ok(uri) if uri.query().is_some() => Some("it has a `?`"),
        Ok(uri) if uri.host().is_some_and(|host| !host.is_empty()) => None,
        Ok(_) | Err(_) => Some("it names no host"),
    }
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
        let config: Config = Agent::config_builder()
            .http_status_as_error(false)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .tls_config(tls)
            .user_agent(concat!("kith/", env!("CARGO_PKG_VERSION")))
            .build();
        let base_url = base_url.trim_end_matches('/').to_owned();
        Client { agent: config.new_agent(), config, base_url, authorization }
    }

    pub(crate) fn base_url(&self) -> &str {
        &self.base_url
    }

    /// The address of a route.
    ///
    /// # Errors
    /// Where the server's address is none.
    fn url(&self, path: &str) -> Result<String, ApiError> {
        match problem_of_address(&self.base_url) {
            Some(problem) => Err(ApiError::Address { base_url: self.base_url.clone(), problem }),
            None => Ok(format!("{}{path}", self.base_url)),
        }
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

    /// The part of a list that was asked for, and the cursor of what follows.
    pub(crate) fn part(&self, path: &str, parameters: &[(&str, &str)], part: &PartArgs) -> Result<Value, ApiError> {
        let mut parameters = parameters.to_vec();
        parameters.extend(part.cursor.as_deref().map(|cursor| ("cursor", cursor)));
        let (items, next) = self.list_from(path, &parameters, part.limit())?;
        Ok(json!({ "items": items, "next": next }))
    }

    /// Copy an answer of any length as it comes.
    pub(crate) fn download(&self, path: &str, sink: &mut dyn Write) -> Result<CopyOutcome, ApiError> {
        let url = self.url(path)?;
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

    /// Stream `body` to the server. It is asked for a go-ahead first, so that a refusal that hangs on the head alone costs no
    /// upload; and where it stops reading on the way, its answer is read all the same.
    pub(crate) fn upload(&self, path: &str, content_type: &str, body: impl Read) -> Result<Value, ApiError> {
        self.upload_with(path, content_type, &[], body)
    }

    /// The same with further headers.
    pub(crate) fn upload_with(
        &self,
        path: &str,
        content_type: &str,
        headers: &[(&str, &str)],
        body: impl Read,
    ) -> Result<Value, ApiError> {
        let early = EarlyAnswer::default();
        let connector = ().chain(ConnectProxyConnector::default()).chain(TcpConnector::default()).chain(early.clone());
        let connector = connector.chain(RustlsConnector::default());
        let agent = Agent::with_parts(self.config.clone(), connector, DefaultResolver::default());
        let headers = [&[("content-type", content_type), ("expect", "100-continue")], headers].concat();
        let mut body = early.body(body);
        Ok(self.call_through(&agent, "POST", path, &headers, SendBody::from_reader(&mut body))?.0)
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
        self.call_through(&self.agent, method, path, headers, body)
    }

    fn call_through(
        &self,
        agent: &Agent,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: SendBody<'_>,
    ) -> Result<(Value, Option<String>), ApiError> {
        let url = self.url(path)?;
        let mut request = ureq::http::Request::builder().method(method).uri(&url).header("accept", "application/json");
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let request = request.body(body).map_err(|error| self.broken(ureq::Error::Http(error)))?;
        let response = agent.run(request).map_err(|error| self.broken(error))?;
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
        problem.document = serde_json::from_str(&text).ok().filter(Value::is_object);
        Err(ApiError::Refused(Box::new(problem)))
    }

    fn broken(&self, error: ureq::Error) -> ApiError {
        ApiError::of_connection(self.base_url.clone(), error)
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
    fn what_is_no_address_is_said_before_anybody_is_asked() {
        for (text, problem) in [
            ("nonsense", "no scheme"),
            ("127.0.0.1:7700", "no scheme"),
            ("ftp://a.example", "neither http nor https"),
            ("http://", "no host"),
            ("http://a.example?b", "a `?`"),
        ] {
            let error = Client::new(text, None).get("/healthz").unwrap_err();
            assert!(error.to_string().contains(problem), "{error}");
            assert!(error.advice().unwrap().contains("http://127.0.0.1:7700"));
        }
        let unknown = Client::new("http://no-such-host.invalid", None).get("/healthz").unwrap_err();
        assert!(matches!(unknown, ApiError::Unreachable { .. }), "{unknown:?}");
    }

    /// Https to a port that speaks plain HTTP, and the other way round: neither is an upload that broke off.
    #[test]
    fn whoever_speaks_otherwise_is_told_apart_from_a_connection_that_broke() {
        for (scheme, answer) in
            [("https", "HTTP/1.1 400 Bad Request\r\n\r\n"), ("http", "\u{15}\u{3}\u{1}\0\u{2}\u{2}P")]
        {
            let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
            let address = listener.local_addr().unwrap();
            std::thread::spawn(move || {
                let (mut stream, _) = listener.accept().unwrap();
                drop(stream.read(&mut [0; 4096]));
                stream.write_all(answer.as_bytes()).unwrap();
            });
            let error = Client::new(&format!("{scheme}://{address}"), None).get("/healthz").unwrap_err();
            assert!(matches!(error, ApiError::OtherProtocol { .. }), "{scheme}: {error:?}");
            assert!(error.advice().unwrap().contains("https://"));
        }
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
