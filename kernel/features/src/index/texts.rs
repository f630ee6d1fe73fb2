//! The texts of a column: a bitmap for each while they are few, a hash for each profile once they are many.

use std::collections::HashMap;
use std::sync::Arc;

use roaring::RoaringBitmap;
use xxhash_rust::xxh3::xxh3_128;

use super::column::Parts;
use crate::value::{Comparison, Value};
use crate::zone::Zone;

/// Above this many different texts a feature gets no bitmap per text, because it names people rather than groups: an
/// e-mail address, a city with its street. Equality is answered from hashes then, and other comparisons (`<`,
/// `startsWith`) profile by profile.
pub const MAX_TEXT_VALUES: usize = 10_000;

/// Up to this many texts, a profile's present one is found by asking each bitmap; beyond, by a table of 2 bytes for each
/// ordinal.
const MAX_PROBED: usize = 32;

/// The texts of a column.
#[derive(Debug, Clone, Default)]
pub(super) struct Texts {
    /// The profiles that have one.
    any: RoaringBitmap,
    postings: Postings,
}

#[derive(Debug, Clone)]
enum Postings {
    Bitmaps(TextBitmaps),
    Hashes(TextHashes),
}

impl Default for Postings {
    fn default() -> Postings {
        Postings::Bitmaps(TextBitmaps::default())
    }
}

impl Texts {
    pub(super) fn has(&self, ordinal: u32, text: &str) -> bool {
        match &self.postings {
            Postings::Bitmaps(bitmaps) => bitmaps.bitmap(text).is_some_and(|bitmap| bitmap.contains(ordinal)),
            Postings::Hashes(hashes) => hashes.hash_of(ordinal) == Some(hash(text)),
        }
    }

    /// Set the text of a profile that has none.
    pub(super) fn set(&mut self, ordinal: u32, text: &Arc<str>) {
        self.any.insert(ordinal);
        match &mut self.postings {
            Postings::Bitmaps(bitmaps) => {
                if bitmaps.set(ordinal, text).is_none() {
                    let mut hashes = TextHashes::from(&*bitmaps);
                    hashes.set(ordinal, hash(text));
                    self.postings = Postings::Hashes(hashes);
                }
            }
            Postings::Hashes(hashes) => hashes.set(ordinal, hash(text)),
        }
    }

    /// Returns whether there was a text.
    pub(super) fn clear(&mut self, ordinal: u32) -> bool {
        if !self.any.remove(ordinal) {
            return false;
        }
        match &mut self.postings {
            Postings::Bitmaps(bitmaps) => bitmaps.clear(ordinal),
            Postings::Hashes(hashes) => hashes.clear(ordinal),
        }
        true
    }

    /// How many profiles have a text.
    pub(super) fn len(&self) -> u64 {
        self.any.len()
    }

    /// Whether there are more different texts than so many, without looking at them.
    pub(super) fn are_more_than(&self, most: usize) -> bool {
        match &self.postings {
            Postings::Bitmaps(bitmaps) => bitmaps.codes.len() > most,
            Postings::Hashes(_) => true,
        }
    }

    /// Every text and the profiles that have it; `None` where they are too many.
    pub(super) fn values(&self) -> Option<impl Iterator<Item = (Value, &RoaringBitmap)>> {
        match &self.postings {
            Postings::Bitmaps(bitmaps) => Some(bitmaps.values()),
            Postings::Hashes(_) => None,
        }
    }

    /// Add the profiles whose text compares so with `text`; `None` when that cannot be told from here.
    pub(super) fn compared<'a>(&'a self, comparison: Comparison, text: &Arc<str>, parts: &mut Parts<'a>) -> Option<()> {
        match (&self.postings, comparison) {
            (Postings::Bitmaps(bitmaps), Comparison::Equal) => parts.bitmaps.extend(bitmaps.bitmap(text)),
            (Postings::Bitmaps(bitmaps), _) => {
                let literal = Value::Text(text.clone());
                // Two texts compare as texts, whatever they name.
                let meets = |value: &Value| value.compared(comparison, &literal, &Zone::utc()).is_true();
                parts.bitmaps.extend(bitmaps.values().filter(|(value, _)| meets(value)).map(|(_, bitmap)| bitmap));
            }
            (Postings::Hashes(hashes), Comparison::Equal) => match hashes.holders.get(&hash(text)) {
                Some(Holders::One(ordinal)) => parts.singles.push(*ordinal),
                Some(Holders::Several(bitmap)) => parts.bitmaps.push(bitmap),
                None => {}
            },
            (Postings::Hashes(_), _) => return None,
        }
        Some(())
    }
}

/// A bitmap for each text.
#[derive(Debug, Clone, Default)]
struct TextBitmaps {
    codes: HashMap<Arc<str>, u16>,
    /// By code.
    bitmaps: Vec<RoaringBitmap>,
    /// By code.
    names: Vec<Arc<str>>,
    /// Codes whose text nobody has any more.
    free: Vec<u16>,
    /// Ordinal → code + 1, once there are more than [`MAX_PROBED`] texts.
    table: Vec<u16>,
}

impl TextBitmaps {
    fn bitmap(&self, text: &str) -> Option<&RoaringBitmap> {
        self.codes.get(text).map(|code| &self.bitmaps[usize::from(*code)])
    }

    fn code_of(&self, ordinal: u32) -> Option<u16> {
        if self.table.is_empty() {
            let code = self.bitmaps.iter().position(|bitmap| bitmap.contains(ordinal))?;
            return u16::try_from(code).ok();
        }
        self.table.get(ordinal as usize).and_then(|code| code.checked_sub(1))
    }

    /// `None`, and nothing set, when there are too many texts.
    fn set(&mut self, ordinal: u32, text: &Arc<str>) -> Option<()> {
        let code = self.code_for(text)?;
        self.bitmaps[usize::from(code)].insert(ordinal);
        if self.table.is_empty() && self.names.len() > MAX_PROBED {
            for (code, bitmap) in (1..).zip(&self.bitmaps) {
                for ordinal in bitmap {
                    note(&mut self.table, ordinal, code);
                }
            }
        } else if !self.table.is_empty() {
            note(&mut self.table, ordinal, code + 1);
        }
        Some(())
    }

    /// The text's code, a new one if need be; `None` when there are too many texts.
    fn code_for(&mut self, text: &Arc<str>) -> Option<u16> {
        if let Some(code) = self.codes.get(text) {
            return Some(*code);
        }
        let code = match self.free.pop() {
            Some(code) => {
                self.names[usize::from(code)] = text.clone();
                code
            }
            None if self.names.len() >= MAX_TEXT_VALUES => return None,
            None => {
                self.names.push(text.clone());
                self.bitmaps.push(RoaringBitmap::new());
                u16::try_from(self.names.len() - 1).ok()?
            }
        };
        self.codes.insert(text.clone(), code);
        Some(code)
    }

    fn clear(&mut self, ordinal: u32) {
        let Some(code) = self.code_of(ordinal) else { return };
        let bitmap = &mut self.bitmaps[usize::from(code)];
        bitmap.remove(ordinal);
        if bitmap.is_empty() {
            self.codes.remove(&self.names[usize::from(code)]);
            self.free.push(code);
        }
        if let Some(noted) = self.table.get_mut(ordinal as usize) {
            *noted = 0;
        }
    }

    fn values(&self) -> impl Iterator<Item = (Value, &RoaringBitmap)> {
        self.names
            .iter()
            .zip(&self.bitmaps)
            .filter(|(_, bitmap)| !bitmap.is_empty())
            .map(|(name, bitmap)| (Value::Text(name.clone()), bitmap))
    }
}

/// The hash of each profile's text, both ways. Two texts are taken for one where their 128-bit hashes are equal: among a
/// thousand million texts the chance of one such pair is below 10⁻²⁰.
#[derive(Debug, Clone, Default)]
struct TextHashes {
    holders: HashMap<u128, Holders>,
    /// By ordinal; 0 where there is no text.
    hashes: Vec<u128>,
}

/// The profiles that have a text. Most of these texts name one person.
#[derive(Debug, Clone)]
enum Holders {
    One(u32),
    Several(Box<RoaringBitmap>),
}

/// Never 0, which stands for no text.
fn hash(text: &str) -> u128 {
    xxh3_128(text.as_bytes()).max(1)
}

impl From<&TextBitmaps> for TextHashes {
    fn from(bitmaps: &TextBitmaps) -> TextHashes {
        let mut hashes = TextHashes::default();
        for (name, bitmap) in bitmaps.names.iter().zip(&bitmaps.bitmaps) {
            let hash = hash(name);
            bitmap.iter().for_each(|ordinal| hashes.set(ordinal, hash));
        }
        hashes
    }
}

impl TextHashes {
    fn hash_of(&self, ordinal: u32) -> Option<u128> {
        self.hashes.get(ordinal as usize).copied().filter(|hash| *hash != 0)
    }

    fn set(&mut self, ordinal: u32, hash: u128) {
        let place = ordinal as usize;
        if self.hashes.len() <= place {
            self.hashes.resize(place + 1, 0);
        }
        self.hashes[place] = hash;
        self.holders.entry(hash).and_modify(|holders| holders.insert(ordinal)).or_insert(Holders::One(ordinal));
    }

    fn clear(&mut self, ordinal: u32) {
        let Some(hash) = self.hash_of(ordinal) else { return };
        self.hashes[ordinal as usize] = 0;
        let gone = match self.holders.get_mut(&hash) {
            Some(Holders::Several(bitmap)) => {
                bitmap.remove(ordinal);
                bitmap.is_empty()
            }
            Some(Holders::One(_)) => true,
            None => false,
        };
        if gone {
            self.holders.remove(&hash);
        }
    }
}

impl Holders {
    fn insert(&mut self, ordinal: u32) {
        match self {
            Holders::One(first) => *self = Holders::Several(Box::new([*first, ordinal].into_iter().collect())),
            Holders::Several(bitmap) => {
                bitmap.insert(ordinal);
            }
        }
    }
}

fn note(table: &mut Vec<u16>, ordinal: u32, code: u16) {
    let place = ordinal as usize;
    if table.len() <= place {
        table.resize(place + 1, 0);
    }
    table[place] = code;
}
