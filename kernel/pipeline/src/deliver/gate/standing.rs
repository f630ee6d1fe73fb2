//! How a person stands to purposes, as the gate would decide now: for lists that people take elsewhere.

use std::collections::BTreeSet;

use kith_model::audience::ConsentBasis;
use kith_model::consent;
use kith_model::consent::fold::{self, Channel, Question};
use kith_model::id::{ProfileId, WorkspaceId};
use kith_model::identity::Identifier;
use kith_store::{ReadError, Store};

use super::{Person, ProfileLookup, note_suppressed, parted, read_person};
use crate::setup::{Installed, Setup};

/// How a person stands to a purpose.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Standing {
    /// A message would leave under `opt_in`.
    Agreed,
    /// None would leave.
    Refused,
    /// None would leave, because one of the identifiers is on the list.
    Suppressed,
    /// One would leave under `not_refused` alone.
    Unsaid,
}

/// How a person stands to each of these purposes, in their order. A purpose may have a channel or a type of identifiers behind
/// an `@`; without one whatever refuses it for any channel refuses it.
pub(crate) fn standings(
    store: &dyn Store,
    workspace: WorkspaceId,
    setup: &Setup,
    (profile, purposes): (ProfileId, &[&str]),
) -> Result<Vec<Standing>, ReadError> {
    let by = (workspace, &setup.realm_key, &setup.identity_rules);
    let mut found = read_person(store, (by.0, by.2), profile)?;
    parted::note_parted(store, by, &mut found)?;
    note_suppressed(store, by, &mut found)?;
    let standing = |purpose: &&str| match &found {
        ProfileLookup::Person(person) => of(person, setup, purpose),
        ProfileLookup::Nobody => Standing::Unsaid,
        // What cannot be read is a refusal.
        ProfileLookup::Unsteady | ProfileLookup::Unreadable(_) => Standing::Refused,
    };
    Ok(purposes.iter().map(standing).collect())
}

fn of(person: &Person, setup: &Setup, asked: &str) -> Standing {
    if person.suppressed.is_some() {
        return Standing::Suppressed;
    }
    if fold::objection(&person.consents).is_some() {
        return Standing::Refused;
    }
    let asked = consent::reading(asked);
    let (purpose, through) =
        asked.split_once('@').map_or((asked.as_str(), None), |(purpose, word)| (purpose, Some(word)));
    let own: BTreeSet<&str> =
        person.identifiers.iter().map(|identifier: &Identifier| identifier.kind.as_str()).collect();
    let installed =
        |name: &str| setup.installations.iter().find(|installed: &&Installed| installed.name.as_str() == name);
    let kinds: BTreeSet<&str> = match through.map(|word| (word, installed(word))) {
        None => own,
        Some((_, Some(Installed { recipients: Some(recipients), .. }))) => {
            own.into_iter().filter(|kind| recipients.iter().any(|recipient| recipient == kind)).collect()
        }
        Some((_, Some(_))) => own,
        Some((kind, None)) => [kind].into(),
    };
    let channel = Channel { name: through.unwrap_or_default(), kinds: &kinds };
    let is_refused = |basis| fold::refusal(&person.consents, &Question { purpose, channel, basis }).is_some();
    if is_refused(ConsentBasis::NotRefused) {
        Standing::Refused
    } else if is_refused(ConsentBasis::OptIn) {
        Standing::Unsaid
    } else {
        Standing::Agreed
    }
}
