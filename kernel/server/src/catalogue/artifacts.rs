//! Components on disk, `artifacts/<sha256>.wasm` in the data directory: written whole or not at all, and never handed
//! out unless their bytes still give the digest they are named by.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::{self, Write as _};
use std::path::{Path, PathBuf};

use crate::auth::digest;

/// A component that cannot be kept or read.
#[derive(Debug, thiserror::Error)]
pub enum ArtifactError {
    #[error("{doing} {}", .path.display())]
    Io { doing: &'static str, path: PathBuf, source: io::Error },
    #[error("{} is damaged: its bytes no longer give the digest in its name; upload the plugin again", .path.display())]
    Damaged { path: PathBuf },
}

/// How the file of a component ends, and that of one which is being written.
const WHOLE: &str = "wasm";
const PART: &str = "part";

/// The folder of components.
pub struct Artifacts {
    folder: PathBuf,
}

impl Artifacts {
    /// Open the folder, making it where it is missing.
    pub fn open(folder: PathBuf) -> Result<Artifacts, ArtifactError> {
        fs::create_dir_all(&folder).map_err(|source| ArtifactError::Io {
            doing: "making",
            path: folder.clone(),
            source,
        })?;
        Ok(Artifacts { folder })
    }

    fn path(&self, digest: &str) -> PathBuf {
        self.folder.join(format!("{digest}.{WHOLE}"))
    }

    /// Keep a component; its digest. The bytes are on disk when this returns.
    pub fn keep(&self, bytes: &[u8]) -> Result<String, ArtifactError> {
        let digest = digest(bytes);
        let path = self.path(&digest);
        write_whole(&path, bytes).map_err(|source| ArtifactError::Io { doing: "writing", path, source })?;
        Ok(digest)
    }

    /// The digests of all components that are there, whole or begun.
    pub fn digests(&self) -> Result<BTreeSet<String>, ArtifactError> {
        let unread = |source| ArtifactError::Io { doing: "reading", path: self.folder.clone(), source };
        let mut digests = BTreeSet::new();
        for entry in fs::read_dir(&self.folder).map_err(unread)? {
            let path = entry.map_err(unread)?.path();
            let is_ours = path.extension().is_some_and(|kind| kind == WHOLE || kind == PART);
            let name = path.file_stem().and_then(|name| name.to_str()).filter(|_| is_ours);
            let is_digest = |name: &&str| name.len() == 64 && name.bytes().all(|digit| digit.is_ascii_hexdigit());
            digests.extend(name.filter(is_digest).map(str::to_owned));
        }
        Ok(digests)
    }

    /// Remove a component, where it is there, whole or begun.
    pub fn remove(&self, digest: &str) -> Result<(), ArtifactError> {
        for path in [self.path(digest), self.path(digest).with_extension(PART)] {
            match fs::remove_file(&path) {
                Err(error) if error.kind() != io::ErrorKind::NotFound => {
                    return Err(ArtifactError::Io { doing: "removing", path, source: error });
                }
                Ok(()) | Err(_) => {}
            }
        }
        Ok(())
    }

    /// The component of that digest.
    pub fn read(&self, wanted: &str) -> Result<Vec<u8>, ArtifactError> {
        let path = self.path(wanted);
        let read = fs::read(&path);
        let bytes = read.map_err(|source| ArtifactError::Io { doing: "reading", path: path.clone(), source })?;
        if digest(&bytes) == wanted { Ok(bytes) } else { Err(ArtifactError::Damaged { path }) }
    }
}

/// Write a file so that after a crash it is whole or absent: a temporary one, synced, renamed, and the folder synced.
pub(crate) fn write_whole(path: &Path, bytes: &[u8]) -> io::Result<()> {
    let temporary = path.with_extension(PART);
    let mut file = File::create(&temporary)?;
    file.write_all(bytes)?;
    file.sync_all()?;
    fs::rename(&temporary, path)?;
    path.parent().map_or(Ok(()), |folder| File::open(folder)?.sync_all())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn damage_is_noticed() {
        let folder = tempfile::tempdir().unwrap();
        let artifacts = Artifacts::open(folder.path().join("artifacts")).unwrap();
        let digest = artifacts.keep(b"component").unwrap();
        assert_eq!(artifacts.read(&digest).unwrap(), b"component");
        fs::write(artifacts.path(&digest), b"componenu").unwrap();
        assert!(matches!(artifacts.read(&digest), Err(ArtifactError::Damaged { .. })));
    }
}
