//! `GET /api/v1/sources/{id}/imports/{name}`: how far an import has come that was broken off, so that it can go on there.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use kith_model::id::InstallationId;
use kith_pipeline::ImportState;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

use super::extract::{Authority, Path, right};
use super::intake::WentOnBody;
use crate::app::App;
use crate::auth::Caller;
use crate::error::{ApiError, Problem};

/// What is to be done with a stream of records, and how it goes on if it breaks off.
#[derive(Debug, Deserialize, IntoParams)]
#[into_params(parameter_in = Query)]
pub(crate) struct ImportQuery {
    /// A name for this import, of 1 to 128 bytes, e.g. a hash of the file: how far it comes is kept under it until its end.
    pub(crate) import: Option<String>,
    /// The byte of the file, unpacked, with which the body begins: 0, or where the import of that name has come.
    pub(crate) from: Option<u64>,
    /// `true` to store nothing: the answer says what would become of it.
    #[param(pattern = "^(true|false|1|0)$")]
    pub(crate) dry_run: Option<String>,
}

/// How far an import has come.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct ImportBody {
    /// Bytes of the file, unpacked, that are taken and durable: send those that follow.
    bytes: u64,
    /// The records in them.
    records: u64,
    accepted: u64,
    duplicate: u64,
    corrected: u64,
    conflict: u64,
    rejected_count: u64,
}

impl ImportBody {
    fn of(state: &ImportState) -> ImportBody {
        let acceptance = &state.acceptance;
        ImportBody {
            bytes: state.bytes,
            records: acceptance.records(),
            accepted: acceptance.accepted,
            duplicate: acceptance.duplicate,
            corrected: acceptance.corrected,
            conflict: acceptance.conflict,
            rejected_count: acceptance.rejected_count,
        }
    }
}

/// A source that the caller may feed.
pub(super) fn source_of(app: &App, caller: &Caller, name: &str) -> Result<InstallationId, ApiError> {
    let tables = app.catalogue.workspace(caller.workspace)?;
    // A write key's other sources are as unknown to it as if they were not there.
    let own = |id: InstallationId| caller.source.is_none_or(|own| own == id);
    let found = tables.installation(name).map(|row| row.id).filter(|id| own(*id));
    found.ok_or_else(|| no_source(name))
}

/// There is no such source for this caller, whatever else has that name.
fn no_source(name: &str) -> ApiError {
    let name: String = name.chars().take(64).collect();
    ApiError::missing(format!(
        "no source `{name}`; `kith source list` names those there are, and `kith plugin install` makes one"
    ))
}

/// Where an import went on.
pub(super) fn beginning(state: &ImportState) -> WentOnBody {
    WentOnBody { bytes: state.bytes, records: state.acceptance.records() }
}

/// How far an import has come that was broken off. Send the rest to the source's records with `import` and `from`.
#[utoipa::path(
    get, path = "/api/v1/sources/{id}/imports/{name}", tag = "ingest",
    params(
        ("id" = String, Path, description = "the source's name"),
        ("name" = String, Path, description = "the name that the import was given"),
    ),
    security(("key" = ["ingest"])),
    responses(
        (status = 200, body = ImportBody),
        (status = 404, body = Problem, description = "no import of that name was broken off"),
        (status = 503, body = Problem),
    ),
)]
pub(crate) async fn read(
    State(app): State<Arc<App>>,
    authority: Authority<right::Ingest>,
    Path((id, name)): Path<(String, String)>,
) -> Result<Json<ImportBody>, ApiError> {
    let caller = authority.caller;
    let source = source_of(&app, &caller, &id)?;
    let state = app.offload(move |app| app.kernel.import_state(caller.workspace, source, &name)).await?;
    let missing = || ApiError::missing("no import of that name was broken off");
    Ok(Json(ImportBody::of(&state.ok_or_else(missing)?)))
}
