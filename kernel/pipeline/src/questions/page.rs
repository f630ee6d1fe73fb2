//! Lists, a page at a time: rows below a prefix, cursors that name where the next page begins, and the room that a page has.

use std::collections::BTreeMap;

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use kith_store::{Key, KeyRange, Store};

use super::QueryError;
use crate::views::PageRequest;

/// What a page has, about, in bytes: whoever wrote the data chose how large its items are, and a number of them alone is no
/// bound.
pub const PAGE_BYTES: usize = 4 << 20;

/// The room of a page: it is full with the item that is the last of its number, or with which it reaches its bytes. So a page
/// has at least one item however large that is.
#[derive(Debug, Clone, Copy)]
pub struct PageRoom {
    items: usize,
    bytes: usize,
}

impl PageRoom {
    /// Room for so many items, and for [`PAGE_BYTES`].
    pub fn new(items: usize) -> PageRoom {
        PageRoom { items, bytes: PAGE_BYTES }
    }

    /// Take an item of so many bytes in.
    pub fn take(&mut self, bytes: usize) {
        self.items = self.items.saturating_sub(1);
        self.bytes = self.bytes.saturating_sub(bytes);
    }

    /// Whether the page ends here.
    pub fn is_full(&self) -> bool {
        self.items == 0 || self.bytes == 0
    }
}

/// The first things from a place on in the order of their keys, until they reach their bytes, of many that come in any order.
/// Those behind them are not kept, so that a window takes no more memory however many there are.
#[derive(Debug)]
pub(crate) struct Window<K, V> {
    from: Option<K>,
    most_bytes: usize,
    kept: BTreeMap<K, (V, usize)>,
    bytes: usize,
    /// The first that had no room; nothing from there on is kept any more, because it would lack what came earlier.
    next: Option<K>,
}

impl<K: Ord, V> Window<K, V> {
    pub(crate) fn new(from: Option<K>, most_bytes: usize) -> Window<K, V> {
        Window { from, most_bytes, kept: BTreeMap::new(), bytes: 0, next: None }
    }

    /// Whether a key lies before the window, where an earlier answer has shown it.
    pub(crate) fn is_behind(&self, key: &K) -> bool {
        self.from.as_ref().is_some_and(|from| key < from)
    }

    /// Whether there is room for a thing with this key, as far as is known yet.
    pub(crate) fn admits(&self, key: &K) -> bool {
        !self.is_behind(key) && self.next.as_ref().is_none_or(|next| key < next)
    }

    pub(crate) fn get(&self, key: &K) -> Option<&V> {
        self.kept.get(key).map(|(value, _)| value)
    }

    /// Keep a thing of so many bytes, in the place of an earlier one with its key. What has no room for it goes, the greatest
    /// keys first.
    pub(crate) fn put(&mut self, key: K, value: V, bytes: usize) {
        if !self.admits(&key) {
            return;
        }
        self.bytes += bytes;
        let replaced = self.kept.insert(key, (value, bytes));
        self.bytes -= replaced.map_or(0, |(_, bytes)| bytes);
        while self.bytes > self.most_bytes && self.kept.len() > 1 {
            let Some((key, (_, bytes))) = self.kept.pop_last() else { break };
            self.bytes -= bytes;
            self.next = Some(key);
        }
    }

    /// What is shown, and where what is left out begins.
    pub(crate) fn into_parts(self) -> (BTreeMap<K, V>, Option<K>) {
        (self.kept.into_iter().map(|(key, (value, _))| (key, value)).collect(), self.next)
    }
}

/// Longest cursor that a list gives out, in bytes of its text.
const MAX_CURSOR_BYTES: usize = 512;

/// Rows, and the cursor of the page after them.
pub(crate) type Rows = (Vec<(Key, kith_store::Value)>, Option<String>);

/// A page of rows below `prefix`.
pub(crate) fn rows(
    store: &dyn Store,
    prefix: &Key,
    PageRequest { limit, cursor }: PageRequest<'_>,
) -> Result<Rows, QueryError> {
    let mut range: KeyRange = prefix.range();
    if let Some(text) = cursor {
        let rest = from_hex(text).ok_or_else(|| unknown(text))?;
        range.from = prefix.followed_by(&rest);
    }
    let page = store.scan(&range, limit)?;
    let next = page.next.and_then(|next| next.strip(prefix).map(to_hex));
    Ok((page.rows, next))
}

/// The most rows that are read at once where some may be left out.
const MAX_AT_ONCE: usize = 512;

/// How many rows a page reads at once where some of them are left out: first as many as it is to show, then twice as many each
/// time, until it has looked at so many that it ends, full or not.
pub(crate) struct Portions {
    next: usize,
    left: usize,
}

impl Portions {
    pub(crate) fn new(wanted: usize, most: usize) -> Portions {
        Portions { next: wanted.clamp(1, MAX_AT_ONCE), left: most }
    }
}

impl Iterator for Portions {
    type Item = usize;

    fn next(&mut self) -> Option<usize> {
        let rows = self.next.min(self.left);
        self.left -= rows;
        self.next = (2 * self.next).min(MAX_AT_ONCE);
        (rows > 0).then_some(rows)
    }
}

/// The error for a cursor that no list gave out.
pub(crate) fn unknown(cursor: &str) -> QueryError {
    QueryError::Cursor(cursor.chars().take(64).collect())
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    HEXLOWER.encode(bytes)
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    (text.len() <= MAX_CURSOR_BYTES).then(|| HEXLOWER_PERMISSIVE.decode(text.as_bytes()).ok()).flatten()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_page_is_full_with_its_last_item_or_with_the_one_that_reaches_its_bytes() {
        let mut room = PageRoom::new(2);
        assert!(!room.is_full());
        room.take(1);
        assert!(!room.is_full());
        room.take(1);
        assert!(room.is_full(), "two items");
        let mut room = PageRoom::new(500);
        room.take(PAGE_BYTES - 1);
        assert!(!room.is_full());
        room.take(1);
        assert!(room.is_full(), "its bytes");
        let mut room = PageRoom::new(500);
        room.take(10 * PAGE_BYTES);
        assert!(room.is_full(), "one item, however large");
    }

    /// In whatever order things come, and whatever is written over meanwhile, windows one after the other have each once.
    #[test]
    fn windows_one_after_the_other_have_everything_once() {
        for seed in 0..50_u64 {
            let number = |n: u64| (n + 1).wrapping_mul(seed * 2 + 0x9e37_79b9_7f4a_7c15) >> 32;
            // Each key comes three times; the last value of it holds.
            let came: Vec<(u64, u64, usize)> =
                (0..90).map(|n| (number(n % 30) % 1_000, n, usize::try_from(number(n) % 40).unwrap())).collect();
            let expected: BTreeMap<u64, u64> = came.iter().map(|(key, value, _)| (*key, *value)).collect();
            let (mut found, mut from) = (BTreeMap::new(), None);
            loop {
                let mut window = Window::new(from, 100);
                for (key, value, bytes) in &came {
                    window.put(*key, *value, *bytes);
                }
                let (kept, next) = window.into_parts();
                assert!(!kept.is_empty(), "at least one");
                for (key, value) in kept {
                    assert_eq!(found.insert(key, value), None, "{key} once");
                }
                from = next;
                if from.is_none() {
                    break;
                }
            }
            assert_eq!(found, expected);
        }
    }

    #[test]
    fn portions_grow_from_what_is_wanted_and_end_with_what_a_page_may_look_at() {
        let portions = |wanted, most| Portions::new(wanted, most).collect::<Vec<_>>();
        assert_eq!(portions(1, 10), [1, 2, 4, 3]);
        assert_eq!(portions(500, 2_000), [500, 512, 512, 476]);
        assert_eq!(portions(0, 3), [1, 2]);
        assert!(portions(1, 0).is_empty());
    }
}
