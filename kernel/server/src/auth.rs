//! Keys: their text, how they are stored and compared, what they may do, and who a request comes from.
//!
//! A key is `kith_<kind>_<id>_<secret><check>`: a public id to find it by, 256 random bits, and a check part that catches a
//! mistyped or cut key without a look-up. Only its SHA-256 is stored: the bits are random, so a slow hash would add nothing.
//! The workspace always comes from the credential, never from a path or a body.

mod roles;

use std::collections::BTreeSet;
use std::fmt;
use std::sync::Arc;

use axum::http::{HeaderMap, header};
use base64::Engine as _;
use kith_model::id::{InstallationId, WorkspaceId};
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;
use utoipa::ToSchema;

use crate::error::ApiError;
use crate::shares::Share;

pub use roles::Role;

/// What a credential may do.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum Scope {
    #[serde(rename = "ingest")]
    Ingest,
    #[serde(rename = "profiles:read")]
    ProfilesRead,
    /// Seeing what the data dictionary calls sensitive, of people whom the key may read.
    #[serde(rename = "sensitive:read")]
    SensitiveRead,
    /// Changing the data dictionary and the rules of records.
    #[serde(rename = "dictionary:write")]
    DictionaryWrite,
    /// Changing who is one person: the identity rules, merges and splits.
    #[serde(rename = "identity:write")]
    IdentityWrite,
    #[serde(rename = "plugins:admin")]
    PluginsAdmin,
    #[serde(rename = "audiences:read")]
    AudiencesRead,
    #[serde(rename = "audiences:write")]
    AudiencesWrite,
    #[serde(rename = "deliveries:read")]
    DeliveriesRead,
    #[serde(rename = "deliveries:write")]
    DeliveriesWrite,
    #[serde(rename = "keys:admin")]
    KeysAdmin,
    #[serde(rename = "metrics:read")]
    MetricsRead,
    #[serde(rename = "audit:read")]
    AuditRead,
    /// Making, listing, changing and deleting workspaces. It is the host's: no `*` includes it.
    #[serde(rename = "workspaces:admin")]
    WorkspacesAdmin,
    /// Everything in the workspace.
    #[serde(rename = "*")]
    All,
}

impl Scope {
    /// All but [`Scope::All`], the one first that the others depend on.
    pub const EACH: [Scope; 13] = [
        Scope::KeysAdmin,
        Scope::PluginsAdmin,
        Scope::AudiencesWrite,
        Scope::AudiencesRead,
        Scope::ProfilesRead,
        Scope::SensitiveRead,
        Scope::DictionaryWrite,
        Scope::IdentityWrite,
        Scope::DeliveriesWrite,
        Scope::DeliveriesRead,
        Scope::MetricsRead,
        Scope::AuditRead,
        Scope::Ingest,
    ];

    /// The scope as the API spells it.
    pub fn as_str(self) -> &'static str {
        match self {
            Scope::Ingest => "ingest",
            Scope::ProfilesRead => "profiles:read",
            Scope::SensitiveRead => "sensitive:read",
            Scope::DictionaryWrite => "dictionary:write",
            Scope::IdentityWrite => "identity:write",
            Scope::PluginsAdmin => "plugins:admin",
            Scope::AudiencesRead => "audiences:read",
            Scope::AudiencesWrite => "audiences:write",
            Scope::DeliveriesRead => "deliveries:read",
            Scope::DeliveriesWrite => "deliveries:write",
            Scope::KeysAdmin => "keys:admin",
            Scope::MetricsRead => "metrics:read",
            Scope::AuditRead => "audit:read",
            Scope::WorkspacesAdmin => "workspaces:admin",
            Scope::All => "*",
        }
    }
}

/// The public part of a key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct KeyId(String);

impl KeyId {
    /// The actor of what the kernel does by itself.
    pub(crate) fn kernel() -> KeyId {
        KeyId("kernel".to_owned())
    }

    /// The id that `text` spells, whether or not such a key exists.
    pub(crate) fn named(text: &str) -> KeyId {
        KeyId(text.to_owned())
    }

    /// The id as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for KeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// What a key is for; it shows in its text.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum KeyKind {
    /// For people and programs that use the API.
    Api,
    /// For a source's senders: it can only ingest.
    Write,
}

/// A key just made. Its text is shown once and kept nowhere.
#[derive(Clone)]
pub struct NewKey {
    pub id: KeyId,
    pub text: String,
    /// SHA-256 of the text, in hexadecimal.
    pub hash: String,
}

/// A text that cannot serve as a key.
#[derive(Debug, thiserror::Error)]
pub enum UnusableKey {
    #[error("a key of one's own needs at least {MIN_OWN_KEY} visible ASCII characters; this one has {length}")]
    Weak { length: usize },
    #[error("the key is mistyped or cut: its check part does not fit")]
    Mistyped,
}

/// A key that the operator chose has at least so many characters: 32 of base64 are 192 bits.
const MIN_OWN_KEY: usize = 32;

/// No key is longer; longer credentials are refused before they are hashed.
const MAX_KEY_BYTES: usize = 256;

/// Bytes as lower-case hexadecimal digits.
pub(crate) fn hex(bytes: &[u8]) -> String {
    data_encoding::HEXLOWER.encode(bytes)
}

/// SHA-256 of `text`, in hexadecimal.
pub(crate) fn digest(text: &[u8]) -> String {
    hex(&Sha256::digest(text))
}

fn check_part(body: &str) -> String {
    digest(body.as_bytes())[..8].to_owned()
}

/// Make a key from fresh random bits.
///
/// # Errors
/// When the system gives no random bits.
pub fn generate(kind: KeyKind) -> Result<NewKey, getrandom::Error> {
    let mut bits = [0_u8; 40];
    getrandom::fill(&mut bits)?;
    let kind = match kind {
        KeyKind::Api => "api",
        KeyKind::Write => "write",
    };
    let (id, secret) = (hex(&bits[..8]), hex(&bits[8..]));
    let body = format!("kith_{kind}_{id}_{secret}");
    let text = format!("{body}{}", check_part(&body));
    Ok(NewKey { id: KeyId(id), hash: digest(text.as_bytes()), text })
}

/// Take a key that the operator chose, e.g. in `KITH_ADMIN_KEY`.
///
/// # Errors
/// [`UnusableKey`] when it is too short, has blanks in it, or looks like one of ours but is mistyped.
pub fn adopt(text: &str) -> Result<NewKey, UnusableKey> {
    let length = text.bytes().filter(u8::is_ascii_graphic).count();
    if length < MIN_OWN_KEY || length != text.len() || length > MAX_KEY_BYTES {
        return Err(UnusableKey::Weak { length });
    }
    let id = id_of(text).ok_or(UnusableKey::Mistyped)?;
    Ok(NewKey { id, hash: digest(text.as_bytes()), text: text.to_owned() })
}

/// The id under which the key `text` is kept; `None` when it is one of ours and its check part does not fit.
pub(crate) fn id_of(text: &str) -> Option<KeyId> {
    let ours = text.strip_prefix("kith_api_").or_else(|| text.strip_prefix("kith_write_"));
    let Some((id, _)) = ours.and_then(|rest| rest.split_once('_')) else {
        return (text.len() <= MAX_KEY_BYTES).then(|| KeyId(digest(text.as_bytes())[..16].to_owned()));
    };
    let (body, check) = text.split_at_checked(text.len().checked_sub(8)?)?;
    (check_part(body) == check && text.len() <= MAX_KEY_BYTES).then(|| KeyId(id.to_owned()))
}

/// Whether `text` is the key whose hash is kept, in a time that does not depend on where they differ.
pub(crate) fn matches(kept_hash: &str, text: &str) -> bool {
    digest(text.as_bytes()).as_bytes().ct_eq(kept_hash.as_bytes()).into()
}

/// The key that a request carries in its `Authorization` header: `Bearer KEY`, or `Basic` with the key as user name.
///
/// # Errors
/// [`ApiError::Unauthenticated`] when the header is there but cannot be read.
pub(crate) fn presented(headers: &HeaderMap) -> Result<Option<String>, ApiError> {
    const UNREADABLE: ApiError = ApiError::Unauthenticated {
        message: "the authorization header cannot be read; send `Bearer KEY`, or `Basic` with the key as user name",
    };
    let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(None) };
    let value = value.to_str().map_err(|_| UNREADABLE)?;
    let (scheme, rest) = value.split_once(' ').ok_or(UNREADABLE)?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Ok(Some(rest.trim().to_owned()));
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return Err(UNREADABLE);
    }
    let decoded = base64::engine::general_purpose::STANDARD.decode(rest.trim()).map_err(|_| UNREADABLE)?;
    let decoded = String::from_utf8(decoded).map_err(|_| UNREADABLE)?;
    Ok(Some(decoded.split_once(':').map_or(decoded.clone(), |(user, _)| user.to_owned())))
}

/// Who a request comes from.
#[derive(Debug, Clone)]
pub struct Caller {
    pub workspace: WorkspaceId,
    pub key: KeyId,
    pub scopes: BTreeSet<Scope>,
    /// The one source that a write key may feed.
    pub source: Option<InstallationId>,
    /// One of the requests that the key may have under way, until the last copy of this is dropped.
    pub(crate) _under_way: Arc<Share<KeyId>>,
}

impl Caller {
    /// Whether the credential has the scope.
    pub fn may(&self, scope: Scope) -> bool {
        let is_in_all = scope != Scope::WorkspacesAdmin;
        self.scopes.contains(&scope) || (is_in_all && self.scopes.contains(&Scope::All))
    }

    /// Insist on a scope.
    pub(crate) fn require(&self, scope: Scope) -> Result<(), ApiError> {
        if self.may(scope) {
            return Ok(());
        }
        Err(ApiError::Denied { message: format!("the key has no scope `{}`", scope.as_str()) })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_found_by_its_id_and_a_mistyped_one_is_noticed() {
        let key = generate(KeyKind::Write).unwrap();
        assert!(key.text.starts_with("kith_write_"));
        assert_eq!(id_of(&key.text), Some(key.id.clone()));
        assert!(matches(&key.hash, &key.text));
        let mut mistyped = key.text.clone().into_bytes();
        mistyped[30] = if mistyped[30] == b'0' { b'1' } else { b'0' };
        let mistyped = String::from_utf8(mistyped).unwrap();
        assert_eq!(id_of(&mistyped), None);
        assert!(!matches(&key.hash, &mistyped));
        assert_eq!(id_of(&key.text[..40]), None);
        assert_eq!(id_of("kith_api_é_ü"), None);
    }

    #[test]
    fn a_key_of_ones_own_must_be_strong() {
        assert!(adopt("short").is_err());
        assert!(adopt("has a blank in it and is long enough").is_err());
        let own = adopt("0123456789abcdefghijklmnopqrstuv").unwrap();
        assert_eq!(id_of(&own.text), Some(own.id));
    }

    #[test]
    fn both_schemes_are_read() {
        let read = |value: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            presented(&headers).ok().flatten()
        };
        assert_eq!(read("Bearer abc").as_deref(), Some("abc"));
        assert_eq!(read("Basic YWJjOg==").as_deref(), Some("abc"), "an empty password");
        assert_eq!(read("basic YWJj").as_deref(), Some("abc"), "no colon");
        assert_eq!(read("Digest x"), None);
        assert_eq!(presented(&HeaderMap::new()).unwrap(), None);
    }
}
