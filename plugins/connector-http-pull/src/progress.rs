//! The cursor: which resource is being read, how far, and up to which value each was read before. It has a version, and each part the
//! digest of what was asked for: where that is another, the resource begins at its beginning.

use std::collections::BTreeMap;

use kith_plugin_sdk::{PollFailure, Timestamp};
use serde::{Deserialize, Serialize};

use crate::address;
use crate::hash::hash;
use crate::settings::{Resource, Settings};

/// Of the cursor's form. One of another version is not read, and everything begins at its beginning.
const VERSION: u32 = 1;

/// The longest address or cursor of a next page.
pub(crate) const MAX_POSITION_BYTES: usize = 4 * 1024;

/// Counted pages in a row without a record after which an API that says that more follows is not believed any more.
pub(crate) const MAX_EMPTY_PAGES: u64 = 100;

/// What the cursor holds.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Progress {
    version: u32,
    /// By the names of the resources: up to where they were read.
    marks: BTreeMap<String, Mark>,
    /// What is being read; none between two runs.
    run: Option<Run>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
struct Mark {
    digest: u64,
    value: i64,
}

/// One resource on its way from the first page to the last.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Run {
    resource: String,
    digest: u64,
    pub(crate) position: Position,
    /// The mark that it began with: every page is asked for with the same.
    pub(crate) since: Option<i64>,
    /// The greatest value so far.
    pub(crate) highest: Option<i64>,
    pub(crate) started_at: Timestamp,
    pub(crate) pages: u64,
    /// How many records the first page had: how many a full page has.
    pub(crate) full: u64,
    /// Whether the page before said that another follows, where it said so.
    pub(crate) said_more: Option<bool>,
    /// The records of the page before.
    records: Option<u64>,
    /// Pages without a record since the last one that had any.
    #[serde(default)]
    pub(crate) empty_pages: u64,
    guard: Guard,
    /// The pages that were read before a next page expired and the run began again; 0 where it did not.
    pages_before: u64,
}

/// Where a page is.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Position {
    First,
    /// At this address.
    Link(String),
    /// Behind this cursor.
    Cursor(String),
    Page(u64),
    Offset(u64),
}

/// Finds a circle in the positions in constant room: a position is compared with one that is kept, and which is kept changes
/// after 1, 2, 4, … steps (Brent's algorithm).
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
struct Guard {
    kept: Option<u64>,
    steps: u64,
    limit: u64,
}

impl Guard {
    /// Whether this was here before.
    fn meets(&mut self, seen: u64) -> bool {
        if self.kept == Some(seen) {
            return true;
        }
        self.steps += 1;
        if self.steps >= self.limit {
            *self = Guard { kept: Some(seen), steps: 0, limit: self.limit.saturating_mul(2).max(1) };
        }
        false
    }
}

impl Run {
    fn new(resource: &Resource, marks: &BTreeMap<String, Mark>, now: Timestamp) -> Run {
        let mark = marks.get(&resource.name).filter(|mark| mark.digest == resource.digest && resource.since.is_some());
        Run {
            resource: resource.name.clone(),
            digest: resource.digest,
            position: Position::First,
            since: mark.map(|mark| mark.value),
            highest: None,
            started_at: now,
            pages: 0,
            full: 0,
            said_more: None,
            records: None,
            empty_pages: 0,
            guard: Guard::default(),
            pages_before: 0,
        }
    }

    /// Whether the page that is next was named by the API: such names are good for a while, and a poll may have waited for longer.
    pub(crate) fn is_at_a_named_page(&self) -> bool {
        matches!(self.position, Position::Link(_) | Position::Cursor(_))
    }

    /// The same from the first page; `None` where it came no further than the time before, so that it would go on like this for ever.
    pub(crate) fn begun_again(&self) -> Option<Run> {
        (self.pages > self.pages_before).then(|| Run {
            resource: self.resource.clone(),
            digest: self.digest,
            position: Position::First,
            since: self.since,
            highest: None,
            started_at: self.started_at,
            pages: 0,
            full: 0,
            said_more: None,
            records: None,
            empty_pages: 0,
            guard: Guard::default(),
            pages_before: self.pages,
        })
    }

    /// Whether a page was read with these settings before, so that they are right.
    pub(crate) fn has_worked(&self) -> bool {
        self.pages > 0 || self.since.is_some()
    }

    /// Note a page of so many records, given as their bytes.
    pub(crate) fn note_page(&mut self, count: u64, records: &[u8]) -> Result<(), PollFailure> {
        let seen = (count > 0).then(|| hash(records));
        if seen.is_some() && seen == self.records {
            return Err(PollFailure::permanent(
                "the page has the same records as the page before: the API does not know the parameter of `paging`, or goes round in \
                 circles",
            ));
        }
        if self.pages == 0 {
            self.full = count;
        }
        self.pages += 1;
        self.records = seen;
        self.empty_pages = if count == 0 { self.empty_pages.saturating_add(1) } else { 0 };
        Ok(())
    }

    /// Go on to the next page.
    pub(crate) fn go_to(&mut self, position: Position) -> Result<(), PollFailure> {
        let written = match &position {
            Position::Link(text) | Position::Cursor(text) => text.clone(),
            Position::Page(number) | Position::Offset(number) => number.to_string(),
            Position::First => String::new(),
        };
        if written.len() > MAX_POSITION_BYTES {
            return Err(PollFailure::permanent(format!(
                "the next page is named with {} bytes; at most {MAX_POSITION_BYTES} are taken",
                written.len()
            )));
        }
        if position == self.position || self.guard.meets(hash(written.as_bytes())) {
            let shown = match &position {
                Position::Link(url) => address::shown(url),
                _ => written,
            };
            return Err(PollFailure::permanent(format!(
                "the API goes round in circles: it names a next page that was read in this run already: {shown:.200}"
            )));
        }
        self.position = position;
        Ok(())
    }
}

impl Progress {
    /// The progress that a cursor holds, with a run that is one of the configuration's, and its resource. What cannot be read begins
    /// at the beginning: what is stored already is known by its ids.
    pub(crate) fn resume<'s>(
        cursor: Option<&[u8]>,
        settings: &'s Settings,
        now: Timestamp,
    ) -> Result<(Progress, Run, &'s Resource), PollFailure> {
        let read = cursor.and_then(|cursor| serde_json::from_slice::<Progress>(cursor).ok());
        let known = read.filter(|progress| progress.version == VERSION);
        let mut progress = known.unwrap_or_else(|| Progress { version: VERSION, marks: BTreeMap::new(), run: None });
        let run = progress.run.take();
        let named = |name: &str| settings.resources.iter().find(|resource| resource.name == name);
        let first = settings.resources.first();
        let resource = run.as_ref().and_then(|run| named(&run.resource)).or(first);
        let resource = resource.ok_or_else(|| PollFailure::permanent("the configuration names no `resources`"))?;
        let run = run.filter(|run| run.resource == resource.name && run.digest == resource.digest);
        let run = run.unwrap_or_else(|| Run::new(resource, &progress.marks, now));
        Ok((progress, run, resource))
    }

    /// The cursor behind a page after which the resource goes on.
    pub(crate) fn go_on(mut self, run: Run) -> Result<Vec<u8>, PollFailure> {
        self.run = Some(run);
        self.written()
    }

    /// The cursor behind the last page of a resource, and whether another resource follows.
    pub(crate) fn finish(
        mut self,
        run: &Run,
        resource: &Resource,
        settings: &Settings,
        now: Timestamp,
    ) -> Result<(Vec<u8>, bool), PollFailure> {
        // A mark never goes back, whatever the other side's clock does.
        if let Some(value) = run.since.max(run.highest) {
            self.marks.insert(resource.name.clone(), Mark { digest: resource.digest, value });
        }
        let is_known = |name: &String| settings.resources.iter().any(|resource| resource.name == *name);
        self.marks.retain(|name, _| is_known(name));
        let behind = settings.resources.iter().skip_while(|other| other.name != resource.name).nth(1);
        self.run = behind.map(|next| Run::new(next, &self.marks, now));
        let has_more = self.run.is_some();
        Ok((self.written()?, has_more))
    }

    fn written(&self) -> Result<Vec<u8>, PollFailure> {
        serde_json::to_vec(self).map_err(|error| PollFailure::permanent(format!("the cursor does not write: {error}")))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn settings(path: &str) -> Settings {
        let resource = |name: &str, path: &str| {
            format!(
                r#"{{"name":"{name}","path":"{path}","id":"id","identifiers":{{"user_id":"id"}},
                    "since":{{"parameter":"since","field":"at"}}}}"#
            )
        };
        let resources = [resource("a", path), resource("b", "/b")].join(",");
        Settings::read(&format!(r#"{{"url":"https://x","resources":[{resources}]}}"#)).unwrap()
    }

    #[test]
    fn resources_are_read_one_after_the_other_and_marks_never_go_back() {
        let settings = settings("/a");
        let (progress, mut run, resource) = Progress::resume(None, &settings, 5).unwrap();
        assert_eq!((resource.name.as_str(), run.since, run.started_at), ("a", None, 5));
        run.highest = Some(100);
        let (cursor, has_more) = progress.finish(&run, resource, &settings, 6).unwrap();
        assert!(has_more);
        let (progress, run, resource) = Progress::resume(Some(&cursor), &settings, 7).unwrap();
        assert_eq!((resource.name.as_str(), run.started_at), ("b", 6));
        let (cursor, has_more) = progress.finish(&run, resource, &settings, 8).unwrap();
        assert!(!has_more);
        let (progress, mut run, resource) = Progress::resume(Some(&cursor), &settings, 9).unwrap();
        assert_eq!((resource.name.as_str(), run.since), ("a", Some(100)));
        run.highest = Some(40);
        let (cursor, _) = progress.finish(&run, resource, &settings, 10).unwrap();
        let (progress, _, _) = Progress::resume(Some(&cursor), &settings, 11).unwrap();
        assert_eq!(progress.marks["a"].value, 100);
    }

    #[test]
    fn other_settings_and_what_cannot_be_read_begin_at_the_beginning() {
        let (before, after) = (settings("/a"), settings("/other"));
        let (progress, mut run, resource) = Progress::resume(None, &before, 5).unwrap();
        run.highest = Some(100);
        run.go_to(Position::Page(2)).unwrap();
        let under_way = progress.clone().go_on(run.clone()).unwrap();
        let (done, _) = progress.finish(&run, resource, &before, 6).unwrap();
        let (_, run, _) = Progress::resume(Some(&under_way), &before, 7).unwrap();
        assert_eq!((run.position, run.started_at), (Position::Page(2), 5));
        let (_, run, resource) = Progress::resume(Some(&under_way), &after, 7).unwrap();
        assert_eq!((resource.name.as_str(), run.position, run.started_at), ("a", Position::First, 7));
        // The run of the second resource is its own; the mark of the first was made with other settings.
        let (progress, run, resource) = Progress::resume(Some(&done), &after, 7).unwrap();
        assert_eq!(resource.name, "b");
        let (cursor, _) = progress.finish(&run, resource, &after, 8).unwrap();
        let (_, run, _) = Progress::resume(Some(&cursor), &after, 9).unwrap();
        assert_eq!((run.resource.as_str(), run.since), ("a", None));
        for unreadable in [&b"x"[..], br#"{"version":2,"marks":{},"run":null}"#, b""] {
            let (progress, run, _) = Progress::resume(Some(unreadable), &before, 7).unwrap();
            assert_eq!((progress.marks.len(), run.position), (0, Position::First));
        }
    }

    #[test]
    fn a_circle_of_any_length_is_found() {
        let settings = settings("/a");
        for length in 1..40_usize {
            let (_, mut run, _) = Progress::resume(None, &settings, 5).unwrap();
            // Some pages lead into the circle.
            let mut way = (0..7).map(|page| page + 1_000).chain((0..200).map(|page| page % length));
            let steps = way.position(|page| run.go_to(Position::Cursor(page.to_string())).is_err());
            assert!(steps.is_some_and(|steps| steps < 7 + 6 * length.max(8)), "{length}: {steps:?}");
        }
        let (_, mut run, _) = Progress::resume(None, &settings, 5).unwrap();
        assert!((1..100_000).all(|page| run.go_to(Position::Page(page)).is_ok()));
    }

    #[test]
    fn the_same_records_twice_and_a_name_without_end_are_faults() {
        let (_, mut run, _) = Progress::resume(None, &settings("/a"), 5).unwrap();
        assert_eq!(run.note_page(1, b"[1]"), Ok(()));
        assert_eq!(run.note_page(1, b"[2]"), Ok(()));
        assert!(run.note_page(1, b"[2]").is_err());
        assert_eq!(run.note_page(0, b"[]"), Ok(()));
        assert_eq!(run.note_page(0, b"[]"), Ok(()), "empty pages are alike");
        assert!(run.go_to(Position::Cursor("x".repeat(MAX_POSITION_BYTES + 1))).is_err());
    }
}
