//! The sources of a plugin's crate, as far as a change of them is to be noticed: which files there are, how long each is and when it
//! was written.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::SystemTime;

use crate::cli::Failure;

/// More files than that are no plugin's sources, and looking at them twice a second would be work.
const MAX_FILES: usize = 10_000;

/// The files below a folder, with length and time of writing.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Sources(BTreeMap<PathBuf, (u64, Option<SystemTime>)>);

impl Sources {
    /// Look at a folder: not at what cargo writes, nor at what begins with a dot.
    ///
    /// # Errors
    /// Where there are too many, or the folder itself cannot be read.
    pub(super) fn look(folder: &Path, target: &Path) -> Result<Sources, Failure> {
        let failed = |source| Failure::File { what: "read", path: folder.to_path_buf(), source };
        // Refused here, because what is below may go while it is looked at.
        fs::read_dir(folder).map_err(failed)?;
        let mut files = BTreeMap::new();
        let mut folders = vec![folder.to_path_buf()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
                let (name, path) = (entry.file_name(), entry.path());
                let is_made = name == "target" || name == "Cargo.lock" || path == target;
                // Links are not followed, which may lead round in a circle.
                let Ok(metadata) = entry.metadata() else { continue };
                if is_made || name.as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                if metadata.is_dir() {
                    folders.push(path);
                } else {
                    files.insert(path, (metadata.len(), metadata.modified().ok()));
                }
                if files.len() + folders.len() > MAX_FILES {
                    let message = format!("there are more than {MAX_FILES} files here; name the plugin's own folder");
                    return Err(Failure::Usage(message));
                }
            }
        }
        Ok(Sources(files))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_of_a_source_is_noticed_and_one_of_what_cargo_writes_is_not() {
        let folder = tempfile::tempdir().unwrap();
        let write = |name: &str, text: &str| {
            let path = folder.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        };
        let look = || Sources::look(folder.path(), &folder.path().join("built")).unwrap();
        write("src/lib.rs", "one");
        write("plugin.toml", "x");
        let first = look();
        assert_eq!(first.0.len(), 2);
        for made in ["target/release/x", "built/x", "Cargo.lock", ".git/index", "src/.lib.rs.swp"] {
            write(made, "x");
        }
        assert_eq!(look(), first);
        write("src/lib.rs", "other");
        let second = look();
        assert_ne!(second, first);
        write("src/more.rs", "");
        assert_ne!(look(), second);
        fs::remove_file(folder.path().join("src/more.rs")).unwrap();
        assert_eq!(look(), second);
        assert!(Sources::look(&folder.path().join("nothing"), folder.path()).is_err());
    }
}
