//! What one digest of a plugin wrote in the workspace. Taking it back is `undo.rs`.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use axum::extract::State;
use kith_model::id::InstallationId;
use kith_model::plugin::PluginId;
use kith_pipeline::{PageRequest, WrittenEvents, WrittenValue, WrittenValues};
use serde::Serialize;
use utoipa::ToSchema;

use super::undo::{DigestUndoBody, undone};
use crate::api::extract::{Authority, Json, PageQuery, Path, Query, WrittenJson, right};
use crate::api::profiles::{EventBody, event_body, person};
use crate::api::provenance::kind_name;
use crate::api::sensitive::Mask;
use crate::api::view::{Page, time};
use crate::app::App;
use crate::catalogue::WorkspaceTables;
use crate::error::{ApiError, Problem};
use crate::processor;

/// What a digest of a plugin wrote in the workspace.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DigestBody {
    /// `vendor/name`.
    plugin: String,
    /// SHA-256 of the component.
    digest: String,
    /// `null` where the version was deleted.
    version: Option<String>,
    /// The values of a model that people still have from it, by installation.
    values: Vec<DigestValuesBody>,
    /// The events that a connector of this digest read, by source and by the time from which on it did.
    /// The first hundred; `…/written/ranges` lists all.
    events: Vec<DigestEventsBody>,
    /// The cursor of `…/written/ranges` behind them, where there are more.
    events_next: Option<String>,
    messages: DigestMessagesBody,
    /// Whether the people and the messages are all; else there are more than those that were looked at.
    exact: bool,
    /// What was taken back of it the last time, by installation.
    undone: Vec<DigestUndoBody>,
}

/// Values of a model that people have from one digest.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DigestValuesBody {
    installation: String,
    /// `tag` or `score`.
    kind: &'static str,
    /// The fitted states that it computed by; 0 where none was fitted.
    fits: BTreeSet<u32>,
    /// How many people have a value of each output.
    people: BTreeMap<String, u64>,
}

/// Events of a source that one digest read.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DigestEventsBody {
    source: String,
    version: String,
    /// When the first of them was received.
    since: String,
    /// They lie behind this log position.
    after: u64,
    /// Up to this one; `null` while it is the digest that reads, which its installation runs.
    up_to: Option<u64>,
    events: u64,
}

/// Messages that may have left because of a digest. Nothing takes them back.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DigestMessagesBody {
    /// The audiences that its values decide, directly or through other models.
    audiences: Vec<String>,
    /// Messages of these audiences that have left or may have, whichever version decided; of a connector all since it first read:
    /// so many at most are because of this one.
    sent: u64,
}

/// A value of a person that a digest wrote.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct DigestValueBody {
    profile: String,
    /// `tag` or `score`.
    kind: &'static str,
    name: String,
    installation: String,
    /// The fitted state's version; 0 where none was fitted.
    fit: u32,
    /// The log position of the newest event that the computation had seen of this person.
    cause: u64,
    computed_at: String,
}

/// What a path says: a plugin that is or was installed here or of which there is a version, and a digest.
pub(super) struct Asked {
    pub(super) plugin: PluginId,
    pub(super) digest: String,
    pub(super) version: Option<String>,
    /// All installations of the plugin, removed ones too.
    pub(super) installations: BTreeSet<InstallationId>,
}

impl Asked {
    pub(super) fn read(
        tables: &WorkspaceTables,
        (vendor, name, digest): &(String, String, String),
    ) -> Result<Asked, ApiError> {
        let shown: String = format!("{vendor}/{name}").chars().take(130).collect();
        let missing = || ApiError::missing(format!("no plugin `{shown}`"));
        let plugin: PluginId = shown.parse().map_err(|_| missing())?;
        let installations = tables.installations.values().filter(|row| row.plugin == plugin);
        let installations: BTreeSet<InstallationId> = installations.map(|row| row.id).collect();
        if installations.is_empty() && tables.versions(&plugin).next().is_none() {
            return Err(missing());
        }
        let digits = digest.strip_prefix("sha256:").unwrap_or(digest);
        if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
            return Err(ApiError::missing("no such digest; write its 64 hexadecimal digits"));
        }
        let digest = digits.to_ascii_lowercase();
        let version = tables.versions(&plugin).find(|row| row.digest == digest);
        let version = version.map(|row| row.manifest.version.to_string());
        Ok(Asked { plugin, digest, version, installations })
    }
}

fn values_body(tables: &WorkspaceTables, values: &WrittenValues) -> DigestValuesBody {
    DigestValuesBody {
        installation: tables.installation_name(values.installation),
        kind: kind_name(values.kind),
        fits: values.fits.clone(),
        people: values.people.clone(),
    }
}

fn events_body(tables: &WorkspaceTables, events: &WrittenEvents) -> DigestEventsBody {
    DigestEventsBody {
        source: tables.installation_name(events.source),
        version: events.version.clone(),
        since: time(events.since),
        after: events.after.0,
        up_to: events.up_to.map(|position| position.0),
        events: events.events,
    }
}

fn value_body(tables: &WorkspaceTables, value: &WrittenValue) -> DigestValueBody {
    let from = &value.provenance;
    DigestValueBody {
        profile: value.profile.to_string(),
        kind: kind_name(value.kind),
        name: value.name.clone(),
        installation: tables.installation_name(from.installation),
        fit: from.fit,
        cause: from.cause.0,
        computed_at: time(from.computed_at),
    }
}

/// What a digest of a plugin wrote in this workspace: the values that people still have from it, the events that it read, and how
/// many messages may have left because of it. Looks at everybody, up to a bound.
#[utoipa::path(
    get, path = "/api/v1/plugins/{vendor}/{name}/digests/{digest}/written", tag = "plugins",
    params(("vendor" = String, Path), ("name" = String, Path), ("digest" = String, Path)),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses((status = 200, body = DigestBody), (status = 404, body = Problem), (status = 429, body = Problem)),
)]
pub(crate) async fn written(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    // Of how few people something is true tells who they are: whoever installs a model chooses what it says of whom.
    _people: Authority<right::ProfilesRead>,
    Path(path): Path<(String, String, String)>,
) -> Result<Json<DigestBody>, ApiError> {
    let workspace = authority.caller.workspace;
    processor::is_large_from_now_on();
    app.ask(move |app, patience| {
        let tables = app.catalogue.workspace(workspace)?;
        let asked = Asked::read(&tables, &path)?;
        let written = app.kernel.written(workspace, &asked.digest, &asked.installations, patience)?;
        let audiences = written.audiences.iter().map(|id| tables.audience_name(*id)).collect();
        Ok(Json(DigestBody {
            plugin: asked.plugin.to_string(),
            version: asked.version.clone(),
            values: written.values.iter().map(|values| values_body(&tables, values)).collect(),
            events: written.events.iter().map(|events| events_body(&tables, events)).collect(),
            events_next: written.events_next,
            messages: DigestMessagesBody { audiences, sent: written.messages },
            exact: written.is_all,
            undone: undone(app, &tables, &asked)?,
            digest: asked.digest,
        }))
    })
    .await
}

/// The values that people have from a digest of a plugin. A page may hold less than its limit, even nothing, and still have a next
/// one.
#[utoipa::path(
    get, path = "/api/v1/plugins/{vendor}/{name}/digests/{digest}/written/values", tag = "plugins",
    params(("vendor" = String, Path), ("name" = String, Path), ("digest" = String, Path), PageQuery),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses((status = 200, body = Page<DigestValueBody>), (status = 400, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn values(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(path): Path<(String, String, String)>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    let (limit, caller) = (page.limit()?, authority.caller);
    app.offload(move |app| {
        let tables = app.catalogue.workspace(caller.workspace)?;
        let asked = Asked::read(&tables, &path)?;
        let page = PageRequest { limit, cursor: page.cursor.as_deref() };
        let found = app.kernel.values_written(caller.workspace, &asked.digest, page)?;
        app.reads.note(&caller, "plugin.values", found.items.iter().map(|value| person(value.profile)));
        let own = found.items.iter().filter(|value| asked.installations.contains(&value.provenance.installation));
        WrittenJson::of(&Page { items: own.map(|value| value_body(&tables, value)).collect(), next: found.next })
    })
    .await
}

/// The parts of the log in which the events of a source are those that a digest of a connector read, source by source and oldest
/// first.
#[utoipa::path(
    get, path = "/api/v1/plugins/{vendor}/{name}/digests/{digest}/written/ranges", tag = "plugins",
    params(("vendor" = String, Path), ("name" = String, Path), ("digest" = String, Path), PageQuery),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses(
        (status = 200, body = Page<DigestEventsBody>), (status = 400, body = Problem), (status = 404, body = Problem),
    ),
)]
pub(crate) async fn ranges(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(path): Path<(String, String, String)>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    let (limit, workspace) = (page.limit()?, authority.caller.workspace);
    app.offload(move |app| {
        let tables = app.catalogue.workspace(workspace)?;
        let asked = Asked::read(&tables, &path)?;
        let page = PageRequest { limit, cursor: page.cursor.as_deref() };
        let found = app.kernel.ranges_written(workspace, &asked.digest, &asked.installations, page)?;
        let items = found.items.iter().map(|events| events_body(&tables, events)).collect();
        WrittenJson::of(&Page { items, next: found.next })
    })
    .await
}

/// The events that a digest of a connector read and that are in the histories of people, source by source and oldest first. A
/// page may hold less than its limit, even nothing, and still have a next one.
#[utoipa::path(
    get, path = "/api/v1/plugins/{vendor}/{name}/digests/{digest}/written/events", tag = "plugins",
    params(("vendor" = String, Path), ("name" = String, Path), ("digest" = String, Path), PageQuery),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses((status = 200, body = Page<EventBody>), (status = 400, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn events(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(path): Path<(String, String, String)>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    let (limit, caller) = (page.limit()?, authority.caller);
    app.offload(move |app| {
        let tables = app.catalogue.workspace(caller.workspace)?;
        let asked = Asked::read(&tables, &path)?;
        let page = PageRequest { limit, cursor: page.cursor.as_deref() };
        let found = app.kernel.events_written(caller.workspace, &asked.digest, &asked.installations, page)?;
        let people = found.items.iter().map(|recorded| person(kith_model::id::ProfileId(recorded.event.identity)));
        app.reads.note(&caller, "plugin.events", people);
        let mask = Mask::new(&tables, &caller);
        let items = found.items.iter().map(|recorded| event_body(&tables, recorded, &mask)).collect();
        WrittenJson::of(&Page { items, next: found.next })
    })
    .await
}
