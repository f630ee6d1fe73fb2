//! How much of the journal is known to be on disk, in a file beside the segments. A flaw before the watermark is damage, since
//! the units there had been synced; without it a flaw in the last group cannot be told from a group that never was.
//!
//! It is written where it costs nothing: when a segment is begun, when the store is opened and when it is closed. So it is a
//! lower bound, and one that could not be written is not missed.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};

use crate::files;

/// `magic 8 | version u32 | segment u64 | units u64 | crc32c u32`.
const BYTES: usize = 32;
const MAGIC: &[u8; 8] = b"kithmark";
const VERSION: u32 = 1;

/// What is on disk.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Watermark {
    /// The first unit of the newest segment.
    pub(crate) segment: u64,
    /// The last unit, up to which all are there.
    pub(crate) units: u64,
}

impl Watermark {
    fn to_bytes(self) -> [u8; BYTES] {
        let mut bytes = [0; BYTES];
        bytes[..8].copy_from_slice(MAGIC);
        bytes[8..12].copy_from_slice(&VERSION.to_be_bytes());
        bytes[12..20].copy_from_slice(&self.segment.to_be_bytes());
        bytes[20..28].copy_from_slice(&self.units.to_be_bytes());
        let crc = crc32c::crc32c(&bytes[..28]);
        bytes[28..].copy_from_slice(&crc.to_be_bytes());
        bytes
    }

    fn from_bytes(bytes: &[u8]) -> Option<Watermark> {
        let number = |at: usize| Some(u64::from_be_bytes(bytes.get(at..at + 8)?.try_into().ok()?));
        let watermark = Watermark { segment: number(12)?, units: number(20)? };
        // Whatever else differs, another version too, is not what this release writes.
        (bytes == watermark.to_bytes()).then_some(watermark)
    }
}

fn path(directory: &Path) -> PathBuf {
    directory.join("watermark")
}

/// The watermark of the journal in `directory`; none where there is none or it cannot be made out.
pub(crate) fn read(directory: &Path) -> io::Result<Option<Watermark>> {
    let path = path(directory);
    let bytes = match fs::read(&path) {
        Ok(bytes) => bytes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
        Err(error) => return Err(error),
    };
    let watermark = Watermark::from_bytes(&bytes);
    if watermark.is_none() {
        tracing::warn!(path = %path.display(), "the journal's watermark cannot be read; the journal is taken as it is found");
    }
    Ok(watermark)
}

/// Write the watermark of the journal in `directory`. Where that fails the one before stays, which is true as well.
pub(crate) fn write(directory: &Path, watermark: Watermark) {
    let path = path(directory);
    let draft = path.with_extension("new");
    // A crash may have left one.
    fs::remove_file(&draft).ok();
    let written = files::create(&draft, &watermark.to_bytes())
        .and_then(|()| files::rename(&draft, &path))
        .and_then(|()| files::sync_directory(directory));
    if let Err(error) = written {
        tracing::warn!(path = %path.display(), %error, "the journal's watermark could not be written");
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_watermark_reads_back_and_no_changed_bit_goes_unseen() {
        let watermark = Watermark { segment: 7, units: 12 };
        let bytes = watermark.to_bytes();
        assert_eq!(Watermark::from_bytes(&bytes), Some(watermark));
        for at in 0..bytes.len() {
            assert_eq!(Watermark::from_bytes(&bytes[..at]), None, "cut at {at}");
            for bit in 0..8 {
                let mut changed = bytes;
                changed[at] ^= 1 << bit;
                assert_eq!(Watermark::from_bytes(&changed), None, "bit {bit} of byte {at}");
            }
        }
    }
}
