//! Secrets that the plugin may use but never sees.

use crate::platform;

/// A stand-in for the secret `name`. The host puts the secret's value in its place inside the headers and the body of an outgoing
/// request to a host that both the manifest and the grant name for this secret. `None` when no such secret is set.
pub fn stand_in(name: &str) -> Option<String> {
    platform::stand_in(name)
}

/// The hash of an HMAC (RFC 2104).
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Digest {
    /// Old, and still what some providers sign with.
    Sha1,
    /// What most providers sign with.
    Sha256,
    /// The longest.
    Sha512,
}

/// How the key lies in the secret's text.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum KeyForm {
    /// The text itself is the key, as GitHub, Shopify, Slack and Stripe have it.
    Text,
    /// The text is base64 of the key, with `whsec_` before it or not, as Standard Webhooks has it.
    StandardWebhooks,
}

/// A key that the plugin cannot see.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct HmacKey<'a> {
    /// The secret's name; manifest and grant must both name it. No host has to be among those that it may be sent to.
    pub secret: &'a str,
    /// How the key lies in its text.
    pub form: KeyForm,
    /// What it is hashed with.
    pub digest: Digest,
}

/// Whether `signature` is the HMAC of `message` under the key, whole. It may be written as hexadecimal digits or as base64, with
/// one of `sha1=`, `sha256=`, `sha512=`, `v0=`, `v1=` or `v1,` before it. False as well where there is no such secret;
/// [`stand_in`] tells. [`webhook`](crate::webhook) reads requests as providers sign them.
pub fn verify_hmac(key: HmacKey<'_>, message: &[u8], signature: &str) -> bool {
    platform::verify_hmac(key, message, signature)
}
