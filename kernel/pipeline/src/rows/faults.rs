//! The rows of a condition's fault: since when it passes its budget for somebody, and for whom.

use kith_model::time::Timestamp;
use roaring::RoaringBitmap;
use serde::{Deserialize, Serialize};

use super::rows;

rows! {
    FaultHead: "the fault of a condition", React, 1;
    FaultChunk: "people of a condition's fault", React, 1;
}

/// What is to be told of the people for whom a condition passes its budget, while there are any.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FaultHead {
    pub since: Timestamp,
    /// The ordinal of one of them: of the last who came, while that is one.
    pub example: u32,
}

/// Ordinals of a chunk. A chunk is small, because it is written again whenever somebody comes or goes; and a million people are a
/// thousand chunks, which are read at a start and deleted with the condition.
pub(crate) const CHUNK_ORDINALS: u32 = 1_024;

/// Words of a chunk.
const WORDS: usize = (CHUNK_ORDINALS / u64::BITS) as usize;

/// Which people of one chunk are among them: a bit for each ordinal, the lowest first.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FaultChunk([u64; WORDS]);

impl FaultChunk {
    /// The part of `people` that a chunk has; `None` where that is nobody.
    pub(crate) fn of(people: &RoaringBitmap, chunk: u32) -> Option<FaultChunk> {
        let first = chunk * CHUNK_ORDINALS;
        let mut words = [0; WORDS];
        for ordinal in people.range(first..=first + (CHUNK_ORDINALS - 1)) {
            let place = ordinal - first;
            words[(place / u64::BITS) as usize] |= 1_u64 << (place % u64::BITS);
        }
        (words != [0; WORDS]).then_some(FaultChunk(words))
    }

    /// The ordinals of its people, as the chunk of that number, ascending.
    pub(crate) fn ordinals(self, chunk: u32) -> impl Iterator<Item = u32> {
        let is_set = move |place: &u32| self.0[(place / u64::BITS) as usize] & (1 << (place % u64::BITS)) != 0;
        (0..CHUNK_ORDINALS).filter(is_set).map(move |place| chunk.saturating_mul(CHUNK_ORDINALS).saturating_add(place))
    }
}

/// The numbers of the chunks that some people are in, ascending.
pub(crate) fn chunks_of(people: &RoaringBitmap) -> Vec<u32> {
    let mut chunks = Vec::new();
    for chunk in people.iter().map(|ordinal| ordinal / CHUNK_ORDINALS) {
        if chunks.last() != Some(&chunk) {
            chunks.push(chunk);
        }
    }
    chunks
}

#[cfg(test)]
mod tests {
    use kith_store::row;

    use super::*;

    #[test]
    fn people_are_read_as_they_were_written() {
        let head = FaultHead { since: Timestamp(-5), example: u32::MAX };
        assert_eq!(row::decode::<FaultHead>(&row::encode(&head)).unwrap(), head);
        let dense = (3 * CHUNK_ORDINALS..4 * CHUNK_ORDINALS).filter(|ordinal| ordinal % 3 != 0);
        let people: RoaringBitmap = [0, 63, 64, CHUNK_ORDINALS - 1, u32::MAX].into_iter().chain(dense).collect();
        let numbers = chunks_of(&people);
        assert_eq!(numbers, [0, 3, u32::MAX / CHUNK_ORDINALS]);
        let mut read = RoaringBitmap::new();
        for number in numbers {
            let bytes = row::encode(&FaultChunk::of(&people, number).unwrap());
            // As FORMAT.md bounds it.
            assert!(bytes.len() <= 161, "{}", bytes.len());
            read.extend(row::decode::<FaultChunk>(&bytes).unwrap().ordinals(number));
        }
        assert_eq!(read, people);
        assert_eq!(FaultChunk::of(&people, 1), None);
    }
}
