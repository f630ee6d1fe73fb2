//! Customer lifetime value: BG/NBD and Gamma-Gamma, trained in the plugin by maximum likelihood.
//!
//! This file ties columns, configuration and stored state to the mathematics in the modules. What is an input and what is a score is
//! declared in `plugin.toml`; the README explains both.

mod bg_nbd;
#[cfg(test)]
mod cdnow;
mod gamma_gamma;
mod history;
mod optimize;
mod special;
mod training;

use kith_plugin_sdk::{Batch, Dataset, Failure, Fitted, Problem, Scorer, Table, config, export, log};
use serde::{Deserialize, Serialize};

use bg_nbd::BgNbd;
use gamma_gamma::GammaGamma;
use history::{History, Purchases, day_of, parse_day};
use training::{HeldOut, MIN_REPEAT_CUSTOMERS, Sample, Trained, Verification, train, verify};

/// The layout of [`Model`] as it is stored.
const MODEL_VERSION: u32 = 1;
/// Gamma-Gamma assumes that spend and frequency are independent; beyond this correlation the operator is told.
const NOTABLE_CORRELATION: f64 = 0.3;

/// The scorer.
struct Clv;

/// The configuration; `plugin.toml` has its schema, meaning and defaults. `order_event` and `amount_property` only shape the inputs.
#[derive(Debug, Deserialize)]
struct Settings {
    horizon_days: u32,
    time_unit_days: f64,
    calibration_end: Option<String>,
    holdout_days: u32,
}

impl Settings {
    /// What is wrong with the settings, each of which the schema admits.
    fn check(&self) -> Result<(), Vec<Problem>> {
        let mut problems = Vec::new();
        problems.extend(self.as_of(0).err().map(|failure| match failure {
            Failure::Permanent(words) => Problem::new("calibration_end", words),
            failure => Problem::new("calibration_end", failure.to_string()),
        }));
        if problems.is_empty() { Ok(()) } else { Err(problems) }
    }

    /// The day up to which orders count: the configured one, or the kernel's today.
    fn as_of(&self, now_ms: i64) -> Result<i64, Failure> {
        match &self.calibration_end {
            None => Ok(day_of(now_ms)),
            Some(date) => parse_day(date).ok_or_else(|| {
                Failure::permanent(format!("`calibration_end` is `{date}`, which is not a date; write YYYY-MM-DD"))
            }),
        }
    }
}

/// What `fit` learns: the parameters and the unit of time that they are in.
#[derive(Debug, PartialEq, Serialize, Deserialize)]
struct Model {
    version: u32,
    time_unit_days: f64,
    purchases: BgNbd,
    spend: Option<GammaGamma>,
}

impl Model {
    /// `None` before the first fit.
    fn load(state: &[u8]) -> Result<Option<Model>, Failure> {
        if state.is_empty() {
            return Ok(None);
        }
        let refit = |reason: String| Failure::unreadable_state(format!("{reason}; fit this installation again"));
        let model: Model = serde_json::from_slice(state)
            .map_err(|error| refit(format!("the fitted state is not one of this plugin: {error}")))?;
        if model.version == MODEL_VERSION {
            Ok(Some(model))
        } else {
            Err(refit(format!("the fitted state has version {}, this plugin reads {MODEL_VERSION}", model.version)))
        }
    }
}

impl Scorer for Clv {
    fn validate(config: &str) -> Result<(), Vec<Problem>> {
        let settings: Settings = config::read(config)?;
        settings.check()
    }

    fn fit(dataset: Dataset) -> Result<Fitted, Failure> {
        let settings: Settings = config::get()?;
        let (sample, held_out) = read_population(dataset, &settings)?;
        let trained = train(&sample).map_err(|error| Failure::permanent(error.to_string()))?;
        let mut metrics = describe(&trained);
        if settings.holdout_days > 0 {
            let horizon = f64::from(settings.holdout_days) / settings.time_unit_days;
            let verification = verify(&held_out, horizon)
                .map_err(|error| Failure::permanent(format!("on the history before the held-out days, {error}")))?;
            metrics.extend(describe_verification(&verification));
        }
        warn_of_weaknesses(&trained);
        let model = Model {
            version: MODEL_VERSION,
            time_unit_days: settings.time_unit_days,
            purchases: trained.purchases.model,
            spend: trained.spend.map(|spend| spend.model),
        };
        let state = serde_json::to_vec(&model)
            .map_err(|error| Failure::permanent(format!("the fitted parameters do not write as JSON: {error}")))?;
        Ok(Fitted { state, metrics })
    }

    fn score(state: &[u8], rows: &Table) -> Result<Table, Failure> {
        let settings: Settings = config::get()?;
        let model = Model::load(state)?;
        let time_unit_days = model.as_ref().map_or(settings.time_unit_days, |model| model.time_unit_days);
        let horizon = f64::from(settings.horizon_days) / time_unit_days;
        let (times, amounts, now) =
            (rows.timestamp_list("order_times")?, rows.float64_list("order_amounts")?, rows.timestamp("now")?);
        let mut scores: [Vec<Option<f64>>; 6] = core::array::from_fn(|_| Vec::with_capacity(rows.len()));
        for row in 0..rows.len() {
            let as_of = now.get(row).map(|now| settings.as_of(now)).transpose()?;
            let history = as_of.and_then(|as_of| {
                Purchases::new(times.get(row).unwrap_or_default(), amounts.get(row).unwrap_or_default())
                    .as_of(as_of, time_unit_days)
            });
            let values = history.map_or([None; 6], |history| score_one(model.as_ref(), &history, horizon));
            for (column, value) in scores.iter_mut().zip(values) {
                column.push(value);
            }
        }
        let names = ["clv_frequency", "clv_recency", "clv_t", "p_alive", "expected_purchases", "expected_value"];
        Ok(names
            .into_iter()
            .zip(scores)
            .fold(Table::new(rows.len()), |table, (name, values)| table.with_float64(name, values)))
    }
}

export!(Clv as scorer);

/// The six scores of one customer, in the order of the output's columns.
fn score_one(model: Option<&Model>, history: &History, horizon: f64) -> [Option<f64>; 6] {
    let finite = |value: f64| value.is_finite().then_some(value);
    let expected = model.and_then(|model| finite(model.purchases.expected_purchases(history, horizon)));
    let value_of_one = model.and_then(|model| {
        // A mean below zero comes of refunds, for which the Gamma distribution has no place.
        model.spend.as_ref()?.expected_value(history.frequency, history.mean_spend?.max(0.0))
    });
    [
        Some(history.frequency),
        Some(history.recency),
        Some(history.age),
        model.map(|model| model.purchases.p_alive(history)),
        expected,
        expected.zip(value_of_one).and_then(|(purchases, value)| finite(purchases * value)),
    ]
}

/// The customers of the data set as of the end of their history and, where some of it is held out, before that.
fn read_population(dataset: Dataset, settings: &Settings) -> Result<(Sample, HeldOut), Failure> {
    let holdout_days = i64::from(settings.holdout_days);
    let (mut sample, mut held_out) = (Sample::default(), HeldOut::default());
    for Batch { rows, .. } in dataset {
        let (times, amounts, now) =
            (rows.timestamp_list("order_times")?, rows.float64_list("order_amounts")?, rows.timestamp("now")?);
        for row in 0..rows.len() {
            let (Some(times), Some(now)) = (times.get(row), now.get(row)) else { continue };
            let purchases = Purchases::new(times, amounts.get(row).unwrap_or_default());
            let as_of = settings.as_of(now)?;
            if let Some(history) = purchases.as_of(as_of, settings.time_unit_days) {
                sample.add(&history);
            }
            if holdout_days > 0 {
                held_out.add(&purchases, as_of, holdout_days, settings.time_unit_days);
            }
        }
    }
    Ok((sample, held_out))
}

/// The figures of a fit. `v` is Gamma-Gamma's γ, as lifetimes names it.
fn describe(trained: &Trained) -> Vec<(String, f64)> {
    let BgNbd { r, alpha, a, b } = trained.purchases.model;
    let mut metrics = vec![
        ("r", r),
        ("alpha", alpha),
        ("a", a),
        ("b", b),
        ("log_likelihood", trained.purchases.log_likelihood),
        ("iterations", trained.purchases.iterations as f64),
        ("customers", trained.customers as f64),
        ("repeat_customers", trained.repeat_customers as f64),
        ("spend_customers", trained.spend_customers as f64),
    ];
    if let Some(spend) = &trained.spend {
        let GammaGamma { p, q, gamma } = spend.model;
        metrics.extend([("p", p), ("q", q), ("v", gamma), ("gamma_gamma_log_likelihood", spend.log_likelihood)]);
    }
    metrics.extend(trained.frequency_spend_correlation.map(|correlation| ("frequency_spend_correlation", correlation)));
    metrics.into_iter().map(|(name, value)| (name.to_owned(), value)).collect()
}

/// The figures of the check on held-out history.
fn describe_verification(verification: &Verification) -> Vec<(String, f64)> {
    let mut metrics = vec![
        ("holdout_customers".to_owned(), verification.customers as f64),
        ("holdout_predicted_purchases".to_owned(), verification.predicted),
        ("holdout_actual_purchases".to_owned(), verification.actual),
    ];
    metrics.extend(verification.correlation.map(|correlation| ("holdout_correlation".to_owned(), correlation)));
    metrics
}

/// Tell the operator where the result holds less than its figures suggest.
fn warn_of_weaknesses(trained: &Trained) {
    if trained.spend.is_none() {
        log::warn(format!(
            "{} repeat customers have known, positive amounts and {MIN_REPEAT_CUSTOMERS} are needed: `expected_value` stays empty; \
             check `amount_property`",
            trained.spend_customers
        ));
    }
    if let Some(correlation) = trained.frequency_spend_correlation.filter(|value| value.abs() > NOTABLE_CORRELATION) {
        log::warn(format!(
            "frequency and spend have a correlation of {correlation:.2}; Gamma-Gamma assumes that there is none, so `expected_value` \
             is off for frequent buyers"
        ));
    }
}

#[cfg(test)]
mod tests;
