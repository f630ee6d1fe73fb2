//! The form of the rows, and the one before sources were told apart: what is kept in it counts on as that of no source.

use std::collections::BTreeMap;

use kith_model::time::Timestamp;
use kith_store::row::{self, Owner, Row};
use serde::Deserialize;

use super::{BEFORE_SOURCES, Kinds, NameUsage, SeenRow, Subject};

#[derive(Deserialize)]
struct Seen1 {
    count: u64,
    first: Timestamp,
    last: Timestamp,
    kinds: Kinds,
    values: BTreeMap<String, u64>,
    has_many_values: bool,
}

#[derive(Deserialize)]
struct SeenRow1 {
    subject: Subject,
    seen: Seen1,
    names: BTreeMap<String, Seen1>,
}

impl From<Seen1> for NameUsage {
    /// A kind is as old as its name, of which nothing better is known, and of how many people it came is found out anew.
    fn from(before: Seen1) -> NameUsage {
        let Seen1 { count, first, last, kinds, values, has_many_values } = before;
        let came = kinds.each().into_iter().filter(|(_, count)| *count > 0);
        let since = came.map(|(kind, _)| (kind, first)).collect();
        NameUsage { count, first, last, kinds, values, has_many_values, since, ..NameUsage::default() }
    }
}

impl Row for SeenRow {
    const WHAT: &'static str = "names that came";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 2;

    fn before(version: u8, body: &[u8]) -> Option<Result<SeenRow, String>> {
        (version == 1).then(|| {
            let SeenRow1 { subject, seen, names } = row::read_postcard(body)?;
            let names = names.into_iter().map(|(name, seen)| (name, seen.into())).collect();
            Ok(SeenRow { source: BEFORE_SOURCES, subject, part: 0, seen: seen.into(), names })
        })
    }
}

#[cfg(test)]
mod tests {
    use serde::Serialize;

    use super::*;
    use crate::react::seen::Kind;

    #[test]
    fn rows_of_before_sources_were_told_apart_read() {
        #[derive(Serialize)]
        struct WrittenRow<'w>(Subject, WrittenSeen<'w>, BTreeMap<&'w str, WrittenSeen<'w>>);
        #[derive(Serialize)]
        struct WrittenSeen<'w>(u64, Timestamp, Timestamp, Kinds, BTreeMap<&'w str, u64>, bool);
        let seen = |kinds| WrittenSeen(3, Timestamp(5), Timestamp(9), kinds, [("1", 2)].into(), false);
        let numbers = Kinds { numbers: 2, nulls: 1, ..Kinds::default() };
        let written =
            WrittenRow(Subject::Event("Buy".into()), seen(Kinds::default()), [("total", seen(numbers))].into());
        let mut bytes = vec![1];
        row::write_postcard(&written, &mut bytes);
        let read: SeenRow = row::decode(&bytes).unwrap();
        let total = &read.names["total"];
        assert_eq!((read.source, total.count, total.last, total.people()), (BEFORE_SOURCES, 3, Timestamp(9), 0));
        assert_eq!(total.since, [(Kind::Null, Timestamp(5)), (Kind::Number, Timestamp(5))].into());
        assert_eq!(row::decode::<SeenRow>(&row::encode(&read)).unwrap(), read);
    }
}
