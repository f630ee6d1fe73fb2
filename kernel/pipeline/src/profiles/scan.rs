//! Going over all profiles of a workspace, a page of rows at a time: facts and computed rows lie in two key spaces in the same
//! order, and are read side by side.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_store::{Key, KeyRange, ReadError, Store};

use super::person::{self, LeafRows, Person};

/// Rows of one page.
const PAGE_ROWS: usize = 2048;

/// A walk over the profiles that react knows.
pub(crate) struct ProfilePages {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    rest: Option<KeyRange>,
}

impl ProfilePages {
    /// A walk over all profiles of the workspace, in key order.
    pub(crate) fn new(store: Arc<dyn Store>, workspace: WorkspaceId) -> ProfilePages {
        ProfilePages { store, workspace, rest: Some(Key::derived_rows(workspace).range()) }
    }

    /// Walks over about the same number of profiles each, together over all of them; for as many threads.
    pub(crate) fn parts(store: &Arc<dyn Store>, workspace: WorkspaceId, parts: usize) -> Vec<ProfilePages> {
        let ranges = Key::derived_parts(workspace, u16::try_from(parts).unwrap_or(u16::MAX));
        let walk = |range| ProfilePages { store: Arc::clone(store), workspace, rest: Some(range) };
        ranges.into_iter().map(walk).collect()
    }

    /// The profiles of the next page, each as its members with the one that names it first; `None` at the end. A page may be
    /// empty: most identities name no profile of their own.
    pub(crate) fn next_page(&mut self) -> Result<Option<Vec<Vec<Person>>>, ReadError> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let page = self.store.scan(&range, PAGE_ROWS)?;
        self.rest = page.next.map(|from| KeyRange { from, to: range.to });
        let rows: Vec<(SourceIdentityId, kith_store::Value)> =
            page.rows.into_iter().filter_map(|(key, value)| Some((key.as_derived()?, value))).collect();
        let (mut facts, mut leaves) = (self.facts(&rows)?, self.leaves(&rows)?);
        let mut profiles = Vec::new();
        for (id, derived) in &rows {
            // An identity without facts is none: its rows are left over from a damaged store.
            let Some((head, contribution, bytes)) = facts.remove(id) else { continue };
            let leaves = leaves.remove(id).unwrap_or_default();
            let computed = (kith_store::row::decode(derived)?, leaves);
            let root = person::assemble(*id, head, contribution, Some(computed), bytes + derived.len())?;
            let members = root.members();
            if members.is_empty() {
                continue;
            }
            let mut people = vec![root];
            for member in members.into_iter().filter(|member| member != id) {
                people.extend(person::read(self.store.as_ref(), self.workspace, member)?);
            }
            profiles.push(people);
        }
        Ok(Some(profiles))
    }

    /// The facts of these identities, read as the range that they lie in.
    fn facts(
        &self,
        rows: &[(SourceIdentityId, kith_store::Value)],
    ) -> Result<BTreeMap<SourceIdentityId, super::facts::Facts>, ReadError> {
        let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else { return Ok(BTreeMap::new()) };
        super::facts::read_between(self.store.as_ref(), self.workspace, *first, *last)
    }

    /// The leaves of these identities, read as the range that they lie in.
    fn leaves(
        &self,
        rows: &[(SourceIdentityId, kith_store::Value)],
    ) -> Result<BTreeMap<SourceIdentityId, LeafRows>, ReadError> {
        let mut leaves: BTreeMap<SourceIdentityId, LeafRows> = BTreeMap::new();
        let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else { return Ok(leaves) };
        let last = Key::all_leaves(self.workspace, *last).range().to;
        let mut range = KeyRange { from: Key::all_leaves(self.workspace, *first), to: last };
        loop {
            let page = self.store.scan(&range, PAGE_ROWS)?;
            for (key, value) in page.rows {
                let Some((identity, group)) = key.as_leaves() else { continue };
                leaves.entry(identity).or_default().push((group, value));
            }
            match page.next {
                Some(next) => range.from = next,
                None => return Ok(leaves),
            }
        }
    }
}

/// Look at every profile of the workspace.
pub(crate) fn each_profile(
    store: &Arc<dyn Store>,
    workspace: WorkspaceId,
    mut look: impl FnMut(ProfileId, Vec<Person>) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut pages = ProfilePages::new(Arc::clone(store), workspace);
    while let Some(profiles) = pages.next_page()? {
        for people in profiles {
            let id = ProfileId(people[0].id);
            look(id, people)?;
        }
    }
    Ok(())
}
