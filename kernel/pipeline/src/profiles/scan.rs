//! Going over all profiles of a workspace, a page of rows at a time: facts and computed rows lie in three key spaces in the
//! same order, and are read side by side.

use std::collections::BTreeMap;
use std::ops::ControlFlow;
use std::sync::Arc;

use kith_model::id::{ProfileId, SourceIdentityId, WorkspaceId};
use kith_store::{Key, KeyRange, ReadError, Store, Value, row};

use super::facts::{self, FactsPage};
use super::person::{self, LeafRows, Person};

/// The most identities of one page.
const PAGE_IDENTITIES: usize = 2048;

/// Rows of leaves that are read at once. Most identities have few and small ones; one may have many of some 30 KB.
const PAGE_LEAF_ROWS: usize = 512;

/// A page ends with the identity whose facts, whose leaves, or whose profile's other members make it as large as this: an
/// identity may have half a megabyte of facts, and a page of them all would take a gigabyte on each of the threads that read
/// at a start.
const PAGE_BYTES: usize = 16 << 20;

/// Profiles of a page of which something cannot be read. They are read one by one to find out whose it is, each with all that
/// belongs to it, and so there are few.
const CAREFUL_IDENTITIES: usize = 64;

/// Somebody who cannot be read, and why.
pub(crate) type Unreadable = (SourceIdentityId, ReadError);

/// A walk over the profiles that react knows. One that cannot be read is left out and noted, because one row must not keep a
/// server from starting, or a question about everybody from being answered.
pub(crate) struct ProfilePages {
    store: Arc<dyn Store>,
    workspace: WorkspaceId,
    rest: Option<KeyRange>,
    /// How many identities the next page is to have: fewer where the pages before were cut for their bytes, so that what is
    /// read is not dropped and read again, and where few are wanted.
    identities: usize,
    /// Who was left out since the last look at it.
    unreadable: Vec<Unreadable>,
}

/// The identities of a page with their computed rows, in key order, and the key that the next page begins with.
struct Roots {
    rows: Vec<(SourceIdentityId, Value)>,
    next: Option<Key>,
}

impl Roots {
    /// End before an identity, which is left to the next page; its key is `at`.
    fn end_before(&mut self, workspace: WorkspaceId, at: Key) {
        self.rows.truncate(self.rows.partition_point(|(id, _)| Key::derived(workspace, *id) < at));
        self.next = Some(at);
    }
}

impl ProfilePages {
    /// A walk over all profiles of the workspace, in key order.
    pub(crate) fn new(store: Arc<dyn Store>, workspace: WorkspaceId) -> ProfilePages {
        ProfilePages::over(store, workspace, Key::derived_rows(workspace).range())
    }

    /// A walk over the profiles behind one, in key order.
    pub(crate) fn after(store: Arc<dyn Store>, workspace: WorkspaceId, last: SourceIdentityId) -> ProfilePages {
        let from = Key::derived(workspace, last).followed_by(&[0]);
        ProfilePages::over(store, workspace, KeyRange { from, ..Key::derived_rows(workspace).range() })
    }

    /// Walks over about the same number of profiles each, together over all of them; for as many threads.
    pub(crate) fn parts(store: &Arc<dyn Store>, workspace: WorkspaceId, parts: usize) -> Vec<ProfilePages> {
        let ranges = Key::derived_parts(workspace, u16::try_from(parts).unwrap_or(u16::MAX));
        ranges.into_iter().map(|range| ProfilePages::over(Arc::clone(store), workspace, range)).collect()
    }

    fn over(store: Arc<dyn Store>, workspace: WorkspaceId, range: KeyRange) -> ProfilePages {
        ProfilePages { store, workspace, rest: Some(range), identities: PAGE_IDENTITIES, unreadable: Vec::new() }
    }

    /// The same walk with a small first page, for whoever may want no more than so many; the next ones grow.
    pub(crate) fn beginning_with(mut self, identities: usize) -> ProfilePages {
        self.identities = identities.clamp(1, PAGE_IDENTITIES);
        self
    }

    /// The profiles of the next page, each as its members with the one that names it first; `None` at the end. A page may be
    /// empty: most identities name no profile of their own.
    pub(crate) fn next_page(&mut self) -> Result<Option<Vec<Vec<Person>>>, ReadError> {
        let Some(range) = self.rest.take() else { return Ok(None) };
        let page = match self.page(range.clone()) {
            Err(error) if !matches!(error, ReadError::Io { .. }) => self.careful_page(range),
            page => page,
        };
        page.map(Some)
    }

    /// Those of the last pages who cannot be read, none twice.
    pub(crate) fn take_unreadable(&mut self) -> Vec<Unreadable> {
        std::mem::take(&mut self.unreadable)
    }

    fn careful_page(&mut self, range: KeyRange) -> Result<Vec<Vec<Person>>, ReadError> {
        let page = self.store.scan(&range, CAREFUL_IDENTITIES)?;
        let mut profiles = Vec::new();
        for id in page.rows.iter().filter_map(|(key, _)| key.as_derived()) {
            match person::read_profile(self.store.as_ref(), self.workspace, ProfileId(id)) {
                Ok(people) if people.is_empty() => {}
                Ok(people) => profiles.push(people),
                Err(error @ ReadError::Io { .. }) => return Err(error),
                Err(error) => {
                    tracing::error!(workspace = self.workspace.0, identity = %id, %error, "somebody cannot be read and is left out");
                    self.unreadable.push((id, error));
                }
            }
        }
        self.rest = page.next.map(|from| KeyRange { from, to: range.to });
        Ok(profiles)
    }

    fn page(&mut self, range: KeyRange) -> Result<Vec<Vec<Person>>, ReadError> {
        let page = self.store.scan(&range, self.identities)?;
        let rows = page.rows.into_iter().filter_map(|(key, value)| Some((key.as_derived()?, value)));
        let mut roots = Roots { rows: rows.collect(), next: page.next };
        let whole = roots.rows.len();
        let (facts, end) = self.facts(&roots.rows)?;
        if let Some(end) = end {
            roots.end_before(self.workspace, Key::derived(self.workspace, end));
        }
        let (leaves, end) = self.leaves(&roots.rows)?;
        if let Some(end) = end {
            roots.end_before(self.workspace, Key::derived(self.workspace, end));
        }
        let profiles = self.profiles(&mut roots, facts, leaves)?;
        let kept = roots.rows.len();
        self.identities = if kept < whole { kept.max(1) } else { (2 * self.identities).min(PAGE_IDENTITIES) };
        self.rest = roots.next.map(|from| KeyRange { from, to: range.to });
        Ok(profiles)
    }

    /// Put the profiles together that the identities name.
    fn profiles(
        &self,
        roots: &mut Roots,
        mut facts: BTreeMap<SourceIdentityId, facts::Facts>,
        mut leaves: BTreeMap<SourceIdentityId, LeafRows>,
    ) -> Result<Vec<Vec<Person>>, ReadError> {
        let (mut profiles, mut of_members) = (Vec::new(), 0);
        let mut end = None;
        for (id, derived) in &roots.rows {
            if of_members >= PAGE_BYTES {
                end = Some(Key::derived(self.workspace, *id));
                break;
            }
            // An identity without facts is none: its rows are left over from a damaged store.
            let Some((head, said, bytes)) = facts.remove(id) else { continue };
            let leaves = leaves.remove(id).unwrap_or_default();
            let computed = (row::decode(derived)?, leaves);
            let root = person::assemble(*id, head, said, Some(computed), bytes + derived.len())?;
            let members = root.members();
            if members.is_empty() {
                continue;
            }
            let mut people = vec![root];
            for member in members.into_iter().filter(|member| member != id) {
                people.extend(person::read(self.store.as_ref(), self.workspace, member)?);
            }
            of_members += people.iter().skip(1).map(|member| member.bytes).sum::<usize>();
            profiles.push(people);
        }
        if let Some(end) = end {
            roots.end_before(self.workspace, end);
        }
        Ok(profiles)
    }

    /// The facts of these identities, read as the range that they lie in.
    fn facts(&self, rows: &[(SourceIdentityId, Value)]) -> Result<FactsPage, ReadError> {
        let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else { return Ok(FactsPage::default()) };
        facts::read_between(self.store.as_ref(), self.workspace, *first, *last, PAGE_BYTES)
    }

    /// The leaves of these identities, read as the range that they lie in, until they take [`PAGE_BYTES`]; and the first
    /// identity whose leaves are not among them because of that.
    fn leaves(
        &self,
        rows: &[(SourceIdentityId, Value)],
    ) -> Result<(BTreeMap<SourceIdentityId, LeafRows>, Option<SourceIdentityId>), ReadError> {
        let mut leaves: BTreeMap<SourceIdentityId, LeafRows> = BTreeMap::new();
        let (Some((first, _)), Some((last, _))) = (rows.first(), rows.last()) else { return Ok((leaves, None)) };
        let last = Key::all_leaves(self.workspace, *last).range().to;
        let mut range = KeyRange { from: Key::all_leaves(self.workspace, *first), to: last };
        let mut taken = 0;
        loop {
            let page = self.store.scan(&range, PAGE_LEAF_ROWS)?;
            for (key, value) in page.rows {
                let Some((identity, group)) = key.as_leaves() else { continue };
                if taken >= PAGE_BYTES && !leaves.contains_key(&identity) {
                    return Ok((leaves, Some(identity)));
                }
                taken += value.len();
                leaves.entry(identity).or_default().push((group, value));
            }
            match page.next {
                Some(next) => range.from = next,
                None => return Ok((leaves, None)),
            }
        }
    }
}

/// Whether a walk has seen everybody.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum WalkCoverage {
    Everybody,
    /// Somebody cannot be read and was left out.
    NotAll,
}

/// Look at every profile of the workspace, until `look` ends it.
pub(crate) fn each_profile<B>(
    store: &Arc<dyn Store>,
    workspace: WorkspaceId,
    mut look: impl FnMut(ProfileId, Vec<Person>) -> Result<ControlFlow<B>, ReadError>,
) -> Result<ControlFlow<B, WalkCoverage>, ReadError> {
    let mut pages = ProfilePages::new(Arc::clone(store), workspace);
    let mut seen = WalkCoverage::Everybody;
    while let Some(profiles) = pages.next_page()? {
        for people in profiles {
            let id = ProfileId(people[0].id);
            match look(id, people) {
                Ok(ControlFlow::Continue(())) => {}
                Ok(ControlFlow::Break(ended)) => return Ok(ControlFlow::Break(ended)),
                Err(error @ ReadError::Io { .. }) => return Err(error),
                Err(error) => {
                    tracing::error!(workspace = workspace.0, profile = %id, %error, "somebody cannot be read and is left out");
                    seen = WalkCoverage::NotAll;
                }
            }
        }
        if !pages.take_unreadable().is_empty() {
            seen = WalkCoverage::NotAll;
        }
    }
    Ok(ControlFlow::Continue(seen))
}

#[cfg(test)]
mod tests {
    use kith_model::id::InstallationId;
    use kith_model::identity::Identifier;
    use kith_model::profile::{Contribution, IdentityHead, TraitValue};
    use kith_model::time::Timestamp;
    use kith_store::keys::PersonRow;
    use kith_store::{Operation, Unit};

    use super::*;
    use crate::profiles::facts::{FactsRow, facts_key};
    use crate::rows::derived::Derived;

    const WORKSPACE: WorkspaceId = WorkspaceId(1);

    /// A page of people with many facts took as much memory as all their facts together.
    #[test]
    fn a_page_ends_with_the_profile_that_makes_it_large() {
        const IDENTITIES: u8 = 60;
        const TRAIT_BYTES: usize = 600 << 10;
        let store: Arc<dyn Store> = Arc::new(kith_store::memory());
        for number in 0..IDENTITIES {
            let id = SourceIdentityId([number; 16]);
            let ordinal = u32::from(number);
            let identifier = Identifier::new("user_id", number.to_string());
            let (created_at, profile) = (Timestamp(0), ProfileId(id));
            let head = IdentityHead { identifier, created_at, ordinal, profile, root: None, evidence: Vec::new() };
            let mut facts = Contribution::default();
            let json = format!("\"{}\"", "x".repeat(TRAIT_BYTES));
            let (time, source, message_id) = (Timestamp(0), InstallationId(1), String::new());
            facts
                .traits
                .insert("bio".into(), TraitValue { json, time, received_at: time, source, message_id, place: 0 });
            let rows = [
                (Key::person(WORKSPACE, id, PersonRow::Head), row::encode(&head)),
                (facts_key(WORKSPACE, id, 0), row::encode(&FactsRow { facts, ..FactsRow::default() })),
                (Key::derived(WORKSPACE, id), row::encode(&Derived::default())),
            ];
            let operations = rows.into_iter().map(|(key, value)| Operation::Put(key, value)).collect();
            store.commit(Unit { operations, ..Unit::default() }).unwrap();
        }
        let mut pages = ProfilePages::new(store, WORKSPACE);
        let (mut seen, mut largest) = (Vec::new(), 0);
        while let Some(profiles) = pages.next_page().unwrap() {
            largest = largest.max(profiles.iter().flatten().map(|person| person.bytes).sum::<usize>());
            seen.extend(profiles.iter().map(|people| people[0].ordinal));
        }
        assert!(largest < PAGE_BYTES + 2 * TRAIT_BYTES, "{largest}");
        seen.sort_unstable();
        assert!(seen.into_iter().eq(0..u32::from(IDENTITIES)), "everybody is seen once");
    }
}
