//! The audit log: who changed what and who read people, listed and exported with the chain that shows whether it is whole.

use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use axum::Json;
use axum::body::{Body, Bytes};
use axum::extract::State;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use hyper::body::Frame;
use kith_model::id::WorkspaceId;
use kith_model::time::Timestamp;
use kith_store::keys::SYSTEM;
use serde::Deserialize;
use tokio::sync::mpsc;
use utoipa::IntoParams;

use super::extract::{Authority, Query, page_limit, right};
use super::view::Page;
use crate::app::App;
use crate::audit::AuditEntry;
use crate::auth::KeyId;
use crate::catalogue::AuditFilter;
use crate::error::{ApiError, Problem};
use crate::processor;

/// Which records: those that meet all that is given. A part of the log shows nothing of what was left out of it; only the whole
/// can be verified.
#[derive(Debug, Clone, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct AuditQuery {
    /// How many at most; 50 unless told, 500 at most. An export has no limit.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// A key's id, or `kernel`.
    actor: Option<String>,
    /// An action, e.g. `audience.create`, or the beginning of some that ends with a dot, e.g. `audience.`.
    action: Option<String>,
    /// What the action was done to, or one of those that were read.
    target: Option<String>,
    /// RFC 3339: not before.
    from: Option<String>,
    /// RFC 3339: before.
    to: Option<String>,
}

impl AuditQuery {
    fn filter(&self) -> Result<AuditFilter, ApiError> {
        let moment = |name: &str, text: &Option<String>| -> Result<Option<Timestamp>, ApiError> {
            let read = text.as_deref().map(str::parse::<Timestamp>).transpose();
            read.map_err(|error| ApiError::at(format!("?{name}"), error.to_string()))
        };
        Ok(AuditFilter {
            actor: self.actor.clone(),
            action: self.action.clone(),
            target: self.target.clone(),
            from: moment("from", &self.from)?,
            to: moment("to", &self.to)?,
        })
    }
}

/// Who changed what, and who read people, oldest first. A page may hold less than its limit, even nothing, and still have a next
/// one.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "audit", params(AuditQuery), security(("key" = ["audit:read"])),
    responses((status = 200, body = Page<AuditEntry>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::AuditRead>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditEntry>>, ApiError> {
    let (caller, limit, filter) = (authority.caller, page_limit(query.limit)?, query.filter()?);
    app.reads.note(&caller, "audit.list", []);
    app.offload(move |app| page(app, caller.workspace, &filter, query.cursor.as_deref(), limit).map(Json)).await
}

/// What host keys did to workspaces, oldest first: a chain of its own.
#[utoipa::path(
    get, path = "/api/v1/host/audit", tag = "workspaces", params(AuditQuery), security(("key" = ["workspaces:admin"])),
    responses((status = 200, body = Page<AuditEntry>), (status = 400, body = Problem)),
)]
pub(crate) async fn of_host(
    State(app): State<Arc<App>>,
    _authority: Authority<right::WorkspacesAdmin>,
    Query(query): Query<AuditQuery>,
) -> Result<Json<Page<AuditEntry>>, ApiError> {
    let (limit, filter) = (page_limit(query.limit)?, query.filter()?);
    app.offload(move |app| page(app, SYSTEM, &filter, query.cursor.as_deref(), limit).map(Json)).await
}

fn page(
    app: &App,
    workspace: WorkspaceId,
    filter: &AuditFilter,
    cursor: Option<&str>,
    limit: usize,
) -> Result<Page<AuditEntry>, ApiError> {
    let unknown = || ApiError::at("?cursor", "this list gave out no such cursor");
    let after =
        cursor.map(|text| data_encoding::HEXLOWER.decode(text.as_bytes())).transpose().map_err(|_| unknown())?;
    let (items, next) = app.catalogue.audit(workspace, filter, after.as_deref(), limit)?;
    Ok(Page { items, next: next.map(|next| data_encoding::HEXLOWER.encode(&next)) })
}

/// Records that an export reads at once.
const EXPORT_ROWS: usize = 500;

/// The records as lines of JSON, oldest first: what `kith audit verify` takes.
#[utoipa::path(
    get, path = "/api/v1/audit/export", tag = "audit", params(AuditQuery), security(("key" = ["audit:read"])),
    responses(
        (status = 200, body = String, content_type = "application/x-ndjson"), (status = 400, body = Problem),
    ),
)]
pub(crate) async fn export(
    State(app): State<Arc<App>>,
    authority: Authority<right::AuditRead>,
    Query(query): Query<AuditQuery>,
) -> Result<Response, ApiError> {
    page_limit(query.limit)?;
    let (caller, filter) = (authority.caller, query.filter()?);
    app.reads.note(&caller, "audit.export", []);
    // The first page is read before the answer begins, so that a mistake is an answer and not a line that breaks off.
    let under_way = app.exports.take(caller.workspace, 1)?;
    let of = (caller.workspace, caller.key);
    processor::is_large_from_now_on();
    let mut page = pieces(&app, &of, &filter, query.cursor).await?;
    let (sender, receiver) = mpsc::channel(1);
    tokio::spawn(processor::counted(async move {
        let _under_way = under_way;
        processor::is_large_from_now_on();
        loop {
            let Lines { text, next } = page;
            if sender.send(Ok(Bytes::from(text))).await.is_err() {
                return; // nobody reads on
            }
            let Some(next) = next else { return };
            app.processor.go_on(of.0).await;
            page = match pieces(&app, &of, &filter, Some(next)).await {
                Ok(page) => page,
                Err(error) => {
                    tracing::error!(?error, "an export of the audit log broke off");
                    // The reader is told by an answer that does not end.
                    drop(sender.send(Err(std::io::Error::other("the export broke off"))).await);
                    return;
                }
            };
        }
    }));
    let content_type = [(header::CONTENT_TYPE, "application/x-ndjson")];
    Ok((content_type, Body::new(Pieces(receiver))).into_response())
}

/// A page as lines.
struct Lines {
    text: String,
    next: Option<String>,
}

async fn pieces(
    app: &Arc<App>,
    (workspace, key): &(WorkspaceId, KeyId),
    filter: &AuditFilter,
    cursor: Option<String>,
) -> Result<Lines, ApiError> {
    let (filter, workspace, key) = (filter.clone(), *workspace, key.clone());
    app.offload(move |app| {
        // It goes on for as long as its reader likes, and no longer than its key is good.
        app.insist_on_standing(&key)?;
        let page = page(app, workspace, &filter, cursor.as_deref(), EXPORT_ROWS)?;
        let mut text = String::new();
        for entry in &page.items {
            let line =
                serde_json::to_string(entry).map_err(|error| ApiError::internal("exporting the audit log", error))?;
            text.push_str(&line);
            text.push('\n');
        }
        Ok(Lines { text, next: page.next })
    })
    .await
}

/// A body whose pieces come over a channel.
pub(super) struct Pieces(pub(super) mpsc::Receiver<Result<Bytes, std::io::Error>>);

impl hyper::body::Body for Pieces {
    type Data = Bytes;
    type Error = std::io::Error;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, std::io::Error>>> {
        self.0.poll_recv(cx).map(|piece| piece.map(|piece| piece.map(Frame::data)))
    }
}
