//! Workspaces as the host sees them: made with their first key, listed, renamed, suspended and resumed, deleted. A host key
//! manages them and reads nothing that they hold.

mod body;
mod removal;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::budget::table;
use kith_model::id::WorkspaceId;
use kith_pipeline::Patience;

pub(crate) use self::body::state;
use self::body::{NewWorkspace, NewWorkspaceBody, PatchWorkspace, TenantBody, WantedState};
pub(crate) use self::removal::{__path_remove, remove};
use super::etag::{self, IfMatch, TaggedBody};
use super::extract::{Authority, Json, PageQuery, Path, Query, right};
use super::view::Page;
use crate::app::App;
use crate::auth::{self, KeyKind, Scope};
use crate::catalogue::draft::host::Act;
use crate::catalogue::{CredentialRow, HostChange, Tables, WorkspaceRow, WorkspaceState, WorkspaceTables};
use crate::error::{ApiError, Problem};
use crate::wiring::{Loading, Source};

/// Make a workspace. The answer shows its first admin key, this once.
#[utoipa::path(
    post, path = "/api/v1/workspaces", tag = "workspaces", security(("key" = ["workspaces:admin"])),
    request_body = NewWorkspace,
    responses(
        (status = 201, body = NewWorkspaceBody), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    authority: Authority<right::WorkspacesAdmin>,
    Json(wanted): Json<NewWorkspace>,
) -> Result<(StatusCode, Json<NewWorkspaceBody>), ApiError> {
    let actor = authority.actor();
    let wanted = wanted.checked()?;
    app.offload(move |app| {
        let _one = app.tenancy.lock();
        let key = auth::generate(KeyKind::Api).map_err(|error| ApiError::internal("making a key", error))?;
        let mut change = app.begin_host(actor)?;
        let kept = change.tables().workspaces.len() as u64;
        if kept >= app.config.max_workspaces {
            return Err(table::WORKSPACES_KEPT.exhausted(app.config.max_workspaces, None).into());
        }
        insist_on_free_name(change.tables(), wanted.name.as_str(), None)?;
        let (id, now) = (change.next_workspace(), change.now());
        let row = WorkspaceRow {
            title: wanted.title,
            budgets: wanted.budgets,
            ..WorkspaceRow::new(id, wanted.name, wanted.time_zone, now)
        };
        let after = Some(body::audited(&row));
        change.put_workspace(row.clone(), Act { action: "workspace.create", before: None, after })?;
        change.put_credential(CredentialRow::new(&key, id, "first admin key", [Scope::All], now));
        let about = body::of(app, change.tables(), &*named(change.tables(), row.name.as_str())?, now);
        let setup = setup(app, change.tables(), id)?;
        // Held until it runs, so that whoever sees it can use it.
        let _committed = change.commit()?;
        app.kernel.add(setup)?;
        tracing::info!(workspace = id.0, name = %row.name, "a workspace was made");
        Ok((StatusCode::CREATED, Json(NewWorkspaceBody { key: key.text, about })))
    })
    .await
}

/// All workspaces, in the order in which they were made.
#[utoipa::path(
    get, path = "/api/v1/workspaces", tag = "workspaces", params(PageQuery),
    security(("key" = ["workspaces:admin"])), responses((status = 200, body = Page<TenantBody>)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    _authority: Authority<right::WorkspacesAdmin>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<TenantBody>>, ApiError> {
    let limit = page.limit()?;
    let after = page.cursor.map(|cursor| cursor.parse().map(WorkspaceId)).transpose();
    let after = after.map_err(|_| ApiError::at("?cursor", "this list gave out no such cursor"))?;
    let (tables, now) = (app.catalogue.tables(), app.clock.now());
    let mut rest = tables.workspaces.iter().filter(|(id, _)| after.is_none_or(|after| **id > after)).peekable();
    let page: Vec<_> = rest.by_ref().take(limit).collect();
    let next = page.last().filter(|_| rest.peek().is_some()).map(|(id, _)| id.0.to_string());
    Ok(Json(Page { items: page.into_iter().map(|(_, known)| body::of(&app, &tables, known, now)).collect(), next }))
}

/// One workspace.
#[utoipa::path(
    get, path = "/api/v1/workspaces/{name}", tag = "workspaces", params(("name" = String, Path)),
    security(("key" = ["workspaces:admin"])),
    responses((status = 200, body = TenantBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    _authority: Authority<right::WorkspacesAdmin>,
    Path(name): Path<String>,
) -> Result<TaggedBody<TenantBody>, ApiError> {
    let tables = app.catalogue.tables();
    let known = named(&tables, &name)?;
    Ok(TaggedBody { tag: etag::tag(&known.row), body: body::of(&app, &tables, &known, app.clock.now()) })
}

/// Change a workspace: what is absent stays. `suspended` stops it at once: its keys are answered 403, senders 503 so that they
/// keep what they have, and nothing is sent or computed until it is `active` again, also over a restart. What was due
/// meanwhile passes the gate as things are then.
#[utoipa::path(
    patch, path = "/api/v1/workspaces/{name}", tag = "workspaces", params(("name" = String, Path)),
    security(("key" = ["workspaces:admin"])), request_body = PatchWorkspace,
    responses(
        (status = 200, body = TenantBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 412, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    authority: Authority<right::WorkspacesAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
    Json(wanted): Json<PatchWorkspace>,
) -> Result<TaggedBody<TenantBody>, ApiError> {
    let actor = authority.actor();
    let wanted = wanted.checked()?;
    app.offload(move |app| {
        let _one = app.tenancy.lock();
        let change = app.begin_host(actor)?;
        let known = named(change.tables(), &name)?;
        let before = known.row.clone();
        if_match.check(&format!("workspace `{name}`"), || etag::tag(&before))?;
        let mut after = WorkspaceRow { name: wanted.name.unwrap_or_else(|| before.name.clone()), ..before.clone() };
        insist_on_free_name(change.tables(), after.name.as_str(), Some(before.id))?;
        after.title = wanted.title.unwrap_or(after.title);
        for (budget, limit) in wanted.budgets {
            match limit {
                Some(limit) => drop(after.budgets.insert(budget, limit)),
                None => drop(after.budgets.remove(&budget)),
            }
        }
        after.state = match (wanted.state, before.state) {
            (Some(WantedState::Active), _) => WorkspaceState::Active,
            (Some(WantedState::Suspended), WorkspaceState::Active) => WorkspaceState::Suspended { since: change.now() },
            (_, state) => state,
        };
        let (id, state) = (after.id, after.state);
        if etag::tag(&after) == etag::tag(&before) {
            drop(change);
        } else {
            put_in_force(app, change, before, after)?;
        }
        let tables = app.catalogue.tables();
        tracing::info!(workspace = id.0, ?state, "a workspace was changed");
        let known = tables.workspaces.get(&id).ok_or_else(|| missing(&name))?;
        Ok(TaggedBody { tag: etag::tag(&known.row), body: body::of(app, &tables, known, app.clock.now()) })
    })
    .await
}

/// Commit another row of a workspace, and run or stop it as the row says. The caller holds `tenancy`.
fn put_in_force(
    app: &App,
    mut change: HostChange<'_>,
    before: WorkspaceRow,
    after: WorkspaceRow,
) -> Result<(), ApiError> {
    let (id, was_active, is_active) = (before.id, before.state.is_active(), after.state.is_active());
    let action = match (before.state, after.state) {
        (_, WorkspaceState::Deleted { .. }) => "workspace.delete",
        (WorkspaceState::Active, WorkspaceState::Suspended { .. }) => "workspace.suspend",
        (WorkspaceState::Suspended { .. }, WorkspaceState::Active) => "workspace.resume",
        _ => "workspace.change",
    };
    let shown = (!after.state.is_deleted()).then(|| body::audited(&after));
    change.put_workspace(after, Act { action, before: Some(body::audited(&before)), after: shown })?;
    let committed = change.commit()?;
    if was_active && !is_active {
        // Before the change shows, so that whoever sees it sees nothing begin any more. The rest takes as long as what is under
        // way, and nobody else's change waits for it.
        app.kernel.begin_removal(id);
        drop(committed);
        app.kernel.remove(id);
        app.processor.forget(id);
        app.catalogue.forget(id);
        app.wiring.forget(id);
    } else if is_active && !was_active {
        // Its plugins may have to be compiled and its index read, which others do not wait for either; until it runs, its keys are
        // asked to come back.
        drop(committed);
        let tables = app.catalogue.tables();
        let setup = setup(app, &tables, id)?;
        if let Some(tables) = tables.workspaces.get(&id) {
            app.wiring.keep_loaded(id, app.wiring.loaded(tables));
        }
        app.kernel.add(setup)?;
    }
    Ok(())
}

fn setup(app: &App, tables: &Tables, id: WorkspaceId) -> Result<kith_pipeline::Setup, ApiError> {
    let tables = tables.workspaces.get(&id).ok_or_else(|| missing("of that number"))?;
    let (must_run, sealer, now) = (&std::collections::BTreeSet::new(), app.catalogue.sealer(), app.clock.now());
    Ok(app.wiring.setup(Source { tables, must_run, sealer, now }, Loading::Allowed(&Patience::default()))?)
}

/// The workspace of that name.
fn named(tables: &Tables, name: &str) -> Result<Arc<WorkspaceTables>, ApiError> {
    tables.workspace_named(name).cloned().ok_or_else(|| missing(name))
}

fn missing(name: &str) -> ApiError {
    ApiError::missing(format!("no workspace `{}`", name.chars().take(64).collect::<String>()))
}

fn insist_on_free_name(tables: &Tables, name: &str, own: Option<WorkspaceId>) -> Result<(), ApiError> {
    match tables.workspace_named(name) {
        Some(taken) if Some(taken.row.id) != own => {
            let message = format!("there is a workspace `{name}` already");
            Err(ApiError::Conflict { code: "name-taken", message })
        }
        _ => Ok(()),
    }
}
