//! Dead letters: what failed and why, corrected, tried again or dismissed, one by one. Many at once is `letters/many.rs`, bodies
//! are `letters/body.rs`.

mod body;
mod many;

use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::id::InstallationId;
use kith_model::plugin::PluginKind;
use kith_model::time::Timestamp;
use kith_pipeline::{Edit, LetterFilter, LetterKind, PageRequest, Replay};
use serde::Deserialize;
use utoipa::{IntoParams, ToSchema};

pub(crate) use self::body::{DeadLetterBody, LetterCountsBody, ReplayBody};
use self::body::{Looker, letter_body, letter_names};
pub(crate) use self::many::*;
use super::extract::{Authority, Json, Path, Query, WrittenJson, page_limit, right};
use super::installations::named;
use super::masks::Sight;
use super::sensitive::Mask;
use super::view::Page;
use crate::app::App;
use crate::auth::{Caller, Scope};
use crate::catalogue::WorkspaceTables;
use crate::error::{ApiError, Problem};
use crate::reads;

/// Which dead letters: those that meet all that is given.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct LetterQuery {
    /// How many at most; 50 unless told, 500 at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
    /// The name of a source, a model or a channel; removed ones of that name count.
    #[param(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    source: Option<String>,
    /// `record`, `computation`, `delivery` or `unreadable`.
    #[serde(rename = "type")]
    #[param(rename = "type", pattern = "^(record|computation|delivery|unreadable)$")]
    kind: Option<String>,
    /// The reason, e.g. `missing-identifier`; of a delivery its state, `dead` or `unknown`.
    code: Option<String>,
    /// That last happened at this time (RFC 3339) or later.
    since: Option<String>,
    /// That last happened before this time (RFC 3339).
    until: Option<String>,
    /// That have this text in the record, the payload or the reason; for whoever may read profiles.
    text: Option<String>,
}

/// The same in a body, for a step over many.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LetterSelection {
    #[schema(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    source: Option<String>,
    /// `record`, `computation`, `delivery` or `unreadable`.
    #[serde(rename = "type")]
    #[schema(pattern = "^(record|computation|delivery|unreadable)$")]
    kind: Option<String>,
    code: Option<String>,
    /// RFC 3339.
    #[schema(format = DateTime)]
    since: Option<String>,
    /// RFC 3339.
    #[schema(format = DateTime)]
    until: Option<String>,
    text: Option<String>,
    /// Say it where nothing else is said: all of them.
    #[serde(default)]
    all: bool,
    /// How many at most in this step; 100 unless told, 500 at most.
    #[schema(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// The `next` of the step before.
    cursor: Option<String>,
}

impl LetterSelection {
    fn query(&self) -> LetterQuery {
        LetterQuery {
            limit: Some(self.limit.unwrap_or(100)),
            cursor: self.cursor.clone(),
            source: self.source.clone(),
            kind: self.kind.clone(),
            code: self.code.clone(),
            since: self.since.clone(),
            until: self.until.clone(),
            text: self.text.clone(),
        }
    }
}

fn moment(place: &str, text: Option<&String>) -> Result<Option<Timestamp>, ApiError> {
    let parse = |text: &String| text.parse::<Timestamp>().map_err(|error| ApiError::at(place, error.to_string()));
    text.map(parse).transpose()
}

/// What a query asks for.
fn filter(caller: &Caller, tables: &WorkspaceTables, query: &LetterQuery) -> Result<LetterFilter, ApiError> {
    let mut filter = LetterFilter {
        code: query.code.clone(),
        since: moment("?since", query.since.as_ref())?,
        until: moment("?until", query.until.as_ref())?,
        text: query.text.clone(),
        ..LetterFilter::default()
    };
    if query.text.is_some() {
        // Enough questions for parts of a text tell all of it.
        caller.require(Scope::ProfilesRead)?;
        if Mask::new(tables, caller).sight_of_records(Sight::People) != Sight::People {
            caller.require(Scope::SensitiveRead)?;
        }
    }
    if let Some(name) = &query.source {
        let those = tables.installations_ever_named(name);
        if those.is_empty() {
            let shown: String = name.chars().take(64).collect();
            return Err(ApiError::at("?source", format!("there is no installation `{shown}`, and there was none")));
        }
        filter.sources = Some(those);
    }
    if let Some(wanted) = &query.kind {
        let known = LetterKind::ALL.into_iter().find(|kind| kind.as_str() == wanted);
        let unknown = || ApiError::at("?type", "write one of record, computation, delivery, unreadable");
        filter.kind = Some(known.ok_or_else(unknown)?);
    }
    Ok(filter)
}

/// What failed, and why, by source and channel, the oldest first. Raw records and the words of plugins and peers need the scope `profiles:read` too. A page may hold less than its limit, even nothing, and still
/// have a next one. Long records are cut here; one letter shows all that was kept.
#[utoipa::path(
    get, path = "/api/v1/dead-letters", tag = "dead-letters", params(LetterQuery),
    security(("key" = ["deliveries:read"])),
    responses((status = 200, body = Page<DeadLetterBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesRead>,
    Query(query): Query<LetterQuery>,
) -> Result<WrittenJson, ApiError> {
    let caller = authority.caller;
    let (limit, sight) = (page_limit(query.limit)?, caller.sight());
    app.offload(move |app| {
        let workspace = caller.workspace;
        let tables = app.catalogue.workspace(workspace)?;
        let filter = filter(&caller, &tables, &query)?;
        let page = app.kernel.letters(workspace, &filter, PageRequest { limit, cursor: query.cursor.as_deref() })?;
        if sight == Sight::People {
            let listed = page.items.iter().flat_map(|listed| letter_names(&listed.letter));
            app.reads.note(&caller, "dead-letter.list", sealed(app, &query).chain(listed));
        }
        let looker = Looker { app, caller: &caller, mask: &Mask::new(&tables, &caller) };
        let shown =
            |listed: kith_pipeline::ListedLetter| letter_body(&tables, listed.letter, looker, body::Length::Cut);
        let items = page.items.into_iter().map(shown).collect();
        WrittenJson::of(&Page { items, next: page.next })
    })
    .await
}

/// How many dead letters there are, by source, type and reason.
#[utoipa::path(
    get, path = "/api/v1/dead-letters/counts", tag = "dead-letters", params(LetterQuery),
    security(("key" = ["deliveries:read"])),
    responses((status = 200, body = LetterCountsBody), (status = 400, body = Problem)),
)]
pub(crate) async fn counts(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesRead>,
    Query(query): Query<LetterQuery>,
) -> Result<Json<LetterCountsBody>, ApiError> {
    let caller = authority.caller;
    page_limit(query.limit)?;
    app.ask(move |app, patience| {
        let tables = app.catalogue.workspace(caller.workspace)?;
        let filter = filter(&caller, &tables, &query)?;
        let counts = app.kernel.letter_counts(caller.workspace, &filter, patience)?;
        if query.text.is_some() {
            app.reads.note(&caller, "dead-letter.count", sealed(app, &query));
        }
        let looker = Looker { app, caller: &caller, mask: &Mask::new(&tables, &caller) };
        Ok(Json(LetterCountsBody::new(looker, &tables, counts)))
    })
    .await
}

/// The text that a query looks for, as the audit log may name it.
fn sealed(app: &App, query: &LetterQuery) -> impl Iterator<Item = String> {
    query.text.as_deref().map(|text| reads::sealed(app, "text", text)).into_iter()
}

fn no_letter(id: &str) -> ApiError {
    let shown: String = id.chars().take(128).collect();
    ApiError::missing(format!(
        "`{shown}` is no dead letter; `GET /api/v1/dead-letters` lists them with their whole ids"
    ))
}

/// One dead letter, with all that was kept of its record.
#[utoipa::path(
    get, path = "/api/v1/dead-letters/{id}", tag = "dead-letters", params(("id" = String, Path)),
    security(("key" = ["deliveries:read"])),
    responses((status = 200, body = DeadLetterBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesRead>,
    Path(id): Path<String>,
) -> Result<Json<DeadLetterBody>, ApiError> {
    let caller = authority.caller;
    app.offload(move |app| {
        let tables = app.catalogue.workspace(caller.workspace)?;
        let letter = app.kernel.letter(caller.workspace, &id)?.ok_or_else(|| no_letter(&id))?;
        if caller.sight() == Sight::People {
            app.reads.note(&caller, "dead-letter.read", letter_names(&letter));
        }
        let looker = Looker { app, caller: &caller, mask: &Mask::new(&tables, &caller) };
        Ok(Json(letter_body(&tables, letter, looker, body::Length::Whole)))
    })
    .await
}

/// A correction of a record that was set aside.
#[derive(Debug, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct LetterPatch {
    /// The record as it should have come.
    raw: String,
}

/// Correct a record that was set aside. It is tried again by another call. Needs the scope `ingest` too, for what is written
/// here becomes an event.
#[utoipa::path(
    patch, path = "/api/v1/dead-letters/{id}", tag = "dead-letters", params(("id" = String, Path)),
    security(("key" = ["deliveries:write", "ingest"])), request_body = LetterPatch,
    responses(
        (status = 200, body = DeadLetterBody), (status = 400, body = Problem), (status = 403, body = Problem),
        (status = 404, body = Problem), (status = 409, body = Problem),
    ),
)]
pub(crate) async fn edit(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesWrite>,
    _sends: Authority<right::Ingest>,
    Path(id): Path<String>,
    Json(patch): Json<LetterPatch>,
) -> Result<Json<DeadLetterBody>, ApiError> {
    let (workspace, actor, caller) = (authority.caller.workspace, authority.actor(), authority.caller);
    let edit = app.kernel.edit_letter(workspace, &id, patch.raw).await?;
    app.offload(move |app| {
        match edit {
            Edit::Done => {
                app.change(workspace, actor, |draft| Ok(draft.audit("dead-letter.edit", &id, None, None)?))?
            }
            Edit::Unchanged => {}
            Edit::NoLetter => return Err(no_letter(&id)),
            Edit::Impossible(why) => return Err(ApiError::at("raw", why)),
        }
        let tables = app.catalogue.workspace(workspace)?;
        let letter = app.kernel.letter(workspace, &id)?.ok_or_else(|| no_letter(&id))?;
        let looker = Looker { app, caller: &caller, mask: &Mask::new(&tables, &caller) };
        Ok(Json(letter_body(&tables, letter, looker, body::Length::Whole)))
    })
    .await
}

/// Where to try a record again.
#[derive(Debug, Default, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ReplayQuery {
    /// Another source than the one that set it aside, e.g. where that was removed.
    #[param(pattern = "^[a-z][a-z0-9-]{0,63}$")]
    into: Option<String>,
}

fn source_named(tables: &WorkspaceTables, name: &str) -> Result<InstallationId, ApiError> {
    let row = named(tables, name)?;
    match tables.plugin_of(row).is_some_and(|plugin| plugin.manifest.kind == PluginKind::Connector) {
        true => Ok(row.id),
        false => Err(ApiError::at("into", format!("`{name}` is no source"))),
    }
}

/// Try a dead letter again: a message from the start of its schedule, a record through its source's connector with today's
/// configuration, a computation by asking its model about the letter's people. A record's letter goes in the commit in which it is
/// taken; where it is refused again, the answer says why and the letter stays. A computation's goes in the commit in which the last
/// of its people is answered for.
#[utoipa::path(
    post, path = "/api/v1/dead-letters/{id}/replay", tag = "dead-letters", params(("id" = String, Path), ReplayQuery),
    security(("key" = ["deliveries:write"])),
    responses(
        (status = 200, body = ReplayBody), (status = 404, body = Problem), (status = 409, body = Problem),
        (status = 503, body = Problem),
    ),
)]
pub(crate) async fn replay(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesWrite>,
    Path(id): Path<String>,
    Query(query): Query<ReplayQuery>,
) -> Result<Json<ReplayBody>, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    let into = match &query.into {
        Some(name) => Some(source_named(app.catalogue.workspace(workspace)?.as_ref(), name)?),
        None => None,
    };
    let replayed = app.kernel.replay_letter(workspace, &id, into).await?;
    let tables = app.catalogue.workspace(workspace)?;
    let mask = Mask::new(&tables, &authority.caller);
    let looker = Looker { app: &app, caller: &authority.caller, mask: &mask };
    if let Some(error) = not_replayed(&tables, &id, &replayed, looker) {
        return Err(error);
    }
    let is_refused = matches!(replayed, Replay::Refused { .. });
    let body = ReplayBody::of(id.clone(), replayed, looker);
    if !is_refused {
        app.offload(move |app| {
            app.change(workspace, actor, |draft| Ok(draft.audit("dead-letter.replay", &id, None, None)?))
        })
        .await?;
    }
    Ok(Json(body))
}

/// Why a letter was not tried again; `None` where it was.
fn not_replayed(tables: &WorkspaceTables, id: &str, replayed: &Replay, looker: Looker<'_>) -> Option<ApiError> {
    let shown: String = id.chars().take(128).collect();
    let (code, message) = match replayed {
        Replay::Begun | Replay::Taken { .. } | Replay::Refused { .. } | Replay::AskedAgain { .. } => return None,
        Replay::NoLetter => return Some(no_letter(id)),
        Replay::Failed { code, message } => {
            let sight = looker.mask.sight_of_records(looker.caller.sight());
            let why = if sight == Sight::People { message.clone() } else { format!("it could not be tried: {code}") };
            let message = format!("`{shown}` stays as it is: {why}");
            return Some(ApiError::Unavailable { code: "not-replayed", message, retry_after_s: 10 });
        }
        Replay::Impossible(why) => ("not-replayable", format!("`{shown}` cannot be tried again: {why}")),
        Replay::AudienceRemoved => {
            ("audience-removed", format!("the audience of `{shown}` was removed; a message of it is not sent any more"))
        }
        Replay::SourceRemoved => (
            "source-removed",
            format!("the source of `{shown}` was removed; name another with `?into=`, or dismiss the letter"),
        ),
        Replay::InstallationRemoved => (
            "installation-removed",
            format!("the model of `{shown}` was removed, so that it cannot be asked any more; dismiss the letter"),
        ),
        Replay::NotRunning { installation } => {
            let name = tables.installation_name(*installation);
            let why = format!("`{name}` does not run, so that it cannot be asked about the people of `{shown}`");
            let remedy = format!("`kith plugin show {name}` says why; try again once it runs");
            ("not-live", format!("{why}; {remedy}"))
        }
        Replay::NobodyWaits => (
            "people-gone",
            format!(
                "nobody of whom `{shown}` tells waits for an answer any more: they were answered for, became one with others or \
                 object to profiling; dismiss the letter if it is listed still"
            ),
        ),
    };
    Some(ApiError::Conflict { code, message })
}

/// Dismiss a dead letter: nothing is done about it, and it is listed no more.
#[utoipa::path(
    delete, path = "/api/v1/dead-letters/{id}", tag = "dead-letters", params(("id" = String, Path)),
    security(("key" = ["deliveries:write"])),
    responses((status = 204), (status = 404, body = Problem)),
)]
pub(crate) async fn dismiss(
    State(app): State<Arc<App>>,
    authority: Authority<right::DeliveriesWrite>,
    Path(id): Path<String>,
) -> Result<StatusCode, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    if !app.kernel.dismiss_letter(workspace, &id).await? {
        return Err(no_letter(&id));
    }
    app.offload(move |app| {
        app.change(workspace, actor, |draft| Ok(draft.audit("dead-letter.dismiss", &id, None, None)?))
    })
    .await?;
    Ok(StatusCode::NO_CONTENT)
}
