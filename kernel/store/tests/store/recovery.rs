//! What a store with files keeps over a restart, and what it does with files that something damaged.

use std::fs;
use std::path::{Path, PathBuf};

use crate::support::{ENGINES, Opened, WORKSPACE, append, at_most, key, put, unit};
use kith_model::id::{Position, SourceIdentityId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{EngineKind, Key, OpenError, Operation, QueueId, ReadError, Store, StoreConfig, Unit, Value};

const QUEUE: QueueId = QueueId { workspace: WorkspaceId(1), queue: 1 };

/// What a store holds, as a caller can see it.
#[derive(Debug, PartialEq)]
struct Contents {
    rows: Vec<(Key, Value)>,
    history: Vec<(Key, Value)>,
    log: Vec<(Position, Value)>,
    next_due: Option<Timestamp>,
}

fn contents(store: &impl Store) -> Contents {
    let mut log = Vec::new();
    loop {
        let after = log.last().map_or(Position(0), |(position, _)| *position);
        let changes = store.changes(WORKSPACE, after, at_most(17)).unwrap();
        if changes.records.is_empty() {
            assert_eq!(changes.up_to, store.head());
            break;
        }
        log.extend(changes.records.into_iter().map(|record| (record.position, record.bytes)));
    }
    assert!(log.iter().zip(1..).all(|((position, _), expected)| *position == Position(expected)));
    assert_eq!(store.head(), Position(log.len() as u64));
    assert_eq!(store.head_of(WORKSPACE), store.head());
    let rows = store.scan(&crate::support::keys(), usize::MAX).unwrap().rows;
    let history = store.scan(&Key::all_events(WORKSPACE).range(), usize::MAX).unwrap().rows;
    let records = history.iter().map(|(_, value)| value);
    assert!(records.clone().all(|record| log.iter().any(|(_, other)| other == record)));
    assert_eq!(records.count(), log.len(), "each record is a row of history too");
    Contents { rows, history, log, next_due: store.next_due(QUEUE).unwrap() }
}

/// A record that is a row of history too.
fn event(number: u32, record: &[u8]) -> Operation {
    let row = Key::event(WORKSPACE, SourceIdentityId([(number % 7) as u8; 16]), Timestamp(i64::from(number) / 3));
    Operation::Append { workspace: WORKSPACE, record: record.to_vec(), row: Some(row) }
}

/// Commit units that rewrite, delete, append, and fill several segments.
fn fill(store: &impl Store, units: std::ops::Range<u32>) {
    for number in units {
        let mut operations = vec![
            put(key(number % 50), &vec![number as u8; (number as usize * 37) % 3000]),
            event(number, &[number.to_be_bytes().as_slice(), &[7; 300]].concat()),
            Operation::Delete(key((number + 25) % 60)),
        ];
        if number % 40 == 0 {
            operations.push(put(key(100 + number), &vec![number as u8; 20_000]));
            let due_at = Timestamp(i64::from(number));
            operations.push(Operation::Enqueue { queue: QUEUE, id: [number as u8; 16], due_at, body: vec![] });
        }
        store.commit(unit(operations)).unwrap();
    }
}

fn segments(directory: &Path) -> Vec<PathBuf> {
    let entries = fs::read_dir(directory.join("journal")).unwrap().map(|entry| entry.unwrap().path());
    let mut paths: Vec<_> = entries.filter(|path| path.extension().is_some_and(|name| name == "journal")).collect();
    paths.sort();
    paths
}

/// Where it is noted how much of the journal is on disk. A process that is killed does not note its end.
fn watermark(directory: &Path) -> PathBuf {
    directory.join("journal/watermark")
}

fn change_byte(path: &Path, offset: usize) {
    let mut bytes = fs::read(path).unwrap();
    bytes[offset] ^= 0x40;
    fs::write(path, bytes).unwrap();
}

#[test]
fn reopening_keeps_everything() {
    for engine in ENGINES {
        let mut opened = Opened::new(engine);
        for round in 0..3 {
            fill(opened.store(), round * 200..(round + 1) * 200);
            let before = contents(opened.store());
            let status = opened.store().status();
            assert!(status.segments > 2, "the test reaches over several segments: {status:?}");
            opened = opened.reopen();
            assert_eq!(contents(opened.store()), before);
            assert_eq!(opened.store().status().units, status.units);
        }
        opened.store().claim(QUEUE, Timestamp(0), 1, 1_000_000).unwrap();
        let fence = opened.store().lease("react", "a", Timestamp(0), 100).unwrap().unwrap();
        let opened = opened.reopen();
        assert_eq!(opened.store().next_due(QUEUE).unwrap(), Some(Timestamp(40)));
        assert_eq!(opened.store().lease("react", "b", Timestamp(99), 100).unwrap(), None);
        opened.store().commit(Unit { fence: Some(fence), ..unit([put(key(1), b"")]) }).unwrap();
    }
}

#[test]
fn a_lost_engine_is_filled_again_from_the_journal() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        fill(opened.store(), 0..400);
        let before = contents(opened.store());
        let folder = format!("engine-{engine}");
        let opened = opened.try_reopen_after(|path| fs::remove_dir_all(path.join(&folder)).unwrap()).unwrap();
        assert_eq!(contents(opened.store()), before);
        opened.store().settle();
        assert_eq!(contents(opened.store()), before);
    }
}

#[test]
fn a_damaged_engine_is_moved_aside_and_filled_again() {
    let damage: [fn(&mut Vec<u8>); 4] = [
        |bytes| bytes.fill(0),
        |bytes| bytes.iter_mut().for_each(|byte| *byte ^= 0xa5),
        |bytes| bytes.truncate(bytes.len() / 2),
        |bytes| {
            let middle = bytes.len() / 2;
            bytes[..middle].fill(0x11);
        },
    ];
    for engine in ENGINES {
        let file = format!("engine-{engine}/{}", if engine == EngineKind::Sled { "db" } else { "rows.redb" });
        let mut opened = Opened::new(engine);
        for (round, damage) in (0u32..).zip(damage) {
            fill(opened.store(), round * 100..(round + 1) * 100);
            let before = contents(opened.store());
            let change = |path: &Path| {
                let mut bytes = fs::read(path.join(&file)).unwrap();
                damage(&mut bytes);
                fs::write(path.join(&file), bytes).unwrap();
            };
            opened = opened.try_reopen_after(change).unwrap();
            assert_eq!(contents(opened.store()), before, "{engine}, kind {round}");
            opened.store().settle();
            assert_eq!(contents(opened.store()), before, "{engine}, kind {round}, from the engine");
        }
    }
}

#[test]
fn an_engine_found_damaged_in_use_is_replaced_at_the_next_start() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        fill(opened.store(), 0..50);
        let before = contents(opened.store());
        let suspect = format!("engine-{engine}.suspect");
        let opened = opened.try_reopen_after(|path| fs::write(path.join(&suspect), "").unwrap()).unwrap();
        assert!(!opened.directory().join(&suspect).exists());
        assert!(opened.directory().join(format!("engine-{engine}.aside")).exists());
        assert_eq!(contents(opened.store()), before);
    }
}

#[test]
fn the_engine_can_be_changed_between_starts() {
    let mut opened = Opened::new(EngineKind::Sled);
    for (round, engine) in (0u32..).zip([EngineKind::Redb, EngineKind::Sled, EngineKind::Redb]) {
        fill(opened.store(), round * 100..(round + 1) * 100);
        let before = contents(opened.store());
        opened = opened.reopen_with(|config| StoreConfig { engine, ..config });
        assert_eq!(contents(opened.store()), before);
    }
}

#[test]
fn two_stores_never_share_a_directory() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        let second = kith_store::open(crate::support::config(opened.directory(), engine));
        assert!(matches!(second, Err(OpenError::Locked { path }) if path == opened.directory()));
        opened.store().commit(unit([put(key(1), b"x")])).unwrap();
    }
}

#[test]
fn an_unknown_format_is_refused() {
    for format in ["kith-store 1", "kith-store 2", "kith-store 5", ""] {
        let opened = Opened::new(EngineKind::Redb);
        let error = opened.try_reopen_after(|path| fs::write(path.join("format"), format).unwrap()).err();
        assert!(matches!(error, Some(OpenError::UnknownFormat { found, .. }) if found == format));
    }
}

/// Its engine says of history what it is, and this release's where it lies.
#[test]
fn a_directory_of_the_format_before_is_taken_and_its_engine_filled_again() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        fill(opened.store(), 0..100);
        let before = contents(opened.store());
        let opened = opened.try_reopen_after(|path| fs::write(path.join("format"), "kith-store 3\n").unwrap()).unwrap();
        assert_eq!(fs::read_to_string(opened.directory().join("format")).unwrap(), "kith-store 4\n");
        assert!(opened.directory().join(format!("engine-{engine}.aside")).exists());
        opened.store().settle();
        assert_eq!(contents(opened.store()), before);
        assert_eq!(contents(opened.reopen().store()), before);
    }
}

/// All bytes of the files in a folder.
fn bytes_in(folder: &Path) -> Vec<u8> {
    let mut entries: Vec<PathBuf> = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path()).collect();
    entries.sort();
    entries.into_iter().flat_map(|path| if path.is_dir() { bytes_in(&path) } else { fs::read(path).unwrap() }).collect()
}

#[test]
fn an_event_is_on_the_disk_once() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        let text = |number: u32| format!("<what happened to {number}>").repeat(1 + number as usize % 300);
        for number in 0..300 {
            opened.store().commit(unit([event(number, text(number).as_bytes())])).unwrap();
        }
        opened.store().settle();
        let rows = opened.store().scan(&Key::all_events(WORKSPACE).range(), usize::MAX).unwrap().rows;
        let keys: Vec<Key> = rows.iter().map(|(key, _)| key.clone()).collect();
        let values: Vec<Value> = opened.store().get(&keys).unwrap().into_iter().flatten().collect();
        assert_eq!(rows.into_iter().map(|(_, value)| value).collect::<Vec<Value>>(), values);
        let mut texts: Vec<String> = values.iter().map(|value| String::from_utf8(value.to_vec()).unwrap()).collect();
        let mut expected: Vec<String> = (0..300).map(text).collect();
        texts.sort_unstable();
        expected.sort_unstable();
        assert_eq!(texts, expected);
        let opened = opened.reopen();
        let held = bytes_in(&opened.directory().join(format!("engine-{engine}")));
        assert!(!held.windows(18).any(|bytes| bytes == b"<what happened to "), "{engine} holds what happened");
    }
}

/// Never a part of one event and a part of another: what is read is checked.
#[test]
fn an_event_that_is_not_where_it_was_is_an_error() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        for number in 0..10 {
            opened.store().commit(unit([event(number, &[number as u8; 300])])).unwrap();
        }
        opened.store().settle();
        let events = Key::all_events(WORKSPACE).range();
        assert_eq!(opened.store().scan(&events, 100).unwrap().rows.len(), 10);
        let segment = segments(opened.directory()).remove(0);
        let at = fs::read(&segment).unwrap().windows(300).position(|bytes| bytes == [4; 300]).unwrap();
        change_byte(&segment, at + 100);
        let error = opened.store().scan(&events, 100).unwrap_err();
        assert!(matches!(&error, ReadError::Corrupt { problem, .. } if problem.contains("where an event")), "{error}");
    }
}

#[test]
fn a_directory_whose_making_was_cut_short_becomes_a_store() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("store");
    drop(kith_store::open(crate::support::config(&path, EngineKind::Redb)).unwrap());
    fs::remove_file(path.join("format")).unwrap();
    let store = kith_store::open(crate::support::config(&path, EngineKind::Redb)).unwrap();
    store.commit(unit([put(key(1), b"x")])).unwrap();
}

#[test]
fn a_unit_torn_at_the_end_is_cut_off() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        fill(opened.store(), 0..100);
        // The unit that is torn below must not be in the engine, as after a crash before its sync.
        let before = contents(opened.store());
        let engine_folder = format!("engine-{engine}");
        let folder = tempfile::tempdir().unwrap();
        let kept = folder.path().join("kept");
        let mut noted = Vec::new();
        let keep = |path: &Path| {
            noted = fs::read(watermark(path)).unwrap();
            fs::rename(path.join(&engine_folder), &kept).unwrap();
        };
        let opened = opened.try_reopen_after(keep).unwrap();
        opened.store().commit(unit([put(key(1), b"torn"), event(1, b"torn")])).unwrap();
        let tear = |path: &Path| {
            fs::remove_dir_all(path.join(&engine_folder)).unwrap();
            fs::rename(&kept, path.join(&engine_folder)).unwrap();
            fs::write(watermark(path), &noted).unwrap();
            let last = segments(path).pop().unwrap();
            let bytes = fs::read(&last).unwrap();
            fs::write(&last, &bytes[..bytes.len() - 1]).unwrap();
        };
        let opened = opened.try_reopen_after(tear).unwrap();
        assert_eq!(contents(opened.store()), before);
        opened.store().commit(unit([append(b"next")])).unwrap();
        let opened = opened.reopen();
        assert_eq!(opened.store().head(), Position(101));
    }
}

#[test]
fn damage_in_an_earlier_segment_is_refused_with_its_place() {
    let opened = Opened::new(EngineKind::Redb);
    fill(opened.store(), 0..200);
    let damaged = segments(opened.directory())[1].clone();
    let middle = fs::metadata(&damaged).unwrap().len() / 2;
    let error = opened.try_reopen_after(|_| change_byte(&damaged, middle as usize)).err().unwrap();
    let OpenError::Damaged { path, offset, .. } = error else { panic!("{error}") };
    assert_eq!(path, damaged);
    assert!(offset <= middle && middle - offset < 30_000);
}

#[test]
fn damage_to_an_answered_unit_of_the_last_segment_is_refused() {
    let opened = Opened::new(EngineKind::Redb);
    fill(opened.store(), 0..20);
    let last = segments(opened.directory()).pop().unwrap();
    let error = opened.try_reopen_after(|_| change_byte(&last, 100)).err().unwrap();
    assert!(matches!(error, OpenError::Damaged { offset: 32, .. }), "{error}");
}

/// What is cut off first and refused then is gone: nothing is changed before the engine was asked.
#[test]
fn a_start_that_is_refused_changes_nothing() {
    for engine in ENGINES {
        let opened = Opened::new(engine);
        fill(opened.store(), 0..20);
        let directory = opened.directory().to_owned();
        let last = segments(&directory).pop().unwrap();
        let size_bytes = fs::metadata(&last).unwrap().len();
        let mut before = Vec::new();
        // As after a kill: the engine alone knows that the last unit was answered.
        let damage = |path: &Path| {
            fs::remove_file(watermark(path)).unwrap();
            change_byte(&last, size_bytes as usize - 1);
            before = bytes_in(&path.join("journal"));
        };
        let (error, _folder) = opened.refused_after(damage);
        let text = error.to_string();
        let OpenError::EngineAhead { applied: 20, journal: 19, segment, offset, path, .. } = error else {
            panic!("{text}")
        };
        assert_eq!((segment, path), (last.clone(), directory.join(format!("engine-{engine}"))));
        assert!(offset < size_bytes);
        assert_eq!(bytes_in(&directory.join("journal")), before);
        // Whoever has no backup puts the engine elsewhere, and goes on with what is left; the rest is kept.
        fs::rename(directory.join(format!("engine-{engine}")), directory.join("elsewhere")).unwrap();
        let store = kith_store::open(crate::support::config(&directory, engine)).unwrap();
        assert_eq!(store.status().units, 19);
        let name = format!("{}.{offset}.cut", last.file_name().unwrap().to_str().unwrap());
        assert_eq!(fs::read(last.with_file_name(name)).unwrap().len() as u64, size_bytes - offset);
    }
}

/// After a clean stop it is known without the engine how far the journal had come.
#[test]
fn a_journal_that_is_shorter_than_it_was_is_refused_without_an_engine_too() {
    let harms: [fn(&Path); 3] = [
        |last| change_byte(last, fs::metadata(last).unwrap().len() as usize - 1),
        |last| fs::write(last, &fs::read(last).unwrap()[..32]).unwrap(),
        |last| fs::remove_file(last).unwrap(),
    ];
    for harm in harms {
        let opened = Opened::new(EngineKind::Redb);
        fill(opened.store(), 0..200);
        let last = segments(opened.directory()).pop().unwrap();
        let mut before = Vec::new();
        let (error, folder) = opened.refused_after(|path| {
            fs::remove_dir_all(path.join("engine-redb")).unwrap();
            harm(&last);
            before = bytes_in(path);
        });
        assert!(error.to_string().contains(last.to_str().unwrap()), "{error}");
        assert_eq!(bytes_in(&folder.path().join("store")), before);
        assert!(!folder.path().join("store/engine-redb").exists(), "no engine is made for a journal that is refused");
    }
}

#[test]
fn a_directory_of_the_format_before_is_left_as_it_is_while_its_journal_is_damaged() {
    let opened = Opened::new(EngineKind::Redb);
    fill(opened.store(), 0..200);
    let first = segments(opened.directory()).remove(0);
    let mut before = Vec::new();
    let (error, folder) = opened.refused_after(|path| {
        fs::write(path.join("format"), "kith-store 3\n").unwrap();
        change_byte(&first, 100);
        before = bytes_in(path);
    });
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
    assert_eq!(bytes_in(&folder.path().join("store")), before);
}

#[test]
fn a_lost_format_is_told_and_no_store_made_over_what_is_there() {
    let opened = Opened::new(EngineKind::Redb);
    fill(opened.store(), 0..20);
    let mut before = Vec::new();
    let (error, folder) = opened.refused_after(|path| {
        fs::remove_file(path.join("format")).unwrap();
        before = bytes_in(path);
    });
    assert!(matches!(error, OpenError::FormatMissing { .. }), "{error}");
    assert_eq!(bytes_in(&folder.path().join("store")), before);
}

#[test]
fn missing_segments_are_noticed() {
    let lose = |which: fn(&[PathBuf]) -> Vec<PathBuf>| {
        let opened = Opened::new(EngineKind::Redb);
        fill(opened.store(), 0..200);
        let change = |path: &Path| {
            which(&segments(path)).iter().for_each(|path| fs::remove_file(path).unwrap());
        };
        opened.try_reopen_after(change).err().unwrap()
    };
    assert!(matches!(lose(|all| vec![all[0].clone()]), OpenError::MissingUnits { expected: 1, .. }));
    assert!(matches!(lose(|all| vec![all[1].clone()]), OpenError::MissingUnits { .. }));
    assert!(matches!(lose(|all| vec![all[all.len() - 1].clone()]), OpenError::SegmentMissing { .. }));
    assert!(matches!(lose(<[PathBuf]>::to_vec), OpenError::JournalMissing { .. }));
}
