//! Whether the process lives, whether it can do its work, and its figures.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use axum::http::{StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Allowed, right};
use crate::app::App;
use crate::error::{ApiError, Problem};
use crate::serve::FIRST_WORKSPACE;

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
    /// `ready`, `stopping` or `store-unavailable`.
    status: String,
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

/// Whether the process can do its work: the store reads, and it is not about to stop.
#[utoipa::path(
    get, path = "/readyz", tag = "operation",
    responses((status = 200, body = Ready), (status = 503, body = Ready)),
)]
pub(crate) async fn ready(State(app): State<Arc<App>>) -> (StatusCode, Json<Ready>) {
    let reads = app.offload(|app| app.catalogue.store_reads()).await;
    let tables = app.catalogue.tables();
    let all = tables.workspaces.keys().map(|workspace| app.kernel.progress(*workspace));
    let (mut head, mut behind, mut backlog) = (0, 0, 0);
    for progress in all {
        head = progress.head.0.max(head);
        behind = progress.head.0.saturating_sub(progress.reacted.0).max(behind);
        backlog += progress.backlog;
    }
    let (code, status) = match (app.is_closing(), reads) {
        (true, _) => (StatusCode::SERVICE_UNAVAILABLE, "stopping"),
        (false, Err(error)) => {
            tracing::error!(%error, "the store does not read");
            (StatusCode::SERVICE_UNAVAILABLE, "store-unavailable")
        }
        (false, Ok(())) => (StatusCode::OK, "ready"),
    };
    (code, Json(Ready { status: status.to_owned(), head, behind, backlog }))
}

/// The process's figures in Prometheus' text format. They tell of all workspaces, so only keys of the first one, which is
/// the operator's, may read them.
#[utoipa::path(
    get, path = "/metrics", tag = "operation", security(("key" = ["metrics:read"])),
    responses((status = 200, body = String, content_type = "text/plain"), (status = 403, body = Problem)),
)]
pub(crate) async fn figures(
    State(app): State<Arc<App>>,
    allowed: Allowed<right::MetricsRead>,
) -> Result<Response, ApiError> {
    if allowed.caller.workspace != FIRST_WORKSPACE {
        let message = "figures are the whole process's; a key of its first workspace may read them".to_owned();
        return Err(ApiError::Denied { message });
    }
    let content_type = [(header::CONTENT_TYPE, "text/plain; version=0.0.4")];
    Ok((content_type, app.metrics.render()).into_response())
}
