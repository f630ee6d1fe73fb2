//! The routes of fits: one begins, and all are listed. What a fit does and how it is kept is `fitting.rs`'s part.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kith_model::id::{InstallationId, WorkspaceId};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Authority, PageQuery, Path, Query, right};
use super::installations::named;
use super::view::{Page, time};
use crate::app::App;
use crate::catalogue::{FitRow, FitStatus, InstallationRow};
use crate::error::{ApiError, Problem};
use crate::fitting;

/// One fit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FitBody {
    /// From 1, one more with each fit of the installation.
    version: u32,
    status: FitStatus,
    /// Whether its state is the one in use.
    in_use: bool,
    plugin_version: String,
    digest: String,
    /// The form of its state, if the plugin declared one.
    state_version: Option<u32>,
    started_at: String,
    finished_at: Option<String>,
    /// Rows read of how many, while running.
    progress: Option<FitProgressBody>,
    /// The plugin's own figures on how good the fit is.
    metrics: BTreeMap<String, f64>,
    state_bytes: u64,
    error: Option<String>,
}

/// How far a fit is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FitProgressBody {
    rows_done: u64,
    rows_total: u64,
}

fn fit_body(app: &App, workspace: WorkspaceId, installation: &InstallationRow, row: &FitRow) -> FitBody {
    let under_way = app.kernel.fit_progress(workspace, row.installation);
    let under_way = under_way.filter(|_| row.status == FitStatus::Running);
    FitBody {
        version: row.version,
        status: row.status,
        in_use: installation.fit == Some(row.version),
        plugin_version: row.plugin_version.to_string(),
        digest: row.digest.clone(),
        state_version: row.state_version,
        started_at: time(row.started_at),
        finished_at: row.finished_at.map(time),
        progress: under_way.map(|fit| FitProgressBody { rows_done: fit.rows_done, rows_total: fit.rows_total }),
        metrics: row.metrics.iter().cloned().collect(),
        state_bytes: row.state_bytes,
        error: row.error.clone(),
    }
}

/// Begin a fit. It goes on in the background; `…/fits` shows how far it is, and its state is used once it is done.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/fit", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")), security(("key" = ["plugins:admin"])),
    responses((status = 202, body = FitBody), (status = 404, body = Problem), (status = 409, body = Problem)),
)]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
) -> Result<(StatusCode, Json<FitBody>), ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    let author = actor.key.clone();
    let begun = app.offload(move |app| fitting::begin(app, workspace, actor, &name)).await?;
    let body = {
        let tables = app.catalogue.workspace(workspace)?;
        let installation = tables.installations.get(&begun.row.installation);
        let installation = installation.ok_or_else(|| ApiError::missing("the installation was removed meanwhile"))?;
        fit_body(&app, workspace, installation, &begun.row)
    };
    fitting::run(&app, workspace, author, begun);
    Ok((StatusCode::ACCEPTED, Json(body)))
}

/// All fits of an installation, newest first.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/fits", tag = "installations",
    params(("id" = String, Path, description = "the installation's name"), PageQuery),
    security(("key" = ["plugins:admin"])),
    responses((status = 200, body = Page<FitBody>), (status = 400, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<FitBody>>, ApiError> {
    let workspace = authority.caller.workspace;
    let tables = app.catalogue.workspace(workspace)?;
    let installation = named(&tables, &name)?;
    let of = |id: InstallationId| (id, 0)..=(id, u32::MAX);
    // The newest comes first, so a row's place is how far it is from the last version there can be.
    let fits = tables.fits.range(of(installation.id)).rev().map(|((_, version), row)| (u32::MAX - version, row));
    Page::of(fits, &page, |row| Ok(fit_body(&app, workspace, installation, row))).map(Json)
}
