//! The store's directory: its lock, its format version, where the engines lie in it, and how full its disk is.

use std::fs::{self, File, OpenOptions, TryLockError};
use std::io::{ErrorKind, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

use crate::{EngineKind, OpenError, ReadError, files, journal};

/// What a directory of this release says in its file `format`.
const FORMAT: &str = "kith-store 4\n";
/// A format with the same journal, whose engines held history itself.
const FORMAT_BEFORE: &str = "kith-store 3\n";

/// An opened directory. Its lock is released when it is dropped, or by the system when the process ends.
#[derive(Debug)]
pub(crate) struct Directory {
    path: PathBuf,
    /// The format that was found.
    format: Format,
    _lock: File,
}

/// What a directory says of itself.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Present,
    /// Engines hold what this release does not read, till [`Directory::upgrade`].
    Before,
}

fn io(path: &Path, doing: &str) -> impl FnOnce(std::io::Error) -> OpenError {
    let what = format!("{doing} {}", path.display());
    move |source| OpenError::Io { what, source }
}

fn sync(path: &Path) -> Result<(), OpenError> {
    files::sync_directory(path).map_err(io(path, "syncing"))
}

/// Make the directory `path` and those above it that are not there, with the name of each on disk.
fn create(path: &Path) -> Result<(), OpenError> {
    if path.try_exists().map_err(io(path, "looking for"))? {
        return Ok(());
    }
    let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty()).unwrap_or(Path::new("."));
    create(parent)?;
    match fs::create_dir(path) {
        Err(error) if error.kind() == ErrorKind::AlreadyExists => {}
        made => made.map_err(io(path, "creating"))?,
    }
    sync(parent)
}

/// Lock `path` and check its format; a new or empty directory becomes a store. Of a store that is there nothing is changed.
pub(crate) fn open(path: &Path) -> Result<Directory, OpenError> {
    create(path)?;
    let lock_path = path.join("lock");
    let lock = OpenOptions::new().create(true).truncate(false).write(true).open(&lock_path);
    let lock = lock.map_err(io(&lock_path, "opening"))?;
    match lock.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(OpenError::Locked { path: path.to_owned() }),
        Err(TryLockError::Error(error)) => return Err(io(&lock_path, "locking")(error)),
    }
    let mut directory = Directory { path: path.to_owned(), format: Format::Present, _lock: lock };
    directory.format = directory.read_format()?;
    Ok(directory)
}

impl Directory {
    fn read_format(&self) -> Result<Format, OpenError> {
        let path = self.path.join("format");
        match fs::read(&path) {
            Ok(found) if found == FORMAT.as_bytes() => Ok(Format::Present),
            Ok(found) if found == FORMAT_BEFORE.as_bytes() => Ok(Format::Before),
            Ok(found) => {
                let found = String::from_utf8_lossy(&found).trim_end().chars().take(64).collect();
                Err(OpenError::UnknownFormat { path, found })
            }
            Err(error) if error.kind() == ErrorKind::NotFound => self.create(path),
            Err(error) => Err(io(&path, "reading")(error)),
        }
    }

    /// The format comes last, under its name in one step: a directory without it holds no committed unit.
    fn create(&self, format: PathBuf) -> Result<Format, OpenError> {
        if journal::holds_units(&self.journal())? {
            return Err(OpenError::FormatMissing { path: format });
        }
        journal::create(&self.journal())?;
        self.write_format()?;
        Ok(Format::Present)
    }

    /// The format that was found when the directory was opened.
    pub(crate) fn format(&self) -> Format {
        self.format
    }

    /// Engines are views of the journal: those of the format before are moved aside and filled again.
    pub(crate) fn upgrade(&self) -> Result<(), OpenError> {
        tracing::info!(path = %self.path.display(), "the store is of the format before; its engines are filled again");
        for kind in [EngineKind::Sled, EngineKind::Redb] {
            self.set_engine_aside(kind)?;
        }
        self.write_format()
    }

    fn write_format(&self) -> Result<(), OpenError> {
        let (format, draft) = (self.path.join("format"), self.path.join("format.new"));
        let written = File::create(&draft).and_then(|mut file| {
            file.write_all(FORMAT.as_bytes())?;
            file.sync_all()
        });
        written.map_err(io(&draft, "writing"))?;
        files::rename(&draft, &format).map_err(io(&format, "writing"))?;
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

    /// Whether there are files of an engine.
    pub(crate) fn has_engine(&self, kind: EngineKind) -> Result<bool, OpenError> {
        let path = self.engine(kind);
        path.try_exists().map_err(io(&path, "looking for"))
    }

    /// Move an engine's directory out of the way. One such directory is kept, for whoever wants to know what happened.
    pub(crate) fn set_engine_aside(&self, kind: EngineKind) -> Result<(), OpenError> {
        let from = self.engine(kind);
        let to = self.path.join(format!("engine-{kind}.aside"));
        // What is aside stays there unless another takes its place: a crash may have come behind the move.
        if self.has_engine(kind)? {
            if to.exists() {
                fs::remove_dir_all(&to).map_err(io(&to, "removing"))?;
            }
            files::rename(&from, &to).map_err(io(&from, "moving aside"))?;
        }
        let suspect = self.suspect(kind);
        if suspect.exists() {
            files::remove(&suspect).map_err(io(&suspect, "removing"))?;
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
