//! The second stage: from what was recorded to what follows from it.
//!
//! One thread reads the change feed in batches, brings the expressions' leaves up to date, runs the models whose inputs
//! changed, moves profiles in and out of audiences and fills the outbox, then commits all of that with its cursor. A crash
//! repeats plugin calls, never effects. It is the only writer of everything that is computed.

pub(crate) mod models;
pub(crate) mod state;
mod workspace;

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::time::Duration;

use kith_model::change::Change;
use kith_model::id::{Position, WorkspaceId};
use kith_store::keys::SYSTEM;
use kith_store::{CommitError, Key, Operation, ReadError, Unit};

use crate::rows;
use crate::shared::Shared;
use workspace::WorkspaceReactor;

/// Records of the feed that one pass takes: enough to fill the models' batches, few enough to commit at once.
const MAX_PASS_RECORDS: usize = 4096;

/// How often timers are looked at when nothing happens.
const IDLE: Duration = Duration::from_millis(50);

/// After an error the same work is tried again after this long.
const PAUSE: Duration = Duration::from_secs(1);

/// The react thread's state.
pub(crate) struct Reactor {
    shared: Arc<Shared>,
    cursor: Position,
    workspaces: HashMap<WorkspaceId, WorkspaceReactor>,
}

/// Why a pass did not come to its end; nothing of it was written.
#[derive(Debug, thiserror::Error)]
enum PassError {
    #[error(transparent)]
    Read(#[from] ReadError),
    #[error(transparent)]
    Commit(#[from] CommitError),
}

impl Reactor {
    /// Read the cursor, and build the audience index of every workspace.
    pub(crate) fn open(shared: Arc<Shared>) -> Result<Reactor, ReadError> {
        let cursor = shared.store.get(&[Key::cursor(SYSTEM, "react")])?.pop().flatten();
        let cursor = cursor.map_or(Ok(Position(0)), |row| rows::decode("the react cursor", &row))?;
        shared.set_reacted(cursor);
        let mut reactor = Reactor { shared, cursor, workspaces: HashMap::new() };
        reactor.adopt_workspaces()?;
        Ok(reactor)
    }

    /// Work until the kernel stops.
    pub(crate) fn run(mut self) {
        while !self.shared.is_stopping() {
            let head = self.shared.store.head();
            match self.pass() {
                Ok(true) => {}
                Ok(false) => {
                    self.shared.store.wait_for_change(head, IDLE);
                }
                Err(error) => {
                    tracing::error!(%error, cursor = self.cursor.0, "a pass over the change feed was given up; it is tried again");
                    self.workspaces.values_mut().for_each(WorkspaceReactor::forget_pass);
                    std::thread::park_timeout(PAUSE);
                }
            }
        }
    }

    fn adopt_workspaces(&mut self) -> Result<(), ReadError> {
        let known: Vec<_> =
            self.shared.workspaces.read().iter().map(|(id, shared)| (*id, Arc::clone(shared))).collect();
        for (id, workspace) in known {
            if !self.workspaces.contains_key(&id) {
                let reactor = WorkspaceReactor::open(Arc::clone(&self.shared), id, workspace)?;
                self.workspaces.insert(id, reactor);
            }
        }
        Ok(())
    }

    /// One pass; whether there was anything to do.
    fn pass(&mut self) -> Result<bool, PassError> {
        self.adopt_workspaces()?;
        let records = self.shared.store.changes(self.cursor, MAX_PASS_RECORDS)?;
        let cursor = records.last().map_or(self.cursor, |record| record.position);
        let mut by_workspace: BTreeMap<WorkspaceId, Vec<(Position, Change)>> = BTreeMap::new();
        for record in &records {
            let change = rows::decode("a record of the log", &record.bytes)?;
            by_workspace.entry(record.workspace).or_default().push((record.position, change));
        }
        let mut operations = Vec::new();
        let mut worked = !records.is_empty();
        for (id, workspace) in &mut self.workspaces {
            let changes = by_workspace.remove(id).unwrap_or_default();
            worked |= workspace.pass(&changes, cursor, &mut operations)?;
        }
        if !worked {
            return Ok(false);
        }
        if cursor > self.cursor {
            operations.push(Operation::Put(Key::cursor(SYSTEM, "react"), rows::encode(&cursor)));
        }
        if !operations.is_empty() {
            self.shared.commit(Unit { operations, ..Unit::default() })?;
        }
        self.cursor = cursor;
        for workspace in self.workspaces.values_mut() {
            workspace.committed();
        }
        self.shared.set_reacted(cursor);
        metrics::gauge!("kith_react_lag_records").set(lag(self.shared.store.head(), cursor));
        Ok(true)
    }
}

#[allow(clippy::cast_precision_loss, reason = "a metric")]
fn lag(head: Position, cursor: Position) -> f64 {
    head.0.saturating_sub(cursor.0) as f64
}
