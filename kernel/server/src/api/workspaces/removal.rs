//! Deleting a workspace: how much goes with it is shown first.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use serde_json::json;

use super::{named, put_in_force};
use crate::api::extract::{Authority, Confirmation, Path, Query, right};
use crate::app::App;
use crate::auth::digest;
use crate::catalogue::{WorkspaceRow, WorkspaceState, WorkspaceTables};
use crate::error::{ApiError, Problem};

/// Delete a workspace. The first answer is 409 with the numbers of `people`, `audiences` and `installations` and a `token`; it
/// is done when it comes again with that token in `confirm`. From that answer on its keys are unknown, no message of it leaves
/// and nothing of it is computed, also after a crash. Its name is free, and another workspace of that name shares nothing with
/// it. What it held stays on the disk until it is purged.
#[utoipa::path(
    delete, path = "/api/v1/workspaces/{name}", tag = "workspaces", params(("name" = String, Path), Confirmation),
    security(("key" = ["workspaces:admin"])),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    authority: Authority<right::WorkspacesAdmin>,
    Path(name): Path<String>,
    Query(query): Query<Confirmation>,
) -> Result<StatusCode, ApiError> {
    let actor = authority.actor();
    app.offload(move |app| {
        let _one = app.tenancy.lock();
        confirm(app, &*named(&app.catalogue.tables(), &name)?, query.confirm.as_deref())?;
        let change = app.begin_host(actor)?;
        let before = named(change.tables(), &name)?.row.clone();
        let after = WorkspaceRow { state: WorkspaceState::Deleted { at: change.now() }, ..before.clone() };
        let id = before.id;
        put_in_force(app, change, before, after)?;
        tracing::info!(workspace = id.0, name, "a workspace was deleted");
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// Insist that whoever deletes it knows what goes with it.
fn confirm(app: &App, tables: &WorkspaceTables, given: Option<&str>) -> Result<(), ApiError> {
    let people = app.kernel.people(tables.row.id)?;
    if given.is_some_and(|given| holds(given, tables, people)) {
        return Ok(());
    }
    let token = token(tables, people);
    let (audiences, installations) = (tables.audiences.len(), tables.installed().count());
    let message = format!(
        "{people} people, {audiences} audiences and {installations} installations go with `{}`. To delete it, send \
         `?confirm={token}`",
        tables.row.name
    );
    let details = json!({ "people": people, "audiences": audiences, "installations": installations, "token": token });
    Err(ApiError::Unconfirmed { code: "confirmation-required", message, details })
}

/// A token holds while the number of people has changed by no more than one in so many; in a busy workspace it would never hold
/// otherwise.
const TOLERANCE: u64 = 10;

/// Says what was shown: the number of people, and what somebody has made in the workspace.
fn token(tables: &WorkspaceTables, people: u64) -> String {
    let audiences: Vec<u32> = tables.audiences.keys().map(|id| id.0).collect();
    let installations: Vec<u32> = tables.installed().map(|row| row.id.0).collect();
    let WorkspaceRow { id, name, created_at, .. } = &tables.row;
    let text = format!("{} {name} {} {audiences:?} {installations:?} {people}", id.0, created_at.0);
    format!("{people}-{}", &digest(text.as_bytes())[..16])
}

fn holds(given: &str, tables: &WorkspaceTables, people: u64) -> bool {
    let Some(seen) = given.split_once('-').and_then(|(seen, _)| seen.parse::<u64>().ok()) else { return false };
    people.abs_diff(seen).saturating_mul(TOLERANCE) <= seen && token(tables, seen) == given
}
