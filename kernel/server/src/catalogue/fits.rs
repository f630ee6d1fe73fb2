//! What is kept of fits: the rules of an installation's, and each of them with how it compares.

use std::collections::BTreeMap;

use kith_model::id::InstallationId;
use kith_model::time::Timestamp;
use kith_pipeline::Measure;
use serde::{Deserialize, Serialize};

/// When an installation of a tag model or a scorer is fitted without being asked, and which fits are put in use.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
pub struct FittingRow {
    /// How long after the last fit began the next is due, in milliseconds; `None` where somebody asks for each.
    pub every_ms: Option<i64>,
    /// When that was said, from which the first is counted where there was none.
    pub since: Timestamp,
    /// Bounds on the figures of a fit, by their names, within which it is put in use.
    #[serde(default)]
    pub guard: BTreeMap<String, FitBound>,
    /// How far the inputs may move from those of the fit in use. Installations of before version 5 had no such bounds.
    #[serde(default)]
    pub drift: DriftBounds,
    /// Which fits are put in use. Of those of before version 5 all that went well.
    #[serde(default)]
    pub uses: FitUse,
    /// The measure by which fits are compared; `None` for the usual one of the label.
    #[serde(default)]
    pub measure: Option<Measure>,
}

/// Which fits are put in use, of those that nothing holds.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FitUse {
    #[default]
    Always,
    /// Those that are at least as good as the one in use on what is held out.
    Better,
}

/// How far what a fit reads of an input may be from what the fit in use read.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DriftBounds {
    /// How far its mean, in standard deviations.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_shift: Option<f64>,
    /// How far the share of people without it, from 0 to 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_absent_change: Option<f64>,
}

/// What a figure of a fit may be.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(deny_unknown_fields)]
pub struct FitBound {
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub min: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max: Option<f64>,
    /// How far it may be from that of the fit in use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_change: Option<f64>,
}

/// How a fit stands.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FitStatus {
    Running,
    Succeeded,
    /// It went well, and is kept and not put in use because it breaks a bound or is not as good as the one in use.
    Held,
    Failed,
}

/// Why a fit was begun.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize, utoipa::ToSchema)]
#[serde(rename_all = "snake_case")]
pub enum FitCause {
    /// Somebody asked for it.
    #[default]
    Asked,
    /// It was due.
    Scheduled,
}

/// What a fit read of one input.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct FitInputRow {
    pub name: String,
    /// How many people had a value, and how many had none.
    pub present: u64,
    pub absent: u64,
    /// Of numbers, and of truth values with 1 for what is true. Version 2 of a fit knew numbers alone, and had 0 where nobody had one.
    pub mean: Option<f64>,
    /// The standard deviation of the same values; version 2 of a fit kept none.
    #[serde(default)]
    pub deviation: Option<f64>,
}

/// One fit of an installation; its state, if it succeeded, is a row of its own.
#[derive(Debug, Clone, Serialize, Deserialize)]
pub struct FitRow {
    pub installation: InstallationId,
    /// From 1.
    pub version: u32,
    pub status: FitStatus,
    /// Version 1 knew no other than those that were asked for.
    #[serde(default)]
    pub cause: FitCause,
    pub plugin_version: semver::Version,
    pub digest: String,
    /// The version that the plugin declared for the form of its state.
    pub state_version: Option<u32>,
    pub started_at: Timestamp,
    pub finished_at: Option<Timestamp>,
    /// How many people it read. Version 1 did not keep it.
    #[serde(default)]
    pub rows: Option<u64>,
    /// What it read of each input, of one that went well.
    #[serde(default)]
    pub inputs: Vec<FitInputRow>,
    pub metrics: Vec<(String, f64)>,
    pub state_bytes: u64,
    pub error: Option<String>,
    /// How it and the fit in use compare, of a model with labels. Versions before 3 compared none.
    #[serde(default)]
    pub held_out: Option<HeldOutRow>,
}

/// How a fit and the one that was in use compare, on people from whom no fit learns.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct HeldOutRow {
    /// Rows that both are measured by, of those that were drawn, of all.
    pub rows: u64,
    pub drawn: u64,
    pub of: u64,
    /// The measure by which they are compared.
    pub measure: Measure,
    /// The fit itself.
    pub challenger: JudgedRow,
    pub champion: Option<ChampionRow>,
}

/// The fit that was in use.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ChampionRow {
    pub fit: u32,
    pub judged: JudgedRow,
}

/// How good a fit is.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct JudgedRow {
    pub measures: BTreeMap<Measure, f64>,
    /// Rows of those that were drawn for which it has no answer.
    pub unanswered: u64,
    /// Why it was not asked, or no more.
    pub problem: Option<String>,
}

#[cfg(test)]
mod tests {
    use kith_store::row::{decode, encode};

    use super::*;
    use crate::catalogue::InstallationRow;

    /// Of a fit of version 2 every input is a number, with 0 for the mean where nobody had one.
    #[test]
    fn fits_of_before_deviations_and_rules_of_before_drift_read() {
        let input = serde_json::json!({ "name": "orders", "present": 3, "absent": 1, "mean": 12.5 });
        let mut row = serde_json::to_value(crate::fitting::tests::succeeded(2, "1.0.0", Some(1))).unwrap();
        row["inputs"] = serde_json::json!([input]);
        let read: FitRow = decode(&[&[2][..], row.to_string().as_bytes()].concat()).unwrap();
        assert_eq!((read.inputs[0].mean, read.inputs[0].deviation, read.held_out), (Some(12.5), None, None));
        let mut row = serde_json::to_value(crate::api::tests::installation_row(3, "level")).unwrap();
        row["fitting"] = serde_json::json!({ "every_ms": 3_600_000, "since": 1, "guard": { "auc": { "min": 0.7 } } });
        let read: InstallationRow = decode(&[&[4][..], row.to_string().as_bytes()].concat()).unwrap();
        assert_eq!((read.fitting.every_ms, read.fitting.drift), (Some(3_600_000), DriftBounds::default()));
        assert_eq!((read.fitting.uses, read.fitting.measure), (FitUse::Always, None));
    }

    #[test]
    fn a_comparison_reads_back() {
        let judged =
            |figure| JudgedRow { measures: BTreeMap::from([(Measure::LogLoss, figure)]), unanswered: 1, problem: None };
        let champion = Some(ChampionRow { fit: 1, judged: judged(0.5) });
        let measure = Measure::LogLoss;
        let held_out = HeldOutRow { rows: 4, drawn: 5, of: 6, measure, challenger: judged(0.25), champion };
        let mut row = crate::fitting::tests::succeeded(2, "1.0.0", Some(1));
        row.held_out = Some(held_out.clone());
        assert_eq!(decode::<FitRow>(&encode(&row)).unwrap().held_out, Some(held_out));
    }
}
