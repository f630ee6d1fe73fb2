//! One change at a time in each workspace; those of different workspaces do not wait for each other.

use std::collections::BTreeSet;

use kith_model::id::WorkspaceId;
use parking_lot::{Condvar, Mutex};

/// The workspaces that are being changed.
#[derive(Default)]
pub(super) struct Locks {
    held: Mutex<BTreeSet<WorkspaceId>>,
    released: Condvar,
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
        while !held.insert(workspace) {
            self.released.wait(&mut held);
        }
        Lock { locks: self, workspace }
    }
}

impl Drop for Lock<'_> {
    fn drop(&mut self) {
        self.locks.held.lock().remove(&self.workspace);
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
}
