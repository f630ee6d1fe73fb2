//! A client of the HTTP API that shows answers as they come: redirects are not followed, refusals are no errors.

use std::io::Write as _;

use base64::Engine as _;
use serde_json::Value;
use ureq::http::{HeaderMap, Request};
use ureq::tls::TlsConfig;
use ureq::{Agent, AsSendBody, SendBody};

/// The largest answer that a test reads.
const MAX_ANSWER_BYTES: u64 = 64 << 20;

/// One caller of one server.
#[derive(Clone)]
pub struct Client {
    agent: Agent,
    url: String,
    authorization: Option<String>,
}

/// A whole answer.
#[derive(Debug, Clone)]
pub struct Answer {
    pub status: u16,
    pub headers: HeaderMap,
    pub bytes: Vec<u8>,
    /// What was asked, for failures.
    asked: String,
}

impl Client {
    /// A caller with an API key, or with none.
    pub fn new(url: &str, key: Option<&str>) -> Client {
        Client::with(url, key.map(|key| format!("Bearer {key}")))
    }

    /// A caller as Segment's clients are: Basic authentication with the write key and no password.
    pub fn with_write_key(url: &str, write_key: &str) -> Client {
        let encoded = base64::engine::general_purpose::STANDARD.encode(format!("{write_key}:"));
        Client::with(url, Some(format!("Basic {encoded}")))
    }

    fn with(url: &str, authorization: Option<String>) -> Client {
        // No certificate of a test is known to anybody; a story of certificates has an agent of its own.
        let tls = TlsConfig::builder().disable_verification(true).build();
        let config = Agent::config_builder().http_status_as_error(false).max_redirects(0).tls_config(tls).build();
        Client { agent: config.new_agent(), url: url.to_owned(), authorization }
    }

    /// The server's address.
    pub fn url(&self) -> &str {
        &self.url
    }

    #[track_caller]
    pub fn get(&self, path: &str) -> Answer {
        self.empty("GET", path)
    }

    #[track_caller]
    pub fn delete(&self, path: &str) -> Answer {
        self.empty("DELETE", path)
    }

    #[track_caller]
    pub fn post(&self, path: &str, body: &Value) -> Answer {
        self.send("POST", path, &[("content-type", "application/json")], body.to_string())
    }

    #[track_caller]
    pub fn patch(&self, path: &str, body: &Value) -> Answer {
        self.send("PATCH", path, &[("content-type", "application/json")], body.to_string())
    }

    /// A request without a body.
    #[track_caller]
    pub fn empty(&self, method: &str, path: &str) -> Answer {
        self.run(method, path, &[], SendBody::none()).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// A request with a body of any kind.
    #[track_caller]
    pub fn send(&self, method: &str, path: &str, headers: &[(&str, &str)], body: impl Into<Vec<u8>>) -> Answer {
        self.try_send(method, path, headers, body).unwrap_or_else(|error| panic!("{method} {path}: {error}"))
    }

    /// The same, to a server that may be dying.
    ///
    /// # Errors
    /// When no whole answer came.
    pub fn try_send(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: impl Into<Vec<u8>>,
    ) -> Result<Answer, Box<ureq::Error>> {
        let mut body = body.into();
        self.run(method, path, headers, body.as_body()).map_err(Box::new)
    }

    fn run(
        &self,
        method: &str,
        path: &str,
        headers: &[(&str, &str)],
        body: SendBody<'_>,
    ) -> Result<Answer, ureq::Error> {
        let mut request = Request::builder().method(method).uri(format!("{}{path}", self.url));
        if let Some(authorization) = &self.authorization {
            request = request.header("authorization", authorization);
        }
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let mut response = self.agent.run(request.body(body).map_err(ureq::Error::Http)?)?;
        let bytes = response.body_mut().with_config().limit(MAX_ANSWER_BYTES).read_to_vec()?;
        Ok(Answer {
            status: response.status().as_u16(),
            headers: response.headers().clone(),
            bytes,
            asked: format!("{method} {path}"),
        })
    }
}

impl Answer {
    /// The body as text.
    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.bytes).into_owned()
    }

    /// The body as JSON; null where it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.bytes).unwrap_or(Value::Null)
    }

    /// A header's value, or the empty text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default()
    }

    /// Insist on a status; the body.
    #[track_caller]
    pub fn is(&self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}: {}", self.asked, self.text());
        self.json()
    }

    /// Insist on a problem document, with the string `code` and `message` that clients read.
    #[track_caller]
    pub fn is_problem(&self, status: u16, code: &str) -> Value {
        let body = self.is_some_problem();
        assert_eq!((self.status, body["code"].as_str()), (status, Some(code)), "{}: {body}", self.asked);
        body
    }

    /// Insist on a problem document of any kind.
    #[track_caller]
    pub fn is_some_problem(&self) -> Value {
        let body = self.json();
        assert!(self.status >= 400, "{}: {} {}", self.asked, self.status, self.text());
        assert_eq!(self.header("content-type"), "application/problem+json", "{}: {}", self.asked, self.text());
        assert_eq!(body["status"], self.status, "{}: {body}", self.asked);
        for name in ["type", "title", "detail", "code", "message", "request_id"] {
            assert!(body[name].as_str().is_some_and(|text| !text.is_empty()), "{}: {name} in {body}", self.asked);
        }
        body
    }
}

/// `bytes` as gzip.
pub fn gzip(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::fast());
    encoder.write_all(bytes.as_ref()).unwrap();
    encoder.finish().unwrap()
}

/// A text as one part of a path or query.
pub fn encode(text: &str) -> String {
    let mut encoded = String::new();
    for byte in text.bytes() {
        match byte {
            b'A'..=b'Z' | b'a'..=b'z' | b'0'..=b'9' | b'-' | b'.' | b'_' | b'~' => encoded.push(char::from(byte)),
            _ => encoded.push_str(&format!("%{byte:02X}")),
        }
    }
    encoded
}
