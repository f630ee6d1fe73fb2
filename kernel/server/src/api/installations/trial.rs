//! How an installation is given a version that it tries, beside its live one or over what is stored, and how that is taken away.

use kith_model::id::WorkspaceId;
use kith_pipeline::Patience;

use super::body::{public, tag};
use super::named;
use crate::api::etag::IfMatch;
use crate::app::App;
use crate::catalogue::{Actor, Draft, InstallationRow};
use crate::error::ApiError;

/// Which installation of whose is changed, and how the audit log calls that.
pub(super) struct Trial<'a> {
    pub workspace: WorkspaceId,
    pub actor: Actor,
    pub name: &'a str,
    pub if_match: &'a IfMatch,
    pub action: &'static str,
}

impl Trial<'_> {
    /// Make of the installation what `next` makes of it. Where that tries what it tried before, nothing is written.
    pub(super) fn change(
        self,
        app: &App,
        patience: &Patience,
        next: impl Fn(&mut Draft<'_>, &InstallationRow) -> Result<InstallationRow, ApiError>,
    ) -> Result<(), ApiError> {
        let Trial { workspace, actor, name, if_match, action } = self;
        app.change_after_loading(workspace, actor, patience, |draft| {
            let before = InstallationRow::clone(named(draft.tables(), name)?);
            if_match.check(&format!("installation `{name}`"), || tag(draft.tables(), &before))?;
            let row = next(draft, &before)?;
            if (&row.shadow, &row.backtest) != (&before.shadow, &before.backtest) {
                draft.audit(action, &row.name, Some(public(&before)), Some(public(&row)))?;
                draft.put_installation(row);
            }
            Ok(())
        })
    }
}
