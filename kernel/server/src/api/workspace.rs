//! What a workspace holds and how far its work has come.

use std::sync::Arc;

use axum::extract::State;
use serde::Serialize;
use utoipa::ToSchema;

use super::extract::{Authority, Json, right};
use super::masks::Sight;
use super::view::time;
use super::workspaces::state;
use crate::app::App;
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

/// What it holds. What plugins write and audiences send is `null` for a key that may run plugins or define audiences and has no scope
/// `profiles:read`: it would count the people who meet a condition of its own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct TotalsBody {
    profiles: u64,
    identifiers: u64,
    events: Option<u64>,
    /// Tag values over all profiles; the same for scores.
    tags: Option<u64>,
    scores: Option<u64>,
    deliveries: Option<DeliveryTotals>,
    /// Records and computations kept aside.
    set_aside: Option<u64>,
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
    let shows_numbers = authority.caller.sight_of_numbers() != Sight::Nobody;
    app.offload(move |app| {
        let tables = app.catalogue.workspace(workspace)?;
        let totals = app.kernel.totals(workspace)?;
        let progress = app.kernel.progress(workspace);
        let number = |number: u64| shows_numbers.then_some(number);
        let deliveries = DeliveryTotals {
            delivered: totals.delivered,
            pending: totals.pending,
            skipped: totals.skipped,
            dead: totals.dead,
        };
        Ok(Json(WorkspaceBody {
            name: tables.row.name.to_string(),
            title: tables.row.title.clone(),
            state: state(&tables.row).0.to_owned(),
            time_zone: tables.row.time_zone.clone(),
            created_at: time(tables.row.created_at),
            totals: TotalsBody {
                profiles: totals.profiles,
                identifiers: totals.identifiers,
                events: number(totals.events),
                tags: number(totals.tags),
                scores: number(totals.scores),
                deliveries: shows_numbers.then_some(deliveries),
                set_aside: number(totals.set_aside),
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
