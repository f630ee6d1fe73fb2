//! The installation's configuration, already valid against the manifest's JSON Schema, defaults filled in.

use serde::de::DeserializeOwned;

use crate::{Failure, platform};

/// The configuration as a type of the plugin's own. Fails where the type and the manifest's JSON Schema do not agree.
pub fn get<T: DeserializeOwned>() -> Result<T, Failure> {
    serde_json::from_str(&text())
        .map_err(|error| Failure::permanent(format!("the configuration does not read: {error}")))
}

/// The whole configuration as one JSON object.
pub fn text() -> String {
    platform::config()
}
