//! What an installation may do, item by item: what its plugin asks for and why, what the grant gives, where the host's ceiling
//! is, what holds, and who decided.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use kith_host::{PolicyItem, Side};
use serde::Serialize;
use utoipa::ToSchema;

use super::{carrying, named};
use crate::api::extract::{Authority, Path, WrittenJson, right};
use crate::app::App;
use crate::catalogue::{InstallationRow, WorkspaceTables};
use crate::error::{ApiError, Problem};

/// What an installation may do: manifest request ∩ grant ∩ host ceiling.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyBody {
    installation: String,
    /// `vendor/name`.
    plugin: String,
    version: String,
    items: Vec<PolicyItemBody>,
    /// Grants that have no effect, each with the reason.
    without_effect: Vec<String>,
    /// Audiences whose messages the channel refuses, because it does not carry their purpose.
    #[serde(skip_serializing_if = "BTreeSet::is_empty")]
    warnings: BTreeSet<String>,
}

/// One thing that an installation may do, or may not.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PolicyItemBody {
    /// `http`, `mail`, `network`, `secret`, `kv`, `event`, `input`, `recipient`, `purpose`, `sensitive`, `consent` or
    /// `limit`.
    kind: String,
    /// What it is of its kind, e.g. `api.example.com` or `cpu_ms`.
    name: String,
    /// Why the plugin needs it, in the words of its manifest; `null` where the manifest gives no reasons.
    reason: Option<String>,
    /// What the manifest asks for, a number or a list of texts; `null` where it says nothing. Of something sensitive the inputs
    /// that see it.
    #[schema(value_type = Value)]
    asked: Option<Side>,
    /// What the grant gives; `null` where it says nothing.
    #[schema(value_type = Value)]
    granted: Option<Side>,
    /// What the host gives at most; `null` where it says nothing.
    #[schema(value_type = Value)]
    ceiling: Option<Side>,
    /// What holds; `null` for a secret that may not be used and for fuel that is not counted.
    #[schema(value_type = Value)]
    effective: Option<Side>,
    /// `manifest`, `grant` or `host`: whose word it is. Where sides say the same it is the last of them in this order.
    decided_by: String,
}

impl From<PolicyItem> for PolicyItemBody {
    fn from(item: PolicyItem) -> PolicyItemBody {
        let PolicyItem { kind, name, reason, asked, granted, ceiling, effective, decided_by } = item;
        let (kind, decided_by) = (kind.as_str().to_owned(), decided_by.as_str().to_owned());
        PolicyItemBody { kind, name, reason, asked, granted, ceiling, effective, decided_by }
    }
}

pub(super) fn policy_body(app: &App, tables: &WorkspaceTables, row: &InstallationRow) -> Result<PolicyBody, ApiError> {
    let plugin = tables.plugin_of(row).ok_or_else(|| {
        let problem = format!("{} {} is not in the catalogue", row.plugin, row.version);
        ApiError::internal("looking up an installation's plugin", problem)
    })?;
    let items = app.wiring.policy_items(tables, row, plugin);
    Ok(PolicyBody {
        installation: row.name.to_string(),
        plugin: row.plugin.to_string(),
        version: row.version.to_string(),
        items: items.into_iter().map(PolicyItemBody::from).collect(),
        without_effect: app.wiring.effective_policy(&plugin.manifest, &row.grants).without_effect,
        warnings: carrying::refused(tables, row),
    })
}

/// What an installation may do, each thing with the reason of its plugin, what was asked for, granted and allowed by the host, and
/// who decided.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/policy", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")), security(("key" = ["plugins:admin"])),
    responses((status = 200, body = PolicyBody), (status = 404, body = Problem)),
)]
pub(crate) async fn policy(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
) -> Result<WrittenJson, ApiError> {
    let workspace = authority.caller.workspace;
    // A manifest has up to 64 KiB, and its expressions are held against the dictionary.
    app.offload(move |app| {
        let tables = app.catalogue.workspace(workspace)?;
        WrittenJson::of(&policy_body(app, &tables, named(&tables, &name)?)?)
    })
    .await
}
