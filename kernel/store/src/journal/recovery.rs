//! A start of the journal, in two halves: the survey reads all of its files and changes nothing, so that whoever opens the
//! store can look at the engine too and refuse; mending then cuts off what was never answered, and makes durable what is
//! adopted. In one half, a start that ended in a refusal had cut the only copy first.

use std::fs::{self, File, OpenOptions};
use std::io::{ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use kith_model::id::Position;
use parking_lot::{Mutex, RwLock};
use quick_cache::sync::Cache;

use super::record::{self, Operation, Record};
use super::segment::{self, Reader, SegmentError};
use super::tail::Heads;
use super::watermark::{self, Watermark};
use super::{End, Journal, MAX_OPEN, Segment, io, open_error};
use crate::{OpenError, files};

/// How far an opened journal reaches.
#[derive(Debug)]
pub(crate) struct Reach {
    pub(crate) end: End,
    pub(crate) heads: Heads,
}

impl Reach {
    /// Move past the unit of `record`, which stands at the end.
    fn take(&mut self, record: &Record<'_>) -> Result<(), &'static str> {
        let place = record.place;
        if place.appended > 0 {
            let mut position = place.first_position;
            for operation in record.operations() {
                let Operation::Append { workspace, .. } = operation? else { continue };
                self.heads.insert(workspace, Position(position));
                position += 1;
            }
        }
        self.end = self.end.after(place, record.checksum);
        Ok(())
    }
}

/// A file that is a segment by its name.
#[derive(Debug)]
pub(crate) struct NamedSegment {
    first: u64,
    pub(crate) path: PathBuf,
}

/// What lies behind the last whole unit of the last segment.
#[derive(Debug)]
struct TornTail {
    offset: u64,
    size_bytes: u64,
    problem: String,
}

/// What the files of a journal hold, every record of them checked.
#[derive(Debug)]
pub(crate) struct Survey {
    directory: PathBuf,
    /// At least one; the last without its torn tail.
    segments: Vec<Segment>,
    /// For each segment the fingerprint of the units before it.
    fingerprints: Vec<u64>,
    pub(crate) reach: Reach,
    /// Where the last segment's last group begins; the end of its header where it has none.
    last_group: u64,
    torn: Option<TornTail>,
    /// A file that was to be the next segment when the process stopped. It never held a unit.
    unborn: Option<NamedSegment>,
    watermark: Option<Watermark>,
}

/// The segments in `directory`, in their order. Other files, whatever their names end with, are somebody else's.
pub(crate) fn segments_in(directory: &Path) -> Result<Vec<NamedSegment>, OpenError> {
    let entries = match fs::read_dir(directory) {
        Err(error) if error.kind() == ErrorKind::NotFound => return Ok(Vec::new()),
        entries => entries.map_err(io(directory, "listing"))?,
    };
    let mut segments = Vec::new();
    for entry in entries {
        let path = entry.map_err(io(directory, "listing"))?.path();
        let name = path.file_name().and_then(|name| name.to_str()).and_then(|name| name.strip_suffix(".journal"));
        let Some(name) = name else { continue };
        match name.parse::<u64>() {
            Ok(first) if segment::path(directory, first) == path => segments.push(NamedSegment { first, path }),
            _ => {
                tracing::warn!(path = %path.display(), "a file in the journal's folder is no segment by its name; it is left alone")
            }
        }
    }
    segments.sort_by_key(|segment| segment.first);
    Ok(segments)
}

/// Take the last of `segments` out where a crash came while it was made: it has no whole header, and was not begun yet as far
/// as the watermark knows.
fn take_unborn(
    segments: &mut Vec<NamedSegment>,
    watermark: Option<Watermark>,
) -> Result<Option<NamedSegment>, OpenError> {
    let [_, .., last] = segments.as_slice() else { return Ok(None) };
    let path = &last.path;
    let file = File::open(path).map_err(io(path, "opening"))?;
    let size_bytes = file.metadata().map_err(io(path, "reading"))?.len();
    let is_unborn = size_bytes <= segment::HEADER_BYTES
        && watermark.is_none_or(|watermark| watermark.segment < last.first)
        && matches!(segment::read_header(&file), Err(SegmentError::Damaged { .. }));
    Ok(if is_unborn { segments.pop() } else { None })
}

/// Look at the journal in `directory`: every record of every segment is checked, and nothing is changed.
pub(crate) fn survey(directory: &Path) -> Result<Survey, OpenError> {
    let watermark = watermark::read(directory).map_err(io(directory, "reading the watermark of"))?;
    let mut named = segments_in(directory)?;
    let unborn = take_unborn(&mut named, watermark)?;
    let mut survey = Survey {
        directory: directory.to_owned(),
        segments: Vec::with_capacity(named.len()),
        fingerprints: Vec::with_capacity(named.len()),
        reach: Reach { end: End::START, heads: Heads::new() },
        last_group: segment::HEADER_BYTES,
        torn: None,
        unborn,
        watermark,
    };
    let Some((last, others)) = named.split_last() else {
        return Err(OpenError::JournalMissing { path: directory.to_owned() });
    };
    for segment in others {
        survey.check(segment, Role::Earlier)?;
    }
    // A segment is begun when all units before it are synced, so that one that was to be begun ends what can be torn.
    let role = if survey.unborn.is_some() { Role::Earlier } else { Role::Last };
    survey.check(last, role)?;
    survey.check_end()?;
    Ok(survey)
}

/// Whether a segment may end in units that were never answered.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Role {
    Earlier,
    Last,
}

impl Survey {
    /// Check a segment, which must go on where the ones before it end, and move past it.
    fn check(&mut self, named: &NamedSegment, role: Role) -> Result<(), OpenError> {
        let path = &named.path;
        let file = File::open(path).map_err(io(path, "opening"))?;
        let size_bytes = file.metadata().map_err(io(path, "reading"))?.len();
        let first = segment::read_header(&file).map_err(|error| open_error(path, error))?;
        let end = self.reach.end;
        if first.sequence != named.first {
            let problem = format!("it begins with unit {}, which is not the one in its name", first.sequence);
            return Err(OpenError::Damaged { path: path.clone(), offset: 12, problem });
        }
        if first.sequence != end.next_sequence || first.first_position != end.next_position {
            let (path, expected, found) = (path.clone(), end.next_sequence, first.sequence);
            return Err(OpenError::MissingUnits { path, expected, found });
        }
        let mut segment = Segment { path: path.clone(), size_bytes, marks: vec![first] };
        self.fingerprints.push(end.fingerprint);
        self.last_group = segment::HEADER_BYTES;
        let mut reader = Reader::new(&file, segment::HEADER_BYTES, size_bytes);
        loop {
            let offset = reader.offset();
            let damaged = |problem: String| OpenError::Damaged { path: path.clone(), offset, problem };
            let problem = match reader.next() {
                Ok(None) => break,
                Ok(Some(record)) => {
                    let (place, end) = (record.place, self.reach.end);
                    if place.sequence == end.next_sequence && place.first_position == end.next_position {
                        // Its checksum holds, so that this is no torn tail but a unit of a release that knows more operations.
                        self.reach.take(&record).map_err(|problem| damaged(problem.to_owned()))?;
                        segment.add_mark(segment::mark(place, offset));
                        if place.group == place.sequence {
                            self.last_group = offset;
                        }
                        continue;
                    }
                    "the record is out of order".to_owned()
                }
                Err(SegmentError::Damaged { problem, .. }) => problem,
                Err(error) => return Err(open_error(path, error)),
            };
            let sequence = self.reach.end.next_sequence;
            let is_torn = role == Role::Last
                && !segment::has_later_group(&file, offset, size_bytes, sequence).map_err(io(path, "reading"))?;
            if !is_torn {
                return Err(damaged(problem));
            }
            self.torn = Some(TornTail { offset, size_bytes: size_bytes - offset, problem });
            segment.size_bytes = offset;
            break;
        }
        self.segments.push(segment);
        Ok(())
    }

    /// Insist that all is there that the watermark knows to have been synced.
    fn check_end(&self) -> Result<(), OpenError> {
        let last = self.last();
        if let Some(NamedSegment { first, path }) = &self.unborn
            && *first != self.reach.end.next_sequence
        {
            let expected = self.reach.end.next_sequence;
            return Err(OpenError::MissingUnits { path: path.clone(), expected, found: *first });
        }
        let Some(watermark) = self.watermark else { return Ok(()) };
        if last.first().sequence < watermark.segment {
            return Err(OpenError::SegmentMissing { path: segment::path(&self.directory, watermark.segment) });
        }
        let units = self.units();
        if units < watermark.units {
            let problem = self.torn.as_ref().map_or("the segment ends here", |torn| torn.problem.as_str());
            let problem = format!("{problem}, with unit {units}, but unit {} had been on disk", watermark.units);
            return Err(OpenError::Damaged { path: last.path.clone(), offset: last.size_bytes, problem });
        }
        Ok(())
    }

    fn last(&self) -> &Segment {
        self.segments.last().expect("a journal without a segment has no survey")
    }

    /// The number of units.
    pub(crate) fn units(&self) -> u64 {
        self.reach.end.next_sequence - 1
    }

    /// The last segment, and where in it the last unit ends.
    pub(crate) fn end(&self) -> (PathBuf, u64) {
        (self.last().path.clone(), self.last().size_bytes)
    }

    /// The fingerprint of the units up to `sequence`, which the journal holds.
    pub(crate) fn fingerprint_at(&self, sequence: u64) -> Result<u64, OpenError> {
        if sequence >= self.units() {
            return Ok(self.reach.end.fingerprint);
        }
        let behind = self.segments.partition_point(|segment| segment.first().sequence <= sequence);
        // Unit 0 is before the first.
        let Some(index) = behind.checked_sub(1) else { return Ok(End::START.fingerprint) };
        let (segment, mut fingerprint) = (&self.segments[index], self.fingerprints[index]);
        let file = File::open(&segment.path).map_err(io(&segment.path, "opening"))?;
        let mut reader = Reader::new(&file, segment::HEADER_BYTES, segment.size_bytes);
        while let Some(record) = reader.next().map_err(|error| open_error(&segment.path, error))? {
            fingerprint = super::fingerprint(fingerprint, record.checksum);
            if record.place.sequence == sequence {
                break;
            }
        }
        Ok(fingerprint)
    }

    /// Go on with what was found: cut off the rest, which is kept beside the segment, and bring to disk what is adopted.
    pub(crate) fn mend(self, segment_bytes: u64) -> Result<(Journal, Reach), OpenError> {
        let last = self.last();
        let path = last.path.as_path();
        let mut active = OpenOptions::new().read(true).write(true).open(path).map_err(io(path, "opening"))?;
        if let Some(torn) = &self.torn {
            self.cut(&active, torn)?;
        }
        if let Some(unborn) = &self.unborn {
            self.set_unborn_aside(&unborn.path)?;
        }
        let reached = Watermark { segment: last.first().sequence, units: self.units() };
        if self.watermark != Some(reached) {
            self.bring_to_disk(&active)?;
            watermark::write(&self.directory, reached);
        }
        active.seek(SeekFrom::Start(last.size_bytes)).map_err(io(path, "opening"))?;
        let Survey { directory, segments, reach, .. } = self;
        let (segments, active) = (RwLock::new(segments), Mutex::new(active));
        let journal = Journal { directory, segment_bytes, segments, active, open: Cache::new(MAX_OPEN) };
        Ok((journal, reach))
    }

    /// Cut the torn tail off the last segment, `file`.
    fn cut(&self, file: &File, torn: &TornTail) -> Result<(), OpenError> {
        let path = self.last().path.as_path();
        let mut bytes = vec![0; usize::try_from(torn.size_bytes).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut bytes, torn.offset).map_err(io(path, "reading"))?;
        let kept = cut_path(path, torn.offset);
        files::create(&kept, &bytes).map_err(io(&kept, "keeping what is cut off the journal in"))?;
        files::sync_directory(&self.directory).map_err(io(&self.directory, "syncing"))?;
        tracing::warn!(
            path = %path.display(), offset = torn.offset, cut_bytes = torn.size_bytes, problem = torn.problem,
            kept = %kept.display(), "the journal ends in a unit that was never answered; it is cut off and kept"
        );
        let is_cut = files::truncate(file, path, torn.offset).and_then(|()| files::sync(file, path));
        is_cut.map_err(io(path, "truncating"))
    }

    /// Take a segment that was never made out of the way of the next one.
    fn set_unborn_aside(&self, path: &Path) -> Result<(), OpenError> {
        tracing::warn!(path = %path.display(), "a journal segment was being made when the process stopped; it is set aside");
        let size_bytes = fs::metadata(path).map_err(io(path, "reading"))?.len();
        let is_aside = if size_bytes == 0 { files::remove(path) } else { files::rename(path, &cut_path(path, 0)) };
        is_aside.map_err(io(path, "setting aside"))?;
        files::sync_directory(&self.directory).map_err(io(&self.directory, "syncing"))
    }

    /// Make the last group durable, and the segment's header and name. All before it was synced before it was written; it alone
    /// may be in the system's memory and not on disk. A sync does not tell: after one that failed the system takes its pages
    /// for written. So they are written again, from memory.
    fn bring_to_disk(&self, file: &File) -> Result<(), OpenError> {
        let last = self.last();
        let path = last.path.as_path();
        let size_bytes = last.size_bytes - self.last_group;
        let mut group = vec![0; usize::try_from(size_bytes).unwrap_or(usize::MAX)];
        file.read_exact_at(&mut group, self.last_group).map_err(io(path, "reading"))?;
        let mut at = 0;
        while at < group.len() {
            // Pages that were given up since the survey are read from the disk now, which may not have them.
            let offset = self.last_group + at as u64;
            let damaged =
                |problem: &str| OpenError::Damaged { path: path.to_owned(), offset, problem: problem.to_owned() };
            at += record::read_record(&group[at..]).map_err(damaged)?.size_bytes;
        }
        let written = files::write_at(file, path, &segment::header(last.first()), 0)
            .and_then(|()| files::write_at(file, path, &group, self.last_group))
            .and_then(|()| files::sync(file, path));
        written.map_err(io(path, "bringing to disk the end of"))?;
        files::sync_directory(&self.directory).map_err(io(&self.directory, "syncing"))
    }
}

/// A name beside `path` that no file has, for what is cut off at `offset`.
fn cut_path(path: &Path, offset: u64) -> PathBuf {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let mut free = path.with_file_name(format!("{name}.{offset}.cut"));
    let mut number = 2;
    while free.exists() {
        free = path.with_file_name(format!("{name}.{offset}.{number}.cut"));
        number += 1;
    }
    free
}
