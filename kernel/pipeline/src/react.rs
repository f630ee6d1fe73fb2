//! The second stage: from what was recorded to what follows from it.
//!
//! Each workspace has a reactor of its own, run by a pool of threads. A pass reads the workspace's part of the change feed,
//! brings the expressions' leaves up to date, asks the models whose inputs changed, moves profiles in and out of audiences,
//! and commits all of that with how far it came. A crash repeats plugin calls, never effects. The reactor is the only writer of
//! everything that is computed.
//!
//! | file | is |
//! | --- | --- |
//! | `reactor` | the loop of a pass |
//! | `feed`, `walks` | what is new, and what is new to a changed definition: into touches |
//! | `computation` | from a touch to what follows, writing nothing |
//! | `following` | what follows, applied to what is in hand |
//! | `jobs`, `answers` | models asked and heard |
//! | `emitted` | events that models emit, on their way to the first stage |
//! | `effects` | from effects to the operations of a commit |
//! | `aside` | what is kept aside and gone on without |
//! | `uncomputed` | whom a model's version in use has no answer for |
//! | `reevaluation` | when a version is stopped that fails on many, as a pure machine |
//! | `replays` | their dead letters tried again, because somebody wants it |
//! | `faults` | for whom a condition passes the budget of one evaluation |
//! | `readiness` | what is computed for everybody, as a pure machine |
//! | `projection` | what readers see |
//! | `seen` | which names came, counted |

mod answers;
mod aside;
mod budget;
mod computation;
mod corrections;
pub(crate) mod effects;
mod emitted;
pub(crate) mod faults;
mod feed;
mod following;
mod identities;
pub(crate) mod inbox;
mod jobs;
pub(crate) mod models;
mod objections;
mod opening;
mod pace;
pub(crate) mod projection;
mod queues;
mod reactor;
pub(crate) mod readiness;
mod reevaluation;
pub(crate) mod replays;
pub(crate) mod seen;
mod timers;
mod touch;
pub(crate) mod uncomputed;
mod undo;
mod walks;

use std::collections::{HashMap, HashSet};
use std::sync::Arc;
use std::time::Duration;

use kith_model::id::{Position, WorkspaceId};
use kith_store::ReadError;
use parking_lot::{Condvar, Mutex};

use crate::pool::{Tasks, Turn};
use crate::shared::{Failing, KernelState, Workspace};
use crate::yielding;
use budget::Part;
pub(crate) use computation::Decision;
pub(crate) use following::fires;
use opening::open;
pub(crate) use reactor::Reactor;

/// The reactors of all workspaces. A turn takes its reactor out, so that no lock is held while it works.
pub(crate) struct Reactors {
    shared: Arc<KernelState>,
    idle: Mutex<HashMap<WorkspaceId, Reactor>>,
    /// Workspaces whose reactor is at work, is being opened or closed: one of these at a time, so that none has two.
    held: Mutex<HashSet<WorkspaceId>>,
    /// Told when one of them is let go.
    let_go: Condvar,
    /// Of the workspaces whose reactors have panicked.
    panics: Mutex<HashMap<WorkspaceId, Panics>>,
}

/// What is known of a workspace's panics.
#[derive(Default)]
struct Panics {
    /// How far it had committed when the last one came.
    cursor: Position,
    /// How many came there.
    count: u32,
    /// The kind of work that is taken alone in the turn under way, or was when the last one came.
    alone: Option<Part>,
}

/// How long a reactor that does not open waits before it tries again.
const UNOPENED_PAUSE: Duration = Duration::from_secs(5);

/// How long a turn waits that comes while its reactor is opened or closed: it comes again, because a turn that waited would keep
/// a thread of the pool from the others.
const HELD_PAUSE: Duration = Duration::from_millis(20);

/// One panic may have had its cause outside; after another one at the same place the reactor looks for what it panics on.
const CAREFUL_FROM: u32 = 2;

impl Reactors {
    pub(crate) fn new(shared: Arc<KernelState>) -> Reactors {
        Reactors {
            shared,
            idle: Mutex::default(),
            held: Mutex::default(),
            let_go: Condvar::new(),
            panics: Mutex::default(),
        }
    }

    /// Have a workspace's reactor to oneself, if nobody has it now.
    fn try_hold(&self, workspace: WorkspaceId) -> Option<ReactorGuard<'_>> {
        let is_mine = self.held.lock().insert(workspace);
        // Made only where it is held: what is dropped lets go, of another's too.
        is_mine.then(|| ReactorGuard { reactors: self, workspace })
    }

    /// The same as soon as it can be: a turn is bounded.
    fn hold(&self, workspace: WorkspaceId) -> ReactorGuard<'_> {
        let mut held = self.held.lock();
        while !held.insert(workspace) {
            self.let_go.wait(&mut held);
        }
        ReactorGuard { reactors: self, workspace }
    }

    /// Wait for the turn under way, and drop the reactor. The workspace stops, so that no further turn does anything.
    pub(crate) fn close(&self, workspace: WorkspaceId) {
        let _held = self.hold(workspace);
        let reactor = self.idle.lock().remove(&workspace);
        self.panics.lock().remove(&workspace);
        drop(reactor);
    }

    /// Open the reactor of a workspace. What was computed there may not be readable: that workspace says so and tries again,
    /// because one row of one workspace must not keep the server from starting for all others.
    ///
    /// # Errors
    /// Where nothing can be read at all.
    pub(crate) fn open(&self, known: &Arc<Workspace>) -> Result<(), ReadError> {
        let _held = self.hold(known.id);
        match open(&self.shared, known) {
            Ok(reactor) => {
                self.idle.lock().insert(known.id, reactor);
            }
            Err(error @ ReadError::Io { .. }) => return Err(error),
            Err(error) => self.note_unopened(known, &error),
        }
        Ok(())
    }

    /// A reactor does not open: nothing is computed in its workspace until it does.
    fn note_unopened(&self, known: &Workspace, error: &ReadError) {
        tracing::error!(workspace = known.id.0, %error, "a workspace's computed state cannot be read");
        metrics::counter!("kith_react_failures_total").increment(1);
        let cursor = known.projection.read().as_of.position;
        let mut failing = known.failing.lock();
        let since = failing.as_ref().map_or_else(|| self.shared.clock.now(), |failing| failing.since);
        *failing = Some(Failing { since, cursor, problem: error.to_string() });
    }

    /// Open the reactor of a workspace again after a panic. Where it panicked on one kind of work alone, it leaves out the next
    /// of that; where it panicked again at the same place, it takes one of each kind alone until it is known which it is.
    fn reopen(&self, known: &Arc<Workspace>) -> Result<Reactor, ReadError> {
        let mut reactor = open(&self.shared, known)?;
        let mut panics = self.panics.lock();
        if let Some(panics) = panics.get_mut(&known.id)
            && (panics.alone.is_some() || panics.count >= CAREFUL_FROM)
        {
            reactor.be_careful(panics.alone.take());
        }
        Ok(reactor)
    }

    /// The workspace, unless it stops.
    fn running(&self, workspace: WorkspaceId) -> Option<Arc<Workspace>> {
        self.shared.workspace(workspace).filter(|known| !known.is_stopping())
    }

    /// Note what the turn takes alone, so that a panic in it is known to be over that.
    fn note_alone(&self, workspace: WorkspaceId, alone: Option<Part>) {
        let mut panics = self.panics.lock();
        match (panics.get_mut(&workspace), alone) {
            (Some(panics), alone) => panics.alone = alone,
            (None, Some(part)) => {
                panics.insert(workspace, Panics { alone: Some(part), ..Panics::default() });
            }
            (None, None) => {}
        }
    }
}

/// A workspace's reactor is one's own until this is dropped.
struct ReactorGuard<'a> {
    reactors: &'a Reactors,
    workspace: WorkspaceId,
}

impl Drop for ReactorGuard<'_> {
    fn drop(&mut self) {
        self.reactors.held.lock().remove(&self.workspace);
        self.reactors.let_go.notify_all();
    }
}

impl Tasks<WorkspaceId> for Reactors {
    fn turn(&self, workspace: WorkspaceId) -> Turn {
        // It is being opened or closed.
        let Some(_held) = self.try_hold(workspace) else { return Turn::After(HELD_PAUSE) };
        let taken = self.idle.lock().remove(&workspace);
        let mut reactor = match taken {
            Some(reactor) => reactor,
            // It was lost to a panic, or never opened: it begins from what is durable.
            None => match self.running(workspace).map(|known| self.reopen(&known)) {
                Some(Ok(reactor)) => reactor,
                Some(Err(error)) => {
                    if let Some(known) = self.shared.workspace(workspace) {
                        self.note_unopened(&known, &error);
                    }
                    return Turn::After(UNOPENED_PAUSE);
                }
                None => return Turn::Idle,
            },
        };
        self.note_alone(workspace, reactor.alone());
        let turn = match reactor.has_much() && self.shared.accept.has_others_at_work(workspace) {
            true => yielding::aside(|| reactor.turn()),
            false => reactor.turn(),
        };
        self.idle.lock().insert(workspace, reactor);
        turn
    }

    /// The reactor went with the panic, and what is durable is whole: it is opened again.
    fn panicked(&self, workspace: WorkspaceId) {
        let Some(known) = self.shared.workspace(workspace) else { return };
        let cursor = known.projection.read().as_of.position;
        let mut panics = self.panics.lock();
        let panics = panics.entry(workspace).or_default();
        panics.count = if panics.cursor == cursor { panics.count + 1 } else { 1 };
        panics.cursor = cursor;
        if panics.count >= CAREFUL_FROM {
            let mut failing = known.failing.lock();
            let since = failing.as_ref().map_or_else(|| self.shared.clock.now(), |failing| failing.since);
            let problem = format!("it panicked {} times; the log says where", panics.count);
            *failing = Some(Failing { since, cursor, problem });
        }
    }
}
