//! A workspace's totals, kept in the commit that changes them, so that nobody counts rows to answer a question.

use std::collections::BTreeMap;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_store::{Key, Operation, Precondition, ReadError, Store, row};
use serde::{Deserialize, Serialize};

use crate::rows::{self, DeliveryTotals};

/// What a workspace holds of what accept writes.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Counts {
    pub identifiers: u64,
    pub profiles: u64,
    pub events: u64,
    /// Rows of what was kept aside, by source.
    pub set_aside: BTreeMap<InstallationId, u64>,
    /// Rows kept aside that were deleted since, because their source had too many.
    pub set_aside_dropped: u64,
    /// What outcomes of attempts, which come this way, made of deliveries.
    pub deliveries: DeliveryTotals,
}

rows::rows! {
    Counts: "a workspace's totals", Accept, 2;
}

impl Counts {
    /// All rows of what was kept aside from sources.
    pub(crate) fn total_set_aside(&self) -> u64 {
        self.set_aside.values().sum()
    }
}

/// The totals of a workspace; all zero before its first event.
pub(crate) fn read_counts(store: &dyn Store, workspace: WorkspaceId) -> Result<Counts, ReadError> {
    let row = store.get(&[Key::counts(workspace)])?.pop().flatten();
    row.map_or(Ok(Counts::default()), |row| row::decode(&row))
}

/// The totals as the work under way leaves them.
///
/// Every unit writes them, and demands that they are what it was built on. So a unit that was built on one which the store
/// then refused is refused too, instead of naming identities that were never written.
pub(crate) struct Totals {
    workspace: WorkspaceId,
    /// As the last unit of the group left them; `None` where there is no row yet.
    group: Option<Counts>,
    unit: Counts,
    /// Whether the unit writes them: one without operations leaves the row as it is, or as missing as it is.
    is_written: bool,
}

impl Totals {
    pub(crate) fn open(store: &dyn Store, workspace: WorkspaceId) -> Result<Totals, ReadError> {
        let row = store.get(&[Key::counts(workspace)])?.pop().flatten();
        let group: Option<Counts> = row.map(|row| row::decode(&row)).transpose()?;
        let unit = group.clone().unwrap_or_default();
        Ok(Totals { workspace, group, unit, is_written: false })
    }

    /// The totals with the unit under way.
    pub(crate) fn unit(&mut self) -> &mut Counts {
        &mut self.unit
    }

    /// What the unit demands of the totals, and what it makes of them.
    pub(crate) fn write(&mut self) -> (Precondition, Operation) {
        self.is_written = true;
        let key = Key::counts(self.workspace);
        let before = match &self.group {
            Some(counts) => Precondition::Holds(key.clone(), row::encode(counts)),
            None => Precondition::Absent(key.clone()),
        };
        (before, Operation::Put(key, row::encode(&self.unit)))
    }

    pub(crate) fn keep_unit(&mut self) {
        if std::mem::take(&mut self.is_written) {
            self.group = Some(self.unit.clone());
        }
    }

    pub(crate) fn forget_unit(&mut self) {
        self.unit = self.group.clone().unwrap_or_default();
        self.is_written = false;
    }
}
