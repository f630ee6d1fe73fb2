//! Reading what accept wrote about a source identity: its head and its facts, and how facts are laid out in rows.
//!
//! The facts of one identity are one row while they are small, and 17 rows once they are not: a summary, and 16 buckets by
//! the hash of the fact's name. So one more fact about a person with hundreds of them rewrites a few KB, never all.

use std::collections::BTreeMap;
use std::ops::ControlFlow;

use kith_model::consent::{Consent, Consents, PROFILING};
use kith_model::event::Event;
use kith_model::id::{SourceIdentityId, WorkspaceId};
use kith_model::profile::{Contribution, IdentityHead, TraitValue};
use kith_store::keys::PersonRow;
use kith_store::row::Row;
use kith_store::{Key, ReadError, Store, row};
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;
use xxhash_rust::xxh3::xxh3_64;

/// Most trait names of one source identity. A sender that writes `{"flag_123": true}` reaches it without malice.
pub(crate) const MAX_TRAITS: u32 = 1_000;

/// Most bytes of traits of one source identity: names, values and where they came from.
pub(crate) const MAX_TRAIT_BYTES: u64 = 512 << 10;

/// The longest name of a trait, in bytes.
pub(crate) const MAX_TRAIT_NAME_BYTES: usize = 256;

/// Facts up to this many bytes lie in one row.
const MAX_WHOLE_BYTES: u64 = 8 << 10;

/// Into how many rows the facts of an identity that has many are cut.
const BUCKETS: u8 = 16;

/// How much there is of an identity's facts.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct FactTotals {
    pub names: u32,
    pub bytes: u64,
}

/// One row of an identity's facts. Row 0 is the summary, which also holds the facts themselves while they are few; rows 1 to
/// 16 are the buckets.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub(crate) struct FactsRow {
    /// Of all rows together; on the summary alone.
    pub totals: FactTotals,
    /// Whether the facts lie in the buckets; on the summary alone.
    pub is_split: bool,
    /// What the facts said about consents, whatever became of the fact itself; on the summary alone.
    pub consents: Consents,
    pub facts: Contribution,
}

/// What became of a fact.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum FactOutcome {
    Taken,
    /// A newer value is there already.
    Older,
    /// The identity has as many facts as it can have, or the name is too long.
    Surplus,
}

/// What a fact takes of [`MAX_TRAIT_BYTES`].
fn size(name: &str, value: &TraitValue) -> u64 {
    (name.len() + value.json.len() + value.message_id.len() + 32) as u64
}

/// Take a fact into `facts`, which is the whole contribution or the bucket of its name, within the quota that `totals` of the
/// whole has used.
pub(crate) fn record(totals: &mut FactTotals, facts: &mut Contribution, name: &str, value: TraitValue) -> FactOutcome {
    let held = facts.traits.get(name).map(|held| size(name, held));
    let names = totals.names + u32::from(held.is_none());
    let bytes = totals.bytes - held.unwrap_or(0) + size(name, &value);
    if names > MAX_TRAITS || bytes > MAX_TRAIT_BYTES || name.len() > MAX_TRAIT_NAME_BYTES {
        return FactOutcome::Surplus;
    }
    let replaced = facts.record(name, value);
    if held.is_some() && replaced.is_none() {
        return FactOutcome::Older;
    }
    *totals = FactTotals { names, bytes };
    FactOutcome::Taken
}

/// Drop a fact, and what it has used of the quota.
pub(crate) fn forget(totals: &mut FactTotals, facts: &mut Contribution, name: &str) {
    if let Some(held) = facts.traits.remove(name) {
        totals.names = totals.names.saturating_sub(1);
        totals.bytes = totals.bytes.saturating_sub(size(name, &held));
    }
}

/// The fact that an event gave. It is no newer than its receipt: one that is dated ahead, by a clock in another zone, would hold
/// against all that is said until then.
pub(crate) fn fact(json: &str, event: &EventFacts<'_>) -> TraitValue {
    TraitValue {
        json: json.to_owned(),
        time: event.time.min(event.received_at),
        received_at: event.received_at,
        source: event.source,
        message_id: event.message_id.to_owned(),
        place: event.place,
    }
}

/// What every fact of one event has in common.
#[derive(Debug, Clone, Copy)]
pub(crate) struct EventFacts<'a> {
    pub time: kith_model::time::Timestamp,
    pub received_at: kith_model::time::Timestamp,
    pub source: kith_model::id::InstallationId,
    pub message_id: &'a str,
    pub place: u64,
}

/// Take an accepted event's facts into the whole contribution of its identity, by the rule and in the order by which accept
/// took them: who follows the feed and keeps contributions in memory then has what the rows have.
pub(crate) fn record_event(contribution: &mut Contribution, event: &Event) {
    record_some(contribution, event, |_, _| true);
}

/// The same of those of its facts that are wanted.
pub(crate) fn record_some(contribution: &mut Contribution, event: &Event, is_wanted: impl Fn(&str, &RawValue) -> bool) {
    if event.traits.is_empty() {
        return;
    }
    let Ok(traits) = serde_json::from_str::<BTreeMap<String, &RawValue>>(&event.traits) else { return };
    let sizes = contribution.traits.iter().map(|(name, value)| size(name, value));
    let mut totals =
        FactTotals { bytes: sizes.sum(), names: u32::try_from(contribution.traits.len()).unwrap_or(u32::MAX) };
    let given = EventFacts {
        time: event.time,
        received_at: event.received_at,
        source: event.source,
        message_id: &event.message_id,
        place: event.place,
    };
    for (name, value) in traits.into_iter().filter(|(name, value)| is_wanted(name, value)) {
        record(&mut totals, contribution, &name, fact(value.get(), &given));
    }
}

impl FactsRow {
    /// What the identity said about profiling.
    pub(crate) fn profiling(&self) -> Option<&Consent> {
        self.consents.purposes.get(PROFILING)
    }

    /// Cut the facts of a summary that has become too large into buckets; `None` while it has not.
    pub(crate) fn split(&mut self) -> Option<BTreeMap<u8, FactsRow>> {
        if self.is_split || self.totals.bytes <= MAX_WHOLE_BYTES {
            return None;
        }
        self.is_split = true;
        let mut buckets: BTreeMap<u8, FactsRow> = BTreeMap::new();
        for (name, value) in std::mem::take(&mut self.facts.traits) {
            buckets.entry(bucket_of(&name)).or_default().facts.traits.insert(name, value);
        }
        Some(buckets)
    }
}

/// The bucket of a fact once the facts are split.
pub(crate) fn bucket_of(name: &str) -> u8 {
    #[allow(clippy::cast_possible_truncation, reason = "the remainder is below 16")]
    let bucket = (xxh3_64(name.as_bytes()) % u64::from(BUCKETS)) as u8;
    1 + bucket
}

/// The key of one row of an identity's facts.
pub(crate) fn facts_key(workspace: WorkspaceId, identity: SourceIdentityId, bucket: u8) -> Key {
    Key::contribution(workspace, identity, bucket)
}

/// One row of an identity's facts.
pub(crate) fn read_facts_row(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
    bucket: u8,
) -> Result<Option<FactsRow>, ReadError> {
    let value = store.get(&[facts_key(workspace, identity, bucket)])?.pop().flatten();
    value.map(|value| row::decode(&value)).transpose()
}

/// All facts of an identity, given its summary row.
pub(crate) fn whole_contribution(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
    summary: FactsRow,
) -> Result<Contribution, ReadError> {
    let mut facts = summary.facts;
    if summary.is_split {
        let keys: Vec<Key> = (1..=BUCKETS).map(|bucket| facts_key(workspace, identity, bucket)).collect();
        for value in store.get(&keys)?.into_iter().flatten() {
            let bucket: FactsRow = row::decode(&value)?;
            facts.traits.extend(bucket.facts.traits);
        }
    }
    Ok(facts)
}

/// All facts of an identity, and what it said about profiling; none if there is no such identity.
pub(crate) fn read_contribution(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
) -> Result<IdentityFacts, ReadError> {
    let summary = read_facts_row(store, workspace, identity, 0)?.unwrap_or_default();
    facts_of(store, workspace, identity, summary)
}

/// The same, given its summary row.
pub(crate) fn facts_of(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
    summary: FactsRow,
) -> Result<IdentityFacts, ReadError> {
    let profiling = summary.profiling().cloned();
    Ok((whole_contribution(store, workspace, identity, summary)?, profiling))
}

/// Who an identity is and which profile it belongs to.
pub(crate) fn read_head(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
) -> Result<Option<IdentityHead>, ReadError> {
    read_person(store, workspace, identity, PersonRow::Head)
}

/// One row of a source identity.
pub(crate) fn read_person<T: Row>(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
    row: PersonRow,
) -> Result<Option<T>, ReadError> {
    let value = store.get(&[Key::person(workspace, identity, row)])?.pop().flatten();
    value.map(|value| row::decode(&value)).transpose()
}

/// Look at every row below `prefix`, a page at a time.
pub(crate) fn each_row(
    store: &dyn Store,
    prefix: &Key,
    mut look: impl FnMut(&Key, &[u8]) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let all = |key: &Key, value: &[u8]| look(key, value).map(ControlFlow::Continue);
    each_row_until(store, prefix, all).map(drop)
}

/// The same, until `look` has seen enough; what it ends with.
pub(crate) fn each_row_until(
    store: &dyn Store,
    prefix: &Key,
    mut look: impl FnMut(&Key, &[u8]) -> Result<ControlFlow<()>, ReadError>,
) -> Result<ControlFlow<()>, ReadError> {
    let mut range = prefix.range();
    loop {
        let page = store.scan(&range, 4096)?;
        for (key, value) in &page.rows {
            if look(key, value)?.is_break() {
                return Ok(ControlFlow::Break(()));
            }
        }
        match page.next {
            Some(next) => range.from = next,
            None => return Ok(ControlFlow::Continue(())),
        }
    }
}

/// One row.
pub(crate) fn get_one(store: &dyn Store, key: &Key) -> Result<Option<kith_store::Value>, ReadError> {
    Ok(store.get(std::slice::from_ref(key))?.into_iter().next().flatten())
}

/// About what a contribution takes in memory, in bytes.
pub(crate) fn contribution_bytes(contribution: &Contribution) -> usize {
    const ENTRY_BYTES: usize = 120;
    let entries = contribution.traits.iter();
    entries.map(|(name, held)| ENTRY_BYTES + name.len() + held.json.len() + held.message_id.len()).sum()
}

/// Who an identity is, what its events said of it, and what that takes in memory.
pub(crate) type Facts = (IdentityHead, IdentityFacts, usize);

/// What an identity's events said of it, and its answer about profiling.
pub(crate) type IdentityFacts = (Contribution, Option<Consent>);

/// Facts by identity, and the first identity of the range that is not among them because those before it are enough.
pub(crate) type FactsPage = (BTreeMap<SourceIdentityId, Facts>, Option<SourceIdentityId>);

/// The facts of the identities whose rows lie from `first` to `last`, until they take `enough` bytes.
pub(crate) fn read_between(
    store: &dyn Store,
    workspace: WorkspaceId,
    first: SourceIdentityId,
    last: SourceIdentityId,
    enough: usize,
) -> Result<FactsPage, ReadError> {
    // A row of many facts has some 30 KB.
    const PAGE_ROWS: usize = 512;
    let mut facts: BTreeMap<SourceIdentityId, Facts> = BTreeMap::new();
    let mut taken = 0;
    let mut range =
        kith_store::KeyRange { from: Key::identity(workspace, first), to: Key::identity(workspace, last).range().to };
    loop {
        let page = store.scan(&range, PAGE_ROWS)?;
        for (key, value) in &page.rows {
            let Some((identity, row)) = key.as_person() else { continue };
            if row == PersonRow::Head as u8 {
                if taken >= enough {
                    return Ok((facts, Some(identity)));
                }
                facts.insert(identity, (kith_store::row::decode(value)?, IdentityFacts::default(), 0));
            } else if let Some((_, (contribution, profiling), bytes)) = facts.get_mut(&identity) {
                // A head comes before the facts of its identity, in the order of keys.
                let mut part: FactsRow = kith_store::row::decode(value)?;
                // The buckets have none.
                *profiling = part.consents.purposes.remove(PROFILING).or_else(|| profiling.take());
                let of_part = contribution_bytes(&part.facts);
                (*bytes, taken) = (*bytes + of_part, taken + of_part);
                contribution.traits.extend(part.facts.traits);
            }
        }
        match page.next {
            Some(next) => range.from = next,
            None => return Ok((facts, None)),
        }
    }
}
