//! Many dead letters in bounded steps: each ends after so many letters or so much time, and says where the next one goes on.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use kith_model::id::WorkspaceId;
use kith_pipeline::{ListPage, ListedLetter, PageRequest, Replay};
use serde::Serialize;
use serde_json::json;
use tokio::time::Instant;
use utoipa::ToSchema;

use super::{LetterSelection, filter, sealed};
use crate::api::extract::{Authority, Json, page_limit, right};
use crate::app::App;
use crate::auth::Caller;
use crate::catalogue::Actor;
use crate::error::{ApiError, Problem};

/// How long a step may take before it hands over to the next one.
const STEP_TIME: Duration = Duration::from_secs(10);

/// What came of one step.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct ReplayReport {
    /// Letters that were looked at.
    letters: u64,
    /// Records that were taken; their letters are gone.
    accepted: u64,
    /// Records that had come already; their letters are gone, too.
    duplicate: u64,
    /// Records that were refused again; their letters stay, with the newer reason.
    refused: u64,
    /// Messages that are on their way again.
    deliveries: u64,
    /// Computations whose models are asked again about their people; their letters go once these have been answered for.
    computations: u64,
    /// Letters that could not be tried now, e.g. because the connector failed; they stay as they are.
    failed: u64,
    /// Letters that cannot be tried again as they are: see the `obstacle` of each, or try it alone.
    left: u64,
    /// Hand it in as `cursor` for the next step; `null` at the end.
    next: Option<String>,
}

/// What one step dismissed.
#[derive(Debug, Default, Serialize, ToSchema)]
pub(crate) struct DismissReport {
    dismissed: u64,
    /// Hand it in as `cursor` for the next step; `null` at the end.
    next: Option<String>,
}

/// What a step asked for, as the audit log may name it.
fn asked(app: &App, selection: &LetterSelection) -> serde_json::Value {
    let query = selection.query();
    let said = [
        ("source", query.source.clone()),
        ("type", query.kind.clone()),
        ("code", query.code.clone()),
        ("since", query.since.clone()),
        ("until", query.until.clone()),
        ("text", sealed(app, &query).next()),
    ];
    said.into_iter()
        .filter_map(|(name, value)| Some((name.to_owned(), json!(value?))))
        .collect::<serde_json::Map<_, _>>()
        .into()
}

async fn selected(
    app: &Arc<App>,
    caller: &Caller,
    selection: LetterSelection,
) -> Result<ListPage<ListedLetter>, ApiError> {
    let query = selection.query();
    let limit = page_limit(query.limit)?;
    let is_narrowed = [&query.source, &query.kind, &query.code, &query.since, &query.until, &query.text];
    if !selection.all && is_narrowed.iter().all(|part| part.is_none()) {
        return Err(ApiError::at("all", "say which letters, or `all: true` for every one"));
    }
    let caller = caller.clone();
    app.offload(move |app| {
        let tables = app.catalogue.workspace(caller.workspace)?;
        let filter = filter(&caller, &tables, &query)?;
        Ok(app.kernel.letters(caller.workspace, &filter, PageRequest { limit, cursor: query.cursor.as_deref() })?)
    })
    .await
}

/// Write a step down: also one that changed nothing told its caller how many letters there are of what was asked.
async fn write_down(
    app: &Arc<App>,
    workspace: WorkspaceId,
    actor: Actor,
    action: &'static str,
    after: serde_json::Value,
) -> Result<(), ApiError> {
    app.offload(move |app| app.change(workspace, actor, |draft| Ok(draft.audit(action, "many", None, Some(after))?)))
        .await
}

/// Try many dead letters again, in a bounded step. The answer counts what came of them and says where the next step goes on;
/// letters that are refused again stay behind, so that the steps come to an end.
#[utoipa::path(
    post, path = "/api/v1/dead-letters/replay", tag = "dead-letters", request_body = LetterSelection,
    security(("key" = ["deliveries:write"])),
    responses((status = 200, body = ReplayReport), (status = 400, body = Problem), (status = 403, body = Problem)),
)]
pub(crate) async fn replay_many(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesWrite>,
    Json(selection): Json<LetterSelection>,
) -> Result<Json<ReplayReport>, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    let asked = asked(&app, &selection);
    let page = selected(&app, &authority.caller, selection).await?;
    let until = Instant::now() + STEP_TIME;
    let mut report = ReplayReport { next: page.next, ..ReplayReport::default() };
    for ListedLetter { place, letter } in page.items {
        if Instant::now() >= until {
            report.next = Some(place);
            break;
        }
        report.letters += 1;
        match app.kernel.replay_letter(workspace, letter.id(), None).await? {
            Replay::Begun => report.deliveries += 1,
            Replay::AskedAgain { .. } => report.computations += 1,
            Replay::Taken { accepted: 0, .. } => report.duplicate += 1,
            Replay::Taken { .. } => report.accepted += 1,
            Replay::Refused { .. } => report.refused += 1,
            Replay::Failed { .. } => report.failed += 1,
            Replay::Impossible(_)
            | Replay::NoLetter
            | Replay::AudienceRemoved
            | Replay::SourceRemoved
            | Replay::InstallationRemoved
            | Replay::NotRunning { .. }
            | Replay::NobodyWaits => report.left += 1,
        }
    }
    let after = json!({ "asked": asked, "letters": report.letters, "accepted": report.accepted,
        "duplicate": report.duplicate, "refused": report.refused, "deliveries": report.deliveries,
        "computations": report.computations });
    write_down(&app, workspace, actor, "dead-letter.replay", after).await?;
    Ok(Json(report))
}

/// Dismiss many dead letters, in a bounded step: nothing is done about them, and they are listed no more.
#[utoipa::path(
    post, path = "/api/v1/dead-letters/dismiss", tag = "dead-letters", request_body = LetterSelection,
    security(("key" = ["deliveries:write"])),
    responses((status = 200, body = DismissReport), (status = 400, body = Problem), (status = 403, body = Problem)),
)]
pub(crate) async fn dismiss_many(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesWrite>,
    Json(selection): Json<LetterSelection>,
) -> Result<Json<DismissReport>, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    let asked = asked(&app, &selection);
    let page = selected(&app, &authority.caller, selection).await?;
    let until = Instant::now() + STEP_TIME;
    let mut report = DismissReport { next: page.next, dismissed: 0 };
    for ListedLetter { place, letter } in page.items {
        if Instant::now() >= until {
            report.next = Some(place);
            break;
        }
        report.dismissed += u64::from(app.kernel.dismiss_letter(workspace, letter.id()).await?);
    }
    let after = json!({ "asked": asked, "dismissed": report.dismissed });
    write_down(&app, workspace, actor, "dead-letter.dismiss", after).await?;
    Ok(Json(report))
}
