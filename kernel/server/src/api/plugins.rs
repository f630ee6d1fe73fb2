//! Uploading plugins and showing what they are: every version with its manifest, digest and what it asks for.
//! Yanking one is `plugins/yank.rs`.

mod yank;

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::http::{HeaderMap, StatusCode};
use kith_model::budget::{Exhausted, table};
use kith_model::id::WorkspaceId;
use kith_model::plugin::{Capabilities, InputSpec, LimitRequest, OutputSpec, PluginId, PluginKind, PollRequest};
use kith_pipeline::{PageRoom, Patience};
use semver::Version;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use utoipa::{IntoParams, ToSchema};

pub(crate) use yank::*;

use super::extract::{Authority, BodyLimit, PageQuery, Path, Query, WrittenJson, read_body, right};
use super::reservation::Reservation;
use super::signatures::{SignatureBody, insist_on_trust, sign, signature_body, signature_state, signature_text};
use super::view::{Page, time, written_bytes};
use crate::app::App;
use crate::catalogue::publishers::SignatureRow;
use crate::catalogue::{Actor, InstallationRow, PluginRow, Tables, WorkspaceTables};
use crate::error::{ApiError, Problem};
use crate::signatures::trust::SignatureState;

/// One version of a plugin.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginBody {
    /// `vendor/name`.
    id: String,
    version: String,
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
}

/// A plugin with its versions, oldest first.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct PluginVersions {
    id: String,
    kind: String,
    title: String,
    /// The newest.
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
        limits: manifest.limits,
        manifest: row.manifest_toml.clone(),
        uploaded_at: time(row.uploaded_at),
        uploaded_by: row.uploaded_by.to_string(),
        yanked: yanked(row),
        signature: signature_body(all, tables, row),
    }
}

/// The newest versions that have room, of all or of those older than one.
fn versions_of(
    all: &Tables,
    tables: &WorkspaceTables,
    id: &PluginId,
    before: Option<&Version>,
) -> Option<PluginVersions> {
    let latest = tables.versions(id).next_back()?;
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
/// or of a revoked key, only one that is valid.
#[utoipa::path(
    post, path = "/api/v1/plugins", tag = "plugins", security(("key" = ["plugins:admin"])),
    params(("Kith-Signature" = Option<String>, Header, description = "its detached signature: a `.minisig` file in base64")),
    request_body(content = Vec<u8>, content_type = "application/wasm", description = "the component; its size is the budget `component-size`"),
    responses(
        (status = 201, body = PluginBody), (status = 200, body = PluginBody, description = "it was here already"),
        (status = 400, body = Problem), (status = 409, body = Problem), (status = 413, body = Problem),
        (status = 429, body = Problem),
    ),
)]
pub(crate) async fn upload(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    headers: HeaderMap,
    body: Body,
) -> Result<(StatusCode, Json<PluginBody>), ApiError> {
    let actor = authority.actor();
    let workspace = authority.caller.workspace;
    let signature = signature_text(&headers)?;
    let mut memory = Reservation::of_key(&app, &authority.caller.key)?;
    let bytes = usize::try_from(app.config.plugin_bytes).unwrap_or(usize::MAX);
    let limit = BodyLimit { budget: &table::COMPONENT_SIZE, bytes };
    let component = read_body(body, limit, &mut memory).await?;
    app.insist_on_standing(&authority.caller.key)?;
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
        let taken = take(app, workspace, actor, &row, &component, patience);
        if taken.is_err() {
            app.sweep(&row.digest, Some(&component));
        }
        taken
    })
    .await
}

/// Compile a component, keep it and write its row.
fn take(
    app: &App,
    workspace: WorkspaceId,
    actor: Actor,
    row: &PluginRow,
    component: &[u8],
    patience: &Patience,
) -> Result<(StatusCode, Json<PluginBody>), ApiError> {
    let tables = app.catalogue.workspace(workspace)?;
    let Upload { row: wanted, before } = upload_of(&app.catalogue.tables(), &tables, row)?;
    insist_on_trust(app, &tables, &wanted)?;
    // Compiling comes before the change, which others wait for.
    let compiled = match before {
        Some(_) => None,
        None => Some(app.wiring.components().admit(workspace, component, &row.digest, patience)?),
    };
    app.change(workspace, actor, |draft| {
        // Another upload may have come between the look above and the draft, or a publisher gone.
        let all = app.catalogue.tables();
        let Upload { row, before } = upload_of(&all, draft.tables(), row)?;
        insist_on_trust(app, draft.tables(), &row)?;
        let target = format!("{}@{}", row.manifest.id, row.manifest.version);
        let (status, action) = match &before {
            Some(before) if before.signature == row.signature => {
                return Ok((StatusCode::OK, Json(plugin_body(&all, draft.tables(), &row))));
            }
            Some(_) => (StatusCode::OK, "plugin.sign"),
            None if compiled.is_some() => (StatusCode::CREATED, "plugin.upload"),
            None => {
                let message = "the version was deleted at the same moment; upload it again".to_owned();
                return Err(ApiError::Conflict { code: "changed-meanwhile", message });
            }
        };
        draft.audit(action, target, None, Some(serde_json::json!({ "digest": row.digest })))?;
        let body = plugin_body(&all, draft.tables(), &row);
        draft.put_plugin(row);
        Ok((status, Json(body)))
    })
}

/// What an upload makes of a version.
struct Upload {
    row: PluginRow,
    /// The version, where it was here already.
    before: Option<Arc<PluginRow>>,
}

/// The row of an upload. Of a version that is here it is that one's, with the signature that came where that takes the place of
/// the present one.
fn upload_of(all: &Tables, tables: &WorkspaceTables, row: &PluginRow) -> Result<Upload, ApiError> {
    let Some(existing) = tables.plugins.get(&(row.manifest.id.clone(), row.manifest.version.clone())) else {
        check_kept(tables.plugins.values().map(|kept| kept.size_bytes), row.size_bytes)?;
        return Ok(Upload { row: row.clone(), before: None });
    };
    check_same(existing, &row.digest)?;
    let came = row.signature.clone().filter(|came| takes_place(all, tables, existing, came));
    let signature = came.or_else(|| existing.signature.clone());
    let row = PluginRow { signature, ..PluginRow::clone(existing) };
    Ok(Upload { row, before: Some(Arc::clone(existing)) })
}

/// Whether a signature that came takes the place of the one that a version has.
fn takes_place(all: &Tables, tables: &WorkspaceTables, existing: &PluginRow, came: &SignatureRow) -> bool {
    let state = signature_state(all, tables, existing);
    let is_same = existing.signature.as_ref().is_some_and(|present| present.text == came.text);
    match state {
        SignatureState::Valid => false,
        // Anybody has a key of his own: what a bad one leaves behind is made good by one that holds alone.
        SignatureState::Revoked | SignatureState::Forged => {
            let signed = PluginRow { signature: Some(came.clone()), ..existing.clone() };
            signature_state(all, tables, &signed) == SignatureState::Valid
        }
        // What came again stands otherwise than it did when it came.
        SignatureState::Unchecked | SignatureState::NotYetValid => true,
        SignatureState::Unsigned
        | SignatureState::UnknownKey
        | SignatureState::Expired
        | SignatureState::OtherNamespace => !is_same,
    }
}

/// Whether one more version of so many bytes may be kept beside those that are.
fn check_kept(kept: impl Iterator<Item = u64>, size_bytes: u64) -> Result<(), Exhausted> {
    let (versions, bytes) =
        kept.chain([size_bytes]).fold((0, 0_u64), |(versions, bytes), size| (versions + 1, bytes.saturating_add(size)));
    for (budget, used) in [(&table::PLUGINS_KEPT, versions), (&table::PLUGIN_BYTES_KEPT, bytes)] {
        if used > budget.default {
            return Err(budget.exhausted(budget.default, None));
        }
    }
    Ok(())
}

/// Delete a version of a plugin that is not installed: its component leaves the disk where no other workspace has it. What it
/// made as an installation that was removed stays.
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
            draft.audit("plugin.delete", target, Some(serde_json::json!({ "digest": row.digest })), None)?;
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
        installed.plugin == *id && (installed.version == *version || serves == Some(version))
    };
    match tables.installed().find(|installed| needs(installed)) {
        None => Ok(()),
        Some(installed) => {
            let message = format!("{id} {version} is installed as `{}`; upgrade or remove that first", installed.name);
            Err(ApiError::Conflict { code: "in-use", message })
        }
    }
}

/// A version's bytes never change: the same ones again are fine, others are not.
fn check_same(existing: &PluginRow, digest: &str) -> Result<(), ApiError> {
    if existing.digest == digest {
        return Ok(());
    }
    let (id, version) = (&existing.manifest.id, &existing.manifest.version);
    let message = format!("{id} {version} is here already with other bytes; raise the version in plugin.toml");
    Err(ApiError::Conflict { code: "version-exists", message })
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

#[cfg(test)]
mod tests {
    use std::iter::{once, repeat_n};

    use super::*;

    #[test]
    fn a_workspace_keeps_so_many_plugins_and_so_many_bytes() {
        let ended = |refused: Result<(), Exhausted>| refused.err().map(|exhausted| exhausted.budget.name);
        assert_eq!(ended(check_kept(repeat_n(1, 499), 1)), None);
        assert_eq!(ended(check_kept(repeat_n(1, 500), 1)), Some("plugins-kept"));
        let most = table::PLUGIN_BYTES_KEPT.default;
        assert_eq!(ended(check_kept(once(most - 1), 1)), None);
        assert_eq!(ended(check_kept(once(most), 1)), Some("plugin-bytes-kept"));
    }
}
