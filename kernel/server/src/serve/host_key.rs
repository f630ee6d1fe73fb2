//! The host's own key: 32 random bytes in a file that only the owner may read, made on the first start. Keys for single
//! purposes are derived from it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::Path;

use hmac::{Hmac, Mac as _};
use kith_model::id::WorkspaceId;
use sha2::{Digest as _, Sha256};

/// The host's key.
pub(crate) struct HostKey([u8; 32]);

impl HostKey {
    /// Read the key, or make it. A file that others may read is refused.
    pub(super) fn open(path: &Path) -> io::Result<HostKey> {
        match fs::read(path) {
            Ok(bytes) => {
                let mode = fs::metadata(path)?.permissions().mode();
                if mode & 0o077 != 0 {
                    let problem = format!("{} may be read by others; run `chmod 600` on it", path.display());
                    return Err(io::Error::other(problem));
                }
                let problem = || io::Error::other(format!("{} is not 32 bytes long", path.display()));
                Ok(HostKey(bytes.try_into().map_err(|_| problem())?))
            }
            Err(error) if error.kind() == io::ErrorKind::NotFound => HostKey::make(path),
            Err(error) => Err(error),
        }
    }

    fn make(path: &Path) -> io::Result<HostKey> {
        let mut key = [0; 32];
        getrandom::fill(&mut key).map_err(io::Error::other)?;
        let temporary = path.with_extension("part");
        let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
        file.write_all(&key)?;
        file.sync_all()?;
        fs::rename(&temporary, path)?;
        path.parent().map_or(Ok(()), |folder| fs::File::open(folder)?.sync_all())?;
        Ok(HostKey(key))
    }

    /// The key for one purpose; keys of different purposes tell nothing about each other.
    pub(super) fn derive(&self, purpose: &str) -> [u8; 32] {
        Sha256::new().chain_update(self.0).chain_update(purpose.as_bytes()).finalize().into()
    }

    /// The keys under which identifiers are looked up.
    pub(crate) fn realms(&self) -> RealmKeys {
        RealmKeys(self.0)
    }

    #[cfg(test)]
    pub(crate) fn fixed() -> HostKey {
        HostKey([9; 32])
    }
}

/// A realm's key: identifiers of one realm are looked up by their HMAC under it. A workspace is a realm of its own.
pub(crate) struct RealmKeys([u8; 32]);

impl RealmKeys {
    /// The key of a workspace's realm: HMAC-SHA256 of its id under the host key. It never changes, because every alias key
    /// in the store was made with it.
    pub(crate) fn of(&self, workspace: WorkspaceId) -> [u8; 32] {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(b"kith realm ");
        mac.update(&workspace.0.to_be_bytes());
        mac.finalize().into_bytes().into()
    }
}

/// Make a directory that only the owner may enter; one that is there already is closed to others, because a volume's mount
/// point comes with 0755 and would show the journal to every local user.
pub(super) fn private_directory(path: &Path) -> io::Result<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(path)?;
    fs::set_permissions(path, fs::Permissions::from_mode(0o700))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("host.key");
        let made = HostKey::open(&path).unwrap();
        assert_eq!(HostKey::open(&path).unwrap().0, made.0);
        assert_ne!(made.derive("a"), made.derive("b"));
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(HostKey::open(&path).is_err());
    }

    #[test]
    fn a_directory_that_was_there_is_closed_to_others() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("volume");
        fs::create_dir(&path).unwrap();
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        private_directory(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o700);
    }

    #[test]
    fn a_realms_key_is_its_own_and_stays() {
        let realms = HostKey::fixed().realms();
        assert_eq!(realms.of(WorkspaceId(1)), realms.of(WorkspaceId(1)));
        assert_ne!(realms.of(WorkspaceId(1)), realms.of(WorkspaceId(2)));
        assert_ne!(realms.of(WorkspaceId(1)), HostKey([8; 32]).realms().of(WorkspaceId(1)));
        let hex: String = realms.of(WorkspaceId(1)).iter().map(|byte| format!("{byte:02x}")).collect();
        assert_eq!(
            hex, "d08236061a3eed8ca7aad2a27521aefae527f9b6f65b3f8145895fc1a74d4b6d",
            "every alias key in the store was made with it"
        );
    }
}
