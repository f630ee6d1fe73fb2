//! Going over all profiles of a workspace, a page of rows at a time.

use std::sync::Arc;

use kith_model::id::{SourceIdentityId, WorkspaceId};
use kith_model::profile::Contribution;
use kith_store::keys::PersonRow;
use kith_store::{Key, KeyRange, ReadError, Store};

use crate::profiles::facts::whole_contribution;
use crate::react::state::{Evaluation, Person, ProfileState, assemble, read_profile};
use crate::rows::{self, Kept};

/// Rows of one page: a few for each source identity.
const PAGE_ROWS: usize = 4096;

/// Where a walk over the profiles is.
pub(crate) struct ProfilePages {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    rest: Option<KeyRange>,
}

/// The rows of one identity, as they lie together.
struct Rows {
    identity: SourceIdentityId,
    first: Key,
    values: [Option<kith_store::Value>; 3],
}

impl ProfilePages {
    /// A walk over all profiles of the workspace, in key order.
    pub(crate) fn new(store: Arc<dyn Store>, workspace: WorkspaceId) -> ProfilePages {
        ProfilePages { store, workspace, rest: Some(Key::people(workspace).range()) }
    }

    /// Walks over about the same number of profiles each, together over all of them; for as many threads.
    pub(crate) fn parts(store: &Arc<dyn Store>, workspace: WorkspaceId, parts: usize) -> Vec<ProfilePages> {
        let ranges = Key::people_parts(workspace, u16::try_from(parts).unwrap_or(u16::MAX));
        let walk = |range| ProfilePages { store: Arc::clone(store), workspace, rest: Some(range) };
        ranges.into_iter().map(walk).collect()
    }

    /// The profiles of the next page; `None` at the end. A page may be empty: most identities name no profile of their own.
    pub(crate) fn next_page(&mut self, view: &Evaluation<'_>) -> Result<Option<Vec<ProfileState>>, ReadError> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let page = self.store.scan(&range, PAGE_ROWS)?;
        let mut identities: Vec<Rows> = Vec::new();
        for (key, value) in page.rows {
            let Some((identity, row)) = key.as_person() else { continue };
            let is_part = key.as_bucket().is_some_and(|bucket| bucket > 0);
            if identities.last().is_none_or(|rows| rows.identity != identity) {
                identities.push(Rows { identity, first: key, values: [None, None, None] });
            }
            if is_part {
                continue;
            }
            if let Some(slot) = identities.last_mut().and_then(|rows| rows.values.get_mut(usize::from(row))) {
                *slot = Some(value);
            }
        }
        if page.next.is_some() {
            // The last identity's rows may go on in the next page; one identity has far fewer rows than a page.
            let cut = if identities.len() > 1 { identities.pop() } else { None };
            let from = cut.map(|rows| rows.first).or(page.next);
            self.rest = from.map(|from| KeyRange { from, to: range.to });
        }
        let mut profiles = Vec::new();
        for rows in identities {
            profiles.extend(self.profile(rows, view)?);
        }
        Ok(Some(profiles))
    }

    fn profile(&self, rows: Rows, view: &Evaluation<'_>) -> Result<Option<ProfileState>, ReadError> {
        let [Some(head), contribution, kept] = rows.values else { return Ok(None) };
        let head: kith_model::profile::IdentityHead = rows::decode("an identity's head", &head)?;
        let id = head.profile;
        match &head.root {
            None => Ok(None),
            Some(root) if root.members.len() > 1 => read_profile(self.store.as_ref(), self.workspace, id, view),
            Some(_) => {
                let contribution = contribution.map_or(Ok(Contribution::default()), |row| {
                    let summary = decode(PersonRow::Contribution, &row)?;
                    whole_contribution(self.store.as_ref(), self.workspace, rows.identity, summary)
                })?;
                let mut kept = kept.map_or(Ok(Kept::default()), |row| decode(PersonRow::Kept, &row))?;
                let derived = std::mem::take(&mut kept.derived);
                Ok(assemble(id, &[&Person { head, contribution, kept }], derived, view))
            }
        }
    }
}

fn decode<T: kith_store::row::Row>(row: PersonRow, bytes: &[u8]) -> Result<T, ReadError> {
    rows::decode(&format!("a person's row of kind {row:?}"), bytes)
}

/// Look at every profile of the workspace.
pub(crate) fn each_profile(
    store: &Arc<dyn Store>,
    workspace: WorkspaceId,
    view: &Evaluation<'_>,
    mut look: impl FnMut(ProfileState) -> Result<(), ReadError>,
) -> Result<(), ReadError> {
    let mut pages = ProfilePages::new(Arc::clone(store), workspace);
    while let Some(profiles) = pages.next_page(view)? {
        profiles.into_iter().try_for_each(&mut look)?;
    }
    Ok(())
}
