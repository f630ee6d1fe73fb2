//! The journal: every unit that was ever committed, in order, in append-only files. It is the truth; an engine holds a view.
//!
//! Appending is for the one writer thread, reading for all. What an operation means is left to `embedded`; which units are
//! committed together as well. FORMAT.md has the bytes.

use std::fs::{self, File};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use kith_model::id::{Position, WorkspaceId};
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;
use xxhash_rust::xxh3::xxh3_64_with_seed;

use crate::{ChangeLimits, Changes, LogRecord, OpenError, ReadError, Value};

pub(crate) mod record;
mod recovery;
mod segment;
pub(crate) mod tail;
mod watermark;

use record::{Operation, Place, Record};
pub(crate) use recovery::{Reach, Survey, survey};
use segment::{Mark, Reader, SegmentError};
use tail::Taking;
use watermark::Watermark;

/// How far marks of one segment are apart: a read skips at most this much, and a full segment's marks take 12 KiB.
const MARK_EVERY_BYTES: u64 = 128 * 1024;

/// How many segments are kept open for reading single records: a process may have some thousand files open, and the journal
/// grows without end.
const MAX_OPEN: usize = 128;

/// How much of the log one call of [`Journal::changes`] looks through, so that a workspace that is far behind keeps neither
/// its caller nor the disk for long.
const MAX_LOOK_BYTES: usize = 64 << 20;
const MAX_LOOK_RECORDS: u64 = 100_000;

/// Where bytes lie in the journal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Spot {
    /// The first unit of the segment.
    pub(crate) segment: u64,
    /// From the beginning of the segment's file.
    pub(crate) offset: u64,
}

impl Spot {
    /// The spot so many bytes further on.
    pub(crate) fn plus(self, bytes: usize) -> Spot {
        Spot { offset: self.offset + bytes as u64, ..self }
    }
}

/// One file and the places in it from which it can be read.
#[derive(Debug)]
struct Segment {
    path: PathBuf,
    /// The bytes that are synced.
    size_bytes: u64,
    marks: Vec<Mark>,
}

impl Segment {
    fn add_mark(&mut self, mark: Mark) {
        if self.marks.last().is_none_or(|last| mark.offset >= last.offset + MARK_EVERY_BYTES) {
            self.marks.push(mark);
        }
    }

    fn first(&self) -> Mark {
        self.marks[0]
    }
}

/// A part of a segment that is to be read, up to what is synced of it.
struct Stretch {
    path: PathBuf,
    begin: Spot,
    end: u64,
}

/// The journal of one directory.
pub(crate) struct Journal {
    directory: PathBuf,
    segment_bytes: u64,
    segments: RwLock<Vec<Segment>>,
    active: Mutex<File>,
    /// Segments that single records were read from, by their first units: to open one for each record would cost more than to
    /// read it.
    open: Cache<u64, Arc<File>>,
}

/// Where the journal ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct End {
    pub(crate) next_sequence: u64,
    pub(crate) next_position: u64,
    /// Of all units before it.
    pub(crate) fingerprint: u64,
}

impl End {
    /// The end of a journal without units.
    pub(crate) const START: End = End { next_sequence: 1, next_position: 1, fingerprint: 0 };

    /// The end behind the unit at `place`, whose record has this checksum.
    pub(crate) fn after(self, place: Place, checksum: u32) -> End {
        End {
            next_sequence: place.sequence + 1,
            next_position: place.next_position(),
            fingerprint: fingerprint(self.fingerprint, checksum),
        }
    }
}

/// The fingerprint of a run of units and of the one behind it, whose record has this checksum. It tells a journal from another
/// with as many units.
fn fingerprint(before: u64, checksum: u32) -> u64 {
    xxh3_64_with_seed(&checksum.to_be_bytes(), before)
}

/// The bytes of units that are to be written and synced together.
#[derive(Debug, Default)]
pub(crate) struct Group {
    pub(crate) bytes: Vec<u8>,
    places: Vec<(Place, u64)>,
}

impl Group {
    /// Add one unit; the checksum of its record.
    pub(crate) fn push(&mut self, place: Place, operations: &[u8]) -> u32 {
        self.places.push((place, self.bytes.len() as u64));
        record::write_record(&mut self.bytes, place, operations)
    }

    /// The number of units.
    pub(crate) fn units(&self) -> usize {
        self.places.len()
    }
}

fn io(path: &Path, doing: &str) -> impl FnOnce(std::io::Error) -> OpenError {
    let what = format!("{doing} {}", path.display());
    move |source| OpenError::Io { what, source }
}

fn open_error(path: &Path, error: SegmentError) -> OpenError {
    match error {
        SegmentError::Io(source) => io(path, "reading")(source),
        SegmentError::Damaged { offset, problem } => OpenError::Damaged { path: path.to_owned(), offset, problem },
        SegmentError::Version(found) => {
            OpenError::UnknownFormat { path: path.to_owned(), found: format!("segment version {found}") }
        }
    }
}

fn read_error(path: &Path, error: SegmentError) -> ReadError {
    let what = path.display().to_string();
    match error {
        SegmentError::Io(source) => ReadError::Io { what, source: Arc::new(source) },
        SegmentError::Damaged { offset, problem } => {
            ReadError::Corrupt { what: format!("{what} at {offset}"), problem, row: None }
        }
        SegmentError::Version(found) => {
            ReadError::Corrupt { what, problem: format!("segment version {found} is unknown"), row: None }
        }
    }
}

/// What the disk holds after a failed write or sync is unknown, and so is whether the next sync would tell: only a new start,
/// which reads the files again, is safe.
fn stop(doing: &str, path: &Path, error: &std::io::Error) -> ! {
    tracing::error!(doing, path = %path.display(), %error, "the journal could not be written; the process stops");
    std::process::abort()
}

/// Make the journal of a new directory: its first, empty segment.
pub(crate) fn create(directory: &Path) -> Result<(), OpenError> {
    let made = fs::create_dir(directory);
    if made.as_ref().is_err_and(|error| error.kind() != std::io::ErrorKind::AlreadyExists) {
        made.map_err(io(directory, "creating"))?;
    }
    // A crash before the directory's format was written leaves an empty segment behind; nothing was committed to it.
    let first = Mark { sequence: 1, first_position: 1, offset: segment::HEADER_BYTES };
    let left_over = segment::path(directory, first.sequence);
    if fs::metadata(&left_over).is_ok_and(|metadata| metadata.len() <= segment::HEADER_BYTES) {
        fs::remove_file(&left_over).map_err(io(&left_over, "removing"))?;
    }
    segment::create(directory, first).map(drop).map_err(io(&left_over, "creating"))
}

/// Whether a journal in `directory` holds more than the empty segment that [`create`] makes.
pub(crate) fn holds_units(directory: &Path) -> Result<bool, OpenError> {
    for named in recovery::segments_in(directory)? {
        let metadata = fs::metadata(&named.path).map_err(io(&named.path, "reading"))?;
        if metadata.len() > segment::HEADER_BYTES {
            return Ok(true);
        }
    }
    Ok(false)
}

impl Journal {
    /// Write and sync a group; where its bytes begin. It is durable on return; where that cannot be had the process stops.
    pub(crate) fn append(&self, group: &Group) -> Option<Spot> {
        let (first, _) = group.places.first()?;
        let mut active = self.active.lock();
        let group_bytes = group.bytes.len() as u64;
        let (path, size_bytes) = {
            let segments = self.segments.read();
            let last = segments.last().expect("a journal has a segment from its creation on");
            (last.path.clone(), last.size_bytes)
        };
        if size_bytes > segment::HEADER_BYTES && size_bytes + group_bytes > self.segment_bytes {
            *active = self.start_segment(*first);
        }
        let written = active.write_all(&group.bytes).and_then(|()| active.sync_data());
        if let Err(error) = written {
            stop("writing", &path, &error);
        }
        let mut segments = self.segments.write();
        let last = segments.last_mut().expect("a journal has a segment from its creation on");
        for (place, offset) in &group.places {
            last.add_mark(segment::mark(*place, last.size_bytes + offset));
        }
        let begin = Spot { segment: last.first().sequence, offset: last.size_bytes };
        last.size_bytes += group_bytes;
        Some(begin)
    }

    /// The `size_bytes` bytes at `spot`, as they are.
    pub(crate) fn read(&self, spot: Spot, size_bytes: usize) -> std::io::Result<Value> {
        let open = || File::open(segment::path(&self.directory, spot.segment)).map(Arc::new);
        let file = self.open.get_or_insert_with(&spot.segment, open)?;
        let mut bytes = vec![0; size_bytes];
        file.read_exact_at(&mut bytes, spot.offset)?;
        Ok(Value::from(bytes))
    }

    fn start_segment(&self, first: Place) -> File {
        let mark = segment::mark(first, segment::HEADER_BYTES);
        let path = segment::path(&self.directory, first.sequence);
        match segment::create(&self.directory, mark) {
            Ok(mut file) => {
                let end = std::io::Seek::seek(&mut file, std::io::SeekFrom::Start(segment::HEADER_BYTES));
                if let Err(error) = end {
                    stop("starting", &path, &error);
                }
                self.segments.write().push(Segment { path, size_bytes: segment::HEADER_BYTES, marks: vec![mark] });
                self.note(first.sequence - 1);
                file
            }
            Err(error) => stop("starting", &path, &error),
        }
    }

    /// Move the watermark: the units up to `units` are on disk, which are all that were appended.
    pub(crate) fn note(&self, units: u64) {
        let segment = self.segments.read().last().map(|segment| segment.first().sequence);
        if let Some(segment) = segment {
            watermark::write(&self.directory, Watermark { segment, units });
        }
    }

    /// The segments that hold units from the one on that `is_before` is first false for, each with the place to read from.
    fn from(&self, is_before: impl Fn(&Mark) -> bool) -> Vec<Stretch> {
        let segments = self.segments.read();
        let first = segments.partition_point(|segment| is_before(&segment.first())).saturating_sub(1);
        let stretches = segments[first..].iter().enumerate().map(|(index, segment)| {
            let mark = segment.marks.partition_point(&is_before).saturating_sub(1);
            let offset = if index == 0 { segment.marks[mark].offset } else { segment::HEADER_BYTES };
            Stretch {
                path: segment.path.clone(),
                begin: Spot { segment: segment.first().sequence, offset },
                end: segment.size_bytes,
            }
        });
        stretches.collect()
    }

    /// Hand `visit` every record of `stretches`, and where it begins, until it returns false.
    fn visit(
        stretches: &[Stretch],
        mut visit: impl FnMut(Spot, &Record<'_>) -> Result<bool, &'static str>,
    ) -> Result<(), ReadError> {
        for Stretch { path, begin, end } in stretches {
            let file = File::open(path).map_err(|error| read_error(path, SegmentError::Io(error)))?;
            let mut reader = Reader::new(&file, begin.offset, *end);
            loop {
                let offset = reader.offset();
                let Some(record) = reader.next().map_err(|error| read_error(path, error))? else { break };
                let damaged = |problem: &str| SegmentError::Damaged { offset, problem: problem.to_owned() };
                let spot = Spot { offset, ..*begin };
                if !visit(spot, &record).map_err(|problem| read_error(path, damaged(problem)))? {
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    /// Hand `apply` every unit from number `sequence` on, and where its record begins.
    pub(crate) fn replay(
        &self,
        sequence: u64,
        mut apply: impl FnMut(Spot, &Record<'_>) -> Result<(), &'static str>,
    ) -> Result<(), ReadError> {
        let stretches = self.from(|mark| mark.sequence <= sequence);
        Journal::visit(&stretches, |spot, record| {
            if record.place.sequence >= sequence {
                apply(spot, record)?;
            }
            Ok(true)
        })
    }

    /// The log records of a workspace after `after`, from the files. The look ends at `newest`, which is the position of the
    /// workspace's newest record, and when it has come through [`MAX_LOOK_BYTES`] or [`MAX_LOOK_RECORDS`]; the caller goes on
    /// from where it ended.
    pub(crate) fn changes(
        &self,
        workspace: WorkspaceId,
        after: Position,
        newest: Position,
        limits: ChangeLimits,
    ) -> Result<Changes, ReadError> {
        let mut taking = Taking::new(limits);
        let wanted = after.0.saturating_add(1);
        let mut up_to = after.0;
        let mut looked_bytes = 0;
        let stretches = self.from(|mark| mark.first_position <= wanted);
        Journal::visit(&stretches, |_, record| {
            looked_bytes += record.size_bytes;
            let mut position = record.place.first_position;
            if record.place.next_position() > wanted {
                for operation in record.operations() {
                    let Operation::Append { workspace: owner, record, .. } = operation? else { continue };
                    if owner == workspace && position >= wanted {
                        if !taking.has_room(record.len()) {
                            return Ok(false);
                        }
                        let bytes = Value::from(record);
                        taking.push(LogRecord { position: Position(position), workspace, bytes });
                    }
                    up_to = up_to.max(position);
                    position += 1;
                }
            }
            // A look that passes no position would be repeated without end. That it passes one within the bound follows from
            // the marks; the condition does not rely on it.
            let within_bound = looked_bytes < MAX_LOOK_BYTES && up_to - after.0 < MAX_LOOK_RECORDS;
            Ok(up_to < newest.0 && (within_bound || up_to == after.0))
        })?;
        Ok(Changes { records: taking.records, up_to: Position(up_to) })
    }

    /// The number of segments and their bytes.
    pub(crate) fn size(&self) -> (usize, u64) {
        let segments = self.segments.read();
        (segments.len(), segments.iter().map(|segment| segment.size_bytes).sum())
    }
}

#[cfg(test)]
mod tests;
