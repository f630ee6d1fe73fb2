//! The rows of who may sign plugins, of what signatures are asked for, and of the highest version that was ever installed.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use kith_model::id::Name;
use kith_model::plugin::PluginId;
use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};

use crate::signatures::PublicKey;
use crate::signatures::trust::SignaturePolicy;

/// Publishers by their names: of a workspace, or of the host.
pub type Publishers = BTreeMap<String, Arc<PublisherRow>>;

/// Who signs plugins.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublisherRow {
    pub name: Name,
    pub title: String,
    /// Which plugins it may sign: `acme/*`, or one, `acme/loyalty`. None of one that was removed, of which its revoked keys stay.
    pub namespaces: BTreeSet<String>,
    pub keys: Vec<PublisherKeyRow>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
}

/// A key of a publisher.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PublisherKeyRow {
    /// By which signatures name it, as minisign shows it.
    pub number: String,
    /// As minisign writes it.
    pub public_key: String,
    pub added_at: Timestamp,
    /// Signatures that came before do not hold.
    pub valid_from: Option<Timestamp>,
    /// Nor do those that came then or later.
    pub valid_until: Option<Timestamp>,
    pub revoked: Option<RevocationRow>,
}

/// That a key is good for nothing any more.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RevocationRow {
    pub since: Timestamp,
    pub why: String,
}

/// A signature that came with a plugin version.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SignatureRow {
    /// Its file.
    pub text: String,
    /// BLAKE2b-512 of the component, in hexadecimal: what it is held against when keys change.
    pub prehash: String,
    /// The public key that it was found to be by when the whole component was at hand; of a signature over the whole alone.
    pub found_by: Option<String>,
    /// When it came, which is the only time of it that nobody can forge.
    pub received_at: Timestamp,
}

/// The signature of a plugin version that was deleted: the same bytes have it when they come again.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LeftSignatureRow {
    pub plugin: PluginId,
    /// SHA-256 of the component.
    pub digest: String,
    pub signature: SignatureRow,
}

/// What signatures a workspace asks for, where it says so.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
pub struct SignaturePolicyRow(pub SignaturePolicy);

/// The highest version of a plugin that a workspace ever installed.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct HighestVersionRow {
    pub plugin: PluginId,
    pub version: semver::Version,
}

impl PublisherRow {
    /// Whether it may sign a plugin.
    pub fn may_sign(&self, plugin: &PluginId) -> bool {
        self.namespaces.iter().any(|namespace| covers(namespace, plugin))
    }

    /// Whether it was removed, and is kept for its revoked keys alone.
    pub fn is_removed(&self) -> bool {
        self.namespaces.is_empty()
    }

    /// What stays of it when it is removed; `None` where none of its keys is revoked. A revocation is for good: without it what a
    /// stolen key signed would be of an unknown key, which may be installed, and the key could be added again.
    pub fn removed(&self, now: Timestamp) -> Option<PublisherRow> {
        if self.is_removed() {
            return Some(self.clone());
        }
        let keys: Vec<_> = self.keys.iter().filter(|key| key.revoked.is_some()).cloned().collect();
        let (namespaces, updated_at) = (BTreeSet::new(), now);
        (!keys.is_empty()).then(|| PublisherRow { namespaces, keys, updated_at, ..self.clone() })
    }

    /// Its key of that number.
    pub fn key(&self, number: &str) -> Option<&PublisherKeyRow> {
        self.keys.iter().find(|key| key.number == number)
    }
}

impl PublisherKeyRow {
    /// The key itself.
    pub fn public(&self) -> Option<PublicKey> {
        PublicKey::parse(&self.public_key).ok()
    }

    /// Whether a signature that came then came in the time in which the key is valid.
    pub fn holds_at(&self, received_at: Timestamp) -> bool {
        self.valid_from.is_none_or(|from| received_at >= from)
            && self.valid_until.is_none_or(|until| received_at < until)
    }
}

/// Whether a namespace, `acme/*` or `acme/loyalty`, is one of a plugin.
fn covers(namespace: &str, plugin: &PluginId) -> bool {
    match namespace.split_once('/') {
        Some((vendor, "*")) => vendor == plugin.vendor(),
        Some((vendor, name)) => vendor == plugin.vendor() && name == plugin.name(),
        None => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_namespace_is_a_vendor_or_one_plugin() {
        let plugin = |text: &str| text.parse::<PluginId>().unwrap();
        for (namespace, covered, other) in
            [("acme/*", "acme/loyalty", "acmeco/loyalty"), ("acme/loyalty", "acme/loyalty", "acme/loyalty2")]
        {
            assert!(covers(namespace, &plugin(covered)), "{namespace}");
            assert!(!covers(namespace, &plugin(other)), "{namespace}");
        }
        assert!(!covers("*", &plugin("acme/loyalty")) && !covers("*/*", &plugin("acme/loyalty")));
    }
}
