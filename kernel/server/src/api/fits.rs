//! Fitting: training a scorer or tag model on the workspace's history, in the background, and keeping every result.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{Fitted, InstallationMode};
use serde::Serialize;
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Authority, Path, right};
use super::installations::named;
use super::plugins::computes;
use super::view::{Page, time};
use crate::app::App;
use crate::catalogue::{Actor, FitRow, FitStatus, InstallationRow};
use crate::error::{ApiError, Problem};

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
    let under_way = app.fits.progress(workspace, row.installation).filter(|fit| fit.version == row.version);
    FitBody {
        version: row.version,
        status: row.status,
        in_use: installation.fit == Some(row.version),
        plugin_version: row.plugin_version.to_string(),
        digest: row.digest.clone(),
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
    let author = actor.clone();
    let row = app.offload(move |app| note_begin(app, workspace, author, &name)).await?;
    let body = {
        let tables = app.catalogue.workspace(workspace)?;
        let installation = tables.installations.get(&row.installation);
        let installation = installation.ok_or_else(|| ApiError::missing("the installation was removed meanwhile"))?;
        fit_body(&app, workspace, installation, &row)
    };
    tokio::spawn(async move { app.offload(move |app| carry_out(app, workspace, &actor, row)).await });
    Ok((StatusCode::ACCEPTED, Json(body)))
}

/// Write down that a fit begins; from here on nobody else begins one of the same installation.
fn note_begin(app: &App, workspace: WorkspaceId, actor: Actor, name: &str) -> Result<FitRow, ApiError> {
    let mut begun = None;
    let noted = app.change(workspace, actor, |draft| {
        let installation = InstallationRow::clone(named(draft.tables(), name)?);
        let plugin = draft.tables().plugin_of(&installation).cloned();
        let plugin = plugin.filter(|plugin| computes(plugin.manifest.kind)).ok_or_else(|| ApiError::Conflict {
            code: "not-fitted",
            message: format!("`{name}` is neither a tag model nor a scorer; only those are fitted"),
        })?;
        if installation.mode != InstallationMode::Live {
            let message = format!("`{name}` is switched off; set its mode to `live` first");
            return Err(ApiError::Conflict { code: "not-live", message });
        }
        let fits = draft.tables().fits.range((installation.id, 0)..=(installation.id, u32::MAX));
        let version = fits.last().map_or(1, |((_, version), _)| version + 1);
        if !app.fits.begin(workspace, installation.id, version) {
            let message = format!("a fit of `{name}` is under way; wait for it");
            return Err(ApiError::Conflict { code: "fit-under-way", message });
        }
        begun = Some(installation.id);
        let row = FitRow {
            installation: installation.id,
            version,
            status: FitStatus::Running,
            plugin_version: installation.version,
            digest: plugin.digest.clone(),
            started_at: draft.now(),
            finished_at: None,
            metrics: Vec::new(),
            state_bytes: 0,
            error: None,
        };
        draft.put_fit(row.clone())?;
        draft.audit("installation.fit", name, None, Some(json!({ "fit": version })))?;
        Ok(row)
    });
    if let (Err(_), Some(installation)) = (&noted, begun) {
        app.fits.end(workspace, installation);
    }
    noted
}

/// Fit, and keep what came of it.
fn carry_out(app: &App, workspace: WorkspaceId, actor: &Actor, row: FitRow) {
    let installation = row.installation;
    let progress = |done, total| app.fits.advance(workspace, installation, done, total);
    let outcome = app.kernel.fit(workspace, installation, &progress).map_err(|error| error.to_string());
    if let Err(error) = &outcome {
        tracing::warn!(
            workspace = workspace.0,
            installation = installation.0,
            fit = row.version,
            error,
            "a fit failed"
        );
    }
    if let Err(error) = keep(app, workspace, actor.clone(), row, outcome) {
        tracing::error!(workspace = workspace.0, installation = installation.0, ?error, "a fit's result was not kept");
    }
    app.fits.end(workspace, installation);
}

fn keep(
    app: &App,
    workspace: WorkspaceId,
    actor: Actor,
    row: FitRow,
    outcome: Result<Fitted, String>,
) -> Result<(), ApiError> {
    let id = row.installation;
    let stored = app.change(workspace, actor.clone(), |draft| {
        let present = draft.tables().installations.get(&id).filter(|row| row.removed_at.is_none());
        let Some(present) = present.map(|row| InstallationRow::clone(row)) else { return Ok(()) };
        let finished_at = Some(draft.now());
        match &outcome {
            Ok(fitted) => {
                let mut done = FitRow { status: FitStatus::Succeeded, finished_at, ..row.clone() };
                done.metrics.clone_from(&fitted.metrics);
                done.state_bytes = fitted.state.len() as u64;
                draft.put_fit(done)?;
                draft.put_state(id, row.version, fitted.state.clone());
                draft.put_installation(InstallationRow { fit: Some(row.version), ..present })?;
            }
            Err(error) => {
                let error = Some(error.clone());
                draft.put_fit(FitRow { status: FitStatus::Failed, finished_at, error, ..row.clone() })?;
            }
        }
        Ok(())
    });
    // A state that the kernel does not take is a failed fit too; what was in use stays in use.
    stored.or_else(|refused| {
        tracing::error!(?refused, "a fitted state was not put to use");
        let error = Some("the fitted state could not be put to use; the log has more".to_owned());
        app.change(workspace, actor, |draft| {
            let finished_at = Some(draft.now());
            draft.put_fit(FitRow { status: FitStatus::Failed, finished_at, error, ..row.clone() })?;
            Ok(())
        })
    })
}

/// All fits of an installation, newest first.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/fits", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")), security(("key" = ["plugins:admin"])),
    responses((status = 200, body = Page<FitBody>), (status = 404, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
) -> Result<Json<Page<FitBody>>, ApiError> {
    let workspace = authority.caller.workspace;
    let tables = app.catalogue.workspace(workspace)?;
    let installation = named(&tables, &name)?;
    let of = |id: InstallationId| (id, 0)..=(id, u32::MAX);
    let fits = tables.fits.range(of(installation.id)).rev();
    let items = fits.map(|(_, row)| fit_body(&app, workspace, installation, row)).collect();
    Ok(Json(Page::whole(items)))
}
