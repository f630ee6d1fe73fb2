//! When an installation of a tag model or a scorer is fitted without being asked, and which fits are put in use: what requests say
//! of it and answers show.

use std::collections::BTreeMap;

use kith_features::Duration;
use kith_model::plugin::Manifest;
use kith_model::time::{DAY_MS, Timestamp};
use kith_pipeline::Measure;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::{Value, json};
use utoipa::ToSchema;

use super::seen::WITHHELD_WORDS;
use crate::api::plugins::computes;
use crate::api::view::time;
use crate::app::App;
use crate::catalogue::{DriftBounds, FitBound, FitStatus, FitUse, FittingRow, InstallationRow, WorkspaceTables};
use crate::error::ApiError;
use crate::fitting::{self, schedule};

/// The shortest and the longest time between two fits of a schedule, in milliseconds.
const MIN_EVERY_MS: i64 = 3_600_000;
const MAX_EVERY_MS: i64 = 3_650 * DAY_MS;

/// As many figures may have bounds as a fit has figures.
const MAX_BOUNDS: usize = 64;

/// The longest name of a figure with a bound, in bytes.
const MAX_NAME: usize = 256;

/// When an installation is to be fitted, and which fits are to be put in use; absent stays.
#[derive(Debug, Default, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct WantedFitting {
    /// How long after the last fit began the next one does, e.g. `7d` or `12h`: from `1h` to `3650d`. With `null` somebody asks for
    /// each fit.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    every: Option<Option<String>>,
    /// Bounds on the figures (`metrics`) of a fit, by their names, e.g. `{"auc_test": {"min": 0.7}}`: a fit that breaks one, or has
    /// no such figure, is held and not put in use. `max_change` bounds how far a figure may be from that of the fit in use. With
    /// `null` a figure has no bounds.
    #[serde(default)]
    #[schema(value_type = Object, required = false)]
    guard: BTreeMap<String, Option<FitBound>>,
    /// How far the inputs of a fit may be from those of the fit in use, e.g. `{"max_shift": 0.5, "max_absent_change": 0.1}`: the mean of
    /// each in standard deviations, and the share of people without it. A fit beyond one is held and not put in use. They take the
    /// place of the present ones; with `null` there are none.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<DriftBounds>)]
    drift: Option<Option<DriftBounds>>,
    /// Which fits are put in use: `always` every one that nothing holds, `better` those alone that are at least as good as the fit in
    /// use on the people who are held out, of a version with `[training]`; one that is not is held.
    #[serde(rename = "use", default)]
    uses: Option<FitUse>,
    /// The measure by which fits are compared: of labels that are true or false `auc`, the usual one, `brier` or `log_loss`; of
    /// numbers `rmse`, the usual one, `mae` or `rank_correlation`. With `null` the usual one.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<String>)]
    measure: Option<Option<Measure>>,
}

/// Tells a `null` from an absent field.
fn present<'de, T: Deserialize<'de>, D: Deserializer<'de>>(deserializer: D) -> Result<Option<T>, D::Error> {
    T::deserialize(deserializer).map(Some)
}

impl WantedFitting {
    /// What holds where this is asked for and `before` held.
    ///
    /// # Errors
    /// Where it is asked of a plugin that is not fitted, is no time between fits, or asks for a comparison of fits that cannot be
    /// compared.
    pub(super) fn on(&self, before: &FittingRow, manifest: &Manifest, now: Timestamp) -> Result<FittingRow, ApiError> {
        let mut row = before.clone();
        if let Some(every) = &self.every {
            let every_ms = every.as_deref().map(read_every).transpose()?;
            if every_ms != before.every_ms {
                (row.every_ms, row.since) = (every_ms, now);
            }
        }
        for (name, bound) in &self.guard {
            row.guard.remove(name);
            if let Some(bound) = bound {
                row.guard.insert(name.clone(), checked(name, *bound)?);
            }
        }
        if let Some(drift) = self.drift {
            row.drift = drift.map_or(Ok(DriftBounds::default()), checked_drift)?;
        }
        if row.guard.len() > MAX_BOUNDS {
            return Err(ApiError::at("fitting.guard", format!("at most {MAX_BOUNDS} figures have bounds")));
        }
        row.uses = self.uses.unwrap_or(row.uses);
        row.measure = self.measure.unwrap_or(row.measure);
        if row != *before && !computes(manifest.kind) {
            return Err(ApiError::at("fitting", format!("a {} is not fitted; leave it out", manifest.kind)));
        }
        insist_on_labels(&row, manifest)?;
        Ok(row)
    }
}

/// Nobody is held out of the fits of a version that learns without labels, so that they cannot be compared.
fn insist_on_labels(row: &FittingRow, manifest: &Manifest) -> Result<(), ApiError> {
    let place = match (row.uses, row.measure) {
        _ if manifest.training.is_some() => return Ok(()),
        (FitUse::Always, None) => return Ok(()),
        (FitUse::Better, _) => "fitting.use",
        (FitUse::Always, Some(_)) => "fitting.measure",
    };
    let message = format!(
        "{} {} has no `[training]` in its manifest, so that nobody is held out to compare fits by; say `\"use\": \"always\", \
         \"measure\": null`, with `guard` for bounds on its own figures, or take a version with labels",
        manifest.id, manifest.version
    );
    Err(ApiError::at(place, message))
}

/// A bound that some figure can meet and some cannot.
fn checked(name: &str, bound: FitBound) -> Result<FitBound, ApiError> {
    let FitBound { min, max, max_change } = bound;
    let message = match (min, max, max_change) {
        _ if name.is_empty() || name.len() > MAX_NAME => "is no name of a figure",
        (None, None, None) => "says nothing; give `min`, `max` or `max_change`, or `null` to take the bound out",
        (Some(min), Some(max), _) if min > max => "`min` is more than `max`",
        (_, _, Some(change)) if change < 0.0 => "`max_change` is less than 0",
        _ => return Ok(bound),
    };
    let shown: String = name.chars().take(64).collect();
    Err(ApiError::at(format!("fitting.guard.{shown}"), message))
}

/// Bounds on drift that say something.
fn checked_drift(bounds: DriftBounds) -> Result<DriftBounds, ApiError> {
    let DriftBounds { max_shift, max_absent_change } = bounds;
    let message = match (max_shift, max_absent_change) {
        (None, None) => "says nothing; give `max_shift` or `max_absent_change`, or `null` to take the bounds out",
        (Some(shift), _) if shift < 0.0 => "`max_shift` is less than 0",
        (_, Some(change)) if !(0.0..=1.0).contains(&change) => "`max_absent_change` is a share, from 0 to 1",
        _ => return Ok(bounds),
    };
    Err(ApiError::at("fitting.drift", message))
}

fn read_every(text: &str) -> Result<i64, ApiError> {
    match Duration::parse(text) {
        Some(Duration(length)) if (MIN_EVERY_MS..=MAX_EVERY_MS).contains(&length) => Ok(length),
        _ => {
            let shown: String = text.chars().take(32).collect();
            let message = format!("`{shown}` is no time between fits; write e.g. 7d or 12h, from 1h to 3650d");
            Err(ApiError::at("fitting.every", message))
        }
    }
}

/// When an installation is fitted without being asked, and which fits are put in use.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FittingBody {
    /// Whether its manifest tells that it learns: from labels (`[training]`) or into a state of a form (`state_version`). Such a
    /// one with no `fit` waits for its first.
    learns: bool,
    /// How long after the last fit began the next one does; `null` where somebody asks for each.
    every: Option<String>,
    /// When the next one begins, at the earliest; `null` without a schedule, and while the installation is asked for nothing.
    next_at: Option<String>,
    /// How many fits have failed since the last that did not. Each has the next one of the schedule begin after ten minutes, after
    /// twice as long and so on.
    failed_in_a_row: u32,
    /// Bounds on the figures of a fit, by their names, within which it is put in use.
    guard: BTreeMap<String, FitBound>,
    /// The names in `guard` that no figure of a fit of the present version has had: every fit breaks their bounds.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    unreported: Vec<String>,
    /// How far the inputs of a fit may be from those of the fit in use; `null` without a bound.
    drift: Option<DriftBounds>,
    /// Which fits are put in use, of those within the bounds.
    #[serde(rename = "use")]
    uses: FitUse,
    /// The measure by which fits are compared; `null` for the usual one of the label.
    #[schema(value_type = Option<String>)]
    measure: Option<Measure>,
    /// Whether somebody chose the fit in use in the place of a newer one, so that no later one takes its place by itself.
    chosen: bool,
    /// The newest fit that ended, where it is held or failed.
    alarm: Option<FitAlarmBody>,
}

/// A fit that somebody has to look at.
#[derive(Debug, Serialize, ToSchema)]
pub(crate) struct FitAlarmBody {
    /// Its `version`.
    fit: u32,
    /// `held` or `failed`.
    status: FitStatus,
    why: String,
}

pub(super) fn fitting_body(
    app: &App,
    tables: &WorkspaceTables,
    row: &InstallationRow,
    shows_words: bool,
) -> Option<FittingBody> {
    let manifest = &tables.plugin_of(row).filter(|plugin| computes(plugin.manifest.kind))?.manifest;
    Some(FittingBody {
        learns: manifest.training.is_some() || manifest.state_version.is_some(),
        every: row.fitting.every_ms.map(|every| Duration(every).to_string()),
        next_at: schedule::next_at(app, tables, row, app.clock.now()).map(time),
        failed_in_a_row: schedule::failed_in_a_row(tables, row),
        guard: row.fitting.guard.clone(),
        unreported: fitting::unreported(tables, row),
        drift: drift_of(&row.fitting),
        uses: row.fitting.uses,
        measure: row.fitting.measure,
        chosen: row.fit_is_chosen,
        alarm: fitting::alarm(tables, row).map(|fit| FitAlarmBody {
            fit: fit.version,
            status: fit.status,
            why: fit.error.clone().filter(|_| shows_words).unwrap_or_else(|| WITHHELD_WORDS.to_owned()),
        }),
    })
}

/// What people edit of it, as changes and the audit log show it.
pub(super) fn rules(row: &FittingRow) -> Value {
    let every = row.every_ms.map(|every| Duration(every).to_string());
    json!({ "every": every, "guard": row.guard, "drift": drift_of(row), "use": row.uses, "measure": row.measure })
}

fn drift_of(row: &FittingRow) -> Option<DriftBounds> {
    Some(row.drift).filter(|drift| *drift != DriftBounds::default())
}

/// Which form of a fitted state an installation has, and which the version that is installed reads.
#[derive(Debug, PartialEq, Eq, Serialize, ToSchema)]
pub(crate) struct StateVersionBody {
    /// Of the fit in use; `null` without one, or where the version that made it declared none.
    has: Option<u32>,
    /// `null` where the version declares none.
    needs: Option<u32>,
}

/// The forms of the state of a tag model or a scorer.
pub(super) fn state_version(tables: &WorkspaceTables, row: &InstallationRow) -> Option<StateVersionBody> {
    let plugin = tables.plugin_of(row).filter(|plugin| computes(plugin.manifest.kind))?;
    let fit = row.fit.and_then(|fit| tables.fits.get(&(row.id, fit)));
    Some(StateVersionBody { has: fit.and_then(|fit| fit.state_version), needs: plugin.manifest.state_version })
}

#[cfg(test)]
mod tests {
    use kith_model::plugin::{PluginKind, Training};

    use super::*;
    use crate::api::tests::installations::plugin_row;

    /// What held of the version before cannot hold of one without labels.
    #[test]
    fn fits_of_a_version_without_labels_are_not_compared() {
        let mut manifest = plugin_row("level", PluginKind::TagModel).manifest;
        let before = FittingRow { uses: FitUse::Better, ..FittingRow::default() };
        let upgraded = |manifest: &Manifest, wanted: WantedFitting| wanted.on(&before, manifest, Timestamp(0));
        let refused = upgraded(&manifest, WantedFitting::default()).unwrap_err();
        assert!(format!("{refused:?}").contains("fitting.use"), "{refused:?}");
        let always = WantedFitting { uses: Some(FitUse::Always), ..WantedFitting::default() };
        assert_eq!(upgraded(&manifest, always).unwrap(), FittingRow::default());
        manifest.training = Some(Training {
            label: "true".to_owned(),
            horizon_ms: 1,
            every_ms: 1,
            cut_offs: 1,
            predicts: "level".to_owned(),
            timeless: Vec::new(),
        });
        assert_eq!(upgraded(&manifest, WantedFitting::default()).unwrap(), before);
    }
}
