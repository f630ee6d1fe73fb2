//! One change at a time in each workspace; those of different workspaces do not wait for each other. A change of the
//! workspaces themselves is the only one while it is made.

use std::collections::BTreeSet;

use kith_model::id::WorkspaceId;
use parking_lot::{Condvar, Mutex};

/// The workspaces that are being changed.
#[derive(Default)]
pub(super) struct Locks {
    held: Mutex<LockedWorkspaces>,
    released: Condvar,
}

#[derive(Default)]
struct LockedWorkspaces {
    workspaces: BTreeSet<WorkspaceId>,
    /// Somebody changes all, or waits for those who began before to end.
    all: bool,
}

/// The right to change a workspace, until it is dropped.
pub(super) struct Lock<'a> {
    locks: &'a Locks,
    workspace: WorkspaceId,
}

impl Locks {
    /// Wait until no change of the workspace is under way.
    pub(super) fn take(&self, workspace: WorkspaceId) -> Lock<'_> {
        let mut held = self.held.lock();
        while held.all || !held.workspaces.insert(workspace) {
            self.released.wait(&mut held);
        }
        Lock { locks: self, workspace }
    }

    /// Wait until no change is under way.
    pub(super) fn take_all(&self) -> LockOfAll<'_> {
        let mut held = self.held.lock();
        while held.all {
            self.released.wait(&mut held);
        }
        // From here on nobody begins, so that the wait ends with those who are under way.
        held.all = true;
        while !held.workspaces.is_empty() {
            self.released.wait(&mut held);
        }
        LockOfAll { locks: self }
    }
}

/// The right to change the workspaces themselves, until it is dropped.
pub(super) struct LockOfAll<'a> {
    locks: &'a Locks,
}

impl Drop for LockOfAll<'_> {
    fn drop(&mut self) {
        self.locks.held.lock().all = false;
        self.locks.released.notify_all();
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        self.locks.held.lock().workspaces.remove(&self.workspace);
        // Those who wait for another workspace look again and go on waiting; there are few of them.
        self.locks.released.notify_all();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc::channel;

    use super::*;

    #[test]
    fn workspaces_do_not_wait_for_each_other_and_changes_of_one_do() {
        let locks = Locks::default();
        let first = locks.take(WorkspaceId(1));
        drop(locks.take(WorkspaceId(2)));
        let (told, heard) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let _second = locks.take(WorkspaceId(1));
                told.send("second").unwrap();
            });
            drop(locks.take(WorkspaceId(2)));
            assert!(heard.try_recv().is_err(), "the first one is still held");
            drop(first);
            assert_eq!(heard.recv(), Ok("second"));
        });
    }

    #[test]
    fn who_changes_all_is_alone_and_comes_before_those_who_begin_later() {
        let locks = Locks::default();
        let first = locks.take(WorkspaceId(1));
        let (told, heard) = channel();
        std::thread::scope(|scope| {
            scope.spawn(|| {
                let all = locks.take_all();
                told.send("all").unwrap();
                drop(all);
            });
            while !locks.held.lock().all {
                std::thread::yield_now();
            }
            scope.spawn(|| {
                let _other = locks.take(WorkspaceId(2));
                told.send("other").unwrap();
            });
            assert!(heard.try_recv().is_err(), "the first one is still held");
            drop(first);
            assert_eq!([heard.recv().unwrap(), heard.recv().unwrap()], ["all", "other"]);
        });
    }
}
