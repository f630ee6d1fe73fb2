//! Addresses that no record which counts has any more: a correction took the place of whatever named them, or it was taken back.
//!
//! That the identifiers of a corrected record are one person stays evidence, and so does what was said under them. Where to write
//! to is what the corrected record says: whoever mends a mistyped address wants nothing sent to the one before.

use std::collections::BTreeSet;

use kith_model::change::Change;
use kith_model::event::{Event, EventOrigin};
use kith_model::id::{SourceIdentityId, WorkspaceId};
use kith_model::identity::{Edge, Evidence, Identifier, IdentityRules};
use kith_store::{Key, KeyRange, ReadError, Store, row};

use super::parted::is_address_type;
use super::{Person, ProfileLookup};
use crate::profiles::facts::each_row;

/// Events that are read at once.
const PAGE_EVENTS: usize = 500;

/// Of a person with more events than this, an address that none of the first of them names is left out: rather than to an
/// address that was corrected nothing is sent.
const MAX_EVENTS: usize = 20_000;

/// Leave out the addresses of each person that no events but superseded ones, or those taken back, have named. A suppression of
/// one holds all the same.
pub(in super::super) fn leave_out(
    store: &dyn Store,
    by: (WorkspaceId, &IdentityRules),
    found: &mut [ProfileLookup],
) -> Result<(), ReadError> {
    for one in found.iter_mut() {
        let ProfileLookup::Person(person) = one else { continue };
        match only_superseded(store, by, person) {
            Ok(gone) if gone.is_empty() => {}
            Ok(gone) => {
                let is_gone = |identifier: &Identifier| by.1.judge(identifier).is_ok_and(|form| gone.contains(&form));
                let (gone, kept) = std::mem::take(&mut person.identifiers).into_iter().partition(is_gone);
                person.identifiers = kept;
                person.parted.extend::<Vec<Identifier>>(gone);
            }
            Err(error @ ReadError::Io { .. }) => return Err(error),
            Err(error) => *one = ProfileLookup::Unreadable(error.to_string()),
        }
    }
    Ok(())
}

/// The normal forms of the addresses that superseded events have named and nothing else does.
fn only_superseded(
    store: &dyn Store,
    (workspace, rules): (WorkspaceId, &IdentityRules),
    person: &Person,
) -> Result<BTreeSet<Identifier>, ReadError> {
    let own: Vec<_> = person.consents.iter().filter(|said| said.beside.is_none()).collect();
    let members: Vec<SourceIdentityId> = own.iter().map(|said| said.identity).collect();
    let addresses: BTreeSet<&Identifier> =
        own.iter().filter_map(|said| said.form.as_ref()).filter(|form| is_address_type(&form.kind, rules)).collect();
    let mut gone = BTreeSet::new();
    for member in &members {
        each_row(store, &Key::superseded_of(workspace, *member), |_, value| {
            if let Change::Superseded(superseded) | Change::TakenBack(superseded) = row::decode(value)? {
                gone.extend(forms(&superseded.event, rules).filter(|form| addresses.contains(form)));
            }
            Ok(())
        })?;
    }
    if gone.is_empty() {
        return Ok(gone);
    }
    // What an alias or a person said is no record.
    for said in own.iter().filter(|said| said.form.is_some()) {
        each_row(store, &Key::edges(workspace, said.identity), |_, value| {
            let Edge { id, .. } = row::decode(value)?;
            if matches!(id.evidence, Evidence::Alias | Evidence::ByHand(_))
                && let Some(form) = &said.form
            {
                gone.remove(form);
            }
            Ok(())
        })?;
    }
    let mut room = MAX_EVENTS;
    for member in &members {
        let all = Key::events(workspace, *member).range();
        let mut range = KeyRange { from: all.from, to: all.to };
        while !gone.is_empty() {
            let page = store.scan(&range, PAGE_EVENTS)?;
            room = room.saturating_sub(page.rows.len());
            for (_, value) in &page.rows {
                if let Change::Recorded(event) = row::decode::<Change>(value)?
                    && event.origin != EventOrigin::Kernel
                {
                    for form in forms(&event, rules) {
                        gone.remove(&form);
                    }
                }
            }
            match page.next {
                Some(_) if room == 0 => return Ok(gone),
                Some(next) => range.from = next,
                None => break,
            }
        }
    }
    Ok(gone)
}

/// The normal forms of the identifiers that came with an event.
fn forms<'e>(event: &'e Event, rules: &'e IdentityRules) -> impl Iterator<Item = Identifier> + 'e {
    event.identifiers.iter().filter_map(|identifier| rules.judge(identifier).ok())
}
