//! Changes of publishers, of what signatures are asked for, and of the highest versions that were installed.

use std::sync::Arc;

use kith_model::plugin::PluginId;
use kith_store::keys::Definition;
use kith_store::{Key, Operation};

use super::Draft;
use crate::catalogue::publishers::{HighestVersionRow, LeftSignatureRow, PublisherRow, SignaturePolicyRow};
use crate::catalogue::put;
use crate::signatures::trust::SignaturePolicy;

impl Draft<'_> {
    /// Add or replace a publisher.
    pub fn put_publisher(&mut self, row: PublisherRow) {
        let name = row.name.to_string();
        self.operations.push(put(self.workspace(), Definition::Publisher, name.as_bytes(), &row));
        self.tables.publishers.insert(name, Arc::new(row));
    }

    /// Replace a publisher by itself with a key revoked, which waits for no budget.
    pub fn put_revocation(&mut self, row: PublisherRow) {
        self.put_publisher(row);
        self.revokes = true;
    }

    /// Remove a publisher.
    pub fn remove_publisher(&mut self, name: &str) {
        let key = Key::definition(self.workspace(), Definition::Publisher, name.as_bytes());
        self.operations.push(Operation::Delete(key));
        self.tables.publishers.remove(name);
    }

    /// Keep the signature of a plugin version that is deleted.
    pub fn leave_signature(&mut self, row: LeftSignatureRow) {
        self.operations.push(put(self.workspace(), Definition::LeftSignature, row.digest.as_bytes(), &row));
        self.tables.left_signatures.insert(row.digest.clone(), Arc::new(row));
    }

    /// Forget the signature that a deleted component had.
    pub fn forget_left_signature(&mut self, digest: &str) {
        if self.tables.left_signatures.remove(digest).is_some() {
            let key = Key::definition(self.workspace(), Definition::LeftSignature, digest.as_bytes());
            self.operations.push(Operation::Delete(key));
        }
    }

    /// Say which plugins are taken.
    pub fn put_signature_policy(&mut self, policy: SignaturePolicy) {
        let row = SignaturePolicyRow(policy);
        self.operations.push(put(self.workspace(), Definition::SignaturePolicy, &[], &row));
        self.tables.signature_policy = policy;
    }

    /// Note that a version of a plugin is installed. The highest is written also where it is another one: after the way back the
    /// installation does not tell it any more.
    pub fn note_installed(&mut self, plugin: &PluginId, version: &semver::Version) {
        self.tables.raise_highest(plugin, version);
        if let Some(version) = self.tables.highest_version(plugin).cloned() {
            let row = HighestVersionRow { plugin: plugin.clone(), version };
            let name = plugin.to_string();
            self.operations.push(put(self.workspace(), Definition::HighestVersion, name.as_bytes(), &row));
        }
    }
}
