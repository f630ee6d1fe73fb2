//! The routes of polls: how an installation polls and what came of it, and a poll at once.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::polling::interval_text;
use kith_pipeline::{IntakeError, PollEntry, PollFrom, PollView};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Authority, Json, Path, right};
use super::installations::{may_read_words, named};
use super::view::time;
use crate::app::App;
use crate::catalogue::{InstallationRow, WorkspaceTables};
use crate::error::{ApiError, Problem};

/// How an installation polls.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PollsBody {
    /// The time between two polls, e.g. `15m`.
    interval: String,
    /// When it polls next, now at the earliest; `null` where it does not run, or where nothing lets it but a change of the
    /// installation, or somebody who asks.
    next_at: Option<String>,
    under_way: bool,
    /// Bytes of where the next poll begins; `null` where it begins at the start. `null` too, as the figures, the words and the cursors
    /// of `polls`, without the scope `profiles:read`, or where the data dictionary calls something sensitive and the key has no
    /// `sensitive:read`.
    cursor_bytes: Option<u64>,
    /// Failures since it last worked.
    failures: u32,
    failing_since: Option<String>,
    /// Whether a failure was for good: it waits for a change of the installation, or for somebody who asks.
    waits_for_change: bool,
    /// The last fifty, the newest first.
    polls: Vec<PollBody>,
}

/// One poll.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PollBody {
    at: String,
    took_ms: u64,
    pages: Option<u32>,
    requests: Option<u32>,
    /// Events that were taken.
    events: Option<u64>,
    /// Events that had come before.
    repeats: Option<u64>,
    /// Records that became dead letters.
    rejected: Option<u64>,
    /// `complete`, `more`, `later`, `permanent`, `fault` or `cut-off`.
    outcome: String,
    /// The same in words.
    reason: Option<String>,
    /// Changes whenever the place does where the next poll begins.
    cursor: Option<String>,
}

/// How to poll.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct PollNow {
    /// Begin as the very first poll did. What came before is recognised by its ids.
    #[serde(default)]
    from_start: bool,
}

impl PollBody {
    /// What is asked of the other side is a matter of the configuration, so that what came back may be about one person.
    fn of(poll: PollEntry, shows_people: bool) -> PollBody {
        PollBody {
            outcome: poll.outcome().to_owned(),
            reason: shows_people.then(|| poll.reason()),
            cursor: poll.cursor().filter(|_| shows_people),
            at: time(poll.at),
            took_ms: poll.took_ms,
            pages: shows_people.then_some(poll.pages),
            requests: shows_people.then_some(poll.requests),
            events: shows_people.then_some(poll.events),
            repeats: shows_people.then_some(poll.repeats),
            rejected: shows_people.then_some(poll.rejected),
        }
    }
}

impl PollsBody {
    fn of(view: PollView, shows_people: bool) -> PollsBody {
        PollsBody {
            interval: interval_text(view.interval_ms),
            next_at: view.next_at.map(time),
            under_way: view.is_under_way,
            cursor_bytes: view.cursor_bytes.filter(|_| shows_people),
            failures: view.failures,
            failing_since: view.failing_since.map(time),
            waits_for_change: view.waits_for_change,
            polls: view.polls.into_iter().map(|poll| PollBody::of(poll, shows_people)).collect(),
        }
    }
}

/// The installation of that name, if it polls.
fn polling<'a>(tables: &'a WorkspaceTables, name: &str) -> Result<&'a Arc<InstallationRow>, ApiError> {
    let row = named(tables, name)?;
    if tables.plugin_of(row).is_some_and(|plugin| plugin.manifest.poll.is_some()) {
        return Ok(row);
    }
    let message = format!("`{name}` does not poll: the manifest of its plugin has no [poll]");
    Err(ApiError::Conflict { code: "does-not-poll", message })
}

/// What an admin is told of a poll that is not done. Why may be in the words of the plugin.
fn refused(name: &str, shows_words: bool) -> impl Fn(IntakeError) -> ApiError {
    move |error| match error {
        IntakeError::NotLive { why } => {
            let why = if shows_words { why } else { "what is shown of the installation says more".to_owned() };
            let message = format!("`{name}` does not run, and so does not poll: {why}");
            ApiError::Conflict { code: "not-live", message }
        }
        error => error.into(),
    }
}

/// How an installation polls, and what came of its last polls.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/polls", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")), security(("key" = ["plugins:admin"])),
    responses((status = 200, body = PollsBody), (status = 404, body = Problem), (status = 409, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
) -> Result<Json<PollsBody>, ApiError> {
    let caller = authority.caller;
    app.offload(move |app| {
        let tables = app.catalogue.workspace(caller.workspace)?;
        let id = polling(&tables, &name)?.id;
        let shows_people = may_read_words(app, &caller)?;
        let view = app.kernel.polls(caller.workspace, id).map_err(refused(&name, shows_people))?;
        Ok(Json(PollsBody::of(view, shows_people)))
    })
    .await
}

/// Poll now, also where a failure is being waited after. It goes on in the background; `…/polls` shows what came of it. Asking
/// again while it is under way changes nothing. With `from_start` it begins as the very first poll did, and what of a poll under way
/// is not kept yet is left.
#[utoipa::path(
    post, path = "/api/v1/installations/{id}/poll", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")), security(("key" = ["plugins:admin"])),
    request_body = PollNow,
    responses(
        (status = 202, body = PollsBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem),
    ),
)]
pub(crate) async fn begin(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    Json(wanted): Json<PollNow>,
) -> Result<(StatusCode, Json<PollsBody>), ApiError> {
    let (workspace, actor, caller) = (authority.caller.workspace, authority.actor(), authority.caller);
    let PollNow { from_start } = wanted;
    let shows_people = may_read_words(&app, &caller)?;
    let id = {
        let tables = app.catalogue.workspace(workspace)?;
        polling(&tables, &name)?.id
    };
    let target = name.clone();
    // Written down first: what cannot be is not done.
    app.offload(move |app| {
        app.change(workspace, actor, |draft| {
            app.kernel.insist_on_polling(workspace, id).map_err(refused(&target, shows_people))?;
            Ok(draft.audit("installation.poll", &target, None, Some(json!({ "from_start": from_start })))?)
        })
    })
    .await?;
    let from = if from_start { PollFrom::Start } else { PollFrom::Cursor };
    let view = app.kernel.poll_now(workspace, id, from).await.map_err(refused(&name, shows_people))?;
    Ok((StatusCode::ACCEPTED, Json(PollsBody::of(view, shows_people))))
}
