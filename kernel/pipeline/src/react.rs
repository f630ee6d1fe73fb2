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
//! | `effects` | from effects to the operations of a commit |
//! | `aside` | what is kept aside and gone on without |
//! | `readiness` | what is computed for everybody, as a pure machine |
//! | `projection` | what readers see |

mod answers;
mod aside;
mod budget;
mod computation;
pub(crate) mod effects;
mod feed;
mod following;
mod identities;
pub(crate) mod inbox;
mod jobs;
pub(crate) mod models;
mod opening;
pub(crate) mod projection;
mod queues;
mod reactor;
pub(crate) mod readiness;
mod touch;
mod walks;

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use kith_model::id::{Position, WorkspaceId};
use kith_store::ReadError;
use parking_lot::Mutex;

use crate::pool::{Tasks, Turn};
use crate::shared::{Failing, Shared, Workspace};
use budget::Part;
use opening::open;
pub(crate) use reactor::Reactor;

/// The reactors of all workspaces. A turn takes its reactor out, so that no lock is held while it works.
pub(crate) struct Reactors {
    shared: Arc<Shared>,
    idle: Mutex<HashMap<WorkspaceId, Reactor>>,
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

/// One panic may have had its cause outside; after another one at the same place the reactor looks for what it panics on.
const CAREFUL_FROM: u32 = 2;

impl Reactors {
    pub(crate) fn new(shared: Arc<Shared>) -> Reactors {
        Reactors { shared, idle: Mutex::default(), panics: Mutex::default() }
    }

    /// Open the reactor of a workspace. What was computed there may not be readable: that workspace says so and tries again,
    /// because one row of one workspace must not keep the server from starting for all others.
    ///
    /// # Errors
    /// Where nothing can be read at all.
    pub(crate) fn open(&self, known: &Arc<Workspace>) -> Result<(), ReadError> {
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

impl Tasks<WorkspaceId> for Reactors {
    fn turn(&self, workspace: WorkspaceId) -> Turn {
        let taken = self.idle.lock().remove(&workspace);
        let mut reactor = match taken {
            Some(reactor) => reactor,
            // It was lost to a panic, or never opened: it begins from what is durable.
            None => match self.shared.workspace(workspace).map(|known| self.reopen(&known)) {
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
        let turn = reactor.turn();
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
