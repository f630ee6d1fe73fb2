//! The plugin host: manifests, packages, and running plugins in WebAssembly.
//!
//! This is the only crate that knows wasmtime. It reads manifests ([`parse_manifest`]), makes and inspects packages
//! ([`assemble`], [`inspect`]), and turns an inspected component plus an installation's [`Binding`] into the model's role
//! traits ([`Host`], [`Plugin`]). When a plugin runs, on which events, and what its results change is others' work.

mod bindings;
mod manifest;

pub use manifest::{
    ABI, ConfigMistake, MAX_MANIFEST_BYTES, ManifestError, ManifestMistake, parse_manifest, validate_config,
};
