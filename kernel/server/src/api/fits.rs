//! The routes of fits: one begins, all are listed, and one is put in use. What a fit does and how it is kept is `fitting.rs`'s part.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kith_model::id::InstallationId;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Authority, PageQuery, Path, Query, right};
use super::installations::{may_read_words, named};
use super::view::{Page, time};
use crate::app::App;
use crate::auth::Caller;
use crate::catalogue::{FitCause, FitInputRow, FitRow, FitStatus, InstallationRow};
use crate::error::{ApiError, Problem};
use crate::fitting::{self, Wish};

/// One fit.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FitBody {
    /// From 1, one more with each fit of the installation.
    version: u32,
    status: FitStatus,
    /// Whether somebody asked for it or it was due.
    cause: FitCause,
    /// Whether its state is the one in use.
    in_use: bool,
    /// Whether somebody chose it in the place of a newer one.
    chosen: bool,
    plugin_version: String,
    digest: String,
    /// The form of its state, if the plugin declared one.
    state_version: Option<u32>,
    started_at: String,
    finished_at: Option<String>,
    /// How long it took, the wait for its turn included.
    took_ms: Option<i64>,
    /// How many rows it read, of people or of their pasts; `null` while it runs, and where a release before made it.
    rows: Option<u64>,
    /// Rows read of how many, while running.
    progress: Option<FitProgressBody>,
    /// The plugin's own figures on how good the fit is.
    metrics: BTreeMap<String, f64>,
    state_bytes: u64,
    /// What it read of each numeric input, of one that went well. `null` without the scope `profiles:read`, or where the data
    /// dictionary calls something sensitive and the key has no `sensitive:read`.
    inputs: Option<Vec<FitInputBody>>,
    /// Why it failed, or why it is held.
    error: Option<String>,
}

/// What a fit read of one numeric input.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FitInputBody {
    name: String,
    /// Of the people who have it; `null` where nobody has.
    mean: Option<f64>,
    /// The share of people who have it not, from 0 to 1.
    absent_share: f64,
}

impl From<&FitInputRow> for FitInputBody {
    #[allow(clippy::cast_precision_loss, reason = "numbers of people in a share")]
    fn from(row: &FitInputRow) -> FitInputBody {
        let all = row.present.saturating_add(row.absent).max(1) as f64;
        let mean = (row.present > 0).then_some(row.mean);
        FitInputBody { name: row.name.clone(), mean, absent_share: row.absent as f64 / all }
    }
}

/// How far a fit is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FitProgressBody {
    rows_done: u64,
    rows_total: u64,
}

fn fit_body(app: &App, caller: &Caller, installation: &InstallationRow, row: &FitRow) -> Result<FitBody, ApiError> {
    let workspace = caller.workspace;
    let shows_inputs = may_read_words(app, caller)?;
    let under_way = app.kernel.fit_progress(workspace, row.installation);
    let under_way = under_way.filter(|_| row.status == FitStatus::Running);
    let in_use = installation.fit == Some(row.version);
    Ok(FitBody {
        version: row.version,
        status: row.status,
        cause: row.cause,
        in_use,
        chosen: in_use && installation.fit_is_chosen,
        plugin_version: row.plugin_version.to_string(),
        digest: row.digest.clone(),
        state_version: row.state_version,
        started_at: time(row.started_at),
        finished_at: row.finished_at.map(time),
        took_ms: row.finished_at.map(|finished| finished.0.saturating_sub(row.started_at.0).max(0)),
        rows: row.rows,
        progress: under_way.map(|fit| FitProgressBody { rows_done: fit.rows_done, rows_total: fit.rows_total }),
        metrics: row.metrics.iter().cloned().collect(),
        state_bytes: row.state_bytes,
        inputs: shows_inputs.then(|| row.inputs.iter().map(FitInputBody::from).collect()),
        error: row.error.clone(),
    })
}

/// What is to become of a fit.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct FitQuery {
    /// Whether it takes the place of a fit that somebody chose; else it is kept beside that.
    #[serde(rename = "use", default)]
    takes_over: bool,
}

/// Begin a fit. It goes on in the background; `…/fits` shows how far it is. Once it is done its state is used, unless it breaks a
/// bound of the installation's `fitting.guard`, or another fit was chosen by hand.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/fit", tag = "installations",
    params(("id" = String, Path, description = "the installation's name"), FitQuery),
    security(("key" = ["plugins:admin"])),
    responses(
        (status = 202, body = FitBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem),
    ),
)]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    Query(query): Query<FitQuery>,
) -> Result<(StatusCode, Json<FitBody>), ApiError> {
    let wish = if query.takes_over { Wish::AskedToUse } else { Wish::Asked };
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    let author = actor.key.clone();
    let begun = app.offload(move |app| fitting::begin(app, workspace, actor, &name, wish)).await?;
    let body = {
        let tables = app.catalogue.workspace(workspace)?;
        let installation = tables.installations.get(&begun.row.installation);
        let installation = installation.ok_or_else(|| ApiError::missing("the installation was removed meanwhile"))?;
        fit_body(&app, &authority.caller, installation, &begun.row)?
    };
    fitting::run(&app, workspace, author, begun);
    Ok((StatusCode::ACCEPTED, Json(body)))
}

/// Put a fit that is kept in use, also one that is held; what the installation wrote is computed again with it, and nobody is
/// written to for that. Where there is a newer one that is not held, no later fit takes its place by itself; with the newest, later
/// ones do again.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/fits/{number}/use", tag = "installations",
    params(
        ("id" = String, Path, description = "the installation's name"),
        ("number" = u32, Path, description = "the fit's `version`"),
    ),
    security(("key" = ["plugins:admin"])),
    responses(
        (status = 200, body = FitBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn put_in_use(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path((name, number)): Path<(String, u32)>,
) -> Result<Json<FitBody>, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    app.ask(move |app, patience| {
        let id =
            app.change_after_loading(workspace, actor, patience, |draft| fitting::use_fit(draft, &name, number))?;
        let tables = app.catalogue.workspace(workspace)?;
        let found = tables.installations.get(&id).zip(tables.fits.get(&(id, number)));
        let (row, fit) = found.ok_or_else(|| ApiError::missing("the fit was removed meanwhile"))?;
        Ok(Json(fit_body(app, &authority.caller, row, fit)?))
    })
    .await
}

/// The fits of an installation that are kept, newest first.
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
    Page::of(fits, &page, |row| fit_body(&app, &authority.caller, installation, row)).map(Json)
}
