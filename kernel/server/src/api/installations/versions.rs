//! Which version of a plugin an installation gets: that it is there, is the one that was meant and is offered, may be trusted, is
//! no way back that nobody asked for, and asks for no more than was agreed to.

use std::collections::BTreeSet;
use std::sync::Arc;

use kith_model::id::InstallationName;
use kith_model::plugin::{InputSpec, Manifest, PluginId, is_dev};
use serde_json::{Value, json};

use super::wanted::{NewInstallation, PatchInstallation};
use super::widening::{to_see, widened, with_reason};
use crate::api::plugins::{insist_on_offered, offered};
use crate::api::signatures::insist_on_trust;
use crate::api::words::nearest;
use crate::app::App;
use crate::catalogue::{Draft, InstallationRow, PluginRow, WorkspaceTables};
use crate::error::ApiError;
use crate::wiring::substitute;

/// What a request says of the version.
pub(super) struct WantedVersion<'a> {
    /// The newest where it does not say.
    version: Option<&'a str>,
    digest: Option<&'a str>,
    allows_downgrade: bool,
    /// Whether it may ask for more than the present one.
    consents: bool,
}

impl WantedVersion<'_> {
    /// The same version with other bytes.
    pub(super) fn of_dev(consents: bool) -> WantedVersion<'static> {
        WantedVersion { version: None, digest: None, allows_downgrade: false, consents }
    }
}

impl<'a> From<&'a NewInstallation> for WantedVersion<'a> {
    fn from(wanted: &'a NewInstallation) -> WantedVersion<'a> {
        let (version, digest) = (wanted.version.as_deref(), wanted.digest.as_deref());
        WantedVersion { version, digest, allows_downgrade: wanted.allow_downgrade, consents: true }
    }
}

impl<'a> From<&'a PatchInstallation> for WantedVersion<'a> {
    fn from(patch: &'a PatchInstallation) -> WantedVersion<'a> {
        let (version, digest) = (patch.version.as_deref(), patch.digest.as_deref());
        WantedVersion { version, digest, allows_downgrade: patch.allow_downgrade, consents: patch.consent }
    }
}

/// The version of a new installation.
pub(super) fn first_version(
    app: &App,
    tables: &WorkspaceTables,
    plugin: &PluginId,
    wanted: &WantedVersion<'_>,
) -> Result<Arc<PluginRow>, ApiError> {
    let version = pick_version(tables, plugin, wanted.version)?;
    check_digest(&version, wanted.digest)?;
    insist_on_offered(tables, &version)?;
    insist_on_trust(app, tables, &version)?;
    check_way_back(tables, &version, None, wanted)?;
    Ok(version)
}

/// The version that an installation is to have in place of the present one, which is noted as installed. The present one itself is
/// nothing new, and is taken whatever became of who signed it.
pub(super) fn next_version(
    app: &App,
    draft: &mut Draft<'_>,
    before: &InstallationRow,
    present: Option<&PluginRow>,
    wanted: &WantedVersion<'_>,
) -> Result<Arc<PluginRow>, ApiError> {
    let next = pick_version(draft.tables(), &before.plugin, wanted.version)?;
    // Who runs a yanked version may say so again.
    if next.manifest.version != before.version {
        insist_on_offered(draft.tables(), &next)?;
    }
    check_upgrade(present, &next, wanted)?;
    if next.manifest.version != before.version {
        insist_on_trust(app, draft.tables(), &next)?;
        check_way_back(draft.tables(), &next, Some(&before.version), wanted)?;
        note_installed(draft, &before.name, &next)?;
    }
    Ok(next)
}

/// The version asked for, or the one that is offered.
pub(super) fn pick_version(
    tables: &WorkspaceTables,
    plugin: &PluginId,
    wanted: Option<&str>,
) -> Result<Arc<PluginRow>, ApiError> {
    let Some(wanted) = wanted else {
        let release = || tables.versions(plugin).rfind(|row| !is_dev(&row.manifest.version));
        let newest = offered(tables, plugin).or_else(release);
        return newest.cloned().ok_or_else(|| match tables.versions(plugin).next_back() {
            None => ApiError::at("plugin", format!("no plugin `{plugin}` was uploaded{}", meant(tables, plugin))),
            Some(dev) => {
                let version = &dev.manifest.version;
                ApiError::at("version", format!("of {plugin} there are dev versions alone; name one, e.g. `{version}`"))
            }
        });
    };
    let version: semver::Version =
        wanted.parse().map_err(|error: semver::Error| ApiError::at("version", error.to_string()))?;
    let found = tables.plugins.get(&(plugin.clone(), version));
    found.cloned().ok_or_else(|| ApiError::at("version", format!("{plugin} {wanted} was not uploaded")))
}

/// Which plugin of the workspace somebody meant who wrote another one; nothing where none is near.
fn meant(tables: &WorkspaceTables, plugin: &PluginId) -> String {
    let written = plugin.to_string();
    let known: BTreeSet<String> = tables.plugins.keys().map(|(id, _)| id.to_string()).collect();
    match nearest(&written, &Vec::from_iter(known)) {
        Some(near) => format!("; did you mean `{near}`?"),
        None => String::new(),
    }
}

/// Insist that a version is the one whose digest was given, as `sha256:HEX` or its digits alone.
pub(super) fn check_digest(version: &PluginRow, wanted: Option<&str>) -> Result<(), ApiError> {
    let Some(wanted) = wanted else { return Ok(()) };
    let digits = wanted.strip_prefix("sha256:").unwrap_or(wanted);
    if digits.len() != 64 || !digits.bytes().all(|digit| digit.is_ascii_hexdigit()) {
        return Err(ApiError::at("digest", "is none; write `sha256:` and its 64 hexadecimal digits"));
    }
    if digits.eq_ignore_ascii_case(&version.digest) {
        return Ok(());
    }
    let (id, number, digest) = (&version.manifest.id, &version.manifest.version, &version.digest);
    let message = format!("{id} {number} has the digest sha256:{digest}, not the one that was asked for");
    Err(ApiError::Conflict { code: "other-digest", message })
}

/// What an older version did wrong it would do again: the way back below the highest version that the workspace ever installed is
/// one that somebody asks for, and so is that below the `present` version, which may be one of the dev channel.
fn check_way_back(
    tables: &WorkspaceTables,
    version: &PluginRow,
    present: Option<&semver::Version>,
    wanted: &WantedVersion<'_>,
) -> Result<(), ApiError> {
    let (id, number) = (&version.manifest.id, &version.manifest.version);
    match tables.highest_version(id).max(present).filter(|highest| number < *highest) {
        Some(highest) if !wanted.allows_downgrade => {
            let became = match tables.plugins.get(&(id.clone(), highest.clone())) {
                None => " and is deleted".to_owned(),
                Some(row) => {
                    row.yanked.as_ref().map(|yank| format!(" and was yanked: {}", yank.reason)).unwrap_or_default()
                }
            };
            let message = format!(
                "{id} {number} is older than {highest}, which was installed here already{became}; send `allow_downgrade: true` to \
                 go back"
            );
            Err(ApiError::Conflict { code: "downgrade", message })
        }
        _ => Ok(()),
    }
}

/// Note that a version is installed, and where that is a way back, that somebody asked for it.
pub(super) fn note_installed(
    draft: &mut Draft<'_>,
    installation: &InstallationName,
    version: &PluginRow,
) -> Result<(), ApiError> {
    let (id, number) = (&version.manifest.id, &version.manifest.version);
    if let Some(highest) = draft.tables().highest_version(id).filter(|highest| number < *highest).cloned() {
        let (before, after) = (json!({ "highest": highest }), json!({ "plugin": id, "version": number }));
        draft.audit("installation.downgrade", installation, Some(before), Some(after))?;
    }
    draft.note_installed(id, number);
    Ok(())
}

/// Insist that an installation may be given another version, or other bytes of the present one.
pub(super) fn check_upgrade(
    present: Option<&PluginRow>,
    next: &PluginRow,
    wanted: &WantedVersion<'_>,
) -> Result<(), ApiError> {
    let Some(present) = present else { return Ok(()) };
    if present.manifest.kind != next.manifest.kind {
        let message =
            format!("version {} is a {}, not a {}", next.manifest.version, next.manifest.kind, present.manifest.kind);
        return Err(ApiError::Conflict { code: "other-kind", message });
    }
    insist_on_consent(&next.manifest.version, &widened(&present.manifest, &next.manifest), wanted.consents)
}

/// Insist that another version, or other bytes, see with the configuration that they get no more than the present ones see: a plugin
/// that makes its own of the present one, or has other defaults, chooses what its inputs are filled in with. `shown` are the
/// configurations that somebody agreed to, which are the present one and the one that a change writes.
pub(super) fn check_filled_in(
    (present, shown): (Option<&PluginRow>, &[&Value]),
    (next, config): (&PluginRow, &Value),
    consents: bool,
) -> Result<(), ApiError> {
    let Some(present) = present else { return Ok(()) };
    let seen = shown.iter().flat_map(|config| filled_in(&present.manifest, config));
    let had: BTreeSet<String> = seen.map(|(expression, _)| expression).collect();
    let sees = filled_in(&next.manifest, config).filter(|(expression, _)| !had.contains(expression));
    let more: BTreeSet<String> = sees.map(|(expression, reason)| with_reason(to_see(&expression), reason)).collect();
    insist_on_consent(&next.manifest.version, &Vec::from_iter(more), consents)
}

/// What a version's inputs see with a configuration, each with its reason. One that cannot be filled in sees nothing.
fn filled_in<'a>(manifest: &'a Manifest, config: &Value) -> impl Iterator<Item = (String, &'a str)> {
    let seen =
        |input: &'a InputSpec| Some((substitute::config(&input.expression, config).ok()?, input.reason.as_str()));
    manifest.inputs.iter().filter_map(seen)
}

fn insist_on_consent(version: &semver::Version, more: &[String], consents: bool) -> Result<(), ApiError> {
    if more.is_empty() || consents {
        return Ok(());
    }
    let message = format!(
        "version {version} asks for more than the present one: {}; send `consent: true` to allow it",
        more.join(", ")
    );
    Err(ApiError::Conflict { code: "consent-required", message })
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::PluginKind;
    use kith_model::table::ColumnType;

    use super::*;
    use crate::api::tests::installations::plugin_row;

    #[test]
    fn a_pinned_digest_is_the_artifacts_or_refused() {
        let row = PluginRow { digest: "ab".repeat(32), ..plugin_row("level", PluginKind::TagModel) };
        let code = |digest: &str| match check_digest(&row, Some(digest)) {
            Ok(()) => "taken",
            Err(ApiError::Conflict { code, .. } | ApiError::BadInput { code, .. }) => code,
            Err(other) => panic!("{other:?}"),
        };
        assert!(check_digest(&row, None).is_ok());
        for (digest, expected) in [
            (format!("sha256:{}", "ab".repeat(32)), "taken"),
            ("AB".repeat(32), "taken"),
            (format!("sha256:{}", "ac".repeat(32)), "other-digest"),
            ("ab".repeat(31), "bad-input"),
            (format!("sha512:{}", "ab".repeat(32)), "bad-input"),
            ("zz".repeat(32), "bad-input"),
            (String::new(), "bad-input"),
        ] {
            assert_eq!(code(&digest), expected, "{digest}");
        }
    }

    #[test]
    fn what_an_input_is_filled_in_with_is_no_more_than_was_agreed_to() {
        let mut plugin = plugin_row("level", PluginKind::TagModel);
        plugin.manifest.inputs = vec![InputSpec {
            name: "field".to_owned(),
            expression: "traits.${config.field}".to_owned(),
            column_type: ColumnType::Text,
            reason: "People are told apart by it".to_owned(),
        }];
        let field = |name: &str| json!({ "field": name });
        let checked = |shown: &[&Value], config: Value, consents| match check_filled_in(
            (Some(&plugin), shown),
            (&plugin, &config),
            consents,
        ) {
            Ok(()) => None,
            Err(ApiError::Conflict { code: "consent-required", message }) => Some(message),
            Err(other) => panic!("{other:?}"),
        };
        let (city, income) = (field("city"), field("income"));
        assert_eq!(checked(&[&city], city.clone(), false), None);
        let message = checked(&[&city], income.clone(), false).unwrap();
        assert!(message.contains("to see `traits.income` (People are told apart by it);"), "{message}");
        assert_eq!(checked(&[&city], income.clone(), true), None);
        assert_eq!(checked(&[&city, &income], income.clone(), false), None, "somebody wrote it");
        // One that was not filled in saw nothing.
        assert!(checked(&[&json!({})], income, false).is_some());
        assert_eq!(checked(&[&city], json!({}), false), None);
    }
}
