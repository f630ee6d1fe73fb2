//! What has been computed for everybody, as a pure machine over values: which leaves hold their whole history, which work has
//! been done for every profile, and how far the rest has come.
//!
//! It is a row, written in the commit of the work that it describes. What stops being kept up is taken back in the first
//! commit under the new plan, before an event passes it by: were it taken back in memory only, a restart would find a leaf
//! called complete that had missed events, and its counts would be wrong for good.

mod before;

use std::collections::BTreeSet;

use kith_features::{LeafId, LeafSet};
use kith_model::id::{InstallationId, SourceIdentityId};
use kith_store::row::{Owner, Row};
use serde::{Deserialize, Serialize};

use crate::plan::{Plan, Task};

/// A place in a walk over all identities of a workspace, in the order of their keys: identities before it are done.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) enum Place {
    /// Nothing is done.
    Start,
    /// The next key to look at. An identity's history may have been read in part: its events below `events`, a key too,
    /// are done.
    At { person: Vec<u8>, events: Option<Vec<u8>> },
}

/// One walk, for one set of things that began together.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Walk<T: Ord> {
    pub wanted: BTreeSet<T>,
    pub next: Place,
}

/// What has been computed for everybody.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Readiness {
    /// Leaves that hold every event up to the cursor.
    pub complete: LeafSet,
    /// Leaves whose history is being read, the oldest walk first.
    pub backfills: Vec<Walk<LeafId>>,
    /// Work that is done for every profile.
    pub done: BTreeSet<Task>,
    /// Work that is being done, the oldest walk first; it waits for the backfills.
    pub sweeps: Vec<Walk<Task>>,
    /// The models that may have written values: one that is wanted no longer has to be retracted.
    pub models: BTreeSet<InstallationId>,
    /// What is to be taken back and has been of everybody: once, whatever the same version writes afterwards.
    pub undone: BTreeSet<u32>,
}

impl Row for Readiness {
    const WHAT: &'static str = "what is computed for everybody";
    const OWNER: Owner = Owner::React;
    const VERSION: u8 = 3;

    fn before(version: u8, body: &[u8]) -> Option<Result<Readiness, String>> {
        before::read(version, body)
    }
}

/// What is to be done next.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Work {
    Nothing,
    Backfill,
    Sweep,
}

impl Readiness {
    /// The state under another plan: what is no longer kept up is not ready, what is new is to be done, and what did not
    /// change keeps its progress.
    #[must_use]
    pub(crate) fn under(mut self, plan: &Plan) -> Readiness {
        let leaves: BTreeSet<LeafId> = plan.program.leaves().map(|leaf| leaf.id()).collect();
        self.complete.retain(|leaf| leaves.contains(&leaf));
        narrow(&mut self.backfills, |leaf| leaves.contains(leaf));
        let known = self.backfills.iter().flat_map(|walk| walk.wanted.iter().copied()).chain(self.complete.iter());
        let known: BTreeSet<LeafId> = known.collect();
        begin(&mut self.backfills, leaves.difference(&known).copied().collect());

        let models: BTreeSet<InstallationId> = plan.models.iter().map(|model| model.installed.id).collect();
        let mut wanted = plan.tasks();
        wanted.extend(self.models.difference(&models).map(|removed| Task::Retract(*removed)));
        // A retraction that is under way goes on; one that came to its end has taken its model out of `models`.
        self.models.extend(models);
        let undos: BTreeSet<u32> = plan.undos.iter().map(|undo| undo.number).collect();
        self.undone.retain(|undo| undos.contains(undo));
        wanted.extend(undos.difference(&self.undone).map(|undo| Task::Undo(*undo)));
        self.done.retain(|task| wanted.contains(task));
        narrow(&mut self.sweeps, |task| wanted.contains(task));
        let known = self.sweeps.iter().flat_map(|walk| &walk.wanted).chain(&self.done);
        let known: BTreeSet<Task> = known.copied().collect();
        let missing = wanted.difference(&known).copied();
        let (undos, others): (BTreeSet<Task>, BTreeSet<Task>) = missing.partition(is_undo);
        begin(&mut self.sweeps, others);
        // In a walk of their own: what is taken back is no news to anybody, and what a new definition finds may be.
        if !undos.is_empty() {
            self.sweeps.push(Walk { wanted: undos, next: Place::Start });
        }
        self
    }

    /// Leaves over windows have to be read again: time was set back, and they have forgotten what is within reach again.
    #[must_use]
    pub(crate) fn without_leaves(mut self, lost: &BTreeSet<LeafId>, plan: &Plan) -> Readiness {
        self.complete.retain(|leaf| !lost.contains(&leaf));
        narrow(&mut self.backfills, |leaf| !lost.contains(leaf));
        self.done.clear();
        self.sweeps.clear();
        self.under(plan)
    }

    /// What is to be done next.
    pub(crate) fn work(&self) -> Work {
        match (self.backfills.is_empty(), self.sweeps.is_empty()) {
            (false, _) => Work::Backfill,
            (true, false) => Work::Sweep,
            (true, true) => Work::Nothing,
        }
    }

    /// Whether live events count for the leaf on this identity: not while its history is still to be read. `event` is the
    /// key of the event's row.
    pub(crate) fn takes(&self, leaf: LeafId, person: &[u8], event: &[u8]) -> bool {
        if self.complete.contains(leaf) {
            return true;
        }
        let walk = self.backfills.iter().find(|walk| walk.wanted.contains(&leaf));
        walk.is_some_and(|walk| match &walk.next {
            Place::Start => false,
            Place::At { person: next, events } => match person.cmp(next.as_slice()) {
                std::cmp::Ordering::Less => true,
                std::cmp::Ordering::Equal => events.as_ref().is_some_and(|events| event < events.as_slice()),
                std::cmp::Ordering::Greater => false,
            },
        })
    }

    /// The oldest backfill came to `next`; `None` is its end.
    #[must_use]
    pub(crate) fn backfilled(mut self, next: Option<Place>) -> Readiness {
        match (self.backfills.first_mut(), next) {
            (Some(walk), Some(next)) => walk.next = next,
            (Some(_), None) => self.complete.extend(self.backfills.remove(0).wanted),
            (None, _) => {}
        }
        self
    }

    /// The oldest sweep came to `next`; `None` is its end.
    #[must_use]
    pub(crate) fn swept(mut self, next: Option<Place>) -> Readiness {
        match (self.sweeps.first_mut(), next) {
            (Some(walk), Some(next)) => walk.next = next,
            (Some(_), None) => {
                for task in self.sweeps.remove(0).wanted {
                    match task {
                        Task::Retract(removed) => {
                            self.models.remove(&removed);
                        }
                        Task::Undo(undo) => {
                            self.undone.insert(undo);
                        }
                        task => {
                            self.done.insert(task);
                        }
                    }
                }
            }
            (None, _) => {}
        }
        self
    }
}

/// Whether something is taken back that a version wrote.
pub(super) fn is_undo(task: &Task) -> bool {
    matches!(task, Task::Undo(_))
}

/// Drop what is not wanted from walks, and walks that are left without anything.
fn narrow<T: Ord>(walks: &mut Vec<Walk<T>>, is_wanted: impl Fn(&T) -> bool) {
    walks.iter_mut().for_each(|walk| walk.wanted.retain(|item| is_wanted(item)));
    walks.retain(|walk| !walk.wanted.is_empty());
}

/// What walks are for.
trait Joins {
    /// Whether others may come along in the same walk.
    fn joins_others(&self) -> bool;
}

impl Joins for LeafId {
    fn joins_others(&self) -> bool {
        true
    }
}

impl Joins for Task {
    fn joins_others(&self) -> bool {
        !is_undo(self)
    }
}

/// Begin a walk for what is missing.
fn begin<T: Ord + Joins>(walks: &mut Vec<Walk<T>>, missing: BTreeSet<T>) {
    if missing.is_empty() {
        return;
    }
    // Walks that have not begun are one.
    let joins = |walk: &Walk<T>| walk.next == Place::Start && walk.wanted.iter().all(Joins::joins_others);
    match walks.last_mut().filter(|walk| joins(walk)) {
        Some(walk) => walk.wanted.extend(missing),
        None => walks.push(Walk { wanted: missing, next: Place::Start }),
    }
}

/// How far a walk is, as a share of all keys: keys begin with a hash of the identity, so the share of keys is that of people.
pub(crate) fn share(next: &Place, prefix_bytes: usize) -> f64 {
    let Place::At { person, .. } = next else { return 0.0 };
    let at = person.get(prefix_bytes..prefix_bytes + 2).map_or(0, |bytes| u16::from_be_bytes([bytes[0], bytes[1]]));
    f64::from(at) / f64::from(kith_store::keys::SHARDS)
}

/// The key of the identity that a walk goes on with.
pub(crate) fn key_of(identity: SourceIdentityId, workspace: kith_model::id::WorkspaceId) -> kith_store::Key {
    kith_store::Key::person(workspace, identity, kith_store::keys::PersonRow::Head)
}

#[cfg(test)]
mod tests;
