//! Publishers: who may sign which plugins, and with which keys. Those of a workspace are here, those of the host, whose keys hold
//! in every workspace, in `publishers/host.rs`; what may be changed of either is the same.

mod body;
mod edit;
pub(crate) mod host;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::id::{InvalidId, Name, WorkspaceId};

use self::body::{NewPublisherKey, PublisherBody, PublisherDocument, WantedRevocation, shown, tagged};
use self::edit::{Edit, Edited, edited};
use super::etag::{IfMatch, TaggedBody};
use super::extract::{Authority, Json, PageQuery, Path, Query, WrittenJson, right};
use super::view::Page;
use crate::app::App;
use crate::catalogue::Actor;
use crate::catalogue::publishers::{PublisherRow, Publishers};
use crate::error::{ApiError, Problem};

fn name_of(text: &str) -> Result<Name, ApiError> {
    text.parse().map_err(|error: InvalidId| ApiError::at("name", error.to_string()))
}

fn named<'a>(all: &'a Publishers, name: &str) -> Result<&'a Arc<PublisherRow>, ApiError> {
    let missing = || ApiError::missing(format!("no publisher `{}`", name.chars().take(64).collect::<String>()));
    all.get(name).ok_or_else(missing)
}

fn page(all: &Publishers, page: &PageQuery) -> Result<WrittenJson, ApiError> {
    let all = all.iter().map(|(name, row)| (name.clone(), row));
    WrittenJson::of(&Page::of(all, page, |row| Ok(PublisherBody::from(row.as_ref())))?)
}

/// Change a publisher of a workspace; as it is then, or nothing where it was removed and nothing stays of it.
fn change(
    app: &App,
    (workspace, actor): (WorkspaceId, Actor),
    name: &str,
    if_match: &IfMatch,
    edit: &Edit,
) -> Result<Option<TaggedBody<PublisherBody>>, ApiError> {
    let name = name_of(name)?;
    app.change(workspace, actor, |draft| {
        let Edited { before, after, action } = edited(&draft.tables().publishers, &name, if_match, edit, draft.now())?;
        let answer = after.as_ref().map(tagged);
        if before.as_deref() == after.as_ref() {
            return Ok(answer);
        }
        draft.audit(action, &name, before.as_deref().and_then(shown), after.as_ref().and_then(shown))?;
        match after {
            Some(row) if matches!(edit, Edit::Revoke { .. }) => draft.put_revocation(row),
            Some(row) => draft.put_publisher(row),
            None => draft.remove_publisher(name.as_str()),
        }
        Ok(answer)
    })
}

fn still_there<T>(answer: Option<T>) -> Result<T, ApiError> {
    answer.ok_or_else(|| ApiError::missing("the publisher is gone"))
}

/// All publishers of the workspace, by their names.
#[utoipa::path(
    get, path = "/api/v1/publishers", tag = "publishers", params(PageQuery), security(("key" = ["plugins:admin"])),
    responses((status = 200, body = Page<PublisherBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Query(query): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    app.offload(move |app| page(&app.catalogue.workspace(authority.caller.workspace)?.publishers, &query)).await
}

/// One publisher.
#[utoipa::path(
    get, path = "/api/v1/publishers/{name}", tag = "publishers", params(("name" = String, Path)),
    security(("key" = ["plugins:admin"])),
    responses((status = 200, body = PublisherBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
) -> Result<TaggedBody<PublisherBody>, ApiError> {
    let tables = app.catalogue.workspace(authority.caller.workspace)?;
    Ok(tagged(named(&tables.publishers, &name)?))
}

/// Make a publisher, or say anew what it may sign; its keys stay.
#[utoipa::path(
    put, path = "/api/v1/publishers/{name}", tag = "publishers", params(("name" = String, Path)),
    security(("key" = ["plugins:admin"])), request_body = PublisherDocument,
    responses(
        (status = 200, body = PublisherBody), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 412, body = Problem), (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn replace(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
    Json(document): Json<PublisherDocument>,
) -> Result<TaggedBody<PublisherBody>, ApiError> {
    let who = (authority.caller.workspace, authority.actor());
    app.offload(move |app| still_there(change(app, who, &name, &if_match, &Edit::Set(document))?)).await
}

/// Remove a publisher with its keys: what it signed with them is of an unknown key from then on. Its revoked keys stay, since a
/// revocation is for good: the publisher is still shown with them as `removed`, and signs nothing.
#[utoipa::path(
    delete, path = "/api/v1/publishers/{name}", tag = "publishers", params(("name" = String, Path)),
    security(("key" = ["plugins:admin"])),
    responses(
        (status = 204), (status = 400, body = Problem), (status = 404, body = Problem), (status = 412, body = Problem),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
) -> Result<StatusCode, ApiError> {
    let who = (authority.caller.workspace, authority.actor());
    app.offload(move |app| change(app, who, &name, &if_match, &Edit::Remove).map(|_| StatusCode::NO_CONTENT)).await
}

/// Give a publisher another key.
#[utoipa::path(
    post, path = "/api/v1/publishers/{name}/keys", tag = "publishers", params(("name" = String, Path)),
    security(("key" = ["plugins:admin"])), request_body = NewPublisherKey,
    responses(
        (status = 200, body = PublisherBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn add_key(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    Json(key): Json<NewPublisherKey>,
) -> Result<Json<PublisherBody>, ApiError> {
    let who = (authority.caller.workspace, authority.actor());
    let edit = Edit::Add(key.checked()?);
    app.offload(move |app| {
        still_there(change(app, who, &name, &IfMatch::default(), &edit)?).map(|answer| Json(answer.body))
    })
    .await
}

/// Revoke a key for good: nothing that it signed, whenever that was, is taken or installed any more. What is installed goes on
/// running and says so.
#[utoipa::path(
    post, path = "/api/v1/publishers/{name}/keys/{key_id}/revoke", tag = "publishers",
    params(("name" = String, Path), ("key_id" = String, Path, description = "as the publisher shows it")),
    security(("key" = ["plugins:admin"])), request_body = WantedRevocation,
    responses(
        (status = 200, body = PublisherBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn revoke_key(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path((name, key)): Path<(String, String)>,
    Json(wanted): Json<WantedRevocation>,
) -> Result<Json<PublisherBody>, ApiError> {
    let who = (authority.caller.workspace, authority.actor());
    let edit = Edit::Revoke { key, why: wanted.checked()? };
    app.offload(move |app| {
        still_there(change(app, who, &name, &IfMatch::default(), &edit)?).map(|answer| Json(answer.body))
    })
    .await
}
