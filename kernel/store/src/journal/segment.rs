//! One file of the journal: its header, reading its records in order, and telling a torn tail from damage.

use std::fs::{File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

use super::record::{self, Place, Record};

/// `magic 8 | version u32 | first sequence u64 | first position u64 | crc32c u32`.
pub(crate) const HEADER_BYTES: u64 = 32;
const MAGIC: &[u8; 8] = b"kithjrnl";
const VERSION: u32 = 1;

/// The file of the segment that begins with unit `sequence`.
pub(crate) fn path(directory: &Path, sequence: u64) -> PathBuf {
    directory.join(format!("{sequence:020}.journal"))
}

/// A place from which a segment can be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Mark {
    pub(crate) sequence: u64,
    pub(crate) first_position: u64,
    pub(crate) offset: u64,
}

/// What is wrong with a segment.
#[derive(Debug)]
pub(crate) enum SegmentError {
    Io(std::io::Error),
    Damaged {
        offset: u64,
        problem: String,
    },
    /// Made by a newer release.
    Version(u32),
}

impl From<std::io::Error> for SegmentError {
    fn from(error: std::io::Error) -> SegmentError {
        SegmentError::Io(error)
    }
}

/// The header of the segment that begins with `first`.
pub(crate) fn header(first: Mark) -> [u8; 32] {
    let mut bytes = [0; 32];
    bytes[..8].copy_from_slice(MAGIC);
    bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
    bytes[12..20].copy_from_slice(&first.sequence.to_be_bytes());
    bytes[20..28].copy_from_slice(&first.first_position.to_be_bytes());
    let crc = crc32c::crc32c(&bytes[..28]);
    bytes[28..].copy_from_slice(&crc.to_be_bytes());
    bytes
}

/// The mark of a segment's first unit, from its header.
pub(crate) fn read_header(file: &File) -> Result<Mark, SegmentError> {
    let damaged = |problem: &str| SegmentError::Damaged { offset: 0, problem: problem.to_owned() };
    let mut bytes = [0; 32];
    match file.read_exact_at(&mut bytes, 0) {
        Err(error) if error.kind() == std::io::ErrorKind::UnexpectedEof => {
            return Err(damaged("the segment's header is cut off"));
        }
        result => result?,
    }
    let field = |at: usize| u64::from_be_bytes(bytes[at..at + 8].try_into().expect("the range has eight bytes"));
    let crc = u32::from_be_bytes(bytes[28..].try_into().expect("the range has four bytes"));
    if bytes[..8] != *MAGIC || crc != crc32c::crc32c(&bytes[..28]) {
        return Err(damaged("the segment's header is no header or its checksum does not match"));
    }
    let version = u32::from_be_bytes(bytes[8..12].try_into().expect("the range has four bytes"));
    if version != VERSION {
        return Err(SegmentError::Version(version));
    }
    Ok(Mark { sequence: field(12), first_position: field(20), offset: HEADER_BYTES })
}

/// Make the segment that begins with `first`. On return the file, its header and its name are on disk.
pub(crate) fn create(directory: &Path, first: Mark) -> std::io::Result<File> {
    let options = OpenOptions::new().read(true).write(true).create_new(true).clone();
    let mut file = options.open(path(directory, first.sequence))?;
    file.write_all(&header(first))?;
    file.sync_data()?;
    File::open(directory)?.sync_all()?;
    Ok(file)
}

/// Reads a segment's records one after the other, up to a given length.
pub(crate) struct Reader<'a> {
    file: &'a File,
    buffer: Vec<u8>,
    /// Where in the file the buffer begins, and where in the buffer the next record does.
    base: u64,
    at: usize,
    end: u64,
}

/// What a read asks of the disk at once.
const READ_BYTES: usize = 256 * 1024;

impl<'a> Reader<'a> {
    /// A reader of `file` from `offset` to `end`.
    pub(crate) fn new(file: &'a File, offset: u64, end: u64) -> Reader<'a> {
        Reader { file, buffer: Vec::new(), base: offset, at: 0, end }
    }

    /// Where the next record begins.
    pub(crate) fn offset(&self) -> u64 {
        self.base + self.at as u64
    }

    /// Have at least `wanted` bytes of the next record in the buffer, or all that there are.
    fn fill(&mut self, wanted: usize) -> std::io::Result<()> {
        let there = self.buffer.len() - self.at;
        if there >= wanted {
            return Ok(());
        }
        self.buffer.drain(..self.at);
        self.base += self.at as u64;
        self.at = 0;
        let read_from = self.base + there as u64;
        let left = usize::try_from(self.end.saturating_sub(read_from)).unwrap_or(usize::MAX);
        let read_bytes = (wanted - there).max(READ_BYTES).min(left);
        self.buffer.resize(there + read_bytes, 0);
        self.file.read_exact_at(&mut self.buffer[there..], read_from)
    }

    /// The next record; `None` at the end.
    pub(crate) fn next(&mut self) -> Result<Option<Record<'_>>, SegmentError> {
        if self.offset() >= self.end {
            return Ok(None);
        }
        self.fill(record::HEADER_BYTES)?;
        let left = usize::try_from(self.end - self.offset()).unwrap_or(usize::MAX);
        // A length beyond the end of the file is a flaw that `read_record` reports; it is no reason to ask for that much.
        if let Some(size_bytes) =
            record::claimed_bytes(&self.buffer[self.at..]).filter(|size_bytes| *size_bytes <= left)
        {
            self.fill(size_bytes)?;
        }
        let offset = self.offset();
        let start = self.at;
        match record::read_record(&self.buffer[start..]) {
            Ok(record) => {
                self.at += record.size_bytes;
                Ok(Some(record))
            }
            Err(problem) => Err(SegmentError::Damaged { offset, problem: problem.to_owned() }),
        }
    }
}

/// Whether the bytes from `offset` on hold a whole record that was written after unit `sequence` had been synced. Then the
/// flaw at `offset` is no torn tail: it hit a unit that was answered.
pub(crate) fn has_later_group(file: &File, offset: u64, end: u64, sequence: u64) -> std::io::Result<bool> {
    let mut bytes = vec![0; usize::try_from(end.saturating_sub(offset)).unwrap_or(usize::MAX)];
    file.read_exact_at(&mut bytes, offset)?;
    let newest_possible = sequence + bytes.len() as u64;
    for at in 1..bytes.len().saturating_sub(record::HEADER_BYTES) {
        let candidate = &bytes[at..];
        let number: [u8; 8] = candidate[8..16].try_into().expect("the range has eight bytes");
        // The number is looked at first: a checksum over megabytes for each of millions of offsets would take hours.
        let later = (sequence..newest_possible).contains(&u64::from_be_bytes(number));
        if later && record::read_record(candidate).is_ok_and(|record| record.place.group > sequence) {
            return Ok(true);
        }
    }
    Ok(false)
}

/// The mark of the unit at `place`.
pub(crate) fn mark(place: Place, offset: u64) -> Mark {
    Mark { sequence: place.sequence, first_position: place.first_position, offset }
}
