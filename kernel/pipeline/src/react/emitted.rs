//! Events that models emit with their answers. What is new of a person waits from the answer's commit on as a row, with a mark that
//! it was told; the accept lane takes it through the door that everybody's events come by, and the row goes in the commit of its
//! events. So a crash in between repeats the way to the lane, and the events have ids by which a repeat is seen.
//!
//! What an answer tells that is no news counts as told and goes nowhere. Both are bounded for each person and day:
//! news, so that a model that is asked again because of its own events comes to an end, and the others because each
//! leaves a mark.

use std::collections::{BTreeSet, HashMap, HashSet};
use std::sync::Arc;
use std::time::{Duration, Instant};

use kith_model::audience::Cause;
use kith_model::budget::table;
use kith_model::event::{DraftEvent, EventKind, EventOrigin, RejectedRecord};
use kith_model::id::{InstallationId, ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::plugin::{EmittedEvent, PluginFault};
use kith_store::{CommitError, Key, Operation, ReadError, Store, Unit, row};
use tokio::sync::oneshot;
use tokio::sync::oneshot::error::TryRecvError;

use super::aside::unreadable;
use super::effects::Effect;
use super::models::{InputRow, JobResult};
use super::reactor::{PassError, Reactor};
use crate::accept::aside::Input;
use crate::accept::readers::Reader;
use crate::accept::rules::RuledDraft;
use crate::accept::{Sender, Submission, event_text};
use crate::plan::ModelPlan;
use crate::profiles::facts::{each_row, get_one};
use crate::rows::derived::{Freshness, Output};
use crate::rows::emitted::{Emission, EmittedDay, WaitingEvent, message_id, told_by};
use crate::setup::{Installed, Setup};
use crate::views::Acceptance;

/// Events of one submission, by which no unit of the lane is too large for them.
const MAX_EVENTS: usize = 256;

/// Bytes of them: what goes beyond waits for the next one.
const MAX_BYTES: usize = 1 << 20;

/// Rows that are read for one.
const MAX_ROWS: usize = 256;

/// Rows that wait at most without a record of the log between them.
const ROWS_PER_RECORD: u64 = 1 << 20;

/// Marks of one person that are dropped at once.
const MAX_MARKS: usize = 4_096;

/// The path that a letter names of what was emitted.
const PATH: &str = "emit";

/// How long nothing is handed over after a failure; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// What a workspace's models have emitted and the lane has yet to take.
#[derive(Default)]
pub(super) struct Emissions {
    /// The number of the next row.
    next: u64,
    /// Installations of which there may be rows.
    waiting: BTreeSet<InstallationId>,
    /// The one whose turn was last.
    last: Option<InstallationId>,
    /// What the lane has now.
    under_way: Option<oneshot::Receiver<Result<Acceptance, Arc<CommitError>>>>,
    /// Since the last failure, and how many there were in a row.
    paused: Option<(Instant, u32)>,
}

impl Emissions {
    /// What a process that is no more has left.
    pub(super) fn read(store: &dyn Store, workspace: WorkspaceId) -> Result<Emissions, ReadError> {
        // Above each number that was given before: with its event the lane deletes a row by its number, also where the reactor has
        // been opened anew meanwhile.
        let next = store.head_of(workspace).0.saturating_mul(ROWS_PER_RECORD);
        let mut emissions = Emissions { next, ..Emissions::default() };
        each_row(store, &Key::emissions(workspace), |key, _| {
            if let Some((installation, number)) = key.as_emission(workspace) {
                emissions.next = emissions.next.max(number + 1);
                emissions.waiting.insert(installation);
            }
            Ok(())
        })?;
        Ok(emissions)
    }

    /// Whether anything waits or is under way: the lane wakes the reactor by its commit, and nobody does after a pause.
    pub(super) fn waits(&self) -> bool {
        self.under_way.is_some() || !self.waiting.is_empty()
    }

    /// Whether a failure is so recent that nothing is tried.
    fn rests(&self) -> bool {
        let pause = |failures: u32| FIRST_PAUSE.saturating_mul(1 << failures.min(8)).min(LONGEST_PAUSE);
        self.paused.is_some_and(|(since, failures)| since.elapsed() < pause(failures))
    }

    fn pause(&mut self) {
        let failures = self.paused.map_or(0, |(_, failures)| failures + 1);
        self.paused = Some((Instant::now(), failures));
    }

    /// The installation whose turn it is, after the last one and without those that were refused.
    fn turn(&self, refused: &BTreeSet<InstallationId>) -> Option<InstallationId> {
        let waiting = || self.waiting.difference(refused).copied();
        let after = self.last.and_then(|last| waiting().find(|installation| *installation > last));
        after.or_else(|| waiting().next())
    }
}

/// What the pass has told of people, beside what the store knows.
#[derive(Default)]
pub(super) struct Told {
    marks: HashSet<Key>,
    days: HashMap<Key, EmittedDay>,
}

/// What is new of what a model emitted about somebody.
struct News<'e> {
    events: Vec<(Key, &'e EmittedEvent)>,
    /// What was emitted today under the profile's own name, and of its other members while they were by themselves.
    day: EmittedDay,
    of_others: EmittedDay,
}

impl Reactor {
    /// Take in what a model emitted with an answer that is kept; `held` is the output that the answer takes the place of.
    pub(super) fn take_emitted(
        &mut self,
        model: &ModelPlan,
        result: &JobResult,
        (row, events): (&InputRow, &[EmittedEvent]),
        held: &Output,
    ) -> Result<(), PassError> {
        if events.is_empty() {
            return Ok(());
        }
        let (installation, person) = (model.installed.id, row.profile);
        let news = self.news(installation, person, events);
        let Some(News { events, mut day, of_others }) = self.readable(person, news)? else { return Ok(()) };
        let is_news = self.is_news(model, result, held);
        let (own, of_others) = match is_news {
            true => (&mut day.events, of_others.events),
            false => (&mut day.no_news, of_others.no_news),
        };
        let room = table::PERSON_EVENTS.default.saturating_sub(*own + of_others);
        let (taken, beyond) = events.split_at(events.len().min(usize::try_from(room).unwrap_or(usize::MAX)));
        *own += taken.len() as u64;
        let mut waiting = Vec::new();
        for (key, event) in taken {
            if is_news {
                let (name, properties) = (event.name.clone(), event.properties.clone());
                waiting.push(WaitingEvent { message_id: message_id(installation, person, event), name, properties });
            }
            self.pass.told.marks.insert(key.clone());
            self.pass.effects.push(Effect::Emitted { key: key.clone(), row: Vec::new() });
        }
        if !waiting.is_empty() {
            self.let_wait(installation, person, result, waiting);
        }
        if !taken.is_empty() {
            let key = Key::emitted_by(self.workspace.id, person.0, installation);
            self.pass.told.days.insert(key.clone(), day);
            self.pass.effects.push(Effect::Emitted { key, row: row::encode(&day) });
        }
        if !beyond.is_empty() {
            table::PERSON_EVENTS.count();
            let limit = table::PERSON_EVENTS.default;
            let fault = PluginFault::LimitExceeded { what: "events of one person in a day", limit };
            self.letter_of(result, &fault, 1, &[person])?;
        }
        Ok(())
    }

    /// Drop what is remembered of what a removed installation emitted about these, who are one.
    pub(super) fn forget_emitted(
        &mut self,
        installation: InstallationId,
        members: &[SourceIdentityId],
    ) -> Result<(), ReadError> {
        for member in members {
            let all = Key::emitted_by(self.workspace.id, *member, installation).range();
            let keys: Vec<Key> =
                self.shared.store.scan(&all, MAX_MARKS)?.rows.into_iter().map(|(key, _)| key).collect();
            if !keys.is_empty() {
                self.pass.effects.push(Effect::Dropped { keys });
            }
        }
        Ok(())
    }

    /// Have news wait for the lane from the pass's commit on.
    fn let_wait(
        &mut self,
        installation: InstallationId,
        person: ProfileId,
        result: &JobResult,
        events: Vec<WaitingEvent>,
    ) {
        let Some(identifier) = self.identities.person(person.0).map(|root| root.identifier.clone()) else { return };
        let version = result.about.plugin.rsplit_once('@').map_or("", |(_, version)| version);
        let by = Reader { version: version.to_owned(), digest: result.version.digest.clone() };
        let emission = Emission { by, person: identifier, at: self.now(), events };
        let key = Key::emission(self.workspace.id, installation, self.emissions.next);
        self.emissions.next += 1;
        self.emissions.waiting.insert(installation);
        self.pass.effects.push(Effect::Emitted { key, row: row::encode(&emission) });
    }

    /// Which of these events were never told of the person, each once, and how much was today.
    fn news<'e>(
        &self,
        installation: InstallationId,
        person: ProfileId,
        events: &'e [EmittedEvent],
    ) -> Result<News<'e>, ReadError> {
        let (workspace, store) = (self.workspace.id, self.shared.store.as_ref());
        let members = self.identities.person(person.0).map(|root| root.members()).unwrap_or_default();
        let mut day = EmittedDay::default().at(self.now());
        let mut of_others = day;
        for member in &members {
            let key = Key::emitted_by(workspace, *member, installation);
            let held = match self.pass.told.days.get(&key) {
                Some(held) => *held,
                None => get_one(store, &key)?.map_or(Ok(EmittedDay::default()), |row| row::decode(&row))?,
            };
            match held.at(self.now()) {
                own if *member == person.0 => day = own,
                other => {
                    of_others.events += other.events;
                    of_others.no_news += other.no_news;
                }
            }
        }
        let (mut untold, mut seen) = (Vec::new(), BTreeSet::new());
        for event in events.iter().filter(|event| seen.insert(told_by(event))) {
            let key = |member| Key::emitted(workspace, member, installation, told_by(event));
            let keys: Vec<Key> = members.iter().map(|member| key(*member)).collect();
            let is_told = keys.iter().any(|key| self.pass.told.marks.contains(key))
                || store.get(&keys)?.iter().any(Option::is_some);
            if !is_told {
                untold.push((key(person.0), event));
            }
        }
        Ok(News { events: untold, day, of_others })
    }

    /// Whether an answer in the place of `held` is news: as with messages to those who enter an audience, what a person's own event or
    /// time brought about. Until the model has been heard of everybody, that is so of those who waited for a first answer and of whom
    /// the same version has been heard.
    fn is_news(&self, model: &ModelPlan, result: &JobResult, held: &Output) -> bool {
        let Freshness::Pending { cause: Cause::Event | Cause::Time, .. } = held.freshness else { return false };
        let is_same = || self.numbered(&result.version) == Some(held.version);
        self.is_settled(model) || held.values.is_empty() || is_same()
    }

    /// Hand what waits to the lane, a submission at a time. It never blocks, and what goes wrong is tried again.
    pub(super) fn hand_over_emitted(&mut self) {
        if let Some(under_way) = &mut self.emissions.under_way {
            match under_way.try_recv() {
                Err(TryRecvError::Empty) => return,
                Ok(Ok(_)) => self.emissions.paused = None,
                Ok(Err(error)) => {
                    tracing::error!(workspace = self.workspace.id.0, %error, "what a model emitted is not taken yet");
                    self.emissions.pause();
                }
                Err(TryRecvError::Closed) => self.emissions.pause(),
            }
            self.emissions.under_way = None;
        }
        if self.emissions.rests() {
            return;
        }
        // One that has no room holds up no other.
        let mut refused = BTreeSet::new();
        while let Some(installation) = self.emissions.turn(&refused) {
            self.emissions.last = Some(installation);
            match self.hand_over(installation) {
                Ok(Handed::Nothing) => {
                    self.emissions.waiting.remove(&installation);
                }
                Ok(Handed::Dropped) => {}
                Ok(Handed::To(answered)) => {
                    self.emissions.under_way = Some(answered);
                    return;
                }
                Ok(Handed::NotNow) => {
                    refused.insert(installation);
                }
                Err(error) => {
                    tracing::error!(workspace = self.workspace.id.0, installation = installation.0, %error, "what a model emitted cannot be handed over yet");
                    refused.insert(installation);
                }
            }
        }
        if !refused.is_empty() {
            self.emissions.pause();
        }
    }

    fn hand_over(&self, installation: InstallationId) -> Result<Handed, PassError> {
        let (workspace, now) = (self.workspace.id, self.shared.clock.now());
        let is_over = self.shared.volumes.check((workspace, installation), now).is_err();
        let rows = if is_over { 1 } else { MAX_ROWS };
        let page = self.shared.store.scan(&Key::emissions_of(workspace, installation).range(), rows)?;
        if page.rows.is_empty() {
            return Ok(Handed::Nothing);
        }
        let setup = &self.compiled.setup;
        let Some(installed) = setup.installation(installation) else {
            // What was removed tells nothing more.
            let operations = page.rows.into_iter().map(|(key, _)| Operation::Delete(key)).collect();
            self.shared.commit(Unit { operations, ..Unit::default() })?;
            return Ok(Handed::Dropped);
        };
        if is_over {
            return Ok(Handed::NotNow);
        }
        let mut batch = Batch::default();
        for (key, value) in page.rows {
            let emission: Emission = match row::decode(&value) {
                Ok(emission) => emission,
                Err(error) => {
                    let of = error.to_string();
                    let (aside, letter) = unreadable(workspace, self.cursor, of, key.as_bytes(), &value);
                    let operations = vec![Operation::Put(aside, row::encode(&letter)), Operation::Delete(key)];
                    self.shared.commit(Unit { operations, ..Unit::default() })?;
                    return Ok(Handed::Dropped);
                }
            };
            if !batch.takes(&emission) {
                break;
            }
            batch.add(key, emission);
        }
        let bytes = batch.bytes;
        let (reply, answered) = oneshot::channel();
        let (events, submission) =
            batch.submission(setup, installed, Submission::of_nothing(workspace, installation, now, reply));
        if events == 0 {
            self.shared.commit(Unit { operations: submission.with, ..Unit::default() })?;
            return Ok(Handed::Dropped);
        }
        if self.shared.accept.try_submit(submission).is_err() {
            return Ok(Handed::NotNow);
        }
        self.shared.volumes.brought((workspace, installation), bytes, now);
        Ok(Handed::To(answered))
    }
}

/// What came of an installation's turn.
enum Handed {
    /// Nothing of it waits.
    Nothing,
    /// What waited is gone: nobody wants it.
    Dropped,
    /// The lane has it.
    To(oneshot::Receiver<Result<Acceptance, Arc<CommitError>>>),
    /// There is no room.
    NotNow,
}

/// Rows that go to the lane together: of one version, because that is written beside what it brought.
#[derive(Default)]
struct Batch {
    by: Option<Reader>,
    keys: Vec<Key>,
    drafts: Vec<DraftEvent>,
    people: Vec<kith_model::identity::Identifier>,
    bytes: usize,
}

impl Batch {
    fn takes(&self, emission: &Emission) -> bool {
        let has_room = self.drafts.len() < MAX_EVENTS && self.bytes < MAX_BYTES;
        has_room && self.by.as_ref().is_none_or(|by| *by == emission.by)
    }

    fn add(&mut self, key: Key, emission: Emission) {
        let Emission { by, person, at, events } = emission;
        self.by = Some(by);
        self.keys.push(key);
        for event in events {
            let WaitingEvent { message_id, name, properties } = event;
            self.bytes += name.len() + properties.len();
            self.drafts.push(DraftEvent {
                kind: EventKind::Track,
                message_id: Some(message_id),
                name,
                time: Some(at),
                properties,
                ..DraftEvent::default()
            });
            self.people.push(person.clone());
        }
    }

    /// The submission, and how many records it has. Declarations are looked at and rules applied here and not in the lane: the
    /// person's identifier is as it is stored, and a rule that hashes identifiers would make somebody else of it.
    fn submission(self, setup: &Setup, installed: &Installed, nothing: Submission) -> (usize, Submission) {
        let of = Sender::of(setup, installed);
        let (mut events, mut rejected) = (Vec::new(), Vec::new());
        for (draft, person) in self.drafts.into_iter().zip(self.people) {
            let refused = of.declared.as_ref().and_then(|declared| declared.refusal(&draft));
            let ruled = RuledDraft::new(&draft, of.rules.as_deref(), &setup.identity_rules);
            if ruled.is_dropped {
                continue;
            }
            let flags = ruled.flags.clone();
            let mut event = ruled.event.into_owned();
            event.flags.extend(flags);
            event.identifiers = vec![person];
            match refused {
                // What a rule drops or hashes is in nothing that is kept.
                Some(refused) => rejected.push(RejectedRecord { raw: event_text(&event), ..refused }),
                None => events.push(event),
            }
        }
        let judged = setup.tracking.get(&installed.id).map(|plan| plan.judge(&events)).unwrap_or_default();
        let input = Input {
            path: PATH.to_owned(),
            query: String::new(),
            content_type: String::new(),
            body: Vec::new(),
            resume: None,
            places: Vec::new(),
            judged,
            has_failed: false,
        };
        let reader = self.by.map(Arc::new);
        let sender = Sender { rules: None, hashing: None, declared: None, reader, ..of };
        let submission = Submission {
            sender: Arc::new(sender),
            origin: EventOrigin::Kernel,
            with: self.keys.into_iter().map(Operation::Delete).collect(),
            input: Some(Arc::new(input)),
            events,
            rejected,
            ..nothing
        };
        (submission.events.len() + submission.rejected.len(), submission)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whoever_is_refused_holds_up_no_other() {
        let ids =
            |numbers: &[u32]| -> BTreeSet<InstallationId> { numbers.iter().copied().map(InstallationId).collect() };
        let turn = |last: Option<u32>, refused: &[u32]| {
            let (waiting, last) = (ids(&[1, 2, 3]), last.map(InstallationId));
            Emissions { waiting, last, ..Emissions::default() }.turn(&ids(refused)).map(|turn| turn.0)
        };
        assert_eq!([turn(None, &[]), turn(Some(1), &[]), turn(Some(3), &[])], [Some(1), Some(2), Some(1)]);
        assert_eq!([turn(Some(1), &[2]), turn(Some(3), &[1, 2]), turn(Some(1), &[1, 2, 3])], [Some(3), Some(3), None]);
    }

    #[test]
    fn what_goes_to_the_lane_together_is_bounded_in_events_and_bytes() {
        let emission = |properties: usize| Emission {
            by: Reader { version: "1.0.0".into(), digest: "d".into() },
            person: kith_model::identity::Identifier::new("user_id", "u1"),
            at: kith_model::time::Timestamp(0),
            events: vec![WaitingEvent {
                message_id: "m".into(),
                name: "Won".into(),
                properties: "x".repeat(properties),
            }],
        };
        let taken = |properties: usize| {
            let mut batch = Batch::default();
            (0..2 * MAX_EVENTS)
                .take_while(|_| {
                    let takes = batch.takes(&emission(properties));
                    if takes {
                        batch.add(Key::emission(WorkspaceId(1), InstallationId(1), 0), emission(properties));
                    }
                    takes
                })
                .count()
        };
        assert_eq!([taken(0), taken(MAX_BYTES / 2)], [MAX_EVENTS, 2]);
    }
}
