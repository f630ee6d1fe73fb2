//! A set of leaves that is asked some times for each event.

use std::collections::{HashSet, hash_set};

use serde::{Deserialize, Deserializer, Serialize, Serializer};

use crate::tree::LeafId;

/// A set of leaves. Written as a list in ascending order, so that equal sets have equal bytes.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct LeafSet(HashSet<LeafId, foldhash::fast::RandomState>);

impl LeafSet {
    /// Whether the leaf is in it.
    pub fn contains(&self, leaf: LeafId) -> bool {
        self.0.contains(&leaf)
    }

    /// Whether no leaf is in it.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Keep those leaves alone that pass the test.
    pub fn retain(&mut self, mut is_kept: impl FnMut(LeafId) -> bool) {
        self.0.retain(|leaf| is_kept(*leaf));
    }

    /// Its leaves, in no order.
    pub fn iter(&self) -> impl Iterator<Item = LeafId> {
        self.0.iter().copied()
    }
}

impl Extend<LeafId> for LeafSet {
    fn extend<I: IntoIterator<Item = LeafId>>(&mut self, leaves: I) {
        self.0.extend(leaves);
    }
}

impl FromIterator<LeafId> for LeafSet {
    fn from_iter<I: IntoIterator<Item = LeafId>>(leaves: I) -> LeafSet {
        LeafSet(leaves.into_iter().collect())
    }
}

impl IntoIterator for LeafSet {
    type Item = LeafId;
    type IntoIter = hash_set::IntoIter<LeafId>;

    fn into_iter(self) -> Self::IntoIter {
        self.0.into_iter()
    }
}

impl Serialize for LeafSet {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        let mut leaves: Vec<LeafId> = self.iter().collect();
        leaves.sort_unstable();
        leaves.serialize(serializer)
    }
}

impl<'de> Deserialize<'de> for LeafSet {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<LeafSet, D::Error> {
        Vec::<LeafId>::deserialize(deserializer).map(|leaves| leaves.into_iter().collect())
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn it_is_written_as_an_ordered_set_is() {
        let leaves = [9_u64, 3, 1 << 60, 4, 0].map(LeafId);
        let (set, ordered): (LeafSet, BTreeSet<LeafId>) = (leaves.into_iter().collect(), leaves.into());
        let bytes = postcard::to_allocvec(&set).unwrap();
        assert_eq!(bytes, postcard::to_allocvec(&ordered).unwrap());
        assert_eq!(postcard::from_bytes::<LeafSet>(&bytes).unwrap(), set);
    }
}
