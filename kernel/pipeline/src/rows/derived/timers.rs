//! When time alone may change leaves: a list for each group of leaves, as their rows have them.

use kith_features::LeafId;
use kith_model::time::Timestamp;

/// When time alone may change each leaf of a profile.
#[derive(Debug, Clone, Default)]
pub(super) struct LeafTimers {
    /// Ascending by group.
    groups: Vec<OfGroup>,
    len: usize,
}

#[derive(Debug, Clone)]
struct OfGroup {
    group: u16,
    /// Whether it has changed since its row was written.
    is_changed: bool,
    earliest: Option<Timestamp>,
    /// Ascending by leaf.
    timers: Vec<(LeafId, Timestamp)>,
}

impl LeafTimers {
    /// How many there are.
    pub(super) fn len(&self) -> usize {
        self.len
    }

    /// How many groups have some.
    pub(super) fn group_count(&self) -> usize {
        self.groups.len()
    }

    pub(super) fn get(&self, leaf: LeafId) -> Option<Timestamp> {
        let timers = self.of_group(leaf.group());
        timers.binary_search_by_key(&leaf, |(of, _)| *of).ok().map(|place| timers[place].1)
    }

    /// The earliest of all.
    pub(super) fn earliest(&self) -> Option<Timestamp> {
        self.groups.iter().filter_map(|group| group.earliest).min()
    }

    /// Those of the leaves of a group, ascending by leaf.
    pub(super) fn of_group(&self, group: u16) -> &[(LeafId, Timestamp)] {
        self.place(group).map_or(&[], |place| &self.groups[place].timers)
    }

    /// All of them, ascending by leaf.
    pub(super) fn iter(&self) -> impl Iterator<Item = (LeafId, Timestamp)> {
        self.groups.iter().flat_map(|group| group.timers.iter().copied())
    }

    /// The groups that have some, ascending.
    pub(super) fn groups(&self) -> impl Iterator<Item = u16> {
        self.groups.iter().filter(|group| !group.timers.is_empty()).map(|group| group.group)
    }

    /// Set one, `None` for never; what it was before.
    pub(super) fn set(&mut self, leaf: LeafId, at: Option<Timestamp>) -> Option<Timestamp> {
        let place = match (self.place(leaf.group()), at) {
            (Ok(place), _) => place,
            (Err(_), None) => return None,
            (Err(place), Some(_)) => {
                self.groups.insert(place, OfGroup::new(leaf.group()));
                place
            }
        };
        let of_group = &mut self.groups[place];
        let before = of_group.set(leaf, at);
        if before != at {
            of_group.is_changed = true;
            self.len = self.len + usize::from(before.is_none()) - usize::from(at.is_none());
        }
        before
    }

    /// Take in the timers of a group that was read.
    pub(super) fn take_in(&mut self, group: u16, timers: Vec<(LeafId, Timestamp)>) {
        if timers.is_empty() {
            return;
        }
        let place = self.place(group).unwrap_or_else(|place| {
            self.groups.insert(place, OfGroup::new(group));
            place
        });
        for (leaf, at) in timers {
            let before = self.groups[place].set(leaf, Some(at));
            self.len += usize::from(before.is_none());
        }
    }

    /// The groups that have changed since they were written, which they are from now on.
    pub(super) fn take_changed(&mut self) -> impl Iterator<Item = u16> {
        let marked =
            self.groups.iter_mut().filter_map(|group| std::mem::take(&mut group.is_changed).then_some(group.group));
        let changed: Vec<u16> = marked.collect();
        if !changed.is_empty() {
            self.groups.retain(|group| !group.timers.is_empty());
        }
        changed.into_iter()
    }

    fn place(&self, group: u16) -> Result<usize, usize> {
        self.groups.binary_search_by_key(&group, |of| of.group)
    }
}

impl OfGroup {
    fn new(group: u16) -> OfGroup {
        OfGroup { group, is_changed: false, earliest: None, timers: Vec::new() }
    }

    /// Set one; what it was before.
    fn set(&mut self, leaf: LeafId, at: Option<Timestamp>) -> Option<Timestamp> {
        let before = match (self.timers.binary_search_by_key(&leaf, |(of, _)| *of), at) {
            (Ok(place), Some(at)) => Some(std::mem::replace(&mut self.timers[place].1, at)),
            (Ok(place), None) => Some(self.timers.remove(place).1),
            (Err(place), Some(at)) => {
                self.timers.insert(place, (leaf, at));
                None
            }
            (Err(_), None) => None,
        };
        // The earliest may have been the one that was moved.
        self.earliest = match (self.earliest, at) {
            (Some(earliest), _) if before == Some(earliest) => self.timers.iter().map(|(_, at)| *at).min(),
            (earliest, at) => earliest.into_iter().chain(at).min(),
        };
        before
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        /// Against an ordered map.
        #[test]
        fn they_are_what_was_set(sets in prop::collection::vec((0..4_u64, 0..4_u64, prop::option::of(0..9_i64)), 0..60)) {
            let (mut timers, mut plain) = (LeafTimers::default(), BTreeMap::new());
            for (group, leaf, at) in sets {
                let (leaf, at) = (LeafId(group << 48 | leaf), at.map(Timestamp));
                let before = match at {
                    Some(at) => plain.insert(leaf, at),
                    None => plain.remove(&leaf),
                };
                let _ = timers.take_changed().count();
                prop_assert_eq!(timers.set(leaf, at), before);
                let is_changed = timers.take_changed().eq([leaf.group()]);
                prop_assert_eq!(is_changed, before != at);
                prop_assert!(timers.iter().eq(plain.iter().map(|(leaf, at)| (*leaf, *at))));
                prop_assert_eq!(timers.earliest(), plain.values().min().copied());
                prop_assert_eq!((timers.len(), timers.get(leaf)), (plain.len(), at));
            }
            let mut read = LeafTimers::default();
            timers.groups().for_each(|group| read.take_in(group, timers.of_group(group).to_vec()));
            prop_assert!(read.iter().eq(timers.iter()) && read.take_changed().count() == 0);
            prop_assert_eq!(read.earliest(), timers.earliest());
        }
    }
}
