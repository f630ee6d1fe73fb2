//! Other bytes of a version of the dev channel: they take the place of the present ones, and every installation that runs the
//! version is given them, or nothing changes.

use axum::Json;
use axum::http::StatusCode;
use kith_model::id::WorkspaceId;
use kith_pipeline::Patience;
use serde_json::json;

use super::{Incoming, PluginBody, Upload, changed_meanwhile, leave_signature, plugin_body, upload_of};
use crate::api::installations::NewBytes;
use crate::api::signatures::insist_on_trust;
use crate::app::App;
use crate::catalogue::Actor;
use crate::error::ApiError;

/// Put a component that was compiled in the place of a dev version's. Its file must stay while this runs.
pub(super) fn replace(
    app: &App,
    workspace: WorkspaceId,
    actor: Actor,
    incoming: &Incoming<'_>,
    patience: &Patience,
) -> Result<(StatusCode, Json<PluginBody>), ApiError> {
    let new_bytes = NewBytes::new(app, patience, incoming.consents, incoming.caller);
    // The rehearsal asks the plugin about each configuration and loads it, so that bytes which fail there replace nothing.
    let (body, replaced) = app.change_after_loading(workspace, actor, patience, |draft| {
        let all = app.catalogue.tables();
        let Upload { row, before } = upload_of(&all, draft.tables(), incoming.row)?;
        insist_on_trust(app, draft.tables(), &row)?;
        let before = before.filter(|before| before.digest != row.digest).ok_or_else(changed_meanwhile)?;
        let upgraded = new_bytes.give(draft, &before, &row)?;
        let target = format!("{}@{}", row.manifest.id, row.manifest.version);
        let (old, new) = (json!({ "digest": before.digest }), json!({ "digest": row.digest, "upgraded": upgraded }));
        draft.audit("plugin.replace", target, Some(old), Some(new))?;
        let body = PluginBody { upgraded: Some(upgraded), ..plugin_body(&all, draft.tables(), &row) };
        leave_signature(&all, draft, &before);
        draft.forget_left_signature(&row.digest);
        draft.put_plugin(row);
        Ok((body, before.digest.clone()))
    })?;
    app.sweep(&replaced, None);
    Ok((StatusCode::OK, Json(body)))
}
