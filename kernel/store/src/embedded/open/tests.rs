//! What a start does with an engine that does not open, by an engine that refuses as a system does.

use std::collections::BTreeMap;
use std::fs;
use std::path::PathBuf;
use std::sync::atomic::{AtomicUsize, Ordering};

use rustix::io::Errno;

use super::*;
use crate::files::steps;
use crate::{Operation, Store, Unit};

const ENGINES: [EngineKind; 2] = [EngineKind::Sled, EngineKind::Redb];

fn config(directory: &Path, engine: EngineKind) -> StoreConfig {
    StoreConfig { engine, cache_bytes: 8 << 20, disk_reserve_bytes: 0, ..StoreConfig::new(directory) }
}

/// Commit a unit for each of `names`.
fn put(store: &Embedded, names: &[&str]) {
    for name in names {
        let operations = vec![Operation::Put(Key::meta(name), name.as_bytes().to_vec())];
        store.commit(Unit { operations, ..Unit::default() }).unwrap();
    }
}

/// Which of the rows `a` to `f` a store has.
fn rows(store: &Embedded) -> String {
    let rows = store.get(&["a", "b", "c", "d", "e", "f"].map(Key::meta)).unwrap();
    rows.into_iter().flatten().map(|row| String::from_utf8(row.to_vec()).unwrap()).collect()
}

/// All files below `directory` with what is in them.
fn files_below(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            files.extend(files_below(&path));
        } else {
            files.insert(path.clone(), fs::read(&path).unwrap());
        }
    }
    files
}

/// A healthy engine was moved aside when the disk was full, and filled again with twice the space.
#[test]
fn an_engine_that_cannot_be_opened_now_is_left_as_it_is() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("store");
        put(&open(config(&directory, engine)).unwrap(), &["a", "b"]);
        let before = files_below(&directory);
        for errno in [Errno::NOSPC, Errno::MFILE, Errno::NFILE, Errno::ACCESS, Errno::ROFS, Errno::IO] {
            let refuse = |_: EngineKind, _: &Path, _: u64| -> Result<Box<dyn Engine>, EngineError> {
                Err(EngineError::of_io("sled", std::io::Error::from_raw_os_error(errno.raw_os_error())))
            };
            let (opened, taken) = steps::of(|| open_with(config(&directory, engine), &refuse));
            let error = opened.err().unwrap();
            let text = error.to_string();
            let OpenError::EngineUnavailable { engine: refused, path, source } = error else { panic!("{text}") };
            assert_eq!((refused, path), (engine, directory.join(format!("engine-{engine}"))));
            assert_eq!(source.raw_os_error(), Some(errno.raw_os_error()));
            assert_eq!(taken, [""; 0]);
            assert_eq!(files_below(&directory), before);
        }
        assert_eq!(rows(&open(config(&directory, engine)).unwrap()), "ab");
        assert!(!directory.join(format!("engine-{engine}.aside")).exists());
    }
}

/// The engine that takes the place of a damaged one may meet a full disk; the next start makes it.
#[test]
fn a_new_engine_that_cannot_be_made_now_is_made_another_time() {
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("store");
    put(&open(config(&directory, EngineKind::Redb)).unwrap(), &["a", "b"]);
    let calls = AtomicUsize::new(0);
    let refuse = |_: EngineKind, _: &Path, _: u64| -> Result<Box<dyn Engine>, EngineError> {
        let is_first = calls.fetch_add(1, Ordering::Relaxed) == 0;
        let kind = if is_first { std::io::ErrorKind::UnexpectedEof } else { std::io::ErrorKind::StorageFull };
        Err(EngineError::of_io("redb", kind.into()))
    };
    let error = open_with(config(&directory, EngineKind::Redb), &refuse).err();
    assert!(matches!(error, Some(OpenError::EngineUnavailable { .. })), "{error:?}");
    assert!(directory.join("engine-redb.aside/rows.redb").exists());
    assert_eq!(rows(&open(config(&directory, EngineKind::Redb)).unwrap()), "ab");
    assert!(directory.join("engine-redb.aside/rows.redb").exists(), "what was moved aside is still there");
}

/// As many units as the journal has, and others: the rows of units that are no more stood beside those of units that it lacked.
#[test]
fn an_engine_of_another_history_is_not_taken() {
    for (engine, other) in [(EngineKind::Redb, EngineKind::Sled), (EngineKind::Sled, EngineKind::Redb)] {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("store");
        let (journal, backup) = (directory.join("journal"), folder.path().join("backup"));
        put(&open(config(&directory, engine)).unwrap(), &["a", "b"]);
        fs::create_dir(&backup).unwrap();
        for entry in fs::read_dir(&journal).unwrap() {
            let path = entry.unwrap().path();
            fs::copy(&path, backup.join(path.file_name().unwrap())).unwrap();
        }
        put(&open(config(&directory, engine)).unwrap(), &["c", "d"]);
        // The journal is restored, and the store used on the other engine for a while.
        fs::remove_dir_all(&journal).unwrap();
        fs::rename(&backup, &journal).unwrap();
        let before = files_below(&journal);
        let error = open(config(&directory, engine)).err();
        assert!(matches!(error, Some(OpenError::EngineAhead { applied: 4, journal: 2, .. })), "{error:?}");
        assert_eq!(files_below(&journal), before);
        put(&open(config(&directory, other)).unwrap(), &["e", "f"]);
        assert_eq!(rows(&open(config(&directory, engine)).unwrap()), "abef");
        assert!(directory.join(format!("engine-{engine}.aside")).exists());
        // Filled again it is this journal's, and stays.
        let opened = open(config(&directory, engine)).unwrap();
        assert_eq!((rows(&opened).as_str(), opened.status().units), ("abef", 4));
    }
}

/// It says how far it has come, and not of which history.
#[test]
fn an_engine_with_a_marker_of_the_version_before_is_filled_again() {
    for engine in ENGINES {
        let folder = tempfile::tempdir().unwrap();
        let directory = folder.path().join("store");
        put(&open(config(&directory, engine)).unwrap(), &["a", "b"]);
        let path = directory.join(format!("engine-{engine}"));
        let opened = start_engine(engine, &path, 8 << 20).unwrap();
        let applied = opened.applied().unwrap().unwrap();
        assert_eq!(applied.sequence, 2);
        assert_ne!(applied.fingerprint, 0);
        // A marker of version 1 reads as one without a fingerprint.
        opened.apply(&[], Some(Applied { fingerprint: 0, ..applied })).unwrap();
        opened.sync().unwrap();
        drop(opened);
        assert_eq!(rows(&open(config(&directory, engine)).unwrap()), "ab");
        assert!(directory.join(format!("engine-{engine}.aside")).exists());
    }
}

#[test]
fn no_message_offers_to_delete_what_may_be_the_only_copy() {
    let path = PathBuf::from("store/x");
    let source = || std::io::Error::from_raw_os_error(Errno::NOSPC.raw_os_error());
    let (engine, offset, problem) = (EngineKind::Sled, 7, "it is torn".to_owned());
    let errors = [
        OpenError::Locked { path: path.clone() },
        OpenError::UnknownFormat { path: path.clone(), found: "9".to_owned() },
        OpenError::FormatMissing { path: path.clone() },
        OpenError::Damaged { path: path.clone(), offset, problem: problem.clone() },
        OpenError::MissingUnits { path: path.clone(), expected: 1, found: 2 },
        OpenError::SegmentMissing { path: path.clone() },
        OpenError::JournalMissing { path: path.clone() },
        OpenError::EngineAhead { engine, applied: 2, journal: 1, segment: path.clone(), offset, path: path.clone() },
        OpenError::EngineUnavailable { engine, path, source: source() },
        OpenError::Engine { engine, problem },
        OpenError::Io { what: "reading store/x".to_owned(), source: source() },
    ];
    for error in errors {
        let text = error.to_string();
        assert!(!["delete", "remove", "rm "].iter().any(|word| text.contains(word)), "{text}");
        assert!(text.contains("store/x") || matches!(error, OpenError::Engine { .. }), "{text}");
    }
}
