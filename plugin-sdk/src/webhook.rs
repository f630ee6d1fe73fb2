//! Signed webhooks: whether a request comes from whoever holds the secret, in the forms in which providers sign.
//!
//! A plugin takes [`Signature`] from its configuration and asks [`Signature::verify`] before it reads anything else. The secret stays with the host:
//!
//! ```
//! use kith_plugin_sdk::{Request, testing, webhook};
//!
//! let signature: webhook::Signature = serde_json::from_str(r#"{"scheme": "github"}"#).unwrap();
//! let mut request = Request::post("/", r#"{"zen": "Keep it logically awesome."}"#);
//! request.headers.push(("x-hub-signature-256".to_owned(), "sha256=00".to_owned()));
//! let host = testing::Host::new().secret("signing").verify_hmac(|key, message, signature| {
//!     key.secret == "signing" && message.starts_with(b"{") && signature == "sha256=00"
//! });
//! let (verified, _) = host.run(|| signature.verify("signing", &webhook::Call::from(&request)));
//! assert!(verified.is_ok());
//! ```
//!
//! What is signed a second time is no new event: a time that was signed has to be near the receipt's, and [`Verified::name`] gives events without an
//! id of their own one that a repeat has too.

use serde::Deserialize;

use crate::secrets::{self, Digest, HmacKey, KeyForm};
use crate::{Event, Problem, Rejection, Request, Timestamp, time};

/// How far a signed time may be from the receipt's unless the configuration says otherwise, in seconds: what Standard Webhooks, Stripe and
/// Slack advise.
const DEFAULT_TOLERANCE_SECONDS: u32 = 300;

/// Signatures of one request that are tried: providers send two while a secret is changed.
const MAX_SIGNATURES: usize = 4;

/// Who signs, which says how.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Scheme {
    /// [Standard Webhooks](https://www.standardwebhooks.com) 1.0: `webhook-id`, `webhook-timestamp`, `webhook-signature`.
    StandardWebhooks,
    /// Standard Webhooks as Svix sends it: `svix-id`, `svix-timestamp`, `svix-signature`.
    Svix,
    /// GitHub, and others that took it over: `x-hub-signature-256`.
    Github,
    /// `x-shopify-hmac-sha256`.
    Shopify,
    /// `stripe-signature: t=…,v1=…`.
    Stripe,
    /// `x-slack-signature`, `x-slack-request-timestamp`.
    Slack,
    /// Segment's webhooks: `x-signature`, SHA-1.
    Segment,
    /// What the configuration spells out.
    Custom,
}

/// How a source's requests are signed, as a plugin's configuration has it. Beside `scheme` and `tolerance_seconds` every key is of
/// [`Scheme::Custom`].
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Signature {
    /// Who signs.
    pub scheme: Scheme,
    /// How far a signed time may be from the receipt's.
    pub tolerance_seconds: Option<u32>,
    /// The header with the signature.
    pub header: Option<String>,
    /// The hash; SHA-256 unless told.
    pub digest: Option<Digest>,
    /// How the key lies in the secret; its text unless told.
    pub key: Option<KeyForm>,
    /// What is signed: a text with `{body}` in it, and `{timestamp}` and `{id}` as they came. The body alone unless told.
    pub message: Option<String>,
    /// The header with the signed time.
    pub timestamp_header: Option<String>,
    /// Which of the signature header's fields is the signed time, e.g. `t` of `t=1,v1=…`.
    pub timestamp_field: Option<String>,
    /// Which of the signature header's fields is the signature, e.g. `v1`.
    pub signature_field: Option<String>,
    /// The header with the signed id of the call.
    pub id_header: Option<String>,
}

/// A call as it came.
#[derive(Debug, Clone, Copy)]
pub struct Call<'r> {
    /// Names in lower case.
    pub headers: &'r [(String, String)],
    /// The bytes that were signed.
    pub body: &'r [u8],
    /// When the kernel received it.
    pub received_at: Timestamp,
}

impl<'r> From<&'r Request> for Call<'r> {
    fn from(request: &'r Request) -> Call<'r> {
        Call { headers: &request.headers, body: &request.body, received_at: request.received_at }
    }
}

impl<'r> From<&'r crate::Callback> for Call<'r> {
    fn from(callback: &'r crate::Callback) -> Call<'r> {
        Call { headers: &callback.headers, body: &callback.body, received_at: callback.received_at }
    }
}

/// The proof that a call was signed; only [`Signature::verify`] makes one.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Verified {
    /// What a repeat of the same signed call has too.
    id: String,
}

impl Verified {
    /// Give events that have no id of their own one after the call: a call that is sent again brings none of them again.
    pub fn name(&self, events: &mut [Event]) {
        for (place, event) in events.iter_mut().enumerate().filter(|(_, event)| event.message_id.is_none()) {
            event.message_id = Some(format!("{}-{place}", self.id));
        }
    }
}

/// One scheme, spelt out.
struct Rule<'s> {
    header: &'s str,
    digest: Digest,
    key: KeyForm,
    message: &'s str,
    timestamp: SignedTime<'s>,
    signature_field: Option<&'s str>,
    id_header: Option<&'s str>,
}

/// Where the signed time stands.
#[derive(Clone, Copy, PartialEq, Eq)]
enum SignedTime<'s> {
    None,
    Header(&'s str),
    /// A field of the signature's header.
    Field(&'s str),
}

const BODY: &str = "{body}";
const TIMESTAMP: &str = "{timestamp}";
const ID: &str = "{id}";

impl Rule<'static> {
    /// The body alone, with SHA-256 under the secret's text.
    fn plain(header: &'static str) -> Rule<'static> {
        Rule {
            header,
            digest: Digest::Sha256,
            key: KeyForm::Text,
            message: BODY,
            timestamp: SignedTime::None,
            signature_field: None,
            id_header: None,
        }
    }

    fn standard(header: &'static str, timestamp: &'static str, id: &'static str) -> Rule<'static> {
        Rule {
            key: KeyForm::StandardWebhooks,
            message: "{id}.{timestamp}.{body}",
            timestamp: SignedTime::Header(timestamp),
            id_header: Some(id),
            ..Rule::plain(header)
        }
    }
}

impl Signature {
    /// What is wrong with it, each with its key below `key`: what a schema of the configuration cannot say.
    pub fn problems(&self, key: &str) -> Vec<Problem> {
        let problem = |name: &str, message: &str| Problem::new(format!("{key}.{name}"), message);
        let mut problems = Vec::new();
        let own = [
            ("header", self.header.is_some()),
            ("digest", self.digest.is_some()),
            ("key", self.key.is_some()),
            ("message", self.message.is_some()),
            ("timestamp_header", self.timestamp_header.is_some()),
            ("timestamp_field", self.timestamp_field.is_some()),
            ("signature_field", self.signature_field.is_some()),
            ("id_header", self.id_header.is_some()),
        ];
        if self.scheme != Scheme::Custom {
            let given = own.into_iter().filter(|(_, given)| *given);
            problems.extend(
                given.map(|(name, _)| problem(name, "is said by the scheme; write `custom` to say it yourself")),
            );
            return problems;
        }
        if self.header.is_none() {
            problems.push(problem("header", "is missing; write the header that holds the signature"));
        }
        let message = self.message.as_deref().unwrap_or(BODY);
        if message.matches(BODY).count() != 1 {
            problems
                .push(problem("message", "must hold `{body}` once: what is not signed could be changed on the way"));
        }
        let has_time = self.timestamp_header.is_some() || self.timestamp_field.is_some();
        if self.timestamp_header.is_some() && self.timestamp_field.is_some() {
            problems
                .push(problem("timestamp_field", "is beside `timestamp_header`; write the one that holds the time"));
        }
        for (holder, place, has) in
            [(TIMESTAMP, "timestamp_header", has_time), (ID, "id_header", self.id_header.is_some())]
        {
            match (message.contains(holder), has) {
                (true, false) => problems.push(problem(place, "is missing; `message` names what it holds")),
                (false, true) => problems.push(problem(
                    place,
                    "names something that `message` does not hold: what is not signed proves nothing",
                )),
                _ => {}
            }
        }
        if self.timestamp_field.is_some() && self.signature_field.is_none() {
            problems.push(problem("signature_field", "is missing; the header holds the time beside it"));
        }
        problems
    }

    /// Insist that a call was signed with the secret of this name, and within the tolerance where a time is signed.
    ///
    /// # Errors
    /// 401 for one that was not, 503 where the secret is not there to compare with: the sender then comes again.
    pub fn verify(&self, secret: &str, call: &Call<'_>) -> Result<Verified, Rejection> {
        let rule = self.rule();
        if secrets::stand_in(secret).is_none() {
            let message =
                format!("the secret `{secret}` is not set or not granted, so that no signature can be checked");
            return Err(Rejection::new(503, "no-signing-secret", message));
        }
        let lines: Vec<&str> = values(call, rule.header).collect();
        if lines.is_empty() {
            return Err(unsigned(format!(
                "the header `{}` is missing: this source takes signed requests alone",
                rule.header
            )));
        }
        let timestamp = match rule.timestamp {
            SignedTime::None => "",
            SignedTime::Header(name) => header(call, name)?,
            SignedTime::Field(name) => {
                let found = lines.iter().flat_map(|line| fields(line, name)).next();
                found.ok_or_else(|| unsigned(format!("the header `{}` has no field `{name}`", rule.header)))?
            }
        };
        if rule.timestamp != SignedTime::None {
            self.check_time(timestamp, call.received_at)?;
        }
        let id = rule.id_header.map(|name| header(call, name)).transpose()?.unwrap_or_default();
        let message = message(rule.message, timestamp, id, call.body);
        let key = HmacKey { secret, form: rule.key, digest: rule.digest };
        let given: Vec<&str> = match rule.signature_field {
            Some(name) => lines.iter().flat_map(|line| fields(line, name)).collect(),
            None => lines.iter().flat_map(|line| line.split_ascii_whitespace()).collect(),
        };
        let holds = |signature: &&&str| secrets::verify_hmac(key, &message, signature);
        if !given.iter().take(MAX_SIGNATURES).any(|signature| holds(&signature)) {
            return Err(unsigned(format!(
                "the signature in `{}` is not that of this request under the secret",
                rule.header
            )));
        }
        // An id that is not signed could be changed, and the same signature can be spelt in many ways: what was signed is the
        // same whoever sends it again.
        let id = if id.is_empty() { format!("signed-{:032x}", fnv1a(&message)) } else { id.to_owned() };
        Ok(Verified { id })
    }

    /// Insist that a signed time is near the receipt's.
    fn check_time(&self, text: &str, received_at: Timestamp) -> Result<(), Rejection> {
        let signed_at = time::parse(text).ok_or_else(|| unsigned(format!("the signed time `{text:.64}` is none")))?;
        let seconds = self.tolerance_seconds.unwrap_or(DEFAULT_TOLERANCE_SECONDS);
        if signed_at.abs_diff(received_at) <= u64::from(seconds) * 1_000 {
            return Ok(());
        }
        let message =
            format!("the request was signed more than {seconds} s from now; sign it anew, and compare the clocks");
        Err(Rejection::new(401, "signature-too-old", message))
    }

    fn rule(&self) -> Rule<'_> {
        match self.scheme {
            Scheme::StandardWebhooks => Rule::standard("webhook-signature", "webhook-timestamp", "webhook-id"),
            Scheme::Svix => Rule::standard("svix-signature", "svix-timestamp", "svix-id"),
            Scheme::Github => Rule::plain("x-hub-signature-256"),
            Scheme::Shopify => Rule::plain("x-shopify-hmac-sha256"),
            Scheme::Stripe => Rule {
                message: "{timestamp}.{body}",
                timestamp: SignedTime::Field("t"),
                // The other fields are of other schemes: `v0` is what test events are signed with.
                signature_field: Some("v1"),
                ..Rule::plain("stripe-signature")
            },
            Scheme::Slack => Rule {
                message: "v0:{timestamp}:{body}",
                timestamp: SignedTime::Header("x-slack-request-timestamp"),
                ..Rule::plain("x-slack-signature")
            },
            Scheme::Segment => Rule { digest: Digest::Sha1, ..Rule::plain("x-signature") },
            Scheme::Custom => Rule {
                header: self.header.as_deref().unwrap_or_default(),
                digest: self.digest.unwrap_or(Digest::Sha256),
                key: self.key.unwrap_or(KeyForm::Text),
                message: self.message.as_deref().unwrap_or(BODY),
                timestamp: match (&self.timestamp_header, &self.timestamp_field) {
                    (Some(name), _) => SignedTime::Header(name),
                    (None, Some(name)) => SignedTime::Field(name),
                    (None, None) => SignedTime::None,
                },
                signature_field: self.signature_field.as_deref(),
                id_header: self.id_header.as_deref(),
            },
        }
    }
}

/// FNV-1a of 128 bits (draft-eastlake-fnv, section 5). Whoever could look for two messages of one hash would have to sign both.
fn fnv1a(bytes: &[u8]) -> u128 {
    const BASIS: u128 = 0x6c62_272e_07bb_0142_62b8_2175_6295_c58d;
    const PRIME: u128 = 0x0000_0000_0100_0000_0000_0000_0000_013b;
    bytes.iter().fold(BASIS, |hash, byte| (hash ^ u128::from(*byte)).wrapping_mul(PRIME))
}

fn unsigned(message: String) -> Rejection {
    Rejection::new(401, "invalid-signature", message)
}

/// The values of a header, however its name is spelt in the configuration.
fn values<'r>(call: &Call<'r>, name: &str) -> impl Iterator<Item = &'r str> {
    let found = call.headers.iter().filter(move |(header, _)| header.eq_ignore_ascii_case(name));
    found.map(|(_, value)| value.trim_ascii()).filter(|value| !value.is_empty())
}

/// The value of a header that is signed, of which there must be one: of two, somebody else may read the other one.
fn header<'r>(call: &Call<'r>, name: &str) -> Result<&'r str, Rejection> {
    let mut found = values(call, name);
    match (found.next(), found.next()) {
        (Some(value), None) => Ok(value),
        (Some(_), Some(_)) => Err(unsigned(format!("the header `{name}` is there twice"))),
        (None, _) => Err(unsigned(format!("the header `{name}` is missing: it is signed too"))),
    }
}

/// The values of a field of a header such as `t=1,v1=abc`.
fn fields<'h>(line: &'h str, name: &str) -> impl Iterator<Item = &'h str> {
    let pairs = line.split([',', ';']).filter_map(|pair| pair.trim_ascii().split_once('='));
    pairs.filter(move |(field, _)| *field == name).map(|(_, value)| value)
}

/// What was signed. What a sender wrote is never looked through for further places to fill in.
fn message(form: &str, timestamp: &str, id: &str, body: &[u8]) -> Vec<u8> {
    let mut message = Vec::with_capacity(form.len() + timestamp.len() + id.len() + body.len());
    let mut rest = form;
    while !rest.is_empty() {
        let found = [(BODY, body), (TIMESTAMP, timestamp.as_bytes()), (ID, id.as_bytes())]
            .into_iter()
            .find_map(|(holder, value)| Some((rest.strip_prefix(holder)?, value)));
        match found {
            Some((behind, value)) => {
                message.extend_from_slice(value);
                rest = behind;
            }
            None => {
                let end = rest.char_indices().nth(1).map_or(rest.len(), |(end, _)| end);
                message.extend_from_slice(&rest.as_bytes()[..end]);
                rest = &rest[end..];
            }
        }
    }
    message
}

/// The page about it, whose examples are compiled and run.
#[cfg(doctest)]
#[doc = include_str!("../../docs/webhooks.md")]
struct Page;

#[cfg(test)]
mod tests;
