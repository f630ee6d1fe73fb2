//! The host's own key: 32 random bytes in a file that only the owner may read, made on the first start. Keys for single
//! purposes are derived from it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use hmac::{Hmac, Mac as _};
use kith_model::id::WorkspaceId;
use sha2::{Digest as _, Sha256};
use zeroize::Zeroizing;

/// The host's key.
pub(crate) struct HostKey(Zeroizing<[u8; 32]>);

impl HostKey {
    /// Read the key, or make it. A file that others may read is refused, unless the volume knows no modes.
    pub(super) fn open(path: &Path, sharing: Sharing) -> io::Result<HostKey> {
        match fs::read(path).map(Zeroizing::new) {
            Ok(bytes) => {
                let mode = fs::metadata(path)?.permissions().mode();
                if mode & 0o077 != 0 && sharing == Sharing::Refused {
                    let problem = format!("{} may be read by others; run `chmod 600` on it", path.display());
                    return Err(io::Error::other(problem));
                }
                let problem = || io::Error::other(format!("{} is not 32 bytes long", path.display()));
                let key: [u8; 32] = bytes.as_slice().try_into().map_err(|_| problem())?;
                Ok(HostKey(key.into()))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => HostKey::make(path),
            Err(error) => Err(error),
        }
    }

    fn make(path: &Path) -> io::Result<HostKey> {
        let mut key = Zeroizing::new([0; 32]);
        getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
        let temporary = path.with_extension("part");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(key.as_slice())?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())?;
        Ok(HostKey(key))
    }

    /// The key for one purpose; keys of different purposes tell nothing about each other.
    pub(super) fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        let hash = Sha256::new().chain_update(self.0.as_slice()).chain_update(purpose.as_bytes());
        Zeroizing::new(hash.finalize().into())
    }

    /// The keys under which identifiers are looked up.
    pub(crate) fn realms(&self) -> RealmKeys {
        RealmKeys(self.0.clone())
    }

    #[cfg(test)]
    pub(crate) fn fixed() -> HostKey {
        HostKey([9; 32].into())
    }
}

/// A realm's key: identifiers of one realm are looked up by their HMAC under it. A workspace is a realm of its own.
pub(crate) struct RealmKeys(Zeroizing<[u8; 32]>);

impl RealmKeys {
    /// The key of a workspace's realm: HMAC-SHA256 of its id under the host key. It never changes, because every alias key
    /// in the store was made with it.
    pub(crate) fn of(&self, workspace: WorkspaceId) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(self.0.as_slice()).expect("HMAC takes keys of any length");
        mac.update(b"kith realm ");
        mac.update(&workspace.0.to_be_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Whether a data directory may be open to others.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Sharing {
    Refused,
    /// Where its volume knows no modes, as `--shared-data-dir` says.
    Taken,
}

/// Make a directory that only the owner may enter; one that is there already is closed to others, because a volume's mount
/// point comes with 0755 and would show the journal to every local user.
///
/// # Errors
/// Also where it stays open to others, unless that is taken.
pub(crate) fn private_directory(path: &Path, sharing: Sharing) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    let closed = fs::set_permissions(path, fs::Permissions::from_mode(0o700));
    let mode = fs::metadata(path)?.permissions().mode() & 0o777;
    let problem = match closed {
        Ok(()) if mode == 0o700 => return Ok(()),
        Ok(()) => format!("its mode stays {mode:o}"),
        Err(error) => format!("its mode cannot be changed: {error}"),
    };
    if sharing == Sharing::Taken {
        tracing::warn!(directory = %path.display(), problem, "other users of the machine may read the data directory");
        return Ok(());
    }
    Err(io::Error::other(format!(
        "other users of the machine could read people's data there, since {problem}; use another volume, or start with \
         --shared-data-dir where nobody else has an account"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.key");
        let made = HostKey::open(&path, Sharing::Refused).unwrap();
        assert_eq!(HostKey::open(&path, Sharing::Refused).unwrap().0, made.0);
        assert_ne!(made.derive("a"), made.derive("b"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(HostKey::open(&path, Sharing::Refused).is_err());
    }

    #[test]
    fn a_directory_that_was_there_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        private_directory(&path, Sharing::Refused).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_directory_that_stays_open_is_taken_only_where_that_is_said() {
        // Of a system of files that lets nobody change a mode, not even root.
        let path = Path::new("/proc/self");
        if path.exists() {
            let refused = private_directory(path, Sharing::Refused).unwrap_err().to_string();
            assert!(refused.contains("--shared-data-dir"), "{refused}");
            private_directory(path, Sharing::Taken).unwrap();
        }
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.key");
        let made = HostKey::open(&path, Sharing::Refused).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert_eq!(HostKey::open(&path, Sharing::Taken).unwrap().0, made.0);
    }

    #[test]
    fn a_realms_key_is_its_own_and_stays() {
        let realms = HostKey::fixed().realms();
        assert_eq!(realms.of(WorkspaceId(1)), realms.of(WorkspaceId(1)));
        assert_ne!(realms.of(WorkspaceId(1)), realms.of(WorkspaceId(2)));
        assert_ne!(realms.of(WorkspaceId(1)), HostKey([8; 32].into()).realms().of(WorkspaceId(1)));
        let hex = crate::auth::hex(&realms.of(WorkspaceId(1)));
        assert_eq!(
            hex, "d08236061a3eed8ca7aad2a27521aefae527f9b6f65b3f8145895fc1a74d4b6d",
            "every alias key in the store was made with it"
        );
    }
}
