//! Identifiers of things, parsed once and never passed as bare strings.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};

/// A tenant. Every stored key begins with it; a credential belongs to exactly one.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct WorkspaceId(pub u32);

/// The number of an installation in its workspace; a *source* is the installation of a connector.
///
/// People and the API name an installation by its [`InstallationName`]; stored rows carry this number.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct InstallationId(pub u32);

/// The number of an audience in its workspace.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct AudienceId(pub u32);

/// A place in the log: the sequence number of one record. Positions are given out once, in commit order, without gaps.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct Position(pub u64);

impl fmt::Display for Position {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

/// Why a text is not an identifier.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not {expected}")]
pub struct InvalidId {
    text: String,
    expected: &'static str,
}

/// A source identity: made when an unknown identifier first appears, never altered.
///
/// The first six bytes are the creation time in milliseconds, so that ids sort by age (the layout of UUID version 7).
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct SourceIdentityId(pub [u8; 16]);

/// A profile, named by its oldest source identity. The name changes when an older one is tied to it.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
pub struct ProfileId(pub SourceIdentityId);

impl SourceIdentityId {
    /// The id of an identity created at `created_at_ms` whose remaining bits are taken from `entropy`, e.g. a hash of the
    /// first identifier: the same input gives the same id, which makes a replay exact.
    pub fn new(created_at_ms: i64, entropy: u128) -> SourceIdentityId {
        let mut bytes = entropy.to_be_bytes();
        bytes[..6].copy_from_slice(&created_at_ms.max(0).to_be_bytes()[2..]);
        bytes[6] = 0x70 | (bytes[6] & 0x0f);
        bytes[8] = 0x80 | (bytes[8] & 0x3f);
        SourceIdentityId(bytes)
    }
}

fn hex(bytes: &[u8; 16], f: &mut fmt::Formatter<'_>) -> fmt::Result {
    bytes.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
}

fn from_hex(text: &str, expected: &'static str) -> Result<[u8; 16], InvalidId> {
    let invalid = || InvalidId { text: text.chars().take(64).collect(), expected };
    if text.len() != 32 || !text.is_ascii() {
        return Err(invalid());
    }
    let mut bytes = [0; 16];
    for (byte, pair) in bytes.iter_mut().zip(text.as_bytes().chunks_exact(2)) {
        let pair = std::str::from_utf8(pair).map_err(|_| invalid())?;
        *byte = u8::from_str_radix(pair, 16).map_err(|_| invalid())?;
    }
    Ok(bytes)
}

impl fmt::Display for SourceIdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Debug for SourceIdentityId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0, f)
    }
}

impl fmt::Display for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0.0, f)
    }
}

impl fmt::Debug for ProfileId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        hex(&self.0.0, f)
    }
}

impl FromStr for ProfileId {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<ProfileId, InvalidId> {
        Ok(ProfileId(SourceIdentityId(from_hex(text, "a profile id (32 hexadecimal digits)")?)))
    }
}

/// The public name of an installation, audience or key: lower-case letters, digits and `-`, at most 64, beginning with a letter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Name(String);

/// The public name of an installation, unique in its workspace.
pub type InstallationName = Name;

impl Name {
    /// The name as text.
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl FromStr for Name {
    type Err = InvalidId;

    fn from_str(text: &str) -> Result<Name, InvalidId> {
        let begins_well = text.bytes().next().is_some_and(|byte| byte.is_ascii_lowercase());
        let goes_on_well = text.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'-');
        if begins_well && goes_on_well && text.len() <= 64 {
            Ok(Name(text.to_owned()))
        } else {
            Err(InvalidId {
                text: text.chars().take(64).collect(),
                expected: "a name (lower-case letters, digits and `-`, at most 64, beginning with a letter)",
            })
        }
    }
}

impl TryFrom<String> for Name {
    type Error = InvalidId;

    fn try_from(text: String) -> Result<Name, InvalidId> {
        text.parse()
    }
}

impl From<Name> for String {
    fn from(name: Name) -> String {
        name.0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_sort_by_age_and_read_back() {
        let older = SourceIdentityId::new(1_000, u128::MAX);
        let younger = SourceIdentityId::new(2_000, 0);
        assert!(older < younger);
        let profile = ProfileId(younger);
        assert_eq!(profile.to_string().parse(), Ok(profile));
        assert!("xyz".parse::<ProfileId>().is_err());
        assert!("é".repeat(16).parse::<ProfileId>().is_err());
    }

    #[test]
    fn names_are_slugs() {
        for good in ["orders", "csv-2", "a"] {
            assert_eq!(good.parse::<Name>().map(|name| name.to_string()), Ok(good.to_owned()));
        }
        for bad in ["", "2a", "A", "a b", "a/b", &"a".repeat(65)] {
            assert!(bad.parse::<Name>().is_err(), "{bad}");
        }
    }
}
