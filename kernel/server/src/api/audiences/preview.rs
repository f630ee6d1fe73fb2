//! How many people a definition would write to, before it does: a preview gives out a token, and a definition that writes to
//! existing members is taken only with the token of a preview that still holds.

use std::sync::Arc;

use axum::extract::State;
use hmac::{Hmac, Mac as _};
use kith_model::audience::{Audience, Reach};
use kith_model::id::WorkspaceId;
use kith_pipeline::Patience;
use serde::Serialize;
use sha2::Sha256;
use utoipa::ToSchema;

use super::Condition;
use crate::api::extract::{Authority, Json, right};
use crate::app::App;
use crate::auth::hex;
use crate::error::{ApiError, Problem};
use crate::reads;

/// A preview holds while the count has changed by no more than one in so many.
const TOLERANCE: u64 = 10;

/// What an audience with a condition would hold at most.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PreviewBody {
    /// People of whom the condition holds. Those among them who refuse to be profiled would be in no audience.
    count: u64,
    /// People of whom it is not known yet.
    pending: u64,
    /// Whether nobody is pending, nothing that the condition reads is being computed again, and all that came is counted.
    exact: bool,
    /// How many messages an `on_enter` that writes to existing members would send at most: each one's consent is checked
    /// when it is sent.
    would_send: u64,
    /// Shows, as `previewed` of a definition with this condition, that somebody has seen these numbers.
    token: String,
    /// What may be a mistake in the condition, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    warnings: Option<Vec<String>>,
}

/// Count whom an audience would hold and write to.
#[utoipa::path(
    post, path = "/api/v1/audiences/preview", tag = "audiences", security(("key" = ["audiences:read", "profiles:read"])),
    request_body = Condition,
    responses((status = 200, body = PreviewBody), (status = 400, body = Problem), (status = 429, body = Problem)),
)]
pub(crate) async fn preview(
    State(app): State<Arc<App>>,
    authority: Authority<right::AudiencesRead>,
    _people: Authority<right::ProfilesRead>,
    Json(wanted): Json<Condition>,
) -> Result<Json<PreviewBody>, ApiError> {
    let workspace = authority.caller.workspace;
    let caller = authority.caller;
    app.ask(move |app, patience| {
        app.reads.note(&caller, "audience.preview", [reads::sealed(app, "condition", &wanted.condition)]);
        super::mask(app, &caller)?.insist(&wanted.condition)?;
        let mut body = counted(app, workspace, &wanted.condition, patience)?;
        body.warnings = Some(super::doubts(app, &caller, &wanted.condition)?);
        Ok(Json(body))
    })
    .await
}

fn counted(app: &App, workspace: WorkspaceId, condition: &str, patience: &Patience) -> Result<PreviewBody, ApiError> {
    let counted = app.kernel.count_for(workspace, condition, patience)?;
    let (count, pending) = (counted.count, counted.pending);
    let token = Token { workspace, condition, count }.text(&app.preview_key);
    // What has come and is not counted yet would be written to as well.
    let exact = counted.exact && counted.current && pending == 0;
    Ok(PreviewBody { count, pending, exact, would_send: count.saturating_add(pending), token, warnings: None })
}

/// Whether the change from `before` to `after` writes to people who are members without doing anything.
pub(super) fn is_needed(before: Option<&Audience>, after: &Audience) -> bool {
    let writes = |audience: &Audience| audience.on_enter.as_ref().is_some_and(|action| action.existing == Reach::Send);
    let did_before = before.is_some_and(|before| writes(before) && before.condition == after.condition);
    writes(after) && !did_before
}

/// Insist on the token of a preview of the condition that still holds.
pub(super) fn insist(
    app: &App,
    workspace: WorkspaceId,
    condition: &str,
    previewed: Option<&str>,
) -> Result<(), ApiError> {
    let now = counted(app, workspace, condition, &Patience::default())?;
    if now.exact && now.would_send == 0 {
        // There is nobody whom it would write to.
        return Ok(());
    }
    let seen = previewed.and_then(|text| Token::read(text, workspace, condition, &app.preview_key));
    let (code, message) = match seen {
        Some(token) if token.count.abs_diff(now.count) * TOLERANCE <= token.count => return Ok(()),
        Some(token) => {
            let (then, now) = (token.count, now.count);
            ("preview-changed", format!("the preview counted {then} people; by now the condition holds for {now}"))
        }
        None => {
            let message = format!("this writes to people who are members already, up to {} of them", now.would_send);
            ("preview-required", message)
        }
    };
    let message = format!("{message}; to do it, send the `token` of this answer as `previewed`");
    let details = serde_json::to_value(now).map_err(|error| ApiError::internal("showing a preview", error))?;
    Err(ApiError::Unconfirmed { code, message, details })
}

/// What a preview said. The token carries the count, and a MAC of it all, so that nothing is kept for those that nobody uses.
struct Token<'a> {
    workspace: WorkspaceId,
    condition: &'a str,
    count: u64,
}

impl<'a> Token<'a> {
    fn mac(&self, key: &[u8; 32]) -> Hmac<Sha256> {
        let mut mac = Hmac::<Sha256>::new_from_slice(key).expect("HMAC takes keys of any length");
        mac.update(&self.workspace.0.to_be_bytes());
        mac.update(&self.count.to_be_bytes());
        mac.update(self.condition.as_bytes());
        mac
    }

    fn text(&self, key: &[u8; 32]) -> String {
        format!("{}-{}", self.count, hex(&self.mac(key).finalize().into_bytes()[..16]))
    }

    /// The token of that text, if this server gave it out for this condition.
    fn read(text: &str, workspace: WorkspaceId, condition: &'a str, key: &[u8; 32]) -> Option<Token<'a>> {
        let count = text.split_once('-')?.0.parse().ok()?;
        let token = Token { workspace, condition, count };
        let is_ours: bool = subtle::ConstantTimeEq::ct_eq(token.text(key).as_bytes(), text.as_bytes()).into();
        is_ours.then_some(token)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_token_is_good_for_its_condition_and_count_alone() {
        let (key, workspace) = ([7; 32], WorkspaceId(1));
        let text = Token { workspace, condition: "true", count: 300 }.text(&key);
        let read =
            |text: &str, workspace, condition, key| Token::read(text, workspace, condition, key).map(|t| t.count);
        assert_eq!(read(&text, workspace, "true", &key), Some(300));
        assert_eq!(read(&text, workspace, "false", &key), None);
        assert_eq!(read(&text, WorkspaceId(2), "true", &key), None);
        assert_eq!(read(&text, workspace, "true", &[8; 32]), None);
        assert_eq!(read(&text.replacen("300", "900", 1), workspace, "true", &key), None);
        for nonsense in ["", "-", "300", "300-", "x-0"] {
            assert_eq!(read(nonsense, workspace, "true", &key), None, "{nonsense}");
        }
    }
}
