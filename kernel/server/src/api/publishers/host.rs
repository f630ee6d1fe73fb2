//! The host's publishers: what their namespaces cover, nobody else may sign in any workspace, and the host's own policy knows them
//! alone. A host key manages them.

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;

use super::body::{NewPublisherKey, PublisherBody, PublisherDocument, WantedRevocation, shown, tagged};
use super::edit::{Edit, Edited, edited};
use super::{name_of, named, page, still_there};
use crate::api::etag::{IfMatch, TaggedBody};
use crate::api::extract::{Authority, Json, PageQuery, Path, Query, WrittenJson, right};
use crate::api::view::Page;
use crate::app::App;
use crate::catalogue::Actor;
use crate::catalogue::draft::host::Act;
use crate::error::{ApiError, Problem};

/// Change a publisher of the host; as it is then, or nothing where it was removed and nothing stays of it.
fn change(
    app: &App,
    actor: Actor,
    name: &str,
    if_match: &IfMatch,
    edit: &Edit,
) -> Result<Option<TaggedBody<PublisherBody>>, ApiError> {
    let name = name_of(name)?;
    let mut change = app.begin_host(actor)?;
    let Edited { before, after, action } = edited(&change.tables().publishers, &name, if_match, edit, change.now())?;
    let answer = after.as_ref().map(tagged);
    if before.as_deref() == after.as_ref() {
        return Ok(answer);
    }
    let act = Act { action, before: before.as_deref().and_then(shown), after: after.as_ref().and_then(shown) };
    match after {
        Some(row) => change.put_publisher(row, &act),
        None => change.remove_publisher(name.as_str(), &act),
    }
    drop(change.commit()?);
    Ok(answer)
}

/// All publishers of the host, by their names.
#[utoipa::path(
    get, path = "/api/v1/host/publishers", tag = "publishers", params(PageQuery),
    security(("key" = ["workspaces:admin"])),
    responses((status = 200, body = Page<PublisherBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    _authority: Authority<right::WorkspacesAdmin>,
    Query(query): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    app.offload(move |app| page(&app.catalogue.tables().publishers, &query)).await
}

/// One publisher of the host.
#[utoipa::path(
    get, path = "/api/v1/host/publishers/{name}", tag = "publishers", params(("name" = String, Path)),
    security(("key" = ["workspaces:admin"])),
    responses((status = 200, body = PublisherBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    _authority: Authority<right::WorkspacesAdmin>,
    Path(name): Path<String>,
) -> Result<TaggedBody<PublisherBody>, ApiError> {
    Ok(tagged(named(&app.catalogue.tables().publishers, &name)?))
}

/// Make a publisher of the host, or say anew what it may sign; its keys stay.
#[utoipa::path(
    put, path = "/api/v1/host/publishers/{name}", tag = "publishers", params(("name" = String, Path)),
    security(("key" = ["workspaces:admin"])), request_body = PublisherDocument,
    responses(
        (status = 200, body = PublisherBody), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 412, body = Problem), (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    authority: Authority<right::WorkspacesAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
    Json(document): Json<PublisherDocument>,
) -> Result<TaggedBody<PublisherBody>, ApiError> {
    let actor = authority.actor();
    app.offload(move |app| still_there(change(app, actor, &name, &if_match, &Edit::Set(document))?)).await
}

/// Remove a publisher of the host with its keys. Those that are revoked stay, since a revocation is for good.
#[utoipa::path(
    delete, path = "/api/v1/host/publishers/{name}", tag = "publishers", params(("name" = String, Path)),
    security(("key" = ["workspaces:admin"])),
    responses(
        (status = 204), (status = 400, body = Problem), (status = 404, body = Problem), (status = 412, body = Problem),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    authority: Authority<right::WorkspacesAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let actor = authority.actor();
    app.offload(move |app| change(app, actor, &name, &if_match, &Edit::Remove).map(|_| StatusCode::NO_CONTENT)).await
}

/// Give a publisher of the host another key.
#[utoipa::path(
    post, path = "/api/v1/host/publishers/{name}/keys", tag = "publishers", params(("name" = String, Path)),
    security(("key" = ["workspaces:admin"])), request_body = NewPublisherKey,
    responses(
        (status = 200, body = PublisherBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn add_key(
    State(app): State<Arc<App>>,
    authority: Authority<right::WorkspacesAdmin>,
    Path(name): Path<String>,
    Json(key): Json<NewPublisherKey>,
) -> Result<Json<PublisherBody>, ApiError> {
    let (actor, edit) = (authority.actor(), Edit::Add(key.checked()?));
    app.offload(move |app| {
        still_there(change(app, actor, &name, &IfMatch::default(), &edit)?).map(|answer| Json(answer.body))
    })
    .await
}

/// Revoke a key of the host's publisher for good, in every workspace.
#[utoipa::path(
    post, path = "/api/v1/host/publishers/{name}/keys/{key_id}/revoke", tag = "publishers",
    params(("name" = String, Path), ("key_id" = String, Path, description = "as the publisher shows it")),
    security(("key" = ["workspaces:admin"])), request_body = WantedRevocation,
    responses(
        (status = 200, body = PublisherBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn revoke_key(
    State(app): State<Arc<App>>,
    authority: Authority<right::WorkspacesAdmin>,
    Path((name, key)): Path<(String, String)>,
    Json(wanted): Json<WantedRevocation>,
) -> Result<Json<PublisherBody>, ApiError> {
    let (actor, edit) = (authority.actor(), Edit::Revoke { key, why: wanted.checked()? });
    app.offload(move |app| {
        still_there(change(app, actor, &name, &IfMatch::default(), &edit)?).map(|answer| Json(answer.body))
    })
    .await
}
