//! What a change makes of an installation's configuration.

use kith_model::plugin::Grants;
use serde_json::Value;

use super::changes::merged;
use super::edit::{CheckedConfig, WantedConfig};
use super::versions::check_filled_in;
use super::wanted::PatchInstallation;
use crate::catalogue::draft::unshown::unshown_places;
use crate::catalogue::sealed::SealError;
use crate::catalogue::{CatalogueError, Draft, InstallationRow, PluginRow};
use crate::error::ApiError;

/// Put the configuration that a change comes to into the row; the places of what is another of what it does not show.
pub(super) fn configure(
    draft: &mut Draft<'_>,
    (before, row): (&InstallationRow, &mut InstallationRow),
    patch: &PatchInstallation,
    (present, version): (Option<&PluginRow>, &PluginRow),
    checked: &CheckedConfig<'_>,
) -> Result<Vec<String>, ApiError> {
    // Another version may have another schema, so that the present configuration is checked too.
    if patch.config.is_none() && patch.version.is_none() {
        return Ok(Vec::new());
    }
    let whole = present_config(draft, before, patch)?;
    let wanted = match &patch.config {
        Some(patch) => WantedConfig::Written(Some(merged(&whole, patch))),
        // A later version makes its own of it; an earlier one knows nothing of what came after it.
        None => WantedConfig::kept(&before.version, &row.version, whole),
    };
    let config = checked.check(draft, version, wanted, &unshown_places(before, &version.manifest))?;
    let nothing = Value::Object(serde_json::Map::new());
    let written = patch.config.as_ref().unwrap_or(&nothing);
    let unshown = draft.put_written_config(row, config, &version.manifest, written)?;
    if row.version != before.version {
        let written = patch.config.as_ref().map(|patch| merged(&before.config, patch));
        let shown: Vec<&Value> = std::iter::once(&before.config).chain(&written).collect();
        check_filled_in((present, &shown), (version, &row.config), patch.consent)?;
    }
    Ok(unshown)
}

/// The configuration as it is. Where a part of it does not open any more, who writes it anew goes on from the rest.
fn present_config(draft: &Draft<'_>, before: &InstallationRow, patch: &PatchInstallation) -> Result<Value, ApiError> {
    match draft.whole_config(before) {
        Ok(whole) => Ok(whole),
        Err(SealError::DoesNotOpen { .. }) if patch.config.is_some() => Ok(before.config.clone()),
        Err(error) => Err(CatalogueError::from(error).into()),
    }
}

/// Whether a change touches which hosts an installation names or may reach. One whose hosts wait for their grants can be changed
/// in every other way.
pub(super) fn names_other_hosts(before: &InstallationRow, row: &InstallationRow) -> bool {
    let reach = |of: &Grants| (of.http.clone(), of.mail.clone(), of.networks.clone(), of.secrets.clone());
    let configured = |row: &InstallationRow| (row.config.clone(), row.unshown.clone());
    configured(row) != configured(before) || reach(&row.grants) != reach(&before.grants)
}
