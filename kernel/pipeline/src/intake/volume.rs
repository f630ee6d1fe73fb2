//! How much each source may bring in an hour. Whoever has a write key chooses how much is stored, so it has an end and is told.

use std::collections::HashMap;

use kith_model::budget::{Allowance, Exhausted, table};
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::time::Timestamp;
use parking_lot::Mutex;

/// Entries of sources that brought nothing for an hour are dropped once there are so many.
const MANY: usize = 1_024;

/// What the sources have brought lately.
#[derive(Debug)]
pub(crate) struct Volumes {
    limit_bytes: u64,
    brought: Mutex<HashMap<(WorkspaceId, InstallationId), Allowance>>,
}

impl Default for Volumes {
    fn default() -> Volumes {
        Volumes::new(table::SOURCE_BYTES.default)
    }
}

impl Volumes {
    pub(crate) fn new(limit_bytes: u64) -> Volumes {
        Volumes { limit_bytes, brought: Mutex::default() }
    }

    /// Whether a source may bring more.
    ///
    /// # Errors
    /// The budget `source-bytes`, with the time until there is room again.
    pub(crate) fn check(&self, source: (WorkspaceId, InstallationId), now: Timestamp) -> Result<(), Exhausted> {
        self.brought.lock().get_mut(&source).map_or(Ok(()), |allowance| allowance.check(now))
    }

    /// A source has brought `bytes`. They are known only once its connector has read them, so the last request may bring more
    /// than was left; whoever comes next waits for that too.
    pub(crate) fn brought(&self, source: (WorkspaceId, InstallationId), bytes: usize, now: Timestamp) {
        let mut all = self.brought.lock();
        if all.len() >= MANY && !all.contains_key(&source) {
            all.retain(|_, allowance| !allowance.is_full(now));
        }
        let fresh = || Allowance::new(&table::SOURCE_BYTES, self.limit_bytes, now);
        all.entry(source).or_insert_with(fresh).charge(bytes as u64, now);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_brought_too_much_waits_and_no_other_does() {
        let volumes = Volumes::new(3_600);
        let (one, other) = ((WorkspaceId(1), InstallationId(1)), (WorkspaceId(2), InstallationId(1)));
        let second = |seconds: i64| Timestamp(seconds * 1_000);
        volumes.brought(one, 3_599, second(0));
        assert!(volumes.check(one, second(0)).is_ok(), "there is a byte left");
        volumes.brought(one, 61, second(0));
        let refused = volumes.check(one, second(0)).unwrap_err();
        assert_eq!((refused.budget.name, refused.limit), ("source-bytes", 3_600));
        assert_eq!(refused.retry_after.map(|wait| wait.as_secs()), Some(60), "what was too much is waited for too");
        assert!(volumes.check(other, second(0)).is_ok());
        assert!(volumes.check(one, second(59)).is_err());
        assert!(volumes.check(one, second(62)).is_ok());
    }
}
