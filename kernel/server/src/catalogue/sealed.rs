//! Secrets at rest: sealed with a key of the host that lies outside the store, each bound to its place, so that a row
//! moved to another workspace, installation or name no longer opens.

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::secret::Secret;
use ring::aead::{Aad, CHACHA20_POLY1305, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use zeroize::Zeroizing;

/// A secret that cannot be sealed or opened.
#[derive(Debug, thiserror::Error)]
pub enum SealError {
    #[error("the system gave no random bits")]
    NoRandomness,
    #[error(
        "the secret `{name}` does not open: it was sealed with another host key, or moved, or damaged; set it again"
    )]
    DoesNotOpen { name: String },
}

/// Seals and opens secrets.
pub struct Sealer(LessSafeKey);

impl Sealer {
    /// A sealer with the host's key.
    pub fn new(key: &[u8; 32]) -> Sealer {
        let key = UnboundKey::new(&CHACHA20_POLY1305, key).expect("the algorithm takes keys of 32 bytes");
        Sealer(LessSafeKey::new(key))
    }

    /// `value`, sealed for its place: nonce, then ciphertext with its tag.
    pub fn seal(&self, place: Place<'_>, value: &str) -> Result<Vec<u8>, SealError> {
        let mut nonce = [0_u8; NONCE_LEN];
        getrandom::fill(&mut nonce).map_err(|_| SealError::NoRandomness)?;
        let mut sealed = value.as_bytes().to_vec();
        self.0
            .seal_in_place_append_tag(Nonce::assume_unique_for_key(nonce), Aad::from(place.bytes()), &mut sealed)
            .map_err(|_| SealError::NoRandomness)?;
        Ok([nonce.as_slice(), &sealed].concat())
    }

    /// What was sealed for this place.
    pub fn open(&self, place: Place<'_>, sealed: &[u8]) -> Result<Secret, SealError> {
        let broken = || SealError::DoesNotOpen { name: place.name.to_owned() };
        let (nonce, rest) = sealed.split_first_chunk::<NONCE_LEN>().ok_or_else(broken)?;
        let mut rest = Zeroizing::new(rest.to_vec());
        let nonce = Nonce::assume_unique_for_key(*nonce);
        let opened = self.0.open_in_place(nonce, Aad::from(place.bytes()), &mut rest).map_err(|_| broken())?;
        std::str::from_utf8(opened).map(Secret::from).map_err(|_| broken())
    }
}

/// Where a secret belongs.
#[derive(Debug, Clone, Copy)]
pub struct Place<'a> {
    pub workspace: WorkspaceId,
    pub installation: InstallationId,
    pub name: &'a str,
}

impl Place<'_> {
    fn bytes(&self) -> Vec<u8> {
        [&self.workspace.0.to_be_bytes()[..], &self.installation.0.to_be_bytes(), self.name.as_bytes()].concat()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_secret_opens_in_its_own_place_only() {
        let sealer = Sealer::new(&[7; 32]);
        let place = Place { workspace: WorkspaceId(1), installation: InstallationId(2), name: "signing" };
        let sealed = sealer.seal(place, "whsec_x").unwrap();
        assert!(!String::from_utf8_lossy(&sealed).contains("whsec"));
        assert_eq!(sealer.open(place, &sealed).unwrap().expose(), "whsec_x");
        assert!(sealer.open(Place { workspace: WorkspaceId(2), ..place }, &sealed).is_err());
        assert!(sealer.open(Place { name: "other", ..place }, &sealed).is_err());
        assert!(Sealer::new(&[8; 32]).open(place, &sealed).is_err());
        assert!(sealer.open(place, &sealed[..5]).is_err());
    }
}
