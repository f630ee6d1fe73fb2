//! One workspace's loop: a pass reads what is new, computes what follows, commits it with how far it came, and shows it.
//!
//! A pass is bounded, a failure is the workspace's own, and what cannot be read or written becomes a dead letter that the
//! loop gets past: the same work is never tried again unchanged.

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::sync::Arc;
use std::time::Duration;

use kith_features::{FeatureName, LeafId};
use kith_model::audience::Cause;
use kith_model::id::{InstallationId, Position, ProfileId, SourceIdentityId};
use kith_model::time::Timestamp;
use kith_store::keys::DeliveryMover;
use kith_store::{ChangeLimits, CommitError, JobId, Key, Operation, ReadError, Unit, row};

use super::budget::{Budget, Part};
use super::effects::{self, Effect, Progress};
use super::emitted::{Emissions, Told};
use super::faults::{FaultKey, Faults};
use super::identities::Identities;
use super::inbox::Incoming;
use super::opening::ReactorStart;
use super::pace::Left;
use super::projection::Changes;
use super::queues::{Queues, put_back};
use super::readiness::{Readiness, Work};
use super::replays::ReplayRequest;
use super::seen::{SeenNow, SeenState};
use super::touch::Touch;
use super::uncomputed::UncomputedRows;
use crate::pool::Turn;
use crate::profiles::evaluation::Evaluation;
use crate::rows::derived::{Cursor, Entries};
use crate::rows::{Aside, DeliveryTotals};
use crate::shared::{CompiledSetup, Failing, KernelState, Workspace};
use crate::views::Replay;

/// After a failure the work is tried again, smaller, after this long; it doubles.
const FIRST_PAUSE: Duration = Duration::from_millis(100);
const LONGEST_PAUSE: Duration = Duration::from_secs(10);

/// A unit that is still too large after so many passes in a row, each smaller than the one before, does not get smaller.
const MAX_HALVINGS: u32 = 16;

/// A clock that is set back by less than this stands still instead; by more, it was wrong before.
const MAX_SET_BACK_MS: i64 = 5 * 60_000;

/// The cursor is committed once it has gone over so many records without effect, so that a restart reads no more than these.
const MAX_UNCOMMITTED_RECORDS: u64 = 10_000;

/// A pass over so many bytes of the log takes many milliseconds, and yields to those that take one.
const LARGE_BYTES: usize = 512 << 10;

/// Bytes of the log that one look at the feed takes.
pub(super) const FEED_BYTES: usize = 4 << 20;

/// Why a pass did not come to its end; nothing of it was written.
#[derive(Debug, thiserror::Error)]
pub(super) enum PassError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

/// What a pass would change.
#[derive(Default)]
pub(super) struct Pass {
    pub effects: Vec<Effect>,
    pub touched: BTreeMap<ProfileId, Touch>,
    pub changes: Changes,
    /// Profiles that the pass has met first and not computed yet.
    pub met: BTreeSet<ProfileId>,
    /// Entries of identities that the pass has read or changed.
    pub entries: HashMap<SourceIdentityId, Entries>,
    /// Those of them that it has changed.
    pub remembered: BTreeSet<SourceIdentityId>,
    /// The earliest timer that the pass has set: the store does not know of it yet.
    pub earliest_timer: Option<Timestamp>,
    /// The messages that the pass sends.
    pub sent: HashSet<JobId>,
    /// The results that it has taken from the inbox, as they lay there.
    pub taken: Vec<Incoming>,
    /// What it leaves of them to the next pass.
    pub rest: Vec<Incoming>,
    /// People who have left the queues of models.
    pub unqueued: Vec<(InstallationId, u32)>,
    /// People whose pending values have been made to count as they were.
    pub undemoted: Vec<(InstallationId, u32)>,
    /// People whom a version on trial is to be asked about again.
    pub asked_again: Vec<(InstallationId, u32)>,
    /// The dead letters of models that are to be tried again, with what is said to that once it is durable.
    pub replays: Vec<(ReplayRequest, Replay)>,
    /// People whom a model is to be asked about because of these.
    pub replayed: Vec<(InstallationId, u32)>,
    /// What of what models emitted it has found new.
    pub told: Told,
    /// Dead letters by their names.
    pub letters: BTreeMap<Key, Aside>,
    pub cursor: Cursor,
    /// Leaves that were made again from the history that is left, by the position of the record that asked for it.
    pub rebuilt: BTreeMap<(SourceIdentityId, LeafId), Position>,
    /// The names that came in it.
    pub seen: SeenNow,
    /// Whether an event was taken back in it: the gate asks how far that was followed, so that it is committed.
    pub has_taken_back: bool,
    /// Whether there is more of it.
    pub has_more: bool,
}

/// What a pass has to leave out, because alone it was too large or made the reactor panic.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(super) enum LeftOut {
    #[default]
    Nothing,
    /// The next of the kind of work that is taken alone.
    TheNext,
}

/// One workspace's reactor.
pub(crate) struct Reactor {
    pub(super) shared: Arc<KernelState>,
    pub(super) workspace: Arc<Workspace>,
    /// What is in force for this reactor; it takes over what is newer at the beginning of a pass.
    pub(super) compiled: Arc<CompiledSetup>,
    pub(super) identities: Identities,
    /// As of the last commit, but for what the pass under way has changed.
    pub(super) readiness: Readiness,
    /// As of the last commit.
    durable_readiness: Readiness,
    /// Where the committed cursor stands; `cursor` may be further along, over records that had no effect.
    durable_position: Position,
    pub(super) cursor: Cursor,
    /// Everything up to here has been answered for once: its messages were sent, or were not to be.
    pub(super) promised: Position,
    /// The deliveries that this reactor made, as of the last commit.
    delivery_totals: DeliveryTotals,
    pub(super) queues: Queues,
    /// What is kept of whom models have no answer for, as of the last commit.
    pub(super) durable_uncomputed: UncomputedRows,
    /// Which names came so far.
    pub(super) seen: SeenState,
    /// What models have emitted and the lane has yet to take.
    pub(super) emissions: Emissions,
    /// For whom conditions pass their budget.
    pub(super) faults: Faults,
    pub(super) pass: Pass,
    pub(super) budget: Budget,
    /// The kinds of work that are still to be taken alone, one in a pass, because one of each together was too large.
    alone: VecDeque<Part>,
    pub(super) left_out: LeftOut,
    /// When the earliest timer is due.
    pub(super) next_timer: Option<Timestamp>,
    failures: u32,
    /// Bytes of the log that the last pass read.
    pub(super) read_bytes: usize,
}

impl Reactor {
    pub(super) fn new(shared: Arc<KernelState>, workspace: Arc<Workspace>, opened: ReactorStart) -> Reactor {
        let identities =
            Identities::new(Arc::clone(&shared.store), workspace.id, shared.cache_share(), opened.next_ordinal);
        Reactor {
            compiled: workspace.compiled.load_full(),
            shared,
            workspace,
            identities,
            durable_readiness: opened.readiness.clone(),
            durable_position: opened.cursor.position,
            readiness: opened.readiness,
            cursor: opened.cursor,
            promised: opened.promised,
            delivery_totals: opened.delivery_totals,
            queues: opened.queues,
            durable_uncomputed: opened.uncomputed,
            seen: SeenState::new(opened.seen),
            emissions: opened.emissions,
            faults: opened.faults,
            pass: Pass::default(),
            budget: Budget::default(),
            alone: VecDeque::new(),
            left_out: LeftOut::Nothing,
            next_timer: Some(Timestamp(i64::MIN)),
            failures: 0,
            read_bytes: 0,
        }
    }

    /// The kind of work that the next pass takes alone, if it does.
    pub(super) fn alone(&self) -> Option<Part> {
        self.alone.front().copied()
    }

    /// Take on the least, because the reactor has panicked: `culprit` alone and without its next, where that is known, else each
    /// kind of work alone.
    pub(super) fn be_careful(&mut self, culprit: Option<Part>) {
        while self.budget.halve() {}
        match culprit {
            Some(part) => {
                self.alone = [part].into();
                self.left_out = LeftOut::TheNext;
            }
            None => self.alone = Part::ALL.into(),
        }
    }

    /// Whether the next pass is likely to take long, as the last one did.
    pub(crate) fn has_much(&self) -> bool {
        self.read_bytes >= LARGE_BYTES
    }

    /// One turn: a pass, and when the next one is wanted.
    pub(crate) fn turn(&mut self) -> Turn {
        if self.shared.is_stopping() || self.workspace.is_stopping() {
            return Turn::Idle;
        }
        match self.run_pass() {
            Ok(left) => {
                self.failures = 0;
                self.left_out = LeftOut::Nothing;
                if self.alone.pop_front().is_none() {
                    self.budget.grow();
                }
                *self.workspace.failing.lock() = None;
                self.workspace.note_pass();
                self.rest(left)
            }
            Err(error) => {
                self.abandon();
                self.note_failure(&error)
            }
        }
    }

    /// One pass; what there is to do after it.
    fn run_pass(&mut self) -> Result<Left, PassError> {
        self.begin()?;
        let alone = self.alone();
        for part in Part::ALL.into_iter().filter(|part| alone.is_none_or(|alone| alone == *part)) {
            self.take_in(part)?;
        }
        self.compute_touched()?;
        self.commit()?;
        self.hand_over_emitted();
        let has_more = alone.is_some() || self.dispatch()?;
        let has_news = self.cursor.position < self.shared.store.head_of(self.workspace.id);
        Ok(if has_more {
            Left::Work
        } else if has_news {
            Left::News
        } else {
            Left::Nothing
        })
    }

    fn take_in(&mut self, part: Part) -> Result<(), PassError> {
        match part {
            Part::Answers => self.take_results(),
            Part::Feed => self.feed(),
            Part::Timers => {
                self.timers()?;
                self.compute_touched()
            }
            Part::Walk => match self.readiness.work() {
                Work::Nothing => Ok(()),
                Work::Backfill => self.backfill(),
                Work::Sweep => self.sweep(),
            },
            Part::Demoted => {
                self.demote()?;
                self.ask_again()?;
                self.replay()
            }
        }
    }

    /// Whether the pass leaves out what it comes to, once.
    pub(super) fn leaves_out(&mut self) -> bool {
        std::mem::take(&mut self.left_out) == LeftOut::TheNext
    }

    /// Take over what is in force, and the time.
    fn begin(&mut self) -> Result<(), PassError> {
        self.pass = Pass { cursor: self.cursor, ..Pass::default() };
        let compiled = self.workspace.compiled.load_full();
        if compiled.generation != self.compiled.generation || self.cursor_is_new() {
            self.take_over(compiled);
        }
        let now = self.shared.clock.now();
        let held = self.cursor.time;
        if now.0 < held.0.saturating_sub(MAX_SET_BACK_MS) {
            tracing::error!(
                workspace = self.workspace.id.0, %now, was = %held,
                "the clock was set back; windows that have forgotten what they reach again are read from history"
            );
            self.set_back();
            self.pass.cursor.time = now;
        } else {
            self.pass.cursor.time = now.max(held);
        }
        Ok(())
    }

    /// Whether the reactor has never committed anything in this process under the plan in force.
    fn cursor_is_new(&self) -> bool {
        self.workspace.projection.read().generation == 0
    }

    /// Go on under another plan. What it stops keeping up is not ready from this pass's commit on.
    fn take_over(&mut self, compiled: Arc<CompiledSetup>) {
        let before = std::mem::replace(&mut self.compiled, compiled);
        self.readiness = std::mem::take(&mut self.readiness).under(&self.compiled.plan);
        let is_running = |compiled: &CompiledSetup, id: InstallationId| {
            compiled.setup.installation(id).is_some_and(|installed| installed.activity.is_running())
        };
        for (id, queue) in &mut self.queues {
            if is_running(&before, *id) && !is_running(&self.compiled, *id) {
                queue.stop();
            } else if is_running(&self.compiled, *id) {
                queue.demoted.clear();
                queue.resume();
            }
        }
        let plan = &self.compiled.plan;
        self.queues.retain(|id, _| plan.model(*id).is_some());
        self.follow_trials();
    }

    /// The clock was wrong: what windows have forgotten because of it is read again.
    fn set_back(&mut self) {
        let plan = &self.compiled.plan;
        let windows = plan.program.leaves().filter(|leaf| leaf.window() != kith_features::Window::Always);
        let lost = windows.map(|leaf| leaf.id()).collect();
        self.readiness = std::mem::take(&mut self.readiness).without_leaves(&lost, plan);
    }

    /// The moment that the pass computes for.
    pub(super) fn now(&self) -> Timestamp {
        self.pass.cursor.time
    }

    /// What expressions are evaluated against.
    pub(super) fn view<'a>(compiled: &'a CompiledSetup, readiness: &'a Readiness, now: Timestamp) -> Evaluation<'a> {
        Evaluation { plan: &compiled.plan, zone: &compiled.setup.zone, complete: &readiness.complete, now }
    }

    /// What the pass reads of the feed.
    pub(super) fn feed_limits(&self) -> ChangeLimits {
        ChangeLimits { records: self.budget.records, bytes: FEED_BYTES.min(self.budget.bytes) }
    }

    /// The touch of a profile, for adding to it. Where it was touched by another kind of cause before, what followed from
    /// that is computed first: whether a message leaves must not depend on how the feed was cut into passes.
    pub(super) fn touch(
        &mut self,
        profile: ProfileId,
        cause: Cause,
        position: Position,
    ) -> Result<&mut Touch, PassError> {
        if self.pass.touched.get(&profile).is_some_and(|touch| touch.cause != cause) {
            self.compute_touched()?;
        }
        let touch = self.pass.touched.entry(profile).or_default();
        touch.cause = cause;
        touch.position = touch.position.max(position);
        Ok(touch)
    }

    /// Commit the pass with how far it came, then show it. A pass without effects needs no commit: what it read is read
    /// again after a restart, with the same end.
    pub(super) fn commit(&mut self) -> Result<(), PassError> {
        self.identities.effects(&mut self.pass.effects);
        let plan = &self.compiled.plan;
        let current = |(audience, token): FaultKey| plan.audience(audience).is_some_and(|plan| plan.token == token);
        self.pass.has_more |= self.faults.effects(current, &mut self.pass.effects);
        for identity in std::mem::take(&mut self.pass.remembered) {
            let entries = self.pass.entries.remove(&identity).unwrap_or_default();
            self.pass.effects.push(Effect::Remembered { identity, entries });
        }
        let moved = self.uncomputed_moved();
        let left = self.answer_letters(&moved);
        let uncomputed = self.keep_uncomputed(&left);
        let letters = std::mem::take(&mut self.pass.letters);
        self.pass.effects.extend(letters.into_iter().map(|(key, aside)| Effect::Letter { key, aside }));
        let seen = self.seen.book.with(&self.pass.seen);
        let mut is_written = false;
        let is_readiness_new = self.readiness != self.durable_readiness;
        let is_far = self.pass.cursor.position.0 > self.durable_position.0 + MAX_UNCOMMITTED_RECORDS;
        if is_readiness_new || is_far || self.pass.has_taken_back || !self.pass.effects.is_empty() {
            let readiness = is_readiness_new.then(|| self.readiness.clone());
            let progress = Progress { cursor: self.pass.cursor, readiness };
            let effects = std::mem::take(&mut self.pass.effects);
            let mut made = DeliveryTotals::default();
            effects::deliveries(&effects).for_each(|state| made.made(&state));
            let totals = self.delivery_totals.plus(made);
            let mut operations = effects::operations(self.workspace.id, effects, &progress);
            if totals != self.delivery_totals {
                let key = Key::delivery_totals(self.workspace.id, DeliveryMover::Reactor);
                operations.push(Operation::Put(key, row::encode(&totals)));
            }
            operations.extend(self.seen.operations(self.workspace.id, &seen));
            self.workspace.projection.write().commits.begin();
            self.shared.commit(Unit { operations, ..Unit::default() })?;
            is_written = true;
            self.delivery_totals = totals;
            self.durable_position = self.pass.cursor.position;
            self.durable_readiness.clone_from(&self.readiness);
        }
        self.take_uncomputed(moved, left, uncomputed);
        self.identities.committed();
        self.workspace.inbox.put_back(std::mem::take(&mut self.pass.rest));
        self.pass.taken.clear();
        self.pass.unqueued.clear();
        self.pass.undemoted.clear();
        self.pass.asked_again.clear();
        self.pass.replayed.clear();
        self.seen.take(&seen, is_written);
        self.show(is_readiness_new, seen);
        self.answer_replays();
        Ok(())
    }

    /// Drop the pass: what is durable is what is. What it took out of the inbox and the queues lies there again, because nothing
    /// else tells of it before a restart.
    fn abandon(&mut self) {
        self.identities.abandon();
        self.faults.abandon();
        self.workspace.projection.write().commits.end();
        // The timers that it has woken are due again.
        self.next_timer = Some(Timestamp(i64::MIN));
        self.readiness.clone_from(&self.durable_readiness);
        // The plan is taken over again, because what it changed in the readiness is gone with the pass.
        self.readiness = std::mem::take(&mut self.readiness).under(&self.compiled.plan);
        let pass = std::mem::take(&mut self.pass);
        put_back(&mut self.queues, &pass);
        self.workspace.replays.put_back(pass.replays.into_iter().map(|(request, _)| request));
        for incoming in &pass.taken {
            if let Some(queue) = self.queues.get_mut(&incoming.result.installation) {
                queue.begin();
            }
        }
        self.workspace.inbox.put_back(pass.taken);
    }

    /// Write down that a pass failed, and take on less the next time.
    fn note_failure(&mut self, error: &PassError) -> Turn {
        metrics::counter!("kith_react_failures_total").increment(1);
        let is_too_large = matches!(error, PassError::Commit(CommitError::TooLarge { .. }));
        if is_too_large && !self.budget.halve() {
            // One of each kind of work is the least that a pass takes in. Each is tried alone then, so that nothing is left out
            // for another's size.
            if self.alone.is_empty() {
                self.alone = Part::ALL.into();
            } else {
                self.left_out = LeftOut::TheNext;
            }
        }
        self.failures += 1;
        let cursor = self.cursor.position;
        tracing::error!(workspace = self.workspace.id.0, %error, cursor = cursor.0, failures = self.failures, "a pass over the change feed was given up");
        let is_stuck = self.failures > if is_too_large { MAX_HALVINGS } else { 1 };
        if is_stuck {
            let mut failing = self.workspace.failing.lock();
            let since = failing.as_ref().map_or_else(|| self.shared.clock.now(), |failing| failing.since);
            *failing = Some(Failing { since, cursor, problem: error.to_string() });
        }
        self.workspace.note_pass();
        if is_too_large && !is_stuck {
            return Turn::Again;
        }
        Turn::After(FIRST_PAUSE.saturating_mul(1 << self.failures.min(8)).min(LONGEST_PAUSE))
    }

    /// The features of a profile whose values the index may hold.
    pub(super) fn features_of(&self, members: &[SourceIdentityId]) -> Vec<FeatureName> {
        let people = self.identities.people(members);
        let mut features = vec![FeatureName::CreatedAt];
        for person in &people {
            features.push(FeatureName::Identifiers(person.identifier.kind.as_str().into()));
            features.extend(person.contribution.traits.keys().map(|name| FeatureName::Trait(name.as_str().into())));
            if let Some(derived) = &person.derived {
                features.extend(derived.leaves.ids().map(FeatureName::Leaf));
                features.extend(derived.memberships.keys().map(|audience| FeatureName::Audience(*audience)));
            }
        }
        features.extend(self.compiled.plan.outputs.keys().cloned());
        features.sort_unstable();
        features.dedup();
        features
    }
}
