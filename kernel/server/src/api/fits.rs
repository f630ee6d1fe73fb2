//! The routes of fits: one begins, all are listed, and one is put in use. What a fit does and how it is kept is `fitting.rs`'s part.

use std::cmp::Ordering;
use std::collections::BTreeMap;
use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::StatusCode;
use kith_model::id::InstallationId;
use kith_pipeline::Measure;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Authority, PageQuery, Path, Query, right};
use super::installations::{WITHHELD_WORDS, may_read_words, named};
use super::view::{Page, time};
use crate::app::App;
use crate::auth::Caller;
use crate::catalogue::{
    ChampionRow, FitCause, FitInputRow, FitRow, FitStatus, HeldOutRow, InstallationRow, JudgedRow, WorkspaceTables,
};
use crate::error::{ApiError, Problem};
use crate::fitting::{self, Wish, champion, drift};

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
    /// How many rows it read, of people or of their pasts; `null` while it runs, and where a release before made it. `null` too, as
    /// `progress`, `metrics`, `state_bytes`, `inputs` and `held_out`, without the scope `profiles:read`, or where the data dictionary
    /// calls something sensitive and the key has no `sensitive:read`.
    rows: Option<u64>,
    /// Rows read of how many, while running.
    progress: Option<FitProgressBody>,
    /// The plugin's own figures on how good the fit is.
    metrics: Option<BTreeMap<String, f64>>,
    state_bytes: Option<u64>,
    /// What it read of each input, of one that went well.
    inputs: Option<Vec<FitInputBody>>,
    /// Why it failed, or why it is held; where the figures are withheld, only that there is a reason.
    error: Option<String>,
    /// How it and the fit that was in use compare on people from whom no fit learns, where the version has labels (`[training]` of
    /// its manifest); else `null`.
    held_out: Option<HeldOutBody>,
}

/// How a fit and the one that was in use compare. Of each of those people who are held out there is a row for each moment from which
/// the fit is asked to foretell what came after it.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct HeldOutBody {
    /// Rows that both are measured by: of those that were drawn those that both have an answer for.
    rows: u64,
    /// Rows that were drawn, 100,000 at most: those of the people whose ids, which tell nothing of them, are smallest.
    drawn: u64,
    /// Rows with a label in all.
    of: u64,
    /// The measure by which the two are compared.
    #[schema(value_type = String)]
    measure: Measure,
    /// `challenger`, `champion`, or `neither` where they are equal; `null` where it cannot be told.
    better: Option<Better>,
    /// The fit itself.
    challenger: JudgedBody,
    /// The fit that was in use; `null` where there was none.
    champion: Option<ChampionBody>,
}

/// Which of two fits is better.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Better {
    Challenger,
    Champion,
    Neither,
}

/// How good a fit is on those who are held out.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct JudgedBody {
    /// Of labels that are true or false `auc`, `brier` and `log_loss`; of numbers `rmse`, `mae` and `rank_correlation`. What cannot
    /// be told of the rows is not there.
    measures: BTreeMap<String, f64>,
    /// Rows of those that were drawn for which it has no answer.
    unanswered: u64,
    /// Why it was not asked, or no more.
    problem: Option<String>,
}

/// The fit that was in use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ChampionBody {
    /// Its `version`.
    fit: u32,
    #[serde(flatten)]
    judged: JudgedBody,
}

impl From<&JudgedRow> for JudgedBody {
    fn from(row: &JudgedRow) -> JudgedBody {
        let measures = row.measures.iter().map(|(measure, figure)| (measure.name().to_owned(), *figure)).collect();
        JudgedBody { measures, unanswered: row.unanswered, problem: row.problem.clone() }
    }
}

impl From<&HeldOutRow> for HeldOutBody {
    fn from(row: &HeldOutRow) -> HeldOutBody {
        let better = champion::compared(row).map(|stands| match stands {
            Ordering::Greater => Better::Challenger,
            Ordering::Less => Better::Champion,
            Ordering::Equal => Better::Neither,
        });
        let champion = |row: &ChampionRow| ChampionBody { fit: row.fit, judged: JudgedBody::from(&row.judged) };
        HeldOutBody {
            rows: row.rows,
            drawn: row.drawn,
            of: row.of,
            measure: row.measure,
            better,
            challenger: JudgedBody::from(&row.challenger),
            champion: row.champion.as_ref().map(champion),
        }
    }
}

/// What a fit read of one input.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FitInputBody {
    name: String,
    /// Of the people who have it, with 1 for what is true; `null` where nobody has, and of an input that is neither a number nor a
    /// truth value.
    mean: Option<f64>,
    /// The standard deviation of the same; `null` too where a release before made the fit.
    deviation: Option<f64>,
    /// The share of people who have it not, from 0 to 1.
    absent_share: f64,
    /// How far the mean is from that of the fit in use, in standard deviations. `null` where one of the two has none, and where all
    /// had one value and all have another.
    shift: Option<f64>,
}

impl FitInputBody {
    fn of(row: &FitInputRow, in_use: Option<&FitRow>) -> FitInputBody {
        let before = in_use.and_then(|fit| fit.inputs.iter().find(|before| before.name == row.name));
        let shift = before.and_then(|before| drift::shift(row, before)).filter(|shift| shift.is_finite());
        let is_known = row.present > 0;
        FitInputBody {
            name: row.name.clone(),
            mean: row.mean.filter(|_| is_known),
            deviation: row.deviation.filter(|_| is_known),
            absent_share: drift::absent_share(row),
            shift,
        }
    }
}

/// How far a fit is.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FitProgressBody {
    rows_done: u64,
    rows_total: u64,
}

fn fit_body(
    app: &App,
    caller: &Caller,
    (tables, installation): (&WorkspaceTables, &InstallationRow),
    row: &FitRow,
) -> Result<FitBody, ApiError> {
    let workspace = caller.workspace;
    // Which rows a fit reads and what it makes of them is the choice of who wrote the plugin and its configuration, so that each
    // figure of it may be about one person.
    let shows_figures = may_read_words(app, caller)?;
    let under_way = app.kernel.fit_progress(workspace, row.installation);
    let under_way = under_way.filter(|_| row.status == FitStatus::Running && shows_figures);
    let in_use = installation.fit == Some(row.version);
    let fit_in_use = installation.fit.and_then(|fit| tables.fits.get(&(installation.id, fit)));
    let input = |input: &FitInputRow| FitInputBody::of(input, fit_in_use.map(AsRef::as_ref));
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
        rows: row.rows.filter(|_| shows_figures),
        progress: under_way.map(|fit| FitProgressBody { rows_done: fit.rows_done, rows_total: fit.rows_total }),
        metrics: shows_figures.then(|| row.metrics.iter().cloned().collect()),
        state_bytes: shows_figures.then_some(row.state_bytes),
        inputs: shows_figures.then(|| row.inputs.iter().map(input).collect()),
        error: row.error.clone().map(|why| if shows_figures { why } else { WITHHELD_WORDS.to_owned() }),
        held_out: row.held_out.as_ref().filter(|_| shows_figures).map(HeldOutBody::from),
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
/// bound of the installation's `fitting.guard` or `fitting.drift`, is not as good as the fit in use where `fitting.use` is `better`, or
/// another fit was chosen by hand.
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
        fit_body(&app, &authority.caller, (&tables, installation), &begun.row)?
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
        Ok(Json(fit_body(app, &authority.caller, (&tables, row), fit)?))
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
    Page::of(fits, &page, |row| fit_body(&app, &authority.caller, (&tables, installation), row)).map(Json)
}
