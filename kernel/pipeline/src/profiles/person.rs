//! One source identity as computations see it, and the members of a profile.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_features::{Expression, Leaf, LeafId, LeafState};
use kith_model::consent::Consent;
use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_model::profile::{Contribution, IdentityHead};
use kith_model::time::Timestamp;
use kith_store::keys::PersonRow;
use kith_store::{Key, ReadError, Store, row};

use super::evaluation::Evaluation;
use super::facts::{self, FactsRow};
use crate::rows::derived::Derived;

/// One source identity: what never changes of it, its facts, and what is computed of it.
#[derive(Debug, Clone)]
pub(crate) struct Person {
    pub id: SourceIdentityId,
    pub identifier: Identifier,
    /// Whether another identifier of the same person is shown in its place.
    pub is_in_background: bool,
    pub created_at: Timestamp,
    pub ordinal: u32,
    pub contribution: Contribution,
    /// What it said about profiling, as accept has it.
    pub profiling: Option<Consent>,
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

    /// Whether any leaf has sealed parts.
    pub(crate) fn has_sealed_leaves(&self) -> bool {
        self.derived.as_ref().is_some_and(|derived| derived.leaves.has_sealed())
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
    (contribution, profiling): facts::IdentityFacts,
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
    let is_in_background = head.is_in_background();
    let IdentityHead { identifier, created_at, ordinal, .. } = head;
    Ok(Person {
        id,
        identifier,
        is_in_background,
        created_at,
        ordinal,
        contribution,
        profiling,
        derived,
        sealed: BTreeMap::new(),
        bytes,
    })
}

/// The rows of one source identity; `None` if there is none of that id.
pub(crate) fn read(
    store: &dyn Store,
    workspace: WorkspaceId,
    id: SourceIdentityId,
) -> Result<Option<Person>, ReadError> {
    let keys =
        [Key::person(workspace, id, PersonRow::Head), facts::facts_key(workspace, id, 0), Key::derived(workspace, id)];
    let mut rows = store.get(&keys)?.into_iter();
    let mut next = || rows.next().flatten();
    let (head, summary, derived) = (next(), next(), next());
    let Some(head) = head else { return Ok(None) };
    with_the_rest(store, workspace, id, (row::decode(&head)?, summary, derived)).map(Some)
}

/// The same for react, which knows that it has computed nothing of identities from the ordinal `first_unmet` on: nothing is looked up
/// that is not there.
pub(crate) fn read_known(
    store: &dyn Store,
    workspace: WorkspaceId,
    id: SourceIdentityId,
    first_unmet: u32,
) -> Result<Option<Person>, ReadError> {
    let keys = [Key::person(workspace, id, PersonRow::Head), facts::facts_key(workspace, id, 0)];
    let mut rows = store.get(&keys)?.into_iter();
    let mut next = || rows.next().flatten();
    let (head, summary) = (next(), next());
    let Some(head) = head else { return Ok(None) };
    let head: IdentityHead = row::decode(&head)?;
    let is_met = head.ordinal < first_unmet;
    let derived = if is_met { facts::get_one(store, &Key::derived(workspace, id))? } else { None };
    with_the_rest(store, workspace, id, (head, summary, derived)).map(Some)
}

/// A person of whom the head was read, the first row of facts, and that of what is computed.
fn with_the_rest(
    store: &dyn Store,
    workspace: WorkspaceId,
    id: SourceIdentityId,
    (head, summary, mut row): (IdentityHead, Option<kith_store::Value>, Option<kith_store::Value>),
) -> Result<Person, ReadError> {
    let summary: FactsRow = summary.map(|summary| row::decode(&summary)).transpose()?.unwrap_or_default();
    let said = facts::facts_of(store, workspace, id, summary)?;
    let mut bytes = facts::contribution_bytes(&said.0);
    while let Some(held) = row {
        let derived: Derived = row::decode(&held)?;
        if let Some(leaves) = read_leaves(store, workspace, id, &derived)? {
            bytes += held.len();
            return assemble(id, head, said, Some((derived, leaves)), bytes);
        }
        // Between the two reads the reactor may have taken the group away, and its name from this row with it.
        row = facts::get_one(store, &Key::derived(workspace, id))?;
        if row.as_ref() == Some(&held) {
            let problem = "a group of its leaves is listed and has no row".to_owned();
            return Err(ReadError::Corrupt {
                what: format!("what is computed of source identity {id}"),
                problem,
                row: None,
            });
        }
    }
    assemble(id, head, said, None, bytes)
}

/// The ordinal that the next identity of a workspace gets: all that there are have a smaller one.
pub(crate) fn next_ordinal(store: &dyn Store, workspace: WorkspaceId) -> Result<u32, ReadError> {
    let given = facts::get_one(store, &Key::ordinals(workspace))?;
    given.map_or(Ok(0), |row| row::decode(&row))
}

/// The rows of an identity's groups of leaves; `None` where one of them is not there.
fn read_leaves(
    store: &dyn Store,
    workspace: WorkspaceId,
    id: SourceIdentityId,
    derived: &Derived,
) -> Result<Option<LeafRows>, ReadError> {
    let groups = derived.groups();
    if groups.is_empty() {
        return Ok(Some(Vec::new()));
    }
    let keys: Vec<Key> = groups.iter().map(|group| Key::leaves(workspace, id, *group)).collect();
    Ok(groups.iter().zip(store.get(&keys)?).map(|(group, row)| Some((*group, row?))).collect())
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

#[cfg(test)]
mod tests {
    use kith_store::{Operation, Unit};

    use super::*;
    use crate::rows::derived::Waker;

    const WORKSPACE: WorkspaceId = WorkspaceId(1);

    /// A leaf whose row was lost counted from nothing, and nobody was told.
    #[test]
    fn a_listed_group_of_leaves_without_a_row_is_corrupt() {
        let store = kith_store::memory();
        let id = SourceIdentityId([7; 16]);
        let head = IdentityHead {
            identifier: Identifier::new("user_id", "u1"),
            created_at: Timestamp(0),
            ordinal: 0,
            profile: ProfileId(id),
            root: None,
            evidence: Vec::new(),
        };
        let mut derived = Derived::default();
        // More than lie in the identity's own row.
        for number in 0..100 {
            let condition = Expression::parse(&format!("events('order {number}').size() > 1")).unwrap();
            derived.set_timer(Waker::Leaf(condition.reads().leaves[0]), Some(Timestamp(5)));
        }
        let (groups, _) = derived.changed_groups();
        let leaves = Key::leaves(WORKSPACE, id, groups[0].0);
        let put = |operations| store.commit(Unit { operations, ..Unit::default() }).unwrap();
        put(vec![
            Operation::Put(Key::person(WORKSPACE, id, PersonRow::Head), row::encode(&head)),
            Operation::Put(Key::derived(WORKSPACE, id), row::encode(&derived)),
        ]);
        let rows =
            groups.into_iter().map(|(group, row)| Operation::Put(Key::leaves(WORKSPACE, id, group), row.unwrap()));
        put(rows.collect());
        assert!(read(&store, WORKSPACE, id).unwrap().is_some());
        put(vec![Operation::Delete(leaves)]);
        assert!(matches!(read(&store, WORKSPACE, id), Err(ReadError::Corrupt { .. })));
    }
}
