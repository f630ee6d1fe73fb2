//! How much the changes of each workspace write: the journal keeps every byte for good, so that whoever changes the same setting
//! over and over has an end before the disk does.

use std::collections::{HashMap, HashSet};
use std::time::Instant;

use kith_model::budget::{Allowance, Exhausted, table};
use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use kith_store::Operation;
use parking_lot::Mutex;

/// What the changes of each workspace may still write. It begins anew with the process.
pub(super) struct Written {
    began: Instant,
    by_workspace: Mutex<HashMap<WorkspaceId, (u64, Allowance)>>,
}

impl Written {
    pub(super) fn new() -> Written {
        Written { began: Instant::now(), by_workspace: Mutex::default() }
    }

    /// Insist that something is left of a workspace's limit.
    ///
    /// # Errors
    /// [`Exhausted`], with the time until something is.
    pub(super) fn insist(&self, workspace: WorkspaceId, limit: u64) -> Result<(), Exhausted> {
        self.with(workspace, limit, Allowance::check)
    }

    /// Count what was written, though it may be more than was left.
    pub(super) fn charge(&self, workspace: WorkspaceId, limit: u64, bytes: u64) {
        self.with(workspace, limit, |allowance, now| allowance.charge(bytes, now));
    }

    /// What was written and is not yet given back.
    pub(super) fn spent(&self, workspace: WorkspaceId, limit: u64) -> u64 {
        self.with(workspace, limit, Allowance::spent)
    }

    /// The workspace is no more.
    pub(super) fn forget(&self, workspace: WorkspaceId) {
        self.by_workspace.lock().remove(&workspace);
    }

    fn with<T>(&self, workspace: WorkspaceId, limit: u64, look: impl FnOnce(&mut Allowance, Timestamp) -> T) -> T {
        // The server's own clock may stand still, so time is the machine's.
        let now = Timestamp(i64::try_from(self.began.elapsed().as_millis()).unwrap_or(i64::MAX));
        let mut by_workspace = self.by_workspace.lock();
        let fresh = || (limit, Allowance::new(&table::SETTINGS_WRITTEN, limit, now));
        let entry = by_workspace.entry(workspace).or_insert_with(fresh);
        if entry.0 != limit {
            *entry = fresh();
        }
        look(&mut entry.1, now)
    }
}

/// What a change comes to: of a row that it writes several times, such as the end of the audit log, what it writes last.
pub(super) fn once_each(operations: Vec<Operation>) -> Vec<Operation> {
    let mut later = HashSet::new();
    let is_last = |operation: &Operation| match operation {
        Operation::Put(key, _) | Operation::Delete(key) => later.insert(key.clone()),
        _ => true,
    };
    let mut last: Vec<Operation> = operations.into_iter().rev().filter(is_last).collect();
    last.reverse();
    last
}

/// The bytes of keys and values that a change writes.
pub(super) fn bytes(operations: &[Operation]) -> u64 {
    let of = |operation: &Operation| match operation {
        Operation::Put(key, value) => key.as_bytes().len() + value.len(),
        Operation::Delete(key) => key.as_bytes().len(),
        // Changes of settings have no others.
        _ => 0,
    };
    operations.iter().map(of).sum::<usize>() as u64
}

#[cfg(test)]
mod tests {
    use kith_store::Key;

    use super::*;

    const ADA: WorkspaceId = WorkspaceId(1);
    const BOB: WorkspaceId = WorkspaceId(2);

    #[test]
    fn a_workspace_writes_so_much_an_hour_and_the_last_change_may_be_larger() {
        let written = Written::new();
        written.insist(ADA, 1_000).unwrap();
        written.charge(ADA, 1_000, 5_000);
        let refused = written.insist(ADA, 1_000).unwrap_err();
        assert_eq!((refused.budget.name, refused.limit), ("settings-written", 1_000));
        assert!(refused.retry_after.is_some_and(|wait| wait.as_secs() > 3_600), "{refused:?}");
        written.insist(BOB, 1_000).unwrap();
        written.insist(ADA, 10_000).unwrap();
        written.charge(BOB, 1_000, 1_000);
        written.forget(BOB);
        assert_eq!(written.spent(BOB, 1_000), 0);
    }

    #[test]
    fn a_row_that_is_written_several_times_is_written_once() {
        let key = |name: &str| Key::meta(name);
        let put = |name: &str, value: u8| Operation::Put(key(name), vec![value]);
        let operations =
            vec![put("a", 1), put("b", 1), put("a", 2), Operation::Delete(key("b")), put("a", 3), put("c", 1)];
        let expected = vec![Operation::Delete(key("b")), put("a", 3), put("c", 1)];
        assert_eq!(bytes(&expected), 3 * key("a").as_bytes().len() as u64 + 2);
        assert_eq!(once_each(operations), expected);
    }
}
