//! Keys: made (shown once), listed, revoked.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::budget::table;
use kith_model::plugin::PluginKind;
use kith_model::time::Timestamp;
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::check_text;
use super::extract::{Authority, Json, PageQuery, Path, Query, right};
use super::installations::named;
use super::view::{Page, time};
use crate::app::App;
use crate::auth::{self, Caller, KeyId, KeyKind, Role, Scope};
use crate::catalogue::{Actor, CredentialRow, WorkspaceTables};
use crate::error::{ApiError, Problem};

/// A key to make.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewKey {
    /// What it is for, for people.
    title: String,
    /// What it may do. A key gives no scope that it does not have itself. Absent for a write key.
    #[serde(default, deserialize_with = "distinct")]
    scopes: BTreeSet<Scope>,
    /// A named set of scopes, beside `scopes`: `analyst` looks at people, audiences and what was sent, `auditor` reads who did
    /// what, `operator` watches that the work gets on.
    role: Option<Role>,
    /// Make a write key for this source: it can ingest into it and do nothing else. Of a channel it is the key of the
    /// address under which its receiver reports, `/callbacks/KEY`.
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    source: Option<String>,
    /// RFC 3339, still to come; never unless told.
    #[schema(format = DateTime)]
    expires_at: Option<String>,
}

/// Each scope once: a list in which one stands twice was made by mistake.
fn distinct<'de, D: Deserializer<'de>>(deserializer: D) -> Result<BTreeSet<Scope>, D::Error> {
    let listed = Vec::<Scope>::deserialize(deserializer)?;
    let mut distinct = BTreeSet::new();
    match listed.into_iter().find(|scope| !distinct.insert(*scope)) {
        None => Ok(distinct),
        Some(twice) => Err(D::Error::custom(format!("the scope `{}` is named twice", twice.as_str()))),
    }
}

/// A key without its text.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KeyBody {
    id: String,
    title: String,
    scopes: BTreeSet<Scope>,
    /// The role that these scopes are, if they are one.
    role: Option<Role>,
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
        role: Role::of(&row.scopes),
        source: row.source.map(|source| tables.installation_name(source)),
        created_at: time(row.created_at),
        expires_at: row.expires_at.map(time),
        revoked_at: row.revoked_at.map(time),
    }
}

fn wanted_scopes(caller: &Caller, wanted: &NewKey) -> Result<BTreeSet<Scope>, ApiError> {
    if wanted.source.is_some() {
        if wanted.role.is_some() {
            return Err(ApiError::at("role", "a source's write key can only ingest; leave the role out"));
        }
        return match wanted.scopes.iter().find(|scope| **scope != Scope::Ingest) {
            None if !caller.may(Scope::Ingest) && !caller.may(Scope::PluginsAdmin) => Err(ApiError::Denied {
                message: "the key that asks may neither ingest nor install sources itself".to_owned(),
            }),
            None => Ok([Scope::Ingest].into()),
            Some(_) => Err(ApiError::at("scopes", "a source's write key can only ingest; leave the scopes out")),
        };
    }
    let of_role = wanted.role.map(Role::scopes).unwrap_or_default();
    let scopes: BTreeSet<Scope> = wanted.scopes.union(&of_role).copied().collect();
    if scopes.is_empty() {
        return Err(ApiError::at("scopes", "name at least one scope, a role, or a source for a write key"));
    }
    match scopes.iter().find(|scope| !caller.may(**scope)) {
        None => Ok(scopes),
        Some(scope) => {
            let message = format!("the key that asks has no scope `{}` itself", scope.as_str());
            Err(ApiError::Denied { message })
        }
    }
}

/// Make a key. The answer shows it, this once.
#[utoipa::path(
    post, path = "/api/v1/keys", tag = "keys", security(("key" = ["keys:admin"])), request_body = NewKey,
    responses(
        (status = 201, body = NewKeyBody), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem, description = "there is no such source"), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    authority: Authority<right::KeysAdmin>,
    Json(wanted): Json<NewKey>,
) -> Result<(StatusCode, Json<NewKeyBody>), ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    check_text(&table::TITLE_TEXT, &wanted.title)?;
    let scopes = wanted_scopes(&authority.caller, &wanted)?;
    let is_host = scopes.contains(&Scope::WorkspacesAdmin);
    let expires_at: Option<Timestamp> = wanted
        .expires_at
        .as_deref()
        .map(|text| {
            let end = text
                .parse::<Timestamp>()
                .map_err(|error: kith_model::time::InvalidTime| ApiError::at("expires_at", error.to_string()))?;
            match end > app.clock.now() {
                true => Ok(end),
                false => Err(ApiError::at("expires_at", "is not in the future; such a key would never be good")),
            }
        })
        .transpose()?;
    app.offload(move |app| {
        let made = app.change(workspace, actor.clone(), |draft| {
            draft.insist_on_room_for_key()?;
            let source = wanted.source.as_deref().map(|name| {
                let row = named(draft.tables(), name)?;
                let plugin = draft.tables().plugin_of(row);
                // A channel's key is the address under which its receiver reports.
                match plugin.map(|plugin| plugin.manifest.kind) {
                    Some(PluginKind::Connector | PluginKind::Channel) => Ok(row.id),
                    _ => Err(ApiError::at("source", format!("`{name}` is no connector and no channel"))),
                }
            });
            let source = source.transpose()?;
            let kind = if source.is_some() { KeyKind::Write } else { KeyKind::Api };
            let key = auth::generate(kind).map_err(|error| ApiError::internal("making a key", error))?;
            let made = CredentialRow::new(&key, workspace, wanted.title, scopes, draft.now());
            let row = CredentialRow { source, expires_at, ..made };
            let about = key_body(draft.tables(), &row);
            draft.audit("key.create", &row.id, None, Some(json!({ "title": row.title, "scopes": row.scopes })))?;
            draft.put_credential(row);
            Ok(NewKeyBody { key: key.text, about })
        })?;
        if is_host {
            write_down_at_host(app, actor, "host-key.create", &KeyId::named(&made.about.id))?;
        }
        Ok((StatusCode::CREATED, Json(made)))
    })
    .await
}

/// What becomes of a host key is in the host's log, too.
fn write_down_at_host(app: &App, actor: Actor, action: &'static str, id: &KeyId) -> Result<(), ApiError> {
    // The key that did it may be the one that it has just revoked.
    let mut change = app.catalogue.begin_host(actor);
    change.audit_host_key(action, id);
    drop(change.commit()?);
    Ok(())
}

/// All keys of the workspace, without their text.
#[utoipa::path(
    get, path = "/api/v1/keys", tag = "keys", params(PageQuery), security(("key" = ["keys:admin"])),
    responses((status = 200, body = Page<KeyBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::KeysAdmin>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<KeyBody>>, ApiError> {
    let workspace = authority.caller.workspace;
    let tables = app.catalogue.tables();
    let here = app.catalogue.workspace(workspace)?;
    let keys = tables.credentials.values().filter(|row| row.workspace == workspace);
    let keys = keys.map(|row| (row.id.to_string(), row));
    Page::of(keys, &page, |row| Ok(key_body(&here, row))).map(Json)
}

/// Revoke a key: from the next request on it is unknown. A key revokes only what it could make, and never the last that could
/// make another.
#[utoipa::path(
    delete, path = "/api/v1/keys/{id}", tag = "keys", params(("id" = String, Path)), security(("key" = ["keys:admin"])),
    responses(
        (status = 204), (status = 403, body = Problem), (status = 404, body = Problem), (status = 409, body = Problem),
    ),
)]
pub(crate) async fn revoke(
    State(app): State<Arc<App>>,
    authority: Authority<right::KeysAdmin>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    let (id, caller) = (KeyId::named(&id), authority.caller);
    app.offload(move |app| {
        let was_host = app.change(workspace, actor.clone(), |draft| {
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
            if let Some(beyond) = beyond(&caller, row) {
                let message = format!(
                    "the key has the scope `{}`, which the key that asks has not itself; one that has it revokes it",
                    beyond.as_str()
                );
                return Err(ApiError::Denied { message });
            }
            let others: Vec<&CredentialRow> = (tables.credentials.values().map(AsRef::as_ref))
                .filter(|other| other.workspace == workspace && other.id != row.id && other.is_good(draft.now()))
                .collect();
            if let Some(scope) = lost_scope(row, &others).filter(|_| row.is_good(draft.now())) {
                let code = match scope {
                    Scope::KeysAdmin | Scope::All => "last-admin-key",
                    _ => "last-holder",
                };
                let message = format!(
                    "no other key without an earlier end could give the scope `{}` any more; make another one first",
                    scope.as_str()
                );
                return Err(ApiError::Conflict { code, message });
            }
            if row.is_host() && is_last_host_key(&tables.credentials, row, draft.now()) {
                let message = "this is the last host key; make another one first".to_owned();
                return Err(ApiError::Conflict { code: "last-host-key", message });
            }
            draft.audit("key.revoke", &row.id, Some(json!({ "title": row.title, "scopes": row.scopes })), None)?;
            draft.put_credential(CredentialRow { revoked_at: Some(draft.now()), ..CredentialRow::clone(row) });
            Ok(row.is_host())
        })?;
        if was_host {
            write_down_at_host(app, actor, "host-key.revoke", &id)?;
        }
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// A scope of a key that the caller could not give it.
fn beyond(caller: &Caller, row: &CredentialRow) -> Option<Scope> {
    // Whoever may install a source may make and replace its write keys.
    let may = |scope: Scope| caller.may(scope) || (row.source.is_some() && caller.may(Scope::PluginsAdmin));
    row.scopes.iter().copied().find(|scope| *scope != Scope::WorkspacesAdmin && !may(*scope))
}

/// Without one nobody could make a workspace or resume one.
fn is_last_host_key(
    all: &std::collections::BTreeMap<KeyId, Arc<CredentialRow>>,
    row: &CredentialRow,
    now: Timestamp,
) -> bool {
    !all.values().any(|other| other.id != row.id && other.is_host() && other.is_good(now))
}

/// A scope that nobody could have any more without the key `row`. A key gives no scope that it has not itself, so that of those
/// which make keys another has to remain for each scope that this one could give. A source's write key is replaced by
/// whoever may install sources.
fn lost_scope(row: &CredentialRow, others: &[&CredentialRow]) -> Option<Scope> {
    if row.source.is_some() {
        return None;
    }
    let has = |row: &CredentialRow, scope: Scope| row.scopes.contains(&scope) || row.scopes.contains(&Scope::All);
    let gives = |row: &CredentialRow, scope: Scope| has(row, Scope::KeysAdmin) && has(row, scope);
    // One that ends sooner only puts off the loss.
    let outlives = |other: &CredentialRow| match (other.expires_at, row.expires_at) {
        (None, _) => true,
        (Some(end), Some(own)) => end >= own,
        (Some(_), None) => false,
    };
    let lasting: Vec<&CredentialRow> =
        others.iter().copied().filter(|other| other.source.is_none() && outlives(other)).collect();
    let is_kept = |scope: Scope| match gives(row, scope) {
        true => lasting.iter().any(|other| gives(other, scope)),
        false => lasting.iter().any(|other| has(other, scope)),
    };
    let is_last_of_all =
        row.scopes.contains(&Scope::All) && !lasting.iter().any(|other| other.scopes.contains(&Scope::All));
    // Scopes that are still to come are in `*` alone.
    let all = is_last_of_all.then_some(Scope::All);
    Scope::EACH.into_iter().find(|scope| has(row, *scope) && !is_kept(*scope)).or(all)
}

#[cfg(test)]
mod tests {
    use kith_model::id::WorkspaceId;

    use super::*;

    fn key(id: &str, scopes: &[Scope], expires_at: Option<i64>) -> CredentialRow {
        CredentialRow {
            id: KeyId::named(id),
            workspace: WorkspaceId(1),
            title: String::new(),
            hash: String::new(),
            scopes: scopes.iter().copied().collect(),
            source: None,
            created_at: Timestamp(0),
            expires_at: expires_at.map(Timestamp),
            revoked_at: None,
        }
    }

    #[test]
    fn each_scope_keeps_somebody_who_can_give_it() {
        use Scope::{All, AudiencesRead, KeysAdmin, PluginsAdmin};
        let all = || key("all", &[All], None);
        let lost = |row: &CredentialRow, others: &[CredentialRow]| {
            lost_scope(row, &others.iter().collect::<Vec<_>>()).map(Scope::as_str)
        };
        assert_eq!(lost(&all(), &[]), Some("keys:admin"));
        assert_eq!(lost(&all(), &[key("k", &[KeysAdmin], None)]), Some("plugins:admin"));
        assert_eq!(
            lost(&all(), &[key("k", &[KeysAdmin], None), key("p", &[PluginsAdmin], None)]),
            Some("plugins:admin")
        );
        assert_eq!(lost(&all(), &[key("e", &[All], Some(9))]), Some("keys:admin"), "it ends");
        assert_eq!(lost(&key("x", &[All], Some(5)), &[key("e", &[All], Some(9))]), None, "it ends later");
        assert_eq!(lost(&all(), &[key("b", &[All], None)]), None);
        assert_eq!(lost(&all(), &[key("each", &Scope::EACH, None)]), Some("*"), "the last that has all");
        assert_eq!(lost(&key("k", &[KeysAdmin, AudiencesRead], None), &[all()]), None);
        assert_eq!(lost(&key("a", &[AudiencesRead], None), &[]), Some("audiences:read"));
        let write =
            CredentialRow { source: Some(kith_model::id::InstallationId(1)), ..key("w", &[Scope::Ingest], None) };
        assert_eq!(lost(&write, &[]), None);
        assert_eq!(lost(&key("i", &[Scope::Ingest], None), &[write]), Some("ingest"));
    }
}
