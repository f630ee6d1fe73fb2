//! All leaf states of one source identity, in a row for each group of leaves that the same events feed. So an event rewrites
//! the leaves of its own name and no others, however many an identity has.

use std::borrow::Cow;
use std::ops::Range;

use kith_model::time::Timestamp;

use super::states::{LeafStates, SealedChunk, UnreadableState};
use super::{Leaf, LeafState};
use crate::event::EventFacts;
use crate::tree::LeafId;
use crate::zone::Zone;

/// All leaf states of one source identity, by [`LeafId::group`]. The methods are those of [`LeafStates`].
#[derive(Debug, Clone, Default)]
pub struct LeafGroups(Vec<(u16, LeafStates)>);

impl LeafGroups {
    /// Take a group in that was read; one of the same number is replaced.
    pub fn insert(&mut self, group: u16, states: LeafStates) {
        match self.place(group) {
            Ok(place) => self.0[place].1 = states,
            Err(place) => self.0.insert(place, (group, states)),
        }
    }

    /// Take a group out, e.g. to write it; an empty one where there is none.
    pub fn take(&mut self, group: u16) -> LeafStates {
        self.place(group).map(|place| self.0.remove(place).1).unwrap_or_default()
    }

    /// The numbers of the groups, ascending.
    pub fn groups(&self) -> impl Iterator<Item = u16> {
        self.0.iter().map(|(group, _)| *group)
    }

    /// One group.
    pub fn group(&self, group: u16) -> Option<&LeafStates> {
        self.place(group).ok().map(|place| &self.0[place].1)
    }

    /// Turn what was decoded of one group into bytes again, as [`LeafStates::compact`] does; without the group where nothing
    /// is left in it.
    pub fn compact_group(&mut self, group: u16) {
        if let Ok(place) = self.place(group) {
            self.0[place].1.compact();
            if self.0[place].1.is_empty() {
                self.0.remove(place);
            }
        }
    }

    /// The groups whose rows have to be written.
    pub fn changed(&self) -> impl Iterator<Item = u16> {
        self.0.iter().filter(|(_, states)| states.is_changed()).map(|(group, _)| *group)
    }

    /// Whether there is no group.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// The leaves that have a state or sealed chunks, ascending.
    pub fn ids(&self) -> impl Iterator<Item = LeafId> {
        self.0.iter().flat_map(|(_, states)| states.ids())
    }

    /// The part of a leaf's state that is in its row.
    ///
    /// # Errors
    /// As [`LeafStates::read`].
    pub fn read(&self, leaf: LeafId) -> Result<Option<Cow<'_, LeafState>>, UnreadableState> {
        self.group(leaf.group()).map_or(Ok(None), |states| states.read(leaf))
    }

    /// Decode a leaf's state and keep it decoded, so that reading it and changing it decodes it once. What cannot be read stays
    /// as it is.
    pub fn open(&mut self, leaf: LeafId) {
        if let Ok(place) = self.place(leaf.group()) {
            drop(self.0[place].1.get(leaf));
        }
    }

    /// Take an event in; whether that changed anything.
    ///
    /// # Errors
    /// As [`LeafStates::apply`].
    pub fn apply(
        &mut self,
        leaf: &Leaf,
        event: &EventFacts<'_>,
        now: Timestamp,
        zone: &Zone,
    ) -> Result<bool, UnreadableState> {
        let group = leaf.id().group();
        match self.place(group) {
            Ok(place) => self.0[place].1.apply(leaf, event, now, zone),
            Err(place) => {
                let mut states = LeafStates::default();
                let is_changed = states.apply(leaf, event, now, zone)?;
                if is_changed {
                    self.0.insert(place, (group, states));
                }
                Ok(is_changed)
            }
        }
    }

    /// The numbers of a leaf's sealed chunks.
    pub fn sealed(&self, leaf: LeafId) -> Range<u32> {
        self.group(leaf.group()).map_or(0..0, |states| states.sealed(leaf))
    }

    /// Whether any leaf has sealed chunks.
    pub fn has_sealed(&self) -> bool {
        self.0.iter().any(|(_, states)| states.has_sealed())
    }

    /// The leaves that have sealed chunks, ascending.
    pub fn sealed_ids(&self) -> impl Iterator<Item = LeafId> {
        let groups = self.0.iter().filter(|(_, states)| states.has_sealed());
        groups.flat_map(|(_, states)| states.ids().filter(|leaf| !states.sealed(*leaf).is_empty()))
    }

    /// Take out what grew too large, as [`LeafStates::seal_large`] does.
    pub fn seal_large(&mut self) -> Vec<SealedChunk> {
        self.0
            .iter_mut()
            .filter(|(_, states)| states.is_changed())
            .flat_map(|(_, states)| states.seal_large())
            .collect()
    }

    /// The leaf's chunks before this number are gone, as [`LeafStates::forget_sealed`] has it.
    ///
    /// # Errors
    /// As [`LeafStates::forget_sealed`].
    pub fn forget_sealed(&mut self, leaf: LeafId, before: u32) -> Result<(), UnreadableState> {
        self.place(leaf.group()).map_or(Ok(()), |place| self.0[place].1.forget_sealed(leaf, before))
    }

    /// Drop all leaves but those that pass the test, as [`LeafStates::retain`] does.
    pub fn retain(&mut self, mut is_kept: impl FnMut(LeafId) -> bool) -> Vec<(LeafId, Range<u32>)> {
        self.0.iter_mut().flat_map(|(_, states)| states.retain(&mut is_kept)).collect()
    }

    /// Turn everything that was decoded into bytes again, as [`LeafStates::compact`] does.
    pub fn compact(&mut self) {
        self.0.iter_mut().for_each(|(_, states)| states.compact());
        self.0.shrink_to_fit();
    }

    /// About how many bytes of memory it takes.
    pub fn size_bytes(&self) -> usize {
        self.0.iter().map(|(_, states)| size_of::<u16>() + states.size_bytes()).sum()
    }

    fn place(&self, group: u16) -> Result<usize, usize> {
        self.0.binary_search_by_key(&group, |(group, _)| *group)
    }
}
