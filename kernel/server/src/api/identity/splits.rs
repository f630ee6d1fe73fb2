//! What people parted by hand: the list, and taking it back.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use kith_pipeline::PageRequest;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::by_hand::{ActingCaller, StatedBody, profiles_of, refused, write_down};
use super::{EvidenceEndBody, identifier_at};
use crate::api::extract::{Authority, PageQuery, Query, right};
use crate::api::profiles::person;
use crate::api::view::Page;
use crate::app::App;
use crate::error::{ApiError, Problem};

/// Two identifiers that somebody parted: they are two people, whatever evidence says.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SplitView {
    identifiers: Vec<EvidenceEndBody>,
}

/// Which two.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct PairQuery {
    /// `TYPE:VALUE`.
    #[param(pattern = "^[^:]+:.+$")]
    one: String,
    /// `TYPE:VALUE`.
    #[param(pattern = "^[^:]+:.+$")]
    other: String,
}

/// The identifiers that somebody parted.
#[utoipa::path(
    get, path = "/api/v1/identity/splits", tag = "identity", params(PageQuery),
    security(("key" = ["profiles:read"])),
    responses((status = 200, body = Page<SplitView>), (status = 400, body = Problem)),
)]
pub(crate) async fn splits(
    State(app): State<Arc<App>>,
    authority: Authority<right::ProfilesRead>,
    Query(page): Query<PageQuery>,
) -> Result<Json<Page<SplitView>>, ApiError> {
    let (workspace, limit) = (authority.caller.workspace, page.limit()?);
    let cursor = page.cursor;
    let found =
        app.offload(move |app| app.kernel.splits(workspace, PageRequest { limit, cursor: cursor.as_deref() })).await?;
    let of = found.items.iter().flat_map(|split| split.profiles).map(person);
    app.reads.note(&authority.caller, "identity.splits", of);
    let items = found.items.iter().map(|split| SplitView {
        identifiers: split
            .identifiers
            .iter()
            .zip(split.profiles)
            .map(|(identifier, profile)| EvidenceEndBody {
                identifier: identifier.into(),
                profile: profile.to_string(),
            })
            .collect(),
    });
    Ok(Json(Page { items: items.collect(), next: found.next }))
}

/// Take it back that two identifiers were parted: evidence decides about them again. No message leaves because of it.
#[utoipa::path(
    delete, path = "/api/v1/identity/splits", tag = "identity", params(PairQuery),
    security(("key" = ["identity:write", "profiles:read"])),
    responses(
        (status = 200, body = StatedBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem),
    ),
)]
pub(crate) async fn unsplit(
    State(app): State<Arc<App>>,
    authority: Authority<right::IdentityWrite>,
    _people: Authority<right::ProfilesRead>,
    Query(query): Query<PairQuery>,
) -> Result<Json<StatedBody>, ApiError> {
    let who = ActingCaller { workspace: authority.caller.workspace, actor: authority.actor() };
    let pair = [identifier_at("?one", &query.one)?, identifier_at("?other", &query.other)?];
    let before = profiles_of(&app, &who, &pair).await?;
    if let Some(at) = before.iter().position(String::is_empty) {
        return Err(ApiError::missing(format!("no identifier `{}`", [&query.one, &query.other][at])));
    }
    write_down(&app, &who, "identity.unsplit", &before).await?;
    let was_parted = app.kernel.unpart(who.workspace, &pair[0], &pair[1]).await.map_err(refused)?;
    if !was_parted {
        return Err(ApiError::missing(format!(
            "`{}` and `{}` were not parted by hand; `GET /api/v1/identity/splits` lists what was",
            query.one, query.other
        )));
    }
    Ok(Json(StatedBody::new(profiles_of(&app, &who, &pair).await?)))
}
