//! The people for whom the version of an installed model has no answer, as an answer shows them.

use serde::Serialize;
use utoipa::ToSchema;

use crate::api::view::time;
use crate::app::App;
use crate::catalogue::{InstallationRow, WorkspaceTables};

/// The people for whom the version of a tag model or a scorer has no answer, because it fails on them: their older values count.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UncomputedBody {
    people: u64,
    /// Since when there are any.
    since: String,
    last_fault: UncomputedFaultBody,
}

/// The last fault over one of them.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct UncomputedFaultBody {
    at: String,
    code: String,
    message: String,
}

/// What is shown of them to who may read people: others would learn by a version of their own on whom it fails.
pub(super) fn uncomputed(
    app: &App,
    tables: &WorkspaceTables,
    row: &InstallationRow,
    shows_words: bool,
) -> Option<UncomputedBody> {
    let found = app.kernel.uncomputed(tables.row.id, row.id).filter(|_| shows_words)?;
    let last_fault = UncomputedFaultBody { at: time(found.last_at), code: found.code, message: found.message };
    Some(UncomputedBody { people: found.people, since: time(found.since), last_fault })
}
