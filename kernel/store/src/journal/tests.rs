//! Torn tails and damage, byte by byte, on the journal alone.

use std::fs;
use std::path::{Path, PathBuf};

use kith_model::id::WorkspaceId;

use super::record::{Effect, write_operation};
use super::recovery::segments_in;
use super::*;
use crate::files::steps;

const SEGMENT_BYTES: u64 = 2_000;

fn operations(number: u64) -> Vec<u8> {
    let mut bytes = Vec::new();
    let record = Value::from(vec![u8::try_from(number).unwrap(); 40]);
    write_operation(&mut bytes, &Effect::Append { workspace: WorkspaceId(1), record, row: None });
    bytes
}

/// Look at the journal in `directory`, and go on with what is found.
fn open(directory: &Path, segment_bytes: u64) -> Result<(Journal, Reach), OpenError> {
    survey(directory)?.mend(segment_bytes)
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
            let checksum = group.push(place, &operations(end.next_sequence));
            end = end.after(place, checksum);
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
    segments_in(directory).unwrap().pop().unwrap().path
}

/// What is in the files of `directory`, by their names.
fn files_in(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let entries = fs::read_dir(directory).unwrap().map(|entry| entry.unwrap());
    let mut files: Vec<(String, Vec<u8>)> =
        entries.map(|entry| (entry.file_name().into_string().unwrap(), fs::read(entry.path()).unwrap())).collect();
    files.sort();
    files
}

/// What was cut off the journal in `directory`, by the names under which it is kept.
fn kept_in(directory: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = files_in(directory);
    files.retain(|(name, _)| name.ends_with(".cut"));
    files
}

#[test]
fn a_tail_torn_at_any_byte_is_cut_off() {
    let folder = new(&[1, 2, 3]);
    let directory = folder.path().join("journal");
    let path = last_segment(&directory);
    let whole = fs::read(&path).unwrap();
    append(&directory, &[1]);
    let watermark = fs::read(directory.join("watermark")).unwrap();
    let longer = fs::read(&path).unwrap();
    for length in whole.len()..longer.len() {
        fs::write(&path, &longer[..length]).unwrap();
        // As it was when the unit was torn.
        fs::write(directory.join("watermark"), &watermark).unwrap();
        assert_eq!(units(&directory), 6, "cut at {length}");
        assert_eq!(fs::read(&path).unwrap(), whole);
        // The place of the torn unit is used again.
        append(&directory, &[1]);
        assert_eq!(units(&directory), 7);
    }
    fs::write(directory.join("watermark"), &watermark).unwrap();
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
fn a_segment_whose_making_was_cut_short_is_set_aside() {
    for length in [0, 1, 31] {
        let folder = new(&[30]);
        let directory = folder.path().join("journal");
        let unborn = segment::path(&directory, 31);
        fs::write(&unborn, vec![0; length]).unwrap();
        assert_eq!(units(&directory), 30);
        assert!(!unborn.exists());
        let kept = kept_in(&directory);
        let expected = (format!("{:020}.journal.0.cut", 31), vec![0; length]);
        assert_eq!(kept, if length == 0 { vec![] } else { vec![expected] });
        append(&directory, &[1]);
        assert_eq!(units(&directory), 31);
    }
}

#[test]
fn a_unit_larger_than_a_segment_gets_one_of_its_own() {
    let folder = new(&[1]);
    let directory = folder.path().join("journal");
    append(&directory, &[100, 1]);
    assert_eq!(segments_in(&directory).unwrap().len(), 3);
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

#[test]
fn what_is_cut_off_is_kept_under_the_place_where_it_was() {
    let folder = new(&[2]);
    let directory = folder.path().join("journal");
    let path = last_segment(&directory);
    let whole = fs::read(&path).unwrap();
    let name = path.file_name().unwrap().to_str().unwrap();
    let mut expected = Vec::new();
    for (suffix, tail) in [("", b"torn".as_slice()), (".2", b"again".as_slice())] {
        fs::write(&path, [whole.as_slice(), tail].concat()).unwrap();
        assert_eq!(units(&directory), 2);
        assert_eq!(fs::read(&path).unwrap(), whole);
        expected.push((format!("{name}.{}{suffix}.cut", whole.len()), tail.to_vec()));
        expected.sort();
        assert_eq!(kept_in(&directory), expected);
    }
}

/// The system may have it in memory alone, and after a sync that failed no later one writes it.
#[test]
fn what_is_adopted_is_written_and_synced_before_it_counts() {
    let folder = new(&[3, 2]);
    let directory = folder.path().join("journal");
    let path = last_segment(&directory);
    let segment = path.file_name().unwrap().to_str().unwrap();
    let bytes = fs::read(&path).unwrap();
    let (opened, taken) = steps::of(|| open(&directory, SEGMENT_BYTES));
    let (_, reach) = opened.unwrap();
    assert_eq!(reach.end.next_sequence, 6);
    let written = format!("write {segment}");
    let synced = format!("sync {segment}");
    let marked = ["create watermark.new", "sync watermark.new", "rename watermark", "sync journal"];
    let adopted = [written.as_str(), written.as_str(), synced.as_str(), "sync journal"];
    assert_eq!(taken, [adopted, marked].concat());
    assert_eq!(fs::read(&path).unwrap(), bytes);
    // What the watermark knows to be on disk need not be written again.
    let (opened, taken) = steps::of(|| open(&directory, SEGMENT_BYTES));
    assert!(opened.is_ok());
    assert_eq!(taken, [""; 0]);
}

/// A full disk, or one that fails, while a torn tail is cut off: the start is refused or the journal is whole, and another
/// start goes on.
#[test]
fn a_step_that_fails_loses_nothing() {
    for code in [rustix::io::Errno::NOSPC, rustix::io::Errno::IO].map(rustix::io::Errno::raw_os_error) {
        let mut refused = 0;
        for number in 0.. {
            let folder = new(&[3, 2]);
            let directory = folder.path().join("journal");
            let path = last_segment(&directory);
            let whole = fs::read(&path).unwrap();
            fs::write(&path, [whole.as_slice(), b"torn"].concat()).unwrap();
            let before = files_in(&directory);
            let Some(opened) = steps::failing(number, code, || open(&directory, SEGMENT_BYTES)) else { break };
            if number < 2 {
                assert_eq!(files_in(&directory), before, "what cannot be kept is not cut off");
            }
            match opened {
                Err(OpenError::Io { source, .. }) => {
                    assert_eq!(source.raw_os_error(), Some(code));
                    refused += 1;
                }
                Err(error) => panic!("{error}"),
                Ok((_, reach)) => {
                    assert_eq!(reach.end.next_sequence, 6, "a watermark that is not written is not missed")
                }
            }
            assert_eq!(units(&directory), 5);
            assert_eq!(fs::read(&path).unwrap(), whole);
            assert!(kept_in(&directory).iter().all(|(_, bytes)| bytes == b"torn"));
            assert!(!kept_in(&directory).is_empty());
        }
        // The copy and its sync, the folder's, the cut and its sync, header, group, and their syncs.
        assert_eq!(refused, 9);
    }
}

#[test]
fn nothing_is_changed_before_all_was_looked_at() {
    let folder = new(&[30, 1, 1, 30, 1]);
    let directory = folder.path().join("journal");
    let paths: Vec<PathBuf> = segments_in(&directory).unwrap().into_iter().map(|named| named.path).collect();
    assert_eq!(paths.len(), 4);
    let unborn = segment::path(&directory, 64);
    let healthy: Vec<Vec<u8>> = paths.iter().map(|path| fs::read(path).unwrap()).collect();
    for torn in [&paths[3], &unborn] {
        for damaged in &paths[..2] {
            for (path, bytes) in paths.iter().zip(&healthy) {
                fs::write(path, bytes).unwrap();
            }
            fs::remove_file(&unborn).ok();
            let mut bytes = fs::read(damaged).unwrap();
            bytes[100] ^= 1;
            fs::write(damaged, bytes).unwrap();
            let tail = [fs::read(torn).unwrap_or_default().as_slice(), b"torn"].concat();
            fs::write(torn, tail).unwrap();
            let before = files_in(&directory);
            let (opened, taken) = steps::of(|| open(&directory, SEGMENT_BYTES));
            let Err(OpenError::Damaged { path, offset, .. }) = opened else { panic!("it was taken") };
            assert_eq!((&path, offset), (damaged, segment::HEADER_BYTES));
            assert_eq!(taken, [""; 0]);
            assert_eq!(files_in(&directory), before);
        }
    }
}

/// A segment is begun when all before it is synced: a flaw there is no torn tail, whatever was to come next.
#[test]
fn a_flaw_before_a_segment_that_was_being_made_is_damage() {
    let folder = new(&[30]);
    let directory = folder.path().join("journal");
    let path = last_segment(&directory);
    let mut bytes = fs::read(&path).unwrap();
    *bytes.last_mut().unwrap() ^= 1;
    fs::write(&path, &bytes).unwrap();
    fs::write(segment::path(&directory, 31), b"kith").unwrap();
    let before = files_in(&directory);
    assert!(matches!(open(&directory, SEGMENT_BYTES), Err(OpenError::Damaged { .. })));
    assert_eq!(files_in(&directory), before);
}

#[test]
fn units_that_had_been_on_disk_are_missed() {
    let folder = new(&[30, 2]);
    let directory = folder.path().join("journal");
    let path = last_segment(&directory);
    assert_eq!(path, segment::path(&directory, 31));
    open(&directory, SEGMENT_BYTES).unwrap();
    let bytes = fs::read(&path).unwrap();
    let record_bytes = record::record_bytes(&operations(1));
    // Torn in the last group, and cut where its first unit ends.
    for length in [bytes.len() - 1, bytes.len() - record_bytes] {
        fs::write(&path, &bytes[..length]).unwrap();
        let Err(OpenError::Damaged { path: found, offset, problem }) = open(&directory, SEGMENT_BYTES) else {
            panic!()
        };
        assert_eq!((found, offset), (path.clone(), segment::HEADER_BYTES + record_bytes as u64));
        assert!(problem.ends_with("with unit 31, but unit 32 had been on disk"), "{problem}");
    }
    // The header alone is cut off: it had been begun.
    fs::write(&path, &bytes[..7]).unwrap();
    assert!(matches!(open(&directory, SEGMENT_BYTES), Err(OpenError::Damaged { offset: 0, .. })));
    fs::remove_file(&path).unwrap();
    let error = open(&directory, SEGMENT_BYTES).err();
    assert!(matches!(error, Some(OpenError::SegmentMissing { path: missing }) if missing == path));
}

#[test]
fn a_watermark_that_cannot_be_read_is_made_again() {
    let folder = new(&[2]);
    let directory = folder.path().join("journal");
    open(&directory, SEGMENT_BYTES).unwrap();
    let healthy = fs::read(directory.join("watermark")).unwrap();
    for damaged in [b"".as_slice(), &healthy[..31], &[0; 32]] {
        fs::write(directory.join("watermark"), damaged).unwrap();
        assert_eq!(units(&directory), 2);
        assert_eq!(fs::read(directory.join("watermark")).unwrap(), healthy);
    }
}

#[test]
fn files_that_are_no_segments_by_their_names_are_left_alone() {
    let folder = new(&[2]);
    let directory = folder.path().join("journal");
    let names = ["junk.journal", "99.journal", "backup of last.journal", "00000000000000000003.journal.1.cut"];
    for name in names {
        fs::write(directory.join(name), b"12345").unwrap();
    }
    assert_eq!(units(&directory), 2);
    assert!(names.iter().all(|name| fs::read(directory.join(name)).unwrap() == b"12345"));
    // By its name a segment, but not the next one.
    let foreign = segment::path(&directory, 9);
    fs::write(&foreign, b"12345").unwrap();
    let error = open(&directory, SEGMENT_BYTES).err();
    assert!(matches!(error, Some(OpenError::MissingUnits { path, expected: 3, found: 9 }) if path == foreign));
    fs::rename(segment::path(&directory, 1), segment::path(&directory, 2)).unwrap();
    let error = open(&directory, SEGMENT_BYTES).err();
    assert!(matches!(error, Some(OpenError::Damaged { offset: 12, .. })), "{error:?}");
}

#[test]
fn a_fingerprint_tells_how_many_units_of_which_history() {
    let groups: Vec<u64> = (0..40).map(|number| number % 4 + 1).collect();
    let (one, same, other) = (new(&groups), new(&groups), new(&[vec![2], groups.clone()].concat()));
    let surveys = [&one, &same, &other].map(|folder| survey(&folder.path().join("journal")).unwrap());
    let all = surveys.each_ref().map(|survey| {
        let fingerprints = (0..=survey.units()).map(|units| survey.fingerprint_at(units).unwrap());
        fingerprints.collect::<Vec<u64>>()
    });
    assert!(surveys[0].end().0 > segment::path(&one.path().join("journal"), 1), "there are several segments");
    assert_eq!(all[0], all[1]);
    assert_eq!((all[0][0], all[0].last().copied()), (0, Some(surveys[0].reach.end.fingerprint)));
    let distinct: std::collections::BTreeSet<u64> = all[0].iter().copied().collect();
    assert_eq!(distinct.len(), all[0].len());
    // Both begin with the same unit; behind it no fingerprint is the same again, though most units do the same.
    let equal = all[0].iter().zip(&all[2]).skip(1).filter(|(one, other)| one == other).count();
    assert_eq!(equal, 1);
}
