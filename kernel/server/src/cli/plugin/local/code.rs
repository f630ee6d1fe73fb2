//! Where tools without a server keep compiled code, so that one component is compiled once: a folder of the user's own, in which lie
//! the host's cache and the key of its MAC. Where none can be had that is the user's alone, nothing is kept.

use std::fs;
use std::io::Write;
use std::os::unix::fs::{DirBuilderExt, MetadataExt, OpenOptionsExt};
use std::path::{Path, PathBuf};

use zeroize::Zeroizing;

/// How many components' code is kept, the newest.
const MAX_KEPT: usize = 32;

/// Where compiled code lies, and the key of its MAC.
pub(super) struct KeptCode {
    pub(super) directory: PathBuf,
    pub(super) mac_key: Zeroizing<[u8; 32]>,
}

impl KeptCode {
    /// That of whoever runs this program.
    pub(super) fn of_user() -> Option<KeptCode> {
        let set = |name: &str| std::env::var_os(name).map(PathBuf::from).filter(|path| path.is_absolute());
        let caches = set("XDG_CACHE_HOME").or_else(|| Some(set("HOME")?.join(".cache")))?;
        KeptCode::within(&caches.join("kith"))
    }

    /// That in a folder, which is made if need be.
    fn within(folder: &Path) -> Option<KeptCode> {
        make(folder)?;
        // What is loaded from there runs in this process, so that nobody else may have put it there, whoever this runs as.
        let found = fs::metadata(folder).ok()?;
        if found.uid() != rustix::process::geteuid().as_raw() || found.mode() & 0o077 != 0 {
            return None;
        }
        let directory = folder.join("code");
        make(&directory)?;
        keep_newest(&directory);
        Some(KeptCode { mac_key: key(&folder.join("code.key"))?, directory })
    }
}

fn make(folder: &Path) -> Option<()> {
    fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).ok()
}

/// The key in a file, which is made if need be. Of two that make it at once the later one's holds: what is kept under the other is
/// compiled anew.
fn key(path: &Path) -> Option<Zeroizing<[u8; 32]>> {
    let kept = fs::read(path).map(Zeroizing::new);
    if let Some(key) = kept.ok().and_then(|bytes| <[u8; 32]>::try_from(bytes.as_slice()).ok()) {
        return Some(key.into());
    }
    let mut key = Zeroizing::new([0_u8; 32]);
    getrandom::fill(key.as_mut_slice()).ok()?;
    let temporary = path.with_extension(std::process::id().to_string());
    let mut file = fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary).ok()?;
    file.write_all(key.as_slice()).ok()?;
    fs::rename(&temporary, path).ok()?;
    Some(key)
}

fn keep_newest(directory: &Path) {
    let Ok(entries) = fs::read_dir(directory) else { return };
    let written = |entry: fs::DirEntry| Some((entry.metadata().ok()?.modified().ok()?, entry.path()));
    let mut files: Vec<_> = entries.flatten().filter_map(written).collect();
    files.sort_unstable();
    let too_many = files.len().saturating_sub(MAX_KEPT);
    // One that stays is looked at the next time.
    files.iter().take(too_many).for_each(|(_, path)| drop(fs::remove_file(path)));
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt;

    use super::*;

    #[test]
    fn code_is_kept_where_nobody_else_can_put_any_and_so_much_of_it() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("cache/kith");
        let kept = KeptCode::within(&folder).unwrap();
        for path in [&folder, &kept.directory] {
            assert_eq!(fs::metadata(path).unwrap().mode() & 0o777, 0o700);
        }
        assert_eq!(fs::metadata(folder.join("code.key")).unwrap().mode() & 0o777, 0o600);
        for number in 0..MAX_KEPT + 3 {
            fs::write(kept.directory.join(format!("{number}.cwasm")), "code").unwrap();
        }
        let again = KeptCode::within(&folder).unwrap();
        assert!(again.mac_key == kept.mac_key && kept.mac_key.iter().any(|byte| *byte != 0));
        assert_eq!(fs::read_dir(&kept.directory).unwrap().count(), MAX_KEPT);
        fs::set_permissions(&folder, fs::Permissions::from_mode(0o750)).unwrap();
        assert!(KeptCode::within(&folder).is_none(), "others can look into it");
    }
}
