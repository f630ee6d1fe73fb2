//! Components on disk, `artifacts/<sha256>.wasm` in the data directory: written whole or not at all, and never handed
//! out unless their bytes still give the digest they are named by.

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
        self.folder.join(format!("{digest}.wasm"))
    }

    /// Keep a component; its digest. The bytes are on disk when this returns.
    pub fn keep(&self, bytes: &[u8]) -> Result<String, ArtifactError> {
        let digest = digest(bytes);
        let path = self.path(&digest);
        write_whole(&path, bytes).map_err(|source| ArtifactError::Io { doing: "writing", path, source })?;
        Ok(digest)
    }

    /// Remove a component, where it is there.
    pub fn remove(&self, digest: &str) -> Result<(), ArtifactError> {
        let path = self.path(digest);
        match fs::remove_file(&path) {
            Err(error) if error.kind() != io::ErrorKind::NotFound => {
                Err(ArtifactError::Io { doing: "removing", path, source: error })
            }
            Ok(()) | Err(_) => Ok(()),
        }
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
    let temporary = path.with_extension("part");
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
