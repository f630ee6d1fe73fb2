//! All key layout. A key is `space u8 | workspace u32 | shard u16 | rest`, numbers big-endian, so that rows of one
//! workspace lie together, then rows of one person. There is one constructor for each kind of row and no other way to
//! make a key.

use kith_model::id::{InstallationId, SourceIdentityId, WorkspaceId};
use kith_model::identity::{EdgeId, Evidence, Identifier, MustNotLink};
use kith_model::time::Timestamp;

use crate::{JobId, KeyRange, QueueId};

/// How many shards a workspace's people are spread over; fixed for ever, since a change would need every key rewritten.
pub const SHARDS: u16 = 1024;

/// An order-preserving key.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Key(Vec<u8>);

/// The workspace that holds what belongs to no tenant: the list of workspaces and the index of credentials.
pub const SYSTEM: WorkspaceId = WorkspaceId(0);

const META: u8 = 0x00;
const PERSON: u8 = 0x10;
const EVENT: u8 = 0x11;
const ALIAS: u8 = 0x20;
const EDGE: u8 = 0x21;
const VETO: u8 = 0x23;
const DEDUPE: u8 = 0x38;
const DELIVERY: u8 = 0x41;
const ASIDE: u8 = 0x42;
const DEFINITION: u8 = 0x50;
const ORDINAL: u8 = 0x51;
const PLUGIN_STATE: u8 = 0x52;
const AUDIT: u8 = 0x60;
const TIMER: u8 = 0x70;
const CURSOR: u8 = 0x71;

/// Spaces from here on belong to the store itself: queues, leases, parts of large values.
pub(crate) const RESERVED: u8 = 0xf0;
const JOB_DUE: u8 = 0xf0;
const JOB_TIME: u8 = 0xf1;
const JOB_BODY: u8 = 0xf2;
const LEASE: u8 = 0xf3;

/// Spaces from here on belong to the engine that holds the rows; the store never asks for them.
pub(crate) const ENGINE: u8 = 0xf8;

/// The rows of one person, in key order.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum PersonRow {
    /// Who the identity is and which profile it belongs to.
    Head = 0x00,
    /// Facts that this identity's events gave.
    Contribution = 0x01,
    /// All that the react stage keeps: the state of the expressions' leaves and, on the profile's own identity, tags, scores,
    /// memberships and input digests.
    Kept = 0x02,
}

/// The kinds of definitions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
pub enum Definition {
    Workspace = 0x01,
    Credential = 0x02,
    Plugin = 0x03,
    Artifact = 0x04,
    Installation = 0x05,
    Audience = 0x06,
    Fit = 0x07,
    FittedState = 0x08,
    Secret = 0x09,
    Counter = 0x0a,
    ModelVersion = 0x0b,
}

fn shard_of(bytes: &[u8]) -> u16 {
    #[allow(clippy::cast_possible_truncation, reason = "the remainder is below 1024")]
    let shard = (xxhash_rust::xxh3::xxh3_64(bytes) % u64::from(SHARDS)) as u16;
    shard
}

fn sortable(time: Timestamp) -> [u8; 8] {
    (time.0.cast_unsigned() ^ (1 << 63)).to_be_bytes()
}

fn evidence_byte(evidence: Evidence) -> u8 {
    match evidence {
        Evidence::Alias => 0,
        Evidence::SameEvent => 1,
    }
}

impl Key {
    fn new(space: u8, workspace: WorkspaceId, shard: u16, rest: &[&[u8]]) -> Key {
        let mut bytes = Vec::with_capacity(7 + rest.iter().map(|part| part.len()).sum::<usize>());
        bytes.push(space);
        bytes.extend_from_slice(&workspace.0.to_be_bytes());
        bytes.extend_from_slice(&shard.to_be_bytes());
        rest.iter().for_each(|part| bytes.extend_from_slice(part));
        Key(bytes)
    }

    /// The key that `bytes` spell, as the journal or an engine gave them back.
    pub(crate) fn from_bytes(bytes: Vec<u8>) -> Key {
        Key(bytes)
    }

    /// The least key whose space is `space`.
    pub(crate) fn least_of(space: u8) -> Key {
        Key(vec![space])
    }

    /// The least key that is greater than this one.
    pub(crate) fn successor(&self) -> Key {
        self.followed_by(&[0])
    }

    /// Put a position behind this key.
    pub(crate) fn push_position(&mut self, position: u64) {
        self.0.extend_from_slice(&position.to_be_bytes());
    }

    /// The key's bytes.
    pub fn as_bytes(&self) -> &[u8] {
        &self.0
    }

    /// What follows `prefix`, if the key begins with it.
    pub fn strip(&self, prefix: &Key) -> Option<&[u8]> {
        self.0.strip_prefix(prefix.0.as_slice())
    }

    /// This key with `bytes` behind it.
    #[must_use]
    pub fn followed_by(&self, bytes: &[u8]) -> Key {
        Key([&self.0, bytes].concat())
    }

    /// All keys that begin with this one.
    pub fn range(&self) -> KeyRange {
        let mut to = self.0.clone();
        while let Some(last) = to.pop() {
            if last < u8::MAX {
                to.push(last + 1);
                break;
            }
        }
        KeyRange { from: self.clone(), to: Key(to) }
    }

    /// A row that belongs to the kernel as a whole.
    pub fn meta(name: &str) -> Key {
        Key::new(META, SYSTEM, 0, &[name.as_bytes()])
    }

    /// One row of one source identity.
    pub fn person(workspace: WorkspaceId, identity: SourceIdentityId, row: PersonRow) -> Key {
        Key::new(PERSON, workspace, shard_of(&identity.0), &[&identity.0, &[row as u8]])
    }

    /// The person rows of a workspace.
    pub fn people(workspace: WorkspaceId) -> Key {
        let all = Key::new(PERSON, workspace, 0, &[]);
        Key(all.0[..5].to_vec())
    }

    /// The ranges of [`Key::people`] cut into `parts` of about the same size, for readers that share the work. No identity's
    /// rows are in two of them.
    pub fn people_parts(workspace: WorkspaceId, parts: u16) -> Vec<KeyRange> {
        let all = Key::people(workspace).range();
        let parts = parts.clamp(1, SHARDS);
        let bound = |part: u16| match part {
            0 => all.from.clone(),
            part if part == parts => all.to.clone(),
            part => Key::new(PERSON, workspace, SHARDS / parts * part, &[]),
        };
        (0..parts).map(|part| KeyRange { from: bound(part), to: bound(part + 1) }).collect()
    }

    /// The identity and the row that a key of [`Key::people`] names; `None` for other keys and for events.
    pub fn as_person(&self) -> Option<(SourceIdentityId, u8)> {
        let (space, rest) = self.0.split_first()?;
        let id: [u8; 16] = rest.get(6..22)?.try_into().ok()?;
        (*space == PERSON && self.0.len() == 24).then(|| (SourceIdentityId(id), self.0[23]))
    }

    /// The events of a source identity, oldest first by event time. The store adds the position. They lie apart from the
    /// person rows, so that a scan of people does not read history.
    pub fn events(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::new(EVENT, workspace, shard_of(&identity.0), &[&identity.0])
    }

    /// All events of a workspace.
    pub fn all_events(workspace: WorkspaceId) -> Key {
        Key(Key::new(EVENT, workspace, 0, &[]).0[..5].to_vec())
    }

    /// One event's row without its position, for [`crate::Operation::Append`].
    pub fn event(workspace: WorkspaceId, identity: SourceIdentityId, time: Timestamp) -> Key {
        Key::events(workspace, identity).followed_by(&sortable(time))
    }

    /// The source identity that an identifier names.
    pub fn alias(workspace: WorkspaceId, identifier: &Identifier) -> Key {
        let kind = identifier.kind.as_bytes();
        let length = [u8::try_from(kind.len()).unwrap_or(u8::MAX)];
        let shard = shard_of(identifier.value.as_bytes());
        Key::new(ALIAS, workspace, shard, &[&length, kind, identifier.value.as_bytes()])
    }

    /// All aliases of a workspace.
    pub fn aliases(workspace: WorkspaceId) -> Key {
        Key(Key::new(ALIAS, workspace, 0, &[]).0[..5].to_vec())
    }

    /// The evidence that touches one identity.
    pub fn edges(workspace: WorkspaceId, identity: SourceIdentityId) -> Key {
        Key::new(EDGE, workspace, shard_of(&identity.0), &[&identity.0])
    }

    /// One piece of evidence under one of its ends; it is stored under both.
    pub fn edge(workspace: WorkspaceId, end: SourceIdentityId, edge: EdgeId) -> Key {
        let other = if end == edge.low { edge.high } else { edge.low };
        Key::edges(workspace, end).followed_by(&other.0).followed_by(&[evidence_byte(edge.evidence)])
    }

    /// The must-not-link pairs of a workspace.
    pub fn vetoes(workspace: WorkspaceId) -> Key {
        Key::new(VETO, workspace, 0, &[])
    }

    /// One must-not-link pair.
    pub fn veto(workspace: WorkspaceId, pair: MustNotLink) -> Key {
        Key::vetoes(workspace).followed_by(&pair.low.0).followed_by(&pair.high.0)
    }

    /// That a source's message was seen. The day comes first, so that a day's rows expire together.
    pub fn dedupe(workspace: WorkspaceId, day: u32, source: InstallationId, message_hash: u128) -> Key {
        Key::new(DEDUPE, workspace, 0, &[&day.to_be_bytes(), &source.0.to_be_bytes(), &message_hash.to_be_bytes()])
    }

    /// All messages seen in a workspace on one day, or on all.
    pub fn dedupe_days(workspace: WorkspaceId, day: Option<u32>) -> Key {
        let all = Key::new(DEDUPE, workspace, 0, &[]);
        day.map_or(all.clone(), |day| all.followed_by(&day.to_be_bytes()))
    }

    /// The deliveries of a workspace.
    pub fn deliveries(workspace: WorkspaceId) -> Key {
        Key::new(DELIVERY, workspace, 0, &[])
    }

    /// One delivery.
    pub fn delivery(workspace: WorkspaceId, id: &[u8; 16]) -> Key {
        Key::deliveries(workspace).followed_by(id)
    }

    /// What was kept aside from one source's input, newest last.
    pub fn set_aside(workspace: WorkspaceId, source: Option<InstallationId>) -> Key {
        let all = Key::new(ASIDE, workspace, 0, &[]);
        source.map_or(all.clone(), |source| all.followed_by(&source.0.to_be_bytes()))
    }

    /// All definitions of one kind.
    pub fn definitions(workspace: WorkspaceId, kind: Definition) -> Key {
        Key::new(DEFINITION, workspace, 0, &[&[kind as u8]])
    }

    /// One definition, by its number or by a text that names it.
    pub fn definition(workspace: WorkspaceId, kind: Definition, name: &[u8]) -> Key {
        Key::definitions(workspace, kind).followed_by(name)
    }

    /// How many ordinals were given to profiles so far.
    pub fn ordinals(workspace: WorkspaceId) -> Key {
        Key::new(ORDINAL, workspace, 0, &[])
    }

    /// A plugin's own key-value state.
    pub fn plugin_state(workspace: WorkspaceId, installation: InstallationId, key: &str) -> Key {
        Key::new(PLUGIN_STATE, workspace, 0, &[&installation.0.to_be_bytes(), key.as_bytes()])
    }

    /// The audit log of a workspace, oldest first.
    pub fn audit(workspace: WorkspaceId, at: Option<(Timestamp, u32)>) -> Key {
        let all = Key::new(AUDIT, workspace, 0, &[]);
        at.map_or(all.clone(), |(time, number)| all.followed_by(&sortable(time)).followed_by(&number.to_be_bytes()))
    }

    /// The timers of a workspace, the next due first.
    pub fn timers(workspace: WorkspaceId) -> Key {
        Key::new(TIMER, workspace, 0, &[])
    }

    /// One profile's timer.
    pub fn timer(workspace: WorkspaceId, due_at: Timestamp, profile: SourceIdentityId) -> Key {
        Key::timers(workspace).followed_by(&sortable(due_at)).followed_by(&profile.0)
    }

    /// How far a reader of the change feed has come.
    pub fn cursor(workspace: WorkspaceId, reader: &str) -> Key {
        Key::new(CURSOR, workspace, 0, &[reader.as_bytes()])
    }

    /// The jobs of a queue, the next due first.
    pub(crate) fn jobs_due(queue: QueueId) -> Key {
        Key::new(JOB_DUE, queue.workspace, 0, &[&queue.queue.to_be_bytes()])
    }

    /// A job's place in the order of [`Key::jobs_due`].
    pub(crate) fn job_due(queue: QueueId, due_at: Timestamp, id: &JobId) -> Key {
        Key::jobs_due(queue).followed_by(&sortable(due_at)).followed_by(id)
    }

    /// The time and the job that a key of [`Key::jobs_due`] names.
    pub(crate) fn as_job_due(&self, queue: QueueId) -> Option<(Timestamp, JobId)> {
        let (time, id) = self.strip(&Key::jobs_due(queue))?.split_first_chunk::<8>()?;
        let time = Timestamp((u64::from_be_bytes(*time) ^ (1 << 63)).cast_signed());
        Some((time, id.try_into().ok()?))
    }

    /// When a job is due next.
    pub(crate) fn job_time(queue: QueueId, id: &JobId) -> Key {
        Key::new(JOB_TIME, queue.workspace, 0, &[&queue.queue.to_be_bytes(), id])
    }

    /// What a job holds.
    pub(crate) fn job_body(queue: QueueId, id: &JobId) -> Key {
        Key::new(JOB_BODY, queue.workspace, 0, &[&queue.queue.to_be_bytes(), id])
    }

    /// Who holds a lease.
    pub(crate) fn lease(name: &str) -> Key {
        Key::new(LEASE, SYSTEM, 0, &[name.as_bytes()])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_begin_with_space_and_workspace_and_keep_order() {
        let identity = SourceIdentityId([7; 16]);
        let early = Key::event(WorkspaceId(3), identity, Timestamp(-5));
        let late = Key::event(WorkspaceId(3), identity, Timestamp(5));
        assert!(early < late);
        assert_eq!(early.as_bytes()[..5], [EVENT, 0, 0, 0, 3]);
        let range = Key::events(WorkspaceId(3), identity).range();
        assert!(range.from <= early && late < range.to);
        let head = Key::person(WorkspaceId(3), identity, PersonRow::Head);
        assert_eq!(head.as_person(), Some((identity, PersonRow::Head as u8)));
        assert_eq!(early.as_person(), None);
    }

    #[test]
    fn the_parts_of_the_people_cover_them_once() {
        let all = Key::people(WorkspaceId(3)).range();
        for count in [0, 1, 2, 3, 7, SHARDS, u16::MAX] {
            let parts = Key::people_parts(WorkspaceId(3), count);
            assert_eq!(parts.first().map(|part| &part.from), Some(&all.from));
            assert_eq!(parts.last().map(|part| &part.to), Some(&all.to));
            assert!(parts.windows(2).all(|pair| pair[0].to == pair[1].from && pair[0].from < pair[0].to));
        }
    }

    #[test]
    fn a_range_ends_after_the_last_byte() {
        assert_eq!(Key(vec![1, 255, 255]).range().to, Key(vec![2]));
    }
}
