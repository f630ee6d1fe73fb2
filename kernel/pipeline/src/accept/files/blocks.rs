//! The rows that hold rows of files: blocks, filters and the list of runs, each with a checksum of its own.

use kith_model::id::SourceIdentityId;
use kith_store::row::{Owner, Row};
use kith_store::{ReadError, row};
use serde::{Deserialize, Serialize};
use xxhash_rust::xxh3::xxh3_64;

use super::{RememberedRow, RowHash};

/// A block is at most this large, so that an engine keeps it in one piece.
const MAX_BLOCK_BYTES: usize = 4_000;

/// Bits of a filter for each row: one false alarm in a hundred.
const BITS_PER_ROW: usize = 10;

/// Places of a filter that each row sets.
const PROBES: u64 = 7;

/// Rows in the order of their hashes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Block(pub Vec<(RowHash, RememberedRow)>);

fn bytes_of(held: &RememberedRow) -> usize {
    25 + if held.of.is_some() { 16 } else { 0 }
}

impl Block {
    /// Cut sorted rows into blocks.
    pub(super) fn cut(rows: Vec<(RowHash, RememberedRow)>) -> Vec<Block> {
        let mut blocks = Vec::new();
        let (mut block, mut bytes) = (Block::default(), 0);
        for (id, held) in rows {
            bytes += bytes_of(&held);
            if bytes > MAX_BLOCK_BYTES {
                blocks.push(std::mem::take(&mut block));
                bytes = bytes_of(&held);
            }
            block.0.push((id, held));
        }
        if !block.0.is_empty() {
            blocks.push(block);
        }
        blocks
    }

    /// Whether one more row would make it too large.
    pub(super) fn is_full_for(&self, bytes: usize, held: &RememberedRow) -> bool {
        !self.0.is_empty() && bytes + bytes_of(held) > MAX_BLOCK_BYTES
    }

    /// Put a row behind the others; what it takes.
    pub(super) fn push(&mut self, id: RowHash, held: RememberedRow) -> usize {
        self.0.push((id, held));
        bytes_of(&held)
    }

    pub(super) fn get(&self, id: RowHash) -> Option<RememberedRow> {
        let place = self.0.binary_search_by_key(&id, |(id, _)| *id).ok()?;
        Some(self.0[place].1)
    }
}

/// Put the checksum of what lies behind `from` at the end.
fn seal(bytes: &mut Vec<u8>, from: usize) {
    let checksum = xxh3_64(&bytes[from..]);
    bytes.extend_from_slice(&checksum.to_be_bytes());
}

/// What lies before the checksum.
fn unseal(body: &[u8]) -> Result<&[u8], String> {
    let (content, checksum) = body.split_last_chunk::<8>().ok_or("it is too short to have a checksum")?;
    if u64::from_be_bytes(*checksum) == xxh3_64(content) {
        Ok(content)
    } else {
        Err("its checksum is wrong; stop the server and delete the engine's folder, which is filled again from the journal"
            .into())
    }
}

/// A row is a hash (16 bytes), a digest (8) and 0, or 1 and the identity whose event it became (16).
impl Row for Block {
    const WHAT: &'static str = "a block of rows of files";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 1;

    fn body(&self, bytes: &mut Vec<u8>) {
        let from = bytes.len();
        for (id, held) in &self.0 {
            bytes.extend_from_slice(&id.to_be_bytes());
            bytes.extend_from_slice(&held.digest.to_be_bytes());
            bytes.push(u8::from(held.of.is_some()));
            if let Some(identity) = held.of {
                bytes.extend_from_slice(&identity.0);
            }
        }
        seal(bytes, from);
    }

    fn from_body(body: &[u8]) -> Result<Block, String> {
        let mut rest = unseal(body)?;
        let cut = || "it ends within a row".to_owned();
        let mut rows = Vec::with_capacity(rest.len() / 25);
        while !rest.is_empty() {
            let (id, behind) = rest.split_first_chunk::<16>().ok_or_else(cut)?;
            let (digest, behind) = behind.split_first_chunk::<8>().ok_or_else(cut)?;
            let (has_identity, behind) = behind.split_first().ok_or_else(cut)?;
            let (of, behind) = match has_identity {
                0 => (None, behind),
                1 => {
                    let (identity, behind) = behind.split_first_chunk::<16>().ok_or_else(cut)?;
                    (Some(SourceIdentityId(*identity)), behind)
                }
                other => return Err(format!("{other} where 0 or 1 belongs")),
            };
            rows.push((u128::from_be_bytes(*id), RememberedRow { digest: u64::from_be_bytes(*digest), of }));
            rest = behind;
        }
        Ok(Block(rows))
    }
}

pub(super) fn block_of(bytes: &[u8]) -> Result<Block, ReadError> {
    row::decode(bytes)
}

/// A Bloom filter over hashes, which are spread already. Its bits are stored, so it is ours and no library's.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FilterRow(Vec<u64>);

impl FilterRow {
    /// An empty one with room for so many rows.
    pub(super) fn for_rows(rows: usize) -> FilterRow {
        FilterRow(vec![0; (rows * BITS_PER_ROW).div_ceil(64).max(1)])
    }

    fn places(&self, id: RowHash) -> impl Iterator<Item = (usize, u64)> + use<> {
        #[allow(clippy::cast_possible_truncation, reason = "the two halves of the hash")]
        let (one, two) = (id as u64, (id >> 64) as u64 | 1);
        let bits = self.0.len() as u64 * 64;
        (0..PROBES).map(move |probe| {
            let bit = one.wrapping_add(probe.wrapping_mul(two)) % bits;
            #[allow(clippy::cast_possible_truncation, reason = "below the length of the list")]
            let word = (bit / 64) as usize;
            (word, 1_u64 << (bit % 64))
        })
    }

    pub(super) fn insert(&mut self, id: RowHash) {
        for (word, bit) in self.places(id) {
            self.0[word] |= bit;
        }
    }

    /// False only for what is certainly not there.
    pub(super) fn may_hold(&self, id: RowHash) -> bool {
        self.places(id).all(|(word, bit)| self.0[word] & bit != 0)
    }
}

/// Words of eight bytes, then the checksum.
impl Row for FilterRow {
    const WHAT: &'static str = "a filter of rows of files";
    const OWNER: Owner = Owner::Accept;
    const VERSION: u8 = 1;

    fn body(&self, bytes: &mut Vec<u8>) {
        let from = bytes.len();
        self.0.iter().for_each(|word| bytes.extend_from_slice(&word.to_be_bytes()));
        seal(bytes, from);
    }

    fn from_body(body: &[u8]) -> Result<FilterRow, String> {
        let content = unseal(body)?;
        let (words, rest) = content.as_chunks::<8>();
        if words.is_empty() || !rest.is_empty() {
            return Err(format!("{} bytes are no words of eight", content.len()));
        }
        Ok(FilterRow(words.iter().map(|word| u64::from_be_bytes(*word)).collect()))
    }
}

/// The runs that count.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunsRow(pub Vec<RunRow>);

/// One run.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct RunRow {
    pub number: u64,
    /// How often its rows were merged; from 1.
    pub level: u8,
    pub segments: Vec<SegmentRow>,
}

/// A part of a run that has a filter of its own.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SegmentRow {
    /// Its greatest hash.
    pub last: RowHash,
    pub rows: u32,
}

crate::rows::rows! {
    RunsRow: "the runs of rows of files", Accept, 1;
}
