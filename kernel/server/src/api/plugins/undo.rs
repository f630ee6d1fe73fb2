//! Taking back what one digest of a plugin wrote: the values of a model, and the events that a connector read. What cannot be taken
//! back is told with its number and the reason.

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{InstallationMode, PluginKind};
use kith_pipeline::{Patience, TakenBack, UndoProgress, Undone};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::computes;
use super::written::Asked;
use crate::api::dry_run::is_asked;
use crate::api::extract::{Authority, Json, Path, Query, right};
use crate::api::view::time;
use crate::app::App;
use crate::catalogue::undo::UndoRow;
use crate::catalogue::{Actor, Draft, InstallationRow, WorkspaceTables};
use crate::error::{ApiError, Problem};
use crate::processor;

/// That what a digest wrote is taken back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DigestUndoBody {
    installation: String,
    at: String,
    /// The key that did it.
    by: String,
    /// `waiting`, `under_way`, `done`, or `cancelled` where somebody ended it before; `dry_run` where nothing is taken back.
    state: &'static str,
    /// While it is under way, how many people were looked at; where events are taken back, how many records of the log.
    #[serde(skip_serializing_if = "Option::is_none")]
    done: Option<u64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    of: Option<u64>,
    /// Of a connector, what was taken back so far, by this undo and by those before it, or would be.
    #[serde(skip_serializing_if = "Option::is_none")]
    taken_back: Option<DigestTakenBackBody>,
    /// Of a dry run, messages that wait and were made since the version first read: those that what is taken back alone set off are
    /// skipped.
    #[serde(skip_serializing_if = "Option::is_none")]
    waiting: Option<u64>,
    /// What of it stays, or would.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    stays: Vec<DigestStaysBody>,
    /// Of a dry run, whether everything was looked at; else there is more than that.
    #[serde(skip_serializing_if = "Option::is_none")]
    exact: Option<bool>,
}

/// What is taken back of what a connector read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DigestTakenBackBody {
    /// Events that leave the histories of their people.
    events: u64,
    /// Those of them that stated facts: what another event said takes the place of these, or nothing.
    with_facts: u64,
    /// Those of them that agreed to something: what was said otherwise takes the place of that, or nothing.
    agreeing: u64,
    /// Events of other versions that these had taken the place of, as corrections: they count again.
    returned: u64,
}

/// What is not taken back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DigestStaysBody {
    /// `refusals`, `ties`, `identifiers`, `messages`, `lost` or `unreadable`.
    what: &'static str,
    count: u64,
    why: &'static str,
}

/// Whether anything is to be taken back.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UndoQuery {
    /// `true` to take back nothing: the answer says what would be.
    #[param(pattern = "^(true|false|1|0)$")]
    dry_run: Option<String>,
}

fn stays(taken_back: &TakenBack, messages: u64) -> Vec<DigestStaysBody> {
    let all = [
        (
            "refusals",
            taken_back.refusing,
            "events that refused consent: it stays refused, because who did refuse must not be written to",
        ),
        (
            "ties",
            taken_back.tying,
            "events with several identifiers, which stay one person: `kith identity undo` and a split part people",
        ),
        ("identifiers", taken_back.left_empty, "identifiers that have no event now: they go on naming their people"),
        ("messages", messages, "messages that left since the version first read, at most so many because of it"),
        (
            "lost",
            taken_back.lost,
            "events that corrections of this version took the place of, of which too little is left to bring them back: send them \
             again",
        ),
        ("unreadable", taken_back.unreadable, "events and records of the log that cannot be read, or are too large"),
    ];
    let all = all.into_iter().filter(|(_, count, _)| *count > 0);
    all.map(|(what, count, why)| DigestStaysBody { what, count, why }).collect()
}

fn taken_back_body(taken_back: &TakenBack) -> DigestTakenBackBody {
    let TakenBack { events, with_facts, agreeing, returned, .. } = *taken_back;
    DigestTakenBackBody { events, with_facts, agreeing, returned }
}

fn undo_body(app: &App, tables: &WorkspaceTables, row: &UndoRow) -> Result<DigestUndoBody, ApiError> {
    let (state, done, of) = match app.kernel.undo_progress(tables.row.id, row.number)? {
        _ if row.is_ended => ("cancelled", None, None),
        UndoProgress::Waiting => ("waiting", None, None),
        UndoProgress::UnderWay { done, of } => ("under_way", Some(done), Some(of)),
        UndoProgress::Done => ("done", None, None),
    };
    let taken_back = match row.of {
        Undone::Values => None,
        Undone::Events => Some(app.kernel.taken_back(tables.row.id, &row.undo())?),
    };
    Ok(DigestUndoBody {
        installation: tables.installation_name(row.installation),
        at: time(row.at),
        by: row.by.to_string(),
        state,
        done,
        of,
        taken_back: taken_back.as_ref().map(taken_back_body),
        waiting: None,
        stays: taken_back.as_ref().map(|taken_back| stays(taken_back, 0)).unwrap_or_default(),
        exact: None,
    })
}

/// What was taken back of a digest the last time, by installation.
pub(super) fn undone(app: &App, tables: &WorkspaceTables, asked: &Asked) -> Result<Vec<DigestUndoBody>, ApiError> {
    let rows = asked.installations.iter().filter_map(|id| tables.undos.get(&(*id, asked.digest.clone())));
    rows.map(|row| undo_body(app, tables, row)).collect()
}

/// Take back what a digest of a plugin wrote. Of a tag model or a scorer these are the values: where another version runs it is
/// asked again, and where none does they are gone. Of a connector these are the events that it read: they leave the histories of
/// their people, with the facts and the agreements that they alone stated, and may be sent again; what they had corrected counts
/// again. Nobody is written to because of it. It goes on in the background, `…/written` shows how far it is, and it may be asked
/// for again. What stays is told with the reason: what was refused, who is one person, and messages. What a channel sent is not
/// taken back.
#[utoipa::path(
    post, path = "/api/v1/plugins/{vendor}/{name}/digests/{digest}/undo", tag = "plugins",
    params(("vendor" = String, Path), ("name" = String, Path), ("digest" = String, Path), UndoQuery),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses(
        (status = 200, body = Vec<DigestUndoBody>, description = "what a dry run found"),
        (status = 202, body = Vec<DigestUndoBody>), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn undo(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(path): Path<(String, String, String)>,
    Query(query): Query<UndoQuery>,
) -> Result<(StatusCode, Json<Vec<DigestUndoBody>>), ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    if is_asked(query.dry_run.as_deref())? {
        processor::is_large_from_now_on();
        let previewed = app.ask(move |app, patience| previewed(app, (workspace, &actor), &path, patience)).await?;
        return Ok((StatusCode::OK, Json(previewed)));
    }
    app.offload(move |app| {
        let asked = app.change(workspace, actor, |draft| {
            let asked = Asked::read(draft.tables(), &path)?;
            begin(app, draft, &asked)?;
            Ok(asked)
        })?;
        let tables = app.catalogue.workspace(workspace)?;
        Ok((StatusCode::ACCEPTED, Json(undone(app, &tables, &asked)?)))
    })
    .await
}

/// Take back no more of what a digest wrote, where that is under way. What was taken back stays so, and the rest may be taken back
/// by asking for it again.
#[utoipa::path(
    delete, path = "/api/v1/plugins/{vendor}/{name}/digests/{digest}/undo", tag = "plugins",
    params(("vendor" = String, Path), ("name" = String, Path), ("digest" = String, Path)),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses((status = 200, body = Vec<DigestUndoBody>), (status = 404, body = Problem), (status = 429, body = Problem)),
)]
pub(crate) async fn cancel_undo(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(path): Path<(String, String, String)>,
) -> Result<Json<Vec<DigestUndoBody>>, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    app.offload(move |app| {
        let asked = app.change(workspace, actor, |draft| {
            let asked = Asked::read(draft.tables(), &path)?;
            for id in &asked.installations {
                if is_under_way(app, draft.tables(), *id, &asked.digest)? {
                    draft.end_undo(*id, &asked.digest);
                    let name = draft.tables().installation_name(*id);
                    draft.audit("plugin.undo-cancel", name, Some(digest_body(&asked)), None)?;
                }
            }
            Ok(asked)
        })?;
        let tables = app.catalogue.workspace(workspace)?;
        Ok(Json(undone(app, &tables, &asked)?))
    })
    .await
}

/// A digest as the audit log has it.
fn digest_body(asked: &Asked) -> serde_json::Value {
    json!({ "plugin": asked.plugin, "version": asked.version, "digest": asked.digest })
}

/// What would be taken back.
fn previewed(
    app: &App,
    (workspace, actor): (WorkspaceId, &Actor),
    path: &(String, String, String),
    patience: &Patience,
) -> Result<Vec<DigestUndoBody>, ApiError> {
    let tables = app.catalogue.workspace(workspace)?;
    let asked = Asked::read(&tables, path)?;
    let undoable = undoable(app, &tables, &asked)?;
    let of_events = undoable.iter().filter(|(_, of)| *of == Undone::Events);
    let sources: BTreeSet<InstallationId> = of_events.map(|(row, _)| row.id).collect();
    let previews = app.kernel.preview_undo(workspace, &asked.digest, &sources, patience)?;
    let (at, by) = (time(app.clock.now()), actor.key.to_string());
    let body = |(row, _): &(Arc<InstallationRow>, Undone)| {
        let found = previews.iter().find(|preview| preview.source == row.id);
        DigestUndoBody {
            installation: row.name.to_string(),
            at: at.clone(),
            by: by.clone(),
            state: "dry_run",
            done: None,
            of: None,
            taken_back: found.map(|found| taken_back_body(&found.takes_back)),
            waiting: found.map(|found| found.messages.waiting),
            stays: found.map(|found| stays(&found.takes_back, found.messages.left)).unwrap_or_default(),
            exact: found.map(|found| found.is_all),
        }
    };
    Ok(undoable.iter().map(body).collect())
}

/// Write down that what a digest wrote is taken back of each installation that has written by it, unless that is under way.
fn begin(app: &App, draft: &mut Draft<'_>, asked: &Asked) -> Result<(), ApiError> {
    for (row, of) in undoable(app, draft.tables(), asked)? {
        insist_on_rest(draft.tables(), &row, &asked.digest)?;
        if !is_under_way(app, draft.tables(), row.id, &asked.digest)? {
            draft.put_undo(row.id, &asked.digest, of)?;
            draft.audit("plugin.undo", &row.name, None, Some(digest_body(asked)))?;
        }
    }
    Ok(())
}

fn is_under_way(
    app: &App,
    tables: &WorkspaceTables,
    installation: InstallationId,
    digest: &str,
) -> Result<bool, ApiError> {
    let Some(before) = tables.undos.get(&(installation, digest.to_owned())) else { return Ok(false) };
    // One that was ended the kernel knows no more, which is as good as done.
    Ok(app.kernel.undo_progress(tables.row.id, before.number)? != UndoProgress::Done)
}

/// The installations that wrote by a digest, with what of theirs is taken back. The events of a source outlive it. What a model
/// emitted stays.
fn undoable(
    app: &App,
    tables: &WorkspaceTables,
    asked: &Asked,
) -> Result<Vec<(Arc<InstallationRow>, Undone)>, ApiError> {
    let (workspace, digest) = (tables.row.id, asked.digest.as_str());
    let own = || asked.installations.iter().filter_map(|id| tables.installations.get(id));
    for row in own().filter(|row| row.removed_at.is_none()) {
        insist_on_undoable(tables, row)?;
    }
    let wrote = app.kernel.installations_of(workspace, digest)?;
    let read = app.kernel.sources_of(workspace, digest, &asked.installations)?;
    let held = tables.versions(&asked.plugin).find(|version| version.digest == digest);
    let undoable = own().filter_map(|row| {
        let has_values = wrote.contains(&row.id);
        // Of a version that is not held any more nothing else tells what it was.
        let reads = held.map_or(!has_values, |version| version.manifest.kind == PluginKind::Connector);
        let of = match has_values && row.removed_at.is_none() {
            true => Some(Undone::Values),
            false => (reads && read.contains(&row.id)).then_some(Undone::Events),
        };
        of.map(|of| (Arc::clone(row), of))
    });
    Ok(undoable.collect())
}

/// Insist that what an installation writes can be taken back.
fn insist_on_undoable(tables: &WorkspaceTables, row: &InstallationRow) -> Result<(), ApiError> {
    let kind = tables.plugin_of(row).map(|plugin| plugin.manifest.kind);
    let Some(kind) = kind.filter(|kind| !computes(*kind) && *kind != PluginKind::Connector) else { return Ok(()) };
    let message = format!(
        "`{}` is a {kind}: messages that were sent are not taken back; only the values of tag models and scorers and the events \
         of connectors are",
        row.name
    );
    Err(ApiError::Conflict { code: "not-undoable", message })
}

/// Insist that what is taken back of an installation is not written again at once.
fn insist_on_rest(tables: &WorkspaceTables, row: &InstallationRow, digest: &str) -> Result<(), ApiError> {
    let is_of_digest = tables.plugin_of(row).is_some_and(|plugin| plugin.digest == digest);
    if row.removed_at.is_none() && is_of_digest && row.mode != InstallationMode::Disabled {
        let name = &row.name;
        let message = format!(
            "`{name}` runs this version and would write the same again; give it another one with `kith plugin upgrade {name} \
             --version VERSION`, or switch it off with `kith plugin disable {name}`"
        );
        return Err(ApiError::Conflict { code: "still-in-use", message });
    }
    Ok(())
}
