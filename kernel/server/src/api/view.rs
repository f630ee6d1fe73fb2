//! Pieces that several answers share.

use std::fmt::Display;
use std::io;
use std::str::FromStr;

use kith_json::{Duplicates, Numbers};
use kith_model::identity::Identifier;
use kith_model::time::Timestamp;
use kith_pipeline::PageRoom;
use serde::Serialize;
use serde_json::Value;
use serde_json::value::RawValue;
use utoipa::ToSchema;

use super::extract::PageQuery;
use crate::error::ApiError;

/// A moment as the API writes it: RFC 3339 in UTC.
pub(crate) fn time(at: Timestamp) -> String {
    at.to_string()
}

/// Stored JSON text as JSON, its numbers digit by digit, of a repeated key the last; the empty text is an empty object. It is never
/// read into numbers of the machine, because those have fewer digits than a sender may write. A number that no float is near is
/// a text, because many readers refuse a whole answer for it.
pub(crate) fn json(text: &str) -> Box<RawValue> {
    let text = if text.is_empty() { "{}" } else { text };
    let as_text = || Value::from(text).to_string();
    let read = kith_json::read_as(text.as_bytes(), Duplicates::LastHolds, Numbers::Texts);
    let written = read.map_or_else(|_| as_text(), |document| document.text);
    RawValue::from_string(written).unwrap_or_default()
}

/// Something that names a person.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct IdentifierView {
    /// `user_id`, `anonymous_id`, `email`, …
    #[serde(rename = "type")]
    pub(crate) kind: String,
    pub(crate) value: String,
}

impl From<&Identifier> for IdentifierView {
    fn from(identifier: &Identifier) -> IdentifierView {
        IdentifierView { kind: identifier.kind.clone(), value: identifier.value.clone() }
    }
}

/// What an answer takes as JSON, in bytes.
pub(crate) fn written_bytes(answer: &impl Serialize) -> usize {
    struct Counted(usize);
    impl io::Write for Counted {
        fn write(&mut self, piece: &[u8]) -> io::Result<usize> {
            self.0 += piece.len();
            Ok(piece.len())
        }
        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }
    let mut counted = Counted(0);
    // What cannot be written fails where it is.
    let _ = serde_json::to_writer(&mut counted, answer);
    counted.0
}

/// One page of a list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Page<T> {
    pub(crate) items: Vec<T>,
    /// Hand it in as `cursor` to get the next page; `null` at the end.
    pub(crate) next: Option<String>,
}

impl<T: Serialize> Page<T> {
    /// The page that is asked for of rows in the order of their keys; a row's key is its cursor, so that a page goes on
    /// behind the last row of the one before whatever has come or gone since. It ends where a [`PageRoom`] does: whoever
    /// wrote a row may have made it long.
    pub(crate) fn of<K: Ord + FromStr + Display, R>(
        rows: impl Iterator<Item = (K, R)>,
        query: &PageQuery,
        mut show: impl FnMut(R) -> Result<T, ApiError>,
    ) -> Result<Page<T>, ApiError> {
        let limit = query.limit()?;
        let foreign = || ApiError::at("?cursor", "this list gave out no such cursor");
        let read = |text: &str| {
            data_encoding::HEXLOWER.decode(text.as_bytes()).ok().and_then(|key| String::from_utf8(key).ok())
        };
        let after = query.cursor.as_deref().map(|text| read(text)?.parse::<K>().ok());
        let after = after.map(|after| after.ok_or_else(foreign)).transpose()?;
        let mut rows = rows.skip_while(|(key, _)| after.as_ref().is_some_and(|after| key <= after)).peekable();
        let (mut items, mut last, mut room) = (Vec::new(), None, PageRoom::new(limit));
        while !room.is_full() {
            let Some((key, row)) = rows.next() else { break };
            let item = show(row)?;
            room.take(written_bytes(&item));
            items.push(item);
            last = Some(key);
        }
        let next = rows.peek().and(last).map(|last| data_encoding::HEXLOWER.encode(last.to_string().as_bytes()));
        Ok(Page { items, next })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_shown_digit_by_digit() {
        for text in ["123456789012345678901", "0.1234567890123456789", r#"{"n":[1e300,1.0]}"#, "\"a\"", "null"] {
            assert_eq!(json(text).get(), text);
        }
        assert_eq!(json("").get(), "{}");
        assert_eq!(json(r#"{"n":1e400}"#).get(), r#"{"n":"1e400"}"#);
        assert_eq!(json(r#"{"a":1, "a":2}"#).get(), r#"{"a":2}"#);
        assert_eq!(json("not \"json\"").get(), r#""not \"json\"""#);
    }

    #[test]
    fn pages_go_on_behind_their_last_row_whatever_goes_meanwhile() {
        let page = |rows: &[u32], limit: usize, cursor: Option<String>| {
            let query = PageQuery::new(limit, cursor);
            Page::of(rows.iter().map(|row| (*row, *row)), &query, Ok).unwrap()
        };
        let first = page(&[1, 5, 9, 10], 2, None);
        assert_eq!(first.items, [1, 5]);
        let second = page(&[1, 6, 9, 10], 2, first.next);
        assert_eq!(second.items, [6, 9]);
        let third = page(&[1, 6, 9, 10], 2, second.next);
        assert_eq!((third.items, third.next), (vec![10], None));
        for foreign in ["x", "7a", "ff"] {
            let query = PageQuery::new(2, Some(foreign.to_owned()));
            assert!(Page::of([(1_u32, 1)].into_iter(), &query, Ok).is_err(), "{foreign}");
        }
    }

    /// Whatever callers wrote, a page has a bound of bytes: it ended with 500 items of 72 KB each, and eight such answers at once
    /// held everybody up.
    #[test]
    fn a_page_of_long_items_ends_with_its_bytes_and_the_next_goes_on() {
        let long = "x".repeat(100 << 10);
        let (mut cursor, mut seen) = (None, Vec::new());
        loop {
            let rows = (0..100_u32).map(|row| (row, (row, long.as_str())));
            let page = Page::of(rows, &PageQuery::new(500, cursor), Ok).unwrap();
            assert!((4 << 20..5 << 20).contains(&written_bytes(&page)) || page.next.is_none());
            seen.extend(page.items.iter().map(|(row, _)| *row));
            cursor = page.next;
            if cursor.is_none() {
                break;
            }
        }
        assert_eq!(seen, (0..100).collect::<Vec<u32>>(), "each once");
        let larger_than_a_page = "x".repeat(5 << 20);
        let rows = (0..2_u32).map(|row| (row, larger_than_a_page.as_str()));
        let page = Page::of(rows, &PageQuery::new(500, None), Ok).unwrap();
        assert_eq!((page.items.len(), page.next.is_some()), (1, true), "one at least");
    }
}
