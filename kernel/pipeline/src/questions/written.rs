//! What one version of a plugin wrote: the values of people that are still its own, and the events of sources that it read. The
//! way back from a digest to everything that it brought.
//!
//! Values are found by looking at everybody, up to a bound; events lie in the ranges of the log that the version read.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::event::RecordedEvent;
use kith_model::id::{AudienceId, InstallationId, Position, ProfileId, WorkspaceId};
use kith_model::profile::Provenance;
use kith_model::time::Timestamp;
use kith_store::{ChangeLimits, Key, ReadError, Store, row};

use super::page::{self, PageRoom};
use super::provenance::ComputedKind;
use super::taking_back::messages_since;
use super::{QueryError, events, letters, workspace};
use crate::Kernel;
use crate::accept::readers::{ReadBy, ReaderRange};
use crate::rows::derived::{Derived, ModelVersion, Output, OutputValue, Track};
use crate::shared::{KernelState, Workspace};
use crate::turns::{Patience, QuestionTurn};
use crate::views::{DeliveryFilter, ListPage, PageRequest};
use crate::yielding;

/// What a version wrote in all.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Written {
    pub values: Vec<WrittenValues>,
    /// The first of what [`Kernel::ranges_written`] lists, and where that goes on.
    pub events: Vec<WrittenEvents>,
    pub events_next: Option<String>,
    /// The audiences that its values decide, directly or through other models.
    pub audiences: BTreeSet<AudienceId>,
    /// Messages that left because of these audiences; of a connector, those that left since it first read.
    pub messages: u64,
    /// Whether the people and the messages are all; else there may be more, since only so many were looked at.
    pub is_all: bool,
}

/// What a version of a model wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenValues {
    pub installation: InstallationId,
    pub kind: ComputedKind,
    /// The fits that it computed by; 0 stands for none.
    pub fits: BTreeSet<u32>,
    /// How many people have a value of each of its outputs.
    pub people: BTreeMap<String, u64>,
}

/// What a version of a connector read: the events of its source in a range of the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenEvents {
    pub source: InstallationId,
    pub version: String,
    /// They lie behind this position.
    pub after: Position,
    /// Up to this one; `None` where it may still read.
    pub up_to: Option<Position>,
    /// When the first of them was received.
    pub since: Timestamp,
    pub events: u64,
}

/// A value of a person that a version wrote.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WrittenValue {
    pub profile: ProfileId,
    pub kind: ComputedKind,
    pub name: String,
    pub provenance: Provenance,
}

/// People whom a question about a version looks at, at most.
const MAX_PEOPLE: usize = 200_000;

/// Deliveries that it looks at, at most.
const MAX_DELIVERIES: usize = 10_000;

/// Parts of the log that it shows; a list has the others.
const SHOWN_RANGES: usize = 100;

/// Rows that are read at once.
const ROWS_AT_ONCE: usize = 512;

/// Rows, and records of the log, that a page looks at, at most.
const MAX_LOOKED_AT: usize = 4_096;

/// Bytes of the log that are read at once.
const LOG_BYTES: usize = 1 << 20;

impl Kernel {
    /// What the version of that digest wrote as these installations, removed ones among them. Looks at everybody, up to a bound,
    /// and blocks.
    pub fn written(
        &self,
        workspace: WorkspaceId,
        digest: &str,
        installations: &BTreeSet<InstallationId>,
        patience: &Patience,
    ) -> Result<Written, QueryError> {
        let known = super::workspace(&self.shared, workspace)?;
        let turn = known.turns.take(patience)?;
        yielding::aside(|| written(&self.shared, &known, digest, installations, &turn))
    }

    /// The installations that have computed values as the version of that digest.
    pub fn installations_of(
        &self,
        workspace: WorkspaceId,
        digest: &str,
    ) -> Result<BTreeSet<InstallationId>, QueryError> {
        let workspace = super::workspace(&self.shared, workspace)?;
        Ok(versions(&workspace, digest).values().map(|version| version.installation).collect())
    }

    /// A page of the values of people that the version of that digest wrote, in no order that means anything. It may have fewer
    /// than its limit, even none, and still have a next one.
    pub fn values_written(
        &self,
        workspace: WorkspaceId,
        digest: &str,
        page: PageRequest<'_>,
    ) -> Result<ListPage<WrittenValue>, QueryError> {
        values_written(&self.shared, workspace, digest, page)
    }

    /// A page of the parts of the log of which the version of that digest read the events of one of these installations, source
    /// by source and oldest first.
    pub fn ranges_written(
        &self,
        workspace: WorkspaceId,
        digest: &str,
        installations: &BTreeSet<InstallationId>,
        page: PageRequest<'_>,
    ) -> Result<ListPage<WrittenEvents>, QueryError> {
        let workspace = super::workspace(&self.shared, workspace)?;
        ranges_written(self.shared.store.as_ref(), workspace.id, digest, installations, page)
    }

    /// A page of the events that the version of that digest read as one of these installations and that are in the histories of
    /// people, source by source and oldest first. It may have fewer than its limit, even none, and still have a next one.
    pub fn events_written(
        &self,
        workspace: WorkspaceId,
        digest: &str,
        installations: &BTreeSet<InstallationId>,
        page: PageRequest<'_>,
    ) -> Result<ListPage<RecordedEvent>, QueryError> {
        events_written(&self.shared, workspace, digest, installations, page)
    }
}

/// The versions of models with that digest, by their numbers.
fn versions(workspace: &Workspace, digest: &str) -> BTreeMap<u32, Arc<ModelVersion>> {
    let projection = workspace.projection.read();
    let all = (0..).zip(&projection.versions);
    all.filter(|(_, version)| version.digest == digest).map(|(number, version)| (number, Arc::clone(version))).collect()
}

/// The version of a value that is there, if it is one of these.
fn version_of<'v>(
    versions: &'v BTreeMap<u32, Arc<ModelVersion>>,
    (installation, track): (InstallationId, Track),
    output: &Output,
) -> Option<&'v ModelVersion> {
    let version = versions.get(&output.version).filter(|_| track == Track::Live)?;
    (version.installation == installation && !output.values.is_empty()).then_some(version)
}

/// The outputs of a version that have a value.
fn named<'o>(version: &'o ModelVersion, output: &'o Output) -> impl Iterator<Item = &'o String> {
    let all = version.outputs.iter().zip(&output.values);
    all.filter(|(_, value)| **value != OutputValue::Null).map(|(name, _)| name)
}

fn written(
    shared: &KernelState,
    workspace: &Workspace,
    digest: &str,
    installations: &BTreeSet<InstallationId>,
    turn: &QuestionTurn<'_>,
) -> Result<Written, QueryError> {
    let versions = versions(workspace, digest);
    let mut written = Written { is_all: true, ..Written::default() };
    let mut values: BTreeMap<InstallationId, WrittenValues> = BTreeMap::new();
    for version in versions.values() {
        let (installation, kind) = (version.installation, version.kind.into());
        let of = values.entry(installation).or_insert_with(|| WrittenValues {
            installation,
            kind,
            fits: BTreeSet::new(),
            people: BTreeMap::new(),
        });
        of.fits.insert(version.fit);
        of.people.extend(version.outputs.iter().map(|output| (output.clone(), 0)));
    }
    if !versions.is_empty() {
        written.is_all &= count_people(shared, workspace, &versions, &mut values, turn)?;
    }
    let compiled = workspace.compiled.load_full();
    let audiences = compiled.plan.audiences.iter();
    let decided = audiences.filter(|audience| audience.models.iter().any(|model| values.contains_key(model)));
    written.audiences = decided.map(|audience| audience.audience.id).collect();
    if !written.audiences.is_empty() {
        let (messages, is_all) = count_messages(shared, workspace.id, &written.audiences, turn)?;
        written.messages = messages;
        written.is_all &= is_all;
    }
    written.values = values.into_values().collect();
    turn.go_on()?;
    let (store, first) = (shared.store.as_ref(), PageRequest::first(SHOWN_RANGES));
    let read = ranges_written(store, workspace.id, digest, installations, first)?;
    (written.events, written.events_next) = (read.items, read.next);
    // A model has ranges of what it emitted, and its messages are those of the audiences.
    if versions.is_empty()
        && let Some(since) = first_read(store, workspace.id, digest, installations, turn)?
    {
        let (messages, is_all) = messages_since(shared, workspace.id, since, turn)?;
        written.messages = messages.left;
        written.is_all &= is_all;
    }
    Ok(written)
}

fn events_of(source: InstallationId, range: ReaderRange) -> WrittenEvents {
    let ReaderRange { row, after, up_to, events } = range;
    WrittenEvents { source, version: row.reader.version, after, up_to, since: row.since, events }
}

/// Count the people who have values of these versions; whether all were looked at.
fn count_people(
    shared: &KernelState,
    workspace: &Workspace,
    versions: &BTreeMap<u32, Arc<ModelVersion>>,
    values: &mut BTreeMap<InstallationId, WrittenValues>,
    turn: &QuestionTurn<'_>,
) -> Result<bool, QueryError> {
    let mut range = Key::derived_rows(workspace.id).range();
    for _ in 0..MAX_PEOPLE / ROWS_AT_ONCE {
        turn.go_on()?;
        let page = shared.store.scan(&range, ROWS_AT_ONCE)?;
        for (_, value) in &page.rows {
            let derived: Derived = row::decode(value)?;
            for (key, output) in &derived.outputs {
                let Some(version) = version_of(versions, *key, output) else { continue };
                let Some(of) = values.get_mut(&version.installation) else { continue };
                for name in named(version, output) {
                    *of.people.entry(name.clone()).or_default() += 1;
                }
            }
        }
        match page.next {
            Some(next) => range.from = next,
            None => return Ok(true),
        }
    }
    Ok(false)
}

/// How many messages left, or may have, for these audiences; whether all were looked at.
fn count_messages(
    shared: &KernelState,
    workspace: WorkspaceId,
    audiences: &BTreeSet<AudienceId>,
    turn: &QuestionTurn<'_>,
) -> Result<(u64, bool), QueryError> {
    let filter = DeliveryFilter { audiences: Some(audiences.clone()), ..DeliveryFilter::default() };
    let (mut messages, mut cursor): (u64, Option<String>) = (0, None);
    for _ in 0..MAX_DELIVERIES / ROWS_AT_ONCE {
        turn.go_on()?;
        let page = PageRequest { limit: ROWS_AT_ONCE, cursor: cursor.as_deref() };
        let found = letters::deliveries(shared, workspace, &filter, page)?;
        let left = found.items.iter().filter(|delivery| !matches!(delivery.state.name(), "pending" | "skipped"));
        messages += left.count() as u64;
        cursor = found.next;
        if cursor.is_none() {
            return Ok((messages, true));
        }
    }
    Ok((messages, false))
}

fn values_written(
    shared: &KernelState,
    id: WorkspaceId,
    digest: &str,
    PageRequest { limit, cursor }: PageRequest<'_>,
) -> Result<ListPage<WrittenValue>, QueryError> {
    let workspace = workspace(shared, id)?;
    let versions = versions(&workspace, digest);
    let prefix = Key::derived_rows(id);
    let mut range = prefix.range();
    if let Some(text) = cursor {
        let rest = page::from_hex(text).ok_or_else(|| page::unknown(text))?;
        range.from = prefix.followed_by(&rest);
    }
    let (mut items, mut looked_at, mut room) = (Vec::new(), 0, PageRoom::new(limit));
    let hex = |key: &Key| key.strip(&prefix).map(page::to_hex);
    while !versions.is_empty() {
        let found = shared.store.scan(&range, ROWS_AT_ONCE)?;
        for (key, value) in &found.rows {
            // A person's values are on one page.
            if room.is_full() {
                return Ok(ListPage { items, next: hex(key) });
            }
            let Some(identity) = key.as_derived() else { continue };
            let derived: Derived = row::decode(value)?;
            for (of, output) in &derived.outputs {
                let Some(version) = version_of(&versions, *of, output) else { continue };
                for name in named(version, output) {
                    room.take(name.len() + digest.len());
                    items.push(written_value(ProfileId(identity), version, output, name));
                }
            }
        }
        looked_at += found.rows.len();
        let Some(next) = found.next else { break };
        if looked_at >= MAX_LOOKED_AT {
            return Ok(ListPage { items, next: hex(&next) });
        }
        range.from = next;
    }
    Ok(ListPage { items, next: None })
}

fn written_value(profile: ProfileId, version: &ModelVersion, output: &Output, name: &str) -> WrittenValue {
    WrittenValue { profile, kind: version.kind.into(), name: name.to_owned(), provenance: version.provenance(output) }
}

fn events_written(
    shared: &KernelState,
    id: WorkspaceId,
    digest: &str,
    installations: &BTreeSet<InstallationId>,
    PageRequest { limit, cursor }: PageRequest<'_>,
) -> Result<ListPage<RecordedEvent>, QueryError> {
    workspace(shared, id)?;
    let store = shared.store.as_ref();
    let (first, after) = cursor.map_or(Ok((InstallationId(0), Position(0))), parse_cursor)?;
    let mut page = EventsUnderWay { items: Vec::new(), looked_at: 0, room: PageRoom::new(limit) };
    for source in installations.range(first..) {
        let read = ReadBy::find(store, id, (*source, digest), store.head_of(id))?;
        for (from, up_to) in read.stretches() {
            let from = if *source == first { from.max(after) } else { from };
            if let Some(at) = page.read((store, id), &read, (from, up_to))? {
                return Ok(ListPage { items: page.items, next: Some(format!("{}.{}", source.0, at.0)) });
            }
        }
    }
    Ok(ListPage { items: page.items, next: None })
}

/// A page of events that is being read.
struct EventsUnderWay {
    items: Vec<RecordedEvent>,
    looked_at: usize,
    room: PageRoom,
}

impl EventsUnderWay {
    /// Take in what was read behind a position of the log up to another; where to go on, if the page ends before that.
    fn read(
        &mut self,
        (store, workspace): (&dyn Store, WorkspaceId),
        read: &ReadBy,
        (mut at, up_to): (Position, Position),
    ) -> Result<Option<Position>, ReadError> {
        let limits = ChangeLimits { records: ROWS_AT_ONCE, bytes: LOG_BYTES };
        while at < up_to {
            if self.room.is_full() || self.looked_at >= MAX_LOOKED_AT {
                return Ok(Some(at));
            }
            let found = read.read(store, workspace, (at, up_to), limits)?;
            self.looked_at += found.looked_at;
            for (position, event) in found.events {
                if self.room.is_full() {
                    return Ok(Some(at));
                }
                at = position;
                self.room.take(events::size(&event));
                self.items.push(RecordedEvent { position, event });
            }
            at = found.at;
        }
        Ok(None)
    }
}

fn ranges_written(
    store: &dyn Store,
    id: WorkspaceId,
    digest: &str,
    installations: &BTreeSet<InstallationId>,
    PageRequest { limit, cursor }: PageRequest<'_>,
) -> Result<ListPage<WrittenEvents>, QueryError> {
    let start = (InstallationId(0), (Position(0), 0));
    let (first, from) = cursor.map_or(Ok(start), parse_range_cursor)?;
    let mut items = Vec::new();
    for source in installations.range(first..) {
        let read = ReadBy::find(store, id, (*source, digest), store.head_of(id))?;
        for range in read.ranges {
            let place = (range.after, range.row.number);
            if *source == first && place < from {
                continue;
            }
            if items.len() >= limit {
                return Ok(ListPage { items, next: Some(format!("{}.{}.{}", source.0, place.0.0, place.1)) });
            }
            items.push(events_of(*source, range));
        }
    }
    Ok(ListPage { items, next: None })
}

/// When the first of the events was received that a version read.
fn first_read(
    store: &dyn Store,
    id: WorkspaceId,
    digest: &str,
    installations: &BTreeSet<InstallationId>,
    turn: &QuestionTurn<'_>,
) -> Result<Option<Timestamp>, QueryError> {
    let mut first: Option<Timestamp> = None;
    for source in installations {
        turn.go_on()?;
        let since = ReadBy::find(store, id, (*source, digest), store.head_of(id))?.since();
        first = first.into_iter().chain(since).min();
    }
    Ok(first)
}

/// The source of a range, the position behind which it begins, and the number of its version.
fn parse_range_cursor(text: &str) -> Result<(InstallationId, (Position, u32)), QueryError> {
    let parsed = || {
        let (source, rest) = text.split_once('.')?;
        let (after, number) = rest.split_once('.')?;
        let place = (Position(after.parse().ok()?), number.parse().ok()?);
        Some((InstallationId(source.parse().ok()?), place))
    };
    parsed().ok_or_else(|| page::unknown(text))
}

fn parse_cursor(text: &str) -> Result<(InstallationId, Position), QueryError> {
    let parts = text.split_once('.').and_then(|(source, at)| Some((source.parse().ok()?, at.parse().ok()?)));
    parts.map(|(source, at)| (InstallationId(source), Position(at))).ok_or_else(|| page::unknown(text))
}
