//! "Never seen": filters that spare a look into the store for keys that are not there. They know keys and counts, nothing of
//! what the keys mean.
//!
//! What is stored already is read by a thread of its own, so that a start need not wait for it. Until it has come to its end
//! no key is certain to be new, and the store is asked.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{Builder, JoinHandle};

use fastbloom::BloomFilter;
use kith_store::{Key, KeyRange, ReadError, Store};

/// The share of new keys that a full filter takes for seen.
const FALSE_ALARMS: f64 = 0.01;

/// Rows that are read before the thread looks whether it is still wanted.
const PAGE_ROWS: usize = 4096;

/// What a filter holds of a key.
#[derive(Debug, Clone, Copy)]
pub(crate) struct FilterPart<'k> {
    /// Keys of different groups have filters of their own, so that a group can be forgotten.
    pub group: u32,
    /// The part of the key that is looked for.
    pub bytes: &'k [u8],
}

type Part = fn(&Key) -> FilterPart<'_>;

/// The first filter of a group is made for so many keys, and each one after it for four times as many, up to the largest: a
/// workspace of a few people costs kilobytes.
const FIRST_ITEMS: usize = 1 << 14;

/// Filters for each group, and how many keys each holds.
struct Filters {
    /// For how many keys the largest is made.
    items: usize,
    groups: BTreeMap<u32, Vec<(BloomFilter, usize)>>,
}

impl Filters {
    fn insert(&mut self, part: FilterPart<'_>) {
        let filters = self.groups.entry(part.group).or_default();
        let room = |number: usize| FIRST_ITEMS.saturating_mul(1 << (2 * number.min(16))).min(self.items);
        if filters.last().is_none_or(|(_, held)| *held >= room(filters.len() - 1)) {
            let items = room(filters.len());
            let filter = BloomFilter::with_false_pos(FALSE_ALARMS).seed(&0x6b69_7468).expected_items(items);
            filters.push((filter, 0));
        }
        if let Some((filter, held)) = filters.last_mut() {
            filter.insert(part.bytes);
            *held += 1;
        }
    }

    fn contains(&self, part: FilterPart<'_>) -> bool {
        let filters = self.groups.get(&part.group);
        filters.is_some_and(|filters| filters.iter().any(|(filter, _)| filter.contains(part.bytes)))
    }
}

/// What is read at the start.
enum StoredFilters {
    Reading {
        stop: Arc<AtomicBool>,
        thread: JoinHandle<Result<Filters, ReadError>>,
    },
    Read(Filters),
    /// It could not be read: the store has to be asked for good.
    Unreadable,
}

/// Whether keys of one range may be in the store.
pub(crate) struct NeverSeen {
    part: Part,
    stored: StoredFilters,
    added: Filters,
    /// Groups that were forgotten while the stored keys were still being read.
    forgotten: BTreeSet<u32>,
}

impl NeverSeen {
    /// Begin to read the keys in `range`. A filter is made for `items` keys at most; when one is full, another is begun.
    pub(crate) fn over(store: Arc<dyn Store>, range: KeyRange, items: usize, part: Part) -> NeverSeen {
        let stop = Arc::new(AtomicBool::new(false));
        let stopped = Arc::clone(&stop);
        let empty = move || Filters { items, groups: BTreeMap::new() };
        let read = move || read(store.as_ref(), range, empty(), part, &stopped);
        let stored = match Builder::new().name("kith-filters".to_owned()).spawn(read) {
            Ok(thread) => StoredFilters::Reading { stop, thread },
            Err(error) => {
                tracing::warn!(%error, "no thread to read the filters; every new key is looked up in the store");
                StoredFilters::Unreadable
            }
        };
        NeverSeen { part, stored, added: empty(), forgotten: BTreeSet::new() }
    }

    /// Note a key that is being stored.
    pub(crate) fn insert(&mut self, key: &Key) {
        self.added.insert((self.part)(key));
    }

    /// Drop the filters of a group whose keys are being deleted.
    pub(crate) fn forget(&mut self, group: u32) {
        self.added.groups.remove(&group);
        match &mut self.stored {
            StoredFilters::Read(filters) => {
                filters.groups.remove(&group);
            }
            StoredFilters::Reading { .. } => {
                self.forgotten.insert(group);
            }
            StoredFilters::Unreadable => {}
        }
    }

    /// False only for a key that is certainly not stored.
    pub(crate) fn may_be_stored(&mut self, key: &Key) -> bool {
        if matches!(&self.stored, StoredFilters::Reading { thread, .. } if thread.is_finished()) {
            self.finish();
        }
        let part = (self.part)(key);
        match &self.stored {
            StoredFilters::Read(filters) => self.added.contains(part) || filters.contains(part),
            StoredFilters::Reading { .. } | StoredFilters::Unreadable => true,
        }
    }

    /// Take over what the thread has read, waiting for its end.
    fn finish(&mut self) {
        self.stored = match std::mem::replace(&mut self.stored, StoredFilters::Unreadable) {
            StoredFilters::Reading { thread, .. } => match thread.join() {
                Ok(Ok(mut filters)) => {
                    let forgotten = std::mem::take(&mut self.forgotten);
                    filters.groups.retain(|group, _| !forgotten.contains(group));
                    StoredFilters::Read(filters)
                }
                Ok(Err(error)) => {
                    tracing::error!(%error, "the filters cannot be read; every new key is looked up in the store");
                    StoredFilters::Unreadable
                }
                Err(_) => {
                    tracing::error!("reading the filters panicked; every new key is looked up in the store");
                    StoredFilters::Unreadable
                }
            },
            known => known,
        };
    }
}

impl Drop for NeverSeen {
    /// The thread holds the store, which must be free when its user is gone.
    fn drop(&mut self) {
        if let StoredFilters::Reading { stop, .. } = &self.stored {
            stop.store(true, Ordering::Relaxed);
            self.finish();
        }
    }
}

fn read(
    store: &dyn Store,
    mut range: KeyRange,
    mut filters: Filters,
    part: Part,
    stop: &AtomicBool,
) -> Result<Filters, ReadError> {
    while !stop.load(Ordering::Relaxed) {
        let page = store.scan(&range, PAGE_ROWS)?;
        page.rows.iter().for_each(|(key, _)| filters.insert(part(key)));
        match page.next {
            Some(next) => range.from = next,
            None => break,
        }
    }
    Ok(filters)
}

#[cfg(test)]
mod tests {
    use kith_model::id::WorkspaceId;
    use kith_store::{Operation, Unit};

    use super::*;

    const WORKSPACE: WorkspaceId = WorkspaceId(7);

    fn part(key: &Key) -> FilterPart<'_> {
        let bytes = &key.as_bytes()[7..];
        FilterPart { group: u32::from(bytes[3] & 1), bytes }
    }

    fn key(number: u32) -> Key {
        Key::timers(WORKSPACE).followed_by(&number.to_be_bytes())
    }

    #[test]
    fn what_is_stored_and_what_is_added_is_never_called_new() {
        let store = Arc::new(kith_store::memory());
        let operations = (0..10_000).map(|number| Operation::Put(key(number), Vec::new())).collect();
        store.commit(Unit { operations, ..Unit::default() }).unwrap();
        let mut seen = NeverSeen::over(store, Key::timers(WORKSPACE).range(), 1_000, part);
        // While the stored keys are being read, and after it.
        for _ in 0..2 {
            assert!((0..10_000).all(|number| seen.may_be_stored(&key(number))));
            seen.finish();
        }
        let alarms = (10_000..20_000).filter(|number| seen.may_be_stored(&key(*number))).count();
        assert!(alarms < 1_500, "{alarms} false alarms of five filters for each half at one in a hundred");
        (10_000..20_000).for_each(|number| seen.insert(&key(number)));
        assert!((0..20_000).all(|number| seen.may_be_stored(&key(number))));
        seen.forget(1);
        assert!(
            (0..10_000).all(|number| seen.may_be_stored(&key(2 * number)) && !seen.may_be_stored(&key(2 * number + 1)))
        );
    }

    #[test]
    fn filters_begin_small_and_grow_to_the_largest() {
        let mut filters = Filters { items: 3 * FIRST_ITEMS, groups: BTreeMap::new() };
        let numbers = || (0..8 * u32::try_from(FIRST_ITEMS).unwrap()).map(u32::to_be_bytes);
        for bytes in numbers() {
            filters.insert(FilterPart { group: 0, bytes: &bytes });
        }
        let held: Vec<usize> = filters.groups[&0].iter().map(|(_, held)| held / FIRST_ITEMS).collect();
        assert_eq!(held, [1, 3, 3, 1]);
        assert!(numbers().all(|bytes| filters.contains(FilterPart { group: 0, bytes: &bytes })));
        let sizes: Vec<usize> = filters.groups[&0].iter().map(|(filter, _)| filter.num_bits()).collect();
        assert!(sizes[1] > 2 * sizes[0] && sizes[2] == sizes[1], "{sizes:?}");
    }

    #[test]
    fn dropping_it_frees_the_store() {
        let store: Arc<dyn Store> = Arc::new(kith_store::memory());
        drop(NeverSeen::over(Arc::clone(&store), Key::timers(WORKSPACE).range(), 1_000, part));
        assert_eq!(Arc::strong_count(&store), 1);
    }
}
