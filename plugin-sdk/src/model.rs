//! The compute roles: columns in, tags or scores out. Leaves which rows and when to the kernel.
//!
//! A compute plugin is pure: it has no clock, no network and no randomness, and its result may not depend on how rows are cut into
//! tables. `now`, where it is needed, is an input column.

use crate::{Dataset, Failure, Problem, Table};

/// A plugin that gives people tags.
pub trait TagModel {
    /// Learn from the data set (quantiles, vocabularies). By default nothing is learnt.
    fn fit(dataset: Dataset) -> Result<Fitted, Failure> {
        let _ = dataset;
        Ok(Fitted::default())
    }

    /// Whether the plugin could work with a configuration that the manifest's schema has admitted, defaults filled in. Asked before
    /// it is installed, changed or upgraded; must not depend on anything else.
    fn validate(config: &str) -> Result<(), Vec<Problem>> {
        let _ = config;
        Ok(())
    }

    /// The configuration for this version of one that an installation has with an earlier version, `from_version`. Asked at an
    /// upgrade that brings no configuration of its own; what it gives is held against the manifest's schema and `validate`, and
    /// shown before it is in force. Must not depend on anything else. By default it stays as it is.
    fn migrate(from_version: &str, config: &str) -> Result<String, Vec<Problem>> {
        let _ = from_version;
        Ok(config.to_owned())
    }

    /// One row of tags for each row of inputs, in the same order; one column for each output of the manifest. `state` is what `fit`
    /// learnt, empty before the first `fit`.
    fn evaluate(state: &[u8], rows: &Table) -> Result<Table, Failure>;
}

/// A plugin that gives people scores.
pub trait Scorer {
    /// Train on the data set. By default nothing is learnt.
    fn fit(dataset: Dataset) -> Result<Fitted, Failure> {
        let _ = dataset;
        Ok(Fitted::default())
    }

    /// Whether the plugin could work with a configuration that the manifest's schema has admitted, defaults filled in. Asked before
    /// it is installed, changed or upgraded; must not depend on anything else.
    fn validate(config: &str) -> Result<(), Vec<Problem>> {
        let _ = config;
        Ok(())
    }

    /// The configuration for this version of one that an installation has with an earlier version, `from_version`. Asked at an
    /// upgrade that brings no configuration of its own; what it gives is held against the manifest's schema and `validate`, and
    /// shown before it is in force. Must not depend on anything else. By default it stays as it is.
    fn migrate(from_version: &str, config: &str) -> Result<String, Vec<Problem>> {
        let _ = from_version;
        Ok(config.to_owned())
    }

    /// One row of scores for each row of inputs, in the same order; one column for each output of the manifest. `state` is what `fit`
    /// learnt, empty before the first `fit`.
    fn score(state: &[u8], rows: &Table) -> Result<Table, Failure>;
}

/// What fitting gives.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Fitted {
    /// Opaque to the kernel; handed to every later call. At most 1 MiB. Its form has a number, `state_version` in `plugin.toml`:
    /// raise that whenever these bytes change shape, and an upgrade serves the old values until it is fitted, instead of
    /// handing the new code bytes that it cannot read. Code that finds such bytes all the same answers
    /// [`Failure::unreadable_state`].
    pub state: Vec<u8>,
    /// Figures that tell a person how good the fit is, e.g. `("log_likelihood", -9582.43)`.
    pub metrics: Vec<(String, f64)>,
}
