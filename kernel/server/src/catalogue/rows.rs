//! The catalogue's rows as they are stored: JSON under the version byte of `kith_store::row`.

use std::collections::{BTreeMap, BTreeSet};

use kith_model::audience::Audience;
use kith_model::dictionary::{Entry, Subject};
use kith_model::id::{InstallationId, InstallationName, Name, WorkspaceId};
use kith_model::identity::IdentityRules;
use kith_model::plugin::{Grants, InstallationMode, Manifest, PluginId};
use kith_model::rules::RecordRules;
use kith_model::time::Timestamp;
use kith_store::row::{Owner, Row};
use serde::{Deserialize, Serialize};

use crate::audit::{AuditEntry, BEGINNING};
use crate::auth::{KeyId, NewKey, Scope};
use crate::catalogue::fits::{FitRow, FittingRow};
use crate::catalogue::publishers::{
    HighestVersionRow, LeftSignatureRow, PublisherRow, SignaturePolicyRow, SignatureRow,
};
use crate::catalogue::tracking::TrackingPlanRow;
use crate::catalogue::undo::UndoRow;

/// Describes the catalogue's rows: `Type: what it is, version`, and with `reads` the oldest version whose fields are a part of
/// this one's. Their bodies are JSON, because configurations and the states
/// in the audit log have no fixed shape, which postcard could not read back.
macro_rules! json_rows {
    ($($row:ty: $what:literal, $version:literal $(reads $oldest:literal)?;)*) => {
        $(impl Row for $row {
            const WHAT: &'static str = $what;
            const OWNER: Owner = Owner::Catalogue;
            const VERSION: u8 = $version;

            $(fn before(version: u8, body: &[u8]) -> Option<Result<Self, String>> {
                (version >= $oldest).then(|| Self::from_body(body))
            })?

            fn body(&self, bytes: &mut Vec<u8>) {
                serde_json::to_writer(bytes, self)
                    .expect("a vector takes every byte, and the keys of the rows' maps are texts");
            }

            fn from_body(body: &[u8]) -> Result<Self, String> {
                serde_json::from_slice(body).map_err(|error| error.to_string())
            }
        })*
    };
}

json_rows! {
    WorkspaceRow: "a workspace", 2 reads 1;
    CredentialRow: "a credential", 2 reads 1;
    PluginRow: "a plugin version", 2 reads 1;
    InstallationRow: "an installation", 7 reads 1;
    AudienceRow: "an audience", 1;
    FitRow: "a fit", 3 reads 1;
    AuditRow: "a line of the audit log", 2 reads 1;
    AuditHead: "the end of the audit log", 1;
    CounterRow: "a counter", 1;
    IdentityRulesRow: "a workspace's identity rules", 1;
    TrackingPlanRow: "a tracking plan", 1;
    DictionaryRow: "an entry of the dictionary", 1;
    RecordRulesRow: "a workspace's rules of records", 1;
    PublisherRow: "a publisher of plugins", 1;
    SignaturePolicyRow: "what signatures a workspace asks for", 1;
    HighestVersionRow: "the highest version of a plugin that was installed", 1;
    LeftSignatureRow: "the signature of a plugin version that was deleted", 1;
    UndoRow: "what is taken back of a version", 3 reads 1;
}

/// A tenant.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct WorkspaceRow {
    pub id: WorkspaceId,
    /// Unique among those that are not deleted.
    pub name: Name,
    /// What people call it; empty until somebody says.
    #[serde(default)]
    pub title: String,
    /// IANA name, e.g. `Europe/Berlin`: where calendar days begin.
    pub time_zone: String,
    pub created_at: Timestamp,
    #[serde(default)]
    pub state: WorkspaceState,
    /// Its own limits by the names of their budgets; the table's default holds for the others.
    #[serde(default)]
    pub budgets: BTreeMap<String, u64>,
}

impl WorkspaceRow {
    /// A workspace that runs, with the limits of the table.
    pub fn new(id: WorkspaceId, name: Name, time_zone: String, created_at: Timestamp) -> WorkspaceRow {
        let (title, state, budgets) = (String::new(), WorkspaceState::Active, BTreeMap::new());
        WorkspaceRow { id, name, title, time_zone, created_at, state, budgets }
    }
}

/// Whether a workspace runs.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum WorkspaceState {
    #[default]
    Active,
    /// It holds what it held, and nothing of it is taken in, sent or computed until it is resumed.
    Suspended { since: Timestamp },
    /// It is gone for everybody. Its rows are left to be purged; its id is not given again.
    Deleted { at: Timestamp },
}

impl WorkspaceState {
    /// Whether it runs.
    pub fn is_active(self) -> bool {
        self == WorkspaceState::Active
    }

    /// Whether it is gone.
    pub fn is_deleted(self) -> bool {
        matches!(self, WorkspaceState::Deleted { .. })
    }
}

/// The identity rules of a workspace that has its own. A rule that a later release adds has its default in an older row.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct IdentityRulesRow(pub IdentityRules);

/// An entry of the data dictionary.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct DictionaryRow {
    pub subject: Subject,
    pub entry: Entry,
    pub changed_at: Timestamp,
}

/// What is dropped, renamed or hashed of records.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct RecordRulesRow(pub RecordRules);

/// A key, without its text.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct CredentialRow {
    pub id: KeyId,
    /// Whose it is; of none for a host key that was made beside the API.
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
    /// A key as it is made: good until it is revoked, and of no source.
    pub fn new(
        key: &NewKey,
        workspace: WorkspaceId,
        title: impl Into<String>,
        scopes: impl Into<BTreeSet<Scope>>,
        created_at: Timestamp,
    ) -> CredentialRow {
        CredentialRow {
            id: key.id.clone(),
            workspace,
            title: title.into(),
            hash: key.hash.clone(),
            scopes: scopes.into(),
            source: None,
            created_at,
            expires_at: None,
            revoked_at: None,
        }
    }

    /// Whether it is the host's.
    pub fn is_host(&self) -> bool {
        self.scopes.contains(&Scope::WorkspacesAdmin)
    }

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
    /// Present where nobody is given it any more who does not run it yet. Version 1 had none.
    #[serde(default)]
    pub yanked: Option<YankRow>,
    /// Version 1 had none.
    #[serde(default)]
    pub signature: Option<SignatureRow>,
}

/// Why a plugin version is given to nobody any more.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct YankRow {
    pub at: Timestamp,
    pub by: KeyId,
    pub reason: String,
}

/// A plugin version at work in a workspace.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct InstallationRow {
    pub id: InstallationId,
    pub name: InstallationName,
    pub plugin: PluginId,
    pub version: semver::Version,
    /// Valid against the manifest's schema together with what is not shown, defaults filled in.
    pub config: serde_json::Value,
    /// What of the configuration is written and never shown; it lies sealed beside this. Version 2 had none.
    #[serde(default)]
    pub unshown: UnshownRow,
    pub grants: Grants,
    pub mode: InstallationMode,
    /// Why the kernel changed the mode.
    pub mode_reason: Option<String>,
    /// Since when it has the mode.
    pub mode_since: Timestamp,
    /// Versions that were quarantined when another took their place, by the digests of their components, and why: on the way back
    /// they are as they were. Rows before version 6 had none.
    #[serde(default)]
    pub left_quarantined: BTreeMap<String, String>,
    /// What serves again where the kernel stops the version for its faults: the one that ran when this one took its place. Rows
    /// before version 7 had none.
    #[serde(default)]
    pub falls_back_to: Option<FallbackRow>,
    /// The fit in use: the one that somebody chose, or the newest of those that were put in use whose state the version may be
    /// asked about, or where there is none of these, the one that was in use before.
    pub fit: Option<u32>,
    /// Whether somebody chose the fit in use in the place of a newer one, so that none takes its place by itself.
    #[serde(default)]
    pub fit_is_chosen: bool,
    /// Present while the version cannot read the fit in use.
    pub waits_for_fit: Option<WaitRow>,
    /// The time between two polls, where it is not the manifest's; version 1 had none.
    #[serde(default)]
    pub poll_interval_ms: Option<u64>,
    /// When it is fitted without being asked, and which fits are put in use.
    #[serde(default)]
    pub fitting: FittingRow,
    /// Another version that runs beside this one, and of which nothing counts; versions before 3 had none.
    #[serde(default)]
    pub shadow: Option<ShadowRow>,
    /// Another version that is or was tried over what is stored; versions before 4 had none.
    #[serde(default)]
    pub backtest: Option<BacktestRow>,
    /// The write key that was made with it, for a connector.
    pub write_key: Option<KeyId>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Kept after removal, so that what it once wrote can still be named.
    pub removed_at: Option<Timestamp>,
    /// Whether nothing is left of what it kept of its own, some time after its removal; versions before 4 did not say.
    #[serde(default)]
    pub is_cleared: bool,
}

/// What of a configuration is written and never shown.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct UnshownRow {
    /// JSON pointers to what is set.
    pub paths: BTreeSet<String>,
    /// How often it became another: whoever may not see it sees that.
    pub changes: u64,
}

/// A version that ran well until an upgrade took its place.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FallbackRow {
    pub version: semver::Version,
    /// Of its component: other bytes of that version are not those that ran.
    pub digest: String,
    /// What it ran with, without what is not shown, which the upgrade left as it was.
    pub config: serde_json::Value,
}

/// A version that runs beside an installation's live one.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ShadowRow {
    pub version: semver::Version,
    /// What that version makes of the live one's configuration, without what is not shown.
    pub config: serde_json::Value,
    /// What of it is never shown; it lies sealed beside this.
    pub unshown: UnshownRow,
    pub since: Timestamp,
}

/// A version of an installation's plugin that is tried over what is stored.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct BacktestRow {
    pub version: semver::Version,
    /// Without what is not shown, which is the installation's own.
    pub config: serde_json::Value,
    pub since: Timestamp,
}

/// What an installation waits with that is asked for nothing but a fit.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct WaitRow {
    pub since: Timestamp,
    pub why: String,
    /// The version whose values people hold until then, under the names of its outputs.
    pub serves: semver::Version,
}

/// An audience.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AudienceRow {
    #[serde(flatten)]
    pub audience: Audience,
    /// Kept after removal, so that what it once sent can still be named.
    #[serde(default)]
    pub removed_at: Option<Timestamp>,
}

/// How many numbers of a kind were given, so that none is given twice.
#[derive(Debug, Clone, Copy, Serialize, Deserialize)]
#[serde(transparent)]
pub struct CounterRow(pub u32);

/// One line of the audit log.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditRow {
    pub at: Timestamp,
    pub actor: KeyId,
    /// What was done, e.g. `installation.create`.
    pub action: String,
    /// To what, e.g. `orders`.
    pub target: String,
    /// The server's own.
    pub request_id: String,
    pub before: Option<serde_json::Value>,
    pub after: Option<serde_json::Value>,
    /// Its place in the chain, from 1. Version 1 had none, nor what follows.
    #[serde(default)]
    pub number: Option<u64>,
    /// The key's title at that time.
    #[serde(default)]
    pub actor_title: String,
    /// The caller's id of the request.
    #[serde(default)]
    pub client_request_id: Option<String>,
    /// The hash of the row before.
    #[serde(default)]
    pub previous: String,
    /// SHA-256 over the row and `previous`, as `kith::audit` makes it.
    #[serde(default)]
    pub hash: String,
}

impl AuditRow {
    /// The row as it is shown and hashed.
    pub fn entry(self) -> AuditEntry {
        AuditEntry {
            number: self.number,
            at: self.at.to_string(),
            actor: self.actor.to_string(),
            actor_title: self.actor_title,
            action: self.action,
            target: self.target,
            request_id: self.request_id,
            client_request_id: self.client_request_id,
            before: self.before,
            after: self.after,
            previous: self.previous,
            hash: self.hash,
        }
    }
}

/// The last row of the audit log's chain.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct AuditHead {
    pub number: u64,
    pub hash: String,
    /// The time in the row's key. Rows are in the order of the chain, also when the clock was set back.
    pub at: Timestamp,
}

impl Default for AuditHead {
    fn default() -> AuditHead {
        AuditHead { number: 0, hash: BEGINNING.to_owned(), at: Timestamp(0) }
    }
}

#[cfg(test)]
mod tests {
    use kith_store::ReadError;
    use kith_store::row::{decode, encode};

    use super::*;
    use crate::catalogue::FitCause;

    #[test]
    fn rows_read_back_and_newer_ones_are_refused() {
        let name = "default".parse().unwrap();
        let row = WorkspaceRow::new(WorkspaceId(1), name, "UTC".into(), Timestamp(5));
        let mut bytes = encode(&row);
        assert_eq!(bytes[..2], [2, b'{']);
        assert_eq!(decode::<WorkspaceRow>(&bytes).unwrap().time_zone, "UTC");
        bytes[0] = 3;
        assert!(matches!(decode::<WorkspaceRow>(&bytes), Err(ReadError::Version { found: 3, written: 2, .. })));
    }

    #[test]
    fn rows_of_the_version_before_read() {
        let text = r#"{"id":1,"name":"default","time_zone":"Europe/Oslo","created_at":5}"#;
        let read: WorkspaceRow = decode(&[&[1], text.as_bytes()].concat()).unwrap();
        assert_eq!(
            (read.state, read.title.as_str(), read.time_zone.as_str()),
            (WorkspaceState::Active, "", "Europe/Oslo")
        );
        let text = r#"{"id":"ab","workspace":1,"title":"t","hash":"h","scopes":["*"],"source":null,"created_at":5,
            "expires_at":null,"revoked_at":null}"#;
        let read: CredentialRow = decode(&[&[1], text.as_bytes()].concat()).unwrap();
        assert!(!read.is_host(), "an older key of everything is not the host's");
        let text = r#"{"manifest":{"id":"kith/csv","version":"0.1.0","kind":"connector","abi":"0.1","kernel":">=0.1","title":"",
            "description":"","license":"","inputs":[],"outputs":[],"config_schema":null,"capabilities":{"http":[],"secrets":[],
            "kv_bytes":5,"emits":[]},"limits":{}},"manifest_toml":"","digest":"","size_bytes":0,"imports":[],"exports":[],
            "uploaded_at":5,"uploaded_by":"ab"}"#;
        let read: PluginRow = decode(&[&[1], text.as_bytes()].concat()).unwrap();
        assert_eq!((read.yanked, read.manifest.capabilities.kv_reason.as_str()), (None, ""));
        assert!(matches!(decode::<CredentialRow>(b"\0{}"), Err(ReadError::Version { found: 0, .. })));
    }

    #[test]
    fn a_plugin_version_of_before_signatures_is_unsigned() {
        use kith_model::plugin::PluginKind;
        let row = crate::api::tests::installations::plugin_row("level", PluginKind::TagModel);
        let mut body = serde_json::to_value(&row).unwrap();
        assert!(body.as_object_mut().unwrap().remove("signature").is_some());
        let read: PluginRow = decode(&[&[1], body.to_string().as_bytes()].concat()).unwrap();
        assert_eq!((read.manifest.id, read.signature), (row.manifest.id, None));
    }

    #[test]
    fn fits_and_installations_of_before_schedules_read() {
        let before = |row: serde_json::Value, since: &[&str]| {
            let mut row = row;
            for name in since {
                assert!(row.as_object_mut().unwrap().remove(*name).is_some(), "{name}");
            }
            [&[1][..], row.to_string().as_bytes()].concat()
        };
        let row = crate::api::tests::installation_row(3, "level");
        let later = [
            "fitting",
            "fit_is_chosen",
            "poll_interval_ms",
            "unshown",
            "shadow",
            "backtest",
            "left_quarantined",
            "falls_back_to",
        ];
        let read: InstallationRow = decode(&before(serde_json::to_value(&row).unwrap(), &later)).unwrap();
        assert_eq!((read.unshown, read.falls_back_to), (UnshownRow::default(), None), "all of it was shown");
        assert_eq!((read.fitting, read.fit_is_chosen), (FittingRow::default(), false), "each fit was asked for");
        let row = crate::fitting::tests::succeeded(2, "1.0.0", Some(1));
        let read: FitRow = decode(&before(serde_json::to_value(&row).unwrap(), &["cause", "rows", "inputs"])).unwrap();
        assert_eq!((read.version, read.cause, read.rows), (2, FitCause::Asked, None));
    }

    #[test]
    fn values_of_any_shape_read_back() {
        let shapes = serde_json::json!({ "a": [1, null, { "b": 1.5 }], "": { "2": "x" } });
        let row = AuditRow {
            at: Timestamp(1),
            actor: KeyId::kernel(),
            action: "installation.update".into(),
            target: "orders".into(),
            request_id: String::new(),
            before: None,
            after: Some(shapes.clone()),
            number: Some(1),
            actor_title: String::new(),
            client_request_id: None,
            previous: BEGINNING.to_owned(),
            hash: String::new(),
        };
        let read: AuditRow = decode(&encode(&row)).unwrap();
        assert_eq!((read.before, read.after), (None, Some(shapes)));
    }

    #[test]
    fn a_line_of_before_the_chain_reads() {
        let body = br#"{"at":5,"actor":"k","action":"key.create","target":"x","request_id":"r","before":null,"after":{"a":1}}"#;
        let row: AuditRow = decode(&[&[1][..], body].concat()).unwrap();
        assert_eq!((row.action.as_str(), row.number, row.hash.as_str()), ("key.create", None, ""));
    }

    #[test]
    fn the_format_describes_the_rows() {
        fn line<R: Row>() -> String {
            format!("| {} | {} | {} | JSON |", R::WHAT, R::OWNER.name(), R::VERSION)
        }
        let format = include_str!("../../../store/FORMAT.md");
        let lines = [
            line::<WorkspaceRow>(),
            line::<CredentialRow>(),
            line::<PluginRow>(),
            line::<InstallationRow>(),
            line::<AudienceRow>(),
            line::<FitRow>(),
            line::<AuditRow>(),
            line::<AuditHead>(),
            line::<CounterRow>(),
            line::<TrackingPlanRow>(),
            line::<IdentityRulesRow>(),
            line::<DictionaryRow>(),
            line::<RecordRulesRow>(),
            line::<PublisherRow>(),
            line::<SignaturePolicyRow>(),
            line::<HighestVersionRow>(),
            line::<LeftSignatureRow>(),
            line::<UndoRow>(),
        ];
        for line in lines {
            assert!(format.contains(&line), "FORMAT.md lacks {line}");
        }
    }
}
