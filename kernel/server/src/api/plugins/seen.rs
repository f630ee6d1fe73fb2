//! An upload of which nothing is kept: how a component's signature stands here, and what would be refused for it.

use axum::Json;
use axum::http::StatusCode;
use kith_model::id::WorkspaceId;
use serde::Deserialize;
use utoipa::IntoParams;

use super::{PluginBody, Upload, plugin_body, takes_place, upload_of};
use crate::api::signatures::insist_on_trust;
use crate::app::App;
use crate::catalogue::{PluginRow, Tables, WorkspaceTables};
use crate::error::ApiError;

/// What is to become of an upload.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct UploadQuery {
    /// Keep nothing: the answer says how the signature that came stands, and what would be refused for it is. Whether the component
    /// compiles is not looked at.
    #[serde(default)]
    pub(super) dry_run: bool,
    /// Allow other bytes of a dev version to ask for more than the present ones where it is installed.
    #[serde(default)]
    pub(super) consent: bool,
}

/// Look at an upload as at one that is made.
pub(super) fn seen(
    app: &App,
    workspace: WorkspaceId,
    row: PluginRow,
) -> Result<(StatusCode, Json<PluginBody>), ApiError> {
    let (all, tables) = (app.catalogue.tables(), app.catalogue.workspace(workspace)?);
    let Upload { row: wanted, .. } = upload_of(&all, &tables, &row)?;
    let row = if row.signature.is_none() { wanted } else { as_it_came(&all, &tables, row) };
    insist_on_trust(app, &tables, &row)?;
    Ok((StatusCode::OK, Json(plugin_body(&all, &tables, &row))))
}

/// A version with the signature that came, as of when the same one came first: a key's validity is judged by that.
fn as_it_came(all: &Tables, tables: &WorkspaceTables, row: PluginRow) -> PluginRow {
    let here = tables.plugins.get(&(row.manifest.id.clone(), row.manifest.version.clone()));
    let left = tables.left_signatures.get(&row.digest).map(|left| &left.signature);
    let earlier = here.and_then(|here| here.signature.as_ref()).or(left).cloned();
    let earlier = PluginRow { signature: earlier, ..row.clone() };
    let text = |row: &PluginRow| row.signature.as_ref().map(|signature| signature.text.clone());
    let is_same = text(&earlier) == text(&row);
    match &row.signature {
        Some(came) if is_same && !takes_place(all, tables, &earlier, came) => earlier,
        _ => row,
    }
}
