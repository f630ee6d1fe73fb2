//! Ordered numbers by ordinal: range queries over a column of 64-bit keys.
//!
//! Blocks of 65,536 ordinals, like those of a roaring bitmap: runs of sorted pairs while a block holds few, a plain array once
//! it holds many. A bit-sliced index was the other choice. Over f64 keys it needs up to 64 slices, so it is no smaller than the
//! array, touches every slice for each comparison and takes a bit flip per slice for each update; the array takes one
//! store, and one pass in the order of memory.

use std::collections::BTreeMap;

use roaring::RoaringBitmap;

/// Above this many entries a block becomes an array (512 KiB).
const MAX_SORTED: usize = 8_192;
/// Entries of a run of sorted pairs: an insertion moves at most so many, 10 bytes each.
const MAX_RUN: usize = 128;
const BLOCK: usize = 1 << 16;
const WORDS: usize = BLOCK / 64;

/// Keys from `first` to `last`, both included.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct KeyRange {
    pub(super) first: u64,
    pub(super) last: u64,
}

impl KeyRange {
    /// Every key.
    pub(super) const ALL: KeyRange = KeyRange { first: 0, last: u64::MAX };

    fn holds(self, key: u64) -> bool {
        // One comparison instead of two: keys below `first` wrap to very large ones.
        key.wrapping_sub(self.first) <= self.last - self.first
    }
}

/// A column of keys.
#[derive(Debug, Clone, Default)]
pub(super) struct Numbers {
    blocks: BTreeMap<u16, Block>,
    len: u64,
}

#[derive(Debug, Clone)]
enum Block {
    Sorted(Runs),
    Array { present: Box<[u64]>, keys: Box<[u64]>, len: usize },
}

/// Sorted pairs of place and key, in runs.
#[derive(Debug, Clone, Default)]
struct Runs {
    /// Ascending; none is empty.
    runs: Vec<Run>,
    len: usize,
}

#[derive(Debug, Clone)]
struct Run {
    first: u16,
    places: Vec<u16>,
    keys: Vec<u64>,
}

impl Numbers {
    /// How many ordinals have a key.
    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Whether the ordinal has a key.
    pub(super) fn has(&self, ordinal: u32) -> bool {
        let (block, place) = split(ordinal);
        self.blocks.get(&block).is_some_and(|block| block.get(place).is_some())
    }

    /// Whether the ordinal had none before.
    pub(super) fn set(&mut self, ordinal: u32, key: u64) -> bool {
        let (block, place) = split(ordinal);
        let block = self.blocks.entry(block).or_insert_with(|| Block::Sorted(Runs::default()));
        let is_new = block.set(place, key);
        self.len += u64::from(is_new);
        is_new
    }

    pub(super) fn clear(&mut self, ordinal: u32) {
        let (number, place) = split(ordinal);
        let Some(block) = self.blocks.get_mut(&number) else { return };
        self.len -= u64::from(block.clear(place));
        if block.len() == 0 {
            self.blocks.remove(&number);
        }
    }

    /// The ordinals, of those within, whose key is in the range.
    pub(super) fn select(&self, range: KeyRange, within: Option<&RoaringBitmap>) -> RoaringBitmap {
        let mut selected = RoaringBitmap::new();
        for (number, block) in &self.blocks {
            let base = u32::from(*number) << 16;
            match within_block(within, base, block.len()) {
                Visit::Nothing => {}
                Visit::Some(ordinals) => {
                    let found =
                        ordinals.filter(|ordinal| block.get(split(*ordinal).1).is_some_and(|key| range.holds(key)));
                    selected.extend(found);
                }
                Visit::All => {
                    let mut found = block.select(range, base);
                    if let Some(within) = within {
                        found &= within;
                    }
                    selected |= found;
                }
            }
        }
        selected
    }

    /// How many ordinals, of those within, have a key in the range.
    pub(super) fn count(&self, range: KeyRange, within: Option<&RoaringBitmap>) -> u64 {
        let mut total = 0;
        for (number, block) in &self.blocks {
            let base = u32::from(*number) << 16;
            total += match (within_block(within, base, block.len()), within) {
                (Visit::Nothing, _) => 0,
                (Visit::Some(ordinals), _) => ordinals
                    .filter(|ordinal| block.get(split(*ordinal).1).is_some_and(|key| range.holds(key)))
                    .count() as u64,
                (Visit::All, Some(within)) => block.select(range, base).intersection_len(within),
                (Visit::All, None) if range == KeyRange::ALL => block.len() as u64,
                (Visit::All, None) => block.count(range),
            };
        }
        total
    }
}

/// How a block is visited.
enum Visit<I> {
    Nothing,
    /// One by one.
    Some(I),
    /// All of it.
    All,
}

fn within_block(within: Option<&RoaringBitmap>, base: u32, entries: usize) -> Visit<roaring::bitmap::Iter<'_>> {
    let Some(within) = within else { return Visit::All };
    let ordinals = base..=base | 0xffff;
    match within.range_cardinality(ordinals.clone()) {
        0 => Visit::Nothing,
        // Passing over a whole block costs some tenth of picking each of its entries.
        few if few * 8 < entries as u64 => Visit::Some(within.range(ordinals)),
        _ => Visit::All,
    }
}

fn split(ordinal: u32) -> (u16, u16) {
    ((ordinal >> 16) as u16, (ordinal & 0xffff) as u16)
}

impl Runs {
    /// The run that the place is in or would be put into, where there is one.
    fn run_of(&self, place: u16) -> Option<usize> {
        let after = self.runs.partition_point(|run| run.first <= place);
        (!self.runs.is_empty()).then(|| after.saturating_sub(1))
    }

    fn find(&self, place: u16) -> Option<(usize, usize)> {
        let run = self.run_of(place)?;
        self.runs[run].places.binary_search(&place).ok().map(|index| (run, index))
    }

    /// Returns whether the place was empty.
    fn set(&mut self, place: u16, key: u64) -> bool {
        let Some(number) = self.run_of(place) else {
            self.runs.push(Run { first: place, places: vec![place], keys: vec![key] });
            self.len = 1;
            return true;
        };
        let run = &mut self.runs[number];
        match run.places.binary_search(&place) {
            Ok(index) => {
                run.keys[index] = key;
                return false;
            }
            Err(index) => {
                run.places.insert(index, place);
                run.keys.insert(index, key);
                run.first = run.places[0];
            }
        }
        self.len += 1;
        if run.places.len() > MAX_RUN {
            let (places, keys) = (run.places.split_off(MAX_RUN / 2), run.keys.split_off(MAX_RUN / 2));
            self.runs.insert(number + 1, Run { first: places[0], places, keys });
        }
        true
    }

    /// Returns whether there was a key.
    fn clear(&mut self, place: u16) -> bool {
        let Some((number, index)) = self.find(place) else { return false };
        let run = &mut self.runs[number];
        run.places.remove(index);
        run.keys.remove(index);
        match run.places.first() {
            Some(first) => run.first = *first,
            None => drop(self.runs.remove(number)),
        }
        self.len -= 1;
        true
    }

    fn pairs(&self) -> impl Iterator<Item = (u16, u64)> {
        self.runs.iter().flat_map(|run| run.places.iter().copied().zip(run.keys.iter().copied()))
    }
}

impl Block {
    fn len(&self) -> usize {
        match self {
            Block::Sorted(runs) => runs.len,
            Block::Array { len, .. } => *len,
        }
    }

    fn get(&self, place: u16) -> Option<u64> {
        match self {
            Block::Sorted(runs) => runs.find(place).map(|(run, index)| runs.runs[run].keys[index]),
            Block::Array { present, keys, .. } => {
                let place = usize::from(place);
                (present[place / 64] >> (place % 64) & 1 == 1).then(|| keys[place])
            }
        }
    }

    /// Returns whether the place was empty.
    fn set(&mut self, place: u16, key: u64) -> bool {
        match self {
            Block::Sorted(runs) => {
                let is_new = runs.set(place, key);
                if runs.len > MAX_SORTED {
                    *self = Block::array(runs);
                }
                is_new
            }
            Block::Array { present, keys, len } => {
                let place = usize::from(place);
                let (word, bit) = (&mut present[place / 64], 1 << (place % 64));
                let new = *word & bit == 0;
                *word |= bit;
                keys[place] = key;
                *len += usize::from(new);
                new
            }
        }
    }

    /// Returns whether there was a key.
    fn clear(&mut self, place: u16) -> bool {
        match self {
            Block::Sorted(runs) => runs.clear(place),
            // An array stays one: who was many will be many again.
            Block::Array { present, len, .. } => {
                let place = usize::from(place);
                let (word, bit) = (&mut present[place / 64], 1 << (place % 64));
                let held = *word & bit != 0;
                *word &= !bit;
                *len -= usize::from(held);
                held
            }
        }
    }

    fn array(runs: &Runs) -> Block {
        let mut present = vec![0; WORDS].into_boxed_slice();
        let mut array = vec![0; BLOCK].into_boxed_slice();
        for (place, key) in runs.pairs() {
            let place = usize::from(place);
            present[place / 64] |= 1 << (place % 64);
            array[place] = key;
        }
        Block::Array { present, keys: array, len: runs.len }
    }

    fn select(&self, range: KeyRange, base: u32) -> RoaringBitmap {
        match self {
            Block::Sorted(runs) => {
                let found = runs.pairs().filter(|(_, key)| range.holds(*key));
                found.map(|(place, _)| base | u32::from(place)).collect()
            }
            Block::Array { present, keys, .. } => {
                let words = keys.chunks_exact(64).zip(present).map(|(keys, present)| matching(keys, range) & present);
                let bytes: Vec<u8> = words.flat_map(u64::to_le_bytes).collect();
                RoaringBitmap::from_lsb0_bytes(base, &bytes)
            }
        }
    }

    fn count(&self, range: KeyRange) -> u64 {
        match self {
            Block::Sorted(runs) => {
                let of_run = |run: &Run| run.keys.iter().filter(|key| range.holds(**key)).count();
                runs.runs.iter().map(of_run).sum::<usize>() as u64
            }
            Block::Array { present, keys, .. } => {
                let words = keys.chunks_exact(64).zip(present).map(|(keys, present)| matching(keys, range) & present);
                words.map(|word| u64::from(word.count_ones())).sum()
            }
        }
    }
}

/// A bit for each of 64 keys that is in the range.
fn matching(keys: &[u64], range: KeyRange) -> u64 {
    keys.iter().enumerate().fold(0, |word, (index, key)| word | (u64::from(range.holds(*key)) << index))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_of_both_kinds_answer_alike() {
        let mut numbers = Numbers::default();
        let mut plain = BTreeMap::new();
        // A simple generator; the first block gets many entries, others few.
        let mut state = 7_u64;
        let mut random = || {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
            state >> 33
        };
        for step in 0..60_000_u64 {
            let spread = if step % 20 == 0 { 400_000 } else { 65_536 };
            let (ordinal, key) = ((random() % spread) as u32, random() % 1_000);
            if step % 7 == 0 {
                numbers.clear(ordinal);
                plain.remove(&ordinal);
            } else {
                assert_eq!(numbers.set(ordinal, key), plain.insert(ordinal, key).is_none());
            }
            assert_eq!(numbers.has(ordinal), plain.contains_key(&ordinal));
        }
        assert_eq!(numbers.len(), plain.len() as u64);
        assert!(matches!(numbers.blocks[&0], Block::Array { .. }) && matches!(numbers.blocks[&1], Block::Sorted(_)));
        let few: RoaringBitmap = (0..400_000).step_by(97).collect();
        let many: RoaringBitmap = (1_000..300_000).collect();
        for (first, last) in [(0, u64::MAX), (100, 199), (500, 500), (999, 999), (1_000, u64::MAX)] {
            let range = KeyRange { first, last };
            for within in [None, Some(&few), Some(&many)] {
                let expected: RoaringBitmap = plain
                    .iter()
                    .filter(|(_, key)| (first..=last).contains(key))
                    .map(|(ordinal, _)| *ordinal)
                    .filter(|ordinal| within.is_none_or(|within| within.contains(*ordinal)))
                    .collect();
                assert_eq!(numbers.select(range, within), expected);
                assert_eq!(numbers.count(range, within), expected.len());
            }
        }
        for ordinal in 0..400_000 {
            numbers.clear(ordinal);
        }
        assert_eq!((numbers.len(), numbers.blocks.len()), (0, 0));
    }
}
