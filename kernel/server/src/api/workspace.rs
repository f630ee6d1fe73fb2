//! What a workspace holds and how far its work has come; and its audit log.

use std::sync::Arc;

use axum::extract::State;
use base64::Engine as _;
use kith_model::id::WorkspaceId;
use serde::Serialize;
use serde_json::Value;
use utoipa::ToSchema;

use super::extract::{Authority, Json, PageQuery, Query, right};
use super::view::{Page, time};
use super::workspaces::state;
use crate::app::App;
use crate::catalogue::AuditRow;
use crate::error::ApiError;

/// A workspace.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkspaceBody {
    name: String,
    /// What people call it; empty where nobody said.
    title: String,
    /// `active`: the keys of a suspended workspace are refused.
    state: String,
    /// Where calendar days begin.
    time_zone: String,
    created_at: String,
    totals: TotalsBody,
    progress: WorkspaceProgressBody,
}

/// What it holds.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TotalsBody {
    profiles: u64,
    identifiers: u64,
    events: u64,
    /// Tag values over all profiles; the same for scores.
    tags: u64,
    scores: u64,
    deliveries: DeliveryTotals,
    /// Records and computations kept aside.
    set_aside: u64,
}

/// Deliveries by state.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DeliveryTotals {
    /// Delivered, or accepted by a provider.
    delivered: u64,
    /// In the outbox or under way.
    pending: u64,
    /// Refused before it was sent, e.g. for want of consent.
    skipped: u64,
    /// Given up, or of unknown fate.
    dead: u64,
}

/// How far the work behind the log has come.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct WorkspaceProgressBody {
    /// The log's newest position.
    head: u64,
    /// Up to where features, tags, scores and audiences are computed.
    reacted: u64,
    /// Profiles that wait for a first computation of something new.
    backlog: u64,
}

/// One line of the audit log.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct AuditBody {
    at: String,
    /// The key that did it; `kernel` for what the kernel did by itself.
    actor: String,
    action: String,
    target: String,
    request_id: String,
    #[schema(value_type = Option<Object>)]
    before: Option<Value>,
    #[schema(value_type = Option<Object>)]
    after: Option<Value>,
}

fn audit_body(row: AuditRow) -> AuditBody {
    AuditBody {
        at: time(row.at),
        actor: row.actor.to_string(),
        action: row.action,
        target: row.target,
        request_id: row.request_id,
        before: row.before,
        after: row.after,
    }
}

/// The caller's workspace: what it holds and how far its work has come.
#[utoipa::path(
    get, path = "/api/v1/workspace", tag = "workspace", security(("key" = ["metrics:read"])),
    responses((status = 200, body = WorkspaceBody)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::MetricsRead>,
) -> Result<Json<WorkspaceBody>, ApiError> {
    let workspace = authority.caller.workspace;
    app.offload(move |app| {
        let tables = app.catalogue.workspace(workspace)?;
        let totals = app.kernel.totals(workspace)?;
        let progress = app.kernel.progress(workspace);
        Ok(Json(WorkspaceBody {
            name: tables.row.name.to_string(),
            title: tables.row.title.clone(),
            state: state(&tables.row).0.to_owned(),
            time_zone: tables.row.time_zone.clone(),
            created_at: time(tables.row.created_at),
            totals: TotalsBody {
                profiles: totals.profiles,
                identifiers: totals.identifiers,
                events: totals.events,
                tags: totals.tags,
                scores: totals.scores,
                deliveries: DeliveryTotals {
                    delivered: totals.delivered,
                    pending: totals.pending,
                    skipped: totals.skipped,
                    dead: totals.dead,
                },
                set_aside: totals.set_aside,
            },
            progress: WorkspaceProgressBody {
                head: progress.head.0,
                reacted: progress.reacted.0,
                backlog: progress.backlog,
            },
        }))
    })
    .await
}

/// Who changed what, oldest first.
#[utoipa::path(
    get, path = "/api/v1/audit", tag = "workspace", params(PageQuery), security(("key" = ["keys:admin"])),
    responses((status = 200, body = Page<AuditBody>)),
)]
pub(crate) async fn audit(
    State(app): State<Arc<App>>,
    authority: Authority<right::KeysAdmin>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<AuditBody>>, ApiError> {
    audit_page(&app, authority.caller.workspace, page).await
}

/// A page of an audit log.
pub(crate) async fn audit_page(
    app: &Arc<App>,
    workspace: WorkspaceId,
    page: PageQuery,
) -> Result<Json<Page<AuditBody>>, ApiError> {
    const BASE64: base64::engine::GeneralPurpose = base64::engine::general_purpose::URL_SAFE_NO_PAD;
    let limit = page.limit()?;
    let from = page.cursor.map(|cursor| BASE64.decode(cursor)).transpose();
    let from = from.map_err(|_| ApiError::at("?cursor", "this list gave out no such cursor"))?;
    app.offload(move |app| {
        let (rows, next) = app.catalogue.audit(workspace, from.as_deref(), limit)?;
        let next = next.map(|next| BASE64.encode(next));
        Ok(Json(Page { items: rows.into_iter().map(audit_body).collect(), next }))
    })
    .await
}
