//! Torn tails and damage, byte by byte, on the journal alone.

use std::fs;
use std::path::{Path, PathBuf};

use kith_model::id::WorkspaceId;

use super::record::{Effect, write_operation};
use super::*;

const SEGMENT_BYTES: u64 = 2_000;

fn operations(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let record = Value::from(vec![u8::try_from(number).unwrap(); 40]);
    write_operation(&mut bytes, &Effect::Append { workspace: WorkspaceId(1), record, row: None });
    bytes
}

/// Append groups of the given sizes to the journal in `directory`.
fn append(directory: &Path, groups: &[u64]) {
    let (journal, Reach { mut end, .. }) = open(directory, SEGMENT_BYTES).unwrap();
    for units in groups {
        let mut group = Group::default();
        let first = end.next_sequence;
        for _ in 0..*units {
            let place =
                Place { sequence: end.next_sequence, group: first, first_position: end.next_position, appended: 1 };
            group.push(place, &operations(end.next_sequence));
            end = End { next_sequence: place.sequence + 1, next_position: place.next_position() };
        }
        journal.append(&group);
    }
}

fn new(groups: &[u64]) -> tempfile::TempDir {
    let folder = tempfile::tempdir().unwrap();
    create(&folder.path().join("journal")).unwrap();
    append(&folder.path().join("journal"), groups);
    folder
}

/// The first records after a position.
fn changes(journal: &Journal, after: u64, records: usize) -> Vec<LogRecord> {
    let limits = ChangeLimits { records, bytes: usize::MAX };
    journal.changes(WorkspaceId(1), Position(after), Position(u64::MAX), limits).unwrap().records
}

fn units(directory: &Path) -> u64 {
    let (journal, Reach { end, .. }) = open(directory, SEGMENT_BYTES).unwrap();
    let mut next = 1;
    journal
        .replay(1, |_, record| {
            assert_eq!(record.place.sequence, next);
            next += 1;
            Ok(())
        })
        .unwrap();
    assert_eq!(next, end.next_sequence);
    let records = changes(&journal, 0, usize::MAX);
    assert!(records.iter().zip(1..).all(|(record, position)| record.position == Position(position)));
    assert_eq!(records.len() as u64, end.next_position - 1);
    end.next_sequence - 1
}

fn last_segment(directory: &Path) -> PathBuf {
    segment_paths(directory).unwrap().pop().unwrap()
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let folder = new(&[1, 2, 3]);
    let directory = folder.path().join("journal");
    let path = last_segment(&directory);
    let whole = fs::read(&path).unwrap();
    append(&directory, &[1]);
    let longer = fs::read(&path).unwrap();
    for length in whole.len()..longer.len() {
        fs::write(&path, &longer[..length]).unwrap();
        assert_eq!(units(&directory), 6, "cut at {length}");
        assert_eq!(fs::read(&path).unwrap(), whole);
        // The place of the torn unit is used again.
        append(&directory, &[1]);
        assert_eq!(units(&directory), 7);
    }
    for at in whole.len()..longer.len() {
        let mut changed = longer.clone();
        changed[at] ^= 1;
        fs::write(&path, &changed).unwrap();
        assert_eq!(units(&directory), 6, "byte {at} changed");
    }
}

#[test]
fn a_tail_with_holes_is_cut_off_at_the_first() {
    // Without the sync the disk may have kept later blocks of a group and not earlier ones.
    let folder = new(&[2, 4]);
    let directory = folder.path().join("journal");
    let path = last_segment(&directory);
    let mut bytes = fs::read(&path).unwrap();
    let record_bytes = record::record_bytes(&operations(1));
    let third = usize::try_from(segment::HEADER_BYTES).unwrap() + 2 * record_bytes;
    bytes[third..third + record_bytes].fill(0);
    fs::write(&path, &bytes).unwrap();
    assert_eq!(units(&directory), 2);
}

#[test]
fn damage_before_a_later_group_is_refused_at_any_byte() {
    let folder = new(&[2, 1]);
    let directory = folder.path().join("journal");
    let path = last_segment(&directory);
    let bytes = fs::read(&path).unwrap();
    let record_bytes = record::record_bytes(&operations(1));
    let header_bytes = usize::try_from(segment::HEADER_BYTES).unwrap();
    for at in 0..header_bytes + 2 * record_bytes {
        let mut changed = bytes.clone();
        changed[at] ^= 0x10;
        fs::write(&path, &changed).unwrap();
        let Err(error) = open(&directory, SEGMENT_BYTES) else { panic!("byte {at}") };
        let expected =
            if at < header_bytes { 0 } else { header_bytes + (at - header_bytes) / record_bytes * record_bytes };
        assert!(matches!(error, OpenError::Damaged { offset, .. } if offset == expected as u64), "byte {at}: {error}");
        assert_eq!(fs::read(&path).unwrap(), changed, "nothing was cut off");
    }
}

#[test]
fn segments_follow_each_other_and_reads_begin_anywhere() {
    let groups: Vec<u64> = (0..60).map(|number| number % 4 + 1).collect();
    let folder = new(&groups);
    let directory = folder.path().join("journal");
    let (journal, Reach { end, .. }) = open(&directory, SEGMENT_BYTES).unwrap();
    assert!(journal.size().0 > 5);
    let all = changes(&journal, 0, usize::MAX);
    assert_eq!(all.len() as u64, end.next_position - 1);
    for after in 0..end.next_position + 2 {
        let skipped = usize::try_from(after).unwrap().min(all.len());
        let expected = &all[skipped..all.len().min(skipped + 5)];
        assert_eq!(changes(&journal, after, 5), expected);
    }
}

#[test]
fn a_segment_whose_making_was_cut_short_is_removed() {
    for length in [0, 1, 31] {
        let folder = new(&[30]);
        let directory = folder.path().join("journal");
        let unborn = segment::path(&directory, 31);
        fs::write(&unborn, vec![0; length]).unwrap();
        assert_eq!(units(&directory), 30);
        assert!(!unborn.exists());
        append(&directory, &[1]);
        assert_eq!(units(&directory), 31);
    }
}

#[test]
fn a_unit_larger_than_a_segment_gets_one_of_its_own() {
    let folder = new(&[1]);
    let directory = folder.path().join("journal");
    append(&directory, &[100, 1]);
    assert_eq!(segment_paths(&directory).unwrap().len(), 3);
    assert_eq!(units(&directory), 102);
}

#[test]
fn a_segment_of_a_newer_release_is_refused() {
    let folder = new(&[1]);
    let path = last_segment(&folder.path().join("journal"));
    let mut bytes = fs::read(&path).unwrap();
    bytes[11] = 2;
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..32].copy_from_slice(&crc.to_be_bytes());
    fs::write(&path, bytes).unwrap();
    let error = open(&folder.path().join("journal"), SEGMENT_BYTES).err();
    assert!(matches!(error, Some(OpenError::UnknownFormat { .. })));
}
