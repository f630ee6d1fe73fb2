//! How the data of a source is: what came of it day by day, and what changed since the week before.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::{DAY_MS, Timestamp};

use crate::Kernel;
use crate::accept::quality::{SourceCounts, read_days};
use crate::questions::{QueryError, catalog, workspace};
use crate::react::seen::{BEFORE_SOURCES, Kind, NameUsage};
use crate::shared::KernelState;
use crate::views::{Catalog, CatalogEntry, NameKind};

/// Days that are compared with as many before them, today the last of them.
const WEEK: i32 = 7;

/// What a source sent and what came of it.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct SourceQuality {
    /// The day under way in the workspace's zone, 0 being 1970-01-01.
    pub today: i32,
    /// The days of which there are counts, a quarter of a year at most.
    pub days: BTreeMap<i32, SourceCounts>,
    /// Since it was installed under its name, or since releases count.
    pub total: SourceCounts,
    /// The last seven days, today included.
    pub week: SourceCounts,
    /// The seven before them.
    pub week_before: SourceCounts,
    /// What of its names changed within the last seven days.
    pub changes: Vec<NameChange>,
    /// Values that came as texts that are written as numbers, and count as such.
    pub number_texts: u64,
}

/// What changed of a name.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub enum WhatChanged {
    /// It came for the first time.
    New,
    /// A value of another kind came for the first time.
    NewKind(Kind),
    /// It came in the week before, and not since.
    Stopped,
}

/// A name of which something changed.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct NameChange {
    pub what: WhatChanged,
    pub kind: NameKind,
    pub name: String,
    /// Of a property: its event.
    pub event: Option<String>,
    /// When that began; of what stopped when it came last.
    pub at: Timestamp,
    /// The kinds that came before; of a new name those that came.
    pub kinds: Vec<Kind>,
    /// Of how many people it came, as far as that is counted.
    pub people: u64,
}

/// All installations that have had the name of this one.
fn of_same_name(
    shared: &KernelState,
    id: WorkspaceId,
    source: InstallationId,
) -> Result<BTreeSet<InstallationId>, QueryError> {
    let compiled = workspace(shared, id)?.compiled.load_full();
    let names = &compiled.setup.source_names;
    let name = names.get(&source).ok_or(QueryError::UnknownInstallation)?;
    Ok(names.iter().filter(|(_, of)| *of == name).map(|(id, _)| *id).collect())
}

fn changes(catalog: &Catalog, now: Timestamp) -> Vec<NameChange> {
    let (since, before) = (now.plus_ms(-i64::from(WEEK) * DAY_MS), now.plus_ms(-2 * i64::from(WEEK) * DAY_MS));
    let told: BTreeMap<&str, &NameUsage> = (catalog.entries.iter())
        .filter(|entry| entry.kind == NameKind::Event)
        .filter_map(|entry| Some((entry.name.as_str(), entry.seen.as_ref()?)))
        .collect();
    let mut changes = Vec::new();
    for entry in &catalog.entries {
        let Some(seen) = &entry.seen else { continue };
        // What a new event brings is new with it, and what one brought that stopped has stopped with it.
        let of_event = entry.event.as_deref().and_then(|event| told.get(event));
        let is_new = |seen: &NameUsage| seen.first >= since;
        let has_stopped = |seen: &NameUsage| (before..since).contains(&seen.last);
        let mut add = |what, at, kinds| changes.push(change(entry, seen, what, at, kinds));
        let known = |before: Timestamp| seen.since.iter().filter(move |(_, at)| **at < before).map(|(kind, _)| *kind);
        if is_new(seen) {
            if of_event.is_none_or(|event| !is_new(event)) {
                add(WhatChanged::New, seen.first, known(Timestamp(i64::MAX)).collect());
            }
            continue;
        }
        if has_stopped(seen) && of_event.is_none_or(|event| !has_stopped(event)) {
            add(WhatChanged::Stopped, seen.last, known(since).collect());
        }
        for (kind, at) in seen.since.iter().filter(|(kind, at)| **at >= since && **kind != Kind::Null) {
            add(WhatChanged::NewKind(*kind), *at, known(since).collect());
        }
    }
    changes.sort_by(|one, other| (one.what, &one.event, &one.name).cmp(&(other.what, &other.event, &other.name)));
    changes
}

/// What came before sources were told apart is new of none.
fn forget_known(changes: &mut Vec<NameChange>, before: &Catalog) {
    let known: BTreeMap<_, &NameUsage> =
        before.entries.iter().filter_map(|entry| Some((entry.place(), entry.seen.as_ref()?))).collect();
    changes.retain(|change| {
        let place = match &change.event {
            Some(event) => (NameKind::Event, event.as_str(), change.name.as_str()),
            None => (change.kind, change.name.as_str(), ""),
        };
        match (change.what, known.get(&place)) {
            (WhatChanged::New, Some(_)) => false,
            (WhatChanged::NewKind(kind), Some(seen)) => !seen.since.contains_key(&kind),
            _ => true,
        }
    });
}

fn change(entry: &CatalogEntry, seen: &NameUsage, what: WhatChanged, at: Timestamp, kinds: Vec<Kind>) -> NameChange {
    let (kind, name, event) = (entry.kind, entry.name.clone(), entry.event.clone());
    NameChange { what, kind, name, event, at, kinds, people: seen.people() }
}

impl Kernel {
    /// How the data of a source is, that of earlier installations of its name included. Blocks.
    pub fn source_quality(&self, id: WorkspaceId, source: InstallationId) -> Result<SourceQuality, QueryError> {
        let shared = &self.shared;
        let sources = of_same_name(shared, id, source)?;
        let now = shared.clock.now();
        let zone = workspace(shared, id)?.compiled.load().setup.zone.clone();
        let mut quality = SourceQuality { today: zone.day(now), ..SourceQuality::default() };
        for source in &sources {
            let read = read_days(shared.store.as_ref(), id, *source)?;
            quality.total.add(&read.older);
            for (day, counts) in read.days {
                quality.total.add(&counts);
                quality.days.entry(day).or_default().add(&counts);
            }
        }
        let first = quality.today - (WEEK - 1);
        for (day, counts) in quality.days.range(first - WEEK..=quality.today) {
            if *day < first { &mut quality.week_before } else { &mut quality.week }.add(counts);
        }
        let names = catalog::catalog(shared, id, Some(&sources))?;
        quality.changes = changes(&names, now);
        forget_known(&mut quality.changes, &catalog::catalog(shared, id, Some(&[BEFORE_SOURCES].into()))?);
        quality.number_texts =
            names.entries.iter().filter_map(|entry| entry.seen.as_ref()).map(|seen| seen.kinds.number_texts).sum();
        Ok(quality)
    }

    /// All names of a workspace.
    pub fn catalog(&self, id: WorkspaceId) -> Result<Catalog, QueryError> {
        catalog::catalog(&self.shared, id, None)
    }

    /// What may be a mistake in a condition, in words: above all names that nobody has written, which may still come. Who may
    /// not read people is told nothing of values.
    pub fn doubts(&self, id: WorkspaceId, condition: &str, reads_people: bool) -> Result<Vec<String>, QueryError> {
        catalog::doubts(&self.shared, id, condition, reads_people)
    }

    /// The names that came from one source, earlier installations of its name included. Blocks.
    pub fn catalog_of(&self, id: WorkspaceId, source: InstallationId) -> Result<Catalog, QueryError> {
        let sources = of_same_name(&self.shared, id, source)?;
        catalog::catalog(&self.shared, id, Some(&sources))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::react::seen::Kinds;

    fn entry(
        kind: NameKind,
        name: &str,
        event: Option<&str>,
        first: i64,
        last: i64,
        since: &[(Kind, i64)],
    ) -> CatalogEntry {
        let since = since.iter().map(|(kind, at)| (*kind, Timestamp(*at))).collect();
        let seen = NameUsage {
            count: 3,
            first: Timestamp(first),
            last: Timestamp(last),
            kinds: Kinds::default(),
            since,
            ..NameUsage::default()
        };
        CatalogEntry::seen(kind, name, event, &seen)
    }

    #[test]
    fn what_is_new_of_another_kind_or_stopped_is_told_once() {
        use NameKind::{Event, Property, Trait};
        let now = 100 * DAY_MS;
        let (long_ago, last_week, lately) = (10 * DAY_MS, 90 * DAY_MS, 99 * DAY_MS);
        let entries = vec![
            entry(Event, "New", None, lately, now, &[]),
            entry(Property, "a", Some("New"), lately, now, &[(Kind::Text, lately)]),
            entry(Event, "Old", None, long_ago, now, &[]),
            entry(Property, "b", Some("Old"), lately, now, &[(Kind::Text, lately)]),
            entry(
                Property,
                "c",
                Some("Old"),
                long_ago,
                now,
                &[(Kind::Number, long_ago), (Kind::Text, lately), (Kind::Null, lately)],
            ),
            entry(Property, "d", Some("Old"), long_ago, last_week, &[(Kind::Number, long_ago)]),
            entry(Event, "Gone", None, long_ago, last_week, &[]),
            entry(Property, "e", Some("Gone"), long_ago, last_week, &[]),
            entry(Event, "Long gone", None, long_ago, long_ago, &[]),
            entry(Trait, "plan", None, long_ago, now, &[(Kind::Text, long_ago)]),
        ];
        let catalog = |entries| Catalog { entries, others: 0, as_of: kith_model::id::Position(0) };
        let mut told = changes(&catalog(entries), Timestamp(now));
        let before = vec![entry(Property, "b", Some("Old"), long_ago, long_ago, &[(Kind::Text, long_ago)])];
        let mut upgraded = told.clone();
        forget_known(&mut upgraded, &catalog(before));
        assert_eq!(upgraded.len() + 1, told.len(), "what came before sources were told apart is not new");
        forget_known(&mut told, &catalog(Vec::new()));
        let told: Vec<(WhatChanged, &str, &[Kind])> =
            told.iter().map(|change| (change.what, change.name.as_str(), change.kinds.as_slice())).collect();
        assert_eq!(
            told,
            [
                (WhatChanged::New, "New", &[][..]),
                (WhatChanged::New, "b", &[Kind::Text]),
                (WhatChanged::NewKind(Kind::Text), "c", &[Kind::Number]),
                (WhatChanged::Stopped, "Gone", &[]),
                (WhatChanged::Stopped, "d", &[Kind::Number]),
            ]
        );
    }
}
