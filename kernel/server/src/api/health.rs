//! Whether the process lives, whether it can do its work, and its figures.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Authority, Figures};
use super::view::time;
use crate::app::App;
use crate::auth::Scope;
use crate::error::{ApiError, Problem};
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
    /// `ready`, `stopping`, `store-unavailable` or `failing`.
    status: String,
    /// Since when it fails.
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    /// What is wrong, without what only the operator may know.
    #[serde(skip_serializing_if = "Option::is_none")]
    problem: Option<String>,
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

/// Whether the process can do its work: the store reads, no workspace's work fails, and it is not about to stop.
#[utoipa::path(
    get, path = "/readyz", tag = "operation",
    responses((status = 200, body = Ready), (status = 503, body = Ready)),
)]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Ready>) {
    let tables = app.catalogue.tables();
    let all = tables.workspaces.keys().map(|workspace| app.kernel.progress(*workspace));
    let (mut head, mut behind, mut backlog) = (0, 0, 0);
    for progress in all {
        head = progress.head.0.max(head);
        behind = progress.head.0.saturating_sub(progress.reacted.0).max(behind);
        backlog += progress.backlog;
    }
    let condition = if app.is_closing() { Condition::Stopping } else { app.watch.condition() };
    let (code, ready) = answer(condition);
    (code, Json(Ready { head, behind, backlog, ..ready }))
}

fn answer(condition: Condition) -> (StatusCode, Ready) {
    let (code, status, since, problem) = match condition {
        Condition::Ready => (StatusCode::OK, "ready", None, None),
        Condition::Stopping => (StatusCode::SERVICE_UNAVAILABLE, "stopping", None, None),
        Condition::StoreUnavailable => (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable", None, None),
        Condition::Failing { since } => {
            let problem = "a workspace's work fails again and again at the same place; the server's log has more";
            (StatusCode::SERVICE_UNAVAILABLE, "failing", Some(time(since)), Some(problem.to_owned()))
        }
    };
    (code, Ready { status: status.to_owned(), since, problem, head: 0, behind: 0, backlog: 0 })
}

/// The process's figures in Prometheus' text format. They tell of all workspaces, so only keys of the first one, which is
/// the operator's, and host keys may read them.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security(("key" = ["metrics:read"])),
    responses((status = 200, body = String, content_type = "text/plain"), (status = 403, body = Problem)),
)]
pub(crate) async fn figures(State(app): State<Arc<App>>, authority: Authority<Figures>) -> Result<Response, ApiError> {
    if authority.caller.workspace != FIRST_WORKSPACE && !authority.caller.may(Scope::WorkspacesAdmin) {
        let message = "figures are the whole process's; a key of its first workspace may read them".to_owned();
        return Err(ApiError::Denied { message });
    }
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((content_type, app.metrics.render()).into_response())
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
        assert_eq!(answer(Condition::StoreUnavailable).0.as_u16(), 503);
        let (code, ready) = answer(Condition::Ready);
        assert_eq!((code.as_u16(), ready.since), (200, None));
    }
}
