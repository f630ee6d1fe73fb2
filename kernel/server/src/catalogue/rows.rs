//! The catalogue's rows as they are stored: JSON in an envelope with a version, so that a later release can read them.

use std::collections::BTreeSet;

use kith_model::id::{InstallationId, InstallationName, Name, WorkspaceId};
use kith_model::plugin::{Grants, InstallationMode, Manifest, PluginId};
use kith_model::time::Timestamp;
use serde::de::DeserializeOwned;
use serde::{Deserialize, Serialize};

use super::CatalogueError;
use crate::auth::{KeyId, Scope};

/// The version that this release writes.
const ROW_VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
struct Envelope<T> {
    version: u32,
    row: T,
}

/// A row as stored bytes.
pub(super) fn encode<T: Serialize>(row: &T) -> Result<Vec<u8>, CatalogueError> {
    serde_json::to_vec(&Envelope { version: ROW_VERSION, row })
        .map_err(|source| CatalogueError::Row { what: std::any::type_name::<T>(), source })
}

/// A row from stored bytes.
pub(super) fn decode<T: DeserializeOwned>(bytes: &[u8]) -> Result<T, CatalogueError> {
    let unreadable = |source| CatalogueError::Row { what: std::any::type_name::<T>(), source };
    #[derive(Deserialize)]
    struct Version {
        version: u32,
    }
    let Version { version } = serde_json::from_slice(bytes).map_err(unreadable)?;
    if version != ROW_VERSION {
        return Err(CatalogueError::Newer { what: std::any::type_name::<T>(), version });
    }
    serde_json::from_slice::<Envelope<T>>(bytes).map(|envelope| envelope.row).map_err(unreadable)
}

/// A tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkspaceRow {
    pub id: WorkspaceId,
    pub name: Name,
    /// IANA name, e.g. `Europe/Berlin`: where calendar days begin.
    pub time_zone: String,
    pub created_at: Timestamp,
}

/// A key, without its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CredentialRow {
    pub id: KeyId,
    pub workspace: WorkspaceId,
    pub title: String,
    /// SHA-256 of the key's text, in hexadecimal.
    pub hash: String,
    pub scopes: BTreeSet<Scope>,
    /// The one source that it may feed, for a write key.
    pub source: Option<InstallationId>,
    pub created_at: Timestamp,
    pub expires_at: Option<Timestamp>,
    pub revoked_at: Option<Timestamp>,
}

impl CredentialRow {
    /// Whether it is good at `now`.
    pub fn is_good(&self, now: Timestamp) -> bool {
        self.revoked_at.is_none() && self.expires_at.is_none_or(|expires_at| now < expires_at)
    }
}

/// One uploaded version of a plugin.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct PluginRow {
    pub manifest: Manifest,
    /// The manifest as its author wrote it.
    pub manifest_toml: String,
    /// SHA-256 of the component, in hexadecimal; also names its file.
    pub digest: String,
    pub size_bytes: u64,
    /// The host interfaces that the component imports: its whole authority.
    pub imports: Vec<String>,
    pub exports: Vec<String>,
    pub uploaded_at: Timestamp,
    pub uploaded_by: KeyId,
}

/// A plugin version at work in a workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstallationRow {
    pub id: InstallationId,
    pub name: InstallationName,
    pub plugin: PluginId,
    pub version: semver::Version,
    /// Valid against the manifest's schema, defaults filled in.
    pub config: serde_json::Value,
    pub grants: Grants,
    pub mode: InstallationMode,
    /// Why the kernel changed the mode.
    pub mode_reason: Option<String>,
    /// Since when it has the mode; rows of older releases do not say.
    #[serde(default)]
    pub mode_since: Option<Timestamp>,
    /// The newest version of a fitted state, which is in use.
    pub fit: Option<u32>,
    /// The write key that was made with it, for a connector.
    pub write_key: Option<KeyId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Kept after removal, so that what it once wrote can still be named.
    pub removed_at: Option<Timestamp>,
}

impl InstallationRow {
    /// Since when it has its mode, as far as is known.
    pub fn mode_since(&self) -> Timestamp {
        self.mode_since.unwrap_or(self.updated_at)
    }
}

/// How a fit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FitStatus {
    Running,
    Succeeded,
    Failed,
}

/// One fit of an installation; its state, if it succeeded, is a row of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FitRow {
    pub installation: InstallationId,
    /// From 1.
    pub version: u32,
    pub status: FitStatus,
    pub plugin_version: semver::Version,
    pub digest: String,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    pub metrics: Vec<(String, f64)>,
    pub state_bytes: u64,
    pub error: Option<String>,
}

/// One line of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditRow {
    pub at: Timestamp,
    pub actor: KeyId,
    /// What was done, e.g. `installation.create`.
    pub action: String,
    /// To what, e.g. `orders`.
    pub target: String,
    pub request_id: String,
    pub before: Option<serde_json::Value>,
    pub after: Option<serde_json::Value>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_read_back_and_newer_ones_are_refused() {
        let row = WorkspaceRow {
            id: WorkspaceId(1),
            name: "default".parse().unwrap(),
            time_zone: "UTC".into(),
            created_at: Timestamp(5),
        };
        let bytes = encode(&row).unwrap();
        assert_eq!(decode::<WorkspaceRow>(&bytes).unwrap().time_zone, "UTC");
        let newer = String::from_utf8(bytes).unwrap().replace("\"version\":1", "\"version\":2");
        assert!(matches!(decode::<WorkspaceRow>(newer.as_bytes()), Err(CatalogueError::Newer { version: 2, .. })));
    }
}
