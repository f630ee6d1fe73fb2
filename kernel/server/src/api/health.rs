//! Whether the process lives, whether it can do its work, and its figures.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode, header};
use axum::response::{IntoResponse, Response};
use kith_model::id::WorkspaceId;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Authority, Figures};
use super::installations::{installation_figures, may_see_figures};
use super::view::time;
use crate::app::App;
use crate::auth::{self, Caller, Scope};
use crate::error::{ApiError, DISK_FULL, Problem};
use crate::serve::FIRST_WORKSPACE;
use crate::watch::Condition;

/// That the process lives.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Alive {
    /// `ok`.
    status: String,
    version: String,
}

/// Whether it can do its work.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct Ready {
    /// `ready`, `stopping`, `store-unavailable`, `disk-full` or `failing`.
    status: String,
    /// Since when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// What is wrong, without what only the operator may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
    #[serde(flatten)]
    progress: Option<Progress>,
}

/// How far the work of what the asker may see has come; only whoever shows a key is told.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct Progress {
    /// The log's newest position.
    head: u64,
    /// Log records behind which features, tags, scores and audiences are, in the workspace that is furthest behind.
    behind: u64,
    /// Profiles that wait for a first computation of something new.
    backlog: u64,
}

/// Whether the process lives.
#[utoipa::path(get, path = "/healthz", tag = "operation", responses((status = 200, body = Alive)))]
pub(crate) async fn alive() -> Json<Alive> {
    Json(Alive { status: "ok".to_owned(), version: env!("CARGO_PKG_VERSION").to_owned() })
}

/// Whether the process can do its work: the store reads and has room to write, no workspace's work fails, and it is not about to stop. With a key that may
/// read audiences or figures also how far its workspace's work has come; keys of the first workspace, which is the operator's, and host keys see all workspaces
/// together.
#[utoipa::path(
    get, path = "/readyz", tag = "operation", security((), ("key" = [])),
    responses((status = 200, body = Ready), (status = 401, body = Problem), (status = 503, body = Ready)),
)]
pub(crate) async fn ready(
    State(app): State<Arc<App>>,
    headers: HeaderMap,
) -> Result<(StatusCode, Json<Ready>), ApiError> {
    let caller = auth::presented(&headers)?.map(|key| app.authenticate(&key)).transpose()?;
    // A write key stands in the pages of a shop.
    let may_know = |caller: &Caller| {
        [Scope::AudiencesRead, Scope::MetricsRead, Scope::WorkspacesAdmin].into_iter().any(|scope| caller.may(scope))
    };
    let progress = caller.filter(may_know).map(|caller| {
        let is_operator = caller.workspace == FIRST_WORKSPACE || caller.may(Scope::WorkspacesAdmin);
        progress(&app, (!is_operator).then_some(caller.workspace))
    });
    let condition = if app.is_closing() { Condition::Stopping } else { app.watch.condition() };
    let (code, ready) = answer(condition);
    Ok((code, Json(Ready { progress, ..ready })))
}

/// How far the work of one workspace has come, or of all.
fn progress(app: &App, only: Option<WorkspaceId>) -> Progress {
    let tables = app.catalogue.tables();
    let seen = tables.workspaces.keys().filter(|workspace| only.is_none_or(|only| only == **workspace));
    seen.map(|workspace| app.kernel.progress(*workspace)).fold(Progress::default(), |so_far, of| Progress {
        head: of.head.0.max(so_far.head),
        behind: of.head.0.saturating_sub(of.reacted.0).max(so_far.behind),
        backlog: so_far.backlog + of.backlog,
    })
}

fn answer(condition: Condition) -> (StatusCode, Ready) {
    let (code, status, since, problem) = match condition {
        Condition::Ready => (StatusCode::OK, "ready", None, None),
        Condition::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", None, None),
        Condition::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", None, None),
        Condition::DiskFull => {
            let problem = "the disk is nearly full: writes are refused with `disk-full`, reads go on; free some of it, or start \
                           the server with a smaller --disk-reserve";
            (StatusCode::SERVICE_UNAVAILABLE, DISK_FULL, None, Some(problem.to_owned()))
        }
        Condition::Failing { since } => {
            let problem = "a workspace's work fails again and again at the same place; the server's log has more";
            (StatusCode::SERVICE_UNAVAILABLE, "failing", Some(time(since)), Some(problem.to_owned()))
        }
    };
    (code, Ready { status: status.to_owned(), since, problem, progress: None })
}

/// Figures in Prometheus' text format. The process's tell of all workspaces, so only keys of the first one, which is the
/// operator's, and host keys see them. A key that may also run plugins and see people sees those of its own workspace's
/// installations.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security(("key" = ["metrics:read"])),
    responses((status = 200, body = String, content_type = "text/plain"), (status = 403, body = Problem)),
)]
pub(crate) async fn figures(State(app): State<Arc<App>>, authority: Authority<Figures>) -> Result<Response, ApiError> {
    let caller = &authority.caller;
    let is_operator = caller.workspace == FIRST_WORKSPACE || caller.may(Scope::WorkspacesAdmin);
    if !is_operator && !may_see_figures(caller) {
        let message = "the process's figures are for keys of its first workspace, and those of this workspace's \
                       installations need `plugins:admin` and `profiles:read` too"
            .to_owned();
        return Err(ApiError::Denied { message });
    }
    let mut text = if is_operator { app.metrics.render() } else { String::new() };
    if may_see_figures(caller) {
        text.push_str(&installation_figures(&app, caller)?);
    }
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((content_type, text).into_response())
}

#[cfg(test)]
mod tests {
    use kith_model::time::Timestamp;

    use super::*;

    #[test]
    fn a_failing_workspace_is_said_without_its_name() {
        let (code, ready) = answer(Condition::Failing { since: Timestamp(60_000) });
        assert_eq!((code.as_u16(), ready.status.as_str()), (503, "failing"));
        assert_eq!(ready.since.as_deref(), Some("1970-01-01T00:01:00.000Z"));
        assert!(ready.problem.is_some());
        let (code, ready) = answer(Condition::Stopping);
        assert_eq!((code.as_u16(), ready.status.as_str()), (503, "stopping"));
        let (code, ready) = answer(Condition::DiskFull);
        assert_eq!((code.as_u16(), ready.status.as_str()), (503, "disk-full"));
        assert!(ready.problem.is_some_and(|problem| problem.contains("--disk-reserve")));
        assert_eq!(answer(Condition::StoreUnavailable).0.as_u16(), 503);
        let (code, ready) = answer(Condition::Ready);
        assert_eq!((code.as_u16(), ready.since), (200, None));
    }
}
