//! A client of one repository in a registry: manifests and blobs, got and put. All that comes is bounded and held against its
//! digest; a login goes to the registry and to whom it asks for tokens, and to nobody else.

use std::cell::RefCell;
use std::time::Duration;

use kith_model::secret::Secret;
use serde_json::Value;
use ureq::http::Response;
use ureq::tls::{RootCerts, TlsConfig};
use ureq::{Agent, Body};

use super::OciError;
use super::challenge::{self, Challenge};
use super::credentials::Logins;
use super::manifest::{MANIFEST_TYPE, MAX_MANIFEST_BYTES};
use super::reference::{Digest, Reference, is_loopback};
use crate::cli::Failure;
use crate::cli::client::encode;
use crate::cli::output::{cut, visible};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// For one request with all that comes of it: a component has 64 MiB at most.
const REQUEST_TIMEOUT: Duration = Duration::from_secs(600);

/// What is sent on is sent on so often at most.
const MAX_REDIRECTS: usize = 3;

/// An answer that is no manifest and no blob.
const MAX_ANSWER_BYTES: u64 = 64 << 10;

/// The longest token that is used.
const MAX_TOKEN_BYTES: usize = 16 << 10;

/// What is done in a repository, which a token is asked for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Access {
    Pull,
    Push,
}

/// How a registry is spoken to.
#[derive(Debug, Clone)]
pub(crate) enum Transport {
    /// With TLS, trusting these certificates.
    Tls(RootCerts),
    /// Without: of this machine alone.
    Plain,
}

/// A repository in a registry.
pub(crate) struct Registry<'a> {
    agent: Agent,
    reference: &'a Reference,
    access: Access,
    logins: &'a Logins,
    transport: Transport,
    /// `https://HOST`, what its own addresses begin with.
    base: String,
    /// What it asked for and got.
    authorization: RefCell<Option<Secret>>,
}

/// One request.
struct Call<'a> {
    method: &'static str,
    url: String,
    headers: Vec<(&'static str, &'static str)>,
    body: Option<&'a [u8]>,
}

impl<'a> Call<'a> {
    fn get(url: String) -> Call<'a> {
        Call { method: "GET", url, headers: Vec::new(), body: None }
    }
}

impl<'a> Registry<'a> {
    /// A client of the repository of a reference.
    ///
    /// # Errors
    /// Where it would be spoken to without TLS over a network.
    pub(crate) fn new(
        reference: &'a Reference,
        access: Access,
        logins: &'a Logins,
        transport: Transport,
    ) -> Result<Registry<'a>, Failure> {
        let host = reference.registry();
        let config = Agent::config_builder()
            .http_status_as_error(false)
            .max_redirects(0)
            .timeout_connect(Some(CONNECT_TIMEOUT))
            .timeout_global(Some(REQUEST_TIMEOUT))
            .user_agent(concat!("kith/", env!("CARGO_PKG_VERSION")));
        let (scheme, config) = match &transport {
            Transport::Plain if !is_loopback(host) => {
                let message = "--plain-http is for registries on this machine: elsewhere the login and the component would go \
                     unprotected";
                return Err(Failure::Usage(message.to_owned()));
            }
            Transport::Plain => ("http", config.proxy(None)),
            Transport::Tls(roots) => {
                ("https", config.tls_config(TlsConfig::builder().root_certs(roots.clone()).build()))
            }
        };
        let (agent, base) = (config.build().new_agent(), format!("{scheme}://{host}"));
        Ok(Registry { agent, reference, access, logins, transport, base, authorization: RefCell::default() })
    }

    /// The manifest of a tag or a digest, with its digest; `None` where there is none.
    pub(crate) fn manifest(&self, wanted: &str) -> Result<Option<(Vec<u8>, Digest)>, OciError> {
        let call = Call { headers: vec![("accept", MANIFEST_TYPE)], ..Call::get(self.place("manifests", wanted)) };
        let mut response = self.followed(call)?;
        match response.status().as_u16() {
            200 => {}
            404 => return Ok(None),
            _ => return Err(self.refused(response)),
        }
        let bytes = self.bounded(&mut response, "the manifest", MAX_MANIFEST_BYTES)?;
        let digest = Digest::of(&bytes);
        let said = response.headers().get("docker-content-digest").and_then(|value| value.to_str().ok());
        let asked = wanted.parse::<Digest>().ok();
        let is_other = |expected: &str| expected != digest.as_str();
        // What it says of a tag it may say in another algorithm.
        let said = said.filter(|said| said.starts_with("sha256:"));
        if let Some(expected) = asked.as_ref().map(Digest::as_str).or(said).filter(|expected| is_other(expected)) {
            return Err(OciError::OtherBytes { what: "the manifest".to_owned(), expected: cut(expected, 80) });
        }
        Ok(Some((bytes, digest)))
    }

    /// The blob of a digest, which has so many bytes.
    pub(crate) fn blob(&self, digest: &Digest, size: u64) -> Result<Vec<u8>, OciError> {
        let mut response = self.followed(Call::get(self.place("blobs", digest.as_str())))?;
        match response.status().as_u16() {
            200 => {}
            404 => return Err(OciError::Missing(format!("the blob {digest}"))),
            _ => return Err(self.refused(response)),
        }
        let bytes = self.bounded(&mut response, "the blob", size)?;
        if Digest::of(&bytes) != *digest {
            return Err(OciError::OtherBytes { what: "the blob".to_owned(), expected: digest.to_string() });
        }
        Ok(bytes)
    }

    /// Put a blob, unless it is there.
    pub(crate) fn put_blob(&self, bytes: &[u8], digest: &Digest) -> Result<(), OciError> {
        let call = Call { method: "HEAD", ..Call::get(self.place("blobs", digest.as_str())) };
        if self.authorized(&call)?.status().as_u16() == 200 {
            return Ok(());
        }
        let begin =
            Call { method: "POST", body: Some(&[]), ..Call::get(format!("{}uploads/", self.place("blobs", ""))) };
        let begun = self.authorized(&begin)?;
        if begun.status().as_u16() != 202 {
            return Err(self.refused(begun));
        }
        let upload = self.location(&begun, &begin.url)?;
        let separator = if upload.contains('?') { '&' } else { '?' };
        let url = format!("{upload}{separator}digest={}", encode(digest.as_str()));
        let headers = vec![("content-type", "application/octet-stream")];
        let done = self.authorized(&Call { method: "PUT", url, headers, body: Some(bytes) })?;
        if done.status().as_u16() == 201 { Ok(()) } else { Err(self.refused(done)) }
    }

    /// Put a manifest under a tag.
    pub(crate) fn put_manifest(&self, bytes: &[u8], tag: &str) -> Result<(), OciError> {
        let headers = vec![("content-type", MANIFEST_TYPE)];
        let url = self.place("manifests", tag);
        let done = self.authorized(&Call { method: "PUT", url, headers, body: Some(bytes) })?;
        if done.status().as_u16() == 201 { Ok(()) } else { Err(self.refused(done)) }
    }

    fn place(&self, kind: &str, name: &str) -> String {
        // Repositories, tags and digests have no character that would have to be escaped.
        format!("{}/v2/{}/{kind}/{name}", self.base, self.reference.repository)
    }

    /// The answer to a question, also where the registry sends on to another place, as most do for blobs.
    fn followed(&self, mut call: Call<'_>) -> Result<Response<Body>, OciError> {
        for _ in 0..=MAX_REDIRECTS {
            let response = self.authorized(&call)?;
            if !response.status().is_redirection() {
                return Ok(response);
            }
            call.url = self.location(&response, &call.url)?;
        }
        Err(self.redirect(&call.url, "it does so again and again"))
    }

    /// Where an answer to a request to `asked` points.
    fn location(&self, response: &Response<Body>, asked: &str) -> Result<String, OciError> {
        let target = response.headers().get("location").and_then(|value| value.to_str().ok()).unwrap_or_default();
        if target.starts_with('/') && !target.starts_with("//") {
            return Ok(format!("{}{target}", origin(asked)));
        }
        if target.starts_with("https://") || self.is_own_machine(target) {
            return Ok(target.to_owned());
        }
        Err(self.redirect(target, "only addresses with https:// are followed"))
    }

    /// Whether an address is one of this machine without TLS, for a registry that is spoken to so.
    fn is_own_machine(&self, url: &str) -> bool {
        let rest = url.strip_prefix("http://").unwrap_or_default();
        let authority = rest.split(['/', '?', '#']).next().unwrap_or_default();
        matches!(self.transport, Transport::Plain) && is_loopback(authority)
    }

    /// Send a request, and where the registry asks who it is from, once more with the answer. Other hosts are told nothing.
    fn authorized(&self, call: &Call<'_>) -> Result<Response<Body>, OciError> {
        if origin(&call.url) != self.base {
            return self.send(call, None);
        }
        let present = self.authorization.borrow().clone();
        let response = self.send(call, present.as_ref())?;
        if response.status().as_u16() != 401 {
            return Ok(response);
        }
        let offered = response.headers().get_all("www-authenticate").iter().filter_map(|value| value.to_str().ok());
        let login = self.logins.basic(self.reference.host(), &self.reference.repository);
        let authorization = match challenge::wanted(offered) {
            Some(Challenge::Bearer { realm, service }) => self.token(&realm, service.as_deref(), login.as_ref())?,
            Some(Challenge::Basic) => login.ok_or_else(|| self.unauthorized())?,
            None => return Err(self.unauthorized()),
        };
        *self.authorization.borrow_mut() = Some(authorization.clone());
        let response = self.send(call, Some(&authorization))?;
        if response.status().as_u16() == 401 { Err(self.unauthorized()) } else { Ok(response) }
    }

    /// A token for what is done in the repository.
    fn token(&self, realm: &str, service: Option<&str>, login: Option<&Secret>) -> Result<Secret, OciError> {
        if !realm.starts_with("https://") && !self.is_own_machine(realm) {
            return Err(self.redirect(realm, "a token is asked for only with https://"));
        }
        let actions = match self.access {
            Access::Pull => "pull",
            Access::Push => "pull,push",
        };
        let scope = format!("repository:{}:{actions}", self.reference.repository);
        let service = service.map(|service| format!("service={}&", encode(service))).unwrap_or_default();
        let separator = if realm.contains('?') { '&' } else { '?' };
        let call = Call::get(format!("{realm}{separator}{service}scope={}", encode(&scope)));
        let mut response = self.send(&call, login)?;
        if response.status().as_u16() != 200 {
            return Err(self.unauthorized());
        }
        let bytes = self.bounded(&mut response, "the token", MAX_ANSWER_BYTES)?;
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let token = ["token", "access_token"].into_iter().find_map(|name| answer.get(name)?.as_str());
        let is_token = |token: &&str| {
            !token.is_empty() && token.len() <= MAX_TOKEN_BYTES && token.bytes().all(|byte| byte.is_ascii_graphic())
        };
        match token.filter(is_token) {
            Some(token) => Ok(format!("Bearer {token}").into()),
            None => Err(OciError::Form { what: "the registry's token", problem: "there is none in it".to_owned() }),
        }
    }

    fn send(&self, call: &Call<'_>, authorization: Option<&Secret>) -> Result<Response<Body>, OciError> {
        let mut request = ureq::http::Request::builder().method(call.method).uri(&call.url);
        for (name, value) in &call.headers {
            request = request.header(*name, *value);
        }
        if let Some(authorization) = authorization {
            request = request.header("authorization", authorization.expose());
        }
        let broken = |source| {
            let host = cut(&visible(origin(&call.url)), 200);
            OciError::Unreachable { host, source: Box::new(source) }
        };
        let sent = match call.body {
            Some(body) => self.agent.run(request.body(body).map_err(|error| broken(ureq::Error::Http(error)))?),
            None => self.agent.run(request.body(()).map_err(|error| broken(ureq::Error::Http(error)))?),
        };
        sent.map_err(broken)
    }

    /// The body of an answer, of so many bytes at most.
    fn bounded(&self, response: &mut Response<Body>, what: &str, most: u64) -> Result<Vec<u8>, OciError> {
        // The reader takes its limit for passed where it is met.
        let read = response.body_mut().with_config().limit(most.saturating_add(1)).read_to_vec();
        let too_large = || OciError::TooLarge { what: what.to_owned(), most };
        match read {
            Ok(bytes) if bytes.len() as u64 > most => Err(too_large()),
            Ok(bytes) => Ok(bytes),
            Err(ureq::Error::BodyExceedsLimit(_)) => Err(too_large()),
            Err(source) => {
                Err(OciError::Unreachable { host: self.reference.host().to_owned(), source: Box::new(source) })
            }
        }
    }

    fn redirect(&self, target: &str, why: &'static str) -> OciError {
        OciError::Redirect { host: self.reference.host().to_owned(), target: cut(&visible(target), 200), why }
    }

    fn unauthorized(&self) -> OciError {
        let host = self.reference.host().to_owned();
        OciError::Unauthorized { advice: self.logins.advice(&host), host }
    }

    /// A refusal in the registry's words, where it has some.
    fn refused(&self, mut response: Response<Body>) -> OciError {
        let status = response.status().as_u16();
        let bytes = self.bounded(&mut response, "the refusal", MAX_ANSWER_BYTES).unwrap_or_default();
        let answer: Value = serde_json::from_slice(&bytes).unwrap_or_default();
        let error = &answer["errors"][0];
        let said = ["code", "message"].into_iter().filter_map(|name| error.get(name)?.as_str());
        let said = said.collect::<Vec<_>>().join(": ");
        let message = if said.is_empty() { "it does not say why".to_owned() } else { cut(&visible(&said), 300) };
        if matches!(status, 401 | 403) {
            return OciError::Unauthorized {
                host: self.reference.host().to_owned(),
                advice: format!("it says {message}; {}", self.logins.advice(self.reference.host())),
            };
        }
        OciError::Refused { host: self.reference.host().to_owned(), status, message }
    }
}

/// Scheme and authority of an address.
fn origin(url: &str) -> &str {
    let behind = url.find("://").map_or(0, |at| at + 3);
    let rest = url.get(behind..).unwrap_or_default();
    let end = rest.find(['/', '?', '#']).unwrap_or(rest.len());
    url.get(..behind + end).unwrap_or_default()
}

#[cfg(test)]
mod tests;
