//! Yanking a version of a plugin: nobody who does not run it yet is given it any more, and whoever runs it goes on and is
//! warned.

use std::sync::Arc;

use axum::extract::State;
use kith_model::budget::table;
use kith_model::plugin::{PluginId, is_dev};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::{PluginBody, held_version, plugin_body};
use crate::api::extract::{Authority, Json, Path, check_text, right};
use crate::api::view::time;
use crate::app::App;
use crate::catalogue::{PluginRow, WorkspaceTables, YankRow};
use crate::error::{ApiError, Problem};

/// Why a version is yanked, or is not any more.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct YankReason {
    /// What people who run it, or would, have to know; 256 bytes at most.
    #[schema(min_length = 1)]
    reason: String,
}

/// That a version is yanked: it runs where it is installed, and is given to nobody else.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct YankedBody {
    at: String,
    /// The key that did it.
    by: String,
    reason: String,
    /// Of an installation, the version to take instead; `null` where the server holds none.
    instead: Option<String>,
    /// Whether `instead` is below the highest version that was ever installed here: taking it needs `allow_downgrade: true`.
    allow_downgrade: bool,
}

/// That a version is yanked, where it is.
pub(super) fn yanked(row: &PluginRow) -> Option<YankedBody> {
    let YankRow { at, by, reason } = row.yanked.as_ref()?;
    let (instead, allow_downgrade) = (None, false);
    Some(YankedBody { at: time(*at), by: by.to_string(), reason: reason.clone(), instead, allow_downgrade })
}

/// The same of what an installation runs.
pub(crate) fn yanked_below(tables: &WorkspaceTables, row: &PluginRow) -> Option<YankedBody> {
    let other = offered(tables, &row.manifest.id);
    let instead = other.map(|other| other.manifest.version.to_string());
    let is_below = |other: &PluginRow| other.manifest.version < row.manifest.version || is_way_back(tables, other);
    let allow_downgrade = other.is_some_and(|other| is_below(other));
    yanked(row).map(|yanked| YankedBody { instead, allow_downgrade, ..yanked })
}

/// Whether a version is below the highest of its plugin that was ever installed.
fn is_way_back(tables: &WorkspaceTables, row: &PluginRow) -> bool {
    tables.highest_version(&row.manifest.id).is_some_and(|highest| row.manifest.version < *highest)
}

/// The version that is installed where nobody names one: the newest that is not yanked, a pre-release only where there is nothing
/// else, and never one of the dev channel.
pub(crate) fn offered<'a>(tables: &'a WorkspaceTables, plugin: &'a PluginId) -> Option<&'a Arc<PluginRow>> {
    let standing = || tables.versions(plugin).filter(|row| row.yanked.is_none() && !is_dev(&row.manifest.version));
    standing().rfind(|row| row.manifest.version.pre.is_empty()).or_else(|| standing().next_back())
}

/// Insist that a version may be given to whoever does not run it yet.
///
/// # Errors
/// Why it is yanked, and which version to take.
pub(crate) fn insist_on_offered(tables: &WorkspaceTables, row: &PluginRow) -> Result<(), ApiError> {
    let Some(yanked) = &row.yanked else { return Ok(()) };
    let (id, version) = (&row.manifest.id, &row.manifest.version);
    let instead = match offered(tables, id) {
        Some(other) if is_way_back(tables, other) => {
            format!("take {} with `allow_downgrade: true`", other.manifest.version)
        }
        Some(other) => format!("take {}", other.manifest.version),
        None => "there is no other version here; upload one".to_owned(),
    };
    let message = format!("{id} {version} was yanked: {}; {instead}", yanked.reason);
    Err(ApiError::Conflict { code: "version-yanked", message })
}

/// Whether a version is to be yanked.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Wanted {
    Yanked,
    Offered,
}

/// Yank a version: it is not installed any more, and no installation is given it. Those that run it go on, and say so.
#[utoipa::path(
    post, path = "/api/v1/plugins/{vendor}/{name}/{version}/yank", tag = "plugins",
    params(("vendor" = String, Path), ("name" = String, Path), ("version" = String, Path)),
    security(("key" = ["plugins:admin"])), request_body = YankReason,
    responses(
        (status = 200, body = PluginBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn yank(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(version): Path<(String, String, String)>,
    Json(reason): Json<YankReason>,
) -> Result<Json<PluginBody>, ApiError> {
    set(app, authority, version, reason, Wanted::Yanked).await
}

/// Offer a yanked version again.
#[utoipa::path(
    post, path = "/api/v1/plugins/{vendor}/{name}/{version}/unyank", tag = "plugins",
    params(("vendor" = String, Path), ("name" = String, Path), ("version" = String, Path)),
    security(("key" = ["plugins:admin"])), request_body = YankReason,
    responses(
        (status = 200, body = PluginBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn unyank(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(version): Path<(String, String, String)>,
    Json(reason): Json<YankReason>,
) -> Result<Json<PluginBody>, ApiError> {
    set(app, authority, version, reason, Wanted::Offered).await
}

async fn set(
    app: Arc<App>,
    authority: Authority<right::PluginsAdmin>,
    (vendor, name, version): (String, String, String),
    YankReason { reason }: YankReason,
    wanted: Wanted,
) -> Result<Json<PluginBody>, ApiError> {
    check_text(&table::TITLE_TEXT, &reason)?;
    if reason.trim().is_empty() {
        return Err(ApiError::at("reason", "say why, for the people who run it"));
    }
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    app.offload(move |app| {
        let row = app.change(workspace, actor, |draft| {
            let row = held_version(draft.tables(), &vendor, &name, &version)?;
            let present = row.yanked.as_ref().map(|yanked| yanked.reason.as_str());
            let (action, yanked) = match wanted {
                // Nothing is new.
                Wanted::Yanked if present == Some(reason.as_str()) => return Ok(row),
                Wanted::Offered if present.is_none() => return Ok(row),
                Wanted::Yanked => {
                    let (at, by) = (draft.now(), draft.actor().clone());
                    ("plugin.yank", Some(YankRow { at, by, reason: reason.clone() }))
                }
                Wanted::Offered => ("plugin.unyank", None),
            };
            let target = format!("{}@{}", row.manifest.id, row.manifest.version);
            let before = present.map(|reason| json!({ "yanked": reason }));
            draft.audit(action, target, before, Some(json!({ "reason": reason })))?;
            let row = PluginRow { yanked, ..PluginRow::clone(&row) };
            draft.put_plugin(row.clone());
            Ok(Arc::new(row))
        })?;
        Ok(Json(plugin_body(&app.catalogue.tables(), &*app.catalogue.workspace(workspace)?, &row)))
    })
    .await
}
