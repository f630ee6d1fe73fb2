//! Building the units of one workspace: as much of a submission as fits, checked, deduplicated and tied to people.
//!
//! What fails takes no more with it than it must: an event that needs a damaged row is set aside alone, a unit that is too
//! large is halved until the one event that is too large is alone, and only an error of the store itself ends a submission.

mod ends;
mod judged;
mod notes;
mod refusals;
mod reports;
mod returns;
mod taking_back;
#[cfg(test)]
mod tests;
mod tying;

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_features::Zone;
use kith_model::change::Change;
use kith_model::consent::Giver;
use kith_model::event::{DraftEvent, Event, EventOrigin, RejectedRecord};
use kith_model::flag;
use kith_model::id::WorkspaceId;
use kith_model::identity::{IdentityRules, is_missing_id};
use kith_model::time::Timestamp;
use kith_store::{CommitError, Key, Operation, ReadError, Store, Unit, row};

use super::aside::{KeptParts, Quota};
use super::counts::Totals;
use super::dedupe::{Recognition, SeenMessages, Unseen};
use super::moment::{self, Moment};
use super::named;
use super::people::{EvidenceOutcome, People};
use super::quality::{LATE_AFTER_MS, Quality, SourceCounts};
use super::readers::Readers;
use super::reweigh::{self, AppliedRules, RulesDurability};
use super::rules::RuledDraft;
use super::validate::CheckedDraft;
use super::{Submission, content, validate};
use crate::profiles::facts::EventFacts;
use crate::rows::Letter;
use crate::rows::emitted::is_emitted;
use crate::views::{Acceptance, Verdict};
use notes::surplus_traits;
use refusals::{REFUSAL_LOST, REFUSAL_TAKEN};
use taking_back::TakingBack;

/// Most events of one unit: enough that a unit's own cost vanishes.
const MAX_UNIT_EVENTS: usize = 1_000;

/// Most bytes of drafts in one unit, by estimate.
const MAX_DRAFT_BYTES: usize = 4 << 20;

/// What an identifier may cost beside its text: an alias, a head and its evidence.
const IDENTIFIER_BYTES: usize = 1 << 10;

/// How far a submission has come.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Progress {
    /// The next event.
    pub next: usize,
    /// The next of what the connector could not read; all of that comes before the first event.
    rejected: usize,
    kept: KeptParts,
}

/// A unit with what it means for its submission.
pub(super) struct BuiltUnit {
    pub unit: Unit,
    pub bytes: usize,
    pub events: usize,
    /// Where the submission stands once the unit is durable.
    pub progress: Progress,
    pub is_last: bool,
    /// Whether the next event needs what was built so far to be durable.
    pub waits: bool,
    /// What the unit adds to the answer.
    pub acceptance: Acceptance,
}

/// One workspace's state. Only its lane holds it, so it needs no lock and no retry.
pub(super) struct Workspace {
    pub(super) store: Arc<dyn Store>,
    pub(super) id: WorkspaceId,
    pub people: People,
    pub(super) seen: SeenMessages,
    totals: Totals,
    quota: Quota,
    quality: Quality,
    readers: Readers,
    pub rules: IdentityRules,
    pub zone: Zone,
    /// By which rules history is tied, and whether the store has that as it is here.
    pub(super) applied: AppliedRules,
    pub(super) applied_noted: RulesDurability,
    taking_back: TakingBack,
    /// Makes the ids of messages that came without one differ.
    unnamed: u64,
    /// The largest unit; a test makes it small.
    pub max_unit_bytes: usize,
}

/// A draft's message that is to be recorded.
struct Message {
    message_id: String,
    /// To be remembered once it is; absent where the kernel made the id.
    unseen: Option<Unseen>,
    /// Where it corrects the events of this id, what takes each of them out of history.
    superseding: Option<Vec<[Operation; 2]>>,
}

/// A unit under construction.
struct Draft<'s> {
    submission: &'s Submission,
    /// What its events call the version that read them.
    reader: u32,
    /// Rows that only this unit touches.
    operations: Vec<Operation>,
    letters: Vec<Letter>,
    kept: KeptParts,
    acceptance: Acceptance,
    /// What the source's counts have beside the answer's.
    counts: SourceCounts,
    /// Whether what is taken is the refusal of consent in a record that is counted already, and that no plan judges.
    is_refusal: bool,
    /// Events that were taken.
    events: u64,
    /// Events whose place others took.
    superseded: u64,
    /// Types and reasons of values that name nobody of which one was kept aside: a sender who has no addresses says so in
    /// every event.
    left_out: BTreeSet<(String, &'static str)>,
}

/// Whether the events of a unit are taken, or set aside because the one that it has is too large.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Size {
    Fits,
    TooLarge { bytes: usize },
}

/// About what a draft takes in memory and in the store.
pub(super) fn draft_bytes(draft: &DraftEvent) -> usize {
    let identifiers = draft.identifiers.iter().map(|identifier| IDENTIFIER_BYTES + identifier.value.len());
    let texts = [&draft.name, &draft.properties, &draft.traits, &draft.context];
    size_of::<DraftEvent>() + texts.into_iter().map(String::len).sum::<usize>() + identifiers.sum::<usize>()
}

/// Where the unit that begins with event `from` ends, by estimate.
fn piece_end(events: &[DraftEvent], from: usize) -> usize {
    let mut bytes = 0;
    let fits = events.iter().skip(from).take(MAX_UNIT_EVENTS).take_while(|draft| {
        let is_first = bytes == 0;
        bytes += draft_bytes(draft);
        is_first || bytes <= MAX_DRAFT_BYTES
    });
    from + fits.count()
}

impl Workspace {
    pub(super) fn open(
        store: &Arc<dyn Store>,
        id: WorkspaceId,
        rules: IdentityRules,
        realm_key: [u8; 32],
    ) -> Result<Workspace, ReadError> {
        let noted = reweigh::applied(store.as_ref(), id)?;
        // Of a workspace that never noted rules, history is taken for tied by those of today.
        let (applied_noted, applied) = match noted {
            Some(applied) if applied.digest == reweigh::digest(&rules) => (RulesDurability::Yes, applied),
            Some(_) => (RulesDurability::No, AppliedRules::all(id, &rules)),
            None => (RulesDurability::No, AppliedRules::done(&rules)),
        };
        let mut people = People::open(Arc::clone(store), id, realm_key)?;
        people.put_off.put_back(applied.put_off.iter().copied());
        Ok(Workspace {
            applied,
            applied_noted,
            store: Arc::clone(store),
            id,
            people,
            seen: SeenMessages::open(Arc::clone(store), id)?,
            totals: Totals::open(store.as_ref(), id)?,
            quota: Quota::new(Arc::clone(store), id),
            quality: Quality::new(Arc::clone(store), id),
            readers: Readers::new(Arc::clone(store), id),
            rules,
            zone: Zone::utc(),
            taking_back: TakingBack::default(),
            unnamed: 0,
            max_unit_bytes: kith_store::MAX_UNIT_BYTES,
        })
    }

    /// Build the next unit of a submission, of at most the allowed size, on top of the group so far.
    ///
    /// # Errors
    /// What ends the submission: the store cannot be read, or what must go with it in one commit is too large.
    pub(super) fn build(&mut self, submission: &Submission, progress: Progress) -> Result<BuiltUnit, CommitError> {
        let from = progress.next;
        let mut to = piece_end(&submission.events, from);
        let mut size = Size::Fits;
        loop {
            let built = self.build_events(submission, progress, to, size).inspect_err(|_| self.forget_unit())?;
            if built.waits && built.events == 0 {
                self.forget_unit();
                return Ok(built);
            }
            if built.bytes <= self.max_unit_bytes {
                self.keep_unit();
                return Ok(built);
            }
            self.forget_unit();
            match (to - from, size) {
                (1, Size::Fits) => size = Size::TooLarge { bytes: built.bytes },
                (0 | 1, _) => return Err(CommitError::TooLarge { bytes: built.bytes, limit: self.max_unit_bytes }),
                (events, _) => to = from + events / 2,
            }
        }
    }

    fn build_events(
        &mut self,
        submission: &Submission,
        progress: Progress,
        mut to: usize,
        size: Size,
    ) -> Result<BuiltUnit, ReadError> {
        let mut draft = Draft {
            submission,
            reader: self.readers.number_of(submission)?,
            operations: Vec::new(),
            letters: Vec::new(),
            kept: progress.kept,
            acceptance: Acceptance::default(),
            counts: SourceCounts::default(),
            is_refusal: false,
            events: 0,
            superseded: 0,
            left_out: BTreeSet::new(),
        };
        let rejected = draft.reject_unread(progress.rejected);
        let has_unread = rejected < submission.rejected.len();
        if has_unread {
            to = progress.next;
        }
        let mut waits = false;
        for (index, event) in submission.events.iter().enumerate().take(to).skip(progress.next) {
            if self.must_wait(submission, event) {
                (to, waits) = (index, true);
                break;
            }
            let ruled = RuledDraft::new(event, submission.sender.rules.as_deref(), &self.rules);
            let verdict = match size {
                _ if ruled.is_dropped => Verdict::Dropped,
                Size::Fits => self.accept_event(&mut draft, &ruled, index)?,
                Size::TooLarge { bytes } => too_large(&ruled.event, bytes, self.max_unit_bytes),
            };
            let mut heard = self.hear_refusal(&mut draft, &ruled.event, index, &verdict)?;
            if self.hear_of_dropped(&mut draft, &ruled, index, &verdict)? && heard == REFUSAL_LOST {
                heard = REFUSAL_TAKEN;
            }
            draft.report(&ruled, index, verdict, heard);
        }
        let is_last = to == submission.events.len() && !has_unread;
        if is_last {
            draft.kept.end(submission, &mut draft.letters);
        }
        let events = to - progress.next;
        let first = progress.next;
        let progress = Progress { next: to, rejected, kept: draft.kept };
        let acceptance = std::mem::take(&mut draft.acceptance);
        draft.counts.complete(&acceptance);
        let mut unit = self.finish(draft, is_last)?;
        if let Some(piece) = &submission.piece {
            unit.operations.extend(piece.notes(self.id, first, &acceptance, is_last));
        }
        let bytes = unit.size_bytes();
        Ok(BuiltUnit { unit, bytes, events, progress, is_last, waits, acceptance })
    }

    /// One event in a layer of its own: an event that cannot be taken leaves nothing behind.
    fn accept_event(
        &mut self,
        draft: &mut Draft<'_>,
        ruled: &RuledDraft<'_>,
        index: usize,
    ) -> Result<Verdict, ReadError> {
        match self.accept_one(draft, ruled, index) {
            Ok(verdict) => {
                self.people.keep_event();
                Ok(verdict)
            }
            Err(error @ (ReadError::Io { .. } | ReadError::Truncated { .. })) => Err(error),
            Err(error) => {
                self.people.forget_event();
                tracing::error!(workspace = self.id.0, %error, "an event is set aside, because a row that it needs cannot be read");
                Ok(Verdict::Rejected(RejectedRecord {
                    place: 0,
                    code: "unreadable-row".into(),
                    message: format!("the event needs a row that cannot be read: {error}"),
                    raw: validate::excerpt(&ruled.event),
                }))
            }
        }
    }

    /// The id of a draft's message, if that is new or a correction; else what it is.
    fn message(
        &mut self,
        submission: &Submission,
        came: &DraftEvent,
        checked: &CheckedDraft<'_>,
    ) -> Result<Result<Message, Verdict>, ReadError> {
        let Some(message_id) = came.message_id.clone().filter(|id| !is_missing_id(id)) else {
            self.unnamed += 1;
            let message_id = format!("kith-{}-{:09}", submission.received_at.0, self.unnamed);
            return Ok(Ok(Message { message_id, unseen: None, superseding: None }));
        };
        // By what came: a repeat is one also after the rules were changed.
        let digest = content::digest(came);
        let (unseen, superseding) = match self.seen.look(&submission.sent(), &message_id, digest)? {
            Recognition::Never(unseen) => (unseen, None),
            Recognition::Same if self.returns(submission, came, checked, &message_id)? => {
                return Ok(Ok(Message { message_id, unseen: None, superseding: None }));
            }
            Recognition::Same => return Ok(Err(Verdict::Duplicate)),
            // It is one by its id: rules that were changed between its commit and a repeat make no other one of it.
            Recognition::Other(..) if is_emitted(submission.origin, &message_id) => return Ok(Err(Verdict::Duplicate)),
            Recognition::Other(of, unseen) => match self.supersede(submission, checked, &message_id, of)? {
                Some(superseding) => (unseen, Some(superseding)),
                None => return Ok(Err(Verdict::Conflict { message_id })),
            },
        };
        Ok(Ok(Message { message_id, unseen: Some(unseen), superseding }))
    }

    /// One draft: valid? new? whose? The rows that only it needs go to the draft of the unit; shared ones are kept pending.
    fn accept_one(
        &mut self,
        draft: &mut Draft<'_>,
        ruled: &RuledDraft<'_>,
        index: usize,
    ) -> Result<Verdict, ReadError> {
        let submission = draft.submission;
        let event = ruled.event.as_ref();
        let checked = match validate::check(event, &self.rules) {
            Ok(checked) => checked,
            Err(rejected) => return Ok(Verdict::Rejected(rejected)),
        };
        let Message { message_id, unseen, superseding } = match self.message(submission, &ruled.came, &checked)? {
            Ok(message) => message,
            Err(verdict) => return Ok(verdict),
        };
        if let Some(refused) = draft.judge(index, &ruled.came) {
            // What it would have taken the place of stays.
            self.people.forget_event();
            return Ok(Verdict::Rejected(refused));
        }
        // What comes again was sent live, as far as it names its sending.
        let origin = if submission.again.is_some() { EventOrigin::Client } else { submission.origin };
        let Moment { time, flags: of_time, original } = moment::of(event, submission.received_at, origin);
        let place = submission.place_of(index).unwrap_or(0);
        let given = EventFacts {
            time,
            received_at: submission.received_at,
            source: submission.source,
            message_id: &message_id,
            place,
        };
        let is_of_person = self.rules.is_of_person(&checked.identifiers[0].normal.kind);
        let spoken = submission.spoken(&checked.consents, event.time, is_of_person);
        let evidence = EventFacts { time: evidence_time(submission, time), ..given };
        let (identity, mut tied) = self.tie_ruled(&checked.identifiers, ruled, submission, &evidence)?;
        if !checked.traits.is_empty() {
            let spoken = self.hear_as_form(&checked.identifiers[0], spoken, &given)?;
            let surplus = self.people.record_traits(identity, checked.traits, spoken, &given)?;
            tied.notes.extend((!surplus.is_empty()).then(|| surplus_traits(&surplus)));
        }
        let mut flags = flags_of(ruled, of_time, draft.flag_of_plan(index));
        draft.count_late(origin, time);
        draft.acceptance.flag(&flags);
        // Said of the event and not counted: all history that a write key brings is so, and nothing is odd in it.
        flags.extend((evidence.time != time && event.identifiers.len() > 1).then(|| flag::EVIDENCE_BOUNDED.to_owned()));
        let record = Change::Recorded(Event {
            message_id,
            kind: event.kind,
            name: event.name.clone(),
            time,
            received_at: submission.received_at,
            source: submission.source,
            identity,
            identifiers: named::came(event, checked.identifiers),
            properties: event.properties.clone(),
            traits: event.traits.clone(),
            context: event.context.clone(),
            origin: submission.origin,
            flags,
            original_time: original,
            place,
            reader: draft.reader,
        });
        // Nothing can fail from here on.
        if let Some(unseen) = unseen {
            self.seen.remember(unseen, identity);
        }
        let row = Some(Key::event(submission.workspace, identity, time));
        let verdict = if superseding.is_some() { Verdict::Corrected } else { Verdict::Accepted };
        draft.events += 1;
        draft.superseded += superseding.as_ref().map_or(0, |gone| gone.len() as u64);
        draft.operations.extend(superseding.into_iter().flatten().flatten());
        draft.operations.push(Operation::Append { workspace: submission.workspace, record: row::encode(&record), row });
        draft.note(ruled, index, &checked.left_out, tied);
        Ok(verdict)
    }

    /// All rows of a unit: first who belongs to whom, then the events, so that a reader of the feed knows whose they are.
    fn finish(&mut self, draft: Draft<'_>, is_last: bool) -> Result<Unit, ReadError> {
        let Draft { submission, operations: own, letters, kept, events, superseded, counts: brought, .. } = draft;
        let mut operations = Vec::with_capacity(own.len() + 16);
        let identified = self.people.identified();
        if !identified.profiles.is_empty() || !identified.gone.is_empty() {
            let record = row::encode(&Change::Identified(identified));
            operations.push(Operation::Append { workspace: self.id, record, row: None });
        }
        operations.extend(own);
        self.people.write(&mut operations);
        self.seen.write(&mut operations)?;
        self.quota.keep(submission, letters, is_last.then_some(kept), self.totals.unit(), &mut operations)?;
        let day = self.zone.day(submission.received_at);
        self.quality.write(submission.source, day, &brought, &mut operations)?;
        self.readers.write(submission, &brought, &mut operations)?;
        let (identifiers, profiles) = self.people.growth();
        let counts = self.totals.unit();
        counts.identifiers += identifiers;
        counts.profiles = counts.profiles.saturating_add_signed(profiles);
        counts.events = (counts.events + events).saturating_sub(superseded);
        if is_last {
            if let Some(moved) = &submission.moved {
                counts.deliveries = counts.deliveries.plus(**moved);
            }
            operations.extend(submission.with.iter().cloned());
        }
        if operations.is_empty() {
            return Ok(Unit::default());
        }
        operations.extend(self.note_applied());
        let (before, after) = self.totals.write();
        operations.push(after);
        Ok(Unit { preconditions: vec![before], operations, ..Unit::default() })
    }
}

/// The time of an event as evidence, later than its own where it is older than its sender's word about who is who can be: the
/// earlier evidence holds against the later, so that a key which everybody can read must not say that it was there first.
fn evidence_time(submission: &Submission, time: Timestamp) -> Timestamp {
    match submission.giver {
        Giver::RefusesOnly => moment::bounded_evidence(time, submission.received_at),
        Giver::MayAgree => time,
    }
}

/// What is odd in an event by its connector, its time, the rules of records and the tracking plan.
fn flags_of(ruled: &RuledDraft<'_>, of_time: Vec<&'static str>, of_plan: Option<String>) -> Vec<String> {
    let mut flags = flag::kept(&ruled.event.flags);
    flags.extend(of_time.into_iter().map(str::to_owned));
    flags.extend_from_slice(&ruled.flags);
    flags.extend(of_plan);
    flags
}

fn too_large(event: &DraftEvent, bytes: usize, limit: usize) -> Verdict {
    Verdict::Rejected(RejectedRecord {
        place: 0,
        code: "too-large".into(),
        message: format!("the event and what follows from it have {bytes} bytes; {limit} are allowed"),
        raw: validate::excerpt(event),
    })
}
