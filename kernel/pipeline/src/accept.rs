//! The first stage: drafts in, a durable commit out.
//!
//! Each workspace has a lane, which takes what requests submit, checks it, drops doubles, ties it to source identities and
//! profiles, and commits a group of units with one sync; only then are the requests answered. The lane is the only writer of
//! its workspace's identities, facts and events. Everything computed from them is the next stage's work.
//!
//! A submission is a unit of its own, or several if it is large, and an error is its own. So no submission can make another
//! fail, and none waits for more than its turn: of sources within a lane, and of lanes on the threads of the pool.

mod alone;
pub(crate) mod aside;
pub(crate) mod by_hand;
pub(crate) mod content;
mod corrections;
pub(crate) mod counts;
mod declared;
pub(crate) mod dedupe;
pub(crate) mod files;
pub(crate) mod imports;
mod lane;
pub(crate) mod moment;
mod named;
mod never_seen;
pub(crate) mod people;
pub(crate) mod quality;
pub(crate) mod queue;
pub(crate) mod readers;
pub(crate) mod reweigh;
pub(crate) mod rules;
pub(crate) mod taking_back;
mod unit;
pub(crate) mod validate;

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use kith_model::budget::{Budget, table};
use kith_model::consent::Giver;
use kith_model::event::{DraftEvent, EventOrigin, RejectedRecord};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::Timestamp;
use kith_store::{CommitError, Operation, Store};
use parking_lot::RwLock;
use tokio::sync::{Notify, oneshot};

use crate::at_work::AtWork;
use crate::pool::{Pool, Tasks, Turn};
use crate::rows::DeliveryTotals;
use crate::setup::{Installed, Setup};
use crate::views::Acceptance;
use crate::yielding;
pub use alone::{EventOutcome, event_text, outcomes_of};
use aside::{Input, PartsOf, ReplayedLetter};
use declared::DeclaredEvents;
use lane::{Lane, LaneRules};
pub(crate) use queue::submission_bytes;
use queue::{BySize, WaitingBytes};
use readers::Reader;

/// How many rejections an answer lists; all are counted.
pub const MAX_REPORTED_REJECTIONS: usize = 100;

/// The same of a file: who sends it corrects the rejected rows and sends them again.
pub(crate) const MAX_LISTED_OF_FILES: usize = 10_000;

/// Threads of all lanes. Each waits for the disk half of its time, so they are more than a small machine's processors.
const THREADS: usize = 4;

/// Who sends: what names a source for good, and how it wants repeats to be taken.
#[derive(Clone, Default)]
pub(crate) struct Sender {
    /// The source's name.
    pub name: String,
    /// Every installation that has had the name, this one among them.
    pub ids: Vec<InstallationId>,
    /// Whether a row of a file that came before with other content corrects it.
    pub corrects: bool,
    /// What is dropped, renamed or hashed of what it sends.
    pub rules: Option<Arc<rules::SourceRules>>,
    /// The rules of all sources, where one of them hashes identifiers.
    pub hashing: Option<Arc<rules::SourceRules>>,
    /// The events that its plugin may emit; `None` for any.
    pub declared: Option<DeclaredEvents>,
    /// The version of its plugin that reads what it sends; `None` for what no plugin has read.
    pub reader: Option<Arc<Reader>>,
}

impl Sender {
    /// What the setup says of a source.
    pub(crate) fn of(setup: &Setup, installed: &Installed) -> Sender {
        let name = installed.name.to_string();
        let mut ids = vec![installed.id];
        let others = setup.source_names.iter().filter(|(id, of)| **of == name && **id != installed.id);
        ids.extend(others.map(|(id, _)| *id));
        let rules = rules::SourceRules::of(&setup.record_rules, &name, &setup.realm_key).map(Arc::new);
        let hashing = rules::SourceRules::hashing(&setup.record_rules, &setup.realm_key).map(Arc::new);
        let declared = DeclaredEvents::of(installed);
        let reader = Some(Arc::new(Reader::of(installed)));
        Sender { name, ids, corrects: installed.corrects, rules, hashing, declared, reader }
    }
}

/// Events of one request, or of one piece of a file.
pub(crate) struct Submission {
    pub workspace: WorkspaceId,
    pub source: InstallationId,
    pub sender: Arc<Sender>,
    /// Of an import with a name: how far it is with this.
    pub piece: Option<imports::Piece>,
    pub received_at: Timestamp,
    pub origin: EventOrigin,
    /// Whether its source may end refusals of consent.
    pub giver: Giver,
    pub events: Vec<DraftEvent>,
    /// What the connector could not read.
    pub rejected: Vec<RejectedRecord>,
    /// Further steps of the commit that holds the last of the events: the state of the delivery that they tell of.
    pub with: Vec<Operation>,
    /// What these steps make of deliveries, if anything; boxed, because few have them.
    pub moved: Option<Box<DeliveryTotals>>,
    /// What the events were read from.
    pub input: Option<Arc<Input>>,
    /// The letter that they come from.
    pub again: Option<Box<ReplayedLetter>>,
    /// How many parts of it are kept aside.
    pub parts_of: PartsOf,
    pub reply: Reply,
}

/// Whom a lane answers.
pub(crate) type Reply = oneshot::Sender<Result<Acceptance, Arc<CommitError>>>;

impl Submission {
    /// Nothing of nobody, which whoever submits something fills in. It is an import, and may not end refusals of consent.
    pub(crate) fn of_nothing(
        workspace: WorkspaceId,
        source: InstallationId,
        received_at: Timestamp,
        reply: Reply,
    ) -> Submission {
        Submission {
            workspace,
            source,
            sender: Arc::default(),
            piece: None,
            received_at,
            origin: EventOrigin::Import,
            giver: Giver::RefusesOnly,
            events: Vec::new(),
            rejected: Vec::new(),
            with: Vec::new(),
            moved: None,
            input: None,
            again: None,
            parts_of: PartsOf::Request,
            reply,
        }
    }
}

/// Why a submission was not let in.
pub(crate) enum SubmissionRefusal {
    /// As much waits as this budget lets.
    Full(Box<Submission>, &'static Budget),
    Stopping,
}

/// What is told of a workspace's commits.
pub(crate) type CommitListener = Arc<dyn Fn(WorkspaceId) + Send + Sync>;

/// The lanes, as the pool's threads see them.
struct Lanes {
    store: Arc<dyn Store>,
    /// Told after each commit of a lane, so that its reactor need not ask.
    committed: CommitListener,
    lanes: RwLock<HashMap<WorkspaceId, Arc<Lane>>>,
    /// Of all lanes together.
    waiting_bytes: WaitingBytes,
    is_stopping: AtomicBool,
    /// For those who wait for room.
    room: Notify,
    at_work: AtWork,
}

/// The running stage.
pub(crate) struct Accept {
    lanes: Arc<Lanes>,
    pool: Pool<WorkspaceId>,
}

impl Tasks<WorkspaceId> for Lanes {
    fn turn(&self, id: WorkspaceId) -> Turn {
        let (lane, lanes) = {
            let lanes = self.lanes.read();
            (lanes.get(&id).cloned(), lanes.len())
        };
        let Some(lane) = lane else { return Turn::Idle };
        self.at_work.note(id);
        let turned = match lane.has_much() && self.at_work.has_others(id) {
            true => yielding::aside(|| lane.turn(&self.store, lanes)),
            false => lane.turn(&self.store, lanes),
        };
        self.free(turned.freed);
        (self.committed)(id);
        turned.turn
    }

    /// A commit is all or nothing, so the store is whole, and the lane reads its state again.
    fn panicked(&self, id: WorkspaceId) {
        if let Some(lane) = self.lanes.read().get(&id) {
            self.free(lane.start_again());
        }
    }
}

impl Lanes {
    fn free(&self, freed: BySize<usize>) {
        self.waiting_bytes.free(freed);
        self.room.notify_waiters();
    }

    /// The lane of a workspace, begun where there is none and its rules are given; `None` once the stage stops. Nothing else
    /// begins one, because what comes late for a workspace that was closed would be written without its realm's key.
    fn lane(&self, id: WorkspaceId, rules: Option<LaneRules>) -> Option<Arc<Lane>> {
        let known = self.lanes.read().get(&id).cloned();
        if let (Some(lane), None) = (&known, &rules) {
            return Some(Arc::clone(lane));
        }
        let mut lanes = self.lanes.write();
        if self.is_stopping.load(Ordering::SeqCst) {
            return None;
        }
        let rules = rules?;
        let lane = lanes.entry(id).or_insert_with(|| Arc::new(Lane::new(id)));
        *lane.rules.lock() = Arc::new(rules);
        Some(Arc::clone(lane))
    }
}

impl Accept {
    /// Start the threads. A workspace's state is read at its lane's first turn.
    pub(crate) fn start(store: Arc<dyn Store>, committed: CommitListener) -> std::io::Result<Accept> {
        let lanes = Arc::new(Lanes {
            store,
            committed,
            lanes: RwLock::default(),
            waiting_bytes: WaitingBytes::default(),
            is_stopping: AtomicBool::new(false),
            room: Notify::new(),
            at_work: AtWork::default(),
        });
        let pool = Pool::start("kith-accept", THREADS, Arc::clone(&lanes) as Arc<dyn Tasks<WorkspaceId>>)?;
        Ok(Accept { lanes, pool })
    }

    /// Whether another workspace had a turn lately.
    pub(crate) fn has_others_at_work(&self, id: WorkspaceId) -> bool {
        self.lanes.at_work.has_others(id)
    }

    /// What of a workspace's setup its lane works by, at the start or changed. Its lane begins to read its state, if it has not.
    pub(crate) fn set_rules(&self, setup: &Setup) {
        let id = setup.workspace;
        if self.lanes.lane(id, Some(LaneRules::of(setup))).is_some() {
            self.pool.wake(id);
        }
    }

    /// Let a submission wait for its lane, if there is room now.
    pub(crate) fn try_submit(&self, submission: Submission) -> Result<(), SubmissionRefusal> {
        let id = submission.workspace;
        let Some(lane) = self.lanes.lane(id, None) else { return Err(SubmissionRefusal::Stopping) };
        let bytes = submission_bytes(&submission);
        let mut waiting = lane.waiting.lock();
        if waiting.is_closed {
            return Err(SubmissionRefusal::Stopping);
        }
        if !self.lanes.waiting_bytes.fit(bytes) {
            return Err(SubmissionRefusal::Full(Box::new(submission), &table::HOST_WAITING));
        }
        waiting.admit(submission, bytes).map_err(|(back, budget)| SubmissionRefusal::Full(back, budget))?;
        self.lanes.waiting_bytes.take(bytes);
        drop(waiting);
        self.pool.wake(id);
        Ok(())
    }

    /// Let a submission wait for its lane as soon as there is room. Fails only when the stage stops.
    pub(crate) async fn submit(&self, mut submission: Submission) -> Result<(), SubmissionRefusal> {
        loop {
            // Registered before the try, so that room which comes in between is not missed.
            let room = self.lanes.room.notified();
            submission = match self.try_submit(submission) {
                Err(SubmissionRefusal::Full(submission, _)) => *submission,
                done => return done,
            };
            room.await;
        }
    }

    /// Wait until the workspace's lane is between two turns, but not longer than `patience`.
    pub(crate) async fn pause(&self, id: WorkspaceId, patience: Duration) {
        if let Some(lane) = self.lanes.lane(id, None) {
            lane.pause.wait(patience).await;
        }
    }

    /// Let what somebody said about who is one person wait for its lane. Where too much waits, or the stage stops, its sender is
    /// told by being dropped.
    pub(crate) fn state(&self, id: WorkspaceId, statement: by_hand::Statement) -> oneshot::Receiver<by_hand::Answer> {
        let (reply, answered) = oneshot::channel();
        if let Some(lane) = self.lanes.lane(id, None)
            && lane.statements.lock().admit(by_hand::Waiting { statement, reply }).is_ok()
        {
            self.pool.wake(id);
        }
        answered
    }

    /// Take nothing more for a workspace, drop what waits, whose senders are told by that, and wait for the group under way.
    pub(crate) fn close(&self, id: WorkspaceId) {
        let Some(lane) = self.lanes.lanes.write().remove(&id) else { return };
        let dropped = lane.waiting.lock().close();
        drop(lane.statements.lock().take());
        lane.finish_turn();
        self.lanes.free(dropped);
    }

    /// Commit and answer what waits, take nothing more, and end the threads.
    pub(crate) fn stop(&self) {
        {
            let _lanes = self.lanes.lanes.write();
            self.lanes.is_stopping.store(true, Ordering::SeqCst);
        }
        self.pool.stop();
        // What was let in while the threads ended is answered by dropping it.
        for lane in self.lanes.lanes.read().values() {
            lane.waiting.lock().close();
            drop(lane.statements.lock().take());
        }
        self.lanes.room.notify_waiters();
    }
}
