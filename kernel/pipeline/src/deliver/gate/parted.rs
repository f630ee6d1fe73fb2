//! Addresses that came with a user and are not the user's now, and other users who came with a person's address.
//!
//! Limits and shared identifiers part an address from a user, and whoever may say who is who can bring that about. What was refused
//! under the address was refused by whoever had it, so the evidence itself decides here, whether or not it ties: a refusal under
//! an address forbids every message to a user whom it ever came with, and so does the list of suppressed identifiers. It can
//! only forbid. People who were parted by hand are apart for this, too. What was refused under the normal form of an address was
//! refused of each of its spellings.
//!
//! A user who refuses refuses for the mailboxes that he came with, too: a message goes to a mailbox and not to a user, and of two
//! users who share one the limits give it to one alone. Evidence is looked at here as well, so that it holds whichever of the two
//! came first.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::consent::fold::{Bystander, ConsentRow, Contributor};
use kith_model::id::{SourceIdentityId, WorkspaceId};
use kith_model::identity::{Edge, Evidence, Identifier, IdentityRules, MustNotLink, Shape, ordered};
use kith_model::profile::IdentityHead;
use kith_store::keys::{PersonRow, alias_digest};
use kith_store::{Key, ReadError, Store, row};

use super::{Person, ProfileLookup, consent, head};
use crate::profiles::facts::{each_row, facts_key, get_one};
use crate::rows::hashes::{hash_of_normal, value_of};

/// Identities whose answers decide about one person's messages: as many as a person has, and twenty times as many beside. Each is
/// read and held; of a person with more nobody can tell who refused, and nothing is sent.
pub(super) const MAX_CONTRIBUTORS: usize = 10_000;

/// Whether all are known who say something about a person's messages.
enum Sharing {
    Known,
    TooMany,
}

/// Add to a person what was said under addresses that came with their users and are not among theirs.
pub(in super::super) fn note_parted(
    store: &dyn Store,
    by: (WorkspaceId, &[u8; 32], &IdentityRules),
    found: &mut ProfileLookup,
) -> Result<(), ReadError> {
    note_within(store, by, found, MAX_CONTRIBUTORS)
}

/// The same where as many as `most` may say something.
pub(super) fn note_within(
    store: &dyn Store,
    by: (WorkspaceId, &[u8; 32], &IdentityRules),
    found: &mut ProfileLookup,
    most: usize,
) -> Result<(), ReadError> {
    let ProfileLookup::Person(person) = found else { return Ok(()) };
    match add(store, by, person, most) {
        Ok(Sharing::Known) => {}
        Ok(Sharing::TooMany) => {
            let problem = format!("more than {most} identities say something about the person's messages");
            *found = ProfileLookup::Unreadable(problem);
        }
        Err(error @ ReadError::Io { .. }) => return Err(error),
        Err(error) => *found = ProfileLookup::Unreadable(error.to_string()),
    }
    Ok(())
}

fn add(
    store: &dyn Store,
    (workspace, realm_key, rules): (WorkspaceId, &[u8; 32], &IdentityRules),
    person: &mut Person,
    most: usize,
) -> Result<Sharing, ReadError> {
    let of_kind = |is_wanted: &dyn Fn(&str) -> bool| -> Vec<SourceIdentityId> {
        person.consents.iter().filter(|said| is_wanted(&said.kind)).map(|said| said.identity).collect()
    };
    let members: BTreeSet<SourceIdentityId> = of_kind(&|_| true).into_iter().collect();
    let users = of_kind(&|kind| rules.is_of_person(kind));
    let own_forms = forms(store, (workspace, realm_key, rules), person)?;
    let own = person.consents.iter().filter(|said| is_address_type(&said.kind, rules));
    let mut mailboxes: Vec<Mailbox> = own.map(|said| (said.identity, said.kind.clone())).collect();
    mailboxes.extend(own_forms.iter().cloned());
    let mut beside = BTreeMap::new();
    for user in &users {
        for TiedIdentity { identity, head, .. } in tied(store, workspace, *user, &members)? {
            if is_address_type(&head.identifier.kind, rules) && !are_apart(store, workspace, *user, identity)? {
                beside.insert(identity, head);
            }
        }
    }
    for (other, of) in counterparts(store, (workspace, realm_key, rules), person, &members)? {
        if is_address_type(&of.kind, rules) {
            mailboxes.push((other.identity, of.kind));
        }
        person.parted.push(other.head.identifier);
        person.consents.push(other.said);
    }
    let forms: Vec<_> = own_forms.into_iter().map(|(form, _)| form).filter(|form| !members.contains(form)).collect();
    beside.extend(heads(store, workspace, &forms)?);
    for (identity, head) in beside {
        if !is_address_type(&head.identifier.kind, rules) {
            continue;
        }
        let (kind, form) = (head.identifier.kind.clone(), rules.judge(&head.identifier).ok());
        let row = said(store, workspace, identity)?;
        person.consents.push(Contributor { identity, kind, form, row, beside: Some(Bystander::Address) });
        person.parted.push(head.identifier);
    }
    let Some(room) = most.checked_sub(person.consents.len()) else { return Ok(Sharing::TooMany) };
    let Some(sharers) = sharers(store, (workspace, rules), &members, (&users, mailboxes), room)? else {
        return Ok(Sharing::TooMany);
    };
    person.consents.extend(sharers);
    Ok(Sharing::Known)
}

/// What stands for one of a person's identifiers: its hash, or what it is the hash of.
struct Counterpart {
    identity: SourceIdentityId,
    head: IdentityHead,
    said: Contributor,
}

/// Who was named by the hash of one of the person's identifiers, or by the value of one that is a hash: what they refused they
/// refused of the same thing. A rule that hashes holds from one moment on and for some sources, and parts nobody from a refusal.
fn counterparts(
    store: &dyn Store,
    (workspace, realm_key, rules): (WorkspaceId, &[u8; 32], &IdentityRules),
    person: &Person,
    members: &BTreeSet<SourceIdentityId>,
) -> Result<Vec<(Counterpart, Identifier)>, ReadError> {
    let own = person.consents.iter().filter(|said| said.beside.is_none());
    let own: Vec<(SourceIdentityId, Identifier)> =
        own.filter_map(|said| Some((said.identity, said.form.clone()?))).collect();
    let named = own.iter().map(|(_, form)| hash_of_normal(form, (realm_key, rules)).unwrap_or_else(|| value_of(form)));
    let keys: Vec<Key> = named.map(|name| Key::alias(workspace, &alias_digest(realm_key, &name))).collect();
    let mut found: Vec<(SourceIdentityId, Identifier)> = Vec::new();
    for ((member, form), value) in own.into_iter().zip(store.get(&keys)?) {
        let Some(value) = value else { continue };
        let identity: SourceIdentityId = row::decode(&value)?;
        let is_known = members.contains(&identity) || found.iter().any(|(other, ..)| *other == identity);
        if !is_known && !are_apart(store, workspace, member, identity)? {
            found.push((identity, form));
        }
    }
    let ids: Vec<SourceIdentityId> = found.iter().map(|(identity, _)| *identity).collect();
    let mut heads = heads(store, workspace, &ids)?;
    let mut counterparts = Vec::with_capacity(found.len());
    for (identity, form) in found {
        let Some(head) = heads.remove(&identity) else { continue };
        let (kind, row) = (head.identifier.kind.clone(), said(store, workspace, identity)?);
        let beside = Some(Bystander::Address);
        let said = Contributor { identity, kind, form: Some(form.clone()), row, beside };
        counterparts.push((Counterpart { identity, head, said }, form));
    }
    Ok(counterparts)
}

/// The identity of an address, and its type.
type Mailbox = (SourceIdentityId, String);

/// Other users who came with one of these mailboxes, in any spelling of it; `None` where they are more than `room`.
fn sharers(
    store: &dyn Store,
    (workspace, rules): (WorkspaceId, &IdentityRules),
    members: &BTreeSet<SourceIdentityId>,
    (users, mut mailboxes): (&[SourceIdentityId], Vec<Mailbox>),
    room: usize,
) -> Result<Option<Vec<Contributor>>, ReadError> {
    let mut looked_at: BTreeSet<SourceIdentityId> =
        members.iter().chain(mailboxes.iter().map(|(mailbox, _)| mailbox)).copied().collect();
    let mut sharers = Vec::new();
    while let Some((mailbox, address)) = mailboxes.pop() {
        for TiedIdentity { identity, evidence, head } in tied(store, workspace, mailbox, &looked_at)? {
            let kind = head.identifier.kind;
            let is_spelling = matches!(evidence, Evidence::Spelling(_) | Evidence::Former(_));
            if is_spelling && is_address_type(&kind, rules) {
                if looked_at.insert(identity) {
                    mailboxes.push((identity, kind));
                }
            } else if rules.is_of_person(&kind)
                && !looked_at.contains(&identity)
                && !are_parted_by_hand(store, workspace, identity, mailbox, users)?
            {
                looked_at.insert(identity);
                if sharers.len() >= room {
                    return Ok(None);
                }
                let beside = Some(Bystander::User { address: address.clone() });
                let row = said(store, workspace, identity)?;
                sharers.push(Contributor { identity, kind, form: None, row, beside });
            }
        }
    }
    Ok(Some(sharers))
}

/// Whether somebody said by hand that a user is not who has the mailbox.
fn are_parted_by_hand(
    store: &dyn Store,
    workspace: WorkspaceId,
    user: SourceIdentityId,
    mailbox: SourceIdentityId,
    owners: &[SourceIdentityId],
) -> Result<bool, ReadError> {
    for owner in owners.iter().chain([&mailbox]) {
        if are_apart(store, workspace, user, *owner)? {
            return Ok(true);
        }
    }
    Ok(false)
}

/// An identity that a piece of evidence ties to another.
struct TiedIdentity {
    identity: SourceIdentityId,
    evidence: Evidence,
    head: IdentityHead,
}

/// All whom evidence ties to an identity, but for `known`. How much there is of it is bounded where it is kept.
fn tied(
    store: &dyn Store,
    workspace: WorkspaceId,
    identity: SourceIdentityId,
    known: &BTreeSet<SourceIdentityId>,
) -> Result<Vec<TiedIdentity>, ReadError> {
    let mut others = Vec::new();
    each_row(store, &Key::edges(workspace, identity), |_, value| {
        let Edge { id, .. } = row::decode(value)?;
        let other = if id.low == identity { id.high } else { id.low };
        if !known.contains(&other) {
            others.push((other, id.evidence));
        }
        Ok(())
    })?;
    let ids: Vec<SourceIdentityId> = others.iter().map(|(other, _)| *other).collect();
    let heads = heads(store, workspace, &ids)?;
    let tied = others.into_iter().filter_map(|(identity, evidence)| {
        let head = heads.get(&identity)?.clone();
        Some(TiedIdentity { identity, evidence, head })
    });
    Ok(tied.collect())
}

/// Who these identities are, as far as they are there.
fn heads(
    store: &dyn Store,
    workspace: WorkspaceId,
    ids: &[SourceIdentityId],
) -> Result<BTreeMap<SourceIdentityId, IdentityHead>, ReadError> {
    let keys: Vec<Key> = ids.iter().map(|id| Key::person(workspace, *id, PersonRow::Head)).collect();
    let rows = ids.iter().zip(store.get(&keys)?);
    let heads = rows.map(|(id, value)| Ok(head(value.as_ref())?.map(|head| (*id, head))));
    heads.filter_map(Result::transpose).collect()
}

/// What an identity said.
fn said(store: &dyn Store, workspace: WorkspaceId, identity: SourceIdentityId) -> Result<ConsentRow, ReadError> {
    Ok(consent(get_one(store, &facts_key(workspace, identity, 0))?.as_ref()))
}

pub(super) fn is_address_type(kind: &str, rules: &IdentityRules) -> bool {
    rules.types.get(kind).is_some_and(|own| own.shape != Shape::Any)
}

/// The normal forms of a person's addresses. A spelling and its form are one mailbox, also where neither ties anybody.
fn forms(
    store: &dyn Store,
    (workspace, realm_key, rules): (WorkspaceId, &[u8; 32], &IdentityRules),
    person: &Person,
) -> Result<Vec<Mailbox>, ReadError> {
    let addresses = person.identifiers.iter().filter(|identifier| is_address_type(&identifier.kind, rules));
    let forms = addresses.filter_map(|identifier| {
        let normal = rules.judge(identifier).ok()?;
        (normal != *identifier).then(|| (Key::alias(workspace, &alias_digest(realm_key, &normal)), normal.kind))
    });
    let (forms, kinds): (Vec<Key>, Vec<String>) = forms.unzip();
    let found = store.get(&forms)?.into_iter().zip(kinds);
    found.filter_map(|(value, kind)| Some(row::decode(&value?).map(|form| (form, kind)))).collect()
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
