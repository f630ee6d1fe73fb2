//! Keys: made (shown once), listed, revoked.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::id::WorkspaceId;
use kith_model::plugin::PluginKind;
use kith_model::time::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Authority, Json, Path, right};
use super::installations::named;
use super::view::{Page, time};
use crate::app::App;
use crate::auth::{self, Caller, KeyId, KeyKind, Scope};
use crate::catalogue::{CredentialRow, WorkspaceTables};
use crate::error::{ApiError, Problem};

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// What it is for, for people.
    title: String,
    /// What it may do. A key gives no scope that it does not have itself. Absent for a write key.
    #[serde(default)]
    scopes: BTreeSet<Scope>,
    /// Make a write key for this source: it can ingest into it and do nothing else.
    source: Option<String>,
    /// RFC 3339; never unless told.
    expires_at: Option<String>,
}

/// A key without its text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyBody {
    id: String,
    title: String,
    scopes: BTreeSet<Scope>,
    /// The one source that it may feed.
    source: Option<String>,
    created_at: String,
    expires_at: Option<String>,
    revoked_at: Option<String>,
}

/// A key with its text, which is shown this once.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct NewKeyBody {
    key: String,
    #[serde(flatten)]
    about: KeyBody,
}

fn key_body(tables: &WorkspaceTables, row: &CredentialRow) -> KeyBody {
    KeyBody {
        id: row.id.to_string(),
        title: row.title.clone(),
        scopes: row.scopes.clone(),
        source: row.source.map(|source| tables.installation_name(source)),
        created_at: time(row.created_at),
        expires_at: row.expires_at.map(time),
        revoked_at: row.revoked_at.map(time),
    }
}

fn wanted_scopes(caller: &Caller, wanted: &NewKey) -> Result<BTreeSet<Scope>, ApiError> {
    if wanted.source.is_some() {
        return match wanted.scopes.iter().find(|scope| **scope != Scope::Ingest) {
            None if !caller.may(Scope::Ingest) && !caller.may(Scope::PluginsAdmin) => Err(ApiError::Denied {
                message: "the key that asks may neither ingest nor install sources itself".to_owned(),
            }),
            None => Ok([Scope::Ingest].into()),
            Some(_) => Err(ApiError::at("scopes", "a source's write key can only ingest; leave the scopes out")),
        };
    }
    if wanted.scopes.is_empty() {
        return Err(ApiError::at("scopes", "name at least one scope, or a source for a write key"));
    }
    match wanted.scopes.iter().find(|scope| !caller.may(**scope)) {
        None => Ok(wanted.scopes.clone()),
        Some(scope) => {
            let message = format!("the key that asks has no scope `{}` itself", scope.as_str());
            Err(ApiError::Denied { message })
        }
    }
}

/// Make a key. The answer shows it, this once.
#[utoipa::path(
    post, path = "/api/v1/keys", tag = "keys", security(("key" = ["keys:admin"])), request_body = NewKey,
    responses((status = 201, body = NewKeyBody), (status = 400, body = Problem), (status = 403, body = Problem)),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    authority: Authority<right::KeysAdmin>,
    Json(wanted): Json<NewKey>,
) -> Result<(StatusCode, Json<NewKeyBody>), ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    let scopes = wanted_scopes(&authority.caller, &wanted)?;
    let expires_at: Option<Timestamp> = wanted
        .expires_at
        .as_deref()
        .map(|text| {
            text.parse().map_err(|error: kith_model::time::InvalidTime| ApiError::at("expires_at", error.to_string()))
        })
        .transpose()?;
    app.offload(move |app| {
        app.change(workspace, actor, |draft| {
            draft.insist_on_room_for_key()?;
            let source = wanted.source.as_deref().map(|name| {
                let row = named(draft.tables(), name)?;
                let plugin = draft.tables().plugin_of(row);
                match plugin.is_some_and(|plugin| plugin.manifest.kind == PluginKind::Connector) {
                    true => Ok(row.id),
                    false => Err(ApiError::at("source", format!("`{name}` is no connector"))),
                }
            });
            let source = source.transpose()?;
            let kind = if source.is_some() { KeyKind::Write } else { KeyKind::Api };
            let key = auth::generate(kind).map_err(|error| ApiError::internal("making a key", error))?;
            let row = CredentialRow {
                id: key.id,
                workspace,
                title: wanted.title,
                hash: key.hash,
                scopes,
                source,
                created_at: draft.now(),
                expires_at,
                revoked_at: None,
            };
            let about = key_body(draft.tables(), &row);
            draft.audit("key.create", &row.id, None, Some(json!({ "title": row.title, "scopes": row.scopes })))?;
            draft.put_credential(row);
            Ok((StatusCode::CREATED, Json(NewKeyBody { key: key.text, about })))
        })
    })
    .await
}

/// All keys of the workspace, without their text.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "keys", security(("key" = ["keys:admin"])),
    responses((status = 200, body = Page<KeyBody>)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::KeysAdmin>,
) -> Result<Json<Page<KeyBody>>, ApiError> {
    let workspace = authority.caller.workspace;
    let tables = app.catalogue.tables();
    let here = app.catalogue.workspace(workspace)?;
    let keys = tables.credentials.values().filter(|row| row.workspace == workspace);
    Ok(Json(Page::whole(keys.map(|row| key_body(&here, row)).collect())))
}

/// Revoke a key: from the next request on it is unknown.
#[utoipa::path(
    delete, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path)), security(("key" = ["keys:admin"])),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)),
)]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    authority: Authority<right::KeysAdmin>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    let (id, caller) = (KeyId::named(&id), authority.caller);
    app.offload(move |app| {
        app.change(workspace, actor, |draft| {
            // The draft is held, so nobody else revokes meanwhile.
            let tables = app.catalogue.tables();
            let row = tables.credentials.get(&id).filter(|row| row.workspace == workspace && row.revoked_at.is_none());
            let missing =
                || ApiError::missing(format!("no key `{}`", id.as_str().chars().take(64).collect::<String>()));
            let row = row.ok_or_else(missing)?;
            if row.is_host() && !caller.may(Scope::WorkspacesAdmin) {
                let message = "the key is the host's; only a host key revokes it".to_owned();
                return Err(ApiError::Denied { message });
            }
            if is_last_admin(&tables.credentials, row, workspace, draft.now()) {
                let message = "this is the last key that can make keys; make another one first".to_owned();
                return Err(ApiError::Conflict { code: "last-admin-key", message });
            }
            if row.is_host() && is_last_host_key(&tables.credentials, row, draft.now()) {
                let message = "this is the last host key; make another one first".to_owned();
                return Err(ApiError::Conflict { code: "last-host-key", message });
            }
            draft.audit("key.revoke", &row.id, Some(json!({ "title": row.title, "scopes": row.scopes })), None)?;
            draft.put_credential(CredentialRow { revoked_at: Some(draft.now()), ..CredentialRow::clone(row) });
            Ok(StatusCode::NO_CONTENT)
        })
    })
    .await
}

/// Without one nobody could make a workspace or resume one.
fn is_last_host_key(
    all: &std::collections::BTreeMap<KeyId, Arc<CredentialRow>>,
    row: &CredentialRow,
    now: Timestamp,
) -> bool {
    !all.values().any(|other| other.id != row.id && other.is_host() && other.is_good(now))
}

fn is_last_admin(
    all: &std::collections::BTreeMap<KeyId, Arc<CredentialRow>>,
    row: &CredentialRow,
    workspace: WorkspaceId,
    now: Timestamp,
) -> bool {
    let makes_keys = |row: &CredentialRow| {
        let may = row.scopes.contains(&Scope::KeysAdmin) || row.scopes.contains(&Scope::All);
        may && row.workspace == workspace && row.is_good(now)
    };
    makes_keys(row) && !all.values().any(|other| other.id != row.id && makes_keys(other))
}
