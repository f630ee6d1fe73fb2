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
//! | `readiness` | what is computed for everybody, as a pure machine |
//! | `projection` | what readers see |

mod answers;
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

use kith_model::id::WorkspaceId;
use parking_lot::Mutex;

use crate::pool::{AfterPanic, Tasks, Turn};
use crate::shared::Shared;
pub(crate) use opening::open;
pub(crate) use reactor::Reactor;

/// The reactors of all workspaces. A turn takes its reactor out, so that no lock is held while it works.
pub(crate) struct Reactors {
    shared: Arc<Shared>,
    idle: Mutex<HashMap<WorkspaceId, Reactor>>,
}

impl Reactors {
    pub(crate) fn new(shared: Arc<Shared>) -> Reactors {
        Reactors { shared, idle: Mutex::default() }
    }

    /// Take in the reactor of a workspace.
    pub(crate) fn add(&self, workspace: WorkspaceId, reactor: Reactor) {
        self.idle.lock().insert(workspace, reactor);
    }
}

impl Tasks<WorkspaceId> for Reactors {
    fn turn(&self, workspace: WorkspaceId) -> Turn {
        let taken = self.idle.lock().remove(&workspace);
        let mut reactor = match taken {
            Some(reactor) => reactor,
            // It was lost to a panic: it begins again from what is durable.
            None => match self.shared.workspace(workspace).map(|known| open(&self.shared, &known)) {
                Some(Ok(reactor)) => reactor,
                Some(Err(error)) => {
                    tracing::error!(workspace = workspace.0, %error, "a workspace's computed state cannot be read");
                    return Turn::After(std::time::Duration::from_secs(5));
                }
                None => return Turn::Idle,
            },
        };
        let turn = reactor.turn();
        self.idle.lock().insert(workspace, reactor);
        turn
    }

    fn panicked(&self, _: WorkspaceId) -> AfterPanic {
        // The reactor went with the panic, and what is durable is whole: it is opened again.
        AfterPanic::StartAgain
    }
}
