//! Recency, frequency and monetary scores and a named segment.
//!
//! This file ties columns, configuration and stored state to `model` (breaks learnt from the population), `scoring` (conventions) and `segment`
//! (names). What is an input and what is a tag is declared in `plugin.toml`; the README explains both.

mod model;
mod scoring;
mod segment;

use kith_plugin_sdk::{Dataset, Failure, Fitted, Table, TagModel, config, export};
use serde::{Deserialize, Serialize};

use model::{Customer, Model, Population};
use scoring::{Breaks, Convention};
use segment::segment;

/// The layout of [`State`] as it is stored.
const STATE_VERSION: u32 = 1;

/// The tag model.
struct Rfm;

/// The configuration; `plugin.toml` has its schema, meaning and defaults. The other keys only shape the inputs.
#[derive(Debug, Deserialize)]
struct Settings {
    convention: Convention,
}

/// What `fit` learns.
#[derive(Debug, Serialize, Deserialize)]
struct State {
    version: u32,
    model: Model,
}

impl State {
    /// `None` before the first fit.
    fn load(bytes: &[u8]) -> Result<Option<State>, Failure> {
        if bytes.is_empty() {
            return Ok(None);
        }
        let refit = |reason: String| Failure::unreadable_state(format!("{reason}; fit this installation again"));
        let state: State = serde_json::from_slice(bytes)
            .map_err(|error| refit(format!("the fitted state is not one of this plugin: {error}")))?;
        if state.version == STATE_VERSION {
            Ok(Some(state))
        } else {
            Err(refit(format!("the fitted state has version {}, this plugin reads {STATE_VERSION}", state.version)))
        }
    }
}

impl TagModel for Rfm {
    fn fit(dataset: Dataset) -> Result<Fitted, Failure> {
        let settings: Settings = config::get()?;
        let mut population = Population::new(settings.convention);
        for batch in dataset {
            read_customers(&batch.rows)?.into_iter().flatten().for_each(|(customer, id)| population.add(&customer, id));
        }
        let model = Model::fit(&population).ok_or_else(|| {
            Failure::permanent(
                "nobody in the data set has an order to learn from; import orders, or check `order_event`",
            )
        })?;
        let metrics = describe(&model, population.len());
        let state = serde_json::to_vec(&State { version: STATE_VERSION, model })
            .map_err(|error| Failure::permanent(format!("the breaks do not write as JSON: {error}")))?;
        Ok(Fitted { state, metrics })
    }

    fn evaluate(state: &[u8], rows: &Table) -> Result<Table, Failure> {
        let state = State::load(state)?;
        let scores: Vec<_> = read_customers(rows)?
            .into_iter()
            .map(|customer| {
                customer.zip(state.as_ref()).map(|((customer, id), state)| state.model.score(&customer, id))
            })
            .collect();
        Ok(Table::new(rows.len())
            .with_int64("rfm_recency", scores.iter().map(|scores| scores.map(|scores| scores.recency)))
            .with_int64("rfm_frequency", scores.iter().map(|scores| scores.map(|scores| scores.frequency)))
            .with_int64("rfm_monetary", scores.iter().map(|scores| scores.map(|scores| scores.monetary)))
            .with_text(
                "rfm_score",
                scores.iter().map(|scores| {
                    scores.map(|scores| format!("{}{}{}", scores.recency, scores.frequency, scores.monetary))
                }),
            )
            .with_text(
                "rfm_segment",
                scores
                    .iter()
                    .map(|scores| scores.map(|scores| segment(scores.recency, scores.frequency, scores.monetary))),
            ))
    }
}

export!(Rfm as tag_model);

/// The customer in each row, with the id that splits ties; `None` for somebody without an order.
fn read_customers(rows: &Table) -> Result<Vec<Option<(Customer, &str)>>, Failure> {
    let (times, total, now) = (rows.timestamp_list("order_times")?, rows.float64("spent")?, rows.timestamp("now")?);
    let ids = rows.text_list("ids")?;
    let read = |row: usize| {
        let spent = total.get(row).filter(|total| total.is_finite()).unwrap_or(0.0);
        let customer = Customer::new(times.get(row)?, spent, now.get(row)?)?;
        // The smallest, because the order of a person's identifiers says nothing.
        let id = ids.get(row).and_then(|ids| ids.iter().min()).unwrap_or_default();
        Some((customer, id))
    };
    Ok((0..rows.len()).map(read).collect())
}

/// The figures of a fit: how many customers, and the four bounds of each measure.
fn describe(model: &Model, customers: usize) -> Vec<(String, f64)> {
    let mut metrics = vec![("customers".to_owned(), customers as f64)];
    let measures: [(&str, &Breaks, f64); 3] = [
        // Ranks are taken of recency with the sign changed; people read days.
        ("recency", &model.recency, if model.convention == Convention::Ntile { -1.0 } else { 1.0 }),
        ("frequency", &model.frequency, 1.0),
        ("monetary", &model.monetary, 1.0),
    ];
    for (name, breaks, sign) in measures {
        for (index, bound) in breaks.bounds().into_iter().enumerate() {
            metrics.extend(bound.map(|bound| (format!("{name}_break_{}", index + 1), sign * bound)));
        }
    }
    metrics
}

#[cfg(test)]
mod tests;
