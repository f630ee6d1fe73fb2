//! What is secret at rest: sealed with a master key that lies outside the store, each record bound to its place, so that a row
//! moved to another workspace, installation or name no longer opens. A record names the key that sealed it, so that keys can
//! take each other's place.

use std::fmt;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::secret::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The version of a sealed record.
const VERSION: u8 = 2;

/// What follows the version and tells it from a record of version 1, which began with twelve random bytes.
const MARK: [u8; 4] = *b"kith";

/// The version of a record that opened with no key when the others were sealed again: behind it and the mark is the record as it was.
const LEFT_BEHIND: u8 = 3;

/// What a master key has.
pub const KEY_BYTES: usize = 32;

const ID_BYTES: usize = 8;
const HEADER_BYTES: usize = 1 + MARK.len() + ID_BYTES;

/// What cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the system gave no random bits")]
    NoRandomness,
    #[error("there is no master key to seal {what} with")]
    NoKey { what: String },
    #[error(
        "{what} is sealed with the master key {id}, and {}: give that key with --master-key-file or KITH_MASTER_KEY, or beside \
         the present one with --old-master-key-file; where it was the data directory's own, put `host.key` back. Nothing was \
         changed", those_given(.given)
    )]
    MissingKey { what: String, id: MasterKeyId, given: Vec<MasterKeyId> },
    #[error(
        "{what} was sealed by a release before this one, which did not write down with which key, and {}, which is not that one: give it with \
         --master-key-file or KITH_MASTER_KEY, or beside the present one with --old-master-key-file; where it was the data directory's \
         own, put `host.key` back. Nothing was changed", those_given(.given)
    )]
    UnnamedKey { what: String, given: Vec<MasterKeyId> },
    #[error("{what} does not open: it was sealed with another master key, or moved, or damaged; {remedy}")]
    DoesNotOpen { what: String, remedy: &'static str },
}

/// Which keys there are, in words.
fn those_given(ids: &[MasterKeyId]) -> String {
    let ids: Vec<String> = ids.iter().map(ToString::to_string).collect();
    if ids.is_empty() { "no key was given".to_owned() } else { format!("only {} was given", ids.join(", ")) }
}

/// What a master key is known by. It is made from the key and tells nothing of it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct MasterKeyId([u8; ID_BYTES]);

impl fmt::Display for MasterKeyId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&crate::auth::hex(&self.0))
    }
}

/// A key that seals records.
pub struct MasterKey {
    id: MasterKeyId,
    sealing: LessSafeKey,
}

impl MasterKey {
    /// The key of these bytes.
    pub fn new(bytes: &[u8; KEY_BYTES]) -> MasterKey {
        let id = derived(bytes, "master key id");
        let mut shown = [0_u8; ID_BYTES];
        shown.iter_mut().zip(id.iter()).for_each(|(shown, byte)| *shown = *byte);
        let sealing = UnboundKey::new(&CHACHA20_POLY1305, derived(bytes, "secrets").as_slice());
        let sealing = LessSafeKey::new(sealing.expect("the algorithm takes keys of 32 bytes"));
        MasterKey { id: MasterKeyId(shown), sealing }
    }

    /// What it is known by.
    pub fn id(&self) -> MasterKeyId {
        self.id
    }

    /// A record as version 1 had it.
    #[cfg(test)]
    pub(crate) fn sealed_before(&self, place: Place<'_>, value: &str) -> Vec<u8> {
        let (nonce, mut text) = ([3_u8; NONCE_LEN], value.as_bytes().to_vec());
        let bound_to = Aad::from(place.bound_to_before());
        self.sealing.seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), bound_to, &mut text).unwrap();
        [nonce.as_slice(), &text].concat()
    }

    fn opened(&self, nonce: [u8; NONCE_LEN], bound_to: &[u8], sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let mut text = Zeroizing::new(sealed.to_vec());
        let nonce = Nonce::assume_unique_for_key(nonce);
        let length = self.sealing.open_in_place(nonce, Aad::from(bound_to), &mut text).ok()?.len();
        text.truncate(length);
        Some(text)
    }
}

/// The key for one purpose; keys of different purposes tell nothing about each other.
pub(crate) fn derived(key: &[u8; KEY_BYTES], purpose: &str) -> Zeroizing<[u8; 32]> {
    let hash = Sha256::new().chain_update(key.as_slice()).chain_update(purpose.as_bytes());
    Zeroizing::new(hash.finalize().into())
}

/// The master keys: one that seals, and those that still open what they sealed.
#[derive(Default)]
pub struct KeyRing {
    /// The first one seals.
    keys: Vec<MasterKey>,
}

impl KeyRing {
    /// A ring whose first key seals; without any, nothing is sealed and nothing opens. A key that is there twice counts once.
    pub fn new(keys: impl IntoIterator<Item = MasterKey>) -> KeyRing {
        let mut ring = KeyRing::default();
        for key in keys {
            if ring.key(key.id).is_none() {
                ring.keys.push(key);
            }
        }
        ring
    }

    #[cfg(test)]
    pub(crate) fn fixed() -> KeyRing {
        KeyRing::new([MasterKey::new(&[9; KEY_BYTES])])
    }

    /// The same keys, of which another one seals from now on.
    pub fn led_by(self, key: MasterKey) -> KeyRing {
        KeyRing::new(std::iter::once(key).chain(self.keys))
    }

    /// The same keys, and one more that opens.
    pub fn and(self, key: MasterKey) -> KeyRing {
        KeyRing::new(self.keys.into_iter().chain([key]))
    }

    /// The key that seals.
    pub fn current(&self) -> Option<MasterKeyId> {
        self.ids().next()
    }

    /// What all keys are known by, first the one that seals.
    pub fn ids(&self) -> impl Iterator<Item = MasterKeyId> + '_ {
        self.keys.iter().map(MasterKey::id)
    }

    fn key(&self, id: MasterKeyId) -> Option<&MasterKey> {
        self.keys.iter().find(|key| key.id == id)
    }

    /// `value`, sealed for its place: header, nonce, then ciphertext with its tag.
    pub fn seal(&self, place: Place<'_>, value: &[u8]) -> Result<Vec<u8>, SealError> {
        let key = self.keys.first().ok_or_else(|| SealError::NoKey { what: place.to_string() })?;
        let mut nonce = [0_u8; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let header = header(key.id);
        // Never longer than that, so that no copy of the value is left behind in memory.
        let mut sealed = Vec::with_capacity(HEADER_BYTES + NONCE_LEN + value.len() + CHACHA20_POLY1305.tag_len());
        sealed.extend_from_slice(&header);
        sealed.extend_from_slice(&nonce);
        sealed.extend_from_slice(value);
        let (_, text) = sealed.split_at_mut(HEADER_BYTES + NONCE_LEN);
        let (nonce, bound_to) = (Nonce::assume_unique_for_key(nonce), Aad::from(place.bound_to(&header)));
        let tag = key.sealing.seal_in_place_separate_tag(nonce, bound_to, text);
        let tag = tag.map_err(|_| SealError::DoesNotOpen { what: place.to_string(), remedy: "it is too long" })?;
        sealed.extend_from_slice(tag.as_ref());
        Ok(sealed)
    }

    /// The text that was sealed for this place.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret, SealError> {
        let (_, text) = self.opened(place, sealed)?;
        std::str::from_utf8(&text).map(Secret::from).map_err(|_| place.does_not_open())
    }

    /// The bytes that were sealed for this place.
    pub fn open_bytes(&self, place: Place<'_>, sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        self.opened(place, sealed).map(|(_, bytes)| bytes)
    }

    /// Which key sealed a record that opens.
    pub fn sealed_by(&self, place: Place<'_>, sealed: &[u8]) -> Result<MasterKeyId, SealError> {
        self.opened(place, sealed).map(|(id, _)| id)
    }

    /// The record as the present key seals it; `None` where it is that already.
    pub fn sealed_again(&self, place: Place<'_>, sealed: &[u8]) -> Result<Option<Vec<u8>>, SealError> {
        if named(sealed).is_some_and(|(id, _)| Some(id) == self.current()) {
            return Ok(None);
        }
        let (_, text) = self.opened(place, sealed)?;
        self.seal(place, &text).map(Some)
    }

    fn opened(&self, place: Place<'_>, sealed: &[u8]) -> Result<(MasterKeyId, Zeroizing<Vec<u8>>), SealError> {
        if let Some(before) = left_behind(sealed) {
            return self.opened(place, before).map_err(|_| place.does_not_open());
        }
        let Some((id, rest)) = named(sealed) else { return self.opened_unnamed(place, sealed) };
        let key = self.key(id).ok_or_else(|| self.missing(place, id))?;
        let (nonce, text) = rest.split_first_chunk::<NONCE_LEN>().ok_or_else(|| place.does_not_open())?;
        let opened = key.opened(*nonce, &place.bound_to(&header(id)), text);
        opened.map(|text| (id, text)).ok_or_else(|| place.does_not_open())
    }

    /// A record of version 1: nonce, then ciphertext with its tag.
    fn opened_unnamed(&self, place: Place<'_>, sealed: &[u8]) -> Result<(MasterKeyId, Zeroizing<Vec<u8>>), SealError> {
        let (nonce, text) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(|| place.does_not_open())?;
        let bound_to = place.bound_to_before();
        let opened = self.keys.iter().find_map(|key| Some((key.id, key.opened(*nonce, &bound_to, text)?)));
        opened.ok_or_else(|| place.does_not_open())
    }

    /// What is said of a record that names no key, and that none of these opens.
    pub fn none_opens(&self, place: Place<'_>) -> SealError {
        SealError::UnnamedKey { what: place.to_string(), given: self.ids().collect() }
    }

    fn missing(&self, place: Place<'_>, id: MasterKeyId) -> SealError {
        SealError::MissingKey { what: place.to_string(), id, given: self.ids().collect() }
    }

    /// Insist that the ring has the key that a record names.
    pub fn insist_on_key(&self, place: Place<'_>, sealed: &[u8]) -> Result<(), SealError> {
        match named(sealed) {
            Some((id, _)) if self.key(id).is_none() => Err(self.missing(place, id)),
            Some(_) | None => Ok(()),
        }
    }
}

/// Whether a record says with which key it is sealed, so that nobody has to try.
pub fn names_key(sealed: &[u8]) -> bool {
    named(sealed).is_some()
}

/// A record that opens with no key, as it is kept when the others are sealed again: nothing insists on its key any more, and where one
/// comes that opens it, it is what it was.
pub fn leave_behind(sealed: &[u8]) -> Vec<u8> {
    [&[LEFT_BEHIND], MARK.as_slice(), sealed].concat()
}

/// The record as it was that was left behind; `None` of every other one.
pub fn left_behind(sealed: &[u8]) -> Option<&[u8]> {
    sealed.strip_prefix(&[LEFT_BEHIND])?.strip_prefix(&MARK)
}

fn header(id: MasterKeyId) -> [u8; HEADER_BYTES] {
    let mut header = [0_u8; HEADER_BYTES];
    let bytes = std::iter::once(VERSION).chain(MARK).chain(id.0);
    header.iter_mut().zip(bytes).for_each(|(place, byte)| *place = byte);
    header
}

/// The key that a record names, and what follows; `None` of version 1.
fn named(sealed: &[u8]) -> Option<(MasterKeyId, &[u8])> {
    let rest = sealed.strip_prefix(&[VERSION])?.strip_prefix(&MARK)?;
    let (id, rest) = rest.split_first_chunk::<ID_BYTES>()?;
    Some((MasterKeyId(*id), rest))
}

/// Where a sealed record belongs.
#[derive(Debug, Clone, Copy)]
pub enum Place<'a> {
    /// A secret of an installation.
    Secret { workspace: WorkspaceId, installation: InstallationId, name: &'a str },
    /// What of an installation's configuration is written and never shown.
    Config { workspace: WorkspaceId, installation: InstallationId },
    /// The same of the version that runs beside the live one.
    ShadowConfig { workspace: WorkspaceId, installation: InstallationId },
    /// The key from which the host's keys for single purposes are derived.
    Root,
}

impl Place<'_> {
    /// What a record is bound to beside its text: the key that it names, and its place.
    fn bound_to(&self, header: &[u8]) -> Vec<u8> {
        let kind = match self {
            Place::Secret { .. } => 1,
            Place::Config { .. } => 2,
            Place::Root => 3,
            Place::ShadowConfig { .. } => 4,
        };
        [header, &[kind], &self.bound_to_before()].concat()
    }

    /// The same of version 1, which knew secrets alone.
    fn bound_to_before(&self) -> Vec<u8> {
        match self {
            Place::Secret { workspace, installation, name } => {
                [&workspace.0.to_be_bytes()[..], &installation.0.to_be_bytes(), name.as_bytes()].concat()
            }
            Place::Config { workspace, installation } | Place::ShadowConfig { workspace, installation } => {
                [workspace.0.to_be_bytes(), installation.0.to_be_bytes()].concat()
            }
            Place::Root => Vec::new(),
        }
    }

    /// What is told of a record that does not open in its place.
    pub(crate) fn does_not_open(&self) -> SealError {
        let remedy = match self {
            Place::Secret { .. } => "set it again",
            Place::Config { .. } => "write these values again",
            Place::ShadowConfig { .. } => "end it and have it run beside the live one anew",
            Place::Root => "take the data directory from a backup",
        };
        SealError::DoesNotOpen { what: self.to_string(), remedy }
    }
}

impl fmt::Display for Place<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Place::Secret { workspace, installation, name } => {
                write!(f, "the secret `{name}` of installation {} in workspace {}", installation.0, workspace.0)
            }
            Place::Config { workspace, installation } => {
                write!(f, "the unshown configuration of installation {} in workspace {}", installation.0, workspace.0)
            }
            Place::ShadowConfig { workspace, installation } => write!(
                f,
                "the unshown configuration of the version beside the live one of installation {} in workspace {}",
                installation.0, workspace.0
            ),
            Place::Root => f.write_str("what this data directory's keys are derived from"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLACE: Place<'static> =
        Place::Secret { workspace: WorkspaceId(1), installation: InstallationId(2), name: "signing" };

    fn ring<const N: usize>(keys: [u8; N]) -> KeyRing {
        KeyRing::new(keys.map(|byte| MasterKey::new(&[byte; KEY_BYTES])))
    }

    fn sealed_before(key: u8, place: Place<'_>, value: &str) -> Vec<u8> {
        MasterKey::new(&[key; KEY_BYTES]).sealed_before(place, value)
    }

    #[test]
    fn a_secret_opens_in_its_own_place_only() {
        let sealer = ring([7]);
        let sealed = sealer.seal(PLACE, b"whsec_x").unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("whsec"));
        assert_eq!(sealer.open(PLACE, &sealed).unwrap().expose(), "whsec_x");
        let (workspace, installation) = (WorkspaceId(1), InstallationId(2));
        for other in [
            Place::Secret { workspace: WorkspaceId(2), installation, name: "signing" },
            Place::Secret { workspace, installation: InstallationId(1), name: "signing" },
            Place::Secret { workspace, installation, name: "other" },
            Place::Config { workspace, installation },
            Place::ShadowConfig { workspace, installation },
            Place::Root,
        ] {
            assert!(matches!(sealer.open(other, &sealed), Err(SealError::DoesNotOpen { .. })), "{other}");
        }
    }

    #[test]
    fn a_record_that_was_tampered_with_does_not_open() {
        let sealer = ring([7]);
        let sealed = sealer.seal(PLACE, b"whsec_x").unwrap();
        for byte in 0..sealed.len() {
            let mut other = sealed.clone();
            other[byte] ^= 1;
            assert!(sealer.open(PLACE, &other).is_err(), "byte {byte}");
            assert!(sealer.open(PLACE, &sealed[..byte]).is_err(), "cut at {byte}");
        }
    }

    #[test]
    fn a_record_names_its_key_and_whoever_lacks_that_is_told_which() {
        let sealed = ring([7]).seal(PLACE, b"whsec_x").unwrap();
        let id = MasterKey::new(&[7; KEY_BYTES]).id();
        assert_eq!(ring([8, 7]).sealed_by(PLACE, &sealed).unwrap(), id);
        let refused = ring([8, 9]).open(PLACE, &sealed).unwrap_err();
        assert!(
            matches!(&refused, SealError::MissingKey { id: missing, given, .. } if *missing == id && given.len() == 2)
        );
        let words = refused.to_string();
        assert!(words.contains(&id.to_string()) && words.contains("--old-master-key-file"), "{words}");
        assert!(ring([8]).insist_on_key(PLACE, &sealed).is_err() && ring([8, 7]).insist_on_key(PLACE, &sealed).is_ok());
        // An old key opens, and the first one seals.
        let both = ring([8, 7]);
        assert_eq!(both.open(PLACE, &sealed).unwrap().expose(), "whsec_x");
        assert_eq!(both.sealed_by(PLACE, &both.seal(PLACE, b"y").unwrap()).unwrap(), both.current().unwrap());
        assert!(matches!(KeyRing::default().seal(PLACE, b"y"), Err(SealError::NoKey { .. })));
    }

    #[test]
    fn another_key_takes_over_what_older_ones_sealed() {
        let sealed = ring([7]).seal(PLACE, b"whsec_x").unwrap();
        for before in [sealed.clone(), sealed_before(7, PLACE, "whsec_x")] {
            let both = ring([7]).led_by(MasterKey::new(&[8; KEY_BYTES]));
            assert_eq!(both.sealed_by(PLACE, &before).unwrap(), MasterKey::new(&[7; KEY_BYTES]).id());
            let again = both.sealed_again(PLACE, &before).unwrap().unwrap();
            assert_eq!(ring([8]).open(PLACE, &again).unwrap().expose(), "whsec_x");
            assert_eq!(both.sealed_again(PLACE, &again).unwrap(), None);
        }
        // Under the same key a record of version 1 becomes one that says so.
        let named = ring([7]).sealed_again(PLACE, &sealed_before(7, PLACE, "whsec_x")).unwrap().unwrap();
        assert!(ring([7]).sealed_again(PLACE, &named).unwrap().is_none());
    }

    #[test]
    fn a_record_that_is_left_behind_stops_nobody_and_opens_once_its_key_is_there() {
        for before in [ring([7]).seal(PLACE, b"whsec_x").unwrap(), sealed_before(7, PLACE, "whsec_x")] {
            let left = leave_behind(&before);
            assert!(left_behind(&left) == Some(&before) && left_behind(&before).is_none() && !names_key(&left));
            assert!(ring([8]).insist_on_key(PLACE, &left).is_ok());
            assert!(matches!(ring([8]).open(PLACE, &left), Err(SealError::DoesNotOpen { .. })));
            let both = ring([8, 7]);
            assert_eq!(both.open(PLACE, &left).unwrap().expose(), "whsec_x");
            let again = both.sealed_again(PLACE, &left).unwrap().unwrap();
            assert_eq!(ring([8]).open(PLACE, &again).unwrap().expose(), "whsec_x");
        }
    }

    #[test]
    fn a_record_of_the_version_before_is_read() {
        let sealed = sealed_before(7, PLACE, "whsec_x");
        assert_eq!(ring([8, 7]).open(PLACE, &sealed).unwrap().expose(), "whsec_x");
        assert!(matches!(ring([8]).open(PLACE, &sealed), Err(SealError::DoesNotOpen { .. })));
        let mut tampered = sealed.clone();
        tampered[20] ^= 1;
        assert!(ring([7]).open(PLACE, &tampered).is_err() && ring([7]).open(PLACE, &sealed[..5]).is_err());
    }
}
