//! Where the master keys come from: files, the environment, and `host.key` in the data directory, which is made on the first
//! start where no other is given. A file holds 32 bytes, or 64 hexadecimal digits, and only its owner may read it.

use std::fs::{self, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::fs::{OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use data_encoding::HEXLOWER_PERMISSIVE;
use kith_model::secret::Secret;
use kith_store::keys::{Definition, SYSTEM};
use kith_store::{Key, ReadError, Store};
use zeroize::Zeroizing;

use super::ServeError;
use super::host_key::{Sharing, random};
use crate::catalogue::sealed::{KEY_BYTES, KeyRing, MasterKey, MasterKeyId};
use crate::config::Config;

/// A key's bytes.
pub(super) type KeyBytes = Zeroizing<[u8; KEY_BYTES]>;

/// Where a master key is that does not lie in the data directory.
#[derive(Debug, Clone)]
pub enum KeySource {
    File(PathBuf),
    /// 64 hexadecimal digits, of `KITH_MASTER_KEY`.
    Text(Secret),
}

/// The master keys that were given beside the data directory's own.
#[derive(Debug, Clone, Default)]
pub struct MasterKeys {
    /// The one that seals; `None` where it is `host.key` in the data directory.
    pub current: Option<KeySource>,
    /// Those that only open what they sealed.
    pub old: Vec<PathBuf>,
}

/// All keys that there are for a data directory.
pub(super) struct Keys {
    pub(super) ring: KeyRing,
    /// The bytes of `host.key`, where there is one.
    pub(super) own: Option<KeyBytes>,
    /// The key that seals; `None` where none was given and `host.key` is not there.
    pub(super) current: Option<MasterKeyId>,
}

/// The data directory's own key.
pub(super) fn own_path(config: &Config) -> PathBuf {
    config.data_directory.join("host.key")
}

/// The one that is to take its place, from the beginning of a rotation to its end.
pub(super) fn next_path(config: &Config) -> PathBuf {
    config.data_directory.join("host.key.next")
}

/// What becomes of `host.key` where neither it is there nor another key is given.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Missing {
    Made,
    Left,
}

impl Missing {
    /// It is made for a store in which nothing is yet. Any other was sealed with one.
    pub(super) fn beside(store: &dyn Store) -> Result<Missing, ReadError> {
        let root = store.get(&[Key::definition(SYSTEM, Definition::Root, &[])])?.pop().flatten();
        let workspaces = store.scan(&Key::definitions(SYSTEM, Definition::Workspace).range(), 1)?;
        Ok(if root.is_none() && workspaces.rows.is_empty() { Missing::Made } else { Missing::Left })
    }
}

/// Read all keys. To be called by whoever has the store open: until then another process may put other keys in their place.
pub(super) fn read(config: &Config, sharing: Sharing, missing: Missing) -> Result<Keys, ServeError> {
    let own_path = own_path(config);
    let own = match read_where_there(&own_path, sharing)? {
        None if config.master_keys.current.is_none() && missing == Missing::Made => {
            Some(make(&own_path, Form::Bytes).map_err(unusable(&own_path))?)
        }
        own => own,
    };
    let current = match &config.master_keys.current {
        Some(KeySource::File(path)) => Some(read_file(path, sharing)?),
        Some(KeySource::Text(text)) => Some(of_text(text.expose()).ok_or(ServeError::MasterKeyText)?),
        None => own.clone(),
    };
    let current = current.map(|key| MasterKey::new(&key));
    let current_id = current.as_ref().map(MasterKey::id);
    let mut keys: Vec<MasterKey> = current.into_iter().collect();
    keys.extend(own.as_deref().map(MasterKey::new));
    keys.extend(read_where_there(&next_path(config), sharing)?.as_deref().map(MasterKey::new));
    for path in &config.master_keys.old {
        let key = read_file(path, sharing)?;
        keys.push(MasterKey::new(&key));
    }
    Ok(Keys { ring: KeyRing::new(keys), own, current: current_id })
}

fn unusable(path: &Path) -> impl FnOnce(io::Error) -> ServeError {
    move |source| ServeError::KeyFile { path: path.to_owned(), source }
}

/// The key of a file; `None` where there is no such file.
pub(super) fn read_where_there(path: &Path, sharing: Sharing) -> Result<Option<KeyBytes>, ServeError> {
    match bytes_of(path, sharing) {
        Ok(key) => Ok(Some(key)),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(unusable(path)(error)),
    }
}

/// The key of a file.
pub(super) fn read_file(path: &Path, sharing: Sharing) -> Result<KeyBytes, ServeError> {
    bytes_of(path, sharing).map_err(unusable(path))
}

/// The key of a file, which is made where it is missing.
pub(super) fn read_or_make(path: &Path, sharing: Sharing, form: Form) -> Result<KeyBytes, ServeError> {
    match read_where_there(path, sharing)? {
        Some(key) => Ok(key),
        None => make(path, form).map_err(unusable(path)),
    }
}

/// The bytes of a key file. One that others may read is refused, unless the volume knows no modes.
fn bytes_of(path: &Path, sharing: Sharing) -> io::Result<KeyBytes> {
    let bytes = Zeroizing::new(fs::read(path)?);
    let mode = fs::metadata(path)?.permissions().mode();
    if mode & 0o077 != 0 && sharing == Sharing::Refused {
        return Err(io::Error::other("it may be read by others; run `chmod 600` on it"));
    }
    if let Ok(key) = <[u8; KEY_BYTES]>::try_from(bytes.as_slice()) {
        return Ok(key.into());
    }
    let text = std::str::from_utf8(&bytes).ok().and_then(of_text);
    text.ok_or_else(|| io::Error::other("it is no key: neither 32 bytes long nor 64 hexadecimal digits"))
}

/// The key that hexadecimal digits spell.
fn of_text(text: &str) -> Option<KeyBytes> {
    let bytes = Zeroizing::new(HEXLOWER_PERMISSIVE.decode(text.trim().as_bytes()).ok()?);
    <[u8; KEY_BYTES]>::try_from(bytes.as_slice()).ok().map(Zeroizing::new)
}

/// How a key is written into a new file.
#[derive(Debug, Clone, Copy)]
pub(super) enum Form {
    Bytes,
    /// Which can be put into a variable of the environment as well.
    Hexadecimal,
}

fn make(path: &Path, form: Form) -> io::Result<KeyBytes> {
    let key = random()?;
    match form {
        Form::Bytes => write(path, key.as_slice())?,
        Form::Hexadecimal => write(path, Zeroizing::new(crate::auth::hex(key.as_slice())).as_bytes())?,
    }
    Ok(key)
}

/// Write a file that its owner alone may read: whole or not at all.
fn write(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let mut temporary = path.as_os_str().to_owned();
    temporary.push(".part");
    let mut file = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    sync_folder_of(path)
}

/// Make the names in a file's folder durable.
fn sync_folder_of(path: &Path) -> io::Result<()> {
    let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
    fs::File::open(folder)?.sync_all()
}

/// Put the data directory's own key out of use: it is kept under its id, for backups of before, and `next`, where there is one,
/// takes its place. At each moment the key that seals is where it is looked for.
pub(super) fn retire(config: &Config, own: &KeyBytes, next: Option<&Path>) -> Result<PathBuf, ServeError> {
    let own_path = own_path(config);
    let retired = config.data_directory.join(format!("host.key.{}", MasterKey::new(own).id()));
    let moved = write(&retired, own.as_slice()).and_then(|()| match next {
        Some(next) => fs::rename(next, &own_path),
        None => fs::remove_file(&own_path),
    });
    moved.and_then(|()| sync_folder_of(&own_path)).map_err(unusable(&own_path))?;
    Ok(retired)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::serve::host_key::HostKey;

    fn config(folder: &tempfile::TempDir) -> Config {
        Config::new(folder.path())
    }

    #[test]
    fn the_own_key_is_made_once_and_kept_private() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let made = read(&config, Sharing::Refused, Missing::Made).unwrap();
        let again = read(&config, Sharing::Refused, Missing::Made).unwrap();
        assert_eq!((made.own.unwrap(), made.current), (again.own.unwrap(), again.current));
        let path = own_path(&config);
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        let refused = read(&config, Sharing::Refused, Missing::Made).err().unwrap();
        assert!(matches!(&refused, ServeError::KeyFile { path: told, .. } if *told == path), "{refused}");
        assert_eq!(read(&config, Sharing::Taken, Missing::Made).unwrap().current, made.current);
    }

    #[test]
    fn no_key_is_made_beside_a_store_or_another_key() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder);
        let text = "0f".repeat(KEY_BYTES);
        config.master_keys.current = Some(KeySource::Text(text.as_str().into()));
        let given = read(&config, Sharing::Refused, Missing::Made).unwrap();
        assert_eq!(given.current, Some(MasterKey::new(&[0x0f; KEY_BYTES]).id()));
        config.master_keys.current = None;
        let nothing = read(&config, Sharing::Refused, Missing::Left).unwrap();
        assert!(nothing.current.is_none() && nothing.ring.ids().next().is_none());
        assert!(!own_path(&config).exists());
        // Before anything is in the store, and no later.
        let store = kith_store::memory();
        assert_eq!(Missing::beside(&store).unwrap(), Missing::Made);
        HostKey::open(&store, &given.ring, None).unwrap().unwrap();
        assert_eq!(Missing::beside(&store).unwrap(), Missing::Left);
    }

    #[test]
    fn a_file_holds_bytes_or_digits_and_nothing_else_is_a_key() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("given.key");
        let made = read_or_make(&path, Sharing::Refused, Form::Hexadecimal).unwrap();
        assert_eq!(fs::read_to_string(&path).unwrap().trim(), crate::auth::hex(made.as_slice()));
        assert_eq!(read_or_make(&path, Sharing::Refused, Form::Hexadecimal).unwrap(), made);
        for (written, is_key) in [
            (vec![7; 32], true),
            ("0F".repeat(32).into_bytes(), true),
            (vec![7; 31], false),
            ("0f".repeat(31).into_bytes(), false),
            ("xx".repeat(32).into_bytes(), false),
            (Vec::new(), false),
        ] {
            fs::write(&path, &written).unwrap();
            let read = read_file(&path, Sharing::Refused);
            assert_eq!(read.is_ok(), is_key, "{written:?}");
            // Nothing of it is told.
            assert!(read.err().is_none_or(|error| !crate::error::chain(&error).contains("0f0f")));
        }
    }

    #[test]
    fn every_key_that_is_there_opens_and_the_given_one_seals() {
        let folder = tempfile::tempdir().unwrap();
        let mut config = config(&folder);
        let own = read(&config, Sharing::Refused, Missing::Made).unwrap().current.unwrap();
        let [next, old, given] = ["host.key.next", "old.key", "given.key"].map(|name| folder.path().join(name));
        let id = |path: &Path| MasterKey::new(&read_or_make(path, Sharing::Refused, Form::Bytes).unwrap()).id();
        let [next, old_id, given_id] = [id(&next), id(&old), id(&given)];
        config.master_keys = MasterKeys { current: Some(KeySource::File(given)), old: vec![old] };
        let keys = read(&config, Sharing::Refused, Missing::Made).unwrap();
        assert_eq!(keys.ring.ids().collect::<Vec<_>>(), [given_id, own, next, old_id]);
        assert_eq!(keys.current, Some(given_id));
    }

    #[test]
    fn a_retired_key_is_kept_where_it_was() {
        let folder = tempfile::tempdir().unwrap();
        let config = config(&folder);
        let own = read(&config, Sharing::Refused, Missing::Made).unwrap().own.unwrap();
        let next_path = next_path(&config);
        let next = read_or_make(&next_path, Sharing::Refused, Form::Bytes).unwrap();
        // A stop after the first step has left it there already.
        write(&folder.path().join(format!("host.key.{}", MasterKey::new(&own).id())), own.as_slice()).unwrap();
        let retired = retire(&config, &own, Some(&next_path)).unwrap();
        assert_eq!(read_file(&retired, Sharing::Refused).unwrap(), own);
        assert_eq!(read_file(&own_path(&config), Sharing::Refused).unwrap(), next);
        assert!(!next_path.exists());
        assert!(retire(&config, &next, None).unwrap().exists() && !own_path(&config).exists());
    }
}
