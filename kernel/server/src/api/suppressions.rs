//! Identifiers that nothing may be sent to, whichever profile has them. They stand in bodies and never in paths, so that no
//! proxy's log has them, and the list itself has digests alone.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use kith_model::budget::table;
use kith_model::id::WorkspaceId;
use kith_model::identity::Identifier;
use kith_pipeline::{PageRequest, Suppression, SuppressionChange};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;

use super::extract::{Authority, Json, PageQuery, Query, WrittenJson, check_text, right};
use super::view::{Page, time};
use crate::app::App;
use crate::catalogue::Actor;
use crate::error::{ApiError, Mistake, Problem};
use crate::processor;
use crate::reads;

/// Identifiers to suppress.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct NewSuppressions {
    /// Each as `TYPE:VALUE`, e.g. `email:ada@example.com`; 10,000 at most, a longer list is sent in parts.
    identifiers: Vec<String>,
    /// For people, e.g. `bounced`.
    #[serde(default)]
    reason: String,
    /// Look at the identifiers and change nothing: for a list that is sent in parts.
    #[serde(default)]
    dry_run: bool,
}

/// Identifiers to look up or to take off the list.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct SuppressedIdentifiers {
    /// Each as `TYPE:VALUE`; 10,000 at most.
    identifiers: Vec<String>,
}

/// What became of the identifiers.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SuppressionsChanged {
    /// How many were put on the list, or taken off it.
    changed: usize,
    /// How many were on the list before they were put on it, and have the new reason and time; or were not on it when they were taken
    /// off.
    already: usize,
}

/// Which identifiers are on the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SuppressionsChecked {
    /// In the order in which they were asked for.
    items: Vec<SuppressionChecked>,
}

/// Whether one identifier is on the list.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SuppressionChecked {
    identifier: String,
    suppressed: bool,
    #[serde(skip_serializing_if = "Option::is_none")]
    since: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    reason: Option<String>,
}

/// A suppressed identifier.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct SuppressionBody {
    /// HMAC-SHA256 of the identifier under the workspace's key, its first 16 bytes: who it is cannot be read from it.
    digest: String,
    r#type: String,
    since: String,
    reason: String,
}

impl From<&Suppression> for SuppressionBody {
    fn from(suppression: &Suppression) -> SuppressionBody {
        SuppressionBody {
            digest: suppression.digest.clone(),
            r#type: suppression.kind.clone(),
            since: time(suppression.since),
            reason: suppression.reason.clone(),
        }
    }
}

fn identifiers(texts: &[String]) -> Result<Vec<Identifier>, ApiError> {
    let read = |(place, text): (usize, &String)| {
        let parts = text.split_once(':').filter(|(kind, value)| is_kind(kind) && !value.trim().is_empty());
        let (kind, value) = parts.ok_or_else(|| {
            ApiError::at(format!("identifiers[{place}]"), "write TYPE:VALUE, e.g. email:ada@example.com")
        })?;
        Ok(Identifier::new(kind, value))
    };
    texts.iter().enumerate().map(read).collect()
}

/// Mistakes that are told of one request.
const MAX_MISTAKES: usize = 20;

/// Refuse identifiers that could keep no message from anybody: whoever put one on the list would believe that it holds.
fn insist_on_effect(app: &App, workspace: WorkspaceId, identifiers: &[Identifier]) -> Result<(), ApiError> {
    let mut mistakes = Vec::new();
    for (place, identifier) in identifiers.iter().enumerate() {
        let Some(problem) = app.kernel.unsuppressible(workspace, identifier)? else { continue };
        let message = format!("`{identifier}` would keep no message from anybody: {problem}");
        mistakes.push(Mistake { path: format!("identifiers[{place}]"), message });
        if mistakes.len() == MAX_MISTAKES {
            break;
        }
    }
    match mistakes.first() {
        None => Ok(()),
        Some(first) => {
            let message = format!("{}: {}; nothing was changed", first.path, first.message);
            Err(ApiError::BadInput { code: "no-such-identifier", message, mistakes })
        }
    }
}

fn is_kind(kind: &str) -> bool {
    (1..=64).contains(&kind.len())
        && kind.bytes().all(|byte| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_')
}

/// What is done with more identifiers is much by the caller's choice.
const FEW: usize = 100;

/// Refuse more identifiers than one request may bring.
fn insist_on_few(identifiers: &[String]) -> Result<(), ApiError> {
    let limit = table::SUPPRESSIONS_SENT.default;
    if identifiers.len() as u64 > limit {
        return Err(table::SUPPRESSIONS_SENT.exhausted(limit, None).into());
    }
    if identifiers.len() > FEW {
        processor::is_large_from_now_on();
    }
    Ok(())
}

/// Identifiers that are changed in one commit: everybody's commits wait while one is written.
const PIECE: usize = 1_000;

/// Change the list and write down who did it, a piece at a time; where one is refused, those before it are made.
async fn change(
    app: Arc<App>,
    authority: Authority<right::DeliveriesWrite>,
    texts: Vec<String>,
    reason: Option<String>,
) -> Result<Json<SuppressionsChanged>, ApiError> {
    insist_on_few(&texts)?;
    let workspace = authority.caller.workspace;
    // What is no identifier is found before the first piece is changed, and what is named twice is changed once.
    let texts = app.offload(move |_| {
        identifiers(&texts)?;
        let mut seen = BTreeSet::new();
        Ok::<Arc<[String]>, ApiError>(texts.into_iter().filter(|text| seen.insert(text.clone())).collect())
    });
    let (texts, reason): (Arc<[String]>, Arc<Option<String>>) = (texts.await?, Arc::new(reason));
    let mut of_all = SuppressionsChanged { changed: 0, already: 0 };
    for begin in (0..texts.len()).step_by(PIECE) {
        let (texts, reason, actor) = (Arc::clone(&texts), Arc::clone(&reason), authority.actor());
        if begin > 0 {
            app.processor.go_on(workspace).await;
        }
        let of_piece = app.offload(move |app| {
            let piece = &texts[begin..texts.len().min(begin + PIECE)];
            change_piece(app, workspace, actor, piece, reason.as_deref())
        });
        let SuppressionsChanged { changed, already } = of_piece.await?;
        of_all = SuppressionsChanged { changed: of_all.changed + changed, already: of_all.already + already };
    }
    Ok(Json(of_all))
}

/// Of whom is in the audit log as what nobody can be read from.
fn change_piece(
    app: &App,
    workspace: WorkspaceId,
    actor: Actor,
    texts: &[String],
    reason: Option<&str>,
) -> Result<SuppressionsChanged, ApiError> {
    const NAMED: usize = 32;
    let identifiers = identifiers(texts)?;
    let (action, change) = match reason {
        Some(reason) => ("suppression.add", SuppressionChange::Add { reason, at: app.clock.now() }),
        None => ("suppression.remove", SuppressionChange::Remove),
    };
    let steps = app.kernel.suppression_steps(workspace, &identifiers, change)?;
    let mut listed = 0;
    for identifier in &identifiers {
        listed += usize::from(app.kernel.suppression(workspace, identifier)?.is_some());
    }
    let (changed, already) = match reason {
        Some(_) => (identifiers.len() - listed, listed),
        None => (listed, identifiers.len() - listed),
    };
    let sealed: Vec<String> = texts.iter().take(NAMED).map(|text| reads::sealed(app, "identifier", text)).collect();
    app.change(workspace, actor, move |draft| {
        if draft.change_suppressions(steps)? {
            let after = json!({ "identifiers": identifiers.len(), "of": sealed, "reason": reason });
            draft.audit(action, "", None, Some(after))?;
        }
        Ok(SuppressionsChanged { changed, already })
    })
}

/// Suppress identifiers: nothing is sent to whoever has one of them, from the next message on. One that is suppressed already
/// is suppressed from now on, with the new reason.
#[utoipa::path(
    post, path = "/api/v1/suppressions", tag = "deliveries", security(("key" = ["deliveries:write"])),
    request_body = NewSuppressions,
    responses(
        (status = 200, body = SuppressionsChanged), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 413, body = Problem),
    ),
)]
pub(crate) async fn add(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesWrite>,
    Json(wanted): Json<NewSuppressions>,
) -> Result<Json<SuppressionsChanged>, ApiError> {
    check_text(&table::TITLE_TEXT, &wanted.reason)?;
    insist_on_few(&wanted.identifiers)?;
    let workspace = authority.caller.workspace;
    let (looked_at, is_dry_run) = (wanted.identifiers.clone(), wanted.dry_run);
    app.offload(move |app| insist_on_effect(app, workspace, &identifiers(&looked_at)?)).await?;
    if is_dry_run {
        return Ok(Json(SuppressionsChanged { changed: 0, already: 0 }));
    }
    change(app, authority, wanted.identifiers, Some(wanted.reason)).await
}

/// Take identifiers off the list.
#[utoipa::path(
    post, path = "/api/v1/suppressions/remove", tag = "deliveries", security(("key" = ["deliveries:write"])),
    request_body = SuppressedIdentifiers,
    responses(
        (status = 200, body = SuppressionsChanged), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 413, body = Problem),
    ),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesWrite>,
    Json(wanted): Json<SuppressedIdentifiers>,
) -> Result<Json<SuppressionsChanged>, ApiError> {
    change(app, authority, wanted.identifiers, None).await
}

/// Whether identifiers are suppressed, since when and why.
#[utoipa::path(
    post, path = "/api/v1/suppressions/check", tag = "deliveries", security(("key" = ["deliveries:read"])),
    request_body = SuppressedIdentifiers,
    responses(
        (status = 200, body = SuppressionsChecked), (status = 400, body = Problem), (status = 413, body = Problem),
    ),
)]
pub(crate) async fn check(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesRead>,
    Json(wanted): Json<SuppressedIdentifiers>,
) -> Result<WrittenJson, ApiError> {
    insist_on_few(&wanted.identifiers)?;
    let workspace = authority.caller.workspace;
    app.offload(move |app| {
        let of = wanted.identifiers.iter().map(|text| reads::sealed(app, "identifier", text));
        app.reads.note(&authority.caller, "suppression.check", of);
        let identifiers = identifiers(&wanted.identifiers)?;
        let look = |(identifier, text): (&Identifier, &String)| {
            let found = app.kernel.suppression(workspace, identifier)?;
            Ok(SuppressionChecked {
                identifier: text.clone(),
                suppressed: found.is_some(),
                since: found.as_ref().map(|found| time(found.since)),
                reason: found.map(|found| found.reason),
            })
        };
        let items = identifiers.iter().zip(&wanted.identifiers).map(look).collect::<Result<_, ApiError>>()?;
        WrittenJson::of(&SuppressionsChecked { items })
    })
    .await
}

/// The suppressed identifiers as digests, in their order.
#[utoipa::path(
    get, path = "/api/v1/suppressions", tag = "deliveries", params(PageQuery), security(("key" = ["deliveries:read"])),
    responses((status = 200, body = Page<SuppressionBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesRead>,
    Query(query): Query<PageQuery>,
) -> Result<Json<Page<SuppressionBody>>, ApiError> {
    let (workspace, limit) = (authority.caller.workspace, query.limit()?);
    app.offload(move |app| {
        let (items, next) =
            app.kernel.suppressions(workspace, PageRequest { limit, cursor: query.cursor.as_deref() })?;
        Ok(Json(Page { items: items.iter().map(SuppressionBody::from).collect(), next }))
    })
    .await
}
