//! What is known of an identity beside its own rows: whose value a hash stands for, and who gave what it holds.

use kith_model::id::{InstallationId, SourceIdentityId};
use kith_model::identity::Identifier;
use kith_model::time::Timestamp;
use kith_store::ReadError;

use super::People;
use crate::accept::dedupe::MADE_ID;
use crate::accept::validate::Traits;
use crate::profiles::facts;
use crate::rows::hashes::value_of;

impl People {
    /// Note which identity the value has that is known by its hash as well.
    pub(crate) fn note_value(&mut self, hashed: &Identifier, value: SourceIdentityId) -> Result<(), ReadError> {
        let name = value_of(hashed);
        if self.find(&name)? != Some(value) {
            self.layers.event.aliases.insert(name, value);
        }
        Ok(())
    }

    /// Of these facts those that an identity holds otherwise by another message: of which source, and when it was received. Absent
    /// for one that is no row without an id.
    pub(crate) fn held_otherwise(
        &mut self,
        identity: SourceIdentityId,
        traits: &Traits<'_>,
        message_id: &str,
    ) -> Result<Vec<Option<(InstallationId, Timestamp)>>, ReadError> {
        let summary = self.facts_row(identity, 0)?;
        let mut held = Vec::new();
        for (name, value) in traits {
            let bucket = match summary.is_split {
                true => Some(self.facts_row(identity, facts::bucket_of(name))?),
                false => None,
            };
            let facts = bucket.as_ref().map_or(&summary.facts, |row| &row.facts);
            let given = facts.traits.get(name.as_ref()).filter(|given| given.message_id != message_id);
            // Of consents each answer counts by itself, so that the newest statement may say what an older one did.
            let is_other = |given: &&kith_model::profile::TraitValue| {
                kith_model::consent::is_consent(name) || given.json != value.get()
            };
            held.extend(
                given
                    .filter(is_other)
                    .map(|given| given.message_id.starts_with(MADE_ID).then_some((given.source, given.received_at))),
            );
        }
        Ok(held)
    }
}
