//! A document with the places of its parts, found in the one look that finds that nothing in it is odd: for readers of many records,
//! which would otherwise go over each several times.

use std::borrow::Cow;
use std::ops::Range;

use crate::MAX_DEPTH;
use crate::plain::{Look, Writes};

/// An object in which nothing is odd, as [`read_as`](crate::read_as) would write it, and where its parts lie.
///
/// ```
/// let outline = kith_json::Outline::of(r#"{"sent": 1, "batch": [{"a": "b"}, {}]}"#, Some("batch")).unwrap();
/// assert_eq!(outline.entries().last(), Some(("batch", r#"[{"a":"b"},{}]"#)));
/// let first = &outline.records().unwrap()[0];
/// assert_eq!((outline.entries_of(first).next(), first.span()), (Some(("a", "\"b\"")), 22..32));
/// ```
#[derive(Debug)]
pub struct Outline<'a> {
    text: Cow<'a, str>,
    own: Vec<Span>,
    records: Option<Vec<Record>>,
    /// The entries of all records.
    entries: Vec<Span>,
}

/// An object in the list.
#[derive(Debug, Clone)]
pub struct Record {
    span: Range<usize>,
    entries: Range<usize>,
}

impl Record {
    /// Where it lies in the text that was looked at, with its white space; in bytes.
    pub fn span(&self) -> Range<usize> {
        self.span.clone()
    }
}

/// Where an entry lies in what is written: its key without quotes, and its value.
#[derive(Debug)]
struct Span {
    key: Range<usize>,
    value: Range<usize>,
}

impl<'a> Outline<'a> {
    /// Look at an object; what lies under the key `list`, where there is one, is a list of objects. `None` where something is odd or
    /// otherwise than this, which a reader has to look at part by part: the conditions are those of
    /// [`is_plain_object`](crate::is_plain_object) for the object, and for each of the list by itself.
    pub fn of(text: &'a str, list: Option<&str>) -> Option<Outline<'a>> {
        let mut look = Look::new(text, Writes::Text);
        let (mut own, mut entries, mut records) = (Vec::with_capacity(8), Vec::new(), None);
        (look.peek()? == b'{').then_some(())?;
        each_entry(&mut look, &mut own, |look, key| {
            if list != Some(key) {
                return look.value(MAX_DEPTH - 1);
            }
            (look.peek()? == b'[').then_some(())?;
            let found = records.insert(Vec::new());
            look.list(|look| {
                (look.peek()? == b'{').then_some(())?;
                let (from, first) = (look.place(), entries.len());
                each_entry(look, &mut entries, |look, _| look.value(MAX_DEPTH - 1))?;
                found.push(Record { span: from..look.place(), entries: first..entries.len() });
                Some(())
            })
        })?;
        look.peek().is_none().then(|| Outline { text: look.written(), own, records, entries })
    }

    /// The keys and values of the object.
    pub fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.own.iter().map(|span| self.entry(span))
    }

    /// The objects of the list; `None` where there is none.
    pub fn records(&self) -> Option<&[Record]> {
        self.records.as_deref()
    }

    /// The keys and values of an object of the list.
    pub fn entries_of(&self, record: &Record) -> impl ExactSizeIterator<Item = (&str, &str)> {
        self.entries[record.entries.clone()].iter().map(|span| self.entry(span))
    }

    fn entry(&self, span: &Span) -> (&str, &str) {
        (&self.text[span.key.clone()], &self.text[span.value.clone()])
    }
}

/// Go past an object and note where its entries lie.
fn each_entry<'a>(
    look: &mut Look<'a>,
    spans: &mut Vec<Span>,
    mut value: impl FnMut(&mut Look<'a>, &'a str) -> Option<()>,
) -> Option<()> {
    look.object(|look, key| {
        // Behind the key, its quote and the colon.
        let key_end = look.written_place() - 2;
        look.peek()?;
        let from = look.written_place();
        value(look, key)?;
        spans.push(Span { key: key_end - key.len()..key_end, value: from..look.written_place() });
        Some(())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{Duplicates, Numbers, elements, members, read_as};

    /// Keys and values.
    type Entries = Vec<(String, String)>;

    /// The entries of the object and of each record by the readers that go over the parts one by one.
    fn by_parts(text: &str, list: &str) -> Option<(Entries, Vec<Entries>)> {
        let read = |bytes: &[u8]| read_as(bytes, Duplicates::Kept, Numbers::Kept).ok().map(|read| read.text);
        let entries = |bytes: &[u8]| {
            let (entries, _) = members(bytes).ok()?;
            entries.into_iter().map(|(key, value)| Some((key.into_owned(), read(value)?))).collect::<Option<Vec<_>>>()
        };
        let own = entries(text.as_bytes())?;
        let (whole, _) = members(text.as_bytes()).ok()?;
        let (_, list) = whole.into_iter().find(|(key, _)| key == list)?;
        let records = elements(list).ok()?.into_iter().map(entries).collect::<Option<Vec<_>>>()?;
        Some((own, records))
    }

    fn owned<'a>(entries: impl Iterator<Item = (&'a str, &'a str)>) -> Entries {
        entries.map(|(key, value)| (key.to_owned(), value.to_owned())).collect()
    }

    #[test]
    fn the_parts_are_those_that_are_found_one_by_one() {
        for text in [
            r#"{"batch":[{"a":1,"b":{"c":[1,2]}},{},{"d":"e \n"}],"sentAt":"x"}"#,
            "{ \"sentAt\" : \"é x\" , \"batch\" : [ { \"a\" : [ 1 , true ] , \"b\":{ \"c\": {} } } ,\n\t{ } ] }",
            r#"{"batch": []}"#,
        ] {
            let outline = Outline::of(text, Some("batch")).unwrap();
            let (own, records) = by_parts(text, "batch").unwrap();
            assert_eq!(owned(outline.entries()), own, "{text}");
            let found = outline.records().unwrap();
            assert_eq!(found.len(), records.len(), "{text}");
            for (record, expected) in found.iter().zip(records) {
                assert_eq!(owned(outline.entries_of(record)), expected, "{text}");
                let alone = &text[record.span()];
                assert!(alone.starts_with('{') && alone.ends_with('}'), "{alone}");
                assert_eq!(owned(Outline::of(alone, None).unwrap().entries()), expected, "{alone}");
            }
        }
    }

    #[test]
    fn what_is_odd_anywhere_has_no_outline() {
        for text in [
            "",
            "[]",
            r#"{"batch":{}}"#,
            r#"{"batch":[1]}"#,
            r#"{"batch":[{}],"batch":[]}"#,
            r#"{"batch":[{"a":1,"a":2}]}"#,
            r#"{"batch":[{"a":"\ud83d"}]}"#,
            r#"{"batch":[{}]} x"#,
            r#"{"batch":[{}"#,
        ] {
            assert!(Outline::of(text, Some("batch")).is_none(), "{text}");
        }
        assert!(Outline::of(r#"{"batch":[1]}"#, None).unwrap().records().is_none());
        let deep = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        let batch = |levels| format!(r#"{{"batch":[{{"a":{}}}]}}"#, deep(levels));
        assert!(Outline::of(&batch(MAX_DEPTH - 1), Some("batch")).is_some());
        assert!(Outline::of(&batch(MAX_DEPTH), Some("batch")).is_none());
        assert!(Outline::of(&batch(MAX_DEPTH - 3), None).is_some());
        assert!(Outline::of(&batch(MAX_DEPTH - 2), None).is_none());
    }
}
