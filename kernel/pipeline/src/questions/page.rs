//! Lists, a page at a time: rows below a prefix, and cursors that name where the next page begins.

use data_encoding::{HEXLOWER, HEXLOWER_PERMISSIVE};
use kith_store::{Key, KeyRange, Store};

use super::QueryError;
use crate::views::PageRequest;

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
    fn portions_grow_from_what_is_wanted_and_end_with_what_a_page_may_look_at() {
        let portions = |wanted, most| Portions::new(wanted, most).collect::<Vec<_>>();
        assert_eq!(portions(1, 10), [1, 2, 4, 3]);
        assert_eq!(portions(500, 2_000), [500, 512, 512, 476]);
        assert_eq!(portions(0, 3), [1, 2]);
        assert!(portions(1, 0).is_empty());
    }
}
