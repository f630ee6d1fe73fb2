//! What imports under way remember of their rows, in memory: whoever sends a file chooses how much that is, so it has an end.

use std::collections::HashMap;
use std::sync::{Arc, Weak};
use std::time::Duration;

use kith_model::budget::{Exhausted, Permit, Permits, table};
use kith_model::event::DraftEvent;
use kith_model::id::WorkspaceId;
use parking_lot::Mutex;

use super::{Intake, IntakeError};
use crate::{offload, yielding};

/// When whoever finds the rest held by other imports may come again.
const RETRY_AFTER: Duration = Duration::from_secs(10);

/// The memory that each workspace's imports share.
#[derive(Debug)]
pub(crate) struct ImportMemory {
    limit_bytes: u64,
    /// Of workspaces with an import under way.
    of: Mutex<HashMap<WorkspaceId, Weak<Permits>>>,
}

impl Default for ImportMemory {
    fn default() -> ImportMemory {
        ImportMemory::new(table::IMPORT_MEMORY.default)
    }
}

impl ImportMemory {
    pub(crate) fn new(limit_bytes: u64) -> ImportMemory {
        ImportMemory { limit_bytes, of: Mutex::default() }
    }

    /// Hold at least `bytes` in all for one import, for as long as `held` is kept.
    ///
    /// # Errors
    /// The budget `import-memory`: other imports of the workspace hold the rest.
    pub(crate) fn hold(&self, workspace: WorkspaceId, held: &mut Option<Permit>, bytes: u64) -> Result<(), Exhausted> {
        // What others hold comes back; what one alone is too large for does not.
        let retry_after = (bytes <= self.limit_bytes).then_some(RETRY_AFTER);
        let later = |exhausted: Exhausted| Exhausted { retry_after, ..exhausted };
        if let Some(permit) = held {
            return permit.grow(bytes.saturating_sub(permit.amount())).map_err(later);
        }
        let mut of = self.of.lock();
        let known = of.get(&workspace).and_then(Weak::upgrade);
        let permits = known.unwrap_or_else(|| {
            of.retain(|_, permits| permits.strong_count() > 0);
            let fresh = Permits::new(&table::IMPORT_MEMORY, self.limit_bytes);
            of.insert(workspace, Arc::downgrade(&fresh));
            fresh
        });
        *held = Some(permits.take(bytes).map_err(later)?);
        Ok(())
    }
}

impl Intake {
    /// Have the memory for what is remembered of so many rows more.
    pub(super) fn make_room(&mut self, rows: usize) -> Result<(), IntakeError> {
        let bytes = self.occurrences.bytes_with(rows) + self.repeated_ids.bytes_with(rows);
        self.shared.import_memory.hold(self.workspace, &mut self.remembers, bytes).map_err(IntakeError::Exhausted)
    }

    /// Compare rows of a file with those before them, and give an id to those that have none, unless nothing is to be stored; the
    /// contents of these. How much there is to compare is the sender's and the connector's to choose, and so it is done on a thread
    /// that nobody else waits for.
    pub(super) async fn compare(&mut self, events: &mut Vec<DraftEvent>) -> Result<Vec<u64>, IntakeError> {
        self.make_room(events.len())?;
        let (is_dry, yields) = (self.preview.is_some(), self.shared.accept.has_others_at_work(self.workspace));
        let (mut ids, mut occurrences) =
            (std::mem::take(&mut self.repeated_ids), std::mem::take(&mut self.occurrences));
        let mut rows = std::mem::take(events);
        let compare = move || {
            ids.look_at(&rows);
            let contents = if is_dry { Ok(Vec::new()) } else { occurrences.name(&mut rows) };
            (ids, occurrences, rows, contents)
        };
        let compared = offload::run(move || if yields { yielding::aside(compare) } else { compare() }).await;
        let contents;
        (self.repeated_ids, self.occurrences, *events, contents) = compared;
        contents.map_err(IntakeError::Refused)
    }
}

/// What a hash table takes with so many entries of `of_entry` bytes: it has a power of two of places, seven eighths of them filled
/// at most, and a byte beside each.
pub(super) fn table_bytes(entries: usize, of_entry: usize) -> u64 {
    if entries == 0 {
        return 0;
    }
    let places = (entries.saturating_mul(8) / 7 + 1).next_power_of_two();
    places.saturating_mul(of_entry + 1) as u64
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn imports_of_a_workspace_share_and_give_back() {
        let memory = ImportMemory::new(100);
        let (mut one, mut two, mut other) = (None, None, None);
        memory.hold(WorkspaceId(1), &mut one, 60).unwrap();
        memory.hold(WorkspaceId(1), &mut one, 40).unwrap();
        let refused = memory.hold(WorkspaceId(1), &mut two, 41).unwrap_err();
        assert_eq!(
            (refused.budget.name, refused.limit, refused.retry_after),
            ("import-memory", 100, Some(RETRY_AFTER))
        );
        let alone = memory.hold(WorkspaceId(1), &mut two, 101).unwrap_err();
        assert_eq!(alone.retry_after, None, "it never fits");
        memory.hold(WorkspaceId(1), &mut two, 40).unwrap();
        assert!(memory.hold(WorkspaceId(1), &mut one, 61).is_err(), "what one holds another has not");
        memory.hold(WorkspaceId(2), &mut other, 100).unwrap();
        drop((one.take(), two.take()));
        memory.hold(WorkspaceId(1), &mut one, 100).unwrap();
        drop(other.take());
        let mut third = None;
        memory.hold(WorkspaceId(3), &mut third, 1).unwrap();
        assert_eq!(memory.of.lock().len(), 2, "who imports nothing is forgotten");
    }

    /// What is counted is no less than what the table takes.
    #[test]
    fn tables_are_counted_whole() {
        for entries in [1, 3, 4, 7, 8, 14, 28, 29, 1_000, 57_344, 57_345] {
            let mut map: HashMap<u64, u32> = HashMap::new();
            map.extend((0..entries as u64).map(|key| (key, 0)));
            let places = (map.capacity() * 8).div_ceil(7).next_power_of_two() as u64;
            assert!(table_bytes(entries, 16) >= places.min(map.capacity() as u64 * 2) * 17 / 2, "{entries}");
            assert!(table_bytes(entries, 16) >= entries as u64 * 17);
        }
        assert_eq!(table_bytes(0, 16), 0);
    }
}
