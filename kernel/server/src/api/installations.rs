//! Installations: a plugin version at work with its configuration, grants, secrets and mode; installed, listed, changed,
//! upgraded and disabled. Removing one is `installations/removal.rs`, what its calls do `installations/seen.rs`, what it keeps of its
//! own `installations/kv.rs`.

mod backtest;
mod body;
mod carrying;
pub(super) mod changes;
mod configuring;
mod edit;
mod fallback;
mod figures;
mod fitting_rules;
mod hosts;
mod kv;
mod new_bytes;
mod policy;
mod quarantine;
mod removal;
mod seen;
mod shadow;
mod trial;
mod uncomputed;
mod versions;
mod wanted;
mod widening;

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::State;
use axum::http::StatusCode;
use kith_model::budget::table;
use kith_model::id::{InstallationId, InstallationName};
use kith_model::plugin::{Grants, InstallationMode, PluginId, PluginKind};
use kith_pipeline::{Activity, Patience};
use serde_json::Value;

pub(crate) use backtest::*;
pub(crate) use body::InstallationBody;
use body::{installation_body, public};
pub(super) use changes::merged;
use changes::{ChangeBody, differences};
use configuring::{configure, names_other_hosts};
use edit::{
    CheckedConfig, WantedConfig, check_complete, check_granting, check_grants, check_secrets, check_sensitive,
    check_sight, free_name, poll_interval, read_mode,
};
pub(crate) use fallback::fall_back;
pub(crate) use figures::{installation_figures, may_see_figures};
pub(crate) use kv::*;
pub(crate) use new_bytes::NewBytes;
pub(crate) use policy::*;
pub(crate) use removal::*;
pub(crate) use seen::*;
pub(crate) use shadow::*;
use versions::{WantedVersion, check_digest, first_version, next_version, note_installed};
use wanted::WantedGrants;
pub(crate) use wanted::{NewInstallation, PatchInstallation};

use super::etag::{IfMatch, TaggedBody};
use super::extract::{Authority, Json, PageQuery, Path, Query, WrittenJson, right};
use super::signatures::insist_on_start;
use super::view::Page;
use crate::app::App;
use crate::auth::{self, Caller, KeyKind, Scope};
use crate::catalogue::{
    Actor, CredentialRow, Draft, FittingRow, InstallationRow, PluginRow, UnshownRow, WorkspaceTables,
};
use crate::error::{ApiError, Problem};
use crate::fitting;

/// The row of that name, or the answer that there is none.
pub(crate) fn named<'a>(tables: &'a WorkspaceTables, name: &str) -> Result<&'a Arc<InstallationRow>, ApiError> {
    tables
        .installation(name)
        .ok_or_else(|| ApiError::missing(format!("no installation `{}`", name.chars().take(64).collect::<String>())))
}

/// Install a plugin version. The answer has in `policy` what that asks for, with its reasons, and is given; for a connector it shows
/// its write key, this once.
#[utoipa::path(
    post, path = "/api/v1/installations", tag = "installations", security(("key" = ["plugins:admin"])),
    request_body = NewInstallation,
    responses(
        (status = 201, body = InstallationBody), (status = 400, body = Problem), (status = 409, body = Problem),
        (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn create(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Json(wanted): Json<NewInstallation>,
) -> Result<(StatusCode, Json<InstallationBody>), ApiError> {
    let (workspace, actor, caller) = (authority.caller.workspace, authority.actor(), authority.caller);
    app.ask(move |app, patience| {
        let checked = CheckedConfig::new(app, patience);
        let (id, write_key) = app.change_after_loading(workspace, actor, patience, |draft| {
            let (row, write_key) = install(app, draft, &wanted, &checked, &caller)?;
            draft.audit("installation.create", &row.name, None, Some(public(&row)))?;
            audit_secrets(draft, &row.name, wanted.secrets.keys().map(|name| (name, "secret.set")))?;
            Ok((row.id, write_key))
        })?;
        let mut installed = present(app, &caller, id, write_key)?;
        let tables = app.catalogue.workspace(workspace)?;
        let row = tables.installations.get(&id).ok_or_else(removed_meanwhile)?;
        installed.policy = Some(policy::policy_body(app, &tables, row)?);
        Ok((StatusCode::CREATED, Json(installed)))
    })
    .await
}

/// An installation as it is now, as far as the caller may see it.
fn present(
    app: &App,
    caller: &Caller,
    id: InstallationId,
    write_key: Option<String>,
) -> Result<InstallationBody, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    let row = tables.installations.get(&id).ok_or_else(removed_meanwhile)?;
    installation_body(app, &tables, row, may_read_words(app, caller)?, write_key)
}

fn removed_meanwhile() -> ApiError {
    ApiError::missing("the installation was removed meanwhile")
}

/// Make the write key of a connector. Its text, which is shown once.
fn make_write_key(draft: &mut Draft<'_>, row: &mut InstallationRow) -> Result<String, ApiError> {
    let key = auth::generate(KeyKind::Write).map_err(|error| ApiError::internal("making a key", error))?;
    let (workspace, title) = (draft.tables().row.id, format!("write key of {}", row.name));
    let of_workspace = CredentialRow::new(&key, workspace, title, [Scope::Ingest], draft.now());
    draft.put_credential(CredentialRow { source: Some(row.id), ..of_workspace });
    row.write_key = Some(key.id);
    Ok(key.text)
}

/// Put a new installation into the draft.
fn install(
    app: &App,
    draft: &mut Draft<'_>,
    wanted: &NewInstallation,
    checked: &CheckedConfig<'_>,
    caller: &Caller,
) -> Result<(InstallationRow, Option<String>), ApiError> {
    let plugin: PluginId = wanted
        .plugin
        .parse()
        .map_err(|error: kith_model::plugin::InvalidPluginId| ApiError::at("plugin", error.to_string()))?;
    let version = first_version(app, draft.tables(), &plugin, &WantedVersion::from(wanted))?;
    let manifest = &version.manifest;
    let name = free_name(draft.tables(), manifest, wanted.name.as_deref())?;
    check_secrets(manifest, wanted.secrets.iter().map(|(name, value)| (name, Some(value))))?;
    let mode = wanted.mode.as_deref().map_or(Ok(InstallationMode::Live), read_mode)?;
    check_complete(manifest, mode, &wanted.secrets.keys().cloned().collect())?;
    let none = Grants::default();
    let grants = if let WantedGrants::Given(grants) = &wanted.grants { grants } else { &none };
    check_grants(manifest.kind, grants, &none)?;
    check_granting(caller, grants, &none)?;
    let fitting = wanted.fitting.on(&FittingRow::default(), manifest, draft.now())?;
    // Last, because the plugin itself is asked.
    let unshown = kith_host::write_only(manifest);
    let config = checked.check(draft, &version, WantedConfig::Written(wanted.config.clone()), &unshown)?;
    if let WantedGrants::Given(grants) = &wanted.grants {
        let parted = kith_host::parted(config.clone(), &unshown);
        let policy = app.wiring.effective_policy(manifest, grants);
        hosts::check_granted(manifest, (&parted.shown, &parted.unshown), &policy)?;
    }
    draft.tables().insist_on_room(&table::INSTALLATIONS_KEPT, draft.tables().installed().count())?;
    if manifest.kind == PluginKind::Connector {
        draft.insist_on_room_for_key()?;
    }
    let id = draft.next_installation()?;
    for (secret, value) in &wanted.secrets {
        draft.put_secret(id, secret, value)?;
    }
    let mut row = InstallationRow {
        id,
        name,
        plugin,
        version: manifest.version.clone(),
        config: Value::Null,
        unshown: UnshownRow::default(),
        grants: grants.clone(),
        mode,
        mode_reason: None,
        mode_since: draft.now(),
        left_quarantined: BTreeMap::new(),
        falls_back_to: None,
        fit: None,
        fit_is_chosen: false,
        waits_for_fit: None,
        poll_interval_ms: poll_interval(manifest, wanted.poll.as_ref())?,
        fitting,
        shadow: None,
        backtest: None,
        write_key: None,
        created_at: draft.now(),
        updated_at: draft.now(),
        removed_at: None,
        is_cleared: false,
    };
    draft.put_config(&mut row, config, manifest)?;
    if let WantedGrants::Given(_) = &wanted.grants {
        check_sensitive(draft, &row, &version)?;
    }
    let shown = if manifest.kind == PluginKind::Connector { Some(make_write_key(draft, &mut row)?) } else { None };
    note_installed(draft, &row.name, &version)?;
    draft.put_installation(row.clone());
    Ok((row, shown))
}

/// All installations of the workspace.
#[utoipa::path(
    get, path = "/api/v1/installations", tag = "installations", params(PageQuery),
    security(("key" = ["plugins:admin"])),
    responses((status = 200, body = Page<InstallationBody>), (status = 400, body = Problem)),
)]
pub(crate) async fn list(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Query(page): Query<PageQuery>,
) -> Result<WrittenJson, ApiError> {
    let caller = authority.caller;
    // Each has a configuration of up to 64 KiB.
    app.offload(move |app| {
        let tables = app.catalogue.workspace(caller.workspace)?;
        let shows_words = may_read_words(app, &caller)?;
        let installed = tables.installed().map(|row| (row.id.0, row));
        WrittenJson::of(&Page::of(installed, &page, |row| installation_body(app, &tables, row, shows_words, None))?)
    })
    .await
}

/// One installation.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")), security(("key" = ["plugins:admin"])),
    responses((status = 200, body = InstallationBody), (status = 404, body = Problem)),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
) -> Result<TaggedBody<InstallationBody>, ApiError> {
    let caller = &authority.caller;
    let tables = app.catalogue.workspace(caller.workspace)?;
    let row = named(&tables, &name)?;
    let body = installation_body(&app, &tables, row, may_read_words(&app, caller)?, None)?;
    Ok(TaggedBody { tag: body::tag(&tables, row), body })
}

/// Change an installation: what is absent stays, also of the configuration, and the answer says what was changed. With the tag
/// of a read in `If-Match` it is refused where somebody else has changed it since. Another `version` upgrades or downgrades it; where that one asks for
/// more than the present one, the change needs `consent`, and where a higher one was ever installed, `allow_downgrade`. A later
/// version makes its own configuration of the present one, unless one comes with it; with `dry_run` the answer says what would be
/// changed, and nothing is.
#[utoipa::path(
    patch, path = "/api/v1/installations/{id}", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")), security(("key" = ["plugins:admin"])),
    request_body = PatchInstallation,
    responses(
        (status = 200, body = InstallationBody), (status = 400, body = Problem), (status = 404, body = Problem),
        (status = 409, body = Problem), (status = 412, body = Problem, description = "somebody else has changed it"),
        (status = 413, body = Problem), (status = 429, body = Problem),
    ),
)]
pub(crate) async fn change(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
    if_match: IfMatch,
    Json(patch): Json<PatchInstallation>,
) -> Result<TaggedBody<InstallationBody>, ApiError> {
    let (workspace, actor, caller) = (authority.caller.workspace, authority.actor(), authority.caller);
    app.ask(move |app, patience| {
        let checked = CheckedConfig::of(app, patience, &name);
        if patch.dry_run {
            return rehearsed(app, (&caller, actor), &name, &if_match, &patch, &checked, patience);
        }
        let (id, changes, warnings) = app.change_after_loading(workspace, actor, patience, |draft| {
            let before = InstallationRow::clone(named(draft.tables(), &name)?);
            if_match.check(&format!("installation `{name}`"), || body::tag(draft.tables(), &before))?;
            let (row, unshown) = patched(app, draft, &before, &patch, &checked, &caller)?;
            let shown = shown_before(&before, &row);
            let secrets: Vec<&String> = patch.secrets.keys().collect();
            let changes: Vec<ChangeBody> = differences(&shown, &row, &secrets, &unshown);
            // One that could not be made to run is tried again, though nothing is new.
            let is_retried = patch.mode.is_some() && app.wiring.activity(draft.tables(), &before) != Activity::Running;
            if changes.is_empty() && !is_retried {
                return Ok((before.id, changes, Vec::new()));
            }
            draft.audit("installation.change", &row.name, Some(public(&shown)), Some(public(&row)))?;
            let what = |value: &Option<String>| if value.is_some() { "secret.set" } else { "secret.remove" };
            audit_secrets(draft, &row.name, patch.secrets.iter().map(|(name, value)| (name, what(value))))?;
            let warnings = carrying::newly_refused(draft.tables(), &before, &row);
            draft.put_installation(row);
            Ok((before.id, changes, warnings))
        })?;
        tagged(app, &caller, id, (changes, warnings))
    })
    .await
}

/// What a change would change, with the installation as it is now.
fn rehearsed(
    app: &App,
    (caller, actor): (&Caller, Actor),
    name: &str,
    if_match: &IfMatch,
    patch: &PatchInstallation,
    checked: &CheckedConfig<'_>,
    patience: &Patience,
) -> Result<TaggedBody<InstallationBody>, ApiError> {
    let mut draft = app.catalogue.rehearse(caller.workspace, actor)?;
    let before = InstallationRow::clone(named(draft.tables(), name)?);
    if_match.check(&format!("installation `{name}`"), || body::tag(draft.tables(), &before))?;
    let (row, unshown) = patched(app, &mut draft, &before, patch, checked, caller)?;
    let secrets: Vec<&String> = patch.secrets.keys().collect();
    let changes = differences(&shown_before(&before, &row), &row, &secrets, &unshown);
    let warnings = carrying::newly_refused(draft.tables(), &before, &row);
    if !changes.is_empty() {
        draft.put_installation(row);
        app.tried_on_paper(&draft, patience)?;
    }
    tagged(app, caller, before.id, (changes, warnings))
}

/// An installation as it is now, with its tag and with what a change changed, or would, and what comes of that.
fn tagged(
    app: &App,
    caller: &Caller,
    id: InstallationId,
    (changes, warnings): (Vec<ChangeBody>, Vec<String>),
) -> Result<TaggedBody<InstallationBody>, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    let tag = body::tag(&tables, tables.installations.get(&id).ok_or_else(removed_meanwhile)?);
    Ok(TaggedBody { tag, body: present(app, caller, id, None)?.with_changes(changes, warnings) })
}

/// Write down which secrets were set and removed; their values are nobody's to see.
fn audit_secrets<'a>(
    draft: &mut Draft<'_>,
    installation: &InstallationName,
    secrets: impl Iterator<Item = (&'a String, &'static str)>,
) -> Result<(), ApiError> {
    for (name, action) in secrets {
        draft.audit(action, format!("{installation}/{name}"), None, None)?;
    }
    Ok(())
}

/// The plugin version that an installation runs.
fn present_version(tables: &WorkspaceTables, row: &InstallationRow) -> Result<Arc<PluginRow>, ApiError> {
    tables.plugin_of(row).cloned().ok_or_else(|| {
        let problem = format!("{} {} is not in the catalogue", row.plugin, row.version);
        ApiError::internal("looking up an installation's plugin", problem)
    })
}

/// The row before a change without what is not shown after it: a later version may say so of what an earlier one showed.
fn shown_before(before: &InstallationRow, after: &InstallationRow) -> InstallationRow {
    let config = kith_host::parted(before.config.clone(), &after.unshown.paths).shown;
    InstallationRow { config, ..before.clone() }
}

/// The row as it will be, and the places of what is another of what its configuration does not show.
fn patched(
    app: &App,
    draft: &mut Draft<'_>,
    before: &InstallationRow,
    patch: &PatchInstallation,
    checked: &CheckedConfig<'_>,
    caller: &Caller,
) -> Result<(InstallationRow, Vec<String>), ApiError> {
    patch.mode.as_deref().map(read_mode).transpose()?;
    let mut row = before.clone();
    let present = draft.tables().plugin_of(before).cloned();
    let mut version = present.clone();
    if patch.version.is_some() {
        let next = next_version(app, draft, before, present.as_deref(), &WantedVersion::from(patch))?;
        row.version = next.manifest.version.clone();
        fitting::choose_fit(draft, before, &mut row, &next.manifest)?;
        quarantine::follow(draft, &mut row, present.as_deref(), &next)?;
        version = Some(next);
    }
    let version = version.map_or_else(|| present_version(draft.tables(), before), Ok)?;
    check_digest(&version, patch.digest.as_deref())?;
    let unshown = configure(draft, (before, &mut row), patch, (present.as_deref(), &version), checked)?;
    row.falls_back_to = fallback::kept(before, &row, present.as_deref(), &version);
    check_secrets(&version.manifest, patch.secrets.iter().map(|(name, value)| (name, value.as_ref())))?;
    for (name, value) in &patch.secrets {
        match value {
            Some(value) => draft.put_secret(row.id, name, value)?,
            None => draft.remove_secret(row.id, name),
        }
    }
    if patch.poll.is_some() {
        row.poll_interval_ms = poll_interval(&version.manifest, patch.poll.as_ref())?;
    }
    if let Some(WantedGrants::Given(grants)) = &patch.grants {
        check_grants(version.manifest.kind, grants, &before.grants)?;
        check_granting(caller, grants, &before.grants)?;
        row.grants = grants.clone();
    }
    let is_later = matches!(patch.grants, Some(WantedGrants::Later));
    if names_other_hosts(before, &row) && !is_later {
        let policy = app.wiring.effective_policy(&version.manifest, &row.grants);
        // What is not shown is held against the grants when it is written, and by nobody who guesses its host.
        let written = patch.config.clone().unwrap_or_default();
        let written = kith_host::parted(written, &row.unshown.paths).unshown;
        hosts::check_granted(&version.manifest, (&row.config, &written), &policy)?;
    }
    let is_other = row.config != before.config || row.grants != before.grants || row.version != before.version;
    if is_other && !is_later {
        check_sensitive(draft, &row, &version)?;
    }
    if is_other || row.unshown != before.unshown {
        check_sight(draft, &row, &version, caller)?;
    }
    row.fitting = patch.fitting.on(&before.fitting, &version.manifest, draft.now())?;
    if let Some(mode) = &patch.mode {
        set_mode(app, draft, &mut row, &version, read_mode(mode)?)?;
    }
    // One that has been live without a secret can be changed in other ways.
    if patch.mode.is_some() || patch.version.is_some() || !patch.secrets.is_empty() {
        check_complete(&version.manifest, row.mode, &draft.tables().secret_names(row.id).into_iter().collect())?;
    }
    row.shadow = kept_shadow(draft, before, &row, checked);
    if row.mode == InstallationMode::Disabled {
        row.backtest = None;
    }
    row.updated_at = draft.now();
    Ok((row, unshown))
}

/// Switch an installation on or off.
fn set_mode(
    app: &App,
    draft: &Draft<'_>,
    row: &mut InstallationRow,
    version: &PluginRow,
    mode: InstallationMode,
) -> Result<(), ApiError> {
    if mode != row.mode {
        row.mode_since = draft.now();
        if mode == InstallationMode::Live {
            insist_on_start(app, draft.tables(), version)?;
        }
    }
    (row.mode, row.mode_reason) = (mode, None);
    Ok(())
}
