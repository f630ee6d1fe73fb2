//! What a plugin keeps of its own, as an admin sees it: which keys, how large, until when; and clearing it. Values are the plugin's
//! alone.

use std::sync::Arc;

use axum::extract::State;
use kith_host::{KeptKey, KeyQuery, KeyValue, KeyValueError};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::{IntoParams, ToSchema};

use super::named;
use super::seen::{insist_on_words, may_read_words};
use crate::api::extract::{Authority, Json, Path, Query, page_limit, right};
use crate::api::view::time;
use crate::app::App;
use crate::error::{ApiError, Problem};

/// No key is longer.
const MAX_KEY_BYTES: usize = 256;

/// Which keys.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct KvQuery {
    /// Those that begin with it; all unless told.
    prefix: Option<String>,
    /// How many at most; 50 unless told, 500 at most.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<usize>,
    /// The `next` of the page before.
    cursor: Option<String>,
}

/// What a plugin keeps of its own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KvBody {
    /// How many keys there are in all. What has expired counts until it is removed, here and in `bytes`.
    keys: u64,
    /// What all keys and values come to.
    bytes: u64,
    /// What they may come to.
    granted_bytes: u64,
    /// In the order of their bytes.
    items: Vec<KvItemBody>,
    /// Hand it in as `cursor` to get the next page, which may be empty; `null` at the end.
    next: Option<String>,
}

/// A key of a plugin's own.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KvItemBody {
    key: String,
    /// Of its value.
    value_bytes: u64,
    /// `null` where it is kept for as long as the installation.
    expires_at: Option<String>,
}

/// What was cleared. Its figures are `null` without the scope `profiles:read`, or where the data dictionary calls something sensitive
/// and the key has no `sensitive:read`: a plugin keeps what it likes of people.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct KvClearedBody {
    keys: Option<u64>,
    bytes: Option<u64>,
}

impl From<KeptKey> for KvItemBody {
    fn from(kept: KeptKey) -> KvItemBody {
        let KeptKey { key, value_bytes, expires_at } = kept;
        KvItemBody { key, value_bytes, expires_at: expires_at.map(time) }
    }
}

fn unavailable(error: KeyValueError) -> ApiError {
    ApiError::Unavailable { code: "state-unavailable", message: error.to_string(), retry_after_s: 10 }
}

/// The key that a cursor stands for.
fn read_cursor(cursor: &str) -> Result<String, ApiError> {
    let key = data_encoding::HEXLOWER.decode(cursor.as_bytes()).ok();
    let key = key.and_then(|key| String::from_utf8(key).ok()).filter(|key| key.len() <= MAX_KEY_BYTES);
    key.ok_or_else(|| ApiError::at("?cursor", "this list gave out no such cursor"))
}

/// The keys that a plugin keeps, and what they come to. Values are not shown.
#[utoipa::path(
    get, path = "/api/v1/installations/{id}/kv", tag = "installations",
    params(("id" = String, Path, description = "the installation's name"), KvQuery),
    security(("key" = ["plugins:admin", "profiles:read"])),
    responses(
        (status = 200, body = KvBody), (status = 400, body = Problem), (status = 404, body = Problem),
    ),
)]
pub(crate) async fn kv(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    _people: Authority<right::ProfilesRead>,
    Path(name): Path<String>,
    Query(query): Query<KvQuery>,
) -> Result<Json<KvBody>, ApiError> {
    let caller = &authority.caller;
    let limit = page_limit(query.limit)?;
    let prefix = query.prefix.unwrap_or_default();
    if prefix.len() > MAX_KEY_BYTES {
        return Err(ApiError::at("?prefix", format!("no key has more than {MAX_KEY_BYTES} bytes")));
    }
    let after = query.cursor.as_deref().map(read_cursor).transpose()?;
    // A key may name somebody.
    insist_on_words(&app, caller)?;
    let workspace = caller.workspace;
    let body = app
        .offload(move |app| -> Result<KvBody, ApiError> {
            let tables = app.catalogue.workspace(workspace)?;
            let row = named(&tables, &name)?;
            let granted_bytes = tables
                .plugin_of(row)
                .map_or(0, |plugin| app.wiring.effective_policy(&plugin.manifest, &row.grants).kv_bytes.value);
            let state = app.wiring.states().of(workspace, row.id);
            let query = KeyQuery { prefix: &prefix, after: after.as_deref(), limit };
            let page = state.list(query, app.clock.now()).map_err(unavailable)?;
            let used = state.used().map_err(unavailable)?;
            Ok(KvBody {
                keys: used.keys,
                bytes: used.bytes,
                granted_bytes,
                items: page.keys.into_iter().map(KvItemBody::from).collect(),
                next: page.next.map(|key| data_encoding::HEXLOWER.encode(key.as_bytes())),
            })
        })
        .await?;
    if !body.items.is_empty() {
        app.reads.note(caller, "installation.kv", []);
    }
    Ok(Json(body))
}

/// Forget everything that a plugin keeps of its own. It goes on with nothing; what it writes meanwhile may stay.
#[utoipa::path(
    delete, path = "/api/v1/installations/{id}/kv", tag = "installations",
    params(("id" = String, Path, description = "the installation's name")), security(("key" = ["plugins:admin"])),
    responses((status = 200, body = KvClearedBody), (status = 404, body = Problem)),
)]
pub(crate) async fn clear_kv(
    State(app): State<Arc<App>>,
    authority: Authority<right::PluginsAdmin>,
    Path(name): Path<String>,
) -> Result<Json<KvClearedBody>, ApiError> {
    let (workspace, actor, caller) = (authority.caller.workspace, authority.actor(), authority.caller);
    app.offload(move |app| {
        let id = {
            let tables = app.catalogue.workspace(workspace)?;
            named(&tables, &name)?.id
        };
        let state = app.wiring.states().of(workspace, id);
        let held = state.used().map_err(unavailable)?;
        let before = json!({ "keys": held.keys, "bytes": held.bytes });
        // First, so that nothing is cleared of which no line tells.
        app.change(workspace, actor, |draft| Ok(draft.audit("installation.clear-kv", &name, Some(before), None)?))?;
        let (cleared, ended) = state.clear();
        ended.map_err(unavailable)?;
        let shows_people = may_read_words(app, &caller)?;
        let figure = |figure: u64| shows_people.then_some(figure);
        Ok(Json(KvClearedBody { keys: figure(cleared.keys), bytes: figure(cleared.bytes) }))
    })
    .await
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cursor_is_one_that_was_given_out() {
        assert_eq!(read_cursor("612f62").unwrap(), "a/b");
        for foreign in ["x", "ff", &"61".repeat(257)] {
            assert!(matches!(read_cursor(foreign), Err(ApiError::BadInput { .. })), "{foreign}");
        }
    }
}
