//! What serves where the kernel stops a version for its faults: the one that ran until an upgrade put this one in its place.

use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::id::{InstallationId, WorkspaceId};
use kith_model::plugin::{InstallationMode, is_dev};
use kith_pipeline::{ENDPOINT_GONE, Patience};
use serde_json::json;

use super::edit::{check_complete, check_sensitive};
use crate::api::plugins::insist_on_offered;
use crate::api::signatures::insist_on_trust;
use crate::app::App;
use crate::catalogue::{Actor, Draft, FallbackRow, InstallationRow, PluginRow, WorkspaceTables};
use crate::error::ApiError;
use crate::fitting;

/// What `row`, as a change of `before` leaves it, falls back to. A way back was somebody's wish, so that nothing leads forward again;
/// nor is a configuration taken back that somebody gave to this version.
pub(super) fn kept(
    before: &InstallationRow,
    row: &InstallationRow,
    present: Option<&PluginRow>,
    next: &PluginRow,
) -> Option<FallbackRow> {
    let earlier = || before.falls_back_to.clone();
    // What is not shown of a configuration is kept once, as the version has it that is live.
    if row.unshown != before.unshown {
        return None;
    }
    let present = present?;
    if present.digest == next.digest {
        return earlier().filter(|_| row.config == before.config);
    }
    let (from, to) = (&present.manifest.version, &next.manifest.version);
    if to < from || is_dev(from) || is_dev(to) {
        return None;
    }
    if before.mode != InstallationMode::Live || before.waits_for_fit.is_some() {
        return earlier();
    }
    let (version, digest) = (from.clone(), present.digest.clone());
    Some(FallbackRow { version, digest, config: before.config.clone() })
}

/// Give an installation back to the version before the one of the digest `stopped`, which the kernel stopped for its faults. Whether
/// there is one that may serve.
///
/// # Errors
/// Why the version before may not be installed any more, or cannot run.
pub(crate) fn fall_back(
    app: &App,
    workspace: WorkspaceId,
    (installation, stopped): (InstallationId, &str),
    reason: &str,
) -> Result<bool, ApiError> {
    let tables = app.catalogue.workspace(workspace)?;
    let has_one = tables.installations.get(&installation).is_some_and(|row| row.falls_back_to.is_some());
    // No version is to blame for its receiver.
    if !has_one || reason.starts_with(ENDPOINT_GONE) {
        return Ok(false);
    }
    app.change_after_loading(workspace, Actor::kernel(), &Patience::default(), |draft| {
        put_back(app, draft, (installation, stopped), reason)
    })
}

fn put_back(
    app: &App,
    draft: &mut Draft<'_>,
    (installation, stopped): (InstallationId, &str),
    reason: &str,
) -> Result<bool, ApiError> {
    let present = draft.tables().installations.get(&installation).map(|row| InstallationRow::clone(row));
    let Some(present) = present.filter(|row| row.removed_at.is_none() && row.mode == InstallationMode::Live) else {
        return Ok(false);
    };
    // Where an admin was quicker, the kernel's word is about what is no more.
    if draft.tables().plugin_of(&present).is_none_or(|plugin| plugin.digest != stopped) {
        return Ok(false);
    }
    let Some(FallbackRow { version, digest, config }) = present.falls_back_to.clone() else { return Ok(false) };
    let next = draft.tables().plugins.get(&(present.plugin.clone(), version.clone())).cloned();
    let is_good = |next: &Arc<PluginRow>| next.digest == digest && !present.left_quarantined.contains_key(&digest);
    let Some(next) = next.filter(is_good) else { return Ok(false) };
    insist_on_offered(draft.tables(), &next)?;
    insist_on_trust(app, draft.tables(), &next)?;
    let mut row = InstallationRow { version, config, falls_back_to: None, shadow: None, ..present.clone() };
    fitting::choose_fit(draft, &present, &mut row, &next.manifest)?;
    if row.waits_for_fit.is_some() {
        return Ok(false);
    }
    check_sensitive(draft, &row, &next)?;
    check_complete(&next.manifest, row.mode, &draft.tables().secret_names(row.id).into_iter().collect())?;
    row.left_quarantined.insert(stopped.to_owned(), reason.to_owned());
    (row.mode_since, row.updated_at) = (draft.now(), draft.now());
    let was = json!({ "version": present.version, "digest": stopped, "reason": reason });
    let is = json!({ "version": row.version, "digest": digest });
    draft.audit("installation.fall-back", &row.name, Some(was), Some(is))?;
    draft.put_installation(row);
    Ok(true)
}

/// The versions that an installation was stopped with and does not run, each with why.
pub(super) fn stopped_versions(
    tables: &WorkspaceTables,
    row: &InstallationRow,
    words: impl Fn(&str) -> String,
) -> BTreeMap<String, String> {
    let versions = tables.versions(&row.plugin).map(|plugin| (&plugin.digest, plugin.manifest.version.to_string()));
    let stopped = versions.filter_map(|(digest, version)| Some((version, row.left_quarantined.get(digest)?)));
    stopped.map(|(version, why)| (version, words(why))).collect()
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::PluginKind;

    use super::*;
    use crate::api::tests::installation_row;
    use crate::api::tests::installations::plugin_row;

    fn version(text: &str) -> PluginRow {
        let mut plugin = PluginRow { digest: format!("digest of {text}"), ..plugin_row("level", PluginKind::TagModel) };
        plugin.manifest.version = text.parse().unwrap();
        plugin
    }

    #[test]
    fn what_ran_before_an_upgrade_is_kept_until_somebody_gives_the_new_one_something_of_its_own() {
        let [one, two, three, dev] = ["1.0.0", "2.0.0", "3.0.0", "4.0.0-dev"].map(version);
        let row = InstallationRow { config: json!({ "how": "well" }), ..installation_row(901, "level") };
        let after = |row: &InstallationRow, present: &PluginRow, next: &PluginRow| InstallationRow {
            falls_back_to: kept(row, row, Some(present), next),
            ..row.clone()
        };
        let back = |row: &InstallationRow| row.falls_back_to.as_ref().map(|back| back.version.to_string());
        let upgraded = after(&row, &one, &two);
        let expected =
            FallbackRow { version: "1.0.0".parse().unwrap(), digest: one.digest.clone(), config: row.config.clone() };
        assert_eq!(upgraded.falls_back_to, Some(expected));
        assert_eq!(back(&after(&upgraded, &two, &two)).as_deref(), Some("1.0.0"), "another change leaves it");
        assert_eq!(back(&after(&upgraded, &two, &three)).as_deref(), Some("2.0.0"));
        let stopped = InstallationRow { mode: InstallationMode::Quarantined, ..upgraded.clone() };
        assert_eq!(back(&after(&stopped, &two, &three)).as_deref(), Some("1.0.0"), "what was stopped serves nobody");
        assert_eq!(back(&after(&upgraded, &two, &one)), None, "who goes back does not want what came later");
        assert_eq!(back(&after(&upgraded, &two, &dev)), None);
        let configured = InstallationRow { config: json!({ "how": "other" }), ..upgraded.clone() };
        assert_eq!(kept(&upgraded, &configured, Some(&two), &two), None);
        let mut unshown = upgraded.clone();
        unshown.unshown.changes += 1;
        assert_eq!(kept(&upgraded, &unshown, Some(&two), &two), None);
        assert_eq!(kept(&row, &row, None, &two), None, "nothing is known of what ran");
    }
}
