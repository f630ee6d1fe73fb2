//! The host's own key: 32 random bytes from which keys for single purposes are derived, kept in the store under the key ring. A
//! data directory that was made before it was kept there has the bytes of its `host.key`.

use std::fs;
use std::io;
use std::os::unix::fs::{DirBuilderExt as _, PermissionsExt as _};
use std::path::Path;

use hmac::{Hmac, Mac as _};
use kith_model::id::WorkspaceId;
use kith_store::keys::{Definition, SYSTEM};
use kith_store::{Key, Operation, Precondition, Store, Unit};
use sha2::Sha256;
use zeroize::Zeroizing;

use crate::catalogue::CatalogueError;
use crate::catalogue::sealed::{self, KEY_BYTES, KeyRing, Place, SealError};

/// The host's key.
pub(crate) struct HostKey(Zeroizing<[u8; KEY_BYTES]>);

impl HostKey {
    /// The key that the store keeps. A new store gets one; one of before it was kept there goes on with `before`, the bytes of
    /// `host.key`, because every alias key in it was made with them. `None` where these are missing.
    pub(super) fn open(
        store: &dyn Store,
        ring: &KeyRing,
        before: Option<Zeroizing<[u8; KEY_BYTES]>>,
    ) -> Result<Option<HostKey>, CatalogueError> {
        let place = Key::definition(SYSTEM, Definition::Root, &[]);
        if let Some(row) = store.get(std::slice::from_ref(&place))?.pop().flatten() {
            let key = ring.open_bytes(Place::Root, &row)?;
            let key: [u8; KEY_BYTES] = key.as_slice().try_into().map_err(|_| broken())?;
            return Ok(Some(HostKey(key.into())));
        }
        let is_new = store.scan(&Key::definitions(SYSTEM, Definition::Workspace).range(), 1)?.rows.is_empty();
        let key = match before {
            _ if is_new => random().map_err(|_| SealError::NoRandomness)?,
            Some(before) => before,
            None => return Ok(None),
        };
        let sealed = ring.seal(Place::Root, key.as_slice())?;
        let operations = vec![Operation::Put(place.clone(), sealed)];
        store.commit(Unit { preconditions: vec![Precondition::Absent(place)], operations, ..Unit::default() })?;
        Ok(Some(HostKey(key)))
    }

    /// The key for one purpose; keys of different purposes tell nothing about each other.
    pub(super) fn derive(&self, purpose: &str) -> Zeroizing<[u8; 32]> {
        sealed::derived(&self.0, purpose)
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

fn broken() -> SealError {
    let what = Place::Root.to_string();
    SealError::DoesNotOpen { what, remedy: "take the data directory from a backup" }
}

/// Bytes for a key.
pub(super) fn random() -> io::Result<Zeroizing<[u8; KEY_BYTES]>> {
    let mut key = Zeroizing::new([0; KEY_BYTES]);
    getrandom::fill(key.as_mut_slice()).map_err(io::Error::other)?;
    Ok(key)
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
    use kith_model::time::Timestamp;
    use kith_store::row;

    use super::*;
    use crate::catalogue::WorkspaceRow;
    use crate::catalogue::sealed::MasterKey;

    fn ring(keys: &[u8]) -> KeyRing {
        KeyRing::new(keys.iter().map(|byte| MasterKey::new(&[*byte; KEY_BYTES])))
    }

    #[test]
    fn a_new_stores_key_is_its_own_and_stays() {
        let store = kith_store::memory();
        let made = HostKey::open(&store, &ring(&[1]), Some([1; KEY_BYTES].into())).unwrap().unwrap();
        assert_ne!(*made.0, [1; KEY_BYTES]);
        assert_eq!(HostKey::open(&store, &ring(&[2, 1]), None).unwrap().unwrap().0, made.0);
        assert_ne!(made.derive("a"), made.derive("b"));
        let refused = HostKey::open(&store, &ring(&[2]), None).err().unwrap();
        assert!(matches!(refused, CatalogueError::Seal(SealError::MissingKey { .. })), "{refused}");
    }

    #[test]
    fn a_store_of_before_goes_on_with_the_bytes_of_its_host_key() {
        let store = kith_store::memory();
        let row = WorkspaceRow::new(WorkspaceId(1), "default".parse().unwrap(), "UTC".to_owned(), Timestamp(0));
        let place = Key::definition(SYSTEM, Definition::Workspace, &1_u32.to_be_bytes());
        store.commit(Unit { operations: vec![Operation::Put(place, row::encode(&row))], ..Unit::default() }).unwrap();
        assert!(HostKey::open(&store, &ring(&[1]), None).unwrap().is_none(), "nobody knows it");
        let taken = HostKey::open(&store, &ring(&[2]), Some([1; KEY_BYTES].into())).unwrap().unwrap();
        assert_eq!(*taken.0, [1; KEY_BYTES]);
        // From now on the store knows it.
        assert_eq!(*HostKey::open(&store, &ring(&[2]), None).unwrap().unwrap().0, [1; KEY_BYTES]);
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
