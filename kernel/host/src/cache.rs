//! Responsible for compiled code on disk: nothing is loaded from it unless its MAC holds for exactly the bytes in memory.
//!
//! A file is the HMAC-SHA256 over the file's key and the code, then the code. The MAC's key is the host's and is kept
//! elsewhere, so whoever can write to the directory can slow a start down but not make the host run anything.

use std::fs;
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt};
use std::path::PathBuf;

use hmac::{Hmac, Mac};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::compile::Artifact;
use crate::package::hex;

const MAC_BYTES: usize = 32;

/// A directory of compiled code.
pub(crate) struct Cache {
    directory: PathBuf,
    mac_key: Zeroizing<[u8; 32]>,
}

impl Cache {
    /// Open the directory, making it if need be; nobody else may enter it.
    pub(crate) fn open(directory: PathBuf, mac_key: Zeroizing<[u8; 32]>) -> io::Result<Cache> {
        fs::DirBuilder::new().recursive(true).mode(0o700).create(&directory)?;
        // Where the volume knows no modes, whoever keeps the data there was told; what is loaded has a MAC.
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).ok();
        Ok(Cache { directory, mac_key })
    }

    fn path(&self, key: &[u8; 32]) -> PathBuf {
        self.directory.join(format!("{}.cwasm", hex(key)))
    }

    fn mac(&self, key: &[u8; 32], code: &[u8]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.mac_key.as_slice()).expect("HMAC takes a key of any length");
        mac.update(b"kith compiled code 1");
        mac.update(key);
        mac.update(code);
        mac
    }

    /// The code kept under `key`, if it is there and whole. A file that was altered is removed.
    pub(crate) fn load(&self, key: &[u8; 32]) -> Option<Artifact> {
        let path = self.path(key);
        let mut bytes = fs::read(&path).ok()?;
        let holds =
            bytes.split_at_checked(MAC_BYTES).is_some_and(|(tag, code)| self.mac(key, code).verify_slice(tag).is_ok());
        if holds {
            drop(bytes.drain(..MAC_BYTES));
            return Some(Artifact::verified(bytes));
        }
        tracing::warn!(path = %path.display(), "compiled code was altered on disk; it is compiled anew");
        drop(fs::remove_file(&path));
        None
    }

    /// Remove the code kept under `key`, if it is there.
    pub(crate) fn remove(&self, key: &[u8; 32]) {
        drop(fs::remove_file(self.path(key)));
    }

    /// Keep code under `key`. The file appears whole or not at all.
    pub(crate) fn store(&self, key: &[u8; 32], artifact: &Artifact) -> io::Result<()> {
        let path = self.path(key);
        let mut suffix = [0; 8];
        getrandom::fill(&mut suffix).map_err(|error| io::Error::other(error.to_string()))?;
        let temporary = path.with_extension(hex(&suffix));
        let written =
            fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&temporary).and_then(|mut file| {
                file.write_all(&self.mac(key, artifact.bytes()).finalize().into_bytes())?;
                file.write_all(artifact.bytes())
            });
        let kept = written.and_then(|()| fs::rename(&temporary, &path));
        if kept.is_err() {
            drop(fs::remove_file(&temporary));
        }
        kept
    }
}
