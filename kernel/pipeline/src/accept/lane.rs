//! A workspace's lane: its state, what waits for it, and one turn of its work, which is one group of units.

use std::collections::VecDeque;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kith_features::Zone;
use kith_model::id::{Position, WorkspaceId};
use kith_model::identity::IdentityRules;
use kith_store::{CommitError, Committed, ReadError, Store, Unit};
use parking_lot::Mutex;
use tokio::sync::Notify;

use super::by_hand::{self, Statements};
use super::people::PUT_OFF_PERIOD;
use super::queue::{BySize, Open, Waiting};
use super::taking_back::EventUndo;
use super::unit::{BuiltUnit, Progress, Workspace};
use crate::pool::Turn;
use crate::setup::Setup;

/// A group takes at most this many events: enough to share one sync among many requests, few enough that none waits long.
const MAX_GROUP_EVENTS: usize = 4096;

/// A group is closed when its units have this many bytes: whoever waits behind it waits for them to be written.
const MAX_GROUP_BYTES: usize = 2 << 20;

/// A turn over submissions of so many bytes takes many milliseconds, and yields to those that take one.
const LARGE_BYTES: usize = 256 << 10;

/// What of a workspace's setup its lane works by.
pub(super) struct LaneRules {
    pub identity: IdentityRules,
    pub realm_key: [u8; 32],
    /// Where the days begin by which is counted.
    pub zone: Zone,
    /// The events that are taken back.
    pub undos: Arc<[EventUndo]>,
}

impl LaneRules {
    pub(super) fn of(setup: &Setup) -> LaneRules {
        LaneRules {
            identity: setup.identity_rules.clone(),
            realm_key: setup.realm_key,
            zone: setup.zone.clone(),
            undos: EventUndo::of(setup),
        }
    }
}

/// One workspace's lane.
pub(super) struct Lane {
    id: WorkspaceId,
    pub waiting: Mutex<Waiting>,
    /// What people said, which is carried out before anything else of a turn.
    pub statements: Mutex<Statements>,
    /// The rules in force; the lane takes them over at its next turn.
    pub rules: Mutex<Arc<LaneRules>>,
    /// Read from the store at the first turn. Only the lane's turn locks it.
    workspace: Mutex<Option<Workspace>>,
    pub pause: Pause,
}

/// Whether a lane is between two turns.
#[derive(Default)]
pub(super) struct Pause {
    is_at_work: AtomicBool,
    begins: Notify,
}

/// A turn under way, until it is dropped.
pub(super) struct AtWork<'p>(&'p Pause);

impl Pause {
    /// A turn begins.
    pub(super) fn end(&self) -> AtWork<'_> {
        self.is_at_work.store(true, Ordering::SeqCst);
        AtWork(self)
    }

    /// Wait for the end of the turn under way, if one is, but not longer than `patience`.
    pub(super) async fn wait(&self, patience: Duration) {
        // Registered before the look, so that an end which comes in between is not missed.
        let begins = self.begins.notified();
        if self.is_at_work.load(Ordering::SeqCst) {
            // Either is as good.
            drop(tokio::time::timeout(patience, begins).await);
        }
    }
}

impl Drop for AtWork<'_> {
    fn drop(&mut self) {
        self.0.is_at_work.store(false, Ordering::SeqCst);
        self.0.begins.notify_waiters();
    }
}

/// A unit of a group, and whose it is.
struct Member {
    /// The place of its submission in the batch.
    open: usize,
    built: BuiltUnit,
}

/// What a turn freed.
pub(super) struct LaneTurn {
    pub turn: Turn,
    pub freed: BySize<usize>,
}

impl Lane {
    pub(super) fn new(id: WorkspaceId) -> Lane {
        let (identity, realm_key) = (IdentityRules::default(), kith_store::keys::UNKEYED_REALM);
        let rules = Arc::new(LaneRules { identity, realm_key, zone: Zone::utc(), undos: Arc::default() });
        let (waiting, statements) = (Mutex::default(), Mutex::default());
        let (rules, workspace) = (Mutex::new(rules), Mutex::new(None));
        Lane { id, waiting, statements, rules, workspace, pause: Pause::default() }
    }

    /// Whether the next turn takes long.
    pub(super) fn has_much(&self) -> bool {
        self.waiting.lock().bytes() >= LARGE_BYTES
    }

    /// One group: take what waits, build, commit, answer. The caches' bytes are shared among so many `lanes`.
    pub(super) fn turn(&self, store: &Arc<dyn Store>, lanes: usize) -> LaneTurn {
        let _at_work = self.pause.end();
        let mut held = self.workspace.lock();
        let rules = Arc::clone(&self.rules.lock());
        let mut freed = BySize::default();
        if held.is_none() {
            // Taken before the state is read: who comes while it is, is not refused for what was read before.
            let waited = self.take_all();
            match Workspace::open(store, self.id, rules.identity.clone(), rules.realm_key) {
                Ok(workspace) => *held = Some(workspace),
                Err(error) => return self.refuse(waited, error),
            }
            let ends = vec![None; waited.len()];
            freed.add_all(self.answer(waited, ends));
        }
        let Some(workspace) = held.as_mut() else { return LaneTurn { turn: Turn::Again, freed } };
        workspace.zone = rules.zone.clone();
        workspace.people.share_with(lanes);
        if let Err(error) = workspace.take_rules(&rules.identity) {
            tracing::error!(workspace = self.id.0, %error, "new identity rules wait, because a row that they touch cannot be read");
        }
        if let Err(error) = workspace.take_undos(&rules.undos) {
            tracing::error!(workspace = self.id.0, %error, "events wait to be taken back, because a row cannot be read");
        }
        workspace.people.is_unsettled = workspace.has_history_to_tie();
        let statements = self.statements.lock().take();
        if let Err(error) = by_hand::carry_out(store, workspace, statements) {
            tracing::error!(workspace = self.id.0, %error, "the workspace's state is read again, because it is not known");
            *held = None;
            return LaneTurn { turn: Turn::Again, freed };
        }
        let has_caught_up = match workspace.catch_up(store) {
            Ok(has_caught_up) => has_caught_up,
            Err(error) => {
                tracing::error!(workspace = self.id.0, %error, "the workspace's state is read again, because it is not known");
                *held = None;
                return LaneTurn { turn: Turn::Again, freed };
            }
        };
        workspace.people.is_unsettled = workspace.has_history_to_tie();
        let mut batch = self.take();
        let mut ends = vec![None; batch.len()];
        if !Arc::ptr_eq(&rules, &self.rules.lock()) {
            // What came behind a change of the rules is judged by them, in a turn that has taken them over.
            freed.add_all(self.answer(batch, ends));
            return LaneTurn { turn: Turn::Again, freed };
        }
        let group = build(workspace, &batch, &mut ends);
        if let Err(error) = commit(store, workspace, group, &mut batch, &mut ends) {
            tracing::error!(workspace = self.id.0, %error, "the workspace's state is read again, because it is not known");
            *held = None;
        } else if let Err(error) = workspace.seen.step() {
            tracing::warn!(workspace = self.id.0, %error, "the memory of files is put in order later");
        }
        freed.add_all(self.answer(batch, ends));
        let has_to_catch_up = |held: &Workspace| held.has_history_to_tie() || held.has_to_take_back();
        let has_more = has_caught_up && held.as_ref().is_some_and(has_to_catch_up);
        let is_idle = !has_more && self.waiting.lock().is_empty() && self.statements.lock().is_empty();
        // What could not be taken back is tried again.
        let waits = held.as_ref().is_some_and(|held| held.has_put_off() || held.has_to_take_back());
        let turn = match (is_idle, waits) {
            (false, _) => Turn::Again,
            (true, true) => Turn::After(PUT_OFF_PERIOD),
            (true, false) => Turn::Idle,
        };
        LaneTurn { turn, freed }
    }

    /// Wait until the turn under way has ended. The lane is closed, and has no other.
    pub(super) fn finish_turn(&self) {
        drop(self.workspace.lock());
    }

    /// Drop the state, which a panic has left as nobody knows, and what was under way.
    pub(super) fn start_again(&self) -> BySize<usize> {
        *self.workspace.lock() = None;
        self.waiting.lock().forget_under_way()
    }

    /// The workspace's own submissions are refused, and what is said of its people; nobody else's.
    fn refuse(&self, batch: Vec<Open>, error: ReadError) -> LaneTurn {
        tracing::error!(workspace = self.id.0, %error, "a workspace's identities cannot be read; it takes nothing");
        let error = Arc::new(CommitError::Read(error));
        by_hand::refuse(self.statements.lock().take(), &error);
        let ends = vec![Some(End::Failed(error)); batch.len()];
        LaneTurn { turn: Turn::Idle, freed: self.answer(batch, ends) }
    }

    /// All submissions that wait.
    fn take_all(&self) -> Vec<Open> {
        let mut waiting = self.waiting.lock();
        std::iter::from_fn(|| waiting.next()).collect()
    }

    /// As many submissions as make a group, by estimate.
    fn take(&self) -> Vec<Open> {
        let mut waiting = self.waiting.lock();
        let (mut events, mut bytes) = (0, 0);
        let mut batch = Vec::new();
        while events < MAX_GROUP_EVENTS && bytes < MAX_GROUP_BYTES {
            let Some(open) = waiting.next() else { break };
            events += open.submission.events.len() - open.progress.next;
            bytes += open.bytes;
            batch.push(open);
        }
        batch
    }

    /// Answer what has come to its end, and put the rest back. The room that is free again.
    fn answer(&self, batch: Vec<Open>, ends: Vec<Option<End>>) -> BySize<usize> {
        let mut freed = BySize::default();
        // In reverse, so that what is put in front again stands in its old order.
        for (open, end) in batch.into_iter().zip(ends).rev() {
            let Some(end) = end else {
                freed.add_all(self.waiting.lock().put_back(open));
                continue;
            };
            freed.add(open.bytes);
            self.waiting.lock().done(open.submission.source, open.bytes);
            let answer = match end {
                End::Durable(position) => Ok(crate::views::Acceptance { position, ..open.acceptance }),
                End::Failed(error) => {
                    tracing::warn!(workspace = self.id.0, source = open.submission.source.0, %error, "a submission was not committed");
                    Err(error)
                }
            };
            // Whoever is answered may begin the same import anew.
            drop(open.submission.piece);
            // The request may be gone; its events are durable all the same.
            let _ = open.submission.reply.send(answer);
        }
        freed
    }
}

/// How a submission ended.
#[derive(Clone)]
enum End {
    Durable(Position),
    Failed(Arc<CommitError>),
}

/// Build units in turns of the submissions until the group is full. What cannot be built has come to its end.
fn build(workspace: &mut Workspace, batch: &[Open], ends: &mut [Option<End>]) -> Vec<Member> {
    let mut group = Vec::new();
    let (mut events, mut bytes) = (0, 0);
    let mut turns: VecDeque<(usize, Progress)> =
        batch.iter().enumerate().map(|(number, open)| (number, open.progress)).collect();
    while events < MAX_GROUP_EVENTS && bytes < MAX_GROUP_BYTES {
        let Some((number, progress)) = turns.pop_front() else { break };
        match workspace.build(&batch[number].submission, progress) {
            Ok(built) if built.waits && built.events == 0 => break,
            Ok(built) => {
                let waits = built.waits;
                events += built.events;
                bytes += built.bytes;
                if !built.is_last {
                    turns.push_back((number, built.progress));
                }
                group.push(Member { open: number, built });
                if waits {
                    break;
                }
            }
            Err(error) => ends[number] = Some(End::Failed(Arc::new(error))),
        }
    }
    group
}

/// Commit a group. What was not committed only because a unit before it was refused is built again in the next turn.
fn commit(
    store: &Arc<dyn Store>,
    workspace: &mut Workspace,
    mut group: Vec<Member>,
    batch: &mut [Open],
    ends: &mut [Option<End>],
) -> Result<(), ReadError> {
    let units = group.iter_mut().map(|member| std::mem::take(&mut member.built.unit));
    let mut results = commit_units(store, units.collect()).into_iter();
    let mut has_failed = false;
    for Member { open: number, built } in group {
        let open = &mut batch[number];
        match results.next() {
            Some(Ok(head)) if !has_failed => {
                count(&built);
                open.progress = built.progress;
                open.note(built.acceptance);
                if built.is_last {
                    ends[number].get_or_insert(End::Durable(head));
                }
            }
            Some(Err(error)) if !has_failed => {
                has_failed = true;
                ends[number] = Some(End::Failed(Arc::new(error)));
            }
            // It was built on what the refused unit would have written.
            _ => {}
        }
    }
    if has_failed {
        workspace.committed_in_part()
    } else {
        workspace.committed();
        Ok(())
    }
}

fn count(built: &BuiltUnit) {
    metrics::counter!("kith_events_accepted_total").increment(built.acceptance.accepted);
    metrics::counter!("kith_events_duplicate_total").increment(built.acceptance.duplicate);
    metrics::counter!("kith_events_corrected_total").increment(built.acceptance.corrected);
    metrics::counter!("kith_events_conflict_total").increment(built.acceptance.conflict);
    metrics::counter!("kith_events_rejected_total").increment(built.acceptance.rejected_count);
}

/// The head after each unit. A unit that writes nothing, because all of it is known, stands or falls with those before it.
fn commit_units(store: &Arc<dyn Store>, units: Vec<Unit>) -> Vec<Result<Position, CommitError>> {
    let writes: Vec<bool> = units.iter().map(|unit| !unit.operations.is_empty()).collect();
    let units: Vec<Unit> = units.into_iter().filter(|unit| !unit.operations.is_empty()).collect();
    let mut committed = if units.is_empty() { Vec::new() } else { store.commit_all(units) }.into_iter();
    let known = |committed: Committed| committed.head;
    let results = writes.into_iter().map(|writes| match writes.then(|| committed.next()).flatten() {
        Some(result) => result.map(known),
        None => Ok(store.head()),
    });
    results.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_pause_is_waited_for_and_no_longer_than_one_has_patience() {
        const LONG: Duration = Duration::from_secs(3_600);
        let pause = Arc::new(Pause::default());
        pause.wait(LONG).await;
        let at_work = pause.end();
        pause.wait(Duration::from_millis(1)).await;
        let waiting = tokio::spawn({
            let pause = Arc::clone(&pause);
            async move { pause.wait(LONG).await }
        });
        tokio::task::yield_now().await;
        assert!(!waiting.is_finished());
        drop(at_work);
        waiting.await.unwrap();
        pause.wait(LONG).await;
    }
}
