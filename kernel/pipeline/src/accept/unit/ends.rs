//! How a unit and a group end: what was pending is part of more, is durable, or is forgotten.

use kith_model::id::WorkspaceId;
use kith_store::{Operation, Precondition, ReadError};

use super::{Totals, Workspace};
use crate::accept::reweigh::RulesDurability;

impl Workspace {
    pub(in crate::accept) fn id(&self) -> WorkspaceId {
        self.id
    }

    /// Count what the unit made of people, and what it demands of the totals.
    pub(in crate::accept) fn count_people(&mut self, operations: &mut Vec<Operation>) -> Vec<Precondition> {
        let (identifiers, profiles) = self.people.growth();
        let counts = self.totals.unit();
        counts.identifiers += identifiers;
        counts.profiles = counts.profiles.saturating_add_signed(profiles);
        let (before, after) = self.totals.write();
        operations.push(after);
        vec![before]
    }

    pub(in crate::accept) fn keep_unit(&mut self) {
        self.people.keep_unit();
        self.seen.keep_unit();
        self.quota.keep_unit();
        self.quality.keep_unit();
        self.readers.keep_unit();
        self.totals.keep_unit();
    }

    pub(super) fn forget_unit(&mut self) {
        self.people.forget_unit();
        self.seen.forget_unit();
        self.quota.forget_unit();
        self.quality.forget_unit();
        self.readers.forget_unit();
        self.totals.forget_unit();
        self.forget_noted();
    }

    /// What the unit was to note of rules is noted by a later one.
    fn forget_noted(&mut self) {
        if self.applied_noted == RulesDurability::WithUnit {
            self.applied_noted = RulesDurability::No;
        }
    }

    /// The group is durable.
    pub(in crate::accept) fn committed(&mut self) {
        self.people.committed();
        if self.applied_noted == RulesDurability::WithUnit {
            self.applied_noted = RulesDurability::Yes;
        }
        self.seen.committed();
        self.quota.ended();
        self.quality.committed();
        self.readers.committed();
    }

    /// Some units of the group were not committed; what they touched is read from the store again.
    pub(in crate::accept) fn committed_in_part(&mut self) -> Result<(), ReadError> {
        self.seen.committed_in_part()?;
        self.quota.ended();
        self.quality.committed_in_part();
        self.readers.committed_in_part();
        self.forget_noted();
        self.people.committed_in_part()?;
        self.totals = Totals::open(self.store.as_ref(), self.id)?;
        Ok(())
    }
}
