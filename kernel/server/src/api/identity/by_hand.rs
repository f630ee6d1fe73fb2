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
use crate::error::{ApiError, Mistake, Problem};

/// Which two identifiers are two people, and stay so.
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

/// A mistake in words that hold on a command line too; the place in the body is beside them.
fn mistaken(path: &str, message: &str) -> ApiError {
    let mistakes = vec![Mistake { path: path.to_owned(), message: message.to_owned() }];
    ApiError::BadInput { code: "bad-input", message: message.to_owned(), mistakes }
}

/// One of the two identifiers that are to be parted.
fn end_at(end: usize, apart: &[String; 2]) -> Result<Identifier, ApiError> {
    let place = format!("apart[{end}]");
    let which = ["first", "second"][end];
    let write = || format!("the {which} of the two identifiers: write TYPE:VALUE, e.g. email:ada@example.com");
    identifier_at(&place, &apart[end]).map_err(|_| mistaken(&place, &write()))
}

/// Part two identifiers, one of them of this person: they are two people from now on, whatever evidence and the limits of other
/// rules say, also what comes later. Two that are two people already stay so. Each keeps what came with it, and no message leaves
/// because of it. A merge by hand of the two takes it back.
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
    let pair = [end_at(0, &wanted.apart)?, end_at(1, &wanted.apart)?];
    let workspace = who.workspace;
    let current = app.offload(move |app| app.kernel.profile_named(workspace, profile)).await?;
    let current = current.ok_or_else(|| no_profile(&id))?.to_string();
    let before = profiles_of(&app, &who, &pair).await?;
    if let Some(at) = before.iter().position(String::is_empty) {
        return Err(refused(StatementError::Unknown(pair[at].clone())));
    }
    // Two people who are two already stay so, whatever evidence and other rules say later.
    if !before.contains(&current) {
        return Err(mistaken("apart", "neither of the two identifiers is of this person"));
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
