//! Other bytes of a dev version for the installations that run it: the checks of an upgrade, without another version. As an upgrade
//! they end what runs beside it; a version that itself runs beside a live one gets none.

use std::cell::RefCell;
use std::collections::BTreeMap;
use std::sync::Arc;

use kith_model::id::InstallationId;
use kith_pipeline::Patience;
use serde_json::json;

use super::body::public;
use super::edit::{CheckedConfig, WantedConfig, check_complete, check_sensitive, check_sight};
use super::quarantine;
use super::versions::{WantedVersion, check_filled_in, check_upgrade};
use crate::app::App;
use crate::auth::Caller;
use crate::catalogue::draft::unshown::unshown_places;
use crate::catalogue::{CatalogueError, Draft, InstallationRow, PluginRow, WorkspaceTables};
use crate::error::ApiError;
use crate::fitting;

/// Other bytes of a dev version that came.
pub(crate) struct NewBytes<'a> {
    app: &'a App,
    patience: &'a Patience,
    /// Whether they may ask for more than the present ones.
    consents: bool,
    /// Who gives them.
    caller: &'a Caller,
    /// What the rehearsal found of each installation's configuration.
    checked: RefCell<BTreeMap<InstallationId, CheckedConfig<'a>>>,
}

impl<'a> NewBytes<'a> {
    pub(crate) fn new(app: &'a App, patience: &'a Patience, consents: bool, caller: &'a Caller) -> NewBytes<'a> {
        NewBytes { app, patience, consents, caller, checked: RefCell::default() }
    }

    /// Give them to every installation that runs the version; the names of these.
    ///
    /// # Errors
    /// Why one of them cannot run them as it is, or is not allowed to.
    pub(crate) fn give(
        &self,
        draft: &mut Draft<'_>,
        before: &PluginRow,
        next: &PluginRow,
    ) -> Result<Vec<String>, ApiError> {
        check_served(draft.tables(), before)?;
        check_no_shadow(draft.tables(), before)?;
        let (id, version) = (&next.manifest.id, &next.manifest.version);
        let runs = |row: &&Arc<InstallationRow>| row.plugin == *id && row.version == *version;
        let running: Vec<InstallationRow> =
            draft.tables().installed().filter(runs).map(|row| row.as_ref().clone()).collect();
        // Who runs nothing of it is given nothing more.
        if !running.is_empty() {
            check_upgrade(Some(before), next, &WantedVersion::of_dev(self.consents)).map_err(of_upload)?;
        }
        for present in &running {
            let row = self.upgraded(draft, present, (before, next)).map_err(|error| of_installation(present, error))?;
            let bytes = |plugin: &PluginRow| Some(json!({ "version": version, "digest": plugin.digest }));
            draft.audit("installation.replace", &row.name, bytes(before), bytes(next))?;
            if present.shadow.is_some() {
                draft.audit("installation.shadow", &row.name, Some(public(present)), Some(public(&row)))?;
            }
            draft.put_installation(row);
        }
        Ok(running.iter().map(|row| row.name.to_string()).collect())
    }

    /// An installation as it is with the new bytes.
    fn upgraded(
        &self,
        draft: &mut Draft<'_>,
        present: &InstallationRow,
        (before, next): (&PluginRow, &PluginRow),
    ) -> Result<InstallationRow, ApiError> {
        let mut row = InstallationRow { shadow: None, ..present.clone() };
        fitting::choose_fit(draft, present, &mut row, &next.manifest)?;
        quarantine::follow(draft, &mut row, Some(before), next)?;
        let whole = draft.whole_config(present).map_err(CatalogueError::from)?;
        let config = self.check(draft, present, next, WantedConfig::Written(Some(whole)))?;
        draft.put_config(&mut row, config, &next.manifest)?;
        check_filled_in((Some(before), &[&present.config]), (next, &row.config), self.consents).map_err(of_upload)?;
        check_sensitive(draft, &row, next)?;
        check_sight(draft, &row, next, self.caller)?;
        check_complete(&next.manifest, row.mode, &draft.tables().secret_names(row.id).into_iter().collect())?;
        row.updated_at = draft.now();
        Ok(row)
    }

    fn check(
        &self,
        draft: &Draft<'_>,
        present: &InstallationRow,
        next: &PluginRow,
        wanted: WantedConfig,
    ) -> Result<serde_json::Value, ApiError> {
        let mut checked = self.checked.borrow_mut();
        let own = checked
            .entry(present.id)
            .or_insert_with(|| CheckedConfig::of(self.app, self.patience, present.name.as_str()));
        own.check(draft, next, wanted, &unshown_places(present, &next.manifest))
    }
}

/// An installation of another version that waits for a fit serves values under the names that these bytes gave them.
fn check_served(tables: &WorkspaceTables, before: &PluginRow) -> Result<(), ApiError> {
    let (id, version) = (&before.manifest.id, &before.manifest.version);
    let serves = |row: &InstallationRow| {
        let serves = row.waits_for_fit.as_ref().map(|waits| &waits.serves);
        row.plugin == *id && row.version != *version && serves == Some(version)
    };
    match tables.installed().find(|row| serves(row)) {
        None => Ok(()),
        Some(row) => {
            let message = format!("`{}` still serves what {id} {version} wrote; fit or remove it first", row.name);
            Err(ApiError::Conflict { code: "in-use", message })
        }
    }
}

/// A version that runs beside a live one, or is tried over what is stored, was compared as it was: other bytes have checks of their own, which whoever uploads them
/// does not ask for.
fn check_no_shadow(tables: &WorkspaceTables, before: &PluginRow) -> Result<(), ApiError> {
    let (id, version) = (&before.manifest.id, &before.manifest.version);
    let is_shadow = |row: &InstallationRow| {
        row.plugin == *id && row.shadow.as_ref().is_some_and(|shadow| shadow.version == *version)
    };
    let is_tried = |row: &InstallationRow| {
        row.plugin == *id && row.backtest.as_ref().is_some_and(|backtest| backtest.version == *version)
    };
    let message = if let Some(row) = tables.installed().find(|row| is_shadow(row)) {
        format!("{id} {version} runs beside the live version of `{}`; end that first", row.name)
    } else if let Some(row) = tables.installed().find(|row| is_tried(row)) {
        format!("{id} {version} is or was tried over what is stored by `{}`; forget that backtest first", row.name)
    } else {
        return Ok(());
    };
    Err(ApiError::Conflict { code: "in-use", message })
}

/// A refusal that says whose it is: whoever uploads names no installation.
fn of_installation(row: &InstallationRow, error: ApiError) -> ApiError {
    let told = |message: String| format!("`{}` cannot run these bytes: {message}", row.name);
    match error {
        // What a configuration is held against are the bytes that run, so that it cannot be changed beforehand.
        ApiError::BadInput { code: code @ "bad-config", message, mistakes } => {
            let message = format!("{}; give the installation a release, or remove it", told(message));
            ApiError::BadInput { code, message, mistakes }
        }
        ApiError::BadInput { code, message, mistakes } => ApiError::BadInput { code, message: told(message), mistakes },
        ApiError::Conflict { code, message } => ApiError::Conflict { code, message: told(message) },
        other => other,
    }
}

/// A refusal in the words of an upload.
fn of_upload(error: ApiError) -> ApiError {
    match error {
        ApiError::Conflict { code: code @ "consent-required", message } => {
            let message = message.replace("send `consent: true`", "upload it with `?consent=true`");
            ApiError::Conflict { code, message }
        }
        other => other,
    }
}
