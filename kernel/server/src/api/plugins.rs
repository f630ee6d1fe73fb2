//! Uploading plugins and showing what they are: every version with its manifest, digest and what it asks for.
//! Yanking one is `plugins/yank.rs`, other bytes of a dev version `plugins/dev.rs`, looking at one that is not kept
//! `plugins/seen.rs`, what becomes of a version `plugins/uploaded.rs`, what one wrote `plugins/written.rs`,
//! taking that back `plugins/undo.rs`.

mod dev;
mod seen;
mod undo;
mod uploaded;
mod written;
mod yank;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use kith_model::budget::table;
use kith_model::id::WorkspaceId;
use kith_model::plugin::{
    Capabilities, InputSpec, LimitRequest, OutputSpec, PluginId, PluginKind, PollRequest, Training, is_dev,
};
use kith_pipeline::{PageRoom, Patience};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

pub(crate) use seen::UploadQuery;
use seen::seen;
pub(crate) use undo::*;
use uploaded::{Upload, leave_signature, takes_place, upload_of};
pub(crate) use written::*;
pub(crate) use yank::*;

use super::extract::{Authority, BodyLimit, PageQuery, Path, Query, WrittenJson, read_body, right};
use super::reservation::Reservation;
use super::signatures::{SignatureBody, insist_on_trust, sign, signature_body, signature_text};
use super::view::{Page, time, written_bytes};
use crate::app::App;
use crate::auth::Caller;
use crate::catalogue::{Actor, InstallationRow, PluginRow, Tables, WorkspaceTables};
use crate::error::{ApiError, Problem};

/// One version of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginBody {
    /// `vendor/name`.
    id: String,
    version: String,
    /// Whether it is of the dev channel, `0.2.0-dev`: its bytes may change, and it is installed only where it is named.
    dev: bool,
    /// `connector`, `tag-model`, `scorer` or `channel`.
    kind: String,
    title: String,
    description: String,
    license: String,
    /// SHA-256 of the component.
    digest: String,
    size_bytes: u64,
    abi: String,
    /// The host interfaces it imports: its whole authority.
    imports: Vec<String>,
    exports: Vec<String>,
    /// What it sees of a person, each with the reason.
    #[schema(value_type = Vec<Object>)]
    inputs: Vec<InputSpec>,
    #[schema(value_type = Vec<Object>)]
    outputs: Vec<OutputSpec>,
    /// For a tag model or a scorer, the form of its fitted state, if it declares one. An installation whose fit has another form
    /// waits to be fitted.
    state_version: Option<u32>,
    /// JSON Schema of an installation's configuration.
    #[schema(value_type = Value)]
    config_schema: Option<Value>,
    /// What it asks for beyond pure computing, each with the reason.
    #[schema(value_type = Object)]
    capabilities: Capabilities,
    /// For a connector that fetches by itself, how often in milliseconds unless an installation says otherwise, and why.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    poll: Option<PollRequest>,
    /// For a tag model or a scorer that learns from the history, how: the label, the cut-offs and the output that foretells it.
    #[schema(value_type = Option<Object>)]
    #[serde(skip_serializing_if = "Option::is_none")]
    training: Option<Training>,
    #[schema(value_type = Object)]
    limits: LimitRequest,
    /// The manifest as its author wrote it.
    manifest: String,
    uploaded_at: String,
    /// The key that uploaded it.
    uploaded_by: String,
    /// Present where it is given to nobody any more who does not run it yet.
    yanked: Option<YankedBody>,
    signature: SignatureBody,
    /// In the answer that gave a dev version other bytes, the installations that run these now.
    #[serde(skip_serializing_if = "Option::is_none")]
    upgraded: Option<Vec<String>>,
}

/// A plugin with its versions, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginVersions {
    id: String,
    kind: String,
    title: String,
    /// The newest; one of the dev channel only where there is nothing else.
    latest: String,
    versions: Vec<PluginBody>,
    /// How many older versions have no room here, because they are of more than some 4 MiB together; read them with `before`.
    older_left_out: u64,
}

/// Which versions of a plugin.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct VersionsQuery {
    /// Only those older than this one: the oldest of an answer that left out some.
    before: Option<String>,
}

fn plugin_body(all: &Tables, tables: &WorkspaceTables, row: &PluginRow) -> PluginBody {
    let manifest = row.manifest.clone();
    PluginBody {
        id: manifest.id.to_string(),
        version: manifest.version.to_string(),
        dev: is_dev(&manifest.version),
        kind: manifest.kind.to_string(),
        title: manifest.title,
        description: manifest.description,
        license: manifest.license,
        digest: row.digest.clone(),
        size_bytes: row.size_bytes,
        abi: manifest.abi,
        imports: row.imports.clone(),
        exports: row.exports.clone(),
        inputs: manifest.inputs,
        outputs: manifest.outputs,
        state_version: manifest.state_version,
        config_schema: manifest.config_schema,
        capabilities: manifest.capabilities,
        poll: manifest.poll,
        training: manifest.training,
        limits: manifest.limits,
        manifest: row.manifest_toml.clone(),
        uploaded_at: time(row.uploaded_at),
        uploaded_by: row.uploaded_by.to_string(),
        yanked: yanked(row),
        signature: signature_body(all, tables, row),
        upgraded: None,
    }
}

/// The newest versions that have room, of all or of those older than one.
fn versions_of(
    all: &Tables,
    tables: &WorkspaceTables,
    id: &PluginId,
    before: Option<&Version>,
) -> Option<PluginVersions> {
    let release = tables.versions(id).rfind(|row| !is_dev(&row.manifest.version));
    let latest = release.or_else(|| tables.versions(id).next_back())?;
    let (mut versions, mut older_left_out, mut room) = (Vec::new(), 0, PageRoom::new(usize::MAX));
    let wanted = tables.versions(id).rev().filter(|row| before.is_none_or(|before| row.manifest.version < *before));
    for row in wanted {
        if room.is_full() {
            older_left_out += 1;
            continue;
        }
        let version = plugin_body(all, tables, row);
        room.take(written_bytes(&version));
        versions.push(version);
    }
    versions.reverse();
    Some(PluginVersions {
        id: id.to_string(),
        kind: latest.manifest.kind.to_string(),
        title: latest.manifest.title.clone(),
        latest: latest.manifest.version.to_string(),
        versions,
        older_left_out,
    })
}

/// Upload a plugin's component: it is inspected, compiled and kept, with its signature if there is one. The same bytes again change
/// nothing, but that another signature that comes with them is kept where there was no good one; in place of one that is forged
/// or of a revoked key, only one that is valid. Other bytes are refused, but of a version of the dev channel, `0.2.0-dev`: every
/// installation that runs it is given them, as an upgrade gives another version, and where one cannot run them nothing changes.
#[utoipa::path(
    post, path = "/api/v1/plugins", tag = "plugins", security(("key" = ["plugins:admin"])),
    params(
        UploadQuery,
        ("Kith-Signature" = Option<String>, Header, description = "its detached signature: a `.minisig` file in base64"),
    ),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "the component; its size is the budget `component-size`"),
    responses(
        (status = 201, body = PluginBody), (status = 200, body = PluginBody, description = "it was here already, or is only looked at"),
        (status = 400, body = Problem), (status = 409, body = Problem), (status = 413, body = Problem),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Query(query): Query<UploadQuery>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<PluginBody>), ApiError> {
    let (workspace, actor, caller) = (authority.caller.workspace, authority.actor(), authority.caller);
    let signature = signature_text(&headers)?;
    let mut memory = Reservation::of_key(&app, &caller.key)?;
    let bytes = usize::try_from(app.config.plugin_bytes).unwrap_or(usize::MAX);
    let limit = BodyLimit { budget: &table::COMPONENT_SIZE, bytes };
    let component = read_body(body, limit, &mut memory).await?;
    app.insist_on_standing(&caller.key)?;
    app.ask(move |app, patience| {
        let inspected = app.wiring.components().inspect(workspace, &component, app.config.plugin_bytes, patience)?;
        let mut row = PluginRow {
            manifest: inspected.manifest,
            manifest_toml: inspected.manifest_toml,
            digest: inspected.digest,
            size_bytes: component.len() as u64,
            imports: inspected.imports,
            exports: inspected.exports,
            uploaded_at: app.clock.now(),
            uploaded_by: actor.key.clone(),
            yanked: None,
            signature: None,
        };
        if let Some(text) = signature {
            sign(app, &*app.catalogue.workspace(workspace)?, &mut row, &text, &component)?;
        }
        if query.dry_run {
            return seen(app, workspace, row);
        }
        let incoming = Incoming { row: &row, component: &component, consents: query.consent, caller: &caller };
        let taken = take(app, workspace, actor, &incoming, patience);
        if taken.is_err() {
            app.sweep(&row.digest, Some(&component));
        }
        taken
    })
    .await
}

/// A component that came.
#[derive(Clone, Copy)]
struct Incoming<'a> {
    row: &'a PluginRow,
    component: &'a [u8],
    /// Whether other bytes of a dev version may ask for more than the present ones.
    consents: bool,
    caller: &'a Caller,
}

/// Compile a component, keep it and write its row.
fn take(
    app: &App,
    workspace: WorkspaceId,
    actor: Actor,
    incoming: &Incoming<'_>,
    patience: &Patience,
) -> Result<(StatusCode, Json<PluginBody>), ApiError> {
    let Incoming { row, component, .. } = *incoming;
    let tables = app.catalogue.workspace(workspace)?;
    let Upload { row: wanted, before } = upload_of(&app.catalogue.tables(), &tables, row)?;
    insist_on_trust(app, &tables, &wanted)?;
    let is_here = before.as_ref().is_some_and(|before| before.digest == wanted.digest);
    // Compiling comes before the change, which others wait for.
    let compiled = match is_here {
        true => None,
        false => Some(app.wiring.components().admit(workspace, component, &row.digest, patience)?),
    };
    if before.is_some() && !is_here {
        return dev::replace(app, workspace, actor, incoming, patience);
    }
    app.change(workspace, actor, |draft| {
        // Another upload may have come between the look above and the draft, or a publisher gone.
        let all = app.catalogue.tables();
        let Upload { row, before } = upload_of(&all, draft.tables(), row)?;
        insist_on_trust(app, draft.tables(), &row)?;
        let target = format!("{}@{}", row.manifest.id, row.manifest.version);
        let (status, action) = match &before {
            // Another upload of the dev version was faster.
            Some(before) if before.digest != row.digest => return Err(changed_meanwhile()),
            Some(before) if before.signature == row.signature => {
                return Ok((StatusCode::OK, Json(plugin_body(&all, draft.tables(), &row))));
            }
            Some(_) => (StatusCode::OK, "plugin.sign"),
            None if compiled.is_some() => (StatusCode::CREATED, "plugin.upload"),
            None => return Err(changed_meanwhile()),
        };
        let was = before.as_deref().map(|before| audited(&all, draft.tables(), before));
        draft.audit(action, target, was, Some(audited(&all, draft.tables(), &row)))?;
        let body = plugin_body(&all, draft.tables(), &row);
        draft.forget_left_signature(&row.digest);
        draft.put_plugin(row);
        Ok((status, Json(body)))
    })
}

/// A version as the audit log has it, with whose signature it was and how that stood.
fn audited(all: &Tables, tables: &WorkspaceTables, row: &PluginRow) -> Value {
    serde_json::json!({ "digest": row.digest, "signature": signature_body(all, tables, row) })
}

fn changed_meanwhile() -> ApiError {
    let message = "the version was changed or deleted at the same moment; upload it again".to_owned();
    ApiError::Conflict { code: "changed-meanwhile", message }
}

/// Delete a version of a plugin that is not installed: its component leaves the disk where no other workspace has it. What it
/// made as an installation that was removed stays, and so does its signature: the same bytes have it when they come again.
#[utoipa::path(
    delete, path = "/api/v1/plugins/{vendor}/{name}/{version}", tag = "plugins",
    params(("vendor" = String, Path), ("name" = String, Path), ("version" = String, Path)),
    security(("key" = ["plugins:admin"])),
    responses((status = 204), (status = 404, body = Problem), (status = 409, body = Problem)),
)]
pub(crate) async fn remove(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path((vendor, name, version)): Path<(String, String, String)>,
) -> Result<StatusCode, ApiError> {
    let (workspace, actor) = (authority.caller.workspace, authority.actor());
    app.offload(move |app| {
        let digest = app.change(workspace, actor, |draft| {
            let row = held_version(draft.tables(), &vendor, &name, &version)?;
            check_uninstalled(draft.tables(), &row)?;
            let target = format!("{}@{}", row.manifest.id, row.manifest.version);
            let all = app.catalogue.tables();
            draft.audit("plugin.delete", target, Some(audited(&all, draft.tables(), &row)), None)?;
            leave_signature(&all, draft, &row);
            draft.remove_plugin(&row);
            Ok(row.digest.clone())
        })?;
        app.sweep(&digest, None);
        Ok(StatusCode::NO_CONTENT)
    })
    .await
}

/// The version of these parts of a path.
fn held_version(tables: &WorkspaceTables, vendor: &str, name: &str, version: &str) -> Result<Arc<PluginRow>, ApiError> {
    let key = format!("{vendor}/{name}").parse::<PluginId>().ok().zip(version.parse().ok());
    let row = key.and_then(|key| tables.plugins.get(&key).cloned());
    let shown: String = format!("{vendor}/{name} {version}").chars().take(260).collect();
    row.ok_or_else(|| ApiError::missing(format!("no plugin version `{shown}`")))
}

/// A version that an installation runs, or whose values people still hold from it, stays.
fn check_uninstalled(tables: &WorkspaceTables, row: &PluginRow) -> Result<(), ApiError> {
    let (id, version) = (&row.manifest.id, &row.manifest.version);
    let needs = |installed: &InstallationRow| {
        let serves = installed.waits_for_fit.as_ref().map(|waits| &waits.serves);
        let shadow = installed.shadow.as_ref().map(|shadow| &shadow.version);
        let needed = [Some(&installed.version), serves, shadow];
        installed.plugin == *id && needed.contains(&Some(version))
    };
    let tries = |installed: &InstallationRow| {
        installed.plugin == *id && installed.backtest.as_ref().is_some_and(|backtest| backtest.version == *version)
    };
    let message = if let Some(installed) = tables.installed().find(|installed| needs(installed)) {
        format!("{id} {version} is installed as `{}`; upgrade or remove that first", installed.name)
    } else if let Some(installed) = tables.installed().find(|installed| tries(installed)) {
        format!(
            "{id} {version} is or was tried over what is stored by `{}`; forget that backtest first",
            installed.name
        )
    } else {
        return Ok(());
    };
    Err(ApiError::Conflict { code: "in-use", message })
}

/// All plugins of the workspace.
#[utoipa::path(
    get, path = "/api/v1/plugins", tag = "plugins", params(PageQuery), security(("key" = ["plugins:admin"])),
    responses((status = 200, body = Page<PluginVersions>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    let workspace = authority.caller.workspace;
    // A manifest has up to 64 KiB.
    app.offload(move |app| {
        let (all, tables) = (app.catalogue.tables(), app.catalogue.workspace(workspace)?);
        let mut ids: Vec<&PluginId> = tables.plugins.keys().map(|(id, _)| id).collect();
        ids.dedup();
        let plugins = ids.into_iter().filter_map(|id| Some((id.clone(), versions_of(&all, &tables, id, None)?)));
        WrittenJson::of(&Page::of(plugins, &page, Ok)?)
    })
    .await
}

/// One plugin with its versions, as many as have room.
#[utoipa::path(
    get, path = "/api/v1/plugins/{vendor}/{name}", tag = "plugins",
    params(("vendor" = String, Path), ("name" = String, Path), VersionsQuery), security(("key" = ["plugins:admin"])),
    responses((status = 200, body = PluginVersions), (status = 400, body = Problem), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path((vendor, name)): Path<(String, String)>,
    Query(query): Query<VersionsQuery>,
) -> Result<WrittenJson, ApiError> {
    let workspace = authority.caller.workspace;
    let before = query.before.as_deref().map(str::parse::<Version>).transpose();
    let before = before.map_err(|error| ApiError::at("?before", error.to_string()))?;
    app.offload(move |app| {
        let (all, tables) = (app.catalogue.tables(), app.catalogue.workspace(workspace)?);
        let id = format!("{vendor}/{name}");
        let found = id.parse().ok().and_then(|id| versions_of(&all, &tables, &id, before.as_ref()));
        let missing = || ApiError::missing(format!("no plugin `{}`", id.chars().take(130).collect::<String>()));
        WrittenJson::of(&found.ok_or_else(missing)?)
    })
    .await
}

/// Whether plugins of this kind compute over people's columns, and so can be fitted.
pub(crate) fn computes(kind: PluginKind) -> bool {
    matches!(kind, PluginKind::TagModel | PluginKind::Scorer)
}
