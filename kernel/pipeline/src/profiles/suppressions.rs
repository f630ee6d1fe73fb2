//! Identifiers that nothing may be sent to, whoever they belong to: bounces, complaints, a list of people who never want to
//! hear from anybody again. Only a digest of each is kept, so that the list outlives the people and tells nobody who is on it.

use kith_model::id::WorkspaceId;
use kith_model::identity::{Identifier, IdentityRules};
use kith_model::time::Timestamp;
use kith_store::keys::alias_digest;
use kith_store::{Key, ReadError, Store, row};
use serde::{Deserialize, Serialize};

use crate::rows;

/// One suppressed identifier.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct SuppressionRow {
    /// The type of the identifier.
    pub kind: String,
    pub since: Timestamp,
    /// For people.
    pub reason: String,
}

rows::rows! {
    SuppressionRow: "a suppressed identifier", Catalogue, 1;
}

/// The forms under which an identifier is put on the list and looked for: as it came, and its normal form by the rules of now.
/// Rules change, and what somebody asked for holds under the old ones and the new.
pub(crate) fn forms(identifier: &Identifier, rules: &IdentityRules) -> Vec<Identifier> {
    let trimmed = identifier.trimmed();
    let normal = rules.judge(identifier).ok().filter(|normal| *normal != trimmed);
    std::iter::once(trimmed).chain(normal).collect()
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
    let identifiers: Vec<Identifier> = identifiers.iter().flat_map(|identifier| forms(identifier, rules)).collect();
    let keys: Vec<Key> = identifiers.iter().map(|identifier| key(workspace, realm_key, identifier)).collect();
    let rows = store.get(&keys)?;
    let found = identifiers.iter().zip(rows).find_map(|(identifier, row)| Some((identifier, row?)));
    Ok(found.map(|(identifier, value)| {
        let kind = &identifier.kind;
        match row::decode::<SuppressionRow>(&value) {
            Ok(row) if row.reason.is_empty() => format!("its {kind} is suppressed since {}", row.since),
            Ok(row) => format!("its {kind} is suppressed since {}: {}", row.since, row.reason),
            Err(error) => format!("its {kind} is suppressed, and why cannot be read: {error}"),
        }
    }))
}
