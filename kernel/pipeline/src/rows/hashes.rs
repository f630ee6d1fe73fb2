//! What stands for a value where a rule of records hashes it: one hash for each value of a workspace, whichever rule asks for it.

use hmac::{Hmac, Mac as _};
use kith_model::identity::{Identifier, IdentityRules, Shape};
use kith_model::rules::{HASHED, HASHED_TYPE};
use sha2::Sha256;

/// What the key of the hashes is derived for, so that it is no other key of the workspace.
const PURPOSE: &[u8] = b"kith record rules 1";

/// The key of a workspace's hashes.
pub(crate) struct HashKey([u8; 32]);

impl HashKey {
    pub(crate) fn of(realm_key: &[u8; 32]) -> HashKey {
        let mut mac = Hmac::<Sha256>::new_from_slice(realm_key).expect("HMAC takes keys of any length");
        mac.update(PURPOSE);
        HashKey(mac.finalize().into_bytes().into())
    }

    /// The hash of a text that stands for a value.
    pub(crate) fn hash(&self, said: &[u8]) -> String {
        let mut mac = Hmac::<Sha256>::new_from_slice(&self.0).expect("HMAC takes keys of any length");
        mac.update(said);
        format!("{HASHED}{:x}", mac.finalize().into_bytes())
    }

    /// What an identifier in its normal form becomes: its type and a hash, which equals that of a JSON text of the same characters.
    pub(crate) fn of_normal(&self, normal: &Identifier, identity: &IdentityRules) -> Identifier {
        let text = serde_json::Value::from(normal.value.as_str()).to_string();
        let value = self.hash(kith_json::canonical(&text).unwrap_or(text).as_bytes());
        let has_shape = identity.types.get(&normal.kind).is_some_and(|rules| rules.shape != Shape::Any);
        let kind = if has_shape { format!("{HASHED_TYPE}{}", normal.kind) } else { normal.kind.clone() };
        Identifier { kind, value }
    }
}

/// What a rule of hashing makes of an identifier in its normal form, whether or not there is such a rule: what is said for good
/// about a value holds for its hash. `None` for what is a hash.
pub(crate) fn hash_of_normal(
    normal: &Identifier,
    (realm_key, identity): (&[u8; 32], &IdentityRules),
) -> Option<Identifier> {
    (!normal.value.starts_with(HASHED)).then(|| HashKey::of(realm_key).of_normal(normal, identity))
}

/// The name under which the identity of a value is found by its hash. No type of identifiers begins so.
pub(crate) fn value_of(hashed: &Identifier) -> Identifier {
    Identifier { kind: "~value".to_owned(), value: hashed.to_string() }
}
