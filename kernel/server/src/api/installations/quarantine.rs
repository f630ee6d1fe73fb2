//! What becomes of a quarantine where an installation is given other bytes: what the ones before were stopped for says nothing of
//! these, and what was stopped for its own faults is stopped on the way back to it.

use kith_model::plugin::InstallationMode;
use kith_pipeline::ENDPOINT_GONE;
use serde_json::json;

use crate::catalogue::{CatalogueError, Draft, InstallationRow, PluginRow};

/// Give a row the mode that it has with other bytes. One that was switched off, or whose receiver is gone, keeps its own.
pub(super) fn follow(
    draft: &mut Draft<'_>,
    row: &mut InstallationRow,
    present: Option<&PluginRow>,
    next: &PluginRow,
) -> Result<(), CatalogueError> {
    if present.is_some_and(|present| present.digest == next.digest) {
        return Ok(());
    }
    let before = row.clone();
    let is_of_the_bytes = !row.mode_reason.as_deref().is_some_and(|reason| reason.starts_with(ENDPOINT_GONE));
    if row.mode == InstallationMode::Quarantined && is_of_the_bytes {
        (row.mode, row.mode_since) = (InstallationMode::Live, draft.now());
        let reason = row.mode_reason.take().unwrap_or_default();
        row.left_quarantined.extend(present.map(|present| (present.digest.clone(), reason)));
    }
    // Of bytes that are here no more nobody can go back to any.
    let here = |digest: &String| draft.tables().versions(&row.plugin).any(|version| version.digest == *digest);
    row.left_quarantined.retain(|digest, _| here(digest));
    if row.mode == InstallationMode::Live
        && let Some(reason) = row.left_quarantined.remove(&next.digest)
    {
        (row.mode, row.mode_reason, row.mode_since) = (InstallationMode::Quarantined, Some(reason), draft.now());
    }
    let action = match (before.mode, row.mode) {
        (InstallationMode::Quarantined, InstallationMode::Live) => "installation.recover",
        (_, InstallationMode::Quarantined) if before.mode_reason != row.mode_reason => "installation.quarantine",
        _ => return Ok(()),
    };
    let id = &next.manifest.id;
    let with = json!({ "plugin": id, "version": next.manifest.version, "digest": next.digest });
    let was = json!({ "mode": before.mode, "reason": before.mode_reason });
    let is = json!({ "mode": row.mode, "reason": row.mode_reason, "with": with });
    draft.audit(action, &row.name, Some(was), Some(is))
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::PluginKind;
    use kith_model::time::Timestamp;

    use super::*;
    use crate::api::tests::installations::plugin_row;
    use crate::api::tests::{FIRST, installation_row};
    use crate::catalogue::Actor;
    use crate::serve::tests::server;

    fn version(number: u64, digest: &str) -> PluginRow {
        let mut plugin = PluginRow { digest: digest.to_owned(), ..plugin_row("level", PluginKind::TagModel) };
        plugin.manifest.version = semver::Version::new(number, 0, 0);
        plugin
    }

    /// A version that was upgraded away from its faults was stopped for those of the one before.
    #[tokio::test(flavor = "multi_thread")]
    async fn other_bytes_are_not_stopped_for_what_those_before_did_until_somebody_goes_back() {
        let server = server();
        let mut change = server.app().catalogue.begin(FIRST, Actor::kernel()).unwrap();
        let [one, two] = [version(1, "one"), version(2, "two")];
        change.put_plugin(one.clone());
        change.put_plugin(two.clone());
        let faults = "3 faults over different data, the last: trap: boom";
        let stopped = |mode, reason: &str| InstallationRow {
            mode,
            mode_reason: Some(reason.to_owned()),
            mode_since: Timestamp(5),
            ..installation_row(901, "level")
        };
        let mut row = stopped(InstallationMode::Quarantined, faults);
        let is = |row: &InstallationRow| (row.mode, row.mode_reason.clone());
        follow(&mut change, &mut row, Some(&one), &one).unwrap();
        assert_eq!((is(&row).0, row.mode_since), (InstallationMode::Quarantined, Timestamp(5)), "the same bytes");
        follow(&mut change, &mut row, Some(&one), &two).unwrap();
        assert_eq!(is(&row), (InstallationMode::Live, None));
        assert_ne!(row.mode_since, Timestamp(5));
        follow(&mut change, &mut row, Some(&two), &one).unwrap();
        assert_eq!(is(&row), (InstallationMode::Quarantined, Some(faults.to_owned())), "it is as it was");
        assert!(row.left_quarantined.is_empty());
        follow(&mut change, &mut row, Some(&one), &two).unwrap();
        // Other bytes of that version are not those.
        change.put_plugin(version(1, "mended"));
        follow(&mut change, &mut row, Some(&two), &version(1, "mended")).unwrap();
        assert_eq!(is(&row), (InstallationMode::Live, None));
        assert!(row.left_quarantined.is_empty(), "what nobody can go back to is forgotten");

        let gone = format!("{ENDPOINT_GONE}: 410");
        for (mode, reason) in [(InstallationMode::Quarantined, gone.as_str()), (InstallationMode::Disabled, "x")] {
            let mut row = stopped(mode, reason);
            follow(&mut change, &mut row, Some(&one), &two).unwrap();
            assert_eq!(is(&row), (mode, Some(reason.to_owned())), "no version is to blame");
        }
    }
}
