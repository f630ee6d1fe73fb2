//! Merges and splits by hand.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use kith_model::identity::Identifier;
use kith_pipeline::StatementError;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::{identifier_at, veto_text};
use crate::api::extract::{Authority, Json as Body, Path, right};
use crate::api::profiles::{no_profile, profile_id};
use crate::app::App;
use crate::catalogue::Actor;
use crate::error::{ApiError, Problem};

/// Which two identifiers of a person are two people.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SplitBody {
    /// Two identifiers, each as `TYPE:VALUE`.
    #[schema(min_items = 2, max_items = 2)]
    apart: [String; 2],
}

/// Which two identifiers are one person.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct JoinBody {
    /// `TYPE:VALUE`.
    winner: String,
    /// `TYPE:VALUE`. Of two users this one is the old id, which counts no more.
    loser: String,
}

/// Whose the two identifiers are now.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct StatedBody {
    /// The profiles of the two, in their order.
    profiles: Vec<String>,
}

impl StatedBody {
    pub(super) fn new(profiles: Vec<String>) -> StatedBody {
        StatedBody { profiles }
    }
}

pub(super) fn refused(error: StatementError) -> ApiError {
    match error {
        StatementError::Unknown(_) => ApiError::missing(error.to_string()),
        StatementError::Same(..) => ApiError::at("", error.to_string()),
        StatementError::Vetoed(veto) => {
            let (rule, reason) = veto_text(&veto);
            ApiError::Conflict { code: "identity-rule", message: format!("{reason} (`{rule}`); nothing was changed") }
        }
        StatementError::TooConnected => {
            ApiError::Conflict { code: "too-connected", message: format!("{error}; nothing was changed") }
        }
        StatementError::Unavailable => {
            ApiError::Unavailable { code: "overloaded", message: error.to_string(), retry_after_s: 1 }
        }
        StatementError::Commit(error) => kith_store::CommitError::clone(&error).into(),
        StatementError::Query(error) => error.into(),
    }
}

/// Whose the two are now.
pub(super) async fn profiles_of(
    app: &Arc<App>,
    who: &ActingCaller,
    pair: &[Identifier; 2],
) -> Result<Vec<String>, ApiError> {
    let (workspace, pair) = (who.workspace, pair.clone());
    app.offload(move |app| {
        let found = pair.iter().map(|identifier| app.kernel.profile_by_identifier(workspace, identifier));
        let found = found.map(|found| Ok(found?.map(|view| view.id.to_string()).unwrap_or_default()));
        found.collect::<Result<Vec<String>, ApiError>>()
    })
    .await
}

/// Who acts, and where.
pub(super) struct ActingCaller {
    pub workspace: kith_model::id::WorkspaceId,
    pub actor: Actor,
}

/// What is about to be done is in the audit log before it is done. It names profiles and no identifiers, which an erasure could
/// not take out of the log.
pub(super) async fn write_down(
    app: &Arc<App>,
    who: &ActingCaller,
    action: &'static str,
    before: &[String],
) -> Result<(), ApiError> {
    let (workspace, actor, before) = (who.workspace, who.actor.clone(), before.to_vec());
    app.offload(move |app| {
        app.change(workspace, actor, |draft| {
            let target = format!("profile:{}", before.first().map_or("", String::as_str));
            let value: Value = json!({ "profiles": before });
            draft.audit(action, target, Some(value), None)?;
            Ok(())
        })
    })
    .await
}

/// Part two identifiers of a person: they are two people from now on, whatever evidence says, also what comes later. Each keeps
/// what came with it, and no message leaves because of it. A merge by hand of the two takes it back.
#[utoipa::path(
    post, path = "/api/v1/profiles/{id}/split", tag = "identity", params(("id" = String, Path)),
    security(("key" = ["identity:write", "profiles:read"])), request_body = SplitBody,
    responses(
        (status = 200, body = StatedBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn split(
    State(app): State<Arc<App>>,
    authority: Authority<right::IdentityWrite>,
    _people: Authority<right::ProfilesRead>,
    Path(id): Path<String>,
    Body(wanted): Body<SplitBody>,
) -> Result<Json<StatedBody>, ApiError> {
    let who = ActingCaller { workspace: authority.caller.workspace, actor: authority.actor() };
    let profile = profile_id(&id)?;
    let pair = [identifier_at("apart[0]", &wanted.apart[0])?, identifier_at("apart[1]", &wanted.apart[1])?];
    let workspace = who.workspace;
    let current = app.offload(move |app| app.kernel.profile(workspace, profile)).await?;
    let current = current.ok_or_else(|| no_profile(&id))?.id.to_string();
    let before = profiles_of(&app, &who, &pair).await?;
    if let Some(at) = before.iter().position(|profile| *profile != current) {
        return Err(ApiError::at(format!("apart[{at}]"), "this identifier is not of the profile".to_owned()));
    }
    write_down(&app, &who, "identity.split", &before).await?;
    app.kernel.part(workspace, &pair[0], &pair[1]).await.map_err(refused)?;
    Ok(Json(StatedBody { profiles: profiles_of(&app, &who, &pair).await? }))
}

/// Make two identifiers one person. A split of the two is taken back. No message leaves because of it.
#[utoipa::path(
    post, path = "/api/v1/identity/merges", tag = "identity", security(("key" = ["identity:write", "profiles:read"])),
    request_body = JoinBody,
    responses(
        (status = 200, body = StatedBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn merge(
    State(app): State<Arc<App>>,
    authority: Authority<right::IdentityWrite>,
    _people: Authority<right::ProfilesRead>,
    Body(wanted): Body<JoinBody>,
) -> Result<Json<StatedBody>, ApiError> {
    let who = ActingCaller { workspace: authority.caller.workspace, actor: authority.actor() };
    let pair = [identifier_at("winner", &wanted.winner)?, identifier_at("loser", &wanted.loser)?];
    let before = profiles_of(&app, &who, &pair).await?;
    if let Some(at) = before.iter().position(String::is_empty) {
        return Err(ApiError::missing(format!("no identifier `{}`", [&wanted.winner, &wanted.loser][at])));
    }
    write_down(&app, &who, "identity.merge", &before).await?;
    let by = who.actor.key.to_string();
    app.kernel.join(who.workspace, &pair[0], &pair[1], &by).await.map_err(refused)?;
    Ok(Json(StatedBody { profiles: profiles_of(&app, &who, &pair).await? }))
}
