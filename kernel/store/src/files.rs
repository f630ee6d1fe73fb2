//! What a start writes and syncs. Each step tells where it is taken, so that tests see their order and have one of them fail
//! as a system would.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::FileExt;
use std::path::Path;

#[cfg(test)]
use steps::step;

/// Go on with the step `what` at `path`.
#[cfg(not(test))]
fn step(_what: &str, _path: &Path) -> io::Result<()> {
    Ok(())
}

/// Write `bytes` at `offset` of `file`, which is at `path`.
pub(crate) fn write_at(file: &File, path: &Path, bytes: &[u8], offset: u64) -> io::Result<()> {
    step("write", path)?;
    file.write_all_at(bytes, offset)
}

/// Cut `file`, which is at `path`, down to `size_bytes`.
pub(crate) fn truncate(file: &File, path: &Path, size_bytes: u64) -> io::Result<()> {
    step("truncate", path)?;
    file.set_len(size_bytes)
}

/// Bring all of `file`, which is at `path`, to disk.
pub(crate) fn sync(file: &File, path: &Path) -> io::Result<()> {
    step("sync", path)?;
    file.sync_all()
}

/// Bring the names in the directory `path` to disk.
pub(crate) fn sync_directory(path: &Path) -> io::Result<()> {
    step("sync", path)?;
    File::open(path)?.sync_all()
}

/// Make the new file `path` of `bytes` and bring it to disk. Where that fails nothing is left of it.
pub(crate) fn create(path: &Path, bytes: &[u8]) -> io::Result<()> {
    step("create", path)?;
    let mut file = OpenOptions::new().write(true).create_new(true).open(path)?;
    let written = file.write_all(bytes).and_then(|()| sync(&file, path));
    if written.is_err() {
        // The first error is the one to tell.
        fs::remove_file(path).ok();
    }
    written
}

/// Give what is at `from` the name `to`, in the place of what has it.
pub(crate) fn rename(from: &Path, to: &Path) -> io::Result<()> {
    step("rename", to)?;
    fs::rename(from, to)
}

/// Remove the file `path`.
pub(crate) fn remove(path: &Path) -> io::Result<()> {
    step("remove", path)?;
    fs::remove_file(path)
}

/// The steps of a thread, for tests.
#[cfg(test)]
pub(crate) mod steps {
    use std::cell::RefCell;
    use std::io;
    use std::path::Path;

    thread_local! {
        static TAKEN: RefCell<Vec<String>> = const { RefCell::new(Vec::new()) };
        /// The number of the step that fails, from 0, and the system's code.
        static FAILING: RefCell<Option<(usize, i32)>> = const { RefCell::new(None) };
    }

    pub(super) fn step(what: &str, path: &Path) -> io::Result<()> {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        let number = TAKEN.with_borrow_mut(|taken| {
            taken.push(format!("{what} {name}"));
            taken.len() - 1
        });
        match FAILING.take() {
            Some((failing, code)) if failing == number => Err(io::Error::from_raw_os_error(code)),
            other => {
                FAILING.set(other);
                Ok(())
            }
        }
    }

    /// What `run` gives, and the steps that it takes.
    pub(crate) fn of<T>(run: impl FnOnce() -> T) -> (T, Vec<String>) {
        TAKEN.take();
        let ran = run();
        (ran, TAKEN.take())
    }

    /// What `run` gives where its step `number` fails with the system's `code`; `None` where it has no such step.
    pub(crate) fn failing<T>(number: usize, code: i32, run: impl FnOnce() -> T) -> Option<T> {
        TAKEN.take();
        FAILING.set(Some((number, code)));
        let ran = run();
        FAILING.take().is_none().then_some(ran)
    }
}
