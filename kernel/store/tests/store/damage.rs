//! Copies of a store with random harm done to them: a start has every unit that was answered, or refuses with the file and
//! the place, and then it has changed nothing.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use proptest::sample::Index;

use crate::support::{ENGINES, WORKSPACE, append, at_most, config, key, put, unit};
use kith_model::id::Position;
use kith_store::{Embedded, EngineKind, Key, OpenError, Store, StoreConfig, Value};

const UNITS: u32 = 120;

/// What is done to one of the journal's segments.
#[derive(Debug, Clone)]
enum Harm {
    Flip { byte: Index, bit: u8 },
    Cut { length: Index },
    Zero { from: Index },
    Remove,
}

/// What is lost beside that. With both, nobody would know how far the journal had come.
#[derive(Debug, Clone)]
enum Loss {
    Nothing,
    Engine,
    Watermark,
    WatermarkBit(Index),
}

impl Harm {
    fn strike(&self, path: &Path) {
        // An earlier one may have removed it.
        let Ok(mut bytes) = fs::read(path) else { return };
        match self {
            Harm::Flip { byte, bit } if !bytes.is_empty() => {
                let at = byte.index(bytes.len());
                bytes[at] ^= 1 << bit;
            }
            Harm::Flip { .. } => {}
            Harm::Cut { length } => bytes.truncate(length.index(bytes.len() + 1)),
            Harm::Zero { from } => {
                let from = from.index(bytes.len() + 1);
                bytes[from..].fill(0);
            }
            Harm::Remove => return fs::remove_file(path).unwrap(),
        }
        fs::write(path, bytes).unwrap();
    }
}

impl Loss {
    fn strike(&self, directory: &Path, engine: EngineKind) {
        let watermark = directory.join("journal/watermark");
        match self {
            Loss::Nothing => {}
            Loss::Engine => fs::remove_dir_all(directory.join(format!("engine-{engine}"))).unwrap(),
            Loss::Watermark => fs::remove_file(watermark).unwrap(),
            Loss::WatermarkBit(bit) => {
                let mut bytes = fs::read(&watermark).unwrap();
                let bit = bit.index(8 * bytes.len());
                bytes[bit / 8] ^= 1 << (bit % 8);
                fs::write(&watermark, bytes).unwrap();
            }
        }
    }
}

fn harms() -> impl Strategy<Value = Vec<(Index, Harm)>> {
    let harm = prop_oneof![
        4 => (any::<Index>(), 0u8..8).prop_map(|(byte, bit)| Harm::Flip { byte, bit }),
        3 => any::<Index>().prop_map(|length| Harm::Cut { length }),
        1 => any::<Index>().prop_map(|from| Harm::Zero { from }),
        1 => Just(Harm::Remove),
    ];
    proptest::collection::vec((any::<Index>(), harm), 0..3)
}

fn losses() -> impl Strategy<Value = Loss> {
    prop_oneof![
        Just(Loss::Nothing),
        Just(Loss::Engine),
        Just(Loss::Watermark),
        any::<Index>().prop_map(Loss::WatermarkBit),
    ]
}

/// A store with small segments.
fn small(directory: &Path, engine: EngineKind) -> StoreConfig {
    StoreConfig { segment_bytes: 4096, ..config(directory, engine) }
}

type Contents = (Vec<(Key, Value)>, Vec<Value>);

/// The rows and the log.
fn contents(store: &Embedded) -> Contents {
    let rows = store.scan(&crate::support::keys(), usize::MAX).unwrap().rows;
    let records = store.changes(WORKSPACE, Position(0), at_most(usize::MAX)).unwrap().records;
    (rows, records.into_iter().map(|record| record.bytes).collect())
}

/// A store that was stopped, and what is in it.
struct Original {
    engine: EngineKind,
    folder: tempfile::TempDir,
    contents: Contents,
}

impl Original {
    fn new(engine: EngineKind) -> Original {
        let folder = tempfile::tempdir().unwrap();
        let store = kith_store::open(small(folder.path(), engine)).unwrap();
        for number in 0..UNITS {
            let row = put(key(number % 50), &vec![number as u8; (number as usize * 37) % 200]);
            store.commit(unit([row, append(&number.to_be_bytes())])).unwrap();
        }
        assert!(store.status().segments > 3);
        let contents = contents(&store);
        Original { engine, folder, contents }
    }
}

/// All files below `directory` but those of engines, by their paths from `base`.
fn files_below(base: &Path, directory: &Path, files: &mut BTreeMap<PathBuf, Vec<u8>>) {
    for entry in fs::read_dir(directory).unwrap() {
        let path = entry.unwrap().path();
        let name = path.strip_prefix(base).unwrap().to_owned();
        if !path.is_dir() {
            files.insert(name, fs::read(&path).unwrap());
        } else if !name.to_str().unwrap().starts_with("engine-") {
            files_below(base, &path, files);
        }
    }
}

fn files(directory: &Path) -> BTreeMap<PathBuf, Vec<u8>> {
    let mut files = BTreeMap::new();
    files_below(directory, directory, &mut files);
    files
}

fn copy(from: &Path, to: &Path) {
    fs::create_dir_all(to).unwrap();
    for entry in fs::read_dir(from).unwrap() {
        let path = entry.unwrap().path();
        let target = to.join(path.file_name().unwrap());
        if path.is_dir() {
            copy(&path, &target);
        } else {
            fs::copy(&path, &target).unwrap();
        }
    }
}

/// The engines that lie in `directory`, those that were moved aside too.
fn engines(directory: &Path) -> Vec<String> {
    let names = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap().file_name().into_string().unwrap());
    let mut names: Vec<String> = names.filter(|name| name.starts_with("engine-")).collect();
    names.sort();
    names
}

fn open_harmed(original: &Original, harms: &[(Index, Harm)], loss: &Loss) -> Result<(), TestCaseError> {
    let engine = original.engine;
    let folder = tempfile::tempdir().unwrap();
    let directory = folder.path().join("store");
    copy(original.folder.path(), &directory);
    let journal = directory.join("journal");
    let mut segments: Vec<PathBuf> = files(&journal).into_keys().map(|name| journal.join(name)).collect();
    segments.retain(|path| path.extension().is_some_and(|extension| extension == "journal"));
    for (which, harm) in harms {
        // The last segment as often as all others together, because it alone may be torn.
        let which = which.index(2 * segments.len()).min(segments.len() - 1);
        harm.strike(&segments[which]);
    }
    loss.strike(&directory, engine);
    let (before, engines_before) = (files(&directory), engines(&directory));
    match kith_store::open(small(&directory, engine)) {
        Ok(store) => prop_assert!(contents(&store) == original.contents, "something is missing"),
        Err(error) => {
            let is_told = matches!(
                error,
                OpenError::Damaged { .. }
                    | OpenError::MissingUnits { .. }
                    | OpenError::SegmentMissing { .. }
                    | OpenError::JournalMissing { .. }
                    | OpenError::EngineAhead { .. }
            );
            prop_assert!(is_told, "{error:?}");
            prop_assert!(error.to_string().contains(journal.to_str().unwrap()), "{error}");
            prop_assert!(files(&directory) == before, "something was changed: {error}");
            prop_assert_eq!(engines(&directory), engines_before);
        }
    }
    Ok(())
}

#[test]
fn a_harmed_store_has_all_that_was_answered_or_is_refused_as_it_was() {
    let originals = ENGINES.map(Original::new);
    let config = ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() };
    proptest!(config, |(harms in harms(), loss in losses())| {
        for original in &originals {
            open_harmed(original, &harms, &loss)?;
        }
    });
}
