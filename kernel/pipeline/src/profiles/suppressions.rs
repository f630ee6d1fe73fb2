//! Identifiers that nothing may be sent to, whoever they belong to: bounces, complaints, a list of people who never want to
//! hear from anybody again. Only a digest of each is kept, so that the list outlives the people and tells nobody who is on it.

use kith_model::id::WorkspaceId;
use kith_model::identity::{Forms, Identifier, IdentityRules};
use kith_model::time::Timestamp;
use kith_store::keys::alias_digest;
use kith_store::row::{Owner, Row, read_postcard};
use kith_store::{Key, ReadError, Store, row};
use serde::{Deserialize, Serialize};

use crate::rows::hashes::hash_of_normal;

mod changes;

pub(crate) use changes::ListChanges;
pub use changes::SuppressionChange;

/// What an [`alias_digest`] is.
type Digest = [u8; 16];

/// A suppressed identifier in one of its forms.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SuppressionRow {
    /// The type of the identifier.
    pub kind: String,
    pub since: Timestamp,
    /// For people.
    pub reason: String,
    pub place: SuppressionPlace,
}

/// What a row is to the list.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) enum SuppressionPlace {
    /// An entry, with the digests of its other forms.
    Entry(Vec<Digest>),
    /// Another form of the entry with this digest.
    FormOf(Digest),
}

/// Version 1, before there were forms.
#[derive(Deserialize)]
#[cfg_attr(test, derive(Serialize))]
struct Formless {
    kind: String,
    since: Timestamp,
    reason: String,
}

impl Row for SuppressionRow {
    const WHAT: &'static str = "a suppressed identifier";
    const OWNER: Owner = Owner::Catalogue;
    const VERSION: u8 = 2;

    fn before(version: u8, body: &[u8]) -> Option<Result<SuppressionRow, String>> {
        let read = |Formless { kind, since, reason }| {
            let place = SuppressionPlace::Entry(Vec::new());
            SuppressionRow { kind, since, reason, place }
        };
        (version == 1).then(|| read_postcard(body).map(read))
    }
}

/// The forms in which an identifier is put on the list: those by which it is found whatever the identity rules become, and what a
/// rule that hashes identifiers of its type makes of them, whether there is one or not. Rules change, and what somebody asked
/// for holds under the old ones and the new.
pub(crate) fn kept(identifier: &Identifier, (realm_key, rules): (&[u8; 32], &IdentityRules)) -> Vec<Identifier> {
    with_hashes(&rules.kept_forms(identifier), (realm_key, rules))
}

/// The forms in which one is looked for.
pub(crate) fn sought(identifier: &Identifier, (realm_key, rules): (&[u8; 32], &IdentityRules)) -> Vec<Identifier> {
    with_hashes(&rules.sought_forms(identifier), (realm_key, rules))
}

fn with_hashes(forms: &Forms, by: (&[u8; 32], &IdentityRules)) -> Vec<Identifier> {
    let mut all = forms.all();
    for form in &forms.normal {
        all.extend(hash_of_normal(form, by).filter(|hash| !all.contains(hash)));
    }
    all
}

/// The row of an identifier in one of its forms.
pub(crate) fn key(workspace: WorkspaceId, realm_key: &[u8; 32], identifier: &Identifier) -> Key {
    Key::suppression(workspace, &alias_digest(realm_key, identifier))
}

/// Why nothing may be sent to a person with these identifiers, if so. A row that cannot be read suppresses.
pub(crate) fn reason(
    store: &dyn Store,
    (workspace, realm_key, rules): (WorkspaceId, &[u8; 32], &IdentityRules),
    identifiers: &[Identifier],
) -> Result<Option<String>, ReadError> {
    let identifiers: Vec<Identifier> =
        identifiers.iter().flat_map(|identifier| sought(identifier, (realm_key, rules))).collect();
    let keys: Vec<Key> = identifiers.iter().map(|identifier| key(workspace, realm_key, identifier)).collect();
    let rows = store.get(&keys)?;
    let found = identifiers.iter().zip(rows).find_map(|(identifier, row)| Some((identifier, row?)));
    Ok(found.map(|(identifier, value)| {
        let kind = identifier.kind.rsplit(':').next().unwrap_or_default();
        match row::decode::<SuppressionRow>(&value) {
            Ok(row) if row.reason.is_empty() => format!("its {kind} is suppressed since {}", row.since),
            Ok(row) => format!("its {kind} is suppressed since {}: {}", row.since, row.reason),
            Err(error) => format!("its {kind} is suppressed, and why cannot be read: {error}"),
        }
    }))
}
