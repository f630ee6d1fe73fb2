//! The writer thread: takes all waiting units, checks them one after the other, writes those that hold with one append and
//! one sync, and only then answers, refusals too: a unit may be refused because of one that is not durable yet.

use std::collections::{HashMap, VecDeque};
use std::sync::mpsc::SyncSender;

use kith_model::id::Position;
use kith_model::time::Timestamp;
use parking_lot::{Condvar, Mutex};

use super::commit::Verdict;
use super::overlay::{Entry, Rows, count};
use super::prepare::{JobStep, Prepared};
use super::room::{Purpose, Room};
use super::rows::{self, Lease};
use super::{Shared, read};
use crate::engine::Applied;
use crate::journal::record::{self, Effect, Place};
use crate::journal::{End, Group, Spot};
use crate::{
    CommitError, Committed, Fence, Job, JobId, Key, KeyRange, LogRecord, Precondition, QueueId, ReadError, Value,
};

/// About the most units of one group, and about the most bytes: a group is written from memory, and all its callers wait for it.
pub(crate) const MAX_GROUP_UNITS: usize = 4096;
pub(crate) const MAX_GROUP_BYTES: usize = 4 * 1024 * 1024;

/// The most jobs of one claim; a claim is one unit, and whoever can do more claims again.
pub(crate) const MAX_CLAIMED_JOBS: usize = 10_000;
/// About what claiming one job adds to the journal.
const CLAIM_BYTES: usize = 192;

/// The most leases of which the writer remembers the holder; a node has a few.
const MAX_KNOWN_LEASES: usize = 256;

type Reply<T> = SyncSender<Result<T, CommitError>>;

/// What callers ask of the writer.
pub(crate) enum Command {
    /// Units that are judged one by one and committed in one group.
    Commit {
        units: Vec<Prepared>,
        reply: SyncSender<Vec<Verdict>>,
    },
    Claim {
        queue: QueueId,
        now: Timestamp,
        limit: usize,
        lease_ms: i64,
        reply: Reply<Vec<Job>>,
    },
    Lease {
        name: String,
        owner: String,
        now: Timestamp,
        ttl_ms: i64,
        reply: Reply<Option<Fence>>,
    },
}

/// An answer that waits for the group to be durable.
enum Answer {
    Commit(SyncSender<Vec<Verdict>>, Vec<Verdict>),
    Claim(Reply<Vec<Job>>, Result<Vec<Job>, CommitError>),
    Lease(Reply<Option<Fence>>, Result<Option<Fence>, CommitError>),
}

impl Answer {
    fn send(self) {
        // A caller that went away needs no answer.
        match self {
            Answer::Commit(reply, answer) => drop(reply.send(answer)),
            Answer::Claim(reply, answer) => drop(reply.send(answer)),
            Answer::Lease(reply, answer) => drop(reply.send(answer)),
        }
    }
}

impl Command {
    fn size_bytes(&self) -> usize {
        match self {
            Command::Commit { units, .. } => units.iter().map(|unit| unit.size_bytes).sum(),
            Command::Claim { limit, .. } => limit * CLAIM_BYTES,
            Command::Lease { .. } => 256,
        }
    }

    fn units(&self) -> usize {
        match self {
            Command::Commit { units, .. } => units.len(),
            Command::Claim { .. } | Command::Lease { .. } => 1,
        }
    }
}

#[derive(Default)]
struct Waiting {
    commands: VecDeque<Command>,
    is_closed: bool,
}

/// Commands on their way to the writer.
#[derive(Default)]
pub(crate) struct Queue {
    waiting: Mutex<Waiting>,
    filled: Condvar,
}

impl Queue {
    /// Add a command; refused once the queue is closed.
    pub(crate) fn send(&self, command: Command) -> Result<(), CommitError> {
        let mut waiting = self.waiting.lock();
        if waiting.is_closed {
            return Err(CommitError::Closed);
        }
        waiting.commands.push_back(command);
        drop(waiting);
        self.filled.notify_one();
        Ok(())
    }

    /// Refuse new commands; those that wait are still carried out.
    pub(crate) fn close(&self) {
        self.waiting.lock().is_closed = true;
        self.filled.notify_one();
    }

    /// The commands of the next group; `None` once the queue is closed and empty.
    fn take(&self) -> Option<Vec<Command>> {
        let mut waiting = self.waiting.lock();
        self.filled.wait_while(&mut waiting, |waiting| waiting.commands.is_empty() && !waiting.is_closed);
        let mut commands = Vec::new();
        let (mut bytes, mut units) = (0, 0);
        while let Some(command) = waiting.commands.front() {
            bytes += command.size_bytes();
            units += command.units();
            if !commands.is_empty() && (bytes > MAX_GROUP_BYTES || units > MAX_GROUP_UNITS) {
                break;
            }
            commands.extend(waiting.commands.pop_front());
        }
        (!commands.is_empty()).then_some(commands)
    }
}

/// The holders of leases as of the group so far, so that a fence, which every unit of a node carries, costs no look-up of a
/// row. They cannot go stale, because only the writer changes leases.
#[derive(Default)]
pub(crate) struct Leases(HashMap<String, Lease>);

impl Leases {
    fn remember(&mut self, name: &str, lease: Lease) {
        // A node has few leases; a caller that makes up names must not fill the memory with them.
        if self.0.len() >= MAX_KNOWN_LEASES {
            self.0.clear();
        }
        self.0.insert(name.to_owned(), lease);
    }
}

/// Carry out commands until the queue is closed and empty.
pub(crate) fn run(shared: &Shared, mut end: End) {
    let mut leases = Leases::default();
    while let Some(commands) = shared.queue.take() {
        shared.overlay.wait_for_room();
        let mut draft = Draft::new(shared, end, Room::of(shared), &mut leases);
        let answers: Vec<Answer> = commands.into_iter().map(|command| draft.carry_out(command)).collect();
        end = draft.finish();
        answers.into_iter().for_each(Answer::send);
    }
    // With it, damage of the last group is known for what it is at the next start.
    if let Some(journal) = &shared.journal {
        journal.note(end.next_sequence - 1);
    }
}

/// A group that is being put together.
pub(crate) struct Draft<'a> {
    shared: &'a Shared,
    start: End,
    end: End,
    group: Group,
    /// The net effect of the group's units so far.
    pending: Rows,
    records: Vec<LogRecord>,
    room: Room<'a>,
    leases: &'a mut Leases,
}

impl<'a> Draft<'a> {
    pub(crate) fn new(shared: &'a Shared, end: End, room: Room<'a>, leases: &'a mut Leases) -> Draft<'a> {
        let (group, pending, records) = (Group::default(), Rows::new(), Vec::new());
        Draft { shared, start: end, end, group, pending, records, room, leases }
    }

    fn carry_out(&mut self, command: Command) -> Answer {
        match command {
            Command::Commit { units, reply } => {
                let verdicts = units.into_iter().map(|unit| self.commit(unit)).collect();
                Answer::Commit(reply, verdicts)
            }
            Command::Claim { queue, now, limit, lease_ms, reply } => {
                Answer::Claim(reply, self.claim(queue, now, limit, lease_ms))
            }
            Command::Lease { name, owner, now, ttl_ms, reply } => {
                Answer::Lease(reply, self.lease(name, owner, now, ttl_ms))
            }
        }
    }

    /// Write and sync the group, show it to readers; where the next one begins.
    fn finish(mut self) -> End {
        let units = self.group.units();
        if units == 0 {
            return self.end;
        }
        let started = std::time::Instant::now();
        if let Some(begin) = self.shared.journal.as_ref().and_then(|journal| journal.append(&self.group)) {
            for spot in self.pending.values_mut().filter_map(|entry| entry.spot.as_mut()) {
                *spot = Spot { segment: begin.segment, offset: begin.offset + spot.offset };
            }
        }
        metrics::histogram!("kith_store_append_seconds").record(started.elapsed().as_secs_f64());
        metrics::histogram!("kith_store_group_units").record(count(units));
        metrics::counter!("kith_store_units_total").increment(units as u64);
        metrics::counter!("kith_store_journal_bytes_total").increment(self.group.bytes.len() as u64);
        self.publish();
        self.end
    }

    /// Show the units to readers: rows, then log records, then the head, so that who sees the head finds all of it. Rows and
    /// records are shown under one lock, so that who has read a row finds the record that goes with it.
    pub(crate) fn publish(&mut self) {
        let last = Applied {
            sequence: self.end.next_sequence - 1,
            position: self.end.next_position - 1,
            fingerprint: self.end.fingerprint,
        };
        let has_records = !self.records.is_empty();
        let mut tail = self.shared.tail.write();
        self.shared.overlay.publish(std::mem::take(&mut self.pending), last);
        tail.extend(self.records.drain(..));
        drop(tail);
        if has_records {
            *self.shared.head.lock() = Position(last.position);
            self.shared.head_moved.notify_all();
        }
        self.start = self.end;
    }

    fn commit(&mut self, mut prepared: Prepared) -> Result<Committed, CommitError> {
        self.check_fence(prepared.fence.as_ref())?;
        self.check_preconditions(&prepared.preconditions, prepared.checked)?;
        let mut moved = Vec::new();
        for step in prepared.jobs {
            self.resolve(step, &mut moved)?;
        }
        moved.iter().for_each(|effect| record::write_operation(&mut prepared.encoded, effect));
        prepared.effects.append(&mut moved);
        debug_assert!(prepared.encoded.len() <= prepared.size_bytes, "a unit is no larger than it was judged to be");
        self.write(prepared.effects, &prepared.encoded, prepared.appended, Purpose::Unit)
    }

    /// Take a unit into the group, unless the disk has no room for it. Nothing can refuse it after this.
    fn write(
        &mut self,
        effects: Vec<Effect>,
        encoded: &[u8],
        appended: u32,
        purpose: Purpose,
    ) -> Result<Committed, CommitError> {
        if effects.is_empty() {
            let head = Position(self.end.next_position - 1);
            return Ok(Committed { first: head, head });
        }
        self.room.take(record::record_bytes(encoded), purpose)?;
        let place = Place {
            sequence: self.end.next_sequence,
            group: self.start.next_sequence,
            first_position: self.end.next_position,
            appended,
        };
        // Where the group will lie is known when it is written; till then its spots count from its beginning.
        let begin = Spot { segment: 0, offset: self.group.bytes.len() as u64 };
        let checksum = self.group.push(place, encoded);
        self.add(place, checksum, self.shared.journal.is_some().then_some(begin), effects);
        let head = Position(place.next_position() - 1);
        Ok(Committed { first: if appended == 0 { head } else { Position(place.first_position) }, head })
    }

    /// Add a unit's effects, whose record begins at `spot` in the journal and has this checksum, to the group's rows and records.
    pub(crate) fn add(&mut self, place: Place, checksum: u32, spot: Option<Spot>, effects: Vec<Effect>) {
        let sequence = place.sequence;
        let mut end = record::LEAST_BYTES;
        for effect in effects {
            end += record::operation_bytes(&effect);
            let entry = |value: Option<Value>| Entry { value, sequence, spot: None };
            let (key, entry) = match effect {
                Effect::Put(key, value) => (key, entry(Some(value))),
                Effect::Delete(key) => (key, entry(None)),
                Effect::Append { workspace, record: bytes, row } => {
                    let position = self.end.next_position;
                    self.end.next_position += 1;
                    self.records.push(LogRecord { position: Position(position), workspace, bytes: bytes.clone() });
                    let Some(mut row) = row else { continue };
                    row.push_position(position);
                    // An operation ends with its record.
                    let spot = spot.map(|spot| spot.plus(end - bytes.len()));
                    (row, Entry { spot, ..entry(Some(bytes)) })
                }
            };
            self.pending.insert(key, entry);
        }
        debug_assert_eq!(
            self.end.next_position,
            place.next_position(),
            "a place says how many records its unit appends"
        );
        self.end = self.end.after(place, checksum);
    }

    /// The row of `key` as of the group so far.
    fn row(&self, key: &Key) -> Result<Option<Value>, ReadError> {
        if let Some(entry) = self.pending.get(key) {
            return Ok(entry.value.clone());
        }
        let values = read::get(&self.shared.overlay, &*self.shared.engine, std::slice::from_ref(key))?;
        Ok(values.into_iter().next().flatten())
    }

    /// Who holds a lease as of the group so far.
    fn held(&mut self, name: &str) -> Result<Option<&Lease>, ReadError> {
        if !self.leases.0.contains_key(name)
            && let Some(row) = self.row(&Key::lease(name))?
        {
            self.leases.remember(name, Lease::from_row(&row)?);
        }
        Ok(self.leases.0.get(name))
    }

    fn check_fence(&mut self, fence: Option<&Fence>) -> Result<(), CommitError> {
        let Some(fence) = fence else { return Ok(()) };
        if self.held(&fence.name)?.is_some_and(|lease| lease.epoch == fence.epoch) {
            Ok(())
        } else {
            Err(CommitError::Fenced { name: fence.name.clone(), epoch: fence.epoch })
        }
    }

    /// The caller has seen the preconditions hold after unit `checked`. They can be broken only by later units: those are in
    /// the group or the overlay, unless the applier has dropped them, and only then is the engine asked again. Where the
    /// caller has seen nothing, every one is looked up.
    fn check_preconditions(&self, preconditions: &[Precondition], checked: Option<u64>) -> Result<(), CommitError> {
        let seen = |sequence: u64| checked.is_some_and(|checked| sequence <= checked);
        let mut broken = Vec::new();
        let mut unknown = Vec::new();
        {
            let layers = self.shared.overlay.read();
            for precondition in preconditions {
                let key = precondition.key();
                match self.pending.get(key).or_else(|| layers.find(key)) {
                    Some(entry) if seen(entry.sequence) || precondition.holds(entry.value.as_deref()) => {}
                    Some(_) => broken.push(key.clone()),
                    None if seen(layers.applied.sequence) => {}
                    None => unknown.push(precondition),
                }
            }
        }
        for precondition in unknown {
            if !precondition.holds(self.row(precondition.key())?.as_deref()) {
                broken.push(precondition.key().clone());
            }
        }
        if broken.is_empty() { Ok(()) } else { Err(CommitError::Conflict(broken)) }
    }

    /// The row of a job's time, as of the group and of the unit's own earlier steps.
    fn job_time(&self, queue: QueueId, id: &JobId, earlier: &[Effect]) -> Result<Option<Timestamp>, ReadError> {
        let key = Key::job_time(queue, id);
        let own = earlier.iter().rev().find_map(|effect| match effect {
            Effect::Put(other, value) if *other == key => Some(Some(value.clone())),
            Effect::Delete(other) if *other == key => Some(None),
            _ => None,
        });
        let row = match own {
            Some(row) => row,
            None => self.row(&key)?,
        };
        row.map(|row| rows::read_job_time(&row)).transpose()
    }

    fn resolve(&self, step: JobStep, effects: &mut Vec<Effect>) -> Result<(), CommitError> {
        match step {
            JobStep::Enqueue { queue, id, due_at, body } => {
                if let Some(old) = self.job_time(queue, &id, effects)? {
                    effects.push(Effect::Delete(Key::job_due(queue, old, &id)));
                    effects.push(Effect::Delete(Key::job_claimed(queue, &id)));
                }
                effects.push(Effect::Put(Key::job_due(queue, due_at, &id), Value::from([])));
                effects.push(Effect::Put(Key::job_time(queue, &id), rows::job_time(due_at)));
                effects.push(Effect::Put(Key::job_body(queue, &id), rows::job_body(due_at, &body)));
            }
            JobStep::Acknowledge { queue, id } => {
                if let Some(old) = self.job_time(queue, &id, effects)? {
                    effects.push(Effect::Delete(Key::job_due(queue, old, &id)));
                    effects.push(Effect::Delete(Key::job_time(queue, &id)));
                    effects.push(Effect::Delete(Key::job_body(queue, &id)));
                    effects.push(Effect::Delete(Key::job_claimed(queue, &id)));
                }
            }
        }
        Ok(())
    }

    fn claim(&mut self, queue: QueueId, now: Timestamp, limit: usize, lease_ms: i64) -> Result<Vec<Job>, CommitError> {
        let due = due_range(queue, now);
        let page = read::scan(&self.shared.overlay, &*self.shared.engine, Some(&self.pending), &due, limit)?;
        let hidden_until = now.plus_ms(lease_ms);
        let mut jobs = Vec::with_capacity(page.rows.len());
        let mut effects = Vec::with_capacity(4 * page.rows.len());
        for (key, _) in page.rows {
            let damaged = |problem: &str| ReadError::Corrupt {
                what: "a queue".to_owned(),
                problem: problem.to_owned(),
                row: None,
            };
            let (_, id) = key.as_job_due(queue).ok_or_else(|| damaged("a key of its order cannot be read"))?;
            let row = self.row(&Key::job_body(queue, &id))?;
            match row.ok_or_else(|| damaged("a job has no body")).and_then(|row| rows::read_job_body(&row)) {
                Ok((due_at, body)) => jobs.push(Job { queue, id, due_at, body }),
                // Nobody gets that one. It is hidden like the others, or it would be in their way for good.
                Err(error) => self.shared.note_damage(&error),
            }
            effects.push(Effect::Delete(key));
            effects.push(Effect::Put(Key::job_due(queue, hidden_until, &id), Value::from([])));
            effects.push(Effect::Put(Key::job_time(queue, &id), rows::job_time(hidden_until)));
            effects.push(Effect::Put(Key::job_claimed(queue, &id), Value::from([])));
        }
        self.write_rows(effects, Purpose::Unit)?;
        Ok(jobs)
    }

    fn lease(
        &mut self,
        name: String,
        owner: String,
        now: Timestamp,
        ttl_ms: i64,
    ) -> Result<Option<Fence>, CommitError> {
        let epoch = match self.held(&name)? {
            Some(lease) if lease.owner == owner => lease.epoch,
            Some(lease) if lease.until > now => return Ok(None),
            Some(lease) => lease.epoch + 1,
            None => 1,
        };
        let lease = Lease { epoch, until: now.plus_ms(ttl_ms), owner };
        self.write_rows(vec![Effect::Put(Key::lease(&name), lease.to_row())], Purpose::Lease)?;
        self.leases.remember(&name, lease);
        Ok(Some(Fence { name, epoch }))
    }

    fn write_rows(&mut self, effects: Vec<Effect>, purpose: Purpose) -> Result<(), CommitError> {
        let mut encoded = Vec::new();
        effects.iter().for_each(|effect| record::write_operation(&mut encoded, effect));
        self.write(effects, &encoded, 0, purpose).map(drop)
    }
}

/// The jobs of `queue` that are due at `now`.
pub(crate) fn due_range(queue: QueueId, now: Timestamp) -> KeyRange {
    let from = Key::jobs_due(queue);
    let last = Key::job_due(queue, now, &[u8::MAX; 16]);
    KeyRange { from, to: last.successor() }
}

impl Precondition {
    pub(crate) fn key(&self) -> &Key {
        match self {
            Precondition::Absent(key) | Precondition::Holds(key, _) => key,
        }
    }

    pub(crate) fn holds(&self, value: Option<&[u8]>) -> bool {
        match self {
            Precondition::Absent(_) => value.is_none(),
            Precondition::Holds(_, wanted) => value == Some(wanted.as_slice()),
        }
    }
}
