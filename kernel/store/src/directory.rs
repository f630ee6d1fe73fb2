//! The store's directory: its lock, its format version, where the engines lie in it, and how full its disk is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{EngineKind, OpenError, ReadError, journal};

/// What a directory of this release says in its file `format`.
const FORMAT: &str = "kith-store 4\n";
/// A format with the same journal, whose engines held history itself.
const FORMAT_BEFORE: &str = "kith-store 3\n";

/// An opened directory. Its lock is released when it is dropped, or by the system when the process ends.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    _lock: File,
}

fn io(path: &Path, doing: &str) -> impl FnOnce(std::io::Error) -> OpenError {
    let what = format!("{doing} {}", path.display());
    move |source| OpenError::Io { what, source }
}

fn sync(path: &Path) -> Result<(), OpenError> {
    File::open(path).and_then(|directory| directory.sync_all()).map_err(io(path, "syncing"))
}

/// Lock `path` and check its format; a new or empty directory becomes a store.
pub(crate) fn open(path: &Path) -> Result<Directory, OpenError> {
    let is_new = !path.exists();
    fs::create_dir_all(path).map_err(io(path, "creating"))?;
    if is_new && let Some(parent) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
        sync(parent)?;
    }
    let lock_path = path.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(io(&lock_path, "opening"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(io(&lock_path, "locking")(error)),
    }
    let directory = Directory { path: path.to_owned(), _lock: lock };
    directory.check_format()?;
    Ok(directory)
}

impl Directory {
    fn check_format(&self) -> Result<(), OpenError> {
        let path = self.path.join("format");
        match fs::read(&path) {
            Ok(found) if found == FORMAT.as_bytes() => Ok(()),
            Ok(found) if found == FORMAT_BEFORE.as_bytes() => self.upgrade(&path),
            Ok(found) => {
                let found = String::from_utf8_lossy(&found).trim_end().chars().take(64).collect();
                Err(OpenError::UnknownFormat { path, found })
            }
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => self.create(&path),
            Err(error) => Err(io(&path, "reading")(error)),
        }
    }

    /// The format comes last, under its name in one step: a directory without it holds no committed unit.
    fn create(&self, format: &Path) -> Result<(), OpenError> {
        journal::create(&self.journal())?;
        self.write_format(format)
    }

    /// Engines are views of the journal: those of the format before are moved aside and filled again.
    fn upgrade(&self, format: &Path) -> Result<(), OpenError> {
        tracing::info!(path = %self.path.display(), "the store is of the format before; its engines are filled again");
        for kind in [EngineKind::Sled, EngineKind::Redb] {
            if self.engine(kind).exists() {
                self.set_engine_aside(kind)?;
            }
        }
        self.write_format(format)
    }

    fn write_format(&self, format: &Path) -> Result<(), OpenError> {
        let draft = self.path.join("format.new");
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(FORMAT.as_bytes())?;
            file.sync_all()
        });
        written.map_err(io(&draft, "writing"))?;
        fs::rename(&draft, format).map_err(io(format, "writing"))?;
        sync(&self.path)
    }

    /// Where the journal lies.
    pub(crate) fn journal(&self) -> PathBuf {
        self.path.join("journal")
    }

    /// Where the rows of an engine lie.
    pub(crate) fn engine(&self, kind: EngineKind) -> PathBuf {
        self.path.join(format!("engine-{kind}"))
    }

    /// The file that says that an engine was found damaged while it was in use.
    pub(crate) fn suspect(&self, kind: EngineKind) -> PathBuf {
        self.path.join(format!("engine-{kind}.suspect"))
    }

    /// Make an engine's directory if there is none.
    pub(crate) fn create_engine(&self, kind: EngineKind) -> Result<PathBuf, OpenError> {
        let path = self.engine(kind);
        fs::create_dir_all(&path).map_err(io(&path, "creating"))?;
        sync(&self.path)?;
        Ok(path)
    }

    /// Move an engine's directory out of the way. One such directory is kept, for whoever wants to know what happened.
    pub(crate) fn set_engine_aside(&self, kind: EngineKind) -> Result<(), OpenError> {
        let from = self.engine(kind);
        let to = self.path.join(format!("engine-{kind}.aside"));
        if to.exists() {
            fs::remove_dir_all(&to).map_err(io(&to, "removing"))?;
        }
        if from.exists() {
            fs::rename(&from, &to).map_err(io(&from, "moving aside"))?;
        }
        let suspect = self.suspect(kind);
        if suspect.exists() {
            fs::remove_file(&suspect).map_err(io(&suspect, "removing"))?;
        }
        sync(&self.path)
    }

    /// The directory itself.
    pub(crate) fn path(&self) -> &Path {
        &self.path
    }

    /// What the disk has left.
    pub(crate) fn free_bytes(&self) -> Result<u64, ReadError> {
        let disk = rustix::fs::statvfs(&self.path).map_err(|error| ReadError::Io {
            what: format!("the free space of {}", self.path.display()),
            source: Arc::new(error.into()),
        })?;
        Ok(disk.f_bavail.saturating_mul(disk.f_frsize))
    }
}
