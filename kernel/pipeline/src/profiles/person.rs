//! One source identity as computations see it, and the members of a profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_features::{Expression, Leaf, LeafId, LeafState};
use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::profile::{Contribution, IdentityHead};
use kith_model::time::Timestamp;
use kith_store::{Key, ReadError, Store, row};

use super::evaluation::Evaluation;
use super::facts;
use crate::rows::derived::Derived;

/// One source identity: what never changes of it, its facts, and what is computed of it.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub id: SourceIdentityId,
    pub identifier: Identifier,
    pub created_at: Timestamp,
    pub ordinal: u32,
    pub contribution: Contribution,
    /// `None` until react has seen the identity.
    pub derived: Option<Derived>,
    /// The sealed parts of leaves that grew large, one state each; read when they are first needed.
    pub sealed: BTreeMap<LeafId, LeafState>,
    /// Bytes of its rows, for budgets.
    pub bytes: usize,
}

impl Person {
    /// The profile that it belongs to, as far as react has read the feed.
    pub(crate) fn profile(&self) -> ProfileId {
        self.derived.as_ref().map_or(ProfileId(self.id), |derived| derived.profile_of(self.id))
    }

    /// The leaves that have sealed parts.
    pub(crate) fn sealed_leaves(&self) -> Vec<LeafId> {
        self.derived.iter().flat_map(|derived| derived.leaves.sealed_ids()).collect()
    }

    /// The members of the profile that it names; empty where it names none.
    pub(crate) fn members(&self) -> Vec<SourceIdentityId> {
        self.derived.as_ref().map_or_else(|| vec![self.id], |derived| derived.members_of(self.id))
    }

    /// Read the sealed parts of these leaves that there are and that were not read before.
    pub(crate) fn load_sealed<'a>(
        &mut self,
        store: &dyn Store,
        workspace: WorkspaceId,
        leaves: impl IntoIterator<Item = &'a Arc<Leaf>>,
    ) -> Result<(), ReadError> {
        for leaf in leaves {
            let has_parts = self.derived.as_ref().is_some_and(|derived| !derived.leaves.sealed(leaf.id()).is_empty());
            if has_parts && !self.sealed.contains_key(&leaf.id()) {
                let states = read_sealed(store, workspace, self.id, leaf.id())?;
                self.sealed.insert(leaf.id(), leaf.merge(&states.iter().collect::<Vec<_>>()));
            }
        }
        Ok(())
    }
}

/// Rows of groups of leaves, with their numbers.
pub(crate) type LeafRows = Vec<(u16, kith_store::Value)>;

/// Put a person together from rows that were read.
pub(crate) fn assemble(
    id: SourceIdentityId,
    head: IdentityHead,
    contribution: Contribution,
    derived: Option<(Derived, LeafRows)>,
    mut bytes: usize,
) -> Result<Person, ReadError> {
    let derived = match derived {
        None => None,
        Some((mut derived, leaves)) => {
            for (group, row) in leaves {
                bytes += row.len();
                derived.take_in(group, row::decode(&row)?);
            }
            Some(derived)
        }
    };
    let IdentityHead { identifier, created_at, ordinal, .. } = head;
    Ok(Person { id, identifier, created_at, ordinal, contribution, derived, sealed: BTreeMap::new(), bytes })
}

/// The rows of one source identity; `None` if there is none of that id.
pub(crate) fn read(
    store: &dyn Store,
    workspace: WorkspaceId,
    id: SourceIdentityId,
) -> Result<Option<Person>, ReadError> {
    let Some(head) = facts::read_head(store, workspace, id)? else { return Ok(None) };
    let contribution = facts::read_contribution(store, workspace, id)?;
    let mut bytes = facts::contribution_bytes(&contribution);
    let mut computed = None;
    if let Some(row) = facts::get_one(store, &Key::derived(workspace, id))? {
        bytes += row.len();
        let derived: Derived = row::decode(&row)?;
        let keys: Vec<Key> = derived.groups().iter().map(|group| Key::leaves(workspace, id, *group)).collect();
        let rows = if keys.is_empty() { Vec::new() } else { store.get(&keys)? };
        let leaves = derived.groups().iter().zip(rows).filter_map(|(group, row)| Some((*group, row?))).collect();
        computed = Some((derived, leaves));
    }
    assemble(id, head, contribution, computed, bytes).map(Some)
}

/// The sealed parts of one leaf, as one state each.
pub(crate) fn read_sealed(
    store: &dyn Store,
    workspace: WorkspaceId,
    id: SourceIdentityId,
    leaf: LeafId,
) -> Result<Vec<LeafState>, ReadError> {
    let mut states = Vec::new();
    facts::each_row(store, &Key::chunks(workspace, id, leaf.0), |_, value| {
        states.push(row::decode::<crate::rows::derived::SealedLeaf>(value)?.0);
        Ok(())
    })?;
    Ok(states)
}

/// The members of a profile, the one that names it first; empty if there is no such profile. Sealed parts are not read.
pub(crate) fn read_profile(
    store: &dyn Store,
    workspace: WorkspaceId,
    profile: ProfileId,
) -> Result<Vec<Person>, ReadError> {
    let Some(root) = read(store, workspace, profile.0)? else { return Ok(Vec::new()) };
    let members = root.members();
    if members.is_empty() {
        return Ok(Vec::new());
    }
    let mut people = vec![root];
    for member in members.into_iter().filter(|member| *member != profile.0) {
        people.extend(read(store, workspace, member)?);
    }
    Ok(people)
}

/// The profile that a source identity belongs to as react has it; `None` for an unknown identity.
pub(crate) fn current(
    store: &dyn Store,
    workspace: WorkspaceId,
    id: SourceIdentityId,
) -> Result<Option<ProfileId>, ReadError> {
    Ok(read(store, workspace, id)?.map(|person| person.profile()))
}

/// Read the sealed parts of the leaves that an expression reads.
pub(crate) fn load_sealed(
    store: &dyn Store,
    workspace: WorkspaceId,
    people: &mut [Person],
    expression: &Expression,
    view: Evaluation<'_>,
) -> Result<(), ReadError> {
    let leaves = || expression.reads().leaves.iter().filter_map(|leaf| view.plan.program.leaf(*leaf));
    people.iter_mut().try_for_each(|person| person.load_sealed(store, workspace, leaves()))
}
