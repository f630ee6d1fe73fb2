//! Lists, a page at a time: rows below a prefix, and cursors that name where the next page begins.

use kith_store::{Key, KeyRange, Store};

use super::QueryError;

/// Longest cursor that a list gives out, in bytes of its text.
const MAX_CURSOR_BYTES: usize = 512;

/// Rows, and the cursor of the page after them.
pub(crate) type Rows = (Vec<(Key, kith_store::Value)>, Option<String>);

/// A page of rows below `prefix`, after the cursor that the last page gave.
pub(crate) fn rows(store: &dyn Store, prefix: &Key, limit: usize, cursor: Option<&str>) -> Result<Rows, QueryError> {
    let mut range: KeyRange = prefix.range();
    if let Some(text) = cursor {
        let rest = from_hex(text).ok_or_else(|| unknown(text))?;
        range.from = prefix.followed_by(&rest);
    }
    let page = store.scan(&range, limit)?;
    let next = page.next.and_then(|next| next.strip(prefix).map(to_hex));
    Ok((page.rows, next))
}

/// The error for a cursor that no list gave out.
pub(crate) fn unknown(cursor: &str) -> QueryError {
    QueryError::Cursor(cursor.chars().take(64).collect())
}

pub(crate) fn to_hex(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

pub(crate) fn from_hex(text: &str) -> Option<Vec<u8>> {
    let is_hex = text.len().is_multiple_of(2)
        && text.len() <= MAX_CURSOR_BYTES
        && text.bytes().all(|byte| byte.is_ascii_hexdigit());
    is_hex.then(|| {
        let pair = |at: usize| u8::from_str_radix(&text[at..at + 2], 16).unwrap_or(0);
        (0..text.len()).step_by(2).map(pair).collect()
    })
}
