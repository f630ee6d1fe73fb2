//! Addresses that came with a user and are not the user's now.
//!
//! Limits and shared identifiers part an address from a user, and whoever may say who is who can bring that about. What was refused
//! under the address was refused by whoever had it, so the evidence itself decides here, whether or not it ties: a refusal under
//! an address forbids every message to a user whom it ever came with, and so does the list of suppressed identifiers. It can
//! only forbid. People who were parted by hand are apart for this, too. What was refused under the normal form of an address was
//! refused of each of its spellings.

use std::collections::BTreeSet;

use kith_model::consent::fold::Contributor;
use kith_model::id::{SourceIdentityId, WorkspaceId};
use kith_model::identity::{Edge, Identifier, IdentityRules, MustNotLink, Shape, ordered};
use kith_store::keys::{PersonRow, alias_digest};
use kith_store::{Key, ReadError, Store, row};

use super::{Found, Person, consent, head};
use crate::profiles::facts::facts_key;

/// Pieces of evidence of one user that are looked at: more than an identity keeps, which is some 500 of devices and a few of each
/// type with a limit. With fewer a crowd of devices would hide an address.
const MAX_EDGES: usize = 1_024;

/// Add to each person what was said under addresses that came with their users and are not among theirs.
pub(in super::super) fn note_parted(
    store: &dyn Store,
    by: (WorkspaceId, &[u8; 32], &IdentityRules),
    found: &mut [Found],
) -> Result<(), ReadError> {
    for one in found.iter_mut() {
        let Found::Person(person) = one else { continue };
        match add(store, by, person) {
            Ok(()) => {}
            Err(error @ ReadError::Io { .. }) => return Err(error),
            Err(error) => *one = Found::Unreadable(error.to_string()),
        }
    }
    Ok(())
}

fn add(
    store: &dyn Store,
    (workspace, realm_key, rules): (WorkspaceId, &[u8; 32], &IdentityRules),
    person: &mut Person,
) -> Result<(), ReadError> {
    let members: BTreeSet<SourceIdentityId> = person.consents.iter().map(|said| said.identity).collect();
    let users = person.consents.iter().filter(|said| rules.is_of_person(&said.kind)).map(|said| said.identity);
    let mut beside = BTreeSet::new();
    for user in users {
        for (_, value) in store.scan(&Key::edges(workspace, user).range(), MAX_EDGES)?.rows {
            let edge: Edge = row::decode(&value)?;
            let other = if edge.id.low == user { edge.id.high } else { edge.id.low };
            if !members.contains(&other) && !are_apart(store, workspace, user, other)? {
                beside.insert(other);
            }
        }
    }
    beside.extend(
        forms(store, (workspace, realm_key, rules), person)?.into_iter().filter(|form| !members.contains(form)),
    );
    for identity in beside {
        let keys = [Key::person(workspace, identity, PersonRow::Head), facts_key(workspace, identity, 0)];
        let rows = store.get(&keys)?;
        let Some(head) = head(rows[0].as_ref())? else { continue };
        if !is_address(&head.identifier, rules) {
            continue;
        }
        let kind = head.identifier.kind.clone();
        person.consents.push(Contributor { identity, kind, row: consent(rows[1].as_ref()) });
        person.parted.push(head.identifier);
    }
    Ok(())
}

fn is_address(identifier: &Identifier, rules: &IdentityRules) -> bool {
    rules.types.get(&identifier.kind).is_some_and(|own| own.shape != Shape::Any)
}

/// The normal forms of a person's addresses. A spelling and its form are one mailbox, also where neither ties anybody.
fn forms(
    store: &dyn Store,
    (workspace, realm_key, rules): (WorkspaceId, &[u8; 32], &IdentityRules),
    person: &Person,
) -> Result<Vec<SourceIdentityId>, ReadError> {
    let addresses = person.identifiers.iter().filter(|identifier| is_address(identifier, rules));
    let forms = addresses.filter_map(|identifier| {
        let normal = rules.judge(identifier).ok()?;
        (normal != *identifier).then(|| Key::alias(workspace, &alias_digest(realm_key, &normal)))
    });
    let forms: Vec<Key> = forms.collect();
    store.get(&forms)?.into_iter().flatten().map(|value| row::decode(&value)).collect()
}

fn are_apart(
    store: &dyn Store,
    workspace: WorkspaceId,
    one: SourceIdentityId,
    other: SourceIdentityId,
) -> Result<bool, ReadError> {
    let (low, high) = ordered(one, other);
    let row = store.get(&[Key::veto(workspace, MustNotLink { low, high })])?;
    Ok(row.into_iter().flatten().next().is_some())
}
