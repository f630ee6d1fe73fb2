//! The installation's configuration, already valid against the manifest's JSON Schema, defaults filled in.

use serde::de::DeserializeOwned;

use crate::{Failure, Problem, platform};

/// The configuration as a type of the plugin's own. Fails where the type and the manifest's JSON Schema do not agree.
pub fn get<T: DeserializeOwned>() -> Result<T, Failure> {
    serde_json::from_str(&text())
        .map_err(|error| Failure::permanent(format!("the configuration does not read: {error}")))
}

/// A configuration that is not in force yet, as `validate` gets it. Fails as [`get`] would once it were.
pub fn read<T: DeserializeOwned>(text: &str) -> Result<T, Vec<Problem>> {
    serde_json::from_str(text).map_err(|error| vec![Problem::new("", format!("it does not read: {error}"))])
}

/// The whole configuration as one JSON object.
pub fn text() -> String {
    platform::config()
}
